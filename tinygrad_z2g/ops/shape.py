"""Operations that move elements and change none: reshape, transpose, cut, join, repeat.

The rule of a rearrangement is the reverse rearrangement. It needs the old shape, never the old array: holding that
would keep an activation alive that nobody reads. Where torch shares memory (view, transpose, expand, slices) these do
too, and writing into one shows in the other. It knows nothing of what the elements mean, and never reads one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .. import fast
from ..arrays import dtypes
from ..arrays.backend import Array, of
from ..arrays.checks import joinable, listed, size_of
from ..arrays.layout import writable
from ..core import ops
from ..core.engine import record, unchanged
from ..core.ops import reshape, split, transpose  # noqa: F401 - of this family
from .common import (
    as_array,
    as_int,
    check_broadcast,
    constant,
    copied,
    full_shape,
    linear_rule,
    many_dims,
    numpy_names,
    one_dim,
    record_view,
    row_major,
    sizes,
)

if TYPE_CHECKING:
    from ..tensor import Tensor


# --- Same elements, other shape ----------------------------------------------------------------------------------


def view(input: Tensor, *shape: Any) -> Tensor:
    """As `reshape`, but always sharing memory: RuntimeError where only a copy could have that shape.

    Given a dtype instead of sizes it is refused: see `to`.

    The rule is that of `reshape`: the gradients in the same order, in x's shape.
    >>> x = z2g.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True); x.view(4)[2].backward(); x.grad
    tensor([[0., 0.],
            [1., 0.]])
    """
    a = as_array(input, "view")
    before = a.shape
    z = a.reshape(full_shape(a, sizes(shape, "view"), "view"))
    if not a.flags.c_contiguous and z.size and not of(a).may_share_memory(a, z):
        raise RuntimeError(
            f"view: {tuple(a.shape)} with strides {a.strides} cannot become {tuple(z.shape)} without a copy; "
            "use reshape(...), or contiguous().view(...)"
        )
    return record_view("view", z, input, lambda grad: grad.reshape(before))


def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Dimensions `start_dim` to `end_dim`, both included, merged into one.

    >>> x = z2g.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True); x.flatten()[1].backward(); x.grad
    tensor([[0., 1.],
            [0., 0.]])
    """
    shape = as_array(input, "flatten").shape
    start, end = one_dim(start_dim, len(shape), "flatten"), one_dim(end_dim, len(shape), "flatten")
    if start > end:
        raise RuntimeError(f"flatten: start_dim {start_dim} comes after end_dim {end_dim}")
    if start == end and shape:
        return input
    return reshape(input, *shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :])


@numpy_names
def squeeze(input: Tensor, dim: Any = None) -> Tensor:
    """Without the dimensions of size 1: all of them, or those named by `dim` that have size 1.

    No element moves: the rule gives the gradient x's shape back.
    >>> x = z2g.tensor([[1.0, 2.0]], requires_grad=True); x.squeeze()[1].backward(); x.grad
    tensor([[0., 1.]])
    """
    a = as_array(input, "squeeze")
    gone = [d for d in many_dims(dim, a.ndim, "squeeze") if a.shape[d] == 1]
    if isinstance(dim, (tuple, list)) and not dim:
        gone = []
    before, after = a.shape, [n for d, n in enumerate(a.shape) if d not in gone]
    return record_view("squeeze", a.reshape(after), input, lambda grad: grad.reshape(before))


@numpy_names
def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """With a new dimension of size 1 at position `dim`.

    No element moves: the rule gives the gradient x's shape back.
    >>> x = z2g.tensor([1.0, 2.0], requires_grad=True); x.unsqueeze(0)[0, 1].backward(); x.grad
    tensor([0., 1.])
    """
    a = as_array(input, "unsqueeze")
    before, axis = a.shape, one_dim(dim, a.ndim + 1, "unsqueeze")
    return record_view("unsqueeze", of(a).expand_dims(a, axis), input, lambda grad: grad.reshape(before))


def unflatten(input: Tensor, dim: int, sizes: Any) -> Tensor:
    """Dimension `dim` split into several of these sizes, one of which may be -1: the reverse of `flatten`.

    >>> x = z2g.tensor([1.0, 2.0, 3.0, 4.0], requires_grad=True); x.unflatten(0, (2, -1))[1, 0].backward(); x.grad
    tensor([0., 0., 1., 0.])
    """
    a = as_array(input, "unflatten")
    axis = one_dim(dim, a.ndim, "unflatten")
    n, parts = size_of(a, dim, "unflatten")[0], tuple(as_int(m, "unflatten: size") for m in sizes)
    known = math.prod(m for m in parts if m != -1)
    if parts.count(-1) == 1 and known and n % known == 0:
        parts = tuple(n // known if m == -1 else m for m in parts)
    if not parts or math.prod(parts) != n or min(parts) < 0:
        raise RuntimeError(f"unflatten: sizes {list(sizes)} do not multiply up to {n}, the size of dim {dim}")
    return view(input, *a.shape[:axis], *parts, *a.shape[axis + 1 :])


# --- Order of the dimensions -------------------------------------------------------------------------------------


def t(input: Tensor) -> Tensor:
    """The transpose of a matrix; a vector or 0-d tensor as it is.

    >>> x = z2g.tensor([[1.0, 2.0]], requires_grad=True); x.t()[1, 0].backward(); x.grad
    tensor([[0., 1.]])
    """
    if as_array(input, "t").ndim > 2:
        raise RuntimeError(
            f"t: expected at most 2 dimensions, got shape {tuple(input.array.shape)}; see transpose and mT"
        )
    return permute(input, *reversed(range(input.array.ndim)))


def permute(input: Tensor, *args: Any, dims: Any = None) -> Tensor:
    """x with its dimensions in the order `dims`. The rule applies the inverse order.

    Dimension i of z is dimension order[i] of x. Sorting the places i by order[i] finds, for each dimension of x, where
    it went: the inverse order, which puts grad into x's.
    >>> x = z2g.zeros(2, 3, 4, requires_grad=True); z = x.permute(2, 0, 1)
    >>> z[3, 1, 2].backward(); tuple(z.shape), x.grad[1, 2, 3].item()
    ((4, 2, 3), 1.0)
    """
    a = as_array(input, "permute")
    order = tuple(one_dim(d, a.ndim, "permute") for d in sizes(args, "permute", dims))
    if sorted(order) != list(range(a.ndim)):
        raise RuntimeError(f"permute: {list(order)} is no permutation of the {a.ndim} dimensions of {tuple(a.shape)}")
    inverse = sorted(range(a.ndim), key=order.__getitem__)
    return record_view("permute", a.transpose(order), input, lambda grad: of(grad).transpose(grad, inverse))


def movedim(input: Tensor, source: Any, destination: Any) -> Tensor:
    """x with the dimensions `source`, one or several, moved to the places `destination`; others keep their order.

    >>> x = z2g.zeros(2, 3, 4, requires_grad=True); x.movedim(0, 2)[2, 3, 1].backward(); x.grad[1, 2, 3].item()
    1.0
    """
    ndim = as_array(input, "movedim").ndim
    start, end = many_dims(_listed(source), ndim, "movedim"), many_dims(_listed(destination), ndim, "movedim")
    if len(start) != len(end):
        raise RuntimeError(f"movedim: source {source} and destination {destination} must have equally many dims")
    order = [d for d in range(ndim) if d not in start]
    for place, d in sorted(zip(end, start, strict=True)):
        order.insert(place, d)
    return permute(input, order)


def _listed(dim: Any) -> tuple:
    return tuple(dim) if isinstance(dim, (tuple, list)) else (dim,)


def diagonal(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """The elements x[..., i, i + offset, ...] of dims dim1 and dim2, as a view: those two leave, a last one comes.

    An element of the diagonal is one of z, the others are none: grad on the diagonal, 0 elsewhere.
    >>> x = z2g.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True); x.diagonal().sum().backward(); x.grad
    tensor([[1., 0.],
            [0., 1.]])
    """
    a = as_array(input, "diagonal")
    i, j = one_dim(dim1, a.ndim, "diagonal"), one_dim(dim2, a.ndim, "diagonal")
    offset = as_int(offset, "diagonal: offset")
    if i == j or a.ndim < 2:
        raise RuntimeError(f"diagonal: dims {dim1} and {dim2} of shape {tuple(a.shape)} must be two different ones")
    shape, xp = a.shape, of(a)

    def rule(grad: Any) -> Any:
        out = xp.zeros(shape, grad.dtype)
        _diagonal(out, offset, i, j)[...] = grad
        return out

    there = lambda x: _diagonal(x, offset, i, j).copy()  # noqa: E731
    return record_view("diagonal", _diagonal(a, offset, i, j), input, linear_rule("diagonal", rule, there))


def _diagonal(a: Any, offset: int, i: int, j: int) -> Any:
    return writable(of(a).diagonal(a, offset, i, j), a)


def diag(input: Tensor, diagonal: int = 0) -> Tensor:
    """Of a matrix, its diagonal (a copy); of a vector, the matrix that has it as its diagonal and 0 elsewhere.

    Both ways the rule is the other way: of a matrix, grad becomes a diagonal; of a vector, it is read from the
    diagonal.
    >>> x = z2g.tensor([1.0, 2.0], requires_grad=True)
    >>> (x.diag() * z2g.tensor([[5.0, 6.0], [7.0, 8.0]])).sum().backward(); x.grad
    tensor([5., 8.])
    """
    a = as_array(input, "diag")
    if a.ndim not in (1, 2):
        raise RuntimeError(f"diag: expected a vector or a matrix, got shape {tuple(a.shape)}")
    xp, shape, diagonal = of(a), a.shape, as_int(diagonal, "diag: diagonal")

    def rule(grad: Any) -> Any:
        if len(shape) == 1:
            return xp.diagonal(grad, diagonal)
        out = xp.zeros(shape, grad.dtype)
        _diagonal(out, diagonal, 0, 1)[...] = grad
        return out

    def there(x: Array) -> Array:
        return xp.diag(x, diagonal).copy()

    return record("diag", there(a), (input, linear_rule("diag", rule, there)))


# --- Repetition --------------------------------------------------------------------------------------------------


def expand(input: Tensor, *shape: Any) -> Tensor:
    """x as if repeated along its dimensions of size 1, without copying; -1 keeps a size. New dimensions lead.

    The rule sums over the repetitions, which is what the engine does with every broadcast.
    An element that stands in k places of z moves all k with it: k gradients, added.
    >>> x = z2g.tensor([[1.0], [2.0]], requires_grad=True); x.expand(2, 3).sum().backward(); x.grad
    tensor([[3.],
            [3.]])
    """
    a = as_array(input, "expand")
    wanted = sizes(shape, "expand")
    extra = len(wanted) - a.ndim
    full = tuple(a.shape[i - extra] if n == -1 and i >= extra else n for i, n in enumerate(wanted))
    if extra < 0 or any(n < 0 or (i >= extra and a.shape[i - extra] not in (1, n)) for i, n in enumerate(full)):
        raise RuntimeError(f"expand: shape {tuple(a.shape)} cannot become {list(wanted)}; only sizes of 1 expand")
    wide = a[...] if full == a.shape else writable(of(a).broadcast_to(a, full), a)
    return record_view("expand", wide, input, unchanged)


def repeat(input: Tensor, *repeats: Any) -> Tensor:
    """Copies of x laid side by side, `repeats[i]` along dimension i; extra repeats add leading dimensions.

    Each element has copies in z, all of which move with it: the sum of their gradients. Seen as (r0, n0, r1, n1, ...),
    the copies lie along the even axes.
    >>> x = z2g.tensor([1.0, 2.0], requires_grad=True)
    >>> (x.repeat(2) * z2g.tensor([1.0, 2.0, 10.0, 20.0])).sum().backward(); x.grad
    tensor([11., 22.])
    """
    a = as_array(input, "repeat")
    times = sizes(repeats, "repeat")
    if len(times) < a.ndim or any(n < 0 for n in times):
        raise RuntimeError(f"repeat: got {list(times)} for shape {tuple(a.shape)}; give a count >= 0 per dimension")
    shape = (1,) * (len(times) - a.ndim) + a.shape
    split_shape = [n for pair in zip(times, shape, strict=True) for n in pair]  # (r0, n0, r1, n1, ...)

    def rule(grad: Any) -> Any:
        return fast.total(grad.reshape(split_shape), tuple(range(0, len(split_shape), 2)), False)

    return record("repeat", row_major(of(a).tile(a, times)), (input, rule))


def tile(input: Tensor, *counts: Any, dims: Any = None) -> Tensor:
    """As `repeat`, but missing counts are 1 for the leading dimensions.

    >>> x = z2g.tensor([1.0, 2.0], requires_grad=True); x.tile(3).sum().backward(); x.grad
    tensor([3., 3.])
    """
    times = sizes(counts, "tile", dims)
    return repeat(input, *(1,) * (as_array(input, "tile").ndim - len(times)), *times)


# --- Joining and cutting -----------------------------------------------------------------------------------------


cat = numpy_names(ops.cat)


@numpy_names
def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """The tensors, all of one shape, joined along a new dimension `dim`. The rule takes each its slice.

    Input number i is slice number i of z, so its gradient is slice number i of grad.
    >>> x, y = z2g.tensor([1.0, 2.0], requires_grad=True), z2g.tensor([3.0, 4.0], requires_grad=True)
    >>> (z2g.stack([x, y]) * z2g.tensor([[5.0], [6.0]])).sum().backward(); x.grad, y.grad
    (tensor([5., 5.]), tensor([6., 6.]))
    """
    arrays = _joinable(tensors, "stack")
    for a in arrays:
        if a.shape != arrays[0].shape:
            raise RuntimeError(f"stack: expected equal shapes, got {tuple(arrays[0].shape)} and {tuple(a.shape)}")
    axis = one_dim(dim, arrays[0].ndim + 1, "stack")
    before = (slice(None),) * axis
    edges = [(x, lambda grad, i=i: grad[(*before, i)]) for i, x in enumerate(tensors)]
    return record("stack", row_major(of(arrays[0]).stack(arrays, axis)), *edges)


def _joinable(tensors: Any, name: str) -> list:
    """The arrays of a non-empty sequence of tensors, in one dtype, on one device."""
    return joinable([as_array(x, name) for x in listed(tensors, name)], name)


def hstack(tensors: Sequence[Tensor]) -> Tensor:
    """Joined side by side: along dimension 1, or 0 for vectors.

    >>> x = z2g.tensor([1.0, 2.0], requires_grad=True); z2g.hstack([x, x]).sum().backward(); x.grad
    tensor([2., 2.])
    """
    _joinable(tensors, "hstack")
    tensors = [x if x.array.ndim else reshape(x, 1) for x in tensors]
    return cat(tensors, dim=min(1, tensors[0].array.ndim - 1))


def vstack(tensors: Sequence[Tensor]) -> Tensor:
    """Joined one above the other: along dimension 0, vectors being rows.

    >>> x = z2g.tensor([1.0, 2.0], requires_grad=True); z2g.vstack([x, x, x]).sum().backward(); x.grad
    tensor([3., 3.])
    """
    _joinable(tensors, "vstack")
    return cat([x if x.array.ndim > 1 else reshape(x, 1, -1) for x in tensors])


def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """x cut along `dim` into at most `chunks` views of equal size, the last perhaps smaller.

    >>> x = z2g.tensor([1.0, 2.0, 3.0, 4.0], requires_grad=True); x.chunk(2)[1].sum().backward(); x.grad
    tensor([0., 0., 1., 1.])
    """
    chunks = as_int(chunks, "chunk: chunks")
    if chunks <= 0:
        raise RuntimeError(f"chunk: expected chunks > 0, got {chunks}")
    n, _ = size_of(as_array(input, "chunk"), dim, "chunk")
    return split(input, max(1, -(-n // chunks)), dim) if n else split(input, [0] * chunks, dim)


@numpy_names
def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """The slices of x along `dim`, as views without that dimension.

    >>> x = z2g.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True); x.unbind()[1].sum().backward(); x.grad
    tensor([[0., 0.],
            [1., 1.]])
    """
    if not as_array(input, "unbind").ndim:
        raise IndexError("unbind: expected at least 1 dimension, got a 0-d tensor")
    n, axis = size_of(input.array, dim, "unbind")
    return tuple(squeeze(narrow(input, axis, i, 1), axis) for i in range(n))


def narrow(input: Tensor, dim: int, start: int, length: int) -> Tensor:
    """The view x[..., start : start + length, ...] along `dim`. The rule puts the gradient there and 0 elsewhere.

    What was cut away has no part in z.
    >>> x = z2g.tensor([1.0, 2.0, 3.0, 4.0], requires_grad=True); x.narrow(0, 1, 2).sum().backward(); x.grad
    tensor([0., 1., 1., 0.])
    """
    n, axis = size_of(as_array(input, "narrow"), dim, "narrow")
    start, length = as_int(start, "narrow: start"), as_int(length, "narrow: length")
    if not -n <= start <= n:
        raise IndexError(f"narrow: start {start} is out of range for dim {dim} of size {n}")
    start = start + n if start < 0 else start
    if not start <= start + length <= n:
        raise RuntimeError(f"narrow: start {start}, length {length} leave dim {dim} of size {n}")
    return ops.getitem(input, (*(slice(None),) * axis, slice(start, start + length)))


def roll(input: Tensor, shifts: Any, dims: Any = None) -> Tensor:
    """Elements moved along `dims` by `shifts`, those that leave re-entering in front; without dims, flattened.

    z[i + s] = x[i], so ∂L/∂x[i] = grad[i + s]: the gradient rolled back.
    >>> x = z2g.tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> (x.roll(1) * z2g.tensor([5.0, 6.0, 7.0])).sum().backward(); x.grad  # z = (x₂, x₀, x₁)
    tensor([6., 7., 5.])
    """
    a = as_array(input, "roll")
    xp = of(a)
    shift = tuple(as_int(s, "roll: shifts") for s in (shifts if isinstance(shifts, (list, tuple)) else (shifts,)))
    axes = None if dims is None else many_dims(dims, a.ndim, "roll")
    if axes is not None and len(axes) != len(shift):
        raise RuntimeError(
            f"roll: got {len(shift)} shifts and {len(axes)} dims, expected as many of one as of the other"
        )
    if axes is None and len(shift) != 1:
        raise RuntimeError(f"roll: {len(shift)} shifts need as many dims")
    forward = shift if axes is not None else shift[0]
    back = tuple(-s for s in shift) if axes is not None else -shift[0]

    def rolled(x: Array) -> Array:
        return xp.roll(x, forward, axes)

    def rolled_back(grad: Array) -> Array:
        return xp.roll(grad, back, axes)

    return record("roll", row_major(rolled(a)), (input, linear_rule("roll", rolled_back, rolled)))


def flip(input: Tensor, *args: Any, dims: Any = None) -> Tensor:
    """x in reverse order along `dims`. The rule reverses again.

    z[i] = x[n - 1 - i], so ∂L/∂x[i] = grad[n - 1 - i].
    >>> x = z2g.tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> (x.flip(0) * z2g.tensor([5.0, 6.0, 7.0])).sum().backward(); x.grad
    tensor([7., 6., 5.])
    """
    a = as_array(input, "flip")
    if not args and dims is None:
        raise TypeError("flip: expected the dims to reverse, got none")
    xp, wanted = of(a), sizes(args, "flip", dims)
    axes = many_dims(wanted, a.ndim, "flip") if wanted else ()
    return record("flip", copied(xp.flip(a, axes)), (input, lambda grad: of(grad).flip(grad, axes)))


# --- Triangles ---------------------------------------------------------------------------------------------------


def tril(input: Tensor, diagonal: int = 0) -> Tensor:
    """The lower triangle of each matrix: elements with column ≤ row + diagonal, 0 elsewhere.

    z = m x with m = 1 in the triangle and 0 outside, so ∂L/∂x = m grad: the triangle of grad.
    >>> x = z2g.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True); x.tril().sum().backward(); x.grad
    tensor([[1., 0.],
            [1., 1.]])
    """
    return _triangle("tril", input, diagonal)


def triu(input: Tensor, diagonal: int = 0) -> Tensor:
    """The upper triangle of each matrix: elements with column ≥ row + diagonal, 0 elsewhere.

    z = m x with m = 1 in the triangle and 0 outside, so ∂L/∂x = m grad: the triangle of grad.
    >>> x = z2g.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True); x.triu().sum().backward(); x.grad
    tensor([[1., 1.],
            [0., 1.]])
    """
    return _triangle("triu", input, diagonal)


def _triangle(name: str, x: Tensor, diagonal: int) -> Tensor:
    a = as_array(x, name)
    if a.ndim < 2:
        raise RuntimeError(f"{name}: expected at least 2 dimensions, got shape {tuple(a.shape)}")
    cut, diagonal = getattr(of(a), name), as_int(diagonal, f"{name}: diagonal")
    return record(name, row_major(cut(a, diagonal)), (x, lambda grad: getattr(of(grad), name)(grad, diagonal)))


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """int64 vectors with a 1 at the index x and 0 elsewhere: (...) -> (..., num_classes). -1: largest index + 1."""
    a = as_array(tensor, "one_hot")
    if a.dtype.kind not in "iu":
        raise RuntimeError(f"one_hot: expected integer indices, got {a.dtype}")
    if a.size and a.min() < 0:
        raise RuntimeError("one_hot: indices must be >= 0")
    num_classes = as_int(num_classes, "one_hot: num_classes")
    if num_classes == -1:
        num_classes = int(a.max()) + 1 if a.size else 0
    if a.size and a.max() >= num_classes:
        raise RuntimeError(f"one_hot: index {int(a.max())} needs num_classes > {int(a.max())}, got {num_classes}")
    return constant(tensor, row_major((a[..., None] == of(a).arange(num_classes)).astype(dtypes.int64)))


def contiguous(input: Tensor) -> Tensor:
    """x itself if its elements lie in row-major order, otherwise a copy that does.

    Only the order in memory changes, never that of the indices: z = x, and the gradient passes unchanged.
    >>> x = z2g.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True); x.t().contiguous()[0, 1].backward(); x.grad
    tensor([[0., 0.],
            [1., 0.]])
    """
    a = as_array(input, "contiguous")
    return input if a.flags.c_contiguous else record("contiguous", of(a).ascontiguousarray(a), (input, unchanged))


def broadcast_to(input: Tensor, shape: Any) -> Tensor:
    """As `expand`, with the shape as one argument; -1 keeps a size.

    >>> x = z2g.tensor([1.0, 2.0], requires_grad=True); z2g.broadcast_to(x, (3, 2)).sum().backward(); x.grad
    tensor([3., 3.])
    """
    shape = sizes((shape,), "broadcast_to")
    before = as_array(input, "broadcast_to").shape
    extra = len(shape) - len(before)
    wanted = tuple(before[i - extra] if n == -1 and i >= extra else n for i, n in enumerate(shape))
    check_broadcast(before, wanted, "broadcast_to")
    return expand(input, *wanted)
