"""A tiny Llama: against plain NumPy, with and without a cache, in all the files that hold one, and in broken ones."""

import itertools
import json
import struct
import tracemalloc

import numpy as np
import plain_models
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numeric import host

import tinygrad_z2g as z2g
from tinygrad_z2g import nn
from tinygrad_z2g.models import GPT, GPTConfig, Llama, LlamaConfig
from tinygrad_z2g.nn import functional as F
from tinygrad_z2g.text import BPE

SIZES = {"layers": 2, "heads": 4, "kv_heads": 2, "width": 64, "hidden": 96, "eps": 1e-3, "rope_base": 500.0}
TOKENIZER = BPE.train("the cat sat on the mat, the cat sat", 262)
SPECIAL = ["<|end|>"]
V = len(TOKENIZER) + len(SPECIAL)
GGUF_NAMES = {
    "attention.q": "attn_q", "attention.k": "attn_k", "attention.v": "attn_v", "attention.out": "attn_output",
    "norm1": "attn_norm", "norm2": "ffn_norm", "mlp.gate": "ffn_gate", "mlp.up": "ffn_up", "mlp.down": "ffn_down",
}  # fmt: skip


def tiny(**changes):
    """A Llama whose weights are large enough that its predictions differ clearly."""
    z2g.manual_seed(1)
    model = Llama(LlamaConfig(V, **{"context": 32, **SIZES, **changes}))
    with z2g.no_grad():
        for name, p in model.named_parameters():
            if "norm" in name:
                p.add_(0.3 * z2g.randn(*p.shape))
            else:
                p.mul_(0.3 if "embedding" in name else 3)
    return model.eval()


def weights_of(model):
    """The weights under the names of a GGUF file, (out, in)."""
    found = {}
    for name, tensor in model.state_dict().items():
        parts = name.split(".")
        if parts[0] == "blocks":
            found[f"blk.{parts[1]}.{GGUF_NAMES['.'.join(parts[2:-1])]}.weight"] = host(tensor)
        else:
            top = {"embedding": "token_embd", "norm": "output_norm", "head": "output"}
            found[f"{top[parts[0]]}.weight"] = host(tensor)
    if model.config.tied:
        del found["output.weight"]
    return found


def plain(model, ids, weights=None):
    """The scores that an independent computation gives."""
    c = model.config
    return plain_models.llama(
        ids, weights or weights_of(model), layers=c.layers, heads=c.heads, kv_heads=c.kv_heads, eps=c.eps,
        base=c.rope_base, interleaved=c.interleaved,
    )  # fmt: skip


def random_ids(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, V, shape)


# --- The model ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [
    {}, {"kv_heads": 4}, {"kv_heads": 1}, {"interleaved": True}, {"tied": False},
    {"layers": 1, "heads": 1, "kv_heads": 1},
])  # fmt: skip
def test_the_scores_are_those_of_a_plain_computation(device, changes):
    model, ids = tiny(**changes), random_ids(2, 9)
    scores, loss = model(z2g.tensor(ids), z2g.tensor(ids))
    for row, text in zip(host(scores), ids, strict=True):
        np.testing.assert_allclose(row, plain(model, text), atol=2e-5)
    logp = np.log(plain_models.softmax(np.concatenate([plain(model, text) for text in ids])))
    np.testing.assert_allclose(loss.item(), -logp[np.arange(18), ids.reshape(-1)].mean(), atol=1e-5)


def test_the_two_conventions_of_pairs_differ_by_the_order_of_rows():
    """Rows (0, 1, 2, 3, ...) of a head as halves are rows (0, h, 1, h + 1, ...) as neighbours."""
    halves, neighbours = tiny(), tiny(interleaved=True)
    size = SIZES["width"] // SIZES["heads"]
    order = np.arange(size).reshape(2, size // 2).T.reshape(-1)  # 0, h, 1, h + 1, ...
    state = halves.state_dict()
    for name, tensor in state.items():
        if name.endswith(("attention.q.weight", "attention.k.weight")):
            rows = host(tensor).reshape(-1, size, SIZES["width"])[:, order]
            state[name] = z2g.tensor(rows.reshape(tensor.shape))
    ids = z2g.tensor(random_ids(1, 8))
    wrong = neighbours(ids)[0]
    neighbours.load_state_dict(state)
    np.testing.assert_allclose(host(neighbours(ids)[0]), host(halves(ids)[0]), atol=2e-5)
    assert np.abs(host(wrong) - host(halves(ids)[0])).max() > 0.1


def test_rotary_angles_by_hand():
    cos, sin = F.rotary_angles(z2g.tensor([0, 1, 8000]), 4, base=100.0)
    angles = np.array([[0, 0], [1, 0.1], [8000, 800]])
    np.testing.assert_allclose(cos.numpy(), np.cos(angles), atol=1e-7)
    np.testing.assert_allclose(sin.numpy(), np.sin(angles), atol=1e-7)
    assert cos.dtype == z2g.float32
    with pytest.raises(ValueError, match="even"):
        F.rotary_angles(z2g.tensor([0]), 3)


@pytest.mark.parametrize("interleaved", [False, True])
def test_products_of_turned_vectors_know_distances_alone(interleaved):
    q, k = z2g.randn(8, dtype=z2g.float64), z2g.randn(8, dtype=z2g.float64)
    cos, sin = (x.double() for x in F.rotary_angles(z2g.arange(12), 8))
    turn = [(F.rotary_embedding(x.expand(12, 8), cos, sin, interleaved)) for x in (q, k)]
    match = (turn[0] @ turn[1].mT).numpy()  # (12, 12)
    for distance in (-5, 0, 3):
        same = np.diagonal(match, distance)
        np.testing.assert_allclose(same, same[0], atol=1e-6)
    assert np.ptp(match) > 0.1


def test_gradients_of_the_whole_model():
    model = Llama(LlamaConfig(7, 8, 1, 4, 2, 8, 6)).double()
    ids = z2g.tensor([[1, 4, 2], [0, 6, 3]])
    assert z2g.gradcheck(lambda *_: model(ids, ids)[1], list(model.parameters()))


@pytest.mark.parametrize("changes, words", [
    ({"width": 66}, "66 does not give 4 heads"), ({"width": 4}, "even size"), ({"kv_heads": 3}, "kv_heads 3"),
    ({"layers": 0}, "layers must be at least 1"),
])  # fmt: skip
def test_impossible_sizes(changes, words):
    with pytest.raises(ValueError, match=words):
        LlamaConfig(V, **{**SIZES, **changes})


def test_tokens_beyond_the_context_and_of_the_wrong_shape_are_refused():
    model = tiny()
    with pytest.raises(ValueError, match="33 tokens exceed the context of 32"):
        model(z2g.tensor(random_ids(1, 33)))
    with pytest.raises(ValueError, match="unsqueeze"):
        model(z2g.tensor([1, 2]))


# --- Writing -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cuts", [[5], [1, 2, 3], [4, 5, 8]])
def test_the_cache_gives_what_the_whole_context_gives(device, cuts):
    model, ids = tiny(), z2g.tensor(random_ids(2, 9))
    whole, cache = host(model(ids)[0]), nn.Cache()
    ends = [0, *cuts, 9]
    with z2g.no_grad():
        parts = [host(model(ids[:, i:j], cache=cache)[0]) for i, j in itertools.pairwise(ends)]
    np.testing.assert_allclose(np.concatenate(parts, 1), whole, atol=1e-4)


def test_prompts_of_different_lengths_side_by_side_as_one_by_one(device):
    model, prompts = tiny(), [random_ids(n, seed=n).tolist() for n in (1, 7, 4)]
    together = model.generate(prompts, 8, temperature=0)
    for prompt, row in zip(prompts, together, strict=True):
        assert row.tolist() == model.generate(z2g.tensor([prompt]), 8, temperature=0)[0].tolist()
        ids = prompt
        for _ in range(8):
            ids = [*ids, int(plain(model, ids)[-1].argmax())]
        assert row.tolist() == ids


def test_writing_beyond_the_context_sees_the_last_tokens():
    model = tiny(context=6)
    ids = model.generate([random_ids(5).tolist()], 6, temperature=0)[0].tolist()
    for i in range(5, 11):
        assert ids[i] == plain(model, ids[max(0, i - 6) : i])[-1].argmax()


def test_a_conversation_goes_on_with_its_cache():
    model, first, second, cache = tiny(), random_ids(4).tolist(), random_ids(3, seed=1).tolist(), nn.Cache()
    steps = model.stream([first], temperature=0, cache=cache)
    said = [next(steps)[0] for _ in range(3)]
    steps.close()
    assert len(cache) == 6  # the last token that was drawn has not been fed
    steps = model.stream([[said[-1], *second]], temperature=0, cache=cache)
    again = [next(steps)[0] for _ in range(3)]
    assert again == model.generate([[*first, *said, *second]], 3, temperature=0)[0].tolist()[-3:]
    with pytest.raises(ValueError, match="the cache is full"):
        for _ in range(32):
            next(steps)


@pytest.mark.parametrize("make", [tiny, lambda: GPT(GPTConfig(11, 64, 2, 2, 8))])
def test_a_cache_of_a_call_that_was_stopped_half_way_is_refused(make):
    """The first block had kept a position that the second did not know of: what came after was silently wrong."""

    def stop(*_):
        raise KeyboardInterrupt

    model, cache = make().train(), nn.Cache()
    steps = model.stream([[1, 2, 3]], cache=cache)
    next(steps)
    with model.blocks[1].register_forward_pre_hook(stop), pytest.raises(KeyboardInterrupt):
        next(steps)
    assert model.training
    for go_on in (lambda: next(model.stream([[4]], cache=cache)), lambda: model(z2g.tensor([[4]]), cache=cache)):
        with z2g.no_grad(), pytest.raises(RuntimeError, match=r"Cache: some layers hold other.*\(3, 4\).*begin a new"):
            go_on()


def test_what_cannot_be_a_prompt_is_refused():
    model = tiny()
    for prompt, error in (([[]], ValueError), ([], ValueError), ([[V]], IndexError), ([[-1]], IndexError)):
        with pytest.raises(error, match=r"^generate: "):
            model.generate(prompt, 1)


# --- Files -------------------------------------------------------------------------------------------------------


def write_gguf(path, model, kind="F32", leave_out=(), **changes):
    """The model as a GGUF file, its matrices as `kind`. Fields may be changed, None leaves them out."""
    gguf = pytest.importorskip("gguf")
    c = model.config
    writer = gguf.GGUFWriter(path, changes.pop("architecture", "llama"))
    tokens = [*TOKENIZER.tokens, *SPECIAL]
    fields = {
        "llama.context_length": c.context, "llama.block_count": c.layers, "llama.embedding_length": c.width,
        "llama.attention.head_count": c.heads, "llama.attention.head_count_kv": c.kv_heads,
        "llama.feed_forward_length": c.hidden, "llama.attention.layer_norm_rms_epsilon": c.eps,
        "llama.rope.freq_base": c.rope_base, "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2",
        **{name.replace("__", "."): value for name, value in changes.items()},
    }  # fmt: skip
    for name, value in fields.items():
        if value is not None:
            add = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}[type(value)]
            add(name, value)
    writer.add_token_list(tokens)
    writer.add_token_types([1] * len(TOKENIZER) + [3] * len(SPECIAL))
    writer.add_token_merges([" ".join(pair) for pair in TOKENIZER.merges])
    kinds = gguf.GGMLQuantizationType
    for name, array in weights_of(model).items():
        if name in leave_out:
            continue
        if array.ndim == 1 or kind == "F32":
            writer.add_tensor(name, array)
        else:
            writer.add_tensor(name, gguf.quantize(array, kinds[kind]), raw_dtype=kinds[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def rounded(model, kind):
    """The weights as a file of that kind holds them, expanded by the package gguf."""
    gguf = pytest.importorskip("gguf")
    kind = gguf.GGMLQuantizationType[kind]
    expand = lambda a: a if a.ndim == 1 else gguf.dequantize(gguf.quantize(a, kind), kind)  # noqa: E731
    return {name: expand(array) for name, array in weights_of(model).items()}


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind, said", [
    ("F32", "tensors F32"), ("F16", "tensors F16"), ("BF16", "tensors BF16"), ("Q4_0", "Q4_0 kept in blocks"),
    ("Q4_1", "Q4_1 kept in blocks"), ("Q8_0", "Q8_0 kept in blocks"), ("Q5_1", "Q5_1 expanded to float32"),
])  # fmt: skip
def test_a_gguf_file_of_each_kind(tmp_path, kind, said, tied):
    model = tiny(interleaved=True, tied=tied)
    loaded, tokenizer = Llama.load(write_gguf(tmp_path / "tiny.gguf", model, kind))
    ids = random_ids(1, 9)
    expected = plain(model, ids[0], rounded(model, kind) if kind != "F32" else None)
    np.testing.assert_allclose(host(loaded(z2g.tensor(ids))[0])[0], expected, atol=1e-4)
    assert said in loaded.info and loaded.config.tied == tied
    assert isinstance(loaded.blocks[1].mlp.up, nn.QuantizedLinear) == ("kept" in said)
    text = "the cat<|end|>"
    assert tokenizer.encode(text, special=True).tolist() == [*TOKENIZER.encode("the cat").tolist(), V - 1]
    if "kept" in said:  # the same, in float32
        for other in (Llama.load(tmp_path / "tiny.gguf", dequantize=True)[0], loaded.dequantize()):
            assert isinstance(other.blocks[1].mlp.up, nn.Linear) and isinstance(other.embedding, nn.Embedding)
            np.testing.assert_allclose(host(other(z2g.tensor(ids))[0])[0], expected, atol=1e-4)
            assert (other.head.weight is other.embedding.weight) == tied


def test_a_gguf_file_learns(tmp_path):
    """What was loaded may be written to: it is no view of the file."""
    model, _ = Llama.load(write_gguf(tmp_path / "tiny.gguf", tiny(interleaved=True), "Q4_0"), dequantize=True)
    before = (tmp_path / "tiny.gguf").read_bytes()
    ids = z2g.tensor(random_ids(2, 8))
    optimizer = z2g.optim.AdamW(model.parameters(), lr=0.01)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = model(ids, ids)[1]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    assert (tmp_path / "tiny.gguf").read_bytes() == before


HF_NAMES = {
    "token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head",
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip


def safetensors_bytes(tensors):
    """A safetensors file, by its definition. tensors: name -> (dtype, shape, bytes)."""
    header, body = {}, b""
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def as_stored(array, kind):
    """The bytes of an array in a type, BF16 by cutting float32 in half (the values are made for it)."""
    if kind == "BF16":
        return kind, array.shape, (array.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16).tobytes()
    return kind, array.shape, array.astype({"F32": np.float32, "F16": np.float16, "F64": np.float64}[kind]).tobytes()


def write_folder(folder, model, kind="F32", shards=1, leave_out=(), tokenizer=True, **changes):
    """The model as a folder in the manner of Hugging Face."""
    c = model.config
    folder.mkdir(exist_ok=True)
    config = {
        "model_type": "llama", "vocab_size": V, "max_position_embeddings": c.context, "num_hidden_layers": c.layers,
        "num_attention_heads": c.heads, "num_key_value_heads": c.kv_heads, "hidden_size": c.width,
        "intermediate_size": c.hidden, "rms_norm_eps": c.eps, "rope_theta": c.rope_base,
        "tie_word_embeddings": c.tied, "hidden_act": "silu", **changes,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    named = {}
    for name, array in weights_of(model).items():
        parts = name.split(".")
        place = f"model.layers.{parts[1]}." if parts[0] == "blk" else ""
        named[f"{place}{HF_NAMES[parts[-2]]}.weight"] = as_stored(array, kind)
    named = {name: stored for name, stored in named.items() if name not in leave_out}
    if shards == 1:
        (folder / "model.safetensors").write_bytes(safetensors_bytes(named))
    else:
        files = {name: f"model-{i % shards}.safetensors" for i, name in enumerate(named)}
        for file in set(files.values()):
            part = {name: stored for name, stored in named.items() if files[name] == file}
            (folder / file).write_bytes(safetensors_bytes(part))
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    if tokenizer:
        tokens = [*TOKENIZER.tokens, *SPECIAL]
        (folder / "tokenizer.json").write_text(json.dumps({
            "model": {"type": "BPE", "vocab": {t: i for i, t in enumerate(tokens)}, "merges": list(TOKENIZER.merges)},
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
            "added_tokens": [{"content": token, "id": tokens.index(token)} for token in SPECIAL],
        }))  # fmt: skip
    return folder


@pytest.mark.parametrize("kind, shards, tied", [
    ("F32", 1, True), ("F32", 3, False), ("F16", 1, False), ("BF16", 2, True), ("F64", 1, True),
])  # fmt: skip
def test_a_folder_of_each_kind(tmp_path, kind, shards, tied):
    model = tiny(tied=tied)
    with z2g.no_grad():
        for p in model.parameters():  # numbers that fit into the shorter types
            p.copy_(z2g.tensor((host(p).view(np.uint32) >> 16 << 16).view(np.float32).round(3)))
            p.copy_(z2g.tensor((host(p.half().float()).view(np.uint32) >> 16 << 16).view(np.float32)))
    loaded, tokenizer = Llama.load(write_folder(tmp_path / "tiny", model, kind, shards))
    for name, tensor in model.state_dict().items():
        assert np.array_equal(loaded.state_dict()[name].numpy(), tensor.numpy()), name
    ids = random_ids(1, 9)
    np.testing.assert_allclose(host(loaded(z2g.tensor(ids))[0])[0], plain(model, ids[0]), atol=1e-4)
    assert tokenizer.encode("the<|end|>", special=True).tolist()[-1] == V - 1
    assert f"tensors {kind}" in loaded.info


def test_a_folder_without_tokenizer_and_with_a_head_that_is_not_used(tmp_path):
    model = tiny()
    folder = write_folder(tmp_path / "tiny", model, tokenizer=False)
    loaded, tokenizer = Llama.load(folder)
    assert tokenizer is None
    stored = {"lm_head.weight": as_stored(np.ones((V, 64)), "F32")}
    named = safetensors_bytes(stored)
    (folder / "extra.safetensors").write_bytes(named)
    names = {f"{n}": "model.safetensors" for n in json.loads(read_header(folder / "model.safetensors"))}
    index = {"weight_map": names | {"lm_head.weight": "extra.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    again, _ = Llama.load(folder)
    ids = z2g.tensor(random_ids(1, 5))
    assert np.array_equal(host(again(ids)[0]), host(loaded(ids)[0]))


def read_header(path):
    data = path.read_bytes()
    return data[8 : 8 + struct.unpack("<Q", data[:8])[0]]


# --- Broken files ------------------------------------------------------------------------------------------------


def one_line(call, words):
    """The call raises a ValueError of one line that says so, and allocates next to nothing before."""
    tracemalloc.start()
    try:
        with pytest.raises(ValueError) as caught:
            call()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    message = str(caught.value)
    assert message.startswith("load: ") and "\n" not in message
    for word in words:
        assert word in message, message
    assert peak < 3_000_000, f"{peak:,} bytes for a file of 600,000"


GGUF_FAULTS = {
    "another architecture": ({"architecture": "falcon"}, ["'falcon' is not offered"]),
    "a tensor missing": ({"leave_out": ["blk.1.ffn_up.weight"]}, ["'blk.1.ffn_up.weight' is missing"]),
    "no table": ({"leave_out": ["token_embd.weight"]}, ["not those of 2 blocks of width 64"]),
    "another width": ({"llama__embedding_length": 128}, ["width 128"]),
    "another hidden width": ({"llama__feed_forward_length": 128}, ["ffn_gate.weight", "(96, 64), expected (128, 64)"]),
    "too few blocks": ({"llama__block_count": 1}, ["'blk.1.", "belongs to no layer"]),
    "absurdly many blocks": ({"llama__block_count": 2**32 - 1}, ["blocks"]),
    "absurdly wide": ({"llama__feed_forward_length": 2**32 - 1}, ["expected (4294967295, 64)"]),
    "no field": ({"llama__block_count": None}, ["block_count"]),
    "a field of another type": ({"llama__block_count": "two"}, ["tiny.gguf"]),
    "scaled positions": ({"llama__rope__scaling__type": "yarn"}, ["yarn"]),
    "other heads": ({"llama__attention__key_length": 32}, ["heads of 32"]),
    "another tokenizer": ({"tokenizer__ggml__model": "llama"}, ["'llama' is not offered"]),
    "other pieces": ({"tokenizer__ggml__pre": "klingon"}, ["'klingon' is not offered"]),
}


@pytest.mark.parametrize("changes, words", GGUF_FAULTS.values(), ids=GGUF_FAULTS)
def test_gguf_files_that_do_not_fit(tmp_path, changes, words):
    path = write_gguf(tmp_path / "tiny.gguf", tiny(interleaved=True), **changes)
    one_line(lambda: Llama.load(path), words)


def test_a_gguf_file_cut_anywhere(tmp_path):
    data = write_gguf(tmp_path / "tiny.gguf", tiny(interleaved=True), "Q4_1").read_bytes()
    for n in [0, 3, 4, 9, 20, 100, 1000, 5000, len(data) // 2, len(data) - 1]:
        (tmp_path / "cut.gguf").write_bytes(data[:n])
        one_line(lambda: Llama.load(tmp_path / "cut.gguf"), ["cut.gguf"])


@given(st.integers(0, 2500), st.integers(0, 7), st.sampled_from(["flip", "absurd"]))
def test_a_gguf_header_with_a_fault_anywhere(tmp_path_factory, place, bit, how):
    """Either the file still loads (a token or a name nobody needs was changed), or one line says what is wrong."""
    folder = tmp_path_factory.getbasetemp() / "faults"
    folder.mkdir(exist_ok=True)
    if not (folder / "tiny.gguf").exists():
        write_gguf(folder / "tiny.gguf", tiny(interleaved=True))
    data = bytearray((folder / "tiny.gguf").read_bytes())
    if how == "flip":
        data[place] ^= 1 << bit
    else:
        data[place : place + 8] = b"\xff" * 8
    (folder / "bad.gguf").write_bytes(data)
    tracemalloc.start()
    try:
        Llama.load(folder / "bad.gguf")
    except ValueError as error:
        assert str(error).startswith("load: ") and "\n" not in str(error)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 5_000_000


FOLDER_FAULTS = {
    "another model": ({"model_type": "mamba"}, ["'mamba' is not offered"]),
    "a tensor missing": ({"leave_out": ["model.norm.weight"]}, ["'model.norm.weight' is missing"]),
    "scaled positions": ({"rope_scaling": {"rope_type": "llama3"}}, ["llama3"]),
    "scaled positions, new style": ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1.0}}, ["yarn"]),
    "biases": ({"attention_bias": True}, ["biases"]),
    "another activation": ({"hidden_act": "gelu"}, ["silu"]),
    "other heads": ({"head_dim": 32}, ["heads of 32"]),
    "no size": ({"hidden_size": None}, ["tiny"]),
    "absurdly many blocks": ({"num_hidden_layers": 10**12}, ["blocks"]),
}


@pytest.mark.parametrize("changes, words", FOLDER_FAULTS.values(), ids=FOLDER_FAULTS)
def test_folders_that_do_not_fit(tmp_path, changes, words):
    folder = write_folder(tmp_path / "tiny", tiny(), **changes)
    one_line(lambda: Llama.load(folder), words)


def test_safetensors_that_are_broken(tmp_path):
    folder = write_folder(tmp_path / "tiny", tiny())
    path = folder / "model.safetensors"
    data = path.read_bytes()
    tensor = {"dtype": "F32", "shape": [2**40, 2**20], "data_offsets": [0, 8]}
    header = lambda entry: safetensors_header({"model.norm.weight": entry})  # noqa: E731
    faults = {
        b"": "is empty", data[:5]: "no safetensors file", data[:-1]: "it is cut short",
        struct.pack("<Q", 2**63) + data[8:]: "no safetensors file", header(tensor): "which is not 8 bytes",
        header({**tensor, "data_offsets": [0, 2**50]}): "it is cut short",
        header({**tensor, "data_offsets": [-8, 0]}): "it is cut short", header({}): "no 'dtype'",
        b"\x02" + b"\0" * 7 + b"{]": "Expecting",
    }  # fmt: skip
    for content, words in faults.items():
        path.write_bytes(content)
        one_line(lambda: Llama.load(folder), [words])


def safetensors_header(header):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + b"\0" * 8


def test_types_that_are_not_offered_are_named(tmp_path):
    model = tiny()
    folder = write_folder(tmp_path / "tiny", model)
    data = (folder / "model.safetensors").read_bytes()
    name = "model.layers.1.mlp.up_proj.weight"
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    header[name]["dtype"] = "F8_E4M3"
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])
    one_line(lambda: Llama.load(folder), [name, "F8_E4M3"])


def test_without_the_package_gguf_other_blocks_are_refused(tmp_path, monkeypatch):
    path = write_gguf(tmp_path / "tiny.gguf", tiny(interleaved=True), "Q5_0")
    from tinygrad_z2g.models import files

    monkeypatch.delitem(files._TYPES, 6, raising=False)
    monkeypatch.setitem(__import__("sys").modules, "gguf", None)
    one_line(lambda: Llama.load(path), ["type 6", "pip install gguf"])


@pytest.mark.parametrize("change, words", [
    ({"type": "Unigram"}, "'Unigram' is not offered"),
    ({"vocab": {"a": 0, "b": 2}}, "not 0, 1, 2"),
])  # fmt: skip
def test_tokenizers_that_are_not_offered(tmp_path, change, words):
    folder = write_folder(tmp_path / "tiny", tiny())
    found = json.loads((folder / "tokenizer.json").read_text())
    found["model"] |= change
    (folder / "tokenizer.json").write_text(json.dumps(found))
    one_line(lambda: Llama.load(folder), [words])


def test_pieces_in_tokenizer_json(tmp_path):
    from tinygrad_z2g.models import vocabulary
    from tinygrad_z2g.text.pieces import LLAMA3

    digits, bytewise = {"type": "Digits", "individual_digits": True}, {"type": "ByteLevel", "add_prefix_space": False}
    split = {"type": "Split", "pattern": {"Regex": vocabulary.spelled(LLAMA3)}, "behavior": "Isolated"}
    published = (  # as Llama 3's tokenizer.json has it
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
        r"|\s+(?!\S)|\s+"
    )
    assert vocabulary.spelled(LLAMA3) == published
    rule = lambda *steps: vocabulary._rule({"type": "Sequence", "pretokenizers": list(steps)})  # noqa: E731
    assert rule(digits, bytewise) == "smollm" and rule(bytewise) == "gpt-2" and rule(split, bytewise) == "llama-bpe"
    for steps in ([digits], [{**bytewise, "add_prefix_space": True}], [{**split, "pattern": {"Regex": "x"}}, bytewise]):
        with pytest.raises(ValueError, match="not offered"):
            rule(*steps)
