"""The next letter: a net that predicts how a text goes on can write.

Autoregression: show a net the last 16 letters, let it say how likely each letter is to come next, roll a die, append
the letter, and ask again. Here a letter is shown as its number, as the nets before took their x; the answer is one
score per letter, and the loss is -ln of the probability given to the letter that really came. A baseline: who only
knows how often each letter occurs (unigram) has a loss of 3.07. Step 11's lesson returns: on a tenth of the poems the
training loss falls far below the unigram, while on poems that it has not seen the net ends up worse than that. On all
the poems, in the same number of steps, the two losses stay together, so more data is the remedy. The loss is still no
better than that of counting pairs of letters (bigram), with 16 letters to look at: letters are no quantities, "e" is
not halfway between "d" and "f". Step 13 gives them a better form.

    python examples/12_next_letter.py

takes about 20 seconds on 2 CPU cores. The last lines look like this:

    claim: 16 letters help: held-out loss 2.293 < 3.067
    claim: a tenth: training loss 1.735, far below 3.067
    claim: but held out 3.359, worse than the unigram: it overfits
    claim: all poems: 0.062 between training and held-out loss: more data is the remedy
    claim: yet 2.293 > 2.228, that of counting pairs of letters
    result: few_train=1.735 few_val=3.359 all_train=2.230 all_val=2.293 unigram=3.067 bigram=2.228
"""

from __future__ import annotations

from typing import Any

import common
from common import letters, pictures

import tinygrad_z2g as z2g
from tinygrad_z2g import nn, optim, text

CONTEXT = 16  # letters it sees
HIDDEN = 100
BATCH = 100


class NextLetter(nn.Module):
    """Two hidden layers between the numbers of 16 letters and the scores of the letter that follows."""

    def __init__(self, vocabulary: int):
        super().__init__()
        self.vocabulary = vocabulary
        self.layers = nn.Sequential(
            nn.Linear(CONTEXT, HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, vocabulary),
        )

    def forward(self, ids: z2g.Tensor) -> z2g.Tensor:
        x = 2 * ids.float() / (self.vocabulary - 1) - 1  # 0 .. V - 1 -> -1 .. 1
        return self.layers(x)  # (B, 16) -> (B, 100) -> (B, 100) -> (B, V)

    @z2g.no_grad()
    def write(self, start: z2g.Tensor, n: int) -> z2g.Tensor:
        """n letters after `start` (16,), each drawn with the probability that the net gives it, then fed back."""
        ids = start
        for _ in range(n):
            scores = self(ids[-CONTEXT:].unsqueeze(0))  # (1, 16) -> (1, V)
            letter = z2g.multinomial(nn.functional.softmax(scores, dim=-1)[0], 1)  # (V,) -> (1,)
            ids = z2g.cat([ids, letter])
        return ids[CONTEXT:]


def train(name: str, ids: z2g.Tensor, unseen: z2g.Tensor, vocabulary: int, args: Any) -> tuple[NextLetter, list]:
    """A net trained on a text, and the rows (step, loss on that text, loss on an unseen text)."""
    z2g.manual_seed(args.seed)  # both nets start from the same weights
    model = NextLetter(vocabulary).to(args.device)
    optimizer = optim.Adam(model.parameters(), lr=1e-3)

    def measure(step: int) -> tuple[int, float, float]:
        return step, *(letters.held_out_last(model, part, CONTEXT, args.device) for part in (ids, unseen))

    rows = [measure(0)]
    bar = common.progress(args.steps)
    for step in bar:
        inputs, targets = text.random_batch(ids, BATCH, CONTEXT)  # (B, 16), and the same one letter later
        scores = model(inputs.to(args.device))  # (B, V)
        loss = nn.functional.cross_entropy(scores, targets[:, -1].to(args.device))  # the letter after the window: (B,)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % max(1, args.steps // 16) == 0 or step == args.steps:
            rows.append(measure(step))
            bar.write(f"step {step:5d}  loss {rows[-1][1]:.3f}  held-out {rows[-1][2]:.3f}  {name}")
    return model, rows


def main() -> None:
    parser = common.arguments("Predict the next letter from the last 16, and write.", steps=16000)
    parser.add_argument("--letters", type=common.at_least(0), default=240, help="letters to write")
    args = common.parse(parser, steps=1000, letters=60)
    tokenizer, ids, unseen = letters.poems()
    training, validation = tokenizer.decode(ids), tokenizer.decode(unseen)
    V = len(tokenizer)
    unigram, bigram = (text.NGram(n, training, V).cross_entropy(validation) for n in (1, 2))
    print(f"{V} letters; held-out loss of counting letters {unigram:.3f}, of counting pairs {bigram:.3f}")

    texts = {"a tenth": training[: len(training) // 10], "all poems": training}
    rows = {}
    for name, poems in texts.items():
        model, rows[name] = train(name, tokenizer.encode(poems), unseen, V, args)
        start = tokenizer.encode(training[:CONTEXT]).to(args.device)
        sample = training[:CONTEXT] + tokenizer.decode(model.write(start, args.letters))
        copied = text.longest_copy(sample[CONTEXT:], poems)
        print(f"\n{sample}\n\n({name}: the longest run copied from what it read has {copied} letters)\n")

    pictures.next_letter(args, rows, unigram, bigram)
    _, few_train, few_unseen = rows["a tenth"][-1]
    _, all_train, all_unseen = rows["all poems"][-1]
    if args.steps >= 1000:
        common.claim(all_unseen < unigram - 0.3, f"16 letters help: held-out loss {all_unseen:.3f} < {unigram:.3f}")
    if args.steps >= 16000:
        common.claim(few_train < unigram - 1, f"a tenth: training loss {few_train:.3f}, far below {unigram:.3f}")
        common.claim(few_unseen > unigram, f"but held out {few_unseen:.3f}, worse than the unigram: it overfits")
        gap = all_unseen - all_train
        common.claim(gap < 0.1, f"all poems: {gap:.3f} between training and held-out loss: more data is the remedy")
        common.claim(all_unseen > bigram, f"yet {all_unseen:.3f} > {bigram:.3f}, that of counting pairs of letters")
    common.result(
        few_train=f"{few_train:.3f}", few_val=f"{few_unseen:.3f}", all_train=f"{all_train:.3f}",
        all_val=f"{all_unseen:.3f}", unigram=f"{unigram:.3f}", bigram=f"{bigram:.3f}",
    )  # fmt: skip


if __name__ == "__main__":
    main()
