"""Convolution: the same small weights at every place."""

from __future__ import annotations

import math
from typing import Any

from .. import creation
from ..tensor import Tensor
from . import functional as F
from . import init
from .module import Module, Parameter


class Conv1d(Module):
    """Filters that slide along a sequence; see `functional.conv1d` for the formula.

    x (N, in_channels, L) -> (N, out_channels, L'). `weight` (out, in, kernel_size) and `bias` (out,) start uniform
    on ±1/√(in · kernel_size). For a causal convolution pad on the left only: `F.pad(x, (kernel_size - 1, 0))`.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, padding: Any = 0,
        dilation: int = 1, groups: int = 1, bias: bool = True, device: Any = None, dtype: Any = None,
    ):  # fmt: skip
        if groups != 1:
            raise NotImplementedError(f"Conv1d: groups = {groups} is not offered, only 1")
        if kernel_size < 1:
            raise ValueError(f"Conv1d: kernel_size must be positive, got {kernel_size}")
        self.in_channels, self.out_channels, self.kernel_size = in_channels, out_channels, kernel_size
        self.stride, self.padding, self.dilation = stride, padding, dilation
        self.weight = Parameter(creation.empty(out_channels, in_channels, kernel_size, device=device, dtype=dtype))
        self.bias = Parameter(creation.empty(out_channels, device=device, dtype=dtype)) if bias else None
        bound = 1 / math.sqrt(in_channels * kernel_size)
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, L) -> (N, out, L')"""
        return F.conv1d(x, self.weight, self.bias, self.stride, self.padding, self.dilation)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
