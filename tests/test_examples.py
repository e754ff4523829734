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
from example_modules import importable

ROOT = Path(__file__).parent.parent
GPT = ROOT / "examples" / "18_gpt.py"
SMALL = ("--quick", "--no-plot", "--tokens", "80")


def run(*flags, script=GPT, env=None):
    """The finished process, its output as text."""
    command = [sys.executable, "-W", "error", str(script), *map(str, flags)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **(env or {})}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)


def result(process):
    """The `result:` line as a dict."""
    assert process.returncode == 0, process.stderr
    line = process.stdout.strip().splitlines()[-1]
    assert line.startswith("result: ")
    return dict(pair.split("=") for pair in line.removeprefix("result: ").split())


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """The flags for a text that is counted and validated in no time, where its numbers are no matter."""
    path = tmp_path_factory.mktemp("text") / "short.txt"
    path.write_text((ROOT / "examples" / "data" / "cats.txt").read_text(encoding="utf-8")[:20_000], encoding="utf-8")
    return "--text", path


def test_quick_run_learns_and_reports(tmp_path):
    process = run("--quick", "--no-plot", "--out", tmp_path)
    found = result(process)
    keys = "steps train_loss val_loss ngram_loss bits_per_char known_words longest_copy rhymes seconds tokens_per_s"
    assert list(found) == keys.split()
    assert found["steps"] == "150"
    assert float(found["val_loss"]) < 2.6  # uniform guessing over the 57 characters costs ln 57 = 4.04
    assert float(found["bits_per_char"]) == pytest.approx(float(found["val_loss"]) / 0.693147, abs=2e-3)
    assert {p.name for p in tmp_path.iterdir()} == {"gpt.safetensors", "checkpoint.safetensors", "gpt.html"}
    out = process.stdout
    assert re.search(r"cats.txt and verses.txt: \d{6} characters to learn from, 10452 to validate on, \d\d kinds", out)
    assert re.search(r"150 steps, which see the text 0\.\d times; dropout 0\n", out)
    assert len(re.findall(r"about \d+\.\d minutes more at this speed", out)) == 1


def test_a_log_file_gets_a_line_for_each_twentieth(tmp_path, short):
    """Where nobody watches there is no bar that is drawn anew thousands of times."""
    process = run(*SMALL, *short, "--steps", 130, "--width", 16, "--context", 16, "--out", tmp_path)
    lines = process.stderr.splitlines()
    assert "\r" not in process.stderr and len(lines) == 20
    assert re.fullmatch(r"130/130  loss=\d\.\d+  tokens_per_s=\d+  mean=\d+", lines[-1])
    script = ROOT / "examples" / "05_linear_regression.py"
    assert run("--quick", "--no-plot", "--out", tmp_path, script=script).stderr.count("\n") <= 20


def test_dropout_is_chosen_by_how_often_the_text_is_seen(tmp_path):
    (tmp_path / "text").write_text("The cat sat on the mat and saw a rat. " * 6, encoding="utf-8")
    for steps, flags, told in ((1, (), "0"), (30, (), "0.1"), (30, ("--dropout", 0.3), "0.3")):
        small = ("--layers", 1, "--width", 8, "--context", 8, "--steps", steps, "--text", tmp_path / "text")
        out = run(*SMALL, *small, *flags, "--overwrite", "--out", tmp_path / "out").stdout
        assert f" times; dropout {told}\n" in out


def test_picture_is_drawn_without_a_display(tmp_path, short):
    result(run("--quick", *short, "--steps", 5, "--tokens", 20, "--out", tmp_path, env={"DISPLAY": ""}))
    assert (tmp_path / "18_gpt.png").read_bytes().startswith(b"\x89PNG")


def test_same_seed_same_poem(tmp_path, short):
    first, second = (run(*SMALL, *short, "--steps", 10, "--out", tmp_path / name).stdout for name in "ab")
    timeless = [re.sub(r"(seconds|tokens_per_s|weights:|page:)\S*.*", "", out) for out in (first, second)]
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
    assert {p.name for p in cut.iterdir()} == {"gpt.safetensors", "checkpoint.safetensors", "gpt.html"}
    whole, again = (z2g.load(folder / "checkpoint.safetensors") for folder in (tmp_path / "whole", cut))
    assert whole["step"] == again["step"] == 150
    for name, tensor in whole["model"].items():
        assert z2g.equal(tensor, again["model"][name]), name


def test_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(tmp_path, short):
    """Interrupt with Ctrl-C in the middle, resume, and compare the checkpoints' weights bit for bit."""
    import tinygrad_z2g as z2g

    flags = (*SMALL, *short, "--dropout", 0.2, "--layers", 2, "--width", 32, "--context", 16, "--batch", 4)
    result(run(*flags, "--out", tmp_path / "whole"))
    command = [sys.executable, str(GPT), *map(str, flags), "--out", str(tmp_path / "cut")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    checkpoint = tmp_path / "cut" / "checkpoint.safetensors"
    while not checkpoint.exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err
    assert "\nstopping after this step; a second Ctrl-C ends at once\n" in err and "page: " not in out
    told = re.search(r"stopped after step \d+; go on with --resume: python (\S+) --resume --out (\S+)\n", err)
    assert told.groups() == (str(GPT), str(tmp_path / "cut"))
    assert 0 < z2g.load(checkpoint)["step"] < 150
    if not (tmp_path / "cut" / "gpt.safetensors").exists():  # which the first validation leaves, after 30 steps
        process = run("--write", "--out", tmp_path / "cut")
        assert process.returncode == 2 and process.stderr.count("\n") == 1 and " --resume --out " in process.stderr
    result(run(*flags, "--resume", "--out", tmp_path / "cut"))
    whole, cut = (z2g.load(tmp_path / name / "checkpoint.safetensors") for name in ("whole", "cut"))
    assert whole["step"] == cut["step"] == 150
    for name, tensor in whole["model"].items():
        assert (tensor.numpy() == cut["model"][name].numpy()).all(), name


@pytest.mark.parametrize("huge", ["loss", "weights"])
def test_nan_stops_the_run_and_the_last_good_checkpoint_is_kept(tmp_path, short, huge):
    """The loss turns nan, or the loss is finite but the step after it makes the weights nan: the step is named."""
    import tinygrad_z2g as z2g

    flags = (*SMALL, *short, "--out", tmp_path, "--layers", 1)
    result(run(*flags, "--steps", 5))
    path = tmp_path / "checkpoint.safetensors"
    saved = z2g.load(path)
    if huge == "loss":
        saved["model"]["blocks.0.norm1.weight"].fill_(1e38)
    z2g.save(saved, path)
    before = path.read_bytes()
    more = ["--steps", 20] if huge == "loss" else ["--steps", 6, "--lr", 1e300]  # a huge step, at the one that is saved
    process = run(*flags, *more, "--resume")
    assert process.returncode == 2 and "Traceback" not in process.stderr
    message = process.stderr.split("error: ")[1].splitlines()[0]
    assert message.startswith(
        "the loss became nan at step 8" if huge == "loss" else "the weights became nan or infinite at step 6"
    )
    assert "--lr" in message and str(path) in message
    assert path.read_bytes() == before


def test_a_full_disk_stops_the_run_with_one_line(tmp_path, monkeypatch):
    """Files may have 20 kB at most: the run says which file could not be written, and the one before stays whole."""
    resource = pytest.importorskip("resource", reason="this system has no limit for the size of files")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")  # which would be cut off at 20 kB, too, for all who come after
    (tmp_path / "checkpoint.safetensors").write_bytes(b"what was there")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        process = run(*SMALL, "--steps", 5, "--overwrite", "--out", tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert process.returncode == 2 and "Traceback" not in process.stderr
    assert "error: " in process.stderr and "File too large" in process.stderr and str(tmp_path) in process.stderr
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == b"what was there"
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.safetensors"]


def test_what_kill_9_left_behind_is_cleared_away(tmp_path, short):
    stale = tmp_path / ".checkpoint.safetensors.12345.tmp"
    stale.write_bytes(b"half a file")
    result(run(*SMALL, *short, "--steps", 1, "--out", tmp_path))
    assert {p.name for p in tmp_path.iterdir()} == {"gpt.safetensors", "checkpoint.safetensors", "gpt.html"}


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
    "infinite rate": (["--lr", "inf"], ["--lr", "finite"]),
    "rate that is none": (["--lr", "nan"], ["--lr"]),
    "two modes": (["--resume", "--write"], ["not allowed"]),
    "nothing to write from": (["--write"], ["--write", "checkpoint.safetensors", "first: python ", "18_gpt.py --out "]),
    "nothing to go on from": (["--resume"], ["--resume", "nothing was learned", "first: python ", "18_gpt.py --out "]),
    "a folder for a text": (["--text", "{out}"], ["--text"]),
    "unwritable folder": (["--out", "{short}/sub"], ["--out"]),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_bad_input_gives_one_line_and_exit_code_2(name, tmp_path, run_here, capsys):
    (tmp_path / "empty").write_text("")
    (tmp_path / "out").mkdir()
    (tmp_path / "short").write_text("A cat.")
    (tmp_path / "latin").write_bytes("A café for cats.\n".encode("latin-1") * 500)
    flags, words = BAD_CALLS[name]
    flags = [flag.format(**{p.name: p for p in tmp_path.iterdir()}) for flag in flags]
    with pytest.raises(SystemExit) as end:
        run_here(GPT, "--out", str(tmp_path / "out"), *flags)
    assert end.value.code == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
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


def test_quick_changes_defaults_and_nothing_that_was_said(tmp_path, short):
    import tinygrad_z2g as z2g

    flags = ("--layers", 1, "--width", 16, "--context", 8, "--steps", 151, "--batch", 1)
    assert result(run(*SMALL, *short, *flags, "--out", tmp_path))["steps"] == "151"
    saved = z2g.load(tmp_path / "checkpoint.safetensors")
    assert [saved["config"][name] for name in ("layers", "width", "context")] == [1, 16, 8]
    script = ROOT / "examples" / "05_linear_regression.py"
    for flags, last in ((("--steps", 300), 300), ((), 200)):
        told = run("--quick", "--no-plot", *flags, "--out", tmp_path, script=script).stdout
        assert max(map(int, re.findall(r"step +(\d+)", told))) == last


def test_a_byte_order_mark_is_no_letter(tmp_path):
    import tinygrad_z2g as z2g

    poems = (ROOT / "examples" / "data" / "cats.txt").read_text(encoding="utf-8")[:5000]
    (tmp_path / "text").write_text(poems, encoding="utf-8-sig")
    result(run(*SMALL, "--steps", 1, "--text", tmp_path / "text", "--out", tmp_path))
    assert z2g.load(tmp_path / "checkpoint.safetensors")["characters"] == sorted(set(poems))


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_noticed_at_the_start(tmp_path):
    tmp_path.chmod(0o500)
    process = run(*SMALL, "--out", tmp_path)
    tmp_path.chmod(0o700)
    assert process.returncode == 2 and "--out" in process.stderr and "characters to learn from" not in process.stdout


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="takes a folder where nobody may write")
def test_not_even_by_root(tmp_path):
    process = run(*SMALL, "--out", "/proc/self")
    assert process.returncode == 2 and process.stderr.count("\n") == 1 and "--out /proc/self: " in process.stderr


# --- Manners --------------------------------------------------------------------------------------------------------

RULES = ROOT / "examples" / "01_if_else.py"


def interrupted(command, environment, begun):
    """Exit code and errors of a process that gets a Ctrl-C once it has printed the line `begun`."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stdout.readline() == begun
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    return process.returncode, err


def test_ctrl_c_ends_with_130_and_one_line(tmp_path):
    code = "import time, common; common.parse(common.arguments('', 1)); print('at work', flush=True); time.sleep(60)"
    command = [sys.executable, "-c", code, "--no-plot", "--out", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(RULES.parent)])}
    assert interrupted(command, environment, "at work\n") == (130, "\nstopped by Ctrl-C\n")


def test_ctrl_c_while_modules_are_loaded(tmp_path):
    """Where an error may be taken for a module that is missing, as numpy's own first imports do."""
    slow = "import time; print('loading', flush=True)\ntry: time.sleep(60)\nexcept BaseException: raise ImportError"
    (tmp_path / "numpy.py").write_text(slow, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, str(RULES.parent / "02_perceptron.py")]
    assert interrupted(command, environment, "loading\n") == (130, "\nstopped by Ctrl-C\n")


def test_the_second_ctrl_c_ends_at_once(tmp_path):
    """Also where the first is only noted, or was swallowed, as in a callback from C."""
    begin = "import time, common; stop = common.stop_on_ctrl_c()"
    swallow = "import time, common; common.parse(common.arguments('', 1))"
    wait = "\nwhile True:\n  try: print('at work', flush=True); time.sleep(60)\n  except BaseException: pass"
    for code, said in ((begin, "a second Ctrl-C ends at once"), (swallow, "stopped by Ctrl-C")):
        command = [sys.executable, "-c", code + wait, "--no-plot", "--out", str(tmp_path)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(RULES.parent)])}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        assert process.stdout.readline() == "at work\n"
        process.send_signal(signal.SIGINT)
        process.stderr.readline()
        assert said in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (130, "")


def test_the_time_that_is_left_does_not_count_the_first_steps(monkeypatch):
    """In which loops are compiled: here the first takes 100 seconds, each other one."""
    with importable():
        from common import long_run

        now = [0.0]
        monkeypatch.setattr(long_run.time, "perf_counter", lambda: now[0])
        pace = long_run.Pace(0, 80, 1)
        for step in range(1, 21):
            now[0] += 100 if step == 1 else 1
            if step % 10 == 0:
                pace.look(step)
    assert pace.minutes(20) == pytest.approx(1)


@pytest.mark.skipif(not hasattr(signal, "SIGPIPE"), reason="this system has no SIGPIPE")
@pytest.mark.parametrize("what", ["01_if_else", "info"])
def test_a_reader_who_has_seen_enough_is_no_error(tmp_path, what):
    script = ["-m", "tinygrad_z2g.info"] if what == "info" else [str(RULES), "--no-plot", "--out", str(tmp_path)]
    command = [sys.executable, *script]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) in (0, -signal.SIGPIPE) and not err


EXPLAIN = "import tinygrad_z2g as z2g; (z2g.ones(2, requires_grad=True) * 2).sum().explain()"


SPEAKERS = ["00_one_page.py", "03_random_search.py", "01_if_else.py", "explain", "learn", "gradcheck"]


@pytest.mark.parametrize("what", SPEAKERS)
def test_a_console_without_these_signs_shows_the_rest(tmp_path, what):
    """cp1252, as in a Western Windows, has no ∂ and no Greek."""
    command = {"explain": ["-c", EXPLAIN], "learn": ["-m", "tinygrad_z2g.learn", "softmax"]}.get(what)
    if what == "gradcheck":
        command = ["-m", "tinygrad_z2g.gradcheck", "--op", "exp"]
    elif command is None:
        flags = [] if what.startswith("00") else ["--quick", "--no-plot", "--out", str(tmp_path)]
        command = [str(ROOT / "examples" / what), *flags]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "cp1252"}
    process = subprocess.run([sys.executable, *command], capture_output=True, timeout=120, env=environment)
    assert process.returncode == 0 and process.stdout and b"Traceback" not in process.stderr


def test_without_matplotlib_the_work_is_done_and_the_picture_missing(tmp_path):
    code = "import sys, runpy; sys.modules['matplotlib'] = None; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], "
    code += "run_name='__main__')"
    command = [sys.executable, "-c", code, str(RULES), "--quick", "--out", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(RULES.parent)])}
    process = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert process.returncode == 0 and "result: " in process.stdout and "picture: " not in process.stdout
    assert process.stderr.count("\n") == 1 and "pip install" in process.stderr
