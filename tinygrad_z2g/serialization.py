"""Saving and loading: numbers in a safetensors file, structure as JSON in its header, never pickle.

A state dict becomes a plain safetensors file with its names, which torch code can load, and the other way round. A
nested structure (model, optimizer, step) works too: tensors are stored under dotted names, the rest as JSON. With each
tensor goes a checksum, and one with the structure: a file of ours in which any bit has changed is refused. It knows
nothing of models or optimizers, only of nested dicts and lists with tensors in them.
"""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from . import backend
from .tensor import Tensor

_KEY, _SUMS = "tinygrad_z2g", "tinygrad_z2g.crc32"


def save(obj: dict[str, Any], f: str | os.PathLike) -> None:
    """Write nested dicts and lists of tensors, numbers, strings, bools and None to the file `f`.

    The file is written under a temporary name and put in place when complete: a crash leaves the old one whole. (One
    that leaves no time to clean up also leaves `.NAME.PID.tmp`, which nothing reads: delete it.) Tensors are copied to
    the host; nothing is moved or changed. OSError if the file cannot be written, a full disk for instance; TypeError
    for anything else inside; ImportError without the safetensors package (`pip install safetensors`).
    """
    if not isinstance(obj, dict):
        raise TypeError(f"save: expected a dict such as model.state_dict(), got {type(obj).__name__}")
    arrays: dict[str, np.ndarray] = {}
    structure = json.dumps(_flatten(obj, "", arrays))
    sums = {"structure": zlib.crc32(structure.encode()), "tensors": {n: _checksum(a) for n, a in arrays.items()}}
    data = _safetensors("save").save(arrays, metadata={_KEY: structure, _SUMS: json.dumps(sums)})
    path = Path(f)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            kept = "the file that was there is as before" if path.exists() else "no file was left behind"
            raise OSError(error.errno, f"save: {error.strerror or error}; {kept}", str(path)) from error
        raise


def load(f: str | os.PathLike, map_location: Any = None) -> dict[str, Any]:
    """What `save` wrote, or the tensors of any safetensors file by name, on device `map_location` (default CPU).

    OSError if the file cannot be read, ValueError if it is no valid safetensors file.
    """
    library, home = _safetensors("load"), backend.resolve("cpu" if map_location is None else map_location)
    data = Path(f).read_bytes()
    try:
        arrays = library.load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        metadata = header.get("__metadata__", {})
        _check_sums(metadata, arrays)
        structure = json.loads(metadata.get(_KEY, "null"))
        tensors = {name: Tensor.make(array) for name, array in arrays.items()}
        found = tensors if structure is None else _unflatten(structure, tensors)
        if not isinstance(found, dict):
            raise TypeError("its structure is no dict")
    except Exception as error:  # damaged files fail in many ways: the library's own error type, JSON's, a missing key
        raise ValueError(f"load: {f} is not a valid safetensors file ({error})") from error
    for tensor in tensors.values():
        tensor.array = backend.to_device(tensor.array, home)
    return found


def _checksum(array: np.ndarray) -> int:
    """CRC-32 of the numbers, their dtype and shape: every change of up to 32 neighbouring bits gives another one."""
    return zlib.crc32(f"{array.dtype.str} {array.shape}".encode(), zlib.crc32(array))


def _check_sums(metadata: dict[str, str], arrays: dict[str, np.ndarray]) -> None:
    """Raise ValueError if what was read is not what was written. Files made elsewhere, and older ones, have no sums."""
    if _SUMS not in metadata:
        return
    sums = json.loads(metadata[_SUMS])
    if zlib.crc32(metadata[_KEY].encode()) != sums["structure"]:
        raise ValueError("its structure has changed since it was written")
    if sums["tensors"].keys() != arrays.keys():
        raise ValueError("its tensors are not those that were written")
    for name, array in arrays.items():
        if _checksum(array) != sums["tensors"][name]:
            raise ValueError(f"'{name}' has changed since it was written")


def _safetensors(name: str) -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError(f"{name}: needs the safetensors package: pip install safetensors") from error
    return safetensors.numpy


def _flatten(value: Any, path: str, arrays: dict[str, np.ndarray]) -> Any:
    """JSON for `value`, its tensors put into `arrays` under the path that leads to them."""
    if isinstance(value, Tensor):
        if path in arrays or path == "__metadata__":
            raise ValueError(f"save: the name '{path}' is taken (dots join the levels of a structure); rename a key")
        arrays[path] = np.ascontiguousarray(backend.to_host(value.array)).reshape(value.array.shape)
        return {"tensor": path}
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, (str, int, float, bool)):
                raise TypeError(
                    f"save: key {key!r} at '{path}' is a {type(key).__name__}; expected a string or a number"
                )
        pairs = [[key, _flatten(part, f"{path}.{key}" if path else str(key), arrays)] for key, part in value.items()]
        return {"dict": pairs}
    if isinstance(value, (list, tuple)):
        return {"list": [_flatten(part, f"{path}.{i}", arrays) for i, part in enumerate(value)]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return {"value": value}
    raise TypeError(
        f"save: cannot store {type(value).__name__} at '{path}'; expected tensors, numbers, strings, dicts, lists"
    )


def _unflatten(node: dict[str, Any], tensors: dict[str, Tensor]) -> Any:
    if "tensor" in node:
        return tensors[node["tensor"]]
    if "dict" in node:
        return {key: _unflatten(part, tensors) for key, part in node["dict"]}
    if "list" in node:
        return [_unflatten(part, tensors) for part in node["list"]]
    return node["value"]
