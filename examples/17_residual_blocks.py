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

import common
from common import letters, pictures

import tinygrad_z2g as z2g
from tinygrad_z2g import nn, text

T = 16  # letters it sees
WIDTH = 32  # numbers per letter
HEADS = 4  # of size 8
BATCH = 50  # windows per step
DEPTHS = (1, 3, 6, 12)


class Attention(nn.Module):
    """Step 15's four causal heads, all at once: (B, T, C) -> (B, T, C)"""

    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)

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
        self.think = nn.Sequential(
            nn.LayerNorm(WIDTH),
            nn.Linear(WIDTH, 4 * WIDTH),
            nn.ReLU(),
            nn.Linear(4 * WIDTH, WIDTH),
        )

    def forward(self, x: z2g.Tensor) -> z2g.Tensor:
        if self.residual:
            x = x + self.gather(x)
            return x + self.think(x)
        x = self.gather(x)
        return self.think(x)


class Model(nn.Module):
    """Letters and places as vectors, blocks, scores for the next letter: (B, T) -> (B, T, vocabulary)"""

    def __init__(self, vocabulary: int, depth: int, residual: bool):
        super().__init__()
        self.letter = nn.Embedding(vocabulary, WIDTH)
        self.place = nn.Embedding(T, WIDTH)
        self.blocks = nn.Sequential(*(Block(residual) for _ in range(depth)))
        self.out = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, vocabulary))

    def forward(self, ids: z2g.Tensor) -> z2g.Tensor:
        return self.out(self.blocks(self.letter(ids) + self.place.weight))  # (B, T, C) + (T, C)


def gradient_norms(model: Model, inputs: z2g.Tensor, targets: z2g.Tensor) -> list[float]:
    """The length of the loss's gradient by the weights of each block, from the input to the output."""
    model.zero_grad()
    letters.loss_of_all(model, inputs, targets).backward()
    return [sum(p.grad.square().sum().item() for p in block.parameters()) ** 0.5 for block in model.blocks]


def main() -> None:
    args = common.parse(common.arguments("Stacked blocks with and without residual connections.", 500), steps=3)
    tokenizer, ids, unseen = letters.poems()
    final = {"plain": [], "residual": []}
    norms = {}
    for name in final:
        for depth in DEPTHS:
            z2g.manual_seed(args.seed)
            model = Model(len(tokenizer), depth, residual=name == "residual").to(args.device)
            batch = (part.to(args.device) for part in text.random_batch(ids, BATCH, T))
            norms[name] = gradient_norms(model, *batch)  # before training; the deepest net's stay
            letters.learn(
                f"{name:8s} {depth:2d} blocks", model, letters.loss_of_all, ids, T, args.steps, lr=2e-3,
                device=args.device, batch=BATCH, lines=2,
            )  # fmt: skip
            final[name].append(letters.held_out_all(model, unseen, T, args.device))
    alone = text.NGram(1, tokenizer.decode(ids), len(tokenizer)).cross_entropy(tokenizer.decode(unseen))
    shown = {name: " ".join(f"{loss:.2f}" for loss in losses) for name, losses in final.items()}
    print(f"held-out loss with {DEPTHS} blocks: {shown}")

    pictures.residual_blocks(args, DEPTHS, final, norms, alone)
    plain = final["plain"]
    residual = final["residual"]
    if args.steps >= 500:
        common.claim(residual == sorted(residual)[::-1], f"with residuals deeper is better: {shown['residual']}")
        common.claim(
            plain[-1] > max(plain[0] + 0.5, alone - 0.1),
            f"without it is worse: {shown['plain']}; letter frequencies alone give {alone:.2f}",
        )
    wide, narrow = (max(values) / min(values) for values in norms.values())
    common.claim(wide > 2 * narrow, f"gradients of the blocks differ {wide:.0f}-fold without, {narrow:.1f}-fold with")
    common.result(plain=f"{plain[-1]:.4f}", residual=f"{residual[-1]:.4f}")


if __name__ == "__main__":
    main()
