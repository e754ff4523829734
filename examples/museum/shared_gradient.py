"""The rule of a + b hands one and the same array to a and to b.

A letter's vector and its place's vector are added, h = tok + pos, so ∂L/∂tok = ∂L/∂pos = ∂L/∂h: equal numbers, and
it saves memory to pass on the same array. Then somebody changes one of the two in place: here tok was trained before
and shall learn 100 times more slowly, `tok.grad *= 0.01`. Now pos crawls as well. Clipping, unscaling and weight decay
in place do the same. The loss falls, and one looks for a better learning rate.
"""

import numpy as np
from plaque import plaque


class Leaf:
    def __init__(self, value: np.ndarray):
        self.value, self.grad = value, None


def wrong(tok: Leaf, pos: Leaf, dh: np.ndarray) -> None:
    tok.grad = dh
    pos.grad = dh  # the mistake: two owners of one array


def right(tok: Leaf, pos: Leaf, dh: np.ndarray) -> None:
    tok.grad = dh
    pos.grad = dh.copy()


target = np.random.default_rng(1).standard_normal((8, 4))


def train(backward) -> list[float]:
    """The loss before each step of descent."""
    tok, pos, losses = Leaf(np.zeros((8, 4))), Leaf(np.zeros((8, 4))), []
    for _ in range(100):
        error = tok.value + pos.value - target
        losses.append(float(np.mean(error**2)))
        backward(tok, pos, 2 * error)
        tok.grad *= 0.01  # meant for tok alone
        for leaf in (tok, pos):
            leaf.value -= 0.05 * leaf.grad
    return losses


def stays(backward) -> bool:
    """Whether pos keeps its gradient while that of tok is changed."""
    tok, pos = Leaf(np.zeros(2)), Leaf(np.zeros(2))
    backward(tok, pos, np.ones(2))
    tok.grad *= 0
    return bool((pos.grad == 1).all())


losses = {f: train(f) for f in (wrong, right)}
first, slow, good = losses[right][0], losses[wrong][-1], losses[right][-1]
plaque(
    seen={"loss at the start": (first, first), "loss at the end": (slow, good)},
    check={"zero tok.grad: does pos.grad stay?": (stays(wrong), stays(right))},
    fix="who stores an array that somebody else holds, stores a copy (engine.deposit)",
)
assert slow < first and good < slow / 100 and not stays(wrong) and stays(right)
