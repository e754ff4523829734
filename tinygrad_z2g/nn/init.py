"""Starting values for weights, filled in place and drawn from the seeded stream.

A layer should pass on signals and gradients at about the size they arrive. Its output is a sum over `fan_in` inputs, so
weights of variance 1 / fan_in keep the forward signal's variance, and 1 / fan_out the gradient's. It knows nothing of
layers: it is handed a tensor, and takes fan_in and fan_out from its shape.
"""

from __future__ import annotations

import math

from ..arrays.random import Generator, default_generator
from ..core.modes import no_grad
from ..ops.common import as_array
from ..tensor import Tensor


@no_grad()
def constant_(tensor: Tensor, val: float) -> Tensor:
    """All elements = val."""
    return tensor.fill_(val)


@no_grad()
def zeros_(tensor: Tensor) -> Tensor:
    """All elements = 0."""
    return tensor.fill_(0)


@no_grad()
def ones_(tensor: Tensor) -> Tensor:
    """All elements = 1."""
    return tensor.fill_(1)


@no_grad()
def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Normal with the given mean and standard deviation."""
    return tensor.normal_(mean, std, generator=generator)


@no_grad()
def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Uniform on [a, b)."""
    return tensor.uniform_(a, b, generator=generator)


@no_grad()
def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
) -> Tensor:
    """Normal, with samples outside [a, b] drawn again."""
    stream = (generator or default_generator).numpy
    samples = mean + std * stream.standard_normal(tensor.array.shape)
    for _ in range(10_000):
        outside = (samples < a) | (samples > b)
        if not outside.any():
            break
        samples[outside] = mean + std * stream.standard_normal(int(outside.sum()))
    else:
        raise ValueError(f"trunc_normal_: [{a}, {b}] holds too little of a normal with mean {mean}, std {std}")
    tensor[...] = samples
    return tensor


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Uniform with variance gain² · 2 / (fan_in + fan_out). (Glorot & Bengio 2010)"""
    bound = gain * math.sqrt(6 / sum(_fans(tensor)))  # a uniform on [-b, b] has variance b² / 3
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Normal with variance gain² · 2 / (fan_in + fan_out). (Glorot & Bengio 2010)"""
    return normal_(tensor, 0.0, gain * math.sqrt(2 / sum(_fans(tensor))), generator)


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Uniform with variance gain² / fan, where gain makes up for what the nonlinearity halves. (He et al. 2015)"""
    bound = math.sqrt(3) * calculate_gain(nonlinearity, a) / math.sqrt(_fan(tensor, mode))
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Normal with variance gain² / fan, where gain makes up for what the nonlinearity halves. (He et al. 2015)"""
    return normal_(tensor, 0.0, calculate_gain(nonlinearity, a) / math.sqrt(_fan(tensor, mode)), generator)


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor on the standard deviation that keeps the signal's size through a nonlinearity.

    `param` is the slope of a leaky relu on the left. ValueError for an unknown name.
    """
    gains = {"linear": 1.0, "conv1d": 1.0, "conv2d": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2)}
    if nonlinearity == "leaky_relu":
        return math.sqrt(2 / (1 + (0.01 if param is None else param) ** 2))
    if nonlinearity not in gains:
        raise ValueError(
            f"calculate_gain: unknown nonlinearity {nonlinearity!r}; known: leaky_relu, {', '.join(gains)}"
        )
    return gains[nonlinearity]


def _fans(tensor: Tensor) -> tuple[int, int]:
    """How many inputs each output of a layer sums over, and how many outputs each input reaches.

    weight (out, in, *kernel): every kernel position is one more input.
    """
    shape = as_array(tensor, "init").shape
    if len(shape) < 2:
        raise ValueError(f"init: fan in and fan out need at least 2 dimensions, got shape {tuple(shape)}")
    positions = math.prod(shape[2:])
    return shape[1] * positions, shape[0] * positions


def _fan(tensor: Tensor, mode: str) -> int:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"init: mode must be 'fan_in' or 'fan_out', got {mode!r}")
    return _fans(tensor)[mode == "fan_out"]
