"""Functions of neural networks: activations, softmax, losses, normalisation, convolution, embedding, attention.

Layers in `nn` hold the parameters and call these. Those that are one recorded operation use a routine of `kernels` for
speed and state their gradient rule here; the others are composed of tensor operations, and autograd does the rest. A
function here owns nothing: it knows nothing of modules and parameters, and of training only what it is told.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import dtypes, kernels, precision
from ..backend import Array, of, quiet, silent
from ..engine import needs_grad, record, record_joint
from ..ops import elementwise
from ..ops.casting import in_float32, lowered, through_float32
from ..ops.common import (
    as_array,
    as_int,
    check_broadcast,
    check_floating,
    check_ids,
    fits,
    floating,
    laid_out,
    number,
    same_device,
)
from ..ops.elementwise import sigmoid, tanh
from ..ops.inplace import update
from ..ops.linalg import linear
from ..ops.reduction import norm
from ..ops.shape import expand, one_hot
from ..ops.softmax import log_softmax, softmax
from ..random import default_generator
from ..replay import number as replayed
from . import losses
from .losses import binary_cross_entropy, cross_entropy, l1_loss, mse_loss, nll_loss
from .rotary import rotary_angles, rotary_embedding
from .window import avg_pool1d, conv1d, conv2d, max_pool1d, max_pool2d

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = [
    "avg_pool1d", "bias_gelu", "binary_cross_entropy", "binary_cross_entropy_with_logits", "conv1d", "conv2d",
    "cosine_similarity", "cross_entropy", "dropout", "embedding", "gelu", "l1_loss", "layer_norm", "leaky_relu",
    "linear", "log_softmax", "max_pool1d", "max_pool2d", "mse_loss", "nll_loss", "normalize", "one_hot", "pad",
    "relu", "rms_norm", "rotary_angles", "rotary_embedding", "scaled_dot_product_attention", "sigmoid", "silu",
    "softmax", "softplus", "tanh",
]  # fmt: skip


# --- Activations -------------------------------------------------------------------------------------------------


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
    xp = of(x)
    z = xp.where(x > 0, x, x * s)
    return record("leaky_relu", z, (input, lambda grad: xp.where(x > 0, grad, grad * s), input))


@silent
def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """z = x Φ(x), Φ the normal distribution function; "tanh": Φ(x) ≈ (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2.

    dz/dx = Φ(x) + x Φ'(x) = slope, computed with z and kept for backward. (Hendrycks & Gimpel 2016, arXiv:1606.08415)

    The product rule on x Φ(x). For the tanh form, Φ = s = σ(2u) and s' = s (1 - s) 2u'. At 0, Φ = 1/2 of the gradient
    passes; far to the right z is x, far to the left 0.
    >>> x = z2g.tensor([0.0, 9.0], requires_grad=True); F.gelu(x).sum().backward(); x.grad
    tensor([0.5000, 1.0000])
    """
    _check_approximate("gelu", approximate)
    a = floating(input, "gelu")
    kernel = kernels.gelu_tanh if approximate == "tanh" else kernels.gelu_exact
    z, slope = (out.reshape(a.shape) for out in kernel(a.reshape(a.shape or (1,))))
    return record("gelu", laid_out(z, a), (input, lambda grad: kernels.times(grad, slope)))


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
    if precision.blocks:  # x is a product that waits for its bias
        input, bias = lowered(input, bias)
    a, b = floating(input, "bias_gelu"), as_array(bias, "bias_gelu")
    same_device("bias_gelu", input, bias)
    if not a.ndim or b.shape != a.shape[-1:] or b.dtype != a.dtype:
        raise RuntimeError(
            f"bias_gelu: input {tuple(a.shape)} of {a.dtype} and bias {tuple(b.shape)} of {b.dtype}: expected (..., C) "
            "and (C,) of one dtype"
        )
    kernel = kernels.gelu_tanh if approximate == "tanh" else kernels.gelu_exact
    z, slope = kernel(a, b)
    return record_joint("bias_gelu", z, (input, bias), lambda grad: kernels.product_and_column_sums(grad, slope))


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
    return record("silu", a * s, (input, lambda grad: grad * (s * (1 + a * (1 - s))), input))


@in_float32
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
    return record("softplus", z, (input, lambda grad: grad * slope))


# --- The loss that is made of an activation; the others are in `losses` ----------------------------------------------


@in_float32
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


# --- Normalisation and dropout -----------------------------------------------------------------------------------


@in_float32
@silent
def layer_norm(
    input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """z = n w + b, n = (x - mean) / √(var + eps) over the last dimensions, var the biased variance.

    ∂L/∂w = Σ grad n,  ∂L/∂b = Σ grad,  ∂L/∂x = r (g - mean(g) - n mean(g n)) with g = grad w, r = 1 / √(var + eps).
    (Ba, Kiros & Hinton 2016, arXiv:1607.06450)

    Derived, C numbers in a row, d = x - mean, n = r d: ∂dᵢ/∂xⱼ = [i = j] - 1/C, and r = (mean(d²) + eps)^(-1/2) has
    ∂r/∂xⱼ = -r³ dⱼ / C = -r² nⱼ / C. So ∂nᵢ/∂xⱼ = r [i = j] - r / C - dᵢ r² nⱼ / C = r ([i = j] - 1/C - nᵢ nⱼ / C),
    and Σᵢ gᵢ ∂nᵢ/∂xⱼ = r (gⱼ - mean(g) - nⱼ mean(g n)).
    For x = (-1, -1, 1, 1), n = x and r = 1; grad = (1, 0, 0, 0) has mean(g) = 1/4 and mean(g n) = -1/4:
    >>> x = z2g.tensor([-1.0, -1.0, 1.0, 1.0], requires_grad=True)
    >>> F.layer_norm(x, 4, eps=0.0)[0].backward(); x.grad  # grad - 1/4 + n / 4
    tensor([ 0.5000, -0.5000,  0.0000,  0.0000])
    """
    a, eps = floating(input, "layer_norm"), number(eps, "layer_norm: eps")
    whole = a.shape
    shape = tuple(normalized_shape) if isinstance(normalized_shape, (tuple, list)) else (normalized_shape,)
    if not shape or whole[-len(shape) :] != shape:
        raise RuntimeError(f"layer_norm: input {tuple(a.shape)} does not end in normalized_shape {shape}")
    for name, p in (("weight", weight), ("bias", bias)):
        if p is not None and (as_array(p, "layer_norm").shape != shape or p.array.dtype != a.dtype):
            got = f"{name} has shape {tuple(p.array.shape)} and dtype {p.array.dtype}"
            raise RuntimeError(f"layer_norm: {got}, expected {shape} and {a.dtype}")
    same_device("layer_norm", input, weight, bias)
    columns = math.prod(shape)
    rows = (math.prod(whole[: -len(shape)]), columns)
    n, r = kernels.layer_norm(a.reshape(rows), eps)  # (..., *shape) -> (N, C)
    w = None if weight is None else weight.array.reshape(columns)
    z = kernels.scale_shift(n, w, None if bias is None else bias.array.reshape(columns))

    def shaped(sums: Array) -> Array:
        return sums if len(shape) == 1 else sums.reshape(shape)  # the engine copies views before a leaf may keep them

    def grad_x(grad: Array) -> Array:
        g = grad.reshape(rows)
        return kernels.layer_norm_backward(g if w is None else kernels.scale_shift(g, w, None), n, r).reshape(whole)

    return record(
        "layer_norm",
        z.reshape(whole),
        (input, grad_x, weight),
        (weight, lambda grad: shaped(kernels.column_sums(grad.reshape(rows), n))),
        (bias, lambda grad: shaped(kernels.column_sums(grad.reshape(rows)))),
    )


@in_float32
@through_float32
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
    n, r = kernels.rms_norm(a.reshape(rows), eps)  # (N, C), (N, 1)
    w = None if weight is None else weight.array.reshape(columns)

    def grad_x(grad: Array) -> Array:
        g = grad.reshape(rows)
        return kernels.rms_norm_backward(g if w is None else kernels.scale_shift(g, w, None), n, r).reshape(whole)

    return record(
        "rms_norm",
        kernels.scale_shift(n, w, None).reshape(whole),
        (input, grad_x, weight),
        (weight, lambda grad: kernels.column_sums(grad.reshape(rows), n).reshape(shape)),
    )


def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """z = x / max(‖x‖ₚ, eps) along `dim`: vectors of length 1.

    Composed. What lies along x cannot change a direction, so only the rest of grad remains, divided by the length.
    >>> x = z2g.tensor([3.0, 4.0], requires_grad=True)
    >>> (F.normalize(x, dim=0) * z2g.tensor([4.0, -3.0])).sum().backward(); x.grad  # grad · x = 0
    tensor([ 0.8000, -0.6000])
    """
    return input / norm(input, p, dim, keepdim=True).clamp(min=eps)


@in_float32
@through_float32
def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """z = x₁ · x₂ / (max(‖x₁‖, eps) max(‖x₂‖, eps)) along `dim`: the cosine of the angle between vectors.

    Composed. A step at right angles turns x₁ towards x₂; one along x₁ changes nothing.
    >>> x = z2g.tensor([2.0, 0.0], requires_grad=True)
    >>> F.cosine_similarity(x, z2g.tensor([0.0, 1.0]), dim=0).backward(); x.grad
    tensor([0.0000, 0.5000])
    """
    a, b = as_array(x1, "cosine_similarity"), as_array(x2, "cosine_similarity")
    if a.shape != b.shape:  # a vector along `dim` is what it is after broadcasting
        check_broadcast(a.shape, b.shape, "cosine_similarity")
        shape = np.broadcast_shapes(a.shape, b.shape)
        x1, x2 = expand(x1, *shape), expand(x2, *shape)
    if a.dtype != b.dtype:
        x1, x2 = (x.to(dtypes.promote(a.dtype, b.dtype)) for x in (x1, x2))
    lengths = [norm(x, 2, dim, keepdim=True).clamp(min=eps) for x in (x1, x2)]
    return ((x1 / lengths[0]) * (x2 / lengths[1])).sum(dim)


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """z = x m: each element is dropped (m = 0) with probability p, or else scaled by m = 1 / (1 - p).

    The scale keeps the expected value, so that nothing changes when `training` is False: then z = x. The same m
    serves backward. (Srivastava et al. 2014)

    z = x m with m drawn beforehand, a constant: ∂L/∂x = grad m. What was dropped has no part in z.
    >>> x = z2g.ones(8, requires_grad=True); z = F.dropout(x, 0.5); z.sum().backward()
    >>> z2g.equal(x.grad, z)  # since x = 1, z is m
    True
    """
    p = number(p, "dropout: p")
    _check_probability(p, "dropout")
    if inplace:
        return update(input, "dropout_", dropout, p, training)
    if not training or p == 0:
        return input
    a = as_array(input, "dropout")
    if p == 1:
        return record("dropout", laid_out(of(a).zeros_like(a), a), (input, lambda grad: of(grad).zeros_like(grad)))
    check_floating(a, "dropout")
    z, m = quiet.run(kernels.dropout, a, p, replayed(default_generator.next_key, np.uint32))
    return record("dropout", laid_out(z, a), (input, lambda grad: grad * m))


def _check_probability(p: float, name: str) -> None:
    if not 0 <= p <= 1:
        raise ValueError(f"{name}: probability has to be between 0 and 1, got {p}")


# --- Embedding and convolution -----------------------------------------------------------------------------------


def embedding(input: Tensor, weight: Tensor, padding_idx: int | None = None) -> Tensor:
    """z = weight[ids]: a row of the table for each id.   ∂L/∂weight[i] = Σ of the gradients wherever i was looked up

    ids = input (...), weight (V, C) -> (..., C). The row `padding_idx` receives no gradient. On the CPU an id out of
    range raises IndexError; on the GPU nobody looks, so check before uploading.

    As for `x[...]`: the rule of reading is adding. Row 1 was read twice, row 0 never.
    >>> w = z2g.zeros(3, 2, requires_grad=True)
    >>> F.embedding(z2g.tensor([1, 2, 1]), w).sum().backward(); w.grad
    tensor([[0., 0.],
            [2., 2.],
            [1., 1.]])
    """
    ids, table = as_array(input, "embedding"), as_array(weight, "embedding")
    if ids.dtype.kind not in "iu":
        raise RuntimeError(f"embedding: expected integer ids, got {ids.dtype}")
    if table.ndim != 2:
        raise RuntimeError(f"embedding: weight must be a matrix (V, C), got shape {tuple(table.shape)}")
    same_device("embedding", input, weight)
    check_ids(ids, len(table), "embedding", "id")

    V, C = table.shape

    def rule(grad: Array) -> Array:
        flat = ids.reshape(-1)
        g = kernels.sum_rows_by_id(flat, grad.reshape(len(flat), C), V)  # (V, C)
        if padding_idx is not None:
            g[padding_idx] = 0
        return g

    return record("embedding", table[ids], (weight, rule, input))


def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float = 0.0) -> Tensor:
    """x surrounded by `value`: pad = (left, right) for the last dimension, then pairs for those before it.

    A negative number cuts off as many instead. What of x remains is the inner part of z, so its gradient is the inner
    part of grad.
    >>> x = z2g.tensor([1.0, 2.0], requires_grad=True)
    >>> (F.pad(x, (1, 1)) * z2g.tensor([5.0, 6.0, 7.0, 8.0])).sum().backward(); x.grad
    tensor([6., 7.])
    """
    a, value = as_array(input, "pad"), number(0.0 if value is None else value, "pad: value")
    amounts = [as_int(n, "pad") for n in pad]
    if mode != "constant":
        raise NotImplementedError(f"pad: mode {mode!r} is not offered, only 'constant'")
    if len(amounts) % 2 or len(amounts) > 2 * a.ndim:
        raise RuntimeError(f"pad: got {amounts} for shape {tuple(a.shape)}; expected a pair for each padded dimension")
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

    return record("pad", z, (input, rule))


# --- Attention ---------------------------------------------------------------------------------------------------


def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> Tensor:  # fmt: skip
    """z = softmax(q kᵀ / √d + mask) v: each query takes the mean of the values, weighted by its match with the keys.

    query (..., T, d), key (..., S, d), value (..., S, e) -> (..., T, e). `is_causal`: query i sees keys 0..i only,
    by position. `attn_mask` broadcasts to (..., T, S): True where a query may look, or numbers added to the scores
    (-inf forbids); no gradient reaches it. A query that may look nowhere gives 0. `dropout_p` drops weights, always:
    pass 0 when evaluating. (Vaswani et al. 2017, arXiv:1706.03762; gradients: see `kernels.attention_backward`)
    `enable_gqa`: query (..., nh, T, d), key and value (..., nk, S, ...) with fewer heads, each of which serves nh / nk
    neighbouring heads of the query (grouped queries, Ainslie et al. 2023, arXiv:2305.13245).

    Derived, with s = q kᵀ / √d and p = softmax(s): z = p v is a `matmul`, so ∂L/∂v = pᵀ grad and ∂L/∂p = grad vᵀ; the
    softmax turns that into ∂L/∂s = p (∂L/∂p - Σ p ∂L/∂p); s is a `matmul` again, so with g = ∂L/∂s / √d
    ∂L/∂q = g k and ∂L/∂k = gᵀ q.
    One query that matches two keys equally, p = (1/2, 1/2), d = 1, v = (0, 4): g = 1/2 ((0, 4) - 2) = (-1, 1).
    >>> q, k = z2g.tensor([[0.0]], requires_grad=True), z2g.tensor([[1.0], [3.0]])
    >>> v = z2g.tensor([[0.0], [4.0]], requires_grad=True)
    >>> F.scaled_dot_product_attention(q, k, v).backward(); q.grad, v.grad  # -1 · 1 + 1 · 3
    (tensor([[2.]]), tensor([[0.5000],
            [0.5000]]))
    """
    if enable_gqa:
        return _grouped_attention(query, key, value, attn_mask, dropout_p, is_causal, scale)
    if precision.blocks:
        query, key, value, attn_mask = lowered(query, key, value, attn_mask)
    q, k, v = (as_array(x, "scaled_dot_product_attention") for x in (query, key, value))
    if attn_mask is not None:
        as_array(attn_mask, "scaled_dot_product_attention: attn_mask")
    same_device("scaled_dot_product_attention", query, key, value, attn_mask)
    if min(q.ndim, k.ndim, v.ndim) < 2 or q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        raise RuntimeError(
            f"scaled_dot_product_attention: query {tuple(q.shape)}, key {tuple(k.shape)}, value {tuple(v.shape)}: "
            "expected (..., T, d), (..., S, d), (..., S, e)"
        )
    if not q.dtype == k.dtype == v.dtype:
        raise RuntimeError(
            f"scaled_dot_product_attention: query, key, value are {q.dtype}, {k.dtype}, {v.dtype}; expected one"
        )
    dropout_p = number(dropout_p, "scaled_dot_product_attention: dropout_p")
    _check_probability(dropout_p, "scaled_dot_product_attention")
    scale = 1 / math.sqrt(max(q.shape[-1], 1)) if scale is None else number(scale, "attention: scale")
    bias = _attention_bias(q, k, attn_mask, is_causal)
    seed = replayed(default_generator.next_key, np.uint32) if dropout_p else 0
    z, saved = quiet.run(kernels.attention, q, k, v, bias, is_causal, scale, dropout_p, seed)
    return record_joint(
        "attention",
        z,
        (query, key, value),
        lambda grad: kernels.attention_backward(grad, q, k, v, saved, scale),
        query,
        key,
        value,
    )


def _grouped_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *settings: Any) -> Tensor:
    """Attention whose keys and values broadcast to the group of queries that shares them; nothing is repeated."""
    shapes = [tuple(as_array(x, "scaled_dot_product_attention").shape) for x in (query, key, value)]
    heads, shared, other = (shape[-3] if len(shape) > 2 else 0 for shape in shapes)
    if not shared or shared != other or heads % shared:
        raise RuntimeError(
            f"scaled_dot_product_attention: query {shapes[0]}, key {shapes[1]}, value {shapes[2]}: with enable_gqa "
            "expected (..., nh, T, d), (..., nk, S, d), (..., nk, S, e), nh a multiple of nk"
        )
    group = (shared, heads // shared)
    if mask is not None and mask.ndim > 2:  # (..., nh or 1, T, S) -> (..., nk or 1, group or 1, T, S)
        mask = mask.unsqueeze(-3) if mask.array.shape[-3] == 1 else mask.unflatten(-3, group)
    z = scaled_dot_product_attention(
        query.unflatten(-3, group), key.unsqueeze(-3), value.unsqueeze(-3), mask, *settings
    )
    return z.flatten(-4, -3)  # (..., nk, group, T, e) -> (..., nh, T, e)


def _attention_bias(q: Array, k: Array, mask: Tensor | None, is_causal: bool) -> Array | None:
    """What is added to the scores (..., T, S): 0 where a query may look, -inf where not, or the numbers given."""
    if mask is None:
        return None
    if is_causal:
        raise RuntimeError("scaled_dot_product_attention: give attn_mask or is_causal=True, not both")
    if needs_grad(mask):
        raise NotImplementedError("scaled_dot_product_attention: an attn_mask that requires grad is not offered")
    m, scores = mask.array, (*np.broadcast_shapes(q.shape[:-2], k.shape[:-2]), q.shape[-2], k.shape[-2])
    if not fits(m.shape, scores):
        raise RuntimeError(
            f"scaled_dot_product_attention: attn_mask has shape {tuple(m.shape)}, expected one that broadcasts to the "
            f"scores, {scores}"
        )
    if m.dtype == q.dtype:
        return m
    if m.dtype == dtypes.float32:
        return m.astype(q.dtype)
    if m.dtype.kind != "b":
        raise RuntimeError(f"scaled_dot_product_attention: attn_mask must be bool or {q.dtype}, got {m.dtype}")
    return of(q).where(m, 0, -math.inf).astype(q.dtype)
