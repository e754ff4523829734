"""What the source of an operation says about it: its formula, its rule as it is written, the numbers the rule reads.

Nothing of this is kept while operations are recorded. A rule is a function inside the function of its operation, so
the rule alone leads to the docstring (its own, or that of the operation around it); and the source shows which input
it belongs to: `record` is given `(input, rule)`. Where the source is missing, less is said.
"""

from __future__ import annotations

import inspect
import linecache
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ..core.engine import Node, Variable

SLOPE = re.compile(r"[∂d][zL]/[∂d](\w+)")  # a derivative, and what it is taken by
USUAL = {"input": "x", "self": "x", "other": "y", "exponent": "y"}  # the letters of these arguments in docstrings


class Reading(NamedTuple):
    """What was found: "z = x y.   ∂z/∂x = y,  ∂z/∂y = x", "y", "grad * x", [("x", array)]."""

    formula: str
    input: str
    code: str
    values: list[tuple[str, Any]]


def read(rule: Callable, numbers: list, node: Node, i: int) -> Reading:
    """What the source says of the rule with which `node` sends a gradient to its input number i; it reads `numbers`."""
    rule = inspect.unwrap(rule)  # anomaly detection wraps rules
    home = sys.modules.get(getattr(rule, "__module__", None) or "")
    maker: Any = home  # the function that the rule is written in
    for part in getattr(rule, "__qualname__", "").partition(".<locals>")[0].split("."):
        maker = getattr(maker, part, None)
    told = [inspect.getdoc(f) or "" for f in (rule, maker, getattr(home, node.name, None)) if inspect.isroutine(f)]
    docs = [*filter(SLOPE.search, told), *filter(None, told), ""]
    doc = docs[0]
    letters = list(dict.fromkeys(letter.rstrip("ᵢⱼₖ") for letter in SLOPE.findall(doc)))
    before, code = _body(rule)
    name = _argument(rule, maker, before, node, i)
    if name not in letters:
        letter = [letter for letter in letters if letter.lower() == name[:1]]
        name = letter[0] if letter else USUAL.get(name, name)
    name = name or (letters[i] if len(letters) == len(node.edges) else "input")
    return Reading(_sentences(doc), name, code.replace("of(grad).", ""), list(_values(rule, numbers)))


def _sentences(doc: str) -> str:
    """The first sentence, and the one with the derivative, or about the rule, if that is another."""
    first, *others = [re.sub(r"\s*\n\s*", " ", s) for s in re.split(r"(?<=[^.])\.(?:\s+|$)|\n\n", doc)]
    slopes = [s for s in others if SLOPE.search(s)] or [s for s in others if s.startswith("The rule")]
    return ".   ".join([first, *slopes[: not SLOPE.search(first)]]).replace("`", "")


def _argument(rule: Callable, maker: Any, before: str, node: Node, i: int) -> str:
    """What the operation itself calls its input number i; empty if that cannot be seen."""
    if not inspect.isroutine(maker):
        return ""
    if node.joint is not None:
        names = [p.name for p in inspect.signature(maker).parameters.values() if p.kind != p.VAR_POSITIONAL]
        return names[i] if i < len(names) else ""
    if rule.__name__ == "<lambda>":
        found = re.search(r"(?:\(|, )(\w+), lambda [^()]*$", before)
    else:
        after = "".join(linecache.getlines(rule.__code__.co_filename)[rule.__code__.co_firstlineno :])
        found = re.search(rf"(?:\(|, )(\w+), (?:linear_rule\([^,]*, )?{rule.__name__}\b", after)
    return found.group(1) if found else ""


def _body(rule: Callable) -> tuple[str, str]:
    """The source of a rule written as a lambda: what stands before its body on that line, and its body."""
    code = getattr(rule, "__code__", None)
    if code is None or code.co_name != "<lambda>" or not hasattr(code, "co_positions"):  # from Python 3.11
        return "", ""
    spots = [spot for spot in code.co_positions() if None not in spot and spot[2] != spot[3]]
    (first, start), (last, end) = min((s[0], s[2]) for s in spots), max((s[1], s[3]) for s in spots)
    lines = [line.encode() for line in linecache.getlines(code.co_filename)[first - 1 : last]] or [b""]
    before, lines[-1] = lines[0][:start], lines[-1][:end]  # columns count bytes
    return before.decode(), " ".join(b"".join([lines[0][start:], *lines[1:]]).decode().split())


def _values(
    rule: Callable, numbers: list | tuple = (), seen: frozenset[Callable] = frozenset()
) -> Iterator[tuple[str, Any]]:
    """The arrays and numbers that a rule is given beside the gradient, and those that it, or a function it calls,
    remembers (its closure)."""
    if not inspect.isfunction(rule) or rule in seen:
        return
    names = [name for name in inspect.signature(rule).parameters if name not in ("grad", "self")]
    for name, value in zip(names, numbers, strict=False):
        if name[0] == "_":  # watched, not used
            continue
        if hasattr(value, "strides") or type(value) in (int, float):
            yield name, value
    for name, value in inspect.getclosurevars(rule).nonlocals.items():
        value = value.array if isinstance(value, Variable) else value
        if inspect.isfunction(value):
            yield from _values(value, seen=seen | {rule})
        elif not inspect.ismodule(value) and (hasattr(value, "strides") or type(value) in (int, float)):
            yield name, value
