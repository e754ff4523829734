"""Softmax, its logarithm, and the logarithm of its denominator: scores to probabilities, without overflow."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import kernels
from ..backend import of
from ..engine import RESULT, record
from .common import as_floating, many_dims, numpy_names, one_dim
from .reduction import spread

if TYPE_CHECKING:
    from ..tensor import Tensor


@numpy_names
def softmax(input: Tensor, dim: int, dtype: Any = None) -> Tensor:
    """pᵢ = e^xᵢ / Σⱼ e^xⱼ along `dim`.   ∂L/∂x = p (grad - Σ p grad)

    Every probability is lowered by what the others gain: raising xᵢ raises pᵢ by pᵢ (1 - pᵢ), lowers pⱼ by pᵢ pⱼ.
    """
    if dtype is not None:
        input = input.to(dtype=dtype)
    a = as_floating(input, "softmax")
    axis = one_dim(dim, a.ndim, "softmax")
    p = kernels.softmax(a.reshape(a.shape or (1,)), axis).reshape(a.shape)
    if not a.ndim:
        return record("softmax", p, (input, lambda grad: grad * 0))
    return record("softmax", p, (input, lambda grad: kernels.softmax_backward(p, grad, axis), RESULT))


@numpy_names
def log_softmax(input: Tensor, dim: int, dtype: Any = None) -> Tensor:
    """zᵢ = xᵢ - ln Σⱼ e^xⱼ along `dim`.   ∂L/∂x = grad - eᶻ Σ grad, where eᶻ = softmax(x)"""
    if dtype is not None:
        input = input.to(dtype=dtype)
    a = as_floating(input, "log_softmax")
    axis, xp = one_dim(dim, a.ndim, "log_softmax"), of(a)
    z = kernels.log_softmax(a.reshape(a.shape or (1,)), axis).reshape(a.shape)
    if not a.ndim:
        return record("log_softmax", z, (input, lambda grad: grad * 0))
    return record("log_softmax", z, (input, lambda grad: grad - xp.exp(z) * grad.sum(axis=axis, keepdims=True), RESULT))


@numpy_names
def logsumexp(input: Tensor, dim: Any, keepdim: bool = False) -> Tensor:
    """z = ln Σ eˣ over `dim`, computed as m + ln Σ eˣ⁻ᵐ with m = max x: no overflow.   dz/dx = eˣ⁻ᶻ = softmax(x)"""
    a = as_floating(input, "logsumexp")
    dims, xp = many_dims(dim, a.ndim, "logsumexp"), of(a)
    with np.errstate(all="ignore"):
        m = kernels.finite_max(a, dims)
        m = xp.where(m == math.inf, 0, m)  # ln e^inf is inf; with m = inf it would be NaN
        z = xp.log(xp.exp(a - m).sum(axis=dims, keepdims=True)) + m
    wide = z
    z = z if keepdim else z.reshape(tuple(n for i, n in enumerate(a.shape) if i not in dims))
    softmax = lambda: xp.where(xp.isfinite(wide), xp.exp(a - wide), 0)  # noqa: E731
    return record("logsumexp", z, (input, lambda grad: spread(grad, dims, keepdim) * softmax(), input, RESULT))
