"""The routines of `reference.py` for CuPy arrays, as CUDA kernels: same names, same arguments, same numbers.

Each .cu file in this folder holds kernels that functions here launch. What no kernel is written for (float16, softmax
along another axis than the last, empty arrays, arrays of a card that is not the current one) goes to the reference,
which CuPy computes step by step.

They know nothing of tensors or graphs, as the reference does not.

No function here waits for the GPU. A launch costs 5 to 10 µs whatever it does, so what matters most for small models
is that there are few.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from ...backend import Array, of
from .. import reference
from .launch import fits, kernel, over_elements, over_rows, tables
from .products import bmm

# --- Softmax family ----------------------------------------------------------------------------------------------


def softmax(a: Array, axis: int) -> Array:
    """See `reference.softmax`."""
    if axis not in (-1, a.ndim - 1) or not fits(a):
        return reference.softmax(a, axis)
    return _row_by_row("softmax", "softmax", a)


def softmax_backward(p: Array, grad: Array, axis: int) -> Array:
    """See `reference.softmax_backward`."""
    if axis not in (-1, p.ndim - 1) or not fits(p, grad):
        return reference.softmax_backward(p, grad, axis)
    return _row_by_row("softmax", "softmax_backward", p, grad)


def log_softmax(a: Array, axis: int) -> Array:
    """See `reference.log_softmax`."""
    if axis not in (-1, a.ndim - 1) or not fits(a):
        return reference.log_softmax(a, axis)
    return _row_by_row("softmax", "log_softmax", a)


def _row_by_row(file: str, name: str, *inputs: Array) -> Array:
    """A kernel of the form (inputs, out, N, C) whose arrays have all the same shape (..., C)."""
    xp, a = of(inputs[0]), inputs[0]
    out, C = xp.empty(a.shape, a.dtype), a.shape[-1]
    N = a.size // C
    over_rows(a, file, name, N, C, (*map(xp.ascontiguousarray, inputs), out, np.int32(N), np.int32(C)))
    return out


def cross_entropy(logits: Array, target: Array, weight: Array) -> tuple[Array, Array]:
    """See `reference.cross_entropy`. A target out of range gives NaN."""
    if not fits(logits, weight):
        return reference.cross_entropy(logits, target, weight)
    xp, (N, C) = of(logits), logits.shape
    losses, g = xp.empty(N, logits.dtype), xp.empty((N, C), logits.dtype)
    target = xp.ascontiguousarray(target.astype(np.int64, copy=False))
    args = (xp.ascontiguousarray(logits), target, xp.ascontiguousarray(weight), losses, g, np.int32(N), np.int32(C))
    over_rows(logits, "cross_entropy", "cross_entropy", N, C, args)
    return losses, g


# --- Layer norm --------------------------------------------------------------------------------------------------


def layer_norm(a: Array, eps: float) -> tuple[Array, Array]:
    """See `reference.layer_norm`."""
    if not fits(a):
        return reference.layer_norm(a, eps)
    xp, (N, C) = of(a), a.shape
    n, r = xp.empty((N, C), a.dtype), xp.empty((N, 1), a.dtype)
    args = (xp.ascontiguousarray(a), n, r, a.dtype.type(eps), np.int32(N), np.int32(C))
    over_rows(a, "layer_norm", "layer_norm", N, C, args)
    return n, r


def layer_norm_backward(g: Array, n: Array, r: Array) -> Array:
    """See `reference.layer_norm_backward`."""
    if not fits(g, n, r):
        return reference.layer_norm_backward(g, n, r)
    xp, (N, C) = of(g), g.shape
    out = xp.empty((N, C), g.dtype)
    args = (*map(xp.ascontiguousarray, (g, n, r)), out, np.int32(N), np.int32(C))
    over_rows(g, "layer_norm", "layer_norm_backward", N, C, args)
    return out


def scale_shift(a: Array, w: Array | None, b: Array | None) -> Array:
    """See `reference.scale_shift`."""
    if not fits(a, *(x for x in (w, b) if x is not None)):
        return reference.scale_shift(a, w, b)
    xp, z = of(a), of(a).empty(a.shape, a.dtype)
    a, w, b = (None if x is None else xp.ascontiguousarray(x) for x in (a, w, b))
    over_elements(a, "columns", "scale_shift", a.size, (a, w, b, z, np.int32(a.shape[1]), np.int64(a.size)))
    return z


def column_sums(a: Array, b: Array | None = None) -> Array:
    """See `reference.column_sums`. One launch for up to 512 rows, two for any number up to 250,000."""
    if not (fits(a) if b is None else fits(a, b)):
        return reference.column_sums(a, b)
    return _column_sums(a, b, None)


def product_and_column_sums(a: Array, b: Array) -> tuple[Array, Array]:
    """See `reference.product_and_column_sums`. Launches as `column_sums`."""
    if not fits(a, b):
        return reference.product_and_column_sums(a, b)
    xp, C = of(a), a.shape[-1]
    product = xp.empty(a.shape, a.dtype)
    return product, _column_sums(a.reshape(-1, C), b.reshape(-1, C), product)  # (..., C) -> (n, C)


def _column_sums(a: Array, b: Array | None, product: Array | None) -> Array:
    """Σ a b over the rows; `product`, if there is one, becomes a b."""
    xp, C = of(a), a.shape[1]
    sums, b = xp.ascontiguousarray(a), None if b is None else xp.ascontiguousarray(b)
    while True:
        N = len(sums)
        chunks = -(-N // 512)
        out = xp.empty((chunks, C), a.dtype) if chunks > 1 else xp.empty(C, a.dtype)
        args = (sums, b, product, out, np.int64(N), np.int32(C), np.int32(512))
        kernel(xp, "columns", "column_sums", a.dtype.char)((-(-C // 32), chunks), (32, 8), args)
        if chunks == 1:
            return out
        sums, b, product = out, None, None


# --- Element by element ------------------------------------------------------------------------------------------


def gelu_exact(a: Array, b: Array | None = None) -> tuple[Array, Array]:
    """See `reference.gelu_exact`."""
    return _value_and_slope("gelu_exact", a, b)


def gelu_tanh(a: Array, b: Array | None = None) -> tuple[Array, Array]:
    """See `reference.gelu_tanh`."""
    return _value_and_slope("gelu_tanh", a, b)


def _value_and_slope(name: str, a: Array, b: Array | None) -> tuple[Array, Array]:
    if not (fits(a) if b is None else fits(a, b)):
        return getattr(reference, name)(a, b)
    xp = of(a)
    z, slope = xp.empty(a.shape, a.dtype), xp.empty(a.shape, a.dtype)
    a, b = xp.ascontiguousarray(a), None if b is None else xp.ascontiguousarray(b)
    over_elements(a, "gelu", name, a.size, (a, b, z, slope, np.int32(a.shape[-1]), np.int64(a.size)))
    return z, slope


def dropout(a: Array, p: float, key: int) -> tuple[Array, Array]:
    """See `reference.dropout`: the same bits."""
    if not fits(a):
        return reference.dropout(a, p, key)
    xp, real = of(a), a.dtype.type
    z, mask = xp.empty(a.shape, a.dtype), xp.empty(a.shape, a.dtype)
    threshold = np.uint32(min(round(p * 2**32), 2**32 - 1))
    args = (xp.ascontiguousarray(a), z, mask, np.uint32(key), threshold, real(1 / (1 - p)), np.int64(a.size))
    over_elements(a, "dropout", "dropout", a.size, args)
    return z, mask


# --- Attention ---------------------------------------------------------------------------------------------------

CAUSAL = object()  # stands for a causal bias: the kernel knows by position who may look where


def causal_bias(q: Array, k: Array) -> Array:
    """See `reference.causal_bias`. Nothing is computed: `attention` understands what is returned."""
    return CAUSAL if fits(q, k) else reference.causal_bias(q, k)


def attention(q: Array, k: Array, bias: Array | None, scale: float) -> Array:
    """See `reference.attention`. The scores become p where they lie."""
    if not (fits(q, k) if bias is None or bias is CAUSAL else fits(q, k, bias)):
        return reference.attention(q, k, reference.causal_bias(q, k) if bias is CAUSAL else bias, scale)
    xp, T, S = of(q), q.shape[-2], k.shape[-2]
    p = bmm(q, k.swapaxes(-1, -2))  # (..., T, d) @ (..., d, S) -> (..., T, S)
    causal, bias_rows, rows = int(bias is CAUSAL), 1, p.size // S
    if causal:
        bias = None
    elif bias is not None:
        whole = p.shape if math.prod(bias.shape[:-2]) > 1 else (T, S)
        bias = xp.ascontiguousarray(xp.broadcast_to(bias.reshape(bias.shape[-2:]) if whole == (T, S) else bias, whole))
        bias_rows = bias.size // S
    args = (
        p, bias, np.int64(bias_rows), np.int32(causal), np.int32(T), np.int32(S), p.dtype.type(scale), np.int64(rows),
    )  # fmt: skip
    over_rows(p, "attention", "attention_softmax", rows, S, args)
    return p


def attention_backward(grad: Array, q: Array, k: Array, v: Array, p: Array, kept: Array | None, scale: float) -> tuple:
    """See `reference.attention_backward`."""
    if not (fits(grad, q, k, v, p) if kept is None else fits(grad, q, k, v, p, kept)):
        return reference.attention_backward(grad, q, k, v, p, kept, scale)
    xp, S = of(q), k.shape[-2]
    used = p if kept is None else p * kept
    grad_v = bmm(used.swapaxes(-1, -2), grad)  # (..., S, T) @ (..., T, e) -> (..., S, e)
    s = bmm(grad, v.swapaxes(-1, -2))  # (..., T, e) @ (..., e, S) -> (..., T, S)
    p, kept = xp.ascontiguousarray(p), None if kept is None else xp.ascontiguousarray(kept)
    rows = s.size // S
    args = (p, kept, s, np.int32(S), s.dtype.type(scale), np.int64(rows))
    over_rows(s, "attention", "attention_softmax_backward", rows, S, args)
    grad_q = bmm(s, k)  # (..., T, S) @ (..., S, d) -> (..., T, d)
    grad_k = bmm(s.swapaxes(-1, -2), q)  # (..., S, T) @ (..., T, d) -> (..., S, d)
    return grad_q, grad_k, grad_v


# --- Embedding ---------------------------------------------------------------------------------------------------


def sum_rows_by_id(ids: Array, rows: Array, n: int) -> Array:
    """See `reference.sum_rows_by_id`. The order of additions is fixed, so the result is always the same."""
    if n <= 512 or not fits(rows):
        return reference.sum_rows_by_id(ids, rows, n)
    xp, (N, C) = of(rows), rows.shape
    out = xp.zeros((n, C), rows.dtype)
    ids = xp.ascontiguousarray(ids.astype(np.int64, copy=False))
    threads = min(256, -(-C // 32) * 32)
    args = (ids, xp.argsort(ids), xp.ascontiguousarray(rows), out, np.int64(N), np.int32(C), np.int64(n))
    by_id = kernel(xp, "sum_rows_by_id", "sum_rows_by_id", rows.dtype.char)
    by_id((N, -(-C // threads)), (threads,), args)
    return out


# --- Parameter updates, in place ---------------------------------------------------------------------------------


def adam_all(
    like: Array, parts: Iterable[tuple[Array, Array, Array, Array, int]], lr: float, beta1: float, beta2: float,
    eps: float, decay: float = 0.0,
) -> None:  # fmt: skip
    """See `reference.adam_all`. One launch for up to 64 parameters."""
    alike: dict[tuple, list] = {}
    for w, g, m, v, step in parts:
        if fits(w, g, m, v) and all(x.flags.c_contiguous for x in (w, m, v)):
            alike.setdefault((step, w.dtype.char), []).append((w, of(w).ascontiguousarray(g), m, v))
        else:
            reference.adam(w, g, m, v, step, lr, beta1, beta2, eps, decay)
    for (step, char), found in alike.items():
        root = 1 / math.sqrt(1 - beta2**step)
        settings = (beta1, 1 - beta1, beta2, 1 - beta2, lr / (1 - beta1**step), root, eps, lr * decay)
        numbers = tuple(np.dtype(char).type(x) for x in settings)
        for table, grid, _ in tables(64, "wgmv", found):
            kernel(of(like), "adam", "adam_all", char)(grid, (256,), (table, *numbers))


def norm(arrays: list[Array]) -> Array:
    """See `reference.norm`. Two launches for up to 192 arrays."""
    if not fits(*arrays):
        return reference.norm(arrays)
    xp, char = of(arrays[0]), arrays[0].dtype.char
    arrays = [xp.ascontiguousarray(a) for a in arrays]
    launches = list(tables(192, "x", [(a,) for a in arrays]))
    sums, total = xp.empty(sum(blocks for *_, blocks in launches), np.float64), xp.empty((), arrays[0].dtype)
    start = 0
    for table, grid, blocks in launches:
        kernel(xp, "norm", "sum_squares", char)(grid, (256,), (table, sums[start:]))
        start += blocks
    kernel(xp, "norm", "root_of_sum", char)((1,), (256,), (sums, total, np.int32(sums.size)))
    return total


def clip(arrays: list[Array], total: Array, max_norm: float) -> None:
    """See `reference.clip`. One launch for up to 192 arrays."""
    if not fits(*arrays, total) or not all(a.flags.c_contiguous for a in arrays):
        reference.clip(arrays, total, max_norm)
        return
    for table, grid, _ in tables(192, "x", [(a,) for a in arrays]):
        args = (table, total, total.dtype.type(max_norm))
        kernel(of(total), "norm", "clip_to_norm", total.dtype.char)(grid, (256,), args)
