"""`python -m benchmarks.gpu`: the speed of tinygrad_z2g on an NVIDIA card, torch beside it where it is installed.

Tables: what a launch costs the host; each kernel's time, against the bytes it must move at the card's measured
rate and against the same routine computed by CuPy step by step; attention in tiles; training steps and writing text.
They are printed and appended to benchmarks/RESULTS.md together with the card, the versions and the date. Without a
card: one line, exit 1.

Every time is the median of five runs of many calls, from an idle card to an idle card, divided by the calls.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import gc
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

RESULTS = Path(__file__).with_name("RESULTS.md")
RUNS, WARM_UP = 5, 3


class Sizes(NamedTuple):
    """The models that are measured; `TINY` lets the tests run every line of this file."""

    layers: int = 6
    heads: int = 6
    width: int = 384
    context: int = 256
    batch: int = 64
    vocabulary: int = 65
    large_vocabulary: int = 50257
    matrix: int = 8192  # for the rate of products
    stream: int = 2**28  # elements copied for the rate of the memory
    tokens: int = 200  # written
    calls: int = 20
    small_calls: int = 1000
    steps: int = 20
    long: int = 2048  # positions, for attention in tiles


TINY = Sizes(1, 2, 8, 6, 2, 11, 600, 16, 64, 2, 1, 2, 1, 12)


# --- Measuring ---------------------------------------------------------------------------------------------------


def timed(call: Callable, calls: int, wait: Callable) -> float:
    """Seconds per call."""
    for _ in range(WARM_UP):  # compiles, fills the memory pool
        call()
    found = []
    for _ in range(RUNS):
        wait()
        start = time.perf_counter()
        for _ in range(calls):
            call()
        wait()
        found.append((time.perf_counter() - start) / calls)
    return statistics.median(found)


class Rates(NamedTuple):
    """What the card does at most, measured: the floors are computed from these."""

    bytes: float  # per second, read plus written
    flops: float  # per second, in float32 matrix products


def rates(cupy: Any, sizes: Sizes, wait: Callable) -> Rates:
    """Copying a large array, multiplying large matrices."""
    a = cupy.zeros(sizes.stream, np.float32)
    copying = timed(a.copy, sizes.calls, wait)
    del a
    m = cupy.ones((sizes.matrix, sizes.matrix), np.float32)
    multiplying = timed(lambda: m @ m, sizes.calls, wait)
    return Rates(8 * sizes.stream / copying, 2 * sizes.matrix**3 / multiplying)


# --- The tables --------------------------------------------------------------------------------------------------


def launches(cupy: Any, sizes: Sizes, wait: Callable) -> Iterator[list[str]]:
    """What one operation on tiny arrays costs, when nothing but the host's work counts."""
    import tinygrad_z2g as z2g
    from tinygrad_z2g import fast
    from tinygrad_z2g.nn import functional as F

    a = cupy.ones((4, 4), np.float32)
    b = cupy.ones((2, 4, 4), np.float32)
    x = z2g.ones(4, 4, device="cuda").requires_grad_()
    ops: dict[str, Callable] = {
        "CuPy: a + b": lambda: a + a,
        "CuPy: a @ b, 2-D": lambda: a @ a,
        "CuPy: a @ b, 3-D": lambda: b @ b,
        "fast.bmm": lambda: fast.bmm(b, b),
        "fast.softmax": lambda: fast.softmax(a, 1),
        "fast.layer_norm": lambda: fast.layer_norm(a, 1e-5),
        "x + x, recorded": lambda: x + x,
        "F.softmax, recorded": lambda: F.softmax(x, 1),
        "(x * x).sum().backward()": lambda: (x * x).sum().backward(),
    }
    yield ["operation", "µs"]
    for name, call in ops.items():
        yield [name, f"{timed(call, sizes.small_calls, wait) * 1e6:.1f}"]


def kernel_rows(cupy: Any, sizes: Sizes) -> Iterator[tuple[str, Callable, Callable | None, float, float]]:
    """(name, with a kernel, the same by CuPy alone, bytes that must move, floating-point operations of products)"""
    from tinygrad_z2g.fast import reference
    from tinygrad_z2g.gpu import kernels as cuda

    L, H, C, T, B, V, large = sizes[:7]
    N, real = B * T, 4
    a, g, w = (cupy.ones(shape, np.float32) for shape in ((N, C), (N, C), (C,)))
    wide = cupy.ones((N, 4 * C), np.float32)
    n, r = reference.layer_norm(a, 1e-5)
    logits, target, ones = cupy.ones((N, V), np.float32), cupy.zeros(N, np.int64), cupy.ones(N, np.float32)
    ids = cupy.asarray(np.random.default_rng(0).integers(0, large, N))
    q = cupy.ones((B, T, H, C // H), np.float32).transpose(0, 2, 1, 3)  # (B, T, H, hs) -> (B, H, T, hs)
    p, mask, grad = (cupy.ones(shape, np.float32) for shape in ((B, H, T, T), (B, H, T, T), q.shape))
    scores = B * H * T * T
    shapes = [(4 * C, C), (C, 4 * C), (3 * C, C), (C, C), *[(C,)] * 8] * L
    arrays = [[cupy.ones(shape, np.float32) for shape in shapes] for _ in range(4)]
    parts = [(*each, 1) for each in zip(*arrays, strict=True)]
    count = sum(math.prod(shape) for shape in shapes)
    total = cupy.asarray(np.float32(1))

    def both(name: str, *args: Any) -> tuple[str, Callable, Callable]:
        return name, lambda: getattr(cuda, name)(*args), lambda: getattr(reference, name)(*args)

    yield *both("softmax", p, 3), 2 * real * scores, 0
    yield *both("softmax_backward", p, mask, 3), 3 * real * scores, 0
    yield *both("cross_entropy", logits, target, ones), 2 * real * N * V, 0
    yield *both("layer_norm", a, 1e-5), 2 * real * N * C, 0
    yield *both("layer_norm_backward", g, n, r), 3 * real * N * C, 0
    yield *both("scale_shift", a, w, w), 2 * real * N * C, 0
    yield *both("column_sums", g, n), 2 * real * N * C, 0
    yield *both("gelu_tanh", wide), 3 * real * wide.size, 0
    yield *both("gelu_exact", wide), 3 * real * wide.size, 0
    yield "gelu_tanh, with bias", *both("gelu_tanh", wide, wide[0])[1:], 3 * real * wide.size, 0
    yield *both("product_and_column_sums", wide, wide), 3 * real * wide.size, 0
    yield *both("dropout", p, 0.2, 7), 3 * real * scores, 0
    yield *both("sum_rows_by_id", ids, a, large), real * (N + large) * C, 0
    yield *both("adam_all", arrays[0], parts, 1e-3, 0.9, 0.999, 1e-8, 0.1), 7 * real * count, 0
    yield *both("norm", arrays[0]), real * count, 0
    yield *both("clip", arrays[1], total, 1.0), 2 * real * count, 0
    yield *both("bmm", q, q.swapaxes(2, 3)), real * (2 * q.size + scores), 2 * scores * (C // H)
    yield (
        *both("attention", q, q, q, None, True, 0.125, 0.0, 0),
        real * (4 * q.size + 4 * scores), 4 * scores * (C // H),
    )  # fmt: skip
    yield (
        *both("attention_backward", grad, q, q, q, [(p, mask)], 0.125),
        real * (8 * q.size + 9 * scores), 8 * scores * (C // H),
    )  # fmt: skip


def kernel_table(cupy: Any, sizes: Sizes, wait: Callable, card: Rates) -> Iterator[list[str]]:
    """Each kernel against its floor: the bytes it must move at the rate of a copy, or its products at their rate."""
    yield ["routine", "µs", "GB/s", "floor, µs", "of the floor's speed", "CuPy step by step, µs", "gain"]
    for name, call, plain, moved, flops in kernel_rows(cupy, sizes):
        seconds, floor = timed(call, sizes.calls, wait), max(moved / card.bytes, flops / card.flops)
        before = timed(plain, max(1, sizes.calls // 4), wait)
        yield [
            name, f"{seconds * 1e6:.1f}", f"{moved / seconds / 1e9:.0f}", f"{floor * 1e6:.1f}",
            f"{floor / seconds:.0%}", f"{before * 1e6:.1f}", f"{before / seconds:.1f}x",
        ]  # fmt: skip


def tiles_table(cupy: Any, sizes: Sizes, wait: Callable) -> Iterator[list[str]]:
    """Causal attention, forward and backward, for 4 sequences: in tiles, and with the whole of p in memory."""
    from tinygrad_z2g.gpu import kernels as cuda

    yield ["positions", "p, MiB", "in tiles, ms", "p held, ms", "ratio"]
    limit = cuda.MOST_SCORES
    for T in (sizes.long // 4, sizes.long):
        q = cupy.ones((4, sizes.heads, T, sizes.width // sizes.heads), np.float32)

        def both_ways(q: Any = q) -> None:
            _, saved = cuda.attention(q, q, q, None, True, 0.125, 0.0, 0)
            cuda.attention_backward(q, q, q, q, saved, 0.125)

        seconds = []
        for cuda.MOST_SCORES in (0, 2**60):
            seconds.append(timed(both_ways, sizes.calls, wait))
        cuda.MOST_SCORES = limit
        mebibytes = 4 * sizes.heads * T * T * 4 / 2**20
        ratio = f"{seconds[0] / seconds[1]:.2f}"
        yield [str(T), f"{mebibytes:.0f}", *(f"{s * 1e3:.2f}" for s in seconds), ratio]


def step_floor(sizes: Sizes, card: Rates) -> float:
    """Seconds that the small GPT's step cannot do without: its products at their rate. (Attention counted in full.)"""
    L, _, C, T, B, V = sizes[:6]
    per_token = L * (24 * C * C + 4 * T * C) + 2 * C * V
    return 3 * per_token * B * T / card.flops


def step_table(sizes: Sizes, card: Rates, libraries: list[Any]) -> Iterator[list[str]]:
    """Training steps and writing text, each library in turn."""
    from . import workloads

    L, H, C, T, B, V = sizes[:6]
    small = {"L": L, "H": H, "C": C, "T": T, "B": B, "V": V, "dropout": 0.2}
    video = {"B": min(100, 4 * B), "T": min(16, T)}
    rows: dict[str, tuple[Callable, float, str]] = {
        f"small GPT: {L} layers, width {C}, context {T}, batch {B}, dropout 0.2":
            (lambda lib: workloads.small_gpt(lib, **small), step_floor(sizes, card), "1.0"),
        "the same in mixed precision, float16, GradScaler":
            (lambda lib: workloads.small_gpt(lib, **small, amp=True), math.nan, "1.0"),
        "the video's GPT: 3 blocks, width 32, batch 100":
            (lambda lib: workloads.video_gpt(lib, **video), math.nan, "0.5"),
        f"writing {sizes.tokens} tokens (ours with a KV cache)":
            (lambda lib: workloads.generation(lib, sizes.tokens), math.nan, "1.0"),
    }  # fmt: skip
    yield ["", *(f"{lib.name}, ms" for lib in libraries), "ratio", "target", "floor, ms"]
    for name, (make, floor, target) in rows.items():
        seconds = []
        for lib in libraries:
            step = make(lib)
            seconds.append(timed(step, sizes.steps if "writing" not in name else 1, lib.wait))
            del step
            gc.collect()
        ratio = f"{seconds[0] / seconds[1]:.2f}" if len(seconds) > 1 else "no torch"
        yield [name, *(f"{s * 1e3:.2f}" for s in seconds), ratio, f"at most {target}", f"{floor * 1e3:.2f}"]
    seconds = [timed(_graphed(lib, small), sizes.steps, lib.wait) for lib in libraries]
    ratio = f"{seconds[0] / seconds[1]:.2f}" if len(seconds) > 1 else "no torch"
    floor = f"{step_floor(sizes, card) * 1e3:.2f}"
    yield ["the small GPT as a CUDA graph", *(f"{s * 1e3:.2f}" for s in seconds), ratio, "at most 1.3", floor]


def _graphed(lib: Any, small: dict[str, Any]) -> Callable:
    """The small GPT's step as a CUDA graph: by `compile_step`, or as torch's manual says. (torch's was never run.)"""
    from . import workloads

    torch = lib.torch
    if lib.name != "torch":
        return workloads.small_gpt(lib, **small, compiled=torch.cuda.compile_step)

    def captured(train: Callable) -> Callable:
        apart, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
        apart.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(apart):
            for _ in range(3):
                train()
        torch.cuda.current_stream().wait_stream(apart)
        with torch.cuda.graph(graph):
            loss = train()

        def step() -> Any:
            graph.replay()
            return loss

        return step

    return workloads.small_gpt(lib, **small, compiled=captured, capturable=True)


# --- All together ------------------------------------------------------------------------------------------------


def found_libraries(cupy: Any, with_torch: bool) -> list[Any]:
    """tinygrad_z2g, and torch if it is installed and sees the card; new tensors of both go there."""
    from . import workloads

    ours = workloads.ours()
    ours.wait = lambda: cupy.cuda.Device().synchronize()
    found = [ours]
    with contextlib.suppress(ImportError):
        if with_torch:
            theirs = workloads.torch_eager()
            if theirs.torch.cuda.is_available():
                theirs.torch.set_default_device("cuda")
                theirs.wait = theirs.torch.cuda.synchronize
                found.append(theirs)
    return found


def table(rows: Iterator[list[str]]) -> str:
    """Markdown, printed line by line as it is measured."""
    lines = []
    for i, row in enumerate(rows):
        lines.append("| " + " | ".join(row) + " |")
        print(lines[-1], flush=True)
        if i == 0:
            lines.append("|" + "---|" * len(row))
            print(lines[-1], flush=True)
    return "\n".join(lines)


def description(cupy: Any, libraries: list[Any]) -> str:
    """The card, the versions, the date."""
    runtime = cupy.cuda.runtime
    card = runtime.getDeviceProperties(cupy.cuda.Device().id)
    versions = ", ".join(f"{lib.name} {lib.version}" for lib in libraries)
    return (
        f"{card['name'].decode()}, compute capability {card['major']}.{card['minor']}, "
        f"{card['totalGlobalMem'] / 2**30:.0f} GiB; Python {platform.python_version()}, NumPy {np.__version__}, "
        f"CuPy {cupy.__version__}, CUDA runtime {runtime.runtimeGetVersion()}, driver {runtime.driverGetVersion()}, "
        f"{versions}; float32 unless said otherwise, "
        f"TF32 off unless CUPY_TF32 is set (CUPY_TF32={os.environ.get('CUPY_TF32', '0')}); "
        f"{datetime.date.today()}."
    )


def main(arguments: list[str] | None = None) -> None:
    """Parse the arguments, measure, print, append."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--results", metavar="FILE", default=str(RESULTS), help="the file to append to; - for none")
    parser.add_argument("--without-torch", action="store_true", help="do not measure torch")
    parser.add_argument("--tiny", action="store_true", help="sizes that only show whether this program runs")
    args = parser.parse_args(arguments)
    os.environ["TINYGRAD_Z2G_DEVICE"] = "cuda"
    from tinygrad_z2g.arrays import backend

    try:
        cupy = backend.cupy()
    except RuntimeError as error:
        sys.exit(f"benchmarks.gpu: {error}")
    sizes = TINY if args.tiny else Sizes()
    libraries = found_libraries(cupy, not args.without_torch)
    wait = libraries[0].wait
    parts = [f"### On a card, {datetime.date.today()}", description(cupy, libraries)]
    print("\n\n".join(parts) + "\n")
    card = rates(cupy, sizes, wait)
    parts.append(f"Memory: {card.bytes / 1e9:.0f} GB/s copied. Products: {card.flops / 1e12:.1f} TFLOP/s.")
    print(parts[-1])
    for title, rows in (
        ("What an operation costs the host", launches(cupy, sizes, wait)),
        ("Kernels", kernel_table(cupy, sizes, wait, card)),
        ("Attention in tiles", tiles_table(cupy, sizes, wait)),
        ("Training and writing", step_table(sizes, card, libraries)),
    ):
        print(f"\n{title}\n")
        parts += [f"**{title}**", table(rows)]
    if args.results != "-":
        with open(args.results, "a", encoding="utf-8") as file:
            file.write("\n" + "\n\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
