"""The engine: record what was computed, then walk it backwards.

A program computes one number L, the loss, out of many. Wanted are the slopes of L: ∂L/∂x for each number x that may be
changed, called the gradient of x, with the shape of x. For z = f(x), ∂L/∂x = ∂L/∂z · dz/dx: whoever knows the gradient
of a result finds those of its inputs, and ∂L/∂L = 1 is where that begins. So the program is gone through backwards,
once for all x, and nobody ever writes down a formula for the whole. Three ideas, each a part of this file:

1. *Record.* Every operation computes its result and leaves a `Node` behind: who its inputs were, and for each input
   a rule that turns ∂L/∂output into ∂L/∂input, the chain rule with the local derivative filled in.
2. *Walk.* A node is numbered when it is made, and an output is always made after its inputs. So taking the youngest
   node first visits every node after all of its consumers: descending numbers are a topological order.
3. *Add.* A value that was used twice receives two gradients, and its gradient is their sum (`Walk.arrive`; for two
   backward passes `+=` in `deposit`): the total derivative sums over all paths.

For L = (x + y) · x with x = 2, y = 3 the walk is: mul (number 2) sends 2, the other factor, to the sum and 5 to x;
add (number 1) sends its 2 on to x and to y; x has two parts and they are added: ∂L/∂x = 7 (= 2x + y), ∂L/∂y = 2 (= x).

From the 99 lines of `examples/00_one_page.py` to this file in seven steps: see `core/README.md`. The engine knows
nothing of the Tensor class beyond `Variable` below, and of arrays little beyond `+`, `sum` and slices.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays.backend import Array, device_of, of, silent
from .modes import grad_mode

if TYPE_CHECKING:
    from .tensor import Tensor

Rule = Callable[..., Any]  # ∂L/∂output, and the numbers it reads -> ∂L/∂input; it reads, and never writes


class Memory:
    """What all tensors on the same memory share: how often it was written to in place."""

    writes = 0


class Variable:
    """What the engine needs to know of a tensor.

    array          the numbers
    _grad          ∂L/∂self after backward, a tensor or None
    _requires_grad whether gradients are wanted, here or at something this was computed from
    node           the operation that made it; None for a leaf. Of a view it may be out of date: ask `source`
    memory         counts the writes to the array

    At first reading skip what serves hooks and views, and `renew`; none of it takes part in a plain walk:
    asked          what is to be done with the gradient of a leaf before it is kept, or None. See `Node.asked`
    base           the tensor that this is a view of (itself no view), or None; a detached tensor is no view
    rewrites       how many recorded writes its history has taken up: a view with another number than its base is out
                   of date (`renew`). Negative (~number) in a view that cannot follow
    """

    __slots__ = ("__weakref__", "_grad", "_requires_grad", "array", "asked", "base", "memory", "node", "rewrites")

    array: Array
    _grad: Any
    _requires_grad: bool
    node: Node | None
    memory: Memory
    asked: Any
    base: Variable | None
    rewrites: int

    def begin(self, array: Array) -> None:
        """Start as a leaf that holds `array` and has no history."""
        self.array = np.asarray(array) if isinstance(array, np.generic) else array  # NumPy returns scalars for 0-d
        self._grad = self.node = self.asked = self.base = None
        self._requires_grad = False
        self.rewrites = 0
        self.memory = Memory()

    @staticmethod
    def make(array: Array) -> Tensor:
        """A new tensor around `array`, without history."""
        raise NotImplementedError

    def renew(self) -> None:
        """Give this view, whose base was rewritten, the history that its numbers have now: see `walks/views.py`."""
        if self.base is not None and self.rewrites != ~self.base.rewrites:
            raise NotImplementedError("a view whose base was rewritten: walks/views.py would give it its history")


class Node:
    """One recorded operation.

    It points to the nodes of its inputs and to leaves, never to the tensors in between: an activation that no rule
    reads is freed as soon as the user's code lets go of it. And nothing points forward, so there is no reference cycle:
    dropping the loss frees the graph at once.

    name, number, shape, dtype: of the operation, of its place in time, of its result
    edges   [(node or leaf, rule, the numbers it reads)], an item for each input; None once the graph has been used up
    reads   (memory, its writes when recorded, where the numbers come from) of each of these numbers, in this order

    At first reading skip these, which other rooms set:
    joint   one (rule, the numbers it reads) for all edges, or None: see `walks/joint.py`
    asked   None, or what to do with the complete gradient: (walk, gradient) -> the one to go on with (hooks)
    twin    the same operation as a composition of others, where its rules know arrays alone: see `walks/again.py`
    site    where in the program it was called; set by `tools/trace.py` alone
    """

    __slots__ = ("__weakref__", "asked", "dtype", "edges", "joint", "name", "number", "reads", "shape", "site", "twin")

    def __init__(self, name: str, array: Array, edges: Any, joint: Any, reads: Any):
        self.name, self.number, self.shape, self.dtype = name, next(_numbers), array.shape, array.dtype
        self.edges, self.joint, self.reads = edges, joint, reads
        self.asked: Any = None
        self.twin: Any = None

    def inputs(self) -> list[Node | Variable]:
        """Where its gradients go: nodes and leaves. Empty once the graph has been used up."""
        return [edge[0] for edge in self.edges or () if edge is not None]

    def release(self) -> None:
        """Let go of all that was kept for the rules."""
        self.edges = self.joint = self.reads = self.twin = None

    def __repr__(self) -> str:
        return f"<{self.name} number={self.number} shape={tuple(self.shape)}>"


_numbers = itertools.count(1)  # next() on it is atomic, so threads can share it
observers: list[Any] = []  # who looks on while operations are recorded: see `tools/trace.py`


# --- 1. Record ---------------------------------------------------------------------------------------------------


RESULT = object()  # stands for "this operation's own result" among what a rule reads
SETTING = object()  # where numbers come from that are no tensor's


class Derived:
    """Numbers that a rule reads though they are neither an operand nor the result: normalised rows, a mask. (Of use in
    other rooms alone: skip it at first reading.)

    `remake(array, *inputs)` gives them their history, as a tensor, for a walk that is recorded. Of the inputs it may
    use the history alone, not the numbers, which nobody keeps; an input without history is None.
    """

    __slots__ = ("array", "inputs", "remake")

    def __init__(self, array: Array, remake: Callable[..., Tensor], *inputs: Variable):
        self.array, self.remake, self.inputs = array, remake, inputs


def record(name: str, array: Array, *edges: tuple) -> Tensor:
    """Wrap an operation's result, with its rules if any input needs a gradient.

    Each edge is `(input, rule, *reads)`. The rule maps the gradient of the result, and the numbers of what it reads, to
    the gradient of `input`: of z = x y the edge of x is `(x, lambda grad, y: grad * y, y)`. It may return the shape of
    the result where the input was broadcast; the engine sums that back. What is read is a tensor, RESULT for the result
    itself, something `Derived`, or a setting, which is passed as it is. A tensor that was changed in place before
    backward is then an error instead of a wrong gradient. Inputs that need no gradient, or are no tensors, are dropped
    together with their rules.

    A rule is written in what arrays and tensors have in common, so that a walk can be recorded: then it gets tensors.
    """
    first = edges[0][0]
    result = (first if isinstance(first, Variable) else edges[1][0]).make(array)  # `2 * x` has its tensor second
    ways: list = []
    reads: list = []
    if grad_mode.enabled:
        for edge in edges:
            x = edge[0]
            if isinstance(x, Variable):
                base = x.base
                if base is not None and x.rewrites != base.rewrites:
                    x.renew()
                if x._requires_grad:
                    numbers: tuple = ()
                    if len(edge) == 3 and isinstance(edge[2], Variable):  # the usual case of `read`, without its call
                        y = edge[2]
                        reads.append((y.memory, y.memory.writes, y))
                        numbers = (y.array,)
                    elif len(edge) > 2:
                        numbers = tuple([read(y, result, reads) for y in edge[2:]])
                    node = x.node
                    ways.append((x if node is None else node, edge[1], numbers))
    if observers:
        for observer in observers:
            observer.computed(name, result.array, [edge[0] for edge in edges])
    if ways:
        node = result.node = object.__new__(Node)  # as Node(...), without the cost of its call
        node.name, node.number, node.shape, node.dtype = name, next(_numbers), array.shape, array.dtype
        node.edges, node.joint, node.reads, node.asked, node.twin = ways, None, reads, None, None
        result._requires_grad = True
        if observers:
            for observer in observers:
                observer.recorded(node)
    return result


def read(x: Any, result: Variable, reads: list) -> Any:
    """The numbers of what a rule reads; (memory, its writes now, where the numbers come from) is added to `reads`."""
    if x is RESULT:
        reads.append((result.memory, result.memory.writes, RESULT))
        return result.array
    if isinstance(x, Variable):
        reads.append((x.memory, x.memory.writes, x))
        return x.array
    if type(x) is Derived:
        reads.append((_PRIVATE, 0, (x.remake, [end(y) for y in x.inputs])))
        return x.array
    reads.append((_PRIVATE, 0, SETTING))
    return x


_PRIVATE = Memory()  # of numbers that nobody else can write to


def needs_grad(x: Any) -> bool:
    """Whether `x` is a tensor that a gradient must reach."""
    return isinstance(x, Variable) and end(x) is not None


def source(x: Variable) -> Node | Variable:
    """Where the gradient of `x` goes: to the node that made it, or to `x` itself if it is a leaf."""
    if x.base is not None and x.rewrites != x.base.rewrites:
        x.renew()
    return x if x.node is None else x.node


def end(x: Variable) -> Node | Variable | None:
    """Where the gradient of `x` goes, or None if it needs none."""
    made_by = source(x)
    return made_by if x._requires_grad else None


# --- 2. Walk -----------------------------------------------------------------------------------------------------


def backward(roots: list[tuple[Variable, Array]], retain_graph: bool = False) -> None:
    """Add ∂L/∂leaf to `leaf.grad` for every leaf that the roots were computed from, given ∂L/∂root of each.

    The graph is used up on the way, so that its memory is freed early (also if the walk ends in an error);
    `retain_graph` keeps it for another walk. Raises RuntimeError if the graph was used up before, or if an array that a
    rule reads was changed in place; then no leaf has been touched.
    """
    walk = Walk(retain_graph)
    grads = walk.run(roots)
    deposit(itertools.chain(grads.items(), walk.kept), walk.shared)


def seed(root: Variable, gradient: Variable | None = None) -> Array:
    """∂L/∂root that a walk starts with: 1 for a scalar, otherwise what the caller gave, checked."""
    if end(root) is None:
        raise RuntimeError("backward: this tensor does not require grad and has no grad_fn; nothing to differentiate")
    array = root.array
    if gradient is None:
        if array.size != 1:
            raise RuntimeError(
                f"backward: grad can be implicitly created only for scalar outputs, got shape {tuple(array.shape)}; "
                "reduce it first (.sum(), .mean()) or pass gradient="
            )
        return of(array).array(1, array.dtype).reshape(array.shape)  # (1,) or (), ...: ones_like takes longer
    if not isinstance(gradient, Variable):
        raise TypeError(f"backward: gradient must be a Tensor or None, got {type(gradient).__name__}")
    given = gradient.array
    if given.shape != array.shape:
        got, want = tuple(given.shape), tuple(array.shape)
        raise RuntimeError(f"backward: gradient has shape {got}, expected the tensor's {want}")
    if given.device != array.device:
        raise RuntimeError(f"backward: gradient is on {device_of(given)}, the tensor on {device_of(array)}")
    return given if given.dtype is array.dtype else given.astype(array.dtype, copy=False)


class Walk:
    """One backward pass. `run` gives ∂L/∂leaf for every leaf that the roots were computed from."""

    def __init__(self, retain_graph: bool = False):
        self.retain_graph = retain_graph
        self.grads: dict[Node | Variable, Any] = {}  # what has arrived so far at nodes not yet visited, and at leaves
        self.sums: set[Node | Variable] = set()  # whose gradient is a sum made here: nobody else holds this array
        self.waiting: list[tuple[int, Node]] = []  # a heap; numbers are negated so that the youngest node comes first
        self.shared: set[int] = set()  # ids of gradients that somebody else holds too: no tensor may keep such an array
        self.kept: list[tuple[Variable, Any]] = []  # gradients of tensors in between that asked for theirs

    @silent  # an infinite slope (√x at 0) is a result, not an accident; the GPU never warns either
    def run(self, roots: list[tuple[Variable, Any]]) -> dict[Any, Any]:
        """Walk from the roots, given ∂L/∂root of each."""
        for root, grad in roots:
            self.shared.add(id(grad))
            self.arrive(source(root), grad)
        waiting, grads, visit = self.waiting, self.grads, self.visit
        while waiting:
            node = heapq.heappop(waiting)[1]
            visit(node, grads.pop(node))
        for leaf, grad in grads.items():
            if leaf.asked is not None:  # before any leaf is touched: a hook may raise
                grads[leaf] = leaf.asked(self, grad)
        return grads

    def visit(self, node: Node, grad: Any) -> None:
        """The gradient of a node's result is complete, for all who use it are younger: send it on, if that can be."""
        if node.edges is None:
            raise RuntimeError(
                f"backward: the graph of this result was already used up at '{node.name}' by an earlier backward();"
                " call that one with retain_graph=True to walk it twice, or compute the result again"
            )
        for memory, writes, _ in node.reads:
            if memory.writes != writes:
                raise RuntimeError(
                    f"backward: a tensor that the gradient of '{node.name}' (output shape {tuple(node.shape)}) needs "
                    f"was modified by an inplace operation: it is at version {memory.writes}, expected version "
                    f"{writes}; change a clone() instead, or change it after backward()"
                )
        if node.asked is not None:
            grad = node.asked(self, grad)
        self.send(node, node.edges, grad)

    def send(self, node: Node, edges: Any, grad: Any) -> None:
        """Send the gradient of a node's result on to its inputs, by its rules."""
        joint, arrive = node.joint, self.arrive
        if not self.retain_graph:
            node.edges = node.joint = node.reads = node.twin = None  # `release`, without its call
        if joint is None:
            for target, rule, numbers in edges:
                arrive(target, rule(grad, *numbers))
        else:
            rule, numbers = joint
            for edge, part in zip(edges, rule(grad, *numbers), strict=True):
                if edge is not None:
                    arrive(edge[0], part)

    # --- 3. Add --------------------------------------------------------------------------------------------------

    def arrive(self, target: Node | Variable, grad: Any) -> None:
        """One part of the gradient of `target` is there: the first is kept as it is, another is added."""
        like = target if type(target) is Node else target.array  # type: ignore[union-attr]  # a Variable
        grads, shape = self.grads, like.shape
        if grad.shape != shape or grad.dtype is not like.dtype:
            if type(grad) is Part:
                if target in self.sums:
                    add_part(grads[target], grad.place, grad.array)
                    return
                if target not in grads:
                    self.sums.add(target)  # of this one, so far
            grad = match(grad, target)
        if not shape:
            grad = writable(grad)
        if target in grads:
            if target in self.sums:
                grads[target] += grad  # into an array that is ours alone
            else:  # out of place: the first part may belong to someone else
                grads[target] = writable(grads[target] + grad)
                self.sums.add(target)
            return
        grads[target] = grad
        if like is target:
            heapq.heappush(self.waiting, (-target.number, target))


class Part:
    """A gradient that is 0 but for one place: what the rule of a slice returns.

    The walk adds it there instead of adding a whole array, mostly of zeros, for each slice: n steps that read x[0],
    x[1], ... of an x of n rows write n rows, not n².

    array  the numbers
    place  where they belong: an index of integers, slices, None and ...
    """

    __slots__ = ("array", "place")
    shape = None  # it has that of the input, which `match` knows

    def __init__(self, array: Array, place: Any):
        self.array, self.place = array, place


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
        copied = [extra + i for i, n in enumerate(shape) if n == 1 and grad.shape[extra + i] != 1]
        grad = total(grad, (*range(extra), *copied), False).reshape(shape)
    if grad.dtype == array.dtype:
        return grad
    if isinstance(grad, Variable):
        return record("to", grad.array.astype(array.dtype), (grad, unchanged))
    return grad.astype(array.dtype)


def total(grad: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
    """Σ grad over these axes."""
    return grad.sum(axes, keepdims=keepdims)


def _whole(part: Any, place: Any, shape: tuple, dtype: np.dtype) -> Any:
    """`part` at its place, 0 elsewhere. Reading the place again is the rule."""
    numbers = part.array if isinstance(part, Variable) else part
    whole = put_part(numbers, place, shape, dtype)
    return record("put", whole, (part, lambda grad: grad[place])) if isinstance(part, Variable) else whole


def put_part(part: Any, place: Any, shape: tuple, dtype: np.dtype) -> Any:
    """An array of zeros with `part` at that place."""
    whole = of(part).zeros(shape, dtype)
    whole[place] = part
    return whole


def add_part(whole: Any, place: Any, part: Any) -> None:
    """whole[place] += part"""
    whole[place] += part


_depositing = threading.Lock()


def deposit(grads: Iterable[tuple[Variable, Any]], shared: set[int]) -> None:
    """Add each gradient to the `.grad` of its tensor, making sure that this is its only owner: `a + b` hands one array
    to a and to b. Of two threads that add to one leaf at a time, one sum would be lost: they take turns.
    """
    with _depositing:
        for x, grad in grads:
            if not x._requires_grad:  # any more
                continue
            kept = x._grad
            if isinstance(grad, Variable):  # with a history, so nothing may be added to it in place
                x._grad = record("clone", grad.array.copy(), (grad, unchanged)) if kept is None else kept + grad
            elif kept is None:
                ndim, own = grad.ndim, grad.base is None and id(grad) not in shared
                if not own or not ndim or (ndim > 1 and grad.strides != x.array.strides):
                    copy = of(grad).empty_like(x.array)  # in memory as x is: x.grad.view(-1) goes where x.view(-1) does
                    copy[...] = grad
                    grad = copy
                shared.add(id(grad))
                x._grad = x.make(grad)
            elif kept.array.shape != grad.shape:
                raise RuntimeError(
                    f"backward: a gradient of shape {tuple(grad.shape)} does not add to the .grad of shape "
                    f"{tuple(kept.array.shape)} from before; set .grad to None after changing .data"
                )
            else:
                with np.errstate(all="ignore"):  # ∞ - ∞ is a result here, too
                    if x.node is None:
                        kept.array += grad
                        kept.memory.writes += 1
                    else:  # of a computed tensor the `.grad` from before may be somebody's own
                        x._grad = x.make(kept.array + grad)


def unchanged(grad: Any) -> Any:
    """The rule of a copy, an alias or a conversion: the gradient passes."""
    return grad


def writable(grad: Any) -> Any:
    """`grad` as an array. NumPy computes 0-d results as scalars, into which nothing can be written."""
    return np.asarray(grad) if isinstance(grad, np.generic) else grad
