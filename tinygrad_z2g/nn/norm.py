"""Layer and root-mean-square normalisation.

A layer here owns scale and shift; it knows nothing of how rows are normalised, nor of the gradient.
"""

from __future__ import annotations

from typing import Any

from .. import creation
from ..tensor import Tensor
from . import functional as F
from .module import Module, Parameter


class LayerNorm(Module):
    """Each vector shifted to mean 0 and scaled to variance 1, then by learned `weight` and `bias`.

    x (..., *normalized_shape), same shape out. `weight` starts at 1, `bias` at 0. See `functional.layer_norm`.
    """

    def __init__(
        self, normalized_shape: Any, eps: float = 1e-5, elementwise_affine: bool = True, bias: bool = True,
        device: Any = None, dtype: Any = None,
    ):  # fmt: skip
        self.normalized_shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.eps = eps
        make = {"device": device, "dtype": dtype}
        w, b = creation.ones(self.normalized_shape, **make), creation.zeros(self.normalized_shape, **make)
        self.register_parameter("weight", Parameter(w) if elementwise_affine else None)
        self.register_parameter("bias", Parameter(b) if elementwise_affine and bias else None)

    def forward(self, input: Tensor) -> Tensor:
        """(..., *normalized_shape), same shape out"""
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.weight is not None}"


class RMSNorm(Module):
    """Each vector divided by the root of its mean square, then multiplied by a learned `weight`, which starts at 1.

    x (..., *normalized_shape), same shape out. See `functional.rms_norm`.
    """

    def __init__(
        self, normalized_shape: Any, eps: float | None = None, elementwise_affine: bool = True, device: Any = None,
        dtype: Any = None,
    ):  # fmt: skip
        self.normalized_shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.eps = eps
        ones = creation.ones(self.normalized_shape, device=device, dtype=dtype)
        self.register_parameter("weight", Parameter(ones) if elementwise_affine else None)

    def forward(self, input: Tensor) -> Tensor:
        """(..., *normalized_shape), same shape out"""
        return F.rms_norm(input, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.weight is not None}"
