"""What every operation needs before it can compute: tensors as arrays, operands of one dtype and device.

It knows nothing of any particular operation. What may be wrong with arguments is said in `arrays/checks.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import checks, dtypes
from ..arrays.backend import Array, device_of, to_device
from .engine import Variable, record
from .modes import is_grad_enabled

if TYPE_CHECKING:
    from typing_extensions import TypeIs

    from .tensor import Tensor


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
    checks.check_floating(array, name)
    return array


def is_tensor(x: Any) -> TypeIs[Tensor]:
    """Whether x is a tensor: who checks types knows then of its methods, of which `Variable` has none."""
    return isinstance(x, Variable)


def arrays_of(name: str, tensors: tuple, *optional: Any) -> list[Any]:
    """The arrays of tensors on one device; of the optional ones, None of None."""
    arrays = [x.array if isinstance(x, Variable) else as_array(x, name) for x in tensors]
    arrays += [None if x is None else as_array(x, name) for x in optional]
    checks.one_device(name, *arrays)
    return arrays


def operands(x: Any, y: Any, name: str, floating: bool = False) -> tuple[Any, Any, Any, Any]:
    """`x` and `y`, of which at least one is a tensor, as tensors or numbers, and as what `a + b` may be written on: of
    one dtype, on one device. What has to be converted is converted by a recorded operation.

    `floating` converts integers too, for operations such as division.
    """
    if isinstance(x, Variable) and isinstance(y, Variable):
        a, b = x.array, y.array
        if a.dtype is b.dtype and a.shape == b.shape and type(a) is type(b) is np.ndarray and not floating:
            return x, y, a, b  # the usual case: nothing to convert or to refuse
    like = x if isinstance(x, Variable) else y
    if not isinstance(like, Variable):
        raise TypeError(f"{name}: expected at least one Tensor, got {type(x).__name__} and {type(y).__name__}")
    a = x.array if isinstance(x, Variable) else checks.operand(x, like.array, name)
    b = y.array if isinstance(y, Variable) else checks.operand(y, like.array, name)
    a, b = checks.together(a, b, name, floating)
    return _holding(x, a, like), _holding(y, b, like), a, b


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
