"""Finding the operation that made the first NaN, forward or backward. Off by default: looking costs time.

A NaN spreads: one in the loss makes every gradient NaN, and the place where it shows is not where it arose. With
`set_detect_anomaly(True)` every operation looks at its result and every rule at its gradient, and the first that turns
numbers into NaN raises, naming itself and the line of the program that called it. It covers the operations that were
called while it was on. It is handed names, arrays and rules, and knows nothing of tensors, of single operations or of
the walk.
"""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from .backend import Array

PACKAGE = str(Path(__file__).parent)

enabled = False


class set_detect_anomaly:
    """Look for NaN from now on, or no more: as a statement, or as a context (`with`), which restores."""

    def __init__(self, mode: bool, check_nan: bool = True):
        global enabled
        self._outer = enabled
        enabled = bool(mode) and check_nan

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc_info: object) -> None:
        global enabled
        enabled = self._outer


class detect_anomaly(set_detect_anomaly):
    """`with detect_anomaly(): ...` looks for NaN inside."""

    def __init__(self, check_nan: bool = True):
        super().__init__(True, check_nan)


def check_result(name: str, array: Array, inputs: Iterable[Any]) -> None:
    """Raise RuntimeError if `array` holds NaN though no input did."""
    if _has_nan(array) and not any(_has_nan(x.array) for x in inputs if hasattr(x, "array")):
        raise RuntimeError(f"anomaly: '{name}' made nan in its result of shape {tuple(array.shape)}, called {here()}")


def watched(name: str, array: Array, edges: list, joint: Callable | None) -> tuple[list, Callable | None]:
    """The rules of an operation, each of which raises RuntimeError if it makes NaN out of a gradient without any."""
    place = here()

    def check(grad: Array, part: Array | None) -> None:
        if part is not None and _has_nan(part) and not _has_nan(grad):
            raise RuntimeError(
                f"anomaly: the gradient rule of '{name}' (output shape {tuple(array.shape)}) made nan; the operation "
                f"was called {place}"
            )

    def watch(rule: Callable) -> Callable:
        def watching(grad: Array) -> Any:
            result = rule(grad)
            for part in result if isinstance(result, (tuple, list)) else [result]:
                check(grad, part)
            return result

        return watching

    if joint is not None:
        return edges, watch(joint)
    return [(target, watch(rule)) for target, rule in edges], None


def _has_nan(array: Array) -> bool:
    return array.dtype.kind == "f" and bool((array != array).any())


def here() -> str:
    """The innermost line of the program that is not in this package: `in train.py, line 12: y = x.log()`."""
    frame = sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE):
        frame = frame.f_back
    path, line = frame.f_code.co_filename, frame.f_lineno
    return f"in {path}, line {line}: {linecache.getline(path, line).strip()}"
