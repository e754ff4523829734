"""One step is computed outside the framework, and the history ends there.

Somebody scales the hidden layer with a NumPy function, or says `.detach()`, or `.item()`. What comes out is a new leaf.
The layers above go on learning, on top of random features; those below never move. That is often enough for a loss
that falls nicely.
"""

import numpy as np
from plaque import course, fit, plaque

import tinygrad_z2g as z2g
from tinygrad_z2g import nn

x = z2g.linspace(-3, 3, 50)[:, None]  # (50, 1)
t = z2g.sin(3 * x)


class Net(nn.Module):
    """(N, 1) -> (N, 1), with its 20 hidden numbers scaled to size 1 in each sample."""

    def __init__(self, scale):
        super().__init__()
        self.below, self.middle, self.above = nn.Linear(1, 20), nn.Linear(20, 20), nn.Linear(20, 1)
        self.scale = scale

    def forward(self, x: z2g.Tensor) -> z2g.Tensor:
        h = self.scale(self.middle(self.below(x).tanh()))
        return self.above(h.tanh())


def wrong(h: z2g.Tensor) -> z2g.Tensor:
    array = h.detach().numpy()
    return z2g.tensor(array / np.linalg.norm(array, axis=1, keepdims=True) * 4)  # the mistake


def right(h: z2g.Tensor) -> z2g.Tensor:
    return h / z2g.norm(h, dim=1, keepdim=True) * 4


def train(scale) -> tuple[list[float], list[str]]:
    """The loss before each step, and the names of the parameters that never got a gradient."""
    z2g.manual_seed(1)
    net = Net(scale)
    losses = fit(net, lambda: nn.functional.mse_loss(net(x), t), 200)
    return losses, [name for name, p in net.named_parameters() if p.grad is None]


(bad, idle), (good, none) = train(wrong), train(right)
plaque(
    seen=course(bad, good),
    check={"parameters whose grad is None": (len(idle), len(none))},
    fix="compute with tensors from the first layer to the loss; after backward() no grad may be None",
)
assert good[-1] < bad[-1] / 3 < bad[0] / 5 and len(idle) == 4 and not none
