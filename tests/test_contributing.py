"""CONTRIBUTING.md is followed as it stands: its edits make an operation that passes its tests."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
STEPS = re.findall(r"^\d\. `([\w/.]+)`, before `([^`]+)`:.*?^```python\n(.*?)^```", PAGE, re.M | re.S)
FILES = ("test_ops.py", "test_api.py", "test_gradcheck.py", "test_learn.py", "test_twice.py")


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The package and its tests with the walk's edits, each made before the one place that it names."""
    home = tmp_path_factory.mktemp("walk")
    for name in ("tinygrad_z2g", "tests", "examples", "setup.cfg", "pyproject.toml", "README.md", "CONTRIBUTING.md"):
        made = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        made(ROOT / name, home / name)
    for file, anchor, block in STEPS:
        path = home / file
        text = path.read_text(encoding="utf-8")
        assert text.count(anchor) == 1, f"{anchor} stands {text.count(anchor)} times in {file}"
        block = block if block.count("\n") > 1 else block.strip() + " "
        path.write_text(text.replace(anchor, block + anchor), encoding="utf-8")
    run(home, "-m", "tinygrad_z2g.tools.api")
    return home


def run(home, *arguments):
    """Python in the copy, which sees the copy alone."""
    env = {**os.environ, "PYTHONPATH": str(home)}
    return subprocess.run([sys.executable, *arguments], cwd=home, env=env, capture_output=True, text=True, check=False)


def checked(home, names=FILES):
    """The tests of the new operation, and those that ask whether something is missing."""
    files = [f"tests/{name}" for name in names if (home / "tests" / name).exists()]
    which = "isru or page or missing or unexplained or every_operation or (print_what_they_say and functional)"
    return run(home, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", "--no-header", *files, "-k", which)


def test_the_walk_takes_at_most_three_files():
    assert len(STEPS) == 3 and len({file for file, _, _ in STEPS}) <= 3
    assert not re.search(r"\bisru\b", (ROOT / "tinygrad_z2g/nn/functional.py").read_text(encoding="utf-8"))


def test_the_operation_of_the_walk_passes_its_tests(copy):
    done = checked(copy)
    assert done.returncode == 0, done.stdout[-3000:]
    passed = int(re.search(r"(\d+) passed", done.stdout)[1])
    assert passed > 15 and "isru" in (copy / "tinygrad_z2g/API.md").read_text(encoding="utf-8")
    shown = run(copy, "-m", "tinygrad_z2g.learn", "isru")
    assert shown.returncode == 0 and "∂ │     return record(\"isru\"" in shown.stdout and ": ok" in shown.stdout


def test_the_glossary_is_short_and_its_words_are_those_of_the_code():
    words = re.findall(r"^\| ([\w, ]+) \| ", PAGE.partition("## Words")[2], re.M)[1:]
    assert 15 <= len(words) <= 20 and len(set(words)) == len(words)
    code = " ".join(path.read_text(encoding="utf-8") for path in (ROOT / "tinygrad_z2g").rglob("*.py"))
    for word in re.findall(r"\w+", " ".join(words)):
        assert len(re.findall(rf"\b{word}s?\b", code)) >= 5, word
    others = "widened lowered raised in_float32"  # which once stood for cast
    names = set(re.findall(r"(?:def |class |@)(\w+)", code))
    assert names & set(others.split()) == set()


def test_with_a_wrong_rule_they_fail(copy):
    path = copy / "tinygrad_z2g/nn/functional.py"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("grad / (1 + x * x) ** 1.5", "grad / (1 + x * x) ** 0.5"), encoding="utf-8")
    try:
        done = checked(copy, ("test_ops.py", "test_learn.py"))
    finally:
        path.write_text(text, encoding="utf-8")
    failed = re.findall(r"(?m)^FAILED tests/(\w+)\.py", done.stdout)
    assert done.returncode == 1 and {"test_ops", "test_learn"} <= set(failed), done.stdout[-3000:]
