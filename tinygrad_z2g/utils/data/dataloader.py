"""`DataLoader`: from samples to batches."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from ...arrays.random import Generator, default_generator
from .collate import default_collate, default_convert
from .dataset import IterableDataset, Subset, TensorDataset, is_plain, samples
from .sampler import BatchSampler, RandomSampler, SequentialSampler


class WorkerInfo(NamedTuple):
    """What `get_worker_info` would return inside a worker process."""

    id: int
    num_workers: int
    seed: int
    dataset: Any


def get_worker_info() -> WorkerInfo | None:
    """None: samples are got in this process, as in torch with num_workers=0."""
    return None


class DataLoader:
    """Iterate over batches of a dataset, once through it per loop.

    batch_size    samples in a batch; the last may be smaller, or is left out if `drop_last`; None: no batches, but
                  the samples themselves
    shuffle       a new random order for every loop, from `generator` or the default stream (`manual_seed`)
    sampler       yields the numbers of the samples in their order; batch_sampler lists of them, a batch each
    collate_fn    makes a batch out of a list of samples; see `default_collate`, and `default_convert` for None

    num_workers, pin_memory, timeout, worker_init_fn, prefetch_factor, persistent_workers and their like are checked,
    kept and without effect: samples are got in order in this process, by no worker, so the batches are those of
    num_workers=0. (Of an IterableDataset that does not ask `get_worker_info`, torch gives each sample once for every
    worker; here once.)

    A dataset may have `__getitems__(indices)`, which returns the samples of a batch at once. A `__getitem__` of your
    own is called for every sample. Of an IterableDataset samples are taken as they come.
    """

    def __init__(
        self, dataset: Any, batch_size: int | None = 1, shuffle: bool | None = None, sampler: Iterable | None = None,
        batch_sampler: Iterable | None = None, num_workers: int = 0, collate_fn: Callable[[Any], Any] | None = None,
        pin_memory: bool = False, drop_last: bool = False, timeout: float = 0,
        worker_init_fn: Callable[[int], None] | None = None, multiprocessing_context: Any = None,
        generator: Generator | None = None, *, prefetch_factor: int | None = None, persistent_workers: bool = False,
        pin_memory_device: str = "", in_order: bool = True,
    ):  # fmt: skip
        if batch_size is not None and (
            isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)) or batch_size < 1
        ):
            raise ValueError(f"DataLoader: batch_size must be a positive int or None, got {batch_size!r}")
        if batch_size is None and drop_last:
            raise ValueError("DataLoader: batch_size=None makes no batches, so there is no last one to drop")
        if num_workers < 0 or timeout < 0:
            raise ValueError(f"DataLoader: expected num_workers and timeout >= 0, got {num_workers} and {timeout}")
        if not num_workers and (prefetch_factor is not None or persistent_workers):
            raise ValueError("DataLoader: prefetch_factor and persistent_workers need num_workers > 0")
        if prefetch_factor is not None and prefetch_factor <= 0:
            raise ValueError(f"DataLoader: prefetch_factor must be positive, got {prefetch_factor}")
        if isinstance(dataset, IterableDataset) and (shuffle or sampler is not None or batch_sampler is not None):
            raise ValueError("DataLoader: an IterableDataset has an order of its own: no shuffle, no sampler")
        if sampler is not None and shuffle:
            raise ValueError("DataLoader: give a sampler, or shuffle=True, not both")
        if batch_sampler is not None:
            if batch_size != 1 or shuffle or sampler is not None or drop_last:
                raise ValueError("DataLoader: with a batch_sampler, no batch_size, shuffle, sampler or drop_last")
            batch_size = None
        if shuffle and not len(dataset):
            raise ValueError("DataLoader: the dataset is empty; there is nothing to shuffle")
        self.dataset, self.batch_size, self.shuffle, self.drop_last = dataset, batch_size, bool(shuffle), drop_last
        self.num_workers, self.pin_memory, self.timeout, self.worker_init_fn = (
            num_workers, pin_memory, timeout, worker_init_fn
        )  # fmt: skip
        self.multiprocessing_context, self.pin_memory_device, self.in_order = (
            multiprocessing_context, pin_memory_device, in_order
        )  # fmt: skip
        self.prefetch_factor, self.persistent_workers = prefetch_factor, persistent_workers
        self.generator = default_generator if generator is None else generator
        if isinstance(dataset, IterableDataset):
            sampler = ()  # asked for nothing
        elif sampler is None:
            sampler = RandomSampler(dataset, generator=self.generator) if shuffle else SequentialSampler(dataset)
        if batch_size is not None and batch_sampler is None:
            batch_sampler = BatchSampler(sampler, int(batch_size), bool(drop_last))
        self.sampler, self.batch_sampler = sampler, batch_sampler
        default = default_convert if batch_sampler is None else default_collate
        self.collate_fn = default if collate_fn is None else collate_fn

    def __class_getitem__(cls, item: Any) -> Any:  # DataLoader[int] says what the batches are, to readers
        return cls

    def __len__(self) -> int:
        if isinstance(self.dataset, IterableDataset):
            n = len(self.dataset)
            if self.batch_size is None:
                return n
            return n // self.batch_size if self.drop_last else -(-n // self.batch_size)
        batches: Any = self.sampler if self.batch_sampler is None else self.batch_sampler
        return len(batches)

    def __iter__(self) -> Iterator[Any]:
        if isinstance(self.dataset, IterableDataset):
            yield from self._taken()
        elif self.batch_sampler is None:
            for i in self.sampler:
                yield self.collate_fn(self.dataset[i])
        else:
            for indices in self.batch_sampler:
                yield self._batch(list(indices))

    def _taken(self) -> Iterator[Any]:
        """What an IterableDataset gives, in batches."""
        found = iter(self.dataset)
        if self.batch_size is None:
            yield from map(self.collate_fn, found)
            return
        while batch := list(itertools.islice(found, self.batch_size)):
            if len(batch) == self.batch_size or not self.drop_last:
                yield self.collate_fn(batch)

    def _batch(self, indices: list[int]) -> Any:
        whole, rows = self.dataset, indices
        while is_plain(whole, Subset):
            whole, rows = whole.dataset, [whole.indices[i] for i in rows]
        if is_plain(whole, TensorDataset) and self.collate_fn is default_collate:
            return [x[rows] for x in whole.tensors]  # all at once; the same batch as from one sample after the other
        return self.collate_fn(samples(self.dataset, indices))
