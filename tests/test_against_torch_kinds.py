"""What `benchmarks/against_torch.py` found, by kind; what is expected here was read off torch 2.13.

Its other half, what is different on purpose, stands in API.md.
"""

from __future__ import annotations

import copy

import numpy as np
import pytest

import tinygrad_z2g as z2g
import tinygrad_z2g.nn as nn
import tinygrad_z2g.nn.functional as F
from tests.numeric import host

MASK = [True, False]


def ints(*values):
    return z2g.tensor(list(values), dtype=z2g.int64)


# --- Gradients ---------------------------------------------------------------------------------------------------


def test_a_leaf_that_was_switched_off_receives_nothing(device):
    """Also if it was on when the graph was made; on again, it receives what comes then."""
    a, b = z2g.ones(2, requires_grad=True), z2g.ones(2, requires_grad=True)
    loss = (a * b * 2).sum()
    a.requires_grad_(False)
    loss.backward(retain_graph=True)
    assert a.grad is None and b.grad.tolist() == [2, 2]
    a.requires_grad = True
    loss.backward()
    assert a.grad.tolist() == [2, 2] and b.grad.tolist() == [4, 4]


def test_a_frozen_layer_keeps_the_gradients_it_has(device):
    m = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    m(z2g.ones(1, 2)).sum().backward()
    before = [p.grad.tolist() for p in m.parameters()]
    loss = m(z2g.ones(1, 2)).sum()
    m[0].requires_grad_(False)
    loss.backward()
    after = [p.grad.tolist() for p in m.parameters()]
    assert after[:2] == before[:2] and all(x != y for x, y in zip(after[2:], before[2:], strict=True))


def test_a_copied_module_starts_without_gradients(device):
    m = nn.Linear(2, 1)
    m(z2g.ones(1, 2)).sum().backward()
    assert all(p.grad is None for p in copy.deepcopy(m).parameters()) and m.weight.grad is not None


@pytest.mark.parametrize("smoothing", [0, 0.1])
def test_class_weights_that_require_grad_are_refused(device, smoothing):
    """They received none, or a part of it."""
    x, t, w = z2g.ones(2, 3), z2g.tensor([0, 1]), z2g.ones(3, requires_grad=True)
    with pytest.raises(RuntimeError, match="no gradient for weight"):
        F.cross_entropy(x, t, weight=w, label_smoothing=smoothing)
    with pytest.raises(RuntimeError, match="no gradient for weight"):
        F.nll_loss(x, t, weight=w)
    with z2g.no_grad():
        F.nll_loss(x, t, weight=w.detach())
    F.cross_entropy(x, z2g.full((2, 3), 1 / 3), weight=w).backward()  # there torch has one
    np.testing.assert_allclose(host(w.grad), [np.log(3) / 3] * 3, rtol=1e-6)


def test_a_tensor_that_flatten_need_not_change_is_itself(device):
    x = z2g.ones(2, 3, requires_grad=True)
    row = z2g.ones(0, requires_grad=True)
    assert x.flatten(1) is x and row.flatten() is row and x.flatten() is not x
    assert z2g.tensor(1.0).flatten().shape == (1,) and z2g.tensor(1.0).mT.shape == ()


# --- Values and dtypes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make, expected, dtype",
    [
        (lambda: z2g.arange(1.5, dtype=z2g.int64), [0], "int64"),
        (lambda: z2g.arange(2.9, dtype=z2g.int32), [0, 1, 2], "int32"),
        (lambda: z2g.arange(0.5, 3, dtype=z2g.int64), [0, 1, 2], "int64"),
        (lambda: z2g.arange(0.5, 4, 1.5, dtype=z2g.int32), [0, 1, 2], "int32"),
        (lambda: z2g.arange(0.5, 4, 1.5, dtype=z2g.int64), [0, 1, 2, 3], "int64"),
        (lambda: z2g.arange(-2.9, 2, dtype=z2g.int32), [-2, -1, 0, 1, 2], "int32"),
        (lambda: z2g.arange(-2.9, 2, dtype=z2g.int64), [-2, -1, 0, 1], "int64"),
        (lambda: z2g.arange(3, 0.5, -1, dtype=z2g.int64), [3, 2, 1], "int64"),
        (lambda: z2g.arange(0, 1, 0.25, dtype=z2g.float16), [0, 0.25, 0.5, 0.75], "float16"),
        (lambda: z2g.tensor([True, False]).square(), [1, 0], "int64"),
        (lambda: ints(3).square(), [9], "int64"),
        (lambda: z2g.tensor([0.0, 2, 2]).sum(dtype=z2g.bool), True, "bool"),
        (lambda: ints(1, 2).sum(dtype=z2g.int32), 3, "int32"),
        (lambda: z2g.zeros(2, 3).sum(1, keepdim=True, dtype=z2g.bool), [[False], [False]], "bool"),
        (lambda: z2g.ones(2, dtype=z2g.int64).masked_fill(z2g.tensor(MASK), -1.5), [-1, 1], "int64"),
        (lambda: z2g.zeros(2, dtype=z2g.bool).masked_fill(z2g.tensor(MASK), 0.5), [True, False], "bool"),
        (lambda: z2g.lerp(z2g.zeros(2), z2g.ones(2), z2g.tensor(0.5, dtype=z2g.float64)), [0.5, 0.5], "float32"),
        (lambda: z2g.zeros(2).copy_(2.5), [2.5, 2.5], "float32"),
        (lambda: z2g.zeros(2).fill_(z2g.tensor(3)), [3, 3], "float32"),
        (lambda: F.linear(z2g.ones(3, 2), z2g.tensor([1.0, 2])), [3, 3, 3], "float32"),
        (lambda: F.linear(z2g.ones(2), z2g.tensor([1.0, 2])), 3, "float32"),
        (lambda: z2g.tensor([1.0, 3]).var(correction=2), np.inf, "float32"),
        (lambda: z2g.tensor([1.0, 3]).std(correction=5), np.inf, "float32"),
        (lambda: z2g.tensor([1.0, 1]).var(correction=2), np.nan, "float32"),
        (lambda: z2g.zeros(0).var(correction=0), np.nan, "float32"),
    ],
)  # fmt: skip
def test_values(device, make, expected, dtype):
    z = make()
    assert z.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(host(z), expected)
    assert np.shape(expected) == z.shape


def test_a_remainder_of_0_has_the_sign_of_x(device):
    x, y = z2g.tensor([4.75, -4.75, 0.0, -0.0, 1.0, -1.0]), z2g.tensor([-0.25, 0.25, -1.0, 1.0, np.inf, np.inf])
    z = x % y
    np.testing.assert_array_equal(host(z), [0, 0, 0, 0, 1, np.inf])
    assert np.signbit(host(z))[:4].tolist() == [False, True, False, True]
    assert np.signbit(host(-4.75 % z2g.tensor(0.25))) and not np.signbit(host(z2g.tensor(4.75) % -0.25))
    assert (ints(4, -4) % 2).tolist() == [0, 0] and (ints(-3) % 2).dtype == z2g.int64


@pytest.mark.parametrize("other", [z2g.float32, z2g.float64, z2g.int64])
def test_cosine_similarity_is_as_wide_as_its_wider_operand(device, other):
    x, y = z2g.tensor([1.0, 2], dtype=z2g.float16, requires_grad=True), z2g.tensor([3, 4]).to(other)
    for z in (F.cosine_similarity(x, y, dim=0), F.cosine_similarity(y, x, dim=0)):
        assert z.dtype == (z2g.float16 if other == z2g.int64 else other)
        assert abs(z.item() - 11 / 125**0.5) < 1e-3
    z.backward()
    assert x.grad.dtype == z2g.float16


def test_what_shares_memory_is_copied_before_it_is_written(device):
    """torch refuses it. In place of a loop that overwrites what it is about to read."""
    for write in (lambda a: a[1:].copy_(a[:-1]), lambda a: a.__setitem__(slice(1, None), a[:-1])):
        a = z2g.arange(4.0)
        write(a)
        assert a.tolist() == [0, 0, 1, 2]
    a = z2g.arange(4.0)
    a[[1, 2]] = a[:2]
    assert a.tolist() == [0, 0, 1, 3]
    a = z2g.arange(4.0).reshape(2, 2)
    a.add_(a.t())
    assert a.tolist() == [[0, 3], [3, 6]]
    x = z2g.arange(3.0).requires_grad_()
    y = x * 2
    y[1:] = y[:-1]  # (2 x₀, 2 x₀, 2 x₁)
    (y * z2g.tensor([1.0, 10, 100])).sum().backward()
    assert y.tolist() == [0, 0, 2] and x.grad.tolist() == [22, 200, 0]


@pytest.mark.parametrize("index", [-1, 2])
def test_index_select_counts_from_0(index):
    """On the CPU: on a GPU nobody looks."""
    for ids in (z2g.tensor([0, index]), z2g.tensor(index)):
        with pytest.raises(IndexError, match=str(index)):
            z2g.ones(2, device="cpu").index_select(0, ids)
    with pytest.raises(IndexError, match=str(index)):
        z2g.tensor(1.0, device="cpu").index_select(0, z2g.tensor([index]))


def test_things_that_have_nothing_in_common_are_not_equal(device):
    x = z2g.ones(1)
    assert (x == None) is False and (x != "1") is True and (x == []) is False  # noqa: E711
    assert (x == 1).tolist() == [True] and (x != np.ones(1)).tolist() == [False]


# --- What is refused ---------------------------------------------------------------------------------------------

REFUSED = [
    (lambda x: x.__setitem__(0, None), TypeError, "NoneType"),
    (lambda x: x.__setitem__(z2g.tensor(MASK), None), TypeError, "NoneType"),
    (lambda x: x.__setitem__(0, "3"), TypeError, "str"),
    (lambda x: x.__setitem__(0, [None]), TypeError, "list"),
    (lambda x: x.__setitem__(0, 1j), TypeError, "complex"),
    (lambda x: x.fill_(None), TypeError, "NoneType"),
    (lambda x: x.fill_(x), RuntimeError, "0-d"),
    (lambda x: x.copy_(None), TypeError, "NoneType"),
    (lambda x: x.copy_([1, 2]), TypeError, "list"),
    (lambda x: x.copy_(z2g.ones(1, 2)), RuntimeError, "broadcast"),
    (lambda x: z2g.ones(()).copy_(z2g.ones(1)), RuntimeError, "broadcast"),
    (lambda x: x.masked_fill(z2g.tensor(MASK), None), TypeError, "NoneType"),
    (lambda x: z2g.tensor([1.0, None]), TypeError, "object"),
    (lambda x: z2g.tensor([None], dtype=z2g.float32), TypeError, "object"),
    (lambda x: ints(1, 2).masked_fill(z2g.tensor(MASK), float("inf")), RuntimeError, "held"),
    (lambda x: z2g.ones(2, dtype=z2g.int8).masked_fill(z2g.tensor(MASK), 300), RuntimeError, "held"),
    (lambda x: z2g.arange(0, 2.5, 0.5, dtype=z2g.int64), RuntimeError, "nonzero"),
    (lambda x: z2g.arange(1, 0.5), RuntimeError, "lead"),
    (lambda x: z2g.arange(2, dtype=z2g.bool), RuntimeError, "bool"),
    (lambda x: F.max_pool2d(z2g.ones(1, 2, 2, dtype=z2g.int64), 2), RuntimeError, "floating"),
    (lambda x: F.avg_pool1d(z2g.ones(1, 2, dtype=z2g.int64), 2), RuntimeError, "floating"),
    (lambda x: z2g.lerp(x, x.double(), 0.5), RuntimeError, "float64"),
    (lambda x: z2g.lerp(x, x, x.double()), RuntimeError, "float64"),
    (lambda x: z2g.lerp(ints(1), ints(2), 0.5), RuntimeError, "int64"),
    (lambda x: z2g.lerp(x, 3.0, 0.5), TypeError, "float"),
    (lambda x: z2g.norm(ints(1, 2), 1), RuntimeError, "floating"),
    (lambda x: z2g.norm(ints(1, 2), float("inf")), RuntimeError, "floating"),
    (lambda x: z2g.eq(x, []), TypeError, "list"),
    (lambda x: z2g.eq(1, []), TypeError, "list"),
    (lambda x: x.ne(None), TypeError, "NoneType"),
    (lambda x: x < "a", TypeError, "str"),
    (lambda x: x & None, TypeError, "NoneType"),
    (lambda x: x.flip(), TypeError, "flip"),
    (lambda x: z2g.tensor(1.0).swapaxes(1, 1), IndexError, "1"),
    (lambda x: z2g.tensor(1.0).transpose(0, 1), IndexError, "1"),
    (lambda x: z2g.hstack(x), TypeError, "list"),
    (lambda x: z2g.vstack(z2g.ones(2, 2)), TypeError, "list"),
    (lambda x: z2g.where(z2g.ones(4, 2, 2) > 0, z2g.ones(4, 2), 2.0), RuntimeError, "broadcast"),
    (lambda x: z2g.cat([z2g.tensor(1.0)]), RuntimeError, "0-d"),
    (lambda x: z2g.einsum(x, x), TypeError, "equation"),
    (lambda x: x.expand_as(1), TypeError, "int"),
    (lambda x: x.view_as(1), TypeError, "int"),
    (lambda x: x.type_as(1), TypeError, "int"),
    (lambda x: z2g.ones_like(1), TypeError, "int"),
    (lambda x: z2g.full_like([1], 2), TypeError, "list"),
    (lambda x: z2g.rand_like(1), TypeError, "int"),
    (lambda x: z2g.randn_like(None), TypeError, "NoneType"),
    (lambda x: z2g.randint_like(1, 3), TypeError, "int"),
    (lambda x: z2g.bernoulli(0.5), TypeError, "float"),
    (lambda x: z2g.multinomial([1.0], 1), TypeError, "list"),
    (lambda x: nn.LSTMCell(1, 0), ValueError, "hidden_size"),
]  # fmt: skip


@pytest.mark.parametrize("call, error, words", REFUSED)
def test_refused(device, call, error, words):
    """With one clear line, and nothing is changed."""
    x = z2g.tensor([1.0, 2.0])
    with pytest.raises(error, match=words):
        call(x)
    assert x.tolist() == [1, 2]
