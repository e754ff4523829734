"""Text: characters as numbers, random batches, the n-gram baseline, and measures of a generated sample."""

import itertools
import math
from collections import Counter

import fakecupy
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numeric import host

import tinygrad_z2g as z2g
from tinygrad_z2g import text
from tinygrad_z2g.text import CharTokenizer, NGram, known_words, longest_copy, random_batch, words

TEXTS = st.text(alphabet="aab c", max_size=30)  # few characters, so that runs repeat


# --- Tokenizer ---------------------------------------------------------------------------------------------------


@given(st.text(min_size=1, max_size=50))
def test_encoding_and_decoding_gives_the_text_back(text):
    tokenizer = CharTokenizer(text)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == tokenizer.decode(ids.tolist()) == text
    assert ids.dtype == z2g.int64
    assert ids.shape == (len(text),)
    assert len(tokenizer) == len(set(text))
    assert sorted(set(ids.tolist())) == list(range(len(tokenizer)))  # every id is used, none is out of range


def test_ids_are_numbered_in_the_order_of_the_alphabet():
    tokenizer = CharTokenizer("cat and\ncow")
    assert tokenizer.characters == list("\n acdnotw")
    assert tokenizer.encode("aw\n").tolist() == [2, 8, 0]
    assert tokenizer.decode([3, 2, 7]) == "cat"
    assert tokenizer.encode("").tolist() == []
    assert CharTokenizer("woc\ndna tac").encode("cat").tolist() == [3, 2, 7]  # not that of the text


def test_unknown_characters_are_named():
    with pytest.raises(ValueError, match=r"'X', 'ä'.*'abc'"):
        CharTokenizer("abc").encode("aXbä")
    with pytest.raises(ValueError, match="empty"):
        CharTokenizer("")


# --- Batches -----------------------------------------------------------------------------------------------------


def test_batches_are_cut_on_the_cpu_whatever_the_default_device():
    with fakecupy.installed(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("TINYGRAD_Z2G_DEVICE", "cuda")
        ids = CharTokenizer("a cat sat").encode("a cat sat")
        x, y = random_batch(ids, 4, 5)
        assert x.shape == y.shape == (4, 5)
        assert {str(t.device) for t in (ids, x, y)} == {"cpu"}


def test_targets_are_the_inputs_one_character_later():
    text = z2g.tensor(np.arange(20) ** 2)  # all different: a window tells where it began
    x, y = random_batch(text, 50, 6)
    assert x.shape == y.shape == (50, 6)
    assert x.dtype == y.dtype == z2g.int64
    starts = np.sqrt(host(x)[:, 0]).astype(int)
    assert np.array_equal(host(x), (starts[:, None] + np.arange(6)) ** 2)
    assert np.array_equal(host(y), (starts[:, None] + np.arange(1, 7)) ** 2)


def test_every_window_is_drawn_and_equally_often():
    x, _ = random_batch(z2g.arange(10), 6000, 6)
    counts = Counter(host(x)[:, 0].tolist())
    assert set(counts) == {0, 1, 2, 3}  # the last one's targets end with the text
    assert all(abs(n - 1500) < 5 * math.sqrt(6000 * 0.25 * 0.75) for n in counts.values())


def test_batches_repeat_with_a_seed():
    ids = z2g.arange(100)
    z2g.manual_seed(2)
    first, second = random_batch(ids, 5, 4), random_batch(ids, 5, 4)
    z2g.manual_seed(2)
    assert random_batch(ids, 5, 4)[0].tolist() == first[0].tolist()
    assert first[0].tolist() != second[0].tolist()
    own = random_batch(ids, 5, 4, z2g.Generator(2))
    assert own[0].tolist() == first[0].tolist()  # a stream of its own, the same seed


def test_the_text_must_be_longer_than_the_context():
    x, y = random_batch(z2g.arange(5), 3, 4)
    assert x.tolist() == [[0, 1, 2, 3]] * 3
    assert y.tolist() == [[1, 2, 3, 4]] * 3
    with pytest.raises(ValueError, match="4"):
        random_batch(z2g.arange(4), 3, 4)


def test_a_batch_does_not_share_memory_with_the_text():
    ids = z2g.arange(10)
    x, y = random_batch(ids, 2, 9)
    x.zero_()
    assert ids.tolist() == list(range(10))
    assert y.tolist() == [list(range(1, 10))] * 2


# --- N-grams -----------------------------------------------------------------------------------------------------


def test_ngram_by_hand():
    """n = 2, text "abab a": after "a" comes b twice; the empty context holds 6 characters, 3 different ones."""
    model = NGram(2, "abab a", vocabulary_size=4)
    # empty context: a 3, b 2, space 1; below it 1/4 each. P(c) = (count + 3 · 1/4) / (6 + 3)
    single = {"a": 3.75 / 9, "b": 2.75 / 9, " ": 1.75 / 9, "x": 0.75 / 9}
    for c, p in single.items():
        assert model.probability(c, "") == pytest.approx(p)
        assert model.probability(c, "zx") == pytest.approx(p)  # never seen "x": the shorter context decides
    # after "a": b twice, one kind. P(c | a) = (count + 1 · P(c)) / (2 + 1)
    assert model.probability("b", "a") == pytest.approx((2 + single["b"]) / 3)
    assert model.probability("a", "a") == pytest.approx(single["a"] / 3)
    # after "b": a once, space once, two kinds. P(c | b) = (count + 2 P(c)) / (2 + 2)
    assert model.probability(" ", "ab") == pytest.approx((1 + 2 * single[" "]) / 4)
    assert model.probability("x", "b") == pytest.approx(2 * single["x"] / 4)
    entropy = -(math.log(single["a"]) + math.log(model.probability("b", "a"))) / 2
    assert model.cross_entropy("ab") == pytest.approx(entropy)


def witten_bell(c, before, n, text, size):
    """The definition, word by word: recursion on the context, counts by looking through the text."""

    def p(c, s):
        followers = [text[i + len(s)] for i in range(len(text) - len(s)) if text[i : i + len(s)] == s]
        shorter = p(c, s[1:]) if s else 1 / size
        kinds = len(set(followers))
        return (followers.count(c) + kinds * shorter) / (len(followers) + kinds) if followers else shorter

    return p(c, before[max(0, len(before) - (n - 1)) :])


@given(st.integers(1, 4), TEXTS, TEXTS)
def test_ngram_matches_the_definition_and_sums_to_one(n, text, before):
    alphabet = "abc "
    model = NGram(n, text, len(alphabet))
    got = [model.probability(c, before) for c in alphabet]
    assert got == pytest.approx([witten_bell(c, before, n, text, 4) for c in alphabet])
    assert sum(got) == pytest.approx(1)
    assert min(got) > 0


def test_longer_contexts_predict_a_repeating_text_better():
    text = "the cat sat on the mat. " * 20
    entropies = [NGram(n, text, len(set(text))).cross_entropy(text) for n in (1, 2, 3, 5)]
    assert entropies == sorted(entropies, reverse=True)
    assert entropies[-1] < 0.1 < entropies[0]
    uniform = NGram(3, "", 8)
    assert uniform.cross_entropy("cat") == pytest.approx(math.log(8))
    assert uniform.probability("c", "ab") == 1 / 8


# --- Measures ----------------------------------------------------------------------------------------------------


def test_words():
    assert words("The cat's whiskers, don't-touch: 3 über_cats!") == [
        "the", "cat's", "whiskers", "don't", "touch", "über", "cats",
    ]  # fmt: skip
    assert words("") == words("123 !?") == []
    assert words("'quoted'") == ["quoted"]


def test_known_words():
    text = "The cat sat on the mat."
    assert known_words("the CAT flew", text) == pytest.approx(2 / 3)
    assert known_words("the the the zzz", text) == pytest.approx(3 / 4)  # occurrences count, not kinds
    assert known_words("at", text) == 0  # part of a word is no word
    assert known_words("mat sat", text) == 1
    assert math.isnan(known_words("123", text))


@given(TEXTS, TEXTS)
@example("", "abc")
@example("abc", "")
@example("xxabcx", "abc")
@example("abcab", "abab cab")
def test_longest_copy_against_brute_force(sample, text):
    runs = (sample[i:j] for i, j in itertools.combinations(range(len(sample) + 1), 2))
    assert longest_copy(sample, text) == max((len(run) for run in runs if run in text), default=0)


@pytest.mark.parametrize("bad", [-1, 99_999])
def test_no_tokenizer_decodes_what_is_no_id(bad):
    """-1 was the last token, without a word."""
    pieces = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "a"]
    tokenizers = (text.CharTokenizer("ab"), text.BPE.train("ab", 256), text.WordPiece(pieces))
    for tokenizer in tokenizers:
        with pytest.raises(IndexError, match=f"decode: {bad} is no id, expected 0 to {len(tokenizer) - 1}"):
            tokenizer.decode([0, bad])
