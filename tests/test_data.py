"""Datasets and batches."""

import collections
import types
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_z2g as z2g
from tinygrad_z2g.utils.data import (
    DataLoader,
    Dataset,
    Subset,
    TensorDataset,
    default_collate,
    default_convert,
    random_split,
)


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


# --- No sample is got behind the back of its class -----------------------------------------------------------------


def tens(sample):
    """A sample as another class gives it: its numbers are ten times as large."""
    return tuple(part * 10 for part in sample)


class MyRows(TensorDataset):
    def __getitem__(self, index):
        return tens(super().__getitem__(index))


class Grandchild(MyRows):
    """Inherits what MyRows does."""


class MySubset(Subset):
    def __getitem__(self, index):
        return tens(super().__getitem__(index))


class Many(TensorDataset):
    """Gives several at once, and one by one something else."""

    def __getitems__(self, indices):
        return [tens((self.tensors[0][i], self.tensors[1][i])) for i in indices]


class OneAfterMany(Many):
    """What is inherited knows nothing of this."""

    def __getitem__(self, index):
        return tens(tens(super().__getitem__(index)))


class ManyInASubset(Subset):
    def __getitems__(self, indices):
        return [tens(self.dataset[self.indices[i]]) for i in indices]


class NoMany(Many):
    __getitems__ = None


class Wrapper(Dataset):
    """No subclass of what it wraps, but it passes on whatever else it is asked for."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __getitem__(self, index):
        return tens(self.dataset[index])

    def __len__(self):
        return len(self.dataset)

    def __getattr__(self, name):
        return getattr(self.__dict__["dataset"], name)


class Plain(TensorDataset):
    """Nothing of its own that matters."""

    note = 1


ROWS = (z2g.arange(8).float() + 1, z2g.arange(8) + 1)
BASES = {TensorDataset: 1, Plain: 1, MyRows: 10, Grandchild: 10, Many: 10, OneAfterMany: 100, NoMany: 1}
WRAPPERS = {
    Subset: (lambda data, order: Subset(data, order), 1),
    MySubset: (lambda data, order: MySubset(data, order), 10),
    ManyInASubset: (lambda data, order: ManyInASubset(data, order), 10),
    Wrapper: (lambda data, order: Wrapper(Subset(data, order)), 10),
}


@given(data=st.data())
def test_a_batch_holds_what_each_sample_is_by_itself(data):
    """Through any wrappers around any dataset: 10 for each class with a way of its own; in the order asked for."""
    kind = data.draw(st.sampled_from(list(BASES)))
    dataset, expected = kind(*ROWS), [(i + 1) * BASES[kind] for i in range(8)]
    many = [BASES[kind] if kind is not Many else 1]  # what a wrapper gets that asks for one at a time
    single = [(i + 1) * many[0] for i in range(8)]
    for name in data.draw(st.lists(st.sampled_from(list(WRAPPERS)), max_size=3)):
        n = len(dataset)
        order = data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=8))
        make, factor = WRAPPERS[name]
        # Only Subset itself passes a request for several on
        expected = [(expected if name is Subset else single)[i] * factor for i in order]
        single = [single[i] * (1 if name is ManyInASubset else factor) for i in order]
        dataset = make(dataset, order)
    size = data.draw(st.integers(1, 5))
    collate = data.draw(st.sampled_from([None, default_collate, lambda samples: default_collate(samples)]))
    batches = list(DataLoader(dataset, size, collate_fn=collate))
    assert [v for x, _ in batches for v in x.tolist()] == [v for _, y in batches for v in y.tolist()] == expected
    assert [len(x) for x, _ in batches][:-1] == [size] * (len(batches) - 1)
    alone = list(DataLoader(dataset, None))
    assert [x.item() for x, _ in alone] == single and type(alone[0]) is list  # as torch, for a tuple


@pytest.mark.parametrize("kind", [TensorDataset, Subset])
def test_a_class_that_is_changed_from_outside(monkeypatch, kind):
    whole = TensorDataset(*ROWS)
    old = kind.__getitem__
    monkeypatch.setattr(kind, "__getitem__", lambda self, index: tens(old(self, index)))
    assert next(iter(DataLoader(Subset(whole, [2, 0]), 2)))[0].tolist() == [30, 10]


def test_anything_done_per_sample_is_done_per_sample(device):
    class Flipped(TensorDataset):
        def __getitem__(self, index):
            x, y = super().__getitem__(index)
            return x.flip(0), y

    data = Flipped(z2g.tensor([[0.0, 1, 2], [3, 4, 5]]), z2g.tensor([0, 1]))
    for dataset in (data, Subset(data, [0, 1])):
        assert next(iter(DataLoader(dataset, 2)))[0].tolist() == [[2, 1, 0], [5, 4, 3]]
    part = random_split(data, [2], generator=z2g.Generator(1))[0]
    assert sorted(next(iter(DataLoader(part, 2)))[0].tolist()) == [[2, 1, 0], [5, 4, 3]]


@pytest.mark.parametrize("indices", [z2g.tensor([2, 0]), np.array([2, 0]), (2, 0), range(2, -1, -2)], ids=repr)
def test_indices_of_any_kind(indices):
    assert next(iter(DataLoader(Subset(TensorDataset(*ROWS), indices), 2)))[0].tolist() == [3, 1]


# --- What a batch is ---------------------------------------------------------------------------------------------

Point = collections.namedtuple("Point", "x y")


class Tagged(dict):
    tag = "kept"


class Names(list):
    pass


def shown(value: Any) -> Any:
    """A batch with the types of all its parts."""
    if isinstance(value, z2g.Tensor):
        return str(value.dtype), value.tolist()
    if isinstance(value, collections.abc.Mapping):
        return type(value), {key: shown(part) for key, part in value.items()}
    if isinstance(value, collections.abc.Sequence) and not isinstance(value, (str, bytes)):
        return type(value), [shown(part) for part in value]
    return value


INTS, FLOATS = ("int64", [1, 3]), ("float64", [2.0, 4.0])
BATCHES = {
    "named tuple": ([Point(1, 2.0), Point(3, 4.0)], (Point, [INTS, FLOATS])),
    "ordered dict": ([collections.OrderedDict(b=1, a=2.0), collections.OrderedDict(a=4.0, b=3)],
                     (collections.OrderedDict, {"b": INTS, "a": FLOATS})),
    "default dict": ([collections.defaultdict(int, a=1), {"a": 3}], (collections.defaultdict, {"a": INTS})),
    "user dict": ([collections.UserDict(a=1), {"a": 3}], (collections.UserDict, {"a": INTS})),
    "read-only dict": ([types.MappingProxyType({"a": 1}), {"a": 3}], (types.MappingProxyType, {"a": INTS})),
    "dict with more": ([Tagged(a=1), Tagged(a=3)], (Tagged, {"a": INTS})),
    "a list's class": ([Names([1, 2.0]), Names([3, 4.0])], (Names, [INTS, FLOATS])),
    "tuple": ([(1, 2.0), (3, 4.0)], (list, [INTS, FLOATS])),
    "range": ([range(1, 3), range(3, 5)], (list, [INTS, ("int64", [2, 4])])),
    "bytes": ([b"a", b"b"], (list, [b"a", b"b"])),
    "text": (["a", "b"], (list, ["a", "b"])),
    "texts inside": ([(b"a", "x"), (b"b", "y")], (list, [(list, [b"a", b"b"]), (list, ["x", "y"])])),
    "nested": ([{"p": Point([1], b"q")}, {"p": Point([3], b"r")}],
               (dict, {"p": (Point, [(list, [INTS]), (list, [b"q", b"r"])])})),
    **{f"numpy {d}": ([np.dtype(d).type(1), np.dtype(d).type(3)], (d, [1, 3])) for d in
       ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8")},
    "numpy bool": ([np.bool_(True), np.bool_(False)], ("bool", [True, False])),
    "bool": ([True, False], ("bool", [True, False])),
    "int, then float": ([1, 2.5], ("float32", [1.0, 2.5])),
    "float, then int": ([2.5, 1], ("float64", [2.5, 1.0])),
    "arrays": ([np.array([1], np.int32), np.array([3], np.int32)], ("int32", [[1], [3]])),
    "0-d tensors": ([z2g.tensor(1.5), z2g.tensor(3.0)], ("float32", [1.5, 3.0])),
    "nothing inside": ([(), ()], (list, [])),
    "None": ([None, None], TypeError), "set": ([{1}, {2}], TypeError), "complex": ([1j, 2j], TypeError),
    "array of texts": ([np.array(["a"])] * 2, TypeError), "array of objects": ([np.array([None])] * 2, TypeError),
    "unequal lists": ([[1], [1, 2]], RuntimeError), "unequal tensors": ([z2g.ones(1), z2g.ones(2)], RuntimeError),
    "a key less": ([{"a": 1}, {}], KeyError),
}  # fmt: skip


@pytest.mark.parametrize("name", BATCHES)
def test_a_batch_keeps_types(name):
    samples, expected = BATCHES[name]
    if isinstance(expected, type):
        with pytest.raises(expected):
            default_collate(samples)
        return
    assert shown(default_collate(samples)) == expected
    assert shown(next(iter(DataLoader(samples, 2)))) == expected


def test_what_a_sample_carries_besides_stays_and_the_sample_is_not_changed():
    sample = Tagged(a=1)
    sample.tag = "own"
    batch = default_collate([sample, Tagged(a=3)])
    assert batch.tag == "own" and sample == {"a": 1}


def test_without_batches(device):
    """`batch_size=None`: the samples one by one, arrays in them as tensors."""
    samples = [Point(np.ones(2, np.float32), 1), Point(np.zeros(2, np.float32), 2)]
    loader = DataLoader(samples, batch_size=None)
    assert len(loader) == 2
    first, second = loader
    assert type(first) is Point and isinstance(first.x, z2g.Tensor) and first.y == 1 and second.x.tolist() == [0, 0]
    assert [default_convert(v) for v in (3, 2.5, "x", b"x", None)] == [3, 2.5, "x", b"x", None]
    assert shown(default_convert({"a": [np.float64(2.0)], "t": (np.int8(1),)})) == (
        dict, {"a": (list, [("float64", 2.0)]), "t": (list, [("int8", 1)])})  # fmt: skip
    z2g.manual_seed(1)
    assert sorted(DataLoader(range(9), None, shuffle=True)) == list(range(9))
    assert list(DataLoader([1, 2], None, collate_fn=lambda sample: sample * 2)) == [2, 4]
    with pytest.raises(ValueError, match="None"):
        DataLoader([1], None, drop_last=True)


@pytest.mark.parametrize("n, lengths, expected", [
    (1, [1.0], [1]), (1, [0.5, 0.5], [1, 0]), (1, [1, 0], [1, 0]), (1, [0, 1], [0, 1]), (0, [0.5, 0.5], [0, 0]),
    (10, [0.5, 0.5], [5, 5]), (10, [0.35, 0.35, 0.3], [4, 3, 3]), (10, [1, 0], [10, 0]), (3, [0.9, 0.1], [3, 0]),
    (10, [5.0, 5.0], TypeError), (10, [1.5, -0.5], ValueError), (10, [0.2, 0.2], ValueError),
    (10, [float("nan"), 1.0], ValueError),
], ids=str)  # fmt: skip
def test_sizes_of_a_split(n, lengths, expected):
    if isinstance(expected, type):
        with pytest.raises(expected, match="random_split"):
            random_split(range(n), lengths)
    else:
        parts = random_split(range(n), lengths)
        assert [len(p) for p in parts] == expected and sorted(x for p in parts for x in p) == list(range(n))


def test_a_generator_of_a_device():
    """The device may be named, as in torch; the numbers are those of any other."""
    plain = z2g.rand(3, generator=z2g.Generator().manual_seed(4)).tolist()
    for generator in (z2g.Generator(device="cpu"), z2g.Generator("cpu"), z2g.Generator(device=z2g.device("cpu"))):
        assert z2g.rand(3, generator=generator.manual_seed(4)).tolist() == plain
        assert generator.device == z2g.device("cpu")
    with pytest.raises(RuntimeError):
        z2g.Generator(device="nonsense")
