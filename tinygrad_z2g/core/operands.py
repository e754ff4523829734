"""What every operation needs before it can compute: operands as arrays of one dtype and device, dims in range.

What a user may get wrong is said here, with what was expected. It knows nothing of any particular operation.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable
from typing import Any

import numpy as np

from ..arrays import dtypes
from ..arrays.backend import Array, device_of, quiet, to_device
from ..arrays.layout import laid_out
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


def check_floating(array: Array, name: str) -> None:
    """NotImplementedError, a RuntimeError as in torch, for integers and bools."""
    if array.dtype.kind != "f":
        hint = "convert first: x.float()"
        raise NotImplementedError(f"{name}: expected floating-point numbers, got {array.dtype}; {hint}")


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
    a, b = _operand(x, name), _operand(y, name)
    arrays = hasattr(a, "dtype"), hasattr(b, "dtype")
    if all(arrays):
        if a.device != b.device:
            a, b = _one_device(a, b, x, y, name)
        check_broadcast(a.shape, b.shape, name)
    like = x if isinstance(x, Variable) else y
    if not isinstance(like, Variable):
        raise TypeError(f"{name}: expected at least one Tensor, got {type(x).__name__} and {type(y).__name__}")
    dtype = dtypes.result_type(a, b)
    if floating and dtype.kind != "f":
        dtype = dtypes.get_default_dtype()
    a = a if not arrays[0] or a.dtype is dtype else a.astype(dtype, copy=False)
    b = b if not arrays[1] or b.dtype is dtype else b.astype(dtype, copy=False)
    return _holding(x, a, like), _holding(y, b, like), a, b


def _operand(x: Any, name: str) -> Any:
    if isinstance(x, Variable):
        return x.array
    if type(x) is float or type(x) is int:
        return x
    if isinstance(x, np.ndarray) and x.dtype in dtypes.ALL:
        return x.copy()  # a rule may read it later, and no counter watches what its owner does to it
    x = x.item() if isinstance(x, np.generic) else x  # np.float64(2) is no reason to compute in float64
    if isinstance(x, numbers.Real):
        return x if isinstance(x, (float, int)) else float(x)
    raise TypeError(f"{name}: expected a Tensor or a number, got {type(x).__name__}; make a tensor with tensor(...)")


def _one_device(a: Array, b: Array, x: Any, y: Any, name: str) -> tuple[Array, Array]:
    """A NumPy array or a 0-d CPU tensor beside a GPU tensor is uploaded; two tensors apart are a mistake."""
    if isinstance(a, np.ndarray) and (a.ndim == 0 or not isinstance(x, Variable)):
        return to_device(a, device_of(b)), b
    if isinstance(b, np.ndarray) and (b.ndim == 0 or not isinstance(y, Variable)):
        return a, to_device(b, device_of(a))
    raise _apart(name, a, b)


def _holding(x: Any, a: Any, like: Variable) -> Any:
    """The operand x as a tensor that holds `a`, or the number that it is."""
    if isinstance(x, Variable):
        return x if x.array is a else converted(x, a)
    return like.make(a) if hasattr(a, "dtype") else a


def converted(x: Variable, a: Array) -> Any:
    """z = a, the numbers of x in another dtype or on another device.   The gradient passes, converted back."""
    home = device_of(x.array)
    return record("to", a, (x, lambda grad: to_device(grad, home)))


def computed(function: Callable, x: Any, y: Any) -> Array:
    """function(x, y) for two arrays, of which one may be a number, laid out in memory as torch does. No warnings."""
    z = quiet.run(function, x, y)
    if z.ndim > 1 and hasattr(x, "dtype") and hasattr(y, "dtype") and x.strides != y.strides:
        return laid_out(z, x, y)
    return z


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


def check_broadcast(a: tuple, b: tuple, name: str) -> None:
    """Raise RuntimeError unless shapes `a` and `b` broadcast: equal, or 1, or absent, counted from the right."""
    if a == b:
        return
    for m, n in zip(reversed(a), reversed(b)):  # noqa: B905 - the shorter one ends the comparison
        if m != n and m != 1 and n != 1:
            raise RuntimeError(
                f"{name}: shapes {tuple(a)} and {tuple(b)} do not broadcast: sizes {m} and {n} differ; "
                "aligned from the right, sizes must be equal or 1"
            )


def same_device(name: str, first: Variable, *others: Variable | None) -> None:
    """Raise RuntimeError unless all given tensors live on one device."""
    for x in others:
        if x is not None and x.array.device != first.array.device:
            raise _apart(name, first.array, x.array)


def _apart(name: str, a: Array, b: Array) -> RuntimeError:
    places = f"got {device_of(a)} and {device_of(b)}; move one with .to(...)"
    return RuntimeError(f"{name}: expected all tensors on one device, {places}")


def check_ids(ids: Array, n: int, name: str, what: str) -> None:
    """Raise IndexError unless every id is in 0..n-1. Only host arrays are looked at: a GPU would have to stop."""
    if isinstance(ids, np.ndarray) and ids.size and not 0 <= ids.min() <= ids.max() < n:
        bad = ids.min() if ids.min() < 0 else ids.max()
        raise IndexError(f"{name}: {what} {bad} is out of range, expected 0 to {n - 1}")


def number(value: Any, name: str) -> Any:
    """A setting, such as an eps, as a Python number; a NumPy number or a 0-d tensor counts as what it holds."""
    if type(value) is float or type(value) is int:  # the usual case
        return value
    value = value.array if isinstance(value, Variable) else value
    value = value.item() if getattr(value, "ndim", 1) == 0 else value
    if isinstance(value, numbers.Real):
        return value if isinstance(value, (int, float)) else float(value)
    raise TypeError(f"{name}: expected a number, got {type(value).__name__}")


def as_int(value: Any, name: str) -> int:
    """A whole number given as int, NumPy integer or 0-d integer tensor. Raises TypeError for others."""
    if isinstance(value, Variable):
        value = value.array.item() if value.array.size == 1 else value
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}: expected an int, got {type(value).__name__}")
    return int(value)


def one_dim(dim: Any, ndim: int, name: str) -> int:
    """`dim` counted from the front. Raises IndexError if it is out of range; a 0-d tensor accepts 0 and -1."""
    if type(dim) is not int:  # the usual case needs no message to be prepared
        dim = as_int(dim, f"{name}: dim")
    bound = max(ndim, 1)
    if not -bound <= dim < bound:
        raise IndexError(f"{name}: dim {dim} is out of range for {ndim} dimensions, expected {-bound} to {bound - 1}")
    return dim % bound


def many_dims(dim: Any, ndim: int, name: str) -> tuple[int, ...]:
    """The dims that a reduction runs over, counted from the front; None or () means all. No dim twice."""
    if dim is None or (isinstance(dim, (tuple, list)) and len(dim) == 0):
        return tuple(range(ndim))
    dim = dim if isinstance(dim, (tuple, list)) else (dim,)
    dims = tuple(one_dim(d, ndim, name) for d in dim)
    if len(set(dims)) != len(dims):
        raise RuntimeError(f"{name}: dim {tuple(dim)} names one dimension twice")
    return dims if ndim else ()


def sizes(shape: tuple, name: str, named: Any = None) -> tuple[int, ...]:
    """Sizes or dims given as `f(2, 3)`, as `f((2, 3))`, or by name (`named`) as `f(shape=(2, 3))`."""
    if named is not None:
        if shape:
            raise TypeError(f"{name}: got sizes or dims both by position, {shape}, and by name, {named}")
        shape = (named,)
    if len(shape) == 1 and isinstance(shape[0], (tuple, list)):
        shape = tuple(shape[0])
    return tuple([n if type(n) is int else as_int(n, f"{name}: size") for n in shape])
