"""Unseen data: a net that hits every example may have learned nothing.

A large enough net can pass through any points, and through the noise in them too. Training error cannot tell this
from understanding; only points which the net has never seen can. So the data is split: one part to learn from, one
part to test. The net of step 10, with two hidden layers of sines and weights drawn from N(0, 1), gets 20 noisy points:
it learns them by heart and is wildly wrong in between (it overfits). Four remedies, each changing one thing, are
measured against it on the same data sets: smaller initial weights, weight decay (every step pulls all weights a
little towards 0), ReLU in place of the sine, and more data. All of them help *between* the points. Beyond the
ends of the data every net is worse than between them: there it goes on with whatever it is made of, waves or straight
lines, because nothing told it otherwise. Step 12 meets the same two errors, training and test, with letters.

    python examples/11_generalization.py

takes about 10 seconds on 2 CPU cores. The last lines look like this:

    claim: more data: test error 0.116 instead of 7.141
    claim: all four: test error 0.097 instead of 7.141
    claim: all are worse beyond the data than between: 2.7 times at least
    result: overfitted=7.141 small=0.159 decay=0.116 relu=0.684 data=0.116 all=0.097
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import common
from common import pictures

import tinygrad_z2g as z2g
from tinygrad_z2g import nn, optim

NOISE = 0.3  # its square, 0.09, is the error that even the true function makes on noisy points
INSIDE = [(-3, 3)]  # where the net is trained
BEYOND = [(-6, -3), (3, 6)]  # where it has seen nothing


@dataclass
class Way:
    """One way to train. The defaults are those of the net that overfits; each remedy changes one of them."""

    name: str
    std: float = 1.0  # of the initial weights and biases
    weight_decay: float = 0.0
    activation: Callable[[z2g.Tensor], z2g.Tensor] = z2g.sin
    points: int = 20


WAYS = [
    Way("overfitted"),
    Way("small weights", std=0.1),
    Way("weight decay", weight_decay=1.0),
    Way("ReLU", activation=z2g.relu),
    Way("more data", points=200),
    Way("all four", std=0.1, weight_decay=1.0, activation=z2g.relu, points=200),
]


class Net(nn.Module):
    def __init__(self, way: Way, hidden: int = 50):
        super().__init__()
        self.first = nn.Linear(1, hidden)
        self.second = nn.Linear(hidden, hidden)
        self.last = nn.Linear(hidden, 1)
        self.activation = way.activation
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=way.std)

    def forward(self, x: z2g.Tensor) -> z2g.Tensor:
        x = self.activation(self.first(x))  # (N, 1) -> (N, hidden)
        x = self.activation(self.second(x))  # (N, hidden) -> (N, hidden)
        return self.last(x)  # (N, hidden) -> (N, 1)


def truth(x: z2g.Tensor) -> z2g.Tensor:
    return x / 2 + z2g.sin(x)


def sample(n: int, intervals: list[tuple[float, float]], device: str) -> tuple[z2g.Tensor, z2g.Tensor]:
    """n points x (n, 1), spread over the intervals, and what a noisy instrument reads there, y (n, 1)."""
    x = z2g.cat([low + (high - low) * z2g.rand(n // len(intervals), 1) for low, high in intervals])
    return x.to(device), (truth(x) + NOISE * z2g.randn(n, 1)).to(device)


@z2g.no_grad()
def error(net: Net, x: z2g.Tensor, y: z2g.Tensor) -> float:
    return nn.functional.mse_loss(net(x), y).item()


def train(way: Way, seed: int, args: Any, bar: Any, rows: bool) -> tuple[Net, list[float], tuple]:
    """A trained net, its errors [on its own points, between them, beyond them], and its points."""
    z2g.manual_seed(seed)  # every way gets the same data and the same initial weights, up to their scale
    inside = sample(400, INSIDE, args.device)
    beyond = sample(400, BEYOND, args.device)
    x, y = (column[: way.points] for column in sample(200, INSIDE, args.device))
    net = Net(way).to(args.device)
    optimizer = optim.AdamW(net.parameters(), lr=3e-3, weight_decay=way.weight_decay)
    for step in range(1, args.steps + 1):
        loss = nn.functional.mse_loss(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        bar.update()
        if rows and step % max(1, args.steps // 3) == 0:
            bar.write(f"step {step:5d}  loss {loss.item():.4f}  test {error(net, *inside):6.3f}  {way.name}")
    return net, [error(net, x, y), error(net, *inside), error(net, *beyond)], (x, y)


def main() -> None:
    parser = common.arguments("Overfitting, and what helps against it.", steps=1500)
    parser.add_argument("--sets", type=common.at_least(1), default=5, help="data sets to average over")
    args = common.parse(parser, steps=300, sets=2)

    errors = {}
    drawn = {}  # of the first data set: what each net says along a line, and what it learned from
    line = z2g.linspace(-6, 6, 400).unsqueeze(1)  # (400, 1)
    with common.progress(len(WAYS) * args.sets * args.steps) as bar:
        for way in WAYS:
            runs = [train(way, 100 * args.seed + k, args, bar, rows=k == 0) for k in range(args.sets)]
            net, _, (x, y) = runs[0]
            with z2g.no_grad():
                guess = net(line.to(args.device))
            drawn[way.name] = [column.cpu().numpy() for column in (guess, x, y)]
            errors[way.name] = [sum(column) / args.sets for column in zip(*(run[1] for run in runs), strict=True)]

    print(f"\nmean of {args.sets} data sets   training   test between   test beyond   (noise alone: {NOISE**2:.3f})")
    for name, (training, between, beyond) in errors.items():
        print(f"{name:20s} {training:12.4f} {between:14.3f} {beyond:13.3f}")

    pictures.generalization(args, line.numpy(), truth(line).numpy(), drawn)
    trained, unseen, _ = errors["overfitted"]
    least = min(beyond / between for _, between, beyond in errors.values())
    if args.steps >= 300 and args.sets >= 2:  # before that no net has learned enough to overfit
        common.claim(unseen > 100 * trained, f"overfitted: test error {unseen:.3f}, training error {trained:.4f}")
        for name, (_, between, _) in list(errors.items())[1:]:
            if name == "ReLU" and args.steps < 1500:
                continue  # with weights this large it takes longer than the others
            common.claim(between < unseen / 2, f"{name}: test error {between:.3f} instead of {unseen:.3f}")
        common.claim(least > 1.5, f"all are worse beyond the data than between: {least:.1f} times at least")
    keys = ["overfitted", "small", "decay", "relu", "data", "all"]
    common.result(**{key: f"{row[1]:.3f}" for key, row in zip(keys, errors.values(), strict=True)})


if __name__ == "__main__":
    main()
