"""What the fake CuPy does with streams, memory pools and CUDA graphs.

While a stream captures, nothing is computed: each operation is remembered, with the memory that it reads and writes and
the numbers it was given, its result is filled with NaN, and `graph.launch()` does all of them in order, into the same
memory. So a number that the host baked in stays what it was, and an array that is read from the host is garbage.

What CuPy (14.2.0: stream.pyx, cublas.pyx, core.pyx) or CUDA refuses in a capture is refused here: to wait for the card,
cuBLAS and cuRAND through CuPy, data from pageable memory. In two places the fake is stricter: where CuPy would
record a copy from a buffer that it then reuses, and where memory of the graph could be given to others, FakeError.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np


class _State(threading.local):
    def __init__(self) -> None:
        self.streams: list[Stream] = []
        self.allocators: list[Any] = []


_state = _State()


class MemoryPool:
    """`cupy.cuda.MemoryPool`: only whether memory belongs to it, and whether it was asked to give back what is free."""

    def __init__(self, allocator: Callable | None = None):
        self.allocator, self.limit, self.freed = allocator, None, 0

    def set_limit(self, size: int) -> None:
        self.limit = size

    def free_all_blocks(self) -> None:
        self.freed += 1

    def malloc(self, size: int) -> Any:
        raise fakecupy.NotInFakeError("MemoryPool.malloc: the fake takes all memory from NumPy")


_default = MemoryPool()


class Memory:
    """`cupy.cuda.Memory` of a card that is full."""

    def __init__(self, size: int):
        raise fakecupy.CUDARuntimeError(2)


class using_allocator:
    """`with cupy.cuda.using_allocator(pool.malloc):`"""

    def __init__(self, allocator: Callable):
        self._allocator = allocator

    def __enter__(self) -> None:
        _state.allocators.append(self._allocator)

    def __exit__(self, *_: Any) -> None:
        _state.allocators.pop()


class PinnedMemoryPool(MemoryPool):
    """Host memory from which CuPy sends data."""

    def malloc(self, size: int) -> Any:
        if capturing():
            raise fakecupy.FakeError("a graph would send host data from a buffer that CuPy then fills with other data")
        return None


_default_pinned = PinnedMemoryPool()
_pinned: list[Callable] = [_default_pinned.malloc]


def set_pinned_memory_allocator(allocator: Callable | None = None) -> None:
    """Host data that are sent ask this for a buffer first."""
    _pinned[0] = allocator or _default_pinned.malloc


class Graph:
    """`cupy.cuda.Graph`: what was captured."""

    def __init__(self, calls: list[Callable[[], object]], pool: MemoryPool, kept: list[Any]):
        self._calls, self._pool, self._kept = calls, weakref.ref(pool), kept

    def launch(self, stream: Any = None) -> None:
        if capturing():
            raise fakecupy.NotInFakeError("Graph.launch in a capture")
        if self._pool() is None:
            raise fakecupy.FakeError("the pool that the graph's memory is from is gone")
        fakecupy.launches.count += 1
        with np.errstate(all="ignore"):
            for call in self._calls:
                call()


class Stream:
    """`cupy.cuda.Stream`: all work is done at once, in order; what counts is whether it is capturing."""

    null: Stream

    def __init__(self, null: bool = False, non_blocking: bool = False):
        self.ptr = 0 if null else id(self)
        self._calls: list[Callable[[], object]] | None = None
        self._broken = False

    def __enter__(self) -> Stream:
        _state.streams.append(self)
        return self

    def __exit__(self, *_: Any) -> None:
        _state.streams.pop()

    def synchronize(self) -> None:
        fakecupy.synchronisations.count += 1

    def is_capturing(self) -> bool:
        return self._calls is not None

    def begin_capture(self, mode: Any = None) -> None:
        if self.ptr == 0:
            raise RuntimeError("cannot capture on the default (legacy) stream")
        if self._calls is not None or current() is not self:
            raise fakecupy.NotInFakeError("begin_capture: twice, or on a stream that is not the current one")
        self._calls, self._broken, self._kept = [], False, []

    def end_capture(self) -> Graph:
        calls, self._calls = self._calls, None
        if self._broken:
            raise fakecupy.CUDARuntimeError(901)
        return Graph(calls, _pool(), self._kept)


Stream.null = Stream(null=True)


def current(device_id: int = -1) -> Stream:
    """`cupy.cuda.get_current_stream()`"""
    return _state.streams[-1] if _state.streams else Stream.null


def capturing() -> bool:
    """Whether what is launched now is recorded."""
    return current()._calls is not None


def _pool() -> MemoryPool:
    if not _state.allocators:
        raise fakecupy.FakeError("memory of the default pool in a capture: it may be given to others meanwhile")
    return _state.allocators[-1].__self__


def record(call: Callable[[], object], *memory: Any) -> None:
    """Remember a call for the launches. `memory` stays allocated, as the pool's does."""
    current()._calls.append(call)
    current()._kept.extend(memory)


def recorded(function: Callable, args: tuple, kwargs: dict) -> Any:
    """In a capture: a result of the right shape, full of NaN, which each launch computes into. Views are themselves."""
    result = function(*args, **kwargs)
    parts = result if isinstance(result, (tuple, list)) else [result]
    used = list(fakecupy._arrays([args, kwargs], np.ndarray))
    fresh = [np.asarray(part) for part in parts if isinstance(part, (np.ndarray, np.generic))]
    if all(any(np.may_share_memory(part, x) for x in used) for part in fresh):
        return result
    _pool()

    def again() -> None:
        now = function(*args, **kwargs)
        for place, part in zip(fresh, now if isinstance(now, (tuple, list)) else [now], strict=True):
            place[...] = part

    record(again, *fresh, *used)
    for place in fresh:
        spoil(place)
    return type(result)(fresh) if isinstance(result, (tuple, list)) else fresh[0]


def spoil(a: np.ndarray) -> None:
    """Fill fresh memory: NaN, or a number that no index should be."""
    a[...] = np.nan if a.dtype.kind in "fc" else a.dtype.kind == "b" or 77


def written(call: Callable[[], object], *memory: Any) -> None:
    """Do `call`, which writes to memory, or in a capture remember it."""
    if capturing():
        record(call, *memory)
    else:
        call()


def no_waiting() -> None:
    """What CUDA says to a host that waits for a capturing stream; the capture is lost."""
    if capturing():
        current()._broken = True
        raise fakecupy.CUDARuntimeError(900)


def no_library(name: str) -> None:
    """What CuPy says to its own cuBLAS (and cuRAND) in a capture."""
    if capturing():
        raise NotImplementedError(f"calling {name} API during stream capture is currently unsupported")


def upload(nbytes: int) -> None:
    """Host data are about to be sent."""
    _pinned[0](nbytes)


import fakecupy  # noqa: E402  (which needs what stands above)
