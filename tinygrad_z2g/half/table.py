"""Mixed precision in one table: which operation computes in which type inside `autocast`.

The lists are those that torch has for CUDA ("Autocast Op Reference"), here for the CPU too. An operation knows nothing
of them: they are put around it, where the modules that offer it end (`apply`). What is in no list takes what it gets.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ..arrays import dtypes
from ..core.engine import Variable
from . import precision
from .casting import cast, refuse, to_float32, to_half, to_widest

CASTS: dict[Callable[..., tuple], str] = {
    # Products are most of the work, and bear it
    to_half: """bias_gelu conv1d conv2d conv_transpose1d conv_transpose2d einsum linear matmul
        scaled_dot_product_attention""",
    # Large or small results, long sums, losses
    to_float32: """acos asin binary_cross_entropy_with_logits cosh cosine_embedding_loss cosine_similarity
        cross_entropy ctc_loss cumprod cumsum exp expm1 gaussian_nll_loss group_norm gru_scan hinge_embedding_loss
        huber_loss instance_norm kl_div l1_loss layer_norm local_response_norm log log1p log2 log_softmax logsumexp
        lstm_scan margin_ranking_loss mse_loss multi_margin_loss multilabel_soft_margin_loss nll_loss norm
        pairwise_distance poisson_nll_loss pow prod rdiv reciprocal rms_norm rnn_scan rsqrt sinh smooth_l1_loss
        soft_margin_loss softmax softplus square sum tan triplet_margin_loss""",
    # Any type will do, but it must be one
    to_widest: "dot scatter_add tensordot",
    # Half precision has no probabilities between 0.9995 and 1
    refuse: "binary_cross_entropy",
}

# Computed in float32 always, in autocast or not, if given float16, and rounded once: a sum of squares is soon beyond
# 65,504, and so are 1000 · 10² on the way to two decimals and e¹² in sigmoid(-12); and slopes ask for 1 - z, which has
# few digits left if a z near 1 was rounded
THROUGH_FLOAT32 = """addcdiv addcmul cdist celu cosine_similarity dist elu glu hardswish huber_loss lerp mish norm
    pairwise_distance rms_norm round selu sigmoid silu smooth_l1_loss std var"""

# And these, where the plain forms of the core compute: the fast ones do so by themselves
PLAIN_THROUGH_FLOAT32 = "attend cross_entropy gelu layer_norm linear matmul mean softmax sum"

_HALF = {dtypes.float16}
_CAST = {name: way for way, names in CASTS.items() for name in names.split()}


def apply(space: dict[str, Any], plain: bool = False) -> None:
    """Put the casts around the operations in a module's names, `apply(globals())`; `plain`: they are the core's own."""
    through = {*THROUGH_FLOAT32.split(), *(PLAIN_THROUGH_FLOAT32.split() if plain else ())}
    for name, function in list(space.items()):
        if not callable(function) or hasattr(function, "casts"):
            continue
        wrapped = function
        if name in through:
            wrapped = _through_float32(wrapped)
        if name in _CAST:
            wrapped = _with_operands(_CAST[name], wrapped)
        if wrapped is not function:
            wrapped.casts = True
            space[name] = wrapped


def _with_operands(way: Callable[..., tuple], function: Callable) -> Callable:
    """The operation gets what `way` makes of its arguments, and what it is composed of casts no further."""

    @functools.wraps(function)
    def operation(*args: Any, **kwargs: Any) -> Any:
        if not precision.blocks:
            return function(*args, **kwargs)
        values = way(*args, *kwargs.values())
        with precision.paused():
            return function(*values[: len(args)], **dict(zip(kwargs, values[len(args) :], strict=True)))

    code = getattr(function, "__code__", None)
    if code is None or code.co_varnames[: code.co_argcount + code.co_kwonlyargcount] != ("input", "other"):
        return operation

    @functools.wraps(function)
    def of_two(input: Any, other: Any) -> Any:  # 0.1 µs less than *args take: of a product of small matrices 3 %
        return operation(input, other) if precision.blocks else function(input, other)

    return of_two


def _through_float32(function: Callable) -> Callable:
    """The operation on float16 as on float32, its result rounded, unless another operand is wider."""

    @functools.wraps(function)
    def operation(*args: Any, **kwargs: Any) -> Any:
        values = (*args, *kwargs.values())
        kinds = {x.array.dtype for x in values if isinstance(x, Variable) and x.array.dtype.kind == "f"}
        if kinds != _HALF:
            return function(*args, **kwargs)
        wide = [
            cast(x, dtypes.float32) if isinstance(x, Variable) and x.array.dtype == dtypes.float16 else x
            for x in values
        ]
        z = function(*wide[: len(args)], **dict(zip(kwargs, wide[len(args) :], strict=True)))
        return cast(z, dtypes.float16)

    return operation
