"""Losses that are -ln p of the target under a distribution that the model describes; and the divergence of two.

All are composed; they know nothing of models, nor of gradients.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays.backend import Array, of
from ..half.table import apply
from ..ops.common import as_array, as_int, check_ids
from ..ops.elementwise import log, where
from ..ops.indexing import gather
from ..ops.shape import cat, stack
from ..ops.softmax import logsumexp
from .losses import check_floating, old_reduction, reduce, same_shape

if TYPE_CHECKING:
    from ..tensor import Tensor


@old_reduction
def kl_div(input: Tensor, target: Tensor, *, reduction: str = "mean", log_target: bool = False) -> Tensor:
    """L = t (ln t - x), x the logarithms of probabilities q: summed, D(t ‖ q) = Σ t ln (t / q).

    `log_target`: the target too is given as a logarithm. `reduction="batchmean"` is the sum divided by the first size:
    the divergence itself; "mean" divides by all sizes, which no theorem does. (Kullback & Leibler 1951)
    >>> x = z2g.tensor([[0.5, 0.5]]).log().requires_grad_()
    >>> F.kl_div(x, z2g.tensor([[0.25, 0.75]]), reduction="batchmean").backward(); x.grad  # -t
    tensor([[-0.2500, -0.7500]])
    """
    a, _ = same_shape(input, target, "kl_div")
    check_floating(a, "kl_div")
    if log_target:
        losses = target.exp() * (target - input)
    else:
        positive = target.detach() > 0  # 0 ln 0 = 0
        known = log(where(positive, target, 1.0))
        losses = target * (known - input)
    if reduction == "batchmean":
        return losses.sum() / a.shape[0] if a.ndim else losses.sum()
    return reduce(losses, reduction, "kl_div")


@old_reduction
def poisson_nll_loss(
    input: Tensor, target: Tensor, log_input: bool = True, full: bool = False, *, eps: float = 1e-8,
    reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """L = eˣ - t x, or x - t ln (x + eps) unless log_input: -ln of Poisson's probability of t, whose mean is eˣ or x.

    What does not depend on x is left out, unless `full`: then Stirling's t ln t - t + ln (2π t) / 2 for ln t!, t > 1.
    >>> x = z2g.zeros(1, requires_grad=True); F.poisson_nll_loss(x, z2g.tensor([3.0])).backward(); x.grad  # eˣ - t
    tensor([-2.])
    """
    same_shape(input, target, "poisson_nll_loss")
    losses = input.exp() - target * input if log_input else input - target * log(input + eps)
    if full:
        t = where(target.detach() > 1, target, 1.0)
        stirling = t * log(t) - t + log(2 * math.pi * t) * 0.5
        losses = losses + where(target.detach() > 1, stirling, 0.0)
    return reduce(losses, reduction, "poisson_nll_loss")


def gaussian_nll_loss(
    input: Tensor, target: Tensor, var: Any, full: bool = False, eps: float = 1e-6, reduction: str = "mean"
) -> Tensor:
    """L = (ln v + (x - t)² / v) / 2, v = max(var, eps): -ln of the normal density of t, of mean x and variance v.

    var: a tensor of the input's shape, or without its last dimension, or with size 1 there; or a number. `full` adds
    the constant ln (2π) / 2. No gradient passes to a variance below eps. (Nix & Weigend 1994)
    >>> x, v = z2g.zeros(1, requires_grad=True), z2g.ones(1, requires_grad=True)
    >>> F.gaussian_nll_loss(x, z2g.tensor([2.0]), v).backward(); x.grad, v.grad  # (x - t) / v, and (1 - (x - t)²) / 2
    (tensor([-2.]), tensor([-1.5000]))
    """
    name = "gaussian_nll_loss"
    a, _ = same_shape(input, target, name)
    if isinstance(var, (int, float)):
        if var < 0:
            raise ValueError(f"{name}: var has negative entry/entries")
        var = input.make(of(a).full(a.shape, var, a.dtype))
    v = as_array(var, name)
    if v.shape != a.shape:
        if v.shape == a.shape[:-1]:
            var = var.unsqueeze(-1)
        elif not (v.ndim == a.ndim and v.shape == (*a.shape[:-1], 1)):
            raise ValueError(
                f"{name}: var is of incorrect size: got {tuple(v.shape)}, expected {tuple(a.shape)}, the same without "
                "its last dimension, or with size 1 there"
            )
    if isinstance(v, np.ndarray) and (v < 0).any():  # on a GPU nobody looks
        raise ValueError(f"{name}: var has negative entry/entries")
    var = var + (var.detach().clamp(min=eps) - var.detach())  # torch too lets the gradient pass through this bound
    losses = (log(var) + (input - target).square() / var) * 0.5
    if full:
        losses = losses + 0.5 * math.log(2 * math.pi)
    return reduce(losses, reduction, name)


def ctc_loss(
    log_probs: Tensor, targets: Tensor, input_lengths: Any, target_lengths: Any, blank: int = 0,
    reduction: str = "mean", zero_infinity: bool = False,
) -> Tensor:  # fmt: skip
    """L = -ln p(target), p the sum over all ways to read it off: at each step a class or a blank, repeats merged.

    log_probs (T, N, C) or (T, C); targets (N, S), or all one after the other; lengths (N,), tensors or lists. "mean"
    divides each loss by the length of its target. `zero_infinity`: a target that does not fit counts nothing.
    (Graves et al. 2006)

    Composed. With l the target with blanks between and around its classes, ln α[t, s], of all ways to be at place s
    after t steps, is x[t, l[s]] + ln (α[t-1, s] + α[t-1, s-1] + α[t-1, s-2]), the last one only from one class to
    another; the result is ln of the two last α. One step, one class: L = -x[class].
    >>> x = z2g.tensor([[[0.5, 0.25, 0.25]]]).log().requires_grad_()
    >>> F.ctc_loss(x, z2g.tensor([[1]]), [1], [1]).backward(); x.grad
    tensor([[[ 0., -1.,  0.]]])
    """
    name = "ctc_loss"
    a = as_array(log_probs, name)
    check_floating(a, name)
    if a.ndim == 2:
        loss = ctc_loss(
            log_probs.unsqueeze(1), targets.reshape(1, -1), [input_lengths], [target_lengths], blank,
            reduction=reduction, zero_infinity=zero_infinity,
        )  # fmt: skip
        return loss.squeeze(0) if reduction == "none" else loss
    if a.ndim != 3:
        raise RuntimeError(f"{name}: expected log_probs (T, N, C) or (T, C), got shape {tuple(a.shape)}")
    T, N, C = a.shape
    steps, lengths = (_lengths(name, v, N) for v in (input_lengths, target_lengths))
    if min(steps, default=0) < 0 or max(steps, default=0) > T:
        raise RuntimeError(f"{name}: input_lengths must be between 0 and {T}, got {steps}")
    ids = _rows(name, as_array(targets, name), lengths, N)  # (N, S), on the host
    check_ids(ids, C, name, "target")
    places = np.full((N, 2 * ids.shape[1] + 1), as_int(blank, f"{name}: blank"))
    places[:, 1::2] = ids
    skip = np.zeros(places.shape, bool)  # from a class to another one, past the blank
    skip[:, 2:] = (places[:, 2:] != blank) & (places[:, 2:] != places[:, :-2])
    xp, low = of(a), -math.inf
    given = {what: log_probs.make(xp.asarray(v)) for what, v in (("places", places), ("skip", skip))}
    nothing = log_probs.make(xp.full((N, 2), low, a.dtype))
    alpha = None
    found: list = [None] * N
    for t in range(T):
        seen = gather(log_probs[t], 1, given["places"])  # (N, 2 S + 1)
        if alpha is None:
            alpha = where(seen.make(xp.arange(places.shape[1]) < 2), seen, low)
        else:
            before = cat([nothing, alpha], 1)
            two = where(given["skip"], before[:, :-2], low)
            alpha = seen + logsumexp(stack([alpha, before[:, 1:-1], two], 0), 0)
        for n in range(N):
            if steps[n] == t + 1:
                last = 2 * lengths[n]
                found[n] = -logsumexp(alpha[n, max(last - 1, 0) : last + 1], 0)
    zero = log_probs.make(xp.zeros((), a.dtype))
    losses = stack([zero if loss is None else loss for loss in found], 0)
    if zero_infinity:
        losses = where(losses.detach() == math.inf, 0.0, losses)
    if reduction == "mean":
        return (losses / losses.make(xp.asarray(np.maximum(lengths, 1).astype(a.dtype)))).mean()
    return reduce(losses, reduction, name)


def _lengths(name: str, given: Any, N: int) -> list[int]:
    """The lengths as Python numbers."""
    values = given.tolist() if hasattr(given, "tolist") else list(given)
    values = [as_int(v, f"{name}: length") for v in (values if isinstance(values, list) else [values])]
    if len(values) != N:
        raise RuntimeError(f"{name}: got {len(values)} lengths for a batch of {N}")
    return values


def _rows(name: str, targets: Array, lengths: list[int], N: int) -> np.ndarray:
    """The targets as (N, S) on the host, those that lie one after the other cut by their lengths."""
    ids = targets if isinstance(targets, np.ndarray) else targets.get()
    if ids.dtype.kind not in "iu":
        raise RuntimeError(f"{name}: expected integer targets, got {ids.dtype}")
    if ids.ndim == 2 and len(ids) == N and max(lengths, default=0) <= ids.shape[1]:
        return ids[:, : max(lengths, default=0)]
    if ids.ndim != 1 or sum(lengths) != len(ids):
        raise RuntimeError(f"{name}: targets {tuple(ids.shape)} do not fit a batch of {N} with lengths {lengths}")
    rows, at = np.zeros((N, max(lengths, default=0)), np.int64), 0
    for n, length in enumerate(lengths):
        rows[n, :length] = ids[at : at + length]
        at += length
    return rows


apply(globals())  # mixed precision, by the table in half/
