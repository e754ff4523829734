"""Dropout: what the layer has beyond the core, and that of whole channels.

A layer knows whether the model is training, and nothing of how the mask is drawn or used again backwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..core import layers
from ..core.attach import attach
from ..tensor import Tensor
from . import functional as F

__all__ = ["AlphaDropout", "Dropout", "Dropout1d", "Dropout2d"]

_core_init = layers.Dropout.__init__


class DropoutMethods:
    """What is attached to `Dropout`."""

    function: str = "dropout"

    def __init__(self: Any, p: float = 0.5, inplace: bool = False):
        _core_init(self, p)
        self.inplace = inplace

    def forward(self: Any, input: Tensor) -> Tensor:
        """Same shape"""
        return getattr(F, self.function)(input, self.p, self.training, self.inplace)

    def extra_repr(self: Any) -> str:
        return f"p={self.p}, inplace={self.inplace}"


if TYPE_CHECKING:  # who checks types sees so what is attached

    class Dropout(DropoutMethods, layers.Dropout): ...

else:
    Dropout = layers.Dropout
    attach(Dropout, DropoutMethods)


class Dropout1d(Dropout):
    """`Dropout` of whole channels: x (N, C, L) or (C, L)."""

    function = "dropout1d"


class Dropout2d(Dropout):
    """`Dropout` of whole channels: x (N, C, H, W)."""

    function = "dropout2d"


class AlphaDropout(Dropout):
    """The dropout that goes with `SELU`: what is dropped becomes what selu gives far on the left."""

    function = "alpha_dropout"
