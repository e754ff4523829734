"""Distributions of whole numbers >= 0: a coin, how many tries it takes, how many events there are."""

from __future__ import annotations

from typing import Any

from .. import creation
from ..arrays.backend import to_host
from ..arrays.random import default_generator
from ..nn import functional as F
from ..tensor import Tensor
from .distribution import (
    Distribution,
    boolean,
    broadcast_all,
    clamped,
    nonnegative,
    nonnegative_integer,
    real,
    unit_interval,
)  # fmt: skip


class _Chance(Distribution):
    """What has a probability, given as itself or as logits: log(p / (1 - p))."""

    arg_constraints = {"probs": unit_interval, "logits": real}  # noqa: RUF012 - never changed

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None):
        if (probs is None) == (logits is None):
            raise ValueError(f"{type(self).__name__}: give either probs or logits, not both")
        name = "probs" if logits is None else "logits"
        (self.__dict__[name],) = broadcast_all(probs if logits is None else logits)
        super().__init__(self.__dict__[name].shape, (), validate_args)

    def __getattr__(self, name: str) -> Any:
        """The one of `probs` and `logits` that was not given."""
        if name == "probs" and "logits" in self.__dict__:
            return self.logits.sigmoid()
        if name == "logits" and "probs" in self.__dict__:
            p = clamped(self.probs)
            return p.log() - (-p).log1p()
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")


class Bernoulli(_Chance):
    """1 with probability p, else 0."""

    support = boolean

    @property
    def mean(self) -> Tensor:
        """p"""
        return self.probs

    @property
    def variance(self) -> Tensor:
        """p (1 - p)"""
        return self.probs * (1 - self.probs)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """1 with probability p, else 0."""
        return creation.bernoulli(self.probs.detach().expand(*self._extended(sample_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        """x log p + (1 - x) log(1 - p)"""
        logits, value = broadcast_all(self.logits, self._checked(value))
        return -F.binary_cross_entropy_with_logits(logits, value.to(logits.dtype), reduction="none")

    def entropy(self) -> Tensor:
        """-p log p - (1 - p) log(1 - p)"""
        return F.binary_cross_entropy_with_logits(self.logits, self.probs, reduction="none")


class Geometric(_Chance):
    """How often 0 comes before the first 1: p(k) = (1 - p)ᵏ p."""

    support = nonnegative_integer

    @property
    def mean(self) -> Tensor:
        """1 / p - 1"""
        return 1 / self.probs - 1

    @property
    def variance(self) -> Tensor:
        """(1 / p - 1) / p"""
        return (1 / self.probs - 1) / self.probs

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """log u / log(1 - p), rounded down."""
        p = self.probs.detach()
        u = creation.rand(*self._extended(sample_shape), dtype=p.dtype, device=p.device)
        return ((-u).log1p() / (-p).log1p()).floor()

    def log_prob(self, value: Tensor) -> Tensor:
        """k log(1 - p) + log p"""
        value, p = broadcast_all(self._checked(value), self.probs)
        return value * (-p).log1p() + p.log()

    def entropy(self) -> Tensor:
        """That of a coin, divided by p"""
        return F.binary_cross_entropy_with_logits(self.logits, self.probs, reduction="none") / self.probs


class Poisson(Distribution):
    """How many events there are, `rate` on average: p(k) = rateᵏ e^-rate / k!."""

    arg_constraints = {"rate": nonnegative}  # noqa: RUF012 - never changed
    support = nonnegative_integer

    def __init__(self, rate: Any, validate_args: bool | None = None):
        (self.rate,) = broadcast_all(rate)
        super().__init__(self.rate.shape, (), validate_args)

    @property
    def mean(self) -> Tensor:
        """rate"""
        return self.rate

    @property
    def variance(self) -> Tensor:
        """rate"""
        return self.rate

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Drawn on the host."""
        drawn = default_generator.numpy.poisson(to_host(self.rate.array), self._extended(sample_shape))
        return creation.as_tensor(drawn, dtype=self.rate.dtype, device=self.rate.device)

    def log_prob(self, value: Tensor) -> Tensor:
        """k log rate - rate - log k!"""
        rate, value = broadcast_all(self.rate, self._checked(value))
        return value.xlogy(rate) - rate - (value + 1).lgamma()
