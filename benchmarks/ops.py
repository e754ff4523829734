"""`python -m benchmarks --ops`: the time of one operation, forward and backward, against its size.

Beside it the same formulas in plain NumPy, the best that a tape can hope for, and torch eager where it is installed.
The crossover is the size from which recording costs less than half of the computation: time <= 1.5 times NumPy's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from .workloads import Library

SIZES = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000]
ENOUGH = 1.5


def _softmax(g: np.ndarray, a: np.ndarray) -> None:
    e = np.exp(a - a.max(-1, keepdims=True))
    p = e / e.sum(-1, keepdims=True)
    _ = p * (g - (g * p).sum(-1, keepdims=True))


def _layer_norm(g: np.ndarray, a: np.ndarray) -> None:
    d = a - a.mean(-1, keepdims=True)
    r = 1 / np.sqrt((d * d).mean(-1, keepdims=True) + 1e-5)
    z = d * r
    _ = r * (g - g.mean(-1, keepdims=True) - z * (g * z).mean(-1, keepdims=True))


def _exp(g: np.ndarray, a: np.ndarray) -> None:
    z = np.exp(a)
    _ = g * z


def _tanh(g: np.ndarray, a: np.ndarray) -> None:
    z = np.tanh(a)
    _ = g * (1 - z * z)


# name: (number of inputs, the operation, its result and gradients in NumPy given that of the result)
OPS: dict[str, tuple[int, Callable, Callable]] = {
    "add": (2, lambda lib, a, b: a + b, lambda g, a, b: (a + b, g.copy(), g.copy())),
    "mul": (2, lambda lib, a, b: a * b, lambda g, a, b: (a * b, g * b, g * a)),
    "div": (2, lambda lib, a, b: a / b, lambda g, a, b: (a / b, g / b, -g * a / (b * b))),
    "exp": (1, lambda lib, a: lib.torch.exp(a), _exp),
    "sin": (1, lambda lib, a: lib.torch.sin(a), lambda g, a: (np.sin(a), g * np.cos(a))),
    "tanh": (1, lambda lib, a: lib.torch.tanh(a), _tanh),
    "relu": (1, lambda lib, a: lib.F.relu(a), lambda g, a: (np.maximum(a, 0), g * (a > 0))),
    "sum": (1, lambda lib, a: a.sum(-1), lambda g, a: (a.sum(-1), np.broadcast_to(g[..., None], a.shape).copy())),
    "softmax": (1, lambda lib, a: lib.F.softmax(a, dim=-1), _softmax),
    "layer_norm": (1, lambda lib, a: lib.F.layer_norm(a, (a.shape[-1],)), _layer_norm),
    "matmul": (2, lambda lib, a, b: a @ b, lambda g, a, b: (a @ b, g @ b.T, a.T @ g)),
}


def arrays(name: str, size: int) -> list[np.ndarray]:
    """Inputs of about `size` elements: rows of at most 100, or square matrices for matmul. Positive, so that 1/x is."""
    columns = round(size**0.5) if name == "matmul" else min(size, 100)
    rng = np.random.default_rng(0)
    shape = (columns if name == "matmul" else size // columns, columns)
    return [rng.random(shape, np.float32) + np.float32(0.1) for _ in range(OPS[name][0])]


def seconds(call: Callable[[], Any]) -> float:
    """The best of 15 measurements of about 1 ms each: what disturbs so short a time only ever adds to it."""
    call()
    start = time.perf_counter()
    call()
    inner = max(1, int(0.001 / max(time.perf_counter() - start, 1e-9)))
    found = []
    for _ in range(15):
        start = time.perf_counter()
        for _ in range(inner):
            call()
        found.append((time.perf_counter() - start) / inner)
    return min(found)


def ours(lib: Library, name: str, inputs: list[np.ndarray]) -> Callable[[], None]:
    """The operation on z2g or torch, forward and backward."""
    tensors = [lib.torch.tensor(a).requires_grad_() for a in inputs]
    f = OPS[name][1]
    g = lib.torch.ones(tuple(f(lib, *tensors).shape))

    def step() -> None:
        f(lib, *tensors).backward(g)
        for x in tensors:
            x.grad = None

    return step


def plain(name: str, inputs: list[np.ndarray]) -> Callable[[], Any]:
    """The same in NumPy."""
    f, g = OPS[name][2], np.ones(inputs[0].shape[:-1] if name == "sum" else inputs[0].shape, np.float32)
    return lambda: f(g, *inputs)


def table(z2g: Library, torch: Library | None) -> list[dict[str, Any]]:
    """Seconds of each operation at each size, and the size of the crossover, None if it lies beyond the largest."""
    rows = []
    for name in OPS:
        row: dict[str, Any] = {"op": name, "sizes": SIZES, "z2g": [], "numpy": [], "torch": []}
        for size in SIZES:
            inputs = arrays(name, size)
            row["numpy"].append(seconds(plain(name, inputs)))
            row["z2g"].append(seconds(ours(z2g, name, inputs)))
        if torch is not None:  # after the others: its idle threads would hold the cores for a while
            row["torch"] = [seconds(ours(torch, name, arrays(name, size))) for size in SIZES]
        slow = [a > ENOUGH * b for a, b in zip(row["z2g"], row["numpy"], strict=True)]
        after = len(SIZES) - slow[::-1].index(True) if True in slow else 0  # the first size from which none is slow
        row["crossover"] = SIZES[after] if after < len(SIZES) else None
        rows.append(row)
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    """As Markdown: microseconds at some sizes, in brackets the ratios to NumPy and to torch."""
    shown = SIZES[::2]
    print("| op | " + " | ".join(f"{size:,}" for size in shown) + " | crossover |")
    print("|---" * (len(shown) + 2) + "|")
    for row in rows:
        cells = []
        for i in range(0, len(SIZES), 2):
            ratios = f"{row['z2g'][i] / row['numpy'][i]:.1f}"
            ratios += f", {row['z2g'][i] / row['torch'][i]:.2f}" if row["torch"] else ""
            cells.append(f"{row['z2g'][i] * 1e6:.1f} µs ({ratios})")
        crossover = "beyond" if row["crossover"] is None else f"{row['crossover']:,}"
        print(f"| {row['op']} | " + " | ".join(cells) + f" | {crossover} |", flush=True)
