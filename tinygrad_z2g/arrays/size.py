"""`Size`: the shape of a tensor."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from typing import Any


class Size(tuple):
    """A shape: a tuple of ints that prints as torch's and can count its elements. What is cut out of one, joined with
    one or repeated is one again."""

    __slots__ = ()

    def __new__(cls, sizes: Iterable[int] = ()) -> Size:
        """Of sizes: ints, NumPy's too, or integer tensors. TypeError for others."""
        return super().__new__(cls, [n if type(n) is int else _size(n, i) for i, n in enumerate(sizes)])

    def numel(self) -> int:
        """The number of elements of a tensor of this shape."""
        return math.prod(self)

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        return tuple.__new__(Size, found) if isinstance(index, slice) else found

    def __add__(self, other: Any) -> Any:
        return Size(super().__add__(other)) if isinstance(other, tuple) else NotImplemented

    def __radd__(self, other: Any) -> Any:
        return Size(other + tuple(self)) if isinstance(other, tuple) else NotImplemented

    def __mul__(self, times: Any) -> Any:
        return Size(super().__mul__(times)) if hasattr(times, "__index__") else NotImplemented

    __rmul__ = __mul__

    def __repr__(self) -> str:
        return f"Size({list(self)})"


def _size(n: Any, i: int) -> int:
    try:
        return operator.index(n)
    except TypeError as error:
        raise TypeError(f"Size: expected ints, got {type(n).__name__} as number {i}") from error
