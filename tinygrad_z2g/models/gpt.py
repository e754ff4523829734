"""A GPT: predicts the next token from those before it, and writes by feeding its predictions back.

The design of GPT-2 (Radford et al. 2019): learned positions, pre-norm blocks, GELU, and optionally one matrix for
reading tokens in and predicting them ("tied weights"). It knows nothing of gradients: there is no rule in this file,
nor need of one. Nor of characters: a token is a number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .. import creation, kernels
from ..backend import to_device, to_host
from ..engine import no_grad
from ..nn import Dropout, Embedding, LayerNorm, Linear, Module, ModuleList, TransformerBlock, init
from ..nn import functional as F
from ..nn.transformer import Cache
from ..random import Generator
from ..tensor import Tensor


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

    def __post_init__(self) -> None:
        for name in ("vocab_size", "context", "layers", "heads", "width"):
            if getattr(self, name) < 1:
                raise ValueError(f"GPTConfig: {name} must be at least 1, got {getattr(self, name)}")
        if self.width % self.heads:
            raise ValueError(
                f"GPTConfig: width {self.width} is not divisible into {self.heads} heads; choose a multiple"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"GPTConfig: dropout must be in [0, 1), got {self.dropout}")


class GPT(Module):
    """Token ids (B, T) -> scores of the next token at every position (B, T, vocab_size)."""

    def __init__(self, config: GPTConfig):
        self.config = config
        self.token_embedding = Embedding(config.vocab_size, config.width)
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

        With a `cache`, `ids` holds only the tokens not seen before; see `nn.CausalSelfAttention`. ValueError if the
        tokens exceed the context.
        """
        if ids.ndim != 2:
            raise ValueError(f"GPT: expected token ids of shape (B, T), got {tuple(ids.shape)}; see unsqueeze(0)")
        T = ids.array.shape[1]
        seen = next(iter(cache.values()))[0].array.shape[2] if cache else 0
        if seen + T > self.config.context:
            raise ValueError(f"GPT: {seen + T} tokens exceed the context of {self.config.context}; crop the input")
        positions = creation.arange(seen, seen + T, device=ids.device)
        x = self.token_embedding(ids) + self.position_embedding(positions)  # (B, T, C) + (T, C)
        x = self.dropout(x)
        for block in self.blocks:
            x = block(x, cache)
        scores = self.head(self.norm(x))  # (B, T, C) -> (B, T, V)
        if targets is None:
            return scores, None
        return scores, F.cross_entropy(scores.flatten(0, 1), targets.flatten())

    @no_grad()
    def generate(
        self, prompt: Tensor, max_new_tokens: int, temperature: float = 1.0, top_k: int | None = None,
        top_p: float | None = None, generator: Generator | None = None,
    ) -> Tensor:  # fmt: skip
        """The prompt (B, T) continued by `max_new_tokens` sampled tokens: (B, T + max_new_tokens).

        temperature: below 1 bolder, above 1 wilder, 0 always the likeliest. top_k: only the k likeliest. top_p: only
        the likeliest that together reach probability p (Holtzman et al. 2020). The model sees the last `context`
        tokens. ValueError for an empty prompt or a setting out of range.
        """
        if prompt.ndim != 2 or prompt.array.shape[1] == 0:
            raise ValueError(f"generate: expected a prompt of shape (B, T) with T >= 1, got {tuple(prompt.shape)}")
        if max_new_tokens < 0:
            raise ValueError(f"generate: max_new_tokens must be >= 0, got {max_new_tokens}")
        was_training = self.training
        self.eval()
        try:
            ids = to_host(prompt.array).tolist()
            if not all(0 <= token < self.config.vocab_size for row in ids for token in row):
                raise IndexError(f"generate: prompt ids must be in the range 0 to {self.config.vocab_size - 1}")
            cache: Cache = {}
            window = ids
            for _ in range(max_new_tokens):
                # Keys know their position; once the window slides, every position changes and the cache is void
                if not cache or len(ids[0]) > self.config.context:
                    cache, window = {}, [row[-self.config.context :] for row in ids]
                scores, _ = self(creation.tensor(window, dtype="int64", device=prompt.device), cache=cache)
                new = sample(scores[:, -1], temperature, top_k, top_p, generator).tolist()  # (B,)
                for row, token in zip(ids, new, strict=True):
                    row.append(token)
                window = [[token] for token in new]
            return creation.tensor(ids, dtype="int64", device=prompt.device)
        finally:
            self.train(was_training)


def sample(
    scores: Tensor,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """One token id per row of scores (B, V) -> (B,). The settings are those of `GPT.generate`."""
    if not temperature >= 0:
        raise ValueError(f"sample: temperature must be >= 0, got {temperature}")
    if top_k is not None and top_k < 1:
        raise ValueError(f"sample: top_k must be at least 1, got {top_k}")
    if top_p is not None and not 0 <= top_p <= 1:
        raise ValueError(f"sample: top_p must be between 0 and 1, got {top_p}")
    if temperature == 0:
        return scores.argmax(1)
    with np.errstate(over="ignore"):  # a tiny temperature
        host = to_host(scores.array).astype(np.float64) / temperature
    order = (-host).argsort(axis=1, kind="stable")  # likeliest first
    ranked = kernels.softmax(np.take_along_axis(host, order, axis=1), 1)  # (B, V)
    if top_k is not None:
        ranked[:, top_k:] = 0
    if top_p is not None:
        before = ranked.cumsum(axis=1) - ranked  # probability of all likelier tokens
        ranked[:, 1:][before[:, 1:] >= top_p] = 0  # the likeliest always stays
    choice = creation.multinomial(Tensor.make(ranked), 1, generator=generator).array  # (B, 1)
    return Tensor.make(to_device(np.take_along_axis(order, choice, axis=1)[:, 0], scores.device))
