"""More switches: `enable_grad`, `inference_mode`, `set_grad_enabled`; and decorated functions that are generators."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from ..core.attach import attach
from ..core.modes import Switch, enable_grad, grad_mode, is_grad_enabled, no_grad

__all__ = ["enable_grad", "inference_mode", "is_grad_enabled", "no_grad", "set_grad_enabled"]
_F = TypeVar("_F", bound=Callable[..., Any])


class set_grad_enabled:
    """Switch recording on or off: as a statement, as a context (`with`), which restores, or as a decorator."""

    def __init__(self, mode: bool):
        self._mode = bool(mode)
        self._outer = [grad_mode.enabled]
        grad_mode.enabled = self._mode

    def __enter__(self) -> None:
        grad_mode.enabled = self._mode

    def __exit__(self, *exc_info: object) -> None:
        grad_mode.enabled = self._outer[-1]

    def __call__(self, function: _F) -> _F:
        grad_mode.enabled = self._outer[-1]  # decorating must not switch the mode of the code around it
        return _decorate(function, self._mode)


class SwitchMethods:
    """How a switch decorates: `@no_grad` without parentheses works like `@no_grad()`."""

    _inside: bool

    def __new__(cls, function: Callable | None = None) -> Any:
        return object.__new__(cls) if function is None else _decorate(function, cls._inside)

    def __call__(self, function: _F) -> _F:
        return _decorate(function, self._inside)


attach(Switch, SwitchMethods)


class inference_mode(Switch):
    """The same as `no_grad` here: there is nothing further to save. `inference_mode(False)` records."""

    _inside = False

    def __new__(cls, mode: bool | Callable = True) -> Any:
        if callable(mode):
            return _decorate(mode, cls._inside)
        return object.__new__(cls) if mode else enable_grad()

    def __init__(self, mode: bool = True):
        super().__init__()


def _decorate(function: _F, enabled: bool) -> _F:
    """`function` run with recording on or off. A generator gets its mode in each step, its caller keeps its own."""
    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def generator(*args: Any, **kwargs: Any) -> Iterator:
            steps = function(*args, **kwargs)
            send, value = steps.send, None
            while True:
                outer, grad_mode.enabled = grad_mode.enabled, enabled
                try:
                    item = send(value)
                except StopIteration as stop:
                    return stop.value
                finally:
                    grad_mode.enabled = outer
                try:
                    value = yield item
                    send = steps.send
                except BaseException as error:  # GeneratorExit too: clean-up runs in the generator's own mode
                    send, value = steps.throw, error

        return generator  # type: ignore[return-value]  # of the same signature

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        outer = grad_mode.enabled
        try:  # before the mode changes, so that Ctrl-C at any moment restores it
            grad_mode.enabled = enabled
            return function(*args, **kwargs)
        finally:
            grad_mode.enabled = outer

    return wrapper  # type: ignore[return-value]  # of the same signature
