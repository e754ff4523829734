"""Attention and the GPT: the classic mistakes, generation with a cache, sampling, a training step on a GPU."""

import dataclasses
import itertools
import math

import fakecupy
import numpy as np
import pytest
from numeric import host

import tinygrad_z2g as z2g
from tinygrad_z2g import nn, optim
from tinygrad_z2g.models import GPT, GPTConfig
from tinygrad_z2g.models.generation import sample
from tinygrad_z2g.nn import functional as F

V, CONTEXT = 11, 6
NAN = math.nan
SMALL = GPTConfig(vocab_size=V, context=CONTEXT, layers=2, heads=2, width=8)


def small_gpt(**changes):
    """A GPT with weights large enough that its predictions differ clearly from token to token."""
    model = GPT(dataclasses.replace(SMALL, **changes))
    with z2g.no_grad():
        for p in model.parameters():
            if p.ndim == 2:
                p.mul_(15)
    return model.eval()


def random_ids(batch, length, seed=0):
    return np.random.default_rng(seed).integers(0, V, (batch, length))


# --- Masks, scale, parameters ------------------------------------------------------------------------------------

SDPA = {
    "is_causal": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
    "bool mask": lambda q, k, v: F.scaled_dot_product_attention(
        q, k, v, z2g.ones(q.shape[-2], k.shape[-2], device=q.device).tril().bool()
    ),
}


@pytest.mark.parametrize("attend", SDPA.values(), ids=SDPA)
def test_trap_36_the_mask_goes_by_position_not_by_value(device, attend):
    """Where every score is 0, `scores.masked_fill(scores == 0, -inf)` masks all of the past or none of the future.

    Here query i must give the mean of the values 0..i.
    """
    q, v = z2g.zeros(1, 4, 2), z2g.tensor([[[1.0], [2.0], [6.0], [100.0]]])
    np.testing.assert_allclose(host(attend(q, q, v)), [[[1.0], [1.5], [3.0], [27.25]]], rtol=1e-6)
    # and a single true zero: query 1 scores 0 with key 0 and ln 3 with key 1, so the weights are 1/4 and 3/4
    q = z2g.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    k = z2g.tensor([[[0.0, 5.0], [math.log(3) * math.sqrt(2), 0.0]]])
    v = z2g.tensor([[[1.0], [2.0]]])
    np.testing.assert_allclose(host(attend(q, k, v)), [[[1.0], [1.75]]], rtol=1e-6)


def test_trap_36_layers_too(device):
    """With all projections to queries 0 each position takes the plain mean of what it may see."""
    layer, x = nn.CausalSelfAttention(4, 2), z2g.randn(2, 5, 4)
    with z2g.no_grad():
        layer.qkv.weight[:8] = 0
        nn.init.zeros_(layer.qkv.bias)
        values = host(x) @ host(layer.qkv.weight)[8:].T
        means = values.cumsum(axis=1) / np.arange(1, 6)[:, None]
    expected = means @ host(layer.proj.weight).T + host(layer.proj.bias)
    np.testing.assert_allclose(host(layer(x)), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(9, 2, 4), (4, 2, 9), (3, 5, 2, 4), (2, 4)], ids=str)
def test_trap_37_scores_are_divided_by_the_root_of_the_head_size(device, shape):
    """Not of the batch, the length or the width: every other axis here has another size."""
    q, k, v = (np.random.default_rng(i).standard_normal(shape) for i in range(3))
    scores = (q @ k.swapaxes(-1, -2)) / math.sqrt(shape[-1])
    p = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
    got = F.scaled_dot_product_attention(*(z2g.tensor(x) for x in (q, k, v)))
    np.testing.assert_allclose(host(got), p @ v, rtol=1e-10)
    halved = F.scaled_dot_product_attention(*(z2g.tensor(x) for x in (q, k, v)), scale=0.5 / math.sqrt(shape[-1]))
    p = np.exp(scores / 2) / np.exp(scores / 2).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(host(halved), p @ v, rtol=1e-10)


def tensors_reachable_from(thing, seen):
    """Every tensor in a module's attributes, whether or not the module counts it as its own."""
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, z2g.Tensor):
        yield thing
    elif isinstance(thing, (list, tuple, dict)):
        for item in thing.values() if isinstance(thing, dict) else thing:
            yield from tensors_reachable_from(item, seen)
    elif isinstance(thing, nn.Module):
        yield from tensors_reachable_from(vars(thing), seen)


@pytest.mark.parametrize("tied", [True, False])
def test_trap_38_every_table_is_a_parameter_and_learns(device, tied):
    model = small_gpt(tied=tied, context=5)
    parameters = dict(model.named_parameters())
    assert {"token_embedding.weight", "position_embedding.weight"} <= set(parameters)
    found = {id(t) for t in tensors_reachable_from(model, set())}
    assert found == {id(p) for p in parameters.values()}
    ids = z2g.tensor(np.arange(V + 4).reshape(3, 5) % V)  # every token, every position
    before = {name: host(p) for name, p in parameters.items()}
    optimizer = optim.SGD(parameters.values(), lr=0.1)
    model(ids, ids.roll(1, 1))[1].backward()
    for p in (model.token_embedding.weight, model.position_embedding.weight):
        assert (np.abs(host(p.grad)).sum(axis=1) > 0).all()  # each row
    optimizer.step()
    assert [name for name, p in parameters.items() if np.array_equal(host(p), before[name])] == []


# --- No look into the future -------------------------------------------------------------------------------------


def causal_convolution():
    layer = nn.Conv1d(4, 4, 3, dilation=2)
    return lambda x: layer(F.pad(x.transpose(1, 2), (4, 0))).transpose(1, 2)


def multihead(need_weights):
    layer = nn.MultiheadAttention(4, 2, batch_first=True)
    return lambda x: layer(x, x, x, is_causal=True, need_weights=need_weights)[0]


def lstm():
    layer = nn.LSTM(4, 3, num_layers=2, batch_first=True)
    return lambda x: layer(x)[0]


CAUSAL = {  # (B, T, 4) -> (B, T, ...)
    "SDPA": lambda: lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True),
    "MultiheadAttention": lambda: multihead(False),
    "MultiheadAttention with weights": lambda: multihead(True),
    "CausalSelfAttention": lambda: nn.CausalSelfAttention(4, 2),
    "TransformerBlock": lambda: nn.TransformerBlock(4, 2),
    "causal convolution": causal_convolution,
    "LSTM": lstm,
}


@pytest.mark.parametrize("make", CAUSAL.values(), ids=CAUSAL)
def test_trap_39_outputs_before_a_change_are_bit_identical(device, make):
    f, x = make(), z2g.randn(2, 7, 4)
    before = host(f(x))
    for t in range(7):
        changed = x.clone()
        changed[:, t] = z2g.randn(2, 4) * 100
        after = host(f(changed))
        assert np.array_equal(after[:, :t], before[:, :t])
        assert not np.array_equal(after[:, t], before[:, t])


def test_trap_39_the_whole_gpt(device):
    model, ids = small_gpt(), random_ids(3, CONTEXT)
    before = host(model(z2g.tensor(ids))[0])
    for t in range(CONTEXT):
        changed = ids.copy()
        changed[:, t] = (changed[:, t] + 1) % V
        after = host(model(z2g.tensor(changed))[0])
        assert np.array_equal(after[:, :t], before[:, :t])
        assert (after[:, t:] != before[:, t:]).any(axis=2).all()  # and every later position sees the change


def test_trap_39_no_gradient_flows_back_from_the_future(device):
    f, x = nn.TransformerBlock(4, 2), z2g.randn(1, 6, 4, requires_grad=True)
    for t in range(6):
        x.grad = None
        f(x)[0, t].sum().backward()
        assert (host(x.grad)[0, t + 1 :] == 0).all()


# --- Generation --------------------------------------------------------------------------------------------------


def recomputed(model, ids):
    """The scores after the last token, from the last `context` tokens, without any cache."""
    return host(model(z2g.tensor(ids[:, -model.config.context :]))[0])[:, -1]


@pytest.mark.parametrize("length", [1, CONTEXT - 1, CONTEXT, CONTEXT + 4], ids=lambda n: f"prompt{n}")
def test_trap_40_prompts_shorter_and_longer_than_the_context(device, length):
    model, prompt = small_gpt(), random_ids(2, length)
    got = host(model.generate(z2g.tensor(prompt), 5, temperature=0))
    expected = prompt
    for _ in range(5):
        best = recomputed(model, expected).argmax(axis=1)
        expected = np.concatenate([expected, best[:, None]], axis=1)
    assert np.array_equal(got, expected)
    assert got.dtype == np.int64


@pytest.mark.parametrize("length", [1, 3, CONTEXT + 2], ids=lambda n: f"prompt{n}")
def test_trap_41_generation_with_a_cache_equals_recomputation(device, length):
    model, steps = small_gpt(), []
    hook = model.register_forward_hook(lambda m, args, out: steps.append((args[0].shape[1], host(out[0][:, -1]))))
    ids = host(model.generate(z2g.tensor(random_ids(2, length)), 9))
    hook.remove()
    assert len(steps) == 9
    for i, (_, scores) in enumerate(steps):
        np.testing.assert_allclose(scores, recomputed(model, ids[:, : length + i]), atol=1e-5)
    # the cache is at work: after the prompt one token at a time, until the window begins to slide
    fed = [1 if 0 < i <= CONTEXT - length else min(length + i, CONTEXT) for i in range(9)]
    assert [n for n, _ in steps] == fed


@pytest.mark.parametrize("cuts", [[3, 4], [3], [1, 2, 3, 4], [2, 4]])
def test_the_cache_of_a_block_by_hand(device, cuts):
    """In parts of any length."""
    block, x, cache = nn.TransformerBlock(4, 2), z2g.randn(2, 5, 4), nn.Cache()
    whole = host(block(x))
    with z2g.no_grad():
        parts = [block(x[:, i:j], cache) for i, j in itertools.pairwise([0, *cuts, 5])]
    np.testing.assert_allclose(host(z2g.cat(parts, 1)), whole, atol=1e-6)
    assert len(cache) == 5


def test_a_cache_that_is_full_grows(device):
    block, x, cache = nn.TransformerBlock(4, 2), z2g.randn(1, 150, 4), nn.Cache()
    with z2g.no_grad():
        parts = [block(x[:, :60], cache), *(block(x[:, i : i + 1], cache) for i in range(60, 150))]
    np.testing.assert_allclose(host(z2g.cat(parts, 1)), host(block(x)), atol=1e-5)


def test_rotary_positions_count_as_distances(device):
    """All angles further on by 7 places change nothing; without any the order of what was before does not matter."""
    layer, x = nn.CausalSelfAttention(8, 2), z2g.randn(2, 5, 8)
    angles = [F.rotary_angles(z2g.arange(start, start + 5), 4, 50.0) for start in (0, 7)]
    first, later = (host(layer(x, angles=some)) for some in angles)
    np.testing.assert_allclose(first, later, atol=1e-6)
    swapped = x[:, [1, 0, 2, 3, 4]]
    np.testing.assert_allclose(host(layer(x))[:, 2:], host(layer(swapped))[:, 2:], atol=1e-6)
    assert np.abs(first - host(layer(swapped, angles=angles[0])))[:, 2:].max() > 1e-4


@pytest.mark.parametrize("length", [1, 4])
def test_a_rotary_gpt_has_no_table_of_positions_and_writes_with_a_cache(device, length):
    model, ids = small_gpt(rotary=True, rope_base=100.0), random_ids(1, CONTEXT)
    assert not any("position" in name for name, _ in model.named_parameters())
    scores, cache = host(model(z2g.tensor(ids))[0]), nn.Cache()
    with z2g.no_grad():
        parts = [model(z2g.tensor(ids[:, :length]), cache=cache)[0]]
        parts += [model(z2g.tensor(ids[:, i : i + 1]), cache=cache)[0] for i in range(length, CONTEXT)]
    np.testing.assert_allclose(host(z2g.cat(parts, 1)), scores, atol=1e-5)
    assert np.abs(scores[:, -1] - host(model(z2g.tensor(ids[:, [1, 0, *range(2, CONTEXT)]]))[0])[:, -1]).max() > 1e-3


def test_rotary_settings_that_fit_no_head():
    for changes, word in (({"heads": 8}, "even"), ({"rope_base": 0.0}, "rope_base"), ({"rope_base": NAN}, "rope_base")):
        with pytest.raises(ValueError, match=word):
            small_gpt(rotary=True, **changes)


def test_no_gradient_passes_through_a_cache():
    block, cache = nn.TransformerBlock(4, 2), nn.Cache()
    with pytest.raises(RuntimeError, match="no_grad"):
        block(z2g.randn(1, 2, 4), cache)


def test_too_many_tokens_are_refused(device):
    model, cache = small_gpt(), nn.Cache()
    with pytest.raises(ValueError, match="context of 6"):
        model(z2g.tensor(random_ids(1, CONTEXT + 1)))
    with z2g.no_grad():
        model(z2g.tensor(random_ids(1, CONTEXT)), cache=cache)
    with pytest.raises(ValueError, match="context of 6"):
        model(z2g.tensor(random_ids(1, 1)), cache=cache)


def test_a_gpt_refuses_prompts_of_different_lengths():
    with pytest.raises(ValueError, match="one by one"):
        small_gpt().generate([[1], [1, 2]], 3)


def test_a_list_of_prompts_and_a_token_that_stops(device):
    """Equal prompts in a list give what the tensor gives; a row ends with the token that stops it."""
    model, prompt = small_gpt(), random_ids(2, 2)
    whole = host(model.generate(z2g.tensor(prompt), 4, temperature=0))
    rows = model.generate(prompt.tolist(), 4, temperature=0)
    assert [row.tolist() for row in rows] == whole.tolist()
    stop = int(whole[0, 2])
    rows = model.generate(prompt.tolist(), 4, temperature=0, stop=[stop])
    assert rows[0].tolist() == whole[0, :3].tolist()
    together = host(model.generate(z2g.tensor(prompt), 4, temperature=0, stop=[stop]))
    assert (together[0, 2:] == stop).all()


def test_generate_leaves_everything_as_it_was(device):
    model, prompt = small_gpt(dropout=0.5), z2g.tensor(random_ids(2, 3))
    assert not model.generate(prompt, 2).requires_grad
    assert not model.training  # eval before, eval after
    model.train()
    before = {name: host(t) for name, t in model.state_dict().items()}
    first = model.generate(prompt, 4, temperature=0)
    assert first.tolist() == model.generate(prompt, 4, temperature=0).tolist()  # no dropout inside
    assert model.training
    assert all(np.array_equal(host(t), before[name]) for name, t in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert prompt.shape == (2, 3)
    assert model.generate(prompt, 0).tolist() == prompt.tolist()
    assert model.generate(prompt, 1).device == prompt.device
    with pytest.raises(ValueError, match="top_k"):
        model.generate(prompt, 1, top_k=0)
    assert model.training  # after an error too


def test_generation_repeats_with_a_seed_and_on_every_device(device):
    z2g.manual_seed(3)
    model, prompt = small_gpt(), z2g.tensor(random_ids(2, 2))
    z2g.manual_seed(5)
    texts = [model.generate(prompt, 12).tolist() for _ in range(2)]
    z2g.manual_seed(5)
    assert model.generate(prompt, 12).tolist() == texts[0]
    assert texts[0] != texts[1]
    own = z2g.Generator(7)
    got = model.generate(prompt, 12, generator=own).tolist()
    assert model.generate(prompt, 12, generator=z2g.Generator(7)).tolist() == got

    z2g.manual_seed(3)
    on_cpu = small_gpt().cpu()
    z2g.manual_seed(5)
    assert on_cpu.generate(prompt.cpu(), 12).tolist() == texts[0]


@pytest.mark.parametrize("prompt", [[], [[]], [1, 2], 3], ids=str)
def test_bad_prompts_are_refused(prompt):
    with pytest.raises(ValueError, match="prompt"):
        small_gpt().generate(z2g.tensor(prompt, dtype="int64"), 1)


@pytest.mark.parametrize("place", ["cpu", "cuda"])
def test_trap_43_generate_refuses_tokens_outside_the_vocabulary(place):
    """The prompt is on the host anyway, so it is checked there: on the GPU nobody would notice."""
    with fakecupy.installed():
        model = small_gpt().to(place)
        for wrong in (V, -1):
            with pytest.raises(IndexError, match=f"0 to {V - 1}"):
                model.generate(z2g.tensor([[1, wrong]], device=place), 1)


def test_a_sequence_without_a_batch_is_refused_with_words():
    with pytest.raises((ValueError, RuntimeError), match=r"\(B, T\)"):
        small_gpt()(z2g.tensor([1, 2, 3]))


# --- Sampling ----------------------------------------------------------------------------------------------------

SCORES = [1.0, 3.0, -2.0, 2.0, 2.5]


def shares(n, **settings):
    """How often each token is drawn from SCORES."""
    drawn = sample(z2g.tensor([SCORES]).expand(n, 5), **settings)
    assert drawn.shape == (n,)
    return np.bincount(host(drawn), minlength=5) / n


def softmax(scores):
    return np.exp(scores) / np.exp(scores).sum()


def allowed(tokens, temperature=1.0):
    """The distribution restricted to some tokens."""
    p = softmax(np.array(SCORES) / temperature) * np.isin(np.arange(5), tokens)
    return p / p.sum()


ORDER = [1, 4, 3, 0, 2]  # likeliest first; cumulative 0.47, 0.75, 0.92, 0.99, 1
SAMPLING = {
    "plain": ({}, allowed(ORDER)),
    "cold": ({"temperature": 0.5}, allowed(ORDER, 0.5)),
    "hot": ({"temperature": 3.0}, allowed(ORDER, 3.0)),
    "very hot": ({"temperature": 1e9}, np.full(5, 0.2)),
    "very cold": ({"temperature": 1e-6}, allowed([1])),
    "too cold for float64": ({"temperature": 5e-324}, allowed([1])),  # 3 / 5e-324 is infinite
    "too cold for float64, top_p": ({"temperature": 5e-324, "top_p": 0.9}, allowed([1])),
    "infinitely hot, top_p": ({"temperature": math.inf, "top_p": 0.6}, np.isin(range(5), ORDER[:3]) / 3),
    "top_k 1": ({"top_k": 1}, allowed([1])),
    "top_k 3": ({"top_k": 3}, allowed(ORDER[:3])),
    "top_k 5": ({"top_k": 5}, allowed(ORDER)),
    "top_k 500": ({"top_k": 500}, allowed(ORDER)),  # more than there are
    "top_p 0": ({"top_p": 0.0}, allowed([1])),
    "top_p 0.4": ({"top_p": 0.4}, allowed([1])),
    "top_p 0.5": ({"top_p": 0.5}, allowed(ORDER[:2])),
    "top_p 0.9": ({"top_p": 0.9}, allowed(ORDER[:3])),
    "top_p 1": ({"top_p": 1.0}, allowed(ORDER)),
    "top_k 2 and hot": ({"top_k": 2, "temperature": 2.0}, allowed(ORDER[:2], 2.0)),
}


@pytest.mark.parametrize("settings, expected", SAMPLING.values(), ids=SAMPLING)
def test_trap_42_sampling_frequencies(device, settings, expected):
    n = 5_000
    got = shares(n, **settings)
    assert (np.abs(got - expected) <= 5 * np.sqrt(expected * (1 - expected) / n)).all()  # exactly 0 where expected is


def test_trap_42_temperature_zero_is_greedy(device):
    scores = z2g.tensor([[0.0, 2.0, 1.0], [5.0, -1.0, 5.0]])
    assert sample(scores, temperature=0).tolist() == [1, 0]  # the first of equals
    assert sample(scores, temperature=0, top_k=1, top_p=0.0).tolist() == [1, 0]
    assert sample(scores, temperature=0.0).dtype == z2g.int64


def test_sampling_rows_are_independent_and_minus_infinity_is_never_drawn(device):
    scores = z2g.tensor([[0.0, -math.inf, 0.0], [-math.inf, 0.0, -math.inf]]).repeat(500, 1)
    drawn = host(sample(scores)).reshape(500, 2)
    assert set(drawn[:, 0]) == {0, 2}
    assert set(drawn[:, 1]) == {1}


@pytest.mark.parametrize("settings", [{}, {"top_p": 0.5}, {"temperature": 1e-320}, {"top_k": 1}])
@pytest.mark.parametrize("row", [[0, math.nan, 1], [0, math.inf, 1], [-math.inf] * 3])
def test_scores_that_are_no_numbers_are_refused_by_name(device, settings, row):
    with pytest.raises(ValueError, match=r"largest score of a row is -?(nan|inf), expected a number; has training"):
        sample(z2g.tensor([[1.0, 2.0, 3.0], row]), **settings)


@pytest.mark.parametrize("settings", [{}, {"top_p": 0.5}, {"temperature": 0}])
def test_no_rows_give_no_tokens(device, settings):
    assert sample(z2g.zeros(0, 3), **settings).shape == (0,)
    assert z2g.multinomial(z2g.ones(0, 3), 2).shape == (0, 2)
    model = GPT(GPTConfig(5, 4, 1, 1, 4))
    assert model.generate(z2g.zeros(0, 2, dtype=z2g.int64), 3, temperature=0).shape == (0, 5)


BAD_SAMPLING = [{"temperature": -1.0}, {"temperature": math.nan}, {"top_k": 0}, {"top_k": -1}, {"top_p": 1.5},
                {"top_p": -0.1}]  # fmt: skip


@pytest.mark.parametrize("settings", BAD_SAMPLING, ids=str)
def test_sampling_settings_out_of_range(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        sample(z2g.tensor([SCORES]), **settings)


@pytest.mark.parametrize("prompt", [[[1.5]], ["ab"], [1, 2], z2g.tensor([[1.0, 2.0]]), [z2g.tensor([1.0])]])
def test_a_prompt_is_made_of_integers(prompt):
    """Half an id was cut off before."""
    model = GPT(GPTConfig(5, 4, 1, 1, 4))
    with pytest.raises(TypeError, match="generate: expected prompts, each a sequence of integers"):
        model.generate(prompt, 2)
    if not isinstance(prompt, z2g.Tensor):
        with pytest.raises(TypeError, match="generate: expected prompts, each a sequence of integers"):
            next(model.stream(prompt))
    assert len(model.generate([np.array([1, 2]), z2g.tensor([1, 2], dtype=z2g.int32)], 2)[0]) == 4


# --- The model ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_number_of_parameters(bias, tied):
    C, T, blocks = 8, CONTEXT, 2
    block = 3 * C * C + C * C + 4 * C * C + 4 * C * C + 2 * C  # qkv, proj, two layers of the MLP, two norms
    block += (3 * C + C + 4 * C + C + 2 * C) * bias
    expected = V * C + T * C + blocks * block + C + C * bias + (0 if tied else V * C)
    model = GPT(dataclasses.replace(SMALL, bias=bias, tied=tied))
    assert sum(p.numel() for p in model.parameters()) == expected


def test_tied_weights_are_one_parameter(device):
    model = small_gpt()
    assert model.head.weight is model.token_embedding.weight
    assert "head.weight" not in dict(model.named_parameters())
    assert "head.weight" in model.state_dict()
    model(z2g.tensor(random_ids(1, 4)), z2g.tensor(random_ids(1, 4, seed=1)))[1].backward()
    untied = small_gpt(tied=False)
    untied.load_state_dict(model.state_dict())
    untied(z2g.tensor(random_ids(1, 4)), z2g.tensor(random_ids(1, 4, seed=1)))[1].backward()
    both = host(untied.head.weight.grad) + host(untied.token_embedding.weight.grad)
    np.testing.assert_allclose(host(model.head.weight.grad), both, rtol=1e-4, atol=1e-6)


def test_starting_values_follow_gpt2():
    model = GPT(GPTConfig(vocab_size=50, context=40, layers=8, heads=2, width=64))
    for name, p in model.named_parameters():
        values = host(p)
        if p.ndim == 1:
            assert set(values) == {1.0 if "norm" in name and "weight" in name else 0.0}
            continue
        # the last layer before each residual sum is smaller: 16 sums keep the size of one
        std = 0.02 / 4 if name.endswith(("attention.proj.weight", "mlp.2.weight")) else 0.02
        assert values.std() == pytest.approx(std, rel=0.08)
        assert abs(values.mean()) < 5 * std / math.sqrt(values.size)
    ids = np.random.default_rng(0).integers(0, 50, (8, 40))
    with z2g.no_grad():
        loss = model(z2g.tensor(ids), z2g.tensor(ids[::-1].copy()))[1].item()
    assert loss == pytest.approx(math.log(50), abs=0.05)  # knows nothing yet: uniform


def test_the_loss_is_the_mean_cross_entropy_of_the_scores(device):
    model, ids, targets = small_gpt(), random_ids(2, 4), random_ids(2, 4, seed=1)
    scores, loss = model(z2g.tensor(ids), z2g.tensor(targets))
    p = np.exp(host(scores)) / np.exp(host(scores)).sum(axis=-1, keepdims=True)
    expected = -np.log(np.take_along_axis(p, targets[..., None], -1)).mean()
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert model(z2g.tensor(ids))[1] is None


@pytest.mark.parametrize(
    "changes",
    [{"width": 9}, {"layers": 0}, {"vocab_size": 0}, {"context": 0}, {"heads": 0}, {"dropout": 1.0}, {"dropout": -0.1}],
    ids=str,
)
def test_impossible_sizes(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        dataclasses.replace(SMALL, **changes)


def test_gradients_of_a_whole_gpt(device):
    model = GPT(GPTConfig(vocab_size=3, context=2, layers=1, heads=2, width=4)).double()
    for p in model.parameters():
        nn.init.normal_(p, std=0.5)
    ids, targets = z2g.tensor([[0, 2], [1, 1]]), z2g.tensor([[2, 0], [1, 2]])
    chosen = [model.token_embedding.weight, model.position_embedding.weight, model.blocks[0].attention.proj.weight,
              model.norm.weight]  # fmt: skip
    assert z2g.gradcheck(lambda *_: model(ids, targets)[1], chosen)


# --- Training on a GPU -------------------------------------------------------------------------------------------


def losses_of_training(device, steps=8, dropout=0.1):
    """The losses of a few steps of the full recipe; and how often the host waited for the GPU in them."""
    z2g.manual_seed(6)
    model = GPT(dataclasses.replace(SMALL, dropout=dropout)).to(device)
    optimizer = optim.AdamW(model.parameters(), lr=0.01)
    schedule = optim.lr_scheduler.WarmupCosineLR(optimizer, 2, steps)
    x, y = (z2g.tensor(random_ids(4, CONTEXT, seed), device=device) for seed in (1, 2))
    fakecupy.synchronisations.reset()
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model(x, y)[1]
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss)
    waits = fakecupy.synchronisations.count
    return [loss.item() for loss in losses], waits


def test_trap_45_a_training_step_never_waits_for_the_gpu():
    with fakecupy.installed():
        losses, waits = losses_of_training("cuda")
        assert waits == 0
        assert fakecupy.synchronisations.count == len(losses)  # the counter works: reading a loss waits once


def other_steps():
    """Training steps of other kinds of model: (model, loss of a batch x (4, 5, 3))."""
    mlp = nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.LayerNorm(4), nn.Dropout(0.2), nn.Sine(), nn.Linear(4, 3))
    conv, lstm, attention = nn.Conv1d(3, 3, 3, padding="same"), nn.LSTM(3, 3, 2), nn.MultiheadAttention(3, 1)
    yield "mlp", mlp, lambda x: nn.MSELoss()(mlp(x), x)
    yield "conv", conv, lambda x: conv(x.transpose(1, 2)).relu().mean()
    yield "lstm", lstm, lambda x: F.l1_loss(lstm(x)[0], x)
    yield "attention", attention, lambda x: attention(x, x, x, is_causal=True)[0].square().mean()


def test_trap_45_other_models_do_not_wait_either():
    with fakecupy.installed():
        for name, model, loss in other_steps():
            x = z2g.randn(4, 5, 3, device="cuda")
            for optimizer in (optim.SGD(model.to("cuda").parameters(), momentum=0.9), optim.Adam(model.parameters())):
                fakecupy.synchronisations.reset()
                loss(x).backward()
                nn.utils.clip_grad_value_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
                assert fakecupy.synchronisations.count == 0, name


def test_the_same_seed_gives_the_same_losses_on_every_device():
    on_cpu, _ = losses_of_training("cpu")
    with fakecupy.installed():
        on_gpu, _ = losses_of_training("cuda")
    np.testing.assert_allclose(on_cpu, on_gpu, rtol=1e-5)  # dropout masks included
    assert losses_of_training("cpu")[0] == on_cpu
    assert losses_of_training("cpu", dropout=0.0)[0] != on_cpu


def test_a_gpt_learns_a_text_by_heart(device):
    """Small enough for every run: 40 steps on one batch of a repeating text."""
    z2g.manual_seed(1)
    model = GPT(dataclasses.replace(SMALL, width=16, layers=1))
    optimizer = optim.AdamW(model.parameters(), lr=0.03)
    text = np.arange(40) % 7
    windows = np.stack([text[i : i + CONTEXT + 1] for i in range(14)])
    x, y = z2g.tensor(windows[:, :-1].copy()), z2g.tensor(windows[:, 1:].copy())
    for _ in range(40):
        optimizer.zero_grad()
        loss = model(x, y)[1]
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
    assert model.generate(z2g.tensor([[3]]), 20, temperature=0).tolist() == [[(3 + i) % 7 for i in range(21)]]
