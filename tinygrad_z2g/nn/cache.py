"""What attention remembers while a model writes, so that each new token costs one step and not all steps again.

It knows nothing of models, nor of how queries, keys and values are made.
"""

from __future__ import annotations

from ..arrays.backend import Array, of
from ..core.engine import needs_grad
from ..core.modes import is_grad_enabled
from ..tensor import Tensor
from . import functional as F
from .module import Module


class Cache:
    """The keys and values of the positions seen so far, of each attention of a model.

    They lie in arrays with room to spare, which double when full: a new position is written into its place, and nothing
    is copied for it. `padding` (B,) says how many positions at the beginning of each row stand for nothing, where texts
    of different lengths are written side by side; nobody looks at those.
    """

    def __init__(self, padding: Tensor | None = None):
        self.padding = padding
        self._kept: dict[Module, tuple[Array, Array, int]] = {}

    def __len__(self) -> int:
        """How many positions it holds."""
        return max((seen for _, _, seen in self._kept.values()), default=0)

    def extend(self, owner: Module, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and values of the attention `owner`, with those of the new positions at the end.

        k (B, nh, T, hs) -> (B, nh, all positions, hs), and v. RuntimeError if gradients were to pass: they end here.
        """
        if is_grad_enabled() and (needs_grad(k) or needs_grad(v)):
            raise RuntimeError("Cache: no gradient passes through it; use it within no_grad()")
        keys, values, seen = self._kept.get(owner, (k.array[:, :, :0], v.array[:, :, :0], 0))
        end = seen + k.array.shape[2]
        if end > keys.shape[2]:
            keys, values = (_longer(old, max(64, 2 * end)) for old in (keys, values))
        keys[:, :, seen:end] = k.array
        values[:, :, seen:end] = v.array
        self._kept[owner] = keys, values, end
        return k.make(keys[:, :, :end]), v.make(values[:, :, :end])

    def mask(self, T: int, S: int, like: Tensor) -> Tensor | None:
        """Where the last T of S positions may look: at those up to themselves that are no padding. (T, S), or with
        padding (B, 1, T, S); None if all may look everywhere."""
        if T == 1 and self.padding is None:
            return None
        xp = of(like.array)
        places = xp.arange(S)
        allowed = places <= places[S - T :, None]
        if self.padding is not None:
            allowed = allowed & (places >= self.padding.array[:, None])[:, None, None]  # (B, 1, 1, S)
        return like.make(allowed)


def _longer(a: Array, room: int) -> Array:
    """`a` (B, nh, T, hs) at the beginning of an array for `room` positions."""
    B, nh, T, hs = a.shape
    out = of(a).empty((B, nh, room, hs), a.dtype)
    out[:, :, :T] = a
    return out


def causal_attention(
    q: Tensor, k: Tensor, v: Tensor, cache: Cache | None, owner: Module, dropout: float = 0.0
) -> Tensor:
    """Each position attends to those up to itself; with a cache, q, k and v are those of new positions only.

    q (B, nh, T, hs), k and v (B, nk, T, hs) -> (B, nh, T, hs); each of the nk heads serves nh / nk heads of q.
    """
    mask, grouped = None, q.array.shape[1] != k.array.shape[1]
    if cache is not None:
        fresh = k.array.shape[2]
        k, v = cache.extend(owner, k, v)
        if k.array.shape[2] > fresh or cache.padding is not None:
            mask = cache.mask(fresh, k.array.shape[2], q)
            if grouped and fresh == 1:  # one query a head: those of a group are as well the rows of one matrix
                B, nh, _, hs = q.array.shape
                rows = q.reshape(B, k.array.shape[1], -1, hs)  # (B, nh, 1, hs) -> (B, nk, group, hs)
                return F.scaled_dot_product_attention(rows, k, v, mask).reshape(B, nh, 1, hs)
            return F.scaled_dot_product_attention(q, k, v, mask, enable_gqa=grouped)
    return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True, enable_gqa=grouped)
