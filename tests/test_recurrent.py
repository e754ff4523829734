"""Recurrent layers of every kind, in both directions, over sequences of different lengths: against loops in NumPy."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numeric import check_along, host

import tinygrad_z2g as z2g
from tinygrad_z2g import nn
from tinygrad_z2g.nn.utils import rnn
from tinygrad_z2g.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def sigmoid(a: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-a))


def close(actual: Any, expected: Any, tolerance: float = 1e-10) -> None:
    actual = host(actual)
    assert actual.shape == np.shape(expected)
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


# --- The definitions, one example and one step at a time -------------------------------------------------------------

Step = Callable[..., list]


def rnn_step(bend: Callable) -> Step:
    return lambda i, s, h: [bend(i + s)]


def gru_step(i: np.ndarray, s: np.ndarray, h: np.ndarray) -> list:
    """r, z and n are three blocks of rows, in this order; r acts on what h sends, its bias included."""
    (ir, iz, i_n), (sr, sz, sn) = np.split(i, 3), np.split(s, 3)
    z = sigmoid(iz + sz)
    return [(1 - z) * np.tanh(i_n + sigmoid(ir + sr) * sn) + z * h]


def lstm_step(i: np.ndarray, s: np.ndarray, h: np.ndarray, c: np.ndarray) -> list:
    i, f, g, o = np.split(i + s, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return [sigmoid(o) * np.tanh(c), c]


KINDS: dict[str, tuple[Callable, Step, int]] = {  # the layer, its step, how many states
    "RNN": (nn.RNN, rnn_step(np.tanh), 1),
    "RNN relu": (lambda *a, **kw: nn.RNN(*a, nonlinearity="relu", **kw), rnn_step(lambda x: np.maximum(x, 0)), 1),
    "GRU": (nn.GRU, gru_step, 1),
    "LSTM": (nn.LSTM, lstm_step, 2),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def sequence_by_hand(p: dict, step: Step, x: np.ndarray, states: list, layers: int, both: bool) -> tuple:
    """x (L, in), states (layers · directions, H) each: what comes out on top, and the last states."""
    last: list[list] = [[] for _ in states]
    for layer in range(layers):
        found = []
        for ending in ("", "_reverse")[: 1 + both]:
            w_ih, w_hh = p[f"weight_ih_l{layer}{ending}"], p[f"weight_hh_l{layer}{ending}"]
            b_ih, b_hh = (p.get(f"{b}_l{layer}{ending}", 0) for b in ("bias_ih", "bias_hh"))
            state, out = [s[len(last[0])] for s in states], []
            for v in x[::-1] if ending else x:
                state = step(w_ih @ v + b_ih, w_hh @ state[0] + b_hh, *state)
                out.append(state[0])
            found.append(np.array(out[::-1] if ending else out))
            for of_kind, s in zip(last, state, strict=True):
                of_kind.append(s)
        x = np.concatenate(found, axis=1)
    return x, [np.array(s) for s in last]


def made(kind: str, layers: int, both: bool, bias: bool = True, **more: Any) -> tuple:
    """A layer in float64, its parameters as arrays, its step, and states for three sequences."""
    make, step, count = KINDS[kind]
    layer = make(2, 3, num_layers=layers, bias=bias, bidirectional=both, **more).double()
    for p in layer.parameters():
        nn.init.normal_(p, std=0.6)
    states = [normal(layers * (1 + both), 3, 3, seed=s + 1) for s in range(count)]
    return layer, {name: host(p) for name, p in layer.named_parameters()}, step, states


def as_hx(states: list) -> Any:
    tensors = tuple(z2g.tensor(s) for s in states)
    return tensors if len(tensors) == 2 else tensors[0]


def parts(state: Any) -> list:
    return list(state) if isinstance(state, tuple) else [state]


@every_kind
@pytest.mark.parametrize("with_state", [True, False], ids=["state", "no state"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize(("layers", "both"), [(1, False), (1, True), (3, False), (2, True)])
def test_a_batch_of_sequences(device, kind, layers, both, bias, with_state):
    layer, p, step, states = made(kind, layers, both, bias)
    states, x = [s * with_state for s in states], normal(4, 3, 2)
    out, last = layer(z2g.tensor(x), as_hx(states) if with_state else None)
    for n in range(3):
        expected, ends = sequence_by_hand(p, step, x[:, n], [s[:, n] for s in states], layers, both)
        close(out[:, n], expected)
        for s, end in zip(parts(last), ends, strict=True):
            close(s[:, n], end)


@every_kind
@pytest.mark.parametrize("both", [False, True], ids=["forwards", "both"])
def test_layouts(device, kind, both):
    """batch_first, and sequences without a batch: the same numbers. States keep their layout."""
    layer, _, _, states = made(kind, 2, both)
    x = normal(4, 3, 2)
    out, last = layer(z2g.tensor(x), as_hx(states))
    first = KINDS[kind][0](2, 3, num_layers=2, bidirectional=both, batch_first=True).double()
    first.load_state_dict(layer.state_dict())
    got, state = first(z2g.tensor(x.swapaxes(0, 1)), as_hx(states))
    close(got, host(out).swapaxes(0, 1))
    for a, b in zip(parts(state), parts(last), strict=True):
        close(a, host(b))
    for one in (layer, first):
        got, state = one(z2g.tensor(x[:, 1]), as_hx([s[:, 1] for s in states]))
        close(got, host(out)[:, 1])
        for a, b in zip(parts(state), parts(last), strict=True):
            close(a, host(b)[:, 1])


LENGTHS = {"fall": [4, 2, 2], "equal": [4, 4, 4], "any": [2, 4, 1]}


@every_kind
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("with_state", [True, False], ids=["state", "no state"])
@pytest.mark.parametrize(("layers", "both"), [(1, False), (2, True)])
def test_packed_sequences(device, kind, layers, both, with_state, lengths):
    """Each sequence as if it were alone: no padding enters, and the backward direction starts at its own end."""
    layer, p, step, states = made(kind, layers, both)
    states, x = [s * with_state for s in states], normal(4, 3, 2)
    packed = pack_padded_sequence(z2g.tensor(x), lengths, enforce_sorted=lengths == sorted(lengths, reverse=True))
    out, last = layer(packed, as_hx(states) if with_state else None)
    assert isinstance(out, PackedSequence) and out.batch_sizes is packed.batch_sizes
    padded, sizes = pad_packed_sequence(out, padding_value=7.0)
    assert sizes.tolist() == lengths
    for n, length in enumerate(lengths):
        expected, ends = sequence_by_hand(p, step, x[:length, n], [s[:, n] for s in states], layers, both)
        close(padded[:length, n], expected)
        assert (host(padded)[length:, n] == 7).all()
        for s, end in zip(parts(last), ends, strict=True):
            close(s[:, n], end)


def over(packed: bool) -> Callable:
    """A layer as a function of tensors alone, over a batch, or over a packed one."""

    def run(m: Any, x: Any, *states: Any) -> list:
        sequence = pack_padded_sequence(x, [3, 1], enforce_sorted=False) if packed else x
        out, last = m(sequence, states if len(states) == 2 else states[0])
        return [out.data if packed else out, *parts(last)]

    return run


@every_kind
@pytest.mark.parametrize("packed", [False, True], ids=["batch", "packed"])
def test_gradients_of_layers(kind, packed):
    make, _, count = KINDS[kind]
    layer = make(2, 2, num_layers=2, bidirectional=True).double()
    for p in layer.parameters():
        nn.init.normal_(p, std=0.7)
    inputs = [z2g.tensor(normal(3, 2, 2), requires_grad=True)]
    inputs += [z2g.tensor(normal(4, 2, 2, seed=1 + i), requires_grad=True) for i in range(count)]
    run = over(packed)
    check_along(lambda *xs: run(layer, *xs[: 1 + count]), [*inputs, *layer.parameters()])


@every_kind
def test_float32_stays_so_on_its_device(device, kind):
    make, _, count = KINDS[kind]
    layer, x = make(2, 3, num_layers=2, bidirectional=True), z2g.randn(4, 2, 2, requires_grad=True)
    results = over(True)(layer, x, *[z2g.zeros(4, 2, 3) for _ in range(count)])
    sum(z.sum() for z in results).backward()
    for t in [*results, x.grad, *(p.grad for p in layer.parameters())]:
        assert t.dtype == z2g.float32 and t.device == x.device and t.device.type == device


# --- Cells -------------------------------------------------------------------------------------------------------

CELLS = {
    "RNN": nn.RNNCell, "RNN relu": lambda *a, **kw: nn.RNNCell(*a, nonlinearity="relu", **kw), "GRU": nn.GRUCell,
    "LSTM": nn.LSTMCell,
}  # fmt: skip


@every_kind
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_cells(device, kind, bias):
    cell, (_, step, count) = CELLS[kind](2, 3, bias=bias).double(), KINDS[kind]
    p = {name: host(value) for name, value in cell.named_parameters()}
    x, states = normal(4, 2), [normal(4, 3, seed=1 + s) for s in range(count)]
    b_ih, b_hh = p.get("bias_ih", 0), p.get("bias_hh", 0)
    new = parts(cell(z2g.tensor(x), as_hx(states)))
    for n in range(4):
        state = [s[n] for s in states]
        expected = step(p["weight_ih"] @ x[n] + b_ih, p["weight_hh"] @ state[0] + b_hh, *state)
        alone = parts(cell(z2g.tensor(x[n]), as_hx(state)))
        for got, one, value in zip(new, alone, expected, strict=True):
            close(got[n], value)
            close(one, value)
    zeros = [np.zeros((4, 3)) for _ in range(count)]
    for got, value in zip(parts(cell(z2g.tensor(x))), parts(cell(z2g.tensor(x), as_hx(zeros))), strict=True):
        close(got, host(value))


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_gradients_of_cells(device, kind):
    cell, count = CELLS[kind](2, 3).double(), KINDS[kind][2]
    inputs = [z2g.tensor(normal(2, n, seed=i), requires_grad=True) for i, n in enumerate([2] + [3] * count)]

    def run(*xs: Any) -> list:
        states = xs[1 : 1 + count]
        return parts(cell(xs[0], states if count == 2 else states[0]))

    check_along(run, [*inputs, *cell.parameters()])


def test_gate_order_is_r_z_n(device):
    """Large biases open or shut one gate at a time; any other order of the three blocks gives other numbers."""
    cell, h = nn.GRUCell(1, 1), 0.5
    for p in cell.parameters():
        nn.init.zeros_(p)

    def run(r: float, z: float, n: float, inner: float) -> float:
        with z2g.no_grad():
            cell.bias_ih.copy_(z2g.tensor([r, z, n]))
            cell.bias_hh.copy_(z2g.tensor([0, 0, inner]))
        return cell(z2g.ones(1, 1), z2g.full((1, 1), h)).item()

    shut, open_ = -100.0, 100.0
    assert run(shut, open_, 0.3, 0.2) == pytest.approx(h)  # keeps its state
    assert run(shut, shut, 0.3, 0.2) == pytest.approx(math.tanh(0.3))  # forgets it, and r hides what h sends
    assert run(open_, shut, 0.3, 0.2) == pytest.approx(math.tanh(0.5))  # r shows it


# --- Names and settings ------------------------------------------------------------------------------------------


def test_names_and_shapes_of_parameters():
    found = {name: tuple(p.shape) for name, p in nn.GRU(2, 3, num_layers=2, bidirectional=True).named_parameters()}
    expected = {}
    for layer, ending in itertools.product((0, 1), ("", "_reverse")):
        expected |= {
            f"weight_ih_l{layer}{ending}": (9, 6 if layer else 2), f"weight_hh_l{layer}{ending}": (9, 3),
            f"bias_ih_l{layer}{ending}": (9,), f"bias_hh_l{layer}{ending}": (9,),
        }  # fmt: skip
    assert found == expected and list(found) == list(expected)
    assert list(nn.RNNCell(2, 3, bias=False).state_dict()) == ["weight_ih", "weight_hh"]
    assert list(nn.GRUCell(2, 3).state_dict()) == ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]


@pytest.mark.parametrize("make", [nn.RNN, nn.GRU, nn.LSTM, nn.RNNCell, nn.GRUCell])
def test_starting_values_are_uniform_in_the_order_of_the_parameters(make):
    """±1/√H, drawn one parameter after the other."""
    z2g.manual_seed(3)
    layer = make(5, 16)
    z2g.manual_seed(3)
    for p in layer.parameters():
        drawn = nn.init.uniform_(z2g.zeros(*p.shape), -1 / 4, 1 / 4)
        assert np.array_equal(host(p), host(drawn)) and np.abs(host(p)).max() > 0.2


def test_settings_are_told():
    assert repr(nn.LSTM(2, 3)) == "LSTM(2, 3)"
    told = "GRU(2, 3, num_layers=2, bias=False, batch_first=True, dropout=0.5, bidirectional=True)"
    assert repr(nn.GRU(2, 3, 2, False, True, 0.5, True)) == told
    assert repr(nn.RNNCell(2, 3, False, "relu")) == "RNNCell(2, 3, bias=False, nonlinearity=relu)"
    nn.RNN(2, 3).flatten_parameters()


def test_dropout_acts_between_layers_only(device):
    x = z2g.tensor(normal(4, 2, 2), dtype=z2g.float32)
    one, two = nn.GRU(2, 3, 1, dropout=1.0), nn.GRU(2, 3, 2, dropout=1.0)
    trained = host(one(x)[0])
    assert np.array_equal(host(one.eval()(x)[0]), trained)
    second = nn.GRU(3, 3)
    second.load_state_dict({name.replace("l1", "l0"): p for name, p in two.state_dict().items() if "l1" in name})
    close(two(x)[0], host(second(z2g.zeros(4, 2, 3))[0]), 1e-6)
    packed = pack_padded_sequence(x, [4, 2])
    close(two(packed)[0].data, host(second(PackedSequence(z2g.zeros(6, 3), packed.batch_sizes))[0].data), 1e-6)
    assert np.abs(host(two.eval()(x)[0]) - host(two.train()(x)[0])).max() > 0.01


def test_a_carried_state_continues_the_sequence(device):
    layer, x = nn.GRU(2, 3, num_layers=2).double(), z2g.tensor(normal(6, 2, 2))
    first, state = layer(x[:4])
    close(z2g.cat([first, layer(x[4:], state)[0]]), host(layer(x)[0]))


@every_kind
def test_no_steps_or_no_examples(device, kind):
    make, _, count = KINDS[kind]
    layer = make(2, 3)
    out, last = layer(z2g.zeros(5, 0, 2))
    assert out.shape == (5, 0, 3) and [s.shape for s in parts(last)] == [(1, 0, 3)] * count
    out, last = layer(z2g.zeros(0, 2, 2), as_hx([np.ones((1, 2, 3), np.float32)] * count))
    assert out.shape == (0, 2, 3) and host(parts(last)[0]).tolist() == [[[1.0] * 3] * 2]


@every_kind
def test_perturbing_a_step_changes_none_before(device, kind):
    layer, x = KINDS[kind][0](2, 3, num_layers=2), z2g.randn(6, 1, 2)
    before = host(layer(x)[0])
    for t in range(6):
        changed = x.clone()
        changed[t] = 5.0
        assert np.array_equal(host(layer(changed)[0])[:t], before[:t])


# --- Sequences of different lengths --------------------------------------------------------------------------------


def some() -> list:
    return [z2g.tensor([1.0, 2.0]), z2g.tensor([3.0, 4.0, 5.0]), z2g.tensor([6.0])]


def test_packing_goes_step_by_step(device):
    packed = rnn.pack_sequence(some(), enforce_sorted=False)
    assert packed.data.tolist() == [3.0, 1.0, 6.0, 4.0, 2.0, 5.0]
    assert packed.batch_sizes.tolist() == [3, 2, 1] and packed.batch_sizes.device.type == "cpu"
    assert packed.sorted_indices.tolist() == [1, 0, 2] and packed.unsorted_indices.tolist() == [1, 0, 2]
    assert [x.tolist() for x in rnn.unpack_sequence(packed)] == [x.tolist() for x in some()]
    assert [tuple(piece.shape) for piece in packed.pieces()] == [(1, 3), (1, 2), (1, 1)]
    falling = rnn.pack_sequence(sorted(some(), key=len, reverse=True))
    assert falling.sorted_indices is None and falling.data.tolist() == packed.data.tolist()


@pytest.mark.parametrize("batch_first", [False, True])
def test_padding_and_back(device, batch_first):
    padded = rnn.pad_sequence(some(), batch_first, -1.0)
    rows = [[1.0, 2.0, -1.0], [3.0, 4.0, 5.0], [6.0, -1.0, -1.0]]
    assert padded.tolist() == (rows if batch_first else np.transpose(rows).tolist())
    left = rnn.pad_sequence(some(), True, -1.0, padding_side="left")
    assert left.tolist() == [[-1.0, 1.0, 2.0], [3.0, 4.0, 5.0], [-1.0, -1.0, 6.0]]
    back = rnn.unpad_sequence(padded, z2g.tensor([2, 3, 1], device="cpu"), batch_first)
    assert [x.tolist() for x in back] == [x.tolist() for x in some()]
    packed = pack_padded_sequence(padded, [2, 3, 1], batch_first, enforce_sorted=False)
    again, lengths = pad_packed_sequence(packed, batch_first, -1.0, total_length=4)
    expected = [[*row, -1.0] for row in rows]
    assert again.tolist() == (expected if batch_first else np.transpose(expected).tolist())
    assert lengths.tolist() == [2, 3, 1] and lengths.device.type == "cpu"


def test_gradients_go_back_to_where_the_numbers_came_from(device):
    xs = [z2g.tensor(normal(n, 2, seed=n), requires_grad=True) for n in (2, 4, 1)]

    def there_and_back(*xs: Any) -> Any:
        return pad_packed_sequence(rnn.pack_sequence(xs, enforce_sorted=False), total_length=5)[0]

    assert z2g.gradcheck(there_and_back, xs)
    assert z2g.gradcheck(lambda x: rnn.unpad_sequence(x, [1, 3, 2])[1:], [z2g.tensor(normal(3, 3), requires_grad=True)])


def test_a_packed_sequence_moves(device):
    packed = rnn.pack_sequence(some(), enforce_sorted=False).double().cpu().to(device).float()
    assert packed.data.dtype == z2g.float32 and packed.data.device.type == device
    assert packed.sorted_indices.device.type == device and packed.batch_sizes.device.type == "cpu"


def x(*shape: int) -> z2g.Tensor:
    return z2g.ones(*shape)


REFUSED: dict[str, tuple[Callable, type, str]] = {
    "rising lengths": (lambda: pack_padded_sequence(x(3, 2), [1, 3]), RuntimeError, "enforce_sorted=False"),
    "length 0": (lambda: pack_padded_sequence(x(3, 2), [3, 0]), RuntimeError, "1 to 3"),
    "too long": (lambda: pack_padded_sequence(x(3, 2), [4, 1]), RuntimeError, "1 to 3"),
    "too few lengths": (lambda: pack_padded_sequence(x(3, 2), [3]), RuntimeError, "1 lengths for a batch of 2"),
    "lengths as floats": (lambda: pack_padded_sequence(x(3, 1), x(1)), RuntimeError, "integers"),
    "no sequences": (lambda: rnn.pad_sequence([]), RuntimeError, "no sequences"),
    "other widths": (lambda: rnn.pad_sequence([x(3, 2), x(3, 1)]), RuntimeError, r"\(3, 1\)"),
    "side": (lambda: rnn.pad_sequence([x(3)], padding_side="top"), RuntimeError, "padding_side"),
    "total_length": (
        lambda: pad_packed_sequence(rnn.pack_sequence([x(3)]), total_length=2), ValueError, "at least the longest"
    ),
    "not packed": (lambda: pad_packed_sequence(x(3)), TypeError, "PackedSequence"),
    "packed width": (lambda: nn.GRU(2, 3)(rnn.pack_sequence([x(3, 1)])), RuntimeError, r"GRU.*\(steps, 2\)"),
    "packed state": (lambda: nn.GRU(2, 3)(rnn.pack_sequence([x(3, 2)]), x(1, 2, 3)), RuntimeError, r"\(1, 1, 3\)"),
    "nonlinearity": (lambda: nn.RNN(2, 3, nonlinearity="sigmoid"), ValueError, "'tanh' or 'relu'"),
    "nonlinearity of a cell": (lambda: nn.RNNCell(2, 3, nonlinearity="selu"), ValueError, "'tanh' or 'relu'"),
    "proj_size": (lambda: nn.LSTM(2, 3, proj_size=1), NotImplementedError, "proj_size"),
    "state of both directions": (
        lambda: nn.GRU(2, 3, bidirectional=True)(x(4, 1, 2), x(1, 1, 3)), RuntimeError, r"\(2, 1, 3\)"
    ),
    "one state for two": (lambda: nn.LSTM(2, 3)(x(4, 1, 2), x(1, 1, 3)), TypeError, r"pair of Tensors \(h, c\)"),
    "two states for one": (lambda: nn.GRU(2, 3)(x(4, 1, 2), (x(1, 1, 3),) * 2), TypeError, "a Tensor"),
    "state of a cell": (lambda: nn.GRUCell(2, 3)(x(4, 2), x(4, 2)), RuntimeError, r"h of shape \(4, 3\)"),
    "input of a cell": (lambda: nn.RNNCell(2, 3)(x(4, 3)), RuntimeError, r"\(N, 2\)"),
}  # fmt: skip


@pytest.mark.parametrize("call, error, words", REFUSED.values(), ids=REFUSED)
def test_what_is_refused(call, error, words):
    with pytest.raises(error, match=words):
        call()
