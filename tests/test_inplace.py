"""Writing in place, through views of whatever kind: the gradient is that of a computation that copies.

Expected: a forward computation with duals, a value and its derivative by each element of each leaf, pushed forward step
by step. Views are NumPy views of all these arrays, so they say what a write means for whoever shares the memory. They
have nothing in common with the engine: no graph, no versions, no bases. Single values were measured with torch 2.13.
"""

import copy
import operator
import re
import sys
import threading

import numpy as np
import pytest
from engine_tools import MODIFIED, OPS, assert_close, backward, const, cotangent, host, inputs_of, leaf, numbers, rng
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_z2g as z2g
from tinygrad_z2g.autograd import Function
from tinygrad_z2g.nn import functional as F

MANY = max(600, settings().max_examples)  # an example takes some ms, and the interesting programs are rare


# --- Duals -------------------------------------------------------------------------------------------------------


class Dual:
    """A value, and its derivative by each of the parameters, arrays of the same shape."""

    def __init__(self, value, slopes):
        self.value, self.slopes = value, slopes

    def map(self, f):
        """A view, or another linear f of one array."""
        return Dual(f(self.value), [f(slope) for slope in self.slopes])

    def put(self, other, where=slice(None)):
        """Write, so that all who share the memory see it."""
        for mine, theirs in zip([self.value, *self.slopes], [other.value, *other.slopes], strict=True):
            mine[where] = theirs.copy()

    def detach(self):
        """The numbers shared, the derivatives not."""
        return Dual(self.value, [np.zeros_like(slope) for slope in self.slopes])


def lift(f, *duals):
    """f of arrays, analytic in all of them, and its derivatives: those of a step into the imaginary direction."""
    step = 1e-30
    value = f(*(d.value.copy() for d in duals))
    slopes = []
    for p in range(len(duals[0].slopes)):
        slopes.append(np.imag(f(*(d.value + 1j * step * d.slopes[p] for d in duals))) / step)
    return Dual(np.array(value), [np.array(slope) for slope in slopes])


def attend(q, k, v):
    s = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
    p = np.exp(s - s.real.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True) @ v


def gelu(x, b):
    u = np.sqrt(2 / np.pi) * ((x + b) + 0.044715 * (x + b) ** 3)
    return 0.5 * (x + b) * (1 + np.tanh(u))


class Product(Function):
    """Saves its inputs, like most."""

    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return x * y

    @staticmethod
    def backward(ctx, grad):
        x, y = ctx.saved_tensors
        return grad * y, grad * x


class SumAndThird(Function):
    """Two results, one of which a read-only rule makes of one input."""

    @staticmethod
    def forward(ctx, x, y):
        return x + y, y / 3

    @staticmethod
    def backward(ctx, of_sum, of_third):
        return of_sum, of_sum + of_third / 3


# --- Random programs ---------------------------------------------------------------------------------------------


def silently(x, y):
    with z2g.no_grad():
        x.mul_(0.5)


def halve_silently(dual):
    dual.value[...] *= 0.5  # the derivatives stay, as in torch


def increase(x, y):
    x += y


def add_to_first(x, y):
    x[0] += 1
    x[-1] *= 3


def add_to_first_dual(dual):
    dual.value[0] += 1
    dual.map(lambda a: a[-1:]).put(dual.map(lambda a: a[-1:] * 3))


def write(f):
    """A write of what f makes of the arrays of x (and y) over all of x."""
    return lambda a, b: a.put(lift(lambda x, y: f(x, y) + 0 * x, a, b))


def write_part(index, f):
    def on_duals(a, b):
        part = a.map(lambda v: v[index])
        part.put(lift(lambda x, y: f(x, y) + 0 * x, part, b.map(lambda v: v[index])))

    return on_duals


# name: (on tensors, on duals, what shapes it needs). Writes; the second tensor has the shape of the first
WRITES = {
    "mul_ number": (lambda x, y: x.mul_(0.5), write(lambda x, y: 0.5 * x)),
    "add_": (lambda x, y: x.add_(y, alpha=2), write(lambda x, y: x + 2 * y)),
    "sub_": (lambda x, y: x.sub_(y), write(lambda x, y: x - y)),
    "+=": (increase, write(lambda x, y: x + y)),
    "mul_": (lambda x, y: x.mul_(y.clone()), write(lambda x, y: x * y)),
    "div_": (lambda x, y: x.div_(3 + y.clone().square()), write(lambda x, y: x / (3 + y * y))),
    "pow_": (lambda x, y: x.pow_(2), write(lambda x, y: x * x)),
    "copy_": (lambda x, y: x.copy_(y), write(lambda x, y: y)),
    "copy_ of a sum": (lambda x, y: x.copy_(y + x), write(lambda x, y: x + y)),
    "fill_": (lambda x, y: x.fill_(0.25), write(lambda x, y: 0.25)),
    "zero_": (lambda x, y: x.zero_(), write(lambda x, y: 0)),
    "x[0] = y[0]": (lambda x, y: x.__setitem__(0, y[0]), write_part(slice(1), lambda x, y: y)),
    "x[..., -1] = 1": (lambda x, y: x.__setitem__((..., -1), 1), write_part((..., slice(-1, None)), lambda x, y: 1)),
    "x[[0]] = y[[0]]": (lambda x, y: x.__setitem__([0], y[[0]]), write_part(slice(1), lambda x, y: y)),
    "x[0] += 1; x[-1] *= 3": (add_to_first, lambda a, b: add_to_first_dual(a)),
    "no_grad": (silently, lambda a, b: halve_silently(a)),
}  # fmt: skip
VIEWS = {
    "x[0]": (lambda x: x[0], lambda a: a[0]),
    "x[-1]": (lambda x: x[-1], lambda a: a[-1]),
    "x[1:]": (lambda x: x[1:], lambda a: a[1:]),
    "x[..., 0]": (lambda x: x[..., 0], lambda a: a[..., 0]),
    "x[..., None, 1:]": (lambda x: x[..., None, 1:], lambda a: a[..., None, 1:]),
    "x[..., ::2]": (lambda x: x[..., ::2], lambda a: a[..., ::2]),
    "x[::-1]": (lambda x: x[::-1], lambda a: a[::-1]),
    "T": (lambda x: x.T, lambda a: a.T),
    "transpose": (lambda x: x.transpose(0, -1), lambda a: a.swapaxes(0, -1)),
    "unsqueeze": (lambda x: x.unsqueeze(-1), lambda a: a[..., None]),
    "squeeze": (lambda x: x.squeeze(), np.squeeze),
    "narrow": (lambda x: x.narrow(0, 0, 1), lambda a: a[:1]),
    "select": (lambda x: x.select(-1, 0), lambda a: a[..., 0]),
    "unbind": (lambda x: x.unbind()[-1], lambda a: a[-1]),
    "split": (lambda x: x.split(1)[0], lambda a: a[:1]),
    "chunk": (lambda x: x.chunk(2, -1)[0], lambda a: a[..., : -(-a.shape[-1] // 2)]),
    "flatten": (lambda x: x.view(-1), lambda a: a.reshape(-1)),
    "reshape": (lambda x: x.reshape(1, -1), lambda a: a.reshape(1, -1)),
    "diagonal": (lambda x: x.diagonal(), lambda a: np.lib.stride_tricks.as_strided(
        a, (*a.shape[2:], min(a.shape[:2])), (*a.strides[2:], a.strides[0] + a.strides[1]))),
    "expand": (lambda x: x.unsqueeze(0).expand(1, *x.shape), lambda a: a[None]),
    "repeated": (lambda x: x.unsqueeze(0).expand(2, *x.shape), lambda a: np.lib.stride_tricks.as_strided(
        a, (2, *a.shape), (0, *a.strides))),
}  # fmt: skip
COPIES = {
    "+": (lambda x, y: x + y, lambda x, y: x + y),
    "* 2": (lambda x, y: x * 2, lambda x, y: x * 2),
    "cat": (lambda x, y: z2g.cat([x, y]), lambda x, y: np.concatenate([x, y])),
    "stack": (lambda x, y: z2g.stack([y, x], -1), lambda x, y: np.stack([y, x], -1)),
    "sum": (lambda x, y: x.sum(0), lambda x, y: x.sum(0)),
    "advanced index": (lambda x, y: x[[0, -1, 0]], lambda x, y: x[[0, -1, 0]]),
    "clone": (lambda x, y: x.clone(), lambda x, y: x.copy()),
    "Function": (SumAndThird.apply, lambda x, y: x + y),  # its first result
    "Function, saving": (Product.apply, lambda x, y: x * y),
    "attention": (lambda x, y: F.scaled_dot_product_attention(x, y, y), lambda x, y: attend(x, y, y)),
    "bias_gelu": (lambda x, y: F.bias_gelu(x, y, "tanh"), gelu),
    "tanh": (lambda x, y: x.tanh(), lambda x, y: np.tanh(x)),
    "linear": (lambda x, y: F.linear(x, y), lambda x, y: x @ y.T),
}
STEPS = {**WRITES, **VIEWS, **COPIES, "detach": None}


class Entry:
    """A tensor, its dual, and the family it belongs to: "leaf" if writes must be refused."""

    def __init__(self, x, dual, family):
        self.x, self.dual, self.family = x, dual, family


def fits(name, x, y):
    """Whether a step can be taken with operands of these shapes, which are of 0 to 4 dimensions."""
    if not x.ndim or 0 in x.shape or x.ndim > 3:
        return name in ("detach", "clone", "* 2") and 0 not in x.shape
    if name in WRITES:
        repeated = any(n > 1 and s == 0 for n, s in zip(x.shape, x.strides, strict=True))
        return x.shape == y.shape and not repeated
    if name == "diagonal":
        return x.ndim > 1
    if name in ("flatten", "reshape"):
        return x.flags.c_contiguous
    if name in VIEWS or name in ("detach", "sum", "advanced index", "clone", "tanh", "* 2"):
        return True
    if name == "attention":
        return x.ndim == 2 and y.ndim == 2 and x.shape[1] == y.shape[1]
    if name == "bias_gelu":
        return y.ndim == 1 and x.shape[-1:] == y.shape
    if name == "linear":
        return y.ndim == 2 and x.shape[-1:] == y.shape[-1:]
    return x.shape == y.shape


def start(seed):
    """A leaf, a result, two buffers without history and a leaf for them to take up, with their duals."""
    arrays = [rng(seed + i).uniform(-1, 1, shape) for i, shape in enumerate([(2, 3), (2, 3), (2, 3), (3,), (2, 2, 3)])]
    x, k = leaf(arrays[0]), leaf(arrays[3])
    count = x.numel() + k.numel()
    duals = [Dual(a.copy(), [np.zeros_like(a) for _ in range(count)]) for a in arrays]
    for i in range(count):
        of_leaf, place = (duals[0], i) if i < x.numel() else (duals[3], i - x.numel())
        of_leaf.slopes[i].reshape(-1)[place] = 1
    duals[1] = Dual(arrays[0].copy(), [slope.copy() for slope in duals[0].slopes])
    tensors = [x, x * 1, const(arrays[2]), k, const(arrays[4])]
    families = ["leaf", "", "", "leaf", ""]
    return [Entry(*parts) for parts in zip(tensors, duals, families, strict=True)], [x, k]


def gradients(leaves):
    return np.concatenate([np.zeros(x.numel()) if x.grad is None else host(x.grad).ravel() for x in leaves])


def run(program, seed):
    """Take each step that fits, on tensors and on duals. Returns the entries, the leaves, and what rules will read."""
    entries, leaves = start(seed)
    reads = []
    for name, i, j in program:
        a, b = entries[i % len(entries)], entries[j % len(entries)]
        if not fits(name, a.dual.value, b.dual.value):
            continue
        if name in WRITES:
            if a.family == "leaf" and name != "no_grad":
                with pytest.raises(RuntimeError, match=r"leaf Variable that requires grad|history cannot follow"):
                    WRITES[name][0](a.x, b.x)
                continue
            if name == "no_grad" and a.family == "leaf":
                continue  # the rules that have read it would refuse, and that is tried elsewhere
            WRITES[name][0](a.x, b.x)
            WRITES[name][1](a.dual, b.dual)
            continue
        if name == "detach":
            entry = Entry(a.x.detach(), a.dual.detach(), "leaf memory" if a.family else "")
        elif name in VIEWS:
            on_tensors, on_arrays = VIEWS[name]
            entry = Entry(on_tensors(a.x), a.dual.map(on_arrays), a.family)
        else:
            on_tensors, on_arrays = COPIES[name]
            z = on_tensors(a.x, b.x)
            if name in ("attention", "Function, saving", "tanh", "linear"):
                reads += [(t, t._version) for t in (a.x, b.x, z if name == "tanh" else a.x)]
            entry = Entry(z[0] if isinstance(z, tuple) else z, lift(on_arrays, a.dual, b.dual), "")
        if np.abs(entry.dual.value).max(initial=0) < 100 and entry.family != "leaf memory":
            entries.append(entry)
    return entries, leaves, reads


programs = st.lists(
    st.tuples(
        st.one_of(*(st.sampled_from(sorted(kind)) for kind in (WRITES, VIEWS, COPIES)), st.just("detach")),
        st.integers(0, 12), st.integers(0, 12),
    ),
    min_size=2, max_size=12,
)  # fmt: skip


@settings(max_examples=MANY)
@given(programs, st.integers(0, 1000))
def test_random_programs_of_writes_and_views(device, program, seed):
    """No step is refused but a write to a leaf; no walk, unless what a rule reads was written to; all are right."""
    entries, leaves, reads = run(program, seed)
    for entry in entries:
        assert_close(entry.x, entry.dual.value)
    spoilt = any(x._version != version for x, version in reads)
    for n, entry in enumerate(entries):
        for x in leaves:
            x.grad = None
        w = cotangent(entry.x, seed=n)
        expected = np.array([(w * slope).sum() for slope in entry.dual.slopes])
        if not entry.x.requires_grad:
            assert not expected.any()
            continue
        try:
            (entry.x * const(w)).sum().backward(retain_graph=True)
        except RuntimeError as error:
            assert spoilt and MODIFIED in str(error)
            continue
        np.testing.assert_allclose(gradients(leaves), expected, rtol=1e-8, atol=1e-8)


def test_the_random_programs_reach_every_step(device):
    """A step that never fits would be tried by nobody."""
    shapes = [(2, 3), (2, 2, 3), (3,), (2, 2), (1, 2, 3)]
    tried = {
        name for name in STEPS for a in shapes for b in shapes if fits(name, np.zeros(a), np.zeros(b))
    }
    assert tried == set(STEPS)


# --- A view v of y, then a change through one of them, then a use of the other -----------------------------------
# Each gives what is walked back from, for leaves x (4,) and u (); beside it the gradient of x.


def base_changed(x, u):
    y = x * 1
    v = y[1:]
    y *= u.item()
    return v * 1


def view_changed(x, u):
    y = x * 1
    v = y[1:]
    v *= u.item()
    return y * 1


def sister_changed(x, u):
    y = x * 1
    v, s = y[:2], y[1:]
    v *= u.item()
    return s * 1


def view_changed_under_no_grad_too(x, u):
    """The second change must not make the view's outdated history look current."""
    y = x * 1
    v = y[1:]
    y *= u.item()
    with z2g.no_grad():
        v.add_(1)
    return v * 1


def other_part_written_back(x, u):
    """y[0] = v looks like the second half of `y[0] *= u`, but v is not y[0]."""
    y = x * 1
    v = y[1]
    v *= u.item()
    y[0] = v
    return y * 1


def view_of_a_constant_changed(x, u):
    """`buffer[0][0] = ...` writes through the temporary view buffer[0]."""
    buffer = const(np.zeros((2, 4)))
    buffer[0][...] = x
    return buffer[0] + x


def constant_changed_under_a_view(x, u):
    buffer = const(np.zeros((2, 4)))
    row = buffer[0]
    buffer[...] = x
    return row + x


def view_of_a_detached_buffer_changed(x, u):
    """A detached tensor has no history that could go stale, until it takes one up."""
    buffer = const(np.zeros(4)).detach()
    buffer[...] = x
    v = buffer[1:]
    v *= u.item()
    return buffer * 1


def view_of_a_detached_constant_changed(x, u):
    """detach() cuts off the history up to there; what comes later through a view is the detached tensor's own."""
    buffer = const(np.zeros((2, 4))).detach()
    buffer[0][...] = x
    return buffer[0] + x


def detached_constant_changed_under_a_view(x, u):
    buffer = const(np.zeros((2, 4))).detach()
    row = buffer[0]
    buffer[...] = x
    return row + x


FOLLOWING = {
    view_of_a_detached_constant_changed: lambda w: 2 * w,
    detached_constant_changed_under_a_view: lambda w: 2 * w,
    view_of_a_detached_buffer_changed: lambda w: w * [1, 3, 3, 3],
    base_changed: lambda w: [0, *(3 * w)],
    view_changed: lambda w: w * [1, 3, 3, 3],
    view_changed_under_no_grad_too: lambda w: [0, *(3 * w)],
    sister_changed: lambda w: [0, 3 * w[0], w[1], w[2]],
    other_part_written_back: lambda w: [0, 3 * (w[0] + w[1]), w[2], w[3]],
    view_of_a_constant_changed: lambda w: 2 * w,
    constant_changed_under_a_view: lambda w: 2 * w,
}


@pytest.mark.parametrize("f", FOLLOWING, ids=lambda f: f.__name__)
def test_trap_10_views_follow_each_other(device, f):
    x, u = leaf(numbers(4)), leaf(3.0)
    w = backward(f(x, u))
    assert_close(x.grad, FOLLOWING[f](w))


# --- Writes through one view, gradients measured with torch 2.13 --------------------------------------------------
# y = 2 x, x = [[1, 2], [3, 4]]; then Σ y. (torch refuses the views of unbind and split; we have no reason to)

THROUGH = {
    "y[0].mul_(3)": (lambda y: y[0].mul_(3), [[6, 6], [2, 2]]),
    "y[0][1] = 0": (lambda y: y[0].__setitem__(1, 0), [[2, 0], [2, 2]]),
    "y.t()[0] = 0": (lambda y: y.t().__setitem__(0, 0), [[0, 2], [0, 2]]),
    "diagonal().fill_(0)": (lambda y: y.diagonal().fill_(0), [[0, 2], [2, 0]]),
    "view(-1)[1:][::2].mul_(5)": (lambda y: y.view(-1)[1:][::2].mul_(5), [[2, 10], [2, 10]]),
    "y.T.flatten().zero_()": (lambda y: y.t().contiguous().view(-1).zero_(), [[2, 2], [2, 2]]),  # a copy
    "all rows of unbind": (lambda y: [row.mul_(k) for k, row in enumerate(y, 3)], [[6, 6], [8, 8]]),
    "the parts of split": (lambda y: [part.mul_(k) for k, part in enumerate(y.split(1, 1), 3)], [[6, 8], [6, 8]]),
    "y[:, 1].copy_(y[:, 0])": (lambda y: y[:, 1].copy_(y[:, 0]), [[4, 0], [4, 0]]),
    "y[0].clamp_(3)": (lambda y: y[0].clamp_(3), [[0, 2], [2, 2]]),
    "y[1].masked_fill_": (lambda y: y[1].masked_fill_(z2g.tensor([True, False]), 0.0), [[2, 2], [0, 2]]),
    "y[0].scatter_": (lambda y: y[0].scatter_(0, z2g.tensor([1]), value=7.0), [[2, 0], [2, 2]]),
    "relu in place": (lambda y: F.relu(y[0].sub_(3), inplace=True), [[0, 2], [2, 2]]),
    "y[0] %= 3": (lambda y: operator.imod(y[0], 3), [[2, 2], [2, 2]]),
    "y[0] **= 2": (lambda y: operator.ipow(y[0], 2), [[8, 16], [2, 2]]),
    "y[0] //= 3": (lambda y: operator.ifloordiv(y[0], 3), [[0, 0], [2, 2]]),
    "y.expand(1, 2, 2)[0, 0] = 0": (lambda y: y.expand(1, 2, 2).__setitem__((0, 0), 0), [[0, 0], [2, 2]]),
    "y.unsqueeze(0).expand(3, 2, 2)[1] *= 2": (
        lambda y: y.unsqueeze(0).expand(3, 2, 2)[1].mul_(2), [[4, 4], [4, 4]]),
    "normal_": (lambda y: y[0].normal_(), [[0, 0], [2, 2]]),
    "an empty part": (lambda y: y[2:].mul_(3), [[2, 2], [2, 2]]),
    "a dtype that is narrowed": (lambda y: y[0].mul_(z2g.tensor(3.0, dtype=z2g.float64)), [[6, 6], [2, 2]]),
}  # fmt: skip


@pytest.mark.parametrize("change, expected", THROUGH.values(), ids=THROUGH)
@pytest.mark.parametrize("used", ["base", "view taken before"])
def test_a_write_through_a_view_becomes_part_of_the_history(device, change, expected, used):
    x = z2g.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    y = x * 2
    view = y.t()
    change(y)
    (y if used == "base" else view).sum().backward()
    assert x.grad.tolist() == expected and x.grad.dtype == z2g.float32


@pytest.mark.parametrize("strided", ["a slice", "a transpose", "every other", "backwards", "a diagonal"])
def test_the_base_may_lie_in_memory_as_it_likes(device, strided):
    """A detached view is a base of its own, with gaps; so is a result whose order is not that of its dimensions."""
    cut = {
        "a slice": lambda a: a[1:, 1:3], "a transpose": lambda a: a.T, "every other": lambda a: a[::2, ::2],
        "backwards": lambda a: a[::-1, ::-1], "a diagonal": lambda a: a.diagonal()[:, None],
    }[strided]  # fmt: skip
    k = leaf(numbers(1))
    b = cut(const(numbers(4, 4))).detach()
    views = b.t(), b[0], b[..., -1]
    b.t()[:, 0] += k
    expected = np.zeros(tuple(b.shape))
    expected[0] = 1
    for x, share in zip((b, *views), (expected, expected.T, expected[0], expected[..., -1]), strict=True):
        k.grad = None
        w = backward(x, retain_graph=True)
        assert_close(k.grad, [(w * share).sum()])


def test_operations_recorded_jointly_ask_for_the_history_that_is_current(device):
    """Attention over a cache written in place: k.grad was None, without a word. Measured with torch 2.13."""
    k = z2g.tensor([[1.0, 2.0]], requires_grad=True)
    q = z2g.tensor([[[0.5, 1.0]]], requires_grad=True)
    c = z2g.zeros(1, 3, 2)
    c[:, 1].copy_(k)
    F.scaled_dot_product_attention(q, c, c).square().sum().backward()
    np.testing.assert_allclose(k.grad.tolist(), [[1.6116, 3.2231]], atol=1e-4)


JOINT = {
    "attention": lambda c: F.scaled_dot_product_attention(const(numbers(2, 3)), c, c),
    "bias_gelu": lambda c: F.bias_gelu(const(numbers(2, 3)), c[0]),
    "lstm": lambda c: z2g.nn.recurrent.lstm_scan(
        c.t().reshape(3, 1, 4), const(np.ones((1, 1))), const(np.ones((1, 1))), const(np.ones((4, 1))))[0],
    "gru": lambda c: z2g.nn.recurrent.gru_scan(
        c.t().reshape(4, 1, 3), const(np.ones((1, 1))), const(np.ones((3, 1))), const(np.ones(3))),
    "rnn": lambda c: z2g.nn.recurrent.rnn_scan(c.reshape(4, 1, 3), const(np.ones((1, 3))), const(np.ones((3, 3)))),
    "Function": lambda c: Product.apply(const(numbers(4, 3)), c),
    "Function of two results": lambda c: SumAndThird.apply(const(numbers(4, 3)), c)[1],
    "layer_norm": lambda c: F.layer_norm(const(numbers(2, 3)), (3,), c[0], c[1]),
    "linear": lambda c: F.linear(const(numbers(2, 3)), c),
    "cat": lambda c: z2g.cat([const(numbers(4, 3)), c]),
    "conv1d": lambda c: F.conv1d(const(numbers(1, 3, 5)), c.unsqueeze(-1)),
    "a write": lambda c: const(numbers(4, 3)).mul_(c),
    "an assignment": lambda c: (b := const(numbers(4, 3)), b.__setitem__(slice(2), c[:2]))[0],
}  # fmt: skip
FILLED = {
    "a row": lambda c, k: c[0].copy_(k),
    "a row of a row": lambda c, k: c[0][...].copy_(k),
    "columns": lambda c, k: c.t()[:, 0].copy_(k),
    "by an index": lambda c, k: c[1:2].__setitem__([0], k),
    "by +=": lambda c, k: c[:1].add_(k),
    "the whole": lambda c, k: c.copy_(k),
    "flat": lambda c, k: c.view(-1)[:3].copy_(k),
}


@pytest.mark.parametrize("use", JOINT)
@pytest.mark.parametrize("fill", FILLED)
def test_a_plain_buffer_takes_up_what_is_written_through_any_view(device, use, fill):
    """Used by the base and by a view that was taken before: as if the buffer had been computed anew."""
    for view in (lambda c: c, lambda c: c[...]):
        found = []
        for copies in (True, False):
            k, start = leaf(numbers(3)), const(numbers(4, 3, seed=1))
            c = start * 1
            used = view(c)
            FILLED[fill](c, k)
            if copies:  # a new tensor with the history that the writes describe: mask, and k in its place
                mask = const(host(c) != host(start))
                k = leaf(numbers(3))
                used = start * (1 if fill == "by +=" else 1 - mask) + k * mask
            backward(JOINT[use](used))
            found.append(host(k.grad))
        np.testing.assert_allclose(found[1], found[0], rtol=1e-10, atol=1e-12)


# --- What is refused ---------------------------------------------------------------------------------------------


class Same(Function):
    """Returns its input itself."""

    @staticmethod
    def forward(ctx, x):
        return x

    @staticmethod
    def backward(ctx, grad):
        return 5 * grad


class Flat(Same):
    """Returns a view of its input."""

    @staticmethod
    def forward(ctx, x):
        return x.view(4)

    @staticmethod
    def backward(ctx, grad):
        return 5 * grad.view(2, 2)


def without_recording(y):
    with z2g.no_grad():
        return y[0]


APART = {"no_grad": without_recording, "Function": Same.apply, "Function, a view": Flat.apply}


@pytest.mark.parametrize("make", APART.values(), ids=APART)
def test_views_that_cannot_follow_are_not_written_to_where_gradients_are_recorded(device, make):
    """As in torch. Under no_grad, as everything."""
    x = leaf([[1, 2], [3, 4]])
    y = x * 2
    v = make(y)
    for write in (lambda: v.mul_(3), lambda: v.__setitem__(0, 1), lambda: v[:1].add_(leaf([1.0]))):
        with pytest.raises(RuntimeError, match="under no_grad, or returned by a Function"):
            write()
    assert host(y).tolist() == [[2, 4], [6, 8]]
    with z2g.no_grad():
        v.mul_(3)
    y.sum().backward()
    assert x.grad.tolist() == [[2, 2], [2, 2]]


@pytest.mark.parametrize("make", APART.values(), ids=APART)
def test_views_that_cannot_follow_are_not_used_after_a_recorded_write(device, make):
    y = leaf([[1, 2], [3, 4]]) * 2
    v = make(y)
    y.mul_(3)
    for use in (lambda: v * 1, lambda: v[0], lambda: v.requires_grad, lambda: F.linear(v[None], y)):
        with pytest.raises(RuntimeError, match=MODIFIED):
            use()
    assert "Invalid" in repr(v) and "Invalid" in v._repr_html_()
    with z2g.no_grad():
        assert (v * 1).shape == v.shape  # its numbers are what they are
    assert v.detach().sum().item() > 0


def test_a_view_made_without_recording_is_a_constant_until_then(device):
    x = leaf([[1, 2], [3, 4]])
    y = x * 2
    v = without_recording(y)
    (v * x).sum().backward()
    assert x.grad.tolist() == [[2, 4], [2, 4]]
    buffer = const(np.zeros((2, 2)))
    row = without_recording(buffer)
    row.fill_(3)  # plain numbers in a plain buffer
    assert host(buffer).tolist() == [[3, 3], [0, 0]]
    with pytest.raises(RuntimeError, match="under no_grad"):
        row.copy_(leaf([1.0, 2.0]))


LEAF_VIEWS = {
    "a view": lambda x: x.view(-1),
    "a row": lambda x: x[0],
    "a view of a view": lambda x: x.t()[1:],
    "made under no_grad": without_recording,
    "before it became a leaf": None,
}


@pytest.mark.parametrize("make", LEAF_VIEWS.values(), ids=LEAF_VIEWS)
def test_views_of_a_leaf_that_requires_grad_are_not_written_to(device, make):
    x = const([[1, 2], [3, 4]])
    v = x[0] if make is None else None
    x.requires_grad_()
    v = make(x) if v is None else v
    for write in (lambda: v.mul_(3), lambda: v.__setitem__(0, 1), lambda: v.copy_(leaf([1.0]))):
        with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
            write()
    assert host(x).tolist() == [[1, 2], [3, 4]]
    with z2g.no_grad():
        v.zero_()
    assert host(x).sum() < 10 and x.is_leaf


def test_a_leaf_that_is_a_view_does_not_outlive_a_recorded_write(device):
    buffer = const(np.zeros((2, 2)))
    v = buffer[0]
    v.requires_grad_()
    buffer[1] = 7  # plain numbers: v is still what it was
    v.sum().backward()
    assert v.grad.tolist() == [1, 1]
    buffer[1] = leaf([1.0, 2.0])
    with pytest.raises(RuntimeError, match="leaf"):
        v * 1


def test_an_expanded_tensor_without_history_takes_up_none(device):
    """Its elements share their places, so no gradient could be told from the other."""
    wide = const(np.zeros(2)).expand(3, 2).detach()
    wide[0] = 5
    assert host(wide).tolist() == [[5, 5]] * 3
    with pytest.raises(RuntimeError, match="clone"):
        wide[0] = leaf([1.0, 2.0])
    for write in (lambda: wide.mul_(2), lambda: wide.__setitem__(slice(None), 1), lambda: wide[1:].zero_()):
        with pytest.raises(RuntimeError, match="share one place in memory"):
            write()


def test_a_base_whose_array_was_replaced_is_noticed(device):
    y = leaf([[1, 2], [3, 4]]) * 2
    v = y[0]
    y.data = const(np.zeros((2, 2)))
    with pytest.raises(RuntimeError, match="clone"):
        v.mul_(3)
    y.mul_(2)
    with pytest.raises(RuntimeError, match=MODIFIED):
        v * 1


@pytest.mark.parametrize("change", [lambda x: x[0].mul_(3), lambda x: x.mul_(3), lambda x: x.__setitem__(0, 3)])
def test_integers_take_up_no_history(device, change):
    counts = z2g.tensor([[1, 2], [3, 4]])
    view = counts[0]
    view[1] = leaf(2.5)
    change(counts)
    assert not counts.requires_grad and not view.requires_grad


# --- Operators that assign ---------------------------------------------------------------------------------------

OPERATORS = {
    "+=": (operator.iadd, operator.add), "-=": (operator.isub, operator.sub), "*=": (operator.imul, operator.mul),
    "/=": (operator.itruediv, operator.truediv), "**=": (operator.ipow, operator.pow),
    "//=": (operator.ifloordiv, operator.floordiv), "%=": (operator.imod, operator.mod),
    "&=": (operator.iand, operator.and_), "|=": (operator.ior, operator.or_), "^=": (operator.ixor, operator.xor),
    "<<=": (operator.ilshift, operator.lshift), ">>=": (operator.irshift, operator.rshift),
}  # fmt: skip
OF_INTEGERS = {"&=", "|=", "^=", "<<=", ">>="}


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("other", ["a number", "a tensor", "a row"])
def test_operators_that_assign_write_in_place(device, name, other):
    """`for q in parameters: q **= 2` must change the parameters; through views, too, and all who share the memory."""
    in_place, plain = OPERATORS[name]
    dtype = np.int64 if name in OF_INTEGERS else np.float64
    a = np.arange(2, 8, dtype=dtype).reshape(2, 3)
    b = {"a number": 2, "a tensor": np.arange(1, 7, dtype=dtype).reshape(2, 3), "a row": np.array([1, 2, 3], dtype)}
    x, y = z2g.tensor(a), b[other] if other == "a number" else z2g.tensor(b[other])
    same, alias = x, x.t()
    result = in_place(x, y)
    assert result is same
    expected = plain(a, b[other])
    for found, right in ((x, expected), (alias, expected.T)):
        np.testing.assert_array_equal(host(found), right)
    assert x.dtype == dtype and x._version == 1
    x = z2g.tensor(a)
    holder = [x.t()[1]]
    for q in holder:
        assert in_place(q, 2) is holder[0]
    right = a.copy()
    right[:, 1] = plain(a[:, 1], 2)
    np.testing.assert_array_equal(host(x), right)


@pytest.mark.parametrize("name", sorted(OPERATORS.keys() - OF_INTEGERS))
def test_operators_that_assign_have_their_gradients_and_leave_leaves_alone(device, name):
    in_place, plain = OPERATORS[name]
    x, y = leaf(numbers(3)), leaf(numbers(3, seed=1))
    with pytest.raises(RuntimeError, match="leaf Variable"):
        in_place(x, 2)
    assert_close(x, numbers(3))
    expected = [leaf(numbers(3)), leaf(numbers(3, seed=1))]
    z = plain(expected[0] * 1, expected[1])
    w = backward(z) if z.requires_grad else None
    h = x * 1
    in_place(h, y)
    backward(h)
    for leaf_, right in zip((x, y), expected, strict=True):
        assert_close(leaf_.grad, 0 * host(x) if w is None else host(right.grad))
    with z2g.no_grad():
        assert in_place(x, 2) is x and x.is_leaf
    assert_close(x, plain(numbers(3), 2))


def test_operators_that_assign_refuse_what_does_not_fit(device):
    x = z2g.tensor([1, 2])
    for name in OPERATORS:
        with pytest.raises((TypeError, RuntimeError)):
            OPERATORS[name][0](x, "three")
        with pytest.raises((TypeError, RuntimeError)):
            OPERATORS[name][0](x, z2g.ones(3, 2))
    for name in ("/=", "**="):
        with pytest.raises(RuntimeError, match="can't be cast"):
            OPERATORS[name][0](x, 1.5)
    assert x.tolist() == [1, 2]


def test_shifts_of_integers(device):
    x = z2g.tensor([1, 2, 12])
    assert (x << 2).tolist() == [4, 8, 48] and (x >> 1).tolist() == [0, 1, 6]
    assert (2 << z2g.tensor([1, 2])).tolist() == [4, 8] and (8 >> z2g.tensor([1, 2])).tolist() == [4, 2]


@pytest.mark.parametrize("view", [True, False])
def test_a_wider_operand_leaves_the_dtype_alone(device, view):
    """`v.div_(float64)` on float32; the gradient of v was float64."""
    x = z2g.tensor([1.0, 2.0], requires_grad=True)
    w = z2g.tensor([2.0, 4.0], dtype=z2g.float64, requires_grad=True)
    y = x * 1
    seen = []
    (y[:] if view else y).div_(w)
    assert y.dtype == z2g.float32 and y.grad_fn.dtype == np.float32
    y.retain_grad()
    y.register_hook(lambda g: seen.append(g.dtype))
    (y * 1).sum().backward()
    assert seen == [z2g.float32] and y.grad.dtype == z2g.float32 and x.grad.dtype == z2g.float32
    assert w.grad.dtype == z2g.float64
    np.testing.assert_allclose(w.grad.tolist(), [-0.25, -0.125])
    np.testing.assert_allclose(x.grad.tolist(), [0.5, 0.25])


def test_expanded_sizes_of_1_and_empty_parts_can_be_written_to(device):
    """`x.expand(1, 4)[1:3] = 0` was said to be read-only."""
    x = z2g.ones(1, 4)
    x.expand(1, 4)[1:3] = 0
    assert x.tolist() == [[1, 1, 1, 1]]
    x.expand(1, 4)[0] = 5
    z2g.broadcast_to(x, (1, 1, 4))[0, 0, 1] = 6
    assert x.tolist() == [[5, 6, 5, 5]]
    x = z2g.ones(4)
    x.expand(3, 4)[1, :2] = 7  # all three rows are one
    x.expand(3, 4)[2:2] = 8
    assert x.tolist() == [7, 7, 1, 1]


# --- What a result shares, and what its rule keeps ---------------------------------------------------------------


@pytest.mark.parametrize("op", OPS)
def test_whatever_shares_memory_is_watched_together(op):
    """A result that shares memory with an input counts its writes; one that does not has a count of its own."""
    inputs = inputs_of(op)
    z = OPS[op][0](**inputs)
    for x in inputs.values():
        shares = np.shares_memory(z.array, x.array)
        assert (z.memory is x.memory) == shares
        assert (z.base is x) == (shares and z is not x)


@pytest.mark.parametrize("op", OPS)
def test_a_result_may_be_written_over_where_torch_allows_it(device, op):
    """`o = a / b; o += 1`: no rule keeps its result where the inputs do. These keep it in torch 2.13, too."""
    inputs = inputs_of(op)
    z = OPS[op][0](**inputs)
    keeps = {
        "pow", "rpow", "sqrt", "rsqrt", "exp", "tanh", "sigmoid", "relu", "reciprocal", "expm1", "tan", "cumprod",
        "std", "amax", "amin", "logsumexp", "norm", "softmax", "log_softmax",
    }  # fmt: skip
    try:
        z += 1
    except RuntimeError as error:
        assert re.search("a view of a leaf|share one place", str(error))
        return
    if op in keeps:
        with pytest.raises(RuntimeError, match=MODIFIED):
            backward(z)
    else:
        backward(z)


# --- What else follows a write -----------------------------------------------------------------------------------


def test_retain_grad_follows_views_and_bases(device):
    """.grad belongs to the numbers that the tensor holds now. As in torch 2.13."""
    x = leaf([[1, 2], [3, 4]])
    y = x * 2
    v = y[0]
    y.retain_grad()
    v.retain_grad()
    v.mul_(3)
    (v * 5).sum().backward(retain_graph=True)
    assert v.grad.tolist() == [5, 5] and y.grad.tolist() == [[5, 5], [0, 0]]
    v.grad = y.grad = None
    y.sum().backward()
    assert v.grad is None and y.grad.tolist() == [[1, 1], [1, 1]]  # v has no part in y.sum()
    assert x.grad.tolist() == [[36, 36], [2, 2]]


def test_hooks_stay_with_the_numbers_they_were_set_on(device):
    x, seen = leaf([[1, 2], [3, 4]]), []
    y = x * 2
    y.register_hook(lambda g: seen.append(host(g).tolist()))
    y[0].mul_(3)
    y.sum().backward()
    assert seen == [[[3, 3], [1, 1]]]


def test_a_write_back_of_the_view_itself_changes_nothing(device):
    """Python runs `y[0] += 1` as y[0] = y[0].__iadd__(1): one write, not two."""
    y = leaf([[1, 2], [3, 4]]) * 2
    y[0] += 1
    assert y._version == 1 and y.grad_fn.name == "copy_slices"
    v = without_recording(y)
    y[0] = v  # a constant now
    w = backward(y)
    assert w.size and y.grad_fn.name == "index_put"


def test_a_graph_used_up_below_a_view_is_noticed(device):
    x = leaf([[1, 2], [3, 4]])
    y = x * 2
    v = y[0]
    y.sum().backward()
    y.mul_(2)
    with pytest.raises(RuntimeError, match="already used up"):
        v.sum().backward()


def test_traces_anomalies_and_stories_know_the_new_nodes(device, capsys):
    x = leaf([[1, 2], [3, 4]])
    with z2g.trace(), z2g.autograd.detect_anomaly():
        y = x * 2
        v = y[0]
        y[0].mul_(3)
        L = v.sum()
    L.explain()
    told = capsys.readouterr().out
    assert "as_strided" in told and "copy_slices" in told
    L.backward()
    assert x.grad.tolist() == [[6, 6], [0, 0]]


# --- Copies, attributes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda x: x[0], lambda x: x.t(), lambda x: x.detach(), lambda x: x.data])
def test_a_deepcopy_shares_what_was_shared(device, make):
    x = const([[1, 2], [3, 4]])
    for order in (("base", "view"), ("view", "base")):
        both = {"base": x, "view": make(x)}
        new = copy.deepcopy({name: both[name] for name in order})
        new["view"].fill_(5)
        assert host(x).sum() == 10
        assert host(new["base"]).tolist()[0] == [5, 5] and new["base"] is not x
        if make(x).memory is x.memory:
            assert new["view"]._version == new["base"]._version == 1


def test_a_copied_view_takes_part_in_the_history_of_the_copied_base(device):
    k = leaf([1.0, 2.0])
    new = copy.deepcopy({"base": (x := const(np.zeros((2, 2)))), "view": x[0]})
    new["view"].copy_(k)
    w = backward(new["base"])
    assert_close(k.grad, w[0])
    assert host(x).sum() == 0


def test_a_deepcopy_of_leaves_keeps_what_they_have(device):
    p = z2g.nn.Parameter(z2g.ones(2, 3))
    p.grad, p.tag = z2g.ones(2, 3), ["old"]
    q = copy.deepcopy(p)
    q.tag[0] = "new"
    assert type(q) is z2g.nn.Parameter and q.requires_grad and p.tag == ["old"] and p.grad.sum().item() == 6
    assert q.grad is None  # as in torch: a copied model starts without gradients, another leaf keeps its own
    x = z2g.ones(2, requires_grad=True)
    x.grad = z2g.ones(2)
    y = copy.deepcopy(x)
    y.grad.zero_()
    assert y.grad.tolist() == [0, 0] and x.grad.tolist() == [1, 1]
    with pytest.raises(RuntimeError, match="leaves"):
        copy.deepcopy(p[0])
    part = copy.deepcopy(p.detach()[:, ::-1])
    assert part.tolist() == [[1, 1, 1]] * 2


def test_tensors_take_attributes(device):
    for x in (z2g.nn.Parameter(z2g.ones(2)), z2g.ones(2), leaf([1.0]) * 2):
        x.tag = 1
        assert x.tag == 1
        del x.tag
        with pytest.raises(AttributeError):
            x.tag  # noqa: B018
    with pytest.raises(AttributeError):
        z2g.ones(2).shape = (1, 2)


# --- What threads share ------------------------------------------------------------------------------------------


def in_threads(count, work):
    """Run `work(i)` in threads that switch as often as Python lets them; their results."""
    results, ready, interval = [None] * count, threading.Barrier(count), sys.getswitchinterval()

    def run(i):
        ready.wait()
        results[i] = work(i)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    return results


def test_threads_that_walk_back_into_one_leaf_lose_nothing():
    x = z2g.zeros(300_000, requires_grad=True)
    for _ in range(5):
        x.grad = None
        in_threads(8, lambda i: [(x * float(i + 1)).sum().backward() for _ in range(5)])
        assert host(x.grad).min() == host(x.grad).max() == 5 * 36


def test_threads_get_different_dropout_masks():
    generator = z2g.Generator(3)
    keys = [key for some in in_threads(8, lambda i: [generator.next_key() for _ in range(2000)]) for key in some]
    again = z2g.Generator(3)
    assert sorted(keys) == sorted(again.next_key() for _ in range(16_000))


def test_threads_may_share_one_switch():
    switch = z2g.no_grad()

    def work(i):
        seen = []
        for _ in range(300):
            z2g.set_grad_enabled(i % 2 == 0)
            with switch:
                seen.append(z2g.is_grad_enabled())
            seen.append(z2g.is_grad_enabled() == (i % 2 == 0))
        return seen

    for seen in in_threads(4, work):
        assert not any(seen[::2]) and all(seen[1::2])
