"""backward() adds to .grad, and nobody called zero_grad().

The `+=` that is right within one backward pass (trap 1) goes on from one step to the next: each step follows the sum
of all gradients so far. That is momentum without friction. The loss falls at first, then swings.
"""

import itertools

from plaque import plaque

import tinygrad_z2g as z2g
from tinygrad_z2g import nn, optim

z2g.manual_seed(1)
x = z2g.randn(100, 5)
t = (x @ z2g.randn(5, 1)).tanh()  # (100, 5) @ (5, 1)


def train(clear: bool) -> list[float]:
    """The loss before each of 200 steps."""
    z2g.manual_seed(1)
    net, losses = nn.Sequential(nn.Linear(5, 10), nn.Tanh(), nn.Linear(10, 1)), []
    optimizer = optim.SGD(net.parameters(), lr=0.02)
    for _ in range(200):
        loss = nn.functional.mse_loss(net(x), t)
        if clear:  # leaving this out is the mistake
            optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def second_over_first(clear: bool) -> float:
    """The size of a gradient that is computed twice from the same weights and data."""
    net, sizes = nn.Linear(5, 1), []
    for _ in range(2):
        if clear:
            net.zero_grad()
        nn.functional.mse_loss(net(x), t).backward()
        sizes.append(z2g.norm(net.weight.grad).item())
    return sizes[1] / sizes[0]


bad, good = train(clear=False), train(clear=True)
rises = [sum(b > a for a, b in itertools.pairwise(losses)) for losses in (bad, good)]
ratio = [second_over_first(clear) for clear in (False, True)]
plaque(
    seen={
        "loss at the start": (bad[0], good[0]), "loss after 20 steps": (bad[20], good[20]),
        "loss after 200 steps": (bad[-1], good[-1]), "steps that made it worse": tuple(rises),
    },
    check={"same gradient again, over the first": tuple(ratio)},
    fix="optimizer.zero_grad() before every backward()",
)  # fmt: skip
assert bad[20] < bad[0] and good[-1] < bad[-1] and rises[0] > 20 and rises[1] == 0
assert abs(ratio[0] - 2) < 1e-5 and abs(ratio[1] - 1) < 1e-5
