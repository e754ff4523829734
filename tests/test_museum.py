"""The museum of bugs: each exhibit proves its own claim, fits on a page and says what is wrong.

An exhibit asserts that its check exposes the mistake and passes what is right; here it runs, with warnings as errors.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

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


@pytest.mark.parametrize("exhibit", EXHIBITS, ids=NAMES)
def test_exhibit(exhibit):
    environment = {**os.environ, "PYTHONPATH": str(MUSEUM.parent.parent), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", exhibit]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    words = [line[:8].strip() for line in done.stdout.splitlines()]
    assert [word for word in words if word] == ["seen", "check", "fix"]


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
