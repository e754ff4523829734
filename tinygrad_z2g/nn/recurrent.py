"""Recurrent networks: a state that is carried from step to step.

Each kind is written three times: `..._step` says what it is, `..._scan` does all steps of a sequence as one operation,
and a cell and a layer hold the parameters. A layer stacks them, in both directions if asked to, over a batch of
sequences of equal or (packed) different lengths. It knows nothing of what the steps are (letters, days), and past a
call it remembers nothing: the caller carries the state.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import creation, fast
from ..arrays.backend import Array, device_of, of, to_device
from ..core.engine import RESULT, record, unchanged
from ..half.casting import to_half
from ..half.table import apply
from ..ops.common import beside
from ..ops.linalg import linear
from ..ops.shape import cat, stack
from ..tensor import Tensor
from ..walks.again import record_joint_fused
from . import functional as F
from . import init
from .module import Module, Parameter
from .utils.rnn import PackedSequence, join

# --- One step, and all steps as one operation ----------------------------------------------------------------------


def rnn_step(sums: Tensor, nonlinearity: str = "tanh") -> Tensor:
    """One step of a plain RNN, from W_ih x + b_ih + W_hh h + b_hh: h' = tanh(sums), or relu. (Elman 1990)"""
    return sums.tanh() if nonlinearity == "tanh" else F.relu(sums)


def rnn_scan(inputs: Tensor, h: Tensor, w: Tensor, nonlinearity: str = "tanh") -> Tensor:
    """`rnn_step` for every step t of a sequence, with sums = inputs[t] + w h: one operation for the whole layer.

    inputs (L, N, H), h (N, H), w (H, H) -> h after every step, (L, N, H).

    Derived, backwards from the last step, with dh = ∂L/∂h' after a step, which reaches L through the output and
    through the next step. h' = φ(s) gives d = ∂L/∂s = dh φ'(s), and φ' is 1 - h'² for tanh, and 1 where h' > 0 for
    relu. From s = inputs[t] + w h:  ∂L/∂inputs[t] = d,  ∂L/∂h = d w,  ∂L/∂w = Σ_t dᵀ h.
    With relu and a positive state each step multiplies by w: h' = 2 · 2 · h, and the gradient by both.
    >>> h = z2g.full((1, 1), 3.0, requires_grad=True)
    >>> out = nn.recurrent.rnn_scan(z2g.zeros(2, 1, 1), h, z2g.full((1, 1), 2.0), "relu")
    >>> out[-1].backward(); out.flatten().tolist(), h.grad
    ([6.0, 12.0], tensor([[4.]]))
    """
    relu = nonlinearity == "relu"
    out = fast.rnn(inputs.array, h.array, w.array, relu)
    return record_joint_fused(
        "rnn", out, (inputs, h, w), lambda grad, out, h, w: fast.rnn_backward(grad, out, h, w, relu), RESULT, h, w,
        twin=(lambda inputs, h, w: _plain_rnn(inputs, h, w, out, relu), inputs, h, w),
    )  # fmt: skip


def _plain_rnn(inputs: Tensor, h: Tensor, w: Tensor, out: Array, relu: bool) -> Tensor:
    """`rnn_scan` step by step. Of `inputs` nobody kept the numbers; those of h after each step are known."""

    def rule(grad: Any, h: Any) -> Any:
        return grad * (h > 0) if relu else grad * (1 - h * h)

    steps = []
    for t, x in enumerate(inputs):
        h = record("step", out[t], (x + linear(h, w), rule, RESULT))
        steps.append(h)
    return stack(steps) if steps else h.make(out)


def gru_step(inputs: Tensor, sums: Tensor, h: Tensor) -> Tensor:
    """One step of a GRU, from inputs = W_ih x + b_ih and sums = W_hh h + b_hh, (N, 3H) each, and the state h, (N, H).

    r = σ(inputs₁ + sums₁);  z = σ(inputs₂ + sums₂);  n = tanh(inputs₃ + r sums₃);  h' = (1 - z) n + z h.
    r says how much of the past enters the new content n, z how much of the state stays. (Cho et al. 2014,
    arXiv:1406.1078; with r outside of the product, as in cuDNN and torch)
    """
    (ir, iz, i_n), (sr, sz, sn) = inputs.chunk(3, dim=1), sums.chunk(3, dim=1)
    r, z = (ir + sr).sigmoid(), (iz + sz).sigmoid()
    n = (i_n + r * sn).tanh()
    return n + z * (h - n)


def gru_scan(inputs: Tensor, h: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    """`gru_step` for every step t of a sequence, with inputs[t] and sums = w h + b: one operation for the whole layer.

    inputs (L, N, 3H), h (N, H), w (3H, H), b (3H,) -> h after every step, (L, N, H).

    Derived, backwards from the last step, with dh = ∂L/∂h' after a step. h' = n + z (h - n) gives ∂L/∂n = dh (1 - z),
    ∂L/∂z = dh (h - n), and dh z for the step before. With the slopes 1 - n² and z (1 - z), dₙ and d_z are the gradients
    of what reaches n and z. n's is inputs₃ + r sums₃, so ∂L/∂r = dₙ sums₃, and r's own slope gives dᵣ.
    Then ∂L/∂inputs[t] = (dᵣ, d_z, dₙ),  s = ∂L/∂sums = (dᵣ, d_z, r dₙ), and from sums = w h + b
    ∂L/∂h = s w,  ∂L/∂w = Σ_t sᵀ h,  ∂L/∂b = Σ_t s.
    With all sums 0: r = z = 1/2, n = 0. Of h = 4 half is kept, and half of its gradient comes back.
    >>> h = z2g.full((1, 1), 4.0, requires_grad=True)
    >>> out = nn.recurrent.gru_scan(z2g.zeros(1, 1, 3), h, z2g.zeros(3, 1)); out.sum().backward()
    >>> out.item(), h.grad
    (2.0, tensor([[0.5000]]))
    """
    bias = None if b is None else b.array
    out, *kept = fast.gru(inputs.array, h.array, w.array, bias)
    given = [x for x in (inputs, h, w, b) if x is not None]
    return record_joint_fused(
        "gru", out, (inputs, h, w, b), lambda grad, out, h, w, kept: fast.gru_backward(grad, out, *kept, h, w),
        RESULT, h, w, kept,
        twin=(lambda inputs, h, w, b=None: _plain_gru(inputs, h, w, b, *kept), *given),
    )  # fmt: skip


def _plain_gru(inputs: Tensor, h: Tensor, w: Tensor, b: Tensor | None, gates: Array, inner: Array) -> Tensor:
    """`gru_scan` step by step. Of `inputs` and b nobody kept the numbers; those of the gates and of sums₃ are known."""
    steps = []
    for t, x in enumerate(inputs):
        (xr, xz, xn), (sr, sz, sn) = x.chunk(3, dim=1), linear(h, w, b).chunk(3, dim=1)
        r, z, n = of(gates).split(gates[t], 3, 1)
        r = record("gate", r, (xr + sr, lambda grad, s: grad * (s - s * s), RESULT))
        z = record("gate", z, (xz + sz, lambda grad, s: grad * (s - s * s), RESULT))
        sums = record("sums", inner[t], (sn, unchanged))
        n = record("gate", n, (xn + r * sums, lambda grad, n: grad * (1 - n * n), RESULT))
        h = (1 - z) * n + z * h
        steps.append(h)
    return stack(steps) if steps else h.make(gates[..., : h.array.shape[1]])


def lstm_step(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """One step of an LSTM, from the sums that reach its gates, (N, 4H), and the cell state c, (N, H).

    i, f, g, o = σ(gates₁), σ(gates₂), tanh(gates₃), σ(gates₄);   c' = f c + i g;   h' = o tanh(c').
    The cell forgets (f), takes in (i) new content (g), and shows (o) part of itself. Returns h', c'.
    (Hochreiter & Schmidhuber 1997; forget gate: Gers et al. 2000)
    """
    i, f, g, o = gates.chunk(4, dim=1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def lstm_scan(inputs: Tensor, h: Tensor, c: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """`lstm_step` for every step t of a sequence, with gates = inputs[t] + w h: one operation for the whole layer.

    inputs (L, N, 4H), h and c (N, H), w (4H, H) -> h after every step, (L, N, H), and the last c.

    Derived, backwards from the last step, with dh = ∂L/∂h' and dc = ∂L/∂c' after a step. h' = o tanh c' gives
    ∂L/∂o = dh tanh c' and dc += dh o (1 - tanh² c'); c' = f c + i g gives ∂L/∂f = dc c, ∂L/∂i = dc g, ∂L/∂g = dc i,
    and dc f for the step before. Each gate's slope, σ (1 - σ) or 1 - tanh², leads to d = ∂L/∂gates, and from there
    gates = inputs[t] + w h to ∂L/∂inputs[t] = d,  ∂L/∂h = d w,  ∂L/∂w = Σ_t dᵀ h.
    With all gates' sums 0: i, f, g, o = 1/2, 1/2, 0, 1/2. Of c = 4 half is kept, and half of its gradient comes back.
    >>> c = z2g.full((1, 1), 4.0, requires_grad=True)
    >>> _, last = nn.recurrent.lstm_scan(z2g.zeros(1, 1, 4), z2g.zeros(1, 1), c, z2g.zeros(4, 1))
    >>> last.backward(); last.item(), c.grad
    (2.0, tensor([[0.5000]]))
    """
    out, *kept = fast.lstm(inputs.array, h.array, c.array, w.array)
    both = record_joint_fused(
        "lstm", out, (inputs, h, c, w),
        lambda grad, out, h, w, kept: fast.lstm_backward(grad, out, *kept, h, w), RESULT, h, w, kept,
        twin=(lambda inputs, h, c, w: _plain_scan(inputs, h, c, w, *kept), inputs, h, c, w),
    )  # fmt: skip
    return both[:-1], both[-1]


def _plain_scan(inputs: Tensor, h: Tensor, c: Tensor, w: Tensor, gates: Array, cells: Array, _: Array) -> Tensor:
    """`lstm_scan` step by step: all h, and the last c after them. Of `inputs` and c nobody kept the numbers; those of
    the gates and of the first c are known."""
    steps = []
    c = record("alias", cells[0], (c, unchanged))
    for t, x in enumerate(inputs):
        i, f, g, o = record("gates", gates[t], (x + linear(h, w), _through_gates, RESULT)).chunk(4, dim=1)
        c = f * c + i * g
        h = o * c.tanh()
        steps.append(h)
    return stack([*steps, c])


def _through_gates(grad: Any, s: Any) -> Any:
    """The rule of i, f, g, o = σ, σ, tanh, σ: grad σ (1 - σ), or grad (1 - tanh²)"""
    is_tanh = (np.arange(s.shape[1]) * 4 // s.shape[1] == 2).astype(s.dtype)
    is_tanh = beside(s, to_device(is_tanh, device_of(s.array if isinstance(s, Tensor) else s)))
    return grad * (is_tanh + s * (1 - is_tanh) - s * s)


def _check_nonlinearity(name: str, nonlinearity: str) -> None:
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f"{name}: nonlinearity must be 'tanh' or 'relu', got {nonlinearity!r}")


# --- Cells -------------------------------------------------------------------------------------------------------


class _Cell(Module):
    """What the cells share. `gates` is how many blocks of H rows the weights have, `states` how many there are."""

    gates: int
    states = 1
    bias_ih: Parameter | None
    bias_hh: Parameter | None

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None):
        if hidden_size < 1:
            raise ValueError(f"{type(self).__name__}: hidden_size must be positive, got {hidden_size}")
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        make, rows = {"device": device, "dtype": dtype}, self.gates * hidden_size
        self.weight_ih = Parameter(creation.empty(rows, input_size, **make))
        self.weight_hh = Parameter(creation.empty(rows, hidden_size, **make))
        self.register_parameter("bias_ih", Parameter(creation.empty(rows, **make)) if bias else None)
        self.register_parameter("bias_hh", Parameter(creation.empty(rows, **make)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new starting values, uniform on ±1/√H."""
        _reset(self, self.hidden_size)

    def forward(self, input: Tensor, hx: Any = None) -> Any:
        """(N, input_size) -> the new state, (N, hidden_size), a pair of them for LSTM; or all without N"""
        given = _as_list(hx, self.states, type(self).__name__)
        if input.ndim == 1:
            new = self.forward(input.unsqueeze(0), _as_state(given and [s.unsqueeze(0) for s in given]))
            return _as_state([s.squeeze(0) for s in _as_list(new, self.states, "")])
        name, what = type(self).__name__, "h" if self.states == 1 else "h and c"
        if input.ndim != 2 or input.array.shape[1] != self.input_size:
            raise RuntimeError(f"{name}: expected input (N, {self.input_size}), got {tuple(input.shape)}")
        shape = (len(input), self.hidden_size)
        states = given or _zero_states(input, shape, self.states)
        if any(tuple(s.shape) != shape for s in states):
            got = " and ".join(str(tuple(s.shape)) for s in states)
            raise RuntimeError(f"{name}: expected {what} of shape {shape}, got {got}")
        input, *states = to_half(input, *states)  # in autocast
        inputs = F.linear(input, self.weight_ih, self.bias_ih)
        return self._step(inputs, F.linear(states[0], self.weight_hh, self.bias_hh), *states)

    def _step(self, inputs: Tensor, sums: Tensor, *states: Tensor) -> Any:
        """The new state from what x and h send, (N, gates · H) each, and the old."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else ", bias=False")


class RNNCell(_Cell):
    """One step of `rnn_step`: x (N, input_size), h (N, hidden_size) -> h'. Parameters named as in torch."""

    gates = 1

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh", device: Any = None,
        dtype: Any = None,
    ):  # fmt: skip
        _check_nonlinearity("RNNCell", nonlinearity)
        super().__init__(input_size, hidden_size, bias, device, dtype)
        self.nonlinearity = nonlinearity

    def _step(self, inputs: Tensor, sums: Tensor, *states: Tensor) -> Tensor:
        return rnn_step(inputs + sums, self.nonlinearity)

    def extra_repr(self) -> str:
        return super().extra_repr() + (f", nonlinearity={self.nonlinearity}" if self.nonlinearity != "tanh" else "")


class GRUCell(_Cell):
    """One step of `gru_step`: x (N, input_size), h (N, hidden_size) -> h'. Parameters named as in torch."""

    gates = 3

    def _step(self, inputs: Tensor, sums: Tensor, *states: Tensor) -> Tensor:
        return gru_step(inputs, sums, states[0])


class LSTMCell(_Cell):
    """One step of `lstm_step`: x (N, input_size), state (h, c) each (N, hidden_size) -> (h', c'). Parameters named as
    in torch."""

    gates, states = 4, 2

    def _step(self, inputs: Tensor, sums: Tensor, *states: Tensor) -> tuple[Tensor, Tensor]:
        return lstm_step(inputs + sums, states[1])


# --- Layers ------------------------------------------------------------------------------------------------------


class _Recurrent(Module):
    """What RNN, GRU and LSTM share: parameters, layers, directions, and sequences of different lengths.

    x (L, N, input_size), or (N, L, input_size) if `batch_first`, or (L, input_size), or a PackedSequence. Parameters
    have torch's names: weight_ih_l0 (gates · H, in), weight_hh_l0 (gates · H, H), bias_ih_l0, bias_hh_l0, those that
    read from the end to the beginning weight_ih_l0_reverse, ..., then layer 1, which reads what layer 0 gave. All start
    uniform on ±1/√H. `dropout` acts between layers while training. The state carries gradients: detach it between
    training steps.
    """

    gates: int
    states = 1

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
        dropout: float = 0.0, bidirectional: bool = False, device: Any = None, dtype: Any = None,
    ):  # fmt: skip
        name = type(self).__name__
        if hidden_size < 1 or num_layers < 1:
            got = f"{hidden_size} and {num_layers}"
            raise ValueError(f"{name}: hidden_size and num_layers must be positive, got {got}")
        if not 0 <= dropout <= 1:
            raise ValueError(f"{name}: dropout has to be between 0 and 1, got {dropout}")
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout = bias, batch_first, dropout
        self.bidirectional = bidirectional
        make, rows = {"device": device, "dtype": dtype}, self.gates * hidden_size
        for layer in range(num_layers):
            n_in = hidden_size * len(self._directions) if layer else input_size
            for direction in self._directions:
                setattr(self, f"weight_ih_l{layer}{direction}", Parameter(creation.empty(rows, n_in, **make)))
                setattr(self, f"weight_hh_l{layer}{direction}", Parameter(creation.empty(rows, hidden_size, **make)))
                for which in ("bias_ih", "bias_hh"):
                    b = Parameter(creation.empty(rows, **make)) if bias else None
                    setattr(self, f"{which}_l{layer}{direction}", b)
        self.reset_parameters()

    @property
    def _directions(self) -> tuple[str, ...]:
        """What the names of the parameters of each direction end in."""
        return ("", "_reverse") if self.bidirectional else ("",)

    def reset_parameters(self) -> None:
        """Draw new starting values, uniform on ±1/√H."""
        _reset(self, self.hidden_size)

    def flatten_parameters(self) -> None:
        """Nothing: in torch, for a GPU, it puts the weights side by side in memory."""

    def forward(self, input: Any, hx: Any = None) -> tuple[Any, Any]:
        """Returns the top layer's h at every step, shaped as the input with D · hidden_size last (D = 2 in both
        directions, else 1), and the final state of each layer and direction.

        hx and the final state: (num_layers · D, N, hidden_size), a pair (h, c) for LSTM; zeros if not given.
        """
        given = _as_list(hx, self.states, type(self).__name__)
        if isinstance(input, PackedSequence):
            return self._packed(input, given)
        name, x = type(self).__name__, input
        if x.ndim not in (2, 3) or x.array.shape[-1] != self.input_size:
            raise RuntimeError(
                f"{name}: expected input of 2 or 3 dimensions ending in {self.input_size}, got {tuple(x.shape)}"
            )
        axis = 0 if self.batch_first else 1  # of the batch
        if x.ndim == 2:
            out, last = self.forward(x.unsqueeze(axis), _as_state(given and [s.unsqueeze(1) for s in given]))
            return out.squeeze(axis), _as_state([s.squeeze(1) for s in _as_list(last, self.states, "")])
        if self.batch_first:
            x = x.transpose(0, 1)  # (N, L, in) -> (L, N, in)
        [out], last = self._run([x], given)
        return out.transpose(0, 1) if self.batch_first else out, _as_state(last)

    def _packed(self, packed: PackedSequence, given: list[Tensor] | None) -> tuple[PackedSequence, Any]:
        """As `forward`; the states are in the order of the batch before it was sorted."""
        data, sizes, order, back = packed
        if data.ndim != 2 or data.array.shape[1] != self.input_size:
            raise RuntimeError(
                f"{type(self).__name__}: expected packed data (steps, {self.input_size}), got {tuple(data.shape)}"
            )
        if given is not None and order is not None:
            given = [s.index_select(1, order) for s in given]
        pieces, last = self._run(packed.pieces(), given)
        if back is not None:
            last = [s.index_select(1, back) for s in last]
        return PackedSequence(join(pieces), sizes, order, back), _as_state(last)

    def _run(self, pieces: list[Tensor], given: list[Tensor] | None) -> tuple[list[Tensor], list[Tensor]]:
        """All layers over a sequence in pieces (steps, sequences, in), of which each has fewer sequences than the one
        before: outputs in the same pieces, and the last states, (layers · D, N, H) each."""
        N, D = pieces[0].array.shape[1], len(self._directions)
        shape = (self.num_layers * D, N, self.hidden_size)
        states = given or _zero_states(pieces[0], shape, self.states)
        if any(tuple(s.shape) != shape for s in states):
            got = " and ".join(str(tuple(s.shape)) for s in states)
            raise RuntimeError(f"{type(self).__name__}: expected hidden states of shape {shape}, got {got}")
        last: list[tuple[Tensor, ...]] = []
        for layer in range(self.num_layers):
            if layer and self.dropout:
                pieces = [F.dropout(x, self.dropout, self.training) for x in pieces]
            found = []
            for direction in self._directions:
                read = self._backwards if direction else self._forwards
                outputs, end = read(pieces, tuple(s[len(last)] for s in states), f"l{layer}{direction}")
                found.append(outputs)
                last.append(end)
            pieces = found[0] if D == 1 else [cat(both, 2) for both in zip(*found, strict=True)]
        return pieces, [stack(s) for s in zip(*last, strict=True)]

    def _forwards(
        self, pieces: list[Tensor], state: tuple[Tensor, ...], name: str
    ) -> tuple[list[Tensor], tuple[Tensor, ...]]:
        """One layer from the first step to the last: outputs, and the state of each sequence after its last step."""
        outputs, ended = [], []
        for x in pieces:
            n = x.array.shape[1]
            if n < len(state[0]):
                ended.append(tuple(s[n:] for s in state))
                state = tuple(s[:n] for s in state)
            out, state = self._scan(x, state, name)
            outputs.append(out)
        if ended:
            state = tuple(cat(parts) for parts in zip(state, *reversed(ended), strict=True))
        return outputs, state

    def _backwards(
        self, pieces: list[Tensor], first: tuple[Tensor, ...], name: str
    ) -> tuple[list[Tensor], tuple[Tensor, ...]]:
        """One layer from the last step to the first: sequences come in where they have their last step."""
        outputs, state = [], tuple(s[: pieces[-1].array.shape[1]] for s in first)
        for x in reversed(pieces):
            if len(state[0]) < x.array.shape[1]:
                new = tuple(s[len(state[0]) : x.array.shape[1]] for s in first)
                state = tuple(cat(both) for both in zip(state, new, strict=True))
            out, state = self._scan(x.flip(0), state, name)
            outputs.append(out.flip(0))
        return outputs[::-1], state

    def _scan(self, x: Tensor, state: tuple[Tensor, ...], name: str) -> tuple[Tensor, tuple[Tensor, ...]]:
        """One layer over a rectangle: (L, N, in) -> (L, N, H), and the state after the last step. What comes from x is
        one product for all steps."""
        w_ih, w_hh = getattr(self, f"weight_ih_{name}"), getattr(self, f"weight_hh_{name}")
        outputs, *rest = self._steps(
            x, state, w_ih, w_hh, getattr(self, f"bias_ih_{name}"), getattr(self, f"bias_hh_{name}")
        )
        outputs, *rest = to_half(outputs, *rest)  # in autocast
        return outputs, (outputs[-1] if len(outputs) else state[0], *rest)

    def _steps(
        self, x: Tensor, state: tuple[Tensor, ...], w_ih: Tensor, w_hh: Tensor, b_ih: Any, b_hh: Any
    ) -> tuple[Tensor, ...]:
        """h after every step, (L, N, H), then what else there is of the last state."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        names = ("num_layers", 1), ("bias", True), ("batch_first", False), ("dropout", 0), ("bidirectional", False)
        settings = [f"{name}={getattr(self, name)}" for name, usual in names if getattr(self, name) != usual]
        return ", ".join([str(self.input_size), str(self.hidden_size), *settings])


class RNN(_Recurrent):
    """Layers of a plain RNN over a sequence, h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or relu by `nonlinearity`.

    Shapes, parameters and settings: see `_Recurrent`.
    """

    gates = 1

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh", bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, device: Any = None,
        dtype: Any = None,
    ):  # fmt: skip
        _check_nonlinearity("RNN", nonlinearity)
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype)
        self.nonlinearity = nonlinearity

    def _steps(
        self, x: Tensor, state: tuple[Tensor, ...], w_ih: Tensor, w_hh: Tensor, b_ih: Any, b_hh: Any
    ) -> tuple[Tensor, ...]:
        bias = None if b_ih is None else b_ih + b_hh
        return (rnn_scan(F.linear(x, w_ih, bias), state[0], w_hh, self.nonlinearity),)


class GRU(_Recurrent):
    """Layers of GRU over a sequence: see `gru_step` for one step. The weights' three blocks of rows are r, z and n.

    Shapes, parameters and settings: see `_Recurrent`.
    """

    gates = 3

    def _steps(
        self, x: Tensor, state: tuple[Tensor, ...], w_ih: Tensor, w_hh: Tensor, b_ih: Any, b_hh: Any
    ) -> tuple[Tensor, ...]:
        return (gru_scan(F.linear(x, w_ih, b_ih), state[0], w_hh, b_hh),)


class LSTM(_Recurrent):
    """Layers of LSTM over a sequence: see `lstm_step` for one step. The weights' four blocks of rows are i, f, g, o.

    Shapes, parameters and settings: see `_Recurrent`. The state is a pair (h, c).
    """

    gates, states = 4, 2

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
        dropout: float = 0.0, bidirectional: bool = False, proj_size: int = 0, device: Any = None, dtype: Any = None,
    ):  # fmt: skip
        if proj_size:
            raise NotImplementedError(f"LSTM: proj_size = {proj_size} is not offered; put a Linear after the LSTM")
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype)

    def _steps(
        self, x: Tensor, state: tuple[Tensor, ...], w_ih: Tensor, w_hh: Tensor, b_ih: Any, b_hh: Any
    ) -> tuple[Tensor, ...]:
        bias, (h, c) = None if b_ih is None else b_ih + b_hh, state
        if fast.by_example(x.array):  # `batch_first`: nothing of x, nor of its gradient, is copied
            return lstm_scan(F.linear(x.transpose(0, 1), w_ih, bias).transpose(0, 1), h, c, w_hh)
        return lstm_scan(F.linear(x, w_ih, bias), h, c, w_hh)


# --- States and starts ---------------------------------------------------------------------------------------------


def _as_list(state: Any, states: int, name: str) -> Any:
    """The tensors of a state as users write it: h alone, or a pair (h, c). None stays None."""
    if state is None:
        return None
    found = [state] if states == 1 else list(state) if isinstance(state, (tuple, list)) else []
    if len(found) != states or not all(isinstance(s, Tensor) for s in found):
        wanted = "a Tensor" if states == 1 else "a pair of Tensors (h, c)"
        raise TypeError(f"{name}: expected {wanted} as the state, got {type(state).__name__}")
    return found


def _as_state(tensors: Any) -> Any:
    """The reverse."""
    return tensors and (tensors[0] if len(tensors) == 1 else tuple(tensors))


def _zero_states(x: Tensor, shape: tuple[int, ...], states: int) -> list[Tensor]:
    return [creation.zeros(shape, device=x.device, dtype=x.dtype) for _ in range(states)]


def _reset(module: Module, hidden_size: int) -> None:
    for parameter in module.parameters():
        init.uniform_(parameter, -1 / math.sqrt(hidden_size), 1 / math.sqrt(hidden_size))


apply(globals())  # mixed precision, by the table in half/
