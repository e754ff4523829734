"""Fast forms of the optimizers' updates and of what is done with all gradients at once.

Each takes the place of the plain form of the same name in `core/optimizers.py`, by the two tables at the end, unless
TINYGRAD_Z2G_PLAIN=1 asks for the plain ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .. import fast
from ..arrays.backend import Array, quiet, silent
from ..core import optimizers
from ..optim.optimizer import memory, uphill
from ..tensor import Tensor
from . import forms


def sgd(self: optimizers.SGD, params: list[Tensor], group: dict[str, Any]) -> None:
    """The last line of `SGD._change` by a routine of its own: compiled for large parameters."""
    if group["momentum"] or group["weight_decay"]:
        quiet.run(_sgd, self, params, group)
    else:  # a plain step goes beyond the largest number only with a model that is lost; 2 % of a small step's time
        _sgd(self, params, group)


def _sgd(self: Any, params: list[Tensor], group: dict[str, Any]) -> None:
    lr, downhill = group["lr"], not group.get("maximize")
    plain = not (group["momentum"] or group["weight_decay"])
    for p in params:
        w, g = p.array, p._grad.array
        if not downhill:
            g = -g
        if not plain:
            g = self._direction(p, g, group)
        if w.size < fast.LARGE:  # `fast.sgd` would do the same: a third of a small parameter's time
            w -= lr * g
        else:
            fast.sgd(w, g, lr)
        p.memory.writes += 1


@silent
def adam(self: Any, params: list[Tensor], group: dict[str, Any]) -> None:
    """All parameters at once, without temporaries; compiled or in one launch where they are large or on a card."""
    decay = group["weight_decay"] if self.decoupled else 0.0
    for turn in turns(params) if len(set(params)) < len(params) else [params]:
        arrays, parts = [p.array for p in turn], _parts(self, turn, group)
        fast.adam_all(arrays, parts, group["lr"], *group["betas"], group["eps"], decay)


def _parts(
    self: optimizers.Adam, params: list[Tensor], group: dict[str, Any]
) -> Iterator[tuple[Array, Array, Array, Array, int]]:
    """w, g, m, v and the number of the step of each parameter, prepared as its turn comes."""
    for p in params:
        grad, state = uphill(p._grad.array, group), self.state[p]
        if group["weight_decay"] and not self.decoupled:
            grad = grad + group["weight_decay"] * p.array
        m, v = memory(state, "exp_avg", p), memory(state, "exp_avg_sq", p)
        state["step"] = state.get("step", 0) + 1
        yield p.array, grad, m, v, state["step"]
        p.memory.writes += 1


def turns(params: list[Tensor]) -> list[list[Tensor]]:
    """The parameters, each once; then those that are there a second time, and so on: a kernel may move all at once."""
    turns: list[dict[int, Tensor]] = []  # by id
    for p in params:
        turn = next((turn for turn in turns if id(p) not in turn), None)
        if turn is None:
            turns.append({id(p): p})
        else:
            turn[id(p)] = p
    return [list(turn.values()) for turn in turns]


UPDATES: dict[Any, Any] = {optimizers.SGD: sgd, optimizers.Adam: adam}
FORMS = {"norm": fast.norm, "clip": fast.clip}

if not forms.plain():
    for kind, update in UPDATES.items():
        kind._update = update
    for name, form in FORMS.items():
        setattr(optimizers, name, form)
