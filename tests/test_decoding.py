"""The fast form of a block for one new position: the plain form's numbers, and nothing but what it knows."""

import contextlib
import itertools
import types

import numpy as np
import pytest
from numeric import host

import tinygrad_z2g as z2g
from tinygrad_z2g import amp, fast, nn
from tinygrad_z2g.arrays import random
from tinygrad_z2g.arrays.backend import quiet
from tinygrad_z2g.core import gpt, layers
from tinygrad_z2g.fast import decoding
from tinygrad_z2g.models import GPT, GPTConfig
from tinygrad_z2g.nn import functional as F
from tinygrad_z2g.nn.lora import LoRA
from tinygrad_z2g.tools.trace import Observer, observing

C, HEADS = 12, 2
pytestmark = pytest.mark.fast


def a_block(**settings):
    """All its parameters random, so that none can be left out unseen."""
    block = nn.TransformerBlock(C, HEADS, **settings)
    for p in block.parameters():
        nn.init.normal_(p, std=0.5)
    return block.eval()


def plainly(block, x, cache=None, angles=None):
    return decoding._core_forward(block, x, cache, angles)


def fed(forward, block, x, angles=None, cache=None):
    """x (B, T, C) into a cache, one position at a time: (B, T, C)."""
    cache = nn.Cache() if cache is None else cache
    parts = []
    with z2g.no_grad():
        for i in range(x.shape[1]):
            turned = None if angles is None else tuple(part[i : i + 1] for part in angles)
            parts.append(host(forward(block, x[:, i : i + 1], cache, turned)))
    return np.concatenate(parts, 1)


@pytest.fixture
def taken(monkeypatch):
    """The shapes that the fast form was given."""
    shapes, block = [], decoding.block

    def noted(x, *rest):
        shapes.append(x.shape)
        return block(x, *rest)

    monkeypatch.setattr(decoding, "block", noted)
    return shapes


# --- The same numbers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("B", "T", "bias", "rotary"), [(1, 70, True, False), (3, 4, False, False), (2, 9, True, True), (0, 2, True, False)]
)
def test_position_by_position_as_all_at_once(taken, B, T, bias, rotary):
    block, x = a_block(bias=bias), z2g.randn(B, T, C)
    angles = F.rotary_angles(z2g.arange(T), C // HEADS, 50.0) if rotary else None
    got = fed(nn.TransformerBlock.forward, block, x, angles)
    assert taken == [(B, C)] * T
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, host(block(x, angles=angles)), rtol=2e-4, atol=2e-5)


def test_both_forms_keep_the_same():
    """One may go on where the other stopped."""
    block, x = a_block(), z2g.randn(2, 5, C)
    forms = itertools.cycle([nn.TransformerBlock.forward, plainly])
    got = fed(lambda *args: next(forms)(*args), block, x)
    np.testing.assert_allclose(got, host(block(x)), rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0])
def test_each_part_against_its_plain_form(scale):
    x, w, b = ((scale * z2g.randn(*shape)).array for shape in ((3, C), (C,), (C,)))
    n, _ = fast.reference.layer_norm(x, 1e-5)
    np.testing.assert_allclose(decoding.layer_norm(x, w, b, 1e-5), n * w + b, rtol=1e-4, atol=1e-5 * scale)
    np.testing.assert_array_equal(decoding.gelu(x), fast.reference.gelu_tanh(x)[0])
    q, k, v = ((scale * z2g.randn(2, 3, n, 4)).array for n in (1, 7, 7))
    expected = fast.reference.attention(q, k, v, None, False, 0.5, 0.0, 0)[0]
    np.testing.assert_allclose(decoding.attended(q, k, v), expected, rtol=1e-4, atol=1e-5 * scale)


def test_a_constant_row_becomes_its_bias():
    w, b = np.ones(100, np.float32), np.arange(100, dtype=np.float32)
    x = np.linspace(999, 1000, 20, dtype=np.float32)[:, None] + 0 * w
    np.testing.assert_allclose(decoding.layer_norm(x, w, b, 1e-5), np.tile(b, (20, 1)), atol=1e-5)


def test_scores_without_end_or_number():
    """All -inf: attends to nothing, as in `fast.attention`. inf and NaN give NaN, and no warning."""
    k = v = np.ones((1, 1, 3, 2), np.float32)
    for number, expected in ((-np.inf, 0), (np.inf, np.nan), (np.nan, np.nan)):
        q = np.full((1, 1, 1, 2), number, np.float32)
        np.testing.assert_array_equal(quiet.run(decoding.attended, q, k, v), np.full((1, 1, 1, 2), expected))
    block, x = a_block(), z2g.full((1, 1, C), np.inf)
    with z2g.no_grad():
        assert np.isnan(host(block(x, nn.Cache()))).all()


@pytest.mark.parametrize("changes", [{}, {"rotary": True, "tied": False}, {"bias": False}])
@pytest.mark.parametrize("temperature", [0, 0.8])
def test_a_gpt_writes_what_it_writes_plainly(taken, monkeypatch, changes, temperature):
    model = GPT(GPTConfig(vocab_size=13, context=16, layers=2, heads=2, width=8, **changes))
    with z2g.no_grad():
        for p in model.parameters():
            if p.ndim == 2:
                p.mul_(15)
    prompt, texts = z2g.tensor([[1, 2, 3], [4, 5, 6]]), []
    for form in (nn.TransformerBlock.forward, plainly):
        monkeypatch.setattr(nn.TransformerBlock, "forward", form)
        z2g.manual_seed(3)
        texts.append(host(model.generate(prompt, 12, temperature)))
        assert len(taken) == 2 * 11  # not the prompt
    np.testing.assert_array_equal(*texts)
    assert len({tuple(row) for row in texts[0][:, 3:].T}) > 3


# --- All else goes the plain way ---------------------------------------------------------------------------------


class Mine(nn.Linear):
    def forward(self, input):
        return super().forward(input) * 2


def with_hook(register):
    def change(block):
        getattr(block.attention.qkv, register)(lambda *args: args[-1] * 2 if len(args) == 3 else (args[1][0] * 2,))

    return change


def own_forward(block):
    plain = block.mlp[2].forward
    block.mlp[2].forward = lambda x: plain(x) * 2


def put(name, make):
    """Another module in the place of this one."""
    return lambda block: block.set_submodule(name, make(block.get_submodule(name)))


def linear(kind):
    return lambda old: kind(old.in_features, old.out_features)


def training(p, name):
    def change(block):
        block.train()
        (block.attention if name == "attention" else block.get_submodule(name)).__dict__.update(
            {"dropout" if name == "attention" else "p": p}
        )

    return change


CHANGES = {
    "forward hook": with_hook("register_forward_hook"),
    "pre-hook": with_hook("register_forward_pre_hook"),
    "a forward of its own": own_forward,
    "another class": put("mlp.0", linear(Mine)),
    "LoRA": put("attention.qkv", lambda old: LoRA(old, 2)),
    "another activation": put("mlp.1", lambda old: nn.ReLU()),
    "exact GELU": put("mlp.1", lambda old: nn.GELU()),
    "another norm": put("norm1", lambda old: nn.RMSNorm(C)),
    "a norm without weights": put("norm2", lambda old: nn.LayerNorm(C, elementwise_affine=False)),
    "one more layer": lambda block: block.mlp.append(nn.ReLU()),
    "one less": lambda block: block.mlp.pop(3),
    "another MLP": put("mlp", lambda old: nn.Linear(C, C)),
    "another attention": put("attention", lambda old: Attention(C, HEADS)),
    "dropout of residuals": training(0.5, "attention.resid_dropout"),
    "dropout of the MLP": training(0.5, "mlp.3"),
    "dropout of attention": training(0.5, "attention"),
}


class Attention(nn.CausalSelfAttention):
    def forward(self, x, cache=None, angles=None):
        return super().forward(x, cache, angles) * 2


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_block_that_is_not_as_the_core_made_it(taken, change):
    block, x, texts = a_block(), z2g.randn(2, 3, C), []
    usual = fed(nn.TransformerBlock.forward, block, x)
    assert len(taken) == 3
    change(block)
    for form in (nn.TransformerBlock.forward, plainly):
        z2g.manual_seed(0)
        texts.append(fed(form, block, x))
    assert len(taken) == 3
    np.testing.assert_array_equal(*texts)
    if change is not CHANGES["LoRA"] and change is not CHANGES["one less"]:  # which change no number at first
        assert np.abs(texts[0] - usual).max() > 1e-4


def test_a_class_whose_forward_was_replaced(taken, monkeypatch):
    block, x, seen = a_block(), z2g.randn(1, 2, C), []
    plain = layers.Linear.forward
    monkeypatch.setattr(layers.Linear, "forward", lambda self, input: seen.append(self) or plain(self, input))
    fed(nn.TransformerBlock.forward, block, x)
    assert len(seen) == 8
    assert not taken


class Kept(gpt.Cache):
    pass


class Looking(observing):
    observer = Observer()


AROUND = {  # what makes the block, x, the cache, and where all that happens
    "float64": lambda: (a_block().double(), z2g.randn(2, 3, C).double(), nn.Cache(), z2g.no_grad()),
    "float16": lambda: (a_block().half(), z2g.randn(2, 3, C).half(), nn.Cache(), z2g.no_grad()),
    "padding": lambda: (a_block(), z2g.randn(2, 3, C), nn.Cache(z2g.tensor([0, 1])), z2g.no_grad()),
    "another cache": lambda: (a_block(), z2g.randn(2, 3, C), Kept(), z2g.no_grad()),
    "mixed precision": lambda: (a_block(), z2g.randn(2, 3, C), nn.Cache(), amp.autocast("cpu", z2g.float16)),
    "somebody looks on": lambda: (a_block(), z2g.randn(2, 3, C), nn.Cache(), Looking()),
    "recording": lambda: (a_block().requires_grad_(False), z2g.randn(2, 3, C), nn.Cache(), z2g.enable_grad()),
}


@pytest.mark.parametrize("make", AROUND.values(), ids=AROUND)
def test_where_all_is_not_as_usual(taken, make):
    found = []
    for form in (nn.TransformerBlock.forward, plainly):
        z2g.manual_seed(0)
        block, x, cache, around = make()
        with z2g.no_grad() if make is not AROUND["recording"] else contextlib.nullcontext(), around:
            found.append(host(z2g.cat([form(block, x[:, i : i + 1], cache) for i in range(3)], 1)))
    assert not taken
    np.testing.assert_array_equal(*found)


def test_on_a_card(device, taken):
    block, x = a_block(), z2g.randn(2, 3, C)
    np.testing.assert_allclose(fed(nn.TransformerBlock.forward, block, x), host(block(x)), rtol=2e-4, atol=2e-5)
    assert bool(taken) == (device == "cpu")


@pytest.mark.parametrize("T", [2, 3])
def test_several_new_positions(taken, T):
    block, x, cache = a_block(), z2g.randn(1, 2 * T, C), nn.Cache()
    with z2g.no_grad():
        parts = [block(x[:, :T], cache), block(x[:, T:], cache)]
    np.testing.assert_allclose(host(z2g.cat(parts, 1)), host(block(x)), rtol=2e-4, atol=2e-5)
    assert not taken


@pytest.mark.parametrize("name", ["norm1.weight", "attention.qkv.bias", "attention.proj.weight", "mlp.2.bias"])
def test_parameters_that_do_not_fit_are_refused_as_ever(name):
    block, x = a_block(), z2g.randn(1, 1, C)
    parameter = dict(block.named_parameters())[name]
    parameter.array = parameter.array[:1]  # which NumPy would broadcast
    with z2g.no_grad(), pytest.raises(RuntimeError, match=r"layer_norm: weight has shape|linear: bias"):
        block(x, nn.Cache())


def test_angles_that_do_not_fit_are_refused_as_ever():
    angles = tuple(part[:, :2] for part in F.rotary_angles(z2g.arange(1), C // HEADS))
    with z2g.no_grad(), pytest.raises(RuntimeError, match="rotary_embedding: input"):
        a_block()(z2g.randn(1, 1, C), nn.Cache(), angles)


@pytest.mark.parametrize("form", [nn.TransformerBlock.forward, plainly], ids=["fast", "plain"])
def test_a_cache_of_other_texts_is_refused(form):
    """One row would have been written into both."""
    block, cache = a_block(), nn.Cache()
    with z2g.no_grad():
        form(block, z2g.randn(2, 1, C), cache)
        with pytest.raises(RuntimeError, match=r"Cache: got keys of shape \(1, 2, 1, 6\) for those of \(2, 2, 1, 6\)"):
            form(block, z2g.randn(1, 1, C), cache)
    assert len(cache) == 1


def test_a_cache_of_another_dtype_is_refused():
    block, cache = a_block().double(), nn.Cache()
    with z2g.no_grad():
        block(z2g.randn(1, 1, C).double(), cache)
        with pytest.raises(RuntimeError, match="float64"):
            block.float()(z2g.randn(1, 1, C), cache)


# --- One index of each row ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("m", "k"), [(1, 1), (3, 2), (2, 64), (1, 5000)])
def test_one_index_of_each_row_is_that_of_numpys_choice(m, k):
    """And the stream is left where `choice` leaves it."""
    weights = np.random.default_rng(k).random((m, k)) ** 8
    weights[:, 1::3] = 0
    ours, numpys = random.Generator(5), random.Generator(5)
    for _ in range(50):
        expected = [numpys.numpy.choice(k, 1, replace=False, p=row / row.sum(), shuffle=False) for row in weights]
        np.testing.assert_array_equal(random.choices(weights, 1, False, ours), expected)
    assert ours.get_state() == numpys.get_state()


def test_the_last_index_is_reached_though_sums_are_rounded():
    """0.1 ten times adds up to the number below 1, which may be drawn, too."""
    stream = types.SimpleNamespace(random=lambda shape: np.full(shape, np.nextafter(1, 0)))
    generator = types.SimpleNamespace(numpy=stream)
    assert random.choices(np.full((2, 10), 0.1), 1, False, generator).tolist() == [[9], [9]]


@pytest.mark.parametrize("row", [[np.nan, 1.0], [0.0, 0.0], [np.inf, 1.0]])
def test_weights_that_are_no_probabilities_are_refused(row):
    with pytest.raises(ValueError), np.errstate(all="ignore"):
        random.choices(np.array([[0.5, 0.5], row]), 1, False)
