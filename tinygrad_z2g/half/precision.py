"""Which type products are computed in: the state behind `autocast`, for each thread and each kind of device.

Half precision (float16) is fast on a card and takes half of the memory, but has 11 bits of mantissa and ends at
65,504. Mixed precision computes each operation in the type that it bears: products, which are most of the work, in
half precision; exponentials, sums and losses in float32; and the weights stay float32, so that small steps are not
rounded away. (Micikevicius et al. 2018, arXiv:1710.03740)

Here is only what was chosen; `half/table.py` does what follows from it.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from ..arrays import dtypes

_F = TypeVar("_F", bound=Callable[..., Any])

blocks = 0  # how many `autocast` blocks are open, in all threads together: where it is 0, operations look no further
_counting = threading.Lock()


class _Choice(threading.local):
    """The half type of each kind of device, or None; each thread starts with none."""

    def __init__(self) -> None:
        self.half: dict[str, np.dtype | None] = {"cpu": None, "cuda": None}
        self.outer: list[dict[str, np.dtype | None]] = []


_choice = _Choice()


def half_type(kind: str) -> np.dtype | None:
    """What `autocast` chose for this kind of device, "cpu" or "cuda", in this thread; None outside of it."""
    return _choice.half[kind]


class _Block:
    """A context that replaces the choice by another and puts it back, also when nested, reused or left by an error."""

    def _chosen(self) -> dict[str, np.dtype | None]:
        raise NotImplementedError

    def __enter__(self) -> None:
        global blocks
        chosen = self._chosen()
        with _counting:
            blocks += 1
        _choice.outer.append(_choice.half)
        _choice.half = chosen

    def __exit__(self, *exc_info: object) -> None:
        global blocks
        _choice.half = _choice.outer.pop()
        with _counting:
            blocks -= 1


class autocast(_Block):
    """Mixed precision inside: `with autocast("cuda"): loss = model(x, y)[1]`, or `@autocast("cuda")`. As torch's.

    Products (matmul, mm, bmm, mv, einsum, linear, conv, attention, LSTM) round float32 operands to `dtype` and give
    `dtype`; exponentials, logarithms, powers, sums, norms, softmax, layer norm and losses turn `dtype` into float32;
    `dot`, `tensordot` and `scatter_add` take the widest type of their operands; everything else takes what it gets.
    float64 and integers are left alone, and so are in-place operations' results. A cast is an operation like others, so
    the gradient of a float32 parameter is float32. Only the forward pass and the loss belong inside: backward runs in
    the types of forward. For small gradients see `amp.GradScaler`.

    device_type: "cpu" or "cuda", whose tensors are meant. dtype: float16, the only one offered; on "cuda" also by
    default. (torch's default on the CPU is bfloat16, which NumPy lacks: there it must be given.) `enabled=False`
    switches an outer block off. RuntimeError for another device, TypeError for a missing dtype or another one.
    """

    def __init__(self, device_type: str, dtype: Any = None, enabled: bool = True):
        if device_type not in ("cpu", "cuda"):
            raise RuntimeError(f"autocast: got device_type {device_type!r}, expected 'cpu' or 'cuda', without number")
        self.device_type, self.enabled = device_type, bool(enabled)
        self.dtype = _checked(device_type, dtype) if self.enabled else None

    def _chosen(self) -> dict[str, np.dtype | None]:
        return {**_choice.half, self.device_type: self.dtype}

    def __call__(self, function: _F) -> _F:
        @functools.wraps(function)
        def inside(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        return inside  # type: ignore[return-value]  # of the same signature


class paused(_Block):
    """No casts inside: what an operation is composed of runs in the types that the operation itself has chosen."""

    def _chosen(self) -> dict[str, np.dtype | None]:
        return {"cpu": None, "cuda": None}


def _checked(device_type: str, dtype: Any) -> np.dtype:
    if dtype is None:
        if device_type == "cuda":
            return dtypes.float16
        raise TypeError(
            "autocast: on 'cpu' torch's default is bfloat16, which is not offered; give dtype=float16 explicitly"
        )
    if str(dtype).endswith("bfloat16"):
        raise TypeError("autocast: bfloat16 is not offered, as NumPy lacks it; use dtype=float16 with amp.GradScaler")
    if dtypes.as_dtype(dtype) != dtypes.float16:
        raise TypeError(f"autocast: got dtype {dtype}, expected float16; enabled=False computes in float32")
    return dtypes.float16
