"""The order in which to read the source, and where the questions that readers ask are answered.

The evening, the files of `core/`, is listed by hand, with what to look for. The rest follows by need, room by room, and
is made out when it is asked for: lines are counted, a file's first sentence says what it is, and within a room a file
comes after those that it uses.
"""

from __future__ import annotations

import ast
import functools
import os
import re
import subprocess
import sys
from typing import NamedTuple

from .source import NAME, PACKAGE, parsed, path_of, title

READ, OPEN = 30, 600  # lines a minute, assumed: every line; the first paragraph


class Step(NamedTuple):
    """One file. `later` explains, in a sentence, each module it uses that is read only afterwards."""

    module: str
    pace: int
    look: str
    later: dict[str, str]

    @property
    def lines(self) -> int:
        """How many lines the file has now."""
        return len(path_of(self.module).read_text(encoding="utf-8").splitlines())

    @property
    def minutes(self) -> float:
        """How long that takes at the pace of this step."""
        return self.lines / self.pace


EVENING = {
    "core": "What stands here, and in which order it is read: see README.md beside it.",
    "core.engine": "The whole idea. The three ideas at its head, then `record` (what an operation leaves "
        "behind), `Walk` (youngest node first) and `arrive` (where two paths meet: the sum). `match` undoes "
        "broadcasting.",
    "core.modes": "One flag a thread; `no_grad` is a context and a decorator.",
    "core.operands": "What may be added to what. Skip it until an operation makes you ask.",
    "core.ops": "The form of all operations, in `mul`: the derivation, the result in a line, and beside it the rule of "
        "each input, with what it reads. Then `matmul`; `softmax`, whose rule makes no matrix; `attend`, attention in "
        "nine lines. The others when you meet them.",
    "core.attach": "How the rooms around add to the classes here.",
    "core.tensor": "Where each operation becomes a method. `backward` hands one seed to the engine.",
    "core.module": "How a module finds its parameters without registering them.",
    "core.layers": "A layer is its parameters and one call; a block puts layers together.",
    "core.optimizers": "`SGD` in a line, `Adam` in five: each against the formula in its docstring.",
    "core.gpt": "All of it put together: embeddings, blocks, and drawing one letter at a time.",
}  # fmt: skip
ROOMS = {
    "The evening": "core",
    "Arrays: where numbers live": "arrays",
    "Walks: what backward can do beyond the evening": "walks",
    "Fast: the same results sooner": "fast",
    "Half: mixed precision": "half amp",
    "Operations by family, and the tensor's other methods": "ops tensor methods creation linalg old questions random",
    "Layers": "nn",
    "Optimizers": "optim",
    "Derivatives as functions": "autograd func",
    "Data, text and models": "utils text models serialization distributions",
    "GPU": "gpu cuda",
    "Several processes": "parallel distributed",
    "Tools: to look on, to explain, to doubt": "tools gradcheck learn info",
    "Names that torch code expects": "absent backends",
}


@functools.cache
def modules() -> list[str]:
    """All modules, without the package itself, room by room: the evening as it is listed, elsewhere by need."""
    names = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    order: dict[str, None] = dict.fromkeys(EVENING)
    for heads in ROOMS.values():
        room = [name for head in heads.split() for name in sorted(names) if name.split(".")[0] == head]
        for name in room:
            _place(name, room, order)
    return [*order]


def _place(name: str, room: list[str], order: dict[str, None], waiting: tuple[str, ...] = ()) -> None:
    """Add a file to the order, after those of its room that it uses, the folders together."""
    if name in order or name in waiting:
        return
    for other in sorted(uses(name) & set(room)):
        _place(other, room, order, (*waiting, name))
    order[name] = None


@functools.cache
def uses(module: str) -> set[str]:
    """The modules of the package that this one imports, wherever it does, but for type checkers alone."""
    path = path_of(module)
    home = [NAME, *(module.split(".") if path.name == "__init__.py" else module.split(".")[:-1])]
    found: set[str] = set()
    waiting: list[ast.AST] = [parsed(path)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*home[: len(home) - node.level + 1], *(node.module or "").split(".")]
            names = [".".join(filter(None, [*base[1:], alias.name])) for alias in node.names]
            inner = {name for name in names if _is_module(name)}
            found |= inner if len(inner) == len(names) else inner | {".".join(filter(None, base[1:]))}
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)
    return found - {module, ""}


def _is_module(name: str) -> bool:
    path = PACKAGE.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def first_sentence(module: str) -> str:
    """What a module says of itself, in its first sentence."""
    text = " ".join((ast.get_docstring(parsed(path_of(module))) or "").partition("\n\n")[0].split())
    first = re.split(r"(?<=[a-z`)\]0-9])\. (?=[A-Z`])", text)[0].rstrip(".")
    return first if first.endswith("?") else first + "."


@functools.cache
def path() -> dict[str, list[Step]]:
    """The steps, room by room. What a file uses was read before, or is explained in a sentence."""
    rooms: dict[str, list[Step]] = {title: [] for title in ROOMS}
    known: set[str] = set()
    for module in modules():
        room = next(title for title, heads in ROOMS.items() if module.split(".")[0] in heads.split())
        later = {other: first_sentence(other).rstrip(".") for other in sorted(uses(module) - known)}
        evening = room == next(iter(ROOMS))
        look = EVENING.get(module) or first_sentence(module)
        rooms[room].append(Step(module, READ if evening else OPEN, look, later))
        known |= {module, *later}
    return rooms


def steps() -> list[Step]:
    """All steps in order."""
    return [step for part in path().values() for step in part]


PROGRAM = """
import sys
from pathlib import Path
import numpy
lines = {}
def local(frame, event, arg):
    if event == "line":
        lines.setdefault(frame.f_code.co_filename, set()).add(frame.f_lineno)
    return local
def look(frame, event, arg):
    inside = frame.f_code.co_filename.startswith(sys.argv[1]) and frame.f_code.co_name != "<module>"
    return local if inside else None
import tinygrad_z2g as z2g
from tinygrad_z2g import nn, optim
from tinygrad_z2g.models import GPT, GPTConfig
sys.settrace(look)
model = GPT(GPTConfig(vocab_size=7, context=8, layers=2, heads=2, width=8, dropout=0.1))
optimizer = optim.AdamW(model.parameters(), lr=1e-2)
for step in range(3):
    ids = z2g.randint(0, 7, (2, 9))
    loss = model(ids[:, :-1], ids[:, 1:])[1]
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
model.eval().generate(z2g.tensor([[1]]), 5)
sys.settrace(None)
for file, numbers in lines.items():
    print(file, *sorted(numbers), sep="\\t")
"""


def lines_of_a_gpt(**settings: str) -> dict[str, set[int]]:
    """Which lines of functions run when a small GPT trains, is clipped, and generates: by file, in its own process.

    Without the compiled loops, whose insides no trace sees. `settings` are variables of the environment.
    """
    environment = {**os.environ, "TINYGRAD_Z2G_COMPILED": "0", "TINYGRAD_Z2G_DEVICE": "cpu", **settings}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PACKAGE.parent), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-c", PROGRAM, str(PACKAGE)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, encoding="utf-8", check=False)
    if done.returncode:
        raise RuntimeError(f"learn path --gpt: the traced program failed: {done.stderr.strip().splitlines()[-1]}")
    rows = (line.split("\t") for line in done.stdout.splitlines())
    return {file: set(map(int, numbers)) for file, *numbers in rows}


class Question(NamedTuple):
    """What readers ask, the answer in short, and where it stands: (module, what a line there must match)."""

    question: str
    answer: str
    places: tuple[tuple[str, str], ...]


QUESTIONS = [
    Question("Where is the rule of softmax?",
             "In the last line of `softmax`, beside the result: p (grad - Σ p grad). `python -m tinygrad_z2g.learn "
             "softmax` shows it with the derivation, and the fast form that takes its place.",
             (("core.ops", r"^def softmax\("),)),
    Question("Where is the rule of attention?",
             "There is none: attention is two products and a softmax, and these bring theirs. Its fast form has one.",
             (("core.ops", r"^def attend\("), ("fast.forms", r"^def scaled_dot_product_attention\("))),
    Question("Why is there a `+=`?",
             "A value used twice moves the loss along two paths, and its derivative is the sum over the paths. On the "
             "way, `arrive` adds what reaches a tensor or node. At the end `deposit` adds to `.grad`, so two calls of "
             "backward() add up too: that is why a training loop sets gradients to None.",
             (("core.engine", r"^3\. \*Add\.\*"), ("core.engine", r"def arrive\("),
              ("core.engine", r"^def deposit\("))),
    Question("What frees the graph?",
             "Dropping the loss: nodes point back to their inputs, never forward, so nothing else holds them and there "
             "is no cycle. And backward() itself takes each node apart as it passes, unless told to retain the graph.",
             (("core.engine", r"^class Node"), ("core.engine", r"    def release\("))),
    Question("In which order does backward() visit?",
             "Youngest first. A node is numbered when made, and inputs are made before outputs, so every consumer "
             "comes before what it consumed.",
             (("core.engine", r"^_numbers ="), ("core.engine", r"node = heapq\.heappop"))),
    Question("x is (3, 1), y is (4,): who sums the gradient back to (3, 1)?",
             "The engine, in one place for all operations; a rule may return the broadcast shape.",
             (("core.engine", r"^def match\("),)),
    Question("How does backward() notice that a tensor was changed in place?",
             "Each write counts up `writes` of a `Memory` that all views share. A node has noted the count of every "
             "array that its rules will read, and compares.",
             (("ops.inplace", r"^    x\.memory\.writes \+= 1"), ("core.engine", r"if memory\.writes != writes:"))),
    Question("What does no_grad() switch off?",
             "One flag, per thread. `record` looks at it, and leaves no node behind.",
             (("core.modes", r"^class no_grad\("), ("core.engine", r"^def record\("))),
    Question("Where do x + y and x.softmax(0) come from?",
             "From the class: each operation is a function, given its method's or operator's name there. torch's other "
             "methods are attached to the same class from outside.",
             (("core.tensor", r"add = __add__ = "), ("core.tensor", r"    sum, mean, softmax = "),
              ("tensor", r"^attach\(Tensor, Methods\)"))),
    Question("How does an optimizer change a weight that requires grad?",
             "On the array itself, which nobody records, and counted as a write. SGD's rule is one line, Adam's a few.",
             (("core.optimizers", r"    def step\("), ("core.optimizers", r"        p\.array -= "),
              ("core.optimizers", r"        move = "))),
    Question("Does my program run the text of core/, or something faster?",
             "All of it, but for some operations and updates that have a faster form of the same name. These lists say "
             "which; TINYGRAD_Z2G_PLAIN=1 takes none of them.",
             (("fast.forms", r"^FORMS"), ("fast.updates", r"^UPDATES"))),
    Question("What would I edit to add an operation?",
             "Two files: nn/functional.py, where it stands with its rule and is named in `__all__`, and "
             "tests/op_table.py, whose row has it tested. CONTRIBUTING.md does it once. `mul` has the form of all.",
             (("core.ops", r"^def mul\("), ("nn.functional", r"^__all__ = "))),
    Question("Where does mixed precision cast?",
             "Around the operations, by one table of operation and cast. No operation knows of it.",
             (("half.table", r"^CASTS"), ("half.table", r"^def apply\("))),
]  # fmt: skip


def locate(module: str, pattern: str) -> str:
    """Where the one line of a module that matches stands. LookupError unless there is exactly one."""
    path = path_of(module)
    lines = path.read_text(encoding="utf-8").splitlines()
    hits = [i for i, line in enumerate(lines, 1) if re.search(pattern, line)]
    if len(hits) != 1:
        raise LookupError(f"learn: {len(hits)} lines of {path.name} match {pattern!r}, expected one")
    return title(path, hits[0])
