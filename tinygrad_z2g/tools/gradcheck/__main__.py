"""`python -m tinygrad_z2g.gradcheck`: check every differentiable operation and layer, and print a table.

float64: the gradient against central differences of the function itself, extrapolated from two steps, which any
function allows. Complex step: the same against a derivative that is right to the last digits (`complex_step.py`), for
operations that are written analytically, on the CPU. float32, float16: against the gradient in float64, which by then
has been checked; the error is rounding. "Where" is the element with the worst error against differences. `--order 2`
asks the same of second derivatives: the gradient is then the function (without the complex step). Exit code 1 if
anything disagrees, 2 for wrong arguments or a file that cannot be written. It only runs and reports: it knows nothing
of how a gradient is measured.
"""

from __future__ import annotations

import argparse
import copy
import difflib
import json
import os
import sys
import time
from typing import Any

import numpy as np

from ...arrays import backend
from ...nn import Module
from ...tensor import Tensor
from ..console import report
from . import _analytic, _checked, _outputs, compare
from .cases import Case, cases
from .complex_step import NOT_ANALYTIC, complex_step
from .further import NOT_HALF
from .twice import gradient_of

ROUNDING = {"float32": 2e-4, "float16": 1e-2}  # grown by cancellation in the worst case below
LAST_DIGITS = 1e-13  # of a complex step, which is accurate to 1e-15
ERRORS = ("float64", "complex step", *ROUNDING)


def moved(case: Case, device: str, dtype: str, order: int) -> tuple[Any, list]:
    """The function and inputs of a case, on a device and in a dtype; for order 2, its gradient and the inputs of it."""
    _, fn, inputs = case
    if isinstance(fn, Module):
        fn = copy.deepcopy(fn).to(device, dtype)
    xs = [
        x.detach().to(device, dtype if x.is_floating_point() else x.dtype).requires_grad_(x.requires_grad)
        for x in inputs
    ]
    return (fn, xs) if order == 1 else gradient_of(fn, xs)


def gradients(fn: Any, xs: list[Tensor]) -> list[np.ndarray]:
    """The gradients of all inputs and parameters, with weights that depend on the shapes of the outputs alone."""
    outputs = _outputs(fn(*xs))
    weights = [np.cos(np.arange(z.numel())).reshape(z.shape) for z in outputs]
    return _analytic(outputs, weights, [x for _, x in _checked(fn, xs)], getattr(fn, "constant", False))


def check(case: Case, device: str, order: int = 1) -> dict[str, Any]:
    """One case: the worst relative error of each kind (None if not measured), where, and what disagrees or ""."""
    report = compare(*moved(case, device, "float64", order))
    row: dict[str, Any] = {"float64": report.error, "complex step": None}
    row |= {"where": report.where, "message": report.message}
    if device == "cpu" and order == 1 and case[0] not in NOT_ANALYTIC:
        row["complex step"], where = complex_step(*moved(case, device, "float64", order))
        if not row["complex step"] <= LAST_DIGITS:
            row["message"] = row["message"] or f"{where} differs from the complex step by {row['complex step']:.2g}"
    if order == 2:
        fn, xs = moved(case, device, "float64", order)
        row["message"] = row["message"] or fn.differs(xs)
    double = gradients(*moved(case, device, "float64", order))
    for dtype, bound in ROUNDING.items():
        if dtype == "float16" and case[0] in NOT_HALF:
            row[dtype] = None
            continue
        pairs = zip(gradients(*moved(case, device, dtype, order)), double, strict=True)
        errors = [np.abs(a - b).max(initial=0) / max(1.0, np.abs(b).max(initial=0)) for a, b in pairs]
        row[dtype] = float(max(errors, default=0.0))
        if not row[dtype] <= bound:
            row["message"] = row["message"] or f"{dtype} differs from float64 by {row[dtype]:.2g}"
    return row


def tried(case: Case, device: str, order: int = 1) -> dict[str, Any]:
    """As `check`; an operation that raises has failed."""
    try:
        return check(case, device, order)
    except Exception as error:
        return {**dict.fromkeys(ERRORS), "where": "", "message": f"{type(error).__name__}: {error}"}


def as_text(error: float | None) -> str:
    """An error in a column."""
    return f"{'-' if error is None else f'{error:.1e}':>14}"


def main() -> int:
    """Parse the arguments, check, print. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tinygrad_z2g.gradcheck", description=__doc__)
    parser.add_argument("--op", metavar="NAME", action="append", help="only this operation or layer (may be repeated)")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--order", type=int, choices=(1, 2), default=1, help="2: second derivatives")
    parser.add_argument("--json", metavar="FILE", help="write the table to a file too")
    args = parser.parse_args()
    try:
        backend.resolve(args.device)
    except RuntimeError as error:
        parser.error(str(error))
    everything = cases()
    names = {case[0] for case in everything}
    for name in args.op or ():
        if name not in names:
            close = difflib.get_close_matches(name, sorted(names))
            hint = f"; did you mean {', '.join(map(repr, close))}?" if close else "."
            parser.error(f"no operation {name!r}{hint} Without --op all are checked, and listed")
    chosen = [case for case in everything if not args.op or case[0] in args.op]
    file = None
    if args.json:
        try:
            file = open(args.json, "w", encoding="utf-8")  # noqa: SIM115 - now, before the work; written after it
        except OSError as error:
            parser.error(f"--json: {error}")
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    start = time.perf_counter()
    rows: dict[str, list[dict[str, Any]]] = {}
    for case in chosen:
        rows.setdefault(case[0], []).append(tried(case, args.device, args.order))
    lines = [f"{'operation':36}{'cases':>6}{''.join(f'{e:>14}' for e in ERRORS)}   where (worst errors, {args.device})"]
    table = []
    for name, found in rows.items():
        bad = [row["message"] for row in found if row["message"]]
        where = max(found, key=lambda row: row["float64"] or 0)["where"]
        worst = {e: max((row[e] for row in found if row[e] is not None), default=None) for e in ERRORS}
        table.append(
            {"op": name, "cases": len(found), **worst, "ok": not bad, "where": where, "message": "".join(bad[:1])}
        )
        verdict = f"FAILED: {bad[0]}" if bad else "ok"
        shown = f"\033[{31 if bad else 32}m{verdict}\033[0m" if colour else verdict
        lines.append(f"{name:36}{len(found):6}{''.join(map(as_text, worst.values()))}   {where:20} {shown}")
    failed = sum(not row["ok"] for row in table)
    lines.append(f"{len(table)} operations, {len(chosen)} cases, {failed} failed, {time.perf_counter() - start:.1f} s")
    report("\n".join(lines))
    if file:
        try:
            with file:
                json.dump(table, file, indent=1)
        except OSError as error:  # the disk is full
            print(f"gradcheck: --json: {error}", file=sys.stderr)
            return 1 if failed else 2
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
