"""Do not believe a gradient: measure it.

The derivative of a scalar φ along a direction d is a slope that can be measured with nothing but forward passes:

    dφ ≈ (φ(x + h d) - φ(x - h d)) / 2h        (central difference; its error falls with h²)

To make a scalar out of a function's output f(x), take φ = <w, f(x)> with random weights w. Not the plain sum, which
hides whole classes of errors: the outputs of a softmax sum to 1 whatever its gradient rule says. This file knows
nothing of rules or graphs: it calls the function, asks for `backward()`, and compares what came out.

A difference needs to know nothing of the function and works on every device, but about 10 of its 16 digits are right at
most. Where the forward code allows it, `complex_step.py` gives the other check, which is right to the last digits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...arrays import backend, dtypes
from ...core.modes import no_grad
from ...tensor import Tensor
from ...walks.modes import enable_grad

# One central difference is best at a step near the cube root of float64's epsilon, 6e-6. Two, extrapolated, have a
# smaller truncation error, so they are best near its fifth root, 7e-4: over the cases of `cases.py` the worst error is
# 8e-12 at 2^-11, 9e-11 at 2^-14 and 1e-9 at 2^-18. The smaller step of 6e-5 gives one digit away to measure closer to
# kinks: within a step of one, no difference is a derivative.
STEP = 2.0**-14


class GradcheckError(RuntimeError):
    """An analytic gradient disagrees with the measured one. The message reports the worst element."""


class Report(NamedTuple):
    """What a comparison found."""

    derivatives: int  # how many were compared
    failures: int  # how many disagree
    error: float  # the worst |analytic - measured| / max(1, |measured|)
    where: str  # that is, which input and element
    message: str  # what disagrees, with both values; "" if nothing does


def gradcheck(
    fn: Callable[..., Any], inputs: Tensor | Sequence[Any], *, eps: float = STEP, atol: float = 1e-7,
    rtol: float = 1e-6, seed: int = 0, raise_exception: bool = True,
) -> bool:  # fmt: skip
    """Compare the gradients of `fn(*inputs)` with central differences, element by element. Returns whether they agree.

    Every float64 input that requires grad is checked, and if fn is a module its parameters are too; other inputs are
    passed on as they are. `fn` returns a tensor or a tuple of them, and must return the same for the same inputs. Each
    derivative is measured at steps eps and eps / 2, and the pair extrapolated to h = 0 (Richardson), which leaves an
    error of order h⁴. The allowed difference is atol · Σ|w| + rtol · |measured| + what the two steps say the
    measurement itself is worth.

    Raises GradcheckError with input, index, both values and shapes of the worst element (unless told not to raise),
    TypeError if fn cannot be called or inputs are neither a tensor nor a sequence, and ValueError if no input can be
    checked or one of them is not float64.
    """
    report = compare(fn, inputs, eps=eps, atol=atol, rtol=rtol, seed=seed)
    if report.failures and raise_exception:
        raise GradcheckError(f"gradcheck: {report.message}")
    return not report.failures


def compare(
    fn: Callable[..., Any], inputs: Tensor | Sequence[Any], *, eps: float = STEP, atol: float = 1e-7,
    rtol: float = 1e-6, seed: int = 0,
) -> Report:  # fmt: skip
    """The comparison that `gradcheck` judges by."""
    if not callable(fn):
        raise TypeError(f"gradcheck: expected a function or module first, then its inputs, got {type(fn).__name__}")
    if not isinstance(inputs, (Tensor, Sequence)):
        raise TypeError(f"gradcheck: expected a Tensor or a sequence of inputs, got {type(inputs).__name__}")
    inputs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    checked = _checked(fn, inputs)
    if not checked:
        raise ValueError("gradcheck: no input requires grad; there is nothing to check")
    for name, x in checked:
        if x.dtype != dtypes.float64:
            raise ValueError(
                f"gradcheck: {name} is {x.dtype}; differences need float64: make it with dtype=float64, "
                "or convert a module with .double()"
            )
    weights: list[np.ndarray] = []

    def phi() -> float:
        """<w, f(x)> at the present values of the inputs."""
        with no_grad():
            outputs = _outputs(fn(*inputs))
        return float(sum((backend.to_host(z.array) * w).sum() for z, w in zip(outputs, weights, strict=True)))

    with enable_grad():
        outputs = _outputs(fn(*inputs))
    weights += _weights(outputs, seed)
    analytic = _analytic(outputs, weights, [x for _, x in checked], getattr(fn, "constant", False))

    scale = sum(np.abs(w).sum() for w in weights)
    worst: tuple[float, str] = (0.0, "")
    failures = total = 0
    error, where = 0.0, ""
    for (name, x), gradient in zip(checked, analytic, strict=True):
        if gradient.shape != tuple(x.shape) or gradient.dtype != x.dtype:
            return Report(0, 1, np.inf, name, f"{name}: gradient has shape {gradient.shape}, dtype {gradient.dtype}")
        for index in np.ndindex(*x.shape):
            measured, noise = _slope(phi, x, index, eps)
            value = float(gradient[index])
            difference = abs(value - measured)
            excess = difference / (atol * max(1.0, scale) + rtol * abs(measured) + noise)
            relative = difference / max(1.0, abs(measured))
            if not where or not relative <= error:
                error, where = relative, _place(name, index)
            total += 1
            if not excess <= 1:  # NaN counts as a failure too
                failures += 1
                report = (
                    f"{name} of shape {tuple(x.shape)}, element {index}: "
                    f"analytic {value:.10g}, measured {measured:.10g}, difference {difference:.3g}"
                )
                if not worst[1] or not excess <= worst[0]:
                    worst = (excess, report)
    shapes = ", ".join(str(tuple(z.shape)) for z in outputs)
    title = getattr(fn, "__name__", type(fn).__name__)
    message = f"{title}: {failures} of {total} derivatives disagree; worst: {worst[1]} (outputs {shapes}, seed {seed})"
    return Report(total, failures, error, where, message if failures else "")


def _checked(fn: Callable[..., Any], inputs: Sequence[Any]) -> list[tuple[str, Tensor]]:
    """(name, tensor) of every input and parameter that requires grad."""
    given = [(f"input {i}", x) for i, x in enumerate(inputs) if isinstance(x, Tensor)]
    own = fn.named_parameters() if hasattr(fn, "named_parameters") else []
    return [(name, x) for name, x in [*given, *own] if x.requires_grad]


def _weights(outputs: list[Tensor], seed: int) -> list[np.ndarray]:
    """Random weights in ±[0.5, 1.5] for each output: none near 0, where an error would go unseen."""
    rng = np.random.default_rng(seed)
    return [rng.uniform(0.5, 1.5, z.shape) * rng.choice([-1.0, 1.0], z.shape) for z in outputs]


def _place(name: str, index: tuple) -> str:
    """An element, as it is written in Python: weight[0, 2]."""
    return name + (f"[{', '.join(map(str, index))}]" if index else "")


def _outputs(result: Any) -> list[Tensor]:
    """The floating-point tensors that a function returned (complex, within `complex_step`)."""
    parts = result if isinstance(result, (tuple, list)) else [result]
    found = [z for part in parts for z in (part if isinstance(part, (tuple, list)) else [part])]
    return [z for z in found if isinstance(z, Tensor) and z.array.dtype.kind in "fc"]


def _analytic(
    outputs: list[Tensor], weights: list[np.ndarray], inputs: list[Tensor], constant: bool = False
) -> list[np.ndarray]:
    """∂φ/∂x of each input by backward, its own `.grad` left as it was. Without a history it is 0, if `constant`."""
    before = [x.grad for x in inputs]
    try:
        for x in inputs:
            x.grad = None
        live = [(z, w) for z, w in zip(outputs, weights, strict=True) if z.requires_grad]
        if not live and not constant:
            raise ValueError("gradcheck: no output requires grad; does the function detach its inputs?")
        with enable_grad():
            phi: Any = sum((z * Tensor.make(backend.to_device(w, z.device)).to(z.dtype)).sum() for z, w in live)
            if live:
                phi.backward()
        found = [x.grad for x in inputs]
    finally:
        for x, grad in zip(inputs, before, strict=True):
            x.grad = grad
    return [
        np.zeros(tuple(x.shape)) if g is None else backend.to_host(g.array) for x, g in zip(inputs, found, strict=True)
    ]


def _slope(phi: Callable[[], float], x: Tensor, index: tuple, h: float) -> tuple[float, float]:
    """dφ/dx[index], and the uncertainty of that measurement. x is restored afterwards."""
    old = x.array[index].item() if x.array.ndim else x.array.item()

    def central(h: float) -> tuple[float, float]:
        values = []
        for moved in (old + h, old - h):
            x.array[index] = moved
            values.append(phi())
        return (values[0] - values[1]) / (2 * h), (abs(values[0]) + abs(values[1])) / h

    try:
        coarse, _ = central(h)
        fine, size = central(h / 2)
    finally:
        x.array[index] = old
    noise = 8 * np.finfo(np.float64).eps * size + abs(fine - coarse) / 16
    return (4 * fine - coarse) / 3, noise
