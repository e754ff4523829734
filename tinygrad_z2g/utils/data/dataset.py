"""Datasets: samples by number, or one after another."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from ... import creation
from ...arrays.random import Generator
from ...ops.common import as_int
from ...tensor import Tensor


class Dataset:
    """Samples by number. Write `__getitem__(i)` and `__len__()`."""

    def __getitem__(self, index: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__}: define __getitem__(index), which returns one sample")

    def __len__(self) -> int:
        raise TypeError(f"{type(self).__name__}: define __len__(), the number of samples")

    def __add__(self, other: Any) -> ConcatDataset:
        return ConcatDataset([self, other])

    def __class_getitem__(cls, item: Any) -> Any:  # Dataset[int] says what the samples are, to readers
        return cls


class IterableDataset(Dataset):
    """Samples one after another, without numbers. Write `__iter__()`."""

    def __iter__(self) -> Iterator[Any]:
        raise NotImplementedError(f"{type(self).__name__}: define __iter__(), which yields one sample after another")

    def __add__(self, other: Any) -> Any:
        return ChainDataset([self, other])


class ChainDataset(IterableDataset):
    """The samples of several IterableDatasets, one dataset after the other."""

    def __init__(self, datasets: Iterable[Any]):
        self.datasets = datasets

    def __iter__(self) -> Iterator[Any]:
        for dataset in self.datasets:
            if not isinstance(dataset, IterableDataset):
                raise TypeError(f"ChainDataset: expected IterableDatasets, got {type(dataset).__name__}")
            yield from dataset

    def __len__(self) -> int:
        return sum(len(dataset) for dataset in self.datasets)


class ConcatDataset(Dataset):
    """The samples of several datasets, those of the first one first."""

    def __init__(self, datasets: Iterable[Any]):
        self.datasets = list(datasets)
        if not self.datasets:
            raise ValueError("ConcatDataset: expected at least one dataset")
        if any(isinstance(dataset, IterableDataset) for dataset in self.datasets):
            raise TypeError("ConcatDataset: an IterableDataset has no numbers; see ChainDataset")
        self.cumulative_sizes = list(itertools.accumulate(map(len, self.datasets)))

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]

    def __getitem__(self, index: int) -> Any:
        n = len(self)
        if not -n <= index < n:
            raise IndexError(f"ConcatDataset: index {index} is out of range for {n} samples")
        index %= n
        which = bisect.bisect_right(self.cumulative_sizes, index)
        return self.datasets[which][index - (self.cumulative_sizes[which - 1] if which else 0)]


class StackDataset(Dataset):
    """Sample i is a tuple of sample i of each dataset, or a dict if they are given by name."""

    def __init__(self, *args: Any, **kwargs: Any):
        if bool(args) == bool(kwargs):
            raise ValueError("StackDataset: expected datasets, either by position or by name")
        self.datasets: Any = kwargs or args
        lengths = {len(dataset) for dataset in (kwargs.values() or args)}
        if len(lengths) > 1:
            raise ValueError(f"StackDataset: the datasets have {sorted(lengths)} samples, expected as many in each")
        self._length = lengths.pop()

    def __getitem__(self, index: Any) -> Any:
        if isinstance(self.datasets, dict):
            return {name: dataset[index] for name, dataset in self.datasets.items()}
        return tuple(dataset[index] for dataset in self.datasets)

    def __len__(self) -> int:
        return self._length


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


PLAIN = {TensorDataset: TensorDataset.__getitem__, Subset: Subset.__getitem__}  # before anyone changes one


def _owner(dataset: Any) -> type:
    """The class, nearest to the dataset, that says how its samples are got."""
    return next((kind for kind in type(dataset).__mro__ if {"__getitem__", "__getitems__"} & vars(kind).keys()), object)


def is_plain(dataset: Any, kind: type) -> bool:
    """Whether this is a TensorDataset, or a Subset, and its samples are what is said above and nowhere else."""
    owner = _owner(dataset)
    return owner is kind and vars(owner).get("__getitem__") is PLAIN[kind] and "__getitems__" not in vars(owner)


def samples(dataset: Any, indices: list[int]) -> list:
    """The samples of these numbers, one by one; or by `__getitems__`, with which a dataset may give several at once.

    An inherited `__getitems__` knows nothing of the `__getitem__` of a class nearer to the dataset, and is passed over.
    """
    if callable(vars(_owner(dataset)).get("__getitems__")):
        return list(dataset.__getitems__(indices))
    if is_plain(dataset, Subset):
        return samples(dataset.dataset, [dataset.indices[i] for i in indices])
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
        whole = [math.floor(n * fraction) for fraction in sizes]
        for i in range(n - sum(whole)):
            whole[i % len(whole)] += 1
        sizes = [*whole]
    if sum(sizes) != n:
        raise ValueError(f"random_split: lengths {sizes} sum to {sum(sizes)}, expected {n}, the number of samples")
    sizes = [as_int(size, "random_split: length") for size in sizes]
    order = creation.randperm(n, generator=generator, device="cpu").tolist()
    ends = np.cumsum(sizes).tolist()
    return [Subset(dataset, order[end - size : end]) for size, end in zip(sizes, ends, strict=True)]
