"""Losses with a margin: who must be nearer, or rank higher, than whom, and by how much. All composed.

Such a loss is 0 as soon as the right answer leads by the margin: examples that are right already teach nothing more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..arrays.backend import of
from ..half.table import apply
from ..ops.common import as_array, check_ids, number
from ..ops.elementwise import where
from ..ops.reduction import sum as summed
from ..ops.shape import stack
from ..ops.softmax import logsumexp
from .distances import pairwise_distance
from .losses import check_floating, check_reduction, old_reduction, reduce, same_shape, weight_for

if TYPE_CHECKING:
    from ..tensor import Tensor


@old_reduction
def hinge_embedding_loss(
    input: Tensor, target: Tensor, margin: float = 1.0, *, reduction: str = "mean"
) -> Tensor:
    """L = x where t = 1, max(0, margin - x) where t = -1: a distance x, small for what is alike, large for the rest.

    >>> x = z2g.tensor([0.5, 0.25, 3.0], requires_grad=True)
    >>> F.hinge_embedding_loss(x, z2g.tensor([1.0, -1.0, -1.0]), reduction="sum").backward(); x.grad
    tensor([ 1., -1.,  0.])
    """
    name = "hinge_embedding_loss"
    same_shape(input, target, name)
    far = (number(margin, f"{name}: margin") - input).clamp(min=0)
    t = target.detach()
    return reduce(where(t != 1, far, 0.0) + where(t != -1, input, 0.0), reduction, name)


@old_reduction
def margin_ranking_loss(
    input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0.0, *, reduction: str = "mean"
) -> Tensor:
    """L = max(0, margin - t (x₁ - x₂)): where t = 1, x₁ shall be the larger, by the margin; where t = -1, x₂.

    >>> x, y = z2g.tensor([1.0, 5.0], requires_grad=True), z2g.tensor([2.0, 2.0])
    >>> F.margin_ranking_loss(x, y, z2g.tensor([1.0, -1.0]), reduction="sum").backward(); x.grad
    tensor([-1.,  1.])
    """
    name = "margin_ranking_loss"
    same_shape(input1, input2, name)
    same_shape(input1, target, name)
    losses = (-target * (input1 - input2) + number(margin, f"{name}: margin")).clamp(min=0)
    return reduce(losses, reduction, name)


@old_reduction
def soft_margin_loss(input: Tensor, target: Tensor, *, reduction: str = "mean") -> Tensor:
    """L = ln(1 + e^(-t x)), t = 1 or -1: binary cross-entropy with other names for the classes.

    >>> x = z2g.zeros(1, requires_grad=True); F.soft_margin_loss(x, z2g.ones(1)).backward(); x.grad
    tensor([-0.5000])
    """
    same_shape(input, target, "soft_margin_loss")
    check_floating(input.array, "soft_margin_loss")
    return reduce(_log1pexp(-target * input), reduction, "soft_margin_loss")


def _log1pexp(x: Tensor) -> Tensor:
    """ln(1 + eˣ) without overflow: the logarithm of the sum of e⁰ and eˣ."""
    zero = x.make(of(x.array).zeros_like(x.array))
    return logsumexp(stack([zero, x], 0), 0)


@old_reduction
def cosine_embedding_loss(
    input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0.0, *, reduction: str = "mean"
) -> Tensor:
    """L = 1 - cos where t = 1, max(0, cos - margin) where t = -1; cos that of the angle between x₁ and x₂.

    input1, input2 (N, D) and target (N,), or (D,) and ().
    >>> x, y = z2g.tensor([[2.0, 0.0]], requires_grad=True), z2g.tensor([[0.0, 1.0]])
    >>> F.cosine_embedding_loss(x, y, z2g.tensor([1.0])).backward(); x.grad
    tensor([[ 0.0000, -0.5000]])
    """
    name = "cosine_embedding_loss"
    a, t = as_array(input1, name), as_array(target, name)
    same_shape(input1, input2, name)
    if a.ndim not in (1, 2) or t.shape != a.shape[:-1]:
        raise RuntimeError(
            f"{name}: inputs {tuple(a.shape)} and target {tuple(t.shape)}: expected (N, D) and (N,), or (D,) and ()"
        )
    eps = 1e-12
    squares = (summed(input1.square(), -1) + eps) * (summed(input2.square(), -1) + eps)
    cosine = summed(input1 * input2, -1) / squares.sqrt()
    apart = (cosine - number(margin, f"{name}: margin")).clamp(min=0)
    t = target.detach()
    return reduce(where(t == 1, 1 - cosine, 0.0) + where(t == -1, apart, 0.0), reduction, name)


@old_reduction
def triplet_margin_loss(
    anchor: Tensor, positive: Tensor, negative: Tensor, margin: float = 1.0, p: float = 2, eps: float = 1e-6,
    swap: bool = False, *, reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """L = max(0, d(a, pos) - d(a, neg) + margin): who belongs together shall be nearer than who does not.

    d is `pairwise_distance`, inputs (N, D) or (D,). `swap`: the nearer of d(a, neg) and d(pos, neg) counts.
    (Balntas et al. 2016)
    >>> a = z2g.tensor([[0.0]], requires_grad=True)
    >>> F.triplet_margin_loss(a, z2g.tensor([[2.0]]), z2g.tensor([[-1.0]])).backward(); a.grad  # towards the positive
    tensor([[-2.]])
    """
    name = "triplet_margin_loss"
    margin = number(margin, f"{name}: margin")
    if margin <= 0:
        raise ValueError(f"{name}: margin must be greater than 0, got {margin}")
    near, far = pairwise_distance(anchor, positive, p, eps), pairwise_distance(anchor, negative, p, eps)
    if swap:
        other = pairwise_distance(positive, negative, p, eps)
        far = far.minimum(other)
    return reduce((near - far + margin).clamp(min=0), reduction, name)


@old_reduction
def multi_margin_loss(
    input: Tensor, target: Tensor, p: int = 1, margin: float = 1.0, weight: Tensor | None = None, *,
    reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """L = Σ_{j ≠ t} w[t] max(0, margin - x[t] + x[j])ᵖ / C: the right class shall lead all others by the margin.

    input (N, C) or (C,), target (N,) or (): the loss of support vector machines.
    >>> x = z2g.tensor([[1.0, 1.0, 3.0]], requires_grad=True)
    >>> F.multi_margin_loss(x, z2g.tensor([2])).backward(); x.grad  # it leads by 2
    tensor([[0., 0., 0.]])
    """
    name = "multi_margin_loss"
    check_reduction(reduction, name)
    a, t = as_array(input, name), as_array(target, name)
    check_floating(a, name)
    if p not in (1, 2):
        raise ValueError(f"{name}: only p == 1 and p == 2 supported, got {p}")
    if a.ndim not in (1, 2) or t.shape != a.shape[:-1] or t.dtype.kind not in "iu":
        raise RuntimeError(
            f"{name}: input {tuple(a.shape)} and target {tuple(t.shape)} of {t.dtype}: expected (N, C) and integer "
            "(N,), or (C,) and ()"
        )
    C = a.shape[-1]
    check_ids(t, C, name, "target")
    places = target.unsqueeze(-1)
    lead = (number(margin, f"{name}: margin") - input.gather(-1, places) + input).clamp(min=0)
    if p == 2:
        lead = lead.square()
    own = input.make(t[..., None] == of(t).arange(C))
    each = where(own, 0.0, lead)
    if weight is not None:
        if as_array(weight, name).shape != (C,):
            raise RuntimeError(f"{name}: weight has shape {tuple(weight.array.shape)}, expected ({C},)")
        each = each * input.make(weight.array[t][..., None])
    return reduce(summed(each, -1) / C, reduction, name)


@old_reduction
def multilabel_soft_margin_loss(
    input: Tensor, target: Tensor, weight: Tensor | None = None, *, reduction: str = "mean"
) -> Tensor:
    """L = -mean over the classes of w (t ln σ(x) + (1 - t) ln (1 - σ(x))): each class by itself, present or not.

    input and target (N, C) or (C,), weight (C,).
    >>> x = z2g.zeros(1, 2, requires_grad=True)
    >>> F.multilabel_soft_margin_loss(x, z2g.tensor([[1.0, 0.0]])).backward(); x.grad
    tensor([[-0.2500,  0.2500]])
    """
    name = "multilabel_soft_margin_loss"
    same_shape(input, target, name)
    check_floating(input.array, name)
    each = target * _log1pexp(-input) + (1 - target) * _log1pexp(input)
    if weight is not None:
        each = each * weight_for(each, weight, name, "weight")
    return reduce(summed(each, -1) / input.array.shape[-1], reduction, name)


apply(globals())  # mixed precision, by the table in half/
