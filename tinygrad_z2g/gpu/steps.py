"""What a watched or captured step does otherwise, put on from outside: the optimizer's step, its update, the schedule's
step and the keys of dropout masks. See `cuda.compile_step` and `replay`.

While a compiled step runs, the functions of the table `INSTEAD` stand in place of those that they are named after, for
all threads; a thread that is in no such step gets the ordinary one. Outside of compiled steps nothing here is asked.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..arrays.random import Generator
from ..fast import updates
from ..optim import SGD, Adam, Optimizer
from ..optim.lr_scheduler import LRScheduler
from ..tensor import Tensor
from ..walks.modes import enable_grad
from . import replay
from .replay import Recording


def step(ordinary: Callable, self: Any, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
    """An optimizer's step, of which the recording is told just before the update."""
    recording = replay.recording()
    if recording is None:
        return ordinary(self, closure)
    loss = None
    if closure is not None:
        with enable_grad():
            loss = closure()
    take_part(self, recording)
    ordinary(self)
    return loss


def adam(ordinary: Callable, self: Any, params: list[Tensor], group: dict[str, Any]) -> None:
    """Its learning rate is a function, which a replay asks anew; so is what depends on the step's number."""
    if not replay.capturing():
        return ordinary(self, params, group)
    _check_remembered(self, params)
    return updates.adam(self, params, {**group, "lr": lambda: group["lr"]})


def sgd(ordinary: Callable, self: Any, params: list[Tensor], group: dict[str, Any]) -> None:
    """Its learning rate lies in a place on the card."""
    if not replay.capturing():
        return ordinary(self, params, group)
    if group["momentum"]:
        _check_remembered(self, params)
    for p in params:
        updates.sgd(self, [p], {**group, "lr": replay.number(lambda: group["lr"], p.dtype)})
    return None


def schedule(ordinary: Callable, self: Any) -> None:
    """The step of a schedule, which every replay does too."""
    before: list[float] = []  # a captured step that fails sets them back

    def go() -> None:
        before[:] = [group["lr"] for group in self.optimizer.param_groups]
        ordinary(self)

    def undo() -> None:
        self.last_epoch -= 1
        self._set(before)

    replay.again(go, undo)


def next_key(ordinary: Callable, self: Generator) -> Any:
    """The key of a mask, which every replay draws anew."""
    return replay.number(lambda: ordinary(self), np.uint32)


INSTEAD: dict[tuple[type, str], Callable] = {
    (Optimizer, "step"): step,
    (Adam, "_update"): adam,
    (SGD, "_update"): sgd,
    (LRScheduler, "step"): schedule,
    (Generator, "next_key"): next_key,
}
_ordinary: dict[tuple[type, str], Callable | None] = {}  # those that stand back meanwhile
_changing = threading.RLock()
_inside = 0  # threads that are in a watched step


@contextlib.contextmanager
def watched(recording: Recording) -> Iterator[None]:
    """Inside, `recording` is told what happens, and the functions of the table do it."""
    global _inside
    with replay.watched(recording):
        with _changing:
            _inside += 1
            if _inside == 1:
                for (owner, name), instead in INSTEAD.items():
                    _ordinary[owner, name] = vars(owner).get(name)
                    setattr(owner, name, _method(instead, getattr(owner, name)))
        try:
            yield
        finally:
            with _changing:
                _inside -= 1
                if _inside == 0:
                    for (owner, name), function in _ordinary.items():
                        if function is None:  # it was that of the class above
                            delattr(owner, name)
                        else:
                            setattr(owner, name, function)


def _method(instead: Callable, ordinary: Callable) -> Callable:
    @functools.wraps(ordinary)
    def method(self: Any, *args: Any) -> Any:
        return instead(ordinary, self, *args)

    return method


# --- Optimizers that take part -----------------------------------------------------------------------------------


def take_part(optimizer: Any, recording: Recording) -> None:
    """Tell the recording of a step that this optimizer is about to update."""
    name = type(optimizer).__name__
    if optimizer not in recording.optimizers:
        recording.optimizers.append(optimizer)
    if not recording.capturing:
        return
    if type(optimizer)._update not in (Adam._update, SGD._update):
        raise NotImplementedError(
            f"{name}: a captured step would repeat its learning rate and counts as they are now; "
            "Adam, AdamW and SGD can be captured"
        )
    if optimizer in recording.captured:
        raise NotImplementedError(f"{name}: a captured step may step each optimizer once")
    recording.captured.append(optimizer)
    params = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    counting = [state for p in params if "step" in (state := optimizer.state.get(p, {}))]
    before = [state["step"] for state in counting]

    def count() -> None:  # what the update does on the host
        for p in params:
            p.memory.writes += 1
        for state in counting:
            state["step"] += 1

    def undo() -> None:
        for state, number in zip(counting, before, strict=True):
            state["step"] = number

    recording.add(count, undo)


def _check_remembered(optimizer: Any, params: list[Tensor]) -> None:
    for p in params:
        if optimizer.remembers.keys() - optimizer.state.get(p, {}).keys():
            raise RuntimeError(
                f"optimizer: a parameter of shape {tuple(p.shape)} has its first gradient while its step is being "
                "captured; every parameter that gets one must get it in the calls before, too"
            )


def fixed(optimizer: Any, replays: int) -> tuple[list[Any], list[Any]]:
    """What a captured step relies on: the arrays, each to be the very same, and the rest, to be equal."""
    params = [p for group in optimizer.param_groups for p in group["params"]]
    states = [optimizer.state.get(p, {}) for p in params]
    arrays = [p.array for p in params]
    arrays += [x for state in states for x in state.values() if not isinstance(x, (int, float))]
    free = ("params", "lr", "initial_lr")
    settings = [{k: v for k, v in group.items() if k not in free} for group in optimizer.param_groups]
    steps = [state["step"] - replays for state in states if "step" in state]
    return arrays, [*settings, [p.requires_grad for p in params], steps]
