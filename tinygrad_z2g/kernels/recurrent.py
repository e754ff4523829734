"""A layer of LSTM over all its steps, forward and backward, on plain arrays. It knows nothing of tensors or graphs."""

from __future__ import annotations

from ..backend import Array, of, silent


@silent
def lstm(inputs: Array, h: Array, c: Array, w: Array) -> tuple[Array, Array, Array, Array]:
    """All steps of a layer: i, f, o = σ(gates), g = tanh(gates), gates = inputs[t] + w h; c = f c + i g; h = o tanh c.

    inputs (L, N, 4H) in the order i, f, g, o; h, c (N, H); w (4H, H). Returns out (L + 1, N, H), which is h after each
    step and at the end c, and what backward needs: the gates after their nonlinearity (L, N, 4H), c before each step
    and after the last (L + 1, N, H), tanh c after each (L, N, H).

    σ(x) = 1 / (1 + e⁻ˣ), as in the operation of that name; (1 + tanh(x/2)) / 2, which would save a tenth of the time,
    is 0 from x = -18 on, where a gate that is nearly shut still lets 10⁻⁸ through.
    """
    xp, (L, N, H) = of(inputs), (*inputs.shape[:2], w.shape[1])
    gates = inputs.copy()
    w = xp.ascontiguousarray(w.T)  # (4H, H) -> (H, 4H); a third faster than the transposed view
    out = xp.empty((L + 1, N, H), inputs.dtype)
    cells, tanhs = xp.empty_like(out), xp.empty((L, N, H), inputs.dtype)
    cells[0] = c
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
    before = xp.concatenate([h[None], out[: L - 1]]) if L else out[:0]  # h before each step
    return d, dh, dc, d.reshape(L * N, 4 * H).T @ before.reshape(L * N, H)
