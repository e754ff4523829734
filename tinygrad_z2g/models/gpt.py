"""A GPT: predicts the next token from those before it, and writes by feeding its predictions back.

The design of GPT-2 (Radford et al. 2019): learned positions, pre-norm blocks, GELU, and optionally one matrix for
reading tokens in and predicting them ("tied weights"). Or rotary positions, with which a small GPT learns faster. It
knows nothing of gradients: there is no rule in this file, nor need of one. Nor of characters: a token is a number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from .. import creation
from ..nn import Cache, Dropout, Embedding, LayerNorm, Linear, Module, ModuleList, TransformerBlock, init
from ..nn import functional as F
from ..tensor import Tensor
from .generation import LanguageModel


@dataclass
class GPTConfig:
    """Sizes of a GPT. ValueError for impossible ones."""

    vocab_size: int
    context: int = 64  # how many tokens it sees
    layers: int = 4
    heads: int = 4
    width: int = 128  # numbers per token inside
    dropout: float = 0.0
    bias: bool = True
    tied: bool = True  # the token table also serves as the output layer
    rotary: bool = False  # positions turn queries and keys by an angle, and there is no table of them
    rope_base: float = 10000.0  # the larger, the further the slowest pair still tells places apart

    def __post_init__(self) -> None:
        for name in ("vocab_size", "context", "layers", "heads", "width"):
            if getattr(self, name) < 1:
                raise ValueError(f"GPTConfig: {name} must be at least 1, got {getattr(self, name)}")
        if self.width % self.heads:
            raise ValueError(
                f"GPTConfig: width {self.width} is not divisible into {self.heads} heads; choose a multiple"
            )
        if self.rotary and self.width // self.heads % 2:
            raise ValueError(f"GPTConfig: rotary takes heads of an even size, got {self.width // self.heads}")
        if not self.rope_base > 0:
            raise ValueError(f"GPTConfig: rope_base must be > 0, got {self.rope_base}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"GPTConfig: dropout must be in [0, 1), got {self.dropout}")


class GPT(LanguageModel):
    """Token ids (B, T) -> scores of the next token at every position (B, T, vocab_size)."""

    def __init__(self, config: GPTConfig):
        self.config = config
        self.token_embedding = Embedding(config.vocab_size, config.width)
        if not config.rotary:
            self.position_embedding = Embedding(config.context, config.width)
        self.dropout = Dropout(config.dropout)
        self.blocks = ModuleList(
            TransformerBlock(config.width, config.heads, config.dropout, config.bias) for _ in range(config.layers)
        )
        self.norm = LayerNorm(config.width, bias=config.bias)
        self.head = Linear(config.width, config.vocab_size, bias=False)
        self.apply(self._init_weights)
        # Each block adds twice to the residual stream; smaller last layers keep the sum of all 2 · layers at size 1
        for block in self.blocks:
            for layer in (block.attention.proj, block.mlp[2]):
                init.normal_(layer.weight, std=0.02 / math.sqrt(2 * config.layers))
        if config.tied:
            self.head.weight = self.token_embedding.weight

    def _init_weights(self, module: Module) -> None:
        if isinstance(module, (Linear, Embedding)):
            init.normal_(module.weight, std=0.02)
        if isinstance(module, Linear) and module.bias is not None:
            init.zeros_(module.bias)

    def forward(
        self, ids: Tensor, targets: Tensor | None = None, cache: Cache | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """(B, T) -> scores (B, T, V), and the mean cross-entropy against `targets` (B, T) if given.

        With a `cache`, `ids` holds only the tokens not seen before; see `nn.Cache`. ValueError if the tokens exceed the
        context, or if rows begin with padding: a position here is a number, not a distance.
        """
        if ids.ndim != 2:
            raise ValueError(f"GPT: expected token ids of shape (B, T), got {tuple(ids.shape)}; see unsqueeze(0)")
        T = ids.array.shape[1]
        seen = 0 if cache is None else len(cache)
        if cache is not None and cache.padding is not None:
            raise ValueError("GPT: prompts of different lengths are not offered; give them one by one")
        if seen + T > self.config.context:
            raise ValueError(f"GPT: {seen + T} tokens exceed the context of {self.config.context}; crop the input")
        positions, angles = creation.arange(seen, seen + T, device=ids.device), None
        x = self.token_embedding(ids)  # (B, T) -> (B, T, C)
        if self.config.rotary:
            angles = F.rotary_angles(positions, self.config.width // self.config.heads, self.config.rope_base)
        else:
            x = x + self.position_embedding(positions)  # (B, T, C) + (T, C)
        x = self.dropout(x)
        for block in self.blocks:
            x = block(x, cache, angles)
        scores = self.head(self.norm(x))  # (B, T, C) -> (B, T, V)
        if targets is None:
            return scores, None
        return scores, F.cross_entropy(scores.flatten(0, 1), targets.flatten())
