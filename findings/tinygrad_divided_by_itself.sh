#!/usr/bin/env bash
# In tinygrad nothing divided by nothing is 1, infinity minus infinity is 0, and 0 times NaN is 0.
#
# Guess before the run: a compiler of float32 formulas keeps to IEEE 754 unless told otherwise, at least for NaN and
# infinity: x / x at 0 is NaN, x - x at inf is NaN, x * 0 at NaN is NaN.
# Seen with tinygrad 0.13.0 (device PYTHON) of x = [0, 1, inf, nan], realized before: x / x is [1, 1, 1, 1], x - x and x
# * 0 [0, 0, 0, 0], (x * x) / x [0, 1, inf, nan]. The same values in two buffers: x / y is [nan, 1, nan, nan]. (0.25 +
# 2^23 * 1.5) - 2^23 * 1.5, which rounds to a whole number, is 0.25, and (1e30 * 1e30) * 1e-30 is 1e30. PyTensor 2.38.2
# does the first three, too, unless told optimizer=None.
# Why: both simplify the graph as if its numbers were real ones. Two tensors are the same to it only if they are one
# node.
# What follows: `loss * 0` and `x - x` hide a NaN that the same formula with a copy of x shows, a row of zeros that is
# divided by itself looks healthy, and rounding by a large number does nothing.
# Exit 0 while this is so, 1 when it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --no-compile tinygrad==0.13.0 pytensor==2.38.2 numpy==2.4.6 2>/dev/null
cd "$folder"
export DEV=PYTHON CACHEDB="$folder/cache.db" PYTENSOR_FLAGS="base_compiledir=$folder/pytensor,cxx="
"$folder/venv/bin/python" - <<'PYTHON'
import math
import sys

import numpy as np
import pytensor
from tinygrad import Tensor

numbers = [0.0, 1.0, math.inf, math.nan]
x, y = Tensor(numbers).realize(), Tensor(numbers).realize()
found = {
    "x / x": x / x,
    "x - x": x - x,
    "x * 0": x * 0,
    "x * x / x": (x * x) / x,
    "x / y": x / y,
    "x - y": x - y,
    "0.25 + c - c": (Tensor([0.25]).realize() + 2**23 * 1.5) - 2**23 * 1.5,
    "1e30 * 1e30 * 1e-30": (Tensor([1e30]).realize() * 1e30) * 1e-30,
}
found = {f"tinygrad, {name}": values.tolist() for name, values in found.items()}
v = pytensor.tensor.vector("v", dtype="float32")
for name, formula in (("v / v", v / v), ("v - v", v - v), ("v * 0", v * 0)):
    for how in ("fast_run", None):
        mode = pytensor.compile.mode.Mode(linker="py", optimizer=how)
        with np.errstate(all="ignore"):
            found[f"pytensor, {name}, optimizer {how}"] = pytensor.function([v], formula, mode=mode)(
                np.array(numbers, np.float32)
            ).tolist()
for name, values in found.items():
    print(f"{name:36} {values}")


def are(name: str, wanted: list[float]) -> bool:
    return np.allclose(found[name], wanted, rtol=1e-6, atol=0, equal_nan=True)


nan = math.nan
as_seen = (
    are("tinygrad, x / x", [1] * 4)
    and are("tinygrad, x - x", [0] * 4)
    and are("tinygrad, x * 0", [0] * 4)
    and are("tinygrad, x * x / x", numbers)
    and are("tinygrad, x / y", [nan, 1, nan, nan])
    and are("tinygrad, x - y", [0, 0, nan, nan])
    and are("tinygrad, 0.25 + c - c", [0.25])
    and are("tinygrad, 1e30 * 1e30 * 1e-30", [1e30])
    and are("pytensor, v / v, optimizer fast_run", [1] * 4)
    and all(are(f"pytensor, {name}, optimizer fast_run", [0] * 4) for name in ("v - v", "v * 0"))
    and are("pytensor, v / v, optimizer None", [nan, 1, nan, nan])
)
print("as described" if as_seen else "CHANGED: this no longer is what the header describes")
sys.exit(not as_seen)
PYTHON
