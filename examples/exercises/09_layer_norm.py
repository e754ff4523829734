"""Exercise 9: rows with mean 0 and variance 1.

n = (x - mean) r with r = 1 / √(var + eps), in each row, (N, C) -> (N, C). A shift of the whole row changes nothing,
nor does a stretch of it; so the rule takes out of grad the part that would shift, mean(grad), and the part that would
stretch, n mean(grad n). What is left is scaled by r.

Hint: two means over each row, both with keepdim=True, so that each stays in its row.

Written? `python examples/exercises/09_layer_norm.py` measures it.
Ours, with its derivation: `python -m tinygrad_z2g.learn layer_norm`.
"""

from checking import check

import tinygrad_z2g as z2g
from tinygrad_z2g.autograd import Function


class LayerNorm(Function):
    @staticmethod
    def forward(ctx, x):
        d = x - x.mean(dim=1, keepdim=True)
        r = (d.square().mean(dim=1, keepdim=True) + 1e-5).rsqrt()
        ctx.save_for_backward(d * r, r)
        return d * r

    @staticmethod
    def backward(ctx, grad):
        n, r = ctx.saved_tensors
        raise NotImplementedError("return the gradient of x")


if __name__ == "__main__":
    check(LayerNorm.apply, z2g.randn(3, 5))
