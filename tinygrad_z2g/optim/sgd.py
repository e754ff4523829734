"""What SGD has beyond the core: torch's further settings, and their checks.

The optimizer stands in `core/optimizers.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..core import optimizers
from ..core.attach import attach
from ..tensor import Tensor
from .optimizer import Optimizer, check_implementation, check_range, climbing

__all__ = ["SGD"]


class SGDMethods:
    """What is attached to `SGD`. `maximize` climbs."""

    remembers: dict[str, type] | None = {"momentum_buffer": Tensor}  # noqa: RUF012 - never changed

    def __init__(
        self: Any, params: Iterable, lr: float = 1e-3, momentum: float = 0.0, dampening: float = 0.0,
        weight_decay: float = 0.0, nesterov: bool = False, *, maximize: bool = False, foreach: bool | None = None,
        differentiable: bool = False, fused: bool | None = None,
    ):  # fmt: skip
        check_implementation("SGD", foreach=foreach, differentiable=differentiable, fused=fused)
        defaults = {"lr": lr, "momentum": momentum, "dampening": dampening}
        defaults |= {"weight_decay": weight_decay, "nesterov": nesterov, **climbing("SGD", maximize)}
        check_range("SGD", "learning rate", lr, 0)
        self.check_settings("SGD", defaults)
        Optimizer.__init__(self, params, defaults)

    def check_settings(self, name: str, settings: dict[str, Any]) -> None:
        """Raise ValueError or TypeError unless the settings are numbers in range, and fit each other."""
        check_range(name, "learning rate", settings["lr"])  # below 0 is where a schedule may have led it
        check_range(name, "momentum", settings["momentum"], 0)
        check_range(name, "dampening", settings["dampening"])
        check_range(name, "weight_decay", settings["weight_decay"], 0)
        if not isinstance(settings["nesterov"], bool):
            raise TypeError(f"{name}: invalid nesterov: got {settings['nesterov']!r}, expected True or False")
        if settings["nesterov"] and (settings["momentum"] <= 0 or settings["dampening"] != 0):
            raise ValueError(f"{name}: nesterov needs momentum > 0 and dampening = 0")


if TYPE_CHECKING:  # who checks types sees so what is attached

    class SGD(SGDMethods, Optimizer, optimizers.SGD): ...

else:
    SGD = optimizers.SGD
    attach(SGD, SGDMethods)
