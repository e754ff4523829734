"""Learning rates that change while training. Call `step()` after each `optimizer.step()`.

A schedule knows nothing of weights and gradients: it counts steps and sets a number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..replay import again
from .optimizer import Optimizer


class LambdaLR:
    """lr = the optimizer's own lr · factor(step), step counted from 0. The base of the other schedules."""

    def __init__(self, optimizer: Optimizer, lr_lambda: Callable[[int], float] | list[Callable[[int], float]]):
        groups = optimizer.param_groups
        self.optimizer = optimizer
        self._factors = lr_lambda if isinstance(lr_lambda, list) else [lr_lambda] * len(groups)
        if len(self._factors) != len(groups):
            raise ValueError(f"LambdaLR: got {len(self._factors)} functions for {len(groups)} parameter groups")
        self.base_lrs = [group.setdefault("initial_lr", group["lr"]) for group in groups]
        self.last_epoch = 0
        self._apply()

    def step(self) -> None:
        """Go on to the next step's learning rate."""
        again(lambda: self._go(1), undo=lambda: self._go(-1))

    def _go(self, steps: int) -> None:
        self.last_epoch += steps
        self._apply()

    def _apply(self) -> None:
        for group, base, factor in zip(self.optimizer.param_groups, self.base_lrs, self._factors, strict=True):
            group["lr"] = base * factor(self.last_epoch)

    def get_last_lr(self) -> list[float]:
        """The learning rate of each parameter group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` takes."""
        return {"last_epoch": self.last_epoch, "base_lrs": list(self.base_lrs)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a saved state."""
        self.last_epoch, self.base_lrs = int(state_dict["last_epoch"]), list(state_dict["base_lrs"])
        self._apply()


class StepLR(LambdaLR):
    """lr multiplied by `gamma` every `step_size` steps."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1):
        super().__init__(optimizer, lambda step: gamma ** (step // step_size))


class CosineAnnealingLR(LambdaLR):
    """lr falls from its start to `eta_min` along half a cosine over `T_max` steps. (arXiv:1608.03983)"""

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0):
        def schedule(base: float) -> Callable[[int], float]:
            low = eta_min / base if base else 0.0
            return lambda step: low + (1 - low) * (1 + math.cos(math.pi * step / T_max)) / 2

        bases = [group.get("initial_lr", group["lr"]) for group in optimizer.param_groups]
        super().__init__(optimizer, [schedule(base) for base in bases])


class WarmupCosineLR(LambdaLR):
    """lr rises linearly over `warmup` steps, then falls along half a cosine to `floor` times its peak at `total`.

    Adam's early steps rest on few gradients, so they are kept small. Not in torch. (GPT-3, arXiv:2005.14165)
    """

    def __init__(self, optimizer: Optimizer, warmup: int, total: int, floor: float = 0.1):
        if not 0 <= warmup <= total:
            raise ValueError(f"WarmupCosineLR: expected 0 <= warmup <= total, got {warmup} and {total}")

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / warmup
            progress = min(1.0, (step - warmup) / max(1, total - warmup))
            return floor + (1 - floor) * (1 + math.cos(math.pi * progress)) / 2

        super().__init__(optimizer, factor)
