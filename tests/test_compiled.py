"""The compiled loops: the reference's numbers, from any number of threads, in forks; and what happens without Numba."""

from __future__ import annotations

import functools
import importlib.util
import json
import math
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygrad_z2g as z2g
from tinygrad_z2g.arrays import blas
from tinygrad_z2g.fast import channels, loops, pooling, quantized, recurrent, reference
from tinygrad_z2g.nn import functional as F

ROOT = Path(__file__).parent.parent
WHY_NOT = "Numba is not installed" if importlib.util.find_spec("numba") is None else ""
EPS = np.finfo(np.float32).eps


def needs_numba(test: Callable) -> Callable:
    return pytest.mark.compiled(pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)(test))


@pytest.fixture(scope="module")
def compiled() -> Any:
    found = loops.find()
    assert found is not None, loops.reason
    loops._say_if_new(found.cache_folder())
    found.prepare()
    return found


def python(source: str, *, path: Path = ROOT, flags: tuple = (), **environment: str) -> subprocess.CompletedProcess:
    """The source in a process of its own."""
    return subprocess.run(
        [sys.executable, *flags, "-c", textwrap.dedent(source)], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(path), str(ROOT)]), **environment},
    )  # fmt: skip


# --- Against the reference ---------------------------------------------------------------------------------------

rng = np.random.default_rng(0)


def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
    return (rng.standard_normal(shape) * scale).astype(np.float32)


def with_row_sums_of_one(a: np.ndarray) -> np.ndarray:
    return reference.softmax(a, -1)


def attention_arguments(N: int, C: int) -> list[tuple]:
    """Heads that are views of one array, as they come from a product; with a bias, causal, with dropout; turned."""
    T, d = max(1, C // 2), 8
    found = []
    for causal, with_bias, drop in ((True, False, 0.0), (False, False, 0.3), (False, True, 0.0)):
        all_three = np.split(normal(max(N // 8, 1), T, 6 * d), 3, -1)
        q, k, v = (x.reshape(*x.shape[:2], 2, d).swapaxes(1, 2) for x in all_three)
        bias = None
        if with_bias:
            bias = np.where(rng.random((T, T)) < 0.3, -np.inf, normal(T, T)).astype(np.float32)
            bias[0] = -np.inf  # looks nowhere
        found.append((q, k, v, bias, causal, 0.35, drop, 7))
    turned = (normal(max(N // 8, 1), 2, d, T).swapaxes(2, 3) for _ in range(3))
    return [*found, (*turned, None, True, 0.35, 0.0, 7)]


def lstm_arguments(N: int, C: int) -> tuple:
    L, H = 5, max(1, C // 4)
    return normal(L, N, 4 * H), normal(N, H), normal(N, H), normal(4 * H, H, scale=0.3)


def gru_arguments(N: int, C: int) -> tuple:
    L, H = 5, max(1, C // 4)
    return normal(L, N, 3 * H), normal(N, H), normal(3 * H, H, scale=0.3)


def rnn_arguments(N: int, C: int) -> tuple:
    L, H = 5, max(1, min(32, C // 2))
    return normal(L, N, H), normal(N, H), normal(H, H, scale=0.2)


def adam_arguments(N: int, C: int, decay: float, eps: float = 1e-8) -> tuple:
    w, g, m = (normal(N, C) for _ in range(3))
    return [w], [(w, g, m, m * m, 3)], 0.01, 0.9, 0.99, eps, decay


def windows_arguments(N: int, C: int, n: int) -> tuple:
    """Three taps, a stride of 1 or 2 and a dilation of 2 or 1 along each of n axes."""
    m = N // 8 + 1
    steps, spread, lengths = (1, 2)[:n], (2, 1)[:n], (max(1, C // 4),) * n
    sizes = [s * (length - 1) + 2 * d + 1 for s, d, length in zip(steps, spread, lengths, strict=True)]
    return normal(m, 2, *sizes), normal(m, 2, *(3,) * n, *lengths), steps, spread


def rotated_arguments(N: int, C: int) -> list[tuple]:
    """Heads that are views of a product, heads that are not, a plain matrix; both kinds of pairs."""
    n, half = max(N // 8, 1), max(C // 4, 1)
    cos, sin = normal(n, half), normal(n, half)
    heads = normal(3, n, 2, 2 * half).swapaxes(1, 2)
    return [(a, cos, sin, pairs) for a in (heads, heads.copy(), heads[0, 0].copy()) for pairs in (False, True)]


def quantized_arguments(n: int, C: int, transposed: bool = False, more: int = 3) -> list[tuple]:
    """Blocks of four bits, of eight, and of four without offsets, which no loop takes; x has a number for each weight
    of a row, or, where it is a gradient, for each row of weights."""
    nb, columns, found = max(1, C // 16), C + more, []
    for m, with_offsets in ((16, True), (32, False), (16, False)):
        kind = np.uint8 if m == 16 else np.int8
        quants = rng.integers(np.iinfo(kind).min, np.iinfo(kind).max, (nb, m, columns), kind)
        offsets = normal(nb, columns) if with_offsets else None
        found.append((normal(n, columns if transposed else 32 * nb), quants, normal(nb, columns), offsets))
    return found


# For each routine, arguments for matrices of N rows and C columns. What is changed in place is among the results.
CASES: dict[str, Callable[[int, int], list[tuple]]] = {
    "adam_all": lambda N, C: [adam_arguments(N, C, 0.0), adam_arguments(N, C, 0.1), adam_arguments(N, C, 0.0, 0.1)],
    "add_windows": lambda N, C: [windows_arguments(N, C, 1), windows_arguments(N, C, 2)],
    "add_part": lambda N, C: [
        (normal(2, N, C + 5), (..., slice(3, 3 + C)), normal(2, N, C)),
        (normal(N + 3, C), slice(3, None), normal(N, C)), (normal(3, N, C), 1, normal(N, C)),
        (normal(N, 2, C).swapaxes(0, 1), slice(None), normal(2, N, C)),
    ],
    "put_part": lambda N, C: [
        (normal(2, N, C), (..., slice(3, 3 + C)), (2, N, C + 5), np.dtype(np.float32)),
        *((normal(C, N).T, slice(3, None), (N + 3, C), np.dtype(kind)) for kind in (np.float32, np.float64)),
    ],
    "attention": attention_arguments,
    "add_at_best": lambda N, C: [
        (normal(2, 3, N, C), rng.integers(0, 6, (2, 3, N, C)), (2, 3), (1, 2), (2, 1), (N + 2, 2 * C + 1))
    ],
    "batch_norm": lambda N, C: [
        (normal(4, N, C) + 3, normal(N), normal(N), 1e-5), (normal(2, N, C), None, None, 1e-5)
    ],
    "batch_norm_backward": lambda N, C: [
        (normal(4, N, C), normal(4, N, C), np.abs(normal(N)) + np.float32(0.5), w) for w in (normal(N), None)
    ],
    "bmm": lambda N, C: [
        (normal(3, N, C), normal(3, C, 7)), (normal(3, C, N).swapaxes(1, 2), normal(3, C, 5)),
        (normal(2, N, 3, C).swapaxes(1, 2), normal(2, 3, 20, C, scale=1e-3).swapaxes(2, 3)),  # no sum overflows
    ],
    "clip": lambda N, C: [([normal(N, C), normal(C)], np.float32(total), 1.0) for total in (3, 0.5)],
    "column_sums": lambda N, C: [(normal(N, C),), (normal(N, C), normal(N, C))],
    "cross_entropy": lambda N, C: [
        (normal(N, C, scale=scale), rng.integers(0, C, N), (rng.random(N) < 0.9).astype(np.float32))
        for scale in (1, 30)
    ],
    "dropout": lambda N, C: [(normal(N, C), 0.2, 12345)],
    "erf": lambda N, C: [(normal(N, C),)],
    "gelu_exact": lambda N, C: [(normal(N, C, scale=3),), (normal(2, N, C), normal(C))],
    "gelu_tanh": lambda N, C: [(normal(N, C, scale=3),), (normal(2, N, C), normal(C))],
    "gru": lambda N, C: [(*gru_arguments(N, C), b) for b in (normal(3 * max(1, C // 4)), None)],
    "layer_norm": lambda N, C: [(normal(N, C) + 3, 1e-5)],
    "layer_norm_backward": lambda N, C: [(normal(N, C), *reference.layer_norm(normal(N, C), 1e-5))],
    "log_softmax": lambda N, C: [(normal(N, C, scale=scale), -1) for scale in (1, 30)] + [(normal(N, 3, C), 1)],
    "lstm": lambda N, C: [lstm_arguments(N, C)],
    "max_windows": lambda N, C: [
        (normal(2, 3, N + 2, 2 * C + 1), (2, 3), (1, 2), (2, 1), (N, C)), (np.round(normal(1, 2, N + 8, C + 1)), (9, 2),
         (1, 1), (1, 1), (N, C)),
    ],
    "norm": lambda N, C: [([normal(N, C), normal(C), normal(3, N, C)],)],
    "product": lambda N, C: [
        (normal(N, C), normal(C, 2 * N), normal(2 * N)), (normal(C, N).T, normal(C, C), normal(C)),
        (normal(N, C), normal(C, 5), None),
        *((normal(512 + C, N).T, normal(512 + C, 17, scale=3e-4), row) for row in (None, normal(17))),  # none overflows
    ],
    "product_and_column_sums": lambda N, C: [(normal(2, N, C), normal(2, N, C))],
    "fill": lambda N, C: [
        (normal(2, N, C), rng.random((N, C)) < 0.5, -7.5), (normal(N, C), rng.random(C) < 0.5, 0),
        (normal(N, C), rng.random((N, 1)) < 0.5, 2), (normal(N, C), (rng.random((C, N)) < 0.5).T, 2),
    ],
    "quantized_product": lambda N, C: [
        *quantized_arguments(N, C), *quantized_arguments(2, C), *quantized_arguments(2, 16, more=4500),
        *quantized_arguments(40, 32, more=4500),  # expanded in two parts
    ],
    "quantized_product_transposed": lambda N, C: quantized_arguments(N, C, True),
    "relu_backward": lambda N, C: [(normal(N, C), np.maximum(normal(N, C), 0))],
    "relu": lambda N, C: [(normal(N, C),)],
    "scaled_layer_norm": lambda N, C: [
        (normal(N, C) + 3, 1e-5, normal(C), normal(C)), (normal(N, C), 1e-5, normal(C), None)
    ],
    "scaled_layer_norm_backward": lambda N, C: [
        (normal(N, C), *reference.layer_norm(normal(N, C), 1e-5), normal(C))
    ],
    "weight_and_bias": lambda N, C: [
        (normal(N, C), normal(N, 2 * C)), (normal(600 + N, C), normal(600 + N, 70, scale=0.1)),
        (normal(600 + N, 17), normal(600 + N, 900, scale=0.1)),  # x is copied in two parts
    ],
    "rms_norm": lambda N, C: [(normal(N, C) + 3, 1e-5)],
    "rms_norm_backward": lambda N, C: [(normal(N, C), *reference.rms_norm(normal(N, C), 1e-5))],
    "rotate": rotated_arguments,
    "rnn": lambda N, C: [(*rnn_arguments(N, C), relu) for relu in (False, True)],
    "scale_shift": lambda N, C: [(normal(N, C), normal(C), normal(C)), (normal(N, C), normal(C), None)],
    "sgd": lambda N, C: [(normal(N, C), normal(N, C), 0.1)],
    "softmax": lambda N, C: [(normal(N, C, scale=scale), -1) for scale in (1, 30)]
    + [(normal(2, N, C), 2), (normal(N, 3, C), 1), (normal(N, 17), -1)],
    "softmax_backward": lambda N, C: [
        (with_row_sums_of_one(normal(N, C)), normal(N, C), -1),
        (reference.softmax(normal(N, 3, C), 1), normal(N, 3, C), 1),
    ],
    "squared_distance": lambda N, C: [(normal(2, N, C), normal(2, N, C))],
    "sum_rows_by_id": lambda N, C: [(rng.integers(0, n, N), normal(N, C), n) for n in (9, 700)],
    "times": lambda N, C: [(normal(2, N, C), normal(2, N, C))],
    "total": lambda N, C: [
        (normal(N, C), (0,), False), (normal(N, C), (1,), True), (normal(3, N, C), (0, 2), False),
        (normal(2, N, 3, C), (0, 2, 3), False), (normal(N, C), (0,), True), (normal(2, N, 3, C), (0, 2, 3), True),
    ],
}  # fmt: skip
SHAPES = [(0, 40), (1, 1), (1, 64), (7, 33), (64, 32), (100, 129), (700, 40), (5, 1000)]


def flat(result: Any) -> list[np.ndarray]:
    """The arrays in a result, however nested."""
    if isinstance(result, (list, tuple)):
        return [a for part in result for a in flat(part)]
    return [np.asarray(result)] if isinstance(result, (np.ndarray, np.generic)) else []


def widen(args: Any) -> Any:
    """The same in float64. What was one array stays one."""
    seen: dict[int, Any] = {}

    def wide(x: Any) -> Any:
        if isinstance(x, (list, tuple)):
            return type(x)(map(wide, x))
        if isinstance(x, np.ndarray) and x.dtype == np.float32:
            return seen.setdefault(id(x), x.astype(np.float64))
        return x

    return wide(args)


def copied(args: Any) -> Any:
    """The arguments in memory of their own. What was one array stays one; each lies in memory as it did."""
    seen: dict[int, Any] = {}

    def copy(x: Any) -> Any:
        if isinstance(x, (list, tuple)):
            return type(x)(map(copy, x))
        if not isinstance(x, np.ndarray) or id(x) in seen or not x.size:
            return seen.get(id(x), x)
        last = sum((n - 1) * step for n, step in zip(x.shape, x.strides, strict=True))  # where its last number begins
        z = np.ndarray(x.shape, x.dtype, np.zeros(last // x.itemsize + 1, x.dtype), 0, x.strides)
        z[...] = x
        return seen.setdefault(id(x), z)

    return copy(args)


def without_loops(function: Callable, *args: Any) -> Any:
    """What it gives with NumPy alone."""
    before = loops.ready, loops.reason
    loops.ready, loops.reason = None, "a test"
    try:
        return function(*args)
    finally:
        loops.ready, loops.reason = before


IN_PLACE = {"adam_all", "add_part", "add_windows", "clip", "sgd"}


def run(module: Any, name: str, args: tuple) -> list[np.ndarray]:
    """All results of a routine; of one that changes its arguments, those."""
    plain = {
        "product": lambda a, b, row: a @ b + (0 if row is None else row),
        "quantized_product": quantized.product, "quantized_product_transposed": quantized.product_transposed,
        **vars(channels), **vars(pooling),
    }  # fmt: skip
    for way in ("scaled_layer_norm", "scaled_layer_norm_backward", "weight_and_bias"):  # put together
        plain[way] = functools.partial(without_loops, getattr(z2g.fast, way))
    plain |= {name: getattr(recurrent, name) for name in ("gru", "lstm", "rnn")}
    function = plain[name] if module is reference and name in plain else getattr(module, name)
    args = copied(args) if name in IN_PLACE else args
    with np.errstate(all="ignore"):
        result = function(*args)
    return flat(args) if name in IN_PLACE else flat(result)


def size_of(name: str, args: tuple) -> float:
    """How large the numbers are that are summed, beyond those of the result."""
    floats = [a[np.isfinite(a)] for a in flat(args) if a.dtype.kind == "f"]
    return max(1.0, *(float(np.abs(a).max(initial=0)) for a in floats))


@needs_numba
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_the_numbers_are_those_of_the_reference(name: str, shape: tuple[int, int], compiled: Any) -> None:
    """As exact as the reference, judged by float64; where the reference is exact, within some roundings."""
    for args in CASES[name](*shape):
        exact, plain, got = run(reference, name, widen(args)), run(reference, name, args), run(compiled, name, args)
        assert len(got) == len(plain)
        for a, b, c in zip(exact, plain, got, strict=True):
            assert (c.shape, c.dtype) == (b.shape, b.dtype)
            if not c.size:
                continue
            scale = max(float(np.abs(a).max()), size_of(name, args))
            error, allowed = np.abs(c - a).max(), 2 * np.abs(b - a).max() + 8 * EPS * scale
            assert error <= allowed, f"{name}{shape}: {error:.3g} > {allowed:.3g}"


@needs_numba
@pytest.mark.parametrize("turned", ["", "a", "b", "ab"])
@pytest.mark.parametrize(
    ("n", "k", "m"), [(1, 1, 1), (7, 3, 33), (8, 256, 32), (9, 257, 31), (77, 600, 65), (530, 40, 100), (3, 2100, 300)]
)
def test_tiles_make_the_product(n: int, k: int, m: int, turned: str, compiled: Any) -> None:
    """Sizes around those of a tile, a panel and what is copied at a time; matrices by rows, by columns, cut out."""
    from tinygrad_z2g.fast.compiled import jit, tiles

    @jit.called
    def multiply(a, b, row, z):
        tiles.multiply(a, b, row, z)

    assert tiles.BROAD < 2100 * 300
    a = normal(k, n).T if "a" in turned else normal(n, k + 3)[:, 3:]
    b = normal(m, k).T if "b" in turned else normal(k, m + 5)[:, :m]
    for row in (normal(m), np.empty(0, np.float32)):
        wide, exact = normal(n, m + 2), a.astype(np.float64) @ b.astype(np.float64) + (row if row.size else 0)
        around = wide[:, m:].copy()
        multiply(a, b, row, wide[:, :m])
        assert np.abs(wide[:, :m] - exact).max() <= 4 * EPS * np.sqrt(k) * np.abs(exact).max() + EPS
        assert np.array_equal(wide[:, m:], around)
    b = b.copy()
    b[0, -1] = np.inf
    multiply(a, b, np.empty(0, np.float32), wide[:, :m])
    assert np.isinf(wide[:, m - 1]).all() and np.isfinite(wide[:, : m - 1]).all()


CONVOLUTIONS = [  # shape of x, filters, window, stride, padding, dilation
    ((2, 3, 40), 5, (5,), 1, 2, 1), ((3, 9, 41), 33, (4,), 2, 3, 2), ((1, 1, 1100), 2, (3,), 1, 0, 1),
    ((2, 20, 37), 70, (1,), 1, 0, 1), ((2, 3, 9, 40), 4, (3, 3), (1, 1), (1, 1), (1, 1)),
    ((2, 5, 40, 9), 6, (2, 4), (2, 1), (0, 3), (1, 2)), ((2, 2, 3, 600), 3, (1, 2), (1, 3), (0, 0), (2, 1)),
    ((2, 30, 40), 3, (9,), 1, 4, 1), ((2, 2, 1300), 3, (3,), 2, 1, 1),  # a deep window; more than 512 places, by 2
    ((1, 2, 80, 50), 3, (3, 2), (2, 2), (1, 0), (1, 1)),
]  # fmt: skip


@needs_numba
@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_convolutions(case: tuple, threads: int, compiled: Any, monkeypatch: Any) -> None:
    """Forward and backward in float32, by loops, against float64, for which there are none."""
    shape, O, K, *settings = case  # noqa: E741
    x, w, b = normal(*shape), normal(O, shape[1], *K), normal(O)
    monkeypatch.setattr(z2g.fast, "LARGE", 1)
    monkeypatch.setattr(loops, "ready", compiled)
    set_threads(monkeypatch, threads)
    asked = []
    for name in ("conv", "conv_weight"):
        plain = getattr(compiled, name)
        monkeypatch.setattr(compiled, name, lambda *args, plain=plain, name=name: asked.append(name) or plain(*args))
    results = []
    for dtype in (np.float64, np.float32):
        inputs = [z2g.tensor(a.astype(dtype), requires_grad=True) for a in (x, w, b)]
        conv = z2g.nn.functional.conv1d if len(K) == 1 else z2g.nn.functional.conv2d
        z, without_bias = (conv(*inputs[:2], b, *settings) for b in (inputs[2], None))
        grad = np.linspace(-1, 2, z.array.size).reshape(z.shape).astype(dtype)
        z.backward(z2g.tensor(grad))
        results.append([z.array, without_bias.array, *(a.grad.array for a in inputs)])
    assert {"conv", "conv_weight"} == set(asked)
    for exact, got in zip(*results, strict=True):
        assert np.abs(got - exact).max() <= 2e-5 * np.abs(exact).max()


ON_UNIT = [  # as above; rows of z have 32 places or more
    ((2, 64, 256), 64, (5,), 1, 2, 1), ((3, 33, 70), 70, (3,), 1, 1, 1), ((2, 5, 200), 3, (4,), 2, 3, 2),
    ((1, 64, 3000), 32, (5,), 1, 2, 1), ((2, 40, 290), 20, (3,), 3, 0, 3), ((9, 31, 40), 17, (1,), 1, 0, 1),
    ((2, 20, 10), 8, (20,), 1, 25, 1), ((2, 3, 40, 50), 40, (3, 3), 1, 1, 1),
    ((2, 48, 30, 70), 33, (2, 4), (2, 1), (0, 3), (1, 2)),
    ((1, 200, 4, 210), 40, (3, 3), 1, 1, 1), ((1, 70, 50, 250), 5, (1, 2), (1, 3), 0, (2, 1)),
]  # fmt: skip


@pytest.fixture
def unit(compiled: Any, monkeypatch: Any) -> Any:
    """The module of convolutions, that takes the matrix unit for all, if there is one."""
    from tinygrad_z2g.fast.compiled import convolution

    if not convolution.UNIT:
        pytest.skip("the processor has no matrix unit, or the system lends none")
    monkeypatch.setattr(convolution, "_pays", lambda *_: True)
    monkeypatch.setattr(convolution, "_pays_for_weight", lambda *_: True)
    monkeypatch.setattr(z2g.fast, "LARGE", 1)
    monkeypatch.setattr(loops, "ready", compiled)
    return convolution


def by_tiles(convolution: Any, name: str, *args: Any) -> np.ndarray:
    """What the function of that name gives where nothing pays on the unit."""
    with pytest.MonkeyPatch.context() as patch:
        for rule in ("_pays", "_pays_for_weight"):
            patch.setattr(convolution, rule, lambda *_: False)
        return getattr(convolution, name)(*args)


@needs_numba
@pytest.mark.parametrize("case", ON_UNIT, ids=str)
def test_convolutions_on_the_matrix_unit(case: tuple, unit: Any, monkeypatch: Any) -> None:
    """As near to float64 as the tile's, or nearer; and the same numbers from any number of threads."""
    shape, O, K, *settings = case  # noqa: E741
    x, w, b, grads = normal(*shape), normal(O, shape[1], *K), normal(O), {}
    conv, asked = F.conv1d if len(K) == 1 else F.conv2d, []
    for name in ("_by_squares", "_weight_by_squares"):
        plain = getattr(unit, name)

        def watched(*args: Any, plain: Callable = plain, name: str = name) -> tuple:
            result, missed = plain(*args)
            asked.append((name, bool(missed.any())))
            return result, missed

        monkeypatch.setattr(unit, name, watched)

    def run(dtype: Any, threads: int, rule: bool = True) -> list[np.ndarray]:
        set_threads(monkeypatch, threads)
        monkeypatch.setattr(unit, "_pays", lambda *sizes: rule and sizes[-1][-1] >= 32)
        monkeypatch.setattr(unit, "_pays_for_weight", lambda *_: rule)
        inputs = [z2g.tensor(a.astype(dtype), requires_grad=True) for a in (x, w, b)]
        z = conv(*inputs, *settings)
        grad = grads.setdefault(z.shape, normal(*z.shape))
        z.backward(z2g.tensor(grad.astype(dtype)))
        return [z.array, *(a.grad.array for a in inputs[:2])]

    exact, tiles = run(np.float64, 1), run(np.float32, 1, False)
    assert not asked
    results = [run(np.float32, threads) for threads in (1, 2, 3)]
    assert set(asked) == {("_by_squares", False), ("_weight_by_squares", False)}
    for right, near, *got in zip(exact, tiles, *results, strict=True):
        assert np.array_equal(got[0], got[1]) and np.array_equal(got[0], got[2])
        off, allowed = (np.sqrt(np.square(a - right).mean()) for a in (got[0], near))
        assert off <= 1.2 * allowed + 2 * EPS * np.abs(right).mean()
        assert np.abs(got[0] - right).max() <= 2e-6 * np.abs(right).max()


@needs_numba
def test_numbers_that_the_matrix_unit_cannot_hold(unit: Any) -> None:
    """An example whose numbers are too large or too small, or no numbers, comes from the tile; all do if the filters
    are like that. Zeros are numbers like others."""
    settings, K = ((1,), (1,), (40,), [(1, 1)]), ((3,), (1,), (1,), [(1, 1)])
    x, w, b = normal(8, 32, 40), normal(32, 32, 3), normal(32)
    x[1] *= 1e20
    x[2] *= 1e-20
    x[3, 5, 7], x[4, 31, 39], x[5, 0, 0] = np.inf, np.nan, -np.inf
    x[6] = 0
    z, tiles = unit.conv(x, w, b, *settings), by_tiles(unit, "conv", x, w, b, *settings)
    assert unit._by_squares(x, w, b, *settings)[1].tolist() == [False, True, True, True, True, True, False, False]
    assert np.array_equal(z[1:6], tiles[1:6], equal_nan=True)
    assert np.array_equal(z[6], np.broadcast_to(b[:, None], (32, 40)))
    np.testing.assert_allclose(z[[0, 7]], tiles[[0, 7]], rtol=1e-4, atol=1e-4)
    assert np.isnan(z[4, :, 38:]).all() and np.isfinite(z[4, :, :38]).all() and np.isinf(z[3, :, 6:9]).all()
    g = normal(8, 32, 40)
    x[1:6] = normal(5, 32, 40)
    for bad in (np.inf, np.nan, 1e20):
        for part, at in ((x, (2, 3, 4)), (g, (7, 31, 39)), (w, (0, 1, 2))):
            kept, part[at] = part[at], bad
            if part is not g:
                one, other = unit.conv(x, w, b, *settings), by_tiles(unit, "conv", x, w, b, *settings)
                assert np.array_equal(one[2], other[2], equal_nan=True)
            if part is not w:
                one, other = unit.conv_weight(x, g, *K), by_tiles(unit, "conv_weight", x, g, *K)
                assert np.array_equal(one, other, equal_nan=True)
            part[at] = kept
    for scale in (1e-20, 1e20):
        one, other = unit.conv_weight(x, g * np.float32(scale), *K), unit.conv_weight(x, g, *K)
        np.testing.assert_allclose(one / scale, other, rtol=1e-4, atol=1e-3)
    assert not unit.conv_weight(x, g * 0, *K).any() and not unit._weight_by_squares(x, g * 0, *K)[1].any()


@needs_numba
def test_a_bias_larger_than_the_sum_is_added_to_it_once(unit: Any) -> None:
    """If the sum began with it, each rounding would be one of a number of its size."""
    settings = ((1,), (1,), (40,), [(1, 1)])
    x, w, b = normal(8, 64, 40), normal(40, 64, 3, scale=1e-3), normal(40) + 3
    exact = unit.conv(x, w, None, *settings).astype(np.float64) + b[:, None]
    assert np.abs(unit.conv(x, w, b, *settings) - exact).max() <= EPS * np.abs(exact).max()


@needs_numba
def test_threads_do_not_change_what_the_matrix_unit_misses(unit: Any, monkeypatch: Any) -> None:
    """Of 96 channels the last 32 are too small for it: one thread has them beside others, another has them alone."""
    x, g, K = normal(5, 96, 40), normal(5, 32, 40), ((3,), (1,), (1,), [(1, 1)])
    x[:, 64:] *= np.float32(1e-14)
    found = []
    for threads in (1, 2, 3, 5):
        set_threads(monkeypatch, threads)
        found.append(unit._weight_by_squares(x, g, *K)[1].tolist())
    assert found == [[[False, False, True]] * 4] * 4


@needs_numba
def test_where_the_matrix_unit_pays(compiled: Any, monkeypatch: Any) -> None:
    """Not for few channels, one tap or short rows; nowhere without a unit."""
    from tinygrad_z2g.fast.compiled import convolution

    pays, for_weight = convolution._pays, convolution._pays_for_weight
    monkeypatch.setattr(convolution, "UNIT", True)
    assert pays(64, 64, (3,), (256,)) and pays(32, 96, (3, 3), (8, 32)) and pays(60, 60, (2,), (99,))
    assert not pays(3, 64, (7, 7), (64, 64)) and not pays(64, 64, (1,), (256,)) and not pays(64, 64, (3,), (31,))
    assert for_weight(64, 2048, (3,), (2,), 64) and for_weight(30, 10**5, (3, 3), (1, 1), 400)
    assert not for_weight(64, 2047, (3,), (1,), 64) and not for_weight(64, 10**5, (3,), (3,), 64)
    assert not for_weight(64, 10**5, (2,), (1,), 64) and not for_weight(64, 10**5, (3,), (1,), 40)
    monkeypatch.setattr(convolution, "UNIT", False)
    assert not pays(64, 64, (3,), (256,)) and not for_weight(64, 2048, (3,), (2,), 64)


@needs_numba
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("drop", [0.0, 0.3])
@pytest.mark.parametrize("T", [1, 20, 64, 65, 200])
@pytest.mark.parametrize("threads", [1, 3])
def test_attention_backward(T: int, drop: float, causal: bool, threads: int, compiled: Any, monkeypatch: Any) -> None:
    """From what the loops saved, and from what the reference saved."""
    set_threads(monkeypatch, threads)
    q, k, v = (x.reshape(3, T, 2, 16).swapaxes(1, 2) for x in np.split(normal(3, T, 96), 3, -1))
    grad = normal(*q.shape)
    for forward in (reference, compiled):
        _, saved = forward.attention(q, k, v, None, causal, 0.25, drop, 5)
        expected = reference.attention_backward(grad, q, k, v, saved, 0.25)
        for a, b in zip(expected, compiled.attention_backward(grad, q, k, v, saved, 0.25), strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5)


@needs_numba
@pytest.mark.parametrize(("T", "S"), [(3, 100), (100, 130), (130, 100), (70, 3)])
@pytest.mark.parametrize("causal", [True, False])
def test_attention_of_more_keys_than_queries_or_fewer(T: int, S: int, causal: bool, compiled: Any) -> None:
    q, k, v, grad = normal(2, 3, T, 8), normal(2, 3, S, 8), normal(2, 3, S, 5), normal(2, 3, T, 5)
    z, saved = compiled.attention(q, k, v, None, causal, 0.3, 0.0, 0)
    expected, other = reference.attention(q, k, v, None, causal, 0.3, 0.0, 0)
    np.testing.assert_allclose(z, expected, rtol=1e-5, atol=1e-6)
    grads = reference.attention_backward(grad, q, k, v, other, 0.3)
    for a, b in zip(grads, compiled.attention_backward(grad, q, k, v, saved, 0.3), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5)


@needs_numba
@pytest.mark.parametrize("batch", [(2,), (2, 3), (2, 3, 1), (2, 1, 4), (2, 2, 2, 2)], ids=str)
def test_attention_of_any_batch(batch: tuple[int, ...], compiled: Any) -> None:
    """Groups of queries that share keys are one dimension more: (B, groups, heads in it, T, d)."""
    q, k, v, grad = normal(*batch, 5, 8), normal(*batch, 7, 8), normal(*batch, 7, 3), normal(*batch, 5, 3)
    for drop in (0.0, 0.3):
        z, saved = compiled.attention(q, k, v, None, True, 0.3, drop, 5)
        expected, other = reference.attention(q, k, v, None, True, 0.3, drop, 5)
        np.testing.assert_allclose(z, expected, rtol=1e-5, atol=1e-6)
        grads = reference.attention_backward(grad, q, k, v, other, 0.3)
        for a, b in zip(grads, compiled.attention_backward(grad, q, k, v, saved, 0.3), strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5)


@needs_numba
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("by_example", [False, True])
@pytest.mark.parametrize(("L", "N", "H"), [(1, 1, 8), (7, 3, 5), (20, 33, 32)])
def test_lstm_backward(L: int, N: int, H: int, by_example: bool, threads: int, compiled: Any, monkeypatch: Any) -> None:
    set_threads(monkeypatch, threads)
    inputs = normal(N, L, 4 * H).swapaxes(0, 1) if by_example else normal(L, N, 4 * H)
    args = inputs, normal(N, H), normal(N, H), normal(4 * H, H, scale=0.3)
    expected, kept, (_, h, _, w) = recurrent.lstm(*args), compiled.lstm(*args), args
    for a, b in zip(expected, kept, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5)
    grad = normal(L + 1, N, H)
    for given in (kept, expected):  # what either kept will do
        got = compiled.lstm_backward(grad, *given, h, w)
        for a, b in zip(recurrent.lstm_backward(grad, *given, h, w), got, strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5)
    assert compiled.lstm_backward(grad, *kept, h, w)[0].strides == inputs.strides


@needs_numba
def test_lstm_reads_what_comes_batch_first_where_it_lies(compiled: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(loops, "ready", compiled)
    seen, plain = [], compiled.lstm
    monkeypatch.setattr(compiled, "lstm", lambda *args: seen.append(args[0].strides) or plain(*args))
    x, results = normal(24, 20, 40), []
    for batch_first in (True, False):
        z2g.manual_seed(0)
        layer = z2g.nn.LSTM(40, 32, 2, batch_first=batch_first)
        given = z2g.tensor(x if batch_first else x.swapaxes(0, 1).copy(), requires_grad=True)
        out, last = layer(given)
        (out * out).sum().backward()
        grads = [p.grad.array for p in layer.parameters()]
        mine = [a.array if batch_first else a.array.swapaxes(0, 1) for a in (out, given.grad)]
        results.append([*mine, *(s.array for s in last), *grads])
    numbers = 4 * 4 * 32
    assert seen == [(numbers, 20 * numbers, 4), *[(24 * numbers, numbers, 4)] * 3]  # the first layer reads x itself
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@needs_numba
@pytest.mark.parametrize(("L", "N", "H"), [(1, 1, 8), (7, 3, 5), (20, 33, 32)])
@pytest.mark.parametrize("kind", ["gru", "rnn", "rnn, relu"])
@pytest.mark.parametrize("threads", [1, 3])
def test_backward_of_gru_and_rnn(
    kind: str, L: int, N: int, H: int, threads: int, compiled: Any, monkeypatch: Any
) -> None:
    set_threads(monkeypatch, threads)
    gates = 3 if kind == "gru" else 1
    inputs, h, w, b = normal(L, N, gates * H), normal(N, H), normal(gates * H, H, scale=0.3), normal(gates * H)
    grad = normal(L, N, H)
    if kind == "gru":
        kept = recurrent.gru(inputs, h, w, b)
        both = [module.gru_backward(grad, *kept, h, w) for module in (recurrent, compiled)]
    else:
        relu = kind == "rnn, relu"
        out = recurrent.rnn(inputs, h, w, relu)
        out[-1, 0, 0] = np.nan  # its slope is 1 for a ReLU
        both = [module.rnn_backward(grad, out, h, w, relu) for module in (recurrent, compiled)]
    for a, b in zip(*both, strict=True):  # sums over all steps are large, and some of their elements cancel
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-6 * max(10, np.abs(a).max()))


@needs_numba
@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn", "attention"])
def test_gradients_of_any_layout(kind: str, compiled: Any) -> None:
    """As sums and turned results give them: the last axis first in memory, one row for all, one number for all."""
    L, N, H = 4, 5, 8
    inputs, h, w = normal(L, N, 4 * H), normal(N, H), normal(4 * H, H, scale=0.3)
    shape: tuple[int, ...] = (L, N, H)
    if kind == "lstm":
        shape, rest = (L + 1, N, H), (*compiled.lstm(inputs, h, h, w), h, w)
    elif kind == "gru":
        w = w[H:]
        rest = (*compiled.gru(inputs[..., H:].copy(), h, w, None), h, w)
    elif kind == "rnn":
        w = w[:H]
        rest = (compiled.rnn(inputs[..., :H].copy(), h, w, False), h, w, False)
    else:
        q = normal(L, N, H, H)
        shape, rest = q.shape, (q, q, q, compiled.attention(q, q, q, None, False, 0.3, 0.0, 0)[1], 0.3)
    backward = getattr(compiled, f"{kind}_backward")
    for grad in (normal(*shape[::-1]).T, np.broadcast_to(normal(H), shape), np.broadcast_to(normal(1), shape)):
        for a, b in zip(backward(grad.copy("C"), *rest), backward(grad, *rest), strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5)


SPECIAL = [np.inf, -np.inf, np.nan, 0.0, -0.0, 3e38, -3e38, 1e-45, -1e-45, 100.0, -100.0, 20.0, -20.0]


@needs_numba
@pytest.mark.parametrize("name", sorted(CASES))
def test_infinities_and_nan_are_those_of_the_reference(name: str, compiled: Any) -> None:
    """Numbers of every kind among ordinary ones, each alone in its row, and a row of nothing but it."""
    N, C = 2 * len(SPECIAL) + 2, 64
    for args in CASES[name](N, C):
        for k in [i for i, a in enumerate(flat(args)) if a.dtype.kind == "f"]:
            spoiled = copied(args)
            a = flat(spoiled)[k]
            if a.ndim < 2 or (name == "softmax_backward" and k == 0):
                continue
            rows = np.moveaxis(a, -2, 0)
            for i, value in enumerate(SPECIAL[: len(rows) // 2]):
                rows[i, ..., 5 % a.shape[-1]] = value
                rows[i + len(rows) // 2, ...] = value
            for b, c in zip(run(reference, name, spoiled), run(compiled, name, spoiled), strict=True):
                if name == "attention":  # of keys that a query may not see it does not even compute the scores
                    b = np.where(np.isfinite(c), c, b)
                for kind in (np.isnan, np.isposinf, np.isneginf):
                    wrong = [(tuple(i), b[tuple(i)], c[tuple(i)]) for i in np.argwhere(kind(b) != kind(c))]
                    assert wrong == [], f"{name}, argument {k}: {kind.__name__}"


@needs_numba
@pytest.mark.parametrize("dtype", [np.float64, np.float16])
@pytest.mark.parametrize("name", sorted(set(CASES) - {"product"}))
def test_other_dtypes_go_to_the_reference(name: str, dtype: Any, compiled: Any) -> None:
    def cast(x: Any) -> Any:
        if isinstance(x, (list, tuple)):
            return type(x)(map(cast, x))
        return x.astype(dtype) if isinstance(x, np.ndarray) and x.dtype == np.float32 else x

    for args in CASES[name](70, 40):
        args = cast(args)
        for a, b in zip(run(reference, name, args), run(compiled, name, args), strict=True):
            assert a.dtype == b.dtype and np.array_equal(a, b, equal_nan=True)


@needs_numba
@pytest.mark.parametrize("name", sorted(CASES))
def test_strided_arrays(name: str, compiled: Any) -> None:
    """Every second column of a wider array: all arguments, and each alone."""

    def spread(x: Any, those: list, seen: dict[int, Any]) -> Any:
        if isinstance(x, (list, tuple)):
            return type(x)(spread(y, those, seen) for y in x)
        if id(x) not in those:
            return x
        C = x.shape[-1]
        wide = np.zeros((*x.shape[:-1], 2 * C + 1), x.dtype)  # + 1: no rows that follow each other make one
        wide[..., : 2 * C : 2] = x
        return seen.setdefault(id(x), wide[..., : 2 * C : 2])

    for args in CASES[name](70, 40):
        floats = list({id(a): None for a in flat(args) if a.dtype == np.float32 and a.ndim})
        expected = run(reference, name, args)
        for those in (floats, *([one] for one in floats if len(floats) > 1)):
            for a, b in zip(expected, run(compiled, name, spread(args, those, {})), strict=True):
                np.testing.assert_allclose(b, a, rtol=2e-5, atol=2e-5)


def _joined(x: Any, w: Any, b: Any) -> Any:
    return F.layer_norm(F.linear(x, w, b), (b.shape[0],), b * b, b)


LAYERS: dict[str, tuple[Callable, tuple]] = {
    "linear": (F.linear, ((300, 64), (48, 64), (48,))),
    "linear, three axes": (F.linear, ((6, 50, 64), (48, 64), (48,))),
    "linear, no bias": (F.linear, ((6, 50, 64), (48, 64))),
    "layer norm, two axes": (lambda x, w, b: F.layer_norm(x, (8, 16), w, b), ((40, 8, 16), (8, 16), (8, 16))),
    "layer norm, no bias": (lambda x, w: F.layer_norm(x, (64,), w), ((3, 40, 64), (64,))),
    "layer norm, no weight": (lambda x, b: F.layer_norm(x, (64,), None, b), ((3, 40, 64), (64,))),
    "layer norm, neither": (lambda x: F.layer_norm(x, (64,)), ((3, 40, 64),)),
    "linear, then layer norm": (_joined, ((6, 50, 64), (48, 64), (48,))),
    "softmax, an axis in the middle": (lambda x: F.softmax(x, 1), ((40, 5, 64),)),
    "turned": (lambda x, w: F.linear(x.transpose(0, 1), w).sum(0, keepdim=True), ((50, 6, 64), (48, 64))),
}


@needs_numba
@pytest.mark.parametrize("name", LAYERS)
def test_layers_by_loops(name: str, compiled: Any, monkeypatch: Any) -> None:
    """Forward and backward in float32, routed to loops, against float64, for which there are none."""
    monkeypatch.setattr(loops, "ready", compiled)
    monkeypatch.setattr(z2g.fast, "LARGE", 1)
    function, shapes = LAYERS[name]
    arrays, results = [normal(*shape) for shape in shapes], []
    grad: np.ndarray | None = None
    for dtype in (np.float64, np.float32):
        inputs = [z2g.tensor(a.astype(dtype), requires_grad=True) for a in arrays]
        z = function(*inputs)
        grad = normal(*z.shape) if grad is None else grad  # neighbours that are alike would cancel out in softmax
        z.backward(z2g.tensor(grad.astype(dtype)))
        results.append([z.array, *(a.grad.array for a in inputs)])
    for exact, got in zip(*results, strict=True):
        assert got.shape == exact.shape and np.abs(got - exact).max() <= 2e-5 * np.abs(exact).max()


@needs_numba
def test_long_sums_are_as_exact_as_short_ones(compiled: Any) -> None:
    """All numbers alike, so that roundings do not cancel: a sum of 100,000 in float32 alone loses three more digits."""
    a, one = np.full((100_000, 32), 0.1, np.float32), np.ones((100_000, 32), np.float32)
    exact = len(a) * float(a[0, 0])
    sums = {
        "columns": compiled.column_sums(a), "products": compiled.column_sums(a, one),
        "made on the way": compiled.product_and_column_sums(a, one)[1], "bias": compiled.weight_and_bias(a, one)[1],
        "norm": compiled.scaled_layer_norm_backward(a, one, one[:, :1].copy(), one[0])[2],
        "channels": compiled.total(a.reshape(1, 32, -1), (0, 2), False),
        "ids": compiled.sum_rows_by_id(np.zeros(len(a), np.int64), a, 600)[0],
        "ids of a small table": compiled.sum_rows_by_id(np.zeros(len(a), np.int64), a, 60)[0],
        "distance": compiled.squared_distance(a, a - 1) * np.float32(0.1 / 32),
        "length": compiled.norm([a]) ** 2 / np.float32(3.2),
    }  # fmt: skip
    for name, got in sums.items():
        assert np.abs(got / exact - 1).max() <= 16 * EPS, name


@needs_numba
@pytest.mark.parametrize("C", [32, 33, 200])
def test_what_is_nearly_sure_keeps_its_digits(C: int, compiled: Any) -> None:
    """ln p of a class whose p is 1 - 1e-9 is -1e-9, not 0; likewise its loss."""
    a, target = normal(50, C), rng.integers(0, C, 50)
    a[np.arange(50), target] = np.linspace(3, 30, 50)
    exact = reference.log_softmax(a.astype(np.float64), -1)[np.arange(50), target]
    np.testing.assert_allclose(compiled.log_softmax(a, -1)[np.arange(50), target], exact, rtol=1e-5)
    np.testing.assert_allclose(compiled.cross_entropy(a, target, np.ones(50, np.float32))[0], -exact, rtol=1e-5)


@needs_numba
def test_normalised_rows_far_from_0_have_a_mean_of_0(compiled: Any) -> None:
    """A mean of 1,000 is rounded by more than what is left of it here."""
    a, w = normal(70, 133) + 1000, np.ones(133, np.float32)
    channels = compiled.batch_norm(a.reshape(2, 35, 133), None, None, 1e-5)[0].swapaxes(0, 1).reshape(35, -1)
    for rows in (compiled.layer_norm(a, 1e-5)[0], compiled.scaled_layer_norm(a, 1e-5, w, None)[0], channels):
        assert np.abs(rows.mean(-1, dtype=np.float64)).max() <= 4 * EPS


# --- Functions of one number -------------------------------------------------------------------------------------


def units_apart(got: np.ndarray, exact: np.ndarray) -> float:
    """The largest difference in units of the last place of float32."""
    rounded = exact.astype(np.float32)
    finite = np.isfinite(rounded)
    assert np.array_equal(got[~finite], rounded[~finite], equal_nan=True)
    return float((np.abs(got[finite] - exact[finite]) / np.spacing(np.abs(rounded[finite]))).max())


def exact_erf(x: np.ndarray) -> np.ndarray:
    return np.array([math.erf(v) for v in x.tolist()])


@needs_numba
@pytest.mark.parametrize(("name", "exact"), [("exp", np.exp), ("tanh", np.tanh), ("erf", exact_erf)])
def test_functions_are_exact_to_two_units_in_the_last_place(name: str, exact: Callable, compiled: Any) -> None:
    """Every 4,099th float there is: of all sizes, denormal, infinite and NaN; and those around 0 more closely."""
    from tinygrad_z2g.fast.compiled import mathematics
    from tinygrad_z2g.fast.compiled.jit import called

    function = getattr(mathematics, name)

    @called
    def each(x, z):
        for i in range(x.size):
            z[i] = function(x[i])

    x = np.arange(0, 2**32, 4099, dtype=np.uint64).astype(np.uint32).view(np.float32)
    x = np.concatenate([x, np.linspace(-10, 10, 200_001, dtype=np.float32), np.array(SPECIAL, np.float32)])
    z = np.empty_like(x)
    each(x, z)
    with np.errstate(all="ignore"):
        assert units_apart(z, exact(x.astype(np.float64))) <= 2


# --- Threads -----------------------------------------------------------------------------------------------------


def set_threads(monkeypatch: Any, n: int, shared: int = 1) -> None:
    """Loops and products take n threads, however small."""
    from tinygrad_z2g.fast.compiled import blocks, jit, products

    for module in (blocks, jit, products):
        monkeypatch.setattr(module, "threads", lambda: n)
    monkeypatch.setattr(jit, "SHARED", shared)
    monkeypatch.setattr(products, "LEAST", shared)
    monkeypatch.setattr(products, "NARROW", 1)
    monkeypatch.setattr(products, "SQUARE", 1)


@needs_numba
@pytest.mark.parametrize("name", sorted(set(CASES)))
def test_the_same_bits_from_any_number_of_threads(name: str, compiled: Any, monkeypatch: Any) -> None:
    for args in CASES[name](193, 130):
        set_threads(monkeypatch, 1)
        first = run(compiled, name, args)
        for n in (2, 3, 7, 2):
            set_threads(monkeypatch, n)
            for a, b in zip(first, run(compiled, name, args), strict=True):
                assert np.array_equal(a, b, equal_nan=True), f"{n} threads"


@needs_numba
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_all_arrays_at_once(threads: int, compiled: Any, monkeypatch: Any) -> None:
    """Arrays of any size end to end, more than one step, and arrays that share memory, which are changed in order."""
    set_threads(monkeypatch, threads)
    arrays = [normal(n) for n in (1, 70, 4096, 4097, 3, 1, 20000, 16)]
    exact = math.sqrt(sum(float((a.astype(np.float64) ** 2).sum()) for a in arrays))
    assert abs(compiled.norm(arrays) - exact) <= 4 * EPS * exact
    asked, plain = [], compiled.updates.over_rows

    def over_rows(function: Any, n: int, numbers: int, *args: Any, multiple: int = 1) -> None:
        asked.append(compiled.jit.parts(n, numbers, multiple))
        plain(function, n, numbers, *args, multiple=multiple)

    monkeypatch.setattr(compiled.updates, "over_rows", over_rows)
    for some in (arrays, [arrays[6], arrays[6][5:900], arrays[6]]):
        expected = copied(some) if some is arrays else (lambda a: [a, a[5:900], a])(arrays[6].copy())
        compiled.clip(some, np.float32(8), 2.0)
        assert asked.pop() == (threads if some is arrays else 1)
        reference.clip(expected, np.float32(8), 2.0)
        for a, b in zip(some, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=4 * EPS)
    parts = [(a, normal(*a.shape), normal(*a.shape), np.abs(normal(*a.shape)), i % 3 + 1) for i, a in enumerate(arrays)]
    expected = copied(parts)
    compiled.adam_all(arrays, parts, 0.1, 0.9, 0.99, 1e-8, 0.01)
    reference.adam_all([], expected, 0.1, 0.9, 0.99, 1e-8, 0.01)
    for a, b in zip(flat(parts), flat(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@needs_numba
def test_parts_run_in_several_threads_and_errors_come_back(compiled: Any) -> None:
    from tinygrad_z2g.fast.compiled.jit import together

    both = threading.Barrier(2, timeout=20)
    seen = []

    def meet(part: int) -> None:
        both.wait()  # passes only if two threads are here at a time
        seen.append((part, threading.current_thread()))

    together(meet, [(0,), (1,)])
    assert sorted(part for part, _ in seen) == [0, 1] and len({thread for _, thread in seen}) == 2

    def fail_there(part: int) -> None:
        both.wait()
        if threading.current_thread() is not threading.main_thread():
            raise ZeroDivisionError(f"part {part}")

    def fail_here(part: int) -> None:
        both.wait()
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt

    for _ in range(3):
        with pytest.raises(ZeroDivisionError, match="part"):
            together(fail_there, [(0,), (1,)])
        with pytest.raises(KeyboardInterrupt):
            together(fail_here, [(0,), (1,)])
    seen.clear()
    together(meet, [(0,), (1,)])
    assert len(seen) == 2


@needs_numba
def test_a_caller_waits_for_no_thread_that_is_busy_elsewhere(compiled: Any) -> None:
    """All helpers are held up; nested and concurrent calls are done by whoever asks."""
    from tinygrad_z2g.fast.compiled.jit import _helpers, together

    release, held = threading.Event(), threading.Semaphore(0)

    def hold(part: int) -> None:
        if part:
            held.release()
            release.wait(20)
        else:
            held.acquire()

    together(lambda part: None, [(0,), (1,)])
    holders = [threading.Thread(target=together, args=[hold, [(0,), (1,)]]) for _ in _helpers]
    for thread in holders:
        thread.start()
    done: list[int] = []
    together(lambda part: together(done.append, [(part,), (part,)]), [(0,), (1,), (2,)])
    release.set()
    for thread in holders:
        thread.join()
    assert sorted(done) == [0, 0, 1, 1, 2, 2]


@needs_numba
def test_a_loop_is_cut_and_each_part_done_once(compiled: Any, monkeypatch: Any) -> None:
    """By two threads, which meet in the middle; more parts than threads; a caller that finds the board taken."""
    from tinygrad_z2g.fast.compiled import jit, sharing

    @jit.loop
    def count(start, stop, seen):
        for i in range(start, stop):
            seen[i] += 1

    @jit.loop
    def meet(start, stop, board):  # neither returns before the other came
        sharing.add(board.ctypes.data, 0, 1)
        for _ in range(10**8):
            if sharing.load(board.ctypes.data, 0) == 2:
                sharing.add(board.ctypes.data, 8, 1)
                return

    set_threads(monkeypatch, 2)
    for _ in range(20):  # a helper that goes to sleep at this very moment does not come
        met = np.zeros(16, np.int64)
        jit.over_rows(meet, 2, 2, met)
        if met[8] == 2:
            break
    assert met[8] == 2, "one thread did both parts"
    for n in (2, 3, 7):
        set_threads(monkeypatch, n)
        for rows in (n, 100, 1001):
            for multiple in (1, 16):
                seen = np.zeros(rows, np.int64)
                jit.over_rows(count, rows, rows, seen, multiple=multiple)
                assert (seen == 1).all()
    taken, jit._board.numbers[sharing.BUSY] = jit._board.numbers[sharing.TICKET], 1
    try:
        jit.over_rows(count, 1001, 1001, seen)
    finally:
        jit._board.numbers[sharing.BUSY] = 0
    assert (seen == 2).all() and jit._board.numbers[sharing.TICKET] == taken


@needs_numba
def test_a_part_without_memory_is_told(compiled: Any, monkeypatch: Any) -> None:
    from tinygrad_z2g.fast.compiled import jit

    @jit.loop
    def ask(start, stop, n, z):
        z[start] = np.ones(n)[0] if start == 1 else 1.0

    set_threads(monkeypatch, 2)
    z = np.zeros(2)
    with pytest.raises(MemoryError):
        jit.over_rows(ask, 2, 2, 2**50, z)
    jit.over_rows(ask, 2, 2, 1, z)
    assert z.tolist() == [1, 1]


@needs_numba
def test_helpers_sleep_when_nothing_comes(compiled: Any) -> None:
    run = python(
        """
        import time
        import numpy as np
        from tinygrad_z2g import fast
        from tinygrad_z2g.fast.compiled import jit, sharing
        jit.threads = lambda: 2
        a = np.linspace(-3, 3, 2**18, dtype=np.float32).reshape(512, 512)
        for _ in range(3):
            while not jit._board.numbers[sharing.AWAKE]:
                fast.gelu_tanh(a)
            for _ in range(1000):
                if not jit._board.numbers[sharing.AWAKE]:
                    break
                time.sleep(0.01)
            before = time.process_time()
            time.sleep(0.2)
            print(jit._board.numbers[sharing.AWAKE], time.process_time() - before < 0.1)
        """
    )
    assert run.stdout == "0 True\n" * 3, run.stderr


@needs_numba
def test_several_callers_at_once(compiled: Any, monkeypatch: Any) -> None:
    set_threads(monkeypatch, 3)
    args = [CASES["gelu_tanh"](300 + i, 64)[0] for i in range(6)]
    expected, wrong = [run(compiled, "gelu_tanh", a) for a in args], []

    def call(i: int) -> None:
        for _ in range(50):
            for a, b in zip(expected[i], run(compiled, "gelu_tanh", args[i]), strict=True):
                if not np.array_equal(a, b):
                    wrong.append(i)

    threads = [threading.Thread(target=call, args=[i]) for i in range(len(args))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@needs_numba
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_child_of_a_fork_has_threads_of_its_own() -> None:
    run = python(
        """
        import os
        import numpy as np
        from tinygrad_z2g import fast
        from tinygrad_z2g.fast.compiled import jit
        jit.threads = lambda: 2
        a = np.linspace(-3, 3, 2**18, dtype=np.float32).reshape(512, 512)
        first = fast.gelu_tanh(a)[0]
        assert len(jit._helpers) == 1
        child = os.fork()
        if not child:
            assert not jit._helpers
            second = fast.gelu_tanh(a)[0]
            os._exit(0 if np.array_equal(first, second) and len(jit._helpers) == 1 else 1)
        assert np.array_equal(fast.gelu_tanh(a)[0], first)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """,
        flags=("-W", "ignore::DeprecationWarning"),  # "this process is multi-threaded": so it is
    )
    assert (run.returncode, run.stdout) == (0, "0\n"), run.stderr


@needs_numba
def test_the_number_of_threads_is_that_of_blas(compiled: Any) -> None:
    pytest.importorskip("threadpoolctl")
    if blas.get_threads is None:
        pytest.skip("NumPy's BLAS is not OpenBLAS")
    before = compiled.threads()
    try:
        for n in (1, 2):
            z2g.set_num_threads(n)
            assert compiled.threads() == n
        with blas.alone():
            seen: list[int] = []
            other = threading.Thread(target=lambda: seen.append(compiled.threads()))
            other.start()
            other.join()
            assert (compiled.threads(), seen) == (1, [2])  # nobody else is held up
    finally:
        z2g.set_num_threads(before)


@needs_numba
def test_without_openblas_the_number_of_threads_is_that_of_the_environment(compiled: Any, monkeypatch: Any) -> None:
    args = CASES["product"](300, 200)[0]
    expected = args[0] @ args[1] + args[2]
    for name in ("get_threads", "set_threads"):
        monkeypatch.setattr(blas, name, None)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    compiled.jit._processors.cache_clear()
    assert compiled.threads() == 3
    np.testing.assert_allclose(compiled.product(*args), expected, rtol=1e-5, atol=1e-4)
    assert compiled.bmm(normal(40, 30, 20), normal(40, 20, 30)).shape == (40, 30, 30)
    monkeypatch.setenv("OMP_NUM_THREADS", "4,2")
    compiled.jit._processors.cache_clear()
    assert compiled.threads() == (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
    compiled.jit._processors.cache_clear()


@needs_numba
def test_blas_has_one_thread_while_a_loop_is_shared_and_its_own_after(compiled: Any, monkeypatch: Any) -> None:
    from tinygrad_z2g.fast.compiled import jit, sharing

    if blas.get_threads is None:
        pytest.skip("NumPy's BLAS is not OpenBLAS")

    @jit.loop
    def ask(start, stop, get, seen):
        seen[start] = sharing.call_c(get, 0)

    before, seen = blas.get_threads(), np.zeros(2, np.int64)
    try:
        blas.set_threads(2)
        set_threads(monkeypatch, 2)
        jit.over_rows(ask, 2, 2, jit.address(blas.get_threads), seen)
        assert seen.tolist() == [1, 1] and blas.get_threads() == 2
    finally:
        blas.set_threads(before)


@pytest.fixture
def two_threads(compiled: Any) -> Iterator[None]:
    """OpenBLAS, and so loops, on two threads."""
    if blas.get_threads is None:
        pytest.skip("NumPy's BLAS is not OpenBLAS")
    before = blas.get_threads()
    blas.set_threads(2)
    yield
    assert blas.get_threads() == 2
    blas.set_threads(before)


@needs_numba
def test_blocks_of_work_are_shared_and_their_products_and_loops_are_not(compiled: Any, two_threads: None) -> None:
    """What a block computes with loops, on a helper's thread or on this, is not cut once more."""
    seen, workers, together = [], set(), threading.Barrier(2, timeout=60)

    def some(block: int) -> None:
        together.wait()  # each by a thread of its own
        workers.add(threading.get_ident())
        seen.append((blas.get_threads(), compiled.threads()))

    compiled.each(some, [0, 1])
    assert (len(workers), seen) == (2, [(1, 1), (1, 1)])
    with pytest.raises(ValueError):
        compiled.each(lambda block: [][block:].index(0), [0, 1])
    assert (blas.get_threads(), compiled.threads()) == (2, 2)


@needs_numba
@pytest.mark.parametrize("name", ["quantized_product", "quantized_product_transposed"])
def test_expanded_weights_are_shared(compiled: Any, two_threads: None, monkeypatch: Any, name: str) -> None:
    """OpenBLAS has one thread then: that is not the user's wish."""
    most: list[int] = []
    monkeypatch.setattr(compiled.blocks, "together", lambda function, parts, n: most.append(n))
    args = CASES[name](20, 64)[0]
    getattr(compiled, name)(*args)
    assert most == [2]


@needs_numba
def test_small_products_are_not_shared(compiled: Any, two_threads: None, monkeypatch: Any) -> None:
    """Nor do they wake a helper."""
    shared: list[int] = []
    monkeypatch.setattr(compiled.jit, "_wake", shared.append)
    monkeypatch.setattr(compiled.jit._board, "numbers", np.zeros_like(compiled.jit._board.numbers))  # nobody is awake
    a, b = normal(16, 128), normal(128, 512)
    with blas.few(len(a), b.size):
        alone = compiled.product(a, b, None)
    assert not shared
    np.testing.assert_array_equal(compiled.product(a, b, None), alone)
    assert shared == [1]


# --- Which set is taken ------------------------------------------------------------------------------------------

LARGE_AND_SMALL = """
    import sys
    import numpy as np
    import tinygrad_z2g as z2g
    from tinygrad_z2g import fast
    small = z2g.randn(20, 20).softmax(-1)
    before = "numba" in sys.modules
    large = fast.softmax(np.ones((512, 64), np.float32), -1)
    assert abs(large - 1 / 64).max() < 1e-6
    print(before, "numba" in sys.modules, fast.loops.ready is not None, fast.loops.reason)
"""


@needs_numba
def test_numba_is_imported_for_the_first_large_array() -> None:
    run = python(LARGE_AND_SMALL)
    assert run.stdout == "False True True \n", run.stderr


def test_switched_off_there_are_no_loops() -> None:
    run = python(LARGE_AND_SMALL, TINYGRAD_Z2G_COMPILED="0")
    assert (run.stdout, run.stderr) == ("False False False TINYGRAD_Z2G_COMPILED=0\n", "")


BROKEN = {
    "old": ("__version__ = '0.59.1'", "version 0.59.1 is older than 0.60"),
    "unfit": ("raise ImportError('Numba needs NumPy 2.0 or less. Got NumPy 2.4')", "Numba needs NumPy 2.0 or less"),
    "half there": ("__version__ = '0.61.0'", "cannot import name"),
    "mad": ("raise SystemError", "SystemError"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_numba_that_cannot_be_used_is_named_once_and_ignored(name: str, tmp_path: Path) -> None:
    source, words = BROKEN[name]
    (tmp_path / "numba.py").write_text(source)
    run = python(LARGE_AND_SMALL, path=tmp_path, TINYGRAD_Z2G_COMPILED="1")
    assert run.returncode == 0, run.stderr
    assert run.stdout.split()[2] == "False"
    assert len(run.stderr.splitlines()) == 1 and words in run.stderr and "NumPy computes alone" in run.stderr


def test_without_numba_nothing_is_said(tmp_path: Path) -> None:
    source = "import importlib.util\nfind = importlib.util.find_spec\n"
    source += "importlib.util.find_spec = lambda name, *rest: None if name == 'numba' else find(name, *rest)\n"
    run = python(source + textwrap.dedent(LARGE_AND_SMALL), TINYGRAD_Z2G_COMPILED="1")
    assert run.stdout == "False False False Numba is not installed (pip install 'tinygrad_z2g[fast]')\n"
    assert run.stderr == ""


@needs_numba
def test_the_first_run_says_that_it_compiles_and_keeps_the_code(tmp_path: Path) -> None:
    first, second = (python(LARGE_AND_SMALL, NUMBA_CACHE_DIR=str(tmp_path)) for _ in range(2))
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert len(first.stderr.splitlines()) == 1 and "compiling loops for this machine, once" in first.stderr
    assert second.stderr == ""
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nbi")}
    assert kept
    for stamp in tmp_path.rglob("loops.sha256"):
        stamp.write_text("of other sources")
    third = python(LARGE_AND_SMALL, NUMBA_CACHE_DIR=str(tmp_path))
    assert "compiling loops" in third.stderr
    assert all(path.stat().st_mtime_ns != time for path, time in kept.items()), "code of other sources was used"


@needs_numba
def test_where_nothing_can_be_kept_each_process_compiles(compiled: Any, monkeypatch: Any, capsys: Any) -> None:
    from tinygrad_z2g.fast.compiled import compiling

    asked = []

    def njit(cache: bool = False, **settings: Any) -> Callable:
        asked.append(cache)
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: function

    monkeypatch.setattr(compiling, "njit", njit)
    function = compiling._compiled({"contract"})(len)
    assert function is len and asked == [True, False]
    loops._say_if_new(None)
    assert "in each process anew" in capsys.readouterr().err


def step(seed: int) -> list[float]:
    """Losses of a small GPT whose arrays are large enough for loops."""
    from tinygrad_z2g.models import GPT, GPTConfig

    z2g.manual_seed(seed)
    model = GPT(GPTConfig(vocab_size=40, context=32, layers=2, heads=2, width=64, dropout=0.1))
    data = z2g.randint(0, 40, (12, 33))
    optimizer = z2g.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(5):
        _, loss = model(data[:, :-1], data[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        z2g.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses


@needs_numba
def test_a_model_learns_the_same_with_both_sets(compiled: Any, monkeypatch: Any) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(loops, "ready", None)
        patch.setattr(loops, "reason", "a test")
        plain = step(3)
    assert loops.load() is compiled
    fast = step(3)
    assert fast == step(3), "not the same twice"
    np.testing.assert_allclose(fast, plain, rtol=1e-4)
    assert fast != plain, "the loops were not taken"


@needs_numba
def test_info_tells_which_set_is_in_use() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tinygrad_z2g.info", "--json"], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert json.loads(run.stdout)["cpu kernels"].startswith("compiled, Numba ")
    run = subprocess.run(
        [sys.executable, "-m", "tinygrad_z2g.info", "--json"], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TINYGRAD_Z2G_COMPILED": "0"},
    )  # fmt: skip
    assert json.loads(run.stdout)["cpu kernels"] == "NumPy alone: TINYGRAD_Z2G_COMPILED=0"
