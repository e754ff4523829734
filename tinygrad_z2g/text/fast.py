"""The same tokens by the package `tokenizers`, which is written in Rust: 20 times as fast, harder to read.

It knows nothing of bytes without a token, or of special ones: `BPE` has seen to both.
"""

from __future__ import annotations

from typing import Any

from .bpe import BPE
from .pieces import LLAMA3


class FastBPE(BPE):
    """A `BPE` whose pairs are joined by the package `tokenizers`. ImportError where that is not installed."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        import tokenizers
        from tokenizers import pre_tokenizers as pre

        split = tokenizers.Regex(LLAMA3.replace(r"[\p{L}]", r"\p{L}").replace(r"[\p{N}]", r"\p{N}"))
        before: dict[str, list[Any]] = {
            "gpt-2": [],
            "smollm": [pre.Digits(individual_digits=True)],
            "llama-bpe": [pre.Split(split, "isolated")],
        }
        bytewise = pre.ByteLevel(add_prefix_space=False, use_regex=self.rule != "llama-bpe")
        model = tokenizers.models.BPE(self.ids, self.merges, ignore_merges=self.rule == "llama-bpe")
        self._fast = tokenizers.Tokenizer(model)
        self._fast.pre_tokenizer = pre.Sequence([*before[self.rule], bytewise])

    def _plain(self, text: str) -> list[int]:
        """See `BPE`."""
        return self._fast.encode(text).ids
