"""Walking back: rows 1 to 7 of the list of traps, each a defect found in published frameworks, and random graphs.

Expected gradients are worked out by hand or with NumPy, in float64, with a random cotangent w: the loss is Σ w y.
"""

import sys
import weakref

import numpy as np
import pytest
from engine_tools import MODIFIED, Counting, assert_close, backward, const, host, leaf, numbers, rng, without_gc
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_z2g as z2g
from tinygrad_z2g.core import engine

# --- 1. One tensor used several times ----------------------------------------------------------------------------


def double_twice(a):
    b = a + a
    return b + b


def tangle(a):
    b = a * 2
    c = b * a  # 2a²
    return b + c * b  # 2a + 4a³


USES = {
    "a+a": (lambda a: a + a, lambda a: 2 + 0 * a),
    "a-a": (lambda a: a - a, lambda a: 0 * a),
    "a*a": (lambda a: a * a, lambda a: 2 * a),
    "a/a": (lambda a: a / a, lambda a: 0 * a),
    "a*a*a": (lambda a: a * a * a, lambda a: 3 * a**2),
    "b=a+a, b+b": (double_twice, lambda a: 4 + 0 * a),
    "diamond": (lambda a: a.sin() * a.exp(), lambda a: np.exp(a) * (np.sin(a) + np.cos(a))),
    "paths of unequal length": (lambda a: a + (a * 3).exp().log(), lambda a: 4 + 0 * a),
    "tangle": (tangle, lambda a: 2 + 12 * a**2),
    "a and a in one cat": (lambda a: z2g.cat([a, a, a])[:2] * 5, lambda a: 5 + 0 * a),
}


@pytest.mark.parametrize("f, slope", USES.values(), ids=USES)
def test_trap_01_every_use_adds_its_gradient(device, f, slope):
    a = leaf(numbers(2, 3))
    w = backward(f(a))
    assert_close(a.grad, w * slope(host(a)))


def test_trap_01_one_weight_in_two_products(device):
    """y = (x W) W: assigning instead of adding would give one of the two terms."""
    x, W = leaf(numbers(4, 3)), leaf(numbers(3, 3, seed=1))
    w = backward(x @ W @ W)
    X, M = host(x), host(W)
    assert_close(W.grad, X.T @ (w @ M.T) + (X @ M).T @ w)
    assert_close(x.grad, w @ M.T @ M.T)


def test_trap_01_a_matrix_times_itself(device):
    A = leaf(numbers(3, 3))
    w = backward(A @ A)
    assert_close(A.grad, w @ host(A).T + host(A).T @ w)


def test_trap_01_losses_add_up_in_grad(device):
    a = leaf(numbers(3))
    u, v = backward(a * 2, seed=1), backward(a * a, seed=2)
    assert_close(a.grad, 2 * u + 2 * host(a) * v)


# --- 2. Two owners of one gradient array -------------------------------------------------------------------------


SHARING = {
    "a+b": lambda a, b: a + b,
    "a+b, then more": lambda a, b: (a + b) + 0,
    "clone": lambda a, b: a.clone() + b.clone(),
    "views": lambda a, b: a.view(3, 2).view(2, 3) + b,
    "stacked": lambda a, b: z2g.stack([a, b]).sum(0),
    "three levels": lambda a, b: (a + 1) + ((b + 1) + 1),
}


@pytest.mark.parametrize("f", SHARING.values(), ids=SHARING)
def test_trap_02_leaves_own_their_gradients(device, f):
    a, b = leaf(numbers(2, 3)), leaf(numbers(2, 3))
    w = backward(f(a, b))
    a.grad.mul_(100)
    assert_close(b.grad, w)
    b.grad.zero_()
    assert_close(a.grad, 100 * w)


def test_trap_02_accumulating_into_one_leaf_leaves_the_other(device):
    a, b = leaf(numbers(3)), leaf(numbers(3))
    w = backward(a + b)
    backward(a * 2)  # adds in place to a.grad
    assert_close(a.grad, 3 * w)
    assert_close(b.grad, w)


def test_trap_02_clipping_one_leaf_leaves_the_other(device):
    a, b = leaf(numbers(3)), leaf(numbers(3))
    w = backward(a + b)
    z2g.nn.utils.clip_grad_norm_([a], 1e-3)
    assert_close(b.grad, w)


@pytest.mark.parametrize("f", [lambda a: a, lambda a: a + 0, lambda a: a.view(3)], ids=["leaf", "sum", "view"])
def test_trap_02_the_callers_gradient_stays_the_callers(device, f):
    a, g = leaf(numbers(3)), const([1, 2, 3])
    f(a).backward(g)
    a.grad.mul_(5)
    assert_close(g, [1, 2, 3])
    g.zero_()
    assert_close(a.grad, [5, 10, 15])


def test_trap_02_kept_and_hooked_gradients_are_not_shared(device):
    a, seen = leaf(numbers(3)), []
    y = a + 0
    y.retain_grad()
    y.register_hook(seen.append)
    w = backward(y)
    a.grad.mul_(5)
    assert_close(y.grad, w)
    y.grad.mul_(7)
    assert_close(seen[0], w)
    assert_close(a.grad, 5 * w)


# --- 3. Gradients that come as read-only broadcast views ---------------------------------------------------------


READ_ONLY = {
    "(x+x).sum()": (lambda x: (x + x).sum(), lambda w: 2 * w * np.ones((2, 3))),
    "sum": (lambda x: x.sum(), lambda w: w * np.ones((2, 3))),
    "sum over dim 0": (lambda x: x.sum(0), lambda w: np.stack([w, w])),
    "mean": (lambda x: x.mean(), lambda w: w / 6 * np.ones((2, 3))),
    "expand": (lambda x: x.expand(4, 2, 3), lambda w: w.sum(0)),
    "expand a sum": (lambda x: x.sum().expand(5), lambda w: w.sum() * np.ones((2, 3))),
}


@pytest.mark.parametrize("f, expected", READ_ONLY.values(), ids=READ_ONLY)
def test_trap_03_gradients_can_be_written(device, f, expected):
    x = leaf(numbers(2, 3))
    w = backward(f(x))
    assert_close(x.grad, expected(w))
    backward(f(x))  # accumulates in place
    assert_close(x.grad, 2 * expected(w))
    x.grad.mul_(0.5).add_(1)
    assert_close(x.grad, expected(w) + 1)


# --- 4. Un-broadcasting ------------------------------------------------------------------------------------------


def add_up(full, shape):
    """Σ of `full` over the copies that broadcasting made of each element of `shape`, element by element."""
    size = int(np.prod(shape))
    came_from = np.broadcast_to(np.arange(size).reshape(shape), full.shape)
    return np.bincount(came_from.ravel(), weights=full.ravel(), minlength=size).reshape(shape)


PAIRS = [
    ((3,), (2, 3)), ((2, 3), (3,)), ((2, 1), (2, 3)), ((2, 1), (1, 3)), ((), (2, 3)), ((2, 3), ()), ((), ()),
    ((1,), ()), ((1, 1), (3,)), ((4, 1, 3), (2, 1)), ((1, 2, 1), (3, 1, 4)), ((3, 3), (3, 1)), ((3, 3), (1, 3)),
    ((0, 3), (1, 3)), ((2, 0), (2, 1)), ((1,), (0,)),
]  # fmt: skip
BINARY = {
    "add": (lambda x, y: x + y, lambda a, b: (1, 1)),
    "sub": (lambda x, y: x - y, lambda a, b: (1, -1)),
    "mul": (lambda x, y: x * y, lambda a, b: (b, a)),
    "div": (lambda x, y: x / y, lambda a, b: (1 / b, -a / b**2)),
    "pow": (lambda x, y: x**y, lambda a, b: (b * a ** (b - 1), a**b * np.log(a))),
    "maximum": (lambda x, y: x.maximum(y), lambda a, b: (a > b, b > a)),
    "where": (lambda x, y: z2g.where(x > 1, x, y), lambda a, b: (a > 1, a <= 1)),
}


@pytest.mark.parametrize("shapes", PAIRS, ids=str)
@pytest.mark.parametrize("f, slopes", BINARY.values(), ids=BINARY)
def test_trap_04_broadcasting_is_undone(device, f, slopes, shapes):
    x, y = leaf(numbers(*shapes[0])), leaf(numbers(*shapes[1], seed=1))
    w = backward(f(x, y))
    for t, slope in zip((x, y), slopes(host(x), host(y)), strict=True):
        assert t.grad.shape == t.shape and t.grad.dtype == t.dtype and t.grad.device == t.device
        assert_close(t.grad, add_up(w * slope, tuple(t.shape)))


def test_trap_04_a_tensor_broadcast_against_itself(device):
    x = leaf(numbers(3))
    w = backward(x.unsqueeze(1) * x)  # zᵢⱼ = xᵢ xⱼ
    assert_close(x.grad, (w + w.T) @ host(x))


# --- 5. Branches that do not reach the loss ----------------------------------------------------------------------


def test_trap_05_a_dead_branch_blocks_nothing(device):
    x = leaf(numbers(3))
    h = x * 2
    unused = h * 3
    loss = h.sin()
    accuracy = loss.amax()  # younger than the loss
    w = backward(loss)
    assert_close(x.grad, 2 * np.cos(2 * host(x)) * w)
    assert unused.requires_grad and accuracy.requires_grad


def test_trap_05_half_of_a_result_is_dead(device):
    x = leaf(numbers(4))
    used, _unused = (x * x).split(2)
    w = backward(used)
    assert_close(x.grad, np.concatenate([2 * host(x)[:2] * w, [0, 0]]))


def test_trap_05_a_leaf_that_is_not_reached_has_no_gradient(device):
    x, y = leaf(numbers(3)), leaf(numbers(3))
    _dead = x * y
    backward(x * 2)
    assert y.grad is None


def test_trap_05_a_change_that_only_a_dead_branch_would_notice(device):
    """The dead branch read h; the loss did not. So changing h is no reason to refuse the loss."""
    x = leaf(numbers(3))
    h = x * 2
    _dead, loss = h * h, h * 3
    with z2g.no_grad():
        h.add_(1)
    w = backward(loss)
    assert_close(x.grad, 6 * w)


# --- 6. Long, wide and knotted graphs ----------------------------------------------------------------------------


LINKS = {
    "new tensors": lambda y: y + 1,
    "in place": lambda y: y.add_(1),
    "views": lambda y: y.view(1),
    "every kind of node": lambda y: z2g.cat([y]) * y.detach(),
}


@pytest.mark.parametrize("walk", [True, False], ids=["walked", "dropped"])
@pytest.mark.parametrize("link", LINKS.values(), ids=LINKS)
def test_trap_06_a_chain_of_100_000(device, link, walk):
    """No recursion forward, backward or in the destruction of a graph that was never walked.

    On the fake, which is slow, the chain has 5,000 links: 5 times what Python's stack would bear. (C's bears more; what
    it is used for, the destruction of nodes, does not depend on whose arrays they hold.)
    """
    x = leaf([1.0])
    links = 100_000 if x.device.type == "cpu" else 5_000
    with without_gc():
        y = x * 1
        first = weakref.ref(y.grad_fn)
        for _ in range(links if link is not LINKS["every kind of node"] else links // 2):
            y = link(y)
        if walk:
            y.backward()
            assert x.grad.item() == 1
        del y
        assert first() is None


@pytest.mark.parametrize("gather", [z2g.stack, z2g.cat, sum], ids=["stack", "cat", "sum"])
def test_trap_06_a_graph_4000_wide(device, gather):
    x = leaf([0.5])
    y = gather([x * k for k in range(4000)])
    w = backward(y)
    assert_close(x.grad, [np.sum(w.reshape(-1) * (np.arange(4000) if w.size > 1 else 4000 * 3999 / 2))])


def test_trap_06_1000_diamonds_run_each_rule_once(device):
    """There are 2¹⁰⁰⁰ paths. Following each would never end; visiting each node once takes 1000 visits."""
    x, pair, half = leaf([3.0]), Counting(), Counting()
    y = x
    for _ in range(1000):
        y = pair(half(y * 0.5), y * 0.5)
    y.backward()
    assert (half.calls, pair.calls) == (1000, 2000)
    assert x.grad.tolist() == [1.0]


def count_calls(function):
    """How many Python and C functions `function` calls: a clock that the machine's load does not disturb."""
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(before)
    return calls


def chain(x, n):
    y = x
    for _ in range(n):
        y = y.sin()
    return y


def diamonds(x, n):
    y = x
    for _ in range(n):
        y = y.sin() + y * 0.5
    return y


SHAPES_OF_GRAPHS = {"chain": chain, "wide": lambda x, n: z2g.cat([x * 2 for _ in range(n)]).sum(), "diamonds": diamonds}


@pytest.mark.parametrize("build", SHAPES_OF_GRAPHS.values(), ids=SHAPES_OF_GRAPHS)
def test_trap_06_work_grows_with_the_number_of_nodes_not_faster(build):
    def work(n):
        y = build(leaf([0.1]), n)
        return count_calls(y.backward)

    small, middle, large = work(200), work(400), work(800)
    assert large - middle == pytest.approx(2 * (middle - small), rel=0.02)


def test_trap_06_the_walk_lets_go_of_gradients_as_it_goes(device):
    """One gradient array at a time is alive in a chain, not one per node."""
    refs, most = [], 0

    def rule(grad):
        nonlocal most
        most = max(most, sum(ref() is not None for ref in refs))
        out = grad * 1.0
        refs.append(weakref.ref(out))
        return out

    y = leaf(numbers(3)) * 1
    for _ in range(50):
        y = engine.record("watched", y.array * 1.0, (y, rule))
    with without_gc():
        y.sum().backward()
    assert len(refs) == 50
    assert most <= 2


# --- 7. Walking twice, and walking from the wrong place ----------------------------------------------------------


@pytest.mark.parametrize("f", [lambda x: x * x, lambda x: x + 1, lambda x: x.view(3)], ids=["mul", "add", "view"])
def test_trap_07_a_second_backward_is_refused(device, f):
    x = leaf(numbers(3))
    y = f(x)
    w = backward(y)
    once = host(x.grad)
    with pytest.raises(RuntimeError, match="retain_graph=True"):
        y.backward(const(w))
    assert_close(x.grad, once)


def test_trap_07_a_second_loss_over_a_used_up_part_is_refused(device):
    x = leaf(numbers(3))
    h = x * x
    first, second = h * 2, h * 3
    backward(first)
    with pytest.raises(RuntimeError, match="used up"):
        backward(second)


def test_trap_07_retain_graph_adds_exactly_once_more(device):
    x = leaf(numbers(3))
    h = x * x
    y = h * h  # x⁴
    w = backward(y, retain_graph=True)
    slope = 4 * host(x) ** 3 * w
    assert_close(x.grad, slope)
    backward(y, retain_graph=True)
    assert_close(x.grad, 2 * slope)
    backward(y)
    assert_close(x.grad, 3 * slope)
    with pytest.raises(RuntimeError, match="used up"):
        backward(y)


def test_trap_07_retain_graph_adds_to_kept_gradients_too(device):
    x = leaf(numbers(3))
    h = x * 2
    h.retain_grad()
    y = h * 3
    w = backward(y, retain_graph=True)
    backward(y)
    assert_close(h.grad, 6 * w)
    assert_close(x.grad, 12 * w)


def test_trap_07_backward_on_a_leaf(device):
    x = leaf(3.0)
    x.backward()
    x.backward()
    assert x.grad.item() == 2


def test_trap_07_backward_needs_a_gradient_unless_there_is_one_element(device):
    x = leaf(numbers(2, 3))
    with pytest.raises(RuntimeError, match="scalar"):
        (x * 2).backward()
    with pytest.raises(RuntimeError, match="shape"):
        (x * 2).backward(const(np.ones((3, 2))))
    with pytest.raises(RuntimeError, match="shape"):
        (x * 2).backward(const(1.0))  # torch does not broadcast it either
    with pytest.raises(TypeError, match="Tensor"):
        (x * 2).backward(np.ones((2, 3)))
    assert x.grad is None
    x.sum().reshape(1, 1, 1).backward()  # one element, though not 0-d
    assert_close(x.grad, np.ones((2, 3)))


def test_trap_07_backward_where_no_gradient_is_wanted(device):
    plain = const([1, 2])
    for y in (plain, plain * 2, (leaf([1.0]) * 2).detach()):
        with pytest.raises(RuntimeError, match="does not require grad"):
            y.sum().backward()


def test_trap_07_a_failed_walk_touches_no_leaf(device):
    """x gets its gradient from the younger branch; the older one is spoilt. All or nothing."""
    x = leaf(numbers(3))
    spoilt = x * 1
    y = spoilt * spoilt
    y = y + x * 3
    with z2g.no_grad():
        spoilt.add_(1)
    with pytest.raises(RuntimeError, match=MODIFIED):
        backward(y)
    assert x.grad is None


# --- Random graphs against forward mode --------------------------------------------------------------------------
# Dual numbers: a value and its derivative by every element of every leaf (last axis), pushed forward step by step.
# They share nothing with the engine: no graph, no order, no accumulation. (In-place changes: see test_inplace.py.)


class Dual:
    def __init__(self, value, slopes):
        self.value, self.slopes = value, slopes

    def map(self, f):
        """A linear f that acts on the first axes: reshaping, picking, adding up."""
        return Dual(f(self.value), f(self.slopes))

    def chain(self, value, derivative):
        return Dual(value, derivative[..., None] * self.slopes)

    def __add__(self, other):
        return Dual(self.value + other.value, self.slopes + other.slopes)

    def __mul__(self, other):
        return Dual(
            self.value * other.value, self.value[..., None] * other.slopes + other.value[..., None] * self.slopes
        )

    def square_shape(self):
        slopes = np.broadcast_to(self.slopes, (3, 3, self.slopes.shape[-1]))
        return Dual(np.broadcast_to(self.value, (3, 3)), slopes)


def dual_matmul(a, b):
    a, b = a.square_shape(), b.square_shape()
    left = np.einsum("ijp,jk->ikp", a.slopes, b.value)
    return Dual(a.value @ b.value, left + np.einsum("ij,jkp->ikp", a.value, b.slopes))


def full(x):
    return x.expand(3, 3)


def picked(x):
    return x.square_shape().map(lambda a: a[[0, 2, 2]])


def joined(x, y):
    x, y = x.square_shape(), y.square_shape()
    return Dual(np.concatenate([x.value[:1], y.value[1:]]), np.concatenate([x.slopes[:1], y.slopes[1:]]))


def recorded_off(x):
    with z2g.no_grad():
        return x * 2


# name: (on tensors, on duals); operands have any shape that broadcasts to (3, 3)
STEPS = {
    "add": (lambda x, y: x + y, lambda a, b: a + b),
    "mul": (lambda x, y: x * y, lambda a, b: a * b),
    "sub": (lambda x, y: x - y, lambda a, b: a + b.map(np.negative)),
    "matmul": (lambda x, y: full(x) @ full(y), dual_matmul),
    "cat": (lambda x, y: z2g.cat([full(x)[:1], full(y)[1:]]), joined),
    "tanh": (lambda x, _: x.tanh(), lambda a, _: a.chain(np.tanh(a.value), 1 / np.cosh(a.value) ** 2)),
    "sin": (lambda x, _: x.sin(), lambda a, _: a.chain(np.sin(a.value), np.cos(a.value))),
    "sum": (lambda x, _: full(x).sum(0), lambda a, _: a.square_shape().map(lambda v: v.sum(0))),
    "keepdim": (lambda x, _: full(x).mean(1, True), lambda a, _: a.square_shape().map(lambda v: v.mean(1)[:, None])),
    "transpose": (lambda x, _: full(x).t(), lambda a, _: a.square_shape().map(lambda v: v.swapaxes(0, 1))),
    "pick": (lambda x, _: full(x)[[0, 2, 2]], lambda a, _: picked(a)),
    "detach": (lambda x, _: x.detach(), lambda a, _: Dual(a.value, 0 * a.slopes)),
    "no_grad": (lambda x, _: recorded_off(x), lambda a, _: Dual(2 * a.value, 0 * a.slopes)),
}
LEAF_SHAPES = [(), (3,), (3, 1), (3, 3)]


def make_leaves(seed):
    """The leaves, and their duals: each element's derivative by itself is 1."""
    values = [rng(seed + i).uniform(-1, 1, shape) for i, shape in enumerate(LEAF_SHAPES)]
    count = sum(v.size for v in values)
    rows, duals = np.split(np.eye(count), np.cumsum([v.size for v in values])[:-1]), []
    for value, row in zip(values, rows, strict=True):
        duals.append(Dual(value.copy(), row.reshape(*value.shape, count)))
    return [leaf(v) for v in values], duals


def gradients(leaves):
    return np.concatenate([np.zeros(x.numel()) if x.grad is None else host(x.grad).ravel() for x in leaves])


MANY = max(500, settings().max_examples)  # an example takes 2 ms, and the interesting programs are rare
programs = st.lists(
    st.tuples(st.sampled_from(sorted(STEPS)), st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=14
)
roots = st.lists(st.integers(0, 20), min_size=1, max_size=3)


@settings(max_examples=MANY)
@given(programs, roots, st.integers(0, 1000))
def test_random_graphs_of_shared_nodes(device, program, roots, seed):
    """Any graph of up to 14 steps, walked from up to three of its nodes: the gradients of all walks add up."""
    xs, duals = make_leaves(seed)
    leaves = xs[:]
    for name, i, j in program:
        on_tensors, on_duals = STEPS[name]
        i, j = i % len(xs), j % len(xs)
        dual = on_duals(duals[i], duals[j])
        if np.abs(dual.value).max() < 10:  # repeated squaring would overflow
            xs.append(on_tensors(xs[i], xs[j]))
            duals.append(dual)
            assert_close(xs[-1], dual.value)
    expected = np.zeros(duals[0].slopes.shape[-1])
    for n, root in enumerate(roots):
        y, dual = xs[-1 - root % len(xs)], duals[-1 - root % len(xs)]
        if y.requires_grad:
            w = backward(y, seed=n, retain_graph=True)
            expected += (w[..., None] * dual.slopes).reshape(w.size, -1).sum(0)
        else:
            assert not dual.slopes.any()
    np.testing.assert_allclose(gradients(leaves), expected, rtol=1e-9, atol=1e-9)
