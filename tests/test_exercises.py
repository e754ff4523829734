"""The exercises: each is blank, its check passes the package's own operation, and catches a rule that is wrong."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import tinygrad_z2g as z2g
from tinygrad_z2g.nn import functional as F
from tinygrad_z2g.tools.learn.source import operations

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


# Plausible slips of a learner: what is written in place of the `raise`, and what is then said
SLIPS = {
    "swapped": ("mul", "return grad * x, grad * y", r"^Not yet: Mul: 24 of 24 .* worst: y of .*: yours .*, measured "),
    "one missing": ("mul", "return grad * y", "^Not yet: Mul.backward: returned 1 gradients, expected 2"),
    "chain rule forgotten": ("tanh", "return 1 - z * z", "^Not yet: Tanh: "),
    "a name that is none": ("tanh", "return grad * (1 - y * y)", r"^Not yet: line \d+: name 'y' is not defined$"),
    "saved and changed": ("tanh", "return grad * z.mul_(-z).add_(1)", "^Not yet: .*inplace"),
    "transposed": ("row_sum", "return grad.expand_as(x)", "^Not yet: RowSum: 12 of 16 "),
    "inner sizes": ("matmul", "return grad @ y, x @ grad", r"^Not yet: line \d+: matmul: .* inner sizes"),
    "mean for sum": ("linear", "return grad @ W, grad.T @ x, grad.mean(dim=0)", "^Not yet: Linear: 2 of 23 .* b of "),
    "the last one wins": (
        "embedding", "g = z2g.zeros_like(table)\n        g[ids] += grad\n        return g, None",
        "^Not yet: Embedding: 3 of 12 ",
    ),
    "the diagonal alone": ("softmax", "return grad * p * (1 - p)", "^Not yet: Softmax: "),
    "no mean": ("cross_entropy", "return grad * (p - F.one_hot(target, 3)), None", "^Not yet: CrossEntropy: "),
    "stretch forgotten": ("layer_norm", "return r * (grad - grad.mean(dim=1, keepdim=True))", "^Not yet: LayerNorm: "),
    "d forgotten": (
        "attention", "g = grad @ v.T\n        g = p * (g - (p * g).sum(dim=1, keepdim=True))\n"
        "        return g @ k, g.T @ q, p.T @ grad", "^Not yet: Attention: 14 of 34 ",
    ),
}  # fmt: skip
RIGHT = {
    "mul": "return grad * y, grad * x",
    "tanh": "return grad * (1 - z * z)",
    "row_sum": "return grad.unsqueeze(1).expand_as(x)",
    "matmul": "return grad @ y.T, x.T @ grad",
    "linear": "return grad @ W, grad.T @ x, grad.sum(dim=0)",
    "embedding": "return z2g.zeros_like(table).scatter_add(0, ids.unsqueeze(1).expand_as(grad), grad), None",
    "softmax": "return p * (grad - (p * grad).sum(dim=1, keepdim=True))",
    "cross_entropy": "return grad * (p - F.one_hot(target, p.shape[1])) / len(target), None",
    "layer_norm": "return r * (grad - grad.mean(dim=1, keepdim=True) - n * (grad * n).mean(dim=1, keepdim=True))",
    "attention": "g = grad @ v.T\n        g = p * (g - (p * g).sum(dim=1, keepdim=True)) / q.shape[1] ** 0.5\n"
    "        return g @ k, g.T @ q, p.T @ grad",
}


@pytest.fixture
def written(tmp_path, monkeypatch):
    """A function that writes a rule into an exercise, in the place of the `raise`, and runs it."""
    monkeypatch.syspath_prepend(str(FOLDER))

    def written(name, rule):
        path = next(path for path in FILES if name_of(path) == name)
        source, found = re.subn(r"raise NotImplementedError\(.*\)", lambda _: rule, path.read_text(encoding="utf-8"))
        assert found == 1
        copy = tmp_path / path.name
        copy.write_text(source, encoding="utf-8")
        runpy.run_path(str(copy), run_name="__main__")

    return written


@pytest.mark.parametrize("name", RIGHT)
def test_what_the_text_and_the_hint_lead_to_is_right(name, written, capsys):
    written(name, RIGHT[name])
    assert capsys.readouterr().out.startswith("Right: ")


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_named_in_one_line(slip, written):
    name, rule, said = SLIPS[slip]
    with pytest.raises(SystemExit, match=said) as end:
        written(name, rule)
    assert "\n" not in end.value.code


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_the_solution_is_where_the_exercise_says(path):
    [topic] = re.findall(r"`python -m tinygrad_z2g.learn (\w+)`", path.read_text(encoding="utf-8"))
    assert topic in operations()


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
