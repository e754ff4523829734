"""Byte pair encoding: tokens learned by joining, again and again, the two that stand together most often.

Everything begins as UTF-8 bytes, so any text can be written, and ends as words. (Sennrich et al. 2016,
arXiv:1508.07909; on bytes: Radford et al. 2019.) It knows nothing of models; a token is a number.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from ..creation import tensor
from ..tensor import Tensor
from .characters import of_id
from .pieces import RULES, cut

# Files spell a token with one visible character for each byte: itself if it is one, else the next one after 255
_VISIBLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
_HIDDEN = [byte for byte in range(256) if byte not in _VISIBLE]
SPELLING = {byte: chr(byte) for byte in _VISIBLE} | {byte: chr(256 + i) for i, byte in enumerate(_HIDDEN)}
BYTES = {character: byte for byte, character in SPELLING.items()}


class BPE:
    """Text as numbers of tokens, by a vocabulary and the pairs that were joined, the first learned first.

    tokens, merges and `rule` (see `pieces.py`) are what model files hold, or what `train` found. `special` are tokens
    that stand for no text, such as `<|im_end|>`."""

    def __init__(self, tokens: Sequence[str], merges: Sequence[tuple[str, str]], rule: str = "gpt-2",
                 special: Iterable[str] = ()):  # fmt: skip
        if rule not in RULES:
            raise ValueError(f"BPE: pre-tokenisation {rule!r} is not offered; expected one of {', '.join(RULES)}")
        self.tokens, self.merges, self.rule, self.special = list(tokens), list(merges), rule, frozenset(special)
        self.ids = {token: i for i, token in enumerate(self.tokens)}
        self._rank = {pair: i for i, pair in enumerate(self.merges)}
        used: set[str] = set()
        self._in_order = True  # no token takes part in a merge before the one that makes it
        for pair in self.merges:
            self._in_order &= "".join(pair) not in used
            used.update(pair)
        self._special = re.compile("|".join(map(re.escape, sorted(self.special, key=len, reverse=True))) or "(?!)")
        self._missing = bytes(byte for byte, symbol in SPELLING.items() if symbol not in self.ids)
        self._piece = functools.lru_cache(2**16)(self._piece)  # type: ignore[method-assign]  # words come again
        unknown = [t for pair in self.merges for t in (*pair, "".join(pair)) if t not in self.ids]
        if unknown or len(self.ids) < len(self.tokens) or not self.special <= self.ids.keys():
            raise ValueError(f"BPE: tokens and merges do not fit each other ({len(self.tokens)} tokens, {unknown[:1]})")

    @classmethod
    def train(cls, text: str, size: int, rule: str = "gpt-2") -> BPE:
        """A vocabulary of up to `size` tokens: the 256 bytes, then the commonest pair, joined, and so on.

        Of equally common pairs the one of the older tokens is joined. ValueError for a size below 256.
        """
        if size < 256:
            raise ValueError(f"BPE.train: got size {size}, expected at least 256, one for each byte")
        words = [([*word.encode()], n) for word, n in Counter(cut(text, rule)).items()]
        counts: Counter[tuple[int, int]] = Counter()  # how often a pair stands in the text
        places: dict[tuple[int, int], set[int]] = defaultdict(set)  # and in which words
        for i, (word, n) in enumerate(words):
            for pair in itertools.pairwise(word):
                counts[pair] += n
                places[pair].add(i)
        tokens, merges = [SPELLING[byte] for byte in range(256)], []  # until the end, a token is its number
        while len(tokens) < size and (most := max(counts.values(), default=0)):
            best = min(pair for pair, n in counts.items() if n == most)
            for i in places.pop(best):
                word, n = words[i]
                counts.subtract({pair: n * k for pair, k in Counter(itertools.pairwise(word)).items()})
                word[:] = joined(word, best, len(tokens))
                for pair in itertools.pairwise(word):
                    counts[pair] += n
                    places[pair].add(i)
            merges.append((tokens[best[0]], tokens[best[1]]))
            tokens.append("".join(merges[-1]))
        return cls(tokens, merges, rule)

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, text: str, special: bool = False) -> Tensor:
        """The ids of the tokens, int64 (n,), on the CPU. With `special`, such tokens in the text count as themselves;
        leave it off for what others typed. ValueError for a byte that the vocabulary lacks."""
        data, end = text.encode(), 0
        ids: list[int] = []
        if len(data.translate(None, self._missing)) < len(data):
            lacking = min(set(data) & set(self._missing))
            raise ValueError(f"encode: no token stands for the byte {lacking:#04x} of the text")
        for match in self._special.finditer(text) if special else ():
            ids, end = [*ids, *self._plain(text[end : match.start()]), self.ids[match[0]]], match.end()
        return tensor(ids + self._plain(text[end:]), dtype="int64", device="cpu")

    def _plain(self, text: str) -> list[int]:
        """The ids of a text without special tokens."""
        return [i for piece in cut(text, self.rule) for i in self._piece(piece)]

    def _piece(self, piece: str) -> list[int]:
        """The tokens of one piece: its bytes, of which the pair that was learned first is joined, until none is left.

        From the left, one place at a time: all at once is the same where no token was used before it was made.
        """
        word = [SPELLING[byte] for byte in piece.encode()]
        if self.rule == "llama-bpe" and "".join(word) in self.ids:
            return [self.ids["".join(word)]]  # Llama 3's pieces that are tokens need no joining
        while pairs := [pair for pair in itertools.pairwise(word) if pair in self._rank]:
            best = min(pairs, key=self._rank.__getitem__)
            word = joined(word, best, "".join(best), once=not self._in_order)
        return [self.ids[symbol] for symbol in word]

    def decode(self, ids: Tensor | Iterable[int]) -> str:
        """The text of the tokens, special ones as they are spelled. Bytes that are no UTF-8 become the sign \ufffd."""
        return b"".join(map(self.bytes_of, ids.tolist() if isinstance(ids, Tensor) else ids)).decode(errors="replace")

    def bytes_of(self, id: int) -> bytes:
        """The bytes of one token: of a letter outside ASCII perhaps only a part."""
        spelled = of_id(self.tokens, id)
        return spelled.encode() if spelled in self.special else bytes(BYTES[character] for character in spelled)


def joined(word: list, pair: tuple, new: Any, once: bool = False) -> list:
    """The word with `new` in place of each `pair`, from the left, or of the first alone."""
    out: list = []
    for i, symbol in enumerate(word):
        out.append(symbol)
        if len(out) > 1 and (out[-2], out[-1]) == pair:
            out[-2:] = [new]
            if once:
                return out + word[i + 1 :]
    return out
