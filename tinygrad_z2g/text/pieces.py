"""Cutting text into pieces before pairs are joined, so that no token reaches across words.

Each rule is a list of patterns, by the name that GGUF files know it by (`tokenizer.ggml.pre`). A pattern cuts what the
ones before it left: its matches become pieces, and so does what lies between them.
"""

from __future__ import annotations

import functools
import re
import sys
import unicodedata

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?[\p{L}]+| ?[\p{N}]+| ?[^\s\p{L}\p{N}]+|[\s]+(?![^\s])|[\s]+"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}]+|[\p{N}]{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|[\s]*[\r\n]+|[\s]+(?![^\s])|[\s]+"
)
RULES = {
    "gpt-2": [GPT2],  # Radford et al. 2019
    "smollm": [r"[\p{N}]", GPT2],  # every digit alone
    "llama-bpe": [LLAMA3],  # up to three digits together
}

# What Unicode calls white space. Python's \s has four control characters (\x1c to \x1f) more.
SPACES = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"


def cut(text: str, rule: str) -> list[str]:
    """The pieces of `text`, which joined give it back. KeyError for an unknown rule."""
    pieces = [text] if text else []
    for pattern in RULES[rule]:
        pieces = [part for piece in pieces for part in _cut(compiled(pattern), piece)]
    return pieces


def _cut(pattern: re.Pattern[str], text: str) -> list[str]:
    parts, end = [], 0
    for match in pattern.finditer(text):
        if match.start() > end:
            parts.append(text[end : match.start()])
        parts.append(match[0])
        end = match.end()
    return [*parts, text[end:]] if end < len(text) else parts


@functools.cache
def compiled(pattern: str) -> re.Pattern[str]:
    r"""The pattern for Python's `re`, which does not know \p{L} and \p{N}: they become ranges of characters."""
    for name, characters in ((r"\p{L}", ranges("L")), (r"\p{N}", ranges("N")), (r"\s", SPACES)):
        pattern = pattern.replace(name, characters)
    return re.compile(pattern)


@functools.cache
def ranges(kind: str) -> str:
    """All characters whose Unicode category begins with `kind`, L for letters or N for numbers, as ranges for `re`."""
    runs = (match.span() for match in re.finditer(f"{kind}+", kinds()))
    return "".join(f"{re.escape(chr(start))}-{re.escape(chr(end - 1))}" for start, end in runs)


@functools.cache
def kinds() -> str:
    """For each character, in order, the letter that its Unicode category begins with."""
    return "".join([unicodedata.category(chr(i))[0] for i in range(sys.maxunicode + 1)])
