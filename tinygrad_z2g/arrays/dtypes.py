"""Element types: their names, the default one, and what mixing two of them gives.

The names are torch's, the objects are NumPy's: `float32 = np.dtype("float32")`, which CuPy uses too. NumPy promotes
int64 with float32 to float64; torch, and therefore this file, to float32. It knows nothing of tensors, devices or
gradients: of an array it looks at the dtype and the number of dimensions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

float16 = half = np.dtype("float16")
float32 = np.dtype("float32")
float64 = double = np.dtype("float64")
int8 = np.dtype("int8")
int16 = np.dtype("int16")
int32 = np.dtype("int32")
int64 = long = np.dtype("int64")
uint8 = np.dtype("uint8")
bool_ = np.dtype("bool")



class Unavailable:
    """A dtype that torch has and this package has not: a name that programs may mention."""

    def __init__(self, name: str):
        self.name = name

    def __repr__(self) -> str:
        return self.name


bfloat16, complex64, complex128 = Unavailable("bfloat16"), Unavailable("complex64"), Unavailable("complex128")

ALL = (float16, float32, float64, int8, int16, int32, int64, uint8, bool_)
CATEGORY = {"b": 0, "u": 1, "i": 1, "f": 2}  # bool < integer < float, by numpy's `kind` letter

_default = float32


def get_default_dtype() -> np.dtype:
    """The dtype of new floating-point tensors: float32 unless `set_default_dtype` changed it."""
    return _default


def set_default_dtype(d: Any) -> None:
    """Make `d`, a floating-point one, the type of new tensors. Raises TypeError for others."""
    global _default
    if as_dtype(d).kind != "f":
        raise TypeError(f"set_default_dtype: got {d}, expected a floating-point dtype such as float32")
    _default = as_dtype(d)


def as_dtype(dtype: Any) -> np.dtype:
    """`dtype` (a dtype, `float`, `int`, `bool` or a name) as one we compute with. Raises TypeError for others."""
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = None
    if dtype is None or found is None or found not in ALL:  # NumPy takes None for float64, even in comparisons
        none = f"there is no {dtype!r} here; " if isinstance(dtype, Unavailable) else f"got {dtype!r}, "
        raise TypeError(f"dtype: {none}expected one of " + ", ".join(map(str, ALL)))
    return found


def rounded(a: Any, dtype: np.dtype) -> Any:
    """As `cast`. What is beyond the range of `dtype` becomes inf without a warning, as on a GPU: float16 ends early."""
    with np.errstate(over="ignore"):
        return cast(a, dtype)


def cast(a: Any, dtype: np.dtype) -> Any:
    """An array, or a tensor in a walk that is recorded, in `dtype`."""
    return a.astype(dtype) if hasattr(a, "astype") else a.to(dtype)


def promote(a: np.dtype, b: np.dtype) -> np.dtype:
    """The dtype that holds both: the higher category wins; within one category the wider type."""
    if CATEGORY[a.kind] == CATEGORY[b.kind]:
        return np.promote_types(a, b)
    return a if CATEGORY[a.kind] > CATEGORY[b.kind] else b


def result_type(a: Any, b: Any) -> np.dtype:
    """The dtype of an operation on arrays `a` and `b`, one of which may be a Python number.

    A 0-d array behaves like a scalar: it raises the category (int to float) but never the width within one. A Python
    number never widens an array: float32 + 0.1 is float32. A float meets integers in the default dtype.
    """
    if not hasattr(a, "dtype") or not hasattr(b, "dtype"):
        dtype, number = (a.dtype, b) if hasattr(a, "dtype") else (b.dtype, a)
        if dtype.kind != "f" and isinstance(number, float):
            return _default
        return int64 if dtype.kind == "b" and not isinstance(number, bool) else dtype
    if (a.ndim == 0) != (b.ndim == 0):
        scalar, other = (a, b) if a.ndim == 0 else (b, a)
        if CATEGORY[scalar.dtype.kind] <= CATEGORY[other.dtype.kind]:
            return other.dtype
        return scalar.dtype
    return promote(a.dtype, b.dtype)
