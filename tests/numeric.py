"""A numeric check of gradients that shares no code with the package: the judge of every rule in it.

The derivative of φ(x) = <w, f(x)> along a direction v is a slope that can be measured with forward passes alone,

    dφ ≈ (φ(x + h v) - φ(x - h v)) / 2h,

and must equal Σ g · v, where g is the gradient that backward reports for the cotangent w. Two random directions
suffice: a wrong g would have to be wrong at right angles to both of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import tinygrad_z2g as z2g

STEP = 2.0**-14
EPS = np.finfo(np.float64).eps


def floating(result: Any) -> list[z2g.Tensor]:
    """The floating-point tensors that a function returned: one, or several in a tuple."""
    parts = result if isinstance(result, (tuple, list)) else [result]
    return [z for z in parts if z.is_floating_point()]


def host(x: z2g.Tensor) -> np.ndarray:
    """A copy of a tensor's numbers, wherever they are."""
    return np.array(x.detach().cpu().numpy())


def leaves(arrays: Sequence[np.ndarray], dtype: Any = np.float64, device: str = "cpu") -> list[z2g.Tensor]:
    """The arrays as tensors that require grad, in memory of their own."""
    return [z2g.tensor(a.astype(dtype), device=device, requires_grad=True) for a in arrays]


def cotangents(outputs: list[z2g.Tensor], rng: np.random.Generator) -> list[np.ndarray]:
    """Random weights in ±[0.5, 1.5] for each output: none near 0, where an error would go unseen, and never all ones,
    which hide whole classes of errors (the outputs of a softmax sum to 1 whatever its rule says)."""
    return [rng.uniform(0.5, 1.5, z.shape) * rng.choice([-1.0, 1.0], z.shape) for z in outputs]


def pull(outputs: list[z2g.Tensor], weights: list[np.ndarray]) -> None:
    """Backward from every output with its weights; the graph is kept until the last one."""
    for i, (z, w) in enumerate(zip(outputs, weights, strict=True)):
        cotangent = z2g.tensor(w.astype(z.dtype), device=z.device)
        z.backward(cotangent, retain_graph=i + 1 < len(outputs))
        if not np.array_equal(host(cotangent), w.astype(z.dtype)):
            raise AssertionError(f"backward changed the cotangent of output {i}")


def gradients(fn: Callable, xs: list[z2g.Tensor], weights: list[np.ndarray]) -> list[np.ndarray]:
    """∂<w, fn(x)>/∂x for each tensor, as host arrays."""
    pull(floating(fn(*xs)), weights)
    missing = [i for i, x in enumerate(xs) if x.grad is None]
    if missing:
        raise AssertionError(f"no gradient arrived at input {missing[0]} of shape {tuple(xs[missing[0]].shape)}")
    return [host(x.grad) for x in xs]


def check_grad(fn: Callable, arrays: Sequence[np.ndarray], seed: int = 0) -> None:
    """Raise AssertionError unless backward through `fn` agrees with central differences at `arrays` (float64).

    Checked too: each gradient has its input's shape and dtype, inputs and cotangent stay as they were, gradients
    share memory with nothing, and using fn on two branches doubles the gradient.
    """
    rng = np.random.default_rng(seed)
    originals = [np.array(a, np.float64) for a in arrays]
    xs = leaves(originals)
    outputs = floating(fn(*xs))
    for i, z in enumerate(outputs):
        if not z.requires_grad:
            raise AssertionError(f"output {i} requires no grad: the operation dropped its history")
    weights = cotangents(outputs, rng)
    grads = gradients(fn, xs, weights)

    for i, (x, a) in enumerate(zip(xs, originals, strict=True)):
        if tuple(x.grad.shape) != a.shape or x.grad.dtype != np.float64:
            raise AssertionError(f"input {i} is float64 {a.shape}, its gradient {x.grad.dtype} {tuple(x.grad.shape)}")
        if not np.array_equal(x.detach().numpy(), a, equal_nan=True):
            raise AssertionError(f"input {i} was changed")
    owned = [x.grad.array for x in xs]
    others = owned + [x.array for x in xs]
    for i, g in enumerate(owned):
        if g.base is not None or any(j != i and np.may_share_memory(g, other) for j, other in enumerate(others)):
            raise AssertionError(f"the gradient of input {i} shares memory with another array")

    twice = leaves(originals)
    one, two = floating(fn(*twice)), floating(fn(*twice))
    pull([a + b for a, b in zip(one, two, strict=True)], weights)
    for i, (x, g) in enumerate(zip(twice, grads, strict=True)):
        if not np.allclose(host(x.grad), 2 * g, rtol=1e-12, atol=1e-12, equal_nan=True):
            raise AssertionError(f"two branches give input {i} not twice the gradient of one:\n{host(x.grad)}\n{2 * g}")

    if not any(a.size for a in originals):
        return  # nothing to vary; the shapes were checked

    def phi(moved: list[np.ndarray]) -> np.ndarray:
        """φ, and Σ |w f|: how large the numbers were whose rounding φ suffers from."""
        with z2g.no_grad():
            values = floating(fn(*[z2g.tensor(a, device="cpu") for a in moved]))
        parts = [z.numpy() * w for z, w in zip(values, weights, strict=True)]
        return np.array([sum(p.sum() for p in parts), sum(np.abs(p).sum() for p in parts)])

    for _ in range(2):
        directions = [rng.uniform(0.5, 1.0, a.shape) * rng.choice([-1.0, 1.0], a.shape) for a in originals]
        analytic = sum((g * v).sum() for g, v in zip(grads, directions, strict=True))
        size = sum(np.abs(g * v).sum() for g, v in zip(grads, directions, strict=True))
        measured, allowed = slope(phi, originals, directions, size, weights)
        if not abs(analytic - measured) <= allowed:  # written so that NaN fails
            raise AssertionError(
                f"along a random direction: analytic {analytic:.12g}, measured {measured:.12g}, "
                f"difference {abs(analytic - measured):.3g} > {allowed:.3g} (seed {seed})\n"
                + per_element(phi, originals, grads, weights)
            )


def check_grad_twice(fn: Callable, arrays: Sequence[np.ndarray], seed: int = 0, device: str = "cpu") -> None:
    """Raise AssertionError unless a recorded walk through `fn` gives the gradient of a plain walk, and a walk through
    the recorded one the second derivatives: the slopes of ψ(x, v) = <w, ∂<v, fn(x)>/∂x>, measured with plain walks.
    """
    rng = np.random.default_rng(seed)
    originals = [np.array(a, np.float64) for a in arrays]
    xs = leaves(originals, device=device)
    outputs = floating(fn(*xs))
    seeds = cotangents(outputs, rng)
    vs = leaves(seeds, device=device)
    recorded = z2g.autograd.grad(outputs, xs, vs, create_graph=True)
    plain = gradients(fn, leaves(originals, device=device), seeds)
    for i, (g, p) in enumerate(zip(recorded, plain, strict=True)):
        if g.dtype != np.float64 or tuple(g.shape) != p.shape:
            raise AssertionError(
                f"the recorded gradient of input {i} is {g.dtype} {tuple(g.shape)}, expected {p.shape}"
            )
        if not np.allclose(host(g), p, rtol=1e-10, atol=1e-10, equal_nan=True):
            raise AssertionError(f"the recorded gradient of input {i} is not that of a plain walk:\n{host(g)}\n{p}")
    weights = cotangents(list(recorded), rng)
    live = [(g, z2g.tensor(w, device=device)) for g, w in zip(recorded, weights, strict=True) if g.requires_grad]
    seconds: Sequence = [None] * (len(xs) + len(vs))
    if live:  # a constant gradient, as that of a staircase, may have no history
        seconds = z2g.autograd.grad([g for g, _ in live], [*xs, *vs], [w for _, w in live], allow_unused=True)
    at = [*originals, *seeds]
    found = [np.zeros_like(a) if s is None else host(s) for s, a in zip(seconds, at, strict=True)]
    if not any(a.size for a in originals):
        return

    def psi(moved: list[np.ndarray]) -> np.ndarray:
        """ψ, and Σ |w g|, as `phi` of `check_grad`."""
        grads = gradients(fn, leaves(moved[: len(xs)], device=device), moved[len(xs) :])
        parts = [g * w for g, w in zip(grads, weights, strict=True)]
        return np.array([sum(p.sum() for p in parts), sum(np.abs(p).sum() for p in parts)])

    for only in (slice(len(xs)), slice(len(xs), None)):  # ∂ψ/∂x, often the smaller one, and ∂ψ/∂v
        along = [np.zeros_like(a) for a in at]
        along[only] = [rng.uniform(0.5, 1.0, a.shape) * rng.choice([-1.0, 1.0], a.shape) for a in at[only]]
        analytic = sum((s * v).sum() for s, v in zip(found, along, strict=True))
        size = sum(np.abs(s * v).sum() for s, v in zip(found, along, strict=True))
        measured, allowed = slope(psi, at, along, size, weights)
        if not abs(analytic - measured) <= allowed:
            raise AssertionError(
                f"second derivatives along a random direction: analytic {analytic:.12g}, measured {measured:.12g}, "
                f"difference {abs(analytic - measured):.3g} > {allowed:.3g} (seed {seed})\n"
                + per_element(psi, at, found, weights)
            )


def check_along(fn: Callable, inputs: Sequence[Any], seed: int = 0) -> None:
    """Raise AssertionError unless backward through `fn(*inputs)` agrees with slopes along a random direction in the
    space of each tensor: each input, and parameter if fn is a module, that requires grad (float64).

    For functions of many numbers, on any device: 4 evaluations for each tensor, where `gradcheck`, element by element,
    takes 4 for each number. The tensors are moved in place, where a layer finds them, and put back.
    """
    rng = np.random.default_rng(seed)
    own = list(fn.named_parameters()) if hasattr(fn, "named_parameters") else []
    named = [(f"input {i}", x) for i, x in enumerate(inputs) if isinstance(x, z2g.Tensor)] + own
    named = [(name, x) for name, x in named if x.requires_grad]
    moving = [x for _, x in named]
    at = [host(x) for x in moving]
    outputs = flat(fn(*inputs))
    weights = cotangents(outputs, rng)
    live = [(z, z2g.tensor(w, device=z.device)) for z, w in zip(outputs, weights, strict=True) if z.requires_grad]
    found: Sequence = [None] * len(moving)
    if live:  # a constant function, as the gradient of a sum, may have no history
        found = z2g.autograd.grad([z for z, _ in live], moving, [w for _, w in live], allow_unused=True)
    grads = [np.zeros_like(a) if g is None else host(g) for g, a in zip(found, at, strict=True)]

    def phi(moved: list[np.ndarray]) -> np.ndarray:
        """φ, and Σ |w f|, as in `check_grad`."""
        for x, a in zip(moving, moved, strict=True):
            x.array[...] = z2g.tensor(a, device=x.device).array
        with z2g.no_grad():
            values = flat(fn(*inputs))
        parts = [host(z) * w for z, w in zip(values, weights, strict=True)]
        return np.array([sum(p.sum() for p in parts), sum(np.abs(p).sum() for p in parts)])

    try:
        for i, (name, _) in enumerate(named):
            along = [np.zeros_like(a) for a in at]
            along[i] = rng.uniform(0.5, 1.0, at[i].shape) * rng.choice([-1.0, 1.0], at[i].shape)
            analytic, size = (grads[i] * along[i]).sum(), np.abs(grads[i] * along[i]).sum()
            measured, allowed = slope(phi, at, along, size, weights)
            if not abs(analytic - measured) <= allowed:
                raise AssertionError(
                    f"{name} of shape {at[i].shape}: along a random direction analytic {analytic:.12g}, "
                    f"measured {measured:.12g}, difference {abs(analytic - measured):.3g} > {allowed:.3g}\n"
                    + per_element(phi, at, grads, weights)
                )
    finally:
        for x, a in zip(moving, at, strict=True):
            x.array[...] = z2g.tensor(a, device=x.device).array


def flat(result: Any) -> list[z2g.Tensor]:
    """The floating-point tensors of a result, also within tuples of tuples."""
    if isinstance(result, z2g.Tensor):
        return [result] if result.is_floating_point() else []
    return [z for part in result for z in flat(part)] if isinstance(result, (tuple, list)) else []


def slope(phi: Callable, at: list, along: list, size: float, weights: list) -> tuple[float, float]:
    """The measured derivative of phi along a direction, and how far from it a right gradient may be.

    Differences at h and h / 2, extrapolated to h = 0 (Richardson): the error of each is c h², so that
    (4 fine - coarse) / 3 has none of it. Allowed are 1e-7 relative to Σ|g v|, 1e-10 absolute, the rounding of phi
    divided by h, and a part of what the two steps differ by.
    """

    def central(h: float) -> tuple[float, float]:
        (high, size_high), (low, size_low) = (
            phi([a + s * h * v for a, v in zip(at, along, strict=True)]) for s in (1, -1)
        )
        return (high - low) / (2 * h), EPS * (size_high + size_low) / h

    coarse, _ = central(STEP)
    fine, noise = central(STEP / 2)
    total = sum(np.abs(w).sum() for w in weights)
    return (4 * fine - coarse) / 3, 1e-7 * size + 1e-10 * max(1.0, total) + 8 * noise + abs(fine - coarse) / 64


def per_element(phi: Callable, originals: list, grads: list, weights: list) -> str:
    """What a failure report needs: the worst elements, each with the measured derivative beside the analytic one."""
    rows = []
    for i, (a, g) in enumerate(zip(originals, grads, strict=True)):
        for index in np.ndindex(a.shape):
            along = [np.zeros_like(b) for b in originals]
            along[i][index] = 1.0
            measured, allowed = slope(phi, originals, along, abs(g[index]), weights)
            wrong = abs(g[index] - measured)
            if not wrong <= allowed:
                rows.append(
                    (wrong, f"  input {i} {a.shape} at {index}: analytic {g[index]:.10g}, measured {measured:.10g}")
                )
    rows.sort(key=lambda row: -row[0])
    shapes = ", ".join(str(w.shape) for w in weights)
    return "\n".join([f"{len(rows)} elements disagree (outputs {shapes}):", *(text for _, text in rows[:10])])
