"""Byte pair encoding and WordPiece: against plain definitions, and against the package `tokenizers`."""

import itertools
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import tinygrad_z2g as z2g
from tinygrad_z2g.text import BPE, WordPiece
from tinygrad_z2g.text.bpe import SPELLING
from tinygrad_z2g.text.pieces import RULES, cut

CATS = (Path(__file__).parent.parent / "examples/data/cats.txt").read_text(encoding="utf-8")
TRAINED = BPE.train(CATS[:20_000], 400)
# Characters that Python's own tables know: later versions of Unicode have letters that it takes for nothing
KNOWN = st.characters(exclude_categories=["Cs", "Cn", "Co"])
AWKWARD = st.sampled_from([*"  \n\t\x1c½Ⅳ②é'123aSt", "'s", "'LL", "  the", "🐈", "\u3000", "ſ"])
TEXTS = st.lists(AWKWARD | KNOWN, max_size=20).map("".join)


# --- Pieces ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule, text, pieces", [
    ("gpt-2", "It's 12  cats.\n\n  x", ["It", "'s", " 12", " ", " cats", ".", "\n\n ", " x"]),
    ("smollm", "It's 12  cats", ["It", "'s", " ", "1", "2", " ", " cats"]),
    ("llama-bpe", "IT'S 1234 cats!\n\nx", ["IT", "'S", " ", "123", "4", " cats", "!\n\n", "x"]),
    ("gpt-2", "½Ⅳ②a", ["½Ⅳ②", "a"]),  # \p{N} is more than the digits
    ("gpt-2", "a\x1cb c\u3000d", ["a", "\x1c", "b", " c", "\u3000", "d"]),  # \x1c is no white space
    ("gpt-2", "a_b", ["a", "_", "b"]),  # which Python's \w would keep together
    ("smollm", "", []),
])  # fmt: skip
def test_pieces_by_hand(rule, text, pieces):
    assert cut(text, rule) == pieces


@given(TEXTS, st.sampled_from(sorted(RULES)))
def test_pieces_give_the_text_back(text, rule):
    pieces = cut(text, rule)
    assert "".join(pieces) == text and all(pieces)


# --- Training ----------------------------------------------------------------------------------------------------


def slow_training(text, size, rule):
    """The definition: count all pairs, join the commonest everywhere, and again."""
    words = [[SPELLING[byte] for byte in piece.encode()] for piece in cut(text, rule)]
    tokens, merges = [SPELLING[byte] for byte in range(256)], []
    while len(tokens) < size:
        counts = Counter(pair for word in words for pair in itertools.pairwise(word))
        if not counts:
            break
        pair = min(counts, key=lambda pair: (-counts[pair], tokens.index(pair[0]), tokens.index(pair[1])))
        for word in words:
            i = 0
            while i < len(word) - 1:
                if (word[i], word[i + 1]) == pair:
                    word[i : i + 2] = ["".join(pair)]
                i += 1
        tokens.append("".join(pair))
        merges.append(pair)
    return tokens, merges, [tokens.index(symbol) for word in words for symbol in word]


@given(st.text("ab c\n1é", max_size=60), st.integers(256, 275), st.sampled_from(sorted(RULES)))
@example("aaaa aaa", 259, "gpt-2")
def test_training_and_encoding_follow_the_definition(text, size, rule):
    tokenizer = BPE.train(text, size, rule)
    tokens, merges, ids = slow_training(text, size, rule)
    assert (tokenizer.tokens, tokenizer.merges) == (tokens, merges)
    assert tokenizer.encode(text).tolist() == ids


def test_training_by_hand():
    """ab stands 3 times, abc twice, then of two pairs that stand once the older: " ab", its blank spelled Ġ."""
    tokenizer = BPE.train("abcabc ab", 259)
    assert tokenizer.merges == [("a", "b"), ("ab", "c"), ("Ġ", "ab")]
    assert len(tokenizer) == 259
    assert tokenizer.encode("abc ab").tolist() == [257, 258]
    with pytest.raises(ValueError, match="at least 256"):
        BPE.train("abc", 255)


def test_training_shortens_the_text():
    ids = TRAINED.encode(CATS[:20_000])
    assert len(ids) < 0.6 * 20_000
    assert ids.dtype == z2g.int64 and str(ids.device) == "cpu"


# --- Encoding and decoding ---------------------------------------------------------------------------------------


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_decoding_gives_the_text_back(text):
    assert TRAINED.decode(TRAINED.encode(text)) == text


def test_a_part_of_a_letter_decodes_to_the_sign_for_it():
    first, second = TRAINED.encode("é").tolist()
    assert TRAINED.decode([first]) == "\ufffd"
    assert TRAINED.bytes_of(first) + TRAINED.bytes_of(second) == "é".encode()


def with_special():
    return BPE([*TRAINED.tokens, "<|end|>", "<|endless|>"], TRAINED.merges, special=["<|end|>", "<|endless|>"])


def test_special_tokens_count_only_if_asked_for():
    tokenizer = with_special()
    assert tokenizer.encode("a<|endless|><|end|>", special=True).tolist() == [97, 401, 400]
    plain = tokenizer.encode("a<|end|>").tolist()
    assert 400 not in plain and tokenizer.decode(plain) == "a<|end|>"
    assert tokenizer.decode([97, 401, 400]) == "a<|endless|><|end|>"


def test_bytes_without_a_token_are_refused():
    tokens = [token for token in TRAINED.tokens if token != SPELLING[7]]
    with pytest.raises(ValueError, match="0x07"):
        BPE(tokens, TRAINED.merges).encode("ring \a")


@pytest.mark.parametrize("tokens, merges, rule, special", [
    (["a", "b"], [("a", "b")], "gpt-2", []),
    (["a", "a"], [], "gpt-2", []),
    (["a"], [], "gpt-2", ["<end>"]),
    (["a"], [], "gpt-9", []),
])  # fmt: skip
def test_vocabularies_that_do_not_fit_are_refused(tokens, merges, rule, special):
    with pytest.raises(ValueError, match=r"^BPE: "):
        BPE(tokens, merges, rule, special)


# --- The package `tokenizers` ------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
def test_the_package_tokenizers_gives_the_same_ids(rule):
    pytest.importorskip("tokenizers")
    from tinygrad_z2g.text.fast import FastBPE

    ours = BPE(TRAINED.tokens, TRAINED.merges, rule)
    fast = FastBPE(TRAINED.tokens, TRAINED.merges, rule)

    @given(TEXTS)
    def check(text):
        assert fast.encode(text).tolist() == ours.encode(text).tolist()

    check()
    assert fast.encode(CATS).tolist() == ours.encode(CATS).tolist()


def tokens_of(merges):
    """The bytes, then all that the merges name or make."""
    named = [token for pair in merges for token in (*pair, "".join(pair))]
    return list(dict.fromkeys([*SPELLING.values(), *named]))


@pytest.mark.parametrize("merges, text, tokens", [
    ([("ab", "a"), ("a", "b")], "abab", ["aba", "b"]),  # the first ab makes (ab, a), which comes before the second ab
    ([("c", "ab"), ("a", "b")], "cabab", ["cab", "ab"]),
    ([("ab", "ab"), ("ab", "a"), ("a", "b")], "ababab", ["aba", "b", "ab"]),
    ([("a", "b"), ("b", "c"), ("a", "b")], "abc", ["a", "bc"]),  # listed twice: the later place counts
])  # fmt: skip
def test_merges_that_use_a_token_before_they_make_it(merges, text, tokens):
    bpe = BPE(tokens_of(merges), merges)
    assert [bpe.tokens[i] for i in bpe.encode(text).tolist()] == tokens


PARTS = st.sampled_from(["a", "b", "c", "ab", "ba", "bc", "aa", "abc", "aba", "aab"])


@given(st.lists(st.tuples(PARTS, PARTS), max_size=8), st.text("abc", max_size=14))
@example([("ab", "a"), ("a", "b")], "abab")
def test_merges_in_any_order_join_as_in_the_package_tokenizers(merges, text):
    pytest.importorskip("tokenizers")
    from tinygrad_z2g.text.fast import FastBPE

    tokens = tokens_of(merges)
    assert BPE(tokens, merges).encode(text).tolist() == FastBPE(tokens, merges).encode(text).tolist()


# --- WordPiece ---------------------------------------------------------------------------------------------------

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "cat", "##s", "un", "##know", "##able", "!", "e", "漢"]


def test_wordpiece_by_hand():
    tokenizer = WordPiece(VOCABULARY)
    ids = tokenizer.encode("The CATS! unknowable  É漢unx")
    assert tokenizer.decode(ids) == "[CLS] the cats ! unknowable e 漢 [UNK] [SEP]"
    assert ids.tolist()[:4] == [2, 4, 5, 6]
    assert WordPiece(VOCABULARY, lower=False).encode("The cat").tolist() == [2, 1, 5, 3]
    assert tokenizer.encode("e" * 101).tolist() == [2, 1, 3]
    assert len(tokenizer) == len(VOCABULARY)
    with pytest.raises(ValueError, match=r"\[CLS\]"):
        WordPiece(["[PAD]", "[UNK]", "[SEP]"])


def test_wordpiece_as_in_the_package_tokenizers():
    """Of the first plane: of the others the two know different versions of Unicode."""
    tokenizers = pytest.importorskip("tokenizers")
    marks = [chr(i) for i in range(33, 127)] + ["##" + chr(i) for i in range(97, 123)] + ["é", "the", "##ing"]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *marks]
    ours = WordPiece(tokens)
    theirs = tokenizers.BertWordPieceTokenizer({token: i for i, token in enumerate(tokens)}, lowercase=True)
    letters = st.characters(exclude_categories=["Cs", "Cn", "Co"], max_codepoint=0x2FFF)
    known = letters.filter(lambda c: unicodedata.category(c) != "Mn" or c < "\u0370")

    @given(st.lists(AWKWARD | st.sampled_from("theing,. ") | known, max_size=20).map("".join))
    def check(text):
        assert ours.encode(text).tolist() == theirs.encode(text).ids

    check()
