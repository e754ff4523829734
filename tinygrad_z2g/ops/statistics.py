"""The middle and other places in order, and sums that leave NaN out. Composed of `sort`, `gather` and sums; no rule of
its own.

It knows nothing of gradients: an element that was chosen receives that of the result.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..arrays import dtypes
from ..arrays.backend import device_of, of, to_device, to_host
from ..core.engine import Variable
from .common import as_array, as_int, constant, number, numpy_names, one_dim, row_major
from .elementwise import div, isnan, lerp, masked_fill
from .indexing import gather
from .reduction import ValuesIndices, amax, amin, mean, std, sum, var
from .shape import movedim, reshape, squeeze
from .sorting import argsort, sort

if TYPE_CHECKING:
    from ..tensor import Tensor


class MinMax(NamedTuple):
    """What `aminmax` returns."""

    min: Tensor
    max: Tensor


def _picked(x: Tensor, indices: Any, dim: int, keepdim: bool) -> ValuesIndices:
    """The elements at `indices`, an array with size 1 along dim, and where they stood."""
    places = constant(x, row_major(indices))
    values = gather(x, dim, places)
    if keepdim or not x.array.ndim:
        return ValuesIndices(values, places)
    return ValuesIndices(squeeze(values, dim), squeeze(places, dim))


@numpy_names
def kthvalue(input: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> ValuesIndices:
    """The k-th smallest element along `dim`, k counted from 1, and where it stood.

    >>> x = z2g.tensor([3.0, 1.0, 2.0], requires_grad=True); x.kthvalue(2).values.backward(); x.grad
    tensor([0., 0., 1.])
    """
    a = as_array(input, "kthvalue")
    axis, k = one_dim(dim, a.ndim, "kthvalue"), as_int(k, "kthvalue: k")
    n = a.shape[axis] if a.ndim else 1
    if not 1 <= k <= n:
        raise RuntimeError(f"kthvalue: k = {k} is out of range for dim {dim} of size {n}")
    order = argsort(input, axis).array
    return _picked(input, order[(slice(None),) * axis + (slice(k - 1, k),)] if a.ndim else order, axis, keepdim)


@numpy_names
def median(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """The middle element, of an even number the lower of the two; along a `dim` with where it stood. NaN if there.

    >>> x = z2g.tensor([3.0, 1.0, 2.0, 4.0], requires_grad=True); x.median().backward(); x.grad
    tensor([0., 0., 1., 0.])
    """
    return _median("median", input, dim, keepdim)


@numpy_names
def nanmedian(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """As `median`, of the elements that are not NaN.

    >>> x = z2g.tensor([3.0, z2g.nan, 2.0], requires_grad=True); x.nanmedian().backward(); x.grad
    tensor([0., 0., 1.])
    """
    return _median("nanmedian", input, dim, keepdim)


def _median(name: str, x: Tensor, dim: int | None, keepdim: bool) -> Any:
    a = as_array(x, name)
    if dim is None:
        if not a.size:
            return x.make(of(a).full((), math.nan, a.dtype))
        return _median(name, reshape(x, -1), 0, False).values
    axis = one_dim(dim, a.ndim, name)
    if a.ndim and not a.shape[axis]:
        raise IndexError(f"{name}: shape {tuple(a.shape)} has no elements along dim {dim}; its median is undefined")
    xp, order = of(a), argsort(x, axis).array
    if not a.ndim:
        return _picked(x, order, 0, keepdim)
    missing = xp.isnan(a).sum(axis, keepdims=True) if a.dtype.kind == "f" else 0  # they stand at the end
    n = a.shape[axis]
    middle = (n - missing - 1) // 2
    if name == "median" and a.dtype.kind == "f":
        middle = xp.where(missing > 0, n - missing, middle)
    middle = xp.broadcast_to(xp.maximum(xp.asarray(middle), 0), (*a.shape[:axis], 1, *a.shape[axis + 1 :]))
    return _picked(x, xp.take_along_axis(order, middle, axis), axis, keepdim)


@numpy_names
def mode(input: Tensor, dim: int = -1, keepdim: bool = False) -> ValuesIndices:
    """The commonest element along `dim`, of equally common ones the smallest, and where its last one stands.

    >>> x = z2g.tensor([1.0, 2.0, 2.0], requires_grad=True); x.mode().values.backward(); x.grad
    tensor([0., 0., 1.])
    """
    a = as_array(input, "mode")
    axis = one_dim(dim, a.ndim, "mode")
    if not a.ndim:
        return _picked(input, of(a).zeros((), dtypes.int64), 0, keepdim)
    rows = np.moveaxis(to_host(a), axis, -1)
    found = np.empty((*rows.shape[:-1], 1), np.int64)
    for place in np.ndindex(*rows.shape[:-1]):
        values, counts = np.unique(rows[place], return_counts=True)
        found[place] = np.flatnonzero(rows[place] == values[counts.argmax()])[-1]
    return _picked(input, to_device(np.moveaxis(found, -1, axis), device_of(a)), axis, keepdim)


def msort(input: Tensor) -> Tensor:
    """The elements in order along the first dimension; see `sort`.

    >>> x = z2g.tensor([3.0, 1.0], requires_grad=True); z2g.msort(x)[0].backward(); x.grad
    tensor([0., 1.])
    """
    return sort(input, 0).values


_INTERPOLATIONS = ("linear", "lower", "higher", "midpoint", "nearest")


@numpy_names
def quantile(
    input: Tensor, q: Any, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear"
) -> Tensor:
    """What a share q of the elements, a number or a vector, lies below: of n elements in order the one at (n - 1) q.

    Between two elements: `interpolation` "linear", "lower", "higher", "midpoint" or "nearest". Of a vector q the
    results stand along a new first dimension.

    >>> x = z2g.tensor([1.0, 2.0, 4.0], requires_grad=True); x.quantile(0.25).backward(); x.grad  # half way
    tensor([0.5000, 0.5000, 0.0000])
    """
    return _quantile("quantile", input, q, dim, keepdim, interpolation)


@numpy_names
def nanquantile(
    input: Tensor, q: Any, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear"
) -> Tensor:
    """As `quantile`, of the elements that are not NaN.

    >>> x = z2g.tensor([1.0, z2g.nan, 3.0], requires_grad=True); x.nanquantile(0.5).backward(); x.grad
    tensor([0.5000, 0.0000, 0.5000])
    """
    return _quantile("nanquantile", input, q, dim, keepdim, interpolation)


def _quantile(name: str, x: Tensor, q: Any, dim: int | None, keepdim: bool, interpolation: str) -> Tensor:
    a = as_array(x, name)
    if a.dtype not in (dtypes.float32, dtypes.float64):
        raise RuntimeError(f"{name}: expected float32 or float64, got {a.dtype}")
    if interpolation not in _INTERPOLATIONS:
        raise RuntimeError(f"{name}: got interpolation {interpolation!r}, expected one of {', '.join(_INTERPOLATIONS)}")
    shares = to_host(q.array) if isinstance(q, Variable) else np.asarray(number(q, f"{name}: q"))
    if shares.ndim > 1 or not ((shares >= 0) & (shares <= 1)).all():
        raise RuntimeError(f"{name}: q must be a number or a vector, with values from 0 to 1")
    if not a.size:
        raise RuntimeError(f"{name}: expected a tensor that is not empty")
    axis = None if dim is None else one_dim(dim, a.ndim, name)
    rows = reshape(x, -1) if axis is None or not a.ndim else movedim(x, axis, -1)  # (..., n)
    rows, xp, n = sort(rows).values, of(a), rows.array.shape[-1]
    missing = xp.isnan(rows.array).sum(-1, keepdims=True)
    many = xp.where(missing > 0, n if name == "quantile" else xp.maximum(n - missing, 1), n)  # NaN stand at the end
    wanted = to_device(shares.reshape(-1).astype(a.dtype), device_of(a))
    place = wanted * (many - 1).astype(a.dtype)  # (..., k)
    if name == "quantile":  # one NaN makes all NaN
        place = xp.where(missing > 0, a.dtype.type(n - 1), place)
    low, high = xp.floor(place), xp.ceil(place)
    if interpolation == "nearest":
        low = high = xp.round(place)
    low, high = (high, high) if interpolation == "higher" else (low, low) if interpolation == "lower" else (low, high)
    below, above = (gather(rows, -1, constant(x, end.astype(dtypes.int64))) for end in (low, high))
    share = 0.5 if interpolation == "midpoint" else constant(x, place - low)
    z = lerp(below, above, share) if low is not high else below
    z = movedim(z, -1, 0)  # (..., k) -> (k, ...)
    if keepdim:
        kept = (1,) * a.ndim if axis is None else (*a.shape[:axis], 1, *a.shape[axis + 1 :])
        z = reshape(z, -1, *kept)
    return z if shares.ndim else squeeze(z, 0)


# --- Two results at once -----------------------------------------------------------------------------------------


@numpy_names
def aminmax(input: Tensor, *, dim: int | None = None, keepdim: bool = False) -> MinMax:
    """The smallest and the largest element; see `amin`.

    >>> x = z2g.tensor([3.0, 1.0], requires_grad=True); low, high = x.aminmax(); (5 * low + high).backward(); x.grad
    tensor([1., 5.])
    """
    return MinMax(amin(input, dim, keepdim), amax(input, dim, keepdim))


@numpy_names
def var_mean(
    input: Tensor, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *, correction: Any = None
) -> tuple[Tensor, Tensor]:
    """`var` and `mean`.

    >>> x = z2g.tensor([1.0, 3.0], requires_grad=True); v, m = z2g.var_mean(x); (v + m).backward(); x.grad
    tensor([-1.5000,  2.5000])
    """
    v = var(input, dim, unbiased, keepdim, correction=correction)
    return v, mean(input, None if isinstance(dim, bool) else dim, keepdim)


@numpy_names
def std_mean(
    input: Tensor, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *, correction: Any = None
) -> tuple[Tensor, Tensor]:
    """`std` and `mean`.

    >>> x = z2g.tensor([1.0, 3.0], requires_grad=True); s, m = z2g.std_mean(x); (0 * s + m).backward(); x.grad
    tensor([0.5000, 0.5000])
    """
    s = std(input, dim, unbiased, keepdim, correction=correction)
    return s, mean(input, None if isinstance(dim, bool) else dim, keepdim)


# --- Running extremes, sums without NaN --------------------------------------------------------------------------


def cummax(input: Tensor, dim: int) -> ValuesIndices:
    """The largest element so far along `dim`, and where it stands: the last of equals.

    >>> x = z2g.tensor([1.0, 3.0, 2.0], requires_grad=True); x.cummax(0).values.sum().backward(); x.grad
    tensor([1., 2., 0.])
    """
    return _running("cummax", input, dim)


def cummin(input: Tensor, dim: int) -> ValuesIndices:
    """The smallest element so far along `dim`, and where it stands: the last of equals.

    >>> x = z2g.tensor([2.0, 3.0, 1.0], requires_grad=True); x.cummin(0).values.sum().backward(); x.grad
    tensor([2., 0., 1.])
    """
    return _running("cummin", input, dim)


def _running(name: str, x: Tensor, dim: int) -> ValuesIndices:
    a = as_array(x, name)
    axis = one_dim(dim, a.ndim, name)
    if not a.ndim:
        return ValuesIndices(x.clone(), constant(x, of(a).zeros((), dtypes.int64)))
    host = to_host(a)
    best = (np.maximum if name == "cummax" else np.minimum).accumulate(host, axis)
    at = np.arange(host.shape[axis]).reshape([-1 if d == axis else 1 for d in range(host.ndim)])
    hit = (host == best) | (np.isnan(host) if host.dtype.kind == "f" else False)
    places = np.maximum.accumulate(np.where(hit, at, 0), axis)
    indices = constant(x, to_device(places, device_of(a)))
    return ValuesIndices(gather(x, axis, indices), indices)


@numpy_names
def nansum(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """`sum` with 0 in place of NaN.

    >>> x = z2g.tensor([1.0, z2g.nan], requires_grad=True); x.nansum().backward(); x.grad
    tensor([1., 0.])
    """
    return sum(masked_fill(input, isnan(input), 0), dim, keepdim, dtype=dtype)


@numpy_names
def nanmean(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """`mean` of the elements that are not NaN.

    >>> x = z2g.tensor([1.0, z2g.nan, 3.0], requires_grad=True); x.nanmean().backward(); x.grad
    tensor([0.5000, 0.0000, 0.5000])
    """
    if as_array(input, "nanmean").dtype.kind != "f":
        raise RuntimeError(f"nanmean: expected floating point, got {input.dtype}; convert first: x.float().nanmean()")
    kind = input.array.dtype if dtype is None else dtypes.as_dtype(dtype)
    wide = dtypes.float32 if kind == dtypes.float16 else kind  # the sum and even the count may be beyond float16
    total, there = nansum(input, dim, keepdim, dtype=wide), (~isnan(input)).to(wide)
    return div(total, sum(there, dim, keepdim)).to(kind)
