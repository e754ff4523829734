"""Sequences of different lengths in one batch: padded to the longest, or packed without padding.

Packed, the first steps of all sequences come first, then all second steps, and so on: the longest sequence comes first
in each, so that those which have ended are missing at the end. For lengths 3, 1 that is a₁ b₁ a₂ a₃, with the
`batch_sizes` 2, 1, 1. Recurrent layers take it as it is and compute no padding.

All is composed of slices, `cat` and `pad`: a gradient goes back to where its number came from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ... import creation
from ...arrays.backend import to_host
from ...ops.shape import cat, stack
from ...tensor import Tensor
from .. import functional as F


class PackedSequence(NamedTuple):
    """Sequences without padding: made by `pack_padded_sequence` or `pack_sequence`, not by hand.

    data            (Σ lengths, *), step by step
    batch_sizes     how many sequences each step has, int64 on the CPU, falling
    sorted_indices  which sequence of the batch comes first, second, ...; None if they were sorted as they came
    unsorted_indices  the reverse: where each sequence of the batch is found
    """

    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None = None
    unsorted_indices: Tensor | None = None

    def to(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """The same with `data.to(...)`; the indices follow to its device."""
        data = self.data.to(*args, **kwargs)
        indices = (None if i is None else i.to(data.device) for i in (self.sorted_indices, self.unsorted_indices))
        return PackedSequence(data, self.batch_sizes, *indices)

    def cpu(self) -> PackedSequence:
        """Move to the CPU."""
        return self.to("cpu")

    def cuda(self, device: Any = "cuda") -> PackedSequence:
        """Move to a GPU."""
        return self.to(device)

    def double(self) -> PackedSequence:
        """Convert to float64."""
        return self.to(dtype="float64")

    def float(self) -> PackedSequence:
        """Convert to float32."""
        return self.to(dtype="float32")

    def pieces(self) -> list[Tensor]:
        """The data cut where a sequence ends: between two ends it is a rectangle, (steps, sequences, *). Not in torch.

        A recurrent layer reads one after the other, each with fewer sequences than the one before.
        """
        found, at = [], 0
        for start, stop, n in _runs(self.batch_sizes.tolist()):
            rows = self.data[at : at + (stop - start) * n]
            found.append(rows.reshape(stop - start, n, *self.data.array.shape[1:]))  # (steps · n, *) -> (steps, n, *)
            at += (stop - start) * n
        return found


def _runs(sizes: list[int]) -> Iterator[tuple[int, int, int]]:
    """Steps of equal batch size: the first, the one after the last, and the size."""
    start = 0
    for t in range(1, len(sizes) + 1):
        if t == len(sizes) or sizes[t] != sizes[start]:
            yield start, t, sizes[start]
            start = t


def join(pieces: Sequence[Tensor]) -> Tensor:
    """The `data` of a packed sequence from its pieces: (steps, sequences, *) each -> (Σ lengths, *). Not in torch."""
    flat = [piece.flatten(0, 1) for piece in pieces]
    return flat[0] if len(flat) == 1 else cat(flat)


def invert_permutation(permutation: Tensor | None) -> Tensor | None:
    """The permutation that undoes this one: out[permutation[i]] = i."""
    if permutation is None:
        return None
    order = to_host(permutation.array)
    out = np.empty_like(order)
    out[order] = np.arange(len(order))
    return creation.tensor(out, device=permutation.device)


def pack_padded_sequence(
    input: Tensor, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True
) -> PackedSequence:
    """The first `lengths[i]` steps of each sequence i: (T, B, *), or (B, T, *) if `batch_first`, without the padding.

    `lengths`: a list, or a tensor on the CPU. They must fall, unless `enforce_sorted` is False: then the sequences are
    sorted here, and what is made of them is put back into their order by whoever unpacks it.
    """
    name = "pack_padded_sequence"
    sizes = _lengths(lengths, name)
    if batch_first:
        input = input.transpose(0, 1)  # (B, T, *) -> (T, B, *)
    T, B = input.array.shape[:2]
    if len(sizes) != B:
        raise RuntimeError(f"{name}: got {len(sizes)} lengths for a batch of {B}; expected one for each sequence")
    if not B or min(sizes) < 1 or max(sizes) > T:
        raise RuntimeError(f"{name}: lengths must be 1 to {T}, the number of steps, got {sizes}; drop empty sequences")
    indices = None
    if not enforce_sorted:
        order = np.argsort(-np.array(sizes), kind="stable")
        sizes, indices = [sizes[i] for i in order], creation.tensor(order, device=input.device)
        input = input.index_select(1, indices)
    elif sizes != sorted(sizes, reverse=True):
        raise RuntimeError(f"{name}: lengths must fall, got {sizes}; sort the batch, or pass enforce_sorted=False")
    batch_sizes = [sum(size > t for size in sizes) for t in range(sizes[0])]
    data = join([input[start:stop, :n] for start, stop, n in _runs(batch_sizes)])
    return PackedSequence(data, creation.tensor(batch_sizes, device="cpu"), indices, invert_permutation(indices))


def pad_packed_sequence(
    sequence: PackedSequence, batch_first: bool = False, padding_value: float = 0.0, total_length: int | None = None
) -> tuple[Tensor, Tensor]:
    """What was packed, padded: (T, B, *), or (B, T, *) if `batch_first`, and the lengths, int64 on the CPU.

    T is the longest length, or `total_length`.
    """
    name = "pad_packed_sequence"
    if not isinstance(sequence, PackedSequence):
        raise TypeError(f"{name}: expected a PackedSequence, got {type(sequence).__name__}; see pack_padded_sequence")
    batch_sizes = sequence.batch_sizes.tolist()
    T, B = len(batch_sizes), batch_sizes[0]
    if total_length is not None and total_length < T:
        raise ValueError(f"{name}: total_length must be at least the longest length, {T}, got {total_length}")
    extra = sequence.data.ndim - 1  # dimensions that are not padded
    pieces = [F.pad(x, [0, 0] * extra + [0, B - x.array.shape[1]], value=padding_value) for x in sequence.pieces()]
    padded = pieces[0] if len(pieces) == 1 else cat(pieces)  # (T, B, *)
    if total_length is not None and total_length > T:
        padded = F.pad(padded, [0, 0] * (extra + 1) + [0, total_length - T], value=padding_value)
    lengths = [sum(size > i for size in batch_sizes) for i in range(B)]
    if sequence.unsorted_indices is not None:
        padded = padded.index_select(1, sequence.unsorted_indices)
        lengths = [lengths[i] for i in sequence.unsorted_indices.tolist()]
    return padded.transpose(0, 1) if batch_first else padded, creation.tensor(lengths, device="cpu")


def pad_sequence(
    sequences: Sequence[Tensor], batch_first: bool = False, padding_value: float = 0.0, padding_side: str = "right"
) -> Tensor:
    """Sequences (Lᵢ, *) side by side, padded to the longest: (T, B, *), or (B, T, *) if `batch_first`."""
    if padding_side not in ("left", "right"):
        raise RuntimeError(f"pad_sequence: padding_side must be 'left' or 'right', got {padding_side!r}")
    sequences = _sequences(sequences, "pad_sequence")
    T = max(len(x) for x in sequences)
    padded = []
    for x in sequences:
        missing = T - len(x)
        ends = [missing, 0] if padding_side == "left" else [0, missing]
        padded.append(F.pad(x, [0, 0] * (x.ndim - 1) + ends, value=padding_value) if missing else x)
    return stack(padded, 0 if batch_first else 1)


def unpad_sequence(padded_sequences: Tensor, lengths: Any, batch_first: bool = False) -> list[Tensor]:
    """The reverse of `pad_sequence`: from (T, B, *), or (B, T, *) if `batch_first`, the first lengths[i] steps of i."""
    sizes = _lengths(lengths, "unpad_sequence")
    rows = padded_sequences if batch_first else padded_sequences.transpose(0, 1)  # (T, B, *) -> (B, T, *)
    return [rows[i, :size] for i, size in enumerate(sizes)]


def pack_sequence(sequences: Sequence[Tensor], enforce_sorted: bool = True) -> PackedSequence:
    """Sequences (Lᵢ, *) as one packed sequence. Their lengths must fall, unless `enforce_sorted` is False."""
    sequences = _sequences(sequences, "pack_sequence")
    return pack_padded_sequence(pad_sequence(sequences), [len(x) for x in sequences], enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """The reverse of `pack_sequence`: the sequences (Lᵢ, *), in the order in which they were packed."""
    return unpad_sequence(*pad_packed_sequence(packed_sequences, batch_first=True), batch_first=True)


def _lengths(lengths: Any, name: str) -> list[int]:
    if isinstance(lengths, Tensor):
        if lengths.ndim != 1 or lengths.array.dtype.kind not in "iu" or lengths.device.type != "cpu":
            got = f"shape {tuple(lengths.shape)}, {lengths.dtype}, on {lengths.device}"
            raise RuntimeError(f"{name}: lengths must be a 1-D tensor of integers on the CPU, got {got}; see .cpu()")
        return lengths.tolist()
    return [int(n) for n in lengths]


def _sequences(sequences: Any, name: str) -> list[Tensor]:
    if isinstance(sequences, Tensor):
        sequences = sequences.unbind(0)
    found = list(sequences)
    if not found:
        raise RuntimeError(f"{name}: got no sequences, expected at least one")
    for x in found:
        if not isinstance(x, Tensor) or not x.ndim or x.shape[1:] != found[0].shape[1:]:
            got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise RuntimeError(f"{name}: expected Tensors (L, *) that differ in L alone, got {got} beside the first")
    return found
