"""Optimizers against hand-written NumPy steps; their state when saved, moved and continued; schedules; clipping."""

import math

import fakecupy
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric import host

import tinygrad_z2g as z2g
from tinygrad_z2g import nn, optim
from tinygrad_z2g.optim import lr_scheduler
from tinygrad_z2g.optim.muon import orthogonal

STEPS = 6


def gradients(seed=0):
    """A gradient (2, 3) for each step; the middle one is 0."""
    grads = np.random.default_rng(seed).standard_normal((STEPS, 2, 3))
    grads[3] = 0
    return grads


def run(make, grads, dtype="float64"):
    """The weights after each step of an optimizer that is fed `grads`."""
    w = nn.Parameter(z2g.linspace(-1, 1, 6, dtype=dtype).reshape(2, 3))
    optimizer, seen = make([w]), []
    for grad in grads:
        w.grad = z2g.tensor(grad, dtype=dtype)
        optimizer.step()
        seen.append(host(w))
    return seen


def start():
    return np.linspace(-1, 1, 6).reshape(2, 3)


# --- Each optimizer, step by step --------------------------------------------------------------------------------


def sgd_by_hand(grads, lr, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False):
    w, v, seen = start(), None, []
    for g in grads:
        g = g + weight_decay * w
        if momentum:
            v = g if v is None else momentum * v + (1 - dampening) * g
            g = g + momentum * v if nesterov else v
        w = w - lr * g
        seen.append(w)
    return seen


SGD_SETTINGS = [
    {"lr": 0.1},
    {"lr": 0.1, "weight_decay": 0.3},
    {"lr": 0.1, "momentum": 0.9},
    {"lr": 0.1, "momentum": 0.9, "dampening": 0.4},
    {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.3},
    {"lr": 0.1, "momentum": 0.9, "nesterov": True},
    {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.3},
]


@pytest.mark.parametrize("settings", SGD_SETTINGS, ids=str)
def test_sgd(device, settings):
    got = run(lambda params: optim.SGD(params, **settings), gradients())
    np.testing.assert_allclose(got, sgd_by_hand(gradients(), **settings), rtol=1e-12, atol=1e-14)


def adam_by_hand(grads, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, decoupled=False):
    w, m, v, seen = start(), 0.0, 0.0, []
    for t, g in enumerate(grads, 1):
        if decoupled:
            w = w * (1 - lr * weight_decay)
        else:
            g = g + weight_decay * w
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        corrected_m, corrected_v = m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
        w = w - lr * corrected_m / (np.sqrt(corrected_v) + eps)
        seen.append(w)
    return seen


ADAM_SETTINGS = [
    {},
    {"lr": 0.1},
    {"lr": 0.1, "betas": (0.5, 0.7)},
    {"lr": 0.1, "betas": (0.0, 0.0)},
    {"lr": 0.1, "eps": 0.5},  # large: its place in the formula shows
    {"lr": 0.1, "weight_decay": 0.3},
]


@pytest.mark.parametrize("settings", ADAM_SETTINGS, ids=str)
def test_trap_33_adam(device, settings):
    got = run(lambda params: optim.Adam(params, **settings), gradients())
    np.testing.assert_allclose(got, adam_by_hand(gradients(), **settings), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("settings", ADAM_SETTINGS, ids=str)
def test_trap_33_adamw_decouples_the_decay(device, settings):
    got = run(lambda params: optim.AdamW(params, **settings), gradients())
    expected = adam_by_hand(gradients(), **{"weight_decay": 0.01, **settings}, decoupled=True)  # 0.01 is its default
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-14)


OPTIMIZERS = {
    "SGD": lambda params: optim.SGD(params, lr=0.1, momentum=0.9),
    "SGD nesterov": lambda params: optim.SGD(params, lr=0.1, momentum=0.9, nesterov=True),
    "Adam": lambda params: optim.Adam(params, lr=0.1),
    "AdamW": lambda params: optim.AdamW(params, lr=0.1, weight_decay=0.1),
}
every_optimizer = pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)


@every_optimizer
def test_float32_follows_float64(device, make):
    got = run(make, gradients(), "float32")
    assert got[0].dtype == np.float32
    np.testing.assert_allclose(got, run(make, gradients()), atol=2e-5)


def test_an_optimizer_is_printed_as_in_torch_with_its_settings_sorted():
    w, b = z2g.ones(1, requires_grad=True), z2g.ones(2, requires_grad=True)
    optimizer = optim.Adam([{"params": [w], "lr": 0.5}, {"params": [b]}])
    assert repr(optimizer) == (
        "Adam (\n"
        "Parameter Group 0\n    betas: (0.9, 0.999)\n    eps: 1e-08\n    lr: 0.5\n    weight_decay: 0.0\n\n"
        "Parameter Group 1\n    betas: (0.9, 0.999)\n    eps: 1e-08\n    lr: 0.001\n    weight_decay: 0.0\n)"
    )


@pytest.mark.parametrize("make", [optim.SGD, optim.Adam, lambda p: optim.AdamW(p, weight_decay=0)])
def test_trap_33_a_zero_gradient_gives_a_zero_step(device, make):
    got = run(lambda params: make(params), np.zeros((2, 2, 3)))
    assert np.array_equal(got, [start(), start()])


@every_optimizer
def test_trap_33_a_parameter_without_gradient_is_skipped(device, make):
    """No step, no decay, no state: it may belong to a branch that was not used."""
    used, unused = nn.Parameter(z2g.ones(2)), nn.Parameter(z2g.ones(2))
    optimizer = make([unused, used])
    (used * 3).sum().backward()
    optimizer.step()
    assert unused.tolist() == [1.0, 1.0]
    assert used.tolist() != [1.0, 1.0]
    assert list(optimizer.state) == [used]


@every_optimizer
def test_trap_33_tied_weights_step_once(device, make):
    """A tied weight is one parameter with the sum of both gradients, and moves once."""
    module = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    module[1].weight = module[0].weight
    one = nn.Parameter(module[0].weight.detach().clone())
    x = z2g.tensor([[1.0, 2.0]])
    optimizers = make(list(module.parameters())), make([one])
    for _ in range(3):
        for optimizer, z in zip(optimizers, [module(x), x @ one.T @ one.T], strict=True):
            optimizer.zero_grad()
            z.square().sum().backward()
            optimizer.step()
    np.testing.assert_allclose(host(module[0].weight), host(one), rtol=1e-5)


@every_optimizer
def test_the_gradient_is_read_only(device, make):
    w = nn.Parameter(z2g.ones(3))
    w.grad = z2g.tensor([1.0, -2.0, 3.0])
    optimizer = make([w])
    for _ in range(3):
        optimizer.step()
        assert w.grad.tolist() == [1.0, -2.0, 3.0]


@every_optimizer
def test_a_step_keeps_object_dtype_and_device(device, make):
    w = nn.Parameter(z2g.ones(3))
    (w * 2).sum().backward()
    place = w.device
    make([w]).step()
    assert w.dtype == z2g.float32
    assert w.device == place
    assert w.is_leaf
    assert w.requires_grad


@every_optimizer
def test_training_lowers_a_loss(device, make):
    layer, x = nn.Linear(3, 1), z2g.randn(20, 3)
    y = x @ z2g.tensor([[1.0], [-2.0], [0.5]]) + 3
    optimizer = make(layer.parameters())
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(layer(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.05 * losses[0]


def test_trap_33_zero_grad_sets_none(device):
    w, unused = nn.Parameter(z2g.ones(2)), nn.Parameter(z2g.ones(2))
    optimizer = optim.SGD([w, unused])
    (w * 2).sum().backward()
    optimizer.zero_grad(set_to_none=False)
    assert w.grad.tolist() == [0.0, 0.0]
    assert unused.grad is None
    optimizer.zero_grad()
    assert w.grad is None


def test_step_calls_a_closure_with_recording_on(device):
    w = nn.Parameter(z2g.ones(2))
    optimizer = optim.SGD([w], lr=0.5)

    def closure():
        loss = (w * 3).sum()
        loss.backward()
        return loss

    with z2g.no_grad():
        assert optimizer.step(closure).item() == 6
    assert w.tolist() == [-0.5, -0.5]
    assert optimizer.step() is None


def test_a_step_is_noticed_by_a_graph_that_needs_the_old_weights(device):
    w = nn.Parameter(z2g.ones(2))
    loss = (w * w).sum()
    loss.backward(retain_graph=True)
    optim.SGD([w], lr=0.1).step()
    with pytest.raises(RuntimeError, match="inplace"):
        loss.backward()


def test_the_state_starts_at_zero_whatever_the_weight_is():
    w = nn.Parameter(z2g.tensor([math.inf]))  # after a step that was too large; 0 · inf would be NaN
    w.grad = z2g.ones(1)
    optimizer = optim.SGD([w], momentum=0.9)
    optimizer.step()
    assert optimizer.state_dict()["state"][0]["momentum_buffer"].tolist() == [1.0]


# --- Groups ------------------------------------------------------------------------------------------------------


def test_param_groups_have_settings_of_their_own(device):
    a, b, c = (nn.Parameter(z2g.ones(1)) for _ in range(3))
    optimizer = optim.SGD([{"params": a}, {"params": [b], "lr": 0.5}], lr=0.1, weight_decay=1.0)
    optimizer.add_param_group({"params": iter([c]), "weight_decay": 0.0})
    for p in (a, b, c):
        p.grad = z2g.ones(1)
    optimizer.step()
    assert [round(p.item(), 6) for p in (a, b, c)] == [0.8, 0.0, 0.9]
    assert [g["lr"] for g in optimizer.param_groups] == [0.1, 0.5, 0.1]
    assert optimizer.param_groups[1]["momentum"] == 0
    optimizer.param_groups[0]["lr"] = 0.0  # what schedulers do
    optimizer.step()
    assert round(a.item(), 6) == 0.8


def test_bad_groups_are_refused():
    w = nn.Parameter(z2g.ones(1))
    for params, error, words in [
        ([], ValueError, "empty"),
        (w, TypeError, "iterable"),
        ([w * 2], ValueError, "lea"),
        ([1.0], TypeError, "float"),
        (nn.Linear(1, 1), TypeError, r"^SGD: expected model.parameters\(\), got a Linear$"),
        (nn.Linear(1, 1).named_parameters, TypeError, r"^SGD: expected model.parameters\(\), got a method$"),
        (nn.Linear(1, 1).state_dict(), TypeError, r"^SGD: can optimize Tensors, as of model.parameters\(\), got str$"),
        ([{"params": [w]}, {"params": [w]}], ValueError, "two groups"),
    ]:
        with pytest.raises(error, match=words):
            optim.SGD(params)
    optimizer = optim.SGD([w])
    with pytest.raises(ValueError, match="two groups"):
        optimizer.add_param_group({"params": [w]})
    assert len(optimizer.param_groups) == 1


TWICE = {  # p = (1, 2) and q = 3 after three steps on p² + q, and the count of p's steps: measured on torch 2.13
    "SGD": (lambda params: optim.SGD(params, lr=0.1), [0.216, 0.432, 2.7], None),
    "Adam": (lambda params: optim.Adam(params, lr=0.1), [0.41234, 1.40456, 2.7], 6),
    "AdamW": (lambda params: optim.AdamW(params, lr=0.1), [0.40801, 1.3942, 2.69131], 6),
}


@pytest.mark.parametrize("make, expected, steps", TWICE.values(), ids=TWICE)
def test_a_parameter_twice_in_a_group_is_moved_twice_with_a_warning(device, make, expected, steps):
    def step(optimizer, p, q):
        optimizer.zero_grad()
        ((p * p).sum() + q.sum()).backward()
        optimizer.step()

    p, q = z2g.tensor([1.0, 2.0], requires_grad=True), z2g.tensor([3.0], requires_grad=True)
    with pytest.warns(UserWarning, match="appears twice in a group") as warned:
        optimizer = make([p, q, p])
    assert len(warned) == 1
    for _ in range(3):
        step(optimizer, p, q)
    assert [*p.tolist(), *q.tolist()] == pytest.approx(expected, abs=1e-5)
    state = optimizer.state_dict()
    assert state["param_groups"][0]["params"] == [2, 1, 2] and sorted(state["state"]) == ([1, 2] if steps else [])
    assert [values["step"] for _, values in sorted(state["state"].items())] == ([3, steps] if steps else [])
    again = [t.detach().clone().requires_grad_() for t in (p, q)]
    with pytest.warns(UserWarning):
        other = make([*again, again[0]])
    other.load_state_dict(state)
    step(optimizer, p, q)
    step(other, *again)
    assert again[0].tolist() == p.tolist() and again[1].tolist() == q.tolist()
    with pytest.raises(ValueError, match="different numbers for different parameters"):
        make([z2g.ones(2, requires_grad=True), again[1], again[0]]).load_state_dict(state)


def test_a_later_group_has_no_initial_lr_until_the_next_schedule(device):
    """As in torch: a schedule made later starts from the rate that such a group has by then. Those that run already
    share the rate that it had before them."""
    optimizer = optim.SGD([nn.Parameter(z2g.ones(1))], lr=1.0)
    first, second = lr_scheduler.StepLR(optimizer, 1, 0.5), lr_scheduler.LambdaLR(optimizer, lambda t: 1 / (t + 1))
    optimizer.add_param_group({"params": [nn.Parameter(z2g.ones(1))], "lr": 0.8})
    first.step()
    second.step()
    assert [group.get("initial_lr") for group in optimizer.param_groups] == [1.0, None]
    assert first.base_lrs == second.base_lrs == [1.0, 0.8] and optimizer.param_groups[1]["lr"] == 0.4
    third = lr_scheduler.LambdaLR(optimizer, lambda t: 1 / (t + 1))
    assert third.base_lrs == [1.0, 0.4] == [group["initial_lr"] for group in optimizer.param_groups]
    third.step()
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.2]


NAN = float("nan")
INVALID = [
    (optim.SGD, {"lr": -0.1}, "learning rate"), (optim.SGD, {"lr": NAN}, "learning rate"),
    (optim.SGD, {"momentum": -0.1}, "momentum"), (optim.SGD, {"weight_decay": -1}, "weight_decay"),
    (optim.SGD, {"nesterov": True}, "momentum"),
    (optim.SGD, {"nesterov": True, "momentum": 0.9, "dampening": 0.1}, "dampening"),
    (optim.Adam, {"lr": -1e-3}, "learning rate"), (optim.Adam, {"betas": (1.0, 0.9)}, "beta"),
    (optim.Adam, {"betas": (0.9, 1.0)}, "beta"), (optim.Adam, {"betas": (-0.1, 0.9)}, "beta"),
    (optim.Adam, {"eps": -1e-8}, "eps"), (optim.AdamW, {"weight_decay": -0.1}, "weight_decay"),
    (optim.AdamW, {"betas": (0.9, NAN)}, "beta"), (optim.SGD, {"lr": math.inf}, "learning rate"),
    (optim.Adam, {"eps": math.inf}, "eps"), (optim.SGD, {"dampening": NAN}, "dampening"),
]  # fmt: skip


@pytest.mark.parametrize("optimizer", [optim.SGD, optim.Adam, optim.AdamW])
@pytest.mark.parametrize("value", ["big", None, True, [0.1]], ids=str)
def test_settings_that_are_no_numbers_raise_type_error(optimizer, value):
    w = nn.Parameter(z2g.ones(1))
    for key in ("lr", "weight_decay"):
        with pytest.raises(TypeError, match=f"{optimizer.__name__}.*expected a number"):
            optimizer([w], **{key: value})
        with pytest.raises(TypeError, match=f"{optimizer.__name__}.*expected a number"):
            optimizer([{"params": [w], key: value}])
    with pytest.raises(TypeError, match="expected a dict with 'params'"):
        optimizer([{"lr": 0.1}])


@pytest.mark.parametrize("optimizer, settings, word", INVALID, ids=str)
def test_invalid_settings_raise_value_error(optimizer, settings, word):
    with pytest.raises(ValueError, match=word) as error:
        optimizer([nn.Parameter(z2g.ones(1))], **settings)
    assert optimizer.__name__ in str(error.value)


# --- State: saved, loaded, moved ---------------------------------------------------------------------------------


class Trainee:
    """A small model, its optimizer and a fixed stream of batches."""

    def __init__(self, make):
        z2g.manual_seed(4)
        self.model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
        self.optimizer = make(self.model.parameters())
        self.data = np.random.default_rng(9).standard_normal((20, 8, 3)).astype(np.float32)
        self.steps = 0

    def train(self, steps):
        for _ in range(steps):
            place = self.model[0].weight.device
            x = z2g.tensor(self.data[self.steps], device=place)
            self.optimizer.zero_grad()
            nn.functional.mse_loss(self.model(x), x.sum(1, keepdim=True)).backward()
            self.optimizer.step()
            self.steps += 1
        return self

    def weights(self):
        return [host(p) for p in self.model.parameters()]


@every_optimizer
def test_a_saved_state_continues_bit_for_bit(device, make, tmp_path):
    straight = Trainee(make).train(8)

    first = Trainee(make).train(5)
    z2g.save({"model": first.model.state_dict(), "optimizer": first.optimizer.state_dict()}, tmp_path / "saved")
    saved = z2g.load(tmp_path / "saved")
    second = Trainee(lambda params: type(first.optimizer)(params, lr=1e-9))  # the saved settings replace these
    second.model.load_state_dict(saved["model"])
    second.optimizer.load_state_dict(saved["optimizer"])
    second.steps = 5
    second.train(3)
    assert all(np.array_equal(a, b) for a, b in zip(straight.weights(), second.weights(), strict=True))


@every_optimizer
def test_loading_a_state_copies_it(make):
    first = Trainee(make).train(3)
    second = Trainee(make)
    second.model.load_state_dict(first.model.state_dict())
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    second.steps = 3
    expected = [w.copy() for w in second.train(3).weights()]
    first.train(3)  # untouched by what the second did
    assert all(np.array_equal(a, b) for a, b in zip(first.weights(), expected, strict=True))


def test_bad_states_are_refused_and_nothing_is_changed():
    trained = Trainee(OPTIMIZERS["Adam"]).train(2)
    good = trained.optimizer.state_dict()
    other = Trainee(OPTIMIZERS["Adam"]).train(1)
    before = {n: {k: host(v) if isinstance(v, z2g.Tensor) else v for k, v in s.items()}
              for n, s in other.optimizer.state_dict()["state"].items()}  # fmt: skip
    groups = good["param_groups"]
    for bad in [
        {**good, "param_groups": [*groups, *groups]},
        {**good, "param_groups": [{**groups[0], "params": [0, 1]}]},
        {**good, "state": {**good["state"], 3: {**good["state"][3], "exp_avg": z2g.ones(7)}}},
    ]:
        with pytest.raises(ValueError, match="load_state_dict"):
            other.optimizer.load_state_dict(bad)
        after = other.optimizer.state_dict()["state"]
        for n, values in before.items():
            for key, value in values.items():
                assert np.array_equal(host(after[n][key]) if isinstance(value, np.ndarray) else after[n][key], value)


KINDS = {
    "SGD": lambda params: optim.SGD(params, lr=0.1, momentum=0.9),
    "Adam": lambda params: optim.Adam(params, lr=0.1),
    "AdamW": lambda params: optim.AdamW(params, lr=0.1, weight_decay=0.1),
}


def plain_state(optimizer):
    """All that an optimizer holds, as numbers and lists."""
    state = optimizer.state_dict()
    numbers = {
        n: {k: v.tolist() if isinstance(v, z2g.Tensor) else v for k, v in values.items()}
        for n, values in state["state"].items()
    }
    return state["param_groups"], numbers


def bad_optimizer_states(good):
    """(what is wrong, a word of the message): every field gone, of another type, out of range."""
    group, state = good["param_groups"][0], good["state"]
    yield None, "dict"
    yield [], "dict"
    for key in good:
        yield {k: v for k, v in good.items() if k != key}, key
        for value in (None, 3, "x"):
            yield {**good, key: value}, key
    yield {**good, "param_groups": [None]}, "param_groups"
    yield {**good, "param_groups": []}, "groups"
    for key in group:
        yield {**good, "param_groups": [{k: v for k, v in group.items() if k != key}]}, f"{key}|params"
        for value in (None, "big", NAN, math.inf, [1.0], {}):
            words = {"lr": "learning rate", "betas": "beta"}.get(key, f"{key}|params")
            yield {**good, "param_groups": [{**group, key: value}]}, words
    yield {**good, "param_groups": [{**group, "params": [0, 1, 2, 2]}]}, "different numbers"
    yield {**good, "param_groups": [{**group, "params": ["0", "1", "2", "3"]}]}, "different numbers"
    yield {**good, "param_groups": [{**group, "amsgrad": True}]}, "amsgrad"
    for number in (999, -1, "x", 0.5, None):
        yield {**good, "state": {**state, number: state[0]}}, repr(number)
    for value in (None, 3, [1]):
        yield {**good, "state": {**state, 0: value}}, "parameter 0"
    yield {**good, "state": {**state, 1: {**state[1], "other": 1}}}, "'other'"
    for key in state[0]:
        for value in (None, "x", 1.5, True, z2g.ones(3), z2g.ones(4, 3).int(), -1):
            yield {**good, "state": {**state, 0: {**state[0], key: value}}}, f"'{key}'"
        if len(state[0]) > 1:
            yield {**good, "state": {**state, 0: {k: v for k, v in state[0].items() if k != key}}}, f"'{key}'"


@pytest.mark.parametrize("kind", KINDS)
def test_every_bad_state_is_refused_by_name_and_nothing_is_changed(kind):
    good = Trainee(KINDS[kind]).train(2).optimizer.state_dict()
    other = Trainee(KINDS[kind]).train(1).optimizer
    before, n = plain_state(other), 0
    for bad, words in bad_optimizer_states(good):
        with pytest.raises((ValueError, TypeError), match=f"{kind}.load_state_dict.*({words})"):
            other.load_state_dict(bad)
        assert plain_state(other) == before
        n += 1
    assert n > 60
    other.load_state_dict(good)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("other", KINDS)
def test_a_state_of_another_kind_is_refused(kind, other):
    """Adam and AdamW remember the same, and take each other's."""
    state = Trainee(KINDS[other]).train(2).optimizer.state_dict()
    mine = Trainee(KINDS[kind]).optimizer
    if "SGD" not in (kind, other) or kind == other:
        mine.load_state_dict(state)
        return
    with pytest.raises(ValueError, match=r"has no '(betas|momentum)'; is it the state of another kind of optimizer"):
        mine.load_state_dict(state)


@every_optimizer
def test_states_of_other_sizes_and_orders_are_refused(make):
    a, b = nn.Linear(2, 3), nn.Linear(3, 2)
    for model in (a, b):
        for p in model.parameters():
            p.grad = z2g.ones_like(p)
    first, swapped, fewer = make(a.parameters()), make([a.bias, a.weight]), make([a.weight])
    first.step()
    for wrong in (swapped, fewer, make(b.parameters())):
        with pytest.raises(ValueError, match="load_state_dict"):
            wrong.load_state_dict(first.state_dict())
        assert not wrong.state
    state = first.state_dict()  # the numbers say which is which
    state["param_groups"][0]["params"] = [1, 0]
    swapped.load_state_dict(state)
    assert all(v.shape == p.array.shape for p, s in swapped.state.items() for v in s.values() if hasattr(v, "shape"))


def test_a_negative_rate_that_a_schedule_left_is_loaded_again():
    optimizer = optim.SGD([nn.Parameter(z2g.ones(1))], lr=0.1)
    lr_scheduler.LambdaLR(optimizer, lambda t: -1.0)
    optimizer.load_state_dict(optimizer.state_dict())
    assert optimizer.param_groups[0]["lr"] == -0.1


class Remembering(optim.Optimizer):
    """An optimizer of one's own may remember what it likes."""

    def __init__(self, params):
        super().__init__(params, {"lr": 0.1})

    def _update(self, params, group):
        for p in params:
            state = self.state.setdefault(p, {"kind": "mine", "nothing": None, "pair": (1, 2), "sum": 0 * p.array})
            state["sum"] = state["sum"] + p.grad.array


def test_an_optimizer_of_ones_own_keeps_what_it_likes(tmp_path):
    w = nn.Parameter(z2g.ones(2))
    w.grad = z2g.ones(2)
    mine, again = Remembering([w]), Remembering([w])
    mine.step()
    z2g.save(mine.state_dict(), tmp_path / "f")
    again.load_state_dict(z2g.load(tmp_path / "f"))
    found = again.state[w]
    assert (found["kind"], found["nothing"], found["pair"], found["sum"].tolist()) == ("mine", None, (1, 2), [1, 1])


@every_optimizer
def test_trap_34_training_goes_on_after_a_move(make):
    """To the GPU and back in the middle of training: the same result as without, and the state moves along."""
    straight = Trainee(make).train(9)
    with fakecupy.installed():
        moving = Trainee(make).train(3)
        moving.model.to("cuda")
        moving.train(3)
        buffers = [v for s in moving.optimizer.state_dict()["state"].values() for v in s.values()]
        assert {str(b.device) for b in buffers if isinstance(b, z2g.Tensor)} == {"cuda:0"}
        moving.model.cpu()
        moving.train(3)
        assert {str(p.device) for p in moving.model.parameters()} == {"cpu"}
    for a, b in zip(straight.weights(), moving.weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@every_optimizer
def test_a_state_saved_on_the_cpu_is_loaded_onto_the_gpu(make):
    trained = Trainee(make).train(3)
    state = trained.optimizer.state_dict()
    with fakecupy.installed():
        other = Trainee(make)
        other.model.load_state_dict(trained.model.state_dict())
        other.model.to("cuda")
        other.optimizer.load_state_dict(state)
        buffers = [v for s in other.optimizer.state_dict()["state"].values() for v in s.values()]
        assert {str(b.device) for b in buffers if isinstance(b, z2g.Tensor)} == {"cuda:0"}
        other.steps = 3
        other.train(2)
        for a, b in zip(trained.train(2).weights(), other.weights(), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


# --- Muon: matrices ----------------------------------------------------------------------------------------------


def muon_by_hand(
    w, grads, lr=1e-3, weight_decay=0.1, momentum=0.95, nesterov=True, ns_coefficients=(3.4445, -4.775, 2.0315),
    ns_steps=5, adjust_lr_fn=None,
):  # fmt: skip
    """By the singular values themselves: what products do to the whole matrix is a polynomial of each of them."""
    m, seen = np.zeros_like(w), []
    rows, columns = w.shape
    ratio = max(1, rows / columns) ** 0.5 if adjust_lr_fn != "match_rms_adamw" else 0.2 * max(rows, columns) ** 0.5
    a, b, c = ns_coefficients
    for g in grads:
        m = momentum * m + (1 - momentum) * g
        u, s, vt = np.linalg.svd((1 - momentum) * g + momentum * m if nesterov else m, full_matrices=False)
        s = s / max((s**2).sum() ** 0.5, 1e-7)
        for _ in range(ns_steps):
            s = a * s + b * s**3 + c * s**5
        w = w * (1 - lr * weight_decay) - lr * ratio * (u * s) @ vt
        seen.append(w)
    return seen


MUON_SETTINGS = [
    {},
    {"lr": 0.1, "weight_decay": 0.0},
    {"lr": 0.1, "weight_decay": 2.0, "momentum": 0.5},
    {"lr": 0.1, "nesterov": False},
    {"lr": 0.1, "momentum": 0.0},
    {"lr": 0.1, "ns_steps": 2, "ns_coefficients": (1.5, -0.5, 0.0)},
    {"lr": 0.1, "adjust_lr_fn": "original"},
    {"lr": 0.1, "adjust_lr_fn": "match_rms_adamw"},
]


@pytest.mark.parametrize("shape", [(3, 7), (7, 3), (4, 4), (1, 5), (5, 1)], ids=str)
@pytest.mark.parametrize("settings", MUON_SETTINGS, ids=str)
def test_muon(device, settings, shape):
    rng = np.random.default_rng(3)
    start, grads = rng.standard_normal(shape), rng.standard_normal((STEPS, *shape))
    w = nn.Parameter(z2g.tensor(start))
    optimizer, got = optim.Muon([w], **settings), []
    for grad in grads:
        w.grad = z2g.tensor(grad)
        optimizer.step()
        got.append(host(w))
    np.testing.assert_allclose(got, muon_by_hand(start, grads, **settings), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shape", [(40, 60), (60, 40)], ids=str)
def test_muon_moves_every_direction_about_equally_far(device, shape):
    """Singular values that differ by a factor of 300 leave it within 0.68 to 1.21, and the directions stay."""
    rng = np.random.default_rng(5)
    u, _, vt = np.linalg.svd(rng.standard_normal(shape), full_matrices=False)
    got = host(z2g.Tensor.make(orthogonal(z2g.tensor((u * np.geomspace(1e-2, 3, 40)) @ vt).array)))
    inside = u.T @ got @ vt.T
    assert np.abs(inside - np.diag(np.diag(inside))).max() < 1e-9
    assert 0.68 < np.diag(inside).min() < np.diag(inside).max() < 1.21


def test_muon_and_gradients_of_all_sizes(device):
    """The size of the gradient does not matter, however large or small; without any there is no step but the decay."""
    grad = np.random.default_rng(1).standard_normal((3, 4)).astype(np.float32)
    moved = []
    for size in (1e-4, 1, 1e15):
        w = nn.Parameter(z2g.zeros(3, 4))
        w.grad = z2g.tensor(grad * np.float32(size))
        optim.Muon([w], lr=1.0).step()
        moved.append(host(w))
    np.testing.assert_allclose(moved, [moved[1]] * 3, rtol=1e-3)
    w = nn.Parameter(z2g.ones(3, 4))
    w.grad = z2g.zeros(3, 4)
    optim.Muon([w], lr=0.1, weight_decay=0.5).step()
    np.testing.assert_allclose(host(w), 0.95, rtol=1e-6)
    empty = nn.Parameter(z2g.ones(0, 4))
    empty.grad = z2g.ones(0, 4)
    optim.Muon([empty]).step()


@pytest.mark.parametrize("dtype, close", [("float32", 2e-5), ("float16", 2e-3)])
def test_muon_in_smaller_dtypes_follows_float64(device, dtype, close):
    rng = np.random.default_rng(2)
    grads, ends = rng.standard_normal((3, 4, 6)), []
    for kind in (dtype, "float64"):
        w = nn.Parameter(z2g.ones(4, 6, dtype=kind))
        optimizer = optim.Muon([w], lr=0.1)
        for grad in grads:
            w.grad = z2g.tensor(grad, dtype=kind)
            optimizer.step()
            assert w.grad.dtype == w.dtype and w.dtype == getattr(z2g, kind)
        ends.append(host(w).astype("float64"))
    np.testing.assert_allclose(*ends, atol=close)


def test_muon_takes_matrices_only():
    w, b = nn.Parameter(z2g.ones(2, 2)), nn.Parameter(z2g.ones(2))
    for params in ([w, b], [{"params": [w]}, {"params": [b]}]):
        with pytest.raises(ValueError, match=r"Muon.*\(2,\).*AdamW"):
            optim.Muon(params)
    optimizer = optim.Muon([w])
    with pytest.raises(ValueError, match="matrices"):
        optimizer.add_param_group({"params": [b]})
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize("settings, error, word", [
    ({"lr": -0.1}, ValueError, "learning rate"), ({"lr": NAN}, ValueError, "learning rate"),
    ({"momentum": -0.1}, ValueError, "momentum"), ({"weight_decay": -1}, ValueError, "weight_decay"),
    ({"eps": -1}, ValueError, "eps"), ({"ns_steps": 100}, ValueError, "ns_steps"),
    ({"ns_steps": 2.5}, TypeError, "ns_steps"), ({"ns_coefficients": (1.0, 2.0)}, TypeError, "ns_coefficients"),
    ({"ns_coefficients": (1.0, 2.0, NAN)}, ValueError, "ns_coefficients"), ({"nesterov": 1}, TypeError, "nesterov"),
    ({"adjust_lr_fn": "adam"}, ValueError, "adjust_lr_fn"),
], ids=str)  # fmt: skip
def test_invalid_settings_of_muon(settings, error, word):
    with pytest.raises(error, match=word) as raised:
        optim.Muon([nn.Parameter(z2g.ones(1, 1))], **settings)
    assert "Muon" in str(raised.value)


def matrices_only(params):
    return optim.Muon([p for p in params if p.ndim == 2], lr=0.05)


def test_a_saved_state_of_muon_continues_bit_for_bit(device, tmp_path):
    straight = Trainee(matrices_only).train(8)
    first = Trainee(matrices_only).train(5)
    z2g.save({"model": first.model.state_dict(), "optimizer": first.optimizer.state_dict()}, tmp_path / "saved")
    saved = z2g.load(tmp_path / "saved")
    second = Trainee(lambda params: optim.Muon([p for p in params if p.ndim == 2], lr=1e-9, ns_steps=1))
    second.model.load_state_dict(saved["model"])
    second.optimizer.load_state_dict(saved["optimizer"])
    second.steps = 5
    second.train(3)
    assert all(np.array_equal(a, b) for a, b in zip(straight.weights(), second.weights(), strict=True))


def test_muon_goes_on_after_a_move():
    straight = Trainee(matrices_only).train(6)
    with fakecupy.installed():
        moving = Trainee(matrices_only).train(3)
        moving.model.to("cuda")
        moving.train(3)
        buffers = [v for s in moving.optimizer.state_dict()["state"].values() for v in s.values()]
        assert [str(b.device) for b in buffers] == ["cuda:0"] * 2
        moving.model.cpu()
    for a, b in zip(straight.weights(), moving.weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_muon_leaves_what_has_no_gradient_and_the_gradient_itself(device):
    used, unused = nn.Parameter(z2g.ones(2, 3)), nn.Parameter(z2g.ones(2, 3))
    used.grad = z2g.full((2, 3), 2.0)
    optimizer = optim.Muon([unused, used], lr=0.1)
    version = used.memory.writes
    optimizer.step()
    assert unused.tolist() == [[1.0] * 3] * 2 and list(optimizer.state) == [used]
    assert used.grad.tolist() == [[2.0] * 3] * 2 and used.memory.writes > version


def test_muon_learns_rare_directions_that_momentum_leaves_behind():
    """A linear map whose inputs differ in size by 100: after 100 steps each with its best of many learning rates."""
    rng = np.random.default_rng(0)
    x = z2g.tensor((rng.standard_normal((200, 8)) * np.geomspace(1, 0.01, 8)).astype(np.float32))
    goal = z2g.tensor(rng.standard_normal((8, 8)).astype(np.float32))

    def best(make):
        ends = []
        for lr in np.geomspace(1e-3, 1, 10):
            w = nn.Parameter(z2g.zeros(8, 8))
            optimizer = make([w], float(lr))
            for t in range(100):
                optimizer.param_groups[0]["lr"] = float(lr) * (1 - t / 100)
                optimizer.zero_grad()
                ((x @ (w - goal)) ** 2).sum(1).mean().backward()
                optimizer.step()
            ends.append(host((w.detach() - goal).square().mean()).item())
        return min(ends)

    muon = best(lambda params, lr: optim.Muon(params, lr=lr, weight_decay=0.0))
    assert muon < 0.25 * best(lambda params, lr: optim.SGD(params, lr=lr, momentum=0.9))


# --- Schedules ---------------------------------------------------------------------------------------------------


def rates(make, steps, lr=0.2):
    """The learning rates of the first steps."""
    optimizer = optim.SGD([nn.Parameter(z2g.ones(1))], lr=lr)
    scheduler, seen = make(optimizer), []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        assert scheduler.get_last_lr() == [seen[-1]]
        optimizer.step()
        scheduler.step()
    return seen


def test_step_lr():
    got = rates(lambda o: lr_scheduler.StepLR(o, step_size=3, gamma=0.5), 8)
    assert got == pytest.approx([0.2, 0.2, 0.2, 0.1, 0.1, 0.1, 0.05, 0.05])


def test_cosine_annealing_lr():
    got = rates(lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=10, eta_min=0.05), 11)
    assert got == pytest.approx([0.05 + (0.2 - 0.05) * (1 + math.cos(math.pi * t / 10)) / 2 for t in range(11)])
    assert got[0] == pytest.approx(0.2)
    assert got[5] == pytest.approx(0.125)
    assert got[10] == pytest.approx(0.05)


def test_warmup_cosine_lr():
    got = rates(lambda o: lr_scheduler.WarmupCosineLR(o, warmup=4, total=12, floor=0.1), 15, lr=1.0)
    assert got[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])  # never 0: the first step counts too
    assert got[8] == pytest.approx(0.55)  # half way down
    assert got[12:] == pytest.approx([0.1] * 3)  # stays at the floor
    assert got[4:] == sorted(got[4:], reverse=True)
    for t in range(4, 13):
        assert got[t] == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi * (t - 4) / 8)) / 2)
    with pytest.raises(ValueError, match="warmup"):
        rates(lambda o: lr_scheduler.WarmupCosineLR(o, warmup=5, total=3), 1)


def test_schedules_scale_each_group_by_its_own_rate():
    a, b = nn.Parameter(z2g.ones(1)), nn.Parameter(z2g.ones(1))
    optimizer = optim.SGD([{"params": [a], "lr": 1.0}, {"params": [b]}], lr=0.1)
    scheduler = lr_scheduler.LambdaLR(optimizer, [lambda t: 0.5**t, lambda t: 1 + t])
    assert scheduler.get_last_lr() == pytest.approx([1.0, 0.1])
    scheduler.step()
    assert scheduler.get_last_lr() == pytest.approx([0.5, 0.2])
    with pytest.raises(ValueError, match="2"):
        lr_scheduler.LambdaLR(optimizer, [lambda t: 1.0])


@pytest.mark.parametrize(
    "make",
    [lambda o: lr_scheduler.StepLR(o, 2), lambda o: lr_scheduler.WarmupCosineLR(o, 3, 9)],
    ids=["step", "warmup"],
)
def test_schedules_continue_from_a_saved_state(make):
    whole = rates(make, 8)
    optimizer = optim.SGD([nn.Parameter(z2g.ones(1))], lr=0.2)
    scheduler = make(optimizer)
    for _ in range(5):
        scheduler.step()
    states = optimizer.state_dict(), scheduler.state_dict()
    again = optim.SGD([nn.Parameter(z2g.ones(1))], lr=0.2)
    resumed = make(again)
    again.load_state_dict(states[0])
    resumed.load_state_dict(states[1])
    for t in range(5, 8):
        assert again.param_groups[0]["lr"] == pytest.approx(whole[t])
        resumed.step()


# A direct computation: each schedule as a function of its step t, the current rate, the base rate
RULES = {
    "StepLR": lambda t, lr, base, n, gamma: lr * gamma if t and t % n == 0 else lr,
    "CosineAnnealingLR": lambda t, lr, base, n, low: (
        lr if t == 0
        else lr + (base - low) * (1 - math.cos(math.pi / n)) / 2 if t % (2 * n) == (1 + n) % (2 * n)
        else low + (lr - low) * (1 + math.cos(math.pi * t / n)) / (1 + math.cos(math.pi * (t - 1) / n))
    ),
    "LambdaLR": lambda t, lr, base, factor: base * factor(t),
    "WarmupCosineLR": lambda t, lr, base, n, total: base * (
        (t + 1) / n if t < n else 0.55 + 0.45 * math.cos(math.pi * min(1, (t - n) / max(1, total - n)))
    ),
}  # fmt: skip
SETTINGS = {
    "StepLR": st.tuples(st.integers(1, 4), st.sampled_from([0.1, 0.5, 2.0])),
    "CosineAnnealingLR": st.tuples(st.integers(1, 6), st.sampled_from([0.0, 0.01, 0.5])),
    "LambdaLR": st.sampled_from([(lambda t: 0.9**t,), (lambda t: t % 3 - 1.0,)]),
    "WarmupCosineLR": st.tuples(st.integers(0, 3), st.integers(3, 9)),
}
schedules = st.sampled_from(list(RULES)).flatmap(lambda name: st.tuples(st.just(name), SETTINGS[name]))
actions = st.sampled_from(["step"] * 6 + ["by hand", "resume", "resume with other settings", "add a group"])
OTHER = {
    "StepLR": (7, 0.3), "CosineAnnealingLR": (9, 0.2), "LambdaLR": (lambda t: 1.0,), "WarmupCosineLR": (1, 20),
}  # fmt: skip


@settings(max_examples=150)
@given(
    st.lists(st.sampled_from([0.0, 1e-3, 0.1, 1.0]), min_size=1, max_size=3),
    st.lists(schedules, min_size=1, max_size=3),
    st.lists(actions, max_size=25),
)
def test_any_schedules_together_whatever_is_done_to_them(bases, kinds, program):
    """Alone or several on one optimizer, edited by hand, resumed (into other settings too), with groups added later."""

    def build(bases, other=False):
        optimizer = optim.SGD([{"params": [nn.Parameter(z2g.ones(1))], "lr": base} for base in bases])
        made = []
        for name, arguments in kinds:
            arguments = OTHER[name] if other and name != "LambdaLR" else arguments  # functions are not saved
            made.append(getattr(lr_scheduler, name)(optimizer, *arguments))
        return optimizer, made

    (optimizer, made), expected, bases, t = build(bases), list(bases), list(bases), 0
    last = []
    for name, arguments in kinds:
        expected = [RULES[name](0, lr, base, *arguments) for lr, base in zip(expected, bases, strict=True)]
        last.append(expected)
    for action in program:
        if action == "by hand":
            optimizer.param_groups[-1]["lr"] = 0.3
            expected = [*expected[:-1], 0.3]
        elif action == "add a group":
            optimizer.add_param_group({"params": [nn.Parameter(z2g.ones(1))], "lr": 0.2})
            expected = [*expected, 0.2]
        elif action.startswith("resume"):
            states = optimizer.state_dict(), [s.state_dict() for s in made]
            optimizer, made = build(expected, "other" in action)
            optimizer.load_state_dict(states[0])
            for schedule, state in zip(made, states[1], strict=True):
                schedule.load_state_dict(state)
        else:
            t, last = t + 1, []
            bases += expected[len(bases) :]  # a later group's base is the rate that it has by then
            for schedule in made:
                schedule.step()
            for name, arguments in kinds:
                expected = [RULES[name](t, lr, base, *arguments) for lr, base in zip(expected, bases, strict=True)]
                last.append(expected)
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(expected, rel=1e-9)
        assert [s.get_last_lr() for s in made] == [pytest.approx(rates, rel=1e-9) for rates in last]


def test_two_schedules_on_one_optimizer():
    optimizer, seen = optim.SGD([nn.Parameter(z2g.ones(1))], lr=1.0), []
    made = lr_scheduler.StepLR(optimizer, 2, 0.1), lr_scheduler.CosineAnnealingLR(optimizer, 10)
    for _ in range(5):
        seen.append(optimizer.param_groups[0]["lr"])
        for schedule in made:
            schedule.step()
    assert seen == pytest.approx([1, 0.9755, 0.0905, 0.0794, 0.0065], abs=6e-5)


def test_a_schedule_takes_its_settings_from_a_saved_state():
    first = lr_scheduler.StepLR(optim.SGD([nn.Parameter(z2g.ones(1))], lr=0.1), 3, 0.5)
    first.step()
    optimizer, seen = optim.SGD([nn.Parameter(z2g.ones(1))], lr=0.1), []
    resumed = lr_scheduler.StepLR(optimizer, 10, 0.9)
    resumed.load_state_dict(first.state_dict())
    for _ in range(6):
        seen.append(optimizer.param_groups[0]["lr"])
        resumed.step()
    assert seen == pytest.approx([0.1, 0.1, 0.05, 0.05, 0.05, 0.025])


class Halving:
    def __init__(self):
        self.calls = 0

    def __call__(self, t):
        self.calls += 1
        return 0.5**self.calls


def test_functions_in_tuples_and_lists_and_objects_with_a_state():
    def two():
        return optim.SGD([{"params": [nn.Parameter(z2g.ones(1))]} for _ in range(2)], lr=1.0)

    for kind in (tuple, list):
        assert lr_scheduler.LambdaLR(two(), kind([lambda t: 2.0, lambda t: 3.0])).get_last_lr() == [2.0, 3.0]
    schedule = lr_scheduler.LambdaLR(two(), (Halving(), lambda t: 1.0))
    schedule.step()
    again = lr_scheduler.LambdaLR(two(), (Halving(), lambda t: 1.0))
    again.load_state_dict(schedule.state_dict())
    again.step()
    assert again.get_last_lr() == [0.125, 1.0]
    schedule.optimizer.add_param_group({"params": [nn.Parameter(z2g.ones(1))]})
    with pytest.raises(ValueError, match=r"2 functions for 3 parameter groups.*lr_lambdas"):
        schedule.step()
    schedule.lr_lambdas.append(lambda t: 0.5)
    schedule.step()
    assert schedule.get_last_lr()[2] == 0.5
    with pytest.raises(TypeError, match="expected functions, got float"):
        lr_scheduler.LambdaLR(two(), [1.0, 2.0])


BAD_SCHEDULES = [
    (lambda o: lr_scheduler.StepLR(o, 0), ValueError, "step_size"),
    (lambda o: lr_scheduler.StepLR(o, "3"), TypeError, "step_size"),
    (lambda o: lr_scheduler.StepLR(o, 3, NAN), ValueError, "gamma"),
    (lambda o: lr_scheduler.CosineAnnealingLR(o, 0), ValueError, "T_max"),
    (lambda o: lr_scheduler.CosineAnnealingLR(o, 5, None), TypeError, "eta_min"),
    (lambda o: lr_scheduler.StepLR(o.param_groups, 3), TypeError, "Optimizer"),
]


@pytest.mark.parametrize("make, error, word", BAD_SCHEDULES)
def test_bad_schedules_are_refused(make, error, word):
    with pytest.raises(error, match=word):
        make(optim.SGD([nn.Parameter(z2g.ones(1))]))


@pytest.mark.parametrize("name", RULES)
def test_bad_states_of_schedules_are_refused_by_name_and_nothing_is_changed(name):
    make = {
        "StepLR": lambda o: lr_scheduler.StepLR(o, 2),
        "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 9),
        "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda t: 0.5**t),
        "WarmupCosineLR": lambda o: lr_scheduler.WarmupCosineLR(o, 2, 9),
    }[name]  # fmt: skip
    schedule = make(optim.SGD([nn.Parameter(z2g.ones(1))], lr=0.1))
    schedule.step()
    good = schedule.state_dict()
    for key in good:
        wrong = [None, "big", {}, [NAN], [None, "x"], -1, NAN, math.inf]
        if key in ("base_lrs", "_last_lr", "lr_lambdas"):
            wrong.append(good[key] * 2)
        else:
            wrong.append(True)
        for state in [{k: v for k, v in good.items() if k != key}, *({**good, key: value} for value in wrong)]:
            if key in ("gamma", "eta_min", "floor") and state.get(key) == -1:
                continue  # numbers like others
            with pytest.raises((ValueError, TypeError), match=f"load_state_dict.*({key}|warmup)"):
                schedule.load_state_dict(state)
            assert schedule.state_dict() == good
    for state in (None, [], {}, {"last_epoch": 3, "base_lrs": [0.1]}):
        with pytest.raises((ValueError, TypeError), match="load_state_dict"):
            schedule.load_state_dict(state)


# --- Clipping ----------------------------------------------------------------------------------------------------


def with_gradients(*grads, dtype="float32"):
    params = [nn.Parameter(z2g.zeros(*np.shape(g), dtype=dtype)) for g in grads]
    for p, g in zip(params, grads, strict=True):
        p.grad = z2g.tensor(g, dtype=dtype)
    return [*params, nn.Parameter(z2g.zeros(2))]  # and one without a gradient


def test_clip_grad_norm(device):
    params = with_gradients([3.0, 0.0], [[0.0], [4.0]])
    norm = nn.utils.clip_grad_norm_(iter(params), 1.0)
    assert norm.item() == pytest.approx(5.0)
    assert norm.shape == ()
    assert norm.device == params[0].device
    np.testing.assert_allclose(host(params[0].grad), [0.6, 0.0], rtol=1e-5)
    np.testing.assert_allclose(host(params[1].grad), [[0.0], [0.8]], rtol=1e-5)
    assert params[0].grad.dtype == z2g.float32
    assert params[2].grad is None


def test_clip_grad_norm_leaves_small_gradients_alone(device):
    params = with_gradients([3.0, 0.0], [4.0])
    assert nn.utils.clip_grad_norm_(params, 5.1).item() == pytest.approx(5.0)
    assert [p.grad.tolist() for p in params[:2]] == [[3.0, 0.0], [4.0]]
    assert nn.utils.clip_grad_norm_(with_gradients([0.0]), 1.0).item() == 0
    assert nn.utils.clip_grad_norm_([nn.Parameter(z2g.ones(1))], 1.0).item() == 0  # no gradients at all
    assert nn.utils.clip_grad_norm_(params[0], 1.0).item() == pytest.approx(3.0)  # one tensor


def test_clip_grad_norm_reports_infinite_gradients(device):
    for bad in (math.inf, NAN):
        params = with_gradients([1.0, bad])
        with pytest.raises(RuntimeError, match="norm"):
            nn.utils.clip_grad_norm_(params, 1.0, error_if_nonfinite=True)
        assert params[0].grad.tolist()[0] == 1.0


def test_clip_grad_norm_of_an_infinite_gradient_does_not_warn():
    params = with_gradients([1.0, math.inf])
    assert nn.utils.clip_grad_norm_(params, 1.0).item() == math.inf
    assert np.isnan(host(params[0].grad)).tolist() == [False, True]


def test_clip_grad_value(device):
    params = with_gradients([-3.0, 0.5, 2.0], [[-1.0]])
    nn.utils.clip_grad_value_(params, 1.0)
    assert params[0].grad.tolist() == [-1.0, 0.5, 1.0]
    assert params[1].grad.tolist() == [[-1.0]]


@pytest.mark.parametrize("make", [optim.SGD, optim.Adam, optim.AdamW])
def test_a_parameter_without_dimensions(device, make):
    p = z2g.tensor(2.0, requires_grad=True)
    optimizer = make([p], lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        (p * 3).backward()
        optimizer.step()
    assert p.shape == () and p.item() == pytest.approx(1.4 if make is optim.SGD else 1.8, abs=5e-3)  # AdamW also decays


# --- The plain updates, and the fast ones that take their places --------------------------------------------------

UPDATED = {
    "Adam": lambda ps: optim.Adam(ps, lr=0.1, weight_decay=0.1),
    "AdamW": lambda ps: optim.AdamW(ps, lr=0.1, betas=(0.8, 0.9), eps=1e-3),
    "SGD": lambda ps: optim.SGD(ps, lr=0.1),
    "momentum": lambda ps: optim.SGD(ps, lr=0.1, momentum=0.9, dampening=0.1, weight_decay=0.1, maximize=True),
    "nesterov": lambda ps: optim.SGD(ps, lr=0.1, momentum=0.9, nesterov=True),
}


@pytest.mark.parametrize("name", UPDATED)
def test_fast_updates_do_what_the_plain_ones_do(device, monkeypatch, name):
    from tinygrad_z2g.core import optimizers
    from tinygrad_z2g.fast import updates

    results = []
    for forms in (updates.UPDATES, dict.fromkeys(updates.UPDATES, optimizers.Optimizer._update)):
        for kind, update in forms.items():
            monkeypatch.setattr(kind, "_update", update, raising=False)
        z2g.manual_seed(0)
        ws = [z2g.randn(*shape, dtype=z2g.float64, requires_grad=True) for shape in ((3, 4), (2,))]
        optimizer = UPDATED[name](ws)
        for _ in range(4):
            optimizer.zero_grad()
            sum(((w - 1) ** 2).sum() for w in ws).backward()
            optimizer.step()
        state = optimizer.state_dict()["state"]
        numbers = [host(x) if isinstance(x, z2g.Tensor) else x for values in state.values() for x in values.values()]
        results.append(([list(values) for values in state.values()], [*map(host, ws), *numbers]))
    assert results[0][0] == results[1][0]
    for fast, plain in zip(results[0][1], results[1][1], strict=True):
        np.testing.assert_allclose(fast, plain, rtol=1e-12)
