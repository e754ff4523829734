"""Names of torch beside those of the table: old spellings, places and counts, printing, in-place forms, switches, and
what there is not. Numbers that are written down are torch's."""

import copy
import importlib
import math
import subprocess
import sys
import warnings

import numpy as np
import pytest
from numeric import check_grad, host

import tinygrad_z2g as z2g
from tinygrad_z2g import absent, backends, linalg
from tinygrad_z2g.autograd import Variable

T = z2g.tensor


# --- Old spellings -----------------------------------------------------------------------------------------------


def test_tensor_of_sizes_or_of_data(device):
    assert z2g.Tensor(2, 3).tolist() == [[0] * 3] * 2 and z2g.Tensor(z2g.Size([2, 1])).shape == (2, 1)
    assert z2g.Tensor([1, 2]).tolist() == [1, 2] and z2g.Tensor([1, 2]).dtype == z2g.float32
    assert z2g.Tensor((2, 3)).shape == (2,) and z2g.Tensor().shape == (0,) and z2g.Tensor(3).shape == (3,)
    assert z2g.Tensor(np.ones((2, 2))).dtype == z2g.float32
    for wrong, words in ((lambda: z2g.Tensor(3.5), "3.5"), (lambda: z2g.Tensor(True), "True"),
                         (lambda: z2g.Tensor([1], [2]), "sizes")):  # fmt: skip
        with pytest.raises(TypeError, match=words):
            wrong()
    with pytest.raises(RuntimeError, match="-1"):
        z2g.Tensor(-1)


KINDS = {"FloatTensor": z2g.float32, "DoubleTensor": z2g.float64, "HalfTensor": z2g.float16, "LongTensor": z2g.int64,
         "IntTensor": z2g.int32, "ShortTensor": z2g.int16, "CharTensor": z2g.int8, "ByteTensor": z2g.uint8,
         "BoolTensor": z2g.bool}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_a_class_for_each_dtype(name):
    kind = getattr(z2g, name)
    x = kind([[1, 0]])
    assert x.dtype == KINDS[name] and x.shape == (1, 2) and kind(2, 3).shape == (2, 3)
    assert isinstance(x, kind) and not isinstance(x, z2g.FloatTensor if name != "FloatTensor" else z2g.LongTensor)
    assert not isinstance(3, kind) and x.type() == f"torch.{name}"
    y = z2g.ones(2).type(kind)
    assert y.dtype == kind.dtype and z2g.ones(2).type(f"torch.{name}").dtype == y.dtype
    assert z2g.ones(2, dtype=z2g.int64).type(KINDS[name]).dtype == KINDS[name]


def test_classes_on_a_gpu(device):
    if device == "cpu":
        with pytest.raises(RuntimeError, match="cuda"):
            z2g.cuda.FloatTensor(2)
        return
    x = z2g.cuda.FloatTensor([1.0, 2.0])
    assert x.is_cuda and isinstance(x, z2g.cuda.FloatTensor) and not isinstance(x, z2g.FloatTensor)
    assert x.type() == "torch.cuda.FloatTensor" and x.type("torch.LongTensor").device.type == "cpu"
    assert z2g.FloatTensor([1.0]).type("torch.cuda.DoubleTensor").type() == "torch.cuda.DoubleTensor"


def test_variable(device):
    x = z2g.ones(2)
    v = Variable(x, requires_grad=True)
    (v * T([2.0, 3.0])).sum().backward()
    assert v.grad.tolist() == [2, 3] and not x.requires_grad and isinstance(x, Variable)
    assert not Variable(v * 2).requires_grad and not v.volatile
    with z2g.no_grad():
        v += 1
    assert x.tolist() == [2, 2]  # the same memory
    with pytest.warns(UserWarning, match="no_grad"):
        Variable(x, volatile=True)
    with pytest.raises(TypeError, match="list"):
        Variable([1.0])
    with pytest.raises(RuntimeError, match="floating"):
        Variable(T([1]), requires_grad=True)


def test_range_holds_its_end():
    with pytest.warns(UserWarning, match="arange"):
        x = z2g.range(1, 4)
    assert x.tolist() == [1, 2, 3, 4] and x.dtype == z2g.float32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert z2g.range(1, 2.5, 0.5).tolist() == [1, 1.5, 2, 2.5]
        with pytest.raises(RuntimeError, match="step"):
            z2g.range(4, 1)


def test_new(device):
    x = z2g.ones(2, dtype=z2g.float64)
    for made, expected in [
        (x.new(2, 3), [[0] * 3] * 2), (x.new([1, 2]), [1, 2]), (x.new_zeros(2), [0, 0]), (x.new_ones((1, 2)), [[1, 1]]),
        (x.new_full((2,), 3), [3, 3]), (x.new_tensor([4, 5]), [4, 5]), (x.new_empty(1), [0]), (x.new(), []),
    ]:  # fmt: skip
        assert made.tolist() == expected and made.dtype == z2g.float64 and made.device == x.device
    assert x.new_ones(1, dtype=z2g.int64).dtype == z2g.int64 and x.long().new_full((1,), 3.7).tolist() == [3]
    assert x.new_zeros(1, requires_grad=True).requires_grad
    assert x.nelement() == 2 and x.ndimension() == 1


def test_resize(device):
    x = z2g.arange(4).float()
    assert x.resize_(2, 2).tolist() == [[0, 1], [2, 3]] and x.resize_(3).tolist() == [0, 1, 2]
    assert x.resize_((2, 3)).tolist() == [[0, 1, 2], [0, 0, 0]]
    assert z2g.ones(4).resize_as_(z2g.zeros(2, 2)).shape == (2, 2)
    with pytest.raises(RuntimeError, match="reshape"):
        z2g.ones(2, requires_grad=True).resize_(1)
    with pytest.raises(RuntimeError, match="contiguous"):
        z2g.ones(2, 3).t().resize_(6)


def test_default_types_and_devices(device):
    try:
        z2g.set_default_tensor_type("torch.DoubleTensor")
        assert z2g.ones(1).dtype == z2g.float64 and z2g.ones(1).device.type == "cpu"
        z2g.set_default_tensor_type(z2g.FloatTensor)
        z2g.set_default_device(device)
        assert z2g.ones(1).dtype == z2g.float32 and z2g.ones(1).device.type == z2g.get_default_device().type == device
        with pytest.raises(ValueError, match=r"torch\.Floaty"):
            z2g.set_default_tensor_type("torch.Floaty")
    finally:
        z2g.set_default_dtype(z2g.float32)
        z2g.set_default_device(None)


# --- Written over x ----------------------------------------------------------------------------------------------

M = [[0.5, -0.75], [0.25, 0.625]]
ALONE = [
    "abs", "neg", "square", "exp", "expm1", "sin", "cos", "tan", "tanh", "sigmoid", "relu", "erfinv", "floor",
    "ceil", "round", "trunc", "sign", "nan_to_num", "tril", "triu", "t", "erf", "sinh",
    "cosh", "asin", "acos", "atan",
]  # fmt: skip
POSITIVE = ["sqrt", "rsqrt", "reciprocal", "log", "log2", "log10", "log1p"]
WITH_NUMBERS = {
    "clip": (-0.5, 0.5), "clamp_min": (0.0,), "clamp_max": (0.0,), "fmod": (0.4,), "subtract": (2.0,),
    "multiply": (2.0,), "divide": (4.0,), "transpose": (0, 1), "swapaxes": (0, 1), "swapdims": (0, 1),
    "unsqueeze": (1,), "squeeze": (0,),
}  # fmt: skip
WITH_TENSORS = {
    "lerp": (M, 0.25), "addcmul": (M, M), "addcdiv": (M, M), "addmm": (M, M),
    "addr": ([1.0, 2.0], [3.0, 4.0]),
}  # fmt: skip


@pytest.mark.parametrize("name", [*ALONE, *POSITIVE, *WITH_NUMBERS, *WITH_TENSORS])
def test_in_place_is_the_operation_written_over_x(device, name):
    """The same numbers and gradients as out of place, and x itself is what comes back."""
    args = [T(a) if isinstance(a, list) else a for a in (WITH_NUMBERS | WITH_TENSORS).get(name, ())]
    start = T(M).abs() if name in POSITIVE else T(M)
    results = []
    for inplace in (False, True):
        x = start.clone().requires_grad_()
        y = x * 1
        z = getattr(y, name + "_" * inplace)(*args)
        assert (z is y) == inplace
        (z * T([[1.0, 2.0], [3.0, 4.0]]).reshape(z.shape)).sum().backward()
        results.append((host(z).tolist(), host(x.grad).tolist()))
    assert results[0] == results[1]
    leaf = start.clone().requires_grad_()
    with pytest.raises(RuntimeError, match="leaf"):
        getattr(leaf, f"{name}_")(*args)


def test_a_view_follows_a_turn_in_place():
    x = T(M, requires_grad=True)
    y = x * 2
    row = y[0]
    y.t_()
    row += 1
    assert y.tolist() == [[2.0, 0.5], [-0.5, 1.25]]
    (y * T([[1.0, 10.0], [100.0, 1000.0]])).sum().backward()
    assert x.grad.tolist() == [[2, 200], [20, 2000]]


TURNS = {  # what is turned, how, and the shape of x[...] after it
    "t_": (lambda x: x.t_(), (3, 2)),
    "transpose_": (lambda x: x.transpose_(dim0=0, dim1=-1), (3, 2)),
    "unsqueeze_": (lambda x: x.unsqueeze_(dim=1), (2, 1, 3)),
    "squeeze_": (lambda x: x.unsqueeze_(0).squeeze_(dim=0), (2, 3)),
    "all of them": (lambda x: x.t_().unsqueeze_(0).swapaxes_(0, 2).squeeze_(), (2, 3)),
}


@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize("view", [False, True])
@pytest.mark.parametrize("turn, shape", TURNS.values(), ids=TURNS)
def test_a_turn_in_place_keeps_the_history_and_what_retain_grad_asked_for(device, turn, shape, view, recorded):
    """Under no_grad, too: else gradients would end there without a word (in torch backward raises)."""
    x = T([[0.5, 1.0, 2.0], [3.0, -1.0, 4.0]], requires_grad=True)
    whole = (x * 2).reshape(1, 2, 3)
    y = whole[0] if view else x * 2
    y.retain_grad()
    with z2g.set_grad_enabled(recorded):
        assert turn(y) is y
    assert y.shape == shape and not y.is_leaf
    y.mul_(3)
    (y * y).sum().backward()
    assert x.grad.tolist() == (72 * x).tolist()
    assert y.grad.shape == shape and y.grad.tolist() == (2 * y).tolist()


def test_a_turn_of_what_has_no_history(device):
    x = T([[0.5, 1.0, 2.0]], requires_grad=True)
    with z2g.no_grad():
        x.t_()
    assert x.is_leaf and x.requires_grad and x.shape == (3, 1)
    (x * x).sum().backward()
    assert x.grad.tolist() == [[1], [2], [4]]
    y = T([[0.5, 1.0]])
    assert not y.t_().requires_grad and y.is_leaf


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (4, 2), (0, 0), (3, 3, 3), (2, 2, 2, 2), (1, 1, 1)])
def test_the_diagonal_of_any_cube(device, shape):
    """Where all indices are equal. torch refuses what is neither a matrix nor a cube."""
    x = z2g.ones(shape, requires_grad=True)
    y = x * 2
    assert y.fill_diagonal_(7) is y
    on = np.all(np.indices(shape) == np.indices(shape)[0], 0)
    assert y.tolist() == np.where(on, 7, 2).tolist()
    y.sum().backward()
    assert x.grad.tolist() == np.where(on, 0, 2).tolist()
    for other in ((3,), (), (2, 2, 3)):
        with pytest.raises(RuntimeError, match="fill_diagonal_: got shape"):
            z2g.zeros(other).fill_diagonal_(1)


def test_slices_of_a_number(device):
    """A 0-d tensor counts as one slice, as in torch."""
    x, s = z2g.tensor(2.0, requires_grad=True), z2g.tensor([5.0], requires_grad=True)
    for index in (T([0]), T(0), T([-1])):
        assert x.index_fill(0, index, 3.0).tolist() == 3 and x.index_copy(-1, index, s).tolist() == 5
    (x.index_copy(0, T([0]), s) + x.index_add(0, T([0]), s[0])).backward()
    assert x.grad.tolist() == 1 and s.grad.tolist() == [2]
    y = z2g.tensor(2.0)
    assert y.index_fill_(0, T([0]), 4.0).tolist() == 4 == y.tolist()
    if device == "cpu":  # nobody looks on a card
        with pytest.raises(IndexError, match="1 is out of range"):
            x.index_fill(0, T([1]), 3.0)


def test_more_in_place(device):
    assert T([1.0, 0.0]).logical_and_(T([1.0, 1.0])).tolist() == [1, 0]
    assert T([1.0, 0.0]).logical_or_(T([0.0, 0.0])).tolist() == [1, 0] and T([True]).logical_not_().tolist() == [False]
    assert z2g.zeros(2, 3).fill_diagonal_(5).tolist() == [[5, 0, 0], [0, 5, 0]]
    x = z2g.ones(1, requires_grad=True)
    assert (x * 2).detach_().is_leaf
    if device == "cpu":
        assert T([1.0, 2.0]).apply_(lambda v: v * 10).tolist() == [10, 20]
    z = z2g.zeros(3)
    assert z.index_put_((T([0, 0]),), T([1.0, 2.0]), accumulate=True).tolist() == [3, 0, 0]
    assert z.masked_scatter_(T([False, True, True]), T([7.0, 8.0])).tolist() == [3, 7, 8]
    assert z.scatter_reduce_(0, T([0]), T([1.0]), "mean").tolist() == [2, 7, 8]
    assert z2g.ones(2).addmv_(z2g.ones(2, 3), z2g.ones(3), beta=2).tolist() == [5, 5]
    assert z2g.zeros(1, 2, 2).baddbmm_(z2g.ones(1, 2, 1), z2g.ones(1, 1, 2)).sum().item() == 4
    assert z2g.zeros(2, 2).addbmm_(z2g.ones(3, 2, 1), z2g.ones(3, 1, 2)).tolist() == [[3, 3], [3, 3]]


def test_filled_at_random(device):
    n = 4000
    for fill, mean, spread in [
        (lambda x: x.exponential_(2.0), 0.5, 0.5), (lambda x: x.bernoulli_(0.25), 0.25, 0.44),
        (lambda x: x.geometric_(0.5), 2, 1.42), (lambda x: x.random_(10), 4.5, 2.9),
        (lambda x: x.random_(5, 7), 5.5, 0.5),
        (lambda x: x.log_normal_(0.0, 0.25), math.exp(0.03125), 0.26),
    ]:  # fmt: skip
        z2g.manual_seed(1)
        drawn = host(fill(z2g.zeros(n)))
        assert drawn.mean() == pytest.approx(mean, abs=5 * spread / math.sqrt(n))
        z2g.manual_seed(1)
        assert np.array_equal(host(fill(z2g.zeros(n))), drawn)
    assert set(z2g.zeros(50).random_(2).tolist()) == {0, 1}
    assert z2g.zeros(5, dtype=z2g.int64).random_().max().item() > 2**40
    assert np.isfinite(host(z2g.zeros(5).cauchy_())).all()
    assert z2g.full((4,), 1.0).bernoulli().tolist() == [1] * 4 and z2g.zeros(2).bernoulli(1.0).tolist() == [1, 1]
    assert z2g.bernoulli(z2g.zeros(3), 1.0).tolist() == [1, 1, 1]
    for wrong in (lambda x: x.random_(3, 3), lambda x: x.bernoulli_(2.0), lambda x: x.exponential_(0.0),
                  lambda x: x.geometric_(0.0)):  # fmt: skip
        with pytest.raises(RuntimeError):
            wrong(z2g.zeros(1))


# --- Places and counts -------------------------------------------------------------------------------------------


def lists(result):
    return [part.tolist() for part in result] if isinstance(result, tuple) else result.tolist()


X = [3, 1, 3, 0, 1]
ROWS = [[1, 2], [1, 2], [0, 1]]


@pytest.mark.parametrize("call, expected", [
    (lambda: T([[0, 5], [6, 0]]).nonzero(), [[0, 1], [1, 0]]),
    (lambda: T([[0, 5], [6, 0]]).nonzero(as_tuple=True), [[0, 1], [1, 0]]),
    (lambda: z2g.argwhere(T([0, 2, 3])), [[1], [2]]), (lambda: z2g.nonzero(T(3.0)), [[]]),
    (lambda: z2g.where(T([False, True])), [[1]]),
    (lambda: T(X).unique(), [0, 1, 3]), (lambda: T(X).unique(return_counts=True), [[0, 1, 3], [1, 2, 2]]),
    (lambda: T(X).unique(return_inverse=True), [[0, 1, 3], [2, 1, 2, 0, 1]]),
    (lambda: T(ROWS).unique(dim=0, return_inverse=True, return_counts=True), [[[0, 1], [1, 2]], [1, 1, 0], [1, 2]]),
    (lambda: z2g.unique_consecutive(T([1, 1, 2, 1]), return_inverse=True, return_counts=True),
     [[1, 2, 1], [0, 0, 1, 2], [2, 1, 1]]),
    (lambda: z2g.unique_consecutive(T(ROWS), dim=0), [[1, 2], [0, 1]]),
    (lambda: z2g.isin(T(X), T([1, 0])), [False, True, False, True, True]),
    (lambda: z2g.isin(T(X), T([1, 0]), invert=True), [True, False, True, False, False]),
    (lambda: T(X).bincount(), [1, 2, 0, 2]), (lambda: T(X).bincount(minlength=5), [1, 2, 0, 2, 0]),
    (lambda: T(X).bincount(T([1.0, 2.0, 3.0, 4.0, 5.0])), [4, 7, 0, 4]),
    (lambda: z2g.histc(T([1.0, 2.0, 1.0]), 4, 0, 3), [0, 2, 1, 0]), (lambda: z2g.histc(z2g.ones(3), 4), [0, 0, 3, 0]),
    (lambda: z2g.searchsorted(T([1, 3, 5, 7, 9]), T([3, 6, 9])), [1, 3, 4]),
    (lambda: z2g.searchsorted(T([1, 3, 5, 7, 9]), T([3, 6, 9]), right=True), [2, 3, 5]),
    (lambda: z2g.searchsorted(T([[1, 3], [2, 4]]), T([[3], [3]]), side="right"), [[2], [1]]),
    (lambda: z2g.searchsorted(T([1, 3, 5]), 4), 2),
    (lambda: z2g.bucketize(T([[0.5, 2.0]]), T([1.0, 2.0, 3.0])), [[0, 1]]),
    (lambda: z2g.tril_indices(2, 3), [[0, 1, 1], [0, 0, 1]]), (lambda: z2g.triu_indices(2, 2, 1), [[0], [1]]),
    (lambda: z2g.logspace(-1, 1, 3), [0.10000000149011612, 1, 10]),
    (lambda: z2g.logspace(0, 3, 4, base=2), [1, 2, 4, 8]), (lambda: z2g.scalar_tensor(3), 3.0),
    (lambda: T([5, 3]).mode(), [3, 1]), (lambda: T([2, 1, 2, 1]).mode(), [1, 3]),
    (lambda: T([1, 2, 3, 4]).median(), 2), (lambda: T([1.0, math.nan, 3.0]).nanmedian(), 1.0),
    (lambda: T([1, 3, 3, 2]).cummax(0), [[1, 3, 3, 3], [0, 1, 2, 2]]),
    (lambda: T([math.inf, math.nan, 1.0]).nan_to_num(), [3.4028234663852886e38, 0, 1]),
    (lambda: z2g.heaviside(T([-1.0, 0.0, 2.0]), T(0.5)), [0, 0.5, 1]),
    (lambda: z2g.signbit(T([-1.0, -0.0, 2.0])), [True, True, False]),
    (lambda: z2g.isposinf(T([math.inf, -math.inf])), [True, False]), (lambda: z2g.isneginf(T([-math.inf])), [True]),
    (lambda: z2g.logical_xor(T([True, True]), T([True, False])), [False, True]),
    (lambda: z2g.bitwise_and(T([5, 3]), 6), [4, 2]), (lambda: z2g.bitwise_left_shift(T([1, 2]), 2), [4, 8]),
    (lambda: z2g.combinations(T([1, 2]), 0), []),
    (lambda: T([1.0, 2.0]).scatter_reduce(0, T([0, 0]), T([5.0, 3.0]), "amax"), [5, 2]),
    (lambda: T([1.0, 2.0]).scatter_reduce(0, T([0, 0]), T([5.0, 3.0]), "prod", include_self=False), [15, 2]),
])  # fmt: skip
def test_places_counts_and_steps(device, call, expected):
    assert lists(call()) == expected


@pytest.mark.parametrize("call", [
    lambda: z2g.bincount(T([-1])), lambda: z2g.bincount(T([[1]])), lambda: z2g.histc(T([1])),
    lambda: z2g.histc(T([1.0]), 0), lambda: z2g.searchsorted(T([[1, 2]]), T([1, 2, 3])),
    lambda: z2g.searchsorted(T([1]), T([1]), side="top"), lambda: z2g.bucketize(1, T([[1]])),
    lambda: z2g.meshgrid(z2g.ones(2, 2)), lambda: z2g.meshgrid(T([1]), indexing="ji"),
    lambda: z2g.cartesian_prod(z2g.ones(2, 2)), lambda: z2g.tensor_split(z2g.ones(3), 0),
    lambda: z2g.hsplit(z2g.ones(3), 2), lambda: z2g.rot90(z2g.ones(2, 2), 1, (0, 0)),
    lambda: z2g.ones(3).unfold(0, 4, 1), lambda: z2g.fliplr(z2g.ones(2)),
    lambda: z2g.addmm(z2g.ones(4), z2g.ones(2, 3), z2g.ones(3, 3)), lambda: z2g.cross(z2g.ones(4), z2g.ones(4)),
    lambda: z2g.cdist(z2g.ones(3), z2g.ones(3)), lambda: z2g.cdist(z2g.ones(1, 3), z2g.ones(1, 3), -1.0),
    lambda: z2g.ones(2).kthvalue(3), lambda: z2g.quantile(z2g.ones(2), 1.5), lambda: z2g.quantile(T([1]), 0.5),
    lambda: z2g.quantile(z2g.ones(2), 0.5, interpolation="near"), lambda: z2g.vander(z2g.ones(2, 2)),
    lambda: z2g.ones(2).index_copy(0, T([0]), z2g.ones(2)), lambda: z2g.ones(2).index_fill(0, T([0]), z2g.ones(2)),
    lambda: z2g.ones(3).masked_scatter(T([True] * 3), z2g.ones(2)), lambda: z2g.matrix_power(z2g.ones(2, 3), 2),
    lambda: z2g.ones(2).scatter_reduce(0, T([0]), z2g.ones(1), "max"), lambda: z2g.trace(z2g.ones(2)),
    lambda: linalg.inv(z2g.ones(2, 3)), lambda: linalg.inv(z2g.zeros(2, 2)), lambda: linalg.inv(T([[1]])),
    lambda: linalg.cholesky(-z2g.eye(2)), lambda: linalg.solve(z2g.eye(2), z2g.ones(3)),
    lambda: linalg.qr(z2g.eye(2), "x"), lambda: linalg.matrix_norm(z2g.eye(2), 3),
    lambda: linalg.norm(z2g.ones(1, 1, 1), 2), lambda: z2g.norm(z2g.ones(2), "x"),
])  # fmt: skip
def test_what_is_refused(call):
    with pytest.raises(RuntimeError):
        call()


def test_what_has_no_gradient_says_so():
    x = z2g.ones(2, 3, requires_grad=True)
    with pytest.raises(NotImplementedError, match="full_matrices"):
        linalg.svd(x).U.sum().backward()
    with pytest.raises(NotImplementedError, match="reduced"):
        linalg.qr(x)
    with pytest.raises(NotImplementedError, match="amax"):
        x[0].scatter_reduce(0, T([0]), z2g.ones(1), "amax")
    with pytest.raises(NotImplementedError, match="weights"):
        x.cov(fweights=z2g.ones(3))


def test_norms(device):
    a = np.array([[1.0, -2.0, 0.5], [0.25, 3.0, -1.5]])
    A = T(a)
    for order in ("fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf):
        assert linalg.norm(A, order).item() == pytest.approx(np.linalg.norm(a, order))
        assert linalg.matrix_norm(A.T, order, dim=(1, 0), keepdim=True).shape == (1, 1)
    for order in (0, 1, 2, 3.5, np.inf, -np.inf):
        np.testing.assert_allclose(host(linalg.norm(A, order, dim=1)), np.linalg.norm(a, order, axis=1))
        np.testing.assert_allclose(host(linalg.vector_norm(A, order)), np.linalg.norm(a.reshape(-1), order))
    assert linalg.norm(A).item() == pytest.approx(np.linalg.norm(a))
    s = np.array([[2.0, 1.0], [0.5, 3.0]])
    for p in (None, 1, "fro", -2):
        assert linalg.cond(T(s), p).item() == pytest.approx(np.linalg.cond(s, p))
    np.testing.assert_allclose(host(linalg.matrix_power(T(s), -2)), np.linalg.matrix_power(s, -2))
    np.testing.assert_allclose(host(linalg.multi_dot([T(s), T(s), T(s)])), s @ s @ s)
    np.testing.assert_allclose(host(linalg.eigvalsh(T(s + s.T))), np.linalg.eigvalsh(s + s.T))
    assert linalg.matrix_rank(T([[1.0, 2.0], [2.0, 4.0]])).item() == 1
    assert linalg.vecdot(T([1.0, 2.0]), T([3.0, 4.0])).item() == 11
    assert linalg.vander(T([2.0]), N=3).tolist() == [[1, 2, 4]] and linalg.diagonal(T(s)).tolist() == [2, 3]
    found = linalg.lstsq(T(a.T), T(np.ones((3, 1))), driver="gels")
    expected = np.linalg.lstsq(a.T, np.ones((3, 1)), rcond=None)
    np.testing.assert_allclose(host(found.solution), expected[0])
    np.testing.assert_allclose(host(found.residuals), expected[1])
    check_grad(lambda x: linalg.norm(x, "nuc"), [a])
    zero = z2g.zeros(2, requires_grad=True)
    (zero.norm(3) + z2g.cdist(zero.reshape(1, 2), z2g.zeros(1, 2)).sum()).backward()
    assert zero.grad.tolist() == [0, 0]  # at 0 no direction is preferred, and nothing is NaN


# --- Printing ----------------------------------------------------------------------------------------------------


@pytest.fixture
def as_before():
    yield
    z2g.set_printoptions(profile="default")


PRINTED = [
    (T([0.5, -1.25]), {}, "tensor([ 0.5000, -1.2500])"), (T([1.0, -2.0]), {}, "tensor([ 1., -2.])"),
    (T([1.0, 10000.0]), {}, "tensor([1.0000e+00, 1.0000e+04])"),
    (T([1e-5, 1.0]), {}, "tensor([1.0000e-05, 1.0000e+00])"),
    (T([1.0, math.inf, math.nan]), {}, "tensor([1., inf, nan])"), (T([0.5, math.inf]), {}, "tensor([0.5000,    inf])"),
    (T(3), {}, "tensor(3)"), (T([True, False]), {}, "tensor([ True, False])"), (T([]), {}, "tensor([])"),
    (z2g.zeros(2, 0), {}, "tensor([], size=(2, 0))"),
    (T([[1, 20], [3, 4]]), {}, "tensor([[ 1, 20],\n        [ 3,  4]])"),
    (z2g.zeros(2, 1, 1), {}, "tensor([[[0.]],\n\n        [[0.]]])"),
    (T([0.123456]), {"precision": 2}, "tensor([0.12])"), (T([0.5]), {"sci_mode": True}, "tensor([5.0000e-01])"),
    (T([1e-6]), {"sci_mode": False, "precision": 7}, "tensor([0.0000010])"),
    (z2g.arange(10), {"threshold": 5, "edgeitems": 2}, "tensor([0, 1,  ..., 8, 9])"),
    (z2g.arange(10), {"linewidth": 20}, "tensor([0, 1, 2, 3,\n        4, 5, 6, 7,\n        8, 9])"),
    (z2g.zeros(2000), {}, "tensor([0., 0., 0.,  ..., 0., 0., 0.])"),
    (T([0.123456]), {"profile": "short"}, "tensor([0.12])"),
    (z2g.ones(6, dtype=z2g.float64), {"linewidth": 30}, "tensor([1., 1., 1., 1., 1.,\n        1.], dtype=float64)"),
    (z2g.ones(3, dtype=z2g.float64), {"linewidth": 24}, "tensor([1., 1., 1.],\n       dtype=float64)"),
]  # fmt: skip


@pytest.mark.parametrize("x, options, expected", PRINTED)
def test_numbers_print_as_in_torch(as_before, x, options, expected):
    z2g.set_printoptions(**options)
    assert repr(x) == expected


def test_print_options_of_another_kind(as_before):
    with pytest.raises(ValueError, match="long"):
        z2g.set_printoptions(profile="long")
    z2g.set_printoptions(profile="full")
    assert "..." not in repr(z2g.zeros(2000))


# --- Questions, switches -----------------------------------------------------------------------------------------


def test_questions(device):
    x = z2g.ones(2, 3)
    assert z2g.is_floating_point(x) and not z2g.is_complex(x) and z2g.numel(x) == 6 and z2g.is_nonzero(T(3))
    assert not z2g.is_storage(x) and z2g.typename(3) == "builtins.int" and x.itemsize == 4 and x.H.shape == (3, 2)
    assert x.is_cuda == (device == "cuda") and x.get_device() == (-1 if device == "cpu" else 0)
    assert x.stride() == (3, 1) and x.t().stride(0) == 1 and x.mH.shape == (3, 2)
    assert not (x.is_sparse or x.is_mps or x.is_quantized or x.is_meta)
    assert not (x.is_complex() or x.is_pinned() or x.is_shared())
    assert x.is_signed() and not x.bool().is_signed() and T(1).is_nonzero() and x.is_same_size(x + 1)
    assert x.pin_memory() is x.share_memory_() is x and x.is_set_to(x.detach()) and not x.is_set_to(x + 0)
    assert x.data_ptr() == x.view(6).data_ptr() and x.reshape_as(x.t()).shape == (3, 2)
    assert [x.short().dtype, x.char().dtype, x.byte().dtype] == [z2g.int16, z2g.int8, z2g.uint8]
    assert x.is_cpu == (device == "cpu") and z2g.broadcast_shapes((2, 1), (3,)) == (2, 3)
    assert z2g.positive(x) is x and z2g.detach(x).is_set_to(x) and not z2g.clone(x).is_set_to(x)
    assert T([0.0, 1.0]).multinomial(2, True).tolist() == [1, 1] and z2g.asarray([1.0], copy=True).tolist() == [1]
    with pytest.raises(TypeError, match="bfloat16"):
        x.bfloat16()
    with pytest.raises(RuntimeError, match="broadcast"):
        z2g.broadcast_shapes((2,), (3,))
    assert x.sum_to_size(1, 3).tolist() == [[2, 2, 2]] and x.sum_to_size(3).tolist() == [2, 2, 2]
    shared = copy.copy(x)
    x += 1
    assert shared.sum().item() == 12
    with pytest.raises(RuntimeError, match="sum_to_size"):
        x.sum_to_size(2, 2)


def test_limits_and_types():
    assert z2g.finfo(z2g.float32).eps == 2**-23 and z2g.finfo().bits == 32 and z2g.finfo(z2g.float16).max == 65504
    assert z2g.finfo(z2g.float64).tiny == 2.2250738585072014e-308 and z2g.iinfo(z2g.int8).min == -128
    assert repr(z2g.iinfo(z2g.uint8)) == "iinfo(min=0, max=255, dtype=uint8)" and "eps" in repr(z2g.finfo())
    assert z2g.promote_types(z2g.int64, z2g.float32) == z2g.float32 and not z2g.can_cast(z2g.float32, z2g.int64)
    assert z2g.result_type(T([1]), 1.5) == z2g.float32 and z2g.result_type(T([1.0]), T(1.0).double()) == z2g.float32
    for call in (lambda: z2g.finfo(z2g.int64), lambda: z2g.iinfo(z2g.float32)):
        with pytest.raises(TypeError, match="info"):
            call()
    table = {"float32": z2g.float32, "bfloat16": z2g.bfloat16}  # as programs write it
    assert repr(table["bfloat16"]) == "bfloat16" and z2g.float32 != z2g.bfloat16
    with pytest.raises(TypeError, match="no bfloat16"):
        z2g.zeros(1, dtype=z2g.bfloat16)


def test_switches_that_change_nothing():
    cudnn = importlib.import_module("tinygrad_z2g.backends.cudnn")
    cudnn.deterministic = True
    assert backends.cudnn.deterministic and not backends.cudnn.is_available() and backends.cudnn.version() is None
    cudnn.deterministic = False
    assert not backends.mps.is_available() and not backends.mps.is_built() and not backends.mkl.is_available()
    backends.cuda.matmul.allow_tf32 = True
    with backends.cuda.sdp_kernel(enable_flash=True):
        backends.cuda.enable_flash_sdp(True)
    z2g.use_deterministic_algorithms(True)
    assert z2g.are_deterministic_algorithms_enabled()
    z2g.use_deterministic_algorithms(False)
    z2g.set_float32_matmul_precision("high")
    assert z2g.get_float32_matmul_precision() == "high"
    z2g.set_float32_matmul_precision("highest")
    with pytest.raises(ValueError, match="low"):
        z2g.set_float32_matmul_precision("low")
    assert z2g.get_num_threads() >= 1


def test_compile_is_the_thing_itself():
    model = z2g.nn.Linear(1, 1)
    assert z2g.compile(model) is model and z2g.compile(model, mode="max-autotune") is model

    @z2g.compile
    def double(x):
        return 2 * x

    @z2g.compile(dynamic=True)
    def triple(x):
        return 3 * x

    assert double(2) == 4 and triple(2) == 6
    with pytest.raises(TypeError, match="compile"):
        z2g.compile(3)


def test_random_state():
    z2g.manual_seed(5)
    state = z2g.get_rng_state()
    first = z2g.rand(3).tolist()
    with z2g.random.fork_rng():
        z2g.manual_seed(9)
        z2g.rand(2)
    second = z2g.rand(3).tolist()
    z2g.set_rng_state(state)
    assert z2g.rand(3).tolist() == first and z2g.rand(3).tolist() == second and z2g.initial_seed() == 5
    assert z2g.seed() == z2g.initial_seed() and z2g.cuda.manual_seed_all is z2g.manual_seed


def test_answers_about_cards(device):
    assert not z2g.cuda.is_bf16_supported()
    if device == "cuda":
        assert z2g.cuda.current_device() == 0
    else:
        z2g.cuda.empty_cache()
        assert z2g.cuda.memory_allocated() == z2g.cuda.max_memory_allocated() == 0
        with pytest.raises(RuntimeError, match="cuda"):
            z2g.cuda.current_device()


# --- What there is not -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", absent.ABSENT)
def test_what_there_is_not_says_what_to_do(name):
    place, _, last = f"tinygrad_z2g.{name}".rpartition(".")
    space = importlib.import_module(place)
    if hasattr(space, "__path__"):
        with pytest.raises(ModuleNotFoundError, match=f"tinygrad_z2g.{name}: .{{20}}"):
            importlib.import_module(f"tinygrad_z2g.{name}")
        with pytest.raises(ModuleNotFoundError, match=f"tinygrad_z2g.{name}: .{{20}}"):
            exec(f"from {place} import {last}")
    with pytest.raises(NotImplementedError, match=f"tinygrad_z2g.{name}: .{{20}}"):
        getattr(space, last)
    assert not hasattr(space, last) and getattr(space, last, None) is None


def test_other_names():
    with pytest.raises(AttributeError, match=r"no attribute 'nonsense'; API\.md"):
        z2g.nonsense  # noqa: B018
    with pytest.raises(ModuleNotFoundError, match="nonsense"):
        importlib.import_module("tinygrad_z2g.nonsense")


def test_distributions_are_loaded_when_asked_for():
    code = "import sys, tinygrad_z2g as z; print('tinygrad_z2g.distributions' in sys.modules); z.distributions.Normal"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_wrappers_for_several_gpus():
    model = z2g.nn.DataParallel(z2g.nn.Linear(2, 1), device_ids=[0])
    assert list(model.state_dict()) == ["module.weight", "module.bias"] and model(z2g.ones(3, 2)).shape == (3, 1)
    with pytest.raises(NotImplementedError, match="average_gradients"):
        z2g.nn.parallel.DistributedDataParallel(model)
