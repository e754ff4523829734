"""The command line: the flags that all examples share, checked before the work begins."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from . import terminal
from .terminal import at_least, fail

OUT = Path("out")


def arguments(description: str, steps: int, device: bool = True) -> argparse.ArgumentParser:
    """A parser with the flags that all examples share. An example adds its own and calls `parse`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--steps", type=at_least(0), default=steps, help="training steps")
    parser.add_argument("--seed", type=at_least(0), default=1, help="same seed, same device, same result")
    if device:
        parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:1")
    parser.add_argument("--out", type=Path, default=OUT, metavar="DIR", help="where files are written")
    parser.add_argument("--quick", action="store_true", help="a few steps of a small model as defaults, to see it run")
    parser.add_argument("--no-plot", action="store_true", help="draw no picture")
    return parser


def parse(parser: argparse.ArgumentParser, **quick: Any) -> argparse.Namespace:
    """The checked flags. With --quick, `quick` are the defaults. An unusable device or folder ends the program."""
    terminal.behave()
    given = [] if "ipykernel" in sys.modules else sys.argv[1:]  # in a notebook they are those of the kernel
    args = parser.parse_args(given)
    if args.quick:
        parser.set_defaults(**quick)
        args = parser.parse_args(given)
    if hasattr(args, "device"):
        from tinygrad_z2g.arrays.backend import resolve, set_device

        try:
            device = resolve(args.device)
            if device.type == "cuda":
                set_device(device)
            args.device = str(device)
        except RuntimeError as error:
            fail(str(error))
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=args.out).close()
    except OSError as error:
        fail(f"--out {args.out}: {error.strerror}; name a folder that can be written to")
    if not args.no_plot:
        try:
            import matplotlib.figure  # noqa: F401 - now, not after the work
        except ImportError:
            print("no picture: it needs matplotlib: pip install 'tinygrad_z2g[examples]'", file=sys.stderr)
            args.no_plot = True
    return args
