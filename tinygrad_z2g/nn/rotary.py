"""Rotary positions: a vector is turned by an angle that grows with its place, so that products know distances."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import fast
from ..arrays import dtypes
from ..arrays.backend import Array, of, silent
from ..core.engine import needs_grad, record
from ..ops.common import as_array, as_floating, linear_rule, same_device

if TYPE_CHECKING:
    from ..tensor import Tensor


def rotary_angles(positions: Tensor, dim: int, base: float = 10000.0) -> tuple[Tensor, Tensor]:
    """cos and sin of the angles t · base^(-2i / dim) for position t and pair i: (T,) -> (T, dim / 2) each.

    Pair 0 turns by one radian from place to place, each later pair more slowly, the last one almost not at all: quick
    hands tell neighbours apart, slow ones distances. Computed in float64 and rounded once, for of an
    angle of 8000 float32 knows three digits after the point.
    """
    t = as_array(positions, "rotary_angles")
    if dim < 2 or dim % 2:
        raise ValueError(f"rotary_angles: dim must be even and at least 2, got {dim}")
    xp, dtype = of(t), dtypes.get_default_dtype()
    speeds = base ** (xp.arange(0, dim, 2) / -dim)
    angles = xp.expand_dims(t, -1) * speeds  # (T, 1) * (dim / 2,) -> (T, dim / 2)
    return positions.make(xp.cos(angles).astype(dtype)), positions.make(xp.sin(angles).astype(dtype))


@silent
def rotary_embedding(input: Tensor, cos: Tensor, sin: Tensor, interleaved: bool = False) -> Tensor:
    """Each pair of numbers (a, b) turned by its angle: (a cos - b sin, a sin + b cos).   ∂L/∂x = grad, turned back

    x (..., T, d); cos, sin (..., T, d / 2) broadcast to its halves and receive no gradient; see `rotary_angles`. There
    are two conventions of which numbers are a pair. Halves, (i, i + d/2): Hugging Face's safetensors files.
    Neighbours, (2i, 2i + 1), `interleaved`: the paper, Meta's own files, GGUF files of architecture llama. They differ
    by the order of the rows of the layers that made x; with the wrong one a model still writes, only worse.
    (Su et al. 2021, arXiv:2104.09864; the signature is that of ONNX)

    Derived: a rotation R keeps lengths and has Rᵀ = R⁻¹, the rotation by the opposite angle. So z = R x gives
    ∂L/∂x = Rᵀ grad. And (R_s q) · (R_t k) = q · R_(t-s) k: the match of query and key depends on their distance alone.
    A quarter of a turn, cos = 0 and sin = 1: z = (-b, a), and grad (1, 0) turned back is (0, -1).
    >>> x, quarter = z2g.tensor([[2.0, 3.0]], requires_grad=True), (z2g.tensor([[0.0]]), z2g.tensor([[1.0]]))
    >>> z = F.rotary_embedding(x, *quarter); z[0, 0].backward(); z.detach(), x.grad
    (tensor([[-3.,  2.]]), tensor([[ 0., -1.]]))
    """
    a = as_floating(input, "rotary_embedding")
    c, s = as_array(cos, "rotary_embedding"), as_array(sin, "rotary_embedding")
    same_device("rotary_embedding", input, cos, sin)
    half = (*a.shape[:-1], a.shape[-1] // 2) if a.ndim else ()
    fits = a.ndim and a.shape[-1] % 2 == 0 and c.shape == s.shape and _broadcasts(c.shape, half)
    if not fits:
        raise RuntimeError(
            f"rotary_embedding: input {tuple(a.shape)}, cos {tuple(c.shape)}, sin {tuple(s.shape)}: expected (..., T, "
            "d) with an even d, and twice (..., T, d / 2)"
        )
    if needs_grad(cos) or needs_grad(sin):
        raise NotImplementedError("rotary_embedding: cos and sin that require grad are not offered; detach() them")

    def turned(x: Array) -> Array:
        return fast.rotate(x, c, s, interleaved)

    def turned_back(grad: Array) -> Array:
        return fast.rotate(grad, c, -s, interleaved)

    return record(
        "rotary_embedding", turned(a), (input, linear_rule("rotary_embedding", turned_back, turned), cos, sin)
    )


def _broadcasts(shape: tuple, to: tuple) -> bool:
    """Whether an array of the first shape may stand for one of the second."""
    pairs = zip(reversed(shape), reversed(to), strict=False)
    return len(shape) <= len(to) and all(n in (1, m) for n, m in pairs)
