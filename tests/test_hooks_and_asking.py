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
    """As in torch it has to switch recording on."""
    x, u = leaf(numbers(3)), leaf(3.0)
    h = x * 2

    def walk(grad):
        with z2g.enable_grad():
            (u * u).backward()

    h.register_hook(walk)
    w = backward(h)
    assert_close(x.grad, 2 * w)
    assert u.grad.item() == 6


@pytest.mark.parametrize("where", ["inner", "leaf", "after"])
@pytest.mark.parametrize("enabled", [True, False])
def test_nothing_is_recorded_in_hooks_unless_the_walk_is(device, where, enabled):
    """As in torch, and as in `Function.backward`: what a hook makes of a gradient keeps no graph alive, and it may
    write to a leaf."""
    x, u, heard = leaf(numbers(3)), leaf([1.0, 2.0, 3.0]), []
    h = x * x

    def hook(given):
        heard.append((z2g.is_grad_enabled(), (u * 2).requires_grad, given.requires_grad))
        if not z2g.is_grad_enabled():
            u.mul_(2)

    t = h if where == "inner" else x
    (t.register_post_accumulate_grad_hook if where == "after" else t.register_hook)(hook)
    loss = (h * h).sum()
    with z2g.set_grad_enabled(enabled):
        loss.backward(retain_graph=True)
        loss.backward(create_graph=True)
        assert z2g.is_grad_enabled() == enabled
    leaf_itself = where == "after"  # is what is given
    assert heard == [(False, False, leaf_itself), (True, True, True)]
    assert u.tolist() == [2, 4, 6]


def test_hooks_when_the_grad_is_complete(device):
    x, u, heard = leaf([1.0, 2.0]), leaf([3.0, 4.0]), []
    handle = x.register_post_accumulate_grad_hook(lambda p: heard.append((p is x, p.grad.tolist(), u.grad.tolist())))
    x.register_hook(lambda grad: grad * 10)
    (x * u).sum().backward()
    (x * u).sum().backward()
    assert heard == [(True, [30, 40], [1, 2]), (True, [60, 80], [2, 4])]
    z2g.autograd.grad((x * u).sum(), x)  # adds to no .grad
    (x * u).sum().backward(inputs=[u])
    handle.remove()
    (x * u).sum().backward()
    assert len(heard) == 2
    with pytest.raises(RuntimeError, match="expected a leaf that requires grad"):
        (x * 2).register_post_accumulate_grad_hook(print)
    with pytest.raises(RuntimeError, match="expected a leaf that requires grad"):
        const([1]).register_post_accumulate_grad_hook(print)
    frozen = leaf([1.0])
    frozen.register_post_accumulate_grad_hook(lambda p: heard.append(p))
    loss = (frozen * 2).sum()
    frozen.requires_grad_(False)
    loss.backward()
    assert len(heard) == 2


def test_what_a_hook_after_the_gradient_returns_is_refused(device):
    """As in torch: who returns a gradient, as `register_hook` takes it, would change nothing."""
    x = leaf([1.0, 2.0])
    handle = x.register_post_accumulate_grad_hook(lambda p: p.grad * 2)
    with pytest.raises(RuntimeError, match="hook: returned Tensor, expected None; to change the gradient, write to"):
        (x * 3).sum().backward()
    handle.remove()
    x.grad = None
    x.register_post_accumulate_grad_hook(lambda p: setattr(p, "grad", p.grad * 2))
    (x * 3).sum().backward()
    assert x.grad.tolist() == [6, 6]


def test_an_optimizer_may_step_while_the_walk_ends(device):
    """torch's recipe: one optimizer for each parameter, and no gradient is left."""
    model = z2g.nn.Linear(2, 2)
    each = {p: z2g.optim.SGD([p], lr=0.5) for p in model.parameters()}

    def step(p):
        each[p].step()
        each[p].zero_grad()

    for p in each:
        p.register_post_accumulate_grad_hook(step)
    before = [p.clone() for p in model.parameters()]
    model(z2g.ones(3, 2)).sum().backward()
    for p, old in zip(model.parameters(), before, strict=True):
        assert p.grad is None and (old - p).allclose(z2g.full(p.shape, 1.5))


def test_whether_a_gradient_is_kept_and_a_hook_for_a_while(device):
    x = leaf(numbers(3))
    h = x * 2
    assert not h.retains_grad and not x.retains_grad
    h.retain_grad()
    x.retain_grad()
    assert h.retains_grad and not x.retains_grad  # a leaf keeps its gradient anyway
    h *= 3
    assert h.retains_grad and not (h * 1).retains_grad and not h.detach().retains_grad
    with h.register_hook(lambda grad: grad * 10) as handle:
        w = backward(h, retain_graph=True)
        assert_close(x.grad, 60 * w)
    handle.remove()
    x.grad = None
    w = backward(h)
    assert_close(x.grad, 6 * w)


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
