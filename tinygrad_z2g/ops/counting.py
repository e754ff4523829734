"""Where, which and how often: places, different values, counts. Results are integers, through which no gradient passes.

On a GPU most of these wait for it: how large a result is depends on the numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..arrays import dtypes
from ..arrays.backend import device_of, of, to_device, to_host
from ..core.engine import Variable
from .common import as_array, as_int, constant, number, one_dim, same_device

if TYPE_CHECKING:
    from ..tensor import Tensor


def nonzero(input: Tensor, *, as_tuple: bool = False) -> Any:
    """The indices of all elements that are not 0, a row each: (k, ndim). `as_tuple`: a vector for each dimension, by
    which x can be indexed.

    >>> z2g.tensor([[0, 5], [6, 0]]).nonzero()
    tensor([[0, 1],
            [1, 0]])
    """
    a = as_array(input, "nonzero")
    xp = of(a)
    if as_tuple:
        return tuple(constant(input, found.astype(dtypes.int64)) for found in xp.nonzero(a if a.ndim else a.reshape(1)))
    if not a.ndim:
        return constant(input, xp.zeros((int(bool(a)), 0), dtypes.int64))
    return constant(input, xp.stack(xp.nonzero(a), 1).astype(dtypes.int64))


def argwhere(input: Tensor) -> Tensor:
    """The indices of all elements that are not 0, a row each: (k, ndim)."""
    return nonzero(input)


def unique(
    input: Tensor, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False,
    dim: int | None = None,
) -> Any:  # fmt: skip
    """The different elements in order, or along `dim` the different slices. Of x also, if asked for, which of them
    stands at each place, and how often each occurs.

    >>> z2g.tensor([3, 1, 3]).unique(return_counts=True)
    (tensor([1, 3]), tensor([1, 2]))
    """
    a = as_array(input, "unique")
    axis = None if dim is None else one_dim(dim, a.ndim, "unique")
    host = to_host(a)  # CuPy knows no axis
    values, inverse, counts = np.unique(host, return_inverse=True, return_counts=True, axis=axis)
    inverse = inverse.reshape(host.shape if axis is None else -1)
    return _answers(input, values, inverse, counts, return_inverse, return_counts)


def unique_consecutive(
    input: Tensor, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
) -> Any:
    """As `unique`, but only neighbours are compared: [1, 1, 2, 1] gives [1, 2, 1]."""
    host = to_host(as_array(input, "unique_consecutive"))
    rows = host.reshape(-1) if dim is None else np.moveaxis(host, one_dim(dim, host.ndim, "unique_consecutive"), 0)
    new = np.ones(len(rows), bool)
    new[1:] = (rows[1:] != rows[:-1]).reshape(max(len(rows) - 1, 0), -1).any(1)
    values = rows[new] if dim is None else np.moveaxis(rows[new], 0, dim)
    inverse = np.cumsum(new) - 1
    counts = np.diff(np.append(np.flatnonzero(new), len(rows)))
    inverse = inverse.reshape(host.shape) if dim is None else inverse
    return _answers(input, values, inverse, counts, return_inverse, return_counts)


def _answers(x: Tensor, values: Any, inverse: Any, counts: Any, want_inverse: bool, want_counts: bool) -> Any:
    home = device_of(x.array)
    found = [values, *([inverse] if want_inverse else []), *([counts] if want_counts else [])]
    made = [constant(x, to_device(np.ascontiguousarray(part), home)) for part in found]
    return made[0] if len(made) == 1 else tuple(made)


def isin(elements: Any, test_elements: Any, *, assume_unique: bool = False, invert: bool = False) -> Tensor:
    """Whether each element is one of `test_elements`, as bool."""
    like = elements if isinstance(elements, Variable) else test_elements
    here, there = (to_host(x.array) if isinstance(x, Variable) else np.asarray(x) for x in (elements, test_elements))
    return constant(like, to_device(np.isin(here, there, assume_unique, invert), device_of(as_array(like, "isin"))))


def bincount(input: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    """How often 0, 1, 2, ... occur in a vector of integers >= 0; or the sums of the weights of those places.

    >>> z2g.tensor([1, 3, 1]).bincount()
    tensor([0, 2, 0, 1])
    """
    a = as_array(input, "bincount")
    if a.ndim != 1 or a.dtype.kind not in "iu" or (a.size and a.min() < 0):
        raise RuntimeError("bincount: expected a vector of integers >= 0")
    if as_int(minlength, "bincount: minlength") < 0:
        raise RuntimeError(f"bincount: minlength must be >= 0, got {minlength}")
    if weights is None:
        return constant(input, of(a).bincount(a, minlength=minlength).astype(dtypes.int64))
    w = as_array(weights, "bincount")
    if w.shape != a.shape:
        raise RuntimeError(f"bincount: weights of shape {tuple(w.shape)} for an input of {tuple(a.shape)}")
    kind = w.dtype if w.dtype == dtypes.float32 else dtypes.float64
    return constant(input, of(a).bincount(a, w.astype(dtypes.float64), minlength).astype(kind))


def histc(input: Tensor, bins: int = 100, min: float = 0, max: float = 0) -> Tensor:
    """How many elements fall into each of `bins` equal parts from min to max (those of x where both are 0), in x's
    dtype. What lies outside is not counted; max itself belongs to the last part."""
    a = as_array(input, "histc")
    if a.dtype.kind != "f":
        raise RuntimeError(f"histc: expected floating point, got {a.dtype}; convert first: x.float()")
    low, high, bins = float(number(min, "histc: min")), float(number(max, "histc: max")), as_int(bins, "histc: bins")
    host = to_host(a).reshape(-1).astype(np.float64)
    if low == high == 0 and host.size:
        low, high = float(host.min()), float(host.max())
    if low == high:
        low, high = low - 1, high + 1
    if bins <= 0 or not low < high:
        raise RuntimeError(f"histc: expected bins > 0 and min <= max, got {bins}, {low} and {high}")
    inside = host[(host >= low) & (host <= high)]
    places = np.minimum(((inside - low) / (high - low) * bins).astype(np.int64), bins - 1)
    return constant(input, to_device(np.bincount(places, minlength=bins).astype(a.dtype), device_of(a)))


def searchsorted(
    sorted_sequence: Tensor, input: Any, *, out_int32: bool = False, right: bool = False, side: str | None = None
) -> Tensor:
    """Before which element of a sequence in order, along the last dimension, each value belongs: the first i with
    sequence[i] >= value; with `right` the first with sequence[i] > value. One sequence for all, or one for each row.

    >>> z2g.searchsorted(z2g.tensor([1, 3, 5]), z2g.tensor([3, 4]), right=True)
    tensor([2, 2])
    """
    a = as_array(sorted_sequence, "searchsorted")
    if side not in (None, "left", "right") or (right and side == "left"):
        raise RuntimeError(f"searchsorted: got side={side!r} and right={right}, expected 'left' or 'right'")
    if isinstance(input, Variable):
        same_device("searchsorted", sorted_sequence, input)
    values = to_host(input.array) if isinstance(input, Variable) else np.asarray(number(input, "searchsorted: input"))
    sequence = to_host(a)
    way: Literal["left", "right"] = "right" if right or side == "right" else "left"
    if sequence.ndim == 1:
        found = np.searchsorted(sequence, values, way)
    elif sequence.shape[:-1] == values.shape[:-1]:
        found = np.empty(values.shape, np.int64)
        for place in np.ndindex(*sequence.shape[:-1]):
            found[place] = np.searchsorted(sequence[place], values[place], way)
    else:
        raise RuntimeError(
            f"searchsorted: sequences {tuple(sequence.shape)} and values {tuple(values.shape)} must agree but for the "
            "last dimension, or there must be one sequence for all"
        )
    return constant(sorted_sequence, to_device(np.asarray(found, np.int32 if out_int32 else np.int64), device_of(a)))


def bucketize(input: Any, boundaries: Tensor, *, out_int32: bool = False, right: bool = False) -> Tensor:
    """In which of the buckets between `boundaries`, in order, each value falls: `searchsorted` for one sequence."""
    if as_array(boundaries, "bucketize").ndim != 1:
        raise RuntimeError(f"bucketize: boundaries must be a vector, got shape {tuple(boundaries.shape)}")
    return searchsorted(boundaries, input, out_int32=out_int32, right=right)
