#!/usr/bin/env bash
# A token drawn from bfloat16 logits: of 50,000 equal ones only the first thousand are ever drawn.
#
# Guess before the run: jax.random.categorical draws equal logits equally often, whatever their type; bfloat16 only
# rounds the logits, which changes nothing where all are 0.
# Seen with jax 0.10.2 on the CPU, 1,000 draws each: of 50,000 equal float32 logits the first tenth gets a tenth of the
# draws; of float16 more than 99 %, of bfloat16 all of them, none beyond index 1,000. Of 1,000 bfloat16 logits the first
# tenth gets more than half. With mode="high" float16 is right, and the first tenth in bfloat16 still gets a quarter.
# jax.random.bernoulli with p = 0.001 in bfloat16 says True eight times as often as it should.
# Why: the noise is drawn in the logits' type. jax.random.uniform in bfloat16 has 128 values, so the noise has, too; of
# 50,000 draws hundreds have the largest, and argmax takes the first of them.
# What follows: a model in bfloat16 samples its vocabulary by place. Cast the logits to float32 before drawing. The
# documentation speaks of events rarer than 1e-7 in float32; see https://github.com/jax-ml/jax/issues/30879, too.
# Exit 0 while this is so, 1 when it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --no-compile jax==0.10.2 jaxlib==0.10.2 2>/dev/null
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import sys

import jax
import jax.numpy as jnp
import numpy as np

keys = jax.random.split(jax.random.key(0), (50, 20))
first, largest = {}, {}
for kind in ("float32", "float16", "bfloat16"):
    for n, mode in ((1_000, "low"), (50_000, "low"), (50_000, "high")):
        logits = jnp.zeros(n, kind)
        draw = jax.vmap(lambda key, logits=logits, mode=mode: jax.random.categorical(key, logits, mode=mode))
        drawn = np.asarray(jax.lax.map(draw, keys)).ravel()
        first[kind, n, mode], largest[kind, n, mode] = float((drawn < n // 10).mean()), int(drawn.max())
        print(f"{n:6,} equal {kind:8} logits, mode {mode:4}: the first tenth gets {first[kind, n, mode]:6.1%}, "
              f"the largest index is {largest[kind, n, mode]:,}")  # fmt: skip
rate = {}
for kind in ("float32", "bfloat16"):
    rate[kind] = float(jax.random.bernoulli(keys[0, 0], jnp.array(0.001, kind), (10**6,)).mean())
print("bernoulli(0.001):", rate)
as_seen = (
    all(abs(first["float32", n, mode] - 0.1) < 0.04 for n, mode in ((1_000, "low"), (50_000, "low"), (50_000, "high")))
    and first["float16", 50_000, "low"] > 0.98
    and abs(first["float16", 50_000, "high"] - 0.1) < 0.04
    and first["bfloat16", 1_000, "low"] > 0.4
    and largest["bfloat16", 50_000, "low"] < 2_000
    and 0.2 < first["bfloat16", 50_000, "high"] < 0.4
    and abs(rate["float32"] - 0.001) < 3e-4
    and abs(rate["bfloat16"] - 1 / 128) < 1e-3
)
print("as described" if as_seen else "CHANGED: this no longer is what the header describes")
sys.exit(not as_seen)
PYTHON
