"""Layers whose weights stay in blocks of four or eight bits: a quarter or an eighth of float32's memory.

They compute; they do not learn (`dequantize` makes layers of them that do), but gradients pass through, so that others
beside them can.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from .. import fast
from ..arrays.backend import Array, silent
from ..core.engine import record
from ..fast import quantized
from ..ops.common import as_array, as_floating, check_ids, linear_rule, same_device
from ..tensor import Tensor
from .embedding import Embedding
from .linear import Linear
from .module import Module, Parameter


@silent
def quantized_linear(input: Tensor, quants: Tensor, scales: Tensor, offsets: Tensor | None = None) -> Tensor:
    """z = x Wᵀ with W = scale · quant + offset, block by block.   ∂L/∂x = grad W

    x (..., in) -> (..., out); quants, scales, offsets as in `fast/quantized.py`. They receive no gradient.

    Derived as for `linear`: W is a constant here. Two rows of W, 1 · 2 and 1 · 3 throughout: ∂z/∂xⱼ = 2 + 3.
    >>> quants = z2g.tensor([2, 3], dtype=z2g.int8).expand(1, 32, 2)
    >>> x = z2g.ones(32, requires_grad=True); z = nn.quantized.quantized_linear(x, quants, z2g.ones(1, 2))
    >>> z.sum().backward(); z.detach(), x.grad[:2]
    (tensor([64., 96.]), tensor([5., 5.]))
    """
    a = as_floating(input, "quantized_linear")
    same_device("quantized_linear", input, quants, scales, offsets)
    q, s = as_array(quants, "quantized_linear"), as_array(scales, "quantized_linear")
    o = None if offsets is None else as_array(offsets, "quantized_linear")
    if not a.ndim or a.shape[-1] != q.shape[0] * quantized.BLOCK or a.dtype != s.dtype:
        raise RuntimeError(
            f"quantized_linear: input {tuple(a.shape)} of {a.dtype}, expected (..., {q.shape[0] * quantized.BLOCK}) of "
            f"{s.dtype}"
        )
    shape, out = a.shape, q.shape[2]

    def back(grad: Array) -> Array:
        return fast.quantized_product_transposed(grad.reshape(-1, out), q, s, o).reshape(shape)

    def there(x: Array) -> Array:
        return fast.quantized_product(x.reshape(-1, shape[-1]), q, s, o).reshape(*shape[:-1], out)

    rule = linear_rule("quantized_linear", back, there)
    return record("quantized_linear", there(a), (input, rule, quants, scales, offsets))


_Q = TypeVar("_Q", bound="_Quantized")


class _Quantized(Module):
    """What both layers hold: the parts of a matrix (out, in), as buffers."""

    quants: Tensor
    scales: Tensor
    offsets: Tensor | None

    def __init__(self, quants: Tensor, scales: Tensor, offsets: Tensor | None = None):
        for name, part in (("quants", quants), ("scales", scales), ("offsets", offsets)):
            self.register_buffer(name, part)

    @classmethod
    def from_file(cls: type[_Q], data: np.ndarray, kind: str) -> _Q:
        """From the blocks of a file, uint8 (out, bytes of a row). kind: "Q4_0", "Q4_1" or "Q8_0"."""
        if kind not in quantized.KINDS:
            raise ValueError(f"{cls.__name__}: {kind} is not offered; expected one of {', '.join(quantized.KINDS)}")
        if data.ndim != 2 or data.shape[1] % quantized.KINDS[kind]:
            raise ValueError(f"{cls.__name__}: {data.shape} bytes are no rows of blocks of {quantized.KINDS[kind]}")
        quants, scales, offsets = quantized.from_file(data, kind)
        return cls(Tensor.make(quants), Tensor.make(scales), None if offsets is None else Tensor.make(offsets))

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in)"""
        blocks, _, out = self.quants.array.shape
        return out, blocks * quantized.BLOCK

    def _parts(self) -> tuple:
        return tuple(None if part is None else part.array for part in (self.quants, self.scales, self.offsets))

    def _weight(self) -> Parameter:
        """All of it in the dtype of the scales, (out, in)."""
        return Parameter(Tensor.make(quantized.expand(*self._parts()).T.copy()))

    def extra_repr(self) -> str:
        return f"{self.shape[0]}, {self.shape[1]}, bits={self.quants.array.shape[1] // 4}"


class QuantizedLinear(_Quantized):
    """z = x Wᵀ + b with W in blocks of four or eight bits, which stay as they are: (..., in) -> (..., out)."""

    def __init__(self, quants: Tensor, scales: Tensor, offsets: Tensor | None = None, bias: Parameter | None = None):
        super().__init__(quants, scales, offsets)
        self.bias = bias

    def forward(self, input: Tensor) -> Tensor:
        """(..., in) -> (..., out)"""
        z = quantized_linear(input, self.quants, self.scales, self.offsets)
        return z if self.bias is None else z + self.bias

    def dequantize(self) -> Linear:
        """A `Linear` with the same weights, which can learn."""
        return Linear.of(self._weight(), self.bias)


class QuantizedEmbedding(_Quantized):
    """One vector per id, from a table in blocks of four or eight bits: ids (...) -> (..., in)."""

    def forward(self, ids: Tensor) -> Tensor:
        """(...) -> (..., in)"""
        a, (out, width) = as_array(ids, "embedding"), self.shape
        if a.dtype.kind not in "iu":
            raise RuntimeError(f"embedding: expected integer ids, got {a.dtype}")
        check_ids(a, out, "embedding", "id")
        found = quantized.rows(a.reshape(-1), *self._parts())  # (n, in)
        return Tensor.make(found.reshape(*a.shape, width))

    def dequantize(self) -> Embedding:
        """An `Embedding` with the same table, which can learn."""
        return Embedding.from_pretrained(self._weight(), freeze=False)
