"""Exercise 5: a layer: a product, and a bias that every row shares.

z = x Wᵀ + b, (N, in), (out, in), (out,) -> (N, out). One b was added to each of N rows, so N gradients reach it, and
what is used many times receives the sum.

Hint: for W transpose exercise 4: gradᵀ x. For b sum over the rows.

Written? `python examples/exercises/05_linear.py` measures it.
Ours, with its derivation: `python -m tinygrad_z2g.learn linear`.
"""

from checking import check

import tinygrad_z2g as z2g
from tinygrad_z2g.autograd import Function


class Linear(Function):
    @staticmethod
    def forward(ctx, x, W, b):
        ctx.save_for_backward(x, W)
        return x @ W.T + b

    @staticmethod
    def backward(ctx, grad):
        x, W = ctx.saved_tensors
        raise NotImplementedError("return the gradients of x, W and b")


if __name__ == "__main__":
    check(Linear.apply, z2g.randn(5, 3), z2g.randn(2, 3), z2g.randn(2))
