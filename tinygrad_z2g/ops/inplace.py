"""Writing into a tensor, under torch's rules.

A leaf that requires grad may only be changed under `no_grad` (an optimizer's step); otherwise its gradient would be
that of a number it no longer holds. Any other tensor may be: its history then ends in the operation that changed it.
What is written through a view changes the tensor that it is a view of, whose history then says: there what was written,
elsewhere what stood there before. All its views, the one written through too, get their history from there when they
are next asked for it (`walks/views.py`).

Every write is counted in `version`, which is how backward notices that an array it needs is no longer what it was. This
file knows nothing of what is written: any operation will do whose result fits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..arrays.backend import Array
from ..arrays.views import Spot, overlaps, same_place
from ..core.engine import Variable, needs_grad, record, unchanged
from ..core.modes import is_grad_enabled
from ..walks.asking import follow
from ..walks.joint import record_joint
from ..walks.views import renew
from .common import as_array, linear_rule

if TYPE_CHECKING:
    from ..tensor import Tensor

Variable.renew = renew  # type: ignore[method-assign, assignment]  # nothing in the core writes to a view


def update(x: Tensor, name: str, op: Callable[..., Tensor], *args: Any, **settings: Any) -> Tensor:
    """x = op(x, *args), in place. Returns x.

    Raises RuntimeError if x may not be written, or if the result is larger than x or of a dtype that x cannot hold.

    >>> x = z2g.tensor([1.0, 2.0], requires_grad=True); y = 5 * x
    >>> y *= 2; y.sum().backward(); x.grad  # as if 2 * y had a new name
    tensor([10., 10.])
    >>> x = z2g.tensor([1.0, 2.0], requires_grad=True); y = 5 * x
    >>> _ = y[0].mul_(2); y.sum().backward(); x.grad  # through a view
    tensor([10.,  5.])
    """
    values = (*args, *settings.values())
    old = x
    if is_recorded(x, name, as_array(x, name), values):
        old = x.make(x.array.copy())  # rules may read the old values, which are about to be overwritten
        old.node, old._requires_grad = x.node, x._requires_grad
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
    x.memory.writes += 1
    if not z._requires_grad or x.array.dtype.kind != "f":
        return x
    if x.base is None:
        if z.array.dtype != x.array.dtype:
            z = record("to", x.array, (z, unchanged))  # what arrives is of x's dtype, as its numbers are
        take_up(x, z)
        return x
    base, spot = x.base, Spot(x.base.array, x.array)

    def rule(grad: Array) -> tuple[Array, Array]:
        """For the old numbers of the whole: 0 where x stands. For those written there: what stands there."""
        whole, part = spot.both(grad)
        taken = part.copy()
        part[...] = 0
        return whole, taken

    def whole(grad: Array) -> Array:
        return rule(grad)[0]

    def part(grad: Array) -> Array:
        return rule(grad)[1]

    def joint(grad: Any) -> tuple[Any, Any]:
        if not isinstance(grad, Variable):
            return rule(grad)
        return linear_rule("copy_slices", whole, whole)(grad), linear_rule("copy_slices", part, spot.spread)(grad)

    take_up(base, record_joint("copy_slices", base.array, (base, z), joint))
    return x


def is_recorded(x: Tensor, name: str, place: Array, values: tuple) -> bool:
    """Whether writing `values` to `place`, x's array or a part of it, becomes part of the history.

    Raises RuntimeError if it must not be written: if x is (a view of) a leaf that requires grad, a view whose base
    could not take up the history, or if `place` shares elements with itself (expanded).
    """
    if overlaps(place):
        raise RuntimeError(
            f"{name}: several elements of this expanded tensor share one place in memory; clone() it first"
        )
    if not is_grad_enabled():
        return False
    base = x if x.base is None else x.base
    wanted = needs_grad(x) or base._requires_grad
    leaf = x.node is None and x._requires_grad
    if leaf or (wanted and base.node is None):
        what = "a leaf Variable" if leaf else "a view of a leaf Variable"
        raise RuntimeError(
            f"{name}: {what} that requires grad is being used in an in-place operation; "
            "do it inside `with no_grad():`, or out of place"
        )
    if not wanted and not (x.array.dtype.kind == "f" and any(map(needs_grad, values))):
        return False
    if x.rewrites < 0:
        raise RuntimeError(
            f"{name}: this view was made under no_grad, or returned by a Function, and the tensor that it is a view of "
            "cannot take up what is written; make the view where gradients are recorded, or write under no_grad too"
        )
    if overlaps(base.array) or not (base is x or Spot(base.array, x.array).inside):
        raise RuntimeError(
            f"{name}: the tensor that this is a view of is expanded, or has another array by now, so it cannot take up "
            "what is written; clone() it first"
        )
    return True


def take_up(base: Variable, z: Variable) -> None:
    """Give `base`, which is no view, the history of z, the operation that overwrote it; its views follow."""
    old, base.node = base.node, z.node
    base._requires_grad = True
    base.rewrites += 1
    follow(base, old)


def is_part_itself(x: Tensor, value: Any, place: Array) -> bool:
    """Whether `value` is just that part of x, so that writing it there changes nothing.

    Python runs `y[0] += 1` as: take the view y[0], change it in place, assign it back to y.
    """
    return (
        isinstance(value, Variable)
        and value.base is not None
        and value.base is (x if x.base is None else x.base)
        and value.rewrites >= 0
        and same_place(value.array, place)
    )
