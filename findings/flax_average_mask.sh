#!/usr/bin/env bash
# Flax's average of masked numbers lies beyond the largest of them, and after 2^31 numbers it is negative.
#
# Guess before the run: nnx.metrics.Average with a mask of shape (B, 1) over values of shape (B, T), "broadcastable" as
# its documentation asks, is the mean of the values that it keeps; and the mean of ones is 1, however many there were.
# Seen with flax 0.12.8 and jax 0.10.2: of [[1, 2, 3], [4, 5, 6]] the mask [[1], [0]] keeps 1, 2 and 3, and the average
# is 6; with [[1, 1, 1], [0, 0, 0]] it is 2. nnx.metrics.Accuracy with such a mask is 3, 300 %. Eight times 2^28 ones
# average to -1.
# Why: the sum is that of values * mask, which broadcasts, the count is mask.sum(), which does not; and the count is an
# int32. (https://github.com/google/flax/pull/5588 would mend the first.)
# What follows: a loss per token that is masked by row is T times too large, by the length of the batch at hand.
# Broadcast the mask first, and reset the metric before two billion tokens.
# Exit 0 while this is so, 1 when it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --no-compile jax==0.10.2 jaxlib==0.10.2 flax==0.12.8 2>/dev/null
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import sys

import jax.numpy as jnp
from flax import nnx

values = jnp.array([[1.0, 2, 3], [4, 5, 6]])
rows, full = jnp.array([[True], [False]]), jnp.array([[True] * 3, [False] * 3])
found = {}
for name, mask in (("(2, 1)", rows), ("(2, 3)", full), ("(2, 1), broadcast", jnp.broadcast_to(rows, values.shape))):
    average, accuracy = nnx.metrics.Average(), nnx.metrics.Accuracy()
    average.update(values=values, mask=mask)
    accuracy.update(logits=jnp.eye(4)[jnp.zeros((2, 3), int)], labels=jnp.zeros((2, 3), jnp.int32), mask=mask)
    found[name] = (float(average.compute()), float(accuracy.compute()))
    print(f"mask of shape {name:18} average {found[name][0]:g}, accuracy {found[name][1]:.0%}")
ones, many = jnp.ones(2**28, jnp.int8), nnx.metrics.Average()
for i in range(8):
    many.update(values=ones)
    found[i] = float(many.compute())
    if i > 5:
        print(f"average of {i + 1} · 2^28 ones: {found[i]:g}")
as_seen = (
    found["(2, 1)"] == (6, 3)
    and found["(2, 3)"] == found["(2, 1), broadcast"] == (2, 1)
    and (found[6], found[7]) == (1, -1)
)  # fmt: skip
print("as described" if as_seen else "CHANGED: this no longer is what the header describes")
sys.exit(not as_seen)
PYTHON
