"""A stand-in for CuPy 14 on a machine without a GPU: code that would break on CuPy breaks here too.

    with fakecupy.installed(devices=2) as cupy:
        x = cupy.asarray(host)  # what `import cupy` gives, anywhere, until the block ends
        assert fakecupy.synchronisations.count == 0

Underneath is NumPy, so the numbers are right; what is imitated is everything that makes code for NumPy fail
on a GPU. CuPy's source (14.2.0) is the reference for each rule, and `test_fakecupy.py` replays the rules
on real CuPy where a GPU is at hand. In a few places the fake is stricter than CuPy:

* `a[i] = values` with duplicates in `i` raises FakeError: on CuPy it is undefined which value stays;
* the cards have no peer access: computing with an array that is not on the current one raises ValueError;
* `numpy.exp(x)` and `numpy.sum(x)` of a device array raise, though CuPy takes over most such calls;
* host lists and arrays raise in the few functions that would upload them silently (`vstack`, `isclose`, ...);
* writing through `broadcast_to` raises, where CuPy writes several elements at once.

`a[[0, 1]]` and `a[host_indices]` do not raise on CuPy: they upload. So they do here, and count as uploads.
Streams and captures are in `fakegraph`. Not imitated: `cupy.random.normal`, of the ways to write kernels all but
`RawModule`. That one runs on the CPU (`fakecuda`, `cuda_on_cpu`) where there is a g++; elsewhere the package is told to
do without kernels.

Which names exist, with which parameters, is data: `data/cupy_names.json`, rewritten by
`python tests/fakecupy.py --regenerate` wherever CuPy is installed, with or without a GPU.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import math
import re
import sys
import threading
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cuda_on_cpu
import numpy as np

DATA = Path(__file__).parent / "data" / "cupy_names.json"
NAMES: dict[str, dict[str, str]] = json.loads(DATA.read_text()) if DATA.exists() else {}

# What counts as a number: exactly these types, no subclasses, as in CuPy's `scalar_type_set`.
SCALARS = {bool, int, float, complex} | {np.dtype(char).type for char in "?bBhHiIlLqQefdFD"}


def _words(text: str) -> set[str]:
    return set(text.split())


# Parameters that may hold a device array, and those that take a sequence of them. All others take host values
# only: `axis=`, `shape=` and the like have no use for an array that would have to be downloaded first.
ARRAYS = _words("""
    self A a a1 a2 ar ar1 ar2 a_max a_min append arr arr1 arr2 array ary b c choices condition dst
    element f fill_value filt fp indices ind keys m mask max min obj out p prepend prototype q repeats
    sorter src to_begin to_end test_elements v val vals value values weights where x x1 x2 xp y z
""")
SEQUENCES = _words("tup arys args operands xi multi_index condlist choicelist")

# Functions that look at types and shapes only, or that answer on the host: host values in, host values out.
ON_HOST = _words("""
    base_repr binary_repr broadcast_shapes can_cast common_type format_float_positional
    format_float_scientific get_printoptions iscomplexobj isdtype isfortran isrealobj isscalar
    issubdtype iterable may_share_memory min_scalar_type mintypecode ndim printoptions promote_types
    result_type set_printoptions shape size typename
""")

# Functions and methods that wait for the GPU, mostly because the shape of their result depends on values.
SYNCHRONISING = _words("""
    argwhere array2string array_repr array_str asarray_chkfinite average bincount choose compress delete
    dump dumps extract flatnonzero gradient histogram histogram2d histogramdd intersect1d ix_
    mask_indices nanmax nanmin nonzero percentile place polyfit putmask quantile real_if_close roots
    save savetxt savez savez_compressed setdiff1d setxor1d shares_memory tobytes tofile tril_indices
    tril_indices_from trim_zeros triu_indices triu_indices_from union1d unique unique_all unique_counts
    unique_inverse unique_values unravel_index linalg.cholesky linalg.cond linalg.eig linalg.eigh
    linalg.eigvals linalg.eigvalsh linalg.inv linalg.lstsq linalg.matrix_rank linalg.pinv linalg.qr
    linalg.solve linalg.svd linalg.tensorinv linalg.tensorsolve
""")
CUBLAS = _words("dot einsum inner matmul outer tensordot vdot linalg.norm")
UPLOADING = _words("frombuffer fromfile fromiter fromstring genfromtxt load loadtxt")
WRITING = _words("copyto fill fill_diagonal partition place put put_along_axis putmask sort")
CALLING_BACK = _words("apply_along_axis apply_over_axes fromfunction piecewise vectorize")

# The dtypes that atomic updates exist for: `cupy.add.at` on float16 works, on int8 or bfloat16 it does not.
AT_DTYPES = {
    "add": "iIlLqQefd", "subtract": "iI", "maximum": "iIlLqQfd", "minimum": "iIlLqQfd",
    "bitwise_and": "iIlLqQ", "bitwise_or": "iIlLqQ", "bitwise_xor": "iIlLqQ",
}  # fmt: skip


class FakeError(RuntimeError):
    """Not an error of CuPy, but of the test: on CuPy the outcome would be undefined."""


class NotInFakeError(NotImplementedError, AttributeError):
    """CuPy has this, the fake does not. An AttributeError too, so that `hasattr` answers."""


CUDA_ERRORS = {
    2: "cudaErrorMemoryAllocation: out of memory",
    900: "cudaErrorStreamCaptureUnsupported: operation not permitted when stream is capturing",
    901: "cudaErrorStreamCaptureInvalidated: operation failed due to a previous error during capture",
    35: "cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version",
    101: "cudaErrorInvalidDevice: invalid device ordinal",
}


class CUDARuntimeError(RuntimeError):
    """`cupy.cuda.runtime.CUDARuntimeError`: made from a status number."""

    def __init__(self, status: int):
        super().__init__(CUDA_ERRORS[status])
        self.status = status


class Counter:
    """Counts events: `.count`, `.reset()`. Asks `check` first, while a stream captures, whether that is allowed."""

    def __init__(self, check: Callable[[], None] = lambda: None):
        self._count, self._check = 0, check

    @property
    def count(self) -> int:
        return self._count

    @count.setter
    def count(self, count: int) -> None:
        if count > self._count:
            self._check()
        self._count = count

    def reset(self) -> None:
        self._count = 0


# The host waited for the GPU: `.item()`, `if x:`, boolean masks, `.get()`, ...
synchronisations = Counter(lambda: fakegraph.no_waiting())
# Host data (not single numbers) went to the GPU: `asarray(host)`, `a[[0, 1]]`, ...
uploads = Counter(lambda: fakegraph.upload(8))
launches = Counter()  # kernels started: one for each computation and each filled array, none for views and `empty`


# --- Devices -----------------------------------------------------------------------------------------------


class _Machine(threading.local):  # CUDA's current device belongs to the thread
    current = 0


_machine = _Machine()
_devices = 0  # how many cards there are; none while the fake is not installed


def _current() -> int:
    """The current device. Raises CUDARuntimeError on a machine without one."""
    if not _devices:
        raise CUDARuntimeError(35)  # what CuPy says where there is no driver
    return _machine.current


def _set_device(index: int) -> None:
    _current()
    if not 0 <= index < _devices:
        raise CUDARuntimeError(101)
    _machine.current = index


class Device:
    """`cupy.cuda.Device(i)`: entered with `with`, it is the device where arrays are made and kernels run."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, device: int | Device | None = None):
        self.id = _current() if device is None else int(device)
        self._before: list[int] = []

    def __int__(self) -> int:
        return self.id

    def __enter__(self) -> Device:
        before = _current()
        _set_device(self.id)
        self._before.append(before)
        return self

    def __exit__(self, *_: Any) -> None:
        _machine.current = self._before.pop()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and self.id == other.id

    def __repr__(self) -> str:
        return f"<CUDA Device {self.id}>"

    def use(self) -> Device:
        _set_device(self.id)
        return self

    def synchronize(self) -> None:
        with self:
            synchronisations.count += 1


def _device_count() -> int:
    _current()
    return _devices


def _device_properties(index: int) -> dict[str, Any]:
    with Device(index):
        return {"name": b"Fake GPU", "major": 9, "minor": 0, "totalGlobalMem": 2**34}


def _memory() -> tuple[int, int]:
    _current()
    return 2**33, 2**34  # free, total


# --- From device arrays to NumPy and back ------------------------------------------------------------------


def _wrap(array: Any, device: int | None = None, base: ndarray | None = None) -> ndarray:
    """A device array that holds `array` itself, no copy; on the current device unless another is named."""
    data = np.asarray(array)
    if data.dtype.char not in "?bBhHiIlLqQefdFD" and data.dtype.name != "bfloat16":
        raise ValueError(f"Unsupported dtype {data.dtype}")
    result = object.__new__(ndarray)
    result._data, result.base = data, base
    result._device = _current() if device is None else device
    return result


def _arrays(values: Any, kind: type) -> Iterator[Any]:
    """All arrays of a kind within nested tuples, lists and dicts."""
    if isinstance(values, kind):
        yield values
    elif isinstance(values, (tuple, list, dict)):
        for value in values.values() if isinstance(values, dict) else values:
            yield from _arrays(value, kind)


def _unwrap(value: Any) -> Any:
    if isinstance(value, ndarray):
        return value._data
    if isinstance(value, dict):
        return {key: _unwrap(v) for key, v in value.items()}
    return type(value)(map(_unwrap, value)) if type(value) in (tuple, list) else value


def _check_device(arrays: list[ndarray]) -> None:
    for a in arrays:
        if a._device != _current():
            raise ValueError(
                f"The device where the array resides ({a._device}) is different from the current device "
                f"({_current()}). Peer access is unavailable between these devices."
            )


def _launch(function: Callable, args: tuple, kwargs: dict, writes: bool = False) -> Any:
    """Compute with NumPy on what the arrays in `args` hold, and wrap what comes back.

    CuPy runs a kernel on the current device, whatever its operands, and puts the result there. So operands
    elsewhere are an error, unless the result is a view, which takes no kernel.
    """
    used: list[ndarray] = list(_arrays([args, kwargs], ndarray))
    if writes or kwargs.get("out") is not None:
        _check_device(used)
    with np.errstate(all="ignore"), warnings.catch_warnings():  # a GPU never warns
        warnings.simplefilter("ignore", RuntimeWarning)
        args, kwargs = _unwrap(args), _unwrap(kwargs)
        if not fakegraph.capturing():
            result = function(*args, **kwargs)
        elif writes or kwargs.get("out") is not None:
            fakegraph.record(lambda: function(*args, **kwargs), args, kwargs)
            result = kwargs.get("out")
        else:
            result = fakegraph.recorded(function, args, kwargs)
        launches.count += writes or kwargs.get("out") is not None or not _is_view(result, used)
        return _returned(result, used)


def _is_view(result: Any, used: list[ndarray]) -> bool:
    """Whether all of a result was there before."""
    if isinstance(result, (tuple, list)):
        return all(_is_view(part, used) for part in result)
    return isinstance(result, np.ndarray) and any(
        result is a._data or np.may_share_memory(result, a._data) or result.base is a._data for a in used
    )


def _returned(result: Any, used: list[ndarray]) -> Any:
    if isinstance(result, (tuple, list)):
        parts = [_returned(part, used) for part in result]
        return type(result)(*parts) if hasattr(result, "_fields") else type(result)(parts)
    if isinstance(result, np.ndarray):
        for a in used:
            if result is a._data:  # handed back unchanged, or written to as a positional `out`
                _check_device(used if len(used) > 1 else [])
                return a
            if np.may_share_memory(result, a._data) or result.base is a._data:
                if not result.flags.writeable:  # CuPy knows no read-only arrays
                    result.flags.writeable = a._data.flags.writeable
                return _wrap(result, a._device, a if a.base is None else a.base)
    elif not isinstance(result, (np.generic, bool, int, float, complex)):
        return result  # None, a string, a dtype
    _check_device(used)
    return _wrap(result)  # 0-d results too, which NumPy gives as scalars


# --- What CuPy refuses -------------------------------------------------------------------------------------


class _Parameters(NamedTuple):
    names: list[str]  # those that can be given by position
    rest: str | None  # the x of *x
    keywords: set[str]
    any_keyword: bool


@functools.cache
def _parameters(text: str) -> _Parameters:
    """The parameters listed in the data file, such as "tup axis out * dtype casting"."""
    words = text.split()
    single = [word for word in words if not word.startswith("*")]
    star = next((i for i, word in enumerate(words) if word.startswith("*")), len(words))
    rest = next((word[1:] for word in words if re.match(r"\*\w", word)), None)
    return _Parameters(words[:star], rest, set(single), any(word.startswith("**") for word in words))


def _bind(name: str, parameters: _Parameters, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    """The same arguments with leading keywords made positional, as NumPy names some of them otherwise.

    Raises TypeError for what CuPy's signature does not accept and for arrays on the wrong side of the bus.
    """
    for key in kwargs:
        if key not in parameters.keywords and not parameters.any_keyword:
            raise TypeError(f"{name}() got an unexpected keyword argument '{key}'")
    if len(args) > len(parameters.names) and parameters.rest is None:
        raise TypeError(f"{name}() takes {len(parameters.names)} positional arguments, {len(args)} were given")
    kwargs = dict(kwargs)
    for key in parameters.names[len(args) :]:
        if key not in kwargs:
            break
        args += (kwargs.pop(key),)
    labels = parameters.names + [parameters.rest or ""] * len(args)
    for i, (key, value) in enumerate([*zip(labels, args, strict=False), *kwargs.items()]):
        if not _accepted(key, value, first=i == 0):
            expected = "cupy.ndarray" if key in ARRAYS or key in SEQUENCES else "a host value, no array"
            raise TypeError(f"{name}(): {key}={type(value).__name__}: expected {expected}")
    return args, kwargs


def _accepted(key: str, value: Any, first: bool) -> bool:
    """Whether CuPy takes `value` for the parameter `key`."""
    if key == "operands":  # of einsum: arrays, "ij,jk" or lists of axis numbers
        return isinstance(value, (ndarray, str)) or (
            isinstance(value, list) and not any(isinstance(number, np.ndarray) for number in value)
        )
    if key in SEQUENCES:
        parts = value if isinstance(value, (tuple, list)) else [value]
        return all(isinstance(part, ndarray) for part in parts)
    if key in ARRAYS:
        return isinstance(value, ndarray) or (not first and (value is None or type(value) in SCALARS))
    return next(_arrays(value, ndarray), None) is None


# --- Indexing ----------------------------------------------------------------------------------------------


def _index(a: ndarray, key: Any) -> tuple[tuple, list[ndarray]]:
    """`key` for NumPy, with integer arrays wrapped around as on CuPy; and the index arrays on the device.

    No index arrays means basic indexing: the result is a view.
    """
    items: list[Any] = []
    used: list[ndarray] = []
    for item in key if isinstance(key, tuple) else (key,):
        plain_number = np.isscalar(item) and not isinstance(item, (bool, np.bool_))
        if isinstance(item, slice):  # `a[:n]` with n on the device waits for it
            ends = (item.start, item.stop, item.step)
            item = slice(*(int(end) if isinstance(end, ndarray) else end for end in ends))
        if item is None or item is Ellipsis or isinstance(item, slice) or plain_number:
            items.append(item)
            continue
        if not isinstance(item, ndarray):  # a list or a host array: CuPy uploads it without a word
            uploads.count += 1
            empty_list = isinstance(item, (list, tuple)) and len(item) == 0
            item = _wrap(np.asarray(item, dtype=np.int32 if empty_list else None))
        if item.dtype.kind == "b":
            synchronisations.count += 1  # how many are True decides the shape of the result
        used.append(item)
        items.append(item._data)
    spans = [0 if x is None or x is Ellipsis else x.ndim if _is_mask(x) else 1 for x in items]
    axis, skipped = 0, a.ndim - sum(spans)
    for i, item in enumerate(items):
        if isinstance(item, np.ndarray) and item.dtype.kind in "iu" and axis < a.ndim and a.shape[axis]:
            items[i] = np.asarray(item.astype(np.int64) % a.shape[axis])
        axis += skipped if item is Ellipsis else spans[i]
    if not any(item is Ellipsis for item in items):
        items.append(Ellipsis)  # NumPy then gives a 0-d array for `a[0]`, not a scalar
    return tuple(items), used


def _is_mask(item: Any) -> bool:
    return isinstance(item, np.ndarray) and item.dtype.kind == "b"


def _stored(value: Any) -> Any:
    """What an indexed assignment stores, for NumPy; host data are uploaded."""
    if not isinstance(value, ndarray) and type(value) not in SCALARS:
        uploads.count += 1
    return np.asarray(_unwrap(value))


def _refuse_duplicates(positions: np.ndarray, values: Any) -> None:
    if np.size(values) > 1 and np.unique(positions).size < positions.size:
        raise FakeError("assignment through duplicate indices: on CuPy it is undefined which value stays")


def _flat_positions(a: np.ndarray) -> np.ndarray:
    return np.arange(a.size).reshape(a.shape)


# NumPy's functions with CuPy's rules, where these differ. They are given NumPy arrays.


def _astype(
    a: np.ndarray, dtype: Any, order: Any = "K", casting: None = None, subok: None = None, copy: bool = True
) -> np.ndarray:
    if casting is not None or subok is not None:
        raise TypeError("casting and subok are not supported yet")
    return a.astype(dtype, order=order, copy=copy)


def _take(a: np.ndarray, indices: Any, axis: int | None = None, out: np.ndarray | None = None) -> np.ndarray:
    return np.take(a, indices, axis, out, mode="wrap")


def _take_along_axis(a: np.ndarray, indices: np.ndarray, axis: int | None) -> np.ndarray:
    return np.take_along_axis(a, _wrapped_along(a, indices, axis), axis)


def _put_along_axis(a: np.ndarray, indices: np.ndarray, values: Any, axis: int | None) -> None:
    indices = _wrapped_along(a, indices, axis)
    _refuse_duplicates(np.take_along_axis(_flat_positions(a), indices, axis), values)
    np.put_along_axis(a, indices, values, axis)


def _put(a: np.ndarray, indices: np.ndarray, values: Any, mode: Any = "wrap") -> None:
    if mode == "raise":
        synchronisations.count += 1
    _refuse_duplicates(np.asarray(indices) % max(a.size, 1), values)
    np.put(a, indices, values, mode=mode)


def _wrapped_along(a: np.ndarray, indices: np.ndarray, axis: int | None) -> np.ndarray:
    size = a.size if axis is None else a.shape[axis]
    return np.asarray(indices.astype(np.int64) % size) if size and indices.dtype.kind in "iu" else indices


def _diagonal(a: np.ndarray, offset: int = 0, axis1: int = 0, axis2: int = 1) -> np.ndarray:
    """CuPy's diagonal is a view like any other; NumPy's may not be written to."""
    view = np.diagonal(a, offset, axis1, axis2)
    view.flags.writeable = a.flags.writeable
    return view


TWINS: dict[str, Callable] = {
    "astype": _astype, "diagonal": _diagonal, "ptp": np.ptp, "put": _put, "put_along_axis": _put_along_axis,
    "take": _take, "take_along_axis": _take_along_axis,
}  # fmt: skip


def _call(name: str, function: Callable, text: str, args: tuple, kwargs: dict) -> Any:
    """A function or method of CuPy, listed in the data file with the parameters `text`."""
    args, kwargs = _bind(name, _parameters(text), args, kwargs)
    if name in CUBLAS:
        fakegraph.no_library("cuBLAS")
    if name == "where" and len(args) == 2:
        raise ValueError("Must provide both 'x' and 'y' or neither.")
    counted_repeats = name == "repeat" and isinstance(args[1], ndarray)
    if name in SYNCHRONISING or counted_repeats or (name == "where" and len(args) == 1):
        synchronisations.count += 1
    if name in UPLOADING:
        uploads.count += 1
    launches.count -= name in ("empty", "empty_like")  # memory alone
    return _launch(function, args, kwargs, writes=name in WRITING)


# --- The array ---------------------------------------------------------------------------------------------


class Flags(NamedTuple):
    """`a.flags`: no more than these three on CuPy; no `writeable`."""

    c_contiguous: bool
    f_contiguous: bool
    owndata: bool

    def __getitem__(self, name: Any) -> Any:
        return self._asdict()[str(name).lower()]


class ndarray:
    """`cupy.ndarray`: holds a NumPy array but is none, and never turns into one unasked."""

    __slots__ = ("__weakref__", "_data", "_device", "base")
    __hash__ = None  # type: ignore[assignment]
    __array_priority__ = 100
    # NumPy's ufuncs refuse, and its operators call ours: `np.float64(2) * a` is `a.__rmul__(np.float64(2))`.
    __array_ufunc__ = None

    _data: np.ndarray
    _device: int
    base: ndarray | None

    def __init__(self, shape: Any, dtype: Any = float, *, order: Any = "C"):
        fresh = _wrap(np.empty(_unwrap(shape), dtype, order))
        self._data, self._device, self.base = fresh._data, fresh._device, None

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. "
            "Please use `.get()` to construct a NumPy array explicitly."
        )

    def __array_function__(self, func: Callable, *_: Any) -> Any:
        raise TypeError(f"numpy.{func.__name__} was called on a cupy.ndarray; call that of its own module")

    # Metadata, known to the host.

    @property
    def shape(self) -> tuple[int, ...]:
        return self._data.shape

    @shape.setter
    def shape(self, shape: tuple[int, ...]) -> None:
        view = self._data.reshape(shape)
        if self.size and not np.may_share_memory(view, self._data):
            raise AttributeError("Incompatible shape for in-place modification. Use `.reshape()`.")
        self._data = view

    @property
    def flags(self) -> Flags:
        return Flags(self._data.flags.c_contiguous, self._data.flags.f_contiguous, self.base is None)

    @property
    def device(self) -> Device:
        return Device(self._device)

    @property
    def data(self) -> Any:
        return fakecuda.Memory(self)

    def __len__(self) -> int:
        return len(self._data)

    def __iter__(self) -> Iterator[ndarray]:
        if self.ndim == 0:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self)))

    # To the host: each waits for the GPU.

    def get(self, stream: Any = None, order: Any = "C", out: Any = None, blocking: bool = True) -> np.ndarray:
        synchronisations.count += 1
        if out is None:
            return self._data.copy(order=order)
        if not isinstance(out, np.ndarray) or out.dtype != self.dtype:
            raise TypeError(f"get(): out must be a numpy.ndarray of dtype {self.dtype}")
        if out.shape != self.shape:
            raise ValueError(f"Shape mismatch. Expected shape: {self.shape}, actual shape: {out.shape}")
        out[...] = self._data
        return out

    def item(self) -> Any:
        if self.size != 1:
            raise ValueError("can only convert an array of size 1 to a Python scalar")
        return self.get().item()

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ValueError("The truth value of an array with more than one element, or none, is ambiguous")
        return bool(self.get())

    def __reduce__(self) -> tuple:
        return _array, (self.get(order="A"),)

    # Copies and moves.

    def set(self, arr: np.ndarray, stream: Any = None) -> None:
        if not isinstance(arr, np.ndarray) or arr.dtype != self.dtype:
            raise TypeError(f"Only a numpy.ndarray of dtype {self.dtype} can be set to this cupy.ndarray")
        if arr.shape != self.shape:
            raise ValueError(f"Shape mismatch. Old shape: {arr.shape}, new shape: {self.shape}")
        if not (self.flags.c_contiguous or self.flags.f_contiguous):
            raise RuntimeError("Cannot set to non-contiguous array")
        uploads.count += 1
        self._data[...] = arr

    def copy(self, order: Any = "C") -> ndarray:
        """A copy on the current device, from whichever device the array is on."""
        if self._device != _current() and not (self.flags.c_contiguous or self.flags.f_contiguous):
            raise NotImplementedError("CuPy cannot copy non-contiguous array between devices.")
        launches.count += 1
        if fakegraph.capturing():
            return _wrap(fakegraph.recorded(np.copy, (self._data,), {"order": order}))
        return _wrap(self._data.copy(order=order))

    __copy__ = copy

    def __deepcopy__(self, memo: Any) -> ndarray:
        with self.device:
            return self.copy()

    # Indexing.

    def __getitem__(self, key: Any) -> ndarray:
        index, used = _index(self, key)
        if used:
            _check_device([self, *used])
            launches.count += 1
            if fakegraph.capturing():
                return _wrap(fakegraph.recorded(lambda: self._data[_index(self, key)[0]], (), {}))
            return _wrap(self._data[index])
        return _returned(self._data[index], [self])

    def __setitem__(self, key: Any, value: Any) -> None:
        if fakegraph.capturing():
            fakegraph.record(lambda: self._store(key, value))
            launches.count += 1
        else:
            self._store(key, value)

    def _store(self, key: Any, value: Any) -> None:
        index, used = _index(self, key)
        _check_device([self, *used, *_arrays(value, ndarray)])
        if used:
            stored = _stored(value)
            if any(i.dtype.kind in "iu" and i.size > 1 for i in used):
                _refuse_duplicates(_flat_positions(self._data)[index], stored)
        else:
            stored = np.asarray(_unwrap(value))
            if not isinstance(value, ndarray) and stored.ndim:
                raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
        launches.count += 1
        with np.errstate(all="ignore"):
            self._data[index] = stored

    # Everything else that CuPy's array and NumPy's have in common.

    def __getattr__(self, name: str) -> Any:
        text = NAMES["cupy.ndarray"].get(name)
        if text is None:
            raise AttributeError(f"'cupy.ndarray' object has no attribute '{name}'")
        if name in ("dtype", "itemsize", "nbytes", "ndim", "size", "strides"):
            return getattr(self._data, name)
        if name in ("T", "mT", "real", "imag"):
            return _launch(getattr, (self, name), {})
        method = TWINS.get(name) or getattr(np.ndarray, name, None)
        if not callable(method):
            raise NotInFakeError(f"cupy.ndarray.{name} exists, but not in the fake")
        return lambda *args, **kwargs: _call(name, method, text, (self, *args), kwargs)


# --- Universal functions and operators ---------------------------------------------------------------------


class ufunc:
    """`cupy.ufunc`: takes arrays and plain numbers, and of the keywords only out, dtype and casting."""

    def __init__(self, name: str):
        self.name = self.__name__ = name
        self._numpy = getattr(np, name)
        self.nin, self.nout = getattr(self._numpy, "nin", 1), getattr(self._numpy, "nout", 1)

    def __call__(self, *args: Any, out: Any = None, dtype: Any = None, casting: Any = None, **wrong: Any) -> Any:
        if wrong:
            raise TypeError(f"Wrong arguments {sorted(wrong)}")
        inputs, outputs = args[: self.nin], args[self.nin :]
        if outputs and out is not None:
            raise ValueError("Cannot specify 'out' as both a positional and keyword argument")
        outputs = outputs or (out if isinstance(out, tuple) else () if out is None else (out,))
        for x in inputs:
            if not isinstance(x, ndarray) and type(x) not in SCALARS:
                raise TypeError(f"Unsupported type {type(x)}")
        if any(not (x is None or isinstance(x, ndarray)) for x in outputs):
            raise TypeError("Output arguments type must be cupy.ndarray")
        if self.name in CUBLAS:
            fakegraph.no_library("cuBLAS")
        kwargs: dict[str, Any] = {} if dtype is None else {"dtype": dtype}
        if casting is not None:
            kwargs["casting"] = casting
        if outputs:
            kwargs["out"] = outputs if self.nout > 1 else outputs[0]
        return _launch(self._numpy, inputs, kwargs)

    def at(self, a: ndarray, indices: Any, b: Any = None) -> None:
        """`a[indices] += b` and the like, for every occurrence of an index."""
        if self.name not in AT_DTYPES:
            raise NotImplementedError(f"`{self.name}.at` is not supported yet")
        used = _index(a, indices)[1]
        if used and a.dtype.char not in AT_DTYPES[self.name]:
            raise TypeError(f"cupy.{self.name}.at does not support {a.dtype}")
        _check_device([a, *used, *_arrays(b, ndarray)])
        launches.count += 1
        with np.errstate(all="ignore"):
            stored = _stored(b)
            fakegraph.written(lambda: self._numpy.at(a._data, _index(a, indices)[0], stored.astype(a.dtype)))

    def reduce(self, a: ndarray, axis: Any = 0, dtype: Any = None, out: Any = None, keepdims: Any = False) -> Any:
        if self.name not in ("add", "multiply"):
            raise NotImplementedError(f"`{self.name}.reduce` is not supported yet")
        return (a.sum if self.name == "add" else a.prod)(axis, dtype, out, keepdims)


def _defers(other: Any) -> bool:
    """Whether an operator leaves the work to `other`, by CuPy's rule: its `__array_ufunc__` is None."""
    if hasattr(other, "__array_ufunc__"):
        return other.__array_ufunc__ is None
    return getattr(other, "__array_priority__", 0) > ndarray.__array_priority__


def _define_operators() -> None:
    """Give the array its operators, and the conversions that wait for the GPU."""

    def binary(function: ufunc, reflected: bool = False) -> Callable:
        def operator(self: ndarray, other: Any) -> Any:
            if not isinstance(other, ndarray) and type(other) not in SCALARS:
                if _defers(other):
                    return NotImplemented
                unequal = other is None or type(other).__eq__ is object.__eq__  # to any number there is
                if unequal and function.name in ("equal", "not_equal"):
                    return _wrap(np.full(self.shape, function.name == "not_equal"))
            return function(other, self) if reflected else function(self, other)

        return operator

    def in_place(function: ufunc) -> Callable:
        return lambda self, other: function(self, other, out=self)

    def unary(function: ufunc) -> Callable:
        return lambda self: function(self)

    def download(name: str) -> Callable:
        return lambda self, *args: getattr(self.get(), name)(*args)

    names = {
        "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "true_divide", "mod": "remainder",
        "floordiv": "floor_divide", "divmod": "divmod", "pow": "power", "lshift": "left_shift",
        "rshift": "right_shift", "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor",
        "matmul": "matmul",
    }  # fmt: skip
    for name, twin in names.items():
        setattr(ndarray, f"__{name}__", binary(ufunc(twin)))
        setattr(ndarray, f"__r{name}__", binary(ufunc(twin), reflected=True))
        if name not in ("divmod", "matmul"):  # CuPy has no __imatmul__: `a @= b` makes a new array
            setattr(ndarray, f"__i{name}__", in_place(ufunc(twin)))
    comparisons = {
        "eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater",
        "ge": "greater_equal",
    }  # fmt: skip
    for name, twin in comparisons.items():
        setattr(ndarray, f"__{name}__", binary(ufunc(twin)))
    for name in ("__int__", "__float__", "__complex__", "__repr__", "__str__", "__format__", "tolist"):
        setattr(ndarray, name, download(name))
    for name, twin in {"neg": "negative", "pos": "positive", "abs": "absolute", "invert": "invert"}.items():
        setattr(ndarray, f"__{name}__", unary(ufunc(twin)))


_define_operators()


# --- The module --------------------------------------------------------------------------------------------


def _array(
    obj: Any, dtype: Any = None, copy: bool | None = True, order: Any = "K", subok: bool = False,
    ndmin: int = 0, *, blocking: bool = False,
) -> ndarray:  # fmt: skip
    """`cupy.array`: the one door from the host to the device."""
    order = order or "K"
    if isinstance(obj, ndarray):
        source = obj if obj._device == _current() else obj.copy()
        return _launch(np.array, (source,), {"dtype": dtype, "copy": copy, "order": order, "ndmin": ndmin})
    if next(_arrays(obj, ndarray), None) is None:
        if type(obj) not in SCALARS:
            uploads.count += 1
        if fakegraph.capturing():
            return _wrap(fakegraph.recorded(lambda: np.array(obj, dtype, copy=True, order=order, ndmin=ndmin), (), {}))
        return _wrap(np.array(obj, dtype, copy=True, order=order, ndmin=ndmin))
    nested = list(_arrays(obj, ndarray))
    if len({a.shape for a in nested}) > 1 or len(nested) != math.prod(_sequence_shape(obj)):
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")  # arrays and numbers mixed
    return _launch(np.array, (obj,), {"dtype": dtype, "ndmin": ndmin})


def _sequence_shape(obj: Any) -> tuple[int, ...]:
    """The shape of nested lists, with whatever is no list as an element."""
    return (len(obj), *_sequence_shape(obj[0])) if isinstance(obj, (list, tuple)) and obj else ()


def _asarray(a: Any, dtype: Any = None, order: Any = None, *, copy: Any = None, blocking: Any = False) -> ndarray:
    return _array(a, dtype, copy, order)


def _asnumpy(a: Any, stream: Any = None, order: Any = "C", out: Any = None, *, blocking: bool = True) -> Any:
    return a.get(stream, order, out) if isinstance(a, ndarray) else np.asarray(a, order=order)


def _copy(a: ndarray, order: Any = "K") -> ndarray:
    return a.copy(order)


class _Module(types.ModuleType):
    """`cupy`, `cupy.linalg`, ...: NumPy's functions behind CuPy's names, and only those that CuPy has."""

    def __init__(self, name: str, twin: Any = None, **own: Any):
        super().__init__(name)
        self.__path__: list[str] = []  # a package: `import cupy.cuda` finds its parts in sys.modules
        self._twin = twin
        self.__dict__.update(own)

    def __getattr__(self, name: str) -> Any:
        text = NAMES.get(self.__name__, {}).get(name)
        if text is None:
            raise AttributeError(f"module '{self.__name__}' has no attribute '{name}'")
        twin = getattr(self._twin, name, None)
        if (twin is None and name != "newaxis") or name in CALLING_BACK:
            raise NotInFakeError(f"{self.__name__}.{name} exists, but not in the fake")
        made = self._make(name, text, twin)
        setattr(self, name, made)
        return made

    def _make(self, name: str, text: str, twin: Any) -> Any:
        if text == "<ufunc>":
            return ufunc(name)
        if isinstance(twin, float) or name in ("newaxis", "s_", "index_exp", "dtype", "finfo", "iinfo"):
            return twin
        if isinstance(twin, type) and issubclass(twin, np.generic):
            return twin
        if text.startswith("<"):
            raise NotInFakeError(f"{self.__name__}.{name} exists, but not in the fake")
        if name in ON_HOST:
            return lambda *args, **kwargs: twin(*_unwrap(args), **_unwrap(kwargs))
        function = TWINS.get(name, twin)
        path = f"{self.__name__}.{name}".removeprefix("cupy.")
        return lambda *args, **kwargs: _call(path, function, text, args, kwargs)


class Generator:
    """`cupy.random.Generator`: has no normal, permutation, choice or shuffle."""

    def __init__(self, seed: Any = None):
        self._numpy = np.random.default_rng(seed)

    def __getattr__(self, name: str) -> Any:
        text = NAMES["cupy.random.Generator"].get(name)
        if text is None:
            raise AttributeError(f"'Generator' object has no attribute '{name}'")
        method = getattr(self._numpy, name)
        fakegraph.no_library("cuRAND")
        return lambda *args, **kwargs: _call(name, method, text.removeprefix("self "), args, kwargs)


def _get_array_module(*args: Any) -> types.ModuleType:
    return cupy if any(isinstance(arg, ndarray) for arg in args) else np


import fakecuda  # noqa: E402  (it needs the array)
import fakegraph  # noqa: E402

runtime = types.ModuleType("cupy.cuda.runtime")
runtime.__dict__.update(
    CUDARuntimeError=CUDARuntimeError, getDevice=_current, setDevice=_set_device,
    getDeviceCount=_device_count, getDeviceProperties=_device_properties,
    deviceSynchronize=lambda: Device().synchronize(), memGetInfo=_memory, runtimeGetVersion=lambda: 13020,
    driverGetVersion=lambda: 13030, CUDA_R_32F=fakecuda.CUDA_R_32F, CUDA_R_64F=fakecuda.CUDA_R_64F,
    CUDA_R_16F=fakecuda.CUDA_R_16F,
)  # fmt: skip
cuda = _Module(
    "cupy.cuda", Device=Device, runtime=runtime, get_device_id=_current, is_available=lambda: _devices > 0,
    Stream=fakegraph.Stream, get_current_stream=fakegraph.current, MemoryPool=fakegraph.MemoryPool,
    using_allocator=fakegraph.using_allocator, set_pinned_memory_allocator=fakegraph.set_pinned_memory_allocator,
    Memory=fakegraph.Memory, cublas=fakecuda.cublas, device=fakecuda.device,
)  # fmt: skip
linalg = _Module("cupy.linalg", np.linalg)
stride_tricks = _Module("cupy.lib.stride_tricks", np.lib.stride_tricks)
lib = _Module("cupy.lib", stride_tricks=stride_tricks)
random = _Module("cupy.random", Generator=Generator, default_rng=Generator)
cupy = _Module(
    "cupy", np, ndarray=ndarray, ufunc=ufunc, array=_array, asarray=_asarray, asanyarray=_asarray,
    copy=_copy, asnumpy=_asnumpy, get_array_module=_get_array_module, is_available=cuda.is_available,
    cuda=cuda, linalg=linalg, lib=lib, random=random, RawModule=fakecuda.RawModule,
    get_default_pinned_memory_pool=lambda: fakegraph._default_pinned,
    get_default_memory_pool=lambda: fakegraph._default,
    __version__=NAMES.get("version", {}).get("cupy", ""),
)  # fmt: skip


@contextlib.contextmanager
def _without_kernels() -> Iterator[None]:
    """The package has kernels for no dtype."""
    from tinygrad_z2g.gpu.kernels import launch

    before, launch.REAL = launch.REAL, {}
    try:
        yield
    finally:
        launch.REAL = before


@contextlib.contextmanager
def installed(devices: int = 2, kernels: bool = True) -> Iterator[types.ModuleType]:
    """Make `import cupy` give the fake, on a machine with so many cards; put everything back afterwards.

    With no devices, CuPy imports all the same, and the first question to the driver raises CUDARuntimeError. Without
    `kernels`, the reference computes in CuPy's operations what CUDA sources would: large models take seconds so, where
    thread after thread takes minutes.
    """
    global _devices

    def loaded() -> dict[str, Any]:
        return {name: m for name, m in sys.modules.items() if name.split(".")[0] in ("cupy", "cupyx")}

    before, devices_before, current_before = loaded(), _devices, _machine.current
    for name in before:
        del sys.modules[name]
    parts = (cupy, cuda, runtime, linalg, lib, stride_tricks, random)
    sys.modules.update({module.__name__: module for module in parts})
    sys.modules["cupyx"] = None  # type: ignore[assignment]  # importing it fails
    _devices, _machine.current = devices, 0
    for counter in (synchronisations, uploads, launches):
        counter.reset()
    try:
        with (
            contextlib.nullcontext() if kernels and cuda_on_cpu.available() else _without_kernels(),
            fakecuda.cublas_loaded(),
        ):
            yield cupy
    finally:
        for name in loaded():
            del sys.modules[name]
        sys.modules.update(before)
        _devices, _machine.current = devices_before, current_before


# --- The list of names -------------------------------------------------------------------------------------


def _describe(thing: Any, real: Any) -> str:
    """What a name stands for: "<type>" and the like, or the parameters of a function."""
    for kind, name in ((real.ufunc, "<ufunc>"), (type, "<type>"), (types.ModuleType, "<module>")):
        if isinstance(thing, kind):
            return name
    if not callable(thing):
        return "<value>"
    words: list[str] = []
    try:
        for parameter in inspect.signature(thing).parameters.values():
            stars = {"VAR_POSITIONAL": "*", "VAR_KEYWORD": "**"}.get(parameter.kind.name, "")
            if parameter.kind is parameter.KEYWORD_ONLY and not any(word.startswith("*") for word in words):
                words.append("*")
            words.append(stars + parameter.name)
    except (TypeError, ValueError):  # written in Cython: the first line of the docstring has the parameters
        found = re.search(r"\((.*)\)", (thing.__doc__ or "").split("\n")[0])
        listed = found.group(1).split(",") if found else ["*args", "**kwargs"]
        words = [part.split("=")[0].split()[-1] for part in listed if part.strip(" /")]
    return " ".join(words)


def regenerate() -> None:
    """Write the data file from the CuPy that is installed; it needs no GPU."""
    import cupy as real  # type: ignore[import-untyped]

    spaces = {
        "cupy": real, "cupy.ndarray": real.ndarray, "cupy.linalg": real.linalg, "cupy.random": real.random,
        "cupy.random.Generator": real.random.Generator, "cupy.cuda": real.cuda,
        "cupy.lib.stride_tricks": real.lib.stride_tricks,
    }  # fmt: skip
    names: dict[str, dict[str, str]] = {"version": {"cupy": real.__version__}}
    for space, thing in spaces.items():
        public = [name for name in dir(thing) if not name.startswith("_") and name != "annotations"]
        names[space] = {name: _describe(getattr(thing, name), real) for name in public}
    DATA.parent.mkdir(exist_ok=True)
    DATA.write_text(json.dumps(names, indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1:] != ["--regenerate"]:
        sys.exit("usage: python tests/fakecupy.py --regenerate")
    regenerate()
