"""New tensors: from data, constant, in sequence, at random.

It knows nothing of graphs: a new tensor has no history. Nor of operations: it only fills memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from .arrays import backend, dtypes
from .arrays.backend import Array
from .arrays.random import Generator, choices, default_generator
from .ops.common import as_array, held, laid_out, number, sizes
from .tensor import Tensor


def tensor(data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A new tensor holding a copy of `data`: a number, nested lists or other sequences, an array or a tensor.

    Without `dtype`: Python floats give the default dtype, integers int64, bools bool; arrays keep theirs.
    ValueError for ragged lists, TypeError for things that are no numbers.
    """
    home = backend.resolve(device)
    if isinstance(data, Tensor):
        if device is None:
            home = data.device
        wanted = data.dtype if dtype is None else dtypes.as_dtype(dtype)
        array = laid_out(backend.quiet.run(data.array.astype, wanted), data.array)
    else:
        array = _host_array(data, dtype).copy()
    return _finish(backend.to_device(array, home), requires_grad)


def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """As `tensor`, but sharing memory with `data` where its dtype and device allow."""
    if isinstance(data, Tensor):
        return data.to(dtype=dtype, device=device)
    return Tensor.make(backend.to_device(_host_array(data, dtype), backend.resolve(device)))


def from_numpy(ndarray: np.ndarray) -> Tensor:
    """A CPU tensor sharing memory with a NumPy array."""
    if not isinstance(ndarray, np.ndarray):
        raise TypeError(f"from_numpy: expected a numpy.ndarray, got {type(ndarray).__name__}")
    return Tensor.make(_host_array(ndarray, None))


def _host_array(data: Any, dtype: Any) -> np.ndarray:
    """`data` as a NumPy array of a dtype we compute with."""
    if isinstance(data, Sequence) and not isinstance(data, (str, bytes)):
        data = _without_tensors(data)
        try:
            array = np.array(data)
        except ValueError as error:
            raise ValueError(f"tensor: expected lists of equal length at each level ({error})") from error
        if array.dtype == np.float64 and not _holds_numpy(data):
            array = array.astype(dtypes.get_default_dtype()) if dtype is None else array
        if array.size == 0 and dtype is None:
            array = array.astype(dtypes.get_default_dtype())
    elif isinstance(data, (np.ndarray, np.generic)):
        array = np.asarray(data)
    elif isinstance(data, (bool, int, float)):
        kind = dtypes.get_default_dtype() if isinstance(data, float) and dtype is None else None
        array = np.asarray(data, kind)  # where a dtype is asked for, without a stop at float32
    else:
        raise TypeError(f"tensor: expected numbers, lists of them or an array, got {type(data).__name__}")
    if dtype is not None:
        wanted = dtypes.as_dtype(dtype)
        if wanted.kind in "iu" and array.size and array.dtype.kind in "iu":
            low, high = np.iinfo(wanted).min, np.iinfo(wanted).max
            if not low <= array.min() <= array.max() <= high:
                raise RuntimeError(
                    f"tensor: values {array.min()} to {array.max()} do not fit {wanted}, {low} to {high}"
                )
        if array.dtype.kind not in "biuf":
            raise TypeError(f"tensor: cannot make {wanted} of data of type {array.dtype}; expected real numbers")
        return backend.quiet.run(lambda: array.astype(wanted, copy=False))
    if array.dtype not in dtypes.ALL:
        raise TypeError(f"tensor: cannot hold data of type {array.dtype}; expected numbers")
    return array


def _without_tensors(data: Any) -> Any:
    """Nested lists with each tensor in them replaced by its numbers."""
    if isinstance(data, (int, float)):  # most are: to ask for a Sequence takes five times as long
        return data
    if isinstance(data, Tensor):
        return data.tolist()
    if isinstance(data, Sequence) and not isinstance(data, (str, bytes)):  # lists, tuples, ranges, deques, ...
        return [_without_tensors(part) for part in data]
    return data


def _holds_numpy(data: Any) -> bool:
    """Whether nested lists hold NumPy numbers or arrays, whose dtype is then meant."""
    while isinstance(data, list) and data:
        data = data[0]
    return isinstance(data, (np.generic, np.ndarray))


def _finish(array: Any, requires_grad: bool) -> Tensor:
    out = Tensor.make(array)
    return out.requires_grad_() if requires_grad else out


# --- Constant and in sequence ------------------------------------------------------------------------------------


def full(
    size: Sequence[int], fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """A tensor of `size` holding `fill_value` everywhere; its dtype is that of the value unless given."""
    fill_value = number(fill_value, "full: fill_value")
    if dtype is None:
        dtype = dtypes.get_default_dtype() if isinstance(fill_value, float) else np.asarray(fill_value).dtype
    return _constant((size,), fill_value, dtype, device, requires_grad)


def zeros(*args: Any, size: Any = None, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """zeros(2, 3) or zeros((2, 3)): a tensor of zeros."""
    return _constant(sizes(args, "size", size), 0, dtype, device, requires_grad)


def ones(*args: Any, size: Any = None, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """ones(2, 3) or ones((2, 3)): a tensor of ones."""
    return _constant(sizes(args, "size", size), 1, dtype, device, requires_grad)


def empty(*args: Any, size: Any = None, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor to be overwritten. It holds zeros, so that forgetting to cannot show stray memory."""
    return _constant(sizes(args, "size", size), 0, dtype, device, requires_grad)


def _constant(size: tuple, value: Any, dtype: Any, device: Any, requires_grad: bool) -> Tensor:
    shape = sizes(size, "size")
    if any(n < 0 for n in shape):
        raise RuntimeError(f"size: got {list(shape)}, expected sizes >= 0")
    dtype = dtypes.get_default_dtype() if dtype is None else dtypes.as_dtype(dtype)
    held(value, dtype, "full")
    return _finish(_made(device, lambda xp: xp.full(shape, value, dtype)), requires_grad)


def _made(device: Any, make: Callable[[ModuleType], Array]) -> Array:
    """What `make` makes with the library of `device`, there: no data need be moved."""
    home = backend.resolve(device)
    if home == backend.CPU:
        return make(np)
    with backend.cupy().cuda.Device(home.index):
        return make(backend.cupy())


def _like(x: Tensor, value: Any, dtype: Any, device: Any, requires_grad: bool) -> Tensor:
    """As large as x, and in memory in the order of x."""
    made = _constant(
        as_array(x, "zeros_like").shape,
        number(value, "full_like: fill_value"),
        x.dtype if dtype is None else dtype,
        x.device if device is None else device,
        False,
    )
    return _finish(laid_out(made.array, x.array), requires_grad)


def zeros_like(input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Zeros in the shape, dtype and device of x."""
    return _like(input, 0, dtype, device, requires_grad)


def ones_like(input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones in the shape, dtype and device of x."""
    return _like(input, 1, dtype, device, requires_grad)


def empty_like(input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """`empty` in the shape, dtype and device of x."""
    return _like(input, 0, dtype, device, requires_grad)


def full_like(
    input: Tensor, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """`fill_value` in the shape, dtype and device of x."""
    return _like(input, fill_value, dtype, device, requires_grad)


def eye(n: int, m: int | None = None, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """An n x m matrix (square without m) with ones on the diagonal."""
    dtype = dtypes.get_default_dtype() if dtype is None else dtypes.as_dtype(dtype)
    if n < 0 or (m is not None and m < 0):
        raise RuntimeError(f"eye: got {n} x {n if m is None else m}, expected sizes >= 0")
    return _finish(backend.to_device(np.eye(n, m, dtype=dtype), backend.resolve(device)), requires_grad)


def arange(
    start: float,
    end: float | None = None,
    step: float = 1,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """start, start + step, ... as long as it is before `end`; arange(n) starts at 0. int64 if all are integers."""
    start, end = (0, start) if end is None else (start, end)
    start, end, step = (number(n, "arange") for n in (start, end, step))
    way, by = end - start, step
    if dtype is not None and (dtype := dtypes.as_dtype(dtype)).kind != "f":
        if dtype.kind == "b":
            raise RuntimeError("arange: got dtype bool, expected one of numbers")
        start, step = int(start), int(step)
        if dtype == dtypes.int64:  # how many there are, smaller types find from the numbers given, as in torch
            way, by = int(end) - start, step
    if step == 0 or way * by < 0:
        raise RuntimeError(f"arange: from {start} to {end} by {step}: step must be nonzero and lead from start to end")
    if dtype is None:
        whole = all(isinstance(n, (int, np.integer)) for n in (start, end, step))
        dtype = dtypes.int64 if whole else dtypes.get_default_dtype()
    count = math.ceil(way / by)
    return _finish(_made(device, lambda xp: (start + xp.arange(count) * step).astype(dtype)), requires_grad)


def linspace(
    start: float, end: float, steps: int, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """`steps` evenly spaced numbers from start to end, both included."""
    start, end = number(start, "linspace: start"), number(end, "linspace: end")
    if steps < 0:
        raise RuntimeError(f"linspace: got {steps} steps, expected >= 0")
    dtype = dtypes.get_default_dtype() if dtype is None else dtypes.as_dtype(dtype)
    return _finish(
        backend.to_device(np.linspace(start, end, steps).astype(dtype), backend.resolve(device)), requires_grad
    )


def logspace(
    start: float, end: float, steps: int, base: float = 10.0, *, dtype: Any = None, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """base ** x for `steps` evenly spaced x from start to end, both included."""
    exponents = linspace(start, end, steps, dtype=dtypes.float64, device="cpu").array
    kind = dtypes.get_default_dtype() if dtype is None else dtypes.as_dtype(dtype)
    powers = backend.quiet.run(lambda: (float(number(base, "logspace: base")) ** exponents).astype(kind))
    return _finish(backend.to_device(powers, backend.resolve(device)), requires_grad)


def tril_indices(row: int, col: int, offset: int = 0, *, dtype: Any = dtypes.int64, device: Any = None) -> Tensor:
    """Rows and columns (2, n) of the places of a row x col matrix on and below the diagonal number `offset`."""
    places = np.stack(np.tril_indices(row, offset, col)).astype(dtypes.as_dtype(dtype))
    return Tensor.make(backend.to_device(places, backend.resolve(device)))


def triu_indices(row: int, col: int, offset: int = 0, *, dtype: Any = dtypes.int64, device: Any = None) -> Tensor:
    """Rows and columns (2, n) of the places of a row x col matrix on and above the diagonal number `offset`."""
    places = np.stack(np.triu_indices(row, offset, col)).astype(dtypes.as_dtype(dtype))
    return Tensor.make(backend.to_device(places, backend.resolve(device)))


def scalar_tensor(s: float, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A number as a 0-d tensor, in the default dtype."""
    return full((), s, dtype=dtype or dtypes.get_default_dtype(), device=device, requires_grad=requires_grad)


# --- Of the dtype and on the device of another tensor: x.new_zeros(2, 3) ------------------------------------------


def new_tensor(
    self: Tensor, data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """`tensor(data)` in the dtype and on the device of x."""
    return tensor(data, **_as(self, dtype, device), requires_grad=requires_grad)


def new_zeros(
    self: Tensor, *args: Any, size: Any = None, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """`zeros(size)` in the dtype and on the device of x."""
    return zeros(*args, size=size, **_as(self, dtype, device), requires_grad=requires_grad)


def new_ones(
    self: Tensor, *args: Any, size: Any = None, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """`ones(size)` in the dtype and on the device of x."""
    return ones(*args, size=size, **_as(self, dtype, device), requires_grad=requires_grad)


def new_empty(
    self: Tensor, *args: Any, size: Any = None, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """`empty(size)` in the dtype and on the device of x."""
    return empty(*args, size=size, **_as(self, dtype, device), requires_grad=requires_grad)


def new_full(
    self: Tensor, size: Any, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """`full(size, fill_value)` in the dtype and on the device of x."""
    return full(size, fill_value, **_as(self, dtype, device), requires_grad=requires_grad)


def _as(x: Tensor, dtype: Any, device: Any) -> dict[str, Any]:
    return {"dtype": x.dtype if dtype is None else dtype, "device": x.device if device is None else device}


Tensor.new_tensor, Tensor.new_zeros, Tensor.new_ones = new_tensor, new_zeros, new_ones
Tensor.new_empty, Tensor.new_full = new_empty, new_full


# --- At random: drawn on the host, so that a seed means the same everywhere ---------------------------------------


def _random(sample: np.ndarray, dtype: Any, device: Any, requires_grad: bool) -> Tensor:
    dtype = dtypes.get_default_dtype() if dtype is None else dtypes.as_dtype(dtype)
    return _finish(backend.to_device(np.asarray(sample, dtype), backend.resolve(device)), requires_grad)


def _floating(dtype: Any, name: str) -> np.dtype:
    """The dtype of samples of a continuous distribution."""
    kind = dtypes.get_default_dtype() if dtype is None else dtypes.as_dtype(dtype)
    if kind.kind != "f":
        raise RuntimeError(f"{name}: got {kind}, expected a floating-point dtype; see randint")
    return kind


def _stream(generator: Generator | None) -> np.random.Generator:
    return (default_generator if generator is None else generator).numpy


def rand(
    *args: Any,
    size: Any = None,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Uniform on [0, 1)."""
    kind = _floating(dtype, "rand")
    sample = _stream(generator).random(sizes(args, "rand", size), np.float64 if kind == dtypes.float64 else np.float32)
    below_1 = np.nextafter(kind.type(1), kind.type(0))  # float16 would round the largest samples up to 1
    return _random(np.minimum(sample.astype(kind), below_1), kind, device, requires_grad)


def randn(
    *args: Any,
    size: Any = None,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Normal with mean 0 and standard deviation 1."""
    kind = _floating(dtype, "randn")
    return _random(_stream(generator).standard_normal(sizes(args, "randn", size)), kind, device, requires_grad)


def randint(
    low: int, high: Any = None, size: Any = None, *, generator: Generator | None = None, dtype: Any = dtypes.int64,
    device: Any = None, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """Integers from low to high - 1, each equally likely: randint(high, size) or randint(low, high, size)."""
    if size is None:
        low, high, size = 0, low, high
    elif high is None:
        low, high = 0, low
    if low >= high:
        raise RuntimeError(f"randint: got low {low} and high {high}, expected low < high")
    return _random(
        _stream(generator).integers(int(low), int(high), sizes((size,), "randint")), dtype, device, requires_grad
    )


def randperm(n: int, *, generator: Generator | None = None, dtype: Any = dtypes.int64, device: Any = None) -> Tensor:
    """The numbers 0 to n - 1 in random order."""
    if n < 0:
        raise RuntimeError(f"randperm: got {n}, expected n >= 0")
    return _random(_stream(generator).permutation(n), dtype, device, False)


def rand_like(input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """`rand` in the shape, dtype and device of x."""
    made = rand(as_array(input, "rand_like").shape, dtype=dtype or input.dtype, device=device or input.device)
    return _finish(laid_out(made.array, input.array), requires_grad)


def randn_like(input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """`randn` in the shape, dtype and device of x."""
    made = randn(as_array(input, "randn_like").shape, dtype=dtype or input.dtype, device=device or input.device)
    return _finish(laid_out(made.array, input.array), requires_grad)


def randint_like(input: Tensor, low: int, high: int | None = None, *, dtype: Any = None, device: Any = None) -> Tensor:
    """`randint` in the shape, dtype and device of x."""
    low, high = (0, low) if high is None else (low, high)
    size = as_array(input, "randint_like").shape
    made = randint(low, high, size, dtype=dtype or input.dtype, device=device or input.device)
    return _finish(laid_out(made.array, input.array), False)


def bernoulli(input: Tensor, p: float | None = None, *, generator: Generator | None = None) -> Tensor:
    """1 with probability x, else 0, for each element of x, in its dtype and on its device; or with probability p."""
    a = as_array(input, "bernoulli")
    chances = backend.to_host(a) if p is None else np.full(a.shape, number(p, "bernoulli: p"), np.float64)
    if not ((chances >= 0) & (chances <= 1)).all():
        raise RuntimeError("bernoulli: probabilities must be between 0 and 1")
    return _random(_stream(generator).random(chances.shape) < chances, input.dtype, input.device, False)


def normal(
    mean: Any = 0.0, std: Any = 1.0, size: Any = None, *, generator: Generator | None = None, dtype: Any = None,
    device: Any = None, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """Normal with this mean and standard deviation: numbers with a `size`, or tensors, one sample for each element."""
    given = [x for x in (mean, std) if isinstance(x, Tensor)]
    if size is None and not given:
        raise TypeError("normal: numbers as mean and std need a size; or give a tensor")
    if not given:
        shape = sizes((size,), "normal")
        low = std
    else:
        dtype, device = given[0].dtype, given[0].device
        mean, std = (backend.to_host(x.array) if isinstance(x, Tensor) else x for x in (mean, std))
        shape, low = np.broadcast_shapes(np.shape(mean), np.shape(std)), np.min(std, initial=np.inf)
    if low < 0:
        raise RuntimeError(f"normal: std must be >= 0, got {low}")
    sample = mean + std * _stream(generator).standard_normal(shape)
    return _random(sample, _floating(dtype, "normal"), device, requires_grad)


def multinomial(
    input: Tensor, num_samples: int, replacement: bool = False, *, generator: Generator | None = None
) -> Tensor:
    """Indices drawn with probability proportional to x, a vector (n,) or rows (m, n) of weights >= 0, int64.

    Drawn on the host. RuntimeError for negative, infinite or all-zero weights, or more samples than there are
    nonzero weights without replacement.
    """
    if num_samples < 1:
        raise RuntimeError(f"multinomial: cannot draw {num_samples} samples, expected at least 1")
    weights = backend.to_host(as_array(input, "multinomial")).astype(np.float64)
    if weights.ndim not in (1, 2):
        raise RuntimeError(f"multinomial: expected weights of shape (n,) or (m, n), got {tuple(weights.shape)}")
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise RuntimeError("multinomial: weights must be finite and >= 0")
    rows = np.atleast_2d(weights)
    if (rows.sum(axis=1) <= 0).any():
        raise RuntimeError("multinomial: the weights of a row are all zero; there is nothing to draw")
    if not replacement and ((rows > 0).sum(axis=1) < num_samples).any():
        raise RuntimeError(
            f"multinomial: cannot draw {num_samples} different indices from fewer nonzero weights; "
            "ask for fewer, or replacement=True"
        )
    out = choices(rows, num_samples, replacement, generator)
    return Tensor.make(backend.to_device(out if weights.ndim == 2 else out[0], input.device))


def asarray(
    obj: Any, *, dtype: Any = None, device: Any = None, copy: bool | None = None, requires_grad: bool = False
) -> Tensor:
    """A tensor of `obj`, sharing memory where it can unless `copy`."""
    made = tensor(obj, dtype=dtype, device=device) if copy else as_tensor(obj, dtype, device)
    return made.requires_grad_() if requires_grad else made


Tensor.multinomial = multinomial
