"""Where a training step's time goes: by operation, forward and backward.

An observer of recording (`tools.trace`) reads the clock when an operation has computed its result, and puts a
stopwatch around each of its rules. To an operation's forward time counts whatever the program did since the operation
before it: checks, shapes, layers, loops. What is left of the step is the walk itself, the optimizer, and the watching.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from tinygrad_z2g.tools.trace import Observer, observers


class Stopwatch(Observer):
    """Seconds by name of operation: [how often, forward, backward]."""

    def __init__(self) -> None:
        self.found: dict[str, list[float]] = defaultdict(lambda: [0, 0.0, 0.0])
        self.last = time.perf_counter()

    def computed(self, name: str, array: Any, inputs: Any) -> None:
        """Count what has passed since the last operation."""
        row = self.found[name]
        row[0] += 1
        row[1] += time.perf_counter() - self.last
        self.last = time.perf_counter()

    def recorded(self, node: Any) -> None:
        """Time the rules of an operation, when they will run."""
        row = self.found[node.name]

        def timed(rule: Callable) -> Callable:
            def timing(grad: Any, *numbers: Any) -> Any:
                start = time.perf_counter()
                result = rule(grad, *numbers)
                row[2] += time.perf_counter() - start
                return result

            return timing

        if node.joint is not None:
            node.joint = timed(node.joint[0]), node.joint[1]
        else:
            node.edges = [(target, timed(rule), numbers) for target, rule, numbers in node.edges]
        self.last = time.perf_counter()


def profile(step: Callable[[], Any], reps: int) -> str:
    """A table of the fastest of so many steps, the operation with the most time first."""
    step()
    best: tuple[float, Stopwatch] | None = None
    for _ in range(reps):
        watch = Stopwatch()
        observers.append(watch)
        start = watch.last = time.perf_counter()
        try:
            step()
        finally:
            observers.remove(watch)
        seconds = time.perf_counter() - start
        if best is None or seconds < best[0]:
            best = seconds, watch
    total, watch = best
    lines = [f"{'operation':20}{'times':>7}{'forward':>12}{'backward':>12}{'share':>8}"]
    for name, (count, forward, backward) in sorted(watch.found.items(), key=lambda item: -sum(item[1][1:])):
        share = (forward + backward) / total
        lines.append(f"{name:20}{count:7.0f}{forward * 1e6:9.0f} µs{backward * 1e6:9.0f} µs{share:8.1%}")
    forward, backward = (sum(row[i] for row in watch.found.values()) for i in (1, 2))
    rest = total - forward - backward
    lines.append(f"{'all of them':27}{forward * 1e6:9.0f} µs{backward * 1e6:9.0f} µs{1 - rest / total:8.1%}")
    lines.append(f"{'walk, optimizer, watching':27}{rest * 1e6:9.0f} µs{'':12}{rest / total:8.1%}")
    return "\n".join(lines)
