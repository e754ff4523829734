"""Faster forms of operations of `core.ops`, of the same name, signature and meaning; FORMS is the list.

Each takes the routines of this package in place of a few operations on arrays, checks its arguments by the same
functions, and is tested against the plain form. Where its rule is no composition that can be differentiated again, the
plain operation is its twin. `TINYGRAD_Z2G_PLAIN=1` in the environment takes none of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import fast
from ..arrays.backend import of, quiet, silent
from ..arrays.layout import copied, laid_out, row_major
from ..core import engine, ops
from ..core.engine import RESULT, Variable, record
from ..core.operands import as_array, floating, operands
from ..core.ops import elementwise
from ..walks.again import record_fused

if TYPE_CHECKING:
    from ..tensor import Tensor


# --- Elementwise -------------------------------------------------------------------------------------------------


def pow(input: Any, exponent: Any) -> Tensor:
    """Small powers as products: NumPy's `x**3` is 30 times slower than `x * x * x`."""
    if not isinstance(input, Variable) or isinstance(exponent, Variable) or hasattr(exponent, "dtype"):
        return elementwise.pow(input, exponent)
    input, exponent, x, y = operands(input, exponent, "pow")
    if x.dtype.kind in "iu" and y < 0:
        raise RuntimeError(f"pow: integers to the power {y} are not integers; convert to float first")
    z = quiet.run(_power, x, y)
    if y == 0:
        return record("pow", z, (input, lambda grad: of(grad).zeros_like(grad)))
    return record(
        "pow", copied(x) if z is x else z, (input, lambda grad, x, y: grad * (y * _power(x, y - 1)), input, y)
    )


def _power(x: Any, n: float) -> Any:
    if n == 2:
        return x * x
    if n == 1:
        return x
    if n == 3:
        return x * x * x
    return of(x).sqrt(x) if n == 0.5 else x**n


def relu(input: Tensor) -> Tensor:
    """A gradient that is infinite gives NaN left of 0, as ∞ · 0 does; choosing by np.where, which gives torch's 0,
    takes 10 times as long, masking its bits 1.4 to 1.8 times."""
    x = as_array(input, "relu")
    if x.dtype.kind == "b":
        raise RuntimeError("relu: got a bool tensor, expected numbers; convert it with .int()")
    z = quiet.run(fast.relu, x)
    return record("relu", z, (input, lambda grad, z: fast.relu_backward(grad, z), RESULT))


@silent
def gelu(input: Tensor, approximate: str = "tanh") -> Tensor:
    """One pass, which computes the slope with z and keeps it for backward."""
    elementwise.check_approximate(approximate)
    a = floating(input, "gelu")
    z, slope = (out.reshape(a.shape) for out in fast.gelu_tanh(a.reshape(a.shape or (1,))))
    return record_fused(
        "gelu",
        laid_out(z, a),
        (input, lambda grad, slope, _: fast.times(grad, slope), slope, input),
        twin=(elementwise.gelu, input),
    )


def masked_fill(input: Tensor, mask: Tensor, value: Any) -> Tensor:
    """One pass in place of `where`."""
    x, m, value = elementwise.fillable(input, mask, value)
    z = quiet.run(fast.fill, x, m, value)
    return record("masked_fill", row_major(z), (input, lambda grad, m: fast.fill(grad, m, 0), mask))


# --- The list ----------------------------------------------------------------------------------------------------

FORMS: dict[str, Callable] = {
    "gelu": gelu,
    "masked_fill": masked_fill,
    "pow": pow,
    "relu": relu,
}


def install() -> bool:
    """Put the forms into `core.ops`, with the text of what they replace, unless the environment declines."""
    if os.environ.get("TINYGRAD_Z2G_PLAIN") == "1":
        return False
    for name, form in FORMS.items():
        form.__doc__ = getattr(ops, name).__doc__
        setattr(ops, name, form)
    engine.total = fast.total  # long sums, exact to the dtype's rounding
    return True
