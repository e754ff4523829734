"""The pictures of steps 01 to 11."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .drawing import picture


@picture("01_if_else")
def if_else(axis: Any, rules: list[int]) -> None:
    """How many rules and how many weights 1, 2, ... switches need."""
    switches = range(1, len(rules) + 1)
    axis.semilogy(switches, rules, "o-", label="rules: 2ⁿ")
    axis.semilogy(switches, switches, "o-", label="weights: n")
    axis.set(xlabel="switches", ylabel="things to write down")
    axis.legend(frameon=False)


@picture("02_perceptron", columns=3, width=9, height=3.6)
def perceptron(axes: Any, corners: np.ndarray, tables: dict[str, list[int]], weights: dict[str, np.ndarray]) -> None:
    """The inputs for which each perceptron says 1, and what would be right at the four corners."""
    x, y = np.meshgrid(*2 * [np.linspace(-0.4, 1.4, 60)])
    yes, no = "#ffe2b8", "#eeeeee"
    for axis, (name, targets) in zip(axes, tables.items(), strict=True):
        w = weights[name]
        says = (w[0] * x + w[1] * y + w[2] > 0).astype(int)
        axis.contourf(x, y, says, levels=[-0.5, 0.5, 1.5], colors=[no, yes])
        for (a, b, _), target in zip(corners, targets, strict=True):
            axis.plot(a, b, "o", color="C1" if target else "C0", markersize=10, markeredgecolor="black")
        axis.set(title=name, xlabel="first input", xticks=[0, 1], yticks=[0, 1], aspect="equal")
    axes[0].set_ylabel("second input")
    kinds = [("o", "C1", "1 is right"), ("o", "C0", "0 is right"), ("s", yes, "it says 1"), ("s", no, "it says 0")]
    for mark, colour, label in kinds:
        axis.plot([], [], mark, color=colour, markersize=10, markeredgecolor="black", label=label)
    axis.figure.legend(loc="outside lower center", ncols=4, frameon=False)


@picture("03_random_search")
def random_search(axis: Any, inputs: Sequence[int], tries: list[float], growth: float) -> None:
    """The guesses that were needed, and the straight line through their logarithms, drawn on."""
    axis.semilogy(inputs, tries, "o-", label="measured")
    fit = [tries[-1] * growth ** (n - inputs[-1]) for n in range(1, 11)]
    axis.semilogy(range(1, 11), fit, "--", color="C0", alpha=0.5, label=f"growing {growth:.1f} times per input")
    axis.set(xlabel="inputs (weights to guess)", ylabel="guesses until the error is small")
    axis.legend(frameon=False)


@picture("04_evolution", columns=2, width=9)
def evolution(axes: Any, curves: dict[str, Sequence[float]], stuck: dict[int, float]) -> None:
    """Errors as they fall, and the share of families that got stuck, by the number of nodes."""
    left, right = axes
    for name, errors in curves.items():
        left.semilogy(errors, label=name)
    left.set(xlabel="evaluations", ylabel="error", ylim=(1e-3, 3))
    left.legend(frameon=False)
    right.bar([str(n) for n in stuck], [100 * share for share in stuck.values()])
    right.set(xlabel="sine nodes", ylabel="families in a local optimum (%)")


@picture("05_linear_regression", columns=2, width=9)
def linear_regression(
    axes: Any, x: np.ndarray, shifted: np.ndarray, curve: np.ndarray, fitted: dict[str, np.ndarray], best: np.ndarray
) -> None:
    """Noisy points of a shifted line and of a curve, and the lines that descent has found."""
    left, right = axes
    left.plot(x, shifted, ".", color="gray")
    for label, y in fitted.items():
        left.plot(x, y, label=label)
    right.plot(x, curve, ".", color="gray")
    right.plot(x, best, label="the best line")
    for axis, title in ((left, "a shifted line"), (right, "a curve")):
        axis.set(title=title, xlabel="x", ylabel="y")
        axis.legend(frameon=False)


@picture("06_sine_layer", columns=2, rows=2, width=9, height=5.5)
def sine_layer(
    axes: Any, x: np.ndarray, signals: dict[str, np.ndarray], outputs: dict[tuple[str, int], np.ndarray],
    series: dict[str, np.ndarray], sizes: list[int], errors: dict[str, list[float]], least: dict[str, list[float]],
) -> None:  # fmt: skip
    """Two signals, what random sines (outputs) and Fourier (series) make of them, and the errors of both."""
    for (left, right), (name, target) in zip(axes, signals.items(), strict=True):
        left.plot(x, target, color="lightgray", linewidth=4, label="to be learned")
        for nodes in (15, 150):
            left.plot(x, outputs[name, nodes], label=f"{nodes} random sines")
        left.plot(x, series[name], ":", color="black", label="Fourier, 7 frequencies", linewidth=1)
        left.set(title=f"{name}, learned at {x.size} points", xlabel="x", ylabel="y")
        right.loglog(sizes, errors[name], "o-", label="random sines, learned")
        right.loglog(sizes, np.maximum(least[name], 1e-6), "o:", color="black", label="Fourier series")
        right.set(title=f"{name}, mean of 5 layers", xlabel="number of sines", ylabel="mean squared error")
        right.set_xticks(sizes, sizes)
        right.minorticks_off()
    axes[0, 0].legend(frameon=False, fontsize=8, loc="lower left")
    axes[0, 1].legend(frameon=False, fontsize=8, loc="lower left")


def parabola(axis: Any, x: np.ndarray, dense: np.ndarray, y: np.ndarray, label: str) -> None:
    """x², the points of it that were shown, and what a net says."""
    axis.plot(dense, dense**2, color="lightgray", linewidth=4, label="x²")
    axis.plot(dense, y, label=label)
    axis.plot(x, x**2, "o", color="black", label="what it was shown")
    axis.set(xlabel="x")
    axis.legend(frameon=False)


@picture("07_backprop_by_hand", columns=2, width=9)
def backprop_by_hand(
    axes: Any, losses: list[float], outer: float, x: np.ndarray, dense: np.ndarray, y: np.ndarray
) -> None:
    """The loss as it falls, and the net beside x²."""
    left, right = axes
    left.semilogy(losses, label="all four layers learn")
    left.axhline(outer, color="C1", linestyle="--", label="only the outer weights, twice as many")
    left.set(xlabel="step", ylabel="loss Σ (y - t)²")
    left.legend(frameon=False)
    parabola(right, x, dense, y, "the net")


@picture("08_layers_and_classes", columns=3, width=11, height=3.6)
def layers_and_classes(
    axes: Any, data: dict[str, tuple[np.ndarray, np.ndarray]], dense: np.ndarray, found: dict[str, np.ndarray]
) -> None:
    """What was to be learned, and what the nets say at the points `dense` of the line, or of the square's sides."""
    axes[0].plot(*data["bump"], "k.", label="to be learned")
    axes[0].plot(dense, found["bump"], "C0", label="the net")
    axes[0].set(title="bump: one input", xlabel="x", ylabel="y", ylim=(-0.2, 1.4))
    axes[0].legend(frameon=False, fontsize=8, loc="upper left")
    for axis, name in zip(axes[1:], ("exclusive or", "ripples"), strict=True):
        points, t = data[name]
        y = found[name].reshape(len(dense), len(dense))  # (n², 1) -> (n, n)
        areas = axis.contourf(dense, dense, y, levels=np.linspace(-1.5, 1.5, 7), extend="both", cmap="RdBu_r")
        same_scale = {"cmap": "RdBu_r", "vmin": -1.5, "vmax": 1.5}
        axis.scatter(*points.T, c=t, edgecolors="black", s=18, linewidths=0.5, **same_scale)
        axis.set(title=f"{name}: two inputs", xlabel="x₁", ylabel="x₂", aspect="equal")
    axes[2].figure.colorbar(areas, ax=axes[1:], label="y: areas of the net, points to be learned")


@picture("09_side_effects", columns=2, width=9)
def side_effects(
    axes: Any, norms: dict[float, np.ndarray], factors: dict[float, float], errors: dict[tuple[int, float], float],
    line: float, mean: float,
) -> None:  # fmt: skip
    """The gradient on its way through the layers, by scale; and what each net (depth, scale) errs on new data."""
    left, right = axes
    depths = sorted({depth for depth, _ in errors})
    for scale, norm in norms.items():
        label = f"{scale}: ×{factors[scale]:.2f} a layer"
        left.semilogy(range(1, len(norm) + 1), norm, ".-", label=label)
        right.semilogy(depths, [errors[depth, scale] for depth in depths], "o-", label=f"net, scale {scale}")
    left.set(xlabel="layer", ylabel="norm of the gradient before training", xticks=[1, 5, 10, 15, 20])
    right.axhline(line, color="black", linestyle="--", label="linear regression")
    right.axhline(mean, color="gray", linestyle=":", label="always the mean")
    right.set(xlabel="layers", ylabel="error on new data", xticks=depths)
    left.legend(frameon=False, title="scale of the weights")
    right.legend(frameon=False, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1))


@picture("10_autograd", columns=2, width=9)
def autograd(axes: Any, losses: dict[str, list[float]], x: np.ndarray, dense: np.ndarray, y: np.ndarray) -> None:
    """The losses of two optimizers as they fall, and the net beside x²."""
    left, right = axes
    for name, values in losses.items():
        left.loglog(range(1, len(values) + 1), values, label=name)
    left.set(xlabel="step", ylabel="loss Σ (y - t)²")
    left.legend(frameon=False)
    parabola(right, x, dense, y, "the net (Adam)")


@picture("11_generalization", columns=3, rows=2, width=9, height=5.5)
def generalization(axes: Any, line: np.ndarray, truth: np.ndarray, nets: dict[str, list[np.ndarray]]) -> None:
    """For each way: what its net says along the line, and the examples (x, y) that it learned from."""
    for axis, (name, (guess, x, y)) in zip(axes.flat, nets.items(), strict=True):
        axis.axvspan(-3, 3, color="0.93", label="where examples lie")
        axis.plot(line, truth, color="C7", linestyle="--", label="truth")
        axis.plot(line, guess, color="C0", linewidth=1, label="net")
        axis.plot(x, y, "C1.", markersize=4, label="examples")
        axis.set(ylim=(-6, 6), title=name, xticks=[-6, -3, 0, 3, 6])
        axis.label_outer()
        axis.set(xlabel="x" if axis in axes[1] else "", ylabel="y" if axis in axes[:, 0] else "")
    handles = axis.get_legend_handles_labels()
    axis.figure.legend(*handles, loc="outside lower center", ncols=4, frameon=False)
