"""Derivatives as functions of functions, what torch.func offers: `grad(f)` is f', `hessian(f)` is f''.

A transform calls f with stand-ins for the arguments it differentiates, walks back from what f returned, and gives plain
tensors. Transforms nest, for a walk can be recorded: `grad(grad(f))`. What is given keeps the histories that it had, so
that ordinary `backward` goes through a transform as well. Arguments and results may be tensors, or tuples, lists and
dicts of them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .arrays.backend import of
from .arrays.random import default_generator
from .core.engine import Node, Variable, needs_grad, record, source, unchanged
from .core.modes import is_grad_enabled
from .ops.shape import stack
from .tensor import Tensor
from .walks.again import walk
from .walks.modes import enable_grad
from .walks.paths import reachable

if TYPE_CHECKING:
    from .nn.module import Module

__all__ = [
    "functional_call", "grad", "grad_and_value", "hessian", "jacfwd", "jacrev", "jvp", "value_and_grad", "vjp", "vmap",
]  # fmt: skip


# --- Trees: tensors within tuples, lists and dicts ------------------------------------------------------------------


def flatten(tree: Any) -> tuple[list, Callable[[list], Any]]:
    """The leaves of a tree, and the function that puts others in their places."""
    if isinstance(tree, dict):
        parts, keys = list(tree.values()), list(tree)
        build: Callable = lambda values: type(tree)(zip(keys, values, strict=True))  # noqa: E731
    elif isinstance(tree, tuple) and hasattr(tree, "_fields"):
        parts, build = list(tree), lambda values: type(tree)(*values)
    elif isinstance(tree, (tuple, list)):
        parts, build = list(tree), type(tree)
    else:
        return [tree], lambda leaves: leaves[0]
    below = [flatten(part) for part in parts]

    def unflatten(leaves: list) -> Any:
        rest = iter(leaves)
        return build([again([next(rest) for _ in found]) for found, again in below])

    return [leaf for found, _ in below for leaf in found], unflatten


def _tensors(tree: Any, name: str, what: str) -> tuple[list[Tensor], Callable[[list], Any]]:
    """As `flatten`; TypeError for leaves that are no tensors."""
    leaves, again = flatten(tree)
    for x in leaves:
        if not isinstance(x, Tensor):
            raise TypeError(f"{name}: expected {what} made of Tensors, got {type(x).__name__}")
    return leaves, again


# --- One differentiation ----------------------------------------------------------------------------------------------


class Level:
    """One differentiation under way: stand-ins for the inputs, whose gradients are asked for.

    The stand-in of an input that has a history is its alias, so that what is computed from it reaches that history too;
    of another it is a leaf of this level, which counts for nothing once the level has been left.
    """

    def __init__(self, xs: list[Tensor], name: str, outer: bool | None = None):
        for x in xs:
            if not x.is_floating_point():
                raise RuntimeError(f"{name}: expected floating-point inputs to differentiate, got {x.dtype}")
        self.outer = is_grad_enabled() if outer is None else outer  # else nobody outside wants a history
        self.xs = [
            record("alias", x.array, (x, unchanged)) if self.outer and needs_grad(x) else x.detach().requires_grad_()
            for x in xs
        ]
        self.ends = [source(x) for x in self.xs]

    def __enter__(self) -> Level:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for x in self.xs:
            if x.node is None:
                x._requires_grad = False

    def live(self, outputs: Sequence[Tensor]) -> bool:
        """Whether anything from outside of this level wants gradients of these."""
        if not self.outer:
            return False
        roots = [source(z) for z in outputs if needs_grad(z)]
        own = set(self.ends)
        leaves = {x for node in reachable(roots) for x in node.inputs()} | set(roots)
        return any(not isinstance(x, Node) and x._requires_grad and x not in own for x in leaves)

    def given(self, zs: Sequence[Tensor]) -> list[Tensor]:
        """These results as the caller gets them: with their history if something outside wants it."""
        return [z if self.live([z]) else z.detach() if isinstance(z, Tensor) else z for z in zs]

    def pull(self, outputs: Sequence[Tensor], cotangents: Sequence[Tensor], create_graph: bool) -> list[Tensor]:
        """Σ cotangent · ∂output/∂x for each stand-in x; 0 where the outputs do not depend on it."""
        wanted = set(self.ends)
        pairs: list[tuple[Variable, Any]] = [
            (z, v if create_graph else v.array)
            for z, v in zip(outputs, cotangents, strict=True)
            if needs_grad(z) or source(z) in wanted  # z may be a stand-in itself, and this level be left
        ]
        found = walk(pairs, True, wanted, create_graph)[0] if pairs else {}
        grads = [found.get(end) for end in self.ends]
        return [
            zeros_like(x) if g is None else g if create_graph else x.make(of(g).array(g))  # a copy, nobody else's
            for g, x in zip(grads, self.xs, strict=True)
        ]

    def unused(self, output: Tensor) -> list[int]:
        """The numbers of the inputs that the output does not depend on."""
        root = source(output)
        known = {root, *(x for node in reachable([root]) for x in node.inputs())}
        return [i for i, end in enumerate(self.ends) if end not in known]


def zeros_like(x: Tensor) -> Tensor:
    """Zeros, without history."""
    return x.make(of(x.array).zeros_like(x.array))


def ones_like(x: Tensor) -> Tensor:
    """Ones, without history."""
    return x.make(of(x.array).ones_like(x.array))


def _chosen(name: str, argnums: Any, args: tuple) -> tuple[Any, list[int]]:
    """The arguments to differentiate as one tree, which are one or several, and their numbers."""
    several = isinstance(argnums, (tuple, list))
    for n in argnums if several else [argnums]:
        if not isinstance(n, int) or isinstance(n, bool) or not -len(args) <= n < len(args):
            raise RuntimeError(f"{name}: argnums {argnums!r} does not name one of {len(args)} positional arguments")
    numbers = [n % len(args) for n in (argnums if several else [argnums])]
    if len(set(numbers)) < len(numbers):
        raise RuntimeError(f"{name}: argnums {argnums!r} names an argument twice")
    return tuple(args[n] for n in numbers) if several else args[numbers[0]], numbers


def _replaced(args: tuple, argnums: Any, numbers: list[int], tree: Any) -> list:
    """The arguments with those chosen replaced by `tree`."""
    changed = list(args)
    for n, part in zip(numbers, tree if isinstance(argnums, (tuple, list)) else [tree], strict=True):
        changed[n] = part
    return changed


def _with_aux(name: str, result: Any, has_aux: bool) -> tuple[Any, Any]:
    """What a function returned, and what it returned beside it."""
    if not has_aux:
        return result, None
    if not isinstance(result, tuple) or len(result) != 2:
        raise RuntimeError(f"{name}: with has_aux=True the function returns a pair (output, aux)")
    return result


def _aux(level: Level, aux: Any) -> Any:
    """What was returned beside the output, as the caller gets it."""
    leaves, again = flatten(aux)
    return again([level.given([leaf])[0] if isinstance(leaf, Tensor) else leaf for leaf in leaves])


# --- Gradients --------------------------------------------------------------------------------------------------------


def grad(func: Callable, argnums: int | tuple[int, ...] = 0, has_aux: bool = False) -> Callable:
    """The function that computes ∂func/∂argument, of a function whose result is one number.

    `argnums`: which of the positional arguments, one or several (then the result is a tuple). `has_aux`: func returns
    (output, aux), and the result is (gradient, aux).
    >>> f = z2g.func.grad(lambda x: x**3)
    >>> f(z2g.tensor(2.0)), z2g.func.grad(f)(z2g.tensor(2.0))  # 3 x², 6 x
    (tensor(12.), tensor(12.))
    """
    both = grad_and_value(func, argnums, has_aux)

    @functools.wraps(func)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        found, value = both(*args, **kwargs)
        return (found, value[1]) if has_aux else found

    return gradient


def grad_and_value(func: Callable, argnums: int | tuple[int, ...] = 0, has_aux: bool = False) -> Callable:
    """As `grad`; what is computed is (gradient, value), or (gradient, (value, aux)).

    >>> z2g.func.grad_and_value(lambda x: x**3)(z2g.tensor(2.0))
    (tensor(12.), tensor(8.))
    """

    @functools.wraps(func)
    def both(*args: Any, **kwargs: Any) -> Any:
        tree, numbers = _chosen("grad", argnums, args)
        xs, again = _tensors(tree, "grad", "arguments")
        with Level(xs, "grad") as level, enable_grad():
            result = func(*_replaced(args, argnums, numbers, again(level.xs)), **kwargs)
            z, aux = _with_aux("grad", result, has_aux)
            if not isinstance(z, Tensor) or z.ndim:
                shape = f"shape {tuple(z.shape)}" if isinstance(z, Tensor) else type(z).__name__
                raise RuntimeError(f"grad: expected the function to return a Tensor without dimensions, got {shape}")
            live = level.live([z])
            found = level.pull([z], [ones_like(z)], live)
            value = level.given([z])[0]
            return again(level.given(found)), (value, _aux(level, aux)) if has_aux else value

    return both


def value_and_grad(func: Callable, argnums: int | tuple[int, ...] = 0, has_aux: bool = False) -> Callable:
    """As `grad_and_value`, in the order of JAX: (value, gradient), or ((value, aux), gradient).

    >>> z2g.func.value_and_grad(lambda x: x**3)(z2g.tensor(2.0))
    (tensor(8.), tensor(12.))
    """
    both = grad_and_value(func, argnums, has_aux)

    @functools.wraps(func)
    def swapped(*args: Any, **kwargs: Any) -> tuple:
        return both(*args, **kwargs)[::-1]

    return swapped


def vjp(func: Callable, *primals: Any, has_aux: bool = False) -> tuple:
    """func(*primals), and the function v ↦ vᵀ J, a tuple with the product for each of the primals.

    J = ∂func/∂primals; v has the form of what func returned. With `has_aux`: (output, function, aux).
    >>> z, pull = z2g.func.vjp(lambda x: x * x, z2g.tensor([1.0, 2.0]))
    >>> pull(z2g.tensor([1.0, 10.0]))  # v · 2 x
    (tensor([ 2., 40.]),)
    """
    xs, again = _tensors(primals, "vjp", "primals")
    with Level(xs, "vjp") as level, enable_grad():
        result, aux = _with_aux("vjp", func(*again(level.xs)), has_aux)
        outputs, rebuilt = _tensors(result, "vjp", "outputs")
        live = level.live(outputs)
        given = rebuilt(level.given(outputs))

        def pull(*cotangents: Any) -> tuple:
            tree = cotangents[0] if len(cotangents) == 1 else cotangents
            vs, _ = _tensors(tree, "vjp", "cotangents")
            _same_shapes("vjp: cotangents", vs, outputs)
            recorded = is_grad_enabled() and (live or any(needs_grad(v) for v in vs))
            with enable_grad():
                found = level.pull(outputs, [_like(v, z) for v, z in zip(vs, outputs, strict=True)], recorded)
            return again(found)

        return (given, pull, _aux(level, aux)) if has_aux else (given, pull)


def jvp(func: Callable, primals: tuple, tangents: tuple, *, has_aux: bool = False) -> tuple:
    """func(*primals), and J · tangents: how the result moves if the primals move along the tangents.

    By two walks back: vᵀ J is linear in v, and its derivative by v, along the tangents, is J · tangents. With
    `has_aux`: (output, product, aux).
    >>> z2g.func.jvp(lambda x: x * x, (z2g.tensor([1.0, 2.0]),), (z2g.tensor([1.0, 10.0]),))  # 2 x · t
    (tensor([1., 4.]), tensor([ 2., 40.]))
    """
    if not isinstance(primals, tuple) or not isinstance(tangents, tuple):
        raise RuntimeError("jvp: expected primals and tangents as tuples, with one entry per argument")
    xs, again = _tensors(primals, "jvp", "primals")
    ts, _ = _tensors(tangents, "jvp", "tangents")
    _same_shapes("jvp: tangents", ts, xs)
    with Level(xs, "jvp") as level, enable_grad():
        result, aux = _with_aux("jvp", func(*again(level.xs)), has_aux)
        outputs, rebuilt = _tensors(result, "jvp", "outputs")
        push = pusher(level, outputs)
        live = level.live(outputs) or (level.outer and any(needs_grad(t) for t in ts))
        products = push([_like(t, x) for t, x in zip(ts, xs, strict=True)], live)
        given = rebuilt(level.given(outputs)), rebuilt(level.given(products))
        return (*given, _aux(level, aux)) if has_aux else given


def pusher(level: Level, outputs: list[Tensor]) -> Callable[[list[Tensor], bool], list[Tensor]]:
    """The function that takes tangents of the level's inputs to those of the outputs: g(v) = vᵀ J, walked back."""
    flows = [z for z in outputs if needs_grad(z)]
    with Level([zeros_like(z) for z in flows], "jvp") as second:
        gradients = level.pull(flows, second.xs, True)

    def push(tangents: list[Tensor], create_graph: bool) -> list[Tensor]:
        moved = iter(second.pull(gradients, tangents, create_graph))
        return [next(moved) if any(z is flow for flow in flows) else zeros_like(z) for z in outputs]

    return push


def _same_shapes(what: str, given: list[Tensor], wanted: list[Tensor]) -> None:
    got, shapes = ([tuple(x.shape) for x in several] for several in (given, wanted))
    if got != shapes:
        raise RuntimeError(f"{what} have the shapes {got}, expected {shapes}")


def _like(v: Tensor, z: Tensor) -> Tensor:
    """v in the dtype of z"""
    return v if v.dtype == z.dtype else v.to(z.dtype)


# --- Matrices of derivatives ------------------------------------------------------------------------------------------


def jacrev(func: Callable, argnums: int | tuple[int, ...] = 0, has_aux: bool = False) -> Callable:
    """The function that computes the Jacobian ∂zᵢ/∂xⱼ, of shape (*z.shape, *x.shape), a row at a time: walking back
    from each zᵢ. For few outputs of many inputs.

    >>> z2g.func.jacrev(lambda x: x * x)(z2g.tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 4.]])
    """
    return _jacobian("jacrev", by_rows, func, argnums, has_aux)


def jacfwd(func: Callable, argnums: int | tuple[int, ...] = 0, has_aux: bool = False) -> Callable:
    """As `jacrev`, a column at a time: what moves with each xⱼ, as `jvp` computes it. For few inputs of many outputs.

    >>> z2g.func.jacfwd(lambda x: x * x)(z2g.tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 4.]])
    """
    return _jacobian("jacfwd", by_columns, func, argnums, has_aux)


def hessian(func: Callable, argnums: int | tuple[int, ...] = 0) -> Callable:
    """The function that computes ∂²func/∂xᵢ∂xⱼ: the Jacobian of the gradient.

    >>> z2g.func.hessian(lambda x: x[0] ** 2 * x[1])(z2g.tensor([1.0, 2.0]))  # ((2 x₁, 2 x₀), (2 x₀, 0))
    tensor([[4., 2.],
            [2., 0.]])
    """
    return jacfwd(jacrev(func, argnums), argnums)


def _jacobian(name: str, method: Callable, func: Callable, argnums: Any, has_aux: bool) -> Callable:
    @functools.wraps(func)
    def jacobian(*args: Any, **kwargs: Any) -> Any:
        tree, numbers = _chosen(name, argnums, args)
        xs, again = _tensors(tree, name, "arguments")
        with Level(xs, name) as level, enable_grad():
            result = func(*_replaced(args, argnums, numbers, again(level.xs)), **kwargs)
            z, aux = _with_aux(name, result, has_aux)
            outputs, rebuilt = _tensors(z, name, "outputs")
            blocks = method(level, outputs, level.live(outputs))
            found = rebuilt([again(level.given(row)) for row in blocks])
            return (found, _aux(level, aux)) if has_aux else found

    return jacobian


def units(like: Tensor) -> Iterator[Tensor]:
    """The unit vectors of the space that `like` is in."""
    for i in range(like.array.size):
        unit = of(like.array).zeros(like.array.size, like.array.dtype)
        unit[i] = 1
        yield like.make(unit.reshape(like.array.shape))


def _joined(parts: list[Tensor], x: Tensor, size: tuple, dim: int) -> Tensor:
    """Rows (dim 0) or columns (-1) of a matrix of derivatives, each in the shape of x, in the shape of both."""
    if not parts:
        return x.make(of(x.array).zeros(size, x.array.dtype))
    return stack([part.reshape(-1) for part in parts], dim).reshape(size)


def by_rows(level: Level, outputs: list[Tensor], create_graph: bool) -> list[list[Tensor]]:
    """For each output and each input the matrix of derivatives."""
    blocks = []
    for z in outputs:
        rows = [level.pull([z], [unit], create_graph) for unit in units(z)]
        sizes = [(*z.array.shape, *x.array.shape) for x in level.xs]
        blocks.append([_joined([row[k] for row in rows], x, sizes[k], 0) for k, x in enumerate(level.xs)])
    return blocks


def by_columns(level: Level, outputs: list[Tensor], create_graph: bool) -> list[list[Tensor]]:
    """The same, by columns."""
    push = pusher(level, outputs)
    blocks: list[list[Tensor]] = [[] for _ in outputs]
    for k, x in enumerate(level.xs):
        still = [zeros_like(other) for other in level.xs]
        columns = [push([*still[:k], unit, *still[k + 1 :]], create_graph) for unit in units(x)]
        for i, (z, row) in enumerate(zip(outputs, blocks, strict=True)):
            size = (*z.array.shape, *x.array.shape)
            row.append(_joined([column[i] for column in columns], z, size, -1))
    return blocks


# --- Batches, and modules as functions --------------------------------------------------------------------------------


def vmap(func: Callable, in_dims: Any = 0, out_dims: Any = 0, randomness: str = "error") -> Callable:
    """func for each entry of a batch, its results stacked: a loop, written where func knows nothing of batches.

    `in_dims`: along which dimension the arguments are batches (None: the same for all), a number for all of them or a
    tuple with one for each, which may be a tree as the argument is; `out_dims` likewise of the results. `randomness`:
    "error" refuses functions that draw random numbers, "different" lets each entry draw its own, "same" all the same.
    >>> z2g.func.vmap(z2g.dot)(z2g.tensor([[1.0, 2.0], [3.0, 4.0]]), z2g.tensor([[1.0, 0.0], [0.0, 1.0]]))
    tensor([1., 4.])
    """
    if randomness not in ("error", "different", "same"):
        raise ValueError(f"vmap: randomness is 'error', 'different' or 'same', got {randomness!r}")

    @functools.wraps(func)
    def batched(*args: Any, **kwargs: Any) -> Any:
        leaves, again = flatten(args)
        if isinstance(in_dims, (tuple, list)) and len(in_dims) != len(args):
            raise ValueError(f"vmap: in_dims {in_dims!r} has {len(in_dims)} entries for {len(args)} arguments")
        spread = _spread(in_dims, args, "in_dims")
        dims = [None if d is None else _dim(d, x) for x, d in zip(leaves, spread, strict=True)]
        sizes = {x.shape[d] for x, d in zip(leaves, dims, strict=True) if d is not None}
        if len(sizes) != 1:
            raise ValueError(f"vmap: expected one batch size, got {sorted(sizes) or 'no batched argument'}")
        (size,) = sizes
        if not size:
            raise ValueError("vmap: the batch is empty; the function cannot be asked for the shape of its results")
        before, results = default_generator.get_state(), []
        for i in range(size):
            if randomness == "same":
                default_generator.set_state(before)
            entry = [x if d is None else x.select(d, i) for x, d in zip(leaves, dims, strict=True)]
            results.append(flatten(func(*again(entry), **kwargs)))
            if randomness == "error" and default_generator.get_state() != before:
                raise RuntimeError(
                    "vmap: the function draws random numbers; say randomness='different' (each entry its own) or 'same'"
                )
        rebuilt = results[0][1]
        outs = _spread(out_dims, rebuilt(results[0][0]), "out_dims")
        _tensors([found for found, _ in results], "vmap", "results")
        return rebuilt([
            parts[0] if d is None else stack(list(parts), d)
            for d, *parts in zip(outs, *(found for found, _ in results), strict=True)
        ])  # fmt: skip

    return batched


def _dim(d: Any, x: Any) -> int:
    """The dimension of a batched argument, checked."""
    if not isinstance(x, Tensor):
        raise ValueError(
            f"vmap: in_dims says {d} for a {type(x).__name__}; only Tensors are batched, None for the rest"
        )
    if not isinstance(d, int) or not -x.ndim <= d < x.ndim:
        raise ValueError(f"vmap: in_dims says {d!r} for a Tensor of shape {tuple(x.shape)}")
    return d % x.ndim


def _spread(dims: Any, tree: Any, name: str) -> list:
    """One entry of `dims` for each leaf of the tree; a number or None counts for all below it."""
    if dims is None or isinstance(dims, int):
        return [dims] * len(flatten(tree)[0])
    parts, given = [list(t.values()) if isinstance(t, dict) else t for t in (tree, dims)]
    if (
        not isinstance(dims, (tuple, list, dict))
        or not isinstance(tree, (tuple, list, dict))
        or len(given) != len(parts)
    ):
        raise ValueError(f"vmap: {name} {dims!r} does not have the structure of what it describes")
    return [d for below, part in zip(given, parts, strict=True) for d in _spread(below, part, name)]


def functional_call(
    module: Module, parameter_and_buffer_dicts: Any, args: Any = None, kwargs: dict[str, Any] | None = None, *,
    tie_weights: bool = True, strict: bool = False,
) -> Any:  # fmt: skip
    """module(*args, **kwargs) with other tensors in the places of its parameters and buffers, for this call alone.

    `parameter_and_buffer_dicts`: a dict from names to tensors, or several of them. So a loss becomes a function of the
    parameters: what `grad` wants. A tensor that stands in two places (tied weights) is replaced in both, unless
    `tie_weights` is False. `strict`: every parameter and buffer must be given. RuntimeError for names there are not.
    >>> layer = nn.Linear(1, 1)
    >>> other = {"weight": z2g.tensor([[2.0]]), "bias": z2g.tensor([1.0])}
    >>> z2g.func.functional_call(layer, other, z2g.tensor([3.0]))  # 2 · 3 + 1
    tensor([7.])
    """
    given: dict[str, Tensor] = {}
    dicts = parameter_and_buffer_dicts
    for part in dicts if isinstance(dicts, (tuple, list)) else [dicts]:
        if not isinstance(part, Mapping):
            raise TypeError(f"functional_call: expected a dict from names to Tensors, got {type(part).__name__}")
        if twice := given.keys() & part.keys():
            raise ValueError(f"functional_call: {sorted(twice)} are given in two of the dicts")
        given |= part
    places = _places(module)
    if unknown := sorted(given.keys() - places.keys()):
        raise RuntimeError(f"functional_call: {type(module).__name__} has no parameters or buffers {unknown}")
    if strict and (missing := sorted(places.keys() - given.keys())):
        raise RuntimeError(f"functional_call: strict, and {missing} are not given")
    old = {name: holder[key] for name, (holder, key) in places.items()}
    new = dict(given)
    if tie_weights:
        by_id = {id(old[name]): tensor for name, tensor in given.items()}
        new = {name: by_id[id(x)] for name, x in old.items() if id(x) in by_id} | given
    inputs = () if args is None else args if isinstance(args, tuple) else (args,)
    try:
        for name, tensor in new.items():
            if not isinstance(tensor, Variable):
                raise TypeError(f"functional_call: '{name}' is a {type(tensor).__name__}, expected a Tensor")
            holder, key = places[name]
            holder[key] = tensor
        return module(*inputs, **(kwargs or {}))
    finally:
        for name, tensor in new.items():
            holder, key = places[name]
            if holder[key] is tensor:  # a buffer that the call itself replaced stays, as in torch it does not
                holder[key] = old[name]


def _places(module: Module) -> dict[str, tuple[Any, Any]]:
    """Where each parameter and buffer lies, also under the further names of tied ones: (holder, key)."""
    places: dict[str, tuple[Any, Any]] = {}
    for path, part in module.named_modules():
        start = f"{path}." if path else ""
        lists = {name: (holder, key) for name, _, holder, key in part._listed()}
        parameters = [(name, member) for name, member in part._members() if isinstance(member, Variable)]
        for name, _ in (*parameters, *part._own_buffers()):
            places[start + name] = lists.get(name) or (part.__dict__, name)
    return places
