"""Physics: a net that was never shown the answer, only the law.

A law of nature is often an equation between a quantity and its derivatives. Let a net be that quantity, ask the
framework for its derivatives in time and space, and call loss what is left of the equation. Here two walks back are
recorded (`create_graph=True`): the loss is made of u' and u'', and its gradient goes through both. (Raissi et al. 2019)

    an oscillator:    u'' + 2 d u' + w² u = 0,    u(0) = 1, u'(0) = 0
    heat in a bar:    ∂u/∂t = k ∂²u/∂x²,          u = sin(πx) at t = 0, and 0 at both ends

What holds at the edges is built in, u = 1 + (1 - e⁻ᵗ)² net(t) and u = sin(πx) + t x (1 - x) net(x, t), so nothing has
to be traded against the law. Both have solutions on paper, to measure the error with. Where there are none, the
leftover of the law is all one sees; a solver on a grid is far faster for such small problems.

    python examples/30_physics.py

takes about 12 seconds of one core. The last lines look like this:

    claim: the oscillator is off by 0.0050 at most, of 1
    claim: heat in a bar is off by 0.0008 at most, of 1
    result: oscillator=0.0050 heat=0.0008 law_1=5.6e-04 law_2=1.3e-05
"""

from __future__ import annotations

import math

import common
import numpy as np
from common import pictures

import tinygrad_z2g as z2g
from tinygrad_z2g import nn, optim
from tinygrad_z2g.autograd import grad

D = 0.2  # damping of the oscillator
W = 2.0  # its frequency
END = 5.0  # seconds
K = 0.1  # how fast heat spreads
NODES = 32


class Net(nn.Module):
    """(n, coordinates) -> (n, 1). Smooth: a net of ReLUs has no second derivative anywhere."""

    def __init__(self, coordinates: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(coordinates, NODES), nn.Tanh(), nn.Linear(NODES, NODES), nn.Tanh(), nn.Linear(NODES, 1)
        )

    def forward(self, *coordinates: z2g.Tensor) -> z2g.Tensor:
        return self.layers(z2g.cat(coordinates, 1))  # (n, 1), ... -> (n, coordinates)


def slope(u: z2g.Tensor, x: z2g.Tensor) -> z2g.Tensor:
    """∂u/∂x at each of the n points, recorded. One point knows nothing of another, so Σ u has the slopes of all."""
    return grad(u.sum(), x, create_graph=True)[0]


def oscillator(net: Net, t: z2g.Tensor) -> z2g.Tensor:
    """u(t), with u(0) = 1 and u'(0) = 0 whatever the net says"""
    return 1 + (1 - (-t).exp()) ** 2 * net(2 * t - END) * 2  # a factor like t² at first, which stays about 1


def oscillator_law(net: Net, t: z2g.Tensor) -> z2g.Tensor:
    """What is left of the equation at times t, (n, 1)"""
    u = oscillator(net, t)
    du = slope(u, t)
    return slope(du, t) + 2 * D * du + W * W * u


def oscillator_on_paper(t: np.ndarray) -> np.ndarray:
    """e^-dt (cos vt + d/v sin vt), v = √(w² - d²)"""
    v = math.sqrt(W * W - D * D)
    return np.exp(-D * t) * (np.cos(v * t) + D / v * np.sin(v * t))


def heat(net: Net, x: z2g.Tensor, t: z2g.Tensor) -> z2g.Tensor:
    """u(x, t), which is sin(πx) at first, and 0 at x = 0 and x = 1"""
    return (math.pi * x).sin() + t * x * (1 - x) * net(2 * x - 1, 2 * t - 1) * 10


def heat_law(net: Net, x: z2g.Tensor, t: z2g.Tensor) -> z2g.Tensor:
    """What is left of the equation"""
    u = heat(net, x, t)
    return slope(u, t) - K * slope(slope(u, x), x)


def heat_on_paper(x: np.ndarray, t: np.ndarray) -> np.ndarray:
    """The sine keeps its form and fades"""
    return np.exp(-K * math.pi**2 * t) * np.sin(math.pi * x)


def train(name: str, law, ranges: list[float], args) -> tuple[Net, list[float]]:
    """A net that obeys the law at points drawn anew in each step; and what was left of it, mean square, in each."""
    z2g.manual_seed(args.seed)
    net = Net(len(ranges)).to(args.device)
    optimizer = optim.Adam(net.parameters(), lr=0.01)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, args.steps))
    left = []
    bar = common.progress(args.steps)
    for step in bar:
        points = [(z2g.rand(100, 1, device=args.device) * high).requires_grad_() for high in ranges]
        loss = law(net, *points).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        left.append(loss.item())
        if step % max(1, args.steps // 5) == 0:
            bar.write(f"{name:10s} step {step:5d}  left of the law {left[-1]:.5f}")
    return net, left


def main() -> None:
    args = common.parse(common.arguments("Nets that satisfy a differential equation.", 2000), steps=50)
    spring, left = train("oscillator", oscillator_law, [END], args)
    bar, left_heat = train("heat", heat_law, [1.0, 1.0], args)

    t = np.linspace(0, END, 201)[:, None]  # (201, 1)
    at = np.linspace(0, 1, 41)
    x, times = (a.reshape(-1, 1) for a in np.meshgrid(at, at, indexing="ij"))  # (41, 41) -> (1681, 1)
    with z2g.no_grad():
        given = [z2g.tensor(a.astype(np.float32), device=args.device) for a in (t, x, times)]
        u = oscillator(spring, given[0]).cpu().numpy()
        v = heat(bar, *given[1:]).cpu().numpy()
    u_on_paper = oscillator_on_paper(t)
    v_on_paper = heat_on_paper(x, times)
    off = float(np.abs(u - u_on_paper).max())
    off_heat = float(np.abs(v - v_on_paper).max())

    square = (41, 41)
    pictures.physics(
        args,
        (t, u_on_paper, u),
        (at, v_on_paper.reshape(square), v.reshape(square)),  # (1681, 1) -> (41, 41)
        {"oscillator": left, "heat": left_heat},
    )
    if args.steps >= 2000:
        common.claim(off < 0.02, f"the oscillator is off by {off:.4f} at most, of 1")
        common.claim(off_heat < 0.01, f"heat in a bar is off by {off_heat:.4f} at most, of 1")
    ends = [np.mean(values[-20:]) if values else math.nan for values in (left, left_heat)]
    common.result(oscillator=f"{off:.4f}", heat=f"{off_heat:.4f}", law_1=f"{ends[0]:.1e}", law_2=f"{ends[1]:.1e}")


if __name__ == "__main__":
    main()
