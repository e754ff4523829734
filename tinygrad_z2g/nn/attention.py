"""Attention with several heads.

It projects to queries, keys and values and cuts them into heads.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import creation
from ..ops.common import as_array, same_device
from ..ops.elementwise import where
from ..tensor import Tensor
from . import functional as F
from . import init
from .linear import Linear
from .module import Module, Parameter


class MultiheadAttention(Module):
    """`num_heads` attentions side by side, each on its own projection of queries, keys and values.

    embed_dim E is divided among the heads. Parameters as in torch: in_proj_weight (3E, E) for q, k and v one above
    the other, in_proj_bias (3E,), out_proj. Inputs are (L, N, E), or (N, L, E) if `batch_first`, or (L, E). Where keys
    or values have another width, kdim or vdim, there are q_proj_weight (E, E), k_proj_weight (E, kdim) and
    v_proj_weight (E, vdim) in place of in_proj_weight.
    """

    in_proj_weight: Parameter | None
    q_proj_weight: Parameter | None
    k_proj_weight: Parameter | None
    v_proj_weight: Parameter | None
    in_proj_bias: Parameter | None

    def __init__(
        self, embed_dim: int, num_heads: int, dropout: float = 0.0, bias: bool = True, add_bias_kv: bool = False,
        add_zero_attn: bool = False, kdim: int | None = None, vdim: int | None = None, batch_first: bool = False,
        device: Any = None, dtype: Any = None,
    ):  # fmt: skip
        _check_heads("MultiheadAttention", embed_dim, num_heads)
        if add_bias_kv or add_zero_attn:
            raise NotImplementedError("MultiheadAttention: add_bias_kv and add_zero_attn are not offered")
        self.embed_dim, self.num_heads, self.dropout, self.batch_first = embed_dim, num_heads, dropout, batch_first
        self.kdim, self.vdim = embed_dim if kdim is None else kdim, embed_dim if vdim is None else vdim
        make = {"device": device, "dtype": dtype}
        apart: dict[str, int | None] = {"q_proj_weight": embed_dim, "k_proj_weight": self.kdim}
        apart["v_proj_weight"] = self.vdim
        if self.kdim == self.vdim == embed_dim:
            self.in_proj_weight = Parameter(creation.empty(3 * embed_dim, embed_dim, **make))
            apart = dict.fromkeys(apart)
        else:
            self.register_parameter("in_proj_weight", None)
        for name, width in apart.items():
            p = None if width is None else Parameter(creation.empty(embed_dim, width, **make))
            self.register_parameter(name, p)
        self.register_parameter("in_proj_bias", Parameter(creation.zeros(3 * embed_dim, **make)) if bias else None)
        self.out_proj = Linear(embed_dim, embed_dim, bias=bias, **make)
        for p in (self.in_proj_weight, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight):
            if p is not None:
                init.xavier_uniform_(p)
        if self.out_proj.bias is not None:
            init.zeros_(self.out_proj.bias)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, key_padding_mask: Tensor | None = None,
        need_weights: bool = True, attn_mask: Tensor | None = None, average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        """Returns the output, shaped as the query, and the weights (N, L, S), or (N, heads, L, S) unaveraged, or None.

        Masks are True where attention is *forbidden* (torch's convention here, opposite to
        `scaled_dot_product_attention`), or numbers added to the scores: attn_mask (L, S) or (N · heads, L, S),
        key_padding_mask (N, S). `is_causal` lets no query see later keys; here it works without an attn_mask too.
        """
        self._check(query, key, value, key_padding_mask, attn_mask)
        if query.ndim == 2:
            padding = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
            axis = 0 if self.batch_first else 1
            q, k, v = (x.unsqueeze(axis) for x in (query, key, value))
            out, weights = self.forward(q, k, v, padding, need_weights, attn_mask, average_attn_weights, is_causal)
            return out.squeeze(axis), None if weights is None else weights.squeeze(0)
        if not self.batch_first:
            query, key, value = (x.transpose(0, 1) for x in (query, key, value))  # (L, N, E) -> (N, L, E)
        q, k, v = self._project(query, key, value)
        p_drop = self.dropout if self.training else 0.0
        if is_causal and attn_mask is not None and _says_causal(attn_mask):
            attn_mask = None
        alone = is_causal and attn_mask is None and key_padding_mask is None and not need_weights  # needs no mask
        mask = None if alone else self._mask(q, k, attn_mask, key_padding_mask, is_causal)
        if need_weights:
            scores = q @ k.mT * (1 / math.sqrt(q.array.shape[-1]))  # (N, nh, L, hs) @ (N, nh, hs, S)
            weights = F.dropout(F.softmax(scores if mask is None else scores + mask, -1), p_drop, self.training)
            out = weights @ v  # (N, nh, L, S) @ (N, nh, S, hs)
            weights = weights.mean(1) if average_attn_weights else weights
        else:
            out, weights = F.scaled_dot_product_attention(q, k, v, mask, p_drop, is_causal=alone), None
        out = merge_heads(out)
        return self.out_proj(out if self.batch_first else out.transpose(0, 1)), weights  # (N, L, E) -> (L, N, E)

    def _check(self, query: Tensor, key: Tensor, value: Tensor, padding: Tensor | None, mask: Tensor | None) -> None:
        """RuntimeError, which names what was expected, for inputs and masks of other shapes or types."""
        name = "MultiheadAttention"
        q, k, v = (as_array(x, name).shape for x in (query, key, value))
        if len(q) not in (2, 3) or q[-1] != self.embed_dim:
            raise RuntimeError(f"{name}: query {tuple(q)}, expected 2 or 3 dimensions ending in {self.embed_dim}")
        axis = 0 if self.batch_first else 1
        batch = (q[axis],) if len(q) == 3 else ()
        source = k[1 - axis] if len(k) == 3 else k[0]
        same = k[:-1] == v[:-1] and len(k) == len(q) and (k[-1], v[-1]) == (self.kdim, self.vdim)
        if not same or (batch and k[axis] != batch[0]):
            order = "(S, {})" if not batch else "(N, S, {})" if self.batch_first else "(S, N, {})"
            raise RuntimeError(
                f"{name}: query {tuple(q)}, key {tuple(k)}, value {tuple(v)}; expected key {order.format(self.kdim)} "
                f"and value {order.format(self.vdim)}" + (" with the query's N" if batch else "")
            )
        length = q[1 - axis] if batch else q[0]
        heads = self.num_heads * (batch[0] if batch else 1)
        shapes = {"key_padding_mask": [(*batch, source)], "attn_mask": [(length, source), (heads, length, source)]}
        for what, given in (("key_padding_mask", padding), ("attn_mask", mask)):
            if given is None:
                continue
            m = as_array(given, f"{name}: {what}")
            if m.shape not in shapes[what]:
                expected = " or ".join(map(str, shapes[what]))
                raise RuntimeError(f"{name}: {what} has shape {tuple(m.shape)}, expected {expected}")
            if m.dtype.kind != "b" and m.dtype != query.array.dtype:
                raise RuntimeError(
                    f"{name}: {what} must be bool (True: forbidden) or {query.array.dtype} (added), got {m.dtype}"
                )
            same_device(name, query, given)

    def _project(self, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
        """q, k and v per head: (N, L, E) -> (N, nh, L, hs), each by its third of in_proj_weight, or its own weight."""
        w, b, E = self.in_proj_weight, self.in_proj_bias, self.embed_dim
        if query is key and key is value and w is not None:  # self-attention: one product instead of three
            projected = list(F.linear(query, w, b).chunk(3, dim=-1))
        elif key is value and w is not None:  # attention to another sequence: two
            of_q, of_kv = (None, None) if b is None else b.split([E, 2 * E])
            w_q, w_kv = w.split([E, 2 * E])
            projected = [F.linear(query, w_q, of_q), *F.linear(key, w_kv, of_kv).chunk(2, dim=-1)]
        else:
            apart = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
            biases = (None,) * 3 if b is None else b.chunk(3)
            weights: Any = apart if w is None else w.chunk(3)
            projected = [F.linear(*parts) for parts in zip((query, key, value), weights, biases, strict=True)]
        return [split_heads(x, self.num_heads) for x in projected]

    def _mask(
        self, q: Tensor, k: Tensor, attn_mask: Tensor | None, padding: Tensor | None, is_causal: bool
    ) -> Tensor | None:
        """All masks as one tensor to add to the scores (N, nh, L, S): 0 or -inf, or the caller's numbers."""
        n, heads, length, source = q.array.shape[0], self.num_heads, q.array.shape[2], k.array.shape[2]
        total = None
        if attn_mask is not None:
            total = _additive(attn_mask, q)
            if total.ndim == 3:
                total = total.reshape(n, heads, length, source)  # (N nh, L, S) -> (N, nh, L, S)
        if padding is not None:
            padding = _additive(padding, q).reshape(n, 1, 1, source)  # (N, S) -> (N, 1, 1, S)
            total = padding if total is None else total + padding
        if is_causal:
            later = _additive(creation.ones(length, source, device=q.device).triu(1).bool(), q)
            total = later if total is None else total + later
        return total

    def extra_repr(self) -> str:
        return f"embed_dim={self.embed_dim}, num_heads={self.num_heads}"


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """(B, T, C) -> (B, nh, T, hs)"""
    B, T, C = x.array.shape
    return x.reshape(B, T, num_heads, C // num_heads).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(B, nh, T, hs) -> (B, T, nh * hs)"""
    B, nh, T, hs = x.array.shape
    return x.transpose(1, 2).reshape(B, T, nh * hs)


def _says_causal(mask: Tensor) -> bool:
    """Whether a mask forbids what is later and nothing else, as `is_causal` says already. (On a GPU nobody looks.)"""
    m = mask.array
    if not isinstance(m, np.ndarray) or m.ndim != 2:
        return False
    later = np.triu(np.ones(m.shape, bool), 1)
    return np.array_equal(m, later if m.dtype.kind == "b" else np.where(later, -math.inf, 0))


def _additive(mask: Tensor, like: Tensor) -> Tensor:
    """A mask that is True where attention is forbidden, as -inf there and 0 elsewhere."""
    if mask.is_floating_point():
        return mask
    return where(mask.bool(), -math.inf, 0.0).to(like.dtype)


def _check_heads(name: str, width: int, num_heads: int) -> None:
    if num_heads < 1 or width < 1 or width % num_heads:
        raise ValueError(f"{name}: width {width} is not divisible into {num_heads} heads; choose a multiple")
