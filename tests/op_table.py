"""Every differentiable operation of the package: one row each, with its NumPy twin and the arguments to draw.

The twin is the definition, written as plainly as NumPy allows and sharing nothing with the package. The case says
which arrays and keyword arguments to draw, and keeps away from kinks (see `strategies`); what happens *at* a kink is
pinned in `test_traps_ops.py`. `test_ops.py` runs every row through every check, and asserts that no public operation
is missing here.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st
from layer_table import LAYERS
from op_row import Op, axes, quiet, reduce, reductions
from op_table_more import EXEMPT_MORE, MORE
from strategies import (
    ANY,
    DISTINCT,
    DISTINCT_SIZES,
    FILLED,
    NONZERO,
    OFFSET,
    POSITIVE,
    SEEDS,
    SIDES,
    Case,
    arrays,
    broadcast,
    broadcast_into,
    case,
    dim,
    dims,
    eighths,
    indices,
    integers,
    masks,
    multipliable,
    same,
    shape_of,
    some_dims,
)

import tinygrad_z2g as z2g
import tinygrad_z2g.nn.functional as F
from tinygrad_z2g import Tensor
from tinygrad_z2g.nn.quantized import quantized_linear
from tinygrad_z2g.nn.recurrent import gru_scan, lstm_scan, rnn_scan

# --- Elementwise -------------------------------------------------------------------------------------------------

numbers = st.sampled_from([2, -1, 0.5, 3.0, -0.75])
INSIDE = eighths(-7 / 8, 7 / 8)
limits = st.sampled_from([-1.5625, -0.4375, 0.3125, 1.6875])  # odd multiples of 1/16: no element is ever at a limit


def conditions(draw: Any, shapes: list) -> dict:
    return {"condition": draw(masks(shapes[2]))}


def bounds(draw: Any, shapes: list) -> dict:
    low, high = draw(st.sampled_from([(True, True), (True, False), (False, True)]))
    return {"min": draw(limits) if low else None, "max": draw(limits) if high else None}


def choose(x: Any, y: Any, condition: Any) -> Any:
    return z2g.where(condition, x, y)


ROUNDED = {"floor": np.floor, "trunc": np.trunc}
erf = np.vectorize(math.erf, otypes=[float])


def sigmoid(a: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-a))


def gelu(a: np.ndarray, approximate: str) -> np.ndarray:
    if approximate == "tanh":
        return 0.5 * a * (1 + np.tanh(math.sqrt(2 / math.pi) * (a + 0.044715 * a**3)))
    return a * 0.5 * (1 + erf(a / math.sqrt(2)))


biased = shape_of(1, 3).map(lambda shape: (shape, shape[-1:]))


def softplus(a: np.ndarray, beta: float, threshold: float) -> np.ndarray:
    return np.where(a * beta > threshold, a, np.log(1 + np.exp(a * beta)) / beta)


ELEMENTWISE = [
    Op("add", z2g.add, lambda a, b, alpha: a + alpha * b, case(ANY, ANY, alpha=numbers)),
    Op("sub", z2g.sub, lambda a, b, alpha: a - alpha * b, case(ANY, ANY, alpha=numbers)),
    Op("x - number", lambda x, n: x - n, lambda a, n: a - n, case(ANY, n=numbers), (Tensor.__sub__,)),
    Op("mul", z2g.mul, np.multiply, case(ANY, ANY)),
    Op("div", z2g.div, np.divide, case(ANY, NONZERO)),
    Op("pow", z2g.pow, np.power, case(POSITIVE, ANY)),
    Op("x + number", lambda x, n: x + n, lambda a, n: a + n, case(ANY, n=numbers), (Tensor.__add__,)),
    Op("number + x", lambda x, n: n + x, lambda a, n: n + a, case(ANY, n=numbers), (Tensor.__radd__,)),
    Op("number - x", lambda x, n: n - x, lambda a, n: n - a, case(ANY, n=numbers), (Tensor.__rsub__,)),
    Op("number * x", lambda x, n: n * x, lambda a, n: n * a, case(ANY, n=numbers), (Tensor.__rmul__,)),
    Op("number / x", lambda x, n: n / x, lambda a, n: n / a, case(NONZERO, n=numbers), (Tensor.__rtruediv__,)),
    Op("x / number", lambda x, n: x / n, lambda a, n: a / n, case(ANY, n=numbers), (Tensor.__truediv__,)),
    Op("number ** x", lambda x, n: n**x, lambda a, n: n**a, case(ANY, n=st.sampled_from([2, 0.5, 1, 1.75])),
       (Tensor.__rpow__,)),
    Op("x ** number", lambda x, n: x**n, lambda a, n: a ** float(n),
       case(NONZERO, n=st.sampled_from([0, 1, 2, 3, 4, -1, -2, -3.0]))),
    Op("x ** fraction", lambda x, n: x**n, lambda a, n: a**n,
       case(POSITIVE, n=st.sampled_from([0.5, 1.5, -0.5, 2.25]))),
    Op("neg", z2g.neg, np.negative, case(ANY)),
    Op("square", z2g.square, np.square, case(ANY)),
    Op("sqrt", z2g.sqrt, np.sqrt, case(POSITIVE)),
    Op("rsqrt", z2g.rsqrt, lambda a: a**-0.5, case(POSITIVE)),
    Op("exp", z2g.exp, np.exp, case(ANY)),
    Op("log", z2g.log, np.log, case(POSITIVE)),
    Op("sin", z2g.sin, np.sin, case(ANY)),
    Op("cos", z2g.cos, np.cos, case(ANY)),
    Op("tanh", z2g.tanh, np.tanh, case(ANY)),
    Op("sigmoid", z2g.sigmoid, sigmoid, case(ANY)),
    Op("relu", z2g.relu, lambda a: a * (a > 0), case(NONZERO)),
    Op("F.relu", F.relu, lambda a: a * (a > 0), case(NONZERO)),
    Op("F.relu, inplace", lambda x: F.relu(x * 1, inplace=True), lambda a: a * (a > 0), case(NONZERO)),
    Op("F.leaky_relu", F.leaky_relu, lambda a, negative_slope: np.where(a > 0, a, negative_slope * a),
       case(NONZERO, negative_slope=st.sampled_from([0.01, 0.5, 0, -1.5]))),
    Op("erf", z2g.erf, erf, case(ANY)),
    # x / y is never an integer, where the rounded quotient jumps
    Op("div, rounded", z2g.div, lambda a, b, rounding_mode: ROUNDED[rounding_mode](a / b),
       case(OFFSET, NONZERO, rounding_mode=st.sampled_from(["floor", "trunc"]))),
    Op("abs", z2g.abs, np.abs, case(NONZERO)),
    Op("sign", z2g.sign, np.sign, case(NONZERO)),
    Op("reciprocal", z2g.reciprocal, lambda a: 1 / a, case(NONZERO)),
    Op("expm1", z2g.expm1, lambda a: np.exp(a) - 1, case(ANY)),
    Op("log2", z2g.log2, np.log2, case(POSITIVE)),
    Op("log1p", z2g.log1p, lambda a: np.log(1 + a), case(eighths(-3 / 4, 3))),
    Op("tan", z2g.tan, lambda a: np.sin(a) / np.cos(a), case(eighths(-5 / 4, 5 / 4))),
    Op("asin", z2g.asin, np.arcsin, case(INSIDE)),
    Op("acos", z2g.acos, np.arccos, case(INSIDE)),
    Op("atan", z2g.atan, np.arctan, case(ANY)),
    Op("sinh", z2g.sinh, lambda a: (np.exp(a) - np.exp(-a)) / 2, case(ANY)),
    Op("cosh", z2g.cosh, lambda a: (np.exp(a) + np.exp(-a)) / 2, case(ANY)),
    Op("floor", z2g.floor, np.floor, case(OFFSET)),
    Op("ceil", z2g.ceil, np.ceil, case(OFFSET)),
    Op("round", z2g.round, np.round, case(OFFSET)),
    # x is an odd multiple of 1/16 and y one of 1/8: x / y is never an integer, where the remainder jumps
    Op("number % x", lambda x, n: n % x, lambda a, n: n - a * np.floor(n / a),
       case(eighths(9 / 8, 15 / 8), n=st.sampled_from([5.03, -7.9])), (Tensor.__rmod__,)),
    Op("remainder", z2g.remainder, lambda a, b: a - b * np.floor(a / b), case(OFFSET, NONZERO)),
    Op("lerp", z2g.lerp, lambda a, b, w: (1 - w) * a + w * b, case(ANY, ANY, ANY)),
    Op("clamp", z2g.clamp, lambda a, min, max: np.clip(a, min, max), case(ANY, extra=bounds)),
    Op("clamp to tensors", lambda x, low, high: z2g.clamp(x, low, high), lambda a, low, high: np.clip(a, low, high),
       case(OFFSET, eighths(-3, 0), eighths(1 / 8, 3)), (z2g.clamp,)),
    Op("clamp to one tensor", lambda x, low: x.clamp(min=low, max=2.03125), lambda a, low: np.clip(a, low, 2.03125),
       case(OFFSET, eighths(-3, 2))),
    Op("maximum", z2g.maximum, np.maximum, case(ANY, OFFSET)),
    Op("minimum", z2g.minimum, np.minimum, case(ANY, OFFSET)),
    Op("max(x, y)", z2g.max, np.maximum, case(ANY, OFFSET)),
    Op("min(x, y)", z2g.min, np.minimum, case(ANY, OFFSET)),
    Op("where", choose, lambda a, b, condition: np.where(condition, a, b),
       case(ANY, ANY, shapes=broadcast(3), extra=conditions), (z2g.where,)),
    Op("x.where", lambda x, y, condition: x.where(condition, y), lambda a, b, condition: np.where(condition, a, b),
       case(ANY, ANY, shapes=broadcast(3), extra=conditions), (Tensor.where,)),
    Op("where, a number", lambda x, condition, n: z2g.where(condition, n, x),
       lambda a, condition, n: np.where(condition, n, a),
       case(ANY, shapes=broadcast(3), extra=conditions, n=numbers)),
    Op("masked_fill", lambda x, condition, n: z2g.masked_fill(x, condition, n),
       lambda a, condition, n: np.where(condition, n, a),
       case(ANY, shapes=broadcast(3), extra=conditions, n=numbers), (z2g.masked_fill,)),
    Op("masked_fill, a tensor", lambda x, v, condition: x.masked_fill(condition, v),
       lambda a, v, condition: np.where(condition, v, a),
       case(ANY, ANY, shapes=broadcast_into().map(lambda s: [s[0], (), s[1]]), extra=conditions)),
    Op("F.gelu", F.gelu, gelu, case(ANY, approximate=st.sampled_from(["none", "tanh"]))),
    Op("F.bias_gelu", F.bias_gelu, lambda a, b, approximate: gelu(a + b, approximate),
       case(ANY, ANY, shapes=biased, approximate=st.sampled_from(["none", "tanh"]))),
    Op("F.silu", F.silu, lambda a: a * sigmoid(a), case(ANY)),
    # The threshold lies between two values of βx, where the function jumps by a little
    Op("F.softplus", F.softplus, softplus,
       case(ANY, beta=st.sampled_from([1, 0.5, 2]), threshold=st.sampled_from([20, 1.03]))),
]  # fmt: skip


# --- Reductions --------------------------------------------------------------------------------------------------


def reduction(ufunc: Callable) -> Callable:
    """The twin of a reduction with `dim` and `keepdim`."""
    return lambda a, dim=None, keepdim=False: ufunc(a, axis=axes(a, dim), keepdims=keepdim)


@quiet
def mean(a: np.ndarray, dim: Any, keepdim: bool) -> np.ndarray:
    total = a.sum(axis=axes(a, dim), keepdims=keepdim)
    return total / np.ones_like(a).sum(axis=axes(a, dim), keepdims=keepdim)


def variance(a: np.ndarray, dim: Any = None, keepdim: bool = False, correction: float = 1) -> np.ndarray:
    return np.var(a, axis=axes(a, dim), keepdims=keepdim, ddof=correction)


def reduced(a: tuple, dim: Any) -> int:
    """How many elements a reduction of shape `a` combines."""
    every = range(len(a)) if dim is None else [dim] if isinstance(dim, int) else dim
    return math.prod(a[d] for d in every) if a else 1


def spread(draw: Any, shapes: list) -> dict:
    """`dim`, `keepdim` and a correction smaller than the number of elements."""
    dim = draw(dims(shapes[0]))
    corrections = [c for c in (1, 0, 2, 0.5) if c < max(1, reduced(shapes[0], dim))]
    return {"dim": dim, "keepdim": draw(st.booleans()), "correction": draw(st.sampled_from(corrections))}


def logsumexp(a: np.ndarray, dim: Any, keepdim: bool) -> np.ndarray:
    return np.log(np.exp(a).sum(axis=axes(a, dim), keepdims=keepdim))


def norm(a: np.ndarray, p: Any = 2, dim: Any = None, keepdim: bool = False) -> np.ndarray:
    if p == math.inf:
        return np.abs(a).max(axis=axes(a, dim), keepdims=keepdim)
    p = 2 if p == "fro" else p
    return (np.abs(a) ** p).sum(axis=axes(a, dim), keepdims=keepdim) ** (1 / p)


def extreme(pick: Callable, arg: Callable) -> Callable:
    """The twin of max and min along a dim: values and indices."""

    def twin(a: np.ndarray, dim: int, keepdim: bool) -> tuple:
        if not a.ndim:
            return a, np.zeros((), np.int64)
        return pick(a, axis=dim, keepdims=keepdim), arg(a, axis=dim, keepdims=keepdim)

    return twin


def cumulative(ufunc: Callable) -> Callable:
    return lambda a, dim: ufunc(a, axis=dim) if a.ndim else a


def ordered(a: np.ndarray, dim: int, descending: bool) -> tuple:
    if not a.ndim:
        return a, np.zeros((), np.int64)
    indices = np.argsort(-a if descending else a, axis=dim)
    return np.take_along_axis(a, indices, dim), indices


def largest(a: np.ndarray, k: int, dim: int, largest: bool) -> tuple:
    values, indices = ordered(a, dim, largest)
    return (np.take(values, range(k), dim), np.take(indices, range(k), dim)) if a.ndim else (values, indices)


def how_many(draw: Any, shapes: list) -> dict:
    axis = draw(dim(shapes[0]))
    k = draw(st.integers(0, shapes[0][axis])) if shapes[0] else 1
    return {"k": k, "dim": axis, "largest": draw(st.booleans())}


NONEMPTY_ROWS = shape_of(1, 3, least=2)
keepdims = st.booleans()

REDUCTIONS = [
    Op("sum", z2g.sum, reduction(np.sum), case(ANY, dim=dims, keepdim=keepdims)),
    Op("mean", z2g.mean, mean, case(ANY, dim=dims, keepdim=keepdims)),
    Op("var", z2g.var, variance, case(ANY, shapes=FILLED, extra=spread)),
    Op("std", z2g.std, lambda *a, **k: np.sqrt(variance(*a, **k)), case(DISTINCT, shapes=NONEMPTY_ROWS, extra=spread)),
    Op("var, unbiased", z2g.var, lambda a, dim, unbiased: variance(a, dim, correction=int(unbiased)),
       case(ANY, shapes=NONEMPTY_ROWS, dim=dims, unbiased=st.booleans())),
    Op("prod", z2g.prod, reduction(np.prod), case(ANY, dim=lambda s: st.none() | dim(s))),
    Op("prod, keepdim", z2g.prod, reduction(np.prod), case(ANY, dim=dim, keepdim=keepdims)),
    Op("max", z2g.max, np.max, case(DISTINCT, shapes=FILLED)),
    Op("min", z2g.min, np.min, case(DISTINCT, shapes=FILLED)),
    Op("max(dim)", z2g.max, extreme(np.max, np.argmax), case(DISTINCT, shapes=FILLED, dim=dim, keepdim=keepdims)),
    Op("min(dim)", z2g.min, extreme(np.min, np.argmin), case(DISTINCT, shapes=FILLED, dim=dim, keepdim=keepdims)),
    Op("amax", z2g.amax, reduction(np.max), case(DISTINCT, shapes=FILLED, dim=dims, keepdim=keepdims)),
    Op("amin", z2g.amin, reduction(np.min), case(DISTINCT, shapes=FILLED, dim=dims, keepdim=keepdims)),
    Op("logsumexp", z2g.logsumexp, logsumexp,
       case(ANY, shapes=FILLED, dim=lambda s: dim(s) | some_dims(s), keepdim=keepdims)),
    Op("norm", z2g.norm, norm, case(NONZERO, p=st.sampled_from([2, "fro", 1, 2.0]), dim=dims, keepdim=keepdims)),
    Op("norm, inf", z2g.norm, norm,
       case(DISTINCT_SIZES, shapes=FILLED, p=st.just(math.inf), dim=dims, keepdim=keepdims)),
    Op("cumsum", z2g.cumsum, cumulative(np.cumsum), case(ANY, dim=dim)),
    Op("cumprod", z2g.cumprod, cumulative(np.cumprod), case(ANY, dim=dim)),
    Op("sort", z2g.sort, ordered, case(DISTINCT, dim=dim, descending=st.booleans())),
    Op("topk", z2g.topk, largest, case(DISTINCT, shapes=FILLED, extra=how_many)),
]  # fmt: skip


# --- Products of matrices ----------------------------------------------------------------------------------------


sides = st.sampled_from(SIDES)
BATCHES = st.tuples(*[sides] * 4).map(lambda s: [(s[0], s[1], s[2]), (s[0], s[2], s[3])])
MATRICES = st.tuples(*[sides] * 3).map(lambda s: [(s[0], s[1]), (s[1], s[2])])
VECTORS = shape_of(1, 1)


@st.composite
def linear_case(draw: Any) -> Case:
    rows = draw(shape_of(0, 2))
    n_in, n_out = draw(sides), draw(sides)
    shapes = [(*rows, n_in), (n_out, n_in), (n_out,)][: draw(st.sampled_from([3, 2]))]
    return Case([draw(arrays(shape)) for shape in shapes])


def linear(x: np.ndarray, w: np.ndarray, b: Any = 0) -> np.ndarray:
    return np.einsum("...i,oi->...o", x, w) + b


EQUATIONS = [
    ("ik,kj->ij", ["ik", "kj"]), ("ik,kj", ["ik", "kj"]), ("bij,bjk->bik", ["bij", "bjk"]), ("i,j->ij", ["i", "j"]),
    ("ij->ji", ["ij"]), ("ij->", ["ij"]), ("ij->i", ["ij"]), ("ij", ["ij"]), ("ii->i", ["ii"]), ("ii", ["ii"]),
    ("iji->j", ["iji"]), ("i,i", ["i", "i"]), ("...ij,...jk->...ik", ["bij", "bjk"]),
    ("...ij,jk->...ik", ["abij", "jk"]), ("i...->...", ["iab"]), ("ij,jk,kl->il", ["ij", "jk", "kl"]),
    ("bhtd,bhsd->bhts", ["bhtd", "bhsd"]),
    ("ij,k->i", ["ij", "k"]), ("...i,...i", ["abi", "bi"]), ("iii->i", ["iii"]),
]  # fmt: skip


@st.composite
def summed(draw: Any) -> Case:
    equation, operands = draw(st.sampled_from(EQUATIONS))
    size = {c: draw(st.sampled_from([2, 3, 1, 2, 0])) for c in "abdhijklst"}
    return Case([draw(arrays(tuple(size[c] for c in letters))) for letters in operands], {"equation": equation})


@st.composite
def contracted(draw: Any) -> Case:
    """Two arrays that share some sizes, at any place, listed or as a number."""
    common, left, right = (draw(shape_of(0, 2)) for _ in range(3))
    n = len(common)
    if draw(st.booleans()):
        return Case([draw(arrays((*left, *common))), draw(arrays((*common, *right)))], {"dims": n})
    a, b = draw(st.permutations(range(n + len(left)))), draw(st.permutations(range(n + len(right))))
    inputs = [draw(arrays(tuple((*common, *rest)[i] for i in places))) for rest, places in ((left, a), (right, b))]
    return Case(inputs, {"dims": [[places.index(i) for i in range(n)] for places in (a, b)]})


PRODUCTS = [
    Op("matmul", z2g.matmul, np.matmul, case(ANY, ANY, shapes=multipliable())),
    Op("mm", z2g.mm, np.matmul, case(ANY, ANY, shapes=MATRICES)),
    Op("bmm", z2g.bmm, np.matmul, case(ANY, ANY, shapes=BATCHES)),
    Op("dot", z2g.dot, np.dot, case(ANY, ANY, shapes=same(2, VECTORS))),
    Op("mv", z2g.mv, np.matmul, case(ANY, ANY, shapes=st.tuples(sides, sides).map(lambda s: [s, s[1:]]))),
    Op(
        "einsum",
        lambda *xs, equation: z2g.einsum(equation, *xs),
        lambda *xs, equation: np.einsum(equation, *xs),
        summed(),
        (z2g.einsum,),
    ),
    Op("tensordot", z2g.tensordot, lambda a, b, dims: np.tensordot(a, b, dims), contracted()),
    Op("outer", z2g.outer, np.outer, case(ANY, ANY, shapes=st.tuples(VECTORS, VECTORS))),
    Op("F.linear", F.linear, linear, linear_case()),
]


# --- Shapes ------------------------------------------------------------------------------------------------------


@st.composite
def other_shape(draw: Any, shape: tuple) -> tuple:
    """Another shape with as many elements, one size perhaps given as -1."""
    n = math.prod(shape)
    sizes = [] if n else [draw(st.integers(1, 3))]
    while n > 1 and draw(st.booleans()):
        factor = draw(st.sampled_from([d for d in range(1, n + 1) if n % d == 0]))
        sizes.append(factor)
        n //= factor
    sizes = [*sizes, n] if n != 1 or draw(st.booleans()) else sizes
    known = math.prod(sizes)
    if sizes and known and draw(st.booleans()):
        sizes[draw(st.integers(0, len(sizes) - 1))] = -1
    return tuple(draw(st.permutations(sizes)))


@st.composite
def wider(draw: Any, shape: tuple) -> tuple:
    """A shape that `shape` expands to; -1 where a size stays."""
    full = [draw(st.sampled_from([1, 3, 0, 2])) if n == 1 else draw(st.sampled_from([n, -1])) for n in shape]
    return (*draw(st.lists(st.integers(0, 2), max_size=2)), *full)


def filled_in(old: tuple, shape: tuple) -> tuple:
    """`shape` with the old size for each -1."""
    extra = len(shape) - len(old)
    return tuple(old[i - extra] if n == -1 else n for i, n in enumerate(shape))


def repeats(shape: tuple) -> st.SearchStrategy:
    """A count for each dimension, and for up to two more in front."""
    return st.lists(st.integers(0, 2), min_size=len(shape), max_size=len(shape) + 2)


def zeros_of(shapes: st.SearchStrategy) -> st.SearchStrategy:
    """An array whose shape alone matters."""
    return shapes.map(lambda shape: np.zeros(tuple(shape)))


def from_to(draw: Any, shapes: list) -> dict:
    bound = max(len(shapes[0]), 1)
    start, end = sorted(draw(st.tuples(*[st.integers(0, bound - 1)] * 2)))
    back = draw(st.booleans())
    return {"start_dim": start, "end_dim": end - bound if back else end}


def flatten(a: np.ndarray, start_dim: int, end_dim: int) -> np.ndarray:
    if not a.ndim:
        return a.reshape(1)
    end = end_dim % a.ndim
    return a.reshape(*a.shape[:start_dim], math.prod(a.shape[start_dim : end + 1]), *a.shape[end + 1 :])


def squeeze(a: np.ndarray, dim: Any) -> np.ndarray:
    every = range(a.ndim) if dim is None else [dim] if isinstance(dim, int) else dim
    gone = {d % a.ndim for d in every} if a.ndim else set()
    return a.reshape([n for d, n in enumerate(a.shape) if d not in gone or n != 1])


@st.composite
def joined(draw: Any, any_length: bool, min_dims: int = 1, with_dim: bool = True) -> Case:
    """One to three arrays that agree in all sizes, or in all but that of `dim`."""
    shape = draw(shape_of(min_dims, 3))
    ndim = len(shape) + (0 if any_length else 1)
    axis = draw(st.integers(-ndim, ndim - 1)) if with_dim else 0
    shapes = []
    for _ in range(draw(st.integers(1, 3))):
        lengths = list(shape)
        if any_length:
            lengths[axis] = draw(st.integers(0, 3))
        shapes.append(tuple(lengths))
    return Case([draw(arrays(s)) for s in shapes], {"dim": axis} if with_dim else {})


def cut(a: np.ndarray, lengths: list[int], dim: int) -> tuple:
    """Pieces of these lengths along dim."""
    ends = np.cumsum([0, *lengths])
    return tuple(np.take(a, range(i, j), axis=dim) for i, j in itertools.pairwise(ends))


def split_sizes(draw: Any, shapes: list) -> dict:
    axis = draw(dim(shapes[0]))
    n = shapes[0][axis]
    if draw(st.booleans()):
        return {"dim": axis, "split_size": draw(st.integers(1, n + 1))}
    seams = sorted(draw(st.lists(st.integers(0, n), max_size=3)))
    return {"dim": axis, "split_size": [j - i for i, j in zip([0, *seams], [*seams, n], strict=True)]}


def split(a: np.ndarray, split_size: Any, dim: int) -> tuple:
    n = a.shape[dim]
    if isinstance(split_size, int):
        split_size = [min(split_size, n - i) for i in range(0, n, split_size)] or [0]
    return cut(a, split_size, dim)


def chunk(a: np.ndarray, chunks: int, dim: int) -> tuple:
    n = a.shape[dim]
    return split(a, -(-n // chunks), dim) if n else cut(a, [0] * chunks, dim)


def window(draw: Any, shapes: list) -> dict:
    axis = draw(dim(shapes[0]))
    n = shapes[0][axis]
    start = draw(st.integers(0, n))
    length = draw(st.integers(0, n - start))
    return {"dim": axis, "start": start - n if start < n and draw(st.booleans()) else start, "length": length}


def narrow(a: np.ndarray, dim: int, start: int, length: int) -> np.ndarray:
    start += a.shape[dim] if start < 0 else 0
    return np.take(a, range(start, start + length), axis=dim)


def shifts(draw: Any, shapes: list) -> dict:
    shift = st.integers(-4, 4)
    kind = draw(st.sampled_from(["flat", "one", "several"]))
    if kind == "flat" or not shapes[0]:
        return {"shifts": draw(shift), "dims": None}
    if kind == "one":
        return {"shifts": draw(shift), "dims": draw(dim(shapes[0]))}
    several = draw(some_dims(shapes[0]))
    return {"shifts": tuple(draw(shift) for _ in several), "dims": several}


FILLED_WITH_DIM = shape_of(1, 3, least=1)
WITH_DIM = shape_of(1, 3)
MATRIX_LIKE = shape_of(2, 3)
AT_MOST_MATRIX = shape_of(0, 2)


def two_dims(draw: Any, shapes: list) -> dict:
    return {"dim0": draw(dim(shapes[0])), "dim1": draw(dim(shapes[0]))}


def order(shape: tuple) -> st.SearchStrategy:
    """A permutation of the dimensions, some counted from the back."""
    n = len(shape)
    return st.tuples(st.permutations(range(n)), masks((n,))).map(
        lambda d: tuple(i - n * int(b) for i, b in zip(*d, strict=True))
    )


def triangle(a: np.ndarray) -> np.ndarray:
    """Column - row: 0 on the diagonal, negative below it."""
    return np.arange(a.shape[-1]) - np.arange(a.shape[-2])[:, None]


def factored(draw: Any, shapes: list) -> dict:
    axis = draw(dim(shapes[0]))
    n = shapes[0][axis]
    parts = draw(st.sampled_from([(n,), (1, n), (n, 1), (-1, n) if n else (n, 2), (n, -1) if n else (2, n)]))
    return {"dim": axis, "sizes": (2, -1) if n and n % 2 == 0 and draw(st.booleans()) else parts}


def unflatten(a: np.ndarray, dim: int, sizes: tuple) -> np.ndarray:
    dim %= a.ndim
    return a.reshape(*a.shape[:dim], *sizes, *a.shape[dim + 1 :]) if a.size else a.reshape(
        *a.shape[:dim], *[1 if n == -1 else n for n in sizes], *a.shape[dim + 1 :])  # fmt: skip


def moved(draw: Any, shapes: list) -> dict:
    n = len(shapes[0])
    source = draw(some_dims(shapes[0]))
    return {"source": source, "destination": tuple(draw(st.permutations(range(n)))[: len(source)])} if n else {
        "source": (), "destination": ()}  # fmt: skip


def corners(draw: Any, shapes: list) -> dict:
    i, j = draw(st.permutations(range(len(shapes[0]))))[:2]
    return {"offset": draw(st.integers(-2, 2)), "dim1": i, "dim2": j - len(shapes[0])}


MOVES = [
    Op("reshape", lambda x, shape: z2g.reshape(x, shape), lambda a, shape: a.reshape(shape),
       case(ANY, shape=other_shape), (z2g.reshape,)),
    Op("reshape(*sizes)", lambda x, shape: x.reshape(*shape), lambda a, shape: a.reshape(shape),
       case(ANY, shape=lambda s: other_shape(s).filter(len))),
    Op("view", lambda x, shape: x.view(shape), lambda a, shape: a.reshape(shape),
       case(ANY, shape=other_shape), (Tensor.view,), strided=False),
    Op("view_as", lambda x, like: x.view_as(like), lambda a, like: a.reshape(like.shape),
       case(ANY, like=lambda s: zeros_of(st.permutations(s))), (Tensor.view_as,), strided=False),
    Op("flatten", z2g.flatten, flatten, case(ANY, extra=from_to)),
    Op("squeeze", z2g.squeeze, squeeze, case(ANY, dim=dims)),
    Op("unsqueeze", z2g.unsqueeze, lambda a, dim: np.expand_dims(a, dim), case(ANY, dim=lambda s: dim((*s, 1)))),
    Op("transpose", z2g.transpose, lambda a, dim0, dim1: np.swapaxes(a, dim0, dim1) if a.ndim else a,
       case(ANY, extra=two_dims)),
    Op("t", z2g.t, lambda a: a.T, case(ANY, shapes=AT_MOST_MATRIX)),
    Op("x.T", lambda x: x.T, lambda a: a.T, case(ANY, shapes=AT_MOST_MATRIX), (Tensor.T,)),
    Op("x.mT", lambda x: x.mT, lambda a: np.swapaxes(a, -1, -2), case(ANY, shapes=MATRIX_LIKE), (Tensor.mT,)),
    Op("permute", lambda x, order: z2g.permute(x, order), lambda a, order: a.transpose(order),
       case(ANY, order=order), (z2g.permute,)),
    Op("unflatten", z2g.unflatten, unflatten, case(ANY, shapes=WITH_DIM, extra=factored), strided=False),
    Op("movedim", z2g.movedim, lambda a, source, destination: np.moveaxis(a, source, destination),
       case(ANY, extra=moved)),
    Op("diagonal", z2g.diagonal, lambda a, offset, dim1, dim2: np.diagonal(a, offset, dim1, dim2),
       case(ANY, shapes=MATRIX_LIKE, extra=corners)),
    Op("diag", z2g.diag, lambda a, diagonal: np.diag(a, diagonal),
       case(ANY, shapes=shape_of(1, 2), diagonal=st.integers(-2, 2))),
    Op("tile", lambda x, times: x.tile(*times), lambda a, times: np.tile(a, times),
       case(ANY, times=st.lists(st.integers(0, 2), max_size=4)), (Tensor.tile,)),
    Op("expand", lambda x, shape: x.expand(*shape), lambda a, shape: np.broadcast_to(a, filled_in(a.shape, shape)),
       case(ANY, shape=wider), (Tensor.expand,)),
    Op("expand_as", lambda x, like: x.expand_as(like), lambda a, like: np.broadcast_to(a, like.shape),
       case(ANY, like=lambda s: zeros_of(wider(s).map(lambda w: filled_in(s, w)))), (Tensor.expand_as,)),
    Op("broadcast_to", z2g.broadcast_to, np.broadcast_to,
       case(ANY, shape=lambda s: wider(s).map(lambda w: filled_in(s, w)))),
    Op("repeat", lambda x, times: x.repeat(*times), lambda a, times: np.tile(a, times),
       case(ANY, times=repeats), (Tensor.repeat,)),
    Op("cat", lambda *xs, dim: z2g.cat(xs, dim), lambda *xs, dim: np.concatenate(xs, dim),
       joined(any_length=True), (z2g.cat,)),
    Op("stack", lambda *xs, dim: z2g.stack(xs, dim), lambda *xs, dim: np.stack(xs, dim),
       joined(any_length=False, min_dims=0), (z2g.stack,)),
    Op("hstack", lambda *xs: z2g.hstack(xs), lambda *xs: np.hstack(xs),
       joined(any_length=False, min_dims=0, with_dim=False), (z2g.hstack,)),
    Op("vstack", lambda *xs: z2g.vstack(xs), lambda *xs: np.vstack(xs),
       joined(any_length=False, min_dims=0, with_dim=False), (z2g.vstack,)),
    Op("split", lambda x, split_size, dim: z2g.split(x, split_size, dim), split,
       case(ANY, shapes=WITH_DIM, extra=split_sizes), (z2g.split, Tensor.split)),
    Op("chunk", z2g.chunk, chunk, case(ANY, shapes=WITH_DIM, dim=dim, chunks=st.integers(1, 4))),
    Op("unbind", z2g.unbind, lambda a, dim: tuple(np.moveaxis(a, dim, 0)), case(ANY, shapes=FILLED_WITH_DIM, dim=dim)),
    Op("for row in x", lambda x: tuple(x), lambda a: tuple(a), case(ANY, shapes=FILLED_WITH_DIM), (Tensor.__iter__,)),
    Op("narrow", z2g.narrow, narrow, case(ANY, shapes=WITH_DIM, extra=window)),
    Op("roll", z2g.roll, lambda a, shifts, dims: np.roll(a, shifts, dims), case(ANY, extra=shifts)),
    Op("flip", lambda x, axes: z2g.flip(x, axes), lambda a, axes: np.flip(a, axes),
       case(ANY, axes=lambda s: some_dims(s) if s else st.just(())), (z2g.flip,)),
    Op("tril", z2g.tril, lambda a, diagonal: np.where(triangle(a) <= diagonal, a, 0),
       case(ANY, shapes=MATRIX_LIKE, diagonal=st.integers(-3, 3))),
    Op("triu", z2g.triu, lambda a, diagonal: np.where(triangle(a) >= diagonal, a, 0),
       case(ANY, shapes=MATRIX_LIKE, diagonal=st.integers(-3, 3))),
    Op("contiguous", lambda x: x.transpose(0, -1).contiguous(), lambda a: np.swapaxes(a, 0, -1),
       case(ANY, shapes=WITH_DIM), (Tensor.contiguous,)),
    Op("clone", Tensor.clone, np.copy, case(ANY)),
    Op("to(copy=True)", lambda x: x.to(x.dtype, copy=True), np.copy, case(ANY), (Tensor.to,)),
]  # fmt: skip


# --- Reading and writing parts -----------------------------------------------------------------------------------


def read(a: np.ndarray, index: tuple) -> np.ndarray:
    """a[index] in torch's order: integers first, so that `x[0, :, [1, 2]]` keeps the order of the dimensions."""
    first: list = []
    then: list = []
    for item in index:
        if isinstance(item, (list, np.ndarray)):
            item = np.asarray(item, None if np.size(item) or isinstance(item, np.ndarray) else np.int64)
            first += [slice(None)] * (item.ndim if item.dtype == bool else 1)
            then.append(item)
        else:
            first.append(item)
            then += [] if isinstance(item, int) else [...] if item is ... else [slice(None)]
    return a[tuple(first)][tuple(then)]


def write(a: np.ndarray, v: Any, index: tuple) -> np.ndarray:
    """A copy of a with a[index] = v. What stands where is found by reading an array of element numbers."""
    places = read(np.arange(a.size).reshape(a.shape), index)
    v = np.asarray(v)
    v = v.reshape(v.shape[max(0, v.ndim - places.ndim) :])  # excess sizes of 1 in front
    out = a.copy()
    out.reshape(-1)[places.reshape(-1)] = np.broadcast_to(v, places.shape).reshape(-1)
    return out


def written(x: Tensor, value: Any, index: Any) -> Tensor:
    y = x.clone()
    y[index] = value
    return y


@st.composite
def writing(draw: Any) -> Case:
    """x, a value that broadcasts to x[index], and the index."""
    shape = draw(shape_of(0, 3))
    index = draw(indices(shape, repeats=False))
    target = read(np.zeros(shape), index).shape
    value = [draw(st.sampled_from([n, n, 1])) for n in target][draw(st.integers(0, len(target))) :]
    if len(value) == len(target) and draw(st.booleans()):
        value = [1, *value]
    return Case([draw(arrays(shape)), draw(arrays(tuple(value)))], {"index": index})


def gathered(draw: Any, shapes: list) -> dict:
    """An index with as many dimensions as x, no larger except along dim."""
    (shape,) = shapes
    axis = draw(dim(shape))
    size = [draw(st.integers(0, n)) for n in shape]
    if shape:
        size[axis] = draw(st.integers(0, 4))
    return {"dim": axis, "index": draw(integers(tuple(size), 0, (shape[axis] if shape else 1) - 1))}


def gather(a: np.ndarray, dim: int, index: np.ndarray) -> np.ndarray:
    if not a.ndim:
        return a
    dim %= a.ndim
    same_size = tuple(slice(n) if d != dim else slice(None) for d, n in enumerate(index.shape))
    return np.take_along_axis(a[same_size], index, dim)


def along(draw: Any, shapes: list) -> dict:
    """An index that broadcasts with x except along dim."""
    (shape,) = shapes
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    size = [draw(st.sampled_from([n, 1] if n != 1 else [1, 2, 3])) for n in shape]
    size[axis] = draw(st.integers(0, 3))
    return {"dim": axis, "indices": draw(integers(tuple(size), 0, shape[axis] - 1))}


def selected(draw: Any, shapes: list) -> dict:
    (shape,) = shapes
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    return {"dim": axis, "index": draw(integers((draw(st.integers(0, 4)),), 0, shape[axis] - 1))}


def scattered(draw: Any, shapes: list) -> dict:
    """An index as for gather, without repetitions: which of two writers wins is not defined."""
    (shape,) = shapes
    axis = draw(dim(shape))
    size = [draw(st.integers(0, n)) for n in shape]
    index = np.zeros(tuple(size), np.int64)
    if shape and index.size:
        rows = np.moveaxis(index, axis, -1)
        for place in np.ndindex(rows.shape[:-1]):
            rows[place] = draw(st.permutations(range(shape[axis])))[: rows.shape[-1]]
    return {"dim": axis, "index": index}


@st.composite
def scattering(draw: Any, repeats: bool) -> Case:
    """x, src that is at least as large as the index, dim and index."""
    shape = draw(FILLED)
    kwargs = (gathered if repeats else scattered)(draw, [shape])
    src = tuple(n + draw(st.integers(0, 1)) for n in kwargs["index"].shape)
    return Case([draw(arrays(shape)), draw(arrays(src))], kwargs)


def scatter(a: np.ndarray, src: Any, dim: int, index: np.ndarray, add: bool = False) -> np.ndarray:
    """Element by element."""
    out = a.copy()
    for place in np.ndindex(index.shape):
        there = list(place)
        if place:
            there[dim] = index[place]
        value = src[place] if isinstance(src, np.ndarray) else src
        out[tuple(there)] = out[tuple(there)] * add + value
    return out


def several_times(draw: Any, shapes: list) -> dict:
    axis = draw(st.none() | dim(shapes[0]))
    n = math.prod(shapes[0]) if axis is None else shapes[0][axis]
    return {"dim": axis, "repeats": draw(st.integers(0, 3) | integers((n,), 0, 3))}


def chosen(draw: Any, shapes: list) -> dict:
    return {"mask": draw(masks(shapes[1]))}


MASK = "how many elements a boolean mask selects decides the shape of the result"

INDEXING = [
    Op("x[index]", lambda x, index: x[index], read, case(ANY, index=indices), (Tensor.__getitem__,), waits=MASK),
    Op("x[index] = v", lambda x, v, index: written(x, v, index), write, writing(), (Tensor.__setitem__,), waits=MASK),
    Op("x[index] = number", lambda x, v, index: written(x, v, index), write,
       case(ANY, index=lambda s: indices(s, repeats=False), v=numbers), waits=MASK),
    Op("gather", z2g.gather, gather, case(ANY, shapes=FILLED, extra=gathered)),
    Op("take_along_dim", z2g.take_along_dim, lambda a, indices, dim: np.take_along_axis(a, indices, dim),
       case(ANY, shapes=FILLED_WITH_DIM, extra=along)),
    Op("scatter", lambda x, src, dim, index: z2g.scatter(x, dim, index, src), scatter,
       scattering(repeats=False), (z2g.scatter,)),
    Op("scatter a number", lambda x, dim, index, n: x.scatter(dim, index, value=n),
       lambda a, dim, index, n: scatter(a, n, dim, index), case(ANY, shapes=FILLED, extra=scattered, n=numbers)),
    Op("scatter_add", lambda x, src, dim, index: z2g.scatter_add(x, dim, index, src),
       lambda a, src, dim, index: scatter(a, src, dim, index, add=True), scattering(repeats=True), (z2g.scatter_add,)),
    Op("select", lambda x, dim: z2g.select(x, dim, -1), lambda a, dim: np.take(a, -1, dim),
       case(ANY, shapes=FILLED_WITH_DIM, dim=dim), (z2g.select,)),
    Op("masked_select", z2g.masked_select, lambda a, mask: np.broadcast_to(a, np.broadcast_shapes(a.shape, mask.shape))[
        np.broadcast_to(mask, np.broadcast_shapes(a.shape, mask.shape))],
       case(ANY, shapes=broadcast(2), extra=chosen), waits=MASK),
    Op("repeat_interleave", z2g.repeat_interleave, lambda a, dim, repeats: np.repeat(a, repeats, dim),
       case(ANY, shapes=WITH_DIM, extra=several_times), waits="how often decides the shape of the result"),
    Op("index_select", z2g.index_select, lambda a, dim, index: np.take(a, index, dim),
       case(ANY, shapes=FILLED_WITH_DIM, extra=selected)),
]  # fmt: skip


# --- Writing in place: on a clone, since a leaf that requires grad may not be written to ---------------------------


def condition_into(draw: Any, shapes: list) -> dict:
    return {"mask": draw(masks(shapes[1]))}


IN_PLACE = [
    Op("add_", lambda x, y, alpha: x.clone().add_(y, alpha=alpha), lambda a, b, alpha: a + alpha * b,
       case(ANY, ANY, shapes=broadcast_into(), alpha=numbers), (Tensor.add_,)),
    Op("sub_", lambda x, y, alpha: x.clone().sub_(y, alpha=alpha), lambda a, b, alpha: a - alpha * b,
       case(ANY, ANY, shapes=broadcast_into(), alpha=numbers), (Tensor.sub_,)),
    Op("mul_", lambda x, y: x.clone().mul_(y), np.multiply, case(ANY, ANY, shapes=broadcast_into()), (Tensor.mul_,)),
    Op("div_", lambda x, y: x.clone().div_(y), np.divide, case(ANY, NONZERO, shapes=broadcast_into()), (Tensor.div_,)),
    Op("pow_", lambda x, y: x.clone().pow_(y), np.power, case(POSITIVE, ANY, shapes=broadcast_into()), (Tensor.pow_,)),
    Op("floor_divide_", lambda x, y: x.clone().floor_divide_(y), np.floor_divide,
       case(OFFSET, NONZERO, shapes=broadcast_into()), (Tensor.floor_divide_,)),
    Op("remainder_", lambda x, y: x.clone().remainder_(y), lambda a, b: a - b * np.floor(a / b),
       case(OFFSET, NONZERO, shapes=broadcast_into()), (Tensor.remainder_,)),
    Op("clamp_", lambda x, min, max: x.clone().clamp_(min, max), lambda a, min, max: np.clip(a, min, max),
       case(ANY, extra=bounds), (Tensor.clamp_,)),
    Op("masked_fill_", lambda x, mask, n: x.clone().masked_fill_(mask, n), lambda a, mask, n: np.where(mask, n, a),
       case(ANY, shapes=broadcast_into(), extra=condition_into, n=numbers), (Tensor.masked_fill_,)),
    Op("scatter_", lambda x, src, dim, index: x.clone().scatter_(dim, index, src), scatter,
       scattering(repeats=False), (Tensor.scatter_,)),
    Op("scatter_add_", lambda x, src, dim, index: x.clone().scatter_add_(dim, index, src),
       lambda a, src, dim, index: scatter(a, src, dim, index, add=True), scattering(repeats=True),
       (Tensor.scatter_add_,)),
    Op("fill_", lambda x, n: x.clone().fill_(n), lambda a, n: np.full_like(a, n), case(ANY, n=numbers), (Tensor.fill_,)),  # noqa: E501
    Op("zero_", lambda x: x.clone().zero_(), np.zeros_like, case(ANY), (Tensor.zero_,)),
    Op("copy_", lambda x, y: x.clone().copy_(y), lambda a, b: np.broadcast_to(b, a.shape),
       case(ANY, ANY, shapes=broadcast_into()), (Tensor.copy_,)),
]  # fmt: skip


# --- Functions of neural networks --------------------------------------------------------------------------------


def softmax(a: np.ndarray, dim: int) -> np.ndarray:
    return np.exp(a) / np.exp(a).sum(axis=axes(a, dim), keepdims=True)


PAIRS = same(2)


def nll(
    logp: np.ndarray, target: np.ndarray, weight: Any = None, ignore_index: int = -100, reduction: str = "mean"
) -> Any:
    """-w[t] logp[t] row by row; the mean is over Σ w[t] of the rows that count."""
    rows = logp[None] if logp.ndim == 1 else np.moveaxis(logp, 1, -1).reshape(-1, logp.shape[1])
    weight = np.ones(rows.shape[1]) if weight is None else weight
    losses, total = [], 0.0
    for row, t in zip(rows, target.reshape(-1), strict=True):
        counts = t != ignore_index
        losses.append(-weight[t] * row[t] if counts else 0.0)
        total += weight[t] if counts else 0
    return reduce(np.array(losses, float).reshape(target.shape), reduction, total)


def cross_entropy(a: np.ndarray, target: np.ndarray, **kwargs: Any) -> Any:
    return nll(a - np.log(np.exp(a).sum(axis=min(1, a.ndim - 1), keepdims=True)), target, **kwargs)


def smoothed(a: np.ndarray, target: np.ndarray, label_smoothing: float, **kwargs: Any) -> Any:
    """(1 - ε) times the loss for the target, plus ε / C times those for each class in turn."""
    C, reduction = a.shape[min(1, a.ndim - 1)], kwargs.pop("reduction")
    weight = np.ones(C) if kwargs["weight"] is None else kwargs["weight"]
    counts = target != kwargs["ignore_index"]
    own = cross_entropy(a, target, **kwargs, reduction="none")
    every = sum(cross_entropy(a, np.full_like(target, c), weight=weight, reduction="none") for c in range(C))
    every = every * counts
    losses = (1 - label_smoothing) * own + label_smoothing / C * every
    return reduce(losses, reduction, (weight[np.where(counts, target, 0)] * counts).sum())


def likelihood(a: np.ndarray, target: np.ndarray, weight: Any, reduction: str, label_smoothing: float) -> Any:
    axis = min(1, a.ndim - 1)
    C = a.shape[axis]
    logp = np.moveaxis(a - np.log(np.exp(a).sum(axis=axis, keepdims=True)), axis, -1)
    q = (1 - label_smoothing) * np.moveaxis(target, axis, -1) + label_smoothing / C
    losses = -(q * logp * (1 if weight is None else weight)).sum(-1)
    return reduce(losses, reduction)


@st.composite
def likely(draw: Any) -> Case:
    """Scores, probabilities in the same shape (both differentiable), class weights."""
    shape = draw(SCORES)
    classes = shape[1] if len(shape) > 1 else shape[0]
    inputs = [draw(arrays(shape)), draw(arrays(shape, eighths(0, 1)))]
    return Case(inputs, {"weight": draw(st.none() | arrays((classes,), POSITIVE)), "reduction": draw(reductions),
                         "label_smoothing": draw(st.sampled_from([0.0, 0.25]))})  # fmt: skip


def binary(p: np.ndarray, t: np.ndarray, reduction: str, pos_weight: Any = None) -> Any:
    w = 1 if pos_weight is None else pos_weight
    return reduce(-(w * t * np.log(p) + (1 - t) * np.log(1 - p)), reduction)


@st.composite
def labelled(draw: Any, shapes: Any, smoothing: bool = False) -> Case:
    """Scores, targets, class weights. The mean needs a target that counts: without one it is 0 / 0."""
    shape = draw(shapes)
    classes, places = (shape[1], (shape[0], *shape[2:])) if len(shape) > 1 else (shape[0], ())
    reduction = draw(reductions)
    ignore = draw(st.sampled_from([-100, -1, 0]))
    target = draw(integers(places, 0, classes - 1))
    target = np.where(draw(masks(places)), ignore, target)
    if reduction == "mean":
        target.reshape(-1)[:1] = classes - 1 if classes > 1 else 0
        ignore = ignore if classes > 1 else -100
        target = np.where((target < 0) & (target != ignore), 0, target)
    weight = draw(st.none() | arrays((classes,), POSITIVE))
    kwargs = {"target": target, "weight": weight, "ignore_index": ignore, "reduction": reduction}
    if smoothing:
        kwargs["label_smoothing"] = draw(st.sampled_from([0.125, 0.5, 1.0]))
    return Case([draw(arrays(shape))], kwargs)


SCORES = shape_of(1, 4, least=1)


@st.composite
def normalised(draw: Any) -> Case:
    """Input, and weight and bias where given."""
    shape = draw(shape_of(1, 2, least=1))
    rows = draw(shape_of(0, 2))
    names = draw(st.sampled_from([["weight", "bias"], [], ["weight"], ["bias"]]))
    inputs = [draw(arrays((*rows, *shape), DISTINCT)), *(draw(arrays(shape)) for _ in names)]
    return Case(inputs, {"shape": shape, "names": names, "eps": draw(st.sampled_from([1e-5, 0.125]))})


def layer_norm(x: np.ndarray, *parameters: np.ndarray, shape: tuple, names: list, eps: float) -> np.ndarray:
    given = dict(zip(names, parameters, strict=True))
    last = tuple(range(-len(shape), 0))
    n = (x - x.mean(axis=last, keepdims=True)) / np.sqrt(x.var(axis=last, keepdims=True) + eps)
    return n * given.get("weight", 1) + given.get("bias", 0)


def call_layer_norm(x: Tensor, *parameters: Tensor, shape: tuple, names: list, eps: float) -> Tensor:
    return F.layer_norm(x, shape, **dict(zip(names, parameters, strict=True)), eps=eps)


@st.composite
def rms_normalised(draw: Any) -> Case:
    shape = draw(shape_of(1, 2, least=1))
    inputs = [draw(arrays((*draw(shape_of(0, 2)), *shape), NONZERO)), draw(arrays(shape))]
    return Case(inputs[: draw(st.sampled_from([2, 1]))], {"shape": shape, "eps": draw(st.sampled_from([None, 0.125]))})


def rms_norm(x: np.ndarray, weight: Any = 1, *, shape: tuple, eps: float | None) -> np.ndarray:
    last = tuple(range(-len(shape), 0))
    eps = np.finfo(x.dtype).eps if eps is None else eps
    return x / np.sqrt((x**2).mean(axis=last, keepdims=True) + eps) * weight


def call_rms_norm(x: Tensor, weight: Any = None, *, shape: tuple, eps: float | None) -> Tensor:
    return F.rms_norm(x, shape, weight, eps)


@st.composite
def turned(draw: Any) -> Case:
    """Vectors of pairs, and any two numbers for each pair; those of a sine and a cosine are among them."""
    shape = (*draw(shape_of(0, 2)), draw(st.sampled_from(SIDES)), 2 * draw(st.integers(0, 3)))
    half = (*shape[:-1], shape[-1] // 2)
    small = draw(st.sampled_from([half, half[-2:], (*[1] * (len(half) - 1), half[-1])]))
    kwargs = {"cos": draw(arrays(small)), "sin": draw(arrays(small)), "interleaved": draw(st.booleans())}
    return Case([draw(arrays(shape))], kwargs)


def turn(x: np.ndarray, cos: np.ndarray, sin: np.ndarray, interleaved: bool) -> np.ndarray:
    """A pair (a, b) is the complex number a + ib, and turning it a multiplication."""
    d = x.shape[-1]
    pairs = [(2 * i, 2 * i + 1) if interleaved else (i, i + d // 2) for i in range(d // 2)]
    z = np.zeros_like(x)
    for i, (a, b) in enumerate(pairs):
        w = (x[..., a] + 1j * x[..., b]) * (cos[..., i] + 1j * sin[..., i])
        z[..., a], z[..., b] = w.real, w.imag
    return z


@st.composite
def looked_up(draw: Any, rows: int | None = None) -> Case:
    """A table and ids into it; a table of many rows is not drawn but made."""
    n = draw(st.integers(1, 4)) if rows is None else rows
    ids = draw(integers(draw(shape_of(0, 2)), 0, n - 1))
    table = draw(arrays((n, 2))) if rows is None else np.arange(n * 2.0).reshape(n, 2) / 8
    return Case([table], {"ids": ids})


@st.composite
def in_blocks(draw: Any) -> Case:
    """Vectors of one or two blocks, and a matrix of as many: of eight bits, or of four, two weights a byte."""
    nb, out, n = draw(st.integers(1, 2)), draw(st.integers(1, 3)), draw(st.sampled_from([0, 1, 3, 17]))
    x = draw(arrays((nb * 32,))) * (1 + np.arange(n)[:, None]) / 16
    bits = draw(st.sampled_from([4, 8]))
    shape = (nb, 4 * bits, out)
    quants = integers(shape, -128, 127) if bits == 8 else integers(shape, 0, 255)
    quants = draw(quants).astype(np.int8 if bits == 8 else np.uint8)
    offsets = draw(st.none() | arrays((nb, out)))
    x = x[0] if draw(st.booleans()) and n else x
    return Case([x], {"quants": quants, "scales": draw(arrays((nb, out))), "offsets": offsets})


def block_product(x: np.ndarray, quants: np.ndarray, scales: np.ndarray, offsets: Any) -> np.ndarray:
    """Weight by weight."""
    nb, m, out = quants.shape
    w = np.zeros((out, nb * 32))
    for o, b, i in itertools.product(range(out), range(nb), range(32)):
        q = int(quants[b, i % m, o])
        q = q if m == 32 else (q % 16 if i < 16 else q // 16)
        w[o, b * 32 + i] = q * scales[b, o] + (0 if offsets is None else offsets[b, o])
    return x @ w.T


@st.composite
def padded(draw: Any) -> Case:
    shape = draw(shape_of(1, 3))
    pairs = draw(st.integers(0, len(shape)))
    amounts = draw(st.lists(st.integers(0, 2), min_size=2 * pairs, max_size=2 * pairs))
    return Case([draw(arrays(shape))], {"pad": amounts, "value": draw(st.sampled_from([0.0, 1.5]))})


def pad(a: np.ndarray, pad: list, value: float) -> np.ndarray:
    pairs = list(zip(pad[::2], pad[1::2], strict=True))[::-1]
    return np.pad(a, [(0, 0)] * (a.ndim - len(pairs)) + pairs, constant_values=value)


@st.composite
def convolved(draw: Any) -> Case:
    channels, out, taps, batch = (draw(st.integers(1, n)) for n in (2, 2, 3, 2))
    dilation, stride = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    padding = draw(st.sampled_from([0, 1, 2, "valid", "same"]))
    stride = 1 if padding == "same" else stride
    reach = dilation * (taps - 1) + 1 - (2 * padding if isinstance(padding, int) else 0)
    length = max(1, reach if padding != "same" else 1) + draw(st.integers(0, 4))
    shapes = [(batch, channels, length), (out, channels, taps), (out,)][: draw(st.sampled_from([3, 2]))]
    shapes[0] = draw(st.sampled_from([shapes[0], shapes[0][1:], (0, *shapes[0][1:])]))
    kwargs = {"stride": stride, "padding": padding, "dilation": dilation}
    return Case([draw(arrays(shape)) for shape in shapes], kwargs)


def conv1d(x: np.ndarray, w: np.ndarray, b: Any = None, stride: int = 1, padding: Any = 0, dilation: int = 1) -> Any:
    """Σ over channels and taps of weight times input, place by place: a correlation, nothing is flipped."""
    if x.ndim == 2:
        return conv1d(x[None], w, b, stride, padding, dilation)[0]
    reach = dilation * (w.shape[2] - 1)
    left, right = {"valid": (0, 0), "same": (reach // 2, reach - reach // 2)}.get(padding, (padding, padding))
    x = np.pad(x, [(0, 0), (0, 0), (left, right)])
    places = range(0, x.shape[2] - reach, stride)
    z = np.zeros((x.shape[0], w.shape[0], len(places)))
    for i, t in enumerate(places):
        for k in range(w.shape[2]):
            z[:, :, i] += x[:, :, t + k * dilation] @ w[:, :, k].T
    return z + (0 if b is None else b[:, None])


@st.composite
def convolved_pictures(draw: Any) -> Case:
    channels, out, J, K, batch = (draw(st.integers(1, 2)) for _ in range(5))
    pairs = {
        name: draw(st.tuples(*[st.integers(low, 2)] * 2))
        for name, low in [("stride", 1), ("padding", 0), ("dilation", 1)]
    }
    sizes = [
        max(1, d * (k - 1) + 1 - 2 * p) + draw(st.integers(0, 2))
        for k, p, d in zip((J, K), pairs["padding"], pairs["dilation"], strict=True)
    ]
    shapes = [(batch, channels, *sizes), (out, channels, J, K), (out,)][: draw(st.sampled_from([3, 2]))]
    shapes[0] = draw(st.sampled_from([shapes[0], shapes[0][1:], (0, *shapes[0][1:])]))
    return Case([draw(arrays(shape)) for shape in shapes], pairs)


def conv2d(x: np.ndarray, w: np.ndarray, b: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1) -> Any:
    """Place by place, over channels and both axes of the window."""
    if x.ndim == 3:
        return conv2d(x[None], w, b, stride, padding, dilation)[0]
    x = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in padding)])
    spread = w.shape[2:]
    rows, columns = (range(0, x.shape[2 + i] - dilation[i] * (spread[i] - 1), stride[i]) for i in range(2))
    z = np.zeros((x.shape[0], w.shape[0], len(rows), len(columns)))
    for (i, s), (j, t), k, m in itertools.product(enumerate(rows), enumerate(columns), *map(range, spread)):
        z[:, :, i, j] += x[:, :, s + k * dilation[0], t + m * dilation[1]] @ w[:, :, k, m].T
    return z + (0 if b is None else b[:, None, None])


@st.composite
def pooled(draw: Any, n: int, domain: Any = None) -> Case:
    kernel, stride = (draw(st.integers(1, 3)) for _ in range(2))
    padding = draw(st.integers(0, kernel // 2))
    sizes = [max(1, kernel - 2 * padding) + draw(st.integers(0, 2)) for _ in range(n)]
    lead = draw(st.sampled_from([(1,), (2,), (2, 1), (0, 1)]))
    x = draw(arrays((*lead, *sizes), *[domain] * (domain is not None)))
    return Case([x], {"kernel_size": kernel, "stride": draw(st.sampled_from([stride, None])), "padding": padding})


def pool(best: Callable, n: int, outside: float) -> Callable:
    """The twin of a pooling function: `best` of each window of an input with n sliding dimensions."""

    def twin(x: np.ndarray, kernel_size: int, stride: int | None, padding: int) -> np.ndarray:
        x = np.pad(x, [(0, 0)] * (x.ndim - n) + [(padding, padding)] * n, constant_values=outside)
        axes = tuple(range(-n, 0))
        windows = np.lib.stride_tricks.sliding_window_view(x, (kernel_size,) * n, axis=axes)
        step = slice(None, None, stride or kernel_size)
        return best(windows[(..., *[step] * n, *[slice(None)] * n)], axis=axes)

    return twin


@st.composite
def attended(draw: Any, masked: bool = True) -> Case:
    lead = draw(shape_of(0, 2, least=1))
    T, S, d, e = (draw(st.integers(1, 3)) for _ in range(4))
    inputs = [draw(arrays((*lead, *size))) for size in [(T, d), (S, d), (S, e)]]
    if not masked:
        return Case(inputs, {"p": draw(st.sampled_from([0.25, 0.5, 1.0])), "seed": draw(SEEDS)})
    kind = draw(st.sampled_from(["none", "causal", "bool", "numbers", "each"]))
    mask = {"bool": masks((T, S)), "each": masks((*lead, T, S)), "numbers": arrays((T, S), [0, 0.5, -1, -math.inf])}
    kwargs = {"is_causal": kind == "causal", "attn_mask": draw(mask[kind]) if kind in mask else None}
    return Case(inputs, kwargs | {"scale": draw(st.sampled_from([None, 0.5, 1.25]))})


@st.composite
def attended_in_groups(draw: Any) -> Case:
    """As `attended`, but each head of keys and values serves one to three heads of queries."""
    lead = draw(shape_of(0, 1, least=1))
    nk, group, T, S, d, e = (draw(st.integers(1, n)) for n in (2, 3, 3, 3, 2, 2))
    inputs = [draw(arrays((*lead, *size))) for size in [(nk * group, T, d), (nk, S, d), (nk, S, e)]]
    shapes = {"all": (T, S), "one": (*lead, 1, T, S), "each": (*lead, nk * group, T, S)}
    kind = draw(st.sampled_from(["none", "causal", *shapes]))
    mask = draw(masks(shapes[kind])) if kind in shapes else None
    kwargs = {"is_causal": kind == "causal", "attn_mask": mask, "enable_gqa": True}
    return Case(inputs, kwargs | {"scale": draw(st.sampled_from([None, 0.5]))})


def grouped_attention(q: Any, k: Any, v: Any, enable_gqa: bool, **kwargs: Any) -> np.ndarray:
    """Keys and values repeated for neighbouring heads of the queries."""
    k, v = (np.repeat(x, q.shape[-3] // k.shape[-3], axis=-3) for x in (k, v))
    return attention(q, k, v, **kwargs)


def attention(
    q: Any, k: Any, v: Any, attn_mask: Any = None, is_causal: bool = False, scale: Any = None, kept: Any = 1
) -> Any:
    """Row i of the result is the mean of the values that query i may see, weighted by e^(scale q·k + mask)."""
    scores = q @ np.swapaxes(k, -1, -2) * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    T, S = scores.shape[-2:]
    if is_causal:
        attn_mask = np.arange(T)[:, None] >= np.arange(S)
    if attn_mask is not None:
        scores = np.where(attn_mask, scores, -math.inf) if attn_mask.dtype == bool else scores + attn_mask
    weights = np.exp(scores)
    total = weights.sum(axis=-1, keepdims=True)
    return weights / np.where(total == 0, 1, total) * kept @ v  # a query that sees nothing gives 0


def attend_and_drop(q: Tensor, k: Tensor, v: Tensor, p: float, seed: int) -> Tensor:
    z2g.manual_seed(seed)
    return F.scaled_dot_product_attention(q, k, v, dropout_p=p)


def attention_dropped(q: np.ndarray, k: np.ndarray, v: np.ndarray, p: float, seed: int) -> np.ndarray:
    """Equal scores and the identity as values show what was dropped: the result is then kept / S."""
    T, S = q.shape[-2], k.shape[-2]
    lead = q.shape[:-2]
    blank = [z2g.zeros(*lead, n, 1, dtype=z2g.float64, device="cpu") for n in (T, S)]
    seen = attend_and_drop(*blank, z2g.tensor(np.eye(S) + np.zeros((*lead, S, S)), device="cpu"), p=p, seed=seed)
    return attention(q, k, v, kept=seen.numpy() * S)


def drop(x: Tensor, p: float, seed: int) -> Tensor:
    z2g.manual_seed(seed)
    return F.dropout(x, p)


def dropped(a: np.ndarray, p: float, seed: int) -> np.ndarray:
    """The mask is random, but the same for the same seed: dropping from ones shows it. Each is 0 or 1 / (1 - p)."""
    mask = drop(z2g.ones(a.shape, dtype=z2g.float64, device="cpu"), p, seed).numpy()
    assert p == 1 or np.all((mask == 0) | (mask == 1 / (1 - p)))
    return a * mask


@st.composite
def recurrent(draw: Any, gates: int, states: int = 1, biases: int = 0) -> Case:
    """Inputs, states, the weights and biases of a recurrent layer."""
    L, N, H = draw(st.integers(0, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 2))
    shapes = [(L, N, gates * H), *[(N, H)] * states, (gates * H, H), *[(gates * H,)] * biases]
    return Case([draw(arrays(shape)) for shape in shapes])


def rnn(inputs: np.ndarray, h: np.ndarray, w: np.ndarray, nonlinearity: str = "tanh") -> np.ndarray:
    hs = []
    for i in inputs:
        s = i + h @ w.T
        h = np.tanh(s) if nonlinearity == "tanh" else np.where(s > 0, s, 0)
        hs.append(h)
    return np.array(hs).reshape(-1, *h.shape)


@st.composite
def bent(draw: Any) -> Case:
    """As `recurrent`, for relu: inputs are odd multiples of 1/16, w h even ones, and so no sum is 0."""
    L, N, H = draw(st.integers(0, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 2))
    return Case([draw(arrays((L, N, H), OFFSET)), draw(arrays((N, H))), draw(arrays((H, H), [0.0, 2.0, -2.0]))],
                {"nonlinearity": "relu"})  # fmt: skip


def gru(inputs: np.ndarray, h: np.ndarray, w: np.ndarray, b: Any = 0.0) -> np.ndarray:
    hs = []
    for i in inputs:
        (ir, iz, i_n), (sr, sz, sn) = np.split(i, 3, axis=1), np.split(h @ w.T + b, 3, axis=1)
        z = sigmoid(iz + sz)
        h = (1 - z) * np.tanh(i_n + sigmoid(ir + sr) * sn) + z * h
        hs.append(h)
    return np.array(hs).reshape(-1, *h.shape)


def lstm(inputs: np.ndarray, h: np.ndarray, c: np.ndarray, w: np.ndarray) -> tuple:
    hs = []
    for gates in inputs:
        i, f, g, o = np.split(gates + h @ w.T, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        hs.append(h)
    return np.array(hs).reshape(-1, *h.shape), c


NETWORK = [
    Op("softmax", z2g.softmax, softmax, case(ANY, dim=dim)),
    Op("log_softmax", z2g.log_softmax, lambda a, dim: np.log(softmax(a, dim)), case(ANY, dim=dim)),
    Op("F.mse_loss", F.mse_loss, lambda a, b, reduction: reduce((a - b) ** 2, reduction),
       case(ANY, ANY, shapes=PAIRS, reduction=reductions)),
    Op("F.l1_loss", F.l1_loss, lambda a, b, reduction: reduce(np.abs(a - b), reduction),
       case(ANY, OFFSET, shapes=PAIRS, reduction=reductions)),
    Op("F.cross_entropy", F.cross_entropy, cross_entropy, labelled(SCORES)),
    Op("F.nll_loss", F.nll_loss, nll, labelled(SCORES)),
    Op("F.cross_entropy, smoothed", F.cross_entropy, smoothed, labelled(SCORES, smoothing=True)),
    Op("F.cross_entropy, probabilities", F.cross_entropy, likelihood, likely()),
    Op("F.binary_cross_entropy", F.binary_cross_entropy, binary, case(  # steps must not leave 0..1, so
        eighths(1 / 8, 7 / 8), eighths(1 / 8, 7 / 8), shapes=PAIRS, reduction=reductions)),
    Op("F.binary_cross_entropy, certain", F.binary_cross_entropy,
       lambda a, target, reduction: binary(a, target, reduction),
       case(eighths(1 / 8, 7 / 8), reduction=reductions, target=lambda shape: arrays(shape, [0.0, 1.0]))),
    Op("F.binary_cross_entropy_with_logits", F.binary_cross_entropy_with_logits,
       lambda a, t, pos_weight, reduction: binary(sigmoid(a), t, reduction, pos_weight),
       case(ANY, eighths(0, 1), shapes=PAIRS, reduction=reductions, pos_weight=st.none() | arrays((), POSITIVE))),
    Op("F.rms_norm", call_rms_norm, rms_norm, rms_normalised(), (F.rms_norm,)),
    Op("F.normalize", F.normalize, lambda a, p, dim: a / norm(a, p, dim, True),
       case(NONZERO, p=st.sampled_from([2, 1, 2.0]), dim=dim)),
    Op("F.cosine_similarity", F.cosine_similarity,
       quiet(lambda a, b, dim: (a * b).sum(axes(a, dim)) / (norm(a, 2, dim) * norm(b, 2, dim) + 1e-99)),
       case(NONZERO, NONZERO, shapes=same(2), dim=dim)),
    Op("F.layer_norm", call_layer_norm, layer_norm, normalised(), (F.layer_norm,)),
    Op("F.dropout", drop, dropped, case(ANY, p=st.sampled_from([0.5, 0.25, 0, 1]), seed=SEEDS), (F.dropout,)),
    Op("F.embedding", lambda w, ids: F.embedding(ids, w), lambda w, ids: w[ids], looked_up(), (F.embedding,)),
    Op("F.embedding, large", lambda w, ids: F.embedding(ids, w), lambda w, ids: w[ids], looked_up(rows=600)),
    Op("F.pad", F.pad, pad, padded()),
    Op("F.conv1d", F.conv1d, conv1d, convolved()),
    Op("F.conv2d", F.conv2d, conv2d, convolved_pictures()),
    Op("F.max_pool1d", F.max_pool1d, pool(np.max, 1, -np.inf), pooled(1, DISTINCT)),
    Op("F.max_pool2d", F.max_pool2d, pool(np.max, 2, -np.inf), pooled(2, DISTINCT)),
    Op("F.avg_pool1d", F.avg_pool1d, pool(np.mean, 1, 0), pooled(1)),
    Op("rnn_scan", rnn_scan, rnn, recurrent(1)),
    Op("rnn_scan, relu", rnn_scan, rnn, bent()),
    Op("gru_scan", gru_scan, gru, recurrent(3, biases=1)),
    Op("gru_scan, no bias", gru_scan, gru, recurrent(3)),
    Op("lstm_scan", lstm_scan, lstm, recurrent(4, states=2)),
    Op("F.attention", F.scaled_dot_product_attention, attention, attended()),
    Op("F.attention, grouped", F.scaled_dot_product_attention, grouped_attention, attended_in_groups()),
    Op("F.rotary_embedding", F.rotary_embedding, turn, turned()),
    Op("quantized_linear", quantized_linear, block_product, in_blocks()),
    Op("F.attention, dropout", attend_and_drop, attention_dropped, attended(masked=False)),
]  # fmt: skip


TABLE = [
    *ELEMENTWISE, *REDUCTIONS, *PRODUCTS, *MOVES, *INDEXING, *IN_PLACE, *NETWORK, *LAYERS, *MORE,
]  # fmt: skip


# --- What is not in the table, and why ---------------------------------------------------------------------------

EXEMPT = {
    "no gradient passes: the result is bool or integer": """
        eq ne lt le gt ge __eq__ __ne__ __lt__ __le__ __gt__ __ge__ logical_and logical_or logical_not isnan isfinite
        isinf isclose allclose equal floor_divide __floordiv__ __rfloordiv__ argsort count_nonzero
        __and__ __rand__ __or__ __ror__ __xor__ __rxor__ __invert__
        __lshift__ __rlshift__ __rshift__ __rrshift__ all any argmax argmin one_hot __contains__""",
    "conversion to a dtype or device: test_trap_21_* in test_traps_ops.py": """
        type type_as cpu cuda float double half long int bool""",
    "fills with random numbers: nothing to differentiate": "normal_ uniform_",
    "the gradient machinery itself": """
        backward grad requires_grad requires_grad_ retain_grad retains_grad register_hook
        register_post_accumulate_grad_hook detach data make""",
    "computed from positions, which are integers: test_llama.py": "rotary_angles",
    "write integers in place: test_inplace.py": """
        __iand__ __ior__ __ixor__ __ilshift__ __irshift__""",
    "inspection": """
        explain shape size ndim dim numel dtype device is_leaf grad_fn is_floating_point is_contiguous element_size
        nbytes
        item tolist numpy __array__ __float__ __int__ __index__ __bool__ __len__ __repr__ __format__
        __deepcopy__ __reduce__ __init__ __hash__""",
}  # fmt: skip
EXEMPT |= EXEMPT_MORE
