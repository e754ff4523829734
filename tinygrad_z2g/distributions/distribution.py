"""What all distributions share: shapes, checks, samples.

A distribution is a batch of independent ones (`batch_shape`), each of single numbers (`event_shape` ()) or of vectors.
A sample has the shape sample_shape + batch_shape + event_shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from .. import creation
from ..arrays import dtypes
from ..arrays.size import Size
from ..core.modes import no_grad
from ..ops.grids import broadcast_tensors
from ..tensor import Tensor


class Constraint(NamedTuple):
    """What values must be: in words, and as a test that says so for each element. `event_dim`: of how many dimensions
    one value is."""

    words: str
    check: Callable[[Tensor], Tensor]
    event_dim: int = 0


real = Constraint("a number", lambda v: v == v)
real_vector = Constraint("a vector of numbers", lambda v: (v == v).all(-1), 1)
positive = Constraint("> 0", lambda v: v > 0)
nonnegative = Constraint(">= 0", lambda v: v >= 0)
nonnegative_integer = Constraint("a whole number >= 0", lambda v: (v >= 0) & (v == v.floor()))
unit_interval = Constraint("from 0 to 1", lambda v: (v >= 0) & (v <= 1))
boolean = Constraint("0 or 1", lambda v: (v == 0) | (v == 1))
simplex = Constraint(
    "numbers >= 0 with the sum 1", lambda v: (v >= 0).all(-1) & ((v.sum(-1) - 1).abs() < 1e-6), 1
)  # fmt: skip
one_hot = Constraint("one 1 among 0", lambda v: ((v == 0) | (v == 1)).all(-1) & (v.sum(-1) == 1), 1)
square = Constraint("square matrices", lambda v: (v == v).all(-1).all(-1), 2)


def broadcast_all(*values: Any) -> tuple[Tensor, ...]:
    """Numbers and tensors as tensors of one shape; numbers take the dtype and device of a tensor among them."""
    like = next((v for v in values if isinstance(v, Tensor)), None)
    dtype = dtypes.get_default_dtype() if like is None or not like.is_floating_point() else like.dtype
    device = None if like is None else like.device
    if any(not isinstance(v, (Tensor, int, float)) for v in values):
        raise ValueError("distributions: expected numbers and tensors as parameters")
    made = [v if isinstance(v, Tensor) else creation.full((), float(v), dtype=dtype, device=device) for v in values]
    return broadcast_tensors(*made)


class Distribution:
    """Base class. A subclass names its parameters in `arg_constraints` and says how to sample and what is likely."""

    has_rsample = False
    arg_constraints: dict[str, Constraint] = {}  # noqa: RUF012 - never changed
    support: Any = None
    _validate = __debug__

    def __init__(self, batch_shape: Any = (), event_shape: Any = (), validate_args: bool | None = None):
        self._batch_shape, self._event_shape = Size(batch_shape), Size(event_shape)
        if validate_args is not None:
            self._validate = validate_args
        if not self._validate:
            return
        for name, wanted in self.arg_constraints.items():
            if name in self.__dict__ and not bool(wanted.check(self.__dict__[name]).all()):
                got = self.__dict__[name]
                raise ValueError(f"{type(self).__name__}: expected {name} to be {wanted.words}, got {got}")

    @staticmethod
    def set_default_validate_args(value: bool) -> None:
        """Whether parameters and values are checked, unless a distribution says otherwise."""
        Distribution._validate = value

    @property
    def batch_shape(self) -> Size:
        """How many distributions this is."""
        return self._batch_shape

    @property
    def event_shape(self) -> Size:
        """The shape of one sample of one of them."""
        return self._event_shape

    def _parameters(self) -> dict[str, Tensor]:
        """Those of the parameters that were given."""
        return {name: self.__dict__[name] for name in self.arg_constraints if name in self.__dict__}

    def expand(self, batch_shape: Any) -> Any:
        """The same distributions as views, in a larger batch."""
        batch, wider = Size(batch_shape), {}
        for name, value in self._parameters().items():
            wider[name] = value.expand(*batch, *value.shape[value.ndim - self.arg_constraints[name].event_dim :])
        return type(self)(**wider, **self._settings(), validate_args=False)

    def _settings(self) -> dict[str, Any]:
        """What else the constructor needs."""
        return {}

    def _extended(self, sample_shape: Any) -> Size:
        """The shape of samples."""
        return Size(sample_shape) + self._batch_shape + self._event_shape

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """A sample of each, or `sample_shape` of them; no gradient passes."""
        with no_grad():
            return self.rsample(sample_shape).detach()

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """A sample through which gradients reach the parameters (reparametrized). NotImplementedError if there is
        none."""
        raise NotImplementedError(
            f"{type(self).__name__}: samples have no gradient here; use sample() and log_prob(), as policy gradients do"
        )

    def sample_n(self, n: int) -> Tensor:
        """n samples of each."""
        return self.sample((n,))

    def log_prob(self, value: Tensor) -> Tensor:
        """The logarithm of the density (or probability) at `value`."""
        raise NotImplementedError(f"{type(self).__name__}: log_prob is not offered")

    def entropy(self) -> Tensor:
        """-E[log p]"""
        raise NotImplementedError(f"{type(self).__name__}: entropy is not offered")

    def perplexity(self) -> Tensor:
        """e to the power of the entropy."""
        return self.entropy().exp()

    def cdf(self, value: Tensor) -> Tensor:
        """The probability of a sample up to `value`."""
        raise NotImplementedError(f"{type(self).__name__}: cdf is not offered")

    def icdf(self, value: Tensor) -> Tensor:
        """Up to where the samples are that have this probability: the reverse of `cdf`."""
        raise NotImplementedError(f"{type(self).__name__}: icdf is not offered")

    @property
    def mean(self) -> Tensor:
        """E[x]"""
        raise NotImplementedError(f"{type(self).__name__}: mean is not offered")

    @property
    def variance(self) -> Tensor:
        """E[(x - mean)²]"""
        raise NotImplementedError(f"{type(self).__name__}: variance is not offered")

    @property
    def stddev(self) -> Tensor:
        """√variance"""
        return self.variance.sqrt()

    def _checked(self, value: Any) -> Tensor:
        """`value`, of a fitting shape and inside the support; ValueError otherwise."""
        if not self._validate:
            return value
        if not isinstance(value, Tensor):
            raise ValueError(f"{type(self).__name__}: expected the value to be a Tensor, got {type(value).__name__}")
        events = len(self._event_shape)
        if value.ndim < events or value.shape[value.ndim - events :] != self._event_shape:
            raise ValueError(
                f"{type(self).__name__}: a value of shape {tuple(value.shape)} must end with {tuple(self._event_shape)}"
            )
        for m, n in zip(reversed(value.shape), reversed(self._batch_shape + self._event_shape)):  # noqa: B905
            if m != n and m != 1 and n != 1:
                raise ValueError(
                    f"{type(self).__name__}: a value of shape {tuple(value.shape)} does not broadcast with "
                    f"{tuple(self._batch_shape + self._event_shape)}"
                )
        if self.support is not None and not bool(self.support.check(value).all()):
            raise ValueError(f"{type(self).__name__}: expected the value to be {self.support.words}, got {value}")
        return value

    def __repr__(self) -> str:
        told = [f"{name}: {v if v.numel() == 1 else v.size()}" for name, v in self._parameters().items()]
        return f"{type(self).__name__}({', '.join(told)})"


LOG_2PI = math.log(2 * math.pi)


def clamped(p: Tensor) -> Tensor:
    """Probabilities kept away from 0 and 1 by the precision of their type, so that logarithms are finite."""
    eps = 2.0 ** -(23 if p.dtype == dtypes.float32 else 52 if p.dtype == dtypes.float64 else 10)
    return p.clamp(eps, 1 - eps)
