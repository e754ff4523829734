"""Products on the matrix unit: at least as exact as the tile's, and by the tile where the unit would be wrong."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygrad_z2g as z2g
from tinygrad_z2g.fast import loops, recurrent

pytestmark = [
    pytest.mark.compiled,
    pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="Numba is not installed"),
]
EPS = 2.0**-24  # what rounding to float32 costs
rng = np.random.default_rng(0)


@pytest.fixture(scope="module")
def compiled() -> Any:
    found = loops.load()
    assert found is not None, loops.reason
    return found


@pytest.fixture
def products(compiled: Any, monkeypatch: Any) -> Any:
    """The file of that name, where any product of 32 rows and columns goes to the unit."""
    from tinygrad_z2g.fast.compiled import products

    if not products.UNIT:
        pytest.skip("this processor has no matrix unit, or the system does not allow it")
    monkeypatch.setattr(products, "WORTH", 0)
    monkeypatch.setattr(products, "LONG", 1)
    monkeypatch.setattr(products, "MANY", 1)
    monkeypatch.setattr(products, "LEAST", 0)
    return products


def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
    return (rng.standard_normal(shape) * scale).astype(np.float32)


def laid_out(x: np.ndarray, how: str) -> np.ndarray:
    """The same numbers: row by row, column by column, or as a part of a wider array."""
    if how == "columns":
        return np.ascontiguousarray(x.T).T
    if how == "part":
        wide = np.full((len(x), x.shape[1] + 5), np.nan, np.float32)
        wide[:, 3:-2] = x
        return wide[:, 3:-2]
    return x


def off(z: np.ndarray, a: np.ndarray, b: np.ndarray, row: Any = 0) -> float:
    """The largest error of z = a b + row, in units of rounding |a| |b| + |row|."""
    a, b, row = a.astype(np.float64), b.astype(np.float64), np.float64(row)
    size = np.abs(a) @ np.abs(b) + np.abs(row)
    return float((np.abs(z - (a @ b + row)) / np.where(size == 0, 1, size)).max() / EPS)


SHAPES = [(32, 32, 32), (33, 40, 47), (64, 512, 64), (70, 513, 90), (300, 65, 34), (34, 1100, 290), (129, 31, 257)]
LAYOUTS = ["rows", "columns", "part"]


@pytest.mark.parametrize("how", [(x, y) for x in LAYOUTS for y in LAYOUTS])
@pytest.mark.parametrize("shape", SHAPES)
def test_products_are_exact_for_any_shape_and_layout(shape: tuple, how: tuple, products: Any) -> None:
    n, k, m = shape
    a, b, row = laid_out(normal(n, k), how[0]), laid_out(normal(k, m, scale=0.01), how[1]), normal(m)
    assert off(products.product(a, b, None), a, b) < 8
    assert off(products.product(a, b, row), a, b, row) < 8
    weight, bias = products.weight_and_bias(laid_out(normal(k, n), "rows"), np.ascontiguousarray(b))
    assert weight.shape == (n, m)
    assert bias.shape == (n,)


@pytest.mark.parametrize("shape", [(768, 128, 512), (512, 768, 128), (100, 2000, 100)])
def test_products_are_more_exact_than_the_tiles(shape: tuple, products: Any, monkeypatch: Any) -> None:
    n, k, m = shape
    a, b = normal(n, k), normal(k, m)
    right = a.astype(np.float64) @ b.astype(np.float64)

    def error() -> float:
        return float(np.sqrt(np.mean((products.product(a, b, None) - right) ** 2)))

    unit = error()
    monkeypatch.setattr(products, "UNIT", False)
    assert unit < 0.7 * error()  # 0.43, 0.60 and 0.66 were measured, the sum of 2,000 in parts of 512 and of 256


def test_each_of_the_six_products_counts(products: Any) -> None:
    """x₂ y₀ and x₀ y₂, the smallest, are 2⁻¹⁶ of x y: 24 binary digits times a power of two are exact."""
    x = rng.integers(2**23, 2**24, (64, 64)).astype(np.float32)
    powers = (2.0 ** rng.integers(-3, 3, 64)).astype(np.float32)
    np.testing.assert_array_equal(products.product(x, np.diag(powers), None), x * powers)
    np.testing.assert_array_equal(products.product(np.diag(powers), x, None), powers[:, None] * x)


def test_parts_are_rounded_not_cut_off(products: Any) -> None:
    """Cut off, x₁ and x₂ would have the sign of x, and what is left out would be missing from every sum: 2⁻²⁴ of it."""
    a, b = (rng.random((128, 128)) + 0.5).astype(np.float32), (rng.random((128, 128)) + 0.5).astype(np.float32)
    right = a.astype(np.float64) @ b.astype(np.float64)
    assert abs(np.mean(products.product(a, b, None) / right - 1)) < 2.0**-26


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan, 3e38, 1e20, 1e-30, 1e-42, 0.0])
@pytest.mark.parametrize("whose", ["a", "b"])
@pytest.mark.parametrize("wide", [False, True])
def test_the_tile_computes_what_the_unit_cannot(
    bad: float, whose: str, wide: bool, products: Any, monkeypatch: Any
) -> None:
    """A whole group of rows that is tiny, or one number that is large, infinite or NaN."""
    n, m = (70, 200) if wide else (200, 70)
    a, b, row = normal(n, 90), normal(90, m), normal(m)
    x = a if whose == "a" else b.T
    if abs(bad) < 1:
        x[16:48] *= np.float32(bad)
        if bad == 1e-30:
            x[:] *= np.float32(bad)  # 1e-60 would be 0
    else:
        x[37, 5] = bad
    with np.errstate(all="ignore"):
        z = products.product(a, b, row)
        monkeypatch.setattr(products, "UNIT", False)
        expected = products.product(a, b, row)
    rows, columns = (slice(32, 48), slice(None)) if whose == "a" else (slice(None), slice(32, 48))
    np.testing.assert_array_equal(np.isnan(z), np.isnan(expected))
    np.testing.assert_array_equal(z[rows, columns], expected[rows, columns])  # the tile's, to the last bit
    np.testing.assert_allclose(z, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("how", LAYOUTS)
def test_single_tiny_numbers_do_no_harm(how: str, products: Any) -> None:
    """Of a number below 2⁻¹⁰⁹ x₂ has more than 16 bits: they must not get into the number before it."""
    a, b = normal(64, 200), normal(200, 64)
    tiny = [1e-32, 3e-35, -1e-36, 1e-38, 1e-40, 2.0**-149, *np.array([0x7FFF, 0x7F90], np.uint32).view(np.float32)]
    a[:, 10:26], b[50:66] = np.repeat(tiny, 2).astype(np.float32), np.repeat(tiny, 2).astype(np.float32)[:, None]
    a[10:18, 100] = b[101, 10:18] = tiny
    a[10:18, 103] = b[102, 10:18] = tiny
    a, b = laid_out(a, how), laid_out(b, how)
    assert off(products.product(a, b, None), a, b) < 8


def test_tiny_products_keep_their_digits(products: Any) -> None:
    """2⁻¹²⁶ is the smallest number that the unit knows: of 1e-20 times 1e-20 nothing would be left."""
    a, b = normal(40, 50, scale=1e-20), normal(50, 60, scale=1e-15)
    assert off(products.product(a, b, None), a, b) < 8
    a, b = normal(40, 50, scale=1e-12), normal(50, 60, scale=1e-12)
    assert off(products.product(a, b, None), a, b) < 8


def test_the_same_bits_from_any_number_of_threads(products: Any, monkeypatch: Any) -> None:
    from tinygrad_z2g.fast.compiled import jit

    for n, m in ((400, 70), (70, 400)):
        a, b = normal(n, 600), normal(600, m)
        a[100 % n] *= np.float32(1e-30)
        a[16:32] = 0
        found = []
        for threads in (1, 2, 3, 5):
            monkeypatch.setattr(jit, "threads", lambda threads=threads: threads)
            found.append(products.product(a, b, None))
        for other in found[1:]:
            np.testing.assert_array_equal(other, found[0])


@pytest.mark.parametrize("N", [50, 300])
@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("case", ["ordinary", "tiny", "large"])
def test_steps_of_recurrent_layers(
    kind: str, case: str, N: int, products: Any, compiled: Any, monkeypatch: Any
) -> None:
    """Forward and backward as the reference, also where the unit misses some examples, or all; the same bits from any
    number of threads."""
    from tinygrad_z2g.fast.compiled import gates, jit

    monkeypatch.setattr(gates, "LEAST", 0)
    L, H = 5, 34
    G = {"rnn": 1, "gru": 3, "lstm": 4}[kind]
    inputs, h, w = normal(L, N, G * H, scale=0.5), normal(N, H, scale=0.5), normal(G * H, H, scale=0.1)
    grad = normal(L + (kind == "lstm"), N, H)
    if case == "tiny":
        h[:20] *= np.float32(1e-14)
        grad[:, 10:] *= np.float32(1e-25)
    if case == "large":
        h[7] = 1e15
        grad[2, 30] = 1e15

    def run(library: Any) -> list[np.ndarray]:
        if kind == "rnn":
            out = library.rnn(inputs, h, w, False)
            return [out, *library.rnn_backward(grad, out, h, w, False)]
        if kind == "gru":
            out, *kept = library.gru(inputs, h, w, b)
            return [out, *library.gru_backward(grad, out, *kept, h, w)]
        out, *kept = library.lstm(inputs, h, c, w)
        return [out, *library.lstm_backward(grad, out, *kept, h, w)]

    b, c = normal(3 * H), normal(N, H)
    with np.errstate(all="ignore"):
        found = []
        for threads in (1, 3):
            monkeypatch.setattr(jit, "threads", lambda threads=threads: threads)
            found.append(run(compiled))
        for ours, other, expected in zip(*found, run(recurrent), strict=True):
            np.testing.assert_array_equal(other, ours)
            size = float(np.abs(expected).max())
            atol = 1e-6 * size if case == "large" else 1e-5 * min(size, 1.0)  # what is large cancels out in places
            np.testing.assert_allclose(ours, expected, rtol=2e-4, atol=atol)


def test_a_fork_may_use_the_unit_as_well(products: Any) -> None:
    a, b = normal(64, 300), normal(300, 64)
    expected = products.product(a, b, None)
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(products.product(a, b, None), expected) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_no_unit_for_code_that_any_processor_can_run() -> None:
    """Numba may be told so; LLVM would end the process."""
    script = "from tinygrad_z2g.fast.compiled import matrix_unit; print(matrix_unit.THERE, matrix_unit.allowed())"
    env = {**os.environ, "NUMBA_CPU_NAME": "generic", "PYTHONPATH": str(Path(z2g.__file__).parents[1])}
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, env=env)
    assert run.stdout == "False False\n", run.stderr


def test_whether_the_unit_is_allowed(compiled: Any, monkeypatch: Any) -> None:
    from tinygrad_z2g.fast.compiled import matrix_unit

    answer = -1

    class Library:
        def __init__(self, name: None) -> None:
            pass

        def syscall(self, *args: int) -> int:
            assert args == (158, 0x1023, 18)
            return answer

    monkeypatch.setattr(ctypes, "CDLL", Library)
    monkeypatch.setattr(matrix_unit, "THERE", True)
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    assert not matrix_unit.allowed()
    answer = 0
    assert matrix_unit.allowed()
    monkeypatch.setattr(platform, "system", lambda: "Windows")
    assert not matrix_unit.allowed()
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(matrix_unit, "THERE", False)
    assert not matrix_unit.allowed()
