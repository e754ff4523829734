#!/usr/bin/env bash
# A minute of time stamps at 16 kHz lasts 59.5 seconds.
#
# Guess before the run: arange(start, stop, step) in float32, and ONNX's Range, give start + i * step, as ONNX's
# definition has it, each right to a rounding or two: the last of a minute in steps of 1/16000 is 59.9999.
# Seen with mlx 0.32.4 (mlx-cpu, Linux), onnxruntime 1.32.0 and openvino 2026.4.1: the last of those 960,000 numbers is
# 59.50 by mx.arange and by ONNX Runtime. The million numbers from 0 to 100,000 in steps of 0.1 end at 100,958, beyond
# their end. mx.arange(3000, dtype=mx.float16) ends at 2048, and so do its last 952 numbers. OpenVINO on one thread ends
# where ONNX Runtime does, on two threads elsewhere, and with constants instead of inputs it is right, as are NumPy
# 2.4.6, jnp.arange (jax 0.10.2), mx.linspace and ONNX's own reference.
# Why: each number is the one before plus the step, rounded, so that an error of the same sign is added a million times.
# The count of the numbers comes from a division and is right. OpenVINO's threads start each from its own place.
# What follows: time axes, positions and grids that a model makes for itself drift with their length, by the engine, and
# pass every test of short inputs. Make integers and multiply: they are exact up to 2^24.
# Exit 0 while this is so, 1 when it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --no-compile 'mlx[cpu]==0.32.4' onnx==1.23.2 onnxruntime==1.32.0 openvino==2026.4.1 \
    jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6 2>/dev/null
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import sys

import jax.numpy as jnp
import mlx.core as mx
import numpy as np
import onnxruntime
import openvino
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

NAMES = ("start", "limit", "delta")


def model(constants: dict[str, np.ndarray] | None) -> bytes:
    """Range of three inputs, or of three constants."""
    inputs = [] if constants else [helper.make_tensor_value_info(name, TensorProto.FLOAT, []) for name in NAMES]
    initializers = [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()]
    output = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None])]
    graph = helper.make_graph([helper.make_node("Range", NAMES, ["y"])], "g", inputs, output, initializers)
    opset = [helper.make_opsetid("", 21)]
    return helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString()


def by_openvino(onnx: bytes, feed: dict[str, np.ndarray], threads: int) -> np.ndarray:
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    core = openvino.Core()
    return core.compile_model(core.read_model(onnx), "CPU", settings)(feed)[0]


as_seen = True
for stop, step, wrong in ((60, 1 / 16000, 59.505), (100_000, 0.1, 100_958.24)):
    feed = {name: np.array(value, np.float32) for name, value in zip(NAMES, (0, stop, step), strict=True)}
    onnx = model(None)
    found = {
        "onnxruntime": onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"]).run(None, feed)[0],
        "mx.arange": np.array(mx.arange(0, stop, step)),
        "openvino, one thread": by_openvino(onnx, feed, 1),
        "openvino, two threads": by_openvino(onnx, feed, 2),
        "openvino, constants": by_openvino(model(feed), {}, 1),
        "reference": ReferenceEvaluator(onnx).run(None, feed)[0],
        "np.arange": np.arange(0, stop, step, np.float32),
        "jnp.arange": np.asarray(jnp.arange(0, stop, step)),
        "mx.linspace": np.array(mx.linspace(0, stop - step, round(stop / step))),
    }
    for name, values in found.items():
        right = (len(values) - 1) * step
        print(f"{stop:6} {step:9} {name:22}: {len(values):9,} numbers, the last {values[-1]:.6g}, not {right:.6g}")
        if name in ("onnxruntime", "mx.arange", "openvino, one thread"):
            as_seen &= abs(values[-1] / wrong - 1) < 1e-4
        elif name != "openvino, two threads":  # where the threads part is not told, only that all are not right
            as_seen &= abs(values[-1] / right - 1) < 1e-6
halves = mx.arange(3000, dtype=mx.float16)
print("mx.arange(3000, dtype=mx.float16) ends", halves[-1].item(), "first seen at", (halves == 2048).argmax().item())
as_seen &= halves[-1].item() == 2048 and mx.sum(halves == 2048).item() == 952
print("as described" if as_seen else "CHANGED: this no longer is what the header describes")
sys.exit(not as_seen)
PYTHON
