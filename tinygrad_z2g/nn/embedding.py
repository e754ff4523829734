"""Tables of learned vectors: what `Embedding` has beyond the core, and bags of ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..core import layers
from ..core.attach import attach
from ..tensor import Tensor
from . import functional as F
from . import init
from .module import Parameter

__all__ = ["Embedding", "EmbeddingBag"]

_core_init, _core_reset = layers.Embedding.__init__, layers.Embedding.reset_parameters


class EmbeddingMethods:
    """What is attached to `Embedding`: a row that never learns, lengths of rows, a given table."""

    def __init__(
        self: Any, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None,
        max_norm: float | None = None, norm_type: float = 2.0, scale_grad_by_freq: bool = False, sparse: bool = False,
        _weight: Tensor | None = None, _freeze: bool = False, device: Any = None, dtype: Any = None,
    ):  # fmt: skip
        name = type(self).__name__
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ValueError(f"{name}: padding_idx {padding_idx} is not one of {num_embeddings} rows")
        self.padding_idx = padding_idx if padding_idx is None else padding_idx % num_embeddings
        self.max_norm, self.norm_type = max_norm, norm_type
        self.scale_grad_by_freq, self.sparse = scale_grad_by_freq, sparse
        if _weight is None:
            _core_init(self, num_embeddings, embedding_dim, device, dtype)
            self.weight.requires_grad_(not _freeze)
            return
        if tuple(_weight.shape) != (num_embeddings, embedding_dim):
            raise ValueError(
                f"{name}: the shape of weight, {tuple(_weight.shape)}, does not match num_embeddings and "
                f"embedding_dim, {(num_embeddings, embedding_dim)}"
            )
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.weight = Parameter(_weight, requires_grad=not _freeze)

    def reset_parameters(self: Any) -> None:
        """Draw new starting values. The row `padding_idx`, if given, is 0 and never learns."""
        _core_reset(self)
        if self.padding_idx is not None:
            init.zeros_(self.weight.detach()[self.padding_idx])

    @classmethod
    def from_pretrained(
        cls: Any, embeddings: Tensor, freeze: bool = True, padding_idx: int | None = None,
        max_norm: float | None = None, norm_type: float = 2.0, scale_grad_by_freq: bool = False, sparse: bool = False,
    ) -> Any:  # fmt: skip
        """A layer around the table `embeddings` (num_embeddings, embedding_dim), which does not learn if `freeze`."""
        if embeddings.array.ndim != 2:
            raise ValueError(
                f"{cls.__name__}.from_pretrained: embeddings parameter is expected to be 2-dimensional, got shape "
                f"{tuple(embeddings.shape)}"
            )
        return cls(
            *embeddings.array.shape, padding_idx=padding_idx, max_norm=max_norm, norm_type=norm_type,
            scale_grad_by_freq=scale_grad_by_freq, sparse=sparse, _weight=embeddings, _freeze=freeze,
        )  # fmt: skip

    def forward(self: Any, ids: Tensor) -> Tensor:
        """(...) -> (..., embedding_dim)"""
        return F.embedding(ids, self.weight, self.padding_idx, self.max_norm, self.norm_type, self.scale_grad_by_freq)

    def extra_repr(self: Any) -> str:
        text = f"{self.num_embeddings}, {self.embedding_dim}"
        text += f", mode={self.mode!r}" if hasattr(self, "mode") else ""
        usual = {"padding_idx": None, "max_norm": None, "norm_type": 2, "scale_grad_by_freq": False}
        shown = ((name, getattr(self, name)) for name, value in usual.items() if getattr(self, name) != value)
        return text + "".join(f", {name}={value}" for name, value in shown) + (", sparse=True" if self.sparse else "")


if TYPE_CHECKING:  # who checks types sees so what is attached

    class Embedding(EmbeddingMethods, layers.Embedding): ...

else:
    Embedding = layers.Embedding
    attach(Embedding, EmbeddingMethods)


class EmbeddingBag(Embedding):
    """The mean (sum, max) of the learned vectors of each bag of ids: (B, n), or (n,) and offsets -> (B, embedding_dim).

    `weight` starts as in `Embedding`; see `functional.embedding_bag`.
    """

    def __init__(
        self, num_embeddings: int, embedding_dim: int, max_norm: float | None = None, norm_type: float = 2.0,
        scale_grad_by_freq: bool = False, mode: str = "mean", sparse: bool = False, _weight: Tensor | None = None,
        include_last_offset: bool = False, padding_idx: int | None = None, device: Any = None, dtype: Any = None,
    ):  # fmt: skip
        super().__init__(
            num_embeddings, embedding_dim, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse, _weight,
            device=device, dtype=dtype,
        )  # fmt: skip
        self.mode, self.include_last_offset = mode, include_last_offset

    @classmethod
    def from_pretrained(  # type: ignore[override]  # torch's order of arguments
        cls, embeddings: Tensor, freeze: bool = True, max_norm: float | None = None, norm_type: float = 2.0,
        scale_grad_by_freq: bool = False, mode: str = "mean", sparse: bool = False, include_last_offset: bool = False,
        padding_idx: int | None = None,
    ) -> Any:  # fmt: skip
        """A layer around the table `embeddings` (num_embeddings, embedding_dim), which does not learn if `freeze`."""
        rows, width = embeddings.array.shape
        layer = cls(
            rows, width, max_norm, norm_type, scale_grad_by_freq, mode, sparse, embeddings,
            include_last_offset, padding_idx,
        )  # fmt: skip
        layer.weight.requires_grad_(not freeze)
        return layer

    def forward(
        self, input: Tensor, offsets: Tensor | None = None, per_sample_weights: Tensor | None = None
    ) -> Tensor:
        """(B, n), or (n,) and offsets (B,) -> (B, embedding_dim)"""
        return F.embedding_bag(
            input, self.weight, offsets, self.max_norm, self.norm_type, self.scale_grad_by_freq, self.mode, self.sparse,
            per_sample_weights, self.include_last_offset, self.padding_idx,
        )  # fmt: skip
