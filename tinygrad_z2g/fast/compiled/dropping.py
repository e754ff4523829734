"""Dropout: the hash of each element's number, the mask and the product in one pass.

The hash is that of `random.py`, whose numbers it uses; it knows nothing of seeds.
"""

from __future__ import annotations

import numpy as np
from numba import uint32

from ...arrays import random
from ...arrays.backend import Array
from .. import reference
from .jit import loop, over_rows
from .layout import fits
from .mathematics import ZERO

FIRST, SECOND = (np.uint32(x) for x in random._MULTIPLIERS)
WIDE, NARROW = np.uint32(random._SHIFTS[0]), np.uint32(random._SHIFTS[1])


@loop
def _mix(x):
    """The hash of `random._mix`."""
    x = uint32(x ^ (x >> WIDE))  # what is computed with 32 bits has 64, until it is cut
    x = uint32(x * FIRST)
    x = uint32(x ^ (x >> NARROW))
    x = uint32(x * SECOND)
    return uint32(x ^ (x >> WIDE))


@loop
def _dropout(start, stop, a, threshold, kept, key, z, mask):
    """mask = 0 where hash(hash(i) xor key) < threshold, else `kept`;  z = a mask"""
    a, z, mask = a[start:stop], z[start:stop], mask[start:stop]
    for i in range(a.size):
        bits = _mix(uint32(_mix(uint32(start + i)) ^ key))
        m = kept if bits >= threshold else ZERO
        mask[i] = m
        z[i] = a[i] * m


@loop
def _mask(start, stop, threshold, kept, key, mask):
    """mask[start..stop] as in `_dropout`."""
    mask = mask[start:stop]
    for i in range(mask.size):
        bits = _mix(uint32(_mix(uint32(start + i)) ^ key))
        mask[i] = kept if bits >= threshold else ZERO


def fill_mask(mask: Array, p: float, key: int) -> None:
    """`reference.dropout_mask` into `mask`, a contiguous array."""
    threshold, kept = reference.dropout_numbers(p)
    over_rows(_mask, mask.size, mask.size, threshold, np.float32(kept), np.uint32(key), mask.reshape(-1))


def dropout(a: Array, p: float, key: int) -> tuple[Array, Array]:
    """See `reference.dropout`."""
    if not fits(a) or a.size > 2**32:
        return reference.dropout(a, p, key)
    threshold, kept = reference.dropout_numbers(p)
    z, mask = np.empty(a.shape, a.dtype), np.empty(a.shape, a.dtype)
    over_rows(
        _dropout, a.size, a.size, a.reshape(-1), threshold, np.float32(kept), np.uint32(key), z.reshape(-1),
        mask.reshape(-1),
    )  # fmt: skip
    return z, mask
