"""Llama and BERT once more, in plain float64 NumPy, sharing nothing with the package: what the real ones must equal.

Written from the papers, a text at a time, a head at a time, without a cache. Weights come as a dict of arrays under the
names that files use.
"""

from __future__ import annotations

import math

import numpy as np


def softmax(a: np.ndarray) -> np.ndarray:
    e = np.exp(a - a.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def rms(x: np.ndarray, w: np.ndarray, eps: float) -> np.ndarray:
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * w


def turned(x: np.ndarray, base: float, interleaved: bool) -> np.ndarray:
    """Rotary positions of one head (T, d), by complex numbers."""
    T, d = x.shape
    angles = np.arange(T)[:, None] / base ** (2 * np.arange(d // 2) / d)
    a, b = (x[:, 0::2], x[:, 1::2]) if interleaved else (x[:, : d // 2], x[:, d // 2 :])
    z = (a + 1j * b) * np.exp(1j * angles)
    out = np.empty_like(x)
    if interleaved:
        out[:, 0::2], out[:, 1::2] = z.real, z.imag
    else:
        out[:, : d // 2], out[:, d // 2 :] = z.real, z.imag
    return out


def llama(ids: list, w: dict, *, layers: int, heads: int, kv_heads: int, eps: float, base: float, interleaved: bool):
    """The scores (T, V) after each token of one text. Names as in a GGUF file."""
    w = {name: np.asarray(value, np.float64) for name, value in w.items()}
    x = w["token_embd.weight"][ids]
    T, C = x.shape
    size = C // heads
    for n in range(layers):
        of = {name.removeprefix(f"blk.{n}."): value for name, value in w.items() if name.startswith(f"blk.{n}.")}
        h = rms(x, of["attn_norm.weight"], eps)
        q, k, v = (h @ of[f"attn_{name}.weight"].T for name in "qkv")
        out = np.zeros_like(x)
        for i in range(heads):
            j = i // (heads // kv_heads)
            mine, shared = slice(i * size, (i + 1) * size), slice(j * size, (j + 1) * size)
            scores = turned(q[:, mine], base, interleaved) @ turned(k[:, shared], base, interleaved).T / math.sqrt(size)
            scores[np.triu_indices(T, 1)] = -np.inf
            out[:, mine] = softmax(scores) @ v[:, shared]
        x = x + out @ of["attn_output.weight"].T
        h = rms(x, of["ffn_norm.weight"], eps)
        gate = h @ of["ffn_gate.weight"].T
        x = x + (gate / (1 + np.exp(-gate)) * (h @ of["ffn_up.weight"].T)) @ of["ffn_down.weight"].T
    return rms(x, w["output_norm.weight"], eps) @ w.get("output.weight", w["token_embd.weight"]).T


def normed(x: np.ndarray, w: np.ndarray, b: np.ndarray, eps: float) -> np.ndarray:
    d = x - x.mean(-1, keepdims=True)
    return d / np.sqrt((d * d).mean(-1, keepdims=True) + eps) * w + b


def bert(ids: list, w: dict, *, layers: int, heads: int, eps: float) -> np.ndarray:
    """The vectors (T, C) of the tokens of one text. Names as in a safetensors file."""
    w = {name: np.asarray(value, np.float64) for name, value in w.items()}
    erf = np.vectorize(math.erf, otypes=[float])

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        return normed(x, w[f"{name}.weight"], w[f"{name}.bias"], eps)

    x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.position_embeddings.weight"][: len(ids)]
    x = norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    size = x.shape[1] // heads
    for n in range(layers):
        at = f"encoder.layer.{n}."
        q, k, v = (linear(x, f"{at}attention.self.{name}") for name in ("query", "key", "value"))
        out = np.zeros_like(x)
        for i in range(heads):
            mine = slice(i * size, (i + 1) * size)
            out[:, mine] = softmax(q[:, mine] @ k[:, mine].T / math.sqrt(size)) @ v[:, mine]
        x = norm(x + linear(out, f"{at}attention.output.dense"), f"{at}attention.output.LayerNorm")
        h = linear(x, f"{at}intermediate.dense")
        h = h * 0.5 * (1 + erf(h / math.sqrt(2)))
        x = norm(x + linear(h, f"{at}output.dense"), f"{at}output.LayerNorm")
    return x


def sentence_vector(vectors: np.ndarray) -> np.ndarray:
    mean = vectors.mean(0)
    return mean / np.sqrt((mean * mean).sum())
