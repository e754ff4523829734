"""Parameters are replaced after the optimizer was made.

The optimizer holds the Parameter objects that the model had then. A new last layer for a new task, a device move that
makes new parameters, weights loaded by assignment: it goes on updating the old ones, which nobody uses. Here the rest
of the model still learns, below a last layer that stays random, so the loss falls.
"""

from plaque import course, plaque

import tinygrad_z2g as z2g
from tinygrad_z2g import nn, optim

z2g.manual_seed(1)
x = z2g.randn(100, 2)
t = (x[:, 0] * x[:, 1] > 0).long()  # same sign or not


def wrong() -> tuple[nn.Module, optim.Optimizer]:
    body, head = nn.Sequential(nn.Linear(2, 6), nn.Tanh()), nn.Linear(6, 10)
    model = nn.Sequential(body, head)
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    model[1] = nn.Linear(6, 2)  # the mistake: two classes now, but the optimizer was made before
    return model, optimizer


def right() -> tuple[nn.Module, optim.Optimizer]:
    body, head = nn.Sequential(nn.Linear(2, 6), nn.Tanh()), nn.Linear(6, 10)
    model = nn.Sequential(body, head)
    model[1] = nn.Linear(6, 2)
    return model, optim.Adam(model.parameters(), lr=0.01)


def train(build) -> tuple[list[float], int, int]:
    """The loss before each step; parameters that the optimizer does not hold, and that did not move."""
    z2g.manual_seed(1)
    model, optimizer = build()
    before = [p.clone() for p in model.parameters()]
    losses = []
    for _ in range(300):
        loss = nn.functional.cross_entropy(model(x), t)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    still = sum(bool((p == old).all()) for p, old in zip(model.parameters(), before, strict=True))
    return losses, sum(id(p) not in held for p in model.parameters()), still


(bad, missing, still), (good, no, none) = train(wrong), train(right)
plaque(
    seen=course(bad, good),
    check={"parameters the optimizer lacks": (missing, no), "parameters that did not move": (still, none)},
    fix="first the model as it will be, then the optimizer; move and load into the Parameters, as .to() does",
)
assert good[-1] < bad[-1] < bad[0] * 0.9 and missing == still == 2 and no == none == 0
