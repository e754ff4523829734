"""The branch that `where` did not choose sends a NaN.

    y = where(s > 0, √s, 0)        at s = 0: value 0, gradient NaN

At s = 0 `where` sends the root a gradient of exactly 0, for it did not choose it. But the root's own rule divides by
2 √s, and 0 / 0 is NaN. For weeks no s is exactly 0 and the loss falls. Then one is, and all weights are NaN. Even now
the loss is a number: NaN > 0 is false, so `where` chooses the 0, and the net says 0 to everything for ever.
"""

import math

import numpy as np
from plaque import plaque

import tinygrad_z2g as z2g

rng = np.random.default_rng(1)
data = rng.standard_normal((300, 3))
data[150] = 0  # a sensor that was switched off
target = np.sqrt((data**2 * [4, 1, 0.25]).sum(axis=1))  # a length, with a scale for each axis: (300, 3) -> (300,)


def wrong(s: z2g.Tensor) -> z2g.Tensor:
    return z2g.where(s > 0, z2g.sqrt(s), 0.0)  # the mistake


def right(s: z2g.Tensor) -> z2g.Tensor:
    safe = z2g.where(s > 0, s, 1.0)  # √ never sees a number where it has no slope
    return z2g.where(s > 0, z2g.sqrt(safe), 0.0)


def train(root) -> list[float]:
    """The loss before each step, one sample each."""
    w, losses = z2g.ones(3, dtype=z2g.float64), []
    for row, t in zip(data, target, strict=True):
        w = w.detach().requires_grad_()
        loss = (root(((z2g.tensor(row) * w) ** 2).sum()) - float(t)) ** 2
        loss.backward()
        w = w - 0.05 * w.grad
        losses.append(loss.item())
    return losses


def slope_at_zero(root) -> float:
    s = z2g.zeros(1, dtype=z2g.float64, requires_grad=True)
    root(s).sum().backward()
    return s.grad.item()


bad, good = train(wrong), train(right)
parts = {f"mean loss of steps {a} to {b}": slice(a, b) for a, b in ((0, 20), (100, 150), (152, 300))}
seen = {name: tuple(float(np.mean(losses[part])) for losses in (bad, good)) for name, part in parts.items()}
slope = slope_at_zero(wrong), slope_at_zero(right)
fix = "where twice: replace the argument before the root, and the result after it"
root = z2g.zeros(1, dtype=z2g.float64, requires_grad=True)
z2g.where(root > 0, root, 0.0).sum().backward()
plaque(seen, {"gradient at s = 0": slope, "what `where` sends the root there": (root.grad.item(),) * 2}, fix)
assert bad[:150] == good[:150] and np.mean(bad[100:150]) < np.mean(bad[:20]) / 5 and math.isfinite(bad[-1])
assert np.mean(bad[152:]) > 10 * np.mean(good[152:]) and math.isnan(slope[0]) and slope[1] == root.grad == 0
