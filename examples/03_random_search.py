"""Guess until it fits: the simplest way to find weights, and why nobody uses it.

The weights that step 01 knew and the perceptron of step 02 learned can also be guessed: draw all of them at random,
keep them if the error is small. Nothing has to be understood for that. But each further input multiplies the tries by
about the same factor, because one more number has to be right at the same time: the volume of the good weights
shrinks as a power of n. Five inputs are still fine, fifty would outlive the sun. Step 04 keeps what was good.

    python examples/03_random_search.py

takes about 2 seconds. The last lines look like this:

    claim: guesses grow 3.3 times per input, 9 for one, 8442 for 7
    result: growth=3.33 tries_1=9 tries_7=8442
"""

from __future__ import annotations

import itertools

import common
import numpy as np
from common import pictures

HIDDEN = [1, 0, 1, 0, -1]  # the relation behind the table
SMALL = 0.25  # a guess is good enough when no output is wrong by more than this, root mean square
BLOCK = 20_000  # guesses drawn at once, for speed


def table(n: int) -> tuple[np.ndarray, np.ndarray]:
    """One observation per switch alone and one of all together, and the sums that go with them. (n + 1, n), (n + 1,)"""
    inputs = np.vstack([np.eye(n), np.ones(n)])
    return inputs, inputs @ np.array((HIDDEN * 2)[:n])  # (n + 1, n) @ (n,) -> (n + 1,)


def tries_needed(n: int, most: int, rng: np.random.Generator) -> int:
    """How many guesses, uniform on [-1.5, 1.5] for each weight, until one has a small error; `most` if none has."""
    inputs, targets = table(n)
    tried = 0
    while tried < most:
        guesses = rng.uniform(-1.5, 1.5, (min(BLOCK, most - tried), n))
        errors = np.sqrt(np.mean((guesses @ inputs.T - targets) ** 2, axis=1))  # (guesses, n) @ (n, n + 1)
        good = np.flatnonzero(errors < SMALL)
        if good.size:
            return tried + int(good[0]) + 1
        tried += len(guesses)
    return most


def main() -> None:
    parser = common.arguments("Random search for weights: tries against inputs.", 2_000_000, device=False)
    args = common.parse(parser)  # --steps: the most guesses for one search
    inputs = range(1, 5 if args.quick else 8)
    repeats = 5 if args.quick else 25
    rng = np.random.default_rng(args.seed)
    means = []
    for n in inputs:
        means.append(float(np.mean([tries_needed(n, args.steps, rng) for _ in range(repeats)])))
        print(f"step {n}  {n} inputs: {means[-1]:9.1f} guesses on average of {repeats} searches, loss < {SMALL}")

    # A straight line through log(tries): its slope is the factor by which one more input multiplies them
    growth = float(np.exp(np.polyfit(list(inputs), np.log(np.maximum(means, 1)), 1)[0]))
    years = means[0] * growth**49 / 1e9 / 3.15e7
    print(f"each input multiplies the guesses by {growth:.1f}; 50 inputs would take {years:.0e} years at 10⁹ a second")
    pictures.random_search(args, inputs, means, growth)
    if args.steps >= 2_000_000:
        common.claim(
            growth > 2.5 and all(later > earlier for earlier, later in itertools.pairwise(means)),
            f"guesses grow {growth:.1f} times per input, {means[0]:.0f} for one, {means[-1]:.0f} for {inputs[-1]}",
        )
    common.result(growth=f"{growth:.2f}", tries_1=f"{means[0]:.0f}", **{f"tries_{inputs[-1]}": f"{means[-1]:.0f}"})


if __name__ == "__main__":
    main()
