"""`play`: the forward and the backward pass as a page, one step at a time.

Two things are put together here, and neither is computed anew. What happens in the backward pass is what `explain`
hears: `_Listener` only keeps the arrays as well, of which a `Story` keeps the text. Where things stand is what `draw`
decides, once for each way of folding the modules. The page shows both beside each other, and moves through them. It
knows nothing of rules or of pixels.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ...arrays.backend import Array, to_host
from ...core.engine import Node, Variable
from ...nn import Module
from ...tensor import Tensor
from ...walks.asking import hooks_of
from ..draw.graph import ENOUGH, count, draw, root_of, variables_of
from ..draw.layout import Box
from ..draw.tracing import Call, Input, notes
from ..draw.writing import Card, Frame, curve
from ..explain import Step, Story, story
from ..notebook import table
from .document import Page, check_path

SCRIPTS = ["picture.js", "panel.js", "film.js"]
LONGEST = 500  # operations in a page: 5 MB and about 10 seconds to make; nobody steps through more


def play(
    what: Tensor | Callable, *args: Any, path: str | os.PathLike[str] | None = None,
    title: str = "Backprop, step by step",
) -> Page:
    """Forward and backward pass as a web page with a time slider: `z2g.play(loss, "backprop.html")`.

        z2g.play(loss, "backprop.html")           # in a notebook z2g.play(loss) shows it
        z2g.play(model, x, path="backprop.html")  # calls the model itself
        with z2g.trace(), z2g.draw.tracing(model):
            loss = F.mse_loss(model(x), y)
        z2g.play(loss, "backprop.html")

    Forward, the values appear in the order of computation; backward, the gradient arrives at each operation, with its
    formula and the numbers put in, and its parts go out to the inputs, with a += where two paths meet. The numbers are
    those of `loss.explain()`, the picture is that of `z2g.draw(loss)`, and both say what they need: `trace` notes
    source lines, `draw.tracing` modules and the values in between. Nothing is consumed or changed. Tensors are called
    as the caller's variables and the parameters of the modules among these.

    Returns the page; the `path` may also be the last argument. TypeError for something that is neither a
    tensor nor callable; RuntimeError if nothing was recorded, if backward() has used up the graph, or if the result is
    not one number; ValueError for a file name that does not end in .html, or more than 500 operations; OSError if the
    file cannot be written.
    """
    if path is None and args and (isinstance(what, Tensor) or str(args[-1]).endswith(".html")):
        args, path = args[:-1], args[-1]
    if path is not None:
        check_path(path)
    variables = variables_of(sys._getframe(1))
    named = any(value is what for value in variables.values())
    module = what if isinstance(what, Module) and not named else None
    root = root_of("play", what, args, variables)
    made = Page(title, "play", SCRIPTS, {"title": title, **_Film(root, variables, module).data()})
    if path is not None:
        made.save(path)
    return made


class _Numbers(str):
    """What a story shows of an array, with the array."""

    array: Any


class _Listener(Story):
    """A story that keeps the arrays it was told of."""

    def show(self, array: Any) -> str:
        """The text, which is all that a story needs, and the array with it."""
        text = _Numbers(super().show(array))
        text.array = to_host(array) if hasattr(array, "strides") else np.asarray(array)
        return text


def _array_of(text: str) -> Any:
    """The array that a `_Listener` said this of."""
    return getattr(text, "array", None)


class _Film(draw):
    """The picture, whose gradients are those of the story, and everything else that the page needs."""

    def __init__(self, root: Tensor, variables: dict[str, Any], module: Module | None):
        names = variables if module is None else {**variables, "model": module}
        if root.is_leaf:
            raise RuntimeError("play: this tensor was not computed, so there is nothing to play; call it on the loss")
        if root.array.size != 1:
            raise RuntimeError(f"play: expected one number, such as a loss, got shape {tuple(root.array.shape)}")
        self._told = story(root, names, kind=_Listener)
        if len(self._told.steps) > LONGEST:
            raise ValueError(
                f"play: {len(self._told.steps):,} operations are too many to step through, at most {LONGEST:,}; "
                "take a smaller model, or draw(loss)"
            )
        self._look(root, names)
        self._leaves = list(dict.fromkeys(x for node in self._nodes for x in node.inputs() if isinstance(x, Variable)))
        self._given_tensors = list(dict.fromkeys(given for given, _ in self._given))
        self._keys: dict[Any, int] = {x: i for i, x in enumerate([*self._leaves, *self._given_tensors, *self._nodes])}
        self._tables: dict[str, int] = {}  # each table once, as many gradients pass through unchanged

    def _differentiate(self, root: Tensor) -> None:
        """The gradients were heard already."""
        self._caption = f"{count(len(self._nodes), 'operation')}, {count(len(self._told.ends), 'leaf', 'leaves')}"
        self._grads = {node: _array_of(step.grad) for node, step in self._told.steps.items()}
        self._grads |= {leaf: _array_of(total) for leaf, total in self._told.ends.items()}

    def data(self) -> dict[str, Any]:
        """All that the page is given."""
        items = [self._item(x) for x in self._keys]
        views, start = self._views()
        noted = any(node in notes for node in self._nodes)
        hints = [] if noted else ["Record `with z2g.draw.tracing(model):` to see modules, and the values in between."]
        if any(not hasattr(node, "site") for node in self._nodes):
            hints.append("Record `with z2g.trace():` to see the lines of the program.")
        return {
            "caption": self._caption, "hints": hints, "items": items, "views": views, "start": start,
            "forward": [self._keys[node] for node in self._nodes],
            "backward": [self._keys[node] for node in self._told.steps],
            "tables": [json.loads(text) for text in self._tables],
        }  # fmt: skip

    # --- What there is to tell of each tensor ---------------------------------------------------------------------

    def _table(self, array: Array | dict[str, Any] | None) -> int | None:
        """The number of a table of these values."""
        if array is None:
            return None
        text = json.dumps(array if isinstance(array, dict) else table(to_host(array)))
        return self._tables.setdefault(text, len(self._tables))

    def _item(self, x: Node | Variable | Input) -> dict[str, Any]:
        """A leaf, an input or a node, with the step of the story in which it is told."""
        shape = list(x.array.shape if isinstance(x, Variable) else x.shape)
        item: dict[str, Any] = {"kind": "input", "name": "input", "shape": shape}
        if isinstance(x, Input):
            tensor = x.tensor()
            name = "input" if tensor is None else self._names.get(tensor, "input")
            return {**item, "name": name, "value": self._table(x.table)}
        total = self._told.ends.get(x) if isinstance(x, Variable) else None
        item |= {"kind": "leaf", "name": self._name_of(x), "parts": self._parts(x)}
        if isinstance(x, Variable):
            grad = {"text": total, "table": self._table(_array_of(total))} if total else None
            return {**item, "value": self._table(x.array), "grad": grad}
        file, line, owner = self._told._where(x)
        item |= {"kind": "operation", "operation": x.name, "where": file, "line": line, "module": owner}
        item |= {"inputs": [self._keys[source] for source in x.inputs()], "value": self._value(x)}
        item["calls"] = [call.name for call in self._calls[x]]
        step = self._told.steps.get(x)
        return item if step is None else {**item, **self._step(x, step)}

    def _step(self, node: Node, step: Step) -> dict[str, Any]:
        """What `explain` tells of a node."""
        reads = [[name, str(text), self._table(_array_of(text))] for name, text in step.values.items()]
        sent = [[text, self._keys[target]] for text, target in step.sent]
        grad = {"text": str(step.grad), "table": self._table(_array_of(step.grad))}
        return {"number": step.number, "grad": grad, "formula": step.formula, "reads": reads, "sent": sent,
                "hooks": bool(hooks_of(node))}  # fmt: skip

    def _parts(self, x: Node | Variable) -> list[list[Any]]:
        """The gradients that arrive at a node or a leaf: text, from whom, table; in the order of their arrival."""
        heard = self._told.arrivals.get(x, [])
        return [[str(text), self._keys[node], self._table(_array_of(text))] for text, node in heard]

    def _value(self, node: Node) -> int | None:
        """What a node computed, if that was noted or somebody still holds it."""
        if node in notes:
            return self._table(notes[node].table)
        return self._table(self._held.get(node))

    def _name(self, root: Tensor, variables: dict[str, Any]) -> None:
        super()._name(root, variables)
        tensors = [root, *(v for v in variables.values() if isinstance(v, Tensor))]
        self._held = {x.node: x.array for x in tensors if x.node is not None}

    def _name_of(self, x: Node | Variable) -> str:
        name = self._told.names.get(x, "")
        return name or ("" if isinstance(x, Node) else self._names.get(x, "tensor"))

    # --- The pictures ---------------------------------------------------------------------------------------------

    def _views(self) -> tuple[dict[str, Any], str]:
        """The picture, folded in each of the ways that the page offers; and which of them it begins with.

        "0", "1", ... have so many levels of modules open, up to all of them. "blocks.0" has that module open besides
        what the first picture has.
        """
        modules = list(_modules(self._top, 0))
        levels = max((level for _, level in modules), default=-1) + 1
        first = next((d for d in range(levels, 1, -1) if self._count(self._top, d, ()) <= ENOUGH), min(1, levels))
        views = {str(depth): self._view(depth, "") for depth in range(levels + 1)}
        views |= {name: self._view(first, name) for name, level in modules if level >= first}
        for view in views.values():
            for box in view["boxes"]:  # one that is not opened by itself opens with its whole level
                level = box.pop("level")
                if box["open"] is not None and box["open"] not in views:
                    box["open"] = str(level + 1)
        return views, str(first)

    def _view(self, depth: int, name: str) -> dict[str, Any]:
        """One picture: boxes, frames and lines, with the numbers of the items that they stand for."""
        self._lay_out(depth, (name,) if name else ())
        members: dict[Box, list[int]] = {}
        calls: dict[Box, Call] = {}  # the outermost that a box stands for
        for thing, box in self._box.items():
            if isinstance(thing, Call):
                calls.setdefault(box, thing)
            else:
                members.setdefault(box, []).append(self._keys[thing])
        boxes: dict[Card, dict[str, Any]] = {}
        frames: list[dict[str, Any]] = []

        def add(frame: Frame, level: int, outer: str) -> None:
            for box in frame.parts:
                called = calls[box].name if box in calls else ""
                edges = {"x": box.x, "y": box.y, "w": box.width, "h": box.height}
                place = {edge: round(pixels, 1) for edge, pixels in edges.items()}
                if isinstance(box, Frame):
                    # What was opened by level closes with its level, what was opened by name back to the one around it
                    frames.append({**place, "title": box.title, "close": str(level) if level < depth else outer})
                    add(box, level + 1, called if level >= depth else str(depth))
                elif isinstance(box, Card):
                    inside = members[box]
                    boxes[box] = {
                        **place, "kind": box.kind, "title": box.title, "shape": box.shape, "texts": box.texts,
                        "copies": box.copies, "items": inside, "open": called if len(inside) > 1 else None,
                        "level": level,
                    }  # fmt: skip

        add(self._frame, 0, str(depth))
        number: dict[Box, int] = {box: i for i, box in enumerate(boxes)}
        lines = [
            {"d": curve(line), "from": number[line.source], "ends": line.ends,
             "to": sorted({i for head in line.heads for i in self._cards(head, number)})}
            for line in self._lines
        ]  # fmt: skip
        return {
            "width": round(self._frame.width), "height": round(self._frame.height), "boxes": list(boxes.values()),
            "frames": frames, "lines": lines,
        }  # fmt: skip

    def _cards(self, box: Box, number: dict[Any, int]) -> Iterator[int]:
        """The numbers of a card, or of those in a frame."""
        if box in number:
            yield number[box]
        for part in box.parts:
            yield from self._cards(part, number)


def _modules(group: Any, level: int) -> Iterator[tuple[str, int]]:
    """The names of the calls that can be folded, each once, with the number of frames around."""
    for member in group.members:
        if hasattr(member, "everything") and len(list(member.everything())) > 1:
            yield member.call.name, level
            yield from _modules(member, level + 1)
