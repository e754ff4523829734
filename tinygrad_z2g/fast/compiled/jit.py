"""How several threads share one loop.

`over_rows` cuts the rows of a loop into parts, which the caller and threads of its own work off side by side; compiled
code does not hold Python's lock, and how a part changes hands without it is `sharing`'s business. Python functions that
call NumPy are shared by `together`.
"""

from __future__ import annotations

import ctypes
import functools
import os
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import numpy as np

from ...arrays import blas
from . import sharing
from .compiling import called, loop, summing

__all__ = ["called", "cuts", "loop", "over_rows", "summing", "threads", "together"]

# --- Threads -----------------------------------------------------------------------------------------------------

SHARED = 2**13  # numbers of which a thread must get as many at least


class Job:
    """Parts of a piece of work, taken by whoever comes: the caller, and each thread that has nothing else to do.

    So a caller never waits for a thread that is busy elsewhere: it does all parts itself, also where several threads,
    or a part of another job, ask for help at once.
    """

    def __init__(self, function: Callable, parts: list[tuple]):
        self._function, self._left = function, deque(parts)
        self._came: list[None] = []  # an entry for each helper that came, and for each that went
        self._went: list[BaseException | None] = []  # with the error that made it go
        self._news: SimpleQueue = SimpleQueue()

    def _work(self) -> None:
        while self._left:
            try:
                part = self._left.popleft()
            except IndexError:  # another was quicker
                return
            self._function(*part)

    def help(self) -> None:
        """Take parts until none is left. Raises nothing."""
        self._came.append(None)  # before any part is taken
        error = None
        try:
            self._work()
        except BaseException as raised:  # handed to the caller
            error = raised
        self._went.append(error)
        self._news.put(None)

    def finish(self) -> None:
        """Take parts until none is left, and wait for the helpers: also after an error, as they use the arrays."""
        interrupted = None
        try:
            self._work()
        finally:
            self._left.clear()
            while len(self._went) < len(self._came):
                try:
                    self._news.get()
                except KeyboardInterrupt as error:
                    interrupted = error
        for met in (interrupted, *self._went):
            if met is not None:
                raise met


_jobs: SimpleQueue = SimpleQueue()  # for helpers: Jobs, or None, which only wakes one
_helpers: list[threading.Thread] = []
_shared: dict[Any, Any] = {}  # by loop


def _help(jobs: SimpleQueue, board: Board) -> None:
    blas.never_share()
    np.seterr(all="ignore")  # inf and NaN are results; what the caller set holds in its own thread alone
    while True:
        sharing.serve(board.address, sharing.PATIENCE)
        job = jobs.get()
        if job is not None:
            sharing.post(board.address, -1)
            job.help()


def _forget() -> None:
    """After a fork only the thread that forked lives on."""
    global _jobs, _board
    _jobs, _board = SimpleQueue(), Board()
    _helpers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _hire(n: int) -> None:
    """Have n helpers."""
    while len(_helpers) < n:
        args = [_jobs, _board]
        _helpers.append(threading.Thread(target=_help, args=args, name="tinygrad_z2g loops", daemon=True))
        _helpers[-1].start()


def together(function: Callable, parts: list[tuple], most: int = 1000) -> None:
    """function(*part) for each part, by as many threads as there are parts, at `most` so many, this one included."""
    n = min(len(parts), most)
    if n <= 1:
        for part in parts:
            function(*part)
        return
    _hire(n - 1)
    job = Job(function, parts)
    sharing.post(_board.address, n - 1)
    for _ in range(n - 1):
        _jobs.put(job)
    job.finish()


def cuts(rows: int, numbers: int, multiple: int = 1) -> list[tuple[int, int]]:
    """0..rows in as many parts as threads may share `numbers`, all but the last a `multiple`."""
    n = parts(rows, numbers, multiple)
    at = [rows * i // n // multiple * multiple for i in range(n)]
    return list(zip(at, [*at[1:], rows], strict=True))


def parts(rows: int, numbers: int, multiple: int = 1) -> int:
    """How many threads may share `numbers`, cut by rows at a `multiple`."""
    return max(1, min(threads(), numbers // SHARED, rows // multiple)) if numbers >= 2 * SHARED else 1


def over_rows(function: Any, rows: int, numbers: int, *args: Any, multiple: int = 1) -> None:
    """function(0, rows, *args), in parts where there are `numbers` enough to share."""
    n = parts(rows, numbers, multiple)
    if n > 1 and _board.numbers[sharing.AWAKE] < n - 1:
        _wake(n - 1)
    run = _shared.get(function)
    if run is None:
        run = _shared[function] = sharing.shared(function)
    run(_board.address, rows, n, multiple, *args)


def _wake(n: int) -> None:
    """Let n helpers look, without waiting until they do."""
    _hire(n)
    for _ in range(n - int(_board.numbers[sharing.AWAKE]) - _jobs.qsize()):
        _jobs.put(None)


# --- How many ----------------------------------------------------------------------------------------------------


def address(function: Any) -> int:
    """Where a C function is; 0 for None."""
    return (ctypes.cast(function, ctypes.c_void_p).value or 0) if function is not None else 0


def threads() -> int:
    """As many as OpenBLAS may take, so that what limits it (`set_num_threads`, OMP_NUM_THREADS) limits loops too. One
    where this thread is `alone`: who shares work there asks before."""
    if not blas.shares():
        return 1
    n = blas.threads()
    return _processors() if n is None else n


@functools.cache
def _processors() -> int:
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdecimal() and int(wanted):
        return int(wanted)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _let_others_run() -> Any:
    """The system's function for that."""
    try:
        return ctypes.CDLL(None).sched_yield if os.name == "posix" else ctypes.WinDLL("kernel32").SwitchToThread  # type: ignore[attr-defined]
    except (OSError, AttributeError):
        return None


class Board:
    """That of `sharing`, its numbers and their address."""

    def __init__(self) -> None:
        self.numbers = board = np.zeros(sharing.SIZE, np.int64)
        self.address = board.ctypes.data
        board[sharing.GET_BLAS], board[sharing.SET_BLAS] = address(blas.get_threads), address(blas.set_threads)
        board[sharing.YIELD] = address(_let_others_run())


_board = Board()
