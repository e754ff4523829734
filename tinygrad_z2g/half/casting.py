"""What `autocast` does to the operands of an operation: the casts, recorded like any other operation.

Which operation casts to what is written at the operation: products call `lowered`, the decorators below stand above
the others. The lists are those that torch has for CUDA ("Autocast Op Reference"), here for the CPU too. It knows
nothing of what the operations compute.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from ..arrays import dtypes
from ..core.engine import Variable, record, unchanged
from . import precision

_F = TypeVar("_F", bound=Callable[..., Any])


def cast(x: Variable, dtype: np.dtype) -> Any:
    """z = x, rounded to `dtype`.   dz/dx = 1; the engine turns the gradient back into x's own dtype, as for `to`."""
    return record("to", dtypes.rounded(x.array, dtype), (x, unchanged))


def half_for(x: Any) -> np.dtype | None:
    """The half type in which products with x shall be computed; None where autocast is off, or x is not concerned."""
    if not isinstance(x, Variable) or x.array.dtype not in (dtypes.float16, dtypes.float32):
        return None
    return precision.half_type("cpu" if isinstance(x.array, np.ndarray) else "cuda")


def lowered(*tensors: Any) -> tuple:
    """The tensors, those of float32 in half precision. Products ask for it where `precision.blocks` is not 0."""

    def low(x: Any) -> Any:
        if isinstance(x, (list, tuple)):  # `einsum` takes its operands so, too
            return lowered(*x)
        half = half_for(x)
        return x if half is None or x.array.dtype == half else cast(x, half)

    return tuple(map(low, tensors))


def raised(*tensors: Any) -> tuple:
    """The tensors, those in half precision as float32."""
    return tuple(
        cast(x, dtypes.float32) if half_for(x) is not None and x.array.dtype == dtypes.float16 else x for x in tensors
    )


def widest(*tensors: Any) -> tuple:
    """The tensors, all as float32 if one of them is."""
    mixed = any(half_for(x) is not None and x.array.dtype == dtypes.float32 for x in tensors)
    return raised(*tensors) if mixed else tensors


def in_half(function: _F) -> _F:
    """The operation, an `einsum` say, with all operands `lowered`."""
    return _with_operands(lowered, function)


def in_float32(function: _F) -> _F:
    """The operation, which half precision would spoil, with all operands `raised`."""
    return _with_operands(raised, function)


def through_float32(function: _F) -> _F:
    """The operation, in autocast or not: float16 is computed in float32, and the result rounded once, unless another
    operand is wider. A sum of squares is soon beyond 65,504."""

    def half(x: Any) -> bool:
        return isinstance(x, Variable) and x.array.dtype == dtypes.float16

    @functools.wraps(function)
    def operation(*args: Any, **kwargs: Any) -> Any:
        if not any(map(half, args)) and not any(map(half, kwargs.values())):
            return function(*args, **kwargs)
        wide = [cast(x, dtypes.float32) if half(x) else x for x in (*args, *kwargs.values())]
        z = function(*wide[: len(args)], **dict(zip(kwargs, wide[len(args) :], strict=True)))
        kept = [x for x in (*args, *kwargs.values()) if isinstance(x, Variable) and x.array.dtype.kind == "f"]
        return cast(z, dtypes.float16) if all(map(half, kept)) else z

    return operation  # type: ignore[return-value]


def in_widest(function: _F) -> _F:
    """The operation, which needs operands of one type but any will do, with the `widest` of them."""
    return _with_operands(widest, function)


def _with_operands(chosen: Callable[..., tuple], function: _F) -> _F:
    """The operation gets what `chosen` makes of its arguments, and what it is composed of casts no further."""

    @functools.wraps(function)
    def operation(*args: Any, **kwargs: Any) -> Any:
        if not precision.blocks:
            return function(*args, **kwargs)
        values = chosen(*args, *kwargs.values())
        with precision.paused():
            return function(*values[: len(args)], **dict(zip(kwargs, values[len(args) :], strict=True)))

    return operation  # type: ignore[return-value]
