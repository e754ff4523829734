"""What repeats itself in a long list, so that the first and the last of it can be told, and the rest counted."""

from __future__ import annotations

import bisect
from collections.abc import Hashable, Sequence
from typing import NamedTuple

MANY = 4  # so often must something follow itself: of fewer, telling two of them saves next to nothing


class Run(NamedTuple):
    """`times` times the same `length` entries, from `start` on; once, and one entry, where nothing repeats."""

    start: int
    length: int
    times: int


def runs(keys: Sequence[Hashable]) -> list[Run]:
    """The list cut into runs, from left to right the one that covers most: a b c b c b c b c d -> a, 4 × b c, d."""
    codes: dict[Hashable, int] = {}
    row = [codes.setdefault(key, len(codes)) for key in keys]
    places: dict[int, list[int]] = {}  # where each entry stands
    for place, code in enumerate(row):
        places.setdefault(code, []).append(place)
    found, start, n = [], 0, len(row)
    while start < n:
        best = Run(start, 1, 1)
        again = places[row[start]]
        for place in again[bisect.bisect(again, start) : bisect.bisect(again, start + (n - start) // MANY)]:
            length, same = place - start, 0  # how far the list agrees with itself, moved on by `length`
            while start + same + length < n and row[start + same] == row[start + same + length]:
                same += 1
            times = same // length + 1
            if times >= MANY and length * times > best.length * best.times:
                best = Run(start, length, times)
        found.append(best)
        start += best.length * best.times
    return found
