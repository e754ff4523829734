"""(N, 1) minus (N,) is (N, N).

A net with one output gives (N, 1), the targets are (N,), and `y - t` broadcasts: every output is compared with every
target. The best that can be done about that is to answer the mean of all targets, for any input. The loss falls, to the
variance of the targets, and stays; one takes the problem to be hard.
"""

from plaque import course, fit, plaque

import tinygrad_z2g as z2g
from tinygrad_z2g import nn

z2g.manual_seed(1)
x = z2g.randn(100, 3)
t = x[:, 0] * 2 - x[:, 1] + 3  # (100,), exactly linear


def wrong(y: z2g.Tensor, t: z2g.Tensor) -> z2g.Tensor:
    return ((y - t) ** 2).mean()  # the mistake: (N, 1) - (N,) -> (N, N)


def right(y: z2g.Tensor, t: z2g.Tensor) -> z2g.Tensor:
    return nn.functional.mse_loss(y[:, 0], t)  # (N, 1) -> (N,)


def train(loss_of) -> tuple[list[float], float]:
    """The loss before each step, and how much the answers differ from sample to sample (standard deviation)."""
    z2g.manual_seed(1)
    net = nn.Linear(3, 1)
    losses = fit(net, lambda: loss_of(net(x), t), 400, 0.05)
    return losses, net(x).std().item()


def perfect(loss_of) -> float:
    """The loss of answers that are exactly right. Should be 0."""
    return loss_of(t[:, None], t).item()  # (N,) -> (N, 1)


(bad, bad_spread), (good, good_spread) = train(wrong), train(right)
best = perfect(wrong), perfect(right)
plaque(
    seen=course(bad, good) | {f"spread of answers, of targets {t.std().item():.3g}": (bad_spread, good_spread)},
    check={"loss of perfect answers, should be 0": best},
    fix="equal shapes; mse_loss(y, t) refuses others",
)
assert bad[-1] < bad[0] / 2 and bad_spread < 0.01 and best[0] > 1 and best[1] == 0 and good[-1] < 1e-6
try:
    nn.functional.mse_loss(t[:, None], t)
except ValueError as error:
    print(f"        {error}")
else:
    raise AssertionError("mse_loss took shapes that differ")
