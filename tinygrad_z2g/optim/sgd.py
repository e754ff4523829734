"""What SGD has beyond the core: momentum, torch's further settings, and their checks.

The optimizer stands in `core/optimizers.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..arrays.backend import Array
from ..core import optimizers
from ..core.attach import attach
from ..tensor import Tensor
from .optimizer import Optimizer, check_implementation, check_range, climbing, memory

__all__ = ["SGD"]


class SGDMethods:
    """What is attached to `SGD`: w -= lr · v, where v = momentum · v + (1 - dampening) · g, a ball that keeps rolling.

    The first step takes v = g. `nesterov` looks ahead: w -= lr · (g + momentum · v). `weight_decay` adds
    weight_decay · w to g, `maximize` climbs. (Polyak 1964; Sutskever et al. 2013)
    """

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

    def _change(self: Any, p: Tensor, g: Array, group: dict[str, Any]) -> None:
        p.array -= group["lr"] * self._direction(p, g, group)

    def _direction(self: Any, p: Tensor, g: Array, group: dict[str, Any]) -> Array:
        """What is subtracted lr times."""
        if group["weight_decay"]:
            g = g + group["weight_decay"] * p.array
        if not group["momentum"]:
            return g
        state, momentum = self.state[p], group["momentum"]
        first = "momentum_buffer" not in state
        v = memory(state, "momentum_buffer", p)
        v *= momentum
        v += g if first else (1 - group["dampening"]) * g
        return g + momentum * v if group["nesterov"] else v

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
