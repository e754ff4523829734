"""One NumPy number turns the whole net into float64.

    h = x @ W / np.sqrt(n)        np.sqrt(16) is a np.float64, and wins over a float32 array

The loss is the same to six digits, nothing fails. Everything after that line takes twice the memory and about twice the
time; on most GPUs far more. The weights do not show it: `W -= ...` in place rounds the step back to float32.
"""

import math

import numpy as np
from plaque import course, plaque

import tinygrad_z2g as z2g

N, STEPS = 16, 200
rng = np.random.default_rng(1)
x = rng.standard_normal((50, N)).astype(np.float32)
t = np.sin(x[:, :1])


def train(root) -> tuple[list[float], dict[str, np.ndarray]]:
    """Two layers by hand, in NumPy: the loss before each step, and all arrays of the last step by name."""
    rng = np.random.default_rng(2)
    W = rng.standard_normal((N, N)).astype(np.float32)
    V = rng.standard_normal((N, 1)).astype(np.float32)
    losses = []
    for _ in range(STEPS):
        h = np.tanh(x @ W / root(N))  # (50, 16) @ (16, 16); np.sqrt is the mistake
        y = h @ V / root(N)  # (50, 16) @ (16, 1)
        dy = 2 * (y - t) / len(x)
        dV = h.T @ dy / root(N)  # (16, 50) @ (50, 1)
        dh = dy @ V.T / root(N) * (1 - h**2)  # (50, 1) @ (1, 16)
        dW = x.T @ dh / root(N)  # (16, 50) @ (50, 16)
        losses.append(float(np.mean((y - t) ** 2)))
        W -= dW
        V -= dV
    return losses, {"W": W, "V": V, "h": h, "y": y, "dy": dy, "dV": dV, "dh": dh, "dW": dW}


def wide(arrays: dict[str, np.ndarray]) -> str:
    """The names of those that are float64."""
    return " ".join(name for name, array in arrays.items() if array.dtype == np.float64) or "none"


(bad, bad_arrays), (good, good_arrays) = train(np.sqrt), train(math.sqrt)
bytes_of = [sum(array.nbytes for array in arrays.values()) for arrays in (bad_arrays, good_arrays)]
plaque(
    seen=course(bad, good) | {"weights are": (bad_arrays["W"].dtype, good_arrays["W"].dtype)},
    check={"arrays that are float64": (wide(bad_arrays), wide(good_arrays)), "bytes": tuple(bytes_of)},
    fix="math.sqrt(n), a Python number; here tensors ignore the width of a NumPy number",
)
assert abs(bad[-1] - good[-1]) < 1e-5 < good[0] - good[-1]
assert wide(bad_arrays) == "h y dy dV dh dW" and wide(good_arrays) == "none" and bytes_of[0] > 1.5 * bytes_of[1]
assert (z2g.ones(2) / np.sqrt(N)).dtype == z2g.float32
