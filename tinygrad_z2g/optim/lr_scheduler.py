"""Learning rates that change while training. Call `step()` after each `optimizer.step()`.

A schedule knows nothing of weights and gradients: it counts steps and sets a number. Several may work on one optimizer:
those that compute from the current rate (StepLR, CosineAnnealingLR) go on from what another one, or a hand, has set;
those that compute from the base rate (LambdaLR, WarmupCosineLR) set it anew.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from ..replay import again
from .optimizer import Optimizer, check_range

# Of parameter groups that were added to an optimizer: their rates before its schedules, all of which share them. As in
# torch, such a group gets its "initial_lr", from which a later schedule starts, when the next schedule is made.
_later: WeakKeyDictionary[Optimizer, dict[int, float]] = WeakKeyDictionary()


class LRScheduler:
    """Base class of all schedules. A subclass says in `get_lr` what the rates of this step are.

    `last_epoch` counts the steps from 0; `base_lrs` are the rates that the parameter groups had before any schedule.
    `settings` names the attributes that are saved and restored beside them.
    """

    settings: tuple[str, ...] = ()

    def __init__(self, optimizer: Optimizer):
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{type(self).__name__}: expected an Optimizer, got {type(optimizer).__name__}")
        self.optimizer = optimizer
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        self.base_lrs: list[float] = []
        self.last_epoch = 0
        self._apply()

    def get_lr(self) -> list[float]:
        """The rate of each parameter group at step `last_epoch`: 0 when the schedule is made, later the next one."""
        raise NotImplementedError

    def step(self) -> None:
        """Go on to the next step's learning rate."""
        before: list[float] = []  # a captured step that fails sets them back

        def go() -> None:
            before[:] = [group["lr"] for group in self.optimizer.param_groups]
            self.last_epoch += 1
            self._apply()

        def undo() -> None:
            self.last_epoch -= 1
            self._set(before)

        again(go, undo)

    def _apply(self) -> None:
        groups = self.optimizer.param_groups
        for i in range(len(self.base_lrs), len(groups)):  # all at first; later those that were added
            first = groups[i].get("initial_lr")
            if first is None:
                first = _later.setdefault(self.optimizer, {}).setdefault(i, groups[i]["lr"])
            self.base_lrs.append(first)
        self._set(self.get_lr())

    def _set(self, rates: list[float]) -> None:
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        self._last_lr = list(rates)

    def _current(self) -> list[float]:
        return [group["lr"] for group in self.optimizer.param_groups]

    def get_last_lr(self) -> list[float]:
        """The learning rate that this schedule gave last to each parameter group."""
        return list(self._last_lr)

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` takes: the count, the base rates and the settings."""
        state = {name: getattr(self, name) for name in self.settings}
        return {**state, "last_epoch": self.last_epoch, "base_lrs": list(self.base_lrs), "_last_lr": self.get_last_lr()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a saved state, settings included. The rates themselves are in the optimizer's state: load it.

        ValueError or TypeError, with nothing changed, for a state that is not one of this kind of schedule.
        """
        name = f"{type(self).__name__}.load_state_dict"
        if not isinstance(state_dict, dict):
            raise TypeError(f"{name}: expected a dict, got {type(state_dict).__name__}")
        wanted = (*self.settings, "last_epoch", "base_lrs", "_last_lr")
        if missing := [key for key in wanted if key not in state_dict]:
            raise ValueError(f"{name}: the state has no '{missing[0]}'; is it one of another schedule?")
        new = {key: state_dict[key] for key in wanted}
        if isinstance(new["last_epoch"], bool) or not isinstance(new["last_epoch"], int):
            raise TypeError(f"{name}: 'last_epoch' is {new['last_epoch']!r}, expected an int")
        if new["last_epoch"] < 0:
            raise ValueError(f"{name}: 'last_epoch' is {new['last_epoch']}, expected >= 0")
        for key in ("base_lrs", "_last_lr"):
            if not isinstance(new[key], (list, tuple)):
                raise TypeError(f"{name}: '{key}' is {new[key]!r}, expected a list of numbers")
            if len(new[key]) > len(self.optimizer.param_groups):
                raise ValueError(
                    f"{name}: '{key}' has {len(new[key])} rates, but the optimizer has "
                    f"{len(self.optimizer.param_groups)} parameter groups"
                )
            for rate in new[key]:
                check_range(name, f"rate in '{key}'", rate)
            new[key] = list(new[key])
        self._check(name, new)
        self._restore(new)

    def _check(self, name: str, settings: dict[str, Any]) -> None:
        """Raise ValueError or TypeError, in the name of `name`, for settings that make no schedule."""

    def _restore(self, new: dict[str, Any]) -> None:
        self.__dict__.update(new)


class LambdaLR(LRScheduler):
    """lr = the optimizer's own lr · factor(step), step counted from 0. One function, or one for each parameter group.

    Functions are not saved; of an object that is called, its attributes are.
    """

    settings = ("lr_lambdas",)

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | list[Callable[[int], float]] | tuple[Callable[[int], float], ...],
    ):
        one = not isinstance(lr_lambda, (list, tuple))
        self._for_all = lr_lambda if one else None  # groups that are added later get it too
        self.lr_lambdas = [] if one else list(lr_lambda)
        for function in [lr_lambda] if one else lr_lambda:
            if not callable(function):
                raise TypeError(f"{type(self).__name__}: expected functions, got {type(function).__name__}")
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        """base_lr · factor(last_epoch)"""
        groups = len(self.optimizer.param_groups)
        if self._for_all is not None:
            self.lr_lambdas += [self._for_all] * (groups - len(self.lr_lambdas))
        if len(self.lr_lambdas) != groups:
            raise ValueError(
                f"{type(self).__name__}: got {len(self.lr_lambdas)} functions for {groups} parameter groups; for a "
                "group that was added later, append a function to `lr_lambdas`"
            )
        return [base * factor(self.last_epoch) for base, factor in zip(self.base_lrs, self.lr_lambdas, strict=True)]

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` takes. None stands for a function."""
        saved = [dict(f.__dict__) if _has_attributes(f) else None for f in self.lr_lambdas]
        return {**super().state_dict(), "lr_lambdas": saved}

    def _check(self, name: str, settings: dict[str, Any]) -> None:
        saved = settings["lr_lambdas"]
        if not isinstance(saved, (list, tuple)) or not all(s is None or isinstance(s, dict) for s in saved):
            raise TypeError(f"{name}: 'lr_lambdas' is {saved!r}, expected a list of None and dicts")
        if len(saved) > len(self.lr_lambdas):
            raise ValueError(f"{name}: 'lr_lambdas' has {len(saved)} entries for {len(self.lr_lambdas)} functions")

    def _restore(self, new: dict[str, Any]) -> None:
        for function, attributes in zip(self.lr_lambdas, new.pop("lr_lambdas"), strict=False):
            if attributes is not None and _has_attributes(function):
                function.__dict__.update(attributes)
        super()._restore(new)


def _has_attributes(function: Any) -> bool:
    return hasattr(function, "__dict__") and not isinstance(function, (types.FunctionType, type))


class StepLR(LRScheduler):
    """lr multiplied by `gamma` every `step_size` steps."""

    settings = ("step_size", "gamma")

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1):
        self._check("StepLR", {"step_size": step_size, "gamma": gamma})
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer)

    def _check(self, name: str, settings: dict[str, Any]) -> None:
        check_range(name, "step_size", settings["step_size"], 1)
        check_range(name, "gamma", settings["gamma"])

    def get_lr(self) -> list[float]:
        """The current rate, times gamma at every step_size-th step."""
        due = self.last_epoch > 0 and self.last_epoch % self.step_size == 0
        return [rate * self.gamma if due else rate for rate in self._current()]


class CosineAnnealingLR(LRScheduler):
    """lr falls from its start to `eta_min` along half a cosine over `T_max` steps, then rises again. (arXiv:1608.03983)

    With c(t) = 1 + cos(π t / T_max): lrₜ = eta_min + (lrₜ₋₁ - eta_min) · c(t) / c(t - 1), from the current rate. At the
    turn, where c(t - 1) is 0, the rate starts upwards from the base: lrₜ = lrₜ₋₁ + (base - eta_min) · c(t) / 2.
    """

    settings = ("T_max", "eta_min")

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0):
        self._check("CosineAnnealingLR", {"T_max": T_max, "eta_min": eta_min})
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer)

    def _check(self, name: str, settings: dict[str, Any]) -> None:
        check_range(name, "T_max", settings["T_max"], 1)
        check_range(name, "eta_min", settings["eta_min"])

    def get_lr(self) -> list[float]:
        """The next rates, from the current ones."""
        t, low = self.last_epoch, self.eta_min
        if t == 0:
            return self._current()
        if (t - 1 - self.T_max) % (2 * self.T_max) == 0:
            rise = (1 - math.cos(math.pi / self.T_max)) / 2  # c(t) / 2, without its rounding near -1
            return [rate + (base - low) * rise for rate, base in zip(self._current(), self.base_lrs, strict=True)]
        c, before = (1 + math.cos(math.pi * s / self.T_max) for s in (t, t - 1))
        return [low + (rate - low) * c / before for rate in self._current()]


class WarmupCosineLR(LRScheduler):
    """lr rises linearly over `warmup` steps, then falls along half a cosine to `floor` times its peak at `total`.

    Adam's early steps rest on few gradients, so they are kept small. Not in torch. (GPT-3, arXiv:2005.14165)
    """

    settings = ("warmup", "total", "floor")

    def __init__(self, optimizer: Optimizer, warmup: int, total: int, floor: float = 0.1):
        self._check("WarmupCosineLR", {"warmup": warmup, "total": total, "floor": floor})
        self.warmup, self.total, self.floor = warmup, total, floor
        super().__init__(optimizer)

    def _check(self, name: str, settings: dict[str, Any]) -> None:
        warmup, total, floor = (settings[key] for key in ("warmup", "total", "floor"))
        check_range(name, "warmup", warmup, 0)
        check_range(name, "total", total, 0)
        check_range(name, "floor", floor)
        if warmup > total:
            raise ValueError(f"{name}: expected 0 <= warmup <= total, got {warmup} and {total}")

    def get_lr(self) -> list[float]:
        """base_lr times the height of the curve at step `last_epoch`."""
        t = self.last_epoch
        if t < self.warmup:
            height = (t + 1) / self.warmup
        else:
            progress = min(1.0, (t - self.warmup) / max(1, self.total - self.warmup))
            height = self.floor + (1 - self.floor) * (1 + math.cos(math.pi * progress)) / 2
        return [base * height for base in self.base_lrs]
