"""Distributions whose samples are a formula of one uniform number: the uniform one, the exponential, Laplace's."""

from __future__ import annotations

from typing import Any

from .. import creation
from ..tensor import Tensor
from .distribution import Constraint, Distribution, broadcast_all, nonnegative, positive, real


class Uniform(Distribution):
    """p(x) = 1 / (high - low) on [low, high).   A sample is low + (high - low) u."""

    arg_constraints = {"low": real, "high": real}  # noqa: RUF012 - never changed
    has_rsample = True

    def __init__(self, low: Any, high: Any, validate_args: bool | None = None):
        self.low, self.high = broadcast_all(low, high)
        super().__init__(self.low.shape, (), validate_args)
        if self._validate and not bool((self.low < self.high).all()):
            raise ValueError(f"Uniform: expected low < high, got {self.low} and {self.high}")

    @property
    def support(self) -> Constraint:
        """From low to high."""
        return Constraint("from low to high", lambda v: (v >= self.low) & (v <= self.high))

    @property
    def mean(self) -> Tensor:
        """The middle"""
        return (self.low + self.high) / 2

    @property
    def variance(self) -> Tensor:
        """(high - low)² / 12"""
        return (self.high - self.low).square() / 12

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """low + (high - low) u"""
        u = creation.rand(*self._extended(sample_shape), dtype=self.low.dtype, device=self.low.device)
        return self.low + u * (self.high - self.low)

    def log_prob(self, value: Tensor) -> Tensor:
        """-log(high - low); -inf outside and at high"""
        value = self._checked(value)
        inside = ((value >= self.low) & (value < self.high)).to(self.low.dtype)
        return inside.log() - (self.high - self.low).log()

    def entropy(self) -> Tensor:
        """log(high - low)"""
        return (self.high - self.low).log()

    def cdf(self, value: Tensor) -> Tensor:
        """(x - low) / (high - low), from 0 to 1"""
        return ((self._checked(value) - self.low) / (self.high - self.low)).clamp(0, 1)

    def icdf(self, value: Tensor) -> Tensor:
        """low + (high - low) p"""
        return value * (self.high - self.low) + self.low


class Exponential(Distribution):
    """p(x) = rate e^(-rate x), x ≥ 0.   A sample is -log(1 - u) / rate."""

    arg_constraints = {"rate": positive}  # noqa: RUF012 - never changed
    support, has_rsample = nonnegative, True

    def __init__(self, rate: Any, validate_args: bool | None = None):
        (self.rate,) = broadcast_all(rate)
        super().__init__(self.rate.shape, (), validate_args)

    @property
    def mean(self) -> Tensor:
        """1 / rate"""
        return self.rate.reciprocal()

    @property
    def variance(self) -> Tensor:
        """1 / rate²"""
        return self.rate.pow(-2)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """-log(1 - u) / rate"""
        u = creation.rand(*self._extended(sample_shape), dtype=self.rate.dtype, device=self.rate.device)
        return -(-u).log1p() / self.rate

    def log_prob(self, value: Tensor) -> Tensor:
        """log rate - rate x"""
        return self.rate.log() - self.rate * self._checked(value)

    def entropy(self) -> Tensor:
        """1 - log rate"""
        return 1 - self.rate.log()

    def cdf(self, value: Tensor) -> Tensor:
        """1 - e^(-rate x)"""
        return 1 - (-self.rate * self._checked(value)).exp()

    def icdf(self, value: Tensor) -> Tensor:
        """-log(1 - p) / rate"""
        return -(-value).log1p() / self.rate


class Laplace(Distribution):
    """p(x) = exp(-|x - loc| / scale) / (2 scale)."""

    arg_constraints = {"loc": real, "scale": positive}  # noqa: RUF012 - never changed
    support, has_rsample = real, True

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None):
        self.loc, self.scale = broadcast_all(loc, scale)
        super().__init__(self.loc.shape, (), validate_args)

    @property
    def mean(self) -> Tensor:
        """loc"""
        return self.loc

    @property
    def variance(self) -> Tensor:
        """2 scale²"""
        return 2 * self.scale.square()

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """loc - scale sign(u) log(1 - |u|), u uniform on (-1, 1)"""
        u = creation.rand(*self._extended(sample_shape), dtype=self.loc.dtype, device=self.loc.device) * 2 - 1
        return self.loc - self.scale * u.sign() * (-u.abs()).log1p()

    def log_prob(self, value: Tensor) -> Tensor:
        """-|x - loc| / scale - log(2 scale)"""
        return -(2 * self.scale).log() - (self._checked(value) - self.loc).abs() / self.scale

    def entropy(self) -> Tensor:
        """1 + log(2 scale)"""
        return 1 + (2 * self.scale).log()

    def cdf(self, value: Tensor) -> Tensor:
        """½ - ½ sign(x - loc) (exp(-|x - loc| / scale) - 1)"""
        d = self._checked(value) - self.loc
        return 0.5 - 0.5 * d.sign() * (-d.abs() / self.scale).expm1()

    def icdf(self, value: Tensor) -> Tensor:
        """loc - scale sign(p - ½) log(1 - 2 |p - ½|)"""
        term = value - 0.5
        return self.loc - self.scale * term.sign() * (-2 * term.abs()).log1p()


