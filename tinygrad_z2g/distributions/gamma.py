"""Distributions made of the gamma function: Gamma itself, Beta, Dirichlet, Chi2. Their samples have no gradient here.
"""

from __future__ import annotations

from typing import Any

from .. import creation
from ..arrays.backend import to_host
from ..arrays.random import default_generator
from ..ops.shape import stack
from ..tensor import Tensor
from .distribution import Constraint, Distribution, broadcast_all, nonnegative, positive, simplex, unit_interval


def _gamma_sample(concentration: Tensor, shape: Any) -> Tensor:
    """Standard gamma numbers, drawn on the host, at least the smallest that there is."""
    drawn = default_generator.numpy.standard_gamma(to_host(concentration.detach().array), tuple(shape))
    made = creation.as_tensor(drawn, dtype=concentration.dtype, device=concentration.device)
    return made.clamp(min=1.2e-38 if made.dtype.itemsize == 4 else 2.3e-308)


class Gamma(Distribution):
    """p(x) = rate^c x^(c-1) e^(-rate x) / Γ(c), c = concentration: the time until c events."""

    arg_constraints = {"concentration": positive, "rate": positive}  # noqa: RUF012 - never changed
    support = nonnegative

    def __init__(self, concentration: Any, rate: Any, validate_args: bool | None = None):
        self.concentration, self.rate = broadcast_all(concentration, rate)
        super().__init__(self.concentration.shape, (), validate_args)

    @property
    def mean(self) -> Tensor:
        """c / rate"""
        return self.concentration / self.rate

    @property
    def variance(self) -> Tensor:
        """c / rate²"""
        return self.concentration / self.rate.square()

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Drawn on the host."""
        return _gamma_sample(self.concentration, self._extended(sample_shape)) / self.rate.detach()

    def log_prob(self, value: Tensor) -> Tensor:
        """c log rate + (c - 1) log x - rate x - log Γ(c)"""
        c, value = self.concentration, self._checked(value)
        return c.xlogy(self.rate) + (c - 1).xlogy(value) - self.rate * value - c.lgamma()

    def entropy(self) -> Tensor:
        """c - log rate + log Γ(c) + (1 - c) ψ(c)"""
        c = self.concentration
        return c - self.rate.log() + c.lgamma() + (1 - c) * c.digamma()


class Chi2(Gamma):
    """The sum of df squares of standard normal numbers: Gamma(df / 2, 1 / 2)."""

    def __init__(self, df: Any, validate_args: bool | None = None):
        (df,) = broadcast_all(df)
        super().__init__(df / 2, creation.full((), 0.5, dtype=df.dtype, device=df.device), validate_args)

    @property
    def df(self) -> Tensor:
        """How many squares"""
        return self.concentration * 2

    def expand(self, batch_shape: Any) -> Chi2:
        """The same distributions as views, in a larger batch."""
        return Chi2(self.df.expand(*batch_shape), validate_args=False)


class Dirichlet(Distribution):
    """Of vectors with the sum 1: p(x) = Γ(Σ c) Π xₖ^(cₖ-1) / Γ(cₖ), c = concentration (..., K)."""

    arg_constraints = {  # noqa: RUF012 - never changed
        "concentration": Constraint("a vector of numbers > 0", lambda v: (v > 0).all(-1), 1)
    }
    support = simplex

    def __init__(self, concentration: Tensor, validate_args: bool | None = None):
        if concentration.ndim < 1:
            raise ValueError("Dirichlet: concentration must be a tensor of at least 1 dimension")
        self.concentration = concentration
        super().__init__(concentration.shape[:-1], concentration.shape[-1:], validate_args)

    @property
    def mean(self) -> Tensor:
        """c / Σ c"""
        return self.concentration / self.concentration.sum(-1, keepdim=True)

    @property
    def variance(self) -> Tensor:
        """c (c₀ - c) / (c₀² (c₀ + 1)), c₀ = Σ c"""
        total = self.concentration.sum(-1, keepdim=True)
        return self.concentration * (total - self.concentration) / (total.square() * (total + 1))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Gamma numbers, divided by their sum."""
        g = _gamma_sample(self.concentration, self._extended(sample_shape))
        return g / g.sum(-1, keepdim=True)

    def log_prob(self, value: Tensor) -> Tensor:
        """Σ (cₖ - 1) log xₖ + log Γ(Σ c) - Σ log Γ(cₖ)"""
        c, value = self.concentration, self._checked(value)
        return (c - 1).xlogy(value).sum(-1) + c.sum(-1).lgamma() - c.lgamma().sum(-1)

    def entropy(self) -> Tensor:
        """Σ log Γ(cₖ) - log Γ(c₀) - (K - c₀) ψ(c₀) - Σ (cₖ - 1) ψ(cₖ)"""
        c, k = self.concentration, self.concentration.shape[-1]
        total = c.sum(-1)
        rest = (k - total) * total.digamma() + ((c - 1) * c.digamma()).sum(-1)
        return c.lgamma().sum(-1) - total.lgamma() - rest


class Beta(Distribution):
    """p(x) = x^(a-1) (1 - x)^(b-1) Γ(a + b) / (Γ(a) Γ(b)) on [0, 1], a = concentration1, b = concentration0."""

    arg_constraints = {"concentration1": positive, "concentration0": positive}  # noqa: RUF012 - never changed
    support = unit_interval

    def __init__(self, concentration1: Any, concentration0: Any, validate_args: bool | None = None):
        self.concentration1, self.concentration0 = broadcast_all(concentration1, concentration0)
        self._dirichlet = Dirichlet(stack([self.concentration1, self.concentration0], -1), validate_args=False)
        super().__init__(self.concentration1.shape, (), validate_args)

    @property
    def mean(self) -> Tensor:
        """a / (a + b)"""
        return self.concentration1 / (self.concentration1 + self.concentration0)

    @property
    def variance(self) -> Tensor:
        """a b / ((a + b)² (a + b + 1))"""
        total = self.concentration1 + self.concentration0
        return self.concentration1 * self.concentration0 / (total.square() * (total + 1))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """The first of two Dirichlet numbers."""
        return self._dirichlet.sample(sample_shape)[..., 0]

    def log_prob(self, value: Tensor) -> Tensor:
        """That of the Dirichlet distribution at (x, 1 - x)"""
        value = self._checked(value)
        return self._dirichlet.log_prob(stack([value, 1 - value], -1))

    def entropy(self) -> Tensor:
        """That of the Dirichlet distribution"""
        return self._dirichlet.entropy()
