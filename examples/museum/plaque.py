"""What the exhibits share: a training loop, and the label beside each, with the mistake and without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tinygrad_z2g as z2g


def fit(model: z2g.nn.Module, loss_of: Callable[[], z2g.Tensor], steps: int, rate: float = 0.01) -> list[float]:
    """Train by Adam; `loss_of` draws its own batch. Returns the loss before each step."""
    optimizer, losses = z2g.optim.Adam(model.parameters(), lr=rate), []
    for _ in range(steps):
        loss = loss_of()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def plaque(seen: dict[str, tuple], check: dict[str, tuple], fix: str) -> None:
    """Print what one sees and what exposes it, as {what: (with the mistake, without)}, and the fix."""
    print(f"{'':48}{'with the mistake':>18}{'without':>18}")
    for title, rows in (("seen", seen), ("check", check)):
        for i, (what, (bad, good)) in enumerate(rows.items()):
            print(f"{title if i == 0 else '':8}{what:40}{number(bad):>18}{number(good):>18}")
    print(f"{'fix':8}{fix}")


def course(bad: list[float], good: list[float]) -> dict[str, tuple]:
    """What a training run shows: its first loss and its last."""
    return {"loss at the start": (bad[0], good[0]), "loss at the end": (bad[-1], good[-1])}


def number(value: Any) -> str:
    """Four digits of a float, anything else as it is."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
