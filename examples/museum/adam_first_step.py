"""Adam without bias correction.

    m = 0.9 m + 0.1 g,   v = 0.999 v + 0.001 g²,   step = rate m / (√v + eps)

Both means start at 0, so they begin too small: m after one step by a factor 10, √v by √1000. Divided by each other they
make steps of 3.2 rates at once and of up to 7 soon after, until v has caught up, a thousand steps later. The loss falls
in the end, but a net that was nearly right, as in fine-tuning, is thrown off first.
"""

import numpy as np
from plaque import course, plaque

rng = np.random.default_rng(1)
A = rng.standard_normal((60, 20)) * np.geomspace(1, 0.1, 20)
target = A @ rng.standard_normal(20)  # (60, 20) @ (20,) -> (60,)
RATE = 0.01


class Adam:
    """Kingma & Ba 2015, arXiv:1412.6980."""

    def __init__(self, correct: bool):
        self.correct, self.m, self.v, self.t = correct, 0.0, 0.0, 0

    def step(self, g: np.ndarray) -> np.ndarray:
        """The change of the weights for a gradient."""
        self.t += 1
        self.m = 0.9 * self.m + 0.1 * g
        self.v = 0.999 * self.v + 0.001 * g**2
        m, v = self.m, self.v
        if self.correct:  # leaving this out is the mistake
            m, v = m / (1 - 0.9**self.t), v / (1 - 0.999**self.t)
        return -RATE * m / (np.sqrt(v) + 1e-8)


def train(adam: Adam) -> list[float]:
    """The loss before each of 1000 steps, from weights that are nearly right."""
    w = np.linalg.lstsq(A, target, rcond=None)[0] + 0.01 * np.sin(np.arange(20))
    losses = []
    for _ in range(1000):
        error = A @ w - target
        losses.append(float(np.mean(error**2)))
        w = w + adam.step(2 * error @ A / 60)  # (60,) @ (60, 20) -> (20,)
    return losses


def steady(correct: bool) -> tuple[float, float]:
    """The first step, and the longest of 100, for a gradient that is always 5, in units of the rate. Should be 1."""
    adam = Adam(correct)
    sizes = [abs(adam.step(np.array(5.0))) / RATE for _ in range(100)]
    return float(sizes[0]), float(max(sizes))


bad, good = train(Adam(False)), train(Adam(True))
first, longest = zip(steady(False), steady(True), strict=True)
seen = course(bad, good) | {"the highest loss in between": (max(bad), max(good))}
check = {"steady gradient: first step / rate": first, "longest step / rate": longest}
plaque(seen, check, fix="divide m by 1 - 0.9^t and v by 1 - 0.999^t")
assert max(bad) > 3 * max(good) and bad[-1] < bad[0] / 100 and first[0] > 3 and longest[0] > 6
assert abs(first[1] - 1) < 1e-6 and abs(longest[1] - 1) < 1e-6
