"""Whether operations are recorded, for each thread. This file knows nothing of what is recorded."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any, TypeVar

_F = TypeVar("_F", bound=Callable[..., Any])


class _Mode(threading.local):
    enabled = True  # each thread starts with recording on


grad_mode = _Mode()  # `grad_mode.enabled` is what `record` asks


def is_grad_enabled() -> bool:
    """Whether operations are being recorded in this thread."""
    return grad_mode.enabled


class Switch:
    """A context and decorator that sets the mode inside and restores it after, also when nested or reused."""

    _inside: bool

    def __init__(self) -> None:
        self._outer: dict[int, list[bool]] = {}  # of each thread, for one object may serve several at once

    def __enter__(self) -> None:
        self._outer.setdefault(threading.get_ident(), []).append(grad_mode.enabled)
        grad_mode.enabled = self._inside

    def __exit__(self, *exc_info: object) -> None:
        grad_mode.enabled = self._outer[threading.get_ident()].pop()

    def __call__(self, function: _F) -> _F:
        @functools.wraps(function)
        def inside(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        return inside  # type: ignore[return-value]  # of the same signature


class no_grad(Switch):
    """Record nothing inside: `with no_grad(): ...` or `@no_grad()`. Saves the graph's memory and time."""

    _inside = False


class enable_grad(Switch):
    """Record again inside a `no_grad` block."""

    _inside = True
