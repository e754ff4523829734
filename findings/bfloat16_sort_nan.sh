#!/usr/bin/env bash
# One NaN among bfloat16 numbers, and np.sort leaves them as they are.
#
# Guess before the run: NumPy sorts a NaN to the end, in every floating type, ml_dtypes' bfloat16 and float8 among them.
# Seen with ml_dtypes 0.6.0 and numpy 2.4.6: np.sort([3, nan, 1, 2]) is [3, nan, 1, 2], argsort [0, 1, 2, 3], and
# np.searchsorted(np.sort(x), 2) is 3, which is no place of 2; the same in float8_e5m2. np.float16: [1, 2, 3, nan].
# Without the NaN all three sort. np.unique of [2, nan, 1, 2] in bfloat16 keeps both 2s.
# Why: NumPy sorts a foreign type by the comparison that it brings, which says that a NaN equals everything; to the right
# and to the left of it nothing is out of order.
# What follows: quantiles, ranks and top-k of bfloat16 weights are silently wrong after one NaN, while max and argmax
# show it. Sort as float32, which is exact.
# Exit 0 while this is so, 1 when it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q numpy==2.4.6 ml_dtypes==0.6.0 2>/dev/null
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import warnings

import ml_dtypes
import numpy as np

warnings.simplefilter("ignore")  # comparisons with a NaN warn
found = {}
for kind in (np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e5m2):
    x, name = np.array([3, np.nan, 1, 2]).astype(kind), np.dtype(kind).name
    order = np.sort(x)
    found[name] = order.astype(np.float32).tolist()
    found[name, "argsort"] = np.argsort(x).tolist()
    found[name, "place"] = int(np.searchsorted(order, np.array(2).astype(kind)))
    found[name, "clean"] = np.sort(x[[0, 2, 3]]).astype(np.float32).tolist()
    found[name, "unique"] = len(np.unique(np.array([2, np.nan, 1, 2]).astype(kind)))
    print(f"{name:12} sort {found[name]}, argsort {found[name, 'argsort']}, place of 2 {found[name, 'place']}, "
          f"without NaN {found[name, 'clean']}, unique of [2, nan, 1, 2] {found[name, 'unique']}")  # fmt: skip
as_seen = (
    found["float16", "argsort"] == [2, 3, 0, 1]
    and all(found[name, "argsort"] == [0, 1, 2, 3] for name in ("bfloat16", "float8_e5m2"))
    and all(found[name][0] == 3 and found[name, "place"] == 3 for name in ("bfloat16", "float8_e5m2"))
    and all(found[name, "clean"] == [1, 2, 3] for name in ("float16", "bfloat16", "float8_e5m2"))
    and (found["float16", "unique"], found["bfloat16", "unique"]) == (3, 4)
)
print("as described" if as_seen else "CHANGED: this no longer is what the header describes")
sys.exit(not as_seen)
PYTHON
