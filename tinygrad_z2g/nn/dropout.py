"""Dropout.

The layer knows whether the model is training, and nothing of how the mask is drawn or used again backwards.
"""

from __future__ import annotations

from typing import Any

from ..tensor import Tensor
from . import functional as F
from .module import Module


class Dropout(Module):
    """While training, each element becomes 0 with probability p and the rest grows by 1 / (1 - p)."""

    function: Any = staticmethod(F.dropout)

    def __init__(self, p: float = 0.5, inplace: bool = False):
        if not 0 <= p <= 1:
            raise ValueError(f"{type(self).__name__}: probability has to be between 0 and 1, got {p}")
        self.p, self.inplace = p, inplace

    def forward(self, input: Tensor) -> Tensor:
        """Same shape"""
        return type(self).function(input, self.p, self.training, self.inplace)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


class Dropout1d(Dropout):
    """`Dropout` of whole channels: x (N, C, L) or (C, L)."""

    function = staticmethod(F.dropout1d)


class Dropout2d(Dropout):
    """`Dropout` of whole channels: x (N, C, H, W)."""

    function = staticmethod(F.dropout2d)


class AlphaDropout(Dropout):
    """The dropout that goes with `SELU`: what is dropped becomes what selu gives far on the left."""

    function = staticmethod(F.alpha_dropout)
