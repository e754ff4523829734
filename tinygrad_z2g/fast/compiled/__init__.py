"""The routines of `reference.py` as loops that Numba compiles: same names and arguments, same numbers but for rounding.

Where NumPy passes over memory once for each operation, on one thread, a loop passes once for all of them, on several.
What no loop is written for (float64, float16, softmax along another axis than the last, arrays that do not lie in
memory row by row) goes to the reference. They know nothing of tensors or graphs.

No routine's result depends on the number of threads: they share rows, or columns, never a sum.
"""

from .activations import erf, fill, gelu_exact, gelu_tanh, relu, relu_backward, times
from .attending import attention, attention_backward
from .blocks import quantized_product, quantized_product_transposed
from .channels import batch_norm, batch_norm_backward
from .columns import column_sums, product_and_column_sums, scale_shift, sum_rows_by_id, total
from .compiling import cache_folder, prepare
from .convolution import conv, conv_weight
from .distances import squared_distance
from .dropping import dropout
from .gates import gru, gru_backward, lstm, lstm_backward, rnn, rnn_backward
from .jit import threads
from .norms import (
    layer_norm,
    layer_norm_backward,
    rms_norm,
    rms_norm_backward,
    scaled_layer_norm,
    scaled_layer_norm_backward,
)
from .parts import add_part, put_part
from .pooling import add_at_best, max_windows
from .products import UNIT, bmm, each, product, shares, weight_and_bias
from .rotary import rotate
from .rows import cross_entropy, log_softmax, softmax, softmax_backward
from .updates import adam_all, clip, norm, sgd
from .windows import add_windows
