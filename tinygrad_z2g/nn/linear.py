"""The linear layer, and those that make vectors of pictures for it, and back.

The layer owns weight and bias; it knows nothing of products and gradients.
"""

from __future__ import annotations

import math
from typing import Any

from .. import creation
from ..tensor import Tensor
from . import functional as F
from . import init
from .module import Module, Parameter


class Linear(Module):
    """z = x Wᵀ + b: every output is a weighted sum of all inputs.

    x (..., in_features) -> (..., out_features). `weight` (out, in) and `bias` (out,) start uniform on ±1/√in.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None):
        self.in_features, self.out_features = in_features, out_features
        self.weight = Parameter(creation.empty(out_features, in_features, device=device, dtype=dtype))
        b = Parameter(creation.empty(out_features, device=device, dtype=dtype)) if bias else None
        self.register_parameter("bias", b)  # registered even if absent: only a Parameter may take its place
        self.reset_parameters()

    @classmethod
    def of(cls, weight: Parameter, bias: Parameter | None = None) -> Linear:
        """A layer around parameters that are there: nothing is drawn. Not in torch."""
        layer = cls.__new__(cls)
        layer.out_features, layer.in_features = weight.array.shape
        layer.weight, layer.bias = weight, bias
        return layer

    def reset_parameters(self) -> None:
        """Draw new starting values."""
        bound = 1 / math.sqrt(self.in_features) if self.in_features else 0
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Tensor) -> Tensor:
        """(..., in) -> (..., out)"""
        return F.linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


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
