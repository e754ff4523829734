"""One new position through a block of a GPT, beside a cache of those before it: what each token costs in `generate`.

Of the 1.1 ms that a token took in 4 blocks of width 128 (one thread), products were 0.25 ms; the rest was some 40 calls
of operations a block, each with its tensor, its checks and its rules, though nothing is recorded. Here the same formulas
run on arrays at once: a block takes BLOCK_NOW in place of BLOCK_BEFORE µs. It takes the place of
`TransformerBlock.forward` unless TINYGRAD_Z2G_PLAIN=1 asks for the plain one, which computes whatever is not as the core
made it: see `known`. Sums are taken in another order, so that the last bits differ.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import fast
from ..arrays.backend import Array, quiet
from ..core.attach import attach
from ..core.engine import observers
from ..core.layers import GELU, CausalSelfAttention, Dropout, LayerNorm, Linear, Sequential, TransformerBlock
from ..core.modes import grad_mode
from ..half import precision
from ..core.gpt import Cache
from . import forms

if TYPE_CHECKING:
    from ..tensor import Tensor

FLOAT32, LOWEST = forms.FLOAT32, float(np.finfo(np.float32).min)

# --- On arrays, (B, C) each: a row for each text -----------------------------------------------------------------


def layer_norm(x: Array, weight: Array, bias: Array | None, eps: float) -> Array:
    """(x - mean) / √(var + eps) · weight + bias; the means as products with 1/C, at half of what .mean costs."""
    share = _share(x.shape[1])
    n = x - x.dot(share)  # (B, C) @ (C, 1) -> (B, 1)
    n -= n.dot(share)  # the first mean is rounded
    n /= np.sqrt((n * n).dot(share) + eps)
    n *= weight
    if bias is not None:
        n += bias
    return n


@functools.lru_cache(64)
def _share(C: int) -> Array:
    """1/C, C times: (C, 1)"""
    return np.full((C, 1), 1 / C, FLOAT32)


def attended(q: Array, k: Array, v: Array) -> Array:
    """softmax(q kᵀ / √hs) v: (B, nh, 1, hs), (B, nh, S, hs) twice -> (B, nh, 1, hs)"""
    p = np.matmul(q, k.swapaxes(2, 3))  # (B, nh, 1, hs) @ (B, nh, hs, S) -> (B, nh, 1, S)
    p *= 1 / math.sqrt(q.shape[3])
    p -= p.max(3, keepdims=True, initial=LOWEST)
    np.exp(p, out=p)
    p /= np.maximum(p.sum(3, keepdims=True), 1)  # the largest is e⁰ = 1; where all scores are -inf, the sum is 0
    return np.matmul(p, v)  # (B, nh, 1, S) @ (B, nh, S, hs) -> (B, nh, 1, hs)


def gelu(x: Array) -> Array:
    """x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2, without the slope that `fast.gelu_tanh` keeps for a rule."""
    c = math.sqrt(2 / math.pi)
    s = x * x
    s *= 0.044715 * c
    s += c
    s *= x
    np.tanh(s, out=s)
    s += 1
    s *= 0.5
    s *= x
    return s


def linear(x: Array, weight: Array, bias: Array | None) -> Array:
    """x Wᵀ + b: (B, in) @ (in, out) -> (B, out)"""
    return fast.product(x, weight.T, bias)


def block(
    x: Array, norm1: Norm, qkv: Affine, proj: Affine, norm2: Norm, up: Affine, down: Affine, heads: int, attend: Any
) -> Array:
    """x + attention(norm(x)), then x + mlp(norm(x)); `attend` keeps keys and values, and looks at all of them."""
    B, C = x.shape
    parts = linear(layer_norm(x, *norm1), *qkv).reshape(B, 3, heads, 1, C // heads)  # (B, 3 C)
    y = attend(parts[:, 0], parts[:, 1], parts[:, 2])  # (B, nh, 1, hs) each
    x = x + linear(y.reshape(B, C), *proj)
    x += linear(gelu(linear(layer_norm(x, *norm2), *up)), *down)
    return x


# --- In the place of the plain form ------------------------------------------------------------------------------

Affine = tuple[Array, Any]  # weight and bias; None for no bias
Norm = tuple[Array, Any, float]  # and eps
KINDS = [LayerNorm, Linear, Linear, Dropout, LayerNorm, Linear, GELU, Linear, Dropout]
AROUND = [CausalSelfAttention, Sequential]
FORWARDS = [(kind, kind.forward) for kind in {*KINDS, *AROUND}]


class DecodingBlock:
    """What is attached to `TransformerBlock`."""

    def forward(self: Any, x: Tensor, cache: Cache | None = None, angles: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """(B, T, C) -> (B, T, C)"""
        if cache is not None and not grad_mode.enabled:
            parts = known(self, x, cache)
            if parts is not None:
                return x.make(quiet.run(_decoded, self.attention, x.array, parts, cache, angles))
        return _plain_forward(self, x, cache, angles)


def known(self: TransformerBlock, x: Tensor, cache: Cache) -> list | None:
    """The arrays of a block in which everything is as the core made it, for one new position; else None.

    Not with hooks, parts of other classes or with a forward of their own, dropout that drops, observers, mixed
    precision, other dtypes or shapes, on a card, or with padding.
    """
    a = getattr(x, "array", None)
    if type(a) is not np.ndarray or a.ndim != 3 or a.shape[1] != 1 or a.dtype is not FLOAT32:
        return None
    if type(cache) is not Cache or cache.padding is not None or observers or precision.blocks:
        return None
    around = attention, mlp = self.attention, self.mlp
    if [type(part) for part in around] != AROUND:
        return None
    parts = [self.norm1, attention.qkv, attention.proj, attention.resid_dropout, self.norm2, *iter(mlp)]
    if [type(part) for part in parts] != KINDS or any([kind.forward is not forward for kind, forward in FORWARDS]):
        return None
    for part in (*around, *parts):
        if part._forward_hooks or part._forward_pre_hooks or "forward" in part.__dict__:
            return None
    norm1, qkv, proj, drop1, norm2, up, act, down, drop2 = parts
    if any(drop.training and drop.p for drop in (drop1, drop2)) or (attention.training and attention.dropout):
        return None
    if act.approximate != "tanh":
        return None
    C, hidden = a.shape[2], up.weight.array.shape[0]
    found = []
    for part, shape in (
        (norm1, (C,)), (qkv, (3 * C, C)), (proj, (C, C)), (norm2, (C,)), (up, (hidden, C)), (down, (C, hidden))
    ):  # fmt: skip
        if part.weight is None:
            return None
        w, b = part.weight.array, None if part.bias is None else part.bias.array
        if type(w) is not np.ndarray or w.dtype is not FLOAT32 or w.shape != shape:
            return None
        if b is not None and (type(b) is not np.ndarray or b.dtype is not FLOAT32 or b.shape != shape[:1]):
            return None
        found.append((w, b, part.eps) if len(shape) == 1 else (w, b))
    return found


def _decoded(attention: CausalSelfAttention, x: Array, parts: list, cache: Any, angles: Any) -> Array:
    def attend(q: Array, k: Array, v: Array) -> Array:
        if angles is not None:
            cos, sin = (part.array for part in angles)
            q, k = (fast.rotate(part, cos, sin, False) for part in (q, k))
        return attended(q, *cache.kept(attention, k, v))

    return block(x[:, 0], *parts, attention.num_heads, attend)[:, None]  # (B, 1, C) -> (B, C), and back


_plain_forward: Any = TransformerBlock.forward
if not forms.plain():
    attach(TransformerBlock, DecodingBlock)
