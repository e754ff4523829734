"""The backward pass told as a story: `loss.explain()`.

Nothing is computed here. `story` copies the graph between the loss and its leaves (the nodes, not the numbers), puts a
listener between the copy and the rules, and lets `engine.walk` walk the copy as it walks in every backward pass. So the
numbers told are those of backward, and the graph itself, every `.grad` and every hook stay untouched. What is said of
each operation is read from its source by `formula.py`.
"""

from __future__ import annotations

import copy
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from ..arrays.backend import Array, to_host
from ..core.engine import Node, Part, Variable, match, source
from ..walks.again import walk
from ..walks.asking import hooks_of, seed_gradient
from ..walks.paths import reachable
from .folding import Run, runs
from .formula import read

SMALL = 12  # so many numbers are printed in full
MANY_PATHS = 8  # of more parts of one gradient, the first and last two are told
Target = Any  # where a gradient goes: a Node, or a leaf
WIDTH = 116


def story(
    root: Variable, names: Any = None, *, to: Variable | None = None, level: int = 2, gradient: Variable | None = None,
    kind: type[Story] | None = None,
) -> Story:  # fmt: skip
    """The backward pass from `root` to the leaves it was computed from, or along the paths to `to` alone.

    names     what to call things: a module, or a dict with tensors and modules in it, such as locals()
    level     1: a line for each operation, .weight being the weight of the module named there.
              2: formulas and gradients, large tensors summarised; of steps that repeat, as in a net unrolled over
              time, the first and the last time. 3: all steps, all numbers
    gradient  ∂L/∂root, needed unless root has one element
    kind      who listens: a subclass of Story

    ValueError for another level, TypeError for other names, or a `to` that is no tensor. RuntimeError if `root` has
    no history, if its graph was used up by backward, or if it does not depend on `to`.
    """
    if level not in (1, 2, 3):
        raise ValueError(f"explain: level must be 1 (a line for each operation), 2 or 3 (all numbers), got {level!r}")
    if not (names is None or isinstance(names, Mapping) or hasattr(type(names), "named_modules")):
        raise TypeError(
            f"explain: names must be a module or a dict such as locals(), got {type(names).__name__}; "
            "to follow one tensor: explain(to=w); for more or fewer numbers: explain(level=1)"
        )
    if to is not None and not isinstance(to, Variable):
        raise TypeError(f"explain: `to` must be a Tensor, got {type(to).__name__}")
    if source(root) is root:
        raise RuntimeError(
            "explain: this tensor has no history, so there is nothing to explain: it was made by the user, detached, "
            "or computed under no_grad() or from tensors that need no gradient; call explain() on the loss"
        )
    start, end, seed = source(root), None if to is None else source(to), seed_gradient(root, gradient)
    told = (kind or Story)(root, names, level)
    standins: dict[Target, Any] = {} if to is None else {end: to.make(to.array)}  # what replaces what in the copy
    for node in reachable([start], end):
        if node.edges is None:
            raise RuntimeError(
                f"explain: the graph of this result was already used up at '{node.name}' by backward(); call explain() "
                "before it, or call it with retain_graph=True, or compute the result again"
            )
        for target in node.inputs():
            if end is None and isinstance(target, Variable) and target not in standins:
                standins[target] = target.make(target.array)
        if any(target in standins for target in node.inputs()):
            standins[node] = told.twin(node, standins)
    if to is not None and (start is end or start not in standins):
        hint = "" if to._requires_grad else ", which does not require grad"
        raise RuntimeError(f"explain: no path leads from here to `to`, a tensor of shape {tuple(to.array.shape)}{hint}")
    head = root.make(root.array)
    head.node = standins.pop(start)
    found, _, _ = walk([(head, seed)], retain_graph=False)
    told.ends = {target: told.show(found[twin]) for target, twin in standins.items() if twin in found}  # leaves
    for i, target in enumerate((x for x in told.ends if x not in told.names), 1):
        told.names[target] = f"x{i}" if to is None else "to"
    return told


class Step:
    """What was heard of one node of the walk."""

    def __init__(self, number: int, grad: str):
        self.number, self.grad, self.formula = number, grad, ""
        self.values: dict[str, str] = {}  # the numbers that the rules read
        self.sent: list[tuple[str, Target]] = []  # "∂L/∂x = grad * y = ...", and to whom


class Story:
    """What was heard, in the order of the walk. `str()` gives text, `markdown()` Markdown, which notebooks show."""

    def __init__(self, root: Variable, names: Any, level: int):
        self.root, self.level = root, level
        self.names, self.modules = _called(names)
        self.steps: dict[Node, Step] = {}
        self.arrivals: dict[Target, list[tuple[str, Node]]] = {}
        self.ends: dict[Target, str] = {}
        self.shortened = False  # whether some tensor was told by its norm alone

    def twin(self, node: Node, standins: dict[Target, Any]) -> Node:
        """A copy of `node` that reports here and leads to the stand-ins; an edge to what has none is left out."""
        twin = copy.copy(node)
        twin.asked = twin.twin = None
        live = [edge is not None and edge[0] in standins for edge in node.edges]
        twin.edges = [(standins[edge[0]], None, ()) if on else None for edge, on in zip(node.edges, live, strict=True)]

        def joint(grad: Array) -> list[Array | None]:
            rules: list[Any] = [node.joint or (None if edge is None else edge[1:]) for edge in node.edges]
            if node.joint:
                parts = node.joint[0](grad, *node.joint[1])
            else:
                parts = [on and rules[i][0](grad, *rules[i][1]) for i, on in enumerate(live)]
            parts = [match(p, node.edges[i][0]) if isinstance(p, Part) else p for i, p in enumerate(parts)]
            self.steps[node] = step = Step(len(self.steps) + 1, self.show(grad))
            for i, on in enumerate(live):
                if on and parts[i] is not None:
                    rule, numbers = rules[i]
                    self._hear(node, step, i, rule, numbers, grad, parts[i])
            return parts

        twin.joint = joint, ()
        return twin

    def _hear(self, node: Node, step: Step, i: int, rule: Callable, numbers: list, grad: Array, sent: Array) -> None:
        target = node.edges[i][0]
        part = match(sent, target)
        text = self.show(part)
        self.arrivals.setdefault(target, []).append((text, node))
        if self.level == 1:
            step.sent.append(("", target))
            return
        step.formula, name, code, values = read(rule, numbers, node, i)
        sizes = r"reshape\([^)]*\)"  # no part of the mathematics
        told = f" = {code}" if code and (len(re.sub(sizes, "", code)) <= 40 or self.level == 3) else ""
        if part.shape != sent.shape:
            told += f", summed to {tuple(part.shape)}"
        for key, value in values:
            words = step.formula + re.sub(sizes, "", told)
            if hasattr(value, "strides") or re.search(rf"\b{key}\b", words):
                shown = self.show(value)
                step.values[key if step.values.get(key, shown) == shown else f"{key} for ∂L/∂{name}"] = shown
        step.sent.append((f"∂L/∂{name}{told} = {text}", target))

    def show(self, array: Any) -> str:
        """Numbers in full, or what can be said of many in short."""
        host = to_host(array) if hasattr(array, "strides") else np.asarray(array)
        if host.size == 1 or (self.level > 1 and (host.size <= SMALL or self.level == 3)):
            four: Any = {"float_kind": lambda v: f"{v + 0:.4g}"}  # digits; + 0 makes 0 of -0
            text = np.array2string(host, sys.maxsize, separator=", ", threshold=sys.maxsize, formatter=four)
            return " ".join(text.split())
        self.shortened = True
        norm = f"norm {np.linalg.norm(host.astype(np.float64)):.4g}"
        if self.level == 1 or not host.size:
            return norm
        return f"{tuple(host.shape)}, {norm}, min {host.min():.4g}, max {host.max():.4g}"

    # --- Telling -------------------------------------------------------------------------------------------------

    def __str__(self) -> str:
        lines = [self._head()]
        for title, place, formula, body in self._chapters():
            lines += ["", f"{title:<39} {place}".rstrip()] if title else []
            lines += [f"   {line}" for line in (*textwrap.wrap(formula, WIDTH), *body)]
        return "\n".join(lines + self._foot())

    __repr__ = __str__

    def markdown(self) -> str:
        """The same for a document: a heading for each step, formulas and numbers as code."""
        lines = [self._head()]
        for title, place, formula, body in self._chapters():
            lines += [f"\n### {title}"] if title else []
            lines += ["\n`" + line.replace("`", "'") + "`" for line in (place, formula) if line]
            lines += ["\n```", *body, "```"]
        return "\n".join(lines + self._foot())

    _repr_markdown_ = markdown

    def _head(self) -> str:
        name = self.names.get(source(self.root), "L")
        value = ("" if name == "L" else f"{name} = ") + self.show(self.root.array)
        norm = " The norm of g is √Σg²." if self.shortened else ""
        return f"L = {value}. In each step, z is the result and grad = ∂L/∂z.{norm}"

    def _foot(self) -> list[str]:
        noted = all(hasattr(node, "site") for node in self.steps)
        lines = [] if noted else ["\n(Run the forward pass `with z2g.trace():` and each step shows its source line.)"]
        if self.level == 2 and any(run.times > 1 for run in self._runs()):
            lines.append("\n(Of what repeats, the first and the last time is told; explain(level=3) tells all.)")
        return lines

    def _chapters(self) -> Iterator[tuple[str, str, str, list[str]]]:
        """A title, the line of the program, the formula and the lines of numbers of each step; then of the leaves."""
        if self.level == 1:
            rows = [self._row(node, step) for node, step in self.steps.items()]
            widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
            cells = [[f"{cell:<{n}}" for cell, n in zip(row, widths, strict=True) if n] for row in rows]
            lines = [f"{name} → {'  '.join(middle)} → {goes}" for name, *middle, goes in cells]
            yield "", "", "", [line.rstrip() for line in lines]
        nodes = list(self.steps)
        for run in self._runs() if self.level > 1 else ():
            first, last = run.start, run.start + run.length * (run.times - 1)
            yield from map(self._chapter, nodes[first : first + run.length])
            if run.times > 1:
                between = nodes[first + run.length : last]
                names = textwrap.shorten(", ".join(n.name for n in between[: run.length]), 60, placeholder=" ...")
                times = f"{run.times - 2} times the same {run.length} steps" if run.length > 1 else "the same step"
                yield f"{self._refer(between[0])} … {self._refer(between[-1])}", "", f"{times}: {names}", []
                yield from map(self._chapter, nodes[last : last + run.length])
        body = []
        for x, total in self.ends.items():  # a summary has the shape in it
            body += self._sum(f"{self.names[x] if total[0] == '(' else self._title(x)}: ", x, total)
        inside = [f"∂L/∂{self.names[x]}" for x in self.ends if isinstance(x, Node)]  # `to`, unless it is a leaf
        yield f"At the end: {(inside or ['what backward() adds to .grad'])[0]}", "", "", body

    def _runs(self) -> list[Run]:
        """The steps, what repeats being counted; at level 3 nothing is taken for a repetition."""
        return runs([node if self.level == 3 else self._look(node) for node in self.steps])

    def _look(self, node: Node) -> tuple:
        """Steps that agree in this are repetitions of each other: operation, shapes, formula, line of the program."""
        step, place = self.steps[node], getattr(node, "site", None)
        line = place and (place.code, place.instruction)
        sent = tuple(what.partition(" = ")[0] for what, _ in step.sent)
        arrived = len(self.arrivals.get(node, ()))
        hooked = bool(hooks_of(node))
        return node.name, tuple(node.shape), step.formula, sent, arrived, hooked, self.names.get(node), line

    def _chapter(self, node: Node) -> tuple[str, str, str, list[str]]:
        """What is told of one step."""
        step = self.steps[node]
        body = self._sum("grad = ", node, step.grad)
        for name, value in step.values.items():
            fits = len(body[-1] + name + value) < WIDTH
            body[-1:] = [f"{body[-1]},  {name} = {value}"] if fits else [body[-1], f"with {name} = {value}"]
        body += ["(backward() will call this tensor's hooks, which may change grad)"] if hooks_of(node) else []
        body += [f"{what}   → {self._refer(target)}" for what, target in step.sent]
        file, line, owner = self._where(node)
        place = f"{file}  {textwrap.shorten(line, WIDTH - 40, placeholder=' ...')}  {owner}".strip()
        return f"{self._refer(node)} → {self._title(node)}", place, step.formula, body

    def _row(self, node: Node, step: Step) -> tuple[str, ...]:
        """The columns of a step at level 1; the parameters of its own module by their last names: .weight."""
        file, _, owner = self._where(node)
        path = owner.strip("[]").partition(": ")[0]
        to = dict.fromkeys(target for _, target in step.sent)
        own = re.compile(rf"^{re.escape(path)}(?=\.)")
        goes = ", ".join(self._refer(x) if x in self.steps else own.sub("", self.names[x]) for x in to)
        (grad,) = self._sum("grad ", node, step.grad)
        return self._refer(node), self._title(node), grad, file, path, goes

    def _sum(self, start: str, target: Target, total: str) -> list[str]:
        """The gradient that a node or a leaf receives; where several paths meet, their parts and the +=."""
        parts = self.arrivals.get(target, [])
        if self.level == 1 or len(parts) < 2:
            return [start + total + (f" (+= of {len(parts)})" if len(parts) > 1 else "")]
        signs = [start, *["+= ".rjust(len(start))] * (len(parts) - 1)]
        lines = [f"{sign}{part}   from {self._refer(node)}" for sign, (part, node) in zip(signs, parts, strict=True)]
        if self.level < 3 and len(lines) > MANY_PATHS:
            lines[2:-2] = [f"{'…'.rjust(len(start) - 1)} {len(lines) - 4} more"]
        return [*lines, "= ".rjust(len(start)) + total]

    def _refer(self, target: Target) -> str:
        return f"{self.steps[target].number}. {target.name}" if target in self.steps else self.names[target]

    def _title(self, target: Target) -> str:
        shape = target.shape if isinstance(target, Node) else target.array.shape
        return f"{self.names.get(target, '')} {tuple(shape)}".strip()

    def _where(self, node: Node) -> tuple[str, str, str]:
        """File and line, the line itself, and the module, as far as they were noted."""
        if (place := getattr(node, "site", None)) is None:
            return "", "", ""
        module = place.module and place.module()
        path = f"{self.modules[id(module)]}: " if self.modules.get(id(module)) else ""
        owner = "" if module is None else f"[{path}{type(module).__name__}]"
        return f"{os.path.basename(place.code.co_filename)}:{place.line}", place.marked, owner


def _called(names: Any) -> tuple[dict[Target, str], dict[int, str]]:
    """What the tensors and the modules in `names` are called; of two names the first counts."""
    tensors: dict[Target, str] = {}
    modules: dict[int, str] = {}
    for name, thing in [("", names)] if hasattr(type(names), "named_modules") else list((names or {}).items()):
        if isinstance(thing, Variable) and not name.startswith("_"):
            tensors.setdefault(thing if thing.node is None else thing.node, name)
        elif hasattr(type(thing), "named_modules"):
            for path, parameter in thing.named_parameters(prefix=name):
                tensors.setdefault(parameter, path)
            for path, module in thing.named_modules(prefix=name):
                modules.setdefault(id(module), path)
    return tensors, modules
