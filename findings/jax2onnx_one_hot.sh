#!/usr/bin/env bash
# The label -1, for padding: exported from JAX to ONNX it is the last class.
#
# Guess before the run: jax2onnx writes a graph that computes what the function does, also where ONNX has no such
# operation or means something else by it.
# Seen with jax2onnx 0.17.1, jax 0.10.2 and onnxruntime 1.32.0: jax.nn.one_hot(-1, 3) is [0, 0, 0] in JAX, [0, 0, 1] in
# the graph, so a loss that leaves out padded tokens by it counts them. log1p(1e-10), expm1(1e-10) are 0, and so is
# erfc(5), in JAX 1e-10, 1e-10, 1.5e-12; log P(X > 6) of a normal X is -inf, -20.7. cumlogsumexp([100, 100]) is [inf,
# inf] rather than [100, 100.69]; lax.round away from zero of [0.5, 2.5] is [0, 2] rather than [1, 3]. take with
# mode="wrap", remainders of negative numbers and a sort with a NaN, on which ONNX and JAX differ as well, are as in
# JAX.
# Why: OneHot of ONNX counts negative indices from the end. The others become 1 + x and Log, Exp and x - 1, 1 - Erf, Exp
# and CumSum and Log, and Round, which rounds halves to even.
# What follows: compare the exported model with the function on padding, on small and on large numbers, not on normal
# ones alone. Write one_hot as labels[:, None] == arange(n), log-probabilities by log_softmax.
# Exit 0 while this is so, 1 when it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --no-compile jax2onnx==0.17.1 jax==0.10.2 jaxlib==0.10.2 flax==0.12.8 onnx==1.23.2 \
    onnxruntime==1.32.0 numpy==2.4.6 2>/dev/null
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import sys

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
from jax2onnx import to_onnx


def exported(function, *inputs: np.ndarray) -> tuple[np.ndarray, list[str]]:
    onnx = to_onnx(function, [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in inputs])
    session = onnxruntime.InferenceSession(onnx.SerializeToString(), providers=["CPUExecutionProvider"])
    feed = {i.name: x for i, x in zip(session.get_inputs(), inputs, strict=True)}
    return session.run(None, feed)[0], [node.op_type for node in onnx.graph.node]


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def one_hot(labels):
    return jax.nn.one_hot(labels, 3)


def equality(labels):
    return (labels[:, None] == jnp.arange(3)).astype(jnp.float32)


def loss(logits, labels):
    return -(one_hot(labels) * jax.nn.log_softmax(logits)).sum(-1)


def away(x):
    return jax.lax.round(x, jax.lax.RoundingMethod.AWAY_FROM_ZERO)


def wrapped(x, places):
    return jnp.take(x, places, mode="wrap")


labels = np.array([-1, 0, 3], np.int32)
logits = np.tile(floats(1, 2, 3), (3, 1))
cases = {  # function, inputs, what the graph gives (None: what JAX gives)
    "one_hot of -1, 0, 3": (one_hot, (labels,), [[0, 0, 1], [1, 0, 0], [0, 0, 0]]),
    "by equality": (equality, (labels,), None),
    "loss": (loss, (logits, labels), [0.407606, 2.407606, 0]),
    "log1p": (jnp.log1p, (floats(1e-10),), [0]),
    "expm1": (jnp.expm1, (floats(1e-10),), [0]),
    "erfc": (jax.scipy.special.erfc, (floats(5),), [0]),
    "log P(X > 6)": (jax.scipy.stats.norm.logsf, (floats(6),), [-np.inf]),
    "cumlogsumexp": (jax.lax.cumlogsumexp, (floats(100, 100),), [np.inf, np.inf]),
    "away from zero": (away, (floats(0.5, 2.5),), [0, 2]),
    "take, wrap": (wrapped, (logits[0], np.array([-1, 4], np.int32)), None),
    "remainder": (jnp.mod, (floats(-7.5, 7.5), floats(2, -2)), None),
    "sort": (jnp.sort, (floats(3, np.nan, 1),), None),
}
as_seen = True
for name, (function, inputs, seen) in cases.items():
    there, operations = exported(function, *inputs)
    here = np.asarray(function(*inputs))
    print(f"{name:20} JAX {here.tolist()}, exported {there.tolist()}: {' '.join(operations[:4])}")
    if seen is None:
        as_seen &= np.allclose(there, here, rtol=1e-5, equal_nan=True)
    else:
        as_seen &= np.allclose(there, seen, rtol=1e-5) and not np.allclose(here, seen, rtol=1e-5, atol=0)
print("as described" if as_seen else "CHANGED: this no longer is what the header describes")
sys.exit(not as_seen)
PYTHON
