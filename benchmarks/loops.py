"""`python -m benchmarks --loops`: what each compiled loop brings, and what compiling takes.

Each routine of `fast/reference.py` beside the loop of the same name, on one thread and on as many as OpenBLAS takes,
in turn in one process; milliseconds, the least of many. (With --cpu processor time, all on one thread.) Then the
seconds that a new process takes for the first step of W2's training: without loops, with loops that must be compiled
first, and with loops that lie compiled on the disk.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

SECONDS = 0.2  # for each routine


def cases() -> Iterator[tuple[str, str, tuple]]:
    """What is computed, the routine's name and its arguments."""
    from tinygrad_z2g.fast import recurrent, reference

    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, np.float32)

    def heads(B: int, T: int, n: int, d: int) -> list[np.ndarray]:
        return [x.reshape(B, T, n, d).swapaxes(1, 2) for x in np.split(normal(B, T, 3 * n * d), 3, -1)]

    wide, rows, scores = normal(4096, 1536), normal(4096, 384), normal(24576, 256)
    yield "gelu with its bias, 4096 x 1536", "gelu_tanh", (wide, normal(1536))
    yield "gelu's gradient and that of the bias", "product_and_column_sums", (wide, wide)
    yield "layer norm, 4096 x 384", "layer_norm", (rows, 1e-5)
    yield "layer norm's gradient", "layer_norm_backward", (rows, *reference.layer_norm(rows, 1e-5))
    yield "weight and bias of a norm", "scale_shift", (rows, normal(384), normal(384))
    yield "column sums, 4096 x 1536", "column_sums", (wide,)
    yield "softmax, 24576 x 256", "softmax", (scores, -1)
    yield "softmax's gradient", "softmax_backward", (reference.softmax(scores, -1), scores, -1)
    yield "cross-entropy, 4096 x 64", "cross_entropy", (
        normal(4096, 64), rng.integers(0, 64, 4096), np.ones(4096, np.float32),
    )  # fmt: skip
    for B, T, n, d in ((16, 256, 6, 64), (12, 64, 4, 32)):
        q, k, v = heads(B, T, n, d)
        saved = reference.attention(q, k, v, None, True, d**-0.5, 0.0, 0)[1]
        yield f"causal attention, {B} x {n} x {T} x {d}", "attention", (q, k, v, None, True, d**-0.5, 0.0, 0)
        yield "its gradients", "attention_backward", (v.copy(order="K"), q, k, v, saved, d**-0.5)
    turned = normal(4, 128, 9, 64).swapaxes(1, 2)
    yield "rotary positions, 4 x 9 x 128 x 64", "rotate", (turned, normal(128, 32), normal(128, 32), False)
    yield "dropout, 1.6 million", "dropout", (rows, 0.2, 1)
    yield "relu, 6.3 million", "relu", (wide,)
    yield "embedding's gradient, 4096 ids of 64", "sum_rows_by_id", (rng.integers(0, 64, 4096), rows, 64)
    parameters = [normal(384, 1536) for _ in range(9)]
    moments = [(w, normal(*w.shape), normal(*w.shape), np.ones_like(w), 1) for w in parameters]
    yield "AdamW, 5.3 million", "adam_all", (parameters, moments, 1e-3, 0.9, 0.999, 1e-8, 0.1)
    yield "norm of as many gradients", "norm", (parameters,)
    sums, h, w = normal(64, 32, 512), normal(32, 128), normal(512, 128)
    kept = recurrent.lstm(sums, h, h, w)
    yield "LSTM, 64 steps of 32 x 128", "lstm", (sums, h, h, w)
    yield "its gradients", "lstm_backward", (normal(65, 32, 128), *kept, h, w)
    yield "windows added back, 32 x 64 x 5 x 256", "add_windows", (
        np.zeros((32, 64, 260), np.float32), normal(32, 64, 5, 256), (1,), (1,),
    )  # fmt: skip
    scale = normal(18, 1536)
    yield "a vector times 576 x 1536 of four bits", "quantized_product", (
        normal(1, 576), rng.integers(0, 256, (18, 16, 1536), np.uint8), scale, scale,
    )  # fmt: skip
    yield "of eight bits", "quantized_product", (
        normal(1, 576), rng.integers(-127, 128, (18, 32, 1536), np.int8), scale, None,
    )  # fmt: skip


def plain(name: str) -> Callable:
    """The routine in NumPy."""
    from tinygrad_z2g.fast import quantized, recurrent, reference

    found = getattr(reference, name, None) or getattr(recurrent, name, None)
    return found or getattr(quantized, name.removeprefix("quantized_"))


def table(cpu: bool) -> list[dict[str, Any]]:
    """Milliseconds of each routine. SystemExit where there are no loops."""
    from tinygrad_z2g.arrays import blas
    from tinygrad_z2g.fast import loops

    compiled = loops.load()
    if compiled is None:
        sys.exit(f"--loops: {loops.reason}")
    set_threads, many = blas.set_threads, 1 if cpu else compiled.threads()
    now, found = time.process_time if cpu else time.perf_counter, []
    for what, name, args in cases():
        variants = {"NumPy": (plain(name), many), "one": (getattr(compiled, name), 1)}
        variants |= {"all": (getattr(compiled, name), many)} if set_threads is not None and not cpu else {}
        times: dict[str, list[float]] = {who: [] for who in variants}
        end = now() + SECONDS
        while now() < end or len(times["NumPy"]) < 5:
            for who, (function, threads) in variants.items():
                if set_threads is not None:
                    set_threads(threads)
                start = now()
                with np.errstate(all="ignore"):
                    function(*args)
                times[who].append(now() - start)
        found.append({"what": what, **{who: min(all_of) * 1e3 for who, all_of in times.items()}})
    return found


FIRST_STEP = """
import time
start = time.{now}()
from benchmarks import workloads
step = workloads.small_gpt(workloads.ours())
step()
print(time.{now}() - start)
"""


def first_steps(cpu: bool) -> dict[str, float]:
    """Seconds of a new process up to the end of W2's first step."""
    code = FIRST_STEP.format(now="process_time" if cpu else "perf_counter")
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for what in ("NumPy alone", "loops to be compiled", "loops compiled before"):
            settings = {"TINYGRAD_Z2G_COMPILED": "0"} if what == "NumPy alone" else {}
            run = subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, check=True,
                env={**os.environ, "NUMBA_CACHE_DIR": folder, **settings},
            )  # fmt: skip
            found[what] = float(run.stdout)
    return found


def show(rows: list[dict[str, Any]], steps: dict[str, float]) -> None:
    """A table in Markdown, and a line."""
    columns = [key for key in rows[0] if key != "what"]
    print(f"| ms | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
    for row in rows:
        print(f"| {row['what']} | {' | '.join(f'{row[key]:.2g}' for key in columns)} |")
    print("first step of W2:", ", ".join(f"{what} {seconds:.2f} s" for what, seconds in steps.items()))
