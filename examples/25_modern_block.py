"""The modern block: from GPT-2's block (2019) to today's, one change at a time.

    LayerNorm -> RMSNorm: no mean is taken off, no bias added (Zhang & Sennrich 2019, arXiv:1910.07467)
    learned places -> rotary: queries and keys turn with their place (Su et al. 2021, arXiv:2104.09864)
    GELU -> SwiGLU: one product decides how much of another passes (Shazeer 2020, arXiv:2002.05202)
    own keys -> grouped: two heads of queries share a head of keys and values (Ainslie et al. 2023, arXiv:2305.13245)
    AdamW -> Muon for the matrices: every direction of a step equally long (Jordan et al. 2024)

Each run keeps the changes before it: same poems, windows, steps. SwiGLU's three matrices are narrower than GELU's two.
Seeds differ too, so a change counts as a help only if both agree. Last, today's block gets only as many steps as fit
into the time of GPT-2's. On longer texts and larger nets, other changes may count; grouped keys save memory there.

    python examples/25_modern_block.py

takes about 80 seconds of one core. The last lines look like this:

    claim: in the same time, today's block is better by 0.475
    result: GPT-2=2.044 RMSNorm=2.010 rotary=1.781 SwiGLU=1.721 grouped=1.762 Muon=1.560 equal_time=1.569
"""

from __future__ import annotations

import time
from pathlib import Path
from statistics import mean, median
from typing import Any

import common

import tinygrad_z2g as z2g
from tinygrad_z2g import nn, optim, text
from tinygrad_z2g.models.llama import LlamaAttention, LlamaConfig, SwiGLU
from tinygrad_z2g.nn import functional as F

T, BATCH, LAYERS, C, HEADS, GATED = 64, 16, 2, 64, 4, 170  # 3 * 170 is about 2 * 4 * 64
ADAMW, MUON = 8e-3, 0.02  # learning rates; halved or doubled, they are better by less than 0.02, or worse
GPT2 = {"norm": "layer", "places": "learned", "net": "gelu", "key_heads": HEADS, "optimizer": "adamw"}
CHANGES: dict[str, dict[str, Any]] = {
    "RMSNorm": {"norm": "rms"}, "rotary": {"places": "rotary"}, "SwiGLU": {"net": "swiglu"},
    "grouped": {"key_heads": 2}, "Muon": {"optimizer": "muon"},
}  # fmt: skip


class Model(nn.Module):
    """A GPT of such blocks, from the parts of `tinygrad_z2g/models/llama.py`: ids and targets (B, T) -> the loss."""

    def __init__(self, vocabulary: int, design: dict[str, Any]):
        old = design["norm"] == "layer"
        config = LlamaConfig(vocabulary, T, LAYERS, HEADS, design["key_heads"], C, hidden=GATED)

        def linear(i: int, o: int, bias: bool = True) -> nn.Linear:
            return nn.Linear(i, o, bias=old)  # biases go together with those of the norms

        nets = (SwiGLU(config, linear) if design["net"] == "swiglu" else
                nn.Sequential(linear(C, 4 * C), nn.GELU("tanh"), linear(4 * C, C)) for _ in range(LAYERS))  # fmt: skip
        self.design, self.letter, self.head = design, nn.Embedding(vocabulary, C), nn.Linear(C, vocabulary, bias=False)
        if design["places"] == "learned":
            self.place = nn.Embedding(T, C)
        self.blocks = nn.ModuleList(nn.ModuleList([LlamaAttention(config, linear), net]) for net in nets)
        self.norms = nn.ModuleList((nn.LayerNorm if old else nn.RMSNorm)(C) for _ in range(2 * LAYERS + 1))
        for name, p in self.named_parameters():
            if not name.startswith("norms"):
                nn.init.normal_(p, std=0.02)

    def forward(self, ids: z2g.Tensor, targets: z2g.Tensor) -> z2g.Tensor:
        x, places, norms = self.letter(ids), z2g.arange(ids.shape[1], device=ids.device), iter(self.norms)  # (B, T, C)
        if self.design["places"] == "learned":
            x, places = x + self.place(places), 0 * places  # (B, T, C) + (T, C); and then nothing is turned
        angles = F.rotary_angles(places, C // HEADS, base=200.0)
        for attention, net in self.blocks:
            x = x + attention(next(norms)(x), angles)
            x = x + net(next(norms)(x))
        scores = self.head(next(norms)(x))  # (B, T, C) -> (B, T, V)
        return F.cross_entropy(scores.flatten(0, 1), targets.flatten())  # (B, T, V) -> (B T, V)


def train(design: dict, vocabulary: int, texts: list[z2g.Tensor], seed: int, steps: int, device: str) -> tuple:
    """Losses on the unseen poems, ten times on the way; seconds of the thread a step (the median); weights."""
    z2g.manual_seed(seed)
    ids, unseen = texts
    model = Model(vocabulary, design).to(device)
    inner = [p for p in model.blocks.parameters() if p.ndim == 2 and design["optimizer"] == "muon"]
    rest = [p for p in model.parameters() if all(p is not q for q in inner)]
    optimizers = [optim.AdamW(rest, lr=ADAMW, betas=(0.9, 0.99))]
    optimizers += [optim.Muon(inner, lr=MUON)] if inner else []
    schedules = [optim.lr_scheduler.WarmupCosineLR(o, min(30, steps // 10), max(1, steps), 0.0) for o in optimizers]
    windows, n = z2g.Generator(seed), (len(unseen) - 1) // T  # the windows of a seed are the same for every design
    judged = [unseen[i : i + n * T].view(n, T).to(device) for i in (0, 1)]
    curve, seconds = [], []
    for step in range(steps + 1):
        if step * 10 // max(1, steps) > (step - 1) * 10 // max(1, steps):
            with z2g.no_grad():
                curve.append(model(*judged).item())
        if step < steps:
            began = time.thread_time()
            loss = model(*(part.to(device) for part in text.random_batch(ids, BATCH, T, windows)))
            model.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for part in (*optimizers, *schedules):
                part.step()
            seconds.append(time.thread_time() - began)
    return curve, median(seconds or [0.0]), sum(p.numel() for p in model.parameters())


def main() -> None:
    args = common.parse(common.arguments("From GPT-2's block to today's, one change at a time.", 300), steps=5)
    content = (Path(__file__).parent / "data" / "cats.txt").read_text(encoding="utf-8")
    tokenizer = text.CharTokenizer(content)
    texts = [tokenizer.encode(part) for part in text.split_poems(content)]
    design, names, last = GPT2, ["GPT-2", *CHANGES], "today, GPT-2's time"
    designs = {"GPT-2": GPT2} | {name: (design := design | change) for name, change in CHANGES.items()}
    designs[last] = design
    each, curves = ({name: [] for name in designs} for _ in range(2))
    for seed in range(args.seed, args.seed + (1 if args.quick else 2)):
        for name, design in designs.items():
            steps = args.steps if name != last else round(args.steps * each["GPT-2"][-1] / max(each["Muon"][-1], 1e-9))
            curve, seconds, n = train(design, len(tokenizer), texts, seed, steps, args.device)
            each[name].append(seconds)
            curves[name].append(curve)
            print(f"seed {seed} {name:19s} {n} weights, {steps} steps, {1000 * seconds:4.1f} ms: loss {curve[-1]:.3f}")
    loss = {name: [curve[-1] for curve in done] for name, done in curves.items()}
    before = dict(zip(names[1:], names, strict=False)) | {last: "GPT-2"}
    gains = {name: [a - b for a, b in zip(loss[old], loss[name], strict=True)] for name, old in before.items()}
    for name, gain in gains.items():
        change, took = mean(gain), sum(each[name]) / max(sum(each[before[name]]), 1e-9) - 1
        print(f"{name:19s} after {before[name]:7s}: loss {-change:+.3f}, time of a step {100 * took:+.0f} %")
    if not args.no_plot:
        with common.picture(args.out / "25_modern_block.png", columns=2, width=10) as (left, right):
            for name in names:
                curve = [mean(values) for values in zip(*curves[name], strict=True)]
                left.plot([mean(each[name]) * args.steps * i / 10 for i in range(len(curve))], curve, label=name)
            left.set(xlabel="seconds of training", ylabel="loss, unseen poems (nats per letter)", ylim=(None, 3))
            left.legend(frameon=False)
            for row, gain in enumerate(gains.values()):
                right.barh(row, mean(gain), 0.6, color=f"C{row + 1}", alpha=0.5)
                right.plot(gain, [row] * len(gain), "k.")
            right.set(xlabel="what it takes off the loss (dots: seeds)", yticks=range(len(gains)), yticklabels=gains)
            right.invert_yaxis()
    if args.steps >= 300 and not args.quick:
        good, told = ("rotary", "SwiGLU", "Muon"), {n: f"{n} {-mean(gain):+.3f}" for n, gain in gains.items()}
        common.claim(all(min(gains[n]) > 0.03 for n in good), f"these lower the loss: {', '.join(map(told.get, good))}")
        common.claim(mean(gains["RMSNorm"]) > -0.02, f"no worse, and simpler: {told['RMSNorm']}")
        common.claim(-0.1 < mean(gains["grouped"]) < 0.02, f"no better, for half the keys to keep: {told['grouped']}")
        common.claim(min(gains[last]) > 0.2, f"in the same time, today's block is better by {mean(gains[last]):.3f}")
    common.result(**{name: f"{mean(loss[name]):.3f}" for name in names}, equal_time=f"{mean(loss[last]):.3f}")


if __name__ == "__main__":
    main()
