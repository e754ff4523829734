"""Exercise 8: how wrong a guess was.

L = -mean over the rows of ln p[target], p = softmax(x), (N, C), (N,) -> (). With ln p[t] = x[t] - ln Σ e^xⱼ the slope
of each row is what the model believes minus what is true: p - onehot(t). Of N rows each has 1/N of the mean, and grad
is one number.

Hint: `F.one_hot(target, C)`, where C is the number of columns of p; the targets receive None.

Written? `python examples/exercises/08_cross_entropy.py` measures it.
Ours, with its derivation: `python -m tinygrad_z2g.learn cross_entropy`.
"""

from checking import check

import tinygrad_z2g as z2g
from tinygrad_z2g.autograd import Function
from tinygrad_z2g.nn import functional as F


class CrossEntropy(Function):
    @staticmethod
    def forward(ctx, x, target):
        logp = F.log_softmax(x, dim=1)
        ctx.save_for_backward(logp.exp(), target)
        return -logp.gather(1, target.unsqueeze(1)).mean()

    @staticmethod
    def backward(ctx, grad):
        p, target = ctx.saved_tensors
        raise NotImplementedError("return the gradient of x, and None for the targets")


if __name__ == "__main__":
    check(CrossEntropy.apply, z2g.randn(4, 3), z2g.tensor([0, 2, 1, 2]))
