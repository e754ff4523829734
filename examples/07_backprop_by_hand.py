"""Backpropagation by hand: every layer learns.

Four layers: three of sines, and a weighted sum of what they give. The error at the end says how the last weights
should change, as in step 05. The chain rule carries it further back: how much does the error change with the output of
the layer before, with what went into its sine, with its weights? One rule for each layer, applied from the last to
the first; each needs only what the layer saw on the way forward, and the gradient that arrives from behind.

    forward    a1 = x W1    h1 = sin a1    a2 = h1 W2    h2 = sin a2    a3 = h2 W3    h3 = sin a3    y = h3 W4
    backward   L = Σ (y - t)²,    ∂L/∂y = 2 (y - t),    ∂L/∂W4 = h3ᵀ ∂L/∂y,    ∂L/∂h3 = ∂L/∂y W4ᵀ,
               ∂L/∂a3 = ∂L/∂h3 cos a3,    ∂L/∂W3 = h2ᵀ ∂L/∂a3,    and so on to W1

The function to learn is x² at 11 points. Each gradient is compared with finite differences: nudge one weight, see how L
changes. Writing this out anew for every net is tedious; step 08 puts each layer's two halves into a class.

    python examples/07_backprop_by_hand.py

takes about 5 seconds on 2 CPU cores. The last lines look like this:

    claim: all 20300 hand-made gradients equal finite differences to 4e-09
    claim: loss 0.38 with 20300 weights that all learn, 1.28 with 40600 outer weights behind fixed sines
    result: loss=0.3820 outer_only=1.2811 gradient_difference=4e-09
"""

from __future__ import annotations

import common
import numpy as np
from common import pictures

NODES = 100
LEARNING_RATE = 3e-6
X = np.linspace(-10, 10, 11)[:, None]  # (11, 1)
TARGETS = X**2


def with_bias(x: np.ndarray) -> np.ndarray:
    """x and the bias input, (N, 1) -> (N, 2). Divided by 10, x is about as large as the 1 beside it."""
    return np.hstack([x / 10, np.ones_like(x)])


INPUTS = with_bias(X)  # (11, 2)


def initial_weights(seed: int) -> list[np.ndarray]:
    """Normal weights, scaled by 1/√inputs so that sums keep their size; the first layer wider, for faster sines."""
    rng = np.random.default_rng(seed)
    sizes = [(2, NODES), (NODES, NODES), (NODES, NODES), (NODES, 1)]
    return [rng.standard_normal(size) / np.sqrt(size[0]) * (3 if size[0] == 2 else 1) for size in sizes]


def forward(weights: list[np.ndarray], x: np.ndarray) -> tuple[np.ndarray, ...]:
    """The output, and what backward needs."""
    W1, W2, W3, W4 = weights
    a1 = x @ W1  # (11, 2) @ (2, 100) -> (11, 100)
    h1 = np.sin(a1)
    a2 = h1 @ W2  # (11, 100) @ (100, 100) -> (11, 100)
    h2 = np.sin(a2)
    a3 = h2 @ W3  # (11, 100) @ (100, 100) -> (11, 100)
    h3 = np.sin(a3)
    y = h3 @ W4  # (11, 100) @ (100, 1) -> (11, 1)
    return y, a1, h1, a2, h2, a3, h3


def backward(weights: list[np.ndarray], x: np.ndarray, t: np.ndarray) -> tuple[float, list[np.ndarray]]:
    """The loss Σ (y - t)² and its gradient for each weight matrix."""
    _, W2, W3, W4 = weights
    y, a1, h1, a2, h2, a3, h3 = forward(weights, x)
    loss = float(np.sum((y - t) ** 2))
    dy = 2 * (y - t)  # (11, 1)
    dW4 = h3.T @ dy  # (100, 11) @ (11, 1) -> (100, 1)
    da3 = dy @ W4.T * np.cos(a3)  # (11, 1) @ (1, 100) -> (11, 100)
    dW3 = h2.T @ da3  # (100, 11) @ (11, 100) -> (100, 100)
    da2 = da3 @ W3.T * np.cos(a2)  # (11, 100) @ (100, 100) -> (11, 100)
    dW2 = h1.T @ da2
    da1 = da2 @ W2.T * np.cos(a1)
    dW1 = x.T @ da1  # (2, 11) @ (11, 100) -> (2, 100)
    return loss, [dW1, dW2, dW3, dW4]


def worst_difference(weights: list[np.ndarray]) -> float:
    """Between the hand-made gradients and central differences, over every weight, relative to the largest gradient."""
    _, gradients = backward(weights, INPUTS, TARGETS)
    h = 1e-5
    worst = 0.0
    for W, gradient in zip(weights, gradients, strict=True):
        numeric = np.zeros_like(W)
        for place in np.ndindex(*W.shape):
            kept = W[place]
            W[place] = kept + h
            above = np.sum((forward(weights, INPUTS)[0] - TARGETS) ** 2)
            W[place] = kept - h
            below = np.sum((forward(weights, INPUTS)[0] - TARGETS) ** 2)
            W[place] = kept
            numeric[place] = (above - below) / (2 * h)
        worst = max(worst, float(np.abs(numeric - gradient).max() / np.abs(gradient).max()))
    return worst


def outer_only(seed: int, steps: int, nodes: int) -> float:
    """Step 06's net on the same data, for comparison: the same kind of first layer, but only outer weights learn."""
    rng = np.random.default_rng(seed)
    hidden = np.sin(INPUTS @ (3 * rng.standard_normal((2, nodes)) / np.sqrt(2)))  # (11, 2) @ (2, nodes)
    v = np.zeros((nodes, 1))
    rate = 1 / np.linalg.norm(hidden, 2) ** 2  # the largest safe step
    for _ in range(steps):
        v -= rate * hidden.T @ (hidden @ v - TARGETS)  # (nodes, 11) @ (11, 1)
    return float(np.sum((hidden @ v - TARGETS) ** 2))


def main() -> None:
    args = common.parse(common.arguments("Layers of sines, the chain rule by hand.", 8000, device=False), steps=300)
    steps = args.steps
    weights = initial_weights(args.seed)
    difference = worst_difference(weights)
    parameters = sum(W.size for W in weights)
    print(f"{parameters} gradients by hand and by finite differences: relative difference {difference:.0e}")

    losses = []
    bar = common.progress(steps)
    for step in bar:
        loss, gradients = backward(weights, INPUTS, TARGETS)
        losses.append(loss)
        for W, gradient in zip(weights, gradients, strict=True):
            W -= LEARNING_RATE * gradient
        if step % max(1, steps // 10) == 0:
            bar.write(f"step {step:5d}  loss {loss:.4f}")
    losses.append(backward(weights, INPUTS, TARGETS)[0])
    outer = outer_only(args.seed, steps, 2 * parameters)

    dense = np.linspace(-10, 10, 201)[:, None]  # (201, 1)
    pictures.backprop_by_hand(args, losses, outer, X, dense, forward(weights, with_bias(dense))[0])
    common.claim(
        difference < 1e-6, f"all {parameters} hand-made gradients equal finite differences to {difference:.0e}"
    )
    if steps >= 8000:
        common.claim(
            losses[-1] < outer,
            f"loss {losses[-1]:.2f} with {parameters} weights that all learn, {outer:.2f} with {2 * parameters} outer "
            "weights behind fixed sines",
        )
    common.result(loss=f"{losses[-1]:.4f}", outer_only=f"{outer:.4f}", gradient_difference=f"{difference:.0e}")


if __name__ == "__main__":
    main()
