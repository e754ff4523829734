"""The gradient of something that was broadcast is not summed over its copies.

A bias of shape (1,) is added to a batch of 20 outputs. NumPy copies it 20 times, silently; its gradient is the sum over
the copies. Forget the sum, and `b = b - rate * grad` broadcasts once more: b is now of shape (20,), one bias for each
sample. The net learns its 20 answers by heart and the loss falls *further* than the right one: it is the other data
that suffer, if they fit the shape at all.
"""

import numpy as np
from plaque import plaque

rng = np.random.default_rng(1)
x = rng.uniform(-1, 1, 40)
t = 2 * x + 1 + 0.5 * rng.standard_normal(40)
train, test = slice(0, 20), slice(20, 40)


def wrong(dy: np.ndarray) -> np.ndarray:
    return dy  # the mistake: the gradient of y, not yet that of b


def right(dy: np.ndarray) -> np.ndarray:
    return dy.sum(keepdims=True)  # (20,) -> (1,)


def fit(rule) -> tuple[float, float, tuple]:
    """The loss on the 20 samples and on 20 others, and the shape that b ends with."""
    w, b = np.zeros(1), np.zeros(1)
    for _ in range(1000):
        error = w * x[train] + b - t[train]
        dy = 2 * error / 20
        w = w - 0.1 * (dy * x[train]).sum(keepdims=True)
        b = b - 0.1 * rule(dy)
    loss = [float(np.mean((w * x[part] + b - t[part]) ** 2)) for part in (train, test)]
    return *loss, b.shape


def same_shape(rule) -> bool:
    """Whether the gradient of b has the shape of b."""
    return rule(np.ones(20)).shape == (1,)


(seen, other, shape), (good_seen, good_other, _) = fit(wrong), fit(right)
plaque(
    seen={"loss on the 20 samples": (seen, good_seen), "loss on 20 others": (other, good_other)},
    check={"has the gradient its tensor's shape?": (same_shape(wrong), same_shape(right)), "b has": (shape, (1,))},
    fix="sum the gradient over every axis that was broadcast (engine.match)",
)
assert seen < good_seen < good_other < other and shape == (20,) and not same_shape(wrong) and same_shape(right)
