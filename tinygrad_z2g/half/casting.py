"""The casts of mixed precision, each recorded like any other operation."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import dtypes
from ..arrays.layout import laid_out
from ..core.engine import Variable, record, unchanged
from . import precision


def cast(x: Variable, dtype: np.dtype) -> Any:
    """z = x, rounded to `dtype`.   dz/dx = 1; the engine turns the gradient back into x's own dtype, as for `to`."""
    return record("to", laid_out(dtypes.rounded(x.array, dtype), x.array), (x, unchanged))


def half_for(x: Any) -> np.dtype | None:
    """The half type in which products with x shall be computed; None where autocast is off, or x is not concerned."""
    if not isinstance(x, Variable) or x.array.dtype not in (dtypes.float16, dtypes.float32):
        return None
    return precision.half_type("cpu" if isinstance(x.array, np.ndarray) else "cuda")


def to_half(*operands: Any) -> tuple:
    """The operands, tensors of float32 in half precision."""

    def low(x: Any) -> Any:
        if isinstance(x, (list, tuple)):  # `einsum` takes its operands so, too
            return to_half(*x)
        half = half_for(x)
        return x if half is None or x.array.dtype == half else cast(x, half)

    return tuple(map(low, operands))


def to_float32(*operands: Any) -> tuple:
    """The operands, tensors in half precision as float32."""
    return tuple(
        cast(x, dtypes.float32) if half_for(x) is not None and x.array.dtype == dtypes.float16 else x for x in operands
    )


def to_widest(*operands: Any) -> tuple:
    """The operands, all as float32 if one of them is."""
    mixed = any(half_for(x) is not None and x.array.dtype == dtypes.float32 for x in operands)
    return to_float32(*operands) if mixed else operands


def refuse(*operands: Any) -> tuple:
    """RuntimeError where autocast concerns the first operand: `binary_cross_entropy`, as in torch."""
    if operands and half_for(operands[0]) is not None:
        raise RuntimeError(
            "binary_cross_entropy: unsafe in autocast: half precision has no probabilities between 0.9995 and 1; use "
            "binary_cross_entropy_with_logits, which takes scores, or autocast(..., enabled=False) and float32"
        )
    return operands
