"""Adam and AdamW.

It knows nothing of models, losses or graphs: a parameter, its gradient and two averages are all it sees.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from .. import fast
from ..arrays.backend import Array, silent
from ..gpu.replay import capturing
from ..tensor import Tensor
from .optimizer import Optimizer, check_implementation, check_range, climbing, memory, uphill


class Adam(Optimizer):
    """A step of about lr for every weight, whatever the size of its gradients: the mean gradient over its spread.

    m = β₁ m + (1 - β₁) g;  v = β₂ v + (1 - β₂) g²;  w -= lr m̂ / (√v̂ + ε),  m̂ = m / (1 - β₁ᵗ),  v̂ = v / (1 - β₂ᵗ).
    `weight_decay` adds weight_decay · w to g. (Kingma & Ba 2015, arXiv:1412.6980)
    """

    capturable = True
    remembers = {"exp_avg": Tensor, "exp_avg_sq": Tensor, "step": int}  # noqa: RUF012 - never changed
    decoupled = False  # whether the weight decay acts on w itself, not through g

    def __init__(
        self, params: Iterable, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 0.0, amsgrad: bool = False, *, foreach: bool | None = None, maximize: bool = False,
        capturable: bool = False, differentiable: bool = False, fused: bool | None = None,
    ):  # fmt: skip
        check_implementation(
            type(self).__name__, amsgrad=amsgrad, foreach=foreach, capturable=capturable,
            differentiable=differentiable, fused=fused,
        )  # fmt: skip
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        defaults |= climbing(type(self).__name__, maximize)
        check_range(type(self).__name__, "learning rate", lr, 0)
        self.check_settings(type(self).__name__, defaults)
        super().__init__(params, {**defaults, "betas": tuple(betas)})

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

    @silent
    def _update(self, params: list[Tensor], group: dict[str, Any]) -> None:
        decay = group["weight_decay"] if self.decoupled else 0.0
        parts = self._parts(params, group)
        lr = (lambda: group["lr"]) if capturing() else group["lr"]  # a replay asks anew
        fast.adam_all([p.array for p in params], parts, lr, *group["betas"], group["eps"], decay)

    def _parts(self, params: list[Tensor], group: dict[str, Any]) -> Iterator[tuple[Array, Array, Array, Array, int]]:
        """w, g, m, v and the number of the step of each parameter, prepared as its turn comes."""
        for p in params:
            grad, state = uphill(p._grad.array, group), self.state.setdefault(p, {})
            if group["weight_decay"] and not self.decoupled:
                grad = grad + group["weight_decay"] * p.array  # the gradient of L + weight_decay / 2 · w²
            m, v = memory(state, "exp_avg", p), memory(state, "exp_avg_sq", p)
            state["step"] = state.get("step", 0) + 1
            yield p.array, grad, m, v, state["step"]
            p.memory.writes += 1


class AdamW(Adam):
    """Adam whose weight decay does not pass through m and v: w -= lr (m̂ / (√v̂ + ε) + weight_decay · w).

    So the decay is the same for weights with large and small gradients. (Loshchilov & Hutter 2019, arXiv:1711.05101)
    """

    decoupled = True

    def __init__(
        self, params: Iterable, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 0.01, amsgrad: bool = False, **settings: Any,
    ):  # fmt: skip
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, **settings)
