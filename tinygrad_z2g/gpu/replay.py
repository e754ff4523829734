"""What a captured training step leaves to the host: the numbers that differ from step to step.

A CUDA graph repeats its kernels with the arguments they were given when it was captured. The key of a dropout mask, the
learning rate, Adam's corrections for its t-th step would stay what they were then. So, while a step is captured, a
kernel is handed no such number but a *place* in the card's memory, and what computed the number is remembered. Before
each launch it is asked again, in the same order, by the same host code as ever: the numbers are those of ordinary steps
to the last bit, and the host's own state (steps counted, masks handed out) moves on as it would have.

See `cuda.compile_step` for what is captured.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any

import numpy as np

from ..arrays.backend import Array
from ..core import engine

PLACES = 4096  # 8 bytes each


class Recording:
    """One step, watched: first in ordinary calls, which show who takes part in it, then while it is captured.

    `capturing` tells the two apart; `replays` counts the launches after the first. `optimizers` are those that stepped,
    `captured` those whose step is part of the capture. `leaves` are weak references to those that got a gradient, with
    the one they had before: a leaf that is made inside the step dies with it.
    """

    def __init__(self, xp: ModuleType):
        self.optimizers: list[Any] = []
        self.captured: list[Any] = []
        self.leaves: dict[Callable[[], Any], Any] = {}
        self.capturing = False
        self.replays = 0
        self.values = np.zeros(PLACES, np.uint64)
        self.places = xp.zeros(PLACES, np.uint64)
        self.used = 0
        self._work: list[Callable[[], object]] = []
        self._undo: list[Callable[[], object]] = []

    def place(self, compute: Callable[[], Any], dtype: Any) -> Array:
        """Where the card will find what `compute` says before each launch: a number, or a list of numbers, of dtype."""
        value = np.asarray(compute(), dtype)
        start, stop = self.used, self.used - (-value.nbytes // 8)  # whole places
        if stop > PLACES:
            raise RuntimeError(f"a captured step may have {PLACES} numbers that change from step to step, got more")
        self.used = stop
        inside = self.values[start:stop].view(dtype)[: value.size].reshape(value.shape)
        inside[...] = value

        def again() -> None:
            inside[...] = compute()

        self._work.append(again)
        return self.places[start:stop].view(dtype)[: value.size].reshape(value.shape)

    def add(self, work: Callable[[], object], undo: Callable[[], object]) -> None:
        """Do `work` before every later launch; `undo` takes back what the capture itself did, should it fail."""
        self._work.append(work)
        self._undo.append(undo)

    def renew(self) -> None:
        """All of the host's work for the next launch."""
        self.replays += 1
        for work in self._work:
            work()

    def undo(self) -> None:
        """As if the capture had not been tried."""
        for undo in reversed(self._undo):
            undo()


active = 0  # threads that are in a watched step. Ordinary steps look at this number alone, which takes 0.02 µs
_counting = threading.Lock()


class _State(threading.local):
    recording: Recording | None = None


_state = _State()


@contextlib.contextmanager
def watched(recording: Recording) -> Iterator[None]:
    """Inside, `recording` is told what happens."""
    if _state.recording is not None:
        raise RuntimeError("a compiled step cannot be called inside another one")
    global active
    _state.recording = recording
    with _counting:  # two threads may read the same number before either adds to it
        active += 1
        engine.deposit = _noted_deposit
    try:
        yield
    finally:
        _state.recording = None
        with _counting:
            active -= 1
            if not active:
                engine.deposit = _deposit


_deposit = engine.deposit


def _noted_deposit(grads: Iterable[tuple[Any, Any]], shared: set[int]) -> None:
    """As the engine's, and the recording of this thread hears of each leaf that gets a gradient."""
    grads = list(grads)
    if _state.recording is not None:
        for x, _ in grads:
            if x.node is None:
                _state.recording.leaves.setdefault(weakref.ref(x), x._grad)
    _deposit(grads, shared)


def recording() -> Recording | None:
    """The recording of the step that this thread is in, if there is one."""
    return _state.recording


def capturing() -> bool:
    """Whether what this thread launches is being captured and not done."""
    return _state.recording is not None and _state.recording.capturing


def number(compute: Callable[[], Any], dtype: Any) -> Any:
    """What `compute` says; in a capture its place on the card, of dtype, where each replay finds it anew."""
    recording = _state.recording
    return recording.place(compute, dtype) if recording is not None and recording.capturing else compute()


def again(work: Callable[[], object], undo: Callable[[], object]) -> None:
    """Do `work`, and if this is a capture, do it before every later launch too. See `Recording.add`."""
    work()
    if _state.recording is not None and _state.recording.capturing:
        _state.recording.add(work, undo)
