"""Products of many pairs of matrices on the GPU, without copying transposed or broadcast operands.

CuPy's own `a @ b` copies an operand of more than two dimensions unless it is contiguous: kᵀ in q kᵀ, and q, k and v
themselves, which are slices of one array with the heads' axis moved. cuBLAS can read all of these where they lie. A
matrix is described to it by an address, the distance between columns (the "leading dimension"), whether to transpose;
a batch of matrices by the distance from one to the next.

cuBLAS counts columns first. Seen that way our row-by-row (n, m) matrix Z is Zᵀ, so Zᵀ = Bᵀ Aᵀ is what we ask for, with
the operands exchanged. This file knows nothing of kernels: the products are cuBLAS's own.
"""

from __future__ import annotations

import ctypes
import functools
import math
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from ...arrays.backend import Array, of
from ..replay import capturing
from .launch import fits

# A batch with two unrelated distances takes a call of cuBLAS for each index of the shorter one, or a copy. Calls cost
# the host some 8 µs each, a copy the card 1 µs per MiB: many calls or little data, and the copy wins. (An estimate,
# not yet measured.)
MOST_CALLS, LITTLE = 8, 2**22


def product(a: Array, b: Array) -> Array:
    """z = a b for two matrices: CuPy's own product, but for captured steps, which CuPy refuses (see `OwnCublas`)."""
    return bmm(a, b) if capturing() else a @ b


def bmm(a: Array, b: Array) -> Array:
    """z = a b for (..., n, k) and (..., k, m) -> (..., n, m); the leading dimensions broadcast."""
    if max(a.ndim, b.ndim) < (2 if capturing() else 3) or min(a.ndim, b.ndim) < 2 or not fits(a, b, half=True):
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
    if capturing():
        gemm, handle = own_cublas(xp).gemm, own_cublas(xp).handle
    else:
        gemm, handle = xp.cuda.cublas.gemmStridedBatchedEx, xp.cuda.device.get_cublas_handle()
    for index in np.ndindex(*(size for size, *_ in outer)):
        from_a, from_b, from_z = (
            x.data.ptr + x.itemsize * sum(i * step[1 + j] for i, step in zip(index, outer, strict=True))
            for j, x in enumerate((a, b, z))
        )
        gemm(
            handle, right.transposed, left.transposed, m, n, k, settings.one.ctypes.data,
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


# --- cuBLAS without CuPy, for captured steps ---------------------------------------------------------------------

_INT, _LONG, _POINTER = ctypes.c_int, ctypes.c_longlong, ctypes.c_void_p
_MATRIX = [_POINTER, _INT, _INT]  # where, its dtype, its leading dimension
SIGNATURES: dict[str, list[Any]] = {  # as in cublas_api.h; each returns a status, 0 where all is well
    "cublasCreate_v2": [ctypes.POINTER(_POINTER)],
    "cublasSetStream_v2": [_POINTER, _POINTER],
    "cublasSetWorkspace_v2": [_POINTER, _POINTER, ctypes.c_size_t],
    "cublasGemmEx": [_POINTER, *[_INT] * 5, _POINTER, *_MATRIX * 2, _POINTER, *_MATRIX, _INT, _INT],
    "cublasGemmStridedBatchedEx":
        [_POINTER, *[_INT] * 5, _POINTER, *[*_MATRIX, _LONG] * 2, _POINTER, *_MATRIX, _LONG, _INT, _INT, _INT],
}  # fmt: skip
WORKSPACE = 2**25  # bytes; what NVIDIA advises for its latest cards


class OwnCublas:
    """A handle of cuBLAS that is ours. CuPy's functions set the stream before each product, and refuse to while that
    stream is capturing; cuBLAS itself can be captured, if it need not allocate: hence a workspace given beforehand.

    Only captured steps use it: ordinary products stay on the way that CuPy's users have tried. Not yet run on a card.
    """

    def __init__(self, xp: ModuleType):
        xp.cuda.device.get_cublas_handle()  # makes CuPy load the library; the same one is then found by its name
        library = load_cublas(xp.cuda.runtime.runtimeGetVersion() // 1000)
        self._call: dict[str, Callable] = {}
        for name, types in SIGNATURES.items():
            function = getattr(library, name)
            function.argtypes, function.restype = types, ctypes.c_int
            self._call[name] = function
        handle = ctypes.c_void_p()
        self._checked("cublasCreate_v2", ctypes.byref(handle))
        self.handle: Any = handle.value

    def _checked(self, name: str, *args: Any) -> None:
        status = self._call[name](*args)
        if status:
            raise RuntimeError(f"{name}: cuBLAS answers with status {status} (see cublasStatus_t)")

    def use(self, stream: Any, workspace: Array) -> None:
        """Compute on `stream` from now on, with `workspace`, an array of bytes, to write to."""
        self._checked("cublasSetStream_v2", self.handle, stream.ptr)  # which takes the workspace away, so it comes next
        self._checked("cublasSetWorkspace_v2", self.handle, workspace.data.ptr, workspace.nbytes)

    def gemm(self, *args: int) -> None:
        """The arguments of CuPy's gemmStridedBatchedEx. A single product goes to GemmEx, as with CuPy."""
        *_, count, compute, algorithm = args
        if count > 1:
            self._checked("cublasGemmStridedBatchedEx", *args)
        else:
            strides = (10, 14, 19)
            one = [arg for i, arg in enumerate(args[:-3]) if i not in strides]
            self._checked("cublasGemmEx", *one, compute, algorithm)


def load_cublas(version: int) -> Any:
    """The library of CUDA 12 or 13."""
    return ctypes.CDLL(f"cublas64_{version}.dll" if sys.platform == "win32" else f"libcublas.so.{version}")


_own: dict[tuple[ModuleType, int], OwnCublas] = {}  # one for each card


def own_cublas(xp: ModuleType) -> OwnCublas:
    """The handle for the current card, made when first asked for: not in a capture, as it allocates."""
    key = xp, xp.cuda.get_device_id()
    if key not in _own:
        _own[key] = OwnCublas(xp)
    return _own[key]
