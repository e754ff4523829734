"""What makes of a training loop a run that can be left alone: flags, files to go on from, several processes.

Step 18 uses it; nothing here knows how a GPT learns or writes.
"""

from __future__ import annotations

import argparse
import collections
import io
import math
import os
import shlex
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

import tinygrad_z2g as z2g
from tinygrad_z2g import amp, distributed, optim
from tinygrad_z2g.models import GPT

from . import checkpoint
from .flags import OUT, parse
from .terminal import at_least, fail

SIZES = ("layers", "heads", "width", "context")
SETTINGS = ("steps", "lr", "batch", "seed")


def flags(parser: argparse.ArgumentParser) -> tuple[argparse.Namespace, dict[str, Any] | None]:
    """The command line, checked as far as is possible before the text is read, and the checkpoint to go on from."""
    parser.add_argument("--text", type=Path, metavar="FILE", help="any UTF-8 text to learn from (default: our poems)")
    parser.add_argument("--prompt", help="what the sample begins with (default: a blank line, which begins a poem)")
    parser.add_argument("--tokens", type=at_least(1), default=600, help="characters to write")
    parser.add_argument("--best-of", type=at_least(1), default=16, help="lines to draw; the likeliest is kept")
    parser.add_argument("--temperature", type=float, default=0.5, help="0: always the likeliest; 1: as learned")
    parser.add_argument("--top-k", type=at_least(1), default=None, help="choose among the k likeliest only")
    parser.add_argument("--distributed", action="store_true", help="share the work: mpiexec -n 2 python ...")
    files = parser.add_mutually_exclusive_group()
    files.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out, with its settings")
    files.add_argument("--write", action="store_true", help="learn nothing, write with the best weights in --out")
    files.add_argument("--overwrite", action="store_true", help="replace the weights of an earlier run in --out")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--heads", type=int, default=3)
    parser.add_argument("--width", type=int, default=96, help="numbers per character inside")
    parser.add_argument("--context", type=int, default=128, help="characters it sees")
    parser.add_argument("--dropout", type=float, help="(default: none for a text seen less than 8 times, else 0.1)")
    parser.add_argument("--batch", type=at_least(1), default=16, help="windows per step (and process)")
    parser.add_argument("--lr", type=float, default=5e-3, help="peak learning rate")
    parser.add_argument("--amp", action="store_true", help="products in float16, for GPUs (a CPU is slower so)")
    args = parse(parser, steps=150, layers=2, heads=4, width=64, context=32, batch=24)
    saved = None
    if args.resume or args.write:
        saved = read_checkpoint(args)
        before = settings_of(saved)
        parser.set_defaults(**before)  # what the command line does not say is as it was
        args = parse(parser)
        for name in SIZES:
            if getattr(args, name) != before[name]:
                fail(f"--{name} {getattr(args, name)}: the weights in --out {args.out} have {before[name]}")
    if not (args.temperature >= 0 and 0 < args.lr < math.inf):
        fail(f"--temperature {args.temperature} must be >= 0 and --lr {args.lr} must be > 0 and finite")
    return args, saved


def settings_of(saved: dict[str, Any]) -> dict[str, Any]:
    """The flags that a checkpoint remembers."""
    return {**saved["settings"], **{name: saved["config"][name] for name in (*SIZES, "dropout")}}


def read_checkpoint(args: argparse.Namespace) -> dict[str, Any]:
    """What an earlier run left in --out, checked field by field."""
    path = args.out / checkpoint.CHECKPOINT
    flag = "--resume" if args.resume else "--write"
    try:
        return checkpoint.read(path)
    except FileNotFoundError:
        fail(f"{flag}: cannot use {path}: it is not there, nothing was learned in this folder; first: {command(args)}")
    except (OSError, KeyError, ValueError, TypeError) as error:
        fail(f"{flag}: cannot use {path}: {checkpoint.one_line(error)}")


def command(args: argparse.Namespace, flag: str = "") -> str:
    """What to type for a run in the same folder."""
    folder = [] if args.out == OUT else ["--out", str(args.out)]
    return shlex.join(["python", sys.argv[0], *filter(None, [flag]), *folder])


def join_processes(args: argparse.Namespace) -> None:
    """With mpiexec -n N: train together, each process on --batch windows of its own. Only rank 0 prints and saves."""
    try:
        distributed.init_process_group()
        if args.device != "cpu":
            args.device = f"cuda:{distributed.get_node_local_rank()}"  # a card for each
            z2g.cuda.set_device(args.device)
    except (ImportError, RuntimeError) as error:
        fail(f"--distributed: {error}")
    if distributed.get_rank() > 0:
        os.environ["TQDM_DISABLE"] = "1"
        sys.stdout = io.StringIO()  # nobody reads it


def mean(x: z2g.Tensor) -> float:
    """The mean of a number over all processes."""
    x = x.detach().clone()
    distributed.all_reduce(x)
    return x.item() / distributed.get_world_size()


class Run:
    """What a run has reached (`history`, the least validation loss `best`), and the two files that keep it."""

    def __init__(
        self, args: argparse.Namespace, model: GPT, optimizers: dict[str, optim.Optimizer],
        schedules: dict[str, optim.lr_scheduler.WarmupCosineLR], scaler: amp.GradScaler, characters: list[str],
        fingerprint: int,
    ):  # fmt: skip
        self.args, self.model, self.scaler = args, model, scaler
        self.optimizers, self.schedules = optimizers, schedules
        self.characters, self.fingerprint = characters, fingerprint
        self.path = args.out / checkpoint.CHECKPOINT
        self.weights = args.out / checkpoint.WEIGHTS
        self.start = 0
        self.best = math.inf
        self.history: dict[str, list] = {"step": [], "train": [], "val": []}

    def go_on(self, saved: dict[str, Any], name: str) -> None:
        """Bring everything to where a checkpoint was, which has learned from the text `name`."""
        if saved["text"] != self.fingerprint:
            fail(f"--resume: {self.path} was made with another text than {name}; repeat that --text")
        try:
            if saved["best"] < math.inf:
                checkpoint.load_weights(self.weights, self.model)  # needed in the end, so they had better be there
            self.restore(saved)
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            fail(f"--resume: cannot go on from {self.path}: {checkpoint.one_line(error)}")
        self.start, self.history, self.best = saved["step"], saved["history"], saved["best"]
        now = {name: (old, getattr(self.args, name)) for name, old in settings_of(saved).items()}
        new = [f"--{name} {value} (before: {old})" for name, (old, value) in now.items() if value != old]
        print(", ".join([f"going on after step {self.start}", *new]))

    def restore(self, saved: dict[str, Any]) -> None:
        """Only the curve of the learning rate follows --lr and --steps of today."""
        self.model.load_state_dict(saved["model"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(saved["optimizer"][name])
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            known = sum(bool(optimizer.state.get(p)) for p in parameters)
            if known < len(parameters) and (known or saved["step"]) and not (known == 0 and saved["scaler"]):
                raise ValueError(f"'optimizer.{name}.state' has {known} entries for {len(parameters)} parameters")
            schedule = self.schedules[name]
            before = saved["schedule"][name]
            curve = {key: schedule.state_dict()[key] for key in ("warmup", "total", "floor", "base_lrs")}
            schedule.load_state_dict(before)  # checked, and only then brought onto the curve of today
            schedule.load_state_dict({**before, **curve})
            for group, lr in zip(optimizer.param_groups, schedule.get_lr(), strict=True):
                group["lr"] = lr
        if saved["scaler"]:  # there is none from training without --amp
            self.scaler.load_state_dict(saved["scaler"])
        try:
            z2g.random.default_generator.set_state(saved["random"])
        except ValueError as error:
            raise ValueError(f"'random': {error}") from error

    def diverged(self, what: str, step: int) -> NoReturn:
        """End the program: what was computed is no use any more."""
        kept = f"; the last good checkpoint is kept: {self.path}" if self.path.exists() else ""
        fail(f"{what} at step {step}; use a smaller --lr{kept}")

    def save(self, step: int) -> None:
        """All that is needed to go on later exactly as if nothing had happened."""
        if not all(p.isfinite().all() for p in self.model.parameters()):  # the loss may have been finite a step before
            self.diverged("the weights became nan or infinite", step)
        state = {
            "model": self.model.state_dict(),
            "optimizer": {key: optimizer.state_dict() for key, optimizer in self.optimizers.items()},
            "schedule": {key: schedule.state_dict() for key, schedule in self.schedules.items()},
            "scaler": self.scaler.state_dict(),
            "random": z2g.random.default_generator.get_state(),
            "config": asdict(self.model.config),
            "settings": {name: getattr(self.args, name) for name in SETTINGS},
            "characters": self.characters,
            "text": self.fingerprint,
            "step": step,
            "history": self.history,
            "best": self.best,
        }
        write(state, self.path)

    def note(self, step: int, train: float, val: float) -> None:
        """What was measured; and keep the weights if they are the best so far."""
        self.history["step"].append(step)
        self.history["train"].append(train)
        self.history["val"].append(val)
        if val < self.best:
            self.best = val
            write(self.model.state_dict(), self.weights)


def write(state: dict, path: Path) -> None:
    """Save, or end the program with the reason why that failed."""
    try:
        z2g.save(state, path)
    except OSError as error:
        fail(str(error))


class Pace:
    """How many characters are read a second: lately, and since the beginning; and how long it will take."""

    def __init__(self, start: int, steps: int, per_step: int):
        self.start, self.steps, self.per_step = start, steps, per_step
        self.began = time.perf_counter()
        self.looks = collections.deque([(start, self.began)], maxlen=6)  # one every 10 steps

    def look(self, step: int) -> dict[str, str]:
        """Both speeds at this step."""
        now = time.perf_counter()
        self.looks.append((step, now))
        lately, whole = (
            (step - then) * self.per_step / max(now - at, 1e-9)
            for then, at in (self.looks[0], (self.start, self.began))
        )
        return {"tokens_per_s": f"{lately:.0f}", "mean": f"{whole:.0f}"}

    def minutes(self, step: int) -> float:
        """How long it will take from here, told after 20 steps. The first ones, in which loops are compiled, do not
        count."""
        then, at = self.looks[1]
        return (self.steps - step) / (step - then) * (time.perf_counter() - at) / 60
