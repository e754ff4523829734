"""Autograd: the framework writes the backward pass.

Step 07 derived every gradient on paper, and each new net would have to be derived again. A framework records what is
computed going forward, knows the derivative of each single operation, and walks the record backwards: the same chain
rule, done by `loss.backward()`. First proof: on the weights of step 07 its gradients equal the hand-written ones. Then
the reward: a net is written down as a `Module` and learns, whatever its shape.

Adam (Kingma & Ba 2015, arXiv:1412.6980) makes the learning rate adaptive, one for each weight: the step is the mean of
recent gradients over the root of their mean square. It needs no tuning to the size of the gradients, and far fewer
steps than plain descent (SGD). Steps 11 to 22 are built from these parts.

    python examples/10_autograd.py

takes about 3 seconds. The last lines look like this:

    claim: autograd's gradients equal the hand-written ones to 2e-07 (float32)
    claim: f(4) = 16.00, near 16
    claim: Adam needs 228 steps, SGD 2576
    result: gradient_difference=2e-07 f4=16.000 adam_steps=228 sgd_steps=2576
"""

from __future__ import annotations

import common
import numpy as np
from common import pictures

import tinygrad_z2g as z2g
from tinygrad_z2g import nn, optim

X = np.linspace(-10, 10, 11, dtype=np.float32)[:, None]  # (11, 1)
NODES = 100
GOAL = 1.0  # the loss, summed over 11 points, that counts as learned
SGD_RATE = 2e-5  # the best of 1e-6, 3e-6, 1e-5, 2e-5, 3e-5 and 1e-4 over three seeds


def by_hand(weights: list[np.ndarray], x: np.ndarray, t: np.ndarray) -> list[np.ndarray]:
    """The gradients of L = Σ (y - t)² through three layers of sines and a sum, as derived in step 07."""
    W1, W2, W3, W4 = weights
    a1 = x @ W1  # (11, 2) @ (2, 100) -> (11, 100)
    a2 = np.sin(a1) @ W2  # (11, 100) @ (100, 100)
    a3 = np.sin(a2) @ W3  # (11, 100) @ (100, 100)
    dy = 2 * (np.sin(a3) @ W4 - t)  # (11, 100) @ (100, 1) -> (11, 1)
    da3 = dy @ W4.T * np.cos(a3)  # (11, 1) @ (1, 100) -> (11, 100)
    da2 = da3 @ W3.T * np.cos(a2)
    da1 = da2 @ W2.T * np.cos(a1)
    return [x.T @ da1, np.sin(a1).T @ da2, np.sin(a2).T @ da3, np.sin(a3).T @ dy]


def largest_difference(seed: int, device: str) -> float:
    """Between autograd and the formulas, in float32, relative to the largest gradient of each matrix."""
    rng = np.random.default_rng(seed)
    sizes = [(2, NODES), (NODES, NODES), (NODES, NODES), (NODES, 1)]
    arrays = [rng.standard_normal(size) / np.sqrt(size[0]) * (3 if size[0] == 2 else 1) for size in sizes]
    x = np.hstack([X / 10, np.ones_like(X)])  # (11, 2)
    t = X**2  # (11, 1)

    weights = [z2g.tensor(a, dtype=z2g.float32, device=device, requires_grad=True) for a in arrays]
    h = z2g.tensor(x, device=device)
    for W in weights[:-1]:
        h = z2g.sin(h @ W)  # (11, in) @ (in, out) -> (11, out)
    loss = ((h @ weights[-1] - z2g.tensor(t, device=device)) ** 2).sum()
    loss.backward()

    expected = by_hand([W.detach().cpu().numpy().astype(np.float64) for W in weights], x.astype(np.float64), t)
    gradients = [W.grad.cpu().numpy() for W in weights]
    return max(float(np.abs(g - e).max() / np.abs(e).max()) for g, e in zip(gradients, expected, strict=True))


class Net(nn.Module):
    """Three layers with ReLU, and a weighted sum: (n, 1) -> (n, 1)"""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(1, NODES),
            nn.ReLU(),
            nn.Linear(NODES, NODES),
            nn.ReLU(),
            nn.Linear(NODES, NODES),
            nn.ReLU(),
            nn.Linear(NODES, 1),
        )

    def forward(self, x: z2g.Tensor) -> z2g.Tensor:
        return self.layers(x)


def train(name: str, args, steps: int) -> tuple[Net, list[float]]:
    """Train from the same first weights; returns the net and the loss at every step."""
    z2g.manual_seed(args.seed)
    net = Net().to(args.device)
    x = z2g.tensor(X, device=args.device)
    t = x**2
    optimizer = optim.Adam(net.parameters(), lr=0.003) if name == "Adam" else optim.SGD(net.parameters(), lr=SGD_RATE)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))  # smaller and smaller steps at the end
    losses = []
    bar = common.progress(steps)
    for step in bar:
        loss = ((net(x) - t) ** 2).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % max(1, steps // 5) == 0:
            bar.write(f"{name:4s} step {step:5d}  loss {losses[-1]:.4f}")
    return net, losses


def steps_to_goal(losses: list[float]) -> int:
    """The first step with a loss below GOAL, or one more than there were."""
    return next((i for i, loss in enumerate(losses, 1) if loss < GOAL), len(losses) + 1)


def main() -> None:
    args = common.parse(common.arguments("Autograd, a Module and Adam learn x².", 5000), steps=200)
    difference = largest_difference(args.seed, args.device)
    common.claim(difference < 1e-6, f"autograd's gradients equal the hand-written ones to {difference:.0e} (float32)")
    losses, needed = {}, {}
    for name in ("SGD", "Adam"):
        net, losses[name] = train(name, args, args.steps)
        needed[name] = steps_to_goal(losses[name])
    with z2g.no_grad():
        dense = np.linspace(-12, 12, 241, dtype=np.float32)[:, None]  # (241, 1)
        curve = net(z2g.tensor(dense, device=args.device)).cpu().numpy()  # of the last net, that of Adam
        f4 = net(z2g.tensor([[4.0]], device=args.device)).item()
    print(f"f(4) = {f4:.3f} (one of the points it was shown); steps to a loss below {GOAL}: {needed}")
    pictures.autograd(args, losses, X, dense, curve)
    if args.steps >= 5000:
        common.claim(abs(f4 - 16) < 0.5, f"f(4) = {f4:.2f}, near 16")
        common.claim(
            needed["Adam"] * 3 < needed["SGD"],
            f"Adam needs {needed['Adam']} steps, SGD "
            f"{f'over {args.steps}' if needed['SGD'] > args.steps else needed['SGD']}",
        )
    common.result(
        gradient_difference=f"{difference:.0e}", f4=f"{f4:.3f}", adam_steps=needed["Adam"], sgd_steps=needed["SGD"]
    )


if __name__ == "__main__":
    main()
