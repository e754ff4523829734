"""What Hypothesis draws for the tests of operations: shapes, values, dims, indices.

Values are multiples of 1/8: exact in binary (so float32 and float64 start from the same numbers), they shrink to 0
and 1, and print short. Where a function has a kink the *domain* keeps away from it by at least 1/16, far more than a
step of the finite differences; nothing is drawn and then thrown away.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp


def eighths(low: float, high: float) -> list[float]:
    """The multiples of 1/8 from low to high, small and positive ones first: Hypothesis shrinks towards the front."""
    values = [n / 8 for n in range(math.ceil(8 * low), math.floor(8 * high) + 1)]
    return sorted(values, key=lambda v: (abs(v), v < 0))


ANY = eighths(-3, 3)
NONZERO = [v for v in ANY if v]
POSITIVE = eighths(1 / 8, 3)
OFFSET = [v + 1 / 16 for v in ANY]  # never equal to one of ANY
DISTINCT = "all elements different"
DISTINCT_SIZES = "all magnitudes different, none 0"

SIDES = [1, 2, 3, 2, 3, 0, 3, 2, 4]  # how often each size is drawn: 0 and 1 in every example would hide much
NDIMS = [0, 1, 2, 3, 2, 3, 1, 2]


def shape_of(min_dims: int = 0, max_dims: int = 3, least: int = 0) -> st.SearchStrategy:
    """A shape with sizes from `least` to 4."""
    sides = st.sampled_from([n for n in SIDES if n >= least])
    ndims = st.sampled_from([n for n in NDIMS if min_dims <= n <= max_dims])
    return ndims.flatmap(lambda n: st.lists(sides, min_size=n, max_size=n)).map(tuple)


SHAPES = shape_of()
FILLED = shape_of(least=1)  # no size 0
SEEDS = st.integers(0, 2**32 - 1)  # for randomness that is not data: directions, cotangents


def digits(shape: tuple[int, ...], base: int) -> st.SearchStrategy:
    """An array of numbers from 0 to base - 1, drawn as one string of bytes: a choice for each element of all arrays
    took longer than the operation and its gradient (0.4 ms an example instead of 1.2 at 24 elements)."""
    width = np.dtype(np.uint8 if base <= 256 else np.uint32)
    n = math.prod(shape) * width.itemsize
    return st.binary(min_size=n, max_size=n).map(
        lambda drawn: np.frombuffer(drawn, width).astype(np.int64).reshape(shape) % max(base, 1)
    )


@st.composite
def arrays(draw: Any, shape: tuple[int, ...], domain: Any = ANY) -> np.ndarray:
    """A float64 array of a shape, its elements from a domain."""
    if domain in (DISTINCT, DISTINCT_SIZES):
        n = math.prod(shape)
        keys = np.frombuffer(draw(st.binary(min_size=2 * n, max_size=2 * n)), np.uint16)
        order = keys.argsort(kind="stable").astype(float).reshape(shape)
        if domain == DISTINCT:
            return (order - n // 2) / 8
        return (order + 1) / 8 * np.where(order % 2, -1, 1)
    return np.asarray(np.array(domain, float)[draw(digits(shape, len(domain)))])


def integers(shape: tuple[int, ...], low: int, high: int) -> st.SearchStrategy:
    """An int64 array with elements low to high, both included."""
    return digits(shape, high - low + 1).map(lambda drawn: np.asarray(low + drawn))


def masks(shape: tuple[int, ...]) -> st.SearchStrategy:
    """A bool array."""
    return integers(shape, 0, 1).map(lambda a: a.astype(bool))


# --- A call of an operation --------------------------------------------------------------------------------------


@dataclass
class Case:
    """The arguments of one call: arrays to differentiate by, and everything else by name."""

    inputs: list[np.ndarray]
    kwargs: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        """As Python that makes it again, given `from numpy import *`: a failing example can be pasted."""
        return f"Case({as_python(self.inputs)}, {as_python(self.kwargs)})"


def as_python(value: Any) -> str:
    """An argument of an operation, written so that `eval` gives it back: shapes of empty arrays, inf and dtypes too."""
    if isinstance(value, np.ndarray):
        numbers = f"array({value.reshape(-1).tolist()}, {value.dtype.name!r})"
        return numbers if value.ndim == 1 else f"{numbers}.reshape({value.shape})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {as_python(part)}" for key, part in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        inside = ", ".join(map(as_python, value))
        return f"[{inside}]" if isinstance(value, list) else f"({inside}{',' * (len(value) == 1)})"
    return repr(value)


@st.composite
def case(draw: Any, *domains: Any, shapes: Any = None, extra: Callable | None = None, **kwargs: Any) -> Case:
    """One array per domain, in shapes that broadcast with each other, and keyword arguments.

    A keyword is a strategy, or a function that makes one out of the first array's shape. `extra(draw, shapes)` returns
    further keywords, for those that depend on each other.
    """
    if shapes is None:
        shapes = SHAPES if len(domains) == 1 else broadcast(len(domains))
    drawn = draw(shapes)
    drawn = [drawn] if len(domains) == 1 and not isinstance(drawn, list) else list(drawn)
    inputs = [draw(arrays(shape, domain)) for shape, domain in zip(drawn, domains, strict=False)]
    named = {}
    for name, strategy in kwargs.items():
        named[name] = draw(strategy(drawn[0]) if callable(strategy) else strategy)
    return Case(inputs, named | (extra(draw, drawn) if extra else {}))


@st.composite
def broadcast(draw: Any, n: int, max_dims: int = 3) -> list[tuple[int, ...]]:
    """n shapes that broadcast against each other: sizes of 1, missing dimensions, 0-d and empty ones."""
    full = draw(shape_of(max_dims=max_dims))

    def part() -> tuple[int, ...]:
        if draw(st.booleans()):
            return full
        return tuple(draw(st.sampled_from([m, 1])) for m in full[draw(st.integers(0, len(full))) :])

    return [part() for _ in range(n)]


@st.composite
def broadcast_into(draw: Any) -> list[tuple[int, ...]]:
    """Two shapes, the second of which broadcasts to the first."""
    full = draw(SHAPES)
    return [full, tuple(draw(st.sampled_from([m, m, 1])) for m in full[draw(st.integers(0, len(full))) :])]


@st.composite
def multipliable(draw: Any) -> list[tuple[int, ...]]:
    """Two shapes for matmul: (..., n, k) and (..., k, m) with batches that broadcast; also vectors (k,)."""
    left, right = draw(broadcast(2, max_dims=2))
    n, k, m = (draw(st.sampled_from(SIDES)) for _ in range(3))
    kind = draw(st.sampled_from(["matrices", "matrices", "row", "column", "vectors"]))
    return [
        (k,) if kind in ("row", "vectors") else (*left, n, k),
        (k,) if kind in ("column", "vectors") else (*right, k, m),
    ]


def same(n: int, shapes: st.SearchStrategy = SHAPES) -> st.SearchStrategy:
    """A list of n equal shapes."""
    return shapes.map(lambda shape: [shape] * n)


# --- Dimensions --------------------------------------------------------------------------------------------------


def dim(shape: tuple[int, ...]) -> st.SearchStrategy:
    """One dimension, counted from the front or from the back; 0 or -1 for a 0-d tensor."""
    bound = max(len(shape), 1)
    return st.integers(-bound, bound - 1)


def some_dims(shape: tuple[int, ...]) -> st.SearchStrategy:
    """A tuple of at least one dimension, none twice."""
    return hnp.valid_tuple_axes(len(shape), min_size=1) if shape else st.just((0,))


def dims(shape: tuple[int, ...]) -> st.SearchStrategy:
    """What reductions accept: nothing, one dimension, several."""
    return st.none() | dim(shape) | some_dims(shape)


def filled_dim(shape: tuple[int, ...]) -> st.SearchStrategy:
    """A dimension whose size is not 0."""
    return st.sampled_from([d for d in range(-len(shape), len(shape)) if shape[d]] or [0])


# --- Indices -----------------------------------------------------------------------------------------------------


@st.composite
def slices(draw: Any, n: int) -> slice:
    """A slice for a dimension of size n, forwards or backwards, with starts and stops beyond the ends."""
    end = st.none() | st.integers(-n - 1, n + 1)
    return slice(draw(end), draw(end), draw(st.sampled_from([None, 1, 2, 3, -1, -2])))


@st.composite
def indices(draw: Any, shape: tuple[int, ...], repeats: bool = True) -> Any:
    """An index for an array of `shape`: ints, slices, None, ..., lists, integer arrays, one boolean mask; mixed.

    All integer arrays of one index have one shape. Without `repeats` no element is addressed twice, as `x[i] = v`
    requires: then the first of them is drawn without repetition.
    """
    kinds = draw(st.sampled_from([["int", "slice"], ["int", "slice", "array", "list"], ["slice", "array", "mask"]]))
    # A mask may stand beside integer arrays of one element only, whatever its number of True
    common = (1,) if "mask" in kinds else draw(st.sampled_from([(2,), (1,), (3,), (0,), (2, 2), (2, 1)]))
    start, stop = sorted(draw(st.tuples(*[st.integers(0, len(shape))] * 2)))  # the dimensions that ... stands for
    gap = draw(st.booleans())
    items: list[Any] = []
    arrays_seen = masks_seen = d = 0
    while d < len(shape):
        if gap and d == start:
            items.append(...)
            gap, d = False, stop
            continue
        kind, n = draw(st.sampled_from(kinds)), shape[d]
        size, width = math.prod(common), 1
        if kind == "mask" and not masks_seen:
            width = draw(st.integers(1, (start if gap else len(shape)) - d))
            items.append(draw(masks(shape[d : d + width])))
            masks_seen = 1
        elif kind == "int" and n:
            items.append(draw(st.integers(-n, n - 1)))
        elif kind in ("array", "list") and (n or not size) and (repeats or arrays_seen or size <= n):
            if not size:
                ids = np.zeros(common, np.int64)
            elif repeats or arrays_seen:
                ids = draw(integers(common, -n, n - 1))
            else:
                ids = np.array(draw(st.permutations(range(n)))[:size], np.int64).reshape(common)
                ids = ids - n * draw(masks(common))  # the same elements, some counted from the end
            items.append(ids.tolist() if kind == "list" else ids)
            arrays_seen += 1
        else:
            items.append(draw(slices(n)))
        d += width
    if gap:
        items.append(...)
    if draw(st.booleans()):
        items.insert(draw(st.integers(0, len(items))), None)
    return tuple(items)
