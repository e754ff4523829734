"""The gradient of a slice: numbers that come to stand in a place of an array, or are added there.

Three parts of (12, 64, 128) in the last dimension of (12, 64, 384), as queries, keys and values are, take 105 µs in
place of 190 inside a step on two threads. They know nothing of what was cut.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...arrays.backend import Array
from .. import reference
from .jit import loop, over_rows
from .layout import FLOAT32
from .mathematics import ZERO


@loop
def _clear(start, stop, z):
    """z = 0"""
    z[start:stop] = ZERO


@loop
def _put(start, stop, a, z):
    """z = a, for the rows start..stop of a (M, N, C), counted through."""
    N = a.shape[1]
    for i in range(start, stop):
        row, place = a[i // N, i % N], z[i // N, i % N]
        for j in range(row.size):
            place[j] = row[j]


@loop
def _add(start, stop, a, z):
    """z += a, likewise."""
    N = a.shape[1]
    for i in range(start, stop):
        row, place = a[i // N, i % N], z[i // N, i % N]
        for j in range(row.size):
            place[j] += row[j]


def put_part(part: Array, place: Any, shape: tuple[int, ...], dtype: np.dtype) -> Array:
    """See `reference.put_part`."""
    whole = np.empty(shape, FLOAT32)
    z = whole[place]
    if dtype != FLOAT32 or not _rows(part, z):
        return reference.put_part(part, place, shape, dtype)
    over_rows(_clear, whole.size, whole.size, whole.reshape(-1))
    _over(_put, part, z)
    return whole


def add_part(whole: Array, place: Any, part: Array) -> None:
    """See `reference.add_part`."""
    z = whole[place]
    if _rows(part, z):
        _over(_add, part, z)
    else:
        reference.add_part(whole, place, part)


def _rows(a: Array, z: Any) -> bool:
    """Whether both are float32 of one shape, in two or three dimensions, whose rows lie number by number."""
    return (
        isinstance(z, np.ndarray) and 1 < a.ndim < 4 and a.shape == z.shape and z.size > 0
        and a.dtype == z.dtype == FLOAT32 and a.strides[-1] == z.strides[-1] == 4 and a.flags.aligned
    )  # fmt: skip


def _over(function: Any, a: Array, z: Array) -> None:
    if a.ndim == 2:
        a, z = a[None], z[None]  # (N, C) -> (1, N, C)
    over_rows(function, a.shape[0] * a.shape[1], a.size, a, z)
