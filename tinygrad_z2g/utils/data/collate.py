"""One batch out of many samples, whatever they are made of."""

from __future__ import annotations

import copy
from collections.abc import Mapping, MutableMapping, MutableSequence, Sequence
from typing import Any

import numpy as np

from ... import creation
from ...ops.shape import stack
from ...tensor import Tensor


def default_collate(samples: Sequence) -> Any:
    """One batch of samples: tensors, arrays and numbers stacked; texts as a list; tuples, lists and dicts by parts.

    A dict, a list or a named tuple remains one of its class; a plain tuple becomes a list, as in torch.
    """
    first = samples[0]
    if isinstance(first, Tensor):
        return stack(list(samples))
    if isinstance(first, (str, bytes)):
        return list(samples)
    if isinstance(first, (np.ndarray, np.generic)):
        if first.dtype.kind not in "biuf":
            raise TypeError(f"DataLoader: cannot make a batch of arrays of {first.dtype}; give collate_fn")
        return creation.tensor(np.stack(samples))
    if isinstance(first, float):
        return creation.tensor(samples, dtype="float64")  # as in torch: a Python float has 64 bits
    if isinstance(first, int):
        return creation.tensor(samples)
    if isinstance(first, Mapping):
        return _like(first, {key: default_collate([sample[key] for sample in samples]) for key in first})
    if isinstance(first, Sequence):
        if any(len(sample) != len(first) for sample in samples):
            raise RuntimeError("DataLoader: the samples of a batch have different numbers of parts")
        return _like(first, [default_collate(part) for part in zip(*samples, strict=True)])
    raise TypeError(f"DataLoader: cannot make a batch of {type(first).__name__}; give collate_fn")


def default_convert(sample: Any) -> Any:
    """One sample as it is, but arrays and NumPy's numbers as tensors, in lists and dicts too: for `batch_size=None`."""
    if isinstance(sample, (np.ndarray, np.generic)):
        return sample if sample.dtype.kind not in "biuf" else creation.as_tensor(np.asarray(sample))
    if isinstance(sample, Mapping):
        return _like(sample, {key: default_convert(part) for key, part in sample.items()})
    if isinstance(sample, Sequence) and not isinstance(sample, (str, bytes)):
        return _like(sample, [default_convert(part) for part in sample])
    return sample


def _like(old: Any, parts: Any) -> Any:
    """These parts as a dict or sequence of the class of `old`, with all else that it carries, where one can be made."""
    try:
        if hasattr(old, "_fields"):  # a named tuple
            return type(old)(*parts)
        if isinstance(old, (MutableMapping, MutableSequence)):
            new = copy.copy(old)
            for key, part in parts.items() if isinstance(parts, dict) else enumerate(parts):
                new[key] = part
            return new
        return parts if isinstance(old, tuple) else type(old)(parts)
    except TypeError:  # it is made in a way of its own, like `range`
        return parts
