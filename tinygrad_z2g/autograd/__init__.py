"""What torch.autograd offers: gradients as values (`grad`), operations of your own (`Function`), checks.

The engine itself, which records and walks, is in `core/engine.py`. It knows nothing of single operations and their
rules, nor of layers.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterator, ValuesView
from typing import TYPE_CHECKING, Any, Literal, cast, overload

import numpy as np

from ..absent import answers
from ..arrays.backend import Array, of
from ..core.engine import deposit, needs_grad, record, source
from ..core.modes import is_grad_enabled, no_grad
from ..old import Variable
from ..ops.common import fits, linear_rule
from ..tensor import Tensor
from ..tools.anomaly import detect_anomaly, set_detect_anomaly
from ..tools.gradcheck import gradcheck
from ..tools.gradcheck.twice import gradgradcheck
from ..walks import again
from ..walks.again import walk, with_history
from ..walks.asking import seed_gradient, wanted
from ..walks.joint import record_joint
from ..walks.modes import enable_grad, inference_mode, set_grad_enabled
from . import functional

__all__ = [
    "Function", "Variable", "backward", "detect_anomaly", "enable_grad", "grad", "gradcheck", "gradgradcheck",
    "inference_mode", "is_grad_enabled", "no_grad", "set_detect_anomaly", "set_grad_enabled",
]  # fmt: skip
if not TYPE_CHECKING:  # to a type checker a name that is not there is a mistake
    __getattr__ = answers(__name__)


def _several(x: Any) -> list:
    """One or several: `model.parameters()` and the values of a dict are several."""
    return list(x) if isinstance(x, (tuple, list, Iterator, ValuesView)) else [x]


def _seeds(outputs: list[Tensor], gradients: Any, create_graph: bool) -> list:
    """Pairs of an output and the gradient to start with; gradients None: 1 for each, which must be a scalar."""
    gradients = [None] * len(outputs) if gradients is None else _several(gradients)
    if len(gradients) != len(outputs):
        raise RuntimeError(f"grad: got {len(outputs)} outputs but {len(gradients)} gradients of them")
    for y in outputs:
        if not isinstance(y, Tensor):
            raise TypeError(f"grad: expected Tensors, got {type(y).__name__}")
    return [(y, seed_gradient(y, g, create_graph)) for y, g in zip(outputs, gradients, strict=True)]


def backward(
    tensors: Any, grad_tensors: Any = None, retain_graph: bool | None = None, create_graph: bool = False,
    *, inputs: Any = None,
) -> None:  # fmt: skip
    """Add the gradients of several tensors together to the `.grad` of the leaves: Σᵢ ∂yᵢ/∂leaf · gradientᵢ.

    `inputs`, a tensor or several, leaves or not: only theirs. See `Tensor.backward`.
    """
    only = None if inputs is None else wanted(inputs)
    again.backward(_seeds(_several(tensors), grad_tensors, create_graph), retain_graph, only, create_graph)


@overload
def grad(
    outputs: Any, inputs: Any, grad_outputs: Any = None, retain_graph: bool | None = None, create_graph: bool = False,
    *, allow_unused: Literal[False] = False,
) -> tuple[Tensor, ...]: ...  # fmt: skip


@overload
def grad(
    outputs: Any, inputs: Any, grad_outputs: Any = None, retain_graph: bool | None = None, create_graph: bool = False,
    *, allow_unused: bool,
) -> tuple[Tensor | None, ...]: ...  # fmt: skip


def grad(
    outputs: Any, inputs: Any, grad_outputs: Any = None, retain_graph: bool | None = None, create_graph: bool = False,
    *, allow_unused: bool = False,
) -> tuple[Tensor | None, ...]:  # fmt: skip
    """∂(Σ outputs · grad_outputs)/∂input for each input, leaves or not, as a tuple. No `.grad` of a leaf changes.

    A hook on an input replaces what is returned for it, as in torch: always on a leaf; on another only if the walk ends
    there and does not go on to further inputs.
    `create_graph` records the walk: the results have a history, and can be differentiated again.
    RuntimeError for an input that the outputs do not depend on, unless `allow_unused`, which gives None for it.
    """
    xs = _several(inputs)
    for x in xs:
        if not needs_grad(x):
            raise RuntimeError("grad: one of the inputs does not require grad; call requires_grad_() on it first")
    targets = [source(x) for x in xs]
    pairs = _seeds(_several(outputs), grad_outputs, create_graph)
    found, kept, shared = walk(pairs, retain_graph, set(targets), create_graph)
    deposit(kept, shared)  # what `retain_grad` asked for
    missing = [i for i, target in enumerate(targets) if target not in found]
    if missing and not allow_unused:
        raise RuntimeError(
            f"grad: the outputs do not depend on input {missing[0]} of shape {tuple(xs[missing[0]].shape)}; "
            "allow_unused=True gives None for it"
        )
    if create_graph:
        return tuple(found.get(t) for t in targets)
    return tuple(Tensor.make(of(found[t]).array(found[t])) if t in found else None for t in targets)


class Context:
    """What `Function.forward` hands to `Function.backward`: any attributes, and the tensors it saved."""

    def __init__(self, needs_input_grad: tuple[bool, ...]):
        self.needs_input_grad = needs_input_grad
        self.saved_tensors: tuple[Tensor, ...] = ()
        self._constant: tuple[Tensor, ...] = ()

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep tensors for backward. If one is changed in place before that, backward raises."""
        self.saved_tensors = cast("tuple[Tensor, ...]", tensors)  # which is None, the function knows

    def mark_non_differentiable(self, *outputs: Tensor) -> None:
        """These outputs get no history, and backward sees zeros as their gradients."""
        self._constant = outputs


class Function:
    """An operation of your own. Write two static methods and call it by `apply`:

        class Cube(Function):
            @staticmethod
            def forward(ctx, x):
                ctx.save_for_backward(x)
                return x * x * x

            @staticmethod
            def backward(ctx, grad):
                (x,) = ctx.saved_tensors
                return grad * 3 * x * x

        y = Cube.apply(x)

    Both compute with tensors, and nothing they do is recorded. `backward` receives ∂L/∂output for each output and
    returns ∂L/∂argument for each argument of `forward`, None where there is none. A gradient of a shape that the
    argument broadcasts to is summed, and one of another dtype cast to the argument's, without a word, as in torch.
    (`**kwargs` are never given: with them, a type checker lets yours take what it likes.)
    """

    def __init__(self, *args: Any):
        if args:
            raise TypeError(f"{type(self).__name__}: is called by {type(self).__name__}.apply(...)")

    @staticmethod
    def forward(ctx: Any, *args: Any, **kwargs: Any) -> Any:
        """The computation: a tensor or a tuple of them."""
        raise NotImplementedError("Function: define a static method forward(ctx, *args)")

    @staticmethod
    def backward(ctx: Any, *grads: Any, **kwargs: Any) -> Any:
        """The rule: the gradients of the arguments of `forward`, out of those of its outputs."""
        raise NotImplementedError("Function: define a static method backward(ctx, *gradients)")

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Compute, and record the rule. The outputs share memory with what `forward` returned."""
        if hasattr(cls, "setup_context"):
            raise NotImplementedError(f"{cls.__name__}: setup_context is not offered; save in forward(ctx, *args)")
        ctx = Context(tuple(needs_grad(arg) for arg in args))
        with no_grad():
            results = cls.forward(ctx, *args)
        outputs = _several(results)
        for z in outputs:
            if not isinstance(z, Tensor):
                raise TypeError(f"{cls.__name__}.forward: returned {type(z).__name__}, expected Tensors")
        if not is_grad_enabled() or not any(ctx.needs_input_grad):
            return results
        # Several outputs, one rule: they count as parts of one long vector, `joined`, whose gradient is the sum of what
        # arrives from each: its own gradient at its place, 0 elsewhere
        xp = of(outputs[0].array)
        like = [(z.array.shape, z.dtype) for z in outputs]
        flows = [z.is_floating_point() and not any(z is constant for constant in ctx._constant) for z in outputs]
        sizes = [z.array.size if flow else 0 for z, flow in zip(outputs, flows, strict=True)]
        ends = list(itertools.accumulate(sizes))
        dtype = np.result_type(np.float16, *(z.dtype for z, flow in zip(outputs, flows, strict=True) if flow))

        def rule(grad: Any, *saved: Any) -> list:
            """The `backward` of this class, now that the gradients of all its outputs are there"""
            recorded = isinstance(grad, Tensor)
            grads = [
                (grad if recorded else Tensor.make(grad))[end - size : end].reshape(shape).to(kind)
                if size
                else Tensor.make(xp.zeros(shape, kind))
                for end, size, (shape, kind) in zip(ends, sizes, like, strict=True)
            ]
            kept = ctx.saved_tensors
            if recorded:
                ctx.saved_tensors = tuple(
                    again if (i := places.get(id(s))) is None else with_history(grad, s.array, nodes[i]())
                    for s, again in zip(kept, saved, strict=True)
                )
            try:
                with set_grad_enabled(recorded):
                    found = _several(cls.backward(ctx, *grads))
                    found = _gradients(cls.__name__, found, args, ctx.needs_input_grad)
            finally:
                ctx.saved_tensors = kept
            return found if recorded else [g if g is None else g.array[...] for g in found]

        places = {id(z): i for i, z in enumerate(outputs)}  # of results among what was saved
        nodes: list[Callable] = []  # that made the results; weak, for they hold this rule
        joined = record_joint(cls.__name__, xp.zeros(ends[-1], dtype), args, rule, *ctx.saved_tensors)

        def output(i: int, z: Tensor) -> Tensor:
            def place(grad: Array) -> Array:
                """The gradient of one output at its place in that of all"""
                whole = xp.zeros(ends[-1], dtype)
                whole[ends[i] - sizes[i] : ends[i]] = grad.reshape(-1)
                return whole

            def look(whole: Array) -> Array:
                return whole[ends[i] - sizes[i] : ends[i]].reshape(like[i][0])

            if not flows[i]:
                return z
            # What was saved is the reading of `joined`; but it is this node, of the user's shape, that names what was
            # written over
            put = linear_rule(cls.__name__, place, look)
            made = record(cls.__name__, z.array, (joined, lambda grad, *_: put(grad), *ctx.saved_tensors))
            made.memory = z.memory
            if z.base is not None or any(z is arg for arg in args):  # a view whose history only this class knows
                made.base = z if z.base is None else z.base
                made.rewrites = ~made.base.rewrites
            return made

        made = tuple(output(i, z) for i, z in enumerate(outputs))
        nodes += [(lambda: None) if z.node is None else weakref.ref(z.node) for z in made]
        return made if isinstance(results, (tuple, list)) else made[0]


def _gradients(name: str, found: list, args: tuple, wanted: tuple[bool, ...]) -> list[Tensor | None]:
    """What `backward` returned, checked against the arguments of `forward`; the engine sums and casts it to fit."""
    while len(found) > len(args) and found[-1] is None:
        found.pop()
    if len(found) != len(args):
        raise RuntimeError(f"{name}.backward: returned {len(found)} gradients, expected {len(args)}, one per argument")
    for i, (g, x) in enumerate(zip(found, args, strict=True)):
        if g is not None and not isinstance(g, Tensor):
            raise TypeError(f"{name}.backward: gradient {i} is {type(g).__name__}, expected a Tensor or None")
        if g is not None and not isinstance(x, Tensor):
            raise RuntimeError(f"{name}.backward: argument {i} is {type(x).__name__}, no Tensor; its gradient is None")
        if g is not None and wanted[i] and not fits(x.array.shape, g.array.shape):
            got, want = tuple(g.shape), tuple(x.shape)
            raise RuntimeError(
                f"{name}.backward: gradient {i} has shape {got}, its argument {want}; expected that shape, or a larger "
                "one that the argument broadcasts to"
            )
    return found
