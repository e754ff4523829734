"""What depth costs: on a straight-line problem a deep net is slower and worse than one formula, and it may not learn.

Steps 07 and 08 made nets deep because a curve needs it. Is deeper always better? Here the data is linear, with some
noise. Linear regression (step 05) solves it with one formula; nets of 2 to 20 layers take a thousand times longer and
are worse on new data: they bend the line. (Small weights keep a net near a line; the better it does here.) And on its
way back the gradient is multiplied once per layer, by that layer's weights and cosines. A factor below 1 makes it
vanish before it reaches the first layers, a factor above 1 makes it explode: both geometrically, so 20 layers learn
nothing where 2 learn. The factor depends on the scale of the initial weights and can be told in advance. So step 10
uses an optimizer that adapts to the size of the gradient, and step 17 connections that keep the factor near 1.

    python examples/09_side_effects.py

takes about 25 seconds on 2 CPU cores. The last lines look like this:

    claim: linear regression: test error 0.0948 in 34 µs; the best deep net, 2 layers and scale 0.5: 0.1093 in 86 ms
    claim: scale 2.0: 2 layers learn (0.44), 20 do not (6.27; always the mean 5.26)
    result: layers=2 scale=0.5 linear=0.0948 best_deep=0.1093 vanishing=0.4909 exploding=1.4150
"""

import time
from itertools import pairwise

import common
import numpy as np
from common import pictures

WIDTH = 30
DEEPEST = 20
NOISE = 0.3
SLOPES = np.array([1.0, -2.0, 0.5, 0.0, 1.0])  # the true relation: four inputs, and the bias at the end
SCALES = [0.5, 1.0, 2.0]  # of the initial weights
RATES = [0.01, 0.1, 0.3]  # learning rates to try


def linear_data(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Inputs with a column of ones (n, 5), and their noisy weighted sum (n, 1)."""
    x = np.column_stack([rng.standard_normal((n, len(SLOPES) - 1)), np.ones(n)])
    return x, (x @ SLOPES + NOISE * rng.standard_normal(n))[:, None]  # (n, 5) @ (5,) -> (n,) -> (n, 1)


def deep_net(depth: int, scale: float, rng: np.random.Generator) -> list[np.ndarray]:
    """The weights of each layer. Divided by √inputs: with scale 1 a weighted sum is about as large as its inputs."""
    sizes = [len(SLOPES), *[WIDTH] * (depth - 1), 1]
    return [scale / np.sqrt(i) * rng.standard_normal((i, o)) for i, o in pairwise(sizes)]


def forward(weights: list[np.ndarray], x: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The inputs and the weighted sums of all layers; the last sum is the prediction."""
    inputs = [x]
    sums = []
    for w in weights:
        sums.append(inputs[-1] @ w)  # (N, in) @ (in, out) -> (N, out)
        inputs.append(np.sin(sums[-1]))
    return inputs, sums


def backward(weights: list[np.ndarray], x: np.ndarray, y: np.ndarray) -> tuple[list[np.ndarray], list[float]]:
    """Per layer: the gradient of the loss Σ e² / 2N by its weights, and the norm of that by its weighted sums."""
    inputs, sums = forward(weights, x)
    delta = (sums[-1] - y) / len(y)
    gradients = []
    norms = []
    for i in reversed(range(len(weights))):
        gradients.append(inputs[i].T @ delta)  # (in, N) @ (N, out) -> (in, out)
        norms.append(float(np.linalg.norm(delta)))
        if i > 0:  # the chain rule, once per layer: here the gradient shrinks or grows
            delta = (delta @ weights[i].T) * np.cos(sums[i - 1])  # (N, out) @ (out, in) -> (N, in)
    return gradients[::-1], norms[::-1]


def error(weights: list[np.ndarray], x: np.ndarray, y: np.ndarray) -> float:
    return float(np.mean((forward(weights, x)[1][-1] - y) ** 2))


def train(weights: list[np.ndarray], data: tuple, test: tuple, rate: float, steps: int) -> float:
    """Gradient descent; the smallest test error on the way. Chosen by the test data: more luck than a user can have."""
    best = error(weights, *test)
    with np.errstate(over="ignore", invalid="ignore"):  # what explodes becomes infinite, then not a number
        for step in range(1, steps + 1):
            gradients, norms = backward(weights, *data)
            if not np.isfinite(norms).all():
                break
            for w, gradient in zip(weights, gradients, strict=True):
                w -= rate * gradient
            if step % 20 == 0:
                best = min(best, error(weights, *test))
    return best


def expected_factor(scale: float) -> float:
    """What a layer of a wide random net multiplies the norm of the gradient by: scale · √(mean of cos²)."""
    q = scale**2  # the variance of the sums; as they are normal, the mean of sin² is (1 - exp(-2q)) / 2
    for _ in range(DEEPEST):  # forward through the layers: q settles
        q = scale**2 * (1 - np.exp(-2 * q)) / 2
    return float(scale * np.sqrt((1 + np.exp(-2 * q)) / 2))


def way_back(scale: float, data: tuple, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """The gradient's norm by layer before any training, the geometric mean over 20 nets; and its factor per layer."""
    logs = np.mean([np.log(backward(deep_net(DEEPEST, scale, rng), *data)[1]) for _ in range(20)], axis=0)
    hidden = range(5, DEEPEST - 1)  # where the sums have settled; a straight line through logarithms is geometric
    norms = np.exp(logs)
    factor = float(np.exp(-np.polyfit(hidden, logs[hidden], 1)[0]))
    straight = np.corrcoef(hidden, logs[hidden])[0, 1] ** 2
    common.claim(
        abs(factor / expected_factor(scale) - 1) < 0.1 and (straight > 0.98 or scale == 1),
        f"scale {scale}: on its way back through {DEEPEST} layers the gradient goes from {norms[-1]:.2g} to "
        f"{norms[0]:.2g}, times {factor:.2f} per layer (expected {expected_factor(scale):.2f})",
    )
    return norms, factor


def main() -> None:
    args = common.parse(common.arguments("Linear data, deep nets, vanishing gradients.", 1000, device=False), steps=100)
    rng = np.random.default_rng(args.seed)
    data = linear_data(100, rng)
    test = linear_data(1000, rng)
    norms, factors = {}, {}
    for scale in SCALES:
        norms[scale], factors[scale] = way_back(scale, data, rng)

    began = time.perf_counter()
    line = np.linalg.lstsq(*data, rcond=None)[0]  # (5, 1)
    line_time = time.perf_counter() - began
    line_error = float(np.mean((test[0] @ line - test[1]) ** 2))  # (1000, 5) @ (5, 1) -> (1000, 1)
    print(f"linear regression: test loss {line_error:.4f} in {line_time * 1e6:.0f} µs; noise alone {NOISE**2:.4f}")

    errors, times = {}, {}
    depths = [2, DEEPEST] if args.quick else [2, 5, 10, DEEPEST]
    jobs = [(depth, scale) for scale in SCALES for depth in depths]
    bar = common.progress(len(jobs))
    for step, job in zip(bar, jobs, strict=True):
        began = time.perf_counter()
        nets = [deep_net(*job, np.random.default_rng([args.seed, step])) for _ in RATES]
        errors[job] = min(train(net, data, test, rate, args.steps) for net, rate in zip(nets, RATES, strict=True))
        times[job] = (time.perf_counter() - began) / len(RATES)
        bar.write(f"step {step:2d}  {job[0]:2d} layers, scale {job[1]}: loss {errors[job]:.4f} in {times[job]:.2f} s")

    best = min(errors, key=errors.get)
    silence = float(np.mean((test[1] - data[1].mean()) ** 2))  # of who always says the mean
    pictures.side_effects(args, norms, factors, errors, line_error, silence)
    if args.steps >= 1000:
        common.claim(
            line_error < errors[best] and line_time < times[best],
            f"linear regression: test error {line_error:.4f} in {line_time * 1e6:.0f} µs; the best deep net, {best[0]} "
            f"layers and scale {best[1]}: {errors[best]:.4f} in {times[best] * 1e3:.0f} ms",
        )
        for scale in (0.5, 2.0):
            shallow = errors[2, scale]
            deep = errors[DEEPEST, scale]
            statement = f"2 layers learn ({shallow:.2f}), {DEEPEST} do not ({deep:.2f}; always the mean {silence:.2f})"
            common.claim(shallow < 0.2 * silence and deep > 0.9 * silence, f"scale {scale}: {statement}")
    values = {"linear": line_error, "best_deep": errors[best], "vanishing": factors[0.5], "exploding": factors[2.0]}
    common.result(layers=best[0], scale=best[1], **{name: f"{value:.4f}" for name, value in values.items()})


if __name__ == "__main__":
    main()
