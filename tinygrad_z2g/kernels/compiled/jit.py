"""How the loops of this folder are compiled, and how two threads share one.

A loop is a plain function over rows: `loop(start, stop, *arrays)` computes the rows start..stop-1. `over_rows` gives the
first half of them to the caller and the second half to a thread of its own; both run at once because compiled code does
not hold Python's lock. It knows nothing of what is computed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

from numba import njit

_SETTINGS = {"nogil": True, "error_model": "numpy"}  # division by 0 gives inf or NaN, as NumPy's does


def _compiled(fastmath: set[str]) -> Callable[[Callable], Any]:
    def compile_it(function: Callable) -> Any:
        try:
            return njit(cache=True, fastmath=fastmath, **_SETTINGS)(function)
        except RuntimeError:  # no place to keep compiled code: compile in each process
            return njit(fastmath=fastmath, **_SETTINGS)(function)

    return compile_it


# "contract" lets a product and a sum become one instruction. Where a sum over a row must be computed in several parts at a
# time, "reassoc" allows that; it would also remove the rounding trick in `mathematics.exp`. No flag that assumes away
# NaN or infinity is ever set.
loop = _compiled({"contract"})
summing = _compiled({"contract", "reassoc", "nsz"})

SHARED = 2**18  # numbers from which a second thread pays: handing work over takes some 20 µs


class _Helper:
    """The second thread. One caller at a time; others, in threads of their own, do all of their rows themselves."""

    def __init__(self) -> None:
        self._busy = threading.Lock()
        self._forget()

    def _forget(self) -> None:
        """After a fork only the forking thread lives on: start anew."""
        self._process = os.getpid()
        self._given, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self._thread: threading.Thread | None = None
        self._work: tuple[Callable, tuple] | None = None
        self._error: BaseException | None = None

    def _serve(self) -> None:
        given, done = self._given, self._done
        while True:
            given.acquire()
            function, args = self._work
            try:
                function(*args)
            except BaseException as error:  # handed back to the caller
                self._error = error
            done.release()

    def share(self, function: Callable, rows: int, args: tuple) -> bool:
        """Run `function` over all rows by two threads. False, with nothing done, if the helper is busy."""
        if not self._busy.acquire(blocking=False):
            return False
        try:
            if self._process != os.getpid():
                self._forget()
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="tinygrad_z2g loops", daemon=True)
                self._thread.start()
            middle = rows // 2
            self._work = function, (middle, rows, *args)
            self._given.release()
            try:
                function(0, middle, *args)
            finally:
                self._done.acquire()  # whatever happened here, the arrays are in use until then
            error, self._error, self._work = self._error, None, None
            if error is not None:
                raise error
            return True
        finally:
            self._busy.release()


_helper = _Helper()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _replace())


def _replace() -> None:
    global _helper
    _helper = _Helper()


threads = min(2, os.cpu_count() or 1)


def over_rows(function: Callable, rows: int, numbers: int, *args: Any) -> None:
    """function(0, rows, *args), by two threads where there are `numbers` enough and a core is free for it."""
    if numbers < SHARED or rows < 2 or threads < 2 or not _helper.share(function, rows, args):
        function(0, rows, *args)
