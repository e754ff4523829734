"""The net ends with a softmax, and cross-entropy applies another.

The logits of the second softmax are then between 0 and 1, so the largest probability it can give, among 10 classes, is
e / (e + 9) = 0.23: the loss cannot fall below 1.46 however right the net is. It falls, most answers are right, and so
nobody looks; but where the net is sure and wrong, two softmaxes let hardly any gradient through.
"""

import math

from plaque import course, fit, plaque

import tinygrad_z2g as z2g
from tinygrad_z2g import nn

K = 10
z2g.manual_seed(1)
centres = 1.5 * z2g.randn(K, 8)
labels = z2g.randint(0, K, (400,))
x = centres[labels] + z2g.randn(400, 8)


def wrong() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 20), nn.ReLU(), nn.Linear(20, K), nn.Softmax(dim=1))  # the mistake


def right() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 20), nn.ReLU(), nn.Linear(20, K))


def train(build) -> tuple[list[float], float]:
    """The loss before each step, and the share of right answers."""
    z2g.manual_seed(1)
    net = build()
    losses = fit(net, lambda: nn.functional.cross_entropy(net(x), labels), 150)
    return losses, (net(x).argmax(dim=1) == labels).float().mean().item()


def perfect(build) -> float:
    """The loss of a net that is right and quite sure. Should be 0."""
    logits = 100.0 * z2g.eye(K)
    for layer in list(build())[3:]:  # what stands behind the last Linear
        logits = layer(logits)
    return nn.functional.cross_entropy(logits, z2g.arange(K)).item()


(bad, bad_share), (good, good_share) = train(wrong), train(right)
best = perfect(wrong), perfect(right)
plaque(
    seen=course(bad, good) | {"answers that are right": (bad_share, good_share)},
    check={"loss of perfect answers, should be 0": best},
    fix="cross_entropy wants logits: no softmax at the end of the net",
)
floor = math.log(1 + (K - 1) / math.e)
assert bad[-1] < bad[0] and good_share > bad_share and abs(best[0] - floor) < 1e-4 and abs(best[1]) < 1e-4
assert good[-1] < 1 < floor < bad[-1]
