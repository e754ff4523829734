"""Batch norm: the numbers of a channel are read two or three times while they are still in the cache.

Threads share the channels.
"""

from __future__ import annotations

import math

import numpy as np

from ...arrays.backend import Array
from .. import channels
from .jit import loop, over_rows
from .layout import FLOAT32, fits
from .mathematics import ONE, ZERO
from .rows import dot, total


@loop
def _batch_norm(start, stop, a, w, b, eps, z, d, mean, var):
    """d = a - mean, z = d w / √(var + eps) + b"""
    N, L = a.shape[0], a.shape[2]
    for c in range(start, stop):
        s = 0.0
        for n in range(N):
            s += total(a[n, c])
        middle = np.float32(s / (N * L))
        s, more = 0.0, 0.0
        for n in range(N):
            for i in range(L):
                d[n, c, i] = a[n, c, i] - middle
            more += total(d[n, c])
            s += dot(d[n, c], d[n, c])
        rest = np.float32(more / (N * L))  # the first mean is rounded
        spread = np.float32(s / (N * L) - (more / (N * L)) ** 2)
        if spread < 0:  # by rounding; not for NaN
            spread = ZERO
        mean[c], var[c] = middle + rest, spread
        scale = w[c] * (ONE / np.float32(math.sqrt(spread + eps)))
        for n in range(N):
            for i in range(L):
                d[n, c, i] -= rest
                z[n, c, i] = d[n, c, i] * scale + b[c]


@loop
def _batch_norm_backward(start, stop, g, d, r, w, out, grad_w, grad_b):
    """out = w r (g - mean(g) - n mean(g n)), n = d r"""
    N, L = g.shape[0], g.shape[2]
    for c in range(start, stop):
        sums, dots = 0.0, 0.0
        for n in range(N):
            sums += total(g[n, c])
            dots += dot(g[n, c], d[n, c])
        grad_b[c], grad_w[c] = sums, dots * r[c]
        middle, stretch = np.float32(sums / (N * L)), np.float32(dots * r[c] * r[c] / (N * L))
        scale = w[c] * r[c]
        for n in range(N):
            for i in range(L):
                out[n, c, i] = scale * (g[n, c, i] - middle - d[n, c, i] * stretch)


def batch_norm(a: Array, w: Array | None, b: Array | None, eps: float) -> tuple[Array, Array, Array, Array]:
    """See `channels.batch_norm`."""
    C = a.shape[1]
    scale, shift = _given(w, 1, C), _given(b, 0, C)
    if a.shape[2] < 4 or not fits(a, scale, shift):
        return channels.batch_norm(a, w, b, eps)
    z, d, mean, var = (np.empty(shape, FLOAT32) for shape in (a.shape, a.shape, C, C))
    over_rows(_batch_norm, C, a.size, a, scale, shift, np.float32(eps), z, d, mean, var)
    return z, d, mean, var


def batch_norm_backward(g: Array, d: Array, r: Array, w: Array | None) -> tuple[Array, Array, Array]:
    """See `channels.batch_norm_backward`."""
    C = g.shape[1]
    scale = _given(w, 1, C)
    if g.shape[2] < 4 or not fits(g, d, r, scale):
        return channels.batch_norm_backward(g, d, r, w)
    out, grad_w, grad_b = (np.empty(shape, FLOAT32) for shape in (g.shape, C, C))
    over_rows(_batch_norm_backward, C, g.size, g, d, r, scale, out, grad_w, grad_b)
    return out, grad_w, grad_b


def _given(v: Array | None, usual: float, n: int) -> Array:
    return np.full(n, usual, FLOAT32) if v is None else v
