"""Layer norm and RMS norm: each row is read two or three times while it is still in the cache."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...arrays.backend import Array
from .. import reference
from .jit import loop, over_rows
from .layout import fits
from .mathematics import ONE
from .rows import dot, in_rows, total


@loop
def _layer_norm(start, stop, a, eps, n, r):
    """n = (a - mean) r, r = 1 / √(var + eps)"""
    C = np.float32(a.shape[1])
    for i in range(start, stop):
        mean = total(a[i]) / C
        for j in range(a.shape[1]):
            n[i, j] = a[i, j] - mean
        more = total(n[i]) / C  # the first mean is rounded
        for j in range(a.shape[1]):
            n[i, j] -= more
        scale = ONE / np.float32(math.sqrt(dot(n[i], n[i]) / C + eps))
        r[i, 0] = scale
        for j in range(a.shape[1]):
            n[i, j] *= scale


@loop
def _layer_norm_backward(start, stop, g, n, r, out):
    """out = r (g - mean(g) - n mean(g n))"""
    C = np.float32(g.shape[1])
    for i in range(start, stop):
        mean, stretch, scale = total(g[i]) / C, dot(g[i], n[i]) / C, r[i, 0]
        for j in range(g.shape[1]):
            out[i, j] = scale * (g[i, j] - mean - n[i, j] * stretch)


@loop
def _rms_norm(start, stop, a, eps, n, r):
    """n = a r, r = 1 / √(mean(a²) + eps)"""
    for i in range(start, stop):
        scale = ONE / np.float32(math.sqrt(dot(a[i], a[i]) / np.float32(a.shape[1]) + eps))
        r[i, 0] = scale
        for j in range(a.shape[1]):
            n[i, j] = a[i, j] * scale


@loop
def _rms_norm_backward(start, stop, g, n, r, out):
    """out = r (g - n mean(g n))"""
    for i in range(start, stop):
        stretch, scale = dot(g[i], n[i]) / np.float32(g.shape[1]), r[i, 0]
        for j in range(g.shape[1]):
            out[i, j] = scale * (g[i, j] - n[i, j] * stretch)


def layer_norm(a: Array, eps: float) -> tuple[Array, Array]:
    """See `reference.layer_norm`."""
    return _forward(_layer_norm, a, eps) if in_rows(1, a) else reference.layer_norm(a, eps)


def layer_norm_backward(g: Array, n: Array, r: Array) -> Array:
    """See `reference.layer_norm_backward`."""
    takes = in_rows(1, g, n) and fits(r)
    return _backward(_layer_norm_backward, g, n, r) if takes else reference.layer_norm_backward(g, n, r)


def rms_norm(a: Array, eps: float) -> tuple[Array, Array]:
    """See `reference.rms_norm`."""
    return _forward(_rms_norm, a, eps) if in_rows(1, a) else reference.rms_norm(a, eps)


def rms_norm_backward(g: Array, n: Array, r: Array) -> Array:
    """See `reference.rms_norm_backward`."""
    takes = in_rows(1, g, n) and fits(r)
    return _backward(_rms_norm_backward, g, n, r) if takes else reference.rms_norm_backward(g, n, r)


def _forward(loop: Any, a: Array, eps: float) -> tuple[Array, Array]:
    n, r = np.empty(a.shape, a.dtype), np.empty((len(a), 1), a.dtype)
    over_rows(loop, len(a), a.size, a, np.float32(eps), n, r)
    return n, r


def _backward(loop: Any, g: Array, n: Array, r: Array) -> Array:
    out = np.empty(g.shape, g.dtype)
    over_rows(loop, len(g), g.size, g, n, r, out)
    return out
