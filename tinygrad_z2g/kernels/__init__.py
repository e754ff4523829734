"""The few numeric routines where composing small operations costs much: forward and backward on plain arrays.

Each is written once in `reference.py`, on whichever library its arrays belong to. A hand-written GPU version of one
will stand beside it under the same name and be picked here, so that the operations built on them never ask which device
they run on. A kernel knows nothing of tensors or graphs: it takes arrays and returns arrays, and an operation makes a
rule of it.
"""

# isort: off
from .reference import (
    adam, attention, attention_backward, cross_entropy, dropout_mask, erf, finite_max, gelu_exact, gelu_tanh,
    layer_norm, layer_norm_backward, log_softmax, lstm, lstm_backward, sgd, softmax, softmax_backward,
    sum_rows_by_id, total,
)  # fmt: skip
