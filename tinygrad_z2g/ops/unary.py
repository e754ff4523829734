"""Functions of one variable, element by element: powers, exponentials, trigonometry, activations, rounding.

Each computes its result z and states the rule that turns `grad` = ∂L/∂z into ∂L/∂x = grad · dz/dx. Where a function
leaves its domain or overflows, z is NaN or inf without a warning. It knows nothing of shapes, since element number i of
z depends on element number i of x alone, and nothing of the operations with two operands (see `elementwise`, which
offers these too).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from .. import fast
from ..arrays.backend import of, quiet, silent
from ..core.engine import RESULT, Variable, record
from ..core.ops import exp, log, neg, relu, sigmoid, tanh  # noqa: F401 - of this family
from ..half.table import apply
from .common import as_array, as_floating, as_int, constant

if TYPE_CHECKING:
    from ..tensor import Tensor


def square(input: Tensor) -> Tensor:
    """z = x².   dz/dx = 2x

    (x + h)² = x² + 2x h + h², and h² vanishes beside h. At x = 3 the slope is 6.
    >>> x = z2g.tensor(3.0, requires_grad=True); x.square().backward(); x.grad
    tensor(6.)
    """
    x = as_array(input, "square")
    z = quiet.run(lambda x: x * (x if x.dtype.kind != "b" else x.astype("int64")), x)
    return record("square", z, (input, lambda grad, x: grad * (2 * x), input))


def sqrt(input: Tensor) -> Tensor:
    """z = √x.   dz/dx = 1 / (2z), infinite at 0;  NaN for x < 0

    z² = x, so 2z dz = dx. At x = 4, z = 2 and the slope is 1/4.
    >>> x = z2g.tensor(4.0, requires_grad=True); x.sqrt().backward(); x.grad
    tensor(0.2500)
    """
    x = as_floating(input, "sqrt")
    return record("sqrt", quiet.run(of(x).sqrt, x), (input, lambda grad, z: grad / (2 * z), RESULT))


def rsqrt(input: Tensor) -> Tensor:
    """z = 1 / √x.   dz/dx = -z³ / 2

    z = x^(-1/2), so dz/dx = -1/2 x^(-3/2) and x^(-3/2) = z³. At x = 4, z = 1/2 and the slope is -1/16.
    >>> x = z2g.tensor(4.0, requires_grad=True); x.rsqrt().backward(); x.grad
    tensor(-0.0625)
    """
    x = as_floating(input, "rsqrt")
    z = quiet.run(lambda x: 1 / of(x).sqrt(x), x)
    return record("rsqrt", z, (input, lambda grad, z: grad * (-0.5 * z * z * z), RESULT))


def reciprocal(input: Tensor) -> Tensor:
    """z = 1 / x.   dz/dx = -z²

    z x = 1, so x dz + z dx = 0 and dz/dx = -z / x = -z². At x = 2 the slope is -1/4.
    >>> x = z2g.tensor(2.0, requires_grad=True); x.reciprocal().backward(); x.grad
    tensor(-0.2500)
    """
    x = as_floating(input, "reciprocal")
    return record("reciprocal", quiet.run(lambda x: 1 / x, x), (input, lambda grad, z: -grad * z * z, RESULT))


def expm1(input: Tensor) -> Tensor:
    """z = eˣ - 1, exact for small x.   dz/dx = z + 1

    Subtracting a constant changes no slope: it is that of eˣ, which is z + 1. At x = ln 2 it is 2.
    >>> x = z2g.tensor(2.0).log().requires_grad_(); x.expm1().backward(); x.grad
    tensor(2.)
    """
    x = as_floating(input, "expm1")
    return record("expm1", quiet.run(of(x).expm1, x), (input, lambda grad, z: grad * (z + 1), RESULT))


def log2(input: Tensor) -> Tensor:
    """z = log₂ x = ln x / ln 2.   dz/dx = 1 / (x ln 2)

    The slope of ln x, divided by the constant ln 2 = 0.6931. At x = 2 it is 0.5 / 0.6931.
    >>> x = z2g.tensor(2.0, requires_grad=True); x.log2().backward(); x.grad
    tensor(0.7213)
    """
    x = as_floating(input, "log2")
    return record("log2", quiet.run(of(x).log2, x), (input, lambda grad, x: grad / (x * math.log(2)), input))


def log1p(input: Tensor) -> Tensor:
    """z = ln (1 + x), exact for small x.   dz/dx = 1 / (1 + x)

    The slope of ln at u = 1 + x, times du/dx = 1. At x = 3 it is 1/4.
    >>> x = z2g.tensor(3.0, requires_grad=True); x.log1p().backward(); x.grad
    tensor(0.2500)
    """
    x = as_floating(input, "log1p")
    return record("log1p", quiet.run(of(x).log1p, x), (input, lambda grad, x: grad / (1 + x), input))


def sin(input: Tensor) -> Tensor:
    """z = sin x.   dz/dx = cos x

    sin (x + h) = sin x cos h + cos x sin h, where cos h -> 1 and sin h -> h. At x = 0 the slope is 1.
    >>> x = z2g.tensor(0.0, requires_grad=True); x.sin().backward(); x.grad
    tensor(1.)
    """
    x = as_floating(input, "sin")
    return record("sin", quiet.run(of(x).sin, x), (input, lambda grad, x: grad * of(grad).cos(x), input))


def cos(input: Tensor) -> Tensor:
    """z = cos x.   dz/dx = -sin x

    cos (x + h) = cos x cos h - sin x sin h, where cos h -> 1 and sin h -> h. At x = π/2 the slope is -1.
    >>> x = z2g.tensor(z2g.pi / 2, requires_grad=True); x.cos().backward(); x.grad
    tensor(-1.)
    """
    x = as_floating(input, "cos")
    return record("cos", quiet.run(of(x).cos, x), (input, lambda grad, x: grad * -of(grad).sin(x), input))


def tan(input: Tensor) -> Tensor:
    """z = tan x.   dz/dx = 1 + z²

    z = sin x / cos x, so dz/dx = (cos² x + sin² x) / cos² x = 1 + z². At x = π/4, z = 1 and the slope is 2.
    >>> x = z2g.tensor(z2g.pi / 4, requires_grad=True); x.tan().backward(); x.grad
    tensor(2.)
    """
    x = as_floating(input, "tan")
    return record("tan", quiet.run(of(x).tan, x), (input, lambda grad, z: grad * (1 + z * z), RESULT))


def asin(input: Tensor) -> Tensor:
    """z = arcsin x.   dz/dx = 1 / √(1 - x²);  NaN for |x| > 1

    x = sin z, so dx = cos z dz with cos z = √(1 - x²). At x = 0.6 the slope is 1 / 0.8.
    >>> x = z2g.tensor(0.6, requires_grad=True); x.asin().backward(); x.grad
    tensor(1.2500)
    """
    x = as_floating(input, "asin")
    z = quiet.run(of(x).arcsin, x)
    return record("asin", z, (input, lambda grad, x: grad / of(grad).sqrt(1 - x * x), input))


def acos(input: Tensor) -> Tensor:
    """z = arccos x.   dz/dx = -1 / √(1 - x²);  NaN for |x| > 1

    arccos x = π/2 - arcsin x: the slope of arcsin with the other sign. At x = 0.6 it is -1 / 0.8.
    >>> x = z2g.tensor(0.6, requires_grad=True); x.acos().backward(); x.grad
    tensor(-1.2500)
    """
    x = as_floating(input, "acos")
    z = quiet.run(of(x).arccos, x)
    return record("acos", z, (input, lambda grad, x: -grad / of(grad).sqrt(1 - x * x), input))


def atan(input: Tensor) -> Tensor:
    """z = arctan x.   dz/dx = 1 / (1 + x²)

    x = tan z, so dx = (1 + tan² z) dz = (1 + x²) dz. At x = 3 the slope is 1/10.
    >>> x = z2g.tensor(3.0, requires_grad=True); x.atan().backward(); x.grad
    tensor(0.1000)
    """
    x = as_floating(input, "atan")
    return record("atan", quiet.run(of(x).arctan, x), (input, lambda grad, x: grad / (1 + x * x), input))


def sinh(input: Tensor) -> Tensor:
    """z = (eˣ - e⁻ˣ) / 2.   dz/dx = cosh x

    e⁻ˣ has the slope -e⁻ˣ, so the minus in front of it becomes a plus. At x = ln 2: (2 + 1/2) / 2.
    >>> x = z2g.tensor(2.0).log().requires_grad_(); x.sinh().backward(); x.grad
    tensor(1.2500)
    """
    x = as_floating(input, "sinh")
    return record("sinh", quiet.run(of(x).sinh, x), (input, lambda grad, x: grad * of(grad).cosh(x), input))


def cosh(input: Tensor) -> Tensor:
    """z = (eˣ + e⁻ˣ) / 2.   dz/dx = sinh x

    e⁻ˣ has the slope -e⁻ˣ, so the plus in front of it becomes a minus. At x = ln 2: (2 - 1/2) / 2.
    >>> x = z2g.tensor(2.0).log().requires_grad_(); x.cosh().backward(); x.grad
    tensor(0.7500)
    """
    x = as_floating(input, "cosh")
    return record("cosh", quiet.run(of(x).cosh, x), (input, lambda grad, x: grad * of(grad).sinh(x), input))


def erf(input: Tensor) -> Tensor:
    """z = 2/√π ∫₀ˣ e^(-t²) dt, the error function.   dz/dx = 2/√π e^(-x²)

    Moving the upper end of an integral by h adds a strip of width h: the slope is the integrand there. At x = 0: 2/√π.
    >>> x = z2g.tensor(0.0, requires_grad=True); x.erf().backward(); x.grad
    tensor(1.1284)
    """
    x = as_floating(input, "erf")
    z = quiet.run(fast.erf, x)
    return record("erf", z, (input, lambda grad, x: grad * (2 / math.sqrt(math.pi) * of(grad).exp(-x * x)), input))


def abs(input: Tensor) -> Tensor:
    """z = |x|.   dz/dx = sign x (0 at the kink x = 0, and at NaN)

    Right of 0 z is x, left of it -x.
    >>> x = z2g.tensor([-2.0, 0.0, 3.0], requires_grad=True); x.abs().sum().backward(); x.grad
    tensor([-1.,  0.,  1.])
    """
    x = as_array(input, "abs")
    return record("abs", quiet.run(of(x).abs, x), (input, lambda grad, x: grad * signs(x), input))


def flat(grad: Any) -> Any:
    """The rule of what is constant between its jumps: 0"""
    return of(grad).zeros_like(grad)


def signs(x: Any) -> Any:
    """-1, 0 or 1; 0 for NaN, as in torch, where NumPy's is NaN."""
    if isinstance(x, Variable):
        return constant(x, signs(x.array))
    if x.dtype.kind != "f":
        return of(x).sign(x)
    return (x > 0).astype(x.dtype) - (x < 0)


def sign(input: Tensor) -> Tensor:
    """z = -1, 0 or 1; 0 for NaN.   dz/dx = 0

    Flat on both sides of 0; at the jump itself there is no slope, and 0 stands for it.
    >>> x = z2g.tensor(3.0, requires_grad=True); x.sign().backward(); x.grad
    tensor(0.)
    """
    x = as_array(input, "sign")
    return record("sign", quiet.run(signs, x), (input, flat))


def floor(input: Tensor) -> Tensor:
    """z = the largest integer ≤ x.   dz/dx = 0

    A staircase: flat on every step, and no slope at the jumps, where 0 stands for it.
    >>> x = z2g.tensor(2.5, requires_grad=True); x.floor().backward(); x.grad
    tensor(0.)
    """
    x = as_array(input, "floor")
    return record("floor", quiet.run(lambda x: of(x).floor(x).astype(x.dtype, copy=False), x), (input, flat))


def ceil(input: Tensor) -> Tensor:
    """z = the smallest integer ≥ x.   dz/dx = 0

    A staircase: flat on every step, and no slope at the jumps, where 0 stands for it.
    >>> x = z2g.tensor(2.5, requires_grad=True); x.ceil().backward(); x.grad
    tensor(0.)
    """
    x = as_array(input, "ceil")
    return record("ceil", quiet.run(lambda x: of(x).ceil(x).astype(x.dtype, copy=False), x), (input, flat))


@silent
def round(input: Tensor, *, decimals: int = 0) -> Tensor:
    """z = x rounded to so many decimals, halves to the even neighbour.   dz/dx = 0

    A staircase: flat on every step, and no slope at the jumps, where 0 stands for it.
    >>> x = z2g.tensor(2.7, requires_grad=True); x.round().backward(); x.grad
    tensor(0.)
    """
    x, decimals = as_array(input, "round"), as_int(decimals, "round: decimals")
    return record("round", of(x).round(x, decimals), (input, flat))


apply(globals())  # mixed precision, by the table in half/
