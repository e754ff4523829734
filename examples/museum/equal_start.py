"""All weights of a layer start equal.

"Start at 0" is right for a bias, and for a single neuron. In a hidden layer all units that start equal get equal
gradients, and stay equal for ever: 20 units are one. The loss falls as far as one unit can take it.
"""

from plaque import course, plaque

import tinygrad_z2g as z2g
from tinygrad_z2g import nn

x = z2g.linspace(-2, 2, 80, dtype=z2g.float64)[:, None]  # (80, 1)
t = z2g.sin(3 * x)


def wrong(net: nn.Module) -> None:
    for p in net.parameters():
        nn.init.constant_(p, 0.1)  # the mistake


def right(net: nn.Module) -> None:
    """Random numbers of the size 1/√inputs, as every layer starts by itself."""


def train(start) -> tuple[list[float], int]:
    """The loss before each step of descent, and how many units of the hidden layer differ at its end."""
    z2g.manual_seed(1)
    net, losses = nn.Sequential(nn.Linear(1, 20), nn.Tanh(), nn.Linear(20, 1)).double(), []
    start(net)
    optimizer = z2g.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    for _ in range(500):
        loss = nn.functional.mse_loss(net(x), t)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    units = z2g.cat([net[0].weight, net[0].bias[:, None]], dim=1).detach().numpy()  # (20, 1) and (20, 1) -> (20, 2)
    different = []
    for unit in units:
        if not any(abs(unit - other).max() < 1e-6 for other in different):
            different.append(unit)
    return losses, len(different)


(bad, one), (good, many) = train(wrong), train(right)
plaque(
    seen=course(bad, good),
    check={"different units among 20": (one, many)},
    fix="random weights; biases may be 0",
)
assert good[-1] < bad[-1] / 2 and bad[-1] < bad[0] * 0.8 and one == 1 and many == 20
