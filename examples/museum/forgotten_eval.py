"""Nobody switched the model to eval() before measuring.

Dropout goes on silencing half of the units while the held-out loss is measured. Training is right, its loss falls. The
held-out numbers are too high and noisy, and one looks for overfitting where there is none; and the net that is
shipped guesses a little differently each time.
"""

from plaque import course, fit, plaque

import tinygrad_z2g as z2g
from tinygrad_z2g import nn

z2g.manual_seed(1)


def draw(n: int) -> tuple[z2g.Tensor, z2g.Tensor]:
    x = z2g.randn(n, 2)
    return x, z2g.sin(2 * x[:, :1]) + x[:, 1:]  # (n, 2), (n, 1)


net = nn.Sequential(nn.Linear(2, 60), nn.ReLU(), nn.Dropout(0.5), nn.Linear(60, 1))
train, held_out = draw(500), draw(200)
losses = fit(net, lambda: nn.functional.mse_loss(net(train[0]), train[1]), 400)


@z2g.no_grad()
def wrong() -> float:
    """The held-out loss."""
    return nn.functional.mse_loss(net(held_out[0]), held_out[1]).item()  # the mistake: the net is in training mode


def right() -> float:
    net.eval()
    try:
        return wrong()
    finally:
        net.train()


loss = wrong(), right()
same = wrong() == wrong(), right() == right()
plaque(
    seen=course(losses, losses) | {"held-out loss": loss},
    check={"measured twice, the same?": same},
    fix="model.eval() before measuring, model.train() after",
)
assert losses[-1] < losses[0] / 2 and loss[0] > 1.5 * loss[1] and same == (False, True)
