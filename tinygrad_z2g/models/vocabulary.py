"""Tokenizers from model files: the fields of a GGUF file, or tokenizer.json."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..text import BPE, WordPiece
from ..text.pieces import LLAMA3

NORMAL = 1  # GGUF's type of a token that stands for text


def from_gguf(fields: dict[str, Any]) -> BPE | WordPiece | None:
    """The tokenizer of a GGUF file, or None if it has none. ValueError for a kind that is not offered."""
    kind = fields.get("tokenizer.ggml.model")
    if kind is None:
        return None
    tokens = fields["tokenizer.ggml.tokens"]
    types = fields.get("tokenizer.ggml.token_type", [NORMAL] * len(tokens))
    special = [token for token, type in zip(tokens, types, strict=True) if type != NORMAL]
    if kind == "gpt2":
        merges = [tuple(merge.split(" ", 1)) for merge in fields["tokenizer.ggml.merges"]]
        return bpe(tokens, merges, fields.get("tokenizer.ggml.pre", "gpt-2"), special)
    if kind == "bert":  # here a word begins with ▁, and what goes on with one has no mark
        marked = [token if token in special else token[1:] if token[0] == "▁" else f"##{token}" for token in tokens]
        return WordPiece(marked)
    raise ValueError(f"a tokenizer of kind '{kind}' is not offered, only gpt2 (byte pairs) and bert (WordPiece)")


def from_json(path: Path) -> BPE | WordPiece | None:
    """The tokenizer of a tokenizer.json, None if there is no such file. ValueError for a kind that is not offered."""
    if not path.exists():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    model, added = found["model"], found.get("added_tokens", [])
    ids = dict(model["vocab"]) | {token["content"]: token["id"] for token in added}
    tokens = sorted(ids, key=ids.__getitem__)
    if [ids[token] for token in tokens] != list(range(len(tokens))):
        raise ValueError("the ids of its tokens are not 0, 1, 2, ...")
    if model["type"] == "WordPiece":
        return WordPiece(tokens, lower=(found.get("normalizer") or {}).get("lowercase", True))
    if model["type"] != "BPE" or found.get("normalizer"):
        raise ValueError(f"a tokenizer of kind '{model['type']}' is not offered, only BPE on bytes and WordPiece")
    pairs = (merge.split(" ", 1) if isinstance(merge, str) else merge for merge in model["merges"])
    merges, special = [(first, second) for first, second in pairs], [token["content"] for token in added]
    return bpe(tokens, merges, _rule(found["pre_tokenizer"]), special)


def _rule(pre: dict[str, Any]) -> str:
    """The name in `text/pieces.py` of what tokenizer.json spells out."""
    steps = pre.get("pretokenizers", [pre])
    kinds = [step["type"] for step in steps]
    patterns = [step["pattern"].get("Regex") for step in steps if step["type"] == "Split"]
    plain = not any(step.get("add_prefix_space") for step in steps)
    if plain and kinds == ["ByteLevel"] and steps[0].get("use_regex", True):
        return "gpt-2"
    if plain and kinds == ["Digits", "ByteLevel"] and steps[0].get("individual_digits"):
        return "smollm"
    if plain and kinds == ["Split", "ByteLevel"] and patterns == [spelled(LLAMA3)]:
        return "llama-bpe"
    raise ValueError(f"a pre-tokenizer of {', '.join(kinds)} as it is set here is not offered")


def spelled(pattern: str) -> str:
    r"""A pattern of `text/pieces.py` as others write it: \\p{L} and \\s without brackets where they stand alone."""
    for name in (r"\p{L}", r"\p{N}", r"\s"):
        pattern = pattern.replace(f"[{name}]", name)
    return pattern.replace(r"(?![^\s])", r"(?!\S)")


def bpe(tokens: Sequence[str], merges: Sequence[tuple[str, str]], rule: str, special: Iterable[str]) -> BPE:
    """A tokenizer of byte pairs, by the package `tokenizers` where that is installed, which is quicker."""
    try:
        from ..text.fast import FastBPE

        return FastBPE(tokens, merges, rule, special)
    except ImportError:
        return BPE(tokens, merges, rule, special)
