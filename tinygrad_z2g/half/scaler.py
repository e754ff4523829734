"""Mixed precision: `autocast` chooses the types, `GradScaler` keeps small gradients from vanishing in float16.

    scaler = amp.GradScaler()
    for x, y in batches:
        optimizer.zero_grad()
        with amp.autocast("cuda"):
            loss = F.cross_entropy(model(x), y)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)                        # only if something looks at the gradients, as clipping does
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()

It knows nothing of layers and losses: a number to multiply by, and the gradients of an optimizer's parameters.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from .. import fast
from ..arrays import dtypes
from ..arrays.backend import Array, Device, device_of
from ..gpu.replay import capturing
from ..optim import Optimizer
from ..tensor import Tensor
from .precision import autocast

__all__ = ["GradScaler", "autocast"]

LARGEST = float(np.finfo(np.float32).max)


class _Seen(NamedTuple):
    """What was done with an optimizer since the last `update`: its gradients divided, its step taken or skipped."""

    found: list[Array]  # one 0-d array per device: whether there was an inf or NaN
    stepped: bool
    skipped: bool


class GradScaler:
    """Multiplies the loss by a large `scale`, so that gradients stay above 6e-8, the smallest number of float16.

    The chain rule multiplies every gradient by the same number; `unscale_`, or else `step`, divides by it in float32.
    The scale is found by trying: where a gradient is inf or NaN, the step is skipped and the scale is multiplied by
    `backoff_factor`; after `growth_interval` sound steps in a row it is multiplied by `growth_factor`.

    `step` waits for the GPU once per device, to learn whether to step: as often as torch's. Nothing else here waits,
    but `update` after `unscale_` without `step`. The scale itself is a number of the host. With `enabled=False`
    everything passes through unchanged. `device` is torch's argument; the gradients say where they are.
    ValueError for factors that do not grow or shrink.
    """

    def __init__(
        self, device: str = "cuda", init_scale: float = 2.0**16, growth_factor: float = 2.0,
        backoff_factor: float = 0.5, growth_interval: int = 2000, enabled: bool = True,
    ):  # fmt: skip
        Device(device)  # raises for what is none
        if not growth_factor > 1:
            raise ValueError(f"GradScaler: growth_factor must be > 1.0, got {growth_factor}")
        if not 0 < backoff_factor < 1:
            raise ValueError(f"GradScaler: backoff_factor must be between 0 and 1, got {backoff_factor}")
        if not init_scale > 0:
            raise ValueError(f"GradScaler: init_scale must be positive, got {init_scale}")
        self._enabled = bool(enabled)
        self._scale, self._growth_tracker = float(init_scale), 0
        self._growth_factor, self._backoff_factor = float(growth_factor), float(backoff_factor)
        self._growth_interval = growth_interval
        self._seen: dict[int, _Seen] = {}  # by id of the optimizer, until `update`

    def scale(self, outputs: Tensor | list | tuple) -> Any:
        """A tensor, or the tensors of a list or tuple, times the scale."""
        if not self._enabled:
            return outputs
        _not_captured()
        if isinstance(outputs, Tensor):
            # A half loss would be inf after a scale of 65,536
            return (outputs.float() if outputs.dtype == dtypes.float16 else outputs) * self._scale
        if isinstance(outputs, (list, tuple)):
            return type(outputs)(self.scale(x) for x in outputs)
        raise TypeError(f"GradScaler.scale: expected a Tensor or a list or tuple of them, got {type(outputs).__name__}")

    def unscale_(self, optimizer: Optimizer) -> None:
        """Divide the gradients of the optimizer's parameters by the scale, in place, and note whether all are finite.

        Once between two updates, before `step`; RuntimeError otherwise. ValueError for gradients in float16: the
        parameters themselves must be float32.
        """
        if not self._enabled:
            return
        seen = self._seen.get(id(optimizer))
        if seen is not None:
            done = "step() was" if seen.stepped else "unscale_() has already been"
            raise RuntimeError(f"GradScaler.unscale_: {done} called on this optimizer since the last update()")
        self._seen[id(optimizer)] = _Seen(self._unscaled(optimizer), False, False)

    def _unscaled(self, optimizer: Optimizer) -> list[Array]:
        _not_captured()
        params = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        homes: dict[Device, list[Array]] = {}
        for p in params:
            if p.grad.dtype == dtypes.float16:
                raise ValueError(
                    "GradScaler.unscale_: attempting to unscale float16 gradients; keep the parameters in float32 "
                    "and let autocast choose the types, instead of model.half()"
                )
            homes.setdefault(device_of(p.grad.array), []).append(p.grad.array)
        found = [fast.unscale(arrays, 1 / self._scale) for arrays in homes.values()]
        for p in params:
            p.grad.memory.writes += 1
        return found

    def step(self, optimizer: Optimizer, *args: Any, **kwargs: Any) -> Any:
        """`optimizer.step()`, unless a gradient is inf or NaN. Divides the gradients first if `unscale_` did not.

        Returns what `optimizer.step` does, or None. RuntimeError for a closure, for a second call before `update`,
        and if no parameter has a gradient.
        """
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        if args or kwargs:
            raise RuntimeError("GradScaler.step: a closure is not supported when the scaler is enabled")
        seen = self._seen.get(id(optimizer))
        if seen is not None and seen.stepped:
            raise RuntimeError("GradScaler.step: step() has already been called since the last update()")
        found = self._unscaled(optimizer) if seen is None else seen.found
        if not found:
            raise RuntimeError("GradScaler.step: no parameter of this optimizer has a gradient; call backward() first")
        skipped = any(flag.item() for flag in found)  # the one place that waits for the GPU
        self._seen[id(optimizer)] = _Seen(found, True, skipped)
        return None if skipped else optimizer.step()

    def update(self, new_scale: float | Tensor | None = None) -> None:
        """Choose the next scale, at the end of a step: smaller after an inf or NaN, larger after a long time without.

        `new_scale`, a number or a tensor of one element, sets it instead. RuntimeError if no gradients were looked at.
        """
        if not self._enabled:
            return
        if new_scale is not None:
            self._scale = float(new_scale.item() if isinstance(new_scale, Tensor) else new_scale)
        elif not any(seen.found for seen in self._seen.values()):
            raise RuntimeError("GradScaler.update: no gradients were checked; call step(optimizer) before update()")
        elif any(s.skipped if s.stepped else any(flag.item() for flag in s.found) for s in self._seen.values()):
            self._scale, self._growth_tracker = self._scale * self._backoff_factor, 0
        else:
            self._growth_tracker += 1
            if self._growth_tracker == self._growth_interval:
                grown = self._scale * self._growth_factor
                self._scale = grown if grown <= LARGEST else self._scale
                self._growth_tracker = 0
        self._seen = {}

    def get_scale(self) -> float:
        """The scale; 1.0 if disabled."""
        return self._scale if self._enabled else 1.0

    def is_enabled(self) -> bool:
        """Whether the scaler does anything."""
        return self._enabled

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` takes; empty if disabled."""
        if not self._enabled:
            return {}
        return {
            "scale": self._scale, "growth_factor": self._growth_factor, "backoff_factor": self._backoff_factor,
            "growth_interval": self._growth_interval, "_growth_tracker": self._growth_tracker,
        }  # fmt: skip

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a saved state. With nothing changed: RuntimeError for that of a disabled scaler, and KeyError,
        ValueError or TypeError for what is none.
        """
        if not self._enabled:
            return
        if not state_dict:
            raise RuntimeError("GradScaler.load_state_dict: the state is empty, as that of a disabled GradScaler is")
        values = []
        for key, example in self.state_dict().items():
            if key not in state_dict:
                raise KeyError(f"GradScaler.load_state_dict: the state has no '{key}'")
            value, kind = state_dict[key], type(example)
            if isinstance(value, bool) or not isinstance(value, (int, kind)):
                raise TypeError(f"GradScaler.load_state_dict: '{key}' is {value!r}, expected {kind.__name__}")
            if not 0 <= value < math.inf:
                raise ValueError(f"GradScaler.load_state_dict: '{key}' is {value!r}, expected a finite number >= 0")
            values.append(kind(value))
        scale, growth, backoff, interval, tracker = values
        GradScaler("cpu", scale, growth, backoff, interval)  # raises for factors that do not grow or shrink
        self._scale, self._growth_factor, self._backoff_factor = scale, growth, backoff
        self._growth_interval, self._growth_tracker = interval, tracker


def _not_captured() -> None:
    if capturing():
        raise NotImplementedError(
            "GradScaler: a captured step would repeat the scale as it is now; autocast alone can be"
        )
