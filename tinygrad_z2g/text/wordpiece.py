"""WordPiece: words cut into the longest pieces that a vocabulary has, as BERT reads them.

(Schuster & Nakajima 2012; the rules are those of Devlin et al. 2018, arXiv:1810.04805, for lower case.) It knows
nothing of models; a token is a number.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence

from ..creation import tensor
from ..tensor import Tensor
from .characters import of_id

LONGEST = 100  # characters of a word; a longer one counts as unknown


class WordPiece:
    """Text as numbers of tokens. tokens: the vocabulary, in which `##` begins a piece that goes on with a word, and
    which has [UNK], [CLS], [SEP] and [PAD]."""

    def __init__(self, tokens: Sequence[str], lower: bool = True):
        self.tokens, self.lower = list(tokens), lower
        self.ids = {token: i for i, token in enumerate(self.tokens)}
        missing = [name for name in ("[UNK]", "[CLS]", "[SEP]", "[PAD]") if name not in self.ids]
        if missing:
            raise ValueError(f"WordPiece: the vocabulary lacks {', '.join(missing)}")

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, text: str) -> Tensor:
        """The ids of [CLS], the pieces of all words, and [SEP]: int64 (n,), on the CPU."""
        pieces = [self.ids[piece] for word in _words(text, self.lower) for piece in self._pieces(word)]
        return tensor([self.ids["[CLS]"], *pieces, self.ids["[SEP]"]], dtype="int64", device="cpu")

    def decode(self, ids: Tensor | Iterable[int]) -> str:
        """The tokens of a sequence of ids, those joined that go on with a word."""
        tokens = [of_id(self.tokens, i) for i in (ids.tolist() if isinstance(ids, Tensor) else ids)]
        return " ".join(tokens).replace(" ##", "")

    def _pieces(self, word: str) -> list[str]:
        """The longest piece that the word begins with, then the longest of the rest. A rest that begins with none makes
        the whole word unknown."""
        found: list[str] = []
        start = 0
        while start < len(word) <= LONGEST:
            mark = "##" if start else ""
            ends = (end for end in range(len(word), start, -1) if mark + word[start:end] in self.ids)
            end = next(ends, None)
            if end is None:
                return ["[UNK]"]
            found.append(mark + word[start:end])
            start = end
        return found if len(word) <= LONGEST else ["[UNK]"]


def _words(text: str, lower: bool) -> Iterator[str]:
    """The words, each sign of punctuation and each Chinese character a word of its own; if `lower`, without capitals
    and accents."""
    kept = (c for c in text if c in "\t\n\r" or (c not in "\0\ufffd" and unicodedata.category(c)[0] != "C"))
    clean = "".join(" " if c.isspace() else f" {c} " if _chinese(c) else c for c in kept)
    if lower:
        clean = "".join(c for c in unicodedata.normalize("NFD", clean) if unicodedata.category(c) != "Mn").lower()
    for run in clean.split():
        yield from "".join(f" {c} " if _punctuation(c) else c for c in run).split()


def _punctuation(character: str) -> bool:
    """Unicode's punctuation, and all of ASCII that is neither letter nor digit."""
    return unicodedata.category(character)[0] == "P" or (character < "\x7f" and not character.isalnum())


def _chinese(character: str) -> bool:
    """Whether it belongs to the blocks of CJK ideographs."""
    code = ord(character)
    blocks = ((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F),
              (0x2B920, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F))  # fmt: skip
    return any(low <= code <= high for low, high in blocks)
