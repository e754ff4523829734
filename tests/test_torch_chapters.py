"""Chapters of tutorials and courses in `torch_style/`: each script learns what it is there to learn.

The numbers are bounds, not torch's own: the same seed draws other numbers there. The scripts run under torch too,
when their import lines say so, and keep these bounds.
"""

import math
import runpy
from pathlib import Path

import pytest

import tinygrad_z2g as z2g
from tinygrad_z2g import nn

FOLDER = Path(__file__).parent / "torch_style"


def char_rnn(run):
    assert run["all_losses"][0] == pytest.approx(math.log(3), abs=0.15)
    assert run["all_losses"][-1] < 0.15
    confusion = run["confusion"]
    assert confusion.sum(1).tolist() == pytest.approx([1, 1, 1]) and confusion.diag().min().item() > 0.9
    assert (run["together"] - run["alone"]).abs().max().item() < 1e-5
    for name, language in {"kowalewski": "Polish", "yamakawa": "Japanese", "rossini": "Italian"}.items():
        (best, guess), (second, _) = run["predictions"][name]
        assert guess == language and second < best <= 0


def seq2seq(run):
    assert run["losses"][0] == pytest.approx(math.log(8), abs=0.3)
    assert run["accuracy"] > 0.95
    attentions = run["attentions"]
    assert attentions.shape == (64, 5, 4)
    assert (attentions.sum(-1) - 1).abs().max().item() < 1e-5


def vae(run):
    assert run["epoch_losses"][0] > 30 and run["epoch_losses"][-1] < 15
    assert run["kl"] == pytest.approx(run["kl_written_out"], rel=1e-4) and run["kl"] / 256 > 1
    assert run["wrong_pixels"] == 0
    assert run["sample"].shape == (16, 1, 8, 8)
    assert 0 <= run["sample"].min().item() < 0.1 and 0.9 < run["sample"].max().item() <= 1


def gan(run):
    assert abs(run["radius_before"].mean().item() - 1) > 0.1 or run["radius_before"].std().item() > 0.3
    assert run["radius"].mean().item() == pytest.approx(1, abs=0.15) and run["radius"].std().item() < 0.25
    assert run["quadrants"].tolist() == [0, 1, 2, 3]
    assert run["fixed_noise"].grad is None and all(0.1 < loss < 5 for loss in run["D_losses"])


def diffusion(run):
    start, end = sum(run["losses"][:20]) / 20, sum(run["losses"][-20:]) / 20
    assert start > 0.45 and end < 0.4
    sample, right = run["sample"], run["right"]
    assert 0.35 < right.float().mean().item() < 0.65
    assert sample[right].mean(0).tolist() == pytest.approx([1, -0.5], abs=0.1)
    assert sample[~right].mean(0).tolist() == pytest.approx([-1, 0.5], abs=0.1)
    assert sample[right].std(0).max().item() < 0.3
    assert run["optimizer"].param_groups[0]["lr"] == pytest.approx(0, abs=1e-7)
    assert set(run["noise_scheduler"].state_dict()) == {"betas", "alphas", "alphas_cumprod", "posterior_variance"}


def policy_gradient(run):
    assert run["history"][-1] > 0.9 and len(run["history"]) == 150
    assert run["right"][1:5].min().item() > 0.8
    values = run["values"].flatten().tolist()
    assert values[4] == pytest.approx(1, abs=0.15) and values[4] > values[2]


def word2vec(run):
    assert run["losses"][0] == pytest.approx(4 * math.log(2), abs=1e-3) and run["losses"][-1] < 2.2
    for words in run["groups"].values():
        for word in words:
            assert set(run["neighbours"][word]) == set(words) - {word}
    assert run["cat_dog"] > 0.9 > run["cat_soup"] + 0.2
    word, dog = (run["word2idx"][w] for w in ("cat", "dog"))
    assert run["cat_dog"] == pytest.approx(run["similarity"][word, dog].item(), abs=1e-5)


def batch_norm_digits(run):
    assert run["best_acc"] > 0.95 and run["accuracy"] == pytest.approx(run["best_acc"], abs=1e-6)
    assert run["history"]["train"][-1][0] < 0.6 < run["history"]["train"][0][0]
    assert run["tracked"] % 12 == 0 and len(run["train_set"]) == 384
    assert (run["one_by_one"] - run["all_at_once"]).abs().max().item() < 1e-4


def transfer(run):
    assert run["pretrained_accuracy"] > 0.95
    assert run["missing"] == ["fc.weight", "fc.bias"] and run["unexpected"] == []
    assert run["trainable"] == ["fc.weight", "fc.bias"]
    assert all((run["frozen_after"][name] == p).all().item() for name, p in run["frozen_before"].items())
    assert run["frozen_grads"] == [None] * 6
    assert run["head_losses"][-1] < 0.25 < run["head_losses"][0] and run["head_accuracy"] > 0.9
    assert run["exp_lr_scheduler"].get_last_lr() == pytest.approx([0.05 / 8])
    assert len(run["moved"]) == 6 and run["fine_losses"][-1] < run["fine_losses"][0]
    assert run["fine_accuracy"] > 0.9


def lbfgs_fit(run):
    assert run["model"].coefficients.tolist() == pytest.approx(run["truth"].tolist(), abs=1e-3)
    assert run["model"].string() == "y = 2.50 exp(-1.30 t) cos(3 t + 0.40) + -0.70"
    assert run["losses"][-1] < 1e-8 < min(run["others"].values()) and run["calls"] < 80
    assert (run["w"].detach() - run["solution"]).abs().max().item() < 1e-8


CHAPTERS = [char_rnn, seq2seq, vae, gan, diffusion, policy_gradient, word2vec, batch_norm_digits, transfer, lbfgs_fit]


@pytest.mark.parametrize("check", CHAPTERS, ids=lambda check: check.__name__)
def test_chapter(check):
    check(runpy.run_path(str(FOLDER / f"{check.__name__}.py")))


# --- What such chapters say in passing --------------------------------------------------------------------------------


def test_gradients_of_parameters_as_they_come(device):
    """`grad(loss, model.parameters())`: a generator, or the values of a dict, are several inputs."""
    model, x = nn.Linear(2, 3), z2g.tensor([[1.0, 2.0]])
    for inputs in (model.parameters(), dict(model.named_parameters()).values()):
        weight, bias = z2g.autograd.grad(model(x).sum(), inputs)
        assert weight.tolist() == [[1, 2]] * 3 and bias.tolist() == [1, 1, 1]


def test_one_place_named_by_a_number(device):
    """`zeros(10).scatter_(0, tensor(y), value=1)`: one-hot, as in the first tutorial."""
    two = z2g.tensor(2)
    assert z2g.zeros(4).scatter_(0, two, value=1).tolist() == [0, 0, 1, 0]
    x = z2g.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = x.gather(0, two)
    assert y.shape == () and y.item() == 3
    (5 * y).backward()
    assert x.grad.tolist() == [0, 0, 5]
    src = z2g.tensor(7.0, requires_grad=True)
    z = x.scatter_add(0, two, src)
    assert z.tolist() == [1, 2, 10]
    (z * z2g.tensor([1.0, 2.0, 4.0])).sum().backward()
    assert src.grad.item() == 4 and x.grad.tolist() == [1, 2, 9]
    if device == "cpu":  # on a GPU nobody looks
        with pytest.raises(RuntimeError, match="out of range"):
            x.gather(0, z2g.tensor(3))
    with pytest.raises(RuntimeError, match="dimensions"):
        z2g.zeros(2, 2).gather(0, two)


def test_parameter_is_found_where_torch_keeps_it():
    from tinygrad_z2g.nn.parameter import Parameter

    assert Parameter is nn.Parameter


def test_writing_through_a_row_that_a_tensor_names(device):
    """`confusion[y[i]][guess[i]] += 1`: the row is a view, on a GPU too."""
    counts, y = z2g.zeros(2, 3), z2g.tensor([1, 0, 1])
    for i in range(3):
        counts[y[i]][y[i] + 1] += 1
    assert counts.tolist() == [[0, 1, 0], [0, 0, 2]]
