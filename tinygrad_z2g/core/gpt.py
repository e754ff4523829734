"""A GPT: predicts the next token from those before it, and writes by feeding its predictions back.

The design of GPT-2 (Radford et al. 2019): learned positions, pre-norm blocks, GELU, and optionally one matrix for
reading tokens in and predicting them ("tied weights"). It knows nothing of gradients, nor of characters: a token is a
number.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import random
from ..arrays.backend import device_of, of, to_device, to_host
from . import ops
from .layers import Dropout, Embedding, LayerNorm, Linear, ModuleList, TransformerBlock, start
from .modes import grad_mode, no_grad
from .module import Module
from .tensor import Tensor

if TYPE_CHECKING:
    from ..models.gpt import GPTMethods
else:
    GPTMethods = object  # attached from there


class Cache:
    """The keys and values of the positions seen so far, of each attention of a model."""

    def __init__(self, padding: Tensor | None = None) -> None:
        self.padding = padding  # of rows of different lengths, see `nn/cache.py`
        self._kept: dict[Module, Any] = {}  # (keys, values)

    def __len__(self) -> int:
        return one_length(k.array.shape[2] for k, _ in self._kept.values())

    def extend(self, owner: Module, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and values of the attention `owner`, with those of new positions at the end: (B, nh, S, hs)."""
        if grad_mode.enabled and (k.requires_grad or v.requires_grad):
            raise RuntimeError("Cache: no gradient passes through it; use it within no_grad()")
        if owner in self._kept:
            k, v = (ops.cat([old, new], 2) for old, new in zip(self._kept[owner], (k, v), strict=True))
        self._kept[owner] = k, v
        return k, v

    def mask(self, T: int, S: int, like: Tensor) -> Tensor | None:
        """Where the last T of S positions may look: up to themselves. (T, S); None for all of them, or the last one."""
        return None if T in (1, S) else like.make(of(like.array).tri(T, S, S - T, dtype=bool))


def one_length(lengths: Iterable[int]) -> int:
    """How many positions all attentions of a model have kept. RuntimeError if not all have as many."""
    found = set(lengths)
    if len(found) > 1:
        got = ", ".join(map(str, sorted(found)))
        raise RuntimeError(f"Cache: some layers hold other positions than others ({got}); a call was stopped half-way, "
                           "or several models share it; begin a new one")  # fmt: skip
    return max(found, default=0)


class LanguageModel(Module):
    """Token ids (B, T) -> scores of the next token at every position (B, T, vocab_size), and a loss or None.

    `config` has `vocab_size` and `context`. What is here is the same for all of them.
    """

    config: Any

    def next_scores(self, ids: Tensor, cache: Cache) -> Tensor:
        """The scores of the token after the last: (B, T) -> (B, V). `ids` are those that the cache has not seen."""
        scores, _ = self(ids, cache=cache)
        return scores[:, -1]

    def generate(
        self, prompt: Tensor, max_new_tokens: int, temperature: float = 1.0, top_k: int | None = None
    ) -> Tensor:
        """The prompt (B, T) continued by `max_new_tokens` sampled tokens: (B, T + max_new_tokens). See `sample`."""
        if prompt.ndim != 2 or prompt.array.shape[1] == 0 or max_new_tokens < 0:
            got = f"shape {tuple(prompt.shape)} and max_new_tokens {max_new_tokens}"
            raise ValueError(f"generate: got a prompt of {got}; expected (B, T) with T >= 1, and a number >= 0")
        if not all(0 <= token < self.config.vocab_size for token in to_host(prompt.array).flat):
            raise IndexError(f"generate: prompt ids must be in the range 0 to {self.config.vocab_size - 1}")
        was_training, cache, ids, new = self.training, Cache(), prompt, prompt
        self.eval()
        try:
            with no_grad():
                for _ in range(max_new_tokens):
                    if len(cache) + new.array.shape[1] > self.config.context:
                        # Keys know their position; once the window slides, every position changes: the cache is void
                        cache, new = Cache(), ids[:, -self.config.context :]
                    new = sample(self.next_scores(new, cache), temperature, top_k).reshape(-1, 1)  # (B,) -> (B, 1)
                    ids = ops.cat([ids, new], 1)
        finally:
            self.train(was_training)
        return ids


def sample(
    scores: Tensor, temperature: float = 1.0, top_k: int | None = None, generator: random.Generator | None = None
) -> Tensor:
    """One token id per row of scores (B, V) -> (B,), drawn with probability softmax(scores / temperature).

    temperature: below 1 bolder, above 1 wilder, 0 always the likeliest. top_k: only the k likeliest.
    """
    if not temperature >= 0 or (top_k is not None and top_k < 1):
        got = f"temperature {temperature}, top_k {top_k}"
        raise ValueError(f"sample: got {got}; expected a temperature >= 0, and at least 1 token to choose from")
    if temperature == 0:
        return Tensor.make(scores.array.argmax(1))
    host = tempered(scores, temperature)
    order, rows = (-host).argsort(axis=1, kind="stable"), np.arange(len(host))[:, None]  # likeliest first
    ranked = ops.softmax(Tensor.make(host[rows, order]), 1).array  # (B, V)
    if top_k is not None:
        ranked[:, top_k:] = 0
    choice = random.choices(ranked, 1, False, generator)  # (B, 1)
    return Tensor.make(to_device(order[rows, choice][:, 0], device_of(scores.array)))


def tempered(scores: Tensor, temperature: float) -> np.ndarray:
    """(scores - the largest of their row) / temperature > 0, on the host: 0 for the likeliest, however cold it is."""
    host = to_host(scores.array).astype(np.float64)
    largest = host.max(1, keepdims=True)  # (B, V) -> (B, 1)
    if not np.isfinite(largest).all():
        got = largest[~np.isfinite(largest)][0]
        raise ValueError(f"sample: the largest score of a row is {got}, expected a number; has training diverged?")
    with np.errstate(over="ignore"):  # a tiny temperature
        return (host - largest) / min(temperature, sys.float_info.max)  # -inf / inf is NaN


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
        if self.width % self.heads or (self.rotary and self.width // self.heads % 2):
            even = " of an even size" if self.rotary else ""
            raise ValueError(f"GPTConfig: width {self.width} is not divisible into {self.heads} heads{even}")
        if not (self.rope_base > 0 and 0 <= self.dropout < 1):
            got = f"rope_base {self.rope_base}, dropout {self.dropout}"
            raise ValueError(f"GPTConfig: got {got}; rope_base must be > 0, dropout must be in [0, 1)")


class GPT(LanguageModel, GPTMethods):
    """Token ids (B, T) -> scores of the next token at every position (B, T, vocab_size)."""

    def __init__(self, config: GPTConfig):
        self.config = config
        self.token_embedding = Embedding(config.vocab_size, config.width)
        if not config.rotary:
            self.position_embedding = Embedding(config.context, config.width)
        self.dropout = Dropout(config.dropout)
        settings = config.width, config.heads, config.dropout, config.bias
        self.blocks = ModuleList(TransformerBlock(*settings) for _ in range(config.layers))
        self.norm = LayerNorm(config.width, bias=config.bias)
        self.head = Linear(config.width, config.vocab_size, bias=False)
        for layer in self.modules():
            if isinstance(layer, (Linear, Embedding)):
                start(layer.weight, random.normal(layer.weight.array.shape, std=0.02))
            if isinstance(layer, Linear) and layer.bias is not None:
                start(layer.bias, 0)
        # Each block adds twice to the residual stream; smaller last layers keep the sum of all 2 · layers at size 1
        for block in self.blocks:
            for layer in (block.attention.proj, block.mlp[2]):
                start(layer.weight, random.normal(layer.weight.array.shape, std=0.02 / math.sqrt(2 * config.layers)))
        if config.tied:
            self.head.weight = self.token_embedding.weight

    def forward(
        self, ids: Tensor, targets: Tensor | None = None, cache: Cache | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """(B, T) -> scores (B, T, V), and the mean cross-entropy against `targets` (B, T) if given.

        With a `cache`, `ids` holds only the tokens not seen before. ValueError if the tokens exceed the context.
        """
        if ids.ndim != 2:
            raise ValueError(f"GPT: expected token ids of shape (B, T), got {tuple(ids.shape)}; see unsqueeze(0)")
        T, seen = ids.array.shape[1], 0 if cache is None else len(cache)
        if cache is not None and cache.padding is not None:  # a position here is a number, not a distance
            raise ValueError("GPT: prompts of different lengths are not offered; give them one by one")
        if seen + T > self.config.context:
            raise ValueError(f"GPT: {seen + T} tokens exceed the context of {self.config.context}; crop the input")
        positions, angles = ids.make(of(ids.array).arange(seen, seen + T)), None
        x = self.token_embedding(ids)  # (B, T) -> (B, T, C)
        if self.config.rotary:
            angles = self.angles(positions)
        else:
            x = x + self.position_embedding(positions)  # (B, T, C) + (T, C)
        x = self.dropout(x)
        for block in self.blocks:
            x = block(x, cache, angles)
        scores = self.head(self.norm(x))  # (B, T, C) -> (B, T, V)
        if targets is None:
            return scores, None
        V = scores.array.shape[2]
        return scores, ops.cross_entropy(scores.reshape(-1, V), targets.reshape(-1))  # (B T, V), (B T,)
