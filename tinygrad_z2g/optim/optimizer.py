"""What all optimizers share: parameter groups, their state, and the way to save it.

It knows nothing of layers, losses or how gradients came about, and leaves to `_update` how a weight changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from .. import replay
from ..backend import Array, device_of, of, to_device
from ..engine import enable_grad, no_grad
from ..replay import Recording, capturing
from ..tensor import Tensor


class Optimizer:
    """Base class. A subclass lists its settings in `defaults` and says in `_update` how parameters change.

    `param_groups` is a list of dicts, each with "params" and its own settings; `state[parameter]` holds the arrays
    and numbers that a parameter's update remembers.
    """

    def __init__(self, params: Iterable, defaults: dict[str, Any]):
        if isinstance(params, Tensor):
            raise TypeError(f"{type(self).__name__}: expected an iterable of Tensors or dicts, got one Tensor")
        self.defaults = defaults
        self.param_groups: list[dict[str, Any]] = []
        self.state: dict[Tensor, dict[str, Any]] = {}
        groups = list(params)
        if not groups:
            raise ValueError(f"{type(self).__name__}: got an empty parameter list; does the model have parameters?")
        for group in groups if isinstance(groups[0], dict) else [{"params": groups}]:
            self.add_param_group(group)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with settings of their own: {"params": [...], "lr": 0.1}; the rest are the defaults."""
        params = param_group["params"]
        params = [params] if isinstance(params, Tensor) else list(params)
        known = {id(p) for g in self.param_groups for p in g["params"]}
        for p in params:
            if not isinstance(p, Tensor):
                raise TypeError(f"{type(self).__name__}: can optimize Tensors, got {type(p).__name__}")
            if not p.is_leaf:
                raise ValueError(f"{type(self).__name__}: can't optimize a computed tensor, only leaves")
            if id(p) in known:
                raise ValueError(f"{type(self).__name__}: a parameter of shape {tuple(p.shape)} appears twice")
            known.add(id(p))
        self.param_groups.append({**self.defaults, **param_group, "params": params})

    @no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Change every parameter that has a gradient. `closure`, if given, computes and returns the loss first."""
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        if replay.active and (watching := replay.recording()) is not None:
            self._take_part(watching)
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                self._update(params, group)
        return loss

    def _update(self, params: list[Tensor], group: dict[str, Any]) -> None:
        """Change a group's parameters, all of which have gradients, and count the writes."""
        raise NotImplementedError

    # --- In a captured step, see cuda.compile_step -------------------------------------------------------------------

    capturable = False  # whether `_update` bakes in no number that changes from step to step

    def _take_part(self, recording: Recording) -> None:
        """Tell the recording of a step that this optimizer is about to update."""
        if self not in recording.optimizers:
            recording.optimizers.append(self)
        if not recording.capturing:
            return
        if not self.capturable:
            raise NotImplementedError(
                f"{type(self).__name__}: a captured step would repeat its learning rate and counts as they are now; "
                "Adam, AdamW and SGD can be captured"
            )
        if self in recording.captured:
            raise NotImplementedError(f"{type(self).__name__}: a captured step may step each optimizer once")
        recording.captured.append(self)
        params = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        counting = [state for p in params if "step" in (state := self.state.get(p, {}))]
        before = [state["step"] for state in counting]

        def count() -> None:  # what `_update` does on the host
            for p in params:
                p.version[0] += 1
            for state in counting:
                state["step"] += 1

        def undo() -> None:
            for state, step in zip(counting, before, strict=True):
                state["step"] = step

        recording.add(count, undo)

    def fixed(self, replays: int) -> tuple[list[Any], list[Any]]:
        """What a captured step relies on: the arrays, each to be the very same, and the rest, to be equal."""
        params = [p for group in self.param_groups for p in group["params"]]
        states = [self.state.get(p, {}) for p in params]
        arrays = [p.array for p in params]
        arrays += [x for state in states for x in state.values() if not isinstance(x, (int, float))]
        free = ("params", "lr", "initial_lr")
        settings = [{k: v for k, v in group.items() if k not in free} for group in self.param_groups]
        steps = [state["step"] - replays for state in states if "step" in state]
        return arrays, [*settings, [p.requires_grad for p in params], steps]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, or set them to zero."""
        for group in self.param_groups:
            for p in group["params"]:
                if set_to_none:
                    p.grad = None
                elif p.grad is not None:
                    p.grad.zero_()

    def state_dict(self) -> dict[str, Any]:
        """Settings and state, with parameters as numbers in order: what `load_state_dict` takes."""
        number = {id(p): i for i, p in enumerate(p for group in self.param_groups for p in group["params"])}
        state = {
            number[id(p)]: {k: v if isinstance(v, (int, float)) else Tensor.make(v) for k, v in values.items()}
            for p, values in self.state.items()
        }
        groups = [{**group, "params": [number[id(p)] for p in group["params"]]} for group in self.param_groups]
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a saved state. ValueError, with nothing changed, if groups or shapes do not match."""
        saved = state_dict["param_groups"]
        lengths = [len(group["params"]) for group in self.param_groups]
        if [len(group["params"]) for group in saved] != lengths:
            raise ValueError(f"load_state_dict: saved groups do not have the {lengths} parameters of this optimizer")
        params = [p for group in self.param_groups for p in group["params"]]
        state: dict[Tensor, dict[str, Any]] = {}
        for number, values in state_dict["state"].items():
            p = params[int(number)]
            state[p] = {}
            for key, value in values.items():
                if isinstance(value, Tensor):
                    if value.array.shape != p.array.shape:
                        raise ValueError(
                            f"load_state_dict: '{key}' of parameter {number} has shape {tuple(value.shape)}, "
                            f"expected {tuple(p.shape)}"
                        )
                    value = to_device(value.array, p.device).copy()
                state[p][key] = value
        self.state = state
        for group, other in zip(self.param_groups, saved, strict=True):
            group.update({k: tuple(v) if isinstance(v, list) else v for k, v in other.items() if k != "params"})


def memory(state: dict[str, Any], key: str, p: Tensor) -> Array:
    """The array that `state` remembers for p under `key`: zeros at first; it follows p to another device or dtype."""
    if key not in state:
        if capturing():
            raise RuntimeError(
                f"optimizer: a parameter of shape {tuple(p.shape)} has its first gradient while its step is being "
                "captured; every parameter that gets one must get it in the calls before, too"
            )
        state[key] = of(p.array).zeros_like(p.array)
    elif device_of(state[key]) != p.device or state[key].dtype != p.dtype:
        state[key] = to_device(state[key], p.device).astype(p.dtype)
    return state[key]


def check_range(owner: str, name: str, value: float, low: float, high: float = float("inf")) -> None:
    """Raise ValueError unless low <= value < high (so never NaN)."""
    if not low <= value < high:
        bound = f">= {low}" if high == float("inf") else f"in [{low}, {high})"
        raise ValueError(f"{owner}: invalid {name}: got {value}, expected a number {bound}")
