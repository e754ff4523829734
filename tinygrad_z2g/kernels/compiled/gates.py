"""LSTM: at each step one product by OpenBLAS, and one pass for the gates and the cell.

A step needs of the one before only the same examples, so that each thread takes its part of the batch through all
steps. It knows nothing of layers, nor of what the sequence is.
"""

from __future__ import annotations

import numpy as np

from ...backend import Array
from .. import recurrent
from .jit import cuts, loop, together
from .layout import fits
from .mathematics import ONE, sigmoid, tanh
from .products import alone, product


@loop
def _forward(sums, inputs, before, gates, after, bent, h):  # type: ignore[no-untyped-def]
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
def _backward(grad, gates, before, bent, dh, dc, d):  # type: ignore[no-untyped-def]
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
    L, N, H = *inputs.shape[:2], w.shape[1]
    columns = np.ascontiguousarray(w.T)  # (4H, H) -> (H, 4H); a third faster than the transposed view
    out, gates = np.empty((L + 1, N, H), inputs.dtype), np.empty(inputs.shape, inputs.dtype)
    cells, bent = np.empty(out.shape, out.dtype), np.empty((L, N, H), out.dtype)
    cells[0] = c

    def some(start: int, stop: int) -> None:
        part = slice(start, stop)
        sums = np.empty((stop - start, 4 * H), inputs.dtype)
        for t in range(L):
            np.matmul(out[t - 1, part] if t else h[part], columns, out=sums)  # (n, H) @ (H, 4H)
            _forward(
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
            _backward(grad[t, part], gates[t, part], cells[t, part], bent[t, part], dh[part], dc[part], d[t, part])
            np.matmul(d[t, part], w, out=dh[part])  # (n, 4H) @ (4H, H)

    with alone():
        together(some, cuts(N, gates.size * H))
    before = np.concatenate([h[None], out[: L - 1]])  # h before each step
    return d, dh, dc, product(d.reshape(L * N, 4 * H).T, before.reshape(L * N, H), None)
