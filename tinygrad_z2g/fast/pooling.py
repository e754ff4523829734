"""The largest number of each window, and the way back of its gradient."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from ..arrays.backend import Array, of

Pair = tuple[int, int]


def max_windows(padded: Array, kernel: Pair, stride: Pair, dilation: Pair, lengths: Pair) -> tuple[Array, Array]:
    """max over each window, and the number of the place in the window where it stands first. padded (N, C, H, W).

    Returns both as (N, C, *lengths). A NaN is larger than all, and of several the last one is found, as in torch.

    Place by place, which is faster than NumPy's maximum along an axis in the middle.
    """
    xp = of(padded)
    every = list(places(kernel, stride, dilation, lengths))
    z = padded[every[0]].copy()
    best = xp.zeros(z.shape, np.int64)
    for number, at in enumerate(every[1:], 1):
        x = padded[at]
        best = xp.where((x > z) | (x != x), number, best)
        z = xp.maximum(z, x)
    return z, best


def add_at_best(grad: Array, best: Array, kernel: Pair, stride: Pair, dilation: Pair, sizes: Pair) -> Array:
    """Zeros (N, C, *sizes) to which each grad (N, C, H', W') is added at place number `best` of its window."""
    xp = of(grad)
    out = xp.zeros((*grad.shape[:2], *sizes), grad.dtype)
    for number, at in enumerate(places(kernel, stride, dilation, grad.shape[2:])):
        out[at] += xp.where(best == number, grad, 0)
    return out


def places(kernel: Pair, stride: Pair, dilation: Pair, lengths: Pair) -> Iterator[tuple]:
    """For each place of a window, the slices of what it sees as the window moves."""
    for at in itertools.product(*map(range, kernel)):
        firsts = [k * d for k, d in zip(at, dilation, strict=True)]
        moves = (slice(f, f + s * (m - 1) + 1, s) for f, s, m in zip(firsts, stride, lengths, strict=True))
        yield (slice(None), slice(None), *moves)
