"""What attention remembers while a model writes, with room to spare and with padding; attention whose heads share keys.

`Cache` itself stands in `core/gpt.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..arrays.backend import Array, of
from ..core import gpt
from ..core.attach import attach
from ..core.engine import needs_grad
from ..core.modes import is_grad_enabled
from ..fast import forms
from ..tensor import Tensor
from . import functional as F
from .module import Module

__all__ = ["Cache", "causal_attention"]


class CacheMethods:
    """What is attached to `Cache`.

    `padding` (B,) says how many positions at the beginning of each row stand for nothing, where texts of different
    lengths are written side by side; nobody looks at those.
    """

    def mask(self: Any, T: int, S: int, like: Tensor) -> Tensor | None:
        """As in the core; with padding (B, 1, T, S): nobody looks at that."""
        if self.padding is None:
            return _core_mask(self, T, S, like)
        places = of(like.array).arange(S)
        real = (places >= self.padding.array[:, None])[:, None, None]  # (B, 1, 1, S)
        return like.make((places <= places[S - T :, None]) & real)


class RoomyCache:
    """The fast form of `Cache`: keys and values lie in arrays with room to spare, which double when full. A new
    position is written into its place, and nothing is copied for it."""

    def __len__(self: Any) -> int:
        """How many positions it holds."""
        return gpt.one_length(seen for _, _, seen in self._kept.values())

    def extend(self: Any, owner: Module, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and values of the attention `owner`, with those of the new positions at the end.

        k (B, nh, T, hs) -> (B, nh, all positions, hs), and v. RuntimeError if gradients were to pass: they end here.
        """
        if is_grad_enabled() and (needs_grad(k) or needs_grad(v)):
            raise RuntimeError("Cache: no gradient passes through it; use it within no_grad()")
        keys, values = self.kept(owner, k.array, v.array)
        return k.make(keys), v.make(values)

    def holds(self: Any, owner: Module, dtype: Any) -> bool:
        """Whether what the attention `owner` keeps is of this dtype, if it is anything."""
        return owner not in self._kept or self._kept[owner][0].dtype is dtype

    def kept(self: Any, owner: Module, k: Array, v: Array) -> tuple[Array, Array]:
        """`extend` on arrays."""
        keys, values, seen = self._kept.get(owner, (k[:, :, :0], v[:, :, :0], 0))
        if keys.shape[:2] != k.shape[:2]:  # which would be written into all rows
            got, held = tuple(k.shape), tuple(keys[:, :, :seen].shape)
            raise RuntimeError(f"Cache: got keys of shape {got} for those of {held}; begin a new one for other texts")
        end = seen + k.shape[2]
        if end > keys.shape[2]:
            keys, values = (_longer(old, max(64, 2 * end)) for old in (keys, values))
        keys[:, :, seen:end] = k
        values[:, :, seen:end] = v
        self._kept[owner] = keys, values, end
        return keys[:, :, :end], values[:, :, :end]


def _longer(a: Array, room: int) -> Array:
    """`a` (B, nh, T, hs) at the beginning of an array for `room` positions."""
    B, nh, T, hs = a.shape
    out = of(a).empty((B, nh, room, hs), a.dtype)
    out[:, :, :T] = a
    return out


_core_mask: Any = gpt.Cache.mask
if TYPE_CHECKING:  # who checks types sees so what is attached

    class Cache(CacheMethods, gpt.Cache): ...

else:
    Cache = gpt.Cache
    attach(Cache, CacheMethods)
    if not forms.plain():
        attach(Cache, RoomyCache)


def causal_attention(q: Tensor, k: Tensor, v: Tensor, cache: gpt.Cache | None, owner: Module) -> Tensor:
    """As in `CausalSelfAttention`, but each of the nk heads of keys serves nh / nk heads of queries.

    q (B, nh, T, hs), k and v (B, nk, T, hs) -> (B, nh, T, hs).
    """
    mask, T = None, q.array.shape[2]
    if cache is not None:
        k, v = cache.extend(owner, k, v)
        mask = cache.mask(T, k.array.shape[2], q)
    S, grouped = k.array.shape[2], q.array.shape[1] != k.array.shape[1]
    if grouped and T == 1 and (S > 1 or mask is not None):
        # One query a head: those of a group are as well the rows of one matrix
        B, nh, _, hs = q.array.shape
        rows = q.reshape(B, k.array.shape[1], -1, hs)  # (B, nh, 1, hs) -> (B, nk, group, hs)
        return F.scaled_dot_product_attention(rows, k, v, mask).reshape(B, nh, 1, hs)
    return F.scaled_dot_product_attention(q, k, v, mask, is_causal=mask is None and T == S, enable_gqa=grouped)
