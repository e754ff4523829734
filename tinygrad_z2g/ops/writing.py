"""Writing many places at once: by number along a dimension, by a mask, with sums and products where indices repeat.

Each returns a copy; the methods with `_` at the end write into x. Composed of `x[...] = v` and `scatter_add`: it knows
nothing of rules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import dtypes
from ..arrays.backend import device_of, of, to_device, to_host
from ..core.engine import Variable, needs_grad
from ..core.modes import is_grad_enabled
from .common import as_array, check_broadcast, constant, number, one_dim, same_device
from .elementwise import div, masked_fill, mul
from .indexing import getitem, scatter_add, setitem
from .shape import broadcast_to, expand, narrow, reshape

if TYPE_CHECKING:
    from ..tensor import Tensor


def _slices(name: str, x: Tensor, dim: int, index: Tensor) -> tuple:
    """The index of whole slices: x[:, :, index]. Numbers below 0 count from the end."""
    a, ids = as_array(x, name), as_array(index, name)
    same_device(name, x, index)
    if ids.ndim > 1 or ids.dtype not in (dtypes.int64, dtypes.int32):
        raise RuntimeError(f"{name}: expected a vector of int64 or int32, got {tuple(ids.shape)} of {ids.dtype}")
    return (slice(None),) * one_dim(dim, a.ndim, name) + (reshape(index, -1),)


def index_fill(input: Tensor, dim: int, index: Tensor, value: Any) -> Tensor:
    """x with `value`, a number or a 0-d tensor, in the slices along `dim` whose numbers are in `index`.

    >>> x = z2g.ones(3, requires_grad=True); x.index_fill(0, z2g.tensor([1]), 9.0).sum().backward(); x.grad
    tensor([1., 0., 1.])
    """
    where_, z = _slices("index_fill", input, dim, index), input.clone()
    if not input.array.ndim:
        return reshape(index_fill(reshape(input, 1), 0, index, value), ())
    if isinstance(value, Variable) and value.array.ndim:
        raise RuntimeError(f"index_fill: expected a number or a 0-d tensor, got shape {tuple(value.array.shape)}")
    setitem(z, where_, value if isinstance(value, Variable) else number(value, "index_fill: value"))
    return z


def index_copy(input: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """x with the slices of `source` in the places along `dim` that `index` names, each once.

    >>> x, s = z2g.ones(3, requires_grad=True), z2g.ones(1, requires_grad=True)
    >>> (5 * x.index_copy(0, z2g.tensor([1]), s)).sum().backward(); x.grad, s.grad
    (tensor([5., 0., 5.]), tensor([5.]))
    """
    where_, z = _slices("index_copy", input, dim, index), input.clone()
    _fitting("index_copy", input, dim, index, source)
    if not input.array.ndim:
        return reshape(index_copy(reshape(input, 1), 0, index, reshape(source, -1)), ())
    setitem(z, where_, source)
    return z


def index_add(input: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: float = 1) -> Tensor:
    """x with alpha times the slices of `source` added in the places along `dim` that `index` names. All count, also
    where a number stands twice.

    >>> x, s = z2g.zeros(2, requires_grad=True), z2g.ones(3, requires_grad=True)
    >>> z = x.index_add(0, z2g.tensor([1, 1, 0]), s); (z * z2g.tensor([5.0, 7.0])).sum().backward(); s.grad
    tensor([7., 7., 5.])
    """
    _slices("index_add", input, dim, index)
    _fitting("index_add", input, dim, index, source)
    axis = one_dim(dim, as_array(input, "index_add").ndim, "index_add")
    ids = reshape(index, *(-1 if d == axis else 1 for d in range(max(input.array.ndim, 1))))
    if not input.array.ndim:
        return reshape(scatter_add(reshape(input, 1), 0, reshape(index, -1), reshape(source, -1)), ())
    return scatter_add(input, axis, expand(ids, *source.array.shape), source if alpha == 1 else mul(source, alpha))


def _fitting(name: str, x: Tensor, dim: int, index: Tensor, source: Tensor) -> None:
    """Raise unless `source` has one slice for each index, of x's size and dtype."""
    a, b, n = x.array, as_array(source, name), index.array.size
    same_device(name, x, source)
    axis = one_dim(dim, a.ndim, name)
    expected = (*a.shape[:axis], n, *a.shape[axis + 1 :]) if a.ndim else b.shape
    if b.shape != expected or b.dtype != a.dtype:
        raise RuntimeError(f"{name}: source {tuple(b.shape)} of {b.dtype}, expected {tuple(expected)} of {a.dtype}")


def index_put(input: Tensor, indices: Any, values: Tensor, accumulate: bool = False) -> Tensor:
    """x with x[indices] = values; with `accumulate` they are added, also where an index repeats.

    >>> x, v = z2g.zeros(2, requires_grad=True), z2g.ones(2, requires_grad=True)
    >>> z = x.index_put((z2g.tensor([1, 1]),), v, accumulate=True); (7 * z).sum().backward(); v.grad, z.tolist()
    (tensor([7., 7.]), [0.0, 2.0])
    """
    z, place = input.clone(), tuple(indices)
    if not accumulate:
        setitem(z, place, values)
        return z
    n = as_array(input, "index_put").size
    ids = getitem(constant(input, of(input.array).arange(n).reshape(input.array.shape)), place)  # element numbers
    shown = broadcast_to(values, tuple(ids.shape))
    return reshape(scatter_add(reshape(input, -1), 0, reshape(ids, -1), reshape(shown, -1)), *input.array.shape)


def masked_scatter(input: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """x with the elements of `source`, in their order, where `mask` is True; the two broadcast.

    >>> x, s = z2g.zeros(3, requires_grad=True), z2g.tensor([8.0, 9.0], requires_grad=True)
    >>> z = x.masked_scatter(z2g.tensor([True, False, True]), s)
    >>> (z * z2g.tensor([5.0, 6.0, 7.0])).sum().backward(); x.grad, s.grad
    (tensor([0., 6., 0.]), tensor([5., 7.]))
    """
    a, m = as_array(input, "masked_scatter"), as_array(mask, "masked_scatter")
    if m.dtype.kind != "b":
        raise RuntimeError(f"masked_scatter: expected a bool mask, got {m.dtype}")
    if as_array(source, "masked_scatter").dtype != a.dtype:
        raise RuntimeError(f"masked_scatter: source is {source.dtype}, expected {a.dtype}, as x is")
    check_broadcast(a.shape, m.shape, "masked_scatter")
    shape = np.broadcast_shapes(a.shape, m.shape)
    z, chosen = expand(input, *shape).clone(), expand(mask, *shape)
    n = int(chosen.array.sum())
    if source.array.size < n:
        raise RuntimeError(f"masked_scatter: the mask has {n} True, the source {source.array.size} elements")
    setitem(z, chosen, narrow(reshape(source, -1), 0, 0, n))
    return z


_REDUCTIONS = ("sum", "prod", "mean", "amax", "amin")


def scatter_reduce(
    input: Tensor, dim: int, index: Tensor, src: Tensor, reduce: str, *, include_self: bool = True
) -> Tensor:
    """As `scatter_add`, but with the sum, product, mean or extreme of all that is written to a place, and of what x
    holds there unless `include_self` is False. Gradients for "sum" and "mean" alone.

    >>> x, src = z2g.ones(2, requires_grad=True), z2g.tensor([3.0, 5.0], requires_grad=True)
    >>> z = x.scatter_reduce(0, z2g.tensor([1, 1]), src, "mean"); z.sum().backward(); z.tolist(), src.grad
    ([1.0, 3.0], tensor([0.3333, 0.3333]))
    """
    if reduce not in _REDUCTIONS:
        raise RuntimeError(f"scatter_reduce: got {reduce!r}, expected one of {', '.join(_REDUCTIONS)}")
    a = as_array(input, "scatter_reduce")
    ones = src.make(of(src.array).ones_like(src.array))
    hits = scatter_add(constant(input, of(a).zeros_like(a)), dim, index, ones)  # how many are written to each place
    fresh = constant(input, hits.array > 0)
    start = {"sum": 0, "mean": 0, "prod": 1}.get(reduce)
    if reduce in ("sum", "mean"):
        x = input if include_self else masked_fill(input, fresh, start)
        z = scatter_add(x, dim, index, src)
        if reduce == "sum":
            return z
        count = hits.array + (1 if include_self else 0)
        return div(z, constant(input, of(a).maximum(count, 1)), rounding_mode=None if a.dtype.kind == "f" else "floor")
    if is_grad_enabled() and (needs_grad(input) or needs_grad(src)):
        raise NotImplementedError(f"scatter_reduce: {reduce!r} has no gradient here; 'sum' and 'mean' have")
    host, ids, values = (to_host(t.array) for t in (input, index, src))
    out, axis = host.copy(), one_dim(dim, host.ndim, "scatter_reduce")
    grid = [np.arange(n).reshape((-1,) + (1,) * (ids.ndim - 1 - d)) for d, n in enumerate(ids.shape)]
    if host.ndim:
        grid[axis] = ids
    values = values[tuple(slice(n) for n in ids.shape)]
    if not include_self:
        limits = np.finfo(host.dtype) if host.dtype.kind == "f" else np.iinfo(host.dtype)
        out[to_host(fresh.array)] = {"prod": 1, "amax": limits.min, "amin": limits.max}[reduce]
    at: Any = tuple(grid) or ...  # NumPy takes both, and its types know of neither
    {"prod": np.multiply, "amax": np.maximum, "amin": np.minimum}[reduce].at(out, at, values)
    return constant(input, to_device(out, device_of(a)))
