"""A GPT that writes poems about cats.

Everything of the steps before comes together: characters become vectors, blocks of attention let each character look
back at those before it, and the last layer says which character comes next. Training shows it windows of poems and
corrects every guess; writing is guessing, rolling a die, and feeding the result back in.

    python examples/18_gpt.py

takes about 3 minutes of one CPU core, and leaves out/gpt.html, a web page that holds the model. Two processes
share the work (pip install 'tinygrad_z2g[mpi]') by

    OMP_NUM_THREADS=1 mpiexec -n 2 python examples/18_gpt.py --distributed --batch 8

with the same losses, but for dropout. Ctrl-C stops after a whole step, and `--resume` goes on as if nothing had
happened: with the sizes and settings of the checkpoint, but for those given anew. `--write` only writes:

    python examples/18_gpt.py --write --prompt "The cat" --temperature 0.8

The last lines look like this (150 seconds of one busy core; without Numba a fifth more):

    The kitten sat down on the hay,
    The cat sat down on the gate.
    The cat looked before the bed
    And sat down upon the cat.

    result: steps=1050 train_loss=1.127 val_loss=1.172 ngram_loss=1.357 bits_per_char=1.691
      known_words=100.0% longest_copy=29 rhymes=12% ...

Of 170 lines of ten such texts three quarters are grammatical, few say much, and no more rhyme than by chance. What each
part brings is in benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import collections
import io
import math
import os
import signal
import sys
import threading
import time
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

import checkpoint
import common
import verse

import tinygrad_z2g as z2g
from tinygrad_z2g import amp, distributed, nn, optim, text
from tinygrad_z2g.models import GPT, GPTConfig

SIZES = ("layers", "heads", "width", "context")
SETTINGS = ("steps", "lr", "batch", "seed")
MUON = 6.0  # its learning rate, in parts of AdamW's


def read(path: Path | None) -> tuple[str, str, str]:
    """A name, training and validation text: of our poems, or of a UTF-8 file."""
    if path is None:
        return " and ".join(file.name for file in verse.FILES), *verse.poems()
    try:
        content = path.read_text(encoding="utf-8-sig")  # without the byte order mark that some editors write
    except OSError as error:
        common.fail(f"--text {path}: {error.strerror}; name a text file that can be read")
    except UnicodeDecodeError as error:
        common.fail(f"--text {path}: not UTF-8 (byte {error.start}); convert it, e.g. with iconv -t utf-8")
    if not content.strip():
        common.fail(f"--text {path}: the file is empty; it takes at least a few thousand characters to learn from")
    return path.name, *text.split_poems(content.replace("\r\n", "\n"))


def watch_ctrl_c() -> threading.Event:
    """An event that Ctrl-C sets, so that training can end after a whole step. A second Ctrl-C ends at once."""
    stop = threading.Event()

    def handler(*_: Any) -> None:
        if stop.is_set():
            sys.exit(130)
        stop.set()

    signal.signal(signal.SIGINT, handler)
    return stop


def join_processes(args: argparse.Namespace) -> None:
    """With mpiexec -n N: train together, each process on --batch windows of its own. Only rank 0 prints and saves."""
    try:
        distributed.init_process_group()
        if args.device != "cpu":
            args.device = f"cuda:{distributed.get_node_local_rank()}"  # a card for each
            z2g.cuda.set_device(args.device)
    except (ImportError, RuntimeError) as error:
        common.fail(f"--distributed: {error}")
    if distributed.get_rank() > 0:
        os.environ["TQDM_DISABLE"] = "1"
        sys.stdout = io.StringIO()  # nobody reads it


def mean(x: z2g.Tensor) -> float:
    """The mean of a number over all processes."""
    x = x.detach().clone()
    distributed.all_reduce(x)
    return x.item() / distributed.get_world_size()


@z2g.no_grad()
def cross_entropy(model: GPT, ids: z2g.Tensor) -> float:
    """Mean loss over all characters of a text, each predicted from at least half a context (where the text has it)."""
    model.eval()
    T, device = model.config.context, model.head.weight.device
    half = max(1, T // 2)
    total = 0.0
    # The first window counts whole; each later one starts half a context on and counts only its last half
    starts = [*range(0, len(ids) - T - 1, half), max(0, len(ids) - T - 1)]
    counted = 1  # ids[0] has nothing before it
    for i in range(0, len(starts), 64):
        group = starts[i : i + 64]
        windows = z2g.stack([ids[s : s + T + 1] for s in group])  # (B, T + 1)
        scores, _ = model(windows[:, :-1].to(device))
        losses = (
            nn.functional.cross_entropy(scores.flatten(0, 1), windows[:, 1:].flatten().to(device), reduction="none")
            .view(len(group), -1)
            .tolist()
        )  # (B, T)
        for s, row in zip(group, losses, strict=True):
            new = s + 1 + len(row) - counted  # targets of this window that no earlier one counted
            total += sum(row[len(row) - new :])
            counted += new
    model.train()
    return total / (counted - 1)


def beginning(characters: str | list[str]) -> str:
    """A prompt for want of one: a blank line, which begins a poem."""
    return "\n\n" if "\n" in characters else characters[0]


@z2g.no_grad()
def write(model: GPT, tokenizer: text.CharTokenizer, args: argparse.Namespace) -> str:
    """A text that begins with the prompt, up to its last whole line.

    Line by line: the model draws --best-of continuations up to the end of a line, and the one that it finds likeliest
    is kept: by the mean of log p over its letters, or else short lines would win. It looks back half a context, so that
    the other half is free for the line; a longer one is drawn in pieces.
    """
    model.eval()
    half, generator = max(1, model.config.context // 2), z2g.Generator(args.seed)
    newline = tokenizer.encode("\n").tolist() if "\n" in tokenizer.characters else []
    ids = tokenizer.encode(args.prompt).tolist()
    end = len(ids) + args.tokens
    while len(ids) < end:
        start = z2g.tensor([ids[-half:]], device=args.device)  # (1, n)
        n, longest = start.shape[1], min(half, end - len(ids))
        rows = model.generate(
            start.expand(args.best_of, n), longest, args.temperature, args.top_k, generator=generator, stop=newline
        )  # (best_of, n + m)
        scores, _ = model(rows[:, :-1])  # (best_of, n + m - 1, V)
        losses = nn.functional.cross_entropy(
            scores[:, n - 1 :].flatten(0, 1), rows[:, n:].flatten(), reduction="none"
        ).view(args.best_of, -1)  # (best_of * m,) -> (best_of, m)
        drawn = []
        for row, loss in zip(rows[:, n:].tolist(), losses.tolist(), strict=True):
            m = row.index(newline[0]) + 1 if newline and newline[0] in row else len(row)
            drawn.append((sum(loss[:m]) / m, row[:m]))
        ids += min(drawn)[1]
    lines = tokenizer.decode(ids).strip("\n").split("\n")
    return "\n".join(lines[:-1] if len(lines) > 1 else lines)


def leave_page(model: GPT, tokenizer: text.CharTokenizer, args: argparse.Namespace, name: str) -> None:
    """A web page that holds the model, to write with and to look into."""
    settings = {"prompt": args.prompt, "temperature": args.temperature, "top_k": args.top_k, "seed": args.seed}
    try:
        z2g.page(model, tokenizer, args.out / "gpt.html", title=f"A GPT that has read {name}", **settings)
        print(f"page: {args.out / 'gpt.html'}")
    except (ValueError, OSError) as error:  # a model too large for one: no reason to lose the result
        print(f"no {error}")


def flags() -> tuple[argparse.Namespace, dict[str, Any] | None]:
    """The command line, checked as far as is possible before the text is read, and the checkpoint to go on from."""
    parser = common.arguments("Train a GPT on poems about cats and let it write one.", steps=1050)
    parser.add_argument("--text", type=Path, metavar="FILE", help="any UTF-8 text to learn from (default: our poems)")
    parser.add_argument("--prompt", help="what the sample begins with (default: a blank line, which begins a poem)")
    parser.add_argument("--tokens", type=common.at_least(1), default=600, help="characters to write")
    parser.add_argument("--best-of", type=common.at_least(1), default=16, help="lines to draw; the likeliest is kept")
    parser.add_argument("--temperature", type=float, default=0.5, help="0: always the likeliest; 1: as learned")
    parser.add_argument("--top-k", type=common.at_least(1), default=None, help="choose among the k likeliest only")
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
    parser.add_argument("--batch", type=common.at_least(1), default=16, help="windows per step (and process)")
    parser.add_argument("--lr", type=float, default=5e-3, help="peak learning rate")
    parser.add_argument("--amp", action="store_true", help="products in float16, for GPUs (a CPU is slower so)")
    args, saved = common.parse(parser, steps=150, layers=2, heads=4, width=64, context=32, batch=24), None
    if args.resume or args.write:
        saved = read_checkpoint(args)
        before = settings_of(saved)
        parser.set_defaults(**before)  # what the command line does not say is as it was
        args = common.parse(parser)
        for name in SIZES:
            if getattr(args, name) != before[name]:
                common.fail(f"--{name} {getattr(args, name)}: the weights in --out {args.out} have {before[name]}")
    if not (args.temperature >= 0 and 0 < args.lr < math.inf):
        common.fail(f"--temperature {args.temperature} must be >= 0 and --lr {args.lr} must be > 0 and finite")
    return args, saved


def settings_of(saved: dict[str, Any]) -> dict[str, Any]:
    """The flags that a checkpoint remembers."""
    return {**saved["settings"], **{name: saved["config"][name] for name in (*SIZES, "dropout")}}


def read_checkpoint(args: argparse.Namespace) -> dict[str, Any]:
    """What an earlier run left in --out, checked field by field."""
    path = args.out / checkpoint.CHECKPOINT
    try:
        return checkpoint.read(path)
    except (OSError, KeyError, ValueError, TypeError) as error:
        flag = "--resume" if args.resume else "--write"
        common.fail(f"{flag}: cannot use {path}: {checkpoint.one_line(error)}")


def only_write(args: argparse.Namespace, saved: dict[str, Any]) -> None:
    """--write: a text from the best weights of an earlier run."""
    began, path = time.perf_counter(), args.out / checkpoint.WEIGHTS
    tokenizer = text.CharTokenizer("".join(saved["characters"]))
    if args.prompt is None:
        args.prompt = beginning(saved["characters"])
    model = GPT(GPTConfig(**saved["config"])).to(args.device)
    try:
        checkpoint.load_weights(path, model)
        print(f"\n{write(model, tokenizer, args)}\n")
    except (OSError, ValueError) as error:
        common.fail(f"--write: {checkpoint.one_line(error)}")
    common.result(characters=args.tokens, val_loss=f"{saved['best']:.3f}", seconds=f"{time.perf_counter() - began:.1f}")


def make_optimizers(model: GPT, lr: float) -> dict[str, optim.Optimizer]:
    """Muon for the matrices within the blocks; AdamW for the table of letters, the norms and the biases."""
    inside = [p for block in model.blocks for p in block.parameters() if p.ndim == 2]
    known = {id(p) for p in inside}
    rest = [p for p in model.parameters() if id(p) not in known]
    return {
        "muon": optim.Muon(inside, lr=MUON * lr, weight_decay=0.1),
        "adamw": optim.AdamW(rest, lr=lr, betas=(0.9, 0.99), weight_decay=0.0),
    }


def restore(
    saved: dict[str, Any], model: GPT, optimizers: dict[str, optim.Optimizer],
    schedules: dict[str, optim.lr_scheduler.WarmupCosineLR], scaler: amp.GradScaler,
) -> None:  # fmt: skip
    """Bring everything to where it was; only the curve of the learning rate follows --lr and --steps of today."""
    model.load_state_dict(saved["model"])
    for name, optimizer in optimizers.items():
        optimizer.load_state_dict(saved["optimizer"][name])
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        known = sum(bool(optimizer.state.get(p)) for p in parameters)
        if known < len(parameters) and (known or saved["step"]) and not (known == 0 and saved["scaler"]):
            raise ValueError(f"'optimizer.{name}.state' has {known} entries for {len(parameters)} parameters")
        schedule, before = schedules[name], saved["schedule"][name]
        curve = {key: schedule.state_dict()[key] for key in ("warmup", "total", "floor", "base_lrs")}
        schedule.load_state_dict(before)  # checked, and only then brought onto the curve of today
        schedule.load_state_dict({**before, **curve})
        for group, lr in zip(optimizer.param_groups, schedule.get_lr(), strict=True):
            group["lr"] = lr
    if saved["scaler"]:  # there is none from training without --amp
        scaler.load_state_dict(saved["scaler"])
    try:
        z2g.random.default_generator.set_state(saved["random"])
    except ValueError as error:
        raise ValueError(f"'random': {error}") from error


def main() -> None:
    args, saved = flags()
    if args.write:
        only_write(args, saved)
        return
    stop = watch_ctrl_c()
    if args.distributed:
        join_processes(args)  # early: whoever ends from here on ends all
    if distributed.get_rank() > 0:
        learn(args, saved, stop)
        return
    with checkpoint.taken(args.out, anew=not (args.resume or args.overwrite)):
        learn(args, saved, stop)


def learn(args: argparse.Namespace, saved: dict[str, Any] | None, stop: threading.Event) -> None:
    """Train, from the beginning or from a checkpoint, and write."""
    rank, world = distributed.get_rank(), distributed.get_world_size()
    name, training, validation = read(args.text)
    content = training + validation
    tokenizer = text.CharTokenizer(content)
    if args.prompt is None:
        args.prompt = beginning(content)
    if not args.prompt:
        common.fail("--prompt is empty; give at least one character to begin with")
    if min(len(training), len(validation)) <= args.context + 1:
        common.fail(
            f"--text {name}: {len(content)} characters leave {len(validation)} to validate on, too few for a "
            f"context of {args.context}; use a longer text or a smaller --context"
        )
    epochs = args.steps * args.batch * world * args.context / len(training)
    if args.dropout is None:
        args.dropout = 0.0 if epochs < 8 else 0.1
    sizes = {name: getattr(args, name) for name in (*SIZES, "dropout")}
    before = {"rotary": True, "rope_base": 200.0} if saved is None else saved["config"]
    try:
        config = GPTConfig(**{**before, **sizes, "vocab_size": len(tokenizer)})
        tokenizer.encode(args.prompt)
    except ValueError as error:
        common.fail(str(error))
    z2g.manual_seed(args.seed)
    model = GPT(config).to(args.device)
    optimizers = make_optimizers(model, args.lr)
    kind, scaler = z2g.device(args.device).type, amp.GradScaler(enabled=args.amp)
    warmup, total = min(50, args.steps // 10), max(1, args.steps)
    schedules = {
        key: optim.lr_scheduler.WarmupCosineLR(optimizer, warmup, total, floor=0.0)
        for key, optimizer in optimizers.items()
    }
    train_ids, val_ids = tokenizer.encode(training), tokenizer.encode(validation)
    ngram = text.NGram(5, training, len(tokenizer)).cross_entropy(validation)
    n = sum(p.numel() for p in model.parameters())
    place = args.device if world == 1 else f"{world} x {args.device}"
    print(f"{name}: {len(training)} characters to learn from, {len(validation)} to validate on, {len(tokenizer)} kinds")
    print(f"GPT with {n} parameters on {place}; counting 5-grams reaches {ngram:.3f} on the validation text")
    print(f"{args.steps} steps, which see the text {epochs:.1f} times; dropout {args.dropout:g}")

    best_path, checkpoint_path = args.out / checkpoint.WEIGHTS, args.out / checkpoint.CHECKPOINT
    fingerprint = zlib.crc32(content.encode())
    start, history, best = 0, {"step": [], "train": [], "val": []}, math.inf
    if saved is not None:
        if saved["text"] != fingerprint:
            common.fail(f"--resume: {checkpoint_path} was made with another text than {name}; repeat that --text")
        try:
            if saved["best"] < math.inf:
                checkpoint.load_weights(best_path, model)  # they are needed in the end, so they had better be there
            restore(saved, model, optimizers, schedules, scaler)
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            common.fail(f"--resume: cannot go on from {checkpoint_path}: {checkpoint.one_line(error)}")
        start, history, best = saved["step"], saved["history"], saved["best"]
        now = {name: (old, getattr(args, name)) for name, old in settings_of(saved).items()}
        new = [f"--{name} {value} (before: {old})" for name, (old, value) in now.items() if value != old]
        print(", ".join([f"going on after step {start}", *new]))

    distributed.broadcast_parameters(model)
    distributed.separate_dropout()

    def diverged(what: str, step: int) -> NoReturn:
        kept = f"; the last good checkpoint is kept: {checkpoint_path}" if checkpoint_path.exists() else ""
        common.fail(f"{what} at step {step}; use a smaller --lr{kept}")

    def keep(state: dict, path: Path) -> None:
        try:
            z2g.save(state, path)
        except OSError as error:
            common.fail(str(error))

    def save_checkpoint(step: int) -> None:
        """All that is needed to go on later exactly as if nothing had happened."""
        if not all(p.isfinite().all() for p in model.parameters()):  # the loss may have been finite one step before
            diverged("the weights became nan or infinite", step)
        state = {
            "model": model.state_dict(),
            "optimizer": {key: optimizer.state_dict() for key, optimizer in optimizers.items()},
            "schedule": {key: schedule.state_dict() for key, schedule in schedules.items()},
            "scaler": scaler.state_dict(),
            "random": z2g.random.default_generator.get_state(),
            "config": asdict(config),
            "settings": {name: getattr(args, name) for name in SETTINGS},
            "characters": tokenizer.characters,
            "text": fingerprint,
        }
        keep({**state, "step": step, "history": history, "best": best}, checkpoint_path)

    def validate(step: int, train_loss: float) -> None:
        """Measure on unseen poems, and keep the weights if they are the best so far."""
        nonlocal best
        val = cross_entropy(model, val_ids)
        for key, value in (("step", step), ("train", train_loss), ("val", val)):
            history[key].append(value)
        if val < best:
            best = val
            keep(model.state_dict(), best_path)

    if rank == 0 and saved is None:
        save_checkpoint(0)  # now, so that a folder which takes no file is noticed before the work
    every = max(1, min(150, args.steps // 5))
    step, losses, stopped = start, [], False
    began = time.perf_counter()
    per_step = args.batch * world * args.context
    clock = collections.deque([(start, began)], maxlen=6)  # a look at it every 10 steps
    with common.progress(args.steps, start) as bar:
        for step in bar:
            # All processes draw the same windows, and each takes its part: together the batch of one large process
            windows = text.random_batch(train_ids, args.batch * world, args.context)
            inputs, targets = (part.chunk(world)[rank].to(args.device) for part in windows)  # (B, T)
            with amp.autocast(kind, z2g.float16, enabled=args.amp):
                _, loss = model(inputs, targets)
            model.zero_grad()
            scaler.scale(loss).backward()
            distributed.average_gradients(model)
            for optimizer in optimizers.values():
                scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimizer in optimizers.values():
                scaler.step(optimizer)
            scaler.update()
            for schedule in schedules.values():
                schedule.step()
            measure = step % every == 0 or step == args.steps
            if step % 10 == 0 or measure:  # reading the loss makes a GPU wait, so not at every step
                losses.append(mean(loss))
                if not math.isfinite(losses[-1]):
                    diverged(f"the loss became {losses[-1]}", step)
                clock.append((step, time.perf_counter()))
                whole, lately = (
                    (step - then) * per_step / max(clock[-1][1] - at, 1e-9) for then, at in ((start, began), clock[0])
                )
                bar.set_postfix(loss=f"{losses[-1]:.3f}", tokens_per_s=f"{lately:.0f}", mean=f"{whole:.0f}")
            if step == start + 20 < args.steps:
                minutes = (args.steps - start) / 20 * (time.perf_counter() - began) / 60
                bar.write(f"about {minutes:.1f} minutes at this speed")
            if measure and rank == 0:
                validate(step, sum(losses) / len(losses))
                losses.clear()
                bar.write(f"step {step:5d}  loss {history['train'][-1]:.3f}  val {history['val'][-1]:.3f}")
                save_checkpoint(step)
            stopped = mean(z2g.tensor(float(stop.is_set()), device="cpu")) > 0  # all after the same step, or one waits
            if stopped:
                break
    seconds = time.perf_counter() - began
    distributed.destroy_process_group()
    if rank > 0:
        return
    if stopped:
        save_checkpoint(step)
        print(f"stopped after step {step}; go on with --resume")
    if not history["val"]:
        validate(step, sum(losses) / max(1, len(losses)))
    tokens_per_s = (step - start) * per_step / max(seconds, 1e-9)

    try:
        checkpoint.load_weights(best_path, model)
    except (OSError, ValueError) as error:
        common.fail(checkpoint.one_line(error))
    poem = write(model, tokenizer, args)
    print(f"\n{poem}\n")
    if not args.no_plot:
        with common.picture(args.out / "18_gpt.png", rows=2, height=7) as (axes, below):
            axes.plot(history["step"], history["train"], label="training")
            axes.plot(history["step"], history["val"], label="validation")
            axes.plot(history["step"][history["val"].index(best)], best, "o", color="C1", label="best weights")
            axes.axhline(ngram, color="C2", linestyle="--", label="counting 5-grams")
            axes.set(xlabel="step", ylabel="loss (nats per character)")
            axes.legend(frameon=False)
            lines = [line[:90] for line in poem.split("\n")[:14]]
            below.text(0, 1, "\n".join(lines), va="top", fontfamily="serif", in_layout=False)
            below.axis("off")
    print(f"weights: {best_path}")
    leave_page(model, tokenizer, args, name)
    known, copied = text.known_words(poem, content), text.longest_copy(poem, training)
    common.result(
        steps=step, train_loss=f"{history['train'][-1]:.3f}", val_loss=f"{best:.3f}", ngram_loss=f"{ngram:.3f}",
        bits_per_char=f"{best / math.log(2):.3f}", known_words=f"{100 * known:.1f}%", longest_copy=copied,
        rhymes=f"{100 * verse.rhyming(poem):.0f}%", seconds=f"{seconds:.1f}", tokens_per_s=f"{tokens_per_s:.0f}",
    )  # fmt: skip


if __name__ == "__main__":
    main()
