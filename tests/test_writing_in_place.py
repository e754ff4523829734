"""In-place changes between forward and backward: row 10 of the list of traps.

Expected gradients are worked out by hand or with NumPy, in float64, with a random cotangent w: the loss is Σ w y.
"""

import numpy as np
import pytest
from engine_tools import MODIFIED, OPS, assert_close, backward, const, host, inputs_of, leaf, numbers, positions

import tinygrad_z2g as z2g
from tinygrad_z2g.core import engine

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
