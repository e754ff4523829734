"""One new position through a block of a GPT, beside a cache of those before it: what each token costs in `generate`.

A block of width 128 took 220 µs for it (one thread, NumPy alone), of which the four products are 14 with their weights
in the cache and 25 without: the rest was 30 operations, each with its tensors, checks and rules, though nothing is
recorded. Here the same formulas run on arrays at once, in 62 µs. Some sums are taken in another order, so that the last
bits differ. `nn/transformer.py` puts `DecodingBlock` in its place.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import fast
from ..arrays.backend import Array, quiet
from ..core.engine import observers
from ..core.gpt import Cache
from ..core.layers import GELU, CausalSelfAttention, Dropout, LayerNorm, Linear, Sequential, TransformerBlock
from ..core.modes import grad_mode
from ..half import precision
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


Affine = tuple[Array, Any]  # weight and bias; None for no bias
Norm = tuple[Array, Any, float]  # and eps


def block(
    x: Array, heads: int, attend: Any, norm1: Norm, qkv: Affine, proj: Affine, norm2: Norm, up: Affine, down: Affine
) -> Array:
    """x + attention(norm(x)), then x + mlp(norm(x)); `attend` keeps keys and values, and looks at all of them."""
    B, C = x.shape
    parts = linear(layer_norm(x, *norm1), *qkv).reshape(B, 3, heads, 1, C // heads)  # (B, 3 C)
    y = attend(parts[:, 0], parts[:, 1], parts[:, 2])  # (B, nh, 1, hs) each
    x = x + linear(y.reshape(B, C), *proj)
    x += linear(gelu(linear(layer_norm(x, *norm2), *up)), *down)
    return x


# --- In the place of the plain form ------------------------------------------------------------------------------

AROUND: list[Any] = [CausalSelfAttention, Sequential]
PARTS: list[Any] = [LayerNorm, Linear, Linear, Dropout, LayerNorm, Linear, GELU, Linear, Dropout]
FORWARDS = [(kind, kind.forward) for kind in {*AROUND, *PARTS}]


class DecodingBlock:
    """What is attached to `TransformerBlock`."""

    def forward(self: Any, x: Tensor, cache: Any = None, angles: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """(B, T, C) -> (B, T, C)"""
        if cache is not None and not grad_mode.enabled:
            parts = known(self, x, cache, angles)
            if parts is not None:
                return x.make(quiet.run(_decoded, self.attention, x.array, parts, cache, angles))
        return _core_forward(self, x, cache, angles)


def known(self: TransformerBlock, x: Tensor, cache: Any, angles: tuple[Tensor, Tensor] | None) -> list | None:
    """The arrays of a block in which all is as the core made it, for one new position in float32 on the CPU; else None.

    So not with hooks, parts of other classes or with a forward of their own, dropout that drops, casts of mixed
    precision, padding, or while somebody looks on. It is asked anew for each position: 8 of the 62 µs of a block.
    """
    a: Any = getattr(x, "array", None)
    attention, mlp = self.attention, self.mlp
    if getattr(a, "ndim", 0) != 3 or not _fits(a, (len(a), 1, a.shape[2])) or observers or precision.blocks:
        return None
    if [type(cache), type(attention), type(mlp)] != [Cache, *AROUND] or cache.padding is not None:
        return None
    parts = [self.norm1, attention.qkv, attention.proj, attention.resid_dropout, self.norm2, *iter(mlp)]
    if [type(part) for part in parts] != PARTS or any(kind.forward is not form for kind, form in FORWARDS):
        return None
    for part in (attention, mlp, *parts):
        if part._forward_hooks or part._forward_pre_hooks or "forward" in part.__dict__:
            return None
    norm1, qkv, proj, drop1, norm2, up, act, down, drop2 = parts
    if (attention.training and attention.dropout) or (drop1.training and drop1.p) or (drop2.training and drop2.p):
        return None
    if act.approximate != "tanh" or not cache.holds(attention, FLOAT32):
        return None
    C, hidden = a.shape[2], up.out_features
    if angles is not None and not all(_fits(part.array, (1, C // attention.num_heads // 2)) for part in angles):
        return None
    found: list = []
    for part, shape in (
        (norm1, (C,)), (qkv, (3 * C, C)), (proj, (C, C)), (norm2, (C,)), (up, (hidden, C)), (down, (C, hidden)),
    ):  # fmt: skip
        w, b = part.weight, part.bias
        if w is None or not _fits(w.array, shape) or not (b is None or _fits(b.array, shape[:1])):
            return None
        found.append((w.array, None if b is None else b.array, *((part.eps,) if len(shape) == 1 else ())))
    return found


def _fits(a: Any, shape: tuple) -> bool:
    return type(a) is np.ndarray and a.dtype is FLOAT32 and a.shape == shape


def _decoded(attention: CausalSelfAttention, x: Array, parts: list, cache: Any, angles: Any) -> Array:
    def attend(q: Array, k: Array, v: Array) -> Array:
        if angles is not None:
            cos, sin = (part.array for part in angles)
            q, k = fast.rotate(q, cos, sin, False), fast.rotate(k, cos, sin, False)
        return attended(q, *cache.kept(attention, k, v))

    return block(x[:, 0], attention.num_heads, attend, *parts)[:, None]  # (B, 1, C) -> (B, C), and back


_core_forward: Any = TransformerBlock.forward
