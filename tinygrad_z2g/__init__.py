"""tinygrad_z2g: a deep-learning framework small enough to read in an evening. `import tinygrad_z2g as z2g`.

The names are torch's. Start reading in `core/`. Only names are gathered here: this file knows nothing of how any of
them works. `python -m tinygrad_z2g.learn path` prints the order in which to read the others.
"""

# isort: off
# `abs as abs`: so a type checker knows that the name is for users, and not for this file alone
import typing as _typing
from math import inf as inf, nan as nan, pi as pi

from . import (
    amp as amp, autograd as autograd, backends as backends, cuda as cuda, distributed as distributed, func as func,
    linalg as linalg, nn as nn, optim as optim, random as random, utils as utils,
)  # fmt: skip
from .arrays.backend import Device as _Device
from .arrays.backend import get_default_device as get_default_device, set_default_device as set_default_device
from .arrays.blas import get_num_threads as get_num_threads, set_num_threads as set_num_threads
from .creation import (
    arange as arange, as_tensor as as_tensor, asarray as asarray, bernoulli as bernoulli, empty as empty,
    empty_like as empty_like, eye as eye, from_numpy as from_numpy, full as full, full_like as full_like,
    linspace as linspace, logspace as logspace, multinomial as multinomial, normal as normal, ones as ones,
    ones_like as ones_like, rand as rand, rand_like as rand_like, randint as randint, randint_like as randint_like,
    randn as randn, randn_like as randn_like, randperm as randperm, scalar_tensor as scalar_tensor, tensor as tensor,
    tril_indices as tril_indices, triu_indices as triu_indices, zeros as zeros, zeros_like as zeros_like,
)  # fmt: skip
from .arrays.dtypes import bool_ as _bool
from .arrays.dtypes import (
    bfloat16 as bfloat16, complex64 as complex64, complex128 as complex128, double as double, float16 as float16,
    float32 as float32, float64 as float64, get_default_dtype as get_default_dtype, half as half, int8 as int8,
    int16 as int16, int32 as int32, int64 as int64, long as long, set_default_dtype as set_default_dtype,
    uint8 as uint8,
)  # fmt: skip
from .absent import answers as _answers
from .tools.draw import draw as draw
from .core.modes import is_grad_enabled as is_grad_enabled, no_grad as no_grad
from .walks.modes import (
    enable_grad as enable_grad, inference_mode as inference_mode, set_grad_enabled as set_grad_enabled,
)  # fmt: skip
from .func import vmap as vmap
from .gradcheck import gradcheck as gradcheck, gradgradcheck as gradgradcheck
from .old import (
    BoolTensor as BoolTensor, ByteTensor as ByteTensor, CharTensor as CharTensor, DoubleTensor as DoubleTensor,
    FloatTensor as FloatTensor, HalfTensor as HalfTensor, IntTensor as IntTensor, LongTensor as LongTensor,
    ShortTensor as ShortTensor, range as range, set_default_tensor_type as set_default_tensor_type,
)  # fmt: skip
from .ops.counting import (
    argwhere as argwhere, bincount as bincount, bucketize as bucketize, histc as histc, isin as isin,
    nonzero as nonzero, searchsorted as searchsorted, unique as unique, unique_consecutive as unique_consecutive,
)  # fmt: skip
from .ops.decompositions import cholesky as cholesky, det as det, logdet as logdet, qr as qr, slogdet as slogdet
from .ops.elementary import (
    acosh as acosh, asinh as asinh, atan2 as atan2, atanh as atanh, clamp_max as clamp_max, clamp_min as clamp_min,
    deg2rad as deg2rad, digamma as digamma, erfinv as erfinv, exp2 as exp2, fmod as fmod, frac as frac,
    heaviside as heaviside, hypot as hypot, isneginf as isneginf, isposinf as isposinf, lgamma as lgamma,
    log10 as log10, logaddexp as logaddexp, logical_xor as logical_xor, logit as logit, nan_to_num as nan_to_num,
    rad2deg as rad2deg, signbit as signbit, sinc as sinc, trunc as trunc, xlogy as xlogy,
)  # fmt: skip
from .ops.elementwise import (
    abs as abs, acos as acos, add as add, allclose as allclose, asin as asin, atan as atan, bitwise_and as bitwise_and,
    bitwise_left_shift as bitwise_left_shift, bitwise_not as bitwise_not, bitwise_or as bitwise_or,
    bitwise_right_shift as bitwise_right_shift, bitwise_xor as bitwise_xor, ceil as ceil, clamp as clamp, cos as cos,
    cosh as cosh, div as div, eq as eq, equal as equal, erf as erf, exp as exp, expm1 as expm1, floor as floor,
    floor_divide as floor_divide, ge as ge, gt as gt, isclose as isclose, isfinite as isfinite, isinf as isinf,
    isnan as isnan, le as le, lerp as lerp, log as log, log1p as log1p, log2 as log2, logical_and as logical_and,
    logical_not as logical_not, logical_or as logical_or, lt as lt, masked_fill as masked_fill, maximum as maximum,
    minimum as minimum, mul as mul, ne as ne, neg as neg, pow as pow, reciprocal as reciprocal, relu as relu,
    remainder as remainder, round as round, rsqrt as rsqrt, rsub as rsub, sigmoid as sigmoid, sign as sign, sin as sin,
    sinh as sinh, sqrt as sqrt, square as square, sub as sub, tan as tan, tanh as tanh, where as where,
)  # fmt: skip
from .ops.grids import (
    atleast_1d as atleast_1d, atleast_2d as atleast_2d, atleast_3d as atleast_3d, block_diag as block_diag,
    broadcast_tensors as broadcast_tensors, cartesian_prod as cartesian_prod, column_stack as column_stack,
    combinations as combinations, diag_embed as diag_embed, diagflat as diagflat, dsplit as dsplit, dstack as dstack,
    fliplr as fliplr, flipud as flipud, hsplit as hsplit, meshgrid as meshgrid, ravel as ravel, rot90 as rot90,
    take as take, tensor_split as tensor_split, vsplit as vsplit,
)  # fmt: skip
from .ops.indexing import (
    gather as gather, index_select as index_select, masked_select as masked_select,
    repeat_interleave as repeat_interleave, scatter as scatter, scatter_add as scatter_add, select as select,
    take_along_dim as take_along_dim,
)  # fmt: skip
from .ops.linalg import (
    bmm as bmm, dot as dot, einsum as einsum, matmul as matmul, mm as mm, mv as mv, outer as outer,
    tensordot as tensordot,
)  # fmt: skip
from .ops.products import (
    addbmm as addbmm, addcdiv as addcdiv, addcmul as addcmul, addmm as addmm, addmv as addmv, addr as addr,
    baddbmm as baddbmm, cdist as cdist, chain_matmul as chain_matmul, corrcoef as corrcoef, cov as cov, cross as cross,
    cumulative_trapezoid as cumulative_trapezoid, diff as diff, dist as dist, inner as inner, kron as kron,
    matrix_power as matrix_power, trapezoid as trapezoid, vander as vander, vdot as vdot,
)  # fmt: skip
from .ops.reduction import (
    all as all, amax as amax, amin as amin, any as any, argmax as argmax, argmin as argmin,
    count_nonzero as count_nonzero, cumprod as cumprod, cumsum as cumsum, max as max, mean as mean, min as min,
    norm as norm, prod as prod, std as std, sum as sum, var as var,
)  # fmt: skip
from .ops.shape import (
    broadcast_to as broadcast_to, cat as cat, chunk as chunk, diag as diag, diagonal as diagonal, flatten as flatten,
    flip as flip, hstack as hstack, movedim as movedim, narrow as narrow, permute as permute, reshape as reshape,
    roll as roll, split as split, squeeze as squeeze, stack as stack, t as t, tile as tile, transpose as transpose,
    tril as tril, triu as triu, unbind as unbind, unflatten as unflatten, unsqueeze as unsqueeze, vstack as vstack,
)  # fmt: skip
from .ops.softmax import log_softmax as log_softmax, logsumexp as logsumexp, softmax as softmax
from .ops.sorting import argsort as argsort, sort as sort, topk as topk
from .ops.statistics import (
    aminmax as aminmax, cummax as cummax, cummin as cummin, kthvalue as kthvalue, median as median, mode as mode,
    msort as msort, nanmean as nanmean, nanmedian as nanmedian, nanquantile as nanquantile, nansum as nansum,
    quantile as quantile, std_mean as std_mean, var_mean as var_mean,
)  # fmt: skip
from .ops.writing import (
    index_add as index_add, index_copy as index_copy, index_fill as index_fill, index_put as index_put,
    masked_scatter as masked_scatter, scatter_reduce as scatter_reduce,
)  # fmt: skip
from .tools.page import page as page, play as play
from .half.precision import autocast as autocast
from .questions import (
    are_deterministic_algorithms_enabled as are_deterministic_algorithms_enabled, broadcast_shapes as broadcast_shapes,
    can_cast as can_cast, clone as clone, compile as compile, detach as detach, finfo as finfo,
    get_float32_matmul_precision as get_float32_matmul_precision, iinfo as iinfo,
    is_complex as is_complex, is_floating_point as is_floating_point, is_nonzero as is_nonzero,
    is_storage as is_storage, is_tensor as is_tensor, numel as numel, positive as positive,
    promote_types as promote_types, result_type as result_type,
    set_float32_matmul_precision as set_float32_matmul_precision, typename as typename,
    use_deterministic_algorithms as use_deterministic_algorithms,
)  # fmt: skip
from .arrays.random import (
    Generator as Generator, get_rng_state as get_rng_state, initial_seed as initial_seed, manual_seed as manual_seed,
    seed as seed, set_rng_state as set_rng_state,
)  # fmt: skip
from .serialization import load as load, save as save
from .tools.showing import set_printoptions as set_printoptions
from .tensor import Size as Size, Tensor as Tensor
from .tools.trace import trace as trace
from .tools.watch import watch as watch

__version__ = "0.1.0"
device = _Device
bool = _bool
inverse, pinverse = linalg.inv, linalg.pinv
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
if _typing.TYPE_CHECKING:  # to a type checker a name that is not there is a mistake
    from . import distributions as distributions
else:
    __getattr__ = _answers(__name__)
