"""Looking on while operations are recorded: who looks, and at which line of the program the operation was called.

The engine tests one list per operation, `observers`; it is empty unless somebody asked to look, so a training step pays
for that test alone. Anomaly detection puts an observer there (`anomaly.py`), and so does `trace`, which notes where in
the program each operation was called, for `explain` to tell.
"""

from __future__ import annotations

import linecache
import os
import sys
import weakref
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple

from ..core.engine import observers

PACKAGE = str(Path(__file__).parent.parent) + os.sep


class Observer:
    """Someone who looks at every operation."""

    def computed(self, name: str, array: Any, inputs: Iterable[Any]) -> None:
        """The operation `name` made `array` out of `inputs`, whether it will be recorded or not."""

    def recorded(self, node: Any) -> None:
        """It was recorded as `node`, whose rules may be replaced."""


class observing:
    """Let `observer` look from now on, or no more: as a statement, or as a context (`with`), which restores."""

    observer: Observer

    def __init__(self, mode: bool = True):
        self._outer = self.observer in observers
        self._set(bool(mode))

    def _set(self, mode: bool) -> None:
        if self.observer in observers:
            observers.remove(self.observer)
        if mode:
            observers.append(self.observer)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc_info: object) -> None:
        self._set(self._outer)


class Site(NamedTuple):
    """Where an operation was called: a place in the program, outside this package, and the module that was running."""

    code: CodeType
    instruction: int
    line: int
    module: weakref.ref | None  # weak: a graph must not keep a model alive

    def __str__(self) -> str:
        return f"in {self.code.co_filename}, line {self.line}: {self.source}"

    @property
    def source(self) -> str:
        """The line itself, empty where it cannot be read (typed at a prompt, before Python 3.13)."""
        return linecache.getline(self.code.co_filename, self.line).strip()

    @property
    def marked(self) -> str:
        """The line with the very expression marked, `h = (‹x @ w› + b).tanh()`, where Python knows it (from 3.11)."""
        if not hasattr(self.code, "co_positions"):
            return self.source
        line = linecache.getline(self.code.co_filename, self.line)
        first, last, start, end = next(islice(self.code.co_positions(), self.instruction // 2, None))
        if not line or first != last or start is None:
            return line.strip()
        text = line.encode()  # columns count bytes
        before, inside, after = (part.decode() for part in (text[:start], text[start:end], text[end:]))
        return f"{before}‹{inside}›{after}".strip() if before.strip() or after.strip() else inside


def here() -> Site:
    """The innermost line of the program that is not in this package."""
    frame = sys._getframe()
    module = None
    while frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE):
        module = module or _module(frame)
        frame = frame.f_back
    place, outer = frame, frame.f_back
    while module is None and outer is not None:
        module, outer = _module(outer), outer.f_back
    return Site(place.f_code, place.f_lasti, place.f_lineno, module)


def _module(frame: Any) -> weakref.ref | None:
    """The module whose forward this frame runs: what is called as `module(x)` passes through Module.__call__."""
    called = frame.f_code.co_name == "__call__" and frame.f_code.co_filename.endswith(os.sep + "module.py")
    return weakref.ref(frame.f_locals["self"]) if called else None


class _Noting(Observer):
    def recorded(self, node: Any) -> None:
        node.site = here()


class trace(observing):
    """Note for each operation the line of the program that calls it: `with trace(): loss = ...`, then `loss.explain()`.

    Also as a statement: `trace()` from now on, `trace(False)` no more. It takes some microseconds per operation.
    `trace(x)` of a matrix is what torch means by the word: `x.trace()`, the sum of its diagonal.
    """

    observer = _Noting()

    def __new__(cls, mode: Any = True) -> Any:
        return mode.trace() if hasattr(mode, "trace") else super().__new__(cls)
