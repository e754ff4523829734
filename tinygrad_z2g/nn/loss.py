"""Losses as layers. Each calls the function of its name in `functional`."""

from __future__ import annotations

from ..tensor import Tensor
from . import functional as F
from .module import Module


class MSELoss(Module):
    """mean (input - target)²"""

    def __init__(self, *, reduction: str = "mean"):
        self.reduction = reduction

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Equal shapes in, a scalar out (or the shape, reduction="none")"""
        return F.mse_loss(input, target, reduction=self.reduction)


class L1Loss(Module):
    """mean |input - target|"""

    def __init__(self, *, reduction: str = "mean"):
        self.reduction = reduction

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Equal shapes in, a scalar out (or the shape, reduction="none")"""
        return F.l1_loss(input, target, reduction=self.reduction)


class CrossEntropyLoss(Module):
    """-ln softmax(input)[target], averaged. See `functional.cross_entropy`."""

    def __init__(self, weight: Tensor | None = None, *, ignore_index: int = -100, reduction: str = "mean"):
        self.register_buffer("weight", weight)
        self.ignore_index, self.reduction = ignore_index, reduction

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """(N, C, ...) and integer (N, ...) in"""
        return F.cross_entropy(input, target, self.weight, ignore_index=self.ignore_index, reduction=self.reduction)
