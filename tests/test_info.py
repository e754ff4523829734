"""`python -m tinygrad_z2g.info` on a machine with cards, without, and with a CuPy that is broken."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import fakecupy
import numpy as np
import pytest

import tinygrad_z2g as z2g
from tinygrad_z2g.tools import info

ROOT = Path(__file__).parent.parent


def run(*flags, path=ROOT, **environment):
    """The finished process. A CuPy that is really installed is hidden by `path`."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "tinygrad_z2g.info", *flags], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(path), str(ROOT)]), **environment},
    )  # fmt: skip


BROKEN = {
    "no CuPy": ("raise ModuleNotFoundError('No module named cupy')", "CuPy does not import", "pip install"),
    "half installed": ("raise OSError('libcuda.so.1: cannot open')", "OSError", "libcuda.so.1"),
    "empty": ("", "no GPU answers", "no attribute 'cuda'"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_with_a_broken_cupy_or_none_it_says_what_is_wrong(name, tmp_path):
    source, *words = BROKEN[name]
    (tmp_path / "cupy.py").write_text(source)
    process = run(path=tmp_path)
    assert (process.returncode, process.stderr) == (0, "")
    line = next(line for line in process.stdout.splitlines() if line.startswith("cuda "))
    for word in ["unusable", *words]:
        assert word in line
    found = json.loads(run("--json", path=tmp_path, TINYGRAD_Z2G_DEVICE="cuda").stdout)
    assert list(found["cuda"]) == ["unusable"] and words[0] in found["default device"]
    assert (found["numpy"], found["tinygrad_z2g"]) == (np.__version__, z2g.__version__)


def test_as_text_every_line_has_a_name_and_a_value(tmp_path):
    (tmp_path / "cupy.py").write_text("raise ImportError")
    process = run(path=tmp_path, TINYGRAD_Z2G_DEVICE="cuda:1")
    table = dict(re.fullmatch(r"(.{15}) (.+)", line).groups() for line in process.stdout.splitlines())
    names = "tinygrad_z2g python platform numpy blas cpu_kernels operations mpi4py default_dtype default_device cuda"
    assert [name.strip().replace(" ", "_") for name in table] == names.split()
    assert table["default dtype  "] == "float32" and "CuPy does not import" in table["default device "]


@pytest.mark.parametrize("tf32", ["0", "1"])
def test_with_cards_they_are_listed(tf32, monkeypatch):
    monkeypatch.setenv("CUPY_TF32", tf32)
    with fakecupy.installed(devices=2):
        found = info.report()
        monkeypatch.setenv("TINYGRAD_Z2G_DEVICE", "cuda:2")
        assert "2 GPU(s), numbered 0 to 1" in info.report()["default device"]  # the wrong number
    assert found["default device"] == "cpu"
    card = {"name": "Fake GPU", "compute": "9.0", "memory": 2**34, "free": 2**33}
    assert found["cuda"] == {
        "cupy": fakecupy.cupy.__version__, "runtime": "13.2", "driver": "13.3", "tf32": tf32 == "1",
        "cards": [{"device": "cuda:0", **card}, {"device": "cuda:1", **card}],
    }  # fmt: skip
    text = "\n".join(info.lines(found))
    assert "cuda:1          Fake GPU, compute capability 9.0, 8.0 of 16.0 GiB free" in text
    assert ("TF32 on" in text) == (tf32 == "1") and "driver 13.3" in text


def test_with_cupy_and_no_card():
    with fakecupy.installed(devices=0):
        assert "no GPU answers (cudaErrorInsufficientDriver" in info.report()["cuda"]["unusable"]


@pytest.mark.gpu
def test_on_a_real_card():
    found = info.report()["cuda"]
    if "unusable" in found:
        pytest.skip(found["unusable"])
    assert 0 < found["cards"][0]["free"] <= found["cards"][0]["memory"]


def test_blas_is_named(monkeypatch):
    pytest.importorskip("threadpoolctl")
    import threadpoolctl

    with threadpoolctl.threadpool_limits(1, "blas"):
        assert info.blas()["threads"] == 1
    assert info.blas()["name"] not in ("", "unknown")
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert info.blas()["threads"] == "7" and "pip install threadpoolctl" in info.blas()["architecture"]
