"""What is recorded and for how long it is kept: rows 8, 9 and 11 of the list of traps.

Expected gradients are worked out by hand or with NumPy, in float64, with a random cotangent w: the loss is Σ w y.
"""

import threading
import weakref

import pytest
from engine_tools import (
    NO_GRADIENT,
    OPS,
    assert_close,
    backward,
    const,
    host,
    inputs_of,
    leaf,
    numbers,
    positions,
    without_gc,
)

import tinygrad_z2g as z2g
from tinygrad_z2g.core import engine
from tinygrad_z2g.methods import Methods
from tinygrad_z2g.nn import functional as F

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


# --- 9. Gradients that get lost ------------------------------------------------------------------------------------


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


PLAIN_READS = [("F.layer_norm", "x"), ("F.cross_entropy", "x")]  # the fast forms keep less


@pytest.mark.parametrize(
    "op, position",
    [pytest.param(*pair, marks=[pytest.mark.fast] * (pair in PLAIN_READS)) for pair in positions(read=False)],
)
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


# set_grad_enabled remembers the mode at the time it was made, as in torch
REUSABLE = {name: switch for name, switch in SWITCHES.items() if not name.startswith("set")}


@pytest.mark.parametrize("switch, inside", REUSABLE.values(), ids=REUSABLE)
def test_trap_11_one_object_entered_twice(switch, inside, outer):
    context = switch()
    with context:
        with z2g.enable_grad(), context:
            assert records() == inside
        assert records() == inside
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
