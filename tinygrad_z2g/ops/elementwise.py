"""Operations on each element: arithmetic, choices, comparisons; functions of one variable stand in `unary`.

Each function computes its result in one line and then states, per input, the rule that turns `grad` = ∂L/∂z into
∂L/∂input: the chain rule, element by element, `grad * dz/dx`. Operands broadcast; the engine undoes that.
After the rule stand the tensors whose numbers it reads (see `engine.record`).
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from ..arrays import dtypes
from ..arrays.backend import of, silent
from ..core import ops
from ..core.engine import RESULT, Variable, record
from ..core.operands import is_tensor
from ..core.ops import mul
from ..half.table import apply
from .common import (
    as_array,
    check_broadcast,
    computed,
    constant,
    laid_out,
    number,
    operands,
    row_major,
    same_device,
    widens,
)
from .counting import nonzero

# isort: off
from .unary import (  # noqa: F401 - so that elementwise.exp stands beside elementwise.mul
    abs, acos, asin, atan, ceil, cos, cosh, erf, exp, expm1, floor, log, log1p, log2, neg, reciprocal, relu, round,
    flat, rsqrt, sigmoid, sign, sin, sinh, sqrt, square, tan, tanh,
)  # fmt: skip

# isort: on
if TYPE_CHECKING:
    from ..tensor import Tensor


def _xp(a: Any, b: Any) -> Any:
    """The array library of two operands, one of which may be a Python number."""
    return of(a if hasattr(a, "dtype") else b)


# --- Arithmetic --------------------------------------------------------------------------------------------------


@widens(ops.add)
def add(input: Any, other: Any, *, alpha: float = 1) -> Tensor:
    """z = x + alpha y; see `core.ops.add`.

    >>> x, y = z2g.tensor(1.0, requires_grad=True), z2g.tensor(2.0, requires_grad=True)
    >>> z2g.add(x, y, alpha=3).backward(); x.grad, y.grad
    (tensor(1.), tensor(3.))
    """
    return ops.add(input, other if alpha == 1 else _times(other, alpha, "add"))


@widens(ops.sub)
def sub(input: Any, other: Any, *, alpha: float = 1) -> Tensor:
    """z = x - alpha y; see `core.ops.sub`.

    >>> x, y = z2g.tensor(1.0, requires_grad=True), z2g.tensor(2.0, requires_grad=True)
    >>> z2g.sub(x, y, alpha=3).backward(); x.grad, y.grad
    (tensor(1.), tensor(-3.))
    """
    return ops.sub(input, other if alpha == 1 else _times(other, alpha, "sub"))


def _times(other: Any, alpha: Any, name: str) -> Any:
    return mul(other, alpha) if isinstance(other, Variable) else other * number(alpha, f"{name}: alpha")


def rsub(input: Any, other: Any) -> Tensor:
    """z = y - x: what Python calls for `2 - x`.

    >>> x = z2g.tensor(3.0, requires_grad=True); (2 - x).backward(); x.grad
    tensor(-1.)
    """
    return sub(other, input)


@widens(ops.div)
def div(input: Any, other: Any, *, rounding_mode: str | None = None) -> Tensor:
    """z = x / y, see `core.ops.div`; rounded, if asked to: "floor" rounds down, "trunc" towards zero.

    Rounded quotients of integers are integers. Their gradient is 0: z is flat.
    >>> x, y = z2g.tensor(3.0, requires_grad=True), z2g.tensor(2.0, requires_grad=True)
    >>> z2g.div(x, y).backward(); x.grad, y.grad  # 1/2 and -1.5/2
    (tensor(0.5000), tensor(-0.7500))
    """
    return ops.div(input, other) if rounding_mode is None else _div_rounded(input, other, rounding_mode)


@silent
def _div_rounded(input: Any, other: Any, mode: str) -> Tensor:
    if mode not in ("floor", "trunc"):
        raise RuntimeError(f"div: rounding_mode must be None, 'floor' or 'trunc', got {mode!r}")
    input, other, x, y = _divisible(input, other, "div")
    xp = _xp(x, y)
    z = computed(operator.floordiv, x, y)
    if mode == "trunc":
        z = computed(lambda x, y: xp.trunc(x / y), x, y) if z.dtype.kind == "f" else z + ((z < 0) & (z * y != x))
    return record("div", z, (input, flat), (other, flat))


def rdiv(input: Any, other: Any) -> Tensor:
    """z = y / x: what Python calls for `2 / x`.

    >>> x = z2g.tensor(4.0, requires_grad=True); (2 / x).backward(); x.grad  # -2 / x²
    tensor(-0.1250)
    """
    return div(other, input)


def floor_divide(input: Any, other: Any) -> Tensor:
    """z = ⌊x / y⌋. No gradient. ZeroDivisionError, as in torch, for integers divided by 0."""
    input, other, x, y = _divisible(input, other, "floor_divide")
    return constant(input if isinstance(input, Variable) else other, computed(operator.floordiv, x, y))


def rfloordiv(input: Any, other: Any) -> Tensor:
    """z = ⌊y / x⌋: what Python calls for `2 // x`. No gradient."""
    return floor_divide(other, input)


def remainder(input: Any, other: Any) -> Tensor:
    """z = x - y ⌊x / y⌋, with the sign of y.   ∂z/∂x = 1,  ∂z/∂y = -⌊x / y⌋.   Integers: as floor_divide.

    Between its jumps q = ⌊x / y⌋ is a constant, and z = x - q y a straight line in x and in y. Here q = 3.
    >>> x, y = z2g.tensor(7.0, requires_grad=True), z2g.tensor(2.0, requires_grad=True)
    >>> (x % y).backward(); x.grad, y.grad
    (tensor(1.), tensor(-3.))
    """
    input, other, x, y = _divisible(input, other, "remainder")
    z = computed(lambda x, y: _xp(x, y).where((z := x % y) == 0, x * 0, z), x, y)  # ±0 as x is, not as y
    return record(
        "remainder", z, (input, lambda grad: grad), (other, lambda grad, x, y: -grad * (x // y), input, other)
    )


def rmod(input: Any, other: Any) -> Tensor:
    """z = y - x ⌊y / x⌋: what Python calls for `2 % x`.

    >>> x = z2g.tensor(2.0, requires_grad=True); (7 % x).backward(); x.grad  # 7 - 3 x
    tensor(-3.)
    """
    return remainder(other, input)


def _divisible(input: Any, other: Any, name: str) -> tuple[Any, Any, Any, Any]:
    """As `operands`. ZeroDivisionError where an integer would be divided by 0."""
    input, other, x, y = operands(input, other, name)
    if (x if hasattr(x, "dtype") else y).dtype.kind != "f" and not (y.all() if hasattr(y, "dtype") else y):
        raise ZeroDivisionError(f"{name}: an integer is divided by 0; convert to float to get inf or nan")
    return input, other, x, y


@silent
def lerp(input: Tensor, end: Tensor, weight: Any) -> Tensor:
    """z = x + w (end - x): from x, at w = 0, to end, at w = 1. `weight` is a number or a tensor.

    ∂z/∂x = 1 - w,  ∂z/∂end = w,  ∂z/∂w = end - x.   From w = 1/2 on it is computed as end - (1 - w) (end - x), from the
    other end: so both ends are exact.

    z = (1 - w) x + w end: a straight line in x, in end and in w.
    >>> x, end = z2g.tensor(1.0, requires_grad=True), z2g.tensor(5.0, requires_grad=True)
    >>> z2g.lerp(x, end, 0.25).backward(); x.grad, end.grad
    (tensor(0.7500), tensor(0.2500))
    """
    if is_tensor(weight) and not weight.array.ndim:
        weight = weight.to(input)  # a number rather
    tensors = [input, end, weight] if isinstance(weight, Variable) else [input, end]
    kinds = [as_array(v, "lerp").dtype for v in tensors]
    if kinds[0].kind != "f" or len(set(kinds)) > 1:
        raise RuntimeError(f"lerp: expected tensors of one floating-point dtype, got {', '.join(map(str, kinds))}")
    same_device("lerp", *tensors)
    x, y = input.array, end.array
    check_broadcast(x.shape, y.shape, "lerp")
    w = weight.array if isinstance(weight, Variable) else number(weight, "lerp: weight")
    if isinstance(weight, Variable):
        check_broadcast(np.broadcast_shapes(x.shape, y.shape), w.shape, "lerp")
    d, number_given = y - x, not isinstance(weight, Variable)
    if number_given:
        z = x + d * w if -0.5 < w < 0.5 else y - d * (1 - w)
    else:
        xp = of(w)
        z = xp.where(xp.abs(w) < 0.5, x + d * w, y - d * (1 - w))
    return record(
        "lerp",
        laid_out(z, *(v for v in (x, y, w) if hasattr(v, "dtype"))),
        (input, lambda grad, w: grad * (1 - w), w if number_given else weight),
        (end, lambda grad, w: grad * w, w if number_given else weight),
        (weight, lambda grad, x, y: grad * (y - x), input, end),
    )


@widens(ops.pow)
def pow(input: Any, exponent: Any) -> Tensor:
    """z = xʸ.   ∂z/∂x = y xʸ⁻¹,  ∂z/∂y = xʸ ln x

    For y a number see `core.ops.pow`. At y = 0 the first is 0 for every x; at x = 0 and y ≥ 0 the second is taken as 0,
    its limit for y > 0.

    z = e^(y ln x), so dz = z (y / x dx + ln x dy), and z y / x = y xʸ⁻¹. At x = 2, y = 3: 3 · 4 and 8 ln 2.
    >>> x, y = z2g.tensor(2.0, requires_grad=True), z2g.tensor(3.0, requires_grad=True)
    >>> (x**y).backward(); x.grad, y.grad
    (tensor(12.), tensor(5.5452))
    """
    if is_tensor(input) and not isinstance(exponent, (Variable, np.ndarray)):
        return ops.pow(input, exponent)
    input, exponent, x, y = operands(input, exponent, "pow")
    base_is_number = not hasattr(x, "dtype")
    xp = of(y)
    if base_is_number:
        x = xp.full((), x, y.dtype)
        input = exponent.make(x)
    if y.dtype.kind in "iu" and (y < 0).any():
        raise RuntimeError("pow: integers to negative integer powers are not integers; convert to float first")
    z = computed(xp.power, x, y)

    def grad_x(grad: Any, x: Any, y: Any) -> Any:
        xp, power = of(grad), x ** (y - 1)
        return xp.where((y == 0) & ~xp.isfinite(power), 0, grad * (y * power))  # else 0 · ∞; where it is not, y counts

    def grad_y(grad: Any, x: Any, y: Any, z: Any) -> Any:
        xp = of(grad)
        return grad * xp.where((x == 0) & (y >= 0), 0, z * xp.log(x))

    return record(
        "pow",
        row_major(z) if base_is_number else z,
        (input, grad_x, input, exponent),
        (exponent, grad_y, input, exponent, RESULT),
    )


def rpow(input: Any, other: Any) -> Tensor:
    """z = yˣ: what Python calls for `2 ** x`.

    >>> x = z2g.tensor(3.0, requires_grad=True); (2**x).backward(); x.grad  # 8 ln 2
    tensor(5.5452)
    """
    return pow(other, input)


# --- Limits and choices ------------------------------------------------------------------------------------------


@silent
def clamp(input: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """z = x limited to [min, max], each a number, a tensor or None.   dz/dx = 1 where min ≤ x ≤ max, else 0

    Where a bound that is a tensor is the result, it receives the gradient. If min > max, z is max. NaN stays NaN, and
    receives nothing.

    Between the bounds z is x; beyond them z is the bound, whatever x does.
    >>> x = z2g.tensor([-3.0, 0.5, 2.0], requires_grad=True); x.clamp(-1, 1).sum().backward(); x.grad
    tensor([0., 1., 0.])
    """
    x = as_array(input, "clamp")
    if min is None and max is None:
        raise RuntimeError("clamp: got neither min nor max; give at least one")
    min, max = (b if b is None or isinstance(b, Variable) else number(b, "clamp: bound") for b in (min, max))
    for bound in (min, max, min):  # the first may have to follow the second
        if bound is not None:
            input = operands(input, bound, "clamp")[0]
    min, max = (None if b is None else operands(input, b, "clamp")[1] for b in (min, max))
    x, low, high = (v.array if isinstance(v, Variable) else v for v in (input, min, max))
    z, xp = x, of(x)
    if min is not None:
        z = xp.maximum(z, low)
    if max is not None:
        z = xp.minimum(z, high)

    def inside(grad: Any, x: Any, low: Any, high: Any) -> Any:
        if low is None or high is None:
            return of(grad).where(x <= high if low is None else x >= low, grad, 0)
        return of(grad).where((x >= low) & (x <= high), grad, 0)

    def below(grad: Any, x: Any, low: Any, high: Any) -> Any:
        return of(grad).where(x < low if high is None else (x < low) & (low < high), grad, 0)

    def above(grad: Any, x: Any, low: Any, high: Any) -> Any:
        return of(grad).where(x > high if low is None else (x > high) | (high < low), grad, 0)

    return record(
        "clamp",
        laid_out(z, *(v for v in (x, low, high) if hasattr(v, "dtype"))),
        (input, inside, input, min, max),
        (min, below, input, min, max),
        (max, above, input, min, max),
    )


def maximum(input: Any, other: Any) -> Tensor:
    """z = max(x, y).   ∂z/∂x = 1 where x > y, ½ where x = y;  ∂z/∂y likewise

    Only the larger one moves z. At a tie a step of x upwards moves z, one downwards does not: ½ is the mean.
    >>> x, y = z2g.tensor([1.0, 5.0, 2.0], requires_grad=True), z2g.tensor([3.0, 4.0, 2.0], requires_grad=True)
    >>> z2g.maximum(x, y).sum().backward(); x.grad, y.grad
    (tensor([0.0000, 1.0000, 0.5000]), tensor([1.0000, 0.0000, 0.5000]))
    """
    input, other, x, y = operands(input, other, "maximum")
    xp = _xp(x, y)
    return record(
        "maximum",
        computed(xp.maximum, x, y),
        (input, lambda grad, x, y: _share(grad, x < y, x == y), input, other),
        (other, lambda grad, x, y: _share(grad, y < x, x == y), input, other),
    )


def minimum(input: Any, other: Any) -> Tensor:
    """z = min(x, y).   ∂z/∂x = 1 where x < y, ½ where x = y;  ∂z/∂y likewise

    Only the smaller one moves z. At a tie a step of x downwards moves z, one upwards does not: ½ is the mean.
    >>> x, y = z2g.tensor([1.0, 5.0, 2.0], requires_grad=True), z2g.tensor([3.0, 4.0, 2.0], requires_grad=True)
    >>> z2g.minimum(x, y).sum().backward(); x.grad, y.grad
    (tensor([1.0000, 0.0000, 0.5000]), tensor([0.0000, 1.0000, 0.5000]))
    """
    input, other, x, y = operands(input, other, "minimum")
    xp = _xp(x, y)
    return record(
        "minimum",
        computed(xp.minimum, x, y),
        (input, lambda grad, x, y: _share(grad, x > y, x == y), input, other),
        (other, lambda grad, x, y: _share(grad, y > x, x == y), input, other),
    )


def _share(grad: Any, loses: Any, tie: Any) -> Any:
    """The rule of a choice: all of the gradient to the one that wins, half of it at a tie, exactly 0 if it loses. A NaN
    on either side is the result; then both receive all, as in torch."""
    xp = of(grad)
    return xp.where(loses, 0, xp.where(tie, 0.5 * grad, grad))


@overload
def where(condition: Tensor) -> tuple[Tensor, ...]: ...


@overload
def where(condition: Tensor, input: Any, other: Any) -> Tensor: ...


def where(condition: Tensor, input: Any = None, other: Any = None) -> Any:
    """z = x where the condition holds, else y.   The gradient goes to the chosen side; the other gets exactly 0.

    z = c x + (1 - c) y with c = 1 where the condition holds, else 0: ∂z/∂x = c,  ∂z/∂y = 1 - c. The rule chooses
    instead of multiplying, because 0 · inf is NaN. Of a condition alone: the places where it holds, see `nonzero`.
    >>> x, y = z2g.tensor([1.0, 2.0], requires_grad=True), z2g.tensor([3.0, 4.0], requires_grad=True)
    >>> z2g.where(z2g.tensor([True, False]), x, y).sum().backward(); x.grad, y.grad
    (tensor([1., 0.]), tensor([0., 1.]))
    """
    c = as_array(condition, "where")
    if input is None and other is None:
        return nonzero(condition, as_tuple=True)
    if c.dtype.kind != "b":
        raise RuntimeError(f"where: expected a bool condition, got {c.dtype}; compare it with something first")
    if not isinstance(input, Variable) and not isinstance(other, Variable):
        input, other = number(input, "where"), number(other, "where")
        default = dtypes.get_default_dtype() if isinstance(input, float) or isinstance(other, float) else None
        z = of(c).where(c, input, other)
        return constant(condition, z if default is None else z.astype(default))
    input, other, x, y = operands(input, other, "where")
    same_device("where", condition, *(v for v in (input, other) if isinstance(v, Variable) and v.array.ndim))
    for v in (x, y):
        check_broadcast(c.shape, getattr(v, "shape", ()), "where")
    xp = of(c)
    return record(
        "where",
        laid_out(xp.where(c, x, y), c, *(v for v in (x, y) if hasattr(v, "dtype"))),
        (input, lambda grad, c: of(grad).where(c, grad, 0), condition),
        (other, lambda grad, c: of(grad).where(c, 0, grad), condition),
    )


@widens(ops.masked_fill)
def masked_fill(input: Tensor, mask: Tensor, value: Any) -> Tensor:
    """z = value where the mask is True, else x; see `core.ops.masked_fill`. `value` is a number or a 0-d tensor, which
    receives the gradient where the mask is True.

    >>> x, v = z2g.tensor([1.0, 2.0], requires_grad=True), z2g.tensor(9.0, requires_grad=True)
    >>> x.masked_fill(z2g.tensor([True, False]), v).sum().backward(); x.grad, v.grad
    (tensor([0., 1.]), tensor(1.))
    """
    if not is_tensor(value) or not isinstance(mask, Variable) or mask.array.dtype.kind != "b":
        return ops.masked_fill(input, mask, value)
    if value.array.ndim:
        shape = tuple(value.array.shape)
        raise RuntimeError(f"masked_fill: value must be a number or a 0-d tensor, got shape {shape}; see where()")
    check_broadcast(as_array(input, "masked_fill").shape, mask.array.shape, "masked_fill")
    return where(mask, value.to(input.device, input.array.dtype), input)


# --- Comparisons and logic: results are bool, no gradient passes --------------------------------------------------


def comparison(name: str, symbol: str) -> Callable[[Any, Any], Tensor]:
    """The operation `symbol`, done by NumPy's function `name`: its result is bool, and no gradient passes."""

    def compare(input: Any, other: Any) -> Tensor:
        input, other, x, y = operands(input, other, name)
        z = computed(getattr(of(x if hasattr(x, "dtype") else y), name), x, y)
        return (input if isinstance(input, Variable) else other).make(z)

    compare.__name__ = compare.__qualname__ = symbol
    compare.__doc__ = f"z = ({name.replace('_', ' ')}: x, y), element by element, as bool. No gradient."
    return compare


eq, ne = comparison("equal", "eq"), comparison("not_equal", "ne")
lt, le = comparison("less", "lt"), comparison("less_equal", "le")
gt, ge = comparison("greater", "gt"), comparison("greater_equal", "ge")
logical_and = comparison("logical_and", "logical_and")
logical_or = comparison("logical_or", "logical_or")
bitwise_and = comparison("bitwise_and", "bitwise_and")
bitwise_or = comparison("bitwise_or", "bitwise_or")
bitwise_xor = comparison("bitwise_xor", "bitwise_xor")
bitwise_left_shift = comparison("left_shift", "bitwise_left_shift")
bitwise_right_shift = comparison("right_shift", "bitwise_right_shift")


def rlshift(input: Any, other: Any) -> Tensor:
    """z = y << x: what Python calls for `2 << x`."""
    return bitwise_left_shift(other, input)


def rrshift(input: Any, other: Any) -> Tensor:
    """z = y >> x: what Python calls for `8 >> x`."""
    return bitwise_right_shift(other, input)


def logical_not(input: Tensor) -> Tensor:
    """z = not x, as bool. No gradient."""
    return constant(input, of(as_array(input, "logical_not")).logical_not(input.array))


def bitwise_not(input: Tensor) -> Tensor:
    """z = ~x for bools and integers. No gradient."""
    if as_array(input, "bitwise_not").dtype.kind == "f":
        raise TypeError(f"bitwise_not: expected bool or integers, got {input.array.dtype}")
    return constant(input, ~input.array)


def isnan(input: Tensor) -> Tensor:
    """z = x is NaN, as bool. No gradient."""
    return constant(input, of(as_array(input, "isnan")).isnan(input.array))


def isfinite(input: Tensor) -> Tensor:
    """z = x is neither NaN nor infinite, as bool. No gradient."""
    return constant(input, of(as_array(input, "isfinite")).isfinite(input.array))


def isinf(input: Tensor) -> Tensor:
    """Whether each element is inf or -inf, as bool. No gradient."""
    return constant(input, of(as_array(input, "isinf")).isinf(input.array))


@silent
def isclose(input: Tensor, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Tensor:
    """Whether |x - y| ≤ atol + rtol |y|, element by element, as bool; the same infinity is close. No gradient."""
    input, other, a, b = operands(input, other, "isclose")
    xp, rtol, atol = of(a), number(rtol, "isclose: rtol"), number(atol, "isclose: atol")
    return constant(input, laid_out(xp.isclose(a, b, rtol, atol, equal_nan), a, b))


def allclose(input: Tensor, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    """Whether all elements are close; see `isclose`. A Python bool, for which a GPU has to be waited for."""
    return bool(isclose(input, other, rtol, atol, equal_nan).array.all())


def equal(input: Tensor, other: Tensor) -> bool:
    """Whether x and y have one shape and the same elements; nan equals nothing. A Python bool."""
    same_device("equal", input, other)
    return as_array(input, "equal").shape == as_array(other, "equal").shape and bool((input.array == other.array).all())


apply(globals())  # mixed precision, by the table in half/
