"""The stand-in for a card that runs kernels: it computes what CUDA would, and refuses what a card could not bear."""

from __future__ import annotations

from typing import Any

import cuda_on_cpu
import fakecupy
import numpy as np
import pytest

import tinygrad_z2g as z2g
from tinygrad_z2g import nn, optim

pytestmark = pytest.mark.skipif(not cuda_on_cpu.available(), reason="no g++")

SOURCE = """
struct Pair { long long size[2]; real* x[2]; };

extern "C" __global__ void where_am_i(int* block, int* thread, int width) {
    int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    block[y * width + x] = blockIdx.z * 10000 + gridDim.x * 1000 + blockIdx.y * 100 + blockIdx.x;
    thread[y * width + x] = blockDim.y * 1000 + threadIdx.y * 100 + threadIdx.x;
}

extern "C" __global__ void swap_lanes(real* x, int lanes) {
    x[threadIdx.x] = __shfl_xor_sync(~0u, x[threadIdx.x], lanes);
}

extern "C" __global__ void reverse(real* x, int broken) {
    __shared__ real all[1024];
    all[threadIdx.x] = x[threadIdx.x];
    if (!broken) __syncthreads();
    x[threadIdx.x] = all[blockDim.x - 1 - threadIdx.x];
}

extern "C" __global__ void some_shuffle(real* x) {
    if (threadIdx.x < 31) x[threadIdx.x] = __shfl_xor_sync(~0u, x[threadIdx.x], 1);
}

extern "C" __global__ void some_wait(real* x) { if (threadIdx.x != 3) __syncthreads(); }

extern "C" __global__ void mixed(real* x) {
    if (threadIdx.x % 2) __syncthreads();
    else x[0] = __shfl_xor_sync(~0u, x[0], 1);
}

extern "C" __global__ void beyond(real* x, int n) { if (threadIdx.x <= n) x[threadIdx.x] = 1; }

extern "C" __global__ void read_beyond(const real* x, real* z, int n) { z[threadIdx.x] = x[threadIdx.x + 1]; }

extern "C" __global__ void set(const Pair pair, real a) { pair.x[1][pair.size[1] - 1] = a; }

extern "C" __global__ void types(real* a, long long* b, unsigned int c, long long d, double e) {}
"""


@pytest.fixture(scope="module")
def module() -> cuda_on_cpu.Module:
    return cuda_on_cpu.compile(SOURCE, "float")


def test_threads_and_blocks_are_numbered_as_in_cuda(module: Any) -> None:
    block, thread = np.full((2, 6, 6), -1, np.int32)
    module.launch("where_am_i", (2, 3), (3, 2), [block, thread, np.int32(6)])
    y, x = np.indices((6, 6))
    assert (block == 2000 + y // 2 * 100 + x // 3).all()
    assert (thread == 2000 + y % 2 * 100 + x % 3).all()


@pytest.mark.parametrize("descending", [False, True])
def test_shuffles_and_barriers(module: Any, descending: bool) -> None:
    x = np.arange(64, dtype=np.float32)
    module.launch("swap_lanes", (1,), (64,), [x, np.int32(5)], descending)
    assert (x == np.arange(64) ^ 5).all()
    module.launch("reverse", (1,), (64,), [x, np.int32(0)], descending)
    assert (x == (np.arange(64) ^ 5)[::-1]).all()


@pytest.mark.parametrize("name", ["some_shuffle", "some_wait", "mixed"])
def test_what_would_hang_is_an_error(module: Any, name: str) -> None:
    with pytest.raises(RuntimeError, match=r"not all (32 threads|threads of the block)"):
        module.launch(name, (1,), (32,), [np.zeros(32, np.float32)])
    test_shuffles_and_barriers(module, False)  # and the next launch is sound


def test_a_missing_barrier_is_seen(module: Any) -> None:
    module.launch_carefully("reverse", (1,), (64,), [np.arange(64, dtype=np.float32), np.int32(0)])
    with pytest.raises(AssertionError, match="a race"):
        module.launch_carefully("reverse", (1,), (64,), [np.arange(64, dtype=np.float32), np.int32(1)])


def test_access_beyond_an_array_is_seen(module: Any) -> None:
    x = np.zeros(8, np.float32)
    module.launch_carefully("beyond", (1,), (32,), [x, np.int32(7)])
    assert (x == 1).all()
    with pytest.raises(AssertionError, match="written beyond"):
        module.launch_carefully("beyond", (1,), (32,), [x, np.int32(8)])
    with pytest.raises(AssertionError, match="read beyond"):
        module.launch_carefully("read_beyond", (1,), (8,), [x, x.copy(), np.int32(8)])


def test_structs_go_by_value(module: Any) -> None:
    x = np.zeros(5, np.float32)
    table = np.zeros(1, [("size", np.int64, 2), ("x", np.uintp, 2)])
    table["size"][0, 1], table["x"][0, 1] = 5, x.ctypes.data
    module.launch("set", (1,), (1,), [table, np.float32(3)])
    assert x.tolist() == [0, 0, 0, 0, 3]
    with pytest.raises(TypeError, match="expected S32"):
        module.launch("set", (1,), (1,), [np.zeros(1, [("size", np.int64, 2)]), np.float32(3)])


RIGHT: list[Any] = [np.zeros(2, np.float32), np.zeros(2, np.int64), np.uint32(1), 1, 1.0]


@pytest.mark.parametrize(
    ("place", "wrong"),
    [(0, np.zeros(2)), (0, 5), (1, np.zeros(2, np.int32)), (2, 1), (2, np.int32(1)), (2, np.zeros(1, np.uint32)),
     (3, np.int32(1)), (3, 1.0), (4, np.float32(1)), (4, 1)],
)  # fmt: skip
def test_arguments_must_have_the_parameters_types(module: Any, place: int, wrong: Any) -> None:
    module.launch("types", (1,), (1,), RIGHT)
    module.launch("types", (1,), (1,), [None, *RIGHT[1:]])
    args = [*RIGHT[:place], wrong, *RIGHT[place + 1 :]]
    with pytest.raises(TypeError, match=f"argument {place}"):
        module.launch("types", (1,), (1,), args)
    with pytest.raises(TypeError, match="expected 5 arguments"):
        module.launch("types", (1,), (1,), RIGHT[:4])


@pytest.mark.parametrize(
    ("grid", "block"),
    [((0,), (1,)), ((1,), (0,)), ((1,), (1025,)), ((1,), (64, 32)), ((1, 65536), (1,)), (1, (1,)),
     ((np.int64(1),), (1,)), ((1.0,), (1,)), ((1,) * 4, (1,)), ((), (1,))],
)  # fmt: skip
def test_sizes_that_cuda_refuses(module: Any, grid: Any, block: Any) -> None:
    with pytest.raises(ValueError, match=r"types: (grid|block)"):
        module.launch("types", grid, block, RIGHT)


def test_a_source_with_an_error() -> None:
    with pytest.raises(RuntimeError, match=r"kernel.cu:\d+:\d+: error"):
        cuda_on_cpu.compile('extern "C" __global__ void f(int* x) { y = 1; }', "float")


# --- Behind the fake CuPy ----------------------------------------------------------------------------------------


def test_the_fake_refuses_what_a_card_would_take_astray() -> None:
    with fakecupy.installed() as cupy:
        beyond = cupy.RawModule(code=SOURCE, options=("-Dreal=float",)).get_function("beyond")
        a = cupy.zeros((4, 4), np.float32)
        beyond((1,), (32,), (a, np.int32(15)))
        assert (a.get() == 1).all()
        with pytest.raises(fakecupy.FakeError, match="not contiguous"):
            beyond((1,), (32,), (a.T[:2], np.int32(3)))
        with pytest.raises(TypeError, match=r"expected a cupy\.ndarray"):
            beyond((1,), (32,), (a.get(), np.int32(3)))
        with cupy.cuda.Device(1), pytest.raises(ValueError, match="Peer access"):
            beyond((1,), (32,), (a, np.int32(3)))
        with pytest.raises(fakecupy.FakeError, match="symbol not found"):
            cupy.RawModule(code=SOURCE, options=("-Dreal=float",)).get_function("absent")


def gemm(cupy: Any, a: Any, b: Any, c: Any, **changes: int) -> None:
    """c = a b for batches (2, 3, 4) and (2, 4, 5), said to cuBLAS rightly but for `changes`."""
    one, zero = np.ones(1, np.float32), np.zeros(1, np.float32)
    right = {
        "handle": cupy.cuda.device.get_cublas_handle(), "transa": 0, "transb": 0, "m": 5, "n": 3, "k": 4,
        "alpha": one.ctypes.data, "A": b.data.ptr, "Atype": 0, "lda": 5, "strideA": 20, "B": a.data.ptr, "Btype": 0,
        "ldb": 4, "strideB": 12, "beta": zero.ctypes.data, "C": c.data.ptr, "Ctype": 0, "ldc": 5, "strideC": 15,
        "batchCount": 2, "computeType": 68, "algo": -1,
    }  # fmt: skip
    cupy.cuda.cublas.gemmStridedBatchedEx(*(right | changes).values())


@pytest.mark.parametrize(
    "change",
    [{"lda": 4}, {"ldb": 3}, {"ldc": 4}, {"strideC": 14}, {"batchCount": 3}, {"strideA": 21}, {"m": 0}, {"Ctype": 1},
     {"computeType": 70}, {"handle": 1}, {"A": 1000}, {"transa": 3}, {"k": 4.0}, {"ldb": 5}],
)  # fmt: skip
def test_the_fake_cublas_refuses_wrong_arguments(change: dict) -> None:
    with fakecupy.installed() as cupy:
        rng, shapes = np.random.default_rng(0), ((2, 3, 4), (2, 4, 5), (2, 3, 5))
        a, b, c = (cupy.asarray(rng.random(shape, np.float32)) for shape in shapes)
        gemm(cupy, a, b, c)
        np.testing.assert_allclose(c.get(), a.get() @ b.get(), rtol=1e-6)
        with pytest.raises((fakecupy.FakeError, TypeError)):
            gemm(cupy, a, b, c, **change)


# --- How many launches -------------------------------------------------------------------------------------------


@pytest.mark.fast  # plain updates take several for each parameter
def test_optimizer_and_clipping_take_a_handful_of_launches_for_a_whole_model() -> None:
    with fakecupy.installed():
        model = nn.Sequential(*[nn.Linear(3, 3) for _ in range(30)]).to("cuda")  # 60 parameters
        optimizer = optim.AdamW(model.parameters(), weight_decay=0.1)
        for step in range(2):
            model(z2g.ones(2, 3, device="cuda")).sum().backward()
            fakecupy.launches.reset()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            assert fakecupy.launches.count == 3
            optimizer.step()
            assert fakecupy.launches.count == 4 + 120 * (step == 0)  # first m and v, for each parameter, are made
            optimizer.zero_grad()
