"""Layers that make vectors of pictures for a linear layer, and back; and what `Linear` has beyond the core.

`Linear` itself stands in `core/layers.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..core import layers
from ..core.attach import attach
from ..tensor import Tensor
from . import functional
from .module import Module, Parameter

__all__ = ["Flatten", "Linear", "Unflatten"]

layers.ops = functional  # where the core's layers find `ops.linear`: so a user's `F.linear = mine` is seen, as in torch


class LinearMethods:
    """What is attached to `Linear`."""

    @classmethod
    def of(cls, weight: Parameter, bias: Parameter | None = None) -> Linear:
        """A layer around parameters that are there: nothing is drawn. Not in torch."""
        layer: Any = cls.__new__(cls)
        layer.out_features, layer.in_features = weight.array.shape
        layer.weight, layer.bias = weight, bias
        return layer

    def extra_repr(self: Any) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


if TYPE_CHECKING:  # who checks types sees so what is attached

    class Linear(LinearMethods, layers.Linear): ...

else:
    Linear = layers.Linear
    attach(Linear, LinearMethods)


class Flatten(Module):
    """Joins the dimensions from `start_dim` to `end_dim`: (N, C, H, W) -> (N, C·H·W)."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1):
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, input: Tensor) -> Tensor:
        """(N, ..., features) -> (N, all features)"""
        return input.flatten(self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """Cuts one dimension into several: `Unflatten(1, (C, H, W))` is the way back of `Flatten`."""

    def __init__(self, dim: int, unflattened_size: Any):
        sizes = unflattened_size if isinstance(unflattened_size, (tuple, list)) else None
        if sizes is None or not all(isinstance(n, int) for n in sizes):
            raise TypeError(f"Unflatten: unflattened_size must be a tuple of ints, got {unflattened_size!r}")
        self.dim, self.unflattened_size = dim, unflattened_size

    def forward(self, input: Tensor) -> Tensor:
        """(N, all features) -> (N, *unflattened_size)"""
        return input.unflatten(self.dim, tuple(self.unflattened_size))

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"
