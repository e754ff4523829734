"""The engine: rows 1 to 11 of the list of traps, each a defect found in published frameworks of this kind.

Expected gradients are worked out by hand or with NumPy, in float64, with a random cotangent w: the loss is Σ w y.
"""

import contextlib
import gc
import inspect
import sys
import threading
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_z2g as z2g
from tinygrad_z2g.core import engine
from tinygrad_z2g.methods import Methods
from tinygrad_z2g.nn import functional as F

MODIFIED = "modified by an inplace operation"


# --- Helpers -----------------------------------------------------------------------------------------------------


def rng(seed=0):
    return np.random.default_rng(seed)


def numbers(*shape, seed=0):
    """Float64 numbers in 0.5..2, away from kinks and poles."""
    return rng(seed).uniform(0.5, 2, shape)


def leaf(array):
    return z2g.tensor(np.asarray(array, np.float64), requires_grad=True)


def const(array):
    return z2g.tensor(np.asarray(array, np.float64))


def host(x):
    """The numbers of a tensor as a NumPy array, wherever it lives."""
    return None if x is None else np.array(x.detach().cpu().numpy())


def cotangent(y, seed=7):
    return rng(seed).uniform(0.5, 1.5, tuple(y.shape)) * rng(seed + 1).choice([-1, 1], tuple(y.shape))


def backward(y, seed=7, **options):
    """Walk back from Σ w y; returns w."""
    w = cotangent(y, seed)
    y.backward(const(w), **options)
    return w


def assert_close(found, expected):
    found = host(found) if isinstance(found, z2g.Tensor) else found
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@contextlib.contextmanager
def without_gc():
    """Only reference counting frees memory inside."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Counting:
    """An operation z = x (or x + y) of our own that counts how often its rules run."""

    def __init__(self):
        self.calls = 0

    def _rule(self, grad):
        self.calls += 1
        return grad

    def __call__(self, *inputs):
        array = sum(x.array for x in inputs) * 1.0
        return engine.record("counting", array, *((x, self._rule) for x in inputs))


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

    On the fake, which is slow, the chain has 20,000 links: 20 times what Python's stack would bear.
    """
    x = leaf([1.0])
    links = 100_000 if x.device.type == "cpu" else 20_000
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


# --- 8. Nothing is kept alive for longer than needed -------------------------------------------------------------


def build(x):
    """A little of everything: products, views, joins, a joint rule, a fused loss, an in-place change."""
    q = (x @ x).view(1, 3, 3)
    z = F.scaled_dot_product_attention(q, q, q, is_causal=True)
    z = z2g.cat([z.squeeze(0), F.gelu(x)]).t()
    z = z[:, [0, 0, 1]] + 0
    z[0] += 1
    return F.cross_entropy(z.softmax(-1) if hasattr(z, "softmax") else F.softmax(z, -1), z2g.tensor([0, 1, 2]))


def nodes_of(y):
    """Weak references to every node below y."""
    found, stack = {}, [y.grad_fn]
    while stack:
        node = stack.pop()
        if isinstance(node, engine.Node) and id(node) not in found:
            found[id(node)] = weakref.ref(node)
            stack += [edge[0] for edge in node.edges if edge is not None]
    return list(found.values())


def test_trap_08_after_backward_the_graph_is_gone(device):
    """Freed by reference counting alone, while the loss still has its name."""
    x = leaf(numbers(3, 3))
    with without_gc():
        y = build(x)
        top, *below = nodes_of(y)
        assert len(below) > 10
        y.backward()
        assert [ref() for ref in below if ref() is not None] == []
        assert top() is y.grad_fn
        del y
        assert top() is None


def test_trap_08_a_graph_that_is_never_walked_dies_with_its_loss(device):
    x = leaf(numbers(3, 3))
    with without_gc():
        y = build(x)
        nodes = nodes_of(y)
        del y
        assert [ref() for ref in nodes if ref() is not None] == []


def test_trap_08_hooks_and_kept_gradients_make_no_cycles(device):
    x = leaf(numbers(3))
    with without_gc():
        y = x * 2
        y.register_hook(lambda grad: grad * 2)
        y.retain_grad()
        z = y * y
        dead = [weakref.ref(z.grad_fn), weakref.ref(y.grad_fn), weakref.ref(y)]
        backward(z, retain_graph=True)
        del y, z
        assert [ref() for ref in dead] == [None] * 3


def test_trap_08_a_loop_of_forward_passes_keeps_one_graph_at_a_time(device):
    x, earlier = leaf(numbers(3, 3)), []
    with without_gc():
        for _ in range(3):
            y = build(x)
            assert all(ref() is None for ref in earlier)
            earlier = nodes_of(y)


def test_trap_08_no_grad_records_nothing(device):
    x = leaf(numbers(3, 3))
    with without_gc(), z2g.no_grad():
        h = x @ x
        y = h.exp()
        assert y.grad_fn is None and y.is_leaf and not y.requires_grad
        array = weakref.ref(h.array)
        del h
        assert array() is None


def test_trap_08_constants_record_nothing(device):
    x = const(numbers(3))
    y = (x * 2).sin()
    assert y.grad_fn is None and y.is_leaf and not y.requires_grad


def test_trap_08_rules_of_constants_are_dropped(device):
    """weight * data: nobody needs ∂L/∂data, so the weight's numbers need not be kept for it."""
    data, weight = const(numbers(3)), leaf(numbers(3))
    h = weight + 0
    array = weakref.ref(h.array)
    y = h * data
    assert len(y.grad_fn.edges) == 1
    del h
    assert array() is None


# The methods that carry gradients: how to call each, and whose numbers its rules read. "x", "y": floating-point
# inputs (3, 3); "m": a mask; "i": indices (3, 3); "z": the result. The same table serves rows 8, 9 and 10.
OPS = {
    "add": (lambda x, y: x.add(y), ""),
    "sub": (lambda x, y: x.sub(y), ""),
    "rsub": (lambda x: 2 - x, ""),
    "mul": (lambda x, y: x.mul(y), "xy"),
    "div": (lambda x, y: x.div(y), "xy"),
    "rdiv": (lambda x: 2 / x, "x"),
    "pow": (lambda x, y: x.pow(y), "xyz"),
    "pow a number": (lambda x: x**3, "x"),
    "rpow": (lambda x: 2**x, "xz"),
    "neg": (lambda x: x.neg(), ""),
    "square": (lambda x: x.square(), "x"),
    "sqrt": (lambda x: x.sqrt(), "z"),
    "rsqrt": (lambda x: x.rsqrt(), "z"),
    "exp": (lambda x: x.exp(), "z"),
    "log": (lambda x: x.log(), "x"),
    "sin": (lambda x: x.sin(), "x"),
    "cos": (lambda x: x.cos(), "x"),
    "tanh": (lambda x: x.tanh(), "z"),
    "sigmoid": (lambda x: x.sigmoid(), "z"),
    "relu": (lambda x: x.relu(), "z"),
    "abs": (lambda x: x.abs(), "x"),
    "sign": (lambda x: x.sign(), ""),
    "reciprocal": (lambda x: x.reciprocal(), "z"),
    "expm1": (lambda x: x.expm1(), "z"),
    "log2": (lambda x: x.log2(), "x"),
    "log1p": (lambda x: x.log1p(), "x"),
    "tan": (lambda x: x.tan(), "z"),
    "asin": (lambda x: x.asin(), "x"),
    "acos": (lambda x: x.acos(), "x"),
    "atan": (lambda x: x.atan(), "x"),
    "sinh": (lambda x: x.sinh(), "x"),
    "cosh": (lambda x: x.cosh(), "x"),
    "floor": (lambda x: x.floor(), ""),
    "ceil": (lambda x: x.ceil(), ""),
    "round": (lambda x: x.round(), ""),
    "remainder": (lambda x, y: x.remainder(y), "xy"),
    "lerp": (lambda x, y: x.lerp(y, 0.3), ""),
    "clamp": (lambda x: x.clamp(0.8, 1.5), "x"),
    "erf": (lambda x: x.erf(), "x"),
    "cumprod": (lambda x: x.cumprod(0), "xz"),
    "sort": (lambda x: x.sort(0).values, ""),
    "topk": (lambda x: x.topk(2, 0).values, ""),
    "mv": (lambda x, y: x.mv(y[0]), "xy"),
    "einsum": (lambda x, y: z2g.einsum("ij,kj->ik", x, y), "xy"),
    "tensordot": (lambda x, y: z2g.tensordot(x, y, 1), "xy"),
    "unflatten": (lambda x: x.unflatten(0, (1, 3)), ""),
    "movedim": (lambda x: x.movedim(0, 1), ""),
    "diagonal": (lambda x: x.diagonal(), ""),
    "diag": (lambda x: x.diag(), ""),
    "tile": (lambda x: x.tile(2), ""),
    "scatter": (lambda x, y, i: x.scatter(0, i, y), "i"),
    "scatter_add": (lambda x, y, i: x.scatter_add(0, i, y), "i"),
    "select": (lambda x: x.select(0, 1), ""),
    "masked_select": (lambda x, m: x.masked_select(m), "m"),
    "repeat_interleave": (lambda x: x.repeat_interleave(2, 0), ""),
    "where (method)": (lambda x, y, m: x.where(m, y), "m"),
    "F.leaky_relu": (lambda x: F.leaky_relu(x), "x"),
    "F.binary_cross_entropy": (lambda x, t: F.binary_cross_entropy(x / 4, t), "t"),
    "maximum": (lambda x, y: x.maximum(y), "xy"),
    "minimum": (lambda x, y: x.minimum(y), "xy"),
    "masked_fill": (lambda x, m: x.masked_fill(m, -1.0), "m"),
    "where": (lambda x, y, m: z2g.where(m, x, y), "m"),
    "sum": (lambda x: x.sum(0), ""),
    "mean": (lambda x: x.mean(0), ""),
    "var": (lambda x: x.var(0), ""),
    "std": (lambda x: x.std(0), "z"),
    "prod": (lambda x: x.prod(0), "x"),
    "max": (lambda x: x.max(0).values, ""),
    "min": (lambda x: x.min(0).values, ""),
    "amax": (lambda x: x.amax(0), "xz"),
    "amin": (lambda x: x.amin(0), "xz"),
    "logsumexp": (lambda x: x.logsumexp(0), "xz"),
    "norm": (lambda x: x.norm(dim=0), "xz"),
    "cumsum": (lambda x: x.cumsum(0), ""),
    "matmul": (lambda x, y: x @ y, "xy"),
    "matmul with a batch": (lambda x, y: x.unsqueeze(0) @ y, "xy"),
    "matmul with a vector": (lambda x, y: x @ y[0], "xy"),
    "mm": (lambda x, y: x.mm(y), "xy"),
    "bmm": (lambda x, y: x.unsqueeze(0).bmm(y.unsqueeze(0)), "xy"),
    "dot": (lambda x, y: x[0].dot(y[1]), "xy"),
    "outer": (lambda x, y: x[0].outer(y[1]), "xy"),
    "reshape": (lambda x: x.reshape(9), ""),
    "reshape that copies": (lambda x: x.t().reshape(9), ""),
    "view": (lambda x: x.view(1, 9), ""),
    "flatten": (lambda x: x.flatten(), ""),
    "squeeze": (lambda x: x.unsqueeze(1).squeeze(), ""),
    "unsqueeze": (lambda x: x.unsqueeze(-1), ""),
    "transpose": (lambda x: x.transpose(0, 1), ""),
    "t": (lambda x: x.t(), ""),
    "permute": (lambda x: x.permute(1, 0), ""),
    "expand": (lambda x: x.expand(2, 3, 3), ""),
    "broadcast_to": (lambda x: x.broadcast_to((2, 3, 3)), ""),
    "repeat": (lambda x: x.repeat(2, 1), ""),
    "split": (lambda x: x.split(2)[0], ""),
    "chunk": (lambda x: x.chunk(2)[0], ""),
    "unbind": (lambda x: x.unbind()[0], ""),
    "narrow": (lambda x: x.narrow(1, 0, 2), ""),
    "roll": (lambda x: x.roll(1, 0), ""),
    "flip": (lambda x: x.flip(0), ""),
    "tril": (lambda x: x.tril(), ""),
    "triu": (lambda x: x.triu(), ""),
    "contiguous": (lambda x: x.t().contiguous(), ""),
    "cat": (lambda x, y: z2g.cat([x, y]), ""),
    "stack": (lambda x, y: z2g.stack([x, y]), ""),
    "__getitem__": (lambda x: x[1:, 0], ""),
    "indexed by a tensor": (lambda x, i: x[i[0]], "i"),
    "indexed by a mask": (lambda x, m: x[m], "m"),
    "gather": (lambda x, i: x.gather(0, i), "i"),
    "take_along_dim": (lambda x, i: x.take_along_dim(i, 0), "i"),
    "index_select": (lambda x, i: x.index_select(0, i[0]), "i"),
    "clone": (lambda x: x.clone(), ""),
    "to": (lambda x: x.to(z2g.float32).to(z2g.float64), ""),
    "softmax": (lambda x: x.softmax(-1), "z"),
    "log_softmax": (lambda x: x.log_softmax(-1), "z"),
    "F.gelu": (lambda x: F.gelu(x), "x"),
    "F.gelu tanh": (lambda x: F.gelu(x, "tanh"), "x"),
    "F.bias_gelu": (lambda x, y: F.bias_gelu(x, y[0]), "xy"),
    "F.silu": (lambda x: F.silu(x), "x"),
    "F.softplus": (lambda x: F.softplus(x), ""),
    "F.linear": (lambda x, y: F.linear(x, y, y[0]), "xy"),
    "F.layer_norm": (lambda x, y: F.layer_norm(x, (3,), y[0], y[1]), "y"),
    "F.cross_entropy": (lambda x, i: F.cross_entropy(x, i[0]), ""),
    "F.nll_loss": (lambda x, i: F.nll_loss(x, i[0]), ""),
    "F.mse_loss": (lambda x, y: F.mse_loss(x, y), "xy"),
    "F.l1_loss": (lambda x, y: F.l1_loss(x, y), ""),
    "F.dropout": (lambda x: F.dropout(x, 0.3), ""),
    "F.embedding": (lambda x, i: F.embedding(i, x), "i"),
    "F.pad": (lambda x: F.pad(x, (1, 1)), ""),
    "F.conv1d": (lambda x, y: F.conv1d(x, y.unsqueeze(-1), padding=1), "y"),
    "F.attention": (lambda x, y: F.scaled_dot_product_attention(x, y, x * y), "xy"),
}
NO_GRADIENT = {
    "eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_not", "__and__", "__or__", "__xor__",
    "__invert__", "__lshift__", "__rlshift__", "__rshift__", "__rrshift__",
    "isnan", "isfinite", "isinf", "isclose", "allclose", "equal", "floor_divide",
    "argsort", "count_nonzero", "argmax", "argmin", "all", "any", "__setitem__",
}  # fmt: skip


def inputs_of(op):
    """Fresh inputs for a row of OPS: {"x": tensor, ...}. The floating-point ones are leaves that require grad."""
    made = {
        "x": lambda: leaf(numbers(3, 3)),
        "y": lambda: leaf(numbers(3, 3, seed=1)),
        "t": lambda: leaf(numbers(3, 3, seed=1) / 4),  # probabilities
        "m": lambda: z2g.tensor(np.eye(3, dtype=bool)),
        "i": lambda: z2g.tensor(np.array([[0, 2, 2], [1, 0, 1], [2, 1, 0]])),
    }
    return {name: made[name]() for name in inspect.signature(OPS[op][0]).parameters}


def positions(*, read):
    """(op, position) for every input and result whose numbers the rules of op read, or do not read."""
    return [
        (op, position)
        for op, (f, reads) in OPS.items()
        for position in (*inspect.signature(f).parameters, "z")
        if (position in reads) == read
    ]


def test_trap_09_the_table_of_operations_is_complete():
    """Every method of Tensor that lives in ops/ is tried here or has no gradient to give."""
    table = {getattr(z2g.Tensor, name) for name in {*OPS, *NO_GRADIENT} if hasattr(z2g.Tensor, name)}
    turned = ("__rsub__", "__rtruediv__", "__rpow__", "__rmod__", "__rfloordiv__")
    table |= {getattr(z2g.Tensor, name) for name in turned}
    methods = {
        name: f
        for name, f in vars(z2g.Tensor).items()
        if getattr(f, "__module__", "").startswith("tinygrad_z2g.ops.") and name not in vars(Methods)
    }
    assert len(methods) > 50
    assert [name for name, f in methods.items() if f not in table] == []


@pytest.mark.parametrize("op", OPS)
def test_trap_09_no_operation_drops_gradients(device, op):
    inputs = inputs_of(op)
    z = OPS[op][0](**inputs)
    assert z.requires_grad and not z.is_leaf and z.grad_fn.name
    backward(z)
    for x in (inputs[name] for name in "xy" if name in inputs):
        assert x.grad is not None
        assert x.grad.shape == x.shape and x.grad.dtype == x.dtype and x.grad.device == x.device


@pytest.mark.parametrize("op, position", positions(read=False))
def test_trap_08_activations_that_no_rule_reads_die_in_the_forward_pass(device, op, position):
    """z = op(x); y = -z: unless a rule of op reads them, the numbers of x and of z are freed with their names."""
    with without_gc():
        inputs = {name: x + 0 if name in "xy" else x for name, x in inputs_of(op).items()}
        z = OPS[op][0](**inputs)
        array = weakref.ref((z if position == "z" else inputs[position]).array)
        y = -z
        del inputs, z
        assert array() is None
        assert y.requires_grad


# --- 10. In-place changes ----------------------------------------------------------------------------------------


def spoil(x):
    """Other numbers in x, behind the back of whoever read the old ones."""
    with z2g.no_grad():
        if x.dtype == z2g.bool:
            x.copy_(~x)
        else:
            x.zero_()


@pytest.mark.parametrize("op, position", [*positions(read=True), *positions(read=False)])
def test_trap_10_a_changed_tensor_gives_an_error_or_the_unchanged_gradient(device, op, position):
    """Any input, or the result, changes between forward and backward: never a wrong gradient."""
    f = OPS[op][0]
    z2g.manual_seed(0)  # dropout
    expected = inputs_of(op)
    backward(f(**expected))
    z2g.manual_seed(0)
    inputs = inputs_of(op)
    z = f(**inputs)
    try:
        spoil(z if position == "z" else inputs[position])
    except RuntimeError as error:
        assert "expanded" in str(error)  # refused on the spot
    try:
        backward(z)
    except RuntimeError as error:
        assert MODIFIED in str(error)
        return
    for name in inputs.keys() & {"x", "y", "t"}:
        np.testing.assert_array_equal(host(inputs[name].grad), host(expected[name].grad))


@pytest.mark.parametrize("op, position", positions(read=True))
def test_trap_10_what_a_rule_reads_is_watched(device, op, position):
    """The other half: where the gradient would come out wrong, backward says so and touches nothing."""
    inputs = inputs_of(op)
    z = OPS[op][0](**inputs)
    spoil(z if position == "z" else inputs[position])
    with pytest.raises(RuntimeError, match=MODIFIED):
        backward(z)
    assert all(x.grad is None for x in inputs.values())


@pytest.mark.parametrize("op", ["add", "sub", "rsub", "neg", "sum", "mean", "cumsum", "cat", "stack", "repeat"])
def test_trap_10_what_no_rule_reads_may_change(device, op):
    """torch does not complain here either."""
    inputs = inputs_of(op)
    z = OPS[op][0](**inputs)
    for x in (*inputs.values(), z):
        spoil(x)
    backward(z)
    assert inputs["x"].grad is not None


def under_no_grad(h):
    with z2g.no_grad():
        h.mul_(3)


def assign_detached(h):
    h.detach()[0] = 5


WRITES = {
    "+=": lambda h: h.add_(1),
    "h[0] = 5": lambda h: h.__setitem__(0, 5),
    "zero_": lambda h: h.zero_(),
    "fill_": lambda h: h.fill_(3),
    "copy_": lambda h: h.copy_(h * 2),
    "masked_fill_": lambda h: h.masked_fill_(h > 1, 0),
    "normal_": lambda h: h.normal_(),
    "uniform_": lambda h: h.uniform_(),
    "under no_grad": under_no_grad,
    "through a view": lambda h: h.view(9).mul_(3),
    "through a view of a view": lambda h: h.t()[0].add_(1),
    "through detach": assign_detached,
    "through a view of detach": lambda h: h.detach().view(9).add_(1),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_trap_10_every_way_of_writing_is_noticed(device, write):
    x = leaf(numbers(3, 3))
    h = x * 1
    y = h * h
    write(h)
    with pytest.raises(RuntimeError, match=MODIFIED):
        backward(y)
    assert x.grad is None


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_trap_10_a_view_is_watched_together_with_its_base(device, write):
    """The rule read a view; what was written to is the base. (And the other way round, above.)"""
    x = leaf(numbers(3, 3))
    h = x * 1
    y = h.t()[1].square()
    write(h)
    with pytest.raises(RuntimeError, match=MODIFIED):
        backward(y)


def test_trap_10_a_step_of_the_optimizer_between_forward_and_backward(device):
    w = leaf(numbers(3))
    optimizer = z2g.optim.SGD([w], lr=0.1)
    backward(w * 2)
    loss = w * w
    optimizer.step()
    with pytest.raises(RuntimeError, match=MODIFIED):
        backward(loss)


def test_trap_10_loading_weights_between_forward_and_backward(device):
    layer = z2g.nn.Linear(3, 2)
    y = layer(z2g.ones(4, 3, requires_grad=True))
    layer.load_state_dict(z2g.nn.Linear(3, 2).state_dict())
    with pytest.raises(RuntimeError, match=MODIFIED):
        y.sum().backward()


def test_trap_10_a_retained_graph_is_watched_too(device):
    x = leaf(numbers(3))
    y = x * x
    w = backward(y, retain_graph=True)
    with z2g.no_grad():
        x.add_(1)
    with pytest.raises(RuntimeError, match=MODIFIED):
        backward(y)
    assert_close(x.grad, 2 * (host(x) - 1) * w)


def rewrite_with_own_shift(y):
    y[1:] = y[:-1]


def add_to_part(y):
    y[0] += 1
    y[0] *= 3


def part_of_part(y):
    y[1:][0] *= 2  # a view of a view
    y[0] *= 3


def mask_out(y):
    y[y > 1] = 0


def add_all(y):
    y += 1
    y *= 3
    y -= y.detach()
    y /= 2


# y = x · 1 is changed in place; what comes out is Σ w y. Expected: the gradient for the old numbers a.
CHANGES = {
    "y += 1; y *= 3; y /= 2": (add_all, lambda a, w: 1.5 * w),
    "y[1:][0] *= 2; y[0] *= 3": (part_of_part, lambda a, w: w * np.array([3, 2, 1, 1])),
    "y[0] += 1; y[0] *= 3": (add_to_part, lambda a, w: w * np.array([3, 1, 1, 1])),
    "y[1] = 5": (lambda y: y.__setitem__(1, 5), lambda a, w: w * np.array([1, 0, 1, 1])),
    "y[[2, 0]] = 5": (lambda y: y.__setitem__([2, 0], 5), lambda a, w: w * np.array([0, 1, 0, 1])),
    "y[mask] = 0": (mask_out, lambda a, w: w * (a <= 1)),
    "y[1:] = y[:-1]": (rewrite_with_own_shift, lambda a, w: np.array([w[0] + w[1], w[2], w[3], 0])),
    "zero_": (lambda y: y.zero_(), lambda a, w: 0 * w),
    "masked_fill_": (lambda y: y.masked_fill_(y > 1, 0), lambda a, w: w * (a <= 1)),
}


@pytest.mark.parametrize("change, expected", CHANGES.values(), ids=CHANGES)
def test_trap_10_a_change_becomes_part_of_the_history(device, change, expected):
    x = leaf([0.5, 0.75, 1.5, 2.0])
    y = x * 1
    change(y)
    w = backward(y)
    assert_close(x.grad, expected(host(x), w))


def test_trap_10_a_value_written_in_place_receives_its_gradient(device):
    x, v = leaf(numbers(2, 3)), leaf(numbers(3))
    y = x * 2
    y[1] = v * 3
    w = backward(y)
    assert_close(v.grad, 3 * w[1])
    assert_close(x.grad, 2 * w * [[1], [0]])


SLICES = {  # y (3, 4) -> terms of L, and how often each element of y occurs in them
    "thirds": (lambda y: [y[0], y[1], y[2]], [[1] * 4, [1] * 4, [1] * 4]),
    "overlapping": (lambda y: [y[:2], y[1:, 1:], y[1, 2], y[..., None, 3]], [[1, 1, 1, 2], [1, 2, 3, 3], [0, 1, 1, 2]]),
    "of a slice": (lambda y: [y[1:][1], y[1:, 1]], [[0] * 4, [0, 1, 0, 0], [1, 2, 1, 1]]),
    "and the whole, first": (lambda y: [y, y[0], y[0]], [[3] * 4, [1] * 4, [1] * 4]),
    "and the whole, last": (lambda y: [y[0], y.narrow(1, 1, 2), y], [[2, 3, 3, 2], [1, 2, 2, 1], [1, 2, 2, 1]]),
    "and the whole, between": (lambda y: [y[0, 0], y + 0, y[()]], [[3, 2, 2, 2], [2] * 4, [2] * 4]),
    "none of": (lambda y: [y[3:], y[:, 4:]], [[0] * 4] * 3),
}  # fmt: skip


@pytest.mark.parametrize("name", SLICES)
@pytest.mark.parametrize("is_leaf", [True, False])
def test_slices_add_up(device, name, is_leaf):
    """Walked twice; and what hooks, retain_grad, grad() and anomaly detection see is whole."""
    terms, count = SLICES[name]
    x, seen = leaf(numbers(3, 4)), []
    with z2g.autograd.detect_anomaly():
        y = x if is_leaf else x * 2
        y.register_hook(lambda g: seen.append(host(g)))
        if not is_leaf:
            y.retain_grad()
        L = sum(part.sum() for part in terms(y))
    (dy,) = z2g.autograd.grad([L], [y], retain_graph=True)
    assert_close(dy, np.array(count, float))
    L.backward(retain_graph=True)
    L.backward()
    assert_close(y.grad, (2 if is_leaf else 3) * np.array(count, float))  # retain_grad is for every walk
    assert_close(x.grad, (2 if is_leaf else 4) * np.array(count, float))
    assert all(np.array_equal(g, np.array(count)) for g in seen) and len(seen) >= 2


def test_a_slice_is_not_added_into_an_array_that_another_has_too(device):
    """y + u hands one array to y and to u; the slice's gradient comes to y after it."""
    x, u = leaf(numbers(3)), leaf(numbers(3))
    y = x * 1
    first = y[0]
    (y + u * 1).sum().backward(retain_graph=True)
    x.grad = u.grad = None
    ((y + u * 1).sum() + first).backward()
    assert_close(x.grad, np.array([2.0, 1, 1]))
    assert_close(u.grad, np.ones(3))


def test_gradients_of_a_0d_tensor_can_be_written_to(device):
    """NumPy computes them as scalars: `grad[...] = 0` would change a copy, `grad[place] += part` is an error."""
    x = leaf(2.0)
    (x[None] + x * 2 + x * 3).sum().backward()
    assert x.grad.item() == 6
    x = leaf(2.0)
    b = x * 1
    b[...] = 7.0
    (b * 3).backward()
    assert x.grad.item() == 0
    x = leaf(2.0)
    b = x.clone()
    b[()] = x * 2
    (b * 3).backward()
    assert x.grad.item() == 6


def test_many_slices_make_one_array_of_zeros(monkeypatch):
    calls = []
    monkeypatch.setattr(engine, "match", lambda *args, right=engine.match: calls.append(args) or right(*args))
    x = leaf(numbers(5, 2))
    sum((row * row).sum() for row in x).backward()
    parts = [grad for grad, _ in calls if isinstance(grad, engine.Part)]
    assert len(parts) == 1
    assert_close(x.grad, 2 * host(x))


@pytest.mark.parametrize("index", [0, (0, 1), slice(1), [0], ..., None, (slice(None), 1)], ids=str)
def test_trap_10_a_buffer_takes_up_gradients(device, index):
    """Results collected in zeros(...): the buffer had no history and now has one."""
    v = leaf(2.0)
    buffer = const(np.zeros((2, 3)))
    buffer[index] += v
    buffer[index] = buffer[index] + v * v
    w = backward(buffer)
    hit = np.zeros((2, 3))
    hit[index] = 1
    assert_close(v.grad, (w * hit).sum() * (1 + 2 * 2.0))


def test_trap_10_a_buffer_filled_through_views_takes_up_gradients(device):
    """Those writes had no history; they are no reason to refuse the one that comes now."""
    v = leaf(numbers(3))
    buffer = const(np.zeros((2, 3)))
    for row in buffer:
        row.fill_(5)
    buffer[0] += v
    w = backward(buffer)
    assert_close(v.grad, w[0])


def test_trap_10_saved_results_may_not_change(device):
    """y = eˣ is its own slope."""
    y = leaf(numbers(3)).exp()
    y += 1
    with pytest.raises(RuntimeError, match=MODIFIED):
        backward(y)


LEAF_WRITES = {
    "+=": lambda x: x.__iadd__(1),
    "mul_": lambda x: x.mul_(2),
    "zero_": lambda x: x.zero_(),
    "copy_": lambda x: x.copy_(x.detach() * 2),
    "normal_": lambda x: x.normal_(),
    "clamp_": lambda x: x.clamp_(0, 1),
    "x[0] = 1": lambda x: x.__setitem__(0, 1),
}


@pytest.mark.parametrize("write", LEAF_WRITES.values(), ids=LEAF_WRITES)
def test_trap_10_a_leaf_is_written_under_no_grad_only(device, write):
    x = leaf(numbers(3))
    before = host(x)
    with pytest.raises(RuntimeError, match="leaf"):
        write(x)
    assert_close(x, before)
    with z2g.no_grad():
        write(x)
    assert x.is_leaf and x.requires_grad
    assert (host(x) != before).any()


def test_trap_10_a_view_of_a_leaf_is_written_under_no_grad_only(device):
    """Otherwise the leaf's numbers change although nobody asked for no_grad."""
    x = leaf(numbers(3))
    before = host(x)
    with pytest.raises(RuntimeError, match="leaf"):
        x.view(3).add_(1)
    with pytest.raises(RuntimeError, match="leaf"):
        x[0] += 1
    assert_close(x, before)


def test_trap_10_a_detached_leaf_is_a_memory_of_its_own_right(device):
    """Making d = y.detach() a leaf protects d, not y, which shares the numbers but is a result."""
    x = leaf(numbers(3))
    y = x * 1
    d = y.detach().requires_grad_()
    with pytest.raises(RuntimeError, match="leaf"):
        d.view(3).add_(1)
    y += 1
    w = backward(y * 2)
    assert_close(x.grad, 2 * w)


def test_trap_10_factors_in_place(device):
    """torch keeps a copy of y for w's gradient; a residual stream scaled in place is such a line."""
    x, u = leaf(numbers(3)), leaf(numbers(3, seed=1))
    y = x * 1
    y *= u
    w = backward(y)
    assert_close(x.grad, host(u) * w)
    assert_close(u.grad, host(x) * w)


def test_trap_10_clamp_in_place(device):
    x = leaf([0.5, 1.5, 2.5])
    y = x * 1
    y.clamp_(1, 2)
    w = backward(y)
    assert_close(x.grad, w * [0, 1, 0])


def test_trap_10_a_numpy_operand_may_change_afterwards(device):
    """No counter watches a NumPy array, so what a rule reads of it must be a copy."""
    factor, x = np.array([2.0, 3.0]), leaf([1, 1])
    y = x * factor
    factor[:] = 100
    w = backward(y)
    assert_close(x.grad, w * [2, 3])


def test_trap_10_a_numpy_index_may_change_afterwards(device):
    index, x = np.array([0, 1]), leaf([1, 1, 1])
    y = x[index]
    index[:] = 2
    w = backward(y)
    assert_close(x.grad, [*w, 0])


def test_trap_10_a_parameter_is_watched_through_the_tensor_it_was_made_of(device):
    start = const([1, 2])
    p = z2g.nn.Parameter(start)
    y = p * p
    start.zero_()  # the same memory
    with pytest.raises(RuntimeError, match=MODIFIED):
        backward(y)


def test_trap_10_an_integer_tensor_takes_up_no_history(device):
    """Rounding has no gradient: a number written into an integer tensor leaves its history behind."""
    counts = z2g.tensor([0, 0])
    counts[0] = leaf(2.5)
    assert counts.tolist() == [2, 0]
    assert not counts.requires_grad


# --- 11. Switching recording off and on --------------------------------------------------------------------------


def records():
    """Whether an operation is recorded here, by its effect and by what the library says."""
    seen = (leaf([1.0]) * 2).requires_grad
    assert seen == z2g.is_grad_enabled()
    return seen


SWITCHES = {
    "no_grad": (lambda: z2g.no_grad(), False),
    "inference_mode": (lambda: z2g.inference_mode(), False),
    "set_grad_enabled(False)": (lambda: z2g.set_grad_enabled(False), False),
    "enable_grad": (lambda: z2g.enable_grad(), True),
    "set_grad_enabled(True)": (lambda: z2g.set_grad_enabled(True), True),
}


@pytest.fixture(params=[True, False], ids=["recording", "not recording"])
def outer(request):
    """The mode around the test's own switches."""
    z2g.set_grad_enabled(request.param)
    yield request.param
    assert z2g.is_grad_enabled() == request.param
    z2g.set_grad_enabled(True)


@pytest.mark.parametrize("switch, inside", SWITCHES.values(), ids=SWITCHES)
class TestTrap11Switches:
    def test_trap_11_as_context(self, switch, inside, outer):
        with switch():
            assert records() == inside
        assert records() == outer

    def test_trap_11_as_decorator(self, switch, inside, outer):
        @switch()
        def function(a, *, b):
            """doc"""
            return records(), a, b

        assert records() == outer  # decorating switches nothing
        assert function(1, b=2) == (inside, 1, 2)
        assert (function.__name__, function.__doc__) == ("function", "doc")
        assert records() == outer

    def test_trap_11_an_exception_restores(self, switch, inside, outer):
        @switch()
        def fail():
            raise KeyError

        with pytest.raises(KeyError), switch():
            raise KeyError
        assert records() == outer
        with pytest.raises(KeyError):
            fail()
        assert records() == outer

    def test_trap_11_one_object_entered_twice(self, switch, inside, outer):
        context = switch() if "set" not in type(switch()).__name__ else None
        z2g.set_grad_enabled(outer)
        if context is None:
            pytest.skip("set_grad_enabled remembers the mode at the time it was made, as in torch")
        with context:
            with z2g.enable_grad(), context:
                assert records() == inside
            assert records() == inside
        assert records() == outer

    def test_trap_11_generators_switch_in_their_steps_only(self, switch, inside, outer):
        @switch()
        def steps():
            got = yield records()
            try:
                yield got, records()
            except KeyError:
                yield "caught", records()
            return records()

        generator = steps()
        assert next(generator) == inside
        assert records() == outer
        assert generator.send("hello") == ("hello", inside)
        assert records() == outer
        assert generator.throw(KeyError()) == ("caught", inside)
        assert records() == outer
        with pytest.raises(StopIteration) as stop:
            next(generator)
        assert stop.value.value == inside
        assert records() == outer

    def test_trap_11_generators_that_are_closed_or_fail(self, switch, inside, outer):
        seen = []

        @switch()
        def steps(fail):
            try:
                yield 1
                raise ValueError if fail else AssertionError
            finally:
                seen.append(records())

        with pytest.raises(ValueError):
            list(steps(fail=True))
        generator = steps(fail=False)
        next(generator)
        generator.close()
        assert seen == [inside, inside]
        assert records() == outer


def test_trap_11_nesting():
    trace = []
    with z2g.no_grad():
        with z2g.enable_grad():
            trace.append(records())
            with z2g.inference_mode(), z2g.set_grad_enabled(True):
                trace.append(records())
            with z2g.no_grad():
                trace.append(records())
            trace.append(records())
        trace.append(records())
    assert trace == [True, True, False, True, False]


def test_trap_11_set_grad_enabled_as_a_statement():
    z2g.set_grad_enabled(False)
    assert not records()
    z2g.set_grad_enabled(True)
    assert records()


def test_trap_11_decorators_without_parentheses():
    assert z2g.no_grad(records)() is False
    with z2g.no_grad():
        assert z2g.enable_grad(records)() is True


@pytest.mark.parametrize("mode", [True, False])
def test_trap_11_inference_mode_takes_a_mode(mode):
    with z2g.inference_mode(mode):
        assert records() is not mode
    with z2g.inference_mode(mode=mode):
        assert records() is not mode


def test_trap_11_recursion_through_a_decorated_function():
    @z2g.no_grad()
    def down(n):
        return [records(), *(down(n - 1) if n else [])]

    assert down(3) == [False] * 4
    assert records()


def test_trap_11_a_part_without_recording_is_a_constant(device):
    x = leaf(numbers(3))
    with z2g.no_grad():
        factor = x * x
    for constant in (factor, (x * x).detach()):
        x.grad = None
        w = backward(x * constant)
        assert_close(x.grad, w * host(x) ** 2)


def test_trap_11_backward_works_under_no_grad(device):
    x = leaf(numbers(3))
    y = x * x
    with z2g.no_grad():
        w = backward(y)
    assert_close(x.grad, 2 * host(x) * w)


def test_trap_11_detach_shares_memory_but_no_history(device):
    x = leaf(numbers(3))
    y = x * 1
    d = y.detach()
    assert d.is_leaf and not d.requires_grad and d.grad_fn is None
    d[0] = 9
    assert host(y)[0] == 9
    d.requires_grad_()
    w = backward(d * 2)
    assert_close(d.grad, 2 * w)
    assert x.grad is None


def in_thread(function):
    """What `function` returns when it runs in a thread of its own."""
    results = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0]


def test_trap_11_each_thread_has_its_own_mode():
    def switch_off_and_leave():
        before = records()
        z2g.set_grad_enabled(False)
        return before, records()

    with z2g.no_grad():
        assert in_thread(records) is True  # a thread starts with recording on
    assert in_thread(switch_off_and_leave) == (True, False)
    assert records()


def test_trap_11_threads_walk_their_own_graphs(device):
    def work(k):
        x = leaf([float(k)])
        for _ in range(20):
            y = x
            for _ in range(20):
                y = y * 1 + x
            y.sum().backward()
        return x.grad.item()

    results = {}
    threads = [threading.Thread(target=lambda k=k: results.update({k: work(k)})) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == dict.fromkeys(range(4), 20 * 21.0)


# --- Hooks and kept gradients ------------------------------------------------------------------------------------


def test_hooks_see_the_complete_gradient_once(device):
    x, seen = leaf(numbers(3)), []
    h = x * 2
    for t in (h, x):
        t.register_hook(lambda grad: seen.append(host(grad)))
    w = backward(h + h * 3)
    assert len(seen) == 2
    assert_close(seen[0], 4 * w)
    assert_close(seen[1], 8 * w)


@pytest.mark.parametrize("where", ["inner", "leaf"])
def test_hooks_replace_the_gradient_and_can_be_removed(device, where):
    x = leaf(numbers(3))
    h = x * 2
    handle = (h if where == "inner" else x).register_hook(lambda grad: grad * 10)
    w = backward(h * 3, retain_graph=True)
    assert_close(x.grad, 60 * w)
    handle.remove()
    handle.remove()  # twice is no mistake
    x.grad = None
    backward(h * 3)
    assert_close(x.grad, 6 * w)


@pytest.mark.parametrize("where", ["inner", "leaf"])
def test_hooks_run_in_the_order_of_registration(device, where):
    x = leaf(numbers(3))
    h = x * 1
    t = h if where == "inner" else x
    t.register_hook(lambda grad: grad + 1)  # nobody keeps the handles
    t.register_hook(lambda grad: grad * 2)
    t.register_hook(lambda grad: None)
    w = backward(h)
    assert_close(x.grad, (w + 1) * 2)


def test_a_hook_may_not_change_the_shape(device):
    x = leaf(numbers(3))
    x.register_hook(lambda grad: z2g.stack([grad, grad]))
    with pytest.raises(RuntimeError, match="hook"):
        backward(x * 2)
    assert x.grad is None


def test_a_hook_that_fails_touches_no_leaf(device):
    def fail(grad):
        raise KeyError

    x, y = leaf(numbers(3)), leaf(numbers(3))
    h = x * 1
    h.register_hook(fail)
    with pytest.raises(KeyError):
        backward(h + y)
    assert x.grad is None and y.grad is None


def test_a_hook_may_walk_another_graph(device):
    x, u = leaf(numbers(3)), leaf(3.0)
    h = x * 2
    h.register_hook(lambda grad: (u * u).backward())
    w = backward(h)
    assert_close(x.grad, 2 * w)
    assert u.grad.item() == 6


def test_hooks_and_retain_grad_need_a_tensor_with_gradients(device):
    for call in (const([1]).retain_grad, lambda: const([1]).register_hook(print)):
        with pytest.raises(RuntimeError, match="does not require grad"):
            call()


def test_retain_grad_keeps_the_gradient_of_a_result(device):
    x = leaf(numbers(3))
    kept, forgotten = x * 2, x * 3
    kept.retain_grad()
    x.retain_grad()  # a leaf keeps it anyway
    w = backward(kept * forgotten)
    assert_close(kept.grad, w * host(forgotten))
    assert forgotten.grad is None


def test_retain_grad_keeps_what_the_hooks_made_of_it(device):
    x = leaf(numbers(3))
    h = x * 2
    h.retain_grad()
    h.register_hook(lambda grad: grad * 10)
    w = backward(h)
    assert_close(h.grad, 10 * w)


def test_retain_grad_follows_a_tensor_through_changes(device):
    """.grad belongs to the numbers that the tensor holds now, as in torch."""
    h = leaf(numbers(3)) * 2
    h.retain_grad()
    h *= 3
    w = backward(h)
    assert_close(h.grad, w)


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
