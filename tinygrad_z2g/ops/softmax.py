"""Softmax, its logarithm, and the logarithm of its denominator: scores to probabilities, without overflow.

It knows nothing of losses or attention, which are built on it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from .. import fast
from ..arrays.backend import of, silent
from ..arrays.layout import spread
from ..core import ops
from ..core.engine import RESULT, record
from ..half.table import apply
from .common import as_floating, floating, many_dims, numpy_names, one_dim, row_major, widens

if TYPE_CHECKING:
    from ..tensor import Tensor


@numpy_names
@widens(ops.softmax)
def softmax(input: Tensor, dim: int, dtype: Any = None) -> Tensor:
    """pᵢ = e^xᵢ / Σⱼ e^xⱼ along `dim`, see `core.ops.softmax`; computed in another `dtype`, if asked for.

    >>> x = z2g.tensor([1.0, 3.0]).log().requires_grad_()
    >>> z2g.softmax(x, dim=0)[1].backward(); x.grad
    tensor([-0.1875,  0.1875])
    """
    return ops.softmax(input, dim) if dtype is None else ops.softmax(input.to(dtype=dtype), dim).to(dtype=dtype)


@numpy_names
@silent
def log_softmax(input: Tensor, dim: int, dtype: Any = None) -> Tensor:
    """zᵢ = xᵢ - ln Σⱼ e^xⱼ along `dim`.   ∂L/∂x = grad - eᶻ Σ grad, where eᶻ = softmax(x)

    ln S, S = Σ e^xⱼ, has the slope e^xⱼ / S = pⱼ in xⱼ: raising xⱼ raises zⱼ by 1 and lowers every zᵢ by pⱼ. Hence
    ∂L/∂xⱼ = gradⱼ - pⱼ Σᵢ gradᵢ. For x = (0, ln 3), p = (1/4, 3/4), and L = z₂: (0 - 1/4, 1 - 3/4).
    >>> x = z2g.tensor([1.0, 3.0]).log().requires_grad_()
    >>> z2g.log_softmax(x, dim=0)[1].backward(); x.grad
    tensor([-0.2500,  0.2500])
    """
    if dtype is not None:
        input = input.to(dtype=dtype)
    x = floating(input, "log_softmax")
    axis = one_dim(dim, x.ndim, "log_softmax")
    z = row_major(fast.log_softmax(x.reshape(x.shape or (1,)), axis).reshape(x.shape))
    if not x.ndim:
        return record("log_softmax", z, (input, lambda grad: grad * 0))
    return record(
        "log_softmax",
        z,
        (input, lambda grad, z: grad - of(grad).exp(z) * fast.total(grad, (axis,), True), RESULT),
    )


@numpy_names
@silent
def logsumexp(input: Tensor, dim: Any, keepdim: bool = False) -> Tensor:
    """z = ln Σ eˣ over `dim`, computed as m + ln Σ eˣ⁻ᵐ with m = max x: no overflow.   dz/dx = eˣ⁻ᶻ = softmax(x)

    z = ln S, S = Σ e^xⱼ: dz/dxⱼ = e^xⱼ / S. For x = (0, ln 3), S = 4. The largest x gets most of the gradient.
    >>> x = z2g.tensor([1.0, 3.0]).log().requires_grad_()
    >>> z2g.logsumexp(x, dim=0).backward(); x.grad
    tensor([0.2500, 0.7500])
    """
    x = as_floating(input, "logsumexp")
    dims, xp = many_dims(dim, x.ndim, "logsumexp"), of(x)
    m = fast.finite_max(x, dims)
    m = xp.where(m == math.inf, 0, m)  # ln e^inf is inf; with m = inf it would be NaN
    z = fast.log_of_sum(xp.exp(x - m), dims) + m
    z = row_major(z)
    reduced = z if keepdim else z.reshape(tuple(n for i, n in enumerate(x.shape) if i not in dims))

    def rule(grad: Any, x: Any, z: Any) -> Any:
        xp, z = of(grad), spread(z, dims, keepdim)
        return spread(grad, dims, keepdim) * xp.where(xp.isfinite(z), xp.exp(x - z), 0)

    return record("logsumexp", reduced, (input, rule, input, RESULT))


apply(globals())  # mixed precision, by the table in half/
