"""What a caller may ask of a backward pass: to keep a gradient on the way, to show it to hooks, to start with another
one; checked.

It knows nothing of how gradients are computed: the walk calls what stands in `asked` of a node or a leaf.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from ..arrays.backend import device_of
from ..core.engine import Node, Variable, Walk, match, needs_grad, seed, source
from .modes import set_grad_enabled


class Asked:
    """What is asked of the gradient of one node or leaf. The walk calls it with the gradient when that is complete.

    hooks    {key: function}, called with the gradient in turn
    after    {key: function}, of a leaf, called with it when the gradient has been added to its `.grad`
    kept_by  weak reference to a tensor in between that wants it as its `.grad` (retain_grad), or None
    """

    __slots__ = ("after", "hooks", "kept_by", "like")

    def __init__(self, like: Variable):
        self.hooks: dict[int, Callable] = {}
        self.after: dict[int, Callable] = {}
        self.kept_by: Callable[[], Variable | None] | None = None
        self.like = type(like).make  # a function of the class, not the tensor, which nobody may keep alive

    def __call__(self, walk: Walk, grad: Any) -> Any:
        """The gradient that the walk goes on with."""
        if self.hooks:
            walk.shared.add(id(grad))  # a hook may keep what it was shown, and what it returned
            with set_grad_enabled(isinstance(grad, Variable)):
                grad = self._shown(grad)
            walk.shared.add(id(grad))
        if self.kept_by and (tensor := self.kept_by()) is not None:
            walk.kept.append((tensor, grad))
            walk.shared.add(id(grad))
        return grad

    def tell(self, leaf: Variable, grad: Any) -> None:
        """The gradient has been added to the leaf's."""
        with set_grad_enabled(isinstance(grad, Variable)):
            for hook in list(self.after.values()):
                if (returned := hook(leaf)) is not None:  # refused, as in torch: it would change nothing
                    raise RuntimeError(
                        f"post accumulate grad hook: returned {type(returned).__name__}, expected None; "
                        "to change the gradient, write to x.grad"
                    )

    def _shown(self, grad: Any) -> Any:
        """Show the gradient to each hook; what a hook returns, if not None, replaces it."""
        for hook in list(self.hooks.values()):
            replacement = hook(grad if isinstance(grad, Variable) else self.like(grad))
            if replacement is not None:
                if not isinstance(replacement, Variable):
                    raise TypeError(f"hook: returned {type(replacement).__name__}, expected a Tensor or None")
                got, want = replacement.array, (tuple(grad.shape), grad.dtype)
                if (tuple(got.shape), got.dtype) != want:
                    raise RuntimeError(
                        f"hook: returned {tuple(got.shape)} of {got.dtype}, expected {want[0]} of {want[1]}"
                    )
                grad = replacement if isinstance(grad, Variable) else got
        return grad


def asked_of(x: Variable) -> Asked:
    """What is asked of the gradient of x, to be added to."""
    owner = source(x)
    if owner.asked is None:
        owner.asked = Asked(x)
    return owner.asked


def hooks_of(owner: Node | Variable) -> dict[int, Callable]:
    """The hooks of a node or leaf, to look at."""
    return {} if owner.asked is None else owner.asked.hooks


def hooks_after(x: Variable) -> dict[int, Callable]:
    """What is to be called when the gradient of the leaf x has been added to its `.grad`, to be added to."""
    if source(x) is not x or not x._requires_grad:
        raise RuntimeError(
            "register_post_accumulate_grad_hook: expected a leaf that requires grad; see register_hook for others"
        )
    return asked_of(x).after


def keep_grad(x: Variable) -> None:
    """Let a walk give `x` a `.grad` though it is no leaf."""
    if source(x) is not x:
        asked_of(x).kept_by = weakref.ref(x)  # weak: the node must not keep the tensor alive


def keeps_grad(x: Variable) -> bool:
    """Whether x is no leaf and asked for its gradient."""
    made_by = source(x)
    kept_by = made_by.asked.kept_by if isinstance(made_by, Node) and made_by.asked is not None else None
    return kept_by is not None and kept_by() is x


def follow(x: Variable, old: Node | None) -> None:
    """`x` has a new node: what `retain_grad` asked of the old one is asked of that. Hooks stay, as in torch."""
    asked = None if old is None else old.asked
    if asked is not None and asked.kept_by is not None and asked.kept_by() is x:
        asked_of(x).kept_by, asked.kept_by = asked.kept_by, None


def seed_gradient(root: Variable, gradient: Variable | None, create_graph: bool = False) -> Any:
    """As `engine.seed`; if the walk is to be recorded, a tensor."""
    numbers = seed(root, gradient)
    if not create_graph:
        return numbers
    return root.make(numbers) if gradient is None else match(gradient, root)


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
