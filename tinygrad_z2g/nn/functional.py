"""Functions of neural networks: activations, softmax, losses, normalisation, convolution, embedding, attention.

Layers in `nn` hold the parameters and call these. Those that are one recorded operation use a routine of `fast` for
speed and state their gradient rule here; the others are composed of tensor operations, and autograd does the rest. A
function here owns nothing: it knows nothing of modules and parameters, and of training only what it is told.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import fast
from ..arrays.backend import Array, of, silent, to_host
from ..arrays.checks import check_table
from ..core import ops
from ..core.engine import RESULT, Derived, record
from ..core.modes import no_grad
from ..core.ops import gelu, layer_norm
from ..fast.forms import known_rows
from ..half.table import apply
from ..ops import elementwise
from ..ops.common import (
    as_array,
    as_int,
    check_floating,
    floating,
    held,
    laid_out,
    linear_rule,
    number,
    same_device,
    widens,
)
from ..ops.elementwise import sigmoid, tanh
from ..ops.inplace import update
from ..ops.linalg import bilinear, linear
from ..ops.shape import one_hot
from ..ops.softmax import log_softmax, softmax
from ..walks.again import record_joint_fused
from . import losses
from .dot_product import scaled_dot_product_attention

# isort: off
from .batch_norm import batch_norm, group_norm, instance_norm, local_response_norm
from .dropping import alpha_dropout, dropout, dropout1d, dropout2d
from .distances import cosine_similarity, normalize, pairwise_distance
from .likelihoods import ctc_loss, gaussian_nll_loss, kl_div, poisson_nll_loss
from .losses import binary_cross_entropy, cross_entropy, huber_loss, l1_loss, mse_loss, nll_loss, smooth_l1_loss
from .margins import (
    cosine_embedding_loss, hinge_embedding_loss, margin_ranking_loss, multi_margin_loss, multilabel_soft_margin_loss,
    soft_margin_loss, triplet_margin_loss,
)  # fmt: skip
from .nonlinear import (
    celu, elu, glu, gumbel_softmax, hardshrink, hardsigmoid, hardswish, hardtanh, prelu, relu6, rrelu, selu, softmin,
    softshrink, softsign, tanhshrink, threshold,
)  # fmt: skip
from .resize import (
    adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_max_pool1d, adaptive_max_pool2d, channel_shuffle, fold,
    interpolate, mirrored, pixel_shuffle, pixel_unshuffle, unfold, upsample,
)  # fmt: skip
from .rotary import rotary_angles, rotary_embedding
from .window import (
    avg_pool1d, avg_pool2d, conv1d, conv2d, conv_transpose1d, conv_transpose2d, max_pool1d, max_pool2d,
)  # fmt: skip

# isort: on
if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = [
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_max_pool1d", "adaptive_max_pool2d", "alpha_dropout",
    "avg_pool1d", "avg_pool2d", "batch_norm", "bias_gelu", "bilinear", "binary_cross_entropy",
    "binary_cross_entropy_with_logits", "celu", "channel_shuffle", "conv1d", "conv2d", "conv_transpose1d",
    "conv_transpose2d", "cosine_embedding_loss", "cosine_similarity", "cross_entropy", "ctc_loss", "dropout",
    "dropout1d", "dropout2d", "elu", "embedding", "embedding_bag", "fold", "gaussian_nll_loss", "gelu", "glu",
    "group_norm", "gumbel_softmax", "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "hinge_embedding_loss",
    "huber_loss", "instance_norm", "interpolate", "kl_div", "l1_loss", "layer_norm", "leaky_relu", "linear",
    "local_response_norm", "log_softmax", "logsigmoid", "margin_ranking_loss", "max_pool1d", "max_pool2d", "mish",
    "mse_loss", "multi_margin_loss", "multilabel_soft_margin_loss", "nll_loss", "normalize", "one_hot", "pad",
    "pairwise_distance", "pixel_shuffle", "pixel_unshuffle", "poisson_nll_loss", "prelu", "relu", "relu6", "rms_norm",
    "rotary_angles", "rotary_embedding", "rrelu", "scaled_dot_product_attention", "selu", "sigmoid", "silu",
    "smooth_l1_loss", "soft_margin_loss", "softmax", "softmin", "softplus", "softshrink", "softsign", "tanh",
    "tanhshrink", "threshold", "triplet_margin_loss", "unfold", "upsample",
]  # fmt: skip


# --- Activations -------------------------------------------------------------------------------------------------


@widens(ops.relu)
def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """z = max(x, 0), in place if asked to; see `ops.elementwise.relu`.

    >>> x = z2g.tensor([-2.0, 3.0], requires_grad=True); F.relu(x).sum().backward(); x.grad
    tensor([0., 1.])
    """
    return update(input, "relu_", elementwise.relu) if inplace else elementwise.relu(input)


@silent
def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """z = x where x > 0, else s x with s = negative_slope.   dz/dx = 1 where x > 0, else s

    Two straight lines that meet at 0, with the slopes s and 1.
    >>> x = z2g.tensor([-2.0, 3.0], requires_grad=True); F.leaky_relu(x, 0.1).sum().backward(); x.grad
    tensor([0.1000, 1.0000])
    """
    s = number(negative_slope, "leaky_relu: negative_slope")
    if inplace:
        return update(input, "leaky_relu_", leaky_relu, s)
    x = floating(input, "leaky_relu")
    z = of(x).where(x > 0, x, x * s)
    return record("leaky_relu", z, (input, lambda grad, x: of(grad).where(x > 0, grad, grad * s), input))


@silent
def bias_gelu(input: Tensor, bias: Tensor, approximate: str = "none") -> Tensor:
    """z = gelu(x + b).   ∂L/∂x = grad · slope,  ∂L/∂b = that, summed over all rows

    Shapes: x (..., C), b (C,) -> (..., C). bias_gelu(linear(x, W), b) gives what gelu(linear(x, W, b)) does with three
    passes over memory and two launches fewer on a GPU, where there are kernels for it; a CPU is as fast with either.
    Not in torch; the name is that of Megatron-LM's (Shoeybi et al. 2019, arXiv:1909.08053).

    Derived: x + b has the slope 1 by x, so both receive g = grad · slope, slope as in `gelu`; b was added to every row,
    so every row's g reaches it. Far to the right the slope is 1.
    >>> x, b = z2g.tensor([[1.0], [2.0]], requires_grad=True), z2g.tensor([9.0], requires_grad=True)
    >>> F.bias_gelu(x, b).sum().backward(); x.grad.tolist(), b.grad  # two rows
    ([[1.0], [1.0]], tensor([2.]))
    """
    _check_approximate("bias_gelu", approximate)
    a, b = floating(input, "bias_gelu"), as_array(bias, "bias_gelu")
    same_device("bias_gelu", input, bias)
    if not a.ndim or b.shape != a.shape[-1:] or b.dtype != a.dtype:
        raise RuntimeError(
            f"bias_gelu: input {tuple(a.shape)} of {a.dtype} and bias {tuple(b.shape)} of {b.dtype}: expected (..., C) "
            "and (C,) of one dtype"
        )
    kernel = fast.gelu_tanh if approximate == "tanh" else fast.gelu_exact
    z, slope = kernel(a, b)
    return record_joint_fused(
        "bias_gelu",
        z,
        (input, bias),
        lambda grad, slope, _x, _b: fast.product_and_column_sums(grad, slope),
        slope,
        input,
        bias,
        twin=(lambda x, b: gelu(x + b, approximate), input, bias),
    )


def _check_approximate(name: str, approximate: str) -> None:
    if approximate not in ("none", "tanh"):
        raise RuntimeError(f"{name}: approximate must be 'none' or 'tanh', got {approximate!r}")


@silent
def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """z = x σ(x), also called swish.   dz/dx = σ (1 + x (1 - σ))

    The product rule: σ + x σ', with σ' = σ (1 - σ). At x = 0 that is 1/2.
    >>> x = z2g.tensor(0.0, requires_grad=True); F.silu(x).backward(); x.grad
    tensor(0.5000)
    """
    if inplace:
        return update(input, "silu_", silu)
    a = floating(input, "silu")
    s = 1 / (1 + of(a).exp(-a))

    def remake(s: Array, x: Tensor) -> Tensor:
        return record("sigmoid", s, (x, lambda grad, s: grad * (s * (1 - s)), RESULT))

    return record(
        "silu", a * s, (input, lambda grad, x, s: grad * (s * (1 + x * (1 - s))), input, Derived(s, remake, input))
    )


@silent
def softplus(input: Tensor, beta: float = 1, threshold: float = 20) -> Tensor:
    """z = ln(1 + e^(βx)) / β, and x itself where βx > threshold.   dz/dx = slope = σ(βx)

    Let u = e^(βx): z = ln (1 + u) / β and du = β u dx, so dz/dx = u / (1 + u) = 1 / (1 + e^(-βx)). At x = ln 3: 3/4.
    >>> x = z2g.tensor(3.0).log().requires_grad_(); F.softplus(x).backward(); x.grad
    tensor(0.7500)
    """
    a = floating(input, "softplus")
    beta, threshold = number(beta, "softplus: beta"), number(threshold, "softplus: threshold")
    xp = of(a)
    s = a * beta
    e = xp.exp(-xp.abs(s))
    z = xp.where(s > threshold, a, (xp.maximum(s, 0) + xp.log1p(e)) * (1 / beta))
    slope = xp.where(s > threshold, 1, xp.where(s > 0, 1, e) / (1 + e))

    def remake(slope: Array, x: Tensor) -> Tensor:
        return record("sigmoid", slope, (x, lambda grad, s: grad * (beta * s * (1 - s)), RESULT))

    return record("softplus", z, (input, lambda grad, slope: grad * slope, Derived(slope, remake, input)))


def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """z = x tanh(ln(1 + eˣ)): a silu with another gate.  (Misra 2019, arXiv:1908.08681)

    >>> x = z2g.tensor(0.0, requires_grad=True); F.mish(x).backward(); x.grad  # tanh(ln 2) = 3/5
    tensor(0.6000)
    """
    losses.check_floating(as_array(input, "mish"), "mish")
    return update(input, "mish_", mish) if inplace else input * tanh(softplus(input, threshold=math.inf))


def logsigmoid(input: Tensor) -> Tensor:
    """z = ln σ(x) = -ln(1 + e⁻ˣ).   dz/dx = 1 - σ(x)

    >>> x = z2g.tensor([0.0, -900.0], requires_grad=True); F.logsigmoid(x).sum().backward(); x.grad
    tensor([0.5000, 1.0000])
    """
    losses.check_floating(as_array(input, "logsigmoid"), "logsigmoid")
    return -softplus(-input, threshold=math.inf)


# --- The loss that is made of an activation; the others are in `losses` ----------------------------------------------


@losses.old_reduction
def binary_cross_entropy_with_logits(
    input: Tensor, target: Tensor, weight: Tensor | None = None, *, reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """L = -(w t ln σ(x) + (1 - t) ln (1 - σ(x))), w = pos_weight, written so that nothing overflows:

    L = (1 - t) x + (1 + (w - 1) t) softplus(-x), since ln σ(x) = -softplus(-x) and ln (1 - σ(x)) = -x - softplus(-x).

    Composed; for w = 1 its rules make ∂L/∂x = σ(x) - t. For x = ln 3, σ = 3/4.
    >>> x = z2g.tensor(3.0).log().requires_grad_()
    >>> F.binary_cross_entropy_with_logits(x, z2g.tensor(1.0)).backward(); x.grad
    tensor(-0.2500)
    """
    name = "binary_cross_entropy_with_logits"
    losses.check_reduction(reduction, name)
    for x in losses.same_shape(input, target, name):
        check_floating(x, name)
    if pos_weight is not None and as_array(pos_weight, name).dtype.kind == "b":
        raise RuntimeError(f"{name}: pos_weight must be numbers, got bool")
    factor = 1 if pos_weight is None else 1 + (losses.weight_for(input, pos_weight, name, "pos_weight") - 1) * target
    each = (1 - target) * input + factor * softplus(-input, threshold=math.inf)
    return losses.reduce(losses.weighted(each, weight, name), reduction, name)


# --- Normalisation -----------------------------------------------------------------------------------------------


@silent
def rms_norm(
    input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """z = n w, n = x r, r = 1 / √(mean(x²) + eps) over the last dimensions: `layer_norm` without the mean.

    ∂L/∂w = Σ grad n,  ∂L/∂x = r (g - n mean(g n)) with g = grad w. eps: by default the dtype's epsilon.
    (Zhang & Sennrich 2019, arXiv:1910.07467)

    Derived, C numbers in a row: ∂r/∂xⱼ = -r³ xⱼ / C = -r² nⱼ / C, so ∂nᵢ/∂xⱼ = r [i = j] - xᵢ r² nⱼ / C
    = r ([i = j] - nᵢ nⱼ / C), and Σᵢ gᵢ ∂nᵢ/∂xⱼ = r (gⱼ - nⱼ mean(g n)): what lies along n cannot change it.
    For x = (1, 7): mean(x²) = 25, r = 1/5, n = (0.2, 1.4); g = (1, 1) has mean(g n) = 0.8.
    >>> x = z2g.tensor([1.0, 7.0], requires_grad=True); F.rms_norm(x, 2, eps=0.0).sum().backward(); x.grad
    tensor([ 0.1680, -0.0240])
    """
    shape = tuple(normalized_shape) if isinstance(normalized_shape, (tuple, list)) else (normalized_shape,)
    a = floating(input, "rms_norm")
    whole = a.shape
    if not shape or whole[-len(shape) :] != shape:
        raise RuntimeError(f"rms_norm: input {tuple(whole)} does not end in normalized_shape {shape}")
    if weight is not None and (as_array(weight, "rms_norm").shape != shape or weight.array.dtype != a.dtype):
        got = f"weight has shape {tuple(weight.array.shape)} and dtype {weight.array.dtype}"
        raise RuntimeError(f"rms_norm: {got}, expected {shape} and {a.dtype}")
    same_device("rms_norm", input, weight)
    columns = math.prod(shape)
    rows = (math.prod(whole[: -len(shape)]), columns)
    eps = float(np.finfo(a.dtype).eps) if eps is None else number(eps, "rms_norm: eps")
    n, r = fast.rms_norm(a.reshape(rows), eps)  # (N, C), (N, 1)
    w = None if weight is None else weight.array.reshape(columns)

    def grad_x(grad: Any, w: Any, n: Any, r: Any) -> Any:
        g = grad.reshape(rows)
        g = g if w is None else fast.scale_shift(g, w.reshape(columns), None)
        return fast.rms_norm_backward(g, n, r).reshape(whole)

    n_, r_ = known_rows(n, r, input, fast.rms_norm_backward)
    return record(
        "rms_norm",
        fast.scale_shift(n, w, None).reshape(whole),
        (input, grad_x, weight, n_, r_),
        (weight, lambda grad, n: fast.column_sums(grad.reshape(rows), n).reshape(shape), n_),
    )


# --- Embedding and convolution -----------------------------------------------------------------------------------


@widens(ops.embedding)
def embedding(
    input: Tensor, weight: Tensor, padding_idx: int | None = None, max_norm: float | None = None,
    norm_type: float = 2.0, scale_grad_by_freq: bool = False, sparse: bool = False,
) -> Tensor:  # fmt: skip
    """z = weight[ids]: a row of the table for each id, see `core.ops.embedding`, and some settings.

    ids = input (...), weight (V, C) -> (..., C). The row `padding_idx` receives no gradient. On the CPU an id out of
    range raises IndexError; on the GPU nobody looks, so check before uploading. `max_norm` first shortens the rows that
    are read to that norm, in the table itself; `scale_grad_by_freq` divides a row's gradient by how often it was read;
    `sparse` changes nothing, as gradients are whole arrays here.
    >>> w = z2g.zeros(3, 2, requires_grad=True)
    >>> F.embedding(z2g.tensor([1, 2, 1]), w).sum().backward(); w.grad
    tensor([[0., 0.],
            [2., 2.],
            [1., 1.]])
    """
    if padding_idx is None and max_norm is None and not scale_grad_by_freq:
        return ops.embedding(input, weight)
    ids, table = as_array(input, "embedding"), as_array(weight, "embedding")
    same_device("embedding", input, weight)
    check_table(ids, table)
    if padding_idx is not None and not -len(table) <= padding_idx < len(table):
        raise ValueError(f"embedding: padding_idx {padding_idx} is not one of {len(table)} rows")
    if max_norm is not None:
        _shorten(weight, ids, number(max_norm, "embedding: max_norm"), number(norm_type, "embedding: norm_type"))
    return _looked_up(input, weight, padding_idx, scale_grad_by_freq)


def _looked_up(input: Tensor, weight: Tensor, padding_idx: int | None, scale_grad_by_freq: bool) -> Tensor:
    """`embedding` whose rule leaves out a row, or divides by how often each was read."""
    ids, table = input.array, weight.array
    V, C = table.shape

    def rule(grad: Array) -> Array:
        flat = ids.reshape(-1)
        g = fast.sum_rows_by_id(flat, grad.reshape(len(flat), C), V)  # (V, C)
        if scale_grad_by_freq:
            g /= of(flat).maximum(of(flat).bincount(flat, minlength=V), 1)[:, None].astype(g.dtype)
        if padding_idx is not None:
            g[padding_idx] = 0
        return g

    def look_up(table: Array) -> Array:
        z = table[ids]
        if padding_idx is not None:
            z[ids == padding_idx] = 0
        return z

    return record("embedding", table[ids], (weight, linear_rule("embedding", rule, look_up), input))


@no_grad()
def _shorten(weight: Tensor, ids: Array, max_norm: float, p: float) -> None:
    """Scale the rows `ids` of a table, where they are longer, to the p-norm `max_norm`, in place."""
    xp, used = of(ids), of(ids).unique(ids)
    rows = weight.array[used]
    lengths = (xp.abs(rows) ** p).sum(1, keepdims=True) ** (1 / p)
    weight.array[used] = xp.where(lengths > max_norm, rows * (max_norm / (lengths + 1e-7)), rows)
    weight.memory.writes += 1


def embedding_bag(
    input: Tensor, weight: Tensor, offsets: Tensor | None = None, max_norm: float | None = None, norm_type: float = 2,
    scale_grad_by_freq: bool = False, mode: str = "mean", sparse: bool = False,
    per_sample_weights: Tensor | None = None, include_last_offset: bool = False, padding_idx: int | None = None,
) -> Tensor:  # fmt: skip
    """z = the mean, "sum" or "max" of the rows weight[ids], for each bag of ids; 0 for an empty bag.

    input (B, n), a bag in each row, or one vector cut at `offsets` (B,), where the bags begin; weight (V, C) -> (B, C).
    Ids equal to `padding_idx` do not count. `per_sample_weights`, shaped as input, multiply the rows of a "sum".
    The other settings are those of `embedding`, of which this is composed.
    >>> w = z2g.zeros(3, 1, requires_grad=True)
    >>> z = F.embedding_bag(z2g.tensor([1, 2, 1]), w, z2g.tensor([0, 2])); z.sum().backward()  # bags (1, 2) and (1)
    >>> w.grad.flatten()
    tensor([0.0000, 1.5000, 0.5000])
    """
    name = "embedding_bag"
    ids = as_array(input, name)
    if mode not in ("mean", "sum", "max"):
        raise ValueError(f"{name}: mode has to be one of sum, mean or max, got {mode!r}")
    if per_sample_weights is not None and mode != "sum":
        raise NotImplementedError(f"{name}: per_sample_weights is only supported for mode='sum', got mode={mode!r}")
    if per_sample_weights is not None and as_array(per_sample_weights, name).shape != ids.shape:
        got = f"{tuple(per_sample_weights.array.shape)} and {tuple(ids.shape)}"
        raise ValueError(f"{name}: expected per_sample_weights and input to have the same shape, got {got}")
    if (ids.ndim == 1) != (offsets is not None) or ids.ndim not in (1, 2):
        raise ValueError(f"{name}: expected ids (B, n), or (n,) and offsets, got shape {tuple(ids.shape)}")
    xp, factors = of(ids), per_sample_weights
    counted = xp.ones(ids.shape, bool)
    if offsets is not None:  # each bag becomes a row, filled up with its first id, which does not count there
        places, inside = _bags(to_host(as_array(offsets, name)), len(ids), include_last_offset)
        counted = xp.asarray(inside)
        index = input.make(xp.asarray(places))
        input, factors = input[index], None if factors is None else factors[index]
    if padding_idx is not None:
        counted = counted & (input.array != padding_idx % len(as_array(weight, name)))
    rows = embedding(input, weight, padding_idx, max_norm, norm_type, scale_grad_by_freq)  # (B, n, C)
    counts = input.make(counted.sum(1, keepdims=True).astype(rows.array.dtype))
    outside = input.make(~counted[..., None])
    if mode == "max":
        best = rows.masked_fill(outside, -math.inf).max(1).values if counted.shape[1] else rows.sum(1)
        return best.masked_fill(counts == 0, 0.0)
    if factors is not None:
        rows = rows * factors.unsqueeze(-1)
    total = rows.masked_fill(outside, 0.0).sum(1)
    return total / counts.clamp(min=1) if mode == "mean" else total


def _bags(offsets: np.ndarray, n: int, include_last: bool) -> tuple[np.ndarray, np.ndarray]:
    """Which of n ids each bag holds, (B, longest), and which of these are its own."""
    if offsets.ndim != 1 or offsets.dtype.kind not in "iu" or (len(offsets) and offsets[0] != 0):
        raise RuntimeError(f"embedding_bag: offsets must be a vector of integers that begins with 0, got {offsets}")
    ends = offsets[1:] if include_last else np.append(offsets[1:], n)
    first = offsets[: len(ends)]
    sizes = ends - first
    if (sizes < 0).any() or (len(ends) and ends[-1] > n):
        raise RuntimeError(f"embedding_bag: offsets must not decrease, nor exceed the {n} ids, got {offsets}")
    steps = np.arange(sizes.max(initial=0))
    inside = steps < sizes[:, None]
    return np.where(inside, first[:, None] + steps, np.minimum(first, max(n - 1, 0))[:, None]), inside


def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """x surrounded by `value`: pad = (left, right) for the last dimension, then pairs for those before it.

    A negative number cuts off as many instead. mode "reflect" surrounds x by its mirror image (of 1 2 3: 3 2 | 1 2 3),
    "replicate" by its edge (1 1 | 1 2 3), "circular" by its other end (2 3 | 1 2 3); see `resize.mirrored`. What of x
    remains is the inner part of z, so its gradient is the inner
    part of grad.
    >>> x = z2g.tensor([1.0, 2.0], requires_grad=True)
    >>> (F.pad(x, (1, 1)) * z2g.tensor([5.0, 6.0, 7.0, 8.0])).sum().backward(); x.grad
    tensor([6., 7.])
    """
    a = as_array(input, "pad")
    value = held(number(0.0 if value is None else value, "pad: value"), a.dtype, "pad")
    amounts = [as_int(n, "pad") for n in pad]
    if mode not in ("constant", "reflect", "replicate", "circular"):
        raise NotImplementedError(f"pad: unrecognised mode {mode!r}; known are constant, reflect, replicate, circular")
    if len(amounts) % 2 or len(amounts) > 2 * a.ndim:
        raise RuntimeError(f"pad: got {amounts} for shape {tuple(a.shape)}; expected a pair for each padded dimension")
    if mode != "constant":
        return mirrored(input, amounts, mode)
    pairs = [(0, 0)] * (a.ndim - len(amounts) // 2) + list(zip(amounts[::2], amounts[1::2], strict=True))[::-1]
    shape = [before + n + after for (before, after), n in zip(pairs, a.shape, strict=True)]
    if any(min(n + p, n + q, n + p + q) < 0 for (p, q), n in zip(pairs, a.shape, strict=True)):
        raise RuntimeError(f"pad: {amounts} cuts off more than there is of shape {tuple(a.shape)}")
    kept = tuple(slice(max(-before, 0), n - max(-after, 0)) for (before, after), n in zip(pairs, a.shape, strict=True))
    inner = tuple(slice(max(before, 0), n - max(after, 0)) for (before, after), n in zip(pairs, shape, strict=True))
    z, before = of(a).full(shape, value, a.dtype), a.shape
    z[inner] = a[kept]
    z = laid_out(z, a) if z.shape == before else z

    def rule(grad: Array) -> Array:
        out = of(grad).zeros(before, grad.dtype)
        out[kept] = grad[inner]
        return out

    def there(x: Array) -> Array:
        out = of(x).zeros(shape, x.dtype)
        out[inner] = x[kept]
        return out

    return record("pad", z, (input, linear_rule("pad", rule, there)))


apply(globals())  # mixed precision, by the table in half/
