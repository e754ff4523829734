"""A tiny BERT: against plain NumPy, and in the files that hold one."""

import json

import numpy as np
import plain_models
import pytest
from numeric import host
from test_llama import as_stored, one_line, safetensors_bytes

import tinygrad_z2g as z2g
from tinygrad_z2g import nn
from tinygrad_z2g.models import Bert, BertConfig

TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "cat", "##s", "sat", "!"]
SIZES = {"context": 16, "layers": 2, "heads": 4, "width": 32, "hidden": 64, "eps": 1e-3}
NAMES = {  # of ours: in a folder, in a GGUF file
    "token_embedding": ("embeddings.word_embeddings", "token_embd"),
    "position_embedding": ("embeddings.position_embeddings", "position_embd"),
    "type_embedding": ("embeddings.token_type_embeddings", "token_types"),
    "norm": ("embeddings.LayerNorm", "token_embd_norm"), "q": ("attention.self.query", "attn_q"),
    "k": ("attention.self.key", "attn_k"), "v": ("attention.self.value", "attn_v"),
    "out": ("attention.output.dense", "attn_output"), "norm1": ("attention.output.LayerNorm", "attn_output_norm"),
    "up": ("intermediate.dense", "ffn_up"), "down": ("output.dense", "ffn_down"),
    "norm2": ("output.LayerNorm", "layer_output_norm"),
}  # fmt: skip


def tiny():
    z2g.manual_seed(2)
    model = Bert(BertConfig(len(TOKENS), **SIZES))
    with z2g.no_grad():
        for p in model.parameters():
            p.add_(0.3 * z2g.randn(*p.shape))
    return model.eval()


def weights_of(model, style=0):
    """The weights under the names of a safetensors file, or (1) of a GGUF file."""
    found = {}
    for name, tensor in model.state_dict().items():
        parts = name.split(".")
        block = f"{('encoder.layer.', 'blk.')[style]}{parts[1]}." if parts[0] == "blocks" else ""
        found[f"{block}{NAMES[parts[-2]][style]}.{parts[-1]}"] = host(tensor)
    return found


def plain(model, ids):
    c = model.config
    return plain_models.bert(ids, weights_of(model), layers=c.layers, heads=c.heads, eps=c.eps)


def test_the_vectors_are_those_of_a_plain_computation(device):
    model, texts = tiny(), [[2, 4, 5, 6, 3], [2, 7, 3], [2, 8, 8, 1, 4, 4, 3]]
    for ids in texts:
        np.testing.assert_allclose(host(model(z2g.tensor([ids])))[0], plain(model, ids), atol=2e-5)
    vectors = host(model.sentence_vectors([z2g.tensor(ids) for ids in texts]))
    expected = [plain_models.sentence_vector(plain(model, ids)) for ids in texts]
    np.testing.assert_allclose(vectors, expected, atol=1e-5)


def test_gradients_of_the_whole_model():
    model = Bert(BertConfig(5, 4, 1, 2, 4, 6)).double()
    ids, mask = z2g.tensor([[1, 4, 2], [0, 3, 0]]), z2g.tensor([[1, 1, 1], [1, 1, 0]]).bool()
    assert z2g.gradcheck(lambda *_: model(ids, mask), list(model.parameters()))


def test_texts_that_are_too_long_or_not_there():
    model = tiny()
    with pytest.raises(ValueError, match="up to 16"):
        model(z2g.tensor([[4] * 17]))
    assert model.sentence_vectors([z2g.tensor([4] * 40)]).shape == (1, 32)  # the rest is left out
    for nothing in ([], [z2g.tensor([], dtype=z2g.int64)]):
        with pytest.raises(ValueError, match="at least one"):
            model.sentence_vectors(nothing)
    with pytest.raises(ValueError, match="33 is not divisible"):
        BertConfig(9, width=33)
    with pytest.raises(ValueError, match="layers must be at least 1"):
        BertConfig(9, layers=0)


def write_folder(folder, model, prefix="", leave_out=(), **changes):
    c = model.config
    folder.mkdir()
    config = {
        "model_type": "bert", "max_position_embeddings": c.context, "num_hidden_layers": c.layers,
        "num_attention_heads": c.heads, "hidden_size": c.width, "intermediate_size": c.hidden,
        "layer_norm_eps": c.eps, "hidden_act": "gelu", **changes,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    stored = {prefix + name: as_stored(array, "F32") for name, array in weights_of(model).items()}
    stored[f"{prefix}pooler.dense.weight"] = as_stored(np.ones((32, 32)), "F32")
    stored[f"{prefix}embeddings.position_ids"] = ("I64", (1, 16), np.arange(16).tobytes())
    stored = {name: tensor for name, tensor in stored.items() if name not in leave_out}
    (folder / "model.safetensors").write_bytes(safetensors_bytes(stored))
    vocabulary = {"type": "WordPiece", "vocab": {token: i for i, token in enumerate(TOKENS)}}
    (folder / "tokenizer.json").write_text(json.dumps({"model": vocabulary, "normalizer": {"lowercase": True}}))
    return folder


@pytest.mark.parametrize("prefix", ["", "bert."])
def test_a_folder(tmp_path, prefix):
    model = tiny()
    loaded, tokenizer = Bert.load(write_folder(tmp_path / "tiny", model, prefix))
    ids = tokenizer.encode("The cats sat!")
    assert ids.tolist() == [2, 4, 5, 6, 7, 8, 3]
    assert np.array_equal(host(loaded(ids.unsqueeze(0))), host(model(ids.unsqueeze(0))))


@pytest.mark.parametrize("kind", ["F32", "Q8_0"])
def test_a_gguf_file(tmp_path, kind):
    gguf = pytest.importorskip("gguf")
    model, c, path = tiny(), BertConfig(len(TOKENS), **SIZES), tmp_path / "tiny.gguf"
    writer = gguf.GGUFWriter(path, "bert")
    for name, n in (("context_length", c.context), ("block_count", c.layers), ("attention.head_count", c.heads),
                    ("embedding_length", c.width), ("feed_forward_length", c.hidden)):  # fmt: skip
        writer.add_uint32(f"bert.{name}", n)
    writer.add_float32("bert.attention.layer_norm_epsilon", c.eps)
    writer.add_string("tokenizer.ggml.model", "bert")
    writer.add_token_list([t if t[0] == "[" else t[2:] if t[:2] == "##" else "▁" + t for t in TOKENS])
    writer.add_token_types([3 if t[0] == "[" else 1 for t in TOKENS])
    state = model.state_dict()
    for (name, array), ours in zip(weights_of(model, 1).items(), state, strict=True):
        if kind == "F32" or array.ndim == 1 or "embd" in name or "types" in name:
            writer.add_tensor(name, array)
        else:
            type_ = gguf.GGMLQuantizationType[kind]
            writer.add_tensor(name, gguf.quantize(array, type_), raw_dtype=type_)
            state[ours].copy_(z2g.tensor(gguf.dequantize(gguf.quantize(array, type_), type_)))  # as the file has it
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    loaded, tokenizer = Bert.load(path)
    ids = tokenizer.encode("the cats sat!")
    assert ids.tolist() == [2, 4, 5, 6, 7, 8, 3]
    assert isinstance(loaded.blocks[0].up, nn.QuantizedLinear) == (kind != "F32")
    np.testing.assert_allclose(host(loaded(ids.unsqueeze(0))), host(model(ids.unsqueeze(0))), atol=2e-5)


FAULTS = {
    "another model": ({"model_type": "llama"}, ["'llama' is not offered"]),
    "another activation": ({"hidden_act": "relu"}, ["gelu"]),
    "a tensor missing": (
        {"leave_out": ["encoder.layer.1.output.dense.bias"]},
        ["layer.1.output.dense.bias' is missing"],
    ),
    "no table": ({"leave_out": ["embeddings.word_embeddings.weight"]}, ["word_embeddings"]),
    "another width": ({"hidden_size": 64}, ["width 64"]),
    "another hidden width": ({"intermediate_size": 65}, ["(64, 32), expected (65, 32)"]),
    "absurdly many blocks": ({"num_hidden_layers": 10**12}, ["blocks"]),
}


@pytest.mark.parametrize("changes, words", FAULTS.values(), ids=FAULTS)
def test_folders_that_do_not_fit(tmp_path, changes, words):
    folder = write_folder(tmp_path / "tiny", tiny(), **changes)
    one_line(lambda: Bert.load(folder), words)
