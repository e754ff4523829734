"""Hooks on the backward pass of a whole module: what reaches its outputs, and what leaves its inputs.

A node that passes its gradients on stands before the module and one behind it, and asks the hooks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ..autograd import Function
from ..core.engine import needs_grad
from ..core.modes import is_grad_enabled
from ..core.operands import is_tensor

if TYPE_CHECKING:
    from ..core.module import Module


class _Passage(Function):
    """Its arguments themselves. Their gradients, when all are there, go through `told`, which may change them."""

    @staticmethod
    def forward(ctx: Any, told: Callable, *tensors: Any) -> Any:
        ctx.told = told
        ctx.mark_non_differentiable(*(x for x in tensors if not needs_grad(x)))
        return tensors

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return None, *ctx.told(grads)


class Watched:
    """One call of a module that has such hooks: `entered` gives its arguments, `left` its result."""

    def __init__(self, module: Module, hooks: Iterable[tuple[bool, Callable]]):
        self.module = module
        self.pre_hooks, self.hooks = ([hook for pre, hook in hooks if pre == kind] for kind in (True, False))
        self.inputs: list[int] = []  # which of the arguments are tensors, if any of them wants a gradient
        self.outputs: list[int] = []  # and of the results
        self.n_inputs = self.n_outputs = 0
        self.flowing: list[bool] = []  # whether each of the results has a gradient
        self.grad_output: tuple | None = None  # between the two nodes

    def entered(self, args: tuple) -> tuple:
        """The arguments, behind the first node."""
        self.n_inputs = len(args)
        self.inputs, args = _passed(args, self._leave)
        return args

    def left(self, result: Any) -> Any:
        """The result, a tensor or a tuple, before the second node. Tensors that lie deeper are not watched."""
        several = isinstance(result, tuple)
        results = result if several else (result,)
        self.n_outputs = len(results)
        self.flowing = [needs_grad(x) for x in results]
        self.outputs, results = _passed(results, self._arrive)
        return results if several else results[0]

    def _arrive(self, grads: tuple) -> list:
        """The gradients of the outputs are there."""
        grad_output = _spread(grads, self.outputs, self.n_outputs)
        grad_output = tuple(g if flows else None for g, flows in zip(grad_output, self.flowing, strict=True))
        for hook in self.pre_hooks:
            grad_output = _answer(hook(self.module, grad_output), grad_output, "pre hook", "grad_output")
        self.grad_output = grad_output
        if not self.inputs:  # then no gradient will leave, and the hooks hear of it now
            for hook in self.hooks:
                if any(g is not None for g in hook(self.module, (None,) * self.n_inputs, grad_output) or ()):
                    raise RuntimeError("backward hook: no input of the module requires a gradient; return None")
            self.grad_output = None
        return [grad_output[i] for i in self.outputs]

    def _leave(self, grads: tuple) -> Any:
        """The gradients of the inputs are there."""
        if self.grad_output is None:  # they came to the inputs by another way than through the module
            return grads
        grad_input = _spread(grads, self.inputs, self.n_inputs)
        for hook in self.hooks:
            grad_input = _answer(hook(self.module, grad_input, self.grad_output), grad_input, "hook", "grad_input")
        self.grad_output = None
        return [grad_input[i] for i in self.inputs]


def _passed(values: tuple, told: Callable) -> tuple[list[int], tuple]:
    """Which of the values are tensors; and the values, these through a node. None, if no gradient will come there."""
    if not (is_grad_enabled() and any(map(needs_grad, values))):
        return [], values
    places = [i for i, value in enumerate(values) if is_tensor(value)]
    found = list(values)
    for i, value in zip(places, _Passage.apply(told, *(values[i] for i in places)), strict=True):
        found[i] = value
    return places, type(values)(*found) if hasattr(values, "_fields") else tuple(found)


def _spread(grads: tuple, places: list[int], n: int) -> tuple:
    """The gradients at their places, None elsewhere."""
    known = dict(zip(places, grads, strict=True))
    return tuple(known.get(i) for i in range(n))


def _answer(changed: Any, before: tuple, kind: str, what: str) -> tuple:
    """What a hook returned in place of the gradients, or these, if it returned None."""
    if changed is None:
        return before
    changed = changed if isinstance(changed, (tuple, list)) else (changed,)
    if len(changed) != len(before):
        got = f"got {len(changed)}, but expected {len(before)}"
        raise RuntimeError(f"backward {kind}: returned an invalid number of {what}, {got}")
    for new, old in zip(changed, before, strict=True):
        if new is not None and not (is_tensor(new) and old is not None and _kind(new) == _kind(old)):
            raise RuntimeError(f"backward {kind}: returned {_kind(new)} in {what}, expected {_kind(old)}, or None")
    return tuple(changed)


def _kind(gradient: Any) -> str:
    if not is_tensor(gradient):
        return str(gradient)
    return f"a gradient of shape {tuple(gradient.shape)}, {gradient.dtype}"
