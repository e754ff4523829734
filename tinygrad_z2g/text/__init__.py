"""Text for language models: as characters, as pieces of words, as batches, and what a sample is worth.

This file knows nothing of how: it gathers what the files beside it offer.
"""

from .bpe import BPE
from .characters import CharTokenizer, NGram, known_words, longest_copy, random_batch, split_poems, words
from .wordpiece import WordPiece
