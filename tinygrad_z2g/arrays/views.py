"""Where a view lies in the array that it shows a part of: read off addresses and strides, whatever made the view.

What is written through a view changes the whole, and so does the history: the gradient of the whole has to be taken
apart, or put together, at the view's place. No operation that makes views has to say how: a slice of a transpose of a
diagonal is a first element and a stride for each dimension, as any view is.
"""

from __future__ import annotations

import numpy as np

from .backend import Array, device_of, of


def address(array: Array) -> int:
    """Where in memory an array begins."""
    return array.ctypes.data if isinstance(array, np.ndarray) else array.data.ptr


def same_place(a: Array, b: Array) -> bool:
    """Whether two arrays are the same elements in the same order."""
    return a.shape == b.shape and a.strides == b.strides and a.dtype == b.dtype and address(a) == address(b)


def overlaps(array: Array) -> bool:
    """Whether several elements share one place in memory, as `expand` makes them."""
    return not array.flags.c_contiguous and any(
        n > 1 and stride == 0 for n, stride in zip(array.shape, array.strides, strict=True)
    )


def _reach(array: Array) -> tuple[int, int]:
    """How many bytes before and after its first element an array takes, that element not counted."""
    steps = [max(n - 1, 0) * stride for n, stride in zip(array.shape, array.strides, strict=True)]
    return -sum(step for step in steps if step < 0), sum(step for step in steps if step > 0)


class Spot:
    """The place of `view` in `whole`. It holds numbers only, no array.

    `inside` tells whether all of the view lies there; only then may the rest be asked for.
    """

    __slots__ = ("_dtype", "_nbytes", "_part", "_whole", "inside")

    def __init__(self, whole: Array, view: Array):
        before, after = _reach(whole)
        start = before + address(view) - address(whole) if view.size else 0
        self._dtype = whole.dtype
        self._nbytes = before + after + whole.itemsize
        self._whole = before, whole.shape, whole.strides
        self._part = start, view.shape, view.strides
        self.inside = view.dtype == whole.dtype and device_of(view) == device_of(whole)
        if view.size:
            lowest, highest = (sign * n + start for sign, n in zip((-1, 1), _reach(view), strict=True))
            self.inside &= whole.size > 0 and lowest >= 0 and highest + view.itemsize <= self._nbytes

    def memory(self, like: Array) -> Array:
        """Bytes for the whole, all 0, on the device of `like`."""
        return of(like).zeros(self._nbytes, np.uint8)

    def seen(self, memory: Array) -> tuple[Array, Array]:
        """The whole and the view, as they lie in memory."""
        xp, bytes_each = of(memory), self._dtype.itemsize
        whole, part = (
            xp.lib.stride_tricks.as_strided(memory[start : start + bytes_each].view(self._dtype), shape, strides)
            for start, shape, strides in (self._whole, self._part)
        )
        return whole, part

    def both(self, numbers: Array) -> tuple[Array, Array]:
        """A copy of `numbers`, which have the whole's shape, and the view of that copy."""
        whole, part = self.seen(self.memory(numbers))
        whole[...] = numbers
        return whole, part

    def spread(self, numbers: Array) -> Array:
        """`numbers`, of the view's shape, where the view stands, 0 elsewhere; what shares a place is added up."""
        whole, part = self.seen(self.memory(numbers))
        for axis, (n, stride) in enumerate(zip(*self._part[1:], strict=True)):
            if n > 1 and stride == 0:
                numbers = numbers.sum(axis=axis, keepdims=True)
                part = part[(slice(None),) * axis + (slice(1),)]
        part[...] = numbers
        return whole


def copied(array: Array, memo: dict) -> Array:
    """A copy of all the memory that `array` shows a part of, and in it the same part: arrays that share memory share it
    after a deepcopy too. `memo` holds what was copied before.
    """
    whole = array
    while isinstance(whole.base, type(array)) and whole.base.dtype == array.dtype:
        whole = whole.base
    place = Spot(whole, array)
    if not place.inside or not array.size:
        return array.copy()
    key = "memory", id(whole)
    if key not in memo:
        memo[key] = place.memory(whole), whole  # which must live on, or another array gets its id
        place.seen(memo[key][0])[0][...] = whole
    return place.seen(memo[key][0])[1]
