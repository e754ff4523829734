"""Small questions under torch's names: of tensors, of dtypes, of this machine."""

from __future__ import annotations

from typing import Any

import numpy as np

from .arrays import dtypes
from .arrays.size import Size
from .ops.common import as_array
from .tensor import Tensor


def is_tensor(obj: object) -> bool:
    """Whether obj is a Tensor."""
    return isinstance(obj, Tensor)


def is_storage(obj: object) -> bool:
    """False: memory without a shape is no object of its own here."""
    return False


def is_floating_point(input: Tensor) -> bool:
    """Whether the elements are floating-point numbers."""
    return as_array(input, "is_floating_point").dtype.kind == "f"


def is_complex(input: Tensor) -> bool:
    """False: there are no complex numbers here."""
    return as_array(input, "is_complex").dtype.kind == "c"


def is_nonzero(input: Tensor) -> bool:
    """Whether the one element is not 0."""
    return bool(input)


def numel(input: Tensor) -> int:
    """The number of elements."""
    return int(as_array(input, "numel").size)


def clone(input: Tensor) -> Tensor:
    """A copy with memory of its own, through which gradients pass: `x.clone()`."""
    return input.clone()


def detach(input: Tensor) -> Tensor:
    """The same memory without history: `x.detach()`."""
    return input.detach()


def positive(input: Tensor) -> Tensor:
    """x itself: +x."""
    return input


def broadcast_shapes(*shapes: Any) -> Size:
    """The shape that these broadcast to. RuntimeError if there is none."""
    try:
        return Size(np.broadcast_shapes(*shapes))
    except ValueError as error:
        raise RuntimeError(f"broadcast_shapes: {', '.join(map(str, shapes))} do not broadcast") from error


def typename(obj: Any) -> str:
    """The name of a tensor's type, as torch has it; of other things the name of their class."""
    return obj.type() if isinstance(obj, Tensor) else f"{type(obj).__module__}.{type(obj).__qualname__}"


def result_type(tensor1: Any, tensor2: Any) -> np.dtype:
    """The dtype of an operation on two tensors or numbers."""
    a, b = (x.array if isinstance(x, Tensor) else np.asarray(x) for x in (tensor1, tensor2))
    if isinstance(tensor1, float) or isinstance(tensor2, float):  # a Python number never widens
        default, pairs = dtypes.get_default_dtype(), ((a, tensor1), (b, tensor2))
        a, b = (x.astype(default) if type(t) is float else x for x, t in pairs)
    return dtypes.result_type(a, b)


def promote_types(type1: Any, type2: Any) -> np.dtype:
    """The dtype that holds both."""
    return dtypes.promote(dtypes.as_dtype(type1), dtypes.as_dtype(type2))


def can_cast(from_: Any, to: Any) -> bool:
    """Whether a result of dtype `from_` may be written in place into a tensor of dtype `to`."""
    order = dtypes.CATEGORY
    return order[dtypes.as_dtype(from_).kind] <= order[dtypes.as_dtype(to).kind]


class finfo:
    """The limits of a floating-point dtype (the default one): bits, eps, min, max, tiny, resolution, dtype."""

    def __init__(self, type: Any = None):
        dtype = dtypes.get_default_dtype() if type is None else dtypes.as_dtype(type)
        if dtype.kind != "f":
            raise TypeError(f"finfo: got {dtype}, expected a floating-point dtype; see iinfo")
        found = np.finfo(dtype)
        self.bits, self.dtype = found.bits, str(dtype)
        self.eps, self.min, self.max = float(found.eps), float(found.min), float(found.max)
        self.tiny = self.smallest_normal = float(found.tiny)
        self.resolution = float(found.resolution)

    def __repr__(self) -> str:
        parts = ("resolution", "min", "max", "eps", "smallest_normal", "tiny", "dtype")
        return "finfo(" + ", ".join(f"{name}={getattr(self, name)}" for name in parts) + ")"


class iinfo:
    """The limits of an integer dtype: bits, min, max, dtype."""

    def __init__(self, type: Any):
        dtype = dtypes.as_dtype(type)
        if dtype.kind not in "iu":
            raise TypeError(f"iinfo: got {dtype}, expected an integer dtype; see finfo")
        found = np.iinfo(dtype)
        self.bits, self.min, self.max, self.dtype = found.bits, int(found.min), int(found.max), str(dtype)

    def __repr__(self) -> str:
        return f"iinfo(min={self.min}, max={self.max}, dtype={self.dtype})"


_deterministic = False


def use_deterministic_algorithms(mode: bool, *, warn_only: bool = False) -> None:
    """Accepted, and remembered. On the CPU every result here is the same each time; on a GPU gradients of repeated
    indices are added in no fixed order, and this does not change it."""
    global _deterministic
    _deterministic = bool(mode)


def are_deterministic_algorithms_enabled() -> bool:
    """What `use_deterministic_algorithms` was told last."""
    return _deterministic


_precision = "highest"


def set_float32_matmul_precision(precision: str) -> None:
    """Accepted, and remembered: "highest", "high" or "medium". Products of float32 are computed in float32 here."""
    global _precision
    if precision not in ("highest", "high", "medium"):
        raise ValueError(f"set_float32_matmul_precision: got {precision!r}, expected 'highest', 'high' or 'medium'")
    _precision = precision


def get_float32_matmul_precision() -> str:
    """What `set_float32_matmul_precision` was told last."""
    return _precision


def compile(model: Any = None, **settings: Any) -> Any:
    """The model or function itself: there is no compiler here, and none is needed for the same results.

    torch.compile changes how fast a model runs, not what it computes, so code that asks for it runs as it is. For a GPU
    see `cuda.compile_step`, for loops on the CPU the extra `fast`. Also as a decorator, with or without settings.
    """
    if model is None:
        return lambda function: function
    if not callable(model):
        raise TypeError(f"compile: expected a module or a function, got {type(model).__name__}")
    return model
