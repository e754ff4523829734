"""From axes to a file."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec

P = ParamSpec("P")
Draw = Callable[Concatenate[Any, P], None]  # axes, or an array of rows x columns of them, and what is to be seen
Show = Callable[Concatenate[argparse.Namespace, P], None]  # the flags, and the same


def picture(
    name: str, columns: int = 1, rows: int = 1, width: float = 7, height: float = 4
) -> Callable[[Draw[P]], Show[P]]:
    """Make of a function that draws on axes one that takes the flags in their place and saves --out/name.png."""

    def made(draw: Draw[P]) -> Show[P]:
        @functools.wraps(draw)
        def show(args: argparse.Namespace, *seen: P.args, **named: P.kwargs) -> None:
            if args.no_plot:
                return
            from matplotlib.figure import Figure  # without pyplot: no window, no display needed

            figure = Figure(figsize=(width, height), layout="constrained")
            draw(figure.subplots(rows, columns), *seen, **named)
            for axis in figure.axes:
                axis.spines[["top", "right"]].set_visible(False)
            path = args.out / f"{name}.png"
            figure.savefig(path, dpi=80)
            print(f"picture: {path}")

        return show

    return made
