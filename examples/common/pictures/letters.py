"""The pictures of steps 12 to 18."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from .drawing import picture


@picture("12_next_letter")
def next_letter(axis: Any, rows: dict[str, list[tuple]], unigram: float, bigram: float) -> None:
    """Training and held-out losses as they fall: rows (step, training, held out) for each text."""
    for colour, (name, history) in zip(("C3", "C0"), rows.items(), strict=True):
        steps, training, unseen = zip(*history, strict=True)
        axis.plot(steps, training, colour, linestyle="--", label=f"{name}: training")
        axis.plot(steps, unseen, colour, label=f"{name}: held out")
    axis.axhline(unigram, color="C7", linestyle=":", label="unigram, bigram (held out)")
    axis.axhline(bigram, color="C7", linestyle=":")
    axis.set(xlabel="step", ylabel="loss (nats per letter)", ylim=(1.5, 4.2))
    axis.legend(frameon=False, ncols=2)


@picture("13_embedding_conv", columns=2, width=10)
def embedding_conv(
    axes: Any, mean: dict[str, float], weights: dict[str, int], letters: list[str], vectors: np.ndarray
) -> None:
    """Losses by form, and a map of the letters: the two directions in which their vectors (n, C) differ most."""
    left, right = axes
    left.barh([f"{name}\n{n} weights" for name, n in weights.items()], list(mean.values()))
    left.set(title="shorter is better", xlabel="held-out loss (nats per letter)", ylim=(4.5, -0.5))
    for i, value in enumerate(mean.values()):
        left.text(value, i, f"{value:.2f} ", ha="right", va="center", color="white")
    drawn = [i for i, letter in enumerate(letters) if letter.islower() or letter.isspace()]
    centred = vectors[drawn] - vectors[drawn].mean(axis=0)
    places = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T  # PCA: (n, C) @ (C, 2) -> (n, 2)
    right.scatter(*places.T, s=0)  # sets the limits
    for i, (x, y) in zip(drawn, places, strict=True):
        letter = letters[i].replace("\n", "¶").replace(" ", "␣")
        right.text(x, y, letter, color="C3" if letter in "aeiou" else "C0" if letter.islower() else "C7")
    right.set(title="vectors of vowels (red) and consonants (blue),\nof the space ␣ and the line's end ¶")
    right.set(xlabel="direction of largest spread", ylabel="direction of second largest spread")


@picture("14_lstm")
def lstm(axis: Any, losses: dict[str, np.ndarray], window: int) -> None:
    """The loss by how many letters were read before, from `window` on: means of 16 places, for less noise."""
    for name, by_place in losses.items():
        groups = by_place.reshape(-1, 16).mean(axis=1)  # (n,) -> (n / 16, 16) -> (n / 16,)
        axis.plot(range(window + 8, window + len(by_place), 16), groups, "o-", label=name)
    axis.set(xlabel="letters read before", ylabel="held-out loss (nats per letter)")
    axis.legend()


@picture("15_self_attention", columns=4, width=11, height=3.2)
def self_attention(axes: Any, line: str, maps: Sequence[np.ndarray]) -> None:
    """With which weights (T, T) each head looks from each letter of a line at those before it."""
    letters = [letter.replace("\n", "¶") for letter in line]
    for i, (axis, weights) in enumerate(zip(axes, maps, strict=True)):
        shade = axis.imshow(weights, cmap="Blues", vmin=0, vmax=1)
        axis.set(title=f"head {i + 1}", xlabel="looks at", ylabel="this letter" if i == 0 else "")
        axis.set(xticks=range(len(line)), yticks=range(len(line)), xticklabels=letters, yticklabels=letters)
    axes[0].figure.colorbar(shade, ax=axes, label="weight (each row sums to 1)")


@picture("16_reweight")
def reweight(axis: Any, history: dict[str, list[list[float]]]) -> None:
    """Training losses of both kinds of weights, the mean of the seeds."""
    for name, runs in history.items():
        axis.plot(np.mean(runs, axis=0), label=f"{name}, mean of {len(runs)} seeds")
    axis.set(xlabel="step", ylabel="training loss (nats per letter)")
    axis.legend(frameon=False)


@picture("17_residual_blocks", columns=2, width=9)
def residual_blocks(
    axes: Any, depths: Sequence[int], final: dict[str, list[float]], norms: dict[str, list[float]], alone: float
) -> None:
    """Held-out losses by depth, and the gradients of the blocks of the deepest net."""
    left, right = axes
    for name, losses in final.items():
        left.plot(depths, losses, "o-", label=name)
        right.semilogy(range(1, len(norms[name]) + 1), norms[name], "o-", label=name)
    left.axhline(alone, color="C7", ls=":", label="letter frequencies alone")
    left.set(xlabel="blocks", xticks=depths, ylabel="held-out loss (nats per letter)")
    right.set(xlabel="block, from the input", ylabel="gradient norm before training", ylim=(0.1, 10))
    left.legend()


@picture("18_gpt", rows=2, height=7)
def gpt(axes: Any, history: dict[str, list], best: float, ngram: float, poem: str) -> None:
    """Losses as they fall, where the best weights were found, and the beginning of the poem."""
    above, below = axes
    above.plot(history["step"], history["train"], label="training")
    above.plot(history["step"], history["val"], label="validation")
    above.plot(history["step"][history["val"].index(best)], best, "o", color="C1", label="best weights")
    above.axhline(ngram, color="C2", linestyle="--", label="counting 5-grams")
    above.set(xlabel="step", ylabel="loss (nats per character)")
    above.legend(frameon=False)
    rows = [row for line in poem.split("\n") for row in textwrap.wrap(line, 76, subsequent_indent="    ") or [""]]
    below.text(0, 1, "\n".join(rows[:14]), va="top", fontfamily="serif", in_layout=False)
    below.axis("off")
