"""The label beside an exhibit: what one sees, with the mistake and without, what exposes it, and the fix."""

from __future__ import annotations

from typing import Any


def plaque(seen: dict[str, tuple], check: dict[str, tuple], fix: str) -> None:
    """Print the two tables, {what: (with the mistake, without)}, and the fix."""
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
