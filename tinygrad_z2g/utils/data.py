"""Batches: from a dataset, which knows its samples by number, to the tensors of one training step after another.

It knows nothing of models or losses: what leaves here is a tuple of tensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from .. import creation
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


def random_split(dataset: Any, lengths: Sequence[float], generator: Generator | None = None) -> list[Subset]:
    """Cut a dataset at random into parts of these lengths, or of these fractions if they sum to 1.

    What fractions leave over by rounding goes to the parts from the first on. ValueError unless lengths sum to
    the number of samples.
    """
    n, sizes = len(dataset), list(lengths)
    if any(size < 0 for size in sizes):
        raise ValueError(f"random_split: lengths {sizes} must be >= 0")
    if math.isclose(sum(sizes), 1) and sum(sizes) <= 1 + 1e-9 and n != 1:
        sizes = [math.floor(n * fraction) for fraction in sizes]
        for i in range(n - sum(sizes)):
            sizes[i % len(sizes)] += 1
    if sum(sizes) != n:
        raise ValueError(f"random_split: lengths {sizes} sum to {sum(sizes)}, expected {n}, the number of samples")
    order = creation.randperm(n, generator=generator, device="cpu").tolist()
    ends = np.cumsum(sizes).astype(int).tolist()
    return [Subset(dataset, order[end - size : end]) for size, end in zip(sizes, ends, strict=True)]


def default_collate(samples: list) -> Any:
    """One batch of a list of samples: tensors, arrays and numbers stacked; tuples, lists and dicts part by part."""
    first = samples[0]
    if isinstance(first, Tensor):
        return stack(samples)
    if isinstance(first, (np.ndarray, np.generic)):
        return creation.tensor(np.stack(samples))
    if isinstance(first, (bool, int)):
        return creation.tensor(samples)
    if isinstance(first, float):
        return creation.tensor(samples, dtype="float64")  # as in torch: a Python float has 64 bits
    if isinstance(first, dict):
        return {key: default_collate([sample[key] for sample in samples]) for key in first}
    if isinstance(first, (tuple, list)):
        if any(len(sample) != len(first) for sample in samples):
            raise RuntimeError("DataLoader: the samples of a batch have different numbers of parts")
        return [default_collate(list(part)) for part in zip(*samples, strict=True)]
    if isinstance(first, str):
        return samples
    raise TypeError(f"DataLoader: cannot make a batch of {type(first).__name__}; give collate_fn")


class DataLoader:
    """Iterate over batches of a dataset, once through it per loop.

    batch_size    samples in a batch; the last may be smaller, or is left out if `drop_last`
    shuffle       a new random order for every loop, from `generator` or the default stream (`manual_seed`)
    collate_fn    makes a batch out of a list of samples; see `default_collate`
    num_workers, pin_memory  accepted and without effect: batches are made in this process
    """

    def __init__(
        self, dataset: Any, batch_size: int = 1, shuffle: bool = False, *, num_workers: int = 0,
        collate_fn: Callable[[list], Any] | None = None, pin_memory: bool = False, drop_last: bool = False,
        generator: Generator | None = None,
    ):  # fmt: skip
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"DataLoader: batch_size must be a positive int, got {batch_size!r}")
        if shuffle and not len(dataset):
            raise ValueError("DataLoader: the dataset is empty; there is nothing to shuffle")
        self.dataset, self.batch_size, self.shuffle, self.drop_last = dataset, batch_size, shuffle, drop_last
        self.collate_fn = default_collate if collate_fn is None else collate_fn
        self.generator = default_generator if generator is None else generator

    def __len__(self) -> int:
        n = len(self.dataset)
        return n // self.batch_size if self.drop_last else math.ceil(n / self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        n = len(self.dataset)
        order: Iterable = range(n)
        if self.shuffle:
            order = creation.randperm(n, generator=self.generator, device="cpu").tolist()
        order = list(order)
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            yield self._batch(order[start : start + self.batch_size])

    def _batch(self, indices: list[int]) -> Any:
        whole = self.dataset
        while isinstance(whole, Subset):
            whole = whole.dataset
        if isinstance(whole, TensorDataset) and self.collate_fn is default_collate:
            return list(self.dataset[indices])  # all rows at once; the same batch as from one sample after the other
        return self.collate_fn([self.dataset[i] for i in indices])
