"""`z2g.gradcheck`, the check that users run on their own functions: it must accept right gradients, refuse wrong ones,
say where, and leave everything as it was."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numeric import check_along
from op_table import EXEMPT

import tinygrad_z2g as z2g
from tinygrad_z2g import fast
from tinygrad_z2g.core.engine import record
from tinygrad_z2g.tools.gradcheck import GradcheckError, _outputs, compare
from tinygrad_z2g.tools.gradcheck.__main__ import moved
from tinygrad_z2g.tools.gradcheck.cases import cases
from tinygrad_z2g.tools.gradcheck.complex_step import NOT_ANALYTIC, complex_step
from tinygrad_z2g.tools.gradcheck.further import NOT_HALF


def points(*shape: int, seed: int = 0) -> z2g.Tensor:
    """float64 numbers away from 0, requiring grad, on the default device."""
    rng = np.random.default_rng(seed)
    return z2g.tensor(rng.uniform(0.5, 1.5, shape) * rng.choice([-1.0, 1.0], shape), requires_grad=True)


def planted(factor: float):
    """x³ whose rule is off by a factor: 1 is right."""

    def cube(x: z2g.Tensor) -> z2g.Tensor:
        a = x.array
        return record("cube", a * a * a, (x, lambda grad: grad * (3 * factor * a * a)))

    return cube


def wrong_in_one_place(x: z2g.Tensor) -> z2g.Tensor:
    """2x, whose rule forgets x[1, 2] alone."""

    def rule(grad):
        out = 2 * grad
        out[1, 2] = 0
        return out

    return record("double", 2 * x.array, (x, rule))


def test_accepts_right_gradients(device: str) -> None:
    x, w = points(2, 3), points(3, 2, seed=1)
    assert z2g.gradcheck(lambda x, w: (x @ w).tanh(), (x, w)) is True
    assert z2g.gradcheck(planted(1), x) is True


@pytest.mark.parametrize("factor", [-1, 0, 0.5, 2, 1.0001])
def test_refuses_wrong_factors(factor: float, device: str) -> None:
    with pytest.raises(GradcheckError):
        z2g.gradcheck(planted(factor), points(3))
    assert z2g.gradcheck(planted(factor), points(3), raise_exception=False) is False


def test_softmax_without_its_second_term_is_refused() -> None:
    """Its outputs sum to 1, so a check that differentiates their plain sum sees 0 = 0, right or wrong."""

    def softmax(x: z2g.Tensor) -> z2g.Tensor:
        p = np.exp(x.array) / np.exp(x.array).sum(-1, keepdims=True)
        return record("softmax", p, (x, lambda grad: p * (grad - grad.mean())))

    with pytest.raises(GradcheckError):
        z2g.gradcheck(softmax, points(4))


def test_report_names_input_element_and_both_values() -> None:
    right, x = points(2, 3), points(2, 3, seed=1)
    with pytest.raises(GradcheckError) as caught:
        z2g.gradcheck(lambda a, b: a + wrong_in_one_place(b), (right, x))
    text = str(caught.value)
    assert "input 1" in text and "(2, 3)" in text and "(1, 2)" in text and "1 of 12" in text
    analytic, measured = (float(text.split(f"{word} ")[1].split(",")[0]) for word in ("analytic", "measured"))
    assert analytic == 0
    assert 1 <= abs(measured) <= 3  # 2 w, with w in ±[0.5, 1.5]


def test_report_names_the_function() -> None:
    with pytest.raises(GradcheckError, match="wrong_in_one_place"):
        z2g.gradcheck(wrong_in_one_place, points(2, 3))


def test_nan_is_a_failure() -> None:
    def bad(x: z2g.Tensor) -> z2g.Tensor:
        return record("bad", x.array * 1, (x, lambda grad: grad * np.nan))

    with pytest.raises(GradcheckError, match="nan"):
        z2g.gradcheck(bad, points(2))


@pytest.mark.parametrize("dtype", [z2g.float32, z2g.float16])
def test_refuses_low_precision(dtype: np.dtype) -> None:
    """In float32 the noise of a difference is as large as many a bug."""
    x = z2g.ones(2, dtype=dtype, requires_grad=True)
    with pytest.raises(ValueError, match=r"input 1.*float64"):
        z2g.gradcheck(lambda a, b: a * b, (points(2), x))


def test_refuses_when_nothing_can_be_checked() -> None:
    with pytest.raises(ValueError, match="requires grad"):
        z2g.gradcheck(lambda x: x * 2, points(2).detach())
    with pytest.raises(ValueError, match="detach"):
        z2g.gradcheck(lambda x: x.detach() * 2, points(2))


def test_leaves_inputs_and_their_gradients_alone(device: str) -> None:
    x = points(3)
    x.grad = z2g.tensor([7.0, 8.0, 9.0], dtype=z2g.float64)
    before = x.tolist()
    z2g.gradcheck(planted(1), x)
    z2g.gradcheck(planted(2), x, raise_exception=False)
    assert x.tolist() == before
    assert x.grad.tolist() == [7, 8, 9]


@pytest.mark.parametrize("call", range(1, 8))
def test_restores_inputs_after_an_exception(call: int) -> None:
    """The function breaks at its n-th call: in the forward pass, or with an element moved up, down, by h or by h / 2."""  # noqa: E501
    x, calls = points(2), []
    before = x.tolist()

    def breaks(x: z2g.Tensor) -> z2g.Tensor:
        calls.append(1)
        if len(calls) == call:
            raise KeyError("broken")
        return x * x

    with pytest.raises(KeyError, match="broken"):
        z2g.gradcheck(breaks, x)
    assert x.tolist() == before
    assert x.grad is None


def test_restores_inputs_when_backward_fails() -> None:
    def backward_breaks(x: z2g.Tensor) -> z2g.Tensor:
        def rule(grad):
            raise KeyError("broken")

        return record("breaks", x.array * 1, (x, rule))

    x = points(2)
    x.grad = z2g.ones(2, dtype=z2g.float64)
    with pytest.raises(KeyError):
        z2g.gradcheck(backward_breaks, x)
    assert x.grad.tolist() == [1, 1]


def test_checks_every_input_and_every_output() -> None:
    """The second output alone is wrong, and only in the second input."""
    z2g.gradcheck(lambda a, b: (a * b, planted(1)(b)), (points(2), points(2, seed=1)))
    with pytest.raises(GradcheckError, match="input 1"):
        z2g.gradcheck(lambda a, b: (a * b, planted(2)(b)), (points(2), points(2, seed=1)))


def test_passes_other_arguments_on() -> None:
    """Integer tensors, numbers and constants are arguments, not variables."""
    ids = z2g.tensor([0, 1, 0])
    constant = points(3).detach()
    assert z2g.gradcheck(lambda x, ids, c, n: x[ids] * c * n, (points(2), ids, constant, 3))


def test_an_input_that_is_not_used_has_gradient_zero() -> None:
    assert z2g.gradcheck(lambda a, b: a * 2 + b.detach(), (points(2), points(2).detach()))
    assert z2g.gradcheck(lambda a, b: a * 2, (points(2), points(2, seed=1)))
    with pytest.raises(GradcheckError, match="input 1"):  # detach() hides a dependence
        z2g.gradcheck(lambda a, b: a * b.detach(), (points(2), points(2, seed=1)))


def test_integer_outputs_are_left_out() -> None:
    x = z2g.tensor([[1.0, 3.0, 2.0]], dtype=z2g.float64, requires_grad=True)
    assert z2g.gradcheck(lambda x: x.max(1), x)


@pytest.mark.parametrize("shape", [(), (0,), (2, 0), (1,), (1, 1, 1), (2, 1, 3)])
def test_shapes(shape: tuple) -> None:
    """Every element is compared, also the one of a 0-d input; there a wrong rule is refused."""
    x = points(*shape)
    assert compare(planted(1), x)[:2] == (x.numel(), 0)
    assert compare(planted(2), x)[:2] == (x.numel(), x.numel())
    assert z2g.gradcheck(planted(2), x, raise_exception=False) is (x.numel() == 0)


def test_measures_close_to_a_kink() -> None:
    """Two steps from it, nothing of the other side is seen."""
    assert z2g.gradcheck(lambda x: x.relu(), z2g.tensor([1e-4, -1e-4], dtype=z2g.float64, requires_grad=True))
    with pytest.raises(GradcheckError):
        z2g.gradcheck(lambda x: x.relu(), z2g.tensor([1e-5], dtype=z2g.float64, requires_grad=True))


def test_refuses_what_is_no_function_and_no_inputs() -> None:
    with pytest.raises(TypeError, match="expected a function or module first, then its inputs, got int"):
        z2g.gradcheck(3, points(2))
    with pytest.raises(TypeError, match="a function or module first, then its inputs, got Tensor"):
        z2g.gradcheck(points(2), lambda x: x)
    for wrong, kind in ((5, "int"), (np.ones(2), "ndarray"), (None, "NoneType")):
        with pytest.raises(TypeError, match=f"a Tensor or a sequence of inputs, got {kind}"):
            z2g.gradcheck(lambda x: x, wrong)


def test_works_under_no_grad_and_leaves_it_on() -> None:
    with z2g.no_grad():
        assert z2g.gradcheck(planted(1), points(2))
        with pytest.raises(GradcheckError):
            z2g.gradcheck(planted(2), points(2))
        assert not z2g.is_grad_enabled()


def test_tolerances_are_the_callers() -> None:
    assert z2g.gradcheck(planted(1.0001), points(2), rtol=1e-2)
    with pytest.raises(GradcheckError):
        z2g.gradcheck(planted(1.0001), points(2), rtol=1e-6)
    assert z2g.gradcheck(planted(1.0001), points(2), atol=1e-2, rtol=0)


def test_same_seed_same_report() -> None:
    reports = []
    for seed in (0, 0, 1):
        with pytest.raises(GradcheckError) as caught:
            z2g.gradcheck(planted(2), points(3), seed=seed)
        reports.append(str(caught.value))
    assert reports[0] == reports[1] != reports[2]


def test_noncontiguous_and_shared_inputs() -> None:
    """An input that is a strided view in memory; the same tensor given twice."""
    base = np.linspace(0.5, 2.0, 12).reshape(3, 4)
    x = z2g.from_numpy(base[::2, ::-1]).requires_grad_()
    assert z2g.gradcheck(planted(1), x)
    assert np.array_equal(base, np.linspace(0.5, 2.0, 12).reshape(3, 4))
    y = points(2)
    assert z2g.gradcheck(lambda a, b: a * b, (y, y))


# --- Modules, and the command -------------------------------------------------------------------------------------


def test_the_parameters_of_a_module_are_checked(device: str) -> None:
    layer = z2g.nn.Linear(3, 2).double()
    assert z2g.gradcheck(layer, points(4, 3))
    assert z2g.gradcheck(layer, z2g.ones(4, 3, dtype=z2g.float64))  # the input itself needs no gradient

    class Forgetful(z2g.nn.Linear):
        def forward(self, input: z2g.Tensor) -> z2g.Tensor:
            return input @ self.weight.t() + self.bias * 2 - self.bias.detach()

    with pytest.raises(GradcheckError, match="worst: bias of shape"):
        z2g.gradcheck(Forgetful(3, 2).double(), points(4, 3))


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The command, in this process."""
    monkeypatch.setattr("sys.argv", ["gradcheck", *arguments])
    return importlib.import_module("tinygrad_z2g.tools.gradcheck.__main__").main()


def test_the_command_checks_everything_and_prints_a_table(device, monkeypatch, capsys, tmp_path) -> None:
    path = tmp_path / "table.json"
    if device != "cpu":  # the fake takes 70 s for all of them; the gradients of each are checked on it below
        some = cases()[::24]
        monkeypatch.setattr(importlib.import_module("tinygrad_z2g.tools.gradcheck.__main__"), "cases", lambda: some)
    assert run(monkeypatch, "--json", str(path), "--device", "cpu" if device == "cpu" else "cuda") == 0
    out = capsys.readouterr().out
    table = json.loads(path.read_text())
    assert f"{len(table)} operations" in out and "0 failed" in out and "\033" not in out
    assert all(row["ok"] and row["float64"] < 1e-6 and row["float32"] < 2e-4 for row in table)
    assert {row["op"] for row in table if row["float16"] is None} == NOT_HALF & {row["op"] for row in table}
    assert all(row["float16"] < 1e-2 for row in table if row["float16"] is not None)
    stepped = {row["op"]: row["complex step"] for row in table if row["complex step"] is not None}
    assert len(stepped) == (len(table) - len(NOT_ANALYTIC) if device == "cpu" else 0)
    assert all(error < 1e-14 for error in stepped.values())
    if device != "cpu":
        return
    where = {row["op"]: row["where"] for row in table}
    assert where["exp"].startswith("input 0") and where["nn.LayerNorm"].split("[")[0] in ("input 0", "weight", "bias")


@pytest.mark.parametrize("device", ["fake", pytest.param("cuda", marks=pytest.mark.gpu)], indirect=True)
def test_every_case_on_a_card(device: str) -> None:
    wrong = []
    for case in cases():
        try:
            check_along(*moved(case, device, "float64", 1))
        except Exception as error:
            wrong.append(f"{case[0]}: {type(error).__name__}: {error}")
    assert not wrong, "\n".join(wrong)


def off_by(factor: float):
    """eˣ, tanh and a product of matrices, whose rule for the first input is off by a factor."""

    def f(x: z2g.Tensor, w: z2g.Tensor) -> z2g.Tensor:
        almost = record("almost", x.array + 0, (x, lambda grad: grad * factor))
        return (almost.exp() @ w).tanh()

    return f


def test_the_complex_step_sees_what_differences_cannot(monkeypatch, capsys) -> None:
    """A rule that is wrong in the tenth digit: the difference has no such digit, the complex step has six more."""
    x, w = points(2, 3), points(3, 2, seed=1)
    before = x.array, x.tolist()
    assert z2g.gradcheck(off_by(1 + 1e-9), (x, w))
    assert complex_step(off_by(1.0), [x, w])[0] < 1e-14
    error, where = complex_step(off_by(1 + 1e-9), [x, w])
    assert 1e-10 < error < 1e-8 and where.startswith("input 0[")
    assert x.array is before[0] and x.tolist() == before[1] and x.grad is None

    right = fast.rms_norm_backward
    monkeypatch.setattr(fast, "rms_norm_backward", lambda g, n, r: right(g, n, r) * (1 + 1e-9))
    assert run(monkeypatch, "--op", "F.rms_norm") == 1
    assert "differs from the complex step" in capsys.readouterr().out


def test_the_complex_step_restores_the_inputs_after_an_exception() -> None:
    x, calls = points(3), []

    def breaks(x: z2g.Tensor) -> z2g.Tensor:
        calls.append(1)
        if len(calls) == 3:
            raise KeyError("broken")
        return x * x

    before = x.array
    with pytest.raises(KeyError):
        complex_step(breaks, [x])
    assert x.array is before


def test_nan_is_a_failure_of_the_complex_step() -> None:
    assert np.isnan(complex_step(lambda x: record("bad", x.array * 1, (x, lambda grad: grad * np.nan)), [points(2)])[0])


@pytest.mark.filterwarnings("ignore::numpy.exceptions.ComplexWarning")
def test_what_is_called_not_analytic_is_not() -> None:
    """Each name of that list has a case that the complex step cannot do: nothing is excused without need."""
    excused = set()
    for name, fn, inputs in cases():
        if name in NOT_ANALYTIC:
            try:
                possible = complex_step(fn, inputs)[0] < 1e-13
            except (TypeError, KeyError):
                possible = False
            excused |= set() if possible else {name}
    assert excused == NOT_ANALYTIC


@pytest.mark.parametrize("case", cases(), ids=lambda case: case[0])
def test_no_case_is_blind(case: tuple) -> None:
    """Every gradient has an element that is not 0, but those of steps: zeros would pass with many a wrong rule."""
    name, fn, inputs = case
    sum((z * z.detach().add(1.5)).sum() for z in _outputs(fn(*inputs))).backward()
    own = fn.parameters() if isinstance(fn, z2g.nn.Module) else []
    checked = [*(x for x in inputs if x.requires_grad), *(p for p in own if p.requires_grad)]
    flat = {"sign", "floor", "ceil", "round", "trunc", "div, rounded", "pow, n = 0", "softmax, 0-d", "log_softmax, 0-d",
            "F.dropout, p = 1"}  # fmt: skip
    assert all(bool(np.any(x.grad.numpy())) != (name in flat) for x in checked)


def test_the_command_knows_every_operation() -> None:
    """Every function of the package and of nn.functional that has a gradient, as a case of its name or as a layer."""
    known = {name.split(".")[-1].lower() for name, _, _ in cases()}
    exempt = {name for names in EXEMPT.values() for name in names.split()}
    functions = [f for f in vars(z2g).values() if getattr(f, "__module__", "").startswith("tinygrad_z2g.ops")]
    public = {f.__name__ for f in functions} | set(z2g.nn.functional.__all__)
    assert public - exempt - known == {"scaled_dot_product_attention"}  # its case is called F.attention


def test_the_command_fails_for_a_wrong_rule(monkeypatch, capsys) -> None:
    monkeypatch.setattr(fast, "rms_norm_backward", lambda g, n, r: g * r)
    assert run(monkeypatch, "--op", "F.rms_norm") == 1
    out = capsys.readouterr().out
    assert "rms_norm" in out and "FAILED" in out and "analytic" in out and "1 failed" in out


def test_an_operation_that_raises_has_failed_and_the_others_go_on(monkeypatch, capsys) -> None:
    def broken(g, n, r):
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(fast, "rms_norm_backward", broken)
    assert run(monkeypatch, "--op", "exp", "--op", "F.rms_norm", "--op", "F.batch_norm") == 1
    rows = capsys.readouterr().out.splitlines()
    assert [row.split()[0] for row in rows[1:4]] == ["exp", "F.rms_norm", "F.batch_norm"] and "3 operations" in rows[4]
    assert ["ZeroDivisionError: oh" in row for row in rows[1:4]] == [False, True, False] and " 1 failed" in rows[4]


@pytest.mark.parametrize(
    ("terminal", "no_color", "coloured"),
    [(True, None, True), (True, "", True), (True, "1", False), (False, None, False)],
)
def test_the_command_is_coloured_on_a_terminal(monkeypatch, capsys, terminal, no_color, coloured) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color is not None:
        monkeypatch.setenv("NO_COLOR", no_color)  # set but empty counts as not set: no-color.org
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    assert run(monkeypatch, "--op", "mul") == 0
    assert ("\033[32mok\033[0m" in capsys.readouterr().out) == coloured


def test_the_command_finds_what_float32_loses(monkeypatch, capsys) -> None:
    rough = fast.rms_norm
    monkeypatch.setattr(fast, "rms_norm", lambda a, eps: rough(a, eps if a.dtype == np.float64 else 0.1))
    assert run(monkeypatch, "--op", "F.rms_norm") == 1
    assert "float32 differs from float64" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--op", "sofmax"], "no operation 'sofmax'; did you mean 'softmax', 'log_softmax'"),
        (["--op", "mul", "--op", "+"], "no operation '+'. Without --op all"),
        (["--op", "mul", "--json", "/nonexistent/x"], "No such file or directory: '/nonexistent/x'"),
        (["--device", "tpu"], "tpu"),
    ],
)
def test_the_command_refuses_wrong_arguments(monkeypatch, capsys, arguments, words) -> None:
    with pytest.raises(SystemExit) as caught:
        run(monkeypatch, *arguments)
    assert caught.value.code == 2 and words in capsys.readouterr().err


def test_the_complex_step_does_not_forget_a_nan() -> None:
    def rule(grad):
        return np.where(np.arange(3) == 0, np.nan, 2 * grad)

    error, where = complex_step(lambda x: record("bad", x.array * 2, (x, rule)), [points(3)])
    assert np.isnan(error) and where == "input 0[0]"


def test_the_command_checks_each_operation_that_is_named(monkeypatch, capsys) -> None:
    assert run(monkeypatch, "--op", "mul", "--op", "exp") == 0
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.split()[0] for line in lines[1:-1]) == ["exp", "mul"] and lines[-1].startswith("2 operations")


def test_nothing_is_checked_before_the_file_can_be_written(monkeypatch) -> None:
    command = importlib.import_module("tinygrad_z2g.tools.gradcheck.__main__")
    monkeypatch.setattr(command, "tried", lambda *case: pytest.fail("the work was begun"))
    with pytest.raises(SystemExit):
        run(monkeypatch, "--op", "mul", "--json", "/nonexistent/x")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a full disk, as Linux offers one")
def test_a_full_disk_is_no_wrong_gradient(monkeypatch, capsys) -> None:
    assert run(monkeypatch, "--op", "mul", "--json", "/dev/full") == 2
    printed = capsys.readouterr()
    assert "No space left" in printed.err and "1 operations" in printed.out


def test_a_reader_may_stop_early() -> None:
    """`gradcheck | head` ends without a traceback. Whoever stops reading before the first line is the worst case."""
    command = f"{sys.executable} -m tinygrad_z2g.gradcheck --op mul | true"
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    run = subprocess.run(command, shell=True, env=env, capture_output=True, text=True, check=True)
    assert not run.stderr
