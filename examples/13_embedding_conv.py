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

import common
from common import letters, pictures

import tinygrad_z2g as z2g
from tinygrad_z2g import nn

T = 16  # letters it sees
WIDTH = 32  # numbers per letter
FILTERS = 64
LENGTH = 5  # letters that a filter covers
HIDDEN = 128


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
        self.filters = nn.Conv1d(WIDTH, FILTERS, LENGTH)
        self.place = nn.Embedding(T, WIDTH) if places else None

    def forward(self, ids: z2g.Tensor) -> z2g.Tensor:
        x = self.letter(ids)  # (B, T) -> (B, T, C)
        if self.place is not None:
            x = x + self.place.weight  # (B, T, C) + (T, C)
        return self.filters(x.transpose(1, 2)).amax(dim=2)  # (B, T, C) -> (B, C, T) -> (B, F, T') -> (B, F)


KINDS = {
    "numbers": Numbers,
    "vectors": Vectors,
    "average": Average,
    "filters": Filters,
    "placed": lambda vocabulary: Filters(vocabulary, places=True),
}


def main() -> None:
    args = common.parse(common.arguments("Embeddings and Conv1d against letters as numbers.", 1500), steps=50)
    seeds = 1 if args.quick else 3
    tokenizer, ids, unseen = letters.poems()
    V = len(tokenizer)
    losses = {name: [] for name in KINDS}
    weights = {}
    for seed in range(args.seed, args.seed + seeds):
        for name, kind in KINDS.items():
            z2g.manual_seed(seed)
            form = kind(V)
            model = nn.Sequential(form, nn.Linear(form.size, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, V)).to(args.device)
            letters.learn(
                f"{name:7s}", model, letters.loss_of_last, ids, T, args.steps, lr=1e-3, device=args.device, lines=4
            )
            losses[name].append(letters.held_out_last(model, unseen, T, args.device))
            weights[name] = letters.weights_in(model)
    for name, values in losses.items():
        print(f"{name:7s} held-out loss {[round(value, 3) for value in values]}, {weights[name]} weights")
    mean = {name: sum(values) / seeds for name, values in losses.items()}
    vectors = form.letter.weight.detach().cpu().numpy()  # (V, C), of the last net
    pictures.embedding_conv(args, mean, weights, tokenizer.characters, vectors)
    if args.steps >= 1500:
        low = {name: min(values) for name, values in losses.items()}
        high = {name: max(values) for name, values in losses.items()}
        numbers, vectors, average, filters, placed = (f"{mean[name]:.2f} {name}" for name in KINDS)
        common.claim(high["vectors"] < low["numbers"] - 0.5, f"{numbers} > {vectors}")
        order = low["average"] > high["filters"] and low["filters"] > high["placed"]
        common.claim(order, f"{average} > {filters} > {placed}")
        common.claim(low["placed"] > high["vectors"], "yet {vectors} weights do better than {placed}".format(**weights))
    common.result(**{name: f"{value:.4f}" for name, value in mean.items()})


if __name__ == "__main__":
    main()
