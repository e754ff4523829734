"""Saving and loading: what goes in comes out; broken files say so; an interrupted save leaves the old file."""

import errno
import io
import json
import math
import os
import pickle
import stat
import struct
import subprocess
import sys
import textwrap
import threading
import tracemalloc
from collections import Counter, OrderedDict, namedtuple
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from numeric import host

import tinygrad_z2g as z2g
from tinygrad_z2g import nn, optim


def same(a, b):
    """Equal structures: tensors with dtype, shape and bits, everything else with its type."""
    if isinstance(a, z2g.Tensor):
        assert isinstance(b, z2g.Tensor)
        assert a.dtype == b.dtype
        assert np.array_equal(host(a), host(b), equal_nan=a.is_floating_point())
        assert host(a).shape == host(b).shape
    elif isinstance(a, dict):
        assert type(a) is type(b)
        assert list(a) == list(b)  # the order too
        assert [type(key) for key in a] == [type(key) for key in b]
        for key in a:
            same(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert type(a) is type(b)
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
    "tuples": ((), [(1,), {"deep": (z2g.ones(2), None)}]), "shape": z2g.ones(2, 3).shape,
    "ordered": OrderedDict(b=1, a=OrderedDict()), "keys": {2: "int", 1.5: "float", True: "bool", None: "none"},
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
        sequences = st.lists(inner, max_size=3)
        return sequences | sequences.map(tuple) | st.dictionaries(st.text(max_size=3), inner, max_size=3)

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
    same(state["model"], loaded["model"])
    assert all(t.device.type == device for t in loaded["model"].values())
    twin = make(nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3)).parameters())
    twin.load_state_dict(loaded["optimizer"])
    a, b = optimizer.state_dict(), twin.state_dict()
    assert a["param_groups"] == b["param_groups"]
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


def write_file(path, tensors, metadata=None):
    """A safetensors file of (dtype, shape, bytes) by name, written by hand."""
    header, end = {"__metadata__": metadata or {}}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + len(data)]}
        end += len(data)
    head = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + b"".join(data for _, _, data in tensors.values()))


def test_bfloat16_loads_exactly_as_float32(device, tmp_path):
    """All 65,536 of them: a bfloat16 is the upper half of a float32."""
    bits = np.arange(2**16, dtype=np.uint16)
    write_file(tmp_path / "f", {"x": ("BF16", [256, 256], bits.tobytes()), "one": ("BF16", [], b"\x80\x3f")})
    found = z2g.load(tmp_path / "f")
    assert found["x"].dtype == z2g.float32 and found["x"].shape == (256, 256)
    assert np.array_equal(found["x"].numpy().reshape(-1).view(np.uint32), bits.astype(np.uint32) * 2**16)
    assert found["one"].item() == 1.0
    with np.errstate(invalid="ignore"):  # 1 sign, 8 bits of exponent, 7 of fraction, by the definition
        sign, exponent, fraction = 1 - 2.0 * (bits >> 15), (bits >> 7 & 255).astype(float), bits & 127
        normal = sign * (1 + fraction / 128) * 2.0 ** (exponent - 127)
        values = np.where(exponent == 0, sign * fraction / 128 * 2.0**-126, normal)
    finite = exponent < 255
    assert np.array_equal(found["x"].numpy().reshape(-1)[finite], values[finite].astype(np.float32))


SIZES = {"C64": 8, "U64": 8, "U32": 4, "U16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "F4": 1, "X": 1}


@pytest.mark.parametrize("kind", SIZES)
def test_other_types_of_the_format_are_refused_by_name(tmp_path, kind):
    write_file(tmp_path / "f", {"good": ("F32", [1], bytes(4)), "a.b": (kind, [2], bytes(2 * SIZES[kind]))})
    with pytest.raises(ValueError, match=rf"load: .*f: 'a.b' has the type {kind}; expected one of F64, .*BOOL"):
        z2g.load(tmp_path / "f")


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool"])
def test_the_format_as_others_write_and_read_it(tmp_path, dtype):
    rng = np.random.default_rng(0)
    arrays = {
        name: np.asarray(rng.integers(0, 2, shape)).astype(dtype)
        for name, shape in [("b", (2, 3)), ("a", ()), ("c", (0, 4)), ("ä.weight", (5,))]
    }
    arrays["other"] = rng.standard_normal(3)
    safetensors.numpy.save_file(arrays, tmp_path / "theirs")
    found = z2g.load(tmp_path / "theirs")
    assert found.keys() == arrays.keys()
    z2g.save(found, tmp_path / "ours")
    again = safetensors.numpy.load_file(tmp_path / "ours")
    for name, array in arrays.items():
        for other in (found[name].numpy(), again[name]):
            assert other.dtype == array.dtype and other.shape == array.shape and np.array_equal(other, array)


def test_save_and_load_need_numpy_alone(tmp_path):
    code = """
        import sys
        for name in ("safetensors", "torch", "tqdm", "matplotlib"):
            sys.modules[name] = None
        import tinygrad_z2g as z2g
        z2g.save({"x": z2g.ones(2)}, sys.argv[1])
        print(z2g.load(sys.argv[1])["x"].tolist())
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "f")], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(Path(z2g.__file__).parent.parent)},
    )  # fmt: skip
    assert run.stdout == "[1.0, 1.0]\n"


def test_numbers_of_numpy_come_back_as_pythons(tmp_path):
    numbers = {"a": np.float64(0.1), "b": np.float32(0.5), "c": np.int64(3), "d": np.bool_(1), np.int8(4): np.str_("e")}
    z2g.save(numbers, tmp_path / "f")
    same({"a": 0.1, "b": 0.5, "c": 3, "d": True, 4: "e"}, z2g.load(tmp_path / "f"))


def test_files_of_earlier_versions_load(tmp_path):
    """Tuples were lists in them."""
    structure = {"dict": [["betas", {"list": [{"value": 0.9}, {"value": 0.99}]}], ["w", {"tensor": "w"}]]}
    write_file(tmp_path / "f", {"w": ("F32", [1], bytes(4))}, {"tinygrad_z2g": json.dumps(structure)})
    assert z2g.load(tmp_path / "f")["betas"] == [0.9, 0.99]


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


def header(entries):
    text = json.dumps({n: {"dtype": d, "shape": s, "data_offsets": o} for n, (d, s, o) in entries.items()}).encode()
    return struct.pack("<Q", len(text)) + text


FOREIGN = {
    "text": b"just some text, long enough for a header",
    "pickle": b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x01a\x94K\x01s.",
    "zip": b"PK\x03\x04" + bytes(60),
    "zeros": bytes(100),
    "huge header": struct.pack("<Q", 2**63) + b"{}",
    "json, no tensors": struct.pack("<Q", 2) + b"[]",
    "no length": b"abc",
    "a gap": header({"x": ("F32", [1], [4, 8])}) + bytes(8),
    "an overlap": header({"x": ("F32", [2], [0, 8]), "y": ("F32", [1], [4, 8])}) + bytes(8),
    "too short": header({"x": ("F32", [2], [0, 8])}) + bytes(7),
    "too long": header({"x": ("F32", [2], [0, 8])}) + bytes(9),
    "another size": header({"x": ("F32", [3], [0, 8])}) + bytes(8),
    "a negative size": header({"x": ("F32", [-2, -1], [0, 8])}) + bytes(8),
    "no bool": header({"x": ("BOOL", [2], [0, 2])}) + b"\x01\x02",
    "a name twice": struct.pack("<Q", 126)
    + b"{"
    + b",".join([b'"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'] * 2).ljust(124)
    + b"}"
    + bytes(4),
    "metadata, no text": struct.pack("<Q", 27) + b'{"__metadata__": {"a": [1]}}'[:27] + b"}",
    "no entry": struct.pack("<Q", 8) + b'{"x": 3}',
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
        ([z2g.ones(1), {1}], "set at 'data.1'"),
        (b"x", "bytes at 'data'"),
        ({"a": {1, 2}}, "set"),
        ({"a": b"x"}, "bytes at 'a'"),
        ({"a": [Counter("ab")]}, r"Counter at 'a.0'"),  # what would come back as something else
        ({"a": namedtuple("Pair", "x y")(1, 2)}, "Pair at 'a'"),
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


# --- Where it is saved -------------------------------------------------------------------------------------------


def test_a_link_is_followed(tmp_path, monkeypatch):
    real, folder = tmp_path / "real", tmp_path / "folder"
    real.mkdir()
    data = good_file(real / "model")
    (tmp_path / "link").symlink_to(real / "model")
    (tmp_path / "second").symlink_to("link")  # a link to a link, relative
    (tmp_path / "new").symlink_to(real / "not yet")
    folder.symlink_to(real)
    for name in ("link", "second", "folder/model"):
        (real / "model").write_bytes(data)
        z2g.save({"x": z2g.zeros(2)}, tmp_path / name)
        assert (tmp_path / "link").is_symlink() and (tmp_path / "second").is_symlink() and folder.is_symlink()
        assert z2g.load(real / "model")["x"].tolist() == [0.0, 0.0]
    z2g.save({"x": z2g.ones(1)}, tmp_path / "new")
    assert (tmp_path / "new").is_symlink() and z2g.load(real / "not yet")["x"].tolist() == [1.0]
    assert {p.name for p in real.iterdir()} == {"model", "not yet"}
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match=r"save: .*links"):
        z2g.save({}, tmp_path / "a")
    assert (tmp_path / "a").is_symlink()


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "link", "folder", "/dev/null"):
        path = tmp_path / name
        kind = stat.S_IFMT(path.stat().st_mode)
        with pytest.raises(OSError, match="it is no regular file") as caught:
            z2g.save({"x": z2g.ones(1)}, path)
        assert path.name in str(caught.value) or name == "link"
        assert stat.S_IFMT(path.stat().st_mode) == kind
    assert {p.name for p in tmp_path.iterdir()} == {"pipe", "link", "folder"}


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o777])
def test_the_permissions_of_an_old_file_are_kept(tmp_path, monkeypatch, mode):
    path = tmp_path / "model"
    path.write_bytes(b"")
    path.chmod(mode)
    seen = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (seen.append(stat.S_IMODE(os.fstat(fd).st_mode)), fsync(fd)))
    z2g.save({"x": z2g.ones(1)}, path)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert seen[0] & ~mode == 0  # at no time could more people read it


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_file_that_may_not_be_written_is_refused(tmp_path):
    path = tmp_path / "model"
    path.write_bytes(b"")
    path.chmod(0o444)
    with pytest.raises(PermissionError, match="may not be written"):
        z2g.save({}, path)


def test_threads_that_save_to_one_path(tmp_path):
    """At every moment the file is whole; in the end it is one of the last; nothing is left behind."""
    path, errors, done = tmp_path / "model", [], threading.Event()
    states = [{"x": z2g.full((5000 + 1000 * i,), float(i)), "writer": i} for i in range(6)]
    z2g.save(states[0], path)

    def write(i):
        try:
            for _ in range(8):
                z2g.save(states[i], path)
        except BaseException as error:
            errors.append(error)

    def read():
        while not done.is_set():
            try:
                found = z2g.load(path)
                same(states[found["writer"]], found)
            except BaseException as error:
                errors.append(error)

    writers = [threading.Thread(target=write, args=(i,)) for i in range(6)]
    reader = threading.Thread(target=read)
    for thread in [*writers, reader]:
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()
    assert errors == []
    found = z2g.load(path)
    same(states[found["writer"]], found)
    assert list(tmp_path.iterdir()) == [path]


def test_processes_that_save_to_one_path(tmp_path):
    code = """
        import sys, tinygrad_z2g as z2g
        for _ in range(20):
            z2g.save({"x": z2g.full((20000,), float(sys.argv[2])), "writer": int(sys.argv[2])}, sys.argv[1])
    """
    path, environment = tmp_path / "model", {**os.environ, "PYTHONPATH": str(Path(z2g.__file__).parent.parent)}
    command = [sys.executable, "-c", textwrap.dedent(code), str(path)]
    running = [subprocess.Popen([*command, str(i)], env=environment, stderr=subprocess.PIPE) for i in range(3)]
    assert [(p.communicate(timeout=60)[1], p.returncode) for p in running] == [(b"", 0)] * 3
    found = z2g.load(path)
    assert z2g.equal(found["x"], z2g.full((20000,), float(found["writer"])))
    assert list(tmp_path.iterdir()) == [path]


def test_a_structure_that_contains_itself_is_refused(tmp_path):
    loop = {}
    loop["itself"] = [loop]
    with pytest.raises(ValueError, match="contains itself"):
        z2g.save(loop, tmp_path / "f")
    assert not list(tmp_path.iterdir())


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


# --- Whole modules, single tensors, what is already open -----------------------------------------------------------


RAN = []


class Planted:
    """What a pickle can do when it is read: call any function."""

    def __reduce__(self):
        return note_that_it_ran, ()


def note_that_it_ran():
    RAN.append(1)


def test_a_module_is_pickled_and_read_only_when_told_to(tmp_path):
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    path = tmp_path / "model.pt"
    for stored in (model, {"model": model, "epoch": 3}):
        z2g.save(stored, path)
        for default in ({}, {"weights_only": True}, {"weights_only": None}):
            with pytest.raises(ValueError, match=r"model\.pt.*weights_only=False"):
                z2g.load(path, **default)
        found = z2g.load(path, weights_only=False)
        twin = found if stored is model else found["model"]
        assert z2g.equal(twin(z2g.ones(1, 2)), model(z2g.ones(1, 2))) and isinstance(twin[0].weight, nn.Parameter)
    assert list(tmp_path.iterdir()) == [path]


def test_no_code_in_a_file_runs_by_default(tmp_path):
    path = tmp_path / "bad.pt"
    path.write_bytes(pickle.dumps(Planted()))
    for default in ({}, {"weights_only": True}):
        with pytest.raises(ValueError, match="any code"):
            z2g.load(path, **default)
    assert RAN == []
    z2g.load(path, weights_only=False)
    assert RAN == [1]


def test_a_safe_file_is_read_safely_also_when_pickles_are_allowed(tmp_path):
    z2g.save({"x": z2g.ones(2)}, tmp_path / "x")
    assert z2g.load(tmp_path / "x", weights_only=False)["x"].tolist() == [1, 1]


def test_single_tensors_lists_and_open_files(tmp_path):
    z2g.save(z2g.arange(3), tmp_path / "one")
    assert z2g.load(tmp_path / "one").tolist() == [0, 1, 2]
    z2g.save([z2g.ones(1), ("a", 2)], tmp_path / "several")
    found = z2g.load(tmp_path / "several")
    assert found[0].tolist() == [1] and found[1] == ("a", 2)
    buffer = io.BytesIO()
    z2g.save({"w": z2g.ones(2)}, buffer)
    buffer.seek(0)
    assert z2g.load(buffer, map_location=lambda storage, where: storage)["w"].tolist() == [1, 1]
    assert z2g.load(tmp_path / "one", map_location={"cuda:0": "cpu"}).device.type == "cpu"
