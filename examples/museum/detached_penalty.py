"""A gradient penalty is built on a gradient that has no history.

A net fits noisy points; so that it stays smooth, the mean square of its slope ∂f/∂x is added to the loss. But a
gradient is a plain number unless its walk was recorded: the penalty is added, is printed, and moves no weight. The loss
falls all the same, for the points are fitted better and better, noise included.
"""

from plaque import course, fit, plaque

import tinygrad_z2g as z2g
from tinygrad_z2g import nn
from tinygrad_z2g.autograd import grad

z2g.manual_seed(3)
x = z2g.linspace(-2, 2, 16)[:, None]  # (16, 1)
t = z2g.sin(2 * x) + 0.4 * z2g.randn(16, 1)
everywhere = z2g.linspace(-2, 2, 100)[:, None]  # where it is to be smooth


def slope(net: nn.Module, at: z2g.Tensor, recorded: bool) -> z2g.Tensor:
    """The mean square of ∂f/∂x"""
    at = at.detach().requires_grad_()
    return grad(net(at).sum(), at, create_graph=recorded)[0].square().mean()


def wrong(net: nn.Module) -> z2g.Tensor:
    return slope(net, everywhere, recorded=False)  # the mistake, and the default


def right(net: nn.Module) -> z2g.Tensor:
    return slope(net, everywhere, recorded=True)


def train(penalty) -> tuple[nn.Module, list[float]]:
    """The net, and the loss before each step."""
    z2g.manual_seed(1)
    net = nn.Sequential(nn.Linear(1, 40), nn.Tanh(), nn.Linear(40, 40), nn.Tanh(), nn.Linear(40, 1))
    return net, fit(net, lambda: (net(x) - t).square().mean() + 0.02 * penalty(net), 600, rate=0.02)


def moves(penalty) -> bool:
    """Whether the gradient of the penalty reaches the weights."""
    return penalty(nn.Linear(1, 1)).requires_grad


(bad, bad_losses), (good, good_losses) = train(wrong), train(right)
seen = course(bad_losses, good_losses)
seen["error against the sine"] = tuple(
    (net(everywhere) - z2g.sin(2 * everywhere)).square().mean().item() for net in (bad, good)
)
slopes = tuple(slope(net, everywhere, False).item() for net in (bad, good))
check = {"the penalty requires grad": (moves(wrong), moves(right)), "what it was to keep small": slopes}
plaque(seen, check, fix="grad(..., create_graph=True)")
assert bad_losses[-1] < bad_losses[0] / 2 and slopes[0] > 3 * slopes[1] and not moves(wrong) and moves(right)
