"""The operations, each a function: its result, mostly in one line, and then, for each input, the rule that turns
`grad` = ∂L/∂z into ∂L/∂input. After a rule stands what it reads: tensors, RESULT for z itself, or a setting. What is
called as a method, `x.softmax(-1)` or `q @ k`, is a function here: see `tensor.py`.

They are called as attributes of this module, `ops.softmax(x, -1)`: for faster forms of the same name and signature take
their place (`fast/forms.py` has the list), and casts are put around them (`half/table.py`). They know nothing
of either, nor of layers.

What helps them, and says nothing of mathematics:

    as_array(x, "exp")     the array of a tensor; `as_floating` makes integers floats, `floating` refuses them;
                           `arrays_of` takes several, on one device. The name is for the error, as in `checks.`
    operands(x, y, "add")  both as tensors or numbers, and both as arrays, of one dtype and on one device
    of(x)                  the library that computes with x: numpy, cupy, or for a tensor one of the same names. A rule
                           gets arrays, or tensors where the walk itself is recorded: `of(grad).where` serves both
    quiet.run(f, x)        f(x), without NumPy's warnings of inf and NaN; `computed` does so with two operands
    row_major, laid_out    copies, if need be, so that results lie in memory as torch's do
    spread(grad, dims)     the gradient of a sum with its dimensions back, of size 1, so that it broadcasts to what was
                           summed
    beside(grad, a)        an array as something that computes with `grad`: a tensor if that is one
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..arrays import checks, dtypes
from ..arrays.backend import Array, of, quiet
from ..arrays.layout import computed, laid_out, row_major, spread
from ..arrays.normal import normal_cdf
from ..arrays.random import default_generator, dropout_mask
from .engine import RESULT, Part, record, unchanged
from .operands import (
    arrays_of,
    as_array,
    as_floating,
    beside,
    converted,
    floating,
    is_tensor,
    operands,
    record_view,
)

if TYPE_CHECKING:
    from .tensor import Tensor


# --- Element by element: the chain rule is `grad * dz/dx`; operands broadcast, which the engine undoes ---------------


def add(input: Any, other: Any) -> Tensor:
    """z = x + y.   ∂z/∂x = 1,  ∂z/∂y = 1

    (x + h) + y = z + h: what is added to x is added to z, so the gradient passes to both unchanged.
    >>> x = z2g.tensor([3.0, 4.0], requires_grad=True); (5 * (x[0] + x[1])).backward(); x.grad
    tensor([5., 5.])
    """
    input, other, x, y = operands(input, other, "add")
    return record("add", computed(operator.add, x, y), (input, lambda grad: grad), (other, lambda grad: grad))


def sub(input: Any, other: Any) -> Tensor:
    """z = x - y.   ∂z/∂x = 1,  ∂z/∂y = -1

    x - (y + h) = z - h: what is added to y is taken from z, so y receives -grad.
    >>> x = z2g.tensor([3.0, 4.0], requires_grad=True); (5 * (x[0] - x[1])).backward(); x.grad
    tensor([ 5., -5.])
    """
    checks.check_numbers(input, other, "sub")
    input, other, x, y = operands(input, other, "sub")
    return record("sub", computed(operator.sub, x, y), (input, lambda grad: grad), (other, lambda grad: -grad))


def mul(input: Any, other: Any) -> Tensor:
    """z = x y.   ∂z/∂x = y,  ∂z/∂y = x

    (x + h) y = z + h y: z grows by y for each unit of x, and by x for each unit of y.
    >>> x = z2g.tensor([3.0, 4.0], requires_grad=True); (x[0] * x[1]).backward(); x.grad
    tensor([4., 3.])
    """
    input, other, x, y = operands(input, other, "mul")
    z = computed(operator.mul, x, y)
    return record("mul", z, (input, lambda grad, y: grad * y, other), (other, lambda grad, x: grad * x, input))


def div(input: Any, other: Any) -> Tensor:
    """z = x / y.   ∂z/∂x = 1 / y,  ∂z/∂y = -x / y² = -z / y.   Integers are divided as floats.

    z y = x, so y dz + z dy = dx: with y held dz/dx = 1 / y, with x held dz/dy = -z / y. The rule divides again instead
    of keeping z, so that z may be written over: `z += 1`.
    >>> x = z2g.tensor([3.0, 2.0], requires_grad=True); (x[0] / x[1]).backward(); x.grad  # 1/2 and -1.5/2
    tensor([ 0.5000, -0.7500])
    """
    input, other, x, y = operands(input, other, "div", floating=True)
    return record(
        "div",
        computed(operator.truediv, x, y),
        (input, lambda grad, y: grad / y, other),
        (other, lambda grad, x, y: -grad * (x / y) / y, input, other),
    )


def neg(input: Tensor) -> Tensor:
    """z = -x.   dz/dx = -1

    -(x + h) = -x - h: as x rises by h, z falls by h.
    >>> x = z2g.tensor(3.0, requires_grad=True); (-x).backward(); x.grad
    tensor(-1.)
    """
    return record("neg", quiet.run(operator.neg, as_array(input, "neg")), (input, lambda grad: -grad))


def pow(input: Tensor, exponent: float) -> Tensor:
    """z = xʸ, x to the power of a number y.   dz/dx = y xʸ⁻¹, and 0 for y = 0. (Other powers: `../ops/elementwise.py`)

    z is a product of y factors x, and by the product rule each of them adds the other y - 1. At x = 2, y = 3: 3 · 4.
    >>> x = z2g.tensor(2.0, requires_grad=True); (x**3).backward(); x.grad
    tensor(12.)
    """
    input, y, x, _ = operands(input, checks.number(exponent, "pow: exponent"), "pow")
    if x.dtype.kind in "iu" and y < 0:
        raise RuntimeError(f"pow: integers to the power {y} are not integers; convert to float first")
    z = quiet.run(operator.pow, x, y)
    if y == 0:
        return record("pow", z, (input, lambda grad: of(grad).zeros_like(grad)))  # 0 where x or grad is ∞, too
    return record("pow", z, (input, lambda grad, x, y: grad * (y * x ** (y - 1)), input, y))


def exp(input: Tensor) -> Tensor:
    """z = eˣ.   dz/dx = z

    eˣ⁺ʰ = eˣ eʰ and eʰ = 1 + h + ..., so z grows by z h: the function is its own slope. At x = 1 it is e.
    >>> x = z2g.tensor(1.0, requires_grad=True); x.exp().backward(); x.grad
    tensor(2.7183)
    """
    x = as_floating(input, "exp")
    return record("exp", quiet.run(of(x).exp, x), (input, lambda grad, z: grad * z, RESULT))


def log(input: Tensor) -> Tensor:
    """z = ln x.   dz/dx = 1 / x;  -inf at 0, NaN below

    x = eᶻ, so dx = eᶻ dz = x dz. At x = 4 the slope is 1/4.
    >>> x = z2g.tensor(4.0, requires_grad=True); x.log().backward(); x.grad
    tensor(0.2500)
    """
    x = as_floating(input, "log")
    return record("log", quiet.run(of(x).log, x), (input, lambda grad, x: grad / x, input))


def tanh(input: Tensor) -> Tensor:
    """z = tanh x.   dz/dx = 1 - z²

    z = sinh x / cosh x, so dz/dx = (cosh² x - sinh² x) / cosh² x. At x = ln 2, z = 1.5 / 2.5 = 0.6; the slope is 0.64.
    >>> x = z2g.tensor(2.0).log().requires_grad_(); x.tanh().backward(); x.grad
    tensor(0.6400)
    """
    x = as_floating(input, "tanh")
    return record("tanh", quiet.run(of(x).tanh, x), (input, lambda grad, z: grad * (1 - z * z), RESULT))


def sigmoid(input: Tensor) -> Tensor:
    """z = 1 / (1 + e⁻ˣ).   dz/dx = z (1 - z).   Where e⁻ˣ overflows, 1 / ∞ is the right answer: 0.

    z = 1 / u with u = 1 + e⁻ˣ: dz = -z² du = z² e⁻ˣ dx, and z e⁻ˣ = 1 - z. At x = ln 3, z = 3/4; the slope is 3/16.
    >>> x = z2g.tensor(3.0).log().requires_grad_(); x.sigmoid().backward(); x.grad
    tensor(0.1875)
    """
    z = quiet.run(lambda x: 1 / (1 + of(x).exp(-x)), as_floating(input, "sigmoid"))
    return record("sigmoid", z, (input, lambda grad, z: grad * (z * (1 - z)), RESULT))


def relu(input: Tensor) -> Tensor:
    """z = max(x, 0).   dz/dx = 1 where x > 0, else 0 (so 0 at the kink x = 0)

    Right of 0 z is x itself; left of it z stays 0, whatever x does. (z ≠ 0 just where x > 0 or NaN.)
    >>> x = z2g.tensor([-1.0, 0.0, 2.0], requires_grad=True); x.relu().sum().backward(); x.grad
    tensor([0., 0., 1.])
    """
    x = as_array(input, "relu")
    checks.check_numbers(input, 0, "relu")
    return record("relu", quiet.run(of(x).maximum, x, 0), (input, lambda grad, z: grad * (z != 0), RESULT))


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """z = x s, s = Φ(x), the share of normal numbers below x.   dz/dx = s + x s' = slope

    "tanh": s = (1 + tanh u) / 2, u = √(2/π) (x + 0.044715 x³), close to it. (Hendrycks & Gimpel, arXiv:1606.08415)

    The product rule. Φ' is the density e^(-x²/2) / √(2π); with tanh u = 2s - 1, s' = (1 - (2s - 1)²) u' / 2.
    >>> x = z2g.tensor([0.0, 9.0], requires_grad=True); F.gelu(x).sum().backward(); x.grad
    tensor([0.5000, 1.0000])
    """
    x, c = floating(input, "gelu"), math.sqrt(2 / math.pi)
    exact = checks.gelu_is_exact(approximate)

    def share(x: Any) -> Any:
        return normal_cdf(x) if exact else 0.5 * (1 + of(x).tanh(c * (x + 0.044715 * x * x * x)))

    def rule(grad: Any, x: Any) -> Any:
        s = share(x)
        slope = 0.5 * c * of(x).exp(-0.5 * x * x) if exact else 2 * s * (1 - s) * c * (1 + 3 * 0.044715 * x * x)
        return grad * (s + x * slope)

    return record("gelu", quiet.run(lambda: x * share(x)), (input, rule, input))


def masked_fill(input: Tensor, mask: Tensor, value: float) -> Tensor:
    """z = value where the mask m is True, else x.   dz/dx = 0 where m is True, else 1.   The mask broadcasts to x.

    Where x was painted over, changing it changes nothing; elsewhere z is x.
    >>> x = z2g.tensor([1.0, 2.0], requires_grad=True)
    >>> x.masked_fill(z2g.tensor([True, False]), 9.0).sum().backward(); x.grad
    tensor([0., 1.])
    """
    x, m = as_array(input, "masked_fill"), as_array(mask, "masked_fill")
    z = row_major(quiet.run(of(x).where, m, checks.fillable(x, m, value), x))
    return record("masked_fill", z, (input, lambda grad, m: of(grad).where(m, 0, grad), mask))


# --- Shape: the rule of a rearrangement is the reverse one; it needs the old shape, never the old array ---------------


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
    >>> x = z2g.zeros(2, 2, requires_grad=True); x.transpose(0, 1)[0, 1].backward(); x.grad.tolist()
    [[0.0, 0.0], [1.0, 0.0]]
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
    """z = x[index], a view: integers, slices, None and ... (Indices in arrays copy: `../ops/indexing.py`.)

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
    >>> (x.sum(dim=1) * z2g.tensor([5.0, 7.0])).sum().backward(); x.grad.tolist()
    [[5.0, 5.0], [7.0, 7.0]]
    """
    x = as_array(input, "sum")
    x = x if x.dtype.kind == "f" else x.astype(dtypes.int64)
    dims, shape = checks.many_dims(dim, x.ndim, "sum"), x.shape
    z = row_major(quiet.run(lambda: x.sum(axis=dims, keepdims=keepdim)))
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


# --- Networks ----------------------------------------------------------------------------------------------------


def matmul(input: Tensor, other: Tensor) -> Tensor:
    """z = x y, zᵢⱼ = Σₖ xᵢₖ yₖⱼ.   ∂L/∂x = grad yᵀ,  ∂L/∂y = xᵀ grad

    A vector on the left is a row, on the right a column, and that dimension leaves the result. Leading dimensions
    are a batch and broadcast.

    Derived: xᵢₖ stands in row i of z, times yₖⱼ: ∂zᵢⱼ/∂xᵢₖ = yₖⱼ. So ∂L/∂xᵢₖ = Σⱼ gradᵢⱼ yₖⱼ, which is row i of grad
    times column k of yᵀ. Likewise ∂L/∂yₖⱼ = Σᵢ xᵢₖ gradᵢⱼ = (xᵀ grad)ₖⱼ. (The shapes allow no other.)
    >>> x = z2g.tensor([[1.0, 2.0]], requires_grad=True)  # (1, 2)
    >>> y = z2g.tensor([[3.0, 4.0], [5.0, 6.0]], requires_grad=True)  # (2, 2)
    >>> (x @ y).sum().backward(); x.grad.tolist(), y.grad.tolist()  # grad = (1, 1): x receives the row sums of y
    ([[7.0, 11.0]], [[1.0, 1.0], [2.0, 2.0]])
    """
    x, y = arrays_of("matmul", (input, other))
    checks.check_product(x, y)
    if x.ndim == 1 or y.ndim == 1:
        left = input if x.ndim > 1 else input.reshape(1, -1)  # (k,) -> (1, k)
        right = other if y.ndim > 1 else other.reshape(-1, 1)  # (k,) -> (k, 1)
        return matmul(left, right).reshape(x.shape[:-1] if y.ndim == 1 else y.shape[:-2] + y.shape[-1:])
    return record(
        "matmul",
        row_major(quiet.run(operator.matmul, x, y)),  # (..., n, k) @ (..., k, m) -> (..., n, m)
        (input, lambda grad, y: grad @ y.swapaxes(-1, -2), other),  # (..., n, m) @ (..., m, k) -> (..., n, k)
        (other, lambda grad, x: x.swapaxes(-1, -2) @ grad, input),  # (..., k, n) @ (..., n, m) -> (..., k, m)
    )


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """z = x Wᵀ + b.   ∂L/∂x = grad W,  ∂L/∂W = gradᵀ x,  ∂L/∂b = grad, summed over all rows

    Shapes: x (..., in), weight (out, in), bias (out,) -> (..., out). All leading dimensions of x together are the rows.

    Derived: `matmul` with y = Wᵀ gives grad W for x, and xᵀ grad for Wᵀ, the transpose of which is W's. b is added to
    every row, so every row's gradient reaches it.
    >>> x, W = z2g.tensor([[1.0, 2.0], [3.0, 4.0]]), z2g.tensor([[5.0, 6.0]], requires_grad=True)  # (2, 2), (1, 2)
    >>> b = z2g.tensor([0.0], requires_grad=True)
    >>> F.linear(x, W, b).sum().backward(); W.grad, b.grad  # 1 + 3, 2 + 4; two rows
    (tensor([[4., 6.]]), tensor([2.]))
    """
    x, W, b = arrays_of("linear", (input, weight), bias)
    if W.ndim == 1 and b is None:
        return matmul(input, weight)  # (..., in) @ (in) -> (...)
    checks.check_linear(x, W, b)
    n, (n_out, n_in) = math.prod(x.shape[:-1]), W.shape
    z = quiet.run(lambda: x @ W.T if b is None else x @ W.T + b)  # (..., in) @ (in, out) -> (..., out)
    return record(
        "linear",
        row_major(z),
        (input, lambda grad, W: grad @ W, weight),  # (..., out) @ (out, in) -> (..., in)
        (weight, lambda grad, x: grad.reshape(n, n_out).T @ x.reshape(n, n_in), input),  # (out, n) @ (n, in)
        (bias, lambda grad: grad),  # the engine sums the rows, as for every broadcast
    )


def embedding(input: Tensor, weight: Tensor) -> Tensor:
    """z = weight[ids]: a row of the table for each id.   ∂L/∂weight[i] = Σ of the gradients wherever i was looked up

    ids = input (...), weight (V, C) -> (..., C). On the CPU an id out of range raises IndexError.

    Derived: z = hot weight, hot (N, V) with a 1 in each row, at the id: a `matmul`, so ∂L/∂weight = hotᵀ grad. In row i
    of hotᵀ there is a 1 for each place where i was looked up: the product adds up rows of grad, and so does the rule.
    >>> w = z2g.zeros(3, 2, requires_grad=True)
    >>> F.embedding(z2g.tensor([1, 2, 1]), w).sum().backward(); w.grad.tolist()  # row 1 was read twice, row 0 never
    [[0.0, 0.0], [2.0, 2.0], [1.0, 1.0]]
    """
    ids, table = arrays_of("embedding", (input, weight))
    checks.check_table(ids, table)
    shape = table.shape

    def rule(grad: Any, ids: Any) -> Any:
        if is_tensor(grad):  # what adds up rows has a rule, too: to look them up
            return record("embedding", rows_at(ids.array, grad.array, shape), (grad, lambda grad, ids: grad[ids], ids))
        return rows_at(ids, grad, shape)

    return record("embedding", table[ids], (weight, rule, input))


def rows_at(ids: Array, rows: Array, shape: tuple[int, ...]) -> Array:
    """Zeros of `shape` to which each row is added at its id; in float64, for an id may be there a thousand times."""
    z = of(rows).zeros(shape, dtypes.float64)
    of(rows).add.at(z, ids, rows.astype(dtypes.float64))  # `z[ids] += rows` would add one only
    return z


def softmax(input: Tensor, dim: int) -> Tensor:
    """pᵢ = e^xᵢ / Σⱼ e^xⱼ along `dim`.   ∂L/∂x = p (grad - Σ p grad)

    Derived: with S = Σ e^xⱼ, ∂pᵢ/∂xⱼ = pᵢ [i = j] - pᵢ pⱼ (the quotient rule: e^xⱼ stands in the numerator of pⱼ
    alone, but in every S). Hence ∂L/∂xⱼ = Σᵢ gradᵢ ∂pᵢ/∂xⱼ = pⱼ gradⱼ - pⱼ Σᵢ pᵢ gradᵢ, one sum for the whole row.
    For x = (0, ln 3), p = (1/4, 3/4). With L = p₂, grad is (0, 1), Σ p grad is 3/4: (1/4 (0 - 3/4), 3/4 (1 - 3/4)).
    >>> x = z2g.tensor([1.0, 3.0]).log().requires_grad_()
    >>> z2g.softmax(x, dim=0)[1].backward(); x.grad
    tensor([-0.1875,  0.1875])
    """
    x = floating(input, "softmax")
    axis = checks.one_dim(dim, x.ndim, "softmax")
    p = row_major(quiet.run(_softmax, x, axis))
    return record("softmax", p, (input, lambda grad, p: p * (grad - (p * grad).sum(axis, keepdims=True)), RESULT))


def _softmax(x: Array, axis: int) -> Array:
    e = of(x).exp(below_0(x, axis))
    S = e.sum(axis=axis, keepdims=True)
    return e / (S + (S == 0))  # a row of -inf throughout gives zeros, not 0 / 0


def below_0(x: Array, axis: int) -> Array:
    """x - max x, of which no exponential overflows; in eˣ / Σ eˣ the maximum cancels."""
    lowest = float(of(x).finfo(x.dtype).min)  # in place of -inf, as -inf - -inf would be NaN
    return x - of(x).maximum(x.max(axis=axis, keepdims=True), lowest) if x.size else x


def cross_entropy(input: Tensor, target: Tensor, *, ignore_index: int = -100) -> Tensor:
    """L = the mean of -ln p[t], p = softmax(input), t the target of each row.   ∂L/∂input = (p - onehot(t)) / N

    What the model believes minus what is true, shared among the targets. input (N, C), unnormalised; target (N,),
    integers in 0..C-1. Targets equal to `ignore_index` count nowhere.

    Derived, one target: L = -x[t] + ln Σⱼ e^xⱼ. The first term has the slope -onehot(t), the second e^xⱼ / Σ = p. Of N
    targets each has 1/N of the mean. Where p[t] is nearly 1, 1 - p[t] would have no digits left, nor ln (1 + rest) for
    a small rest: in their place stand the sum of the other p, and log1p.
    Two rows x = (0, ln 3), t = 0 and 1: p = (1/4, 3/4), half of p - (1, 0), (0, 1).
    >>> x = z2g.tensor([[1.0, 3.0], [1.0, 3.0]]).log().requires_grad_()
    >>> F.cross_entropy(x, z2g.tensor([0, 1])).backward(); x.grad.tolist()
    [[-0.375, 0.375], [0.125, -0.125]]
    """
    x, ids = arrays_of("cross_entropy", (input, target))
    checks.check_scores(x, ids)
    counts = ids != ignore_index
    t = ids * counts  # class 0 stands in for what is ignored
    checks.check_ids(t, x.shape[1], "cross_entropy", "target")
    xp, (N, C), count = of(x), x.shape, counts.sum().astype(x.dtype)

    def mean_loss(x: Array) -> Array:
        s = below_0(x, 1)
        rest = (xp.exp(s) - onehot(s.argmax(1), C, x.dtype)).sum(1)  # but for the largest e^s, which is 1
        losses = xp.log1p(rest) - s[xp.arange(N), t]  # ln Σ e^x - x[t]
        return xp.where(counts, losses, 0).sum() / count

    def rule(grad: Any, x: Any) -> Any:
        p = x.softmax(1) if is_tensor(x) else _softmax(x, 1)
        hot = beside(p, onehot(t, C, x.dtype))
        others = p * (1 - hot)
        share = of(grad).where(counts, grad / beside(grad, count), 0)[:, None]  # (N, 1): 1/N, or 0
        return (others - hot * others.sum(1, keepdims=True)) * share

    return record("cross_entropy", quiet.run(mean_loss, x), (input, rule, input))


def onehot(ids: Array, n: int, dtype: Any) -> Array:
    """Rows with a 1 at the id and 0 elsewhere: (N,) -> (N, n)."""
    return (ids[:, None] == of(ids).arange(n)).astype(dtype)


def layer_norm(
    input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """z = n w + b, n = (x - mean) / √(var + eps) over the last dimensions, var the biased variance.

    ∂L/∂w = Σ grad n,  ∂L/∂b = Σ grad,  ∂L/∂x = r (g - mean(g) - n mean(g n)) with g = grad w, r = 1 / √(var + eps).

    Derived, C numbers in a row, d = x - mean, n = r d: ∂dᵢ/∂xⱼ = [i = j] - 1/C, and r = (mean(d²) + eps)^(-1/2) has
    ∂r/∂xⱼ = -r³ dⱼ / C = -r² nⱼ / C. So ∂nᵢ/∂xⱼ = r [i = j] - r / C - dᵢ r² nⱼ / C = r ([i = j] - 1/C - nᵢ nⱼ / C),
    and Σᵢ gᵢ ∂nᵢ/∂xⱼ = r (gⱼ - mean(g) - nⱼ mean(g n)). (Ba, Kiros & Hinton 2016, arXiv:1607.06450)
    For x = (-1, -1, 1, 1), n = x and r = 1; grad = (1, 0, 0, 0) has mean(g) = 1/4 and mean(g n) = -1/4:
    >>> x = z2g.tensor([-1.0, -1.0, 1.0, 1.0], requires_grad=True)
    >>> F.layer_norm(x, 4, eps=0.0)[0].backward(); x.grad  # grad - 1/4 + n / 4
    tensor([ 0.5000, -0.5000,  0.0000,  0.0000])
    """
    x, w, b = arrays_of("layer_norm", (input,), weight, bias)
    eps, axes = checks.number(eps, "layer_norm: eps"), checks.normalized(x, normalized_shape, w, b)

    C = max(math.prod([x.shape[i] for i in axes]), 1)

    def mean(x: Any) -> Any:
        return x.sum(axes, keepdims=True) / C

    def normal(x: Any) -> tuple[Any, Any]:
        d = x - mean(x)
        d = d - mean(d)  # the first mean is rounded
        r = 1 / of(x).sqrt(mean(d * d) + eps)
        return d * r, r

    def grad_x(grad: Any, x: Any, w: Any) -> Any:
        n, r = normal(x)
        g = grad if w is None else grad * w
        return r * (g - mean(g) - n * mean(g * n))

    z = row_major(quiet.run(lambda: normal(x)[0] * (1 if w is None else w) + (0 if b is None else b)))
    return record(
        "layer_norm",
        z,
        (input, grad_x, input, weight),
        (weight, lambda grad, x: grad * normal(x)[0], input),
        (bias, lambda grad: grad),
    )


def dropout(input: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """z = x m: each element is dropped (m = 0) with probability p, or else scaled by m = 1 / (1 - p).

    The scale keeps the expected value, so that nothing changes when `training` is False: then z = x. m is drawn
    beforehand, a constant: ∂L/∂x = grad m. What was dropped has no part in z. (Srivastava et al. 2014)
    >>> x = z2g.ones(8, requires_grad=True); z = F.dropout(x, 0.5); z.sum().backward()
    >>> z2g.equal(x.grad, z)  # since x = 1, z is m
    True
    """
    p = checks.probability(p, "dropout: p")
    if not training or p == 0:
        return input
    x = as_array(input, "dropout")
    if p == 1:  # 0 whatever x is: integers, or infinite
        return record("dropout", laid_out(of(x).zeros_like(x), x), (input, lambda grad: of(grad).zeros_like(grad)))
    checks.check_floating(x, "dropout")
    m = dropout_mask(x, p, default_generator.next_key())
    return record("dropout", laid_out(quiet.run(operator.mul, x, m), x), (input, lambda grad, m: grad * m, m))


def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None,
) -> Tensor:  # fmt: skip
    """z = softmax(q kᵀ / √d + mask) v: each query takes the mean of the values, weighted by its match with the keys.

    query (..., T, d), key (..., S, d), value (..., S, e) -> (..., T, e). `is_causal`: query i sees keys 0..i only.
    `attn_mask` broadcasts to (..., T, S): True where a query may look, or numbers added to the scores (-inf forbids);
    with `is_causal`, both hold. A query that may look nowhere gives 0. `dropout_p` drops weights, always: pass 0 when
    evaluating. (Vaswani et al. 2017, arXiv:1706.03762)

    Derived, with s = q kᵀ / √d and p = softmax(s): z = p v is a `matmul`, so ∂L/∂v = pᵀ grad and ∂L/∂p = grad vᵀ; the
    softmax turns that into ∂L/∂s = p (∂L/∂p - Σ p ∂L/∂p); s is a `matmul` again, so with g = ∂L/∂s / √d
    ∂L/∂q = g k and ∂L/∂k = gᵀ q. (No rule stands here: the operations bring theirs.)
    One query that matches two keys equally, p = (1/2, 1/2), d = 1, v = (0, 4): g = 1/2 ((0, 4) - 2) = (-1, 1).
    >>> q, k, v = z2g.tensor([[0.0]], requires_grad=True), z2g.tensor([[1.0], [3.0]]), z2g.tensor([[0.0], [4.0]])
    >>> F.scaled_dot_product_attention(q, k, v).backward(); q.grad  # -1 · 1 + 1 · 3
    tensor([[2.]])
    """
    q, k, v, mask = arrays_of("scaled_dot_product_attention", (query, key, value), attn_mask)
    scale, dropout_p = checks.attention(q, k, v, mask, scale, dropout_p)
    seed = default_generator.next_key() if dropout_p else 0
    if mask is not None and mask.dtype.kind == "f" and mask.dtype != q.dtype:
        attn_mask = converted(attn_mask, mask.astype(q.dtype))  # type: ignore[arg-type]  # a tensor, as mask says
    z = attend(query, key, value, attn_mask, is_causal, scale, dropout_p, seed)
    if q.ndim == 4 and q.shape == z.shape and not dropout_p:
        z.array = laid_out(z.array, q)  # which nobody has seen yet: heads that lie side by side in q do so in z
    return z


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Any, causal: bool, scale: float, drop: float, seed: int) -> Tensor:
    """`scaled_dot_product_attention` of checked arguments, its dropout by the mask of the key `seed`."""
    scores = q @ k.transpose(-2, -1) * scale  # (..., T, d) @ (..., d, S) -> (..., T, S)
    if causal:
        past = of(scores.array).tri(*scores.array.shape[-2:], dtype=bool)  # (T, S), True at and below the diagonal
        scores = scores.masked_fill(q.make(~past), -math.inf)
    if mask is not None:
        scores = scores.masked_fill(q.make(~mask.array), -math.inf) if mask.dtype.kind == "b" else scores + mask
    p = scores.softmax(-1)
    if drop:
        p = p * q.make(dropout_mask(p.array, drop, seed))
    return p @ v  # (..., T, S) @ (..., S, e) -> (..., T, e)
