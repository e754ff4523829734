"""Finding operations in the source: where each is written, which lines are its rule, and what else belongs to it.

The files are read as text and as syntax trees, so what is shown is what is there, line numbers included. It knows
nothing of what a function computes, only the forms in which this package writes a rule: `lambda grad, y: ...` and
`def rule(grad, y): ...`, handed to `record`, `record_view` or `record_joint`; and two rules that many share.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import kernels

PACKAGE = Path(__file__).parent.parent
NAME = PACKAGE.name
FAMILIES = (
    "ops.unary", "ops.elementwise", "ops.reduction", "ops.softmax", "ops.sorting", "ops.linalg", "ops.shape",
    "ops.indexing", "tensor", "nn.functional", "nn.losses", "nn.window", "nn.rotary", "nn.recurrent",
    "nn.quantized",
)  # fmt: skip
RECORD = {"record", "record_view", "record_joint"}
SHARED = {"flat", "unchanged"}  # rules that stand elsewhere: no gradient, and the same gradient
FUNCTION = (ast.FunctionDef, ast.Lambda)


def path_of(module: str) -> Path:
    """The file of a module: "nn.linear" -> tinygrad_z2g/nn/linear.py, "nn" -> tinygrad_z2g/nn/__init__.py."""
    path = PACKAGE.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def title(path: Path, line: int) -> str:
    """A place as an editor understands it: tinygrad_z2g/engine.py:64."""
    return f"{path.relative_to(PACKAGE.parent)}:{line}"


@functools.cache
def parsed(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Piece:
    """A function as it stands in its file: the lines without the docstring, and which of them state a gradient rule."""

    path: Path
    node: ast.FunctionDef
    whole: bool = False  # called by a rule, so that all of it is one

    @property
    def doc(self) -> str:
        """The docstring."""
        return ast.get_docstring(self.node) or ""

    @property
    def first(self) -> int:
        """The number of its first line, decorators included."""
        return min([self.node.lineno, *(d.lineno for d in self.node.decorator_list)])

    def rules(self) -> list[ast.AST]:
        """The functions in it that take `grad`."""
        inner = [n for n in ast.walk(self.node) if isinstance(n, FUNCTION) and n.args.args[:1]]
        return [n for n in inner if n.args.args[0].arg == "grad"]

    def lines(self) -> list[tuple[int, str, bool]]:
        """(number, text, whether a rule stands there) of each line but the docstring's."""
        text = self.path.read_text(encoding="utf-8").splitlines()
        first = self.node.body[0]
        doc = range(first.lineno, first.end_lineno + 1) if ast.get_docstring(self.node) else ()
        marked = {i for rule in self.rules() for i in range(rule.lineno, rule.end_lineno + 1)}
        marked |= {n.lineno for n in ast.walk(self.node) if isinstance(n, ast.Name) and n.id in SHARED}
        numbers = (i for i in range(self.first, self.node.end_lineno + 1) if i not in doc)
        return [(i, text[i - 1], self.whole or i in marked) for i in numbers]


@dataclass(frozen=True)
class Operation:
    """One operation: a public function that states a gradient rule, or is composed of others and shows its gradient.

    `pieces` holds the function, and the functions beside it that state a part of the rule or that a rule calls;
    `recorded` the names that it leaves in the graph, if it owns a rule.
    """

    name: str
    module: str
    pieces: tuple[Piece, ...]
    recorded: frozenset[str]

    @property
    def doc(self) -> str:
        """The docstring: formula, derivation, example."""
        return self.pieces[0].doc

    @property
    def formula(self) -> str:
        """The first line of the docstring."""
        return self.doc.partition("\n")[0]

    @property
    def function(self) -> Any:
        """The function itself."""
        home = importlib.import_module(f"{NAME}.{self.module}")
        return getattr(home.Tensor if self.module == "tensor" else home, self.name.rpartition(".")[2])


def mentioned(tree: ast.AST) -> set[str]:
    """Every name in a tree: `f`, and `kernels.f` for the one module whose functions an operation does not import."""
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    attributes = (ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute))
    return names | {text for text in attributes if re.fullmatch(r"kernels\.\w+", text)}


def states_a_rule(piece: Piece) -> bool:
    """Whether the function hands a rule to `record` itself."""
    return bool(RECORD & mentioned(piece.node))


@functools.cache
def operations() -> dict[str, Operation]:
    """All operations by name, file by file in the order in which they stand there."""
    found: dict[str, Operation] = {}
    for module in FAMILIES:
        path = path_of(module)
        body = parsed(path).body
        if module == "tensor":
            body = next(node.body for node in body if isinstance(node, ast.ClassDef) and node.name == "Tensor")
        functions = {node.name: Piece(path, node) for node in body if isinstance(node, ast.FunctionDef)}
        for name, piece in functions.items():
            if name[0] != "_" and ">>>" in piece.doc:
                stating = _stating(name, functions)
                recorded = _recorded(stating) if any(map(states_a_rule, stating)) else frozenset()
                title = f"F.{name}" if name in found else name
                found[title] = Operation(title, module, (*stating, *_further(stating, module)), recorded)
    return found


def _stating(name: str, functions: dict[str, Piece]) -> list[Piece]:
    """The function, and the private ones in its file that state its rule for it, or make the rule that it states."""
    helpers = (functions[n] for n in sorted(mentioned(functions[name].node)) if n[0] == "_" and n in functions)
    return [functions[name], *(helper for helper in helpers if states_a_rule(helper) or helper.rules())]


def _further(stating: list[Piece], module: str) -> list[Piece]:
    """What the rules call: functions of the package that state no rule themselves, and all kernels that are used."""
    home, found = vars(importlib.import_module(f"{NAME}.{module}")), {}
    for piece in stating:
        rules = piece.rules()
        inside = set().union(*map(mentioned, rules))
        calls = {ast.unparse(n.func) for rule in rules for n in ast.walk(rule) if isinstance(n, ast.Call)}
        for n in ast.walk(piece.node):
            if isinstance(n, ast.Assign) and mentioned(n.targets[0]) & calls:  # stacked, add_back = _columns(...)
                inside |= mentioned(n.value)
        for name in sorted(inside | {n for n in mentioned(piece.node) if n.startswith("kernels.")}):
            thing = getattr(kernels, name.partition(".")[2]) if name.startswith("kernels.") else home.get(name)
            place = getattr(thing, "__module__", "") if inspect.isfunction(thing) else ""
            if place.startswith(NAME) and place != f"{NAME}.backend":
                part = piece_of(thing, name.startswith("kernels.") and name in inside)
                if not states_a_rule(part) and part not in stating:
                    found[name] = part
    return list(found.values())


def piece_of(function: Any, whole: bool = False) -> Piece:
    """Where a function object is written."""
    path = Path(inspect.getsourcefile(inspect.unwrap(function)))
    named = (n for n in ast.walk(parsed(path)) if isinstance(n, ast.FunctionDef) and n.name == function.__name__)
    return Piece(path, next(named), whole)


def _recorded(stating: list[Piece]) -> frozenset[str]:
    """The names that go into the graph: the first argument of `record`, or of the helper that passes it on."""
    makers = RECORD | {piece.node.name for piece in stating}
    calls = (n for piece in stating for n in ast.walk(piece.node) if isinstance(n, ast.Call) and n.args)
    first = (call.args[0] for call in calls if ast.unparse(call.func) in makers)
    names = {arg.value for arg in first if isinstance(arg, ast.Constant) and isinstance(arg.value, str)}
    return frozenset(names or {stating[0].node.name})  # @unary records under the function's own name


def key(name: str) -> str:
    """A name without what people may leave out or write otherwise: nn.LayerNorm, F.layer_norm -> layernorm."""
    return name.rpartition(".")[2].lower().replace("_", "")


def find(name: str) -> Operation | None:
    """The operation of this name: its own (also as `F.gelu`, `nn.GELU`), that in the graph (`attention`), an alias."""
    table = operations()
    if name in table:
        return table[name]
    for op in table.values():
        if key(op.name) == key(name) or key(name) in map(key, op.recorded):
            return op
    root = sys.modules[NAME]
    for space in (root, root.Tensor, root.nn.functional):
        thing = getattr(space, name.rpartition(".")[2], None)
        found = [op for op in table.values() if thing is not None and op.function is thing]
        if found:
            return found[0]
    return None
