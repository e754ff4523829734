"""A gradient is transposed, and the input is square, so no shape complains.

    s = x.sum(axis=1)        ∂L/∂x[i, j] = ∂L/∂s[i]: down the rows, the same in each column

`np.broadcast_to(grad, x.shape)` puts grad[j] there instead: NumPy aligns shapes at their right end. With 8 samples of 5
numbers that is an error at once; with 8 of 8 it runs, and sample 3 pays for the mistakes of column 3.
"""

import numpy as np
from plaque import course, plaque

import tinygrad_z2g as z2g
from tinygrad_z2g.core.engine import record
from tinygrad_z2g.gradcheck import compare

N = 8
rng = np.random.default_rng(1)
x = z2g.tensor(rng.standard_normal((N, N)) + 0.5)
t = z2g.tensor(rng.standard_normal(N) + 3)


def wrong(x: z2g.Tensor) -> z2g.Tensor:
    shape = x.array.shape
    return record("row_sum", x.array.sum(1), (x, lambda grad: np.broadcast_to(grad, shape)))  # the mistake


def right(x: z2g.Tensor) -> z2g.Tensor:
    shape = x.array.shape
    return record("row_sum", x.array.sum(1), (x, lambda grad: np.broadcast_to(grad[:, None], shape)))  # (N,) -> (N, 1)


def train(row_sum) -> list[float]:
    """The loss before each step of descent: y = Σ tanh(x W), one number for each sample."""
    W, losses = z2g.zeros(N, N, dtype=z2g.float64, requires_grad=True), []
    for _ in range(300):
        loss = ((row_sum((x @ W).tanh()) - t) ** 2).mean()  # (N, N) @ (N, N) -> (N,)
        W.grad = None
        loss.backward()
        W = (W - 0.01 * W.grad).detach().requires_grad_()
        losses.append(loss.item())
    return losses


def off(row_sum, columns: int) -> float:
    """How far the gradient is from finite differences. NaN where it has no right shape at all."""
    try:
        return compare(row_sum, z2g.tensor(rng.standard_normal((N, columns)), requires_grad=True)).error
    except ValueError:
        return float("nan")


bad, good = train(wrong), train(right)
square, oblong = ((off(wrong, n), off(right, n)) for n in (8, 5))
check = {"8 x 8: off from finite differences by": square, "8 x 5: the same; nan: does not run": oblong}
plaque(course(bad, good), check, fix="put the summed axis back before broadcasting: grad[:, None]")
assert bad[-1] < bad[0] / 2 and bad[-1] > 3 * good[-1]
assert square[0] > 0.1 and np.isnan(oblong[0]) and max(square[1], oblong[1]) < 1e-8
