"""AdamW over a parameter in one pass: five arrays read, three written, where NumPy makes fifteen passes."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from ...backend import Array
from .jit import loop, over_rows


@loop
def _adam(start, stop, w, g, m, v, beta1, beta2, rate, root, eps, decay):  # type: ignore[no-untyped-def]
    """m = β₁ m + (1 - β₁) g;  v = β₂ v + (1 - β₂) g²;  w -= rate m / (√v + eps) + decay w"""
    one = np.float32(1)
    for i in range(start, stop):
        m[i] = beta1 * m[i] + (one - beta1) * g[i]
        v[i] = beta2 * v[i] + (one - beta2) * g[i] * g[i]
        w[i] -= rate * m[i] / (np.float32(math.sqrt(v[i])) + eps) + decay * w[i]


def adam(
    w: Array, g: Array, m: Array, v: Array, step: int, lr: float, beta1: float, beta2: float, eps: float,
    decay: float = 0.0,
) -> None:  # fmt: skip
    """As the reference, in one pass."""
    f, root = np.float32, math.sqrt(1 - beta2**step)
    over_rows(
        _adam, w.size, w.size, w.reshape(-1), g.reshape(-1), m.reshape(-1), v.reshape(-1), f(beta1), f(beta2),
        f(lr * root / (1 - beta1**step)), f(root), f(eps * root), f(lr * decay),
    )  # fmt: skip
