"""Hooks, and gradients of results kept because they were asked for.

Expected gradients are worked out by hand or with NumPy, in float64, with a random cotangent w: the loss is Σ w y.
"""

import pytest
from engine_tools import assert_close, backward, const, host, leaf, numbers

import tinygrad_z2g as z2g

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
