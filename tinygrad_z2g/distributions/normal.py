"""The normal distribution, and that of numbers whose logarithm is normal."""

from __future__ import annotations

import math
from typing import Any

from .. import creation
from ..tensor import Tensor
from .distribution import LOG_2PI, Distribution, broadcast_all, positive, real


class Normal(Distribution):
    """p(x) = exp(-(x - loc)² / (2 scale²)) / (scale √(2π)).   A sample is loc + scale · ε, ε standard normal."""

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
    def mode(self) -> Tensor:
        """loc"""
        return self.loc

    @property
    def stddev(self) -> Tensor:
        """scale"""
        return self.scale

    @property
    def variance(self) -> Tensor:
        """scale²"""
        return self.scale.square()

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """loc + scale · ε"""
        noise = creation.randn(*self._extended(sample_shape), dtype=self.loc.dtype, device=self.loc.device)
        return self.loc + noise * self.scale

    def log_prob(self, value: Tensor) -> Tensor:
        """-(x - loc)² / (2 scale²) - log scale - log √(2π)"""
        value = self._checked(value)
        return -(value - self.loc).square() / (2 * self.variance) - self.scale.log() - LOG_2PI / 2

    def entropy(self) -> Tensor:
        """½ + log √(2π) + log scale"""
        return 0.5 + LOG_2PI / 2 + self.scale.log()

    def cdf(self, value: Tensor) -> Tensor:
        """(1 + erf((x - loc) / (scale √2))) / 2"""
        return 0.5 * (1 + ((self._checked(value) - self.loc) / (self.scale * math.sqrt(2))).erf())

    def icdf(self, value: Tensor) -> Tensor:
        """loc + scale √2 erf⁻¹(2p - 1)"""
        return self.loc + self.scale * (2 * value - 1).erfinv() * math.sqrt(2)


class LogNormal(Distribution):
    """exp of normal numbers: log x is normal with loc and scale."""

    arg_constraints = {"loc": real, "scale": positive}  # noqa: RUF012 - never changed
    support, has_rsample = positive, True

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None):
        self.base_dist = Normal(loc, scale, validate_args)
        self.loc, self.scale = self.base_dist.loc, self.base_dist.scale
        super().__init__(self.loc.shape, (), validate_args)

    @property
    def mean(self) -> Tensor:
        """exp(loc + scale² / 2)"""
        return (self.loc + self.scale.square() / 2).exp()

    @property
    def variance(self) -> Tensor:
        """(exp(scale²) - 1) exp(2 loc + scale²)"""
        s = self.scale.square()
        return s.expm1() * (2 * self.loc + s).exp()

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """exp of a normal sample"""
        return self.base_dist.rsample(sample_shape).exp()

    def log_prob(self, value: Tensor) -> Tensor:
        """That of log x, minus log x: where exp stretches, the density thins out"""
        logarithm = self._checked(value).log()
        return self.base_dist.log_prob(logarithm) - logarithm

    def entropy(self) -> Tensor:
        """That of the normal distribution, plus loc"""
        return self.base_dist.entropy() + self.loc

    def cdf(self, value: Tensor) -> Tensor:
        """That of the normal distribution at log x"""
        return self.base_dist.cdf(self._checked(value).log())

    def icdf(self, value: Tensor) -> Tensor:
        """exp of that of the normal distribution"""
        return self.base_dist.icdf(value).exp()
