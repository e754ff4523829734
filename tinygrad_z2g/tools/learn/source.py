"""Finding operations in the source: where each is written, which lines are its rule, and what else belongs to it.

The files are read as text and as syntax trees, so what is shown is what is there, line numbers included. Known is the
way in which this package writes a rule, `lambda grad, y: ...` and `def rule(grad, y): ...`, handed to `record`,
`record_view` or `record_joint`, two rules that many share, and how the house stands: the text of an operation is that
in `core/ops.py`, a fast form may take its place, and wider functions of the same name end in it.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ... import fast
from ...fast import forms

PACKAGE = Path(__file__).parent.parent.parent
NAME = PACKAGE.name
CORE = "core.ops"
FAMILIES = (
    CORE, "ops.unary", "ops.elementwise", "ops.reduction", "ops.softmax", "ops.sorting", "ops.linalg",
    "ops.shape", "ops.indexing", "ops.elementary", "ops.grids", "ops.products", "ops.statistics", "ops.writing",
    "ops.decompositions", "tensor", "nn.functional", "nn.nonlinear", "nn.dropping", "nn.batch_norm", "nn.losses",
    "nn.margins", "nn.likelihoods", "nn.distances", "nn.window", "nn.resize", "nn.rotary", "nn.recurrent",
    "nn.quantized", "nn.dot_product",
)  # fmt: skip
RECORD = {"record", "record_view", "record_joint", "record_fused", "record_joint_fused"}
SHARED = {"flat", "unchanged"}  # rules that stand elsewhere: no gradient, and the same gradient
FUNCTION = (ast.FunctionDef, ast.Lambda)


def path_of(module: str) -> Path:
    """The file of a module: "nn.linear" -> tinygrad_z2g/nn/linear.py, "nn" -> tinygrad_z2g/nn/__init__.py."""
    path = PACKAGE.joinpath(*module.split("."))
    package = path / "__init__.py"  # a folder alone may be what is left of a package that moved: its __pycache__
    return package if package.exists() else path.with_suffix(".py")


def title(path: Path, line: int) -> str:
    """A place as an editor understands it: tinygrad_z2g/core/engine.py:64."""
    return f"{path.relative_to(PACKAGE.parent)}:{line}"


@functools.cache
def parsed(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))


def _lines(node: ast.stmt | ast.expr) -> range:
    """The numbers of the lines of a part of a syntax tree."""
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)


@dataclass(frozen=True)
class Piece:
    """A function as it stands in its file: the lines without the docstring, and which of them state a gradient rule."""

    path: Path
    node: ast.FunctionDef | ast.ClassDef
    whole: bool = False  # called by a rule, so that all of it is one

    @property
    def doc(self) -> str:
        """The docstring."""
        return ast.get_docstring(self.node) or ""

    @property
    def first(self) -> int:
        """The number of its first line, decorators included."""
        return min([self.node.lineno, *(d.lineno for d in self.node.decorator_list)])

    def rules(self) -> list[ast.FunctionDef | ast.Lambda]:
        """The functions in it that take `grad`."""
        inner = [n for n in ast.walk(self.node) if isinstance(n, FUNCTION) and n.args.args[:1]]
        return [n for n in inner if n.args.args[0].arg == "grad"]

    def lines(self) -> list[tuple[int, str, bool]]:
        """(number, text, whether a rule stands there) of each line but the docstring's."""
        text = self.path.read_text(encoding="utf-8").splitlines()
        doc = _lines(self.node.body[0]) if ast.get_docstring(self.node) else ()
        marked = {i for rule in self.rules() for i in _lines(rule)}
        marked |= {n.lineno for n in ast.walk(self.node) if isinstance(n, ast.Name) and n.id in SHARED}
        numbers = (i for i in range(self.first, _lines(self.node).stop) if i not in doc)
        return [(i, text[i - 1], self.whole or i in marked) for i in numbers]


@dataclass(frozen=True)
class Operation:
    """One operation: a public function that states a gradient rule, or is composed of others and shows its gradient.

    pieces    the function, and the functions beside it that state a part of the rule or that a rule calls
    recorded  the names that it leaves in the graph, if it owns a rule
    form      likewise of the fast form that takes its place, for operations of the core; or empty
    wider     functions of the same name that take more arguments and end in that of the core, with what they state
    names     all names in the graph, those of the form and of the wider functions too
    """

    name: str
    module: str
    pieces: tuple[Piece, ...]
    recorded: frozenset[str]
    form: tuple[Piece, ...] = ()
    wider: tuple[Piece, ...] = ()
    names: frozenset[str] = frozenset()

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


@functools.cache  # a helper is looked at for each function that calls it
def mentioned(tree: ast.AST) -> frozenset[str]:
    """Every name in a tree: `f`, and `fast.f` for the one module whose functions an operation does not import."""
    nodes = [*ast.walk(tree)]
    of_fast = {n.attr for n in nodes if isinstance(n, ast.Attribute) and ast.unparse(n.value) == "fast"}
    return frozenset({n.id for n in nodes if isinstance(n, ast.Name)} | {f"fast.{name}" for name in of_fast})


def states_a_rule(piece: Piece) -> bool:
    """Whether the function hands a rule to `record` itself."""
    return bool(RECORD & mentioned(piece.node))


@functools.cache
def operations() -> dict[str, Operation]:
    """All operations by name, file by file in the order in which they stand there; those of the core come first."""
    found: dict[str, Operation] = {}
    for module in FAMILIES:
        functions = _functions(module)
        for name, piece in functions.items():
            if name[0] == "_" or ">>>" not in piece.doc:
                continue
            stating = _stating(name, functions)
            recorded = _recorded(stating) if any(map(states_a_rule, stating)) else frozenset()
            if name in found and found[name].module == CORE:
                op, parts = found[name], (*stating, *(_further(stating, module) if recorded else ()))
                found[name] = replace(op, wider=(*op.wider, *parts), names=op.names | recorded)
                continue
            title = f"F.{name}" if name in found else name
            form = _form(name) if module == CORE else ()
            names = recorded | (_recorded(list(form)) if any(map(states_a_rule, form)) else frozenset())
            pieces = (*stating, *_further(stating, module))
            if module == CORE:
                pieces = (*pieces, *_helpers(pieces, functions))
            found[title] = Operation(title, module, pieces, recorded, form, (), names)
    return found


def _functions(module: str) -> dict[str, Piece]:
    """The functions of a file by name; of `tensor` the methods that it adds."""
    path = path_of(module)
    body = parsed(path).body
    if module == "tensor":
        body = next(node.body for node in body if isinstance(node, ast.ClassDef) and node.name == "Surface")
    return {node.name: Piece(path, node) for node in body if isinstance(node, ast.FunctionDef)}


def _form(name: str) -> tuple[Piece, ...]:
    """The fast form of an operation of the core, and what belongs to it; empty where there is none."""
    if name not in forms.FORMS:
        return ()
    functions = _functions("fast.forms")
    helpers = {other: piece for other, piece in functions.items() if other not in forms.FORMS}
    stating, waiting = [functions[name]], [functions[name]]
    while waiting:  # class_losses, known_rows, _remade_n: each helper, and its own
        near = [helpers[n] for n in sorted(mentioned(waiting.pop().node)) if n in helpers]
        new = [piece for piece in near if piece not in stating]
        stating, waiting = stating + new, waiting + new
    stating = [stating[0], *(piece for piece in stating[1:] if states_a_rule(piece) or piece.rules())]
    return (*stating, *_further(stating, "fast.forms"))


def _stating(name: str, functions: dict[str, Piece]) -> list[Piece]:
    """The function, and those in its file that state its rule for it, or make the rule that it states.

    These are private, or have no example of their own.
    """
    helpers = (functions[n] for n in sorted(mentioned(functions[name].node)) if n in functions and n != name)
    near = (helper for helper in helpers if helper.node.name[0] == "_" or ">>>" not in helper.doc)
    return [functions[name], *(helper for helper in near if states_a_rule(helper) or helper.rules())]


def _helpers(pieces: tuple[Piece, ...], functions: dict[str, Piece]) -> list[Piece]:
    """What is called besides, in a file of the core: its text is shown whole."""
    found: list[Piece] = []
    waiting = list(pieces)
    while waiting:
        for name in sorted(mentioned(waiting.pop(0).node)):
            piece = functions.get(name)
            if piece and ">>>" not in piece.doc and piece not in pieces and piece not in found:
                found.append(piece)
                waiting.append(piece)
    return found


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
        for name in sorted(inside | {n for n in mentioned(piece.node) if n.startswith("fast.")}):
            thing = getattr(fast, name.partition(".")[2]) if name.startswith("fast.") else home.get(name)
            place = getattr(thing, "__module__", "") if inspect.isfunction(thing) else ""
            if place.startswith(NAME) and place != f"{NAME}.arrays.backend":
                part = piece_of(thing, name.startswith("fast.") and name in inside)
                if not states_a_rule(part) and part not in stating:
                    found[name] = part
    return list(found.values())


def piece_of(function: Any, whole: bool = False) -> Piece:
    """Where a function object is written."""
    path = Path(inspect.getsourcefile(inspect.unwrap(function)) or "")
    named = (n for n in ast.walk(parsed(path)) if isinstance(n, ast.FunctionDef) and n.name == function.__name__)
    return Piece(path, next(named), whole)


def _recorded(stating: list[Piece]) -> frozenset[str]:
    """The names that go into the graph: the first argument of `record`, or of the helper that passes it on."""
    makers = RECORD | {piece.node.name for piece in stating}
    calls = (n for piece in stating for n in ast.walk(piece.node) if isinstance(n, ast.Call) and n.args)
    first = (call.args[0] for call in calls if ast.unparse(call.func) in makers)
    names = {arg.value for arg in first if isinstance(arg, ast.Constant) and isinstance(arg.value, str)}
    return frozenset(names or {stating[0].node.name})  # @unary records under the function's own name


# --- What is no operation ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Thing:
    """A class, a method or a function that is no operation: what it is called, its file's module, and the source.

    The first piece is its own; the others are what it calls, in the engine, in the kernels and in its own file.
    """

    name: str
    module: str
    pieces: tuple[Piece, ...]

    @property
    def doc(self) -> str:
        """The docstring."""
        return self.pieces[0].doc


def find_thing(name: str) -> Thing | None:
    """What people may mean by a name that is no operation's: Adam, backward, nn.Module, no_grad, GPT."""
    root = sys.modules[NAME]
    spaces = {"": root, "Tensor": root.Tensor, "nn": root.nn, "F": root.nn.functional, "optim": root.optim}
    more = ("optim.lr_scheduler", "nn.utils", "models", "text", "utils.data", "autograd", "core.engine")
    spaces |= {word: importlib.import_module(f"{NAME}.{word}") for word in more}
    for space, holder in spaces.items():
        for word in dir(holder):
            if word[0] == "_" or key(word) != key(name):
                continue
            thing = inspect.unwrap(getattr(holder, word))
            home = getattr(thing, "__module__", None) or ""
            code = home.startswith(f"{NAME}.") and (inspect.isfunction(thing) or inspect.isclass(thing))
            if code and (piece := _own_piece(thing)) is not None:
                pieces = [piece, *_called(piece, home, piece.path)]
                if space == "Tensor" and (plain := _method_of_the_core(word)):
                    pieces = [plain, *_called(plain, f"{NAME}.core.tensor", plain.path), *pieces]
                found = tuple(dict.fromkeys(pieces))
                return Thing(f"{space}.{word}".lstrip("."), home[len(NAME) + 1 :], found)
    return None


def _own_piece(thing: Any) -> Piece | None:
    """Where a class or a function is written; None if not as one of these."""
    path = Path(inspect.getsourcefile(thing) or "")
    line = inspect.getsourcelines(thing)[1]
    for node in ast.walk(parsed(path)):
        if not isinstance(node, (ast.ClassDef, ast.FunctionDef)) or node.name != thing.__name__:
            continue
        if line in (node.lineno, *(d.lineno for d in node.decorator_list)):
            return Piece(path, node)
    return None


def _method_of_the_core(name: str) -> Piece | None:
    """A method as the Tensor of the core has it, though a wider one of the same meaning has taken its place."""
    path = path_of("core.tensor")
    tensor = next(node for node in parsed(path).body if isinstance(node, ast.ClassDef) and node.name == "Tensor")
    methods = (node for node in tensor.body if isinstance(node, ast.FunctionDef) and node.name == name)
    return next((Piece(path, node) for node in methods), None)


def _called(piece: Piece, module: str, own: Path, depth: int = 2) -> list[Piece]:
    """The functions of the engine, of the kernels and of the file itself that are called there, and by those.

    Where a fast form has taken the place of an operation of the core, the text is that of the core.
    """
    names = vars(importlib.import_module(module))
    found: list[Piece] = []
    for call in (n for n in ast.walk(piece.node) if isinstance(n, ast.Call)):
        first, _, rest = ast.unparse(call.func).partition(".")
        thing = getattr(names.get(first), rest, None) if rest else names.get(first)
        home = getattr(thing, "__module__", None) or ""
        engine = [f"{NAME}.{room}" for room in ("core.engine", "walks.again", "walks.asking")]
        near = home in engine or home.startswith(f"{NAME}.fast")
        if inspect.isfunction(thing) and (near or (home.startswith(NAME) and inspect.getsourcefile(thing) == str(own))):
            taken = _form_name(thing)
            inner = _functions(CORE)[taken] if taken else _own_piece(inspect.unwrap(thing))
            if inner is not None and inner not in found and inner.node is not piece.node:
                found.append(inner)
                where = f"{NAME}.{CORE}" if taken else inspect.unwrap(thing).__module__
                deeper = _called(inner, where, own, depth - 1) if depth > 1 else []
                found += [further for further in deeper if further not in found]
    return found


def _form_name(thing: Any) -> str:
    """The name of the operation of the core whose place this function has taken, or an empty one."""
    inner = inspect.unwrap(thing) if inspect.isfunction(thing) else None
    return next((name for name, form in forms.FORMS.items() if inspect.unwrap(form) is inner), "")


def put_on(thing: Thing) -> list[str]:
    """Where other rooms add to a class of the core, or put another form in its place: file, line and text."""
    if not thing.module.startswith("core."):
        return []
    name = thing.pieces[0].node.name
    asked = re.compile(rf"^ *(attach\((\w+\.)?{name}, |UPDATES\b.* = .*\b{name}: |FORMS\b.* = .*\"{name}\": )")
    lines = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if asked.search(line):
                lines.append(f"{title(path, number)}   {line.strip()}")
    return lines


def key(name: str) -> str:
    """A name without what people may leave out or write otherwise: nn.LayerNorm, F.layer_norm -> layernorm."""
    return name.rpartition(".")[2].lower().replace("_", "")


def find(name: str) -> Operation | None:
    """The operation of this name: its own (also as `F.gelu`, `nn.GELU`), that in the graph (`attention`), an alias."""
    table = operations()
    if name in table:
        return table[name]
    for op in table.values():
        if key(op.name) == key(name):
            return op
    for op in table.values():
        if key(name) in map(key, op.names):
            return op
    root = sys.modules[NAME]
    for space in (root, root.Tensor, root.nn.functional):
        thing = getattr(space, name.rpartition(".")[2], None)
        found = [op for op in table.values() if thing is not None and op.function is thing]
        if found:
            return found[0]
    return None
