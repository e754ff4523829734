"""Exercise 4: two matrices.

z = x y, zᵢⱼ = Σₖ xᵢₖ yₖⱼ, (n, k) @ (k, m) -> (n, m). In row i of z each xᵢₖ stands in all columns j, times yₖⱼ. So
xᵢₖ receives Σⱼ gradᵢⱼ yₖⱼ: a product of matrices again.

Hint: the shapes leave only one way: grad (n, m), yᵀ (m, k). And for y?

Written? `python examples/exercises/04_matmul.py` measures it.
Ours, with its derivation: `python -m tinygrad_z2g.learn matmul`.
"""

from checking import check

import tinygrad_z2g as z2g
from tinygrad_z2g.autograd import Function


class Matmul(Function):
    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return x @ y

    @staticmethod
    def backward(ctx, grad):
        x, y = ctx.saved_tensors
        raise NotImplementedError("return the gradients of x and of y")


if __name__ == "__main__":
    check(Matmul.apply, z2g.randn(2, 3), z2g.randn(3, 4))
