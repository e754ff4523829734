"""RNN, GRU, LSTM: at each step one product by OpenBLAS, and one pass for the gates and the state.

A step needs of the one before only the same examples, so that each thread takes its part of the batch through all
steps. It knows nothing of layers, nor of what the sequence is.
"""

from __future__ import annotations

import numpy as np

from ...arrays.backend import Array
from .. import recurrent
from .columns import column_sums
from .jit import cuts, loop, together
from .layout import fits
from .mathematics import ONE, ZERO, choose, sigmoid, tanh
from .products import alone, product

# --- LSTM --------------------------------------------------------------------------------------------------------


@loop
def _lstm_forward(sums, inputs, before, gates, after, bent, h):
    """i, f, o = σ(gates), g = tanh(gates), gates = inputs + sums; after = f before + i g; h = o tanh after."""
    H = before.shape[1]
    for n in range(before.shape[0]):
        for j in range(4 * H):
            sums[n, j] += inputs[n, j]
        for j in range(2 * H):
            gates[n, j] = sigmoid(sums[n, j])
        for j in range(2 * H, 3 * H):
            gates[n, j] = tanh(sums[n, j])
        for j in range(3 * H, 4 * H):
            gates[n, j] = sigmoid(sums[n, j])
        i, f, g, o = gates[n, :H], gates[n, H : 2 * H], gates[n, 2 * H : 3 * H], gates[n, 3 * H :]
        for j in range(H):
            c = f[j] * before[n, j] + i[j] * g[j]
            after[n, j] = c
            bent[n, j] = tanh(c)
            h[n, j] = o[j] * bent[n, j]


@loop
def _lstm_backward(grad, gates, before, bent, dh, dc, d):
    """As in the reference, one step: dh += grad; dc += dh o (1 - tanh² c); d = the gates' gradients; dc *= f."""
    H = before.shape[1]
    for n in range(before.shape[0]):
        i, f, g, o = gates[n, :H], gates[n, H : 2 * H], gates[n, 2 * H : 3 * H], gates[n, 3 * H :]
        di, df, dg, do = d[n, :H], d[n, H : 2 * H], d[n, 2 * H : 3 * H], d[n, 3 * H :]
        for j in range(H):
            h = dh[n, j] + grad[n, j]
            t = bent[n, j]
            c = dc[n, j] + h * o[j] * (ONE - t * t)
            di[j] = c * g[j] * (i[j] - i[j] * i[j])
            df[j] = c * before[n, j] * (f[j] - f[j] * f[j])
            dg[j] = c * i[j] * (ONE - g[j] * g[j])
            do[j] = h * t * (o[j] - o[j] * o[j])
            dc[n, j] = c * f[j]


def lstm(inputs: Array, h: Array, c: Array, w: Array) -> tuple[Array, Array, Array, Array]:
    """See `recurrent.lstm`."""
    if not fits(inputs, h, c, w):
        return recurrent.lstm(inputs, h, c, w)
    (L, N), H = inputs.shape[:2], w.shape[1]
    columns = np.ascontiguousarray(w.T)  # (4H, H) -> (H, 4H); a third faster than the transposed view
    out, gates = np.empty((L + 1, N, H), inputs.dtype), np.empty(inputs.shape, inputs.dtype)
    cells, bent = np.empty(out.shape, out.dtype), np.empty((L, N, H), out.dtype)
    cells[0] = c

    def some(start: int, stop: int) -> None:
        part = slice(start, stop)
        sums = np.empty((stop - start, 4 * H), inputs.dtype)
        for t in range(L):
            np.matmul(out[t - 1, part] if t else h[part], columns, out=sums)  # (n, H) @ (H, 4H)
            _lstm_forward(
                sums, inputs[t, part], cells[t, part], gates[t, part], cells[t + 1, part], bent[t, part], out[t, part]
            )

    with alone():
        together(some, cuts(N, inputs.size * H))
    out[L] = cells[L]
    return out, gates, cells, bent


def lstm_backward(
    grad: Array, out: Array, gates: Array, cells: Array, bent: Array, h: Array, w: Array
) -> tuple[Array, Array, Array, Array]:
    """See `recurrent.lstm_backward`."""
    if not fits(grad, out, gates, cells, bent, h, w):
        return recurrent.lstm_backward(grad, out, gates, cells, bent, h, w)
    L, N, H = bent.shape
    d, dh, dc = np.empty(gates.shape, gates.dtype), np.zeros(h.shape, h.dtype), grad[L].copy()

    def some(start: int, stop: int) -> None:
        part = slice(start, stop)
        for t in reversed(range(L)):
            _lstm_backward(grad[t, part], gates[t, part], cells[t, part], bent[t, part], dh[part], dc[part], d[t, part])
            np.matmul(d[t, part], w, out=dh[part])  # (n, 4H) @ (4H, H)

    with alone():
        together(some, cuts(N, gates.size * H))
    before = recurrent.preceding(out[:L], h)
    return d, dh, dc, product(d.reshape(L * N, 4 * H).T, before.reshape(L * N, H), None)


# --- RNN ---------------------------------------------------------------------------------------------------------


@loop
def _rnn_forward(inputs, relu, h):
    """h = φ(inputs + h), where h holds the sums before."""
    for n in range(h.shape[0]):
        if relu:
            for j in range(h.shape[1]):
                x = inputs[n, j] + h[n, j]
                h[n, j] = choose(x < ZERO, ZERO, x)
        else:
            for j in range(h.shape[1]):
                h[n, j] = tanh(inputs[n, j] + h[n, j])


@loop
def _rnn_backward(grad, h, relu, dh, d):
    """d = (dh + grad) φ'"""
    for n in range(h.shape[0]):
        for j in range(h.shape[1]):
            slope = choose(h[n, j] != ZERO, ONE, ZERO) if relu else ONE - h[n, j] * h[n, j]
            d[n, j] = (dh[n, j] + grad[n, j]) * slope


def rnn(inputs: Array, h: Array, w: Array, relu: bool) -> Array:
    """See `recurrent.rnn`."""
    if not fits(inputs, h, w):
        return recurrent.rnn(inputs, h, w, relu)
    columns, out = np.ascontiguousarray(w.T), np.empty(inputs.shape, inputs.dtype)

    def some(start: int, stop: int) -> None:
        part = slice(start, stop)
        for t in range(len(out)):
            np.matmul(out[t - 1, part] if t else h[part], columns, out=out[t, part])  # (n, H) @ (H, H)
            _rnn_forward(inputs[t, part], relu, out[t, part])

    with alone():
        together(some, cuts(len(h), inputs.size * len(w)))
    return out


def rnn_backward(grad: Array, out: Array, h: Array, w: Array, relu: bool) -> tuple[Array, Array, Array]:
    """See `recurrent.rnn_backward`."""
    if not fits(grad, out, h, w):
        return recurrent.rnn_backward(grad, out, h, w, relu)
    L, N, H = out.shape
    d, dh = np.empty(out.shape, out.dtype), np.zeros(h.shape, h.dtype)

    def some(start: int, stop: int) -> None:
        part = slice(start, stop)
        for t in reversed(range(L)):
            _rnn_backward(grad[t, part], out[t, part], relu, dh[part], d[t, part])
            np.matmul(d[t, part], w, out=dh[part])  # (n, H) @ (H, H)

    with alone():
        together(some, cuts(N, out.size * H))
    return d, dh, product(d.reshape(L * N, H).T, recurrent.preceding(out, h).reshape(L * N, H), None)


# --- GRU ---------------------------------------------------------------------------------------------------------


@loop
def _gru_forward(sums, inputs, b, before, gates, inner, after):
    """As in the reference, one step, where `sums` holds w h. One loop over all arrays at a time took 2.4 times as long:
    the compiler takes many numbers at once only where it can see that few arrays are apart."""
    H = before.shape[1]
    for k in range(before.shape[0]):
        for j in range(3 * H):
            sums[k, j] += b[j]
        for j in range(2 * H):
            sums[k, j] += inputs[k, j]
        for j in range(2 * H):
            gates[k, j] = sigmoid(sums[k, j])
        for j in range(H):
            inner[k, j] = sums[k, 2 * H + j]
        for j in range(H):
            sums[k, 2 * H + j] = inputs[k, 2 * H + j] + gates[k, j] * inner[k, j]
        for j in range(2 * H, 3 * H):
            gates[k, j] = tanh(sums[k, j])
        for j in range(H):
            n = gates[k, 2 * H + j]
            after[k, j] = n + gates[k, H + j] * (before[k, j] - n)


@loop
def _gru_backward(grad, gates, inner, before, through, dh, d, s):
    """As in the reference, one step: dh += through + grad, where `through` came through the product of the step after;
    d and s = the gradients of inputs and of w h + b; dh *= z."""
    H = before.shape[1]
    for k in range(before.shape[0]):
        r, z, n = gates[k, :H], gates[k, H : 2 * H], gates[k, 2 * H :]
        dr, dz, dn = d[k, :H], d[k, H : 2 * H], d[k, 2 * H :]
        sr, sz, sn = s[k, :H], s[k, H : 2 * H], s[k, 2 * H :]
        for j in range(H):
            h = dh[k, j] + through[k, j] + grad[k, j]
            bent = h * ((ONE - n[j] * n[j]) * (ONE - z[j]))
            of_r = bent * inner[k, j] * (r[j] * (ONE - r[j]))
            of_z = h * ((before[k, j] - n[j]) * (z[j] * (ONE - z[j])))
            dr[j], dz[j], dn[j] = of_r, of_z, bent
            sr[j], sz[j], sn[j] = of_r, of_z, bent * r[j]
            dh[k, j] = h * z[j]


def gru(inputs: Array, h: Array, w: Array, b: Array | None) -> tuple[Array, Array, Array]:
    """See `recurrent.gru`."""
    if not fits(inputs, h, w) or (b is not None and not fits(b)):
        return recurrent.gru(inputs, h, w, b)
    (L, N), H = inputs.shape[:2], w.shape[1]
    columns, bias = np.ascontiguousarray(w.T), np.zeros(3 * H, inputs.dtype) if b is None else b
    gates, out = np.empty(inputs.shape, inputs.dtype), np.empty((L, N, H), inputs.dtype)
    inner = np.empty(out.shape, out.dtype)

    def some(start: int, stop: int) -> None:
        part = slice(start, stop)
        sums = np.empty((stop - start, 3 * H), inputs.dtype)
        for t in range(L):
            before = out[t - 1, part] if t else h[part]
            np.matmul(before, columns, out=sums)  # (n, H) @ (H, 3H)
            _gru_forward(sums, inputs[t, part], bias, before, gates[t, part], inner[t, part], out[t, part])

    with alone():
        together(some, cuts(N, inputs.size * H))
    return out, gates, inner


def gru_backward(
    grad: Array, out: Array, gates: Array, inner: Array, h: Array, w: Array
) -> tuple[Array, Array, Array, Array]:
    """See `recurrent.gru_backward`."""
    if not fits(grad, out, gates, inner, h, w):
        return recurrent.gru_backward(grad, out, gates, inner, h, w)
    L, N, H = out.shape
    d, s, dh = np.empty(gates.shape, gates.dtype), np.empty(gates.shape, gates.dtype), np.zeros(h.shape, h.dtype)

    def some(start: int, stop: int) -> None:
        part = slice(start, stop)
        through = np.zeros((stop - start, H), dh.dtype)
        for t in reversed(range(L)):
            before, now = out[t - 1, part] if t else h[part], (gates[t, part], inner[t, part])
            _gru_backward(grad[t, part], *now, before, through, dh[part], d[t, part], s[t, part])
            np.matmul(s[t, part], w, out=through)  # (n, 3H) @ (3H, H)
        dh[part] += through

    with alone():
        together(some, cuts(N, gates.size * H))
    rows = s.reshape(L * N, 3 * H)
    dw = product(rows.T, recurrent.preceding(out, h).reshape(L * N, H), None)
    return d, dh, dw, column_sums(rows)
