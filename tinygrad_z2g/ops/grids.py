"""Grids, pairs and other arrangements, composed of the operations in `shape`: no rule of its own."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays.backend import device_of, of, to_device
from ..core.engine import Variable
from .common import as_array, as_int, one_dim
from .indexing import getitem, setitem
from .shape import (
    cat,
    diagonal,
    expand,
    flatten,
    flip,
    movedim,
    narrow,
    permute,
    reshape,
    split,
    stack,
    transpose,
    unsqueeze,
)  # fmt: skip

if TYPE_CHECKING:
    from ..tensor import Tensor


def _several(tensors: tuple) -> list:
    """Tensors given as `f(x, y)` or as `f([x, y])`."""
    return list(tensors[0]) if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)) else list(tensors)


def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Tensor, ...]:
    """The coordinates of a grid: of vectors of n, m, ... numbers one view each of shape (n, m, ...).

    The first counts rows, the second columns; with indexing "xy", as in pictures, the first counts columns: (m, n).

    >>> x, y = z2g.tensor([1.0, 2.0], requires_grad=True), z2g.tensor([10.0, 20.0, 30.0])
    >>> X, Y = z2g.meshgrid(x, y, indexing="ij"); (X * Y).sum().backward(); x.grad  # each xᵢ meets all three
    tensor([60., 60.])
    """
    if indexing not in ("ij", "xy"):
        raise RuntimeError(f"meshgrid: got indexing={indexing!r}, expected 'ij' or 'xy'")
    xs = _several(tensors)
    for x in xs:
        if as_array(x, "meshgrid").ndim > 1:
            raise RuntimeError(f"meshgrid: expected numbers or vectors, got shape {tuple(x.shape)}")
    swap = indexing == "xy" and len(xs) > 1
    xs = [xs[1], xs[0], *xs[2:]] if swap else xs
    full = tuple(x.array.size for x in xs)
    grids = [
        expand(reshape(x, *(-1 if d == i else 1 for d in range(len(xs)))), *full)  # (n) -> (1, .., n, .., 1)
        for i, x in enumerate(xs)
    ]
    return (grids[1], grids[0], *grids[2:]) if swap else tuple(grids)


def cartesian_prod(*tensors: Tensor) -> Tensor:
    """All combinations of one element of each vector, a row each: (n), (m) -> (n m, 2). Of one vector, itself.

    >>> x, y = z2g.tensor([1.0, 2.0], requires_grad=True), z2g.tensor([3.0, 4.0, 5.0])
    >>> z2g.cartesian_prod(x, y).sum().backward(); x.grad  # each xᵢ stands in three rows
    tensor([3., 3.])
    """
    for x in tensors:
        if as_array(x, "cartesian_prod").ndim != 1:
            raise RuntimeError(f"cartesian_prod: expected vectors, got shape {tuple(x.shape)}")
    if len(tensors) == 1:
        return tensors[0]
    return stack([flatten(grid) for grid in meshgrid(*tensors)], 1)


def combinations(input: Tensor, r: int = 2, with_replacement: bool = False) -> Tensor:
    """All ways to choose r elements of a vector, a row each, in the order in which they stand: (n) -> (k, r).

    >>> x = z2g.tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> z2g.combinations(x).prod(1).sum().backward(); x.grad  # x₀x₁ + x₀x₂ + x₁x₂
    tensor([5., 4., 3.])
    """
    a, r = as_array(input, "combinations"), as_int(r, "combinations: r")
    if a.ndim != 1:
        raise RuntimeError(f"combinations: expected a vector, got shape {tuple(a.shape)}")
    if r < 0:
        raise RuntimeError(f"combinations: expected r >= 0, got {r}")
    choose = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    if not r:
        return getitem(input, slice(0, 0))
    rows = np.array([*choose(range(len(a)), r)], np.int64).reshape(-1, r)
    return getitem(input, input.make(to_device(rows, device_of(a))))


def broadcast_tensors(*tensors: Any) -> tuple[Tensor, ...]:
    """Views of all in the one shape that they broadcast to.

    >>> x, y = z2g.tensor([[1.0], [2.0]], requires_grad=True), z2g.zeros(3)
    >>> z2g.broadcast_tensors(x, y)[0].sum().backward(); x.grad.tolist()
    [[3.0], [3.0]]
    """
    xs = _several(tensors)
    try:
        full = np.broadcast_shapes(*(as_array(x, "broadcast_tensors").shape for x in xs))
    except ValueError as error:
        shapes = ", ".join(str(tuple(x.shape)) for x in xs)
        raise RuntimeError(f"broadcast_tensors: shapes {shapes} do not broadcast") from error
    return tuple(expand(x, *full) for x in xs)


# --- Cutting -----------------------------------------------------------------------------------------------------


def tensor_split(input: Tensor, indices_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """x cut along `dim` into so many views, the first ones larger by 1 where it does not come out even; or before the
    indices in a list.

    >>> x = z2g.tensor([1.0, 2.0, 3.0], requires_grad=True); a, b = x.tensor_split(2)  # 2 and 1 elements
    >>> (5 * a.sum() + 7 * b.sum()).backward(); x.grad
    tensor([5., 5., 7.])
    """
    a = as_array(input, "tensor_split")
    if not a.ndim:
        raise RuntimeError("tensor_split: expected at least 1 dimension, got a 0-d tensor")
    n = a.shape[one_dim(dim, a.ndim, "tensor_split")]
    if isinstance(indices_or_sections, Variable):
        indices_or_sections = indices_or_sections.array.tolist()
    if isinstance(indices_or_sections, (list, tuple)):
        cuts = [min(max(i + n if i < 0 else i, 0), n) for i in indices_or_sections]
        starts = [0, *cuts]
        return tuple(narrow(input, dim, s, max(e - s, 0)) for s, e in zip(starts, [*cuts, n], strict=True))
    parts = as_int(indices_or_sections, "tensor_split: sections")
    if parts <= 0:
        raise RuntimeError(f"tensor_split: expected sections > 0, got {parts}")
    return split(input, [n // parts + (i < n % parts) for i in range(parts)], dim)


def hsplit(input: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """x cut into columns (a vector into pieces); as `tensor_split`, but a number must divide the size.

    >>> x = z2g.ones(1, 2, requires_grad=True); left, right = x.hsplit(2)
    >>> (5 * left + 7 * right).sum().backward(); x.grad
    tensor([[5., 7.]])
    """
    return _cut("hsplit", input, indices_or_sections, 1 if as_array(input, "hsplit").ndim > 1 else 0, 1)


def vsplit(input: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """x cut into rows; as `hsplit`.

    >>> x = z2g.ones(2, 1, requires_grad=True); top, bottom = x.vsplit(2)
    >>> (5 * top + 7 * bottom).sum().backward(); x.grad.tolist()
    [[5.0], [7.0]]
    """
    return _cut("vsplit", input, indices_or_sections, 0, 2)


def dsplit(input: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """x cut along its third dimension; as `hsplit`.

    >>> x = z2g.ones(1, 1, 2, requires_grad=True); near, far = x.dsplit(2)
    >>> (5 * near + 7 * far).sum().backward(); x.grad
    tensor([[[5., 7.]]])
    """
    return _cut("dsplit", input, indices_or_sections, 2, 3)


def _cut(name: str, x: Tensor, where: Any, dim: int, least: int) -> tuple[Tensor, ...]:
    a = as_array(x, name)
    if a.ndim < least:
        raise RuntimeError(f"{name}: expected at least {least} dimension(s), got shape {tuple(a.shape)}")
    if isinstance(where, int) and (where <= 0 or a.shape[dim] % where):
        raise RuntimeError(f"{name}: {where} does not divide dim {dim} of size {a.shape[dim]}")
    return tensor_split(x, where, dim)


# --- Joining -----------------------------------------------------------------------------------------------------


def atleast_1d(*tensors: Any) -> Any:
    """x with at least 1 dimension; of several, a tuple.

    >>> x = z2g.tensor(1.0, requires_grad=True); z2g.atleast_1d(x)[0].backward(); x.grad
    tensor(1.)
    """
    return _each(lambda x: reshape(x, 1) if not x.array.ndim else x, tensors, "atleast_1d")


def atleast_2d(*tensors: Any) -> Any:
    """x with at least 2 dimensions, a vector as a row; of several, a tuple.

    >>> x = z2g.tensor([1.0, 2.0], requires_grad=True); z2g.atleast_2d(x)[0, 1].backward(); x.grad
    tensor([0., 1.])
    """
    return _each(lambda x: x if x.array.ndim > 1 else reshape(x, 1, -1), tensors, "atleast_2d")


def atleast_3d(*tensors: Any) -> Any:
    """x with at least 3 dimensions: (n) -> (1, n, 1), (n, m) -> (n, m, 1); of several, a tuple.

    >>> x = z2g.tensor([1.0, 2.0], requires_grad=True); z2g.atleast_3d(x)[0, 1, 0].backward(); x.grad
    tensor([0., 1.])
    """

    def deep(x: Tensor) -> Tensor:
        x = x if x.array.ndim > 1 else reshape(x, 1, -1)
        return x if x.array.ndim > 2 else unsqueeze(x, -1)

    return _each(deep, tensors, "atleast_3d")


def _each(change: Any, tensors: tuple, name: str) -> Any:
    xs = _several(tensors)
    for x in xs:
        as_array(x, name)
    made = tuple(change(x) for x in xs)
    return made[0] if len(tensors) == 1 and isinstance(tensors[0], Variable) else made


def dstack(tensors: Any) -> Tensor:
    """Tensors joined along their third dimension: of matrices (n, m), (n, m, k).

    >>> x = z2g.tensor([1.0, 2.0], requires_grad=True); z2g.dstack([x, 3 * x]).sum().backward(); x.grad
    tensor([4., 4.])
    """
    return cat(atleast_3d(list(tensors)), 2)


def column_stack(tensors: Any) -> Tensor:
    """Vectors as the columns of a matrix; matrices side by side.

    >>> x = z2g.tensor([1.0, 2.0], requires_grad=True); z2g.column_stack([x, 3 * x])[1].sum().backward(); x.grad
    tensor([0., 4.])
    """
    return cat([x if as_array(x, "column_stack").ndim > 1 else reshape(x, -1, 1) for x in tensors], 1)


def block_diag(*tensors: Any) -> Tensor:
    """Matrices along the diagonal of a larger one, 0 elsewhere.

    >>> x, y = z2g.tensor([[1.0]], requires_grad=True), z2g.tensor([[2.0, 3.0]])
    >>> z2g.block_diag(x, y).sum().backward(); x.grad
    tensor([[1.]])
    """
    xs = [atleast_2d(x) for x in tensors]
    if any(x.array.ndim > 2 for x in xs):
        raise RuntimeError(f"block_diag: expected matrices, got shapes {', '.join(str(tuple(x.shape)) for x in xs)}")
    sizes = [x.array.shape for x in xs]
    out = _blank(xs[0], tuple(map(sum, zip(*sizes, strict=True))))
    row = column = 0
    for x, (n, m) in zip(xs, sizes, strict=True):
        setitem(out, (slice(row, row + n), slice(column, column + m)), x)
        row, column = row + n, column + m
    return out


def _blank(like: Tensor, shape: tuple) -> Tensor:
    """Zeros to be written into."""
    return like.make(of(like.array).zeros(shape, like.array.dtype))


# --- Turning -----------------------------------------------------------------------------------------------------


def ravel(input: Tensor) -> Tensor:
    """All elements in one dimension: `reshape(-1)`.

    >>> x = z2g.ones(1, 2, requires_grad=True); x.ravel()[1].backward(); x.grad
    tensor([[0., 1.]])
    """
    return reshape(input, -1)


def fliplr(input: Tensor) -> Tensor:
    """The columns in reverse order.

    >>> x = z2g.ones(1, 2, requires_grad=True); x.fliplr()[0, 0].backward(); x.grad
    tensor([[0., 1.]])
    """
    if as_array(input, "fliplr").ndim < 2:
        raise RuntimeError(f"fliplr: expected at least 2 dimensions, got shape {tuple(input.shape)}")
    return flip(input, 1)


def flipud(input: Tensor) -> Tensor:
    """The rows in reverse order.

    >>> x = z2g.ones(2, requires_grad=True); x.flipud()[0].backward(); x.grad
    tensor([0., 1.])
    """
    if as_array(input, "flipud").ndim < 1:
        raise RuntimeError("flipud: expected at least 1 dimension, got a 0-d tensor")
    return flip(input, 0)


def rot90(input: Tensor, k: int = 1, dims: Any = (0, 1)) -> Tensor:
    """Turned k times by 90° in the plane of two dims, from the first towards the second.

    >>> x = z2g.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    >>> x.rot90()[0, 0].backward(); x.grad  # the upper right corner moves to the upper left
    tensor([[0., 1.],
            [0., 0.]])
    """
    a = as_array(input, "rot90")
    if len(dims) != 2:
        raise RuntimeError(f"rot90: expected two dims, got {tuple(dims)}")
    first, second = (one_dim(d, a.ndim, "rot90") for d in dims)
    if first == second:
        raise RuntimeError(f"rot90: expected two different dims, got {tuple(dims)}")
    k = as_int(k, "rot90: k") % 4
    if k in (0, 2):
        return flip(input, first, second) if k else input.clone()
    return flip(transpose(input, first, second), first if k == 1 else second)


def diag_embed(input: Tensor, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """Matrices with the last dimension of x as their diagonal number `offset`, 0 elsewhere: (..., n) -> (..., n, n).

    >>> x = z2g.tensor([[1.0, 2.0]], requires_grad=True); z2g.diag_embed(x).sum().backward(); x.grad
    tensor([[1., 1.]])
    """
    a = as_array(input, "diag_embed")
    if not a.ndim:
        raise RuntimeError("diag_embed: expected at least 1 dimension, got a 0-d tensor")
    n = a.shape[-1] + abs(as_int(offset, "diag_embed: offset"))
    out = _blank(input, (*a.shape[:-1], n, n))
    setitem(diagonal(out, offset, -2, -1), ..., input)
    return movedim(out, (-2, -1), (dim1, dim2))


def take(input: Tensor, index: Tensor) -> Tensor:
    """The elements whose numbers, counted through all of x, are in `index`, in its shape.

    >>> x = z2g.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    >>> z2g.take(x, z2g.tensor([3, 0, 3])).sum().backward(); x.grad
    tensor([[1., 0.],
            [0., 2.]])
    """
    return getitem(reshape(input, -1), index)


def diagflat(input: Tensor, offset: int = 0) -> Tensor:
    """All elements as the diagonal number `offset` of a matrix.

    >>> x = z2g.ones(1, 2, requires_grad=True); z2g.diagflat(x)[1, 1].backward(); x.grad
    tensor([[0., 1.]])
    """
    return diag_embed(reshape(input, -1), offset)


def unfold(input: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """All windows of `size` elements along a dimension, `step` apart, as a last dimension: (n) -> (k, size).

    A copy; in torch a view.

    >>> x = z2g.tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> x.unfold(0, 2, 1).sum().backward(); x.grad  # the middle one stands in both windows
    tensor([1., 2., 1.])
    """
    a = as_array(input, "unfold")
    axis = one_dim(dimension, a.ndim, "unfold")
    n = a.shape[axis] if a.ndim else 1
    if not 0 <= size <= n or step <= 0:
        raise RuntimeError(f"unfold: windows of {size}, {step} apart, do not fit dim {dimension} of size {n}")
    places = np.arange(0, n - size + 1, step)[:, None] + np.arange(size)  # (k, size)
    z = getitem(input, (slice(None),) * axis + (input.make(to_device(places, device_of(a))),))
    return permute(z, *(d for d in range(z.array.ndim) if d != axis + 1), axis + 1)
