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
from ..backend import Array, of
from ..engine import RESULT, Rule, record
from .common import as_array, as_floating

if TYPE_CHECKING:
    from ..tensor import Tensor

X = "the input"
Forward = tuple[Array, Rule]  # the result, and the rule that turns its gradient into that of the input


def unary(
    reads: Any = None, floating: bool = True, quiet: bool = False
) -> Callable[[Callable], Callable[[Tensor], Tensor]]:
    """Make an operation of tensors out of a function of arrays that returns its result and its rule.

    `reads` says whose numbers the rule will need: the input's (X), the result's (RESULT) or none. `floating` converts
    integers first. `quiet`: where the function leaves its domain or overflows, the result is inf or NaN without a
    warning, as on a GPU (which costs 0.7 µs, a fifth of a small operation).
    """

    def make(function: Callable[[Array, Any], Forward]) -> Callable[[Tensor], Tensor]:
        name = function.__name__
        prepare = as_floating if floating else as_array

        def operation(input: Tensor) -> Tensor:
            x = prepare(input, name)
            if quiet:
                with np.errstate(all="ignore"):
                    z, rule = function(x, of(x))
            else:
                z, rule = function(x, of(x))
            return record(name, z, (input, rule, input if reads is X else reads))

        operation.__name__ = operation.__qualname__ = name
        operation.__doc__ = function.__doc__
        return operation

    return make


@unary(floating=False)
def neg(x: Array, xp: Any) -> Forward:
    """z = -x.   dz/dx = -1"""
    return -x, lambda grad: -grad


@unary(reads=X, floating=False, quiet=True)
def square(x: Array, xp: Any) -> Forward:
    """z = x².   dz/dx = 2x"""
    return x * x, lambda grad: grad * (2 * x)


@unary(reads=RESULT, quiet=True)
def sqrt(x: Array, xp: Any) -> Forward:
    """z = √x.   dz/dx = 1 / (2z), infinite at 0;  NaN for x < 0"""
    z = xp.sqrt(x)
    return z, lambda grad: grad / (2 * z)


@unary(reads=RESULT, quiet=True)
def rsqrt(x: Array, xp: Any) -> Forward:
    """z = 1 / √x.   dz/dx = -z³ / 2"""
    z = 1 / xp.sqrt(x)
    return z, lambda grad: grad * (-0.5 * z * z * z)


@unary(reads=RESULT, quiet=True)
def reciprocal(x: Array, xp: Any) -> Forward:
    """z = 1 / x.   dz/dx = -z²"""
    z = 1 / x
    return z, lambda grad: -grad * z * z


@unary(reads=RESULT, quiet=True)
def exp(x: Array, xp: Any) -> Forward:
    """z = eˣ.   dz/dx = z"""
    z = xp.exp(x)
    return z, lambda grad: grad * z


@unary(reads=RESULT, quiet=True)
def expm1(x: Array, xp: Any) -> Forward:
    """z = eˣ - 1, exact for small x.   dz/dx = z + 1"""
    z = xp.expm1(x)
    return z, lambda grad: grad * (z + 1)


@unary(reads=X, quiet=True)
def log(x: Array, xp: Any) -> Forward:
    """z = ln x.   dz/dx = 1 / x;  -inf at 0, NaN below"""
    return xp.log(x), lambda grad: grad / x


@unary(reads=X, quiet=True)
def log2(x: Array, xp: Any) -> Forward:
    """z = log₂ x = ln x / ln 2.   dz/dx = 1 / (x ln 2)"""
    return xp.log2(x), lambda grad: grad / (x * math.log(2))


@unary(reads=X, quiet=True)
def log1p(x: Array, xp: Any) -> Forward:
    """z = ln (1 + x), exact for small x.   dz/dx = 1 / (1 + x)"""
    return xp.log1p(x), lambda grad: grad / (1 + x)


@unary(reads=X)
def sin(x: Array, xp: Any) -> Forward:
    """z = sin x.   dz/dx = cos x"""
    return xp.sin(x), lambda grad: grad * xp.cos(x)


@unary(reads=X)
def cos(x: Array, xp: Any) -> Forward:
    """z = cos x.   dz/dx = -sin x"""
    return xp.cos(x), lambda grad: grad * -xp.sin(x)


@unary(reads=RESULT)
def tan(x: Array, xp: Any) -> Forward:
    """z = tan x.   dz/dx = 1 + z²"""
    z = xp.tan(x)
    return z, lambda grad: grad * (1 + z * z)


@unary(reads=X, quiet=True)
def asin(x: Array, xp: Any) -> Forward:
    """z = arcsin x.   dz/dx = 1 / √(1 - x²);  NaN for |x| > 1"""
    return xp.arcsin(x), lambda grad: grad / xp.sqrt(1 - x * x)


@unary(reads=X, quiet=True)
def acos(x: Array, xp: Any) -> Forward:
    """z = arccos x.   dz/dx = -1 / √(1 - x²);  NaN for |x| > 1"""
    return xp.arccos(x), lambda grad: -grad / xp.sqrt(1 - x * x)


@unary(reads=X)
def atan(x: Array, xp: Any) -> Forward:
    """z = arctan x.   dz/dx = 1 / (1 + x²)"""
    return xp.arctan(x), lambda grad: grad / (1 + x * x)


@unary(reads=X, quiet=True)
def sinh(x: Array, xp: Any) -> Forward:
    """z = (eˣ - e⁻ˣ) / 2.   dz/dx = cosh x"""
    return xp.sinh(x), lambda grad: grad * xp.cosh(x)


@unary(reads=X, quiet=True)
def cosh(x: Array, xp: Any) -> Forward:
    """z = (eˣ + e⁻ˣ) / 2.   dz/dx = sinh x"""
    return xp.cosh(x), lambda grad: grad * xp.sinh(x)


@unary(reads=RESULT)
def tanh(x: Array, xp: Any) -> Forward:
    """z = tanh x.   dz/dx = 1 - z²"""
    z = xp.tanh(x)
    return z, lambda grad: grad * (1 - z * z)


@unary(reads=RESULT, quiet=True)
def sigmoid(x: Array, xp: Any) -> Forward:
    """z = 1 / (1 + e⁻ˣ).   dz/dx = z (1 - z).   Where e⁻ˣ overflows, 1 / ∞ is the right answer: 0."""
    z = 1 / (1 + xp.exp(-x))
    return z, lambda grad: grad * (z * (1 - z))


@unary(reads=X)
def erf(x: Array, xp: Any) -> Forward:
    """z = 2/√π ∫₀ˣ e^(-t²) dt, the error function.   dz/dx = 2/√π e^(-x²)"""
    return kernels.erf(x), lambda grad: grad * (2 / math.sqrt(math.pi) * xp.exp(-x * x))


@unary(reads=RESULT, floating=False)
def relu(x: Array, xp: Any) -> Forward:
    """z = max(x, 0).   dz/dx = 1 where x > 0, else 0 (so 0 at the kink x = 0)"""
    z = xp.maximum(x, 0)
    return z, lambda grad: grad * (z > 0)


@unary(reads=X, floating=False)
def abs(x: Array, xp: Any) -> Forward:
    """z = |x|.   dz/dx = sign x (0 at the kink x = 0)"""
    return xp.abs(x), lambda grad: grad * xp.sign(x)


@unary(floating=False)
def sign(x: Array, xp: Any) -> Forward:
    """z = -1, 0 or 1.   dz/dx = 0"""
    return xp.sign(x), lambda grad: grad * 0


@unary(floating=False)
def floor(x: Array, xp: Any) -> Forward:
    """z = the largest integer ≤ x.   dz/dx = 0"""
    return xp.floor(x).astype(x.dtype, copy=False), lambda grad: grad * 0


@unary(floating=False)
def ceil(x: Array, xp: Any) -> Forward:
    """z = the smallest integer ≥ x.   dz/dx = 0"""
    return xp.ceil(x).astype(x.dtype, copy=False), lambda grad: grad * 0


def round(input: Tensor, *, decimals: int = 0) -> Tensor:
    """z = x rounded to so many decimals, halves to the even neighbour.   dz/dx = 0"""
    return record("round", of(as_array(input, "round")).round(input.array, decimals), (input, lambda grad: grad * 0))
