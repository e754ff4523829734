"""Operations that move elements, reshape, transpose, join, cut, and those that add them up.

The rule of a rearrangement is the reverse rearrangement. It needs the old shape, never the old array: holding that
would keep an activation alive that nobody reads.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...arrays import checks, dtypes
from ...arrays.backend import of, quiet
from ...arrays.layout import row_major, spread
from ..engine import Part, record, unchanged
from ..operands import as_array, record_view

if TYPE_CHECKING:
    from ...tensor import Tensor


def reshape(input: Tensor, *args: Any, shape: Any = None) -> Tensor:
    """The elements of x in row-major order under a new shape; one size may be -1. Shares memory where it can.

    z holds the same numbers in the same order, so gradient number i belongs to x's element number i.
    >>> x = z2g.tensor([1.0, 2.0, 3.0, 4.0], requires_grad=True)
    >>> (x.reshape(2, 2) * z2g.tensor([[1.0, 2.0], [3.0, 4.0]])).sum().backward(); x.grad
    tensor([1., 2., 3., 4.])
    """
    a = as_array(input, "reshape")
    before = a.shape
    z = a.reshape(checks.full_shape(a, checks.sizes(args, "reshape", shape), "reshape"))
    if a.flags.c_contiguous or of(a).may_share_memory(a, z):
        return record_view("reshape", z, input, lambda grad: grad.reshape(before))
    return record("reshape", z, (input, lambda grad: grad.reshape(before)))


def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """x with two dimensions exchanged. The rule exchanges them back.

    zⱼᵢ = xᵢⱼ, so ∂L/∂xᵢⱼ = gradⱼᵢ.
    >>> x = z2g.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True); x.transpose(0, 1)[0, 1].backward(); x.grad
    tensor([[0., 0.],
            [1., 0.]])
    """
    a = as_array(input, "transpose")
    i, j = checks.one_dim(dim0, a.ndim, "transpose"), checks.one_dim(dim1, a.ndim, "transpose")
    if not a.ndim:
        return record_view("transpose", a[...], input, unchanged)
    return record_view("transpose", a.swapaxes(i, j), input, lambda grad: grad.swapaxes(i, j))


def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """The tensors joined along `dim`; other sizes must agree. The rule cuts the gradient at the seams.

    Each input is a stretch of z, so its gradient is that stretch of grad.
    >>> x, y = z2g.tensor([1.0], requires_grad=True), z2g.tensor([2.0, 3.0], requires_grad=True)
    >>> (z2g.cat([x, y]) * z2g.tensor([5.0, 6.0, 7.0])).sum().backward(); x.grad, y.grad
    (tensor([5.]), tensor([6., 7.]))
    """
    arrays = checks.joinable([as_array(x, "cat") for x in checks.listed(tensors, "cat")], "cat")
    axis = checks.seam(arrays, dim)
    edges: list = []
    start = 0
    for x, a in zip(tensors, arrays, strict=True):
        cut = (slice(None),) * axis + (slice(start, start + (a.shape[axis] if a.ndim > axis else 0)),)
        edges.append((x, lambda grad, cut=cut, shape=a.shape: grad[cut].reshape(shape)))
        start = cut[-1].stop
    full = [a for a in arrays if a.shape != (0,)] or arrays[:1]
    return record("cat", row_major(of(full[0]).concatenate(full, axis)), *edges)


def getitem(input: Tensor, index: Any) -> Tensor:
    """z = x[index], a view: integers, slices, None and ... (For indices in arrays, which copy, see `ops.indexing`.)

    ∂L/∂x is the gradient of z at the place where it was read, and 0 elsewhere: what was not read has no part in z.
    >>> x = z2g.tensor([1.0, 2.0, 3.0], requires_grad=True); x[1:].sum().backward(); x.grad
    tensor([0., 1., 1.])
    """
    a, place = as_array(input, "index"), checks.check_index(index)
    return record_view("index", a[place], input, lambda grad: Part(grad, place))


def split(tensor: Tensor, split_size_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """x cut along `dim` into views: pieces of one size (the last may be smaller), or of the sizes in a list.

    >>> x = z2g.tensor([1.0, 2.0, 3.0], requires_grad=True); first, rest = x.split([1, 2])
    >>> (5 * first.sum() + 7 * rest.sum()).backward(); x.grad
    tensor([5., 7., 7.])
    """
    lengths, axis = checks.lengths_of(as_array(tensor, "split"), split_size_or_sections, dim)
    cuts = (slice(end - n, end) for end, n in zip(itertools.accumulate(lengths), lengths, strict=True))
    return tuple([getitem(tensor, (slice(None),) * axis + (cut,)) for cut in cuts])


def sum(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """z = Σ x over `dim`.   dz/dx = 1: each element receives the gradient of its sum. Integers sum to int64.

    Raising any xᵢ by h raises the sum by h. `dim` is one dimension, a tuple of them, or None for all; `keepdim` leaves
    them in place with size 1.
    >>> x = z2g.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    >>> (x.sum(dim=1) * z2g.tensor([5.0, 7.0])).sum().backward(); x.grad
    tensor([[5., 5.],
            [7., 7.]])
    """
    x = as_array(input, "sum")
    dims, shape = checks.many_dims(dim, x.ndim, "sum"), x.shape
    kind = x.dtype if x.dtype.kind == "f" else dtypes.int64
    z = row_major(quiet.run(lambda: x.sum(axis=dims, keepdims=keepdim, dtype=kind)))
    return record("sum", z, (input, lambda grad: of(grad).broadcast_to(spread(grad, dims, keepdim), shape)))


def mean(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """z = Σ x / n over the n elements along `dim`.   dz/dx = 1 / n. NaN for n = 0; floating point only.

    Raising any of n elements by h raises their mean by h / n.
    >>> x = z2g.tensor([1.0, 2.0, 3.0, 6.0], requires_grad=True); x.mean().backward(); x.grad
    tensor([0.2500, 0.2500, 0.2500, 0.2500])
    """
    x = as_array(input, "mean")
    checks.check_averaged(x)
    dims, shape = checks.many_dims(dim, x.ndim, "mean"), x.shape
    n = math.prod(shape[d] for d in dims) or math.nan
    z = row_major(quiet.run(lambda: x.sum(axis=dims, keepdims=keepdim) / n))
    return record("mean", z, (input, lambda grad: of(grad).broadcast_to(spread(grad, dims, keepdim) / n, shape)))
