"""How the loops of this folder are compiled.

A loop is a plain function over rows: `loop(start, stop, *arrays)` computes the rows start..stop-1, so that threads can
share one (see `jit`): compiled code does not hold Python's lock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import binding
from numba import cfunc, int64, njit, types
from numba.extending import intrinsic

_SETTINGS = {"nogil": True, "error_model": "numpy"}  # division by 0 gives inf or NaN, as NumPy's does


def _compiled(fastmath: set[str], called: bool = False) -> Callable[[Callable], Any]:
    settings = {**_SETTINGS, "fastmath": fastmath, "no_cpython_wrapper": not called, "no_cfunc_wrapper": True}

    def compile_it(function: Callable) -> Any:
        try:
            return njit(cache=True, **settings)(function)
        except RuntimeError:  # no place to keep compiled code: compile in each process
            return njit(**settings)(function)

    return compile_it


# "contract" lets a product and a sum become one instruction. Where a sum over a row must be computed in several parts
# at a time, "reassoc" allows that; it would also remove the rounding trick in `mathematics.exp`. No flag that assumes
# away NaN or infinity is ever set.
loop = _compiled({"contract"})
summing = _compiled({"contract", "reassoc", "nsz"})

# What Python calls. It must call no other: these have no entrance for it, whose code would be a quarter of all.
called = _compiled({"contract"}, called=True)


@intrinsic
def widely(_):
    """The loop that says so first takes 16 numbers at a time, where the processor has registers for them.

    The compiler takes 8 unless told, as wide registers slow down old processors. Where much is computed for each number
    (eˣ and what is made of it) loops need a quarter less time; others wait for memory.
    """

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')  # llvmlite's own `add` knows only words
        return context.get_dummy_value()

    return types.void(), code


_waiting: list[Callable] = []
_apart: list[Any] = []  # the code behind the names


def apart(function: Callable) -> Any:
    """A loop of whole numbers (addresses, sizes) that is compiled once and called by its name, where other loops would
    become a part of each that calls them. The less another loop holds, the sooner it is compiled: see RESULTS.md."""
    _waiting.append(function)
    return types.ExternalFunction(_name(function), _kind(function))


def prepare() -> None:
    """Compile those: before any loop that calls them."""
    for function in _waiting:
        try:
            compiled = cfunc(_kind(function), cache=True, fastmath={"contract"})(function)
        except RuntimeError:  # as above
            compiled = cfunc(_kind(function), fastmath={"contract"})(function)
        binding.add_symbol(_name(function), compiled.address)
        _apart.append(compiled)
    _waiting.clear()


def _name(function: Callable) -> str:
    return f"{function.__module__}.{function.__name__}"  # some have one name in two modules


def _kind(function: Callable) -> Any:
    result = int64 if "return" in function.__annotations__ else types.void
    return result(*[int64] * function.__code__.co_argcount)


@called
def probe(x):
    """The smallest loop."""
    return x + 1


def cache_folder() -> str | None:
    """Where compiled code is kept; None if nowhere."""
    return probe.stats.cache_path
