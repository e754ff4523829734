"""The mean of the loss counts the padding.

Lines of different length are padded to one length, and places that are padding have loss 0. Their sum divided by *all*
places is small where the batch is mostly padding. The loss falls and looks better than it is; letters in long batches
count for more than letters in short ones, and nobody can compare two runs that pad differently.
"""

from plaque import course, fit, plaque

import tinygrad_z2g as z2g
from tinygrad_z2g import nn

V, PAD = 6, -100


def wrong(logits: z2g.Tensor, targets: z2g.Tensor) -> z2g.Tensor:
    each = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=PAD, reduction="none")
    return each.mean()  # the mistake


def right(logits: z2g.Tensor, targets: z2g.Tensor) -> z2g.Tensor:
    each = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=PAD, reduction="none")
    return each.sum() / (targets != PAD).sum()


def batch(longest: int = 20) -> tuple[z2g.Tensor, z2g.Tensor]:
    """Eight lines of 2 to 20 letters, each mostly the letter before it plus 1: inputs and targets (8, T)."""
    lengths = z2g.randint(2, longest + 1, (8, 1))
    ids = (z2g.randint(0, V, (8, 1)) + z2g.arange(longest + 1) + (z2g.rand(8, longest + 1) < 0.2).long()) % V
    beyond = z2g.arange(longest) >= lengths  # (T,) >= (8, 1) -> (8, T)
    return ids[:, :-1], ids[:, 1:].masked_fill(beyond, PAD)


def train(loss_of) -> tuple[list[float], float]:
    """The loss before each step, and the true loss per letter of the result."""
    z2g.manual_seed(1)
    table = nn.Embedding(V, V)  # the logits of the next letter for each letter

    def loss() -> z2g.Tensor:
        inputs, targets = batch()
        return loss_of(table(inputs), targets)

    losses = fit(table, loss, 300, 0.03)
    inputs, targets = batch(2000)
    return losses, right(table(inputs), targets).item()


def padded(loss_of) -> float:
    """The loss of a batch padded to twice its length, over the loss before. Should be 1."""
    logits, targets = z2g.randn(4, 5, V), z2g.randint(0, V, (4, 5))
    more = z2g.cat([logits, z2g.randn(4, 5, V)], dim=1), z2g.cat([targets, z2g.full((4, 5), PAD)], dim=1)
    return loss_of(*more).item() / loss_of(logits, targets).item()


(bad, bad_true), (good, good_true) = train(wrong), train(right)
ratio = padded(wrong), padded(right)
seen = course(bad, good) | {"the true loss per letter": (bad_true, good_true)}
plaque(seen, {"loss with padding / loss without": ratio}, fix="divide by the number of places that count")
assert bad[-1] < good[-1] and bad[-1] < 0.8 * bad_true and abs(ratio[0] - 0.5) < 1e-5 and abs(ratio[1] - 1) < 1e-5
