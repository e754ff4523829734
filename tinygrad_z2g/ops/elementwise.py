"""Operations on each element: arithmetic, functions of one variable, comparisons, choices.

Each function computes its result in one line and then states, per input, the rule that turns `grad` = ∂L/∂z into
∂L/∂input: the chain rule, element by element, `grad * dz/dx`. Operands broadcast; the engine undoes that.
After the rule stand the tensors whose numbers it reads (see `autograd.record`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import dtypes
from ..autograd import RESULT, Variable, record
from ..backend import of
from .common import as_array, as_floating, constant, operands, same_device

if TYPE_CHECKING:
    from ..tensor import Tensor


def _xp(a: Any, b: Any) -> Any:
    """The array library of two operands, one of which may be a Python number."""
    return of(a if hasattr(a, "dtype") else b)


# --- Arithmetic --------------------------------------------------------------------------------------------------


def add(x: Any, y: Any, *, alpha: float = 1) -> Tensor:
    """z = x + y.   ∂z/∂x = 1,  ∂z/∂y = 1"""
    if alpha != 1:
        y = mul(y, alpha) if isinstance(y, Variable) else y * alpha
    a, b = operands(x, y, "add")
    return record("add", a + b, (x, lambda grad: grad), (y, lambda grad: grad))


def sub(x: Any, y: Any, *, alpha: float = 1) -> Tensor:
    """z = x - y.   ∂z/∂x = 1,  ∂z/∂y = -1"""
    if alpha != 1:
        y = mul(y, alpha) if isinstance(y, Variable) else y * alpha
    a, b = operands(x, y, "sub")
    if (a if hasattr(a, "dtype") else b).dtype.kind == "b":
        raise RuntimeError("sub: subtraction of bool tensors is not defined; use ^ or logical_not, or convert to int")
    return record("sub", a - b, (x, lambda grad: grad), (y, lambda grad: -grad))


def rsub(x: Any, y: Any) -> Tensor:
    """z = y - x: what Python calls for `2 - x`."""
    return sub(y, x)


def mul(x: Any, y: Any) -> Tensor:
    """z = x y.   ∂z/∂x = y,  ∂z/∂y = x"""
    a, b = operands(x, y, "mul")
    return record("mul", a * b, (x, lambda grad: grad * b, y), (y, lambda grad: grad * a, x))


def div(x: Any, y: Any) -> Tensor:
    """z = x / y.   ∂z/∂x = 1 / y,  ∂z/∂y = -x / y² = -z / y.   Integers are divided as floats."""
    a, b = operands(x, y, "div", floating=True)
    with np.errstate(all="ignore"):  # x / 0 is ±inf or NaN, as on the GPU and in torch, without a warning
        z = a / b
    return record("div", z, (x, lambda grad: grad / b, y), (y, lambda grad: -grad * z / b, y, RESULT))


def rdiv(x: Any, y: Any) -> Tensor:
    """z = y / x: what Python calls for `2 / x`."""
    return div(y, x)


def floor_divide(x: Any, y: Any) -> Tensor:
    """z = ⌊x / y⌋. No gradient. ZeroDivisionError, as in torch, for integers divided by 0."""
    a, b = _divisible(x, y, "floor_divide")
    with np.errstate(all="ignore"):
        return constant(x if isinstance(x, Variable) else y, a // b)


def remainder(x: Any, y: Any) -> Tensor:
    """z = x - y ⌊x / y⌋, with the sign of y.   ∂z/∂x = 1,  ∂z/∂y = -⌊x / y⌋.   Integers: as floor_divide."""
    a, b = _divisible(x, y, "remainder")
    with np.errstate(all="ignore"):
        z = a % b
    return record("remainder", z, (x, lambda grad: grad), (y, lambda grad: -grad * ((a - z) / b), x, y, RESULT))


def _divisible(x: Any, y: Any, name: str) -> tuple[Any, Any]:
    a, b = operands(x, y, name)
    if (a if hasattr(a, "dtype") else b).dtype.kind != "f" and not (b.all() if hasattr(b, "dtype") else b):
        raise ZeroDivisionError(f"{name}: an integer is divided by 0; convert to float to get inf or nan")
    return a, b


def lerp(x: Tensor, end: Tensor, weight: Any) -> Tensor:
    """z = x + w (end - x): from x, at w = 0, to end, at w = 1. `weight` is a number or a tensor."""
    return add(x, mul(sub(end, x), weight))


def neg(x: Tensor) -> Tensor:
    """z = -x.   dz/dx = -1"""
    return record("neg", -as_array(x, "neg"), (x, lambda grad: -grad))


def pow(x: Any, y: Any) -> Tensor:
    """z = xʸ.   ∂z/∂x = y xʸ⁻¹,  ∂z/∂y = xʸ ln x

    At y = 0 the first is 0 for every x; at x = 0 and y ≥ 0 the second is taken as 0, its limit for y > 0.
    """
    a, b = operands(x, y, "pow")
    if not hasattr(b, "dtype"):
        return _pow_number(x, a, b)
    xp = of(b)
    if not hasattr(a, "dtype"):
        a = xp.full((), a, b.dtype)
    if b.dtype.kind in "iu" and (b < 0).any():
        raise RuntimeError("pow: integers to negative integer powers are not integers; convert to float first")
    with np.errstate(all="ignore"):
        z = xp.power(a, b)

    def grad_y(grad):
        return grad * xp.where((a == 0) & (b >= 0), 0, z * xp.log(a))

    return record(
        "pow", z, (x, lambda grad: grad * xp.where(b == 0, 0, b * a ** (b - 1)), x, y), (y, grad_y, x, y, RESULT)
    )


def _pow_number(x: Tensor, a: Any, n: float) -> Tensor:
    """xⁿ for a Python number n. Small powers are products: NumPy's `a**3` is 30 times slower than `a * a * a`."""
    if a.dtype.kind in "iu" and n < 0:
        raise RuntimeError(f"pow: integers to the power {n} are not integers; convert to float first")

    def power(n: float) -> Any:
        if n == 0.5:
            return of(a).sqrt(a)
        return {1: lambda: a, 2: lambda: a * a, 3: lambda: a * a * a}.get(n, lambda: a**n)()

    with np.errstate(all="ignore"):
        z = power(n)
    if n == 0:
        return record("pow", z, (x, lambda grad: grad * 0))
    return record("pow", z.copy() if z is a else z, (x, lambda grad: grad * (n * power(n - 1)), x))


def rpow(x: Any, y: Any) -> Tensor:
    """z = yˣ: what Python calls for `2 ** x`."""
    return pow(y, x)


# --- Functions of one variable -----------------------------------------------------------------------------------


def square(x: Tensor) -> Tensor:
    """z = x².   dz/dx = 2x"""
    a = as_array(x, "square")
    return record("square", a * a, (x, lambda grad: grad * (2 * a), x))


def sqrt(x: Tensor) -> Tensor:
    """z = √x.   dz/dx = 1 / (2z), infinite at 0;  NaN for x < 0"""
    a = as_floating(x, "sqrt")
    with np.errstate(all="ignore"):
        z = of(a).sqrt(a)
    return record("sqrt", z, (x, lambda grad: grad / (2 * z), RESULT))


def rsqrt(x: Tensor) -> Tensor:
    """z = 1 / √x.   dz/dx = -z³ / 2"""
    a = as_floating(x, "rsqrt")
    with np.errstate(all="ignore"):
        z = 1 / of(a).sqrt(a)
    return record("rsqrt", z, (x, lambda grad: grad * (-0.5 * z * z * z), RESULT))


def reciprocal(x: Tensor) -> Tensor:
    """z = 1 / x.   dz/dx = -1 / x² = -z²"""
    a = as_floating(x, "reciprocal")
    with np.errstate(all="ignore"):
        z = 1 / a
    return record("reciprocal", z, (x, lambda grad: grad * (-z * z), RESULT))


def exp(x: Tensor) -> Tensor:
    """z = eˣ.   dz/dx = z"""
    a = as_floating(x, "exp")
    with np.errstate(over="ignore"):
        z = of(a).exp(a)
    return record("exp", z, (x, lambda grad: grad * z, RESULT))


def expm1(x: Tensor) -> Tensor:
    """z = eˣ - 1, exact for small x.   dz/dx = z + 1"""
    a = as_floating(x, "expm1")
    with np.errstate(all="ignore"):
        z = of(a).expm1(a)
    return record("expm1", z, (x, lambda grad: grad * (z + 1), RESULT))


def log(x: Tensor) -> Tensor:
    """z = ln x.   dz/dx = 1 / x;  -inf at 0, NaN below"""
    a = as_floating(x, "log")
    with np.errstate(all="ignore"):
        z = of(a).log(a)
    return record("log", z, (x, lambda grad: grad / a, x))


def log2(x: Tensor) -> Tensor:
    """z = log₂ x = ln x / ln 2.   dz/dx = 1 / (x ln 2)"""
    a = as_floating(x, "log2")
    with np.errstate(all="ignore"):
        z = of(a).log2(a)
    return record("log2", z, (x, lambda grad: grad / (a * math.log(2)), x))


def log1p(x: Tensor) -> Tensor:
    """z = ln (1 + x), exact for small x.   dz/dx = 1 / (1 + x)"""
    a = as_floating(x, "log1p")
    with np.errstate(all="ignore"):
        z = of(a).log1p(a)
    return record("log1p", z, (x, lambda grad: grad / (1 + a), x))


def sin(x: Tensor) -> Tensor:
    """z = sin x.   dz/dx = cos x"""
    a = as_floating(x, "sin")
    xp = of(a)
    return record("sin", xp.sin(a), (x, lambda grad: grad * xp.cos(a), x))


def cos(x: Tensor) -> Tensor:
    """z = cos x.   dz/dx = -sin x"""
    a = as_floating(x, "cos")
    xp = of(a)
    return record("cos", xp.cos(a), (x, lambda grad: grad * -xp.sin(a), x))


def tan(x: Tensor) -> Tensor:
    """z = tan x.   dz/dx = 1 + z²"""
    a = as_floating(x, "tan")
    z = of(a).tan(a)
    return record("tan", z, (x, lambda grad: grad * (1 + z * z), RESULT))


def asin(x: Tensor) -> Tensor:
    """z = arcsin x.   dz/dx = 1 / √(1 - x²);  NaN for |x| > 1"""
    a = as_floating(x, "asin")
    with np.errstate(all="ignore"):
        z = of(a).arcsin(a)
    return record("asin", z, (x, lambda grad: grad / of(a).sqrt(1 - a * a), x))


def acos(x: Tensor) -> Tensor:
    """z = arccos x.   dz/dx = -1 / √(1 - x²);  NaN for |x| > 1"""
    a = as_floating(x, "acos")
    with np.errstate(all="ignore"):
        z = of(a).arccos(a)
    return record("acos", z, (x, lambda grad: -grad / of(a).sqrt(1 - a * a), x))


def atan(x: Tensor) -> Tensor:
    """z = arctan x.   dz/dx = 1 / (1 + x²)"""
    a = as_floating(x, "atan")
    z = of(a).arctan(a)
    return record("atan", z, (x, lambda grad: grad / (1 + a * a), x))


def sinh(x: Tensor) -> Tensor:
    """z = (eˣ - e⁻ˣ) / 2.   dz/dx = cosh x"""
    a = as_floating(x, "sinh")
    with np.errstate(all="ignore"):
        z = of(a).sinh(a)
    return record("sinh", z, (x, lambda grad: grad * of(a).cosh(a), x))


def cosh(x: Tensor) -> Tensor:
    """z = (eˣ + e⁻ˣ) / 2.   dz/dx = sinh x"""
    a = as_floating(x, "cosh")
    with np.errstate(all="ignore"):
        z = of(a).cosh(a)
    return record("cosh", z, (x, lambda grad: grad * of(a).sinh(a), x))


def tanh(x: Tensor) -> Tensor:
    """z = tanh x.   dz/dx = 1 - z²"""
    a = as_floating(x, "tanh")
    z = of(a).tanh(a)
    return record("tanh", z, (x, lambda grad: grad * (1 - z * z), RESULT))


def sigmoid(x: Tensor) -> Tensor:
    """z = 1 / (1 + e⁻ˣ).   dz/dx = z (1 - z)

    Where e⁻ˣ overflows, 1 / ∞ is the right answer: 0.
    """
    a = as_floating(x, "sigmoid")
    with np.errstate(over="ignore"):
        z = 1 / (1 + of(a).exp(-a))
    return record("sigmoid", z, (x, lambda grad: grad * (z * (1 - z)), RESULT))


def relu(x: Tensor) -> Tensor:
    """z = max(x, 0).   dz/dx = 1 where x > 0, else 0 (so 0 at the kink x = 0)"""
    z = of(as_array(x, "relu")).maximum(x.array, 0)
    return record("relu", z, (x, lambda grad: grad * (z > 0), RESULT))


def abs(x: Tensor) -> Tensor:
    """z = |x|.   dz/dx = sign x (0 at the kink x = 0)"""
    a = as_array(x, "abs")
    xp = of(a)
    return record("abs", xp.abs(a), (x, lambda grad: grad * xp.sign(a), x))


def sign(x: Tensor) -> Tensor:
    """z = -1, 0 or 1.   dz/dx = 0"""
    z = of(as_array(x, "sign")).sign(x.array)
    return record("sign", z, (x, lambda grad: grad * 0))


def floor(x: Tensor) -> Tensor:
    """z = the largest integer ≤ x.   dz/dx = 0"""
    return record("floor", of(as_array(x, "floor")).floor(x.array).astype(x.array.dtype), (x, lambda grad: grad * 0))


def ceil(x: Tensor) -> Tensor:
    """z = the smallest integer ≥ x.   dz/dx = 0"""
    return record("ceil", of(as_array(x, "ceil")).ceil(x.array).astype(x.array.dtype), (x, lambda grad: grad * 0))


def round(x: Tensor, *, decimals: int = 0) -> Tensor:
    """z = x rounded to so many decimals, halves to the even neighbour.   dz/dx = 0"""
    return record("round", of(as_array(x, "round")).round(x.array, decimals), (x, lambda grad: grad * 0))


def clamp(x: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """z = x limited to [min, max], two numbers or None.   dz/dx = 1 where min ≤ x ≤ max, else 0"""
    a = as_array(x, "clamp")
    if min is None and max is None:
        raise RuntimeError("clamp: got neither min nor max; give at least one")
    for bound in (min, max):
        if bound is not None and not isinstance(bound, (int, float)):
            raise TypeError(f"clamp: expected numbers as bounds, got {type(bound).__name__}; see maximum and minimum")
    if a.dtype.kind != "f" and (isinstance(min, float) or isinstance(max, float)):
        a = a.astype(dtypes.get_default_dtype())
    z, xp = a, of(a)
    if min is not None:
        z = xp.maximum(z, min)
    if max is not None:
        z = xp.minimum(z, max)
    return record("clamp", z, (x, lambda grad: grad * (z == a), x, RESULT))


# --- Choices between two -----------------------------------------------------------------------------------------


def maximum(x: Any, y: Any) -> Tensor:
    """z = max(x, y).   ∂z/∂x = 1 where x > y, ½ where x = y;  ∂z/∂y likewise"""
    a, b = operands(x, y, "maximum")
    xp = _xp(a, b)
    return record("maximum", xp.maximum(a, b), (x, _share(a, b, xp.greater), x, y), (y, _share(b, a, xp.greater), x, y))


def minimum(x: Any, y: Any) -> Tensor:
    """z = min(x, y).   ∂z/∂x = 1 where x < y, ½ where x = y;  ∂z/∂y likewise"""
    a, b = operands(x, y, "minimum")
    xp = _xp(a, b)
    return record("minimum", xp.minimum(a, b), (x, _share(a, b, xp.less), x, y), (y, _share(b, a, xp.less), x, y))


def _share(a: Any, b: Any, wins: Any) -> Any:
    """The rule of a choice: all of the gradient where a wins, half of it at a tie."""
    return lambda grad: grad * (wins(a, b) + 0.5 * (a == b)).astype(grad.dtype)


def where(condition: Tensor, x: Any, y: Any) -> Tensor:
    """z = x where the condition holds, else y.   The gradient goes to the chosen side; the other gets exactly 0."""
    c = as_array(condition, "where")
    if c.dtype.kind != "b":
        raise RuntimeError(f"where: expected a bool condition, got {c.dtype}; compare it with something first")
    if not isinstance(x, Variable) and not isinstance(y, Variable):
        default = dtypes.get_default_dtype() if isinstance(x, float) or isinstance(y, float) else None
        z = of(c).where(c, x, y)
        return constant(condition, z if default is None else z.astype(default))
    a, b = operands(x, y, "where")
    same_device("where", condition, *(v for v in (x, y) if isinstance(v, Variable) and v.array.ndim))
    xp = of(c)
    return record(
        "where",
        xp.where(c, a, b),
        (x, lambda grad: xp.where(c, grad, 0), condition),
        (y, lambda grad: xp.where(c, 0, grad), condition),
    )


def masked_fill(x: Tensor, mask: Tensor, value: Any) -> Tensor:
    """z = value where the mask is True, else x.   dz/dx = 0 where the mask is True, else 1

    `mask` broadcasts to x. `value` is a number or a 0-d tensor without gradient.
    """
    a, m = as_array(x, "masked_fill"), as_array(mask, "masked_fill")
    if m.dtype.kind != "b":
        raise RuntimeError(f"masked_fill: expected a bool mask, got {m.dtype}; compare it: mask == 0")
    if isinstance(value, Variable):
        if value.array.ndim or value.requires_grad:
            raise RuntimeError("masked_fill: value must be a number or a 0-d tensor without gradient; see where()")
        value = value.array.astype(a.dtype)
    elif a.dtype.kind != "f" and isinstance(value, float) and not value.is_integer():
        raise RuntimeError(f"masked_fill: value {value} cannot be held by a tensor of {a.dtype}")
    operands(x, mask, "masked_fill")  # shapes and devices
    xp = of(a)
    z = xp.where(m, value, a).astype(a.dtype, copy=False)
    return record("masked_fill", z, (x, lambda grad: xp.where(m, 0, grad), mask))


# --- Comparisons and logic: results are bool, no gradient passes --------------------------------------------------


def _comparison(name: str, symbol: str) -> Any:
    def compare(x: Any, y: Any) -> Tensor:
        if not isinstance(y, (Variable, int, float, np.ndarray, np.generic)):
            return NotImplemented  # x == None is False, as for any two things that have nothing in common
        a, b = operands(x, y, name)
        z = getattr(_xp(a, b), name)(a, b)
        return constant(x if isinstance(x, Variable) else y, z)

    compare.__name__ = compare.__qualname__ = symbol
    compare.__doc__ = f"z = ({name.replace('_', ' ')}: x, y), element by element, as bool. No gradient."
    return compare


eq = _comparison("equal", "eq")
ne = _comparison("not_equal", "ne")
lt = _comparison("less", "lt")
le = _comparison("less_equal", "le")
gt = _comparison("greater", "gt")
ge = _comparison("greater_equal", "ge")
logical_and = _comparison("logical_and", "logical_and")
logical_or = _comparison("logical_or", "logical_or")
bitwise_and = _comparison("bitwise_and", "bitwise_and")
bitwise_or = _comparison("bitwise_or", "bitwise_or")
bitwise_xor = _comparison("bitwise_xor", "bitwise_xor")


def logical_not(x: Tensor) -> Tensor:
    """z = not x, as bool. No gradient."""
    return constant(x, of(as_array(x, "logical_not")).logical_not(x.array))


def bitwise_not(x: Tensor) -> Tensor:
    """z = ~x for bools and integers. No gradient."""
    if as_array(x, "bitwise_not").dtype.kind == "f":
        raise TypeError(f"bitwise_not: expected bool or integers, got {x.array.dtype}")
    return constant(x, ~x.array)


def isnan(x: Tensor) -> Tensor:
    """z = x is NaN, as bool. No gradient."""
    return constant(x, of(as_array(x, "isnan")).isnan(x.array))


def isfinite(x: Tensor) -> Tensor:
    """z = x is neither NaN nor infinite, as bool. No gradient."""
    return constant(x, of(as_array(x, "isfinite")).isfinite(x.array))


def isinf(x: Tensor) -> Tensor:
    """Whether each element is inf or -inf, as bool. No gradient."""
    return constant(x, of(as_array(x, "isinf")).isinf(x.array))


def isclose(x: Tensor, y: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Tensor:
    """Whether |x - y| ≤ atol + rtol |y|, element by element, as bool; the same infinity is close. No gradient."""
    a, b = operands(x, y, "isclose")
    return constant(x, of(a).isclose(a, b, rtol, atol, equal_nan))


def allclose(x: Tensor, y: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    """Whether all elements are close; see `isclose`. A Python bool, for which a GPU has to be waited for."""
    return bool(isclose(x, y, rtol, atol, equal_nan).array.all())


def equal(x: Tensor, y: Tensor) -> bool:
    """Whether x and y have one shape and the same elements; nan equals nothing. A Python bool."""
    same_device("equal", x, y)
    return as_array(x, "equal").shape == as_array(y, "equal").shape and bool((x.array == y.array).all())
