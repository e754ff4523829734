"""`autograd.grad`, operations of one's own, and the search for the first NaN."""

import gc
import math
import weakref

import numpy as np
import pytest

import tinygrad_z2g as z2g
from tinygrad_z2g.autograd import Function, backward, detect_anomaly, grad, gradcheck, set_detect_anomaly
from tinygrad_z2g.tools import explain


def leaf(values):
    return z2g.tensor(values, dtype=z2g.float64, requires_grad=True)


# --- grad ---------------------------------------------------------------------------------------------------------


def test_grad_of_leaves_and_of_what_lies_between(device):
    x, y = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    h = x * y
    (of_x, of_h) = grad((h * h).sum(), [x, h])
    assert of_h.tolist() == [6, 16] and of_x.tolist() == [18, 64]
    assert x.grad is None and y.grad is None and h.grad is None
    assert of_x.grad_fn is None and not of_x.requires_grad


def test_grad_of_one_input_is_a_tuple_too(device):
    x = leaf(3.0)
    assert [g.item() for g in grad(x * x, x)] == [6]


def test_grad_of_several_outputs_is_their_sum(device):
    x = leaf([1.0, 2.0])
    a, b = x * 2, x.square()
    (g,) = grad([a, b], x, [z2g.tensor([1.0, 10.0], dtype=z2g.float64), z2g.tensor([1.0, 1.0], dtype=z2g.float64)])
    assert g.tolist() == [2 + 2, 20 + 4]


def test_grad_of_the_output_itself(device):
    x = leaf(3.0)
    y = x * x
    assert grad(y, y)[0].item() == 1


def test_grad_frees_the_graph_unless_told_not_to(device):
    x = leaf(3.0)
    y = x.square() * x
    assert grad(y, x, retain_graph=True)[0].item() == 27
    assert grad(y, x)[0].item() == 27
    with pytest.raises(RuntimeError, match="already used up"):
        grad(y, x)


def test_grad_of_an_input_that_plays_no_part(device):
    x, y = leaf(1.0), leaf(2.0)
    assert grad(x * 2, [x, y], allow_unused=True)[1] is None
    with pytest.raises(RuntimeError, match=r"do not depend on input 1.*allow_unused"):
        grad(x * 2, [x, y])
    with pytest.raises(RuntimeError, match="1 outputs but 2 gradients"):
        grad(x * 2, x, [z2g.ones(()), z2g.ones(())])


def test_gradients_returned_are_nobody_elses(device):
    """The gradient of a + b is one array for both; what is returned may be written to."""
    a, b = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    of_a, of_b = grad((a + b).sum(), [a, b])
    of_a.mul_(100)
    assert of_b.tolist() == [1, 1]


def test_hooks_change_what_grad_returns(device):
    """As in torch 2.13: of a tensor on the way to another input, the gradient before its hooks; else after them."""

    def hooked():
        x = leaf([1.0, 2.0])
        h = x * 3
        h.register_hook(lambda g: g * 10)
        x.register_hook(lambda g: g * 100)
        return x, h

    x, h = hooked()
    assert [g.tolist() for g in grad(h.sum(), [x, h])] == [[3000, 3000], [1, 1]]
    x, h = hooked()
    assert [g.tolist() for g in grad(h.sum(), [h])] == [[10, 10]]
    x, h = hooked()
    assert [g.tolist() for g in grad(h.sum(), [x])] == [[3000, 3000]]


def test_grad_fills_what_retain_grad_asked_for(device):
    x = leaf([1.0, 2.0])
    h = x * 3
    kept = h * 5
    h.retain_grad()
    kept.retain_grad()
    h.register_hook(lambda g: g * 10)
    assert [g.tolist() for g in grad((kept * 7).sum(), [x])] == [[1050, 1050]]
    assert kept.grad.tolist() == [7, 7] and h.grad.tolist() == [350, 350] and x.grad is None


# Measured with torch 2.13: y = 3 h, h = 2 x, u takes part as well. What .grad is filled by backward(inputs=...)
INPUTS = {
    "a leaf": (lambda x, h, u: [x], {"x": [42, 42]}),
    "a tensor, not in a list": (lambda x, h, u: u, {"u": [6, 12]}),
    "a result": (lambda x, h, u: [h], {"h": [21, 21]}),
    "both": (lambda x, h, u: (h, x), {"x": [42, 42], "h": [21, 21]}),
    "twice": (lambda x, h, u: [x, x], {"x": [42, 42]}),
    "one that has no part": (lambda x, h, u: [leaf([1.0])], {}),
}


@pytest.mark.parametrize("inputs, filled", INPUTS.values(), ids=INPUTS)
@pytest.mark.parametrize("function", [True, False])
def test_backward_fills_the_grad_of_inputs_alone(device, inputs, filled, function):
    x, u = leaf([1.0, 2.0]), leaf([7.0, 7.0])
    h = x * 2
    L = (h * 3 * u).sum()
    if function:
        backward(L, inputs=inputs(x, h, u))
    else:
        L.backward(inputs=inputs(x, h, u))
    found = {name: t.grad.tolist() for name, t in {"x": x, "h": h, "u": u}.items() if t.grad is not None}
    assert found == filled


def test_what_a_walk_need_not_pass_may_be_used_up(device):
    """grad(L, L) is 1 whatever became of the graph below; beyond it nothing can be found. As in torch 2.13."""
    x = leaf([2.0])
    h = x * x
    L = h.sum()
    L.backward()
    assert grad(L, L)[0].item() == 1
    assert grad(h, [h], [z2g.ones(1, dtype=z2g.float64)])[0].tolist() == [1]
    for inputs in ([x], [L, x], [h]):
        with pytest.raises(RuntimeError, match=r"used up|do not depend"):
            grad(L, inputs)


def test_a_leaf_that_is_frozen_before_backward_gets_nothing(device):
    """As in torch 2.13."""
    x, u = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    L = (x * u).sum()
    x.requires_grad_(False)
    L.backward()
    assert x.grad is None and u.grad.tolist() == [1, 2]


def test_gradients_of_two_shapes_are_not_added(device):
    x = leaf([1.0, 2.0, 3.0])
    x.sum().backward()
    x.data = z2g.ones(1, dtype=z2g.float64)
    with pytest.raises(RuntimeError, match=r"set \.grad to None"):
        x.sum().backward()


def test_backward_refuses_other_inputs(device):
    x = leaf([1.0, 2.0])
    for inputs, error, words in [
        ([], RuntimeError, "empty"),
        ([5], TypeError, "Tensors"),
        ([z2g.ones(2)], RuntimeError, "does not require grad"),
    ]:
        with pytest.raises(error, match=words):
            x.sum().backward(inputs=inputs)
    assert x.grad is None


def test_gradients_assigned_must_fit(device):
    """Otherwise an optimizer would broadcast them without a word."""
    x = leaf([1.0, 2.0, 3.0])
    for value, error, words in [
        (z2g.tensor(1.0, dtype=z2g.float64), RuntimeError, r"shape \(\),"),
        (z2g.ones(3, 1, dtype=z2g.float64), RuntimeError, r"shape \(3, 1\)"),
        (z2g.ones(3, dtype=z2g.float32), RuntimeError, "float32"),
        (z2g.ones(3, dtype=z2g.int64), RuntimeError, "int64"),
        ([1.0, 1.0, 1.0], TypeError, "list"),
        (1.0, TypeError, "float"),
        (x, RuntimeError, "own gradient"),
    ]:
        with pytest.raises(error, match=words):
            x.grad = value
        assert x.grad is None
    g = z2g.ones(3, dtype=z2g.float64)
    x.grad = g
    assert x.grad is g
    x.grad = None
    assert x.grad is None
    (x * 1)[:2].grad = z2g.ones(2, dtype=z2g.float64)  # of a result too


@pytest.mark.gpu
def test_gradients_assigned_must_be_on_the_device(card):
    x = z2g.ones(3, device="cuda", requires_grad=True)
    with pytest.raises(RuntimeError, match="on cpu"):
        x.grad = z2g.ones(3, device="cpu")


def test_backward_of_several_tensors(device):
    x = leaf([1.0, 2.0])
    backward([x.sum(), (x * x).sum()])
    assert x.grad.tolist() == [3, 5]


# --- Function -----------------------------------------------------------------------------------------------------


class Scale(Function):
    """z = k x, where k is a plain number."""

    @staticmethod
    def forward(ctx, x, k):
        ctx.k = k
        return x * k

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.k, None


class Square(Function):
    """Saves its input."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * 2 * x


class Exp(Function):
    """Saves its own output."""

    @staticmethod
    def forward(ctx, x):
        y = x.exp()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, grad):
        (y,) = ctx.saved_tensors
        return grad * y


class Polar(Function):
    """Two inputs, two outputs and one without gradient."""

    @staticmethod
    def forward(ctx, r, angle):
        ctx.save_for_backward(r, angle)
        quadrant = (angle / (math.pi / 2)).floor()
        ctx.mark_non_differentiable(quadrant)
        return r * angle.cos(), r * angle.sin(), quadrant

    @staticmethod
    def backward(ctx, dx, dy, none):
        r, angle = ctx.saved_tensors
        assert none.shape == r.shape and not none.any()
        return dx * angle.cos() + dy * angle.sin(), r * (dy * angle.cos() - dx * angle.sin())


def test_an_operation_of_ones_own(device):
    x = leaf([1.0, -2.0])
    y = Scale.apply(x, 3)
    assert y.grad_fn.name == "Scale"
    (y * y).sum().backward()
    assert x.grad.tolist() == [18, -36]
    assert gradcheck(lambda x: Scale.apply(x.sin(), -0.5) * x, leaf([0.3, 0.7]))


def test_saving_the_output(device):
    assert gradcheck(lambda x: Exp.apply(x) * x, leaf([0.3, -0.7]))
    x = leaf([0.0, 1.0])
    y = Exp.apply(x)
    y.add_(1)
    with pytest.raises(RuntimeError, match=r"gradient of 'Exp'.*modified by an inplace operation"):
        y.sum().backward()


def test_several_outputs(device):
    r, angle = leaf([1.0, 2.0]), leaf([0.5, 2.0])
    assert gradcheck(lambda r, a: Polar.apply(r, a)[:2], [r, angle])
    assert gradcheck(lambda r, a: Polar.apply(r, a)[1], [r, angle])  # one of them unused: zeros arrive for it
    x, y, quadrant = Polar.apply(r, angle)
    assert not quadrant.requires_grad and quadrant.tolist() == [0, 1]
    (x + y).sum().backward(retain_graph=True)
    first = r.grad.tolist()
    (x + y).sum().backward()
    np.testing.assert_allclose(r.grad.tolist(), [2 * v for v in first])


def test_what_needs_no_gradient_is_told(device):
    seen = []

    class Tell(Function):
        @staticmethod
        def forward(ctx, a, b, n):
            seen.append(ctx.needs_input_grad)
            seen.append(z2g.is_grad_enabled())
            return a * b * n

        @staticmethod
        def backward(ctx, grad):
            seen.append(z2g.is_grad_enabled())
            return grad, None, None

    a, b = leaf([1.0]), z2g.ones(1, dtype=z2g.float64)
    Tell.apply(a, b, 2).sum().backward()
    assert seen == [(True, False, False), False, False]
    assert Tell.apply(b, b, 2).grad_fn is None
    with z2g.no_grad():
        assert Tell.apply(a, b, 2).grad_fn is None


class Wrong(Function):
    @staticmethod
    def forward(ctx, x, y, answer):
        ctx.answer = answer
        return x + y

    @staticmethod
    def backward(ctx, grad):
        return ctx.answer(grad)


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (lambda g: g, RuntimeError, "returned 1 gradients, expected 3"),
        (lambda g: (g, g, None, g), RuntimeError, "returned 4 gradients, expected 3"),
        (lambda g: (g, 1.0, None), TypeError, "gradient 1 is float"),
        (lambda g: (g, g[:1], None), RuntimeError, r"gradient 1 has shape \(1,\), its argument \(2,\)"),
        (lambda g: (g, g.sum(), None), RuntimeError, r"gradient 1 has shape \(\), its argument \(2,\)"),
        (lambda g: (g, g.reshape(2, 1), None), RuntimeError, r"gradient 1 has shape \(2, 1\), its argument \(2,\)"),
        (lambda g: (g, g.expand(0, 3, 2)[..., :1], None), RuntimeError, r"gradient 1 has shape \(0, 3, 1\)"),
        (lambda g: (g, g, g), RuntimeError, "argument 2 is function, no Tensor; its gradient is None"),
    ],
)
def test_a_wrong_rule_is_refused(device, answer, error, message):
    x, y = leaf([1.0, 2.0]), leaf([1.0, 2.0])
    with pytest.raises(error, match=message):
        Wrong.apply(x, y, answer).sum().backward()
    assert x.grad is None and y.grad is None


@pytest.mark.parametrize("create_graph", [False, True])
def test_none_is_no_gradient_and_more_of_it_is_ignored(device, create_graph):
    """As in torch it leaves `.grad` None, so that an optimizer passes y over: zeros would decay it."""
    x, y, deeper = leaf([1.0, 2.0]), leaf([1.0, 2.0]), leaf([1.0, 2.0])
    z = Wrong.apply(x, y, lambda g: (g, None, None, None)) + Wrong.apply(x, deeper.exp(), lambda g: (g, None, None))
    assert "Wrong" in explain.story(z.sum(), {"x": x, "y": y}).markdown()
    z.sum().backward(create_graph=create_graph)
    assert x.grad.tolist() == [2, 2] and y.grad is None and deeper.grad is None
    z = Wrong.apply(x, y, lambda g: (g, None, None)).sum()
    assert grad(z, (x, y), create_graph=create_graph, retain_graph=True, allow_unused=True)[1] is None
    with pytest.raises(RuntimeError, match="do not depend on input 1"):
        grad(z, (x, y), create_graph=create_graph)
    z = Wrong.apply(x, y, lambda g: (g, None, None)) + 3 * y  # the other way counts
    z.sum().backward(create_graph=create_graph)
    assert y.grad.tolist() == [3, 3]


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize(
    ("shape", "larger"), [((2,), (3, 2)), ((), (3, 2)), ((3, 1), (2, 3, 4)), ((1, 2), (5, 2)), ((1,), (0,))]
)
def test_a_gradient_that_the_argument_broadcasts_to_is_summed(device, shape, larger, create_graph):
    """As torch's validate_outputs does, also of another dtype."""
    x, y = z2g.ones(shape, requires_grad=True), z2g.ones(shape, requires_grad=True)
    ones = z2g.ones(larger, dtype=z2g.float64)
    z = Wrong.apply(x, y, lambda g: (ones, z2g.zeros(larger), None))
    gx, gy = grad(z.sum(), (x, y), create_graph=create_graph)
    assert gx.shape == gy.shape == x.shape and gx.dtype == z2g.float32
    assert gx.sum().item() == ones.numel() and not gy.any()


def test_what_needs_no_gradient_may_be_given_any(device):
    x, y = leaf([1.0, 2.0]), z2g.ones(2)
    Wrong.apply(x, y, lambda g: (g, z2g.ones(7, 7), None)).sum().backward()
    assert x.grad.tolist() == [1, 1] and y.grad is None


@pytest.mark.parametrize("create_graph", [False, True])
def test_a_gradient_of_another_dtype_is_cast_to_that_of_its_argument(device, create_graph):
    """Silently, as torch's validate_outputs does; what was lost to float32 stays lost."""
    x, y = leaf([1.0, 2.0]), z2g.ones(2, requires_grad=True)
    z = Wrong.apply(x, y, lambda g: ((g / 3).to(z2g.float32), (g * 3).to(z2g.int32), None))
    gx, gy = grad(z.sum(), (x, y), create_graph=create_graph)
    assert (gx.dtype, gy.dtype) == (z2g.float64, z2g.float32) and gy.tolist() == [3, 3]
    assert gx.tolist() == [float(np.float32(1 / 3))] * 2


def test_what_was_written_over_is_told_with_the_shape_that_the_user_knows(device):
    """Though inside the outputs of a Function are joined to one vector."""
    for write_to_output in (False, True):
        x = leaf([[1.0, 2.0], [3.0, 4.0]]) * 1
        y = Exp.apply(x) if write_to_output else Square.apply(x)
        with z2g.no_grad():
            (y if write_to_output else x).add_(1)
        with pytest.raises(RuntimeError, match=r"'(Exp|Square)' \(output shape \(2, 2\)\) .*at version 1, expected"):
            y.sum().backward()


def test_what_is_missing_is_named():
    with pytest.raises(NotImplementedError, match="forward"):
        Function.apply(leaf(1.0))

    class InTwo(Function):
        @staticmethod
        def forward(x):
            return x * 2

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs)

    with pytest.raises(NotImplementedError, match=r"InTwo: setup_context is not offered; save in forward\(ctx, "):
        InTwo.apply(leaf(1.0))
    with pytest.raises(TypeError, match=r"^InTwo: is called by InTwo\.apply\(\.\.\.\)$"):
        InTwo(leaf(1.0))
    InTwo()  # in torch an instance may be made too, and nothing done with it

    class NoTensor(Function):
        @staticmethod
        def forward(ctx, x):
            return 3.0

    with pytest.raises(TypeError, match=r"NoTensor\.forward: returned float"):
        NoTensor.apply(leaf(1.0))


def test_a_function_leaves_no_cycle(device):
    gc.collect()
    gc.disable()
    try:
        x = leaf([1.0, 2.0])
        y = Exp.apply(x)
        node = weakref.ref(y.grad_fn)
        del y
        assert node() is None
    finally:
        gc.enable()


# --- The first NaN ------------------------------------------------------------------------------------------------


def test_the_operation_that_made_nan_is_named_with_its_line(device):
    x = leaf([1.0, -1.0])
    with detect_anomaly(), pytest.raises(RuntimeError) as caught:
        (x * 2).log().sum()  # this line
    message = str(caught.value)
    assert "'log' made nan in its result of shape (2,)" in message
    assert __file__ in message and "(x * 2).log().sum()  # this line" in message


def test_the_rule_that_made_nan_is_named_with_the_line_of_its_operation(device):
    x = leaf([0.0, 1.0])
    with set_detect_anomaly(True):
        root = x.sqrt()  # this line
        loss = (root * 0).sum()  # 0 · ∞
        with pytest.raises(RuntimeError) as caught:
            loss.backward()
    message = str(caught.value)
    assert "gradient rule of 'sqrt'" in message and "root = x.sqrt()  # this line" in message
    assert x.grad is None


def test_nan_that_was_put_in_is_nobodys_fault(device):
    x = leaf([math.nan, 1.0])
    with detect_anomaly():
        (x * 2).sum().backward()
    assert math.isinf(z2g.tensor([0.0]).log().item())  # and inf is no NaN


def test_the_search_is_off_again_afterwards(device):
    with detect_anomaly():
        pass
    assert z2g.tensor([-1.0]).log().isnan().all()
    set_detect_anomaly(True)
    with pytest.raises(RuntimeError, match="log"):
        z2g.tensor([-1.0]).log()
    set_detect_anomaly(False)
    assert z2g.tensor([-1.0]).log().isnan().all()


# --- grad() goes no further than it must -------------------------------------------------------------------------


def test_grad_of_a_computed_tensor_leaves_what_lies_below(device):
    """The usual way to split a backward pass in two; and no hook of a leaf that was not asked for is called."""
    x, called = z2g.tensor([2.0, 3.0], requires_grad=True), []
    h = x * x
    h.register_hook(lambda grad: called.append("h"))
    x.register_hook(lambda grad: called.append("x"))
    loss = (h * h).sum() + x.sum()
    (g,) = z2g.autograd.grad(loss, h)
    assert g.tolist() == [8.0, 18.0] and called == ["h"] and x.grad is None
    h.backward(g)
    assert x.grad.tolist() == [32.0, 108.0]


def test_grad_of_a_tensor_and_of_one_behind_it(device):
    x = z2g.tensor(2.0, requires_grad=True)
    h = x * 3
    k = h * h
    found = z2g.autograd.grad(k * h, [k, h, x], retain_graph=True)  # h² h
    assert [g.item() for g in found] == [6.0, 108.0, 324.0]
    assert [g.item() for g in z2g.autograd.grad(k * h, [x])] == [324.0]


def test_nobody_shares_the_array_of_a_grad(device):
    """What a custom rule returns, and what a hook was shown, may be kept elsewhere."""

    class Saved(z2g.autograd.Function):
        @staticmethod
        def forward(ctx, x, g):
            ctx.save_for_backward(g)
            return x * 1

        @staticmethod
        def backward(ctx, grad):
            return ctx.saved_tensors[0], None

    x, g = z2g.ones(2).requires_grad_(), z2g.tensor([5.0, 6.0])
    Saved.apply(x, g).sum().backward()
    x.grad.zero_()
    assert g.tolist() == [5.0, 6.0]

    kept = []
    a, u = z2g.ones(2).requires_grad_(), z2g.ones(2).requires_grad_()
    b = a * 1
    b.register_hook(lambda grad: kept.append(grad) or grad * 2)
    (b + u).backward(z2g.tensor([3.0, 4.0]))
    u.grad.zero_()
    assert kept[0].tolist() == [3.0, 4.0] and a.grad.tolist() == [6.0, 8.0]


def test_a_walk_that_failed_leaves_nothing_behind(device):
    """What one output of a Function received before the failure is no part of the next walk."""

    class Pair(z2g.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1, x * 1

        @staticmethod
        def backward(ctx, a, b):
            return a + 10 * b

    x = z2g.ones(2, requires_grad=True)
    first, second = Pair.apply(x)

    def refuse(grad):
        raise ValueError("not now")

    handle = first.register_hook(refuse)
    with pytest.raises(ValueError, match="not now"):
        (first + second).sum().backward(retain_graph=True)
    handle.remove()
    first.sum().backward()
    assert x.grad.tolist() == [1.0, 1.0]
