"""Averages of the weights of a model while it trains, which often do better than the last ones.

(Izmailov et al. 2018, arXiv:1803.05407)
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

from ..core.modes import no_grad
from ..creation import tensor
from ..nn.module import Module
from ..tensor import Tensor
from .lr_scheduler import LRScheduler
from .optimizer import Optimizer, check_range


def get_ema_avg_fn(decay: float = 0.999) -> Callable[[Tensor, Tensor, Any], Tensor]:
    """An average in which the past fades: decay · average + (1 - decay) · new."""
    check_range("get_ema_avg_fn", "decay", decay, 0, math.nextafter(1, 2))
    return lambda average, new, count: decay * average + (1 - decay) * new


def get_ema_multi_avg_fn(decay: float = 0.999) -> Callable[[list, list, Any], None]:
    """As `get_ema_avg_fn`, for lists of tensors, in place."""
    one = get_ema_avg_fn(decay)

    def average(averages: list, new: list, count: Any) -> None:
        for a, p in zip(averages, new, strict=True):
            a.copy_(one(a, p, count))

    return average


class AveragedModel(Module):
    """A copy of a model that holds the average of its weights at each `update_parameters(model)`: the mean of all, or
    what `avg_fn(average, new, count)` says. Buffers are copied, or averaged with `use_buffers`."""

    n_averaged: Tensor

    def __init__(
        self, model: Module, device: Any = None, avg_fn: Callable | None = None, multi_avg_fn: Callable | None = None,
        use_buffers: bool = False,
    ):  # fmt: skip
        if avg_fn is not None and multi_avg_fn is not None:
            raise ValueError("AveragedModel: give avg_fn or multi_avg_fn, not both")
        self.module = copy.deepcopy(model)
        if device is not None:
            self.module.to(device)
        self.register_buffer("n_averaged", tensor(0, device=device))
        self._settings = avg_fn, multi_avg_fn, use_buffers

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the averaged model computes."""
        return self.module(*args, **kwargs)

    @no_grad()
    def update_parameters(self, model: Module) -> None:
        """Take the weights of `model` into the average."""
        avg_fn, multi_avg_fn, use_buffers = self._settings
        ours: list[Tensor] = [*self.module.parameters()]
        theirs: list[Tensor] = [*model.parameters()]
        if use_buffers:
            ours, theirs = [*ours, *self.module.buffers()], [*theirs, *model.buffers()]
        theirs = [p.detach().to(a.device) for a, p in zip(ours, theirs, strict=True)]
        if self.n_averaged.item() == 0:
            for a, p in zip(ours, theirs, strict=True):
                a.copy_(p)
        elif multi_avg_fn is not None:
            multi_avg_fn(ours, theirs, self.n_averaged)
        else:
            for a, p in zip(ours, theirs, strict=True):
                a.copy_(a + (p - a) / (self.n_averaged + 1) if avg_fn is None else avg_fn(a, p, self.n_averaged))
        if not use_buffers:
            for a, p in zip(self.module.buffers(), model.buffers(), strict=True):
                a.copy_(p)
        self.n_averaged += 1


class SWALR(LRScheduler):
    """The rate goes to `swa_lr` within `anneal_epochs` steps, along half a cosine or a line, and stays."""

    settings = ("anneal_epochs", "anneal_strategy", "swa_lr")

    def __init__(
        self, optimizer: Optimizer, swa_lr: float, anneal_epochs: int = 10, anneal_strategy: str = "cos",
        last_epoch: int = -1,
    ):  # fmt: skip
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"SWALR: got anneal_strategy {anneal_strategy!r}, expected 'cos' or 'linear'")
        check_range("SWALR", "anneal_epochs", anneal_epochs, 0)
        self.swa_lr, self.anneal_epochs, self.anneal_strategy = swa_lr, anneal_epochs, anneal_strategy
        super().__init__(optimizer, last_epoch)

    def _share(self, step: int) -> float:
        """How far the way is gone at a step."""
        if not self.anneal_epochs:
            return 1.0
        t = min(1.0, max(0.0, step / self.anneal_epochs))
        return (1 - math.cos(math.pi * t)) / 2 if self.anneal_strategy == "cos" else t

    def get_lr(self) -> list[float]:
        """The rates of the next step, from the current ones."""
        if self.last_epoch == 0:
            return self._current()
        before, now = self._share(self.last_epoch - 1), self._share(self.last_epoch)
        if before == 1:
            return [self.swa_lr for _ in self._current()]
        started = [(rate - before * self.swa_lr) / (1 - before) for rate in self._current()]
        return [now * self.swa_lr + (1 - now) * rate for rate in started]
