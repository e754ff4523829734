"""Batches: from a dataset, which knows its samples by number, to the tensors of one training step after another.

It knows nothing of models or losses: what leaves here is a tuple of tensors.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, MutableSequence, Sequence
from typing import Any

import numpy as np

from .. import creation
from ..ops.common import as_int
from ..ops.shape import stack
from ..random import Generator, default_generator
from ..tensor import Tensor


class Dataset:
    """Samples by number. Write `__getitem__(i)` and `__len__()`."""

    def __getitem__(self, index: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__}: define __getitem__(index), which returns one sample")

    def __len__(self) -> int:
        raise TypeError(f"{type(self).__name__}: define __len__(), the number of samples")


class TensorDataset(Dataset):
    """Sample i is row i of each tensor: `TensorDataset(images, labels)[i]` is `(images[i], labels[i])`."""

    def __init__(self, *tensors: Tensor):
        if not tensors or any(not isinstance(x, Tensor) or not x.ndim for x in tensors):
            raise TypeError("TensorDataset: expected Tensors of at least 1 dimension")
        lengths = [len(x) for x in tensors]
        if len(set(lengths)) > 1:
            raise ValueError(f"TensorDataset: the tensors have {lengths} rows, expected as many in each")
        self.tensors = tensors

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple(x[index] for x in self.tensors)

    def __len__(self) -> int:
        return len(self.tensors[0])


class Subset(Dataset):
    """The samples of `dataset` whose numbers are in `indices`."""

    def __init__(self, dataset: Any, indices: Sequence[int]):
        self.dataset, self.indices = dataset, list(indices)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, list):
            return self.dataset[[self.indices[i] for i in index]]
        return self.dataset[self.indices[index]]

    def __len__(self) -> int:
        return len(self.indices)


_PLAIN = {TensorDataset: TensorDataset.__getitem__, Subset: Subset.__getitem__}  # before anyone changes one


def _owner(dataset: Any) -> type:
    """The class, nearest to the dataset, that says how its samples are got."""
    return next((kind for kind in type(dataset).__mro__ if {"__getitem__", "__getitems__"} & vars(kind).keys()), object)


def _is_plain(dataset: Any, kind: type) -> bool:
    """Whether this is a TensorDataset, or a Subset, and its samples are what is said above and nowhere else."""
    owner = _owner(dataset)
    return owner is kind and owner.__getitem__ is _PLAIN[kind] and "__getitems__" not in vars(owner)


def _samples(dataset: Any, indices: list[int]) -> list:
    """The samples of these numbers, one by one; or by `__getitems__`, with which a dataset may give several at once.

    An inherited `__getitems__` knows nothing of the `__getitem__` of a class nearer to the dataset, and is passed over.
    """
    if callable(vars(_owner(dataset)).get("__getitems__")):
        return list(dataset.__getitems__(indices))
    if _is_plain(dataset, Subset):
        return _samples(dataset.dataset, [dataset.indices[i] for i in indices])
    return [dataset[i] for i in indices]


def random_split(dataset: Any, lengths: Sequence[float], generator: Generator | None = None) -> list[Subset]:
    """Cut a dataset at random into parts of these lengths, or of these fractions if they sum to 1.

    What fractions leave over by rounding goes to the parts from the first on. ValueError unless lengths sum to
    the number of samples.
    """
    n, sizes = len(dataset), list(lengths)
    if any(not size >= 0 for size in sizes):
        raise ValueError(f"random_split: lengths {sizes} must be >= 0")
    if math.isclose(sum(sizes), 1) and sum(sizes) <= 1 + 1e-9:
        sizes = [math.floor(n * fraction) for fraction in sizes]
        for i in range(n - sum(sizes)):
            sizes[i % len(sizes)] += 1
    if sum(sizes) != n:
        raise ValueError(f"random_split: lengths {sizes} sum to {sum(sizes)}, expected {n}, the number of samples")
    sizes = [as_int(size, "random_split: length") for size in sizes]
    order = creation.randperm(n, generator=generator, device="cpu").tolist()
    ends = np.cumsum(sizes).tolist()
    return [Subset(dataset, order[end - size : end]) for size, end in zip(sizes, ends, strict=True)]


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


class DataLoader:
    """Iterate over batches of a dataset, once through it per loop.

    batch_size    samples in a batch; the last may be smaller, or is left out if `drop_last`; None: no batches, but
                  the samples themselves
    shuffle       a new random order for every loop, from `generator` or the default stream (`manual_seed`)
    collate_fn    makes a batch out of a list of samples; see `default_collate`, and `default_convert` for None
    num_workers, pin_memory  accepted and without effect: batches are made in this process

    A dataset may have `__getitems__(indices)`, which returns the samples of a batch at once. A `__getitem__` of your
    own is called for every sample.
    """

    def __init__(
        self, dataset: Any, batch_size: int | None = 1, shuffle: bool = False, *, num_workers: int = 0,
        collate_fn: Callable[[Any], Any] | None = None, pin_memory: bool = False, drop_last: bool = False,
        generator: Generator | None = None,
    ):  # fmt: skip
        if batch_size is not None and (
            isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)) or batch_size < 1
        ):
            raise ValueError(f"DataLoader: batch_size must be a positive int or None, got {batch_size!r}")
        if batch_size is None and drop_last:
            raise ValueError("DataLoader: batch_size=None makes no batches, so there is no last one to drop")
        if shuffle and not len(dataset):
            raise ValueError("DataLoader: the dataset is empty; there is nothing to shuffle")
        self.dataset, self.batch_size, self.shuffle, self.drop_last = dataset, batch_size, shuffle, drop_last
        default = default_convert if batch_size is None else default_collate
        self.collate_fn = default if collate_fn is None else collate_fn
        self.generator = default_generator if generator is None else generator

    def __len__(self) -> int:
        n = len(self.dataset)
        if self.batch_size is None:
            return n
        return n // self.batch_size if self.drop_last else math.ceil(n / self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        n = len(self.dataset)
        order: Iterable = range(n)
        if self.shuffle:
            order = creation.randperm(n, generator=self.generator, device="cpu").tolist()
        order = list(order)
        if self.batch_size is None:
            for i in order:
                yield self.collate_fn(self.dataset[i])
            return
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            yield self._batch(order[start : start + self.batch_size])

    def _batch(self, indices: list[int]) -> Any:
        whole, rows = self.dataset, indices
        while _is_plain(whole, Subset):
            whole, rows = whole.dataset, [whole.indices[i] for i in rows]
        if _is_plain(whole, TensorDataset) and self.collate_fn is default_collate:
            return [x[rows] for x in whole.tensors]  # all at once; the same batch as from one sample after the other
        return self.collate_fn(_samples(self.dataset, indices))
