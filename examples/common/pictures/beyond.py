"""The pictures of steps 19 to 30."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import numpy as np

from .drawing import picture


@picture("19_compression")
def compression(axis: Any, bits: dict[str, float], letters: int) -> None:
    """Bits per letter by the tools that everybody has (the first four), and by the models."""
    bars = axis.barh([*bits], [*bits.values()], color=["C0"] * 4 + ["C1"] * 3)
    axis.bar_label(bars, fmt="%.2f", padding=3)
    axis.set(xlabel=f"bits per letter ({letters} letters, models not counted)", ylim=(6.6, -0.6))


@picture("20_images", columns=8, rows=3, width=8, height=3.8)
def images(axes: Any, filters: np.ndarray, mistakes: list[tuple[np.ndarray, int, int]]) -> None:
    """The 16 filters (16, 3, 3), and digits that were misread: the image, what it is, what was read."""
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    for axis, weights in zip(axes[:2].flat, filters, strict=True):
        axis.imshow(weights, cmap="RdBu", vmin=-1, vmax=1)
    for axis, (image, truth, answer) in zip(axes[2], mistakes, strict=False):
        axis.imshow(image, cmap="gray_r")
        axis.set_title(f"{truth} read as {answer}", fontsize=8)
    axes[0, 0].figure.suptitle("the 16 filters of the first layer; below, digits that it gets wrong")


@picture("21_medicine", columns=2, width=9)
def medicine(axes: Any, curves: dict[str, tuple[Any, ...]], area: dict[str, float]) -> None:
    """The ROC (false alarms, cases found) and the calibration (stated, happened, how many patients) of each model."""
    left, right = axes
    for name, (alarms, found, stated, happened, patients) in curves.items():
        left.plot(alarms, found, label=f"{name}, area {area[name]:.3f}")
        (line,) = right.plot(stated, happened, "-", label=name)
        right.scatter(stated, happened, s=[10 + n for n in patients], color=line.get_color(), alpha=0.7)
    left.set(xlabel="false alarms among the benign", ylabel="found among the malignant", xlim=(-0.005, 0.3))
    left.set(title="every threshold (the axis ends at 0.3)", ylim=(0, 1.02))
    right.plot([0, 1], [0, 1], ":", color="gray", label="perfectly calibrated")
    right.set(xlabel="probability stated", ylabel="share that was malignant", ylim=(-0.15, 1.15))
    right.set(title="a dot per tenth, its area the number of patients")
    for axis in axes:
        axis.legend(frameon=False)


@picture("22_translator", width=7, height=4.5)
def translator(axis: Any, read: list[str], written: list[str], weights: np.ndarray) -> None:
    """Where cross-attention looked: a row of weights for each sign written."""
    shade = axis.imshow(weights, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axis.figure.colorbar(shade, ax=axis, label="weight (each row sums to 1)")
    axis.set_xticks(range(len(read)), read, rotation=30)  # level, long words run into each other
    axis.set_yticks(range(len(written)), written)
    axis.set(xlabel="read: cross-attention", ylabel="written")


@picture("23_race", columns=2, width=10, height=4.2)
def race(
    axes: Any, films: dict[str, list[np.ndarray]], marks: list[int], weights: int, median: dict[str, dict[int, float]],
    budget: int, goal: float,
) -> None:  # fmt: skip
    """The picture of each racer after `marks` passes, and the passes that it needed by the number of weights."""
    left, right = axes
    framed = [[np.pad(image.round(1), 1, constant_values=1) for image in film] for film in films.values()]
    aspect = np.divide(*films["evolution"][0].shape)
    left.imshow(np.block(framed), "gray", extent=(0, len(marks), 5, 0), aspect=aspect, interpolation="nearest")
    left.set(xlabel=f"forward passes, with {weights:,} weights")
    left.set_xticks(np.arange(len(marks)) + 0.5, [f"{mark:,}" for mark in marks])
    left.set_yticks(np.arange(5) + 0.5, [name.replace(" ", "\n", 1) for name in films])
    left.tick_params(length=0)
    left.spines[:].set_visible(False)
    for label, (name, counts) in zip(left.get_yticklabels(), median.items(), strict=True):
        (line,) = right.loglog([*counts], [*counts.values()], "o-", label=name)  # does not draw infinity
        label.set_color(line.get_color())
        failed = [n for n in counts if counts[n] > budget]
        right.plot(failed, [budget] * len(failed), "^", color=line.get_color())
    right.axhline(budget, linestyle=":", color="gray", label=f"▲ not within {budget:,}")
    right.set(xlabel="weights", ylabel=f"forward passes to a loss of {goal}")
    right.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 0.1))


@picture("24_tokens", columns=2, width=10)
def tokens(axes: Any, curves: dict[str, list[float]], lines: list[list[str]]) -> None:
    """Bits per character by the work done; and lines of text, every token on a ground of its own."""
    left, right = axes
    for name, curve in curves.items():
        done = [100 * i / max(1, len(curve) - 1) for i in range(len(curve))]
        left.plot(done, curve, "o-", ms=3, label=name)
    left.set(xlabel="work done, %", ylabel="bits per character, unseen poems")
    left.set_ylim(top=max(3.2, *(curve[-1] + 0.5 for curve in curves.values())))  # the first steps are far above
    left.legend(frameon=False)
    for row, pieces in enumerate(lines):
        for n, (piece, end) in enumerate(zip(pieces, accumulate(map(len, pieces)), strict=True)):
            start = end - len(piece)
            right.barh(row, len(piece), 0.8, start, color=("#cfe3f3", "#fbe2c8", "#d8eecf")[n % 3])
            for i, letter in enumerate(piece):
                right.text(start + i + 0.5, row, letter, ha="center", va="center", fontfamily="monospace")
    right.set(ylim=(len(lines) - 0.4, -0.6))
    right.axis("off")


@picture("25_modern_block", columns=2, width=10)
def modern_block(
    axes: Any, curves: dict[str, np.ndarray], seconds: dict[str, float], gains: dict[str, list[float]]
) -> None:
    """The loss of each design by the time it took; and what each change took off it, for each seed."""
    left, right = axes
    for name, curve in curves.items():
        left.plot(np.linspace(0, seconds[name], len(curve)), curve, label=name)
    left.set(xlabel="seconds of training", ylabel="loss, unseen poems (nats per letter)")
    left.set_ylim(top=max(3.0, *(curve[-1] + 0.5 for curve in curves.values())))  # the first steps are far above
    left.legend(frameon=False)
    for row, gain in enumerate(gains.values()):
        right.barh(row, np.mean(gain), 0.6, color=f"C{row + 1}", alpha=0.5)
        right.plot(gain, [row] * len(gain), "k.")
    right.set(xlabel="what it takes off the loss (dots: seeds)", yticks=range(len(gains)), yticklabels=gains)
    right.invert_yaxis()


@picture("26_real_model", columns=2, width=8, height=3.5)
def real_model(
    axes: Any, prompt: str, likely: list[tuple[str, float]], names: list[str], weights: np.ndarray, which: str
) -> None:
    """The likeliest next tokens, and where one head looks from each token of the prompt (T, T)."""
    left, right = axes
    left.barh(range(len(likely)), [p for _, p in likely])
    left.set_yticks(range(len(likely)), [repr(token) for token, _ in likely])
    left.invert_yaxis()
    left.set(xlabel=f"probability after '{prompt[-30:]}'", xlim=(0, 1))
    right.imshow(weights, cmap="Blues", vmin=0, vmax=1)
    right.set_xticks(range(len(names)), names, rotation=60)
    right.set_yticks(range(len(names)), names)
    right.set(xlabel=f"looked at, {which}")


@picture("27_finetune")
def finetune(axis: Any, history: dict[str, list], from_nothing: float) -> None:
    """Bits per character as they fall, beside where step 18 ended."""
    axis.plot(history["step"], history["loss"], color="0.7", label="a batch of poems")
    axis.plot(history["measured"], history["bits"], "o-", label="poems not seen")
    axis.axhline(from_nothing, color="C1", linestyle="--", label="step 18, from nothing")
    axis.set(xlabel="step", ylabel="bits per character")
    axis.legend(frameon=False)


@picture("28_meaning", width=7, height=6)
def meaning(axis: Any, sentence: str, titles: list[str], flat: np.ndarray, nearest: list[int]) -> None:
    """A map: the sentence first in `flat` (1 + n, 2), then the poems; the nearest and every seventh with its title."""
    axis.scatter(*flat[1:].T, s=8, color="0.6")
    for i in {*nearest, *range(0, len(titles), 7)}:
        axis.annotate(titles[i], flat[1 + i], fontsize=6, color="C3" if i in nearest else "0.45")
    axis.plot(*flat[0], "*", color="C3", markersize=12)
    axis.annotate(sentence, flat[0], fontsize=8, color="C3", weight="bold")
    axis.set(xticks=[], yticks=[], xlabel="poems by meaning: the two directions in which they differ most")


@picture("29_newton", columns=2, width=10)
def newton(axes: Any, ways: dict[str, np.ndarray], errors: dict[str, np.ndarray], minimum: np.ndarray) -> None:
    """The ways (n, 2) through Rosenbrock's valley, and how far from its minimum each step was."""
    left, right = axes
    x, y = np.meshgrid(np.linspace(-1.6, 1.5, 120), np.linspace(-3.4, 2, 120))
    left.contour(x, y, np.log10((1 - x) ** 2 + 100 * (y - x * x) ** 2 + 1e-3), 14, colors="lightgray")
    for name, way in ways.items():
        mark = "o" if len(way) < 100 else None
        left.plot(*way.T, marker=mark, markersize=4, label=name)
        right.plot(np.arange(len(way)) + 1, errors[name] + 1e-17, marker=mark, label=name)
    left.plot(*minimum, "k*", markersize=12)
    left.set(xlabel="x", ylabel="y", title="the way through the valley")
    right.set(xscale="log", yscale="log", xlabel="step + 1", title="distance from the minimum")
    right.set_ylim(1e-17, 10)
    right.legend(frameon=False, loc="lower left")


@picture("30_physics", columns=3, width=12)
def physics(
    axes: Any, spring: tuple[np.ndarray, np.ndarray, np.ndarray], heat: tuple[np.ndarray, np.ndarray, np.ndarray],
    left_over: dict[str, list[float]],
) -> None:  # fmt: skip
    """The oscillator (t, on paper, the net); the bar (places = times, on paper, the net); what is left of each law."""
    first, second, third = axes
    t, on_paper, u = spring
    first.plot(t, on_paper, color="lightgray", linewidth=4, label="on paper")
    first.plot(t, u, label="the net")
    first.set(xlabel="t", title="an oscillator")
    at, on_paper, u = heat  # (n,), (n, n), (n, n)
    for i, now in enumerate((0, 10, 20, 40)):
        second.plot(at, on_paper[:, now], color="lightgray", linewidth=4)
        second.plot(at, u[:, now], color=f"C{i}", label=f"t = {at[now]:.2f}")
    second.set(xlabel="x", title="heat in a bar")
    for name, values in left_over.items():
        third.loglog(range(1, len(values) + 1), values, label=name, linewidth=0.7)
    third.set(xlabel="step", title="left of the law, mean square")
    for axis in axes:
        axis.legend(frameon=False)
