"""The future is masked "where the score equals 0".

    scores = tril * scores;  scores[scores == 0] = -1e9        (in much code that people copy)

A score can be 0 on its own: a padding letter has a zero vector, a ReLU can silence a query. Then a row of the past is
masked as well, and softmax over nothing but -1e9 is uniform, over *all* places: that letter sees the future. Scores of
random letters are never exactly 0, so the usual test passes, and the loss falls even further.
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


class Model(nn.Module):  # ids (B, T), 0 for padding -> logits (B, T, 9)
    def __init__(self, mask):
        super().__init__()
        self.letter, self.mask = nn.Embedding(9, C, padding_idx=0), mask
        self.query, self.key, self.value, self.out = (nn.Linear(C, n, bias=False) for n in (C, C, C, 9))

    def forward(self, ids: z2g.Tensor) -> z2g.Tensor:
        x = self.letter(ids)
        scores = self.query(x) @ self.key(x).transpose(-2, -1) / C**0.5  # (B, T, C) @ (B, C, T) -> (B, T, T)
        return self.out(z2g.softmax(self.mask(scores), dim=-1) @ self.value(x) + x)


def loss_of(model: Model) -> z2g.Tensor:
    kind = z2g.randint(1, 9, (32, 1))
    ids = kind * (z2g.rand(32, T + 1) < 0.5)  # (32, 1) -> (32, T + 1): one letter, and padding in between
    return nn.functional.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())


def train(mask) -> tuple[list[float], float, float]:
    """The loss before each step; then how far outputs move with a letter behind them, without and with padding."""
    z2g.manual_seed(1)
    model = Model(mask)
    losses, moved = fit(model, lambda: loss_of(model), 200), []
    for ids in (range(1, 8), [0] * 7):
        a, b = (model(z2g.tensor([[*ids, last]])) for last in (1, 2))
        moved.append((a - b)[:, :-1].abs().max().item())
    return losses, *moved


(bad, *b), (good, *g) = train(wrong), train(right)
check = {"change letter t: outputs before t move by": (b[0], g[0]), "the same behind padding": (b[1], g[1])}
plaque(course(bad, good), check, fix="mask by position: scores.masked_fill(tril == 0, -inf)")
assert bad[-1] < good[-1] < good[0] / 1.5 and b[0] == g[0] == g[1] == 0 and b[1] > 0.1
