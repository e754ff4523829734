"""Exercise 7: probabilities that share one sum.

pᵢ = e^xᵢ / Σⱼ e^xⱼ in each row, (N, C) -> (N, C). Raising xⱼ raises pⱼ and lowers all others: ∂pᵢ/∂xⱼ = pᵢ ([i = j] -
pⱼ). Written out over i, that is p (grad - Σ p grad), with one sum for each row.

Hint: keepdim=True keeps the sum of a row in its row.

Written? `python examples/exercises/07_softmax.py` measures it.
Ours, with its derivation: `python -m tinygrad_z2g.learn softmax`.
"""

from checking import check

import tinygrad_z2g as z2g
from tinygrad_z2g.autograd import Function


class Softmax(Function):
    @staticmethod
    def forward(ctx, x):
        e = (x - x.amax(dim=1, keepdim=True)).exp()
        p = e / e.sum(dim=1, keepdim=True)
        ctx.save_for_backward(p)
        return p

    @staticmethod
    def backward(ctx, grad):
        (p,) = ctx.saved_tensors
        raise NotImplementedError("return the gradient of x")


if __name__ == "__main__":
    check(Softmax.apply, z2g.randn(3, 5))
