"""What is done row by row: softmax and its logarithm, cross-entropy, layer norm; sums over rows and columns.

Each row is read while it is still in the cache, two or three times in place of once for every NumPy call.
"""

from __future__ import annotations

import math

import numpy as np

from ...backend import Array
from .jit import loop, over_rows, summing
from .mathematics import exp

ZERO, ONE = np.float32(0), np.float32(1)
INF, LOWEST = np.float32(np.inf), np.finfo(np.float32).min


@summing
def total(x):  # type: ignore[no-untyped-def]
    """Σ x of a vector. "reassoc": several partial sums at a time, as NumPy's pairwise sums more exact than one."""
    s = ZERO
    for j in range(x.size):
        s += x[j]
    return s


@summing
def dot(x, y):  # type: ignore[no-untyped-def]
    """Σ x y of two vectors."""
    s = ZERO
    for j in range(x.size):
        s += x[j] * y[j]
    return s


@loop
def largest(x):  # type: ignore[no-untyped-def]
    """max x of a vector, at least the lowest finite number; NaN if there is one."""
    m = LOWEST
    bad = ZERO
    for j in range(x.size):
        m = max(m, x[j])
        bad += x[j] * ZERO if x[j] != x[j] else ZERO
    return m + bad


@loop
def _softmax(start, stop, a, p):  # type: ignore[no-untyped-def]
    """p = e^(a - m) / Σ e^(a - m), m = max a. A row of -inf gives zeros."""
    for i in range(start, stop):
        m = largest(a[i])
        for j in range(a.shape[1]):
            p[i, j] = exp(a[i, j] - m)
        s = total(p[i])
        r = ONE / s if s != ZERO else ZERO
        for j in range(a.shape[1]):
            p[i, j] *= r


@loop
def _softmax_backward(start, stop, p, grad, out):  # type: ignore[no-untyped-def]
    """out = p (grad - Σ p grad)"""
    for i in range(start, stop):
        s = dot(p[i], grad[i])
        for j in range(p.shape[1]):
            out[i, j] = p[i, j] * (grad[i, j] - s)


@loop
def _log_softmax(start, stop, a, out, work):  # type: ignore[no-untyped-def]
    """out = a - m - ln Σ e^(a - m)"""
    for i in range(start, stop):
        m = largest(a[i])
        for j in range(a.shape[1]):
            out[i, j] = exp(a[i, j] - m)
        s = np.float32(math.log(total(out[i])))
        for j in range(a.shape[1]):
            out[i, j] = a[i, j] - m - s


@loop
def _layer_norm(start, stop, a, eps, n, r):  # type: ignore[no-untyped-def]
    """n = (a - mean) r, r = 1 / √(var + eps)"""
    C = np.float32(a.shape[1])
    for i in range(start, stop):
        mean = total(a[i]) / C
        for j in range(a.shape[1]):
            n[i, j] = a[i, j] - mean
        rest = total(n[i]) / C  # the first mean is rounded
        for j in range(a.shape[1]):
            n[i, j] -= rest
        scale = ONE / np.float32(math.sqrt(dot(n[i], n[i]) / C + eps))
        r[i, 0] = scale
        for j in range(a.shape[1]):
            n[i, j] *= scale


@loop
def _layer_norm_backward(start, stop, g, n, r, out):  # type: ignore[no-untyped-def]
    """out = r (g - mean(g) - n mean(g n))"""
    C = np.float32(g.shape[1])
    for i in range(start, stop):
        mean, stretch, scale = total(g[i]) / C, dot(g[i], n[i]) / C, r[i, 0]
        for j in range(g.shape[1]):
            out[i, j] = scale * (g[i, j] - mean - n[i, j] * stretch)


@loop
def _cross_entropy(start, stop, logits, target, weight, losses, g):  # type: ignore[no-untyped-def]
    """loss = -w (x[t] - m - ln Σ e^(x - m)),  g = w (p - onehot)"""
    for i in range(start, stop):
        m = largest(logits[i])
        for j in range(logits.shape[1]):
            g[i, j] = exp(logits[i, j] - m)
        s, t, w = total(g[i]), target[i], weight[i]
        losses[i] = -w * (logits[i, t] - m - np.float32(math.log(s))) if w != ZERO else ZERO
        r = ONE / s
        for j in range(logits.shape[1]):
            g[i, j] *= r
        g[i, t] -= ONE
        for j in range(logits.shape[1]):
            g[i, j] *= w


def softmax(a: Array, axis: int) -> Array:
    """p = eᵃ / Σ eᵃ along the last axis."""
    rows = a.reshape(-1, a.shape[-1])  # (..., C) -> (N, C)
    p = np.empty_like(rows)
    over_rows(_softmax, len(rows), a.size, rows, p)
    return p.reshape(a.shape)


def softmax_backward(p: Array, grad: Array, axis: int) -> Array:
    """∂L/∂a = p (grad - Σ p grad) along the last axis."""
    rows = p.reshape(-1, p.shape[-1])
    out = np.empty_like(rows)
    over_rows(_softmax_backward, len(rows), p.size, rows, grad.reshape(rows.shape), out)
    return out.reshape(p.shape)


def layer_norm(a: Array, eps: float) -> tuple[Array, Array]:
    """n (N, C) and r (N, 1)."""
    n, r = np.empty_like(a), np.empty((len(a), 1), a.dtype)
    over_rows(_layer_norm, len(a), a.size, a, np.float32(eps), n, r)
    return n, r


def layer_norm_backward(g: Array, n: Array, r: Array) -> Array:
    """∂L/∂a (N, C)."""
    out = np.empty_like(g)
    over_rows(_layer_norm_backward, len(g), g.size, g, n, r, out)
    return out


def cross_entropy(logits: Array, target: Array, weight: Array) -> tuple[Array, Array]:
    """Losses (N,) and gradients (N, C)."""
    losses, g = np.empty(len(logits), logits.dtype), np.empty_like(logits)
    over_rows(_cross_entropy, len(logits), logits.size, logits, target, weight, losses, g)
    return losses, g
