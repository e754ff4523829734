"""A table that is random and not among the parameters.

The vectors for the places are made as a plain tensor (or kept in a plain list in frameworks that do not look there).
They are random, so the net can tell the places apart, and learns; but they never learn themselves. Nobody misses what
is not listed, and it is not saved either: loaded again, the model gets other random numbers.
"""

from plaque import course, fit, plaque

import tinygrad_z2g as z2g
from tinygrad_z2g import nn

T, C = 12, 4


class Wrong(nn.Module):
    """Ids (B, T) -> logits (B, T, 2): is this letter the one that belongs to this place?"""

    def __init__(self):
        super().__init__()
        self.letter, self.place = nn.Embedding(T, C), z2g.randn(T, C)  # the mistake
        self.out = nn.Linear(C, 2)

    def forward(self, ids: z2g.Tensor) -> z2g.Tensor:
        return self.out((self.letter(ids) * self.place).tanh())  # (B, T, C) * (T, C) -> (B, T, 2)


class Right(Wrong):
    def __init__(self):
        super().__init__()
        self.place = nn.Parameter(self.place)


def train(kind: type[nn.Module]) -> tuple[list[float], nn.Module, bool]:
    """The loss before each step, the model, and whether the table moved."""
    z2g.manual_seed(1)
    model = kind()
    start = model.place.clone()

    def at_home() -> z2g.Tensor:
        ids = z2g.where(z2g.rand(32, T) < 0.5, z2g.arange(T), z2g.randint(0, T, (32, T)))
        return nn.functional.cross_entropy(model(ids).flatten(0, 1), (ids == z2g.arange(T)).long().flatten())

    return fit(model, at_home, 300, 0.02), model, bool((model.place != start).any())


(bad, wrong, bad_moved), (good, right, good_moved) = train(Wrong), train(Right)
counts = [sum(p.numel() for p in model.parameters()) for model in (wrong, right)]
listed = ["place" in model.state_dict() for model in (wrong, right)]
plaque(
    seen=course(bad, good),
    check={
        f"weights; on paper {T * C} + {T * C} + {2 * C + 2} = {2 * T * C + 2 * C + 2}": tuple(counts),
        "in the state_dict?": tuple(listed), "did it move?": (bad_moved, good_moved),
    },
    fix="nn.Parameter(...) or nn.Embedding; count the weights on paper first",
)  # fmt: skip
assert good[-1] < bad[-1] < 0.9 * bad[0] and counts == [58, 106] and listed == [False, True]
assert not bad_moved and good_moved
