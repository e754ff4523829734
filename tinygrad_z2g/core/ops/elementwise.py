"""Operations on each element: arithmetic, functions of one variable.

Each computes its result in one line and then states, for each input, the rule that turns `grad` = ∂L/∂z into ∂L/∂input:
the chain rule, element by element, `grad * dz/dx`. After the rule stand the tensors whose numbers it reads. Operands
broadcast; the engine undoes that.
"""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any

from ...arrays import checks
from ...arrays.backend import of, quiet
from ...arrays.layout import computed, row_major
from ...arrays.normal import normal_cdf
from ..engine import RESULT, record
from ..operands import as_array, as_floating, floating, operands

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
    checks.check_numbers(input, other, "sub")
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
    return record("neg", quiet.run(operator.neg, as_array(input, "neg")), (input, lambda grad: -grad))


def pow(input: Tensor, exponent: float) -> Tensor:
    """z = xʸ, x to the power of a number y.   dz/dx = y xʸ⁻¹, and 0 for y = 0. (Other powers: `ops.elementwise.pow`)

    z is a product of y factors x, and by the product rule each of them adds the other y - 1. At x = 2, y = 3: 3 · 4.
    >>> x = z2g.tensor(2.0, requires_grad=True); (x**3).backward(); x.grad
    tensor(12.)
    """
    input, y, x, _ = operands(input, checks.number(exponent, "pow: exponent"), "pow")
    if x.dtype.kind in "iu" and y < 0:
        raise RuntimeError(f"pow: integers to the power {y} are not integers; convert to float first")
    z = quiet.run(operator.pow, x, y)
    return record("pow", z, (input, lambda grad, x, y: grad * (y * x ** (y - 1 if y else 1)), input, y))


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
    z = row_major(of(x).where(m, checks.fillable(x, m, value), x))
    return record("masked_fill", z, (input, lambda grad, m: of(grad).where(m, 0, grad), mask))
