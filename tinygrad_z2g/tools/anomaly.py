"""Finding the operation that made the first NaN, forward or backward. Off by default: looking costs time.

A NaN spreads: one in the loss makes every gradient NaN, and the place where it shows is not where it arose. With
`set_detect_anomaly(True)` every operation looks at its result and every rule at its gradient, and the first that turns
numbers into NaN raises, naming itself and the line of the program that called it. It covers the operations that were
called while it was on. It is handed names, arrays and rules, and knows nothing of tensors, of single operations or of
the walk.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from ..arrays.backend import Array
from ..core.engine import Part, Variable
from .trace import Observer, here, observing


class Search(Observer):
    """Looks for NaN, and tells of each where it was made."""

    def __init__(self, tell: Callable[[str], None]):
        self._tell = tell

    def computed(self, name: str, array: Array, inputs: Iterable[Any]) -> None:
        """Tell if `array` holds NaN though no input did."""
        if _has_nan(array) and not any(_has_nan(x.array) for x in inputs if hasattr(x, "array")):
            self._tell(f"'{name}' made nan in its result of shape {tuple(array.shape)}, called {here()}")

    def recorded(self, node: Any) -> None:
        """Let each rule tell if it makes NaN out of a gradient without any."""
        watch = self._watching(node.name, node.shape)
        if node.joint is not None:
            rule, numbers = node.joint
            node.joint = watch(rule), numbers
        else:
            node.edges = [(target, watch(rule), numbers) for target, rule, numbers in node.edges]

    def _watching(self, name: str, shape: tuple) -> Callable[[Callable], Callable]:
        place = here()

        def check(grad: Array, part: Array | None) -> None:
            if part is not None and _has_nan(part) and not _has_nan(grad):
                self._tell(
                    f"the gradient rule of '{name}' (output shape {tuple(shape)}) made nan; the operation was called "
                    f"{place}"
                )

        def watch(rule: Callable) -> Callable:
            @functools.wraps(rule)
            def watching(grad: Any, *numbers: Any) -> Any:
                result = rule(grad, *numbers)
                for part in result if isinstance(result, (tuple, list)) else [result]:
                    check(*(x.array if isinstance(x, (Part, Variable)) else x for x in (grad, part)))
                return result

            return watching

        return watch


def _refuse(message: str) -> NoReturn:
    raise RuntimeError(f"anomaly: {message}")


class set_detect_anomaly(observing):
    """Look for NaN from now on, or no more: as a statement, or as a context (`with`), which restores."""

    observer = Search(_refuse)

    def __init__(self, mode: bool, check_nan: bool = True):
        super().__init__(bool(mode) and check_nan)


class detect_anomaly(set_detect_anomaly):
    """`with detect_anomaly(): ...` looks for NaN inside."""

    def __init__(self, check_nan: bool = True):
        super().__init__(True, check_nan)


def _has_nan(array: Array) -> bool:
    return array.dtype.kind == "f" and bool((array != array).any())
