"""A batch of distributions taken as one of vectors: what is independent is added up."""

from __future__ import annotations

from typing import Any

from ..tensor import Tensor
from .distribution import Distribution


class Independent(Distribution):
    """The last `reinterpreted_batch_ndims` batch dimensions count as parts of one sample: their log_prob is summed."""

    def __init__(self, base_distribution: Any, reinterpreted_batch_ndims: int, validate_args: bool | None = None):
        base, n = base_distribution, reinterpreted_batch_ndims
        if n > len(base.batch_shape):
            raise ValueError(f"Independent: {n} dimensions of a batch that has {len(base.batch_shape)}")
        self.base_dist, self.reinterpreted_batch_ndims = base, n
        cut = len(base.batch_shape) - n
        super().__init__(base.batch_shape[:cut], base.batch_shape[cut:] + base.event_shape, validate_args)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]  # others know it from the beginning
        """Whether the base has."""
        return self.base_dist.has_rsample

    @property
    def mean(self) -> Tensor:
        """That of the base"""
        return self.base_dist.mean

    @property
    def variance(self) -> Tensor:
        """That of the base"""
        return self.base_dist.variance

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Samples of the base."""
        return self.base_dist.sample(sample_shape)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Samples of the base, with gradient."""
        return self.base_dist.rsample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """The sum over the parts"""
        return self._summed(self.base_dist.log_prob(value))

    def entropy(self) -> Tensor:
        """The sum over the parts"""
        return self._summed(self.base_dist.entropy())

    def _summed(self, x: Tensor) -> Tensor:
        n = self.reinterpreted_batch_ndims
        return x.sum(tuple(range(-n, 0))) if n else x

    def expand(self, batch_shape: Any) -> Independent:
        """The same distributions as views, in a larger batch."""
        parts = self.event_shape[: self.reinterpreted_batch_ndims]
        return Independent(self.base_dist.expand(tuple(batch_shape) + tuple(parts)), len(parts), validate_args=False)

    def __repr__(self) -> str:
        return f"Independent({self.base_dist}, {self.reinterpreted_batch_ndims})"
