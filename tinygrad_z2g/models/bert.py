"""BERT: an encoder, which reads a text from both sides and gives each token a vector. (Devlin et al. 2018)

What differs from the GPT: no mask but for padding, so that every token sees all others; the norm stands after the sum
("post-norm"); and it does not write. The mean of its vectors stands for the text: sentences that mean the same point
the same way. (Reimers & Gurevych 2019, arXiv:1908.10084; all-MiniLM-L6-v2 is such a model.)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .. import creation
from ..core.modes import no_grad
from ..nn import Embedding, LayerNorm, Linear, Module, ModuleList
from ..nn import functional as F
from ..nn.attention import merge_heads, split_heads
from ..tensor import Tensor
from . import files, vocabulary


@dataclass
class BertConfig:
    """Sizes of a BERT. ValueError for impossible ones."""

    vocab_size: int
    context: int = 512
    layers: int = 6
    heads: int = 12
    width: int = 384
    hidden: int = 1536
    eps: float = 1e-12
    types: int = 2  # of segments: a first text and a second

    def __post_init__(self) -> None:
        for name in ("vocab_size", "context", "layers", "heads", "width", "hidden", "types"):
            if getattr(self, name) < 1:
                raise ValueError(f"BertConfig: {name} must be at least 1, got {getattr(self, name)}")
        if self.width % self.heads:
            raise ValueError(f"BertConfig: width {self.width} is not divisible into {self.heads} heads")


class BertBlock(Module):
    """norm(x + attention(x)), then norm(x + mlp(x))."""

    def __init__(self, config: BertConfig, linear: Callable[..., Module]):
        C = config.width
        self.heads = config.heads
        self.q, self.k, self.v, self.out = (linear(C, C) for _ in range(4))
        self.norm1 = LayerNorm(C, eps=config.eps)
        self.up, self.down = linear(C, config.hidden), linear(config.hidden, C)
        self.norm2 = LayerNorm(C, eps=config.eps)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(B, T, C) -> (B, T, C)"""
        q, k, v = (split_heads(f(x), self.heads) for f in (self.q, self.k, self.v))  # (B, nh, T, hs)
        x = self.norm1(x + self.out(merge_heads(F.scaled_dot_product_attention(q, k, v, mask))))
        return self.norm2(x + self.down(F.gelu(self.up(x))))


class Bert(Module):
    """Token ids (B, T) -> a vector for each (B, T, width)."""

    info = "new weights"

    def __init__(
        self,
        config: BertConfig,
        linear: Callable[..., Module] = Linear,
        embedding: Callable[..., Module] = Embedding,
    ):
        self.config = config
        self.token_embedding = embedding(config.vocab_size, config.width)
        self.position_embedding = embedding(config.context, config.width)
        self.type_embedding = embedding(config.types, config.width)
        self.norm = LayerNorm(config.width, eps=config.eps)
        self.blocks = ModuleList(BertBlock(config, linear) for _ in range(config.layers))

    @staticmethod
    def load(path: str | os.PathLike[str]) -> tuple[Bert, Any]:
        """Model and tokenizer from a GGUF file, or a folder with config.json, model.safetensors and tokenizer.json.

        ValueError says what is wrong with a file.
        """
        path, found, stored = files.opened(path)
        try:
            folder = path.is_dir()
            config = _from_config(found) if folder else _from_gguf(found)
            name_of = files.named(*(_FOLDER if folder else _GGUF))
            stored = {name.removeprefix("bert."): tensor for name, tensor in stored.items()}
            for unused in ("embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias"):
                stored.pop(unused, None)  # places, and a layer for another task
            config.vocab_size, config.types = (
                stored[name_of(table) + ".weight"].shape[0] for table in ("token_embedding", "type_embedding")
            )
            if stored[name_of("norm") + ".weight"].shape != (config.width,) or 16 * config.layers > len(stored):
                raise ValueError(f"its tensors are not those of {config.layers} blocks of width {config.width}")
            model = Bert(config, files.Blank, files.Blank.table)
            model.info = f"{path}: {files.fill(model, stored, name_of, quantized_too=True)}"
            return model, vocabulary.from_json(path / "tokenizer.json") if folder else vocabulary.from_gguf(found)
        except files.MISTAKES as error:
            files.fail(path, error)

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, T) -> (B, T, C). mask (B, T): True where there is a token, False where padding fills a row up."""
        if ids.ndim != 2 or ids.array.shape[1] > self.config.context:
            raise ValueError(
                f"Bert: expected ids (B, T) with T up to {self.config.context}, got {tuple(ids.shape)}; crop the input"
            )
        T = ids.array.shape[1]
        x = self.token_embedding(ids) + self.position_embedding(creation.arange(T, device=ids.device))  # (B, T, C)
        x = self.norm(x + self.type_embedding(creation.zeros(1, dtype="int64", device=ids.device)))
        mask = None if mask is None else mask.unsqueeze(1).unsqueeze(1)  # (B, T) -> (B, 1, 1, T)
        for block in self.blocks:
            x = block(x, mask)
        return x

    @no_grad()
    def sentence_vectors(self, texts: Sequence[Tensor]) -> Tensor:
        """A vector of length 1 for each text, the mean of those of its tokens: n tensors of ids -> (n, C).

        The product of two is their cosine, 1 for the same meaning. Tokens beyond the context are left out.
        """
        rows = [text.tolist()[: self.config.context] for text in texts]
        if not rows or not all(rows):
            raise ValueError("sentence_vectors: expected at least one text, and at least one token in each")
        T, device = max(map(len, rows)), next(self.parameters()).device
        ids = creation.tensor([row + [0] * (T - len(row)) for row in rows], dtype="int64", device=device)
        mask = creation.tensor([[1] * len(row) + [0] * (T - len(row)) for row in rows], device=device).bool()
        x = self(ids, mask).masked_fill(~mask.unsqueeze(2), 0.0).sum(1)  # (B, T, C) -> (B, C)
        return F.normalize(x, dim=1)  # which takes care of the number of tokens


# --- The names and sizes in files --------------------------------------------------------------------------------

_GGUF = {
    "token_embedding": "token_embd", "position_embedding": "position_embd", "type_embedding": "token_types",
    "norm": "token_embd_norm", "q": "attn_q", "k": "attn_k", "v": "attn_v", "out": "attn_output",
    "norm1": "attn_output_norm", "up": "ffn_up", "down": "ffn_down", "norm2": "layer_output_norm",
}, "blk.{}."  # fmt: skip
_FOLDER = {
    "token_embedding": "embeddings.word_embeddings", "position_embedding": "embeddings.position_embeddings",
    "type_embedding": "embeddings.token_type_embeddings", "norm": "embeddings.LayerNorm",
    "q": "attention.self.query", "k": "attention.self.key", "v": "attention.self.value",
    "out": "attention.output.dense", "norm1": "attention.output.LayerNorm", "up": "intermediate.dense",
    "down": "output.dense", "norm2": "output.LayerNorm",
}, "encoder.layer.{}."  # fmt: skip


def _from_gguf(fields: dict[str, Any]) -> BertConfig:
    """The sizes in a GGUF file."""
    if fields["general.architecture"] != "bert":
        raise ValueError(f"architecture '{fields['general.architecture']}' is not offered, only bert")
    names = ("context_length", "block_count", "attention.head_count", "embedding_length", "feed_forward_length",
             "attention.layer_norm_epsilon")  # fmt: skip
    return BertConfig(1, *(fields[f"bert.{name}"] for name in names))


def _from_config(config: dict[str, Any]) -> BertConfig:
    """The sizes in a config.json."""
    if config["model_type"] != "bert":
        raise ValueError(f"model_type '{config['model_type']}' is not offered, only bert")
    if config.get("hidden_act", "gelu") != "gelu" or config.get("position_embedding_type", "absolute") != "absolute":
        raise ValueError("activations other than gelu, and positions other than absolute, are not offered")
    names = ("max_position_embeddings", "num_hidden_layers", "num_attention_heads", "hidden_size",
             "intermediate_size", "layer_norm_eps")  # fmt: skip
    return BertConfig(1, *(config[name] for name in names))
