"""What every operation needs before it can compute: operands as arrays of one dtype and device, dims in range.

What a user may get wrong is said here, with what was expected. It knows nothing of any particular operation.
"""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np

from ..arrays import dtypes
from ..arrays.backend import Array, device_of, to_device
from ..arrays.checks import check_broadcast, check_floating, one_device
from .engine import Variable, record
from .modes import is_grad_enabled


def as_array(x: Any, name: str) -> Array:
    """The array of a tensor. Raises TypeError for anything else."""
    if not isinstance(x, Variable):
        raise TypeError(f"{name}: expected a Tensor, got {type(x).__name__}; make one with tensor(...)")
    return x.array


def as_floating(x: Any, name: str) -> Array:
    """The array of a tensor, in the default dtype if it held integers or bools."""
    array = x.array if isinstance(x, Variable) else as_array(x, name)
    return array if array.dtype.kind == "f" else array.astype(dtypes.get_default_dtype())


def floating(x: Any, name: str) -> Array:
    """The array of a tensor of floating-point numbers, the only ones that this operation takes."""
    array = as_array(x, name)
    check_floating(array, name)
    return array


def operands(x: Any, y: Any, name: str, floating: bool = False) -> tuple[Any, Any, Any, Any]:
    """`x` and `y`, of which at least one is a tensor, as tensors or numbers, and as what `a + b` may be written on: of
    one dtype, on one device. What has to be converted is converted by a recorded operation; see `dtypes.result_type`.

    `floating` converts integers too, for operations such as division.
    """
    if isinstance(x, Variable) and isinstance(y, Variable):  # the usual case: nothing to convert or to refuse
        a, b = x.array, y.array
        if a.dtype is b.dtype and a.shape == b.shape and type(a) is type(b) is np.ndarray and not floating:
            return x, y, a, b
    like = x if isinstance(x, Variable) else y
    if not isinstance(like, Variable):
        raise TypeError(f"{name}: expected at least one Tensor, got {type(x).__name__} and {type(y).__name__}")
    a, b = _operand(x, y, name), _operand(y, x, name)
    arrays = hasattr(a, "dtype"), hasattr(b, "dtype")
    if all(arrays):
        if a.device != b.device:
            one_device(name, a, b)
        check_broadcast(a.shape, b.shape, name)
    dtype = dtypes.result_type(a, b)
    if floating and dtype.kind != "f":
        dtype = dtypes.get_default_dtype()
    a = a if not arrays[0] or a.dtype is dtype else a.astype(dtype, copy=False)
    b = b if not arrays[1] or b.dtype is dtype else b.astype(dtype, copy=False)
    return _holding(x, a, like), _holding(y, b, like), a, b


def _operand(x: Any, other: Any, name: str) -> Any:
    """x as an array or a number. A NumPy array or a 0-d CPU tensor is uploaded to where the other operand is."""
    if type(x) is float or type(x) is int:
        return x
    if isinstance(x, Variable) and (x.array.ndim or not isinstance(other, Variable)):
        return x.array
    if isinstance(x, Variable) or (isinstance(x, np.ndarray) and x.dtype in dtypes.ALL):
        a = x.array if isinstance(x, Variable) else x.copy()  # of which no counter watches what its owner does to it
        return to_device(a, device_of(other.array)) if isinstance(a, np.ndarray) else a
    x = x.item() if isinstance(x, np.generic) else x  # np.float64(2) is no reason to compute in float64
    if isinstance(x, numbers.Real):
        return x if isinstance(x, (float, int)) else float(x)
    raise TypeError(f"{name}: expected a Tensor or a number, got {type(x).__name__}; make a tensor with tensor(...)")


def _holding(x: Any, a: Any, like: Variable) -> Any:
    """The operand x as a tensor that holds `a`, or the number that it is."""
    if isinstance(x, Variable):
        return x if x.array is a else converted(x, a)
    return like.make(a) if hasattr(a, "dtype") else a


def converted(x: Variable, a: Array) -> Any:
    """z = a, the numbers of x in another dtype or on another device.   The gradient passes, converted back."""
    home = device_of(x.array)
    return record("to", a, (x, lambda grad: to_device(grad, home)))


def record_view(name: str, array: Array, x: Variable, rule: Any) -> Any:
    """`record` for a result that shares memory with `x`: in-place writes to one are counted, and recorded, for both."""
    result = record(name, array, (x, rule))
    result.memory = x.memory
    base = x if x.base is None else x.base
    result.base = base
    follows = x.rewrites >= 0 and (result.node is not None or is_grad_enabled())
    result.rewrites = base.rewrites if follows else ~base.rewrites
    return result


def beside(grad: Any, array: Any) -> Any:
    """`array`, which a rule knows, as what it can compute with beside `grad`: a tensor, if that is one."""
    return grad.make(array) if isinstance(grad, Variable) and hasattr(array, "dtype") else array


def arrays_of(name: str, *tensors: Any) -> list[Any]:
    """The arrays of tensors on one device; None of None, in any place but the first."""
    arrays = [x if x is None and i else as_array(x, name) for i, x in enumerate(tensors)]
    one_device(name, *arrays)
    return arrays
