"""Layers in blocks of four and eight bits, and LoRA beside them."""

import numpy as np
import pytest
from numeric import host

import tinygrad_z2g as z2g
from tinygrad_z2g import nn
from tinygrad_z2g.fast import quantized

KINDS = list(quantized.KINDS)


def unpacked(data, kind):
    """The weights of a file's blocks, one by one, by the definition of GGUF."""
    rows, size = [], quantized.KINDS[kind]
    for row in data:
        weights = []
        for block in row.reshape(-1, size):
            d = float(block[:2].copy().view(np.float16)[0])
            if kind == "Q8_0":
                weights += [d * int(q) for q in block[2:].view(np.int8)]
                continue
            m = float(block[2:4].copy().view(np.float16)[0]) if kind == "Q4_1" else -8 * d
            nibbles = [*(int(b) % 16 for b in block[-16:]), *(int(b) // 16 for b in block[-16:])]
            weights += [d * q + m for q in nibbles]
        rows.append(weights)
    return np.array(rows)


def random_blocks(kind, out, nb, seed=0):
    """Bytes as a file holds them: random integers, scales near 1."""
    rng = np.random.default_rng(seed)
    data = rng.integers(0, 256, (out, nb, quantized.KINDS[kind]), np.uint8)
    start = quantized.KINDS[kind] % 16
    halves = rng.uniform(-1, 1, (out, nb, start // 2)).astype(np.float16)
    data[:, :, :start] = halves.view(np.uint8)
    return data.reshape(out, -1)


@pytest.mark.parametrize("n", [0, 1, 3, quantized.FEW, quantized.FEW + 1, 40])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("out, nb", [(5, 3), (1, 1)])
def test_products_with_the_blocks_of_a_file(device, kind, n, out, nb):
    data = random_blocks(kind, out, nb)
    layer, w = nn.QuantizedLinear.from_file(data, kind), unpacked(data, kind)
    x = np.random.default_rng(1).standard_normal((n, nb * 32)).astype(np.float32)
    layer.to(device)
    np.testing.assert_allclose(host(layer(z2g.tensor(x))), x @ w.T, rtol=1e-4, atol=1e-3)
    assert layer.shape == (out, nb * 32)
    linear = layer.dequantize()
    np.testing.assert_allclose(host(linear.weight), w, rtol=1e-6)
    assert linear.weight.requires_grad


def test_large_products_are_divided(monkeypatch):
    """Into parts that fit the cache; the parts together are the whole."""
    data = random_blocks("Q4_1", 70, 5)
    layer, w = nn.QuantizedLinear.from_file(data, "Q4_1"), unpacked(data, "Q4_1")
    monkeypatch.setattr(quantized, "TOGETHER", 16 * 32 * 2)  # 32 to 64 columns of two blocks
    monkeypatch.setattr(quantized, "_columns", lambda nb, out: quantized.slices(out, 32))
    for n in (2, 30):
        x = z2g.randn(n, 160, requires_grad=True)
        z = layer(x)
        np.testing.assert_allclose(host(z), host(x) @ w.T, rtol=1e-4, atol=1e-3)
        grad = np.random.default_rng(2).standard_normal((n, 70)).astype(np.float32)
        z.backward(z2g.tensor(grad))
        np.testing.assert_allclose(host(x.grad), grad @ w, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_the_table(device, kind):
    data = random_blocks(kind, 7, 2)
    table, w = nn.QuantizedEmbedding.from_file(data, kind).to(device), unpacked(data, kind)
    ids = z2g.tensor([[0, 6, 3], [3, 3, 1]])
    np.testing.assert_allclose(host(table(ids)), w[[[0, 6, 3], [3, 3, 1]]], rtol=1e-6)
    np.testing.assert_allclose(host(table.dequantize()(ids)), host(table(ids)))
    if device == "cpu":
        with pytest.raises(IndexError, match="id 7 is out of range"):
            table(z2g.tensor([7]))
    with pytest.raises(RuntimeError, match="integer ids"):
        table(z2g.tensor([1.0]))


@pytest.mark.parametrize("kind", KINDS)
def test_the_package_gguf_unpacks_the_same(kind):
    gguf = pytest.importorskip("gguf")
    data = random_blocks(kind, 4, 3)
    expected = gguf.dequantize(data, gguf.GGMLQuantizationType[kind])
    np.testing.assert_allclose(unpacked(data, kind), expected, rtol=1e-6, atol=1e-6)


def test_four_bits_take_an_eighth_of_the_memory():
    """And the scales a quarter of that each, as they lie here in float32."""
    layer = nn.QuantizedLinear.from_file(random_blocks("Q4_0", 320, 10), "Q4_0")
    assert layer.quants.nbytes == 320 * 320 / 2
    assert layer.scales.nbytes == layer.offsets.nbytes == 320 * 320 / 8
    assert list(layer.parameters()) == []
    assert "bits=4" in repr(layer)
    assert "bits=8" in repr(nn.QuantizedLinear.from_file(random_blocks("Q8_0", 2, 1), "Q8_0"))


def test_what_does_not_fit_is_refused():
    layer = nn.QuantizedLinear.from_file(random_blocks("Q4_0", 4, 2), "Q4_0")
    for x in (z2g.randn(3, 63), z2g.randn(3, 64).double(), z2g.tensor(1.0)):
        with pytest.raises(RuntimeError, match=r"quantized_linear: .*expected \(..., 64\) of float32"):
            layer(x)
    with pytest.raises(ValueError, match="Q9_9 is not offered"):
        nn.QuantizedLinear.from_file(random_blocks("Q4_0", 4, 2), "Q9_9")
    with pytest.raises(ValueError, match="no rows of blocks"):
        nn.QuantizedLinear.from_file(np.zeros((2, 19), np.uint8), "Q4_1")


def test_a_bias_is_added_and_kept():
    data = random_blocks("Q4_0", 4, 1)
    layer = nn.QuantizedLinear.from_file(data, "Q4_0")
    layer.bias = nn.Parameter(z2g.tensor([1.0, 2.0, 3.0, 4.0]))
    assert layer(z2g.zeros(32)).tolist() == layer.dequantize()(z2g.zeros(32)).tolist() == [1.0, 2.0, 3.0, 4.0]


# --- LoRA --------------------------------------------------------------------------------------------------------


class Two(nn.Module):
    def __init__(self, quantized=False):
        self.q = nn.QuantizedLinear.from_file(random_blocks("Q4_1", 8, 1), "Q4_1") if quantized else nn.Linear(32, 8)
        self.parts = nn.Sequential(nn.ReLU(), nn.Linear(8, 3))

    def forward(self, x):
        return self.parts(self.q(x))


def trained(model, steps=20):
    parameters = nn.add_lora(model, ["q", "1"], rank=2, alpha=4)
    optimizer, losses = z2g.optim.AdamW(parameters, lr=0.05), []
    x, y = z2g.randn(16, 32), z2g.randn(16, 3)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = ((model(x) - y) ** 2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("quantized", [False, True])
def test_lora_changes_nothing_at_first_then_learns_alone(device, quantized):
    model = Two(quantized).to(device)
    x, frozen = z2g.randn(5, 32), {name: host(t) for name, t in model.state_dict().items()}
    before = host(model(x))
    losses = trained(model)
    assert np.array_equal(before, host(Two.forward(model, x))) is False
    assert losses[-1] < 0.7 * losses[0]
    after = model.state_dict()
    for name, array in frozen.items():
        inner = name.replace("q.", "q.layer.", 1) if name.startswith("q.") else name.replace("1.", "1.layer.", 1)
        assert np.array_equal(host(after[inner]), array), name
    fresh = Two(quantized).to(device)
    fresh.load_state_dict({name: z2g.tensor(array) for name, array in frozen.items()})
    nn.add_lora(fresh, ["q", "1"], rank=2, alpha=4)
    assert np.array_equal(host(fresh(x)), before)  # B is 0


def test_lora_by_hand():
    layer = nn.LoRA(nn.Linear(3, 2, bias=False), rank=1, alpha=3.0)
    with z2g.no_grad():
        layer.layer.weight.zero_()
        layer.lora_A.copy_(z2g.tensor([[1.0, 2.0, 0.0]]))
        layer.lora_B.copy_(z2g.tensor([[1.0], [-1.0]]))
    assert layer(z2g.tensor([1.0, 1.0, 9.0])).tolist() == [9.0, -9.0]  # 3 · (1 + 2)
    assert layer.merge().weight.tolist() == [[3.0, 6.0, 0.0], [-3.0, -6.0, 0.0]]
    assert sum(p.numel() for p in layer.parameters() if p.requires_grad) == 5
    assert "rank=1" in repr(layer)


@pytest.mark.parametrize("quantized", [False, True])
def test_merging_gives_one_layer_that_computes_the_same(device, quantized):
    model = Two(quantized).to(device)
    trained(model)
    x = z2g.randn(5, 32)
    before = host(model(x))
    nn.merge_lora(model)
    np.testing.assert_allclose(host(model(x)), before, atol=2e-5 * np.abs(before).max())
    assert type(model.q) is nn.Linear and type(model.parts[1]) is nn.Linear


def test_merging_an_untrained_one_gives_the_weight_back_to_the_last_bit():
    model = Two()
    weight = host(model.q.weight)
    nn.add_lora(model, ["q"])
    nn.merge_lora(model)
    assert np.array_equal(host(model.q.weight), weight)


def test_saving_the_corrections_alone(tmp_path):
    pytest.importorskip("safetensors")
    model = Two()
    start = {name: t.clone() for name, t in model.state_dict().items()}
    trained(model)
    z2g.save(nn.lora_state_dict(model), tmp_path / "lora.safetensors")
    assert set(z2g.load(tmp_path / "lora.safetensors")) == {
        f"{layer}.{part}" for layer in ("q", "parts.1") for part in ("lora_A", "lora_B", "scaling")
    }
    other = Two()
    other.load_state_dict(start)
    nn.add_lora(other, ["q", "1"], rank=2, alpha=1)  # another scale: the file's counts
    nn.load_lora_state_dict(other, z2g.load(tmp_path / "lora.safetensors"))
    x = z2g.randn(4, 32)
    assert np.array_equal(host(other(x)), host(model(x)))
    third = Two()
    nn.add_lora(third, ["q"], rank=2)
    with pytest.raises(RuntimeError, match=r"'parts.1.lora_A' is only on one side"):
        nn.load_lora_state_dict(third, z2g.load(tmp_path / "lora.safetensors"))
    fourth = Two()
    nn.add_lora(fourth, ["q", "1"], rank=3)
    with pytest.raises(RuntimeError, match="size mismatch"):
        nn.load_lora_state_dict(fourth, z2g.load(tmp_path / "lora.safetensors"))


def test_lora_on_what_it_cannot_change_is_refused():
    with pytest.raises(ValueError, match="no layer of Two has the name w"):
        nn.add_lora(Two(), ["q", "w"])
    with pytest.raises(TypeError, match="expected a Linear or QuantizedLinear, got ReLU"):
        nn.add_lora(Two(), ["0"])
    with pytest.raises(ValueError, match="rank must be at least 1"):
        nn.LoRA(nn.Linear(2, 2), rank=0)


# --- What they are made with -------------------------------------------------------------------------------------


def test_set_submodule():
    model, new = Two(), nn.Linear(8, 3)
    model.set_submodule("parts.1", new)
    assert model.parts[1] is new and model.get_submodule("parts.1") is new
    model.set_submodule("q", new)
    assert model.q is new
    for wrong in ("parts.7", "w", "q.weight", "w.x"):
        with pytest.raises(AttributeError, match="has no module"):
            model.set_submodule(wrong, new)


def test_embedding_from_pretrained():
    rows = z2g.tensor([[1.0, 2.0], [3.0, 4.0]])
    table = nn.Embedding.from_pretrained(rows)
    assert not table.weight.requires_grad and table(z2g.tensor([1])).tolist() == [[3.0, 4.0]]
    assert nn.Embedding.from_pretrained(rows, freeze=False).weight.requires_grad
    assert (table.num_embeddings, table.embedding_dim) == (2, 2)
