#!/usr/bin/env bash
# JAX's top_k puts one NaN first and another NaN last.
#
# Guess before the run: jax.lax.top_k ranks every NaN above all numbers, as jnp.sort and jnp.argmax of the same array do,
# and takes the first of two zeros.
# Seen with jax 0.10.2 on the CPU: a NaN without sign bit comes first, one with sign bit comes after everything, -inf too;
# top_k([-0., 0.], 1) gives index 1. jnp.argmax and jnp.sort take both NaNs for the largest, and both zeros for equal.
# Why: top_k orders the bits, as IEEE 754's totalOrder does. An x86 processor's own NaN (inf - inf, 0 / 0, sqrt(-1)) has
# the sign bit, jnp.nan has not.
# What follows: logits that became NaN by arithmetic are not among the top k, so nothing downstream shows them, while a
# test that plants jnp.nan sees it; k = 1 is not argmax. Ask isnan before.
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

found = {}
for name, nan in (("nan", np.float32(np.nan)), ("nan with sign bit", np.copysign(np.float32(np.nan), np.float32(-1)))):
    x = jnp.asarray(np.array([1.0, nan, 3.0, -np.inf], np.float32))
    found[name] = jax.lax.top_k(x, 4)[1].tolist()
    largest, order = int(jnp.argmax(x)), jnp.argsort(x).tolist()
    print(f"[1, {name}, 3, -inf]: top_k {found[name]}, argmax {largest}, argsort {order}")
    found[name, "argmax"], found[name, "last"] = largest, order[-1]
x = jnp.array([1.0, jnp.inf, 3.0]) - jnp.array([0.0, jnp.inf, 0.0])
print(f"inf - inf on this machine: {x}, sign bit {bool(jnp.signbit(x)[1])}, top_k {jax.lax.top_k(x, 3)[1]}")
zeros = jnp.array([-0.0, 0.0])
found["zeros"] = (int(jax.lax.top_k(zeros, 1)[1][0]), int(jnp.argmax(zeros)))
print(f"[-0, 0]: top_k's first is {found['zeros'][0]}, argmax {found['zeros'][1]}")
as_seen = (
    found["nan"] == [1, 2, 0, 3]
    and found["nan with sign bit"] == [2, 0, 3, 1]
    and all(found[name, what] == 1 for name in ("nan", "nan with sign bit") for what in ("argmax", "last"))
    and found["zeros"] == (1, 0)
)
print("as described" if as_seen else "CHANGED: this no longer is what the header describes")
sys.exit(not as_seen)
PYTHON
