"""The few numeric routines where composing small operations costs much: forward and backward on plain arrays.

Each is written once in `reference.py`, on whichever library its arrays belong to. For some there is a CUDA version of
the same name in `cuda/`, for some a loop in `compiled/` that Numba compiles. Which one computes is decided here, by the
type and the size of the first argument, so that the operations built on these never ask. A kernel knows nothing of
tensors or graphs: it takes arrays and returns arrays, and an operation makes a rule of it.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from ..gpu import kernels as cuda
from . import channels, loops, pooling, quantized, recurrent, reference
from .reference import dropout_mask, finite_max, log_of_sum

LARGE = loops.LARGE
MANY, FEW = 2**17, 2**11  # multiplications from which a product is shared; numbers of its first factor
FLOAT32 = np.dtype(np.float32)


def either(name: str, asked: int = 0, least: int = LARGE) -> Callable:
    """The routine `name`: for CuPy's arrays the one in `cuda`; for NumPy's the one in `compiled`, if they are large,
    float32, and Numba is there; else the reference. It is the argument number `asked`, an array or a list of arrays,
    that tells. (The look costs 0.1 µs.) `least`: how large is large."""
    plain = next(getattr(file, name) for file in (reference, recurrent, channels, pooling) if hasattr(file, name))
    on_gpu = getattr(cuda, name, plain)

    @functools.wraps(plain)
    def routine(*args: Any) -> Any:
        a = args[asked]
        if isinstance(a, np.ndarray):
            if a.size < least or a.dtype is not FLOAT32:
                return plain(*args)
        else:
            arrays = a if isinstance(a, list) else [a]
            if not isinstance(arrays[0], (np.ndarray, np.generic)):
                words = getattr(arrays[0], "_words", None)  # a tensor, in a walk that is recorded
                return (getattr(words, name, plain) if words else on_gpu)(*args)
            if sum([x.size for x in arrays]) < least:
                return plain(*args)
        compiled = loops.ready or loops.load()
        return getattr(compiled or reference, name, plain)(*args)

    return routine


def product(a: Any, b: Any, row: Any = None) -> Any:
    """z = a b for two matrices (arrays, or tensors), (n, k) and (k, m) -> (n, m); plus `row` (m,) in each row, if any.

    NumPy's dot gives what a @ b does in 0.4 instead of 0.95 µs for small ones: a tenth of the time of training a small
    network. (To the last bit, but for matrices that lie in memory as BLAS cannot read them.)
    """
    if type(a) is np.ndarray:
        if a.size >= FEW and a.size * b.shape[1] >= MANY and a.dtype is FLOAT32:
            compiled = loops.ready or loops.load()
            if compiled is not None:
                return compiled.product(a, b, row)
        z = a.dot(b)
    elif words := getattr(a, "_words", None):
        z = words.bmm(a, b)
    else:
        z = cuda.product(a, b)
    if row is not None:
        z += row
    return z


def each(function: Callable[[Any], object], blocks: list, numbers: int) -> None:
    """function(block) for each; where there are compiled loops, several threads take one block after the other.

    `function` works on so many `numbers` in all, and changes nothing that it has with another block in common.
    """
    many = len(blocks) > 1 and numbers >= LARGE
    ((many and (loops.ready or loops.load())) or reference).each(function, blocks)


def weight_and_bias(grad: Any, x: Any) -> tuple[Any, Any]:
    """The gradients of W and b in x Wᵀ + b, gradᵀ x and Σ grad: (n, out), (n, in) -> (out, in), (out,)."""
    compiled = loops_for(x)
    return compiled.weight_and_bias(grad, x) if compiled else (product(grad.T, x), column_sums(grad))


def loops_for(x: Any) -> Any:
    """The loops, if they would take x, a large array of NumPy's in float32, and Numba is there; else None."""
    large = isinstance(x, np.ndarray) and x.size >= LARGE and x.dtype is FLOAT32
    return loops.ready or loops.load() if large else None


def scaled_layer_norm(a: Any, eps: float, w: Any, b: Any) -> tuple[Any, Any, Any]:
    """z = n w + b, and n and r of `layer_norm`: a (N, C), w and b (C,) or None. In loops one pass over memory."""
    if w is not None and (compiled := loops_for(a)):
        return compiled.scaled_layer_norm(a, eps, w, b)
    n, r = layer_norm(a, eps)
    return scale_shift(n, w, b), n, r


def scaled_layer_norm_backward(g: Any, n: Any, r: Any, w: Any) -> tuple[Any, Any, Any]:
    """The gradients of a, w and b in `scaled_layer_norm`: (N, C), (C,), (C,)."""
    if w is not None and (compiled := loops_for(g)):
        return compiled.scaled_layer_norm_backward(g, n, r, w)
    scaled = g if w is None else scale_shift(g, w, None)
    return layer_norm_backward(scaled, n, r), column_sums(g, n), column_sums(g)


def by_example(x: Any) -> bool:
    """Whether x (L, N, C) lies in memory as (N, L, C), and loops would read it there, where NumPy would copy it."""
    by_step = x.flags.c_contiguous or not x.swapaxes(0, 1).flags.c_contiguous
    return not by_step and loops_for(x) is not None


def shares(n: int, numbers: int) -> list[slice]:
    """0..n, cut into as many slices as threads may share work on so many `numbers`: for `each`."""
    return ((numbers >= LARGE and (loops.ready or loops.load())) or reference).shares(n)


def convolution(x: Any, groups: int) -> Any:
    """Where `conv` and `conv_weight` are for such an x; None where there are none, as for CuPy's arrays."""
    return loops_for(x) if groups == 1 else None


def with_quants(name: str) -> Callable:
    """The routine of `quantized` of that name, or the one in `compiled` for NumPy's arrays, if the weights are many."""
    plain = getattr(quantized, name)

    @functools.wraps(plain)
    def routine(x: Any, quants: Any, *rest: Any) -> Any:
        compiled = isinstance(x, np.ndarray) and quants.size >= LARGE and (loops.ready or loops.load())
        return (getattr(compiled, f"quantized_{name}") if compiled else plain)(x, quants, *rest)

    return routine


adam_all = either("adam_all")
add_part = either("add_part", asked=2)
add_at_best = either("add_at_best", least=2**12)
add_windows = either("add_windows")
attention = either("attention")
attention_backward = either("attention_backward")
batch_norm = either("batch_norm")
batch_norm_backward = either("batch_norm_backward")
bmm = either("bmm")
clip = either("clip")
column_sums = either("column_sums")
cross_entropy = either("cross_entropy")
dropout = either("dropout")
erf = either("erf")
fill = either("fill")
gelu_exact = either("gelu_exact")
gelu_tanh = either("gelu_tanh")
gru = either("gru")
gru_backward = either("gru_backward")
layer_norm = either("layer_norm")
layer_norm_backward = either("layer_norm_backward")
log_softmax = either("log_softmax")
lstm = either("lstm")
lstm_backward = either("lstm_backward")
max_windows = either("max_windows", least=2**12)
norm = either("norm")
product_and_column_sums = either("product_and_column_sums")
put_part = either("put_part")
quantized_product = with_quants("product")
quantized_product_transposed = with_quants("product_transposed")
relu = either("relu")
relu_backward = either("relu_backward")
rms_norm = either("rms_norm")
rms_norm_backward = either("rms_norm_backward")
rotate = either("rotate")
set_numbers = either("set_numbers")
rnn = either("rnn")
rnn_backward = either("rnn_backward")
scale_shift = either("scale_shift")
sgd = either("sgd")
softmax = either("softmax")
softmax_backward = either("softmax_backward")
squared_distance = either("squared_distance")
sum_rows_by_id = either("sum_rows_by_id", asked=1)
times = either("times")
total = either("total")
unscale = either("unscale")
