"""`python -m tinygrad_z2g.info`: versions, BLAS, devices and settings, for a bug report or a look at a new machine.

What is missing is said, never an error: without CuPy, or without a card that answers, the line `cuda` tells which of
the two it is. `--json` prints the same as JSON, memory in bytes. It knows nothing of tensors, only of where they live.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
from typing import Any

import numpy as np

from .. import __version__, fast
from ..arrays import backend, dtypes
from ..fast import forms
from . import console


def blas() -> dict[str, Any]:
    """Name and version of the library behind NumPy's matrix products; its threads and processor kind if known."""
    config: Any = np.show_config("dicts")
    built = config.get("Build Dependencies", {}).get("blas", {}) if config else {}
    found: dict[str, Any] = {key: built.get(key, "unknown") for key in ("name", "version")}
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        threads = os.environ.get("OMP_NUM_THREADS", "unknown")
        return {**found, "threads": threads, "architecture": "unknown (pip install threadpoolctl)"}
    for pool in threadpool_info():
        if pool["user_api"] == "blas":
            return {**found, "threads": pool["num_threads"], "architecture": pool.get("architecture", "unknown")}
    return {**found, "threads": "unknown", "architecture": "unknown"}


def cuda() -> dict[str, Any]:
    """CuPy, the CUDA versions, and each card with its memory in bytes; or under "unusable" why there is none."""
    try:
        cupy = backend.cupy()
        runtime = cupy.cuda.runtime
        cards = []
        for i in range(backend.device_count()):
            card = runtime.getDeviceProperties(i)
            with cupy.cuda.Device(i):
                free, total = runtime.memGetInfo()
            name, compute = card["name"].decode(), f"{card['major']}.{card['minor']}"
            cards.append({"device": f"cuda:{i}", "name": name, "compute": compute, "memory": total, "free": free})
        return {
            "cupy": cupy.__version__, "runtime": _dotted(runtime.runtimeGetVersion()),
            "driver": _dotted(runtime.driverGetVersion()), "tf32": os.environ.get("CUPY_TF32", "0") == "1",
            "cards": cards,
        }  # fmt: skip
    except Exception as error:  # whatever a broken CuPy or driver raises, this page is where it is shown
        return {"unusable": _reason(error)}


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, RuntimeError) else f"{type(error).__name__}: {error}"


def _dotted(version: int) -> str:
    """13020 -> "13.2": 1000 · major + 10 · minor."""
    return f"{version // 1000}.{version % 1000 // 10}"


def report() -> dict[str, Any]:
    """All of it."""
    try:
        device = str(backend.resolve())
    except Exception as error:
        device = f"unusable: {_reason(error)}"
    try:
        versions = {"mpi4py": importlib.import_module("mpi4py").__version__}
    except Exception:
        versions = {"mpi4py": None}
    return {
        "tinygrad_z2g": __version__, "python": platform.python_version(), "platform": platform.platform(),
        "numpy": np.__version__, "blas": blas(), "cpu kernels": fast.loops.state(),
        "operations": "plain forms: TINYGRAD_Z2G_PLAIN=1" if forms.plain() else "fast forms", **versions,
        "default dtype": str(dtypes.get_default_dtype()),
        "default device": device, "cuda": cuda(),
    }  # fmt: skip


def lines(found: dict[str, Any]) -> list[str]:
    """The report as text, one line for each thing and each card."""
    text = {name: "not installed" if value is None else str(value) for name, value in found.items()}
    b, c = found["blas"], found["cuda"]
    text["blas"] = f"{b['name']} {b['version']}, {b['threads']} threads, {b['architecture']}"
    if "unusable" in c:
        text["cuda"] = f"unusable: {c['unusable']}"
    else:
        text["cuda"] = f"runtime {c['runtime']}, driver {c['driver']}, CuPy {c['cupy']}, TF32 "
        text["cuda"] += "on" if c["tf32"] else "off (CUPY_TF32=1 switches it on)"
        for card in c["cards"]:
            memory = f"{card['free'] / 2**30:.1f} of {card['memory'] / 2**30:.1f} GiB free"
            text[card["device"]] = f"{card['name']}, compute capability {card['compute']}, {memory}"
    return [f"{name:16}{value}" for name, value in text.items()]


def main() -> None:
    """Print the report."""
    parser = argparse.ArgumentParser(prog="python -m tinygrad_z2g.info", description=__doc__)
    parser.add_argument("--json", action="store_true", help="as JSON")
    as_json, found = parser.parse_args().json, report()
    console.report(json.dumps(found, indent=1) if as_json else "\n".join(lines(found)))


if __name__ == "__main__":
    main()
