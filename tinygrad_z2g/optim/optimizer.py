"""What torch offers of optimizers beyond the core: devices that are followed, and the way to save.

`Optimizer` itself stands in `core/optimizers.py`; the methods here are attached to it. They know nothing of layers,
losses or how gradients came about, and leave to `_update` how a weight changes.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays.backend import Array, device_of, of, silent, to_device
from ..arrays.checks import check_hook
from ..core import optimizers
from ..core.attach import attach
from ..core.optimizers import check_range
from ..tensor import RemovableHandle, Tensor

__all__ = ["Optimizer", "check_range"]


class OptimizerMethods:
    """What is attached to `Optimizer`."""

    if TYPE_CHECKING:  # what is used here of the core's
        defaults: dict[str, Any]
        param_groups: list[dict[str, Any]]
        state: dict[Tensor, dict[str, Any]]
        check_settings: Any

    remembers: dict[str, type] | None = None  # what `state` holds for a parameter; None: an optimizer's own affair
    sometimes: tuple[str, ...] = ()  # what of it may be absent, depending on the settings
    _step_hooks: dict[bool, dict[int, Callable]] | None = None  # before (True) and after a step; see `_call_hooks`

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with settings of their own: {"params": [...], "lr": 0.1}; the rest are the defaults.

        In place of parameters there may be pairs of a name and a parameter, as `model.named_parameters()` gives, in all
        groups or none: the names are then the group's "param_names", and are saved.
        """
        _add_param_group(self, self._unnamed(param_group))

    def _unnamed(self, group: Any) -> Any:
        """The group, with names and parameters apart."""
        if not isinstance(group, dict) or "params" not in group:
            return group  # which the core refuses
        params, name = group["params"], type(self).__name__
        if isinstance(params, (set, frozenset)):
            raise TypeError(f"{name}: got a set of parameters, whose order changes; give a list")
        params = [params] if isinstance(params, Tensor) else list(params)
        names = [pair[0] for pair in params if isinstance(pair, tuple)]
        if names and len(names) < len(params):
            raise ValueError(f"{name}: {len(names)} of the {len(params)} parameters of a group have names; name all")
        if self.param_groups and ("param_names" in self.param_groups[0]) != bool(names):
            raise ValueError(f"{name}: some groups have names of parameters, others have not; name all or none")
        if not names:
            return {**group, "params": params}
        return {**group, "params": [pair[1] for pair in params], "param_names": names}

    def register_step_pre_hook(self, hook: Callable) -> RemovableHandle:
        """Call `hook(optimizer, args, kwargs)` before each step, args[0] being the optimizer; what it returns, if
        anything, are the (args, kwargs) that the step gets."""
        return self._hooked(hook, True)

    def register_step_post_hook(self, hook: Callable) -> RemovableHandle:
        """Call `hook(optimizer, args, kwargs)` after each step, args[0] being the optimizer."""
        return self._hooked(hook, False)

    def _hooked(self, hook: Callable, before: bool) -> RemovableHandle:
        check_hook(hook, f"register_step_{'pre' if before else 'post'}_hook")
        _call_hooks(type(self))
        if self._step_hooks is None:
            self._step_hooks = {True: {}, False: {}}
        return RemovableHandle(self._step_hooks[before], hook)

    @silent
    def _update(self: Any, params: list[Tensor], group: dict[str, Any]) -> None:
        for p in params:
            for key, value in self.state.get(p, {}).items():
                if _is_array(value):
                    memory(self.state[p], key, p)
            self._change(p, uphill(p._grad.array, group), group)
            p.memory.writes += 1

    def state_dict(self) -> dict[str, Any]:
        """Settings and state, with parameters as numbers in order: what `load_state_dict` takes."""
        number = {id(p): i for i, p in enumerate(p for group in self.param_groups for p in group["params"])}
        state = {
            number[id(p)]: {k: _tensors(v) for k, v in values.items()}
            for p, values in self.state.items()
        }
        groups = [{**group, "params": [number[id(p)] for p in group["params"]]} for group in self.param_groups]
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a saved state: settings, and what was remembered for each parameter, by its place.

        ValueError or TypeError, with nothing changed, for a state that is not one of this kind of optimizer, with
        groups and parameters like these.
        """
        name = f"{type(self).__name__}.load_state_dict"
        for part, kind in (("param_groups", list), ("state", dict)):
            if not isinstance(state_dict, dict) or not isinstance(state_dict.get(part), kind):
                raise TypeError(f"{name}: expected a dict with a {kind.__name__} '{part}', as state_dict() returns")
        groups, order = self._checked_groups(name, state_dict["param_groups"])
        params = dict(zip(order, self._all(), strict=True))
        state: dict[Tensor, dict[str, Any]] = defaultdict(dict)
        for number, values in state_dict["state"].items():
            number = int(number) if isinstance(number, str) and number.isdigit() else number  # as JSON spells it
            if number not in params:
                raise ValueError(f"{name}: there is state for parameter {number!r}, which no saved group has")
            state[params[number]] = self._checked_state(f"{name}: parameter {number}", params[number], values)
        self.state = state
        for group, other in zip(self.param_groups, groups, strict=True):
            group.update(other)

    def __getstate__(self) -> dict[str, Any]:
        """All but the hooks, which may be functions that nobody can save."""
        return {name: value for name, value in self.__dict__.items() if name != "_step_hooks"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """What a pickle or a copy holds becomes this optimizer's; subclasses may add what an older one did not save."""
        self.__dict__.update(state)

    def __repr__(self) -> str:
        text = f"{type(self).__name__} ("
        for i, group in enumerate(self.param_groups):
            settings = (f"    {key}: {group[key]}\n" for key in sorted(group) if key != "params")
            text += f"\nParameter Group {i}\n" + "".join(settings)
        return text + ")"

    def _all(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    def _checked_groups(self, name: str, saved: list[Any]) -> tuple[list[dict[str, Any]], list[int]]:
        """The settings of each saved group, and the numbers of all parameters in their order."""
        lengths = [len(group["params"]) for group in self.param_groups]
        found = [group.get("params") if isinstance(group, dict) else None for group in saved]
        if [len(ids) if isinstance(ids, (list, tuple)) else None for ids in found] != lengths:
            raise ValueError(f"{name}: 'param_groups' do not have the {lengths} 'params' of this optimizer")
        order = [number for ids in found for number in ids or ()]
        mine = [id(p) for p in self._all()]
        if not all(type(number) is int for number in order) or not (
            len(set(order)) == len(set(mine)) == len(set(zip(order, mine, strict=True)))
        ):
            raise ValueError(
                f"{name}: 'params' in 'param_groups' are {order}, expected different numbers for different parameters"
            )
        groups = []
        for i, (group, other) in enumerate(zip(self.param_groups, saved, strict=True)):
            where = f"{name}: param_groups[{i}]"
            settings = {k: tuple(v) if isinstance(v, list) else v for k, v in other.items() if k != "params"}
            if "param_names" in settings:
                names = settings["param_names"] = other["param_names"]
                if not isinstance(names, list) or [type(n) for n in names] != [str] * len(group["params"]):
                    raise ValueError(f"{where} has 'param_names' = {names!r}, expected a name for each of its 'params'")
            if missing := [key for key in self.defaults if key not in settings]:
                raise ValueError(f"{where} has no '{missing[0]}'; is it the state of another kind of optimizer?")
            if foreign := [k for k, v in settings.items() if v and k not in {*group, "initial_lr", "param_names"}]:
                raise ValueError(f"{where} has the setting '{foreign[0]}', which this optimizer does not know")
            if "initial_lr" in settings:  # a schedule's
                check_range(where, "initial_lr", settings["initial_lr"])
            self.check_settings(where, settings)
            groups.append(settings)
        return groups, order

    def _checked_state(self, where: str, p: Tensor, values: Any) -> dict[str, Any]:
        """What is remembered for p, its arrays copied to where p is."""
        if not isinstance(values, dict):
            raise TypeError(f"{where} has the state {values!r}, expected a dict")
        if self.remembers is None:  # an optimizer of the user's own, which knows what it keeps
            return {k: v.to(p.device, copy=True) if isinstance(v, Tensor) else deepcopy(v) for k, v in values.items()}
        if values.keys() - self.remembers.keys():
            wrong = sorted(map(str, values.keys() - self.remembers.keys()))[0]
            raise ValueError(f"{where} has '{wrong}', which {type(self).__name__} does not keep")
        state = {}
        for key in self.remembers if values else ():
            if key not in values:
                if key in self.sometimes:
                    continue
                raise ValueError(f"{where} has no '{key}', which {type(self).__name__} keeps")
            value = values[key]
            kind = self.remembers[key]
            if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
                raise TypeError(f"{where} has '{key}' = {value!r}, expected {kind.__name__}")
            if kind is int and values[key] < 0:
                raise ValueError(f"{where} has '{key}' = {value}, expected >= 0")
            if isinstance(value, Tensor):
                if value.array.shape != p.array.shape:
                    raise ValueError(f"{where}: '{key}' has shape {tuple(value.shape)}, expected {tuple(p.shape)}")
                if value.is_floating_point() != p.is_floating_point():
                    raise TypeError(f"{where}: '{key}' is {value.dtype}, expected {p.dtype}")
                value = to_device(value.array, p.device).copy()
            state[key] = value
        return state


def _is_array(value: Any) -> bool:
    return hasattr(value, "ndim") and not isinstance(value, (Tensor, np.generic))


def _tensors(value: Any) -> Any:
    """What is remembered, with tensors in place of the arrays in it."""
    if isinstance(value, (list, tuple)):
        return type(value)(map(_tensors, value))
    return Tensor.make(value) if _is_array(value) else value


def memory(state: dict[str, Any], key: str, p: Tensor) -> Array:
    """The array that `state` remembers for p under `key`: zeros at first; it follows p to another device or dtype."""
    kept, w = state.get(key), p.array
    if kept is None:
        kept = state[key] = of(w).zeros_like(w)
    elif kept.device != w.device or kept.dtype != w.dtype:
        kept = state[key] = to_device(kept, device_of(w)).astype(w.dtype)
    return kept


def check_implementation(owner: str, **settings: Any) -> None:
    """`fused`, `foreach` and `capturable` choose between implementations in torch: accepted, there is one here. What
    would change the result (`differentiable`, `amsgrad`) raises NotImplementedError where it is asked for."""
    for name, value in settings.items():
        if value not in (None, True, False):
            raise TypeError(f"{owner}: invalid {name}: got {value!r}, expected True, False or None")
        if value and name not in ("fused", "foreach", "capturable"):
            raise NotImplementedError(f"{owner}: {name}=True is not offered")


def climbing(owner: str, maximize: bool) -> dict[str, bool]:
    """The setting `maximize`, where it is asked for: states of optimizers that descend do without it."""
    if not isinstance(maximize, bool):
        raise TypeError(f"{owner}: invalid maximize: got {maximize!r}, expected True or False")
    return {"maximize": True} if maximize else {}


def uphill(g: Array, group: dict[str, Any]) -> Array:
    """The gradient, or its reverse for a group with `maximize`."""
    return -g if group.get("maximize") else g


def _call_hooks(kind: Any) -> None:
    """Let the step of this class of optimizers, its own or inherited, call hooks. Done for classes that get some."""
    own = vars(kind).get("step")
    if getattr(own, "calls_hooks", False):
        return

    @functools.wraps(kind.step)
    def step(self: Any, *args: Any, **kwargs: Any) -> Any:
        hooks, args = self._step_hooks, (self, *args)
        if hooks is None or type(self) is not kind:  # a step that calls that of the class above is one step
            hooks = {True: {}, False: {}}
        for hook in list(hooks[True].values()):
            changed = hook(self, args, kwargs)
            if changed is not None:
                if not isinstance(changed, tuple) or len(changed) != 2:
                    raise RuntimeError(f"step pre hook: returned {changed!r}, expected None or (args, kwargs)")
                args, kwargs = changed
        result = super(kind, self).step(*args[1:], **kwargs) if own is None else own(*args, **kwargs)
        for hook in list(hooks[False].values()):
            hook(self, args, kwargs)
        return result

    step.calls_hooks = True  # type: ignore[attr-defined]
    kind.step = step


_add_param_group: Any = optimizers.Optimizer.add_param_group

if TYPE_CHECKING:  # who checks types sees so what is attached

    class Optimizer(OptimizerMethods, optimizers.Optimizer): ...

else:
    Optimizer = optimizers.Optimizer
    attach(Optimizer, OptimizerMethods)
