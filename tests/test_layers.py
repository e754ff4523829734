"""Layers of pictures, batches and bags: what they keep, start with and refuse; numbers worked out here.

That their functions and gradients are right over all shapes and settings is shown by `layer_table.py`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numeric import host

import tinygrad_z2g as z2g
from tinygrad_z2g import nn
from tinygrad_z2g.fast import pictures
from tinygrad_z2g.nn import functional as F


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def tensor(a: Any, device: str = "cpu") -> z2g.Tensor:
    return z2g.tensor(np.asarray(a), device=device)


# --- Functions of a user's own -----------------------------------------------------------------------------------

CALLS = {  # a layer, and the shapes that it takes, for each function of F that layers call
    "linear": (lambda: nn.Linear(3, 2), (4, 3)),
    "layer_norm": (lambda: nn.LayerNorm(3), (4, 3)),
    "gelu": (nn.GELU, (4, 3)),
    "relu": (nn.ReLU, (4, 3)),
    "dropout": (nn.Dropout, (4, 3)),
    "dropout2d": (nn.Dropout2d, (4, 3, 2, 2)),
    "embedding": (lambda: nn.Embedding(3, 2), None),
    "scaled_dot_product_attention": (lambda: nn.CausalSelfAttention(4, 2), (1, 3, 4)),
    "elu": (nn.ELU, (4, 3)),
    "softmin": (lambda: nn.Softmin(1), (4, 3)),
    "softmax": (lambda: nn.Softmax(1), (4, 3)),
    "conv2d": (lambda: nn.Conv2d(3, 2, 1), (1, 3, 2, 2)),
    "max_pool2d": (lambda: nn.MaxPool2d(2), (1, 3, 2, 2)),
    "adaptive_avg_pool1d": (lambda: nn.AdaptiveAvgPool1d(1), (1, 3, 2)),
    "batch_norm": (lambda: nn.BatchNorm1d(3), (4, 3)),
    "smooth_l1_loss": (nn.SmoothL1Loss, (4, 3), (4, 3)),
    "mse_loss": (nn.MSELoss, (4, 3), (4, 3)),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_layer_calls_what_stands_in_f_under_the_name(name, monkeypatch):
    """As in torch: a user's F.gelu = mine is seen by nn.GELU, and so is one that calls the old one."""
    make, *shapes = CALLS[name]
    layer, theirs, seen = make(), getattr(F, name), []
    inputs = [z2g.tensor([0, 2]) if shape is None else tensor(numbers(*shape)) for shape in shapes]

    def mine(*args, **kwargs):
        seen.append(name)
        return theirs(*args, **kwargs)

    monkeypatch.setattr(F, name, mine)
    layer(*inputs)
    assert seen == [name]


# --- Batch norm --------------------------------------------------------------------------------------------------


def test_batch_norm_keeps_averages_of_what_it_saw(device):
    """momentum 0.1: a tenth of the way each time; the variance with n - 1; in eval the averages count."""
    layer, xs = nn.BatchNorm1d(2, device=device), [numbers(6, 2, seed=i) + 3 for i in range(3)]
    mean, var = np.zeros(2), np.ones(2)
    for x in xs:
        z = layer(tensor(x, device))
        np.testing.assert_allclose(host(z), (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5), rtol=1e-4, atol=1e-5)
        mean, var = 0.9 * mean + 0.1 * x.mean(0), 0.9 * var + 0.1 * x.var(0, ddof=1)
    np.testing.assert_allclose(host(layer.running_mean), mean, rtol=1e-5)
    np.testing.assert_allclose(host(layer.running_var), var, rtol=1e-5)
    assert layer.num_batches_tracked.item() == 3 and layer.num_batches_tracked.dtype == z2g.int64
    z = layer.eval()(tensor(xs[0], device))
    np.testing.assert_allclose(host(z), (xs[0] - mean) / np.sqrt(var + 1e-5), rtol=1e-4, atol=1e-5)
    assert layer.num_batches_tracked.item() == 3


def test_without_momentum_it_is_the_mean_over_all_batches():
    layer, xs = nn.BatchNorm2d(3, momentum=None), [numbers(2, 3, 4, 5, seed=i) for i in range(4)]
    for x in xs:
        layer(tensor(x))
    np.testing.assert_allclose(host(layer.running_mean), np.mean([x.mean((0, 2, 3)) for x in xs], 0), atol=1e-6)
    expected = np.mean([x.var((0, 2, 3), ddof=1) for x in xs], 0)
    np.testing.assert_allclose(host(layer.running_var), expected, rtol=1e-5)


def test_without_running_stats_the_batch_counts_in_eval_too():
    layer, x = nn.BatchNorm1d(2, track_running_stats=False, affine=False).eval(), numbers(5, 2)
    np.testing.assert_allclose(host(layer(tensor(x))).mean(0), 0, atol=1e-6)
    assert list(layer.state_dict()) == [] and layer.running_mean is None


def test_the_names_are_torch_s_and_a_state_moves_on():
    layer = nn.BatchNorm2d(2)
    keys = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    assert list(layer.state_dict()) == keys
    assert [name for name, _ in layer.named_parameters()] == keys[:2]
    layer(tensor(numbers(3, 2, 4, 4)))
    other = nn.BatchNorm2d(2)
    other.load_state_dict(layer.state_dict())
    assert all(z2g.equal(a, b) for a, b in zip(layer.buffers(), other.buffers(), strict=True))
    assert layer.double().num_batches_tracked.dtype == z2g.int64
    layer.reset_running_stats()
    assert layer.running_mean.tolist() == [0, 0] and layer.running_var.tolist() == [1, 1]
    assert layer.num_batches_tracked.item() == 0
    assert [n for n, _ in nn.BatchNorm1d(2, bias=False).named_parameters()] == ["weight"]


def test_running_averages_are_no_part_of_the_graph():
    """They change while it is there, and backward does not mind: it reads the batch."""
    layer = nn.BatchNorm1d(2)
    x = tensor(numbers(4, 2)).requires_grad_()
    z = layer(x)
    layer(tensor(numbers(4, 2, seed=1)))
    z.square().sum().backward()
    assert x.grad.shape == (4, 2) and layer.running_mean.requires_grad is False


def test_a_constant_channel_gives_the_bias():
    z = F.batch_norm(z2g.full((3, 2, 5), 1e4), None, None, z2g.ones(2), z2g.tensor([1.0, 2.0]), training=True)
    assert host(z)[:, 0].tolist() == [[1.0] * 5] * 3 and np.all(host(z)[:, 1] == 2)


def test_batch_norm_far_from_0_is_exact():
    x = (numbers(64, 2, 8) + np.float32(1000)).astype(np.float32)
    wide = x.astype(np.float64)
    expected = (wide - wide.mean((0, 2), keepdims=True)) / np.sqrt(wide.var((0, 2), keepdims=True) + 1e-5)
    z = F.batch_norm(tensor(x), None, None, training=True)
    np.testing.assert_allclose(host(z), expected, atol=2e-4)  # x itself is rounded to 3e-5


def test_half_precision_is_computed_in_float32():
    x = numbers(4, 2, 3).astype(np.float16)
    z = F.batch_norm(tensor(x), None, None, z2g.ones(2), z2g.zeros(2), training=True)
    wide = x.astype(np.float64)
    expected = (wide - wide.mean((0, 2), keepdims=True)) / np.sqrt(wide.var((0, 2), keepdims=True) + 1e-5)
    assert z.dtype == z2g.float16
    np.testing.assert_allclose(host(z).astype(float), expected, atol=2e-3)


def test_instance_norm_normalises_each_channel_of_each_example():
    layer, x = nn.InstanceNorm2d(3, affine=True, track_running_stats=True), numbers(2, 3, 4, 5)
    z = host(layer(tensor(x)))
    np.testing.assert_allclose(z.mean((2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(z.var((2, 3)), 1, atol=1e-4)
    np.testing.assert_allclose(host(layer.running_mean), 0.1 * x.mean((0, 2, 3)), atol=1e-6)
    expected = 0.9 + 0.1 * x.var((2, 3), ddof=1).mean(0)
    np.testing.assert_allclose(host(layer.running_var), expected, rtol=1e-5)
    one = layer.eval()(tensor(x[0]))  # without batch
    assert one.shape == (3, 4, 5)


def test_group_norm_of_one_group_is_layer_norm_over_channels_and_places():
    x = numbers(2, 4, 3)
    np.testing.assert_allclose(
        host(nn.GroupNorm(1, 4)(tensor(x))), host(F.layer_norm(tensor(x), (4, 3))), atol=1e-5
    )


# --- Windows -----------------------------------------------------------------------------------------------------


def test_transposed_convolution_is_the_transpose(device):
    """<conv(x), y> = <x, conv_transpose(y)> for all x and y: what makes two maps each other's transpose."""
    w = tensor(numbers(4, 2, 3, 2), device)
    x, y = tensor(numbers(2, 2, 7, 6, seed=1), device), tensor(numbers(2, 4, 3, 3, seed=2), device)
    settings = {"stride": (2, 2), "padding": (0, 1), "dilation": (1, 2)}
    left = (F.conv2d(x, w, **settings) * y).sum()
    right = (F.conv_transpose2d(y, w, **settings, output_padding=(0, 1)) * x).sum()
    assert left.item() == pytest.approx(right.item(), rel=1e-4)


def test_the_output_size_chooses_what_a_stride_leaves_open():
    layer = nn.ConvTranspose1d(1, 1, 3, stride=2, padding=1)
    assert [layer(z2g.ones(1, 1, 4), output_size=[n]).shape[-1] for n in (7, 8)] == [7, 8]
    with pytest.raises(ValueError, match=r"ConvTranspose1d: requested an output size of \(9,\)"):
        layer(z2g.ones(1, 1, 4), output_size=[9])


def test_a_depthwise_convolution_keeps_channels_apart():
    layer = nn.Conv2d(3, 3, 3, padding="same", groups=3, bias=False)
    assert layer.weight.shape == (3, 1, 3, 3)
    x = z2g.zeros(1, 3, 5, 5)
    x[0, 1] = 1
    z = layer(x)
    assert z[0, 0].abs().sum().item() == z[0, 2].abs().sum().item() == 0 < z[0, 1].abs().sum().item()


@pytest.mark.parametrize("mode, row", [
    ("zeros", [0, 1, 2, 3, 0]), ("reflect", [2, 1, 2, 3, 2]), ("replicate", [1, 1, 2, 3, 3]),
    ("circular", [3, 1, 2, 3, 1]),
])  # fmt: skip
def test_padding_modes(mode, row):
    """A filter (1, 0, 0), and one that is (0, 0, 1), show what stands on either side."""
    layer = nn.Conv1d(1, 2, 3, padding=1, padding_mode=mode, bias=False)
    with z2g.no_grad():
        layer.weight.copy_(z2g.tensor([[[1.0, 0.0, 0.0]], [[0.0, 0.0, 1.0]]]))
    left, right = layer(z2g.tensor([[[1.0, 2.0, 3.0]]]))[0].tolist()
    assert (left, right) == (row[:3], row[2:])


@pytest.mark.parametrize("settings", [((1, 1), [(1, 1), (0, 1)], (1, 1)), ((2, 1), [(0, 0), (2, 0)], (1, 2))])
def test_pictures_are_convolved_in_either_way_alike(settings):
    """Channels last, for many channels; the plain way is what the sums say, number by number."""
    stride, pads, dilation = settings
    x, w = numbers(3, 5, 6, 4).astype(np.float64), numbers(2, 5, 2, 3).astype(np.float64)
    padded = np.pad(x, [(0, 0), (0, 0), *pads])
    sizes = [padded.shape[2 + i] - dilation[i] * (w.shape[2 + i] - 1) for i in range(2)]
    rows, columns = (range(0, size, step) for size, step in zip(sizes, stride, strict=True))
    z = np.zeros((3, 2, len(rows), len(columns)))
    for i, r in enumerate(rows):
        for j, c in enumerate(columns):
            seen = padded[:, :, r : r + dilation[0] + 1 : dilation[0], c : c + 2 * dilation[1] + 1 : dilation[1]]
            z[:, :, i, j] = np.einsum("ncjk,ocjk->no", seen, w)
    np.testing.assert_allclose(pictures.conv(x, w, stride, pads, dilation), z, atol=1e-12)
    assert pictures.pays(32, (4, 4)) and not pictures.pays(1, (8, 8))


def test_where_the_largest_stood():
    x = tensor([[[1.0, 5.0, 2.0, 4.0], [0.0, 3.0, 9.0, 8.0]]])
    z, where = F.max_pool2d(x, 2, return_indices=True)
    assert z.tolist() == [[[5.0, 9.0]]] and where.tolist() == [[[1, 6]]]  # 6 = row 1, column 2 of rows of 4
    assert z2g.equal(x.flatten()[where.flatten()], z.flatten())
    z, where = nn.AdaptiveMaxPool1d(2, return_indices=True)(tensor([[1.0, 7.0, 3.0, 2.0, 5.0]]))
    assert z.tolist() == [[7.0, 5.0]] and where.tolist() == [[1, 4]]


def test_nan_and_minus_infinity_in_a_window(device):
    """A NaN is the largest, the last one of several; -inf in x comes before that of the padding."""
    x = tensor([[[math.nan, 1.0, math.nan]]], device)
    assert F.max_pool1d(x, 3, return_indices=True)[1].tolist() == [[[2]]]
    x = tensor(np.full((1, 1, 2), -math.inf, np.float32), device)
    assert F.max_pool1d(x, 2, 1, 1, return_indices=True)[1].tolist() == [[[0, 0, 1]]]


def test_ceil_mode_and_what_counts_in_a_mean():
    x = tensor([[[1.0, 2.0, 3.0, 4.0, 5.0]]])
    assert F.max_pool1d(x, 2, ceil_mode=True).tolist() == [[[2.0, 4.0, 5.0]]]
    assert F.avg_pool1d(x, 2, ceil_mode=True).tolist() == [[[1.5, 3.5, 5.0]]]  # the last one of one number
    assert F.avg_pool1d(x, 3, 2, 1).tolist() == [[[1.0, 3.0, 3.0]]]  # (0 + 1 + 2) / 3, ..., (4 + 5 + 0) / 3
    assert F.avg_pool1d(x, 3, 2, 1, count_include_pad=False).tolist() == [[[1.5, 3.0, 4.5]]]
    assert F.avg_pool2d(z2g.ones(1, 2, 2), 2, divisor_override=8).item() == 0.5


# --- Sizes -------------------------------------------------------------------------------------------------------


def test_interpolation_of_a_ramp():
    x = tensor([[[0.0, 10.0]]])
    assert F.interpolate(x, 4).tolist() == [[[0, 0, 10, 10]]]
    assert F.interpolate(x, 4, mode="linear").tolist() == [[[0, 2.5, 7.5, 10]]]  # places -1/4, 1/4, 3/4, 5/4
    assert F.interpolate(x, 5, mode="linear", align_corners=True).tolist() == [[[0, 2.5, 5, 7.5, 10]]]
    assert nn.Upsample(scale_factor=2)(tensor([[[[1.0]]]])).tolist() == [[[[1, 1], [1, 1]]]]
    assert F.interpolate(tensor([[[1.0, 2.0, 6.0]]]), 2, mode="area").tolist() == [[[1.5, 4.0]]]


def test_a_factor_counts_unless_it_is_computed_again():
    """1.5 makes 7 numbers of 5, whose places are 1/1.5 apart, not 5/7."""
    x = z2g.arange(5.0)[None, None]
    places = np.clip((np.arange(7) + 0.5) / 1.5 - 0.5, 0, 4)
    np.testing.assert_allclose(host(F.interpolate(x, scale_factor=1.5, mode="linear"))[0, 0], places, atol=1e-6)
    again = F.interpolate(x, scale_factor=1.5, mode="linear", recompute_scale_factor=True)
    np.testing.assert_allclose(host(again)[0, 0], np.clip((np.arange(7) + 0.5) * 5 / 7 - 0.5, 0, 4), atol=1e-6)


def test_blocks_go_and_come_back():
    x = tensor(numbers(2, 8, 3, 4))
    assert z2g.equal(F.pixel_unshuffle(F.pixel_shuffle(x, 2), 2), x)
    assert z2g.equal(F.channel_shuffle(F.channel_shuffle(x, 2), 4), x)
    assert z2g.equal(F.fold(F.unfold(x, 1), (3, 4), 1), x)
    assert nn.Unflatten(1, (2, 4))(x).shape == (2, 2, 4, 3, 4)


def test_negative_borders_cut_off():
    x = z2g.arange(5.0)[None]
    assert F.pad(x, (-1, 2), "circular").tolist() == [[1, 2, 3, 4, 1, 2]]  # what was cut off does not come back
    assert F.pad(x, (2, -1), "reflect").tolist() == [[2, 1, 0, 1, 2, 3]]
    assert nn.ZeroPad2d(-1)(z2g.ones(1, 3, 3)).tolist() == [[[1]]]


# --- Activations at their kinks ----------------------------------------------------------------------------------

KINKS = {  # function: points, values, slopes; slopes at kinks are torch's
    "elu": ([0.0, math.nan], [0.0, math.nan], [1.0, 1.0]),
    "selu": ([0.0], [0.0], [1.7580993408473766]),
    "hardtanh": ([-1.0, 1.0, math.nan], [-1.0, 1.0, math.nan], [0.0, 0.0, 1.0]),
    "relu6": ([0.0, 6.0], [0.0, 6.0], [0.0, 0.0]),
    "hardsigmoid": ([-3.0, 3.0, 9.0], [0.0, 1.0, 1.0], [0.0, 0.0, 0.0]),
    "hardswish": ([-3.0, 3.0], [0.0, 3.0], [0.0, 1.0]),
    "hardshrink": ([0.5, -0.5, 1.0], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0]),
    "softshrink": ([0.5, -1.0], [0.0, -0.5], [0.0, 1.0]),
    "logsigmoid": ([-1e4, 1e4], [-1e4, 0.0], [1.0, 0.0]),
    "mish": ([-1e4, 1e4], [0.0, 1e4], [0.0, 1.0]),
    "softsign": ([0.0], [0.0], [1.0]),
}


@pytest.mark.parametrize("name", KINKS)
def test_activations_at_kinks_and_far_out(name, device):
    points, values, slopes = KINKS[name]
    x = z2g.tensor(points, requires_grad=True, device=device)
    z = getattr(F, name)(x)
    z.sum().backward()
    np.testing.assert_allclose(host(z), values, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(host(x.grad), slopes, rtol=1e-6, atol=1e-7)


def test_what_layers_of_activation_say_of_themselves():
    layers = [nn.ELU(0.5), nn.Hardtanh(), nn.ReLU6(inplace=True), nn.Softshrink(), nn.PReLU(3), nn.GLU(), nn.RReLU()]
    assert [repr(layer) for layer in layers] == [
        "ELU(alpha=0.5)", "Hardtanh(min_val=-1.0, max_val=1.0)", "ReLU6(inplace=True)", "Softshrink(0.5)",
        "PReLU(num_parameters=3)", "GLU(dim=-1)", "RReLU(lower=0.125, upper=0.3333333333333333)",
    ]  # fmt: skip


def test_in_place_they_write_over_their_input():
    for make in (nn.ELU, nn.SELU, nn.CELU, nn.Hardtanh, nn.ReLU6, nn.Hardsigmoid, nn.Hardswish, nn.Mish):
        x = z2g.tensor([-2.0, 2.0])
        expected = make()(x.clone())
        assert make(inplace=True)(x) is x and z2g.equal(x, expected)


def test_dropout_of_channels(device):
    z2g.manual_seed(3)
    z = host(nn.Dropout2d(0.5)(z2g.ones(50, 40, 2, 3, device=device)))
    each = z[:, :, 0, 0]
    assert np.all(z == each[:, :, None, None]) and set(np.unique(each)) == {0.0, 2.0}
    assert abs((each == 0).mean() - 0.5) < 0.05
    assert nn.Dropout1d(0.5).eval()(z2g.ones(2, 3)).tolist() == [[1.0] * 3] * 2
    x = z2g.randn(200, 200)
    dropped = nn.AlphaDropout(0.3)(x)
    assert abs(dropped.mean().item()) < 0.03 and abs(dropped.std().item() - 1) < 0.03


# --- Losses ------------------------------------------------------------------------------------------------------


def test_batchmean_is_the_divergence():
    p, q = np.array([[0.25, 0.75], [0.5, 0.5]]), np.array([[0.5, 0.5], [0.9, 0.1]])
    expected = (p * np.log(p / q)).sum(1).mean()
    assert F.kl_div(tensor(q).log(), tensor(p), reduction="batchmean").item() == pytest.approx(expected)
    assert nn.KLDivLoss(reduction="batchmean", log_target=True)(
        tensor(q).log(), tensor(p).log()).item() == pytest.approx(expected)  # fmt: skip
    t = tensor([[0.0, 1.0]]).requires_grad_()
    F.kl_div(tensor([[-1.0, -2.0]]), t, reduction="sum").backward()
    assert np.isfinite(host(t.grad)).all()


@pytest.mark.parametrize("old, reduction", [
    ({"size_average": False}, "sum"), ({"size_average": True}, "mean"), ({"reduce": False}, "none"),
    ({"reduce": True, "size_average": False}, "sum"), ({"reduce": True}, "mean"),
])  # fmt: skip
def test_the_old_names_of_reduction(old, reduction):
    x, t = tensor([1.0, 5.0]), tensor([0.0, 2.0])
    expected = F.mse_loss(x, t, reduction=reduction)
    assert z2g.equal(F.mse_loss(x, t, **old), expected) and z2g.equal(nn.MSELoss(**old)(x, t), expected)


def test_losses_far_out_are_finite():
    x = z2g.tensor([1e4, -1e4], requires_grad=True)
    z = F.soft_margin_loss(x, z2g.tensor([-1.0, -1.0]), reduction="none")
    z.sum().backward()
    assert z.tolist() == [1e4, 0.0] and x.grad.tolist() == [1.0, 0.0]


def test_the_likelihood_of_a_short_text():
    """Two steps, the target "a": it can be read off as aa, a-, -a."""
    p = np.array([[0.5, 0.3, 0.2], [0.6, 0.1, 0.3]])  # blank, a, b
    ways = 0.3 * 0.1 + 0.3 * 0.6 + 0.5 * 0.1
    loss = nn.CTCLoss()(tensor(np.log(p))[:, None], tensor([[1]]), tensor([2]), tensor([1]))
    assert loss.item() == pytest.approx(-math.log(ways))
    too_long = F.ctc_loss(tensor(np.log(p))[:, None], tensor([[1, 1]]), [2], [2])  # aa needs a blank between
    assert too_long.item() == math.inf


def test_scores_are_refused_by_name():
    with pytest.raises(RuntimeError, match="ctc_loss: input_lengths must be between 0 and 2"):
        F.ctc_loss(z2g.zeros(2, 1, 3), tensor([[1]]), [3], [1])
    with pytest.raises(ValueError, match="gaussian_nll_loss: var has negative"):
        F.gaussian_nll_loss(z2g.zeros(2), z2g.zeros(2), -z2g.ones(2))
    with pytest.raises(ValueError, match="triplet_margin_loss: margin must be greater than 0"):
        F.triplet_margin_loss(z2g.zeros(2), z2g.zeros(2), z2g.zeros(2), margin=0)
    with pytest.raises(RuntimeError, match="multi_margin_loss: input"):
        F.multi_margin_loss(z2g.zeros(2, 3), tensor([0.0, 1.0]))
    with pytest.raises(IndexError, match="multi_margin_loss: target 3"):
        F.multi_margin_loss(z2g.zeros(2, 3), tensor([0, 3]))


# --- Tables ------------------------------------------------------------------------------------------------------


def test_a_table_that_was_there():
    table = tensor(numbers(4, 3))
    layer = nn.Embedding.from_pretrained(table)
    assert not layer.weight.requires_grad and z2g.equal(layer(tensor([2])), table[2:3])
    assert nn.Embedding.from_pretrained(table, freeze=False).weight.requires_grad
    bag = nn.EmbeddingBag.from_pretrained(table, mode="sum")
    np.testing.assert_allclose(host(bag(tensor([[0, 1]])))[0], host(table)[:2].sum(0), rtol=1e-6)
    with pytest.raises(ValueError, match=r"2-dimensional, got shape \(3,\)"):
        nn.Embedding.from_pretrained(z2g.ones(3))


def test_rows_that_are_read_are_shortened(device):
    table = np.array([[3.0, 4.0], [0.3, 0.4], [6.0, 8.0]], np.float32)
    layer = nn.Embedding(3, 2, max_norm=1.0, _weight=tensor(table, device))
    layer(tensor([0, 1, 0], device))
    np.testing.assert_allclose(host(layer.weight), [[0.6, 0.8], [0.3, 0.4], [6.0, 8.0]], rtol=1e-6)


def test_gradients_by_how_often_a_row_was_read(device):
    w = z2g.zeros(3, 1, requires_grad=True, device=device)
    F.embedding(tensor([1, 1, 2], device), w, scale_grad_by_freq=True).sum().backward()
    assert w.grad.flatten().tolist() == [0.0, 1.0, 1.0]


def test_bags():
    w = z2g.arange(4.0).reshape(4, 1)
    ids = tensor([1, 3, 2])
    assert F.embedding_bag(ids, w, tensor([0, 2, 2])).flatten().tolist() == [2.0, 0.0, 2.0]  # the second is empty
    assert F.embedding_bag(ids, w, tensor([0, 2, 3]), include_last_offset=True).flatten().tolist() == [2.0, 2.0]
    assert F.embedding_bag(ids[None], w, mode="max", padding_idx=3).tolist() == [[2.0]]
    with pytest.raises(NotImplementedError, match="per_sample_weights"):
        F.embedding_bag(ids[None], w, per_sample_weights=z2g.ones(1, 3))
    with pytest.raises(RuntimeError, match="offsets"):
        F.embedding_bag(ids, w, tensor([1]))
    with pytest.raises(ValueError, match="offsets"):
        F.embedding_bag(ids, w)


# --- Parameters in lists and dicts -------------------------------------------------------------------------------


def test_a_list_of_parameters():
    model = nn.Module()
    model.scales = nn.ParameterList([z2g.ones(2), nn.Parameter(z2g.zeros(3))])
    model.scales.append(z2g.ones(1)).extend([z2g.ones(4)])
    assert [name for name, _ in model.named_parameters()] == [f"scales.{i}" for i in range(4)]
    assert len(model.scales) == 4 and model.scales[-1].shape == (4,) and [len(p) for p in model.scales[1:3]] == [3, 1]
    model.scales[0] = z2g.full((5,), 2.0)
    assert isinstance(model.scales[0], nn.Parameter) and model.state_dict()["scales.0"].tolist() == [2.0] * 5
    with pytest.raises(IndexError, match="index 4 is out of range, there are 4"):
        model.scales[4]
    assert "(1): Parameter containing: [float32 of size 3]" in repr(model)


def test_a_dict_of_parameters():
    scales = nn.ParameterDict({"a": z2g.ones(2)})
    scales["b"] = nn.Parameter(z2g.zeros(1))
    scales.update([("c", z2g.ones(3))])
    assert list(scales) == list(scales.keys()) == ["a", "b", "c"] and "b" in scales and len(scales) == 3
    assert [name for name, _ in scales.named_parameters()] == ["a", "b", "c"]
    assert scales.pop("b").shape == (1,) and list(scales.state_dict()) == ["a", "c"]
    assert scales.get("x") is None and scales.setdefault("d", z2g.ones(1)) is scales["d"]
    assert list(scales | {"e": z2g.ones(1)}) == ["a", "c", "d", "e"] and next(reversed(scales)) == "d"
    assert scales.popitem()[0] == "d" and len(scales.copy()) == 2
    scales.clear()
    assert len(scales) == 0 and list(scales.parameters()) == []
    with pytest.raises(KeyError, match="'missing'"):
        scales["missing"]
    with pytest.raises(KeyError, match="a method 'items'"):
        scales["items"] = z2g.ones(1)


def test_parameters_as_a_vector_and_back():
    model = nn.Linear(2, 3)
    vector = nn.utils.parameters_to_vector(model.parameters()).detach()
    nn.utils.vector_to_parameters(vector * 2, model.parameters())
    np.testing.assert_allclose(host(model.weight).reshape(-1), host(vector)[:6] * 2)
    np.testing.assert_allclose(host(model.bias), host(vector)[6:] * 2)
    with pytest.raises(RuntimeError, match="8 numbers do not fill the parameters: the one at 6 takes 3"):
        nn.utils.vector_to_parameters(vector[:8], model.parameters())


# --- Starting values ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer, name, bound", [
    (lambda: nn.Conv2d(8, 32, 3, groups=4), "weight", 1 / math.sqrt(2 * 9)),
    (lambda: nn.Conv2d(8, 32, 3, groups=4), "bias", 1 / math.sqrt(2 * 9)),
    (lambda: nn.ConvTranspose2d(8, 32, 3, groups=2), "weight", 1 / math.sqrt(16 * 9)),
    (lambda: nn.Bilinear(16, 20, 30), "weight", 1 / 4),
])  # fmt: skip
def test_starting_values_are_uniform_within_the_bound_of_torch(layer, name, bound):
    z2g.manual_seed(0)
    drawn = np.concatenate([host(getattr(layer(), name)).reshape(-1) for _ in range(20)])
    assert np.abs(drawn).max() <= bound and drawn.std() == pytest.approx(bound / math.sqrt(3), rel=0.05)


# --- What is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call, error, words", [
    (lambda: nn.BatchNorm1d(2)(z2g.ones(1, 2)), ValueError, "more than 1 value per channel"),
    (lambda: nn.BatchNorm2d(2)(z2g.ones(3, 2)), ValueError, "BatchNorm2d: expected 4D input"),
    (lambda: nn.BatchNorm1d(3)(z2g.ones(4, 2)), RuntimeError, "batch_norm: weight has shape"),
    (lambda: F.batch_norm(z2g.ones(3, 2), None, None), RuntimeError, "running_mean and running_var must be given"),
    (lambda: F.batch_norm(z2g.ones(3, 2, dtype="int64"), None, None, training=True), RuntimeError, "int64"),
    (lambda: nn.GroupNorm(3, 4), ValueError, "divisible by num_groups, got 4 and 3"),
    (lambda: nn.InstanceNorm1d(2)(z2g.ones(3, 2, 1)), ValueError, "more than 1 spatial element"),
    (lambda: nn.Conv2d(2, 2, 1, padding_mode="mirror"), ValueError, "padding_mode must be zeros, reflect"),
    (lambda: nn.Conv2d(2, 2, 3, padding="same", stride=2), ValueError, "'same' with stride 1"),
    (lambda: nn.ConvTranspose1d(2, 2, 3, padding_mode="reflect"), ValueError, "zeros"),
    (lambda: nn.ConvTranspose1d(1, 1, 3, output_padding=1)(z2g.ones(1, 1, 3)), RuntimeError, "output padding must"),
    (lambda: F.conv2d(z2g.ones(1, 4, 3, 3), z2g.ones(3, 2, 1, 1), groups=2), RuntimeError, "3 filters"),
    (lambda: F.avg_pool2d(z2g.ones(1, 2, 2), 2, divisor_override=0), RuntimeError, "divisor must be not zero"),
    (lambda: F.adaptive_avg_pool2d(z2g.ones(1, 2, 2), (1, 2, 3)), RuntimeError, "output_size must be"),
    (lambda: F.interpolate(z2g.ones(1, 1, 2)), ValueError, "either size or scale_factor should be defined"),
    (lambda: F.interpolate(z2g.ones(1, 1, 2), 3, 2.0), ValueError, "only one of size or scale_factor"),
    (lambda: F.interpolate(z2g.ones(1, 1, 2), 3, align_corners=True), ValueError, "align_corners is for linear"),
    (lambda: F.interpolate(z2g.ones(1, 1, 2), 3, mode="bilinear"), NotImplementedError, "bilinear"),
    (lambda: F.interpolate(z2g.ones(1, 1, 2, 2), 3, mode="bilinear", antialias=True), NotImplementedError, "antialias"),
    (lambda: F.pad(z2g.ones(1, 2), (2, 0), "reflect"), RuntimeError, "less than the corresponding input dimension"),
    (lambda: F.pad(z2g.ones(3), (1, 1), "replicate"), NotImplementedError, "'replicate' takes a pair"),
    (lambda: F.pad(z2g.ones(3), (1, 1), "mirror"), NotImplementedError, "'mirror'"),
    (lambda: F.pixel_shuffle(z2g.ones(3, 1, 1), 2), RuntimeError, "divisible by the square"),
    (lambda: F.fold(z2g.ones(4, 3), (2, 2), 2), RuntimeError, "fold: got shape"),
    (lambda: F.glu(z2g.ones(3)), RuntimeError, "halving dimension must be even"),
    (lambda: F.prelu(z2g.ones(2, 3), z2g.ones(2)), RuntimeError, "one for each of 3 channels"),
    (lambda: F.elu(z2g.ones(2, dtype="int64")), NotImplementedError, "elu: expected floating-point"),
    (lambda: F.huber_loss(z2g.ones(2), z2g.ones(2), delta=0), RuntimeError, "delta"),
    (lambda: F.hinge_embedding_loss(z2g.ones(2), z2g.ones(2, 1)), ValueError, "expected equal shapes"),
    (lambda: F.bilinear(z2g.ones(2, 3), z2g.ones(2, 3), z2g.ones(1, 3, 2)), RuntimeError, "bilinear: inputs"),
    (lambda: nn.Unflatten(1, 4), TypeError, "must be a tuple of ints"),
    (lambda: nn.ZeroPad2d((1, 2)), ValueError, "one number or 4 of them"),
])  # fmt: skip
def test_what_is_refused(call, error, words):
    with pytest.raises(error, match=words.replace("(", r"\(")):
        call()


# --- Weights that are computed -----------------------------------------------------------------------------------


def test_length_and_direction_learn_apart(device):
    layer = nn.Linear(3, 2, device=device)
    before = host(layer.weight)
    assert nn.utils.weight_norm(layer) is layer
    assert [name for name, _ in layer.named_parameters()] == ["bias", "weight_g", "weight_v"]
    np.testing.assert_allclose(host(layer.weight_g)[:, 0], np.linalg.norm(before, axis=1), rtol=1e-6)
    x = tensor(numbers(4, 3), device)
    np.testing.assert_allclose(host(layer(x)), host(x) @ before.T + host(layer.bias), rtol=1e-5, atol=1e-6)
    layer(x).sum().backward()
    v, g = host(layer.weight_v), host(layer.weight_v.grad)
    np.testing.assert_allclose((v * g).sum(1), 0, atol=1e-5)  # the length of v does not matter
    with z2g.no_grad():
        layer.weight_g *= 2
    np.testing.assert_allclose(host(nn.utils.remove_weight_norm(layer).weight), 2 * before, rtol=1e-6)
    assert [name for name, _ in layer.named_parameters()] == ["bias", "weight"]
    with pytest.raises(ValueError, match="weight_norm of 'weight' not found"):
        nn.utils.remove_weight_norm(layer)


def test_a_weight_of_norm_1(device):
    z2g.manual_seed(0)
    layer = nn.utils.spectral_norm(nn.Conv2d(2, 3, 2, device=device), n_power_iterations=50)
    assert list(layer.state_dict()) == ["bias", "weight_orig", "weight_u", "weight_v"]
    x = tensor(numbers(1, 2, 3, 3), device)
    layer(x).sum().backward()
    assert layer.weight_orig.grad is not None
    matrix = host(layer.weight).reshape(3, -1)
    assert np.linalg.svd(matrix)[1][0] == pytest.approx(1, rel=1e-4)
    layer.eval()
    u = host(layer.weight_u)
    layer(x)
    assert np.array_equal(host(layer.weight_u), u)  # no steps of the power method in eval
    np.testing.assert_allclose(host(nn.utils.remove_spectral_norm(layer).weight).reshape(3, -1), matrix, rtol=1e-5)


def test_two_forwards_before_one_backward():
    """The vectors move in the second forward, and the first one's graph still has its own."""
    layer = nn.utils.spectral_norm(nn.Linear(3, 2))
    x = tensor(numbers(4, 3))
    (layer(x).sum() + layer(x * 2).sum()).backward()
    assert layer.weight_orig.grad.shape == (2, 3)
    with pytest.raises(ValueError, match="Linear has no parameter 'weight'"):
        nn.utils.weight_norm(layer)
