"""Attention, some examples at a time: scores are scaled, masked, normalised in one pass, while they are in the cache.

The products are NumPy's; threads share the examples. What is saved for the backward pass is as in the reference, so
that either can follow the other. It knows nothing of where queries, keys and values come from.
"""

from __future__ import annotations

import math

import numpy as np

from ...arrays.backend import Array
from .. import reference
from .dropping import fill_mask
from .jit import cuts, loop, together
from .layout import FLOAT32
from .mathematics import ZERO
from .products import alone
from .rows import SHORT, dot, softmax_row

INF = np.float32(np.inf)
NEAR = 2**16  # scores worked on at a time: W2 0.58 in place of 0.70 ms, W1-sized heads 0.7 in place of 1.2


@loop
def _weights(scores, scale, first, T):
    """In place, p = softmax(scale scores) for rows of which the t-th of each T sees the keys 0..first + t, no other."""
    S = scores.shape[1]
    for i in range(scores.shape[0]):
        seen = min(S, first + i % T + 1)
        wide = min(S, (seen + SHORT - 1) // SHORT * SHORT)  # as many as the compiler takes at a time
        row, hidden, rest = scores[i, :wide], scores[i, seen:wide], scores[i, wide:]
        for j in range(row.size):
            row[j] *= scale
        for j in range(hidden.size):
            hidden[j] = -INF
        softmax_row(row)
        for j in range(rest.size):
            rest[j] = ZERO


@loop
def _backward(p, s, scale):
    """In place, s = scale p (s - Σ p s), row by row."""
    for i in range(p.shape[0]):
        mean = dot(p[i], s[i])
        for j in range(p.shape[1]):
            s[i, j] = scale * (p[i, j] * (s[i, j] - mean))


def attention(
    q: Array, k: Array, v: Array, bias: Array | None, causal: bool, scale: float, drop: float, key: int
) -> tuple[Array, list[tuple[Array, Array | None]]]:
    """See `reference.attention`."""
    if not _alike(q, k, v):
        return reference.attention(q, k, v, bias, causal, scale, drop, key)
    batch, T, S = q.shape[:-2], q.shape[-2], k.shape[-2]
    kept = np.empty((*batch, T, S), q.dtype) if drop else None
    bias = None if bias is None else np.broadcast_to(bias, (*batch, T, S))
    z = np.empty_like(q) if v.shape == k.shape else np.empty((*batch, T, v.shape[-1]), q.dtype)  # in memory as q is
    parts = reference.blocks(T, S) if causal and T > reference.BLOCK else [(slice(0, T), S)]
    saved = [
        (np.empty((*batch, rows.stop - rows.start, seen), q.dtype), None if kept is None else kept[..., rows, :seen])
        for rows, seen in parts
    ]

    def some(start: int, stop: int) -> None:
        for i in _few(start, stop, batch, T * S):
            if kept is not None:
                fill_mask(kept, i, drop, key)
            for (rows, seen), (p, mask) in zip(parts, saved, strict=True):
                scores = np.matmul(q[i, ..., rows, :], k[i, ..., :seen, :].swapaxes(-1, -2), out=p[i])
                if bias is not None:
                    scores *= scale
                    scores += bias[i]
                first = rows.start if causal else S
                factor = np.float32(1 if bias is not None else scale)
                _weights(scores.reshape(-1, seen), factor, first, scores.shape[-2])  # (..., b, S) -> (N, S)
                np.matmul(scores if mask is None else scores * mask[i], v[i, ..., :seen, :], out=z[i, ..., rows, :])

    with alone():
        together(some, cuts(batch[0], q.size * S))
    return z, saved


def attention_backward(grad: Array, q: Array, k: Array, v: Array, saved: list, scale: float) -> tuple:
    """See `reference.attention_backward`."""
    if not _alike(q, k, v) or grad.dtype != FLOAT32:
        return reference.attention_backward(grad, q, k, v, saved, scale)
    T, S = q.shape[-2], k.shape[-2]
    grad_q, grad_k, grad_v = map(np.empty_like, (q, k, v))  # in memory as they are: a chunk of one product becomes one
    parts = reference.blocks(T, S) if len(saved) > 1 else [(slice(0, T), S)]

    def some(start: int, stop: int) -> None:
        for i in _few(start, stop, q.shape[:-2], T * S):
            for (rows, seen), (p, kept) in reversed(list(zip(parts, saved, strict=True))):
                g, used = grad[i, ..., rows, :], p[i] if kept is None else p[i] * kept[i]
                s = np.matmul(g, v[i, ..., :seen, :].swapaxes(-1, -2))  # (..., b, e) @ (..., e, S) -> (..., b, S)
                if kept is not None:
                    s *= kept[i]
                _backward(p[i].reshape(-1, seen), s.reshape(-1, seen), np.float32(scale))
                np.matmul(s, k[i, ..., :seen, :], out=grad_q[i, ..., rows, :])  # (..., b, S) @ (..., S, d)
                for out, x, y in ((grad_v, used, g), (grad_k, s, q[i, ..., rows, :])):
                    x = x.swapaxes(-1, -2)
                    if rows.stop == T:  # the last block, which sees all keys that anyone sees
                        out[i, ..., seen:, :] = 0
                        np.matmul(x, y, out=out[i, ..., :seen, :])  # (..., S, b) @ (..., b, e)
                    else:
                        out[i, ..., :seen, :] += np.matmul(x, y)

    with alone():
        together(some, cuts(len(q), q.size * S))
    return grad_q, grad_k, grad_v


def _few(start: int, stop: int, batch: tuple[int, ...], scores: int) -> list[slice]:
    """The examples start..stop, so many at a time that they have NEAR scores, given the `scores` of one head."""
    n = max(1, NEAR // (math.prod(batch[1:]) * scores))
    return [slice(i, min(i + n, stop)) for i in range(start, stop, n)]


def _alike(q: Array, k: Array, v: Array) -> bool:
    return (
        q.ndim > 2 and q.size > 0 and k.size > 0 and v.size > 0 and q.shape[:-2] == k.shape[:-2] == v.shape[:-2]
        and q.dtype == k.dtype == v.dtype == FLOAT32
    )  # fmt: skip
