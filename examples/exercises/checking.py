"""What the exercises share: the check of a rule, and what it says while there is none, or one that is wrong."""

from __future__ import annotations

import inspect
import sys
import traceback
from collections.abc import Callable

import tinygrad_z2g as z2g
from tinygrad_z2g.gradcheck import compare


def check(operation: Callable, *inputs: z2g.Tensor) -> None:
    """Compare the gradients of `operation` with central differences, and say how it went. Exit code 1 if it did not."""
    inputs = tuple(x.double().requires_grad_() if x.is_floating_point() else x for x in inputs)
    try:
        report = compare(operation, inputs)
        walk_twice(operation, inputs)
    except NotImplementedError as error:
        sys.exit(f"Your turn: {error}.")
    except Exception as error:  # anything may go wrong in a rule that is being written
        sys.exit(f"Not yet: {place(operation, error)}{error}")
    if report.failures:
        sys.exit(f"Not yet: {told(operation, report.message)}")
    print(f"Right: {report.derivatives} derivatives, the worst of them {report.error:.0e} off. On to the next one.")


def walk_twice(operation: Callable, inputs: tuple) -> None:
    """Two walks over one graph: where the first has changed what was saved, the second says so."""
    z = operation(*inputs)
    for more in (True, False):
        z.backward(z2g.ones_like(z), retain_graph=more)


def place(operation: Callable, error: Exception) -> str:
    """The line of the exercise where it went wrong, if it was there."""
    rule = getattr(getattr(operation, "__self__", None), "backward", None)
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if rule and frame.filename == rule.__code__.co_filename]
    return f"line {lines[-1]}: " if lines else ""


def told(operation: Callable, message: str) -> str:
    """What gradcheck says, in the words of the exercise: its name, those of its inputs, and whose number is whose."""
    kind = getattr(operation, "__self__", None)
    if kind is None:
        return message
    for number, name in enumerate([*inspect.signature(kind.forward).parameters][1:]):
        message = message.replace(f"input {number} ", f"{name} ")
    message = message.replace("apply: ", f"{kind.__name__}: ").replace("analytic ", "yours ")
    return message.partition(" (outputs ")[0]
