"""Which arrays the loops take. All others go to the reference: float64, float16, what is strided or empty.

And how a loop is given any number of them: by the addresses of the Python objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, int64, types
from numba.extending import intrinsic

from ...arrays.backend import Array
from .compiling import loop

FLOAT32 = np.dtype(np.float32)
HEADER = object.__basicsize__  # a NumPy array is what every object has, then the address of its numbers


def fits(*arrays: Array) -> bool:
    """Whether all are float32, row by row in memory, writable and not empty."""
    for a in arrays:  # a third of the time of all(...)
        if type(a) is not np.ndarray or a.dtype is not FLOAT32 or not a.size or not a.flags.carray:
            return False
    return True


def as_rows(a: Array) -> Array:
    """(..., C) -> (N, C)"""
    return a.reshape(-1, a.shape[-1])


def places(arrays: Sequence[Array]) -> np.ndarray:
    """Where these objects are, for `numbers`; they must live on. (54 take 3 µs, their `ctypes.data` 60.)"""
    return np.fromiter(map(id, arrays), np.int64, len(arrays))


@intrinsic
def address(_, a):
    """Where the first number of an array is."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.ptrtoint(context.make_array(sig.args[0])(context, builder, args[0]).data, ir.IntType(64))

    return int64(a), code


@intrinsic
def keep(_, a):
    """The array lives on until here: of its `address` alone nobody knows that it is used."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return context.get_dummy_value()

    return types.void(a), code


@intrinsic
def _floats(_: Any, address: Any) -> Any:
    """A pointer to float32 of that address."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(sig.return_type))

    return types.CPointer(types.float32)(int64), code


@loop
def line(a, n):
    """Row n of a matrix whose rows lie number by number, however far apart: the compiler does not see that of a[n]."""
    return carray(_floats(address(a) + n * a.strides[0]), a.shape[1])


@intrinsic
def _pointer(_: Any, place: Any) -> Any:
    """What the object at `place` holds after its header: a pointer to float32."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = context.get_value_type(sig.return_type)
        address = builder.add(args[0], ir.Constant(args[0].type, HEADER))
        return builder.load(builder.inttoptr(address, kind.as_pointer()))

    return types.CPointer(types.float32)(int64), code


@loop
def numbers(place, start, stop):
    """The numbers start..stop of the float32 array at that place."""
    return carray(_pointer(place), stop)[start:]
