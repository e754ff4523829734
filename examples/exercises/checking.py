"""What the exercises share: the check of a rule, and what it says while there is none."""

from __future__ import annotations

import sys
from collections.abc import Callable

from tinygrad_z2g.gradcheck import compare

import tinygrad_z2g as z2g


def check(operation: Callable, *inputs: z2g.Tensor) -> None:
    """Compare the gradients of `operation` with central differences, and say how it went. Exit code 1 if it did not."""
    inputs = tuple(x.double().requires_grad_() if x.is_floating_point() else x for x in inputs)
    try:
        report = compare(operation, inputs)
    except NotImplementedError as error:
        sys.exit(f"Your turn: {error}.")
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        sys.exit(f"Not yet: {error}")
    if report.failures:
        sys.exit(f"Not yet: {report.message}")
    print(f"Right: {report.derivatives} derivatives, the worst of them {report.error:.0e} off. On to the next one.")
