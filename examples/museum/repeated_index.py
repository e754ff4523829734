"""`grad[ids] += g` adds once for each place, not once for each time it is named.

An embedding looks up a row for every letter, and a letter that stands three times in the batch gets three gradients.
NumPy reads `grad[ids] += g` as `grad[ids] = grad[ids] + g`: for a repeated index the last one wins. Rare letters learn
properly, frequent ones too slowly, and the loss falls.
"""

import numpy as np
from plaque import course, plaque

import tinygrad_z2g as z2g
from tinygrad_z2g.core.engine import record
from tinygrad_z2g.gradcheck import compare

text = "the cat sat on the mat and the rat ate the hat " * 4
letters = sorted(set(text))
ids = np.array([letters.index(letter) for letter in text])
V = len(letters)
targets = z2g.tensor(ids[1:])


def look_up(table: z2g.Tensor, ids: np.ndarray, repeats: bool) -> z2g.Tensor:
    def rule(g: np.ndarray) -> np.ndarray:
        grad = np.zeros(shape)
        if repeats:
            np.add.at(grad, ids, g)
        else:
            grad[ids] += g  # the mistake
        return grad

    shape = table.array.shape
    return record("look_up", table.array[ids], (table, rule))


def train(repeats: bool) -> list[float]:
    """The loss before each step: the next letter from the last one, a table of V x V logits."""
    table, losses = z2g.zeros(V, V, dtype=z2g.float64, requires_grad=True), []
    for _ in range(100):
        loss = z2g.nn.functional.cross_entropy(look_up(table, ids[:-1], repeats), targets)
        table.grad = None
        loss.backward()
        table = (table - 5 * table.grad).detach().requires_grad_()
        losses.append(loss.item())
    return losses


def off(repeats: bool) -> float:
    """How far the gradient is from finite differences, where row 0 is looked up twice."""
    table = z2g.randn(3, 2, dtype=z2g.float64, requires_grad=True)
    return compare(lambda table: look_up(table, np.array([0, 2, 0]), repeats), table).error


bad, good = train(False), train(True)
error = off(False), off(True)
plaque(course(bad, good), {"ids 0, 2, 0: off from differences by": error}, fix="np.add.at(grad, ids, g)")
assert good[-1] + 0.1 < bad[-1] < bad[0] - 0.1 and error[0] > 0.1 and error[1] < 1e-8
