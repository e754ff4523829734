"""Gradients of a whole model at once.

They work on whatever tensors they are handed and know nothing of layers, losses or optimizers. (What replaces a weight
by one that is computed stands in `reparametrized`.)
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from ...arrays.backend import silent
from ...core import optimizers
from ...core.modes import no_grad
from ...ops.shape import cat
from ...tensor import Tensor


@silent  # an infinite gradient gives NaN, as on the GPU, without a warning
def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor], max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> Tensor:
    """Scale all gradients by one factor so that their joint norm √(Σ g²) is at most `max_norm`.

    Returns the norm before scaling, a 0-d tensor on the gradients' device. RuntimeError, if asked for, where the norm
    is infinite or NaN. (Pascanu et al. 2013)
    """
    if norm_type != 2:
        raise NotImplementedError(f"clip_grad_norm_: norm_type {norm_type} is not offered, only 2")
    parameters = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    if error_if_nonfinite and (grads := _grads(parameters)):
        total = float(optimizers.norm([g.array for g in grads]))
        if not math.isfinite(total):
            raise RuntimeError(f"clip_grad_norm_: the gradients' norm is {total}; check the loss and the learning rate")
    return optimizers.clip_grad_norm_(parameters, max_norm)


@no_grad()
def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Limit every element of every gradient to [-clip_value, clip_value]."""
    for g in _grads(parameters):
        g.clamp_(-clip_value, clip_value)


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All parameters one after the other as one vector. Gradients pass."""
    return cat([p.reshape(-1) for p in parameters])


@no_grad()
def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Cut a vector into the parameters, in place: the way back of `parameters_to_vector`.

    RuntimeError where it is too short; what it holds beyond them is left alone, as in torch.
    """
    if not isinstance(vec, Tensor):
        raise TypeError(f"vector_to_parameters: expected a Tensor, got {type(vec).__name__}")
    at = 0
    for p in parameters:
        part = vec.detach()[at : at + p.numel()]
        if part.numel() < p.numel():
            raise RuntimeError(
                f"vector_to_parameters: the vector's {vec.numel()} numbers do not fill the parameters: the one at {at} "
                f"takes {p.numel()}"
            )
        p.copy_(part.reshape(p.shape))
        at += p.numel()


def _grads(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    parameters = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    return [p.grad for p in parameters if p.grad is not None]
