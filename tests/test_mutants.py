"""The judge on trial: gradient rules that are wrong on purpose, each of which `check_grad` must refuse.

Every planted bug is one that people make: a sign, a factor, the wrong operand, a transpose, a term forgotten. Each
comes with its right rule, and that one must pass first: a check that refuses everything catches nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numeric
import numpy as np
import pytest
from drawn import examples
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numeric import check_grad, cotangents, floating, gradients, leaves
from op_table import TABLE, Op, variance
from strategies import ANY, DISTINCT, NONZERO, POSITIVE, SEEDS, Case, case, same
from test_ops import FEW, bind

import tinygrad_z2g as z2g
from tinygrad_z2g import fast
from tinygrad_z2g.core import engine
from tinygrad_z2g.core.engine import record

ROWS = {op.name: op for op in TABLE}
SQUARE = hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=3).map(lambda s: (s[0], s[0]))
CUBE = st.just((2, 2, 2))


def caught(cases: st.SearchStrategy, bound: Callable[[Case], Callable]) -> bool:
    """Whether some drawn case makes the check fail; it is what `test_gradient` would do with this rule."""

    @settings(max_examples=60, phases=[Phase.generate], derandomize=True, database=None, deadline=None)
    @given(cases, SEEDS)
    def check(case: Case, seed: int) -> None:
        with np.errstate(all="ignore"):
            check_grad(bound(case), case.inputs, seed)

    try:
        check()
    except AssertionError:
        return True
    return False


# --- Whole rules, right and wrong --------------------------------------------------------------------------------


@dataclass
class Bug:
    """forward(*arrays); for input `of` the right rule (grad, *arrays) and the wrong one. All others are right."""

    name: str
    cases: st.SearchStrategy
    forward: Callable
    right: tuple[Callable, ...]
    wrong: Callable
    of: int = 0

    def function(self, mutated: bool) -> Callable:
        rules = [self.wrong if mutated and i == self.of else rule for i, rule in enumerate(self.right)]

        def f(*xs: z2g.Tensor) -> z2g.Tensor:
            arrays = [x.array for x in xs]
            edges = [
                (x, lambda grad, rule=rule: np.asarray(rule(grad, *arrays))) for x, rule in zip(xs, rules, strict=True)
            ]
            return record("planted", np.asarray(self.forward(*arrays)), *edges)

        return f


def others(a: np.ndarray) -> np.ndarray:
    """For each element the product of all others."""
    return np.array([np.prod(np.delete(a.reshape(-1), i)) for i in range(a.size)]).reshape(a.shape)


def at(a: np.ndarray, ids: Any, grad: np.ndarray, add: bool) -> np.ndarray:
    """grad written, or added, at the rows `ids` of an array like a."""
    out = np.zeros_like(a)
    if add:
        np.add.at(out, ids, grad)
    else:
        out[ids] = grad
    return out


def softmax(a: np.ndarray) -> np.ndarray:
    e = np.exp(a)
    return e / e.sum(axis=-1, keepdims=True)


def shifted(w: np.ndarray) -> list:
    """Which places of (4,) input each of the two taps of a filter sees."""
    return [slice(k, k + 3) for k in range(len(w))]


def conv(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    return sum(x[s] * tap for s, tap in zip(shifted(w), w, strict=True))


def conv_x(grad: np.ndarray, x: np.ndarray, w: np.ndarray) -> np.ndarray:
    out = np.zeros_like(x)
    for s, tap in zip(shifted(w), w, strict=True):
        out[s] += grad * tap
    return out


ONE, TWO = case(ANY), case(ANY, ANY, shapes=same(2))
MATRICES = case(ANY, ANY, shapes=same(2, SQUARE))
VECTOR = case(ANY, shapes=st.just((4,)))
FILTER = case(ANY, ANY, shapes=st.just([(4,), (2,)]))
REPEATED = [0, 2, 0, 1]
CYCLE = (2, 0, 1)

BUGS = [
    Bug("sub: sign of y", TWO, np.subtract, (lambda g, a, b: g, lambda g, a, b: -g), lambda g, a, b: g, of=1),
    Bug("mul: own operand", TWO, np.multiply, (lambda g, a, b: g * b, lambda g, a, b: g * a), lambda g, a, b: g * a),
    Bug("div: 1 / y forgotten", case(ANY, NONZERO, shapes=same(2)), np.divide,
        (lambda g, a, b: g / b, lambda g, a, b: -g * a / b**2), lambda g, a, b: -g * a / b, of=1),
    Bug("pow: exponent not lowered", case(POSITIVE, ANY, shapes=same(2)), np.power,
        (lambda g, a, b: g * b * a ** (b - 1), lambda g, a, b: g * a**b * np.log(a)), lambda g, a, b: g * b * a**b),
    Bug("pow: logarithm of the result", case(POSITIVE, ANY, shapes=same(2)), np.power,
        (lambda g, a, b: g * b * a ** (b - 1), lambda g, a, b: g * a**b * np.log(a)),
        lambda g, a, b: g * a**b * np.log(a**b), of=1),
    Bug("exp: factor forgotten", ONE, np.exp, (lambda g, a: g * np.exp(a),), lambda g, a: g),
    Bug("log: multiplies", case(POSITIVE), np.log, (lambda g, a: g / a,), lambda g, a: g * a),
    Bug("sqrt: factor 1/2", case(POSITIVE), np.sqrt, (lambda g, a: g / (2 * np.sqrt(a)),), lambda g, a: g / np.sqrt(a)),
    Bug("cos: sign", ONE, np.cos, (lambda g, a: -g * np.sin(a),), lambda g, a: g * np.sin(a)),
    Bug("tanh: square forgotten", ONE, np.tanh,
        (lambda g, a: g * (1 - np.tanh(a) ** 2),), lambda g, a: g * (1 - np.tanh(a))),
    Bug("square: factor 2", ONE, np.square, (lambda g, a: g * 2 * a,), lambda g, a: g * a),
    Bug("relu: passes everything", case(NONZERO), lambda a: np.maximum(a, 0),
        (lambda g, a: g * (a > 0),), lambda g, a: g),
    Bug("abs: sign forgotten", case(NONZERO), np.abs, (lambda g, a: g * np.sign(a),), lambda g, a: g),
    Bug("sum(1): spread along the other axis of a square", case(ANY, shapes=SQUARE), lambda a: a.sum(1),
        (lambda g, a: g[:, None] + 0 * a,), lambda g, a: g[None, :] + 0 * a),
    Bug("mean: 1 / n forgotten", case(ANY, shapes=SQUARE), np.mean,
        (lambda g, a: g / a.size + 0 * a,), lambda g, a: g + 0 * a),
    Bug("var: correction forgotten", case(DISTINCT, shapes=SQUARE), lambda a: variance(a, correction=1),
        (lambda g, a: g * 2 * (a - a.mean()) / (a.size - 1),), lambda g, a: g * 2 * (a - a.mean()) / a.size),
    Bug("prod: by division, which fails at 0", VECTOR, np.prod,
        (lambda g, a: g * others(a),), lambda g, a: g * np.prod(a) / a),
    Bug("max: to every element", case(DISTINCT, shapes=SQUARE), np.max,
        (lambda g, a: g * (a == a.max()),), lambda g, a: g + 0 * a),
    Bug("cumsum: forwards instead of from the end", VECTOR, np.cumsum,
        (lambda g, a: np.cumsum(g[::-1])[::-1],), lambda g, a: np.cumsum(g)),
    Bug("matmul: y not transposed", MATRICES, np.matmul,
        (lambda g, a, b: g @ b.T, lambda g, a, b: a.T @ g), lambda g, a, b: g @ b),
    Bug("matmul: factors of y's rule exchanged", MATRICES, np.matmul,
        (lambda g, a, b: g @ b.T, lambda g, a, b: a.T @ g), lambda g, a, b: g @ a.T, of=1),
    Bug("permute: the axes, not their inverse", case(ANY, shapes=CUBE), lambda a: a.transpose(CYCLE),
        (lambda g, a: g.transpose(np.argsort(CYCLE)),), lambda g, a: g.transpose(CYCLE)),
    Bug("roll: same direction", VECTOR, lambda a: np.roll(a, 1),
        (lambda g, a: np.roll(g, -1),), lambda g, a: np.roll(g, 1)),
    Bug("flatten: column by column", case(ANY, shapes=SQUARE), np.ravel,
        (lambda g, a: g.reshape(a.shape),), lambda g, a: g.reshape(a.shape).T),
    Bug("cat: parts exchanged", TWO.filter(lambda c: c.inputs[0].ndim), lambda a, b: np.concatenate([a, b]),
        (lambda g, a, b: g[: len(a)], lambda g, a, b: g[len(a) :]), lambda g, a, b: g[len(a) :]),
    Bug("x[ids]: repeated indices overwrite", VECTOR, lambda a: a[REPEATED],
        (lambda g, a: at(a, REPEATED, g, add=True),), lambda g, a: at(a, REPEATED, g, add=False)),
    Bug("softmax: Σ p grad forgotten", case(ANY, shapes=SQUARE), softmax,
        (lambda g, a: softmax(a) * (g - (softmax(a) * g).sum(-1, keepdims=True)),), lambda g, a: softmax(a) * g),
    Bug("softmax: normalised by the sum of grad", case(ANY, shapes=SQUARE), softmax,
        (lambda g, a: softmax(a) * (g - (softmax(a) * g).sum(-1, keepdims=True)),),
        lambda g, a: softmax(a) * (g - g.sum(-1, keepdims=True))),
    Bug("conv1d: filter flipped", FILTER, conv,
        (conv_x, lambda g, x, w: np.array([(g * x[s]).sum() for s in shifted(w)])),
        lambda g, x, w: conv_x(g, x, w[::-1])),
    Bug("conv1d: weight gradient without the shift", FILTER, conv,
        (conv_x, lambda g, x, w: np.array([(g * x[s]).sum() for s in shifted(w)])),
        lambda g, x, w: np.array([(g * x[:3]).sum() for _ in w]), of=1),
]  # fmt: skip


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_trap_47_planted_rule_is_caught(bug: Bug) -> None:
    assert not caught(bug.cases, lambda case: bug.function(mutated=False)), "control: the right rule was refused"
    assert caught(bug.cases, lambda case: bug.function(mutated=True))


# --- Bugs planted in the package itself --------------------------------------------------------------------------


def layer_norm_without(term: str) -> Callable:
    def backward(g: Any, n: Any, r: Any) -> Any:
        mean_g = 0 if term == "mean(g)" else g.mean(axis=1, keepdims=True)
        stretch = 0 if term == "mean(g n)" else n * (g * n).mean(axis=1, keepdims=True)
        return (g - mean_g - stretch) * r

    return backward


def attention_with(edit: Callable) -> Callable:
    right = fast.attention_backward
    return lambda grad, q, k, v, saved, scale: edit(right, grad, q, k, v, saved, scale)


def scale_forgotten(right: Callable, *args: Any) -> tuple:
    gq, gk, gv = right(*args)
    return gq / args[-1], gk, gv


def kept_forgotten(right: Callable, grad: Any, q: Any, k: Any, v: Any, saved: Any, scale: float) -> tuple:
    return right(grad, q, k, v, [(p, None) for p, _ in saved], scale)


def slope_without_second_term(kernel: Callable) -> Callable:
    def gelu(a: np.ndarray, b: Any = 0) -> tuple:
        z, _ = kernel(a + b)
        return z, z / np.where(a + b == 0, 1, a + b)

    return gelu


def cross_entropy_with(edit: Callable) -> Callable:
    right = fast.cross_entropy

    def kernel(logits: Any, target: Any, weight: Any) -> tuple:
        losses, slopes = right(logits, target, weight)
        return losses, edit(slopes, target, weight)

    return kernel


def onehot_kept(slopes: np.ndarray, target: Any, weight: Any) -> np.ndarray:
    slopes = slopes.copy()
    slopes[np.arange(len(slopes)), target] += weight
    return slopes


def weight_twice(slopes: np.ndarray, target: Any, weight: Any) -> np.ndarray:
    return slopes * weight[:, None]


def overwrite_rows(ids: Any, rows: Any, n: int) -> np.ndarray:
    out = np.zeros((n, rows.shape[1]))
    out[ids] = rows
    return out


def match_with(reduce: Callable) -> Callable:
    """The engine's reversal of broadcasting, with `reduce` in place of the sum over the copies."""
    right = engine.match

    def match(grad: Any, target: Any) -> Any:
        shape = (target if isinstance(target, engine.Node) else target.array).shape
        while grad.ndim > len(shape):
            grad = reduce(grad, 0, False)
        for i, n in enumerate(shape):
            if n == 1 != grad.shape[i]:
                grad = reduce(grad, i, True)
        return right(grad, target)

    return match


def averaged(g: np.ndarray, axis: int, keep: bool) -> np.ndarray:
    return g.sum(axis=axis, keepdims=keep) / max(1, g.shape[axis])


def first_copy(g: np.ndarray, axis: int, keep: bool) -> np.ndarray:
    one = np.take(g, [0] if g.shape[axis] else [], axis)
    return one.sum(axis=axis, keepdims=keep)


OF_A_FAST_FORM = ("softmax: ", "layer_norm: ", "attention: ", "gelu", "embedding: ")  # plain ones call no routine
IN_THE_PACKAGE = [
    ("softmax: Σ p grad forgotten", "softmax", fast, "softmax_backward", lambda p, grad, axis: p * grad),
    ("softmax: along the last axis always", "softmax", fast, "softmax_backward",
     lambda p, grad, axis: p * (grad - (p * grad).sum(axis=-1, keepdims=True))),
    ("layer_norm: mean(g) forgotten", "F.layer_norm", fast, "layer_norm_backward",
     layer_norm_without("mean(g)")),
    ("layer_norm: mean(g n) forgotten", "F.layer_norm", fast, "layer_norm_backward",
     layer_norm_without("mean(g n)")),
    ("attention: scale forgotten for q", "F.attention", fast, "attention_backward",
     attention_with(scale_forgotten)),
    ("attention: dropout forgotten", "F.attention, dropout", fast, "attention_backward",
     attention_with(kept_forgotten)),
    ("gelu: x Φ' forgotten", "F.gelu", fast, "gelu_exact", slope_without_second_term(fast.gelu_exact)),
    ("gelu tanh: second term", "F.gelu", fast, "gelu_tanh", slope_without_second_term(fast.gelu_tanh)),
    ("bias_gelu: x Φ' forgotten", "F.bias_gelu", fast, "gelu_exact",
     slope_without_second_term(fast.gelu_exact)),
    ("bias_gelu: mean of the rows", "F.bias_gelu", fast, "product_and_column_sums",
     lambda a, b: (a * b, (a * b).reshape(-1, a.shape[-1]).mean(0))),
    ("cross_entropy: one-hot forgotten", "F.cross_entropy", fast, "cross_entropy",
     cross_entropy_with(onehot_kept)),
    ("cross_entropy: class weight twice", "F.cross_entropy", fast, "cross_entropy",
     cross_entropy_with(weight_twice)),
    ("embedding: repeated ids overwrite", "F.embedding", fast, "sum_rows_by_id", overwrite_rows),
    ("engine: copies averaged, not summed", "add", engine, "match", match_with(averaged)),
    ("engine: only the first copy counts", "mul", engine, "match", match_with(first_copy)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "row", "module", "attribute", "wrong"),
    [pytest.param(*b, marks=[pytest.mark.fast] * b[0].startswith(OF_A_FAST_FORM), id=b[0]) for b in IN_THE_PACKAGE],
)
def test_trap_47_bug_in_the_package_is_caught(
    monkeypatch: pytest.MonkeyPatch, name: str, row: str, module: Any, attribute: str, wrong: Callable
) -> None:
    op = ROWS[row]
    assert not caught(op.cases, lambda case: bind(op, case)), "control: the right rule was refused"
    monkeypatch.setattr(module, attribute, wrong)
    assert caught(op.cases, lambda case: bind(op, case))


# --- Five bugs for every row of the table ------------------------------------------------------------------------

EDITS = {
    "sign": np.negative,
    "factor 1.001": lambda g: g * 1.001,
    "elements in reverse order": lambda g: g.reshape(-1)[::-1].reshape(g.shape),
    "last element forgotten": lambda g: np.where(np.arange(g.size).reshape(g.shape) == g.size - 1, 0, g),
    "an offset": lambda g: g + 0.01,
}


def tampered(fn: Callable, i: int, edit: Callable) -> Callable:
    """`fn` with the gradient of input number i edited on its way back."""

    def f(*xs: z2g.Tensor) -> Any:
        x = record("tampered", xs[i].array.copy(), (xs[i], edit))
        return fn(*xs[:i], x, *xs[i + 1 :])

    return f


@pytest.mark.parametrize("op", TABLE, ids=lambda op: op.name)
def test_trap_47_every_operation_catches_edited_gradients(op: Op, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the operation: an edit that changes its gradient visibly makes the check fail.

    (To measure each element for the report, as the tests above do, would take three quarters of the time.)
    """
    monkeypatch.setattr(numeric, "per_element", lambda *_: "")
    visible = 0
    for repeat, (drawn, seed) in itertools.product(range(4), examples(op)):  # of a gradient that is 0, few edits show
        seed += repeat
        fn, rng = bind(op, drawn), np.random.default_rng(seed)
        i, edit = int(rng.integers(len(drawn.inputs))), EDITS[rng.choice(list(EDITS))]
        outputs = floating(fn(*leaves(drawn.inputs)))
        gradient = gradients(fn, leaves(drawn.inputs), cotangents(outputs, rng))[i]
        if not gradient.size or np.abs(edit(gradient) - gradient).max() < 1e-4:
            continue  # an edit of nothing
        visible += 1
        try:
            check_grad(tampered(fn, i, edit), drawn.inputs, seed)
        except AssertionError:
            pass
        else:
            raise AssertionError(f"an edited gradient passed: {drawn}, input {i}, seed {seed}")
        if visible == FEW:
            return
    assert visible
