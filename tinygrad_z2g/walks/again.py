"""Walks that are recorded themselves: derivatives of derivatives.

The same rules run on tensors instead of arrays, and what they do is recorded like any other operation. A rule that is
a fused routine knows arrays alone; its node then has a `twin`, the same operation composed of others, which is done
again here and walked through.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays.backend import Array, of
from ..core import engine
from ..core.engine import (
    RESULT,
    SETTING,
    Memory,
    Node,
    Variable,
    Walk,
    end,
    match,
    needs_grad,
    record,
    source,
    unchanged,
)
from ..core.modes import grad_mode
from ..walks.joint import record_joint
from ..walks.modes import set_grad_enabled
from .paths import PathWalk

if TYPE_CHECKING:
    from ..tensor import Tensor


class RecordedWalk(Walk):
    """A walk whose gradients are tensors with a history."""

    def send(self, node: Node, edges: list, grad: Any) -> None:
        """As for any walk, with tensors."""
        for target, part in _parts(node, edges, grad):
            self.arrive(target, part)
        if not self.retain_graph:
            node.release()

    def arrive(self, target: Node | Variable, grad: Any) -> None:
        """As for any walk, but never in place: what arrived before is read by rules."""
        grad = match(grad, target)
        if target in self.grads:
            self.grads[target] = self.grads[target] + grad
        else:
            super().arrive(target, grad)


class RecordedPathWalk(PathWalk, RecordedWalk):
    """Both: a recorded walk that keeps to its paths."""


def walk(
    roots: list[tuple[Variable, Any]], retain_graph: bool | None = None, wanted: set[Node | Variable] | None = None,
    create_graph: bool = False,
) -> tuple[dict[Node | Variable, Any], list[tuple[Variable, Any]], set[int]]:  # fmt: skip
    """∂L/∂leaf for every leaf that the roots were computed from, given ∂L/∂root of each; or, for the nodes and leaves
    `wanted`, those of them (see `PathWalk`).

    Returns these gradients, those that tensors asked to keep (`retain_grad`), and the ids of arrays among them that
    somebody else holds too: no tensor may keep such an array as its own. All gradients are arrays, those given too;
    with `create_graph` they are tensors, the walk is recorded, and the graph is kept unless `retain_graph` is False.
    """
    if create_graph and not grad_mode.enabled:
        with set_grad_enabled(True):
            return walk(roots, retain_graph, wanted, True)
    keep = create_graph if retain_graph is None else retain_graph
    if wanted is None:
        way = RecordedWalk(keep) if create_graph else Walk(keep)
        return way.run(roots), way.kept, way.shared
    ends = [source(root) for root, _ in roots]
    chosen = RecordedPathWalk(keep, wanted, ends) if create_graph else PathWalk(keep, wanted, ends)
    grads = chosen.run(roots)
    return chosen.found | grads, chosen.kept, chosen.shared


def backward(
    roots: list[tuple[Variable, Any]], retain_graph: bool | None = None, wanted: set[Node | Variable] | None = None,
    create_graph: bool = False,
) -> None:  # fmt: skip
    """As `engine.backward`, only for the leaves `wanted` and tensors on the way that asked for their gradients; with
    `create_graph` the walk is recorded itself, and the gradients have a history."""
    if wanted is None and not create_graph:
        engine.backward(roots, bool(retain_graph))
        return
    grads, kept, shared = walk(roots, retain_graph, wanted, create_graph)
    # Who is no leaf is among `kept`
    leaves = [(leaf, grad) for leaf, grad in grads.items() if isinstance(leaf, Variable)]
    engine.deposit(leaves + kept, shared)


# --- What rules read, as tensors ---------------------------------------------------------------------------------


def _parts(node: Node, edges: list, grad: Tensor) -> Iterator[tuple[Node | Variable, Any]]:
    """(target, its part of the gradient) for each of the edges: from the rules, on tensors, or from the node's twin."""
    if node.twin is not None:
        function, numbers, origins = node.twin
        inputs = [_revived(grad, node, *pair) for pair in zip(numbers, origins, strict=True)]
        yield from _by_twin(function, inputs, [_target(read[2]) for read in origins], edges, grad)
        return
    reads = iter(node.reads)
    if node.joint is not None:
        rule, numbers = node.joint
        tensors = [_revived(grad, node, x, next(reads)) for x in numbers]
        for edge, part in zip(edges, rule(grad, *tensors), strict=True):
            if edge is not None and part is not None:
                yield edge[0], part
        return
    going = {id(edge) for edge in edges}
    for edge in node.edges or ():
        target, rule, numbers = edge
        tensors = [_revived(grad, node, x, next(reads)) for x in numbers]
        if id(edge) in going:
            yield target, rule(grad, *tensors)


def _revived(like: Variable, node: Node, numbers: Any, read: tuple) -> Any:
    """What a rule reads as a tensor with its history; a setting as it is."""
    origin = read[2]
    if origin is SETTING:
        return numbers
    if type(origin) is tuple:
        remake, ends = origin
        if not any(end is not None for end in ends):
            return with_history(like, numbers, None)
        return remake(numbers, *[None if end is None else with_history(like, _blank(end), end) for end in ends])
    return with_history(like, numbers, node if origin is RESULT else origin)


def with_history(like: Variable, array: Array, end: Node | Variable | None) -> Tensor:
    """A tensor of these numbers, whose gradient goes to `end`: the node that made them or the tensor that held them."""
    if isinstance(end, Variable):
        if end.array is array:
            return end  # type: ignore[return-value]  # every Variable is a Tensor
        end = source(end) if needs_grad(end) else None
        if isinstance(end, Variable):
            end = Node("leaf", array, [(end, unchanged, ())], None, [])  # its .data were replaced, or these are a copy
    x = like.make(array)
    x.node, x._requires_grad = end, end is not None
    return x


def _target(origin: Any) -> Node | Variable | None:
    """Where the gradient of a twin's input from there goes. (What is `Derived` there is a copy of a tensor.)"""
    if type(origin) is tuple:
        origin = origin[1][0]
    if isinstance(origin, Variable):
        return source(origin) if needs_grad(origin) else None
    return origin if isinstance(origin, Node) else None


def _blank(end: Node | Variable) -> Array:
    """An array as `end` has it, but for its numbers."""
    if isinstance(end, Variable):
        return end.array
    return np.broadcast_to(np.zeros((), end.dtype), end.shape)


# --- Operations with a twin --------------------------------------------------------------------------------------


def record_fused(name: str, array: Array, *edges: tuple, twin: tuple) -> Tensor:
    """`record` for an operation whose rules know arrays alone. `twin` is `(function, *inputs)`, the same composed."""
    result = record(name, array, *edges)
    if result.node is not None:
        live = [edge for edge in edges if isinstance(edge[0], Variable) and edge[0]._requires_grad]
        result.node.twin = _kept(twin, [read for edge in live for read in edge[2:]])
    return result


def record_joint_fused(name: str, array: Array, inputs: tuple, rule: Callable, *reads: Any, twin: tuple) -> Tensor:
    """`record_joint` for an operation whose rule knows arrays alone. `twin` is `(function, *inputs)`."""
    result = record_joint(name, array, inputs, rule, *reads)
    if result.node is not None:
        result.node.twin = _kept(twin, reads)
    return result


def linear_rule(name: str, back: Callable[[Array], Array], there: Callable[[Array], Array]) -> Any:
    """The rule of z = A x, where A is linear: ∂L/∂x = Aᵀ grad. `back` computes Aᵀ grad, `there` A x, both on arrays.

    A gradient that is a tensor (in a walk that is recorded) gives a tensor: Aᵀ grad is linear in grad, its rule is A.
    The rule may be told to read tensors, such as indices, that `back` and `there` know already: then these are watched.
    """

    @functools.wraps(back)
    def rule(grad: Any, *watched: Any) -> Any:
        if isinstance(grad, Variable):
            return record(name, back(grad.array), (grad, linear_rule(name, there, back), *watched))
        return back(grad)

    return rule


def _kept(twin: tuple, reads: Any) -> tuple:
    """(function, numbers of its inputs, where they come from). Numbers that no rule reads are not kept, for no gradient
    depends on them: zeros stand for them."""
    function, *inputs = twin
    numbers: list = []
    origins: list = []
    for x in inputs:
        numbers.append(engine.read(x, x, origins))
        if not any(read is x for read in reads):
            numbers[-1] = of(x.array).broadcast_to(of(x.array).zeros((), x.array.dtype), x.array.shape)
            origins[-1] = Memory(), 0, end(x)
    return function, numbers, origins


def _by_twin(
    function: Callable[..., Tensor], inputs: list, ends: list, edges: list, grad: Tensor
) -> Iterator[tuple[Node | Variable, Any]]:
    """The parts of a gradient from the operation done again, with operations that have rules for tensors."""
    targets = {edge[0] for edge in edges if edge is not None}
    again = [record("alias", x.array, (x, unchanged)) if needs_grad(x) else x for x in inputs]
    ways = [(x, end) for x, y, end in zip(again, inputs, ends, strict=True) if x is not y and end in targets]
    z = function(*again)
    grads = walk([(z, grad)], True, {source(x) for x, _ in ways}, True)[0] if needs_grad(z) else {}
    for x, target in ways:
        if x.node in grads:
            yield target, grads[x.node]
        else:  # z does not depend on it: an LSTM of no steps
            yield target, x.make(of(x.array).zeros_like(x.array))
