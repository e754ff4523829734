#!/usr/bin/env bash
# jax.jit moves the step at which a learning rate decays, and makes infinities finite.
#
# Guess before the run: jax.jit fuses and may change last digits; a quotient of two exact float32 numbers that is a
# whole number stays one, and what overflows without jit overflows with it.
# Seen with jax 0.10.2 and optax 0.2.8 on the CPU: floor(41 / 41) is 1 without jit and 0 with it, so optax's
# exponential_decay(1.0, 41, 0.5, staircase=True) halves at step 41 without jit, at 42 with it: so it is for 271 of the
# lengths up to 2,000 (47, 55, 61, 82, ...), for none of 50, 100, 500, 1000. log(exp(1000)) is inf without, 1000 with
# jit; exp(100) * exp(-100) NaN and 1; sqrt(1e30 * 1e30) inf and 1e30; (1.25 + 12582912) - 12582912, which rounds to a
# whole number, 1 and 1.25.
# Why: XLA's algebraic simplifier turns A / constant into A * (1 / constant), log(exp(A)) into A, exp(A) exp(B) into
# exp(A + B), sqrt(A A) into |A|, and adds constants first.
# What follows: a test without jit does not test the step that is trained; compensated sums and rounding by a large
# number are no more. Divide integers by //, and hand over a divisor as an argument if the quotient's floor matters.
# Exit 0 while this is so, 1 when it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --no-compile jax==0.10.2 jaxlib==0.10.2 optax==0.2.8 2>/dev/null
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import math
import sys

import jax
import jax.numpy as jnp
import optax

decay = optax.exponential_decay(1.0, 41, 0.5, staircase=True)
formulas = {  # without jit, with it
    "rate at step 40": (decay, (40,), (1, 1)),
    "rate at step 41": (decay, (41,), (0.5, 1)),
    "rate at step 42": (decay, (42,), (0.5, 0.5)),
    "floor(41 / 41)": (lambda x: jnp.floor(x / 41), (41.0,), (1, 0)),
    "41 // 41 of integers": (lambda x: x // 41, (41,), (1, 1)),
    "floor(41 / y), y = 41": (lambda x, y: jnp.floor(x / y), (41.0, 41.0), (1, 1)),
    "log(exp(1000))": (lambda x: jnp.log(jnp.exp(x)), (1000.0,), (math.inf, 1000)),
    "exp(100) exp(-100)": (lambda x, y: jnp.exp(x) * jnp.exp(y), (100.0, -100.0), (None, 1)),  # None: NaN
    "sqrt(1e30 · 1e30)": (lambda x: jnp.sqrt(x * x), (1e30,), (math.inf, 1e30)),
    "(1.25 + 1.5 · 2^23) - 1.5 · 2^23": (lambda x: (x + 12582912.0) - 12582912.0, (1.25,), (1, 1.25)),
}
as_seen = True
for name, (formula, numbers, seen) in formulas.items():
    arrays = [jnp.asarray(v) for v in numbers]
    found = [float(formula(*arrays)), float(jax.jit(formula)(*arrays))]
    print(f"{name:33} without jit {found[0]:<8.6g} with jit {found[1]:.6g}")
    as_seen &= all(v != v if s is None else math.isclose(v, s, rel_tol=1e-6) for v, s in zip(found, seen, strict=True))
print("as described" if as_seen else "CHANGED: this no longer is what the header describes")
sys.exit(not as_seen)
PYTHON
