"""NumPy's names for operations on tensors: what `of(grad)` is in a rule when the walk backwards is itself recorded.

A rule is written once, in the words that arrays and tensors share. Operators, `sum`, `reshape` and `swapaxes` are
methods of both; `exp`, `where` and their like are functions of NumPy, of CuPy, and here. So the rule of tanh gives an
array when it is handed arrays; handed tensors, it is a computation like any other and has a gradient of its own. (What
`create_graph` asks for.) A routine of `fast` that is called with a tensor is looked up here as well, under its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..arrays.backend import of
from ..arrays.dtypes import promote
from ..core.engine import Variable
from ..core.operands import is_tensor
from . import decompositions
from .common import constant
from .elementwise import (  # noqa: F401 - for rules to use
    abs,
    cos,
    cosh,
    erf,
    exp,
    log,
    masked_fill,
    maximum,
    minimum,
    sin,
    sinh,
    sqrt,
    tan,
    tanh,
)
from .elementwise import where as _where
from .linalg import matmul
from .reduction import cumprod as _cumprod
from .reduction import mean as _mean
from .reduction import sum as _sum
from .shape import broadcast_to as broadcast_to
from .shape import cat, expand, movedim, permute, tril, triu  # noqa: F401
from .shape import flip as _flip
from .shape import stack as _stack

if TYPE_CHECKING:
    from ..tensor import Tensor

linalg = decompositions
fill = masked_fill


def bmm(x: Tensor, y: Tensor) -> Tensor:
    """The product of two tensors in the wider of their dtypes: NumPy's rule. A float16 gradient meets factors that were
    widened to float32."""
    wide = promote(x.array.dtype, y.array.dtype)
    return matmul(x.to(wide), y.to(wide))


def where(condition: Any, x: Any, y: Any) -> Any:
    """x where the condition holds, else y. The condition may be a plain array."""
    tensor = next(v for v in (condition, x, y) if isinstance(v, Variable))
    return _where(condition if is_tensor(condition) else constant(tensor, condition), x, y)


def isfinite(x: Tensor) -> Tensor:
    """Whether each element is neither NaN nor infinite."""
    return constant(x, of(x.array).isfinite(x.array))


def total(x: Tensor, axis: tuple[int, ...], keepdims: bool) -> Tensor:
    """Σ x over `axis`; x itself if that is ()."""
    return _sum(x, axis, keepdims) if axis else x


def sum(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Σ x over `axis`."""
    return _sum(x, axis, keepdims)


def mean(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The mean of x over `axis`."""
    return _mean(x, axis, keepdims)


def column_sums(x: Tensor, y: Any = None) -> Tensor:
    """Σ x y over the rows of two matrices, or Σ x of one."""
    return _sum(x if y is None else x * y, 0)


def times(x: Any, y: Any) -> Any:
    """x y"""
    return x * y


def expand_dims(x: Tensor, axis: int | tuple[int, ...]) -> Tensor:
    """x with dimensions of size 1 at these places of the result."""
    axes = (axis,) if isinstance(axis, int) else axis
    ndim = x.array.ndim + len(axes)
    places = {a % ndim for a in axes}
    sizes = iter(x.array.shape)
    return x.reshape(tuple(1 if i in places else next(sizes) for i in range(ndim)))


def transpose(x: Tensor, axes: Sequence[int]) -> Tensor:
    """The dimensions in the order `axes`."""
    return permute(x, *axes)


def moveaxis(x: Tensor, source: int, destination: int) -> Tensor:
    """One dimension moved to another place."""
    return movedim(x, source, destination)


def concatenate(parts: Sequence[Tensor], axis: int = 0) -> Tensor:
    """The tensors joined along `axis`."""
    return cat(list(parts), axis)


def stack(parts: Sequence[Tensor], axis: int = 0) -> Tensor:
    """The tensors joined along a new axis."""
    return _stack(list(parts), axis)


def cumprod(x: Tensor, axis: int) -> Tensor:
    """The running products along `axis`."""
    return _cumprod(x, axis)


def flip(x: Tensor, axis: Any) -> Tensor:
    """The elements in reverse order along `axis`."""
    return _flip(x, axis) if axis != () else x


def zeros_like(x: Tensor) -> Tensor:
    """Zeros, without history."""
    return constant(x, of(x.array).zeros_like(x.array))


def ones_like(x: Tensor) -> Tensor:
    """Ones, without history."""
    return constant(x, of(x.array).ones_like(x.array))
