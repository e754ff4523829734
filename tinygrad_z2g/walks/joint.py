"""Operations whose inputs share their backward work, one rule for all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..arrays.backend import Array
from ..core.engine import Node, Variable, end, observers, read
from ..core.modes import grad_mode

if TYPE_CHECKING:
    from ..tensor import Tensor


def record_joint(name: str, array: Array, inputs: tuple, rule: Callable, *reads: Any) -> Tensor:
    """As `record`, for an operation whose inputs share their backward work.

    The one `rule` returns a tuple with a gradient per input; None where it was not needed.
    """
    first, *_ = [x for x in inputs if isinstance(x, Variable)]  # a list: a Ctrl-C while a generator ends is lost
    result = first.make(array)
    for observer in observers:
        observer.computed(name, result.array, inputs)
    ends = [end(x) if isinstance(x, Variable) else None for x in inputs] if grad_mode.enabled else []
    edges = [None if way is None else (way, None, ()) for way in ends]
    if any(edges):
        noted: list = []
        numbers = [read(x, result, noted) for x in reads]
        result.node, result._requires_grad = Node(name, result.array, edges, (rule, numbers), noted), True
        for observer in observers:
            observer.recorded(result.node)
    return result
