"""tinygrad_z2g: a deep-learning framework small enough to read in an evening. `import tinygrad_z2g as z2g`.

The names are torch's. Start reading in `core/`. Only names are gathered here: this file knows nothing of how any of
them works. `python -m tinygrad_z2g.learn path` prints the order in which to read the others.
"""

# isort: off
from math import inf, nan, pi

from . import amp, autograd, backends, cuda, distributed, func, linalg, nn, optim, random, utils
from .arrays.backend import Device as device
from .arrays.backend import get_default_device, set_default_device, set_num_threads
from .creation import (
    arange, as_tensor, asarray, bernoulli, empty, empty_like, eye, from_numpy, full, full_like, linspace, logspace,
    multinomial, normal, ones, ones_like, rand, rand_like, randint, randint_like, randn, randn_like, randperm,
    scalar_tensor, tensor, tril_indices, triu_indices, zeros, zeros_like,
)  # fmt: skip
from .arrays.dtypes import bool_ as bool
from .arrays.dtypes import (
    bfloat16, complex64, complex128, double, float16, float32, float64, get_default_dtype, half, int8, int16,
    int32, int64, long, set_default_dtype, uint8,
)  # fmt: skip
from .absent import answers as _answers
from .tools.draw import draw
from .core.modes import is_grad_enabled, no_grad
from .walks.modes import enable_grad, inference_mode, set_grad_enabled
from .func import vmap
from .gradcheck import gradcheck, gradgradcheck
from .old import (
    BoolTensor, ByteTensor, CharTensor, DoubleTensor, FloatTensor, HalfTensor, IntTensor, LongTensor, ShortTensor,
    range, set_default_tensor_type,
)  # fmt: skip
from .ops.counting import (
    argwhere, bincount, bucketize, histc, isin, nonzero, searchsorted, unique, unique_consecutive,
)  # fmt: skip
from .ops.decompositions import cholesky, det, logdet, qr, slogdet
from .ops.decompositions import inv as inverse
from .ops.decompositions import pinv as pinverse
from .ops.elementary import (
    acosh, asinh, atan2, atanh, clamp_max, clamp_min, deg2rad, digamma, erfinv, exp2, fmod, frac, heaviside, hypot,
    isneginf, isposinf, lgamma, log10, logaddexp, logical_xor, logit, nan_to_num, rad2deg, signbit, sinc, trunc, xlogy,
)  # fmt: skip
from .ops.elementwise import (
    abs, acos, add, allclose, asin, atan, bitwise_and, bitwise_left_shift, bitwise_not, bitwise_or,
    bitwise_right_shift, bitwise_xor, ceil, clamp, cos, cosh, div, eq, equal, erf, exp, expm1, floor,
    floor_divide, ge, gt, isclose, isfinite, isinf, isnan, le, lerp, log, log1p, log2, logical_and, logical_not,
    logical_or, lt, masked_fill, maximum, minimum, mul, ne, neg, pow, reciprocal, relu, remainder, round, rsqrt, rsub,
    sigmoid, sign, sin, sinh, sqrt, square, sub, tan, tanh, where,
)  # fmt: skip
from .ops.grids import (
    atleast_1d, atleast_2d, atleast_3d, block_diag, broadcast_tensors, cartesian_prod, column_stack, combinations,
    diag_embed, diagflat, dsplit, dstack, fliplr, flipud, hsplit, meshgrid, ravel, rot90, take,
    tensor_split, vsplit,
)  # fmt: skip
from .ops.indexing import (
    gather, index_select, masked_select, repeat_interleave, scatter, scatter_add, select, take_along_dim,
)  # fmt: skip
from .ops.linalg import bmm, dot, einsum, matmul, mm, mv, outer, tensordot
from .ops.products import (
    addbmm, addcdiv, addcmul, addmm, addmv, addr, baddbmm, cdist, chain_matmul, corrcoef, cov, cross,
    cumulative_trapezoid, diff, dist, inner, kron, matrix_power, trapezoid, vander, vdot,
)  # fmt: skip
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
from .ops.statistics import (
    aminmax, cummax, cummin, kthvalue, median, mode, msort, nanmean, nanmedian, nanquantile, nansum, quantile, std_mean,
    var_mean,
)  # fmt: skip
from .ops.writing import (
    index_add, index_copy, index_fill, index_put, masked_scatter, scatter_reduce,
)  # fmt: skip
from .tools.page import page, play
from .half.precision import autocast
from .questions import (
    are_deterministic_algorithms_enabled, broadcast_shapes, can_cast, clone, compile, detach, finfo,
    get_float32_matmul_precision, get_num_threads, iinfo, is_complex, is_floating_point, is_nonzero, is_storage,
    is_tensor, numel, positive, promote_types, result_type, set_float32_matmul_precision, typename,
    use_deterministic_algorithms,
)  # fmt: skip
from .arrays.random import Generator, get_rng_state, initial_seed, manual_seed, seed, set_rng_state
from .serialization import load, save
from .tools.showing import set_printoptions
from .tensor import Size, Tensor
from .tools.trace import trace
from .tools.watch import watch

__version__ = "0.1.0"
__getattr__ = _answers(__name__)
concat = concatenate = cat
swapaxes = swapdims = transpose
moveaxis = movedim
row_stack = vstack
clip = clamp
absolute, negative, sgn = abs, neg, sign
subtract, multiply, divide, true_divide = sub, mul, div, div
greater, greater_equal, less, less_equal, not_equal = gt, ge, lt, le, ne
arcsin, arccos, arctan, arctan2 = asin, acos, atan, atan2
arcsinh, arccosh, arctanh = asinh, acosh, atanh
fix, ger, trapz = trunc, outer, trapezoid
float = float32
short = int16
int = int32
