"""Parameter updates and what is done with all gradients at once, each array in one pass over memory.

AdamW reads four arrays and writes three, where NumPy makes fifteen passes. All arrays are handed over at once, as
numbers that stand end to end: threads share these, wherever an array ends. For the 54 parameters of four layers of
width 128 that is 3 calls in place of 162, and 1.1 ms in place of 2.1 for AdamW, norm and clipping, on two threads.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ...arrays.backend import Array
from .. import reference
from .jit import called, loop, over_rows, summing
from .layout import FLOAT32, address, fits, numbers, places
from .mathematics import ONE, ZERO

BLOCK = 4096  # numbers whose squares are summed in float32


@loop
def _adam_one(w, g, m, v, beta1, beta2, rate, eps, decay):
    """m = β₁ m + (1 - β₁) g;  v = β₂ v + (1 - β₂) g²;  w -= rate m / (√v + eps) + decay w"""
    for i in range(w.size):
        m[i] = beta1 * m[i] + (ONE - beta1) * g[i]
        v[i] = beta2 * v[i] + (ONE - beta2) * (g[i] * g[i])
        move = rate * (m[i] / (np.float32(math.sqrt(v[i])) + eps))
        w[i] -= move + decay * w[i] if decay != ZERO else move  # 0 · inf is NaN


@loop
def _adam(start, stop, ends, w, g, m, v, beta1, beta2, rates, decay):
    """The same for the numbers start..stop of all arrays; rates (n, 2): rate and eps of each."""
    begin = 0
    for k in range(ends.size):
        first, last = max(start, begin) - begin, min(stop, ends[k]) - begin
        if first < last:
            some = numbers(w[k], first, last), numbers(g[k], first, last)
            more = numbers(m[k], first, last), numbers(v[k], first, last)
            _adam_one(*some, *more, beta1, beta2, rates[k, 0], rates[k, 1], decay)
        begin = ends[k]


@loop
def _sgd(start, stop, w, g, lr):
    """w -= lr g"""
    w, g = w[start:stop], g[start:stop]
    for i in range(w.size):
        w[i] -= lr * g[i]


@summing
def _square(a):
    """Σ a²"""
    s = ZERO
    for i in range(a.size):
        s += a[i] * a[i]
    return s


@loop
def _squares(start, stop, ends, a, sizes, sums):
    """sums[k] = Σ a² over the k-th block; blocks up to ends[i] are those of the first i arrays."""
    begin = 0
    for i in range(ends.size):
        for k in range(max(start, begin), min(stop, ends[i])):
            first = (k - begin) * BLOCK
            sums[k] = _square(numbers(a[i], first, min(first + BLOCK, sizes[i])))
        begin = ends[i]


@loop
def _scale_one(a, factor):
    """a *= factor"""
    for i in range(a.size):
        a[i] *= factor


@loop
def _scale(start, stop, ends, a, factor):
    """The same for the numbers start..stop of all arrays."""
    begin = 0
    for k in range(ends.size):
        first, last = max(start, begin) - begin, min(stop, ends[k]) - begin
        if first < last:
            _scale_one(numbers(a[k], first, last), factor)
        begin = ends[k]


def _over_all(function: Any, arrays: Sequence[Array], *args: Any) -> None:
    """function for all numbers of the arrays, which it changes: if two share some, one thread goes in order."""
    ends = np.cumsum([a.size for a in arrays])
    n = int(ends[-1])
    over_rows(function, n, n, ends, *args, multiple=16 if _apart(args[0], ends) else n)


def _apart(objects: np.ndarray, ends: np.ndarray) -> bool:
    """Whether no two of these arrays share memory."""
    start = np.empty(len(ends), np.int64)
    _starts(objects, start)
    order = start.argsort()
    stop = start + 4 * np.diff(ends, prepend=0)
    return bool((start[order][1:] >= stop[order][:-1]).all())


@called
def _starts(objects, start):
    """Where in memory each array begins."""
    for k in range(objects.size):
        start[k] = address(numbers(objects[k], 0, 0))


def adam_all(
    arrays: list[Array], parts: Iterable[tuple[Array, Array, Array, Array, int]], lr: float, beta1: float,
    beta2: float, eps: float, decay: float = 0.0,
) -> None:  # fmt: skip
    """See `reference.adam_all`."""
    taken, rates, last = [], [], 0
    for w, g, m, v, step in parts:
        if not fits(w, g, m, v):
            reference.adam(w, g, m, v, step, lr, beta1, beta2, eps, decay)
            continue
        if step != last:
            last, root = step, math.sqrt(1 - beta2**step)  # √v̂ + ε = (√v + ε root) / root: both become numbers
            both = lr * root / (1 - beta1**step), eps * root
        taken.append((w, g, m, v))
        rates.append(both)
    if taken:
        w, g, m, v = zip(*taken, strict=True)
        settings = np.float32(beta1), np.float32(beta2), np.array(rates, FLOAT32), np.float32(lr * decay)
        _over_all(_adam, w, *map(places, (w, g, m, v)), *settings)


def sgd(w: Array, g: Array, lr: float) -> None:
    """See `reference.sgd`."""
    if not fits(w, g):
        reference.sgd(w, g, lr)
        return
    over_rows(_sgd, w.size, w.size, w.reshape(-1), g.reshape(-1), np.float32(lr))


def norm(arrays: list[Array]) -> Array:
    """See `reference.norm`."""
    if not fits(*arrays):
        return reference.norm(arrays)
    sizes = np.array([a.size for a in arrays])
    ends = np.cumsum(-(-sizes // BLOCK))
    sums = np.empty(ends[-1], FLOAT32)
    over_rows(_squares, len(sums), int(sizes.sum()), ends, places(arrays), sizes, sums)
    return np.asarray(np.sqrt(sums.sum(dtype=np.float64)).astype(FLOAT32))


def clip(arrays: list[Array], total: Array, max_norm: float) -> None:
    """See `reference.clip`."""
    if not fits(*arrays):
        reference.clip(arrays, total, max_norm)
        return
    factor = np.float32(np.minimum(max_norm / (total + 1e-6), 1))
    _over_all(_scale, arrays, places(arrays), factor)
