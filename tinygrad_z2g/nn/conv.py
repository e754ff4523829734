"""Convolution: the same small weights at every place; and pooling, which keeps one number of each neighbourhood.

A layer here owns the filters and knows nothing of sliding, nor of gradients: `window` does that.
"""

from __future__ import annotations

import math
from typing import Any

from .. import creation
from ..tensor import Tensor
from . import functional as F
from . import init
from .module import Module, Parameter


class _Conv(Module):
    """What the convolutions along one and two dimensions share: parameters, their start, their description."""

    dimensions: int

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1, padding: Any = 0,
        dilation: Any = 1, groups: int = 1, bias: bool = True, padding_mode: str = "zeros", device: Any = None,
        dtype: Any = None,
    ):  # fmt: skip
        name = type(self).__name__
        if groups != 1:
            raise NotImplementedError(f"{name}: groups = {groups} is not offered, only 1")
        if padding_mode != "zeros":
            raise NotImplementedError(f"{name}: padding_mode {padding_mode!r} is not offered, only 'zeros'")
        kernel = kernel_size if isinstance(kernel_size, (tuple, list)) else (kernel_size,) * self.dimensions
        if len(kernel) != self.dimensions or min(kernel) < 1:
            raise ValueError(f"{name}: kernel_size must be {self.dimensions} positive, got {kernel_size}")
        self.in_channels, self.out_channels, self.kernel_size = in_channels, out_channels, tuple(kernel)
        self.stride, self.padding, self.dilation = stride, padding, dilation
        self.weight = Parameter(creation.empty(out_channels, in_channels, *kernel, device=device, dtype=dtype))
        b = Parameter(creation.empty(out_channels, device=device, dtype=dtype)) if bias else None
        self.register_parameter("bias", b)
        bound = 1 / math.sqrt(max(1, in_channels * math.prod(kernel)))
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"


class Conv1d(_Conv):
    """Filters that slide along a sequence; see `functional.conv1d` for the formula.

    x (N, in_channels, L) -> (N, out_channels, L'). `weight` (out, in, kernel_size) and `bias` (out,) start uniform
    on ±1/√(in · kernel_size). For a causal convolution pad on the left only: `F.pad(x, (kernel_size - 1, 0))`.
    """

    dimensions = 1

    def forward(self, input: Tensor) -> Tensor:
        """(N, in, L) -> (N, out, L')"""
        return F.conv1d(input, self.weight, self.bias, self.stride, self.padding, self.dilation)


class Conv2d(_Conv):
    """Filters that slide over a picture; see `functional.conv2d` for the formula.

    x (N, in_channels, H, W) -> (N, out_channels, H', W'). `weight` (out, in, *kernel_size) and `bias` (out,) start
    uniform on ±1/√(in · kernel_size[0] · kernel_size[1]).
    """

    dimensions = 2

    def forward(self, input: Tensor) -> Tensor:
        """(N, in, H, W) -> (N, out, H', W')"""
        return F.conv2d(input, self.weight, self.bias, self.stride, self.padding, self.dilation)


class _Pool(Module):
    """What the poolings share: a function of `functional` and its settings, which it checks when called."""

    function: Any

    def __init__(self, kernel_size: Any, stride: Any, padding: Any, **settings: Any):
        self.kernel_size, self.stride, self.padding = kernel_size, kernel_size if stride is None else stride, padding
        self.settings = settings

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, L) -> (N, C, L'), or (N, C, H, W) -> (N, C, H', W')"""
        return type(self).function(input, self.kernel_size, self.stride, self.padding, **self.settings)

    def extra_repr(self) -> str:
        settings = "".join(f", {name}={value}" for name, value in self.settings.items())
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}{settings}"


class MaxPool1d(_Pool):
    """The largest value of each window of a sequence; see `functional.max_pool1d`."""

    function = staticmethod(F.max_pool1d)

    def __init__(
        self, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, return_indices: bool = False,
        ceil_mode: bool = False,
    ):  # fmt: skip
        super().__init__(
            kernel_size, stride, padding, dilation=dilation, return_indices=return_indices, ceil_mode=ceil_mode
        )


class MaxPool2d(MaxPool1d):
    """The largest value of each window of a picture; see `functional.max_pool2d`."""

    function = staticmethod(F.max_pool2d)


class AvgPool1d(_Pool):
    """The mean of each window of a sequence; see `functional.avg_pool1d`."""

    function = staticmethod(F.avg_pool1d)

    def __init__(
        self, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
        count_include_pad: bool = True,
    ):  # fmt: skip
        super().__init__(kernel_size, stride, padding, ceil_mode=ceil_mode, count_include_pad=count_include_pad)
