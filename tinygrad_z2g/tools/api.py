"""`python -m tinygrad_z2g.tools.api` writes the names on the page API.md anew: each with its signature and a line.

The names are those that a module lists in `__all__`, or else defines, or re-exports if it is a package; the line is the
first of the docstring. What stands on the page outside of the two marks is written by hand, and stays.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import types
from pathlib import Path
from typing import Any

import tinygrad_z2g as z2g

NAME = z2g.__name__
PAGE = Path(__file__).parent.parent / "API.md"
MARKS = "<!-- written by python -m tinygrad_z2g.tools.api -->\n", "<!-- written by hand from here on -->\n"
SPACES = (
    "", "Tensor", "nn", "nn.Module", "nn.functional", "nn.init", "nn.utils", "nn.utils.rnn", "optim",
    "optim.lr_scheduler", "optim.swa_utils", "autograd", "autograd.functional", "func", "linalg", "distributions",
    "random", "amp", "utils.data", "cuda", "distributed", "text", "models",
)  # fmt: skip


def space(name: str) -> Any:
    """The module or class of this name."""
    if name in ("Tensor", "nn.Module"):
        return {"Tensor": z2g.Tensor, "nn.Module": z2g.nn.Module}[name]
    return importlib.import_module(f"{NAME}.{name}".rstrip("."))


def offered(name: str) -> list[str]:
    """The public names of a module or class, in order, without regard to case."""
    thing = space(name)
    if hasattr(thing, "__all__"):
        names = set(thing.__all__)
    else:
        names = {n for n, value in vars(thing).items() if n[0] != "_" and not isinstance(value, types.ModuleType)}
        if inspect.ismodule(thing) and not hasattr(thing, "__path__"):
            names = {n for n in names if getattr(getattr(thing, n), "__module__", "") == thing.__name__}
    return sorted(names, key=lambda n: (n.lower(), n))


def signature(thing: Any) -> str:
    """Its parameters with their defaults; nothing for what is not called, or does not say."""
    if not callable(thing) or isinstance(thing, property):
        return ""
    try:
        parameters = list(inspect.signature(thing).parameters.values())
    except (TypeError, ValueError):
        return ""
    told, starred = [], False
    for p in parameters:
        if p.name == "self":
            continue
        if p.kind is p.KEYWORD_ONLY and not starred:
            told.append("*")
        starred |= p.kind in (p.KEYWORD_ONLY, p.VAR_POSITIONAL)
        star = "*" if p.kind is p.VAR_POSITIONAL else "**" if p.kind is p.VAR_KEYWORD else ""
        plain = p.default is None or isinstance(p.default, (bool, int, float, str, tuple, list, dict))
        told.append(star + p.name + ("" if p.default is p.empty else f"={p.default!r}" if plain else "=..."))
    return f"({', '.join(told)})"


def line(thing: Any) -> str:
    """What its docstring says first; of a value what it is."""
    own = inspect.isroutine(thing) or inspect.isclass(thing) or isinstance(thing, property)
    if not own:
        return f"the {type(thing).__name__} {thing}" if isinstance(thing, float) else f"the dtype {thing}"
    first = (inspect.getdoc(thing) or "").partition("\n\n")[0].partition(">>>")[0]
    return " ".join(first.split())


def rows(name: str) -> list[str]:
    """A line for each name of a module or class; methods that are functions of the package are named together."""
    thing, lines, same = space(name), [], []
    for word in offered(name):
        value = inspect.getattr_static(thing, word)
        value = value.__func__ if isinstance(value, (staticmethod, classmethod)) else value
        if name == "Tensor" and inspect.isfunction(value) and getattr(z2g, word, None) is value:
            same.append(f"`{word}`")
        elif (first := getattr(value, "__name__", word)) != word and vars(thing).get(first) is value:
            lines.append(f"- `{word}`: the same as `{first}`")
        else:
            told = line(value)
            lines.append(f"- `{word}{signature(value)}`" + (f": {told}" if told else ""))
    if same:
        lines += ["", "And as methods what stands above as functions: " + " ".join(same)]
    return lines


def written() -> str:
    """What belongs between the marks."""
    parts = ["\n".join([f"## {f'{NAME}.{name}'.rstrip('.')}", "", *rows(name), ""]) for name in SPACES]
    return "\n".join(parts) + "\n"


def page(old: str) -> str:
    """The page with its names as they are now."""
    head, found, rest = old.partition(MARKS[0])
    tail = rest.partition(MARKS[1])[2]
    if not found or not tail:
        raise ValueError(f"{PAGE.name}: expected the two marks {MARKS[0].strip()} and {MARKS[1].strip()}")
    return f"{head}{MARKS[0]}\n{written()}{MARKS[1]}{tail}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    sys.stdout.write(f"{PAGE}\n")
