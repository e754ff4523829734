"""Text for language models: as characters, as pieces of words, as batches, and what a sample is worth.

This file knows nothing of how: it gathers what the files beside it offer.
"""

# isort: off
from .bpe import BPE as BPE
from .characters import (
    CharTokenizer as CharTokenizer, NGram as NGram, known_words as known_words, longest_copy as longest_copy,
    random_batch as random_batch, split_poems as split_poems, words as words,
)  # fmt: skip
from .wordpiece import WordPiece as WordPiece
