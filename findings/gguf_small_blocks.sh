#!/usr/bin/env bash
# Blocks of 32 small weights: eight bits keep less than four.
#
# Guess before the run: of GGUF's block formats Q8_0 is at least as accurate as Q4_0 for every input, and relative errors
# do not depend on the size of the weights, since each block has a scale of its own.
# Seen with gguf 0.19.0 and numpy 2.4.6, worst error of 64 blocks, of the largest weight in the block: around 1 Q8_0 0.4 %
# and Q4_0 12 %, as expected; around 1e-5 Q8_0 20 % and Q4_0 12 %; around 1e-6 Q8_0 gives zeros throughout, Q4_0 20 %.
# Why: the scale is a float16, whose smallest number is 6e-8. Q8_0 stores max / 127, Q4_0 only max / 8, sixteen times more.
# What follows: the factors of a LoRA, which start near 0, or a delta between two models, must not be stored as Q8_0.
# Exit 0 while this is so, 1 when it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q gguf==0.19.0 numpy==2.4.6 2>/dev/null
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
from gguf import GGMLQuantizationType, quants

rng = np.random.default_rng(0)
errors = {}
for size in (1.0, 1e-5, 1e-6):
    w = (rng.normal(size=(64, 32)) * size).astype(np.float32)
    for name in ("Q8_0", "Q4_0"):
        kind = GGMLQuantizationType[name]
        back = quants.dequantize(quants.quantize(w, kind), kind)
        worst = (np.abs(back - w).max(1) / np.abs(w).max(1)).max()
        errors[name, size] = worst
        print(f"weights around {size:g}, {name}: worst error {worst:.1%} of the largest weight, "
              f"{(back == 0).mean():.0%} zeros")  # fmt: skip
as_seen = (
    errors["Q8_0", 1.0] < errors["Q4_0", 1.0]
    and errors["Q8_0", 1e-5] > errors["Q4_0", 1e-5]
    and errors["Q8_0", 1e-6] == 1
    and errors["Q4_0", 1e-6] < 0.3
)
print("as described" if as_seen else "CHANGED: this no longer is what the header describes")
sys.exit(not as_seen)
PYTHON
