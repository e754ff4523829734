"""The normal distribution of vectors, whose elements hang together."""

from __future__ import annotations

from typing import Any

from .. import creation
from ..linalg import cholesky, inv, solve_triangular
from ..ops.linalg import matmul
from ..tensor import Tensor
from .distribution import LOG_2PI, Distribution, real_vector, square


class MultivariateNormal(Distribution):
    """p(x) = exp(-½ (x - loc)ᵀ C⁻¹ (x - loc)) / √(det(2π C)), C = L Lᵀ.   A sample is loc + L ε.

    Give one of `covariance_matrix` C, `precision_matrix` C⁻¹ and `scale_tril` L, lower triangular.
    """

    arg_constraints = {  # noqa: RUF012 - never changed
        "loc": real_vector, "covariance_matrix": square, "precision_matrix": square, "scale_tril": square,
    }  # fmt: skip
    support, has_rsample = real_vector, True

    def __init__(
        self, loc: Tensor, covariance_matrix: Tensor | None = None, precision_matrix: Tensor | None = None,
        scale_tril: Tensor | None = None, validate_args: bool | None = None,
    ):  # fmt: skip
        three = {"covariance_matrix": covariance_matrix, "precision_matrix": precision_matrix, "scale_tril": scale_tril}
        given = {name: m for name, m in three.items() if m is not None}
        if len(given) != 1:
            raise ValueError("MultivariateNormal: give one of covariance_matrix, precision_matrix and scale_tril")
        if loc.ndim < 1:
            raise ValueError("MultivariateNormal: loc must be at least one-dimensional")
        ((name, matrix),) = given.items()
        n = loc.shape[-1]
        if matrix.ndim < 2 or tuple(matrix.shape[-2:]) != (n, n):
            raise ValueError(f"MultivariateNormal: {name} of shape {tuple(matrix.shape)} for vectors of {n}")
        batch = creation.np.broadcast_shapes(tuple(loc.shape[:-1]), tuple(matrix.shape[:-2]))
        self.loc = loc.expand(*batch, n)
        self.__dict__[name] = matrix.expand(*batch, n, n)
        if name == "scale_tril":
            self._L = self.__dict__[name]
        elif name == "covariance_matrix":
            self._L = self._root(name, self.__dict__[name])
        else:
            self._L = self._root(name, inv(self.__dict__[name]))
        super().__init__(batch, (n,), validate_args)

    @staticmethod
    def _root(name: str, matrix: Tensor) -> Tensor:
        try:
            return cholesky(matrix)
        except RuntimeError as error:
            raise ValueError(f"MultivariateNormal: {name} must be symmetric and positive definite ({error})") from error

    def __getattr__(self, name: str) -> Any:
        """Those of the matrices that were not given."""
        L = self.__dict__.get("_L")
        if L is None or name not in ("scale_tril", "covariance_matrix", "precision_matrix"):
            raise AttributeError(f"MultivariateNormal has no attribute {name!r}")
        if name == "scale_tril":
            return L
        covariance = matmul(L, L.mT)
        return covariance if name == "covariance_matrix" else inv(covariance)

    @property
    def mean(self) -> Tensor:
        """loc"""
        return self.loc

    mode = mean

    @property
    def variance(self) -> Tensor:
        """The diagonal of C"""
        return self._L.square().sum(-1)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """loc + L ε"""
        noise = creation.randn(*self._extended(sample_shape), dtype=self.loc.dtype, device=self.loc.device)
        return self.loc + matmul(self._L, noise.unsqueeze(-1)).squeeze(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """-½ |L⁻¹ (x - loc)|² - Σ log Lᵢᵢ - n / 2 log 2π"""
        d = self._checked(value) - self.loc
        shape = creation.np.broadcast_shapes(tuple(d.shape[:-1]), tuple(self._batch_shape))
        L = self._L.expand(*shape, *self._L.shape[-2:])
        y = solve_triangular(L, d.expand(*shape, d.shape[-1]).unsqueeze(-1), upper=False).squeeze(-1)
        return -0.5 * (y.square().sum(-1) + d.shape[-1] * LOG_2PI) - self._half_log_det()

    def _half_log_det(self) -> Tensor:
        return self._L.diagonal(0, -2, -1).log().sum(-1)

    def entropy(self) -> Tensor:
        """n / 2 (1 + log 2π) + Σ log Lᵢᵢ"""
        return 0.5 * self._event_shape[0] * (1 + LOG_2PI) + self._half_log_det()
