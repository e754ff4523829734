"""Operations on tensors, a family a file. It knows nothing of layers.

Those of `core.ops` are taken from there. Before anybody does, faster forms of the same name take their place, and the
casts of mixed precision are put around them.
"""

from ..core import ops
from ..fast import forms
from ..half.casting import in_float32, in_half

plain = not forms.install()
for name in ("cross_entropy", "exp", "layer_norm", "log", "pow", "softmax", "sum"):
    setattr(ops, name, in_float32(getattr(ops, name)))
if plain:
    for name in ("linear", "matmul", "scaled_dot_product_attention"):  # whose fast forms ask themselves
        setattr(ops, name, in_half(getattr(ops, name)))
