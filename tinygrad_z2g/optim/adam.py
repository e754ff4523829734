"""What Adam and AdamW have beyond the core: torch's further settings, and their checks.

The optimizers stand in `core/optimizers.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..core import optimizers
from ..core.attach import attach
from ..tensor import Tensor
from .optimizer import Optimizer, check_implementation, check_range, climbing

__all__ = ["Adam", "AdamW"]


class AdamMethods:
    """What is attached to `Adam`."""

    remembers: dict[str, type] | None = {"exp_avg": Tensor, "exp_avg_sq": Tensor, "step": int}  # noqa: RUF012 - never changed

    def __init__(
        self: Any, params: Iterable, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
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
        self.check_settings(type(self).__name__, defaults)  # before `betas` becomes a tuple
        Optimizer.__init__(self, params, {**defaults, "betas": tuple(betas)})


class AdamWMethods:
    """What is attached to `AdamW`."""

    def __init__(
        self: Any, params: Iterable, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 0.01, amsgrad: bool = False, **settings: Any,
    ):  # fmt: skip
        Adam.__init__(self, params, lr, betas, eps, weight_decay, amsgrad, **settings)


if TYPE_CHECKING:  # who checks types sees so what is attached

    class Adam(AdamMethods, Optimizer, optimizers.Adam): ...

    class AdamW(AdamWMethods, Adam, optimizers.AdamW): ...

else:
    Adam, AdamW = optimizers.Adam, optimizers.AdamW
    attach(Adam, AdamMethods)
    attach(AdamW, AdamWMethods)
