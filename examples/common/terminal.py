"""Manners of a program in a terminal: how it ends and complains, how far it is, and the last lines that it prints."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn


def behave() -> None:
    """Ctrl-C ends the program with exit code 130, `| head` without a word; what cannot be shown there becomes `?`."""
    end_on_ctrl_c()
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def end_on_ctrl_c(end: Callable[[int], Any] = sys.exit) -> None:
    """Ctrl-C ends the program, with exit code 130 and one line. (`os.write`, for who presses it while a line is being
    printed: `print` in a handler cannot enter `print`.) The second one ends it wherever it is."""

    def stop(*_: Any) -> None:
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
        os.write(2, b"\nstopped by Ctrl-C\n")
        end(130)

    signal.signal(signal.SIGINT, stop)


def stop_on_ctrl_c() -> threading.Event:
    """An event that Ctrl-C sets, so that training can end after a whole step. A second Ctrl-C ends the program."""
    stop = threading.Event()

    def note(*_: Any) -> None:
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
        if not os.environ.get("TQDM_DISABLE"):  # one process of several speaks
            os.write(2, b"\nstopping after this step; a second Ctrl-C ends at once\n")
        stop.set()

    signal.signal(signal.SIGINT, note)
    return stop


def stopped(step: int, more: str) -> NoReturn:
    """End the program after this step, as Ctrl-C had asked for."""
    print(f"stopped after step {step}; {more}", file=sys.stderr)
    sys.exit(130)


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


if Path(getattr(sys.modules["__main__"], "__file__", None) or "").resolve().parent == Path(__file__).parents[1]:
    # A script of this folder begins, and what it imports next takes a second: until `behave`, Ctrl-C ends it on the
    # spot, as an error in the middle of an import may be taken for a module that is missing
    end_on_ctrl_c(os._exit)
