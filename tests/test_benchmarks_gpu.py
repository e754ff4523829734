"""benchmarks/gpu.py runs to its end, on the fake: so that on the day of a card no hour is lost to a typing error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fakecupy
import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.setenv("TINYGRAD_Z2G_DEVICE", "cpu")  # the program sets it; put back afterwards
    from benchmarks import gpu

    monkeypatch.setattr(gpu, "RUNS", 1)
    monkeypatch.setattr(gpu, "WARM_UP", 0)
    return gpu


def test_the_whole_table(gpu: Any, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    results = tmp_path / "RESULTS.md"
    results.write_text("# Measured\n")
    with fakecupy.installed():
        gpu.main(["--tiny", "--without-torch", "--results", str(results)])
    text, printed = results.read_text(), capsys.readouterr().out
    assert text.startswith("# Measured\n\n### On a card") and "Fake GPU" in text and "CUDA runtime 1" in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + 9 + 1 + 19 + 1 + 2 + 1 + 5 and all(row in printed for row in rows)
    widths = {row.split("|")[1].strip(): row.count("|") for row in rows}
    assert widths["routine"] == widths["adam_all"] == 8 and widths["operation"] == widths["fast.bmm"] == 3
    assert widths["positions"] == widths["12"] == 6
    assert "nan" not in text.replace("| nan |", "")  # a floor that nobody knows


def test_nothing_is_written_when_not_wanted(gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = gpu.RESULTS.read_text()
    monkeypatch.chdir(tmp_path)
    for name in ("launches", "kernel_table", "tiles_table", "step_table"):
        monkeypatch.setattr(gpu, name, lambda *_: iter(()))
    with fakecupy.installed():
        gpu.main(["--tiny", "--without-torch", "--results", "-"])
    assert gpu.RESULTS.read_text() == before and list(tmp_path.iterdir()) == []


def test_without_a_card_one_line_says_so(gpu: Any) -> None:
    with fakecupy.installed(devices=0), pytest.raises(SystemExit) as caught:
        gpu.main([])
    assert str(caught.value).startswith("benchmarks.gpu: device 'cuda': CuPy is installed but no GPU answers")
    assert "\n" not in str(caught.value)
