"""Text as characters: numbers for them, batches of it, a baseline to beat, and measures of a sample.

It knows nothing of networks or training: a batch is two tensors of numbers.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable

from ..arrays.random import Generator, default_generator
from ..creation import from_numpy, tensor
from ..tensor import Tensor


def of_id(tokens: list[str], id: int) -> str:
    """The token of this number. IndexError unless there is one: -1 is none, though lists have a last element."""
    if not 0 <= id < len(tokens):
        raise IndexError(f"decode: {id} is no id, expected 0 to {len(tokens) - 1}")
    return tokens[id]


class CharTokenizer:
    """One number per character. The vocabulary is the sorted set of characters of `text`."""

    def __init__(self, text: str):
        if not text:
            raise ValueError("CharTokenizer: the text is empty; there are no characters to number")
        self.characters = sorted(set(text))
        self._ids = {c: i for i, c in enumerate(self.characters)}

    def __len__(self) -> int:
        return len(self.characters)

    def encode(self, text: str) -> Tensor:
        """The ids of the characters, int64 (n,), on the CPU, where batches are cut from them.

        ValueError names characters outside the vocabulary.
        """
        unknown = sorted(set(text) - set(self._ids))
        if unknown:
            known = "".join(self.characters)
            raise ValueError(f"encode: {', '.join(map(repr, unknown))} not in the vocabulary {known!r}")
        return tensor([self._ids[c] for c in text], dtype="int64", device="cpu")

    def decode(self, ids: Tensor | Iterable[int]) -> str:
        """The text of a sequence of ids. IndexError for one out of range."""
        return "".join(of_id(self.characters, i) for i in (ids.tolist() if isinstance(ids, Tensor) else ids))


def split_poems(text: str) -> tuple[str, str]:
    """Training and validation text: every tenth poem (blank lines part them) is kept for validation, or the last
    tenth of a text that has no such parts."""
    poems = [poem.strip("\n") for poem in text.split("\n\n") if poem.strip()]
    if len(poems) < 20:
        cut = len(text) * 9 // 10
        return text[:cut], text[cut:]
    training = [poem for i, poem in enumerate(poems) if i % 10 != 9]
    return "\n\n".join(training) + "\n\n", "\n\n".join(poems[9::10]) + "\n\n"


def random_batch(
    ids: Tensor, batch_size: int, context: int, generator: Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Random windows of a text: inputs (B, T), and targets (B, T), the same one character later.

    ValueError if the text is not longer than the context.
    """
    array = ids.array
    if len(array) <= context:
        raise ValueError(f"random_batch: the text has {len(array)} characters; a context of {context} needs more")
    stream = (generator or default_generator).numpy
    starts = stream.integers(0, len(array) - context, (batch_size, 1))
    windows = array[starts + range(context + 1)]  # (B, T + 1)
    return from_numpy(windows[:, :-1].copy()), from_numpy(windows[:, 1:].copy())


class NGram:
    """Predicts a character from the n - 1 before it by counting: the baseline that a network has to beat.

    P(c | s) = (count(s c) + k(s) P(c | s')) / (count(s) + k(s)), where s' is s without its first character and k(s)
    counts the different characters seen after s: the rarer a context, the more its shorter one is trusted
    (Witten & Bell 1991). Below the empty context stands the uniform distribution.
    """

    def __init__(self, n: int, text: str, vocabulary_size: int):
        if n < 1:
            raise ValueError(f"NGram: n must be at least 1, got {n}")
        self.n, self.vocabulary_size = n, vocabulary_size
        self._counts: dict[str, Counter[str]] = defaultdict(Counter)
        for length in range(n):
            columns = [text[i:] for i in range(length + 1)]  # which read side by side give each run of length + 1
            for (*before, c), count in Counter(zip(*columns, strict=False)).items():
                self._counts["".join(before)][c] = count

    def probability(self, character: str, before: str) -> float:
        """P(character | the last n - 1 characters of `before`)."""
        return self.probabilities(character, before)[0]

    def probabilities(self, characters: str, before: str) -> list[float]:
        """P(c | the last n - 1 characters of `before`) for each c of `characters`."""
        p = [1 / self.vocabulary_size] * len(characters)
        for length in range(min(self.n - 1, len(before)) + 1):
            counts = self._counts.get(before[len(before) - length :])
            if not counts:
                break
            kinds, total = len(counts), counts.total() + len(counts)
            p = [(counts[c] + kinds * q) / total for c, q in zip(characters, p, strict=True)]
        return p

    def cross_entropy(self, text: str) -> float:
        """Mean of -ln P over the characters of a text, in nats: comparable with a network's loss."""
        return sum(-math.log(self.probability(c, text[max(0, i - self.n) : i])) for i, c in enumerate(text)) / len(text)


def words(text: str) -> list[str]:
    """The words of a text in lower case, apostrophes included."""
    return re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)*", text.lower())


def known_words(sample: str, text: str) -> float:
    """The share of the words of `sample` that occur in `text`, 0 to 1; NaN if it has no words."""
    vocabulary, found = set(words(text)), words(sample)
    return sum(word in vocabulary for word in found) / len(found) if found else math.nan


def longest_copy(sample: str, text: str) -> int:
    """The length of the longest run of characters of `sample` that stands verbatim in `text`."""
    best = 0
    for end in range(1, len(sample) + 1):
        # The run that ends here beats the best by at most 1: without its last character it ended one place before
        if end > best and sample[end - best - 1 : end] in text:
            best += 1
    return best
