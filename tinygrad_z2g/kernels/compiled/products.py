"""Matrix products, shared by threads of our own, with the tile of `tiles`.

OpenBLAS's own threads wait for their next product by spinning, on the core that a loop's second half needs, and handing
them a half takes longer: on two threads 768 x 128 x 512 takes 0.30 ms in place of 0.36. It knows nothing of what the
matrices mean.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ...backend import Array
from .. import reference
from .jit import blas_threads, cuts, loop, over_rows, set_blas_threads, threads, together
from .layout import FLOAT32
from .tiles import WIDE, multiply

LEAST = 2**17  # multiplications from which a product is computed here; from twice as many OpenBLAS would wake threads
NARROW = 16  # columns of z from which it pays to compute 32 of them
NO_ROW = np.empty(0, FLOAT32)


@loop
def _rows(start, stop, a, b, row, z):  # type: ignore[no-untyped-def]
    """Rows of z = a b + row."""
    multiply(a[start:stop], b, row, z[start:stop])


@loop
def _columns(start, stop, a, b, row, z):  # type: ignore[no-untyped-def]
    """Columns of the same."""
    multiply(a, b[:, start:stop], row[start:stop], z[:, start:stop])


def product(a: Array, b: Array, row: Array | None) -> Array:
    """z = a b + row for two matrices, (n, k) and (k, m) -> (n, m).

    It is cut by columns, so that each thread copies its half of b, if there are enough of them; by rows, if not, or if
    a lies column by column and has more of them, as then a is copied too.
    """
    (n, k), m = a.shape, b.shape[1]
    work = n * k * m
    if work < LEAST or m < NARROW or not (reads(a) and reads(b)) or not (row is None or row.flags.carray):
        z = a.dot(b)
        if row is not None:
            z += row
        return z
    z, row = np.empty((n, m), FLOAT32), NO_ROW if row is None else row
    if m < 4 * WIDE or n >= 256 or (n > m and not a.flags.c_contiguous):
        over_rows(_rows, n, work >> 4, a, b, row, z, multiple=8)
    else:
        over_rows(_columns, m, work >> 4, a, b, row, z, multiple=WIDE)
    return z


def reads(a: Array) -> bool:
    """Whether it is a matrix that `multiply` reads: float32, row by row in memory or column by column."""
    flags = a.flags
    return (a.dtype is FLOAT32 and flags.aligned) and (flags.c_contiguous or flags.f_contiguous or 4 in a.strides)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Inside, OpenBLAS takes one thread. (Another library is left to itself.)"""
    before = 1 if blas_threads is None else blas_threads()
    if before == 1:
        yield
        return
    set_blas_threads(1)
    try:
        yield
    finally:
        set_blas_threads(before)


def each(function: Callable[[Any], object], blocks: list) -> None:
    """See `reference.each`."""
    n = threads()
    with alone():
        together(function, [(block,) for block in blocks], n)


def shares(n: int) -> list[slice]:
    """See `reference.shares`."""
    return [slice(start, stop) for start, stop in cuts(n, 2**62)]


def bmm(a: Array, b: Array) -> Array:
    """See `reference.bmm`: threads share the first dimension of the batch."""
    if not (a.ndim == b.ndim > 2 and a.shape[:-2] == b.shape[:-2] and a.dtype == b.dtype == FLOAT32):
        return reference.bmm(a, b)
    n, k, m = *a.shape[-2:], b.shape[-1]
    halves = cuts(len(a), a.size * m // 16)
    if len(halves) == 1 and n * k * m < LEAST:
        return a @ b
    z = np.empty((*a.shape[:-1], m), a.dtype)
    with alone():
        together(lambda start, stop: np.matmul(a[start:stop], b[start:stop], out=z[start:stop]), halves)
    return z
