"""What operations outside the core need besides: NumPy's names of arguments, rules that are linear, data in any form.

What those of the core need too is re-exported from `core.operands` and `arrays.layout`. It knows nothing of any
particular operation, nor of gradient rules, which it passes on at most.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from ..arrays.backend import CPU, Array, of, to_device
from ..arrays.checks import (
    as_int,
    check_broadcast,
    check_floating,
    check_ids,
    fits,
    full_shape,
    many_dims,
    number,
    one_device,
    one_dim,
    sizes,
)
from ..arrays.layout import computed, copied, in_order, laid_out, row_major
from ..arrays.size import Size
from ..core.engine import Variable, record
from ..core.operands import (
    as_array,
    as_floating,
    beside,
    converted,
    floating,
    operands,
    record_view,
)
from ..walks.again import linear_rule

_R = TypeVar("_R")
_F = TypeVar("_F", bound=Callable[..., Any])


def numpy_names(function: Callable[..., _R]) -> Callable[..., _R]:
    """Let `axis` and `keepdims`, NumPy's words, stand for `dim` and `keepdim`, as torch does."""

    @functools.wraps(function)
    def renamed(*args: Any, **kwargs: Any) -> _R:
        for theirs, ours in (("axis", "dim"), ("keepdims", "keepdim")) if kwargs else ():
            if theirs in kwargs:
                if ours in kwargs:
                    raise TypeError(f"{function.__name__}: got both {ours} and {theirs}, which mean the same")
                kwargs[ours] = kwargs.pop(theirs)
        return function(*args, **kwargs)

    return renamed


def widens(plain: Callable) -> Callable[[_F], _F]:
    """Let `help` of a function that takes more than that of the core, and ends in it, show the text of that, too."""

    def told(function: _F) -> _F:
        of_core = f"`core.{plain.__module__.rpartition('.')[2]}.{plain.__name__}`"
        own, text = (inspect.cleandoc(f.__doc__ or "") for f in (function, plain))
        function.__doc__ = f"{own}\n\nWithout more settings this is {of_core}, of which there is said:\n\n{text}"
        return function

    return told


def held(value: Any, dtype: np.dtype, name: str) -> Any:
    """`value`, a number to be written into an array. RuntimeError, as in torch, for inf and NaN among integers."""
    if isinstance(value, float) and dtype.kind in "iu" and value - value != 0:
        raise RuntimeError(f"{name}: value {value} cannot be held by a tensor of {dtype}; make it floating point first")
    return value


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


def same_device(name: str, *tensors: Variable | None) -> None:
    """Raise RuntimeError unless all given tensors live on one device."""
    one_device(name, *(None if x is None else x.array for x in tensors))


def constant(like: Variable, array: Array) -> Any:
    """A tensor that gradients stop at: the result of a comparison, an index, a mask."""
    return like.make(array)


__all__ = [
    "Array",
    "Variable",
    "as_array",
    "as_floating",
    "as_int",
    "beside",
    "check_broadcast",
    "check_floating",
    "check_ids",
    "computed",
    "constant",
    "converted",
    "copied",
    "fits",
    "floating",
    "full_shape",
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
    "widens",
]  # fmt: skip
