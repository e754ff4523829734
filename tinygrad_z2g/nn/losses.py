"""Losses: how far from the target, as one number. `functional` offers them under torch's names.

What torch refuses is refused: shapes that would broadcast, dtypes that would be converted, numbers out of range. They
know nothing of models, and of gradients only their own rules.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from .. import fast
from ..arrays import dtypes
from ..arrays.backend import Array, of, quiet, silent
from ..core import ops
from ..core.engine import needs_grad, record
from ..fast.forms import class_losses
from ..half.casting import cast
from ..half.table import apply
from ..ops.common import as_array, as_int, check_floating, check_ids, fits, laid_out, number, same_device, widens
from ..ops.elementwise import where
from ..ops.softmax import log_softmax

if TYPE_CHECKING:
    from ..tensor import Tensor

_F = TypeVar("_F", bound=Callable[..., Any])


def reduce(losses: Tensor, reduction: str, name: str) -> Tensor:
    """The losses themselves ("none"), their sum or their mean."""
    check_reduction(reduction, name)
    return losses if reduction == "none" else getattr(losses, reduction)()


def old_reduction(function: _F) -> _F:
    """A loss, or the constructor of one, that also takes what stood for `reduction` before torch 0.4.1.

    size_average=False was the sum, reduce=False no reduction at all.
    """

    @functools.wraps(function)
    def renamed(*args: Any, size_average: bool | None = None, reduce: bool | None = None, **kwargs: Any) -> Any:
        if size_average is not None or reduce is not None:
            kwargs["reduction"] = "none" if reduce is False else "sum" if size_average is False else "mean"
        return function(*args, **kwargs)

    return renamed  # type: ignore[return-value]  # of the same signature


def check_reduction(reduction: str, name: str) -> None:
    """ValueError for another word than the three."""
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{name}: reduction must be 'none', 'mean' or 'sum', got {reduction!r}")


class _ShapeError(ValueError, RuntimeError):
    """A target of the wrong shape, for which torch raises now the one and now the other."""


def weighted(losses: Tensor, weight: Tensor | None, name: str) -> Tensor:
    """The losses times `weight`, which may be smaller but does not stretch them, nor change their dtype."""
    return losses if weight is None else losses * weight_for(losses, weight, name, "weight")


def weight_for(losses: Tensor, weight: Tensor, name: str, what: str) -> Tensor:
    """A weight of the losses' dtype. RuntimeError unless it broadcasts to them without stretching them."""
    w, shape = as_array(weight, name), losses.array.shape
    if not fits(w.shape, shape):
        raise RuntimeError(f"{name}: {what} has shape {tuple(w.shape)}, expected one that broadcasts to {tuple(shape)}")
    same_device(name, losses, weight)
    return weight if w.dtype == losses.array.dtype else cast(weight, losses.array.dtype)


@old_reduction
def mse_loss(input: Tensor, target: Tensor, *, reduction: str = "mean") -> Tensor:
    """L = Σ d² / n, the mean; d = input - target.   ∂L/∂input = 2 d / n = -∂L/∂target

    The shapes must be equal: broadcasting here is nearly always a mistake. (One operation, 3 times faster than three.)

    L has the slope 2 dᵢ / n in dᵢ, and dᵢ = inputᵢ - targetᵢ has +1 in input, -1 in target.
    >>> x, t = z2g.tensor([1.0, 5.0], requires_grad=True), z2g.tensor([0.0, 2.0], requires_grad=True)
    >>> F.mse_loss(x, t).backward(); x.grad, t.grad  # n = 2, d = (1, 3)
    (tensor([1., 3.]), tensor([-1., -3.]))
    """
    a, b = same_shape(input, target, "mse_loss")
    if a.dtype != b.dtype:
        dtype = dtypes.result_type(a, b)
        input, target = (x if x.array.dtype == dtype else cast(x, dtype) for x in (input, target))
        a, b = input.array, target.array
    if a.dtype.kind != "f":
        check_floating(a, "mse_loss")
    if reduction != "mean":
        return reduce((input - target).square(), reduction, "mse_loss")
    if a.device != b.device:
        same_device("mse_loss", input, target)
    if a.dtype == dtypes.float16:  # whose sum may be beyond its range
        return cast(mse_loss(*(cast(x, dtypes.float32) for x in (input, target))), dtypes.float16)
    n = a.size or math.nan
    loss = quiet.run(fast.squared_distance, a, b) / n
    return record(
        "mse_loss",
        loss,
        (input, lambda grad, input, target: (input - target) * (grad * (2 / n)), input, target),
        (target, lambda grad, input, target: (target - input) * (grad * (2 / n)), input, target),
    )


@old_reduction
def l1_loss(input: Tensor, target: Tensor, *, reduction: str = "mean") -> Tensor:
    """L = mean of |input - target|. The shapes must be equal.

    Composed: the rules of `sub`, `abs` and `mean` make ∂L/∂input = sign(input - target) / n.
    >>> x = z2g.tensor([1.0, 5.0], requires_grad=True); F.l1_loss(x, z2g.tensor([0.0, 9.0])).backward(); x.grad
    tensor([ 0.5000, -0.5000])
    """
    same_shape(input, target, "l1_loss")
    return reduce((input - target).abs(), reduction, "l1_loss")


@old_reduction
def smooth_l1_loss(input: Tensor, target: Tensor, *, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """L = d² / (2 β) where |d| < β, else |d| - β/2; d = input - target. Round at the bottom, straight further out.

    Composed: the slope is d / β, then ±1. (Girshick 2015, arXiv:1504.08083)
    >>> x = z2g.tensor([0.5, 3.0], requires_grad=True)
    >>> F.smooth_l1_loss(x, z2g.zeros(2), reduction="sum").backward(); x.grad
    tensor([0.5000, 1.0000])
    """
    beta = number(beta, "smooth_l1_loss: beta")
    if beta < 0:
        raise RuntimeError(f"smooth_l1_loss: beta must not be negative, got {beta}")
    if beta == 0:
        return l1_loss(input, target, reduction=reduction)
    a, _ = same_shape(input, target, "smooth_l1_loss")
    check_floating(a, "smooth_l1_loss")
    d = (input - target).abs()
    far = d.detach() >= beta
    near = d.masked_fill(far, 0).square() * (0.5 / beta)  # the slope of an infinite square would be ∞ · 0
    losses = where(far, d - 0.5 * beta, near)
    return reduce(losses, reduction, "smooth_l1_loss")


def huber_loss(
    input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0, weight: Tensor | None = None
) -> Tensor:
    """L = d² / 2 where |d| < δ, else δ (|d| - δ/2); d = input - target: δ times `smooth_l1_loss`.

    Composed: the slope is d, then ±δ. `weight`, of the same shape, multiplies each loss. (Huber 1964)
    >>> x = z2g.tensor([0.5, 3.0], requires_grad=True)
    >>> F.huber_loss(x, z2g.zeros(2), reduction="sum", delta=2.0).backward(); x.grad
    tensor([0.5000, 2.0000])
    """
    delta = number(delta, "huber_loss: delta")
    if delta <= 0:
        raise RuntimeError(f"huber_loss does not support non-positive values for delta, got {delta}")
    a, _ = same_shape(input, target, "huber_loss")
    check_floating(a, "huber_loss")
    d = (input - target).abs()
    far = d.detach() >= delta
    losses = where(far, (d - 0.5 * delta) * delta, d.masked_fill(far, 0).square() * 0.5)  # as in `smooth_l1_loss`
    if weight is not None and as_array(weight, "huber_loss").shape != a.shape:
        raise ValueError(f"huber_loss: weight {tuple(weight.array.shape)} and input {tuple(a.shape)} differ in shape")
    return reduce(weighted(losses, weight, "huber_loss"), reduction, "huber_loss")


def same_shape(input: Tensor, target: Tensor, name: str) -> tuple[Array, Array]:
    """The two arrays. They must have one shape: to broadcast them is nearly always a mistake."""
    a, b = as_array(input, name), as_array(target, name)
    if a.shape != b.shape:
        raise _ShapeError(f"{name}: input has shape {tuple(a.shape)}, target {tuple(b.shape)}; expected equal shapes")
    return a, b


@old_reduction
@silent
@widens(ops.cross_entropy)
def cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None = None, *, ignore_index: int = -100, reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:  # fmt: skip
    """L = -w[t] ln p[t], p = softmax(input) over the classes, t the target; the mean is over Σ w[t].

    ∂L/∂input = w[t] (p - onehot(t)) / Σ w[t]: what the model believes minus what is true, shared among the targets. See
    `core.ops.cross_entropy`, which is this without weights and for scores (N, C).

    input (C,), (N, C) or (N, C, d1, ...), unnormalised; target int64 or uint8 (), (N,) or (N, d1, ...) in 0..C-1.
    Targets equal to `ignore_index` count nowhere. `weight` (C,) rescales classes. On the CPU a target out of range
    raises IndexError; on the GPU nobody looks (it would stop the GPU at every step), so check before uploading.

    The target may also hold a probability for each class, in the shape of the input. `label_smoothing` ε mixes
    every target with equal probabilities: (1 - ε) onehot(t) + ε / C.

    >>> x = z2g.tensor([[1.0, 3.0], [1.0, 3.0]]).log().requires_grad_()
    >>> F.cross_entropy(x, z2g.tensor([0, 1])).backward(); x.grad
    tensor([[-0.3750,  0.3750],
            [ 0.1250, -0.1250]])
    """
    a, ids = as_array(input, "cross_entropy"), as_array(target, "cross_entropy")
    ints = dtypes.int64, dtypes.uint8
    rows = a.ndim == 2 and a.dtype.kind == "f" and ids.shape == a.shape[:1] and ids.dtype in ints
    if rows and weight is None and reduction == "mean" and label_smoothing == 0 and type(ignore_index) is int:
        return ops.cross_entropy(input, target, ignore_index=ignore_index)
    check_reduction(reduction, "cross_entropy")
    label_smoothing = number(label_smoothing, "cross_entropy: label_smoothing")
    if not 0 <= label_smoothing <= 1:
        raise RuntimeError(f"cross_entropy: label_smoothing must be between 0 and 1, got {label_smoothing}")
    soft = bool(a.ndim) and ids.shape == a.shape
    ids, ignore_index = _check_classes(a, target, weight, ignore_index, soft, "cross_entropy")
    if soft or label_smoothing:
        target = target if soft else target.make(ids)
        return _soft_cross_entropy(input, target, weight, ignore_index, reduction, label_smoothing)
    return class_losses(input, ids, weight, ignore_index, reduction)


def _soft_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str, smoothing: float
) -> Tensor:
    """L = -Σ q ln p over the classes, q the target as probabilities. Composed: no rule of its own is needed."""
    dim = min(1, input.ndim - 1)
    C = input.shape[dim]
    shape = [C if d == dim else 1 for d in range(input.ndim)]
    by_class = 1 if weight is None else weight.reshape(shape)  # broadcasts along all dimensions but the classes'
    ignored = None
    rest = smoothing / max(C, 1)
    if target.is_floating_point():
        q = (target * (1 - smoothing) + rest) * by_class
        count = input.numel() / max(C, 1)  # probabilities average over the samples, whatever the weights
    else:
        ignored, counted = target == ignore_index, target != ignore_index
        ids = target * counted  # class 0 stands in for ignored targets
        check_ids(ids.array, C, "cross_entropy", "target")
        classes = of(ids.array).arange(C).reshape(shape)
        onehot = input.make((of(ids.array).expand_dims(ids.array, dim) == classes).astype(input.dtype))
        q = (onehot * (1 - smoothing) + rest) * by_class * counted.unsqueeze(dim)
        count = (onehot * by_class * counted.unsqueeze(dim)).sum()
    logp = log_softmax(input, dim)
    if ignored is not None:
        logp = logp.masked_fill(ignored.unsqueeze(dim), 0.0)  # 0 · -inf is NaN
    losses = -(q * logp).sum(dim)
    return losses.sum() / count if reduction == "mean" else reduce(losses, reduction, "cross_entropy")


def _check_classes(
    a: Array, target: Tensor, weight: Tensor | None, ignore_index: int, soft: bool, name: str
) -> tuple[Array, int]:
    """Raise unless these targets and weights suit scores `a`; the targets as int64, or as they are if `soft`.

    What torch refuses is refused, and in one case more: scores (C,) with a target (1,).
    """
    check_floating(a, name)
    ids = as_array(target, name)
    expected = a.shape[:1] + a.shape[2:] if a.ndim > 1 else ()
    C = a.shape[min(1, a.ndim - 1)] if a.ndim else 0
    if type(ignore_index) is not int:
        ignore_index = as_int(ignore_index, f"{name}: ignore_index")
    if soft:
        if ids.dtype.kind != "f":
            raise RuntimeError(
                f"{name}: a target of the input's shape {tuple(a.shape)} holds probabilities, got {ids.dtype}; class "
                f"indices have the shape {tuple(expected)}"
            )
        if ignore_index >= 0:
            raise RuntimeError(f"{name}: ignore_index {ignore_index} has no meaning for targets that are probabilities")
    elif not a.ndim or ids.shape != expected:
        raise _ShapeError(
            f"{name}: input {tuple(a.shape)} needs a target of shape {tuple(expected)}, got {tuple(ids.shape)}"
        )
    elif ids.dtype not in (dtypes.int64, dtypes.uint8):
        raise RuntimeError(f"{name}: expected integer class indices (int64, uint8) as target, got {ids.dtype}")
    same_device(name, target, target.make(a))
    if weight is not None:
        w = as_array(weight, name)
        if w.shape != (C,) or not (soft or w.dtype == a.dtype):
            got = f"weight has shape {tuple(w.shape)} and dtype {w.dtype}"
            raise RuntimeError(f"{name}: {got}, expected ({C},) and {a.dtype}")
        if not soft and needs_grad(weight):
            raise RuntimeError(f"{name}: there is no gradient for weight, and it requires one; detach() it first")
        same_device(name, target, weight)
    return ids if soft else ids.astype(dtypes.int64, copy=False), ignore_index


@old_reduction
def nll_loss(
    input: Tensor, target: Tensor, weight: Tensor | None = None, *, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    """L = -w[t] input[t], with input the log-probabilities: `cross_entropy` after `log_softmax`, with its shapes.

    Composed of `gather`, products and a mean: only the entry of the true class receives anything.
    >>> x = z2g.tensor([[-1.0, -2.0], [-3.0, -4.0]], requires_grad=True)
    >>> F.nll_loss(x, z2g.tensor([1, 0])).backward(); x.grad
    tensor([[ 0.0000, -0.5000],
            [-0.5000,  0.0000]])
    """
    check_reduction(reduction, "nll_loss")
    a = as_array(input, "nll_loss")
    ids, ignore_index = _check_classes(a, target, weight, ignore_index, False, "nll_loss")
    dim = min(1, a.ndim - 1)
    counted = ids != ignore_index
    safe = ids * counted
    check_ids(safe, a.shape[dim], "nll_loss", "target")
    w = counted.astype(a.dtype) if weight is None else as_array(weight, "nll_loss")[safe] * counted
    picked = input.gather(dim, target.make(of(ids).expand_dims(safe, dim))).squeeze(dim)
    losses = -picked.masked_fill(target.make(w == 0), 0.0) * target.make(w)  # 0 · -inf is NaN
    return losses.sum() / target.make(w).sum() if reduction == "mean" else reduce(losses, reduction, "nll_loss")


@old_reduction
def binary_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None = None, *, reduction: str = "mean"
) -> Tensor:
    """L = -(t ln p + (1 - t) ln (1 - p)) with p the input, a probability, and t the target, in 0..1.

    ∂L/∂p = (p - t) / (p (1 - p)),  ∂L/∂t = ln (1 - p) - ln p = no - yes.   Logarithms are cut off at -100, so that a
    certainty that is wrong costs 100 and not infinity. See `binary_cross_entropy_with_logits` for scores.

    ∂L/∂p = -t / p + (1 - t) / (1 - p); over the common denominator, (1 - t) p - t (1 - p) = p - t stands above.
    At t = 1 that is -1 / p.
    >>> p = z2g.tensor(0.25, requires_grad=True)
    >>> F.binary_cross_entropy(p, z2g.tensor(1.0)).backward(); p.grad
    tensor(-4.)
    """
    check_reduction(reduction, "binary_cross_entropy")
    p, t = same_shape(input, target, "binary_cross_entropy")
    if p.dtype != t.dtype:
        raise RuntimeError(f"binary_cross_entropy: input is {p.dtype} and target {t.dtype}, expected one dtype")
    check_floating(p, "binary_cross_entropy")
    same_device("binary_cross_entropy", input, target)
    for what, x in (("input", p), ("target", t)):
        if isinstance(x, np.ndarray) and not ((x >= 0) & (x <= 1)).all():
            raise RuntimeError(f"binary_cross_entropy: the {what} must be probabilities, between 0 and 1; see sigmoid")
    xp = of(p)
    with np.errstate(divide="ignore"):
        yes, no = xp.maximum(xp.log(p), -100), xp.maximum(xp.log1p(-p), -100)

    def logs(p: Any) -> Any:
        return of(p).maximum(of(p).log(p), -100)

    losses = record(
        "binary_cross_entropy",
        laid_out(-(t * yes + (1 - t) * no), p, t),
        (input, lambda grad, p, t: grad * (p - t) / of(grad).maximum(p * (1 - p), 1e-12), input, target),
        (target, lambda grad, p: grad * (logs(1 - p) - logs(p)), input),
    )
    return reduce(weighted(losses, weight, "binary_cross_entropy"), reduction, "binary_cross_entropy")


apply(globals())  # mixed precision, by the table in half/
