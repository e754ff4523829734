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
from statistics import mean, median
from typing import Any

import common
import numpy as np
from common import letters, pictures

import tinygrad_z2g as z2g
from tinygrad_z2g import nn, optim, text
from tinygrad_z2g.models.llama import LlamaAttention, LlamaConfig, SwiGLU
from tinygrad_z2g.nn import functional as F

T = 64  # letters it sees
BATCH = 16
LAYERS = 2
C = 64  # numbers per letter
HEADS = 4
GATED = 170  # the width inside SwiGLU: 3 * 170 is about 2 * 4 * 64
ADAMW = 8e-3  # learning rates; halved or doubled, they are better by less than 0.02, or worse
MUON = 0.02
GPT2 = {"norm": "layer", "places": "learned", "net": "gelu", "key_heads": HEADS, "optimizer": "adamw"}
CHANGES: dict[str, dict[str, Any]] = {
    "RMSNorm": {"norm": "rms"},
    "rotary": {"places": "rotary"},
    "SwiGLU": {"net": "swiglu"},
    "grouped": {"key_heads": 2},
    "Muon": {"optimizer": "muon"},
}
LAST = "today, GPT-2's time"


class Model(nn.Module):
    """A GPT of such blocks, from the parts of `tinygrad_z2g/models/llama.py`: ids and targets (B, T) -> the loss."""

    def __init__(self, vocabulary: int, design: dict[str, Any]):
        super().__init__()
        self.learned_places = design["places"] == "learned"
        old = design["norm"] == "layer"
        config = LlamaConfig(vocabulary, T, LAYERS, HEADS, design["key_heads"], C, hidden=GATED)

        def linear(i: int, o: int, bias: bool = True) -> nn.Linear:
            return nn.Linear(i, o, bias=old)  # biases go together with those of the norms

        def small_net() -> nn.Module:
            if design["net"] == "swiglu":
                return SwiGLU(config, linear)
            return nn.Sequential(linear(C, 4 * C), nn.GELU("tanh"), linear(4 * C, C))

        self.letter = nn.Embedding(vocabulary, C)
        self.head = nn.Linear(C, vocabulary, bias=False)
        if self.learned_places:
            self.place = nn.Embedding(T, C)
        self.blocks = nn.ModuleList()
        for _ in range(LAYERS):
            net = small_net()
            self.blocks.append(nn.ModuleList([LlamaAttention(config, linear), net]))
        self.norms = nn.ModuleList((nn.LayerNorm if old else nn.RMSNorm)(C) for _ in range(2 * LAYERS + 1))
        for name, p in self.named_parameters():
            if not name.startswith("norms"):
                nn.init.normal_(p, std=0.02)

    def forward(self, ids: z2g.Tensor, targets: z2g.Tensor) -> z2g.Tensor:
        x = self.letter(ids)  # (B, T, C)
        places = z2g.arange(ids.shape[1], device=ids.device)
        if self.learned_places:
            x = x + self.place(places)  # (B, T, C) + (T, C)
            places = 0 * places  # and then nothing is turned
        angles = F.rotary_angles(places, C // HEADS, base=200.0)
        norms = iter(self.norms)
        for attention, net in self.blocks:
            x = x + attention(next(norms)(x), angles)
            x = x + net(next(norms)(x))
        scores = self.head(next(norms)(x))  # (B, T, C) -> (B, T, V)
        return F.cross_entropy(scores.flatten(0, 1), targets.flatten())  # (B, T, V) -> (B T, V)


def make_optimizers(model: Model, kind: str) -> list[optim.Optimizer]:
    """AdamW for all; or Muon for the matrices of the blocks, and AdamW for the rest."""
    if kind == "adamw":
        return [optim.AdamW(model.parameters(), lr=ADAMW, betas=(0.9, 0.99))]
    inner = [p for p in model.blocks.parameters() if p.ndim == 2]
    rest = [p for p in model.parameters() if all(p is not q for q in inner)]
    return [optim.AdamW(rest, lr=ADAMW, betas=(0.9, 0.99)), optim.Muon(inner, lr=MUON)]


def train(design: dict, vocabulary: int, texts: tuple, seed: int, steps: int, device: str) -> tuple:
    """Losses on the unseen poems, ten times on the way; seconds of the thread a step (the median); weights."""
    z2g.manual_seed(seed)
    ids, unseen = texts
    model = Model(vocabulary, design).to(device)
    optimizers = make_optimizers(model, design["optimizer"])
    schedules = [optim.lr_scheduler.WarmupCosineLR(o, min(30, steps // 10), max(1, steps), 0.0) for o in optimizers]
    windows = z2g.Generator(seed)  # the same for every design
    n = (len(unseen) - 1) // T
    judged = [unseen[i : i + n * T].view(n, T).to(device) for i in (0, 1)]  # inputs, and the same one letter later
    curve = []
    seconds = []
    for step in range(steps + 1):
        if step * 10 // max(1, steps) > (step - 1) * 10 // max(1, steps):  # a further tenth is done
            with z2g.no_grad():
                curve.append(model(*judged).item())
        if step == steps:
            break
        began = time.thread_time()
        loss = model(*(part.to(device) for part in text.random_batch(ids, BATCH, T, windows)))
        model.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for part in (*optimizers, *schedules):
            part.step()
        seconds.append(time.thread_time() - began)
    return curve, median(seconds or [0.0]), letters.weights_in(model)


def all_designs() -> dict[str, dict[str, Any]]:
    """GPT-2's block, each change on top of those before it, and the last of them once more."""
    designs = {"GPT-2": GPT2}
    design = GPT2
    for name, change in CHANGES.items():
        design = design | change
        designs[name] = design
    return designs | {LAST: design}


def main() -> None:
    args = common.parse(common.arguments("From GPT-2's block to today's, one change at a time.", 300), steps=5)
    tokenizer, *texts = letters.poems()
    designs = all_designs()
    names = [*designs][:-1]
    seconds = {name: [] for name in designs}  # of a step, for each seed
    curves = {name: [] for name in designs}
    for seed in range(args.seed, args.seed + (1 if args.quick else 2)):
        for name, design in designs.items():
            steps = args.steps
            if name == LAST:
                steps = round(args.steps * seconds["GPT-2"][-1] / max(seconds["Muon"][-1], 1e-9))
            curve, each, n = train(design, len(tokenizer), texts, seed, steps, args.device)
            seconds[name].append(each)
            curves[name].append(curve)
            print(f"seed {seed} {name:19s} {n} weights, {steps} steps, {1000 * each:4.1f} ms: loss {curve[-1]:.3f}")

    loss = {name: [curve[-1] for curve in done] for name, done in curves.items()}
    before = dict(zip(names[1:], names, strict=False)) | {LAST: "GPT-2"}
    gains = {name: [a - b for a, b in zip(loss[old], loss[name], strict=True)] for name, old in before.items()}
    for name, gain in gains.items():
        took = sum(seconds[name]) / max(sum(seconds[before[name]]), 1e-9) - 1
        print(f"{name:19s} after {before[name]:7s}: loss {-mean(gain):+.3f}, time of a step {100 * took:+.0f} %")

    whole = {name: mean(seconds[name]) * args.steps for name in names}
    pictures.modern_block(args, {name: np.mean(curves[name], axis=0) for name in names}, whole, gains)
    if args.steps >= 300 and not args.quick:
        told = {name: f"{name} {-mean(gain):+.3f}" for name, gain in gains.items()}
        good = ("rotary", "SwiGLU", "Muon")
        common.claim(
            all(min(gains[name]) > 0.03 for name in good), f"these lower the loss: {', '.join(told[n] for n in good)}"
        )
        common.claim(mean(gains["RMSNorm"]) > -0.02, f"no worse, and simpler: {told['RMSNorm']}")
        common.claim(-0.1 < mean(gains["grouped"]) < 0.02, f"no better, for half the keys to keep: {told['grouped']}")
        common.claim(min(gains[LAST]) > 0.2, f"in the same time, today's block is better by {mean(gains[LAST]):.3f}")
    common.result(**{name: f"{mean(loss[name]):.3f}" for name in names}, equal_time=f"{mean(loss[LAST]):.3f}")


if __name__ == "__main__":
    main()
