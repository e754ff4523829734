"""The causal mask is off by one.

    tril(ones(T, T), diagonal=1)        lets each letter see the next one, which is what it has to predict

The loss falls as never before, in training and on held-out text alike, for both contain the answers. Only when the net
writes by itself, where there is no next letter yet, it turns out to have learned nothing but copying.
"""

from plaque import course, fit, plaque

import tinygrad_z2g as z2g
from tinygrad_z2g import nn

T, V, C = 10, 6, 16


def lines(n: int) -> z2g.Tensor:
    """n lines of T + 1 letters, each mostly the one before plus 1."""
    steps = z2g.where(z2g.rand(n, T + 1) < 0.6, z2g.ones(n, T + 1).long(), z2g.randint(0, V, (n, T + 1)))
    return steps.cumsum(dim=1) % V


class Model(nn.Module):
    """Ids (B, T) -> logits of the next letters (B, T, V): one head of attention."""

    def __init__(self, diagonal: int):
        super().__init__()
        self.letter, self.place, self.diagonal = nn.Embedding(V, C), nn.Embedding(T, C), diagonal
        self.query, self.key, self.value, self.out = (nn.Linear(C, n) for n in (C, C, C, V))

    def forward(self, ids: z2g.Tensor) -> z2g.Tensor:
        x, n = self.letter(ids) + self.place.weight[: ids.shape[1]], ids.shape[1]  # (B, T, C) + (T, C)
        mask = z2g.tril(z2g.ones(n, n), diagonal=self.diagonal)  # 1 is the mistake
        scores = self.query(x) @ self.key(x).transpose(-2, -1) / C**0.5  # (B, T, C) @ (B, C, T) -> (B, T, T)
        return self.out(z2g.softmax(scores.masked_fill(mask == 0, float("-inf")), dim=-1) @ self.value(x))


def loss_of(model: Model, ids: z2g.Tensor) -> z2g.Tensor:
    return nn.functional.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())


def train(diagonal: int) -> tuple[list[float], float, float]:
    """The loss before each step; that of the letter after 5 letters; how far outputs move with a letter after them."""
    z2g.manual_seed(1)
    model = Model(diagonal)
    losses = fit(model, lambda: loss_of(model, lines(64)), 200, 0.02)
    ids = lines(500)
    changed = ids.clone()
    changed[:, 5] = (ids[:, 5] + 1) % V
    with z2g.no_grad():
        writing = nn.functional.cross_entropy(model(ids[:, :5])[:, -1], ids[:, 5]).item()
        moved = (model(ids[:, :-1]) - model(changed[:, :-1]))[:, :5]  # (B, T, V) -> (B, 5, V)
        return losses, writing, moved.abs().max().item()


(bad, bad_writing, leak), (good, good_writing, none) = train(1), train(0)
seen = course(bad, good) | {"loss where no next letter is shown": (bad_writing, good_writing)}
check = {"change letter t: outputs before t move by": (leak, none)}
plaque(seen, check, fix="diagonal=0: a letter sees itself and what came before")
assert bad[-1] < good[-1] / 2 and bad_writing > good_writing + 0.5 and leak > 0.1 and none == 0
