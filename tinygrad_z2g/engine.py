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

import functools
import heapq
import inspect
import itertools
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from . import kernels, replay
from .backend import Array, device_of, of
from .trace import observers
from .views import Spot

if TYPE_CHECKING:
    from .tensor import Tensor

Rule = Callable[[Array], "Array | Part"]  # ∂L/∂output -> ∂L/∂input; reads, never writes
_F = TypeVar("_F", bound=Callable[..., Any])


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
                 "shape")  # fmt: skip

    def __init__(self, name: str, array: Array, edges: list, joint: Callable | None, reads: list):
        self.name = name
        self.number = next(_numbers)
        self.shape = array.shape
        self.dtype = array.dtype
        self.edges = edges  # [(Node or leaf, rule)], None once the graph has been used up
        self.joint = joint  # one rule for all edges, or None
        self.reads = reads  # [(version, its count when recorded)] of every array a rule will read
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


def record(name: str, array: Array, *edges: tuple) -> Tensor:
    """Wrap an operation's result, with its rules if any input needs a gradient.

    Each edge is `(input, rule, *reads)`: `rule` maps the gradient of the result to the gradient of `input`. It may
    return the shape of the result where the input was broadcast; the engine sums that back. `reads` names the
    tensors whose numbers the rule will need, RESULT for the result itself: changing one of them in place before
    backward is then an error instead of a wrong gradient. Inputs that need no gradient, or are no tensors, are
    dropped together with their rules.
    """
    like = edges[0][0] if isinstance(edges[0][0], Variable) else edges[1][0]  # `2 * x` has its tensor second
    result = like.make(array)
    live, reads = [], []
    if _mode.enabled:
        for edge in edges:
            x = edge[0]
            if isinstance(x, Variable):
                base = x.base
                if base is not None and x.recorded != base.recorded:
                    renew(x)
                if x._requires_grad:
                    node = x.node
                    live.append((x if node is None else node, edge[1]))
                    reads += edge[2:]
    if observers:
        for observer in observers:
            observer.computed(name, result.array, [edge[0] for edge in edges])
    if live:
        _attach(result, name, live, None, reads)
    return result


def record_joint(name: str, array: Array, inputs: tuple, rule: Callable, *reads: Any) -> Tensor:
    """As `record`, for an operation whose inputs share their backward work.

    The one `rule` returns a tuple with a gradient per input; None where it was not needed.
    """
    result = next(x for x in inputs if isinstance(x, Variable)).make(array)
    if observers:
        for observer in observers:
            observer.computed(name, result.array, inputs)
    if _mode.enabled:
        edges = [(source(x), None) if needs_grad(x) else None for x in inputs]
        if any(edges):
            _attach(result, name, edges, rule, list(reads))
    return result


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
    old, x.node = x.node, Node("as_strided", x.array, [(source(base), spot.spread)], None, [])
    x._requires_grad = True
    x.recorded = base.recorded
    follow(x, old)
    for observer in observers:
        observer.computed("as_strided", x.array, [base])
        observer.recorded(x.node)


def follow(x: Variable, old: Node | None) -> None:
    """`x` has a new node: what `retain_grad` asked of the old one is asked of that. Hooks stay, as in torch."""
    if old is not None and old.kept_by is not None and old.kept_by() is x:
        x.node.kept_by, old.kept_by = old.kept_by, None


def _attach(result: Variable, name: str, edges: list, joint: Callable | None, reads: list) -> None:
    versions = []
    for x in reads:
        if x is RESULT:
            x = result
        if isinstance(x, Variable):
            versions.append((x.version, x.version[0]))
    result.node = Node(name, result.array, edges, joint, versions)
    result._requires_grad = True
    if observers:
        for observer in observers:
            observer.recorded(result.node)


# --- Walking back ------------------------------------------------------------------------------------------------


def backward(
    roots: list[tuple[Variable, Array]], retain_graph: bool | None = False, wanted: set[Node | Variable] | None = None
) -> None:
    """Add ∂L/∂leaf to `leaf.grad` for every leaf that the roots were computed from, given ∂L/∂root of each.

    Or only for the leaves `wanted`, and for tensors on the way that asked for theirs. The graph is used up on the way,
    so that its memory is freed early (also if the walk ends in an error); `retain_graph` keeps it for another walk.
    Raises RuntimeError if the graph was used up before, or if an array that a rule reads was changed in place; then no
    leaf has been touched.
    """
    grads, kept, shared = walk(roots, retain_graph, wanted)
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
    roots: list[tuple[Variable, Array]], retain_graph: bool | None, wanted: set[Node | Variable] | None = None
) -> tuple[dict[Node | Variable, Array], list[tuple[Variable, Array]], set[int]]:
    """∂L/∂leaf for every leaf that the roots were computed from, given ∂L/∂root of each.

    Or, for the nodes and leaves `wanted`, those of them: then the walk keeps to the paths that lead there, and what
    lies beyond can still be walked. As in torch, a wanted node that the walk goes on from gives its gradient before its
    hooks, one where it ends, and a leaf, after them. Returns these gradients, those that tensors asked to keep
    (`retain_grad`), and the ids of arrays among them that somebody else holds too: no tensor may keep such an array as
    its own.
    """
    grads: dict[Node | Variable, Array] = {}
    shared = {id(gradient) for _, gradient in roots}
    sums: set[Node | Variable] = set()  # whose gradient is a sum made here
    leaves: list[Variable] = []
    waiting: list[tuple[int, Node]] = []  # a heap; numbers are negated so that the youngest node comes first
    kept: list[tuple[Variable, Array]] = []
    found: dict[Node | Variable, Array] = {}
    path = None if wanted is None else _leading_to(wanted, [source(root) for root, _ in roots])

    def arrive(target: Node | Variable, grad: Array | Part) -> None:
        like = target if type(target) is Node else target.array
        if grad.shape != like.shape or grad.dtype is not like.dtype:
            if type(grad) is Part:
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
        for version, recorded in node.reads:
            if version[0] != recorded:
                raise RuntimeError(
                    f"backward: a tensor that the gradient of '{node.name}' (output shape {tuple(node.shape)}) needs "
                    f"was modified by an inplace operation: it is at version {version[0]}, expected version "
                    f"{recorded}; change a clone() instead, or change it after backward()"
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
        if not retain_graph:
            node.edges = node.joint = node.reads = None
        if joint is not None:
            for edge, part in zip(edges, joint(grad), strict=True):
                if edge is not None:
                    arrive(edge[0], part)
        else:
            for target, rule in edges:
                arrive(target, rule(grad))

    for leaf in leaves:  # all hooks first: if one raises, no leaf has been touched
        if leaf.hooks:
            shared.add(id(grads[leaf]))
            grads[leaf] = _run_hooks(leaf.hooks, grads[leaf], leaf)
            shared.add(id(grads[leaf]))
    return found | grads, kept, shared


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
        replacement = hook(like.make(grad))
        if replacement is not None:
            if not isinstance(replacement, Variable):
                raise TypeError(f"hook: returned {type(replacement).__name__}, expected a Tensor or None")
            got, want = replacement.array, (tuple(grad.shape), grad.dtype)
            if (tuple(got.shape), got.dtype) != want:
                raise RuntimeError(f"hook: returned {tuple(got.shape)} of {got.dtype}, expected {want[0]} of {want[1]}")
            grad = replacement.array
    return grad


def _writable(grad: Array) -> Array:
    """`grad` as an array. NumPy computes 0-d results as scalars, into which nothing can be written."""
    return np.asarray(grad) if isinstance(grad, np.generic) else grad


def match(grad: Array | Part, target: Any) -> Array:
    """`grad` in the shape and dtype of `target`: the reverse of broadcasting, the one place where it is undone.

    An input of shape (3, 1) used as (2, 3, 4) was copied 2 x 4 times, so its gradient is the sum over the copies. A
    `Part` comes to stand in its place, among zeros.
    """
    array = target if isinstance(target, Node) else target.array
    shape = array.shape
    if type(grad) is Part:
        whole = of(grad.array).zeros(shape, array.dtype)
        whole[grad.place] = grad.array
        return whole
    if grad.shape != shape:
        extra = grad.ndim - len(shape)
        axes = tuple(range(extra)) + tuple(
            extra + i for i, n in enumerate(shape) if n == 1 and grad.shape[extra + i] != 1
        )
        grad = kernels.total(grad, axes, False).reshape(shape)
    return grad if grad.dtype == array.dtype else grad.astype(array.dtype)


def seed_gradient(root: Variable, gradient: Variable | None) -> Array:
    """The gradient that a backward pass starts with: 1 for a scalar, otherwise what the caller gave, checked."""
    if not root._requires_grad and not needs_grad(root):
        raise RuntimeError("backward: this tensor does not require grad and has no grad_fn; nothing to differentiate")
    array = root.array
    if gradient is None:
        if array.size != 1:
            raise RuntimeError(
                f"backward: grad can be implicitly created only for scalar outputs, got shape {tuple(array.shape)}; "
                "reduce it first (.sum(), .mean()) or pass gradient="
            )
        return of(array).array(1, array.dtype).reshape(array.shape)  # a quarter of the time of ones_like
    if not isinstance(gradient, Variable):
        raise TypeError(f"backward: gradient must be a Tensor or None, got {type(gradient).__name__}")
    if gradient.array.shape != array.shape:
        raise RuntimeError(
            f"backward: gradient has shape {tuple(gradient.array.shape)}, expected the tensor's {tuple(array.shape)}"
        )
    if gradient.array.device != array.device:  # asked of the arrays: a tenth of the time of `device_of`
        raise RuntimeError(f"backward: gradient is on {device_of(gradient.array)}, the tensor on {device_of(array)}")
    return gradient.array if gradient.array.dtype is array.dtype else gradient.array.astype(array.dtype, copy=False)


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


# --- Switching recording off -------------------------------------------------------------------------------------


class _Mode(threading.local):
    enabled = True  # each thread starts with recording on


_mode = _Mode()


def is_grad_enabled() -> bool:
    """Whether operations are being recorded in this thread."""
    return _mode.enabled


class set_grad_enabled:
    """Switch recording on or off: as a statement, as a context (`with`), which restores, or as a decorator."""

    def __init__(self, mode: bool):
        self._mode = bool(mode)
        self._outer = [_mode.enabled]
        _mode.enabled = self._mode

    def __enter__(self) -> None:
        _mode.enabled = self._mode

    def __exit__(self, *exc_info: object) -> None:
        _mode.enabled = self._outer[-1]

    def __call__(self, function: _F) -> _F:
        _mode.enabled = self._outer[-1]  # decorating must not switch the mode of the code around it
        return _decorate(function, self._mode)


class _Switch:
    """A context and decorator that sets the mode inside and restores it after, also when nested or reused."""

    _inside: bool

    def __init__(self) -> None:
        self._outer: dict[int, list[bool]] = {}  # of each thread, for one object may serve several at once

    def __enter__(self) -> None:
        self._outer.setdefault(threading.get_ident(), []).append(_mode.enabled)
        _mode.enabled = self._inside

    def __exit__(self, *exc_info: object) -> None:
        _mode.enabled = self._outer[threading.get_ident()].pop()

    def __call__(self, function: _F) -> _F:
        return _decorate(function, self._inside)

    def __new__(cls, function: Callable | None = None) -> Any:
        # `@no_grad` without parentheses works like `@no_grad()`
        return super().__new__(cls) if function is None else _decorate(function, cls._inside)


class no_grad(_Switch):
    """Record nothing inside: `with no_grad(): ...` or `@no_grad()`. Saves the graph's memory and time."""

    _inside = False


class enable_grad(_Switch):
    """Record again inside a `no_grad` block."""

    _inside = True


class inference_mode(_Switch):
    """The same as `no_grad` here: there is nothing further to save. `inference_mode(False)` records."""

    _inside = False

    def __new__(cls, mode: bool | Callable = True) -> Any:
        if callable(mode):
            return _decorate(mode, cls._inside)
        return object.__new__(cls) if mode else enable_grad()

    def __init__(self, mode: bool = True):
        super().__init__()


def _decorate(function: _F, enabled: bool) -> _F:
    """`function` run with recording on or off. A generator gets its mode in each step, its caller keeps its own."""
    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def generator(*args: Any, **kwargs: Any) -> Iterator:
            steps = function(*args, **kwargs)
            send, value = steps.send, None
            while True:
                outer, _mode.enabled = _mode.enabled, enabled
                try:
                    item = send(value)
                except StopIteration as stop:
                    return stop.value
                finally:
                    _mode.enabled = outer
                try:
                    value = yield item
                    send = steps.send
                except BaseException as error:  # GeneratorExit too: clean-up runs in the generator's own mode
                    send, value = steps.throw, error

        return generator  # type: ignore[return-value]

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        outer = _mode.enabled
        try:  # before the mode changes, so that Ctrl-C at any moment restores it
            _mode.enabled = enabled
            return function(*args, **kwargs)
        finally:
            _mode.enabled = outer

    return wrapper  # type: ignore[return-value]
