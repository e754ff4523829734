"""Learning rates that change while training. Call `step()` after each `optimizer.step()`.

A schedule knows nothing of weights and gradients: it counts steps and sets a number. Several may work on one optimizer:
those that compute from the current rate (StepLR, CosineAnnealingLR) go on from what another one, or a hand, has set;
those that compute from the base rate (LambdaLR, WarmupCosineLR) set it anew.
"""

from __future__ import annotations

import bisect
import math
import types
from collections.abc import Callable, Iterable
from typing import Any
from weakref import WeakKeyDictionary

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

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1):
        if last_epoch != -1:
            raise NotImplementedError(f"{type(self).__name__}: last_epoch is not offered; see load_state_dict")
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
        self.last_epoch += 1
        self._apply()

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
        last_epoch: int = -1,
    ):
        several = list(lr_lambda) if isinstance(lr_lambda, (list, tuple)) else None
        self._for_all = None if isinstance(lr_lambda, (list, tuple)) else lr_lambda  # also of groups added later
        self.lr_lambdas = several or []
        for function in [lr_lambda] if several is None else several:
            if not callable(function):
                raise TypeError(f"{type(self).__name__}: expected functions, got {type(function).__name__}")
        super().__init__(optimizer, last_epoch)

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

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1):
        self._check("StepLR", {"step_size": step_size, "gamma": gamma})
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer, last_epoch)

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

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1):
        self._check("CosineAnnealingLR", {"T_max": T_max, "eta_min": eta_min})
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, last_epoch)

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


# --- Shorter ones, each a rule for the rate at step t -------------------------------------------------------------


class MultiplicativeLR(LambdaLR):
    """lr multiplied at each step by factor(step)."""

    def get_lr(self) -> list[float]:
        """The current rate, times the factor; at the beginning as it is."""
        super().get_lr()  # which checks the functions
        if self.last_epoch == 0:
            return self._current()
        return [rate * f(self.last_epoch) for rate, f in zip(self._current(), self.lr_lambdas, strict=True)]


class MultiStepLR(LRScheduler):
    """lr multiplied by `gamma` at each of the steps in `milestones`."""

    settings = ("milestones", "gamma")

    def __init__(self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1):
        self.milestones, self.gamma = sorted(milestones), gamma
        check_range("MultiStepLR", "gamma", gamma)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The current rate, times gamma for each milestone that is this step."""
        times = self.milestones.count(self.last_epoch) if self.last_epoch else 0
        return [rate * self.gamma**times for rate in self._current()]


class ExponentialLR(LRScheduler):
    """lr multiplied by `gamma` at each step."""

    settings = ("gamma",)

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1):
        check_range("ExponentialLR", "gamma", gamma)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The current rate, times gamma."""
        return [rate * self.gamma if self.last_epoch else rate for rate in self._current()]


class ConstantLR(LRScheduler):
    """lr times `factor` for the first `total_iters` steps, then lr."""

    settings = ("factor", "total_iters")

    def __init__(self, optimizer: Optimizer, factor: float = 1 / 3, total_iters: int = 5, last_epoch: int = -1):
        if not 0 <= factor <= 1:
            raise ValueError(f"ConstantLR: invalid factor: got {factor}, expected 0 to 1")
        self.factor, self.total_iters = factor, total_iters
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """Changed at the first step and at step `total_iters` alone."""
        if self.last_epoch == 0:
            return [rate * self.factor for rate in self._current()]
        back = self.last_epoch == self.total_iters
        return [rate / self.factor if back else rate for rate in self._current()]


class LinearLR(LRScheduler):
    """lr times a factor that goes from `start_factor` to `end_factor` within `total_iters` steps, and stays."""

    settings = ("start_factor", "end_factor", "total_iters")

    def __init__(
        self, optimizer: Optimizer, start_factor: float = 1 / 3, end_factor: float = 1.0, total_iters: int = 5,
        last_epoch: int = -1,
    ):  # fmt: skip
        if not 0 < start_factor <= 1 or not 0 <= end_factor <= 1:
            raise ValueError(f"LinearLR: got factors {start_factor}, {end_factor}; expected 0 to 1, the first above 0")
        self.start_factor, self.end_factor, self.total_iters = start_factor, end_factor, total_iters
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The current rate, times the quotient of this step's factor and the one before."""
        t, a, b, n = self.last_epoch, self.start_factor, self.end_factor, self.total_iters
        if t == 0:
            return [rate * a for rate in self._current()]
        if t > n:
            return self._current()
        return [rate * (1 + (b - a) / (n * a + (t - 1) * (b - a))) for rate in self._current()]


class PolynomialLR(LRScheduler):
    """lr times (1 - t / total_iters) ** power, which ends at 0."""

    settings = ("total_iters", "power")

    def __init__(self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1):
        self.total_iters, self.power = total_iters, power
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The current rate, times the quotient of this step's height and the one before."""
        t, n = self.last_epoch, self.total_iters
        if t == 0 or t > n:
            return self._current()
        return [rate * ((1 - t / n) / (1 - (t - 1) / n)) ** self.power for rate in self._current()]


class CosineAnnealingWarmRestarts(LRScheduler):
    """Half a cosine from lr to `eta_min` within T_0 steps, then again from lr, each round T_mult times as long.

    (Loshchilov & Hutter 2017, arXiv:1608.03983)
    """

    settings = ("T_0", "T_mult", "eta_min", "T_i", "T_cur")

    def __init__(
        self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0, last_epoch: int = -1
    ):
        if not isinstance(T_0, int) or T_0 <= 0 or not isinstance(T_mult, int) or T_mult < 1:
            raise ValueError(f"CosineAnnealingWarmRestarts: expected T_0 > 0 and T_mult >= 1, got {T_0} and {T_mult}")
        self.T_0, self.T_mult, self.eta_min, self.T_i, self.T_cur = T_0, T_mult, eta_min, T_0, 0.0
        super().__init__(optimizer, last_epoch)

    def step(self, epoch: float | None = None) -> None:
        """Go on to the next step, or to `epoch`, which may lie between two."""
        if epoch is None:
            super().step()
            return
        if epoch < 0:
            raise ValueError(f"CosineAnnealingWarmRestarts.step: expected epoch >= 0, got {epoch}")
        self.last_epoch = math.floor(epoch)
        self._place(epoch)
        self._set(self._rates())

    def _place(self, t: float) -> None:
        """In which round step t lies, and where in it."""
        self.T_i = self.T_0
        while t >= self.T_i:
            t -= self.T_i
            self.T_i *= self.T_mult
        self.T_cur = t

    def _rates(self) -> list[float]:
        height = (1 + math.cos(math.pi * self.T_cur / self.T_i)) / 2
        return [self.eta_min + (base - self.eta_min) * height for base in self.base_lrs]

    def get_lr(self) -> list[float]:
        """The rates at step `last_epoch`."""
        self._place(self.last_epoch)
        return self._rates()


class CyclicLR(LRScheduler):
    """lr goes up and down between `base_lr` and `max_lr`, `step_size_up` steps up and `step_size_down` down. `mode`
    "triangular", "triangular2" (half as high each time) or "exp_range" (times gamma ** t); or scale_fn. The momentum
    goes the other way, if the optimizer has one and `cycle_momentum`. (Smith 2017, arXiv:1506.01186)"""

    settings = ("total_size", "step_ratio", "mode", "gamma", "max_lrs")

    def __init__(
        self, optimizer: Optimizer, base_lr: Any, max_lr: Any, step_size_up: int = 2000,
        step_size_down: int | None = None, mode: str = "triangular", gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None, scale_mode: str = "cycle", cycle_momentum: bool = True,
        base_momentum: Any = 0.8, max_momentum: Any = 0.9, last_epoch: int = -1,
    ):  # fmt: skip
        if mode not in ("triangular", "triangular2", "exp_range") and scale_fn is None:
            raise ValueError(f"CyclicLR: got mode {mode!r}, expected 'triangular', 'triangular2' or 'exp_range'")
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"CyclicLR: expected an Optimizer, got {type(optimizer).__name__}")
        down = step_size_up if step_size_down is None else step_size_down
        self.total_size, self.step_ratio = float(step_size_up + down), step_size_up / (step_size_up + down)
        self.mode, self.gamma, self._scale, self._scale_mode = mode, gamma, scale_fn, scale_mode
        groups = optimizer.param_groups
        self.max_lrs, lows = _for_each(max_lr, groups, "max_lr"), _for_each(base_lr, groups, "base_lr")
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            if not {"momentum", "betas"} & optimizer.defaults.keys():
                raise ValueError("CyclicLR: the optimizer has no momentum; give cycle_momentum=False")
            self.base_momentums = _for_each(base_momentum, groups, "base_momentum")
            self.max_momentums = _for_each(max_momentum, groups, "max_momentum")
        for group, low in zip(groups, lows, strict=True):
            group["lr"] = group["initial_lr"] = low
        super().__init__(optimizer, last_epoch)

    def _height(self) -> float:
        """How far up the rate is at this step, from 0 to 1, and scaled."""
        cycle = math.floor(1 + self.last_epoch / self.total_size)
        x = 1 + self.last_epoch / self.total_size - cycle
        height = x / self.step_ratio if x <= self.step_ratio else (x - 1) / (self.step_ratio - 1)
        if self._scale is not None:
            return height * self._scale(cycle if self._scale_mode == "cycle" else self.last_epoch)
        scales = {"triangular": 1.0, "triangular2": 0.5 ** (cycle - 1), "exp_range": self.gamma**self.last_epoch}
        return height * scales[self.mode]

    def get_lr(self) -> list[float]:
        """The rates at step `last_epoch`; sets the momentum too."""
        height = self._height()
        if self.cycle_momentum:
            pairs = zip(self.base_momentums, self.max_momentums, strict=True)
            for group, (low, high) in zip(self.optimizer.param_groups, pairs, strict=True):
                _set_momentum(group, high - (high - low) * height)
        return [low + (high - low) * height for low, high in zip(self.base_lrs, self.max_lrs, strict=True)]


class OneCycleLR(LRScheduler):
    """lr rises from max_lr / div_factor to max_lr within the share `pct_start` of all steps, then falls to the
    `final_div_factor`-th part of where it began; the momentum falls and rises meanwhile. Along half a cosine ("cos") or
    a line. With `three_phase` it first falls to where it began. (Smith & Topin 2018, arXiv:1708.07120)"""

    settings = ("total_steps", "max_lrs", "min_lrs")

    def __init__(
        self, optimizer: Optimizer, max_lr: Any, total_steps: int | None = None, epochs: int | None = None,
        steps_per_epoch: int | None = None, pct_start: float = 0.3, anneal_strategy: str = "cos",
        cycle_momentum: bool = True, base_momentum: Any = 0.85, max_momentum: Any = 0.95, div_factor: float = 25.0,
        final_div_factor: float = 1e4, three_phase: bool = False, last_epoch: int = -1,
    ):  # fmt: skip
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"OneCycleLR: expected an Optimizer, got {type(optimizer).__name__}")
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ValueError("OneCycleLR: give total_steps, or epochs and steps_per_epoch")
            total_steps = epochs * steps_per_epoch
        if not isinstance(total_steps, int) or total_steps <= 0:
            raise ValueError(f"OneCycleLR: expected a positive number of steps, got {total_steps}")
        if not 0 <= pct_start <= 1 or anneal_strategy not in ("cos", "linear"):
            raise ValueError(
                "OneCycleLR: expected pct_start from 0 to 1 and anneal_strategy 'cos' or 'linear', "
                f"got {pct_start} and {anneal_strategy!r}"
            )
        self.total_steps, self._cosine = total_steps, anneal_strategy == "cos"
        top, end = pct_start * total_steps - 1, total_steps - 1
        self._phases = [(top, 0, 1), (2 * top, 1, 0), (end, 0, 2)] if three_phase else [(top, 0, 1), (end, 1, 2)]
        groups = optimizer.param_groups
        self.max_lrs = _for_each(max_lr, groups, "max_lr")
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            if not {"momentum", "betas"} & optimizer.defaults.keys():
                raise ValueError("OneCycleLR: the optimizer has no momentum; give cycle_momentum=False")
            self.base_momentums = _for_each(base_momentum, groups, "base_momentum")
            self.max_momentums = _for_each(max_momentum, groups, "max_momentum")
        for group, high in zip(groups, self.max_lrs, strict=True):
            group["lr"] = group["initial_lr"] = high / div_factor
        self.min_lrs = [high / div_factor / final_div_factor for high in self.max_lrs]
        super().__init__(optimizer, last_epoch)

    def _between(self, a: float, b: float, share: float) -> float:
        return b + (a - b) / 2 * (1 + math.cos(math.pi * share)) if self._cosine else a + (b - a) * share

    def get_lr(self) -> list[float]:
        """The rates at step `last_epoch`; sets the momentum too. ValueError beyond the last step."""
        t = self.last_epoch
        if t > self.total_steps:
            raise ValueError(f"OneCycleLR: step {t} of {self.total_steps}; give more total_steps")
        i = next((i for i, phase in enumerate(self._phases) if t <= phase[0]), len(self._phases) - 1)
        end, a, b = self._phases[i]
        start = self._phases[i - 1][0] if i else 0.0
        share = (t - start) / (end - start) if end != start else 1.0
        if self.cycle_momentum:
            for group, low, high in zip(
                self.optimizer.param_groups, self.base_momentums, self.max_momentums, strict=True
            ):
                marks = high, low, high
                _set_momentum(group, self._between(marks[a], marks[b], share))
        rates = zip(self.base_lrs, self.max_lrs, self.min_lrs, strict=True)
        return [self._between(marks[a], marks[b], share) for marks in rates]


def _for_each(value: Any, groups: list, name: str) -> list:
    """A setting for each parameter group."""
    if not isinstance(value, (list, tuple)):
        return [value] * len(groups)
    if len(value) != len(groups):
        raise ValueError(f"{name}: got {len(value)} values for {len(groups)} parameter groups")
    return list(value)


def _set_momentum(group: dict[str, Any], value: float) -> None:
    if "betas" in group:
        group["betas"] = (value, *group["betas"][1:])
    else:
        group["momentum"] = value


# --- Schedules of schedules, and one that looks at the loss -------------------------------------------------------


class ChainedScheduler:
    """Several schedules of one optimizer, all of which go on at each step, one after the other."""

    def __init__(self, schedulers: list[LRScheduler], optimizer: Optimizer | None = None):
        if not schedulers or any(s.optimizer is not schedulers[0].optimizer for s in schedulers):
            raise ValueError("ChainedScheduler: expected at least one schedule, all of one optimizer")
        self._schedulers, self.optimizer = list(schedulers), schedulers[0].optimizer

    def step(self) -> None:
        """Go on to the next step's learning rate."""
        for scheduler in self._schedulers:
            scheduler.step()

    def get_last_lr(self) -> list[float]:
        """The learning rate of each parameter group."""
        return self._schedulers[-1].get_last_lr()

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` takes: the state of each schedule."""
        return {"_schedulers": [scheduler.state_dict() for scheduler in self._schedulers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a saved state."""
        for scheduler, state in zip(self._schedulers, state_dict["_schedulers"], strict=True):
            scheduler.load_state_dict(state)


class SequentialLR:
    """Several schedules one after the other: the next one takes over, at its own step 0, at each of the
    `milestones`."""

    def __init__(
        self, optimizer: Optimizer, schedulers: list[LRScheduler], milestones: list[int], last_epoch: int = -1
    ):
        if last_epoch != -1:
            raise NotImplementedError("SequentialLR: last_epoch is not offered; see load_state_dict")
        if not schedulers or any(s.optimizer is not optimizer for s in schedulers):
            raise ValueError("SequentialLR: expected at least one schedule, all of this optimizer")
        if len(milestones) != len(schedulers) - 1:
            raise ValueError(f"SequentialLR: {len(schedulers)} schedules need {len(schedulers) - 1} milestones")
        self._schedulers, self._milestones, self.optimizer = list(schedulers), list(milestones), optimizer
        self.last_epoch = 0
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"]
        for scheduler in self._schedulers[:1]:
            scheduler.last_epoch = 0
            scheduler._apply()

    def step(self) -> None:
        """Go on to the next step's learning rate."""
        self.last_epoch += 1
        i = bisect.bisect_right(self._milestones, self.last_epoch)
        scheduler = self._schedulers[i]
        if i and self._milestones[i - 1] == self.last_epoch:
            scheduler.last_epoch = 0
            for group, base in zip(self.optimizer.param_groups, scheduler.base_lrs, strict=True):
                group["lr"] = base
            scheduler._apply()
        else:
            scheduler.step()

    def get_last_lr(self) -> list[float]:
        """The learning rate of each parameter group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` takes: the count, and the state of each schedule."""
        return {"last_epoch": self.last_epoch, "_schedulers": [s.state_dict() for s in self._schedulers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a saved state."""
        self.last_epoch = state_dict["last_epoch"]
        for scheduler, state in zip(self._schedulers, state_dict["_schedulers"], strict=True):
            scheduler.load_state_dict(state)


class ReduceLROnPlateau:
    """lr multiplied by `factor` when what is watched, `step(value)`, has not become better for more than `patience`
    steps.

    Better: smaller ("min") or larger ("max") than the best so far by more than `threshold`, a share ("rel") or a
    difference ("abs"). After a change `cooldown` steps do not count; no rate falls below `min_lr`, nor changes by less
    than `eps`.
    """

    def __init__(
        self, optimizer: Optimizer, mode: str = "min", factor: float = 0.1, patience: int = 10,
        threshold: float = 1e-4, threshold_mode: str = "rel", cooldown: int = 0, min_lr: Any = 0.0, eps: float = 1e-8,
    ):  # fmt: skip
        if factor >= 1:
            raise ValueError(f"ReduceLROnPlateau: factor should be < 1, got {factor}")
        if mode not in ("min", "max") or threshold_mode not in ("rel", "abs"):
            raise ValueError(
                f"ReduceLROnPlateau: got mode {mode!r} and threshold_mode {threshold_mode!r}, expected 'min' or 'max' "
                "and 'rel' or 'abs'"
            )
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"ReduceLROnPlateau: expected an Optimizer, got {type(optimizer).__name__}")
        self.optimizer, self.mode, self.factor, self.patience = optimizer, mode, factor, patience
        self.threshold, self.threshold_mode, self.cooldown, self.eps = threshold, threshold_mode, cooldown, eps
        self.min_lrs = _for_each(min_lr, optimizer.param_groups, "min_lr")
        self.best = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs = self.cooldown_counter = self.last_epoch = 0

    def _is_better(self, value: float) -> bool:
        sign = 1 if self.mode == "min" else -1
        if self.threshold_mode == "rel":
            return sign * value < sign * self.best * (1 - sign * self.threshold) if math.isfinite(self.best) else (
                sign * value < sign * self.best
            )
        return sign * value < sign * self.best - self.threshold

    def step(self, metrics: Any) -> None:
        """Take note of the value that is watched."""
        value = float(metrics)
        self.last_epoch += 1
        if self._is_better(value):
            self.best, self.num_bad_epochs = value, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            for group, low in zip(self.optimizer.param_groups, self.min_lrs, strict=True):
                new = max(group["lr"] * self.factor, low)
                if group["lr"] - new > self.eps:
                    group["lr"] = new
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0

    def get_last_lr(self) -> list[float]:
        """The learning rate of each parameter group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` takes: everything but the optimizer."""
        return {key: value for key, value in self.__dict__.items() if key != "optimizer"}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a saved state."""
        if missing := self.state_dict().keys() - state_dict.keys():
            raise ValueError(f"ReduceLROnPlateau.load_state_dict: the state has no '{sorted(missing)[0]}'")
        self.__dict__.update({key: state_dict[key] for key in self.state_dict()})


_LRScheduler = LRScheduler  # its name in older torch code, from which own schedules are derived
