"""Parameter updates and what is done with all gradients at once, each array in one pass over memory.

AdamW reads four arrays and writes three, where NumPy makes fifteen passes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from ...arrays.backend import Array
from .. import reference
from .jit import loop, over_rows, summing
from .layout import FLOAT32, fits
from .mathematics import ONE, ZERO

BLOCK = 4096  # numbers whose squares are summed in float32


@loop
def _adam(start, stop, w, g, m, v, beta1, beta2, rate, eps, decay):
    """m = β₁ m + (1 - β₁) g;  v = β₂ v + (1 - β₂) g²;  w -= rate m / (√v + eps) + decay w"""
    w, g, m, v = w[start:stop], g[start:stop], m[start:stop], v[start:stop]
    for i in range(w.size):
        m[i] = beta1 * m[i] + (ONE - beta1) * g[i]
        v[i] = beta2 * v[i] + (ONE - beta2) * (g[i] * g[i])
        move = rate * (m[i] / (np.float32(math.sqrt(v[i])) + eps))
        w[i] -= move + decay * w[i] if decay != ZERO else move  # 0 · inf is NaN


@loop
def _sgd(start, stop, w, g, lr):
    """w -= lr g"""
    w, g = w[start:stop], g[start:stop]
    for i in range(w.size):
        w[i] -= lr * g[i]


@summing
def _squares(start, stop, a, sums):
    """sums[k] = Σ a² over the k-th block."""
    for k in range(start, stop):
        block, s = a[k * BLOCK : (k + 1) * BLOCK], ZERO
        for i in range(block.size):
            s += block[i] * block[i]
        sums[k] = s


@loop
def _scale(start, stop, a, factor):
    """a *= factor"""
    a = a[start:stop]
    for i in range(a.size):
        a[i] *= factor


def adam_all(
    arrays: list[Array], parts: Iterable[tuple[Array, Array, Array, Array, int]], lr: float, beta1: float,
    beta2: float, eps: float, decay: float = 0.0,
) -> None:  # fmt: skip
    """See `reference.adam_all`."""
    last = 0
    for w, g, m, v, step in parts:
        if not fits(w, g, m, v):
            reference.adam(w, g, m, v, step, lr, beta1, beta2, eps, decay)
            continue
        if step != last:
            last, root = step, math.sqrt(1 - beta2**step)  # √v̂ + ε = (√v + ε root) / root: both become numbers
            rate = lr * root / (1 - beta1**step)
            settings = tuple(map(np.float32, (beta1, beta2, rate, eps * root, lr * decay)))
        flat = w.reshape(-1), g.reshape(-1), m.reshape(-1), v.reshape(-1)
        over_rows(_adam, w.size, w.size, *flat, *settings)


def sgd(w: Array, g: Array, lr: float) -> None:
    """See `reference.sgd`."""
    if not fits(w, g):
        reference.sgd(w, g, lr)
        return
    over_rows(_sgd, w.size, w.size, w.reshape(-1), g.reshape(-1), np.float32(lr))


def norm(arrays: list[Array]) -> Array:
    """See `reference.norm`."""
    if not fits(*arrays):
        return reference.norm(arrays)
    sums = [np.empty(-(-a.size // BLOCK), FLOAT32) for a in arrays]
    for a, s in zip(arrays, sums, strict=True):
        over_rows(_squares, len(s), a.size, a.reshape(-1), s)
    return np.asarray(np.sqrt(np.concatenate(sums).sum(dtype=np.float64)).astype(FLOAT32))


def clip(arrays: list[Array], total: Array, max_norm: float) -> None:
    """See `reference.clip`."""
    if not fits(*arrays):
        reference.clip(arrays, total, max_norm)
        return
    factor = np.float32(np.minimum(max_norm / (total + 1e-6), 1))
    for a in arrays:
        over_rows(_scale, a.size, a.size, a.reshape(-1), factor)
