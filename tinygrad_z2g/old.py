"""Spellings of older torch code, each with what is said today. They mean the same here as they do in torch.

- `Variable(x)`: before torch 0.4 a tensor had no history, and was wrapped to get one. Today it has: x itself.
- `FloatTensor([1, 2])`, `LongTensor(3)`, `cuda.FloatTensor`: a class for each dtype, on the CPU and on a GPU. Today
  `tensor([1, 2], dtype=float32)`, `empty(3, dtype=int64)`, `device="cuda"`. `x.type()` still answers with their names.
- `x.new(2, 3)`, `x.nelement()`, `x.ndimension()`, `x.resize_(...)`, `x.volatile`: `x.new_empty(2, 3)`, `x.numel()`,
  `x.dim()`, `x.reshape(...)`, `no_grad()`.
- `range(1, 3)`, with its end: `arange(1, 3 + 1)`.
- Pickles of this package's own past name `tinygrad_z2g.size` and `backend`, which stand in `arrays/` now.

It knows nothing of operations; everything here leads to something newer.
"""

from __future__ import annotations

import math
import sys
import warnings
from typing import Any

import numpy as np

from .arrays import backend, dtypes, size
from .ops.common import given, sizes
from .tensor import Tensor

for _name, _moved in {"backend": backend, "size": size}.items():  # a pickled Device, Size or distribution asks for them
    sys.modules[f"{__package__}.{_name}"] = _moved


class _Kind(type):
    """The class of a class such as FloatTensor: called, it makes a tensor; tensors of its dtype are its instances."""

    dtype: np.dtype
    is_cuda: bool

    def __call__(cls, *data: Any, device: Any = None) -> Tensor:
        home = backend.resolve(device or ("cuda" if cls.is_cuda else "cpu"))
        return Tensor.make(backend.to_device(given(data, cls.dtype, cls.__name__), home))

    def __instancecheck__(cls, x: object) -> bool:
        return isinstance(x, Tensor) and x.dtype == cls.dtype and cls.is_cuda == (x.device.type == "cuda")


_NAMES: dict[str, np.dtype] = {
    "Half": dtypes.float16, "Float": dtypes.float32, "Double": dtypes.float64, "Byte": dtypes.uint8,
    "Char": dtypes.int8, "Short": dtypes.int16, "Int": dtypes.int32, "Long": dtypes.int64, "Bool": dtypes.bool_,
}  # fmt: skip


def _kind(name: str, is_cuda: bool) -> Any:
    said = f"Tensors of {_NAMES[name]} on {'a GPU' if is_cuda else 'the CPU'}: of data, or of sizes. Today: tensor()."
    return _Kind(f"{name}Tensor", (), {"__doc__": said, "dtype": _NAMES[name], "is_cuda": is_cuda})


FloatTensor, DoubleTensor, HalfTensor = (_kind(name, False) for name in ("Float", "Double", "Half"))
ByteTensor, CharTensor, ShortTensor = (_kind(name, False) for name in ("Byte", "Char", "Short"))
IntTensor, LongTensor, BoolTensor = (_kind(name, False) for name in ("Int", "Long", "Bool"))
ON_CUDA = {f"{name}Tensor": _kind(name, True) for name in _NAMES}  # offered by `cuda`


class _Wrapper(type):
    """The class of Variable: every tensor is an instance of it."""

    def __instancecheck__(cls, x: object) -> bool:
        return isinstance(x, Tensor)

    def __call__(cls, data: Tensor | None = None, requires_grad: bool = False, volatile: bool = False) -> Tensor:
        if volatile:
            warnings.warn("Variable: volatile has no effect; use `with no_grad():` instead", stacklevel=2)
        if data is None:
            data = Tensor()
        if not isinstance(data, Tensor):
            raise TypeError(f"Variable: expected a Tensor, got {type(data).__name__}")
        return data.detach().requires_grad_(requires_grad)


class Variable(metaclass=_Wrapper):
    """`Variable(x, requires_grad=False)`: a tensor on the same memory, without history. Today: x itself."""


def range(
    start: float = 0, end: float | None = None, step: float = 1, *, dtype: Any = None, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """start, start + step, ..., `end` included, in the default dtype. Today: `arange`, which leaves the end out."""
    warnings.warn("range: is deprecated since it holds its end; use arange(start, end + step)", stacklevel=2)
    start, end = (0, start) if end is None else (start, end)
    if step == 0 or (end - start) * step < 0:
        raise RuntimeError(f"range: from {start} to {end} by {step}: step must be nonzero and lead from start to end")
    kind = dtypes.get_default_dtype() if dtype is None else dtypes.as_dtype(dtype)
    numbers = (start + np.arange(math.floor((end - start) / step) + 1) * step).astype(kind)
    return Tensor.make(backend.to_device(numbers, backend.resolve(device))).requires_grad_(requires_grad)


def set_default_tensor_type(t: Any) -> None:
    """`set_default_tensor_type(DoubleTensor)`, or its name. Today: `set_default_dtype`, `set_default_device`."""
    dtype, place = _named(t) if isinstance(t, str) else (t.dtype, "cuda" if t.is_cuda else "cpu")
    dtypes.set_default_dtype(dtype)
    backend.set_default_device(place)


def _named(name: str) -> tuple[np.dtype, str]:
    """The dtype and the device that "torch.cuda.FloatTensor" names."""
    *where, last = name.split(".")
    if last.removesuffix("Tensor") not in _NAMES or not last.endswith("Tensor"):
        raise ValueError(f"type: got {name!r}, expected a name such as 'torch.FloatTensor' or 'torch.cuda.LongTensor'")
    return _NAMES[last.removesuffix("Tensor")], "cuda" if "cuda" in where else "cpu"


# --- Methods -----------------------------------------------------------------------------------------------------


def type_(self: Tensor, dtype: Any = None, non_blocking: bool = False) -> Any:
    """In another dtype: `x.type(float64)`, `x.type(DoubleTensor)`, `x.type("torch.DoubleTensor")`; the last two name a
    device too. Without one, the name of the type that x has, "torch.FloatTensor". Today: `x.to(...)`, `x.dtype`."""
    if dtype is None:
        name = next(name for name, kind in _NAMES.items() if kind == self.dtype)
        return f"torch.{'cuda.' if self.device.type == 'cuda' else ''}{name}Tensor"
    if isinstance(dtype, str) and dtype.endswith("Tensor"):
        kind, place = _named(dtype)
        return self.to(place, kind)
    if isinstance(dtype, _Kind):
        return self.to("cuda" if dtype.is_cuda else "cpu", dtype.dtype)
    return self.to(dtype=dtype)


def new(self: Tensor, *data: Any, device: Any = None) -> Tensor:
    """`x.new(2, 3)`, `x.new([1, 2])`: of x's dtype, where x is. Today: `new_empty(2, 3)`, `new_tensor(...)`."""
    home = self.device if device is None else backend.resolve(device)
    return Tensor.make(backend.to_device(given(data, self.dtype, "new"), home))


def nelement(self: Tensor) -> int:
    """The number of elements. Today: `x.numel()`."""
    return self.numel()


def ndimension(self: Tensor) -> int:
    """The number of dimensions. Today: `x.dim()`."""
    return self.dim()


def resize_(self: Tensor, *args: Any) -> Tensor:
    """x itself in another shape: its numbers in their order as far as they go, then zeros (in torch, stray memory).
    RuntimeError where gradients are wanted, or where x does not lie in memory in one piece. Today: `x.reshape(...)`."""
    shape = sizes(args, "resize_")
    if self.requires_grad:
        raise RuntimeError("resize_: a tensor that requires grad cannot be resized; use reshape, or detach() it first")
    if not self.is_contiguous():
        raise RuntimeError("resize_: expected a contiguous tensor; use reshape, or contiguous() before")
    flat, n = self.array.reshape(-1), math.prod(shape)
    if n > len(flat):
        larger = backend.of(flat).zeros(n, flat.dtype)
        larger[: len(flat)] = flat
        flat = larger
        self.base = None
    self.array = flat[:n].reshape(shape)
    return self


def resize_as_(self: Tensor, the_template: Tensor) -> Tensor:
    """`resize_` to the shape of another tensor."""
    return resize_(self, the_template.shape)


def volatile(self: Tensor) -> bool:
    """Always False: `volatile` was the name of what `no_grad()` does."""
    return False


type_.__name__ = "type"
Tensor.type, Tensor.new, Tensor.nelement, Tensor.ndimension = type_, new, nelement, ndimension
Tensor.resize_, Tensor.resize_as_, Tensor.volatile = resize_, resize_as_, property(volatile)
