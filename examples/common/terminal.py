"""Manners of a program in a terminal: how it ends and complains, how far it is, and the last lines that it prints."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
from collections.abc import Iterator
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


class Lines:
    """What a tqdm bar does, for a log file: a line for each twentieth of the steps."""

    def __init__(self, steps: int, start: int = 0):
        self.n, self.total = start, steps
        self.values: dict[str, Any] = {}

    def __iter__(self) -> Iterator[int]:
        for step in range(self.n + 1, self.total + 1):
            yield step
            self.update()

    def update(self, n: int = 1) -> None:
        """n more steps are done."""
        before, self.n = self.n, self.n + n
        if 20 * before // self.total < 20 * self.n // self.total and not os.environ.get("TQDM_DISABLE"):
            told = "".join(f"  {name}={value}" for name, value in self.values.items())
            print(f"{self.n}/{self.total}{told}", file=sys.stderr, flush=True)

    def set_postfix(self, **values: Any) -> None:
        """What the next lines end with."""
        self.values = values

    def write(self, line: str) -> None:
        """A line of the program's own."""
        print(line, flush=True)

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def progress(steps: int, start: int = 0) -> Any:
    """A tqdm bar over the step numbers start + 1 .. steps; lines, if what it would be drawn on is no terminal."""
    if not sys.stderr.isatty():
        return Lines(steps, start)
    try:
        from tqdm import tqdm
    except ImportError:
        fail("the progress bar needs tqdm: pip install 'tinygrad_z2g[examples]'")
    return tqdm(range(start + 1, steps + 1), initial=start, total=steps, unit="step", dynamic_ncols=True)


def claim(holds: bool, statement: str) -> None:
    """What the step teaches, checked on the numbers of this very run; a claim that does not hold ends it with 1."""
    if not holds:
        fail(f"the claim does not hold in this run: {statement}", code=1)
    print(f"claim: {statement}")


def result(**values: Any) -> None:
    """The last line: `result: key=value ...`, for people and for tests."""
    print("result: " + " ".join(f"{key}={value}" for key, value in values.items()))


def at_least(low: int) -> Any:
    """A type for argparse: an integer >= low."""

    def integer(text: str) -> int:
        value = int(text)
        if value < low:
            raise argparse.ArgumentTypeError(f"got {value}, expected at least {low}")
        return value

    return integer
