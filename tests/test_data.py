"""Datasets and batches."""

import numpy as np
import pytest

import tinygrad_z2g as z2g
from tinygrad_z2g.utils.data import DataLoader, Dataset, Subset, TensorDataset, random_split


class Squares(Dataset):
    """Sample i is (i, i²), a tensor and a number."""

    def __init__(self, n):
        self.n = n

    def __getitem__(self, i):
        return z2g.tensor([float(i)]), i * i

    def __len__(self):
        return self.n


def rows(n):
    return TensorDataset(z2g.arange(n).float().unsqueeze(1), z2g.arange(n) * 10)


@pytest.mark.parametrize(("drop_last", "sizes"), [(False, [4, 4, 2]), (True, [4, 4])])
@pytest.mark.parametrize("make", [rows, Squares])
def test_batches_in_order(device, make, drop_last, sizes):
    loader = DataLoader(make(10), batch_size=4, drop_last=drop_last)
    batches = list(loader)
    assert len(loader) == len(sizes) and [len(x) for x, _ in batches] == sizes
    x, y = batches[1]
    assert x.tolist() == [[4], [5], [6], [7]] and y.dtype == z2g.int64 and x.shape == (4, 1)


@pytest.mark.parametrize("make", [rows, Squares])
def test_shuffling_is_seeded_and_new_in_each_loop(device, make):
    def order(loader):
        return [int(v) for x, _ in loader for v in x.reshape(-1).tolist()]

    z2g.manual_seed(3)
    loader = DataLoader(make(20), batch_size=6, shuffle=True)
    first, second = order(loader), order(loader)
    assert sorted(first) == sorted(second) == list(range(20)) and first != second != list(range(20))
    z2g.manual_seed(3)
    assert order(loader) == first
    own = [order(DataLoader(make(20), 6, shuffle=True, generator=z2g.Generator(5))) for _ in range(2)]
    assert own[0] == own[1]


def test_all_rows_at_once_give_the_batch_that_one_after_the_other_give(device):
    data = TensorDataset(z2g.randn(9, 2, 3), z2g.arange(9))
    part = Subset(data, [7, 1, 5])
    for dataset in (data, part):
        fast = next(iter(DataLoader(dataset, 3)))
        slow = next(iter(DataLoader(dataset, 3, collate_fn=lambda samples: [z2g.stack(p) for p in zip(*samples)])))  # noqa: B905
        assert type(fast) is list and all(z2g.equal(a, b) for a, b in zip(fast, slow, strict=True))
    assert part[1][1].item() == 1 and len(part) == 3


def test_what_a_batch_is_made_of(device):
    class Mixed(Dataset):
        def __getitem__(self, i):
            return {"a": np.array([i, i], np.float32), "b": 0.5 * i, "c": (i > 0, "x" * i), "d": np.float32(i)}

        def __len__(self):
            return 3

    batch = next(iter(DataLoader(Mixed(), 3)))
    assert batch["a"].shape == (3, 2) and batch["a"].dtype == z2g.float32
    assert batch["b"].dtype == z2g.float64 and batch["b"].tolist() == [0, 0.5, 1]
    assert batch["c"][0].tolist() == [False, True, True] and batch["c"][1] == ["", "x", "xx"]
    assert batch["d"].tolist() == [0, 1, 2]


def test_random_split(device):
    parts = random_split(rows(10), [7, 3], generator=z2g.Generator(1))
    again = random_split(rows(10), [7, 3], generator=z2g.Generator(1))
    assert [p.indices for p in parts] == [p.indices for p in again]
    assert sorted(parts[0].indices + parts[1].indices) == list(range(10))
    assert [len(p) for p in random_split(rows(10), [0.5, 0.25, 0.25])] == [
        6,
        2,
        2,
    ]  # what rounding leaves goes to the first
    assert [len(p) for p in random_split(rows(1), [1])] == [1]


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: random_split(rows(10), [5, 4]), ValueError, "sum to 9, expected 10"),
        (lambda: random_split(rows(10), [11, -1]), ValueError, ">= 0"),
        (lambda: DataLoader(rows(3), batch_size=2.5), ValueError, "positive int"),
        (lambda: DataLoader(Squares(0), shuffle=True), ValueError, "empty"),
        (lambda: len(DataLoader(Dataset())), TypeError, "__len__"),
        (lambda: Dataset()[0], NotImplementedError, "__getitem__"),
        (lambda: TensorDataset(z2g.tensor(1.0)), TypeError, "at least 1 dimension"),
        (lambda: list(DataLoader([object()])), TypeError, "cannot make a batch of object"),
        (lambda: list(DataLoader([(1, 2), (1,)], 2)), RuntimeError, "different numbers of parts"),
    ],
)
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_an_empty_dataset_gives_no_batches(device):
    assert list(DataLoader(Squares(0), 4)) == []
