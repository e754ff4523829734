"""Nonlinear functions as layers, to stand in a `Sequential`.

A layer here knows nothing of rules or gradients: it keeps the settings and calls the function.
"""

from __future__ import annotations

from ..tensor import Tensor
from . import functional as F
from .module import Module


class ReLU(Module):
    """max(x, 0), written over the input if `inplace`"""

    def __init__(self, inplace: bool = False):
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """max(x, 0)"""
        return F.relu(input, self.inplace)

    def extra_repr(self) -> str:
        return "inplace=True" if self.inplace else ""


class LeakyReLU(Module):
    """x where x > 0, else negative_slope · x"""

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False):
        self.negative_slope, self.inplace = negative_slope, inplace

    def forward(self, input: Tensor) -> Tensor:
        """x or negative_slope · x"""
        return F.leaky_relu(input, self.negative_slope, self.inplace)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}" + (", inplace=True" if self.inplace else "")


class GELU(Module):
    """x Φ(x); with approximate="tanh" the formula of GPT-2. See `functional.gelu`."""

    def __init__(self, approximate: str = "none"):
        self.approximate = approximate

    def forward(self, input: Tensor) -> Tensor:
        """x Φ(x)"""
        return F.gelu(input, self.approximate)

    def extra_repr(self) -> str:
        return f"approximate='{self.approximate}'"


class SiLU(Module):
    """x σ(x)"""

    def __init__(self, inplace: bool = False):
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """x σ(x)"""
        return F.silu(input, self.inplace)

    def extra_repr(self) -> str:
        return "inplace=True" if self.inplace else ""


class Softplus(Module):
    """ln(1 + e^(βx)) / β, a smooth ReLU. See `functional.softplus`."""

    def __init__(self, beta: float = 1.0, threshold: float = 20.0):
        self.beta, self.threshold = beta, threshold

    def forward(self, input: Tensor) -> Tensor:
        """ln(1 + e^(βx)) / β"""
        return F.softplus(input, self.beta, self.threshold)

    def extra_repr(self) -> str:
        return f"beta={self.beta}, threshold={self.threshold}"


class Tanh(Module):
    """tanh x"""

    def forward(self, input: Tensor) -> Tensor:
        """tanh x"""
        return input.tanh()


class Sigmoid(Module):
    """1 / (1 + e⁻ˣ)"""

    def forward(self, input: Tensor) -> Tensor:
        """1 / (1 + e⁻ˣ)"""
        return input.sigmoid()


class Softmax(Module):
    """e^x / Σ e^x along `dim`"""

    def __init__(self, dim: int):
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        """e^x / Σ e^x"""
        return F.softmax(input, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class LogSoftmax(Module):
    """x - ln Σ e^x along `dim`"""

    def __init__(self, dim: int):
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        """x - ln Σ e^x"""
        return F.log_softmax(input, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class Sine(Module):
    """sin(ω x): waves as activations, for smooth functions. Not in torch. (Sitzmann et al. 2020, arXiv:2006.09661)"""

    def __init__(self, omega: float = 1.0):
        self.omega = omega

    def forward(self, input: Tensor) -> Tensor:
        """sin(ω x)"""
        return (input * self.omega).sin() if self.omega != 1 else input.sin()

    def extra_repr(self) -> str:
        return f"omega={self.omega}"
