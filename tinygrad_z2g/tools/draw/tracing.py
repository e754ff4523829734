"""Taking notes while a model runs: which module made which operation, and with what value.

The graph keeps neither, and a program that draws nothing pays nothing. On request, hooks on the modules say who is
being called, and for as long as the context lasts each new node is noted as it is made.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ...arrays.backend import Array, to_host
from ...core.engine import Node
from ...nn import Module
from ...tensor import Tensor
from ..notebook import table
from ..trace import Observer, observers


class Call:
    """One call of a module: the module, its dotted name, and the tensors without gradient that it was given."""

    def __init__(self, name: str, module: Module):
        self.name, self.module = name, module
        self.inputs: list[Input] = []


class Input:
    """A tensor that the graph does not hold, as it needs no gradient, given to a module inside the calls `home`."""

    def __init__(self, x: Tensor, home: tuple[Call, ...]):
        self.tensor, self.home = weakref.ref(x), home
        self.shape, self.value, self.table = tuple(x.array.shape), numbers(x.array), table(to_host(x.array))


class Note(NamedTuple):
    """Of a node: the calls around it, outermost first, its value as a text, and as much of it as a table can show."""

    calls: tuple[Call, ...]
    text: tuple[str, str]
    table: dict[str, Any]


# Of each node made under tracing, as long as it lives
notes: weakref.WeakKeyDictionary[Node, Note] = weakref.WeakKeyDictionary()


class tracing(Observer):
    """`with draw.tracing(model): loss = ...` lets `draw(loss)` show the modules, and the values in between.

    Takes any number of modules, also none. Operations inside are slower, and a GPU is waited for. TypeError for what
    is no module.
    """

    def __init__(self, *modules: Module):
        for module in modules:
            if not isinstance(module, Module):
                raise TypeError(f"draw.tracing: expected Modules, got {type(module).__name__}")
        self._modules = modules

    def __enter__(self) -> None:
        self._calls: list[Call] = []
        self._seen: list[Input] = []
        self._handles = []
        inner = {part for module in self._modules for name, part in module.named_modules() if name}
        for module in dict.fromkeys(m for m in self._modules if m not in inner):  # each part by its outermost name
            for name, part in module.named_modules():
                self._handles.append(part.register_forward_pre_hook(self._entering(name)))
                self._handles.append(part.register_forward_hook(self._leaving))
        observers.append(self)

    def __exit__(self, *exc_info: object) -> None:
        observers.remove(self)
        for handle in self._handles:
            handle.remove()

    def computed(self, name: str, array: Array, inputs: Any) -> None:
        """Look at the result of an operation."""
        self._result = array

    def recorded(self, node: Node) -> None:
        """Note the calls around an operation, and what it made."""
        notes[node] = Note(tuple(self._calls), numbers(self._result), table(to_host(self._result)))

    def _entering(self, name: str) -> Callable[[Module, tuple], None]:
        def hook(module: Module, args: tuple) -> None:
            call = Call(name, module)
            for x in args:
                if isinstance(x, Tensor) and not x.requires_grad:
                    given = next((i for i in self._seen if i.tensor() is x), None) or Input(x, tuple(self._calls))
                    self._seen.append(given)
                    call.inputs.append(given)
            self._calls.append(call)

        return hook

    def _leaving(self, module: Module, args: tuple, output: Any) -> None:
        while self._calls and self._calls.pop().module is not module:
            pass  # a call that an exception has ended


# --- Numbers as text ---------------------------------------------------------------------------------------------


def numbers(array: Array) -> tuple[str, str]:
    """A few numbers in full, ("{}", "[1, 2]"), many as their norm, ("|{}|", "3.21"). Waits for a GPU.

    Integers, which are mostly indices, by their range.
    """
    host = to_host(array)
    if host.size and host.dtype.kind != "f":
        return "{}", f"{host.min()} … {host.max()}" if host.size > 1 else str(host.item())
    text = _nested(host.tolist()) if host.size <= 6 else ""
    if text and len(text) <= 32:
        return "{}", text
    if host.size and host.dtype.kind == "f" and not np.isfinite(host).all():
        return "{}", f"{int((~np.isfinite(host)).sum())} of {host.size} not finite"
    return "|{}|", f"{norm(host):.4g}"


def norm(array: Array) -> float:
    """The Euclidean norm √Σ x², computed in float64 on the host."""
    return float(np.linalg.norm(to_host(array).astype(np.float64).ravel()))


def _nested(values: Any) -> str:
    if isinstance(values, list):
        return "[" + ", ".join(map(_nested, values)) + "]"
    return f"{values:.4g}"
