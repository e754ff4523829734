"""The README keeps its promises: its commands, its code, the files that it names."""

import math
import os
import re
import shutil
import subprocess
import tokenize
from pathlib import Path

import pytest

import tinygrad_z2g as z2g
from tinygrad_z2g.fast import forms
from tinygrad_z2g.tools.learn.reading import ROOMS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_ci_runs_the_test_command_of_the_readme():
    command = next(line.strip() for line in README.splitlines() if line.startswith("    python3 -m venv .venv-test"))
    assert command in (ROOT / ".ci" / "run").read_text()


def test_code_blocks_run(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # one of them draws
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 3
    for i, block in enumerate(blocks):
        path = tmp_path / f"block{i}.py"  # where `explain` can read the lines
        path.write_text(block, encoding="utf-8")
        exec(compile(block, str(path), "exec"), {"__name__": "__main__"})
    printed = capsys.readouterr().out
    assert printed.startswith("0.00000")
    (story,) = re.findall(r"```\n(2\. matmul.*?)```", README, re.DOTALL)
    if forms.plain():  # where a product is written otherwise
        story = story.replace("product(grad, y.T)", "grad @ y.swapaxes(-1, -2)")
        story = story.replace("product(x.T, grad)", "x.swapaxes(-1, -2) @ grad")
    assert story.replace("net.py", "block1.py").rstrip() in re.sub(r" +(?=block1)", " " * 22, printed)
    assert (tmp_path / "graph.svg").read_text(encoding="utf-8").startswith("<svg")


def reading_list():
    """The items of "Reading the source": title and text."""
    text = README.partition("## Reading the source")[2].partition("\n## ")[0]
    return dict(re.findall(r"^\d+\. \*\*(.*?)\*\*:(.*?)(?=^\d+\. |^\S|\Z)", text, re.MULTILINE | re.DOTALL))


def test_the_reading_list_names_every_room_and_every_file_outside_of_one():
    package = ROOT / "tinygrad_z2g"
    told = " ".join(reading_list().values())
    for path in package.rglob("*.py"):
        first = path.relative_to(package).parts[0]
        if first != "__init__.py":
            assert f"`{first}`" in told or f"`{first}/" in told, path


def test_the_reading_list_has_the_rooms_of_the_reading_path_in_order():
    assert list(reading_list()) == list(ROOMS)
    for room, text in reading_list().items():
        named = set(re.findall(r"`(\w+)(?:/[\w/]*|\.py)`", text))
        assert named >= set(ROOMS[room].split()), room


def test_every_place_that_is_named_exists():
    """`folder/file.py` in README, CONTRIBUTING and the examples' pages, and folders of the package."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "examples").glob("**/*.md"),
             ROOT / "tinygrad_z2g/core/README.md", ROOT / "tests/README.md"]  # fmt: skip
    wrong = []
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for place in re.findall(r"`((?:[\w.-]+/)+(?:[\w.-]+\.\w+)?)`", text):
            homes = (page.parent, ROOT, ROOT / "tinygrad_z2g", ROOT / "examples")
            made = place.startswith(("out/", "node_modules/"))
            if not made and not any((home / place).exists() for home in homes):
                wrong.append((str(page.relative_to(ROOT)), place))
    assert wrong == []


def test_the_evening_has_the_lines_that_are_promised():
    files = (ROOT / "tinygrad_z2g" / "core").rglob("*.py")
    lines = sum(bool(line.strip()) for file in files for line in file.read_text(encoding="utf-8").splitlines())
    promised = re.findall(r"about ([\d,]+)\s+(?:lines with their docstrings|that are not blank)", README)
    assert len(promised) == 2 and {int(n.replace(",", "")) for n in promised} == {round(lines, -2)}


def test_corpus_is_verse_of_its_own():
    """At least 24 KB, many poems, no line twice: not one template filled in."""
    corpus = (ROOT / "examples" / "data" / "cats.txt").read_text(encoding="utf-8")
    poems = corpus.strip().split("\n\n")
    lines = [line for poem in poems for line in poem.split("\n")[1:]]
    assert len(corpus) > 24_000
    assert len(poems) > 200
    assert len(set(lines)) == len(lines)
    assert len({poem.split("\n")[0] for poem in poems}) > 200


def test_every_file_is_utf8_source():
    for path in (ROOT / "tinygrad_z2g").rglob("*.py"):
        with tokenize.open(path) as file:
            assert file.encoding == "utf-8"


def test_version_is_the_one_in_the_metadata():
    assert "version = attr: tinygrad_z2g.__version__" in (ROOT / "setup.cfg").read_text()
    assert re.fullmatch(r"\d+\.\d+\.\d+", z2g.__version__)


def test_the_figures_of_step_18_agree_wherever_they_stand():
    """Those of one run: the row of the table in examples/README.md is where they come from."""
    row = next(line for line in (ROOT / "examples/README.md").read_text("utf-8").splitlines() if "[18_gpt]" in line)
    figures = dict(re.findall(r"(\w+)=([\d.]+)", row))
    bits = f"{float(figures['bits_per_char']):.2f}"
    assert float(bits) == round(float(figures["val_loss"]) / math.log(2), 2)

    script = (ROOT / "examples/18_gpt.py").read_text("utf-8")
    told = dict(re.findall(r"(\w+)=([\d.]+)", script[script.index("result: ") : script.index('"""', 10)]))
    assert told and told.items() <= figures.items()
    assert f"steps={figures['steps']})" in script  # the default of --steps

    text = " ".join(README.split())
    assert f"after {int(figures['steps']):,} steps" in text and f"({bits} bits a character on poems" in text
    assert f"it copied is {figures['longest_copy']} characters" in text and f"(the GPT of step 18: {bits})" in text
    other = (ROOT / "examples/27_finetune.py").read_text("utf-8")
    assert f"\nSTEP_18 = {bits} " in other and f"step 18 ended at {bits}." in other
    assert not re.search(r"\b1\.96\b", other + text)  # its figure before there was more to read


STAND_IN = """#!/bin/bash
line="${0##*/} $* ${TINYGRAD_Z2G_COMPILED-} ${TINYGRAD_Z2G_PLAIN-}"
echo "$line" >> "$CALLS"
if [ "${0##*/}" = python3 ]; then mkdir -p .venv-test/bin; cp "$0" .venv-test/bin/pip; cp "$0" .venv-test/bin/ruff
    cp "$0" .venv-test/bin/mypy; cp "$0" .venv-test/bin/python; fi
[ "$line" != "$FAILS" ]
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_whatever_fails_the_checks_fail(tmp_path):
    """Of the commands that `.ci/run` calls, here stand-ins, each fails in turn."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    for name in ("chromium", "chromedriver", "python3"):
        (tmp_path / name).write_text(STAND_IN)
        (tmp_path / name).chmod(0o700)

    def checks(fails):
        environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "CALLS": "calls", "FAILS": fails}
        run = subprocess.run(["bash", ".ci/run"], cwd=tmp_path, env=environment, capture_output=True, text=True)
        return run.returncode

    assert checks("none") == 0
    calls = (tmp_path / "calls").read_text().splitlines()
    assert len(calls) == len(set(calls)) == 9
    assert [line for line in calls if checks(line) == 0] == []
