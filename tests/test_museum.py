"""The museum of bugs: each exhibit proves its own claim, fits on a page and says what is wrong.

An exhibit asserts that its check exposes the mistake and passes what is right; here it runs, with warnings as errors.
"""

import re
from pathlib import Path

import processes
import pytest

MUSEUM = Path(__file__).parent.parent / "examples" / "museum"
EXHIBITS = sorted(path for path in MUSEUM.glob("*.py") if path.stem != "plaque")
NAMES = [path.stem for path in EXHIBITS]
ROWS = {  # of the list of traps that tests/test_traps_ops.py numbers as well
    "assigned_gradient": 1, "shared_gradient": 2, "grown_bias": 4, "cut_graph": 9, "written_over": 10,
    "square_batch": 12, "repeated_index": 13, "float64_creep": 18, "log_of_softmax": 22, "nan_behind_where": 24,
    "unbiased_norm": 26, "padded_mean": 27, "second_mask": 28, "carried_state": 30, "adam_first_step": 33,
    "replaced_head": 34, "mask_by_value": 36, "scale_by_batch": 37, "forgotten_table": 38, "leaked_future": 39,
}  # fmt: skip


FIGURE = r"(?<![\w.])\d[\d.]*(?:e-?\d+)?(?![\w.]*\d)"  # no sign: a dash may stand before it
PAIR = re.compile(rf"({FIGURE}) (?:and|instead of) ({FIGURE})|({FIGURE}|\({FIGURE},\)), ({FIGURE}|\({FIGURE},\))")


def row(name: str) -> str:
    """What the README says one sees, and what exposes it."""
    table = (MUSEUM / "README.md").read_text(encoding="utf-8")
    (cells,) = re.findall(rf"^\| \[{name}\].*", table, re.M)
    return " | ".join(re.sub("`.*?`", "", cells).split(" | ")[1:])


def same(written: str, printed: str) -> bool:
    """Whether a figure is the printed one, rounded. A twentieth more or less is another machine's; so is a power of
    ten below 1e-6, where figures are rounding errors."""
    if "(" in written + printed:
        return written == printed
    a, b = float(written), float(printed)
    digits, _, exponent = written.partition("e")
    half = 0.5 * 10.0 ** (int(exponent or 0) - len(digits.partition(".")[2]))
    return a / 10 < b < 10 * a if 0 < a < 1e-6 else abs(a - b) <= half + 0.05 * b


def unfounded(text: str, output: str) -> list[str]:
    """The figures of a text that a plaque does not bear out.

    A pair, with the mistake and without, must be a line's two columns; a ratio ("3-fold", "3 times"), one of two of
    its figures; any other figure must stand somewhere.
    """
    ends = [line.split()[-2:] for line in output.splitlines()]
    columns = [pair for pair in ends if len(pair) == 2 and all(re.fullmatch(rf"\(?{FIGURE},?\)?", x) for x in pair)]
    printed = re.findall(FIGURE, output)
    wrong = []

    def check(found: re.Match) -> str:
        a, b = (group for group in found.groups() if group)
        if found[0] not in output and not any(same(a, x) and same(b, y) for x, y in columns):
            wrong.append(found[0])
        return ""

    text = PAIR.sub(check, text)
    for found in re.finditer(rf"({FIGURE})(-fold| times)?", text):
        ratio = found[2] and any(float(y) and same(found[1], str(float(x) / float(y)))
                                 for x in printed for y in printed)  # fmt: skip
        if not ratio and not any(same(found[1], x) for x in printed):
            wrong.append(found[0])
    return wrong


@pytest.mark.parametrize("text, wrong", [
    ("0.25 and 4e-11, 17 of 200 steps, 3-fold", []), ("(0.245, 3e-11)", []), ("off by (20,), (1,)", []),
    ("0.25 instead of 0.29", ["0.25 instead of 0.29"]), ("4e-11 and 0.25", ["4e-11 and 0.25"]),
    ("3e-9 and 0.25", ["3e-9 and 0.25"]), ("91 of 200 steps", ["91"]), ("(20,), (2,)", ["(20,), (2,)"]),
    ("7-fold", ["7-fold"]), ("0.21", ["0.21"]),
])  # fmt: skip
def test_a_false_figure_is_found(text, wrong):
    output = "seen   loss after 200 steps   0.2471   3.8e-11\n   steps   17   51\n   b has   (20,)   (1,)\n"
    assert unfounded(text, output) == wrong


@pytest.mark.parametrize("exhibit", EXHIBITS, ids=NAMES)
def test_exhibit(exhibit):
    done = processes.run(exhibit, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    words = [line[:8].strip() for line in done.stdout.splitlines()]
    assert [word for word in words if word] == ["seen", "check", "fix"]
    assert unfounded(row(exhibit.stem), done.stdout) == []
    if exhibit.stem == "assigned_gradient":  # the README shows what it prints
        shown = re.search(r"\n\n((?: {4}.*\n)+)\nBefore you", (MUSEUM / "README.md").read_text(encoding="utf-8"))[1]
        assert re.sub(FIGURE, "#", shown).split() == re.sub(FIGURE, "#", done.stdout).split()
        figures = zip(re.findall(FIGURE, shown), re.findall(FIGURE, done.stdout), strict=True)
        assert all(same(written, printed) for written, printed in figures)


@pytest.mark.parametrize("exhibit", EXHIBITS, ids=NAMES)
def test_page(exhibit):
    source = exhibit.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 60
    assert len(re.findall(r"#.*\bthe mistake\b", source)) == 1
    assert "\nassert " in source


def test_the_museum_is_whole():
    table = (MUSEUM / "README.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"\]\((\w+)\.py\)", table)) == NAMES
    assert set(ROWS) <= set(NAMES)
    assert {1, 2, 12, 13, 22, 28, 33, 36, 37, 38} <= set(ROWS.values())
