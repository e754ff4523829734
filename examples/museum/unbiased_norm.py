"""LayerNorm with the wrong variance.

    y = (x - mean) / √(var + eps),   var = Σ (x - mean)² / C

Python's and torch's `std()` divide by C - 1, and the eps belongs inside the root. A net trains as well with one as with
the other, and a test against itself passes. But weights from elsewhere expect the definition: each layer is off by
√((C - 1) / C), a few percent for small C, and it adds up.
"""

from plaque import course, fit, plaque

import tinygrad_z2g as z2g
from tinygrad_z2g import nn

C = 8


def wrong(x: z2g.Tensor) -> z2g.Tensor:
    return (x - x.mean(dim=-1, keepdim=True)) / (x.std(dim=-1, keepdim=True) + 1e-5)  # the mistake


def right(x: z2g.Tensor) -> z2g.Tensor:
    return nn.functional.layer_norm(x, (C,))


class Net(nn.Module):
    def __init__(self, norm):
        super().__init__()
        self.first, self.last, self.norm = nn.Linear(2, C), nn.Linear(C, 2), norm
        self.layers = nn.ModuleList(nn.Linear(C, C) for _ in range(4))

    def forward(self, x: z2g.Tensor) -> z2g.Tensor:
        h = self.first(x)
        for layer in self.layers:
            h = h + layer(self.norm(h)).relu()
        return self.last(self.norm(h))


def loss_of(net: Net) -> z2g.Tensor:
    return nn.functional.mse_loss(net(x), t)


def train(norm) -> tuple[list[float], Net]:
    z2g.manual_seed(1)
    net = Net(norm)
    return fit(net, lambda: loss_of(net), 200), net


x = z2g.randn(200, 2)
t = z2g.sin(2 * x) + 0.2 * z2g.randn(200, 2)
(bad, _), (good, net) = train(wrong), train(right)
here = loss_of(net).item()
net.norm = wrong  # the same weights in the other program
there = loss_of(net).item()
rows = z2g.randn(50, C)
size = [(norm(rows) ** 2).mean().item() for norm in (wrong, right)]
seen = course(bad, good) | {"loss with the right net's weights": (there, here)}
check = {"mean square of normed rows, should be 1": tuple(size)}
plaque(seen, check, fix="x.var(dim=-1, correction=0), and √(var + eps)")
assert bad[-1] < bad[0] / 2 and there > 1.01 * here and abs(size[0] - (C - 1) / C) < 0.01 and abs(size[1] - 1) < 1e-3
