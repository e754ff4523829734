"""Optimizers: what changes the weights, given their gradients. And the clipping of gradients that are too long.

They know nothing of models, losses or graphs: a parameter, its gradient and what was remembered of earlier ones are all
they see. So they work on arrays, and nothing is recorded.
"""

from __future__ import annotations

import math
import numbers
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..arrays.backend import Array, of, silent
from .engine import source
from .modes import enable_grad, grad_mode
from .tensor import Tensor


class Optimizer:
    """Base class. A subclass says in `_change` how a parameter changes, and in `defaults` which settings it has.

    `param_groups` are dicts, each with "params" and settings; `state[parameter]` is what its update remembers.
    """

    def __init__(self, params: Iterable, defaults: dict[str, Any]):
        if isinstance(params, Tensor):
            raise TypeError(f"{type(self).__name__}: expected an iterable of Tensors or dicts, got one Tensor")
        if callable(params) and not isinstance(params, Iterable):  # a module, or a method that was not called
            raise TypeError(f"{type(self).__name__}: expected model.parameters(), got a {type(params).__name__}")
        self.defaults = defaults
        self.param_groups: list[dict[str, Any]] = []
        self.state: dict[Tensor, dict[str, Any]] = defaultdict(dict)
        groups = list(params)
        if not groups:
            raise ValueError(f"{type(self).__name__}: got an empty parameter list; does the model have parameters?")
        for group in groups if isinstance(groups[0], dict) else [{"params": groups}]:
            self.add_param_group(group)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with settings of their own: {"params": [...], "lr": 0.1}; the rest are the defaults."""
        name = type(self).__name__
        if not isinstance(param_group, dict) or "params" not in param_group:
            raise TypeError(f"{name}: expected a dict with 'params', got {type(param_group).__name__}")
        params = param_group["params"]
        params = [params] if isinstance(params, Tensor) else list(params)
        known = {p for group in self.param_groups for p in group["params"]}
        for p in params:
            if not isinstance(p, Tensor):
                raise TypeError(f"{name}: can optimize Tensors, as of model.parameters(), got {type(p).__name__}")
            if source(p) is not p:
                raise ValueError(f"{name}: can't optimize a computed tensor, only leaves")
            if p in known:
                raise ValueError(f"{name}: a parameter of shape {tuple(p.shape)} appears twice, in two groups")
        if len(set(params)) < len(params):
            warnings.warn(f"{name}: a parameter appears twice in a group: each step moves it twice", stacklevel=5)
        group = {**self.defaults, **param_group, "params": params}
        self.check_settings(name, group)
        self.param_groups.append(group)

    def check_settings(self, name: str, settings: dict[str, Any]) -> None:
        """Raise ValueError or TypeError, in the name of `name`, if a group's settings are none for this optimizer."""

    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Change every parameter that has a gradient. `closure`, if given, computes and returns the loss first."""
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        outer = grad_mode.enabled
        try:  # before the mode changes, so that Ctrl-C at any moment restores it
            grad_mode.enabled = False  # an update of the user's own may work on tensors
            for group in self.param_groups:
                params = [p for p in group["params"] if p._grad is not None]
                if params:
                    self._update(params, group)
        finally:
            grad_mode.enabled = outer
        return loss

    def _update(self, params: list[Tensor], group: dict[str, Any]) -> None:
        """Change a group's parameters, all of which have gradients, and count the writes."""
        for p in params:
            self._change(p, p._grad.array, group)
            p.memory.writes += 1

    def _change(self, p: Tensor, g: Array, group: dict[str, Any]) -> None:
        """Change p, whose gradient is g."""
        raise NotImplementedError

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, or set them to zero."""
        for group in self.param_groups:
            for p in group["params"]:
                if set_to_none:
                    p._grad = None
                elif p._grad is not None:
                    p._grad.node, p._grad._requires_grad = None, False  # nor their history
                    p._grad.array[...] = 0
                    p._grad.memory.writes += 1


class SGD(Optimizer):
    """w -= lr · g: a step down the slope. (With momentum, see `optim/sgd.py`: a ball that keeps rolling.)"""

    def __init__(self, params: Iterable, lr: float = 1e-3):
        check_range("SGD", "learning rate", lr, 0)
        super().__init__(params, {"lr": lr})

    def _change(self, p: Tensor, g: Array, group: dict[str, Any]) -> None:
        p.array -= group["lr"] * g


class Adam(Optimizer):
    """A step of about lr for every weight, whatever the size of its gradients: the mean gradient over its spread.

    m = β₁ m + (1 - β₁) g;  v = β₂ v + (1 - β₂) g²;  w -= lr m̂ / (√v̂ + ε),  m̂ = m / (1 - β₁ᵗ),  v̂ = v / (1 - β₂ᵗ).
    `weight_decay` adds weight_decay · w to g. (Kingma & Ba 2015, arXiv:1412.6980)
    """

    decoupled = False  # whether the weight decay acts on w itself, not through g

    def __init__(
        self, params: Iterable, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):  # fmt: skip
        check_range(type(self).__name__, "learning rate", lr, 0)
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def check_settings(self, name: str, settings: dict[str, Any]) -> None:
        """Raise ValueError or TypeError unless the settings are numbers in range."""
        check_range(name, "learning rate", settings["lr"])  # below 0 is where a schedule may have led it
        betas = settings["betas"]
        if not isinstance(betas, (list, tuple)) or len(betas) != 2:
            raise TypeError(f"{name}: invalid betas: got {betas!r}, expected two numbers")
        check_range(name, "beta 1", betas[0], 0, 1)
        check_range(name, "beta 2", betas[1], 0, 1)
        check_range(name, "eps", settings["eps"], 0)
        check_range(name, "weight_decay", settings["weight_decay"], 0)

    def _change(self, p: Tensor, g: Array, group: dict[str, Any]) -> None:
        w, state, decay, (beta1, beta2) = p.array, self.state[p], group["weight_decay"], group["betas"]
        if not self.decoupled and decay:
            g = g + decay * w  # the gradient of L + weight_decay / 2 · w²
        if not state:
            state.update(exp_avg=of(w).zeros_like(w), exp_avg_sq=of(w).zeros_like(w), step=0)
        m, v = state["exp_avg"], state["exp_avg_sq"]
        t = state["step"] = state["step"] + 1
        m[...] = beta1 * m + (1 - beta1) * g
        v[...] = beta2 * v + (1 - beta2) * g * g
        move = m / (1 - beta1**t) / ((v / (1 - beta2**t)) ** 0.5 + group["eps"])  # m and v have started at 0
        w -= group["lr"] * (move + decay * w if self.decoupled else move)


class AdamW(Adam):
    """Adam whose weight decay does not pass through m and v: w -= lr (m̂ / (√v̂ + ε) + weight_decay · w).

    So the decay is the same for weights with large and small gradients. (Loshchilov & Hutter 2019, arXiv:1711.05101)
    """

    decoupled = True

    def __init__(
        self, params: Iterable, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 0.01,
    ):  # fmt: skip
        super().__init__(params, lr, betas, eps, weight_decay)


def check_range(owner: str, name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> None:
    """Raise TypeError unless `value` is a number, ValueError unless low <= value < high (so never NaN or infinite)."""
    given = value
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{owner}: invalid {name}: got {value!r}, expected a number")
    if not low <= given < high or given == -math.inf:
        bound = "" if low == -math.inf else f" >= {low}" if high == math.inf else f" in [{low}, {high})"
        raise ValueError(f"{owner}: invalid {name}: got {value}, expected a finite number{bound}")


def clip_grad_norm_(parameters: Iterable[Tensor], max_norm: float) -> Tensor:
    """Scale all gradients by one factor so that their joint norm √(Σ g²) is at most `max_norm`. (Pascanu et al. 2013)

    Returns the norm before scaling, a 0-d tensor.
    """
    grads = [p._grad for p in parameters if p._grad is not None]
    if not grads:
        return Tensor.make(np.zeros((), np.float32))
    total = norm([g.array for g in grads])
    clip([g.array for g in grads], total, max_norm)
    for g in grads:
        g.memory.writes += 1
    return Tensor.make(total.astype(grads[0].array.dtype, copy=False))


@silent  # of gradients that are infinite
def norm(arrays: list[Array]) -> Array:
    """√(Σ x²) over all elements of all arrays, in float64, in which no square overflows."""
    return sum((a.astype(np.float64) ** 2).sum() for a in arrays) ** 0.5


@silent
def clip(arrays: list[Array], total: Array, max_norm: float) -> None:
    """x *= min(1, max_norm / (total + 1e-6)) for every array, where `total` is their norm."""
    factor = of(total).minimum(max_norm / (total + 1e-6), 1)  # to look at the norm would make a GPU wait
    for a in arrays:
        a *= factor.astype(a.dtype)
