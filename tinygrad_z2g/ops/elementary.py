"""Further functions element by element: other bases, other angles, remainders, what numbers lack; the gamma function.

As in `unary` and `elementwise`: the result in one line, beside it the rule.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import fast
from ..arrays.backend import Array, of, quiet
from ..core.engine import RESULT, Variable, needs_grad, record, unchanged
from ..core.operands import is_tensor
from .common import as_array, as_floating, computed, constant, operands
from .elementwise import (
    _xp,
    clamp,
    comparison,
    div,
    divisible,
    log,
    log1p,
    masked_fill,
    mul,
    neg,
    sub,
)  # fmt: skip
from .unary import flat

if TYPE_CHECKING:
    from ..tensor import Tensor


def log10(input: Tensor) -> Tensor:
    """z = log₁₀ x.   dz/dx = 1 / (x ln 10)

    log₁₀ x = ln x / ln 10.
    >>> x = z2g.tensor(2.0, requires_grad=True); z2g.log10(x).backward(); x.grad
    tensor(0.2171)
    """
    x = as_floating(input, "log10")
    return record("log10", quiet.run(of(x).log10, x), (input, lambda grad, x: grad / (x * math.log(10)), input))


def exp2(input: Tensor) -> Tensor:
    """z = 2ˣ.   dz/dx = 2ˣ ln 2 = z ln 2

    2ˣ = exp(x ln 2), whose slope is itself times ln 2.
    >>> x = z2g.tensor(3.0, requires_grad=True); z2g.exp2(x).backward(); x.grad
    tensor(5.5452)
    """
    x = as_floating(input, "exp2")
    return record("exp2", quiet.run(of(x).exp2, x), (input, lambda grad, z: grad * (z * math.log(2)), RESULT))


def asinh(input: Tensor) -> Tensor:
    """z = arsinh x.   dz/dx = 1 / √(x² + 1)

    x = sinh z, so dx/dz = cosh z = √(1 + sinh² z).
    >>> x = z2g.tensor(0.0, requires_grad=True); z2g.asinh(x).backward(); x.grad
    tensor(1.)
    """
    x = as_floating(input, "asinh")
    z = quiet.run(of(x).arcsinh, x)
    return record("asinh", z, (input, lambda grad, x: grad / of(grad).sqrt(x * x + 1), input))


def acosh(input: Tensor) -> Tensor:
    """z = arcosh x.   dz/dx = 1 / √(x² - 1)

    x = cosh z, so dx/dz = sinh z = √(cosh² z - 1).
    >>> x = z2g.tensor(1.25, requires_grad=True); z2g.acosh(x).backward(); x.grad
    tensor(1.3333)
    """
    x = as_floating(input, "acosh")
    z = quiet.run(of(x).arccosh, x)
    return record("acosh", z, (input, lambda grad, x: grad / of(grad).sqrt(x * x - 1), input))


def atanh(input: Tensor) -> Tensor:
    """z = artanh x.   dz/dx = 1 / (1 - x²)

    x = tanh z, so dx/dz = 1 - tanh² z.
    >>> x = z2g.tensor(0.5, requires_grad=True); z2g.atanh(x).backward(); x.grad
    tensor(1.3333)
    """
    x = as_floating(input, "atanh")
    return record("atanh", quiet.run(of(x).arctanh, x), (input, lambda grad, x: grad / (1 - x * x), input))


def trunc(input: Tensor) -> Tensor:
    """z = x without what follows the point, rounded towards 0.   dz/dx = 0

    A staircase: flat on every step, and no slope at the jumps, where 0 stands for it.
    >>> x = z2g.tensor(-2.5, requires_grad=True); z2g.trunc(x).backward(); x.grad
    tensor(0.)
    """
    x = as_array(input, "trunc")
    return record("trunc", quiet.run(lambda x: of(x).trunc(x).astype(x.dtype, copy=False), x), (input, flat))


def frac(input: Tensor) -> Tensor:
    """z = x - trunc x, what follows the point.   dz/dx = 1

    Between the jumps trunc x stands still.
    >>> x = z2g.tensor(-2.5, requires_grad=True); z2g.frac(x).backward(); x.grad
    tensor(1.)
    """
    x = as_array(input, "frac")
    return record("frac", quiet.run(lambda x: x - of(x).trunc(x), x), (input, unchanged))


def erfinv(input: Tensor) -> Tensor:
    """The z with erf z = x, for |x| < 1; ±inf at ±1, NaN beyond.   dz/dx = √π / 2 · exp(z²)

    erf z = x, so dx/dz = 2 / √π · exp(-z²). Found by Newton's method from S. Winitzki's approximation (2008).
    >>> x = z2g.tensor(0.0, requires_grad=True); z2g.erfinv(x).backward(); x.grad  # √π / 2
    tensor(0.8862)
    """
    x = as_floating(input, "erfinv")
    rule = lambda grad, z: grad * (of(grad).exp(z * z) * (math.sqrt(math.pi) / 2))  # noqa: E731
    return record("erfinv", quiet.run(_erfinv, x), (input, rule, RESULT))


def _erfinv(x: Array) -> Array:
    xp = of(x)
    wide = x.astype(np.float64)
    inside = xp.abs(wide) < 1
    w = xp.where(inside, wide, 0)
    u, v = xp.log1p(-w * w), 2 / (math.pi * 0.147)
    z = xp.sign(w) * xp.sqrt(xp.sqrt((v + u / 2) ** 2 - u / 0.147) - (v + u / 2))
    for _ in range(4):
        z = z - (fast.erf(z) - w) * xp.exp(z * z) * (math.sqrt(math.pi) / 2)
    return xp.where(inside, z, xp.where(xp.abs(wide) == 1, wide * math.inf, math.nan)).astype(x.dtype)


# --- The gamma function ------------------------------------------------------------------------------------------

_STEPS = 10  # from x to x + 10, where the asymptotic series have 15 digits


def _shifted(x: Array, xp: Any, series: Any, step: Any) -> Array:
    """series(x + 10) minus the sum of step(x), step(x + 1), ..., step(x + 9), in float64."""
    wide = x.astype(np.float64)
    total = xp.zeros_like(wide)
    for k in range(_STEPS):
        total += step(wide + k)
    return series(wide + _STEPS) - total


def _lgamma(x: Array) -> Array:
    xp = of(x)

    def stirling(y: Array) -> Array:
        r = 1 / (y * y)
        tail = (1 / 12 - r * (1 / 360 - r * (1 / 1260 - r * (1 / 1680 - r / 1188)))) / y
        return (y - 0.5) * xp.log(y) - y + 0.5 * math.log(2 * math.pi) + tail

    positive = xp.where(x > 0, x, 1 - x)
    z = _shifted(positive, xp, stirling, lambda y: xp.log(y))
    mirrored = math.log(math.pi) - xp.log(xp.abs(xp.sin(math.pi * x.astype(np.float64)))) - z
    z = xp.where(x > 0, z, mirrored)
    return xp.where((x <= 0) & (x == xp.floor(x)), math.inf, z).astype(x.dtype)


def _digamma(x: Any) -> Any:
    if is_tensor(x):
        return digamma(x)
    xp = of(x)

    def series(y: Array) -> Array:
        r = 1 / (y * y)
        return xp.log(y) - 0.5 / y - r * (1 / 12 - r * (1 / 120 - r * (1 / 252 - r * (1 / 240 - r / 132))))

    positive = xp.where(x > 0, x, 1 - x)
    z = _shifted(positive, xp, series, lambda y: 1 / y)
    z = xp.where(x > 0, z, z - math.pi / xp.tan(math.pi * x.astype(np.float64)))
    z = xp.where(x == 0, -math.inf, z)
    return xp.where((x < 0) & (x == xp.floor(x)), math.nan, z).astype(x.dtype)


def _trigamma(x: Any) -> Any:
    if isinstance(x, Variable):
        return record("trigamma", _trigamma(x.array), (x, lambda grad, x: grad * _tetragamma(x), x))
    xp = of(x)

    def series(y: Array) -> Array:
        r = 1 / (y * y)
        return 1 / y + 0.5 * r + r / y * (1 / 6 - r * (1 / 30 - r * (1 / 42 - r * (1 / 30 - r * 5 / 66))))

    positive = xp.where(x > 0, x, 1 - x)
    z = _shifted(positive, xp, series, lambda y: -1 / (y * y))
    mirrored = (math.pi / xp.sin(math.pi * x.astype(np.float64))) ** 2 - z
    return xp.where(x > 0, z, mirrored).astype(x.dtype)


def _tetragamma(x: Any) -> Any:
    """ψ''(x) = -2 Σ 1 / (x + k)³; its own derivative is not offered."""
    if isinstance(x, Variable):
        if needs_grad(x):
            raise NotImplementedError("digamma: derivatives beyond the second are not offered")
        return constant(x, _tetragamma(x.array))
    xp = of(x)

    def series(y: Array) -> Array:
        r = 1 / (y * y)
        return -r - r / y - r * r * (1 / 2 - r * (1 / 6 - r * (1 / 6 - r * (3 / 10 - r * 5 / 6))))

    positive = xp.where(x > 0, x, 1 - x)
    z = _shifted(positive, xp, series, lambda y: 2 / (y * y * y))
    angle = math.pi * x.astype(np.float64)
    mirrored = z - 2 * math.pi**3 * xp.cos(angle) / xp.sin(angle) ** 3
    return xp.where(x > 0, z, mirrored).astype(x.dtype)


def lgamma(input: Tensor) -> Tensor:
    """z = ln |Γ(x)|, of which Γ(n) = (n - 1)!.   dz/dx = ψ(x), see `digamma`

    ψ is defined as that derivative. Stirling's series gives z at x + 10, and Γ(x + 1) = x Γ(x) leads back.
    >>> x = z2g.tensor(1.0, requires_grad=True); z2g.lgamma(x).backward(); x.grad  # minus Euler's constant
    tensor(-0.5772)
    """
    x = as_floating(input, "lgamma")
    return record("lgamma", quiet.run(_lgamma, x), (input, lambda grad, x: grad * _digamma(x), input))


def digamma(input: Tensor) -> Tensor:
    """z = ψ(x) = Γ'(x) / Γ(x).   dz/dx = ψ'(x), the sum of 1 / (x + k)² over k = 0, 1, 2, ...

    From Γ(x + 1) = x Γ(x): ψ(x + 1) = ψ(x) + 1 / x, so ψ'(x) = 1 / x² + ψ'(x + 1), and so on.
    >>> x = z2g.tensor(1.0, requires_grad=True); z2g.digamma(x).backward(); x.grad  # π² / 6
    tensor(1.6449)
    """
    x = as_floating(input, "digamma")
    return record("digamma", quiet.run(_digamma, x), (input, lambda grad, x: grad * _trigamma(x), input))


# --- Of two numbers ----------------------------------------------------------------------------------------------


def atan2(input: Any, other: Any) -> Tensor:
    """The angle of the point (x, y), for y = `input` and x = `other`: z = atan(y / x), from -π to π.
    dz/dy = x / (x² + y²),  dz/dx = -y / (x² + y²)

    A step h at right angles to the radius turns by h / r; of a step in y the share x / r is at right angles.
    >>> y, x = z2g.tensor(3.0, requires_grad=True), z2g.tensor(4.0, requires_grad=True)
    >>> z2g.atan2(y, x).backward(); y.grad, x.grad
    (tensor(0.1600), tensor(-0.1200))
    """
    input, other, y, x = operands(input, other, "atan2", floating=True)

    def share(grad: Any, part: Any, y: Any, x: Any) -> Any:
        xp, r = of(grad), x * x + y * y
        return grad * xp.where(r == 0, 0, part / xp.where(r == 0, 1, r))

    return record(
        "atan2",
        computed(_xp(y, x).arctan2, y, x),
        (input, lambda grad, y, x: share(grad, x, y, x), input, other),
        (other, lambda grad, y, x: share(grad, -y, y, x), input, other),
    )


def hypot(input: Tensor, other: Tensor) -> Tensor:
    """z = √(x² + y²), also where x² is beyond the type.   ∂z/∂x = x / z,  ∂z/∂y = y / z

    z² = x² + y², so 2 z dz = 2 x dx + 2 y dy. The slope is a sine: the share that x has of the length.
    >>> x = z2g.tensor(3.0, requires_grad=True); z2g.hypot(x, z2g.tensor(4.0)).backward(); x.grad
    tensor(0.6000)
    """
    input, other, x, y = operands(input, other, "hypot", floating=True)

    def share(grad: Any, mine: Any, z: Any) -> Any:
        return grad * (mine / z)

    z = computed(_xp(x, y).hypot, x, y)
    return record("hypot", z, (input, share, input, RESULT), (other, share, other, RESULT))


def fmod(input: Any, other: Any) -> Tensor:
    """z = x - y trunc(x / y): what dividing leaves, with the sign of x (`remainder`: that of y), exactly.

    ∂z/∂x = 1,  ∂z/∂y = -trunc(x / y), a constant between its jumps.
    >>> x, y = z2g.tensor(-7.0, requires_grad=True), z2g.tensor(3.0, requires_grad=True)
    >>> z2g.fmod(x, y).backward(); x.grad, y.grad  # z = x + 2y
    (tensor(1.), tensor(2.))
    """
    input, other, x, y = divisible(input, other, "fmod")

    def rule(grad: Any, x: Any, y: Any) -> Any:
        return -grad * (div(x, y, rounding_mode="trunc") if is_tensor(grad) else of(grad).trunc(x / y))

    return record("fmod", computed(_xp(x, y).fmod, x, y), (input, unchanged), (other, rule, input, other))


def logaddexp(input: Tensor, other: Tensor) -> Tensor:
    """z = ln(eˣ + eʸ), without overflow.

    z = m + ln(1 + e^-|x - y|), m the larger of the two.
    >>> x = z2g.tensor(1000.0, requires_grad=True); z2g.logaddexp(x, z2g.tensor(1000.0)).backward(); x.grad
    tensor(0.5000)
    """
    input, other, x, y = operands(input, other, "logaddexp", floating=True)

    def share(grad: Any, mine: Any, z: Any) -> Any:
        xp = of(grad)
        return grad * xp.where(xp.isfinite(z) | (z != z), xp.exp(mine - z), (mine == z) * 1.0)

    z = computed(_xp(x, y).logaddexp, x, y)
    return record("logaddexp", z, (input, share, input, RESULT), (other, share, other, RESULT))


def xlogy(input: Any, other: Any) -> Tensor:
    """z = x ln y, and 0 where x is 0, whatever y is but NaN.   ∂z/∂x = ln y,  ∂z/∂y = x / y

    As for `mul` and `log`. Where x = 0 the slope by y is 0, and where y <= 0 too, that by x.
    >>> x, y = z2g.tensor([0.0, 2.0]), z2g.tensor([0.0, 4.0], requires_grad=True)
    >>> z2g.xlogy(x, y).sum().backward(); y.grad
    tensor([0.0000, 0.5000])
    """
    input, other, x, y = operands(input, other, "xlogy", floating=True)
    xp = _xp(x, y)

    def value(x: Any, y: Any) -> Array:
        return xp.where((x == 0) & (y == y), 0, x * xp.log(y))

    return record(
        "xlogy",
        computed(value, x, y),
        (input, lambda grad, x, y: grad * of(grad).where((x == 0) & (y <= 0), 0, of(grad).log(y)), input, other),
        (other, lambda grad, x, y: grad * of(grad).where((x == 0) & (y == 0), 0, x / y), input, other),
    )


# --- Small helpers -----------------------------------------------------------------------------------------------


def clamp_min(input: Tensor, min: Any) -> Tensor:
    """z = x, but at least min; see `clamp`.

    >>> x = z2g.tensor([-1.0, 1.0], requires_grad=True); z2g.clamp_min(x, 0).sum().backward(); x.grad
    tensor([0., 1.])
    """
    return clamp(input, min=min)


def clamp_max(input: Tensor, max: Any) -> Tensor:
    """z = x, but at most max; see `clamp`.

    >>> x = z2g.tensor([-1.0, 1.0], requires_grad=True); z2g.clamp_max(x, 0).sum().backward(); x.grad
    tensor([1., 0.])
    """
    return clamp(input, max=max)


def deg2rad(input: Tensor) -> Tensor:
    """z = x π / 180.

    >>> x = z2g.tensor(90.0, requires_grad=True); z2g.deg2rad(x).backward(); x.grad
    tensor(0.0175)
    """
    return mul(input, math.pi / 180)


def rad2deg(input: Tensor) -> Tensor:
    """z = x 180 / π.

    >>> x = z2g.tensor(1.0, requires_grad=True); z2g.rad2deg(x).backward(); x.grad
    tensor(57.2958)
    """
    return mul(input, 180 / math.pi)


def nan_to_num(input: Tensor, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Tensor:
    """x with numbers in place of NaN, inf (the largest of its type, if none is given) and -inf.

    >>> x = z2g.tensor([1.0, z2g.nan], requires_grad=True); z2g.nan_to_num(x).sum().backward(); x.grad
    tensor([1., 0.])
    """
    a = as_array(input, "nan_to_num")
    if a.dtype.kind != "f":
        return input.clone()
    xp, limits = of(a), np.finfo(a.dtype)
    z = masked_fill(input, constant(input, xp.isnan(a)), nan)
    z = masked_fill(z, constant(input, xp.isposinf(a)), float(limits.max) if posinf is None else posinf)
    return masked_fill(z, constant(input, xp.isneginf(a)), float(limits.min) if neginf is None else neginf)


def logit(input: Tensor, eps: float | None = None) -> Tensor:
    """z = ln(x / (1 - x)), the reverse of sigmoid; x limited to [eps, 1 - eps] first, if given.

    >>> x = z2g.tensor(0.5, requires_grad=True); z2g.logit(x).backward(); x.grad
    tensor(4.)
    """
    x = input if eps is None else clamp(input, eps, 1 - eps)
    return sub(log(x), log1p(neg(x)))


def sinc(input: Tensor) -> Tensor:
    """z = sin(π x) / (π x), and 1 at 0.   dz/dx = (cos(π x) - z) / x, 0 at 0

    With u = π x: d(sin u / u)/dx = π (u cos u - sin u) / u². Near 0 that is a difference of two ones; there its series
    counts, π (-u/3 + u³/30 - u⁵/840 + u⁷/45360).
    >>> x = z2g.tensor([0.0, 1.0], requires_grad=True); z2g.sinc(x).sum().backward(); x.grad
    tensor([ 0., -1.])
    """
    x = as_floating(input, "sinc")
    xp = of(x)
    z = quiet.run(lambda: xp.sinc(x).astype(x.dtype, copy=False))

    def rule(grad: Any, x: Any, z: Any) -> Any:
        xp = of(grad)
        u = math.pi * x
        small, v = xp.abs(u) < 0.1, u * u
        series = 0 - math.pi * u * (1 / 3 - v * (1 / 30 - v * (1 / 840 - v / 45360)))
        return grad * xp.where(small, series, (xp.cos(u) - z) / xp.where(small, 1, x))

    return record("sinc", z, (input, rule, input, RESULT))


def heaviside(input: Tensor, values: Tensor) -> Tensor:
    """0 where x < 0, `values` where x = 0, 1 where x > 0. No gradient: torch has none either."""
    _, _, a, b = operands(input, values, "heaviside")
    xp = of(a)
    z = xp.where(a == 0, b, (a > 0).astype(a.dtype)).astype(a.dtype, copy=False)
    return constant(input, z)


def signbit(input: Tensor) -> Tensor:
    """Whether x is below 0, or -0.0, as bool. No gradient."""
    a = as_array(input, "signbit")
    return constant(input, of(a).signbit(a) if a.dtype.kind == "f" else a < 0)


def isposinf(input: Tensor) -> Tensor:
    """Whether x is inf, as bool. No gradient."""
    return constant(input, as_array(input, "isposinf") == math.inf)


def isneginf(input: Tensor) -> Tensor:
    """Whether x is -inf, as bool. No gradient."""
    return constant(input, as_array(input, "isneginf") == -math.inf)


logical_xor = comparison("logical_xor", "logical_xor")
