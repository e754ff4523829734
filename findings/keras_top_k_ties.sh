#!/usr/bin/env bash
# A network whose outputs have all become NaN, or all the same, has a top-k accuracy of 100 % by Keras, for every k.
#
# Guess before the run: equal scores for 10 classes of equal size give a top-1 accuracy of 10 % and a top-3 accuracy of
# 30 %, NaN for all scores 0 %, and SparseTopKCategoricalAccuracy(k=1) is SparseCategoricalAccuracy.
# Seen with keras 3.15.0 on jax 0.10.2: 100 % for k = 1, 3 and 5, of equal scores as of NaN, where
# SparseCategoricalAccuracy says 10 %. Of scores behind a ReLU, most of which are 0, top-1 is 96 %, the accuracy 10 %.
# (On the backend numpy equal scores are the same, NaN is 0 %.)
# Why: a class is among the top k if fewer than k scores are greater. None is greater than its equal, and of a NaN it
# asks which scores are greater than -inf: no NaN is. argmax takes one class. That ties count is said by TensorFlow's
# documentation of in_top_k, not by that of keras.ops.in_top_k or the metric.
# What follows: divergence, collapse, dead ReLUs and ties of quantized scores raise the metric that they should lower,
# and "save the best weights" by it keeps the broken ones. Watch the loss as well, or compare with ops.top_k's indices.
# Exit 0 while this is so, 1 when it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --no-compile keras==3.15.0 jax==0.10.2 jaxlib==0.10.2 2>/dev/null
JAX_PLATFORMS=cpu KERAS_BACKEND=jax KERAS_HOME="$folder" "$folder/venv/bin/python" - <<'PYTHON'
import sys

import keras
import numpy as np

labels = np.arange(1000) % 10
rng = np.random.default_rng(0)
scores = {
    "all equal": np.zeros((1000, 10), np.float32),
    "behind a ReLU": np.maximum(rng.normal(size=(1000, 10)) - 2.5, 0).astype(np.float32),
    "no two equal": rng.random((1000, 10), np.float32),
    "all NaN": np.full((1000, 10), np.nan, np.float32),
}
found = {}
for name, values in scores.items():
    for k in (1, 3, 5, None):
        metric = keras.metrics.SparseTopKCategoricalAccuracy(k) if k else keras.metrics.SparseCategoricalAccuracy()
        metric.update_state(labels, values)
        found[name, k] = float(metric.result())
    top = ", ".join(f"top-{k} {found[name, k]:.1%}" for k in (1, 3, 5))
    print(f"{name:14} {top}, accuracy {found[name, None]:.1%}")
as_seen = (
    all(found["all equal", k] == 1 for k in (1, 3, 5))
    and abs(found["all equal", None] - 0.1) < 1e-6
    and found["behind a ReLU", 1] > 0.9
    and found["behind a ReLU", None] < 0.2
    and found["no two equal", 1] == found["no two equal", None]
    and all(found["all NaN", k] == 1 for k in (1, 3, 5))
)
print("as described" if as_seen else "CHANGED: this no longer is what the header describes")
sys.exit(not as_seen)
PYTHON
