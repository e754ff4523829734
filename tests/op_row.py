"""What a row of the tables of operations is, and what their NumPy twins share. See `op_table`, `layer_table`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from strategies import Case


@dataclass(frozen=True)
class Op:
    """One operation.

    fn(*tensors, **kwargs)   what is tested; arrays among the keyword arguments arrive as tensors
    twin(*arrays, **kwargs)  the same in NumPy; a tuple where fn gives several tensors
    cases                    a strategy of `Case`
    covers                   the public functions that this row exercises, if fn is not itself one of them
    strided                  whether fn takes inputs of any memory layout (`view` may refuse them, as in torch)
    waits                    why this op may make the host wait for the GPU, if it may
    flat                     whether the gradient is 0 everywhere
    """

    name: str
    fn: Callable
    twin: Callable
    cases: st.SearchStrategy[Case]
    covers: tuple = ()
    strided: bool = True
    waits: str = ""

    def __repr__(self) -> str:
        return self.name


def quiet(twin: Callable) -> Callable:
    """The twin without NumPy's warnings about 0 / 0."""

    def silent(*args: Any, **kwargs: Any) -> Any:
        with np.errstate(all="ignore"):
            return twin(*args, **kwargs)

    return silent


@quiet
def reduce(losses: np.ndarray, reduction: str, total: Any = None) -> np.ndarray:
    if reduction == "none":
        return losses
    return losses.sum() / (1 if reduction == "sum" else losses.size if total is None else total)


reductions = st.sampled_from(["mean", "sum", "none"])


def axes(a: np.ndarray, dim: Any) -> Any:
    """`dim` as NumPy wants it: a 0-d array has no axis 0."""
    return () if not a.ndim else dim
