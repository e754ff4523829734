"""The routines of `reference.py` for CuPy arrays, as CUDA kernels: same names, same arguments, same numbers.

Each .cu file in this folder holds kernels that functions here launch. What no kernel is written for (float16 in layer
norm, losses and optimizers, softmax along another axis than the last, empty arrays, arrays of a card that is not the
current one) goes to the reference, which CuPy computes step by step.

They know nothing of tensors or graphs, as the reference does not.

No function here waits for the GPU. A launch costs 5 to 10 µs whatever it does, so what matters most for small models
is that there are few.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from ...arrays.backend import Array, of
from ...fast import reference
from .. import replay
from .launch import fits, kernel, number, over_elements, over_rows, tables
from .products import bmm, product

# --- Softmax family ----------------------------------------------------------------------------------------------


def softmax(a: Array, axis: int) -> Array:
    """See `reference.softmax`."""
    if axis not in (-1, a.ndim - 1) or not fits(a, half=True):
        return reference.softmax(a, axis)
    return _row_by_row("softmax", "softmax", a)


def softmax_backward(p: Array, grad: Array, axis: int) -> Array:
    """See `reference.softmax_backward`."""
    if axis not in (-1, p.ndim - 1) or not fits(p, grad, half=True):
        return reference.softmax_backward(p, grad, axis)
    return _row_by_row("softmax", "softmax_backward", p, grad)


def log_softmax(a: Array, axis: int) -> Array:
    """See `reference.log_softmax`."""
    if axis not in (-1, a.ndim - 1) or not fits(a, half=True):
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
    if not fits(a, *(x for x in (w, b) if x is not None), half=True):
        return reference.scale_shift(a, w, b)
    xp, z = of(a), of(a).empty(a.shape, a.dtype)
    a, w, b = (None if x is None else xp.ascontiguousarray(x) for x in (a, w, b))
    over_elements(a, "columns", "scale_shift", a.size, (a, w, b, z, np.int32(a.shape[1]), np.int64(a.size)))
    return z


def column_sums(a: Array, b: Array | None = None) -> Array:
    """See `reference.column_sums`. One launch for up to 512 rows, two for any number up to 250,000."""
    if not (fits(a, half=True) if b is None else fits(a, b, half=True)):
        return reference.column_sums(a, b)
    return _column_sums(a, b, None)


def product_and_column_sums(a: Array, b: Array) -> tuple[Array, Array]:
    """See `reference.product_and_column_sums`. Launches as `column_sums`."""
    if not fits(a, b, half=True):
        return reference.product_and_column_sums(a, b)
    xp, C = of(a), a.shape[-1]
    product = xp.empty(a.shape, a.dtype)
    return product, _column_sums(a.reshape(-1, C), b.reshape(-1, C), product)  # (..., C) -> (n, C)


def _column_sums(a: Array, b: Array | None, product: Array | None) -> Array:
    """Σ a b over the rows; `product`, if there is one, becomes a b."""
    xp, C, dtype = of(a), a.shape[1], number(a)  # sums of float16 are float32 until the end
    sums, b = xp.ascontiguousarray(a), None if b is None else xp.ascontiguousarray(b)
    while True:
        N = len(sums)
        chunk = max(512, -(-N // 65535))  # a grid has no more blocks in its second direction
        chunks = -(-N // chunk)
        out = xp.empty((chunks, C), dtype) if chunks > 1 else xp.empty(C, dtype)
        args = (sums, b, product, out, np.int64(N), np.int32(C), np.int32(chunk))
        kernel(xp, "columns", "column_sums", sums.dtype.char)((-(-C // 32), chunks), (32, 8), args)
        if chunks == 1:
            return out.astype(a.dtype, copy=False)
        sums, b, product = out, None, None


# --- Element by element ------------------------------------------------------------------------------------------


def gelu_exact(a: Array, b: Array | None = None) -> tuple[Array, Array]:
    """See `reference.gelu_exact`."""
    return _value_and_slope("gelu_exact", a, b)


def gelu_tanh(a: Array, b: Array | None = None) -> tuple[Array, Array]:
    """See `reference.gelu_tanh`."""
    return _value_and_slope("gelu_tanh", a, b)


def _value_and_slope(name: str, a: Array, b: Array | None) -> tuple[Array, Array]:
    if not (fits(a, half=True) if b is None else fits(a, b, half=True)):
        return getattr(reference, name)(a, b)
    xp = of(a)
    z, slope = xp.empty(a.shape, a.dtype), xp.empty(a.shape, a.dtype)
    a, b = xp.ascontiguousarray(a), None if b is None else xp.ascontiguousarray(b)
    over_elements(a, "gelu", name, a.size, (a, b, z, slope, np.int32(a.shape[-1]), np.int64(a.size)))
    return z, slope


def _key(key: int | Array) -> tuple[np.uint32, Array | None]:
    """A key of dropout as two arguments: the number, and where it lies in a captured step."""
    return (np.uint32(key), None) if isinstance(key, int) else (np.uint32(0), key)


def dropout(a: Array, p: float, key: int | Array) -> tuple[Array, Array]:
    """See `reference.dropout`: the same bits."""
    if not fits(a, half=True):
        return reference.dropout(a, p, key)
    xp = of(a)
    z, mask = xp.empty(a.shape, a.dtype), xp.empty(a.shape, a.dtype)
    threshold, kept = reference.dropout_numbers(p)
    args = (xp.ascontiguousarray(a), z, mask, *_key(key), threshold, number(a)(kept), np.int64(a.size))
    over_elements(a, "dropout", "dropout", a.size, args)
    return z, mask


# --- Attention ---------------------------------------------------------------------------------------------------

MOST_SCORES = 2**28  # bytes


def attention(
    q: Array, k: Array, v: Array, bias: Array | None, causal: bool, scale: float, drop: float, key: int | Array
) -> tuple[Array, list[tuple[Array, Array | None]] | Flash]:
    """See `reference.attention`. The scores become p where they lie.

    Where p would take more than MOST_SCORES bytes, it is never held: `flash_attention.cu` computes it in tiles, forward
    and again backward. That is a rule about memory: a layer keeps 256 MiB of p (and as much for dropout's mask) from
    its forward to its backward pass, so that a few dozen layers fill a card. Whether tiles save time as well depends on
    the card, whose tensor cores cuBLAS can use and these kernels do not; it has not been measured.
    """
    if not fits(q, k, v, *(() if bias is None else (bias,)), half=True):
        return reference.attention(q, k, v, bias, causal, scale, drop, key)
    T, S = q.shape[-2], k.shape[-2]
    batch, most_columns = np.broadcast_shapes(q.shape[:-2], k.shape[:-2]), 512 // q.itemsize  # HEAD in the .cu
    tiles = max(q.shape[-1], v.shape[-1]) <= most_columns and np.broadcast_shapes(batch, v.shape[:-2]) == batch
    if tiles and q.dtype != np.float16 and math.prod(batch) * T * S * q.itemsize > MOST_SCORES:
        return flash_attention(q, k, v, bias, causal, scale, drop, key)
    if q.dtype == np.float16:  # q kᵀ is stored in half, where more than 65504 is inf, before the kernel can scale it
        q, scale = q * q.dtype.type(scale), 1.0
    p = bmm(q, k.swapaxes(-1, -2))  # (..., T, d) @ (..., d, S) -> (..., T, S)
    rows, (bias, bias_rows) = p.size // S, _rows_of_bias(bias, p.shape)
    args = (
        p, bias, bias_rows, np.int32(causal), np.int32(T), np.int32(S), number(p)(scale), np.int64(rows),
    )  # fmt: skip
    over_rows(p, "attention", "attention_softmax", rows, S, args)
    used, kept = dropout(p, drop, key) if drop else (p, None)
    return bmm(used, v), [(p, kept)]  # (..., T, S) @ (..., S, e) -> (..., T, e)


def _rows_of_bias(bias: Array | None, shape: tuple[int, ...]) -> tuple[Array | None, np.int64]:
    """The bias of scores of that shape (..., T, S) as contiguous rows, and how many: those of one matrix serve all."""
    if bias is None:
        return None, np.int64(1)
    xp, whole = of(bias), shape if math.prod(bias.shape[:-2]) > 1 else shape[-2:]
    bias = bias.reshape(bias.shape[-2:]) if whole == shape[-2:] else bias
    bias = xp.ascontiguousarray(xp.broadcast_to(bias, whole))
    return bias, np.int64(bias.size // shape[-1])


def attention_backward(grad: Array, q: Array, k: Array, v: Array, saved: list | Flash, scale: float) -> tuple:
    """See `reference.attention_backward`."""
    if isinstance(saved, Flash):
        return flash_attention_backward(grad, q, k, v, saved, scale)
    [(p, kept)] = saved
    if not fits(grad, q, k, v, p, *(() if kept is None else (kept,)), half=True):
        return reference.attention_backward(grad, q, k, v, saved, scale)
    xp, S = of(q), k.shape[-2]
    used = p if kept is None else p * kept
    grad_v = bmm(used.swapaxes(-1, -2), grad)  # (..., S, T) @ (..., T, e) -> (..., S, e)
    s = bmm(grad, v.swapaxes(-1, -2))  # (..., T, e) @ (..., e, S) -> (..., T, S)
    p, kept = xp.ascontiguousarray(p), None if kept is None else xp.ascontiguousarray(kept)
    rows = s.size // S
    args = (p, kept, s, np.int32(S), number(s)(scale), np.int64(rows))
    over_rows(s, "attention", "attention_softmax_backward", rows, S, args)
    grad_q = bmm(s, k)  # (..., T, S) @ (..., S, d) -> (..., T, d)
    grad_k = bmm(s.swapaxes(-1, -2), q)  # (..., S, T) @ (..., T, d) -> (..., S, d)
    return grad_q, grad_k, grad_v


class Flash(NamedTuple):
    """What `flash_attention` saves in place of p."""

    z: Array  # (..., T, e)
    largest: Array  # (..., T): m, the largest score s of a query
    total: Array  # (..., T): Σ e^(s - m)
    bias: Array | None
    causal: bool
    drop: float
    key: int | Array


def flash_attention(
    q: Array, k: Array, v: Array, bias: Array | None, causal: bool, scale: float, drop: float, key: int | Array
) -> tuple[Array, Flash]:
    """`attention` in tiles: the same numbers, the same elements dropped, and no array of the size of p."""
    xp, batch = of(q), np.broadcast_shapes(q.shape[:-2], k.shape[:-2])
    z, largest, total = (xp.empty((*batch, q.shape[-2], *e), q.dtype) for e in (v.shape[-1:], (), ()))
    saved = Flash(z, largest, total, bias, causal, drop, key)
    q, k, v = (_whole(x, batch) for x in (q, k, v))
    _in_tiles("flash_attention", q, (q, k, v, z, largest, total), q, k, v, saved, scale)
    return z, saved._replace(z=z.copy())  # the caller may write into z


def flash_attention_backward(grad: Array, q: Array, k: Array, v: Array, saved: Flash, scale: float) -> tuple:
    """The gradients of q, k and v: one kernel for blocks of queries, one for blocks of keys and their values."""
    if not fits(grad, q, k, v):  # another card is the current one
        p = reference.attention(q, k, v, saved.bias, saved.causal, scale, saved.drop, saved.key)[1]
        return reference.attention_backward(grad, q, k, v, p, scale)
    xp, z, largest, total = of(q), saved.z, saved.largest, saved.total
    grad, q, k, v = (_whole(x, total.shape[:-1]) for x in (grad, q, k, v))
    D, grad_q, grad_k, grad_v = (xp.empty(x.shape, x.dtype) for x in (total, q, k, v))
    _in_tiles("flash_attention_grad_q", q, (grad, q, k, v, z, largest, total, D, grad_q), q, k, v, saved, scale)
    arrays = grad, q, k, v, largest, total, D, grad_k, grad_v
    _in_tiles("flash_attention_grad_kv", k, arrays, q, k, v, saved, scale)
    return grad_q, grad_k, grad_v


def _whole(x: Array, batch: tuple[int, ...]) -> Array:
    """x as contiguous matrices, one for each of the batch."""
    return of(x).ascontiguousarray(of(x).broadcast_to(x, batch + x.shape[-2:]))


def _in_tiles(
    name: str, owned: Array, arrays: tuple[Array, ...], q: Array, k: Array, v: Array, saved: Flash, scale: float
) -> None:
    """A kernel of flash_attention.cu whose blocks share out the rows of `owned`."""
    T, S, d, e = q.shape[-2], k.shape[-2], q.shape[-1], v.shape[-1]
    bias, bias_rows = _rows_of_bias(saved.bias, (*saved.total.shape, S))
    threshold, kept = reference.dropout_numbers(saved.drop)
    real, sizes = q.dtype.type, map(np.int32, (saved.causal, T, S, d, e))
    problem = (bias, bias_rows, *sizes, real(scale), *_key(saved.key), threshold, real(kept))
    blocks = math.prod(owned.shape[:-2]) * -(-owned.shape[-2] // 16)  # 16: OWN in flash_attention.cu
    kernel(of(q), "flash_attention", name, q.dtype.char)((blocks,), (32, 8), (*arrays, *problem))


# --- Embedding ---------------------------------------------------------------------------------------------------


def sum_rows_by_id(ids: Array, rows: Array, n: int) -> Array:
    """See `reference.sum_rows_by_id`. The order of additions is fixed, so the result is always the same."""
    if n <= 512:
        return product(reference.one_hot(ids, n, rows.dtype), rows)
    if not fits(rows):
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
    arrays: list[Array], parts: Iterable[tuple[Array, Array, Array, Array, int]], lr: float | Callable[[], float],
    beta1: float, beta2: float, eps: float, decay: float = 0.0,
) -> None:  # fmt: skip
    """See `reference.adam_all`. One launch for up to 64 parameters. In a captured step, `lr` is a function to ask."""
    recording = replay.recording() if replay.capturing() else None
    alike: dict[tuple, list] = {}
    for w, g, m, v, step in parts:
        if fits(w, g, m, v) and all(x.flags.c_contiguous for x in (w, m, v)):
            alike.setdefault((step, w.dtype.char), []).append((w, of(w).ascontiguousarray(g), m, v))
        elif replay.capturing() or callable(lr):
            raise NotImplementedError(f"Adam in a captured step: expected float32 or float64 in rows, got {w.dtype}")
        else:
            reference.adam(w, g, m, v, step, lr, beta1, beta2, eps, decay)
    for (step, char), found in alike.items():

        def changing(step: int = step) -> tuple[float, float, float]:
            rate, t = lr() if callable(lr) else lr, step + (recording.replays if recording else 0)
            return rate / (1 - beta1**t), 1 / math.sqrt(1 - beta2**t), rate * decay

        real, now = np.dtype(char).type, replay.number(changing, char)
        by_value, now = ((0, 0, 0), now) if recording else (now, None)
        numbers = (*map(real, (beta1, 1 - beta1, beta2, 1 - beta2, eps, *by_value)), now)
        for table, grid, _ in tables(64, "wgmv", found):
            kernel(of(arrays[0]), "adam", "adam_all", char)(grid, (256,), (table, *numbers))


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


def unscale(arrays: list[Array], factor: float) -> Array:
    """See `reference.unscale`. One launch for up to 192 arrays."""
    if not fits(*arrays) or not all(a.flags.c_contiguous for a in arrays):
        return reference.unscale(arrays, factor)
    xp, like = of(arrays[0]), arrays[0]
    found = xp.zeros((), np.int32)
    for table, grid, _ in tables(192, "x", [(a,) for a in arrays]):
        kernel(xp, "norm", "unscale", like.dtype.char)(grid, (256,), (table, like.dtype.type(factor), found))
    return found


# --- Captured steps ----------------------------------------------------------------------------------------------


def set_numbers(places: Array, values: np.ndarray) -> None:
    """See `reference.set_numbers`. One launch for up to 448 numbers, which need not stay: they go as arguments."""
    xp, most = of(places), 448
    for start in range(0, len(values), most):
        some = values[start : start + most]
        table = np.zeros(1, [("x", np.uint64, most)])
        table["x"][0, : len(some)] = some
        kernel(xp, "numbers", "set_numbers", "f")((2,), (256,), (table, places[start:], np.int32(len(some))))
