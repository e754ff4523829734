"""What may be wrong with dtypes, shapes, dims and ids, said with what was expected."""

from __future__ import annotations

import functools
import math
import numbers
import operator
from typing import Any

import numpy as np

from . import dtypes
from .backend import Array, device_of, to_device


def check_hook(hook: Any, name: str) -> None:
    """Raise TypeError if `hook` cannot be called: now, and not in the middle of a training step."""
    if not callable(hook):
        raise TypeError(f"{name}: expected a function, got {type(hook).__name__}; name the function, do not call it")


def check_floating(array: Array, name: str) -> None:
    """NotImplementedError, a RuntimeError as in torch, for integers and bools."""
    if array.dtype.kind != "f":
        hint = "convert first: x.float()"
        raise NotImplementedError(f"{name}: expected floating-point numbers, got {array.dtype}; {hint}")


def check_broadcast(a: tuple, b: tuple, name: str) -> None:
    """Raise RuntimeError unless shapes `a` and `b` broadcast: equal, or 1, or absent, counted from the right."""
    if a == b:
        return
    for m, n in zip(reversed(a), reversed(b)):  # noqa: B905 - the shorter one ends the comparison
        if m != n and m != 1 and n != 1:
            raise RuntimeError(
                f"{name}: shapes {tuple(a)} and {tuple(b)} do not broadcast: sizes {m} and {n} differ; "
                "aligned from the right, sizes must be equal or 1"
            )


def operand(x: Any, like: Array, name: str) -> Any:
    """What stands beside a tensor and is none, as a Python number, or as an array where `like` is."""
    if type(x) is float or type(x) is int:  # the usual case
        return x
    if isinstance(x, np.ndarray) and x.dtype in dtypes.ALL:
        return to_device(x.copy(), device_of(like))  # a rule may read it later, and nobody counts its owner's writes
    x = x.item() if isinstance(x, np.generic) else x  # np.float64(2) is no reason to compute in float64
    if isinstance(x, numbers.Real):
        return x if isinstance(x, (float, int)) else float(x)
    raise TypeError(f"{name}: expected a Tensor or a number, got {type(x).__name__}; make a tensor with tensor(...)")


def together(a: Any, b: Any, name: str, floating: bool) -> tuple[Any, Any]:
    """Two operands, arrays or numbers, in the dtype of a + b, or of a / b if `floating`. They must broadcast, and live
    on one device; but a 0-d array is uploaded."""
    kind: Any = getattr(a, "dtype", None)
    other: Any = getattr(b, "dtype", None)
    if kind is None or other is None:
        kind = other = other if kind is None else kind
    else:
        if a.device != b.device:
            a = to_device(a, device_of(b)) if isinstance(a, np.ndarray) and not a.ndim else a
            b = to_device(b, device_of(a)) if isinstance(b, np.ndarray) and not b.ndim else b
            one_device(name, a, b)
        if a.shape != b.shape:
            check_broadcast(a.shape, b.shape, name)
    if kind is other and kind.kind == "f":  # the usual case
        return a, b
    dtype = dtypes.result_type(a, b)
    if floating and dtype.kind != "f":
        dtype = dtypes.get_default_dtype()
    a = a if getattr(a, "dtype", dtype) is dtype else a.astype(dtype, copy=False)
    return a, b if getattr(b, "dtype", dtype) is dtype else b.astype(dtype, copy=False)


def fits(shape: tuple, into: tuple) -> bool:
    """Whether `shape` broadcasts to `into`, without stretching it."""
    return len(shape) <= len(into) and all(m in (1, n) for m, n in zip(shape[::-1], into[::-1], strict=False))


def one_device(name: str, first: Array, *arrays: Array | None) -> None:
    """RuntimeError unless all given arrays live on one device."""
    for a in arrays:
        if a is not None and a.device != first.device:
            places = f"got {device_of(first)} and {device_of(a)}; move one with .to(...)"
            raise RuntimeError(f"{name}: expected all tensors on one device, {places}")


def listed(tensors: Any, name: str) -> Any:
    """A list or tuple. TypeError for others."""
    if not isinstance(tensors, (list, tuple)):
        raise TypeError(f"{name}: expected a list or tuple of Tensors, got {type(tensors).__name__}")
    return tensors


def joinable(arrays: list[Array], name: str) -> list[Array]:
    """A non-empty list of arrays, in one dtype, on one device."""
    if not arrays:
        raise (ValueError if name == "cat" else RuntimeError)(f"{name}: expected a non-empty list of Tensors")
    one_device(name, *arrays)
    kinds = {a.dtype for a in arrays}
    if len(kinds) == 1:
        return arrays
    dtype = functools.reduce(dtypes.promote, kinds)
    return [a.astype(dtype, copy=False) for a in arrays]


def seam(arrays: list[Array], dim: Any) -> int:
    """The dimension along which `cat` joins them. As in torch, an empty vector joins anything."""
    parts = [a for a in arrays if a.shape != (0,)] or arrays[:1]
    first = parts[0]
    if not first.ndim:
        raise RuntimeError("cat: 0-d tensors cannot be joined; see stack")
    axis = one_dim(dim, first.ndim, "cat")
    before, after = first.shape[:axis], first.shape[axis + 1 :]
    for a in parts:
        if a.ndim != first.ndim or a.shape[:axis] != before or a.shape[axis + 1 :] != after:
            shapes = f"{tuple(first.shape)} and {tuple(a.shape)}"
            raise RuntimeError(f"cat: shapes {shapes} must agree in every dimension except {axis}")
    return axis


def check_ids(ids: Array, n: int, name: str, what: str) -> None:
    """Raise IndexError unless every id is in 0..n-1. Only host arrays are looked at: a GPU would have to stop."""
    if isinstance(ids, np.ndarray) and ids.size and not 0 <= ids.min() <= ids.max() < n:
        bad = ids.min() if ids.min() < 0 else ids.max()
        raise IndexError(f"{name}: {what} {bad} is out of range, expected 0 to {n - 1}")


def number(value: Any, name: str) -> Any:
    """A setting, such as an eps, as a Python number. A NumPy number or a 0-d tensor counts as what it holds:
    np.float64(0.1) * x would be float64. TypeError for all else."""
    if type(value) is float or type(value) is int:  # the usual case
        return value
    value = value.item() if getattr(value, "ndim", 1) == 0 and hasattr(value, "item") else value
    if isinstance(value, numbers.Real):
        return value if isinstance(value, (int, float)) else float(value)
    raise TypeError(f"{name}: expected a number, got {type(value).__name__}")


def as_int(value: Any, name: str) -> int:
    """A whole number given as int, NumPy integer or 0-d integer tensor. Raises TypeError for others."""
    try:
        if not isinstance(value, bool):
            return operator.index(value)
    except TypeError:
        pass
    raise TypeError(f"{name}: expected an int, got {type(value).__name__}")


def one_dim(dim: Any, ndim: int, name: str) -> int:
    """`dim` counted from the front. Raises IndexError if it is out of range; a 0-d tensor accepts 0 and -1."""
    if type(dim) is not int:  # the usual case needs no message to be prepared
        dim = as_int(dim, f"{name}: dim")
    bound = max(ndim, 1)
    if not -bound <= dim < bound:
        raise IndexError(f"{name}: dim {dim} is out of range for {ndim} dimensions, expected {-bound} to {bound - 1}")
    return dim % bound


def many_dims(dim: Any, ndim: int, name: str) -> tuple[int, ...]:
    """The dims that a reduction runs over, counted from the front; None or () means all. No dim twice."""
    if dim is None or (isinstance(dim, (tuple, list)) and len(dim) == 0):
        return tuple(range(ndim))
    dim = dim if isinstance(dim, (tuple, list)) else (dim,)
    dims = tuple(one_dim(d, ndim, name) for d in dim)
    if len(set(dims)) != len(dims):
        raise RuntimeError(f"{name}: dim {tuple(dim)} names one dimension twice")
    return dims if ndim else ()


def sizes(shape: tuple, name: str, named: Any = None) -> tuple[int, ...]:
    """Sizes or dims given as `f(2, 3)`, as `f((2, 3))`, or by name (`named`) as `f(shape=(2, 3))`."""
    if named is not None:
        if shape:
            raise TypeError(f"{name}: got sizes or dims both by position, {shape}, and by name, {named}")
        shape = (named,)
    if len(shape) == 1 and isinstance(shape[0], (tuple, list)):
        shape = tuple(shape[0])
    return tuple([n if type(n) is int else as_int(n, f"{name}: size") for n in shape])


def full_shape(a: Any, shape: tuple[int, ...], name: str) -> tuple[int, ...]:
    """`shape` with its -1 filled in. Raises RuntimeError unless it holds exactly the elements of `a`."""
    if shape and min(shape) >= 0 and math.prod(shape) == a.size:  # the usual case
        return shape
    known, free = math.prod(n for n in shape if n != -1), shape.count(-1)
    valid = free <= 1 and all(n >= -1 for n in shape)
    if valid and free and known and a.size % known == 0:
        return tuple(a.size // known if n == -1 else n for n in shape)
    if not valid or free or known != a.size:
        raise RuntimeError(
            f"{name}: shape {list(shape)} is invalid for a tensor of shape {tuple(a.shape)}, {a.size} elements"
        )
    return shape


def check_numbers(x: Any, y: Any, name: str) -> None:
    """RuntimeError if one of the operands is bool, of which there is no difference, and no positive part."""
    for v in (x, y):
        if type(v) is bool or (hasattr(v, "dtype") and v.dtype.kind == "b"):
            if name == "sub":
                hint = "use ^ or logical_not, or convert to int"
                raise RuntimeError(f"sub: subtraction of bool tensors is not defined; {hint}")
            raise RuntimeError(f"{name}: got a bool tensor, expected numbers; convert it with .int()")


def gelu_is_exact(approximate: str) -> bool:
    """Which of its two forms is meant. RuntimeError for another word."""
    if approximate not in ("none", "tanh"):
        raise RuntimeError(f"gelu: approximate must be 'none' or 'tanh', got {approximate!r}")
    return approximate == "none"


def fillable(x: Array, mask: Array, value: Any) -> Any:
    """A value as an element of x, of which `mask` tells some. RuntimeError unless both suit x."""
    if mask.dtype.kind != "b":
        raise RuntimeError(f"masked_fill: expected a bool mask, got {mask.dtype}; compare it: mask == 0")
    one_device("masked_fill", x, mask)
    check_broadcast(x.shape, mask.shape, "masked_fill")
    value = number(value, "masked_fill: value")
    if x.dtype.kind == "f":
        return value
    try:
        return np.array(bool(value) if x.dtype.kind == "b" else int(value), x.dtype).item()  # 1.5 becomes 1
    except (OverflowError, ValueError) as error:
        raise RuntimeError(f"masked_fill: value {value} cannot be held by a tensor of {x.dtype}") from error


def check_averaged(x: Array) -> None:
    """RuntimeError for integers, whose mean is none."""
    if x.dtype.kind != "f":
        raise RuntimeError(f"mean: expected floating point, got {x.dtype}; convert first: x.float().mean()")


def check_index(index: Any) -> tuple:
    """An index of integers, slices, None and ..., as a tuple with a ..., for which x[0] of a vector is a view, too.
    IndexError for others."""
    items = index if isinstance(index, tuple) else (index,)
    for item in items:
        if isinstance(item, bool) or not isinstance(item, (int, slice, type(None), type(...))):
            raise IndexError(f"index: expected int, slice, None or ..., got {type(item).__name__}")
    return items if ... in items else (*items, ...)


def size_of(a: Array, dim: Any, name: str) -> tuple[int, int]:
    """The size of dimension `dim`, and that dimension counted from the front."""
    if not a.ndim:
        raise RuntimeError(f"{name}: expected at least 1 dimension, got a 0-d tensor")
    axis = one_dim(dim, a.ndim, name)
    return a.shape[axis], axis


def lengths_of(a: Array, size_or_sizes: Any, dim: Any) -> tuple[list[int], int]:
    """The lengths into which `split` cuts dimension `dim`, and that dimension."""
    n, axis = size_of(a, dim, "split")
    if isinstance(size_or_sizes, (list, tuple)):
        lengths = [as_int(m, "split: size") for m in size_or_sizes]
        if sum(lengths) != n or any(m < 0 for m in lengths):
            raise RuntimeError(f"split: sizes {lengths} must be >= 0 and sum to {n}, the size of dim {dim}")
        return lengths, axis
    step = as_int(size_or_sizes, "split: split_size")
    if step < 0 or (step == 0 and n):
        raise RuntimeError(f"split: split_size must be positive, got {step}")
    return [min(step, n - start) for start in range(0, n, step)] if n else [0], axis


def check_product(x: Array, y: Array) -> None:
    """RuntimeError unless x @ y can be computed."""
    shapes = f"matmul: {tuple(x.shape)} @ {tuple(y.shape)}"
    same_dtype("matmul", x, y)
    if not x.ndim or not y.ndim:
        raise RuntimeError(f"{shapes}: both need at least 1 dimension; see mul")
    inner = y.shape[-2] if y.ndim > 1 else y.shape[0]
    if x.shape[-1] != inner:
        raise RuntimeError(f"{shapes}: inner sizes {x.shape[-1]} and {inner} differ")
    check_broadcast(x.shape[:-2], y.shape[:-2], "matmul: batch")


def check_linear(x: Array, W: Array, b: Array | None) -> None:
    """RuntimeError unless x Wᵀ + b can be computed."""
    same_dtype("linear", x, W)
    if W.ndim != 2 or not x.ndim or x.shape[-1] != W.shape[1]:
        shapes = f"input {tuple(x.shape)} and weight {tuple(W.shape)}"
        raise RuntimeError(f"linear: {shapes}: expected (..., in) and (out, in)")
    if b is not None and (b.shape != W.shape[:1] or b.dtype != x.dtype):
        raise RuntimeError(f"linear: bias {tuple(b.shape)} of {b.dtype}, expected {tuple(W.shape[:1])} of {x.dtype}")


def same_dtype(name: str, x: Array, y: Array) -> None:
    """RuntimeError unless both are of one dtype."""
    if x.dtype != y.dtype:
        kinds = f"{x.dtype} and {y.dtype}; convert one with .to(dtype)"
        raise RuntimeError(f"{name}: expected both of one dtype, got {kinds}")


def check_table(ids: Array, table: Array) -> None:
    """Raise unless the ids name rows of the table."""
    if ids.dtype.kind not in "iu":
        raise RuntimeError(f"embedding: expected integer ids, got {ids.dtype}")
    if table.ndim != 2:
        raise RuntimeError(f"embedding: weight must be a matrix (V, C), got shape {tuple(table.shape)}")
    check_ids(ids, len(table), "embedding", "id")


def check_scores(x: Array, ids: Array) -> None:
    """Raise unless x are scores (N, C), ids integers (N,)."""
    if x.dtype.kind != "f" or x.ndim != 2 or ids.shape != x.shape[:1] or ids.dtype.kind not in "iu":
        check_floating(x, "cross_entropy")
        got = f"{tuple(x.shape)}, and {tuple(ids.shape)} of {ids.dtype}"
        raise RuntimeError(f"cross_entropy: expected scores (N, C) and integer targets (N,), got {got}")


def normalized(x: Array, shape: Any, w: Array | None, b: Array | None) -> tuple[int, ...]:
    """The dimensions that layer_norm normalises, those of `shape` at the end of x. RuntimeError if there are none such,
    or if weight and bias have another shape."""
    check_floating(x, "layer_norm")
    shape = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
    if not shape or x.shape[-len(shape) :] != shape:
        raise RuntimeError(f"layer_norm: input {tuple(x.shape)} does not end in normalized_shape {shape}")
    for name, p in (("weight", w), ("bias", b)):
        if p is not None and (p.shape != shape or p.dtype != x.dtype):
            got = f"{name} has shape {tuple(p.shape)} and dtype {p.dtype}"
            raise RuntimeError(f"layer_norm: {got}, expected {shape} and {x.dtype}")
    return tuple(range(x.ndim - len(shape), x.ndim))


def probability(p: Any, setting: str) -> float:
    """p, a number between 0 and 1, given as `setting`, "dropout: p" say. ValueError for others."""
    p = number(p, setting)
    if not 0 <= p <= 1:
        raise ValueError(f"{setting.partition(':')[0]}: probability has to be between 0 and 1, got {p}")
    return p


def attention(q: Array, k: Array, v: Array, mask: Array | None, scale: Any, dropout_p: Any) -> tuple[float, float]:
    """What scores q kᵀ are multiplied by, and the share to drop. Raise unless shapes and dtypes suit each other."""
    name = "scaled_dot_product_attention"
    if min(q.ndim, k.ndim, v.ndim) < 2 or q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        shapes = f"query {tuple(q.shape)}, key {tuple(k.shape)}, value {tuple(v.shape)}"
        raise RuntimeError(f"{name}: {shapes}: expected (..., T, d), (..., S, d), (..., S, e)")
    if not q.dtype == k.dtype == v.dtype:
        raise RuntimeError(f"{name}: query, key, value are {q.dtype}, {k.dtype}, {v.dtype}; expected one")
    if mask is not None:
        scores = (*np.broadcast_shapes(q.shape[:-2], k.shape[:-2]), q.shape[-2], k.shape[-2])
        if not fits(mask.shape, scores):
            got = f"attn_mask has shape {tuple(mask.shape)}"
            raise RuntimeError(f"{name}: {got}, expected one that broadcasts to the scores, {scores}")
        if mask.dtype.kind != "b" and mask.dtype not in (q.dtype, np.float32):
            raise RuntimeError(f"{name}: attn_mask must be bool or {q.dtype}, got {mask.dtype}")
    scale = 1 / math.sqrt(max(q.shape[-1], 1)) if scale is None else number(scale, "attention: scale")
    return scale, probability(dropout_p, f"{name}: dropout_p")
