"""The history of a view whose base was rewritten: that of the base, seen at the place of the view.

`ops/inplace.py` gives the base its new history; here a view gets its own from there, when it is next asked for it. It
knows nothing of what was written.
"""

from __future__ import annotations

from typing import Any

from ..arrays.backend import Array
from ..arrays.views import Spot
from ..core.engine import Node, Rule, Variable, observers, record, source
from .asking import follow


def renew(x: Variable) -> None:
    """Give the view `x` the history that its numbers have now: that of its base, seen at the place of the view.

    RuntimeError if it can have none: a view made under no_grad or by a Function, or a leaf of its own right, whose
    base was rewritten since; or one whose base is somewhere else by now.
    """
    base: Any = x.base  # of a view
    if x.rewrites == ~base.rewrites:
        return
    spot = Spot(base.array, x.array)
    if x.rewrites < 0 or (x.node is None and x._requires_grad) or not spot.inside:
        raise RuntimeError(
            f"this tensor of shape {tuple(x.array.shape)} was modified by an inplace operation on another tensor that "
            "shares its memory (a view, or the tensor it is a view of), and its history cannot follow: it is a leaf, "
            "or was made under no_grad or by a Function; take the view again after the change, or change a clone()"
        )
    old, x.node = x.node, Node("as_strided", x.array, [(source(base), _seen_through(spot), ())], None, [])
    x._requires_grad = True
    x.rewrites = base.rewrites
    follow(x, old)
    for observer in observers:
        observer.computed("as_strided", x.array, [base])
        observer.recorded(x.node)


def _seen_through(spot: Spot, back: bool = True) -> Rule:
    """The rule of a view: its gradient at its place, 0 elsewhere; and the rule of that: what stands at the place."""

    def moved(grad: Array) -> Array:
        return spot.spread(grad) if back else spot.both(grad)[1]

    def rule(grad: Any) -> Any:
        if isinstance(grad, Variable):
            return record("as_strided", moved(grad.array), (grad, _seen_through(spot, not back)))
        return moved(grad)

    return rule

