"""RNN, GRU, LSTM: at each step one product, and one pass for the gates and the state.

A step needs of the one before only the same examples, so that each thread takes its part of the batch through all
steps: a layer is handed over once, forward or backward. The weights are brought into panels once, where OpenBLAS
copies them at every step: on one thread an LSTM's 64 steps of 32 x 128 take 3.5 and 4.8 ms, forward and backward, in
place of 4.7 and 6.0. It knows nothing of layers, nor of what the sequence is.
"""

from __future__ import annotations

import numpy as np

from ...arrays.backend import Array
from .. import recurrent
from .columns import column_sums
from .compiling import widely
from .jit import loop, over_rows
from .layout import address, fits, keep, line
from .mathematics import ONE, ZERO, choose, sigmoid, tanh
from .matrix_unit import DEPTH, SIDE, TALL, first_line, room_for, with_squares
from .products import UNIT, in_squares, product
from .tiles import in_panels, with_panels

LEAST = 2**14  # numbers of a weight from which the matrix unit takes the steps
NO_SQUARES = np.empty(0, np.float32)

# --- A step's product ---------------------------------------------------------------------------------------------


def _weights(w: Array, examples: int) -> tuple[Array, Array, int]:
    """w (k, m) as `_times` takes it: in panels, and in squares, if there is a matrix unit and enough for it to do; and
    how many examples a thread's part must be a multiple of, so that the unit misses the same ones however many threads
    there are."""
    if UNIT and examples >= 2 * SIDE and w.size >= LEAST and min(w.shape) >= DEPTH:
        squares, right = in_squares(w.T, 1)
        if right:
            return in_panels(w), squares, SIDE
    return in_panels(w), NO_SQUARES, 1


@loop
def _times(a, w, squares, before, before_step, z):
    """z = before + a w, (n, m) + (n, k) @ (k, m); before as an address, 0 for none, with bytes from row to row."""
    if not squares.size:
        with_panels(a, w, z.shape[1], before, before_step, z)
        return
    (n, k), room = a.shape, room_for(len(a), a.shape[1])
    for i in range(0, n, TALL):
        start = before + i * before_step if before else 0
        missed = with_squares(
            min(TALL, n - i), k, address(a) + i * a.strides[0], a.strides[0], 4, 0, first_line(squares), z.shape[1],
            start, before_step, 0, address(z) + i * z.strides[0], z.strides[0], first_line(room),
        )  # fmt: skip
        for j in range(i, min(i + TALL, n), SIDE):
            if missed & 1:
                start = before + j * before_step if before else 0
                with_panels(a[j : j + SIDE], w, z.shape[1], start, before_step, z[j : j + SIDE])
            missed >>= 1
    keep(room)


# --- LSTM --------------------------------------------------------------------------------------------------------


@loop
def _lstm_forward(sums, before, gates, after, bent, h):
    """i, f, o = σ(sums), g = tanh(sums); after = f before + i g; h = o tanh after."""
    widely()
    H = before.shape[1]
    for n in range(before.shape[0]):
        s = line(gates, n)
        for j in range(2 * H):
            s[j] = sigmoid(sums[n, j])
        for j in range(2 * H, 3 * H):
            s[j] = tanh(sums[n, j])
        for j in range(3 * H, 4 * H):
            s[j] = sigmoid(sums[n, j])
        i, f, g, o = s[:H], s[H : 2 * H], s[2 * H : 3 * H], s[3 * H :]
        for j in range(H):
            after[n, j] = f[j] * before[n, j] + i[j] * g[j]
        for j in range(H):
            bent[n, j] = tanh(after[n, j])
        for j in range(H):
            h[n, j] = o[j] * bent[n, j]


@loop
def _lstm_backward(gates, before, bent, dh, dc, d):
    """As in the reference, one step: dc += dh o (1 - tanh² c); d = the gates' gradients; dc *= f."""
    H = before.shape[1]
    for n in range(before.shape[0]):
        s = line(gates, n)
        i, f, g, o = s[:H], s[H : 2 * H], s[2 * H : 3 * H], s[3 * H :]
        di, df, dg, do = d[n, :H], d[n, H : 2 * H], d[n, 2 * H : 3 * H], d[n, 3 * H :]
        h, t, c = dh[n], bent[n], dc[n]
        for j in range(H):
            c[j] += h[j] * o[j] * (ONE - t[j] * t[j])
        for j in range(H):
            di[j] = c[j] * g[j] * (i[j] - i[j] * i[j])
        for j in range(H):
            df[j] = c[j] * before[n, j] * (f[j] - f[j] * f[j])
        for j in range(H):
            dg[j] = c[j] * i[j] * (ONE - g[j] * g[j])
        for j in range(H):
            do[j] = h[j] * t[j] * (o[j] - o[j] * o[j])
        for j in range(H):
            c[j] *= f[j]


@loop
def _lstm(start, stop, inputs, h, w, squares, sums, gates, cells, bent, out):
    """All steps for the examples start..stop."""
    sums = sums[start:stop]
    for t in range(inputs.shape[0]):
        before, now = (out[t - 1] if t else h)[start:stop], inputs[t, start:stop]
        _times(before, w, squares, address(now), now.strides[0], sums)  # (n, 4H) + (n, H) @ (H, 4H)
        _lstm_forward(
            sums, cells[t, start:stop], gates[t, start:stop], cells[t + 1, start:stop], bent[t, start:stop],
            out[t, start:stop],
        )  # fmt: skip


@loop
def _lstm_back(start, stop, grad, gates, cells, bent, w, squares, now, dh, dc, d):
    """All steps, the last first. dh holds the gradient of what the last of them gave. The product reads a step of d in
    `now`, side by side: in d its rows may lie a power of two apart, and push each other out of the cache."""
    now, dh, dc = now[start:stop], dh[start:stop], dc[start:stop]
    for t in range(bent.shape[0] - 1, -1, -1):
        more = grad[max(t - 1, 0), start:stop]
        _lstm_backward(gates[t, start:stop], cells[t, start:stop], bent[t, start:stop], dh, dc, now)
        for n in range(stop - start):
            x, z = now[n], line(d[t], start + n)
            for j in range(x.size):
                z[j] = x[j]
        given = address(more) if t else 0
        _times(now, w, squares, given, more.strides[0], dh)  # (n, H) + (n, 4H) @ (4H, H)


@loop
def _preceding(start, stop, out, h, before):
    """before[t] = out[t - 1], and h at first, for the examples start..stop."""
    for n in range(start, stop):
        for t in range(before.shape[0]):
            x, z = (out[t - 1] if t else h)[n], line(before[t], n)
            for j in range(x.size):
                z[j] = x[j]


def lstm(inputs: Array, h: Array, c: Array, w: Array) -> tuple[Array, Array, Array, Array]:
    """See `recurrent.lstm`."""
    if not (fits(h, c, w) and (fits(inputs) or fits(inputs.swapaxes(0, 1)))):
        return recurrent.lstm(inputs, h, c, w)
    (L, N), H = inputs.shape[:2], w.shape[1]
    out, gates = np.empty((L + 1, N, H), inputs.dtype), np.empty_like(inputs)  # in memory as these are
    cells, bent = np.empty(out.shape, out.dtype), np.empty((L, N, H), out.dtype)
    cells[0] = c
    sums = np.empty((N, 4 * H), inputs.dtype)
    *weights, multiple = _weights(w.T, N)
    over_rows(
        _lstm, N, inputs.size * H >> 4, inputs, h, *weights, sums, gates, cells, bent, out, multiple=multiple
    )
    out[L] = cells[L]
    return out, gates, cells, bent


def lstm_backward(
    grad: Array, out: Array, gates: Array, cells: Array, bent: Array, h: Array, w: Array
) -> tuple[Array, Array, Array, Array]:
    """See `recurrent.lstm_backward`."""
    by_step = gates.flags.c_contiguous
    if not (fits(grad, out, cells, bent, h, w) and fits(gates if by_step else gates.swapaxes(0, 1))):
        return recurrent.lstm_backward(grad, out, gates, cells, bent, h, w)
    L, N, H = bent.shape
    d, dh, dc = np.empty_like(gates), grad[L - 1].copy(), grad[L].copy()
    now = np.empty((N, 4 * H), d.dtype)
    *weights, multiple = _weights(w, N)
    over_rows(
        _lstm_back, N, gates.size * H >> 4, grad, gates, cells, bent, *weights, now, dh, dc, d, multiple=multiple
    )
    before = np.empty((L, N, H) if by_step else (N, L, H), d.dtype)  # the rows as they are in d
    over_rows(_preceding, N, before.size, out, h, before if by_step else before.swapaxes(0, 1))
    rows = (d if by_step else d.swapaxes(0, 1)).reshape(L * N, 4 * H)
    return d, dh, dc, product(rows.T, before.reshape(L * N, H), None)


# --- RNN ---------------------------------------------------------------------------------------------------------


@loop
def _rnn_forward(relu, h):
    """h = φ(h), where h holds the sums before."""
    widely()
    for n in range(h.shape[0]):
        if relu:
            for j in range(h.shape[1]):
                h[n, j] = choose(h[n, j] < ZERO, ZERO, h[n, j])
        else:
            for j in range(h.shape[1]):
                h[n, j] = tanh(h[n, j])


@loop
def _rnn_backward(h, relu, dh, d):
    """d = dh φ'"""
    for n in range(h.shape[0]):
        for j in range(h.shape[1]):
            slope = choose(h[n, j] != ZERO, ONE, ZERO) if relu else ONE - h[n, j] * h[n, j]
            d[n, j] = dh[n, j] * slope


@loop
def _rnn(start, stop, inputs, h, w, squares, relu, out):
    """All steps for the examples start..stop."""
    for t in range(out.shape[0]):
        before, given, now = (out[t - 1] if t else h)[start:stop], inputs[t, start:stop], out[t, start:stop]
        _times(before, w, squares, address(given), given.strides[0], now)  # (n, H) + (n, H) @ (H, H)
        _rnn_forward(relu, now)


@loop
def _rnn_back(start, stop, grad, out, w, squares, relu, dh, d):
    """All steps, the last first. dh holds the gradient of what the last of them gave."""
    dh = dh[start:stop]
    for t in range(out.shape[0] - 1, -1, -1):
        now, more = d[t, start:stop], grad[max(t - 1, 0), start:stop]
        _rnn_backward(out[t, start:stop], relu, dh, now)
        given = address(more) if t else 0
        _times(now, w, squares, given, more.strides[0], dh)  # (n, H) + (n, H) @ (H, H)


def rnn(inputs: Array, h: Array, w: Array, relu: bool) -> Array:
    """See `recurrent.rnn`."""
    if not fits(inputs, h, w):
        return recurrent.rnn(inputs, h, w, relu)
    out = np.empty(inputs.shape, inputs.dtype)
    *weights, multiple = _weights(w.T, len(h))
    over_rows(_rnn, len(h), inputs.size * len(w) >> 4, inputs, h, *weights, relu, out, multiple=multiple)
    return out


def rnn_backward(grad: Array, out: Array, h: Array, w: Array, relu: bool) -> tuple[Array, Array, Array]:
    """See `recurrent.rnn_backward`."""
    if not fits(grad, out, h, w):
        return recurrent.rnn_backward(grad, out, h, w, relu)
    L, N, H = out.shape
    d, dh = np.empty(out.shape, out.dtype), grad[-1].copy()
    *weights, multiple = _weights(w, N)
    over_rows(_rnn_back, N, out.size * H >> 4, grad, out, *weights, relu, dh, d, multiple=multiple)
    return d, dh, product(d.reshape(L * N, H).T, recurrent.preceding(out, h).reshape(L * N, H), None)


# --- GRU ---------------------------------------------------------------------------------------------------------


@loop
def _gru_forward(sums, inputs, before, gates, inner, after):
    """As in the reference, one step, where `sums` holds w h + b. One loop over all arrays at a time took 2.4 times as
    long: the compiler takes many numbers at once only where it can see that few arrays are apart."""
    widely()
    H = before.shape[1]
    for k in range(before.shape[0]):
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
def _gru_backward(grad, gates, inner, before, dh, d, s):
    """As in the reference, one step: dh += grad; d and s = the gradients of inputs and of w h + b; dh *= z."""
    H = before.shape[1]
    for k in range(before.shape[0]):
        r, z, n = gates[k, :H], gates[k, H : 2 * H], gates[k, 2 * H :]
        dr, dz, dn = d[k, :H], d[k, H : 2 * H], d[k, 2 * H :]
        sr, sz, sn = s[k, :H], s[k, H : 2 * H], s[k, 2 * H :]
        for j in range(H):
            h = dh[k, j] + grad[k, j]
            bent = h * ((ONE - n[j] * n[j]) * (ONE - z[j]))
            of_r = bent * inner[k, j] * (r[j] * (ONE - r[j]))
            of_z = h * ((before[k, j] - n[j]) * (z[j] * (ONE - z[j])))
            dr[j], dz[j], dn[j] = of_r, of_z, bent
            sr[j], sz[j], sn[j] = of_r, of_z, bent * r[j]
            dh[k, j] = h * z[j]


@loop
def _gru(start, stop, inputs, h, w, squares, bias, sums, gates, inner, out):
    """All steps for the examples start..stop."""
    sums = sums[start:stop]
    for t in range(out.shape[0]):
        before = (out[t - 1] if t else h)[start:stop]
        _times(before, w, squares, address(bias), 0, sums)  # (3H) + (n, H) @ (H, 3H)
        _gru_forward(
            sums, inputs[t, start:stop], before, gates[t, start:stop], inner[t, start:stop], out[t, start:stop]
        )


@loop
def _gru_back(start, stop, grad, out, gates, inner, h, w, squares, dh, d, s):
    """All steps, the last first."""
    dh = dh[start:stop]
    for t in range(out.shape[0] - 1, -1, -1):
        before, now = (out[t - 1] if t else h)[start:stop], s[t, start:stop]
        _gru_backward(
            grad[t, start:stop], gates[t, start:stop], inner[t, start:stop], before, dh, d[t, start:stop], now
        )
        if squares.size:
            kept = dh.copy()  # for the tile, if the unit has written what it cannot compute
            _times(now, w, squares, address(kept), kept.strides[0], dh)  # (n, H) + (n, 3H) @ (3H, H)
            keep(kept)
        else:
            with_panels(now, w, dh.shape[1], address(dh), dh.strides[0], dh)


def gru(inputs: Array, h: Array, w: Array, b: Array | None) -> tuple[Array, Array, Array]:
    """See `recurrent.gru`."""
    if not fits(inputs, h, w) or (b is not None and not fits(b)):
        return recurrent.gru(inputs, h, w, b)
    (L, N), H = inputs.shape[:2], w.shape[1]
    bias = np.zeros(3 * H, inputs.dtype) if b is None else b
    gates, out = np.empty(inputs.shape, inputs.dtype), np.empty((L, N, H), inputs.dtype)
    inner = np.empty(out.shape, out.dtype)
    sums = np.empty((N, 3 * H), inputs.dtype)
    *weights, multiple = _weights(w.T, N)
    over_rows(
        _gru, N, inputs.size * H >> 4, inputs, h, *weights, bias, sums, gates, inner, out, multiple=multiple
    )
    return out, gates, inner


def gru_backward(
    grad: Array, out: Array, gates: Array, inner: Array, h: Array, w: Array
) -> tuple[Array, Array, Array, Array]:
    """See `recurrent.gru_backward`."""
    if not fits(grad, out, gates, inner, h, w):
        return recurrent.gru_backward(grad, out, gates, inner, h, w)
    L, N, H = out.shape
    d, s, dh = np.empty(gates.shape, gates.dtype), np.empty(gates.shape, gates.dtype), np.zeros(h.shape, h.dtype)
    *weights, multiple = _weights(w, N)
    over_rows(
        _gru_back, N, gates.size * H >> 4, grad, out, gates, inner, h, *weights, dh, d, s, multiple=multiple
    )
    rows = s.reshape(L * N, 3 * H)
    dw = product(rows.T, recurrent.preceding(out, h).reshape(L * N, H), None)
    return d, dh, dw, column_sums(rows)
