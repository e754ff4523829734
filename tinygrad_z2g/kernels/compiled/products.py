"""Matrix products by OpenBLAS, called from loops: threads of our own each give it some rows, to compute on one thread.

OpenBLAS's own threads wait for their next product by spinning, on the core that a loop's second half needs. So none of
them is woken from here. Handing a half to another thread costs less too: see `sharing`. Where NumPy uses another
library, products are left to it. It knows nothing of what the matrices mean.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ...backend import Array
from .. import reference
from .blas import SGEMM, gemm, multiplies
from .jit import blas_threads, cuts, loop, over_rows, set_blas_threads, threads, together
from .layout import FLOAT32
from .mathematics import ZERO

SHARED = 2**17  # multiplications from which a product is shared; from twice as many OpenBLAS would wake its threads
ROWS = 48  # a multiple of what OpenBLAS's kernels take at a time, so that each row is computed as without cuts
NO_ROW = np.empty(0, FLOAT32)


@loop
def _rows(start, stop, sgemm, a, b, row, z):  # type: ignore[no-untyped-def]
    """Rows of z = a b + row."""
    gemm(sgemm, a[start:stop], b, ZERO, z[start:stop])
    if row.size:
        for i in range(start, stop):  # while they are in the cache
            for j in range(row.size):
                z[i, j] += row[j]


@loop
def _columns(start, stop, sgemm, a, b, row, z):  # type: ignore[no-untyped-def]
    """Columns of the same."""
    part = z[:, start:stop]
    gemm(sgemm, a, b[:, start:stop], ZERO, part)
    if row.size:
        some = row[start:stop]
        for i in range(z.shape[0]):
            for j in range(some.size):
                part[i, j] += some[j]


def product(a: Array, b: Array, row: Array | None) -> Array:
    """z = a b + row for two matrices, (n, k) and (k, m) -> (n, m), cut by rows, or by columns if there are more."""
    (n, k), m = a.shape, b.shape[1]
    fit = n * k * m >= SHARED and SGEMM and multiplies(a) and multiplies(b) and (row is None or row.flags.carray)
    if not fit:
        z = a.dot(b)
        if row is not None:
            z += row
        return z
    z = np.empty((n, m), FLOAT32)
    function, size = (_rows, n) if n >= m else (_columns, m)
    over_rows(function, size, n * k * m >> 4, SGEMM, a, b, NO_ROW if row is None else row, z, multiple=ROWS)
    return z


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
    if len(halves) == 1 and n * k * m < SHARED:
        return a @ b
    z = np.empty((*a.shape[:-1], m), a.dtype)
    with alone():
        together(lambda start, stop: np.matmul(a[start:stop], b[start:stop], out=z[start:stop]), halves)
    return z
