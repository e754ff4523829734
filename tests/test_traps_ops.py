"""Traps 12 to 27, one example each: shapes, indexing, dtypes and numbers where frameworks of this kind go wrong.

`test_ops.py` checks every operation at random points. Here stand the special ones: kinks and ties, empty and
one-element inputs, very large numbers, mixtures of dtypes. What is expected is torch's documented behaviour, worked
out by hand. `device` runs a test on NumPy, on the strict fake of CuPy and, where there is one, on a GPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinygrad_z2g as z2g
import tinygrad_z2g.nn.functional as F

INF, NAN = math.inf, math.nan


def leaf(data: Any, dtype: Any = np.float64) -> z2g.Tensor:
    """A tensor on the device under test that requires grad."""
    return z2g.tensor(np.array(data, dtype), requires_grad=True)


def slopes(f: Callable, *inputs: Any, cotangent: Any = None) -> Any:
    """∂ Σ f / ∂ each input, as lists; with a cotangent c, ∂ Σ c f."""
    xs = [leaf(data) for data in inputs]
    z = f(*xs)
    z.backward(z2g.tensor(np.ones(z.shape) if cotangent is None else np.array(cotangent, float)))
    grads = [x.grad.tolist() for x in xs]
    return grads[0] if len(grads) == 1 else grads


def close(x: z2g.Tensor, expected: Any, rtol: float = 1e-12, atol: float = 0) -> None:
    np.testing.assert_allclose(x.detach().cpu().numpy(), expected, rtol=rtol, atol=atol)


# --- 12: reductions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dim", "expected"), [(0, [[1, 2], [1, 2]]), (1, [[1, 1], [2, 2]]), (-1, [[1, 1], [2, 2]])])
def test_trap_12_sum_of_a_square_is_not_spread_the_wrong_way(dim: int, expected: list, device: str) -> None:
    """On a square input a transposed gradient has the right shape."""
    assert slopes(lambda x: x.sum(dim), [[5, 6], [7, 8]], cotangent=[1, 2]) == expected


@pytest.mark.parametrize("dims", [(0, 2), (2, 0), (-1, 0), (-1, -3)])
def test_trap_12_order_of_dims_does_not_matter(dims: tuple, device: str) -> None:
    x = leaf(np.arange(8.0).reshape(2, 2, 2))
    assert x.sum(dims).tolist() == [0 + 1 + 4 + 5, 2 + 3 + 6 + 7]
    assert x.mean(dims, keepdim=True).shape == (1, 2, 1)
    assert slopes(lambda x: x.sum(dims), np.zeros((2, 2, 2)), cotangent=[1, 2]) == [[[1, 1], [2, 2]]] * 2


def test_trap_12_empty_reductions(device: str) -> None:
    """The sum of nothing is 0, its product 1, its mean NaN; an extreme of nothing is an error."""
    x = leaf(np.zeros((0, 3)))
    assert x.sum().item() == 0 and x.prod().item() == 1 and x.norm().item() == 0
    assert math.isnan(x.mean().item()) and math.isnan(x.var().item())
    assert x.sum(0).tolist() == [0, 0, 0] and x.sum(1).shape == (0,)
    assert x.logsumexp(0).tolist() == [-INF] * 3
    assert x.all().item() is True and x.any().item() is False
    assert x.cumsum(0).shape == (0, 3)
    for f in (z2g.max, z2g.min, z2g.amax, z2g.amin, z2g.argmax, z2g.argmin):
        with pytest.raises((IndexError, RuntimeError)):
            f(x)
        with pytest.raises(IndexError):
            f(x, 0)
    assert x.amax(1).shape == x.max(1).values.shape == x.argmin(1).shape == (0,)


@pytest.mark.parametrize("f", [z2g.sum, z2g.mean, z2g.prod, z2g.var, z2g.std, z2g.norm], ids=lambda f: f.__name__)
def test_trap_12_empty_reductions_have_empty_gradients(f: Callable, device: str) -> None:
    x = leaf(np.zeros((0, 3)))
    f(x).backward()
    assert x.grad.shape == (0, 3)


def test_trap_12_reductions_of_a_0d_tensor(device: str) -> None:
    x = leaf(3.0)
    assert [f(x, 0).item() for f in (z2g.sum, z2g.mean, z2g.prod, z2g.amax)] == [3, 3, 3, 3]
    assert x.max(-1).values.item() == 3 and x.max(0).indices.item() == 0
    with pytest.raises(IndexError, match="dim"):
        x.sum(1)


@pytest.mark.parametrize("bad", [2, -3, (0, 5)])
def test_trap_12_dim_out_of_range(bad: Any) -> None:
    with pytest.raises(IndexError, match="out of range"):
        z2g.ones(2, 2).sum(bad)


def test_trap_12_dim_twice() -> None:
    with pytest.raises(RuntimeError, match="twice"):
        z2g.ones(2, 2).sum((0, -2))


def test_trap_12_integers_sum_to_int64(device: str) -> None:
    """200 + 200 does not fit in uint8; bools are counted."""
    x = z2g.tensor([200, 200], dtype=z2g.uint8)
    assert x.sum().dtype == x.prod().dtype == x.cumsum(0).dtype == z2g.int64
    assert x.sum().item() == 400 and x.prod().item() == 40000 and x.cumsum(0).tolist() == [200, 400]
    assert z2g.tensor([True, True, False]).sum().item() == 2


# --- 13: repeated indices ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x[[0, 2, 0, 0]],
        lambda x: x[z2g.tensor([0, 2, 0, 0])],
        lambda x: x[np.array([0, 2, 0, 0])],
        lambda x: x[[0, 2, -3, 0]],
        lambda x: x.gather(0, z2g.tensor([0, 2, 0, 0])),
        lambda x: x.index_select(0, z2g.tensor([0, 2, 0, 0])),
        lambda x: x.take_along_dim(z2g.tensor([0, 2, 0, 0]), 0),
        lambda x: F.embedding(z2g.tensor([0, 2, 0, 0]), x.unsqueeze(1)).squeeze(1),
    ],
    ids=["list", "tensor", "ndarray", "negative", "gather", "index_select", "take_along_dim", "embedding"],
)
def test_trap_13_gradients_of_repeated_indices_add_up(read: Callable, device: str) -> None:
    assert slopes(read, [5, 6, 7], cotangent=[1, 10, 100, 1000]) == [1101, 0, 10]


def test_trap_13_pairs_of_repeated_indices(device: str) -> None:
    assert slopes(lambda x: x[[0, 0, 1], [1, 1, 0]], [[1, 2], [3, 4]], cotangent=[1, 2, 4]) == [[0, 3], [4, 0]]


def _set(x: z2g.Tensor, v: z2g.Tensor) -> z2g.Tensor:
    z = x * 1
    z[[0, 0]] = v
    return z


@pytest.mark.parametrize(
    ("write", "operation"),
    [(_set, z2g.Tensor.__setitem__), (lambda x, v: z2g.scatter(x, 0, z2g.tensor([0, 0]), v), z2g.scatter)],
)
def test_trap_13_writing_twice_to_one_place_is_as_in_torch_and_said_so(write: Callable, operation: Callable) -> None:
    """The last value stays and both receive the gradient, which is false for the first: the docstring must warn."""
    x, v = leaf([1, 2]), leaf([8, 9])
    z = write(x, v)
    (z * z2g.tensor([5.0, 6.0], dtype=z2g.float64)).sum().backward()
    assert z.tolist() == [9, 2] and x.grad.tolist() == [0, 6] and v.grad.tolist() == [5, 5]
    told = " ".join(operation.__doc__.split())
    assert "each receives the gradient of that place, as in torch, which is false" in told


@pytest.mark.parametrize("rows", [5, 513])
def test_trap_13_embedding_small_and_large_tables(rows: int, device: str) -> None:
    """Tables of up to 512 rows and larger ones are differentiated in two different ways."""
    ids = z2g.tensor([[4, 1, 4], [4, 0, 1]])
    table = leaf(np.zeros((rows, 2)))
    F.embedding(ids, table).backward(z2g.tensor(np.arange(12.0).reshape(2, 3, 2)))
    expected = np.zeros((rows, 2))
    expected[[0, 1, 4]] = [[8, 9], [2 + 10, 3 + 11], [0 + 4 + 6, 1 + 5 + 7]]
    assert table.grad.tolist() == expected.tolist()


def test_trap_13_embedding_of_no_ids(device: str) -> None:
    for rows in (5, 513):
        table = leaf(np.ones((rows, 2)))
        F.embedding(z2g.zeros(0, dtype=z2g.int64), table).sum().backward()
        assert table.grad.tolist() == np.zeros((rows, 2)).tolist()


@pytest.mark.parametrize("padding_idx", [1, -2])
def test_trap_13_padding_row_gets_no_gradient(padding_idx: int, device: str) -> None:
    table = leaf([[1, 2], [3, 4], [5, 6]])
    z = F.embedding(z2g.tensor([1, 0, 1]), table, padding_idx=padding_idx)
    assert z.tolist() == [[3, 4], [1, 2], [3, 4]]
    z.sum().backward()
    assert table.grad.tolist() == [[1, 1], [0, 0], [0, 0]]


@pytest.mark.parametrize("bad", [3, -1])
def test_trap_13_embedding_id_out_of_range(bad: int) -> None:
    with pytest.raises(IndexError, match=f"{bad}"):
        F.embedding(z2g.tensor([0, bad]), z2g.ones(3, 2))


# --- 14: ties and kinks -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("f", "expected"),
    [
        (z2g.relu, [0, 0, 1]),
        (z2g.abs, [-1, 0, 1]),
        (z2g.sign, [0, 0, 0]),
        (lambda x: x.clamp(0, 2), [0, 1, 1]),
        (lambda x: x.clamp(max=0), [1, 1, 0]),
        (lambda x: x.clamp(min=2), [0, 0, 1]),
        (lambda x: z2g.maximum(x, z2g.zeros(3, dtype=x.dtype)), [0, 0.5, 1]),
        (lambda x: z2g.minimum(z2g.zeros(3, dtype=x.dtype), x), [1, 0.5, 0]),
        (lambda x: F.relu(x), [0, 0, 1]),
    ],
    ids=["relu", "abs", "sign", "clamp", "clamp max", "clamp min", "maximum", "minimum", "F.relu"],
)
def test_trap_14_kinks(f: Callable, expected: list, device: str) -> None:
    assert slopes(f, [-2, 0, 2]) == expected


def test_trap_14_leaky_relu_and_the_threshold_of_softplus(device: str) -> None:
    """At 0 the slope is that of the left side; at the threshold softplus is still the curve, not the straight line."""
    assert slopes(lambda x: F.leaky_relu(x, 0.25), [-2, 0, 2]) == [0.25, 0.25, 1]
    at, beyond = slopes(lambda x: F.softplus(x, beta=2, threshold=2), [1, 1.125])
    assert at == pytest.approx(1 / (1 + math.exp(-2)), rel=1e-12) and beyond == 1


def test_trap_14_negative_zero_is_zero(device: str) -> None:
    assert slopes(z2g.relu, [-0.0]) == [0] and slopes(z2g.abs, [-0.0]) == [0]


def test_trap_14_maximum_shares_a_tie_between_both(device: str) -> None:
    assert slopes(z2g.maximum, [1, 2, 3], [3, 2, 1], cotangent=[1, 10, 100]) == [[0, 5, 100], [1, 5, 0]]
    assert slopes(z2g.minimum, [1, 2, 3], [3, 2, 1], cotangent=[1, 10, 100]) == [[1, 5, 0], [0, 5, 100]]


def test_trap_14_full_maximum_is_shared_evenly(device: str) -> None:
    assert slopes(z2g.max, [[3, 1], [3, 3]], cotangent=6) == [[2, 0], [2, 2]]
    assert slopes(z2g.min, [[1, 1], [3, 3]], cotangent=6) == [[3, 3], [0, 0]]
    assert slopes(lambda x: x.amax(1), [[3, 3], [1, 3]], cotangent=[6, 60]) == [[3, 3], [0, 60]]
    assert slopes(lambda x: x.amin((0, 1)), [[3, 1], [1, 3]], cotangent=6) == [[0, 3], [3, 0]]


@pytest.mark.parametrize(("f", "data"), [(z2g.max, [[1, 3, 3], [2, 2, 2]]), (z2g.min, [[3, 1, 1], [2, 2, 2]])])
def test_trap_14_maximum_along_a_dim_goes_to_the_first(f: Callable, data: list, device: str) -> None:
    x = leaf(data)
    values, indices = f(x, 1)
    assert indices.tolist() == [1, 0]
    values.backward(z2g.tensor([5.0, 7.0], dtype=z2g.float64))
    assert x.grad.tolist() == [[0, 5, 0], [7, 0, 0]]


def test_trap_14_extremes_carry_nan(device: str) -> None:
    x = z2g.tensor([1.0, NAN, 3.0])
    for z in (x.max(), x.min(), x.amax(), x.max(0).values, z2g.maximum(x, 2 * x).sum(), x.clamp(0, 2).sum()):
        assert math.isnan(z.item())


# --- 15: indexing -----------------------------------------------------------------------------------------------------

BLOCK = np.arange(24.0).reshape(2, 3, 4)
MASK_0, MASK_12 = np.array([False, True]), BLOCK[0] % 5 == 0  # the second has 3 True: 0, 5, 10

SHAPES = [
    ("int", (0,), (3, 4)),
    ("negative int", (-1, -1), (4,)),
    ("slices", (slice(0, 1), slice(1, None)), (1, 2, 4)),
    ("a slice beyond the end", (slice(1, 99),), (1, 3, 4)),
    ("step", (slice(None), slice(None, None, 2)), (2, 2, 4)),
    ("None", (None, 0, None), (1, 1, 3, 4)),
    ("...", (..., 1), (2, 3)),
    ("... in the middle", (0, ..., 1), (3,)),
    ("... for nothing", (0, 1, 2, ...), ()),
    ("list", ([1, 0, 1],), (3, 3, 4)),
    ("empty list", ([],), (0, 3, 4)),
    ("list of bools", ([False, True],), (1, 3, 4)),
    ("mask", (MASK_0,), (1, 3, 4)),
    ("mask over two dims", (slice(None), MASK_12), (2, 3)),
    ("mask over all", (BLOCK > 20,), (3,)),
    ("empty mask", (np.zeros(2, bool),), (0, 3, 4)),
    ("index of two dims", (np.array([[0, 1], [1, 1]]),), (2, 2, 3, 4)),
    ("neighbouring arrays stay in place", (slice(None), [0, 1], [1, 2]), (2, 2)),
    ("separated arrays come first", ([0, 1, 1], slice(None), [1, 2, 3]), (3, 3)),
    ("an int between does not separate: torch's order, not NumPy's", (0, slice(None), [1, 2]), (3, 2)),
    ("int behind", ([0, 1], slice(None), 1), (2, 3)),
    ("arrays broadcast", (np.array([[0], [1]]), np.array([0, 2])), (2, 2, 4)),
    ("None separates", ([0, 1], None, [1, 2]), (2, 1, 4)),
    ("mask and array", (MASK_0, [2]), (1, 4)),
    ("True", (True,), (1, 2, 3, 4)),
    ("False", (False,), (0, 2, 3, 4)),
    ("NumPy integer", (np.int64(1),), (3, 4)),
    ("range", (range(2),), (2, 3, 4)),
]


@pytest.mark.parametrize(("index", "shape"), [s[1:] for s in SHAPES], ids=[s[0] for s in SHAPES])
def test_trap_15_shapes_of_indexing(index: tuple, shape: tuple, device: str) -> None:
    x = leaf(BLOCK)
    z = x[index]
    assert z.shape == shape
    z.sum().backward()
    assert x.grad.sum().item() == z.numel()
    # each element read is marked, and no other
    read = set(z.detach().cpu().numpy().reshape(-1).tolist())
    assert {v for v, g in zip(BLOCK.reshape(-1), np.reshape(x.grad.tolist(), -1), strict=True) if g} == read


def test_trap_15_values_of_mixed_indices(device: str) -> None:
    x = z2g.tensor(np.arange(12).reshape(3, 4))
    assert x[0, [1, 2]].tolist() == [1, 2]
    assert x[[0, 2], 1:3].tolist() == [[1, 2], [9, 10]]
    assert x[[0, 2], [1, 3]].tolist() == [1, 11]
    assert x[1:, [3, 0]].tolist() == [[7, 4], [11, 8]]
    assert x[..., None, -1].tolist() == [[3], [7], [11]]
    assert x[z2g.tensor(np.arange(12).reshape(3, 4) % 5 == 0)].tolist() == [0, 5, 10]
    assert x[z2g.tensor([True, False, True]), 0].tolist() == [0, 8]


def test_trap_15_zero_dimensional_tensor_is_an_int(device: str) -> None:
    x, i = leaf(BLOCK), z2g.tensor(1)
    assert x[i].tolist() == BLOCK[1].tolist()
    assert x[:, i].shape == (2, 4)
    assert x[i, [0, 2]].tolist() == BLOCK[1][[0, 2]].tolist()


def test_trap_15_zero_dimensional_tensor_beside_a_list(device: str) -> None:
    """An int does not separate arrays, so the list's dimension stays where it is: the same on every device."""
    x, i = leaf(BLOCK), z2g.tensor(1)
    assert x[i, :, [1, 2]].tolist() == BLOCK[1][:, [1, 2]].tolist()


def test_trap_15_negative_step(device: str) -> None:
    """torch refuses x[::-1]; here it is a view like any other."""
    assert slopes(lambda x: x[::-1], [1, 2, 3], cotangent=[1, 10, 100]) == [100, 10, 1]
    assert slopes(lambda x: x[2:0:-1], [1, 2, 3], cotangent=[1, 10]) == [0, 10, 1]


@pytest.mark.parametrize(
    "index",
    [
        2,
        -3,
        (0, 3),
        (0, 0, 0, 0),
        ([0, 2],),
        (0.5,),
        (..., ...),
        (np.zeros(3, bool),),
        (np.array([0.5]),),
        ([-3],),
    ],
    ids=str,
)
def test_trap_15_bad_indices(index: Any) -> None:
    x = z2g.tensor(BLOCK)
    with pytest.raises(IndexError):
        x[index]
    with pytest.raises(IndexError):
        x[index] = 0


@pytest.mark.parametrize("shape", [(0, 0), (0, 3)])
def test_trap_15_empty_numpy_mask_is_a_mask(shape: tuple) -> None:
    assert z2g.zeros(shape)[np.zeros(shape, bool)].shape == (0,)


def test_trap_15_basic_indexing_is_a_view_and_advanced_a_copy() -> None:
    x = z2g.zeros(3)
    x[1:][0] = 5
    x[[2]][0] = 7
    assert x.tolist() == [0, 5, 0]


def test_trap_15_assignment(device: str) -> None:
    """Elements written lose their gradient, the values written receive it; a broadcast value receives the sum."""

    def f(x: z2g.Tensor, v: z2g.Tensor) -> z2g.Tensor:
        y = x * 1
        y[:, [0, 2]] = v
        return y

    assert slopes(f, np.zeros((2, 3)), [8, 9], cotangent=[[1, 2, 3], [4, 5, 6]]) == [[[0, 2, 0], [0, 5, 0]], [5, 9]]


def test_trap_15_assignment_makes_a_constant_depend(device: str) -> None:
    y, v = z2g.zeros(3, dtype=z2g.float64), leaf(2.0)
    y[1] = v * 3
    assert y.requires_grad and y.tolist() == [0, 6, 0]
    y.backward(z2g.tensor([1.0, 10.0, 100.0], dtype=z2g.float64))
    assert v.grad.item() == 30


def test_trap_15_assignment_keeps_the_dtype(device: str) -> None:
    x = z2g.zeros(2, dtype=z2g.int64)
    x[0] = 1.75
    assert x.tolist() == [1, 0] and x.dtype == z2g.int64
    y = z2g.zeros(2)
    y[:] = z2g.tensor([1, 2])
    y[1] = np.float64(0.5)
    assert y.tolist() == [1, 0.5] and y.dtype == z2g.float32


def test_trap_15_assignment_with_a_mask(device: str) -> None:
    x = z2g.tensor([1.0, -2.0, -3.0])
    x[x < 0] = 0
    assert x.tolist() == [1, 0, 0]
    x[z2g.tensor([True, False, True])] = z2g.tensor([7.0, 8.0])
    assert x.tolist() == [7, 0, 8]


def test_trap_15_assignment_of_a_wrong_shape() -> None:
    x = z2g.zeros(2, 3)
    for value in (z2g.ones(2), z2g.ones(2, 2, 3), np.ones(4)):
        with pytest.raises(RuntimeError, match="shape"):
            x[:] = value
    assert x.tolist() == [[0] * 3] * 2
    x[:] = z2g.ones(1, 2, 3)  # leading sizes of 1 are let pass
    assert x.sum().item() == 6


# --- 16: cat, stack, split, chunk -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [1, -1])
def test_trap_16_cat_of_unequal_and_empty_parts(dim: int, device: str) -> None:
    parts = np.zeros((2, 1)), np.zeros((2, 0)), np.zeros((2, 2))
    grads = slopes(lambda *xs: z2g.cat(xs, dim), *parts, cotangent=[[1, 2, 3], [4, 5, 6]])
    assert grads == [[[1], [4]], [[], []], [[2, 3], [5, 6]]]


def test_trap_16_cat_ignores_empty_vectors_as_torch_does(device: str) -> None:
    """`out = empty(0)`, then `cat([out, rows])` in a loop. The empty one still gets its gradient, an empty one."""
    assert slopes(lambda a, b: z2g.cat([a, b]), [], [[1, 2]], cotangent=[[3, 4]]) == [[], [[3, 4]]]
    assert slopes(lambda a, b: z2g.cat([a, b]), [], []) == [[], []]


def test_trap_16_cat_of_one_tensor_twice(device: str) -> None:
    assert slopes(lambda x: z2g.cat([x, x, x]), [1], cotangent=[1, 10, 100]) == [111]


def test_trap_16_cat_of_two_dtypes(device: str) -> None:
    a, b = leaf([1], np.float32), leaf([2], np.float64)
    z = z2g.cat([a, b, z2g.tensor([3])])
    assert z.dtype == z2g.float64 and z.tolist() == [1, 2, 3]
    z.sum().backward()
    assert a.grad.dtype == z2g.float32 and b.grad.dtype == z2g.float64


@pytest.mark.parametrize("dim", [2, -1])
def test_trap_16_stack_along_the_last_dim(dim: int, device: str) -> None:
    a, b = np.zeros((1, 2)), np.zeros((1, 2))
    assert slopes(lambda *xs: z2g.stack(xs, dim), a, b, cotangent=[[[1, 2], [3, 4]]]) == [[[1, 3]], [[2, 4]]]


@pytest.mark.parametrize(
    ("cut", "lengths"),
    [
        (lambda x: x.split(2), [2, 2, 1]),
        (lambda x: x.split([1, 0, 4]), [1, 0, 4]),
        (lambda x: x.split(9), [5]),
        (lambda x: x.chunk(2), [3, 2]),
        (lambda x: x.chunk(4), [2, 2, 1]),  # torch: at most 4 parts, of equal size
        (lambda x: x.chunk(9), [1] * 5),
        (lambda x: x[:0].chunk(3), [0, 0, 0]),
        (lambda x: x[:0].split(2), [0]),
    ],
)
def test_trap_16_lengths_of_parts(cut: Callable, lengths: list, device: str) -> None:
    x = z2g.arange(5)
    parts = cut(x)
    assert [len(part) for part in parts] == lengths
    assert [v for part in parts for v in part.tolist()] == x.tolist()[: sum(lengths)]


def test_trap_16_only_one_part_is_used(device: str) -> None:
    assert slopes(lambda x: x.split([1, 2])[1], [1, 2, 3], cotangent=[5, 6]) == [0, 5, 6]
    assert slopes(lambda x: x.unbind(-1)[0], [[1, 2], [3, 4]], cotangent=[5, 6]) == [[5, 0], [6, 0]]


@pytest.mark.parametrize(
    "call",
    [
        lambda a, b: z2g.cat([]),
        lambda a, b: z2g.cat([a, b], 1),
        lambda a, b: z2g.stack([a, b]),
        lambda a, b: a.split([1, 1]),
        lambda a, b: a.split(0),
        lambda a, b: a.chunk(0),
        lambda a, b: a.sum().split(1),
    ],
)
def test_trap_16_errors(call: Callable) -> None:
    with pytest.raises((RuntimeError, ValueError)):
        call(z2g.ones(3, 2), z2g.ones(2, 2))


# --- 17: matmul -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "right", "rule"),
    [
        ((3,), (3,), "k,k->"),
        ((2, 3), (3,), "nk,k->n"),
        ((3,), (3, 2), "k,km->m"),
        ((2, 3), (3, 4), "nk,km->nm"),
        ((5, 2, 3), (3,), "bnk,k->bn"),
        ((3,), (5, 3, 2), "k,bkm->bm"),
        ((5, 2, 3), (3, 4), "bnk,km->bnm"),
        ((2, 3), (5, 3, 4), "nk,bkm->bnm"),
        ((5, 2, 3), (5, 3, 4), "bnk,bkm->bnm"),
        ((6, 1, 2, 3), (5, 3, 4), "abnk,bkm->abnm"),
        ((2, 0), (0, 4), "nk,km->nm"),
        ((5, 2, 0), (0, 4), "bnk,km->bnm"),
        ((0, 2, 3), (3, 4), "bnk,km->bnm"),
        ((5, 0, 3), (5, 3, 4), "bnk,bkm->bnm"),
    ],
    ids=str,
)
def test_trap_17_matmul(left: tuple, right: tuple, rule: str, device: str) -> None:
    """Values and both gradients against einsum: ∂L/∂a is the cotangent times b, with the indices of a left over."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=left), rng.normal(size=right)
    x, y = leaf(a), leaf(b)
    z = x @ y
    sums, of_z = rule.split("->")
    of_a, of_b = sums.split(",")
    wide = a if left[:1] != (6,) else np.repeat(a, 5, axis=1)
    np.testing.assert_allclose(z.detach().cpu().numpy(), np.einsum(rule, wide, b), atol=1e-12)
    w = rng.normal(size=z.shape)
    z.backward(z2g.tensor(w))
    grad_a = np.einsum(f"{of_z},{of_b}->{of_a}", w, b).sum(axis=1, keepdims=True) if left[:1] == (6,) else None
    grad_a = np.einsum(f"{of_z},{of_b}->{of_a}", w, b) if grad_a is None else grad_a
    np.testing.assert_allclose(x.grad.cpu().numpy(), grad_a, atol=1e-12)
    np.testing.assert_allclose(y.grad.cpu().numpy(), np.einsum(f"{of_z},{of_a}->{of_b}", w, wide), atol=1e-12)


def test_trap_17_empty_inner_dimension_gives_zeros(device: str) -> None:
    assert (leaf(np.zeros((2, 0))) @ leaf(np.zeros((0, 3)))).tolist() == [[0, 0, 0]] * 2


@pytest.mark.parametrize(
    ("left", "right"), [((2, 3), (2, 3)), ((3,), (2,)), ((), (2,)), ((2, 2, 3), (3, 3, 4)), ((2, 3), ())], ids=str
)
def test_trap_17_shapes_that_do_not_match(left: tuple, right: tuple) -> None:
    with pytest.raises(RuntimeError, match="matmul"):
        z2g.ones(left) @ z2g.ones(right)


def test_trap_17_dtypes_are_not_mixed() -> None:
    """As in torch: a float64 matrix in a float32 model is nearly always a mistake."""
    with pytest.raises(RuntimeError, match="dtype"):
        z2g.ones(2, 2) @ z2g.ones(2, 2, dtype=z2g.float64)


# --- 18: numbers, arrays and dtypes side by side ----------------------------------------------------------------------

i64, i32, i8, u8, f64, f32, f16, b1 = "int64", "int32", "int8", "uint8", "float64", "float32", "float16", "bool"


def full(dtype: str, ndim: int = 1) -> z2g.Tensor:
    return z2g.ones((2,) * ndim, dtype=dtype)


@pytest.mark.parametrize("ndim", [0, 1])
@pytest.mark.parametrize(
    ("tensor", "number", "expected"),
    [
        (f32, 2, f32),
        (f32, 2.5, f32),
        (f32, np.float64(2.5), f32),
        (f32, np.float32(2.5), f32),
        (f32, np.int64(2), f32),
        (f32, True, f32),
        (f64, 2.5, f64),
        (f16, 2.5, f16),
        (f16, np.float64(2.5), f16),
        (i64, 2, i64),
        (i64, 2.5, f32),
        (i64, np.float64(2.5), f32),
        (i64, True, i64),
        (i32, 2, i32),
        (i32, np.int64(2), i32),
        (u8, 2, u8),
        (u8, 2.5, f32),
        (b1, 2, i64),
        (b1, 2.5, f32),
        (b1, True, b1),
    ],
)
def test_trap_18_numbers_never_widen_a_tensor(tensor: str, number: Any, expected: str, ndim: int, device: str) -> None:
    """torch: a Python number raises the category of a tensor (bool < int < float) if it must, never the width."""
    x = full(tensor, ndim)
    for z in (x + number, number + x, x * number, number * x):
        assert isinstance(z, z2g.Tensor) and z.dtype == expected and z.shape == x.shape


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (f32, f64, f64), (f16, f32, f32), (f32, i64, f32), (f16, i64, f16), (f32, b1, f32), (i32, i64, i64),
        (u8, i8, "int16"), (u8, i32, i32), (i64, b1, i64), (b1, b1, b1), (f32, f32, f32),
    ],
)  # fmt: skip
def test_trap_18_two_tensors(a: str, b: str, expected: str, device: str) -> None:
    """The higher category wins, then the wider type. An int64 beside a float32 does not make it float64."""
    for x, y in ((a, b), (b, a)):
        assert (full(x) + full(y)).dtype == expected
        assert (full(x, 0) * full(y, 0)).dtype == expected
        if expected != b1:
            assert z2g.maximum(full(x), full(y)).dtype == expected


@pytest.mark.parametrize(
    ("tensor", "scalar", "expected"),
    [
        (f32, f64, f32), (f16, f32, f16), (f16, f64, f16), (i32, i64, i32), (u8, i64, u8), (f32, i64, f32),
        (i64, f64, f64), (i64, f16, f16), (b1, i64, i64), (b1, u8, u8), (b1, f64, f64), (i64, i32, i64),
        (f64, f32, f64),
    ],
)  # fmt: skip
def test_trap_18_0d_tensors_behave_like_numbers(tensor: str, scalar: str, expected: str, device: str) -> None:
    """torch: a 0-d tensor raises the category, then to its own type, but never the width within a category."""
    assert (full(tensor) + full(scalar, 0)).dtype == expected
    assert (full(scalar, 0) * full(tensor)).dtype == expected


@pytest.mark.parametrize(
    ("f", "ints", "expected"),
    [
        (lambda x: x / 2, i64, f32), (lambda x: 2 / x, i64, f32), (lambda x: x / x, i32, f32),
        (lambda x: x / x, b1, f32),
        (lambda x: x**2, i64, i64), (lambda x: 2**x, i64, i64), (lambda x: x**0.5, i64, f32),
        (lambda x: 2.0**x, i64, f32),
        (lambda x: x**x, i32, i32), (z2g.sqrt, i64, f32), (z2g.rsqrt, i64, f32), (z2g.exp, b1, f32),
        (z2g.log, i64, f32),
        (z2g.sin, i64, f32), (z2g.cos, i64, f32), (z2g.tanh, i64, f32), (z2g.sigmoid, i64, f32), (z2g.abs, i32, i32),
        (z2g.neg, i32, i32), (z2g.square, i32, i32), (z2g.relu, i64, i64), (z2g.sign, i64, i64), (z2g.max, i32, i32),
        (lambda x: x.clamp(0, 1), i32, i32), (lambda x: x.clamp(0, 0.5), i32, f32), (z2g.argmax, f32, i64),
        (lambda x: x == 1, i64, b1), (lambda x: x - 1, i32, i32), (lambda x: 1 - x, u8, u8), (z2g.all, i64, b1),
        (lambda x: x.masked_fill(x > 0, 2), i32, i32), (lambda x: z2g.where(x > 0, x, 0.5), i64, f32),
        (lambda x: z2g.where(x > 0, 1, 2), i64, i64), (lambda x: z2g.where(x > 0, 1.0, 2.0), i64, f32),
        (lambda x: z2g.where(x > 0, x, 2.0), f64, f64), (lambda x: x.to(z2g.float64).sum(dtype=z2g.float32), i64, f32),
        (lambda x: x.mean(dtype=z2g.float64), i64, f64), (lambda x: x.sum(dtype=z2g.float64), f32, f64),
    ],
)  # fmt: skip
def test_trap_18_integers_become_floats_only_where_they_must(
    f: Callable, ints: str, expected: str, device: str
) -> None:
    assert f(full(ints)).dtype == expected


def test_trap_18_integers_become_the_default_dtype() -> None:
    z2g.set_default_dtype(z2g.float64)
    try:
        x = z2g.tensor([1, 2])
        assert (x / 2).dtype == (x + 0.5).dtype == x.exp().dtype == z2g.float64
        assert (z2g.ones(2, dtype=z2g.float32) + 0.5).dtype == z2g.float32
    finally:
        z2g.set_default_dtype(z2g.float32)


@pytest.mark.parametrize(
    ("f", "slope"),
    [
        (lambda x: 2 / x, -2 / 9), (lambda x: 2**x, 8 * math.log(2)), (lambda x: 2 - x, -1), (lambda x: x**2, 6),
        (lambda x: np.float64(2) * x, 2), (lambda x: np.float64(2) / x, -2 / 9), (lambda x: np.float64(2) - x, -1),
        (lambda x: np.float64(2) ** x, 8 * math.log(2)), (lambda x: np.float32(2) * x, 2),
        (lambda x: np.int64(2) * x, 2),
        (lambda x: x * np.float64(2), 2), (lambda x: np.array([2.0], np.float32) * x, 2),
        (lambda x: 2.0**x, 8 * math.log(2)),
        (lambda x: np.array([2.0], np.float32) / x, -2 / 9), (lambda x: x - np.array([2], np.float32), 1),
        (lambda x: np.array(2, np.float32) - x, -1), (lambda x: True * x, 1), (lambda x: x**np.int64(2), 6),
        (lambda x: np.array([2, 2]) * x, 4), (lambda x: x + z2g.tensor(2), 1), (lambda x: x**z2g.tensor([2]), 6),
    ],
)  # fmt: skip
def test_trap_18_reflected_operators(f: Callable, slope: float, device: str) -> None:
    """`2 / x` and its kin: a Tensor, float32, with the right gradient. NumPy must not take the tensor apart."""
    x = leaf([3], np.float32)
    z = f(x)
    assert isinstance(z, z2g.Tensor) and z.dtype == z2g.float32
    z.sum().backward()
    assert x.grad.dtype == z2g.float32
    assert x.grad.item() == pytest.approx(slope, rel=1e-6)


def test_trap_18_array_of_float64_widens_as_a_tensor_would(device: str) -> None:
    x = leaf([3], np.float32)
    z = np.array([1.0, 2.0]) * x
    assert isinstance(z, z2g.Tensor) and z.dtype == z2g.float64 and z.tolist() == [3, 6]
    z.sum().backward()
    assert x.grad.dtype == z2g.float32 and x.grad.tolist() == [3]


def test_trap_18_comparisons_with_numbers_and_arrays(device: str) -> None:
    x = z2g.tensor([1.0, 2.0, 3.0])
    assert (x > 2).tolist() == (np.float64(2) < x).tolist() == [False, False, True]
    assert (np.array([1.0, 0.0, 3.0], np.float32) == x).tolist() == [True, False, True]
    assert isinstance(np.array([1.0], np.float32) == x, z2g.Tensor)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x + "a",
        lambda x: x + None,
        lambda x: x * [1, 2],
        lambda x: x + 1j,
        lambda x: z2g.add(1, 2),
    ],
)
def test_trap_18_not_a_number(call: Callable) -> None:
    with pytest.raises(TypeError):
        call(z2g.ones(2))


@pytest.mark.parametrize(
    "call",
    [
        lambda i, b: i**-1,
        lambda i, b: i ** z2g.tensor([-1, 2]),
        lambda i, b: b - b,
        lambda i, b: -b,
        lambda i, b: i.mean(),
        lambda i, b: i.var(),
        lambda i, b: i.std(),
        lambda i, b: i.norm(),
    ],
)
def test_trap_18_what_integers_and_bools_refuse(call: Callable) -> None:
    with pytest.raises((RuntimeError, TypeError)):
        call(z2g.tensor([1, 2]), z2g.tensor([True, False]))


# --- 19: integers cannot require grad ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: z2g.tensor([1, 2], requires_grad=True),
        lambda: z2g.tensor([True], requires_grad=True),
        lambda: z2g.zeros(2, dtype=z2g.int64, requires_grad=True),
        lambda: z2g.arange(3).requires_grad_(),
        lambda: z2g.nn.Parameter(z2g.arange(3)),
    ],
)
def test_trap_19_integers_refuse_requires_grad(make: Callable) -> None:
    with pytest.raises(RuntimeError, match="floating"):
        make()


def test_trap_19_no_gradient_through_integers(device: str) -> None:
    x = leaf([1.5, 2.5])
    for z in (x.long(), x.int(), x.bool(), x > 1, x.argmax(), x.to(z2g.uint8)):
        assert not z.requires_grad
    assert x.long().tolist() == [1, 2]


# --- 20: memory layout ------------------------------------------------------------------------------------------------

LAYOUTS = {
    "transposed": lambda a: np.ascontiguousarray(a.T).T,
    "every second": lambda a: np.repeat(np.repeat(a, 2, 0), 2, 1)[::2, ::2],
    "backwards": lambda a: a[::-1, ::-1].copy()[::-1, ::-1],
    "broadcast": lambda a: np.broadcast_to(a[:1], a.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_trap_20_layouts_of_numpy_arrays(layout: str) -> None:
    """`from_numpy` shares memory, whatever its strides; results and gradients do not depend on them."""
    a = LAYOUTS[layout](np.arange(12.0).reshape(3, 4))
    x = z2g.from_numpy(a).requires_grad_()
    assert x.tolist() == a.tolist()
    z = (x @ x.T).tanh() + x.reshape(-1)[:3] * x.flatten().sum() + x.sum(1)
    z.sum().backward()
    y = leaf(a)
    ((y @ y.T).tanh() + y.reshape(-1)[:3] * y.flatten().sum() + y.sum(1)).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), rtol=1e-12)


def test_trap_20_view_of_a_transposed_tensor_is_refused() -> None:
    """A view shares memory or is none; reshape copies if it must."""
    x = z2g.arange(6).reshape(2, 3).t()
    with pytest.raises(RuntimeError, match="reshape"):
        x.view(6)
    assert x.reshape(6).tolist() == [0, 3, 1, 4, 2, 5]
    assert x.contiguous().view(-1).tolist() == [0, 3, 1, 4, 2, 5]
    assert x.is_contiguous() is False and x.contiguous().is_contiguous() is True


def test_trap_20_size_zero_passes_through(device: str) -> None:
    x = leaf(np.zeros((2, 0)))
    z = ((x + 1).relu().t() * 2).exp()
    assert z.shape == (0, 2)
    z.backward(z2g.zeros(0, 2, dtype=z2g.float64))
    assert x.grad.shape == (2, 0)


# --- 21: every gradient has its tensor's shape, dtype and device ------------------------------------------------------


@pytest.mark.parametrize(("a", "b"), [(f32, f64), (f64, f32), (f16, f32), (f32, f16)])
@pytest.mark.parametrize("op", [z2g.add, z2g.sub, z2g.mul, z2g.div, z2g.maximum, z2g.pow], ids=lambda f: f.__name__)
def test_trap_21_gradients_keep_their_own_dtype(op: Callable, a: str, b: str, device: str) -> None:
    x, y = leaf([[1.5], [2.5]], a), leaf([2, 4], b)
    op(x, y).sum().backward()
    assert (x.grad.dtype, x.grad.shape, x.grad.device) == (a, (2, 1), x.device)
    assert (y.grad.dtype, y.grad.shape, y.grad.device) == (b, (2,), y.device)


@pytest.mark.parametrize(
    ("convert", "dtype"),
    [
        (lambda x: x.to(z2g.float64), f64), (lambda x: x.double(), f64), (lambda x: x.half(), f16),
        (lambda x: x.type(z2g.float64), f64), (lambda x: x.type_as(z2g.zeros(1, dtype=z2g.float64)), f64),
        (lambda x: x.to(z2g.zeros(1, dtype=z2g.float16)), f16), (lambda x: x.float(), f32),
        (lambda x: x.to("float64"), f64),
    ],
)  # fmt: skip
def test_trap_21_conversion_converts_the_gradient_back(convert: Callable, dtype: str, device: str) -> None:
    x = leaf([1, 2], f32)
    z = convert(x)
    assert z.dtype == dtype and z.tolist() == [1, 2]
    (z * 3).sum().backward()
    assert x.grad.dtype == z2g.float32 and x.grad.tolist() == [3, 3]


def test_trap_21_conversion_to_what_it_is_changes_nothing(device: str) -> None:
    x = leaf([1, 2], f32)
    assert x.float() is x and x.to(x.device) is x and x.to(z2g.float32) is x
    assert x.to(z2g.float32, copy=True) is not x


def test_trap_21_gradients_travel_between_devices(device: str) -> None:
    x = z2g.tensor([1.0, 2.0], device="cpu", requires_grad=True)
    y = x.to(device)
    assert y.device.type == device
    (y * y).sum().cpu().backward()
    assert x.grad.device.type == "cpu" and x.grad.tolist() == [2, 4]
    if device == "cuda":
        (x.cuda() * 3).sum().backward()
        assert x.grad.tolist() == [5, 7]


# --- 22: large numbers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [f32, f64])
def test_trap_22_softmax_of_large_numbers(dtype: str, device: str) -> None:
    x = leaf([1000, 0], dtype)
    p, logp = z2g.softmax(x, 0), z2g.log_softmax(x, 0)
    assert p.tolist() == [1, 0] and logp.tolist() == [0, -1000]
    (p[0] * 2 + logp[1] * 3).backward()
    assert x.grad.tolist() == [-3, 3]
    assert z2g.softmax(x + 1e4, 0).tolist() == [1, 0]
    assert z2g.softmax(z2g.tensor([-1e4, -1e4]), 0).tolist() == [0.5, 0.5]
    assert z2g.softmax(z2g.tensor([0.0, -INF]), 0).tolist() == [1, 0]


@pytest.mark.parametrize("dtype", [f32, f64])
def test_trap_22_logsumexp(dtype: str, device: str) -> None:
    for data, value, grad in (
        ([1000, 1000], 1000 + math.log(2), [0.5, 0.5]),
        ([-1000, -1000], -1000 + math.log(2), [0.5, 0.5]),
        ([1e4, -1e4], 1e4, [1, 0]),
        ([0, -INF], 0, [1, 0]),
        ([-INF, -INF], -INF, [0, 0]),
    ):
        x = leaf(data, dtype)
        z = x.logsumexp(0)
        assert z.item() == pytest.approx(value, rel=1e-6)
        z.backward()
        assert x.grad.tolist() == pytest.approx(grad, rel=1e-4)  # e^(x - z) with z rounded, as in torch
    assert z2g.tensor([INF, 0.0]).logsumexp(0).item() == INF


@pytest.mark.parametrize("dtype", [f32, f64])
@pytest.mark.parametrize(
    ("f", "values", "slopes_"),
    [
        (z2g.sigmoid, [0, 0.5, 1], [0, 0.25, 0]),
        (z2g.tanh, [-1, 0, 1], [0, 1, 0]),
        (F.softplus, [0, math.log(2), 1e4], [0, 0.5, 1]),
        (F.silu, [0, 0, 1e4], [0, 0.5, 1]),
        (F.gelu, [0, 0, 1e4], [0, 0.5, 1]),
        (lambda x: F.gelu(x, approximate="tanh"), [0, 0, 1e4], [0, 0.5, 1]),
    ],
    ids=["sigmoid", "tanh", "softplus", "silu", "gelu", "gelu tanh"],
)
def test_trap_22_activations_far_out(f: Callable, values: list, slopes_: list, dtype: str, device: str) -> None:
    x = leaf([-1e4, 0, 1e4], dtype)
    z = f(x)
    close(z, np.array(values, dtype), rtol=1e-6, atol=1e-20)
    z.sum().backward()
    close(x.grad, slopes_, rtol=1e-6, atol=1e-20)


@pytest.mark.parametrize("x", [-15.0, -30.0, -80.0])
def test_trap_22_sigmoid_keeps_its_digits_on_the_left(x: float, device: str) -> None:
    """σ(-30) is 9e-14, not 0: log(sigmoid(x)) of a loss written by hand lives on it."""
    z = leaf([x], f32)
    y = z2g.sigmoid(z)
    close(y, [math.exp(x) / (1 + math.exp(x))], 1e-5)
    y.sum().backward()
    close(z.grad, [math.exp(x) / (1 + math.exp(x)) ** 2], 1e-5)


@pytest.mark.parametrize("x", [-15.0, -30.0, -80.0])
def test_trap_22_softplus_keeps_its_digits_on_the_left(x: float, device: str) -> None:
    z = leaf([x], f32)
    y = F.softplus(z)
    close(y, [math.log1p(math.exp(x))], 1e-5)
    y.sum().backward()
    close(z.grad, [math.exp(x) / (1 + math.exp(x))], 1e-5)


@pytest.mark.parametrize("dtype", [f32, f64])
@pytest.mark.parametrize(("target", "loss", "grad"), [(0, 0, [0, 0]), (1, 2e4, [1, -1])])
def test_trap_22_cross_entropy_of_large_logits(target: int, loss: float, grad: list, dtype: str, device: str) -> None:
    x = leaf([[1e4, -1e4]], dtype)
    z = F.cross_entropy(x, z2g.tensor([target]))
    assert z.item() == loss
    z.backward()
    assert x.grad.tolist() == [grad]


def test_trap_22_class_that_is_masked_out_with_minus_infinity(device: str) -> None:
    """Logits of -inf for forbidden classes, as top-k sampling writes them."""
    x = leaf([[0, -INF, 0]])
    z = F.cross_entropy(x, z2g.tensor([2]))
    assert z.item() == pytest.approx(math.log(2))
    z.backward()
    assert x.grad.tolist() == [[0.5, 0, -0.5]]


# --- 23: attention rows without anything to look at -------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bool", "-inf"])
def test_trap_23_fully_masked_row(kind: str, device: str) -> None:
    """The row gives 0 and passes no gradient; the others are as if it were not there."""
    rng = np.random.default_rng(0)
    q, k, v = (leaf(rng.normal(size=(3, 2))) for _ in range(3))
    mask = np.array([[True, False, True], [False, False, False], [True, True, True]])
    given = z2g.tensor(mask if kind == "bool" else np.where(mask, 0.0, -INF))
    z = F.scaled_dot_product_attention(q, k, v, attn_mask=given)
    assert z[1].tolist() == [0, 0]
    assert np.isfinite(z.tolist()).all()
    z.sum().backward()
    for x in (q, k, v):
        assert np.isfinite(x.grad.tolist()).all()
    assert q.grad[1].tolist() == [0, 0]


def test_trap_23_softmax_of_nothing_but_minus_infinity(device: str) -> None:
    """Not NaN: such a row has no probabilities, and no gradient. (torch gives NaN; attention must not.)"""
    x = leaf([[-INF, -INF], [0, 0]])
    p = z2g.softmax(x, 1)
    assert p.tolist() == [[0, 0], [0.5, 0.5]]
    p[:, 0].sum().backward()
    assert x.grad.tolist() == [[0, 0], [0.25, -0.25]]


def test_trap_36_masks_go_by_position_not_by_value(device: str) -> None:
    """Scores that are exactly 0 are scores. With equal scores a causal query averages what stands before it."""
    q = leaf(np.zeros((3, 2)))
    v = leaf([[1, 0], [0, 1], [5, 5]])
    z = F.scaled_dot_product_attention(q, q, v, is_causal=True)
    close(z, [[1, 0], [0.5, 0.5], [2, 2]])


def test_trap_37_scores_are_scaled_by_the_head_size(device: str) -> None:
    """√d with d the last size of q (4), not the batch (2) or the length (3)."""
    q, k = np.zeros((2, 3, 4)), np.zeros((2, 3, 4))
    q[..., 0], k[:, 1, 0] = 1, 2
    z = F.scaled_dot_product_attention(leaf(q), leaf(k), leaf(np.tile(np.eye(3), (2, 1, 1))))
    close(z[0, 0], np.array([1, math.e, 1]) / (2 + math.e))


# --- 24: roots and powers at 0 ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("f", "x", "value", "slope"),
    [
        (z2g.sqrt, 0, 0, INF),
        (z2g.rsqrt, 0, INF, -INF),
        (z2g.log, 0, -INF, INF),
        (lambda x: 1 / x, 0, INF, -INF),
        (lambda x: x**0, 0, 1, 0),
        (lambda x: x**0.0, 0, 1, 0),
        (lambda x: x**0, 3, 1, 0),
        (lambda x: x**1, 0, 0, 1),
        (lambda x: x**2, 0, 0, 0),
        (lambda x: x**3, 0, 0, 0),
        (lambda x: x**1.5, 0, 0, 0),
        (lambda x: x**0.5, 0, 0, INF),
        (lambda x: x**2, -3, 9, -6),
        (lambda x: x**3, -2, -8, 12),
        (lambda x: x**-1, -2, -0.5, -0.25),
        (lambda x: x**-2, -2, 0.25, 0.25),
        (lambda x: x ** z2g.tensor([0.0]), 0, 1, 0),
        (lambda x: x ** z2g.tensor([1.0]), 0, 0, 1),
        (lambda x: x ** z2g.tensor([2.0]), 0, 0, 0),
        (lambda x: x ** z2g.tensor([3.0]), -2, -8, 12),
        (lambda x: x ** z2g.tensor([3]), -2, -8, 12),
        (lambda x: 0**x, 2, 0, 0),
        (lambda x: 0**x, 0, 1, 0),
        (lambda x: 0.0**x, 1, 0, 0),
        (lambda x: 1**x, 5, 1, 0),
        (z2g.square, 0, 0, 0),
    ],
)
def test_trap_24_powers_and_roots_at_zero(f: Callable, x: float, value: float, slope: float, device: str) -> None:
    x = leaf([x])
    z = f(x)
    assert z.tolist() == [value]
    z.sum().backward()
    assert x.grad.tolist() == [slope]


def test_trap_24_gradient_by_the_exponent(device: str) -> None:
    """d(xʸ)/dy = xʸ ln x; 0 where x = 0 and y ≥ 0, as in torch, although ln 0 is not finite."""
    for base, exponent, expected in ((2, 3, 8 * math.log(2)), (0, 0, 0), (0, 2, 0), (1, 5, 0)):
        assert slopes(z2g.pow, [base], [exponent])[1] == pytest.approx([expected])
    assert math.isnan(slopes(z2g.pow, [-2], [3])[1][0])  # no derivative: (-2)ʸ is not real beside y = 3


def test_trap_24_gradient_by_a_negative_exponent_at_zero(device: str) -> None:
    """0⁻¹ is infinite, and so is its derivative by the exponent, 0⁻¹ ln 0."""
    assert slopes(z2g.pow, [0], [-1]) == [[-INF], [-INF]]


def test_trap_24_outside_the_domain(device: str) -> None:
    x = z2g.tensor([-1.0])
    for f in (z2g.sqrt, z2g.log, z2g.rsqrt, lambda x: x**0.5, lambda x: x**1.5):
        assert math.isnan(f(x).item())


@pytest.mark.parametrize("p", [2, 1, INF, "fro"])
@pytest.mark.parametrize("dim", [None, 1])
def test_trap_24_norm_of_zero(p: Any, dim: Any, device: str) -> None:
    """x / |x| at x = 0: torch takes 0, which keeps a training step that meets a zero vector alive."""
    x = leaf([[0, 0], [0, 0]])
    z = x.norm(p, dim)
    z.sum().backward()
    assert x.grad.tolist() == [[0, 0], [0, 0]]


def test_trap_24_norm_of_one_zero_row(device: str) -> None:
    close(leaf(slopes(lambda x: x.norm(dim=1), [[0, 0], [3, 4]])), [[0, 0], [0.6, 0.8]])


def test_trap_24_nan_does_not_leak_through_where(device: str) -> None:
    """The side that was not chosen gets exactly 0, whatever stands there and whatever the gradient is."""
    x, y = leaf([1, NAN, INF]), leaf([NAN, 2, 3])
    z = z2g.where(z2g.tensor([True, False, False]), x, y)
    assert z.tolist() == [1, 2, 3]
    z.backward(z2g.tensor([INF, -INF, 7.0], dtype=z2g.float64))
    assert x.grad.tolist() == [INF, 0, 0] and y.grad.tolist() == [0, -INF, 7]


def test_trap_24_nan_does_not_leak_through_masked_fill(device: str) -> None:
    x = leaf([1, NAN, INF])
    z = x.masked_fill(z2g.tensor([False, True, True]), -INF)
    assert z.tolist() == [1, -INF, -INF]
    z.backward(z2g.tensor([5.0, NAN, INF], dtype=z2g.float64))
    assert x.grad.tolist() == [5, 0, 0]


def test_trap_24_masked_scores_pass_no_gradient(device: str) -> None:
    """-inf before the softmax: the hidden place has probability 0 and gradient 0, not NaN."""
    x = leaf([1, 2, 3])
    hidden = z2g.tensor([False, False, True])
    z = z2g.softmax(x.masked_fill(hidden, -INF), 0)
    assert z[2].item() == 0
    z[0].backward()
    grads = x.grad.tolist()
    assert grads[2] == 0 and np.isfinite(grads).all()


def test_trap_24_division_by_zero_is_silent(device: str) -> None:
    """As in torch and on a GPU: ±inf or NaN, no warning. (pytest turns warnings into errors.)"""
    x = z2g.tensor([1.0, -1.0, 0.0])
    z = x / 0
    assert z.tolist()[:2] == [INF, -INF] and math.isnan(z[2].item())
    assert z2g.exp(z2g.tensor([1000.0])).item() == INF


def test_trap_24_prod_with_zeros(device: str) -> None:
    """The product of the others, without dividing by anything."""
    assert slopes(lambda x: x.prod(), [2, 0, 3]) == [0, 6, 0]
    assert slopes(lambda x: x.prod(), [2, 0, 0]) == [0, 0, 0]
    assert slopes(lambda x: x.prod(1), [[2, 3], [0, 5]]) == [[3, 2], [5, 0]]
    assert slopes(lambda x: x.prod(), [4.0]) == [1]


# --- 25: variance of few elements -------------------------------------------------------------------------------------


def test_trap_25_one_element(device: str) -> None:
    """n - 1 = 0 gives NaN and no warning; with correction 0 the variance of one element is 0."""
    x = leaf([3])
    assert math.isnan(x.var().item()) and math.isnan(x.std().item())
    assert x.var(correction=0).item() == x.std(correction=0).item() == x.var(unbiased=False).item() == 0
    assert slopes(lambda x: x.var(correction=0), [3]) == slopes(lambda x: x.std(correction=0), [3]) == [0]
    assert math.isnan(slopes(lambda x: x.var(), [3])[0])
    assert math.isnan(x.var(correction=2).item())


def test_trap_25_constant_rows(device: str) -> None:
    """√ at 0 again: the standard deviation of equal numbers has gradient 0, not NaN."""
    assert slopes(lambda x: x.std(), [2, 2, 2]) == [0, 0, 0]
    assert slopes(lambda x: x.std(1).sum(), [[2, 2], [1, 3]])[0] == [0, 0]


def test_trap_25_corrections(device: str) -> None:
    """[1, 2, 6]: mean 3, squares of the deviations 4 + 1 + 9."""
    x = leaf([[1, 2, 6]])
    assert x.var(1).item() == x.var(1, correction=1).item() == x.var(1, unbiased=True).item() == 7
    assert x.var(1, correction=0).item() == x.var(1, False).item() == pytest.approx(14 / 3)
    assert x.var(1, correction=2).item() == 14
    assert x.std().item() == pytest.approx(math.sqrt(7)) and x.std(unbiased=False).item() == pytest.approx(
        math.sqrt(14 / 3)
    )
    assert x.var(1, keepdim=True).shape == (1, 1)
    assert slopes(lambda x: x.var(), [1, 2, 6]) == [-2, -1, 3]
    np.testing.assert_allclose(slopes(lambda x: x.var(correction=0), [1, 2, 6]), [-4 / 3, -2 / 3, 2])


def test_trap_25_variance_far_from_zero(device: str) -> None:
    """Two passes: E[x²] - E[x]² would cancel every digit here."""
    x = z2g.tensor([1e6, 1e6 + 1, 1e6 + 2])
    assert x.var().item() == pytest.approx(1, rel=1e-3)


# --- 26: layer norm ---------------------------------------------------------------------------------------------------


def test_trap_26_biased_variance_and_eps_inside_the_root(device: str) -> None:
    """[0, 2]: mean 1, biased variance 1. With eps = 3 the root is 2: inside, not √1 + 3, and not the variance 2."""
    close(F.layer_norm(leaf([[0, 2]]), (2,), eps=3.0), [[-0.5, 0.5]])
    close(F.layer_norm(leaf([[0, 2]]), 2, eps=0.0), [[-1, 1]])


@pytest.mark.parametrize("dtype", [f32, f64])
def test_trap_26_constant_row(dtype: str, device: str) -> None:
    """Variance 0: the result is the bias, and the gradient is finite."""
    x, w, b = leaf([[7, 7, 7]], dtype), leaf([1, 2, 3], dtype), leaf([4, 5, 6], dtype)
    z = F.layer_norm(x, (3,), w, b)
    assert z.tolist() == [[4, 5, 6]]
    z.backward(z2g.tensor(np.array([[1.0, 0, 0]], dtype)))
    assert np.isfinite(x.grad.tolist()).all() and w.grad.tolist() == [0, 0, 0] and b.grad.tolist() == [1, 0, 0]


def test_trap_26_several_dims(device: str) -> None:
    """Over the last two dims together, not one after the other."""
    x = np.arange(12.0).reshape(2, 2, 3)
    z = F.layer_norm(leaf(x), (2, 3), eps=0.0)
    rows = x.reshape(2, 6)
    close(z, ((rows - rows.mean(1, keepdims=True)) / rows.std(1, keepdims=True)).reshape(x.shape), rtol=1e-9)


def test_trap_26_wrong_shapes() -> None:
    x = z2g.ones(2, 3)
    with pytest.raises(RuntimeError, match="normalized_shape"):
        F.layer_norm(x, (2,))
    with pytest.raises(RuntimeError, match="weight"):
        F.layer_norm(x, (3,), z2g.ones(2))


# --- 27: cross-entropy ------------------------------------------------------------------------------------------------

UNIFORM = [[0.0, 0.0, 0.0, 0.0]] * 4  # every loss is ln 4
LN4 = math.log(4)


@pytest.mark.parametrize(
    ("target", "kwargs", "expected"),
    [
        ([0, 1, 2, 3], {}, LN4),
        ([0, 1, 2, 3], {"reduction": "sum"}, 4 * LN4),
        ([0, 1, 2, 3], {"reduction": "none"}, [LN4] * 4),
        ([0, 1, -100, -100], {}, LN4),
        ([0, 1, -100, -100], {"reduction": "sum"}, 2 * LN4),
        ([0, 1, -100, -100], {"reduction": "none"}, [LN4, LN4, 0, 0]),
        ([0, 1, 2, 2], {"ignore_index": 2}, LN4),
        ([0, 1, -1, -1], {"ignore_index": -1, "reduction": "sum"}, 2 * LN4),
        ([-100] * 4, {}, NAN),
        ([-100] * 4, {"reduction": "sum"}, 0),
        ([-100] * 4, {"reduction": "none"}, [0] * 4),
        ([0, 1, 1, 1], {"weight": [4, 2, 1, 1], "reduction": "sum"}, 10 * LN4),
        ([0, 1, 1, 1], {"weight": [4, 2, 1, 1]}, LN4),
        ([0, 1, 1, 1], {"weight": [4, 2, 1, 1], "reduction": "none"}, [4 * LN4, 2 * LN4, 2 * LN4, 2 * LN4]),
        ([0, -100, 1, 1], {"weight": [4, 2, 1, 1], "reduction": "sum"}, 8 * LN4),
    ],
)
@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss"])
def test_trap_27_reductions_and_ignored_targets(
    name: str, target: list, kwargs: dict, expected: Any, device: str
) -> None:
    """The mean divides by the weights of the targets that count; without any it is 0 / 0, as in torch."""
    kwargs = {n: z2g.tensor(v, dtype=z2g.float64) if n == "weight" else v for n, v in kwargs.items()}
    x = leaf(UNIFORM)
    scores = x if name == "cross_entropy" else z2g.log_softmax(x, 1)
    np.testing.assert_allclose(getattr(F, name)(scores, z2g.tensor(target), **kwargs).tolist(), expected)


def test_trap_27_gradient_of_the_weighted_mean(device: str) -> None:
    """w[t] (p - onehot) / Σ w[t]: with weights 1 and 3, one target ignored."""
    x = leaf([[0, 0], [0, 0], [0, 0]])
    weight = z2g.tensor([1.0, 3.0], dtype=z2g.float64)
    F.cross_entropy(x, z2g.tensor([0, -100, 1]), weight).backward()
    np.testing.assert_allclose(x.grad.tolist(), [[-1 / 8, 1 / 8], [0, 0], [3 / 8, -3 / 8]])


def test_trap_27_an_ignored_row_does_not_spoil_the_others(device: str) -> None:
    """Not even if its scores are NaN."""
    x = leaf([[0, 0], [NAN, 0]])
    loss = F.cross_entropy(x, z2g.tensor([0, -100]))
    assert loss.item() == pytest.approx(math.log(2))
    loss.backward()
    assert x.grad.tolist()[0] == [-0.5, 0.5]


@pytest.mark.parametrize("target", [[0, 4], [-1, 0], [0, -101]])
@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss"])
def test_trap_27_label_out_of_range(name: str, target: list) -> None:
    with pytest.raises(IndexError, match=r"target .* out of range"):
        getattr(F, name)(z2g.zeros(2, 4), z2g.tensor(target))


@pytest.mark.parametrize(
    ("input", "target", "error"),
    [
        (lambda: z2g.zeros(2, 4), lambda: z2g.zeros(3, dtype=z2g.int64), ValueError),
        (lambda: z2g.zeros(2, 4, 3), lambda: z2g.zeros(2, dtype=z2g.int64), ValueError),
        (lambda: z2g.zeros(2, 4), lambda: z2g.zeros(2), RuntimeError),
    ],
)
def test_trap_27_wrong_targets(input: Callable, target: Callable, error: type) -> None:
    with pytest.raises(error, match="cross_entropy"):
        F.cross_entropy(input(), target())


@pytest.mark.parametrize("loss", [F.mse_loss, F.l1_loss, F.cross_entropy, F.nll_loss], ids=lambda f: f.__name__)
def test_trap_27_unknown_reduction(loss: Callable) -> None:
    target = z2g.zeros(2, 4) if loss in (F.mse_loss, F.l1_loss) else z2g.zeros(2, dtype=z2g.int64)
    with pytest.raises(ValueError, match="reduction"):
        loss(z2g.zeros(2, 4), target, reduction="average")


def test_trap_27_classes_are_the_second_dim(device: str) -> None:
    """(N, C, d): a transposed layout would have the same number of elements."""
    x = np.zeros((1, 2, 2))
    x[0, 1] = [0, math.log(3)]  # place 0: 1/2, 1/2; place 1: 1/4, 3/4
    z = F.cross_entropy(leaf(x), z2g.tensor([[1, 1]]), reduction="none")
    close(z, [[math.log(2), math.log(4 / 3)]])


# --- 28 and 29, the parts that are functions: dropout and convolution -------------------------------------------------


def test_trap_28_dropout_scales_what_it_keeps(device: str) -> None:
    x = z2g.ones(10000, dtype=z2g.float64)
    z = F.dropout(x, 0.25)
    assert set(z.tolist()) == {0, 1 / 0.75}
    assert z.mean().item() == pytest.approx(1, abs=0.03)  # 5 standard deviations


def test_trap_28_dropout_backward_uses_the_same_mask(device: str) -> None:
    x = leaf(np.ones(1000))
    z = F.dropout(x, 0.5)
    z.sum().backward()
    assert x.grad.tolist() == z.tolist()


def test_trap_28_each_call_draws_anew_and_the_seed_repeats(device: str) -> None:
    x = z2g.ones(100)
    z2g.manual_seed(1)
    first, second = F.dropout(x).tolist(), F.dropout(x).tolist()
    z2g.manual_seed(1)
    assert first != second
    assert F.dropout(x).tolist() == first


@pytest.mark.parametrize(("p", "training", "value"), [(0, True, 1), (1, True, 0), (0.5, False, 1), (1, False, 1)])
def test_trap_28_certain_cases(p: float, training: bool, value: float, device: str) -> None:
    x = leaf([1, 1])
    z = F.dropout(x, p, training)
    assert z.tolist() == [value] * 2
    z.sum().backward()
    assert x.grad.tolist() == [value] * 2


@pytest.mark.parametrize("p", [-0.1, 1.1])
def test_trap_28_not_a_probability(p: float) -> None:
    with pytest.raises(ValueError, match="probability"):
        F.dropout(z2g.ones(2), p)


def test_trap_29_convolution_is_correlation(device: str) -> None:
    """The filter [1, 0, -1] looks at (x[t], x[t + 1], x[t + 2]) in this order: a ramp gives -2, flipped it gives 2."""
    ramp, edge = leaf([[0, 1, 2, 3]]), leaf([[[1, 0, -1]]])
    assert F.conv1d(ramp, edge).tolist() == [[-2, -2]]
    assert F.conv1d(ramp, edge, padding=1).tolist() == [[-1, -2, -2, 2]]
    assert F.conv1d(ramp, edge, padding="same").tolist() == [[-1, -2, -2, 2]]
    assert F.conv1d(ramp, leaf([[[1, 10]]]), dilation=2).tolist() == [[20, 31]]
    assert F.conv1d(ramp, leaf([[[1, 10]]]), stride=2).tolist() == [[10, 32]]
    assert F.conv1d(ramp, leaf([[[1, 10]]]), padding="same").tolist() == [
        [10, 21, 32, 3]
    ]  # the odd zero is on the right


# --- Keyword names: torch's -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        lambda x: z2g.sum(x, dim=1, keepdim=True),
        lambda x: z2g.transpose(x, dim0=0, dim1=1),
        lambda x: z2g.flatten(x, start_dim=0, end_dim=-1),
        lambda x: z2g.roll(x, shifts=1, dims=0),
        lambda x: z2g.squeeze(x, dim=0),
        lambda x: z2g.clamp(x, min=0, max=1),
        lambda x: z2g.cat(tensors=[x, x], dim=1),
        lambda x: z2g.softmax(x, dim=-1),
        lambda x: z2g.split(x, 1, dim=1),
        lambda x: z2g.gather(x, dim=1, index=z2g.zeros(2, 1, dtype=z2g.int64)),
        lambda x: z2g.index_select(x, dim=1, index=z2g.tensor([0])),
        lambda x: z2g.tril(x, diagonal=-1),
        lambda x: x.masked_fill(mask=x > 0, value=0.0),
        lambda x: z2g.std(x, dim=0, correction=0),
        lambda x: z2g.norm(x, p=2, dim=1),
        lambda x: F.pad(x, pad=(1, 1), mode="constant", value=0),
        lambda x: F.gelu(x, approximate="tanh"),
        lambda x: F.mse_loss(input=x, target=x),
        lambda x: F.cross_entropy(input=x, target=z2g.tensor([0, 1])),
        lambda x: F.embedding(z2g.tensor([0, 1]), weight=x, padding_idx=0),
    ],
)
def test_keyword_names_are_those_of_torch(call: Callable) -> None:
    call(z2g.ones(2, 3))


@pytest.mark.parametrize(
    ("call", "shape"),
    [
        (lambda x: z2g.flip(x, dims=[0]), (2, 3)),
        (lambda x: x.flip(dims=(0, 1)), (2, 3)),
        (lambda x: z2g.permute(x, dims=(1, 0)), (3, 2)),
        (lambda x: z2g.reshape(x, shape=(3, 2)), (3, 2)),
    ],
    ids=["z2g.flip", "x.flip", "permute", "reshape"],
)
def test_sizes_and_dims_by_keyword(call: Callable, shape: tuple) -> None:
    """What can be given as several numbers can be given as one list by name: `torch.flip(x, dims=[0])` is common."""
    assert call(z2g.ones(2, 3)).shape == shape


# --- Steps, remainders and closeness ------------------------------------------------------------------------------


def test_remainder_takes_the_sign_of_the_divisor(device: str) -> None:
    x = z2g.tensor([-3.5, -1, 1, 3.5], device=device)
    assert (x % 2).tolist() == [0.5, 1, 1, 1.5] and (x % -2).tolist() == [-1.5, -1, -1, -0.5]
    assert (x // 2).tolist() == [-2, -1, 0, 1]
    n = z2g.tensor([-7, 7], device=device)
    assert (n // 2).tolist() == [-4, 3] and (n % 2).tolist() == [1, 1] and (n // 2).dtype == z2g.int64
    for divide in (z2g.floor_divide, z2g.remainder):
        with pytest.raises(ZeroDivisionError, match="integer is divided by 0"):
            divide(n, 0)


def test_round_goes_to_the_even_neighbour_and_keeps_the_dtype(device: str) -> None:
    x = z2g.tensor([-1.5, -0.5, 0.5, 1.5, 2.5], device=device)
    assert x.round().tolist() == [-2, 0, 0, 2, 2]
    assert z2g.tensor([1.25], device=device).round(decimals=1).item() == pytest.approx(1.2)
    for f in (z2g.floor, z2g.ceil, z2g.round):
        assert f(x).dtype == z2g.float32 and f(z2g.tensor([3], device=device)).dtype == z2g.int64


def test_closeness(device: str) -> None:
    x = z2g.tensor([1.0, math.inf, math.nan], device=device)
    y = z2g.tensor([1 + 1e-6, math.inf, math.nan], device=device)
    assert z2g.isclose(x, y).tolist() == [True, True, False]
    assert z2g.allclose(x, y, equal_nan=True) is True and z2g.allclose(x, y) is False
    assert z2g.equal(x[:2], x[:2]) is True and z2g.equal(x, x) is False and z2g.equal(x, x[:2]) is False
    assert z2g.isinf(x).tolist() == [False, True, False]


# --- Found by a reviewer -----------------------------------------------------------------------------------------


def test_an_lstm_of_no_examples(device):
    out, (h, c) = z2g.nn.LSTM(3, 4)(z2g.zeros(5, 0, 3))
    assert (tuple(out.shape), tuple(h.shape), tuple(c.shape)) == ((5, 0, 4), (1, 0, 4), (1, 0, 4))


@pytest.mark.fast  # plain sums are as exact as NumPy's
def test_long_sums_against_the_order_of_memory(device):
    """NumPy adds one number after the other along an axis whose elements are no neighbours: 1 % off for a million."""
    a = z2g.full((200_000, 2), 0.1)
    for x, dim in ((a, 0), (a.t(), 1)):
        assert x.sum(dim).tolist() == pytest.approx([20_000.0] * 2, rel=1e-6)
    b = z2g.zeros(2, 1, requires_grad=True)
    (z2g.zeros(2, 200_000) + b).backward(a.t())
    assert b.grad.flatten().tolist() == pytest.approx([20_000.0] * 2, rel=1e-6)


def test_float16_is_added_in_float32(device):
    assert z2g.ones(4096, 2, dtype=z2g.float16).sum(0).tolist() == [4096.0] * 2
    p = z2g.zeros(100, dtype=z2g.float16, requires_grad=True)
    p.grad = z2g.full((100,), 30.0, dtype=z2g.float16)
    z2g.nn.utils.clip_grad_norm_([p], 150.0)  # 30² · 100 is inf in float16
    assert p.grad.tolist() == [15.0] * 100


def test_float16_is_squared_in_float32(device):
    """300² is beyond float16; so is the number of elements in the last two."""
    x = z2g.full((1, 4), 300.0, dtype=z2g.float16)
    assert x.norm().item() == 600 and x.norm(dim=1).dtype == z2g.float16
    assert F.normalize(x).tolist() == [[0.5] * 4] and F.cosine_similarity(x, x).tolist() == [1.0]
    assert F.rms_norm(x, (4,)).tolist() == [[1.0] * 4] and F.rms_norm(x, (4,), weight=x[0]).dtype == z2g.float16
    assert z2g.tensor([-300.0, 300.0], dtype=z2g.float16).std(unbiased=False).item() == 300
    ones = z2g.ones(70_000, dtype=z2g.float16, requires_grad=True)
    loss = F.mse_loss(ones, z2g.zeros_like(ones))
    (loss + ones.mean()).backward()
    assert loss.item() == 1 and loss.dtype == z2g.float16
    assert ones.grad[0].item() == pytest.approx(3 / 70_000, rel=2e-3)


def test_one_bad_row_of_a_gradient_spoils_no_other_of_an_embedding():
    table = z2g.zeros(4, 2, requires_grad=True)
    F.embedding(z2g.tensor([0, 1, 1]), table).backward(z2g.tensor([[math.inf, 1.0], [1.0, 1.0], [2.0, 3.0]]))
    assert table.grad.tolist() == [[math.inf, 1.0], [3.0, 4.0], [0.0, 0.0], [0.0, 0.0]]


def test_smoothed_labels_of_an_ignored_row_may_hold_anything(device):
    x = z2g.tensor([[1.0, 2.0], [-math.inf, 0.0]], requires_grad=True)
    loss = F.cross_entropy(x, z2g.tensor([1, -100]), label_smoothing=0.2)
    loss.backward()
    alone = F.cross_entropy(z2g.tensor([[1.0, 2.0]]), z2g.tensor([1]), label_smoothing=0.2)
    assert loss.item() == pytest.approx(alone.item()) and x.grad[1].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("logits", [[40.0, 26.0, 25.0], [-30.0, -44.0, -45.0], [0.0, -14.0, -15.0]])
def test_a_small_loss_is_exact_wherever_its_logits_lie(device, logits):
    exact = math.log1p(math.exp(-14) + math.exp(-15))
    assert F.cross_entropy(z2g.tensor([logits]), z2g.tensor([0])).item() == pytest.approx(exact, abs=1.2e-7)
    assert z2g.softmax(z2g.tensor([-44.0, -105.0]), 0)[1].item() == pytest.approx(math.exp(-61), rel=1e-4)


def test_the_slope_of_sinc_keeps_its_digits_near_0(device):
    """cos u - sin u / u is a difference of two ones there: in float32 none of its digits would be right at 1e-4."""
    x = z2g.tensor([1e-6, -1e-4, 1e-3, 0.01, 0.03, 0.04, 0.3], requires_grad=True)
    z2g.sinc(x).sum().backward()
    u = np.pi * x.detach().cpu().numpy().astype(np.float64)
    slope = np.pi * sum((-1) ** k * 2 * k * u ** (2 * k - 1) / math.factorial(2 * k + 1) for k in range(1, 12))
    np.testing.assert_allclose(x.grad.cpu().numpy(), slope, rtol=3e-5)


def test_fmod_is_exact_however_often_the_divisor_fits(device):
    """x - y trunc(x / y) was 0 for 1e10, whose quotient float32 cannot hold, and NaN for a divisor of infinity."""
    x = z2g.tensor([1e10, -1e10, 5.0, -6.0, 7.0], requires_grad=True)
    y = z2g.tensor([3.0, 3.0, math.inf, 3.0, -2.0], requires_grad=True)
    z = z2g.fmod(x, y)
    z.sum().backward()
    assert z.tolist() == [1.0, -1.0, 5.0, 0.0, 1.0] and x.grad.tolist() == [1.0] * 5
    assert y.grad.tolist() == pytest.approx([-(1e10 // 3), 1e10 // 3, 0.0, 2.0, 3.0], rel=1e-6)
    assert z2g.fmod(z2g.tensor([7, -7]), 3).tolist() == [1, -1]
    with pytest.raises(ZeroDivisionError, match="fmod: an integer is divided by 0"):
        z2g.fmod(z2g.tensor([7]), 0)


@pytest.mark.parametrize("function", [z2g.linalg.svdvals, z2g.linalg.pinv, z2g.linalg.matrix_rank, z2g.linalg.eigvalsh])
@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_values_of_a_matrix_that_is_not_finite_are_refused(function, bad):
    """As in torch: a search for them may not end."""
    with pytest.raises(RuntimeError, match="holds inf or nan"):
        function(z2g.tensor([[1.0, 2.0], [2.0, bad]]))
