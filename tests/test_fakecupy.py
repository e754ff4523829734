"""The fake CuPy itself: every trap it sets is walked into once.

Rules that real CuPy has too are replayed on it where a GPU is at hand (`-m gpu`): the fixture `xp` is first
the fake and then CuPy, so that the fake cannot drift from the truth. What only the fake does is tested alone.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import json
import pickle
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import fakecupy
import numpy as np
import pytest

HOST = np.arange(12, dtype=np.float32).reshape(3, 4)
REFUSALS = (TypeError, ValueError, AttributeError, NotImplementedError)


@pytest.fixture(params=["fake", pytest.param("cupy", marks=pytest.mark.gpu)])
def xp(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The fake, and CuPy itself where there is a GPU for it."""
    if request.param == "fake":
        with fakecupy.installed() as cupy:
            yield cupy
    else:
        yield request.getfixturevalue("card")


@pytest.fixture
def fake() -> Iterator[Any]:
    with fakecupy.installed() as cupy:
        yield cupy


def is_fake(xp: Any) -> bool:
    return xp is fakecupy.cupy


@contextlib.contextmanager
def synchronising(xp: Any, expected: bool) -> Iterator[None]:
    """Check that the block waits for the GPU, or that it does not."""
    if is_fake(xp):
        before = fakecupy.synchronisations.count
        yield
        assert (fakecupy.synchronisations.count > before) == expected
    else:
        cupyx = importlib.import_module("cupyx")
        with contextlib.ExitStack() as stack:
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")  # allow_synchronize is deprecated, and there is nothing else
            stack.enter_context(cupyx.allow_synchronize(False))
            if expected:
                with pytest.raises(cupyx.DeviceSynchronized):
                    yield
            else:
                yield


def on_device(xp: Any, *host: Any) -> tuple[Any, ...]:
    arrays = tuple(xp.asarray(np.asarray(a)) for a in host)
    fakecupy.synchronisations.reset()
    fakecupy.uploads.reset()
    return arrays


# --- What CuPy refuses -------------------------------------------------------------------------------------

REFUSED: dict[str, Callable[[Any, Any], Any]] = {
    # The array never turns into a NumPy array or an index by itself.
    "np.asarray(a)": lambda xp, a: np.asarray(a),
    "np.array([a])": lambda xp, a: np.array([a[0], a[1]]),
    "host[...] = a": lambda xp, a: np.zeros((3, 4)).__setitem__(..., a),
    "range(a0)": lambda xp, a: range(a[0, 0].astype(int)),
    "list[a0]": lambda xp, a: [1, 2][a[0, 0].astype(int)],
    "hash(a)": lambda xp, a: hash(a),
    "item of many": lambda xp, a: a.item(),
    "bool of many": lambda xp, a: bool(a),
    "item(0)": lambda xp, a: a.item(0),
    # Host data do not mix with device data, 0-d arrays and lists included.
    "a + host": lambda xp, a: a + HOST,
    "host + a": lambda xp, a: HOST + a,
    "a + host 0-d": lambda xp, a: a + np.array(1.0),
    "host 0-d * a": lambda xp, a: np.array(1.0) * a,
    "a + list": lambda xp, a: a[0] + [1.0, 2.0, 3.0, 4.0],
    "list + a": lambda xp, a: [1.0, 2.0, 3.0, 4.0] + a[0],
    "a += host": lambda xp, a: a.__iadd__(HOST),
    "a @ host": lambda xp, a: a @ HOST.T,
    "host @ a": lambda xp, a: HOST.T @ a,
    "a < host": lambda xp, a: a < HOST,
    "ufunc(host)": lambda xp, a: xp.exp(HOST),
    "ufunc(list)": lambda xp, a: xp.exp([1.0]),
    "ufunc(a, host)": lambda xp, a: xp.maximum(a, HOST),
    "ufunc(out=host)": lambda xp, a: xp.exp(a, out=HOST.copy()),
    "np.exp(a, out=host)": lambda xp, a: np.exp(a, out=HOST.copy()),
    "sum(host)": lambda xp, a: xp.sum(HOST).get(),
    "sum(list)": lambda xp, a: xp.sum([1.0, 2.0]),
    "sum(number)": lambda xp, a: xp.sum(3.0),
    "where(host)": lambda xp, a: xp.where(HOST > 1, a, 0.0),
    "where(c, a, host)": lambda xp, a: xp.where(a > 1, a, HOST),
    "concatenate(host)": lambda xp, a: xp.concatenate([a, HOST]),
    "stack(host)": lambda xp, a: xp.stack([a, HOST]),
    "stack(numbers)": lambda xp, a: xp.stack([1.0, 2.0]),
    "concatenate(0-d)": lambda xp, a: xp.concatenate([a[0, 0], a[0, 1]]),
    "reshape(host)": lambda xp, a: xp.reshape([1.0, 2.0], (2, 1)),
    "broadcast_to(number)": lambda xp, a: xp.broadcast_to(1.0, (3,)),
    "ascontiguousarray(host)": lambda xp, a: xp.ascontiguousarray(HOST),
    "dot(host)": lambda xp, a: a.dot(HOST.T),
    "asarray([a, number])": lambda xp, a: xp.asarray([a[0, 0], 1.0]),
    "a[...] = host": lambda xp, a: a.__setitem__(..., HOST),
    "a[0] = list": lambda xp, a: a.__setitem__(0, [1.0, 2.0, 3.0, 4.0]),
    "repeat(host counts)": lambda xp, a: a.repeat(np.array([1, 2, 1]), axis=0),
    # Arguments that NumPy knows and CuPy does not.
    "ufunc(where=)": lambda xp, a: xp.add(a, a, where=a > 1),
    "sum(where=)": lambda xp, a: xp.sum(a, where=a > 1),
    "a.sum(where=)": lambda xp, a: a.sum(where=a > 1),
    "max(initial=)": lambda xp, a: xp.max(a, initial=0.0),
    "argsort(stable=)": lambda xp, a: xp.argsort(a, stable=True),
    "reshape(shape=)": lambda xp, a: xp.reshape(a, shape=(12,)),
    "astype(casting=)": lambda xp, a: a.astype(np.int32, casting="unsafe"),
    "broadcast_to(subok=)": lambda xp, a: xp.broadcast_to(a, (2, 3, 4), subok=True),
    "take(mode=)": lambda xp, a: xp.take(a, a[0].astype(int), mode="clip"),
    "minimum.reduce": lambda xp, a: xp.minimum.reduce(a),
    "multiply.at": lambda xp, a: xp.multiply.at(a, xp.arange(2), 2.0),
    "add.at on int8": lambda xp, a: xp.add.at(xp.zeros(3, dtype=np.int8), xp.arange(2), 1),
    # Names that NumPy has and CuPy does not.
    "errstate": lambda xp, a: xp.errstate,
    "block": lambda xp, a: xp.block,
    "insert": lambda xp, a: xp.insert,
    "vecdot": lambda xp, a: xp.vecdot,
    "object_": lambda xp, a: xp.object_,
    "Generator.normal": lambda xp, a: xp.random.default_rng(0).normal,
    "Generator.permutation": lambda xp, a: xp.random.default_rng(0).permutation,
    "Generator.choice": lambda xp, a: xp.random.default_rng(0).choice,
    "Generator.shuffle": lambda xp, a: xp.random.default_rng(0).shuffle,
    "a.__index__": lambda xp, a: a[0, 0].__index__,
    "a.__contains__": lambda xp, a: a.__contains__,
    "a.__imatmul__": lambda xp, a: a.__imatmul__,
    "a.flags.writeable": lambda xp, a: a.flags.writeable,
    "a.attribute = 1": lambda xp, a: setattr(a, "attribute", 1),
    # Types and shapes.
    "objects": lambda xp, a: xp.asarray(np.array([None])),
    "strings": lambda xp, a: xp.asarray("text"),
    "int += float": lambda xp, a: xp.arange(3).__iadd__(1.5),
    "out of another shape": lambda xp, a: xp.exp(a, out=xp.empty((4,), dtype=np.float32)),
    "matmul with a number": lambda xp, a: a @ 2.0,
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(xp: Any, name: str) -> None:
    (a,) = on_device(xp, HOST)
    with pytest.raises(REFUSALS) as caught:
        REFUSED[name](xp, a)
    assert not isinstance(caught.value, fakecupy.NotInFakeError)


REFUSED_BY_THE_FAKE_ALONE: dict[str, Callable[[Any, Any], Any]] = {
    "np.exp(a)": lambda xp, a: np.exp(a),
    "np.sum(a)": lambda xp, a: np.sum(a),
    "np.concatenate([a])": lambda xp, a: np.concatenate([a]),
    "np.zeros_like(a)": lambda xp, a: np.zeros_like(a),
    "vstack(host)": lambda xp, a: xp.vstack([a, HOST]),
    "isclose(host)": lambda xp, a: xp.isclose(a, HOST),
    "einsum(host)": lambda xp, a: xp.einsum("ij->ji", HOST),
    "zeros(a0)": lambda xp, a: xp.zeros(a[0, 1].astype(int)),
    "sum(axis=a0)": lambda xp, a: a.sum(axis=a[0, 1].astype(int)),
}


@pytest.mark.parametrize("name", REFUSED_BY_THE_FAKE_ALONE)
def test_refused_by_the_fake_alone(fake: Any, name: str) -> None:
    (a,) = on_device(fake, HOST)
    with pytest.raises(TypeError):
        REFUSED_BY_THE_FAKE_ALONE[name](fake, a)


# --- What CuPy allows, with NumPy's result and without waiting ---------------------------------------------

ALLOWED: dict[str, Callable[[Any, Any, Any], Any]] = {
    "a[..., None]": lambda xp, a, i: a[..., None],
    "slices": lambda xp, a, i: a[::-2, 1:3],
    "a[0]": lambda xp, a, i: a[0],
    "a[0, 0]": lambda xp, a, i: a[0, 0],
    "a[()]": lambda xp, a, i: a[()],
    "a[np.int64(1)]": lambda xp, a, i: a[np.int64(1)],
    "a[i]": lambda xp, a, i: a[i],
    "a[i, i]": lambda xp, a, i: a[i, i],
    "a[:, i[:, None]]": lambda xp, a, i: a[:, i[:, None]],
    "a[i, ..., None]": lambda xp, a, i: a[i, ..., None],
    "a[i[0]]": lambda xp, a, i: a[i[0]],
    "sum": lambda xp, a, i: a.sum(),
    "sum(axis, keepdims)": lambda xp, a, i: a.sum(axis=(0, 1), keepdims=True),
    "mean(-1)": lambda xp, a, i: a.mean(-1, keepdims=True),
    "var(ddof)": lambda xp, a, i: xp.var(a, axis=1, ddof=1),
    "max": lambda xp, a, i: xp.max(a, axis=0),
    "argmax": lambda xp, a, i: a.argmax(axis=1, keepdims=True),
    "any": lambda xp, a, i: (a > 3).any(),
    "count_nonzero": lambda xp, a, i: xp.count_nonzero(a),
    "allclose": lambda xp, a, i: xp.allclose(a, a),
    "array_equal": lambda xp, a, i: xp.array_equal(a, a[:1]),
    "where": lambda xp, a, i: xp.where(a > 3, a, 0.0),
    "clip": lambda xp, a, i: xp.clip(a, 1.0, None),
    "numbers": lambda xp, a, i: 2 / (a + 1) ** 2 - a * 0.5 + np.float32(3),
    "np.float64 * a": lambda xp, a, i: np.float64(2) * a,
    "number < a": lambda xp, a, i: np.float32(3) < a,
    "int array * float": lambda xp, a, i: i * 0.5,
    "divmod": lambda xp, a, i: divmod(a, 2)[1],
    "-abs(~)": lambda xp, a, i: -abs(a) * ~(a > 2),
    "0-d * 1-d": lambda xp, a, i: a.sum() * a[0],
    "ufunc of a number": lambda xp, a, i: xp.exp(1.0),
    "ufunc(out=)": lambda xp, a, i: xp.add(a, 1.0, out=xp.empty_like(a)),
    "ufunc(a, b, out)": lambda xp, a, i: xp.add(a, 1.0, xp.empty_like(a)),
    "matmul": lambda xp, a, i: a @ a.T,
    "matmul 1-d": lambda xp, a, i: a[0] @ a[0],
    "matmul batch": lambda xp, a, i: a[None] @ xp.swapaxes(a[None], -1, -2),
    "matmul(out=)": lambda xp, a, i: xp.matmul(a, a.T, out=xp.empty((3, 3), dtype=np.float32)),
    "einsum": lambda xp, a, i: xp.einsum("ij,kj->ik", a, a),
    "einsum by numbers": lambda xp, a, i: xp.einsum(a, [0, 1], a, [2, 1], [0, 2]),
    "astype(copy=False)": lambda xp, a, i: a.astype(np.float64, copy=False),
    "reshape": lambda xp, a, i: a.reshape(2, -1),
    "T.reshape": lambda xp, a, i: a.T.reshape((12,)),
    "transpose": lambda xp, a, i: a.transpose(1, 0),
    "moveaxis": lambda xp, a, i: xp.moveaxis(a, 0, -1),
    "squeeze": lambda xp, a, i: xp.squeeze(xp.expand_dims(a, 1), axis=1),
    "broadcast_to": lambda xp, a, i: xp.broadcast_to(a, (2, 3, 4)),
    "ascontiguousarray": lambda xp, a, i: xp.ascontiguousarray(a.T),
    "concatenate": lambda xp, a, i: xp.concatenate((a, a), axis=1),
    "stack": lambda xp, a, i: xp.stack([a, a], axis=-1),
    "split": lambda xp, a, i: xp.split(a, [1, 3], axis=1)[1],
    "split at a host array": lambda xp, a, i: xp.split(a, np.array([1, 3]), axis=1)[2],
    "tile": lambda xp, a, i: xp.tile(a, (2, 1)),
    "repeat": lambda xp, a, i: xp.repeat(a, 2, axis=0),
    "roll": lambda xp, a, i: xp.roll(a, 1, axis=1),
    "pad": lambda xp, a, i: xp.pad(a, ((0, 0), (1, 2)), constant_values=3.0),
    "flip": lambda xp, a, i: xp.flip(a, axis=(0, 1)),
    "tril": lambda xp, a, i: xp.tril(a, -1),
    "sort": lambda xp, a, i: xp.sort(-a, axis=1),
    "argsort": lambda xp, a, i: (-a).argsort(axis=1),
    "cumsum": lambda xp, a, i: xp.cumsum(a, axis=1),
    "searchsorted": lambda xp, a, i: xp.searchsorted(a[0], a[1]),
    "take": lambda xp, a, i: xp.take(a, i, axis=1),
    "take_along_axis": lambda xp, a, i: xp.take_along_axis(a, a.argmax(axis=1, keepdims=True), axis=1),
    "norm": lambda xp, a, i: xp.linalg.norm(a, axis=1),
    "arange": lambda xp, a, i: xp.arange(1, 7, 2),
    "full": lambda xp, a, i: xp.full((2, 2), 3.0, dtype=np.float32),
    "eye": lambda xp, a, i: xp.eye(3, dtype=np.float32),
    "zeros_like": lambda xp, a, i: xp.zeros_like(a, dtype=np.float64),
    "asarray([a, a])": lambda xp, a, i: xp.asarray([a[0], a[1]]),
    "asarray(number)": lambda xp, a, i: xp.asarray(3.0, dtype=np.float32),
    "division by zero": lambda xp, a, i: a / (a - a),
    "log(-1)": lambda xp, a, i: xp.log(-a - 1),
    "empty sum": lambda xp, a, i: a[:0].sum(axis=0),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")  # NumPy's, which the GPU never gives
@pytest.mark.parametrize("name", ALLOWED)
def test_allowed(xp: Any, name: str) -> None:
    host_indices = np.array([2, 0, 1])
    a, i = on_device(xp, HOST, host_indices)
    with synchronising(xp, False):
        got = ALLOWED[name](xp, a, i)
    expected = np.asarray(ALLOWED[name](np, HOST, host_indices))
    assert isinstance(got, xp.ndarray)  # 0-d results too
    assert fakecupy.uploads.count == 0
    assert (got.shape, got.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_allclose(xp.asnumpy(got), expected, rtol=1e-5)


@pytest.mark.filterwarnings("error")
def test_arithmetic_never_warns(xp: Any) -> None:
    (a,) = on_device(xp, np.array([-1.0, 0.0, 1e300]))
    for result in (
        a / 0,
        xp.log(a),
        xp.sqrt(a),
        xp.exp(a),
        a[:0].mean(),
        xp.float16(1) * a.astype(np.float16),
    ):
        assert isinstance(result, xp.ndarray)
    with np.errstate(all="raise"):
        a[1:] = a[:2] / 0
        a /= 0
        xp.zeros(3, dtype=np.int64)[:] = a  # infinity becomes some integer
        xp.add.at(a.astype(np.float16), xp.arange(3), 1e300)


def test_in_place_operators_keep_the_array(xp: Any) -> None:
    (a,) = on_device(xp, HOST)
    same = a
    a += 1
    a -= a / 2
    a *= np.float64(2)  # same-kind casting: float32 stays
    a /= 2
    a **= 2
    assert a is same and a.dtype == np.float32
    np.testing.assert_allclose(xp.asnumpy(a), ((HOST + 1) / 2) ** 2)
    square = eye = xp.eye(3)
    square @= eye  # no __imatmul__: Python rebinds the name
    assert square is not eye


def test_an_operator_leaves_the_work_to_a_tensor_only_if_its_array_ufunc_is_none(xp: Any) -> None:
    class Deferring:
        __array_ufunc__ = None

        def __radd__(self, other: Any) -> str:
            return "radd"

    class Plain:
        def __radd__(self, other: Any) -> str:
            return "radd"

    (a,) = on_device(xp, HOST)
    assert a + Deferring() == "radd"
    with pytest.raises(TypeError):
        a + Plain()
    assert not xp.asnumpy(a == None).any() and xp.asnumpy(a != None).all()  # noqa: E711


# --- Waiting for the GPU -----------------------------------------------------------------------------------

WAITING: dict[str, Callable[[Any, Any], Any]] = {
    "item": lambda xp, a: a[0, 0].item(),
    "float": lambda xp, a: float(a.sum()),
    "int": lambda xp, a: int(a.sum()),
    "bool": lambda xp, a: bool(a.sum() > 3),
    "if": lambda xp, a: 1 if (a > 3).all() else 2,
    "in": lambda xp, a: 3.0 in a[0],
    "get": lambda xp, a: a.get(),
    "asnumpy": lambda xp, a: xp.asnumpy(a),
    "tolist": lambda xp, a: a.tolist(),
    "repr": lambda xp, a: repr(a),
    "str": lambda xp, a: str(a),
    "f-string": lambda xp, a: f"{a[0, 0]:.3f}",
    "mask": lambda xp, a: a[a > 3],
    "mask = number": lambda xp, a: a.__setitem__(a > 3, 0.0),
    "a[:n]": lambda xp, a: a[: a[0, 1].astype(int)],
    "nonzero": lambda xp, a: xp.nonzero(a),
    "where of one": lambda xp, a: xp.where(a > 3),
    "argwhere": lambda xp, a: xp.argwhere(a),
    "unique": lambda xp, a: xp.unique(a),
    "bincount": lambda xp, a: xp.bincount(a[0].astype(int)),
    "repeat by array": lambda xp, a: xp.repeat(a, xp.arange(3), axis=0),
    "tril_indices": lambda xp, a: xp.tril_indices(3),
    "copy to the host": lambda xp, a: pickle.dumps(a),
}


@pytest.mark.parametrize("name", WAITING)
def test_waiting_for_the_gpu_is_counted(xp: Any, name: str) -> None:
    (a,) = on_device(xp, HOST)
    with synchronising(xp, True):
        WAITING[name](xp, a)


def test_synchronize_counts(fake: Any) -> None:
    fake.cuda.Device(1).synchronize()
    fake.cuda.Stream.null.synchronize()
    fake.cuda.get_current_stream().synchronize()
    assert fakecupy.synchronisations.count == 3
    fakecupy.synchronisations.reset()
    assert fakecupy.synchronisations.count == 0


def test_host_data_count_as_uploads(fake: Any) -> None:
    a = fake.asarray(HOST)
    assert fakecupy.uploads.count == 1
    fake.array([1.0, 2.0])
    _ = a[[0, 1]], a[HOST[0].astype(int)]
    a[[0, 1]] = HOST[:2]  # the indices and the values
    assert fakecupy.uploads.count == 6
    fake.asarray(3.0), fake.asarray(a), fake.full((2,), 1.0), a[0, 1:]
    a[0], a[1:] = 1.0, a[0]
    assert fakecupy.uploads.count == 6
    assert fakecupy.synchronisations.count == 0


def test_uploaded_and_downloaded_data_are_copies(xp: Any) -> None:
    host = HOST.copy()
    a = xp.asarray(host)
    host[0] = 100
    down = a.get()
    down[0] = 200
    np.testing.assert_array_equal(xp.asnumpy(a), HOST)


# --- Indices -----------------------------------------------------------------------------------------------


def test_out_of_range_integer_arrays_wrap_around(xp: Any) -> None:
    a, far, rows = on_device(xp, HOST, np.array([5, -7, 3]), np.array([[5], [-1], [4]]))
    np.testing.assert_array_equal(xp.asnumpy(a[far]), HOST[[2, 2, 0]])
    np.testing.assert_array_equal(xp.asnumpy(a[far, far]), HOST[[2, 2, 0], [1, 1, 3]])
    np.testing.assert_array_equal(xp.asnumpy(a[..., far]), HOST[..., [1, 1, 3]])
    np.testing.assert_array_equal(xp.asnumpy(a[:, None, far.astype(np.int8)]), HOST[:, None, [1, 1, 3]])
    np.testing.assert_array_equal(xp.asnumpy(a.take(far, axis=1)), HOST[:, [1, 1, 3]])
    np.testing.assert_array_equal(
        xp.asnumpy(xp.take_along_axis(a, rows, axis=1)),
        np.take_along_axis(HOST, np.array([[1], [3], [0]]), 1),
    )
    a[far] = 0.0
    xp.add.at(a, far, 1.0)
    np.testing.assert_array_equal(xp.asnumpy(a), [[1] * 4, [4, 5, 6, 7], [2] * 4])
    with pytest.raises(IndexError):
        a[3]  # a number is still checked
    with pytest.raises(IndexError):
        a[:0][far]


def test_add_at_accumulates(xp: Any) -> None:
    a, i, v = on_device(xp, np.zeros((3, 2), dtype=np.float32), np.array([0, 2, 0]), np.ones((3, 2)))
    xp.add.at(a, i, v)
    np.testing.assert_array_equal(xp.asnumpy(a), [[2, 2], [0, 0], [1, 1]])
    xp.add.at(a, (i, i % 2), 1.0)
    np.testing.assert_array_equal(xp.asnumpy(a), [[4, 2], [0, 0], [2, 1]])


def test_assignment_through_duplicate_indices_is_an_error_of_the_fake(fake: Any) -> None:
    a, i, columns = on_device(fake, HOST, np.array([0, 2, 0]), np.array([[1, 1], [0, 1], [0, 1]]))
    with pytest.raises(fakecupy.FakeError, match="duplicate"):
        a[i] = a.copy()
    with pytest.raises(fakecupy.FakeError):
        a[i] += a
    with pytest.raises(fakecupy.FakeError):
        a[0, i - 3 * i] = a[0, 1:]  # 2 and -4 wrap around to one place
    with pytest.raises(fakecupy.FakeError):
        fake.put_along_axis(a, columns, a[:, :2], axis=1)
    with pytest.raises(fakecupy.FakeError):
        a.put(i, a[0, :3])
    np.testing.assert_array_equal(a.get(), HOST)
    a[i] = 0.0  # one value: it does not matter which stays
    a[i, fake.arange(3)] = fake.arange(3.0)
    np.testing.assert_array_equal(a.get(), [[0, 0, 2, 0], [4, 5, 6, 7], [0, 1, 0, 0]])


def test_assignment(xp: Any) -> None:
    a, i = on_device(xp, HOST, np.array([2, 0]))
    a[0] = 1.0
    a[1:, 1:3] = a[0, :2]
    a[i] = a[i] + 1
    a[..., -1] = xp.arange(3)
    a[a > 5] = -1.0
    expected = HOST.copy()
    expected[0] = 1.0
    expected[1:, 1:3] = 1.0
    expected[[2, 0]] += 1
    expected[..., -1] = np.arange(3)
    expected[expected > 5] = -1.0
    np.testing.assert_array_equal(xp.asnumpy(a), expected)


# --- Views, copies, metadata -------------------------------------------------------------------------------


def test_views_know_their_base(xp: Any) -> None:
    (a,) = on_device(xp, HOST)
    assert a.base is None and a.flags.owndata and a.flags.c_contiguous and a.flags["C_CONTIGUOUS"]
    views = [
        a[1:],
        a[0, 0],
        a.T,
        a.reshape(4, 3),
        a[1:].ravel(),
        a[None],
        xp.broadcast_to(a, (2, 3, 4)),
        a.view(),
    ]
    for view in [*views, xp.split(a, 2, axis=1)[1]]:
        assert view.base is a and not view.flags.owndata and xp.may_share_memory(view, a) is True
    for fresh in (
        a + 1,
        a.copy(),
        a.T.reshape(12),
        a[xp.arange(2)],
        a[xp.asarray(0)],
        a.flatten(),
        a.sum(axis=0),
    ):
        assert fresh.base is None and not xp.may_share_memory(fresh, a)
    for same in (xp.asarray(a), xp.ascontiguousarray(a), a.astype(np.float32, copy=False), xp.exp(a, out=a)):
        assert same is a
    a[1:][0] = 5.0
    assert a[1, 0].item() == 5.0 and not a.T.flags.c_contiguous and a.T.flags.f_contiguous
    b = a.copy()
    b.shape = (2, 6)
    assert b.shape == (2, 6) and len(b) == 2 and b.size == 12 and b.nbytes == 48 and b.strides == (24, 4)
    assert xp.result_type(a, np.float64) == np.float64 and xp.ndim(a) == 2


def test_copy_deepcopy_pickle(xp: Any) -> None:
    (a,) = on_device(xp, HOST)
    for other in (copy.copy(a), copy.deepcopy(a), pickle.loads(pickle.dumps(a))):
        assert isinstance(other, xp.ndarray) and not xp.may_share_memory(other, a)
        np.testing.assert_array_equal(xp.asnumpy(other), HOST)


def test_get_array_module(xp: Any) -> None:
    assert xp.get_array_module(1, xp.zeros(1)) is xp
    assert xp.get_array_module(HOST, 2) is np
    assert isinstance(xp.asnumpy(HOST), np.ndarray)


def test_random_generator_gives_device_arrays(xp: Any) -> None:
    drawn = xp.random.default_rng(0).standard_normal((2, 3), dtype=np.float32)
    assert isinstance(drawn, xp.ndarray) and drawn.shape == (2, 3) and drawn.dtype == np.float32


# --- Devices -----------------------------------------------------------------------------------------------


def test_an_array_belongs_to_the_device_that_was_current(fake: Any) -> None:
    with fake.cuda.Device(1):
        b = fake.asarray(HOST)
        assert fake.cuda.Device().id == fake.cuda.runtime.getDevice() == 1
    a = fake.asarray(HOST)
    assert (a.device.id, b.device.id, b.T[1:].device.id) == (0, 1, 1)
    assert b.device == fake.cuda.Device(1) != a.device and fake.cuda.Device().id == 0


@pytest.mark.parametrize("current", [0, 1])
def test_devices_do_not_mix(fake: Any, current: int) -> None:
    a = fake.asarray(HOST)
    with fake.cuda.Device(1):
        b, i = fake.asarray(HOST), fake.arange(2)
    mixed: list[Callable[[], Any]] = [
        lambda: a + b, lambda: a.__iadd__(b), lambda: fake.add(a, 1, out=b), lambda: fake.concatenate([a, b]),
        lambda: fake.where(a > b, a, b), lambda: a[i], lambda: a.__setitem__(i, 1.0),
        lambda: a.__setitem__(0, b[0]), lambda: fake.add.at(a, i, 1.0), lambda: a @ b.T,
        lambda: fake.sum(a, 0, None, b[0]), lambda: fake.asarray([a, b]),
    ]  # fmt: skip
    with fake.cuda.Device(current):
        for compute in mixed:
            with pytest.raises(ValueError, match="Peer access is unavailable"):
                compute()


def test_a_kernel_runs_on_the_current_device_only(fake: Any) -> None:
    with fake.cuda.Device(1):
        b = fake.asarray(HOST)
    for compute in (
        lambda: b + 1,
        lambda: b.sum(),
        lambda: b.T.reshape(-1),
        lambda: b.fill(1.0),
        lambda: b.sort(),
    ):
        with pytest.raises(ValueError, match="different from the current device"):
            compute()
    assert b.get().shape == b.reshape(4, 3).T.shape == (3, 4)  # views and downloads need no kernel
    here = fake.asarray(b)  # the way across
    assert here.device.id == b.copy().device.id == 0 and copy.deepcopy(b).device.id == 1
    np.testing.assert_array_equal((here + 1).get(), HOST + 1)
    with pytest.raises(NotImplementedError, match="non-contiguous"):
        fake.asarray(b[:, ::2])


def test_wrong_device_number(xp: Any) -> None:
    error = xp.cuda.runtime.CUDARuntimeError
    count = xp.cuda.runtime.getDeviceCount()
    assert xp.cuda.runtime.getDeviceProperties(count - 1)["name"]
    with pytest.raises(error, match="cudaErrorInvalidDevice"):
        xp.cuda.runtime.getDeviceProperties(count)
    with pytest.raises(error, match="cudaErrorInvalidDevice"), xp.cuda.Device(count):
        pass
    assert xp.cuda.Device().id == 0


# --- Installing --------------------------------------------------------------------------------------------


def test_without_a_device_cupy_imports_and_then_refuses() -> None:
    with fakecupy.installed(devices=0):
        import cupy

        assert not cupy.is_available() and issubclass(cupy.cuda.runtime.CUDARuntimeError, RuntimeError)
        asking: list[Callable[[], Any]] = [
            cupy.cuda.runtime.getDeviceCount, lambda: cupy.zeros(3), lambda: cupy.asarray(HOST),
            cupy.cuda.Device, lambda: cupy.cuda.Device(0).synchronize(),
        ]  # fmt: skip
        for ask in asking:
            with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="cudaErrorInsufficientDriver"):
                ask()


def test_installing_puts_everything_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", "the one before")
    monkeypatch.setitem(sys.modules, "cupy.fft", "a part of it")
    before = dict(sys.modules)
    with pytest.raises(ZeroDivisionError), fakecupy.installed(devices=3):
        import cupy.cuda
        from cupy.cuda.runtime import getDeviceCount

        assert cupy is fakecupy.cupy and getDeviceCount() == 3 and "cupy.fft" not in sys.modules
        with pytest.raises(ImportError):
            importlib.import_module("cupyx")
        cupy.cuda.Device(2).use()
        with fakecupy.installed(devices=0), pytest.raises(RuntimeError):
            getDeviceCount()
        assert cupy.cuda.Device().id == 2
        raise ZeroDivisionError
    assert sys.modules == before


def test_a_name_of_cupy_that_the_fake_lacks_says_so(fake: Any) -> None:
    for get in (
        lambda: fake.RawKernel,
        lambda: fake.fft,
        lambda: fake.cuda.Event,
        lambda: fake.zeros(1).toDlpack,
    ):
        with pytest.raises(NotImplementedError, match="not in the fake"):
            get()
    assert not hasattr(fake, "RawKernel") and not hasattr(fake, "no_such_name")


def test_the_names_are_those_of_the_installed_cupy(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cupy = pytest.importorskip("cupy")  # needs no GPU
    listed = fakecupy.NAMES["version"]["cupy"]
    if cupy.__version__ != listed:
        pytest.skip(f"the list is of CuPy {listed}, installed is {cupy.__version__}")
    monkeypatch.setattr(fakecupy, "DATA", tmp_path / "names.json")
    fakecupy.regenerate()
    written = json.loads((tmp_path / "names.json").read_text())
    assert written == fakecupy.NAMES
