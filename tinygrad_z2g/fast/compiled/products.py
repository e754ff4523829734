"""Matrix products by threads of our own, each of which gives OpenBLAS some rows and lets it use one thread.

OpenBLAS's own threads wait for their next product by spinning, on the core that a loop's second half needs. So while
products are cut here, none of its threads is woken; before and after, it is as other code
of the process left it. It knows nothing of what the matrices mean.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ...arrays.backend import Array
from .. import reference
from .jit import blas_threads, cuts, set_blas_threads, threads, together
from .layout import FLOAT32

SHARED = 2**20  # multiplications from which OpenBLAS would take several threads
ROWS = 48  # a multiple of what OpenBLAS's kernels take at a time, so that each row is computed as without cuts


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


def product(a: Array, b: Array, row: Array | None) -> Array:
    """z = a b + row for two matrices, (n, k) and (k, m) -> (n, m), cut by rows, or by columns if there are more."""
    (n, k), m = a.shape, b.shape[1]
    if n * k * m < SHARED or set_blas_threads is None or threads() == 1 or not a.dtype == b.dtype == FLOAT32:
        z = a.dot(b)
        if row is not None:
            z += row
        return z
    z = np.empty((n, m), a.dtype)

    def some(rows: slice, columns: slice) -> None:
        part = np.matmul(a[rows], b[:, columns], out=z[rows, columns])
        if row is not None:
            part += row[columns]  # while the part is in the cache

    every, parts = slice(None), [slice(start, stop) for start, stop in cuts(max(n, m), 2**62, ROWS)]
    with alone():
        together(some, [(part, every) if n >= m else (every, part) for part in parts])
    return z


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
    (n, k), m = a.shape[-2:], b.shape[-1]
    parts = cuts(len(a), a.size * m // 16)
    if len(parts) == 1 and n * k * m < SHARED:
        return a @ b
    z = np.empty((*a.shape[:-1], m), a.dtype)
    with alone():
        together(lambda start, stop: np.matmul(a[start:stop], b[start:stop], out=z[start:stop]), parts)
    return z
