"""A number that the gradient rule needs is written over before backward.

    h = tanh(x W);  h += x        ∂h/∂(x W) = 1 - tanh² (x W)

The rule of tanh reads its own result, and `h += x`, a residual connection that wants to save memory, has replaced it.
The loss falls as if nothing were wrong, here even further than it should. Only a measurement, or an engine that is
told what the rule reads, notices.
"""

import numpy as np
from plaque import course, plaque

import tinygrad_z2g as z2g
from tinygrad_z2g.core.engine import RESULT, record
from tinygrad_z2g.gradcheck import compare

rng = np.random.default_rng(1)
x = z2g.tensor(rng.standard_normal((40, 3)))
t = z2g.sin(2 * x)
first, second = (z2g.tensor(rng.standard_normal((3, 3))) for _ in range(2))


def wrong(W: z2g.Tensor, *reads) -> z2g.Tensor:
    a = x @ W  # (40, 3) @ (3, 3)
    y = np.tanh(a.array)
    h = record("my_tanh", y, (a, lambda grad, *watched: grad * (1 - y**2), *reads))
    h += x  # the mistake
    return h


def right(W: z2g.Tensor) -> z2g.Tensor:
    a = x @ W
    y = np.tanh(a.array)
    h = record("my_tanh", y, (a, lambda grad, y: grad * (1 - y**2), RESULT))
    return h + x  # a new array


def train(block) -> list[float]:
    """The loss before each step of descent."""
    W, V, losses = first, second, []
    for _ in range(300):
        W, V = (p.detach().requires_grad_() for p in (W, V))
        loss = ((block(W) @ V - t) ** 2).mean()  # (40, 3) @ (3, 3)
        loss.backward()
        W, V = W - 0.1 * W.grad, V - 0.1 * V.grad
        losses.append(loss.item())
    return losses


bad, good = train(wrong), train(right)
off = tuple(compare(block, first.clone().requires_grad_()).error for block in (wrong, right))
plaque(course(bad, good), {"off from finite differences by": off}, fix="h = h + x")
assert bad[-1] < bad[0] / 2 and good[-1] < good[0] / 2 and off[0] > 0.1 and off[1] < 1e-8
try:
    wrong(first.clone().requires_grad_(), RESULT).sum().backward()
except RuntimeError as error:
    print("        record(..., (a, rule, RESULT)) says what the rule reads, and the engine answers to h += x:")
    print(f"        {str(error)[:100]} ...")
else:
    raise AssertionError("the engine did not notice")
