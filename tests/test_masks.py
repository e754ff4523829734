"""Masks and inputs of attention: every shape and type that is accepted means what it says, all others are refused.

Shapes are drawn, right ones and those that a careless reshape or broadcast would make fit; the numbers that are
expected are computed example by example and head by head in NumPy.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numeric import host

import tinygrad_z2g as z2g
from tinygrad_z2g import nn
from tinygrad_z2g.nn import functional as F

E, HEADS = 4, 2
DTYPES = ["bool", "float32", "float64", "float16", "int64", "uint8"]
REFUSED = (RuntimeError, TypeError)


def numbers(shape: tuple, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def mask_of(shape: tuple, dtype: str) -> np.ndarray:
    """Every third place is forbidden, or some numbers."""
    n = np.arange(math.prod(shape)).reshape(shape)
    return np.asarray(n % 3 == 1 if dtype == "bool" else n % 3 / 2, dtype)


def wrong_shapes(shape: tuple) -> list[tuple]:
    """What a reshape, a transpose or broadcasting would turn into `shape`, and neighbours."""
    found = [shape[::-1], (*shape, 1), (1, *shape), (math.prod(shape),), shape[1:], shape[:-1], (1,) * len(shape)]
    found += [(*shape[:i], n, *shape[i + 1:]) for i in range(len(shape)) for n in (1, shape[i] + 1)]
    return [other for other in found if other != shape]


def attend(q: np.ndarray, k: np.ndarray, v: np.ndarray, added: np.ndarray) -> np.ndarray:
    """One example, one head: (T, d), (S, d), (S, e), and what is added to the scores (T, S)."""
    scores = q @ k.T / math.sqrt(q.shape[-1]) + added
    top = np.max(scores, axis=-1, keepdims=True, initial=-1e30)
    p = np.exp(scores - np.where(np.isinf(top), 0, top))
    total = p.sum(-1, keepdims=True)
    return p / np.where(total == 0, 1, total) @ v


def added(mask: np.ndarray, shape: tuple, allows: bool) -> np.ndarray:
    if mask.dtype == bool:
        mask = np.where(mask == allows, 0, -np.inf)
    return np.broadcast_to(mask.astype(float), shape)


# --- scaled_dot_product_attention --------------------------------------------------------------------------------


@given(data=st.data())
def test_masks_broadcast_to_the_scores_and_never_stretch_them(data: Any) -> None:
    batch = data.draw(st.sampled_from([(), (3,), (2, 3), (3, 3)]))
    T, S = data.draw(st.sampled_from([(4, 5), (3, 3), (5, 1), (1, 4)]))
    q, k, v = numbers((*batch, T, 2), 1), numbers((*batch, S, 2), 2), numbers((*batch, S, 3), 3)
    scores = (*batch, T, S)
    shape = data.draw(st.just(scores) | st.just((T, S)) | st.just((S,)) | st.sampled_from(wrong_shapes(scores)))
    dtype = data.draw(st.sampled_from(["bool", "float32", *DTYPES]))
    mask = mask_of(shape, dtype)
    fits = len(shape) <= len(scores) and all(m in (1, n) for m, n in zip(shape[::-1], scores[::-1], strict=False))
    tensors = [z2g.tensor(a) for a in (q, k, v, mask)]
    if not fits or dtype not in ("bool", "float32"):
        with pytest.raises(RuntimeError, match="scaled_dot_product_attention: attn_mask"):
            F.scaled_dot_product_attention(*tensors)
        return
    z = host(F.scaled_dot_product_attention(*tensors))
    assert z.shape == (*batch, T, 3) and z.dtype == np.float32
    whole = added(mask, scores, allows=True)
    for i in np.ndindex(*batch):
        np.testing.assert_allclose(z[i], attend(q[i], k[i], v[i], whole[i]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_a_float32_mask_suits_any_query(dtype: str) -> None:
    """As in torch; the result keeps the query's dtype."""
    q = z2g.tensor(numbers((3, 2), 1)).to(dtype)
    z = F.scaled_dot_product_attention(q, q, q, z2g.tensor(mask_of((3, 3), "float32")))
    assert z.dtype == np.dtype(dtype)


@pytest.mark.parametrize("wrong", [1.0, [[True]], "causal", np.ones((3, 3), bool)], ids=repr)
def test_what_is_no_tensor_is_no_mask(wrong: Any) -> None:
    q, mha = z2g.ones(3, E), nn.MultiheadAttention(E, HEADS)
    for call in (
        lambda: F.scaled_dot_product_attention(q, q, q, wrong),
        lambda: mha(q, q, q, attn_mask=wrong),
        lambda: mha(q, q, q, key_padding_mask=wrong),
    ):
        with pytest.raises(TypeError, match=r"mask.*Tensor"):
            call()


# --- MultiheadAttention ------------------------------------------------------------------------------------------


def by_hand(mha: Any, q: np.ndarray, kv: np.ndarray, padding: Any, mask: Any) -> np.ndarray:
    """(N, L, E), (N, S, E) -> (N, L, E), each example and head by itself."""
    w, b = host(mha.in_proj_weight).astype(float), host(mha.in_proj_bias).astype(float)
    N, L, S, size = len(q), q.shape[1], kv.shape[1], E // HEADS
    out = np.zeros((N, L, E))
    for n in range(N):
        parts = [x @ w[i * E : (i + 1) * E].T + b[i * E : (i + 1) * E] for i, x in enumerate((q[n], kv[n], kv[n]))]
        for h in range(HEADS):
            total = np.zeros((L, S))
            if padding is not None:
                total = total + added(padding[n], (L, S), allows=False)
            if mask is not None:
                total = total + added(mask if mask.ndim == 2 else mask[n * HEADS + h], (L, S), allows=False)
            cut = slice(h * size, (h + 1) * size)
            out[n, :, cut] = attend(*(x[:, cut] for x in parts), total)
    return out @ host(mha.out_proj.weight).T.astype(float) + host(mha.out_proj.bias)


@given(data=st.data())
def test_masks_of_multihead_attention(data: Any) -> None:
    """One shape each is right: (N, S) for padding, (L, S) or (N · heads, L, S) for the mask."""
    N, L, S = data.draw(st.sampled_from([(3, 4, 5), (2, 3, 3), (3, 3, 3), (1, 2, 4), (4, 4, 2)]))
    batched, first = data.draw(st.booleans()), data.draw(st.booleans())
    N = N if batched else 1
    right = {"key_padding_mask": [(N, S) if batched else (S,)], "attn_mask": [(L, S), (N * HEADS, L, S)]}
    given, allowed = {}, True
    for name, shapes in right.items():
        if not data.draw(st.booleans()):
            continue
        extra = [(N, HEADS, L, S), (N, L, S), (HEADS, L, S), (S, N), (N * S,)]
        others = [s for shape in shapes for s in [*wrong_shapes(shape), *extra]]
        shape = data.draw(st.sampled_from(shapes * 10 + others))
        dtype = data.draw(st.sampled_from([*["bool", "float32"] * 3, *DTYPES]))
        given[name] = mask_of(shape, dtype)
        allowed = allowed and shape in shapes and dtype in ("bool", "float32")
    need_weights = data.draw(st.booleans())
    mha = nn.MultiheadAttention(E, HEADS, batch_first=first)
    q, kv = numbers((N, L, E), 1), numbers((N, S, E), 2)

    def arranged(x: np.ndarray) -> Any:
        return z2g.tensor(x[0] if not batched else x if first else x.swapaxes(0, 1))

    def call() -> Any:
        tensors = {name: z2g.tensor(mask) for name, mask in given.items()}
        return mha(arranged(q), arranged(kv), arranged(kv), need_weights=need_weights, **tensors)[0]

    if not allowed:
        with pytest.raises(RuntimeError, match=r"MultiheadAttention: (key_padding|attn)_mask"):
            call()
        return
    padding = given.get("key_padding_mask")
    padding = padding[None] if padding is not None and not batched else padding
    expected = by_hand(mha, q, kv, padding, given.get("attn_mask"))
    np.testing.assert_allclose(host(call()), host(arranged(expected)), rtol=1e-3, atol=1e-5)


@given(data=st.data())
def test_inputs_of_multihead_attention(data: Any) -> None:
    """Key and value have one shape, and share the query's N and E."""
    first = data.draw(st.booleans())
    n, s = (0, 1) if first else (1, 0)
    shapes = [(3, 4, E), (3, 5, E), (4, 3, E), (1, 4, E), (4, E), (3, E), (3, 4, E + 1), (3, E + 1), (E,), (2, 3, 4, E)]
    shape = st.sampled_from(shapes)
    q, k = data.draw(shape), data.draw(shape)
    v = data.draw(st.just(k) | shape)
    allowed = len(q) in (2, 3) and len(k) == len(q) and k == v and q[-1] == k[-1] == E
    allowed = allowed and (len(q) == 2 or q[n] == k[n])
    mha = nn.MultiheadAttention(E, HEADS, batch_first=first)
    tensors = [z2g.ones(*sizes) for sizes in (q, k, v)]
    if not allowed:
        with pytest.raises(RuntimeError, match="MultiheadAttention: query"):
            mha(*tensors)
    else:
        out, weights = mha(*tensors)
        assert tuple(out.shape) == q
        assert tuple(weights.shape) == ((q[0], k[0]) if len(q) == 2 else (q[n], q[s], k[s]))


def test_a_mask_of_another_device_is_refused() -> None:
    import fakecupy

    with fakecupy.installed():
        q, mask = z2g.ones(3, E), z2g.zeros(3, 3, dtype=z2g.bool).to("cuda")
        for call in (lambda: F.scaled_dot_product_attention(q, q, q, mask),
                     lambda: nn.MultiheadAttention(E, HEADS)(q, q, q, attn_mask=mask)):  # fmt: skip
            with pytest.raises(RuntimeError, match="one device"):
                call()
