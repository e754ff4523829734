"""Operations that combine the elements along some dimensions: sums, means, extremes, spreads.

`dim` is one dimension, a tuple of them, or None for all; `keepdim` leaves them in place with size 1. The backward pass
of a reduction is a broadcast: every element that went into a sum receives the gradient of the sum.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np

from .. import fast
from ..arrays import dtypes
from ..arrays.backend import Array, of, quiet, silent
from ..arrays.layout import spread
from ..core import ops
from ..core.engine import RESULT, Derived, Variable, record
from ..core.operands import is_tensor
from ..half.table import apply
from .common import (
    as_array,
    constant,
    converted,
    linear_rule,
    many_dims,
    number,
    numpy_names,
    one_dim,
    row_major,
    widens,
)
from .elementwise import masked_fill, maximum, minimum
from .indexing import take_along_dim

if TYPE_CHECKING:
    from ..tensor import Tensor


class ValuesIndices(NamedTuple):
    """What `max(x, dim)` returns: the values, and where along `dim` they were found (int64)."""

    values: Tensor
    indices: Tensor


def _accurate(a: Any) -> Any:
    """`a` as long running sums and products of it are computed: each partial result is rounded, and that adds up (a
    float32 sum of a million 0.1 is wrong in its third digit, a float16 sum of ones stops at 2,048)."""
    wide = {dtypes.float16: dtypes.float32, dtypes.float32: dtypes.float64}.get(a.dtype, a.dtype)
    return a.to(wide) if is_tensor(a) else a.astype(wide, copy=False)


def _converted(a: Array, dtype: Any) -> Array:
    """`a` in the dtype asked for, or in that of its sums and products: int64 for integers and bools."""
    if dtype is None:
        dtype = a.dtype if a.dtype.kind == "f" else dtypes.int64
    return a.astype(dtypes.as_dtype(dtype), copy=False)


@numpy_names
@widens(ops.sum)
def sum(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """z = Σ x over `dim`, see `core.ops.sum`; in another `dtype`, if asked for. Integers sum to int64.

    >>> x = z2g.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    >>> (x.sum(dim=1) * z2g.tensor([5.0, 7.0])).sum().backward(); x.grad
    tensor([[5., 5.],
            [7., 7.]])
    """
    if dtype is None:
        return ops.sum(input, dim, keepdim)
    a = _converted(as_array(input, "sum"), dtype)
    if a.dtype.kind == "b":  # whose sum is "or"
        return any(constant(input, a), dim, keepdim)
    return ops.sum(input.to(dtype=a.dtype), dim, keepdim).to(dtype=a.dtype)  # int32 sums to int64 there


@numpy_names
@widens(ops.mean)
def mean(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """z = Σ x / n over the n elements along `dim`, see `core.ops.mean`; in another `dtype`, if asked for.

    >>> x = z2g.tensor([1.0, 2.0, 3.0, 6.0], requires_grad=True); x.mean().backward(); x.grad
    tensor([0.2500, 0.2500, 0.2500, 0.2500])
    """
    return ops.mean(input if dtype is None else input.to(dtype=dtype), dim, keepdim)


def _count(a: Array, dims: tuple[int, ...]) -> int:
    """How many elements a reduction over `dims` combines into one."""
    return math.prod(a.shape[d] for d in dims)


@numpy_names
@silent
def var(
    input: Tensor,
    dim: Any = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> Tensor:
    """z = Σ d² / (n - correction), d = x - m, m the mean along `dim`.   dz/dx = 2 d / (n - correction)

    correction: 1 by default (the unbiased estimate, Bessel), 0 for the variance of the data themselves;
    `unbiased` is the older way to say 1 or 0. Where n ≤ correction, Σ d² / 0: inf, or NaN if all are equal.

    xⱼ stands in its own square and, through m, with the weight 1/n in all: dz/dxⱼ is 2 / (n - correction) times
    dⱼ - Σᵢ dᵢ / n, and that sum is 0. For (1, 2, 3): m = 2, n - 1 = 2.
    >>> x = z2g.tensor([1.0, 2.0, 3.0], requires_grad=True); x.var().backward(); x.grad
    tensor([-1.,  0.,  1.])
    """
    x, dims, scale, keepdim = _moments("var", input, dim, unbiased, keepdim, correction)
    d, z = _variance(x, dims, scale, keepdim)
    z = row_major(z.astype(x.dtype, copy=False))
    d = abs(d) if scale == math.inf else d  # torch's infinite gradient does not ask on which side of m x is
    return record(
        "var",
        z,
        (input, lambda grad, d: spread(grad, dims, keepdim) * (2 * scale) * d, Derived(d, _deviation(dims), input)),
    )


@numpy_names
@silent
def std(
    input: Tensor,
    dim: Any = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> Tensor:
    """z = √var(x).   dz/dx = d / ((n - correction) z), d = x - m; 0 where z = 0.   Arguments as for `var`

    z² = v, so 2z dz = dv, and dv/dx = 2 d / (n - correction) as for `var`. For (2, 4, 6): m = 4, v = 4, z = 2.
    >>> x = z2g.tensor([2.0, 4.0, 6.0], requires_grad=True); x.std().backward(); x.grad
    tensor([-0.5000,  0.0000,  0.5000])
    """
    x, dims, scale, keepdim = _moments("std", input, dim, unbiased, keepdim, correction)
    xp = of(x)
    d, variance = _variance(x, dims, scale, keepdim)
    z = row_major(xp.sqrt(variance).astype(x.dtype, copy=False))

    def rule(grad: Any, z: Any, d: Any) -> Any:
        slope = of(grad).where(z == 0, 0, grad * scale / z)
        return spread(slope, dims, keepdim) * d

    return record("std", z, (input, rule, RESULT, Derived(d, _deviation(dims), input)))


def _variance(x: Array, dims: tuple[int, ...], scale: float, keepdim: bool) -> tuple[Array, Array]:
    """d and Σ d² · scale. Where float32 overflows on the way, in float64: the deviation of 10²⁰ has a square that is
    beyond its range. (On a GPU nobody looks.)"""
    d = x - fast.total(x, dims, True) / (_count(x, dims) or math.nan)
    z = fast.total(d * d, dims, keepdim) * scale
    if x.dtype == dtypes.float32 and of(x) is np and not np.isfinite(z).all():
        return _variance(x.astype(np.float64), dims, scale, keepdim)
    return d, z


def _deviation(dims: tuple[int, ...]) -> Any:
    """What gives d = x - m, the deviations from the mean over `dims`, their history."""

    def centred(grad: Any) -> Any:
        return grad - grad.mean(dims, keepdims=True)

    return lambda d, x: record("deviation", d, (x, centred))


def _moments(name: str, x: Any, dim: Any, unbiased: Any, keepdim: bool, correction: Any) -> tuple:
    """The checked arguments of var and std: array, dims, 1 / (count - correction), keepdim."""
    a = as_array(x, name)
    if a.dtype.kind != "f":
        raise RuntimeError(f"{name}: expected floating point, got {a.dtype}; convert first: x.float().{name}()")
    if isinstance(dim, bool):  # x.var(False): the old first argument was `unbiased`
        dim, unbiased = None, dim
    if correction is None:
        correction = 1 if unbiased is None else int(unbiased)
    correction = number(correction, f"{name}: correction")
    dims = many_dims(dim, a.ndim, name)
    degrees = _count(a, dims) - correction
    return a, dims, 1 / degrees if degrees > 0 else math.inf, keepdim


@numpy_names
@silent
def prod(input: Tensor, dim: int | None = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """z = Π x over one `dim` or all.   dz/dxᵢ = Π of the others

    The product of the others is (product of those before) x (product of those after): no division, so zeros are fine.

    z is a multiple of xᵢ, and the factor is the product of all others.
    >>> x = z2g.tensor([2.0, 3.0, 4.0], requires_grad=True); x.prod().backward(); x.grad
    tensor([12.,  8.,  6.])
    """
    x = _converted(as_array(input, "prod"), dtype)
    wide = _accurate(x)
    axis = None if dim is None else one_dim(dim, x.ndim, "prod")
    z = wide.prod() if axis is None or not x.ndim else wide.prod(axis=axis, keepdims=keepdim)
    z = row_major(z.astype(x.dtype, copy=False))

    def rule(grad: Any, x: Any) -> Any:
        flat, xp = axis is None or not x.ndim, of(x)
        rows = x.reshape(1, -1) if flat else xp.moveaxis(x, axis, -1)  # (..., n)
        one = xp.ones_like(rows[..., :1])
        before = xp.cumprod(_accurate(xp.concatenate([one, rows[..., :-1]], -1)), -1)
        after = xp.flip(xp.cumprod(_accurate(xp.concatenate([one, xp.flip(rows[..., 1:], -1)], -1)), -1), -1)
        others = (before * after).reshape(x.shape) if flat else xp.moveaxis(before * after, -1, axis)
        return (grad if flat or axis is None else spread(grad, (axis,), keepdim)) * others

    return record("prod", z, (input, rule, input if x is input.array else converted(input, x)))


# --- Extremes ----------------------------------------------------------------------------------------------------


@overload
def max(input: Tensor) -> Tensor:
    """The largest element of all."""


@overload
def max(input: Tensor, dim: int, keepdim: bool = False) -> ValuesIndices:
    """The largest along a dimension, and where they stand."""


@overload
def max(input: Tensor, dim: Tensor) -> Tensor:
    """The largest of two, element by element."""


@numpy_names
def max(input: Tensor, dim: Any = None, keepdim: bool = False) -> Any:
    """The largest element; with a `dim`, (values, indices) along it; with a tensor, `maximum`.

    Gradient: along a `dim` all of it goes to the element whose index is returned (the first of equals); over the
    whole tensor equal maxima share it evenly.

    Only the largest element moves the result; until another overtakes it, z is that element.
    >>> x = z2g.tensor([[1.0, 5.0], [7.0, 3.0]], requires_grad=True); x.max(dim=1).values.sum().backward(); x.grad
    tensor([[0., 1.],
            [1., 0.]])
    """
    return _extreme("max", input, dim, keepdim)


@overload
def min(input: Tensor) -> Tensor:
    """The smallest element of all."""


@overload
def min(input: Tensor, dim: int, keepdim: bool = False) -> ValuesIndices:
    """The smallest along a dimension, and where they stand."""


@overload
def min(input: Tensor, dim: Tensor) -> Tensor:
    """The smallest of two, element by element."""


@numpy_names
def min(input: Tensor, dim: Any = None, keepdim: bool = False) -> Any:
    """The smallest element; otherwise as `max`.

    >>> x = z2g.tensor([[1.0, 5.0], [7.0, 3.0]], requires_grad=True); x.min(dim=1).values.sum().backward(); x.grad
    tensor([[1., 0.],
            [0., 1.]])
    """
    return _extreme("min", input, dim, keepdim)


def _extreme(name: str, x: Tensor, dim: Any, keepdim: bool) -> Any:
    if isinstance(dim, Variable):
        return (maximum if name == "max" else minimum)(x, dim)
    if dim is None:
        return (amax if name == "max" else amin)(x)
    indices = (argmax if name == "max" else argmin)(x, dim, keepdim=True)
    values = take_along_dim(x, indices, dim)
    if keepdim or not x.array.ndim:
        return ValuesIndices(values, indices)
    return ValuesIndices(values.squeeze(dim), indices.squeeze(dim))


@numpy_names
def amax(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """z = max x over `dim` (several allowed).   dz/dx = 1/k for each of the k elements equal to z, else 0

    If there is a NaN, z is NaN, and the NaNs are the elements equal to it.

    Until another overtakes it, z is its largest element. Where k are equal they share, so that order does not matter.
    >>> x = z2g.tensor([4.0, 1.0, 4.0], requires_grad=True); x.amax().backward(); x.grad
    tensor([0.5000, 0.0000, 0.5000])
    """
    return _shared_extreme("amax", "max", input, dim, keepdim)


@numpy_names
def amin(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """z = min x over `dim` (several allowed).   dz/dx = 1/k for each of the k elements equal to z, else 0

    Until another undercuts it, z is its smallest element. Where k are equal they share, so that order does not matter.
    >>> x = z2g.tensor([4.0, 1.0, 4.0], requires_grad=True); x.amin().backward(); x.grad
    tensor([0., 1., 0.])
    """
    return _shared_extreme("amin", "min", input, dim, keepdim)


def _shared_extreme(name: str, method: str, input: Tensor, dim: Any, keepdim: bool) -> Tensor:
    x = as_array(input, name)
    dims = many_dims(dim, x.ndim, name)
    if x.size == 0 and _count(x, dims) == 0:
        error = RuntimeError if dim is None else IndexError
        raise error(f"{name}: shape {tuple(x.shape)} has no elements along dim {dims}; its {method} is undefined")
    z = row_major(quiet.run(lambda: getattr(x, method)(axis=dims, keepdims=keepdim)))

    def rule(grad: Any, x: Any, z: Any) -> Any:
        best = spread(z, dims, keepdim)
        hit = (x == best) | ((best != best) & (x != x))  # NaN ≠ NaN
        share = spread(grad, dims, keepdim) / hit.sum(axis=dims, keepdims=True, dtype=grad.dtype)
        return of(grad).where(hit, share, 0)

    return record(name, z, (input, rule, input, RESULT))


@numpy_names
def argmax(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The index of the largest element along `dim` (int64), in the flattened tensor if None. The first of equals."""
    return _arg_extreme("argmax", input, dim, keepdim)


@numpy_names
def argmin(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The index of the smallest element along `dim` (int64), in the flattened tensor if None. The first of equals."""
    return _arg_extreme("argmin", input, dim, keepdim)


def _arg_extreme(name: str, x: Tensor, dim: int | None, keepdim: bool) -> Tensor:
    a = as_array(x, name)
    axis = None if dim is None else one_dim(dim, a.ndim, name)
    if (a.size if axis is None or not a.ndim else a.shape[axis]) == 0:
        raise IndexError(f"{name}: shape {tuple(a.shape)} has no elements along dim {dim}; {name} is undefined")
    if not a.ndim:
        return constant(x, of(a).zeros((), dtypes.int64))
    found = getattr(of(a), name)(a, axis=axis, keepdims=keepdim)
    return constant(x, row_major(found.astype(dtypes.int64, copy=False)))


# --- Logic and the rest ------------------------------------------------------------------------------------------


@numpy_names
def all(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Whether every element along `dim` is nonzero, as bool."""
    a = as_array(input, "all")
    return constant(input, row_major(of(a).all(a, axis=many_dims(dim, a.ndim, "all"), keepdims=keepdim)))


@numpy_names
def any(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Whether some element along `dim` is nonzero, as bool."""
    a = as_array(input, "any")
    return constant(input, row_major(of(a).any(a, axis=many_dims(dim, a.ndim, "any"), keepdims=keepdim)))


@numpy_names
@silent
def norm(input: Tensor, p: Any = 2, dim: Any = None, keepdim: bool = False) -> Tensor:
    """z = (Σ |x|ᵖ)^(1/p) over `dim`, p any number, ±inf or "fro" (2).   For p = 2: dz/dx = x / z, taken as 0 at z = 0

    z² = Σ x², so 2z dz = 2 Σ x dx: the gradient is the unit vector along x. For (3, 4), z = 5.
    >>> x = z2g.tensor([3.0, 4.0], requires_grad=True); x.norm().backward(); x.grad
    tensor([0.6000, 0.8000])
    """
    p = p if isinstance(p, str) else number(p, "norm: p")
    x = as_array(input, "norm")
    if x.dtype.kind != "f":
        raise RuntimeError(f"norm: expected floating point, got {x.dtype}; convert first: x.float().norm()")
    if p in (1, math.inf):
        return sum(input.abs(), dim, keepdim) if p == 1 else amax(input.abs(), dim, keepdim)
    if p == -math.inf:
        return amin(input.abs(), dim, keepdim)
    if p == 0:
        return constant(input, (x != 0).sum(axis=many_dims(dim, x.ndim, "norm"), keepdims=keepdim, dtype=x.dtype))
    if p not in (2, "fro"):
        if isinstance(p, str):
            raise RuntimeError(f"norm: got p = {p!r}, expected a number or 'fro'; for 'nuc' see linalg.matrix_norm")
        powers = sum(input.abs() ** p, dim, keepdim)
        flat = constant(input, powers.array == 0)  # where the slope would be infinite, and infinity times 0 NaN
        return masked_fill(masked_fill(powers, flat, 1.0) ** (1 / p), flat, 0.0)
    dims, xp = many_dims(dim, x.ndim, "norm"), of(x)
    z = row_major(xp.sqrt(fast.total(x * x, dims, keepdim)))

    def rule(grad: Any, x: Any, z: Any) -> Any:
        return x * spread(of(grad).where(z == 0, 0, grad / z), dims, keepdim)

    return record("norm", z, (input, rule, input, RESULT))


@numpy_names
def cumsum(input: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    """zᵢ = x₀ + ... + xᵢ along `dim`.   ∂L/∂xᵢ = Σ of the gradients from i on: a cumulative sum from the far end

    xᵢ stands in zᵢ and in every sum after it, so it receives all their gradients.
    >>> x = z2g.tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> (x.cumsum(0) * z2g.tensor([1.0, 10.0, 100.0])).sum().backward(); x.grad
    tensor([111., 110., 100.])
    """
    a = _converted(as_array(input, "cumsum"), dtype)
    xp, axis = of(a), one_dim(dim, a.ndim, "cumsum")
    if not a.ndim:
        return record("cumsum", a.copy(), (input, lambda grad: grad))

    def running(x: Array) -> Array:
        return xp.cumsum(_accurate(x), axis).astype(x.dtype, copy=False)

    def back(grad: Array) -> Array:
        return xp.flip(running(xp.flip(grad, axis)), axis)

    return record("cumsum", row_major(quiet.run(running, a)), (input, linear_rule("cumsum", back, running)))


@numpy_names
@silent
def cumprod(input: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    """zᵢ = x₀ x₁ ... xᵢ along `dim`.   ∂L/∂xᵢ = (x₀ ... xᵢ₋₁) Sᵢ with Sᵢ = gradᵢ + xᵢ₊₁ Sᵢ₊₁, from the far end

    Sᵢ collects every zⱼ that xᵢ is a factor of, without dividing by xᵢ: zeros are fine.
    Derived: zⱼ = (x₀ ... xᵢ₋₁) xᵢ (xᵢ₊₁ ... xⱼ) for j ≥ i, so ∂L/∂xᵢ = (x₀ ... xᵢ₋₁) Σⱼ gradⱼ (xᵢ₊₁ ... xⱼ), and that
    sum is Sᵢ. For (2, 3, 4) and grad 1: S = (16, 5, 1), and the products before are (1, 2, 6).
    >>> x = z2g.tensor([2.0, 3.0, 4.0], requires_grad=True); x.cumprod(0).sum().backward(); x.grad
    tensor([16., 10.,  6.])
    """
    x = _converted(as_array(input, "cumprod"), dtype)
    axis = one_dim(dim, x.ndim, "cumprod")
    if not x.ndim:
        return record("cumprod", x.copy(), (input, lambda grad: grad))
    z = row_major(of(x).cumprod(_accurate(x), axis).astype(x.dtype, copy=False))

    def rule(grad: Any, x: Any, z: Any) -> Any:
        xp = of(grad)
        rows, wide, z = (xp.moveaxis(_accurate(v), axis, 0) for v in (x, grad, z))  # (n, ...)
        sums = [wide[-1:]]
        for i in reversed(range(1, len(rows))):  # Sᵢ₋₁ = gradᵢ₋₁ + xᵢ Sᵢ
            sums.append(wide[i - 1 : i] + rows[i : i + 1] * sums[-1])
        before = xp.concatenate([xp.ones_like(z[:1]), z[:-1]], 0)
        return xp.moveaxis(before * xp.concatenate(sums[::-1], 0), 0, axis)

    return record("cumprod", z, (input, rule, input if x is input.array else converted(input, x), RESULT))


@numpy_names
def count_nonzero(input: Tensor, dim: Any = None) -> Tensor:
    """How many elements along `dim` (one, several or all) are not 0, int64. No gradient."""
    a = as_array(input, "count_nonzero")
    return constant(input, row_major((a != 0).sum(axis=many_dims(dim, a.ndim, "count_nonzero"), dtype=dtypes.int64)))


apply(globals())  # mixed precision, by the table in half/
