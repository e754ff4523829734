"""Lengths, angles and distances of vectors, all composed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ..arrays import dtypes
from ..half.table import apply
from ..ops.common import as_array, check_broadcast, number
from ..ops.reduction import norm
from ..ops.reduction import sum as summed
from ..ops.shape import expand

if TYPE_CHECKING:
    from ..tensor import Tensor


def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """z = x / max(‖x‖ₚ, eps) along `dim`: vectors of length 1.

    Composed. What lies along x cannot change a direction, so only the rest of grad remains, divided by the length.
    >>> x = z2g.tensor([3.0, 4.0], requires_grad=True)
    >>> (F.normalize(x, dim=0) * z2g.tensor([4.0, -3.0])).sum().backward(); x.grad  # grad · x = 0
    tensor([ 0.8000, -0.6000])
    """
    return input / norm(input, p, dim, keepdim=True).clamp(min=eps)


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


def pairwise_distance(x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Tensor:
    """z = ‖x₁ - x₂ + eps‖ₚ along the last dimension. The eps keeps the slope of the root finite.

    >>> x, y = z2g.tensor([[3.0, 4.0]], requires_grad=True), z2g.zeros(1, 2)
    >>> F.pairwise_distance(x, y).sum().backward(); x.grad  # the direction from y to x
    tensor([[0.6000, 0.8000]])
    """
    d = x1 - x2 + number(eps, "pairwise_distance: eps")
    if p in (1, 2, math.inf):
        return norm(d, p, -1, keepdim)
    return summed(d.abs().pow(p), -1, keepdim).pow(1 / p)


apply(globals())  # mixed precision, by the table in half/
