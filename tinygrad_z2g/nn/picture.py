"""Layers that change the size of pictures and sequences: upsampling, blocks moved around, borders.

They keep settings and call the function, and know nothing of what it does; see `resize`.
"""

from __future__ import annotations

from typing import Any

from ..tensor import Tensor
from . import functional as F
from .module import Module


class Upsample(Module):
    """Another size by interpolation; see `functional.interpolate`. (N, C, L), (N, C, H, W) or (N, C, D, H, W)."""

    def __init__(
        self, size: Any = None, scale_factor: Any = None, mode: str = "nearest", align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
    ):  # fmt: skip
        self.size, self.scale_factor, self.mode = size, scale_factor, mode
        if scale_factor is not None:
            several = isinstance(scale_factor, (tuple, list))
            self.scale_factor = tuple(map(float, scale_factor)) if several else float(scale_factor)
        self.align_corners, self.recompute_scale_factor = align_corners, recompute_scale_factor

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, ...) -> (N, C, *size)"""
        return F.interpolate(
            input, self.size, self.scale_factor, self.mode, self.align_corners, self.recompute_scale_factor
        )

    def extra_repr(self) -> str:
        of_what = f"size={self.size}" if self.scale_factor is None else f"scale_factor={self.scale_factor}"
        return f"{of_what}, mode={self.mode!r}"


class UpsamplingNearest2d(Upsample):
    """`Upsample` of pictures in mode "nearest"."""

    def __init__(self, size: Any = None, scale_factor: Any = None):
        super().__init__(size, scale_factor, "nearest")


class UpsamplingBilinear2d(Upsample):
    """`Upsample` of pictures in mode "bilinear" with align_corners=True."""

    def __init__(self, size: Any = None, scale_factor: Any = None):
        super().__init__(size, scale_factor, "bilinear", True)


class PixelShuffle(Module):
    """r² channels become r × r places: (N, C r², H, W) -> (N, C, H r, W r). See `functional.pixel_shuffle`."""

    def __init__(self, upscale_factor: int):
        self.upscale_factor = upscale_factor

    def forward(self, input: Tensor) -> Tensor:
        """(N, C r², H, W) -> (N, C, H r, W r)"""
        return F.pixel_shuffle(input, self.upscale_factor)

    def extra_repr(self) -> str:
        return f"upscale_factor={self.upscale_factor}"


class PixelUnshuffle(Module):
    """r × r places become r² channels: (N, C, H r, W r) -> (N, C r², H, W). See `functional.pixel_unshuffle`."""

    def __init__(self, downscale_factor: int):
        self.downscale_factor = downscale_factor

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H r, W r) -> (N, C r², H, W)"""
        return F.pixel_unshuffle(input, self.downscale_factor)

    def extra_repr(self) -> str:
        return f"downscale_factor={self.downscale_factor}"


class ChannelShuffle(Module):
    """The channels of `groups` groups, dealt out in turn. See `functional.channel_shuffle`."""

    def __init__(self, groups: int):
        self.groups = groups

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, ...), same shape out"""
        return F.channel_shuffle(input, self.groups)

    def extra_repr(self) -> str:
        return f"groups={self.groups}"


class Unfold(Module):
    """Each window of a picture as a column: (N, C, H, W) -> (N, C K1 K2, windows). See `functional.unfold`."""

    def __init__(self, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1):
        self.kernel_size, self.dilation, self.padding, self.stride = kernel_size, dilation, padding, stride

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C K1 K2, windows)"""
        return F.unfold(input, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        settings = f"dilation={self.dilation}, padding={self.padding}, stride={self.stride}"
        return f"kernel_size={self.kernel_size}, {settings}"


class Fold(Module):
    """Columns added up where their windows stood: (N, C K1 K2, windows) -> (N, C, H, W). See `functional.fold`."""

    def __init__(
        self, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
    ):
        self.output_size, self.kernel_size = output_size, kernel_size
        self.dilation, self.padding, self.stride = dilation, padding, stride

    def forward(self, input: Tensor) -> Tensor:
        """(N, C K1 K2, windows) -> (N, C, H, W)"""
        return F.fold(input, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        settings = f"dilation={self.dilation}, padding={self.padding}, stride={self.stride}"
        return f"output_size={self.output_size}, kernel_size={self.kernel_size}, {settings}"


# --- Borders -----------------------------------------------------------------------------------------------------


class _Pad(Module):
    """What the layers below share: `padding` for `functional.pad`, a number for all sides or one for each."""

    dimensions: int
    mode: str

    def __init__(self, padding: Any):
        sides = tuple(padding) if isinstance(padding, (tuple, list)) else (padding,) * (2 * self.dimensions)
        if len(sides) != 2 * self.dimensions:
            raise ValueError(
                f"{type(self).__name__}: expected one number or {2 * self.dimensions} of them, got {padding}"
            )
        self.padding = sides

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, ...) or without batch, with a border"""
        return F.pad(input, self.padding, self.mode)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class ConstantPad1d(_Pad):
    """A border of `value` around a sequence: padding (left, right)"""

    dimensions, mode = 1, "constant"

    def __init__(self, padding: Any, value: float):
        super().__init__(padding)
        self.value = value

    def forward(self, input: Tensor) -> Tensor:
        """(..., L) -> (..., left + L + right)"""
        return F.pad(input, self.padding, "constant", self.value)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ConstantPad2d(ConstantPad1d):
    """A border of `value` around a picture: padding (left, right, top, bottom)"""

    dimensions = 2


class ZeroPad1d(_Pad):
    """A border of zeros around a sequence"""

    dimensions, mode = 1, "constant"


class ZeroPad2d(_Pad):
    """A border of zeros around a picture"""

    dimensions, mode = 2, "constant"


class ReflectionPad1d(_Pad):
    """A border that is the mirror image of a sequence"""

    dimensions, mode = 1, "reflect"


class ReflectionPad2d(_Pad):
    """A border that is the mirror image of a picture"""

    dimensions, mode = 2, "reflect"


class ReplicationPad1d(_Pad):
    """A border that repeats the ends of a sequence"""

    dimensions, mode = 1, "replicate"


class ReplicationPad2d(_Pad):
    """A border that repeats the edges of a picture"""

    dimensions, mode = 2, "replicate"


class CircularPad1d(_Pad):
    """A border that is the other end of a sequence"""

    dimensions, mode = 1, "circular"


class CircularPad2d(_Pad):
    """A border that is the other edge of a picture"""

    dimensions, mode = 2, "circular"
