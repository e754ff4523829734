"""What the fake CuPy does with CUDA itself: kernels run on the CPU (`cuda_on_cpu`), and cuBLAS's batched product.

Both work on raw memory, as on a card: whoever passes a wrong type, address or distance gets an error here, or wrong
numbers, not help.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import types
import weakref
from collections.abc import Iterator
from typing import Any

import cuda_on_cpu
import numpy as np

# --- Addresses ---------------------------------------------------------------------------------------------------

_asked: collections.deque = collections.deque(maxlen=64)  # weak references to the arrays whose addresses were asked for


class Memory:
    """`a.data`: where an array lies."""

    __slots__ = ("_array",)

    def __init__(self, array: Any):
        self._array = array

    @property
    def ptr(self) -> int:
        _asked.append(weakref.ref(self._array))
        return self._array._data.ctypes.data

    @property
    def device_id(self) -> int:
        return self._array._device

    @property
    def device(self) -> Any:
        return self._array.device


def _owner(first: int, last: int) -> Any:
    """The array that these bytes (first to last) belong to. FakeError if none that was lately asked for its address."""
    for reference in reversed(_asked):
        array = reference()
        if array is not None:
            low, high = np.lib.array_utils.byte_bounds(array._data)
            if low <= first and last <= high:
                fakecupy._check_device([array])
                return array
    raise fakecupy.FakeError(f"no array holds the addresses {first:#x} to {last:#x}: a card would go astray")


# --- Kernels -----------------------------------------------------------------------------------------------------


class RawModule:
    """`cupy.RawModule`: compiled when a kernel is first asked for."""

    def __init__(self, code: str, *, options: tuple = (), **other: Any):
        if other:
            raise fakecupy.NotInFakeError("RawModule(): only code= and options= are in the fake")
        if not isinstance(options, tuple) or not all(isinstance(option, str) for option in options):
            raise TypeError("RawModule(): options must be a tuple of str")
        reals = [option.removeprefix("-Dreal=") for option in options if option.startswith("-Dreal=")]
        if len(reals) != 1 or len(options) != 1:
            raise fakecupy.NotInFakeError(f"RawModule(): got options {options}; the fake knows -Dreal= alone")
        code.encode("ascii")  # written to a file in the locale's encoding, which may have no more
        self.code, self.options = code, options
        self._real = reals[0]

    def get_function(self, name: str) -> RawKernel:
        module = cuda_on_cpu.compile(self.code, self._real)
        if name not in module.parameters:
            raise fakecupy.FakeError(f"named symbol not found: {name}")
        return RawKernel(module, name)


class RawKernel:
    """A kernel of a module. Called, it runs on the current device."""

    def __init__(self, module: cuda_on_cpu.Module, name: str):
        self._module, self.name = module, name

    def __call__(self, grid: tuple, block: tuple, args: tuple, *, shared_mem: int = 0) -> None:
        if shared_mem:
            raise fakecupy.NotInFakeError("RawKernel: dynamic shared memory is not in the fake")
        arrays = [arg for arg in args if isinstance(arg, fakecupy.ndarray)]
        fakecupy._check_device(arrays)
        for arg in args:  # by value only one number or struct: CuPy takes more for a mistake
            if isinstance(arg, np.ndarray) and arg.size != 1:
                raise TypeError(f"{self.name}: got a numpy.ndarray of shape {arg.shape}, expected a cupy.ndarray")
        for arg in arrays:  # CuPy passes the address alone; the kernels here take contiguous arrays
            if not arg.flags.c_contiguous:
                raise fakecupy.FakeError(f"{self.name}: an array of shape {arg.shape} is not contiguous")
        fakecupy.launches.count += 1
        values = tuple(fakecupy._unwrap(arg) for arg in args)
        if fakegraph.capturing():  # tables come by value, so as they are now
            values = tuple(v.copy() if isinstance(a, np.ndarray) else v for a, v in zip(args, values, strict=True))
        fakegraph.written(lambda: self._module.launch(self.name, grid, block, values), values)


# --- cuBLAS ------------------------------------------------------------------------------------------------------

HANDLE = 0xB1A5
CUDA_R_32F, CUDA_R_64F, CUDA_R_16F = 0, 1, 2
# Precisions; TF32 (77) is computed as float32 here
COMPUTE = {CUDA_R_32F: (68, 77), CUDA_R_64F: (70,), CUDA_R_16F: (68,)}
computed: collections.deque = collections.deque(maxlen=64)  # the precision of the latest products


def _matrices(where: int, rows: int, columns: int, leading: int, distance: int, count: int, dtype: np.dtype) -> Any:
    """`count` matrices, column by column: element (i, j) of matrix b is at where + b · distance + i + j · leading."""
    last = (count - 1) * distance + (rows - 1) + (columns - 1) * leading + 1
    _owner(where, where + last * dtype.itemsize)
    memory = np.frombuffer((ctypes.c_char * (last * dtype.itemsize)).from_address(where), dtype)
    strides = (distance * dtype.itemsize, dtype.itemsize, leading * dtype.itemsize)
    return np.lib.stride_tricks.as_strided(memory, (count, rows, columns), strides)


def gemmStridedBatchedEx(
    handle: int, transa: int, transb: int, m: int, n: int, k: int, alpha: int, A: int, Atype: int, lda: int,
    strideA: int, B: int, Btype: int, ldb: int, strideB: int, beta: int, C: int, Ctype: int, ldc: int, strideC: int,
    batchCount: int, computeType: int, algo: int,
) -> None:  # fmt: skip
    """C = alpha op(A) op(B) + beta C for each of the batch; every matrix is stored column by column."""
    fakegraph.no_library("cuBLAS")
    _gemm(
        handle, transa, transb, m, n, k, alpha, A, Atype, lda, strideA, B, Btype, ldb, strideB, beta, C, Ctype, ldc,
        strideC, batchCount, computeType, algo,
    )  # fmt: skip


def _gemm(
    handle: int, transa: int, transb: int, m: int, n: int, k: int, alpha: int, A: int, Atype: int, lda: int,
    strideA: int, B: int, Btype: int, ldb: int, strideB: int, beta: int, C: int, Ctype: int, ldc: int, strideC: int,
    batchCount: int, computeType: int, algo: int,
) -> None:  # fmt: skip
    numbers = (handle, transa, transb, m, n, k, alpha, A, Atype, lda, strideA, B, Btype, ldb, strideB, beta, C, Ctype,
               ldc, strideC, batchCount, computeType, algo)  # fmt: skip
    if not all(type(number) is int for number in numbers):
        raise TypeError(f"an integer is required: {numbers}")
    dtype = np.dtype({CUDA_R_32F: np.float32, CUDA_R_64F: np.float64, CUDA_R_16F: np.float16}[Atype])
    if handle != HANDLE or not Atype == Btype == Ctype or computeType not in COMPUTE[Atype]:
        raise fakecupy.FakeError("CUBLAS_STATUS_NOT_SUPPORTED")
    stored_a, stored_b = (k, m) if transa else (m, k), (n, k) if transb else (k, n)
    enough = lda >= stored_a[0] and ldb >= stored_b[0] and ldc >= m
    if not enough or min(m, n, k, batchCount) < 1 or {transa, transb} > {0, 1}:
        raise fakecupy.FakeError("CUBLAS_STATUS_INVALID_VALUE")
    a = _matrices(A, *stored_a, lda, strideA, batchCount, dtype)
    b = _matrices(B, *stored_b, ldb, strideB, batchCount, dtype)
    c = _matrices(C, m, n, ldc, strideC, batchCount, dtype)
    if batchCount > 1 and strideC < ldc * (n - 1) + m:
        raise fakecupy.FakeError("the matrices of the result overlap")
    number = ctypes.c_double if Atype == CUDA_R_64F else ctypes.c_float
    if (number.from_address(alpha).value, number.from_address(beta).value) != (1, 0):
        raise fakecupy.NotInFakeError("gemmStridedBatchedEx: only alpha = 1, beta = 0 are in the fake")
    fakecupy.launches.count += 1
    computed.append(computeType)
    left, right = a if transa else a.swapaxes(1, 2), b if transb else b.swapaxes(1, 2)  # Cᵀ = op(B)ᵀ op(A)ᵀ, in rows
    factors = (right, left) if batchCount > 1 else (right[0], left[0])  # as NumPy would, to the last bit
    z = c.swapaxes(1, 2) if batchCount > 1 else c[0].T

    def product() -> None:
        with np.errstate(all="ignore"):
            left, right = (x.astype(np.float32) if Atype == CUDA_R_16F else x for x in factors)
            z[...] = left @ right

    fakegraph.written(product, a, b, c)


# --- cuBLAS by its C functions -----------------------------------------------------------------------------------

_int, _pointer, _long = ctypes.c_int, ctypes.c_void_p, ctypes.c_longlong
PROTOTYPES = {  # as cublas_api.h declares them
    "cublasCreate_v2": (ctypes.POINTER(_pointer),),
    "cublasSetStream_v2": (_pointer, _pointer),
    "cublasSetWorkspace_v2": (_pointer, _pointer, ctypes.c_size_t),
    "cublasGemmEx": (
        _pointer, _int, _int, _int, _int, _int, _pointer, _pointer, _int, _int, _pointer, _int, _int, _pointer,
        _pointer, _int, _int, _int, _int,
    ),
    "cublasGemmStridedBatchedEx": (
        _pointer, _int, _int, _int, _int, _int, _pointer, _pointer, _int, _int, _long, _pointer, _int, _int, _long,
        _pointer, _pointer, _int, _int, _long, _int, _int, _int,
    ),
}  # fmt: skip


class CFunction:
    """A function of the library, as ctypes would give it: who does not say the argument types gets an error."""

    def __init__(self, library: Library, name: str):
        self._library, self._name = library, name
        self.argtypes: list = []
        self.restype: Any = None

    def __call__(self, *args: Any) -> int:
        if tuple(self.argtypes) != PROTOTYPES[self._name] or self.restype is not ctypes.c_int:
            raise fakecupy.FakeError(f"{self._name}: argtypes or restype are not those of cublas_api.h")
        if len(args) != len(self.argtypes):
            raise TypeError(f"{self._name} takes {len(self.argtypes)} arguments, {len(args)} were given")
        for kind, arg in zip(self.argtypes, args, strict=True):
            if issubclass(kind, ctypes._Pointer):
                continue
            if type(arg) is not int or kind(arg).value != (arg or (None if kind is _pointer else 0)):
                raise ctypes.ArgumentError(f"{self._name}: {arg!r} is no {kind.__name__}")
        return getattr(self._library, "_" + self._name.removesuffix("_v2"))(*args)


class Library:
    """libcublas: one handle, which computes on the stream that it was given last."""

    OWN = 0x0B1A

    def __init__(self) -> None:
        self.stream, self.workspace = 0, None

    def __getattr__(self, name: str) -> CFunction:
        if name not in PROTOTYPES:
            raise AttributeError(name)
        function = CFunction(self, name)
        setattr(self, name, function)
        return function

    def _cublasCreate(self, handle: Any) -> int:
        if fakegraph.capturing():
            return 14  # it allocates
        handle._obj.value = self.OWN
        return 0

    def _cublasSetStream(self, handle: int, stream: int) -> int:
        self.stream, self.workspace = stream, None
        return 0 if handle == self.OWN else 1

    def _cublasSetWorkspace(self, handle: int, where: int, size: int) -> int:
        _owner(where, where + size)
        self.workspace = where
        return 0 if handle == self.OWN and where % 16 == 0 else 7

    def _cublasGemmStridedBatchedEx(self, handle: int, *rest: int) -> int:
        if handle != self.OWN:
            return 1
        if fakegraph.capturing() and self.workspace is None:
            raise fakecupy.FakeError("cuBLAS would allocate a workspace in a capture")
        if self.stream != fakegraph.current().ptr:
            raise fakecupy.FakeError("cuBLAS computes on another stream than all else")
        _gemm(HANDLE, *rest)
        return 0

    def _cublasGemmEx(self, handle: int, *rest: int) -> int:
        r = rest
        return self._cublasGemmStridedBatchedEx(handle, *r[:9], 0, *r[9:12], 0, *r[12:16], 0, 1, *r[16:])


@contextlib.contextmanager
def cublas_loaded() -> Iterator[None]:
    """The package finds this library instead of the real one."""
    from tinygrad_z2g.gpu.kernels import products

    before, products.load_cublas = products.load_cublas, lambda version: Library()
    try:
        yield
    finally:
        products.load_cublas = before
        products._own.clear()


cublas = types.ModuleType("cupy.cuda.cublas")
cublas.__dict__.update(
    gemmStridedBatchedEx=gemmStridedBatchedEx, CUBLAS_COMPUTE_32F=68, CUBLAS_COMPUTE_64F=70,
    CUBLAS_COMPUTE_32F_FAST_TF32=77, CUBLAS_GEMM_DEFAULT=-1,
)  # fmt: skip
device = types.ModuleType("cupy.cuda.device")
device.get_cublas_handle = lambda: HANDLE  # type: ignore[attr-defined]

import fakecupy  # noqa: E402  (which needs what stands above)
import fakegraph  # noqa: E402
