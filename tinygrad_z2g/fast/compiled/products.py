"""Matrix products, shared by threads of our own, with the tile of `tiles`.

OpenBLAS's own threads wait for their next product by spinning, on the core that a loop's second half needs. On one
thread 768 x 128 x 512 takes 0.64 ms in place of 0.74. It knows nothing of what the matrices mean.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...arrays.backend import Array
from ...arrays.blas import alone
from .. import reference
from .columns import add_up, column_sums
from .jit import cuts, loop, over_rows, threads, together
from .layout import FLOAT32, address, fits, keep
from .matrix_unit import SIDE, allowed, fill_squares, first_line, in_range, room_for, squares_for, with_squares
from .matrix_unit import TALL as BLOCK
from .matrix_unit import WIDE as PAIR
from .tiles import DEEP, TALL, TOGETHER, WIDE, fill_panels, multiply, multiply_and_sum, panels_for, with_panels

LEAST = 2**17  # multiplications from which products are computed here; from twice as many OpenBLAS would wake threads
NARROW = 16  # rows and columns of z from which it pays to compute tiles
SQUARE = 2**15  # multiplications for each matrix of a batch
UNIT = allowed()  # whether there is a matrix unit
WORTH, LONG = 2**24, 256  # multiplications, and k, from which it pays to split numbers for it
MANY = 128  # rows and columns of z, where a lies column by column: 384 x 4096 x 96 takes 2.1 in place of 1.7 ms
NO_ROW, NO_SUMS = np.empty(0, FLOAT32), np.empty((0, 0, 0), FLOAT32)


@loop
def _rows(start, stop, a, b, row, z):
    """Rows of z = a b + row."""
    multiply(a[start:stop, :], b[:, :], row, z[start:stop, :])


@loop
def _columns(start, stop, a, b, row, z):
    """Columns of the same."""
    multiply(a, b[:, start:stop], row[start:stop], z[:, start:stop])


@loop
def _on_unit(start, stop, K, x, down, right, of_b, squares, many, row, z, step, missed):
    """z = a b + row on the matrix unit for the rows start..stop of x, see `with_squares`: addresses and steps in bytes,
    but for the squares of the other matrix, and missed[i], whether the rows 16 i.. of x are left to the tile."""
    room = room_for(stop - start, K)
    for i in range(start, stop, BLOCK):
        out, before = (z + 4 * i, row and row + 4 * i) if of_b else (z + i * step, row)
        bits = with_squares(
            min(BLOCK, stop - i), K, x + i * down, down, right, of_b, first_line(squares), many, before, 0, 1, out,
            step, first_line(room),
        )  # fmt: skip
        for j in range(i, min(i + BLOCK, stop), SIDE):
            missed[j // SIDE] = bits & 1
            bits >>= 1
    keep(room)


@loop
def _halves(start, stop, a, b, parts, sums):
    """parts[i] = aᵢ bᵢ for the rows start..stop of both; aᵢ is half of the columns of a (n, k), bᵢ half of b's rows.
    sums[i], if there are any, are those of the rows of aᵢ, by 64 numbers."""
    n, k = a.shape
    for i in range(2):
        first, last = max(start - i * n, 0), min(stop - i * n, n)
        if first < last:
            some = slice(i * k // 2, (i + 1) * k // 2)
            at = address(sums[i, :, first:]) if sums.size else 0
            multiply_and_sum(a[first:last, some], b[some, :], NO_ROW, parts[i, first:last], at, sums.strides[1])


@loop
def _add(start, stop, parts, z):
    """z = the first part + the second."""
    a, b, z = parts[0, start:stop], parts[1, start:stop], z[start:stop]
    for i in range(z.size):
        z[i] = a[i] + b[i]


def _pays(n: int, k: int, m: int, least: int) -> bool:
    """Whether the matrix unit is quicker, for `least` rows and columns of z and more."""
    return UNIT and n * k * m >= WORTH and k >= LONG and min(n, m) >= least


def in_squares(y: Array, of_b: int) -> tuple[Array, bool]:
    """The squares of a matrix for `with_squares`, and whether the unit is right for it; y is a, or, if `of_b`, bᵀ."""
    squares, largest = squares_for(y)
    over_rows(fill_squares, largest.size, 4 * y.size, *y.shape, y.ctypes.data, *y.strides, of_b, squares, largest)
    return squares, in_range.py_func(largest.max())


def _by_unit(a: Array, b: Array, row: Array, z: Array) -> bool:
    """z = a b + row on the matrix unit; whether that is right for the smaller matrix, which is split at once, and for
    most of the larger one, which is split as it goes. Of this the tile does again what is too large or too small."""
    x, y, of_b = (a, b.T, 0) if len(a) >= b.shape[1] else (b.T, a, 1)
    squares, right = in_squares(y, 1 - of_b)
    if not right:
        return False
    missed = np.empty(-(-len(x) // SIDE), np.bool_)
    over_rows(
        _on_unit, len(x), a.size * b.shape[1] >> 4, x.shape[1], x.ctypes.data, *x.strides, of_b, squares, len(y),
        row.ctypes.data if row.size else 0, z.ctypes.data, z.strides[0], missed, multiple=PAIR,
    )  # fmt: skip
    again = np.flatnonzero(missed) * SIDE
    if 4 * len(again) > len(missed):  # so many would take longer one by one
        return False
    for i in again:
        some = slice(i, i + SIDE)
        if of_b:
            _by_tiles(a, b[:, some], row[some], z[:, some])
        else:
            _by_tiles(a[some], b, row, z[some])
    return True


def _by_tiles(a: Array, b: Array, row: Array, z: Array) -> None:
    """z = a b + row with the tile."""
    (n, k), m = a.shape, b.shape[1]
    if m < 4 * WIDE or n >= 256:
        over_rows(_rows, n, n * k * m >> 4, a, b, row, z, multiple=8)
    else:
        over_rows(_columns, m, n * k * m >> 4, a, b, row, z, multiple=WIDE)


def product(a: Array, b: Array, row: Array | None) -> Array:
    """z = a b + row for two matrices, (n, k) and (k, m) -> (n, m).

    It is cut by columns, so that each thread copies its half of b, if there are enough of them; by rows, if not.

    If a lies column by column, and these are long, as for the gradient of a weight, z is a sum of two products, however
    many threads there are: so each of two copies no more than its half of a and of b, which it has often written itself
    before (512 x 768 x 128 takes 0.33 in place of 0.46 ms).

    If there is a matrix unit, it takes large products of long rows: on two threads 4096 x 384 x 1536 takes 10 ms in
    place of 15, 512 x 768 x 128 0.31 in place of 0.38. With rows of 128 numbers it is no quicker.
    """
    (n, k), m = a.shape, b.shape[1]
    work = n * k * m
    if work < LEAST or min(n, m) < NARROW or not (reads(a) and reads(b)) or not (row is None or row.flags.carray):
        z = a.dot(b)
        if row is not None:
            z += row
        return z
    unit = _pays(n, k, m, PAIR if a.flags.c_contiguous else MANY)
    if row is None and k >= 2 * DEEP and not a.flags.c_contiguous and not unit:
        return _of_halves(a, b, NO_SUMS)
    z = np.empty((n, m), FLOAT32)
    row = NO_ROW if row is None else row
    if not (unit and _by_unit(a, b, row, z)):
        _by_tiles(a, b, row, z)
    return z


def _of_halves(a: Array, b: Array, sums: Array) -> Array:
    (n, k), m = a.shape, b.shape[1]
    parts, z = np.empty((2, n, m), FLOAT32), np.empty((n, m), FLOAT32)
    over_rows(_halves, 2 * n, n * k * m >> 4, a, b, parts, sums, multiple=8)
    over_rows(_add, z.size, z.size, parts.reshape(2, -1), z.reshape(-1), multiple=16)
    return z


def weight_and_bias(grad: Array, x: Array) -> tuple[Array, Array]:
    """See `fast.weight_and_bias`. The product copies the gradient, and adds up its columns as it does."""
    (n, out), m = grad.shape, x.shape[1]
    few = n < 2 * DEEP or n * out * m < LEAST or min(out, m) < NARROW
    if few or _pays(out, n, m, MANY) or not (fits(grad) and reads(x)):
        return product(grad.T, x, None), column_sums(grad)
    sums, bias = np.zeros((2, -(-(n + 1) // (2 * TOGETHER)), out), FLOAT32), np.empty(out, FLOAT32)
    weight = _of_halves(grad.T, x, sums)
    add_up(sums.reshape(-1, out), bias)  # (2, blocks, out)
    return weight, bias


def reads(a: Array) -> bool:
    """Whether it is a matrix that `multiply` reads: float32, row by row in memory or column by column."""
    flags = a.flags
    return (a.dtype is FLOAT32 and flags.aligned) and (flags.c_contiguous or flags.f_contiguous or 4 in a.strides)


def each(function: Callable[[Any], object], blocks: list) -> None:
    """See `reference.each`."""
    n = threads()
    with alone():
        together(function, [(block,) for block in blocks], n)


def shares(n: int) -> list[slice]:
    """See `reference.shares`."""
    return [slice(start, stop) for start, stop in cuts(n, 2**62)]


@loop
def _bmm(start, stop, a, b, z):
    """Matrices start..stop of z = a b: (B, G, n, k), (B, G, k, m) -> (B, G, n, m)."""
    (n, k), m = a.shape[2:], b.shape[3]
    panels = panels_for(k, m)
    for i in range(start, stop):
        x, y, out = a[i // a.shape[1], i % a.shape[1]], b[i // a.shape[1], i % a.shape[1]], z[i]
        if n > TALL or k > DEEP:
            multiply(x, y, NO_ROW, out)
        else:
            fill_panels(y, panels)
            with_panels(x, panels, m, 0, 0, out)


def bmm(a: Array, b: Array) -> Array:
    """See `reference.bmm`: threads share the batch. For smaller matrices than `SQUARE` NumPy's way is quicker."""
    shape, n, k, m = a.shape[:-2], a.shape[-2], a.shape[-1], b.shape[-1]
    alike = 2 < a.ndim < 5 and a.ndim == b.ndim and shape == b.shape[:-2] and a.dtype == b.dtype == FLOAT32
    if not alike or n * k * m < SQUARE or m < NARROW or a.size * m < LEAST:
        return reference.bmm(a, b)
    if a.ndim == 3:
        a, b = a[:, None], b[:, None]  # (N, n, k) -> (N, 1, n, k)
    z = np.empty((a.shape[0] * a.shape[1], n, m), FLOAT32)
    over_rows(_bmm, len(z), a.size * m >> 3, a, b, z)
    return z.reshape(*shape, n, m)
