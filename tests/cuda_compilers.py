"""The CUDA compilers of this machine, neither of which needs a card: NVRTC, which CuPy uses, and nvcc."""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import shutil
import subprocess
import sys
from pathlib import Path

OPTIONS = ["-std=c++17", "-arch=compute_80"]


@functools.cache
def nvrtc() -> ctypes.CDLL | None:
    """NVRTC from pip (`nvidia-cuda-nvrtc`), from a CUDA toolkit, or None."""
    found = [p for folder in sys.path for p in sorted(Path(folder).glob("nvidia/*/lib/libnvrtc.so.*"))]
    for name in [*map(str, found), ctypes.util.find_library("nvrtc")]:
        try:
            return ctypes.CDLL(name) if name else None
        except OSError:
            continue
    return None


def compilers() -> list[str]:
    """The names of those that are here, the quicker first."""
    return [name for name, here in (("nvrtc", nvrtc()), ("nvcc", shutil.which("nvcc"))) if here]


def compile(compiler: str, source: str, real: str) -> str:
    """What the compiler has to say against a source: "" where it accepts it."""
    return (_by_nvrtc if compiler == "nvrtc" else _by_nvcc)(source, [*OPTIONS, f"-Dreal={real}"])


def _by_nvrtc(source: str, options: list[str]) -> str:
    library, program = nvrtc(), ctypes.c_void_p()
    library.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None)
    texts = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    refused, size = library.nvrtcCompileProgram(program, len(options), texts), ctypes.c_size_t()
    library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    library.nvrtcGetProgramLog(program, log)
    library.nvrtcDestroyProgram(ctypes.byref(program))
    return log.value.decode() or "refused" if refused else ""


def _by_nvcc(source: str, options: list[str]) -> str:
    command = ["nvcc", *options, "-ptx", "-x", "cu", "-", "-o", "/dev/null"]
    run = subprocess.run(command, input=source, capture_output=True, text=True, check=False)
    return run.stderr or "refused" if run.returncode else ""
