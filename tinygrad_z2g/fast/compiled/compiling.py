"""How the loops of this folder are compiled.

A loop is a plain function over rows: `loop(start, stop, *arrays)` computes the rows start..stop-1, so that threads can
share one (see `jit`): compiled code does not hold Python's lock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

_SETTINGS = {"nogil": True, "error_model": "numpy"}  # division by 0 gives inf or NaN, as NumPy's does


def _compiled(fastmath: set[str]) -> Callable[[Callable], Any]:
    def compile_it(function: Callable) -> Any:
        try:
            return njit(cache=True, fastmath=fastmath, **_SETTINGS)(function)
        except RuntimeError:  # no place to keep compiled code: compile in each process
            return njit(fastmath=fastmath, **_SETTINGS)(function)

    return compile_it


# "contract" lets a product and a sum become one instruction. Where a sum over a row must be computed in several parts
# at a time, "reassoc" allows that; it would also remove the rounding trick in `mathematics.exp`. No flag that assumes
# away NaN or infinity is ever set.
loop = _compiled({"contract"})
summing = _compiled({"contract", "reassoc", "nsz"})


@loop
def probe(x):
    """The smallest loop."""
    return x + 1


def cache_folder() -> str | None:
    """Where compiled code is kept; None if nowhere."""
    return probe.stats.cache_path
