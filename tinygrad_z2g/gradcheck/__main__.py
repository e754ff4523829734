"""`python -m tinygrad_z2g.gradcheck`: check every differentiable operation and layer, and print a table.

float64: the gradient against central differences of the function itself, extrapolated from two steps. float32: against
the gradient in float64, which by then has been checked; the error is rounding. Exit code 1 if anything disagrees. It
only runs and reports: it knows nothing of how a gradient is measured, nor of which cases there are.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import sys
import time
from typing import Any

import numpy as np

from .. import backend
from ..nn import Module
from ..tensor import Tensor
from . import _analytic, _outputs, compare
from .cases import Case, cases

FLOAT32 = 2e-4  # rounding, grown by cancellation in the worst case below


def moved(case: Case, device: str, dtype: str) -> tuple[Any, list]:
    """The function and inputs of a case, on a device and in a dtype."""
    _, fn, inputs = case
    if isinstance(fn, Module):
        fn = copy.deepcopy(fn).to(device, dtype)
    xs = [
        x.detach().to(device, dtype if x.is_floating_point() else x.dtype).requires_grad_(x.requires_grad)
        for x in inputs
    ]
    return fn, xs


def gradients(fn: Any, xs: list[Tensor]) -> list[np.ndarray]:
    """The gradients of all inputs and parameters, with weights that depend on the shapes of the outputs alone."""
    outputs = _outputs(fn(*xs))
    weights = [np.cos(np.arange(z.numel())).reshape(z.shape) for z in outputs]
    own = list(fn.parameters()) if isinstance(fn, Module) else []
    return _analytic(outputs, weights, [x for x in [*xs, *own] if x.requires_grad])


def check(case: Case, device: str) -> dict[str, Any]:
    """One case: {"failures", "float64", "float32", "message"}, the errors being the worst relative ones."""
    report = compare(*moved(case, device, "float64"))
    double, single = (gradients(*moved(case, device, dtype)) for dtype in ("float64", "float32"))
    errors = [
        np.abs(a - b).max(initial=0) / max(1.0, np.abs(b).max(initial=0)) for a, b in zip(single, double, strict=True)
    ]
    rough = float(max(errors, default=0.0))
    message = report.message or (f"float32 differs from float64 by {rough:.2g}" if not rough <= FLOAT32 else "")
    return {"failures": bool(message), "float64": report.error, "float32": rough, "message": message}


def main() -> int:
    """Parse the arguments, check, print. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tinygrad_z2g.gradcheck", description=__doc__)
    parser.add_argument("--op", metavar="NAME", help="only this operation or layer")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--json", metavar="FILE", help="write the table to a file too")
    args = parser.parse_args()
    try:
        backend.resolve(args.device)
    except RuntimeError as error:
        parser.error(str(error))
    everything = cases()
    chosen = [case for case in everything if args.op in (None, case[0])]
    if not chosen:
        parser.error(f"no operation {args.op!r}; there are: {' '.join(sorted({case[0] for case in everything}))}")
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    start, rows = time.perf_counter(), {}
    for case in chosen:
        rows.setdefault(case[0], []).append(check(case, args.device))
    print(f"{'operation':36}{'cases':>6}{'float64':>11}{'float32':>11}   (worst relative errors, on {args.device})")
    table = []
    for name, found in rows.items():
        bad = [row["message"] for row in found if row["failures"]]
        worst = {dtype: max(row[dtype] for row in found) for dtype in ("float64", "float32")}
        verdict = "FAILED: " + bad[0] if bad else "ok"
        table.append({"op": name, "cases": len(found), **worst, "ok": not bad, "where": bad[0] if bad else ""})
        shown = f"\033[{31 if bad else 32}m{verdict}\033[0m" if colour else verdict
        print(f"{name:36}{len(found):6}{worst['float64']:11.1e}{worst['float32']:11.1e}   {shown}")
    failed = sum(not row["ok"] for row in table)
    print(f"{len(table)} operations, {len(chosen)} cases, {failed} failed, {time.perf_counter() - start:.1f} s")
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(table, file, indent=1)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
