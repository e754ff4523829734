"""Exercise 2: a rule that reads its own result.

z = tanh x has the slope 1 - tanh² x = 1 - z²: what was computed on the way forward serves on the way back, and x
itself need not be kept.

Hint: one product; z was saved.

Written? `python examples/exercises/02_tanh.py` measures it.
Ours, with its derivation: `python -m tinygrad_z2g.learn tanh`.
"""

from checking import check

import tinygrad_z2g as z2g
from tinygrad_z2g.autograd import Function


class Tanh(Function):
    @staticmethod
    def forward(ctx, x):
        z = x.tanh()
        ctx.save_for_backward(z)
        return z

    @staticmethod
    def backward(ctx, grad):
        (z,) = ctx.saved_tensors
        raise NotImplementedError("return the gradient of x")


if __name__ == "__main__":
    check(Tanh.apply, z2g.randn(3, 4))
