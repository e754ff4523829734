"""The operations, each a function: its result in one line, and beside it the rule of each input.

They are called as attributes of this module, `ops.softmax(x, -1)`, never imported one by one from here: for faster
forms of the same name and signature take their place (`fast/forms.py` has the list), and casts wrap them (`half`).
"""

from .elementwise import (
    add,
    div,
    eq,
    exp,
    ge,
    gelu,
    gt,
    le,
    log,
    lt,
    masked_fill,
    mul,
    ne,
    neg,
    pow,
    relu,
    sigmoid,
    sqrt,
    sub,
    tanh,
    where,
)  # fmt: skip
