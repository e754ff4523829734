"""Depth without its price: residual connections.

One block of attention and a hidden layer looked back once. Stack blocks, and each can build on what those below found.
But step 09 showed what depth does to a plain net: each layer replaces its input, and what the first layers should learn
has to come back through all the others. A residual connection (He et al. 2015, arXiv:1512.03385) adds instead:

    x' = x + f(norm(x))        so        dx'/dx = 1 + ...

The 1 carries the error to every block undiminished, however many stand above. Norm before f (LayerNorm) keeps the size
of what a block sees. Attention itself has no order: a vector for each place, added to the letter's, brings it in. We
train 1, 3, 6 and 12 blocks, each with and without the `x +`; nothing else differs.

    python examples/17_residual_blocks.py

takes about 40 seconds on 2 CPU cores. The last lines look like this:

    claim: with residuals deeper is better: 2.03 1.91 1.86 1.82
    claim: without it is worse: 2.03 2.39 3.07 3.07; letter frequencies alone give 3.07
    claim: gradients of the blocks differ 23-fold without, 1.3-fold with
    result: plain=3.0683 residual=1.8176
"""

from __future__ import annotations

import argparse
from pathlib import Path

import common

import tinygrad_z2g as z2g
from tinygrad_z2g import nn, optim, text

T, WIDTH, HEADS, BATCH = 16, 32, 4, 50  # letters it sees, numbers per letter, heads of size 8, windows per step
DEPTHS = (1, 3, 6, 12)


class Attention(nn.Module):
    """Step 15's four causal heads, all at once: (B, T, C) -> (B, T, C)"""

    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: z2g.Tensor) -> z2g.Tensor:
        B, T, C = x.shape
        qkv = self.qkv(x).view(B, T, 3, HEADS, C // HEADS).permute(2, 0, 3, 1, 4)  # (B, T, 3C) -> (3, B, nh, T, hs)
        y = nn.functional.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], is_causal=True)  # (B, nh, T, hs)
        return self.out(y.transpose(1, 2).flatten(2))  # (B, nh, T, hs) -> (B, T, nh, hs) -> (B, T, C)


class Block(nn.Module):
    """Gather, then think, each added to its input if `residual`, else in its place: (B, T, C) -> (B, T, C)"""

    def __init__(self, residual: bool):
        super().__init__()
        self.residual = residual
        self.gather = nn.Sequential(nn.LayerNorm(WIDTH), Attention())
        up, down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.think = nn.Sequential(nn.LayerNorm(WIDTH), up, nn.ReLU(), down)

    def forward(self, x: z2g.Tensor) -> z2g.Tensor:
        for part in (self.gather, self.think):
            x = x + part(x) if self.residual else part(x)
        return x


class Model(nn.Module):
    """Letters and places as vectors, blocks, scores for the next letter: (B, T) -> (B, T, vocabulary)"""

    def __init__(self, vocabulary: int, depth: int, residual: bool):
        super().__init__()
        self.letter, self.place = nn.Embedding(vocabulary, WIDTH), nn.Embedding(T, WIDTH)
        self.blocks = nn.Sequential(*(Block(residual) for _ in range(depth)))
        self.out = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, vocabulary))

    def forward(self, ids: z2g.Tensor) -> z2g.Tensor:
        return self.out(self.blocks(self.letter(ids) + self.place.weight))  # (B, T, C) + (T, C)


def loss_of(model: Model, inputs: z2g.Tensor, targets: z2g.Tensor) -> z2g.Tensor:
    """Cross-entropy, nats per letter, over all positions."""
    return nn.functional.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())  # (B, T, V) -> (B T, V)


@z2g.no_grad()
def held_out(model: Model, ids: z2g.Tensor, device: str) -> float:
    """The loss over a whole text, cut into windows of T letters."""
    n = (len(ids) - 1) // T
    return loss_of(model, ids[: n * T].view(n, T).to(device), ids[1 : n * T + 1].view(n, T).to(device)).item()


def gradient_norms(model: Model, inputs: z2g.Tensor, targets: z2g.Tensor) -> list[float]:
    """The length of the loss's gradient by the weights of each block, from the input to the output."""
    model.zero_grad()
    loss_of(model, inputs, targets).backward()
    return [sum(p.grad.square().sum().item() for p in block.parameters()) ** 0.5 for block in model.blocks]


def train(name: str, model: Model, ids: z2g.Tensor, steps: int, args: argparse.Namespace) -> None:
    """Adam on random windows."""
    optimizer = optim.Adam(model.parameters(), lr=2e-3)
    for step in (bar := common.progress(steps)):
        inputs, targets = text.random_batch(ids, BATCH, T)
        loss = loss_of(model, inputs.to(args.device), targets.to(args.device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % max(1, steps // 2) == 0:
            bar.write(f"{name} step {step:5d}  loss {loss.item():.4f}")


def main() -> None:
    args = common.parse(common.arguments("Stacked blocks with and without residual connections.", 500), steps=3)
    steps = args.steps
    content = (Path(__file__).parent / "data" / "cats.txt").read_text(encoding="utf-8")
    tokenizer = text.CharTokenizer(content)
    ids, unseen = (tokenizer.encode(part) for part in text.split_poems(content))
    final, norms = {"plain": [], "residual": []}, {}
    for name in final:
        for depth in DEPTHS:
            z2g.manual_seed(args.seed)
            model = Model(len(tokenizer), depth, residual=name == "residual").to(args.device)
            batch = (part.to(args.device) for part in text.random_batch(ids, BATCH, T))
            norms[name] = gradient_norms(model, *batch)  # before training; the deepest net's stay
            train(f"{name:8s} {depth:2d} blocks", model, ids, steps, args)
            final[name].append(held_out(model, unseen, args.device))
    frequencies = text.NGram(1, tokenizer.decode(ids), len(tokenizer)).cross_entropy(tokenizer.decode(unseen))
    shown = {name: " ".join(f"{loss:.2f}" for loss in losses) for name, losses in final.items()}
    print(f"held-out loss with {DEPTHS} blocks: {shown}")
    if not args.no_plot:
        with common.picture(args.out / "17_residual_blocks.png", columns=2, width=9) as (left, right):
            for name, losses in final.items():
                left.plot(DEPTHS, losses, "o-", label=name)
                right.semilogy(range(1, len(norms[name]) + 1), norms[name], "o-", label=name)
            left.axhline(frequencies, color="C7", ls=":", label="letter frequencies alone")
            left.set(xlabel="blocks", xticks=DEPTHS, ylabel="held-out loss (nats per letter)")
            right.set(xlabel="block, from the input", ylabel="gradient norm before training", ylim=(0.1, 10))
            left.legend()
    plain, residual = final.values()
    if steps >= 500:
        common.claim(residual == sorted(residual)[::-1], f"with residuals deeper is better: {shown['residual']}")
        alone = f"without it is worse: {shown['plain']}; letter frequencies alone give {frequencies:.2f}"
        common.claim(plain[-1] > max(plain[0] + 0.5, frequencies - 0.1), alone)
    wide, narrow = (max(values) / min(values) for values in norms.values())
    common.claim(wide > 2 * narrow, f"gradients of the blocks differ {wide:.0f}-fold without, {narrow:.1f}-fold with")
    common.result(plain=f"{plain[-1]:.4f}", residual=f"{residual[-1]:.4f}")


if __name__ == "__main__":
    main()
