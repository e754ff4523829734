"""Letters as vectors, and filters that slide over them.

Step 12 gave the net each letter as one number, as if "e" were halfway between "d" and "f". A letter has no size, it
has likenesses: let each letter be a vector of 32 numbers that the net learns, an embedding. Set side by side, the 16
vectors need weights for every place. Their average needs few, but then all order is lost. A pattern, say "th", means
the same wherever it stands. A filter (Conv1d), 5 letters long, slides along the text and learns it once; its largest
answer says *that* the pattern occurred, not where. Add to each letter's vector one for its place, learned like the
others, and the filters hear both. Both help; vectors side by side, with more weights, still win.

    python examples/13_embedding_conv.py

takes about 30 seconds on 2 CPU cores. The last lines look like this:

    claim: 2.63 numbers > 1.87 vectors
    claim: 2.94 average > 2.58 filters > 2.09 placed
    claim: yet 75324 weights do better than 28796
    result: numbers=2.6328 vectors=1.8746 average=2.9402 filters=2.5766 placed=2.0900
"""

from __future__ import annotations

import argparse
from pathlib import Path

import common
import numpy as np

import tinygrad_z2g as z2g
from tinygrad_z2g import nn, optim, text

T, WIDTH, FILTERS, LENGTH, HIDDEN = 16, 32, 64, 5, 128  # letters it sees, numbers per letter, filters, their length


class Numbers(nn.Module):
    """Step 12: the letter's number. (B, T) -> (B, T)"""

    size = T

    def __init__(self, vocabulary: int):
        super().__init__()
        self.vocabulary = vocabulary

    def forward(self, ids: z2g.Tensor) -> z2g.Tensor:
        return 2 * ids.float() / (self.vocabulary - 1) - 1  # 0 .. V - 1 -> -1 .. 1


class Vectors(nn.Module):
    """Each letter a vector, all side by side. (B, T) -> (B, T C)"""

    size = T * WIDTH

    def __init__(self, vocabulary: int):
        super().__init__()
        self.letter = nn.Embedding(vocabulary, WIDTH)
        nn.init.normal_(self.letter.weight, std=0.1)  # small, so that the picture shows what was learned

    def forward(self, ids: z2g.Tensor) -> z2g.Tensor:
        return self.letter(ids).flatten(1)  # (B, T, C) -> (B, T C)


class Average(Vectors):
    """The mean of the vectors: which letters, in no order. (B, T) -> (B, C)"""

    size = WIDTH

    def forward(self, ids: z2g.Tensor) -> z2g.Tensor:
        return self.letter(ids).mean(dim=1)  # (B, T, C) -> (B, C)


class Filters(Vectors):
    """The largest answer of each filter, wherever that was; if asked, with a vector for each place. (B, T) -> (B, F)"""

    size = FILTERS

    def __init__(self, vocabulary: int, places: bool = False):
        super().__init__(vocabulary)
        self.filters, self.place = nn.Conv1d(WIDTH, FILTERS, LENGTH), nn.Embedding(T, WIDTH) if places else None

    def forward(self, ids: z2g.Tensor) -> z2g.Tensor:
        x = self.letter(ids) + (0 if self.place is None else self.place.weight)  # (B, T, C) + (T, C)
        return self.filters(x.transpose(1, 2)).amax(dim=2)  # (B, T, C) -> (B, C, T) -> (B, F, T') -> (B, F)


KINDS = {"numbers": Numbers, "vectors": Vectors, "average": Average, "filters": Filters}
KINDS["placed"] = lambda vocabulary: Filters(vocabulary, places=True)


@z2g.no_grad()
def held_out(model: nn.Module, ids: z2g.Tensor, device: str) -> float:
    """Mean loss of 5,000 letters spread evenly over a text: the same ones at every call."""
    windows = z2g.stack([ids[i : i + T + 1] for i in range(0, len(ids) - T, max(1, len(ids) // 5000))]).to(device)
    return nn.functional.cross_entropy(model(windows[:, :-1]), windows[:, -1]).item()


def train(name: str, model: nn.Module, ids: z2g.Tensor, steps: int, args: argparse.Namespace) -> None:
    """Adam on random windows; the target is the letter after each."""
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    for step in (bar := common.progress(steps)):
        inputs, targets = text.random_batch(ids, 100, T)  # (B, T), and the same one letter later
        loss = nn.functional.cross_entropy(model(inputs.to(args.device)), targets[:, -1].to(args.device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % max(1, steps // 4) == 0:
            bar.write(f"{name:7s} step {step:5d}  loss {loss.item():.4f}")


def main() -> None:
    args = common.parse(common.arguments("Embeddings and Conv1d against letters as numbers.", 1500), steps=50)
    steps, seeds = args.steps, 1 if args.quick else 3
    content = (Path(__file__).parent / "data" / "cats.txt").read_text(encoding="utf-8")
    tokenizer = text.CharTokenizer(content)
    ids, unseen = (tokenizer.encode(part) for part in text.split_poems(content))
    losses, weights = {name: [] for name in KINDS}, {}
    for seed in range(args.seed, args.seed + seeds):
        for name, kind in KINDS.items():
            z2g.manual_seed(seed)
            form = kind(len(tokenizer))
            model = nn.Sequential(form, nn.Linear(form.size, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, len(tokenizer)))
            train(name, model.to(args.device), ids, steps, args)
            losses[name].append(held_out(model, unseen, args.device))
            weights[name] = sum(p.numel() for p in model.parameters())
    for name, values in losses.items():
        print(f"{name:7s} held-out loss {[round(value, 3) for value in values]}, {weights[name]} weights")
    mean = {name: sum(values) / seeds for name, values in losses.items()}
    if not args.no_plot:
        drawn = [i for i, letter in enumerate(tokenizer.characters) if letter.islower() or letter.isspace()]
        vectors = form.letter.weight.detach().cpu().numpy()[drawn]  # (n, C), of the last net
        vectors = vectors - vectors.mean(axis=0)
        plane = vectors @ np.linalg.svd(vectors, full_matrices=False)[2][:2].T  # PCA: (n, C) @ (C, 2) -> (n, 2)
        with common.picture(args.out / "13_embedding_conv.png", columns=2, width=10) as (left, right):
            left.barh([f"{name}\n{n} weights" for name, n in weights.items()], list(mean.values()))
            left.set(title="shorter is better", xlabel="held-out loss (nats per letter)", ylim=(4.5, -0.5))
            for i, value in enumerate(mean.values()):
                left.text(value, i, f"{value:.2f} ", ha="right", va="center", color="white")
            right.scatter(*plane.T, s=0)  # sets the limits
            for i, (x, y) in zip(drawn, plane, strict=True):
                letter = tokenizer.characters[i].replace("\n", "¶").replace(" ", "␣")
                right.text(x, y, letter, color="C3" if letter in "aeiou" else "C0" if letter.islower() else "C7")
            right.set(title="vectors of vowels (red) and consonants (blue),\nof the space ␣ and the line's end ¶")
            right.set(xlabel="direction of largest spread", ylabel="direction of second largest spread")
    if steps >= 1500:
        low, high = ({name: pick(values) for name, values in losses.items()} for pick in (min, max))
        numbers, vectors, average, filters, placed = (f"{mean[name]:.2f} {name}" for name in KINDS)
        common.claim(high["vectors"] < low["numbers"] - 0.5, f"{numbers} > {vectors}")
        order = low["average"] > high["filters"] and low["filters"] > high["placed"]
        common.claim(order, f"{average} > {filters} > {placed}")
        common.claim(low["placed"] > high["vectors"], "yet {vectors} weights do better than {placed}".format(**weights))
    common.result(**{name: f"{value:.4f}" for name, value in mean.items()})


if __name__ == "__main__":
    main()
