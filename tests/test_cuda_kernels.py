"""The CUDA kernels without a card: each compiles, and each, run on the CPU, gives the numbers of its NumPy reference.

With a card (`-m gpu`) the same comparisons run on it. What only a card can show, speed, is in benchmarks/gpu.py.
"""

from __future__ import annotations

import configparser
import inspect
import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cuda_compilers
import cuda_on_cpu
import fakecuda
import fakecupy
import numpy as np
import pytest

from tinygrad_z2g import fast
from tinygrad_z2g.arrays.random import random_bits
from tinygrad_z2g.fast import reference
from tinygrad_z2g.gpu.kernels import launch, products

cuda = fast.cuda
FILES = sorted(path.stem for path in launch.FOLDER.glob("*.cu") if path.stem != "common")
SOURCES = {file: launch.source(file) for file in FILES}
REALS = ["float", "double"]
IN_HALF = ["attention", "columns", "dropout", "gelu", "softmax"]  # the files whose kernels take float16 too
needs_compiler = pytest.mark.skipif(not cuda_on_cpu.available(), reason="no g++")


# --- They compile ------------------------------------------------------------------------------------------------


def everything(files: list[str]) -> str:
    """The files as one source: nvcc takes two seconds for any."""
    return launch.source("common").split('#line 1 "common.cu"')[1] + "".join(
        SOURCES[file].split('#line 1 "common.cu"')[1].partition(f'#line 1 "{file}.cu"')[2] for file in files
    )


@pytest.mark.skipif(cuda_compilers.nvrtc() is None, reason="no NVRTC: pip install nvidia-cuda-nvrtc")
@pytest.mark.parametrize(("file", "real"), [*itertools.product(FILES, REALS), *((file, "half") for file in IN_HALF)])
def test_nvrtc_accepts_every_file(file: str, real: str) -> None:
    assert cuda_compilers.compile("nvrtc", SOURCES[file], real) == ""


@pytest.mark.skipif("nvcc" not in cuda_compilers.compilers(), reason="no nvcc")
def test_nvcc_accepts_all_files() -> None:
    assert len(everything(FILES)) > 5000
    assert cuda_compilers.compile("nvcc", everything(FILES), "float") == ""
    assert cuda_compilers.compile("nvcc", everything(IN_HALF), "half") == ""


@pytest.mark.parametrize("compiler", cuda_compilers.compilers())
def test_a_compiler_refuses_what_is_no_cuda(compiler: str) -> None:
    wrong = SOURCES["gelu"].replace("slope[i] =", "slpoe[i] =", 1)
    assert re.search(r"gelu\.cu\(\d+\): error: .*slpoe", cuda_compilers.compile(compiler, wrong, "float"))


def test_cupy_has_what_the_launches_use() -> None:
    """Needs CuPy and cuBLAS (`cupy-cuda13x[ctk]`), no card."""
    cupy = pytest.importorskip("cupy")
    assert callable(cupy.RawModule(code=SOURCES["gelu"], options=("-Dreal=float",)).get_function)
    assert callable(cupy.cuda.get_device_id) and callable(cupy.cuda.device.get_cublas_handle)
    try:
        gemm = cupy.cuda.cublas.gemmStridedBatchedEx
    except ImportError as error:
        pytest.skip(f"no cuBLAS: {error}")
    assert products.cublas_settings(cupy, "f", True)[:3] == (0, 77, -1)
    assert products.cublas_settings(cupy, "d", False)[:3] == (1, 70, -1)
    assert products.cublas_settings(cupy, "e", True)[:3] == (2, 68, -1)
    names = re.findall(r"(\w+)[,)]", gemm.__doc__.split("\n")[0])
    assert names == list(inspect.signature(fakecuda.gemmStridedBatchedEx).parameters)


def test_compilers_are_given_ascii() -> None:
    """CuPy writes a source to a file in the locale's encoding, and on Windows that has no Σ."""
    assert [file for file in FILES if not SOURCES[file].isascii()] == []
    with fakecupy.installed() as cupy, pytest.raises(UnicodeEncodeError):
        cupy.RawModule(code="// Σ", options=("-Dreal=float",))


def test_the_sources_are_installed() -> None:
    setup = configparser.ConfigParser()
    setup.read(Path(__file__).parent.parent / "setup.cfg", encoding="utf-8")
    assert "gpu/kernels/*.cu" in setup["options.package_data"]["tinygrad_z2g"].split()


# --- They compute what the reference computes --------------------------------------------------------------------


@pytest.fixture(params=["fake", pytest.param("cupy", marks=pytest.mark.gpu)])
def xp(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The fake, every launch checked for races and writes astray, fresh arrays full of NaN; and CuPy on a card."""
    if request.param == "cupy":
        yield request.getfixturevalue("card")
        return
    if not cuda_on_cpu.available():
        pytest.skip("no g++")
    with fakecupy.installed() as cupy:
        careful(monkeypatch)
        monkeypatch.setattr(cupy, "empty", lambda shape, dtype: cupy.full(shape, np.nan, dtype))
        yield cupy


def careful(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_on_cpu.Module, "launch", check_launch)


plain_launch = cuda_on_cpu.Module.launch


def check_launch(self: cuda_on_cpu.Module, name: str, grid: tuple, block: tuple, args: Any, *order: bool) -> None:
    if order:
        plain_launch(self, name, grid, block, args, *order)
    else:
        self.launch_carefully(name, grid, block, args)


def to_device(xp: Any, value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return xp.asarray(value)
    return type(value)(to_device(xp, part) for part in value) if isinstance(value, (list, tuple)) else value


def to_host(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [to_host(part) for part in value]
    return value.get() if hasattr(value, "get") else value


def copied(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(copied(part) for part in value)
    return value.copy() if isinstance(value, np.ndarray) else value


def flat(value: Any) -> Iterator[np.ndarray]:
    if isinstance(value, (list, tuple)):
        for part in value:
            yield from flat(part)
    elif isinstance(value, (np.ndarray, np.generic)):
        yield np.asarray(value)


def compare(xp: Any, name: str, *args: Any, tolerance: float = 20) -> None:
    """The kernel's results and what it did to its arguments, against the reference's; and that it was the kernel."""
    expected_args, device_args = copied(list(args)), to_device(xp, copied(list(args)))
    with np.errstate(all="ignore"):
        expected = getattr(reference, name)(*expected_args)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, name, lambda *_: pytest.fail(f"{name} fell back to the reference"))
        got = getattr(cuda, name)(*device_args)
    left, right = (list(flat(to_host(x))) for x in ([got, device_args], [expected, expected_args]))
    assert len(left) == len(right) > 0
    for a, b in zip(left, right, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        if a.dtype.kind == "f":
            eps, scale = np.finfo(a.dtype).eps, np.abs(b[np.isfinite(b)]).max(initial=1)
            np.testing.assert_allclose(a, b, rtol=tolerance * eps, atol=tolerance * eps * scale, equal_nan=True)
        else:
            np.testing.assert_array_equal(a, b)


SHAPES = [(1, 1), (3, 5), (130, 7), (5, 33), (4, 1000), (3, 1025), (2, 3001)]
DTYPES = [np.float32, np.float64]
over_shapes = pytest.mark.parametrize(("shape", "dtype"), [*itertools.product(SHAPES, DTYPES)])
over_dtypes = pytest.mark.parametrize("dtype", DTYPES)


def normal(shape: Any, dtype: Any, scale: float = 1, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(dtype)


def difficult(dtype: Any, columns: int) -> np.ndarray:
    """Rows of equal numbers, of huge ones, with -inf, of -inf alone, with inf, with NaN."""
    a = normal((8, columns), dtype)
    a[1] = 0.1
    a[2] = 1e4 * np.sign(a[2])
    a[3, ::2] = -np.inf
    a[4] = -np.inf
    a[5, 0] = np.inf
    a[6, -1] = np.nan
    a[7] += 1e4
    return a


@over_shapes
def test_softmax(xp: Any, shape: tuple, dtype: Any) -> None:
    a, grad = normal(shape, dtype, 3), normal(shape, dtype, seed=1)
    compare(xp, "softmax", a, 1)
    compare(xp, "log_softmax", a, -1)
    compare(xp, "softmax_backward", reference.softmax(a, 1), grad, 1)


@over_dtypes
@pytest.mark.parametrize("columns", [6, 1500])
def test_softmax_of_difficult_rows(xp: Any, columns: int, dtype: Any) -> None:
    compare(xp, "softmax", difficult(dtype, columns), 1)
    compare(xp, "log_softmax", difficult(dtype, columns), 1)


@over_dtypes
def test_softmax_of_more_dimensions_and_other_strides(xp: Any, dtype: Any) -> None:
    a = xp.asarray(normal((4, 3, 6), dtype))
    for view in (a, a[::2], a.T, a[:, :, ::-1], a.swapaxes(0, 1), xp.broadcast_to(a[:1], (4, 3, 6))):
        expected = reference.softmax(view.get(), -1)
        np.testing.assert_allclose(cuda.softmax(view, -1).get(), expected, rtol=1e-6)
        np.testing.assert_allclose(cuda.softmax(view, view.ndim - 1).get(), expected, rtol=1e-6)
        np.testing.assert_allclose(cuda.softmax(view, 0).get(), reference.softmax(view.get(), 0), rtol=1e-6)


@over_shapes
def test_cross_entropy(xp: Any, shape: tuple, dtype: Any) -> None:
    N, C = shape
    rng = np.random.default_rng(1)
    target, weight = rng.integers(0, C, N), rng.random(N).astype(dtype)
    weight[::3] = 0
    compare(xp, "cross_entropy", normal(shape, dtype, 3), target, weight, tolerance=60)
    compare(xp, "cross_entropy", normal(shape, dtype, 3), target.astype(np.int32), weight, tolerance=60)


@over_dtypes
def test_cross_entropy_of_difficult_rows(xp: Any, dtype: Any) -> None:
    weight = np.array([1, 1, 1, 1, 0, 0, 0, 1], dtype)
    compare(xp, "cross_entropy", difficult(dtype, 6), np.arange(8) % 6, weight, tolerance=60)


@over_dtypes
def test_cross_entropy_out_of_range(xp: Any, dtype: Any) -> None:
    logits, target = xp.asarray(normal((4, 3), dtype)), xp.asarray(np.array([0, 3, -1, 2**40]))
    losses, g = cuda.cross_entropy(logits, target, xp.ones(4, dtype))
    assert np.isnan(losses.get()).tolist() == [False, True, True, True]
    assert np.isnan(g.get()).all(axis=1).tolist() == [False, True, True, True]


@over_shapes
def test_layer_norm(xp: Any, shape: tuple, dtype: Any) -> None:
    a, g = normal(shape, dtype, 3) + 5, normal(shape, dtype, seed=1)
    compare(xp, "layer_norm", a, 1e-5, tolerance=2000)  # the difference of numbers near 5, then perhaps / 0.003
    compare(xp, "layer_norm_backward", g, *reference.layer_norm(a, 1e-5), tolerance=60)


@over_dtypes
@pytest.mark.parametrize("columns", [7, 1500])
def test_layer_norm_of_constant_rows(xp: Any, columns: int, dtype: Any) -> None:
    """Such a row has n = 0 but for rounding, and r = 1 / √eps makes 316 of each unit of it."""
    a = xp.asarray(np.full((3, columns), 0.1, dtype) * np.array([[1], [-7], [12345.67]], dtype))
    n, r = cuda.layer_norm(a, 1e-5)
    assert np.abs(n.get()).max() < 2e-3 and np.abs(r.get() * 1e-5**0.5 - 1).max() < 1e-3


@pytest.mark.parametrize("n", [1, 255, 5000])
@over_dtypes
@pytest.mark.parametrize("name", ["gelu_exact", "gelu_tanh"])
def test_gelu(xp: Any, name: str, dtype: Any, n: int) -> None:
    # The rounding of 1 - s, where s is nearly 1, comes into the tanh's slope times x · 2u', up to 400 here.
    tolerance = 400 if name == "gelu_tanh" else 20
    compare(xp, name, np.linspace(-12, 12, n).astype(dtype), tolerance=tolerance)
    compare(xp, name, np.array([[-1e4, -100, -0.0], [0.0, 40, 1e4]], dtype))


@over_dtypes
@pytest.mark.parametrize("name", ["gelu_exact", "gelu_tanh"])
def test_gelu_with_bias(xp: Any, name: str, dtype: Any) -> None:
    compare(xp, name, normal((3, 5, 7), dtype), normal(7, dtype, 2, seed=1), tolerance=60)
    a, b = (xp.asarray(normal(shape, dtype)) for shape in ((7, 5), (14,)))
    expected = getattr(reference, name)(a.get().T, b.get()[::2])
    for ours, right in zip(getattr(cuda, name)(a.T, b[::2]), expected, strict=True):  # other strides
        np.testing.assert_allclose(ours.get(), right, rtol=1e-5, atol=1e-6)


@over_dtypes
@pytest.mark.parametrize(("p", "key"), [(0.1, 0), (0.5, 123456789), (0.999, 2**32 - 1), (1e-12, 7), (1 - 1e-12, 8)])
def test_dropout_masks_are_the_same_bits(xp: Any, p: float, key: int, dtype: Any) -> None:
    compare(xp, "dropout", normal((3, 1237), dtype), p, key, tolerance=0)


def test_dropout_at_the_threshold(xp: Any) -> None:
    """An element whose random bits are just p 2³² stays; one more, and it is dropped."""
    bits = int(random_bits(3, np.zeros(10, np.float32))[7])
    for threshold, kept in ((bits, True), (bits + 1, False)):
        mask = cuda.dropout(xp.zeros(10, np.float32), threshold / 2**32, 3)[1].get()
        assert (mask[7] != 0) == kept


def test_dropout_drops_the_right_share() -> None:
    """Of the reference, and so of the kernel, whose bits are the same."""
    for p in (0.1, 0.5, 0.9):
        assert abs((reference.dropout_mask(np.zeros(100_000, np.float32), p, 5) == 0).mean() - p) < 0.005


@over_dtypes
@pytest.mark.parametrize(("T", "S"), [(1, 1), (5, 5), (7, 40), (40, 7), (2, 1200)])
@pytest.mark.parametrize("bias", ["none", "causal", "(T, S)", "(1, S)", "(H, T, S)", "(B, 1, 1, S)", "all"])
def test_attention(xp: Any, T: int, S: int, bias: str, dtype: Any) -> None:
    B, H, d = 2, 3, 4
    q, k, v = (normal((B, H, n, d), dtype, seed=i) for i, n in enumerate((T, S, S)))
    rng = np.random.default_rng(5)
    shapes = {"(T, S)": (T, S), "(1, S)": (1, S), "(H, T, S)": (H, T, S), "(B, 1, 1, S)": (B, 1, 1, S)}
    if bias in ("none", "causal"):
        b = None
    elif bias == "all":
        b = np.full((T, S), -np.inf, dtype)
    else:
        b = np.where(rng.random(shapes[bias]) < 0.3, -np.inf, rng.standard_normal(shapes[bias])).astype(dtype)
    for drop in (0, 0.4) if b is None else (0,):
        compare(xp, "attention", q, k, v, b, bias == "causal", 0.5, drop, 3, tolerance=60)
        if b is None:
            grad = normal((B, H, T, d), dtype, seed=8)
            saved = reference.attention(q, k, v, b, bias == "causal", 0.5, drop, 3)[1]
            compare(xp, "attention_backward", grad, q, k, v, saved, 0.5, tolerance=60)


@over_dtypes
@pytest.mark.parametrize(
    ("T", "S", "d", "e", "causal", "drop"),
    [(1, 1, 1, 1, False, 0), (5, 37, 4, 3, True, 0), (37, 5, 4, 33, True, 0.4), (33, 33, 3, 4, True, 0.4),
     (17, 70, 64, 40, False, 0.4), (70, 18, 40, 64, True, 0), (3, 3, 2, 2, False, 1)],
)  # fmt: skip
def test_attention_in_tiles(xp: Any, T: int, S: int, d: int, e: int, causal: bool, drop: float, dtype: Any) -> None:
    """Forward and backward, ends of blocks and tiles, wide heads; no array as large as p is made."""
    q, k, v = (normal((1, 2, *size), dtype, seed=i) for i, size in enumerate(((T, d), (S, d), (S, e))))
    in_tiles(xp, q, k, v, None, causal, drop)


@over_dtypes
@pytest.mark.parametrize("bias", ["(T, S)", "(B, 1, 1, S)", "all", "some rows"])
def test_attention_in_tiles_with_bias(xp: Any, bias: str, dtype: Any) -> None:
    """Queries that may look nowhere, in a tile or at all; keys shared by heads."""
    q, k, v = (normal((2, heads, n, 3), dtype, seed=n) for heads, n in ((3, 18), (1, 40), (3, 40)))
    b = np.zeros({"(T, S)": (18, 40), "(B, 1, 1, S)": (2, 1, 1, 40)}.get(bias, (18, 40)), dtype)
    b[...] = np.where(np.random.default_rng(5).random(b.shape) < 0.3, -np.inf, normal(b.shape, dtype))
    b[..., :32] = -np.inf  # the first tile
    b[slice(0) if bias[0] == "(" else slice(3) if bias == "some rows" else slice(None)] = -np.inf
    in_tiles(xp, q, k, v, b, False, 0)


@pytest.mark.parametrize("mask", [-1e9, np.finfo(np.float32).min])
def test_attention_in_tiles_with_a_finite_mask(xp: Any, mask: float) -> None:
    """Between float32's numbers near -1e9 lie 64: ln of the sum of a row, were it added to that, would be lost."""
    q, k, v = (normal((1, n, 3), np.float32, seed=n) for n in (4, 7, 7))
    in_tiles(xp, q, k, v, np.array([[0], [mask], [0], [mask]], np.float32).repeat(7, axis=1), False, 0)


def test_attention_in_tiles_is_chosen_where_p_would_be_large(xp: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """More bytes than the limit, heads that a tile can hold, and values with no batch of their own."""
    monkeypatch.setattr(cuda, "flash_attention", lambda *_: "tiles")
    monkeypatch.setattr(cuda, "MOST_SCORES", 2 * 3 * 3 * 4)

    q, k, v = (xp.ones((2, n, 128), np.float32) for n in (4, 3, 3))
    assert cuda.attention(q, k, v, None, True, 1, 0, 0) == "tiles"
    for other in ((q[:, :3], k, v), (q, k, xp.ones((2, 3, 129), np.float32)), (q, k, v[None].repeat(2, 0))):
        assert cuda.attention(*other, None, True, 1, 0, 0) != "tiles"
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    assert cuda.attention(q, k, v, None, True, 1, 0, 0) != "tiles"
    assert cuda.attention(q[..., :64], k[..., :64], v[..., :64], None, True, 1, 0, 0) == "tiles"


def in_tiles(xp: Any, q: Any, k: Any, v: Any, bias: Any, causal: bool, drop: float) -> None:
    """flash_attention.cu against the reference."""
    grad = normal((*q.shape[:-1], v.shape[-1]), q.dtype, seed=9)
    z, saved = reference.attention(q, k, v, bias, causal, 0.5, drop, 3)
    expected = z, *reference.attention_backward(grad, q, k, v, saved, 0.5)
    on_device = [to_device(xp, x) for x in (q, k, v)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda, "MOST_SCORES", 0)
        patch.setattr(cuda, "bmm", lambda *_: pytest.fail("not in tiles"))
        z, saved = cuda.attention(*on_device, to_device(xp, bias), causal, 0.5, drop, 3)
        before, z_host = xp.asarray(grad), z.get()
        z *= 0  # what was saved is not the caller's
        got = z_host, *to_host(cuda.attention_backward(before, *on_device, saved, 0.5))
    for ours, theirs in zip(got, expected, strict=True):
        assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
        tolerance = 100 * np.finfo(q.dtype).eps
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance * np.abs(theirs).max(initial=1))


@over_dtypes
@pytest.mark.parametrize(("N", "C", "n"), [(1, 1, 600), (50, 3, 513), (700, 300, 1000)])
def test_sum_rows_by_id(xp: Any, N: int, C: int, n: int, dtype: Any) -> None:
    ids = np.minimum(np.random.default_rng(0).geometric(0.05, N), n) - 1
    for kind in (np.int64, np.int32):
        compare(xp, "sum_rows_by_id", ids.astype(kind), normal((N, C), dtype), n)
    compare(xp, "sum_rows_by_id", ids[::-1] * 0 + n - 1, normal((N, C), dtype), n, tolerance=200)


@over_dtypes
def test_sum_rows_out_of_range(xp: Any, dtype: Any) -> None:
    ids, rows = xp.asarray(np.array([-1, 600, 3, 3, 599])), xp.ones((5, 2), dtype)
    out = cuda.sum_rows_by_id(ids, rows, 600).get()
    assert out[3].tolist() == [2, 2] and out[599].tolist() == [1, 1] and out.sum() == 6


@over_dtypes
@pytest.mark.parametrize(("N", "C"), [(1, 1), (7, 33), (513, 40), (3000, 5)])
def test_column_sums(xp: Any, N: int, C: int, dtype: Any) -> None:
    a, b = normal((N, C), dtype), normal((N, C), dtype, seed=1)
    compare(xp, "column_sums", a, tolerance=100)
    compare(xp, "column_sums", a, b, tolerance=100)
    compare(xp, "product_and_column_sums", a, b, tolerance=100)
    compare(xp, "product_and_column_sums", a[None, :, None], b[None, :, None], tolerance=100)


def test_column_sums_of_a_long_matrix(xp: Any) -> None:
    """300,000 rows: three launches, and as exact as float32 can be, where adding one by one would be off by 1 %."""
    a = np.full((300_000, 2), 0.1, np.float32)
    assert np.abs(cuda.column_sums(xp.asarray(a)).get() / (300_000 * float(np.float32(0.1))) - 1).max() < 1e-6


@needs_compiler
def test_column_sums_of_more_rows_than_a_grid_has_blocks_of_512(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is launched, not run: a grid that CUDA accepts, whose chunks hold all rows and none twice."""
    launched: list[tuple] = []
    monkeypatch.setattr(cuda, "kernel", lambda *_: lambda grid, block, args: launched.append((grid, args)))
    with fakecupy.installed() as cupy:
        cuda.column_sums(cupy.empty((512 * 65535 + 1, 1), np.float16))
    assert len(launched) == 3 and launched[-1][0] == (1, 1)
    for (_, chunks), (*_, N, _, chunk) in launched:
        assert chunks <= cuda_on_cpu.MAX_GRID[1] and (chunks - 1) * chunk < N <= chunks * chunk


@over_dtypes
@pytest.mark.parametrize("parts", ["w b", "w", "b", ""])
def test_scale_shift(xp: Any, parts: str, dtype: Any) -> None:
    w, b = (normal(7, dtype, seed=i) if name in parts else None for i, name in enumerate("wb"))
    compare(xp, "scale_shift", normal((50, 7), dtype), w, b)


# --- Many arrays at once -----------------------------------------------------------------------------------------

SIZES = [(1,), (3, 5), (257,), (70, 70), (2, 2, 2)]


@over_dtypes
@pytest.mark.parametrize("count", [1, 5, 70])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_adam_of_many_parameters(xp: Any, count: int, decay: float, dtype: Any) -> None:
    shapes = [SIZES[i % len(SIZES)] for i in range(count)]
    w, g, m = ([normal(s, dtype, seed=3 * i + j) for i, s in enumerate(shapes)] for j in range(3))
    v = [x * x for x in m]
    steps = [1 + (i == 3) * 6 for i in range(count)]  # one parameter joined earlier
    parts = list(zip(w, g, m, v, steps, strict=True))
    compare(xp, "adam_all", w, parts, 0.01, 0.9, 0.999, 1e-8, decay)


def test_adam_writes_nothing_beyond_its_parameters(xp: Any) -> None:
    """Here the addresses are in a table, where the check of the launches does not look."""
    memory = [xp.full(4 * 50, np.float32(7)) for _ in range(4)]
    parts = [(*(m[50 * i + 10 : 50 * i + 30] for m in memory), 1) for i in range(4)]
    cuda.adam_all([memory[0]], parts, 0.01, 0.9, 0.999, 1e-8, 0.1)
    for kind, name in zip(memory, "wgmv", strict=True):
        inside = (kind.get().reshape(4, 50) != 7)[:, 10:30]
        assert inside.all() if name in "wmv" else not inside.any()
        assert (kind.get() != 7).sum() == inside.sum()


@over_dtypes
@pytest.mark.parametrize("count", [1, 5, 200])
def test_norm_and_clip(xp: Any, count: int, dtype: Any) -> None:
    arrays = [normal(SIZES[i % (3 if count > 100 else len(SIZES))], dtype, seed=i) for i in range(count)]
    compare(xp, "norm", arrays)
    for max_norm in (0.5, 1e9):
        compare(xp, "clip", arrays, np.array(reference.norm(arrays)), max_norm)
    arrays[0][...] = np.nan
    compare(xp, "norm", arrays)
    compare(xp, "clip", arrays, np.array(np.nan, dtype), 1.0)


def test_norm_of_a_million_numbers(xp: Any) -> None:
    a = np.full(1_000_003, 0.1, np.float32)
    exact = np.sqrt(np.sum(a.astype(np.float64) ** 2))
    assert abs(float(cuda.norm([xp.asarray(a)]).get()) / exact - 1) < 1e-7


@over_dtypes
@pytest.mark.parametrize("count", [1, 200])
def test_unscale(xp: Any, count: int, dtype: Any) -> None:
    arrays = [normal(SIZES[i % 3], dtype, seed=i) for i in range(count)]
    for place, bad in ((None, 0), (0, np.inf), (-1, np.nan)):
        if place is not None:
            arrays[place].reshape(-1)[-1] = bad
        expected, got = copied(arrays), to_device(xp, copied(arrays))
        found = cuda.unscale(got, 0.25)
        assert found.ndim == 0 and bool(found.get()) == bool(reference.unscale(expected, 0.25)) == (place is not None)
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_array_equal(a.get(), b)


# --- Half precision ----------------------------------------------------------------------------------------------


def test_kernels_in_half_precision(xp: Any) -> None:
    """Stored in float16, computed in float32: two roundings at most where the reference has one."""
    for shape in ((3, 5), (2, 1030)):
        a, grad = normal(shape, np.float16, 3), normal(shape, np.float16, seed=1)
        compare(xp, "softmax", a, 1, tolerance=2)
        compare(xp, "log_softmax", a, 1, tolerance=2)
        compare(xp, "softmax_backward", reference.softmax(a, 1), grad, 1, tolerance=2)
        compare(xp, "scale_shift", a, a[0], grad[0], tolerance=2)
    compare(xp, "softmax", difficult(np.float16, 6), 1, tolerance=2)
    compare(xp, "gelu_exact", np.linspace(-12, 12, 99).astype(np.float16), tolerance=2)
    compare(xp, "gelu_exact", normal((5, 7), np.float16), normal(7, np.float16, seed=1), tolerance=2)
    compare(xp, "gelu_tanh", normal((5, 7), np.float16), normal(7, np.float16, seed=1), tolerance=2)
    compare(xp, "product_and_column_sums", normal((9, 3), np.float16), normal((9, 3), np.float16, seed=1), tolerance=2)
    compare(xp, "product_and_column_sums", *(np.ones((2601, 3), np.float16) for _ in range(2)), tolerance=0.1)
    compare(xp, "gelu_tanh", np.linspace(-12, 12, 99).astype(np.float16), tolerance=2)
    compare(xp, "dropout", normal((5, 7), np.float16), 0.3, 11, tolerance=2)
    compare(xp, "column_sums", np.ones((2601, 3), np.float16), tolerance=0.1)
    compare(xp, "column_sums", normal((7, 33), np.float16), normal((7, 33), np.float16, seed=1), tolerance=2)


@pytest.mark.parametrize(("causal", "drop"), [(False, 0.0), (True, 0.0), (True, 0.4)])
def test_attention_in_half_precision(xp: Any, monkeypatch: pytest.MonkeyPatch, causal: bool, drop: float) -> None:
    """Scores and p are rounded to float16 on the way, as they are stored in it."""
    q, k, v, grad = (normal((2, 2, 5, 4), np.float16, seed=i) for i in range(4))
    bias = None if causal else np.where(np.tri(5, dtype=bool), 0, -np.inf).astype(np.float16)
    z, saved = reference.attention(q, k, v, bias, causal, 0.5, drop, 3)
    expected = [z, *reference.attention_backward(grad, q, k, v, saved, 0.5)]
    for name in ("attention", "attention_backward"):
        monkeypatch.setattr(reference, name, lambda *_: pytest.fail("fell back to the reference"))
    monkeypatch.setattr(cuda, "MOST_SCORES", 0)  # the tiles are for float32 and float64
    q, k, v, grad, bias = (to_device(xp, x) for x in (q, k, v, grad, bias))
    z, saved = cuda.attention(q, k, v, bias, causal, 0.5, drop, 3)
    for a, b in zip([z, *cuda.attention_backward(grad, q, k, v, saved, 0.5)], expected, strict=True):
        assert a.dtype == b.dtype == saved[0][0].dtype == np.float16
        np.testing.assert_allclose(a.get().astype(np.float32), b.astype(np.float32), rtol=4e-3, atol=4e-3)


def test_attention_in_half_precision_where_products_are_too_large_for_it(xp: Any) -> None:
    """33 · 33 · 64 is more than 65504; times scale, it is not."""
    q, v = np.full((1, 3, 64), 33, np.float16), normal((1, 3, 4), np.float16)
    k = q * np.array([[1], [0.999], [-1]], np.float16)
    z, _ = cuda.attention(*to_device(xp, (q, k, v)), None, False, 1 / 8, 0, 0)
    expected, _ = reference.attention(q, k, v, None, False, 1 / 8, 0, 0)
    np.testing.assert_allclose(z.get().astype(np.float32), expected.astype(np.float32), rtol=4e-3, atol=4e-3)


@pytest.mark.parametrize("count", [1, 448, 1000])
def test_set_numbers(xp: Any, count: int) -> None:
    """The numbers stay with the host: that is what the kernel is for."""
    places, values = xp.zeros(1024, np.uint64), np.arange(2**40, 2**40 + count, dtype=np.uint64)
    fast.set_numbers(places, values)
    expected = np.zeros(1024, np.uint64)
    reference.set_numbers(expected, values)
    assert (places.get() == expected).all() and expected[count - 1] == values[-1] and not expected[count:].any()


# --- Wrong kernels are seen --------------------------------------------------------------------------------------

# file, what stands there, what is put in its place, and the test that must fail then
WRONG_KERNELS: list[tuple[str, str, str, Callable]] = [
    ("softmax", "m = max_of_row(m);", "", lambda xp: test_softmax(xp, (5, 33), np.float32)),
    ("softmax", "max(m, (accurate)a[j])", "max(m, abs(a[j]))",
     lambda xp: test_softmax_of_difficult_rows(xp, 6, np.float32)),
    ("softmax", "if (total == 0) total = 1;", "", lambda xp: test_softmax_of_difficult_rows(xp, 6, np.float32)),
    ("softmax", "p[j] / total", "p[j] / total * (1 + 1e-4)", lambda xp: test_softmax(xp, (3, 5), np.float32)),
    ("softmax", "- sum)", ")", lambda xp: test_softmax(xp, (3, 5), np.float32)),
    ("softmax", "j < C;", "j <= C;", lambda xp: test_softmax(xp, (5, 33), np.float64)),
    ("softmax", "if (row >= N) return;", "", lambda xp: test_softmax(xp, (3, 5), np.float32)),
    ("layer_norm", "__syncthreads();  // whoever", "// whoever", lambda xp: test_layer_norm(xp, (3, 1025), np.float32)),
    ("softmax", "if (lane == 0) maxima[warp] = x;\n    __syncthreads();", "if (lane == 0) maxima[warp] = x;",
     lambda xp: test_softmax(xp, (3, 1025), np.float32)),
    ("softmax", "step = 16", "step = 8", lambda xp: test_softmax(xp, (5, 33), np.float32)),
    ("cross_entropy", "j == t ? -others :", "", lambda xp: test_cross_entropy(xp, (3, 5), np.float32)),
    ("cross_entropy", "w == 0 ? 0 :", "", lambda xp: test_cross_entropy_of_difficult_rows(xp, np.float32)),
    ("cross_entropy", "t < C;", "t <= C;", lambda xp: test_cross_entropy_out_of_range(xp, np.float32)),
    ("layer_norm", "n[j] -= mean;", "", lambda xp: test_layer_norm_of_constant_rows(xp, 1500, np.float32)),
    ("layer_norm", "n[j] * mean_gn", "mean_gn", lambda xp: test_layer_norm(xp, (3, 5), np.float32)),
    ("layer_norm", "/ C + eps", "/ (C - 1) + eps", lambda xp: test_layer_norm(xp, (3, 5), np.float32)),
    ("gelu", "x * density", "density", lambda xp: test_gelu(xp, "gelu_exact", np.float32, 255)),
    ("gelu", "3 * 0.044715", "0.044715", lambda xp: test_gelu(xp, "gelu_tanh", np.float32, 255)),
    ("gelu", "(1 - s)", "s", lambda xp: test_gelu(xp, "gelu_tanh", np.float32, 255)),
    ("gelu", "if (b) x += (accurate)b[i % C];\n        accurate cdf", "accurate cdf",
     lambda xp: test_gelu_with_bias(xp, "gelu_exact", np.float32)),
    ("gelu", "b[i % C];\n        accurate square", "b[i / C];\n        accurate square",
     lambda xp: test_gelu_with_bias(xp, "gelu_tanh", np.float32)),
    ("dropout", ">> 15", ">> 14", lambda xp: test_dropout_masks_are_the_same_bits(xp, 0.5, 3, np.float32)),
    ("dropout", "< threshold", "<= threshold", lambda xp: test_dropout_at_the_threshold(xp)),
    ("dropout", "a[i] * m;", "m;", lambda xp: test_dropout_masks_are_the_same_bits(xp, 0.5, 3, np.float32)),
    ("attention", "(row % T) + 1", "(row % T)", lambda xp: test_attention(xp, 5, 5, "causal", np.float32)),
    ("attention", "row % bias_rows", "row / T % bias_rows", lambda xp: test_attention(xp, 5, 5, "(T, S)", np.float32)),
    ("attention", "if (kept) s[j] = s[j] * (accurate)kept[j];", "",
     lambda xp: test_attention(xp, 5, 5, "causal", np.float32)),
    ("flash_attention", "total[r] * shrink + p", "total[r] + p",
     lambda xp: test_attention_in_tiles(xp, 17, 70, 64, 40, False, 0.4, np.float32)),
    ("flash_attention", "    __syncthreads();\n    load(tile, TILE", "    load(tile, TILE",
     lambda xp: test_attention_in_tiles(xp, 5, 37, 4, 3, True, 0, np.float32)),
    ("flash_attention", "- largest[row]) / totals[row]", "- (largest[row] + log(totals[row])))",
     lambda xp: test_attention_in_tiles_with_a_finite_mask(xp, -1e9)),
    ("sum_rows_by_id", "(k > 0 && ids[order[k - 1]] == id)", "false",
     lambda xp: test_sum_rows_by_id(xp, 50, 3, 513, np.float32)),
    ("sum_rows_by_id", "id >= n ||", "", lambda xp: test_sum_rows_out_of_range(xp, np.float32)),
    ("sum_rows_by_id", "if (j >= C) return;", "", lambda xp: test_sum_rows_by_id(xp, 50, 3, 513, np.float32)),
    ("columns", "i += 8", "i += 7", lambda xp: test_column_sums(xp, 513, 40, np.float32)),
    ("columns", "product[i * C + j] = x", "product[i * C + j] = a[i * C + j]",
     lambda xp: test_column_sums(xp, 7, 33, np.float32)),
    ("columns", "__syncthreads();", "", lambda xp: test_column_sums(xp, 7, 33, np.float32)),
    ("columns", "i % C", "i / C", lambda xp: test_scale_shift(xp, "w", np.float32)),
    ("adam", "* root + eps", "+ eps", lambda xp: test_adam_of_many_parameters(xp, 5, 0.1, np.float32)),
    ("adam", "+ shrink * w[i]", "", lambda xp: test_adam_of_many_parameters(xp, 5, 0.1, np.float32)),
    ("adam", "FOR_EACH(i, table.size[k])", "FOR_EACH(i, table.size[k] + 1)",
     lambda xp: test_adam_writes_nothing_beyond_its_parameters(xp)),
    ("norm", "k * gridDim.x + blockIdx.x", "k + blockIdx.x", lambda xp: test_norm_and_clip(xp, 5, np.float32)),
    ("norm", "__syncthreads();", "", lambda xp: test_norm_and_clip(xp, 5, np.float32)),
    ("norm", "if (factor > 1) factor = 1;", "", lambda xp: test_norm_and_clip(xp, 5, np.float32)),
    ("norm", "found[0] = 1", "found[0] = 0", lambda xp: test_unscale(xp, 1, np.float32)),
    ("columns", "accurate sum = 0", "real sum = 0", test_kernels_in_half_precision),
    ("softmax", "accurate total = 0", "real total = 0", test_kernels_in_half_precision),
]  # fmt: skip


@needs_compiler
@pytest.mark.parametrize("wrong", WRONG_KERNELS, ids=lambda w: f"{w[0]}: {w[1][:30]}")
def test_a_wrong_kernel_is_seen(monkeypatch: pytest.MonkeyPatch, wrong: tuple) -> None:
    file, right, edit, check = wrong
    assert right in SOURCES[file]
    with fakecupy.installed() as cupy:
        careful(monkeypatch)
        monkeypatch.setattr(cupy, "empty", lambda shape, dtype: cupy.full(shape, np.nan, dtype))
        check(cupy)  # control: the right kernel passes
        monkeypatch.setattr(launch, "source", lambda _: SOURCES[file].replace(right, edit))
        launch.kernel.cache_clear()
        try:
            with pytest.raises((AssertionError, RuntimeError)):
                check(cupy)
        finally:
            launch.kernel.cache_clear()


# --- Who takes what ----------------------------------------------------------------------------------------------


@needs_compiler
def test_every_kernel_is_launched_by_a_routine_of_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names in the sources, names asked for in Python: the same; and each routine stands in the reference too."""
    names = {name for file in FILES for name in cuda_on_cpu.kernels(SOURCES[file])}
    text = "".join(path.read_text() for path in launch.FOLDER.glob("*.py"))
    assert len(names) >= 16 and [name for name in names if f'"{name}"' not in text] == []
    parts = {
        "attention_softmax", "attention_softmax_backward", "flash_attention", "flash_attention_grad_q",
        "flash_attention_grad_kv", "sum_squares", "root_of_sum", "clip_to_norm",
    }  # fmt: skip
    assert names - parts <= set(vars(reference))
    assert [name for name in vars(cuda) if name in vars(reference) and not name.startswith("_")]


@pytest.mark.parametrize("case", ["float16", "other axis", "empty", "other card"])
def test_what_no_kernel_takes_goes_to_the_reference(case: str) -> None:
    with fakecupy.installed() as cupy:
        with cupy.cuda.Device(1 if case == "other card" else 0):
            a = cupy.zeros((0, 3) if case == "empty" else (2, 3), np.float16 if case == "float16" else np.float32)
        assert launch.fits(a) == (case == "other axis" and cuda_on_cpu.available())
        assert launch.fits(a, half=True) == (case in ("float16", "other axis") and cuda_on_cpu.available())
        if case == "other card":
            with pytest.raises(ValueError, match="Peer access"):
                fast.softmax(a, 1)
        else:
            p = fast.softmax(a, 0 if case == "other axis" else 1)
            assert p.dtype == a.dtype and p.shape == a.shape


def test_without_a_compiler_the_fake_does_without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_on_cpu, "available", lambda: False)
    monkeypatch.setattr(launch, "kernel", lambda *_: pytest.fail("a kernel without a compiler"))
    with fakecupy.installed() as cupy:
        q = cupy.ones((2, 3, 4), np.float32)
        assert not launch.fits(q)
        [(p, _)] = fast.attention(q, q, q, None, True, 1.0, 0, 0)[1]
        assert np.allclose(p.get(), np.tri(3) / np.arange(1, 4)[:, None])
    assert launch.REAL


def test_numpy_arrays_take_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "kernel", lambda *_: pytest.fail("a kernel for NumPy"))
    assert isinstance(fast.gelu_tanh(np.ones((2, 3), np.float32))[0], np.ndarray)
    assert not launch.fits(np.ones(3))
    assert fast.norm([np.ones(4)]) == 2


# --- Products ----------------------------------------------------------------------------------------------------


def layouts(xp: Any, a: Any) -> dict[str, Any]:
    """Equal arrays (B, H, n, k) that lie differently in memory."""
    B, H, n, k = a.shape

    def laid(order: tuple[int, ...]) -> Any:
        return xp.ascontiguousarray(a.transpose(order)).transpose([order.index(d) for d in range(4)])

    wide = xp.zeros((B, n, 3, H, k), a.dtype)
    wide[:, :, 1] = a.transpose(0, 2, 1, 3)
    return {
        "contiguous": a,
        "transposed": laid((0, 1, 3, 2)),
        "heads behind positions": laid((0, 2, 1, 3)),
        "a slice of q, k, v": wide[:, :, 1].transpose(0, 2, 1, 3),
        "batch last": laid((2, 3, 0, 1)),
        "every second": xp.repeat(a, 2, axis=3)[..., ::2],
        "backwards": xp.ascontiguousarray(a[:, :, ::-1])[:, :, ::-1],
    }


COPIED = {"batch last", "every second", "backwards"}


@over_dtypes
@pytest.mark.parametrize("sizes", [(2, 3, 4, 5, 6), (1, 3, 1, 5, 1), (3, 1, 4, 1, 2), (1,) * 5, (2, 10, 3, 2, 4)])
def test_bmm_of_any_layout(xp: Any, monkeypatch: pytest.MonkeyPatch, sizes: tuple, dtype: Any) -> None:
    monkeypatch.setattr(products, "LITTLE", 0)  # no copies for lack of size
    B, H, n, k, m = sizes
    a, b = normal((B, H, n, k), dtype), normal((B, H, k, m), dtype, seed=1)
    for one, other in itertools.product(layouts(xp, xp.asarray(a)).values(), layouts(xp, xp.asarray(b)).values()):
        z = cuda.bmm(one, other)
        assert z.flags.c_contiguous and z.dtype == dtype
        np.testing.assert_allclose(z.get(), a @ b, rtol=1e-5, atol=1e-6)


def test_bmm_in_half_precision(xp: Any) -> None:
    a, b = normal((2, 3, 4, 5), np.float16), normal((2, 3, 5, 6), np.float16, seed=1)
    for one, other in zip(layouts(xp, xp.asarray(a)).values(), layouts(xp, xp.asarray(b)).values(), strict=True):
        z = cuda.bmm(one, other)
        assert z.dtype == np.float16
        np.testing.assert_allclose(z.get(), reference.bmm(a, b), rtol=1e-3, atol=1e-3)
    ones = xp.ones((2, 1, 2601), np.float16)
    assert cuda.bmm(ones, ones.swapaxes(1, 2)).get().tolist() == [[[2600.0]]] * 2  # rounded to even once, at the end


@pytest.mark.parametrize(
    "shapes",
    [((2, 3, 4), (2, 4, 5)), ((2, 3, 4), (1, 4, 5)), ((3, 4), (2, 4, 5)), ((2, 1, 3, 4), (5, 4, 2)),
     ((2, 3, 4), (4, 5)), ((2, 2, 2, 3, 4), (2, 1, 2, 4, 3)), ((3, 4), (4, 5)), ((0, 3, 4), (0, 4, 5)),
     ((2, 3, 0), (2, 0, 5))],
)  # fmt: skip
def test_bmm_broadcasts(xp: Any, shapes: tuple) -> None:
    a, b = (normal(shape, np.float32, seed=i) for i, shape in enumerate(shapes))
    np.testing.assert_allclose(cuda.bmm(xp.asarray(a), xp.asarray(b)).get(), a @ b, rtol=1e-5, atol=1e-6)
    gradient_like = xp.broadcast_to(xp.asarray(np.float32(2)), (2, 3, 3))  # what sum().backward() sends
    assert cuda.bmm(gradient_like, gradient_like).get().tolist() == [[[12.0] * 3] * 3] * 2


@needs_compiler
@pytest.mark.parametrize("name", ["contiguous", "transposed", "heads behind positions", "a slice of q, k, v"])
def test_bmm_copies_nothing_for_large_attention(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """q kᵀ of heads cut out of one array: as many calls as heads, no copy. A fresh or a transposed batch: one call."""
    with fakecupy.installed() as cupy:
        q = layouts(cupy, cupy.asarray(normal((4, 3, 5, 8), np.float32)))[name]
        calls, gemm = [], cupy.cuda.cublas.gemmStridedBatchedEx
        monkeypatch.setattr(cupy.cuda.cublas, "gemmStridedBatchedEx", lambda *a: calls.append(gemm(*a)))
        monkeypatch.setattr(cupy, "ascontiguousarray", lambda a: pytest.fail("a copy"))
        monkeypatch.setattr(products, "LITTLE", 0)
        z = cuda.bmm(q, q.swapaxes(-1, -2))
        assert len(calls) == (1 if name in ("contiguous", "transposed") else 3)
        np.testing.assert_allclose(z.get(), q.get() @ q.get().swapaxes(-1, -2), rtol=1e-5)


@needs_compiler
def test_bmm_copies_rather_than_making_many_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    with fakecupy.installed() as cupy:
        q = layouts(cupy, cupy.asarray(normal((20, 10, 3, 4), np.float32)))["heads behind positions"]
        calls, gemm = [], cupy.cuda.cublas.gemmStridedBatchedEx
        monkeypatch.setattr(cupy.cuda.cublas, "gemmStridedBatchedEx", lambda *a: calls.append(gemm(*a)))
        np.testing.assert_allclose(
            cuda.bmm(q, q.swapaxes(-1, -2)).get(), q.get() @ q.get().swapaxes(-1, -2), rtol=1e-4, atol=1e-6
        )
        assert len(calls) == 1


@needs_compiler
@pytest.mark.parametrize("wanted", [False, True])
def test_tf32_on_request(monkeypatch: pytest.MonkeyPatch, wanted: bool) -> None:
    monkeypatch.setenv("CUPY_TF32", str(int(wanted)))
    products.tf32.cache_clear()
    try:
        with fakecupy.installed() as cupy:
            for dtype, expected in ((np.float32, 77 if wanted else 68), (np.float64, 70)):
                cuda.bmm(cupy.ones((2, 3, 3), dtype), cupy.ones((2, 3, 3), dtype))
                assert fakecuda.computed[-1] == expected
    finally:
        products.tf32.cache_clear()


def packed(x: Any, rows: int, columns: int) -> tuple:
    row_by_row = x.strides[-1] == x.itemsize
    return x, products.Layout(0, columns) if row_by_row else products.Layout(1, rows)


WRONG_PRODUCTS: dict[str, tuple[str, Callable]] = {
    "never transposed": ("with_layout", lambda x, rows, columns: (x, products.Layout(0, columns))),
    "matrices taken for packed": ("with_layout", packed),
    "batch taken for evenly spaced": (
        "batch_steps", lambda batch, *xs: [(int(np.prod(batch)), *(x.strides[1] // x.itemsize for x in xs))],
    ),
}  # fmt: skip


@needs_compiler
@pytest.mark.parametrize("name", WRONG_PRODUCTS)
def test_wrong_arguments_for_cublas_are_seen(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with fakecupy.installed() as cupy:
        monkeypatch.setattr(products, *WRONG_PRODUCTS[name])
        with pytest.raises((AssertionError, fakecupy.FakeError, ValueError)):
            test_bmm_of_any_layout(cupy, monkeypatch, (2, 3, 4, 5, 6), np.float32)
