"""The causal Transformer block, the part that a GPT repeats.

It puts layers together and knows nothing of their insides: no rule, no kernel and no array appears.
"""

from __future__ import annotations

from ..tensor import Tensor
from . import functional as F
from .activation import GELU
from .attention import _check_heads, merge_heads, split_heads
from .cache import Cache, causal_attention
from .container import Sequential
from .dropout import Dropout
from .linear import Linear
from .module import Module
from .norm import LayerNorm


class CausalSelfAttention(Module):
    """Every position asks (query) all positions up to itself (key) and takes the mean of what they tell (value)."""

    def __init__(self, width: int, num_heads: int, dropout: float = 0.0, bias: bool = True):
        _check_heads("CausalSelfAttention", width, num_heads)
        self.num_heads, self.dropout = num_heads, dropout
        self.qkv = Linear(width, 3 * width, bias=bias)
        self.proj = Linear(width, width, bias=bias)
        self.resid_dropout = Dropout(dropout)

    def forward(self, x: Tensor, cache: Cache | None = None, angles: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """(B, T, C) -> (B, T, C).

        With a `cache`, x holds only the positions that are new: their keys and values are added to the cache, and
        they attend to everything in it, up to themselves. `angles` of the positions, from `F.rotary_angles`, turn
        queries and keys: the match of two then depends on how far apart they stand.
        """
        q, k, v = (split_heads(part, self.num_heads) for part in self.qkv(x).chunk(3, dim=-1))  # (B, nh, T, hs) each
        if angles is not None:
            q, k = F.rotary_embedding(q, *angles), F.rotary_embedding(k, *angles)
        y = causal_attention(q, k, v, cache, self, self.dropout if self.training else 0.0)
        return self.resid_dropout(self.proj(merge_heads(y)))


class TransformerBlock(Module):
    """x + attention(norm(x)), then x + mlp(norm(x)): positions talk to each other, then each thinks for itself.

    The sums (residual connections) let gradients pass unchanged through any number of blocks; normalising first
    ("pre-norm", as in GPT-2) keeps that path clear.
    """

    def __init__(self, width: int, num_heads: int, dropout: float = 0.0, bias: bool = True):
        self.norm1 = LayerNorm(width, bias=bias)
        self.attention = CausalSelfAttention(width, num_heads, dropout, bias)
        self.norm2 = LayerNorm(width, bias=bias)
        self.mlp = Sequential(
            Linear(width, 4 * width, bias=bias),
            GELU(approximate="tanh"),
            Linear(4 * width, width, bias=bias),
            Dropout(dropout),
        )

    def forward(self, x: Tensor, cache: Cache | None = None, angles: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """(B, T, C) -> (B, T, C)"""
        x = x + self.attention(self.norm1(x), cache, angles)
        return x + self.mlp(self.norm2(x))
