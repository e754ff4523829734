"""Second derivatives, measured: the function whose gradient is checked is itself a gradient, x, v ↦ vᵀ ∂f/∂x."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...arrays import backend
from ...core.engine import source
from ...tensor import Tensor
from ...walks.again import walk
from ...walks.modes import enable_grad
from . import STEP, GradcheckError, _checked, _outputs, _weights, compare


def gradgradcheck(
    fn: Callable[..., Any], inputs: Tensor | Sequence[Any], grad_outputs: Any = None, *, eps: float = STEP,
    atol: float = 1e-7, rtol: float = 1e-6, seed: int = 0, raise_exception: bool = True,
) -> bool:  # fmt: skip
    """Compare second derivatives of `fn(*inputs)` with central differences of its gradient. Returns whether they agree.

    The gradient of <v, f(x)> is a function like any other, of x and of v; `gradcheck` is asked whether a backward pass
    through that one, recorded by `create_graph`, gives what is measured. `grad_outputs`, v: a tensor for each output
    that requires grad, or one; None draws them. A gradient that is constant (of a staircase: 0) may have no history.
    Compared as well: the gradient of the recorded walk with that of a plain one.

    What is raised is what `gradcheck` raises, and RuntimeError for grad_outputs of other shapes than the outputs.
    """
    gradient, xs = gradient_of(fn, inputs, grad_outputs, seed)
    report = compare(gradient, xs, eps=eps, atol=atol, rtol=rtol, seed=seed)
    message = gradient.differs(xs) or report.message
    if message and raise_exception:
        raise GradcheckError(f"gradgradcheck: {message}")
    return not message


def gradient_of(
    fn: Callable[..., Any], inputs: Tensor | Sequence[Any], grad_outputs: Any = None, seed: int = 0
) -> tuple[Gradient, list]:
    """The gradient of `fn` as a function, and its inputs: those of fn and then a gradient for each output."""
    if not callable(fn):
        raise TypeError(f"gradgradcheck: expected a function or module first, then its inputs, got {type(fn).__name__}")
    if not isinstance(inputs, (Tensor, Sequence)):
        raise TypeError(f"gradgradcheck: expected a Tensor or a sequence of inputs, got {type(inputs).__name__}")
    inputs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    if not _checked(fn, inputs):
        raise ValueError("gradgradcheck: no input requires grad; there is nothing to check")
    gradient = Gradient(fn, len(inputs))
    with enable_grad():
        outputs = gradient.outputs(inputs)
    if not outputs:
        raise ValueError("gradgradcheck: no output requires grad; does the function detach its inputs?")
    if grad_outputs is None:
        grad_outputs = [
            Tensor.make(backend.to_device(w, z.device)).to(z.dtype).requires_grad_()
            for z, w in zip(outputs, _weights(outputs, seed + 1), strict=True)
        ]
    given = list(grad_outputs) if isinstance(grad_outputs, (tuple, list)) else [grad_outputs]
    got, want = ([tuple(z.shape) for z in several] for several in (given, outputs))
    if got != want:
        raise RuntimeError(f"gradgradcheck: grad_outputs have the shapes {got}, the outputs that require grad {want}")
    return gradient, [*inputs, *given]


class Gradient:
    """x, v ↦ ∂<v, f(x)>/∂x, with a history: what `gradgradcheck` differentiates. Parameters of f count among x."""

    constant = True  # it may be: then it has no history, and its own gradient is 0

    def __init__(self, fn: Callable[..., Any], inputs: int):
        self.fn, self.inputs = fn, inputs
        self.__name__ = f"gradient of {getattr(fn, '__name__', type(fn).__name__)}"

    def named_parameters(self) -> list[tuple[str, Tensor]]:
        """Those of f, if it is a module."""
        return list(self.fn.named_parameters()) if hasattr(self.fn, "named_parameters") else []

    def outputs(self, xs: Sequence[Any]) -> list[Tensor]:
        """The outputs of f that depend on anything differentiable."""
        return [z for z in _outputs(self.fn(*xs)) if z.requires_grad]

    def __call__(self, *args: Any) -> tuple[Tensor, ...]:
        """The gradients of all inputs and parameters that the outputs depend on."""
        xs, vs = args[: self.inputs], args[self.inputs :]
        with enable_grad():
            targets = [source(x) for _, x in _checked(self.fn, xs)]
            found, _, _ = walk(list(zip(self.outputs(xs), vs, strict=True)), True, set(targets), True)
        return tuple(found[target] for target in targets if target in found)

    def differs(self, args: Sequence[Any]) -> str:
        """What the recorded walk computes otherwise than a plain one, which leaves no history; "" if nothing."""
        xs, vs = args[: self.inputs], args[self.inputs :]
        checked = _checked(self.fn, xs)
        with enable_grad():
            outputs = self.outputs(xs)
        found, _, _ = walk(
            [(z, v.array) for z, v in zip(outputs, vs, strict=True)], True, {source(x) for _, x in checked}
        )
        plain = [(name, found[source(x)]) for name, x in checked if source(x) in found]
        recorded = self(*args)
        if len(recorded) != len(plain):
            return f"a recorded walk gives {len(recorded)} gradients, a plain one {len(plain)}"
        for (name, a), b in zip(plain, recorded, strict=True):
            if not np.allclose(backend.to_host(a), backend.to_host(b.array), 1e-9, 1e-9, equal_nan=True):
                return f"the gradient of {name} in a recorded walk is not that of a plain one"
        return ""
