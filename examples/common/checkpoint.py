"""The files of a training run: whose folder it is, and whether what is read there can be used.

A checkpoint comes from a disk, so nothing in it is taken on trust: `read` compares it with what it should look like,
and every complaint names the field.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tinygrad_z2g as z2g
from tinygrad_z2g import amp, nn

from .terminal import fail

CHECKPOINT, WEIGHTS = "checkpoint.safetensors", "gpt.safetensors"  # all to go on later; the best weights alone
FIELDS: dict[str, Any] = {  # what a checkpoint holds: types, and how large numbers are at least
    "model": dict, "optimizer": {"muon": dict, "adamw": dict}, "schedule": {"muon": dict, "adamw": dict},
    "scaler": dict, "random": dict,
    "config": {
        "vocab_size": 1, "context": 1, "layers": 1, "heads": 1, "width": 1, "dropout": 0.0, "bias": bool, "tied": bool,
        "rotary": bool, "rope_base": 0.0,
    },
    "settings": {"steps": 0, "lr": 0.0, "batch": 1, "seed": 0},
    "characters": [str], "text": 0, "step": 0,
    "history": {"step": [0], "train": [0.0], "val": [0.0]}, "best": 0.0,
}  # fmt: skip


@contextlib.contextmanager
def taken(folder: Path, anew: bool) -> Iterator[None]:
    """Make `folder` this run's own inside, and clear away what kill -9 left behind there. Ends the program if another
    run is at work in it, or has left its weights there and this one would begin `anew`."""
    with contextlib.ExitStack() as end:
        try:
            import fcntl

            place = os.open(folder, os.O_RDONLY)
            end.callback(os.close, place)
            fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system frees it, however we end
        except BlockingIOError:
            fail(f"--out {folder}: another run writes there; let it end, or choose another folder")
        except (ImportError, OSError):
            pass  # Windows; a file system without locks
        if anew and any((folder / name).exists() for name in (CHECKPOINT, WEIGHTS)):
            fail(
                f"--out {folder}: an earlier run left its weights there; --resume goes on with them, --write writes "
                "from them, --overwrite replaces them; or choose another folder"
            )
        for stale in folder.glob(".*.safetensors.*.tmp"):
            stale.unlink(missing_ok=True)
        yield


def read(path: Path) -> dict[str, Any]:
    """The checkpoint at `path`. OSError if there is none; KeyError, ValueError or TypeError names what is wrong."""
    saved = z2g.load(path)
    check(saved, FIELDS, "")
    history, step = saved["history"], saved["step"]
    if len({len(column) for column in history.values()}) > 1:
        raise ValueError("the columns of 'history' have different lengths")
    if history["step"] != sorted(set(history["step"])) or history["step"][-1:] > [step]:
        raise ValueError(f"'history.step' is {history['step']}, expected rising numbers up to step {step}")
    if saved["best"] != min(history["val"], default=math.inf):
        raise ValueError(f"'best' is {saved['best']}, expected the least of 'history.val'")
    for name, schedule in saved["schedule"].items():
        if schedule.get("last_epoch") != step:
            last = schedule.get("last_epoch")
            raise ValueError(f"'schedule.{name}.last_epoch' is {last!r}, expected the step, {step}")
    characters = saved["characters"]
    if characters != sorted(set(characters)) or {*map(len, characters)} != {1}:
        raise ValueError("'characters' are not different single characters in order")
    if saved["config"]["vocab_size"] != len(characters):
        raise ValueError(f"'config.vocab_size' is {saved['config']['vocab_size']}, but 'characters' {len(characters)}")
    if saved["scaler"]:  # empty without --amp
        amp.GradScaler("cpu").load_state_dict(saved["scaler"])
    check_tensors(saved)
    return saved


def check(value: Any, expected: Any, name: str) -> None:
    """Raise ValueError unless `value`, the field `name`, is like `expected`: see FIELDS."""
    if isinstance(expected, dict):
        if not isinstance(value, dict):
            raise ValueError(f"'{name}' is {value!r}, expected a dict")
        inside = f"{name}." if name else ""
        for key in expected.keys() ^ value.keys():
            raise ValueError(f"{'there is no' if key in expected else 'unknown:'} '{inside}{key}'")
        for key, part in expected.items():
            check(value[key], part, f"{inside}{key}")
    elif isinstance(expected, list):
        if not isinstance(value, list):
            raise ValueError(f"'{name}' is {value!r}, expected a list")
        for i, part in enumerate(value):
            check(part, expected[0], f"{name}.{i}")
    elif isinstance(expected, type):
        if not isinstance(value, expected):
            raise ValueError(f"'{name}' is {value!r}, expected a {expected.__name__}")
    else:
        kind = type(expected)
        if isinstance(value, bool) or not isinstance(value, (int, kind)):
            raise ValueError(f"'{name}' is {value!r}, expected a number of type {kind.__name__}")
        if not expected <= value or (value == math.inf and name != "best"):
            raise ValueError(f"'{name}' is {value}, expected a finite number >= {expected}")


def tensors(value: Any, name: str) -> Iterator[tuple[str, z2g.Tensor]]:
    """All tensors in a structure, with the names that lead to them."""
    if isinstance(value, z2g.Tensor):
        yield name, value
    elif isinstance(value, (dict, list, tuple)):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from tensors(part, f"{name}.{key}" if name else str(key))


def check_tensors(value: Any) -> None:
    """Raise ValueError unless all tensors in a structure are float32 and finite, as weights and averages are."""
    for name, tensor in tensors(value, ""):
        if tensor.dtype != z2g.float32:
            raise ValueError(f"'{name}' is {tensor.dtype}, expected float32")
        if not tensor.isfinite().all():
            raise ValueError(f"'{name}' has numbers that are NaN or infinite")


def load_weights(path: Path, model: nn.Module) -> None:
    """Put the weights at `path` into the model. OSError or ValueError say what is wrong with them."""
    weights = z2g.load(path)
    try:
        check_tensors(weights)
        model.load_state_dict(weights)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"{path}: {one_line(error)}") from error


def one_line(error: Exception) -> str:
    """An error's message without its line breaks."""
    return " ".join(str(error).split())
