#!/usr/bin/env bash
# A product of two float16 matrices by einsum stops at 2048.
#
# Guess before the run: np.einsum("ij,jk->ik", a, b) adds up as a @ b does, within rounding, and optimize= is about speed.
# Seen with numpy 2.4.6, (3, 5000) and (5000, 3) matrices of ones in float16: a @ b, np.dot, np.tensordot, and einsum with
# optimize=True give 5000; einsum as it is by default gives 2048. "i,i->" and "ij->i" give 5000, "ij->j" and
# np.sum(axis=0) 2048.
# Why: where the innermost loop runs along the sum, einsum adds in float32 and rounds once; where it runs along the
# result, it adds to the result, in float16, which has no 2049. optimize=True hands the product to tensordot.
# What follows: the same formula is right or less than half by the order of its letters. Cast to float32 first.
# Exit 0 while this is so, 1 when it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q numpy==2.4.6 2>/dev/null
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np

a, b = np.ones((3, 5000), np.float16), np.ones((5000, 3), np.float16)
found = {
    "a @ b": a @ b,
    "dot": np.dot(a, b),
    "tensordot": np.tensordot(a, b, 1),
    "einsum ij,jk->ik, optimize=True": np.einsum("ij,jk->ik", a, b, optimize=True),
    "einsum i,i->": np.einsum("i,i->", a[0], a[1]),
    "einsum ij->i": np.einsum("ij->i", a),
    "einsum ij,jk->ik": np.einsum("ij,jk->ik", a, b),
    "einsum ij->j": np.einsum("ij->j", b),
    "sum(axis=0)": b.sum(axis=0),
}
for name, result in found.items():
    print(f"{name:32} {np.unique(result)}")
short = ("einsum ij,jk->ik", "einsum ij->j", "sum(axis=0)")
as_seen = all((result == (2048 if name in short else 5000)).all() for name, result in found.items())
print("as described" if as_seen else "CHANGED: this no longer is what the header describes")
sys.exit(not as_seen)
PYTHON
