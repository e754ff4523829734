"""`python -m tinygrad_z2g.learn`: the operations; `learn softmax`: one of them, explained, run and checked.

`learn path`: the order in which to read the source. `learn why`: where common questions are answered. Plain text when
piped, coloured on a terminal unless NO_COLOR is set. Exit code 2 for an unknown name, 1 if an example or a gradient is
not what it should be. This file prints; it knows nothing of how an operation's parts are found or what a file holds.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import doctest
import io
import os
import sys
import textwrap

import tinygrad_z2g as z2g
from tinygrad_z2g import nn
from tinygrad_z2g.nn import functional as F

from ...fast import forms
from ..console import report
from ..gradcheck import compare
from ..gradcheck.cases import cases
from . import reading, source
from .source import Operation, Piece, Thing

WIDTH = 110
SHORT = 30  # lines of a fast form that are shown; of a longer one, where it stands
BOLD, DIM, GREEN, RED = 1, 2, 32, 31


def paint(text: str, *styles: int) -> str:
    """The text in a style, on a terminal; as it is when piped or when NO_COLOR is set and not empty."""
    if not text or not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    return f"\033[{';'.join(map(str, styles))}m{text}\033[0m"


def filled(text: str, indent: int) -> str:
    """The text in lines of at most WIDTH, all but the first indented."""
    return textwrap.fill(text, WIDTH, initial_indent=" " * indent, subsequent_indent=" " * indent).lstrip()


# --- The operations ----------------------------------------------------------------------------------------------


def listing() -> str:
    """All operations, file by file, with their formulas."""
    table = source.operations().values()
    lines = [f"{len(table)} operations. For one of them: python -m tinygrad_z2g.learn NAME", ""]
    for module in source.FAMILIES:
        lines.append(paint(str(source.path_of(module).relative_to(source.PACKAGE.parent)), BOLD))
        for op in table:
            if op.module == module:
                lines.append(f"  {op.name:22} {'' if op.recorded else '(composed)  '}{op.formula}")
    lines += ["", "(composed): no rule of its own; it is made of others, and autograd does the rest.",
              "python -m tinygrad_z2g.learn path    the order in which to read the source",
              "python -m tinygrad_z2g.learn why     questions, and where they are answered"]  # fmt: skip
    return "\n".join(lines)


def shown(piece: Piece, note: str = "") -> list[str]:
    """A function with line numbers; "∂" marks the lines that state a gradient rule."""
    lines = [paint(source.title(piece.path, piece.first), BOLD) + paint(f"   {note}" if note else "", DIM)]
    for number, text, is_rule in piece.lines():
        lines.append(f"{number:5} {'∂' if is_rule else ' '} │ {paint(text, GREEN) if is_rule else text}".rstrip())
    return lines


def example(doc: str) -> tuple[list[str], bool]:
    """The example of a docstring run now, and whether it printed what the docstring says."""
    names: dict = {"z2g": z2g, "nn": nn, "F": F}
    lines, right = [], True
    for part in doctest.DocTestParser().get_examples(doc):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(part.source, "<example>", "single"), names)
        lines += [f"  >>> {part.source.rstrip()}", *(f"  {line}" for line in printed.getvalue().splitlines())]
        right &= printed.getvalue() == part.want
    return lines, right


def checked(op: Operation) -> tuple[list[str], bool]:
    """Its gradient against central differences, in the cases of `gradcheck`, and whether all agree."""
    others = {other.name for other in source.operations().values() if other.name != op.name}
    wanted = {source.key(name) for name in (op.name, *(op.names - others))}
    lines, right = [], True
    for name, fn, inputs in cases():
        if source.key(name) in wanted:
            report = compare(fn, inputs)
            verdict = paint("ok", GREEN) if not report.failures else paint(f"FAILED: {report.message}", RED)
            shapes = " ".join(str(tuple(x.shape)) for x in inputs)
            found = f"{report.derivatives} derivatives, worst error {report.error:.0e}"
            lines.append(f"  {name} of {shapes}: {found}: {verdict}")
            right &= not report.failures
    return lines, right


def explanation(op: Operation) -> tuple[str, bool]:
    """Formula, derivation, source, example and check of one operation; and whether example and check are right."""
    prose = doctest.DocTestParser().parse(op.doc)
    text = "".join(part for part in prose if isinstance(part, str)).strip()
    formula, _, rest = text.partition("\n")
    first, *others = op.pieces
    owner = (
        "one column, as in the file; ∂ marks the rule"
        if op.recorded
        else "composed: no rule of its own, autograd does the rest"
    )
    lines = [paint(f"{op.name}:  {formula}", BOLD), *([rest.rstrip()] if rest.strip() else []), ""]
    lines += [f"Forward and rule ({owner})", "", *shown(first), ""]
    if others:
        lines += ["What they call", ""]
        for piece in others:
            lines += [*shown(piece, first_line(piece)), ""]
    lines += form(op)
    if op.wider:
        lines += ["Functions of the same name that take more, and end in this one", ""]
        for piece in op.wider:
            stated = source.states_a_rule(piece)
            told = [f"{source.title(piece.path, piece.first)}   {first_line(piece)}"]
            lines += [*(shown(piece, first_line(piece)) if stated else told), ""]
    ran, right = example(op.doc)
    measured, agree = checked(op)
    lines += ["The example, run now" + ("" if right else paint(" (NOT what the docstring says)", RED)), "", *ran, ""]
    lines += ["The gradient, checked now against central differences (float64)", ""]
    lines += measured or ["  no case of its own in gradcheck/cases.py"]
    return "\n".join(lines), right and agree


def first_line(piece: Piece) -> str:
    """What a function says of itself, in its first paragraph."""
    return " ".join(piece.doc.partition("\n\n")[0].partition(">>>")[0].split())


def form(op: Operation) -> list[str]:
    """The fast form that takes the place of an operation of the core: where it stands, and its text, where short."""
    if not op.form:
        return []
    first, *others = op.form
    now = "left out now, by TINYGRAD_Z2G_PLAIN=1" if forms.plain() else "TINYGRAD_Z2G_PLAIN=1 leaves it out"
    lines = [f"The fast form that takes its place ({now})", "", *short(first)]
    if others:
        lines += ["What it calls", ""]
        for piece in others:
            lines += short(piece)
    return lines


def short(piece: Piece) -> list[str]:
    """A function with its lines, if they are at most SHORT; else where it stands."""
    if len(piece.lines()) <= SHORT:
        return [*shown(piece, first_line(piece)), ""]
    where = f"{source.title(piece.path, piece.first)}   {piece.node.name}, {len(piece.lines())} lines:"
    return ["  " + filled(f"{where} {first_line(piece)}", 2), ""]


def description(thing: Thing) -> str:
    """What is no operation: docstring, source, what it calls, and where it stands in the reading."""
    first, *others = thing.pieces
    lines = [paint(thing.name, BOLD), "", thing.doc, "", "Source", "", *shown(first), ""]
    if others:
        lines += ["What it calls", ""]
        for piece in others:
            lines += [*shown(piece, first_line(piece)), ""]
    if around := source.put_on(thing):
        lines += ["What is put on it from other rooms", "", *(f"  {line}" for line in around), ""]
    lines += ["Reading", ""]
    files = {piece.path for piece in thing.pieces}
    for number, step in enumerate(reading.steps(), 1):
        if source.path_of(step.module) in files:
            file = source.path_of(step.module).relative_to(source.PACKAGE)
            lines.append("  " + filled(f"step {number} of `learn path`, {file}: {step.look}", 2))
    for question, _, places in reading.QUESTIONS:
        if any(source.path_of(module) == first.path for module, _ in places):
            lines.append("  " + filled(f"`learn why` answers: {question}", 2))
    return "\n".join(lines)


# --- Reading -----------------------------------------------------------------------------------------------------


def path() -> str:
    """The order in which to read the source, with current line counts."""
    steps = reading.steps()
    pace = {reading.READ: "read", reading.OPEN: "open"}
    share = {word: f"{sum(s.lines for s in steps if s.pace == n):,}" for n, word in pace.items()}
    lines = [
        filled(
            f"Of {sum(s.lines for s in steps):,} lines, {share['read']} are to 'read', every line (the blank ones are "
            f"counted), at {reading.READ} a minute: that is the evening. Files of {share['open']} lines are to 'open' "
            "by need: the first paragraph, which says what a file is for, at "
            f"{reading.OPEN}. By these assumed paces that is about {sum(s.minutes for s in steps) / 60:.1f} hours. "
            "Nothing is used before it was read, or explained under 'For now'.",
            0,
        )
    ]
    number = 0
    for part, files in reading.path().items():
        lines += ["", paint(f"{part}  ({round(sum(s.minutes for s in files))} min)", BOLD)]
        for step in files:
            number += 1
            file = str(source.path_of(step.module).relative_to(source.PACKAGE))
            minutes = f" {round(step.minutes) or '<1':>3} min" if step.pace == reading.READ else ""
            lines.append(f"{number:3}  {file:34}{step.lines:4} lines  {pace[step.pace]}{minutes}")
            lines.append("     " + filled(step.look, 5))
            lines += ["     " + filled(f"For now, {module}: {what}.", 5) for module, what in step.later.items()]
    return "\n".join([*lines, "", "Questions, and where they are answered: python -m tinygrad_z2g.learn why"])


def path_of_a_gpt() -> str:
    """The lines that run when a small GPT trains and generates, file by file, in the order of `path`."""
    ran, fast_too = reading.lines_of_a_gpt(TINYGRAD_Z2G_PLAIN="1"), reading.lines_of_a_gpt(TINYGRAD_Z2G_PLAIN="0")
    total, others = (sum(map(len, lines.values())) for lines in (ran, fast_too))
    core = sum(len(lines) for file, lines in ran.items() if source.PACKAGE / "core" in source.Path(file).parents)
    pace = 10  # lines a minute, assumed: code that is new, with its docstrings beside it
    told = (
        f"When a small GPT trains for three steps, is clipped, updated by AdamW and generates, {total:,} lines of "
        f"functions in {len(ran)} files run with the plain forms of operations (TINYGRAD_Z2G_PLAIN=1), and {core:,} of "
        f"them, {core / total:.0%}, stand in core/. (Counted now, with NumPy alone; docstrings, `def` lines and "
        f"imports are not counted.) At {pace} such lines a minute, an assumed pace for code read with its docstrings, "
        f"that is about {total / pace / 60:.1f} hours. With the fast forms, which a program takes "
        f"by itself, {others:,} lines in {len(fast_too)} files run."
    )
    lines = [filled(told, 0), ""]
    rows = {str(path): ran.pop(str(path), set()) for path in map(source.path_of, reading.modules())} | ran
    for file, numbers in rows.items():
        if numbers:
            minutes = round(len(numbers) / pace) or "<1"
            name = str(source.Path(file).relative_to(source.PACKAGE))
            lines.append(f"{name:28}{len(numbers):4} lines  {minutes:>3} min  {spans(numbers)}")
    return "\n".join([*lines, "", "The whole source, in order: python -m tinygrad_z2g.learn path"])


def spans(numbers: set[int]) -> str:
    """Where the lines stand, in short: runs that are less than ten lines apart are one."""
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and number - found[-1][1] < 10:
            found[-1][1] = number
        else:
            found.append([number, number])
    text = ", ".join(f"{first}-{last}" if first < last else str(first) for first, last in found)
    return textwrap.shorten(text, WIDTH - 50, placeholder=" ...")


def why() -> str:
    """Questions, answers, and the lines where they stand."""
    lines = []
    for question, answer, places in reading.QUESTIONS:
        lines += [paint(question, BOLD), "  " + filled(answer, 2)]
        lines += [f"  -> {reading.locate(*place)}" for place in places] + [""]
    return "\n".join(lines).rstrip()


def main(argv: list[str] | None = None) -> int:
    """Print what is asked for. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tinygrad_z2g.learn", description="What each operation computes, "
                                     "how its gradient comes about, and how to read the source.")  # fmt: skip
    parser.add_argument(
        "topic",
        nargs="?",
        help="an operation (softmax, F.gelu, nn.LayerNorm), another name (Adam, backward), 'path' or 'why'",
    )
    parser.add_argument("--gpt", action="store_true", help="with `path`: only the lines that run when a GPT is trained")
    args = parser.parse_args(argv)
    topic = args.topic
    right = True
    if args.gpt and topic != "path":
        parser.error("--gpt belongs to `path`: python -m tinygrad_z2g.learn path --gpt")
    if args.gpt:
        text = path_of_a_gpt()
    elif topic in (None, "path", "why"):
        text = {None: listing, "path": path, "why": why}[topic]()
    else:
        op = source.find(topic)
        thing = None if op else source.find_thing(topic)
        if thing:
            text = description(thing)
        elif op is None:
            known = {source.key(name): name for op in source.operations().values() for name in (*op.names, op.name)}
            close = difflib.get_close_matches(source.key(topic), [*known, "path", "why"])
            hint = f"; did you mean {', '.join(known.get(name, name) for name in close)}?" if close else "."
            parser.error(f"no operation {topic!r}{hint} Without a name this lists them all")
        else:
            text, right = explanation(op)
    report(text)
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
