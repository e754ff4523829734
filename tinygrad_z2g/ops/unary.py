"""Functions of one variable, element by element: powers, exponentials, trigonometry, activations, rounding.

Each states its result z and the rule that turns `grad` = ∂L/∂z into ∂L/∂x = grad · dz/dx; the decorator `unary` makes
an operation of tensors out of the two. It knows nothing of shapes, since element number i of z depends on element
number i of x alone, and nothing of the operations with two operands (see `elementwise`, which offers these too).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import kernels
from ..backend import Array, of, quiet, silent
from ..engine import RESULT, Rule, Variable, record
from .casting import in_float32
from .common import as_array, as_floating, as_int

if TYPE_CHECKING:
    from ..tensor import Tensor

X = "the input"
Forward = tuple[Array, Rule]  # the result, and the rule that turns its gradient into that of the input


def unary(reads: Any = None, floating: bool = True) -> Callable[[Callable], Callable[[Tensor], Tensor]]:
    """Make an operation of tensors out of a function of arrays that returns its result and its rule.

    `reads` says whose numbers the rule will need: the input's (X), the result's (RESULT) or none. `floating` converts
    integers first. Where the function leaves its domain or overflows, the result is inf or NaN without a warning.
    """

    def make(function: Callable[[Array, Any], Forward]) -> Callable[[Tensor], Tensor]:
        name = function.__name__
        prepare = as_floating if floating else as_array

        def operation(input: Tensor) -> Tensor:
            x = input.array if isinstance(input, Variable) else None  # the usual case first: it costs two calls less
            if type(x) is np.ndarray and x.dtype.kind == "f":
                z, rule = quiet.run(function, x, np)
            else:
                x = prepare(input, name)
                z, rule = quiet.run(function, x, of(x))
            return record(name, z, (input, rule, input if reads is X else reads))

        operation.__name__ = operation.__qualname__ = name
        operation.__doc__ = function.__doc__
        return operation

    return make


@unary(floating=False)
def neg(x: Array, xp: Any) -> Forward:
    """z = -x.   dz/dx = -1

    -(x + h) = -x - h: as x rises by h, z falls by h.
    >>> x = z2g.tensor(3.0, requires_grad=True); (-x).backward(); x.grad
    tensor(-1.)
    """
    return -x, lambda grad: -grad


@in_float32
@unary(reads=X, floating=False)
def square(x: Array, xp: Any) -> Forward:
    """z = x².   dz/dx = 2x

    (x + h)² = x² + 2x h + h², and h² vanishes beside h. At x = 3 the slope is 6.
    >>> x = z2g.tensor(3.0, requires_grad=True); x.square().backward(); x.grad
    tensor(6.)
    """
    return x * (x if x.dtype.kind != "b" else x.astype("int64")), lambda grad: grad * (2 * x)


@unary(reads=RESULT)
def sqrt(x: Array, xp: Any) -> Forward:
    """z = √x.   dz/dx = 1 / (2z), infinite at 0;  NaN for x < 0

    z² = x, so 2z dz = dx. At x = 4, z = 2 and the slope is 1/4.
    >>> x = z2g.tensor(4.0, requires_grad=True); x.sqrt().backward(); x.grad
    tensor(0.2500)
    """
    z = xp.sqrt(x)
    return z, lambda grad: grad / (2 * z)


@in_float32
@unary(reads=RESULT)
def rsqrt(x: Array, xp: Any) -> Forward:
    """z = 1 / √x.   dz/dx = -z³ / 2

    z = x^(-1/2), so dz/dx = -1/2 x^(-3/2) and x^(-3/2) = z³. At x = 4, z = 1/2 and the slope is -1/16.
    >>> x = z2g.tensor(4.0, requires_grad=True); x.rsqrt().backward(); x.grad
    tensor(-0.0625)
    """
    z = 1 / xp.sqrt(x)
    return z, lambda grad: grad * (-0.5 * z * z * z)


@in_float32
@unary(reads=RESULT)
def reciprocal(x: Array, xp: Any) -> Forward:
    """z = 1 / x.   dz/dx = -z²

    z x = 1, so x dz + z dx = 0 and dz/dx = -z / x = -z². At x = 2 the slope is -1/4.
    >>> x = z2g.tensor(2.0, requires_grad=True); x.reciprocal().backward(); x.grad
    tensor(-0.2500)
    """
    z = 1 / x
    return z, lambda grad: -grad * z * z


@in_float32
@unary(reads=RESULT)
def exp(x: Array, xp: Any) -> Forward:
    """z = eˣ.   dz/dx = z

    eˣ⁺ʰ = eˣ eʰ and eʰ = 1 + h + ..., so z grows by z h: the function is its own slope. At x = 1 it is e.
    >>> x = z2g.tensor(1.0, requires_grad=True); x.exp().backward(); x.grad
    tensor(2.7183)
    """
    z = xp.exp(x)
    return z, lambda grad: grad * z


@in_float32
@unary(reads=RESULT)
def expm1(x: Array, xp: Any) -> Forward:
    """z = eˣ - 1, exact for small x.   dz/dx = z + 1

    Subtracting a constant changes no slope: it is that of eˣ, which is z + 1. At x = ln 2 it is 2.
    >>> x = z2g.tensor(2.0).log().requires_grad_(); x.expm1().backward(); x.grad
    tensor(2.)
    """
    z = xp.expm1(x)
    return z, lambda grad: grad * (z + 1)


@in_float32
@unary(reads=X)
def log(x: Array, xp: Any) -> Forward:
    """z = ln x.   dz/dx = 1 / x;  -inf at 0, NaN below

    x = eᶻ, so dx = eᶻ dz = x dz. At x = 4 the slope is 1/4.
    >>> x = z2g.tensor(4.0, requires_grad=True); x.log().backward(); x.grad
    tensor(0.2500)
    """
    return xp.log(x), lambda grad: grad / x


@in_float32
@unary(reads=X)
def log2(x: Array, xp: Any) -> Forward:
    """z = log₂ x = ln x / ln 2.   dz/dx = 1 / (x ln 2)

    The slope of ln x, divided by the constant ln 2 = 0.6931. At x = 2 it is 0.5 / 0.6931.
    >>> x = z2g.tensor(2.0, requires_grad=True); x.log2().backward(); x.grad
    tensor(0.7213)
    """
    return xp.log2(x), lambda grad: grad / (x * math.log(2))


@in_float32
@unary(reads=X)
def log1p(x: Array, xp: Any) -> Forward:
    """z = ln (1 + x), exact for small x.   dz/dx = 1 / (1 + x)

    The slope of ln at u = 1 + x, times du/dx = 1. At x = 3 it is 1/4.
    >>> x = z2g.tensor(3.0, requires_grad=True); x.log1p().backward(); x.grad
    tensor(0.2500)
    """
    return xp.log1p(x), lambda grad: grad / (1 + x)


@unary(reads=X)
def sin(x: Array, xp: Any) -> Forward:
    """z = sin x.   dz/dx = cos x

    sin (x + h) = sin x cos h + cos x sin h, where cos h -> 1 and sin h -> h. At x = 0 the slope is 1.
    >>> x = z2g.tensor(0.0, requires_grad=True); x.sin().backward(); x.grad
    tensor(1.)
    """
    return xp.sin(x), lambda grad: grad * xp.cos(x)


@unary(reads=X)
def cos(x: Array, xp: Any) -> Forward:
    """z = cos x.   dz/dx = -sin x

    cos (x + h) = cos x cos h - sin x sin h, where cos h -> 1 and sin h -> h. At x = π/2 the slope is -1.
    >>> x = z2g.tensor(z2g.pi / 2, requires_grad=True); x.cos().backward(); x.grad
    tensor(-1.)
    """
    return xp.cos(x), lambda grad: grad * -xp.sin(x)


@in_float32
@unary(reads=RESULT)
def tan(x: Array, xp: Any) -> Forward:
    """z = tan x.   dz/dx = 1 + z²

    z = sin x / cos x, so dz/dx = (cos² x + sin² x) / cos² x = 1 + z². At x = π/4, z = 1 and the slope is 2.
    >>> x = z2g.tensor(z2g.pi / 4, requires_grad=True); x.tan().backward(); x.grad
    tensor(2.)
    """
    z = xp.tan(x)
    return z, lambda grad: grad * (1 + z * z)


@in_float32
@unary(reads=X)
def asin(x: Array, xp: Any) -> Forward:
    """z = arcsin x.   dz/dx = 1 / √(1 - x²);  NaN for |x| > 1

    x = sin z, so dx = cos z dz with cos z = √(1 - x²). At x = 0.6 the slope is 1 / 0.8.
    >>> x = z2g.tensor(0.6, requires_grad=True); x.asin().backward(); x.grad
    tensor(1.2500)
    """
    return xp.arcsin(x), lambda grad: grad / xp.sqrt(1 - x * x)


@in_float32
@unary(reads=X)
def acos(x: Array, xp: Any) -> Forward:
    """z = arccos x.   dz/dx = -1 / √(1 - x²);  NaN for |x| > 1

    arccos x = π/2 - arcsin x: the slope of arcsin with the other sign. At x = 0.6 it is -1 / 0.8.
    >>> x = z2g.tensor(0.6, requires_grad=True); x.acos().backward(); x.grad
    tensor(-1.2500)
    """
    return xp.arccos(x), lambda grad: -grad / xp.sqrt(1 - x * x)


@unary(reads=X)
def atan(x: Array, xp: Any) -> Forward:
    """z = arctan x.   dz/dx = 1 / (1 + x²)

    x = tan z, so dx = (1 + tan² z) dz = (1 + x²) dz. At x = 3 the slope is 1/10.
    >>> x = z2g.tensor(3.0, requires_grad=True); x.atan().backward(); x.grad
    tensor(0.1000)
    """
    return xp.arctan(x), lambda grad: grad / (1 + x * x)


@in_float32
@unary(reads=X)
def sinh(x: Array, xp: Any) -> Forward:
    """z = (eˣ - e⁻ˣ) / 2.   dz/dx = cosh x

    e⁻ˣ has the slope -e⁻ˣ, so the minus in front of it becomes a plus. At x = ln 2: (2 + 1/2) / 2.
    >>> x = z2g.tensor(2.0).log().requires_grad_(); x.sinh().backward(); x.grad
    tensor(1.2500)
    """
    return xp.sinh(x), lambda grad: grad * xp.cosh(x)


@in_float32
@unary(reads=X)
def cosh(x: Array, xp: Any) -> Forward:
    """z = (eˣ + e⁻ˣ) / 2.   dz/dx = sinh x

    e⁻ˣ has the slope -e⁻ˣ, so the plus in front of it becomes a minus. At x = ln 2: (2 - 1/2) / 2.
    >>> x = z2g.tensor(2.0).log().requires_grad_(); x.cosh().backward(); x.grad
    tensor(0.7500)
    """
    return xp.cosh(x), lambda grad: grad * xp.sinh(x)


@unary(reads=RESULT)
def tanh(x: Array, xp: Any) -> Forward:
    """z = tanh x.   dz/dx = 1 - z²

    z = sinh x / cosh x, so dz/dx = (cosh² x - sinh² x) / cosh² x. At x = ln 2, z = 1.5 / 2.5 = 0.6; the slope is 0.64.
    >>> x = z2g.tensor(2.0).log().requires_grad_(); x.tanh().backward(); x.grad
    tensor(0.6400)
    """
    z = xp.tanh(x)
    return z, lambda grad: grad * (1 - z * z)


@unary(reads=RESULT)
def sigmoid(x: Array, xp: Any) -> Forward:
    """z = 1 / (1 + e⁻ˣ).   dz/dx = z (1 - z).   Where e⁻ˣ overflows, 1 / ∞ is the right answer: 0.

    z = 1 / u with u = 1 + e⁻ˣ: dz = -z² du = z² e⁻ˣ dx, and z e⁻ˣ = 1 - z. At x = ln 3, z = 3/4; the slope is 3/16.
    >>> x = z2g.tensor(3.0).log().requires_grad_(); x.sigmoid().backward(); x.grad
    tensor(0.1875)
    """
    z = 1 / (1 + xp.exp(-x))
    return z, lambda grad: grad * (z * (1 - z))


@unary(reads=X)
def erf(x: Array, xp: Any) -> Forward:
    """z = 2/√π ∫₀ˣ e^(-t²) dt, the error function.   dz/dx = 2/√π e^(-x²)

    Moving the upper end of an integral by h adds a strip of width h: the slope is the integrand there. At x = 0: 2/√π.
    >>> x = z2g.tensor(0.0, requires_grad=True); x.erf().backward(); x.grad
    tensor(1.1284)
    """
    return kernels.erf(x), lambda grad: grad * (2 / math.sqrt(math.pi) * xp.exp(-x * x))


@unary(reads=RESULT, floating=False)
def relu(x: Array, xp: Any) -> Forward:
    """z = max(x, 0).   dz/dx = 1 where x > 0, else 0 (so 0 at the kink x = 0)

    Right of 0 z is x itself; left of it z stays 0, whatever x does. (z ≠ 0 just where x > 0, or is NaN: that passes its
    gradient on, as in torch.) A gradient that is infinite gives NaN left of 0, as ∞ · 0 does; choosing by np.where,
    which gives torch's 0, takes 10 times as long, masking its bits 1.4 to 1.8 times.
    >>> x = z2g.tensor([-1.0, 0.0, 2.0], requires_grad=True); x.relu().sum().backward(); x.grad
    tensor([0., 0., 1.])
    """
    if x.dtype.kind == "b":
        raise RuntimeError("relu: got a bool tensor, expected numbers; convert it with .int()")
    z = kernels.relu(x)
    return z, lambda grad: kernels.relu_backward(grad, z)


@unary(reads=X, floating=False)
def abs(x: Array, xp: Any) -> Forward:
    """z = |x|.   dz/dx = sign x (0 at the kink x = 0, and at NaN)

    Right of 0 z is x, left of it -x.
    >>> x = z2g.tensor([-2.0, 0.0, 3.0], requires_grad=True); x.abs().sum().backward(); x.grad
    tensor([-1.,  0.,  1.])
    """
    return xp.abs(x), lambda grad: grad * signs(x)


def signs(x: Array) -> Array:
    """-1, 0 or 1; 0 for NaN, as in torch, where NumPy's is NaN."""
    if x.dtype.kind != "f":
        return of(x).sign(x)
    return (x > 0).astype(x.dtype) - (x < 0)


@unary(floating=False)
def sign(x: Array, xp: Any) -> Forward:
    """z = -1, 0 or 1; 0 for NaN.   dz/dx = 0

    Flat on both sides of 0; at the jump itself there is no slope, and 0 stands for it.
    >>> x = z2g.tensor(3.0, requires_grad=True); x.sign().backward(); x.grad
    tensor(0.)
    """
    return signs(x), lambda grad: xp.zeros_like(grad)


@unary(floating=False)
def floor(x: Array, xp: Any) -> Forward:
    """z = the largest integer ≤ x.   dz/dx = 0

    A staircase: flat on every step, and no slope at the jumps, where 0 stands for it.
    >>> x = z2g.tensor(2.5, requires_grad=True); x.floor().backward(); x.grad
    tensor(0.)
    """
    return xp.floor(x).astype(x.dtype, copy=False), lambda grad: xp.zeros_like(grad)


@unary(floating=False)
def ceil(x: Array, xp: Any) -> Forward:
    """z = the smallest integer ≥ x.   dz/dx = 0

    A staircase: flat on every step, and no slope at the jumps, where 0 stands for it.
    >>> x = z2g.tensor(2.5, requires_grad=True); x.ceil().backward(); x.grad
    tensor(0.)
    """
    return xp.ceil(x).astype(x.dtype, copy=False), lambda grad: xp.zeros_like(grad)


@silent
def round(input: Tensor, *, decimals: int = 0) -> Tensor:
    """z = x rounded to so many decimals, halves to the even neighbour.   dz/dx = 0

    A staircase: flat on every step, and no slope at the jumps, where 0 stands for it.
    >>> x = z2g.tensor(2.7, requires_grad=True); x.round().backward(); x.grad
    tensor(0.)
    """
    x, decimals = as_array(input, "round"), as_int(decimals, "round: decimals")
    return record("round", of(x).round(x, decimals), (input, lambda grad: of(grad).zeros_like(grad)))
