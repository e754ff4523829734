"""Exercise 10: each query takes the mean of the values, weighted by how well it matches the keys.

s = q kᵀ / √d, p = softmax(s), z = p v, with (T, d), (S, d), (S, e) -> (T, e). It is exercise 4, exercise 7 and
exercise 4 again, walked backwards: from z to p and v, from p to s, from s to q and k.

Hint: name what arrives at each: grad_v = pᵀ grad; grad_p = grad vᵀ; grad_s as in exercise 7; then q and k, and do not
forget √d.

Written? `python examples/exercises/10_attention.py` measures it.
Ours, with its derivation: `python -m tinygrad_z2g.learn scaled_dot_product_attention`.
"""

from checking import check

import tinygrad_z2g as z2g
from tinygrad_z2g.autograd import Function


class Attention(Function):
    @staticmethod
    def forward(ctx, q, k, v):
        p = (q @ k.T / q.shape[1] ** 0.5).softmax(dim=1)  # (T, d) @ (d, S) -> (T, S)
        ctx.save_for_backward(q, k, v, p)
        return p @ v  # (T, S) @ (S, e) -> (T, e)

    @staticmethod
    def backward(ctx, grad):
        q, k, v, p = ctx.saved_tensors
        raise NotImplementedError("return the gradients of q, k and v")


if __name__ == "__main__":
    check(Attention.apply, z2g.randn(3, 2), z2g.randn(4, 2), z2g.randn(4, 5))
