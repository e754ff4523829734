"""A table of learned vectors.

It knows nothing of what the numbers it looks up stand for, nor of how the table's gradient is summed.
"""

from __future__ import annotations

from typing import Any

from .. import creation
from ..tensor import Tensor
from . import functional as F
from . import init
from .module import Module, Parameter


class Embedding(Module):
    """One learned vector per id: ids (...) -> (..., embedding_dim).

    `weight` (num_embeddings, embedding_dim) starts normal with mean 0, deviation 1. The row `padding_idx`, if given,
    starts at 0 and never learns.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        *,
        device: Any = None,
        dtype: Any = None,
    ):
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ValueError(f"Embedding: padding_idx {padding_idx} is not one of {num_embeddings} rows")
        self.num_embeddings, self.embedding_dim, self.padding_idx = num_embeddings, embedding_dim, padding_idx
        self.weight = Parameter(creation.empty(num_embeddings, embedding_dim, device=device, dtype=dtype))
        init.normal_(self.weight)
        if padding_idx is not None:
            init.zeros_(self.weight.detach()[padding_idx])

    @classmethod
    def from_pretrained(cls, embeddings: Tensor, freeze: bool = True, padding_idx: int | None = None) -> Embedding:
        """A layer around the table `embeddings` (num_embeddings, embedding_dim), which does not learn if `freeze`."""
        layer = cls.__new__(cls)
        (layer.num_embeddings, layer.embedding_dim), layer.padding_idx = embeddings.array.shape, padding_idx
        layer.weight = Parameter(embeddings, requires_grad=not freeze)
        return layer

    def forward(self, ids: Tensor) -> Tensor:
        """(...) -> (..., embedding_dim)"""
        return F.embedding(ids, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}"
