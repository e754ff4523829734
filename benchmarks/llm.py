"""`python -m benchmarks --llm FILE.gguf`: a real language model, beside torch and llama.cpp where they are installed.

Each library runs in a process of its own, with the same file and two threads: torch with the weights expanded to
float32 and the same model written in torch's words, llama.cpp (package xllamacpp) from the four-bit blocks, as ours.
Measured: loading; reading a prompt of 512 tokens; writing 64 tokens, one at a time, after a prompt of 128; a step of
LoRA (rank 8 on all matrices, 4 windows of 128 tokens); and the most memory that the process held by then. Times are
minima of several, in seconds by the clock and, since other work on a machine spoils those, of processor time.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

PROMPT, WRITTEN, READ, BATCH, CONTEXT, RANK = 128, 64, 512, 4, 128, 8
NAMES = ["q", "k", "v", "out", "gate", "up", "down"]


def best(step: Callable[[], Any], reps: int) -> list[float]:
    """The least seconds by the clock, and of processor time, of `reps` calls."""
    found = []
    for _ in range(reps):
        wall, cpu = time.perf_counter(), time.process_time()
        step()
        found.append((time.perf_counter() - wall, time.process_time() - cpu))
    return [min(column) for column in zip(*found, strict=True)]


def peak() -> float:
    """The most memory this process has held, MB."""
    with open("/proc/self/status") as file:
        return int(file.read().split("VmHWM:")[1].split()[0]) / 1000


def tokens(*shape: int) -> np.ndarray:
    """Ids of ordinary tokens, the same for all."""
    return np.random.default_rng(0).integers(100, 40_000, shape)


def ours(path: str, dequantize: bool) -> dict[str, Any]:
    """tinygrad_z2g, in four bits or in float32."""
    import tinygrad_z2g as z2g
    from tinygrad_z2g import nn
    from tinygrad_z2g.models import Llama

    loaded: list = []
    found: dict[str, Any] = {"load": best(lambda: loaded.append(Llama.load(path, dequantize)[0]), 1)}
    model = loaded.pop()
    steps = model.stream(tokens(1, PROMPT).tolist(), temperature=0)
    next(steps)
    found["write"] = [s / WRITTEN for s in best(lambda: [next(steps) for _ in range(WRITTEN)], 3)]
    found["memory writing"] = peak()

    def read() -> None:
        with z2g.no_grad():
            model.next_scores(z2g.tensor(tokens(1, READ)), nn.Cache())

    found["read"] = best(read, 3)
    parameters = nn.add_lora(model, NAMES, RANK)
    optimizer, ids = z2g.optim.AdamW(parameters, lr=1e-4), z2g.tensor(tokens(BATCH, CONTEXT + 1))

    def step() -> None:
        optimizer.zero_grad()
        model(ids[:, :-1], ids[:, 1:])[1].backward()
        optimizer.step()

    found["lora"] = best(step, 3)
    return found | {"memory": peak()}


def torch_float32(path: str) -> dict[str, Any]:
    """The same model in torch: its own Linear, scaled_dot_product_attention and rms_norm."""
    import torch
    import torch.nn.functional as F

    from tinygrad_z2g.models import Llama

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    source = Llama.load(path, dequantize=True)[0]
    c, w = source.config, {name: torch.from_numpy(t.numpy().copy()) for name, t in source.state_dict().items()}
    del source
    size, lora = c.width // c.heads, {}

    def linear(x: Any, name: str) -> Any:
        z = F.linear(x, w[f"{name}.weight"])
        return z + F.linear(F.linear(x, lora[name][0]) * 2, lora[name][1]) if name in lora else z

    def turn(x: Any, cos: Any, sin: Any) -> Any:
        a, b = x[..., 0::2], x[..., 1::2]
        return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2)

    def hidden(ids: Any, cache: dict) -> Any:
        B, T = ids.shape
        seen = cache[0][0].shape[2] if cache else 0
        angles = torch.arange(seen, seen + T)[:, None] * c.rope_base ** (torch.arange(0, size, 2) / -size)
        cos, sin, x = angles.cos(), angles.sin(), w["embedding.weight"][ids]
        for n in range(c.layers):
            at = f"blocks.{n}"
            h = F.rms_norm(x, (c.width,), w[f"{at}.norm1.weight"], c.eps)
            q, k, v = (linear(h, f"{at}.attention.{p}").view(B, T, -1, size).transpose(1, 2) for p in "qkv")
            q, k = turn(q, cos, sin), turn(k, cos, sin)
            if seen:
                k, v = torch.cat([cache[n][0], k], 2), torch.cat([cache[n][1], v], 2)
            cache[n] = k, v
            h = F.scaled_dot_product_attention(q, k, v, is_causal=not seen, enable_gqa=True)
            x = x + linear(h.transpose(1, 2).reshape(B, T, -1), f"{at}.attention.out")
            h = F.rms_norm(x, (c.width,), w[f"{at}.norm2.weight"], c.eps)
            h = F.silu(linear(h, f"{at}.mlp.gate")) * linear(h, f"{at}.mlp.up")
            x = x + linear(h, f"{at}.mlp.down")
        return F.rms_norm(x, (c.width,), w["norm.weight"], c.eps)

    @torch.no_grad()
    def write(n: int, cache: dict, token: Any) -> Any:
        for _ in range(n):
            token = linear(hidden(token, cache)[:, -1], "head").argmax(-1, keepdim=True)
        return token

    cache: dict = {}
    state = [write(1, cache, torch.from_numpy(tokens(1, PROMPT)))]
    found = {"write": [s / WRITTEN for s in best(lambda: state.append(write(WRITTEN, cache, state[-1])), 3)]}
    found["memory writing"] = peak()
    found["read"] = best(lambda: write(1, {}, torch.from_numpy(tokens(1, READ))), 3)
    for name in [name.removesuffix(".weight") for name in w if name.split(".")[-2] in NAMES]:
        out, width = w[f"{name}.weight"].shape
        lora[name] = torch.randn(RANK, width).div(math.sqrt(width)).requires_grad_(), torch.zeros(out, RANK)
        lora[name][1].requires_grad_()
    optimizer = torch.optim.AdamW([p for pair in lora.values() for p in pair], lr=1e-4)
    ids = torch.from_numpy(tokens(BATCH, CONTEXT + 1))

    def step() -> None:
        optimizer.zero_grad()
        scores = linear(hidden(ids[:, :-1], {}), "head")
        F.cross_entropy(scores.flatten(0, 1), ids[:, 1:].flatten()).backward()
        optimizer.step()

    return found | {"lora": best(step, 3), "memory": peak()}


def llama_cpp(path: str) -> dict[str, Any]:
    """llama.cpp, by the package xllamacpp. A server: a token's time is what 64 more take than one."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path, parameters.n_ctx, parameters.n_parallel = path, 2048, 1
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = int(os.environ["OMP_NUM_THREADS"])
    server = xllamacpp.Server(parameters)

    def answer(n: int, written: int) -> None:
        settings = {"temperature": 0.0, "max_tokens": written, "ignore_eos": True, "cache_prompt": False}
        server.handle_completions({**settings, "prompt": tokens(n).tolist()})

    answer(4, 4)  # it begins slowly
    one, many = (best(lambda n=n: answer(PROMPT, n), 3) for n in (1, 1 + WRITTEN))
    found: dict[str, Any] = {"write": [(b - a) / WRITTEN for a, b in zip(one, many, strict=True)]}
    found["memory writing"] = peak()
    return found | {"read": best(lambda: answer(READ, 1), 3), "memory": peak()}


LIBRARIES: dict[str, Callable[[str], dict[str, Any]]] = {
    "ours, four bits": lambda path: ours(path, False), "ours, float32": lambda path: ours(path, True),
    "torch, float32": torch_float32, "llama.cpp": llama_cpp,
}  # fmt: skip


def compare(path: str) -> dict[str, Any]:
    """All libraries that are installed, each in a process of its own."""
    found = {}
    for name in LIBRARIES:
        code = f"from benchmarks import llm; import json; print('\\n' + json.dumps(llm.LIBRARIES[{name!r}]({path!r})))"
        environment = {"OMP_NUM_THREADS": "2", **os.environ}
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
        if run.returncode == 0:
            found[name] = json.loads(run.stdout.strip().splitlines()[-1])
            show(name, found[name])
        else:
            print(f"{name:16} not measured: {run.stderr.strip().splitlines()[-1]}", flush=True)
    return found


def show(name: str, row: dict[str, Any]) -> None:
    """One line: seconds by the clock, and of the processor in brackets."""

    def told(what: str, unit: str, scale: float = 1) -> str:
        wall, cpu = row.get(what, (None, None))
        return "" if wall is None else f"  {what} {wall * scale:.1f}" + (f" ({cpu * scale:.1f})" if cpu else "") + unit

    line = told("load", " s") + told("read", " s") + told("write", " ms a token", 1e3) + told("lora", " s a step")
    print(f"{name:16}{line}  memory {row['memory writing']:.0f}, {row['memory']:.0f} MB", flush=True)
