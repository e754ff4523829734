"""Attention as a function: each query takes the mean of the values, weighted by its match with the keys.

It knows nothing of layers and heads' weights (see `attention`), nor of what the positions stand for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..core import ops
from ..ops.common import as_array, widens

if TYPE_CHECKING:
    from ..tensor import Tensor


@widens(ops.scaled_dot_product_attention)
def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> Tensor:  # fmt: skip
    """z = softmax(q kᵀ / √d + mask) v: each query takes the mean of the values, weighted by its match with the keys.

    query (..., T, d), key (..., S, d), value (..., S, e) -> (..., T, e). `is_causal`: query i sees keys 0..i only,
    by position. `attn_mask` broadcasts to (..., T, S): True where a query may look, or numbers added to the scores
    (-inf forbids); with `is_causal`, both hold. A query that may look nowhere gives 0. `dropout_p` drops weights,
    always: pass 0 when evaluating. See `core.ops.scaled_dot_product_attention`.
    `enable_gqa`: query (..., nh, T, d), key and value (..., nk, S, ...) with fewer heads, each of which serves nh / nk
    neighbouring heads of the query (grouped queries, Ainslie et al. 2023, arXiv:2305.13245).

    >>> q, k = z2g.tensor([[0.0]], requires_grad=True), z2g.tensor([[1.0], [3.0]])
    >>> v = z2g.tensor([[0.0], [4.0]], requires_grad=True)
    >>> F.scaled_dot_product_attention(q, k, v).backward(); q.grad, v.grad  # -1 · 1 + 1 · 3
    (tensor([[2.]]), tensor([[0.5000],
            [0.5000]]))
    """
    if attn_mask is not None:
        as_array(attn_mask, "scaled_dot_product_attention: attn_mask")
    if enable_gqa:
        return _grouped_attention(query, key, value, attn_mask, dropout_p, is_causal, scale)
    return ops.scaled_dot_product_attention(query, key, value, attn_mask, dropout_p, is_causal, scale)


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
