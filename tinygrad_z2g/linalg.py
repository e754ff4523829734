"""torch.linalg: what is written in `ops/`, under its names there, and norms of vectors and matrices.

It knows nothing of gradients: everything here is composed.
"""

from __future__ import annotations

import functools
import math
from typing import Any

from .arrays import dtypes
from .ops.common import as_array, many_dims, number
from .ops.decompositions import (
    LinAlgError,
    cholesky,
    det,
    eigh,
    inv,
    lstsq,
    matrices,
    matrix_rank,
    pinv,
    qr,
    slogdet,
    solve,
    solve_triangular,
    svd,
    svdvals,
)  # fmt: skip
from .ops.linalg import matmul
from .ops.products import cross as _cross
from .ops.products import matrix_power as _matrix_power
from .ops.products import vander as _vander
from .ops.reduction import norm as _norm
from .ops.shape import diagonal as _diagonal
from .ops.shape import movedim
from .tensor import Tensor

__all__ = [
    "LinAlgError", "cholesky", "cond", "cross", "det", "diagonal", "eigh", "eigvalsh", "inv", "lstsq", "matmul",
    "matrix_norm", "matrix_power", "matrix_rank", "multi_dot", "norm", "pinv", "qr", "slogdet", "solve",
    "solve_triangular", "svd", "svdvals", "vander", "vecdot", "vector_norm",
]  # fmt: skip


def vector_norm(
    x: Tensor, ord: float = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None
) -> Tensor:
    """(Σ |x|ᵖ)^(1/p) over `dim`, p = ord; over all elements without one."""
    x = x if dtype is None else x.to(dtypes.as_dtype(dtype))
    return _norm(x, number(ord, "vector_norm: ord"), dim, keepdim)


def matrix_norm(
    A: Tensor, ord: Any = "fro", dim: Any = (-2, -1), keepdim: bool = False, *, dtype: Any = None
) -> Tensor:
    """Of matrices: "fro", √Σ a²; "nuc", the sum of the singular values; 2 and -2, the largest and smallest of them;
    1 and -1, the largest and smallest column sum of |a|; inf and -inf, of the row sums."""
    a = A if dtype is None else A.to(dtypes.as_dtype(dtype))
    rows, columns = many_dims(dim, matrices(a, "matrix_norm").ndim, "matrix_norm")
    if ord == "fro":
        return _norm(a, 2, (rows, columns), keepdim)
    if ord in ("nuc", 2, -2):
        s = svdvals(movedim(a, (rows, columns), (-2, -1)))
        z = s.sum(-1) if ord == "nuc" else s.amax(-1) if ord == 2 else s.amin(-1)
    elif ord in (1, -1, math.inf, -math.inf):
        summed, other = (rows, columns) if ord in (1, -1) else (columns, rows)
        sums = a.abs().sum(summed, keepdim=True)
        z = (sums.amax if ord > 0 else sums.amin)((summed, other))
    else:
        raise RuntimeError(f"matrix_norm: got ord={ord!r}, expected 'fro', 'nuc', 1, -1, 2, -2, inf or -inf")
    for d in sorted((rows, columns)) if keepdim else ():
        z = z.unsqueeze(d)
    return z


def norm(A: Tensor, ord: Any = None, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """Of vectors or matrices: without `ord` √Σ x² over `dim`; with one, a single dim means vectors, two mean matrices,
    none whichever x is."""
    if ord is None:
        return vector_norm(A, 2, dim, keepdim, dtype=dtype)
    count = (1 if isinstance(dim, int) else len(dim)) if dim is not None else as_array(A, "norm").ndim
    if count == 2 or isinstance(ord, str):
        return matrix_norm(A, ord, (-2, -1) if dim is None else dim, keepdim, dtype=dtype)
    if count > 2 and dim is None:
        raise RuntimeError(f"norm: with ord={ord!r} x must have 1 or 2 dimensions, or dim be given")
    return vector_norm(A, ord, dim, keepdim, dtype=dtype)


def cond(A: Tensor, p: Any = None) -> Tensor:
    """How much A can stretch a vector more than another: |A| |A⁻¹|, by default the largest singular value over the
    smallest."""
    if p in (None, 2, -2):
        s = svdvals(A)
        return s[..., -1] / s[..., 0] if p == -2 else s[..., 0] / s[..., -1]
    return matrix_norm(A, p) * matrix_norm(inv(A), p)


def eigvalsh(A: Tensor, UPLO: str = "L") -> Tensor:
    """The eigenvalues of a symmetric matrix, in order; see `eigh`."""
    return eigh(A, UPLO).eigenvalues


def matrix_power(A: Tensor, n: int) -> Tensor:
    """A A ... A, n times; for n < 0, of A⁻¹."""
    return _matrix_power(A, n) if n >= 0 else _matrix_power(inv(A), -n)


def multi_dot(tensors: Any) -> Tensor:
    """The product of several matrices, from left to right; the first and last may be vectors."""
    return functools.reduce(matmul, tensors)


def cross(input: Tensor, other: Tensor, *, dim: int = -1) -> Tensor:
    """The vector at right angles to two vectors of 3, along `dim`; the others broadcast."""
    return _cross(input, other, dim)


def vecdot(x: Tensor, y: Tensor, *, dim: int = -1) -> Tensor:
    """Σ x y along one dimension."""
    return (x * y).sum(dim)


def vander(x: Tensor, *, N: int | None = None) -> Tensor:
    """The powers of each element as a last dimension: 1, x, ..., xᴺ⁻¹."""
    return _vander(x, N, increasing=True)


def diagonal(A: Tensor, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """The diagonals of matrices."""
    return _diagonal(A, offset, dim1, dim2)
