"""Layers that learn from their first input how wide it is, and are ordinary layers from then on.

Until then their parameters are `UninitializedParameter`s: one can move them to a device or another dtype and hand them
to an optimizer, and nothing else. So a network is run once on an example (a dry run) before it is counted, saved or
given starting values of one's own.
"""

from __future__ import annotations

from typing import Any

from .. import creation
from ..arrays.backend import device_of
from ..core.engine import Variable
from ..tensor import Tensor
from .conv import Conv1d, Conv2d
from .linear import Linear
from .module import Module, Parameter
from .norm import BatchNorm1d, BatchNorm2d


class UninitializedParameter(Parameter):
    """A parameter whose shape is not known yet. When it is, this same object becomes a `Parameter`."""

    def __init__(self, requires_grad: bool = True, device: Any = None, dtype: Any = None):
        self.begin(creation.empty(0, device=device, dtype=dtype).array)  # which says where and in which dtype
        self._requires_grad = bool(requires_grad)

    @property
    def array(self) -> Any:
        """RuntimeError: there are no numbers yet."""
        raise RuntimeError(
            "this parameter of a lazy layer is uninitialized: it has no shape and no numbers before the first call. "
            "Run the model once on an example, such as `model(torch.zeros(1, 28 * 28))`, and then count, save, load, "
            "initialise or use its parameters"
        )

    @array.setter
    def array(self, value: Any) -> None:
        vars(Variable)["array"].__set__(self, value)

    @property
    def _placeholder(self) -> Any:
        return vars(Variable)["array"].__get__(self)

    @property
    def dtype(self) -> Any:
        """That which the parameter will have."""
        return self._placeholder.dtype

    @property
    def device(self) -> Any:
        """Where the parameter will be."""
        return device_of(self._placeholder)

    def is_floating_point(self) -> bool:
        """Whether it will hold floating-point numbers."""
        return self._placeholder.dtype.kind == "f"

    def detach(self) -> Tensor:
        """Itself: there is no history, and there are no numbers."""
        return self

    def to(self, *args: Any, **kwargs: Any) -> Tensor:
        """An empty tensor on that device and in that dtype: what `Module.to` puts here."""
        return Tensor.make(self._placeholder).to(*args, **kwargs)

    def materialize(self, shape: Any, device: Any = None, dtype: Any = None) -> None:
        """Become a `Parameter` of this shape, all 0, on the device and in the dtype it has unless told otherwise."""
        self._become(creation.zeros(shape, device=device or self.device, dtype=dtype or self.dtype))

    def _become(self, values: Tensor) -> None:
        self.array = values.array
        self.__class__ = Parameter  # type: ignore[assignment]  # the same object, grown up

    def __repr__(self) -> str:
        return "<UninitializedParameter>"

    def __deepcopy__(self, memo: dict) -> Tensor:
        copy = memo[id(self)] = UninitializedParameter(self._requires_grad, self.device, self.dtype)
        return copy


class _Lazy(Module):
    """What lazy layers share. A subclass names the layer that it becomes, and gives its own settings to `_begin`."""

    becomes: Any  # the class of the layer

    def _begin(self, device: Any, dtype: Any, learns: bool = True, **settings: Any) -> None:
        """Be a layer for inputs of width 0, with parameters that wait, if it has some. Nothing is drawn."""
        self.becomes.__init__(self, 0, **{**settings, "bias": False}, device=device, dtype=dtype)
        self._settings = settings
        for name in ("weight", "bias") if settings["bias"] else ("weight",):
            if learns:
                setattr(self, name, UninitializedParameter(device=device, dtype=dtype))

    def initialize_parameters(self, input: Tensor) -> None:
        """Become the layer that this input needs: parameters are drawn now, and stay the same objects."""
        waiting: dict[str, Any] = dict(self.named_parameters())
        first = next(iter([*waiting.values(), *self.buffers()]), input)
        made = self.becomes(self._width(input), **self._settings, device=first.device, dtype=first.dtype)
        for name, parameter in waiting.items():
            parameter._become(getattr(made, name))
        del self._settings
        self.__class__ = self.becomes
        self.__dict__.update({**made.__dict__, **waiting})

    def _width(self, input: Tensor) -> int:
        """What the layer's first argument is for such an input."""
        raise NotImplementedError

    def forward(self, input: Tensor) -> Tensor:
        """The first call; every later one is that of the layer which this has become."""
        self.initialize_parameters(input)
        return self.forward(input)


class LazyLinear(_Lazy, Linear):
    """A `Linear` layer that learns `in_features` from its first input."""

    becomes = Linear

    def __init__(self, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None):
        self._begin(device, dtype, out_features=out_features, bias=bias)

    def _width(self, input: Tensor) -> int:
        if not input.ndim:
            raise RuntimeError("LazyLinear: expected input (..., in_features), got a single number")
        return input.array.shape[-1]


class _LazyConv(_Lazy):
    """What lazy convolutions share: the place of the channels."""

    dimensions: int

    def __init__(
        self, out_channels: int, kernel_size: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
        groups: int = 1, bias: bool = True, padding_mode: str = "zeros", device: Any = None, dtype: Any = None,
    ):  # fmt: skip
        self._begin(
            device, dtype, out_channels=out_channels, kernel_size=kernel_size, stride=stride, padding=padding,
            dilation=dilation, groups=groups, bias=bias, padding_mode=padding_mode,
        )  # fmt: skip

    def _width(self, input: Tensor) -> int:
        n = self.dimensions
        if input.ndim not in (n + 1, n + 2):
            sizes = "L" if n == 1 else "H, W"
            raise RuntimeError(
                f"{type(self).__name__}: expected input (N, C, {sizes}) or (C, {sizes}), got {tuple(input.shape)}"
            )
        return input.array.shape[-n - 1]


class LazyConv1d(_LazyConv, Conv1d):
    """A `Conv1d` that learns `in_channels` from its first input."""

    becomes = Conv1d


class LazyConv2d(_LazyConv, Conv2d):
    """A `Conv2d` that learns `in_channels` from its first input."""

    becomes = Conv2d


class _LazyBatchNorm(_Lazy):
    """What lazy batch norms share: the place of the channels. Running averages are empty until the first call."""

    ndims: Any  # those of the layer that it becomes

    def __init__(
        self, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True, track_running_stats: bool = True,
        device: Any = None, dtype: Any = None, *, bias: bool = True,
    ):  # fmt: skip
        self._begin(
            device, dtype, affine, eps=eps, momentum=momentum, affine=affine, track_running_stats=track_running_stats,
            bias=bias,
        )  # fmt: skip

    def _width(self, input: Tensor) -> int:
        if input.ndim not in self.ndims:
            expected = " or ".join(f"{n}" for n in self.ndims)
            raise ValueError(f"{type(self).__name__}: expected {expected} dimensions, got {tuple(input.shape)}")
        return input.array.shape[1]


class LazyBatchNorm1d(_LazyBatchNorm, BatchNorm1d):
    """A `BatchNorm1d` that learns `num_features` from its first input."""

    becomes = BatchNorm1d


class LazyBatchNorm2d(_LazyBatchNorm, BatchNorm2d):
    """A `BatchNorm2d` that learns `num_features` from its first input."""

    becomes = BatchNorm2d
