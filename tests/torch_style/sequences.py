"""A sequence read piece by piece: an LSTM whose state is carried on and detached, and an operation of one's own."""

import tinygrad_z2g as torch
import tinygrad_z2g.nn as nn


class Softsign(torch.autograd.Function):
    """x / (1 + |x|)"""

    @staticmethod
    def forward(ctx, input):
        ctx.save_for_backward(input)
        return input / (1 + input.abs())

    @staticmethod
    def backward(ctx, grad_output):
        (input,) = ctx.saved_tensors
        grad_input = grad_output.clone()
        return grad_input / (1 + input.abs()) ** 2


class Model(nn.Module):
    def __init__(self, hidden=10):
        super().__init__()
        self.lstm = nn.LSTM(input_size=1, hidden_size=hidden, num_layers=2, batch_first=True)
        self.linear = nn.Linear(hidden, 1)

    def forward(self, x, state=None):
        out, state = self.lstm(x, state)
        return self.linear(Softsign.apply(out)), state


torch.manual_seed(0)
steps = torch.arange(0, 121).float()
wave = torch.stack([torch.sin(0.3 * steps), torch.cos(0.5 * steps)]).unsqueeze(-1)  # (B, T, 1)

model = Model()
criterion = nn.MSELoss()
optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
losses = []
for epoch in range(8):
    state = None
    for start in range(0, 120, 20):
        x, y = wave[:, start : start + 20], wave[:, start + 1 : start + 21]
        if state is not None:
            state = tuple(s.detach() for s in state)
        prediction, state = model(x, state)
        loss = criterion(prediction, y)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
