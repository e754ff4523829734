"""Gradients of a whole model at once.

They work on whatever tensors they are handed and know nothing of layers, losses or optimizers. (What replaces a weight
by one that is computed stands in `reparametrized`; `clip_grad_norm_` in `core/optimizers.py`.)
"""

from __future__ import annotations

from collections.abc import Iterable

from ...core.modes import no_grad
from ...core.optimizers import clip_grad_norm_
from ...ops.shape import cat
from ...tensor import Tensor

__all__ = ["clip_grad_norm_", "clip_grad_value_", "parameters_to_vector", "vector_to_parameters"]


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
