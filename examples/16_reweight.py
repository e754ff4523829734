"""Reweighting: what if a letter says directly which places count?

Attention compares a query with a key, letter with letter. The video has an idea of its own with half of the machinery:
multiply each letter's vector by one learned matrix W (32, 16) per head, and take the 16 results as the weights of the
16 places, softmax and causal mask as before. A letter can then say "look two places back", but not "look for a vowel":
its weights do not know what stands there. On windows of 16 letters that is no loss, and the script says so; on longer
texts the fixed number of places is one. Step 17 stacks blocks.

    python examples/16_reweight.py

takes about 35 seconds on 2 CPU cores. The last lines look like this:

    claim: no clear winner over 3 seeds: 1.666 by x @ W, 1.677 by q and k
    result: reweight=1.6663 attention=1.6774 weights=3072
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import common

import tinygrad_z2g as z2g
from tinygrad_z2g import nn, optim, text

T, WIDTH, HEADS, SIZE = 16, 32, 4, 8  # letters it sees, numbers per letter, heads, numbers per head


class SelfAttention(nn.Module):
    """Four causal heads: (B, T, C) -> (B, T, C)"""

    def __init__(self):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(3))
        self.register_buffer("past", z2g.tril(z2g.ones(T, T)))

    def forward(self, x: z2g.Tensor) -> z2g.Tensor:
        q, k, v, n = self.query(x), self.key(x), self.value(x), x.shape[1]
        heads = []
        for i in range(0, WIDTH, SIZE):
            own = slice(i, i + SIZE)
            scores = q[..., own] @ k[..., own].transpose(-2, -1) / math.sqrt(SIZE)  # (B, T, hs) @ (B, hs, T)
            scores = scores.masked_fill(self.past[:n, :n] == 0, float("-inf"))
            weights = nn.functional.softmax(scores, dim=-1)  # (B, T, T), each row sums to 1
            heads.append(weights @ v[..., own])  # (B, T, T) @ (B, T, hs) -> (B, T, hs)
        return z2g.cat(heads, dim=-1)  # 4 times (B, T, hs) -> (B, T, C)


class Reweight(nn.Module):
    """Four causal heads whose weights are read off each letter directly: (B, T, C) -> (B, T, C)"""

    def __init__(self):
        super().__init__()
        self.weights = nn.ModuleList(nn.Linear(WIDTH, T, bias=False) for _ in range(HEADS))  # W (32, 16) per head
        self.value = nn.Linear(WIDTH, WIDTH, bias=False)
        self.register_buffer("past", z2g.tril(z2g.ones(T, T)))

    def forward(self, x: z2g.Tensor) -> z2g.Tensor:
        v, n, heads = self.value(x), x.shape[1], []
        for i, W in enumerate(self.weights):
            scores = W(x)[..., :n]  # (B, T, C) @ (C, 16) -> (B, T, 16): how much each place counts for this letter
            scores = scores.masked_fill(self.past[:n, :n] == 0, float("-inf"))
            heads.append(nn.functional.softmax(scores, dim=-1) @ v[..., i * SIZE : (i + 1) * SIZE])  # (B, T, hs)
        return z2g.cat(heads, dim=-1)  # 4 times (B, T, hs) -> (B, T, C)


class Model(nn.Module):
    """Letters and places as vectors, one way of mixing them, and a hidden layer: (B, T) -> (B, T, vocabulary)"""

    def __init__(self, vocabulary: int, mix: nn.Module):
        super().__init__()
        self.letter, self.place, self.mix = nn.Embedding(vocabulary, WIDTH), nn.Embedding(T, WIDTH), mix
        self.hidden, self.out = nn.Linear(2 * WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, vocabulary)

    def forward(self, ids: z2g.Tensor) -> z2g.Tensor:
        x = self.letter(ids) + self.place(z2g.arange(ids.shape[1], device=ids.device))  # (B, T, C) + (T, C)
        x = z2g.cat([x, self.mix(x)], dim=-1)  # the letter itself beside what it gathered: (B, T, 2C)
        return self.out(self.hidden(x).relu())


def loss_of(model: Model, inputs: z2g.Tensor, targets: z2g.Tensor) -> z2g.Tensor:
    """Cross-entropy, nats per letter, over all positions."""
    return nn.functional.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())  # (B, T, V) -> (B T, V)


@z2g.no_grad()
def held_out(model: Model, ids: z2g.Tensor, device: str) -> float:
    """The loss over a whole text, cut into windows of T letters."""
    n = (len(ids) - 1) // T
    return loss_of(model, ids[: n * T].view(n, T).to(device), ids[1 : n * T + 1].view(n, T).to(device)).item()


def train(name: str, model: Model, ids: z2g.Tensor, steps: int, args: argparse.Namespace) -> list[float]:
    """Adam on random windows; returns the losses."""
    optimizer, losses = optim.Adam(model.parameters(), lr=3e-3), []
    for step in (bar := common.progress(steps)):
        inputs, targets = text.random_batch(ids, 100, T)
        loss = loss_of(model, inputs.to(args.device), targets.to(args.device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if step % max(1, steps // 5) == 0:
            bar.write(f"{name:9s} step {step:5d}  loss {loss.item():.4f}")
    return losses


def main() -> None:
    args = common.parse(common.arguments("Attention weights by x W against query times key.", 1200), steps=30)
    steps, seeds = args.steps, 2 if args.quick else 3
    content = (Path(__file__).parent / "data" / "cats.txt").read_text(encoding="utf-8")
    tokenizer = text.CharTokenizer(content)
    ids, unseen = (tokenizer.encode(part) for part in text.split_poems(content))
    kinds = {"x @ W": Reweight, "query key": SelfAttention}
    history, final = ({name: [] for name in kinds} for _ in range(2))
    seconds, weights = dict.fromkeys(kinds, 0.0), {}
    for seed in range(args.seed, args.seed + seeds):
        for name, mix in kinds.items():
            z2g.manual_seed(seed)
            model = Model(len(tokenizer), mix()).to(args.device)
            weights[name] = sum(p.numel() for p in model.mix.parameters())
            seconds[name] -= time.perf_counter() / seeds
            history[name].append(train(name, model, ids, steps, args))
            seconds[name] += time.perf_counter() / seeds
            final[name].append(held_out(model, unseen, args.device))
    mean = {name: sum(values) / seeds for name, values in final.items()}
    for name, values in final.items():
        losses = [round(value, 4) for value in values]
        print(f"{name:9s} held-out loss {losses}, {weights[name]} weights, {seconds[name]:.1f} s")

    if not args.no_plot:
        with common.picture(args.out / "16_reweight.png") as axes:
            for name in kinds:
                curve = [sum(losses) / seeds for losses in zip(*history[name], strict=True)]
                axes.plot(curve, label=f"{name}, mean of {seeds} seeds")
            axes.set(xlabel="step", ylabel="training loss (nats per letter)")
            axes.legend(frameon=False)
    if steps >= 1200:
        common.claim(
            abs(mean["x @ W"] - mean["query key"]) < 0.05,
            f"no clear winner over {seeds} seeds: {mean['x @ W']:.3f} by x @ W, {mean['query key']:.3f} by q and k",
        )
    common.result(reweight=f"{mean['x @ W']:.4f}", attention=f"{mean['query key']:.4f}", weights=weights["x @ W"])


if __name__ == "__main__":
    main()
