"""Models that others trained, as they came: SmolLM2-135M-Instruct and all-MiniLM-L6-v2. See `real_models.py`."""

import functools
import json
import math
from pathlib import Path

import numpy as np
import plain_models
import pytest
import real_models
from hypothesis import given, settings
from numeric import host
from test_bpe import CATS, TEXTS

import tinygrad_z2g as z2g
from tinygrad_z2g import nn
from tinygrad_z2g.models import Bert, Llama, files
from tinygrad_z2g.text import BPE
from tinygrad_z2g.text.fast import FastBPE

PLAIN = (
    "The river rises in the hills, where the snow lies until May. In spring it is loud and brown, and carries branches "
    "down to the mill. Later in the year the children build small dams of stones and leaves, and the water finds its "
    "way around them every night. An old man comes each morning to look at the bridge. He says that his grandfather "
    "laid the first stone, and that nobody has counted how many carts have crossed it since. When the evening is warm, "
    "people sit on the wall and talk about the harvest, the price of wheat, and the weather of the coming week."
)
RECORDED = 3.4904  # nats a token, as `plain_models.llama` has it in float64; wrong pairs 4.806, a wrong base 3.590
WRITTEN = json.loads((Path(__file__).parent / "data/smollm2_llamacpp.json").read_text())
PROMPTS = [
    "The capital of France is", "Once upon a time", "def add(a, b):\n", "2 + 2 =", "Ice melts because", "x",
    "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", "Der Hund schläft", "\n\n", PLAIN[:120],
]  # fmt: skip


@functools.cache
def loaded():
    """The model in four bits, and its tokenizer."""
    return Llama.load(real_models.smollm())


def expanded():
    """The weights in float64, expanded by the package gguf, and their sizes."""
    gguf = pytest.importorskip("gguf")
    fields, stored = files.read_gguf(real_models.smollm())
    found = {}
    for name, tensor in stored.items():
        kind = gguf.GGMLQuantizationType[tensor.kind]
        rows = tensor.data.reshape(tensor.shape[0], -1) if len(tensor.shape) == 2 else tensor.data
        found[name] = gguf.dequantize(rows, kind).reshape(tensor.shape).astype(np.float64)
    sizes = {"layers": 30, "heads": 9, "kv_heads": 3, "eps": 1e-5, "base": 100000.0, "interleaved": True}
    assert fields["llama.rope.freq_base"] == sizes["base"] and fields["llama.block_count"] == sizes["layers"]
    return found, sizes


def scores(model, ids):
    with z2g.no_grad():
        return host(model(z2g.tensor([ids]))[0])[0]


def loss(model, ids):
    with z2g.no_grad():
        ids = z2g.tensor([ids])
        return model(ids[:, :-1], ids[:, 1:])[1].item()


# --- SmolLM2 -----------------------------------------------------------------------------------------------------


def test_the_loss_on_plain_english():
    """As recorded, and far from what the mistakes give that still write English."""
    model, tokenizer = loaded()
    ids = tokenizer.encode(PLAIN).tolist()
    assert abs(loss(model, ids) - RECORDED) < 0.01
    try:
        model.config.interleaved = False
        assert loss(model, ids) > RECORDED + 1.2
        model.config.interleaved, model.config.rope_base = True, 10000.0
        assert loss(model, ids) > RECORDED + 0.08
    finally:
        model.config.interleaved, model.config.rope_base = True, 100000.0


def test_the_scores_are_those_of_a_plain_computation_in_float64():
    weights, sizes = expanded()
    model, tokenizer = loaded()
    for prompt in PROMPTS:
        ids = tokenizer.encode(prompt, special=True).tolist()
        np.testing.assert_allclose(scores(model, ids), plain_models.llama(ids, weights, **sizes), atol=1e-3)


def test_four_bits_give_what_float32_gives_and_a_cache_what_the_whole_gives():
    model, tokenizer = loaded()
    wide, _ = Llama.load(real_models.smollm(), dequantize=True)
    ids = tokenizer.encode(PLAIN).tolist()[:40]
    whole = scores(wide, ids)
    np.testing.assert_allclose(scores(model, ids), whole, atol=2e-3)
    np.testing.assert_allclose(scores(model, ids[:10]), whole[:10], atol=2e-3)  # few rows go another way
    for one in (model, wide):
        cache, parts = nn.Cache(), []
        with z2g.no_grad():
            for i, j in ((0, 20), (20, 21), (21, 22), (22, 30), (30, 40)):
                parts.append(host(one(z2g.tensor([ids[i:j]]), cache=cache)[0])[0])
        np.testing.assert_allclose(np.concatenate(parts), whole, atol=2e-3)
        np.testing.assert_allclose(np.concatenate(parts), scores(one, ids), atol=1e-3 if one is model else 2e-4)


def test_prompts_of_different_lengths_side_by_side():
    model, tokenizer = loaded()
    prompts = [tokenizer.encode(prompt).tolist() for prompt in ("The capital of France is", "Cats", PLAIN[:60])]
    together = model.generate(prompts, 8, temperature=0)
    for prompt, row in zip(prompts, together, strict=True):
        assert row.tolist() == model.generate([prompt], 8, temperature=0)[0].tolist()


@pytest.mark.parametrize("text", WRITTEN["texts"], ids=lambda text: text["prompt"][:20])
def test_the_likeliest_text_is_that_of_llama_cpp(text):
    """Token for token, as far as llama.cpp did not hesitate between two (a margin of 0.1), for at least 20."""
    model, tokenizer = loaded()
    ids, tokens, margins = tokenizer.encode(text["prompt"], special=True).tolist(), text["tokens"], text["margins"]
    clear = [margin > 0.1 for margin in margins]
    best = scores(model, ids + tokens)[len(ids) - 1 : -1].argmax(1)  # each after llama.cpp's own words
    assert all(ours == token for ours, token, sure in zip(best, tokens, clear, strict=True) if sure)
    ours = model.generate([ids], 20, temperature=0)[0].tolist()[len(ids) :]
    assert ours == tokens[:20] or not all(
        clear[: [a == b for a, b in zip(ours, tokens, strict=False)].index(False) + 1]
    )
    assert sum(clear[:20]) > 10


def test_both_tokenizers_on_every_line_of_the_cats():
    _, fast = loaded()
    ours = BPE(fast.tokens, fast.merges, fast.rule, fast.special)
    assert isinstance(fast, FastBPE) and fast.rule == "smollm" and len(fast) == 49152
    for line in CATS.splitlines():
        assert ours.encode(line).tolist() == fast.encode(line).tolist()
    assert ours.encode(CATS).tolist() == fast.encode(CATS).tolist()
    assert len(ours.encode(CATS)) == 30_866


def test_both_tokenizers_on_any_text():
    """Of the bytes that the vocabulary has; the others both refuse."""
    _, fast = loaded()
    ours = BPE(fast.tokens, fast.merges, fast.rule, fast.special)
    missing = set(ours._missing)

    @settings(max_examples=300)
    @given(TEXTS)
    def check(text):
        if set(text.encode()) & missing:
            for tokenizer in (ours, fast):
                with pytest.raises(ValueError, match="no token stands for the byte"):
                    tokenizer.encode(text)
            return
        ids = ours.encode(text).tolist()
        assert fast.encode(text).tolist() == ids and ours.decode(ids) == text

    check()


def test_lora_learns_on_four_bits():
    """A few steps on one poem, 0.5 % of the weights: the loss on it falls, and merged it is the same model."""
    model, tokenizer = Llama.load(real_models.smollm())
    ids = z2g.tensor([tokenizer.encode(CATS[:400]).tolist()[:64]])
    parameters = nn.add_lora(model, ["q", "v"], rank=8)
    learning = sum(p.numel() for p in parameters)
    assert 0.003 < learning / 134_515_008 < 0.04
    optimizer, losses = z2g.optim.AdamW(parameters, lr=3e-3), []
    for _ in range(5):
        optimizer.zero_grad()
        loss = model(ids[:, :-1], ids[:, 1:])[1]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.3
    before = scores(model, ids.tolist()[0][:20])
    nn.merge_lora(model)
    np.testing.assert_allclose(scores(model, ids.tolist()[0][:20]), before, atol=2e-3)


# --- MiniLM ------------------------------------------------------------------------------------------------------

SENTENCES = [
    "A cat sleeps on the sofa.", "The kitten naps on the couch!", "Stocks fell sharply on Monday.",
    "Où est la gare?", "x", PLAIN,
]  # fmt: skip


def test_sentence_vectors_are_those_of_a_plain_computation():
    model, tokenizer = Bert.load(real_models.minilm())
    stored = files.read_safetensors(real_models.minilm())
    weights = {name: tensor.floats() for name, tensor in stored.items() if tensor.kind == "F32"}
    texts = [tokenizer.encode(text) for text in SENTENCES]
    ours = host(model.sentence_vectors(texts))
    for vector, ids in zip(ours, texts, strict=True):
        plain = plain_models.bert(ids.tolist(), weights, layers=6, heads=12, eps=1e-12)
        assert vector @ plain_models.sentence_vector(plain) > 0.9999
        assert math.isclose(vector @ vector, 1, rel_tol=1e-5)
    assert ours[0] @ ours[1] > 0.6 > 0.2 > ours[0] @ ours[2]


def test_its_words_are_those_of_the_package_tokenizers():
    tokenizers = pytest.importorskip("tokenizers")
    _, ours = Bert.load(real_models.minilm())
    theirs = tokenizers.Tokenizer.from_file(str(real_models.minilm() / "tokenizer.json"))
    theirs.no_padding()
    theirs.no_truncation()
    for line in [*CATS.splitlines(), *SENTENCES]:
        assert ours.encode(line).tolist() == theirs.encode(line).ids
