"""The fused routines in NumPy, or CuPy: the text that any faster version is checked against.

They write into their own temporaries (`out=`, `-=`) because each avoided temporary is a pass over memory saved; they
never write into an argument, except the parameter updates at the end, whose purpose that is.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..arrays import dtypes
from ..arrays.backend import Array, device_of, of, silent, to_device
from ..arrays.normal import erf as erf
from ..arrays.normal import normal_cdf
from ..arrays.random import dropout_mask, dropout_numbers  # noqa: F401 - of this family
from ..core.engine import add_part as add_part  # the gradient of a slice has no other form here
from ..core.engine import put_part as put_part


def large(a: Array) -> bool:
    """Whether `a` is better computed one example at a time: many passes over it would each fetch it from far away.

    With 6 million numbers in 16 examples that makes gelu 1.6 times as fast on a CPU, the rule of attention 1.14 times;
    with less than a million it does not pay, and on a GPU never.
    """
    return isinstance(a, np.ndarray) and a.ndim > 2 and a.size > 2**20


def through_float32(function: Callable) -> Callable:
    """The routine, but float16 is computed in float32 and rounded once, at the end, as kernels on a GPU do: in float16
    e¹² is inf, a sum of ones stops at 2,048, and NumPy has no fast products.
    """

    @functools.wraps(function)
    def rounded(first: Array, *rest: Any) -> Any:
        if first.dtype != dtypes.float16:
            return function(first, *rest)
        wide = (
            dtypes.cast(x, dtypes.float32) if getattr(x, "dtype", None) == dtypes.float16 else x for x in (first, *rest)
        )
        out = function(*wide)
        if isinstance(out, tuple):  # but what `attention` saves for its backward pass, a list, stays as it is
            return tuple(x if isinstance(x, list) else dtypes.rounded(x, first.dtype) for x in out)
        return dtypes.rounded(out, first.dtype)

    return rounded


# --- Sums --------------------------------------------------------------------------------------------------------


def total(a: Array, axis: tuple[int, ...], keepdims: bool) -> Array:
    """Σ a over `axis`, exact to float32's rounding for long sums too.

    NumPy adds pairwise along the axes whose elements are neighbours in memory, but one row after the other along
    others: a million float32 numbers summed that way are off by 1 %. Long sums of that kind are therefore taken in
    float64, and those of float16 in float32, as torch does.
    """
    n = math.prod(a.shape[i] for i in axis)
    rows = axis == (0,) and a.ndim == 2 and isinstance(a, np.ndarray) and not keepdims
    if rows and 0 < n <= 4096 and a.dtype.kind == "f" and a.dtype != np.float16:
        return ones(n, a.dtype).dot(a)  # 2 to 8 times faster than .sum, and as exact for so few
    if a.dtype == np.float16:
        return a.sum(axis=axis, keepdims=keepdims, dtype=np.float32).astype(a.dtype)
    if n > 4096 and a.dtype == np.float32 and n > 4096 * _pairwise(a, axis):
        return a.sum(axis=axis, keepdims=keepdims, dtype=np.float64).astype(a.dtype)
    return a.sum(axis=axis, keepdims=keepdims)


def _pairwise(a: Array, axis: tuple[int, ...]) -> int:
    """How many numbers NumPy adds pairwise in a sum over `axis`: those that lie in one row in memory."""
    run, next_step = 1, None
    for step, i, size in sorted(zip(map(abs, a.strides), range(a.ndim), a.shape, strict=True)):
        if size > 1:
            if i not in axis or next_step not in (None, step):
                break
            run, next_step = run * size, step * size
    return run


@functools.lru_cache(64)
def ones(n: int, dtype: np.dtype) -> np.ndarray:
    """n ones, to be read only. (Making them takes as long as the sum of 128 numbers.)"""
    return np.ones(n, dtype)


def sum_squares(a: Array) -> Array:
    """Σ a² over all elements, 0-d. For few a dot product takes a third of the time; for many it is less exact."""
    if not isinstance(a, np.ndarray) or a.size > 4096:
        return (a * a).sum()
    flat = a.reshape(-1)
    return flat.dot(flat)


def squared_distance(a: Array, b: Array) -> Array:
    """Σ (a - b)² over all elements, 0-d."""
    return sum_squares(a - b)


def column_sums(a: Array, b: Array | None = None) -> Array:
    """Σ a b over the rows of two matrices, or Σ a of one: the gradient of what was the same for every row."""
    return total(a if b is None else a * b, (0,), False)


@through_float32
def product_and_column_sums(a: Array, b: Array) -> tuple[Array, Array]:
    """a b, and its sums over all dimensions but the last: the gradients of x and b where z is a function of x + b.

    a, b (..., C). Returns (..., C) and (C,).
    """
    product = a * b
    return product, column_sums(product.reshape(math.prod(a.shape[:-1]), a.shape[-1]))  # (..., C) -> (n, C)


# --- Softmax family ----------------------------------------------------------------------------------------------


def finite_max(a: Array, axis: int | tuple[int, ...]) -> Array:
    """max a along `axis`, kept with size 1. A row of -inf, or an empty one, gives the lowest finite number: with
    -inf, the -inf - (-inf) that follows would be NaN."""
    xp, lowest = of(a), float(np.finfo(a.dtype).min)
    if not a.size:
        return xp.full_like(a.sum(axis=axis, keepdims=True), lowest)
    return xp.maximum(a.max(axis=axis, keepdims=True), lowest)


def exponentials(a: Array, axis: int, low: float = 1e-10, high: float = 1e30) -> tuple[Array, Array, Array]:
    """a - m, e^(a - m) and the sums of these along `axis`. No m changes a probability; max a keeps eˣ from overflowing.

    For rows whose sum lies between `low` and `high`, m = 0 does as well, and saves NumPy's slow maximum of rows: 78 of
    120 µs for 1,600 rows of 16. (Logarithms need closer bounds: a - ln Σ eᵃ is as exact as a is near 0.) Each row is
    judged by itself, so that no row's last bits depend on another's numbers. (A GPU would have to stop to look, so
    there m is always the maximum.)
    """
    xp = of(a)
    with np.errstate(over="ignore", invalid="ignore"):  # rows with inf
        if xp is not np or not a.size or a.dtype == np.float16 or axis not in (-1, a.ndim - 1):
            shifted = a - finite_max(a, axis)
            e = xp.exp(shifted)
            return shifted, e, total(e, (axis % a.ndim,), True)
        e = np.exp(a)
        sums = row_sums(e)
        if sums.min() > low and sums.max() < high:  # in all rows; false for NaN
            return a, e, sums
        rest = ~((sums > low) & (sums < high))[..., 0]
        shifted = a.copy()
        shifted[rest] -= finite_max(a[rest], -1)
        e[rest] = np.exp(shifted[rest])
        sums[rest] = row_sums(e[rest])
        return shifted, e, sums


NEAR_ONE = 1e-3, 1e4  # sums whose logarithm is small


def row_sums(a: Array) -> Array:
    """Σ along the last axis, kept with size 1: for few numbers as a product with ones, 3 to 6 times faster than .sum;
    for many in rows that are not too long by NumPy's einsum, on one thread.

    BLAS takes two threads for the product with many, and then the other core holds a copy of half of them. Where two
    cores share no cache that takes longer than it saves, as soon as this core goes on: layer_norm of 1.6 million
    numbers took 4.5 ms there in place of 2.0, what it left 3 times as long to read. But einsum adds one number after
    the other: of a million float32 in a row the sixth digit is wrong, while the product's parts are summed apart.
    """
    n = a.shape[-1]
    if not a.size or not isinstance(a, np.ndarray):  # on a GPU .sum is one kernel, which a captured step may launch
        return a.sum(-1, keepdims=True)
    if a.size > 2**17 and n <= 4096:
        return np.einsum("...i->...", a)[..., None]
    few = ones(n, a.dtype) if n <= 4096 else np.ones(n, a.dtype)
    return a.dot(few)[:, None] if a.ndim == 2 else a.reshape(-1, n).dot(few).reshape(*a.shape[:-1], 1)


def row_dots(a: Array, b: Array) -> Array:
    """Σ a b along the last axis, kept with size 1. NumPy's vecdot needs no a b in memory, which pays
    from 64 numbers on; rows of a million are less exact that way, as in `row_sums`."""
    if of(a) is np and 64 <= a.shape[-1] <= 4096:
        return np.vecdot(a, b)[..., None]
    return row_sums(a * b)


@through_float32
def softmax(a: Array, axis: int) -> Array:
    """p = eᵃ / Σ eᵃ. A row that is -inf throughout has nothing to choose from and gives zeros, not 0/0."""
    _, p, total = exponentials(a, axis)
    p /= total + (total == 0)
    return p


@through_float32
def softmax_backward(p: Array, grad: Array, axis: int) -> Array:
    """∂L/∂a = p (grad - Σ p grad): softmax's Jacobian is diag(p) - p pᵀ."""
    last = axis in (-1, p.ndim - 1)
    g = grad - (row_dots(p, grad) if last else total(p * grad, (axis,), True))
    g *= p
    return g


@through_float32
def log_softmax(a: Array, axis: int) -> Array:
    """log p = a - m - ln Σ e^(a - m). Where p > 1/2, that would cancel; there -ln p = ln (1 + the others' sum / e)."""
    xp, axis = of(a), axis % a.ndim
    with np.errstate(all="ignore"):  # a row of -inf, with +inf, or an empty one
        shifted, e, sums = exponentials(a, axis, *NEAR_ONE)
        z = shifted - xp.log(sums)
        likely = e + e > sums  # of a row one at most
        others = total(xp.where(likely, 0, e), (axis,), True)
        return xp.where(likely, 0 - xp.log1p(others / e), z)


def log_of_sum(e: Array, axis: tuple[int, ...]) -> Array:
    """ln Σ e along `axis`, kept with size 1, where the largest e are 1: ln (1 + rest) keeps the digits of the rest."""
    xp = of(e)
    largest = e == 1
    rest = total(xp.where(largest, 0, e), axis, True) + (largest.sum(axis=axis, keepdims=True, dtype=e.dtype) - 1)
    return xp.log1p(rest)


@through_float32
def cross_entropy(logits: Array, target: Array, weight: Array) -> tuple[Array, Array]:
    """Per row, loss = -weight · log p[target] with p = softmax(logits), and its gradient weight · (p - onehot).

    logits (N, C), target (N,) in 0..C-1, weight (N,). Returns losses (N,) and gradients (N, C). Near p[target] = 1 both
    come from the sum of the other exponentials, others / Σ = 1 - p[target], which a subtraction would lose.
    """
    xp, rows = of(logits), of(logits).arange(len(logits))
    with np.errstate(all="ignore"):
        shifted, g, sums = exponentials(logits, 1, *NEAR_ONE)
        e, sums = g[rows, target], sums[:, 0]
        g[rows, target] = 0
        others = row_sums(g)[:, 0]
        logp = xp.where(others < e, -xp.log1p(others / e), shifted[rows, target] - xp.log(sums))
        losses = -xp.where(weight == 0, 0, logp) * weight  # a row of weight 0 may hold inf, and 0 · inf is NaN
        g[rows, target] = -others
        g *= (weight / sums)[:, None]
    return losses, g


# --- Layer norm --------------------------------------------------------------------------------------------------


@through_float32
def layer_norm(a: Array, eps: float) -> tuple[Array, Array]:
    """Rows with mean 0 and variance 1: n = (a - mean) r,  r = 1 / √(var + eps), var the biased variance.

    a (N, C). Returns n (N, C) and r (N, 1).
    """
    xp, C = of(a), max(a.shape[1], 1)
    n = a - row_sums(a) / C
    n -= row_sums(n) / C  # the first mean is rounded; of a constant row 1/√eps would make 0.5 of what is left
    r = 1 / xp.sqrt(row_dots(n, n) / C + eps)
    n *= r
    return n, r


@through_float32
def layer_norm_backward(g: Array, n: Array, r: Array) -> Array:
    """∂L/∂a = r (g - mean(g) - n mean(g n)), with g = ∂L/∂n.

    The two means remove what cannot change the result: a shift of the whole row, and a stretch of it.
    """
    C = max(g.shape[1], 1)
    out = n * (row_dots(g, n) / -C)
    out += g
    out -= row_sums(g) / C
    out *= r
    return out


@through_float32
def rms_norm(a: Array, eps: float) -> tuple[Array, Array]:
    """Rows with mean square 1: n = a r,  r = 1 / √(mean(a²) + eps). a (N, C). Returns n (N, C) and r (N, 1)."""
    r = 1 / of(a).sqrt(row_dots(a, a) / max(a.shape[1], 1) + eps)
    return a * r, r


@through_float32
def rms_norm_backward(g: Array, n: Array, r: Array) -> Array:
    """∂L/∂a = r (g - n mean(g n)), with g = ∂L/∂n."""
    out = n * (row_dots(g, n) / -max(g.shape[1], 1))
    out += g
    out *= r
    return out


def scale_shift(a: Array, w: Array | None, b: Array | None) -> Array:
    """z = a w + b in a new array, a (N, C), w and b (C,); None for what there is not."""
    z = a.copy() if w is None else a * w
    if b is not None:
        z += b
    return z


# --- ReLU and GELU ---------------------------------------------------------------------------------------------------


def relu(a: Array) -> Array:
    """max(a, 0). NumPy's clip takes many numbers at a time, its maximum with a number one by one: for 200,000 numbers
    24 against 78 µs, for 6 million 1.8 against 2.5 ms; for few it is 0.7 µs slower."""
    if a.size > 2000 and a.dtype.kind == "f" and isinstance(a, np.ndarray):
        return a.clip(0, math.inf)
    return of(a).maximum(a, 0)


def relu_backward(grad: Array, z: Array) -> Array:
    """∂L/∂a = grad where z = max(a, 0) is not 0, else 0 grad."""
    return grad * (z != 0)


def times(a: Array, b: Array) -> Array:
    """z = a b, element by element, of one shape."""
    return a * b


def fill(a: Array, mask: Array, value: float) -> Array:
    """value where the mask is True, else a. The mask broadcasts to a."""
    return of(a).where(mask, value, a).astype(a.dtype, copy=False)


@through_float32
def gelu_exact(a: Array, b: Array | None = None) -> tuple[Array, Array]:
    """z = x Φ(x) and its slope Φ(x) + x φ(x), φ(x) = e^(-x²/2) / √(2π), where x = a, or a + b with a bias b (C,)."""
    xp = of(a)
    a = a if b is None else a + b
    cdf = normal_cdf(a)
    return a * cdf, cdf + a * xp.exp(-0.5 * a * a) * (1 / math.sqrt(2 * math.pi))


@through_float32
def gelu_tanh(a: Array, b: Array | None = None) -> tuple[Array, Array]:
    """z = x s with s = (1 + tanh u) / 2, u = √(2/π) (x + 0.044715 x³), and its slope dz/dx = s + 2 x s (1 - s) u'.

    x is a, or a + b with a bias b (C,). The slope is computed here, while s is at hand, so that backward is a single
    product.
    """
    xp = of(a)
    if large(a):
        z, slope = xp.empty_like(a), xp.empty_like(a)
        for i in range(len(a)):
            z[i], slope[i] = gelu_tanh(a[i], b)
        return z, slope
    a = a if b is None else a + b
    c = math.sqrt(2 / math.pi)  # u = c x (1 + 0.044715 x²)
    square = a * a
    s = square * (0.044715 * c)
    s += c
    s *= a
    xp.tanh(s, out=s)  # in NumPy two thirds of the time of exp
    s += 1
    s *= 0.5
    z = a * s
    slope = square
    slope *= 6 * 0.044715 * c  # 2u' = 2c (1 + 3 · 0.044715 x²)
    slope += 2 * c
    slope *= 1 - s  # before z, as x³ is beyond float32 from 7e12 on, where this is 0
    slope *= z
    slope += s
    return z, slope


# --- Attention ---------------------------------------------------------------------------------------------------


@through_float32
def bmm(a: Array, b: Array) -> Array:
    """z = a b for batches of matrices, (..., n, k) and (..., k, m) -> (..., n, m); the leading dimensions broadcast."""
    return a @ b


BLOCK = 64  # queries; of 16 to 128 the quickest for 128 to 512 positions


@through_float32
def attention(
    q: Array, k: Array, v: Array, bias: Array | None, causal: bool, scale: float, drop: float, key: int | Array
) -> tuple[Array, list[tuple[Array, Array | None]]]:
    """z = p v with p = softmax(scale q kᵀ + bias): the mean of the values, weighted by how well query and key match.

    q (..., T, d), k (..., S, d), v (..., S, e) -> z (..., T, e). bias broadcasts to p (..., T, S) and is -inf where a
    query must not look; or, if `causal`, bias is None and query t sees the keys 0..t only. A query that may look
    nowhere attends to nothing: its row of p is 0. `drop` is the share of p that dropout sets to 0, by the bits of
    `key`. The second result is what `attention_backward` needs: p and the mask it was multiplied by, or None, of each
    block of queries.

    A causal p is 0 above its diagonal. The queries i..i+b of a block see no key after i + b, so that a block's scores
    are (..., b, i + b) and nearly half of all is never computed: for 256 positions in heads of 64, on one thread, the
    forward pass takes 0.68 of the time, the backward pass 0.73; for 512, 0.60 and 0.68. (On a GPU all queries are one
    block: several would be as many times the launches.)

    z lies in memory as q does where it can, as in torch: heads that were cut out of one product of (B, T, H d) numbers
    give a z that becomes (B, T, H d) again without a copy.
    """
    xp, T, S = of(q), q.shape[-2], k.shape[-2]
    batch = np.broadcast_shapes(q.shape[:-2], k.shape[:-2])
    kept = dropout_mask(xp.broadcast_to(xp.zeros((), q.dtype), (*batch, T, S)), drop, key) if drop else None
    shape = (*np.broadcast_shapes(batch, v.shape[:-2]), T, v.shape[-1])
    alike = xp is np and q.ndim == 4 and shape == q.shape == v.shape[:2] + q.shape[2:] and not drop
    alike = alike and 0 not in q.strides and all(x.strides[-1] == x.itemsize for x in (q, k, v))
    z = np.empty_like(q) if alike and not q.flags.c_contiguous else None
    if not causal or xp is not np or T <= BLOCK:
        z, p = attend(q, k, v, bias, 0 if causal else None, scale, kept, z)
        return z, [(p, kept)]
    z, saved = np.empty(shape, q.dtype) if z is None else z, []
    for rows, seen in blocks(T, S):
        mask = None if kept is None else kept[..., rows, :seen]
        part = q[..., rows, :], k[..., :seen, :], v[..., :seen, :]
        saved.append((attend(*part, None, rows.start, scale, mask, z[..., rows, :])[1], mask))
    return z, saved


def blocks(T: int, S: int) -> list[tuple[slice, int]]:
    """Blocks of at most BLOCK of T queries: which ones, and how many of the S keys the last of them sees."""
    return [(slice(i, min(i + BLOCK, T)), min(i + BLOCK, T, S)) for i in range(0, T, BLOCK)]


def attend(
    q: Array,
    k: Array,
    v: Array,
    bias: Array | None,
    start: int | None,
    scale: float,
    kept: Array | None,
    out: Array | None,
) -> tuple[Array, Array]:
    """z, into `out` if there is one, and p for a block of queries. If causal, `start` is the position of the first: it
    sees the keys 0..start."""
    xp = of(q)
    scores = xp.matmul(q, k.swapaxes(-1, -2))  # (..., b, d) @ (..., d, S) -> (..., b, S)
    scores *= scale
    if bias is not None:
        scores += bias  # half of the time of choosing by `where`
    if start is not None:
        corner = scores[..., start:]  # all see the keys before
        corner += xp.where(xp.tri(*corner.shape[-2:], dtype=bool), 0, -math.inf).astype(q.dtype)
    p = softmax(scores, -1)
    return xp.matmul(p if kept is None else p * kept, v, out=out), p  # (..., b, S) @ (..., S, e) -> (..., b, e)


@through_float32
def attention_backward(grad: Array, q: Array, k: Array, v: Array, saved: list, scale: float) -> tuple:
    """The gradients of q, k and v in `attention`, from that of z and what was saved: p, and what dropout multiplied.

    ∂L/∂v = pᵀ grad;  ∂L/∂p = grad vᵀ;  through the softmax to the scores s;  ∂L/∂q = scale s k,  ∂L/∂k = scale sᵀ q.
    Each block of queries has its own part of ∂L/∂q; keys and values are shared, so their gradients are sums.
    """
    xp = of(q)
    if q.shape[:-2] == k.shape[:-2] == v.shape[:-2] and large(saved[-1][0]):
        parts = xp.empty(q.shape, q.dtype), xp.empty(k.shape, k.dtype), xp.empty(v.shape, v.dtype)
        for i in range(len(q)):
            some = attention_backward(grad[i], q[i], k[i], v[i], [example(i, *block) for block in saved], scale)
            for part, g in zip(parts, some, strict=True):
                part[i] = g
        return parts
    if len(saved) > 1:
        batch = grad.shape[:-2]
        grad_q, grad_k, grad_v = (xp.zeros((*batch, *x.shape[-2:]), x.dtype) for x in (q, k, v))
        for (rows, seen), block in zip(blocks(q.shape[-2], k.shape[-2]), saved, strict=True):
            some = grad[..., rows, :], q[..., rows, :], k[..., :seen, :], v[..., :seen, :]
            grad_q[..., rows, :], for_k, for_v = attention_backward(*some, [block], scale)
            grad_k[..., :seen, :] += for_k
            grad_v[..., :seen, :] += for_v
        return grad_q, grad_k, grad_v
    [(p, kept)] = saved
    used = p if kept is None else p * kept
    grad_v = xp.matmul(used.swapaxes(-1, -2), grad)  # (..., S, T) @ (..., T, e) -> (..., S, e)
    s = xp.matmul(grad, v.swapaxes(-1, -2))  # (..., T, e) @ (..., e, S) -> (..., T, S)
    if kept is not None:
        s *= kept
    s = softmax_backward(p, s, -1)
    s *= scale
    grad_q = xp.matmul(s, k)  # (..., T, S) @ (..., S, d) -> (..., T, d)
    grad_k = xp.matmul(s.swapaxes(-1, -2), q)  # (..., S, T) @ (..., T, d) -> (..., S, d)
    return grad_q, grad_k, grad_v


def example(i: int, p: Array, kept: Array | None) -> tuple[Array, Array | None]:
    """What was saved of example i alone."""
    return p[i], None if kept is None else kept[i]


@through_float32
def rotate(a: Array, cos: Array, sin: Array, interleaved: bool) -> Array:
    """Each pair of a (..., d) turned by its angle; cos, sin (..., d / 2). Pairs: neighbours, or i and i + d/2."""
    half = a.shape[-1] // 2
    first, second = (slice(0, None, 2), slice(1, None, 2)) if interleaved else (slice(half), slice(half, None))
    x, y, z = a[..., first], a[..., second], of(a).empty_like(a)
    z[..., first] = x * cos - y * sin
    z[..., second] = x * sin + y * cos
    return z


# --- Dropout -----------------------------------------------------------------------------------------------------


def dropout(a: Array, p: float, key: int | Array) -> tuple[Array, Array]:
    """z = a m and m, the `dropout_mask`. (In a captured step the key is on the card.)"""
    mask = dropout_mask(a, p, key)
    return a * mask, mask


# --- Embedding ---------------------------------------------------------------------------------------------------


def one_hot(ids: Array, n: int, dtype: np.dtype) -> Array:
    """1 in row i, column k where ids[k] = i, else 0: (N,) -> (n, N)."""
    return (ids == of(ids).arange(n)[:, None]).astype(dtype)


def sum_rows_by_id(ids: Array, rows: Array, n: int) -> Array:
    """out[i] = Σ of the rows whose id is i: the gradient of a table that was read at `ids`.

    ids (N,), rows (N, C) -> (n, C). For a small table this is one matrix product with the one-hot ids; for a large
    one the rows are sorted by id and each run is summed. Both are deterministic, and 8 to 12 times faster than
    `add.at`.
    """
    xp = of(rows)
    if n <= 512:
        with np.errstate(invalid="ignore"):
            out = one_hot(ids, n, rows.dtype) @ rows if xp is not np or len(ids) <= 4096 else _by_blocks(ids, rows, n)
        if xp is not np or np.isfinite(out).all():  # 0 · inf is NaN: one bad row would spoil all others (as it does
            return out  # on a GPU, which would have to stop to look)
    out = xp.zeros((n, rows.shape[1]), rows.dtype)
    if xp is not np:
        xp.add.at(out, ids, rows)
        return out
    order = np.argsort(ids, kind="stable")
    ordered = ids[order]
    starts = np.flatnonzero(np.concatenate([np.ones(min(len(ids), 1), bool), ordered[1:] != ordered[:-1]]))
    if len(starts):
        long = np.diff(starts, append=len(ids)).max() > 4096 and rows.dtype == np.float32  # as in `total`
        out[ordered[starts]] = np.add.reduceat(rows[order], starts, axis=0, dtype=np.float64 if long else None)
    return out


def _by_blocks(ids: Array, rows: Array, n: int) -> Array:
    """The same by a product for each 4,096 rows, added up in float64: of 100,000 one product would lose digits."""
    out = np.zeros((n, rows.shape[1]))
    for k in range(0, len(ids), 4096):
        out += one_hot(ids[k : k + 4096], n, rows.dtype) @ rows[k : k + 4096]  # (n, 4096) @ (4096, C)
    return out.astype(rows.dtype)


# --- Parameter updates, in place ---------------------------------------------------------------------------------


def sgd(w: Array, g: Array, lr: float) -> None:
    """w -= lr · g"""
    w -= lr * g


def adam(
    w: Array, g: Array, m: Array, v: Array, step: int, lr: float, beta1: float, beta2: float, eps: float,
    decay: float = 0.0,
) -> None:  # fmt: skip
    """m = β₁ m + (1 - β₁) g;  v = β₂ v + (1 - β₂) g²;  w -= lr (m̂ / (√v̂ + ε) + decay · w)

    m̂ = m / (1 - β₁ᵗ) and v̂ = v / (1 - β₂ᵗ) correct for m and v having started at 0; t is `step`, counted from 1.
    w is written once, at the end: whatever interrupts this leaves it as it was or as it should be.
    """
    xp = of(w)
    scratch = xp.empty_like(g)
    xp.multiply(g, 1 - beta1, out=scratch)
    m *= beta1
    m += scratch
    xp.multiply(g, g, out=scratch)
    scratch *= 1 - beta2
    v *= beta2
    v += scratch
    xp.sqrt(v, out=scratch)
    root = math.sqrt(1 - beta2**step)  # √v̂ + ε = (√v + ε root) / root: the two corrections become numbers
    scratch += eps * root
    xp.divide(m, scratch, out=scratch)
    scratch *= lr * root / (1 - beta1**step)
    if decay:
        scratch += w * (lr * decay)
    w -= scratch


def adam_all(
    arrays: list[Array], parts: Iterable[tuple[Array, Array, Array, Array, int]], lr: float, beta1: float, beta2: float,
    eps: float, decay: float = 0.0,
) -> None:  # fmt: skip
    """`adam` for each (w, g, m, v, step) of `parts`, whose w are `arrays`, prepared as its turn comes."""
    for w, g, m, v, step in parts:
        adam(w, g, m, v, step, lr, beta1, beta2, eps, decay)


# --- Captured steps ----------------------------------------------------------------------------------------------


def set_numbers(places: Array, values: np.ndarray) -> None:
    """places[i] = values[i], 8 bytes each, from the host's memory to the card's. See replay.py."""
    for i, value in enumerate(values):
        places[i] = value


# --- Windows -----------------------------------------------------------------------------------------------------


def add_windows(out: Array, seen: Array, stride: tuple[int, ...], dilation: tuple[int, ...]) -> None:
    """Add what a window saw to where it came from: out[..., t · stride + k · dilation] += seen[..., k, t].

    out (N, C, L), seen (N, C, K, L'); in two dimensions L is H, W, and K and L' are two numbers each.
    """
    n = len(stride)
    kernel, lengths = seen.shape[2 : 2 + n], seen.shape[2 + n :]
    for at in itertools.product(*map(range, kernel)):  # where this place of the window goes as the window moves
        firsts = [k * d for k, d in zip(at, dilation, strict=True)]
        moves = (slice(f, f + s * (m - 1) + 1, s) for f, s, m in zip(firsts, stride, lengths, strict=True))
        out[(..., *moves)] += seen[(slice(None), slice(None), *at)]


# --- Several blocks, one after the other -------------------------------------------------------------------------


def each(function: Callable[[Any], object], blocks: list) -> None:
    """function(block) for each."""
    for block in blocks:
        function(block)


def shares(n: int) -> list[slice]:
    """0..n, undivided."""
    return [slice(0, n)]


# --- Many arrays at once -----------------------------------------------------------------------------------------


@silent
def norm(arrays: list[Array]) -> Array:
    """√(Σ x²) over all elements of all arrays, 0-d, on the device of the first."""
    home = device_of(arrays[0])
    wide = [a.astype(np.float32) if a.dtype == np.float16 else a for a in arrays]  # 256² is inf in float16
    return sum(to_device(_dot(a), home) for a in wide) ** 0.5


def _dot(a: Array) -> Array:
    """Σ a², in blocks: BLAS adds millions one after the other, and the fourth digit is wrong by then."""
    if not isinstance(a, np.ndarray):
        return of(a).vdot(a, a)
    few, many = np.split(a.reshape(-1), [a.size % 4096])
    return few.dot(few) + np.vecdot(many.reshape(-1, 4096), many.reshape(-1, 4096)).sum()


@silent
def clip(arrays: list[Array], total: Array, max_norm: float) -> None:
    """x *= min(1, max_norm / (total + 1e-6)) for every array, where `total` is their norm."""
    factor = of(arrays[0]).minimum(max_norm / (total + 1e-6), 1)
    for a in arrays:
        a *= to_device(factor, device_of(a)).astype(a.dtype)


@silent
def unscale(arrays: list[Array], factor: float) -> Array:
    """x *= factor for every array. Returns whether there was an inf or NaN before, 0-d, on the device of the arrays."""
    xp = of(arrays[0])
    found = xp.zeros((), bool)
    for a in arrays:
        found = found | ~xp.isfinite(a).all()
        a *= factor
    return found
