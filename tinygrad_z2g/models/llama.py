"""Llama: the design of today's open language models, of which SmolLM2 is a small one. (Touvron et al. 2023)

What differs from GPT-2: RMSNorm, positions that turn queries and keys (rotary), fewer heads of keys than of queries,
and a gate in the feed-forward part (SwiGLU, Shazeer 2020, arXiv:2002.05202); no biases. As in `gpt.py`, there is no
rule in this file. It knows nothing of text: a token is a number.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .. import creation
from ..core.gpt import Cache
from ..nn import Embedding, Linear, Module, ModuleList, RMSNorm
from ..nn import functional as F
from ..nn.attention import merge_heads, split_heads
from ..nn.cache import causal_attention
from ..nn.quantized import QuantizedEmbedding, QuantizedLinear
from ..tensor import Tensor
from . import files, vocabulary
from .generation import LanguageModel, of_few_rows


@dataclass
class LlamaConfig:
    """Sizes of a Llama. ValueError for impossible ones."""

    vocab_size: int
    context: int = 2048  # how many tokens it was trained to see
    layers: int = 4
    heads: int = 4
    kv_heads: int = 4  # of keys and values; each serves heads / kv_heads neighbouring heads of queries
    width: int = 128  # numbers per token inside
    hidden: int = 384  # and within the feed-forward part
    eps: float = 1e-5
    rope_base: float = 10000.0  # the larger, the further the slowest pair still tells places apart
    interleaved: bool = False  # which numbers are a pair; see `F.rotary_embedding`
    tied: bool = True  # the token table also serves as the output layer

    def __post_init__(self) -> None:
        for name in ("vocab_size", "context", "layers", "heads", "kv_heads", "width", "hidden"):
            if getattr(self, name) < 1:
                raise ValueError(f"LlamaConfig: {name} must be at least 1, got {getattr(self, name)}")
        if self.width % self.heads or self.width // self.heads % 2:
            raise ValueError(f"LlamaConfig: width {self.width} does not give {self.heads} heads of an even size")
        if self.heads % self.kv_heads:
            raise ValueError(f"LlamaConfig: {self.heads} heads are no multiple of kv_heads {self.kv_heads}")


class LlamaAttention(Module):
    """Causal attention with rotary positions; several heads of queries share one of keys and values."""

    def __init__(self, config: LlamaConfig, linear: Callable[..., Module]):
        C, size = config.width, config.width // config.heads
        self.config = config
        self.q = linear(C, C, bias=False)
        self.k = linear(C, config.kv_heads * size, bias=False)
        self.v = linear(C, config.kv_heads * size, bias=False)
        self.out = linear(C, C, bias=False)

    def forward(self, x: Tensor, angles: tuple[Tensor, Tensor], cache: Cache | None = None) -> Tensor:
        """(B, T, C) -> (B, T, C)"""
        heads = (self.config.heads, self.config.kv_heads, self.config.kv_heads)
        q, k, v = (split_heads(f(x), n) for f, n in zip((self.q, self.k, self.v), heads, strict=True))  # (B, n, T, hs)
        q, k = (F.rotary_embedding(part, *angles, self.config.interleaved) for part in (q, k))
        return self.out(merge_heads(causal_attention(q, k, v, cache, self)))


class SwiGLU(Module):
    """down(silu(gate(x)) · up(x)): one product decides how much of the other passes."""

    def __init__(self, config: LlamaConfig, linear: Callable[..., Module]):
        self.gate = linear(config.width, config.hidden, bias=False)
        self.up = linear(config.width, config.hidden, bias=False)
        self.down = linear(config.hidden, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)"""
        return self.down(F.silu(self.gate(x)) * self.up(x))


class LlamaBlock(Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, config: LlamaConfig, linear: Callable[..., Module]):
        self.norm1 = RMSNorm(config.width, eps=config.eps)
        self.attention = LlamaAttention(config, linear)
        self.norm2 = RMSNorm(config.width, eps=config.eps)
        self.mlp = SwiGLU(config, linear)

    def forward(self, x: Tensor, angles: tuple[Tensor, Tensor], cache: Cache | None = None) -> Tensor:
        """(B, T, C) -> (B, T, C)"""
        x = x + self.attention(self.norm1(x), angles, cache)
        return x + self.mlp(self.norm2(x))


class Llama(LanguageModel):
    """Token ids (B, T) -> scores of the next token at every position (B, T, vocab_size).

    `linear` and `embedding` make its layers; those of `nn`, unless a file has others. `info` tells where the weights
    came from.
    """

    info = "new weights"

    def __init__(
        self,
        config: LlamaConfig,
        linear: Callable[..., Module] = Linear,
        embedding: Callable[..., Module] = Embedding,
    ):
        self.config = config
        self.embedding = embedding(config.vocab_size, config.width)
        self.blocks = ModuleList(LlamaBlock(config, linear) for _ in range(config.layers))
        self.norm = RMSNorm(config.width, eps=config.eps)
        self.head = linear(config.width, config.vocab_size, bias=False)
        if config.tied:
            self.tie()

    @staticmethod
    def load(path: str | os.PathLike[str], dequantize: bool = False) -> tuple[Llama, Any]:
        """Model and tokenizer from a GGUF file, or a folder with config.json, model.safetensors and tokenizer.json.

        Blocks of four and eight bits stay as they are, unless `dequantize`; other blocks become float32, and `info`
        says so. A file without a tokenizer gives None. ValueError says what is wrong with a file.
        """
        path, found, stored = files.opened(path)
        try:
            folder = path.is_dir()
            config = _from_config(found) if folder else _from_gguf(found)
            name_of = files.named(*(_FOLDER if folder else _GGUF))
            table = stored.get(name_of("embedding") + ".weight")
            if table is None or table.shape[1:] != (config.width,) or 8 * config.layers > len(stored):
                raise ValueError(f"its tensors are not those of {config.layers} blocks of width {config.width}")
            config.vocab_size = table.shape[0]
            head = name_of("head") + ".weight"
            if not folder:
                config.tied = head not in stored
            elif config.tied:
                stored.pop(head, None)  # some files hold it twice
            model = Llama(config, files.Blank, files.Blank.table)
            if config.tied:
                model.head = Module()  # until there is a table to share
            told = files.fill(model, stored, name_of, not dequantize)
            if config.tied:
                model.tie()
            model.info = f"{path}: {told}"
            return model, vocabulary.from_json(path / "tokenizer.json") if folder else vocabulary.from_gguf(found)
        except files.MISTAKES as error:
            files.fail(path, error)

    def tie(self) -> None:
        """Let the token table be the output layer too."""
        table = self.embedding
        if isinstance(table, QuantizedEmbedding):
            self.head = QuantizedLinear(table.quants, table.scales, table.offsets)
        elif isinstance(table, Embedding):
            self.head = Linear.of(table.weight)

    def dequantize(self) -> Llama:
        """Turn all layers in blocks into layers of float32, which can learn. Returns self."""
        for name, module in list(self.named_modules()):
            if hasattr(module, "dequantize") and module is not self and not (self.config.tied and module is self.head):
                self.set_submodule(name, module.dequantize())
        if self.config.tied:
            self.tie()
        return self

    def hidden(self, ids: Tensor, cache: Cache | None = None) -> Tensor:
        """What the last block made of each token, normalised: (B, T) -> (B, T, C). `cache` as in `GPT`."""
        if ids.ndim != 2:
            raise ValueError(f"Llama: expected token ids of shape (B, T), got {tuple(ids.shape)}; see unsqueeze(0)")
        seen, T = 0 if cache is None else len(cache), ids.array.shape[1]
        if seen + T > self.config.context:
            raise ValueError(f"Llama: {seen + T} tokens exceed the context of {self.config.context}; crop the input")
        places = creation.arange(seen, seen + T, device=ids.device)
        angles = F.rotary_angles(places, self.config.width // self.config.heads, self.config.rope_base)
        x = self.embedding(ids)  # (B, T) -> (B, T, C)
        for block in self.blocks:
            x = block(x, angles, cache)
        return self.norm(x)

    def forward(
        self, ids: Tensor, targets: Tensor | None = None, cache: Cache | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """(B, T) -> scores (B, T, V), and the mean cross-entropy against `targets` (B, T) if given."""
        scores = self.head(self.hidden(ids, cache))  # (B, T, C) -> (B, T, V)
        if targets is None:
            return scores, None
        return scores, F.cross_entropy(scores.flatten(0, 1), targets.flatten())

    @of_few_rows
    def next_scores(self, ids: Tensor, cache: Cache) -> Tensor:
        """The scores after the last token: (B, T) -> (B, V); a tenth of a model's work is in those of the others."""
        return self.head(self.hidden(ids, cache)[:, -1])


# --- The names and sizes in files --------------------------------------------------------------------------------

_GGUF = {
    "embedding": "token_embd", "norm": "output_norm", "head": "output", "norm1": "attn_norm", "norm2": "ffn_norm",
    "attention.q": "attn_q", "attention.k": "attn_k", "attention.v": "attn_v", "attention.out": "attn_output",
    "mlp.gate": "ffn_gate", "mlp.up": "ffn_up", "mlp.down": "ffn_down",
}, "blk.{}."  # fmt: skip
_FOLDER = {
    "embedding": "model.embed_tokens", "norm": "model.norm", "head": "lm_head", "norm1": "input_layernorm",
    "norm2": "post_attention_layernorm", "attention.q": "self_attn.q_proj", "attention.k": "self_attn.k_proj",
    "attention.v": "self_attn.v_proj", "attention.out": "self_attn.o_proj", "mlp.gate": "mlp.gate_proj",
    "mlp.up": "mlp.up_proj", "mlp.down": "mlp.down_proj",
}, "model.layers.{}."  # fmt: skip


def _from_gguf(fields: dict[str, Any]) -> LlamaConfig:
    """The sizes in a GGUF file."""
    if fields["general.architecture"] != "llama":
        raise ValueError(f"architecture '{fields['general.architecture']}' is not offered, only llama")
    of = {name.removeprefix("llama."): value for name, value in fields.items() if name.startswith("llama.")}
    heads, width = of["attention.head_count"], of["embedding_length"]
    size = width // max(heads, 1)
    _refuse_others(of.get("attention.key_length", size), of.get("rope.dimension_count", size), size)
    if of.get("rope.scaling.type", "none") != "none":
        raise ValueError(f"rotary positions scaled by '{of['rope.scaling.type']}' are not offered")
    return LlamaConfig(
        1, of["context_length"], of["block_count"], heads, of.get("attention.head_count_kv", heads), width,
        of["feed_forward_length"], of["attention.layer_norm_rms_epsilon"], of.get("rope.freq_base", 10000.0),
        interleaved=True,
    )  # fmt: skip


def _from_config(config: dict[str, Any]) -> LlamaConfig:
    """The sizes in a config.json."""
    if config["model_type"] != "llama":
        raise ValueError(f"model_type '{config['model_type']}' is not offered, only llama")
    heads, width, rope = config["num_attention_heads"], config["hidden_size"], config.get("rope_parameters") or {}
    size = width // max(heads, 1)
    _refuse_others(config.get("head_dim") or size, size, size)
    scaling = config.get("rope_scaling") or rope
    if scaling.get("rope_type", scaling.get("type", "default")) != "default":
        raise ValueError(f"rotary positions scaled by {scaling} are not offered")
    if config.get("attention_bias") or config.get("mlp_bias") or config.get("hidden_act", "silu") != "silu":
        raise ValueError("biases, and activations other than silu, are not offered")
    return LlamaConfig(
        config["vocab_size"], config["max_position_embeddings"], config["num_hidden_layers"], heads,
        config.get("num_key_value_heads") or heads, width, config["intermediate_size"], config["rms_norm_eps"],
        rope.get("rope_theta") or config.get("rope_theta", 10000.0), tied=config.get("tie_word_embeddings", False),
    )  # fmt: skip


def _refuse_others(head: int, turned: int, size: int) -> None:
    if not head == turned == size:
        raise ValueError(f"heads of {head} numbers, {turned} of them turned, are not offered; expected {size}")
