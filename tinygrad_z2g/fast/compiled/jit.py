"""How the loops of this folder are compiled, and how several threads share one.

A loop is a plain function over rows: `loop(start, stop, *arrays)` computes the rows start..stop-1. `over_rows` cuts
them into parts, which the caller and threads of its own work off side by side: compiled code does not hold Python's
lock. It knows nothing of what is computed.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import numpy as np
from numba import njit

_SETTINGS = {"nogil": True, "error_model": "numpy"}  # division by 0 gives inf or NaN, as NumPy's does


def _compiled(fastmath: set[str]) -> Callable[[Callable], Any]:
    def compile_it(function: Callable) -> Any:
        try:
            return njit(cache=True, fastmath=fastmath, **_SETTINGS)(function)
        except RuntimeError:  # no place to keep compiled code: compile in each process
            return njit(fastmath=fastmath, **_SETTINGS)(function)

    return compile_it


# "contract" lets a product and a sum become one instruction. Where a sum over a row must be computed in several parts
# at a time, "reassoc" allows that; it would also remove the rounding trick in `mathematics.exp`. No flag that assumes
# away NaN or infinity is ever set.
loop = _compiled({"contract"})
summing = _compiled({"contract", "reassoc", "nsz"})


@loop
def probe(x):
    """The smallest loop."""
    return x + 1


def cache_folder() -> str | None:
    """Where compiled code is kept; None if nowhere."""
    return probe.stats.cache_path


# --- Threads -----------------------------------------------------------------------------------------------------

SHARED = 2**16  # numbers of which a thread must get as many at least: waking it takes some 20 µs


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


_jobs: SimpleQueue = SimpleQueue()
_helpers: list[threading.Thread] = []


def _help(jobs: SimpleQueue) -> None:
    np.seterr(all="ignore")  # inf and NaN are results; what the caller set holds in its own thread alone
    while True:
        jobs.get().help()


def _forget() -> None:
    """After a fork only the thread that forked lives on."""
    global _jobs
    _jobs = SimpleQueue()
    _helpers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def together(function: Callable, parts: list[tuple], most: int = 1000) -> None:
    """function(*part) for each part, by as many threads as there are parts, at `most` so many, this one included."""
    n = min(len(parts), most)
    if n <= 1:
        for part in parts:
            function(*part)
        return
    while len(_helpers) < n - 1:
        _helpers.append(threading.Thread(target=_help, args=[_jobs], name="tinygrad_z2g loops", daemon=True))
        _helpers[-1].start()
    job = Job(function, parts)
    for _ in range(n - 1):
        _jobs.put(job)
    job.finish()


def cuts(rows: int, numbers: int, multiple: int = 1) -> list[tuple[int, int]]:
    """0..rows in as many parts as threads may share `numbers`, all but the last a `multiple`."""
    n = max(1, min(threads(), numbers // SHARED, rows // multiple)) if numbers >= 2 * SHARED else 1
    at = [rows * i // n // multiple * multiple for i in range(n)]
    return list(zip(at, [*at[1:], rows], strict=True))


def over_rows(function: Callable, rows: int, numbers: int, *args: Any) -> None:
    """function(0, rows, *args), in parts where there are `numbers` enough to share."""
    if numbers < 2 * SHARED:
        function(0, rows, *args)
    else:
        together(function, [(start, stop, *args) for start, stop in cuts(rows, numbers)])


# --- OpenBLAS ----------------------------------------------------------------------------------------------------


def _openblas(what: str) -> Any:
    """The function of that name in the OpenBLAS that NumPy uses; None where it uses another library."""
    try:
        library = ctypes.CDLL(sys.modules["numpy._core._multiarray_umath"].__file__)
        for name in (f"scipy_openblas_{what}64_", f"scipy_openblas_{what}", f"openblas_{what}64_", f"openblas_{what}"):
            if hasattr(library, name):
                return getattr(library, name)
    except (OSError, KeyError, TypeError):
        pass
    return None


blas_threads, set_blas_threads = _openblas("get_num_threads"), _openblas("set_num_threads")


def threads() -> int:
    """As many as OpenBLAS would take, so that what limits it (`set_num_threads`, OMP_NUM_THREADS) limits loops too."""
    return _processors() if blas_threads is None else blas_threads()


@functools.cache
def _processors() -> int:
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdecimal() and int(wanted):
        return int(wanted)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
