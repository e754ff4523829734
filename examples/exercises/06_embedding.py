"""Exercise 6: a table that is read at some rows, at some of them twice.

z = table[ids], (V, C), (N,) -> (N, C). A row that nobody read receives nothing; one that was read twice receives two
gradients, which add up. `g[ids] = grad` keeps only the last of them.

Hint: start from zeros like the table; `scatter_add` along dim 0 adds, with ids spread to the shape of grad. The ids
receive None.

Written? `python examples/exercises/06_embedding.py` measures it.
Ours, with its derivation: `python -m tinygrad_z2g.learn embedding`.
"""

from checking import check

import tinygrad_z2g as z2g
from tinygrad_z2g.autograd import Function


class Embedding(Function):
    @staticmethod
    def forward(ctx, table, ids):
        ctx.save_for_backward(table, ids)
        return table[ids]

    @staticmethod
    def backward(ctx, grad):
        table, ids = ctx.saved_tensors
        raise NotImplementedError("return the gradient of the table, and None for the ids")


if __name__ == "__main__":
    check(Embedding.apply, z2g.randn(4, 3), z2g.tensor([1, 2, 1, 0, 1]))
