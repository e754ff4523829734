"""Products of many pairs of matrices on the GPU, without copying transposed or broadcast operands.

CuPy's own `a @ b` copies an operand of more than two dimensions unless it is contiguous: kᵀ in q kᵀ, and q, k and v
themselves, which are slices of one array with the heads' axis moved. cuBLAS can read all of these where they lie. A
matrix is described to it by an address, the distance between columns (the "leading dimension"), whether to transpose;
a batch of matrices by the distance from one to the next.

cuBLAS counts columns first. Seen that way our row-by-row (n, m) matrix Z is Zᵀ, so Zᵀ = Bᵀ Aᵀ is what we ask for, with
the operands exchanged. This file knows nothing of kernels: the products are cuBLAS's own.
"""

from __future__ import annotations

import functools
import math
import os
from types import ModuleType
from typing import NamedTuple

import numpy as np

from ...backend import Array, of
from .launch import fits

# A batch with two unrelated distances takes a call of cuBLAS for each index of the shorter one, or a copy. Calls cost
# the host some 8 µs each, a copy the card 1 µs per MiB: many calls or little data, and the copy wins. (An estimate,
# not yet measured.)
MOST_CALLS, LITTLE = 8, 2**22


def bmm(a: Array, b: Array) -> Array:
    """z = a b for (..., n, k) and (..., k, m) -> (..., n, m); the leading dimensions broadcast."""
    if max(a.ndim, b.ndim) < 3 or min(a.ndim, b.ndim) < 2 or not fits(a, b, half=True):
        return a @ b
    xp, (n, k), m = of(a), a.shape[-2:], b.shape[-1]
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a, b = (xp.broadcast_to(x, batch + x.shape[-2:]) for x in (a, b))  # a view: distances of 0
    z = xp.empty((*batch, n, m), a.dtype)
    (a, left), (b, right) = with_layout(a, n, k), with_layout(b, k, m)
    steps = batch_steps(batch, a, b, z)
    calls = math.prod(size for size, *_ in steps[:-1])
    if calls > MOST_CALLS or (calls > 1 and a.nbytes + b.nbytes <= LITTLE):
        a, b, left, right = xp.ascontiguousarray(a), xp.ascontiguousarray(b), Layout(0, k), Layout(0, m)
        steps = batch_steps(batch, a, b, z)
    outer, (count, *distances) = steps[:-1], steps[-1]
    settings = cublas_settings(xp, a.dtype.char, tf32())
    for index in np.ndindex(*(size for size, *_ in outer)):
        from_a, from_b, from_z = (
            x.data.ptr + x.itemsize * sum(i * step[1 + j] for i, step in zip(index, outer, strict=True))
            for j, x in enumerate((a, b, z))
        )
        xp.cuda.cublas.gemmStridedBatchedEx(
            xp.cuda.device.get_cublas_handle(), right.transposed, left.transposed, m, n, k, settings.one.ctypes.data,
            from_b, settings.dtype, right.leading, distances[1],
            from_a, settings.dtype, left.leading, distances[0],
            settings.zero.ctypes.data, from_z, settings.dtype, m, distances[2],
            count, settings.compute, settings.algorithm,
        )  # fmt: skip
    return z


class Layout(NamedTuple):
    """How cuBLAS has to read a matrix: transposed (1) or not (0), and the distance between its columns, in elements."""

    transposed: int
    leading: int


def with_layout(x: Array, rows: int, columns: int) -> tuple[Array, Layout]:
    """x, or a copy of it if cuBLAS cannot read it where it lies, and its layout."""
    row, column = (s // x.itemsize for s in x.strides[-2:])
    if columns == 1 or column == 1:
        leading = row if rows > 1 else columns
        if leading >= columns:
            return x, Layout(0, leading)  # row by row, which cuBLAS takes for the transpose; that is wanted
    if rows == 1 or row == 1:
        leading = column if columns > 1 else rows
        if leading >= rows:
            return x, Layout(1, leading)
    return of(x).ascontiguousarray(x), Layout(0, columns)


def batch_steps(batch: tuple[int, ...], *arrays: Array) -> list[tuple[int, ...]]:
    """(size, distance in each array) of the batch's dimensions, those merged that are one evenly spaced sequence."""
    steps: list[tuple[int, ...]] = [(1, *(0 for _ in arrays))]
    for d, size in enumerate(batch):
        distances = tuple(x.strides[d] // x.itemsize for x in arrays)
        if size == 1:
            continue
        outer, *before = steps[-1]
        if outer == 1:
            steps[-1] = (size, *distances)
        elif all(far == size * near for far, near in zip(before, distances, strict=True)):
            steps[-1] = (outer * size, *distances)
        else:
            steps.append((size, *distances))
    return sorted(steps)  # the largest last: that one is a single call


class Settings(NamedTuple):
    """What a call of cuBLAS needs to know of a dtype."""

    dtype: int
    compute: int
    algorithm: int
    one: np.ndarray  # z = one · a b + zero · z
    zero: np.ndarray


@functools.cache
def tf32() -> bool:
    """Whether float32 products may round their factors to TF32 (10 bits of mantissa instead of 23, several times the
    speed): where the environment says CUPY_TF32=1, as CuPy's own products of two matrices do."""
    return int(os.environ.get("CUPY_TF32", "0")) > 0


@functools.cache
def cublas_settings(xp: ModuleType, char: str, tf32: bool) -> Settings:
    """The settings for float32 ("f"), float64 ("d") or float16 ("e"), which is added up in float32."""
    cublas, runtime = xp.cuda.cublas, xp.cuda.runtime
    dtype, compute = {
        "f": (runtime.CUDA_R_32F, cublas.CUBLAS_COMPUTE_32F_FAST_TF32 if tf32 else cublas.CUBLAS_COMPUTE_32F),
        "d": (runtime.CUDA_R_64F, cublas.CUBLAS_COMPUTE_64F),
        "e": (runtime.CUDA_R_16F, cublas.CUBLAS_COMPUTE_32F),
    }[char]
    factor = "f" if char == "e" else char  # of the type in which is computed
    return Settings(dtype, compute, cublas.CUBLAS_GEMM_DEFAULT, np.ones(1, factor), np.zeros(1, factor))
