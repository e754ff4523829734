"""Exercise 1: the rule of a product.

z = x y, element by element. Moving x by h moves z by h y, so ∂z/∂x = y. `grad` is ∂L/∂z, and the chain rule makes of
it what x and y receive.

Hint: two products. Which of the two reads y?

Written? `python examples/exercises/01_mul.py` measures it.
Ours, with its derivation: `python -m tinygrad_z2g.learn mul`.
"""

from checking import check

import tinygrad_z2g as z2g
from tinygrad_z2g.autograd import Function


class Mul(Function):
    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return x * y

    @staticmethod
    def backward(ctx, grad):
        x, y = ctx.saved_tensors
        raise NotImplementedError("return the gradients of x and of y")


if __name__ == "__main__":
    check(Mul.apply, z2g.randn(3, 4), z2g.randn(3, 4))
