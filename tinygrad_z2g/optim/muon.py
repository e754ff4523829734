"""Muon: momentum whose every direction is made equally long, for the matrices of a network.

It knows nothing of models, losses or graphs: a matrix, its gradient and a momentum are all it sees.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from ..arrays.backend import Array, of, silent
from ..fast import norm, product
from ..tensor import Tensor
from .optimizer import Optimizer, check_range, memory

KELLER = (3.4445, -4.775, 2.0315)  # see `orthogonal`


def orthogonal(m: Array, coefficients: tuple[float, float, float] = KELLER, steps: int = 5, eps: float = 1e-7) -> Array:
    """About U Vᵀ, where m = U S Vᵀ is the singular value decomposition of a matrix: the nearest orthogonal one.

    With X = m / |m| (all elements as one vector) no singular value s exceeds 1. Each step X ← a X + b (X Xᵀ) X +
    c (X Xᵀ)² X keeps U and V, as X Xᵀ X = U S³ Vᵀ, and turns each s into a s + b s³ + c s⁵: a polynomial that drives
    small ones up (by the factor a) and holds the large ones near 1. With these coefficients 5 steps take every s
    from 0.002 to 1 into 0.68 to 1.21. That does not come nearer to 1 with more steps, and need not: the size of
    a step matters little, as long as no direction is left behind. It costs products alone, where a decomposition
    would cost tens of times as much.
    """
    a, b, c = coefficients
    x = m / of(m).maximum(norm([m]), eps)
    wide = x.shape[0] <= x.shape[1]
    if not wide:
        x = x.T  # X Xᵀ is then the smaller of the two possible
    for _ in range(steps):
        square = product(x, x.T)  # (n, k) (k, n) -> (n, n)
        x = a * x + product(b * square + c * product(square, square), x)  # (n, n) (n, k) -> (n, k)
    return x if wide else x.T


class Muon(Optimizer):
    """For matrices: w -= lr (ratio · O + weight_decay · w), O the orthogonalized momentum. (Jordan et al. 2024)

    m = momentum · m + (1 - momentum) · g;  n = (1 - momentum) · g + momentum · m with `nesterov`, else m;  O ≈ U Vᵀ of
    n = U S Vᵀ, by `orthogonal`.

    Why U Vᵀ: W x changes by ΔW x, at most |ΔW| |x| with |ΔW| the largest singular value. Of all ΔW with |ΔW| ≤ lr the
    loss, to first order ⟨g, ΔW⟩, falls most for ΔW = -lr U Vᵀ: -lr (s₁ + s₂ + ...). So the rare directions, which have
    small s and which a gradient or Adam's step hardly moves, are learned as fast as the common ones.

    ratio: √max(1, rows / columns) as in the first publication ("original", or None), or 0.2 √max(rows, columns)
    ("match_rms_adamw"), by which the elements change as much as by AdamW, so that its lr and decay serve. Embeddings,
    the last layer, biases and norms are better left to AdamW. torch iterates in bfloat16, this in the dtype of w, at
    least float32.
    """

    remembers = {"momentum_buffer": Tensor}  # noqa: RUF012 - never changed

    def __init__(
        self, params: Iterable, lr: float = 1e-3, weight_decay: float = 0.1, momentum: float = 0.95,
        nesterov: bool = True, ns_coefficients: tuple[float, float, float] = KELLER, eps: float = 1e-7,
        ns_steps: int = 5, adjust_lr_fn: str | None = None,
    ):  # fmt: skip
        defaults: dict[str, Any] = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "nesterov": nesterov}
        defaults |= {"ns_coefficients": ns_coefficients, "eps": eps, "ns_steps": ns_steps, "adjust_lr_fn": adjust_lr_fn}
        check_range("Muon", "learning rate", lr, 0)
        self.check_settings("Muon", defaults)
        super().__init__(params, {**defaults, "ns_coefficients": tuple(ns_coefficients)})

    def check_settings(self, name: str, settings: dict[str, Any]) -> None:
        """Raise ValueError or TypeError unless the settings are in range and the parameters matrices."""
        check_range(name, "learning rate", settings["lr"])  # below 0 is where a schedule may have led it
        check_range(name, "weight_decay", settings["weight_decay"], 0)
        check_range(name, "momentum", settings["momentum"], 0)
        check_range(name, "eps", settings["eps"], 0)
        check_range(name, "ns_steps", settings["ns_steps"], 0, 100)
        if not isinstance(settings["ns_steps"], int):
            raise TypeError(f"{name}: invalid ns_steps: got {settings['ns_steps']!r}, expected an int")
        coefficients, ratio = settings["ns_coefficients"], settings["adjust_lr_fn"]
        if not isinstance(coefficients, (list, tuple)) or len(coefficients) != 3:
            raise TypeError(f"{name}: invalid ns_coefficients: got {coefficients!r}, expected three numbers")
        for coefficient in coefficients:
            check_range(name, "coefficient in ns_coefficients", coefficient)
        if not isinstance(settings["nesterov"], bool):
            raise TypeError(f"{name}: invalid nesterov: got {settings['nesterov']!r}, expected True or False")
        if ratio not in (None, "original", "match_rms_adamw"):
            raise ValueError(
                f"{name}: invalid adjust_lr_fn: got {ratio!r}, expected 'original', 'match_rms_adamw' or None"
            )
        for p in settings.get("params", ()):
            if p.ndim != 2:
                raise ValueError(
                    f"{name}: expected matrices, got a parameter of shape {tuple(p.shape)}; leave it to AdamW"
                )

    @silent
    def _update(self, params: list[Tensor], group: dict[str, Any]) -> None:
        momentum, decay, lr = group["momentum"], group["weight_decay"], group["lr"]
        for p in params:
            g, (rows, columns) = p._grad.array, p.array.shape
            m = memory(self.state.setdefault(p, {}), "momentum_buffer", p)
            m *= momentum
            m += (1 - momentum) * g
            direction = (1 - momentum) * g + momentum * m if group["nesterov"] else m
            direction = direction.astype(of(m).promote_types(m.dtype, "float32"), copy=False)
            o = orthogonal(direction, group["ns_coefficients"], group["ns_steps"], group["eps"])
            if group["adjust_lr_fn"] == "match_rms_adamw":
                ratio = 0.2 * math.sqrt(max(rows, columns))
            else:
                ratio = math.sqrt(max(1, rows / columns)) if columns else 1.0
            change = (lr * ratio) * o
            if decay:
                change += (lr * decay) * p.array
            p.array -= change.astype(p.array.dtype, copy=False)
            p.memory.writes += 1
