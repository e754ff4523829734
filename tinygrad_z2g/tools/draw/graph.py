"""`draw`: the recorded graph as a picture. This file decides what is in it.

A card is an operation together with its result (shape, value, gradient), or a leaf; a frame is one call of a module.
The graph itself keeps neither the numbers between its operations nor the modules that called them; `tracing.py` writes
both down on request. `layout.py` decides where things stand, and `writing.py` writes them as SVG or DOT: this file
knows nothing of pixels.
"""

from __future__ import annotations

import itertools
import math
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ...arrays.backend import Array, of
from ...arrays.random import default_generator
from ...core.engine import Node, Variable, source
from ...nn import Module, Parameter
from ...tensor import Tensor
from ...walks.again import walk
from ...walks.modes import enable_grad
from ...walks.paths import reachable
from ..folding import runs
from . import writing
from .layout import place
from .tracing import Call, Input, norm, notes, numbers, tracing
from .writing import Card, Frame

ENOUGH = 25  # cards in a picture before modules are folded


class _Members:
    """What happened: nodes, leaves, inputs, and the groups of the calls inside, in order of time."""

    def __init__(self) -> None:
        self.members: list[Any] = []

    def everything(self) -> Iterator[Any]:
        """All nodes, leaves and inputs in here, those of the calls inside too."""
        for member in self.members:
            yield from member.everything() if isinstance(member, _Members) else (member,)

    def calls(self) -> list[Call]:
        """The calls inside."""
        return list(itertools.chain(*(member.calls() for member in self.members if isinstance(member, _Members))))

    def nodes(self) -> list[Node]:
        """All nodes in here, in order of time."""
        return [member for member in self.everything() if isinstance(member, Node)]


class _Group(_Members):
    """What happened during one call."""

    def __init__(self, call: Call):
        super().__init__()
        self.call = call

    def calls(self) -> list[Call]:
        """The call and those inside."""
        return [self.call, *super().calls()]

    def looks(self) -> list:
        """Two groups that look the same are called copies: their operations and leaves agree in name and shape."""
        return [type(self.call.module), *((getattr(m, "name", ""), _shape(m)) for m in self.everything())]


class _Again(_Members):
    """What happened between the first and the last of many times the same: `times` times `length` members."""

    def __init__(self, members: list[Any], length: int):
        super().__init__()
        self.members, self.length, self.times = members, length, len(members) // length


def _start(around: _Members | None) -> str:
    """What the names inside a call begin with: `blocks.0.`; nothing outside of all modules."""
    return f"{around.call.name}." if isinstance(around, _Group) and around.call.name else ""


class draw:
    """The graph behind a tensor as a picture: `draw(loss)`, or `draw(model, x)`, which calls the model itself.

        z2g.draw(loss).save("graph.svg")             # or graph.dot; in a notebook, draw(loss) alone shows it
        z2g.draw(model, x, depth=1).save("model.svg")
        with z2g.draw.tracing(model):
            loss = F.mse_loss(model(x), y)
        z2g.draw(loss)

    The last two know more than the first: which module made what, and the values in between. Gradients are those of
    this result, if it is one number; no `.grad` changes, no hook runs, no random number is used up. Tensors that need
    no gradient are not in a graph; those given to a traced module are drawn dashed. Names are those of the model's
    parameters and of the caller's variables.

    depth: how many levels of modules to open; None opens as many as make a picture of at most 25 cards. open: names
    of modules to open besides, as ["blocks.0"]. Equal folded modules that follow each other are drawn as one. If there
    are still more cards, what repeats at least four times, as in a net unrolled over time, is drawn the first and the
    last time, with one card for those between; any `depth` draws it all.

    TypeError for something that is neither a tensor nor callable, and for a depth or names of another type; ValueError
    for a negative depth, and for a module that was not called; RuntimeError if nothing was recorded, or if backward()
    has used up the graph.
    """

    tracing = tracing

    def __init__(self, what: Any, *args: Any, depth: int | None = None, open: tuple[str, ...] | list[str] = ()):
        _check(depth, open)
        variables = variables_of(sys._getframe(1))
        self._look(root_of("draw", what, args, variables), variables)
        names = {call.name for calls in self._calls.values() for call in calls}
        if not set(open) <= names:
            raise ValueError(f"draw: open names {sorted(set(open) - names)}; the modules called are {sorted(names)}")
        self._lay_out(depth, open)

    def __repr__(self) -> str:
        return f'<draw: {self._caption}; .save("graph.svg"), .svg(), .dot()>'

    def _repr_svg_(self) -> str:
        return self.svg()

    # --- What is to be shown --------------------------------------------------------------------------------------

    def _look(self, root: Tensor, variables: dict[str, Any]) -> None:
        """Find all that can be shown: nodes, names, values, gradients, and the calls that they belong to."""
        self._root = source(root)
        self._nodes = _history(root)
        self._calls = {node: notes[node].calls if node in notes else () for node in self._nodes}
        self._name(root, variables)
        self._differentiate(root)
        self._top = self._group()

    def _lay_out(self, depth: int | None, open: Any) -> None:
        """Decide what is opened, and place the boxes."""
        top = self._top
        if depth is None:
            depth = next((d for d in range(9, 1, -1) if self._count(self._top, d, open) <= ENOUGH), 1)
            if self._count(top, depth, open) > ENOUGH:
                top = self._shortened(top)
        self._box: dict[Any, Card | Frame] = {}  # what shows a node, a leaf, an input or a call
        self._frame = Frame("", self._boxes(top, depth, open))
        pairs = [*self._given, *((source, node) for node in self._nodes for source in node.inputs())]
        self._edges = [(a, b) for a, b in {(self._box[a], self._box[b]): None for a, b in pairs} if a is not b]
        self._lines = place(self._frame, self._edges)
        self._hints = []  # how to read the picture, and how to get a better one
        if any(text.startswith("|") for box in self._box.values() if isinstance(box, Card) for _, text in box.texts):
            self._hints.append("|value|, |grad|: the norm √(Σ x²)")
        if top is not self._top and any(isinstance(member, _Again) for member in top.members):
            self._hints.append("what repeats is drawn the first and the last time: depth=9 draws all")
        if self._nodes and not any(node in notes for node in self._nodes):
            lines = any(hasattr(node, "site") for node in self._nodes)
            found = "lines noted by trace(), point at a card; " if lines else "not traced: "
            self._hints.append(f"{found}draw.tracing(model) adds modules and values")

    def _name(self, root: Tensor, variables: dict[str, Any]) -> None:
        """Names and values of leaves and nodes, from the notes, the modules and the variables of the caller."""
        self._names: dict[Any, str] = {}
        self._values: dict[Any, tuple[str, str]] = {n: notes[n].text for n in self._nodes if n in notes}
        for name, value in [("", root), *variables.items()]:
            if isinstance(value, Tensor):
                key = source(value)
                if name and key not in self._names:
                    self._names[key] = name
                self._values[key] = numbers(value.array)
        self._modules = {value: name for name, value in variables.items() if isinstance(value, Module)}
        traced = {calls[0].module: "" for calls in self._calls.values() if calls}
        for module, prefix in [*traced.items(), *self._modules.items()]:
            for name, parameter in module.named_parameters(prefix=prefix):
                self._names.setdefault(parameter, name)

    def _differentiate(self, root: Tensor) -> None:
        """∂root/∂everything, or a note that says why not. Hooks are off meanwhile: looking must not change anything."""
        inputs = [source for node in self._nodes for source in node.inputs()]
        leaves = list(dict.fromkeys(x for x in inputs if isinstance(x, Variable))) or [root]
        self._grads: dict[Any, Array] = {}
        self._caption = f"{count(len(self._nodes), 'operation')}, {count(len(leaves), 'leaf', 'leaves')}"
        if root.array.size != 1:
            self._caption += f"; no gradients: the result has shape {_shape(root)}, not one number"
            return
        owners: list[Any] = [*self._nodes, *leaves]
        asked = [(owner, owner.asked) for owner in owners]
        try:
            for owner, _ in asked:
                owner.asked = None
            self._grads = walk([(root, of(root.array).ones_like(root.array))], True, set(owners))[0]
        except RuntimeError as error:  # a tensor was changed in place since
            self._caption += f"; no gradients: {error}"
        finally:
            for owner, before in asked:
                owner.asked = before

    def _group(self) -> _Members:
        """The tree of calls, with all nodes, leaves and inputs in it."""
        homes: dict[Any, tuple[Call, ...]] = dict(self._calls)  # a leaf goes where all of its users are
        for node, calls in self._calls.items():
            for leaf in node.inputs():
                if isinstance(leaf, Variable):
                    both = zip(homes.get(leaf, calls), calls, strict=False)
                    homes[leaf] = tuple(a for a, b in both if a is b)
        self._given = {(given, call): None for calls in self._calls.values() for call in calls for given in call.inputs}
        homes |= {given: given.home for given, _ in self._given}
        groups: dict[Call | None, _Members] = {None: _Members()}
        if not self._nodes:
            groups[None].members.append(self._root)
        done = set()
        for node in self._nodes:
            given = [given for call in self._calls[node] for given in call.inputs]
            for member in [*given, *node.inputs(), node]:
                if id(member) in done:
                    continue
                done.add(id(member))
                around: Call | None = None
                for call in homes[member]:
                    if call not in groups:
                        groups[call] = _Group(call)
                        groups[around].members.append(groups[call])
                    around = call
                groups[around].members.append(member)
        return groups[None]

    # --- Cards and frames -----------------------------------------------------------------------------------------

    def _shortened(self, group: _Members) -> _Members:
        """The group with one member in place of all but the first and the last of many times the same."""

        def look(member: Any) -> tuple:
            if isinstance(member, _Group):
                return type(member.call.module), tuple(map(look, member.everything()))
            return getattr(member, "name", None), _shape(member), self._names.get(member)

        short = _Members()
        for run in runs([look(member) for member in group.members]):
            members = group.members[run.start : run.start + run.length * run.times]
            if run.times > 1:
                members[run.length : -run.length] = [_Again(members[run.length : -run.length], run.length)]
            short.members += members
        return short

    def _opened(self, group: _Group, depth: int, open: Any) -> bool:
        """Whether a group is drawn as a frame: by its depth, or because it or one inside it is to be open."""
        return depth > 0 or any(name == group.call.name or name.startswith(_start(group)) for name in open)

    def _count(self, group: _Members, depth: int, open: Any) -> int:
        """How many cards there would be."""
        groups = [member for member in group.members if isinstance(member, _Group)]
        inside = sum(self._count(g, depth - 1, open) if self._opened(g, depth, open) else 1 for g in groups)
        return len(group.members) - len(groups) + inside

    def _boxes(self, group: _Members, depth: int, open: Any) -> list[Card | Frame]:
        boxes: list[Card | Frame] = []
        run: list[_Group] = []  # folded groups that follow each other and look the same
        for member in [*group.members, None]:
            if isinstance(member, _Again):
                boxes += [self._folded(run, group)] if run else []
                boxes.append(self._again(member))
                run = []
                continue
            foldable = isinstance(member, _Group) and len(list(member.everything())) > 1
            folded = foldable and not self._opened(member, depth, open)
            if run and not (folded and member.looks() == run[0].looks()):
                boxes.append(self._folded(run, group))
                run = []
            if folded:
                run.append(member)
            elif foldable:
                boxes.append(Frame(self._title(member, group), self._boxes(member, depth - 1, open)))
                self._box[member.call] = boxes[-1]
            elif isinstance(member, _Group):  # a layer of one operation is a card, not a frame around a card
                boxes.append(self._single(member.nodes()[0], self._title(member, group)))
                self._box |= dict.fromkeys(member.calls(), boxes[-1])
            elif member is not None:
                boxes.append(self._single(member, self._names.get(member, ""), group))
        return boxes

    def _title(self, group: _Group, parent: _Members) -> str:
        """`attention · CausalSelfAttention`, the name as seen from the module around it."""
        call = group.call
        name = call.name.removeprefix(_start(parent)) or self._modules.get(call.module, "")
        return f"{name} · {type(call.module).__name__}" if name else type(call.module).__name__

    def _lines_of(self, key: Any, value: tuple[str, str] | None) -> list[tuple[str, str]]:
        """Value and gradient, as pairs of a CSS class and a text."""
        grad = numbers(self._grads[key]) if key in self._grads else None
        lines = [("v", f"{value[0].format('value')} {value[1]}")] if value else []
        return lines + ([("g", f"{grad[0].format('grad')} {grad[1]}")] if grad else [])

    def _single(self, member: Any, name: str, group: _Members | None = None) -> Card:
        """The card of a node, a leaf or an input."""
        if isinstance(member, Node):
            kind, value = "operation", self._values.get(member)
            title = name if name and not group else f"{name} = {member.name}" if name else member.name
        elif isinstance(member, Input):
            kind, value, tensor = "input", member.value, member.tensor()
            title = "input" if tensor is None else self._names.get(tensor, "input")
        else:
            kind, value = "parameter" if isinstance(member, Parameter) else "leaf", numbers(member.array)
            title = name.removeprefix(_start(group)) or kind
        kind = "result" if member is self._root else kind
        tip = f"{getattr(member, 'name', kind)} {name}".strip()
        if (spot := getattr(member, "site", None)) is not None:  # noted by trace()
            tip += f"  {Path(spot.code.co_filename).name}:{spot.line}  {spot.source}"
        card = Card(kind, title, str(_shape(member)), self._lines_of(member, value), tip)
        self._box[member] = card
        return card

    def _folded(self, run: list[_Group], parent: _Members) -> Card:
        """The card of one folded module, or of several that look the same."""
        members = [member for group in run for member in group.everything()]
        nodes, last = run[0].nodes(), run[-1].nodes()[-1]
        parameters = [m for m in members if isinstance(m, Variable)]
        title = self._title(run[0], parent)
        if len(run) > 1:
            title = f"{title.partition(' · ')[0]} … {self._title(run[-1], parent)}"
        what = [count(len(nodes), "operation")]
        if parameters:
            what.append(count(sum(p.array.size for p in parameters) // len(run), "parameter"))
        lines = [("s", ", ".join(what) + (" each" if len(run) > 1 else ""))]
        lines += self._lines_of(last, self._values.get(last))
        if parameters and all(p in self._grads for p in parameters):
            total = math.hypot(*(norm(self._grads[p]) for p in parameters))
            lines.append(("g", f"|grad| of parameters {total:.4g}"))
        tip = f"{run[0].call.name}: {run[0].call.module!r}"
        kind = "result" if last is self._root else "folded"
        card = Card(kind, title, str(_shape(last)), lines, tip, len(run))
        self._box |= dict.fromkeys([*members, *(call for group in run for call in group.calls())], card)
        return card

    def _again(self, group: _Again) -> Card:
        """The card of what repeats."""
        nodes = group.nodes()
        each = [node.name for node in nodes[: len(nodes) // group.times]]
        texts = [("s", textwrap.shorten(", ".join(each), 40, placeholder=" …"))]
        last = nodes[-1]
        texts += self._lines_of(last, self._values.get(last))
        title = f"{group.times} × the same {count(len(each), 'operation')}"
        card = Card("folded", title, str(_shape(last)), texts, f"{group.times} × {', '.join(each)}", group.times)
        self._box |= dict.fromkeys([*group.everything(), *group.calls()], card)
        return card

    # --- Writing it down ------------------------------------------------------------------------------------------

    def svg(self) -> str:
        """The picture as SVG."""
        return writing.svg(self._frame, self._lines, [self._caption, *self._hints])

    def dot(self) -> str:
        """The graph in the DOT language of Graphviz, for other programs to lay out."""
        return writing.dot(self._frame, self._edges)

    def save(self, path: str | Path) -> None:
        """Write a file: SVG or DOT, by its suffix. ValueError for another one."""
        writers = {".svg": self.svg, ".dot": self.dot}
        suffix = Path(path).suffix
        if suffix not in writers:
            raise ValueError(f"save: expected a name that ends in .svg or .dot, got {str(path)!r}")
        Path(path).write_text(writers[suffix](), encoding="utf-8")


def _check(depth: Any, open: Any) -> None:
    """TypeError, or ValueError, unless depth is an int >= 0 or None, and open a list or tuple of names."""
    if depth is not None and (isinstance(depth, bool) or not isinstance(depth, int)):
        raise TypeError(f"draw: depth must be an int or None, got {type(depth).__name__} {depth!r}")
    if depth is not None and depth < 0:
        raise ValueError(f"draw: depth must be >= 0, the number of levels of modules to open, got {depth}")
    if not isinstance(open, (list, tuple)) or not all(isinstance(name, str) for name in open):
        raise TypeError(f"draw: open must be a list of names, as ['blocks.0'], got {type(open).__name__} {open!r}")


def variables_of(frame: Any) -> dict[str, Any]:
    """The variables that the code in a frame sees, without those that begin with _."""
    return {k: v for k, v in {**frame.f_globals, **frame.f_locals}.items() if not k.startswith("_")}


def root_of(what_for: str, what: Any, args: tuple, variables: dict[str, Any]) -> Tensor:
    """The tensor whose graph is meant: `what` itself, or what it returns, called under tracing."""
    if isinstance(what, Tensor) and not args:
        root = what
    elif callable(what):
        root = _result_of(what, args, [v for v in variables.values() if isinstance(v, Module)])
    else:
        raise TypeError(f"{what_for}: expected a Tensor, or a callable and its arguments, got {type(what).__name__}")
    if not root.requires_grad:
        raise RuntimeError(
            f"{what_for}: this tensor does not require grad and has no history; there is no graph to draw"
        )
    return root


def _result_of(function: Callable, args: tuple, modules: list[Module]) -> Tensor:
    """What a callable returns, computed under tracing: of several tensors, the first that is one number."""
    state = default_generator.get_state()
    try:
        with enable_grad(), tracing(*([function] if isinstance(function, Module) else modules)):
            result = function(*args)
    finally:
        default_generator.set_state(state)
    results = [r for r in (result if isinstance(result, (tuple, list)) else [result]) if isinstance(r, Tensor)]
    if not results:
        raise TypeError(f"draw: the callable returned {type(result).__name__}, expected a Tensor or a tuple with one")
    return next((r for r in results if r.requires_grad and r.array.size == 1), results[0])


def _history(root: Tensor) -> list[Node]:
    """All nodes that the root was computed by, in order of time."""
    nodes = reachable([source(root)])
    for node in nodes:
        if node.edges is None:
            raise RuntimeError(
                f"draw: the graph was used up at '{node.name}' by backward(); draw before it, or call "
                "backward(retain_graph=True)"
            )
    return nodes


def count(n: int, one: str, many: str = "") -> str:
    """ "1 leaf", "2 leaves"."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def _shape(x: Any) -> tuple[int, ...]:
    return tuple(x.array.shape if isinstance(x, Variable) else x.shape)
