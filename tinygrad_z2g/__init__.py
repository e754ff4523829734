"""tinygrad_z2g: a deep-learning framework small enough to read in an evening. `import tinygrad_z2g as z2g`.

The names are torch's. Start reading at `engine.py`, then `ops/elementwise.py`, then `tensor.py`. Only names are
gathered here: this file knows nothing of how any of them works. `python -m tinygrad_z2g.learn path` prints the order in
which to read the others.
"""

# isort: off
from math import inf, nan, pi

from . import amp, autograd, cuda, distributed, func, nn, optim, random, utils
from .backend import Device as device
from .backend import set_num_threads
from .creation import (
    arange, as_tensor, bernoulli, empty, empty_like, eye, from_numpy, full, full_like, linspace, multinomial,
    normal, ones, ones_like, rand, rand_like, randint, randint_like, randn, randn_like, randperm, tensor, zeros,
    zeros_like,
)  # fmt: skip
from .dtypes import bool_ as bool
from .dtypes import (
    double, float16, float32, float64, get_default_dtype, half, int8, int16, int32, int64, long,
    set_default_dtype, uint8,
)  # fmt: skip
from .draw import draw
from .modes import enable_grad, inference_mode, is_grad_enabled, no_grad, set_grad_enabled
from .gradcheck import gradcheck
from .gradcheck.twice import gradgradcheck
from .ops.elementwise import (
    abs, acos, add, allclose, asin, atan, ceil, clamp, cos, cosh, div, eq, equal, erf, exp, expm1, floor,
    floor_divide, ge, gt, isclose, isfinite, isinf, isnan, le, lerp, log, log1p, log2, logical_and, logical_not,
    logical_or, lt, masked_fill, maximum, minimum, mul, ne, neg, pow, reciprocal, relu, remainder, round, rsqrt,
    sigmoid, sign, sin, sinh, sqrt, square, sub, tan, tanh, where,
)  # fmt: skip
from .ops.indexing import (
    gather, index_select, masked_select, repeat_interleave, scatter, scatter_add, select, take_along_dim,
)  # fmt: skip
from .ops.linalg import bmm, dot, einsum, matmul, mm, mv, outer, tensordot
from .ops.reduction import (
    all, amax, amin, any, argmax, argmin, count_nonzero, cumprod, cumsum, max, mean, min, norm, prod, std, sum,
    var,
)  # fmt: skip
from .ops.shape import (
    broadcast_to, cat, chunk, diag, diagonal, flatten, flip, hstack, movedim, narrow, permute, reshape, roll,
    split, squeeze, stack, t, tile, transpose, tril, triu, unbind, unflatten, unsqueeze, vstack,
)  # fmt: skip
from .ops.softmax import log_softmax, logsumexp, softmax
from .ops.sorting import argsort, sort, topk
from .page import page, play
from .precision import autocast
from .random import Generator, manual_seed
from .serialization import load, save
from .tensor import Size, Tensor
from .trace import trace
from .watch import watch

__version__ = "0.1.0"
concat = cat
swapaxes = transpose
clip = clamp
true_divide = div
float = float32
int = int32


def is_tensor(obj: object) -> bool:
    """Whether obj is a Tensor."""
    return isinstance(obj, Tensor)
