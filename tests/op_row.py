"""What a row of the table of operations is."""

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


def axes(a: np.ndarray, dim: Any) -> Any:
    """`dim` as NumPy wants it: a 0-d array has no axis 0."""
    return () if not a.ndim else dim
