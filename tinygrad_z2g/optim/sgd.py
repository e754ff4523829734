"""Stochastic gradient descent.

It knows nothing of models, losses or graphs: a parameter, its gradient and a momentum are all it sees.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .. import fast
from ..arrays.backend import quiet
from ..gpu import replay
from ..gpu.replay import number
from ..tensor import Tensor
from .optimizer import Optimizer, check_implementation, check_range, climbing, memory, uphill


class SGD(Optimizer):
    """w -= lr · v, where v = g, or with momentum v = momentum · v + (1 - dampening) · g: a ball that keeps rolling.

    The first step takes v = g. `nesterov` looks ahead: w -= lr · (g + momentum · v). `weight_decay` adds
    weight_decay · w to g, `maximize` climbs. (Polyak 1964; Sutskever et al. 2013)
    """

    capturable = True
    remembers = {"momentum_buffer": Tensor}  # noqa: RUF012 - never changed

    def __init__(
        self, params: Iterable, lr: float = 1e-3, momentum: float = 0.0, dampening: float = 0.0,
        weight_decay: float = 0.0, nesterov: bool = False, *, maximize: bool = False, foreach: bool | None = None,
        differentiable: bool = False, fused: bool | None = None,
    ):  # fmt: skip
        check_implementation("SGD", foreach=foreach, differentiable=differentiable, fused=fused)
        defaults = {"lr": lr, "momentum": momentum, "dampening": dampening}
        defaults |= {"weight_decay": weight_decay, "nesterov": nesterov, **climbing("SGD", maximize)}
        check_range("SGD", "learning rate", lr, 0)
        self.check_settings("SGD", defaults)
        super().__init__(params, defaults)

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

    def _update(self, params: list[Tensor], group: dict[str, Any]) -> None:
        if group["momentum"] or group["weight_decay"]:
            quiet.run(self._move, params, group)
        else:  # a plain step goes beyond the largest number only with a model that is lost; 2 % of a small step's time
            self._move(params, group)

    def _move(self, params: list[Tensor], group: dict[str, Any]) -> None:
        lr, momentum, decay = group["lr"], group["momentum"], group["weight_decay"]
        for p in params:
            g = uphill(p._grad.array, group)
            if decay:
                g = g + decay * p.array
            if momentum:
                state = self.state.setdefault(p, {})
                first = "momentum_buffer" not in state
                v = memory(state, "momentum_buffer", p)
                v *= momentum
                v += g if first else (1 - group["dampening"]) * g
                g = g + momentum * v if group["nesterov"] else v
            fast.sgd(p.array, g, number(lambda: group["lr"], p.dtype) if replay.active else lr)
            p.memory.writes += 1
