"""How many threads OpenBLAS takes for NumPy's products: what the user wants, or one where a second would only wait.

OpenBLAS's second thread waits for its next product by spinning, and the first spins until the second has done its
part. Where another program wants a core, either may wait for some milliseconds, product by product: with two busy cores
a token of a small GPT took 31 ms in place of 3. So a row of small products runs within `few`, on one thread.

The number belongs to the process: while one Python thread is inside, products of the others have one thread, too.
Another library than OpenBLAS is left to itself. What the products are for is not known here.

Of a number that others set meanwhile (threadpoolctl's limits, in another Python thread) nobody is told here: a limit of
one is not seen, and ends when the last has left; what it puts back at its end is the one thread that it found.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
from typing import Any

# From LEAST to MOST multiplications in a product, with so many weights at most, one thread is enough. With less,
# OpenBLAS takes one by itself. Seconds of one thread by those of two, on an idle machine and with four programs beside
# it: a GPT's token, batch x width 16 x 96: 1.07 and 0.09; 16 x 128: 1.16 and 0.23; 32 x 128: 1.22 and 0.25. Beyond:
# 4 x 256 (more weights): 1.4 and 0.07.
LEAST, MOST, WEIGHTS = 2**16, 2**21, 2**16


def openblas(what: str) -> Any:
    """The function of that name in the OpenBLAS that NumPy uses; None where it uses another library."""
    try:
        library = ctypes.CDLL(sys.modules["numpy._core._multiarray_umath"].__file__)
        for suffix in ("64_", ""):  # counts with 64 bits, or with 32
            for prefix in ("scipy_openblas_", "openblas_"):
                if hasattr(library, f"{prefix}{what}{suffix}"):
                    return getattr(library, f"{prefix}{what}{suffix}")
    except (OSError, KeyError, TypeError):
        pass
    return None


get_threads, set_threads = openblas("get_num_threads"), openblas("set_num_threads")

_lock = threading.RLock()  # so that a signal's handler may compute, too
_inside: set[int] = set()  # the ids of the `alone` that are in use
_wanted = 1  # the user's number, while some are


class _Local(threading.local):
    def __init__(self) -> None:
        self.inside: set[int] = set()


_local = _Local()  # of those, the ones of this Python thread


def threads() -> int | None:
    """How many threads the user lets OpenBLAS have, whoever is inside of `alone`; None for another library."""
    if get_threads is None:
        return None
    n = get_threads()
    if n > 1:
        return n
    with _lock:  # else the last could leave after this has seen his one thread, and before it sees that he is inside
        n = get_threads()
        return _wanted if n == 1 and _inside else n


def shares() -> bool:
    """Whether loops that this Python thread calls may be shared with others: not inside of `alone`."""
    return not _local.inside


def never_share() -> None:
    """For a thread that helps others."""
    _local.inside.add(0)


class alone:
    """`with alone():` OpenBLAS takes one thread, and so do the loops of this Python thread, but for what is handed to
    others on purpose. Several Python threads may be inside at a time, each as deep as it likes: the first in sets
    the number to one, and the last out to what the user wants. It costs 2 µs.

    An interrupt may strike within `__exit__` itself, before it does anything; then `__del__` leaves.
    """

    _is_in = False

    def __enter__(self) -> None:
        global _wanted
        if set_threads is None:
            return
        with _lock:
            n = get_threads()
            if n > 1:
                _wanted = n
            elif not _inside:  # the user's own wish
                return
            self._is_in, self._of_thread = True, _local.inside
            _inside.add(id(self))
            self._of_thread.add(id(self))
            set_threads(1)

    def __exit__(self, *exc_info: object) -> None:
        if self._is_in:
            self._leave()

    __del__ = __exit__

    def _leave(self) -> None:
        with _lock:
            _inside.discard(id(self))
            self._of_thread.discard(id(self))
            if not _inside and get_threads() == 1:  # else the user has set it meanwhile
                set_threads(_wanted)
            self._is_in = False


_as_ever = contextlib.nullcontext()


def few(rows: int, weights: int) -> contextlib.AbstractContextManager[None]:
    """`with few(rows, weights):` around a row of products, of which the largest multiplies so many rows of numbers by a
    matrix of so many weights: on one thread, if they are small."""
    return alone() if LEAST < rows * weights <= MOST and weights <= WEIGHTS else _as_ever


def set_num_threads(n: int) -> None:
    """Let matrix products and compiled loops on the CPU use n threads.

    ImportError without threadpoolctl: then set OMP_NUM_THREADS before Python starts. ValueError unless n >= 1. Results
    do not depend on n beyond rounding. Call it while no other Python thread computes: a loop that several threads share
    puts the number before back at its end.
    """
    global _wanted
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ValueError(f"set_num_threads: got {n!r}, expected an int >= 1")
    try:
        import threadpoolctl
    except ImportError as error:
        hint = "pip install threadpoolctl, or set OMP_NUM_THREADS before Python starts"
        raise ImportError(f"set_num_threads: needs the threadpoolctl package: {hint}") from error
    with _lock:
        threadpoolctl.threadpool_limits(limits=n, user_api="blas")
        if _inside:
            _wanted = n
            set_threads(1)


def get_num_threads() -> int:
    """How many threads matrix products may use: what was set, what the environment says, or the number of cores. (A
    library that is not OpenBLAS is asked by way of threadpoolctl, if that is installed.)"""
    n = threads()
    if n is not None:
        return n
    try:
        import threadpoolctl

        found = [part["num_threads"] for part in threadpoolctl.threadpool_info() if part["user_api"] == "blas"]
    except ImportError:
        found = []
    return max(found, default=int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))


def _forget() -> None:
    """After a fork only the thread that forked lives on; the others, whoever was inside, never leave."""
    if _inside:
        _inside.clear()
        set_threads(_wanted)
    _lock.release()


if hasattr(os, "register_at_fork"):  # a child must not inherit the lock from a thread that it has not
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_forget)
