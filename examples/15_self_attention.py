"""Self-attention: each letter decides which of the letters before it matter.

A causal average treats all letters so far alike; a filter weighs them by their distance. Attention weighs them by what
they are (Vaswani et al. 2017, arXiv:1706.03762). Every position asks a question, its query, and offers a key and a
value. Where query and key agree, the value counts:

    attention = softmax(q kᵀ / √d + mask) v

The mask is -∞ for all positions to the right: nobody looks ahead. Division by √d, the size of a head, keeps the
scores of a size at which softmax can still learn. Four heads ask four different questions. The reference is the same
net with a plain average over the past in place of attention. Step 16 asks whether queries and keys are needed at all.

    python examples/15_self_attention.py

takes about 20 seconds on 2 CPU cores. The last lines look like this:

    claim: held-out loss 1.626 with attention, 2.005 with a causal average
    result: attention=1.6260 average=2.0054
"""

from __future__ import annotations

import argparse
import math
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
        q, k, v = self.query(x), self.key(x), self.value(x)
        heads, self.maps = [], []
        for i in range(0, WIDTH, SIZE):
            own = slice(i, i + SIZE)
            scores = q[..., own] @ k[..., own].transpose(-2, -1) / math.sqrt(SIZE)  # (B, T, hs) @ (B, hs, T)
            scores = scores.masked_fill(self.past == 0, float("-inf"))
            weights = nn.functional.softmax(scores, dim=-1)  # (B, T, T), each row sums to 1
            heads.append(weights @ v[..., own])  # (B, T, T) @ (B, T, hs) -> (B, T, hs)
            self.maps.append(weights.detach())
        return z2g.cat(heads, dim=-1)  # 4 times (B, T, hs) -> (B, T, C)


class CausalAverage(nn.Module):
    """The mean of the values so far: (B, T, C) -> (B, T, C)"""

    def __init__(self):
        super().__init__()
        self.value = nn.Linear(WIDTH, WIDTH, bias=False)
        past = z2g.tril(z2g.ones(T, T))
        self.register_buffer("mean", past / past.sum(dim=1, keepdim=True))

    def forward(self, x: z2g.Tensor) -> z2g.Tensor:
        return self.mean @ self.value(x)  # (T, T) @ (B, T, C) -> (B, T, C)


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


def train(name: str, model: Model, ids: z2g.Tensor, steps: int, args: argparse.Namespace) -> None:
    """Adam on random windows."""
    optimizer = optim.Adam(model.parameters(), lr=3e-3)
    for step in (bar := common.progress(steps)):
        inputs, targets = text.random_batch(ids, 100, T)
        loss = loss_of(model, inputs.to(args.device), targets.to(args.device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % max(1, steps // 5) == 0:
            bar.write(f"{name:9s} step {step:5d}  loss {loss.item():.4f}")


@z2g.no_grad()
def looks_ahead(model: Model, ids: z2g.Tensor) -> float:
    """How much the scores of the first half change when the letters of the second half do. (1, T) -> a number"""
    changed = ids.clone()
    changed[:, T // 2 :] = 0
    return (model(ids) - model(changed))[:, : T // 2].abs().max().item()


def main() -> None:
    args = common.parse(common.arguments("One block of self-attention against a causal average.", 2500), steps=100)
    steps = args.steps
    content = (Path(__file__).parent / "data" / "cats.txt").read_text(encoding="utf-8")
    tokenizer = text.CharTokenizer(content)
    ids, unseen = (tokenizer.encode(part) for part in text.split_poems(content))
    final = {}
    for name, mix in (("average", CausalAverage), ("attention", SelfAttention)):
        z2g.manual_seed(args.seed)
        model = Model(len(tokenizer), mix()).to(args.device)
        train(name, model, ids, steps, args)
        final[name] = held_out(model, unseen, args.device)
        print(f"{name}: {sum(p.numel() for p in model.parameters())} weights, held-out loss {final[name]:.4f}")
    line = unseen[:T].view(1, T).to(args.device)  # (T,) -> (1, T)

    if not args.no_plot:
        with z2g.no_grad():
            model(line)  # so that the maps are those of this line
        letters = ["¶" if c == "\n" else c for c in tokenizer.decode(line[0])]
        with common.picture(args.out / "15_self_attention.png", columns=4, width=11, height=3.2) as axes:
            for i, (axis, weights) in enumerate(zip(axes, model.mix.maps, strict=True)):
                shade = axis.imshow(weights[-1].cpu().numpy(), cmap="Blues", vmin=0, vmax=1)
                axis.set(title=f"head {i + 1}", xlabel="looks at", ylabel="this letter" if i == 0 else "")
                axis.set(xticks=range(T), yticks=range(T), xticklabels=letters, yticklabels=letters)
            axes[0].figure.colorbar(shade, ax=axes, label="weight (each row sums to 1)")
    common.claim(looks_ahead(model, line) == 0, "letters to the right change nothing: no head looks ahead")
    if steps >= 2500:
        common.claim(
            final["attention"] < final["average"] - 0.05,
            f"held-out loss {final['attention']:.3f} with attention, {final['average']:.3f} with a causal average",
        )
    common.result(attention=f"{final['attention']:.4f}", average=f"{final['average']:.4f}")


if __name__ == "__main__":
    main()
