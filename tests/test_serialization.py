"""Saving and loading: what goes in comes out; broken files say so; an interrupted save leaves the old file."""

import errno
import json
import math
import os
import stat
import struct
import tracemalloc

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from numeric import host

import tinygrad_z2g as z2g
from tinygrad_z2g import nn, optim


def same(a, b):
    """Equal structures: tensors with dtype, shape and bits, everything else with its type. A tuple became a list."""
    if isinstance(a, z2g.Tensor):
        assert isinstance(b, z2g.Tensor)
        assert a.dtype == b.dtype
        assert np.array_equal(host(a), host(b), equal_nan=a.is_floating_point())
        assert host(a).shape == host(b).shape
    elif isinstance(a, dict):
        assert list(a) == list(b)  # the order too
        assert [type(key) for key in a] == [type(key) for key in b]
        for key in a:
            same(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert isinstance(b, list)
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            same(x, y)
    else:
        assert type(a) is type(b)
        assert a == b or (math.isnan(a) and math.isnan(b))


# --- Round trips -------------------------------------------------------------------------------------------------

DTYPES = ["float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0,), (2, 0)], ids=str)
def test_tensors_of_every_kind(device, tmp_path, dtype, shape):
    x = z2g.tensor(np.random.default_rng(0).integers(0, 2, shape), dtype=dtype)
    z2g.save({"x": x}, tmp_path / "f")
    same({"x": x.cpu()}, z2g.load(tmp_path / "f"))


def test_views_are_saved_as_they_look(tmp_path):
    x = z2g.arange(6).reshape(2, 3)
    views = {"transposed": x.T, "part": x[:, 1:], "reversed": x.flip(1), "expanded": x[:1].expand(4, 3), "row": x[1]}
    z2g.save(views, tmp_path / "f")
    same(views, z2g.load(tmp_path / "f"))


NESTED = {
    "step": 3, "loss": 0.1 + 0.2, "name": "cats \n ä 'quoted'", "done": False, "nothing": None,
    "nan": math.nan, "inf": -math.inf, "big": 2**70,
    "lists": [1, [2.5, None, [True]], []], "tuple": (0.9, 0.999), "empty": {},
    "state": {0: {"exp_avg": z2g.ones(2), "step": 7}, 10: {}, "0": "a string beside the number"},
    "tensors": [z2g.zeros(1), {"deep": z2g.ones(1, 2)}],
    "": "empty key", "with.dot": 1, "ключ": 2,
}  # fmt: skip


def test_nested_structures(tmp_path):
    z2g.save(NESTED, tmp_path / "f")
    same(NESTED, z2g.load(tmp_path / "f"))


def plain(depth):
    """Numbers, strings, bools, None, and lists and dicts of them."""
    leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)

    def grow(inner):
        return st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)

    return st.recursive(leaves, grow, max_leaves=depth)


@given(st.dictionaries(st.text(max_size=5), plain(8), max_size=4))
def test_any_plain_structure(tmp_path_factory, structure):
    path = tmp_path_factory.getbasetemp() / "structure"
    z2g.save(structure, path)
    same(structure, z2g.load(path))


@pytest.mark.parametrize(
    "make", [lambda p: optim.AdamW(p, lr=0.1, betas=(0.5, 0.6)), lambda p: optim.SGD(p, momentum=0.9)]
)
def test_model_and_optimizer_together(device, tmp_path, make):
    model = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))
    optimizer = make(model.parameters())
    model(z2g.randn(4, 2)).square().mean().backward()
    optimizer.step()
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "random": z2g.manual_seed(3).get_state()}
    z2g.save(state, tmp_path / "f")
    loaded = z2g.load(tmp_path / "f", map_location=device)
    same(dict(state["model"]), loaded["model"])
    assert all(t.device.type == device for t in loaded["model"].values())
    twin = make(nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3)).parameters())
    twin.load_state_dict(loaded["optimizer"])
    a, b = optimizer.state_dict(), twin.state_dict()
    assert a["param_groups"] == b["param_groups"]  # tuples are tuples again
    for number, values in a["state"].items():
        for key, value in values.items():
            same(value, b["state"][number][key])


def test_loaded_tensors_can_be_written(tmp_path):
    z2g.save({"x": z2g.zeros(2)}, tmp_path / "f")
    x = z2g.load(tmp_path / "f")["x"]
    x += 1
    assert x.tolist() == [1.0, 1.0]
    assert z2g.load(tmp_path / "f")["x"].tolist() == [0.0, 0.0]


def test_trap_35_saving_changes_nothing(device, tmp_path):
    model = nn.Linear(2, 3)
    optimizer = optim.Adam(model.parameters())
    model(z2g.ones(1, 2)).sum().backward()
    optimizer.step()
    parameters = list(model.parameters())
    arrays = [p.array for p in parameters]
    before = [(host(p), host(p.grad), str(p.device), p.requires_grad, p._version) for p in parameters]
    z2g.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "f")
    assert all(p.array is a for p, a in zip(parameters, arrays, strict=True))
    for p, (value, grad, place, requires_grad, version) in zip(parameters, before, strict=True):
        assert np.array_equal(host(p), value)
        assert np.array_equal(host(p.grad), grad)
        assert (str(p.device), p.requires_grad, p._version) == (place, requires_grad, version)


# --- The format --------------------------------------------------------------------------------------------------


def test_a_state_dict_is_a_plain_safetensors_file(device, tmp_path):
    """Other programs find each tensor under its name."""
    model = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))
    z2g.save(model.state_dict(), tmp_path / "model.safetensors")
    found = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    assert set(found) == {"0.weight", "0.bias", "1.weight", "1.bias"}
    for name, tensor in model.state_dict().items():
        assert np.array_equal(found[name], host(tensor))
    z2g.save({"model": model.state_dict(), "step": 1}, tmp_path / "nested")
    assert "model.0.weight" in safetensors.numpy.load_file(tmp_path / "nested")


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}], ids=str)
def test_files_made_elsewhere_load_by_name(device, tmp_path, metadata):
    arrays = {"weight": np.ones((3, 2), np.float32), "bias": np.arange(3, dtype=np.float32)}
    safetensors.numpy.save_file(arrays, tmp_path / "f", metadata=metadata)
    loaded = z2g.load(str(tmp_path / "f"))
    assert {name: t.tolist() for name, t in loaded.items()} == {name: a.tolist() for name, a in arrays.items()}
    assert {str(t.device) for t in loaded.values()} == {"cpu"}  # the default, whatever new tensors do
    layer = nn.Linear(2, 3)
    layer.load_state_dict(loaded)
    assert layer.bias.tolist() == [0.0, 1.0, 2.0]


def test_nothing_in_a_file_is_executed(tmp_path):
    """Names and strings that look like code stay text."""
    text = {"__import__('os').system('true')": "exec('1/0')", "__reduce__": ["os.system"]}
    z2g.save(text, tmp_path / "f")
    assert z2g.load(tmp_path / "f") == text


# --- Broken files ------------------------------------------------------------------------------------------------


def good_file(path):
    z2g.save({"weight": z2g.ones(4, 4), "step": 2}, path)
    return path.read_bytes()


def test_truncated_files(tmp_path):
    path = tmp_path / "model.safetensors"
    data = good_file(path)
    for n in range(len(data)):
        path.write_bytes(data[:n])
        with pytest.raises(ValueError, match=r"model\.safetensors"):
            z2g.load(path)


FOREIGN = {
    "text": b"just some text, long enough for a header",
    "pickle": b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x01a\x94K\x01s.",
    "zip": b"PK\x03\x04" + bytes(60),
    "zeros": bytes(100),
    "huge header": struct.pack("<Q", 2**63) + b"{}",
    "json, no tensors": struct.pack("<Q", 2) + b"[]",
    "json, not closed": struct.pack("<Q", 10) + b'{"a": {}  ',
}


@pytest.mark.parametrize("data", FOREIGN.values(), ids=FOREIGN)
def test_foreign_files(tmp_path, data):
    path = tmp_path / "foreign.bin"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"foreign\.bin"):
        z2g.load(path)


def test_every_flipped_bit_is_noticed(tmp_path):
    """Each byte of the file in turn: a ValueError that names the file, or the same content (if only blanks changed)."""
    path = tmp_path / "flipped"
    data = good_file(path)
    noticed = 0
    for position in range(len(data)):
        for bit in (1, 128):
            path.write_bytes(data[:position] + bytes([data[position] ^ bit]) + data[position + 1 :])
            try:
                found = z2g.load(path)
            except ValueError as error:
                assert "flipped" in str(error)
                noticed += 1
            else:
                assert found.keys() == {"weight", "step"} and found["step"] == 2
                assert found["weight"].dtype == z2g.float32 and z2g.equal(found["weight"], z2g.ones(4, 4))
    assert noticed > 1.9 * len(data)  # all but the name of the sums and the blanks behind the header


@pytest.mark.parametrize(("old", "new"), [(b'"F32"', b'"I32"'), (b"[4,4]", b"[8,2]"), (b"weight", b"heigth")])
def test_numbers_that_are_read_as_others_are_noticed(tmp_path, old, new):
    path = tmp_path / "reread"
    data = good_file(path)
    assert old in data
    path.write_bytes(data.replace(old, new))
    with pytest.raises(ValueError, match="reread"):
        z2g.load(path)


def test_a_damaged_file_leaves_model_and_optimizer_as_they_were(tmp_path):
    """Everything is read and checked before anything is handed out."""
    model = nn.Linear(3, 2)
    path = tmp_path / "checkpoint"
    z2g.save({"model": model.state_dict(), "step": 1}, path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1  # the last number of the last tensor
    path.write_bytes(data)
    before = {name: p.tolist() for name, p in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"checkpoint.*'model\.(weight|bias)' has changed"):
        model.load_state_dict(z2g.load(path)["model"])
    assert {name: p.tolist() for name, p in model.state_dict().items()} == before


def test_an_oversized_header_allocates_nothing(tmp_path):
    """The header says 80 MB, then 2⁶³ bytes; the file has 100."""
    for size in (80 << 20, 2**63):
        (tmp_path / "huge").write_bytes(struct.pack("<Q", size) + b"{" + bytes(91))
        tracemalloc.start()
        try:
            with pytest.raises(ValueError, match="huge"):
                z2g.load(tmp_path / "huge")
            assert tracemalloc.get_traced_memory()[1] < 1 << 20
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("structure", ["3", "[1]", "{}", '{"tensor": "gone"}', '{"dict": 5}', '{"dict": [[[1], {}]]}'])
def test_a_damaged_structure_is_a_value_error(tmp_path, structure):
    path = tmp_path / "damaged"
    safetensors.numpy.save_file({"x": np.ones(1)}, path, metadata={"tinygrad_z2g": structure})
    with pytest.raises(ValueError, match="damaged"):
        z2g.load(path)


def test_files_that_cannot_be_read(tmp_path):
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(OSError, match=path.name):
            z2g.load(path)
    with pytest.raises(OSError, match="no_folder"):
        z2g.save({}, tmp_path / "no_folder" / "f")


# --- Saving ------------------------------------------------------------------------------------------------------


class Interrupted(BaseException):
    """As Ctrl-C: no Exception, so `except Exception` does not catch it."""


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "disk full"), Interrupted()], ids=["disk full", "interrupted"])
@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_an_interrupted_save_leaves_the_old_file(tmp_path, monkeypatch, function, error):
    path = tmp_path / "model"
    data = good_file(path)

    def fail(*args):
        raise error

    monkeypatch.setattr(os, function, fail)
    with pytest.raises(type(error)):
        z2g.save({"weight": z2g.zeros(100)}, path)
    monkeypatch.undo()
    assert path.read_bytes() == data
    assert list(tmp_path.iterdir()) == [path]  # and nothing else is left behind


@pytest.mark.parametrize("there", [True, False])
def test_a_full_disk(tmp_path, there):
    """The system takes 4,096 bytes of a file and no more: the old file stays whole, and the message says so."""
    resource = pytest.importorskip("resource", reason="this system has no limit for the size of files")
    path = tmp_path / "model"
    data = good_file(path) if there else b""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(OSError, match=r"save: .*") as caught:
            z2g.save({"weight": z2g.zeros(5000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.errno == errno.EFBIG and str(path) in str(caught.value)
    assert ("the file that was there is as before" if there else "no file was left behind") in str(caught.value)
    assert list(tmp_path.iterdir()) == [path] * there
    assert not there or path.read_bytes() == data


def test_what_cannot_be_stored_is_refused_before_anything_is_written(tmp_path):
    path = tmp_path / "model"
    data = good_file(path)
    for wrong, words in [
        ({"a": {"b": object()}}, "object at 'a.b'"),
        ({"a": [1, np.ones(2)]}, r"ndarray at 'a.1'"),
        ([z2g.ones(1)], "dict"),
        (z2g.ones(1), "dict"),
        ({"a": {1, 2}}, "set"),
        ({"a": 1j}, "complex"),
    ]:
        with pytest.raises(TypeError, match=words):
            z2g.save(wrong, path)
    assert path.read_bytes() == data
    assert list(tmp_path.iterdir()) == [path]


def test_keys_that_cannot_be_stored_are_refused(tmp_path):
    with pytest.raises(TypeError, match="key"):
        z2g.save({"a": {(1, 2): 3}}, tmp_path / "f")


def test_saving_replaces_an_older_file(tmp_path):
    path = tmp_path / "model"
    z2g.save({"weight": z2g.zeros(1000)}, path)
    z2g.save({"weight": z2g.ones(1)}, str(path))
    assert z2g.load(path)["weight"].tolist() == [1.0]
    assert list(tmp_path.iterdir()) == [path]


def test_a_relative_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    z2g.save({"x": z2g.ones(1)}, "model.safetensors")
    assert z2g.load("model.safetensors")["x"].tolist() == [1.0]


def test_the_file_has_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    z2g.save({"x": z2g.ones(1)}, tmp_path / "model")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "model")]
    assert modes[0] == modes[1]


COLLIDING = {
    "dot": {"a.b": z2g.zeros(1), "a": {"b": z2g.ones(1)}},
    "number and text": {1: z2g.zeros(1), "1": z2g.ones(1)},
    "list and dict": {"a.0": z2g.zeros(1), "a": [z2g.ones(1)]},
    "header": {"__metadata__": z2g.ones(1)},
}


@pytest.mark.parametrize("obj", COLLIDING.values(), ids=COLLIDING)
def test_no_tensor_is_lost_where_names_collide(tmp_path, obj):
    """Either they are kept apart, or save() says that it cannot; never a file without one of them."""
    try:
        z2g.save(obj, tmp_path / "f")
    except ValueError:
        return
    same(obj, z2g.load(tmp_path / "f"))


def test_the_header_is_readable_json(tmp_path):
    """A file explains itself: 8 bytes of length, then JSON."""
    data = good_file(tmp_path / "f")
    header = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])
    assert header["weight"]["shape"] == [4, 4]
    assert header["weight"]["dtype"] == "F32"


def test_a_tensor_may_have_any_name(tmp_path):
    path = tmp_path / "x.safetensors"
    z2g.save({"structure": z2g.ones(2), "tensors": z2g.zeros(1)}, path)
    loaded = z2g.load(path)
    assert loaded["structure"].tolist() == [1.0, 1.0] and loaded["tensors"].tolist() == [0.0]
