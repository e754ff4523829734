"""A model without modules: weights in a list, a loop, Adam. In the manner of a first lecture on training."""

import tinygrad_z2g as torch
import tinygrad_z2g.optim as optim
from tinygrad_z2g.nn import functional as F

torch.manual_seed(0)

xs = torch.arange(-8, 8).float().view(-1, 1) / 8
ys = torch.sin(3 * xs) + 0.5 * xs

params = []


def weights(ins, outs):
    ws = torch.randn(ins, outs) * 0.5
    ws.requires_grad_(True)
    params.append(ws)
    return ws


class Model:
    def __init__(self):
        self.w0 = weights(2, 16)
        self.w1 = weights(17, 16)
        self.w2 = weights(17, 1)

    def forward(self, x):
        one = torch.ones(x.shape[0], 1)
        x = torch.hstack([x, one])
        x = torch.relu(x @ self.w0)
        x = torch.hstack([x, one])
        x = torch.relu(x @ self.w1)
        x = torch.hstack([x, one])
        return x @ self.w2


model = Model()
start = [p.detach().clone() for p in params]
optimizer = optim.Adam(params, 0.01)
losses = []
for _ in range(60):
    yh = model.forward(xs)
    loss = F.mse_loss(yh, ys)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
