"""Attention's scores are divided by the root of the wrong size.

    softmax(q kᵀ / √k.shape[0])        shape[0] is the head size of keys (hs, T), and the batch of keys (B, T, hs)

The scores must be divided by √hs, the head size, to stay of order 1. By √B the net learns as well, around that factor:
the loss falls, and tests pass with the batch they were written for. But what the net answers depends on how many others
are asked in the same batch; asked one by one it is another net than the trained one.
"""

from plaque import course, fit, plaque

import tinygrad_z2g as z2g
from tinygrad_z2g import nn

T, C, B = 8, 16, 64


class Model(nn.Module):
    """Numbers (B, T) -> (B, T): one head that looks at all places."""

    def __init__(self, axis: int):
        super().__init__()
        self.axis, self.place = axis, nn.Embedding(T, C)
        self.query, self.key, self.value, self.out = (nn.Linear(n, C) for n in (C, C, 1, C))

    def forward(self, x: z2g.Tensor) -> z2g.Tensor:
        h = x[..., None] + self.place.weight  # (B, T, 1) + (T, C) -> (B, T, C)
        q, k, v = self.query(h), self.key(h), self.value(x[..., None])
        scores = q @ k.transpose(-2, -1) / k.shape[self.axis] ** 0.5  # (B, T, C) @ (B, C, T); axis 0 is the mistake
        return self.out(z2g.softmax(scores, dim=-1) @ v).mean(dim=-1)  # (B, T, T) @ (B, T, C) -> (B, T)


def loss_of(model: Model, x: z2g.Tensor) -> z2g.Tensor:
    """Each place shall tell the mean of itself and its two neighbours."""
    return nn.functional.mse_loss(model(x), (x + x.roll(1, 1) + x.roll(-1, 1)) / 3)


def train(axis: int) -> tuple[list[float], float, float]:
    """The loss before each step; that of 64 lines asked one by one; how far one line's answer moves with company."""
    z2g.manual_seed(1)
    model = Model(axis)
    losses = fit(model, lambda: loss_of(model, z2g.randn(B, T)), 300, 0.02)
    x = z2g.randn(B, T)
    with z2g.no_grad():
        alone = sum(loss_of(model, x[i : i + 1]).item() for i in range(B)) / B
        return losses, alone, (model(x)[:1] - model(x[:1])).abs().max().item()


(bad, bad_alone, moved), (good, good_alone, stayed) = train(0), train(-1)
plaque(
    seen=course(bad, good) | {"loss, one line at a time": (bad_alone, good_alone)},
    check={"answer to one line, alone or in company": (moved, stayed)},
    fix="divide by the root of k.shape[-1]",
)
assert bad[-1] < bad[0] / 4 and bad_alone > 3 * bad[-1] and good_alone < 1.5 * good[-1]
assert moved > 0.1 and stayed < 1e-5
