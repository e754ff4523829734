"""Examples of the rows of the table, drawn once and used by every property.

To draw an example takes Hypothesis 2 ms, to compute it with its gradient 0.3 ms in most rows: so each process draws
those of a row once. Only when a property fails is it searched again, by Hypothesis, for an example as small as can be.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

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
    found: list[tuple[Case, int]] = []

    @settings(max_examples=n, phases=[Phase.generate])
    @given(op.cases, SEEDS)
    def draw(case: Case, seed: int) -> None:
        frozen([case.inputs, case.kwargs])
        found.append((case, seed))

    draw()
    return found


def spread(found: list, n: int) -> list:
    """n of them, from the first to the last."""
    return [found[i * len(found) // n] for i in range(n)] if n < len(found) else found


def holds(op: Op, check: Check, n: int = 10**9, again: str = "") -> None:
    """check(case, seed) passes on n examples, or on all; `again` is the function, and whence, that runs one again."""

    def line(case: Case, seed: int) -> str:
        return f"To see it again, in tests/: from {again.replace('.', ' import *; ')}({op.name!r}, {case}, {seed})"

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
