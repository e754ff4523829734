"""Convolution where there are more channels than places in a row: small pictures, deep inside a network.

Columns are copied row by row, and NumPy needs as long to begin a row as for some 20 numbers. So here the channels come
last: what lies side by side in memory is a number from each channel, not a row of 4 or 8 places, and all windows
together are the rows of one matrix. With 32 channels of 4 x 4 forward and backward take a third of the time, with 16 of
8 x 8 two thirds; where rows are longer than that `nn.window` does it its own way. For NumPy's arrays.
"""

from __future__ import annotations

import math

import numpy as np

from . import each

CACHED = 2**18  # numbers, a megabyte of float32: the columns that are made at a time

Sizes = tuple[int, ...]
Pads = list[tuple[int, int]]


def pays(channels: int, lengths: Sizes) -> bool:
    """Whether it is faster for so many channels and places."""
    return channels >= 4 and channels >= lengths[-1]


def conv(x: np.ndarray, w: np.ndarray, stride: Sizes, pads: Pads, dilation: Sizes) -> np.ndarray:
    """z[o, t] = Σ_c Σ_k w[o, c, k] x[c, t · stride + k · dilation - pad]: x (N, C, L), w (O, C, K) -> (N, O, L')."""
    windows = _windows(x, w.shape[2:], stride, pads, dilation)  # (N, L', K, C)
    N, lengths, O, columns = len(x), windows.shape[1 : x.ndim - 1], len(w), math.prod(w.shape[1:])  # noqa: E741
    W = np.moveaxis(w, (0, 1), (-1, -2)).reshape(columns, O)  # (O, C, K) -> (K C, O)
    z = np.empty((N, O, math.prod(lengths)), x.dtype)

    def some(block: slice) -> None:
        rows = windows[block].reshape(-1, columns) @ W  # (m L', K C) @ (K C, O)
        z[block] = rows.reshape(-1, z.shape[2], O).swapaxes(1, 2)

    each(some, _blocks(N, columns * z.shape[2]), z.size)
    return z.reshape(N, O, *lengths)


def conv_input(g: np.ndarray, w: np.ndarray, pads: Pads, dilation: Sizes) -> np.ndarray:
    """∂L/∂x for stride 1: what x[i] gave to z[i + pad - k] with w[k] comes back, which is a convolution of g with the
    filters flipped, and padding where there was none. g (N, O, L'), w (O, C, K) -> (N, C, L).
    """
    flipped = np.flip(w, tuple(range(2, w.ndim))).swapaxes(0, 1)  # (O, C, K) -> (C, O, K)
    reach = [d * (k - 1) for d, k in zip(dilation, w.shape[2:], strict=True)]
    back = [(r - left, r - right) for r, (left, right) in zip(reach, pads, strict=True)]
    return conv(g, flipped, (1,) * len(pads), back, dilation)


def conv_weight(x: np.ndarray, g: np.ndarray, K: Sizes, stride: Sizes, pads: Pads, dilation: Sizes) -> np.ndarray:
    """∂L/∂w[o, c, k] = Σ_t g[o, t] x[c, t · stride + k · dilation - pad]. x (N, C, L), g (N, O, L') -> (O, C, K)."""
    windows = _windows(x, K, stride, pads, dilation)  # (N, L', K, C)
    C, O, columns = x.shape[1], g.shape[1], x.shape[1] * math.prod(K)  # noqa: E741
    width = math.prod(g.shape[2:])
    g = g.reshape(len(g), O, width)
    blocks = _blocks(len(x), columns * width, max(1, 1024 // max(width, 1)))  # BLAS adds up longer ones less exactly
    sums: list = [None] * len(blocks)

    def some(i: int) -> None:
        rows = windows[blocks[i]].reshape(-1, columns)
        back = g[blocks[i]].swapaxes(1, 2).reshape(-1, O)  # (m, O, L') -> (m L', O)
        sums[i] = rows.T @ back  # (K C, m L') @ (m L', O)

    each(some, list(range(len(blocks))), g.size)
    total = np.sum(sums, axis=0, dtype=np.float64) if sums else np.zeros((columns, O))
    return np.moveaxis(total.reshape(*K, C, O), (-1, -2), (0, 1)).astype(x.dtype)


def _blocks(n: int, numbers: int, most: int = 2**30) -> list[slice]:
    """0..n, as many at a time as their columns, `numbers` each, fit into the cache."""
    m = min(max(1, CACHED // max(1, numbers)), most)
    return [slice(i, i + m) for i in range(0, n, m)]


def _windows(x: np.ndarray, K: Sizes, stride: Sizes, pads: Pads, dilation: Sizes) -> np.ndarray:
    """x (N, C, L) -> what each window sees, (N, L', K, C), a view of x with the channels last."""
    n, places = len(K), x.shape[2:]
    sizes = [m + left + right for m, (left, right) in zip(places, pads, strict=True)]
    padded = np.zeros((len(x), *sizes, x.shape[1]), x.dtype)
    inner = (slice(None), *(slice(left, left + m) for m, (left, _) in zip(places, pads, strict=True)))
    padded[inner] = np.moveaxis(x, 1, -1)
    lengths = [(m - d * (k - 1) - 1) // s + 1 for m, d, k, s in zip(sizes, dilation, K, stride, strict=True)]
    example, *along, channel = padded.strides
    moves = [step * b for steps in (stride, dilation) for step, b in zip(steps, along, strict=True)]
    return np.lib.stride_tricks.as_strided(
        padded, (len(x), *lengths, *K, x.shape[1]), (example, *moves[:n], *moves[n:], channel)
    )
