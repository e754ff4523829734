"""Optimizers that give each weight a rate of its own, beside Adam: RMSprop and its relatives.

They know nothing of models, losses or graphs: a parameter, its gradient and some averages are all they see.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from ..arrays.backend import Array, of, silent
from ..tensor import Tensor
from .optimizer import Optimizer, check_implementation, check_range, climbing, memory, uphill

Betas = tuple[float, float]


class _PerWeight(Optimizer):
    """What they share: checks, weight decay (weight_decay · w is added to g), and a count of steps."""

    remembers = {"step": int}  # noqa: RUF012 - never changed
    bounds = {"eps": 0, "weight_decay": 0}  # noqa: RUF012 - the least that a setting may be

    def __init__(
        self, params: Iterable, lr: float, *, maximize: bool = False, foreach: bool | None = None,
        capturable: bool = False, differentiable: bool = False, fused: bool | None = None, **defaults: Any,
    ):  # fmt: skip
        name = type(self).__name__
        check_implementation(
            name, foreach=foreach, capturable=capturable, differentiable=differentiable, fused=fused
        )
        check_range(name, "learning rate", lr, 0)
        defaults = {"lr": lr, **defaults, **climbing(name, maximize)}
        self.check_settings(name, defaults)
        super().__init__(params, defaults)

    def check_settings(self, name: str, settings: dict[str, Any]) -> None:
        """Raise ValueError or TypeError unless the settings are numbers in range."""
        check_range(name, "learning rate", settings["lr"])  # below 0 is where a schedule may have led it
        for key, low in self.bounds.items():
            check_range(name, key, settings[key], low)
        for i, beta in enumerate(settings.get("betas", ())):
            check_range(name, f"beta {i + 1}", beta, 0, 1)

    @silent
    def _update(self, params: list[Tensor], group: dict[str, Any]) -> None:
        for p in params:
            state, g = self.state[p], uphill(p._grad.array, group)
            if group.get("weight_decay"):
                if group.get("decoupled_weight_decay"):
                    p.array *= 1 - group["lr"] * group["weight_decay"]
                else:
                    g = g + group["weight_decay"] * p.array
            state["step"] = state.get("step", 0) + 1
            self._move(p, g, state, group)
            p.memory.writes += 1

    def _move(self, p: Tensor, g: Array, state: dict[str, Any], group: dict[str, Any]) -> None:
        """Change p, whose gradient is g."""
        raise NotImplementedError


def _averaged(state: dict[str, Any], key: str, p: Tensor, new: Array, keep: float) -> Array:
    """The running average: keep · old + (1 - keep) · new, remembered."""
    average = memory(state, key, p)
    average *= keep
    average += (1 - keep) * new
    return average


class RMSprop(_PerWeight):
    """w -= lr · g / (√v + ε), v = α v + (1 - α) g²: each weight's steps, measured by its usual gradient, are equally
    long.

    With `momentum`, b = momentum · b + g / (√v + ε) and w -= lr · b. `centered` takes the variance v - m² for v, m the
    average of g. (Hinton, lecture 6e, 2012)
    """

    remembers = {"step": int, "square_avg": Tensor, "momentum_buffer": Tensor, "grad_avg": Tensor}  # noqa: RUF012
    sometimes = ("momentum_buffer", "grad_avg")
    bounds = {"alpha": 0, "eps": 0, "weight_decay": 0, "momentum": 0}  # noqa: RUF012

    def __init__(
        self, params: Iterable, lr: float = 1e-2, alpha: float = 0.99, eps: float = 1e-8, weight_decay: float = 0.0,
        momentum: float = 0.0, centered: bool = False, capturable: bool = False, foreach: bool | None = None,
        maximize: bool = False, differentiable: bool = False,
    ):  # fmt: skip
        super().__init__(
            params, lr, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum, centered=centered,
            capturable=capturable, foreach=foreach, maximize=maximize, differentiable=differentiable,
        )  # fmt: skip

    def _move(self, p: Tensor, g: Array, state: dict[str, Any], group: dict[str, Any]) -> None:
        v = _averaged(state, "square_avg", p, g * g, group["alpha"])
        if group["centered"]:
            m = _averaged(state, "grad_avg", p, g, group["alpha"])
            v = v - m * m
        change = g / (of(v).sqrt(v) + group["eps"])
        if group["momentum"]:
            b = memory(state, "momentum_buffer", p)
            b *= group["momentum"]
            b += change
            change = b
        p.array -= group["lr"] * change


class Adagrad(_PerWeight):
    """w -= lr / (1 + (t - 1) lr_decay) · g / (√s + ε), s the sum of all g² so far: rare features keep large steps.

    (Duchi et al. 2011)
    """

    remembers = {"step": int, "sum": Tensor}  # noqa: RUF012
    bounds = {"lr_decay": 0, "weight_decay": 0, "initial_accumulator_value": 0, "eps": 0}  # noqa: RUF012

    def __init__(
        self, params: Iterable, lr: float = 1e-2, lr_decay: float = 0.0, weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0, eps: float = 1e-10, foreach: bool | None = None, *,
        maximize: bool = False, differentiable: bool = False, fused: bool | None = None,
    ):  # fmt: skip
        super().__init__(
            params, lr, lr_decay=lr_decay, weight_decay=weight_decay, eps=eps,
            initial_accumulator_value=initial_accumulator_value, foreach=foreach, maximize=maximize,
            differentiable=differentiable, fused=fused,
        )  # fmt: skip

    def _move(self, p: Tensor, g: Array, state: dict[str, Any], group: dict[str, Any]) -> None:
        first = "sum" not in state
        s = memory(state, "sum", p)
        if first:
            s += group["initial_accumulator_value"]
        s += g * g
        rate = group["lr"] / (1 + (state["step"] - 1) * group["lr_decay"])
        p.array -= rate * (g / (of(s).sqrt(s) + group["eps"]))


class Adadelta(_PerWeight):
    """w -= lr · d, d = √(u + ε) / √(v + ε) · g, with v and u the running averages of g² and d²: steps in the units of
    w.

    (Zeiler 2012, arXiv:1212.5701)
    """

    remembers = {"step": int, "square_avg": Tensor, "acc_delta": Tensor}  # noqa: RUF012

    def __init__(
        self, params: Iterable, lr: float = 1.0, rho: float = 0.9, eps: float = 1e-6, weight_decay: float = 0.0,
        foreach: bool | None = None, *, capturable: bool = False, maximize: bool = False, differentiable: bool = False,
    ):  # fmt: skip
        check_range("Adadelta", "rho", rho, 0, math.nextafter(1, 2))
        super().__init__(
            params, lr, rho=rho, eps=eps, weight_decay=weight_decay, foreach=foreach, capturable=capturable,
            maximize=maximize, differentiable=differentiable,
        )  # fmt: skip

    def _move(self, p: Tensor, g: Array, state: dict[str, Any], group: dict[str, Any]) -> None:
        xp, eps = of(g), group["eps"]
        v = _averaged(state, "square_avg", p, g * g, group["rho"])
        u = memory(state, "acc_delta", p)
        d = xp.sqrt(u + eps) / xp.sqrt(v + eps) * g
        _averaged(state, "acc_delta", p, d * d, group["rho"])
        p.array -= group["lr"] * d


class Adamax(_PerWeight):
    """w -= lr / (1 - β₁ᵗ) · m / u, m the running average of g, u = max(β₂ u, |g| + ε): Adam with the largest gradient
    in place of the mean square. (Kingma & Ba 2015)"""

    remembers = {"step": int, "exp_avg": Tensor, "exp_inf": Tensor}  # noqa: RUF012

    def __init__(
        self, params: Iterable, lr: float = 2e-3, betas: Betas = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 0.0, foreach: bool | None = None, *, maximize: bool = False,
        differentiable: bool = False, capturable: bool = False,
    ):  # fmt: skip
        super().__init__(
            params, lr, betas=tuple(betas), eps=eps, weight_decay=weight_decay, foreach=foreach, maximize=maximize,
            differentiable=differentiable, capturable=capturable,
        )  # fmt: skip

    def _move(self, p: Tensor, g: Array, state: dict[str, Any], group: dict[str, Any]) -> None:
        xp, (beta1, beta2) = of(g), group["betas"]
        m, u = _averaged(state, "exp_avg", p, g, beta1), memory(state, "exp_inf", p)
        u[...] = xp.maximum(u * beta2, xp.abs(g) + group["eps"])
        p.array -= group["lr"] / (1 - beta1 ** state["step"]) * (m / u)


class NAdam(_PerWeight):
    """Adam that looks ahead: its step takes the mean gradient as the next one will have it, with μₜ = β₁ (1 - ½ 0.96^(t
    ψ)).

    w -= lr ((1 - μₜ) g / (1 - Πμ) + μₜ₊₁ m / (1 - Πμ μₜ₊₁)) / (√v̂ + ε), ψ = `momentum_decay`. (Dozat 2016)
    """

    remembers = {"step": int, "mu_product": float, "exp_avg": Tensor, "exp_avg_sq": Tensor}  # noqa: RUF012
    bounds = {"eps": 0, "weight_decay": 0, "momentum_decay": 0}  # noqa: RUF012

    def __init__(
        self, params: Iterable, lr: float = 2e-3, betas: Betas = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 0.0, momentum_decay: float = 4e-3, decoupled_weight_decay: bool = False, *,
        foreach: bool | None = None, maximize: bool = False, capturable: bool = False, differentiable: bool = False,
    ):  # fmt: skip
        super().__init__(
            params, lr, betas=tuple(betas), eps=eps, weight_decay=weight_decay, momentum_decay=momentum_decay,
            decoupled_weight_decay=decoupled_weight_decay, foreach=foreach, maximize=maximize, capturable=capturable,
            differentiable=differentiable,
        )  # fmt: skip

    def _move(self, p: Tensor, g: Array, state: dict[str, Any], group: dict[str, Any]) -> None:
        t, (beta1, beta2), decay = state["step"], group["betas"], group["momentum_decay"]
        mu, following = (beta1 * (1 - 0.5 * 0.96 ** (s * decay)) for s in (t, t + 1))
        product = state["mu_product"] = state.get("mu_product", 1.0) * mu
        m, v = _averaged(state, "exp_avg", p, g, beta1), _averaged(state, "exp_avg_sq", p, g * g, beta2)
        spread = of(v).sqrt(v / (1 - beta2**t)) + group["eps"]
        p.array -= group["lr"] * (1 - mu) / (1 - product) * (g / spread)
        p.array -= group["lr"] * following / (1 - product * following) * (m / spread)


class RAdam(_PerWeight):
    """Adam whose early steps, for which √v̂ rests on few gradients, are plain momentum: w -= lr m̂ until ρₜ > 5, then
    w -= lr r m̂ / (√v̂ + ε'), with r = √((ρₜ - 4)(ρₜ - 2) ρ∞ / ((ρ∞ - 4)(ρ∞ - 2) ρₜ)), ρ∞ = 2 / (1 - β₂) - 1,
    ρₜ = ρ∞ - 2 t β₂ᵗ / (1 - β₂ᵗ). (Liu et al. 2020, arXiv:1908.03265)"""

    remembers = {"step": int, "exp_avg": Tensor, "exp_avg_sq": Tensor}  # noqa: RUF012

    def __init__(
        self, params: Iterable, lr: float = 1e-3, betas: Betas = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 0.0, decoupled_weight_decay: bool = False, *, foreach: bool | None = None,
        maximize: bool = False, capturable: bool = False, differentiable: bool = False,
    ):  # fmt: skip
        super().__init__(
            params, lr, betas=tuple(betas), eps=eps, weight_decay=weight_decay,
            decoupled_weight_decay=decoupled_weight_decay, foreach=foreach, maximize=maximize, capturable=capturable,
            differentiable=differentiable,
        )  # fmt: skip

    def _move(self, p: Tensor, g: Array, state: dict[str, Any], group: dict[str, Any]) -> None:
        t, (beta1, beta2) = state["step"], group["betas"]
        m, v = _averaged(state, "exp_avg", p, g, beta1), _averaged(state, "exp_avg_sq", p, g * g, beta2)
        rate = group["lr"] / (1 - beta1**t)
        most = 2 / (1 - beta2) - 1
        rho = most - 2 * t * beta2**t / (1 - beta2**t)
        if rho <= 5:
            p.array -= rate * m
            return
        r = math.sqrt((rho - 4) * (rho - 2) * most / ((most - 4) * (most - 2) * rho))
        p.array -= rate * r * math.sqrt(1 - beta2**t) * (m / (of(v).sqrt(v) + group["eps"]))


class ASGD(_PerWeight):
    """SGD whose average of the weights, `state[p]["ax"]`, is what to keep: w -= η (g + λ w), η = lr / (1 + λ lr t)^α.

    The average starts after step `t0`. (Polyak & Juditsky 1992)
    """

    remembers = {"step": int, "eta": float, "mu": float, "ax": Tensor}  # noqa: RUF012
    bounds = {"weight_decay": 0}  # noqa: RUF012

    def __init__(
        self, params: Iterable, lr: float = 1e-2, lambd: float = 1e-4, alpha: float = 0.75, t0: float = 1e6,
        weight_decay: float = 0.0, foreach: bool | None = None, maximize: bool = False, differentiable: bool = False,
        capturable: bool = False,
    ):  # fmt: skip
        super().__init__(
            params, lr, lambd=lambd, alpha=alpha, t0=t0, weight_decay=weight_decay, foreach=foreach,
            maximize=maximize, differentiable=differentiable, capturable=capturable,
        )  # fmt: skip

    def _move(self, p: Tensor, g: Array, state: dict[str, Any], group: dict[str, Any]) -> None:
        lr, lambd, t = group["lr"], group["lambd"], state["step"]
        eta, mu, ax = state.get("eta", float(lr)), state.get("mu", 1.0), memory(state, "ax", p)
        p.array *= 1 - lambd * eta
        p.array -= eta * g
        ax += (p.array - ax) * mu
        state["eta"] = lr / (1 + lambd * lr * t) ** group["alpha"]
        state["mu"] = 1 / max(1, t - group["t0"])


class Rprop(_PerWeight):
    """w -= d sign g: only the sign counts, and the step d of each weight grows (η₊) while it stays and shrinks (η₋)
    when it turns, where that one step is left out. For whole batches. (Riedmiller & Braun 1993)"""

    remembers = {"step": int, "prev": Tensor, "step_size": Tensor}  # noqa: RUF012
    bounds = {}  # noqa: RUF012

    def __init__(
        self, params: Iterable, lr: float = 1e-2, etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50.0), *, capturable: bool = False, foreach: bool | None = None,
        maximize: bool = False, differentiable: bool = False,
    ):  # fmt: skip
        if not 0 < etas[0] < 1 < etas[1]:
            raise ValueError(f"Rprop: invalid etas: got {etas}, expected 0 < first < 1 < second")
        super().__init__(
            params, lr, etas=tuple(etas), step_sizes=tuple(step_sizes), capturable=capturable, foreach=foreach,
            maximize=maximize, differentiable=differentiable,
        )  # fmt: skip

    def _move(self, p: Tensor, g: Array, state: dict[str, Any], group: dict[str, Any]) -> None:
        xp, (shrink, grow), (least, most) = of(g), group["etas"], group["step_sizes"]
        first = "prev" not in state
        before, d = memory(state, "prev", p), memory(state, "step_size", p)
        if first:
            d += group["lr"]
        same = xp.sign(g * before)
        d[...] = xp.clip(d * xp.where(same > 0, grow, xp.where(same < 0, shrink, 1)), least, most)
        g = xp.where(same < 0, 0, g)
        p.array -= xp.sign(g) * d
        before[...] = g
