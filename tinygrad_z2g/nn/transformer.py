"""The causal Transformer block, the part that a GPT repeats: rotary positions, and the fast form for one new position.

It stands in `core/layers.py`.
"""

from __future__ import annotations

from ..core.attach import attach
from ..core.layers import CausalSelfAttention, TransformerBlock
from ..fast import decoding, forms
from ..tensor import Tensor
from . import functional as F

__all__ = ["CausalSelfAttention", "TransformerBlock"]


class AttentionMethods:
    """What is attached to `CausalSelfAttention`."""

    def turned(self, x: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
        """Queries or keys (B, nh, T, hs), turned by the angles of their positions, from `F.rotary_angles`: the match of
        two then depends on how far apart they stand."""
        return F.rotary_embedding(x, *angles)


attach(CausalSelfAttention, AttentionMethods)
if not forms.plain():
    attach(TransformerBlock, decoding.DecodingBlock)
