"""What is done row by row: softmax and its logarithm, cross-entropy.

Each row is read while it is still in the cache, two or three times in place of once for every NumPy call. It knows
nothing of what the numbers in a row stand for.
"""

from __future__ import annotations

import math

import numpy as np
from numba import int32

from ...arrays.backend import Array
from .. import reference
from .compiling import widely
from .jit import loop, over_rows, summing
from .layout import as_rows, fits
from .mathematics import ONE, ZERO, bits_of_float, choose, exp, float_of_bits

SHORT = 32  # numbers of a row that the compiler takes at a time; of fewer, each is computed by itself
LOWEST = np.finfo(np.float32).min
REST, SIGN = np.int32(0x7FFFFFFF), np.int32(31)  # all bits but the sign, and how far that is from the last


@summing
def total(x):
    """Σ x of a vector. "reassoc": several partial sums at a time, as NumPy's pairwise sums more exact than one."""
    s = ZERO
    for j in range(x.size):
        s += x[j]
    return s


@summing
def dot(x, y):
    """Σ x y of two vectors."""
    s = ZERO
    for j in range(x.size):
        s += x[j] * y[j]
    return s


@loop
def in_order(x):
    """An int32 that is larger where x is: the bits of positive floats are in order, of negative ones in reverse."""
    bits = bits_of_float(x)
    return int32(bits ^ int32((bits >> SIGN) & REST))


@loop
def largest(x):
    """max x of a vector, at least the lowest finite number. A row with NaN gives whatever: its sum will be NaN.

    Compared as integers, which the compiler does many at a time and, because of NaN, not for floats.
    """
    m = in_order(LOWEST)
    for j in range(x.size):
        m = max(m, in_order(x[j]))
    return float_of_bits(int32(m ^ int32((m >> SIGN) & REST)))


@loop
def exponentials(a, m, e):
    """e = e^(a - m); returns Σ e."""
    widely()
    for j in range(a.size):
        e[j] = exp(a[j] - m)
    return total(e)


@loop
def divide(p, s):
    """In place, p / s of a vector that is 0 if s is."""
    r = ONE / s if s != ZERO else ZERO
    for j in range(p.size):
        p[j] *= r


@loop
def softmax_row(p):
    """In place, p = e^(p - m) / Σ e^(p - m), m = max p, of a vector. If it is -inf throughout: zeros.

    (`exponentials` with one vector given twice would be computed one number at a time.)
    """
    widely()
    m = largest(p)
    for j in range(p.size):
        p[j] = exp(p[j] - m)
    divide(p, total(p))


@loop
def _softmax(start, stop, a, p):
    """p = e^(a - m) / Σ e^(a - m), m = max a, row by row."""
    for i in range(start, stop):
        divide(p[i], exponentials(a[i], largest(a[i]), p[i]))


@loop
def _short_softmax(start, stop, a, p):
    """The same for short rows: e^x of many rows at once, so that the compiler takes many numbers at a time. 1,600 rows
    of 16 take as long as in NumPy, but threads can share them."""
    widely()
    C, flat = a.shape[1], p.reshape(-1)
    for first in range(start, stop, SHORT):
        last = min(first + SHORT, stop)
        for i in range(first, last):
            m = largest(a[i])
            for j in range(C):
                p[i, j] = a[i, j] - m
        some = flat[first * C : last * C]
        for j in range(some.size):
            some[j] = exp(some[j])
        for i in range(first, last):
            divide(p[i], total(p[i]))


@loop
def softmax_backward_row(p, grad, out):
    """out = p (grad - Σ p grad), of a vector."""
    s = dot(p, grad)
    for j in range(p.size):
        out[j] = p[j] * (grad[j] - s)


@loop
def _softmax_backward(start, stop, p, grad, out):
    """Each row by itself."""
    for i in range(start, stop):
        softmax_backward_row(p[i], grad[i], out[i])


@summing
def rest(e):
    """Σ e - 1, where the largest e are 1."""
    others, ones = ZERO, -ONE
    for j in range(e.size):
        others += choose(e[j] == ONE, ZERO, e[j])
        ones += choose(e[j] == ONE, ONE, ZERO)
    return others + ones


@loop
def _log_softmax(start, stop, a, z):
    """z = a - m - ln Σ e^(a - m). The largest e is 1: ln (1 + the rest) keeps the digits of a rest that is small."""
    for i in range(start, stop):
        m = largest(a[i])
        exponentials(a[i], m, z[i])
        log_sum = np.float32(math.log1p(rest(z[i])))
        for j in range(a.shape[1]):
            z[i, j] = a[i, j] - m - log_sum


@loop
def _cross_entropy(start, stop, logits, target, weight, losses, g):
    """loss = -w ln p[t];  g = w (p - onehot), where 1 - p[t] is the sum of the others over that of all."""
    for i in range(start, stop):
        m, t, w = largest(logits[i]), target[i], weight[i]
        exponentials(logits[i], m, g[i])
        e = g[i, t]
        g[i, t] = ZERO
        others = total(g[i])
        s = e + others
        if w == ZERO:
            losses[i] = ZERO  # the row may hold inf, and 0 · inf is NaN
        elif others < e:
            losses[i] = w * np.float32(math.log1p(others / e))
        else:
            losses[i] = -w * (logits[i, t] - m - np.float32(math.log(s)))
        g[i, t] = -others
        r = w / s
        for j in range(logits.shape[1]):
            g[i, j] *= r


def in_rows(axis: int, *arrays: Array, least: int = SHORT) -> bool:
    """Whether these are arrays whose rows are worth a loop."""
    a = arrays[0]
    return axis in (-1, a.ndim - 1) and a.shape[-1] >= least and fits(*arrays)


def softmax(a: Array, axis: int) -> Array:
    """See `reference.softmax`."""
    if not in_rows(axis, a, least=8):
        return reference.softmax(a, axis)
    p = np.empty(a.shape, a.dtype)
    over_rows(
        _softmax if a.shape[-1] >= SHORT else _short_softmax, a.size // a.shape[-1], a.size, as_rows(a), as_rows(p)
    )
    return p


def softmax_backward(p: Array, grad: Array, axis: int) -> Array:
    """See `reference.softmax_backward`."""
    if not in_rows(axis, p, grad):
        return reference.softmax_backward(p, grad, axis)
    out = np.empty(p.shape, p.dtype)
    over_rows(_softmax_backward, p.size // p.shape[-1], p.size, as_rows(p), as_rows(grad), as_rows(out))
    return out


def log_softmax(a: Array, axis: int) -> Array:
    """See `reference.log_softmax`."""
    if not in_rows(axis, a):
        return reference.log_softmax(a, axis)
    z = np.empty(a.shape, a.dtype)
    over_rows(_log_softmax, a.size // a.shape[-1], a.size, as_rows(a), as_rows(z))
    return z


def cross_entropy(logits: Array, target: Array, weight: Array) -> tuple[Array, Array]:
    """See `reference.cross_entropy`."""
    if not (in_rows(1, logits) and fits(weight)):
        return reference.cross_entropy(logits, target, weight)
    target = np.ascontiguousarray(target, np.int64)
    losses, g = np.empty(len(logits), logits.dtype), np.empty(logits.shape, logits.dtype)
    over_rows(_cross_entropy, len(logits), logits.size, logits, target, weight, losses, g)
    return losses, g
