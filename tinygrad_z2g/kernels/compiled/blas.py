"""OpenBLAS's product of matrices, for loops to call: the same code that NumPy calls, on one thread.

A pointer goes as an integer, and the address of the function is an argument like any other: it differs from process to
process, while compiled loops are kept. It knows nothing of threads.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import float32, int64, types
from numba.extending import intrinsic

from ...backend import Array
from .compiling import loop
from .jit import address, openblas
from .layout import FLOAT32

SGEMM = address(openblas("sgemm", "cblas_"))  # 0 where NumPy's library has none that counts with 64 bits

_ORDER, _SIZE, _NUMBER = ir.IntType(32), ir.IntType(64), ir.FloatType()
_KINDS = [_ORDER] * 3 + [_SIZE] * 3 + [_NUMBER] + [_SIZE] * 4 + [_NUMBER] + [_SIZE] * 2  # pointers are as wide as sizes
_ROW_MAJOR, _AS_IT_IS, _TRANSPOSED = 101, 111, 112  # as BLAS numbers them


@intrinsic
def _sgemm(_, sgemm, turned, sizes, a, a_step, b, b_step, beta, z, z_step):  # type: ignore[no-untyped-def]
    """BLAS's z = a b + beta z, sizes = (n, m, k). Of a and b: whether columns lie number by number, not rows."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        function = builder.inttoptr(args[0], ir.FunctionType(ir.VoidType(), _KINDS).as_pointer())
        both = [
            builder.select(builder.extract_value(args[1], i), _ORDER(_TRANSPOSED), _ORDER(_AS_IT_IS)) for i in (0, 1)
        ]
        sizes = [builder.extract_value(args[2], i) for i in range(3)]
        builder.call(function, [_ORDER(_ROW_MAJOR), *both, *sizes, _NUMBER(1), *args[3:7], args[7], *args[8:]])
        return context.get_dummy_value()

    pair, three = types.UniTuple(types.boolean, 2), types.UniTuple(int64, 3)
    return types.void(int64, pair, three, int64, int64, int64, int64, float32, int64, int64), code


@loop
def gemm(sgemm, a, b, beta, z):  # type: ignore[no-untyped-def]
    """z = a b + beta z, (n, k) (k, m) -> (n, m), for matrices that `multiplies`, z row by row."""
    n, k, m = a.shape[0], a.shape[1], b.shape[1]
    turned = a.strides[1] != 4, b.strides[1] != 4
    a_step = max(a.strides[1] // 4, n) if turned[0] else max(a.strides[0] // 4, k)
    b_step = max(b.strides[1] // 4, k) if turned[1] else max(b.strides[0] // 4, m)
    pointers = a.ctypes.data, b.ctypes.data, z.ctypes.data
    _sgemm(
        sgemm, turned, (n, m, k), pointers[0], a_step, pointers[1], b_step, beta, pointers[2], max(z.strides[0] // 4, m)
    )


def multiplies(a: Array) -> bool:
    """Whether it is a matrix as BLAS reads them: float32, row by row in memory or column by column."""
    if a.dtype is not FLOAT32:
        return False
    flags = a.flags
    if flags.c_contiguous or flags.f_contiguous:
        return flags.aligned
    (n, m), (down, right) = a.shape, a.strides
    return flags.aligned and ((right == 4 and down >= 4 * m) or (down == 4 and right >= 4 * n))
