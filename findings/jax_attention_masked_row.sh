#!/usr/bin/env bash
# A query that may look nowhere: JAX lets it look everywhere.
#
# Guess before the run: jax.nn.dot_product_attention with a boolean mask gives NaN or 0 for a row without a True, and the
# same mask as a bias of 0 and -inf gives the same.
# Seen with jax 0.10.2 on the CPU: the row is the mean of all values, also of those that every row masks; so it is with
# key_value_seq_lengths=[0], where the values past the length are padding. With the bias of -inf it is NaN.
# jax.nn.softmax with where= of nothing but False is 0.
# Why: a mask puts one large finite number for each forbidden score, and equal scores share the weight equally.
# What follows: rows of padding look healthy, carry what they must not see, and gradients reach it through them. Multiply
# the result by mask.any(-1), or leave such rows out of the loss.
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

attention = jax.nn.dot_product_attention
q, k = jnp.ones((1, 2, 1, 4)), jnp.ones((1, 3, 1, 4))  # (B, T, nh, hs), two queries and three keys
v = jnp.broadcast_to(jnp.array([1.0, 10.0, 100.0])[None, :, None, None], k.shape)
mask = jnp.array([[True, False, False], [False, False, False]])[None, None]  # (B, nh, T, S); none sees the last two
found = {
    "mask": attention(q, k, v, mask=mask)[0, :, 0, 0].tolist(),
    "bias of -inf": attention(q, k, v, bias=jnp.where(mask, 0.0, -jnp.inf))[0, :, 0, 0].tolist(),
    "length 0": attention(q, k, v, key_value_seq_lengths=jnp.array([0]))[0, :, 0, 0].tolist(),
    "softmax where False": jax.nn.softmax(jnp.ones(2), where=jnp.zeros(2, bool)).tolist(),
}
slope = jax.grad(lambda v: attention(q, k, v, mask=mask).sum())(v)[0, :, 0, 0].tolist()
for name, rows in found.items():
    print(f"{name:20} {rows}")
print("gradients of the values, by the mask:", slope)
as_seen = (
    found["mask"][0] == 1
    and abs(found["mask"][1] - 37) < 1e-3
    and found["bias of -inf"][0] == 1
    and found["bias of -inf"][1] != found["bias of -inf"][1]
    and all(abs(row - 37) < 1e-3 for row in found["length 0"])
    and found["softmax where False"] == [0, 0]
    and all(abs(s - 1 / 3) < 1e-5 for s in slope[1:])
)
print("as described" if as_seen else "CHANGED: this no longer is what the header describes")
sys.exit(not as_seen)
PYTHON
