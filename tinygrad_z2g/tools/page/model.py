"""`page`: a trained GPT as a web page, to write with and to look into.

The weights go into the page as 16-bit integers with a scale for each row of a matrix: two bytes a weight, as float16
takes, and a tenth of its error (logits of step 18's model off by 3e-4 at most, by 3e-3 with float16). The forward pass
in JavaScript is `web/network.js`.
"""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np

from ...arrays.backend import to_host
from ...creation import arange
from ...models import GPT
from ...nn import functional as F
from .document import Page, base64_text, check_path

LARGEST = 12_000_000  # weights: a page of 32 MB, which a phone can still open
SCRIPTS = ["network.js", "random.js", "writer.js", "look.js", "map.js", "gpt.js"]


def page(
    model: GPT, tokenizer: Any, path: str | os.PathLike[str] | None = None, *, title: str = "A small GPT",
    prompt: str = "", temperature: float = 0.5, top_k: int | None = None, tokens: int = 300, seed: int = 1,
) -> Page:  # fmt: skip
    """A web page that holds the model and runs it: `z2g.page(model, tokenizer, "gpt.html")`.

    One file, which needs no server and no network. Its reader types a beginning and watches the text being written;
    sees which letters were likely, how surprising each one is, where each head of attention looks, what the model
    would say after each block, and a map of letters and positions. `prompt`, `temperature`, `top_k`, `tokens` and
    `seed` are what its fields start with (the prompt: by default the tokenizer's first letter). With the same settings
    it writes what `generate` writes with a `Generator` of that seed, unless two letters are as good as equally likely.

    The tokenizer must have one letter for each number, as `text.CharTokenizer` does. Returns the page, which a
    notebook shows; `path` None writes no file.

    TypeError for another kind of model or tokenizer; ValueError for a tokenizer that does not fit the model, weights
    that are not finite, a model too large for a page (12 million weights), a prompt that the tokenizer does not know or
    a setting out of range; OSError if the file cannot be written.
    """
    if path is not None:
        check_path(path)
    if not isinstance(model, GPT):
        what = model.__name__ if isinstance(model, type) else type(model).__name__
        raise TypeError(f"page: expected a models.GPT, got {what}; a page holds GPTs of up to {LARGEST:,} weights")
    parameters = {name: to_host(p.array) for name, p in model.named_parameters()}
    count = sum(array.size for array in parameters.values())
    if count > LARGEST:
        raise ValueError(f"page: {count:,} weights are too large for a web page, which holds up to {LARGEST:,}")
    expected = {name: p.shape for name, p in GPT(model.config).named_parameters()} if count else {}
    if {name: array.shape for name, array in parameters.items()} != {k: tuple(s) for k, s in expected.items()}:
        raise TypeError("page: this GPT has other parts than models.GPT makes; the page would compute something else")
    for name, array in parameters.items():
        if not np.isfinite(array).all():
            raise ValueError(f"page: {name} holds nan or infinite numbers; train again with a smaller learning rate")
    letters = _letters(tokenizer, model.config.vocab_size)
    prompt = prompt or letters[0]
    unknown = sorted(set(prompt) - set(letters))
    if unknown:
        raise ValueError(f"page: the prompt has {', '.join(map(repr, unknown))}, which the tokenizer does not know")
    _check(temperature, top_k, tokens, seed)
    settings = {"prompt": prompt, "temperature": temperature, "top_k": top_k, "tokens": tokens, "seed": seed}
    config = model.config
    sizes = {name: getattr(config, name) for name in ("context", "layers", "heads", "width")}
    places = _turns(config) if config.rotary else parameters["position_embedding.weight"]
    letter_points, letter_share = _plane(parameters["token_embedding.weight"])
    place_points, place_share = _plane(places)
    made = Page(title, "gpt", SCRIPTS, {
        "title": title, "letters": letters, "parameters": count, "settings": settings,
        "config": {**sizes, "vocabulary": config.vocab_size, "eps": model.norm.eps,
                   "rotary": config.rope_base if config.rotary else None},
        "map": {"letters": letter_points, "places": place_points, "shares": [letter_share, place_share]},
        "weights": _packed(parameters),
    })  # fmt: skip
    if path is not None:
        made.save(path)
    return made


def _turns(config: Any) -> np.ndarray:
    """For each position cos and sin of the angles by which rotary positions turn queries and keys: (context, hs)."""
    angles = F.rotary_angles(arange(config.context), config.width // config.heads, config.rope_base)
    return np.concatenate([to_host(part.array) for part in angles], axis=1)  # (T, hs / 2) twice -> (T, hs)


def _letters(tokenizer: Any, size: int) -> list[str]:
    """What each number stands for. TypeError or ValueError unless they are as many different letters."""
    for name in ("decode", "__len__"):
        if not hasattr(type(tokenizer), name):
            raise TypeError(f"page: expected a tokenizer such as text.CharTokenizer, got {type(tokenizer).__name__}")
    if len(tokenizer) != size:
        raise ValueError(f"page: the tokenizer has {len(tokenizer)} letters, the model {size}; pass its own")
    letters = [tokenizer.decode([i]) for i in range(size)]
    odd = [letter for letter in letters if len(letter) != 1]
    if odd or len(set(letters)) != size:
        what = f"it has {odd[0]!r}" if odd else "some stand twice"
        raise ValueError(f"page: needs a tokenizer with one letter for each number, but {what}")
    return letters


def _check(temperature: Any, top_k: Any, tokens: Any, seed: Any) -> None:
    """ValueError for settings out of range."""
    if isinstance(temperature, bool) or not isinstance(temperature, (int, float)) or not 0 <= temperature < math.inf:
        raise ValueError(f"page: temperature must be a number >= 0, got {temperature!r}")
    for name, value, low in (("top_k", 1 if top_k is None else top_k, 1), ("tokens", tokens, 1), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise ValueError(f"page: {name} must be an integer >= {low}, got {value!r}")


def _packed(parameters: dict[str, np.ndarray]) -> dict[str, Any]:
    """All weights as one text of 16-bit integers, and one of float32 scales: w ≈ integer · scale of its row."""
    tensors, numbers, scales = [], [], []
    for name, array in parameters.items():
        rows = array.astype(np.float64).reshape(-1, array.shape[-1])  # a vector is one row
        scale = (np.abs(rows).max(axis=1, keepdims=True) / 32767).astype(np.float32)
        scale[scale == 0] = 1
        tensors.append([name, *rows.shape])
        numbers.append(np.round(rows / scale).clip(-32767, 32767).astype("<i2").ravel())
        scales.append(scale.astype("<f4").ravel())
    return {
        "tensors": tensors,
        "numbers": base64_text(np.concatenate(numbers)),
        "scales": base64_text(np.concatenate(scales)),
    }


def _plane(vectors: np.ndarray) -> tuple[list[list[float]], float]:
    """Coordinates in the plane in which the rows differ most (principal components), and its share of the variance."""
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    points = np.zeros((len(vectors), 2))
    points[:, : len(s[:2])] = u[:, :2] * s[:2]  # (V, 2), fewer if there are fewer
    points *= np.where(points.sum(axis=0) < 0, -1, 1)  # the sign is arbitrary
    share = float((s[:2] ** 2).sum() / max((s**2).sum(), 1e-300))
    return [[float(f"{x:.4g}") for x in point] for point in points], share
