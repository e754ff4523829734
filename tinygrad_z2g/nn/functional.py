"""Functions of neural networks: activations, softmax, losses, normalisation, convolution, embedding, attention.

Layers in `nn` hold the parameters and call these. Those that are one recorded operation use a routine of `kernels`
for speed and state their gradient rule here; the others are composed of tensor operations, and autograd does the rest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import kernels
from ..backend import Array, of
from ..engine import RESULT, needs_grad, record, record_joint
from ..ops.common import as_array, as_floating, as_int, one_dim, same_device
from ..ops.elementwise import relu, sigmoid, tanh
from ..ops.linalg import linear
from ..ops.shape import one_hot
from ..random import default_generator
from .window import avg_pool1d, conv1d, conv2d, max_pool1d, max_pool2d

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = [
    "avg_pool1d", "conv1d", "conv2d", "cross_entropy", "dropout", "embedding", "gelu", "l1_loss", "layer_norm",
    "linear", "log_softmax", "max_pool1d", "max_pool2d", "mse_loss", "nll_loss", "one_hot", "pad", "relu",
    "scaled_dot_product_attention", "sigmoid", "silu", "softmax", "softplus", "tanh",
]  # fmt: skip


# --- Activations -------------------------------------------------------------------------------------------------


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """z = x Φ(x), Φ the normal distribution function; "tanh": Φ(x) ≈ (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2.

    dz/dx = Φ(x) + x Φ'(x), computed with z and kept for backward. (Hendrycks & Gimpel 2016, arXiv:1606.08415)
    """
    if approximate not in ("none", "tanh"):
        raise RuntimeError(f"gelu: approximate must be 'none' or 'tanh', got {approximate!r}")
    a = as_floating(input, "gelu")
    kernel = kernels.gelu_tanh if approximate == "tanh" else kernels.gelu_exact
    z, slope = (out.reshape(a.shape) for out in kernel(a.reshape(a.shape or (1,))))
    return record("gelu", z, (input, lambda grad: grad * slope))


def silu(input: Tensor) -> Tensor:
    """z = x σ(x), also called swish."""
    return input * sigmoid(input)


def softplus(input: Tensor, beta: float = 1, threshold: float = 20) -> Tensor:
    """z = ln(1 + e^(βx)) / β, and x itself where βx > threshold.   dz/dx = σ(βx)"""
    a = as_floating(input, "softplus")
    xp = of(a)
    s = a * beta
    z = xp.where(s > threshold, a, (xp.maximum(s, 0) + xp.log1p(xp.exp(-xp.abs(s)))) * (1 / beta))
    with np.errstate(over="ignore"):
        slope = xp.where(s > threshold, 1, 1 / (1 + xp.exp(-s)))
    return record("softplus", z, (input, lambda grad: grad * slope))


def softmax(input: Tensor, dim: int, dtype: Any = None) -> Tensor:
    """pᵢ = e^xᵢ / Σⱼ e^xⱼ along `dim`.   ∂L/∂x = p (grad - Σ p grad)

    Every probability is lowered by what the others gain: raising xᵢ raises pᵢ by pᵢ (1 - pᵢ), lowers pⱼ by pᵢ pⱼ.
    """
    if dtype is not None:
        input = input.to(dtype=dtype)
    a = as_floating(input, "softmax")
    axis = one_dim(dim, a.ndim, "softmax")
    p = kernels.softmax(a.reshape(a.shape or (1,)), axis).reshape(a.shape)
    if not a.ndim:
        return record("softmax", p, (input, lambda grad: grad * 0))
    return record("softmax", p, (input, lambda grad: kernels.softmax_backward(p, grad, axis), RESULT))


def log_softmax(input: Tensor, dim: int, dtype: Any = None) -> Tensor:
    """zᵢ = xᵢ - ln Σⱼ e^xⱼ along `dim`.   ∂L/∂x = grad - eᶻ Σ grad, where eᶻ = softmax(x)"""
    if dtype is not None:
        input = input.to(dtype=dtype)
    a = as_floating(input, "log_softmax")
    axis, xp = one_dim(dim, a.ndim, "log_softmax"), of(a)
    z = kernels.log_softmax(a.reshape(a.shape or (1,)), axis).reshape(a.shape)
    if not a.ndim:
        return record("log_softmax", z, (input, lambda grad: grad * 0))
    return record("log_softmax", z, (input, lambda grad: grad - xp.exp(z) * grad.sum(axis=axis, keepdims=True), RESULT))


# --- Losses ------------------------------------------------------------------------------------------------------


def _reduce(losses: Tensor, reduction: str, name: str) -> Tensor:
    """The losses themselves ("none"), their sum or their mean."""
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{name}: reduction must be 'none', 'mean' or 'sum', got {reduction!r}")
    return losses if reduction == "none" else getattr(losses, reduction)()


def mse_loss(input: Tensor, target: Tensor, *, reduction: str = "mean") -> Tensor:
    """L = mean of (input - target)². The shapes must be equal: broadcasting here is nearly always a mistake."""
    _same_shape(input, target, "mse_loss")
    return _reduce((input - target).square(), reduction, "mse_loss")


def l1_loss(input: Tensor, target: Tensor, *, reduction: str = "mean") -> Tensor:
    """L = mean of |input - target|. The shapes must be equal."""
    _same_shape(input, target, "l1_loss")
    return _reduce((input - target).abs(), reduction, "l1_loss")


def _same_shape(input: Tensor, target: Tensor, name: str) -> None:
    a, b = as_array(input, name), as_array(target, name)
    if a.shape != b.shape:
        raise ValueError(f"{name}: input has shape {tuple(a.shape)}, target {tuple(b.shape)}; expected equal shapes")


def cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None = None, *, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    """L = -w[t] ln p[t], p = softmax(input) over the classes, t the target; the mean is over Σ w[t].

    ∂L/∂input = w[t] (p - onehot(t)): what the model believes minus what is true.

    input (C,), (N, C) or (N, C, d1, ...), unnormalised; target integers (), (N,) or (N, d1, ...) in 0..C-1. Targets
    equal to `ignore_index` count nowhere. `weight` (C,) rescales classes. On the CPU a target out of range raises
    IndexError; on the GPU nobody looks (it would stop the GPU at every step), so check before uploading.
    """
    _reduce(target, reduction, "cross_entropy") if reduction not in ("none", "mean", "sum") else None
    a, ids = as_floating(input, "cross_entropy"), as_array(target, "cross_entropy")
    if ids.dtype.kind not in "iu":
        raise RuntimeError(f"cross_entropy: expected integer class indices as target, got {ids.dtype}")
    same_device("cross_entropy", input, target, weight)
    expected = a.shape[:1] + a.shape[2:] if a.ndim > 1 else ()
    if not a.ndim or ids.shape != expected:
        raise ValueError(
            f"cross_entropy: input {tuple(a.shape)} needs a target of shape {tuple(expected)}, got {tuple(ids.shape)}"
        )
    xp = of(a)
    classes = a.shape[1] if a.ndim > 1 else a.shape[0]
    shape = a.shape
    rows = xp.moveaxis(a, 1, -1).reshape(-1, classes) if a.ndim > 1 else a[None]  # (N, C, d) -> (N d, C)
    ids = ids.reshape(-1)
    if weight is not None and (as_array(weight, "cross_entropy").shape != (classes,) or weight.array.dtype != a.dtype):
        got = f"weight has shape {tuple(weight.array.shape)} and dtype {weight.array.dtype}"
        raise RuntimeError(f"cross_entropy: {got}, expected ({classes},) and {a.dtype}")
    counted = ids != ignore_index
    safe = ids * counted  # class 0 stands in for ignored targets; their weight is 0
    _check_ids(safe, classes, "cross_entropy", "target")
    w = counted.astype(a.dtype) if weight is None else as_array(weight, "cross_entropy")[safe] * counted
    losses, slopes = kernels.cross_entropy(rows, safe, w)  # (N,), (N, C)

    if reduction == "none":
        z, share = losses.reshape(expected), 1
    elif reduction == "sum":
        z, share = losses.sum(), 1
    else:
        total = w.sum()
        with np.errstate(all="ignore"):  # every target ignored: the mean of nothing is NaN, its gradient 0
            z, share = losses.sum() / total, xp.where(total == 0, 0, 1 / total)

    def rule(grad: Array) -> Array:
        g = slopes * (grad.reshape(-1, 1) if reduction == "none" else grad * share)
        if len(shape) < 3:
            return g.reshape(shape)
        return xp.moveaxis(g.reshape(*expected, classes), -1, 1)

    return record("cross_entropy", z, (input, rule))


def nll_loss(
    input: Tensor, target: Tensor, weight: Tensor | None = None, *, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    """L = -w[t] input[t], with input (N, C) the log-probabilities: `cross_entropy` after `log_softmax`."""
    a, ids = as_floating(input, "nll_loss"), as_array(target, "nll_loss")
    if a.ndim != 2 or ids.shape != a.shape[:1] or ids.dtype.kind not in "iu":
        raise ValueError(
            f"nll_loss: expected input (N, C) and integer target (N,), got {tuple(a.shape)} and {tuple(ids.shape)}"
        )
    counted = ids != ignore_index
    safe = ids * counted
    _check_ids(safe, a.shape[1], "nll_loss", "target")
    w = counted.astype(a.dtype) if weight is None else as_array(weight, "nll_loss")[safe] * counted
    picked = input[(target.make(of(ids).arange(len(ids))), target.make(safe))]
    losses = -picked.masked_fill(target.make(w == 0), 0.0) * target.make(w)  # 0 · -inf is NaN
    return losses.sum() / target.make(w).sum() if reduction == "mean" else _reduce(losses, reduction, "nll_loss")


def _check_ids(ids: Array, n: int, name: str, what: str) -> None:
    """Raise IndexError unless every id is in 0..n-1. Only host arrays are looked at."""
    if isinstance(ids, np.ndarray) and ids.size and not 0 <= ids.min() <= ids.max() < n:
        bad = ids.min() if ids.min() < 0 else ids.max()
        raise IndexError(f"{name}: {what} {bad} is out of range, expected 0 to {n - 1}")


# --- Normalisation and dropout -----------------------------------------------------------------------------------


def layer_norm(
    input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """z = n w + b, n = (x - mean) / √(var + eps) over the last dimensions, var the biased variance.

    ∂L/∂w = Σ grad n,  ∂L/∂b = Σ grad,  ∂L/∂x = r (g - mean(g) - n mean(g n)) with g = grad w, r = 1 / √(var + eps).
    (Ba, Kiros & Hinton 2016, arXiv:1607.06450)
    """
    a = as_floating(input, "layer_norm")
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
    z = n if w is None else n * w
    if bias is not None:
        z = z + bias.array.reshape(columns)
    elif z is n:
        z = n.copy()

    def grad_x(grad: Array) -> Array:
        g = grad.reshape(rows)
        return kernels.layer_norm_backward(g if w is None else g * w, n, r).reshape(whole)

    return record(
        "layer_norm",
        z.reshape(whole),
        (input, grad_x, weight),
        (weight, lambda grad: kernels.total(grad.reshape(rows) * n, (0,), False).reshape(shape)),
        (bias, lambda grad: kernels.total(grad.reshape(rows), (0,), False).reshape(shape)),
    )


def dropout(input: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """z = x m: each element is dropped (m = 0) with probability p, or else scaled by m = 1 / (1 - p).

    The scale keeps the expected value, so that nothing changes when `training` is False: then z = x. The same m
    serves backward. (Srivastava et al. 2014)
    """
    _check_probability(p, "dropout")
    if not training or p == 0:
        return input
    a = as_floating(input, "dropout")
    if p == 1:
        return record("dropout", of(a).zeros_like(a), (input, lambda grad: grad * 0))
    m = kernels.dropout_mask(a, p, default_generator.next_key())
    return record("dropout", a * m, (input, lambda grad: grad * m))


def _check_probability(p: float, name: str) -> None:
    if not 0 <= p <= 1:
        raise ValueError(f"{name}: probability has to be between 0 and 1, got {p}")


# --- Embedding and convolution -----------------------------------------------------------------------------------


def embedding(input: Tensor, weight: Tensor, padding_idx: int | None = None) -> Tensor:
    """z = weight[input]: a row of the table for each id.   ∂L/∂weight[i] = Σ of the gradients wherever i was looked up

    ids (...), weight (V, C) -> (..., C). The row `padding_idx` receives no gradient. On the CPU an id out of range
    raises IndexError; on the GPU nobody looks, so check before uploading.
    """
    ids, table = as_array(input, "embedding"), as_array(weight, "embedding")
    if ids.dtype.kind not in "iu":
        raise RuntimeError(f"embedding: expected integer ids, got {ids.dtype}")
    if table.ndim != 2:
        raise RuntimeError(f"embedding: weight must be a matrix (V, C), got shape {tuple(table.shape)}")
    same_device("embedding", input, weight)
    _check_ids(ids, len(table), "embedding", "id")

    V, C = table.shape

    def rule(grad: Array) -> Array:
        flat = ids.reshape(-1)
        g = kernels.sum_rows_by_id(flat, grad.reshape(len(flat), C), V)  # (V, C)
        if padding_idx is not None:
            g[padding_idx] = 0
        return g

    return record("embedding", table[ids], (weight, rule, input))


def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float = 0.0) -> Tensor:
    """x surrounded by `value`: pad = (left, right) for the last dimension, then pairs for those before it."""
    a = as_array(input, "pad")
    amounts = [as_int(n, "pad") for n in pad]
    if mode != "constant":
        raise NotImplementedError(f"pad: mode {mode!r} is not offered, only 'constant'")
    if len(amounts) % 2 or len(amounts) > 2 * a.ndim or any(n < 0 for n in amounts):
        raise RuntimeError(f"pad: got {amounts} for shape {tuple(a.shape)}; expected a pair >= 0 per padded dimension")
    pairs = [(0, 0)] * (a.ndim - len(amounts) // 2) + list(zip(amounts[::2], amounts[1::2], strict=True))[::-1]
    inner = tuple(slice(before, before + n) for (before, _), n in zip(pairs, a.shape, strict=True))
    shape = [before + n + after for (before, after), n in zip(pairs, a.shape, strict=True)]
    z = of(a).full(shape, value, a.dtype)
    z[inner] = a
    return record("pad", z, (input, lambda grad: grad[inner]))


# --- Attention ---------------------------------------------------------------------------------------------------


def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None,
) -> Tensor:  # fmt: skip
    """z = softmax(q kᵀ / √d + mask) v: each query takes the mean of the values, weighted by its match with the keys.

    query (..., T, d), key (..., S, d), value (..., S, e) -> (..., T, e). `is_causal`: query i sees keys 0..i only,
    by position. `attn_mask` broadcasts to (..., T, S): True where a query may look, or numbers added to the scores
    (-inf forbids); no gradient reaches it. A query that may look nowhere gives 0. `dropout_p` drops weights, always:
    pass 0 when evaluating. (Vaswani et al. 2017, arXiv:1706.03762; gradients: see `kernels.attention_backward`)
    """
    q, k, v = (as_array(x, "scaled_dot_product_attention") for x in (query, key, value))
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
    _check_probability(dropout_p, "scaled_dot_product_attention")
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    p = kernels.attention(q, k, _attention_bias(q, k, attn_mask, is_causal), scale)  # (..., T, S)
    kept = None
    if dropout_p:
        kept = (
            kernels.dropout_mask(p, dropout_p, default_generator.next_key()) if dropout_p < 1 else of(p).zeros_like(p)
        )
    z = (p if kept is None else p * kept) @ v  # (..., T, S) @ (..., S, e) -> (..., T, e)
    return record_joint(
        "attention",
        z,
        (query, key, value),
        lambda grad: kernels.attention_backward(grad, q, k, v, p, kept, scale),
        query,
        key,
        value,
    )


def _attention_bias(q: Array, k: Array, mask: Tensor | None, is_causal: bool) -> Array | None:
    """What is added to the scores: 0 where a query may look, -inf where not, or the numbers given."""
    xp = of(q)
    if is_causal:
        if mask is not None:
            raise RuntimeError("scaled_dot_product_attention: give attn_mask or is_causal=True, not both")
        allowed = xp.tri(q.shape[-2], k.shape[-2], dtype=bool)
    elif mask is None:
        return None
    elif needs_grad(mask):
        raise NotImplementedError("scaled_dot_product_attention: an attn_mask that requires grad is not offered")
    elif mask.array.dtype == q.dtype:
        return mask.array
    elif mask.array.dtype.kind == "b":
        allowed = mask.array
    else:
        raise RuntimeError(f"scaled_dot_product_attention: attn_mask must be bool or {q.dtype}, got {mask.array.dtype}")
    return xp.where(allowed, 0, -math.inf).astype(q.dtype)
