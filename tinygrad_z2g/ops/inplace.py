"""Writing into a tensor, under torch's rules.

A leaf that requires grad may only be changed under `no_grad` (an optimizer's step); otherwise its gradient would be
that of a number it no longer holds. Any other tensor may be: its history then ends in the operation that changed it.
Every write is counted in `version`, which is how backward notices that an array it needs is no longer what it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..autograd import Variable, is_grad_enabled
from .common import as_array

if TYPE_CHECKING:
    from ..tensor import Tensor


def check_writable(x: Tensor, name: str, value: Any = None) -> None:
    """Raise RuntimeError if x is a leaf that requires grad, or shares elements with itself (an expanded tensor).

    `value` is what will be written. In `y[0] += 1` Python changes the view y[0] first and then assigns it back to y:
    that one assignment describes the change to y completely, so y's history is sound again.
    """
    array = as_array(x, name)
    if x.requires_grad and x.node is None and is_grad_enabled():
        raise RuntimeError(
            f"{name}: a leaf Variable that requires grad is being used in an in-place operation; "
            "do it inside `with no_grad():`, or out of place"
        )
    if not array.flags.c_contiguous and any(n > 1 and s == 0 for n, s in zip(array.shape, array.strides, strict=True)):
        raise RuntimeError(
            f"{name}: several elements of this expanded tensor share one place in memory; clone() it first"
        )
    if (
        isinstance(value, Variable)
        and value.version is x.version
        and value.recorded == x.version[0]
        and x.recorded == x.version[0] - 1
    ):
        x.recorded = x.version[0]


def rewritten(x: Tensor, z: Tensor) -> None:
    """Give x the history of z, the result of the operation that overwrites x."""
    if z.requires_grad:
        x.node = z.node
        x.requires_grad = True


def overwrite(x: Tensor, z: Tensor, name: str) -> Tensor:
    """x takes the values and the history of z, which was computed from it. Returns x.

    Raises RuntimeError if z is larger than x or of a dtype that x cannot hold.
    """
    check_writable(x, name)
    if z.array.shape != x.array.shape:
        raise RuntimeError(
            f"{name}: the result of shape {tuple(z.array.shape)} does not fit in place into {tuple(x.array.shape)}"
        )
    if "biuf".index(z.array.dtype.kind) > "biuf".index(x.array.dtype.kind):
        raise RuntimeError(
            f"{name}: result type {z.array.dtype} can't be cast to the tensor's {x.array.dtype} in place"
        )
    rewritten(x, z)
    x.array[...] = z.array
    x.version[0] += 1
    x.recorded = x.version[0]
    return x
