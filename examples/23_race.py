"""The race: why everybody uses backprop.

Weights can be guessed (step 03), changed and kept when better (04), tried one by one for the way down (finite
differences, the check of step 07), or given all their slopes at once (07, 10). Here these ways race on one problem in
sizes of 10 to 10,000 weights: paint a cat. The net is sigmoid(A W B) with fixed rotations A and B, so that each weight
changes every pixel a little and all directions are equally steep: an easy problem, for everyone.

The currency is the forward pass: one picture from one set of weights. A guess or a child costs 1, a gradient by finite
differences n + 1, one by backprop 3: a pass forward, and a pass back that counts as 2, whatever n is. So its price
stays while the others' grow with n. Guessing is told how large the weights have to be, and finds 10 of them, not 100.

    python examples/23_race.py

takes about 50 seconds. The last line looks like this:

    result: guessing=inf evolution=42704 differences=50006 adam=25 sgd=16
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import common
import numpy as np
from common import pictures

import tinygrad_z2g as z2g

SHAPES = {10: (2, 5), 100: (10, 10), 1000: (25, 40), 10_000: (100, 100)}
GOAL = 0.02  # mean squared error; a gray picture, where all but guessing start, has 0.16
RATE = 2.0  # of descent, per pixel
BATCH = 50  # pictures computed at once, for speed
Race = Iterator[tuple[int, float, z2g.Tensor]]  # passes since the last time, loss, weights


def painter(n: int, seed: int, device: str) -> tuple[Callable, Callable]:
    """The net and its loss: weights (r, c), or K of them (K, r, c) -> as many pictures, as many losses."""
    r, c = SHAPES[n]
    x = abs(np.arange(0.5, c) / c * 2 - 1) * max(1, c / r)  # (c,)
    y = np.arange(0.5, r)[:, None] / r * 2 - 1  # (r, 1)
    head = (x / 0.75) ** 2 + ((y - 0.2) / 0.65) ** 2 < 1
    ears = (abs(x - 0.5) < (y + 0.95) * 0.45) & (abs(y + 0.475) < 0.475)
    cat = np.where((head | ears) & (((x - 0.3) / 0.12) ** 2 + ((y - 0.05) / 0.17) ** 2 > 1), 0.9, 0.1)  # with eyes
    rng = np.random.default_rng(seed)
    turns = (np.linalg.qr(rng.standard_normal((size, size)))[0] for size in (r, c))  # rotations or reflections
    A, B, target = (z2g.tensor(array, dtype=z2g.float32, device=device) for array in (*turns, cat))

    def paint(W: z2g.Tensor) -> z2g.Tensor:
        return z2g.sigmoid(A @ W @ B)  # (r, r) @ (..., r, c) @ (c, c)

    return paint, lambda W: ((paint(W) - target) ** 2).mean(dim=(-2, -1))  # (..., r, c) -> (...)


@z2g.no_grad()
def chance(loss_of: Callable, W: z2g.Tensor, evolve: bool = True) -> Race:
    """Guesses, or children of the best one with mutations so large that one in five is better (Rechenberg 1973)."""
    loss = loss_of(W).item() if evolve else math.inf
    size = 1.0
    while True:
        yield 1, loss, W
        noise = z2g.randn(*W.shape, device=W.device)
        child = W + size * noise if evolve else math.log(9) * noise  # sigmoid(log 9) = 0.9, and A and B only turn W
        child_loss = loss_of(child).item()
        size *= 1.22**-0.25
        if child_loss < loss:
            W = child
            loss = child_loss
            size *= 1.22**1.25


@z2g.no_grad()
def finite_differences(loss_of: Callable, W: z2g.Tensor, h: float = 0.1) -> Race:
    n = W.numel()
    cost = 1
    while True:
        loss = loss_of(W)
        yield cost, loss.item(), W
        slopes = []
        for start in range(0, n, BATCH):
            bumps = h * z2g.eye(min(BATCH, n - start), n, device=W.device).roll(start, 1).view(-1, *W.shape)
            slopes.append((loss_of(W + bumps) - loss) / h)  # K bumps (K, n) -> (K, r, c) -> losses (K,)
        W = W - RATE * n * z2g.cat(slopes).view(W.shape)  # (n,) -> (r, c)
        cost = n + 1


def backprop(loss_of: Callable, W: z2g.Tensor, kind: type, rate: float) -> Race:
    optimizer = kind([W.requires_grad_()], lr=rate)
    cost = 1
    while True:
        loss = loss_of(W)
        yield cost, loss.item(), W.detach().clone()
        cost = 3
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


RACERS: dict[str, Callable[[Callable, z2g.Tensor], Race]] = {
    "random search": lambda loss_of, W: chance(loss_of, W, evolve=False),
    "evolution": chance,
    "finite differences": finite_differences,
    "backprop, Adam": lambda loss_of, W: backprop(loss_of, W, z2g.optim.Adam, 0.3),
    "backprop, SGD": lambda loss_of, W: backprop(loss_of, W, z2g.optim.SGD, RATE * W.numel()),
}


def race(name: str, n: int, seed: int, budget: int, device: str, marks: list[int]) -> tuple[float, list[np.ndarray]]:
    """Passes to a loss below GOAL, infinity if the budget ends before; and the pictures after `marks` passes."""
    z2g.manual_seed(seed)
    paint, loss_of = painter(n, seed, device)
    passes = 0
    needed = math.inf
    shots = {}
    for cost, loss, W in RACERS[name](loss_of, z2g.zeros(*SHAPES[n], device=device)):
        passes += cost
        if passes > budget or needed < passes > max(marks, default=0):
            break
        shots |= {mark: W for mark in marks if passes <= mark}
        needed = min(needed, passes if loss < GOAL else math.inf)
    return needed, [paint(W).detach().cpu().numpy() for _, W in sorted(shots.items())]


def main() -> None:
    args = common.parse(common.arguments("Five ways to find weights; --steps: forward passes.", 60_000), steps=1200)
    budget = args.steps
    sizes = [10, 100] if args.quick else [*SHAPES]
    marks = [mark for mark in (10, 100, 1000, 10_000) if mark <= budget]
    shown = min(1000, sizes[-1])
    films = {}  # the pictures of each racer at these marks, with so many weights
    median = {name: {} for name in RACERS}
    for n, name in itertools.product(sizes, RACERS):
        seeds = range(args.seed, args.seed + (3 if n < 10_000 else 1))  # the largest size takes long
        filmed = marks if n == shown else []
        counts, shots = zip(*(race(name, n, seed, budget, args.device, filmed) for seed in seeds), strict=True)
        median[name][n] = sorted(counts)[len(counts) // 2]
        if filmed:
            films[name] = shots[0]
        print(f"{n:6,d} weights  {name:18s}  passes to a loss below {GOAL}: {', '.join(map(str, counts))}", flush=True)
    if marks:
        pictures.race(args, films, marks, shown, median, budget, GOAL)
    guess, child, slope, adam, sgd = (list(counts.values()) for counts in median.values())
    if not args.quick and budget >= 60_000:
        common.claim(max(adam + sgd) < 3 * min(adam + sgd), f"backprop's passes hardly grow: Adam {adam}, SGD {sgd}")
        common.claim(min(slope[-1] / slope[0], child[-1] / child[0]) > 500, f"differences {slope}, evolution {child}")
        common.claim(guess[0] < budget < min(guess[1:]), f"guessing: {guess[0]} for 10, more than {budget} beyond")
    common.result(guessing=guess[-1], evolution=child[-1], differences=slope[-1], adam=adam[-1], sgd=sgd[-1])


if __name__ == "__main__":
    main()
