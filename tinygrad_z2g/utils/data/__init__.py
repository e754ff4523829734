"""Batches: from a dataset, which knows its samples by number, to the tensors of one training step after another.

It knows nothing of models or losses: what leaves here is a tuple of tensors.
"""

# isort: off
from .collate import default_collate as default_collate, default_convert as default_convert
from .dataloader import DataLoader as DataLoader, WorkerInfo as WorkerInfo, get_worker_info as get_worker_info
from .dataset import (
    ChainDataset as ChainDataset, ConcatDataset as ConcatDataset, Dataset as Dataset,
    IterableDataset as IterableDataset, StackDataset as StackDataset, Subset as Subset, TensorDataset as TensorDataset,
    random_split as random_split,
)  # fmt: skip
from .sampler import (
    BatchSampler as BatchSampler, RandomSampler as RandomSampler, Sampler as Sampler,
    SequentialSampler as SequentialSampler, SubsetRandomSampler as SubsetRandomSampler,
    WeightedRandomSampler as WeightedRandomSampler,
)  # fmt: skip
