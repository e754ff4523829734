"""Dropout of whole channels, and the one that goes with `selu`.

`dropout` itself, which owns a rule, is in `core.ops`; these multiply by its mask.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .. import fast
from ..arrays.backend import Array, of, quiet
from ..arrays.checks import probability
from ..arrays.random import default_generator
from ..core import ops
from ..ops import elementwise
from ..ops.common import as_array, as_floating, widens
from ..ops.elementwise import where
from ..ops.inplace import update

if TYPE_CHECKING:
    from ..tensor import Tensor


def _mask(like: Array, shape: tuple, p: float) -> Array:
    """0 with probability p, or else 1 / (1 - p): in this shape, on the device and in the dtype of an array."""
    ones = of(like).ones(shape, like.dtype)
    if p == 1:
        return ones * 0
    return quiet.run(fast.dropout, ones, p, default_generator.next_key())[1]


@widens(ops.dropout)
def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """z = x m: each element is dropped (m = 0) with probability p, or else scaled by m = 1 / (1 - p).

    See `core.ops.dropout`. `inplace`: over x itself.
    >>> x = z2g.ones(8, requires_grad=True); z = F.dropout(x, 0.5); z.sum().backward()
    >>> z2g.equal(x.grad, z)  # since x = 1, z is m
    True
    """
    return update(input, "dropout_", ops.dropout, p, training) if inplace else ops.dropout(input, p, training)


def dropout1d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """`dropout` of whole channels: x (N, C, L) or (C, L). (Tompson et al. 2015, arXiv:1411.4280)

    >>> x = z2g.ones(1, 8, 5, requires_grad=True); z = F.dropout1d(x, 0.5); z.sum().backward(); z2g.equal(x.grad, z)
    True
    >>> z2g.equal(z, z[:, :, :1].expand(1, 8, 5))  # a channel stays or goes as one
    True
    """
    return _dropout_channels("dropout1d", input, (2, 3), p, training, inplace)


def dropout2d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """`dropout` of whole channels: x (N, C, H, W), or (N, C, L) as in torch. (Tompson et al. 2015, arXiv:1411.4280)

    >>> x = z2g.ones(1, 8, 5, 5, requires_grad=True); z = F.dropout2d(x, 0.5); z.sum().backward(); z2g.equal(x.grad, z)
    True
    """
    return _dropout_channels("dropout2d", input, (3, 4), p, training, inplace)


def _dropout_channels(name: str, x: Tensor, ndims: tuple, p: float, training: bool, inplace: bool) -> Tensor:
    p = probability(p, f"{name}: p")
    a = as_array(x, name)
    if a.ndim not in ndims:
        raise RuntimeError(f"{name}: expected {' or '.join(map(str, ndims))} dimensions, got shape {tuple(a.shape)}")
    if not training or p == 0:
        return x
    lead = 1 if a.ndim == 2 else 2  # (C, L) has no batch
    kept = x.make(_mask(as_floating(x, name), (*a.shape[:lead], *[1] * (a.ndim - lead)), p))
    return update(x, f"{name}_", elementwise.mul, kept) if inplace else x * kept


def alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """z = a (x m - s (1 - m)) + a s p, m = 0 with probability p or else 1: the dropout that goes with `selu`.

    s = 1.7581 is what selu tends to on the left; a = 1 / √((1 + s² p) (1 - p)) keeps mean 0 and variance 1.
    (Klambauer et al. 2017, arXiv:1706.02515)
    >>> x = z2g.ones(5, requires_grad=True); F.alpha_dropout(x, training=False).sum().backward(); x.grad
    tensor([1., 1., 1., 1., 1.])
    """
    p = probability(p, "alpha_dropout: p")
    if inplace:
        return update(input, "alpha_dropout_", alpha_dropout, p, training)
    if not training or p == 0:
        return input
    a = as_floating(input, "alpha_dropout")
    if p == 1:
        return input * 0
    kept = input.make(_mask(a, a.shape, p) != 0)
    s = 1.7580993408473766
    scale = 1 / math.sqrt((s * s * p + 1) * (1 - p))
    return where(kept, input * scale, -s * scale) + s * scale * p
