"""Writing into a tensor, under torch's rules.

A leaf that requires grad may only be changed under `no_grad` (an optimizer's step); otherwise its gradient would be
that of a number it no longer holds. Any other tensor may be: its history then ends in the operation that changed it.
Every write is counted in `version`, which is how backward notices that an array it needs is no longer what it was. It
knows nothing of what is written: any operation will do whose result fits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backend import Array
from ..engine import Variable, is_grad_enabled, needs_grad, source
from .common import as_array

if TYPE_CHECKING:
    from ..tensor import Tensor


def update(x: Tensor, name: str, op: Callable[..., Tensor], *args: Any, **settings: Any) -> Tensor:
    """x = op(x, *args), in place. Returns x.

    Raises RuntimeError if x may not be written, or if the result is larger than x or of a dtype that x cannot hold.

    >>> x = z2g.tensor([1.0, 2.0], requires_grad=True); y = 5 * x
    >>> y *= 2; y.sum().backward(); x.grad  # as if 2 * y had a new name
    tensor([10., 10.])
    """
    check_writable(x, name)
    old = x
    if is_grad_enabled() and any(needs_grad(arg) for arg in (x, *args)):
        source(x)  # refuses a stale history
        old = x.make(x.array.copy())  # rules may read the old values, which are about to be overwritten
        old.node, old._requires_grad = x.node, x.requires_grad
    z = op(old, *args, **settings)
    if z.array.shape != x.array.shape:
        raise RuntimeError(
            f"{name}: the result of shape {tuple(z.array.shape)} does not fit in place into {tuple(x.array.shape)}"
        )
    if "biuf".index(z.array.dtype.kind) > "biuf".index(x.array.dtype.kind):
        raise RuntimeError(
            f"{name}: result type {z.array.dtype} can't be cast to the tensor's {x.array.dtype} in place"
        )
    x.array[...] = z.array
    written(x, z)
    return x


def check_writable(x: Tensor, name: str) -> None:
    """Raise RuntimeError if x is (a view of) a leaf that requires grad, or shares elements with itself (expanded)."""
    array = as_array(x, name)
    if x.requires_grad and is_grad_enabled() and (x.node is None or x.family[1]):
        what = "a leaf Variable" if x.node is None else "a view of a leaf Variable"
        raise RuntimeError(
            f"{name}: {what} that requires grad is being used in an in-place operation; "
            "do it inside `with no_grad():`, or out of place"
        )
    if not array.flags.c_contiguous and any(n > 1 and s == 0 for n, s in zip(array.shape, array.strides, strict=True)):
        raise RuntimeError(
            f"{name}: several elements of this expanded tensor share one place in memory; clone() it first"
        )


def written(x: Tensor, z: Tensor) -> None:
    """Count a write to x, and give x the history of z, the result of the operation that overwrote it."""
    sound = x.recorded >= (x.version[0] if x.node is not None else x.family[0])  # a stale history stays stale
    x.version[0] += 1
    if z.requires_grad and x.array.dtype.kind == "f":
        if x.node is not None and x.node.kept_by is not None and x.node.kept_by() is x:
            z.node.kept_by, x.node.kept_by = x.node.kept_by, None  # retain_grad follows the tensor
        x.node = z.node
        x._requires_grad = True
        x.family[0] = x.version[0]
    if sound:
        x.recorded = max(x.recorded, x.version[0])


def written_back(x: Tensor, value: Any, place: Array) -> bool:
    """Whether `value` is a view of x that was just changed and is now assigned to `place`, where it came from.

    Python runs `y[0] += 1` as: take the view y[0], change it in place, assign it back to y. The change made y's
    history stale, but this assignment describes it completely.
    """
    return (
        isinstance(value, Variable)
        and value.family is x.family
        and value.recorded == x.version[0]
        and x.recorded == x.version[0] - 1
        and value.array.shape == place.shape
        and value.array.strides == place.strides
        and address(value.array) == address(place)
    )


def address(array: Array) -> int:
    """Where in memory an array begins."""
    return array.ctypes.data if isinstance(array, np.ndarray) else array.data.ptr
