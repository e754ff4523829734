"""Causal attention by blocks of queries: the numbers of the whole, without computing what is above the diagonal."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numeric import check_grad, host, leaves

import tinygrad_z2g as z2g
from tinygrad_z2g import fast
from tinygrad_z2g.fast import reference
from tinygrad_z2g.nn import functional as F

BATCHES = [((), (), ()), ((2,), (2,), (2,)), ((2, 3), (1, 3), (3,)), ((1,), (2,), (3, 1)), ((0, 2), (0, 2), (0, 2))]


def inputs(T: int, S: int, batches: tuple = ((2,), (2,), (2,))) -> list[np.ndarray]:
    """q (..., T, 3), k (..., S, 3), v (..., S, 2)"""
    rng = np.random.default_rng(100 * T + S)
    return [rng.standard_normal((*batch, *size)) for batch, size in zip(batches, ((T, 3), (S, 3), (S, 2)), strict=True)]


def composed(q: Any, k: Any, v: Any, kept: Any = 1.0, scale: float = 0.7) -> np.ndarray:
    """Softmax over the keys 0..t, written out on whole matrices."""
    e = np.exp(scale * q @ k.swapaxes(-1, -2)) * np.tri(q.shape[-2], k.shape[-2])
    total = e.sum(axis=-1, keepdims=True)
    return e / np.where(total == 0, 1, total) * kept @ v


def whole_and_in_blocks(monkeypatch: Any, call: Any, block: int) -> tuple:
    results = []
    for size in (10**9, block):
        monkeypatch.setattr(reference, "BLOCK", size)
        results.append(call())
    return tuple(results)


@pytest.mark.parametrize("batches", BATCHES, ids=str)
@pytest.mark.parametrize(("T", "S"), [(5, 5), (6, 6), (7, 4), (4, 9), (7, 1), (0, 5), (5, 0), (1, 1)])
@pytest.mark.parametrize("drop", [0, 0.4, 1])
def test_blocks_give_the_numbers_of_the_whole(monkeypatch, batches, T, S, drop):
    """Forward and backward; dropout drops the same elements, since a mask is a function of key and position."""
    q, k, v = inputs(T, S, batches)
    p_shape = (*np.broadcast_shapes(batches[0], batches[1]), T, S)
    kept = reference.dropout_mask(np.zeros(p_shape), drop, 9) if drop else 1.0
    z_shape = (*np.broadcast_shapes(*batches), T, 2)
    grad = np.random.default_rng(1).standard_normal(z_shape)

    def both_ways():
        z, saved = reference.attention(q, k, v, None, True, 0.7, drop, 9)
        return z, saved, reference.attention_backward(grad, q, k, v, saved, 0.7)

    (z, one, grads), (z_blocks, many, grads_blocks) = whole_and_in_blocks(monkeypatch, both_ways, 2)
    assert len(one) == 1 and len(many) == max(1, -(-T // 2))
    assert z.shape == z_blocks.shape == z_shape and (drop < 1 or not z.any())
    np.testing.assert_allclose(z_blocks, composed(q, k, v, kept), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(z, z_blocks, rtol=1e-12, atol=1e-13)
    for a, b, x in zip(grads, grads_blocks, (q, k, v), strict=True):
        assert a.shape == b.shape == (*z_shape[:-2], *x.shape[-2:])
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("dropped", [0, 0.3])
@pytest.mark.parametrize(("T", "S"), [(5, 5), (5, 3), (3, 7)])
def test_gradients_in_blocks(monkeypatch, T, S, dropped):
    monkeypatch.setattr(reference, "BLOCK", 2)

    def attend(q, k, v):
        z2g.manual_seed(3)
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=dropped)

    check_grad(attend, inputs(T, S))


@pytest.mark.parametrize("dropped", [0, 0.3])
def test_one_example_at_a_time_in_blocks(monkeypatch, dropped):
    monkeypatch.setattr(reference, "BLOCK", 2)
    (q, k, v), grad = inputs(5, 5), np.random.default_rng(1).standard_normal((2, 5, 2))
    saved = reference.attention(q, k, v, None, True, 0.7, dropped, 9)[1]
    together = reference.attention_backward(grad, q, k, v, saved, 0.7)
    asked = []
    monkeypatch.setattr(reference, "large", lambda a: asked.append(a.shape) or a.ndim == 3)
    for a, b in zip(together, reference.attention_backward(grad, q, k, v, saved, 0.7), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)
    assert asked == [(2, 1, 5), *[(1, 5), (2, 2), (2, 4), (1, 5)] * 2]  # the last block is the largest


def test_nothing_is_computed_beyond_a_block(monkeypatch):
    asked, softmax = [], reference.softmax
    monkeypatch.setattr(reference, "softmax", lambda a, axis: asked.append(a.shape) or softmax(a, axis))
    q, k, v = inputs(150, 150)
    saved = reference.attention(q, k, v, None, True, 0.7, 0, 0)[1]
    assert asked == [(2, 64, 64), (2, 64, 128), (2, 22, 150)] == [p.shape for p, _ in saved]


def test_heads_cut_out_of_one_array(monkeypatch):
    """As a layer does it: q, k and v are thirds of (B, T, 3C), the heads' axis moved. float32 stays float32."""
    x = np.random.default_rng(0).standard_normal((2, 200, 3, 2, 4)).astype(np.float32)

    def run():
        leaf = leaves([x], np.float32)[0]
        q, k, v = (leaf[:, :, i].transpose(1, 2) for i in range(3))  # (B, T, nh, hs) -> (B, nh, T, hs)
        z = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        (z * z).sum().backward()
        return host(z), host(leaf.grad)

    (z, grad), (z_blocks, grad_blocks) = whole_and_in_blocks(monkeypatch, run, 64)
    q, k, v = x.astype(np.float64).transpose(2, 0, 3, 1, 4)  # (B, T, 3, nh, hs) -> (3, B, nh, T, hs)
    assert z.dtype == grad.dtype == z_blocks.dtype == grad_blocks.dtype == np.float32
    np.testing.assert_allclose(z_blocks, composed(q, k, v, scale=1 / math.sqrt(4)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(z, z_blocks, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(grad, grad_blocks, rtol=1e-4, atol=1e-5)


def test_float16_in_blocks(device):
    q = z2g.ones(70, 2, dtype=z2g.float16)
    v = z2g.arange(70.0).unsqueeze(1).to(z2g.float16)
    z = F.scaled_dot_product_attention(q, q, v, is_causal=True)
    assert z.dtype == np.float16
    np.testing.assert_allclose(host(z)[:, 0], np.arange(70) / 2, rtol=2e-3)


@pytest.mark.parametrize("limit", [0, 2**28])
def test_a_device_of_another_kind_gives_the_same_numbers(monkeypatch, device, limit):
    """On a GPU in tiles too; dropout drops the same weights everywhere."""
    monkeypatch.setattr(fast.cuda, "MOST_SCORES", limit)
    arrays = inputs(20, 20)

    def run(where):
        z2g.manual_seed(5)
        q, k, v = leaves(arrays, device=where)
        z = F.scaled_dot_product_attention(q, k, v, dropout_p=0.3, is_causal=True)
        z.backward(z2g.arange(1.0, z.numel() + 1, dtype=z2g.float64, device=where).reshape(z.shape))
        return [host(x) for x in (z, q.grad, k.grad, v.grad)]

    for there, here in zip(run(device), run("cpu"), strict=True):
        np.testing.assert_allclose(there, here, rtol=1e-10, atol=1e-10)
