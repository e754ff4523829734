"""The optimizers and schedules beside SGD, Adam and Muon. Numbers that are written down were computed by torch 2.13."""

import copy
import math
import pickle

import numpy as np
import pytest
from numeric import host

import tinygrad_z2g as z2g
from tinygrad_z2g import nn, optim
from tinygrad_z2g.optim import lr_scheduler as L


def rosenbrock(make, steps, state=None):
    """Where an optimizer is after so many steps through the valley of (1 - x)² + 100 (y - x²)², from (-1, 1.5)."""
    w = z2g.tensor([-1.0, 1.5], dtype=z2g.float64, requires_grad=True)
    optimizer = make([w])

    def closure():
        optimizer.zero_grad()
        loss = (1 - w[0]) ** 2 + 100 * (w[1] - w[0] ** 2) ** 2
        loss.backward()
        return loss

    for _ in range(steps):
        optimizer.step(closure)
    return w, optimizer, closure


AFTER_SEVEN = {
    "RMSprop": ({"lr": 0.05, "alpha": 0.9, "momentum": 0.8, "centered": True, "weight_decay": 0.1},
                [-1.078980325, 1.29315525]),
    "Adagrad": ({"lr": 0.1, "lr_decay": 0.1, "initial_accumulator_value": 0.1}, [-1.154998375, 1.343391738]),
    "Adadelta": ({"lr": 0.5, "rho": 0.8}, [-1.008604649, 1.491411866]),
    "Adamax": ({"lr": 0.05, "weight_decay": 0.1}, [-1.201897138, 1.29975819]),
    "NAdam": ({"lr": 0.05, "weight_decay": 0.1, "decoupled_weight_decay": True}, [-1.134286298, 1.280324191]),
    "RAdam": ({"lr": 0.0002}, [-1.159095396, 1.420639986]),
    "ASGD": ({"lr": 0.001, "t0": 1}, [-1.178344595, 1.396290033]),
    "Rprop": ({"lr": 0.05}, [-1.164, 1.336]),
    "SGD": ({"lr": 0.0001, "momentum": 0.9, "maximize": True}, [-0.431175947, 1.834719204]),
    "Adam": ({"lr": 0.1, "maximize": True}, [-0.298923215, 2.195612141]),
}  # fmt: skip


@pytest.mark.parametrize("name", AFTER_SEVEN)
def test_seven_steps(device, name):
    settings, expected = AFTER_SEVEN[name]
    w, _, _ = rosenbrock(lambda params: getattr(optim, name)(params, **settings), 7)
    np.testing.assert_allclose(host(w), expected, rtol=0, atol=2e-9)


@pytest.mark.parametrize("settings, expected", [
    ({"line_search_fn": "strong_wolfe", "max_iter": 4},
     [[-1.179015053, 1.391265374], [-0.808905959, 0.588450699], [-0.462430821, 0.155674393],
      [-0.040964097, -0.005449934]]),
    ({"lr": 0.1, "max_iter": 3, "history_size": 2},
     [[-1.081387172, 1.459753221], [-1.104621133, 1.451157533], [-1.122588782, 1.445342639],
      [-1.136533028, 1.441080514]]),
])  # fmt: skip
def test_lbfgs(device, settings, expected):
    for steps, place in enumerate(expected, 1):
        w, _, _ = rosenbrock(lambda params: optim.LBFGS(params, **settings), steps)
        np.testing.assert_allclose(host(w), place, rtol=0, atol=2e-9)


def test_lbfgs_finds_the_minimum_and_says_what_it_needs():
    w, optimizer, _ = rosenbrock(lambda params: optim.LBFGS(params, line_search_fn="strong_wolfe"), 6)
    np.testing.assert_allclose(host(w), [1, 1], atol=1e-6)
    with pytest.raises(TypeError, match="closure"):
        optimizer.step()
    with pytest.raises(RuntimeError, match="strong_wolfe"):
        optim.LBFGS([w], line_search_fn="armijo")
    with pytest.raises(ValueError, match="one group"):
        optim.LBFGS([{"params": [w]}, {"params": [z2g.zeros(1, requires_grad=True)]}])


ALL = [*AFTER_SEVEN, "AdamW", "LBFGS"]


@pytest.mark.parametrize("name", ALL)
def test_a_saved_state_goes_on_as_if_nothing_had_happened(tmp_path, name):
    settings = AFTER_SEVEN.get(name, ({"lr": 0.01},))[0]

    def make(params):
        return getattr(optim, name)(params, **settings)

    w, first, _ = rosenbrock(make, 3)
    z2g.save({"w": w.detach(), "optimizer": first.state_dict()}, tmp_path / "state")
    saved = z2g.load(tmp_path / "state")
    other, second, closure = rosenbrock(make, 1)
    with z2g.no_grad():
        other.copy_(saved["w"])
    second.load_state_dict(saved["optimizer"])
    for _ in range(4):
        second.step(closure)
    expected, _, _ = rosenbrock(make, 7)
    assert np.array_equal(host(other), host(expected))


@pytest.mark.parametrize("name", [n for n in ALL if n != "LBFGS"])
def test_arguments_that_choose_an_implementation(name):
    w, kind = [z2g.ones(1, requires_grad=True)], getattr(optim, name)
    kind(w, lr=0.1, foreach=True, maximize=False)
    kind(w, lr=0.1, foreach=None, differentiable=False)
    with pytest.raises(NotImplementedError, match="differentiable"):
        kind(w, differentiable=True)
    with pytest.raises(TypeError, match="foreach"):
        kind(w, foreach="yes")
    with pytest.raises(ValueError, match="learning rate"):
        kind(w, lr=-1.0)


def test_what_changes_results_is_refused():
    w = [z2g.ones(1, requires_grad=True)]
    optim.Adam(w, fused=True, capturable=True), optim.AdamW(w, fused=False), optim.SGD(w, fused=None)
    with pytest.raises(NotImplementedError, match="amsgrad"):
        optim.Adam(w, amsgrad=True)
    for call, words in [
        (lambda: optim.RMSprop(w, alpha=-1.0), "alpha"), (lambda: optim.Adamax(w, betas=(1.0, 0.9)), "beta 1"),
        (lambda: optim.Rprop(w, etas=(1.5, 0.5)), "etas"), (lambda: optim.Adagrad(w, eps=-1.0), "eps"),
        (lambda: optim.Adadelta(w, rho=2.0), "rho"), (lambda: optim.NAdam(w, momentum_decay=-1.0), "momentum_decay"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=words):
            call()


class Signs(optim.Optimizer):
    """An optimizer as users write one: its own step, and a state of tensors that begins as an empty dict."""

    def __init__(self, params, lr=0.1, beta=0.5):
        super().__init__(params, {"lr": lr, "beta": beta})

    @z2g.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with z2g.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if len(state) == 0:
                    state["step"], state["average"] = 0, z2g.zeros_like(p)
                state["step"] += 1
                state["average"].mul_(group["beta"]).add_(p.grad, alpha=1 - group["beta"])
                p.add_(state["average"].sign(), alpha=-group["lr"])
        return loss


def test_an_optimizer_of_ones_own(device):
    w = z2g.tensor([1.0, -1.0], requires_grad=True)
    unused = z2g.ones(1, requires_grad=True)
    ours = Signs([{"params": [w], "lr": 0.25}])
    ours.add_param_group({"params": [unused]})
    assert ours.state[unused] == {} and [group["lr"] for group in ours.param_groups] == [0.25, 0.1]

    def closure():
        ours.zero_grad()
        loss = (w * w).sum()
        loss.backward()
        return loss

    assert [ours.step(closure).item() for _ in range(3)] == [2.0, 1.125, 0.5]
    saved = ours.state_dict()
    assert saved["state"][0]["step"] == 3 and isinstance(saved["state"][0]["average"], z2g.Tensor)
    twin = Signs([{"params": [w]}, {"params": [unused]}])
    twin.load_state_dict(copy.deepcopy(saved))
    assert twin.param_groups[0]["lr"] == 0.25 and twin.state[w]["step"] == 3
    assert isinstance(twin.state[w]["average"], z2g.Tensor)
    assert twin.state[w]["average"].device == w.device
    assert host(twin.state[w]["average"]).tolist() == host(ours.state[w]["average"]).tolist()
    twin.step(closure)
    assert host(w).tolist() == [0, 0]


class Older(optim.SGD):
    def __setstate__(self, state):  # as torch users fill in settings that an older version did not save
        super().__setstate__(state)
        for group in self.param_groups:
            group.setdefault("extra", 7)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_subclass_may_extend_setstate(copied):
    optimizer = Older([nn.Parameter(z2g.ones(2))], lr=0.5)
    twin = copied(optimizer)
    (w,) = twin.param_groups[0]["params"]
    w.grad = z2g.ones(2)
    twin.step()
    assert twin.param_groups[0]["extra"] == 7 and "extra" not in optimizer.param_groups[0]
    assert w.tolist() == [0.5, 0.5]


def test_an_optimizer_is_pickled_with_its_parameters():
    w, optimizer, _ = rosenbrock(lambda params: optim.Adam(params, lr=0.1), 2)
    twin_w, twin = pickle.loads(pickle.dumps((w, optimizer)))
    for p, o in ((w, optimizer), (twin_w, twin)):
        p.grad = z2g.ones(2, dtype=z2g.float64)
        o.step()
    assert host(w).tolist() == host(twin_w).tolist()


# --- Schedules ---------------------------------------------------------------------------------------------------

RATES = [
    ("MultiStepLR(o, [3, 5, 5], 0.5)", [0.1, 0.1, 0.1, 0.05, 0.05, 0.0125, 0.0125, 0.0125, 0.0125, 0.0125]),
    ("ExponentialLR(o, 0.9)", [0.1, 0.09, 0.081, 0.0729, 0.06561, 0.059049, 0.053144, 0.04783, 0.043047, 0.038742]),
    ("ConstantLR(o, factor=0.5, total_iters=3)", [0.05, 0.05, 0.05, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]),
    ("LinearLR(o, 0.2, 0.6, 4)", [0.02, 0.03, 0.04, 0.05, 0.06, 0.06, 0.06, 0.06, 0.06, 0.06]),
    ("PolynomialLR(o, 7, 2.0)", [0.1, 0.073469, 0.05102, 0.032653, 0.018367, 0.008163, 0.002041, 0.0, 0.0, 0.0]),
    ("MultiplicativeLR(o, lambda t: 0.95)",
     [0.1, 0.095, 0.09025, 0.085737, 0.081451, 0.077378, 0.073509, 0.069834, 0.066342, 0.063025]),
    ("CosineAnnealingWarmRestarts(o, 3, 2, 0.001)",
     [0.1, 0.07525, 0.02575, 0.1, 0.093368, 0.07525, 0.0505, 0.02575, 0.007632, 0.1]),
    ("CyclicLR(o, 0.001, 0.1, 2, 3, mode='triangular2')",
     [0.001, 0.0505, 0.1, 0.067, 0.034, 0.001, 0.02575, 0.0505, 0.034, 0.0175]),
    ("OneCycleLR(o, 0.1, total_steps=10)",
     [0.004, 0.052, 0.1, 0.095048, 0.081175, 0.061126, 0.038874, 0.018826, 0.004952, 0.0]),
    ("OneCycleLR(o, 0.1, epochs=2, steps_per_epoch=5, anneal_strategy='linear', three_phase=True)",
     [0.004, 0.052, 0.1, 0.052, 0.004, 0.0032, 0.0024, 0.0016, 0.0008, 0.0]),
    ("ReduceLROnPlateau(o, patience=1, factor=0.5, cooldown=1)",
     [0.1, 0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.05, 0.025, 0.025]),
    ("SequentialLR(o, [L.ConstantLR(o, 0.1, 2), L.ExponentialLR(o, 0.9)], [4])",
     [0.01, 0.01, 0.1, 0.1, 0.1, 0.09, 0.081, 0.0729, 0.06561, 0.059049]),
    ("ChainedScheduler([L.ConstantLR(o, 0.1, 2), L.ExponentialLR(o, 0.9)])",
     [0.01, 0.009, 0.081, 0.0729, 0.06561, 0.059049, 0.053144, 0.04783, 0.043047, 0.038742]),
]  # fmt: skip
LOSSES = [5, 4, 4, 4, 4, 3, 3, 3, 3, 3]


def go_on(schedule, optimizer, losses):
    rates = []
    for loss in losses:
        rates.append(optimizer.param_groups[0]["lr"])
        schedule.step(loss) if isinstance(schedule, L.ReduceLROnPlateau) else schedule.step()
    return rates


def made(call):
    optimizer = optim.SGD([z2g.ones(1, requires_grad=True)], lr=0.1, momentum=0.5)
    return eval(f"L.{call}", {"L": L, "o": optimizer}), optimizer


@pytest.mark.parametrize("call, expected", RATES, ids=[call for call, _ in RATES])
def test_ten_rates(call, expected):
    schedule, optimizer = made(call)
    np.testing.assert_allclose(go_on(schedule, optimizer, LOSSES), expected, rtol=0, atol=6e-7)
    assert schedule.get_last_lr() == [optimizer.param_groups[0]["lr"]]


@pytest.mark.parametrize("call, expected", RATES, ids=[call for call, _ in RATES])
def test_a_saved_schedule_goes_on(call, expected):
    schedule, optimizer = made(call)
    go_on(schedule, optimizer, LOSSES[:4])
    again, other = made(call)
    again.load_state_dict(copy.deepcopy(schedule.state_dict()))
    other.load_state_dict(optimizer.state_dict())
    np.testing.assert_allclose(go_on(again, other, LOSSES[4:]), expected[4:], rtol=0, atol=6e-7)


def test_one_cycle_moves_the_momentum_and_ends():
    schedule, optimizer = made("OneCycleLR(o, 0.1, total_steps=4)")
    assert optimizer.param_groups[0]["momentum"] == 0.95
    for _ in range(4):
        schedule.step()
    with pytest.raises(ValueError, match="total_steps"):
        schedule.step()
    adam = optim.Adam([z2g.ones(1, requires_grad=True)])
    L.CyclicLR(adam, 0.1, 0.2, 1)
    assert adam.param_groups[0]["betas"] == (0.9, 0.999)


@pytest.mark.parametrize("call", [
    "OneCycleLR(o, 0.1)", "LinearLR(o, 0.0)", "CosineAnnealingWarmRestarts(o, 0)", "ReduceLROnPlateau(o, factor=1.0)",
    "ReduceLROnPlateau(o, 'up')", "SequentialLR(o, [L.ExponentialLR(o, 0.9)], [3])", "ChainedScheduler([])",
    "CyclicLR(o, 0.1, 0.2, mode='square')", "ConstantLR(o, 2.0)", "OneCycleLR(o, [0.1, 0.2], 5)",
])  # fmt: skip
def test_bad_schedules(call):
    with pytest.raises(ValueError):
        made(call)


def test_a_schedule_in_the_old_manner():
    """Derived from `_LRScheduler`, with `last_epoch` passed on."""

    class Halves(L._LRScheduler):
        def __init__(self, optimizer, last_epoch=-1):
            super().__init__(optimizer, last_epoch)

        def get_lr(self):
            return [base / 2**self.last_epoch for base in self.base_lrs]

    optimizer = optim.SGD([z2g.ones(1, requires_grad=True)], lr=1.0)
    assert go_on(Halves(optimizer), optimizer, range(3)) == [1, 0.5, 0.25]
    with pytest.raises(NotImplementedError, match="last_epoch"):
        L.StepLR(optimizer, 1, last_epoch=3)


# --- Names and hooks: what torch 2.13 does --------------------------------------------------------------------------


def test_parameters_with_names(device, tmp_path):
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    names = ["0.weight", "0.bias", "1.weight", "1.bias"]
    optimizer = optim.SGD(model.named_parameters(), lr=0.1, momentum=0.9)
    assert optimizer.param_groups[0]["params"] == list(model.parameters())
    assert optimizer.param_groups[0]["param_names"] == names
    model(z2g.ones(1, 2)).sum().backward()
    optimizer.step()
    z2g.save(optimizer.state_dict(), tmp_path / "state")
    state = z2g.load(tmp_path / "state")
    assert state["param_groups"][0]["param_names"] == names == optimizer.state_dict()["param_groups"][0]["param_names"]
    other = optim.SGD([("w" + name, p) for name, p in model.named_parameters()], lr=0.5)
    other.load_state_dict(state)  # what is loaded counts
    assert other.param_groups[0]["param_names"] == names and other.param_groups[0]["lr"] == 0.1
    other = optim.SGD(model.parameters(), lr=0.5)
    nameless = other.state_dict()
    other.load_state_dict(state)
    assert other.param_groups[0]["param_names"] == names
    other.load_state_dict(nameless)  # and who says nothing changes nothing
    assert other.param_groups[0]["param_names"] == names and other.param_groups[0]["lr"] == 0.5
    assert copy.deepcopy(other).param_groups[0]["param_names"] == names
    assert "param_names: ['0.weight'" in repr(other)


def test_names_are_given_to_all_or_none():
    def one():
        return z2g.ones(2, requires_grad=True)

    named, plain = {"params": iter([("a", one())]), "lr": 0.2}, {"params": one()}
    optimizer = optim.SGD([named], lr=0.1)
    assert optimizer.param_groups[0]["param_names"] == ["a"] and optimizer.param_groups[0]["lr"] == 0.2
    for groups in ([("a", one()), one()], [{"params": [("a", one())]}, plain], [plain, {"params": [("b", one())]}]):
        with pytest.raises(ValueError, match="name all"):
            optim.SGD(groups, lr=0.1)
    with pytest.raises(ValueError, match="name all or none"):
        optimizer.add_param_group({"params": [one()]})
    with pytest.raises(TypeError, match="got int"):
        optim.SGD([("a", 3)], lr=0.1)
    with pytest.raises(TypeError, match="a set of parameters"):
        optim.SGD([{"params": {one()}}], lr=0.1)
    for names in (["a", "b"], [1], "a", None):
        state = optimizer.state_dict()
        state["param_groups"][0].update(param_names=names, lr=7.0)
        with pytest.raises(ValueError, match=r"param_groups\[0\] has 'param_names' = .*expected a name for each"):
            optimizer.load_state_dict(state)
    assert optimizer.param_groups[0]["lr"] == 0.2


class Counting(optim.Adam):
    def step(self, closure=None):
        self.counted = getattr(self, "counted", 0) + 1
        return super().step(closure)


class Still(optim.Optimizer):
    def __init__(self, params):
        super().__init__(params, {})

    def step(self, closure=None):
        return closure and closure()


@pytest.mark.parametrize("make", [
    lambda params: optim.SGD(params, lr=0.1), Counting, Still, lambda params: optim.LBFGS(params, max_iter=2),
])  # fmt: skip
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda optimizer: pickle.loads(pickle.dumps(optimizer))])
def test_hooks_before_and_after_a_step(make, copied):
    w = z2g.ones(2, requires_grad=True)
    optimizer, bystander = make([w]), make([w])
    heard = []

    def closure():
        optimizer.zero_grad()
        heard.append("loss")
        loss = (w * w).sum()
        loss.backward()
        return loss

    def before(*given):
        heard.append(("before", *given))

    def after(*given):
        heard.append(("after", *given))

    first, second = optimizer.register_step_pre_hook(before), optimizer.register_step_post_hook(after)
    assert optimizer.step(closure).item() == 2
    args = (optimizer, closure)
    assert heard[0] == ("before", optimizer, args, {}) and heard[-1] == ("after", optimizer, args, {})
    assert set(heard[1:-1]) == {"loss"} and heard.count("loss") == len(heard) - 2
    assert not isinstance(optimizer, Counting) or optimizer.counted == 1
    heard.clear()
    bystander.step(closure)
    copied(optimizer).step(closure)  # a copy has no hooks, and needs none that can be pickled
    assert set(heard) == {"loss"}
    heard.clear()
    first.remove()
    optimizer.step(closure=closure)
    assert heard[-1] == ("after", optimizer, (optimizer,), {"closure": closure}) and heard[0] == "loss"
    second.remove()
    optimizer.register_step_pre_hook(lambda optimizer, args, kwargs: (args[:1], {"closure": lambda: closure() * 3}))
    assert optimizer.step(closure=None).item() == pytest.approx(3 * (w.detach() * w).sum().item(), abs=20)
    optimizer.register_step_pre_hook(lambda *given: 3)
    with pytest.raises(RuntimeError, match=r"step pre hook: returned 3, expected None or \(args, kwargs\)"):
        optimizer.step(closure)


def test_a_step_that_calls_the_step_above_is_one_step():
    heard = []
    above, below = optim.Adam([z2g.ones(1, requires_grad=True)]), Counting([z2g.ones(1, requires_grad=True)])
    for optimizer in (above, below):
        optimizer.register_step_pre_hook(lambda optimizer, *_: heard.append(type(optimizer).__name__))
    below.step()
    assert heard == ["Counting"]
    above.step()
    assert heard == ["Counting", "Adam"]


# --- Averages of weights -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings, expected", [
    ({}, 2.0), ({"avg_fn": optim.swa_utils.get_ema_avg_fn(0.75)}, 0.75**2 * 1 + 0.75 * 0.25 * 2 + 0.25 * 3),
    ({"multi_avg_fn": optim.swa_utils.get_ema_multi_avg_fn(0.75)}, 0.75**2 * 1 + 0.75 * 0.25 * 2 + 0.25 * 3),
])  # fmt: skip
def test_averaged_weights(device, settings, expected):
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    average = optim.swa_utils.AveragedModel(model, **settings)
    for _ in range(3):
        average.update_parameters(model)
        with z2g.no_grad():
            model.weight += 1
    assert average(z2g.ones(1, 1)).item() == pytest.approx(expected) and average.n_averaged.item() == 3
    assert list(average.state_dict()) == ["n_averaged", "module.weight"]


def test_swalr():
    optimizer = optim.SGD([z2g.ones(1, requires_grad=True)], lr=1.0)
    schedule = optim.swa_utils.SWALR(optimizer, swa_lr=0.2, anneal_epochs=2)
    expected = [1.0, 0.2 + 0.8 * (1 + math.cos(math.pi / 2)) / 2, 0.2, 0.2]
    np.testing.assert_allclose(go_on(schedule, optimizer, range(4)), expected)
