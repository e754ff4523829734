"""Manners of a program in a terminal, which no lesson is about either: how it ends, what it takes, how it complains."""

from __future__ import annotations

import argparse
import io
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn


def behave() -> None:
    """Ctrl-C ends the program with exit code 130, `| head` without a word; what cannot be shown there becomes `?`."""

    def stop(*_: Any) -> None:
        print("\nstopped by Ctrl-C", file=sys.stderr)
        sys.exit(130)

    signal.signal(signal.SIGINT, stop)
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def fail(message: str, code: int = 2) -> NoReturn:
    """End the program with a one-line error."""
    print(f"{Path(sys.argv[0]).name}: error: {message}", file=sys.stderr)
    sys.exit(code)


def at_least(low: int) -> Any:
    """A type for argparse: an integer >= low."""

    def integer(text: str) -> int:
        value = int(text)
        if value < low:
            raise argparse.ArgumentTypeError(f"got {value}, expected at least {low}")
        return value

    return integer
