"""Faster forms of operations of `core.ops`, of the same name, signature and meaning; FORMS is the list.

Each takes the routines of this package in place of a few operations on arrays, checks its arguments by the same
functions, and is tested against the plain form. Where its rule is no composition that can be differentiated again, the
plain operation is its twin. `TINYGRAD_Z2G_PLAIN=1` in the environment takes none of them, nor those that are no
operations: `updates.py` (optimizers), `decoding.py` (a block that writes), `RoomyCache` in `nn/cache.py`.
"""

from __future__ import annotations

import functools
import inspect
import math
import os
import textwrap
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import fast
from ..arrays import checks, dtypes
from ..arrays.backend import Array, of, quiet, silent
from ..arrays.layout import copied, laid_out, row_major, spread
from ..arrays.random import default_generator
from ..core import engine, ops
from ..core.engine import RESULT, Derived, Variable, needs_grad, record
from ..core.operands import arrays_of, as_array, beside, converted, floating, operands
from ..walks.again import linear_rule, record_fused, record_joint_fused
from ..walks.joint import record_joint
from . import product

if TYPE_CHECKING:
    from ..tensor import Tensor

FLOAT32 = dtypes.float32
PLAIN = SimpleNamespace(**vars(ops))  # as they are before the forms take their place
DOT = np.ndarray.dot  # what `product` calls; asking it costs 0.1 µs


# --- Elementwise -------------------------------------------------------------------------------------------------


def pow(input: Tensor, exponent: float) -> Tensor:
    """Small powers as products: NumPy's `x**3` is 30 times slower than `x * x * x`."""
    y, x = checks.number(exponent, "pow: exponent"), as_array(input, "pow")
    if x.dtype.kind != "f":
        input, y, x, _ = operands(input, y, "pow")
    if x.dtype.kind in "iu" and y < 0:
        raise RuntimeError(f"pow: integers to the power {y} are not integers; convert to float first")
    z = quiet.run(_power, x, y)
    if y == 0:
        return record("pow", z, (input, lambda grad: of(grad).zeros_like(grad)))
    return record(
        "pow", copied(x) if z is x else z, (input, lambda grad, x, y: grad * (y * _power(x, y - 1)), input, y)
    )


def _power(x: Any, n: float) -> Any:
    if n == 2:
        return x * x
    if n == 1:
        return x
    if n == 3:
        return x * x * x
    return of(x).sqrt(x) if n == 0.5 else x**n


def relu(input: Tensor) -> Tensor:
    """A gradient that is infinite gives NaN left of 0, as ∞ · 0 does; choosing by np.where, which gives torch's 0,
    takes 10 times as long, masking its bits 1.4 to 1.8 times."""
    x = as_array(input, "relu")
    if x.dtype.kind == "b":
        checks.check_numbers(x, 0, "relu")
    z = quiet.run(fast.relu, x)
    return record("relu", z, (input, lambda grad, z: fast.relu_backward(grad, z), RESULT))


@silent
def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """One pass, which computes the slope with z and keeps it for backward."""
    kernel = fast.gelu_exact if checks.gelu_is_exact(approximate) else fast.gelu_tanh
    a = floating(input, "gelu")
    z, slope = (out.reshape(a.shape) for out in kernel(a.reshape(a.shape or (1,))))
    return record_fused(
        "gelu",
        laid_out(z, a),
        (input, lambda grad, slope, _: fast.times(grad, slope), slope, input),
        twin=(lambda x: PLAIN.gelu(x, approximate), input),
    )


def masked_fill(input: Tensor, mask: Tensor, value: Any) -> Tensor:
    """One pass in place of `where`."""
    x, m = as_array(input, "masked_fill"), as_array(mask, "masked_fill")
    z = quiet.run(fast.fill, x, m, checks.fillable(x, m, value))
    return record("masked_fill", row_major(z), (input, lambda grad, m: fast.fill(grad, m, 0), mask))


# --- Sums and products -------------------------------------------------------------------------------------------


def sum(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Long sums are as exact as short ones: see `fast.total`."""
    a = as_array(input, "sum")
    a = a if a.dtype.kind == "f" else a.astype(dtypes.int64, copy=False)
    dims, shape = checks.many_dims(dim, a.ndim, "sum"), a.shape
    z = row_major(quiet.run(fast.total, a, dims, keepdim))
    if z.dtype.kind != "f":
        return input.make(z)
    return record("sum", z, (input, lambda grad: of(grad).broadcast_to(spread(grad, dims, keepdim), shape)))


def mean(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """As `sum`; that of float16, which may be beyond its range, in float32."""
    a = as_array(input, "mean")
    checks.check_averaged(a)
    dims, shape = checks.many_dims(dim, a.ndim, "mean"), a.shape
    n = math.prod([shape[d] for d in dims]) or math.nan
    if a.dtype == dtypes.float16:
        z = dtypes.rounded(quiet.run(fast.total, a.astype(np.float32), dims, keepdim) / n, a.dtype)
    else:
        z = quiet.run(fast.total, a, dims, keepdim) / n
    return record(
        "mean",
        row_major(z),
        (input, lambda grad: of(grad).broadcast_to(spread(grad, dims, keepdim) * (1 / n), shape)),
    )


def matmul(input: Tensor, other: Tensor) -> Tensor:
    """Two matrices by `fast.product`, batches by `fast.bmm`. float16 is multiplied in float32 on the CPU."""
    dtype, input, other, x, y = _factors(input, other, "matmul")
    if x.ndim == y.ndim == 2 and x.shape[1] == y.shape[0]:
        z = quiet.run(DOT if type(x) is np.ndarray and x.size < fast.FEW else product, x, y)
        return record(
            "matmul",
            _rounded(z, dtype),
            (input, lambda grad, y: product(grad, y.T), other),
            (other, lambda grad, x: product(x.T, grad), input),
        )
    checks.check_product(x, y)
    if x.ndim > 2 and y.ndim == 2:
        return _flat_matmul(dtype, input, other, x, y)
    row, column = x.ndim == 1, y.ndim == 1
    x = x[None, :] if row else x  # (..., n, k)
    y = y[:, None] if column else y  # (..., k, m)
    Z = quiet.run(fast.bmm, x, y)  # (..., n, m)
    z = Z.reshape(Z.shape[: -1 - row] + Z.shape[-1:] if not column else Z.shape[: -1 - row]) if row or column else Z

    wide = Z.shape  # (..., n, m)

    def grad_x(grad: Any, y: Any) -> Any:
        y = y[:, None] if column else y
        return fast.bmm(grad.reshape(wide), y.swapaxes(-1, -2))  # (..., n, m) @ (..., m, k)

    def grad_y(grad: Any, x: Any) -> Any:
        x = x[None, :] if row else x
        g = fast.bmm(x.swapaxes(-1, -2), grad.reshape(wide))  # (..., k, n) @ (..., n, m)
        return g[..., 0] if column else g

    return record("matmul", row_major(_rounded(z, dtype)), (input, grad_x, other), (other, grad_y, input))


def _flat_matmul(dtype: np.dtype, input: Tensor, other: Tensor, x: Array, y: Array) -> Tensor:
    """The common case (..., k) @ (k, m) as one product of two matrices: 1.5 to 2.5 times faster than a batch of
    small products followed by a sum over the batch."""
    shape, n, (k, m) = x.shape, math.prod(x.shape[:-1]), y.shape
    z = quiet.run(product, x.reshape(n, k), y).reshape(*shape[:-1], m)  # (..., k) -> (n, k); (n, m) -> (..., m)
    return record(
        "matmul",
        _rounded(z, dtype),
        (input, lambda grad, y: product(grad.reshape(n, m), y.T).reshape(shape), other),
        (other, lambda grad, x: product(x.reshape(n, k).T, grad.reshape(n, m)), input),
    )


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """One product of two matrices, all leading dimensions of x being the rows."""
    b = None if bias is None else as_array(bias, "linear")
    if b is None and as_array(weight, "linear").ndim == 1:
        return matmul(input, weight)  # (..., in) @ (in) -> (...)
    dtype, input, weight, x, W = _factors(input, weight, "linear")
    if W.ndim != 2 or x.shape[-1:] != W.shape[1:] or (b is not None and (b.shape != W.shape[:1] or b.dtype != dtype)):
        checks.check_linear(x.astype(dtype, copy=False), W.astype(dtype, copy=False), b)
    if b is not None and b.device != x.device:
        checks.one_device("linear", x, b)
    shape, n, (n_out, n_in) = x.shape, math.prod(x.shape[:-1]), W.shape
    z = quiet.run(product, x.reshape(n, n_in), W.T, b)  # (..., in) -> (n, in); (n, in) @ (in, out)
    z = _rounded(z, dtype).reshape(*shape[:-1], n_out)
    if bias is not None and fast.loops_for(x) and needs_grad(weight) and needs_grad(bias) and needs_grad(input):

        def rule(grad: Any, W: Any, x: Any) -> tuple[Any, Any, Any]:
            g = grad.reshape(n, n_out)
            return product(g, W).reshape(shape), *fast.weight_and_bias(g, x.reshape(n, n_in))

        return record_joint("linear", z, (input, weight, bias), rule, weight, input)
    edges: list[tuple] = [
        (input, lambda grad, W: product(grad.reshape(n, n_out), W).reshape(shape), weight),
        (weight, lambda grad, x: product(grad.reshape(n, n_out).T, x.reshape(n, n_in)), input),
    ]
    if bias is not None:
        edges.append((bias, lambda grad: fast.column_sums(grad.reshape(n, n_out))))
    return record("linear", z, *edges)


def _factors(x: Tensor, y: Tensor, name: str) -> tuple[np.dtype, Tensor, Tensor, Array, Array]:
    """The dtype of the product of two tensors, which must be of one dtype and device; these; their arrays.

    float16 comes as float32 on the CPU: sums of products would be rounded after each addition, and NumPy has no fast
    product of float16; rules that meet a float16 gradient then give float32, which the engine rounds. (On a GPU, cuBLAS
    reads float16 and adds up in float32.)
    """
    if isinstance(x, Variable) and isinstance(y, Variable):  # the usual case: nothing to widen or to refuse
        a, b = x.array, y.array
        if a.dtype is b.dtype is FLOAT32 and type(a) is type(b) is np.ndarray:
            return FLOAT32, x, y, a, b
    a, b = as_array(x, name), as_array(y, name)
    checks.one_device(name, a, b)
    checks.same_dtype(name, a, b)
    dtype = a.dtype
    if dtype == dtypes.float16 and isinstance(a, np.ndarray):
        a, b = a.astype(np.float32), b.astype(np.float32)
        return dtype, converted(x, a), converted(y, b), a, b
    return dtype, x, y, a, b


def _rounded(z: Array, dtype: np.dtype) -> Array:
    """The product z in the dtype of its factors, from which it differs where `_factors` cast them."""
    return z if z.dtype is dtype else dtypes.rounded(z, dtype)


# --- Networks ----------------------------------------------------------------------------------------------------


def embedding(input: Tensor, weight: Tensor) -> Tensor:
    """The rule adds up rows, and makes no matrix of ones."""
    ids, table = arrays_of("embedding", (input, weight))
    checks.check_table(ids, table)
    V, C = table.shape

    def rule(grad: Array) -> Array:
        flat = ids.reshape(-1)
        return fast.sum_rows_by_id(flat, grad.reshape(len(flat), C), V)  # (V, C)

    return record("embedding", table[ids], (weight, linear_rule("embedding", rule, lambda table: table[ids]), input))


@silent
def softmax(input: Tensor, dim: int) -> Tensor:
    """Rows in one routine."""
    x = floating(input, "softmax")
    axis = checks.one_dim(dim, x.ndim, "softmax")
    p = row_major(fast.softmax(x.reshape(x.shape or (1,)), axis).reshape(x.shape))
    if not x.ndim:
        return record("softmax", p, (input, lambda grad: grad * 0))
    return record("softmax", p, (input, lambda grad, p: fast.softmax_backward(p, grad, axis), RESULT))


@silent
def cross_entropy(input: Tensor, target: Tensor, *, ignore_index: int = -100) -> Tensor:
    """Losses and slopes in one routine."""
    x, ids = arrays_of("cross_entropy", (input, target))
    checks.check_scores(x, ids)
    return class_losses(input, ids.astype(dtypes.int64, copy=False), None, ignore_index, "mean")


def class_losses(input: Tensor, ids: Array, weight: Tensor | None, ignore_index: int, reduction: str) -> Tensor:
    """L = -w[t] ln p[t], p = softmax(input); the mean is over Σ w[t].

    ∂L/∂input = w[t] (p - onehot(t)) / Σ w[t] = slopes · share. For the reductions "sum" and "none", share = 1. All
    arguments are checked but the range of `ids`.
    """
    a = input.array
    expected, shape = ids.shape, a.shape
    xp = of(a)
    C = a.shape[1] if a.ndim > 1 else a.shape[0]
    ids = ids.reshape(-1)
    counted = ids != ignore_index
    safe = ids * counted  # class 0 stands in for ignored targets; their weight is 0
    checks.check_ids(safe, C, "cross_entropy", "target")
    rows = xp.moveaxis(a, 1, -1).reshape(len(ids), C) if a.ndim > 1 else a[None]  # (N, C, d) -> (N d, C)
    w = counted.astype(a.dtype) if weight is None else as_array(weight, "cross_entropy")[safe] * counted
    losses, slopes = fast.cross_entropy(rows, safe, w)  # (N,), (N, C)

    if reduction == "none":
        z, share = losses.reshape(expected), 1
    elif reduction == "sum":
        z, share = losses.sum(), 1
    else:
        total = w.sum()
        with np.errstate(all="ignore"):  # every target ignored: the mean of nothing is NaN, its gradient 0
            z, share = losses.sum() / total, xp.where(total == 0, 0, 1 / total)

    by_row = functools.partial(_by_row, counted)

    def classes_first(g: Any) -> Any:
        if len(shape) < 3:
            return g.reshape(shape)
        return of(g).moveaxis(g.reshape((*expected, C)), -1, 1)  # (N d, C) -> (N, d, C) -> (N, C, d)

    def rule(grad: Any, slopes: Any) -> Any:
        return classes_first(slopes * by_row(grad.reshape(-1) if reduction == "none" else grad * beside(grad, share)))

    def remake(slopes: Array, x: Tensor) -> Tensor:
        """slopes = w[t] (p - onehot(t)): by x they have the slopes of the softmax, times w[t]"""
        W = w[:, None]
        p = slopes / xp.where(W == 0, 1, W) + (safe[:, None] == xp.arange(C))  # (N, C)
        p = Derived(p, lambda p, x: record("softmax", p, (x, softmax, RESULT)), x)
        return record("slopes", slopes, (x, lambda grad, p: softmax(grad * beside(grad, W), p), p))

    def softmax(grad: Any, p: Any) -> Any:
        return classes_first(fast.softmax_backward(p, grad, 1))

    return record("cross_entropy", z, (input, rule, Derived(slopes, remake, input)))


def _by_row(counted: Array, grad: Any) -> Any:
    """(N,) or () -> (N, 1): the gradient of each row's loss; of an ignored target 0, though it is NaN."""
    return of(grad).where(counted, grad, 0)[:, None]


@silent
def layer_norm(
    input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """Rows in one routine; what it finds is kept for the rules."""
    a, *parameters = arrays_of("layer_norm", (input,), weight, bias)
    eps, whole = checks.number(eps, "layer_norm: eps"), a.shape
    shape = whole[checks.normalized(a, normalized_shape, *parameters)[0] :]
    columns = math.prod(shape)
    rows = (math.prod(whole[: -len(shape)]), columns)
    w, b = (None if p is None else p.array.reshape(columns) for p in (weight, bias))  # (*shape) -> (C,)
    z, n, r = fast.scaled_layer_norm(a.reshape(rows), eps, w, b)  # (..., *shape) -> (N, C)
    learns = needs_grad(weight) or needs_grad(bias)

    def rule(grad: Any, w: Any, n: Any, r: Any) -> tuple[Any, None, Any, Any]:
        g, w = grad.reshape(rows), None if w is None else w.reshape(columns)
        if not learns:  # it has no weight, or a frozen one: no sums over the rows
            g = g if w is None else fast.scale_shift(g, w, None)
            return fast.layer_norm_backward(g, n, r).reshape(whole), None, None, None
        of_x, of_w, of_b = fast.scaled_layer_norm_backward(g, n, r, w)
        if len(shape) > 1:
            of_w, of_b = of_w.reshape(shape), of_b.reshape(shape)
        return of_x.reshape(whole), None, of_w, of_b

    known = known_rows(n, r, input, fast.layer_norm_backward)
    inputs = input, None, weight, bias  # in the places where the signature has them: by these they are named
    return record_joint("layer_norm", row_major(z.reshape(whole)), inputs, rule, weight, *known)


def known_rows(n: Array, r: Array, input: Tensor, backward: Any) -> tuple[Derived, Derived]:
    """What the rules of the two norms read: the normalised rows n (N, C), and r (N, 1), with ∂r/∂x = -r² n / C."""
    known = {"shape": input.array.shape, "backward": backward}
    return (
        Derived(n, functools.partial(_remade_n, r=r, **known), input),
        Derived(r, functools.partial(_remade_r, n=n, **known), input),
    )


def _remade_n(n: Array, x: Tensor, r: Array, shape: tuple, backward: Any) -> Tensor:
    def rule(grad: Any, n: Any, r: Any) -> Any:
        return backward(grad, n, r).reshape(shape)

    again = Derived(r, functools.partial(_remade_r, n=n, shape=shape, backward=backward), x)
    return record("normalised", n, (x, rule, RESULT, again))


def _remade_r(r: Array, x: Tensor, n: Array, shape: tuple, backward: Any) -> Tensor:
    def rule(grad: Any, r: Any, n: Any) -> Any:
        return (grad * (-1 / n.shape[1]) * r * r * n).reshape(shape)

    again = Derived(n, functools.partial(_remade_n, r=r, shape=shape, backward=backward), x)
    return record("deviation", r, (x, rule, RESULT, again))


def dropout(input: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """Bits, mask and product in one routine."""
    p = checks.probability(p, "dropout: p")
    if not training or p == 0:
        return input
    a = as_array(input, "dropout")
    if p == 1:
        zeros = laid_out(of(a).zeros_like(a), a)
        return record("dropout", zeros, (input, lambda grad: of(grad).zeros_like(grad)))
    checks.check_floating(a, "dropout")
    z, m = quiet.run(fast.dropout, a, p, default_generator.next_key())
    return record("dropout", laid_out(z, a), (input, lambda grad, m: grad * m, m))


def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None,
) -> Tensor:  # fmt: skip
    """One routine, see `fast.attention`; with a mask that learns the plain form."""
    if attn_mask is not None and needs_grad(attn_mask):
        return PLAIN.scaled_dot_product_attention(query, key, value, attn_mask, dropout_p, is_causal, scale)
    q, k, v, mask = arrays_of("scaled_dot_product_attention", (query, key, value), attn_mask)
    scale, dropout_p = checks.attention(q, k, v, mask, scale, dropout_p)
    writes = 0 if attn_mask is None else attn_mask.memory.writes
    bias = _attention_bias(q, k, attn_mask, is_causal)
    seed = default_generator.next_key() if dropout_p else 0
    z, saved = quiet.run(fast.attention, q, k, v, bias, is_causal and bias is None, scale, dropout_p, seed)

    def again(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if attn_mask is not None and attn_mask.memory.writes != writes:
            raise RuntimeError("backward: the attn_mask of this attention was modified by an inplace operation")
        added = None if bias is None else q.make(bias)
        return ops.attend(q, k, v, added, is_causal and bias is None, scale, dropout_p, seed)

    return record_joint_fused(
        "attention",
        z,
        (query, key, value),
        lambda grad, q, k, v, saved: fast.attention_backward(grad, q, k, v, saved, scale),
        query,
        key,
        value,
        saved,
        twin=(again, query, key, value),
    )


def _attention_bias(q: Array, k: Array, mask: Tensor | None, is_causal: bool) -> Array | None:
    """What is added to the scores (..., T, S): 0 where a query may look, -inf where not, or the numbers given."""
    if mask is None:
        return None
    m = mask.array
    m = of(q).where(m, 0, -math.inf).astype(q.dtype) if m.dtype.kind == "b" else m.astype(q.dtype, copy=False)
    if is_causal:  # both hold
        m = of(q).where(of(q).tri(q.shape[-2], k.shape[-2], dtype=bool), m, -math.inf).astype(q.dtype)
    return m


# --- The list ----------------------------------------------------------------------------------------------------

FORMS: dict[str, Callable] = {
    "cross_entropy": cross_entropy,
    "dropout": dropout,
    "embedding": embedding,
    "gelu": gelu,
    "layer_norm": layer_norm,
    "linear": linear,
    "masked_fill": masked_fill,
    "matmul": matmul,
    "mean": mean,
    "pow": pow,
    "relu": relu,
    "scaled_dot_product_attention": scaled_dot_product_attention,
    "softmax": softmax,
    "sum": sum,
}


def plain() -> bool:
    """Whether the environment asks for the plain forms."""
    return os.environ.get("TINYGRAD_Z2G_PLAIN") == "1"


def install() -> bool:
    """Put the forms into `core.ops`, unless the environment declines."""
    if plain():
        return False
    for name, form in FORMS.items():
        setattr(ops, name, _in_place_of(getattr(ops, name), form))
    engine.total = fast.total  # long sums, exact to the dtype's rounding
    engine.put_part, engine.add_part = fast.put_part, fast.add_part
    return True


def _in_place_of(plain: Callable, form: Callable) -> Callable:
    """The form, which shows to a reader what it stands for: `help` the text of the core and what is other in the form,
    `inspect.getsource`, which follows `__wrapped__`, the plain function."""
    name, told = plain.__name__, " ".join((form.__doc__ or "").split())
    note = (
        f"This is the fast form of `core.ops.{name}`, written in `fast/forms.py`: {told[:1].lower()}{told[1:]} "
        f"`TINYGRAD_Z2G_PLAIN=1` does without; `python -m tinygrad_z2g.learn {name}` shows both."
    )
    form.__doc__ = f"{inspect.cleandoc(plain.__doc__ or '')}\n\n{textwrap.fill(note, 116)}"
    form.__module__, form.__wrapped__ = plain.__module__, plain  # type: ignore[attr-defined]  # as functools.wraps does
    return form
