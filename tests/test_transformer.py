"""The encoder-decoder Transformer and its parts, against the formulas written out in NumPy."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from numeric import check_along, host
from test_nn import arrays_of, attention_by_hand, call, close, layer_norm_by_hand, minus_inf, normal, softmax_row

import tinygrad_z2g as z2g
from tinygrad_z2g import nn
from tinygrad_z2g.nn import attention
from tinygrad_z2g.nn import functional as F

N, T, S, E, HEADS = 2, 3, 4, 6, 2
erf = np.vectorize(math.erf)
ACTIVATIONS = {
    "relu": ("relu", lambda x: np.maximum(x, 0)),
    "gelu": ("gelu", lambda x: x * 0.5 * (1 + erf(x / math.sqrt(2)))),
    "a function": (F.tanh, np.tanh),
    "a module": (nn.SiLU(), lambda x: x / (1 + np.exp(-x))),
}
PADDED = np.array([[False, False, False, True], [False, False, True, True]])
LATER = np.arange(S) > np.arange(S)[:, None]


def shaken(module: nn.Module) -> nn.Module:
    """In float64, with parameters that hide nothing: biases that are not 0, norms that are not 1."""
    for p in module.double().parameters():
        nn.init.normal_(p, std=0.4)
    return module


def prefixed(p: dict, prefix: str) -> dict:
    return {name.removeprefix(f"{prefix}."): a for name, a in p.items() if name.startswith(f"{prefix}.")}


def norm(p: dict, name: str, x: np.ndarray) -> np.ndarray:
    return layer_norm_by_hand(x, p[f"{name}.weight"], p.get(f"{name}.bias", 0))


def feed_forward(p: dict, x: np.ndarray, bend: Any) -> np.ndarray:
    hidden = bend(x @ p["linear1.weight"].T + p.get("linear1.bias", 0))
    return hidden @ p["linear2.weight"].T + p.get("linear2.bias", 0)


def attend(p: dict, name: str, q: np.ndarray, kv: np.ndarray, added: Any = 0.0) -> np.ndarray:
    added = np.broadcast_to(added, (len(q), HEADS, q.shape[1], kv.shape[1]))
    return attention_by_hand(prefixed(p, name), q, kv, kv, HEADS, added)[0]


def encoder_layer(p: dict, x: np.ndarray, first: bool, bend: Any = ACTIVATIONS["relu"][1], added: Any = 0.0) -> Any:
    """Batch first; `added` to the scores."""
    if first:
        x = x + attend(p, "self_attn", *[norm(p, "norm1", x)] * 2, added)
        return x + feed_forward(p, norm(p, "norm2", x), bend)
    x = norm(p, "norm1", x + attend(p, "self_attn", x, x, added))
    return norm(p, "norm2", x + feed_forward(p, x, bend))


def decoder_layer(
    p: dict, x: np.ndarray, memory: np.ndarray, first: bool, bend: Any = ACTIVATIONS["relu"][1], own: Any = 0.0,
    other: Any = 0.0,
) -> np.ndarray:  # fmt: skip
    if first:
        x = x + attend(p, "self_attn", *[norm(p, "norm1", x)] * 2, own)
        x = x + attend(p, "multihead_attn", norm(p, "norm2", x), memory, other)
        return x + feed_forward(p, norm(p, "norm3", x), bend)
    x = norm(p, "norm1", x + attend(p, "self_attn", x, x, own))
    x = norm(p, "norm2", x + attend(p, "multihead_attn", x, memory, other))
    return norm(p, "norm3", x + feed_forward(p, x, bend))


def stack(p: dict, name: str, x: np.ndarray, *rest: Any, **more: Any) -> np.ndarray:
    """All layers of the encoder or decoder `name`, then its norm."""
    layers = {key.split(".")[2] for key in p if key.startswith(f"{name}.layers.")}
    layer = encoder_layer if name == "encoder" else decoder_layer
    for i in sorted(layers):
        x = layer(prefixed(p, f"{name}.layers.{i}"), x, *rest, **more)
    return norm(p, f"{name}.norm", x)


def order(batch_first: bool, *arrays: np.ndarray) -> list[np.ndarray]:
    return [a if batch_first else a.swapaxes(0, 1) for a in arrays]


# --- Layers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_first", [True, False], ids=["batch first", "batch second"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("first", [False, True], ids=["norm last", "norm first"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_layers(device, bias, first, activation, batch_first):
    given, bend = ACTIVATIONS[activation]
    settings = (E, HEADS, 5, 0.0, given, 1e-5, batch_first, first, bias)
    encoder, decoder = shaken(nn.TransformerEncoderLayer(*settings)), shaken(nn.TransformerDecoderLayer(*settings))
    x, memory = normal(N, T, E), normal(N, S, E, seed=1)
    [result] = order(batch_first, host(call(encoder, *order(batch_first, x))))
    close(z2g.tensor(result), encoder_layer(arrays_of(encoder), x, first, bend), 1e-9)
    [result] = order(batch_first, host(call(decoder, *order(batch_first, x, memory))))
    close(z2g.tensor(result), decoder_layer(arrays_of(decoder), x, memory, first, bend), 1e-9)
    close(encoder(z2g.tensor(x[1])), encoder_layer(arrays_of(encoder), x, first, bend)[1], 1e-9)  # without a batch


PAIRS = np.random.default_rng(5).random((N * HEADS, S, S)) < 0.4
PAIRS[:, :, 0] = False  # every position may look somewhere
MASKS = {  # arguments of an encoder layer -> what is added to the scores
    "bool": ({"src_mask": PAIRS[0]}, minus_inf(PAIRS[0])),
    "float": ({"src_mask": normal(S, S, seed=8)}, normal(S, S, seed=8)),
    "per head": ({"src_mask": PAIRS}, minus_inf(PAIRS).reshape(N, HEADS, S, S)),
    "padding": ({"src_key_padding_mask": PADDED}, minus_inf(PADDED)[:, None, None]),
    "both": (
        {"src_mask": PAIRS[0], "src_key_padding_mask": PADDED}, minus_inf(PAIRS[0] | PADDED[:, None, None]),
    ),
    "causal": ({"is_causal": True}, minus_inf(LATER)),
    "causal, and its mask": ({"is_causal": True, "src_mask": minus_inf(LATER)}, minus_inf(LATER)),
    "causal, and padding": (
        {"is_causal": True, "src_key_padding_mask": PADDED}, minus_inf(LATER | PADDED[:, None, None])
    ),
}  # fmt: skip


def tensors(arguments: dict) -> dict:
    return {name: z2g.tensor(a) if isinstance(a, np.ndarray) else a for name, a in arguments.items()}


@pytest.mark.parametrize("masks, added", MASKS.values(), ids=MASKS)
def test_masks_of_an_encoder(device, masks, added):
    layer, x = shaken(nn.TransformerEncoderLayer(E, HEADS, 5, 0.0, batch_first=True)), normal(N, S, E)
    close(call(layer, x, **tensors(masks)), encoder_layer(arrays_of(layer), x, False, added=added), 1e-9)


@pytest.mark.parametrize("masks, added", MASKS.values(), ids=MASKS)
def test_masks_of_a_decoder(device, masks, added):
    """Each kind for its own sequence, and for what it looks at."""
    layer = shaken(nn.TransformerDecoderLayer(E, HEADS, 5, 0.0, batch_first=True))
    x, memory, p = normal(N, S, E), normal(N, S, E, seed=1), arrays_of(layer)
    for prefix, which in (("tgt", "own"), ("memory", "other")):
        named = {name.replace("src", prefix).replace("is_", f"{prefix}_is_"): mask for name, mask in masks.items()}
        expected = decoder_layer(p, x, memory, False, **{which: added})
        close(call(layer, x, memory, **tensors(named)), expected, 1e-9)


# --- Stacks and the whole ------------------------------------------------------------------------------------------


def test_a_stack_starts_with_equal_layers_that_are_not_the_same():
    layer = nn.TransformerEncoderLayer(E, HEADS, 5)
    stacked = nn.TransformerEncoder(layer, 3)
    first, second, third = (dict(part.named_parameters()) for part in stacked.layers)
    for name, p in layer.named_parameters():
        assert all(np.array_equal(host(p), host(copy[name])) for copy in (first, second, third))
        assert len({id(p), id(first[name]), id(second[name]), id(third[name])}) == 4
    assert stacked.norm is None and not [name for name in stacked.state_dict() if name.startswith("norm")]


@pytest.mark.parametrize("batch_first", [True, False], ids=["batch first", "batch second"])
@pytest.mark.parametrize("first", [False, True], ids=["norm last", "norm first"])
def test_the_whole(device, first, batch_first):
    model = shaken(nn.Transformer(E, HEADS, 2, 3, 5, 0.0, batch_first=batch_first, norm_first=first))
    source, target, p = normal(N, S, E), normal(N, T, E, seed=1), arrays_of(model)
    masks = {"src_key_padding_mask": PADDED, "memory_key_padding_mask": PADDED}
    later = model.generate_square_subsequent_mask(T, dtype=z2g.float64)
    memory = stack(p, "encoder", source, first, added=minus_inf(PADDED)[:, None, None])
    own, other = minus_inf(np.arange(T) > np.arange(T)[:, None]), minus_inf(PADDED)[:, None, None]
    expected = stack(p, "decoder", target, memory, first, own=own, other=other)
    for causal in ({"tgt_mask": later}, {"tgt_is_causal": True}, {"tgt_mask": later, "tgt_is_causal": True}):
        out = call(model, *order(batch_first, source, target), **tensors(masks), **causal)
        close(z2g.tensor(order(batch_first, host(out))[0]), expected, 1e-9)


def test_a_part_of_ones_own():
    """custom_encoder and custom_decoder take the place of the usual ones."""

    class Nothing(nn.Module):
        def forward(self, src: Any, **masks: Any) -> Any:
            assert list(masks) == ["mask", "src_key_padding_mask", "is_causal"]
            return src

    model = nn.Transformer(E, HEADS, num_decoder_layers=1, dim_feedforward=5, dropout=0.0, custom_encoder=Nothing())
    source, target = normal(S, N, E), normal(T, N, E)
    p = arrays_of(shaken(model))
    expected = stack(p, "decoder", target.swapaxes(0, 1), source.swapaxes(0, 1), False)
    close(call(model, source, target), expected.swapaxes(0, 1), 1e-9)
    assert all(name.startswith("decoder") for name in p)


def test_names_of_parameters():
    layer = [
        "self_attn.in_proj_weight", "self_attn.in_proj_bias", "self_attn.out_proj.weight", "self_attn.out_proj.bias",
        "linear1.weight", "linear1.bias", "linear2.weight", "linear2.bias", "norm1.weight", "norm1.bias",
        "norm2.weight", "norm2.bias",
    ]  # fmt: skip
    other = [name.replace("self_attn", "multihead_attn") for name in layer[:4]]
    decoder = [*layer[:4], *other, *layer[4:], "norm3.weight", "norm3.bias"]
    expected = [f"encoder.layers.{i}.{name}" for i, name in itertools.product(range(2), layer)]
    expected += ["encoder.norm.weight", "encoder.norm.bias", *[f"decoder.layers.0.{name}" for name in decoder]]
    expected += ["decoder.norm.weight", "decoder.norm.bias"]
    assert list(nn.Transformer(E, HEADS, 2, 1, 5).state_dict()) == expected


def test_starting_values():
    """Matrices by Glorot's rule, drawn last and in order; biases of linear layers on ±1/√in, those of attention 0."""
    model = nn.Transformer(32, 4, 1, 1, 64)
    for name, p in model.named_parameters():
        values = host(p)
        if p.ndim > 1:
            bound = math.sqrt(6 / sum(p.shape))
            assert 0.98 * bound < np.abs(values).max() <= bound
        elif "norm" in name:
            assert (values == float("weight" in name)).all()
        elif "linear" in name:
            bound = 1 / math.sqrt(32 if "linear1" in name else 64)
            assert 0.8 * bound < np.abs(values).max() <= bound
        else:
            assert (values == 0).all()
    z2g.manual_seed(1)
    layer = nn.TransformerEncoderLayer(8, 2, 16)
    z2g.manual_seed(1)
    drawn = [nn.Linear(8, 8), nn.init.xavier_uniform_(z2g.zeros(24, 8)), nn.Linear(8, 16), nn.Linear(16, 8)]
    assert z2g.equal(layer.self_attn.in_proj_weight, drawn[1]) and z2g.equal(layer.linear2.bias, drawn[3].bias)


def test_no_position_sees_a_later_one(device):
    """To the last bit; and none sees what is padding."""
    model = nn.Transformer(E, HEADS, 1, 2, 8, 0.0, batch_first=True)
    source, target = z2g.randn(N, S, E), z2g.randn(N, 5, E)
    later, padded = model.generate_square_subsequent_mask(5), z2g.tensor(PADDED)
    masks = {"tgt_mask": later, "src_key_padding_mask": padded, "memory_key_padding_mask": padded}
    before = host(model(source, target, **masks))
    for t in range(5):
        changed = target.clone()
        changed[:, t] = 9.0
        after = host(model(source, changed, **masks))
        assert np.array_equal(after[:, :t], before[:, :t]) and not np.array_equal(after[:, t], before[:, t])
    changed = source.masked_fill(padded.unsqueeze(-1), 7.0)
    assert np.array_equal(host(model(changed, target, **masks)), before)


def test_dropout_acts_in_training_only(device):
    model, (x, y) = nn.Transformer(E, HEADS, 1, 1, 8, 0.5), (z2g.randn(S, N, E), z2g.randn(T, N, E))
    assert not np.array_equal(host(model(x, y)), host(model(x, y)))
    model.eval()
    assert np.array_equal(host(model(x, y)), host(model(x, y)))


@pytest.mark.parametrize("first", [False, True], ids=["norm last", "norm first"])
def test_gradients(first):
    model = shaken(nn.Transformer(4, 2, 1, 1, 3, 0.0, activation="gelu", batch_first=True, norm_first=first))
    inputs = [z2g.tensor(normal(1, n, 4, seed=n), requires_grad=True) for n in (3, 2)]
    padded = z2g.tensor([[False, False, True]])

    def run(source: Any, target: Any, *_: Any) -> Any:
        return model(source, target, memory_key_padding_mask=padded, tgt_is_causal=True)

    check_along(run, [*inputs, *model.parameters()])


def test_float32_stays_so_on_its_device(device):
    model = nn.Transformer(E, HEADS, 1, 1, 8)
    x, y = z2g.randn(S, N, E, requires_grad=True), z2g.randn(T, N, E, requires_grad=True)
    z = model(x, y, src_key_padding_mask=z2g.tensor(PADDED), tgt_is_causal=True)
    z.sum().backward()
    for t in [z, x.grad, y.grad, *(p.grad for p in model.parameters())]:
        assert t.dtype == z2g.float32 and t.device.type == device


@pytest.mark.parametrize("as_bool", [True, False], ids=["bool", "float"])
def test_a_causal_mask_beside_is_causal_is_recognised(as_bool):
    """On the CPU: then no scores need be masked one by one. Another mask beside it holds as well."""
    later = np.arange(5) > np.arange(3)[:, None]
    other = later.copy()
    other[2, 0] = True
    for forbidden, expected in ((later, True), (other, False), (np.stack([later] * 2), False), (~later, False)):
        mask = z2g.tensor(forbidden if as_bool else minus_inf(forbidden))
        assert attention._says_causal(mask) == expected
    layer, x = nn.MultiheadAttention(4, 2, batch_first=True), z2g.randn(1, 3, 4)
    given = other[:, :3]
    both = z2g.tensor(given if as_bool else minus_inf(given).astype(np.float32))
    weights = layer(x, x, x, attn_mask=both, is_causal=True)[1]
    assert (host(weights)[0] == 0).tolist() == given.tolist()


@pytest.mark.parametrize("batch_first", [True, False])
def test_the_result_of_attention_can_be_viewed(batch_first):
    """It lies in memory row by row, as in torch."""
    layer, x = nn.MultiheadAttention(4, 2, batch_first=batch_first), z2g.randn(2, 3, 4)
    assert layer(x, x, x)[0].view(-1).shape == (24,)


# --- Keys and values of other widths -------------------------------------------------------------------------------


@pytest.mark.parametrize("need_weights", [True, False], ids=["weights", "no weights"])
@pytest.mark.parametrize("kdim, vdim", [(5, 7), (5, None), (None, 7)])
def test_attention_to_other_widths(device, kdim, vdim, need_weights):
    layer = shaken(nn.MultiheadAttention(E, HEADS, kdim=kdim, vdim=vdim, batch_first=True))
    q, k, v = normal(N, T, E), normal(N, S, kdim or E, seed=1), normal(N, S, vdim or E, seed=2)
    p, d = arrays_of(layer), E // HEADS
    weights = [p[f"{name}_proj_weight"] for name in "qkv"]
    q2, k2, v2 = (
        x @ w.T + b for x, w, b in zip((q, k, v), weights, np.split(p["in_proj_bias"], 3), strict=True)
    )
    expected, found = np.zeros((N, T, E)), np.zeros((N, HEADS, T, S))
    for n, h, i in np.ndindex(N, HEADS, T):
        part = slice(h * d, (h + 1) * d)
        found[n, h, i] = softmax_row(k2[n, :, part] @ q2[n, i, part] / math.sqrt(d))
        expected[n, i, part] = found[n, h, i] @ v2[n, :, part]
    out, got = call(layer, q, k, v, need_weights=need_weights)
    close(out, expected @ p["out_proj.weight"].T + p["out_proj.bias"])
    if need_weights:
        close(got, found.mean(1))


def test_names_of_attention_to_other_widths():
    layer = nn.MultiheadAttention(4, 2, kdim=3, bias=False)
    found = {name: tuple(p.shape) for name, p in layer.named_parameters()}
    assert found == {
        "q_proj_weight": (4, 4), "k_proj_weight": (4, 3), "v_proj_weight": (4, 4), "out_proj.weight": (4, 4),
    }  # fmt: skip
    assert list(found) == list(layer.state_dict()) and layer.in_proj_weight is None
    assert nn.MultiheadAttention(4, 2).q_proj_weight is None


@pytest.mark.parametrize("kdim", [None, 5], ids=["one width", "two widths"])
def test_gradients_of_attention_to_another_sequence(kdim):
    """Keys that are the values too: one product for both where it is one weight."""
    layer = shaken(nn.MultiheadAttention(4, 2, kdim=kdim, vdim=kdim))
    q, k = (z2g.tensor(normal(n, 1, w, seed=n), requires_grad=True) for n, w in ((2, 4), (3, kdim or 4)))
    assert z2g.gradcheck(lambda q, k, *_: layer(q, k, k), [q, k, *layer.parameters()])
    z, w = layer(q, k, k, is_causal=True)  # what need_weights=False gives, without a mask that is written out
    assert w is not None and z2g.allclose(z, layer(q, k, k, need_weights=False, is_causal=True)[0])


def x(*shape: int) -> z2g.Tensor:
    return z2g.ones(*shape)


REFUSED: dict[str, tuple] = {
    "activation": (lambda: nn.TransformerEncoderLayer(4, 2, activation="swish"), RuntimeError, "'relu', 'gelu'"),
    "heads": (lambda: nn.TransformerDecoderLayer(5, 2), ValueError, "divisible"),
    "examples": (lambda: nn.Transformer(4, 2, 1, 1, 4)(x(3, 2, 4), x(3, 1, 4)), RuntimeError, "number of examples"),
    "a batch and none": (lambda: nn.Transformer(4, 2, 1, 1, 4)(x(3, 2, 4), x(3, 4)), RuntimeError, "number of exam"),
    "width": (lambda: nn.Transformer(4, 2, 1, 1, 4)(x(3, 2, 4), x(3, 2, 5)), RuntimeError, "end in d_model, 4"),
    "mask": (
        lambda: nn.TransformerEncoderLayer(4, 2, 4)(x(3, 2, 4), x(2, 3)), RuntimeError, r"attn_mask.*\(2, 3\).*\(3, 3\)"
    ),
    "width of keys": (
        lambda: nn.MultiheadAttention(4, 2, kdim=3)(x(2, 1, 4), x(2, 1, 4), x(2, 1, 4)), RuntimeError, r"\(S, N, 3\)"
    ),
    "add_zero_attn": (lambda: nn.MultiheadAttention(4, 2, add_zero_attn=True), NotImplementedError, "add_zero_attn"),
}  # fmt: skip


@pytest.mark.parametrize("call, error, words", REFUSED.values(), ids=REFUSED)
def test_what_is_refused(call, error, words):
    with pytest.raises(error, match=words):
        call()
