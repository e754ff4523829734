"""`watch`: each disease planted once and named, a healthy network left in peace, the right numbers, no cost outside."""

import math

import numpy as np
import pytest
from pictures import unlabelled

import tinygrad_z2g as z2g
from tinygrad_z2g import nn, optim
from tinygrad_z2g.models import GPT, GPTConfig
from tinygrad_z2g.nn import functional as F
from tinygrad_z2g.tools import anomaly
from tinygrad_z2g.tools.trace import observers


def mlp(*widths, activation=nn.Tanh):
    parts = [part for n, m in zip(widths, widths[1:], strict=False) for part in (nn.Linear(n, m), activation())]  # noqa: RUF007
    return nn.Sequential(*parts[:-1])


def train(model, steps=30, every=5, lr=1e-2, loss=None, optimizer=None):
    """Watch the model while it learns the sine; returns the watch."""
    x = z2g.rand(64, 1) * 6 - 3
    y = x.sin()
    optimizer = optimizer or optim.Adam(model.parameters(), lr)
    with z2g.watch(model, every=every) as w:
        for _ in range(steps):
            value = loss(model, x, y) if loss else F.mse_loss(model(x), y)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
    return w


def named(w, *words):
    """The one remark that holds all the words."""
    found = [remark for remark in w.remarks if all(word in remark for word in words)]
    assert len(found) == 1, w.remarks
    assert f"! {found[0]}" in str(w).splitlines()
    return found[0]


# --- Health ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [
    lambda: mlp(1, 32, 32, 1), lambda: mlp(1, 64, 64, 1, activation=nn.ReLU),
    lambda: mlp(1, 32, 32, 1, activation=nn.Sine), lambda: nn.Linear(1, 1),
], ids=["tanh", "relu", "sine", "linear"])  # fmt: skip
def test_a_healthy_network_gets_no_complaint(model, device, capsys):
    w = train(model(), steps=60)
    assert w.remarks == [] and (w.seen, w.steps) == (12, 60)
    assert capsys.readouterr().out == f"{w}\n"
    assert str(w).endswith("! no complaints")


def test_a_healthy_gpt_gets_no_complaint():
    model = GPT(GPTConfig(vocab_size=20, context=16, layers=2, heads=2, width=32, dropout=0.1))
    ids = z2g.randint(0, 20, (4, 17))
    loss = lambda m, x, y: m(ids[:, :-1], ids[:, 1:])[1]  # noqa: E731
    w = train(model, loss=loss, optimizer=optim.AdamW(model.parameters(), lr=3e-3))
    assert w.remarks == []
    assert "update" in w.history["blocks.1.mlp.0 · Linear"] and "gradient" not in w.history["head · Linear"]  # tied


# --- Diseases ----------------------------------------------------------------------------------------------------


def test_vanishing_gradients_in_a_deep_stack_of_sigmoids(device):
    w = train(mlp(*[1] + 10 * [8], 1, activation=nn.Sigmoid))
    remark = named(w, "vanishing gradient, worst in 0 · Linear", "of that of 20 · Linear")
    assert remark.startswith("0 · Linear … ") and not any("20 · Linear:" in remark for remark in w.remarks)


def test_twenty_sick_layers_share_a_line_and_get_no_second_advice():
    model = mlp(*[4] + 20 * [32], 1, activation=nn.Sigmoid)
    w = train(model, loss=lambda m, x, y: F.mse_loss(m(x * z2g.ones(4)), y), lr=0.1,
              optimizer=optim.SGD(model.parameters(), lr=0.1))  # fmt: skip
    gradients = {
        label: np.sqrt(np.mean([value**2 for _, value in quantities["gradient"]]))
        for label, quantities in w.history.items()
        if "gradient" in quantities
    }
    sick = [label for label, size in gradients.items() if size < 1e-4 * max(gradients.values())]
    assert len(sick) > 10 and len(w.remarks) == 1
    worst = min(sick, key=gradients.get)
    remark = named(w, f"{sick[0]} … {sick[-1]} ({len(sick)} layers): vanishing gradient, worst in {worst}, ")
    assert remark.endswith(f"{gradients[worst] / gradients['40 · Linear']:.1g} of that of 40 · Linear")


def test_gradients_that_vanished_while_there_was_something_to_learn():
    """The last layer learns the mean of the targets in 80 steps; from then on all gradients are rounding errors."""
    model = mlp(*[1] + 8 * [32], 1, activation=nn.Sigmoid)
    w = train(model, 400, every=10, optimizer=optim.SGD(model.parameters(), lr=0.1))
    ratios = [a / b for (_, a), (_, b) in zip(w.history["0 · Linear"]["gradient"], w.history["16 · Linear"]["gradient"],
                                              strict=True)]  # fmt: skip
    assert ratios[0] < 1e-5 and np.median(ratios) > 1e-4
    assert named(w, "vanishing gradient", "of that of 16 · Linear").startswith("0 · Linear")
    assert len(w.remarks) == 1


def test_a_layer_that_is_called_once_is_measured_by_that_step():
    class Net(nn.Module):
        def __init__(self):
            self.rare, self.last = nn.Linear(1, 1), nn.Linear(1, 1, bias=False)

        def forward(self, x):
            return self.last(x + 1e-6 * self.rare(x) if w.steps == 1 else x)

    model = Net()
    nn.init.constant_(model.last.weight, 1)
    with z2g.watch(model, every=1) as w:
        for _ in range(16):
            model(z2g.ones(1, 1)).sum().backward()
    named(w, "rare · Linear: vanishing gradient, 1e-06 of that of last · Linear")


def test_exploding_gradients_and_outputs_after_large_weights(device):
    model = mlp(1, 16, 16, 16, 1, activation=nn.Identity)
    with z2g.no_grad():
        for layer in model:
            if isinstance(layer, nn.Linear):
                layer.weight.mul_(100)
    w = train(model, steps=6, every=1)
    assert named(w, "exploding gradient").startswith("0 · Linear")
    output = np.median([value for _, value in w.history["6 · Linear"]["output"]])
    named(w, f"exploding output, worst in 6 · Linear, {output:.2g}: smaller initial weights, or normalise")
    assert not any("vanishing" in remark for remark in w.remarks)  # the last layer's is smaller, not too small


def test_only_gradients_that_shrink_on_their_way_back_vanish():
    """Behind tiny weights the later layers have the smallest gradients, and nothing is wrong with their way."""
    model = nn.Sequential(*(nn.Linear(1, 1, bias=False) for _ in range(3)))
    for layer, value in zip(model, (1e-7, 1.0, 1.0), strict=True):
        nn.init.constant_(layer.weight, value)
    with z2g.watch(model) as w:
        model(z2g.ones(1, 1)).sum().backward()
    assert [w.history[f"{i} · Linear"]["gradient"][0][1] for i in range(3)] == pytest.approx([1, 1e-7, 1e-7])
    assert not any("vanishing" in remark for remark in w.remarks)


def test_dead_relus_and_what_they_block(device):
    model = mlp(1, 16, 1, activation=nn.ReLU)
    nn.init.constant_(model[0].bias, -100)
    w = train(model)
    named(w, "1 · ReLU: dead ReLU, 100 % of the units gave 0 for each of 384 inputs")
    named(w, "0 · Linear: gradient is exactly 0, that of 2 · Linear is not")
    assert len(w.remarks) == 2


def test_a_layer_that_dies_on_the_way():
    model = mlp(1, 4, 1, activation=nn.ReLU)
    w = train(model, steps=4, every=1)
    assert not any("exactly 0" in remark for remark in w.remarks)
    biases = iter(4 * [1.0] + 26 * [-100.0])

    def loss(model, x, y):
        nn.init.constant_(model[0].bias, next(biases))
        return F.mse_loss(model(x), y)

    w = train(model, every=1, loss=loss)
    assert w.history["0 · Linear"]["gradient"][0][1] > 0
    named(w, "0 · Linear: gradient is exactly 0, that of 2 · Linear is not")


def test_nothing_gets_through_though_the_last_layer_soon_has_arrived():
    model = mlp(1, 4, 1, activation=nn.ReLU)
    nn.init.constant_(model[0].bias, -100)
    factors = iter([1.0] * 3 + [0.0] * 27)
    w = train(model, every=1, loss=lambda m, x, y: F.mse_loss(m(x), y) * next(factors))
    named(w, "0 · Linear: gradient is exactly 0, that of 2 · Linear is not")


def test_a_unit_is_dead_only_if_it_never_fires():
    relu = nn.Sequential(nn.ReLU())
    with z2g.watch(relu, every=1) as w:
        for sign in (1, -1):
            relu(sign * z2g.tensor([[1.0, 1.0, -1.0, 0.0]] * 10))
    assert w.history["0 · ReLU"]["dead"] == [(1, 0.5), (2, 0.25)]  # the last unit alone gave 0 both times
    assert w.remarks == []  # and nothing here wants a gradient
    with z2g.watch(relu, every=1) as w:
        relu(-z2g.ones(19, 4))
    assert w.remarks == []  # too few inputs to say so
    with z2g.watch(relu, every=1) as w:
        relu(-z2g.ones(20, 4))
    named(w, "dead ReLU, 100 %")


def test_parameters_that_no_gradient_reaches(device):
    class Net(nn.Module):
        def __init__(self):
            self.used, self.forgotten, self.frozen = nn.Linear(1, 1), nn.Linear(1, 1), nn.Linear(1, 1)
            self.scale = nn.Parameter(z2g.ones(1))
            self.frozen.requires_grad_(False)

        def forward(self, x):
            return self.used(x) + self.frozen(x)

    w = train(Net())
    named(w, "forgotten · Linear: no gradient ever reached weight, bias")
    named(w, "Net: no gradient ever reached scale")
    assert len(w.remarks) == 2


@pytest.mark.parametrize("lr, words", [(1e-7, "update too small"), (10.0, "update too large")])
def test_learning_rates_out_of_proportion(lr, words, device):
    w = train(mlp(1, 16, 1), optimizer=None, lr=lr)
    named(w, "0 · Linear", words)


def grow(factors, every=1):
    """A single weight, multiplied by 1 + f in each step; returns the watch."""
    model = nn.Linear(1, 1, bias=False, dtype=z2g.float64)
    with z2g.watch(model, every=every) as w:
        for factor in factors:
            model(z2g.ones(1, 1, dtype=z2g.float64)).sum().backward()
            with z2g.no_grad():
                model.weight.mul_(1 + factor)
    return w


def test_the_bounds_of_an_update():
    assert grow(3 * [0.29]).remarks == []
    named(grow(3 * [0.31]), "update too large, 0.31 of the weights in the median step, 0.31 in step")
    assert grow([0.1, 1.9, 0.1]).remarks == []
    named(grow([0.1, 2.1, 0.1]), "update too large, 0.1 of the weights in the median step, 2.1 in step 2")
    assert grow(3 * [1.1e-6]).remarks == []
    named(grow(3 * [0.9e-6]), "update too small, 9e-07 of the weights at most: raise the learning rate")
    assert grow([1e-3, 0, 0, 0, 0]).remarks == []  # it moved, and has arrived


def test_who_has_arrived_need_not_move():
    """Linear regression solved to the last digit: in most steps seen, gradient and update are exactly 0."""
    x, model = z2g.randn(64, 4), nn.Linear(4, 1)
    y = x @ z2g.randn(4, 1)
    for steps in (400, 100):  # on the way, and from the solution on
        optimizer = optim.SGD(model.parameters(), lr=0.3)
        w = train(model, steps, every=10, loss=lambda m, *_: F.mse_loss(m(x), y), optimizer=optimizer)
        assert w.remarks == []
    assert w.history["Linear"]["gradient"][-1][1] < 1e-6 and w.history["Linear"]["update"][-1][1] < 1e-6


# --- Weights that stay where they are ----------------------------------------------------------------------------


def test_an_optimizer_without_the_first_layer(device):
    model = mlp(1, 8, 8, 1)
    w = train(model, optimizer=optim.Adam([model[0].bias, *model[2].parameters()]))
    named(w, "0 · Linear: gradients arrive, but weight never moved: not in the optimizer?")
    named(w, "4 · Linear: gradients arrive, but weight, bias never moved: not in the optimizer?")
    assert len(w.remarks) == 2


def test_no_step_of_the_optimizer():
    model = mlp(1, 8, 1)
    with z2g.watch(model) as w:
        model(z2g.ones(1, 1)).sum().backward()
        assert w.remarks == ["nothing seen: the model was not called in training mode inside the `with` block"]
        model(z2g.ones(1, 1)).sum().backward()
        assert len(w.remarks) == 1
    named(w, "gradients arrive, but no weight ever moved: is optimizer.step() called")


def accumulate(every):
    """Gradients of four batches for each step of the optimizer."""
    model = mlp(1, 8, 1)
    optimizer = optim.SGD(model.parameters(), lr=0.01)
    with z2g.watch(model, every=every) as w:
        for step in range(16):
            model(z2g.ones(1, 1)).sum().backward()
            if step % 4 == 3:
                optimizer.step()
                optimizer.zero_grad()
    return w


def test_steps_that_fall_between_the_looks():
    named(accumulate(4), "the weights moved, but only in steps that were not looked at: choose another `every`")
    assert accumulate(5).remarks == accumulate(1).remarks == []


def test_two_calls_of_the_model_for_one_backward_pass():
    """Two steps, by the definition; the first never sees a gradient."""
    for every, remarks in ((1, 0), (2, 1)):
        model = mlp(1, 8, 1)
        optimizer = optim.SGD(model.parameters(), lr=0.01)
        w = train(model, 10, every, loss=lambda m, x, y: F.mse_loss(m(x) + m(-x), y), optimizer=optimizer)
        assert w.steps == 20 and len(w.remarks) == remarks
    named(w, "no gradient arrived in a step that was looked at: call backward() before the model's next call")


def test_the_first_nan_is_found_with_operation_and_line(device):
    def loss(model, x, y):
        return (model(x) - 1000.0).log().mean()  # the line to be named

    w = train(mlp(1, 4, 1), every=1, steps=3, loss=loss)
    remark = named(w, "first NaN: step 1: 'log' made nan in its result of shape (64, 1), called in")
    assert remark.endswith("return (model(x) - 1000.0).log().mean()  # the line to be named") and __file__ in remark
    assert not observers


def test_a_nan_in_a_gradient_rule_is_found_too():
    loss = lambda model, x, y: (model(x) * 0).sqrt().sum()  # noqa: E731 - 0 · ∞ on the way back
    w = train(mlp(1, 4, 1), every=1, steps=2, loss=loss)
    named(w, "first NaN: step 1: the gradient rule of 'mul'")
    named(w, "0 · Linear, 2 · Linear: output, gradient, weights not finite")
    row = next(line for line in str(w).splitlines() if line.startswith("1 · Tanh"))
    assert row.split()[3:] == ["nan", "nan"]  # what it is, not "inf"


def test_an_infinite_size_is_no_nan():
    model = nn.Sequential(nn.Linear(1, 1, bias=False))
    with z2g.watch(model) as w:
        model(z2g.full((1, 1), math.inf))
    assert str(w).splitlines()[2].split()[3:] == ["inf"]
    named(w, "0 · Linear: output not finite")


def test_of_two_nans_in_a_step_and_of_two_steps_the_first_is_reported():
    """The logarithm makes the first NaN; the root, of other numbers, the second, and both again in each step."""

    def loss(model, x, y):
        out = model(x)
        return (out - 1000).log().mean() + (out - 2000).sqrt().mean()

    model = mlp(1, 4, 1)
    with z2g.watch(model, every=1) as w:
        for _ in range(3):
            loss(model, z2g.ones(8, 1), None)
            assert "step 1: 'log' made nan" in w.first_nan
    named(w, "first NaN: step 1: 'log' made nan")


def test_a_gradient_that_is_not_finite_is_no_measure_for_those_before_it():
    model = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    nn.init.constant_(model[1].bias, 0)
    with z2g.watch(model) as w:
        (model(z2g.ones(1, 1)).sum() + model[1].bias.sum() * 1e38 * 10).backward()
    assert w.history["1 · Linear"]["gradient"] == [(1, math.inf)] and model[0].weight.grad.item() != 0
    assert w.remarks == ["1 · Linear: gradient not finite"]
    with z2g.watch(model) as w:  # nor when theirs are 0
        (model[1].bias.sum() * 1e38 * 10 + model(z2g.ones(1, 1)).sum() * 0).backward()
    assert w.remarks == ["1 · Linear: gradient not finite"]


def test_a_nan_between_two_looks_shows_in_the_weights():
    model, steps = mlp(1, 4, 1), iter(range(100))
    loss = lambda m, x, y: F.mse_loss(m(x), y) * (math.nan if next(steps) == 2 else 1.0)  # noqa: E731
    w = train(model, loss=loss, every=5)
    named(w, "0 · Linear", "weights not finite")
    named(w, "first NaN: before step 6, in one that was not looked at (every=1 finds the operation)")
    assert not any("update" in remark for remark in w.remarks)


# --- The numbers -------------------------------------------------------------------------------------------------


def test_every_number_by_hand(device):
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    x = z2g.tensor([[1.0, -2.0], [0.5, 3.0]])
    optimizer = optim.SGD(model.parameters(), lr=0.01)
    with z2g.watch(model, every=2) as w:
        for step in range(3):
            out = model(x)
            (out * out).sum().backward()
            if step == 2:
                weight, bias = (np.array(p.tolist()) for p in model[0].parameters())
                grads = [np.array(p.grad.tolist()) for p in model[0].parameters()]
                hidden = np.array(x.tolist()) @ weight.T + bias
            optimizer.step()
            optimizer.zero_grad()
    rms = lambda *arrays: np.sqrt(np.mean(np.concatenate([a.ravel() for a in arrays]) ** 2))  # noqa: E731
    linear, relu = w.history["0 · Linear"], w.history["1 · ReLU"]
    assert [step for step, _ in linear["output"]] == [1, 3] and w.seen == 2
    last = {name: values[-1][1] for name, values in linear.items()}
    assert min(last.values()) > 1e-3
    assert last == pytest.approx({
        "output": rms(hidden), "output gradient": rms(2 * np.maximum(hidden, 0)), "weights": rms(weight, bias),
        "gradient": rms(*grads), "update": 0.01 * rms(*grads) / rms(weight, bias),
    })  # fmt: skip
    assert relu["output"][-1][1] == pytest.approx(rms(np.maximum(hidden, 0)))
    assert relu["output gradient"][-1][1] == pytest.approx(rms(2 * np.maximum(hidden, 0)))


def test_tiny_gradients_do_not_underflow():
    model = nn.Linear(1, 1, bias=False)
    with z2g.watch(model, every=1) as w:
        (model(z2g.ones(1, 1)) * 1e-30).sum().backward()
    assert w.history["Linear"]["gradient"][0][1] == pytest.approx(1e-30, rel=1e-6, abs=0)


def test_steps_without_an_update_have_no_ratio():
    """Gradients that are gathered over several backward passes, or evaluation, or recording off."""
    model = mlp(1, 4, 1)
    with z2g.watch(model, every=1) as w:
        for _ in range(3):
            model(z2g.ones(1, 1)).sum().backward()
        with z2g.no_grad():
            model(z2g.ones(1, 1))
        model.eval()
        model(z2g.ones(1, 1))
    assert w.steps == w.seen == 3 and "update" not in w.history["0 · Linear"]


# --- Coming and going --------------------------------------------------------------------------------------------


def test_training_is_the_same_with_and_without(device):
    results = []
    for every in (None, 1, 3):
        z2g.manual_seed(3)
        model = nn.Sequential(nn.Linear(1, 8), nn.Dropout(0.2), nn.ReLU(inplace=True), nn.Linear(8, 1))
        if every:
            train(model, every=every)
        else:
            x = z2g.rand(64, 1) * 6 - 3
            optimizer = optim.Adam(model.parameters(), 1e-2)
            for _ in range(30):
                loss = F.mse_loss(model(x), x.sin())
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        results.append(nn.utils.parameters_to_vector(model.parameters()))
    assert z2g.equal(results[0], results[1]) and z2g.equal(results[0], results[2])


def hooks(model):
    return [*(m for m in model.modules() if m._forward_hooks or m._forward_pre_hooks),
            *(p for p in model.parameters() if p.asked and p.asked.hooks)]  # fmt: skip


def test_the_hooks_are_there_only_while_looking():
    model = mlp(1, 4, 1)
    with z2g.watch(model, every=2) as w:
        model(z2g.ones(1, 1)).sum().backward()
        assert len(hooks(model)) == 1 + 3 + 4  # the model's own, three layers, four parameters
        model(z2g.ones(1, 1)).sum().backward()
        assert hooks(model) == [model] and not observers
    assert hooks(model) == [] and w.seen == 1


def test_ctrl_c_prints_the_table_and_goes_on_up(capsys):
    model = mlp(1, 4, 1)
    with pytest.raises(KeyboardInterrupt), z2g.watch(model):
        model(z2g.ones(1, 1))
        raise KeyboardInterrupt
    assert "watch: 1 of 1 steps looked at" in capsys.readouterr().out
    assert hooks(model) == [] and not observers


def test_an_outer_detect_anomaly_still_raises():
    model = mlp(1, 4, 1)
    with pytest.raises(RuntimeError, match="anomaly: 'log' made nan"), anomaly.detect_anomaly(), z2g.watch(model):
        (model(z2g.ones(1, 1)) - 1000).log()
    assert not observers


def test_a_backward_pass_after_the_look_does_not_raise():
    model = mlp(1, 4, 1)
    with z2g.watch(model) as w:
        loss = (model(z2g.ones(1, 1)) * 0).sqrt().sum()
    loss.backward()
    assert "the gradient rule of 'mul'" in w.first_nan


def test_bad_arguments_and_nothing_seen():
    with pytest.raises(TypeError, match="watch: expected a Module, got int"):
        z2g.watch(3)
    for every in (0, 1.5, True):
        with pytest.raises(ValueError, match="every must be an int >= 1"):
            z2g.watch(mlp(1, 1), every=every)
    with z2g.watch(mlp(1, 1)) as w:
        pass
    assert w.remarks == ["nothing seen: the model was not called in training mode inside the `with` block"]
    with pytest.raises(RuntimeError, match="nothing has been seen"):
        w.plot("never.png")


def test_the_picture(tmp_path, monkeypatch):
    w = train(mlp(*[1] + 14 * [4], 1), steps=10)
    w.plot(tmp_path / "watch.png")
    assert (tmp_path / "watch.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(TypeError, match="only in a notebook it can be left out"):
        w.plot()
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(ImportError, match="needs matplotlib: pip install matplotlib"):
        w.plot(tmp_path / "other.png")


def test_a_notebook_shows_the_picture(tmp_path, kernel):
    w = train(mlp(1, 2, 1), steps=10)
    w.plot()
    w.plot(tmp_path / "watch.png")
    first, second = kernel.shown
    assert first._repr_png_()[:4] == b"\x89PNG" and second._repr_png_() == (tmp_path / "watch.png").read_bytes()


def test_every_panel_of_the_picture_says_what_it_shows(tmp_path, drawn):
    train(mlp(*[1] + 14 * [4], 1), steps=10).plot(tmp_path / "watch.png")
    (figure,) = drawn
    assert unlabelled(figure) == []
    assert [axes.get_ylabel() for axes in figure.axes] == ["root mean square", "root mean square", "update / weights"]
    assert figure.legends[0].get_title().get_text() == "12 of 29 layers, first to last"
    assert [text.get_text() for text in figure.axes[2].get_legend().get_texts()] == ["no complaint", "usual: 0.001"]


def test_a_gpu_is_not_waited_for_on_other_steps(monkeypatch):
    """Reading a device array back is what waits; the fake CuPy lets us count."""
    fakecupy = pytest.importorskip("fakecupy")
    with fakecupy.installed():
        monkeypatch.setenv("TINYGRAD_Z2G_DEVICE", "cuda")
        model, x = mlp(1, 4, 1), z2g.ones(8, 1)
        reads = []
        for name in ("get", "item", "__bool__", "__float__"):
            original = getattr(fakecupy.ndarray, name)
            monkeypatch.setattr(
                fakecupy.ndarray, name, lambda self, *a, f=original, n=name: (reads.append(n), f(self, *a))[1]
            )
        counts = []
        with z2g.watch(model, every=3):
            for _ in range(4):
                model(x).sum().backward()
                counts.append(len(reads))
        assert counts[0] > 0 and counts[3] > counts[2] > 0
        # the second step ends the look at the first, which reads its numbers; the third reads nothing
        assert counts[2] == counts[1]
