"""Trap 36. The future is masked "where the score equals 0".

    scores = tril * scores;  scores[scores == 0] = -1e9        (in much code that people copy)

A score can be 0 on its own: a padding letter has a zero vector, a ReLU can silence a query. Then a row of the past is
all 0 as well, is masked as well, and softmax over nothing but -1e9 is uniform, over *all* places: that letter sees the
future. Scores of random letters are never exactly 0, so the usual test passes, and the loss falls even further.
"""

from plaque import course, fit, plaque

import tinygrad_z2g as z2g
from tinygrad_z2g import nn

T, C = 8, 12
past = z2g.tril(z2g.ones(T, T))


def wrong(scores: z2g.Tensor) -> z2g.Tensor:
    scores = scores * past
    return scores.masked_fill(scores == 0, -1e9)  # the mistake


def right(scores: z2g.Tensor) -> z2g.Tensor:
    return scores.masked_fill(past == 0, float("-inf"))


class Model(nn.Module):
    """Ids (B, T), 0 for padding -> logits (B, T, 5), by one head of attention."""

    def __init__(self, mask):
        super().__init__()
        self.letter, self.mask = nn.Embedding(5, C, padding_idx=0), mask
        self.query, self.key, self.value, self.out = (nn.Linear(C, n, bias=False) for n in (C, C, C, 5))

    def forward(self, ids: z2g.Tensor) -> z2g.Tensor:
        x = self.letter(ids)
        scores = self.query(x) @ self.key(x).transpose(-2, -1) / C**0.5  # (B, T, C) @ (B, C, T) -> (B, T, T)
        return self.out(z2g.softmax(self.mask(scores), dim=-1) @ self.value(x) + x)


def train(mask) -> tuple[list[float], tuple[float, float]]:
    """The loss before each step; then how far other outputs move with the last letter, without and with padding."""

    def next_letter() -> z2g.Tensor:  # in each line one letter again and again, and padding in between
        kind = z2g.randint(1, 5, (32, 1))
        ids = z2g.where(z2g.rand(32, T + 1) < 0.5, z2g.zeros_like(kind), kind)  # (32, 1) -> (32, T + 1)
        return nn.functional.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())

    z2g.manual_seed(1)
    model = Model(mask)
    losses, moved = fit(model, next_letter, 200), []
    for ids in ([1, 2, 3, 4, 3, 2, 1], [0, 0, 3, 0, 2, 0, 1]):
        a, b = (model(z2g.tensor([[*ids, last]])) for last in (1, 2))
        moved.append((a - b)[:, :-1].abs().max().item())
    return losses, tuple(moved)


(bad, bad_moved), (good, good_moved) = train(wrong), train(right)
full, padded = zip(bad_moved, good_moved, strict=True)
check = {"change the last letter, others move by": full, "the same behind padding": padded}
plaque(course(bad, good), check, fix="mask by position: scores.masked_fill(tril == 0, -inf)")
assert bad[-1] < good[-1] < good[0] / 2 and full == (0, 0) and padded[0] > 0.01 and padded[1] == 0
