"""Examples of the rows of the table, drawn once and used by every property.

To draw an example takes Hypothesis 2 ms, to compute it with its gradient 0.3 ms in most rows: so those of a row are
drawn once. Only when a property fails is it searched again, by Hypothesis, for an example as small as can be.
"""

from __future__ import annotations

import functools
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from hypothesis import Phase, given, note, settings
from op_row import Op
from strategies import SEEDS, Case

Check = Callable[[Case, int], None]


def frozen(value: Any) -> None:
    """No property may write into what the others see: arrays, also within tuples, lists and dicts, are read-only."""
    if isinstance(value, np.ndarray):
        value.flags.writeable = False
    elif isinstance(value, (list, tuple, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            frozen(part)


def examples(op: Op) -> list[tuple[Case, int]]:
    """As many cases as the profile says, each with a seed for randomness that is not data."""
    return drawn(op, settings().max_examples)


@functools.cache
def drawn(op: Op, n: int) -> list[tuple[Case, int]]:
    """Those of all processes of one run of pytest, which share a folder, are drawn by the first that needs them."""
    path = Path(os.environ["DRAWN_EXAMPLES"]) / f"{n}_{quote(op.name, safe='')}"
    if path.exists():
        found = pickle.loads(path.read_bytes())
    else:
        found = draw(op, n)
        made = path.with_name(f"{path.name}.{os.getpid()}")
        made.write_bytes(pickle.dumps(found))
        made.replace(path)
    frozen([[case.inputs, case.kwargs] for case, _ in found])
    return found


def draw(op: Op, n: int) -> list[tuple[Case, int]]:
    """n examples, fewer where there are not as many."""
    found: list[tuple[Case, int]] = []

    @settings(max_examples=n, phases=[Phase.generate])
    @given(op.cases, SEEDS)
    def note_down(case: Case, seed: int) -> None:
        found.append((case, seed))

    note_down()
    return found


def spread(found: list, n: int) -> list:
    """n of them, from the first to the last."""
    return [found[i * len(found) // n] for i in range(n)] if n < len(found) else found


def holds(op: Op, check: Check, n: int = 10**9, again: str = "") -> None:
    """check(case, seed) passes on n examples, or on all; `again` is the function, and whence, that runs one again."""

    def line(case: Case, seed: int) -> str:
        how = f"To see it again, in tests/: from {again.replace('.', ' import *; ')}" if again else "It fails with "
        return f"{how}({op.name!r}, {case}, {seed})"

    for case, seed in spread(examples(op), n):
        try:
            check(case, seed)
        except (Exception, pytest.fail.Exception) as error:
            smallest(op, check, line)
            raise AssertionError(f"{line(case, seed)}\n(no smaller example was found)") from error


def smallest(op: Op, check: Check, line: Callable[[Case, int], str]) -> None:
    """Raise what `check` raises at the smallest example where it fails, if there is one among many."""

    @settings(max_examples=10 * settings().max_examples)
    @given(op.cases, SEEDS)
    def search(case: Case, seed: int) -> None:
        note(line(case, seed))
        check(case, seed)

    search()
