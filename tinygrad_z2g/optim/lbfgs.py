"""L-BFGS: steps that know the curvature, from the last few gradients.

It knows nothing of models: all parameters are one long vector, and `closure` says what the loss is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..arrays.backend import Array, of, silent
from ..core.modes import no_grad
from ..tensor import Tensor
from ..walks.modes import enable_grad
from .optimizer import Optimizer, check_range


def cubic_minimum(
    x1: float, f1: float, g1: float, x2: float, f2: float, g2: float, bounds: tuple[float, float] | None = None
) -> float:
    """Where the cubic polynomial with these values and slopes at x₁ and x₂ is least, within the bounds (x₁ to x₂).

    d₁ = g₁ + g₂ - 3 (f₁ - f₂) / (x₁ - x₂),  d₂ = ±√(d₁² - g₁ g₂),  x = x₂ - (x₂ - x₁) (g₂ + d₂ - d₁) / (g₂ - g₁ + 2
    d₂); the middle if there is no such place. (Nocedal & Wright, Numerical Optimization, eq. 3.59)
    """
    low, high = bounds if bounds is not None else (min(x1, x2), max(x1, x2))
    d1 = g1 + g2 - 3 * (f1 - f2) / (x1 - x2)
    square = d1 * d1 - g1 * g2
    if not square >= 0:
        return (low + high) / 2
    d2 = square**0.5
    if x1 <= x2:
        place = x2 - (x2 - x1) * ((g2 + d2 - d1) / (g2 - g1 + 2 * d2))
    else:
        place = x1 - (x1 - x2) * ((g1 + d2 - d1) / (g1 - g2 + 2 * d2))
    return min(max(place, low), high)


Point = tuple[float, float, Array, float]  # a step t, the loss there, the gradient, its slope along the direction


def strong_wolfe(
    look: Callable[[float], Point], start: Point, t: float, length: float, c1: float = 1e-4, c2: float = 0.9,
    tolerance: float = 1e-9, most: int = 25,
) -> tuple[Point, int]:  # fmt: skip
    """A step t along a line at which the loss has fallen enough, f(t) ≤ f(0) + c₁ t f'(0), and the slope too, |f'(t)| ≤
    c₂ |f'(0)|: first a bracket that must hold one, then ever smaller brackets. `length` is the largest component of the
    direction. Returns the best point and how often it looked. (Nocedal & Wright, algorithms 3.5 and 3.6)
    """
    _, f0, _, slope0 = start
    before, here, tries, done = start, look(t), 0, False
    bracket = [start, here]
    while tries < most:
        t, f, _, slope = here
        bracket = [before, here]
        if f > f0 + c1 * t * slope0 or (tries > 1 and f >= before[1]):
            break
        if abs(slope) <= -c2 * slope0:
            bracket, done = [here, here], True
            break
        if slope >= 0:
            break
        reach = t + 0.01 * (t - before[0]), t * 10
        t = cubic_minimum(before[0], before[1], before[3], t, f, slope, reach)
        before, here, tries = here, look(t), tries + 1
        bracket = [start, here]
    best, other, stuck = *_order(bracket), False
    while not done and tries < most and abs(bracket[1][0] - bracket[0][0]) * length >= tolerance:
        small, large = sorted(point[0] for point in bracket)
        (x1, f1, _, g1), (x2, f2, _, g2) = bracket
        t = cubic_minimum(x1, f1, g1, x2, f2, g2)
        margin = 0.1 * (large - small)
        near = min(large - t, t - small) < margin  # an end: if that happens twice, go further in
        if near and (stuck or t >= large or t <= small):
            t, near = (large - margin if abs(t - large) < abs(t - small) else small + margin), False
        stuck = near
        here, tries = look(t), tries + 1
        _, f, _, slope = here
        if f > f0 + c1 * t * slope0 or f >= bracket[best][1]:
            bracket[other] = here
            best, other = _order(bracket)
            continue
        if abs(slope) <= -c2 * slope0:
            done = True
        elif slope * (bracket[other][0] - bracket[best][0]) >= 0:
            bracket[other] = bracket[best]
        bracket[best] = here
    return bracket[best], tries + 1


def _order(bracket: list[Point]) -> tuple[int, int]:
    """Which end has the lower loss, and which the higher."""
    return (0, 1) if bracket[0][1] <= bracket[1][1] else (1, 0)


class LBFGS(Optimizer):
    """Newton's method without a matrix: d = -H g, H made of the last `history_size` pairs of steps s and changes y of
    the gradient, then w += t d. (Nocedal 1980)

    H g in two loops over the pairs, ρ = 1 / (y·s): newest to oldest, q -= α y with α = ρ s·q; times s·y / y·y of the
    newest; oldest to newest, q += s (α - ρ y·q).

    `step(closure)` takes up to `max_iter` such steps; `closure` computes the loss and its gradients and is called again
    for each, up to `max_eval` times. `line_search_fn="strong_wolfe"` searches t, otherwise t = lr (the first time
    less). All parameters are in one group.
    """

    def __init__(
        self, params: Iterable, lr: float = 1.0, max_iter: int = 20, max_eval: int | None = None,
        tolerance_grad: float = 1e-7, tolerance_change: float = 1e-9, history_size: int = 100,
        line_search_fn: str | None = None,
    ):  # fmt: skip
        check_range("LBFGS", "learning rate", lr, 0)
        if line_search_fn not in (None, "strong_wolfe"):
            raise RuntimeError(f"LBFGS: got line_search_fn={line_search_fn!r}, expected 'strong_wolfe' or None")
        super().__init__(params, {
            "lr": lr, "max_iter": max_iter, "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval,
            "tolerance_grad": tolerance_grad, "tolerance_change": tolerance_change, "history_size": history_size,
            "line_search_fn": line_search_fn,
        })  # fmt: skip
        if len(self.param_groups) != 1:
            raise ValueError("LBFGS: all parameters share one curvature, so there can be one group alone")
        self._params: list[Tensor] = self.param_groups[0]["params"]

    def _gathered(self) -> Array:
        """All gradients as one vector."""
        xp = of(self._params[0].array)
        parts = [(xp.zeros_like(p.array) if p._grad is None else p._grad.array).reshape(-1) for p in self._params]
        return xp.concatenate(parts)

    @silent
    def _go(self, start: list[Array], t: float, d: Array) -> None:
        """All parameters to start + t d."""
        at = 0
        for p, a in zip(self._params, start, strict=True):
            p.array[...] = a + t * d[at : at + a.size].reshape(a.shape)
            p.memory.writes += 1
            at += a.size

    @no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Up to `max_iter` steps. Returns the loss at the beginning, as torch does."""
        if closure is None:
            raise TypeError("LBFGS.step: needs a closure, which computes the loss and its gradients")
        group, state = self.param_groups[0], self.state[self._params[0]]

        def measured() -> tuple[float, Array]:
            with enable_grad():
                loss = closure()
            return float(loss), self._gathered()

        with enable_grad():
            first = closure()
        loss, g, evaluations = float(first), self._gathered(), 1
        state["func_evals"] = state.get("func_evals", 0) + 1
        if not g.size or float(abs(g).max()) <= group["tolerance_grad"]:
            return first
        pairs: list[tuple[Array, Array, float]] = state.get("pairs", [])  # s, y, ρ, oldest first
        before: list[Any] = [state.get(key) for key in ("d", "t", "prev_flat_grad", "prev_loss")]
        d, t, old_g, old_loss = before
        for taken in range(1, group["max_iter"] + 1):
            state["n_iter"] = state.get("n_iter", 0) + 1
            if state["n_iter"] == 1:
                d, pairs, scale = -g, [], 1.0
            else:
                y, s = g - old_g, d * t
                ys = float(y @ s)
                if ys > 1e-10:
                    pairs = [*pairs, (s, y, 1 / ys)][-group["history_size"] :]
                    state["H_diag"] = ys / float(y @ y)
                d, scale = self._direction(g, pairs, state.get("H_diag", 1.0)), None
            old_g, old_loss = g.copy(), loss
            t = min(1.0, 1 / float(abs(g).sum())) * group["lr"] if scale else group["lr"]
            slope, looks = float(g @ d), 0
            if slope > -group["tolerance_change"]:
                break
            if group["line_search_fn"] == "strong_wolfe":
                origin = [p.array.copy() for p in self._params]

                def look(t: float, origin: list = origin, d: Array = d) -> Point:
                    self._go(origin, t, d)
                    f, gradient = measured()
                    return t, f, gradient, float(gradient @ d)

                start, length = (0.0, loss, g, slope), float(abs(d).max())
                (t, loss, g, _), looks = strong_wolfe(look, start, t, length, most=group["max_eval"] - evaluations)
                self._go(origin, t, d)
            else:
                self._go([p.array.copy() for p in self._params], t, d)
                if taken != group["max_iter"]:
                    (loss, g), looks = measured(), 1
            evaluations += looks
            state["func_evals"] += looks
            if (
                taken == group["max_iter"]
                or evaluations >= group["max_eval"]
                or float(abs(g).max()) <= group["tolerance_grad"]
                or float(abs(d * t).max()) <= group["tolerance_change"]
                or abs(loss - old_loss) < group["tolerance_change"]
            ):
                break
        state.update(d=d, t=t, pairs=pairs, prev_flat_grad=old_g, prev_loss=old_loss)
        return first

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a saved state; see `Optimizer.load_state_dict`."""
        super().load_state_dict(state_dict)
        for state in self.state.values():
            state.update({key: _arrays(value) for key, value in state.items()})

    @staticmethod
    def _direction(g: Array, pairs: list[tuple[Array, Array, float]], scale: float) -> Array:
        """-H g."""
        q, weights = -g, []
        for s, y, rho in reversed(pairs):
            weights.append(rho * float(s @ q))
            q = q - weights[-1] * y
        q = q * scale
        for (s, y, rho), alpha in zip(pairs, reversed(weights), strict=True):
            q = q + (alpha - rho * float(y @ q)) * s
        return q


def _arrays(value: Any) -> Any:
    """What was saved, with arrays in place of the tensors in it."""
    if isinstance(value, Tensor):
        return value.array
    return type(value)(map(_arrays, value)) if isinstance(value, (list, tuple)) else value
