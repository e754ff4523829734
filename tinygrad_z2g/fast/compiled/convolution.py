"""Convolution with the tile of `tiles`: it reads what the windows see where x lies, and no columns are made.

z[n, :, h] = W columns is one product for each row of each example, W' numbers wide: row (c, j, k) of the columns is
row h · stride + j · dilation of channel c of x, from place k · dilation on. Where it is narrow, or moves by more than
one place, what the windows see goes into panels, of 32 neighbouring places each.
∂L/∂W is, for each place k of the window, a product of x as it lies there, shifted by k, with the gradient. On one
thread 32 examples of 64 x 256, five taps, 64 filters take 1.8 ms forward and 1.9 for the gradient of the weights, where
NumPy's products of columns took 3.6 and 4.0, and panels of all that the windows see 2.7 and 2.2.

Where there is a matrix unit, and it pays, `unit_windows` takes it: the same two take 1.5 and 1.8 ms, where on that
processor these loops take 2.4 and 2.6; 8 pictures of 64 x 32 x 32 with windows of 3 x 3 2.5 and 3.1, not 5.1 and 5.9.

Threads share the examples, and for ∂L/∂W the channels of x. Padding is made row by row, where a tile needs it.
"""

from __future__ import annotations

import math

import numpy as np

from ...arrays.backend import Array
from .jit import loop, over_rows
from .layout import FLOAT32, address
from .matrix_unit import DEPTH
from .matrix_unit import WIDE as SQUARES
from .products import UNIT
from .tiles import WIDE, copy_line, fill_panels, panels_for, with_lines, with_panels

Sizes = tuple[int, ...]
Pads = list[tuple[int, int]]
NEAR = 512  # places of z at a time
FAR = 1024  # numbers that a sum in float32 has at most


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
                            copy_line(address(line[w:]), address(out))
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
def _lines(x, h, stride, dilation, pads, lines):
    """lines (C, J, size): what the windows of row h of z see of x (C, H, W), with zeros around. Those at both ends of a
    line stay as they are."""
    H, left, size = x.shape[1], pads[1], lines.shape[2]
    first, last = max(0, left), min(size, x.shape[2] + left)
    for j in range(lines.shape[1]):
        row = h * stride[0] + j * dilation[0] - pads[0]
        for c in range(x.shape[0]):
            out = lines[c, j, first:last]
            if 0 <= row < H:
                line = x[c, row, first - left : last - left]
                for i in range(out.size):
                    out[i] = line[i]
            else:
                out[:] = np.float32(0)


@loop
def _conv_lines(start, stop, x, w, b, K, stride, dilation, lengths, pads, z):
    """As `_conv`, for windows that move by one place along a row, of 32 places or more."""
    (J, L), (H, W), C = K, lengths, x.shape[1]
    lines = np.zeros((C, J, (L - 1) * dilation[1] + W), np.float32)
    offsets = np.empty(C * J * L, np.int64)
    for i in range(offsets.size):
        offsets[i] = 4 * (i // L * lines.shape[2] + i % L * dilation[1])
    for n in range(start, stop):
        for h in range(H):
            _lines(x[n], h, stride, dilation, pads, lines)
            with_lines(w, address(lines), offsets, W, b, z[n, :, h * W : (h + 1) * W])


@loop
def _conv_weight(start, stop, x, g, K, stride, dilation, pads, out):
    """out (J K, C, O) += Σ x gᵀ for the channels start..stop; x (N, C, H, W), g (N, O, H', W')."""
    (J, L), (H, W), O = K, g.shape[2:], g.shape[1]  # noqa: E741
    lines = np.zeros((stop - start, J, (L - 1) * dilation[1] + (W - 1) * stride[1] + 1), np.float32)
    sums, added = np.empty((J * L, stop - start, O), np.float32), 0
    panels = panels_for(min(W, NEAR), O)
    for n in range(g.shape[0]):
        for h in range(H):
            _lines(x[n, start:stop], h, stride, dilation, pads, lines)
            for left in range(0, W, NEAR):
                size = min(NEAR, W - left)
                if size != panels.shape[1]:
                    panels = panels_for(size, O)
                fill_panels(g[n, :, h, left : left + size].T, panels)  # (W', O)
                for j in range(J):
                    for k in range(L):
                        first = left * stride[1] + k * dilation[1]
                        last = first + (size - 1) * stride[1] + 1
                        seen, out_k = lines[:, j, first : last : stride[1]], sums[j * L + k]
                        before = address(out_k) if added else 0
                        with_panels(seen, panels, O, before, out_k.strides[0], out_k)  # (C, W') @ (W', O)
                added += size
                if added + size > FAR:
                    _move(sums, out[:, start:stop])
                    added = 0
    if added:
        _move(sums, out[:, start:stop])


@loop
def _move(sums, out):
    """out += sums"""
    for k in range(out.shape[0]):
        for c in range(out.shape[1]):
            a, b = out[k, c], sums[k, c]
            for o in range(b.size):
                a[o] += b[o]


def conv(x: Array, w: Array, b: Array | None, stride: Sizes, dilation: Sizes, lengths: Sizes, pads: Pads) -> Array:
    """z[o, t] = b[o] + Σ_c Σ_k w[o, c, k] x[c, t · stride + k · dilation - pad].

    x (N, C, L), w (O, C, K) -> (N, O, L'). `pads`: how many zeros stand before and after, for each axis.
    """
    if not _pays(x.shape[1], len(w), w.shape[2:], lengths):
        return _by_tiles(x, w, b, stride, dilation, lengths, pads)
    z, missed = _by_squares(x, w, b, stride, dilation, lengths, pads)
    if missed.any():
        z[missed] = _by_tiles(x[missed], w, b, stride, dilation, lengths, pads)
    return z


def _pays(C: int, O: int, K: Sizes, lengths: Sizes) -> bool:  # noqa: E741
    """Whether z comes sooner from the matrix unit, which takes 32 channels and 32 filters at a time. There each number
    of x and of z costs as much as a hundred products: with three taps and more the tile takes 1.3 to 2.4 times as long,
    with one as long."""
    computed = -(-C // DEPTH) * DEPTH * -(-O // SQUARES) * SQUARES
    return UNIT and math.prod(K) > 1 and lengths[-1] >= SQUARES and computed // 3 * 2 < C * O


def _pays_for_weight(C: int, places: int, K: Sizes, stride: Sizes, width: int) -> bool:
    """The same for ∂L/∂W, where the unit takes 32 places of a row of z at a time, and x costs more."""
    filled = C * 4 >= -(-C // SQUARES) * SQUARES * 3 and width * 5 >= -(-width // DEPTH) * DEPTH * 4
    return UNIT and filled and math.prod(K) > 2 and stride[-1] <= 2 and places >= 2 * FAR


def _by_squares(
    x: Array, w: Array, b: Array | None, stride: Sizes, dilation: Sizes, lengths: Sizes, pads: Pads
) -> tuple[Array, Array]:
    """`conv` on the matrix unit, and which examples it missed, as `conv_on_unit` says."""
    from . import unit_windows as unit

    (N, C), O, L, K = x.shape[:2], len(w), math.prod(lengths), w.shape[2:]  # noqa: E741
    rows, bias = np.zeros((*K, -(-C // DEPTH) * DEPTH, O), FLOAT32), np.empty(0, FLOAT32)
    rows[..., :C, :] = np.moveaxis(w, (0, 1), (-1, -2))  # (O, C, K) -> (K, C, O)
    if b is not None:
        bias = np.zeros(-(-O // SQUARES) * SQUARES, FLOAT32)
        bias[:O] = b
    z, missed, work = np.empty((N, O, L), FLOAT32), np.empty(N, FLOAT32), N * L * rows.size >> 4
    x, settings = _flat(x), [_pair(s, 1) for s in (K, lengths, stride, dilation)] + [_pair([p for p, _ in pads], 0)]
    room, sizes = unit.sizes_of_conv(x.shape[1:], O, settings)
    over_rows(unit.conv_on_unit, N, work, x, rows.reshape(-1, O), bias, z, missed, room, sizes)  # (K, C, O) -> (K C, O)
    return z.reshape(N, O, *lengths), missed > 0


def _by_tiles(x: Array, w: Array, b: Array | None, stride: Sizes, dilation: Sizes, lengths: Sizes, pads: Pads) -> Array:
    """`conv` with the tile of `tiles`."""
    (N, O), L, K = (len(x), len(w)), math.prod(lengths), w.shape[2:]  # noqa: E741
    rows = np.ascontiguousarray(w).reshape(O, -1)  # (O, C, K) -> (O, C K)
    bias = np.empty(0, FLOAT32) if b is None else np.ascontiguousarray(b, FLOAT32)
    z, work = np.empty((N, O, L), FLOAT32), N * O * L * rows.shape[1] >> 4
    sizes = [_pair(s, 1) for s in (K, stride, dilation, lengths)]
    if stride[-1] == 1 and lengths[-1] >= WIDE:
        wide = np.repeat(bias, WIDE).reshape(-1, WIDE)
        over_rows(_conv_lines, N, work, _flat(x), rows, wide, *sizes, _pair([p for p, _ in pads], 0), z)
    else:
        padded = np.pad(_flat(x), [(0, 0)] * (4 - len(pads)) + pads) if any(map(any, pads)) else _flat(x)
        over_rows(_conv, N, work, padded, rows, bias, *sizes, z)
    return z.reshape(N, O, *lengths)


def conv_weight(x: Array, g: Array, K: Sizes, stride: Sizes, dilation: Sizes, pads: Pads) -> Array:
    """∂L/∂w[o, c, k] = Σ_t g[o, t] x[c, t · stride + k · dilation - pad].

    x (N, C, L), g (N, O, L') -> (O, C, K). Sums of more than 1,024 numbers are in float64.
    """
    if _pays_for_weight(x.shape[1], g.size // g.shape[1], K, stride, g.shape[-1]):
        out, missed = _weight_by_squares(x, g, K, stride, dilation, pads)
        if not missed.any():
            return out
    C, O = x.shape[1], g.shape[1]  # noqa: E741
    out = np.zeros((math.prod(K), C, O))
    sizes = [_pair(s, 1) for s in (K, stride, dilation)]
    firsts = _pair([p for p, _ in pads], 0)
    over_rows(_conv_weight, C, g.size * C * math.prod(K) >> 4, _flat(x), _flat(g), *sizes, firsts, out, multiple=8)
    return np.ascontiguousarray(out.transpose(2, 1, 0), FLOAT32).reshape(O, C, *K)  # (K, C, O) -> (O, C, K)


def _weight_by_squares(x: Array, g: Array, K: Sizes, stride: Sizes, dilation: Sizes, pads: Pads) -> tuple[Array, Array]:
    """`conv_weight` on the matrix unit, and where it missed numbers, as `weight_on_unit` says. It is a sum of up to
    four parts, however many threads there are: so each of two splits no more than its half of x and of g."""
    from . import unit_windows as unit

    (N, C), O = x.shape[:2], g.shape[1]  # noqa: E741
    x, g = _flat(x), _flat(g)
    settings = [_pair(K, 1), g.shape[2:], *(_pair(s, 1) for s in (stride, dilation)), _pair([p for p, _ in pads], 0)]
    parts, room, sizes = unit.sizes_of_weight(N, x.shape[1:], O, settings)
    sums, missed, work = np.empty((parts[0], math.prod(K), O, C)), np.empty(parts, FLOAT32), g.size * C * math.prod(K)
    over_rows(unit.weight_on_unit, missed.size, work >> 4, x, g, sums, missed, room, sizes)
    out = sums.sum(0).transpose(1, 2, 0)  # (parts, K, O, C) -> (O, C, K)
    return np.ascontiguousarray(out, FLOAT32).reshape(O, C, *K), missed > 0


def _flat(x: Array) -> Array:
    """(N, C, L) as (N, C, 1, L); (N, C, H, W) as it is. (A bias or a gradient may be float16 where x was.)"""
    x = np.ascontiguousarray(x, FLOAT32)
    return x if x.ndim == 4 else x[:, :, None]


def _pair(sizes: Sizes | list[int], fill: int) -> tuple[int, int]:
    """Two numbers, the first being `fill` where there is one axis."""
    return (fill, int(sizes[0])) if len(sizes) == 1 else (int(sizes[0]), int(sizes[1]))
