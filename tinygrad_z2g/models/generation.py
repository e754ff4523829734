"""Writing, in all ways: prompts of different lengths, token by token, with ends and with a cache from before.

`LanguageModel` stands in `core/gpt.py` with the plain way; the methods here are attached to it. They know nothing of
what is inside a model, and nothing of text: a token is a number.
"""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, overload

import numpy as np

from .. import creation, fast
from ..arrays import blas
from ..arrays.backend import to_device, to_host
from ..arrays.dtypes import int64
from ..arrays.random import Generator
from ..core import gpt
from ..core.attach import attach
from ..core.modes import no_grad
from ..fast import forms
from ..nn import Cache
from ..tensor import Tensor

__all__ = ["LanguageModel", "of_few_rows", "sample"]

_F = TypeVar("_F", bound=Callable[..., Tensor])

_core_generate = gpt.LanguageModel.generate


def of_few_rows(next_scores: _F) -> _F:
    """The method `next_scores`, on one thread where its products are small: each would wait for a second, see `blas`.

    The largest in a block multiplies by width x hidden weights; the last layer comes once, and may have four times as
    many.
    """

    @functools.wraps(next_scores)
    def asked(self: Any, ids: Tensor, cache: Cache) -> Tensor:
        config, weights = self.config, 0
        width, hidden = getattr(config, "width", None), getattr(config, "hidden", None)
        if isinstance(width, int) and isinstance(ids.array, np.ndarray):  # a model of one's own may mean other things
            weights = width * max(hidden if isinstance(hidden, int) else 4 * width, config.vocab_size // 4)
        with blas.few(ids.array.size, weights):
            return next_scores(self, ids, cache)

    return next_scores if forms.plain() else asked  # type: ignore[return-value]  # of the same signature


class LanguageModelMethods:
    """What is attached to `LanguageModel`."""

    next_scores = of_few_rows(gpt.LanguageModel.next_scores)

    @overload
    def generate(
        self: Any, prompt: Tensor, max_new_tokens: int, temperature: float = 1.0, top_k: int | None = None,
        top_p: float | None = None, generator: Generator | None = None, stop: Iterable[int] = (),
    ) -> Tensor: ...  # fmt: skip

    @overload
    def generate(
        self: Any, prompt: Sequence[Sequence[int] | Tensor], max_new_tokens: int, temperature: float = 1.0,
        top_k: int | None = None, top_p: float | None = None, generator: Generator | None = None,
        stop: Iterable[int] = (),
    ) -> list[Tensor]: ...  # fmt: skip

    def generate(
        self: Any, prompt: Tensor | Sequence[Sequence[int] | Tensor], max_new_tokens: int, temperature: float = 1.0,
        top_k: int | None = None, top_p: float | None = None, generator: Generator | None = None,
        stop: Iterable[int] = (),
    ) -> Any:  # fmt: skip
        """The prompt (B, T) continued by `max_new_tokens` sampled tokens: (B, T + max_new_tokens).

        A list of prompts, which may differ in length, gives a list of tensors. For temperature, top_k and top_p see
        `sample`. A row ends with a token in `stop`, and repeats it while others go on. The model sees the last
        `context` tokens. ValueError for an empty prompt or a setting out of range.
        """
        usual = top_p is None and generator is None and not stop
        if usual and isinstance(prompt, Tensor) and prompt.dtype == int64 and prompt.device == self._home():
            return _core_generate(self, prompt, max_new_tokens, temperature, top_k)
        if isinstance(prompt, Tensor) and (prompt.ndim != 2 or prompt.array.shape[1] == 0):
            raise ValueError(f"generate: expected a prompt of shape (B, T) with T >= 1, got {tuple(prompt.shape)}")
        if max_new_tokens < 0:
            raise ValueError(f"generate: max_new_tokens must be >= 0, got {max_new_tokens}")
        rows = _rows(to_host(prompt.array).tolist() if isinstance(prompt, Tensor) else prompt)
        stop, ended = frozenset(stop), [False] * len(rows)
        steps = self.stream(rows, temperature, top_k, top_p, generator)
        for _, new in zip(range(max_new_tokens), steps, strict=False):
            for i, (row, token) in enumerate(zip(rows, new, strict=True)):
                if ended[i] and isinstance(prompt, Tensor):
                    row.append(row[-1])
                elif not ended[i]:
                    row.append(token)
                    ended[i] = token in stop
            if all(ended):
                break
        steps.close()
        device = self._home()
        if isinstance(prompt, Tensor):
            return creation.tensor(rows, dtype="int64", device=prompt.device)
        return [creation.tensor(row, dtype="int64", device=device) for row in rows]

    def stream(
        self: Any, prompt: Sequence[Sequence[int]], temperature: float = 1.0, top_k: int | None = None,
        top_p: float | None = None, generator: Generator | None = None, cache: Cache | None = None,
    ) -> Iterator[list[int]]:  # fmt: skip
        """The tokens that continue the prompts, one for each at a time, without end. The settings are `generate`'s.

        A `cache` from before holds what came before the prompt, for one prompt only, as in a conversation; ValueError
        when it is full. While tokens are drawn the model is in evaluation mode.
        """
        rows = _rows(prompt)
        if not rows or not all(rows):
            raise ValueError("generate: expected at least one prompt, and at least one token in each")
        if not all(0 <= token < self.config.vocab_size for row in rows for token in row):
            raise IndexError(f"generate: prompt ids must be in the range 0 to {self.config.vocab_size - 1}")
        was_training, device, given = self.training, self._home(), cache is not None
        self.eval()
        try:
            window, before = rows, 0 if cache is None else len(cache)
            while True:
                # Keys know their position; once the window slides, every position changes and the cache is void
                length = before + max(map(len, rows))
                if given and length > self.config.context:
                    raise ValueError(f"generate: the cache is full ({self.config.context} tokens); begin a new one")
                if cache is None or length > self.config.context:
                    window = [row[-self.config.context :] for row in rows]
                    blanks = [max(map(len, window)) - len(row) for row in window]
                    cache = Cache(creation.tensor(blanks, dtype="int64", device=device) if any(blanks) else None)
                    window = [[0] * n + row for n, row in zip(blanks, window, strict=True)]
                with no_grad():
                    scores = self.next_scores(creation.tensor(window, dtype="int64", device=device), cache)
                    new = sample(scores, temperature, top_k, top_p, generator).tolist()  # (B,)
                yield new
                for row, token in zip(rows, new, strict=True):
                    row.append(token)
                window = [[token] for token in new]
        finally:
            self.train(was_training)

    def _home(self: Any) -> Any:
        return next((tensor.device for tensor in itertools.chain(self.parameters(), self.buffers())), None)


def _rows(prompt: Iterable[Iterable[Any]]) -> list[list[int]]:
    """The ids of each prompt as Python's integers. TypeError for what is none: half an id would be cut off."""
    try:
        return [[operator.index(token) for token in row] for row in prompt]
    except TypeError as error:
        raise TypeError(f"generate: expected prompts, each a sequence of integers; {error}") from None


def sample(
    scores: Tensor, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None,
    generator: Generator | None = None,
) -> Tensor:  # fmt: skip
    """One token id per row of scores (B, V) -> (B,), as in the core. top_p: only the likeliest tokens that together
    reach probability p (Holtzman et al. 2020)."""
    if top_p is not None and not 0 <= top_p <= 1:
        raise ValueError(f"sample: top_p must be between 0 and 1, got {top_p}")
    if top_p is not None and temperature > 0:
        scores = _nucleus(scores, temperature, top_k, top_p)
    return gpt.sample(scores, temperature, top_k, generator)


def _nucleus(scores: Tensor, temperature: float, top_k: int | None, top_p: float) -> Tensor:
    """The scores, -inf where a token does not belong to the likeliest that together reach probability p."""
    host, scaled = to_host(scores.array), gpt.tempered(scores, temperature)
    order = (-scaled).argsort(axis=1, kind="stable")  # likeliest first
    ranked = fast.softmax(np.take_along_axis(scaled, order, axis=1), 1)  # (B, V)
    if top_k is not None:
        ranked[:, top_k:] = 0
    far = ranked.cumsum(axis=1) - ranked >= top_p  # whether all likelier tokens reach p without it
    far[:, 0] = False  # the likeliest always stays
    dropped = np.empty_like(far)
    np.put_along_axis(dropped, order, far, axis=1)
    return scores.make(to_device(np.where(dropped, -np.inf, host), scores.device))


if TYPE_CHECKING:  # who checks types sees so what is attached

    class LanguageModel(LanguageModelMethods, gpt.LanguageModel): ...

else:
    LanguageModel = gpt.LanguageModel
    attach(LanguageModel, LanguageModelMethods)
