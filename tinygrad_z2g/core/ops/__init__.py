"""The operations, each a function: its result in one line, and beside it the rule of each input.

They are called as attributes of this module, `ops.softmax(x, -1)`, never imported one by one from here: for faster
forms of the same name and signature take their place (`fast/forms.py` has the list), and casts wrap them (`half`).
"""

# isort: off
from typing import TYPE_CHECKING

from .elementwise import add, div, exp, gelu, log, masked_fill, mul, neg, pow, relu, sigmoid, sub, tanh
from .network import (
    cross_entropy, dropout, embedding, layer_norm, linear, matmul, scaled_dot_product_attention, softmax,
)  # fmt: skip
from .shape import cat, getitem, mean, reshape, split, sum, transpose

if TYPE_CHECKING:  # put here by the file itself
    from ...nn.rotary import rotary_angles, rotary_embedding
