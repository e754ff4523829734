"""A weight is used twice, and the second gradient overwrites the first.

    y = tanh(x W) W        ∂L/∂W = hᵀ dy + xᵀ da        (two paths lead from L to W: the parts add up)

An engine that says `grad = part` where it should say `grad += part` keeps the part that comes last. Most of the
gradient may still point downhill, so the loss falls, only not as far.
"""

import numpy as np
from plaque import course, plaque

rng = np.random.default_rng(1)
x = rng.standard_normal((64, 4))
t = np.tanh(x @ rng.standard_normal((4, 4)))  # (64, 4) @ (4, 4)
start = rng.standard_normal((4, 4))


def loss(W: np.ndarray) -> float:
    return float(np.mean((np.tanh(x @ W) @ W - t) ** 2))


def parts(W: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the two uses of W contribute, in the order of a backward pass: the outer one first."""
    h = np.tanh(x @ W)
    dy = 2 * (h @ W - t) / t.size
    da = dy @ W.T * (1 - h**2)  # (64, 4) @ (4, 4)
    return h.T @ dy, x.T @ da  # (4, 64) @ (64, 4)


def wrong(W: np.ndarray) -> np.ndarray:
    for part in parts(W):
        grad = part  # the mistake
    return grad


def right(W: np.ndarray) -> np.ndarray:
    grad = np.zeros_like(W)
    for part in parts(W):
        grad += part
    return grad


def train(gradient) -> list[float]:
    """The loss before and after 1000 steps of descent."""
    W = start.copy()
    for _ in range(1000):
        W -= 0.1 * gradient(W)
    return [loss(start), loss(W)]


def measured(W: np.ndarray, h: float = 1e-5) -> np.ndarray:
    """Central differences, one weight at a time."""
    bumps = [h * np.eye(W.size)[i].reshape(W.shape) for i in range(W.size)]
    return np.array([loss(W + b) - loss(W - b) for b in bumps]).reshape(W.shape) / (2 * h)


bad, good = train(wrong), train(right)
off = tuple(np.abs(gradient(start) - measured(start)).max() for gradient in (wrong, right))
plaque(course(bad, good), {"off from finite differences by": off}, fix="grad += part")
assert good[-1] < bad[-1] < bad[0] / 2 and off[0] > 1e-2 and off[1] < 1e-8
