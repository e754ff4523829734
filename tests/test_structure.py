"""The shape of the source: layers without cycles, a light import, no torch, a docstring for everything public."""

import ast
import configparser
import functools
import graphlib
import itertools
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "tinygrad_z2g"
NAME = PACKAGE.name

# A module imports only from its own row and from rows above it. A new module needs a place here, or its room has one.
LAYERS = [
    [
        "absent", "arrays", "backends", "core", "core.modes", "gpu", "half", "parallel", "tools", "tools.console",
        "tools.notebook",
    ],
    [
        "core.engine", "core.gpt", "core.layers", "core.module", "core.operands", "core.ops", "core.optimizers",
        "core.tensor",
    ],
    ["gpu.replay"],
    ["fast", "gpu.kernels"],
    ["walks", "tools.anomaly", "tools.folding", "tools.trace"],
    ["fast.forms", "half.casting", "half.table", "methods", "ops", "tools.explain", "tools.formula", "tools.showing"],
    ["tensor"],
    [
        "amp", "autograd", "creation", "cuda", "distributed", "distributions", "fast.decoding", "fast.updates", "func",
        "gpu.capture", "gpu.steps", "gradcheck", "half.scaler", "linalg", "nn", "old", "optim",
        "parallel.processes", "questions", "random", "serialization", "text", "tools.gradcheck", "utils",
    ],
    ["models"],
    ["tools.draw", "tools.page", "tools.watch"],
    [""],  # the package itself: re-exports only
    ["info", "learn", "tools.api", "tools.info", "tools.learn"],  # commands, imported by none
]  # fmt: skip
OPTIONAL = [
    "cupy", "gguf", "matplotlib", "mpi4py", "numba", "safetensors", "threadpoolctl", "tokenizers", "torch", "tqdm",
]  # fmt: skip


# --- Reading the source ------------------------------------------------------------------------------------------


@functools.cache
def parse(path):
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def module_name(path):
    """tinygrad_z2g/nn/linear.py -> "nn.linear", tinygrad_z2g/nn/__init__.py -> "nn", the package itself -> ""."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def is_type_checking(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def import_statements(nodes):
    """Every import in `nodes`, those inside functions too, but none that only type checkers see."""
    for node in nodes:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        elif not isinstance(node, ast.expr):  # which holds no statement, but most of the nodes
            yield from import_statements(node.orelse if is_type_checking(node) else ast.iter_child_nodes(node))


def loaded_by(statement, home):
    """The absolute names of the modules that an import statement asks for; `home` is the package it stands in."""
    if isinstance(statement, ast.Import):
        return {alias.name for alias in statement.names}
    parts = home.split(".")
    start = ".".join(parts[: len(parts) - statement.level + 1]) if statement.level else ""
    base = ".".join(filter(None, [start, statement.module]))
    names = {f"{base}.{alias.name}" for alias in statement.names}
    modules = {name for name in names if name.removeprefix(f"{NAME}.") in FILES}
    # `from . import backend` means the module backend; `from .backend import of` and mixtures need the base itself
    return modules if modules == names else modules | {base}


def imports_of(name, path):
    """The modules of the package that module `name` imports."""
    home = ".".join(filter(None, [NAME, name if path.name == "__init__.py" else name.rpartition(".")[0]]))
    loaded = set().union(*(loaded_by(statement, home) for statement in import_statements([parse(path)])))
    return {other.removeprefix(NAME).lstrip(".") for other in loaded if other.split(".")[0] == NAME} - {name}


@functools.cache
def graph():
    """For each module of the package, those that it imports."""
    return {name: imports_of(name, path) for name, path in FILES.items()}


def layer(name):
    """The row of the longest beginning of its name that has one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        for i, row in enumerate(LAYERS):
            if ".".join(parts[:length]) in row:
                return i
    return None


def find_cycle(graph):
    try:
        list(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        return error.args[1]
    return None


# --- Layers ------------------------------------------------------------------------------------------------------


def test_imports_form_no_cycle():
    assert find_cycle(graph()) is None


def test_every_module_has_a_layer():
    assert [name for name in FILES if layer(name) is None] == []


def test_modules_import_from_their_own_layer_or_those_above():
    upward = [f"{name} imports {other}" for name in graph() for other in graph()[name] if layer(other) > layer(name)]
    assert upward == []


def test_the_engine_knows_no_tensor():
    """A protocol, not the class: engine.py works on arrays, wherever they live."""
    assert graph()["core.engine"] <= {"arrays.backend", "core.modes"}
    assert graph()["arrays.backend"] == graph()["arrays.dtypes"] == set()


def test_the_package_itself_holds_no_logic():
    """__init__.py re-exports: imports and short assignments, nothing else."""
    allowed = (ast.Import, ast.ImportFrom, ast.Assign, ast.Expr)
    body = parse(FILES[""]).body
    for node in [node for node in body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]:
        body = [*(other for other in body if other is not node), *node.body, *node.orelse]
    assert [ast.unparse(node) for node in body if not isinstance(node, allowed)] == []


def test_the_scan_sees_what_it_should(tmp_path):
    """A scan that finds nothing proves nothing."""
    assert {"arrays.backend", "arrays.dtypes"} <= graph()["tensor"]  # from .arrays import backend, dtypes
    assert "ops.shape" in graph()["tensor"]  # from .ops import shape as shapes
    assert "nn.functional" in graph()["nn.norm"]  # from . import functional as F
    assert "arrays.random" in graph()["creation"]  # from .arrays.random import Generator
    assert sum(map(len, graph().values())) > 60
    assert find_cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}})
    source = """
        import tinygrad_z2g.nn.linear
        from typing import TYPE_CHECKING
        if TYPE_CHECKING:
            from .text import hidden
        else:
            from .. import tensor
        def late():
            from ..ops import linalg
    """
    path = tmp_path / "probe.py"
    path.write_text(textwrap.dedent(source))
    assert imports_of("nn.probe", path) == {"nn.linear", "tensor", "ops.linalg"}


# --- What an import loads ----------------------------------------------------------------------------------------


def test_importing_the_package_loads_no_optional_library(tmp_path):
    """Not even all its modules do. Stand-ins make each library importable, so that a guarded `try: import` shows."""
    for name in OPTIONAL:
        (tmp_path / f"{name}.py").touch()
    those = [name for name in FILES if not name.startswith("fast.compiled")]  # which `fast.loops` asks for
    modules = ", ".join(f"{NAME}.{name}".rstrip(".") for name in those)
    code = f"import sys, {modules}; print(sorted(set({OPTIONAL}) & set(sys.modules)))"
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert (run.returncode, run.stdout.strip()) == (0, "[]"), run.stderr


def python_files():
    """The Python files of the repository, without hidden folders (.ci excepted) and virtual environments."""
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).parts
        hidden = any(part.startswith(".") and part != ".ci" for part in parts)
        outside = any((folder / "pyvenv.cfg").exists() for folder in path.parents)
        if not hidden and not outside and parts[0] not in ("build", "dist"):
            yield path


def imports_torch(tree):
    """Whether a file imports torch, in any way that can be seen: a statement, or a function given the name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and any(alias.name.split(".")[0] == "torch" for alias in node.names):
            return True
        if isinstance(node, ast.ImportFrom) and not node.level and node.module.split(".")[0] == "torch":
            return True
        if isinstance(node, ast.Call):
            names = [str(arg.value) for arg in node.args if isinstance(arg, ast.Constant)]
            if any(name.split(".")[0] == "torch" for name in names) and "import" in ast.unparse(node.func):
                return True
    return False


def test_nothing_but_the_benchmarks_imports_torch():
    files = [path for path in python_files() if path.relative_to(ROOT).parts[0] != "benchmarks"]
    assert len(files) > 40
    assert [str(path.relative_to(ROOT)) for path in files if imports_torch(parse(path))] == []


@pytest.mark.parametrize(
    "line, expected",
    [
        ("import torch", True),
        ("import numpy, torch.nn as nn", True),
        ("def f():\n    from torch.nn import functional", True),
        ("pytest.importorskip('torch')", True),
        ("importlib.import_module('torch.nn')", True),
        ("from . import torch", False),
        ("import torchlight", False),
        ("print('torch')", False),
    ],
)
def test_the_search_for_torch_finds_it(line, expected):
    assert imports_torch(ast.parse(line)) == expected


# --- Documentation and size --------------------------------------------------------------------------------------


def says_nothing(node):
    """Whether a function or class that should explain itself does not."""
    if any(isinstance(d, ast.Attribute) and d.attr == "setter" for d in node.decorator_list):
        return False  # the property has said it
    return not (ast.get_docstring(node) or "").strip()


def undocumented(tree, prefix=""):
    """The public functions, classes and methods without a docstring. What stands inside a function is private."""
    for node in tree.body:
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) or node.name.startswith("_"):
            continue
        if any(ast.unparse(decorator) == "overload" for decorator in node.decorator_list):
            continue  # for type checkers; the function itself follows
        inherited = node.name == "extra_repr" and prefix != "Module."  # Module.extra_repr says what each of them is
        if says_nothing(node) and not inherited:
            yield f"{prefix}{node.name}"
        if isinstance(node, ast.ClassDef):
            yield from undocumented(node, f"{prefix}{node.name}.")


@pytest.mark.parametrize("name", FILES, ids=lambda name: name or "__init__")
def test_everything_public_has_a_docstring(name):
    tree = parse(FILES[name])
    assert ast.get_docstring(tree), "the module says nothing about itself"
    assert list(undocumented(tree)) == []


def test_the_search_for_docstrings_finds_gaps():
    source = '''
        def f(): pass
        def _g(): pass
        class A:
            def h(self): """doc"""
            @property
            def i(self): pass
            @i.setter
            def i(self, value): pass
            def _j(self): pass
            @overload
            def k(self): ...
            def k(self): pass
        '''
    assert list(undocumented(ast.parse(textwrap.dedent(source)))) == ["f", "A", "A.i", "A.k"]


def test_the_exported_names_are_documented():
    """As a user meets them: what is public in the package, in nn and in optim, has a text of its own."""
    import tinygrad_z2g as z2g

    spaces = [z2g, z2g.nn, z2g.nn.functional, z2g.nn.init, z2g.optim]
    items = itertools.chain.from_iterable(((space, name) for name in vars(space)) for space in spaces)
    missing = [
        f"{space.__name__}.{name}"
        for space, name in items
        if not name.startswith("_") and callable(getattr(space, name)) and not getattr(space, name).__doc__
    ]
    assert missing == []


@pytest.mark.parametrize("name", FILES, ids=lambda name: name or "__init__")
def test_no_file_is_too_long_to_read(name):
    assert len(FILES[name].read_text(encoding="utf-8").splitlines()) <= 700


def test_the_package_says_that_it_is_typed():
    """py.typed is there, and it is installed."""
    assert (PACKAGE / "py.typed").exists()
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    assert "py.typed" in setup["options.package_data"][NAME].split()
