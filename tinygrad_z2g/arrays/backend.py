"""Where arrays live: the devices, the array library of each, and moves between them.

An array is a `numpy.ndarray` (device `cpu`) or a `cupy.ndarray` (device `cuda:0`, `cuda:1`, ...). Code that
computes asks `xp = of(array)` for the library and then reads the same for both. CuPy is imported when the first
CUDA device is asked for and never before: importing it takes most of a second.
"""

from __future__ import annotations

import contextlib
import contextvars
import ctypes
import functools
import os
import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar

import numpy as np

_F = TypeVar("_F", bound=Callable[..., Any])
Array = Any  # numpy.ndarray or cupy.ndarray: CuPy may be absent, so the type cannot be spelled out


class Device:
    """A place for arrays: `Device("cpu")`, `Device("cuda")` (the current card), `Device("cuda", 1)`.

    Attributes: `type`, "cpu" or "cuda"; `index`, the card's number or None. Raises RuntimeError for another name.
    """

    __slots__ = ("index", "type")

    def __init__(self, type: str | Device, index: int | None = None):
        kind, colon, number = str(type).partition(":")
        if kind not in ("cpu", "cuda") or (colon and (not number.isdecimal() or index is not None)):
            raise RuntimeError(f"device: got {type!r}, expected 'cpu', 'cuda' or 'cuda:<number>'")
        self.type = kind
        self.index = int(number) if colon else index

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and (self.type, self.index) == (other.type, other.index)

    def __hash__(self) -> int:
        return hash((self.type, self.index))

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __repr__(self) -> str:
        return f"device(type='{self.type}'" + ("" if self.index is None else f", index={self.index}") + ")"


CPU = Device("cpu")


# --- CuPy: does it import, and does a card answer? Two questions with two different remedies ---------------------


def cupy() -> ModuleType:
    """The cupy module. Raises RuntimeError saying which is missing: CuPy itself, or a card that answers."""
    try:
        import cupy
    except ImportError as error:
        raise RuntimeError(
            f"device 'cuda': CuPy does not import ({error}); install it with "
            "pip install 'tinygrad_z2g[cuda13]' (or [cuda12], whichever `nvidia-smi` shows), or use device 'cpu'"
        ) from error
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # no driver, a driver too old, a container without the card: CuPy's own types vary
        raise RuntimeError(
            f"device 'cuda': CuPy is installed but no GPU answers ({error}); use device 'cpu'"
        ) from error
    if count == 0:
        raise RuntimeError("device 'cuda': CuPy is installed but finds 0 GPUs; use device 'cpu'")
    return cupy


def device_count() -> int:
    """How many CUDA cards can be used; 0 where CuPy or the driver is missing."""
    try:
        return int(cupy().cuda.runtime.getDeviceCount())
    except RuntimeError:
        return 0


def is_available() -> bool:
    """Whether device 'cuda' can be used."""
    return device_count() > 0


def synchronize() -> None:
    """Wait until the current card has finished all work given to it."""
    cupy().cuda.Device().synchronize()


def set_device(device: Device | str | int) -> None:
    """Make this card the one that 'cuda' means and that computes. One process computes on one card at a time."""
    cupy().cuda.Device(resolve(device).index).use()


# --- Which library, which device ---------------------------------------------------------------------------------


def of(array: Array) -> ModuleType:
    """The library `xp` that computes with `array`: numpy or cupy; of a tensor `ops.words`, which has NumPy's names."""
    if isinstance(array, (np.ndarray, np.generic)):
        return np
    # A GPU array can exist only once CuPy is loaded, so there is no import to wait for here.
    return getattr(array, "_words", None) or sys.modules["cupy"]


def device_of(array: Array) -> Device:
    """The device that `array` lives on."""
    return CPU if isinstance(array, (np.ndarray, np.generic)) else Device("cuda", array.device.id)


def resolve(device: Device | str | int | None = None) -> Device:
    """The usable device that is meant: checks that it exists and gives 'cuda' its number.

    None means the default: what `set_default_device` said, or the environment variable TINYGRAD_Z2G_DEVICE, or else
    'cpu'. There, 'auto' takes a GPU if one answers. Raises RuntimeError for an
    unknown device, for CUDA without CuPy or card, and for a wrong index.
    """
    if device is None:
        device = _default or os.environ.get("TINYGRAD_Z2G_DEVICE", "cpu")
    if device == "auto":
        device = "cuda" if is_available() else "cpu"
    if isinstance(device, int):
        device = Device("cuda", device)
    device = Device(device)
    if device.type == "cpu":
        return CPU
    library = cupy()
    count = int(library.cuda.runtime.getDeviceCount())
    index = library.cuda.Device().id if device.index is None else device.index
    if not 0 <= index < count:
        raise RuntimeError(f"device '{device}': this machine has {count} GPU(s), numbered 0 to {count - 1}")
    return Device("cuda", index)


_default: Device | None = None


def set_default_device(device: Device | str | int | None) -> None:
    """Where new tensors are made that name no device. None: where they were made before this was called."""
    global _default
    _default = None if device is None else resolve(device)


def get_default_device() -> Device:
    """Where new tensors are made that name no device."""
    return resolve(None)


def to_device(array: Array, device: Device) -> Array:
    """`array` on `device` (a resolved one): itself if it is there already, otherwise a copy."""
    if isinstance(array, (np.ndarray, np.generic)) and device.type == "cpu":
        return array
    if getattr(array, "_words", None):  # a tensor
        return array.to(device)
    if device_of(array) == device:
        return array
    if device.type == "cpu":
        return array.get()
    library = cupy()
    with library.cuda.Device(device.index):
        return library.asarray(array)


def to_host(array: Array) -> np.ndarray:
    """`array` as a NumPy array: itself on the CPU, a copy (which waits for the GPU) otherwise."""
    return np.asarray(array) if isinstance(array, (np.ndarray, np.generic)) else array.get()


# --- No warnings -------------------------------------------------------------------------------------------------


def _without_warnings() -> tuple[contextvars.ContextVar, Any]:
    """Where NumPy keeps its settings, a variable of the context, and what it holds when all warnings are off."""
    before, context = contextvars.copy_context(), contextvars.copy_context()
    context.run(np.seterr, all="ignore")
    [found] = [(variable, value) for variable, value in context.items() if before.get(variable) is not value]
    return found


settings, no_warnings = _without_warnings()


class _Quiet(threading.local):
    """`quiet.run(f, *args)` is f(*args), but NumPy keeps silent about inf and NaN, which are results like others: the
    GPU never warns, nor does torch. It costs 0.1 µs; f must not come back here.
    """

    def __init__(self) -> None:
        context = contextvars.copy_context()
        context.run(settings.set, no_warnings)
        self.run = context.run


quiet = _Quiet()


def silent(function: _F) -> _F:
    """The function, run as by `quiet.run`, but it may call others that are, and code of the user's own. This costs
    0.2 µs, `np.errstate` six times that.
    """

    @functools.wraps(function)
    def silenced(*args: Any, **kwargs: Any) -> Any:
        before = settings.set(no_warnings)
        try:
            return function(*args, **kwargs)
        finally:
            settings.reset(before)

    return silenced  # type: ignore[return-value]  # of the same signature


# --- Memory ------------------------------------------------------------------------------------------------------


def tune_malloc() -> None:
    """Let the C library keep freed blocks for reuse, in huge pages; TINYGRAD_Z2G_MALLOPT=0 leaves it alone.

    NumPy takes every large temporary from malloc, and glibc gives each one back to the operating system when freed:
    the next one is page-faulted in anew, zeroed by the kernel. Keeping them made a training step 1.4 times (4 layers,
    width 128) to 1.6 times (3 blocks, width 32) faster. Only glibc has these two settings.

    Where Linux gives pages of 2 MiB only to those who ask (`madvise`, as on most machines), the next GiB that malloc
    will hand out asks: the processor looks up addresses 512 times less often. The same two steps became another 1.07
    and 1.03 times faster, for 1 MiB more memory. A GiB of addresses costs nothing until it is written to; but where
    the user limits addresses (ulimit -v), none is taken.
    """
    if sys.platform != "linux" or os.environ.get("TINYGRAD_Z2G_MALLOPT") == "0":
        return
    import resource  # there is none on Windows

    m_trim_threshold, m_mmap_max, madv_hugepage = -1, -4, 14  # from <malloc.h> and <sys/mman.h>
    with contextlib.suppress(OSError, AttributeError):  # another C library: nothing to set
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(m_trim_threshold, 2**31 - 1)
        libc.mallopt(m_mmap_max, 0)
        libc.malloc.argtypes, libc.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
        libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        libc.free.argtypes = [ctypes.c_void_p]
        size, page = 2**30, resource.getpagesize()
        if resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY and (block := libc.malloc(size)):
            start = -(-block // page) * page
            libc.madvise(start, (block + size - start) // page * page, madv_hugepage)
            libc.free(block)


tune_malloc()
