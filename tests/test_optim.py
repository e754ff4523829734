"""Optimizers against hand-written NumPy steps; their state when saved, moved and continued; schedules; clipping."""

import math

import fakecupy
import numpy as np
import pytest
from numeric import host

import tinygrad_z2g as z2g
from tinygrad_z2g import nn, optim
from tinygrad_z2g.optim import lr_scheduler

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
        ([w, w], ValueError, "twice"),
        ([], ValueError, "empty"),
        (w, TypeError, "iterable"),
        ([w * 2], ValueError, "lea"),
        ([1.0], TypeError, "float"),
        ([{"params": [w]}, {"params": [w]}], ValueError, "twice"),
    ]:
        with pytest.raises(error, match=words):
            optim.SGD(params)
    optimizer = optim.SGD([w])
    with pytest.raises(ValueError, match="twice"):
        optimizer.add_param_group({"params": [w]})
    assert len(optimizer.param_groups) == 1


NAN = float("nan")
INVALID = [
    (optim.SGD, {"lr": -0.1}, "learning rate"), (optim.SGD, {"lr": NAN}, "learning rate"),
    (optim.SGD, {"momentum": -0.1}, "momentum"), (optim.SGD, {"weight_decay": -1}, "weight_decay"),
    (optim.SGD, {"nesterov": True}, "momentum"),
    (optim.SGD, {"nesterov": True, "momentum": 0.9, "dampening": 0.1}, "dampening"),
    (optim.Adam, {"lr": -1e-3}, "learning rate"), (optim.Adam, {"betas": (1.0, 0.9)}, "beta"),
    (optim.Adam, {"betas": (0.9, 1.0)}, "beta"), (optim.Adam, {"betas": (-0.1, 0.9)}, "beta"),
    (optim.Adam, {"eps": -1e-8}, "eps"), (optim.AdamW, {"weight_decay": -0.1}, "weight_decay"),
    (optim.AdamW, {"betas": (0.9, NAN)}, "beta"),
]  # fmt: skip


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
