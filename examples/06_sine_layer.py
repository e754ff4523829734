"""A layer of sines: bend the input first, then fit a line through what comes out.

A line cannot fit a curve, but a weighted sum of curves can. A hidden layer holds nodes sin(w x + b) with random w and
b that stay as they are; only the outer weights v of y = Σ v sin(w x + b) learn, by the very descent of step 05, for y
is still linear in v. That is the idea of Joseph Fourier (1822): any periodic signal is a sum of sines. He chose the
frequencies 1, 3, 5, ... with care and got the best weights from an integral; a random layer needs no thought
and more nodes. What no random layer can do is bend its own sines to the data. That is step 07.

    python examples/06_sine_layer.py

takes about 3 seconds. The last lines look like this:

    claim: 15 sines learn the table of five switches to a loss of 8e-31
    claim: square wave: loss 0.954 with 5 sines, 0.013 with 150; with 15 the random ones have 0.581, Fourier's
      0.050
    claim: signal: loss 0.366 with 5 sines, 0.000 with 150; with 15 the random ones have 0.346, Fourier's 0.001
    result: table=7.7e-31 square_5=0.9535 square_150=0.0125 fourier_150=0.0025
"""

from __future__ import annotations

import common
import numpy as np
from common import pictures

SWITCHES = np.array([[0, 0, 0, 0, 0], [1, 0, 0, 1, 0], [0, 1, 1, 0, 1], [0, 0, 1, 0, 0], [1, 1, 1, 0, 1]])
LIGHT = SWITCHES @ np.array([1, 0, 1, 0, -1])  # (5, 5) @ (5,) -> (5,)
X = np.linspace(0, 2 * np.pi, 200, endpoint=False)
SQUARE = np.where(np.pi > X, 1.0, -1.0)
SIGNAL = np.exp(-((X - 2) ** 2)) + 0.5 * np.sin(X) ** 3 - 0.3 * (X > 4)
FASTEST = 15  # the highest frequency of the random layer, radians per unit of x


def random_sines(inputs: np.ndarray, nodes: int, fastest: float, rng: np.random.Generator) -> np.ndarray:
    """The outputs of a hidden layer that does not learn: sin(x W + b). (n, inputs) -> (n, nodes)"""
    weights = rng.uniform(-fastest, fastest, (inputs.shape[1], nodes))
    return np.sin(inputs @ weights + rng.uniform(0, 2 * np.pi, nodes))  # (n, inputs) @ (inputs, nodes)


def fit(hidden: np.ndarray, target: np.ndarray, steps: int) -> tuple[np.ndarray, list[float]]:
    """Gradient descent on the outer weights alone; returns the outputs and the losses.

    The step is the largest safe one, 1 / (largest curvature of the loss): beyond twice that, descent diverges.
    """
    v = np.zeros(hidden.shape[1])
    losses = []
    rate = 1 / np.linalg.norm(hidden, 2) ** 2
    for _ in range(steps):
        error = hidden @ v - target  # (n, nodes) @ (nodes,) -> (n,)
        losses.append(float(np.mean(error**2)))
        v -= rate * (hidden.T @ error)  # (nodes, n) @ (n,) -> (nodes,)
    losses.append(float(np.mean((hidden @ v - target) ** 2)))
    return hidden @ v, losses


def fourier(target: np.ndarray, terms: int) -> np.ndarray:
    """The true Fourier series up to a frequency: c0 + Σ (2/N Σ t cos kx) cos kx + (2/N Σ t sin kx) sin kx."""
    total = np.full(X.size, target.mean())
    for k in range(1, terms + 1):
        for wave in (np.cos(k * X), np.sin(k * X)):
            total += 2 * np.mean(target * wave) * wave
    return total


def main() -> None:
    args = common.parse(common.arguments("A random layer of sines; Fourier's series.", 5000, device=False), steps=200)
    steps = args.steps
    rng = np.random.default_rng(args.seed)
    with_bias = np.hstack([SWITCHES, np.ones((5, 1))])  # (5, 6)
    _, table = fit(random_sines(with_bias, 15, 1.5, rng), LIGHT, steps)
    for step in range(0, steps + 1, max(1, steps // 5)):
        print(f"step {step:5d}  loss {table[step]:.2e}  (the table of step 01, 15 nodes)")

    sizes = [5, 15, 50, 150]
    signals = {"square wave": SQUARE, "signal": SIGNAL}
    outputs = {}  # what the first of five random layers learns
    errors = {name: [] for name in signals}  # the mean of five
    least = {}  # what Fourier leaves, with as many sines and cosines
    for name, target in signals.items():
        for nodes in sizes:
            runs = [fit(random_sines(X[:, None], nodes, FASTEST, rng), target, steps) for _ in range(5)]  # (200, 1)
            errors[name].append(float(np.mean([losses[-1] for _, losses in runs])))
            outputs[name, nodes] = runs[0][0]
            print(f"{name}: {nodes:3d} nodes, {steps} steps, loss {errors[name][-1]:.5f}, mean of 5 random layers")
        least[name] = [float(np.mean((fourier(target, n // 2) - target) ** 2)) for n in sizes]  # n//2 sin + n//2 cos

    series = {name: fourier(target, 7) for name, target in signals.items()}
    pictures.sine_layer(args, X, signals, outputs, series, sizes, errors, least)
    if steps >= 5000:
        common.claim(table[-1] < 1e-4, f"15 sines learn the table of five switches to a loss of {table[-1]:.0e}")
        for name in signals:
            found = errors[name]
            common.claim(
                all(np.diff(found) < 0) and found[1] > least[name][1],
                f"{name}: loss {found[0]:.3f} with 5 sines, {found[-1]:.3f} with 150; with 15 the random ones have "
                f"{found[1]:.3f}, Fourier's {least[name][1]:.3f}",
            )
    common.result(
        table=f"{table[-1]:.1e}", square_5=f"{errors['square wave'][0]:.4f}",
        square_150=f"{errors['square wave'][-1]:.4f}", fourier_150=f"{least['square wave'][-1]:.4f}",
    )  # fmt: skip


if __name__ == "__main__":
    main()
