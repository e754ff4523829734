"""The largest number of each window, and the way back of its gradient; see `fast/pooling.py`.

Threads share the examples.
"""

from __future__ import annotations

import numpy as np

from ...arrays.backend import Array
from .. import pooling
from ..pooling import Pair
from .jit import loop, over_rows
from .layout import fits


@loop
def _max_windows(start, stop, padded, places, step_h, step_w, z, best):
    """places[number]: how far the place of this number is from the first of its window, in padded (N, C, H, W)"""
    W = padded.shape[3]
    for n in range(start, stop):
        for c in range(z.shape[1]):
            flat = padded[n, c].reshape(-1)
            for h in range(z.shape[2]):
                for w in range(z.shape[3]):
                    first = h * step_h * W + w * step_w
                    largest, number = flat[first], 0
                    for at in range(1, places.size):
                        x = flat[first + places[at]]
                        better = (x > largest) | (x != x)  # chosen without a jump, which would be guessed wrong
                        largest, number = x if better else largest, at if better else number
                    z[n, c, h, w] = largest
                    best[n, c, h, w] = number


@loop
def _add_at_best(start, stop, grad, best, places, step_h, step_w, out):
    W = out.shape[3]
    for n in range(start, stop):
        for c in range(grad.shape[1]):
            flat = out[n, c].reshape(-1)
            for h in range(grad.shape[2]):
                for w in range(grad.shape[3]):
                    flat[h * step_h * W + w * step_w + places[best[n, c, h, w]]] += grad[n, c, h, w]


def max_windows(padded: Array, kernel: Pair, stride: Pair, dilation: Pair, lengths: Pair) -> tuple[Array, Array]:
    """See `pooling.max_windows`."""
    if not fits(padded):
        return pooling.max_windows(padded, kernel, stride, dilation, lengths)
    z = np.empty((*padded.shape[:2], *lengths), padded.dtype)
    best = np.empty(z.shape, np.int64)
    over_rows(_max_windows, len(z), padded.size, padded, _places(kernel, dilation, padded), *stride, z, best)
    return z, best


def add_at_best(grad: Array, best: Array, kernel: Pair, stride: Pair, dilation: Pair, sizes: Pair) -> Array:
    """See `pooling.add_at_best`."""
    if not (fits(grad) and best.flags.c_contiguous):
        return pooling.add_at_best(grad, best, kernel, stride, dilation, sizes)
    out = np.zeros((*grad.shape[:2], *sizes), grad.dtype)
    over_rows(_add_at_best, len(grad), out.size, grad, best, _places(kernel, dilation, out), *stride, out)
    return out


def _places(kernel: Pair, dilation: Pair, a: Array) -> Array:
    rows = np.arange(kernel[0])[:, None] * (dilation[0] * a.shape[3])
    return (rows + np.arange(kernel[1]) * dilation[1]).reshape(-1)
