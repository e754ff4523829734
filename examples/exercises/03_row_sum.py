"""Exercise 3: a sum, whose gradient is a copy.

zᵢ = Σⱼ xᵢⱼ, (N, C) -> (N,). Each xᵢⱼ moves zᵢ by just as much as itself, so all of row i receive gradᵢ. With N = C
the transposed answer has the right shape and is wrong: NumPy and torch align shapes at their right end.

Hint: grad needs an axis of size 1 before it can be spread: unsqueeze, then expand_as.

Written? `python examples/exercises/03_row_sum.py` measures it.
Ours, with its derivation: `python -m tinygrad_z2g.learn sum`.
"""

from checking import check

import tinygrad_z2g as z2g
from tinygrad_z2g.autograd import Function


class RowSum(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sum(dim=1)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        raise NotImplementedError("return the gradient of x, of shape (N, C)")


if __name__ == "__main__":
    check(RowSum.apply, z2g.randn(4, 4))
