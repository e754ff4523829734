"""`python -m benchmarks --peers`: one source on every library of this kind that is installed.

Two workloads in NumPy's manner, of functions that all of them have, trained by plain gradient descent: `mlp`, W4's
sine MLP on 11 points, which is overhead alone, and `gpt`, a GPT of W2's size written out in primitives (no fused
attention, layer norm or loss, for not all have them). JAX compiles the whole step (`jit`), tinygrad replays it
(`TinyJit`); the others work operation by operation. Each runs in processes of its own, in turn.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

Library = SimpleNamespace  # name, version, tensor, sin, exp, tanh, log, sum (last axis, kept), permute, trainer

# --- The libraries: how each calls a few functions, and how it makes a training step of a loss ---------------------


def z2g() -> Library:
    import tinygrad_z2g as z

    return _torch_like("z2g", z, lambda array: z.tensor(array))


def torch() -> Library:
    import torch as t

    return _torch_like("torch", t, t.from_numpy)


def _torch_like(name: str, lib: Any, tensor: Callable) -> Library:
    def trainer(loss: Callable, arrays: list[np.ndarray], lr: float) -> Callable:
        params = [tensor(a).requires_grad_() for a in arrays]

        def step() -> float:
            value = loss(params)
            value.backward()
            with lib.no_grad():
                for p in params:
                    p -= lr * p.grad
                    p.grad = None
            return value.item()

        return step

    return Library(
        name=name, version=lib.__version__, tensor=tensor, sin=lib.sin, exp=lib.exp, tanh=lib.tanh, log=lib.log,
        sum=lambda x: x.sum(-1, keepdim=True), permute=lambda x, axes: x.permute(*axes), trainer=trainer,
    )  # fmt: skip


def mygrad() -> Library:
    import mygrad as mg

    def trainer(loss: Callable, arrays: list[np.ndarray], lr: float) -> Callable:
        params = [mg.tensor(a) for a in arrays]

        def step() -> float:
            value = loss(params)
            value.backward()
            for p in params:
                p.data -= lr * p.grad
                p.null_grad()
            return value.item()

        return step

    return _numpy_like("MyGrad", mg.__version__, mg, lambda a: mg.tensor(a, constant=True), trainer)


def autograd() -> Library:
    from importlib.metadata import version

    import autograd.numpy as anp
    from autograd import value_and_grad

    def trainer(loss: Callable, arrays: list[np.ndarray], lr: float) -> Callable:
        params, slope = [a.copy() for a in arrays], value_and_grad(loss)

        def step() -> float:
            value, grads = slope(params)
            for p, g in zip(params, grads, strict=True):
                p -= lr * g
            return float(value)

        return step

    return _numpy_like("autograd", version("autograd"), anp, lambda a: a, trainer)


def jax() -> Library:
    import jax as j
    import jax.numpy as jnp

    def trainer(loss: Callable, arrays: list[np.ndarray], lr: float) -> Callable:
        params = [jnp.asarray(a) for a in arrays]

        @j.jit
        def update(params: list) -> tuple:
            value, grads = j.value_and_grad(loss)(params)
            return [p - lr * g for p, g in zip(params, grads, strict=True)], value

        def step() -> float:
            nonlocal params
            params, value = update(params)
            return float(value)

        return step

    return _numpy_like("JAX jit", j.__version__, jnp, jnp.asarray, trainer)


def _numpy_like(name: str, version: str, lib: Any, tensor: Callable, trainer: Callable) -> Library:
    return Library(
        name=name, version=version, tensor=tensor, sin=lib.sin, exp=lib.exp, tanh=lib.tanh, log=lib.log,
        sum=lambda x: lib.sum(x, axis=-1, keepdims=True), permute=lib.transpose, trainer=trainer,
    )  # fmt: skip


def tinygrad() -> Library:
    from importlib.metadata import version

    from tinygrad import Tensor, TinyJit

    def trainer(loss: Callable, arrays: list[np.ndarray], lr: float) -> Callable:
        params = [Tensor(a).realize() for a in arrays]

        @TinyJit
        def update() -> Any:
            value = loss(params)
            grads = value.gradient(*params)
            return value.realize(*[p.assign(p - lr * g) for p, g in zip(params, grads, strict=True)])

        return lambda: update().item()

    return Library(
        name="tinygrad TinyJit", version=version("tinygrad"), tensor=Tensor, sin=Tensor.sin, exp=Tensor.exp,
        tanh=Tensor.tanh, log=Tensor.log, sum=lambda x: x.sum(-1, keepdim=True), permute=Tensor.permute,
        trainer=trainer,
    )  # fmt: skip


LIBRARIES = {"z2g": z2g, "torch": torch, "mygrad": mygrad, "autograd": autograd, "jax": jax, "tinygrad": tinygrad}


# --- The workloads ------------------------------------------------------------------------------------------------


def mlp(lib: Library) -> Callable:
    """Four products of matrices with sines between, 11 points."""
    rng = np.random.default_rng(0)
    points = np.linspace(-1, 1, 11, dtype=np.float32)[:, None]
    x, y = lib.tensor(points), lib.tensor(points * points)
    weights = [0.3 * rng.standard_normal(s, np.float32) for s in [(1, 16), (16, 16), (16, 16), (16, 1)]]

    def loss(ws: list) -> Any:
        h = x
        for w in ws[:-1]:
            h = lib.sin(h @ w)
        d = h @ ws[-1] - y
        return (d * d).mean()

    return lib.trainer(loss, weights, 1e-3)


def gpt(lib: Library, L: int = 4, H: int = 4, C: int = 128, T: int = 64, B: int = 12, V: int = 64) -> Callable:
    """W2's sizes; tokens go in and are compared as one-hot rows."""
    rng = np.random.default_rng(0)
    ids = rng.integers(0, V, (B, T + 1))
    onehot = np.eye(V, dtype=np.float32)
    inputs, targets = (lib.tensor(onehot[part].reshape(B * T, V)) for part in (ids[:, :-1], ids[:, 1:]))
    mask = lib.tensor(np.triu(np.full((T, T), -1e9, np.float32), 1))
    shapes = [(V, C), (T, C), *[(C, 3 * C), (C, C), (C, 4 * C), (4 * C, C)] * L, (C, V)]
    weights = [0.02 * rng.standard_normal(s, np.float32) for s in shapes]

    def norm(x: Any) -> Any:
        x = x - lib.sum(x) * (1 / C)
        return x * (lib.sum(x * x) * (1 / C) + 1e-5) ** -0.5

    def attention(x: Any, qkv: Any, proj: Any) -> Any:
        parts = (x @ qkv).reshape(B, T, 3, H, C // H)
        q, k, v = (lib.permute(parts[:, :, i], (0, 2, 1, 3)) for i in range(3))  # (B, H, T, hs)
        e = lib.exp(q @ lib.permute(k, (0, 1, 3, 2)) * (C // H) ** -0.5 + mask)  # (B, H, T, T)
        y = (e / lib.sum(e)) @ v
        return lib.permute(y, (0, 2, 1, 3)).reshape(B * T, C) @ proj

    def gelu(x: Any) -> Any:
        return 0.5 * x * (1 + lib.tanh(0.7978845608 * (x + 0.044715 * (x * x * x))))

    def loss(ws: list) -> Any:
        x = ((inputs @ ws[0]).reshape(B, T, C) + ws[1]).reshape(B * T, C)
        for i in range(L):
            qkv, proj, up, down = ws[2 + 4 * i : 6 + 4 * i]
            x = x + attention(norm(x), qkv, proj)
            x = x + gelu(norm(x) @ up) @ down
        scores = norm(x) @ ws[-1]
        return (lib.log(lib.sum(lib.exp(scores))) - lib.sum(scores * targets)).mean()

    return lib.trainer(loss, weights, 0.1)


WORKLOADS = {"mlp": mlp, "gpt": gpt}


# --- Running them -------------------------------------------------------------------------------------------------


def measure(library: str, workload: str, reps: int) -> dict[str, Any]:
    """Seconds per step in this process, and the losses of the first steps, by which one sees that all do the same."""
    try:
        lib = LIBRARIES[library]()
    except ImportError:
        return {"name": library}
    step = WORKLOADS[workload](lib)
    losses, inner, times = [step() for _ in range(5)], 50 if workload == "mlp" else 1, []
    for _ in range(reps):
        start = time.perf_counter()
        for _ in range(inner):
            step()
        times.append((time.perf_counter() - start) / inner)
    return {"name": lib.name, "version": lib.version, "times": times, "loss": losses[-1]}


def compare(workload: str, reps: int, rounds: int = 3) -> list[dict[str, Any]]:
    """A row for each library: the median time over all rounds and the median ratio to torch (z2g where it is not)."""
    rows: dict[str, list[dict[str, Any]]] = {library: [] for library in LIBRARIES}
    for _ in range(rounds):
        for library, found in rows.items():
            command = [sys.executable, "-m", "benchmarks.peers", library, workload, str(reps)]
            run = subprocess.run(command, capture_output=True, text=True, check=False)
            if run.returncode:
                print(f"{library}: {run.stderr.strip().splitlines()[-1]}", file=sys.stderr)
            found.append(json.loads(run.stdout) if run.returncode == 0 else {"name": library})
    medians = {lib: [statistics.median(r["times"]) for r in found if "times" in r] for lib, found in rows.items()}
    base = medians["torch"] or medians["z2g"]
    table = []
    for library, found in rows.items():
        row = {key: value for key, value in found[-1].items() if key != "times"} | {"workload": workload}
        if medians[library]:
            ratios = sorted(a / b for a, b in zip(medians[library], base, strict=False))
            row |= {"seconds": statistics.median(medians[library]), "ratio": statistics.median(ratios)}
            row["range"] = [ratios[0], ratios[-1]]
        table.append(row)
    return table


def show(table: list[dict[str, Any]]) -> None:
    """As Markdown."""
    print(f"| {table[0]['workload']} | version | ms per step | ratio to torch | loss after 5 steps |")
    print("|---|---|---|---|---|")
    for row in table:
        if "seconds" not in row:
            print(f"| {row['name']} | not measured | | | |")
            continue
        low, high = row["range"]
        print(
            f"| {row['name']} | {row['version']} | {row['seconds'] * 1e3:.3f} | {row['ratio']:.2f} "
            f"({low:.2f}..{high:.2f}) | {row['loss']:.6f} |"
        )


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
