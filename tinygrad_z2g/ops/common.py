"""What every operation needs before it can compute: operands as arrays of one dtype and device, dims in range.

It knows nothing of any particular operation, nor of gradient rules, which it passes on at most.
"""

from __future__ import annotations

import functools
import numbers
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from ..arrays import dtypes
from ..arrays.backend import CPU, Array, device_of, of, to_device
from ..arrays.size import Size
from ..core.engine import Variable, record
from ..core.modes import is_grad_enabled

_R = TypeVar("_R")


def numpy_names(function: Callable[..., _R]) -> Callable[..., _R]:
    """Let `axis` and `keepdims`, NumPy's words, stand for `dim` and `keepdim`, as torch does."""

    @functools.wraps(function)
    def renamed(*args: Any, **kwargs: Any) -> _R:
        for theirs, ours in (("axis", "dim"), ("keepdims", "keepdim")):
            if theirs in kwargs:
                if ours in kwargs:
                    raise TypeError(f"{function.__name__}: got both {ours} and {theirs}, which mean the same")
                kwargs[ours] = kwargs.pop(theirs)
        return function(*args, **kwargs)

    return renamed


def as_array(x: Any, name: str) -> Array:
    """The array of a tensor. Raises TypeError for anything else."""
    if not isinstance(x, Variable):
        raise TypeError(f"{name}: expected a Tensor, got {type(x).__name__}; make one with tensor(...)")
    return x.array


def as_floating(x: Any, name: str) -> Array:
    """The array of a tensor, in the default dtype if it held integers or bools."""
    array = x.array if isinstance(x, Variable) else as_array(x, name)
    return array if array.dtype.kind == "f" else array.astype(dtypes.get_default_dtype())


def check_floating(x: Array, name: str) -> None:
    """NotImplementedError, a RuntimeError as in torch, for integers and bools."""
    if x.dtype.kind != "f":
        raise NotImplementedError(f"{name}: expected floating-point numbers, got {x.dtype}; convert first: x.float()")


def floating(x: Any, name: str) -> Array:
    """The array of a tensor of floating-point numbers, the only ones that this operation takes."""
    array = as_array(x, name)
    check_floating(array, name)
    return array


def operands(x: Any, y: Any, name: str, floating: bool = False) -> tuple[Any, Any, Any, Any]:
    """`x` and `y`, of which at least one is a tensor, as tensors or numbers, and as what `a + b` may be written on: of
    one dtype, on one device. What has to be converted is converted by a recorded operation.

    Python numbers stay Python numbers, so that they never widen an array: float32 + 0.1 is float32. A float meets
    an integer tensor in the default dtype. `floating` converts integers too, for operations such as division.
    """
    if isinstance(x, Variable) and isinstance(y, Variable):  # the usual case: nothing to convert or to refuse
        a, b = x.array, y.array
        if a.dtype is b.dtype and a.shape == b.shape and type(a) is type(b) is np.ndarray and not floating:
            return x, y, a, b
    a, b = _operand(x, name), _operand(y, name)
    a_is_array, b_is_array = hasattr(a, "dtype"), hasattr(b, "dtype")
    if a_is_array and b_is_array:
        if a.device != b.device:
            a, b = _one_device(a, b, x, y, name)
        if a.dtype != b.dtype:
            dtype = dtypes.result_type(a, b)
            a, b = a.astype(dtype, copy=False), b.astype(dtype, copy=False)
        if floating and a.dtype.kind != "f":
            a, b = a.astype(dtypes.get_default_dtype()), b.astype(dtypes.get_default_dtype())
        check_broadcast(a.shape, b.shape, name)
    elif a_is_array:
        a = _meet_number(a, b, floating)
    elif b_is_array:
        b = _meet_number(b, a, floating)
    else:
        raise TypeError(f"{name}: expected at least one Tensor, got {type(x).__name__} and {type(y).__name__}")
    like = x if isinstance(x, Variable) else y
    return _holding(x, a, like), _holding(y, b, like), a, b


def _holding(x: Any, a: Any, like: Variable) -> Any:
    """The operand x as a tensor that holds `a`, or the number that it is."""
    if not hasattr(a, "dtype"):
        return a
    if isinstance(x, Variable):
        return x if x.array is a else converted(x, a)
    return like.make(a)


def converted(x: Variable, a: Array) -> Any:
    """z = a, the numbers of x in another dtype or on another device.   The gradient passes, converted back."""
    home = device_of(x.array)
    return record("to", a, (x, lambda grad: to_device(grad, home)))


def linear_rule(name: str, back: Callable[[Array], Array], there: Callable[[Array], Array]) -> Any:
    """The rule of z = A x, where A is linear: ∂L/∂x = Aᵀ grad. `back` computes Aᵀ grad, `there` A x, both on arrays.

    A gradient that is a tensor (in a walk that is recorded) gives a tensor: Aᵀ grad is linear in grad, its rule is A.
    The rule may be told to read tensors, such as indices, that `back` and `there` know already: then these are watched.
    """

    @functools.wraps(back)
    def rule(grad: Any, *watched: Any) -> Any:
        if isinstance(grad, Variable):
            return record(name, back(grad.array), (grad, linear_rule(name, there, back), *watched))
        return back(grad)

    return rule


def _operand(x: Any, name: str) -> Any:
    if isinstance(x, Variable):
        return x.array
    if isinstance(x, np.generic):
        return x.item()  # np.float64(2) is a number like 2.0, not a reason to compute in float64
    if isinstance(x, (float, int)):
        return x  # bool too
    if isinstance(x, np.ndarray) and x.dtype in dtypes.ALL:
        return x.copy()  # a rule may read it later, and no counter watches what its owner does to it
    if isinstance(x, numbers.Real):
        return float(x)
    raise TypeError(f"{name}: expected a Tensor or a number, got {type(x).__name__}; make a tensor with tensor(...)")


def number(value: Any, name: str) -> Any:
    """A setting, such as an eps, a bound or a slope, as a Python number. A NumPy number or a 0-d tensor counts as what
    it holds: np.float64(0.1) * x would be float64. TypeError for all else."""
    if type(value) is float or type(value) is int:  # the usual case
        return value
    if isinstance(value, Variable):
        value = value.array
    if getattr(value, "ndim", 1) == 0:
        value = value.item()
    if isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, numbers.Real):
        return float(value)
    raise TypeError(f"{name}: expected a number, got {type(value).__name__}")


def held(value: Any, dtype: np.dtype, name: str) -> Any:
    """`value`, a number to be written into an array. RuntimeError, as in torch, for inf and NaN among integers."""
    if isinstance(value, float) and dtype.kind in "iu" and value - value != 0:
        raise RuntimeError(f"{name}: value {value} cannot be held by a tensor of {dtype}; make it floating point first")
    return value


def _one_device(a: Array, b: Array, x: Any, y: Any, name: str) -> tuple[Array, Array]:
    """A NumPy array or a 0-d CPU tensor beside a GPU tensor is uploaded; two tensors apart are a mistake."""
    if isinstance(a, np.ndarray) and (a.ndim == 0 or not isinstance(x, Variable)):
        return to_device(a, device_of(b)), b
    if isinstance(b, np.ndarray) and (b.ndim == 0 or not isinstance(y, Variable)):
        return a, to_device(b, device_of(a))
    raise RuntimeError(
        f"{name}: expected all tensors on one device, got {device_of(a)} and {device_of(b)}; move one with .to(...)"
    )


def _meet_number(a: Array, number: float | int, floating: bool) -> Array:
    """`a` in a dtype that the Python number does not change."""
    if a.dtype.kind != "f" and (floating or isinstance(number, float)):
        return a.astype(dtypes.get_default_dtype())
    if a.dtype.kind == "b" and not isinstance(number, bool):
        return a.astype(dtypes.int64)
    return a


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
            raise RuntimeError(
                f"{name}: expected all tensors on one device, got {device_of(first.array)} and {device_of(x.array)}; "
                "move one with .to(...)"
            )


# --- How results lie in memory -------------------------------------------------------------------------------
#
# `view`, `is_contiguous` and writes through `reshape` see it, so it follows torch. Results of reductions, softmax and
# joining are in row-major order. What works element by element keeps the order of its inputs: a transposed x gives a
# transposed z. NumPy does so too, unless the inputs disagree: then the first of them decides.


def row_major(z: Array) -> Array:
    """`z`, copied if need be so that its elements lie in row-major order."""
    return z if z.ndim < 2 or z.flags.c_contiguous else of(z).ascontiguousarray(z)


def elementwise_order(shape: tuple, strides: list[list[int]]) -> list[int]:
    """The dimensions of a result of `shape`, from the one whose neighbours lie furthest apart to the closest.

    `strides` are those of the inputs, broadcast to `shape`: 0 in a dimension along which an input says nothing. Of two
    dimensions the later one is the closer, unless the first input that knows says otherwise. (The insertion sort is
    that of torch's TensorIterator::reorder_dimensions: the relation is not transitive, so another could differ.)
    """
    n = len(shape)

    def wrong(inner: int, outer: int) -> int:
        """1 if they must change places, -1 if not, 0 if no input knows"""
        for steps in strides:
            if steps[inner] and steps[outer]:
                if steps[inner] != steps[outer]:
                    return 1 if steps[inner] > steps[outer] else -1
                if shape[inner] > shape[outer]:
                    return 1
        return 0

    order = list(reversed(range(n)))
    for i in range(1, n):
        k = i
        for j in reversed(range(i)):
            verdict = wrong(order[j], order[k])
            if verdict < 0:
                break
            if verdict > 0:
                order[j], order[k] = order[k], order[j]
                k = j
    return order[::-1]


def broadcast_strides(x: Array, shape: tuple) -> list[int]:
    """How far apart neighbours of x, broadcast to `shape`, lie in memory along each dimension."""
    extra = len(shape) - x.ndim
    known = zip(x.shape, x.strides, shape[extra:], strict=True)
    return [0] * extra + [0 if size == 1 != full else abs(step) for size, step, full in known]


def laid_out(z: Array, *inputs: Array) -> Array:
    """`z`, the result of an operation on the `inputs` element by element, copied if need be into their order."""
    if z.ndim < 2 or (z.flags.c_contiguous and all(x.flags.c_contiguous for x in inputs)):
        return z
    return in_order(z, [broadcast_strides(x, z.shape) for x in inputs])


def in_order(z: Array, strides: list[list[int]]) -> Array:
    """`z`, copied if need be into the `elementwise_order` that these strides give, without gaps."""
    order = elementwise_order(z.shape, strides)
    inverse = sorted(range(z.ndim), key=order.__getitem__)
    return row_major(z.transpose(order)).transpose(inverse)


def copied(a: Array) -> Array:
    """A copy that lies in memory as `a` does, without its gaps."""
    z = laid_out(a, a)
    return z.copy("K") if z is a or of(a).may_share_memory(z, a) else z


def fits(shape: tuple, into: tuple) -> bool:
    """Whether `shape` broadcasts to `into`, without stretching it."""
    return len(shape) <= len(into) and all(m in (1, n) for m, n in zip(shape[::-1], into[::-1], strict=False))


def check_ids(ids: Array, n: int, name: str, what: str) -> None:
    """Raise IndexError unless every id is in 0..n-1. Only host arrays are looked at."""
    if isinstance(ids, np.ndarray) and ids.size and not 0 <= ids.min() <= ids.max() < n:
        bad = ids.min() if ids.min() < 0 else ids.max()
        raise IndexError(f"{name}: {what} {bad} is out of range, expected 0 to {n - 1}")


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
    if not isinstance(dim, (tuple, list)):
        dim = (dim,)
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


def given(data: tuple, dtype: Any, name: str) -> np.ndarray:
    """What `Tensor(...)` and older constructors take, as a new array: nothing, sizes `(2, 3)`, or data in a list, an
    array or a tensor. Sizes give zeros, so that forgetting to fill them cannot show stray memory."""
    first = data[0] if data else ()
    if isinstance(first, (int, np.integer, Size)) and not isinstance(first, bool):
        shape = sizes(data, name)
        if any(n < 0 for n in shape):
            raise RuntimeError(f"{name}: got the sizes {list(shape)}, expected sizes >= 0")
        return np.zeros(shape, dtype)
    if len(data) > 1 or isinstance(first, (bool, float, str)):
        raise TypeError(f"{name}: expected sizes, or data in a list, an array or a tensor, got {first!r}; see tensor()")
    if isinstance(first, Variable):
        return to_device(first.array, CPU).astype(dtype)
    return np.array([np.asarray(part) for part in first] if isinstance(first, (list, tuple)) else first, dtype)


def record_view(name: str, array: Array, x: Variable, rule: Any) -> Any:
    """`record` for a result that shares memory with `x`: in-place writes to one are counted, and recorded, for both."""
    result = record(name, array, (x, rule))
    result.memory = x.memory
    base = x if x.base is None else x.base
    result.base = base
    follows = x.rewrites >= 0 and (result.node is not None or is_grad_enabled())
    result.rewrites = base.rewrites if follows else ~base.rewrites
    return result


def constant(like: Variable, array: Array) -> Any:
    """A tensor that gradients stop at: the result of a comparison, an index, a mask."""
    return like.make(array)


def beside(grad: Any, array: Any) -> Any:
    """`array`, which a rule knows, as what it can compute with beside `grad`: a tensor, if that is one."""
    return grad.make(array) if isinstance(grad, Variable) and hasattr(array, "dtype") else array


__all__ = [
    "Array",
    "Variable",
    "as_array",
    "as_floating",
    "as_int",
    "beside",
    "check_broadcast",
    "check_ids",
    "constant",
    "converted",
    "copied",
    "fits",
    "given",
    "held",
    "in_order",
    "laid_out",
    "linear_rule",
    "many_dims",
    "number",
    "numpy_names",
    "of",
    "one_dim",
    "operands",
    "record",
    "record_view",
    "row_major",
    "same_device",
    "sizes",
]  # fmt: skip
