"""More products: with something added, of three dimensions, of all pairs. Composed; no rule of its own.

It knows nothing of gradients: those of `matmul`, `mul` and `sum` do it all.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import numpy as np

from ..arrays import dtypes
from ..arrays.backend import of
from ..half.table import apply
from .common import as_array, fits, number, one_dim
from .elementwise import abs, add, clamp, div, masked_fill, mul, pow, sqrt, square, sub
from .grids import column_stack
from .indexing import getitem
from .linalg import bmm, dot, matmul, mm, mv, outer, tensordot
from .reduction import amax, cumsum, mean, sum
from .shape import cat, diagonal, expand, narrow, reshape, roll, t, unsqueeze

if TYPE_CHECKING:
    from ..tensor import Tensor


def _plus(name: str, input: Tensor, product: Tensor, beta: float, alpha: float) -> Tensor:
    """beta · input + alpha · product, as large as the product. Where beta is 0, input is not read: nor its NaN."""
    if alpha != 1:
        product = mul(product, alpha)
    if beta == 0:
        return product
    shape = product.array.shape
    if not fits(as_array(input, name).shape, shape):
        raise RuntimeError(f"{name}: input of shape {tuple(input.shape)} does not broadcast to {tuple(shape)}")
    return add(input if beta == 1 else mul(input, beta), product)


def addmm(input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """z = beta · x + alpha · A B, with the product of two matrices.

    >>> x, A = z2g.zeros(1, 1, requires_grad=True), z2g.tensor([[1.0, 2.0]], requires_grad=True)
    >>> z2g.addmm(x, A, z2g.tensor([[3.0], [4.0]]), alpha=10).backward(); x.grad, A.grad
    (tensor([[1.]]), tensor([[30., 40.]]))
    """
    return _plus("addmm", input, mm(mat1, mat2), beta, alpha)


def addmv(input: Tensor, mat: Tensor, vec: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """z = beta · x + alpha · A v, with the product of a matrix and a vector.

    >>> x, A = z2g.zeros(1, requires_grad=True), z2g.tensor([[1.0, 2.0]])
    >>> z2g.addmv(x, A, z2g.tensor([3.0, 4.0]), beta=2).backward(); x.grad
    tensor([2.])
    """
    return _plus("addmv", input, mv(mat, vec), beta, alpha)


def addr(input: Tensor, vec1: Tensor, vec2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """z = beta · x + alpha · u vᵀ, with the outer product of two vectors.

    >>> x, u = z2g.zeros(1, 2, requires_grad=True), z2g.tensor([1.0], requires_grad=True)
    >>> z2g.addr(x, u, z2g.tensor([3.0, 4.0])).sum().backward(); x.grad, u.grad
    (tensor([[1., 1.]]), tensor([7.]))
    """
    return _plus("addr", input, outer(vec1, vec2), beta, alpha)


def baddbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """z = beta · x + alpha · A B, with the products of two batches of matrices.

    >>> x, A = z2g.zeros(1, 1, 1, requires_grad=True), z2g.ones(1, 1, 2)
    >>> z2g.baddbmm(x, A, z2g.ones(1, 2, 1), beta=3).sum().backward(); x.grad
    tensor([[[3.]]])
    """
    return _plus("baddbmm", input, bmm(batch1, batch2), beta, alpha)


def addbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """z = beta · x + alpha · Σ A B, the products of two batches of matrices summed over the batch.

    >>> x, A = z2g.zeros(1, 1, requires_grad=True), z2g.ones(2, 1, 1, requires_grad=True)
    >>> z2g.addbmm(x, A, z2g.full((2, 1, 1), 5.0)).backward(); A.grad.tolist()
    [[[5.0]], [[5.0]]]
    """
    return _plus("addbmm", input, sum(bmm(batch1, batch2), 0), beta, alpha)


def addcmul(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
    """z = x + value · u v, element by element.

    >>> x, u = z2g.zeros(1, requires_grad=True), z2g.tensor([2.0], requires_grad=True)
    >>> z2g.addcmul(x, u, z2g.tensor([3.0]), value=10).backward(); x.grad, u.grad
    (tensor([1.]), tensor([30.]))
    """
    product = mul(tensor1, tensor2)
    return add(input, product if value == 1 else mul(product, value))


def addcdiv(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
    """z = x + value · u / v, element by element.

    >>> x, u = z2g.zeros(1, requires_grad=True), z2g.tensor([2.0], requires_grad=True)
    >>> z2g.addcdiv(x, u, z2g.tensor([4.0]), value=10).backward(); x.grad, u.grad
    (tensor([1.]), tensor([2.5000]))
    """
    for u, v in ((tensor1, tensor2),):
        if as_array(u, "addcdiv").dtype.kind != "f" and as_array(v, "addcdiv").dtype.kind != "f":
            raise RuntimeError("addcdiv: of two integer tensors is not offered; convert one: x.float()")
    quotient = div(tensor1, tensor2)
    return add(input, quotient if value == 1 else mul(quotient, value))


def inner(input: Tensor, other: Tensor) -> Tensor:
    """z[..., i, ..., j] = Σₖ x[..., i, k] y[..., j, k]: products along the last dimensions; of vectors, `dot`.

    >>> x, y = z2g.tensor([1.0, 2.0], requires_grad=True), z2g.tensor([[3.0, 4.0], [5.0, 6.0]])
    >>> z2g.inner(x, y).sum().backward(); x.grad
    tensor([ 8., 10.])
    """
    a, b = as_array(input, "inner"), as_array(other, "inner")
    if not a.ndim or not b.ndim:
        return mul(input, other)
    if a.shape[-1] != b.shape[-1]:
        raise RuntimeError(f"inner: last dimensions of {tuple(a.shape)} and {tuple(b.shape)} differ")
    return tensordot(input, other, ([-1], [-1]))


def vdot(input: Tensor, other: Tensor) -> Tensor:
    """z = Σ x y for two vectors: `dot`, from which it differs for complex numbers alone.

    >>> x = z2g.tensor([1.0, 2.0], requires_grad=True); z2g.vdot(x, z2g.tensor([3.0, 4.0])).backward(); x.grad
    tensor([3., 4.])
    """
    return dot(input, other)


def kron(input: Tensor, other: Tensor) -> Tensor:
    """Kronecker's product: y as a block for each element of x, times that element. (n, m), (k, l) -> (n k, m l)

    >>> x, y = z2g.tensor([1.0, 2.0], requires_grad=True), z2g.tensor([3.0, 4.0])
    >>> z2g.kron(x, y).sum().backward(); x.grad  # (3, 4, 6, 8)
    tensor([7., 7.])
    """
    a, b = as_array(input, "kron"), as_array(other, "kron")
    n = max(a.ndim, b.ndim)
    left, right = ((1,) * (n - x.ndim) + x.shape for x in (a, b))
    x = reshape(input, *(s for size in left for s in (size, 1)))  # (n, m) -> (n, 1, m, 1)
    y = reshape(other, *(s for size in right for s in (1, size)))  # (k, l) -> (1, k, 1, l)
    return reshape(mul(x, y), *(i * j for i, j in zip(left, right, strict=True)))  # (n, k, m, l) -> (n k, m l)


def chain_matmul(*matrices: Tensor) -> Tensor:
    """The product of several matrices, from left to right.

    >>> x = z2g.tensor([[2.0]], requires_grad=True); z2g.chain_matmul(x, x, x).backward(); x.grad
    tensor([[12.]])
    """
    return functools.reduce(mm, matrices)


def matrix_power(input: Tensor, n: int) -> Tensor:
    """A A ... A, n times, by repeated squaring; the unit matrix for n = 0. For n < 0: see `linalg.matrix_power`.

    >>> A = z2g.tensor([[2.0]], requires_grad=True); z2g.matrix_power(A, 3).backward(); A.grad
    tensor([[12.]])
    """
    a = as_array(input, "matrix_power")
    if a.ndim < 2 or a.shape[-1] != a.shape[-2]:
        raise RuntimeError(f"matrix_power: expected square matrices, got shape {tuple(a.shape)}")
    if n < 0:
        raise RuntimeError(f"matrix_power: got n = {n}; a negative one is taken by linalg.matrix_power")
    if n == 0:
        return add(mul(input, 0), input.make(of(a).eye(a.shape[-1], dtype=a.dtype)))
    square, z = input, None
    while n > 1:
        if n & 1:
            z = square if z is None else matmul(z, square)
        n >>= 1
        square = matmul(square, square)
    return square if z is None else matmul(z, square)


def trace(input: Tensor) -> Tensor:
    """The sum of a matrix's diagonal.

    >>> x = z2g.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True); x.trace().backward(); x.grad
    tensor([[1., 0.],
            [0., 1.]])
    """
    if as_array(input, "trace").ndim != 2:
        raise RuntimeError(f"trace: expected a matrix, got shape {tuple(input.shape)}")
    return sum(diagonal(input))


def cross(input: Tensor, other: Tensor, dim: int | None = None) -> Tensor:
    """The vector at right angles to two vectors (x₁y₂ - x₂y₁, x₂y₀ - x₀y₂, x₀y₁ - x₁y₀), along a dim of size 3: the
    first such dim if none is given.

    >>> x, y = z2g.tensor([1.0, 0.0, 0.0], requires_grad=True), z2g.tensor([0.0, 1.0, 0.0])
    >>> z2g.cross(x, y, dim=0)[2].backward(); x.grad  # z₂ = x₀y₁ - x₁y₀
    tensor([1., 0., 0.])
    """
    a, b = as_array(input, "cross"), as_array(other, "cross")
    shape = np.broadcast_shapes(a.shape, b.shape) if a.shape != b.shape else a.shape
    if dim is None:
        dim = next((d for d, n in enumerate(shape) if n == 3), None)
        if dim is None:
            raise RuntimeError(f"cross: no dimension of {tuple(shape)} has size 3")
    axis = one_dim(dim, len(shape), "cross")
    if a.ndim != b.ndim or shape[axis] != 3 or a.shape[axis] != 3 or b.shape[axis] != 3:
        raise RuntimeError(f"cross: dim {dim} of {tuple(a.shape)} and {tuple(b.shape)} must have size 3 in both")
    x, y = expand(input, *shape), expand(other, *shape)
    return sub(mul(roll(x, -1, axis), roll(y, -2, axis)), mul(roll(x, -2, axis), roll(y, -1, axis)))


def cdist(x1: Tensor, x2: Tensor, p: float = 2.0, compute_mode: str | None = None) -> Tensor:
    """The distance of each row of x from each row of y, (Σ |xᵢ - yⱼ|ᵖ)^(1/p): (..., n, d), (..., m, d) -> (..., n, m).

    `compute_mode` chooses between ways of computing in torch, here there is one: by differences. The gradient at the
    distance 0 is 0.

    >>> x, y = z2g.tensor([[3.0, 4.0]], requires_grad=True), z2g.tensor([[0.0, 0.0]])
    >>> z2g.cdist(x, y).backward(); x.grad  # the unit vector from y to x
    tensor([[0.6000, 0.8000]])
    """
    a, b = as_array(x1, "cdist"), as_array(x2, "cdist")
    if a.ndim < 2 or b.ndim < 2 or a.shape[-1] != b.shape[-1]:
        raise RuntimeError(f"cdist: expected (..., n, d) and (..., m, d), got {tuple(a.shape)} and {tuple(b.shape)}")
    difference = sub(unsqueeze(x1, -2), unsqueeze(x2, -3))  # (..., n, 1, d) - (..., 1, m, d) -> (..., n, m, d)
    return distance(difference, p, "cdist")


def distance(difference: Tensor, p: float, name: str) -> Tensor:
    """(Σ |d|ᵖ)^(1/p) over the last dimension, with the gradient 0 where it is 0."""
    p = float(number(p, f"{name}: p"))
    if p < 0:
        raise RuntimeError(f"{name}: p must be >= 0, got {p}")
    if p == math.inf:
        return amax(abs(difference), -1) if difference.array.shape[-1] else sum(difference, -1)
    if p == 1:
        return sum(abs(difference), -1)
    if p == 0:
        return sum(difference.make((difference.array != 0).astype(difference.array.dtype)), -1)
    powers = sum(square(difference) if p == 2 else pow(abs(difference), p), -1)
    zero = powers.make(powers.array == 0)
    root = masked_fill(powers, zero, 1.0)  # whose slope at 0 would be infinite, and infinity times 0 NaN
    return masked_fill(sqrt(root) if p == 2 else pow(root, 1 / p), zero, 0.0)


def dist(input: Tensor, other: Tensor, p: float = 2) -> Tensor:
    """The p-norm of x - y, as one vector.

    >>> x = z2g.tensor([3.0, 4.0], requires_grad=True); z2g.dist(x, z2g.zeros(2)).backward(); x.grad
    tensor([0.6000, 0.8000])
    """
    return distance(reshape(sub(input, other), -1), p, "dist")


# --- Along a curve -----------------------------------------------------------------------------------------------


def diff(
    input: Tensor, n: int = 1, dim: int = -1, prepend: Tensor | None = None, append: Tensor | None = None
) -> Tensor:
    """zᵢ = xᵢ₊₁ - xᵢ along `dim`, n times; before that x is lengthened at its ends.

    >>> x = z2g.tensor([1.0, 4.0, 9.0], requires_grad=True); x.diff().sum().backward(); x.grad  # 9 - 1
    tensor([-1.,  0.,  1.])
    """
    axis = one_dim(dim, as_array(input, "diff").ndim, "diff")
    if not input.array.ndim:
        raise RuntimeError("diff: expected at least 1 dimension, got a 0-d tensor")
    if n < 0:
        raise RuntimeError(f"diff: n must be >= 0, got {n}")
    ends = [part for part in (prepend, input, append) if part is not None]
    x = cat(ends, axis) if len(ends) > 1 else input
    for _ in range(min(n, x.array.shape[axis])):
        size = x.array.shape[axis] - 1
        later, sooner = narrow(x, axis, 1, size), narrow(x, axis, 0, size)
        x = later.make(later.array ^ sooner.array) if x.array.dtype.kind == "b" else sub(later, sooner)
    return x


def trapezoid(y: Tensor, x: Tensor | None = None, *, dx: float = 1, dim: int = -1) -> Tensor:
    """The area under a curve through the points y, `dx` apart or at the places x: Σ (xᵢ₊₁ - xᵢ) (yᵢ + yᵢ₊₁) / 2.

    >>> y = z2g.tensor([1.0, 2.0, 3.0], requires_grad=True); z2g.trapezoid(y).backward(); y.grad
    tensor([0.5000, 1.0000, 0.5000])
    """
    axis = one_dim(dim, as_array(y, "trapezoid").ndim, "trapezoid")
    n = y.array.shape[axis]
    if n == 0:
        return sum(y, axis)
    means = div(add(narrow(y, axis, 1, n - 1), narrow(y, axis, 0, n - 1)), 2)
    if x is None:
        return mul(sum(means, axis), dx)
    if as_array(x, "trapezoid").ndim == 1 and y.array.ndim > 1:
        x = reshape(x, *(-1 if d == axis else 1 for d in range(y.array.ndim)))
    return sum(mul(diff(x, 1, axis if x.array.ndim == y.array.ndim else dim), means), axis)


def cumulative_trapezoid(y: Tensor, x: Tensor | None = None, *, dx: float = 1, dim: int = -1) -> Tensor:
    """The area under a curve up to each point but the first; see `trapezoid`.

    >>> y = z2g.tensor([1.0, 2.0, 3.0], requires_grad=True); z2g.cumulative_trapezoid(y)[1].backward(); y.grad
    tensor([0.5000, 1.0000, 0.5000])
    """
    axis = one_dim(dim, as_array(y, "cumulative_trapezoid").ndim, "cumulative_trapezoid")
    n = y.array.shape[axis]
    means = div(add(narrow(y, axis, 1, n - 1), narrow(y, axis, 0, n - 1)), 2)
    if x is None:
        return cumsum(mul(means, dx), axis)
    if x.array.ndim == 1 and y.array.ndim > 1:
        x = reshape(x, *(-1 if d == axis else 1 for d in range(y.array.ndim)))
    return cumsum(mul(diff(x, 1, axis), means), axis)


def vander(x: Tensor, N: int | None = None, increasing: bool = False) -> Tensor:
    """The powers of each element as a row: xᴺ⁻¹, ..., x, 1; `increasing`: 1, x, ..., xᴺ⁻¹.

    >>> x = z2g.tensor([3.0], requires_grad=True); z2g.vander(x, 3).sum().backward(); x.grad  # x² + x + 1
    tensor([7.])
    """
    a = as_array(x, "vander")
    if a.ndim != 1:
        raise RuntimeError(f"vander: expected a vector, got shape {tuple(a.shape)}")
    n = len(a) if N is None else N
    if n < 0:
        raise RuntimeError(f"vander: N must be >= 0, got {N}")
    if not n:
        return getitem(unsqueeze(x, 1), (slice(None), slice(0, 0)))
    powers = [pow(x, 0)]
    for _ in range(n - 1):
        powers.append(mul(powers[-1], x))
    return column_stack(powers if increasing else powers[::-1])


# --- Together ----------------------------------------------------------------------------------------------------


def cov(
    input: Tensor, *, correction: int = 1, fweights: Tensor | None = None, aweights: Tensor | None = None
) -> Tensor:
    """The covariances of variables that stand in rows, observations in columns: C = D Dᵀ / (n - correction), D the
    deviations from the means. (n, m) -> (n, n). Weights are not offered.

    >>> x = z2g.tensor([[1.0, 3.0]], requires_grad=True); x.cov().backward(); x.grad  # the variance
    tensor([[-2.,  2.]])
    """
    if fweights is not None or aweights is not None:
        raise NotImplementedError("cov: fweights and aweights are not offered; multiply the columns yourself")
    if as_array(input, "cov").ndim > 2:
        raise RuntimeError(f"cov: expected at most 2 dimensions, got shape {tuple(input.shape)}")
    x = reshape(input, 1, -1) if input.array.ndim < 2 else input
    x = x if x.array.dtype.kind == "f" else x.to(dtypes.get_default_dtype())
    d = sub(x, mean(x, 1, keepdim=True))
    degrees = x.array.shape[1] - correction
    c = div(matmul(d, t(d)), degrees if degrees > 0 else 0.0)  # (n, m) @ (m, n) -> (n, n)
    return c if input.array.ndim == 2 else reshape(c, ())


def corrcoef(input: Tensor) -> Tensor:
    """The correlations of variables that stand in rows: Cᵢⱼ / √(Cᵢᵢ Cⱼⱼ), C the covariances, limited to [-1, 1].

    >>> x = z2g.tensor([[1.0, 2.0, 4.0], [1.0, 3.0, 2.0]], requires_grad=True)
    >>> x.corrcoef()[0, 1].backward(); (x.grad.sum(1).abs() < 1e-6).tolist()  # shifting a variable changes nothing
    [True, True]
    """
    c = cov(input)
    if not c.array.ndim:
        return div(c, c)
    deviations = sqrt(diagonal(c))
    return clamp(div(div(c, unsqueeze(deviations, 1)), unsqueeze(deviations, 0)), -1, 1)


apply(globals())  # mixed precision, by the table in half/
