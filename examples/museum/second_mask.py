"""Dropout draws one mask on the way forward and another on the way back.

The gradient goes to units that were silent and misses those that spoke. As the two draws know nothing of each other,
the layers below get, on average, the gradient of a net without dropout: the samples are fitted even better, and what
dropout is for is gone. (Its sister, no factor 1 / (1 - p), shows in the mean of the output against the input's.)
"""

import numpy as np
from plaque import course, plaque

import tinygrad_z2g as z2g
from tinygrad_z2g.core.engine import record
from tinygrad_z2g.gradcheck import compare

x = z2g.linspace(-2, 2, 60, dtype=z2g.float64)[:, None]  # (60, 1)
t = z2g.sin(2 * x)


def mask(shape: tuple, p: float = 0.5) -> np.ndarray:
    return (z2g.rand(shape).numpy() >= p) / (1 - p)


def wrong(h: z2g.Tensor) -> z2g.Tensor:
    return record("dropout", h.array * mask(h.shape), (h, lambda grad: grad * mask(grad.shape)))  # the mistake


def right(h: z2g.Tensor) -> z2g.Tensor:
    kept = mask(h.shape)
    return record("dropout", h.array * kept, (h, lambda grad: grad * kept))


def train(dropout) -> list[float]:
    """The loss, without dropout, after each 50 steps with it."""
    z2g.manual_seed(1)
    first, last = z2g.nn.Linear(1, 40).double(), z2g.nn.Linear(40, 1).double()
    optimizer, losses = z2g.optim.Adam([*first.parameters(), *last.parameters()], lr=0.01), []
    for step in range(601):
        if step % 50 == 0:
            losses.append(((last(first(x).tanh()) - t) ** 2).mean().item())
        loss = ((last(dropout(first(x).tanh())) - t) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses


def off(dropout) -> float:
    """How far the gradient is from finite differences: each measurement has to draw the same mask."""

    def same_draw(h: z2g.Tensor) -> z2g.Tensor:
        z2g.manual_seed(5)
        return dropout(h)

    return compare(same_draw, z2g.randn(4, 5, dtype=z2g.float64, requires_grad=True)).error


bad, good = train(wrong), train(right)
check = {"off from finite differences by": (off(wrong), off(right))}
plaque(course(bad, good), check, fix="draw the mask once and let the rule keep it")
assert bad[-1] < bad[0] / 2 and good[-1] < good[0] / 2 and off(wrong) > 0.1 and off(right) < 1e-8
