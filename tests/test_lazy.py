"""Layers that learn their width from the first input: before it, at it, and after it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numeric import host

import tinygrad_z2g as z2g
from tinygrad_z2g import nn
from tinygrad_z2g.nn import UninitializedParameter

LAYERS: dict[str, tuple] = {  # lazy, the ordinary layer for the input, the input
    "LazyLinear": (lambda **kw: nn.LazyLinear(3, **kw), lambda **kw: nn.Linear(4, 3, **kw), (2, 5, 4)),
    "LazyConv1d": (
        lambda **kw: nn.LazyConv1d(3, 2, stride=2, padding=1, **kw),
        lambda **kw: nn.Conv1d(4, 3, 2, stride=2, padding=1, **kw),
        (2, 4, 6),
    ),
    "LazyConv2d": (
        lambda **kw: nn.LazyConv2d(3, (2, 1), dilation=2, **kw),
        lambda **kw: nn.Conv2d(4, 3, (2, 1), dilation=2, **kw),
        (2, 4, 6, 5),
    ),
    "LazyBatchNorm1d": (
        lambda **kw: nn.LazyBatchNorm1d(momentum=0.2, **kw), lambda **kw: nn.BatchNorm1d(4, momentum=0.2, **kw), (3, 4)
    ),
    "LazyBatchNorm2d": (
        lambda **kw: nn.LazyBatchNorm2d(1e-3, **kw), lambda **kw: nn.BatchNorm2d(4, 1e-3, **kw), (2, 4, 3, 5)
    ),
}  # fmt: skip
every_layer = pytest.mark.parametrize("name", LAYERS)


def settings(layer: nn.Module) -> dict:
    return {name: value for name, value in vars(layer).items() if name[0] != "_" and not isinstance(value, z2g.Tensor)}


@every_layer
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_the_first_call_makes_the_ordinary_layer(device, name, bias):
    """The same class, settings, starting values in the same order, and result."""
    make, ordinary, shape = LAYERS[name]
    z2g.manual_seed(4)
    layer, x = make(bias=bias), z2g.ones(*shape)
    assert repr(layer).startswith(name)
    z = layer(x)
    z2g.manual_seed(4)
    expected = ordinary(bias=bias)
    assert type(layer) is type(expected) and repr(layer) == repr(expected)
    assert settings(layer) == settings(expected)
    assert list(layer.state_dict()) == list(expected.state_dict())
    for p, q in zip(layer.parameters(), expected.parameters(), strict=True):
        assert type(p) is nn.Parameter and np.array_equal(host(p), host(q)) and p.device.type == device
    assert np.array_equal(host(z), host(expected(x)))
    assert np.array_equal(host(layer(x[1:])), host(expected(x[1:])))


@every_layer
def test_parameters_stay_the_same_objects(name):
    """So an optimizer that was made before trains them."""
    make, _, shape = LAYERS[name]
    layer = make()
    optimizer = z2g.optim.Adam(layer.parameters(), lr=0.1)
    before = list(layer.parameters())
    assert all(type(p) is UninitializedParameter and p.requires_grad and p.grad is None for p in before)
    optimizer.step()  # there is no gradient: nothing happens
    (layer(z2g.randn(*shape)) * z2g.randn(*layer(z2g.ones(*shape)).shape)).sum().backward()
    start = [host(p).copy() for p in layer.parameters()]
    optimizer.step()
    assert [id(p) for p in layer.parameters()] == [id(p) for p in before]
    assert all(not np.array_equal(host(p), old) for p, old in zip(layer.parameters(), start, strict=True))


def test_a_network_of_lazy_layers(device):
    net = nn.Sequential(
        nn.LazyConv2d(4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(2)
    )
    assert all(type(p) is UninitializedParameter for p in net.parameters())
    net(z2g.zeros(1, 1, 8, 8))
    assert [tuple(p.shape) for p in net.parameters()] == [(4, 1, 3, 3), (4,), (8, 36), (8,), (2, 8), (2,)]
    assert [type(part) for part in net if list(part.parameters())] == [nn.Conv2d, nn.Linear, nn.Linear]
    again = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 8), nn.ReLU(), nn.Linear(8, 2)
    )
    again.load_state_dict(net.state_dict())


def test_it_moves_freezes_and_copies_before_the_first_call(device):
    layer = nn.LazyLinear(3, dtype=z2g.float16).double().requires_grad_(False).eval()
    assert layer.weight.dtype == z2g.float64 and layer.weight.device.type == device
    layer.to("cpu")
    assert layer.weight.device.type == "cpu"
    other = copy.deepcopy(layer)
    seen: list = []
    layer.register_forward_hook(lambda module, args, z: seen.append(type(module)))
    layer(z2g.ones(2, 4, dtype=z2g.float64, device="cpu"))
    assert layer.weight.shape == (3, 4) and layer.weight.dtype == z2g.float64 and not layer.weight.requires_grad
    assert not layer.training and seen == [nn.Linear]
    assert type(other) is nn.LazyLinear and type(other.weight) is UninitializedParameter
    other(z2g.ones(2, 7, dtype=z2g.float64, device="cpu"))
    assert other.weight.shape == (3, 7) and not other.weight.requires_grad


def test_an_uninitialized_parameter_by_itself(device):
    p = UninitializedParameter(dtype=z2g.float64)
    assert repr(p) == "<UninitializedParameter>" and p.is_leaf and p.requires_grad and p.is_floating_point()
    p.materialize((2, 3))
    assert type(p) is nn.Parameter and p.shape == (2, 3) and p.dtype == z2g.float64 and p.device.type == device


REFUSED: dict[str, Callable[[Any], Any]] = {
    "shape": lambda m: m.weight.shape,
    "counting": lambda m: sum(p.numel() for p in m.parameters()),
    "computing": lambda m: m.weight * 2,
    "initialising": lambda m: nn.init.zeros_(m.weight),
    "the norm of all": lambda m: [p.norm() for p in m.parameters()],
    "loading into it": lambda m: m.load_state_dict(nn.Linear(4, 3).state_dict()),
    "loading from it": lambda m: nn.Linear(4, 3).load_state_dict(m.state_dict()),
    "a vector of all": lambda m: nn.utils.parameters_to_vector(m.parameters()),
    "data": lambda m: m.weight.data,
}


@pytest.mark.parametrize("use", REFUSED.values(), ids=REFUSED)
def test_using_it_before_the_first_call_says_what_to_do(use):
    with pytest.raises(RuntimeError, match=r"uninitialized.*Run the model once on an example"):
        use(nn.LazyLinear(3))


def test_saving_it_before_the_first_call(tmp_path):
    with pytest.raises(RuntimeError, match="uninitialized"):
        z2g.save(nn.LazyLinear(3).state_dict(), tmp_path / "lazy.safetensors")


@pytest.mark.parametrize("make, shape, words", [
    (lambda: nn.LazyLinear(3), (), r"\(\.\.\., in_features\)"),
    (lambda: nn.LazyConv1d(3, 2), (4,), r"LazyConv1d.*\(N, C, L\) or \(C, L\), got \(4,\)"),
    (lambda: nn.LazyConv2d(3, 2), (4, 4), r"LazyConv2d.*\(C, H, W\), got \(4, 4\)"),
])  # fmt: skip
def test_a_first_input_of_the_wrong_kind_leaves_it_lazy(make, shape, words):
    layer = make()
    with pytest.raises(RuntimeError, match=words):
        layer(z2g.ones(*shape))
    assert type(layer.weight) is UninitializedParameter and type(layer).__name__.startswith("Lazy")
    with pytest.raises(ValueError):
        nn.LazyConv1d(3, 0)


@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_has_running_averages_after_the_first_call(device, affine):
    layer = nn.LazyBatchNorm1d(affine=affine).double()
    assert layer.running_mean.shape == (0,) and len(list(layer.parameters())) == 2 * affine
    x = np.random.default_rng(0).standard_normal((5, 3))
    layer(z2g.tensor(x))
    assert type(layer) is nn.BatchNorm1d and layer.num_batches_tracked.item() == 1
    np.testing.assert_allclose(host(layer.running_mean), 0.1 * x.mean(0), rtol=1e-12)
    with pytest.raises(ValueError, match=r"LazyBatchNorm2d.*4 dimensions, got \(2, 3\)"):
        nn.LazyBatchNorm2d()(z2g.ones(2, 3))
