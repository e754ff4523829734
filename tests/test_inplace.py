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
from hypothesis import given, settings
from hypothesis import strategies as st
from test_engine import MODIFIED, OPS, assert_close, backward, const, cotangent, host, inputs_of, leaf, numbers, rng

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
    "x[0] = y[0]": (lambda x, y: x.__setitem__(0, y[0]), write_part(0, lambda x, y: y)),
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
    """No step is refused but a write to a leaf; no walk, unless what a rule reads was written to since; all are right."""
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
