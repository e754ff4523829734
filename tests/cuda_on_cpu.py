"""CUDA sources compiled by g++ and run on the CPU: the numbers of a kernel can be checked where there is no card.

    module = cuda_on_cpu.compile(source, "float")
    module.launch("softmax", grid=(1,), block=(32, 4), args=[a, p, np.int32(4), np.int32(10)])

`cuda_on_cpu.h` says how. Compiled libraries are kept in the temporary folder, so that a source is compiled once for
all workers and all later runs.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

HEADER = Path(__file__).with_name("cuda_on_cpu.h")
FLAGS = ["-std=c++17", "-O2", "-shared", "-fPIC", "-U_FORTIFY_SOURCE", "-Wall", "-Wno-unused"]
if platform.machine() == "x86_64":
    FLAGS.append("-fcf-protection=none")  # the processor's record of returns knows nothing of fibers
MAX_BLOCK, MAX_GRID = (1024, 1024, 64), (2**31 - 1, 65535, 65535)


def available() -> bool:
    """Whether there is a g++, on Linux (the header relies on ELF sections)."""
    return sys.platform == "linux" and shutil.which("g++") is not None


def kernels(source: str) -> list[str]:
    """The names of the kernels in a source."""
    return re.findall(r'extern "C" __global__ void (\w+)\(', source)


class Module:
    """A compiled source: `launch` runs one of its kernels."""

    def __init__(self, path: Path, names: list[str], real: str):
        self.real = real
        library = ctypes.PyDLL(str(path))  # keeps Python's lock: the emulation's state is global
        self.parameters: dict[str, list[str]] = {}
        self._launch: dict[str, Any] = {}
        for name in names:
            signature, launch = library[f"signature_{name}"], library[f"launch_{name}"]
            signature.restype = launch.restype = ctypes.c_char_p
            launch.argtypes = [ctypes.POINTER(ctypes.c_uint)] * 2 + [ctypes.POINTER(ctypes.c_void_p), ctypes.c_bool]
            self.parameters[name] = signature().decode().split()
            self._launch[name] = launch

    def launch(self, name: str, grid: tuple, block: tuple, args: Any, descending: bool = False) -> None:
        """Run a kernel: arguments are NumPy arrays (as pointers), NumPy scalars, size-1 structured arrays, None.

        TypeError where an argument's type is not exactly the parameter's: a card would read garbage. ValueError for
        a grid or block that CUDA refuses. RuntimeError where the kernel would hang.
        """
        for what, size, most in (("grid", grid, MAX_GRID), ("block", block, MAX_BLOCK)):
            plain = isinstance(size, tuple) and 0 < len(size) <= 3 and all(type(n) is int for n in size)
            if not plain or not all(0 < n <= m for n, m in zip(size, most, strict=False)):
                raise ValueError(f"{name}: {what} {size!r}: expected a tuple of 1 to 3 ints, at most {most}")
        if np.prod(block) > 1024:
            raise ValueError(f"{name}: block {block} has more than 1024 threads")
        expected = self.parameters[name]
        if not isinstance(args, (tuple, list)) or len(args) != len(expected):
            raise TypeError(f"{name}: expected {len(expected)} arguments {expected}, got {args!r}")
        pointers = (ctypes.c_void_p * len(args))()
        kept = []
        for i, (arg, kind) in enumerate(zip(args, expected, strict=True)):
            value = as_argument(arg, kind, f"{name}: argument {i}")
            kept.append(value)
            pointers[i] = value.ctypes.data
        error = self._launch[name](_three(grid), _three(block), pointers, descending)
        if error:
            raise RuntimeError(f"{name}: {error.decode()}")

    def launch_carefully(self, name: str, grid: tuple, block: tuple, args: Any) -> None:
        """`launch` on copies of the arrays with guard bytes before and behind, in both orders of the threads.

        AssertionError if the kernel writes beyond an array, or if its result depends on the order (a race) or on what
        lies beyond an array.
        """
        plain = [isinstance(arg, np.ndarray) and not arg.dtype.names for arg in args]
        tables = [  # of addresses, which have sizes
            Addressed(arg, self.real)
            for arg in args
            if isinstance(arg, np.ndarray) and "size" in (arg.dtype.names or ())
        ]
        results = []
        for descending in (False, True):
            around = 0x42 if descending else 0xFF  # floats: 48.6 or so, and NaN
            guarded = [guard(arg, around) if p else None for arg, p in zip(args, plain, strict=True)]
            inner = [arg if g is None else g[1] for arg, g in zip(args, guarded, strict=True)]
            for table in tables:
                table.restore()
            self.launch(name, grid, block, inner, descending)
            for i, g in enumerate(guarded):
                assert g is None or is_guarded(*g, around), f"{name}: argument {i}: written beyond the array"
            written = [x.tobytes() if p else b"" for x, p in zip(inner, plain, strict=True)]
            results.append((written, [table.read() for table in tables], inner))
        assert results[0][:2] == results[1][:2], f"{name}: a race, or a read beyond an array"
        for arg, p, x in zip(args, plain, results[0][2], strict=True):
            if p and arg.flags.writeable:
                arg[...] = x


class Addressed:
    """The arrays whose addresses are in a table, as they were: kernels change them in place."""

    def __init__(self, table: np.ndarray, real: str):
        itemsize = {"half": 2, "float": 4, "double": 8}[real]
        sizes = table["size"][0] * itemsize
        fields = [name for name in table.dtype.names if name != "size"]
        self.places = [(int(p), int(n)) for f in fields for p, n in zip(table[f][0], sizes, strict=True) if n]
        self.before = self.read()

    def read(self) -> list[bytes]:
        return [ctypes.string_at(place, size) for place, size in self.places]

    def restore(self) -> None:
        for (place, size), content in zip(self.places, self.before, strict=True):
            ctypes.memmove(place, content, size)


GUARD = 256  # bytes


def guard(a: np.ndarray, around: int) -> tuple[np.ndarray, np.ndarray]:
    """A block of memory filled with one byte and in its middle a copy of the contiguous array a."""
    memory = np.full(a.nbytes + 2 * GUARD, around, np.uint8)
    inner = memory[GUARD : GUARD + a.nbytes].view(a.dtype).reshape(a.shape)
    inner[...] = a
    return memory, inner


def is_guarded(memory: np.ndarray, inner: np.ndarray, around: int) -> bool:
    """Whether the bytes around the array are still as they were."""
    return bool((memory[:GUARD] == around).all() and (memory[GUARD + inner.nbytes :] == around).all())


def _three(size: tuple) -> Any:
    return (ctypes.c_uint * 3)(*size, *[1] * (3 - len(size)))


def as_argument(arg: Any, kind: str, where: str) -> np.ndarray:
    """The memory that a parameter of this kind is copied from; Python numbers become 8 bytes, as with CuPy."""
    if kind[0] == "*":
        if arg is not None and not (isinstance(arg, np.ndarray) and arg.dtype.str[1:] == kind[1:]):
            got = getattr(arg, "dtype", type(arg).__name__)
            raise TypeError(f"{where}: got {got}, expected an array of {kind[1:]} or None")
        return np.array(0 if arg is None else arg.ctypes.data, np.uint64)
    if kind[0] == "S":
        if not (isinstance(arg, np.ndarray) and arg.size == 1 and arg.dtype.names):
            raise TypeError(f"{where}: expected a structured array of size 1, got {arg!r}")
        got = f"S{arg.itemsize}"
    else:
        if isinstance(arg, np.ndarray):
            raise TypeError(f"{where}: got an array, expected a number of type {kind}")
        arg = np.array(arg)
        got = arg.dtype.str[1:]
    if got != kind:
        raise TypeError(f"{where}: got {got}, expected {kind}")
    return arg


@functools.cache
def compile(source: str, real: str) -> Module:
    """The kernels of a source, with `real` as "float", "double" or "half". Raises RuntimeError with g++'s messages."""
    names = kernels(source)
    text = f'#include "{HEADER}"\n#line 1 "kernel.cu"\n{source}\n' + "".join(f"KERNEL({name})\n" for name in names)
    key = hashlib.sha256("\0".join([HEADER.read_text(), text, real, *FLAGS]).encode()).hexdigest()[:24]
    folder = Path(tempfile.gettempdir()) / f"tinygrad_z2g_kernels_{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"{key}.so"
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:  # moved when complete: other workers may do the same
            made = Path(scratch) / "kernel.so"
            command = ["g++", *FLAGS, f"-Dreal={real}", "-x", "c++", "-", "-o", str(made)]
            run = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
            if run.returncode:
                raise RuntimeError(f"g++ refused the source:\n{run.stderr}")
            made.replace(path)
    return Module(path, names, real)
