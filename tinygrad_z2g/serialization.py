"""Saving and loading: numbers in a safetensors file, structure as JSON in its header. Only whole modules are pickled.

A state dict becomes a plain safetensors file with its names, which torch code can load, and the other way round. A
nested structure (model, optimizer, step) works too: tensors are stored under dotted names, the rest as JSON. With each
tensor goes a checksum, and one with the structure: a file of ours in which any bit has changed is refused.

The format is simple (github.com/huggingface/safetensors): 8 bytes that say how long the header is, the header as JSON,
`{"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, "__metadata__": {"text": "text"}}`, then the
numbers of all tensors without gaps. So NumPy is all that it takes. It knows nothing of models or optimizers, only of
nested dicts and lists with tensors in them.
"""

from __future__ import annotations

import errno
import json
import math
import os
import pickle
import stat
import uuid
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from .arrays import backend
from .nn.module import Module
from .tensor import Size, Tensor

_KEY, _SUMS = "tinygrad_z2g", "tinygrad_z2g.crc32"
_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "uint16",  # the upper half of a float32
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
_NAMES = {np.dtype(ours): name for name, ours in _DTYPES.items()}


def save(obj: Any, f: Any) -> None:
    """Write a tensor, or nested dicts, lists and tuples of tensors, numbers, strings, bools and None, to the file `f`.

    A module, or what holds one, is pickled instead: the file names classes, which must be there when it is read, and
    reading it can run code (see `load`). Better save `model.state_dict()`.

    The file is written under a temporary name and put in place when complete: a crash leaves the old one whole, and of
    two that write at once the last one wins. (A crash that leaves no time to clean up also leaves
    `.NAME.PID.RANDOM.tmp`, which nothing reads: delete it.) A link is followed, and the permissions of an old file are
    kept. Tensors are copied to the host; nothing is moved or changed. OSError if the file cannot be written, a full
    disk for instance, or is none, but a folder or pipe; TypeError for anything else inside.
    """
    arrays: dict[str, np.ndarray] = {}
    try:
        if _holds_module(obj):
            _put(f, [pickle.dumps(obj)])
            return
        structure = json.dumps(_flatten(obj, "" if isinstance(obj, dict) else "data", arrays))
    except RecursionError as error:
        raise ValueError("save: the structure is nested too deeply, or contains itself") from error
    sums = {"structure": zlib.crc32(structure.encode()), "tensors": {n: _checksum(a) for n, a in arrays.items()}}
    header: dict[str, Any] = {"__metadata__": {_KEY: structure, _SUMS: json.dumps(sums)}}
    arrays = dict(sorted(arrays.items(), key=lambda item: -item[1].itemsize))  # each begins at a multiple of its size
    end = 0
    for name, array in arrays.items():
        start, end = end, end + array.nbytes
        header[name] = {"dtype": _NAMES[array.dtype], "shape": array.shape, "data_offsets": [start, end]}
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    data = [array.reshape(-1) for array in arrays.values()]
    _put(f, [len(head).to_bytes(8, "little"), head, *data])


def _holds_module(obj: Any) -> bool:
    if isinstance(obj, Module):
        return True
    parts = obj.values() if isinstance(obj, dict) else obj if isinstance(obj, (list, tuple)) else ()
    return any(map(_holds_module, parts))


def _put(f: Any, parts: list[Any]) -> None:
    """Write the parts to a path, or to what was opened for writing."""
    if not hasattr(f, "write"):
        _replace(os.path.realpath(os.fsdecode(f)), parts)
        return
    for part in parts:
        f.write(part)


def _replace(path: str, parts: list[Any]) -> None:
    """Put a file that consists of `parts` in the place of `path`, all of it or nothing."""
    folder, name = os.path.split(path)
    temporary = Path(folder, f".{name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp")
    kept = "no file was left behind"
    try:
        mode = None
        if os.path.lexists(path):
            old = os.stat(path)
            if not stat.S_ISREG(old.st_mode):
                kept = "it is no regular file; name one"
                raise OSError(errno.EISDIR if stat.S_ISDIR(old.st_mode) else errno.EINVAL, "cannot be replaced")
            kept, mode = "the file that was there is as before", stat.S_IMODE(old.st_mode)
            if not os.access(path, os.W_OK):
                raise PermissionError(errno.EACCES, "it may not be written")
        first = 0o666 if mode is None else 0o600  # until it has the old permissions, nobody else may read it
        with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, first)) as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        if mode is not None:
            os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OSError(error.errno, f"save: {error.strerror or error}; {kept}", path) from error
        raise


def load(f: Any, map_location: Any = None, *, weights_only: bool | None = None, mmap: bool | None = None) -> Any:
    """What `save` wrote, or the tensors of any safetensors file by name, on device `map_location` (default CPU).

    A file with a pickled module is read with `weights_only=False` alone, for whoever made it decides what code runs
    then: only where you trust them. It goes to the device it was on, or to `map_location`.

    bfloat16 becomes float32, which holds it exactly. OSError if the file cannot be read, ValueError if it is no valid
    safetensors file or holds another type that we do not compute with.
    """
    if isinstance(map_location, dict):
        map_location = next(iter(map_location.values()), None)
    home = backend.resolve("cpu" if map_location is None or callable(map_location) else map_location)
    data = f.read() if hasattr(f, "read") else Path(f).read_bytes()
    if weights_only is False and not _is_safe(data):
        found = pickle.loads(data)  # the user has said that it may run code
        return found if map_location is None or not hasattr(found, "to") else found.to(home)
    try:
        metadata, arrays = _parse(data)
        _check_sums(metadata, arrays)
        structure = json.loads(metadata.get(_KEY, "null"))
        tensors = {name: Tensor.make(array) for name, array in arrays.items()}
        found = tensors if structure is None else _unflatten(structure, tensors)
    except NotImplementedError as error:
        raise ValueError(f"load: {f}: {error}") from error
    except Exception as error:
        if data[:1] == b"\x80" and data[-1:] == b".":
            raise ValueError(
                f"load: {f} is no safetensors file but a pickle, which can run any code when it is read; if you trust "
                "whoever made it, load(f, weights_only=False)"
            ) from error
        # damaged files fail in many ways: JSON's own error, a missing key, a wrong type
        raise ValueError(f"load: {f} is not a valid safetensors file ({error})") from error
    for tensor in tensors.values():
        tensor.array = backend.to_device(tensor.array, home)
    return found


def _is_safe(data: bytes) -> bool:
    """Whether this is a safetensors file, whatever it holds: its header is JSON."""
    end = 8 + int.from_bytes(data[:8], "little")
    return end <= len(data) and data[8:9] == b"{"


def _parse(data: bytes) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """The metadata and the arrays of a file. ValueError if it is damaged, NotImplementedError for an unknown type."""
    start = 8 + int.from_bytes(data[:8], "little")
    if len(data) < start:
        raise ValueError(f"its header should take {start} bytes, and it has {len(data)}")
    header = json.loads(data[8:start], object_pairs_hook=_unique)
    metadata = header.pop("__metadata__", {})
    if not all(isinstance(text, str) for text in metadata.values()):
        raise ValueError("its metadata are not text")
    arrays, end = {}, 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        kind, shape, offsets = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        if kind not in _DTYPES:
            raise NotImplementedError(f"'{name}' has the type {kind}; expected one of {', '.join(_DTYPES)}")
        if not all(isinstance(n, int) and n >= 0 for n in (*shape, *offsets)):
            raise ValueError(f"'{name}' has an impossible shape or place")
        dtype, count = np.dtype(_DTYPES[kind]), math.prod(shape)
        if offsets != [end, end + count * dtype.itemsize]:
            raise ValueError(f"'{name}' should lie at {[end, end + count * dtype.itemsize]}, and lies at {offsets}")
        end = offsets[1]
        if len(data) < start + end:
            raise ValueError(f"'{name}' should end at byte {start + end}, and the file at {len(data)}")
        array = np.frombuffer(data, dtype, count, start + offsets[0]).reshape(shape)
        if kind == "BOOL" and array.view(np.uint8).max(initial=0) > 1:
            raise ValueError(f"'{name}' should hold True and False, and holds other bytes")
        arrays[name] = (array.astype(np.uint32) << 16).view(np.float32) if kind == "BF16" else array.copy()
    if len(data) != start + end:
        raise ValueError(f"it should have {start + end} bytes, and has {len(data)}")
    return metadata, {name: arrays[name] for name in header}


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) != len(pairs):
        raise ValueError("its header has a name twice")
    return found


def _checksum(array: np.ndarray) -> int:
    """CRC-32 of the numbers, their dtype and shape: every change of up to 32 neighbouring bits gives another one."""
    return zlib.crc32(f"{array.dtype.str} {array.shape}".encode(), zlib.crc32(array.data))


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


_SEQUENCES: dict[str, type] = {"list": list, "tuple": tuple, "Size": Size}
_MAPPINGS: dict[str, type] = {"dict": dict, "OrderedDict": OrderedDict}
_VALUES = (type(None), bool, int, float, str)


def _flatten(value: Any, path: str, arrays: dict[str, np.ndarray]) -> Any:
    """JSON for `value`, its tensors put into `arrays` under the path that leads to them."""
    if isinstance(value, np.generic) and type(value.item()) in _VALUES:
        value = value.item()  # NumPy's numbers come back as Python's
    kind = type(value)
    if isinstance(value, Tensor):
        if path in arrays or path == "__metadata__":
            raise ValueError(f"save: the name '{path}' is taken (dots join the levels of a structure); rename a key")
        arrays[path] = np.ascontiguousarray(backend.to_host(value.array)).reshape(value.array.shape)
        return {"tensor": path}
    if _MAPPINGS.get(kind.__name__) is kind:
        keys = [key.item() if isinstance(key, np.generic) else key for key in value]
        for key in keys:
            if type(key) not in _VALUES:
                raise TypeError(
                    f"save: key {key!r} at '{path}' is a {type(key).__name__}; expected a string or a number"
                )
        paths = [f"{path}.{key}" if path else str(key) for key in keys]
        parts = [_flatten(part, there, arrays) for part, there in zip(value.values(), paths, strict=True)]
        return {kind.__name__: list(zip(keys, parts, strict=True))}
    if _SEQUENCES.get(kind.__name__) is kind:
        return {kind.__name__: [_flatten(part, f"{path}.{i}", arrays) for i, part in enumerate(value)]}
    if kind in _VALUES:
        return {"value": value}
    raise TypeError(
        f"save: cannot store {kind.__name__} at '{path}'; expected tensors, numbers, strings, dicts, lists, tuples"
    )


def _unflatten(node: dict[str, Any], tensors: dict[str, Tensor]) -> Any:
    ((kind, content),) = node.items()
    if kind == "tensor":
        return tensors[content]
    if kind in _MAPPINGS:
        return _MAPPINGS[kind]((key, _unflatten(part, tensors)) for key, part in content)
    if kind in _SEQUENCES:
        return _SEQUENCES[kind](_unflatten(part, tensors) for part in content)
    return {"value": content}[kind]
