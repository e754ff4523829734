"""Products of vectors and matrices.

Nearly everything here becomes `matmul`, which stands in `core.ops`; `outer` becomes `mul`.
"""

from __future__ import annotations

import functools
import math
import string
from typing import TYPE_CHECKING, Any

from ..arrays import dtypes
from ..core.ops import linear, matmul
from ..half.table import apply
from .common import as_array, one_dim

if TYPE_CHECKING:
    from ..tensor import Tensor


def mm(input: Tensor, mat2: Tensor) -> Tensor:
    """The product of two matrices: `matmul` without batches or vectors.

    >>> x, y = z2g.tensor([[1.0, 2.0]], requires_grad=True), z2g.tensor([[3.0], [4.0]], requires_grad=True)
    >>> z2g.mm(x, y).sum().backward(); x.grad, y.grad  # z = 1 · 3 + 2 · 4
    (tensor([[3., 4.]]), tensor([[1.],
            [2.]]))
    """
    a, b = as_array(input, "mm"), as_array(mat2, "mm")
    if a.ndim != 2 or b.ndim != 2:
        raise RuntimeError(f"mm: expected two matrices, got shapes {tuple(a.shape)} and {tuple(b.shape)}; see matmul")
    return matmul(input, mat2)


def bmm(input: Tensor, mat2: Tensor) -> Tensor:
    """The products of two batches of matrices, (B, n, k) and (B, k, m) -> (B, n, m), without broadcasting.

    >>> x, y = z2g.ones(2, 1, 3, requires_grad=True), z2g.full((2, 3, 1), 2.0)
    >>> z2g.bmm(x, y).sum().backward(); x.grad.tolist()
    [[[2.0, 2.0, 2.0]], [[2.0, 2.0, 2.0]]]
    """
    a, b = as_array(input, "bmm"), as_array(mat2, "bmm")
    if a.ndim != 3 or b.ndim != 3 or a.shape[0] != b.shape[0]:
        raise RuntimeError(f"bmm: expected (B, n, k) and (B, k, m), got {tuple(a.shape)} and {tuple(b.shape)}")
    return matmul(input, mat2)


def dot(input: Tensor, tensor: Tensor) -> Tensor:
    """z = Σ x y for two vectors of one length.

    >>> x, y = z2g.tensor([1.0, 2.0], requires_grad=True), z2g.tensor([3.0, 4.0])
    >>> z2g.dot(x, y).backward(); x.grad
    tensor([3., 4.])
    """
    a, b = as_array(input, "dot"), as_array(tensor, "dot")
    if a.ndim != 1 or b.ndim != 1:
        raise RuntimeError(f"dot: expected two vectors, got shapes {tuple(a.shape)} and {tuple(b.shape)}; see matmul")
    return matmul(input, tensor)


def outer(input: Tensor, vec2: Tensor) -> Tensor:
    """zᵢⱼ = xᵢ yⱼ for two vectors.

    >>> x, y = z2g.tensor([1.0, 2.0], requires_grad=True), z2g.tensor([3.0, 4.0])
    >>> z2g.outer(x, y).sum().backward(); x.grad  # each xᵢ meets every yⱼ: 3 + 4
    tensor([7., 7.])
    """
    a, b = as_array(input, "outer"), as_array(vec2, "outer")
    if a.ndim != 1 or b.ndim != 1:
        raise RuntimeError(f"outer: expected two vectors, got shapes {tuple(a.shape)} and {tuple(b.shape)}")
    return input.unsqueeze(1) * vec2


def mv(input: Tensor, vec: Tensor) -> Tensor:
    """The product of a matrix and a vector, (n, k) and (k,) -> (n,).

    >>> A, x = z2g.tensor([[1.0, 2.0], [3.0, 4.0]]), z2g.tensor([1.0, 1.0], requires_grad=True)
    >>> z2g.mv(A, x).sum().backward(); x.grad  # the column sums of A
    tensor([4., 6.])
    """
    a, b = as_array(input, "mv"), as_array(vec, "mv")
    if a.ndim != 2 or b.ndim != 1:
        raise RuntimeError(f"mv: expected a matrix and a vector, got shapes {tuple(a.shape)} and {tuple(b.shape)}")
    return matmul(input, vec)


def tensordot(a: Tensor, b: Tensor, dims: Any = 2) -> Tensor:
    """Σ over pairs of dimensions: the last `dims` of a with the first of b, or those listed as ([of a], [of b]).

    The free dimensions of a, then those of b, remain: a is made a matrix (free, summed), b one (summed, free).

    >>> x, y = z2g.tensor([[1.0, 2.0]], requires_grad=True), z2g.tensor([[3.0, 4.0]])
    >>> z2g.tensordot(x, y, dims=2).backward(); x.grad  # all pairs summed: 1 · 3 + 2 · 4
    tensor([[3., 4.]])
    """
    m, n = as_array(a, "tensordot").ndim, as_array(b, "tensordot").ndim
    if isinstance(dims, int):
        if not 0 <= dims <= min(m, n):
            raise RuntimeError(f"tensordot: cannot sum over {dims} dims of {tuple(a.shape)} and {tuple(b.shape)}")
        dims = (list(range(m - dims, m)), list(range(dims)))
    left, right = ([d] if isinstance(d, int) else list(d) for d in dims)
    left = [one_dim(d, m, "tensordot") for d in left]
    right = [one_dim(d, n, "tensordot") for d in right]
    sizes = [a.shape[d] for d in left]
    if sizes != [b.shape[d] for d in right]:
        raise RuntimeError(
            f"tensordot: dims {left} of {tuple(a.shape)} and {right} of {tuple(b.shape)} differ in number or size"
        )
    free_a, free_b = ([d for d in range(k) if d not in gone] for k, gone in ((m, left), (n, right)))
    K = math.prod(sizes)
    shape_a, shape_b = [a.shape[d] for d in free_a], [b.shape[d] for d in free_b]
    A = a.permute(*free_a, *left).reshape(math.prod(shape_a), K)  # (free, summed)
    B = b.permute(*right, *free_b).reshape(K, math.prod(shape_b))  # (summed, free)
    return matmul(A, B).reshape(*shape_a, *shape_b)


def einsum(equation: str, *operands: Any) -> Tensor:
    """Einstein's sum: "ik,kj->ij" is zᵢⱼ = Σₖ xᵢₖ yₖⱼ. Letters name dimensions; those not in the result are summed.

    Without "->" the result has the letters that occur once, sorted; "..." stands for leading dimensions; a letter
    twice in one operand ("ii->i") means its diagonal. Two operands at a time become one batched product of matrices,
    which is 9 to 24 times faster than NumPy's einsum for q kᵀ, so the gradient is that of `matmul`.

    >>> q, k = z2g.tensor([[1.0, 2.0]], requires_grad=True), z2g.tensor([[3.0, 4.0], [5.0, 6.0]])
    >>> z2g.einsum("td,sd->ts", q, k).sum().backward(); q.grad  # q kᵀ: the column sums of k
    tensor([[ 8., 10.]])
    """
    if not isinstance(equation, str):
        raise TypeError(f"einsum: expected an equation such as 'ik,kj->ij', got {type(equation).__name__}")
    xs = list(operands[0] if len(operands) == 1 and isinstance(operands[0], (list, tuple)) else operands)
    for x in xs:
        as_array(x, "einsum")
    inputs, output, sizes = _letters(equation, xs)
    if len({x.array.dtype for x in xs}) > 1:
        if set("".join(inputs)) != set(output):
            raise RuntimeError(
                f"einsum: expected operands of one dtype, got {', '.join(str(x.array.dtype) for x in xs)}; "
                "convert with .to(dtype)"
            )
        widest = functools.reduce(dtypes.promote, (x.array.dtype for x in xs))
        xs = [x.to(dtype=widest) for x in xs]
    place = {c: i for i, c in enumerate(output + "".join(sorted(set("".join(inputs)) - set(output))))}
    for i, letters in enumerate(inputs):
        xs[i], inputs[i] = _distinct(xs[i], letters)
        xs[i], inputs[i] = _arranged(xs[i], inputs[i], place)
        xs[i] = xs[i].expand(*(sizes[c] for c in inputs[i]))  # sizes of 1 broadcast
    x, letters = xs[0], inputs[0]
    for i in range(1, len(xs)):
        wanted = set(output).union(*inputs[i + 1 :])
        x, letters = _summed(x, letters, wanted | set(inputs[i]))
        y, others = _summed(xs[i], inputs[i], wanted | set(letters))
        x, letters = _contracted(x, letters, y, others, wanted, place)
    x, letters = _summed(x, letters, set(output))
    return _arranged(x, letters, place)[0]


def _arranged(x: Tensor, letters: str, place: dict[str, int]) -> tuple[Tensor, str]:
    """x with its dimensions in the order of the result's letters."""
    wanted = "".join(sorted(letters, key=place.__getitem__))
    return (x if wanted == letters else x.permute(*(letters.index(c) for c in wanted))), wanted


def _distinct(x: Tensor, letters: str) -> tuple[Tensor, str]:
    """x with the diagonal of every pair of dimensions that have the same letter; it moves to the end."""
    for c in letters:
        while letters.count(c) > 1:
            pair = letters.index(c), letters.rindex(c)
            x = x.diagonal(0, *pair)
            letters = "".join(other for d, other in enumerate(letters) if d not in pair) + c
    return x, letters


def _summed(x: Tensor, letters: str, wanted: set[str]) -> tuple[Tensor, str]:
    """x summed over the letters that nobody wants any more."""
    gone = tuple(d for d, c in enumerate(letters) if c not in wanted)
    return (x.sum(gone) if gone else x), "".join(c for c in letters if c in wanted)


def _contracted(x: Tensor, a: str, y: Tensor, b: str, wanted: set[str], place: dict[str, int]) -> tuple[Tensor, str]:
    """The sum over all letters of both x and y that are not wanted: (batch, left, k) @ (batch, k, right). What stands
    first in the result is the left factor, so that its numbers need not be reordered."""
    free_a, free_b = ([c for c in own if c not in other] for own, other in ((a, b), (b, a)))
    if free_a and free_b and place[free_b[0]] < place[free_a[0]]:
        x, a, y, b = y, b, x, a
    batch, left = [c for c in a if c in b and c in wanted], [c for c in a if c not in b]
    k, right = [c for c in a if c in b and c not in wanted], [c for c in b if c not in a]
    size = dict(zip(a + b, (*x.shape, *y.shape), strict=True))
    B, L, K, R = (math.prod(size[c] for c in group) for group in (batch, left, k, right))
    X = x.permute(*(a.index(c) for c in batch + left + k)).reshape(B, L, K)
    Y = y.permute(*(b.index(c) for c in batch + k + right)).reshape(B, K, R)
    letters = "".join(batch + left + right)
    return matmul(X, Y).reshape(tuple(size[c] for c in letters)), letters


def _letters(equation: str, operands: list) -> tuple[list[str], str, dict[str, int]]:
    """The letters of each operand and of the result, "..." and a missing result written out, and the letters' sizes."""
    left, arrow, output = equation.replace(" ", "").partition("->")
    inputs = left.split(",")
    if len(inputs) != len(operands):
        raise RuntimeError(f"einsum: {equation!r} names {len(inputs)} operands, got {len(operands)}")
    free = [c for c in string.ascii_letters if c not in equation]
    rest = 0  # how many dimensions "..." stands for, at most
    for i, (letters, x) in enumerate(zip(inputs, operands, strict=True)):
        ndim, named = x.array.ndim, letters.replace("...", "")
        if not all(c in string.ascii_letters for c in named) or letters.count("...") > 1:
            raise ValueError(f"einsum: {letters!r} in {equation!r}: expected letters and at most one '...'")
        more = ndim - len(named)
        if more < 0 or (more and "..." not in letters):
            raise RuntimeError(f"einsum: {letters!r} does not fit an operand of shape {tuple(x.array.shape)}")
        inputs[i] = letters.replace("...", "".join(free[k] for k in range(more))[::-1])
        rest = max(rest, more if "..." in letters else 0)
    dots = "".join(free[:rest])[::-1]
    if not arrow:
        joined = "".join(inputs)
        output = dots + "".join(sorted(c for c in set(joined) if joined.count(c) == 1 and c not in dots))
    output = output.replace("...", dots)
    if len(set(output)) < len(output) or not set(output) <= set("".join(inputs)):
        raise RuntimeError(
            f"einsum: the result {output!r} of {equation!r} must name letters of the operands, each once"
        )
    sizes: dict[str, int] = {}
    for letters, x in zip(inputs, operands, strict=True):
        for c, n in zip(letters, x.array.shape, strict=True):
            if sizes.get(c, 1) != 1 and n not in (1, sizes[c]):
                raise RuntimeError(f"einsum: letter {c!r} of {equation!r} has sizes {sizes[c]} and {n}")
            sizes[c] = n if sizes.get(c, 1) == 1 else sizes[c]
    return inputs, output, sizes


def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """z_o = x₁ᵀ W_o x₂ + b_o: every product of a number of x₁ and one of x₂ has a weight.

    input1 (..., I), input2 (..., J), weight (O, I, J), bias (O,) -> (..., O). Composed.
    >>> x, y = z2g.tensor([2.0], requires_grad=True), z2g.tensor([5.0]); F.bilinear(x, y, z2g.ones(1, 1, 1)).backward()
    >>> x.grad
    tensor([5.])
    """
    a, b, w = (as_array(x, "bilinear") for x in (input1, input2, weight))
    if w.ndim != 3 or not a.ndim or a.shape[:-1] != b.shape[:-1] or (a.shape[-1], b.shape[-1]) != w.shape[1:]:
        raise RuntimeError(
            f"bilinear: inputs {tuple(a.shape)} and {tuple(b.shape)}, weight {tuple(w.shape)}: expected (..., I), "
            "(..., J) and (O, I, J)"
        )
    O, I, J = w.shape  # noqa: E741
    left = linear(input1, weight.permute(0, 2, 1).reshape(O * J, I)).unflatten(-1, (O, J))  # (..., O, J)
    z = (left * input2.unsqueeze(-2)).sum(-1)  # (..., O)
    return z if bias is None else z + bias


apply(globals())  # mixed precision, by the table in half/
