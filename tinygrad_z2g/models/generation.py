"""Writing: a language model's prediction is drawn from and fed back, a token at a time.

It knows nothing of what is inside a model, and nothing of text: a token is a number.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from .. import creation, fast
from ..arrays.backend import to_device, to_host
from ..arrays.random import Generator
from ..core.modes import no_grad
from ..nn import Cache, Module
from ..tensor import Tensor


class LanguageModel(Module):
    """Token ids (B, T) -> scores of the next token at every position (B, T, vocab_size), and a loss or None.

    `config` has `vocab_size` and `context`. What is here is the same for all of them.
    """

    config: Any

    def next_scores(self, ids: Tensor, cache: Cache) -> Tensor:
        """The scores of the token after the last: (B, T) -> (B, V). `ids` are those that the cache has not seen."""
        scores, _ = self(ids, cache=cache)
        return scores[:, -1]

    def generate(
        self, prompt: Tensor | Sequence[Sequence[int]], max_new_tokens: int, temperature: float = 1.0,
        top_k: int | None = None, top_p: float | None = None, generator: Generator | None = None,
        stop: Iterable[int] = (),
    ) -> Any:  # fmt: skip
        """The prompt (B, T) continued by `max_new_tokens` sampled tokens: (B, T + max_new_tokens).

        A list of prompts, which may differ in length, gives a list of tensors. temperature: below 1 bolder, above 1
        wilder, 0 always the likeliest. top_k: only the k likeliest. top_p: only the likeliest that together reach
        probability p (Holtzman et al. 2020). A row ends with a token in `stop`, and repeats it while others go on. The
        model sees the last `context` tokens. ValueError for an empty prompt or a setting out of range.
        """
        if isinstance(prompt, Tensor) and (prompt.ndim != 2 or prompt.array.shape[1] == 0):
            raise ValueError(f"generate: expected a prompt of shape (B, T) with T >= 1, got {tuple(prompt.shape)}")
        if max_new_tokens < 0:
            raise ValueError(f"generate: max_new_tokens must be >= 0, got {max_new_tokens}")
        rows = to_host(prompt.array).tolist() if isinstance(prompt, Tensor) else [[int(t) for t in p] for p in prompt]
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
        self, prompt: Sequence[Sequence[int]], temperature: float = 1.0, top_k: int | None = None,
        top_p: float | None = None, generator: Generator | None = None, cache: Cache | None = None,
    ) -> Iterator[list[int]]:  # fmt: skip
        """The tokens that continue the prompts, one for each at a time, without end. The settings are `generate`'s.

        A `cache` from before holds what came before the prompt, for one prompt only, as in a conversation; ValueError
        when it is full. While tokens are drawn the model is in evaluation mode.
        """
        rows = [list(row) for row in prompt]
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

    def _home(self) -> Any:
        return next((tensor.device for tensor in (*self.parameters(), *self.buffers())), None)


def sample(
    scores: Tensor,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """One token id per row of scores (B, V) -> (B,). The settings are those of `LanguageModel.generate`."""
    if not temperature >= 0:
        raise ValueError(f"sample: temperature must be >= 0, got {temperature}")
    if top_k is not None and top_k < 1:
        raise ValueError(f"sample: top_k must be at least 1, got {top_k}")
    if top_p is not None and not 0 <= top_p <= 1:
        raise ValueError(f"sample: top_p must be between 0 and 1, got {top_p}")
    if temperature == 0:
        return scores.argmax(1)
    with np.errstate(over="ignore"):  # a tiny temperature
        host = to_host(scores.array).astype(np.float64) / temperature
    order = (-host).argsort(axis=1, kind="stable")  # likeliest first
    ranked = fast.softmax(np.take_along_axis(host, order, axis=1), 1)  # (B, V)
    if top_k is not None:
        ranked[:, top_k:] = 0
    if top_p is not None:
        before = ranked.cumsum(axis=1) - ranked  # probability of all likelier tokens
        ranked[:, 1:][before[:, 1:] >= top_p] = 0  # the likeliest always stays
    choice = creation.multinomial(Tensor.make(ranked), 1, generator=generator).array  # (B, 1)
    return Tensor.make(to_device(np.take_along_axis(order, choice, axis=1)[:, 0], scores.device))
