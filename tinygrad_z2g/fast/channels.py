"""Sums and norms for each channel of (N, C, L): over the batch and over all places."""

from __future__ import annotations

import numpy as np

from ..arrays.backend import Array, of
from .reference import column_sums, row_dots, row_sums


def channel_sums(a: Array, b: Array | None = None) -> Array:
    """Σ a b over batch and places, or Σ a: (N, C, L) -> (C,). Rows first, and then these in float64: exact enough for
    any number of examples, which are few beside the numbers."""
    if a.shape[2] == 1:
        return column_sums(a[:, :, 0], None if b is None else b[:, :, 0])
    rows = (row_sums(a) if b is None else row_dots(a, b))[:, :, 0]
    return rows.sum(0, dtype=np.float64 if a.dtype == np.float32 else None)


def _rounded(sums: Array, a: Array) -> Array:
    """Sums that were made in float64, in the dtype of `a`."""
    return sums.astype(np.float32, copy=False) if a.dtype == np.float32 else sums


def batch_norm(a: Array, w: Array | None, b: Array | None, eps: float) -> tuple[Array, Array, Array, Array]:
    """z = d r w + b, d = a - mean, r = 1 / √(var + eps) for each channel. a (N, C, L), w and b (C,) or None.

    Returns z and d (N, C, L), and the mean and the biased variance (C,).
    """
    m = max(a.shape[0] * a.shape[2], 1)
    mean = _rounded(channel_sums(a) / m, a)
    d = a - mean[:, None]
    more = _rounded(channel_sums(d) / m, a)  # the first mean is rounded
    d -= more[:, None]
    var = _rounded(channel_sums(d, d) / m, a)
    scale = 1 / of(a).sqrt(var + eps)
    z = d * (scale if w is None else scale * w)[:, None]
    if b is not None:
        z += b[:, None]
    return z, d, mean + more, var


def batch_norm_backward(g: Array, d: Array, r: Array, w: Array | None) -> tuple[Array, Array, Array]:
    """∂L/∂a = w r (g - mean(g) - n mean(g n)),  ∂L/∂w = Σ g n,  ∂L/∂b = Σ g, with n = d r and g = ∂L/∂z.

    g, d (N, C, L), r and w (C,). As for `layer_norm_backward`, over the numbers of a channel.
    """
    m = max(g.shape[0] * g.shape[2], 1)
    dots, sums = channel_sums(g, d), channel_sums(g)
    out = d * _rounded(dots * r * r / -m, g)[:, None]
    out += g
    out -= _rounded(sums / m, g)[:, None]
    out *= (r if w is None else r * w)[:, None]
    return out, _rounded(dots * r, g), _rounded(sums, g)
