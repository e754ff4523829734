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
    bias: Parameter | None

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1, padding: Any = 0,
        dilation: Any = 1, groups: int = 1, bias: bool = True, padding_mode: str = "zeros", device: Any = None,
        dtype: Any = None,
    ):  # fmt: skip
        n, name = self.dimensions, type(self).__name__
        if padding_mode not in ("zeros", "reflect", "replicate", "circular"):
            modes = "zeros, reflect, replicate or circular"
            raise ValueError(f"{name}: padding_mode must be {modes}, got {padding_mode!r}")
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(
                f"{name}: in_channels and out_channels must be divisible by groups, got {in_channels}, {out_channels} "
                f"and {groups}"
            )
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size = _tuple(name, "kernel_size", kernel_size, n)
        if min(self.kernel_size) < 1:
            raise ValueError(f"{name}: kernel_size must be {n} positive, got {kernel_size}")
        self.stride, self.dilation = _tuple(name, "stride", stride, n), _tuple(name, "dilation", dilation, n)
        self.padding: Any = padding if isinstance(padding, str) else _tuple(name, "padding", padding, n)
        if isinstance(padding, str) and padding != "valid" and (padding != "same" or max(self.stride) > 1):
            raise ValueError(f"{name}: padding must be numbers, 'valid', or 'same' with stride 1, got {padding!r}")
        self.groups, self.padding_mode = groups, padding_mode
        self.weight = Parameter(creation.empty(*self._weight_shape(), device=device, dtype=dtype))
        b = Parameter(creation.empty(out_channels, device=device, dtype=dtype)) if bias else None
        self.register_parameter("bias", b)
        self.reset_parameters()

    def _weight_shape(self) -> tuple[int, ...]:
        return (self.out_channels, self.in_channels // self.groups, *self.kernel_size)

    def reset_parameters(self) -> None:
        """Draw new starting values: uniform on ±1/√n, n the numbers that a filter looks at."""
        bound = 1 / math.sqrt(max(1, math.prod(self.weight.array.shape[1:])))
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def _bordered(self, input: Tensor) -> tuple[Tensor, Any]:
        """The input and how much zero padding it still needs: none where `padding_mode` has surrounded it."""
        if self.padding_mode == "zeros":
            return input, self.padding
        reach = [d * (k - 1) for d, k in zip(self.dilation, self.kernel_size, strict=True)]
        sides = {"same": [(r // 2, r - r // 2) for r in reach], "valid": [(0, 0)] * len(reach)}
        pairs = sides[self.padding] if isinstance(self.padding, str) else [(p, p) for p in self.padding]
        return F.pad(input, [p for pair in reversed(pairs) for p in pair], self.padding_mode), 0

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        usual = {"padding": 0, "dilation": 1, "output_padding": 0}
        for name, value in usual.items():
            if getattr(self, name, value) not in (value, (value,) * self.dimensions):
                text += f", {name}={getattr(self, name)}"
        text += f", groups={self.groups}" if self.groups > 1 else ""
        text += "" if self.bias is not None else ", bias=False"
        return text + (f", padding_mode={self.padding_mode}" if self.padding_mode != "zeros" else "")


def _tuple(name: str, what: str, value: Any, n: int) -> tuple[int, ...]:
    """One number for each of n dimensions."""
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    values = values * n if len(values) == 1 else values
    if len(values) != n or not all(isinstance(v, int) for v in values):
        raise ValueError(f"{name}: {what} must be {n} whole numbers, got {value}")
    return values


class Conv1d(_Conv):
    """Filters that slide along a sequence; see `functional.conv1d` for the formula.

    x (N, in_channels, L) -> (N, out_channels, L'). `weight` (out, in / groups, kernel_size) and `bias` (out,) start
    uniform on ±1/√(in / groups · kernel_size). With `groups`, each group of filters looks at its share of the channels
    alone. `padding_mode`: what surrounds x, see `functional.pad`. For a causal convolution pad on the left only:
    `F.pad(x, (kernel_size - 1, 0))`.
    """

    dimensions = 1

    def forward(self, input: Tensor) -> Tensor:
        """(N, in, L) -> (N, out, L')"""
        input, padding = self._bordered(input)
        return F.conv1d(input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


class Conv2d(_Conv):
    """Filters that slide over a picture; see `functional.conv2d` for the formula.

    x (N, in_channels, H, W) -> (N, out_channels, H', W'). `weight` (out, in / groups, *kernel_size) and `bias` (out,)
    start uniform on ±1/√(in / groups · kernel_size[0] · kernel_size[1]). Settings as for `Conv1d`.
    """

    dimensions = 2

    def forward(self, input: Tensor) -> Tensor:
        """(N, in, H, W) -> (N, out, H', W')"""
        input, padding = self._bordered(input)
        return F.conv2d(input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


class _ConvTranspose(_Conv):
    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1, padding: Any = 0,
        output_padding: Any = 0, groups: int = 1, bias: bool = True, dilation: Any = 1, padding_mode: str = "zeros",
        device: Any = None, dtype: Any = None,
    ):  # fmt: skip
        name = type(self).__name__
        if padding_mode != "zeros":
            raise ValueError(f'{name}: only "zeros" padding mode is supported, got {padding_mode!r}')
        if isinstance(padding, str):
            raise TypeError(f"{name}: padding must be numbers, got {padding!r}")
        self.output_padding = _tuple(name, "output_padding", output_padding, self.dimensions)
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, device, dtype
        )

    def _weight_shape(self) -> tuple[int, ...]:
        return (self.in_channels, self.out_channels // self.groups, *self.kernel_size)

    def forward(self, input: Tensor, output_size: Any = None) -> Tensor:
        """(N, in, L) -> (N, out, L'); `output_size` chooses among the sizes that a stride leaves open."""
        more: Any = self.output_padding
        if output_size is not None:
            wanted = tuple(output_size)[-self.dimensions :]
            least = [
                (m - 1) * s - 2 * p + d * (k - 1) + 1
                for m, s, p, d, k in zip(
                    input.array.shape[-self.dimensions :], self.stride, self.padding, self.dilation, self.kernel_size,
                    strict=True,
                )
            ]  # fmt: skip
            more = tuple(w - m for w, m in zip(wanted, least, strict=True))
            if any(not 0 <= extra < s for extra, s in zip(more, self.stride, strict=True)):
                most = [m + s - 1 for m, s in zip(least, self.stride, strict=True)]
                raise ValueError(
                    f"{type(self).__name__}: requested an output size of {wanted}, but valid sizes range from {least} "
                    f"to {most}"
                )
        function = F.conv_transpose1d if self.dimensions == 1 else F.conv_transpose2d
        return function(
            input, self.weight, self.bias, self.stride, self.padding, more, self.groups, self.dilation
        )


class ConvTranspose1d(_ConvTranspose):
    """`Conv1d` read backwards: each number paints a filter; see `functional.conv_transpose1d` for the formula.

    x (N, in_channels, L) -> (N, out_channels, L'). `weight` (in, out / groups, kernel_size) and `bias` (out,) start
    uniform on ±1/√(out / groups · kernel_size).
    """

    dimensions = 1


class ConvTranspose2d(_ConvTranspose):
    """`Conv2d` read backwards: each number paints a filter; see `functional.conv_transpose2d` for the formula.

    x (N, in_channels, H, W) -> (N, out_channels, H', W'). `weight` (in, out / groups, *kernel_size) and `bias` (out,)
    start uniform on ±1/√(out / groups · kernel_size[0] · kernel_size[1]).
    """

    dimensions = 2


class _Pool(Module):
    """What the poolings share: a function of `functional` and its settings, which it checks when called."""

    function: str  # by its name in `functional`, where a user may have put one of his own

    def __init__(self, kernel_size: Any, stride: Any, padding: Any, **settings: Any):
        self.kernel_size, self.stride, self.padding = kernel_size, kernel_size if stride is None else stride, padding
        self.settings = settings

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, L) -> (N, C, L'), or (N, C, H, W) -> (N, C, H', W')"""
        return getattr(F, self.function)(input, self.kernel_size, self.stride, self.padding, **self.settings)

    def extra_repr(self) -> str:
        shown = ((name, self.settings[name]) for name in ("dilation", "ceil_mode") if "dilation" in self.settings)
        settings = "".join(f", {name}={value}" for name, value in shown)
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}{settings}"


class MaxPool1d(_Pool):
    """The largest value of each window of a sequence; see `functional.max_pool1d`."""

    function = "max_pool1d"

    def __init__(
        self, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, return_indices: bool = False,
        ceil_mode: bool = False,
    ):  # fmt: skip
        super().__init__(
            kernel_size, stride, padding, dilation=dilation, return_indices=return_indices, ceil_mode=ceil_mode
        )


class MaxPool2d(MaxPool1d):
    """The largest value of each window of a picture; see `functional.max_pool2d`."""

    function = "max_pool2d"


class AvgPool1d(_Pool):
    """The mean of each window of a sequence; see `functional.avg_pool1d`."""

    function = "avg_pool1d"

    def __init__(
        self, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
        count_include_pad: bool = True,
    ):  # fmt: skip
        sizes = (size if isinstance(size, (tuple, list)) else (size,) for size in (kernel_size, padding))
        steps = stride if stride is None or isinstance(stride, (tuple, list)) else (stride,)
        kernel, pads = map(tuple, sizes)
        super().__init__(kernel, steps, pads, ceil_mode=ceil_mode, count_include_pad=count_include_pad)


class AvgPool2d(_Pool):
    """The mean of each window of a picture; see `functional.avg_pool2d`."""

    function = "avg_pool2d"

    def __init__(
        self, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
        count_include_pad: bool = True, divisor_override: int | None = None,
    ):  # fmt: skip
        super().__init__(
            kernel_size, stride, padding, ceil_mode=ceil_mode, count_include_pad=count_include_pad,
            divisor_override=divisor_override,
        )  # fmt: skip


class _AdaptivePool(Module):
    """What the poolings to a given size share."""

    function: str  # by its name in `functional`, where a user may have put one of his own

    def __init__(self, output_size: Any):
        self.output_size = output_size

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, ...) -> (N, C, *output_size)"""
        return getattr(F, self.function)(input, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveAvgPool1d(_AdaptivePool):
    """The means of `output_size` windows that cover a sequence; see `functional.adaptive_avg_pool1d`."""

    function = "adaptive_avg_pool1d"


class AdaptiveAvgPool2d(_AdaptivePool):
    """The means of windows that cover a picture; see `functional.adaptive_avg_pool2d`."""

    function = "adaptive_avg_pool2d"


class AdaptiveMaxPool1d(_AdaptivePool):
    """The largest of each of `output_size` windows that cover a sequence; see `functional.adaptive_max_pool1d`."""

    function = "adaptive_max_pool1d"

    def __init__(self, output_size: Any, return_indices: bool = False):
        self.output_size, self.return_indices = output_size, return_indices

    def forward(self, input: Tensor) -> Any:
        """(N, C, ...) -> (N, C, *output_size), and the places if asked for"""
        return getattr(F, self.function)(input, self.output_size, self.return_indices)


class AdaptiveMaxPool2d(AdaptiveMaxPool1d):
    """The largest of each window, of those that cover a picture; see `functional.adaptive_max_pool2d`."""

    function = "adaptive_max_pool2d"
