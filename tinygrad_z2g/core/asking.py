"""What a caller may ask of a backward pass, checked: the gradient to start with, whose `.grad`, which one to keep.

It knows nothing of how gradients are computed.
"""

from __future__ import annotations

import weakref
from typing import Any

from ..arrays.backend import device_of, of
from .engine import Node, Variable, match, needs_grad, source


def seed_gradient(root: Variable, gradient: Variable | None, create_graph: bool = False) -> Any:
    """The gradient that a backward pass starts with: 1 for a scalar, otherwise what the caller gave, checked. An array;
    if the walk is to be recorded, a tensor."""
    if not root._requires_grad and not needs_grad(root):
        raise RuntimeError("backward: this tensor does not require grad and has no grad_fn; nothing to differentiate")
    array = root.array
    if gradient is None:
        if array.size != 1:
            raise RuntimeError(
                f"backward: grad can be implicitly created only for scalar outputs, got shape {tuple(array.shape)}; "
                "reduce it first (.sum(), .mean()) or pass gradient="
            )
        one = of(array).array(1, array.dtype).reshape(array.shape)  # a quarter of the time of ones_like
        return root.make(one) if create_graph else one
    if not isinstance(gradient, Variable):
        raise TypeError(f"backward: gradient must be a Tensor or None, got {type(gradient).__name__}")
    if gradient.array.shape != array.shape:
        raise RuntimeError(
            f"backward: gradient has shape {tuple(gradient.array.shape)}, expected the tensor's {tuple(array.shape)}"
        )
    if gradient.array.device != array.device:  # asked of the arrays: a tenth of the time of `device_of`
        raise RuntimeError(f"backward: gradient is on {device_of(gradient.array)}, the tensor on {device_of(array)}")
    if not create_graph:
        return gradient.array if gradient.array.dtype is array.dtype else gradient.array.astype(array.dtype, copy=False)
    return match(gradient, root)


def wanted(inputs: Any) -> set[Node | Variable]:
    """Where the gradients of `inputs` go, the tensors that alone shall get a `.grad`."""
    xs = (inputs,) if isinstance(inputs, Variable) else tuple(inputs)
    if not xs:
        raise RuntimeError("backward: inputs is empty; leave it out to fill the .grad of every leaf")
    for x in xs:
        if not isinstance(x, Variable):
            raise TypeError(f"backward: inputs must be Tensors, got {type(x).__name__}")
        if not needs_grad(x):
            raise RuntimeError("backward: one of the inputs does not require grad; call requires_grad_() on it first")
        keep_grad(x)
    return {source(x) for x in xs}


def keep_grad(x: Variable) -> None:
    """Let a walk give `x` a `.grad` though it is no leaf."""
    made_by = source(x)
    if made_by is not x:
        made_by.kept_by = weakref.ref(x)  # weak: the node must not keep the tensor alive


def check_gradient(x: Variable, grad: Any) -> None:
    """Raise TypeError or RuntimeError unless `grad` may be assigned as the gradient of x."""
    if not isinstance(grad, Variable):
        raise TypeError(f"grad: expected a Tensor or None, got {type(grad).__name__}")
    if grad is x:
        raise RuntimeError("grad: a tensor cannot be its own gradient; assign a clone()")
    got, want = ((tuple(a.shape), a.dtype, device_of(a)) for a in (grad.array, x.array))
    if got != want:
        told = [f"shape {shape}, {dtype}, on {device}" for shape, dtype, device in (got, want)]
        raise RuntimeError(f"grad: assigned a gradient of {told[0]}; expected {told[1]}, as its tensor")
