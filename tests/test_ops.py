"""Every row of the table in `op_table.py` through every check. One line per operation and property in the report.

A rule is right if it agrees with finite differences (`numeric.py`); the rest is what users take for granted: the
values, dtypes and shapes, any memory layout, nothing mutated, the same on every device.
"""

from __future__ import annotations

from typing import Any

import fakecupy
import numpy as np
import pytest
from drawn import holds
from hypothesis import settings
from numeric import check_grad, cotangents, gradients, host, leaves
from numpy import array, inf  # noqa: F401 - for examples that are pasted
from op_table import EXEMPT, TABLE, Op
from strategies import Case

import tinygrad_z2g as z2g
import tinygrad_z2g.nn.functional as F
from tinygrad_z2g import Tensor, fast
from tinygrad_z2g.methods import Methods

FEW = max(4, settings().max_examples // 3)
every_op = pytest.mark.parametrize("op", TABLE, ids=lambda op: op.name)


def as_tensors(value: Any, dtype: Any, device: str) -> Any:
    """Arrays as tensors, also within tuples and lists; floating ones in `dtype`."""
    if isinstance(value, np.ndarray):
        return z2g.tensor(value.astype(dtype) if value.dtype.kind == "f" else value, device=device)
    return type(value)(as_tensors(v, dtype, device) for v in value) if isinstance(value, (tuple, list)) else value


def bind(op: Op, case: Case, dtype: Any = np.float64, device: str = "cpu") -> Any:
    """op.fn as a function of the differentiable inputs alone."""
    kwargs = {name: as_tensors(value, dtype, device) for name, value in case.kwargs.items()}
    return lambda *xs: op.fn(*xs, **kwargs)


def parts(result: Any) -> list:
    """A function's results as a list."""
    return list(result) if isinstance(result, (tuple, list)) else [result]


def run(op: Op, case: Case, seed: int, dtype: Any = np.float64, device: str = "cpu") -> tuple[list, list, list]:
    """The inputs, the outputs and the gradients of one call with random cotangents."""
    xs = leaves(case.inputs, dtype, device)
    fn = bind(op, case, dtype, device)
    outputs = parts(fn(*xs))
    weights = cotangents([z for z in outputs if z.is_floating_point()], np.random.default_rng(seed))
    return xs, outputs, gradients(fn, xs, weights)


def assert_close(ours: np.ndarray, other: np.ndarray, tolerance: float = 1e-10) -> None:
    """Equal shapes, and equal numbers up to rounding, NaN being equal to NaN."""
    assert ours.shape == other.shape
    np.testing.assert_allclose(ours, other, rtol=tolerance, atol=tolerance)


@every_op
def test_forward(op: Op) -> None:
    """The values are those of the NumPy twin, the dtype stays float64, and the arguments are left as they were."""

    def check(case: Case, _: int) -> None:
        xs = leaves(case.inputs)
        ours = parts(bind(op, case)(*xs))
        expected = parts(op.twin(*case.inputs, **case.kwargs))
        assert len(ours) == len(expected)
        for z, twin in zip(ours, expected, strict=True):
            assert z.dtype == (np.float64 if np.asarray(twin).dtype.kind == "f" else np.int64)
            assert_close(host(z), np.asarray(twin))
        for x, a in zip(xs, case.inputs, strict=True):
            assert np.array_equal(host(x), a)

    holds(op, check)


@every_op
def test_gradient(op: Op) -> None:
    """Backward agrees with central differences; see `check_grad` for what else is asserted."""

    holds(op, lambda case, seed: check_grad(bind(op, case), case.inputs, seed), again="test_ops.again")


def again(name: str, case: Case, seed: int) -> None:
    """One example of `test_gradient` once more: what it prints when it fails is a call of this."""
    check_grad(bind(next(op for op in TABLE if op.name == name), case), case.inputs, seed)


@every_op
def test_examples_print_as_python_that_makes_them_again(op: Op) -> None:
    """Arrays of any shape and dtype, indices, slices, masks, infinities."""

    def check(case: Case, _: int) -> None:
        copy = eval(repr(case))
        pairs = [*zip(case.inputs, copy.inputs, strict=True), (list(case.kwargs.items()), list(copy.kwargs.items()))]
        for ours, theirs in pairs:
            assert_identical(ours, theirs)

    holds(op, check, FEW)


def assert_identical(ours: Any, theirs: Any) -> None:
    """The same type, and the same shape, dtype and numbers in all arrays."""
    assert type(ours) is type(theirs)
    if isinstance(ours, np.ndarray):
        assert ours.shape == theirs.shape and ours.dtype == theirs.dtype and np.array_equal(ours, theirs)
    elif isinstance(ours, (list, tuple)):
        for a, b in zip(ours, theirs, strict=True):
            assert_identical(a, b)
    else:
        assert ours == theirs


def test_a_failing_example_prints_a_line_that_can_be_pasted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule is broken, the line in the report is run, and fails in the same way; mended, it passes."""
    right = fast.rms_norm_backward
    monkeypatch.setattr(fast, "rms_norm_backward", lambda g, n, r: g * r)
    with pytest.raises(AssertionError) as caught:
        test_gradient(next(op for op in TABLE if op.name == "F.rms_norm"))
    (line,) = [text for text in caught.value.__notes__ if "again(" in text]
    call = line.split("import *; ")[1]
    with pytest.raises(AssertionError) as once_more:
        eval(call)
    assert str(once_more.value) == str(caught.value)  # which holds the seed too
    monkeypatch.setattr(fast, "rms_norm_backward", right)
    eval(call)


@every_op
def test_float32(op: Op) -> None:
    """In float32 everything stays float32 and differs from the float64 run by rounding only."""

    def check(case: Case, seed: int) -> None:
        xs, outputs, grads = run(op, case, seed, np.float32)
        _, precise_outputs, precise_grads = run(op, case, seed)
        for x in xs:
            assert x.grad.dtype == np.float32 and x.grad.shape == x.shape
        for z in outputs:
            assert z.dtype in (np.float32, np.int64)
        for a, b in zip(outputs + grads, precise_outputs + precise_grads, strict=True):
            a, b = (np.asarray(host(c) if isinstance(c, Tensor) else c, np.float64) for c in (a, b))
            allowed = 64 * np.finfo(np.float32).eps * max(1.0, np.abs(b).max(initial=0, where=np.isfinite(b)))
            np.testing.assert_allclose(a, b, rtol=0, atol=allowed)

    holds(op, check, FEW)


def fortran(a: np.ndarray) -> np.ndarray:
    return np.array(a, order="F")


def every_second(a: np.ndarray) -> np.ndarray:
    """`a` with gaps between its elements in memory."""
    wide = np.full([2 * n for n in a.shape], 99.0)
    view = wide[(*[slice(None, None, 2)] * a.ndim, ...)]
    view[...] = a
    return view


def backwards(a: np.ndarray) -> np.ndarray:
    """`a` stored from its last element to its first."""
    flipped = (*[slice(None, None, -1)] * a.ndim, ...)
    return a[flipped].copy()[flipped]


@pytest.mark.parametrize("layout", [fortran, every_second, backwards])
@pytest.mark.parametrize("op", [op for op in TABLE if op.strided], ids=lambda op: op.name)
def test_memory_layout(op: Op, layout: Any) -> None:
    """Fortran order, gaps and negative strides, in the inputs and in the cotangent, change nothing."""

    def check(case: Case, seed: int) -> None:
        _, outputs, grads = run(op, case, seed)
        fn = bind(op, case)
        xs = [z2g.from_numpy(layout(a)).requires_grad_() for a in case.inputs]
        again = parts(fn(*xs))
        for z, expected in zip(again, outputs, strict=True):
            assert_close(host(z), host(expected))
        live = [z for z in again if z.is_floating_point()]
        for i, (z, w) in enumerate(zip(live, cotangents(live, np.random.default_rng(seed)), strict=True)):
            z.backward(z2g.from_numpy(layout(w)), retain_graph=i + 1 < len(live))
        for x, g in zip(xs, grads, strict=True):
            assert_close(host(x.grad), g)

    holds(op, check, FEW)


@every_op
def test_history(op: Op) -> None:
    """Under no_grad, and for inputs that need no gradient, the numbers are the same and no history is kept."""

    def check(case: Case, _: int) -> None:
        fn = bind(op, case)
        expected = parts(fn(*leaves(case.inputs)))
        with z2g.no_grad():
            silent = parts(fn(*leaves(case.inputs)))
        constant = parts(fn(*[z2g.tensor(a, device="cpu") for a in case.inputs]))
        for z, without, of_constants in zip(expected, silent, constant, strict=True):
            assert z.requires_grad == z.is_floating_point()
            for other in (without, of_constants):
                assert np.array_equal(host(z), host(other), equal_nan=True)
                assert other.grad_fn is None
            assert not of_constants.requires_grad

    holds(op, check, FEW)


@every_op
def test_backward_is_linear(op: Op) -> None:
    """The gradient for -2 v + w / 2 is -2 times that for v plus half of that for w: a rule never looks at its size.

    And the same cotangent gives the same gradient again, to the last bit.
    """

    def check(case: Case, seed: int) -> None:
        fn, rng = bind(op, case), np.random.default_rng(seed)
        outputs = [z for z in parts(fn(*leaves(case.inputs))) if z.is_floating_point()]
        v, w = cotangents(outputs, rng), cotangents(outputs, rng)
        mixed = [-2 * a + b / 2 for a, b in zip(v, w, strict=True)]
        of_v, of_w, of_mixed = (gradients(fn, leaves(case.inputs), c) for c in (v, w, mixed))
        for a, b, c in zip(of_v, of_w, of_mixed, strict=True):
            assert_close(c, -2 * a + b / 2)
        for a, once_more in zip(of_v, gradients(fn, leaves(case.inputs), v), strict=True):
            assert np.array_equal(a, once_more, equal_nan=True)

    holds(op, check, FEW)


@pytest.mark.parametrize("device", ["fake", pytest.param("cuda", marks=pytest.mark.gpu)], indirect=True)
@every_op
def test_device(op: Op, device: str) -> None:
    """On the GPU: the same values and gradients, computed there, without making the host wait."""

    def check(case: Case, seed: int) -> None:
        _, outputs, grads = run(op, case, seed)
        xs = leaves(case.inputs, device=device)
        fn = bind(op, case, device=device)
        before = fakecupy.synchronisations.count
        again = parts(fn(*xs))
        if not op.waits:
            assert fakecupy.synchronisations.count == before
        for z, expected in zip(again, outputs, strict=True):
            assert z.device.type == device
            assert_close(host(z), host(expected))
        weights = cotangents([z for z in outputs if z.is_floating_point()], np.random.default_rng(seed))
        for x, g, expected in zip(xs, gradients(fn, xs, weights), grads, strict=True):
            assert x.grad.device == x.device
            assert_close(g, expected)

    holds(op, check, FEW)


def test_every_public_operation_is_tested() -> None:
    """z2g.f, Tensor.f and F.f: each is a row of the table or exempt for a reason."""
    tested = {id(f) for op in TABLE for f in (op.fn, *op.covers)}
    exempt = {name for names in EXEMPT.values() for name in names.split()}
    operations = {
        name: f
        for name, f in vars(z2g).items()
        if getattr(f, "__module__", "").startswith(("tinygrad_z2g.ops", F.__name__))
    }
    methods = {
        name: f
        for name, f in {**vars(Methods), **vars(Tensor)}.items()
        if (callable(f) or isinstance(f, (property, staticmethod))) and (name.startswith("__") or name[0] != "_")
    }
    functions = {name: getattr(F, name) for name in F.__all__}
    public = [*operations.items(), *methods.items(), *functions.items()]
    missing = [name for name, f in public if id(f) not in tested and name not in exempt]
    assert not missing, f"not in tests/op_table.py: {missing}"
    assert exempt <= {name for name, _ in public}, "exempt, but gone from the package"
