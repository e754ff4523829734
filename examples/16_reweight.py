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

import time

import common
import numpy as np
from common import letters, pictures

import tinygrad_z2g as z2g
from tinygrad_z2g import nn

T = 16  # letters it sees
WIDTH = 32  # numbers per letter
HEADS = 4
SIZE = 8  # numbers per head
SelfAttention = common.step("15_self_attention").SelfAttention  # what it is measured against: queries and keys


class Reweight(nn.Module):
    """Four causal heads whose weights are read off each letter directly: (B, T, C) -> (B, T, C)"""

    def __init__(self):
        super().__init__()
        self.weights = nn.ModuleList(nn.Linear(WIDTH, T, bias=False) for _ in range(HEADS))  # W (32, 16) per head
        self.value = nn.Linear(WIDTH, WIDTH, bias=False)
        self.register_buffer("past", z2g.tril(z2g.ones(T, T)))

    def forward(self, x: z2g.Tensor) -> z2g.Tensor:
        v = self.value(x)
        heads = []
        for i, W in enumerate(self.weights):
            scores = W(x)  # (B, T, C) @ (C, 16) -> (B, T, 16): how much each place counts for this letter
            scores = scores.masked_fill(self.past == 0, float("-inf"))
            weights = nn.functional.softmax(scores, dim=-1)  # (B, T, T), each row sums to 1
            heads.append(weights @ v[..., i * SIZE : (i + 1) * SIZE])  # (B, T, T) @ (B, T, hs) -> (B, T, hs)
        return z2g.cat(heads, dim=-1)  # 4 times (B, T, hs) -> (B, T, C)


def main() -> None:
    args = common.parse(common.arguments("Attention weights by x W against query times key.", 1200), steps=30)
    seeds = 2 if args.quick else 3
    tokenizer, ids, unseen = letters.poems()
    kinds = {"x @ W": Reweight, "query key": SelfAttention}
    history = {name: [] for name in kinds}  # the training losses of each seed
    final = {name: [] for name in kinds}  # the held-out loss of each seed
    seconds = dict.fromkeys(kinds, 0.0)
    weights = {}
    for seed in range(args.seed, args.seed + seeds):
        for name, mix in kinds.items():
            z2g.manual_seed(seed)
            model = letters.Mixing(len(tokenizer), T, WIDTH, mix()).to(args.device)
            weights[name] = letters.weights_in(model.mix)
            began = time.perf_counter()
            history[name].append(
                letters.learn(f"{name:9s}", model, letters.loss_of_all, ids, T, args.steps, lr=3e-3, device=args.device)
            )
            seconds[name] += (time.perf_counter() - began) / seeds
            final[name].append(letters.held_out_all(model, unseen, T, args.device))
    for name, values in final.items():
        print(f"{name:9s} held-out loss {np.round(values, 4).tolist()}, {weights[name]} weights, {seconds[name]:.1f} s")

    pictures.reweight(args, history)
    by_w, by_key = (sum(final[name]) / seeds for name in kinds)
    if args.steps >= 1200:
        common.claim(
            abs(by_w - by_key) < 0.05,
            f"no clear winner over {seeds} seeds: {by_w:.3f} by x @ W, {by_key:.3f} by q and k",
        )
    common.result(reweight=f"{by_w:.4f}", attention=f"{by_key:.4f}", weights=weights["x @ W"])


if __name__ == "__main__":
    main()
