"""ReLU, erf and both GELUs, with or without a bias: z and its slope in one pass over memory.

NumPy needs up to fourteen passes for a GELU, and has no erf. Each number is computed by itself; these loops know
nothing of rows but that they share a bias.
"""

from __future__ import annotations

import math

import numpy as np

from ...arrays.backend import Array
from .. import reference
from . import mathematics
from .compiling import widely
from .jit import loop, over_rows
from .layout import fits
from .mathematics import ONE, ROOT_2PI, TWO, ZERO, bell, choose, exp, normal_cdf

C = np.float32(math.sqrt(2 / math.pi))
A = np.float32(0.044715)
THREE = np.float32(3)


@loop
def _gelu_tanh(start, stop, a, b, z, slope):
    """z = x s, s = (1 + tanh u) / 2 = σ(2u), u = c x (1 + 0.044715 x²);  dz/dx = s + z (1 - s) 2u'."""
    widely()
    for i in range(start, stop):
        for j in range(a.shape[1]):
            x = a[i, j] + b[j]
            square = x * x
            s = ONE / (ONE + exp(-TWO * C * x * (ONE + A * square)))
            z[i, j] = x * s
            slope[i, j] = s + x * s * (ONE - s) * (TWO * C * (ONE + THREE * A * square))


@loop
def _gelu_exact(start, stop, a, b, z, slope):
    """z = x Φ(x);  dz/dx = Φ(x) + x φ(x), φ(x) = e^(-x²/2) / √(2π)."""
    widely()
    for i in range(start, stop):
        for j in range(a.shape[1]):
            x = a[i, j] + b[j]
            e = bell(x)
            cdf = normal_cdf(x, e)
            z[i, j] = x * cdf
            slope[i, j] = cdf + x * e * ROOT_2PI


@loop
def _relu(start, stop, a, z):
    """z = max(a, 0)"""
    a, z = a[start:stop], z[start:stop]
    for i in range(a.size):
        z[i] = choose(a[i] <= ZERO, ZERO, a[i])  # NaN stays


@loop
def _relu_backward(start, stop, grad, z, out):
    """out = grad where z is not 0, else 0 grad: NaN, as in the reference, where that is infinite."""
    grad, z, out = grad[start:stop], z[start:stop], out[start:stop]
    for i in range(z.size):
        out[i] = grad[i] * choose(z[i] != ZERO, ONE, ZERO)


@loop
def _times(start, stop, a, b, z):
    """z = a b"""
    a, b, z = a[start:stop], b[start:stop], z[start:stop]
    for i in range(a.size):
        z[i] = a[i] * b[i]


@loop
def _fill(start, stop, a, mask, value, out):
    """out = value where the mask, the same for all rows, is True, else a."""
    for i in range(start, stop):
        for j in range(mask.size):
            out[i, j] = choose(mask[j], value, a[i, j])


@loop
def _erf(start, stop, a, z):
    widely()
    a, z = a[start:stop], z[start:stop]
    for i in range(a.size):
        z[i] = mathematics.erf(a[i])


def gelu_tanh(a: Array, b: Array | None = None) -> tuple[Array, Array]:
    """See `reference.gelu_tanh`."""
    return _gelu(_gelu_tanh, reference.gelu_tanh, a, b)


def gelu_exact(a: Array, b: Array | None = None) -> tuple[Array, Array]:
    """See `reference.gelu_exact`."""
    return _gelu(_gelu_exact, reference.gelu_exact, a, b)


def _gelu(function, plain, a, b):
    if not fits(a) or (b is not None and not fits(b)):
        return plain(a, b)
    columns = a.shape[-1]
    rows = a.reshape(-1, columns)  # (..., C) -> (N, C)
    z, slope = np.empty_like(rows), np.empty_like(rows)
    b = np.zeros(columns, a.dtype) if b is None else b
    over_rows(function, len(rows), a.size, rows, b, z, slope)
    return z.reshape(a.shape), slope.reshape(a.shape)


def relu(a: Array) -> Array:
    """See `reference.relu`."""
    return _each(_relu, a) if fits(a) else reference.relu(a)


def relu_backward(grad: Array, z: Array) -> Array:
    """See `reference.relu_backward`."""
    if not fits(grad, z):
        return reference.relu_backward(grad, z)
    out = np.empty(z.shape, z.dtype)
    over_rows(_relu_backward, z.size, z.size, grad.reshape(-1), z.reshape(-1), out.reshape(-1))
    return out


def times(a: Array, b: Array) -> Array:
    """See `reference.times`."""
    if not (fits(a, b) and a.shape == b.shape):
        return reference.times(a, b)
    z = np.empty(a.shape, a.dtype)
    over_rows(_times, a.size, a.size, a.reshape(-1), b.reshape(-1), z.reshape(-1))
    return z


def fill(a: Array, mask: Array, value: float) -> Array:
    """See `reference.fill`."""
    if not (fits(a) and mask.flags.c_contiguous and mask.size and mask.shape == a.shape[a.ndim - mask.ndim :]):
        return reference.fill(a, mask, value)
    rows, out = a.reshape(-1, mask.size), np.empty(a.shape, a.dtype)
    over_rows(_fill, len(rows), a.size, rows, mask.reshape(-1), np.float32(value), out.reshape(rows.shape))
    return out


def erf(a: Array) -> Array:
    """See `reference.erf`."""
    return _each(_erf, a) if fits(a) else reference.erf(a)


def _each(function, a):
    z = np.empty(a.shape, a.dtype)
    over_rows(function, a.size, a.size, a.reshape(-1), z.reshape(-1))
    return z
