"""Tokens: what if the text is cut into pieces longer than a letter?

A real GPT reads no letters. Byte pair encoding (Sennrich et al. 2016, arXiv:1508.07909) begins with the 256 bytes and
joins, again and again, the two neighbours that stand together most often: " t" and "h" to " th", then " the". After
some hundred joints a common word is one token (`tinygrad_z2g/text/bpe.py`, learned from the training poems alone). The
same GPT then sees further with as many places, and more text in a step; but its output layer is larger, and each token
is rarer, so there is less to learn it from. Losses per token cannot be compared, bits per character can:

    nats of all tokens of the unseen poems / ln 2 / their characters

All models have the same blocks and do the same work in training: arithmetic counted, not steps.

    python examples/24_tokens.py

takes about 80 seconds of one core. The last lines look like this:

    claim: 512 tokens save 0.26 bits a character at equal work
    claim: 2048 tokens are best; with 4096, each rare and the output layer large, 0.15 are lost again
    result: characters=2.262 512_tokens=1.999 2048_tokens=1.922 4096_tokens=2.071
"""

from __future__ import annotations

import argparse
import math
import time
from typing import Any

import common
from common import letters, pictures

import tinygrad_z2g as z2g
from tinygrad_z2g import nn, optim, text
from tinygrad_z2g.models import GPT, GPTConfig

T = 64  # places
BATCH = 16  # windows a step
LAYERS = 3
WIDTH = 64
SIZES = [512, 2048, 4096]  # of the vocabularies; 256 are bytes


def work(vocabulary: int) -> int:
    """Multiplications and additions to learn from a token: 2 a weight forward, 4 back; likewise for q kᵀ and its v."""
    weights = LAYERS * 12 * WIDTH * WIDTH + vocabulary * WIDTH
    return 6 * (weights + LAYERS * 2 * T * WIDTH)


@z2g.no_grad()
def bits(model: GPT, tokenizer: Any, ids: z2g.Tensor, device: str) -> float:
    """Bits per character of a text. Of each window the second half counts, so that no token is judged without past."""
    half = T // 2
    total = 0.0
    loss = nn.CrossEntropyLoss(reduction="sum")
    windows = ids.unfold(0, T + 1, half).to(device)  # (n, T + 1), which overlap by half
    for some in windows.split(64):
        scores = model(some[:, :-1])[0][:, half:]  # (b, T, V) -> (b, T / 2, V)
        total += loss(scores.flatten(0, 1), some[:, half + 1 :].flatten()).item()
    judged = ids[half + 1 : half + 1 + len(windows) * half]
    return total / math.log(2) / len(tokenizer.decode(judged))


def train(name: str, tokenizer: Any, texts: tuple[str, str], steps: int, args: argparse.Namespace) -> list[float]:
    """AdamW on random windows; bits per character of the unseen poems, ten times on the way and at the end."""
    z2g.manual_seed(args.seed)
    ids, unseen = (tokenizer.encode(part) for part in texts)
    model = GPT(GPTConfig(len(tokenizer), T, LAYERS, 4, WIDTH, rotary=True, rope_base=200.0)).to(args.device)
    optimizer = optim.AdamW(model.parameters(), lr=4e-3, betas=(0.9, 0.99), weight_decay=0.1)
    schedule = optim.lr_scheduler.WarmupCosineLR(optimizer, min(30, steps // 10), max(1, steps), floor=0.0)
    curve = [bits(model, tokenizer, unseen, args.device)]
    looks = 1 if args.quick else 10
    bar = common.progress(steps)
    for step in bar:
        inputs, targets = text.random_batch(ids, BATCH, T)
        _, loss = model(inputs.to(args.device), targets.to(args.device))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step * looks // steps > (step - 1) * looks // steps:  # a further tenth is done
            curve.append(bits(model, tokenizer, unseen, args.device))
            bar.write(f"{name:10s} step {step:5d}  loss {loss.item():.3f} a token, {curve[-1]:.3f} bits per character")
    return curve


def main() -> None:
    args = common.parse(common.arguments("A GPT on tokens beside one on characters, at equal work.", 700), steps=20)
    content = letters.CATS.read_text(encoding="utf-8")
    texts = text.split_poems(content)
    kinds: dict[str, Any] = {"characters": text.CharTokenizer(content)}
    for size in SIZES[:1] if args.quick else SIZES:
        kinds[f"{size} tokens"] = text.BPE.train(texts[0], size)
    curves = {}
    for name, tokenizer in kinds.items():
        began = time.perf_counter()
        steps = round(args.steps * work(len(kinds["characters"])) / work(len(tokenizer)))
        curves[name] = train(name, tokenizer, texts, steps, args)
        length = len(texts[1]) / len(tokenizer.encode(texts[1]))
        seen = steps * BATCH * T * length / len(texts[0])
        print(
            f"{name:11s} {length:.2f} characters each, {steps} steps see the poems {seen:.1f} times: "
            f"{curves[name][-1]:.3f} bits per character, {time.perf_counter() - began:.1f} s"
        )

    shown = kinds["512 tokens"]
    lines = [line for line in texts[1].split("\n") if 20 < len(line) < 40][:6]
    pieces = [[shown.decode([i]) for i in shown.encode(line).tolist()] for line in lines]
    for line in pieces[:3]:
        print("|".join(line))
    pictures.tokens(args, curves, pieces)
    last = {name: curve[-1] for name, curve in curves.items()}
    if args.steps >= 700 and not args.quick:
        least = min(last, key=last.__getitem__)
        few, best, many = (last[f"{size} tokens"] for size in SIZES)
        saved = last["characters"] - few
        common.claim(saved > 0.1, f"{SIZES[0]} tokens save {saved:.2f} bits a character at equal work")
        common.claim(
            best < min(few, many) - 0.02,
            f"{least} are best; with {SIZES[2]}, each rare and the output layer large, "
            f"{many - best:.2f} are lost again",
        )
    common.result(**{name.replace(" ", "_"): f"{value:.3f}" for name, value in last.items()})


if __name__ == "__main__":
    main()
