"""Scripts in processes of their own, forked from one that has imported NumPy and matplotlib.

To import these takes 0.45 s, as long as most examples take with --quick. The package itself each process imports anew.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
IMPORTED = ["numpy", "matplotlib.figure", "matplotlib.backends.backend_agg"]


def run(script: Path, *flags: Any, timeout: float = 900) -> subprocess.CompletedProcess:
    """The finished process of `python -W error script *flags`, its output as text.

    TimeoutExpired, and the process is ended, after so many seconds. Where nothing can be forked, it is started.
    """
    command = [str(script), *map(str, flags)]
    if "forkserver" not in multiprocessing.get_all_start_methods():
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-W", "error", *command]
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        process = context.Process(target=begin, args=(command, str(out), str(err)))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(command, timeout, out.read_text(), err.read_text())
        return subprocess.CompletedProcess(command, process.exitcode, out.read_text(), err.read_text())


def begin(command: list[str], out: str, err: str) -> None:
    """What the process does."""
    for path, stream in ((out, sys.stdout), (err, sys.stderr)):
        with open(path, "w", encoding="utf-8") as file:
            os.dup2(file.fileno(), stream.fileno())
    sys.argv = command
    sys.path[:0] = [str(Path(command[0]).parent), str(ROOT)]
    warnings.simplefilter("error")
    runpy.run_path(command[0], run_name="__main__")
