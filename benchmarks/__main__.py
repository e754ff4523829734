"""`python -m benchmarks`: every workload on tinygrad_z2g and, where installed, on torch.

Each runs in a process of its own, with the threads it takes by default: ours with compiled loops (`z2g`, if Numba is
installed), ours with NumPy alone (`numpy`), torch; a block of steps each, in turn, seven times. (In one process, which
--together asks for, the idle threads of one library hold the cores that the other needs, torch's more so: that flatters
us.) Figures are medians; a ratio is that of two neighbouring blocks' medians, of which the median and the range are
shown. With --cpu it is processor time on one thread, which other work on the machine spoils less. Also measured: peak
memory of W2's process, the time that the import takes, the rate of matrix products, which gives the floor (no step can
be faster than its FLOPs at that rate), and, before and after each workload, how far apart two cores are: 1 where they
share a cache, 2 and more where they do not. A virtual machine's cores may be moved.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from . import llm, loops, mpi, ops, peers, profiling, workloads
from .workloads import WORKLOADS

INNER = {"W4": 50, "tiny": 500}  # steps per measurement, so that each takes some milliseconds


def clock(step: Callable, name: str, now: Callable[[], float] = time.perf_counter) -> float:
    """Seconds per step."""
    inner = INNER.get(name, 1)
    start = now()
    for _ in range(inner):
        step()
    return (now() - start) / inner


def library(name: str) -> Any:
    """z2g, torch, or torch that compiles models; None where it is not installed."""
    with contextlib.suppress(ImportError):
        return {"z2g": workloads.ours, "torch": workloads.torch_eager, "compile": workloads.torch_compiled}[name]()
    return None


def paired(name: str, reps: int) -> dict[str, Any]:
    """One workload on both libraries, one step each in turn."""
    make = WORKLOADS[name][0]
    libraries = [lib for lib in (library("z2g"), library("torch")) if lib]
    steps = [make(lib) for lib in libraries]
    times: list[list[float]] = [[] for _ in steps]
    for rep in range(reps + 3):
        for step, found in zip(steps, times, strict=True):
            seconds = clock(step, name)
            if rep >= 3:  # the first ones warm up
                found.append(seconds)
    return summary(name, times)


SETS = ("z2g", "numpy", "torch", "compile")  # compiled loops; NumPy alone; torch eager; torch.compile
BLOCKS = 7


def apart(name: str, reps: int, sets: tuple[str, ...], cpu: bool) -> dict[str, Any]:
    """One workload on each of the sets, in processes of their own, a block of steps each in turn."""
    blocks: dict[str, list[list[float]]] = {who: [] for who in sets}
    for _ in range(BLOCKS):
        for who, found in blocks.items():
            command = [sys.executable, "-m", "benchmarks", "--block", who, "--workload", name, "--reps", str(reps)]
            command += ["--cpu"] if cpu else []
            switch = {"numpy": {"TINYGRAD_Z2G_COMPILED": "0"}}.get(who, {})
            run = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **switch})
            if run.returncode:
                print(run.stderr[-500:], file=sys.stderr)
            else:
                found.append(json.loads(run.stdout))
    medians = {who: [statistics.median(block) for block in found] for who, found in blocks.items() if found}
    row: dict[str, Any] = {"workload": name, "bound": WORKLOADS[name][1]}
    row |= {who: statistics.median(found) for who, found in medians.items()}
    for ratio, ours, theirs in (
        ("ratio", "z2g", "torch"), ("ratio numpy", "numpy", "torch"), ("ratio compile", "z2g", "compile"),
    ):  # fmt: skip
        if ours in medians and theirs in medians:
            ratios = sorted(a / b for a, b in zip(medians[ours], medians[theirs], strict=False))
            row |= {ratio: statistics.median(ratios), ratio.replace("ratio", "range"): [ratios[0], ratios[-1]]}
    return row


def summary(name: str, times: list[list[float]]) -> dict[str, Any]:
    """Medians in seconds, and the ratios of corresponding measurements."""
    row: dict[str, Any] = {"workload": name, "z2g": statistics.median(times[0]), "bound": WORKLOADS[name][1]}
    if len(times) > 1:
        ratios = sorted(a / b for a, b in zip(*times, strict=False))
        row |= {
            "torch": statistics.median(times[1]),
            "ratio": statistics.median(ratios),
            "range": [ratios[0], ratios[-1]],
        }
    return row


def peak_gflops(now: Callable[[], float], n: int = 1024) -> float:
    """The rate of float32 matrix products, the best of ten."""
    a = np.ones((n, n), np.float32)
    times = []
    for _ in range(10):
        start = now()
        a @ a
        times.append(now() - start)
    return 2 * n**3 / min(times) / 1e9


def core_distance() -> float | None:
    """How much longer it takes to read 1 MiB that another core has written last than what this one has.

    None where the system does not let a thread choose its core, or has but one.
    """
    if not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2:
        return None
    allowed, a = os.sched_getaffinity(0), np.zeros((256, 1024), np.float32)
    here, there = sorted(allowed)[:2]
    turn = threading.Barrier(2)
    seconds: dict[int, list[float]] = {here: [], there: []}  # by the core that wrote

    def write(core: int) -> None:
        if core == there:
            os.sched_setaffinity(0, {there})
        for writer in (here, there) * 60:
            if core == writer:
                a.fill(1)
            turn.wait()
            if core == here:
                start = time.perf_counter()
                np.vecdot(a, a)  # on this thread alone, as long products are not
                seconds[writer].append(time.perf_counter() - start)
            turn.wait()

    os.sched_setaffinity(0, {here})
    other = threading.Thread(target=write, args=[there])
    other.start()
    write(here)
    other.join()
    os.sched_setaffinity(0, allowed)
    return statistics.median(seconds[there]) / statistics.median(seconds[here])


def memory(lib: str) -> float | None:
    """Peak resident memory of a process that trains W2 for 10 steps, MiB; None where Linux does not tell."""
    code = f"""
from benchmarks import workloads as w
step = w.small_gpt(w.ours() if {lib!r} != "torch" else w.torch_eager())
for _ in range(10): step()
print(int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1024)
"""
    return output(code, TINYGRAD_Z2G_COMPILED="0") if lib == "numpy" else output(code)


def import_time(module: str) -> float | None:
    """Seconds that `import module` takes in a new process, the best of five."""
    code = f"import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
    found = [output(code) for _ in range(5)]
    return None if None in found else min(found)  # type: ignore[type-var]


def output(code: str, **settings: str) -> float | None:
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **settings})
    return float(run.stdout) if run.returncode == 0 else None


SCALING = {"T": [32, 64, 128, 256, 512], "C": [64, 128, 256, 512], "B": [4, 8, 16, 32], "L": [1, 2, 4, 8]}


def scaling(reps: int) -> dict[str, Any]:
    """Seconds per step of W2 against context, width, batch and depth, with the exponent of the last doublings."""
    found = {}
    for what, values in SCALING.items():
        seconds = []
        for value in values:
            step = workloads.small_gpt(workloads.ours(), **{what: value})
            step()
            seconds.append(statistics.median(clock(step, "") for _ in range(reps)))
        exponent = np.polyfit(np.log(values[1:]), np.log(seconds[1:]), 1)[0]
        found[what] = {"values": values, "seconds": seconds, "exponent": float(exponent)}
    return found


def draw(found: dict[str, Any], path: str) -> None:
    """Seconds per step against each size, both axes logarithmic: a straight line is a power, its slope the exponent."""
    import matplotlib.pyplot as plt

    _, axes = plt.subplots(1, len(found), figsize=(3 * len(found), 2.8), sharey=True, layout="constrained")
    names = {"T": "context", "C": "width", "B": "batch", "L": "layers"}
    for axis, (what, row) in zip(axes, found.items(), strict=True):
        axis.loglog(row["values"], [s * 1e3 for s in row["seconds"]], "o-")
        axis.set(xlabel=names[what], title=f"exponent {row['exponent']:.2f}")
        axis.set_xticks(row["values"], row["values"], minor=False)
        axis.set_xticks([], minor=True)
    axes[0].set_ylabel("ms per training step")
    plt.savefig(path, dpi=80)


def ms(seconds: float) -> str:
    return f"{seconds * 1e3:9.3f} ms"


def show(row: dict[str, Any], rate: float) -> None:
    floor = workloads.flops(row["workload"]) / rate / 1e9
    line = f"{row['workload']:9}" + "".join(f" {who} {ms(row[who])}  " for who in SETS if who in row)
    for ratio in ("ratio", "ratio numpy", "ratio compile"):
        if ratio in row:
            low, high = row[ratio.replace("ratio", "range")]
            line += f" {ratio} {row[ratio]:.2f} ({low:.2f}..{high:.2f})"
    line += f", at most {row['bound']}" if "ratio" in row else ""
    line += f"   floor {ms(floor)} x {row['z2g'] / floor:.1f}" if floor == floor else ""
    line += "   cores apart {:.1f}, {:.1f}".format(*row["cores apart"]) if None not in row["cores apart"] else ""
    print(line, flush=True)


def main() -> None:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--workload", choices=list(WORKLOADS), help="only this one")
    parser.add_argument("--reps", type=int, default=15, help="steps in a block, or pairs (default 15; of W3 a third)")
    parser.add_argument("--together", action="store_true", help="ours and torch in one process, a step each in turn")
    parser.add_argument("--cpu", action="store_true", help="processor time on one thread: where others use the machine")
    parser.add_argument("--torch-compile", action="store_true", help="also W2 and W3 by torch.compile")
    parser.add_argument("--profile", action="store_true", help="where the time goes by operation (needs --workload)")
    parser.add_argument("--scaling", action="store_true", help="W2 against context, width, batch and depth")
    parser.add_argument("--picture", metavar="FILE", help="with --scaling: draw it (needs matplotlib)")
    parser.add_argument("--ops", action="store_true", help="each operation against its size")
    parser.add_argument("--loops", action="store_true", help="each compiled loop beside NumPy; compile times")
    parser.add_argument("--peers", action="store_true", help="beside MyGrad, autograd, JAX, tinygrad if installed")
    parser.add_argument("--mpi", type=int, metavar="N", help="W2 (or --workload W3) over N processes")
    parser.add_argument("--llm", metavar="FILE", help="a real language model, a GGUF file of architecture llama")
    parser.add_argument("--json", metavar="FILE", help="write the figures to a file too")
    parser.add_argument("--block", choices=SETS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.reps < 1:
        parser.error("--reps must be at least 1")
    if args.mpi is not None and (args.mpi < 1 or (args.workload or "W2") not in mpi.SIZES):
        parser.error("--mpi takes a number of processes >= 1, with --workload W2 or W3")
    if args.cpu:
        os.environ["OMP_NUM_THREADS"] = "1"  # of the processes to come
    now = time.process_time if args.cpu else time.perf_counter
    if args.block:
        step = WORKLOADS[args.workload][0](library("z2g" if args.block == "numpy" else args.block))
        print(json.dumps([clock(step, args.workload, now) for _ in range(args.reps + 3)][3:]))
        return
    if args.profile:
        if not args.workload:
            parser.error("--profile needs --workload")
        print(profiling.profile(WORKLOADS[args.workload][0](workloads.ours()), args.reps))
        return
    figures: dict[str, Any] = {
        "machine": platform.platform(), "python": platform.python_version(), "numpy": np.__version__,
        "cores": os.cpu_count(), "threads": os.environ.get("OMP_NUM_THREADS", "default"), "gflops": peak_gflops(now),
    }  # fmt: skip
    print(" ".join(f"{key}={value}" for key, value in figures.items()))
    if args.scaling:
        figures["scaling"] = scaling(min(args.reps, 5))
        for what, row in figures["scaling"].items():
            points = "  ".join(f"{v}: {s * 1e3:.1f}" for v, s in zip(row["values"], row["seconds"], strict=True))
            print(f"{what}: ms per step  {points}   exponent {row['exponent']:.2f}")
        if args.picture:
            draw(figures["scaling"], args.picture)
    elif args.ops:
        figures["ops"] = ops.table(workloads.ours(), library("torch"))
        ops.show(figures["ops"])
    elif args.loops:
        figures["loops"], figures["first steps, s"] = loops.table(args.cpu), loops.first_steps(args.cpu)
        loops.show(figures["loops"], figures["first steps, s"])
    elif args.llm:
        figures["llm"] = llm.compare(args.llm)
    elif args.peers:
        figures["peers"] = []
        for name in peers.WORKLOADS:
            figures["peers"] += peers.compare(name, args.reps)
            peers.show(figures["peers"][-len(peers.LIBRARIES) :])
    elif args.mpi:
        figures["mpi"] = mpi.compare(args.workload or "W2", args.mpi, args.reps)
        mpi.show(figures["mpi"])
    else:
        names = [args.workload] if args.workload else list(WORKLOADS)
        figures["rows"] = []
        for name in names:
            reps = max(3, args.reps // 3) if name == "W3" else args.reps
            before = core_distance()
            sets = SETS if args.torch_compile and name in ("W2", "W3") else SETS[:3]
            row = paired(name, reps) if args.together else apart(name, reps, sets, args.cpu)
            figures["rows"].append({**row, "cores apart": [before, core_distance()]})
            show(figures["rows"][-1], figures["gflops"])
        if not args.workload:
            figures["memory of W2, MiB"] = {who: memory(who) for who in SETS[:3]}
            figures["import, s"] = {"z2g": import_time("tinygrad_z2g"), "torch": import_time("torch")}
            for what in ("memory of W2, MiB", "import, s"):
                known = {who: figure for who, figure in figures[what].items() if figure}
                against = {who: figure / known["torch"] for who, figure in known.items()} if "torch" in known else {}
                ratios = "".join(f"  {who} / torch {against[who]:.2f}" for who in against if who != "torch")
                print(f"{what}:" + "".join(f"  {who} {figure:.2f}" for who, figure in known.items()) + ratios)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=1)


if __name__ == "__main__":
    main()
