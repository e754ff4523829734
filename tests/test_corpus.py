"""The poems to learn from: verse of their own, in rhyme and metre, and none of them near a poem to validate on."""

import hashlib
import math
import random
import re
from collections import Counter, defaultdict

import pytest
from example_modules import EXAMPLES, importable

from tinygrad_z2g import text


@pytest.fixture(scope="module")
def verse():
    with importable():
        from common import verse

        yield verse


@pytest.fixture(scope="module")
def cats():
    return (EXAMPLES / "data" / "cats.txt").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def verses():
    return (EXAMPLES / "data" / "verses.txt").read_text(encoding="utf-8")


def lines_of(content):
    return [line for poem in content.strip().split("\n\n") for line in poem.split("\n")[1:]]


def near(lines, least):
    """Pairs of lines whose sets of words have `least` of their union in common, the later one first.

    Two such sets share one of their rarest words: so many that without them a set is too small to have `least`.
    """
    bags = [frozenset(text.words(line)) for line in lines]
    often = Counter(word for bag in bags for word in bag)
    places, found = defaultdict(list), []
    for i, bag in enumerate(bags):
        rarest = sorted(bag, key=lambda word: (often[word], word))[: len(bag) - math.ceil(least * len(bag)) + 1]
        for j in {j for word in rarest for j in places[word]}:
            if len(bag & bags[j]) >= least * len(bag | bags[j]):
                found.append((lines[i], lines[j]))
        for word in rarest:
            places[word].append(i)
    return found


def grams(content, n=5):
    words = text.words(content)
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}


def test_the_size_and_the_words(verse, verses):
    """Much text of few words: a small model learns each of them."""
    training, _ = verse.poems()
    assert len(verses) > 300_000
    assert len(training) > 400_000
    words = Counter(text.words(training))
    assert 2_500 < len(words) < 4_000
    assert sum(n for n in words.values() if n >= 3) > 0.93 * words.total()  # most of what stands there is repeated


def test_the_poems_to_validate_on_are_those_of_before(verse, cats):
    """Losses of all times can be compared: these 10,452 characters never change."""
    _, validation = verse.poems()
    assert validation == text.split_poems(cats)[1]
    digest = hashlib.sha256(validation.encode()).hexdigest()
    assert (len(validation), digest[:16]) == (10452, "a919aae283c0464b")


def test_the_form(cats, verses):
    """A title, then lines, then a blank line; the characters of the first poems and no others."""
    assert set(verses) <= set(cats)
    poems = verses.rstrip("\n").split("\n\n")
    assert len(poems) > 300 and len({poem.split("\n")[0] for poem in poems}) == len(poems)
    for poem in poems:
        title, *lines = poem.split("\n")
        assert len(lines) >= 8, title
        assert not re.search(r"^ | $|  |\t", poem, re.MULTILINE), title
        assert title[0].isupper() and not title.endswith((".", ",", ";")), title
        for line in lines:
            assert line[0].isupper() and 10 <= len(line) <= 70, line
    lengths = sorted(map(len, lines_of(verses)))
    assert lengths[len(lengths) // 20] >= 24 and lengths[-len(lengths) // 20] <= 50


def test_no_line_stands_there_twice_nor_nearly(cats, verses):
    lines = lines_of(cats) + lines_of(verses)
    same = [line for line, n in Counter(" ".join(text.words(line)) for line in lines).items() if n > 1]
    assert same == []
    pairs = near(lines, 0.7)
    assert len(pairs) < 0.005 * len(lines), pairs  # refrains: What do you see, old cat, old cat


def test_no_stanza_is_another_with_some_words_changed(cats, verses):
    """Four lines in a row share less than 0.6 of their words with any other four lines."""
    stanzas = []
    for poem in (cats + "\n" + verses).strip().split("\n\n"):
        lines = poem.split("\n")[1:]
        stanzas += [" ".join(lines[i : i + 4]) for i in range(0, len(lines) - 3, 4)]
    assert near(stanzas, 0.6) == []
    assert near([*stanzas, stanzas[5].replace(" and ", " or ")], 0.6)  # the search finds what is there


def test_nothing_near_a_poem_to_validate_on_is_learned(verse, verses):
    """Of its runs of 5 words at most 2 in 1,000 stand in the new verse, and no near line; of the old, as it was."""
    training, validation = verse.poems()
    wanted = grams(validation)
    assert len(wanted & grams(verses)) <= 0.002 * len(wanted)
    assert len(wanted & grams(training)) <= 0.02 * len(wanted)
    lines = lines_of(validation)
    assert [pair for pair in near(lines_of(verses) + lines, 0.7) if (pair[0] in lines) != (pair[1] in lines)] == []


def test_most_lines_rhyme(verse, cats, verses):
    """By chance 7 in 100 do. (Every second line of a ballad, the limericks' fifth and the haiku need not.)"""
    lines = lines_of(verses)
    random.Random(0).shuffle(lines)
    shuffled = "\n\n".join("\n".join(["A title", *lines[i : i + 16]]) for i in range(0, len(lines), 16))
    assert verse.rhyming(shuffled) < 0.1
    assert verse.rhyming(cats) > 0.85
    assert verse.rhyming(verses) > 0.92


@pytest.mark.parametrize("a, b, expected", [
    ("cat", "mat", True), ("night", "white", True), ("tree", "me", True), ("bed", "said", True), ("door", "four", True),
    ("square", "there", True), ("sky", "eye", True), ("through", "shoe", True), ("yard", "hard", True),
    ("cat", "cat", False), ("cat", "dog", False), ("moon", "sun", False), ("wall", "well", False),
    ("night", "day", False), ("floor", "four", True), ("you", "now", False), ("stone", "done", True),  # for the eye
])  # fmt: skip
def test_rhyme(verse, a, b, expected):
    assert verse.rhyme(a, b) is expected and verse.rhyme(b, a) is expected


def test_the_metre(verse, verses):
    """Lines that rhyme have about as many syllables; most have the 8, or 8 and 6, of the ballad."""
    counted, apart = Counter(), Counter()
    for poem in verse.stanzas(verses):
        counted += Counter(map(verse.syllables, poem))
        for i, line in enumerate(poem):
            for other in poem[i + 1 : i + 3]:
                if verse.rhyme(text.words(line)[-1], text.words(other)[-1]):
                    apart[abs(verse.syllables(line) - verse.syllables(other))] += 1
    assert sum(counted[n] for n in range(5, 14)) > 0.98 * counted.total()
    assert counted[6] + counted[8] > 0.5 * counted.total()
    assert apart[0] + apart[1] > 0.9 * apart.total()
    assert apart[0] + apart[1] + apart[2] > 0.97 * apart.total()


@pytest.mark.parametrize("line, expected", [
    ("The cat sat on the window sill", 8), ("And watched the snow fall down;", 6), ("A little table waited", 7),
    ("The boxes, the noses, the wishes", 9),
])  # fmt: skip
def test_syllables(verse, line, expected):
    assert verse.syllables(line) == expected
