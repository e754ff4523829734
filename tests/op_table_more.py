"""More rows of the table in `op_table.py`: grids, further products, statistics, writing by index, decompositions.

As there, the twin is the definition, in NumPy or element by element.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st
from op_row import Op, axes
from strategies import (
    ANY,
    DISTINCT,
    FILLED,
    NONZERO,
    OFFSET,
    POSITIVE,
    Case,
    arrays,
    case,
    dim,
    eighths,
    integers,
    masks,
    same,
    shape_of,
)

import tinygrad_z2g as z2g
from tinygrad_z2g import Tensor
from tinygrad_z2g.ops import decompositions, grids, products

INSIDE = eighths(-7 / 8, 7 / 8)
limits = st.sampled_from([-1.5, -0.5, 0.25, 1.75])  # no element of OFFSET is ever at a limit
WAITS = "how it comes out depends on the numbers, which are looked at on the host"
LAPACK = "cuSOLVER says in a word of its own whether it succeeded, and CuPy reads it"


def vectors(*lengths: int) -> st.SearchStrategy:
    """Shapes of so many vectors, of any lengths."""
    return st.lists(st.integers(0, 3), min_size=len(lengths) or 1, max_size=3).map(lambda ns: [(n,) for n in ns])


@st.composite
def several(draw: Any, shapes: st.SearchStrategy, **kwargs: Any) -> Case:
    """As many arrays as there are shapes."""
    drawn = draw(shapes)
    return Case([draw(arrays(shape)) for shape in drawn], {name: draw(value) for name, value in kwargs.items()})


# --- Element by element ------------------------------------------------------------------------------------------

erf = np.vectorize(math.erf, otypes=[float])


def erfinv(a: np.ndarray) -> np.ndarray:
    """By halving."""
    low, high = np.full(a.shape, -4.0), np.full(a.shape, 4.0)
    for _ in range(60):
        middle = (low + high) / 2
        below = erf(middle) < a
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return (low + high) / 2


def digamma(x: float) -> float:
    """From x + 40 on ln x - 1 / 2x - 1 / 12x² + 1 / 120x⁴ is right to 15 digits; below 0 by reflection."""
    if x < 0:
        return digamma(1 - x) - math.pi / math.tan(math.pi * x)
    y = x + 40
    return math.log(y) - 1 / (2 * y) - 1 / (12 * y**2) + 1 / (120 * y**4) - sum(1 / (x + k) for k in range(40))


ELEMENTARY = [
    Op("log10", z2g.log10, np.log10, case(POSITIVE)),
    Op("exp2", z2g.exp2, lambda a: 2.0**a, case(ANY)),
    Op("asinh", z2g.asinh, np.arcsinh, case(ANY)),
    Op("acosh", z2g.acosh, np.arccosh, case(eighths(9 / 8, 3))),
    Op("atanh", z2g.atanh, np.arctanh, case(INSIDE)),
    Op("trunc", z2g.trunc, np.trunc, case(OFFSET)),
    Op("frac", z2g.frac, lambda a: a - np.trunc(a), case(OFFSET)),
    Op("erfinv", z2g.erfinv, erfinv, case(eighths(-3 / 4, 3 / 4))),
    Op("lgamma", z2g.lgamma, np.vectorize(math.lgamma, otypes=[float]), case(OFFSET)),
    Op("digamma", z2g.digamma, np.vectorize(digamma, otypes=[float]), case(OFFSET)),
    Op("atan2", z2g.atan2, np.arctan2, case(OFFSET, NONZERO)),
    Op("hypot", z2g.hypot, np.hypot, case(NONZERO, ANY)),
    Op("fmod", z2g.fmod, np.fmod, case(OFFSET, NONZERO)),
    Op("logaddexp", z2g.logaddexp, lambda a, b: np.log(np.exp(a) + np.exp(b)), case(ANY, ANY)),
    Op("xlogy", z2g.xlogy, lambda a, b: a * np.log(b), case(ANY, POSITIVE)),
    Op("clamp_min", z2g.clamp_min, lambda a, min: np.maximum(a, min), case(OFFSET, min=limits)),
    Op("clamp_max", z2g.clamp_max, lambda a, max: np.minimum(a, max), case(OFFSET, max=limits)),
    Op("deg2rad", z2g.deg2rad, np.deg2rad, case(ANY)),
    Op("rad2deg", z2g.rad2deg, np.rad2deg, case(ANY)),
    Op("nan_to_num", z2g.nan_to_num, np.copy, case(ANY)),
    Op("logit", z2g.logit, lambda a: np.log(a / (1 - a)), case(eighths(1 / 8, 7 / 8))),
    Op("logit, limited", z2g.logit, lambda a, eps: np.log(np.clip(a, eps, 1 - eps) / (1 - np.clip(a, eps, 1 - eps))),
       case(eighths(1 / 8, 7 / 8), eps=st.just(0.3))),
    Op("sinc", z2g.sinc, np.sinc, case(ANY)),
    Op("norm, any p", z2g.norm, lambda a, p, dim, keepdim: (np.abs(a) ** p).sum(axis=axes(a, dim), keepdims=keepdim)
       ** (1 / p), case(NONZERO, shapes=FILLED, p=st.sampled_from([3, 1.5, 0.5]), dim=dim, keepdim=st.booleans())),
]  # fmt: skip


# --- Grids and arrangements --------------------------------------------------------------------------------------


def parts(draw: Any, shapes: list) -> dict:
    """In how many parts, or before which places, and along which dimension."""
    axis = draw(dim(shapes[0]))
    n = shapes[0][axis]
    where = draw(st.integers(1, 4) | st.lists(st.integers(0, n), max_size=3).map(sorted))
    return {"where": where, "dim": axis}


def at_places(axis: int, least: int) -> Any:
    """Arguments of hsplit and its kin: places, or a number that divides the size."""

    def extra(draw: Any, shapes: list) -> dict:
        n = shapes[0][min(axis, len(shapes[0]) - 1)]
        divisors = [d for d in range(1, n + 1) if n % d == 0] or [1]
        return {"where": draw(st.sampled_from(divisors) | st.lists(st.integers(0, n), max_size=2).map(sorted))}

    return case(ANY, shapes=shape_of(least, 3), extra=extra)


def splitting(axis: int) -> Callable:
    return lambda a, where: tuple(np.array_split(a, where, min(axis, a.ndim - 1)))


def block_diag(*blocks: np.ndarray) -> np.ndarray:
    blocks = tuple(np.atleast_2d(b) for b in blocks)
    out = np.zeros(np.sum([b.shape for b in blocks], 0))
    i = j = 0
    for b in blocks:
        out[i : i + b.shape[0], j : j + b.shape[1]] = b
        i, j = i + b.shape[0], j + b.shape[1]
    return out


def diag_embed(a: np.ndarray, offset: int) -> np.ndarray:
    out = np.zeros((*a.shape[:-1], a.shape[-1] + abs(offset), a.shape[-1] + abs(offset)))
    for i in range(a.shape[-1]):
        out[..., i + max(0, -offset), i + max(0, offset)] = a[..., i]
    return out


def windows(draw: Any, shapes: list) -> dict:
    axis = draw(dim(shapes[0]))
    return {"dimension": axis, "size": draw(st.integers(1, shapes[0][axis])), "step": draw(st.integers(1, 3))}


def unfold(a: np.ndarray, dimension: int, size: int, step: int) -> np.ndarray:
    rows = np.moveaxis(a, dimension, 0)
    cut = np.array([rows[i : i + size] for i in range(0, len(rows) - size + 1, step)])  # (k, size, ...)
    return np.moveaxis(np.moveaxis(cut, 1, -1), 0, dimension if dimension >= 0 else dimension - 1)


def turning(draw: Any, shapes: list) -> dict:
    i, j = draw(st.permutations(range(len(shapes[0]))))[:2]
    return {"k": draw(st.integers(-2, 5)), "dims": (i, j - len(shapes[0]))}


MATRIX_LIKE = shape_of(2, 3)
WITH_DIM = shape_of(1, 3)

GRIDS = [
    Op("meshgrid", z2g.meshgrid, lambda *xs, indexing: tuple(np.meshgrid(*xs, indexing=indexing)),
       several(vectors(), indexing=st.sampled_from(["ij", "xy"]))),
    Op("cartesian_prod", z2g.cartesian_prod, lambda *xs: np.array(list(itertools.product(*xs))).reshape(-1, len(xs)),
       several(vectors(1, 1))),
    Op("combinations", z2g.combinations, lambda a, r, with_replacement: np.array(list(
        (itertools.combinations_with_replacement if with_replacement else itertools.combinations)(a, r)
       )).reshape(-1, r), case(ANY, shapes=shape_of(1, 1), r=st.integers(1, 3), with_replacement=st.booleans())),
    Op("broadcast_tensors", z2g.broadcast_tensors, lambda *xs: tuple(np.broadcast_arrays(*xs)), case(ANY, ANY)),
    Op("tensor_split", lambda x, where, dim: z2g.tensor_split(x, where, dim),
       lambda a, where, dim: tuple(np.array_split(a, where, dim)), case(ANY, shapes=WITH_DIM, extra=parts),
       (z2g.tensor_split,)),
    Op("hsplit", lambda x, where: z2g.hsplit(x, where), splitting(1), at_places(1, 1), (z2g.hsplit,)),
    Op("vsplit", lambda x, where: z2g.vsplit(x, where), splitting(0), at_places(0, 2), (z2g.vsplit,)),
    Op("dsplit", lambda x, where: z2g.dsplit(x, where), splitting(2), at_places(2, 3), (z2g.dsplit,)),
    Op("atleast_1d", z2g.atleast_1d, np.atleast_1d, case(ANY)),
    Op("atleast_2d", z2g.atleast_2d, np.atleast_2d, case(ANY)),
    Op("atleast_3d", z2g.atleast_3d, np.atleast_3d, case(ANY)),
    Op("dstack", lambda *xs: z2g.dstack(xs), lambda *xs: np.dstack(xs), several(same(2)), (z2g.dstack,)),
    Op("column_stack", lambda *xs: z2g.column_stack(xs), lambda *xs: np.column_stack(xs),
       several(same(2, shape_of(1, 3))), (z2g.column_stack,)),
    Op("block_diag", z2g.block_diag, block_diag, several(st.lists(shape_of(0, 2), min_size=1, max_size=3))),
    Op("ravel", z2g.ravel, np.ravel, case(ANY)),
    Op("fliplr", z2g.fliplr, np.fliplr, case(ANY, shapes=MATRIX_LIKE)),
    Op("flipud", z2g.flipud, np.flipud, case(ANY, shapes=WITH_DIM)),
    Op("rot90", z2g.rot90, lambda a, k, dims: np.rot90(a, k, dims), case(ANY, shapes=MATRIX_LIKE, extra=turning)),
    Op("diag_embed", z2g.diag_embed, diag_embed, case(ANY, shapes=WITH_DIM, offset=st.integers(-2, 2))),
    Op("diagflat", z2g.diagflat, lambda a, offset: np.diagflat(a, offset), case(ANY, offset=st.integers(-2, 2))),
    Op("take", lambda x, index: z2g.take(x, index), lambda a, index: np.take(a, index),
       case(ANY, shapes=FILLED, index=lambda s: integers((2, 2), -math.prod(s), math.prod(s) - 1)), (z2g.take,)),
    Op("msort", z2g.msort, lambda a: np.sort(a, 0), case(DISTINCT, shapes=WITH_DIM)),
    Op("unfold", grids.unfold, unfold, case(ANY, shapes=shape_of(1, 3, least=1), extra=windows), (Tensor.unfold,)),
]  # fmt: skip


# --- Products ----------------------------------------------------------------------------------------------------

sizes = st.integers(0, 3)
factors = st.sampled_from([1, 2, -0.5])


def sized(*letters: str, least: int = 0) -> st.SearchStrategy:
    """Shapes written as letters: "nm", "mk" are two matrices that can be multiplied."""
    names = sorted(set("".join(letters)))
    return st.lists(st.integers(least, 3), min_size=len(names), max_size=len(names)).map(
        lambda ns: [tuple(dict(zip(names, ns, strict=True))[c] for c in word) for word in letters]
    )


def scaled(product: Callable) -> Callable:
    return lambda x, a, b, beta, alpha: beta * x + alpha * product(a, b)


def with_product(*letters: str) -> st.SearchStrategy:
    return several(sized(*letters), beta=factors, alpha=factors)


def threes(shape: tuple) -> tuple:
    return (3, *shape[1:])


@st.composite
def crossed(draw: Any) -> Case:
    shape = list(draw(shape_of(1, 3)))
    axis = draw(st.integers(0, len(shape) - 1))
    shape[axis] = 3
    return Case([draw(arrays(tuple(shape))) for _ in range(2)], {"dim": axis - draw(st.sampled_from([0, len(shape)]))})


def cdist(x: np.ndarray, y: np.ndarray, p: float) -> np.ndarray:
    d = np.abs(x[..., :, None, :] - y[..., None, :, :])
    return d.max(-1) if p == math.inf else (d**p).sum(-1) ** (1 / p)


@st.composite
def far_apart(draw: Any) -> Case:
    """Rows of which no two are near each other, in any component."""
    n, m, d, p = draw(sizes), draw(sizes), draw(st.integers(1, 3)), draw(st.sampled_from([2.0, 1.0, 3.0, math.inf]))
    lead = draw(st.sampled_from([(), (2,)]))
    x = draw(arrays((*lead, n, d), DISTINCT))
    return Case([x, draw(arrays((*lead, m, d), DISTINCT)) * 3 + 50 + np.arange(d) * 40.0], {"p": p})


def differing(draw: Any, shapes: list) -> dict:
    return {"n": draw(st.integers(0, 3)), "dim": draw(dim(shapes[0]))}


def varied(draw: Any, shapes: list) -> dict:
    return {"correction": draw(st.integers(0, shapes[0][-1] - 1 if shapes[0] else 0))}


PRODUCTS = [
    Op("addmm", z2g.addmm, scaled(np.matmul), with_product("nk", "nm", "mk")),
    Op("addmm, a row", z2g.addmm, scaled(np.matmul), with_product("k", "nm", "mk")),
    Op("addmv", z2g.addmv, scaled(np.matmul), with_product("n", "nm", "m")),
    Op("addr", z2g.addr, scaled(np.outer), with_product("nm", "n", "m")),
    Op("baddbmm", z2g.baddbmm, scaled(np.matmul), with_product("bnk", "bnm", "bmk")),
    Op("addbmm", z2g.addbmm, scaled(lambda a, b: (a @ b).sum(0)), with_product("nk", "bnm", "bmk")),
    Op("addcmul", z2g.addcmul, lambda x, a, b, value: x + value * a * b, case(ANY, ANY, ANY, value=factors)),
    Op("addcdiv", z2g.addcdiv, lambda x, a, b, value: x + value * a / b, case(ANY, ANY, NONZERO, value=factors)),
    Op("inner", z2g.inner, np.inner, several(sized("nk", "mk") | sized("k", "nmk") | sized("k", "k") | sized("", "n"))),
    Op("vdot", z2g.vdot, np.dot, several(sized("n", "n"))),
    Op("kron", z2g.kron, np.kron, several(st.tuples(shape_of(0, 2), shape_of(0, 2)))),
    Op("chain_matmul", z2g.chain_matmul, lambda a, b, c: a @ b @ c, several(sized("nm", "mk", "kl"))),
    Op("matrix_power", z2g.matrix_power, np.linalg.matrix_power,
       several(sized("nn") | sized("bnn"), n=st.sampled_from([1, 2, 3, 5]))),
    Op("trace", products.trace, np.trace, several(sized("nm")), (Tensor.trace,)),
    Op("cross", z2g.cross, lambda a, b, dim: np.cross(a, b, axis=dim), crossed()),
    Op("cdist", z2g.cdist, cdist, far_apart()),
    Op("dist", z2g.dist, lambda a, b, p: (np.abs(a - b) ** p).sum() ** (1 / p),
       case(eighths(-3, -1), eighths(1, 3), shapes=same(2, FILLED), p=st.sampled_from([2, 1, 3]))),
    Op("diff", z2g.diff, lambda a, n, dim: np.diff(a, n, dim), case(ANY, shapes=WITH_DIM, extra=differing)),
    Op("diff, lengthened", lambda x, before, after: z2g.diff(x, prepend=before, append=after),
       lambda a, before, after: np.diff(a, prepend=before, append=after), several(sized("nm", "nk", "nl")),
       (z2g.diff,)),
    Op("trapezoid", z2g.trapezoid, lambda a, dx, dim: np.trapezoid(a, dx=dx, axis=dim),
       case(ANY, shapes=shape_of(1, 3, least=1), dim=dim, dx=factors)),
    Op("trapezoid, at places", lambda y, x: z2g.trapezoid(y, x), np.trapezoid, several(sized("nm", "m", least=1)),
       (z2g.trapezoid,)),
    Op("cumulative_trapezoid", z2g.cumulative_trapezoid,
       lambda a, x: np.cumsum(np.diff(x) * (a[..., 1:] + a[..., :-1]) / 2, -1), several(sized("nm", "m", least=1))),
    Op("vander", z2g.vander, lambda a, N, increasing: np.vander(a, N, increasing),
       case(ANY, shapes=shape_of(1, 1), N=st.none() | st.integers(1, 4), increasing=st.booleans())),
    Op("cov", z2g.cov, lambda a, correction: np.cov(a, ddof=correction),
       case(ANY, shapes=shape_of(1, 2, least=2), extra=varied)),
    Op("corrcoef", z2g.corrcoef, np.corrcoef, case(DISTINCT, shapes=st.sampled_from([(2, 3), (3, 4), (2, 4)]))),
]  # fmt: skip


# --- Statistics --------------------------------------------------------------------------------------------------


def in_order(a: np.ndarray, axis: int, place: int, keepdim: bool) -> tuple:
    if not a.ndim:
        return a, np.zeros((), np.int64)
    order = np.take(np.argsort(a, axis), [place], axis)
    values = np.take_along_axis(a, order, axis)
    return (values, order) if keepdim else (values.squeeze(axis), order.squeeze(axis))


def kth(draw: Any, shapes: list) -> dict:
    axis = draw(dim(shapes[0]))
    return {"dim": axis, "k": draw(st.integers(1, shapes[0][axis] if shapes[0] else 1)), "keepdim": draw(st.booleans())}


def middle(a: np.ndarray, dim: int, keepdim: bool) -> tuple:
    return in_order(a, dim, (a.shape[dim] - 1) // 2 if a.ndim else 0, keepdim)


def commonest(a: np.ndarray, dim: int, keepdim: bool) -> tuple:
    """All elements differ, so the smallest."""
    return in_order(a, dim, 0, keepdim)


def running(best: Callable) -> Callable:
    def twin(a: np.ndarray, dim: int) -> tuple:
        if not a.ndim:
            return a, np.zeros((), np.int64)
        values = best.accumulate(a, dim)
        at = np.arange(a.shape[dim]).reshape([-1 if d == dim % a.ndim else 1 for d in range(a.ndim)])
        return values, np.maximum.accumulate(np.where(a == values, at, 0), dim)

    return twin


def quantile(a: np.ndarray, q: Any, dim: Any, keepdim: bool, interpolation: str) -> np.ndarray:
    return np.quantile(a, q, axis=axes(a, dim) if dim is not None else None, keepdims=keepdim, method=interpolation)


shares = st.sampled_from([0.0, 0.3, 0.55, 1.0]) | st.sampled_from([np.array([0.2, 0.9]), np.array([0.45])])
FILLED_WITH_DIM = shape_of(1, 3, least=1)

STATISTICS = [
    Op("kthvalue", z2g.kthvalue, lambda a, k, dim, keepdim: in_order(a, dim, k - 1, keepdim),
       case(DISTINCT, shapes=FILLED, extra=kth)),
    Op("median", z2g.median, middle, case(DISTINCT, shapes=FILLED, dim=dim, keepdim=st.booleans())),
    Op("median of all", z2g.median, lambda a: np.sort(a.reshape(-1))[(a.size - 1) // 2], case(DISTINCT, shapes=FILLED)),
    Op("nanmedian", z2g.nanmedian, middle, case(DISTINCT, shapes=FILLED, dim=dim, keepdim=st.booleans())),
    Op("mode", z2g.mode, commonest, case(DISTINCT, shapes=FILLED, dim=dim, keepdim=st.booleans()), waits=WAITS),
    Op("quantile", z2g.quantile, quantile,
       case(DISTINCT, shapes=FILLED_WITH_DIM, q=shares, dim=lambda s: st.none() | dim(s), keepdim=st.booleans(),
            interpolation=st.sampled_from(["linear", "lower", "higher", "midpoint"])), waits=WAITS),
    Op("nanquantile", z2g.nanquantile, quantile,
       case(DISTINCT, shapes=FILLED_WITH_DIM, q=shares, dim=dim, keepdim=st.booleans(),
            interpolation=st.just("linear")), waits=WAITS),
    Op("aminmax", z2g.aminmax, lambda a, dim, keepdim: (a.min(axes(a, dim), keepdims=keepdim),
                                                        a.max(axes(a, dim), keepdims=keepdim)),
       case(DISTINCT, shapes=FILLED, dim=dim, keepdim=st.booleans())),
    Op("var_mean", z2g.var_mean, lambda a, dim: (a.var(axis=dim, ddof=1), a.mean(axis=dim)),
       case(ANY, shapes=shape_of(1, 3, least=2), dim=dim)),
    Op("std_mean", z2g.std_mean, lambda a, dim: (a.std(axis=dim, ddof=1), a.mean(axis=dim)),
       case(DISTINCT, shapes=shape_of(1, 3, least=2), dim=dim)),
    Op("cummax", z2g.cummax, running(np.maximum), case(DISTINCT, dim=dim), waits=WAITS),
    Op("cummin", z2g.cummin, running(np.minimum), case(DISTINCT, dim=dim), waits=WAITS),
    Op("nansum", z2g.nansum, lambda a, dim: np.nansum(a, axis=axes(a, dim)), case(ANY, dim=dim)),
    Op("nanmean", z2g.nanmean, lambda a, dim: np.nanmean(a, axis=axes(a, dim)), case(ANY, shapes=FILLED, dim=dim)),
]  # fmt: skip


# --- Writing by index --------------------------------------------------------------------------------------------


@st.composite
def slices_of(draw: Any, repeats: bool, source: bool = True) -> Case:
    """x, the slices to write along a dimension, and where."""
    shape = draw(shape_of(1, 3, least=1))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    n = shape[axis]
    ids = draw(integers((draw(st.integers(0, 3)),), 0, n - 1)) if repeats else np.array(
        draw(st.permutations(range(n)))[: draw(st.integers(0, n))], np.int64)  # fmt: skip
    size = list(shape)
    size[axis] = len(ids)
    inputs = [draw(arrays(shape)), *([draw(arrays(tuple(size)))] if source else [])]
    return Case(inputs, {"dim": axis, "index": ids})


def by_slices(write: Callable) -> Callable:
    """Slice by slice."""

    def twin(a: np.ndarray, *source: np.ndarray, dim: int, index: np.ndarray, **kwargs: Any) -> np.ndarray:
        out = np.moveaxis(a.copy(), dim, 0)
        for k, i in enumerate(index):
            out[i] = write(out[i], *(np.moveaxis(s, dim, 0)[k] for s in source), **kwargs)
        return np.moveaxis(out, 0, dim)

    return twin


@st.composite
def put(draw: Any, accumulate: bool) -> Case:
    shape = draw(st.sampled_from([(3,), (2, 3), (3, 1)]))
    n = draw(st.integers(0, 3))
    flat = draw(integers((n,), 0, math.prod(shape) - 1)) if accumulate else np.array(
        draw(st.permutations(range(math.prod(shape))))[:n], np.int64)  # fmt: skip
    index = tuple(np.asarray(i) for i in np.unravel_index(flat, shape))
    return Case([draw(arrays(shape)), draw(arrays((n,)))], {"indices": index, "accumulate": accumulate})


def index_put(a: np.ndarray, v: np.ndarray, indices: tuple, accumulate: bool) -> np.ndarray:
    out = a.copy()
    for k, place in enumerate(zip(*indices, strict=True)):
        out[place] = v[k] + (out[place] if accumulate else 0)
    return out


@st.composite
def masked(draw: Any) -> Case:
    shape = draw(shape_of())
    mask = draw(masks(shape))
    return Case([draw(arrays(shape)), draw(arrays((int(mask.sum()) + draw(st.integers(0, 2)),)))], {"mask": mask})


def masked_scatter(a: np.ndarray, source: np.ndarray, mask: np.ndarray) -> np.ndarray:
    out = a.copy()
    out[mask] = source[: mask.sum()]
    return out


@st.composite
def reduced(draw: Any) -> Case:
    shape = draw(shape_of(1, 2, least=1))
    axis = draw(st.integers(0, len(shape) - 1))
    size = list(shape)
    size[axis] = draw(st.integers(0, 3))
    index = draw(integers(tuple(size), 0, shape[axis] - 1))
    return Case([draw(arrays(shape)), draw(arrays(tuple(size)))],
                {"dim": axis, "index": index, "reduce": draw(st.sampled_from(["sum", "mean"])),
                 "include_self": draw(st.booleans())})  # fmt: skip


def scatter_reduce(
    a: np.ndarray, src: np.ndarray, dim: int, index: np.ndarray, reduce: str, include_self: bool
) -> np.ndarray:
    """What is written to each place, in a list."""
    lists: dict = {}
    for place in np.ndindex(index.shape):
        there = list(place)
        there[dim] = index[place]
        lists.setdefault(tuple(there), []).append(src[place])
    out = a.copy()
    for place, values in lists.items():
        values = [*values, *([a[place]] if include_self else [])]
        out[place] = sum(values) / (len(values) if reduce == "mean" else 1)
    return out


WRITING = [
    Op("index_fill", lambda x, dim, index, value: z2g.index_fill(x, dim, index, value),
       lambda a, dim, index, value: by_slices(lambda row: value)(a, dim=dim, index=index),
       slices_of(True, source=False).map(lambda c: Case(c.inputs, {**c.kwargs, "value": 0.75})), (z2g.index_fill,)),
    Op("index_copy", lambda x, s, dim, index: z2g.index_copy(x, dim, index, s), by_slices(lambda row, s: s),
       slices_of(False), (z2g.index_copy,)),
    Op("index_add", lambda x, s, dim, index: z2g.index_add(x, dim, index, s, alpha=2),
       by_slices(lambda row, s: row + 2 * s), slices_of(True), (z2g.index_add,)),
    Op("index_put", lambda x, v, indices, accumulate: z2g.index_put(x, indices, v, accumulate), index_put,
       put(False) | put(True), (z2g.index_put,)),
    Op("masked_scatter", lambda x, s, mask: z2g.masked_scatter(x, mask, s), masked_scatter, masked(),
       (z2g.masked_scatter,), waits=WAITS),
    Op("scatter_reduce", lambda x, s, dim, index, reduce, include_self: z2g.scatter_reduce(
        x, dim, index, s, reduce, include_self=include_self), scatter_reduce, reduced(), (z2g.scatter_reduce,)),
    Op("index_add_", lambda x, s, dim, index: x.clone().index_add_(dim, index, s), by_slices(lambda row, s: row + s),
       slices_of(True)),
    Op("unsqueeze_", lambda x: (x * 2).unsqueeze_(0), lambda a: 2 * a[None], case(ANY)),
    Op("t_, then in place", lambda x: (x * 2).t_().mul_(3), lambda a: 6 * a.T, case(ANY, shapes=shape_of(2, 2))),
]  # fmt: skip


# --- Decompositions ----------------------------------------------------------------------------------------------


@st.composite
def invertible(draw: Any, *more: str, least: int = 1) -> Case:
    """A matrix near a multiple of the unit matrix, so far from singular, perhaps a batch, and others that fit."""
    n, m = draw(st.integers(least, 3)), draw(st.integers(0, 2))
    lead = draw(st.sampled_from([(), (2,)])) if not more or more[0] != "n" else ()
    a = draw(arrays((*lead, n, n), eighths(-1 / 2, 1 / 2))) + 3 * np.eye(n) + np.diag(np.arange(n))
    return Case([a, *(draw(arrays((*lead, *({"n": n, "m": m}[c] for c in word)))) for word in more)])


@st.composite
def tall(draw: Any, *more: str, wide: bool = False) -> Case:
    """A matrix of full rank, with singular values far from each other."""
    m = draw(st.integers(1, 3))
    n = m + draw(st.integers(0, 2))
    a = draw(arrays((n, m), eighths(-1 / 4, 1 / 4))) + np.eye(n, m) * (2 + 2 * np.arange(m))
    return Case([a.T.copy() if wide else a, *(draw(arrays((n, 2))) for _ in more)])


def sym(x: Any) -> Any:
    return (x + (x.mT if isinstance(x, Tensor) else np.swapaxes(x, -1, -2))) / 2


def np_svd(a: np.ndarray) -> tuple:
    u, s, vh = np.linalg.svd(a, full_matrices=False)
    return u**2, s, vh**2


def squared_svd(x: Tensor) -> tuple:
    u, s, vh = decompositions.svd(x, full_matrices=False)
    return u.square(), s, vh.square()


def squared_qr(x: Tensor) -> tuple:
    q, r = decompositions.qr(x)
    return q.square(), r.square()


def squared_eigh(x: Tensor) -> tuple:
    w, v = decompositions.eigh(sym(x))
    return w, v.square()


def np_eigh(a: np.ndarray) -> tuple:
    w, v = np.linalg.eigh(sym(a))
    return w, v**2


def triangular(a: np.ndarray, upper: bool) -> np.ndarray:
    return np.triu(a) if upper else np.tril(a)


DECOMPOSITIONS = [
    Op("inv", decompositions.inv, np.linalg.inv, invertible(), waits=LAPACK),
    Op("det", decompositions.det, np.linalg.det, invertible(), waits=LAPACK),
    Op("det, singular", decompositions.det, np.linalg.det, st.sampled_from(
        [Case([np.zeros((2, 2))]), Case([np.array([[1.0, 2.0], [2.0, 4.0]])]), Case([np.diag([1.0, 0.0, 2.0])])]),
       waits=LAPACK),
    Op("slogdet", lambda x: decompositions.slogdet(x).logabsdet, lambda a: np.linalg.slogdet(a)[1], invertible(),
       (decompositions.slogdet,), waits=LAPACK),
    Op("logdet", decompositions.logdet, lambda a: np.log(np.linalg.det(a)), invertible(), waits=LAPACK),
    Op("solve", decompositions.solve, np.linalg.solve, invertible("nm"), waits=LAPACK),
    Op("solve, vectors", decompositions.solve, lambda a, b: np.linalg.solve(a, b[..., None])[..., 0],
       invertible("n"), waits=LAPACK),
    Op("solve, from the right", lambda a, b: decompositions.solve(a, b, left=False),
       lambda a, b: b @ np.linalg.inv(a), invertible("mn"), waits=LAPACK),
    Op("solve_triangular", lambda a, b, upper: decompositions.solve_triangular(a, b, upper=upper),
       lambda a, b, upper: np.linalg.solve(triangular(a, upper), b),
       st.tuples(invertible("nm"), st.booleans()).map(lambda p: Case(p[0].inputs, {"upper": p[1]})),
       (decompositions.solve_triangular,), waits=LAPACK),
    Op("cholesky", lambda x: decompositions.cholesky(sym(x)), lambda a: np.linalg.cholesky(sym(a)), invertible(),
       (decompositions.cholesky,), waits=LAPACK),
    Op("eigh", squared_eigh, np_eigh, invertible(), (decompositions.eigh,), waits=LAPACK),
    Op("svd", squared_svd, np_svd, tall() | tall(wide=True), (decompositions.svd,), waits=LAPACK),
    Op("svdvals", decompositions.svdvals, lambda a: np.linalg.svd(a, compute_uv=False), tall(), waits=LAPACK),
    Op("qr", squared_qr, lambda a: tuple(part**2 for part in np.linalg.qr(a)), tall(), (decompositions.qr,),
       waits=LAPACK),
    Op("pinv", decompositions.pinv, np.linalg.pinv, tall() | tall(wide=True), waits=LAPACK),
    Op("lstsq", lambda a, b: decompositions.lstsq(a, b).solution, lambda a, b: np.linalg.pinv(a) @ b, tall("b"),
       (decompositions.lstsq,), waits=LAPACK),
]  # fmt: skip


MORE = [*ELEMENTARY, *GRIDS, *PRODUCTS, *STATISTICS, *WRITING, *DECOMPOSITIONS]

EXEMPT_MORE = {
    "a new tensor, without history: test_names.py": """
        new_tensor new_zeros new_ones new_empty new_full new resize_ resize_as_ volatile nelement ndimension""",
    "the operation, written over x: test_names.py compares each with it": """
        abs_ neg_ square_ sqrt_ rsqrt_ reciprocal_ exp_ expm1_ log_ log2_ log10_ log1p_ sin_ cos_ tan_ tanh_
        sigmoid_ relu_ erfinv_ floor_ ceil_ round_ trunc_ sign_ clip_ clamp_min_ clamp_max_ nan_to_num_ lerp_
        fmod_ addcmul_ addcdiv_ addmm_ addmv_ addr_ baddbmm_ addbmm_ tril_ triu_ index_fill_ index_copy_
        index_add_ index_put_ erf_ sinh_ cosh_ asin_ acos_ atan_ true_divide_ masked_scatter_ scatter_reduce_
        subtract_ multiply_ divide_ t_ transpose_ swapaxes_ swapdims_ squeeze_ unsqueeze_ logical_and_
        logical_or_ logical_not_ fill_diagonal_ detach_ apply_""",
    "draws numbers of the rows": "multinomial",
    "fills with random numbers": "random_ bernoulli_ exponential_ log_normal_ geometric_ cauchy_ bernoulli",
    "questions, and other names for what is tested: test_names.py": """
        is_cuda itemsize is_sparse is_mps is_quantized is_meta H mH is_complex is_signed is_pinned is_shared is_nonzero
        is_same_size is_set_to data_ptr stride get_device pin_memory share_memory_ short char byte __copy__ reshape_as
        sum_to_size is_cpu bfloat16""",
    "no gradient passes: the result is bool or integer, or a step": """
        argwhere bincount bucketize histc isin nonzero searchsorted unique unique_consecutive heaviside isneginf
        isposinf logical_xor signbit bitwise_and bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift
        bitwise_xor greater greater_equal less less_equal not_equal""",
}
