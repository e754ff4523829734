"""Linear regression: let the error say which way to go.

Evolution changes weights blindly and looks afterwards whether it helped. But the error knows more: for a line
y = w x + b with L = mean (y - t)², the slopes ∂L/∂w = mean 2 (y - t) x and ∂L/∂b = mean 2 (y - t) say for each
weight whether it was too large or too small, and by how much. A step against the slope, repeated, is gradient descent.

For a line the best weights can also be computed at once (the normal equations), which shows that descent really gets
there. Without the bias b the line has to pass through 0 and cannot fit shifted data. And no line fits a curve, however
long it learns: for that, step 06 bends the input first.

    python examples/05_linear_regression.py

takes less than a second. The last lines look like this:

    claim: descent and closed form differ by 8.9e-16
    claim: loss 0.0077 with bias, 3.5900 without
    claim: on the curve the best line has loss 0.9687
    result: loss=0.00771 no_bias=3.59000 curve=0.96868 closed_form_distance=8.9e-16
"""

from __future__ import annotations

import common
import numpy as np
from common import pictures

LEARNING_RATE = 0.1


def descend(x: np.ndarray, t: np.ndarray, steps: int, bias: bool = True) -> tuple[float, float, list[float]]:
    """Gradient descent from w = b = 0; returns w, b and the loss before each step and after the last."""
    w = b = 0.0
    losses = []
    for _ in range(steps):
        error = w * x + b - t  # y - t
        losses.append(float(np.mean(error**2)))
        w -= LEARNING_RATE * float(np.mean(2 * error * x))
        if bias:
            b -= LEARNING_RATE * float(np.mean(2 * error))
    losses.append(float(np.mean((w * x + b - t) ** 2)))
    return w, b, losses


def closed_form(x: np.ndarray, t: np.ndarray) -> tuple[float, float]:
    """Where both slopes are 0: w = cov(x, t) / var(x), b = mean t - w mean x."""
    w = np.mean((x - x.mean()) * (t - t.mean())) / np.mean((x - x.mean()) ** 2)
    return float(w), float(t.mean() - w * x.mean())


def main() -> None:
    args = common.parse(common.arguments("Gradient descent on a line.", 500, device=False), steps=200)
    steps = args.steps
    x = np.linspace(-1, 1.5, 50)
    noise = 0.1 * np.random.default_rng(args.seed).standard_normal(x.size)
    line = 1.5 * x + 2 + noise
    curve = 2 * x**2 + noise

    w, b, losses = descend(x, line, steps)
    w0, _, losses0 = descend(x, line, steps, bias=False)
    wc, bc, losses_curve = descend(x, curve, steps)
    best_w, best_b = closed_form(x, line)
    for step in range(0, steps + 1, max(1, steps // 10)):
        print(f"step {step:4d}  loss {losses[step]:.5f}  without bias {losses0[step]:.5f}")
    distance = max(abs(w - best_w), abs(b - best_b))
    print(f"descent: w = {w:.6f}, b = {b:.6f}; closed form: w = {best_w:.6f}, b = {best_b:.6f}")

    pictures.linear_regression(args, x, line, curve, {"with bias": w * x + b, "without": w0 * x}, wc * x + bc)
    if steps >= 500:
        common.claim(distance < 1e-6, f"descent and closed form differ by {distance:.1e}")
        common.claim(losses0[-1] > 50 * losses[-1], f"loss {losses[-1]:.4f} with bias, {losses0[-1]:.4f} without")
        common.claim(losses_curve[-1] > 20 * losses[-1], f"on the curve the best line has loss {losses_curve[-1]:.4f}")
    common.result(
        loss=f"{losses[-1]:.5f}", no_bias=f"{losses0[-1]:.5f}", curve=f"{losses_curve[-1]:.5f}",
        closed_form_distance=f"{distance:.1e}",
    )  # fmt: skip


if __name__ == "__main__":
    main()
