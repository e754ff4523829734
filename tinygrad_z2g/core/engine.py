"""The engine: record what was computed, then walk it backwards.

Reverse-mode automatic differentiation in three ideas.

1. *Record.* Every operation computes its result and leaves a `Node` behind: who its inputs were, and for each input
   a rule that turns ∂L/∂output into ∂L/∂input. The rule is the chain rule with the local derivative filled in.
2. *Walk.* A node is numbered when it is made, and an output is always made after its inputs. So taking the youngest
   node first visits every node after all of its consumers: descending numbers are a topological order.
3. *Add.* A value that was used twice receives two gradients, and its gradient is their sum (`arrive` in `walk`; for
   two backward passes `+=` in `_deposit`): the total derivative sums over all paths.

For L = (x + y) · x the walk is: mul (number 2) sends a gradient to the sum and one to x; add (number 1) sends its
own gradient on to x and to y; x now has two parts and they are added.

The engine knows nothing of the Tensor class beyond `Variable` below, and of arrays little beyond `+`, `sum` and slices.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import fast
from ..arrays.backend import Array, of
from ..arrays.views import Spot
from ..gpu import replay
from ..tools.trace import observers
from .modes import grad_mode, set_grad_enabled

if TYPE_CHECKING:
    from ..tensor import Tensor

Rule = Callable[..., "Array | Part"]  # ∂L/∂output, and the numbers it reads -> ∂L/∂input; reads, never writes


class Variable:
    """What the engine needs to know of a tensor.

    array          the numbers
    _grad          ∂L/∂self after backward, a tensor or None
    _requires_grad whether gradients are wanted, here or at something this was computed from
    node           the operation that made it; None for a leaf. Of a view it may be out of date: ask `source`
    version        [the number of in-place writes], shared by all tensors on the same memory
    base           the tensor that this is a view of (itself no view), or None; a detached tensor is no view
    recorded       how many writes the history of this memory has taken up. A write through a view rewrites the history
                   of its base; a view with another number than its base is out of date, and gets its history from
                   there. Negative (~number) in a view that cannot: it was made under no_grad, or by a Function
    hooks          functions to call with the gradient (leaves only; other tensors keep them on the node)
    """

    __slots__ = ("__weakref__", "_grad", "_requires_grad", "array", "base", "hooks", "node", "recorded", "version")

    array: Array
    _grad: Tensor | None
    hooks: dict[int, Callable] | None
    node: Node | None
    recorded: int
    _requires_grad: bool
    version: list[int]
    base: Variable | None

    def begin(self, array: Array) -> None:
        """Start as a leaf that holds `array` and has no history."""
        self.array = np.asarray(array) if isinstance(array, np.generic) else array  # NumPy returns scalars for 0-d
        self._grad = self.node = self.hooks = self.base = None
        self._requires_grad = False
        self.recorded = 0
        self.version = [0]

    @staticmethod
    def make(array: Array) -> Tensor:
        """A new tensor around `array`, without history."""
        raise NotImplementedError


class Node:
    """One recorded operation.

    It points to the nodes of its inputs and to leaves, never to the tensors in between: an activation that no rule
    reads is freed as soon as the user's code lets go of it. And nothing here points forward, so there is no
    reference cycle: dropping the loss frees the graph at once.
    """

    __slots__ = ("__weakref__", "dtype", "edges", "hooks", "joint", "kept_by", "name", "number", "place", "reads",
                 "shape", "twin")  # fmt: skip

    def __init__(self, name: str, array: Array, edges: list, joint: tuple | None, reads: list, twin: Any = None):
        self.name = name
        self.number = next(_numbers)
        self.shape = array.shape
        self.dtype = array.dtype
        self.edges = edges  # [(Node or leaf, rule, the numbers it reads)], None once the graph has been used up
        self.joint = joint  # one (rule, the numbers it reads) for all edges, or None
        self.reads = reads  # (version, its count when recorded, history) of each of these numbers, in this order
        self.twin = twin  # the operation as a composition of others, for walks that are recorded
        self.hooks = None  # {key: function}, called with the gradient of this node's output
        self.kept_by = None  # weak reference to a tensor that asked for its gradient (retain_grad)
        # place: where it was called; set by `trace` alone

    def inputs(self) -> list[Node | Variable]:
        """Where its gradients go: nodes and leaves. Empty once the graph has been used up."""
        return [edge[0] for edge in self.edges or () if edge is not None]

    def __repr__(self) -> str:
        return f"<{self.name} number={self.number} shape={tuple(self.shape)}>"


class Part:
    """A gradient that is 0 but for one place: what the rule of a slice returns.

    The walk adds it there instead of adding a whole array, mostly of zeros, for each slice: n steps that read x[0],
    x[1], ... of an x of n rows write n rows, not n². (For 64 steps over (32, 64, 128) forward and backward take half
    the time; three slices of (16, 256, 1152) take 4.7 instead of 6.8 ms; tiny ones 0.5 µs more each.)

    array  the numbers
    place  where they belong: an index of integers, slices, None and ...
    """

    __slots__ = ("array", "place")
    shape = None  # it has that of the input, which `match` knows

    def __init__(self, array: Array, place: Any):
        self.array, self.place = array, place


_numbers = itertools.count(1)  # next() on it is atomic, so threads can share it


class _Result:
    """Stands for "this op's own result" among the tensors that a rule reads."""

    def __repr__(self) -> str:
        return "RESULT"


RESULT = _Result()


# --- Recording ---------------------------------------------------------------------------------------------------


class Derived:
    """Numbers that a rule reads though they are neither an operand nor the result: normalised rows, a mask.

    `remake(array, *inputs)` gives them their history, as a tensor, for a walk that is recorded. Of the inputs it may
    use the history alone, not the numbers, which nobody keeps; an input without history is None.
    """

    __slots__ = ("array", "inputs", "remake")

    def __init__(self, array: Array, remake: Callable[..., Tensor], *inputs: Variable):
        self.array, self.remake, self.inputs = array, remake, inputs


_PRIVATE = [0]  # the version of numbers that nobody else can write to


def record(name: str, array: Array, *edges: tuple, twin: tuple | None = None) -> Tensor:
    """Wrap an operation's result, with its rules if any input needs a gradient.

    Each edge is `(input, rule, *reads)`. The rule maps the gradient of the result, and the numbers of what it reads, to
    the gradient of `input`: of z = x y the edge of x is `(x, lambda grad, y: grad * y, y)`. It may return the shape of
    the result where the input was broadcast; the engine sums that back. What is read is a tensor, RESULT for the result
    itself, something `Derived`, or a setting, which is passed as it is. A tensor that was changed in place before
    backward is then an error instead of a wrong gradient. Inputs that need no gradient, or are no tensors, are dropped
    together with their rules.

    A rule is written in what arrays and tensors have in common, so that a walk can be recorded (`create_graph`): then
    it gets tensors. Where it is not, `twin` is `(function, *inputs)`, the same operation composed of others.
    """
    first = edges[0][0]
    result = (first if isinstance(first, Variable) else edges[1][0]).make(array)  # `2 * x` has its tensor second
    ways: list = []
    histories: list = []
    if grad_mode.enabled:
        for edge in edges:
            x = edge[0]
            if isinstance(x, Variable):
                base = x.base
                if base is not None and x.recorded != base.recorded:
                    renew(x)
                if x._requires_grad:
                    numbers: tuple = ()
                    if len(edge) == 3 and isinstance(edge[2], Variable):  # the usual case of `_read`, without its call
                        read = edge[2]
                        histories.append((read.version, read.version[0], read))
                        numbers = (read.array,)
                    elif len(edge) > 2:
                        numbers = tuple([_read(read, result, histories) for read in edge[2:]])
                    node = x.node
                    ways.append((x if node is None else node, edge[1], numbers))
    if observers:
        for observer in observers:
            observer.computed(name, result.array, [edge[0] for edge in edges])
    if ways:
        if twin is not None:
            live = [edge for edge in edges if isinstance(edge[0], Variable) and edge[0]._requires_grad]
            twin = _kept(twin, [read for edge in live for read in edge[2:]])
        node = result.node = object.__new__(Node)  # as Node(...), whose call would cost 0.2 of 3 µs an operation
        node.name, node.number, node.shape, node.dtype = name, next(_numbers), array.shape, array.dtype
        node.edges, node.joint, node.reads, node.twin = ways, None, histories, twin
        node.hooks = node.kept_by = None
        result._requires_grad = True
        if observers:
            for observer in observers:
                observer.recorded(node)
    return result


def record_joint(
    name: str, array: Array, inputs: tuple, rule: Callable, *reads: Any, twin: tuple | None = None
) -> Tensor:
    """As `record`, for an operation whose inputs share their backward work.

    The one `rule` returns a tuple with a gradient per input; None where it was not needed.
    """
    result = next(x for x in inputs if isinstance(x, Variable)).make(array)
    if observers:
        for observer in observers:
            observer.computed(name, result.array, inputs)
    if grad_mode.enabled:
        edges = [(source(x), None, ()) if needs_grad(x) else None for x in inputs]
        if any(edges):
            histories: list = []
            numbers = [_read(read, result, histories) for read in reads]
            twin = None if twin is None else _kept(twin, reads)
            result.node = Node(name, result.array, edges, (rule, numbers), histories, twin)
            result._requires_grad = True
            if observers:
                for observer in observers:
                    observer.recorded(result.node)
    return result


def _read(read: Any, result: Variable, histories: list) -> Any:
    """The numbers of what a rule reads; (its version, the version's count now, its history) is added to `histories`."""
    if isinstance(read, Variable):
        histories.append((read.version, read.version[0], read))
        return read.array
    if read is RESULT:
        histories.append((result.version, result.version[0], RESULT))
        return result.array
    if type(read) is Derived:
        histories.append((_PRIVATE, 0, (read.remake, [_end(x) for x in read.inputs])))
        return read.array
    histories.append((_PRIVATE, 0, _SETTING))
    return read


_SETTING = object()  # the history of what is no tensor


def _end(x: Variable) -> Node | Variable | None:
    """Where the gradient of x goes, as `source`, of which nobody keeps the numbers; None if x needs none."""
    return x.node if x.node is not None else x if x._requires_grad else None


def _kept(twin: tuple, reads: Any) -> tuple:
    """(function, numbers of its inputs, their histories). Numbers that no rule reads are not kept, for no gradient
    depends on them: zeros stand for them."""
    function, *inputs = twin
    numbers: list = []
    histories: list = []
    for x in inputs:
        numbers.append(_read(x, x, histories))
        if not any(read is x for read in reads):
            numbers[-1] = of(x.array).broadcast_to(of(x.array).zeros((), x.array.dtype), x.array.shape)
            histories[-1] = _PRIVATE, 0, _end(x)
    return function, numbers, histories


def needs_grad(x: Any) -> bool:
    """Whether `x` is a tensor that a gradient must reach."""
    if not isinstance(x, Variable):
        return False
    if x.base is not None and x.recorded != x.base.recorded:
        renew(x)
    return x._requires_grad


def source(x: Variable) -> Node | Variable:
    """Where the gradient of `x` goes: to the node that made it, or to `x` itself if it is a leaf."""
    if x.base is not None and x.recorded != x.base.recorded:
        renew(x)
    return x if x.node is None else x.node


def renew(x: Variable) -> None:
    """Give the view `x` the history that its numbers have now: that of its base, seen at the place of the view.

    RuntimeError if it can have none: a view made under no_grad or by a Function, or a leaf of its own right, whose
    base was rewritten since; or one whose base is somewhere else by now.
    """
    base = x.base
    if x.recorded == ~base.recorded:
        return
    spot = Spot(base.array, x.array)
    if x.recorded < 0 or (x.node is None and x._requires_grad) or not spot.inside:
        raise RuntimeError(
            f"this tensor of shape {tuple(x.array.shape)} was modified by an inplace operation on another tensor that "
            "shares its memory (a view, or the tensor it is a view of), and its history cannot follow: it is a leaf, "
            "or was made under no_grad or by a Function; take the view again after the change, or change a clone()"
        )
    old, x.node = x.node, Node("as_strided", x.array, [(source(base), _seen_through(spot), ())], None, [])
    x._requires_grad = True
    x.recorded = base.recorded
    follow(x, old)
    for observer in observers:
        observer.computed("as_strided", x.array, [base])
        observer.recorded(x.node)


def _seen_through(spot: Spot, back: bool = True) -> Rule:
    """The rule of a view: its gradient at its place, 0 elsewhere; and the rule of that: what stands at the place."""

    def moved(grad: Array) -> Array:
        return spot.spread(grad) if back else spot.both(grad)[1]

    def rule(grad: Any) -> Any:
        if isinstance(grad, Variable):
            return record("as_strided", moved(grad.array), (grad, _seen_through(spot, not back)))
        return moved(grad)

    return rule


def follow(x: Variable, old: Node | None) -> None:
    """`x` has a new node: what `retain_grad` asked of the old one is asked of that. Hooks stay, as in torch."""
    if old is not None and old.kept_by is not None and old.kept_by() is x:
        x.node.kept_by, old.kept_by = old.kept_by, None


# --- Walking back ------------------------------------------------------------------------------------------------


def backward(
    roots: list[tuple[Variable, Array]],
    retain_graph: bool | None = None,
    wanted: set[Node | Variable] | None = None,
    create_graph: bool = False,
) -> None:
    """Add ∂L/∂leaf to `leaf.grad` for every leaf that the roots were computed from, given ∂L/∂root of each.

    Or only for the leaves `wanted`, and for tensors on the way that asked for theirs. The graph is used up on the way,
    so that its memory is freed early (also if the walk ends in an error); `retain_graph` keeps it for another walk.
    With `create_graph` the walk is recorded itself, and the gradients have a history; it keeps the graph, too.
    Raises RuntimeError if the graph was used up before, or if an array that a rule reads was changed in place; then no
    leaf has been touched.
    """
    grads, kept, shared = walk(roots, retain_graph, wanted, create_graph)
    if wanted is not None:  # what is wanted and no leaf keeps its own
        grads = {leaf: grad for leaf, grad in grads.items() if type(leaf) is not Node}
    if replay.active and (watching := replay.recording()) is not None:  # a compiled step must know its leaves
        for leaf in grads:
            watching.leaves.setdefault(weakref.ref(leaf), leaf._grad)
    _deposit(grads.items(), shared)
    if kept:
        _deposit(kept, shared)


@np.errstate(all="ignore")  # an infinite slope (√x at 0) is a result, not an accident; the GPU never warns either
def walk(
    roots: list[tuple[Variable, Any]], retain_graph: bool | None, wanted: set[Node | Variable] | None = None,
    create_graph: bool = False,
) -> tuple[dict[Node | Variable, Any], list[tuple[Variable, Any]], set[int]]:  # fmt: skip
    """∂L/∂leaf for every leaf that the roots were computed from, given ∂L/∂root of each.

    Or, for the nodes and leaves `wanted`, those of them: then the walk keeps to the paths that lead there, and what
    lies beyond can still be walked. As in torch, a wanted node that the walk goes on from gives its gradient before its
    hooks, one where it ends, and a leaf, after them. Returns these gradients, those that tensors asked to keep
    (`retain_grad`), and the ids of arrays among them that somebody else holds too: no tensor may keep such an array as
    its own. All gradients are arrays, those given too; with `create_graph` they are tensors, and the same rules make
    tensors of them: the walk is recorded.
    """
    if create_graph:
        retain_graph = retain_graph is None or retain_graph
        if not grad_mode.enabled:
            with set_grad_enabled(True):
                return walk(roots, retain_graph, wanted, True)
    grads: dict[Node | Variable, Any] = {}
    shared = {id(gradient) for _, gradient in roots}
    sums: set[Node | Variable] = set()  # whose gradient is a sum made here
    leaves: list[Variable] = []
    waiting: list[tuple[int, Node]] = []  # a heap; numbers are negated so that the youngest node comes first
    kept: list[tuple[Variable, Any]] = []
    found: dict[Node | Variable, Any] = {}
    path = None if wanted is None else _leading_to(wanted, [source(root) for root, _ in roots])

    def arrive(target: Node | Variable, grad: Any) -> None:
        like = target if type(target) is Node else target.array
        if grad.shape != like.shape or grad.dtype is not like.dtype:
            if type(grad) is Part and not create_graph:
                if target in sums:
                    grads[target][grad.place] += grad.array
                    return
                if target not in grads:
                    sums.add(target)  # of this one, so far
            grad = match(grad, target)
        if not grad.shape:
            grad = _writable(grad)
        if target in grads:
            if target in sums:
                grads[target] += grad  # into an array that is ours alone
            else:  # out of place: the first part may belong to someone else
                grads[target] = _writable(grads[target] + grad)
                if not create_graph:
                    sums.add(target)
            return
        grads[target] = grad
        if like is target:
            heapq.heappush(waiting, (-target.number, target))
        else:
            leaves.append(target)

    for root, gradient in roots:
        arrive(source(root), gradient)

    while waiting:
        node = heapq.heappop(waiting)[1]
        grad = grads.pop(node)
        edges, joint = node.edges, node.joint
        if edges is None:
            if path is None or node not in wanted:
                raise RuntimeError(
                    f"backward: the graph of this result was already used up at '{node.name}' by an earlier backward();"
                    " call that one with retain_graph=True to walk it twice, or compute the result again"
                )
            edges = node.reads = ()  # the walk ends here
        for version, count, _ in node.reads:
            if version[0] != count:
                raise RuntimeError(
                    f"backward: a tensor that the gradient of '{node.name}' (output shape {tuple(node.shape)}) needs "
                    f"was modified by an inplace operation: it is at version {version[0]}, expected version "
                    f"{count}; change a clone() instead, or change it after backward()"
                )
        complete = grad
        if node.hooks:
            shared.add(id(grad))  # a hook may keep what it was shown, and what it returned
            grad = _run_hooks(node.hooks, grad, roots[0][0])
            shared.add(id(grad))
        if node.kept_by and (tensor := node.kept_by()) is not None:
            kept.append((tensor, grad))
            shared.add(id(grad))
        if path is not None:
            edges = [edge if edge is not None and edge[0] in path else None for edge in edges]
            if node in wanted:
                found[node] = complete if any(edges) else grad
                shared.add(id(found[node]))
            if not any(edges):
                continue
            edges = edges if joint is not None else [edge for edge in edges if edge is not None]
        if create_graph:
            for target, part in _parts(node, edges, grad, roots[0][0]):
                arrive(target, part)
        elif joint is not None:
            if not retain_graph:
                node.edges = node.joint = node.reads = node.twin = None
            rule, numbers = joint
            for edge, part in zip(edges, rule(grad, *numbers), strict=True):
                if edge is not None:
                    arrive(edge[0], part)
        else:
            if not retain_graph:
                node.edges = node.reads = node.twin = None
            for target, rule, numbers in edges:
                arrive(target, rule(grad, *numbers) if numbers else rule(grad))
        if create_graph and not retain_graph:
            node.edges = node.joint = node.reads = node.twin = None

    for leaf in leaves:  # all hooks first: if one raises, no leaf has been touched
        if leaf.hooks:
            shared.add(id(grads[leaf]))
            grads[leaf] = _run_hooks(leaf.hooks, grads[leaf], leaf)
            shared.add(id(grads[leaf]))
    return found | grads, kept, shared


# --- Walks that are recorded: derivatives of derivatives ---------------------------------------------------------


def _parts(node: Node, edges: list, grad: Tensor, like: Variable) -> Iterator[tuple[Node | Variable, Any]]:
    """(target, its part of the gradient) for each of the edges: from the rules, on tensors, or from the node's twin."""
    if node.twin is not None:
        function, numbers, histories = node.twin
        inputs = [_revived(like, node, *pair) for pair in zip(numbers, histories, strict=True)]
        yield from _by_twin(function, inputs, [_target(read[2]) for read in histories], edges, grad)
        return
    reads = iter(node.reads)
    if node.joint is not None:
        rule, numbers = node.joint
        tensors = [_revived(like, node, x, next(reads)) for x in numbers]
        for edge, part in zip(edges, rule(grad, *tensors), strict=True):
            if edge is not None:
                yield edge[0], part
        return
    going = {id(edge) for edge in edges}
    for edge in node.edges:
        target, rule, numbers = edge
        tensors = [_revived(like, node, x, next(reads)) for x in numbers]
        if id(edge) in going:
            yield target, rule(grad, *tensors)


def _revived(like: Variable, node: Node, numbers: Any, read: tuple) -> Any:
    """What a rule reads as a tensor with its history; a setting as it is."""
    history = read[2]
    if history is _SETTING:
        return numbers
    if type(history) is tuple:
        remake, ends = history
        if not any(end is not None for end in ends):
            return with_history(like, numbers, None)
        return remake(numbers, *[None if end is None else with_history(like, _blank(end), end) for end in ends])
    return with_history(like, numbers, node if history is RESULT else history)


def with_history(like: Variable, array: Array, end: Node | Variable | None) -> Tensor:
    """A tensor of these numbers, whose gradient goes to `end`: the node that made them or the tensor that held them."""
    if isinstance(end, Variable):
        if end.array is array:
            return end
        end = source(end) if needs_grad(end) else None
        if isinstance(end, Variable):
            end = Node("leaf", array, [(end, unchanged, ())], None, [])  # its .data were replaced, or these are a copy
    x = like.make(array)
    x.node, x._requires_grad = end, end is not None
    return x


def _target(history: Any) -> Node | Variable | None:
    """Where the gradient of a twin's input of this history goes. (What is `Derived` there is a copy of a tensor.)"""
    if type(history) is tuple:
        history = history[1][0]
    if isinstance(history, Variable):
        return source(history) if needs_grad(history) else None
    return history if isinstance(history, Node) else None


def _blank(end: Node | Variable) -> Array:
    """An array as `end` has it, but for its numbers."""
    if type(end) is not Node:
        return end.array
    return np.broadcast_to(np.zeros((), end.dtype), end.shape)


def _by_twin(
    function: Callable[..., Tensor], inputs: list, ends: list, edges: list, grad: Tensor
) -> Iterator[tuple[Node | Variable, Any]]:
    """The parts of a gradient from the operation done again, with operations that have rules for tensors."""
    targets = {edge[0] for edge in edges if edge is not None}
    again = [record("alias", x.array, (x, unchanged)) if needs_grad(x) else x for x in inputs]
    ways = [(x, end) for x, y, end in zip(again, inputs, ends, strict=True) if x is not y and end in targets]
    z = function(*again)
    grads = walk([(z, grad)], True, {x.node for x, _ in ways}, True)[0] if needs_grad(z) else {}
    for x, target in ways:
        if x.node in grads:
            yield target, grads[x.node]
        else:  # z does not depend on it: an LSTM of no steps
            yield target, x.make(of(x.array).zeros_like(x.array))


def reachable(roots: Iterable[Node | Variable], end: Node | Variable | None = None) -> list[Node]:
    """The nodes that the roots were computed from, themselves included, the oldest first; nothing beyond `end`."""
    todo = [root for root in roots if isinstance(root, Node)]
    seen = set(todo)
    while todo:
        for x in todo.pop().inputs():
            if isinstance(x, Node) and x is not end and x not in seen:
                seen.add(x)
                todo.append(x)
    return sorted(seen, key=lambda node: node.number)


def _leading_to(wanted: set[Node | Variable], roots: list[Node | Variable]) -> set[Node | Variable]:
    """What is wanted, and every node between the roots and it."""
    path = set(wanted)
    for node in reachable(roots):  # inputs before outputs
        # One that was used up may have led there: the walk will say so
        if node.edges is None or any(x in path for x in node.inputs()):
            path.add(node)
    return path


_depositing = threading.Lock()


def _deposit(grads: Iterable[tuple[Variable, Array]], shared: set[int]) -> None:
    """Add each gradient to the `.grad` of its tensor, making sure that this is its only owner: `a + b` hands one array
    to a and to b. Of two threads that add to one leaf at a time, one sum would be lost: they take turns.
    """
    _depositing.acquire()  # half the time of `with`
    try:
        for x, grad in grads:
            if not x._requires_grad:  # any more
                continue
            kept = x._grad
            if isinstance(grad, Variable):  # with a history, so nothing may be added to it in place
                x._grad = record("clone", grad.array.copy(), (grad, unchanged)) if kept is None else kept + grad
                continue
            if kept is None:
                ndim, own = grad.ndim, grad.base is None and id(grad) not in shared
                if not own or not ndim or (ndim > 1 and grad.strides != x.array.strides):
                    copy = of(grad).empty_like(x.array)  # in memory as x is: x.grad.view(-1) goes where x.view(-1) does
                    copy[...] = grad
                    grad = copy
                shared.add(id(grad))
                x._grad = x.make(grad)
                continue
            if kept.array.shape != grad.shape:
                raise RuntimeError(
                    f"backward: a gradient of shape {tuple(grad.shape)} does not add to the .grad of shape "
                    f"{tuple(kept.array.shape)} from before; set .grad to None after changing .data"
                )
            with np.errstate(all="ignore"):  # ∞ - ∞ is a result here, too
                if x.node is None:
                    kept.array += grad
                    kept.version[0] += 1
                else:  # of a computed tensor the `.grad` from before may be somebody's own
                    x._grad = x.make(kept.array + grad)
    finally:
        _depositing.release()


def _run_hooks(hooks: dict[int, Callable], grad: Array, like: Variable) -> Array:
    """Show the gradient to each hook in turn; what a hook returns, if not None, replaces it."""
    for hook in list(hooks.values()):
        replacement = hook(grad if isinstance(grad, Variable) else like.make(grad))
        if replacement is not None:
            if not isinstance(replacement, Variable):
                raise TypeError(f"hook: returned {type(replacement).__name__}, expected a Tensor or None")
            got, want = replacement.array, (tuple(grad.shape), grad.dtype)
            if (tuple(got.shape), got.dtype) != want:
                raise RuntimeError(f"hook: returned {tuple(got.shape)} of {got.dtype}, expected {want[0]} of {want[1]}")
            grad = replacement if isinstance(grad, Variable) else got
    return grad


def unchanged(grad: Any) -> Any:
    """The rule of a copy, an alias or a conversion: the gradient passes."""
    return grad


def _writable(grad: Array) -> Array:
    """`grad` as an array. NumPy computes 0-d results as scalars, into which nothing can be written."""
    return np.asarray(grad) if isinstance(grad, np.generic) else grad


def match(grad: Any, target: Any) -> Any:
    """`grad` in the shape and dtype of `target`: the reverse of broadcasting, the one place where it is undone.

    An input of shape (3, 1) used as (2, 3, 4) was copied 2 x 4 times, so its gradient is the sum over the copies. A
    `Part` comes to stand in its place, among zeros.
    """
    array = target if isinstance(target, Node) else target.array
    shape = array.shape
    if type(grad) is Part:
        grad = _whole(grad.array, grad.place, shape, array.dtype)
    if grad.shape != shape:
        extra = grad.ndim - len(shape)
        axes = tuple(range(extra)) + tuple(
            extra + i for i, n in enumerate(shape) if n == 1 and grad.shape[extra + i] != 1
        )
        grad = fast.total(grad, axes, False).reshape(shape)
    if grad.dtype == array.dtype:
        return grad
    if isinstance(grad, Variable):
        return record("to", grad.array.astype(array.dtype), (grad, unchanged))
    return grad.astype(array.dtype)


def _whole(part: Any, place: Any, shape: tuple, dtype: np.dtype) -> Any:
    """`part` at its place, 0 elsewhere. Reading the place again is the rule."""
    numbers = part.array if isinstance(part, Variable) else part
    whole = of(numbers).zeros(shape, dtype)
    whole[place] = numbers
    return record("put", whole, (part, lambda grad: grad[place])) if isinstance(part, Variable) else whole
