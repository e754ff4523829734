"""`python -m benchmarks --mpi 2`: W2 (or W3) over several processes; it runs mpiexec itself.

Each process trains the whole model on its part of the same batch with one BLAS thread, and the gradients are averaged.
Beside it, each in processes of their own and in turn: tinygrad_z2g and torch eager in one process, with as many threads
as there are processes.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from . import workloads

SIZES = {"W2": (4, 4, 128, 64, 12), "W3": (6, 6, 384, 256, 16)}  # layers, heads, width, context, batch
TARGET = 0.65  # of torch's time
BLOCKS = 5


def train(name: str, reps: int, V: int = 64) -> list[float]:
    """Seconds of each step of one of the processes; all wait for one another in `average_gradients`."""
    from tinygrad_z2g.parallel import processes as distributed

    lib = workloads.ours()
    torch, nn, F = lib.torch, lib.nn, lib.F
    L, H, C, T, B = SIZES[name]
    distributed.init_process_group()
    rank, world = distributed.get_rank(), distributed.get_world_size()
    model = workloads._gpt(lib, L, H, C, T, V)
    distributed.broadcast_parameters(model)
    data = torch.randint(0, V, (B, T + 1)).chunk(world)[rank]  # (B, T + 1) -> (B / world, T + 1)
    optimizer = lib.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    times = []
    for _ in range(reps + 3):
        start = time.perf_counter()
        loss = F.cross_entropy(model(data[:, :-1]).view(-1, V), data[:, 1:].reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        distributed.average_gradients(model)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss.item()
        times.append(time.perf_counter() - start)
    distributed.destroy_process_group()
    return times[3:] if rank == 0 else []  # the first ones warm up


def block(command: list[str], threads: int) -> list[float]:
    """The times that a process prints, run with so many BLAS threads; none if it fails."""
    run = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": str(threads)}
    )
    if run.returncode:
        print(run.stderr[-500:], file=sys.stderr)
        return []
    return json.loads(run.stdout)


def compare(name: str, world: int, reps: int) -> dict[str, Any]:
    """Median and best seconds per step of the three, and the ratio to torch: the median and range over the blocks."""
    local = Path(sys.executable).parent / "mpiexec"
    mpiexec = str(local) if local.exists() else shutil.which("mpiexec")
    if mpiexec is None:
        sys.exit("--mpi needs mpiexec: pip install 'tinygrad_z2g[mpi]'")
    python = [sys.executable, "-m"]
    alone = [*python, "benchmarks", "--workload", name, "--reps", str(reps), "--block"]
    commands = {
        "mpi": ([mpiexec, "-n", str(world), *python, "benchmarks.mpi", name, str(reps)], 1),
        "torch": ([*alone, "torch"], world),
        "z2g": ([*alone, "z2g"], world),
    }
    times: dict[str, list[list[float]]] = {who: [] for who in commands}
    for _ in range(BLOCKS):
        for who, (command, threads) in commands.items():
            times[who].append(block(command, threads))
    row: dict[str, Any] = {"workload": name, "processes": world, "bound": TARGET}
    for who, blocks in times.items():
        if all(blocks):
            together = [t for found in blocks for t in found]
            row |= {who: statistics.median(together), f"best {who}": min(together)}
    if "mpi" in row and "torch" in row:
        pairs = zip(times["mpi"], times["torch"], strict=True)
        ratios = sorted(statistics.median(a) / statistics.median(b) for a, b in pairs)
        row |= {"ratio": statistics.median(ratios), "range": [ratios[0], ratios[-1]]}
    return row


def show(row: dict[str, Any]) -> None:
    """One line."""
    found = [who for who in ("mpi", "z2g", "torch") if who in row]
    text = "   ".join(f"{who} {row[who] * 1e3:.2f} ms (best {row[f'best {who}'] * 1e3:.2f})" for who in found)
    if "ratio" in row:
        low, high = row["range"]
        text += f"   ratio mpi / torch {row['ratio']:.2f} ({low:.2f}..{high:.2f}), at most {row['bound']}"
    print(f"{row['workload']} over {row['processes']} processes:   {text}")


if __name__ == "__main__":
    found = train(sys.argv[1], int(sys.argv[2]))
    if found:
        print(json.dumps(found))
