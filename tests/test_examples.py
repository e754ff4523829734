"""The examples as a user runs them: a subprocess, its exit code, its words, its files."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
GPT = ROOT / "examples" / "18_gpt.py"
SMALL = ("--quick", "--no-plot", "--tokens", "80")


def run(*flags, script=GPT, env=None):
    """The finished process, its output as text."""
    command = [sys.executable, str(script), *map(str, flags)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **(env or {})}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)


def result(process):
    """The `result:` line as a dict."""
    assert process.returncode == 0, process.stderr
    line = process.stdout.strip().splitlines()[-1]
    assert line.startswith("result: ")
    return dict(pair.split("=") for pair in line.removeprefix("result: ").split())


def test_quick_run_learns_and_reports(tmp_path):
    process = run("--quick", "--no-plot", "--out", tmp_path)
    found = result(process)
    keys = "steps train_loss val_loss trigram_loss bits_per_char known_words longest_copy seconds tokens_per_s"
    assert list(found) == keys.split()
    assert found["steps"] == "150"
    assert float(found["val_loss"]) < 2.6  # uniform guessing over the 57 characters costs ln 57 = 4.04
    assert float(found["bits_per_char"]) == pytest.approx(float(found["val_loss"]) / 0.693147, abs=2e-3)
    assert {p.name for p in tmp_path.iterdir()} == {"gpt.safetensors", "checkpoint.safetensors"}


def test_picture_is_drawn_without_a_display(tmp_path):
    result(run("--quick", "--steps", 5, "--tokens", 20, "--out", tmp_path, env={"DISPLAY": ""}))
    assert (tmp_path / "18_gpt.png").read_bytes().startswith(b"\x89PNG")


def test_same_seed_same_poem(tmp_path):
    first, second = (run(*SMALL, "--steps", 10, "--out", tmp_path / name).stdout for name in "ab")
    timeless = [re.sub(r"(seconds|tokens_per_s|weights:)\S*.*", "", out) for out in (first, second)]
    assert timeless[0] == timeless[1]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no kill -9")
def test_killed_50_times_the_run_ends_with_the_same_weights(tmp_path):
    """kill -9 at random moments, also while a checkpoint is written, and --resume: bit for bit the same weights."""
    import tinygrad_z2g as z2g

    flags = (*SMALL, "--dropout", 0.2, "--steps", 150, "--context", 16, "--width", 32)
    result(run(*flags, "--out", tmp_path / "whole"))
    cut, environment = tmp_path / "cut", {**os.environ, "PYTHONPATH": str(ROOT)}
    checkpoint, rng, kills = cut / "checkpoint.safetensors", random.Random(0), 0
    while kills < 50:
        resume = ["--resume"] if checkpoint.exists() else []
        command = [sys.executable, str(GPT), *map(str, flags), *resume, "--out", str(cut)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)
        try:
            _, err = process.communicate(timeout=rng.uniform(0.3, 2.0))
            assert process.returncode == 0, err  # it came to the end: start again
            shutil.rmtree(cut)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
    result(run(*flags, *(["--resume"] if checkpoint.exists() else []), "--out", cut))
    whole, again = (z2g.load(folder / "checkpoint.safetensors") for folder in (tmp_path / "whole", cut))
    assert whole["step"] == again["step"] == 150
    for name, tensor in whole["model"].items():
        assert z2g.equal(tensor, again["model"][name]), name


def test_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(tmp_path):
    """Interrupt with Ctrl-C in the middle, resume, and compare the checkpoints' weights bit for bit."""
    import tinygrad_z2g as z2g

    flags = (*SMALL, "--dropout", 0.2, "--layers", 2)
    result(run(*flags, "--out", tmp_path / "whole"))
    command = [sys.executable, str(GPT), *map(str, flags), "--out", str(tmp_path / "cut")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    checkpoint = tmp_path / "cut" / "checkpoint.safetensors"
    while not checkpoint.exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    assert "go on with --resume" in out
    assert 0 < z2g.load(checkpoint)["step"] < 150
    result(run(*flags, "--resume", "--out", tmp_path / "cut"))
    whole, cut = (z2g.load(tmp_path / name / "checkpoint.safetensors") for name in ("whole", "cut"))
    assert whole["step"] == cut["step"] == 150
    for name, tensor in whole["model"].items():
        assert (tensor.numpy() == cut["model"][name].numpy()).all(), name


BAD_CALLS = {
    "missing file": (["--text", "no/such/file"], ["no/such/file", "No such file"]),
    "empty file": (["--text", "{empty}"], ["empty"]),
    "short file": (["--text", "{short}"], ["too few", "--context"]),
    "not UTF-8": (["--text", "{latin}"], ["not UTF-8"]),
    "prompt outside the vocabulary": (["--prompt", "Kot ż"], ["'ż'", "vocabulary"]),
    "empty prompt": (["--prompt", ""], ["--prompt", "empty"]),
    "unknown device": (["--device", "tpu"], ["'tpu'", "'cpu'"]),
    "heads": (["--heads", "3"], ["width", "3 heads"]),
    "negative steps": (["--steps", "-1"], ["--steps", "at least 0"]),
    "negative temperature": (["--temperature", "-1"], ["--temperature"]),
    "nothing to resume": (["--resume"], ["--resume", "checkpoint.safetensors"]),
    "unwritable folder": (["--out", "{short}/sub"], ["--out"]),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_bad_input_gives_one_line_and_exit_code_2(name, tmp_path):
    (tmp_path / "empty").write_text("")
    (tmp_path / "short").write_text("A cat.")
    (tmp_path / "latin").write_bytes("A café for cats.\n".encode("latin-1") * 500)
    flags, words = BAD_CALLS[name]
    flags = [flag.format(**{p.name: p for p in tmp_path.iterdir()}) for flag in flags]
    flags = ["--out", str(tmp_path / "out"), *flags]
    process = run("--quick", "--no-plot", *flags)
    assert process.returncode == 2
    assert "Traceback" not in process.stderr
    message = process.stderr.strip().splitlines()[-1]
    assert "error: " in message
    for word in words:
        assert word in message


@pytest.mark.skipif(bool(__import__("importlib").util.find_spec("cupy")), reason="CuPy is installed here")
def test_cuda_without_cupy_says_so(tmp_path):
    process = run("--device", "cuda", "--out", tmp_path)
    assert process.returncode == 2
    assert "CuPy does not import" in process.stderr


def test_any_text_will_do(tmp_path):
    """A text without blank lines and with characters of any script."""
    (tmp_path / "text").write_text("Кот сидит на окне и смотрит на луну, 猫は月を見る. " * 100, encoding="utf-8")
    found = result(run(*SMALL, "--steps", 20, "--prompt", "Кот", "--text", tmp_path / "text", "--out", tmp_path))
    assert found["steps"] == "20"
