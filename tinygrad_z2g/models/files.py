"""Weights that others trained: GGUF files, folders with safetensors. What is in them, and into which layer it goes.

Files are mapped into memory, not read: a tensor is touched when its layer is made, and copied or expanded once. Sizes
in a header are compared with the file's before anything is allocated.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from ..fast import quantized
from ..nn import Embedding, LayerNorm, Linear, Module, Parameter, RMSNorm
from ..nn.quantized import QuantizedEmbedding, QuantizedLinear
from ..tensor import Tensor

MISTAKES = (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError, struct.error)
FLOATS = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16}


class Blank(Module):
    """The place of a layer whose weights are still in a file: it has sizes and nothing else."""

    def __init__(self, columns: int, rows: int, bias: bool = True):
        self.size, self.bias = (rows, columns), bias

    @classmethod
    def table(cls, rows: int, columns: int) -> Blank:
        """That of an `Embedding`."""
        return cls(columns, rows, bias=False)


@dataclass
class Stored:
    """A tensor in a file: its type ("F32", "BF16", "Q4_1"), its shape, and where its bytes are."""

    kind: str
    shape: tuple[int, ...]
    data: np.ndarray  # uint8, a part of the mapped file

    def floats(self) -> np.ndarray:
        """Its numbers as float32, in memory of their own."""
        if self.kind == "BF16":  # the upper half of a float32
            wide = self.data.view(np.uint16).astype(np.uint32) << 16
            return wide.view(np.float32).reshape(self.shape)
        if self.kind in FLOATS:
            return self.data.view(FLOATS[self.kind]).astype(np.float32).reshape(self.shape)
        rows = self.data.reshape(math.prod(self.shape[:-1]), -1)
        if self.kind in quantized.KINDS:
            return quantized.expand(*quantized.from_file(rows, self.kind)).T.reshape(self.shape)
        import gguf  # `read_gguf` has seen that it is there

        return gguf.dequantize(rows, gguf.GGMLQuantizationType[self.kind]).reshape(self.shape)


# --- GGUF --------------------------------------------------------------------------------------------------------

_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TYPES = {0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 8: ("Q8_0", 32, 34),
          28: ("F64", 1, 8), 30: ("BF16", 1, 2)}  # fmt: skip


class _Header:
    """Reads a GGUF header from its beginning; ValueError where the file ends too early.

    (The reader of the package `gguf` makes an array of each of 98,000 strings: 2.3 s for SmolLM2, of which this is the
    twentieth part.)
    """

    def __init__(self, data: np.ndarray):
        self.bytes, self.size, self.place = data.data, len(data), 0

    def take(self, n: int) -> memoryview:
        """The next n bytes."""
        if n > self.size - self.place:
            raise ValueError(f"it is cut short: {n:,} bytes expected at {self.place:,} of {self.size:,}")
        self.place += n
        return self.bytes[self.place - n : self.place]

    def number(self, code: str) -> Any:
        """The next number, of a type that `struct` knows by this letter."""
        return struct.unpack("<" + code, self.take(struct.calcsize(code)))[0]

    def text(self) -> str:
        """The next string."""
        return str(self.take(self.number("Q")), "utf-8", "replace")

    def value(self, kind: int) -> Any:
        """The next value of a type of GGUF."""
        if kind == 8:
            return self.text()
        if kind == 9:
            inner, n = self.number("I"), self.number("Q")
            if inner in _NUMBERS:
                code = _NUMBERS[inner]
                return list(np.frombuffer(self.take(n * struct.calcsize(code)), code).tolist())
            if n * 8 > self.size:
                raise ValueError(f"an array of {n:,} strings is more than the file can hold")
            return [self.value(inner) for _ in range(n)]
        if kind not in _NUMBERS:
            raise ValueError(f"there is no type {kind} of values")
        return self.number(_NUMBERS[kind])


def read_gguf(path: Path) -> tuple[dict[str, Any], dict[str, Stored]]:
    """The fields and the tensors of a GGUF file."""
    data = _mapped(path)
    header = _Header(data)
    if bytes(header.take(4)) != b"GGUF":
        raise ValueError("it does not begin with GGUF")
    version = header.number("I")
    if version not in (2, 3):
        raise ValueError(f"GGUF version {version} is not offered, only 2 and 3")
    tensors, fields = header.number("Q"), header.number("Q")
    found = {header.text(): header.value(header.number("I")) for _ in range(fields)}
    listed = []
    for _ in range(tensors):
        name, n = header.text(), header.number("I")
        if n > 4:
            raise ValueError(f"tensor '{name}' has {n} dimensions, more than 4")
        shape = tuple(header.number("Q") for _ in range(n))[::-1]
        listed.append((name, shape, header.number("I"), header.number("Q")))
    alignment = found.get("general.alignment", 32)
    start = -(-header.place // alignment) * alignment
    return found, {name: _stored(data, name, shape, kind, start + place) for name, shape, kind, place in listed}


def _stored(data: np.ndarray, name: str, shape: tuple[int, ...], number: int, start: int) -> Stored:
    if number not in _TYPES:
        _TYPES.update(_more_types(name, number))
    kind, block, size = _TYPES[number]
    if not shape or shape[-1] % block:
        raise ValueError(f"tensor '{name}' {shape} does not consist of blocks of {block} numbers, as {kind} wants it")
    end = start + math.prod(shape) // block * size
    if end > len(data):
        raise ValueError(f"tensor '{name}' {shape} ends at byte {end:,}, the file at {len(data):,}: it is cut short")
    return Stored(kind, shape, data[start:end])


def _more_types(name: str, number: int) -> dict[int, tuple[str, int, int]]:
    """The other types of GGUF, as the package `gguf` knows them: name, numbers and bytes of a block."""
    try:
        import gguf
    except ImportError as error:
        raise ValueError(
            f"tensor '{name}' is of type {number}, which needs the package gguf: pip install gguf"
        ) from error
    known = {int(kind): (kind.name, *sizes) for kind, sizes in gguf.GGML_QUANT_SIZES.items()}
    if number not in known:
        raise ValueError(f"tensor '{name}' is of type {number}, which the package gguf does not know")
    return {number: known[number]}


# --- Safetensors -------------------------------------------------------------------------------------------------


def read_safetensors(folder: Path) -> dict[str, Stored]:
    """The tensors of model.safetensors, or of all the files that model.safetensors.index.json names."""
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return _read_safetensors(folder / "model.safetensors")
    names = _json(index)["weight_map"]
    shards = {file: _read_safetensors(folder / Path(file).name) for file in sorted(set(names.values()))}
    missing = [name for name, file in names.items() if name not in shards[file]]
    if missing:
        raise ValueError(f"tensor '{missing[0]}' is missing from {names[missing[0]]}")
    return {name: shards[file][name] for name, file in names.items()}


def _read_safetensors(path: Path) -> dict[str, Stored]:
    data = _mapped(path)
    length = int.from_bytes(bytes(data[:8]), "little")
    if len(data) < 8 or length > len(data) - 8:
        raise ValueError(f"{path.name} is no safetensors file: a header of {length:,} bytes, {len(data):,} in all")
    header = json.loads(bytes(data[8 : 8 + length]))
    header.pop("__metadata__", None)
    body, found = data[8 + length :], {}
    for name, entry in header.items():
        kind, shape, (start, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        if not 0 <= start <= end <= len(body):
            raise ValueError(f"tensor '{name}' of {path.name} ends at byte {end:,} of {len(body):,}: it is cut short")
        if kind in FLOATS and end - start != math.prod(shape) * np.dtype(FLOATS[kind]).itemsize:
            raise ValueError(f"tensor '{name}' of {path.name} is {kind} {shape}, which is not {end - start:,} bytes")
        found[name] = Stored(kind, shape, body[start:end])
    return found


def _mapped(path: Path) -> np.ndarray:
    """The bytes of a file, without reading them."""
    if not path.stat().st_size:
        raise ValueError(f"{path.name} is empty")
    return np.asarray(np.memmap(path, np.uint8, "r"))


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


# --- Into a model ------------------------------------------------------------------------------------------------


def fill(model: Module, stored: dict[str, Stored], name_of: Callable[[str], str], quantized_too: bool) -> str:
    """Give each layer of `model` its weights: the `Blank` ones are replaced, norms are written into.

    `name_of` says under which name the file has a layer. Returns a line about what was found. ValueError for a tensor
    that is missing, of another shape or of a type that is not offered, or that no layer takes.
    """
    taken: set[str] = set()

    def take(name: str, shape: tuple[int, ...]) -> Stored:
        if name not in stored:
            raise ValueError(f"tensor '{name}' is missing")
        found = stored[name]
        if found.shape != shape:
            raise ValueError(f"tensor '{name}' has shape {found.shape}, expected {shape}")
        if found.kind not in FLOATS and not found.kind.startswith(("Q", "IQ", "TQ", "MXFP")):
            raise ValueError(f"tensor '{name}' is of type {found.kind}, which is not offered")
        taken.add(name)
        return found

    def parameter(name: str, shape: tuple[int, ...]) -> Parameter:
        return Parameter(Tensor.make(take(name, shape).floats()))

    kept: list[str] = []
    modules = dict(model.named_modules())
    for place, module in modules.items():
        name, (parent, _, child) = name_of(place), place.rpartition(".")
        if isinstance(module, (LayerNorm, RMSNorm)) and module.weight is not None:
            module.weight = parameter(f"{name}.weight", tuple(module.weight.shape))
            if isinstance(module, LayerNorm) and module.bias is not None:
                module.bias = parameter(f"{name}.bias", tuple(module.bias.shape))
        elif isinstance(module, Blank):
            weight = take(f"{name}.weight", module.size)
            bias = parameter(f"{name}.bias", module.size[:1]) if module.bias else None
            table = child.endswith("embedding")
            if quantized_too and weight.kind in quantized.KINDS:
                blocks = weight.data.reshape(module.size[0], -1)
                kind = QuantizedEmbedding if table else QuantizedLinear
                layer: Module = kind.from_file(blocks, weight.kind)
                layer.bias = bias
                kept.append(weight.kind)
            elif table:
                layer = Embedding.from_pretrained(Tensor.make(weight.floats()), freeze=False)
            else:
                layer = Linear.of(Parameter(Tensor.make(weight.floats())), bias)
            modules[parent].set_submodule(child, layer)
    unused = [name for name in stored if name not in taken]
    if unused:
        raise ValueError(f"tensor '{unused[0]}' belongs to no layer of a {type(model).__name__}")
    kinds = [stored[name].kind for name in taken]
    others = [kind for kind in kinds if kind not in FLOATS and kind not in kept]
    told = [f"{kept.count(kind)} tensors {kind} kept in blocks" for kind in sorted(set(kept))]
    told += [f"{kinds.count(kind)} tensors {kind} expanded to float32" for kind in sorted(set(others))]
    told += [f"{kinds.count(kind)} tensors {kind}" for kind in FLOATS if kind in kinds]
    return ", ".join(told)


def named(parts: dict[str, str], block: str) -> Callable[[str], str]:
    """From the names of our layers to those of a file: parts of `parts`, in blocks behind `block` with their number."""

    def name_of(place: str) -> str:
        if place.startswith("blocks."):
            _, number, part = place.split(".", 2) if place.count(".") > 1 else ("", "", "")
            return block.format(number) + parts.get(part, part)
        return parts.get(place, place)

    return name_of


def fail(path: Path, error: Exception) -> NoReturn:
    """One line of ValueError about a file, whatever was wrong with it."""
    said = f"no {error}" if isinstance(error, KeyError) else str(error)
    raise ValueError(f"load: {path}: {said}") from error


def opened(path: str | os.PathLike[str]) -> tuple[Path, dict[str, Any], dict[str, Stored]]:
    """The path, and from a GGUF file its fields and tensors, or from a folder its config.json and tensors."""
    path = Path(path)
    try:
        if path.is_dir():
            return path, _json(path / "config.json"), read_safetensors(path)
        return path, *read_gguf(path)
    except MISTAKES as error:
        fail(path, error)
