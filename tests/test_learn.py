"""The package explains itself, and what it says is true: examples are run, the reading order is checked against the
imports, every place that is pointed to exists, and no gradient rule is without a derivation."""

import ast
import contextlib
import doctest
import inspect
import io
import os
import pickle
import re
import subprocess
import sys

import pytest
from drawn import holds
from numeric import leaves
from op_table import TABLE
from test_ops import bind, parts
from test_structure import FILES, NAME, PACKAGE, ROOT, graph, parse

import tinygrad_z2g as z2g
import tinygrad_z2g.nn.functional as F
from tinygrad_z2g import fast, nn
from tinygrad_z2g.core import ops
from tinygrad_z2g.fast import forms
from tinygrad_z2g.tools.learn import __main__ as learn
from tinygrad_z2g.tools.learn import reading, source

OPERATIONS = source.operations()
PIECES = {piece for op in OPERATIONS.values() for piece in (*op.pieces, *op.form, *op.wider)}
PLAIN = os.environ.get("TINYGRAD_Z2G_PLAIN") == "1"
GLOBALS = {"z2g": z2g, "nn": nn, "F": F}


def functions(tree):
    """Every function of a file, methods and inner functions too."""
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def examples_in(path):
    """The examples of all docstrings of a file. (doctest's own finder overlooks functions made by decorators.)"""
    owners = [parse(path), *(n for n in ast.walk(parse(path)) if isinstance(n, (ast.FunctionDef, ast.ClassDef)))]
    for node in owners:
        doc = ast.get_docstring(node) or ""
        test = doctest.DocTestParser().get_doctest(doc, dict(GLOBALS), getattr(node, "name", path.stem), str(path), 0)
        if test.examples:
            yield test


def prose(doc):
    """A docstring without its examples."""
    return "".join(part for part in doctest.DocTestParser().parse(doc) if isinstance(part, str)).strip()


# --- Derivations and examples ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name, path in FILES.items() if ">>> " in path.read_text(encoding="utf-8")])
def test_examples_in_docstrings_print_what_they_say(name):
    runner = doctest.DocTestRunner(verbose=False)
    for test in examples_in(FILES[name]):
        said = []
        runner.run(test, out=said.append)
        assert not said, "".join(said)


def test_the_search_finds_examples_everywhere():
    found = {(name, test.name): len(test.examples) for name, path in FILES.items() for test in examples_in(path)}
    assert sum(found.values()) > 190
    for place in (
        ("core.ops", "exp"), ("core.ops", "softmax"), ("ops.unary", "sqrt"),
        ("ops.softmax", "softmax"), ("tensor", "clone"), ("nn.window", "conv1d"),
    ):  # fmt: skip
        assert place in found


def test_an_example_that_is_wrong_is_noticed():
    assert learn.example(">>> 1 + 1\n2\n") == (["  >>> 1 + 1", "  2"], True)
    assert learn.example(">>> 1 + 1\n3\n") == (["  >>> 1 + 1", "  2"], False)


@pytest.mark.parametrize("op", OPERATIONS.values(), ids=OPERATIONS)
def test_each_operation_derives_its_rule_and_shows_a_gradient(op):
    """Formula, then a derivation if it owns a rule, then an example that walks back and shows a gradient."""
    formula, _, derivation = prose(op.doc).partition("\n")
    assert formula and (derivation.strip() or not op.recorded)
    example = op.doc[op.doc.index(">>>") :]
    assert ".backward()" in example and ".grad" in example


def test_the_text_of_an_operation_is_that_of_the_core():
    """Whatever else there is of the same name, a fast form or a wider function, is told of there."""
    forms_of = {name: op for name, op in OPERATIONS.items() if op.form}
    assert set(forms_of) == set(forms.FORMS) and all(op.module == source.CORE for op in forms_of.values())
    for name, op in forms_of.items():
        assert op.form[0] == source._functions("fast.forms")[name] and op.pieces[0] != op.form[0]
    core = {node.name for node in parse(FILES["core.ops"]).body if isinstance(node, ast.FunctionDef)}
    assert len(core & set(OPERATIONS)) > 25
    assert {OPERATIONS[name].module for name in core & set(OPERATIONS)} == {source.CORE}


@pytest.mark.parametrize("name", [*forms.FORMS, "exp", "log", "tanh"])
def test_help_and_source_of_what_runs_show_the_text_of_the_core(name):
    """Through a fast form, and what half/table.py puts around it; the fast form says so."""
    function, text = getattr(ops, name), OPERATIONS[name].pieces[0]
    assert inspect.getsource(function).rstrip() == ast.get_source_segment(text.path.read_text("utf-8"), text.node)
    told = inspect.getdoc(function)
    assert told.startswith(text.doc) and inspect.signature(function) == inspect.signature(inspect.unwrap(function))
    assert ("This is the fast form of `core.ops." in told) == (name in forms.FORMS and not PLAIN)
    assert pickle.loads(pickle.dumps(function)) is function
    for space in (z2g, F, z2g.Tensor):
        public = getattr(space, name, function)
        assert text.doc in inspect.getdoc(public), space


@pytest.mark.parametrize("op", [op for op in OPERATIONS.values() if op.wider], ids=lambda op: op.name)
def test_a_wider_function_ends_in_the_core_s(op):
    """It calls the operation of the core, and points to it, or derives what it states itself."""
    first = op.wider[0]
    calls = {ast.unparse(n.func) for n in ast.walk(first.node) if isinstance(n, ast.Call)}
    assert {f"ops.{op.name}", f"elementwise.{op.name}"} & (calls | source.mentioned(first.node)) or op.name == "getitem"
    derived = prose(first.doc).partition("\n")[2].strip()
    assert derived if source.states_a_rule(first) else re.search(r"[Ss]ee\s+`", first.doc)


def test_no_rule_is_left_unexplained():
    """Each function that calls `record` belongs to an operation, but for the machinery that passes rules on."""
    explained = {  # with the functions inside, which give a history to numbers that a rule reads
        (piece.path, node.lineno) for piece in PIECES for node in functions(piece.node)
    }
    machinery = {
        ("autograd", "apply"), ("autograd", "output"), ("func", "__init__"), ("half.casting", "cast"),
        ("ops.inplace", "update"), ("core.operands", "converted"), ("core.operands", "record_view"),
        ("core.engine", "_whole"), ("core.engine", "deposit"), ("core.engine", "match"),
        ("walks.again", "_by_twin"), ("walks.again", "linear_rule"), ("walks.again", "rule"),
        ("walks.again", "record_fused"), ("walks.again", "record_joint_fused"), ("walks.views", "_seen_through"),
        ("walks.views", "rule"),
    }  # fmt: skip
    seen = {
        (name, node.name)
        for name, path in FILES.items()
        for node in functions(parse(path))
        if source.states_a_rule(source.Piece(path, node)) and (path, node.lineno) not in explained
    }
    assert seen == machinery


@pytest.mark.parametrize("op", TABLE, ids=lambda op: op.name)
def test_whatever_the_table_leaves_in_the_graph_is_explained(op):
    """The functions of the row are operations, and every node that it makes was recorded by one."""
    known = {(str(piece.path), piece.first) for piece in PIECES}
    public = [f for f in (op.fn, *op.covers) if getattr(f, "__module__", "").startswith(f"{NAME}.")]
    of_tensor = {id(f) for name, f in vars(z2g.Tensor).items() if getattr(f, "__module__", "") == f"{NAME}.tensor"}
    codes = [inspect.unwrap(f).__code__ for f in public if id(f) not in of_tensor]
    assert [code for code in codes if (code.co_filename, code.co_firstlineno) not in known] == []
    recorded = set().union(*(op.names for op in OPERATIONS.values()))

    def check(case, _):
        pending = [z.grad_fn for z in parts(bind(op, case)(*leaves(case.inputs)))]
        while pending:
            node = pending.pop()
            if hasattr(node, "name"):
                assert node.name in recorded
                pending += [edge[0] for edge in node.edges if edge is not None]

    holds(op, check, 3)


# --- python -m tinygrad_z2g.learn --------------------------------------------------------------------------------


def test_the_list_has_every_operation_with_its_formula(capsys):
    assert learn.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, op in OPERATIONS.items():
        line = next(line for line in lines if line.startswith(f"  {name} "))
        assert line.endswith(op.formula) and ("(composed)" in line) == (not op.recorded)


@pytest.mark.parametrize("name, rule, beside", [
    ("softmax", "lambda grad, p: p * (grad - (p * grad).sum(axis, keepdims=True)), RESULT", "  │ def _softmax("),
    ("softmax", "fast.softmax_backward(p, grad, axis), RESULT", "∂ │ def softmax_backward("),
    ("F.gelu", "∂ │         return grad * (s + x * slope)", "  │         return normal_cdf(x) if exact else"),
    ("F.gelu", "∂ │         (input, lambda grad, slope, _: fast.times(grad, slope)", "  │ def gelu_tanh("),
    ("max_pool1d", "return _max_pool(", "∂ │ def add_at_best("),
    ("mul", "(input, lambda grad, y: grad * y, other)", None),
    ("sign", "∂ │     return record(\"sign\", quiet.run(signs, x), (input, flat))", None),
    ("relu", "(input, lambda grad, z: grad * (z != 0), RESULT)", "lambda grad, z: fast.relu_backward(grad, z)"),
    ("nn.LayerNorm", "∂ │     def grad_x(grad: Any, x: Any, w: Any) -> Any:", "∂ │ def scaled_layer_norm_backward("),
    ("attention", "  │     return p @ v  # (..., T, S) @ (..., S, e) -> (..., T, e)", "∂ │ def attention_backward("),
    ("pow", "lambda grad, x, y: grad * (y * x ** (y - 1))", "∂ │     def grad_y(grad: Any, x: Any, "),
    ("F.conv2d", "return _convolve(", "∂ │     def grad_w(grad: Array, _: Array) -> Array:"),
    ("clip", "∂ │         return of(grad).where((x >= low) & (x <= high), grad, 0)", None),
    ("maximum", "lambda grad, x, y: _share(grad, x < y, x == y)", "∂ │     return xp.where(loses, 0,"),
])  # fmt: skip
def test_one_operation_is_shown_run_and_checked(capsys, name, rule, beside):
    assert learn.main([name]) == 0
    out = capsys.readouterr().out
    op = source.find(name)
    assert out.startswith(f"{op.name}:  {op.formula}") and rule in out and (beside is None or beside in out)
    owner = "one column, as in the file; ∂ marks the rule" if op.recorded else "composed: no rule of its own"
    assert f"Forward and rule ({owner}" in out
    assert prose(op.doc).splitlines()[-1] in out
    last = doctest.DocTestParser().get_examples(op.doc)[-1]
    assert f"  >>> {last.source}" in out and last.want.splitlines()[-1] in out
    assert re.search(r"\d+ derivatives, worst error \S+: ok", out) and "FAILED" not in out
    assert "\033" not in out


def test_the_plain_text_comes_first_and_names_the_form_that_takes_its_place(capsys):
    assert learn.main(["softmax"]) == 0
    out = capsys.readouterr().out
    parts = [out.index(f"{NAME}/{place}") for place in ("core/ops.py:", "fast/forms.py:", "ops/softmax.py:")]
    assert parts == sorted(parts) and out.index("pᵢ = e^xᵢ") < out.index("Derived:") < parts[0]
    form = OPERATIONS["softmax"].form[0]
    assert source.title(form.path, form.first) in out and "return p" in out
    assert "TINYGRAD_Z2G_PLAIN=1" in out.partition("The fast form")[2]
    assert learn.main(["cross_entropy"]) == 0  # what is long is named, not shown
    out = " ".join(capsys.readouterr().out.split())
    assert re.search(r"fast/forms\.py:\d+ class_losses, \d\d lines: ", out) and "def class_losses(" not in out
    assert learn.main(["exp"]) == 0
    assert "The fast form" not in capsys.readouterr().out


def test_the_lines_shown_are_the_lines_of_the_file():
    for op in OPERATIONS.values():
        for piece in (*op.pieces, *op.form, *op.wider):
            text = piece.path.read_text(encoding="utf-8").splitlines()
            shown = piece.lines()
            assert all(text[number - 1] == line for number, line, _ in shown)
            assert any(f"def {piece.node.name}(" in line for _, line, _ in shown)
        assert any(mark for piece in op.pieces for _, _, mark in piece.lines()) == bool(op.recorded)


def test_a_rule_that_is_wrong_is_reported(capsys, monkeypatch):
    if PLAIN:

        def without_the_sum(name, z, edge, *others):
            wrong = (edge[0], lambda g, p: p * g, *edge[2:]) if name == "softmax" else edge
            return record(name, z, wrong, *others)

        record = ops.record
        monkeypatch.setattr(ops, "record", without_the_sum)
    else:
        monkeypatch.setattr(fast, "softmax_backward", lambda p, grad, axis: p * grad)
    assert learn.main(["softmax"]) == 1
    out = capsys.readouterr().out
    assert "NOT what the docstring says" in out and "FAILED" in out
    assert learn.checked(OPERATIONS["softmax"])[1] is False and learn.checked(OPERATIONS["exp"])[1] is True


@pytest.mark.parametrize(
    "name, close", [("sofmax", "softmax"), ("F.layernrm", "layer_norm"), ("+", "no operation '+'. Without a name this")]
)
def test_an_unknown_name_gets_near_ones_and_exit_code_2(capsys, name, close):
    with pytest.raises(SystemExit) as error:
        learn.main([name])
    assert error.value.code == 2
    assert close in capsys.readouterr().err


@pytest.mark.parametrize("name, title, rule, look", [
    ("Adam", "optim.Adam", "v[...] = beta2 * v + (1 - beta2) * g * g", "core/optimizers.py: `SGD` in a line"),
    ("optim.sgd", "optim.SGD", "p.array -= group[\"lr\"] *", "core/optimizers.py: `SGD` in a line"),
    ("backward", "Tensor.backward", "def deposit(", "core/engine.py: The whole idea."),
    ("Tensor.register_hook", "Tensor.register_hook", "def register_hook(", "tensor.py"),
    ("no_grad", "no_grad", "class no_grad", ""),
    ("nn.Module", "nn.Module", "class Module", "core/module.py"),
    ("GPT", "models.GPT", "class GPT(", "core/gpt.py"),
])  # fmt: skip
def test_what_is_no_operation_leads_to_source_rule_and_reading(capsys, name, title, rule, look):
    assert learn.main([name]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{title}\n") and rule in out and look in out.partition("\nReading\n")[2]
    paths = {str(path.relative_to(ROOT)): path for path in FILES.values()}
    file = None
    for line in out.splitlines():  # each line shown is that of the file
        if place := re.match(r"(tinygrad_z2g/\S+):\d+", line):
            file = paths[place[1]].read_text(encoding="utf-8").splitlines()
        elif number := re.match(r" *(\d+) [∂ ] │ ?(.*)$", line):
            assert file[int(number[1]) - 1].rstrip() == number[2].rstrip()


@pytest.mark.parametrize("name, places", [
    ("Adam", ["optim/adam.py", "fast/updates.py"]), ("nn.Module", ["nn/module.py"]),
    ("GPT", ["models/gpt.py"]), ("no_grad", []), ("clip_grad_norm_", []),
])  # fmt: skip
def test_what_other_rooms_put_on_a_class_of_the_core_is_named(name, places):
    lines = source.put_on(source.find_thing(name))
    assert [line.partition(":")[0] for line in lines] == [f"{NAME}/{place}" for place in sorted(places)]


def test_the_lines_of_a_gpt_are_those_that_run(capsys, monkeypatch):
    assert learn.main(["path", "--gpt"]) == 0
    out = capsys.readouterr().out
    told = (
        r"([\d,]+) lines of functions in (\d+) files run with the plain .* and ([\d,]+) of them, (\d+)%, stand in core/"
        r".* about ([\d.]+) hours.* takes by itself, ([\d,]+) lines in (\d+) files run"
    )
    total, files, core, share, hours, others, fast_files = re.search(told, " ".join(out.split())).groups()
    rows = re.findall(r"(?m)^(\S+\.py) +(\d+) lines +(\d+|<1) min  (.+)$", out)
    assert len(rows) == int(files) and sum(int(row[1]) for row in rows) == int(total.replace(",", ""))
    assert float(hours) == round(int(total.replace(",", "")) / 600, 1)
    names = [row[0] for row in rows]
    assert names[0] == "core/engine.py" and {"core/gpt.py", "core/optimizers.py"} < set(names)
    assert not {"nn/conv.py", "optim/sgd.py", "tools/watch.py", "fast/forms.py"} & set(names)
    inside = sum(int(row[1]) for row in rows if row[0].startswith("core/"))
    assert inside == int(core.replace(",", "")) and f"{inside / int(total.replace(',', '')):.0%}" == f"{share}%"
    with_forms = reading.lines_of_a_gpt(TINYGRAD_Z2G_PLAIN="0")
    assert sum(map(len, with_forms.values())) == int(others.replace(",", "")) and len(with_forms) == int(fast_files)
    assert str(source.path_of("fast.forms")) in with_forms
    ran = reading.lines_of_a_gpt(TINYGRAD_Z2G_PLAIN="1")
    path = source.path_of("core.optimizers")
    text = path.read_text(encoding="utf-8").splitlines()
    assert any("move = " in text[number - 1] for number in ran[str(path)])
    assert not any(text[number - 1].lstrip().startswith(("raise", "import", "class")) for number in ran[str(path)])
    monkeypatch.setattr(reading, "PROGRAM", "raise SystemExit('broken')")
    with pytest.raises(RuntimeError, match="the traced program failed: broken"):
        reading.lines_of_a_gpt()


def test_gpt_without_path_is_an_error(capsys):
    with pytest.raises(SystemExit):
        learn.main(["why", "--gpt"])
    assert "--gpt belongs to `path`" in capsys.readouterr().err


@pytest.mark.parametrize("terminal, no_colour", [(True, None), (True, ""), (True, "1"), (False, None)])
def test_colour_on_a_terminal_only(capsys, monkeypatch, terminal, no_colour):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_colour is not None:
        monkeypatch.setenv("NO_COLOR", no_colour)  # set but empty counts as not set: no-color.org
    for topic in ("exp", "path", "why"):
        learn.main([topic])
        assert ("\033[" in capsys.readouterr().out) == (terminal and not no_colour)


def test_it_prints_into_a_string_too():
    with contextlib.redirect_stdout(io.StringIO()) as text:
        assert learn.main(["exp"]) == 0
    assert text.getvalue().startswith("exp:  z = ")


def test_a_terminal_that_lacks_a_letter_shows_the_rest():
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"}
    run = subprocess.run([sys.executable, "-m", f"{NAME}.learn", "exp"], env=env, capture_output=True, check=True)
    assert b"dz/dx" in run.stdout


def test_a_reader_may_stop_early():
    """`learn | head -1` ends without a traceback."""
    command = f"{sys.executable} -m {NAME}.learn | head -1"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, shell=True, env=env, capture_output=True, text=True, check=True)
    assert run.stdout.startswith(f"{len(OPERATIONS)} operations.") and not run.stderr


def test_nothing_imports_it():
    others = {name: used for name, used in graph().items() if not name.startswith(("learn", "tools.learn"))}
    assert len(others) > 100
    assert [name for name, used in others.items() if any("learn" in u for u in used)] == []


# --- The reading path --------------------------------------------------------------------------------------------


def misplaced(path, graph):
    """What is wrong with an order of steps: what is used before it is read or explained, or explained for nothing."""
    known, explained, wrong = {""}, set(), []  # the package itself, which commands import, re-exports only
    for step in path:
        unread = graph[step.module] - known - {step.module}
        explained |= set(step.later)
        wrong += [f"{step.module} uses {other}" for other in unread - explained]
        wrong += [f"{step.module} need not explain {other}" for other in set(step.later) - unread]
        known.add(step.module)
    return wrong


def test_every_file_has_its_step():
    assert sorted(step.module for step in reading.steps()) == sorted(name for name in FILES if name)


def test_nothing_is_used_before_it_is_explained():
    assert misplaced(reading.steps(), graph()) == []


def test_a_wrong_order_is_noticed():
    steps = reading.steps()
    assert "optim.sgd uses tensor" in misplaced(sorted(steps, key=lambda step: step.module != "optim.sgd"), graph())
    assert steps[1].module == "core.engine"
    engine = steps[1]._replace(later={**steps[1].later, "text": "what is not used"})
    assert misplaced([steps[0], engine, *steps[2:]], graph()) == ["core.engine need not explain text"]
    silent = steps[1]._replace(later={})
    assert "core.engine uses arrays.backend" in misplaced([steps[0], silent, *steps[2:]], graph())


def test_what_to_look_for_is_there():
    """Every name in backticks stands in the file of its step."""
    for step in reading.steps():
        text = source.path_of(step.module).read_text(encoding="utf-8")
        names = re.findall(r"`([\w.]+)(?:\(.*?\))?`", step.look)
        assert [name for name in names if name.rpartition(".")[2] not in text] == [], step.module
        assert re.search(r"\w\W*[.?]$", step.look) and not re.search(r"[.?]\.$", step.look), step.look  # one end


def test_the_path_is_printed_with_the_lines_of_today(capsys, monkeypatch):
    assert learn.main(["path"]) == 0
    out = capsys.readouterr().out
    for path in (path for name, path in FILES.items() if name):
        lines = path.read_text(encoding="utf-8").count("\n")
        assert re.search(rf"^ *\d+  {path.relative_to(PACKAGE)} +{lines} lines  (read|open)", out, re.M), path
    hours = sum(step.minutes for step in reading.steps()) / 60
    assert 1.5 <= hours <= 2.5, "an evening: leave more to be opened only, or say that it is longer"
    assert f"about {hours:.1f} hours" in out
    first = " ".join(out.partition("\n\n")[0].split())
    told = re.findall(r"([\d,]+) (?:lines,|are to 'read'|lines are to 'open')", first)
    total, *split = (int(n.replace(",", "")) for n in told)
    paces = (reading.READ, reading.OPEN)
    assert split == [sum(step.lines for step in reading.steps() if step.pace == pace) for pace in paces]
    assert total == sum(split) and f"{(sum(n / p for n, p in zip(split, paces, strict=True)) / 60):.1f} hours" in first
    assert all(re.search(rf"\bat {pace}\b", first) for pace in paces)  # how the figure comes about is not hidden


def test_every_question_points_to_lines_that_exist(capsys):
    assert learn.main(["why"]) == 0
    out = capsys.readouterr().out
    for question in reading.QUESTIONS:
        assert question.question in out and question.places
        for module, pattern in question.places:
            name, line = reading.locate(module, pattern).split(":")
            assert re.search(pattern, (ROOT / name).read_text(encoding="utf-8").splitlines()[int(line) - 1])
            assert f"-> {name}:{line}" in out
    for asked in ("rule of softmax", "`+=`", "frees the graph", "add an operation"):
        assert sum(asked in question.question for question in reading.QUESTIONS) == 1


@pytest.mark.parametrize("pattern", [r"^def there_is_no_such_thing\(", "import"])
def test_a_place_that_is_gone_or_not_alone_is_an_error(pattern):
    with pytest.raises(LookupError, match=r"lines of engine\.py match"):
        reading.locate("core.engine", pattern)


# --- Every file introduces itself --------------------------------------------------------------------------------


def introduction(text):
    """What a module says it knows nothing of: the sentence."""
    return re.search(r"[^.]*\bnothing of\b[^.]*\.", " ".join(text.split()))


ROOMS = [name for name, path in FILES.items() if path.name == "__init__.py" or name.split(".")[0] == "core"]


@pytest.mark.parametrize("name", FILES, ids=lambda name: name or "__init__")
def test_each_room_and_file_of_the_evening_says_what_it_knows_nothing_of(name):
    """And it is so, wherever it is said: a module named there is not imported."""
    ignored = introduction(ast.get_docstring(parse(FILES[name])))
    if ignored is None:
        assert name not in ROOMS, "what is it for, and what does it know nothing of?"
        return
    named = set(re.findall(r"nothing of[^.:;]*?`([\w.]+)`", ignored.group()))
    assert named & {used.rpartition(".")[2] for used in graph()[name]} == set()


def test_an_introduction_is_recognised():
    assert introduction("New tensors. It knows nothing\nof graphs.").group().strip() == "It knows nothing of graphs."
    assert introduction("New tensors, and nothing else.") is None
