"""Attention as a function: each query takes the mean of the values, weighted by its match with the keys.

It knows nothing of layers and heads' weights (see `attention`), nor of what the positions stand for.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import fast
from ..arrays import dtypes
from ..arrays.backend import Array, of, quiet
from ..arrays.random import default_generator
from ..core.engine import needs_grad
from ..half import precision
from ..half.casting import lowered
from ..ops.common import as_array, beside, fits, number, same_device
from ..ops.softmax import softmax
from ..walks.again import record_joint_fused
from .dropping import check_probability, dropout

if TYPE_CHECKING:
    from ..tensor import Tensor


def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> Tensor:  # fmt: skip
    """z = softmax(q kᵀ / √d + mask) v: each query takes the mean of the values, weighted by its match with the keys.

    query (..., T, d), key (..., S, d), value (..., S, e) -> (..., T, e). `is_causal`: query i sees keys 0..i only,
    by position. `attn_mask` broadcasts to (..., T, S): True where a query may look, or numbers added to the scores
    (-inf forbids); with `is_causal`, both hold. A query that may look nowhere gives 0. `dropout_p` drops weights,
    always: pass 0 when evaluating. (Vaswani et al. 2017, arXiv:1706.03762; gradients: see `fast.attention_backward`)
    `enable_gqa`: query (..., nh, T, d), key and value (..., nk, S, ...) with fewer heads, each of which serves nh / nk
    neighbouring heads of the query (grouped queries, Ainslie et al. 2023, arXiv:2305.13245).

    Derived, with s = q kᵀ / √d and p = softmax(s): z = p v is a `matmul`, so ∂L/∂v = pᵀ grad and ∂L/∂p = grad vᵀ; the
    softmax turns that into ∂L/∂s = p (∂L/∂p - Σ p ∂L/∂p); s is a `matmul` again, so with g = ∂L/∂s / √d
    ∂L/∂q = g k and ∂L/∂k = gᵀ q.
    One query that matches two keys equally, p = (1/2, 1/2), d = 1, v = (0, 4): g = 1/2 ((0, 4) - 2) = (-1, 1).
    >>> q, k = z2g.tensor([[0.0]], requires_grad=True), z2g.tensor([[1.0], [3.0]])
    >>> v = z2g.tensor([[0.0], [4.0]], requires_grad=True)
    >>> F.scaled_dot_product_attention(q, k, v).backward(); q.grad, v.grad  # -1 · 1 + 1 · 3
    (tensor([[2.]]), tensor([[0.5000],
            [0.5000]]))
    """
    if attn_mask is not None and needs_grad(attn_mask):
        return _attention_with_learned_mask(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)
    if enable_gqa:
        return _grouped_attention(query, key, value, attn_mask, dropout_p, is_causal, scale)
    if precision.blocks:
        query, key, value, attn_mask = lowered(query, key, value, attn_mask)
    q, k, v = (as_array(x, "scaled_dot_product_attention") for x in (query, key, value))
    if attn_mask is not None:
        as_array(attn_mask, "scaled_dot_product_attention: attn_mask")
    same_device("scaled_dot_product_attention", query, key, value, attn_mask)
    if min(q.ndim, k.ndim, v.ndim) < 2 or q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        raise RuntimeError(
            f"scaled_dot_product_attention: query {tuple(q.shape)}, key {tuple(k.shape)}, value {tuple(v.shape)}: "
            "expected (..., T, d), (..., S, d), (..., S, e)"
        )
    if not q.dtype == k.dtype == v.dtype:
        raise RuntimeError(
            f"scaled_dot_product_attention: query, key, value are {q.dtype}, {k.dtype}, {v.dtype}; expected one"
        )
    dropout_p = number(dropout_p, "scaled_dot_product_attention: dropout_p")
    check_probability(dropout_p, "scaled_dot_product_attention")
    scale = 1 / math.sqrt(max(q.shape[-1], 1)) if scale is None else number(scale, "attention: scale")
    version = 0 if attn_mask is None else attn_mask.memory.writes
    bias = _attention_bias(q, k, attn_mask, is_causal)
    seed = default_generator.next_key() if dropout_p else 0
    z, saved = quiet.run(fast.attention, q, k, v, bias, is_causal and bias is None, scale, dropout_p, seed)

    def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = q @ k.transpose(-2, -1) * scale  # (..., T, d) @ (..., d, S) -> (..., T, S)
        if bias is not None:
            if attn_mask.memory.writes != version:
                raise RuntimeError("backward: the attn_mask of this attention was modified by an inplace operation")
            scores = scores + beside(scores, bias)
        T, S = scores.shape[-2:]
        if is_causal and bias is None:
            scores = scores.masked_fill(scores.make(of(q.array).tri(T, S, dtype=bool)).logical_not(), -math.inf)
        p = softmax(scores, -1)
        if dropout_p:
            p = p * beside(p, fast.dropout_mask(p.array, dropout_p, seed))
        return p @ v  # (..., T, S) @ (..., S, e) -> (..., T, e)

    return record_joint_fused(
        "attention",
        z,
        (query, key, value),
        lambda grad, q, k, v, saved: fast.attention_backward(grad, q, k, v, saved, scale),
        query,
        key,
        value,
        saved,
        twin=(plain, query, key, value),
    )


def _grouped_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *settings: Any) -> Tensor:
    """Attention whose keys and values broadcast to the group of queries that shares them; nothing is repeated."""
    shapes = [tuple(as_array(x, "scaled_dot_product_attention").shape) for x in (query, key, value)]
    heads, shared, other = (shape[-3] if len(shape) > 2 else 0 for shape in shapes)
    if not shared or shared != other or heads % shared:
        raise RuntimeError(
            f"scaled_dot_product_attention: query {shapes[0]}, key {shapes[1]}, value {shapes[2]}: with enable_gqa "
            "expected (..., nh, T, d), (..., nk, S, d), (..., nk, S, e), nh a multiple of nk"
        )
    group = (shared, heads // shared)
    if mask is not None and mask.ndim > 2:  # (..., nh or 1, T, S) -> (..., nk or 1, group or 1, T, S)
        mask = mask.unsqueeze(-3) if mask.array.shape[-3] == 1 else mask.unflatten(-3, group)
    z = scaled_dot_product_attention(
        query.unflatten(-3, group), key.unsqueeze(-3), value.unsqueeze(-3), mask, *settings
    )
    return z.flatten(-4, -3)  # (..., nk, group, T, e) -> (..., nh, T, e)


def _attention_bias(q: Array, k: Array, mask: Tensor | None, is_causal: bool) -> Array | None:
    """What is added to the scores (..., T, S): 0 where a query may look, -inf where not, or the numbers given."""
    if mask is None:
        return None
    m, scores = mask.array, (*np.broadcast_shapes(q.shape[:-2], k.shape[:-2]), q.shape[-2], k.shape[-2])
    if not fits(m.shape, scores):
        raise RuntimeError(
            f"scaled_dot_product_attention: attn_mask has shape {tuple(m.shape)}, expected one that broadcasts to the "
            f"scores, {scores}"
        )
    if m.dtype == dtypes.float32 or m.dtype == q.dtype:
        m = m.astype(q.dtype, copy=False)
    elif m.dtype.kind != "b":
        raise RuntimeError(f"scaled_dot_product_attention: attn_mask must be bool or {q.dtype}, got {m.dtype}")
    else:
        m = of(q).where(m, 0, -math.inf).astype(q.dtype)
    if is_causal:  # both hold
        m = of(q).where(of(q).tri(q.shape[-2], k.shape[-2], dtype=bool), m, -math.inf).astype(q.dtype)
    return m


def _attention_with_learned_mask(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, dropout_p: float, is_causal: bool, scale: float | None,
    enable_gqa: bool,
) -> Tensor:  # fmt: skip
    """Attention composed of its parts, so that a gradient reaches the mask too: a learned bias by distance, say."""
    q, k = as_array(query, "scaled_dot_product_attention"), as_array(key, "scaled_dot_product_attention")
    if enable_gqa:
        key, value = (x.repeat_interleave(q.shape[-3] // x.array.shape[-3], -3) for x in (key, value))
    scores = query @ key.transpose(-2, -1) * (1 / math.sqrt(max(q.shape[-1], 1)) if scale is None else scale) + mask
    if is_causal:
        future = query.make(~of(q).tri(q.shape[-2], k.shape[-2], dtype=bool))
        scores = scores.masked_fill(future, -math.inf)
    return dropout(softmax(scores, -1), dropout_p) @ value
