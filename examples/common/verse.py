"""The poems that the last steps learn from, and how much of what is written rhymes.

Rhyme is a matter of sound, and spelling tells most of it: two words rhyme if they end alike from their last vowels on,
or if their endings stand side by side in the list below.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from tinygrad_z2g import text

from .terminal import fail

FILES = [Path(__file__).parent.parent / "data" / name for name in ("cats.txt", "verses.txt")]

# Endings, and whole words that do not sound as they are spelled, between the strokes; those that sound alike
ALIKE = """
e ee ea key | y igh ye ie uy i eye | ay ey eigh | o ow oe oh though dough sew | aw or ore oar oor our war
| oo ew iew ue o do to who two you through shoe | air are ear ere eir | ear eer ere ier | ight ite | ed ead said
| un on one | um ome umb | eat eet | ain ane again | en again | ide ied eyed | oes ose ows | ail ale | ies ise ize eyes
| er ur ir urr were | ood ould | all awl | ait ate eight | oon une | ean een | ees eese ease eas | end iend | oam ome
| oan one own | ud blood flood | ought aught ort | uff ough | eap eep | eam eme | ire igher ier choir | our ower
| earn urn ern | earl url | earth irth orth | ird eard ord | orm warm | ar are | oad ode | ade aid ayed | eed ead
| eel eal | eaf ief | ole oll owl oul oal | ool ule | oot ute | use oose | eave eeve ieve | iece eace eese | ice ise
| ace ase | ime yme imb | ine ign | art eart | oat ote | oak oke olk | ause aws | owed oud owd | eak eek | ache ake
| est essed | ust ussed | ast assed | us uss | is iss | old olled owled | et eat | ild iled | in inn | urt irt
| orse ourse | out oubt
"""
FAMILIES: dict[str, set[int]] = defaultdict(set)
for number, family in enumerate(ALIKE.split("|")):
    for ending in family.split():
        FAMILIES[ending].add(number)


def poems() -> tuple[str, str]:
    """Training and validation text. The poems to validate on are every tenth of cats.txt, the first that there was."""
    training, validation = text.split_poems(FILES[0].read_text(encoding="utf-8"))
    return training + FILES[1].read_text(encoding="utf-8").rstrip("\n") + "\n\n", validation


def read(path: Path | None) -> tuple[str, str, str]:
    """A name, training and validation text: of our poems, or of a UTF-8 file. Ends the program if it is no use."""
    if path is None:
        return " and ".join(file.name for file in FILES), *poems()
    try:
        content = path.read_text(encoding="utf-8-sig")  # without the byte order mark that some editors write
    except OSError as error:
        fail(f"--text {path}: {error.strerror}; name a text file that can be read")
    except UnicodeDecodeError as error:
        fail(f"--text {path}: not UTF-8 (byte {error.start}); convert it, e.g. with iconv -t utf-8")
    if not content.strip():
        fail(f"--text {path}: the file is empty; it takes at least a few thousand characters to learn from")
    return path.name, *text.split_poems(content.replace("\r\n", "\n"))


def ending(word: str) -> str:
    """What of a word counts for rhyme: the word itself if the list has it, else from the last vowels on."""
    word = word.replace("'", "").replace("qu", "q")
    found = re.search(r"(?:[aeiou]|y(?![aeiou]))+[^aeiouy]*e?$", word)
    return word if word in FAMILIES or found is None else found.group()


def rhyme(a: str, b: str) -> bool:
    """Whether two different words rhyme, as far as spelling and the list tell."""
    x, y = ending(a), ending(b)
    return a != b and (x == y or bool(FAMILIES.get(x, set()) & FAMILIES.get(y, set())))


def stanzas(content: str) -> list[list[str]]:
    """The lines of each poem without its title. Blank lines part the poems."""
    return [part.split("\n")[1:] for part in content.strip("\n").split("\n\n")]


def rhyming(content: str) -> float:
    """The share of lines whose last word rhymes with that of a line at most two before or after it, 0 to 1.

    So both couplets (aabb) and crossed rhymes (abab) count whole; a ballad (abcb) counts half.
    """
    lines = found = 0
    for poem in stanzas(content):
        last = [text.words(line)[-1] for line in poem if text.words(line)]
        lines += len(last)
        for i, word in enumerate(last):
            found += any(rhyme(word, other) for other in last[max(0, i - 2) : i + 3])
    return found / max(1, lines)


def syllables(line: str) -> int:
    """Roughly: the groups of vowels of each word, without a silent one: wake, nailed, but lit-tle, wait-ed."""
    counted = 0
    for word in text.words(line):
        silent = re.search(r"[^aeiouy]e[ds]?$", word) and not re.search(r"(le|[td]ed|[cgsxz]es|[cs]hes)$", word)
        counted += max(1, len(re.findall(r"[aeiouy]+", word)) - bool(silent))
    return counted
