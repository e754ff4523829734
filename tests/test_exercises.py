"""The exercises: each is blank, its check passes the package's own operation, and catches a rule that is wrong."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import tinygrad_z2g as z2g
from tinygrad_z2g.nn import functional as F

FOLDER = Path(__file__).parent.parent / "examples" / "exercises"
FILES = sorted(FOLDER.glob("[0-9]*.py"))
OURS = {
    "mul": z2g.mul,
    "tanh": z2g.tanh,
    "row_sum": lambda x: x.sum(dim=1),
    "matmul": z2g.matmul,
    "linear": F.linear,
    "embedding": lambda table, ids: F.embedding(ids, table),
    "softmax": lambda x: F.softmax(x, dim=1),
    "cross_entropy": F.cross_entropy,
    "layer_norm": lambda x: F.layer_norm(x, x.shape[1:]),
    "attention": F.scaled_dot_product_attention,
}


def name_of(path):
    return path.stem[3:]


@pytest.fixture
def checked(monkeypatch):
    """What an exercise gives to `check`: its operation and its inputs."""
    given = []

    def load(path):
        monkeypatch.syspath_prepend(str(FOLDER))
        checking = __import__("checking")
        monkeypatch.setattr(checking, "check", lambda operation, *inputs: given.append((operation, inputs)))
        runpy.run_path(str(path), run_name="__main__")
        return given[-1]

    return load


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_an_exercise_as_it_is_handed_out(path):
    run = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr.startswith("Your turn: return the gradient"), run.stderr
    assert len(run.stderr.splitlines()) == 1


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_the_check_passes_what_is_right_and_catches_what_is_not(path, checked, capsys):
    blank, inputs = checked(path)
    ours, real = OURS[name_of(path)], runpy.run_path(str(FOLDER / "checking.py"))["check"]
    real(ours, *inputs)
    assert capsys.readouterr().out.startswith("Right: ")
    with z2g.no_grad():  # the forward pass is the same operation
        z = ours(*inputs)
        assert z2g.allclose(blank(*inputs), z, atol=1e-6)
    with pytest.raises(SystemExit, match=r"^Not yet: "):
        real(lambda *xs: Wrong.apply(ours, *xs), *inputs)


class Wrong(z2g.autograd.Function):
    """The right result, with gradients 1 % too large."""

    @staticmethod
    def forward(ctx, operation, *inputs):
        ctx.operation, ctx.inputs = operation, inputs
        return operation(*inputs)

    @staticmethod
    def backward(ctx, grad):
        live = [x.detach().requires_grad_() if x.is_floating_point() else x for x in ctx.inputs]
        with z2g.enable_grad():
            z = ctx.operation(*live)
        z.backward(grad)
        return (None, *(None if x.grad is None else x.grad * 1.01 for x in live))


def test_ten_of_them_stand_in_the_readme():
    listed = re.findall(r"\]\((\d\d_\w+\.py)\)", (FOLDER / "README.md").read_text(encoding="utf-8"))
    assert listed == [path.name for path in FILES]
    assert [name_of(path) for path in FILES] == list(OURS)
