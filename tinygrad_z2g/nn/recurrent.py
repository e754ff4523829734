"""Recurrent networks: a state that is carried from step to step.

It knows nothing of what the steps are (letters, days), and past a call it remembers nothing: the caller carries the
state.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import creation, kernels, precision
from ..backend import Array, device_of, to_device
from ..engine import RESULT, record, record_joint, unchanged
from ..ops.casting import in_float32, lowered
from ..ops.common import beside
from ..ops.linalg import linear
from ..ops.shape import stack
from ..tensor import Tensor
from . import functional as F
from . import init
from .module import Module, Parameter


def lstm_step(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """One step of an LSTM, from the sums that reach its gates, (N, 4H), and the cell state c, (N, H).

    i, f, g, o = σ(gates₁), σ(gates₂), tanh(gates₃), σ(gates₄);   c' = f c + i g;   h' = o tanh(c').
    The cell forgets (f), takes in (i) new content (g), and shows (o) part of itself. Returns h', c'.
    (Hochreiter & Schmidhuber 1997; forget gate: Gers et al. 2000)
    """
    i, f, g, o = gates.chunk(4, dim=1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


@in_float32  # c is a sum over all steps, and the product at each step is small
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
    out, *kept = kernels.lstm(inputs.array, h.array, c.array, w.array)
    both = record_joint(
        "lstm", out, (inputs, h, c, w),
        lambda grad, out, h, w, kept: kernels.lstm_backward(grad, out, *kept, h, w), RESULT, h, w, kept,
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


class LSTMCell(Module):
    """One step: x (N, input_size), state (h, c) each (N, hidden_size) -> (h', c'). Parameters named as in torch."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None):
        if hidden_size < 1:
            raise ValueError(f"LSTMCell: hidden_size must be positive, got {hidden_size}")
        self.input_size, self.hidden_size = input_size, hidden_size
        make = {"device": device, "dtype": dtype}
        self.weight_ih = Parameter(creation.empty(4 * hidden_size, input_size, **make))
        self.weight_hh = Parameter(creation.empty(4 * hidden_size, hidden_size, **make))
        self.bias_ih = Parameter(creation.empty(4 * hidden_size, **make)) if bias else None
        self.bias_hh = Parameter(creation.empty(4 * hidden_size, **make)) if bias else None
        _reset(self, hidden_size)

    def forward(self, x: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """(N, input_size) -> h', c', each (N, hidden_size); or all without N"""
        if x.ndim == 1:
            hx = None if hx is None else (hx[0].unsqueeze(0), hx[1].unsqueeze(0))
            h, c = self.forward(x.unsqueeze(0), hx)
            return h.squeeze(0), c.squeeze(0)
        if x.ndim != 2 or x.array.shape[1] != self.input_size:
            raise RuntimeError(f"LSTMCell: expected input (N, {self.input_size}), got {tuple(x.shape)}")
        shape = (len(x), self.hidden_size)
        h, c = hx if hx is not None else _zero_state(x, shape)
        if tuple(h.shape) != shape or tuple(c.shape) != shape:
            raise RuntimeError(
                f"LSTMCell: expected h and c of shape {shape}, got {tuple(h.shape)} and {tuple(c.shape)}"
            )
        if precision.blocks:
            x, h, c = lowered(x, h, c)
        gates = F.linear(x, self.weight_ih, self.bias_ih) + F.linear(h, self.weight_hh, self.bias_hh)
        return lstm_step(gates, c)

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}"


class LSTM(Module):
    """Layers of LSTM over a sequence, with torch's parameter names: weight_ih_l0 (4H, in), weight_hh_l0 (4H, H), ...

    x (L, N, input_size), or (N, L, input_size) if `batch_first`, or (L, input_size). All start uniform on ±1/√H.
    `dropout` acts between layers while training. The state carries gradients: detach it between training steps.
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
        dropout: float = 0.0, bidirectional: bool = False, device: Any = None, dtype: Any = None,
    ):  # fmt: skip
        if bidirectional:
            raise NotImplementedError("LSTM: bidirectional=True is not offered")
        if hidden_size < 1 or num_layers < 1:
            raise ValueError(f"LSTM: hidden_size and num_layers must be positive, got {hidden_size} and {num_layers}")
        if not 0 <= dropout <= 1:
            raise ValueError(f"LSTM: dropout has to be between 0 and 1, got {dropout}")
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout = bias, batch_first, dropout
        make = {"device": device, "dtype": dtype}
        for layer in range(num_layers):
            n_in = input_size if layer == 0 else hidden_size
            setattr(self, f"weight_ih_l{layer}", Parameter(creation.empty(4 * hidden_size, n_in, **make)))
            setattr(self, f"weight_hh_l{layer}", Parameter(creation.empty(4 * hidden_size, hidden_size, **make)))
            for name in ("bias_ih", "bias_hh"):
                setattr(self, f"{name}_l{layer}", Parameter(creation.empty(4 * hidden_size, **make)) if bias else None)
        _reset(self, hidden_size)

    def forward(self, x: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Returns the top layer's h at every step, shaped as x with hidden_size last, and the final (h, c).

        hx and the final state: h and c of shape (num_layers, N, hidden_size), zeros if not given.
        """
        if x.ndim == 2:
            hx = None if hx is None else (hx[0].unsqueeze(1), hx[1].unsqueeze(1))
            axis = 0 if self.batch_first else 1
            out, (h, c) = self.forward(x.unsqueeze(axis), hx)
            return out.squeeze(axis), (h.squeeze(1), c.squeeze(1))
        if x.ndim != 3 or x.array.shape[2] != self.input_size:
            raise RuntimeError(
                f"LSTM: expected input of 2 or 3 dimensions ending in {self.input_size}, got {tuple(x.shape)}"
            )
        if self.batch_first:
            x = x.transpose(0, 1)  # (N, L, in) -> (L, N, in)
        shape = (self.num_layers, x.array.shape[1], self.hidden_size)
        h0, c0 = hx if hx is not None else _zero_state(x, shape)
        if tuple(h0.shape) != shape or tuple(c0.shape) != shape:
            raise RuntimeError(
                f"LSTM: expected hidden states of shape {shape}, got {tuple(h0.shape)} and {tuple(c0.shape)}"
            )
        last_h, last_c = [], []
        for layer in range(self.num_layers):
            if layer and self.dropout:
                x = F.dropout(x, self.dropout, self.training)
            x, h, c = self._layer(x, h0[layer], c0[layer], layer)
            last_h.append(h)
            last_c.append(c)
        return x.transpose(0, 1) if self.batch_first else x, (stack(last_h), stack(last_c))

    def _layer(self, x: Tensor, h: Tensor, c: Tensor, layer: int) -> tuple[Tensor, Tensor, Tensor]:
        """One layer over the whole sequence: (L, N, in) -> (L, N, H), and the last h and c."""
        w_ih, w_hh = getattr(self, f"weight_ih_l{layer}"), getattr(self, f"weight_hh_l{layer}")
        b_ih, b_hh = getattr(self, f"bias_ih_l{layer}"), getattr(self, f"bias_hh_l{layer}")
        bias = None if b_ih is None else b_ih + b_hh
        outputs, c = lstm_scan(F.linear(x, w_ih, bias), h, c, w_hh)  # what comes from x in one product for all steps
        if precision.blocks:
            outputs, c = lowered(outputs, c)
        return outputs, outputs[-1] if len(outputs) else h, c

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}, num_layers={self.num_layers}, batch_first={self.batch_first}"


def _reset(module: Module, hidden_size: int) -> None:
    for parameter in module.parameters():
        init.uniform_(parameter, -1 / math.sqrt(hidden_size), 1 / math.sqrt(hidden_size))


def _zero_state(x: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    return creation.zeros(shape, device=x.device, dtype=x.dtype), creation.zeros(shape, device=x.device, dtype=x.dtype)
