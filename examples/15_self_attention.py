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

import math

import common
from common import letters, pictures

import tinygrad_z2g as z2g
from tinygrad_z2g import nn

T = 16  # letters it sees
WIDTH = 32  # numbers per letter
SIZE = 8  # numbers per head: four heads


class SelfAttention(nn.Module):
    """Four causal heads: (B, T, C) -> (B, T, C)"""

    def __init__(self):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(3))
        self.register_buffer("past", z2g.tril(z2g.ones(T, T)))

    def forward(self, x: z2g.Tensor) -> z2g.Tensor:
        q, k, v = self.query(x), self.key(x), self.value(x)
        heads = []
        self.maps = []  # what the heads looked at, for the picture
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


@z2g.no_grad()
def looks_ahead(model: nn.Module, ids: z2g.Tensor) -> float:
    """How much the scores of the first half change when the letters of the second half do. (1, T) -> a number"""
    changed = ids.clone()
    changed[:, T // 2 :] = 0
    return (model(ids) - model(changed))[:, : T // 2].abs().max().item()


def main() -> None:
    args = common.parse(common.arguments("One block of self-attention against a causal average.", 2500), steps=100)
    tokenizer, ids, unseen = letters.poems()
    final = {}
    for name, mix in (("average", CausalAverage), ("attention", SelfAttention)):
        z2g.manual_seed(args.seed)
        model = letters.Mixing(len(tokenizer), T, WIDTH, mix()).to(args.device)
        letters.learn(f"{name:9s}", model, letters.loss_of_all, ids, T, args.steps, lr=3e-3, device=args.device)
        final[name] = letters.held_out_all(model, unseen, T, args.device)
        print(f"{name}: {letters.weights_in(model)} weights, held-out loss {final[name]:.4f}")

    line = unseen[:T].view(1, T).to(args.device)  # (T,) -> (1, T)
    with z2g.no_grad():
        model(line)  # so that the maps are those of this line
    pictures.self_attention(args, tokenizer.decode(line[0]), [weights[0].cpu().numpy() for weights in model.mix.maps])
    common.claim(looks_ahead(model, line) == 0, "letters to the right change nothing: no head looks ahead")
    if args.steps >= 2500:
        common.claim(
            final["attention"] < final["average"] - 0.05,
            f"held-out loss {final['attention']:.3f} with attention, {final['average']:.3f} with a causal average",
        )
    common.result(attention=f"{final['attention']:.4f}", average=f"{final['average']:.4f}")


if __name__ == "__main__":
    main()
