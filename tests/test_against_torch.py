"""benchmarks/against_torch.py without torch: ours against copies of ours with a mistake, to be found and shrunk."""

from __future__ import annotations

import ast
import random
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import tinygrad_z2g as z2g

ROOT = Path(__file__).parent.parent


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import against_torch

    return against_torch


def copy_of_ours(functional: dict[str, Any] | None = None, **wrong: Any) -> SimpleNamespace:
    """The library with some functions replaced."""
    changed = SimpleNamespace(**{**vars(z2g.nn.functional), **(functional or {})})
    nn = SimpleNamespace(**{**vars(z2g.nn), "functional": changed})
    return SimpleNamespace(**{**vars(z2g), "nn": nn, **wrong})


MISTAKES = {
    "value": ({"cat": lambda parts, dim=0: z2g.cat(list(parts)[::-1], dim)}, r"torch\.cat"),
    "gradient": ({"stack": lambda parts, dim=0: z2g.stack([p.detach() for p in parts], dim)}, r"torch\.stack"),
    "scale": ({"functional": {"silu": lambda x: z2g.nn.functional.silu(x) * 1.001}}, r"F\.silu"),
    "layout": ({"ones_like": lambda x: z2g.ones(x.shape[::-1], dtype=x.dtype).T}, r"torch\.ones_like"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_found_and_shrunk_to_few_lines(check: Any, name: str) -> None:
    wrong, called = MISTAKES[name]
    found = check.hunt(copy_of_ours(**wrong), z2g, seed=1, programs=300, kinds=1, say=lambda text: None)
    assert found and all(re.search(called, "\n".join(lines)) for lines, _ in found.values())
    assert min(len(lines) for lines, _ in found.values()) <= 4


def test_an_exception_too_many_is_found(check: Any) -> None:
    def refuses(x: Any, *args: Any, **kwargs: Any) -> Any:
        raise ValueError("not today")

    said: list[str] = []
    found = check.hunt(copy_of_ours(functional={"gelu": refuses}), z2g, seed=1, programs=300, kinds=1, say=said.append)
    lines, difference = min(found.values(), key=lambda pair: len(pair[0]))
    assert len(lines) <= 2 and difference.aspect == "here ValueError, there no error"
    assert "not today" in said[0] and "F.gelu(" in said[1]
    ast.parse(said[1])  # it pastes as it is


def test_ours_does_not_differ_from_itself(check: Any) -> None:
    said: list[str] = []
    assert check.hunt(z2g, z2g, seed=3, programs=40, say=said.append) == {}
    assert said == ["40 programs, seed 3: 0 kinds of differences"]  # nothing counts as deliberate either


def test_every_template_can_be_filled(check: Any) -> None:
    """Each line is tried until it fits some program, spoiled lines too, and parses."""
    from benchmarks import program_lines, programs

    rng, pair, unused = random.Random(0), check.Pair(z2g, z2g), set()
    for family in (program_lines.TENSORS, program_lines.MODULES, program_lines.TRAINING):
        unused |= {line for _, lines in family for line in lines}
    for number in range(60):
        pair.restart()
        writer = programs.Writer(rng, pair.names[1])
        for line in writer.start():
            pair.step(line)
        for template in [line for _, lines in writer.family for line in lines]:
            try:
                line = writer.fill(template)
            except programs.UnfitError:
                continue
            unused.discard(template)
            ast.parse(line), ast.parse(writer.spoiled(line))
            if number % 8 == 0 and not check.too_wild(pair.names[1], rng):
                pair.step(line)
    assert unused == set()


def test_the_deliberate_differences_are_few_and_give_reasons(check: Any) -> None:
    reasons = [reason for _, _, reason in check.DELIBERATE]
    assert len(set(reasons)) == len(reasons) < 30 and all(len(reason) > 10 for reason in reasons)
    said = check.Difference("x[1]", "here IndexError, there no error", "here IndexError: too large; there no error")
    assert said.deliberate() is None  # a refusal of ours alone counts, unless a row names it
