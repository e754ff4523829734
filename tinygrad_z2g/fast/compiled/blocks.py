"""Products with weights of four or eight bits, in the arrays that `fast/quantized.py` describes.

For a vector the integers become float32 in registers, where NumPy writes them to memory first: 0.066 in place of 0.22
ms for 576 x 1,536 weights of four bits, on one thread. For many rows they are expanded, a part for each product, in
0.22 in place of 0.64 ms. Threads share the columns, or the parts.
"""

from __future__ import annotations

import numpy as np
from numba import float32, int32

from ...arrays.backend import Array
from ...arrays.blas import alone
from .. import quantized
from ..quantized import BLOCK, TOGETHER, slices
from .columns import LINE
from .jit import called, cuts, loop, threads, together
from .layout import fits
from .mathematics import ZERO

FEW = 7  # rows of x up to which each takes the integers as they are; with more, expanding them first is quicker
TILE = 2048  # numbers of a row of z that stay in the cache
LOW, SHIFT = int32(15), int32(4)


@called
def _four(start, stop, x, quants, scales, offsets, z):
    """z = x Wᵀ for the columns start..stop; x (n, nb, 32), quants (nb, 16, out). Eight weights at a time, as each look
    at `dots` takes as long as two."""
    dots = np.empty(min(TILE, stop - start), np.float32)
    for first in range(start, stop, TILE):
        last = min(first + TILE, stop)
        for n in range(x.shape[0]):
            row = z[n, first:last]
            row[:] = ZERO
            for b in range(x.shape[1]):
                v, s, o, total = x[n, b], scales[b, first:last], offsets[b, first:last], ZERO
                for i in range(BLOCK):
                    total += v[i]
                dots[:] = ZERO
                for i in range(0, 16, 4):
                    p, q = quants[b, i, first:last], quants[b, i + 1, first:last]
                    r, t = quants[b, i + 2, first:last], quants[b, i + 3, first:last]
                    for j in range(row.size):
                        dots[j] += (_both(p[j], v[i], v[i + 16]) + _both(q[j], v[i + 1], v[i + 17])) + (
                            _both(r[j], v[i + 2], v[i + 18]) + _both(t[j], v[i + 3], v[i + 19])
                        )
                for j in range(row.size):
                    row[j] += s[j] * dots[j] + o[j] * total


@loop
def _both(byte, x, y):
    """x · the low bits + y · the high bits."""
    return x * _low(byte) + y * _high(byte)


@loop
def _low(byte):
    return float32(int32(int32(byte) & LOW))  # what is computed with 32 bits has 64, until it is cut


@loop
def _high(byte):
    return float32(int32(int32(byte) >> SHIFT))


@called
def _eight(start, stop, x, quants, scales, z):
    """The same for quants (nb, 32, out), four weights at a time."""
    dots = np.empty(min(TILE, stop - start), np.float32)
    for first in range(start, stop, TILE):
        last = min(first + TILE, stop)
        for n in range(x.shape[0]):
            row = z[n, first:last]
            row[:] = ZERO
            for b in range(x.shape[1]):
                v, s = x[n, b], scales[b, first:last]
                dots[:] = ZERO
                for i in range(0, BLOCK, 4):
                    p, q = quants[b, i, first:last], quants[b, i + 1, first:last]
                    r, t = quants[b, i + 2, first:last], quants[b, i + 3, first:last]
                    for j in range(row.size):
                        dots[j] += (v[i] * float32(int32(p[j])) + v[i + 1] * float32(int32(q[j]))) + (
                            v[i + 2] * float32(int32(r[j])) + v[i + 3] * float32(int32(t[j]))
                        )
                for j in range(row.size):
                    row[j] += s[j] * dots[j]


@called
def _expand_four(first, start, quants, scales, offsets, w):
    """w = scale · q + offset (blocks, 32, columns): those from block `first` and from column `start` on."""
    for b in range(w.shape[0]):
        s, o = scales[first + b, start:], offsets[first + b, start:]
        for i in range(16):
            q, low, high = quants[first + b, i, start:], w[b, i], w[b, i + 16]
            for j in range(low.size):
                low[j] = s[j] * _low(q[j]) + o[j]
                high[j] = s[j] * _high(q[j]) + o[j]


@called
def _expand_eight(first, start, quants, scales, w):
    """w = scale · q, likewise."""
    for b in range(w.shape[0]):
        s = scales[first + b, start:]
        for i in range(BLOCK):
            q, row = quants[first + b, i, start:], w[b, i]
            for j in range(row.size):
                row[j] = s[j] * float32(int32(q[j]))


def _part(blocks: slice, columns: slice, *quants: Array) -> Array:
    """Wᵀ of some blocks and columns, (32 blocks, columns)."""
    w = np.empty((blocks.stop - blocks.start, BLOCK, columns.stop - columns.start), np.float32)
    (_expand_four if len(quants) == 3 else _expand_eight)(blocks.start, columns.start, *quants, w)
    return w.reshape(-1, w.shape[2])  # (nb, 32, m) -> (32 nb, m)


def _known(a: Array, quants: Array, scales: Array, offsets: Array | None) -> bool:
    """Whether these are arrays for the loops: with offsets for four bits, without for eight."""
    alike = fits(a, scales) and quants.flags.carray and quants.size > 0
    return alike and (fits(offsets) and quants.shape[1] == 16 if offsets is not None else quants.shape[1] == BLOCK)


def quantized_product(x: Array, quants: Array, scales: Array, offsets: Array | None) -> Array:
    """See `quantized.product`."""
    if not _known(x, quants, scales, offsets):
        return quantized.product(x, quants, scales, offsets)
    (nb, _, out), parts = quants.shape, (quants, scales) if offsets is None else (quants, scales, offsets)
    z, every = np.empty((len(x), out), x.dtype), slice(0, nb)
    if len(x) <= FEW:
        function, rows = _eight if offsets is None else _four, x.reshape(len(x), nb, BLOCK)  # (n, in) -> (n, nb, 32)
        together(function, [(i, j, rows, *parts, z) for i, j in cuts(out, x.size * out, LINE)])
        return z

    def some(j: slice) -> None:
        np.matmul(x, _part(every, j, *parts), out=z[:, j])

    n = threads()
    with alone():
        together(some, [(j,) for j in slices(out, max(LINE, TOGETHER // (nb * BLOCK)))], n)
    return z


def quantized_product_transposed(grad: Array, quants: Array, scales: Array, offsets: Array | None) -> Array:
    """See `quantized.product_transposed`. Each part gives other columns of z, so that none has to be added up."""
    if not _known(grad, quants, scales, offsets):
        return quantized.product_transposed(grad, quants, scales, offsets)
    (nb, _, out), parts = quants.shape, (quants, scales) if offsets is None else (quants, scales, offsets)
    z, every = np.empty((len(grad), nb * BLOCK), grad.dtype), slice(0, out)

    def some(i: slice) -> None:
        np.matmul(grad, _part(i, every, *parts).T, out=z[:, i.start * BLOCK : i.stop * BLOCK])

    n = threads()
    with alone():
        together(some, [(i,) for i in slices(nb, max(1, TOGETHER // (out * BLOCK)))], n)
    return z
