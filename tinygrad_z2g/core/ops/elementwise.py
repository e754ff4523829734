"""Operations on each element: arithmetic, functions of one variable, choices, comparisons.

Each function computes its result in one line and then states, for each input, the rule that turns `grad` = ∂L/∂z into
∂L/∂input: the chain rule, element by element, `grad * dz/dx`. After the rule stand the tensors whose numbers it reads.
Operands broadcast; the engine undoes that. Where a function overflows, z is inf or NaN without a warning.
"""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from ...arrays.backend import of, quiet
from ...arrays.layout import laid_out, row_major
from ..engine import RESULT, Variable, record
from ..operands import as_array, as_floating, check_broadcast, computed, floating, number, operands, same_device

if TYPE_CHECKING:
    from ...tensor import Tensor


def add(input: Any, other: Any) -> Tensor:
    """z = x + y.   ∂z/∂x = 1,  ∂z/∂y = 1

    (x + h) + y = z + h: what is added to x is added to z, so the gradient passes to both unchanged.
    >>> x, y = z2g.tensor([1.0, 2.0], requires_grad=True), z2g.tensor([3.0, 4.0], requires_grad=True)
    >>> (5 * (x + y)).sum().backward(); x.grad, y.grad
    (tensor([5., 5.]), tensor([5., 5.]))
    """
    input, other, x, y = operands(input, other, "add")
    return record("add", computed(operator.add, x, y), (input, lambda grad: grad), (other, lambda grad: grad))


def sub(input: Any, other: Any) -> Tensor:
    """z = x - y.   ∂z/∂x = 1,  ∂z/∂y = -1

    x - (y + h) = z - h: what is added to y is taken from z, so y receives -grad.
    >>> x, y = z2g.tensor([1.0, 2.0], requires_grad=True), z2g.tensor([3.0, 4.0], requires_grad=True)
    >>> (5 * (x - y)).sum().backward(); x.grad, y.grad
    (tensor([5., 5.]), tensor([-5., -5.]))
    """
    kinds = [v.array.dtype.kind if isinstance(v, Variable) else type(v).__name__[0] for v in (input, other)]
    if "b" in kinds:
        raise RuntimeError("sub: subtraction of bool tensors is not defined; use ^ or logical_not, or convert to int")
    input, other, x, y = operands(input, other, "sub")
    return record("sub", computed(operator.sub, x, y), (input, lambda grad: grad), (other, lambda grad: -grad))


def mul(input: Any, other: Any) -> Tensor:
    """z = x y.   ∂z/∂x = y,  ∂z/∂y = x

    (x + h) y = z + h y: z grows by y for each unit of x, and by x for each unit of y.
    >>> x, y = z2g.tensor([1.0, 2.0], requires_grad=True), z2g.tensor([3.0, 4.0], requires_grad=True)
    >>> (x * y).sum().backward(); x.grad, y.grad
    (tensor([3., 4.]), tensor([1., 2.]))
    """
    input, other, x, y = operands(input, other, "mul")
    z = computed(operator.mul, x, y)
    return record("mul", z, (input, lambda grad, y: grad * y, other), (other, lambda grad, x: grad * x, input))


def div(input: Any, other: Any) -> Tensor:
    """z = x / y.   ∂z/∂x = 1 / y,  ∂z/∂y = -x / y² = -z / y.   Integers are divided as floats.

    z y = x, so y dz + z dy = dx: with y held dz/dx = 1 / y, with x held dz/dy = -z / y. The rule divides again instead
    of keeping z, so that z may be written over: `z += 1`.
    >>> x, y = z2g.tensor(3.0, requires_grad=True), z2g.tensor(2.0, requires_grad=True)
    >>> (x / y).backward(); x.grad, y.grad  # 1/2 and -1.5/2
    (tensor(0.5000), tensor(-0.7500))
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
    x = as_array(input, "neg")
    return record("neg", quiet.run(operator.neg, x), (input, lambda grad: -grad))


def pow(input: Any, exponent: Any) -> Tensor:
    """z = xʸ.   ∂z/∂x = y xʸ⁻¹,  ∂z/∂y = xʸ ln x

    At y = 0 the first is 0 for every x; at x = 0 and y ≥ 0 the second is taken as 0, its limit for y > 0.

    z = e^(y ln x), so dz = z (y / x dx + ln x dy), and z y / x = y xʸ⁻¹. At x = 2, y = 3: 3 · 4 and 8 ln 2.
    >>> x, y = z2g.tensor(2.0, requires_grad=True), z2g.tensor(3.0, requires_grad=True)
    >>> (x**y).backward(); x.grad, y.grad
    (tensor(12.), tensor(5.5452))
    """
    input, exponent, x, y = operands(input, exponent, "pow")
    if not hasattr(x, "dtype"):  # 2 ** y
        x = of(y).full((), x, y.dtype)
        input = exponent.make(x)
    if x.dtype.kind in "iu" and (y < 0).any() if hasattr(y, "dtype") else y < 0 and x.dtype.kind in "iu":
        raise RuntimeError("pow: integers to negative integer powers are not integers; convert to float first")
    z = computed(operator.pow, x, y)

    def grad_x(grad: Any, x: Any, y: Any) -> Any:
        xp, power = of(grad), x ** (y - 1)
        return xp.where((y == 0) & ~xp.isfinite(power), 0, grad * (y * power))  # else 0 · ∞; where it is not, y counts

    def grad_y(grad: Any, x: Any, y: Any, z: Any) -> Any:
        xp = of(grad)
        return grad * xp.where((x == 0) & (y >= 0), 0, z * xp.log(x))

    edge = exponent, grad_y, input, exponent, RESULT
    return record("pow", z if x.ndim else row_major(z), (input, grad_x, input, exponent), edge)


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


def sqrt(input: Tensor) -> Tensor:
    """z = √x.   dz/dx = 1 / (2z), infinite at 0;  NaN for x < 0

    z² = x, so 2z dz = dx. At x = 4, z = 2 and the slope is 1/4.
    >>> x = z2g.tensor(4.0, requires_grad=True); x.sqrt().backward(); x.grad
    tensor(0.2500)
    """
    x = as_floating(input, "sqrt")
    return record("sqrt", quiet.run(of(x).sqrt, x), (input, lambda grad, z: grad / (2 * z), RESULT))


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
    x = as_floating(input, "sigmoid")
    z = quiet.run(lambda x: 1 / (1 + of(x).exp(-x)), x)
    return record("sigmoid", z, (input, lambda grad, z: grad * (z * (1 - z)), RESULT))


def relu(input: Tensor) -> Tensor:
    """z = max(x, 0).   dz/dx = 1 where x > 0, else 0 (so 0 at the kink x = 0)

    Right of 0 z is x itself; left of it z stays 0, whatever x does. (z ≠ 0 just where x > 0, or is NaN: that passes its
    gradient on, as in torch.)
    >>> x = z2g.tensor([-1.0, 0.0, 2.0], requires_grad=True); x.relu().sum().backward(); x.grad
    tensor([0., 0., 1.])
    """
    x = as_array(input, "relu")
    if x.dtype.kind == "b":
        raise RuntimeError("relu: got a bool tensor, expected numbers; convert it with .int()")
    return record("relu", of(x).maximum(x, 0), (input, lambda grad, z: grad * (z != 0), RESULT))


def gelu(input: Tensor, approximate: str = "tanh") -> Tensor:
    """z = x s with s = (1 + tanh u) / 2, u = √(2/π) (x + 0.044715 x³).   dz/dx = s + 2 x s (1 - s) u'

    s is close to Φ(x), the normal distribution function, which the gelu of `nn.functional` offers exactly: x passes in
    so far as it is large among others. (Hendrycks & Gimpel 2016, arXiv:1606.08415)

    The product rule on x s. tanh u = 2s - 1 has the slope (1 - (2s - 1)²) u' = 4 s (1 - s) u', so s has half of it.
    >>> x = z2g.tensor([0.0, 9.0], requires_grad=True); F.gelu(x, "tanh").sum().backward(); x.grad
    tensor([0.5000, 1.0000])
    """
    check_approximate(approximate)
    x, c = floating(input, "gelu"), math.sqrt(2 / math.pi)

    def share(x: Any) -> Any:
        return 0.5 * (1 + of(x).tanh(c * (x + 0.044715 * x * x * x)))

    def rule(grad: Any, x: Any) -> Any:
        s = share(x)
        return grad * (s + 2 * x * s * (1 - s) * (c * (1 + 3 * 0.044715 * x * x)))

    return record("gelu", quiet.run(lambda: x * share(x)), (input, rule, input))


def check_approximate(approximate: str) -> None:
    """RuntimeError for the exact form, which is not in the core."""
    if approximate != "tanh":
        raise RuntimeError(f"gelu: approximate must be 'tanh' here, got {approximate!r}; see nn.functional.gelu")


# --- Choices and comparisons -------------------------------------------------------------------------------------


def where(condition: Tensor, input: Any, other: Any) -> Tensor:
    """z = x where the condition holds, else y.   The gradient goes to the chosen side; the other gets exactly 0.

    z = c x + (1 - c) y with c = 1 where the condition holds, else 0: ∂z/∂x = c,  ∂z/∂y = 1 - c. The rule chooses
    instead of multiplying, because 0 · inf is NaN.
    >>> x, y = z2g.tensor([1.0, 2.0], requires_grad=True), z2g.tensor([3.0, 4.0], requires_grad=True)
    >>> z2g.where(z2g.tensor([True, False]), x, y).sum().backward(); x.grad, y.grad
    (tensor([1., 0.]), tensor([0., 1.]))
    """
    c = as_array(condition, "where")
    if c.dtype.kind != "b":
        raise RuntimeError(f"where: expected a bool condition, got {c.dtype}; compare it with something first")
    input, other, x, y = operands(input, other, "where")
    same_device("where", condition, *(v for v in (input, other) if isinstance(v, Variable) and v.array.ndim))
    arrays = [v for v in (x, y) if hasattr(v, "dtype")]
    for v in arrays:
        check_broadcast(c.shape, v.shape, "where")
    return record(
        "where",
        laid_out(of(c).where(c, x, y), c, *arrays),
        (input, lambda grad, c: of(grad).where(c, grad, 0), condition),
        (other, lambda grad, c: of(grad).where(c, 0, grad), condition),
    )


def masked_fill(input: Tensor, mask: Tensor, value: Any) -> Tensor:
    """z = value where the mask m is True, else x.   dz/dx = 0 where m is True, else 1.   `mask` broadcasts to x.

    Where x was painted over, changing it changes nothing; elsewhere z is x.
    >>> x = z2g.tensor([1.0, 2.0], requires_grad=True)
    >>> x.masked_fill(z2g.tensor([True, False]), 9.0).sum().backward(); x.grad
    tensor([0., 1.])
    """
    x, m, value = fillable(input, mask, value)
    return record("masked_fill", row_major(of(x).where(m, value, x)), (input, lambda grad, m: _cleared(grad, m), mask))


def _cleared(grad: Any, m: Any) -> Any:
    return of(grad).where(m, 0, grad)


def fillable(input: Tensor, mask: Tensor, value: Any) -> tuple[Any, Any, Any]:
    """What `masked_fill` takes, checked: x, the mask, and the value as an element of x's dtype."""
    x, m = as_array(input, "masked_fill"), as_array(mask, "masked_fill")
    if m.dtype.kind != "b":
        raise RuntimeError(f"masked_fill: expected a bool mask, got {m.dtype}; compare it: mask == 0")
    value = number(value, "masked_fill: value")
    if x.dtype.kind != "f":
        try:
            value = np.array(bool(value) if x.dtype.kind == "b" else int(value), x.dtype).item()  # 1.5 becomes 1
        except (OverflowError, ValueError) as error:
            raise RuntimeError(f"masked_fill: value {value} cannot be held by a tensor of {x.dtype}") from error
    operands(input, mask, "masked_fill")  # shapes and devices
    return x, m, value


def comparison(name: str, symbol: str) -> Any:
    """The operation `symbol` by NumPy's function `name`: its result is bool, and no gradient passes."""

    def compare(input: Any, other: Any) -> Tensor:
        input, other, x, y = operands(input, other, symbol)
        z = computed(getattr(of(x if hasattr(x, "dtype") else y), name), x, y)
        return (input if isinstance(input, Variable) else other).make(z)

    compare.__name__ = compare.__qualname__ = symbol
    compare.__doc__ = f"z = ({name.replace('_', ' ')}: x, y), element by element, as bool. No gradient."
    return compare


eq, ne = comparison("equal", "eq"), comparison("not_equal", "ne")
lt, le = comparison("less", "lt"), comparison("less_equal", "le")
gt, ge = comparison("greater", "gt"), comparison("greater_equal", "ge")
