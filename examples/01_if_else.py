"""If this, then that: a machine that decides by rules somebody wrote.

Five switches and a light: some switches add light, some take it away, some do nothing. Somebody watched them five
times and wants a program that foresees the light. The first idea is one if/else rule for each situation that was
seen. It repeats what it saw and knows nothing else: n switches have 2ⁿ situations, and each needs a rule of its own.
The second idea is a weighted sum: one number for each switch, added up where the switch is on. It needs n numbers,
and five observations are enough to find them; then it answers for situations that nobody has seen. How to find such
numbers without trying them all is the question of the steps that follow.

    python examples/01_if_else.py

takes less than a second. The last lines look like this:

    claim: the weights found are right in 32 of 32 situations, the rules in the 5 that were seen
    claim: rules needed double with each switch: 2, 4, ... 4096; the sum needs 1, 2, ... 12 numbers
    result: situations=32 rules_right=5 sum_right=32 rules_for_12=4096 numbers_for_12=12
"""

from __future__ import annotations

import itertools
import random

import common
from common import pictures

HIDDEN = [1, 0, 1, 0, -1]  # how the switches really work: two add light, two do nothing, one takes light away
SEEN = [(1, 0, 0, 1, 0), (0, 1, 1, 0, 1), (0, 0, 1, 0, 0), (1, 1, 1, 0, 1), (0, 0, 0, 0, 1)]


def weighted_sum(switches: tuple[int, ...], weights: tuple[int, ...] | list[int]) -> int:
    """Each switch counts as much as its weight says."""
    total = 0
    for switch, weight in zip(switches, weights, strict=True):
        total += switch * weight
    return total


def rules(a: int, b: int, c: int, d: int, e: int) -> int | None:
    """What was seen, written down. None: no rule says anything."""
    if a and not b and not c and d and not e:
        return 1
    if not a and b and c and not d and e:
        return 0
    if not a and not b and c and not d and not e:
        return 1
    if a and b and c and not d and e:
        return 1
    if not a and not b and not c and not d and e:
        return -1
    return None


def fitting_weights() -> list[tuple[int, ...]]:
    """All choices of weights -1, 0 and 1 that explain what was seen."""
    choices = itertools.product([-1, 0, 1], repeat=5)
    return [w for w in choices if all(weighted_sum(s, w) == weighted_sum(s, HIDDEN) for s in SEEN)]


def rules_needed(n: int, weights: list[int]) -> int:
    """How many rules a list of rules has when it answers for every situation of n switches: one for each."""
    table = {switches: weighted_sum(switches, weights) for switches in itertools.product([0, 1], repeat=n)}
    return len(table)


def main() -> None:
    parser = common.arguments("Rules for a light and five switches, and the sum that replaces them.", 12, device=False)
    args = common.parse(parser, steps=8)  # --steps: up to how many switches rules are counted
    most = min(args.steps, 16)
    for switches in SEEN:
        print(f"switches {switches}  light {weighted_sum(switches, HIDDEN):+d}")

    situations = list(itertools.product([0, 1], repeat=5))
    found = fitting_weights()
    print(f"weights that explain the {len(SEEN)} observations: {found}")
    rules_right = sum(rules(*s) == weighted_sum(s, HIDDEN) for s in situations)
    sum_right = sum(weighted_sum(s, found[0]) == weighted_sum(s, HIDDEN) for s in situations)

    chance = random.Random(args.seed)
    counts = []
    for n in range(1, most + 1):
        counts.append(rules_needed(n, [chance.choice([-1, 0, 1]) for _ in range(n)]))
        print(f"step {n:2d}  {n:2d} switches: {counts[-1]:5d} rules or {n:2d} numbers")

    pictures.if_else(args, counts)
    common.claim(
        rules_right == len(SEEN) and sum_right == len(situations) and len(found) == 1,
        f"the weights found are right in {sum_right} of 32 situations, the rules in the {rules_right} that were seen",
    )
    if most > 2:
        common.claim(
            all(later == 2 * count for count, later in itertools.pairwise(counts)),
            f"rules needed double with each switch: 2, 4, ... {counts[-1]}; the sum needs 1, 2, ... {most} numbers",
        )
    last = {f"rules_for_{most}": counts[-1], f"numbers_for_{most}": most} if counts else {}
    common.result(situations=32, rules_right=rules_right, sum_right=sum_right, **last)


if __name__ == "__main__":
    main()
