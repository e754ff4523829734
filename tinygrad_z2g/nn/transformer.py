"""The causal Transformer block, the part that a GPT repeats.

It puts layers together and knows nothing of their insides: no rule, no kernel and no array appears.
"""

from __future__ import annotations

from ..ops.shape import cat
from ..tensor import Tensor
from . import functional as F
from .activation import GELU
from .attention import _check_heads, merge_heads, split_heads
from .container import Sequential
from .dropout import Dropout
from .linear import Linear
from .module import Module
from .norm import LayerNorm

Cache = dict[Module, tuple[Tensor, Tensor]]  # per attention: the keys and values of the positions seen so far


class CausalSelfAttention(Module):
    """Every position asks (query) all positions up to itself (key) and takes the mean of what they tell (value)."""

    def __init__(self, width: int, num_heads: int, dropout: float = 0.0, bias: bool = True):
        _check_heads("CausalSelfAttention", width, num_heads)
        self.num_heads, self.dropout = num_heads, dropout
        self.qkv = Linear(width, 3 * width, bias=bias)
        self.proj = Linear(width, width, bias=bias)
        self.resid_dropout = Dropout(dropout)

    def forward(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        """(B, T, C) -> (B, T, C).

        With a `cache`, x holds only the positions that are new: their keys and values are added to the cache, and
        they attend to everything in it. One new position at a time, once the cache holds any.
        """
        q, k, v = (split_heads(part, self.num_heads) for part in self.qkv(x).chunk(3, dim=-1))  # (B, nh, T, hs) each
        fresh = True
        if cache is not None:
            if self in cache:
                if x.array.shape[1] != 1:
                    raise ValueError(
                        f"attention: a filled cache takes 1 new position at a time, got {x.array.shape[1]}"
                    )
                fresh = False
                k, v = (cat([old, new], dim=2) for old, new in zip(cache[self], (k, v), strict=True))
            cache[self] = k, v
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout if self.training else 0.0, is_causal=fresh)
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

    def forward(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        """(B, T, C) -> (B, T, C)"""
        x = x + self.attention(self.norm1(x), cache)
        return x + self.mlp(self.norm2(x))
