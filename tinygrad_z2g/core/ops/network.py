"""What networks are made of: products, tables of vectors, softmax and its loss, layer norm, dropout, attention."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...arrays import checks
from ...arrays.backend import Array, of, quiet
from ...arrays.layout import laid_out, row_major
from ...arrays.random import default_generator, dropout_mask
from ..engine import RESULT, record
from ..operands import arrays_of, beside, floating, is_tensor

if TYPE_CHECKING:
    from ...tensor import Tensor


def matmul(input: Tensor, other: Tensor) -> Tensor:
    """z = x y, zᵢⱼ = Σₖ xᵢₖ yₖⱼ.   ∂L/∂x = grad yᵀ,  ∂L/∂y = xᵀ grad

    A vector on the left is a row, on the right a column, and that dimension leaves the result. Leading dimensions
    are a batch and broadcast.

    Derived: xᵢₖ stands in row i of z, times yₖⱼ: ∂zᵢⱼ/∂xᵢₖ = yₖⱼ. So ∂L/∂xᵢₖ = Σⱼ gradᵢⱼ yₖⱼ, which is row i of grad
    times column k of yᵀ. Likewise ∂L/∂yₖⱼ = Σᵢ xᵢₖ gradᵢⱼ = (xᵀ grad)ₖⱼ. (The shapes allow no other.)
    >>> x = z2g.tensor([[1.0, 2.0]], requires_grad=True)  # (1, 2)
    >>> y = z2g.tensor([[3.0, 4.0], [5.0, 6.0]], requires_grad=True)  # (2, 2)
    >>> (x @ y).sum().backward(); x.grad, y.grad  # grad = (1, 1): x receives the row sums of y
    (tensor([[ 7., 11.]]), tensor([[1., 1.],
            [2., 2.]]))
    """
    x, y = arrays_of("matmul", input, other)
    checks.check_product(x, y)
    if x.ndim == 1 or y.ndim == 1:
        left = input if x.ndim > 1 else input.reshape(1, -1)  # (k,) -> (1, k)
        right = other if y.ndim > 1 else other.reshape(-1, 1)  # (k,) -> (k, 1)
        return matmul(left, right).reshape(x.shape[:-1] if y.ndim == 1 else y.shape[:-2] + y.shape[-1:])
    return record(
        "matmul",
        quiet.run(operator.matmul, x, y),  # (..., n, k) @ (..., k, m) -> (..., n, m)
        (input, lambda grad, y: grad @ y.swapaxes(-1, -2), other),  # (..., n, m) @ (..., m, k) -> (..., n, k)
        (other, lambda grad, x: x.swapaxes(-1, -2) @ grad, input),  # (..., k, n) @ (..., n, m) -> (..., k, m)
    )


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """z = x Wᵀ + b.   ∂L/∂x = grad W,  ∂L/∂W = gradᵀ x,  ∂L/∂b = grad, summed over all rows

    Shapes: x (..., in), weight (out, in), bias (out,) -> (..., out). All leading dimensions of x together are the rows.

    Derived: `matmul` with y = Wᵀ gives grad W for x, and xᵀ grad for Wᵀ, the transpose of which is W's. b is added to
    every row, so every row's gradient reaches it.
    >>> x, W = z2g.tensor([[1.0, 2.0], [3.0, 4.0]]), z2g.tensor([[5.0, 6.0]], requires_grad=True)  # (2, 2), (1, 2)
    >>> b = z2g.tensor([0.0], requires_grad=True)
    >>> F.linear(x, W, b).sum().backward(); W.grad, b.grad  # 1 + 3, 2 + 4; two rows
    (tensor([[4., 6.]]), tensor([2.]))
    """
    x, W, b = arrays_of("linear", input, weight, bias)
    if W.ndim == 1 and b is None:
        return matmul(input, weight)  # (..., in) @ (in) -> (...)
    checks.check_linear(x, W, b)
    n, (n_out, n_in) = math.prod(x.shape[:-1]), W.shape
    z = quiet.run(operator.matmul, x, W.T)  # (..., in) @ (in, out) -> (..., out)
    return record(
        "linear",
        z if b is None else z + b,
        (input, lambda grad, W: grad @ W, weight),  # (..., out) @ (out, in) -> (..., in)
        (weight, lambda grad, x: grad.reshape(n, n_out).T @ x.reshape(n, n_in), input),  # (out, n) @ (n, in)
        (bias, lambda grad: grad),  # the engine sums the rows, as for every broadcast
    )


def embedding(input: Tensor, weight: Tensor) -> Tensor:
    """z = weight[ids]: a row of the table for each id.   ∂L/∂weight[i] = Σ of the gradients wherever i was looked up

    ids = input (...), weight (V, C) -> (..., C). On the CPU an id out of range raises IndexError.

    Derived: z = hot weight, hot (N, V) with a 1 in each row, at the id: a `matmul`, so ∂L/∂weight = hotᵀ grad.
    >>> w = z2g.zeros(3, 2, requires_grad=True)
    >>> F.embedding(z2g.tensor([1, 2, 1]), w).sum().backward(); w.grad.tolist()  # row 1 was read twice, row 0 never
    [[0.0, 0.0], [2.0, 2.0], [1.0, 1.0]]
    """
    ids, table = arrays_of("embedding", input, weight)
    checks.check_table(ids, table)
    n, (V, C) = ids.size, table.shape

    def rule(grad: Any, _: Any) -> Any:
        hot = beside(grad, onehot(ids.reshape(n), V, grad.dtype))
        return hot.swapaxes(0, 1) @ grad.reshape(n, C)  # (V, N) @ (N, C) -> (V, C)

    return record("embedding", table[ids], (weight, rule, input))


def onehot(ids: Array, n: int, dtype: Any) -> Array:
    """Rows with a 1 at the id and 0 elsewhere: (N,) -> (N, n)."""
    return (ids[:, None] == of(ids).arange(n)).astype(dtype)


def softmax(input: Tensor, dim: int) -> Tensor:
    """pᵢ = e^xᵢ / Σⱼ e^xⱼ along `dim`.   ∂L/∂x = p (grad - Σ p grad)

    Derived: with S = Σ e^xⱼ, ∂pᵢ/∂xⱼ = pᵢ [i = j] - pᵢ pⱼ (the quotient rule: e^xⱼ stands in the numerator of pⱼ
    alone, but in every S). Hence ∂L/∂xⱼ = Σᵢ gradᵢ ∂pᵢ/∂xⱼ = pⱼ gradⱼ - pⱼ Σᵢ pᵢ gradᵢ. The sum is one number for the
    whole row, so no matrix of ∂pᵢ/∂xⱼ is ever made.
    For x = (0, ln 3), p = (1/4, 3/4). With L = p₂, grad is (0, 1), Σ p grad is 3/4: (1/4 (0 - 3/4), 3/4 (1 - 3/4)).
    >>> x = z2g.tensor([1.0, 3.0]).log().requires_grad_()
    >>> z2g.softmax(x, dim=0)[1].backward(); x.grad
    tensor([-0.1875,  0.1875])
    """
    x = floating(input, "softmax")
    axis = checks.one_dim(dim, x.ndim, "softmax")
    p = row_major(quiet.run(_softmax, x, axis))
    return record("softmax", p, (input, lambda grad, p: p * (grad - (p * grad).sum(axis, keepdims=True)), RESULT))


def _softmax(x: Array, axis: int) -> Array:
    e = of(x).exp(below_0(x, axis))
    S = e.sum(axis=axis, keepdims=True)
    return e / (S + (S == 0))  # a row of -inf throughout gives zeros, not 0 / 0


def below_0(x: Array, axis: int) -> Array:
    """x - max x, of which no exponential overflows; in eˣ / Σ eˣ the maximum cancels."""
    lowest = float(of(x).finfo(x.dtype).min)  # in place of -inf, as -inf - -inf would be NaN
    return x - of(x).maximum(x.max(axis=axis, keepdims=True), lowest) if x.size else x


def cross_entropy(input: Tensor, target: Tensor, *, ignore_index: int = -100) -> Tensor:
    """L = the mean of -ln p[t], p = softmax(input), t the target of each row.   ∂L/∂input = (p - onehot(t)) / N

    What the model believes minus what is true, shared among the targets. input (N, C), unnormalised; target (N,),
    integers in 0..C-1. Targets equal to `ignore_index` count nowhere.

    Derived, one target: L = -x[t] + ln Σⱼ e^xⱼ. The first term has the slope -onehot(t), the second e^xⱼ / Σ = p. Of N
    targets each has 1/N of the mean. Two rows x = (0, ln 3), t = 0 and 1: p = (1/4, 3/4), half of p - (1, 0), (0, 1).
    >>> x = z2g.tensor([[1.0, 3.0], [1.0, 3.0]]).log().requires_grad_()
    >>> F.cross_entropy(x, z2g.tensor([0, 1])).backward(); x.grad.tolist()
    [[-0.375, 0.375], [0.125, -0.125]]
    """
    x, ids = arrays_of("cross_entropy", input, target)
    t, counts = checks.check_scores(x, ids, ignore_index)
    xp, (N, C), count = of(x), x.shape, counts.sum()
    share = (counts / xp.maximum(count, 1))[:, None].astype(x.dtype)  # (N, 1): 1/N, or 0

    def mean_loss(x: Array) -> Array:
        s = below_0(x, 1)
        losses = xp.log(xp.exp(s).sum(1)) - s[xp.arange(N), t]  # ln Σ e^x - x[t]
        return (xp.where(counts, losses, 0).sum() / count).astype(x.dtype)

    def rule(grad: Any, x: Any) -> Any:
        p = x.softmax(1) if is_tensor(x) else _softmax(x, 1)
        return (p - beside(p, onehot(t, C, x.dtype))) * (grad * beside(grad, share))

    return record("cross_entropy", quiet.run(mean_loss, x), (input, rule, input))


def layer_norm(
    input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """z = n w + b, n = (x - mean) / √(var + eps) over the last dimensions, var the biased variance.

    ∂L/∂w = Σ grad n,  ∂L/∂b = Σ grad,  ∂L/∂x = r (g - mean(g) - n mean(g n)) with g = grad w, r = 1 / √(var + eps).

    Derived, C numbers in a row, d = x - mean, n = r d: ∂dᵢ/∂xⱼ = [i = j] - 1/C, and r = (mean(d²) + eps)^(-1/2) has
    ∂r/∂xⱼ = -r³ dⱼ / C = -r² nⱼ / C. So ∂nᵢ/∂xⱼ = r [i = j] - r / C - dᵢ r² nⱼ / C = r ([i = j] - 1/C - nᵢ nⱼ / C),
    and Σᵢ gᵢ ∂nᵢ/∂xⱼ = r (gⱼ - mean(g) - nⱼ mean(g n)). (Ba, Kiros & Hinton 2016, arXiv:1607.06450)
    For x = (-1, -1, 1, 1), n = x and r = 1; grad = (1, 0, 0, 0) has mean(g) = 1/4 and mean(g n) = -1/4:
    >>> x = z2g.tensor([-1.0, -1.0, 1.0, 1.0], requires_grad=True)
    >>> F.layer_norm(x, 4, eps=0.0)[0].backward(); x.grad  # grad - 1/4 + n / 4
    tensor([ 0.5000, -0.5000,  0.0000,  0.0000])
    """
    x, w, b = arrays_of("layer_norm", input, weight, bias)
    eps, axes = checks.number(eps, "layer_norm: eps"), checks.normalized(x, normalized_shape, w, b)

    def normal(x: Any) -> tuple[Any, Any]:
        d = x - x.mean(axes, keepdims=True)
        r = 1 / of(x).sqrt((d * d).mean(axes, keepdims=True) + eps)
        return d * r, r

    def grad_x(grad: Any, x: Any, w: Any) -> Any:
        n, r = normal(x)
        g = grad if w is None else grad * w
        return r * (g - g.mean(axes, keepdims=True) - n * (g * n).mean(axes, keepdims=True))

    n, _ = quiet.run(normal, x)
    z = row_major((n if w is None else n * w) + (0 if b is None else b))
    scale = weight, lambda grad, x: grad * normal(x)[0], input
    return record("layer_norm", z, (input, grad_x, input, weight), scale, (bias, lambda grad: grad))


def dropout(input: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """z = x m: each element is dropped (m = 0) with probability p, or else scaled by m = 1 / (1 - p).

    The scale keeps the expected value, so that nothing changes when `training` is False: then z = x. The same m
    serves backward. (Srivastava et al. 2014)

    z = x m with m drawn beforehand, a constant: ∂L/∂x = grad m. What was dropped has no part in z.
    >>> x = z2g.ones(8, requires_grad=True); z = F.dropout(x, 0.5); z.sum().backward()
    >>> z2g.equal(x.grad, z)  # since x = 1, z is m
    True
    """
    p = checks.probability(p, "dropout: p")
    if not training or p == 0:
        return input
    x = floating(input, "dropout")
    m = dropout_mask(x, p, default_generator.next_key())
    return record("dropout", laid_out(quiet.run(operator.mul, x, m), x), (input, lambda grad, m: grad * m, m))


def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None,
) -> Tensor:  # fmt: skip
    """z = softmax(q kᵀ / √d + mask) v: each query takes the mean of the values, weighted by its match with the keys.

    query (..., T, d), key (..., S, d), value (..., S, e) -> (..., T, e). `is_causal`: query i sees keys 0..i only.
    `attn_mask` broadcasts to (..., T, S): True where a query may look, or numbers added to the scores (-inf forbids);
    with `is_causal`, both hold. A query that may look nowhere gives 0. `dropout_p` drops weights, always: pass 0 when
    evaluating. (Vaswani et al. 2017, arXiv:1706.03762)

    Derived, with s = q kᵀ / √d and p = softmax(s): z = p v is a `matmul`, so ∂L/∂v = pᵀ grad and ∂L/∂p = grad vᵀ; the
    softmax turns that into ∂L/∂s = p (∂L/∂p - Σ p ∂L/∂p); s is a `matmul` again, so with g = ∂L/∂s / √d
    ∂L/∂q = g k and ∂L/∂k = gᵀ q. (No rule stands here: the operations bring theirs.)
    One query that matches two keys equally, p = (1/2, 1/2), d = 1, v = (0, 4): g = 1/2 ((0, 4) - 2) = (-1, 1).
    >>> q, k, v = z2g.tensor([[0.0]], requires_grad=True), z2g.tensor([[1.0], [3.0]]), z2g.tensor([[0.0], [4.0]])
    >>> F.scaled_dot_product_attention(q, k, v).backward(); q.grad  # -1 · 1 + 1 · 3
    tensor([[2.]])
    """
    name = "scaled_dot_product_attention"
    q, k, v, mask = arrays_of(name, query, key, value, attn_mask)
    scale = checks.attention_scale(q, k, v, mask, scale)
    dropout_p = checks.probability(dropout_p, f"{name}: dropout_p")
    seed = default_generator.next_key() if dropout_p else 0
    return attend(query, key, value, attn_mask, is_causal, scale, dropout_p, seed)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Any, causal: bool, scale: float, drop: float, seed: int) -> Tensor:
    """`scaled_dot_product_attention` of checked arguments, its dropout by the mask of the key `seed`."""
    scores = q @ k.transpose(-2, -1) * scale  # (..., T, d) @ (..., d, S) -> (..., T, S)
    if causal:
        past = of(scores.array).tri(*scores.array.shape[-2:], dtype=bool)  # (T, S), True at and below the diagonal
        scores = scores.masked_fill(q.make(~past), -math.inf)
    if mask is not None:
        scores = scores.masked_fill(q.make(~mask.array), -math.inf) if mask.dtype.kind == "b" else scores + mask
    p = scores.softmax(-1)
    if drop:
        p = p * q.make(dropout_mask(p.array, drop, seed))
    return p @ v  # (..., T, S) @ (..., S, e) -> (..., T, e)
