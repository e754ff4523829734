"""Products with weights of four or eight bits, 32 of which share a scale: the blocks of GGUF files.

A weight is w = scale · q + offset, with q a small integer; scale and offset belong to the block. Here a matrix (out,
in) of nb = in / 32 blocks a row lies transposed, so that all loops run along `out`:

    quants   (nb, 16, out) uint8, two weights a byte: weight i of the block in the low bits of byte i, weight i + 16 in
             its high bits; or (nb, 32, out) int8, one weight a byte
    scales   (nb, out)
    offsets  (nb, out), or None where all are 0

The arrays are NumPy's or CuPy's. Nothing here knows of files, tensors or layers, and nothing of gradients.
"""

from __future__ import annotations

import numpy as np

from ..arrays.backend import Array, of

BLOCK = 32
KINDS = {"Q4_0": 18, "Q4_1": 20, "Q8_0": 34}  # bytes of a block: scale, perhaps offset, in float16, then the integers
FEW = 16  # rows of x up to which its products with quants are scaled, not the quants
TOGETHER = 2**18  # numbers expanded at a time, a megabyte: of 2^16 to 2^20 the quickest for rows of 576 and 1,536


def from_file(data: np.ndarray, kind: str) -> tuple[Array, Array, Array | None]:
    """quants, scales and offsets of a file's blocks (out, bytes of a row), uint8. `kind` is one of KINDS."""
    blocks = data.reshape(len(data), -1, KINDS[kind])  # (out, bytes) -> (out, nb, bytes of a block)
    start = KINDS[kind] % 16  # 2 or 4
    halves = blocks[:, :, :start].copy().view(np.float16).astype(np.float32)  # (out, nb, 1 or 2)
    scales = np.ascontiguousarray(halves[:, :, 0].T)
    quants = np.ascontiguousarray(blocks[:, :, start:].transpose(1, 2, 0))  # (out, nb, m) -> (nb, m, out)
    if kind == "Q8_0":
        return quants.view(np.int8), scales, None
    offsets = scales * -8 if kind == "Q4_0" else np.ascontiguousarray(halves[:, :, 1].T)
    return quants, scales, offsets


def expand(quants: Array, scales: Array, offsets: Array | None) -> Array:
    """Wᵀ (in, out) in the dtype of the scales."""
    (nb, m, out), dtype = quants.shape, scales.dtype
    w = of(quants).empty((nb, BLOCK, out), dtype)
    if m == BLOCK:
        w[...] = quants
    else:
        w[:, :m] = quants & 15
        w[:, m:] = quants >> 4
    w *= scales[:, None]
    if offsets is not None:
        w += offsets[:, None]
    return w.reshape(nb * BLOCK, out)


def product(x: Array, quants: Array, scales: Array, offsets: Array | None) -> Array:
    """x Wᵀ, (n, in) -> (n, out), a part of W at a time, small enough for the cache."""
    xp, (nb, m, out) = of(x), quants.shape
    if len(x) > FEW:  # then expanding is little beside the product
        z = xp.empty((len(x), out), x.dtype)
        for j in _columns(nb, out):
            z[:, j] = x @ expand(quants[:, :, j], scales[:, j], None if offsets is None else offsets[:, j])
        return z
    # Scaling the sums of a block is 1/32 of scaling its weights; offsets need the sums of x alone
    x = x.reshape(len(x), nb, BLOCK)  # (n, in) -> (n, nb, 32)
    z = xp.zeros((len(x), out), x.dtype) if offsets is None else x.sum(2) @ offsets  # (n, nb) @ (nb, out)
    x = xp.ascontiguousarray(x.swapaxes(0, 1))  # (nb, n, 32)
    low, high = x[:, :, :16], x[:, :, 16:] * (1 / 16)  # the high bits are taken in place, 16 times as much
    for j in slices(out, TOGETHER // m):
        for i in slices(nb, max(1, TOGETHER // (m * min(out, TOGETHER // m)))):
            q = quants[i, :, j]
            if m == BLOCK:
                dots = xp.matmul(x[i], q.astype(x.dtype))  # (b, n, 32) @ (b, 32, out) -> (b, n, out)
            else:
                dots = xp.matmul(low[i], (q & 15).astype(x.dtype))  # (b, n, 16) @ (b, 16, out)
                dots += xp.matmul(high[i], (q & 240).astype(x.dtype))
            dots *= scales[i, None, j]
            z[:, j] += dots.sum(0)
    return z


def product_transposed(grad: Array, quants: Array, scales: Array, offsets: Array | None) -> Array:
    """grad W, (n, out) -> (n, in): what the gradient of x in `product` is."""
    nb, _, out = quants.shape
    z = of(grad).zeros((len(grad), nb * BLOCK), grad.dtype)
    for j in _columns(nb, out):
        z += grad[:, j] @ expand(quants[:, :, j], scales[:, j], None if offsets is None else offsets[:, j]).T
    return z


def rows(ids: Array, quants: Array, scales: Array, offsets: Array | None) -> Array:
    """W[ids], (n,) -> (n, in)."""
    return expand(quants[:, :, ids], scales[:, ids], None if offsets is None else offsets[:, ids]).T


def slices(n: int, step: int) -> list[slice]:
    """0..n in slices of `step`, the last of what is left."""
    return [slice(i, min(i + step, n)) for i in range(0, n, step)]


def _columns(nb: int, out: int) -> list[slice]:
    """Parts of W with 16 MiB of float32 when expanded."""
    return slices(out, max(64, 2**22 // max(nb * BLOCK, 1)))
