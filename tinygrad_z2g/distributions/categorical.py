"""One of K things, as a number or as a vector with a 1; and how often each came in n draws."""

from __future__ import annotations

import math
from typing import Any

from .. import creation
from ..ops.grids import broadcast_tensors
from ..ops.shape import one_hot as as_one_hot
from ..tensor import Tensor
from .distribution import (
    Constraint,
    Distribution,
    clamped,
    nonnegative,
    one_hot,
    real_vector,
    simplex,
)  # fmt: skip


class Categorical(Distribution):
    """Number k with probability pₖ: of `probs` (..., K), made to sum to 1, or `logits`, whose softmax they are."""

    arg_constraints = {"probs": simplex, "logits": real_vector}  # noqa: RUF012 - never changed

    def __init__(self, probs: Tensor | None = None, logits: Tensor | None = None, validate_args: bool | None = None):
        if (probs is None) == (logits is None):
            raise ValueError("Categorical: give either probs or logits, not both")
        given = probs if logits is None else logits
        if not isinstance(given, Tensor) or given.ndim < 1:
            raise ValueError("Categorical: probs and logits must be tensors of at least 1 dimension")
        if logits is None:
            self.probs = given / given.sum(-1, keepdim=True)
        else:
            self.logits = given - given.logsumexp(-1, keepdim=True)
        super().__init__(given.shape[:-1], (), validate_args)

    def __getattr__(self, name: str) -> Any:
        """The one of `probs` and `logits` that was not given."""
        if name == "probs" and "logits" in self.__dict__:
            return self.logits.softmax(-1)
        if name == "logits" and "probs" in self.__dict__:
            return clamped(self.probs).log()
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    @property
    def param_shape(self) -> Any:
        """The shape of probs."""
        return (self.probs if "probs" in self.__dict__ else self.logits).shape

    @property
    def _num_events(self) -> int:
        return self.param_shape[-1]

    @property
    def support(self) -> Constraint:
        """0 to K - 1."""
        K = self._num_events
        return Constraint(f"a whole number from 0 to {K - 1}", lambda v: (v >= 0) & (v < K) & (v == v.floor()))

    @property
    def mean(self) -> Tensor:
        """NaN: the things have no order"""
        return creation.full(self._batch_shape, float("nan"), dtype=self.probs.dtype, device=self.probs.device)

    variance = mean

    @property
    def mode(self) -> Tensor:
        """The most probable number"""
        return self.probs.argmax(-1)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Numbers, int64."""
        shape, p = self._extended(sample_shape), self.probs.detach()
        rows, n = p.reshape(-1, p.shape[-1]), math.prod(sample_shape)
        if not n or not rows.shape[0]:
            return creation.zeros(shape, dtype="int64", device=p.device)
        return creation.multinomial(rows, n, True).T.reshape(shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """log pₖ"""
        value = self._checked(value).long().unsqueeze(-1)
        value, logits = broadcast_tensors(value, self.logits)
        return logits.gather(-1, value[..., :1]).squeeze(-1)

    def entropy(self) -> Tensor:
        """-Σ p log p"""
        lowest = -3.4e38 if self.logits.dtype.itemsize == 4 else -1.7e308  # for p = 0: 0 · log 0 counts as 0
        return -(self.logits.clamp(min=lowest) * self.probs).sum(-1)


class OneHotCategorical(Distribution):
    """As `Categorical`, with samples that are vectors: 1 at the number, 0 elsewhere."""

    arg_constraints = {"probs": simplex, "logits": real_vector}  # noqa: RUF012 - never changed
    support = one_hot

    def __init__(self, probs: Tensor | None = None, logits: Tensor | None = None, validate_args: bool | None = None):
        self._categorical = Categorical(probs, logits, validate_args)
        name = "probs" if logits is None else "logits"
        self.__dict__[name] = getattr(self._categorical, name)
        super().__init__(self._categorical.batch_shape, self._categorical.param_shape[-1:], validate_args)

    def __getattr__(self, name: str) -> Any:
        """The one of `probs` and `logits` that was not given."""
        if name in ("probs", "logits") and "_categorical" in self.__dict__:
            return getattr(self._categorical, name)
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    @property
    def mean(self) -> Tensor:
        """p"""
        return self.probs

    @property
    def variance(self) -> Tensor:
        """p (1 - p)"""
        return self.probs * (1 - self.probs)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Vectors with one 1."""
        return as_one_hot(self._categorical.sample(sample_shape), self._event_shape[0]).to(self.probs.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p where the 1 is"""
        return self._categorical.log_prob(self._checked(value).argmax(-1))

    def entropy(self) -> Tensor:
        """-Σ p log p"""
        return self._categorical.entropy()


class Multinomial(Distribution):
    """How often each of K things came in `total_count` draws: p(x) = n! Π pₖ^xₖ / xₖ!."""

    arg_constraints = {"probs": simplex, "logits": real_vector}  # noqa: RUF012 - never changed
    probs: Tensor
    logits: Tensor

    def __init__(
        self, total_count: int = 1, probs: Tensor | None = None, logits: Tensor | None = None,
        validate_args: bool | None = None,
    ):  # fmt: skip
        if not isinstance(total_count, int):
            raise NotImplementedError("Multinomial: total_count must be an int, the same for all")
        self.total_count, self._categorical = total_count, Categorical(probs, logits, validate_args)
        name = "probs" if logits is None else "logits"
        self.__dict__[name] = getattr(self._categorical, name)
        super().__init__(self._categorical.batch_shape, self._categorical.param_shape[-1:], validate_args)

    __getattr__ = OneHotCategorical.__getattr__

    @property
    def support(self) -> Constraint:
        """Whole numbers with the sum total_count."""
        counts = nonnegative.check
        return Constraint(
            f"whole numbers >= 0 with the sum {self.total_count}",
            lambda v: counts(v).all(-1) & (v.sum(-1) == self.total_count),
        )

    def _settings(self) -> dict[str, Any]:
        return {"total_count": self.total_count}

    @property
    def mean(self) -> Tensor:
        """n p"""
        return self.probs * self.total_count

    @property
    def variance(self) -> Tensor:
        """n p (1 - p)"""
        return self.total_count * self.probs * (1 - self.probs)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Counts, in the dtype of probs."""
        drawn = self._categorical.sample((self.total_count, *sample_shape))  # (n, ...)
        return as_one_hot(drawn, self._event_shape[0]).sum(0).to(self.probs.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        """log n! + Σ xₖ log pₖ - log xₖ!"""
        logits, value = broadcast_tensors(self.logits, self._checked(value))
        logits = logits.masked_fill((value == 0) & (logits == -float("inf")), 0)
        powers = (logits * value).sum(-1)
        return (value.sum(-1) + 1).lgamma() - (value + 1).lgamma().sum(-1) + powers
