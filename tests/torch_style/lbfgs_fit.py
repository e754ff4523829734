"""A curve fitted with LBFGS, whose step asks for the loss again and again by a closure; Adam and SGD beside it."""

import tinygrad_z2g as torch
from tinygrad_z2g import nn, optim

torch.manual_seed(11)
truth = torch.tensor([2.5, 1.3, 0.4, -0.7])  # amplitude, decay, phase, level


class DampedWave(nn.Module):
    def __init__(self):
        super().__init__()
        self.coefficients = nn.Parameter(torch.tensor([1.5, 1.0, 0.0, 0.0]))

    def forward(self, t):
        amplitude, decay, phase, level = self.coefficients
        return amplitude * torch.exp(-decay * t) * torch.cos(3.0 * t + phase) + level

    def string(self):
        """As one would print it."""
        a, d, p, c = (q.item() for q in self.coefficients)
        return f"y = {a:.2f} exp(-{d:.2f} t) cos(3 t + {p:.2f}) + {c:.2f}"


t = torch.linspace(0, 3, 60)
with torch.no_grad():
    y = truth[0] * torch.exp(-truth[1] * t) * torch.cos(3.0 * t + truth[2]) + truth[3]

model = DampedWave()
optimizer = optim.LBFGS(model.parameters(), lr=1, max_iter=20, history_size=10, line_search_fn="strong_wolfe")
criterion = nn.MSELoss(reduction="sum")
calls, losses = 0, []


def closure():
    global calls
    calls += 1
    optimizer.zero_grad()
    loss = criterion(model(t), y)
    loss.backward()
    return loss


for i in range(6):
    loss = optimizer.step(closure)
    losses.append(loss.item())

# The same number of gradients for the others
others = {}
for name, make in {
    "sgd": lambda params: optim.SGD(params, lr=1e-3),
    "adam": lambda params: optim.Adam(params, lr=0.05),
}.items():
    other = DampedWave()
    other_optimizer = make(other.parameters())
    for _ in range(calls):
        other_loss = criterion(other(t), y)
        other_optimizer.zero_grad()
        other_loss.backward()
        other_optimizer.step()
    others[name] = criterion(other(t), y).item()

# A least squares problem is solved in a few steps, as exactly as by its normal equations
A, b = torch.randn(20, 5, dtype=torch.float64), torch.randn(20, 1, dtype=torch.float64)
w = torch.zeros(5, 1, dtype=torch.float64, requires_grad=True)
lbfgs = optim.LBFGS([w], tolerance_grad=1e-12, tolerance_change=0, max_iter=60, line_search_fn="strong_wolfe")


def squares():
    lbfgs.zero_grad()
    loss = 0.5 * (A @ w - b).square().sum()
    loss.backward()
    return loss


lbfgs.step(squares)
solution = torch.linalg.lstsq(A, b).solution
