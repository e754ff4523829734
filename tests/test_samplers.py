"""Samplers, datasets made of others, datasets without numbers, and what `DataLoader` takes for workers."""

import collections

import pytest

import tinygrad_z2g as z2g
from tinygrad_z2g.utils import data
from tinygrad_z2g.utils.data import DataLoader
from tinygrad_z2g.utils.data.dataloader import DataLoader as ByItsFile
from tinygrad_z2g.utils.data.dataset import Dataset
from tinygrad_z2g.utils.data.sampler import BatchSampler, Sampler


class Count(data.IterableDataset):
    def __init__(self, start, stop):
        self.start, self.stop = start, stop

    def __iter__(self):
        assert data.get_worker_info() is None
        return iter(range(self.start, self.stop))


def test_import_paths():
    assert ByItsFile is DataLoader and issubclass(BatchSampler, Sampler) and issubclass(data.TensorDataset, Dataset)
    assert Dataset[int] is Dataset and DataLoader[int] is DataLoader


def test_orders(device):
    assert list(data.SequentialSampler(range(10, 14))) == [0, 1, 2, 3]
    z2g.manual_seed(0)
    drawn = [list(data.RandomSampler(range(9))) for _ in range(2)]
    assert sorted(drawn[0]) == sorted(drawn[1]) == list(range(9)) and drawn[0] != drawn[1]
    own = [list(data.RandomSampler(range(9), generator=z2g.Generator(4))) for _ in range(2)]
    assert own[0] == own[1]
    more = list(data.RandomSampler(range(3), num_samples=7))
    assert [sorted(more[:3]), sorted(more[3:6])] == [[0, 1, 2]] * 2 and len(more) == 7
    again = data.RandomSampler(range(3), replacement=True, num_samples=100)
    assert set(again) == {0, 1, 2} and len(again) == 100
    assert sorted(data.SubsetRandomSampler([7, 5, 2])) == [2, 5, 7]
    weighted = data.WeightedRandomSampler([0.0, 1.0, 3.0], 4000)
    counts = collections.Counter(weighted)
    assert counts[0] == 0 and 2.5 < counts[2] / counts[1] < 3.5 and len(weighted) == 4000
    assert sorted(data.WeightedRandomSampler([1.0, 1.0, 0.0], 2, replacement=False)) == [0, 1]


def test_batches_of_an_order():
    assert list(BatchSampler(range(5), 2, False)) == [[0, 1], [2, 3], [4]]
    assert list(BatchSampler(range(5), 2, True)) == [[0, 1], [2, 3]]
    assert len(BatchSampler(range(5), 2, False)) == 3 and len(BatchSampler(range(5), 2, True)) == 2


def test_a_loader_with_a_sampler(device):
    rows = data.TensorDataset(z2g.arange(6) * 10)
    loader = DataLoader(rows, 2, sampler=[5, 3, 1, 0])
    assert [x.tolist() for (x,) in loader] == [[50, 30], [10, 0]] and len(loader) == 2
    batches = DataLoader(rows, batch_sampler=[[0], [1, 2, 3]])
    assert [x.tolist() for (x,) in batches] == [[0], [10, 20, 30]] and len(batches) == 2 and batches.batch_size is None
    assert [x.item() for (x,) in DataLoader(rows, None, sampler=[4, 4])] == [40, 40]
    shuffled = DataLoader(rows, 2, shuffle=True)
    assert isinstance(shuffled.sampler, data.RandomSampler) and isinstance(shuffled.batch_sampler, BatchSampler)


def test_workers_change_nothing():
    """All that belongs to them is taken, and the batches are those of num_workers=0."""
    rows, called = list(range(7)), []
    plain = [batch.tolist() for batch in DataLoader(rows, 3)]
    loader = DataLoader(
        rows, 3, num_workers=4, pin_memory=True, timeout=5, worker_init_fn=called.append, prefetch_factor=2,
        persistent_workers=True, multiprocessing_context="fork", pin_memory_device="cuda", in_order=True,
    )  # fmt: skip
    assert [batch.tolist() for batch in loader] == plain == [[0, 1, 2], [3, 4, 5], [6]] and called == []
    assert loader.num_workers == 4 and loader.pin_memory and data.get_worker_info() is None


def test_samples_without_numbers():
    assert [b.tolist() for b in DataLoader(Count(0, 5), 2)] == [[0, 1], [2, 3], [4]]
    assert [b.tolist() for b in DataLoader(Count(0, 5), 2, drop_last=True, num_workers=2)] == [[0, 1], [2, 3]]
    assert list(DataLoader(Count(0, 3), None)) == [0, 1, 2]
    assert list(Count(0, 2) + Count(5, 7)) == list(data.ChainDataset([Count(0, 2), Count(5, 7)])) == [0, 1, 5, 6]
    with pytest.raises(TypeError, match="__len__"):
        len(DataLoader(Count(0, 5)))
    with pytest.raises(NotImplementedError, match="__iter__"):
        iter(data.IterableDataset())
    with pytest.raises(TypeError, match="IterableDataset"):
        list(data.ChainDataset([[1]]))


def test_datasets_of_datasets():
    one, two = data.TensorDataset(z2g.arange(3)), data.TensorDataset(z2g.arange(10, 12))
    both = one + two
    assert isinstance(both, data.ConcatDataset) and both.cumulative_sizes == [3, 5] and len(both) == 5
    assert [both[i][0].item() for i in (0, 2, 3, 4, -1, -5)] == [0, 2, 10, 11, 11, 0]
    assert [x.tolist() for (x,) in DataLoader(both, 4)] == [[0, 1, 2, 10], [11]]
    with pytest.raises(IndexError, match="5"):
        both[5]
    assert data.StackDataset(["a", "b"], [1, 2])[1] == ("b", 2)
    named = data.StackDataset(text=["a", "b"], label=[1, 2])
    assert named[0] == {"text": "a", "label": 1} and len(named) == 2
    assert next(iter(DataLoader(named, 2)))["text"] == ["a", "b"]


@pytest.mark.parametrize("call, error, words", [
    (lambda: DataLoader([1], shuffle=True, sampler=[0]), ValueError, "sampler"),
    (lambda: DataLoader([1], 2, batch_sampler=[[0]]), ValueError, "batch_sampler"),
    (lambda: DataLoader([1], batch_sampler=[[0]], drop_last=True), ValueError, "batch_sampler"),
    (lambda: DataLoader(Count(0, 1), shuffle=True), ValueError, "IterableDataset"),
    (lambda: DataLoader(Count(0, 1), sampler=[0]), ValueError, "IterableDataset"),
    (lambda: DataLoader([1], num_workers=-1), ValueError, "num_workers"),
    (lambda: DataLoader([1], timeout=-1), ValueError, "timeout"),
    (lambda: DataLoader([1], prefetch_factor=2), ValueError, "prefetch_factor"),
    (lambda: DataLoader([1], persistent_workers=True), ValueError, "persistent_workers"),
    (lambda: DataLoader([1], num_workers=1, prefetch_factor=0), ValueError, "prefetch_factor"),
    (lambda: data.RandomSampler([1], replacement=1), TypeError, "replacement"),
    (lambda: data.RandomSampler([1], num_samples=0), ValueError, "num_samples"),
    (lambda: data.WeightedRandomSampler([1.0], 0), ValueError, "num_samples"),
    (lambda: data.WeightedRandomSampler([[1.0]], 1), ValueError, "vector"),
    (lambda: data.BatchSampler([1], 0, False), ValueError, "batch_size"),
    (lambda: data.BatchSampler([1], 1, "no"), ValueError, "drop_last"),
    (lambda: data.ConcatDataset([]), ValueError, "at least one"),
    (lambda: data.ConcatDataset([Count(0, 1)]), TypeError, "ChainDataset"),
    (lambda: data.StackDataset([1], [1, 2]), ValueError, "as many"),
    (lambda: data.StackDataset(), ValueError, "datasets"),
    (lambda: iter(data.Sampler()), NotImplementedError, "__iter__"),
])  # fmt: skip
def test_what_is_refused(call, error, words):
    with pytest.raises(error, match=words):
        call()
