"""Operations that put elements in order along one dimension.

Each finds the order, which is a tensor of indices without gradient, and then reads the elements in that order: the
gradient of an element goes where it was read (see `indexing.gather`). It knows nothing of rules: `gather` owns the only
one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..arrays import dtypes
from ..arrays.backend import Array, of
from .common import as_array, as_int, constant, laid_out, one_dim, row_major
from .indexing import gather
from .reduction import ValuesIndices

if TYPE_CHECKING:
    from ..tensor import Tensor


def sort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False) -> ValuesIndices:
    """The elements in order along `dim`, and where each stood. NaN counts as the largest.

    Always stable, whether asked or not: equal elements keep their order.

    The gradient of the element that came to place i goes back to where it stood.
    >>> x = z2g.tensor([3.0, 1.0, 2.0], requires_grad=True)
    >>> (x.sort().values * z2g.tensor([10.0, 20.0, 30.0])).sum().backward(); x.grad
    tensor([30., 10., 20.])
    """
    indices = argsort(input, dim, descending)
    values = gather(input, dim, indices)
    values.array = laid_out(values.array, input.array)  # nobody has seen it yet
    return ValuesIndices(values, indices)


def argsort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False) -> Tensor:
    """The indices (int64) that put the elements in order along `dim`; see `sort`."""
    a = as_array(input, "argsort")
    axis = one_dim(dim, a.ndim, "argsort")
    return constant(input, laid_out(_order(a, axis, descending), a) if a.ndim else of(a).zeros((), dtypes.int64))


def _order(a: Array, axis: int, descending: bool) -> Array:
    xp = of(a)
    if not descending:
        return xp.argsort(a, axis, kind="stable").astype(dtypes.int64, copy=False)
    # From the far end, so that the reversal puts equal elements back into their order
    return xp.flip(a.shape[axis] - 1 - _order(xp.flip(a, axis), axis, False), axis)


def topk(input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> ValuesIndices:
    """The k largest (or smallest) elements along `dim` in order, and where they stood. RuntimeError for k > size.

    Those that were chosen receive the gradient, the others none.
    >>> x = z2g.tensor([3.0, 1.0, 2.0], requires_grad=True); x.topk(2).values.sum().backward(); x.grad
    tensor([1., 0., 1.])
    """
    a = as_array(input, "topk")
    axis, k = one_dim(dim, a.ndim, "topk"), as_int(k, "topk: k")
    n = a.shape[axis] if a.ndim else 1
    if not 0 <= k <= n:
        raise RuntimeError(f"topk: k = {k} is out of range for dim {dim} of size {n}")
    indices = argsort(input, dim, largest)
    if a.ndim:
        indices = constant(input, row_major(indices.narrow(dim, 0, k).array))
    return ValuesIndices(gather(input, dim, indices), indices)
