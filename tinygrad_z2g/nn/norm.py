"""Normalisation: of vectors, of the batch, of groups of channels, of each picture by itself.

A layer here owns scale, shift and running averages; it knows nothing of how numbers are normalised, nor of
gradients.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import creation
from ..arrays import dtypes
from ..core import layers
from ..core.attach import attach
from ..tensor import Tensor
from . import functional as F
from .module import Module, Parameter


class LayerNormMethods:
    """What is attached to `LayerNorm`."""

    def extra_repr(self: Any) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.weight is not None}"


if TYPE_CHECKING:  # who checks types sees so what is attached

    class LayerNorm(LayerNormMethods, layers.LayerNorm): ...

else:
    LayerNorm = layers.LayerNorm
    attach(LayerNorm, LayerNormMethods)


class RMSNorm(Module):
    """Each vector divided by the root of its mean square, then multiplied by a learned `weight`, which starts at 1.

    x (..., *normalized_shape), same shape out. See `functional.rms_norm`.
    """

    weight: Parameter | None

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


# --- Of channels -------------------------------------------------------------------------------------------------


class _ChannelNorm(Module):
    """What those with running averages share: a number for each channel of weight, bias, mean and variance."""

    weight: Parameter | None
    bias: Parameter | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None
    ndims: tuple[int, ...] = ()  # how many dimensions an input may have

    def __init__(
        self, num_features: int, eps: float, momentum: float | None, affine: bool, track_running_stats: bool,
        device: Any, dtype: Any, bias: bool,
    ):  # fmt: skip
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        make = {"device": device, "dtype": dtype}
        self.register_parameter("weight", Parameter(creation.ones(num_features, **make)) if affine else None)
        self.register_parameter("bias", Parameter(creation.zeros(num_features, **make)) if affine and bias else None)
        kept = track_running_stats
        self.register_buffer("running_mean", creation.zeros(num_features, **make) if kept else None)
        self.register_buffer("running_var", creation.ones(num_features, **make) if kept else None)
        count = creation.tensor(0, dtype=dtypes.int64, device=device) if kept else None
        self.register_buffer("num_batches_tracked", count)

    def reset_running_stats(self) -> None:
        """Forget the batches that were seen."""
        for buffer, value in ((self.running_mean, 0), (self.running_var, 1), (self.num_batches_tracked, 0)):
            if buffer is not None:
                buffer.fill_(value)

    def reset_parameters(self) -> None:
        """The starting values: weight 1, bias 0, no batch seen."""
        self.reset_running_stats()
        if self.weight is not None:
            self.weight.detach().fill_(1)
        if self.bias is not None:
            self.bias.detach().zero_()

    def _check(self, input: Tensor) -> None:
        if input.array.ndim not in self.ndims:
            expected = " or ".join(f"{n}D" for n in self.ndims)
            raise ValueError(f"{type(self).__name__}: expected {expected} input (got {input.array.ndim}D input)")

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )


class _BatchNorm(_ChannelNorm):
    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True,
        track_running_stats: bool = True, device: Any = None, dtype: Any = None, *, bias: bool = True,
    ):  # fmt: skip
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias)

    def forward(self, input: Tensor) -> Tensor:
        """(N, num_features, ...), same shape out"""
        self._check(input)
        mean, var, share = self.running_mean, self.running_var, self.momentum
        use_batch = self.training or mean is None
        if self.training and self.track_running_stats and mean is not None and self.num_batches_tracked is not None:
            self.num_batches_tracked += 1
            if share is None:  # the plain mean over all batches
                share = 1 / self.num_batches_tracked.item()
        if self.training and not self.track_running_stats:
            mean = var = None
        return F.batch_norm(input, mean, var, self.weight, self.bias, use_batch, share or 0.0, self.eps)


class BatchNorm1d(_BatchNorm):
    """Each channel shifted to mean 0 and scaled to variance 1 over the batch, then by learned `weight` and `bias`.

    x (N, num_features) or (N, num_features, L), same shape out. While training, the numbers of the batch count, and
    `running_mean` and `running_var` follow them, by `momentum` each time (None: their mean over all batches); in eval
    these count. `weight` starts at 1, `bias` at 0. See `functional.batch_norm`.
    """

    ndims = (2, 3)


class BatchNorm2d(_BatchNorm):
    """`BatchNorm1d` for pictures: x (N, num_features, H, W), same shape out."""

    ndims = (4,)


class BatchNorm3d(_BatchNorm):
    """`BatchNorm1d` for volumes: x (N, num_features, D, H, W), same shape out."""

    ndims = (5,)


class _InstanceNorm(_ChannelNorm):
    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float = 0.1, affine: bool = False,
        track_running_stats: bool = False, device: Any = None, dtype: Any = None, *, bias: bool = True,
    ):  # fmt: skip
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias)

    def forward(self, input: Tensor) -> Tensor:
        """(N, num_features, ...) or without batch, same shape out"""
        self._check(input)
        if input.array.ndim == self.ndims[0]:
            return self.forward(input.unsqueeze(0)).squeeze(0)
        if self.affine and input.array.shape[1] != self.num_features:
            raise ValueError(
                f"{type(self).__name__}: expected {self.num_features} channels, got {input.array.shape[1]}"
            )
        use_input = self.training or not self.track_running_stats
        share = 0.0 if self.momentum is None else self.momentum
        return F.instance_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias, use_input, share, self.eps
        )


class InstanceNorm1d(_InstanceNorm):
    """Each channel of each example shifted to mean 0 and scaled to variance 1 by itself.

    x (N, num_features, L) or (num_features, L), same shape out. By default nothing is learned, and nothing kept for
    eval. See `functional.instance_norm`.
    """

    ndims = (2, 3)


class InstanceNorm2d(_InstanceNorm):
    """`InstanceNorm1d` for pictures: x (N, num_features, H, W) or (num_features, H, W), same shape out."""

    ndims = (3, 4)


class GroupNorm(Module):
    """The channels of each group, of each example, shifted to mean 0 and scaled to variance 1 together.

    x (N, num_channels, ...), same shape out. `weight` and `bias` (num_channels,) start at 1 and 0. See
    `functional.group_norm`.
    """

    weight: Parameter | None
    bias: Parameter | None

    def __init__(
        self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True, device: Any = None,
        dtype: Any = None, *, bias: bool = True,
    ):  # fmt: skip
        if num_groups < 1 or num_channels % num_groups:
            raise ValueError(
                f"GroupNorm: num_channels must be divisible by num_groups, got {num_channels} and {num_groups}"
            )
        self.num_groups, self.num_channels, self.eps, self.affine = num_groups, num_channels, eps, affine
        make = {"device": device, "dtype": dtype}
        self.register_parameter("weight", Parameter(creation.ones(num_channels, **make)) if affine else None)
        self.register_parameter("bias", Parameter(creation.zeros(num_channels, **make)) if affine and bias else None)

    def forward(self, input: Tensor) -> Tensor:
        """(N, num_channels, ...), same shape out"""
        return F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        settings = f"eps={self.eps}, affine={self.affine}, bias={self.bias is not None}"
        return f"{self.num_groups}, {self.num_channels}, {settings}"


class LocalResponseNorm(Module):
    """Each number divided by a power of the mean square of `size` neighbouring channels; of AlexNet.

    See `functional.local_response_norm`.
    """

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0):
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, ...), same shape out"""
        return F.local_response_norm(input, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"
