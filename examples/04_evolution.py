"""Evolution: keep what was good, change it a little.

Random search forgets every failure and every near success. Here a father set of weights has a child, the same weights
with small random changes (mutations); the better of the two becomes the next father. Errors can only fall, and most
of what was right is kept, so 5,000 children reach what 5,000 free guesses do not.

Two things are learned on the way. The light may be on with all switches off, and no weighted sum of zeros can say so:
a further input that is always 1, the bias, gives it a weight for that. And evolution climbs only upwards, so it gets
stuck where every small change is worse, in a local optimum, with one sine node quite often. Several nodes added up give
it more ways out. What it never learns is which weight was to blame: step 05 asks the error itself.

    python examples/04_evolution.py

takes about 5 seconds. The last lines look like this:

    claim: after 5000 evaluations evolution is at 0.003, random search (median of 9) at 0.166
    claim: without the bias input the error stays at 0.224
    claim: stuck with 1 node: 60%, with 8: 0%
    result: evolution=0.0030 random=0.1655 no_bias=0.2236 stuck_1=0.60 stuck_8=0.00
"""

from __future__ import annotations

from collections.abc import Callable

import common
import numpy as np
from common import pictures

MUTATION = 0.03  # standard deviation of the change of each weight
SWITCHES = np.array([[0, 0, 0, 0, 0], [1, 0, 0, 1, 0], [0, 1, 1, 0, 1], [0, 0, 1, 0, 0], [1, 1, 1, 0, 1]])
LIGHT = SWITCHES @ np.array([1, 0, 1, 0, -1]) + 0.5  # (5, 5) @ (5,) -> (5,); 0.5 even if all are off
WITH_BIAS = np.hstack([SWITCHES, np.ones((5, 1))])  # (5, 6)
CURVE_X = np.linspace(0, 1, 30)
CURVE_Y = np.sin(11 * CURVE_X)  # for a sine node: right frequency or wrong frequency, with hills between


def table_error(inputs: np.ndarray) -> Callable[[np.ndarray], float]:
    """Root mean square error of a weighted sum of the inputs, as a function of the weights."""
    return lambda weights: float(np.sqrt(np.mean((inputs @ weights - LIGHT) ** 2)))  # (5, n) @ (n,) -> (5,)


def curve_error(weights: np.ndarray) -> float:
    """Root mean square error of Σ a sin(b x + c), three weights for each node."""
    a, b, c = weights.reshape(3, -1)  # (3 nodes,) -> 3 times (nodes,)
    output = np.sin(np.outer(CURVE_X, b) * 10 + c) @ a  # (30, nodes) @ (nodes,) -> (30,)
    return float(np.sqrt(np.mean((output - CURVE_Y) ** 2)))


def evolve(
    error: Callable[[np.ndarray], float], father: np.ndarray, steps: int, rng: np.random.Generator
) -> list[float]:
    """The error of the father after each generation."""
    errors = [error(father)]
    for _ in range(steps):
        child = father + MUTATION * rng.standard_normal(father.size)
        child_error = error(child)
        if child_error < errors[-1]:
            father = child
        errors.append(min(child_error, errors[-1]))
    return errors


def guess(error: Callable[[np.ndarray], float], n: int, steps: int, rng: np.random.Generator) -> list[float]:
    """Random search as in step 03: the smallest error so far after each guess, weights uniform on [-1.5, 1.5]."""
    return np.minimum.accumulate([error(rng.uniform(-1.5, 1.5, n)) for _ in range(steps + 1)]).tolist()


def main() -> None:
    args = common.parse(common.arguments("Evolution against random search.", 5000, device=False), steps=500)
    steps = args.steps
    rng = np.random.default_rng(args.seed)
    with_bias = table_error(WITH_BIAS)
    without = table_error(SWITCHES)
    curves = {
        "evolution": evolve(with_bias, rng.uniform(-1.5, 1.5, 6), steps, rng),
        "evolution without bias": evolve(without, rng.uniform(-1.5, 1.5, 5), steps, rng),
        "random search": np.median([guess(with_bias, 6, steps, rng) for _ in range(9)], axis=0),  # of nine searches
    }
    for step in range(0, steps + 1, max(1, steps // 5)):
        values = "  ".join(f"{name} {errors[step]:.3f}" for name, errors in curves.items())
        print(f"step {step:5d}  loss {values}")

    repeats = 4 if args.quick else 20
    nodes = [1, 2, 4, 8]
    stuck = {n: [] for n in nodes}
    for family in common.progress(repeats * len(nodes)):
        n = nodes[family % len(nodes)]
        stuck[n].append(evolve(curve_error, rng.uniform(-1, 1, 3 * n), steps, rng)[-1])
    share = {n: float(np.mean([error > 0.3 for error in errors])) for n, errors in stuck.items()}
    for n in nodes:
        print(f"{n} sine nodes: {share[n]:4.0%} of {repeats} families end in a local optimum (error above 0.3)")

    pictures.evolution(args, curves, share)
    end = {name: errors[-1] for name, errors in curves.items()}
    if steps >= 5000:
        common.claim(
            end["evolution"] < 0.05 < end["random search"],
            f"after {steps} evaluations evolution is at {end['evolution']:.3f}, random search (median of 9) at "
            f"{end['random search']:.3f}",
        )
        common.claim(
            end["evolution without bias"] > 0.1,
            f"without the bias input the error stays at {end['evolution without bias']:.3f}",
        )
        common.claim(share[8] < share[1], f"stuck with 1 node: {share[1]:.0%}, with 8: {share[8]:.0%}")
    common.result(
        evolution=f"{end['evolution']:.4f}", random=f"{end['random search']:.4f}",
        no_bias=f"{end['evolution without bias']:.4f}", stuck_1=f"{share[1]:.2f}", stuck_8=f"{share[8]:.2f}",
    )  # fmt: skip


if __name__ == "__main__":
    main()
