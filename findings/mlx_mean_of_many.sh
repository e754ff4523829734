#!/usr/bin/env bash
# The mean of 33 million times 0.1, by MLX on a CPU, is 0.0625.
#
# Guess before the run: a library for arrays adds float32 in pairs, in blocks or by many lanes, so that a mean of 2^25
# equal numbers is right to about 1e-5.
# Seen with mlx 0.32.4 (mlx-cpu, Linux) on 2^25 float32 numbers: the mean of 0.1 is 0.0625, the sum of ones is 16,777,216,
# half; the mean of 70,000 float16 ones is inf. NumPy 2.4.6: 0.1, 33,554,432 and 1. Numba 0.68.1's x.sum() and x.mean()
# of the same array, compiled, are as MLX's: 16,777,216 and 0.0625.
# Why: one number holds the sum, of the type of the array. Once it is 2^21, adding 0.1 does not change it: the next
# float32 is 0.25 away. At 2^24 adding 1 does not.
# What follows: a loss averaged over all pixels or logits of a large batch comes out too small, and so does a norm that
# clips. Average over the last axis first, then over the rest.
# Exit 0 while this is so, 1 when it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --no-compile 'mlx[cpu]==0.32.4' numpy==2.4.6 numba==0.68.1 2>/dev/null
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import mlx.core as mx
import numba
import numpy as np

n = 2**25
ones, tenths, half = np.ones(n, np.float32), np.full(n, 0.1, np.float32), np.ones(70_000, np.float16)
total, mean = numba.njit(lambda x: x.sum()), numba.njit(lambda x: x.mean())
with mx.stream(mx.cpu):
    found = {
        "NumPy": (ones.sum(), tenths.mean(), half.mean()),
        "Numba": (total(ones), mean(tenths), None),
        "MLX": (mx.array(ones).sum().item(), mx.array(tenths).mean().item(), mx.array(half).mean().item()),
        "MLX, by rows": (
            mx.array(ones).reshape(-1, 4096).sum(-1).sum().item(),
            mx.array(tenths).reshape(-1, 4096).mean(-1).mean().item(),
            None,
        ),
    }
for name, (ones_sum, tenths_mean, half_mean) in found.items():
    print(f"{name:12} sum of ones {ones_sum:,.0f}, mean of 0.1 {tenths_mean:.6f}, mean of float16 ones {half_mean}")
as_seen = (
    all(found[name][0] == n and abs(found[name][1] - 0.1) < 1e-4 for name in ("NumPy", "MLX, by rows"))
    and all(found[name][0] == 2**24 and abs(found[name][1] - 0.0625) < 1e-6 for name in ("Numba", "MLX"))
    and found["NumPy"][2] == 1
    and np.isinf(found["MLX"][2])
)
print("as described" if as_seen else "CHANGED: this no longer is what the header describes")
sys.exit(not as_seen)
PYTHON
