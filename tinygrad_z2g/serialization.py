"""Saving and loading: numbers in a safetensors file, structure as JSON in its header, never pickle.

A state dict becomes a plain safetensors file with its names, which torch code can load, and the other way round. A
nested structure (model, optimizer, step) works too: tensors are stored under dotted names, the rest as JSON. It knows
nothing of models or optimizers, only of nested dicts and lists with tensors in them.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from . import backend
from .tensor import Tensor

_KEY = "tinygrad_z2g"


def save(obj: dict[str, Any], f: str | os.PathLike) -> None:
    """Write nested dicts and lists of tensors, numbers, strings, bools and None to the file `f`.

    The file is written under a temporary name and put in place when complete: a crash leaves the old one whole.
    Tensors are copied to the host; nothing is moved or changed. TypeError for anything else inside; ImportError
    without the safetensors package (`pip install safetensors`).
    """
    if not isinstance(obj, dict):
        raise TypeError(f"save: expected a dict such as model.state_dict(), got {type(obj).__name__}")
    arrays: dict[str, np.ndarray] = {}
    structure = _flatten(obj, "", arrays)
    data = _safetensors("save").save(arrays, metadata={_KEY: json.dumps(structure)})
    path = Path(f)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
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
        structure = json.loads(header.get("__metadata__", {}).get(_KEY, "null"))
        tensors = {name: Tensor.make(array) for name, array in arrays.items()}
        found = tensors if structure is None else _unflatten(structure, tensors)
        if not isinstance(found, dict):
            raise TypeError("its structure is no dict")
    except Exception as error:  # damaged files fail in many ways: the library's own error type, JSON's, a missing key
        raise ValueError(f"load: {f} is not a valid safetensors file ({error})") from error
    for tensor in tensors.values():
        tensor.array = backend.to_device(tensor.array, home)
    return found


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
