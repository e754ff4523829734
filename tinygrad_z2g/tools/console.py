"""How text reaches a terminal that lacks some characters, and a reader who has seen enough."""

from __future__ import annotations

import os
import sys


def say(text: object) -> None:
    """Print `text`; what standard output cannot encode (∂ on a Windows console) becomes `?` instead of an error."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(str(text).encode(encoding, "replace").decode(encoding))


def report(text: object) -> None:
    """`say`, as the output of a command: `| head` is no error."""
    try:
        say(text)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
