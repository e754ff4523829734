"""Step 18's files: whatever is wrong with a checkpoint, one line names it, exit code 2; who writes where; --write."""

import contextlib
import importlib.util
import io
import math
import os
import re
import signal
import sys
from pathlib import Path

import pytest
from example_modules import EXAMPLES, importable

import tinygrad_z2g as z2g
from tinygrad_z2g import text
from tinygrad_z2g.models import GPT, GPTConfig

NAN = math.nan


@pytest.fixture(scope="module")
def step18():
    """A function that runs step 18 in this process: (exit code, standard output, standard error)."""
    handlers = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGPIPE)}
    spec = importlib.util.spec_from_file_location("step18", EXAMPLES / "18_gpt.py")
    module = importlib.util.module_from_spec(spec)

    def run(*flags):
        out, err, code, argv = io.StringIO(), io.StringIO(), 0, sys.argv
        sys.argv = ["18_gpt.py", *map(str, flags)]
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                module.main()
        except SystemExit as end:
            code = end.code
        finally:
            sys.argv = argv
        return code, out.getvalue(), err.getvalue()

    with importable():
        spec.loader.exec_module(module)
        yield run
    for name, handler in handlers.items():
        signal.signal(name, handler)


@pytest.fixture(scope="module")
def trained(step18, tmp_path_factory):
    """(flags, the files of a run of 6 steps): a folder with a short text, and its bytes."""
    folder = tmp_path_factory.mktemp("trained")
    poems = folder / "poems.txt"
    poems.write_text((EXAMPLES / "data" / "cats.txt").read_text(encoding="utf-8")[:1200], encoding="utf-8")
    flags = ["--no-plot", "--tokens", 5, "--text", poems]
    small = ["--layers", 1, "--width", 8, "--heads", 2, "--context", 8, "--batch", 2, "--steps", 6]
    code, _, err = step18(*flags, *small, "--out", folder / "out")
    assert code == 0, err
    return flags, {path.name: path.read_bytes() for path in (folder / "out").iterdir()}


@pytest.fixture
def again(trained, step18, tmp_path):
    """A function that runs step 18 once more in a copy of the trained folder, after `change(the checkpoint)`."""
    flags, files = trained
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)

    def run(*more, change=None):
        if change is not None:
            path = tmp_path / "checkpoint.safetensors"
            path.write_bytes(files[path.name])
            saved = z2g.load(path)
            change(saved)
            z2g.save(saved, path)
        return step18(*flags, "--out", tmp_path, *more)

    run.folder = tmp_path
    return run


# --- Every field of a checkpoint ----------------------------------------------------------------------------------


def places(value, path=()):
    """The paths to all parts of a structure; of many alike (tensors of a model, states, rows) the first ones."""
    if path:
        yield path
    if isinstance(value, dict):
        keys = list(value)
        if path == ("model",) or (path[:1] == ("optimizer",) and path[-1] == "state"):
            keys = keys[:1]
        for key in keys:
            yield from places(value[key], (*path, key))
    elif isinstance(value, (list, tuple)):
        for i, part in enumerate(value[:2]):
            yield from places(part, (*path, i))


def wrong_values(value):
    """What can stand in the place of a value and is none, or is out of range."""
    yield from (None, "big", NAN, -1, {"a": [1]})
    if isinstance(value, (list, tuple, dict)):
        yield type(value)()
    if isinstance(value, float):
        yield math.inf
    if isinstance(value, z2g.Tensor):
        yield from (z2g.ones(7), z2g.full_like(value, NAN), z2g.zeros_like(value).int())
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value != 1:
        yield True
    if isinstance(value, int):
        yield 0.5


NAMED = {  # in other words
    "model": "load_state_dict", "scaler": "GradScaler", "adamw": "AdamW", "muon": "Muon", "lr": "learning rate",
    "betas": "beta",
}  # fmt: skip


def harmless(place, new):
    """What may well be, or what the command line replaces."""
    if isinstance(new, z2g.Tensor):
        return False
    if place[:2] == ("random", "numpy") and (new is True or place[-1] == "has_uint32"):
        return new is True or new == -1  # 1; NumPy takes any number for yes
    if place[0] == "schedule" and new in (0.5, -1, []) and place[-1] != "last_epoch":
        return new != -1 or place[-1] not in ("warmup", "total")  # numbers, or groups that came later
    tied = ("model", "token_embedding.weight")  # the same tensor as head.weight
    if new is GONE:
        return place == tied or place[-1] == "initial_lr"
    return place[-1] in ("lr", "initial_lr", "floor") and new == -1


def put(saved, path, value):
    for key in path[:-1]:
        saved = saved[key]
    if value is GONE:
        del saved[path[-1]]
    else:
        saved[path[-1]] = value


GONE = object()


def test_whatever_is_wrong_with_a_checkpoint_one_line_names_it(again, monkeypatch):
    """Each field gone, of another type, out of range."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)  # for speed
    path = again.folder / "checkpoint.safetensors"
    good, tried, failures = z2g.load(path), 0, []
    for place in places(good):
        value, parent = good, None
        for key in place:
            parent, value = value, value[key]
        if isinstance(parent, tuple):
            continue  # its elements cannot be replaced; it is replaced itself
        for new in [*wrong_values(value), *[GONE] * isinstance(parent, dict)]:
            same = type(new) is type(value) and not isinstance(new, z2g.Tensor) and new == value
            if same or harmless(place, new):
                continue
            code, out, err = again("--resume", change=lambda saved, place=place, new=new: put(saved, place, new))
            tried += 1
            names = [str(name) for key in place for name in (key, NAMED.get(key, key))]
            named = any(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", err) for name in names)
            if code != 2 or err.count("\n") != 1 or "error: --resume: cannot" not in err or not named:
                failures.append((place, "gone" if new is GONE else new, code, err[-300:], out[-100:]))
    assert tried > 300
    assert failures == []


# --- What a resumed run takes from the command line, and what from the file ----------------------------------------


def curve(saved):
    """What there was to see of the learning rate."""
    rates = [saved["optimizer"][name]["param_groups"][0]["lr"] for name in ("adamw", "muon")]
    return rates, [saved["schedule"][name]["base_lrs"] for name in ("adamw", "muon")]


def test_what_the_command_line_does_not_say_is_as_it_was(again):
    code, out, err = again("--resume")
    assert (code, "going on after step 6\n" in out) == (0, True), err
    saved = z2g.load(again.folder / "checkpoint.safetensors")
    assert saved["settings"] == {"steps": 6, "lr": 5e-3, "batch": 2, "seed": 1} and saved["config"]["layers"] == 1


def test_what_it_says_is_used_and_told(again):
    code, out, err = again("--resume", "--lr", 0.5, "--steps", 7, "--dropout", 0.2, "--batch", 3)
    told = "--steps 7 (before: 6), --lr 0.5 (before: 0.005), --batch 3 (before: 2), --dropout 0.2 (before: 0.0)"
    assert code == 0 and f"going on after step 6, {told}\n" in out, (out, err)
    saved = z2g.load(again.folder / "checkpoint.safetensors")
    assert saved["settings"] == {"steps": 7, "lr": 0.5, "batch": 3, "seed": 1} and saved["config"]["dropout"] == 0.2
    assert curve(saved) == ([0, 0], [[0.5], [3.0]])  # at the end of the curve to step 7


def test_sizes_cannot_change(again):
    for name, value in (("layers", 2), ("heads", 1), ("width", 16), ("context", 9)):
        for mode in ("--resume", "--write"):
            code, _, err = again(mode, f"--{name}", value)
            assert code == 2 and err.count("\n") == 1 and f"--{name} {value}: the weights" in err


def test_another_text_with_the_same_characters_is_refused(again, trained):
    poems = next(flag for flag in trained[0] if isinstance(flag, Path)).read_text(encoding="utf-8")
    other = again.folder / "other.txt"
    other.write_text(poems[::-1].strip(), encoding="utf-8")
    code, _, err = again("--resume", "--text", other)
    assert code == 2 and err.count("\n") == 1 and "was made with another text" in err


@pytest.mark.parametrize("mode", ["--resume", "--write"])
@pytest.mark.parametrize("damage", ["gone", "cut off", "a bit", "NaN", "of another model", "a folder"])
def test_damaged_weights_are_noticed_at_the_start(again, mode, damage):
    path = again.folder / "gpt.safetensors"
    data = bytearray(path.read_bytes())
    path.unlink()
    if damage == "a folder":
        path.mkdir()
    elif damage == "cut off":
        path.write_bytes(data[:-5])
    elif damage == "a bit":
        data[-1] ^= 1
        path.write_bytes(data)
    elif damage != "gone":
        z2g.save({"head.weight": z2g.full((3, 3), NAN if damage == "NaN" else 1.0)}, path)
    code, _, err = again(mode)
    assert code == 2 and err.count("\n") == 1 and "gpt.safetensors" in err
    assert damage not in ("NaN", "of another model") or "head.weight" in err


def test_a_checkpoint_that_is_gone_or_damaged(again):
    path = again.folder / "checkpoint.safetensors"
    for data in (None, b"", path.read_bytes()[:-1]):
        path.unlink()
        if data is not None:
            path.write_bytes(data)
        for mode in ("--resume", "--write"):
            code, _, err = again(mode)
            assert code == 2 and err.count("\n") == 1 and f"{mode}: cannot use" in err and str(path) in err
        path.touch()


# --- Who may write into a folder ----------------------------------------------------------------------------------


def test_a_second_run_does_not_overwrite_the_first_without_a_word(again, trained):
    for missing in (None, "checkpoint.safetensors"):
        if missing:
            (again.folder / missing).unlink()
        code, _, err = again()
        assert code == 2 and err.count("\n") == 1 and "--resume" in err and "--write" in err and "--overwrite" in err
    assert (again.folder / "gpt.safetensors").read_bytes() == trained[1]["gpt.safetensors"]
    small = ["--layers", 1, "--width", 8, "--heads", 2, "--context", 8, "--batch", 2, "--steps", 1]
    assert again("--overwrite", *small)[0] == 0
    assert z2g.load(again.folder / "checkpoint.safetensors")["step"] == 1


def test_two_runs_at_once_in_one_folder(again):
    fcntl = pytest.importorskip("fcntl", reason="this system has no locks of folders")
    other = os.open(again.folder, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    code, _, err = again("--resume")
    assert code == 2 and err.count("\n") == 1 and "another run writes there" in err
    assert again("--write")[0] == 0  # which only reads
    os.close(other)
    assert again("--resume")[0] == 0


# --- Writing ------------------------------------------------------------------------------------------------------


def test_write_needs_no_text_and_changes_nothing(again, trained):
    before = {path.name: path.read_bytes() for path in again.folder.iterdir()}
    code, out, err = again("--write", "--prompt", "The", "--tokens", 30, "--text", "gone")
    assert code == 0 and out.startswith("\nThe") and not err
    assert "result: characters=30" in out
    assert out.split("result")[0] == again("--write", "--prompt", "The", "--tokens", 30)[1].split("result")[0]
    assert {path.name: path.read_bytes() for path in again.folder.iterdir()} == before
    code, _, err = again("--write", "--prompt", "ж")
    assert code == 2 and err.count("\n") == 1 and "'ж'" in err


def test_of_the_lines_drawn_the_likeliest_is_kept(again):
    """So the model finds what it wrote likelier. Where all lines drawn are the same, their number changes nothing."""
    saved = z2g.load(again.folder / "checkpoint.safetensors")
    tokenizer = text.CharTokenizer("".join(saved["characters"]))
    model = GPT(GPTConfig(**saved["config"]))
    model.load_state_dict(z2g.load(again.folder / "gpt.safetensors"))
    model.eval()

    def poem(*flags):
        code, out, err = again("--write", "--prompt", "The", "--tokens", 120, *flags)
        assert code == 0 and not err
        return out.split("result")[0].strip()

    def surprise(written):
        """Mean of -log p of each character after the four before it."""
        ids = tokenizer.encode(written)
        windows = z2g.stack([ids[i : i + 5] for i in range(len(ids) - 5)])  # (n, 5)
        scores, _ = model(windows[:, :-1])
        return z2g.nn.functional.cross_entropy(scores[:, -1], windows[:, -1]).item()

    few, many = (surprise(poem("--best-of", n, "--temperature", 1)) for n in (1, 60))
    assert many < few - 0.1, (few, many)
    assert poem("--best-of", 1, "--temperature", 0) == poem("--best-of", 3, "--temperature", 0)


def test_write_without_a_prompt(again):
    code, out, err = again("--write")
    assert code == 0 and "result: " in out, err
