"""Convolution with the tile of `tiles`: what the windows see goes straight into panels, and no columns are made.

z[n] = W columns is one product for each example; its panels hold 32 neighbouring places of what all windows see there.
∂L/∂W is, for each place k of the window, a product of x as it lies there, shifted by k, with the gradient. On one
thread 32 examples of 64 x 256, five taps, 64 filters take 3.2 ms forward and 2.5 for the gradient of the weights, where
NumPy's products of columns took 3.6 and 4.0.

Threads share the examples, and for ∂L/∂W the channels of x.
"""

from __future__ import annotations

import math

import numpy as np

from ...arrays.backend import Array
from .jit import loop, over_rows
from .layout import FLOAT32
from .tiles import WIDE, copy_line, in_panels, panels_for, with_panels

Sizes = tuple[int, ...]
NEAR = 512  # places of z at a time


@loop
def _see(x, K, stride, dilation, lengths, panels):
    """panels (L' / 32, C K, 32) of what the windows see: x (C, H, W), places as in z, and zeros after the last."""
    H, W = lengths
    if H * W % WIDE:
        panels[-1] = np.float32(0)
    at = 0
    for c in range(x.shape[0]):
        for j in range(K[0]):
            for k in range(K[1]):
                for h in range(H):
                    line = x[c, h * stride[0] + j * dilation[0], k * dilation[1] :]
                    w = 0
                    while w < W:  # as far as the row goes, or the panel
                        place = h * W + w
                        n = min(W - w, WIDE - place % WIDE)
                        out = panels[place // WIDE, at, place % WIDE :]
                        if stride[1] == 1 and n == WIDE:
                            copy_line(line[w:].ctypes.data, out.ctypes.data)
                        elif stride[1] == 1:
                            part = line[w : w + n]
                            for i in range(n):
                                out[i] = part[i]
                        else:
                            for i in range(n):
                                out[i] = line[(w + i) * stride[1]]
                        w += n
                at += 1


@loop
def _conv(start, stop, x, w, b, K, stride, dilation, lengths, z):
    """z[n] = w columns + b for the examples start..stop; x (N, C, H, W), w (O, C K), z (N, O, L'); some rows of a
    picture at a time, or a part of one."""
    H, W = lengths
    wide = min(W, NEAR)
    high = max(1, NEAR // W)
    for n in range(start, stop):
        for top in range(0, H, high):
            for left in range(0, W, wide):
                part = min(high, H - top), min(wide, W - left)
                panels = panels_for(w.shape[1], part[0] * part[1])
                _see(x[n, :, top * stride[0] :, left * stride[1] :], K, stride, dilation, part, panels)
                out = z[n, :, top * W + left : top * W + left + part[0] * part[1]]
                with_panels(w, panels, out.shape[1], 0, 0, out)  # (O, C K) @ (C K, L')
                for o in range(b.size):
                    row = out[o]
                    for i in range(row.size):
                        row[i] += b[o]


@loop
def _conv_weight(start, stop, x, g, K, stride, dilation, lengths, out):
    """out (J K, C, O) += Σ x gᵀ for the channels start..stop; x (N, C, H, W), g (N, O, H', W')."""
    (J, L), (H, W), O = K, lengths, g.shape[1]  # noqa: E741
    sums = np.empty((stop - start, O), np.float32)
    for n in range(g.shape[0]):
        for h in range(H):
            for left in range(0, W, NEAR):
                size = min(NEAR, W - left)
                panels = in_panels(g[n, :, h, left : left + size].T)  # (W', O)
                for j in range(J):
                    for k in range(L):
                        first = left * stride[1] + k * dilation[1]
                        last = first + (size - 1) * stride[1] + 1
                        seen = x[n, start:stop, h * stride[0] + j * dilation[0], first : last : stride[1]]
                        with_panels(seen, panels, O, 0, 0, sums)  # (C, W') @ (W', O)
                        place = out[j * L + k, start:stop]
                        for c in range(sums.shape[0]):
                            for o in range(O):
                                place[c, o] += sums[c, o]


def conv(x: Array, w: Array, b: Array | None, stride: Sizes, dilation: Sizes, lengths: Sizes) -> Array:
    """z[o, t] = b[o] + Σ_c Σ_k w[o, c, k] x[c, t · stride + k · dilation]: x (N, C, L), w (O, C, K) -> (N, O, L')."""
    (N, O), L, K = (len(x), len(w)), math.prod(lengths), w.shape[2:]  # noqa: E741
    rows = np.ascontiguousarray(w).reshape(O, -1)  # (O, C, K) -> (O, C K)
    bias = np.empty(0, FLOAT32) if b is None else np.ascontiguousarray(b, FLOAT32)
    z = np.empty((N, O, L), FLOAT32)
    pairs = [_pair(s, 1) for s in (K, stride, dilation, lengths)]
    over_rows(_conv, N, z.size * rows.shape[1] >> 4, _flat(x), rows, bias, *pairs, z)
    return z.reshape(N, O, *lengths)


def conv_weight(x: Array, g: Array, K: Sizes, stride: Sizes, dilation: Sizes) -> Array:
    """∂L/∂w[o, c, k] = Σ_t g[o, t] x[c, t · stride + k · dilation]: x (N, C, L), g (N, O, L') -> (O, C, K). Over the
    examples the sum is in float64."""
    C, O, lengths = x.shape[1], g.shape[1], g.shape[2:]  # noqa: E741
    out = np.zeros((math.prod(K), C, O))
    pairs = [_pair(s, 1) for s in (K, stride, dilation, lengths)]
    over_rows(_conv_weight, C, g.size * C * math.prod(K) >> 4, _flat(x), _flat(g), *pairs, out, multiple=8)
    return np.ascontiguousarray(out.transpose(2, 1, 0), FLOAT32).reshape(O, C, *K)  # (K, C, O) -> (O, C, K)


def _flat(x: Array) -> Array:
    """(N, C, L) as (N, C, 1, L); (N, C, H, W) as it is. (A bias or a gradient may be float16 where x was.)"""
    x = np.ascontiguousarray(x, FLOAT32)
    return x if x.ndim == 4 else x[:, :, None]


def _pair(sizes: Sizes, fill: int) -> tuple[int, int]:
    """Two numbers, the first being `fill` where there is one axis."""
    return (fill, int(sizes[0])) if len(sizes) == 1 else (int(sizes[0]), int(sizes[1]))
