"""Inverses, determinants, solutions, decompositions of matrices: LAPACK's numbers, and the rules beside them.

All take batches (..., n, m). Rules are derived from what the results satisfy, A Z = I for instance: differentiate, and
solve for dZ. (M. Giles, "An extended collection of matrix derivative results", 2008.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..arrays import dtypes
from ..arrays.backend import Array, of, quiet
from ..core.engine import RESULT, Variable, needs_grad, record
from ..core.modes import is_grad_enabled
from .common import as_array, constant, same_device
from .linalg import matmul
from .reduction import sum
from .shape import narrow, reshape, squeeze, transpose, tril, triu, unsqueeze

if TYPE_CHECKING:
    from ..tensor import Tensor


class LinAlgError(RuntimeError):
    """A matrix has no inverse, or is not positive definite, or a search did not end."""


class SVD(NamedTuple):
    """A = U diag(S) Vh."""

    U: Tensor
    S: Tensor
    Vh: Tensor


class QR(NamedTuple):
    """A = Q R."""

    Q: Tensor
    R: Tensor


class Eigh(NamedTuple):
    """A = eigenvectors diag(eigenvalues) eigenvectorsᵀ."""

    eigenvalues: Tensor
    eigenvectors: Tensor


class SignLogDet(NamedTuple):
    """det A = sign · exp(logabsdet)."""

    sign: Tensor
    logabsdet: Tensor


class Solution(NamedTuple):
    """What `lstsq` returns."""

    solution: Tensor
    residuals: Tensor
    rank: Tensor
    singular_values: Tensor


def matrices(x: Any, name: str, square: bool = False) -> Array:
    """The array of a tensor of matrices, (..., n, m). RuntimeError for others."""
    a = as_array(x, name)
    if a.ndim < 2 or (square and a.shape[-1] != a.shape[-2]):
        raise RuntimeError(f"{name}: expected {'square ' * square}matrices (..., n, m), got shape {tuple(a.shape)}")
    if a.dtype not in (dtypes.float32, dtypes.float64):
        raise RuntimeError(f"{name}: expected float32 or float64, got {a.dtype}; convert with .float()")
    return a


def _found(name: str, function: Callable, *args: Any, **settings: Any) -> Any:
    """What LAPACK finds. LinAlgError where it finds nothing.

    Singular and eigenvalues are searched for step by step, and with inf or NaN the search may have no end: then they
    are refused, as in torch. (On a GPU nobody looks.)
    """
    searched = name in ("eigh", "matrix_rank", "pinv", "svd")
    if searched and isinstance(args[0], np.ndarray) and not np.isfinite(args[0]).all():
        raise LinAlgError(f"{name}: the matrix of shape {args[0].shape} holds inf or nan; its values cannot be found")
    try:
        return quiet.run(function, *args, **settings)
    except np.linalg.LinAlgError as error:
        raise LinAlgError(f"{name}: {str(error).lower()}") from error


def _solved(a: Any, b: Any) -> Any:
    """A⁻¹ b on the way back. NaN where A has become singular by rounding, as an operation does that has no slope."""
    try:
        return of(b).linalg.solve(a, b)
    except (np.linalg.LinAlgError, LinAlgError):
        return b * math.nan


def _T(a: Any) -> Any:
    return a.swapaxes(-1, -2)


def _parts(name: str, x: Tensor, arrays: list[Array], rule: Callable) -> tuple[Tensor, ...]:
    """Several results of one operation, that share one rule: they are recorded as one vector, and cut out of it. The
    rule gets the gradients of all, and then all of them."""
    xp, shapes = of(arrays[0]), [a.shape for a in arrays]
    ends = np.cumsum([a.size for a in arrays]).tolist()
    starts = [0, *ends[:-1]]
    flat = xp.concatenate([a.reshape(-1) for a in arrays])

    def cut(flat: Any) -> list:
        return [flat[s:e].reshape(shape) for s, e, shape in zip(starts, ends, shapes, strict=True)]

    joined = record(name, flat, (x, lambda grad, flat: rule(*cut(grad), *cut(flat)), RESULT))
    return tuple(
        reshape(narrow(joined, 0, s, e - s), *shape) for s, e, shape in zip(starts, ends, shapes, strict=True)
    )


def inv(A: Tensor) -> Tensor:
    """Z = A⁻¹.   ∂L/∂A = -Zᵀ grad Zᵀ

    A Z = I, so dA Z + A dZ = 0 and dZ = -Z dA Z. LinAlgError where there is no inverse.
    >>> A = z2g.tensor([[2.0, 0.0], [0.0, 4.0]], requires_grad=True); z2g.linalg.inv(A).trace().backward(); A.grad
    tensor([[-0.2500, -0.0000],
            [-0.0000, -0.0625]])
    """
    a = matrices(A, "inv", True)
    z = _found("inv", of(a).linalg.inv, a)
    return record("inv", z, (A, lambda grad, z: -(_T(z) @ grad @ _T(z)), RESULT))


def det(A: Tensor) -> Tensor:
    """z = det A.   ∂z/∂A = the cofactors, z A⁻ᵀ where A has an inverse

    Along column j, z = Σᵢ aᵢⱼ cᵢⱼ with cofactors that do not hold aᵢⱼ. From A = U S Vᵀ they are det U det V times
    U C Vᵀ, with C the products of all other singular values: so they are right for singular matrices too.
    >>> A = z2g.tensor([[2.0, 0.0], [0.0, 3.0]], requires_grad=True); z2g.det(A).backward(); A.grad
    tensor([[3., 0.],
            [0., 2.]])
    """
    a = matrices(A, "det", True)
    xp = of(a)

    def rule(grad: Any, a: Any) -> Any:
        if isinstance(grad, Variable):  # A has an inverse, or no second derivative
            return (grad * det(a))[..., None, None] * _T(inv(a))
        if xp is np and not np.isfinite(a).all():
            return np.full_like(a, math.nan)
        u, s, vh = xp.linalg.svd(a)
        n = s.shape[-1]
        others = xp.where(xp.eye(n, dtype=bool), 1, s[..., None, :]).prod(-1) if n else s  # (..., n)
        sign = xp.linalg.det(u) * xp.linalg.det(vh)
        return (grad * sign)[..., None, None] * ((u * others[..., None, :]) @ vh)

    return record("det", _found("det", xp.linalg.det, a), (A, rule, A))


def slogdet(A: Tensor) -> SignLogDet:
    """The sign and the logarithm of |det A|, z.   ∂z/∂A = A⁻ᵀ

    z = ln |det A|, and the slope of det A is det A · A⁻ᵀ.
    >>> A = z2g.tensor([[2.0, 0.0], [0.0, 4.0]], requires_grad=True); z2g.slogdet(A).logabsdet.backward(); A.grad
    tensor([[0.5000, 0.0000],
            [0.0000, 0.2500]])
    """
    a = matrices(A, "slogdet", True)
    xp = of(a)
    sign, z = _found("slogdet", xp.linalg.slogdet, a)

    def rule(grad: Any, a: Any) -> Any:
        try:
            return grad[..., None, None] * _T(of(grad).linalg.inv(a))
        except (np.linalg.LinAlgError, LinAlgError):  # at det A = 0 there is no slope
            return grad[..., None, None] * a * math.nan

    z = record("slogdet", z, (A, rule, A))
    return SignLogDet(constant(A, sign), z)


def logdet(A: Tensor) -> Tensor:
    """ln det A: NaN where the determinant is negative; see `slogdet`.

    >>> A = z2g.tensor([[2.0]], requires_grad=True); z2g.logdet(A).backward(); A.grad
    tensor([[0.5000]])
    """
    sign, z = slogdet(A)
    return z + constant(A, of(sign.array).where(sign.array < 0, math.nan, 0).astype(z.array.dtype))


def solve(A: Tensor, B: Tensor, *, left: bool = True) -> Tensor:
    """The Z with A Z = B (with left=False: Z A = B).   ∂L/∂B = A⁻ᵀ grad,  ∂L/∂A = -(∂L/∂B) Zᵀ

    dA Z + A dZ = dB, so dZ = A⁻¹ (dB - dA Z). B is (..., n, k), or a vector for each matrix (..., n).
    >>> A, b = z2g.tensor([[2.0, 0.0], [0.0, 4.0]], requires_grad=True), z2g.tensor([2.0, 4.0], requires_grad=True)
    >>> z2g.linalg.solve(A, b).sum().backward(); b.grad, A.grad  # z = (1, 1)
    (tensor([0.5000, 0.2500]), tensor([[-0.5000, -0.5000],
            [-0.2500, -0.2500]]))
    """
    a, b = matrices(A, "solve", True), as_array(B, "solve")
    same_device("solve", A, B)
    if b.ndim == 1 or b.shape == a.shape[:-1]:  # vectors
        return squeeze(solve(A, unsqueeze(B, -1)), -1) if left else squeeze(solve(A, unsqueeze(B, -2), left=False), -2)
    if not left:
        return transpose(solve(transpose(A, -1, -2), transpose(B, -1, -2)), -1, -2)
    if b.shape[-2] != a.shape[-1] or a.dtype != b.dtype:
        raise RuntimeError(f"solve: A {tuple(a.shape)} of {a.dtype} and B {tuple(b.shape)} of {b.dtype} do not fit")
    z = _found("solve", of(a).linalg.solve, a, b)

    def grad_b(grad: Any, a: Any) -> Any:
        return _solved(_T(a), grad)

    return record("solve", z, (A, lambda grad, a, z: -(grad_b(grad, a) @ _T(z)), A, RESULT), (B, grad_b, A))


def solve_triangular(
    A: Tensor, B: Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Tensor:
    """The Z with A Z = B, where only the upper (lower) triangle of A is read; `unitriangular`: its diagonal as ones.

    >>> A, B = z2g.tensor([[2.0, 9.0], [0.0, 4.0]], requires_grad=True), z2g.ones(2, 1)
    >>> z2g.linalg.solve_triangular(A, B, upper=False).sum().backward(); A.grad[0, 1].item()  # what is not read
    0.0
    """
    a = matrices(A, "solve_triangular", True)
    cut = triu(A, int(unitriangular)) if upper else tril(A, -int(unitriangular))
    if unitriangular:
        cut = cut + constant(A, of(a).eye(a.shape[-1], dtype=a.dtype))
    return solve(cut, B, left=left)


def cholesky(A: Tensor, *, upper: bool = False) -> Tensor:
    """The lower triangular L with A = L Lᵀ, A symmetric and positive definite (upper: Lᵀ).
    ∂L/∂A = L⁻ᵀ (Φ + Φᵀ) L⁻¹ / 2, Φ the lower triangle of Lᵀ grad with its diagonal halved

    dA = dL Lᵀ + L dLᵀ, so L⁻¹ dA L⁻ᵀ = L⁻¹ dL + its transpose: dL = L · the lower triangle of that, diagonal halved.
    >>> A = z2g.tensor([[4.0]], requires_grad=True); z2g.linalg.cholesky(A).backward(); A.grad  # L = √A
    tensor([[0.2500]])
    """
    a = matrices(A, "cholesky", True)
    eye = of(a).eye(a.shape[-1], dtype=a.dtype)
    L = _found("cholesky", of(a).linalg.cholesky, a)

    def rule(grad: Any, L: Any) -> Any:
        xp = of(grad)
        phi = xp.tril(_T(L) @ xp.tril(grad))
        phi = phi - phi * eye / 2
        g = _solved(_T(L), _T(_solved(_T(L), _T(phi + _T(phi)))))
        return g / 2

    z = record("cholesky", L, (A, rule, RESULT))
    return transpose(z, -1, -2) if upper else z


def eigh(A: Tensor, UPLO: str = "L") -> Eigh:
    """Eigenvalues w, in order, and eigenvectors V (columns) of a symmetric matrix, whose lower triangle is read:
    A V = V diag(w).   ∂L/∂A = V (diag(grad w) + (Vᵀ grad V) / E) Vᵀ made symmetric, Eᵢⱼ = wⱼ - wᵢ, 0 for i = j

    With dV = V C, C antisymmetric as V turns: Vᵀ dA V = diag(dw) + (C ⊙ E). Equal eigenvalues have no gradient of V.
    >>> A = z2g.tensor([[2.0, 0.0], [0.0, 5.0]], requires_grad=True)
    >>> z2g.linalg.eigh(A).eigenvalues[1].backward(); A.grad
    tensor([[0., 0.],
            [0., 1.]])
    """
    a = matrices(A, "eigh", True)
    if UPLO not in ("L", "U", "l", "u"):
        raise RuntimeError(f"eigh: UPLO must be 'L' or 'U', got {UPLO!r}")
    xp = of(a)
    w, V = _found("eigh", xp.linalg.eigh, a, UPLO.upper())

    eye = xp.eye(a.shape[-1], dtype=a.dtype)

    def rule(grad_w: Any, grad_V: Any, w: Any, V: Any) -> Any:
        xp = of(grad_w)
        E = w[..., None, :] - w[..., :, None]
        turned = xp.where(eye > 0, 0, _T(V) @ grad_V / xp.where(eye > 0, 1, E)) if grad_V.any() else 0
        turned = (turned + _T(turned)) / 2 if grad_V.any() else 0  # A is symmetric, and so is what it may change by
        return V @ (grad_w[..., None, :] * eye + turned) @ _T(V)

    return Eigh(*_parts("eigh", A, [w, V], rule))


def svd(A: Tensor, full_matrices: bool = True) -> SVD:
    """A = U diag(S) Vh, singular values S ≥ 0 in descending order, U and V with orthogonal columns.

    ∂L/∂A = U ((J(Uᵀ grad U) / E) S + S (J(Vᵀ grad V) / E) + diag(grad S)) Vᵀ + what leaves the columns of U and V, with
    J(X) = X - Xᵀ and Eᵢⱼ = sⱼ² - sᵢ². As for `eigh`, of which this is that of AᵀA and AAᵀ. Only of S, or with
    full_matrices=False: the further columns are not determined.
    >>> A = z2g.tensor([[3.0, 0.0], [0.0, 2.0]], requires_grad=True); z2g.linalg.svd(A).S.sum().backward(); A.grad
    tensor([[1., 0.],
            [0., 1.]])
    """
    a = matrices(A, "svd")
    xp = of(a)
    u, s, vh = _found("svd", xp.linalg.svd, a, full_matrices)
    k = s.shape[-1]
    eye = xp.eye(k, dtype=s.dtype)

    def rule(grad_u: Any, grad_s: Any, grad_vh: Any, u: Any, s: Any, vh: Any) -> Any:
        xp, U, V = of(grad_s), u[..., :k], _T(vh)[..., :k]  # (..., n, k), (..., m, k)
        if full_matrices and u.shape[-1] != vh.shape[-1] and (grad_u.any() or grad_vh.any()):
            raise NotImplementedError("svd: full_matrices=True has a gradient of S alone; take full_matrices=False")
        inside = grad_s[..., None, :] * eye
        grad_u, grad_v = grad_u[..., :k], _T(grad_vh)[..., :k]
        if not (grad_u.any() or grad_v.any()):
            return U @ inside @ _T(V)
        E = xp.where(eye > 0, 1, s[..., None, :] ** 2 - s[..., :, None] ** 2)
        S = s[..., None, :]
        for side, grad in (("u", _T(U) @ grad_u), ("v", _T(V) @ grad_v)):
            turned = xp.where(eye > 0, 0, (grad - _T(grad)) / E)
            inside = inside + (turned * S if side == "u" else _T(S) * turned)
        g = U @ inside @ _T(V)
        rest_u, rest_v = grad_u - U @ (_T(U) @ grad_u), grad_v - V @ (_T(V) @ grad_v)
        return g + (rest_u / S) @ _T(V) + U @ _T(rest_v / S)

    return SVD(*_parts("svd", A, [u, s, vh], rule))


def svdvals(A: Tensor) -> Tensor:
    """The singular values in descending order; see `svd`.

    >>> A = z2g.tensor([[3.0, 0.0], [0.0, 2.0]], requires_grad=True); z2g.linalg.svdvals(A)[0].backward(); A.grad
    tensor([[1., 0.],
            [0., 0.]])
    """
    return svd(A, False).S


def qr(A: Tensor, mode: str = "reduced") -> QR:
    """A = Q R, Q with orthonormal columns, R upper triangular. `mode` "reduced", "complete" or "r" (R alone, Q empty).

    For (..., n, m) with n ≥ m, reduced: ∂L/∂A = (grad Q + Q C(M)) R⁻ᵀ, M = R grad Rᵀ - grad Qᵀ Q, C its lower triangle,
    mirrored. From dA = dQ R + Q dR, where Qᵀ dQ is antisymmetric and dR R⁻¹ upper triangular.
    >>> A = z2g.tensor([[3.0], [4.0]], requires_grad=True); z2g.linalg.qr(A).R.abs().backward(); A.grad  # |A|
    tensor([[0.6000],
            [0.8000]])
    """
    a = matrices(A, "qr")
    if mode not in ("reduced", "complete", "r"):
        raise RuntimeError(f"qr: mode must be 'reduced', 'complete' or 'r', got {mode!r}")
    xp, (n, m) = of(a), a.shape[-2:]
    if mode == "r":
        return QR(constant(A, xp.zeros((*a.shape[:-2], 0, 0), a.dtype)), qr(A).R)
    if (mode == "complete" and n != m) or n < m:
        if is_grad_enabled() and needs_grad(A):
            raise NotImplementedError("qr: has a gradient for n >= m rows and mode='reduced' alone; detach() it first")
        return QR(*(constant(A, part) for part in _found("qr", xp.linalg.qr, a, mode)))
    Q, R = _found("qr", xp.linalg.qr, a, "reduced")

    def rule(grad_Q: Any, grad_R: Any, Q: Any, R: Any) -> Any:
        xp = of(grad_Q)
        M = R @ _T(grad_R) - _T(grad_Q) @ Q
        mirrored = xp.tril(M) + _T(xp.tril(M, -1))
        return _T(_solved(R, _T(grad_Q + Q @ mirrored)))

    return QR(*_parts("qr", A, [Q, R], rule))


def pinv(A: Tensor, *, atol: Any = None, rtol: Any = None, hermitian: bool = False) -> Tensor:
    """The pseudoinverse Z: A Z A = A, Z A Z = Z, A Z and Z A symmetric. Singular values ≤ max(atol, rtol · largest)
    count as 0; rtol = max(n, m) · eps.   ∂L/∂A = -Zᵀ grad Zᵀ + P gradᵀ Z Zᵀ + Zᵀ Z gradᵀ P'

    With P = I - A Z and P' = I - Z A: dZ = -Z dA Z + Z Zᵀ dAᵀ P + P' dAᵀ Zᵀ Z, as the four equations say.
    >>> A = z2g.tensor([[2.0], [0.0]], requires_grad=True); z2g.linalg.pinv(A)[0, 0].backward(); A.grad
    tensor([[-0.2500],
            [ 0.0000]])
    """
    a = matrices(A, "pinv", hermitian)
    xp, (n, m) = of(a), a.shape[-2:]
    u, s, vh = _found("pinv", xp.linalg.svd, a, False)
    keep = s > quiet.run(_cut_off, xp, s, n, m, atol, rtol)[..., None]
    z = quiet.run(lambda: (_T(vh) * xp.where(keep, 1 / xp.where(keep, s, 1), 0)[..., None, :]) @ _T(u))

    eyes = xp.eye(n, dtype=a.dtype), xp.eye(m, dtype=a.dtype)

    def rule(grad: Any, a: Any, z: Any) -> Any:
        left, right = -(a @ z) + eyes[0], -(z @ a) + eyes[1]
        return -(_T(z) @ grad @ _T(z)) + left @ _T(grad) @ z @ _T(z) + _T(z) @ z @ _T(grad) @ right

    return record("pinv", z, (A, rule, A, RESULT))


def _cut_off(xp: Any, s: Array, n: int, m: int, atol: Any, rtol: Any) -> Array:
    """Up to which size singular values count as 0."""
    atol, rtol = (getattr(t, "array", t) for t in (atol, rtol))
    if rtol is None:
        rtol = max(n, m) * float(np.finfo(s.dtype).eps) if atol is None else 0.0
    largest = s.max(-1) if s.shape[-1] else s.sum(-1)
    return xp.maximum(rtol * largest, 0 if atol is None else atol)


def matrix_rank(
    A: Tensor, *, tol: Any = None, atol: Any = None, rtol: Any = None, hermitian: bool = False
) -> Tensor:
    """How many singular values are above max(atol, rtol · largest), int64; see `pinv`. No gradient."""
    a = matrices(A, "matrix_rank", hermitian)
    s = _found("matrix_rank", of(a).linalg.svd, a, compute_uv=False)
    n, m = a.shape[-2:]
    cut = _cut_off(of(a), s, n, m, atol if tol is None else tol, rtol)
    return constant(A, (s > cut[..., None]).sum(-1, dtype=np.int64))


def lstsq(A: Tensor, B: Tensor, rcond: Any = None, *, driver: str | None = None) -> Solution:
    """The Z for which |A Z - B| is least: `pinv(A) @ B`. With it the rank of A and, if there are more rows than columns
    and `driver` is "gels", "gelsd" or "gelss" (which in torch chooses a routine of LAPACK), |A Z - B|² of each column.

    >>> A, b = z2g.tensor([[1.0], [1.0]]), z2g.tensor([[1.0], [3.0]], requires_grad=True)
    >>> z2g.linalg.lstsq(A, b).solution.backward(); b.grad.t()  # the mean
    tensor([[0.5000, 0.5000]])
    """
    a, b = matrices(A, "lstsq"), as_array(B, "lstsq")
    vectors = b.ndim == 1 or b.shape == a.shape[:-1]
    if (b.ndim < a.ndim and not vectors) or b.shape[-1 if vectors else -2] != a.shape[-2]:
        raise RuntimeError(f"lstsq: A {tuple(a.shape)} and B {tuple(b.shape)} do not have as many rows")
    right = unsqueeze(B, -1) if vectors else B
    solution = matmul(pinv(A, rtol=rcond), right)
    rank, blank = matrix_rank(A, rtol=rcond), constant(A, of(a).zeros(0, a.dtype))
    tall = driver not in (None, "gelsy") and a.shape[-2] > a.shape[-1]
    enough = tall and bool((rank.array == a.shape[-1]).all())
    residuals = sum((matmul(A, solution) - right).square(), -2) if enough else blank
    return Solution(squeeze(solution, -1) if vectors else solution, residuals, rank, blank)
