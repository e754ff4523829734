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
import math
import time
import zlib
from typing import Any

import common
from common import checkpoint, letters, long_run, pictures, verse

import tinygrad_z2g as z2g
from tinygrad_z2g import amp, distributed, nn, optim, text
from tinygrad_z2g.models import GPT, GPTConfig

MUON = 6.0  # its learning rate, in parts of AdamW's


def make_optimizers(model: GPT, lr: float) -> dict[str, optim.Optimizer]:
    """Muon for the matrices within the blocks; AdamW for the table of letters, the norms and the biases."""
    inside = [p for block in model.blocks for p in block.parameters() if p.ndim == 2]
    known = {id(p) for p in inside}
    rest = [p for p in model.parameters() if id(p) not in known]
    return {
        "muon": optim.Muon(inside, lr=MUON * lr, weight_decay=0.1),
        "adamw": optim.AdamW(rest, lr=lr, betas=(0.9, 0.99), weight_decay=0.0),
    }


@z2g.no_grad()
def cross_entropy(model: GPT, ids: z2g.Tensor) -> float:
    """Mean loss over all characters of a text, each predicted from at least half a context (where the text has it)."""
    model.eval()
    T = model.config.context
    device = model.head.weight.device
    half = max(1, T // 2)
    total = 0.0
    # The first window counts whole; each later one starts half a context on and counts only its last half
    starts = [*range(0, len(ids) - T - 1, half), max(0, len(ids) - T - 1)]
    counted = 1  # ids[0] has nothing before it
    for i in range(0, len(starts), 64):
        group = starts[i : i + 64]
        windows = z2g.stack([ids[s : s + T + 1] for s in group])  # (B, T + 1)
        scores, _ = model(windows[:, :-1].to(device))
        targets = windows[:, 1:].flatten().to(device)
        losses = nn.functional.cross_entropy(scores.flatten(0, 1), targets, reduction="none")  # (B T,)
        for s, row in zip(group, losses.view(len(group), -1).tolist(), strict=True):
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
    half = max(1, model.config.context // 2)
    generator = z2g.Generator(args.seed)
    newline = tokenizer.encode("\n").tolist() if "\n" in tokenizer.characters else []
    ids = tokenizer.encode(args.prompt).tolist()
    end = len(ids) + args.tokens
    while len(ids) < end:
        start = z2g.tensor([ids[-half:]], device=args.device)  # (1, n)
        n = start.shape[1]
        longest = min(half, end - len(ids))
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


def leave_page(model: GPT, tokenizer: text.CharTokenizer, args: argparse.Namespace, name: str, poem: str) -> None:
    """A web page that holds the model, to write with and to look into. It opens on the prompt, or, where that is blank,
    on the first line of the poem."""
    prompt = args.prompt if args.prompt.strip() else poem.split("\n")[0] or args.prompt
    settings = {"prompt": prompt, "temperature": args.temperature, "top_k": args.top_k, "seed": args.seed}
    try:
        z2g.page(model, tokenizer, args.out / "gpt.html", title=f"A GPT that has read {name}", **settings)
        print(f"page: {args.out / 'gpt.html'}")
    except (ValueError, OSError) as error:  # a model too large for one: no reason to lose the result
        print(f"no {error}")


def only_write(args: argparse.Namespace, saved: dict[str, Any]) -> None:
    """--write: a text from the best weights of an earlier run."""
    began = time.perf_counter()
    tokenizer = text.CharTokenizer("".join(saved["characters"]))
    if args.prompt is None:
        args.prompt = beginning(saved["characters"])
    model = GPT(GPTConfig(**saved["config"])).to(args.device)
    if saved["best"] == math.inf:
        again = long_run.command(args, "--resume")
        common.fail(f"--write: stopped after step {saved['step']}, before its first weights were saved; first: {again}")
    try:
        checkpoint.load_weights(args.out / checkpoint.WEIGHTS, model)
        print(f"\n{write(model, tokenizer, args)}\n")
    except (OSError, ValueError) as error:
        common.fail(f"--write: {checkpoint.one_line(error)}")
    common.result(characters=args.tokens, val_loss=f"{saved['best']:.3f}", seconds=f"{time.perf_counter() - began:.1f}")


def make_model(args: argparse.Namespace, saved: dict[str, Any] | None, tokenizer: text.CharTokenizer) -> GPT:
    """A GPT of the sizes that the flags name; the rest as in the checkpoint, if there is one."""
    before = {"rotary": True, "rope_base": 200.0} if saved is None else saved["config"]
    sizes = {name: getattr(args, name) for name in (*long_run.SIZES, "dropout")}
    try:
        config = GPTConfig(**{**before, **sizes, "vocab_size": len(tokenizer)})
        tokenizer.encode(args.prompt)
    except ValueError as error:
        common.fail(str(error))
    z2g.manual_seed(args.seed)
    return GPT(config).to(args.device)


def learn(args: argparse.Namespace, saved: dict[str, Any] | None) -> None:
    """Train, from the beginning or from a checkpoint, and write."""
    rank = distributed.get_rank()
    world = distributed.get_world_size()
    name, training, validation = verse.read(args.text)
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
    per_step = args.batch * world * args.context
    epochs = args.steps * per_step / len(training)
    if args.dropout is None:
        args.dropout = 0.0 if epochs < 8 else 0.1

    model = make_model(args, saved, tokenizer)
    optimizers = make_optimizers(model, args.lr)
    warmup = min(50, args.steps // 10)
    schedules = {
        key: optim.lr_scheduler.WarmupCosineLR(optimizer, warmup, max(1, args.steps), floor=0.0)
        for key, optimizer in optimizers.items()
    }
    scaler = amp.GradScaler(enabled=args.amp)
    train_ids = tokenizer.encode(training)
    val_ids = tokenizer.encode(validation)
    ngram = text.NGram(5, training, len(tokenizer)).cross_entropy(validation)
    place = args.device if world == 1 else f"{world} x {args.device}"
    print(f"{name}: {len(training)} characters to learn from, {len(validation)} to validate on, {len(tokenizer)} kinds")
    print(
        f"GPT with {letters.weights_in(model)} parameters on {place}; "
        f"counting 5-grams reaches {ngram:.3f} on the validation text"
    )
    print(f"{args.steps} steps, which see the text {epochs:.1f} times; dropout {args.dropout:g}")

    run = long_run.Run(args, model, optimizers, schedules, scaler, tokenizer.characters, zlib.crc32(content.encode()))
    if saved is not None:
        run.go_on(saved, name)
    distributed.broadcast_parameters(model)
    distributed.separate_dropout()
    stop = common.stop_on_ctrl_c()
    if rank == 0 and saved is None:
        run.save(0)  # now, so that a folder which takes no file is noticed before the work

    kind = z2g.device(args.device).type
    every = max(1, min(150, args.steps // 5))
    step = run.start
    losses = []
    stopped = False
    pace = long_run.Pace(run.start, args.steps, per_step)
    with common.progress(args.steps, run.start) as bar:
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
                losses.append(long_run.mean(loss))
                if not math.isfinite(losses[-1]):
                    run.diverged(f"the loss became {losses[-1]}", step)
                bar.set_postfix(loss=f"{losses[-1]:.3f}", **pace.look(step))
            if step == run.start + 20 < args.steps:
                bar.write(f"about {pace.minutes(step):.1f} minutes more at this speed")
            if measure and rank == 0:
                run.note(step, sum(losses) / len(losses), cross_entropy(model, val_ids))
                losses.clear()
                bar.write(f"step {step:5d}  loss {run.history['train'][-1]:.3f}  val {run.history['val'][-1]:.3f}")
                run.save(step)
            # All processes stop after the same step, or one would wait for ever
            stopped = long_run.mean(z2g.tensor(float(stop.is_set()), device="cpu")) > 0
            if stopped:
                break
    seconds = time.perf_counter() - pace.began
    distributed.destroy_process_group()
    if rank > 0:
        return
    if stopped:
        run.save(step)
        common.stopped(step, "go on with --resume" + (f": {long_run.command(args, '--resume')}" if world == 1 else ""))
    common.terminal.behave()
    if not run.history["val"]:
        run.note(step, sum(losses) / max(1, len(losses)), cross_entropy(model, val_ids))

    try:
        checkpoint.load_weights(run.weights, model)
    except (OSError, ValueError) as error:
        common.fail(checkpoint.one_line(error))
    poem = write(model, tokenizer, args)
    print(f"\n{poem}\n")
    pictures.gpt(args, run.history, run.best, ngram, poem)
    print(f"weights: {run.weights}")
    leave_page(model, tokenizer, args, name, poem)
    common.result(
        steps=step,
        train_loss=f"{run.history['train'][-1]:.3f}",
        val_loss=f"{run.best:.3f}",
        ngram_loss=f"{ngram:.3f}",
        bits_per_char=f"{run.best / math.log(2):.3f}",
        known_words=f"{100 * text.known_words(poem, content):.1f}%",
        longest_copy=text.longest_copy(poem, training),
        rhymes=f"{100 * verse.rhyming(poem):.0f}%",
        seconds=f"{seconds:.1f}",
        tokens_per_s=f"{(step - run.start) * per_step / max(seconds, 1e-9):.0f}",
    )


def main() -> None:
    parser = common.arguments("Train a GPT on poems about cats and let it write one.", steps=1050)
    args, saved = long_run.flags(parser)
    if args.write:
        only_write(args, saved)
        return
    if args.distributed:
        long_run.join_processes(args)  # early: whoever ends from here on ends all
    if distributed.get_rank() > 0:
        learn(args, saved)
        return
    with checkpoint.taken(args.out, anew=not (args.resume or args.overwrite)):
        learn(args, saved)


if __name__ == "__main__":
    main()
