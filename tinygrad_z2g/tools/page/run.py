"""What `watch` has seen of a training run, as a page with a slider over the steps."""

from __future__ import annotations

import math
from typing import Any

from .document import Page


def run_page(
    title: str, summary: str, history: dict[str, dict[str, list[tuple[int, float]]]], notes: dict[str, list[tuple]],
    remarks: list[str],
) -> Page:  # fmt: skip
    """Sizes by layer and quantity, and notes by name, each a list of (step, value); notes are numbers or texts."""
    texts = {name: values for name, values in notes.items() if isinstance(values[0][1], str)}
    numbers = {name: _plain(values) for name, values in notes.items() if name not in texts}
    layers = [
        {"name": name, "sizes": {quantity: _plain(points) for quantity, points in sizes.items()}}
        for name, sizes in history.items()
    ]
    return Page(title, "run", ["chart.js", "run.js"], {
        "title": title, "summary": summary, "layers": layers, "numbers": numbers, "texts": texts, "remarks": remarks,
    })  # fmt: skip


def _plain(points: list[tuple[int, float]]) -> list[list[Any]]:
    """Points with four digits; what is not finite as text, since JSON has no word for it."""
    return [[step, float(f"{value:.4g}") if math.isfinite(value) else str(value)] for step, value in points]
