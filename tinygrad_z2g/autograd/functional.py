"""Derivatives of a function at a point: what torch.autograd.functional offers.

Each takes a function of tensors and its inputs, one tensor or a tuple, and returns numbers, not a function. The
results have a history only with `create_graph`. `strict` makes an error of an output that does not depend on an input;
else its derivative is 0. `vectorize` is accepted: it changes nothing here. The work is done in `func.py`; this
file knows nothing of graphs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..core.engine import needs_grad
from ..func import Level, by_columns, by_rows, ones_like, pusher
from ..tensor import Tensor
from ..walks.modes import enable_grad

__all__ = ["hessian", "hvp", "jacobian", "jvp", "vhp", "vjp"]


def _tuple(name: str, what: str, given: Any) -> tuple[Tensor, ...]:
    """One tensor or several, as a tuple."""
    found = tuple(given) if isinstance(given, (tuple, list)) else (given,)
    for x in found:
        if not isinstance(x, Tensor):
            raise TypeError(f"{name}: expected {what} to be a Tensor or a tuple of Tensors, got {type(x).__name__}")
    return found


class _Call:
    """`func` called with stand-ins for the inputs: what it returned, and the way back."""

    def __init__(self, name: str, func: Callable, inputs: Any, create_graph: bool, strict: bool):
        self.name, self.one, self.strict = name, not isinstance(inputs, (tuple, list)), strict
        self.level = Level(list(_tuple(name, "the inputs", inputs)), name, create_graph)
        with enable_grad():
            result = func(*self.level.xs)
        self.outputs = list(_tuple(name, "the outputs", result))
        self.one_output = not isinstance(result, (tuple, list))
        self.create_graph = create_graph and self.level.live(self.outputs)
        self.check(self.outputs, "output")

    def check(self, zs: list[Tensor], what: str) -> None:
        """If strict, RuntimeError unless all of zs depend on all inputs."""
        for i, z in enumerate(zs if self.strict else ()):
            if missing := self.level.unused(z):
                raise RuntimeError(
                    f"{self.name}: {what} {i} does not depend on input {missing[0]}, which strict forbids"
                )

    def vectors(self, v: Any, like: list[Tensor], scalar: bool) -> list[Tensor]:
        """v as a list; None stands for 1, if `like` is one number."""
        if v is None:
            if not scalar:
                raise RuntimeError(f"{self.name}: v may only be left out where it is one number; give a Tensor")
            return [ones_like(x) for x in like]
        vs = _tuple(self.name, "v", v)
        got, want = [tuple(x.shape) for x in vs], [tuple(x.shape) for x in like]
        if got != want:
            raise RuntimeError(f"{self.name}: v has the shapes {got}, expected {want}")
        return [x if x.dtype == z.dtype else x.to(z.dtype) for x, z in zip(vs, like, strict=True)]

    def gradients(self) -> list[Tensor]:
        """The gradient of the result, which must be one number, to be differentiated again."""
        if not self.one_output or self.outputs[0].numel() != 1:
            raise RuntimeError(f"{self.name}: expected the function to return one Tensor with one element")
        with enable_grad():
            found = self.level.pull(self.outputs, [ones_like(self.outputs[0])], True)
        self.check(found, "the gradient of input")
        return found

    def given(self, zs: list[Tensor], one: bool) -> Any:
        """Results as the caller gets them: a tensor if he gave one."""
        found = self.level.given(zs)
        return found[0] if one else tuple(found)


def jacobian(
    func: Callable, inputs: Any, create_graph: bool = False, strict: bool = False, vectorize: bool = False,
    strategy: str = "reverse-mode",
) -> Any:  # fmt: skip
    """∂zᵢ/∂xⱼ of shape (*z.shape, *x.shape); of several outputs or inputs a tuple (of tuples) of them.

    `strategy`: "reverse-mode" goes by rows, "forward-mode" by columns.
    >>> z2g.autograd.functional.jacobian(lambda x: x * x, z2g.tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 4.]])
    """
    if strategy not in ("reverse-mode", "forward-mode"):
        raise ValueError(f"jacobian: strategy is 'reverse-mode' or 'forward-mode', got {strategy!r}")
    call = _Call("jacobian", func, inputs, create_graph, strict)
    with call.level as level, enable_grad():
        method = by_rows if strategy == "reverse-mode" else by_columns
        blocks = method(level, call.outputs, call.create_graph)
        rows = tuple(call.given(row, call.one) for row in blocks)
        return rows[0] if call.one_output else rows


def hessian(
    func: Callable, inputs: Any, create_graph: bool = False, strict: bool = False, vectorize: bool = False,
    outer_jacobian_strategy: str = "reverse-mode",
) -> Any:  # fmt: skip
    """∂²z/∂xᵢ∂xⱼ of a function whose result is one number; of several inputs a tuple of tuples.

    >>> z2g.autograd.functional.hessian(lambda x: x[0] ** 2 * x[1], z2g.tensor([1.0, 2.0]))
    tensor([[4., 2.],
            [2., 0.]])
    """
    one = not isinstance(inputs, (tuple, list))

    def gradient(*xs: Tensor) -> Any:
        call = _Call("hessian", func, xs, True, strict)
        with call.level:
            return call.given(call.gradients(), one)

    return jacobian(gradient, inputs, create_graph, strict, vectorize, outer_jacobian_strategy)


def vjp(func: Callable, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> tuple:
    """func(inputs) and vᵀ J; v has the form of the outputs, and may be left out for one number.

    >>> z2g.autograd.functional.vjp(lambda x: x * x, z2g.tensor([1.0, 2.0]), z2g.tensor([1.0, 10.0]))
    (tensor([1., 4.]), tensor([ 2., 40.]))
    """
    call = _Call("vjp", func, inputs, create_graph, strict)
    with call.level as level, enable_grad():
        vs = call.vectors(v, call.outputs, call.one_output and call.outputs[0].numel() == 1)
        recorded = create_graph and (call.create_graph or any(map(needs_grad, vs)))
        found = level.pull(call.outputs, vs, recorded)
        return call.given(call.outputs, call.one_output), call.given(found, call.one)


def jvp(func: Callable, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> tuple:
    """func(inputs) and J v; v has the form of the inputs, and may be left out for one number.

    >>> z2g.autograd.functional.jvp(lambda x: x * x, z2g.tensor([1.0, 2.0]), z2g.tensor([1.0, 10.0]))
    (tensor([1., 4.]), tensor([ 2., 40.]))
    """
    call = _Call("jvp", func, inputs, create_graph, strict)
    with call.level as level, enable_grad():
        vs = call.vectors(v, level.xs, call.one and level.xs[0].numel() == 1)
        recorded = create_graph and (call.create_graph or any(map(needs_grad, vs)))
        found = pusher(level, call.outputs)(vs, recorded)
        return call.given(call.outputs, call.one_output), call.given(found, call.one_output)


def vhp(func: Callable, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> tuple:
    """func(inputs) and vᵀ H, H the matrix of second derivatives: a walk back through the gradient, from v.

    >>> z2g.autograd.functional.vhp(lambda x: x[0] ** 2 * x[1], z2g.tensor([1.0, 2.0]), z2g.tensor([1.0, 1.0]))
    (tensor(2.), tensor([6., 2.]))
    """
    return _times_hessian("vhp", func, inputs, v, create_graph, strict)


def hvp(func: Callable, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> tuple:
    """func(inputs) and H v: the same as `vhp`, for H is symmetric.

    >>> z2g.autograd.functional.hvp(lambda x: x[0] ** 2 * x[1], z2g.tensor([1.0, 2.0]), z2g.tensor([1.0, 1.0]))
    (tensor(2.), tensor([6., 2.]))
    """
    return _times_hessian("hvp", func, inputs, v, create_graph, strict)


def _times_hessian(name: str, func: Callable, inputs: Any, v: Any, create_graph: bool, strict: bool) -> tuple:
    call = _Call(name, func, inputs, create_graph, strict)
    with call.level as level, enable_grad():
        gradients = call.gradients()
        vs = call.vectors(v, level.xs, call.one and level.xs[0].numel() == 1)
        recorded = create_graph and (call.create_graph or any(map(needs_grad, vs)))
        found = level.pull(gradients, vs, recorded)
        return call.given(call.outputs, call.one_output), call.given(found, call.one)
