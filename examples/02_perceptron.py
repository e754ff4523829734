"""The perceptron: a weighted sum, a threshold, and a rule that finds the weights.

The neuron of 1958: inputs times weights, summed, and a 1 if the sum is above zero. Here it stands twice, once in
plain Python and once as NumPy's dot product; both say the same. Then it learns (Rosenblatt 1958, Psychological Review
65:386): where it answers 0 but should say 1, the weights of all active inputs grow by 1; where it answers 1 but
should say 0, they shrink by 1. AND and OR are learned in a few rounds. XOR is not, ever: no straight line parts
(0,0) and (1,1) from (0,1) and (1,0), so no weights exist to be found. That takes layers, and another way to learn.

    python examples/02_perceptron.py

takes less than a second. The last lines look like this:

    claim: the perceptron learns AND and OR and never gets all four cases of XOR
    result: agree=4128 and_rounds=6 or_rounds=4 xor_errors=4
"""

from __future__ import annotations

import itertools

import common
import numpy as np
from common import pictures

TABLES = {"AND": [0, 0, 0, 1], "OR": [0, 1, 1, 1], "XOR": [0, 1, 1, 0]}


def perceptron(inputs: list[float], weights: list[float]) -> int:
    """In plain Python: 1 if Σ input · weight > 0."""
    total = 0.0
    for value, weight in zip(inputs, weights, strict=True):
        total += value * weight
    return 1 if total > 0 else 0


def perceptron_dot(inputs: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The same for all rows at once, as a dot product."""
    return (inputs @ weights > 0).astype(int)  # (rows, n) @ (n,) -> (rows,)


def agreement(n: int, rng: np.random.Generator) -> tuple[int, int]:
    """On how many of all 2ⁿ inputs both agree, with random whole weights (whole, so that both sums are exact)."""
    table = np.array(list(itertools.product([0, 1], repeat=n)))
    weights = rng.integers(-5, 6, n)
    slow = np.array([perceptron(list(row), list(weights)) for row in table])
    return int((slow == perceptron_dot(table, weights)).sum()), len(table)


def learn(inputs: np.ndarray, targets: list[int], rounds: int) -> tuple[list[int], np.ndarray]:
    """The perceptron rule, from weights 0; returns the errors of each round, and the weights.

    w ← w + (target - output) x. It stops after a round without error. The last column of `inputs` is 1: its weight
    is the threshold, learned like any other.
    """
    weights = np.zeros(inputs.shape[1])
    errors = []
    for _ in range(rounds):
        errors.append(0)
        for x, target in zip(inputs, targets, strict=True):
            output = int(x @ weights > 0)
            weights += (target - output) * x
            errors[-1] += target != output
        if not errors[-1]:
            break
    return errors, weights


def main() -> None:
    args = common.parse(common.arguments("A perceptron learns AND and OR, and cannot learn XOR.", 100, device=False))
    rng = np.random.default_rng(args.seed)
    agree5, all5 = agreement(5, rng)
    agree12, all12 = agreement(12, rng)
    common.claim(
        agree5 == all5 == 2**5 and agree12 == all12 == 2**12,
        f"plain Python and the dot product agree on all {all5} inputs of 5 switches and all {all12} of 12",
    )

    corners = np.array([[a, b, 1] for a, b in itertools.product([0, 1], repeat=2)])  # (4, 3): two inputs and the 1
    history = {}
    weights = {}
    for name, targets in TABLES.items():
        history[name], weights[name] = learn(corners, targets, args.steps)
        for step, errors in enumerate(history[name][:6], 1):
            print(f"{name:3s} step {step:3d}  loss {errors / 4:.2f}  ({errors} of 4 wrong)")
        print(f"{name:3s} weights {weights[name].astype(int).tolist()} after {len(history[name])} rounds")

    pictures.perceptron(args, corners, TABLES, weights)
    last = {name: errors[-1] if errors else 4 for name, errors in history.items()}
    if args.steps >= 10:
        common.claim(
            last["AND"] == 0 and last["OR"] == 0 and min(history["XOR"]) > 0,
            "the perceptron learns AND and OR and never gets all four cases of XOR",
        )
    rounds = {f"{name.lower()}_rounds": len(history[name]) for name in ("AND", "OR")}
    common.result(agree=agree5 + agree12, **rounds, xor_errors=last["XOR"])


if __name__ == "__main__":
    main()
