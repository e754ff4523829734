"""log(softmax(x)), mended with a small number.

exp(1000) is infinite, so one subtracts the maximum; then softmax gives 0 for what is unlikely and log gives -inf, so
one adds 1e-9. No NaN any more, and the loss falls. But a sample that is wrong by more than 20 nats has an output of 0
plus 1e-9: a constant. Its gradient is 0. Just the worst samples are those that nobody learns.
"""

import numpy as np
from plaque import course, plaque

import tinygrad_z2g as z2g

rng = np.random.default_rng(1)
x = rng.standard_normal((200, 10)) * 30  # features that nobody scaled
labels = (x @ rng.standard_normal((10, 4))).argmax(1)  # (200, 10) @ (10, 4) -> (200,)
start = rng.standard_normal((10, 4))


def wrong(logits: z2g.Tensor, labels: np.ndarray) -> z2g.Tensor:
    e = z2g.exp(logits - logits.amax(dim=1, keepdim=True))
    p = e / e.sum(dim=1, keepdim=True)
    return -z2g.log(p[np.arange(len(labels)), labels] + 1e-9).mean()  # the mistake


def right(logits: z2g.Tensor, labels: np.ndarray) -> z2g.Tensor:
    log_p = logits - z2g.logsumexp(logits, dim=1, keepdim=True)  # the logarithm is taken before anything underflows
    return -log_p[np.arange(len(labels)), labels].mean()


def train(cross_entropy) -> tuple[list[float], float]:
    """The loss before each step, and the share of samples that are classified right in the end."""
    W, losses = z2g.tensor(start, requires_grad=True), []
    for _ in range(300):
        loss = cross_entropy(z2g.tensor(x) @ W, labels)  # (200, 10) @ (10, 4)
        loss.backward()
        W = (W - 0.01 * W.grad).detach().requires_grad_()
        losses.append(loss.item())
    return losses, float(((x @ W.detach().numpy()).argmax(1) == labels).mean())


def at_a_thousand(cross_entropy) -> tuple[float, float]:
    """Loss and first gradient for logits (1000, 0) and label 1. On paper: 1000 and 1."""
    logits = z2g.tensor([[1000.0, 0.0]], requires_grad=True)
    loss = cross_entropy(logits, np.array([1]))
    loss.backward()
    return loss.item(), logits.grad[0, 0].item()


(bad, bad_share), (good, good_share) = train(wrong), train(right)
loss, slope = zip(at_a_thousand(wrong), at_a_thousand(right), strict=True)
plaque(
    seen=course(bad, good) | {"classified right": (bad_share, good_share)},
    check={"loss at (1000, 0), should be 1000": loss, "its gradient, should be 1": slope},
    fix="log_softmax(x) = x - logsumexp(x), in one piece",
)
assert bad[-1] < bad[0] / 2 and bad_share < good_share and loss[1] == 1000 and slope == (0, 1)
