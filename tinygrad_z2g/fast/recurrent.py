"""A layer of RNN, GRU or LSTM over all its steps, forward and backward, on plain arrays."""

from __future__ import annotations

import contextlib

import numpy as np

from ..arrays import blas
from ..arrays.backend import Array, of, silent
from .reference import total


def steps(N: int, w: Array) -> contextlib.AbstractContextManager[None]:
    """Around steps that multiply N rows by w each: on one thread, if they are small (see `blas`)."""
    return blas.few(N, w.size if isinstance(w, np.ndarray) else 0)


# --- LSTM --------------------------------------------------------------------------------------------------------


@silent
def lstm(inputs: Array, h: Array, c: Array, w: Array) -> tuple[Array, Array, Array, Array]:
    """All steps of a layer: i, f, o = σ(gates), g = tanh(gates), gates = inputs[t] + w h; c = f c + i g; h = o tanh c.

    inputs (L, N, 4H) in the order i, f, g, o; h, c (N, H); w (4H, H). Returns out (L + 1, N, H), which is h after each
    step and at the end c, and what backward needs: the gates after their nonlinearity (L, N, 4H), c before each step
    and after the last (L + 1, N, H), tanh c after each (L, N, H).

    σ(x) = 1 / (1 + e⁻ˣ), as in the operation of that name; (1 + tanh(x/2)) / 2, which would save a tenth of the time,
    is 0 from x = -18 on, where a gate that is nearly shut still lets 10⁻⁸ through.
    """
    xp, (L, N), H = of(inputs), inputs.shape[:2], w.shape[1]
    gates = inputs.copy()
    w = xp.ascontiguousarray(w.T)  # (4H, H) -> (H, 4H); a third faster than the transposed view
    out = xp.empty((L + 1, N, H), inputs.dtype)
    cells, tanhs = xp.empty_like(out), xp.empty((L, N, H), inputs.dtype)
    cells[0] = c
    with steps(N, w):
        for t in range(L):
            s, c = gates[t], cells[t + 1]
            s += h @ w  # (N, H) @ (H, 4H)
            g = xp.tanh(s[:, 2 * H : 3 * H])
            xp.negative(s, out=s)
            xp.exp(s, out=s)
            s += 1
            xp.divide(1, s, out=s)
            s[:, 2 * H : 3 * H] = g
            i, f, _, o = by_gate(s)
            xp.multiply(f, cells[t], out=c)
            c += i * g
            xp.tanh(c, out=tanhs[t])
            h = xp.multiply(o, tanhs[t], out=out[t])
    out[L] = cells[L]
    return out, gates, cells, tanhs


def by_gate(a: Array) -> Array:
    """The gates i, f, g, o of `a` (N, 4H) as a view (4, N, H)."""
    return a.reshape(len(a), 4, a.shape[1] // 4).swapaxes(0, 1)  # (N, 4H) -> (N, 4, H) -> (4, N, H)


def lstm_backward(
    grad: Array, out: Array, gates: Array, cells: Array, tanhs: Array, h: Array, w: Array
) -> tuple[Array, Array, Array, Array]:
    """The gradients of inputs, h, c and w in `lstm`, from that of `out`: backwards through time, step by step.

    dh and dc are ∂L/∂h and ∂L/∂c after step t. c reaches L through h, dc += dh o (1 - tanh² c), and through the next c.
    """
    xp, (L, N, H) = of(grad), tanhs.shape
    d = xp.empty_like(gates)  # ∂L/∂gates, before the nonlinearity
    dh, dc = xp.zeros_like(h), grad[L].copy()
    through_h, slope = xp.empty_like(h), xp.empty((N, 4 * H), grad.dtype)
    with steps(N, w):
        for t in reversed(range(L)):
            s, tanh = gates[t], tanhs[t]
            (i, f, g, o), (di, df, dg, do) = by_gate(s), by_gate(d[t])
            dh += grad[t]
            xp.multiply(tanh, tanh, out=through_h)
            xp.subtract(1, through_h, out=through_h)
            through_h *= o
            through_h *= dh
            dc += through_h
            xp.multiply(dc, g, out=di)
            xp.multiply(dc, cells[t], out=df)
            xp.multiply(dc, i, out=dg)
            xp.multiply(dh, tanh, out=do)
            xp.multiply(s, s, out=slope)
            xp.subtract(s, slope, out=slope)  # of σ: s - s²; of tanh: 1 - s²
            slope[:, 2 * H : 3 * H] = 1 - g * g
            d[t] *= slope
            xp.matmul(d[t], w, out=dh)  # (N, 4H) @ (4H, H)
            dc *= f
    return d, dh, dc, d.reshape(L * N, 4 * H).T @ preceding(out[:L], h).reshape(L * N, H)


# --- RNN ---------------------------------------------------------------------------------------------------------


@silent
def rnn(inputs: Array, h: Array, w: Array, relu: bool) -> Array:
    """All steps of a layer: h = φ(inputs[t] + w h), φ = tanh, or max(·, 0) if `relu`.

    inputs (L, N, H), h (N, H), w (H, H). Returns h after each step, (L, N, H).
    """
    xp, out = of(inputs), inputs.copy()
    w = xp.ascontiguousarray(w.T)
    with steps(len(h), w):
        for t in range(len(out)):
            s = out[t]
            s += h @ w  # (N, H) @ (H, H)
            h = xp.maximum(s, 0, out=s) if relu else xp.tanh(s, out=s)
    return out


def rnn_backward(grad: Array, out: Array, h: Array, w: Array, relu: bool) -> tuple[Array, Array, Array]:
    """The gradients of inputs, h and w in `rnn`, from that of `out`. dh is ∂L/∂h after step t."""
    xp, (L, N, H) = of(grad), out.shape
    d = (out != 0).astype(out.dtype) if relu else 1 - out * out  # slopes; then ∂L/∂(inputs[t] + w h)
    dh = xp.zeros_like(h)
    with steps(N, w):
        for t in reversed(range(L)):
            dh += grad[t]
            d[t] *= dh
            xp.matmul(d[t], w, out=dh)  # (N, H) @ (H, H)
    return d, dh, d.reshape(L * N, H).T @ preceding(out, h).reshape(L * N, H)


def preceding(out: Array, h: Array) -> Array:
    """The state before each step, (L, N, H), from those after each step and the first."""
    return of(out).concatenate([h[None], out[:-1]]) if len(out) else out


# --- GRU ---------------------------------------------------------------------------------------------------------


def thirds(a: Array) -> tuple[Array, Array, Array]:
    """The parts of r, z and n in `a` (..., 3H), as views (..., H)."""
    H = a.shape[-1] // 3
    return a[..., :H], a[..., H : 2 * H], a[..., 2 * H :]


@silent
def gru(inputs: Array, h: Array, w: Array, b: Array | None) -> tuple[Array, Array, Array]:
    """All steps of a layer: with i = inputs[t] and s = w h + b,

    r = σ(iᵣ + sᵣ),  z = σ(i_z + s_z),  n = tanh(iₙ + r sₙ),  h' = (1 - z) n + z h.

    inputs (L, N, 3H) in the order r, z, n; h (N, H); w (3H, H); b (3H,). Returns h after each step, (L, N, H), and what
    backward needs: r, z and n, (L, N, 3H), and sₙ, (L, N, H).
    """
    xp, (L, N), H = of(inputs), inputs.shape[:2], w.shape[1]
    gates, w = inputs.copy(), xp.ascontiguousarray(w.T)  # (3H, H) -> (H, 3H)
    out, inner = xp.empty((L, N, H), inputs.dtype), xp.empty((L, N, H), inputs.dtype)
    with steps(N, w):
        for t in range(L):
            s = h @ w  # (N, H) @ (H, 3H)
            if b is not None:
                s += b
            rz, n = gates[t, :, : 2 * H], gates[t, :, 2 * H :]
            rz += s[:, : 2 * H]
            xp.negative(rz, out=rz)
            xp.exp(rz, out=rz)
            rz += 1
            xp.divide(1, rz, out=rz)
            inner[t] = s[:, 2 * H :]
            n += rz[:, :H] * inner[t]
            xp.tanh(n, out=n)
            xp.subtract(h, n, out=out[t])
            out[t] *= rz[:, H:]
            out[t] += n
            h = out[t]
    return out, gates, inner


def gru_backward(
    grad: Array, out: Array, gates: Array, inner: Array, h: Array, w: Array
) -> tuple[Array, Array, Array, Array]:
    """The gradients of inputs, h, w and b in `gru`, from that of `out`: dh is ∂L/∂h' after step t, all of it.

    h' = n + z (h - n) gives dn = dh (1 - z), dz = dh (h - n), and dh z for the step before. The slopes 1 - n² and
    z (1 - z) lead before the nonlinearities; dr = dn sₙ r (1 - r), and s receives the same, its third part r dn.
    These factors of dh are made for all steps at once.
    """
    xp, (L, N, H) = of(grad), out.shape
    (r, z, n), before = thirds(gates), preceding(out, h)
    s = xp.empty_like(gates)  # ∂L/∂s, first without its factor dh
    sr, sz, sn = thirds(s)
    slope = (1 - n * n) * (1 - z)
    xp.multiply(slope * inner, r * (1 - r), out=sr)
    xp.multiply(before - n, z * (1 - z), out=sz)
    xp.multiply(slope, r, out=sn)
    dh = xp.zeros_like(h)
    with steps(N, w):
        for t in reversed(range(L)):
            dh += grad[t]
            slope[t] *= dh
            for part in (sr, sz, sn):
                part[t] *= dh
            dh *= z[t]
            dh += s[t] @ w  # (N, 3H) @ (3H, H)
    rows = s.reshape(L * N, 3 * H)
    dw, db = rows.T @ before.reshape(L * N, H), total(rows, (0,), False)
    d = s.copy()
    d[..., 2 * H :] = slope
    return d, dh, dw, db
