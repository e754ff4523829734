"""Each fast form against the plain one whose place it takes: the same numbers within rounding, NaN and ∞ in the same
places, the same dtype, lying in memory in the same way, or the same error; forward and backward. (What either computes
is checked elsewhere, in whichever form the whole suite runs.)"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numeric import host

import tinygrad_z2g as z2g
from tinygrad_z2g import optim
from tinygrad_z2g.core import ops, optimizers
from tinygrad_z2g.fast import forms, updates
from tinygrad_z2g.half import table

Rng = np.random.Generator
FAST: dict[str, Any] = dict(forms.FORMS)
PLAIN: dict[str, Any] = {name: getattr(forms.PLAIN, name) for name in (*FAST, "attend")}
table.apply(FAST)
table.apply(PLAIN, plain=True)
CLOSE = {"float16": 1e-2, "float32": 3e-5, "float64": 1e-12}  # times the largest number
SPECIAL = [math.nan, math.inf, -math.inf, 0.0, -0.0, 1e-30]
POWERS = [0, 1, 2, 3, 0.5, -1, 2.5, 0.0]

# --- What they are called with -----------------------------------------------------------------------------------


def sizes(rng: Rng, ndim: int, least: int = 0) -> tuple[int, ...]:
    return tuple(int(n) for n in np.maximum(rng.choice([0, 1, 2, 3, 5], ndim, p=[0.08, 0.2, 0.24, 0.24, 0.24]), least))


def numbers(rng: Rng, shape: tuple, dtype: str, special: Any = ()) -> z2g.Tensor:
    """A leaf that lies in memory in one of several ways, a few of its numbers special ones."""
    a = np.asarray(rng.standard_normal(shape) * rng.choice([0.1, 1.0, 5.0]))
    if special:
        a[rng.random(shape) < 0.15] = rng.choice(special)
    x = z2g.tensor(a.astype(dtype))
    if x.ndim > 1:
        i, j = (0, 1) if rng.integers(2) else (int(n) for n in rng.choice(x.ndim, 2, replace=False))
        x = [
            lambda: x,
            lambda: x.transpose(i, j).contiguous().transpose(i, j),
            lambda: z2g.stack([x, x], -1)[..., 0],
            lambda: x.narrow(i, 0, min(x.shape[i], 1)).expand(x.shape),
        ][rng.integers(4)]()
    return x.detach().requires_grad_(bool(rng.random() < 0.8))


def dims_of(rng: Rng, ndim: int) -> Any:
    chosen = [int(d) for d in rng.permutation(ndim)[: rng.integers(1, ndim + 1)]] if ndim else []
    return [None, tuple(chosen), chosen[0] - ndim if chosen else -1][rng.integers(3)]


def elementwise(*arguments: Callable[[Rng], Any]) -> Callable:
    def case(rng: Rng, dtype: str, special: Any) -> tuple:
        return numbers(rng, sizes(rng, rng.integers(4)), dtype, special), *(make(rng) for make in arguments)

    return case


def reduction(rng: Rng, dtype: str, special: Any) -> tuple:
    x = numbers(rng, sizes(rng, rng.integers(4)), dtype, special)
    return x, dims_of(rng, x.ndim), bool(rng.integers(2))


def softmax(rng: Rng, dtype: str, special: Any) -> tuple:
    x = numbers(rng, sizes(rng, rng.integers(bool(special), 4)), dtype, special)  # of one number it is 1, or NaN
    return x, int(rng.integers(max(x.ndim, 1)))


def masked_fill(rng: Rng, dtype: str, special: Any) -> tuple:
    shape = sizes(rng, rng.integers(4))
    mask = tuple(n if rng.integers(3) else 1 for n in shape)[rng.integers(2) if shape else 0 :]
    return numbers(rng, shape, dtype, special), z2g.tensor(rng.random(mask) < 0.5), float(rng.choice([7.5, -math.inf]))


def matmul(rng: Rng, dtype: str, special: Any) -> tuple:
    n, k, m = sizes(rng, 3)
    m = int(rng.choice([m, 1]))
    special = [v for v in special if v]  # BLAS does not multiply by 0 everywhere, and 0 · ∞ is NaN
    x, y = (k,) if rng.random() < 0.2 else (n, k), (k,) if rng.random() < 0.2 else (k, m)
    batch = sizes(rng, rng.integers(3), least=1)
    x = batch[rng.integers(2) if batch else 0 :] + x if len(x) == 2 and rng.integers(2) else x
    y = tuple(1 if rng.random() < 0.3 else b for b in batch) + y if len(y) == 2 and rng.integers(2) else y
    return numbers(rng, x, dtype, special), numbers(rng, y, dtype, special)


def linear(rng: Rng, dtype: str, special: Any) -> tuple:
    n_in, n_out = sizes(rng, 2)
    x = numbers(rng, (*sizes(rng, rng.integers(4)), n_in), dtype, special)
    bias = numbers(rng, (n_out,), dtype, special) if rng.integers(2) else None
    return x, numbers(rng, (n_out, n_in), dtype, special), bias


def embedding(rng: Rng, dtype: str, special: Any) -> tuple:
    V, C = sizes(rng, 2, least=1)
    kind = rng.choice(["int64", "int32", "uint8"])
    ids = np.asarray(rng.integers(0, V, sizes(rng, rng.integers(3)))).astype(kind)
    return z2g.tensor(ids), numbers(rng, (V, C), dtype, special)


def cross_entropy(rng: Rng, dtype: str, special: Any) -> tuple:
    special = [v for v in special if v != -math.inf]  # a row of -∞ has a loss of NaN, but 0 as its softmax here
    N, C = sizes(rng, 2, least=1)
    N -= rng.random() < 0.1
    ids = rng.integers(0, C, N)
    ids[rng.random(N) < rng.choice([0, 0.3, 1])] = -100
    return numbers(rng, (N, C), dtype, special), z2g.tensor(ids)


def layer_norm(rng: Rng, dtype: str, special: Any) -> tuple:
    shape = sizes(rng, rng.integers(1, 4))
    last = shape[int(rng.integers(len(shape))) :]
    w, b = (numbers(rng, last, dtype) if rng.integers(2) else None for _ in range(2))
    return numbers(rng, shape, dtype, special), last, w, b, float(rng.choice([1e-5, 0.1]))


def attention(rng: Rng, dtype: str, special: Any) -> tuple:
    """(..., T, d), (..., S, d), (..., S, e): heads are cut out of one product, as in a GPT, or lie for themselves."""
    T, S, d, e = sizes(rng, 4, least=1)
    batch = sizes(rng, rng.integers(3), least=1)
    q, k, v = (numbers(rng, (*batch, *shape), dtype, special) for shape in ((T, d), (S, d), (S, e)))
    if len(batch) == 2 and rng.integers(2):
        q, k, v = (x.detach().mT.contiguous().mT.transpose(1, 2).contiguous().transpose(1, 2).requires_grad_()
                   for x in (q, k, numbers(rng, (*batch, S, d), dtype, special)))  # fmt: skip
    if special:  # a mask adds -∞ in one form, and is written over scores in the other: NaN stays NaN in the first
        return q, k, v
    mask = [
        None,
        z2g.tensor(rng.random((T, S)) < 0.6),
        z2g.tensor(rng.standard_normal((*batch, 1, S)).astype(rng.choice([dtype, "float32"]))),
        numbers(rng, (T, S), dtype),
    ][rng.integers(4)]
    return q, k, v, mask, float(rng.choice([0.0, 0.4])), bool(rng.integers(2)), [None, 0.3][rng.integers(2)]


ATTENTION = "scaled_dot_product_attention"
CASES: dict[str, Callable[[Rng, str, Any], tuple]] = {
    "cross_entropy": cross_entropy,
    "dropout": elementwise(lambda rng: float(rng.choice([0.0, 0.3, 1.0])), lambda rng: bool(rng.random() < 0.9)),
    "embedding": embedding,
    "gelu": elementwise(lambda rng: str(rng.choice(["none", "tanh"]))),
    "layer_norm": layer_norm,
    "linear": linear,
    "masked_fill": masked_fill,
    "matmul": matmul,
    "mean": reduction,
    "pow": elementwise(lambda rng: POWERS[rng.integers(8)]),
    "relu": elementwise(),
    ATTENTION: attention,
    "softmax": softmax,
    "sum": reduction,
}


def test_every_form_has_cases() -> None:
    assert CASES.keys() == forms.FORMS.keys()


# --- The same results --------------------------------------------------------------------------------------------


def outcome(form: Callable, arguments: tuple, seed: Any, key: int) -> tuple:
    """The result of a form, how it lies in memory, and the gradient of each argument; or its error."""
    xs = [x for x in arguments if isinstance(x, z2g.Tensor) and x.requires_grad]
    for x in xs:
        x.grad = None
    z2g.manual_seed(key)
    try:
        z = form(*arguments)
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        return type(error), str(error)
    steps = [step for step, n in zip(z.array.strides, z.shape, strict=True) if n > 1] if z.numel() else None
    if form in (
        FAST[ATTENTION],
        PLAIN[ATTENTION],
    ):  # on a card, and where heads lie otherwise than in a GPT, they differ
        steps = None
    kind = z.dtype, tuple(z.shape), steps, z.requires_grad
    if z.requires_grad:
        z.backward(z2g.tensor(seed(tuple(z.shape)).astype(z.dtype)))
    grads = [x.grad for x in xs]
    found = [g for g in grads if g is not None]
    layouts = [(g.dtype, g.numel() and g.array.strides) for g in found]
    return kind, layouts, [host(a) for a in (z, *found)]


def compare(name: str, arguments: tuple, seed: Any, tolerance: float) -> None:
    fast, plain = (outcome(form[name], arguments, seed, 7) for form in (FAST, PLAIN))
    assert fast[:2] == plain[:2]
    for a, b in zip(*(found[2] if len(found) > 2 else [] for found in (fast, plain)), strict=True):
        size = max(1.0, np.abs(b.astype(float)).max(initial=0, where=np.isfinite(b)))
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * size)


def described(arguments: tuple) -> str:
    return ", ".join(
        f"{x!r} with strides {x.array.strides}" if isinstance(x, z2g.Tensor) else repr(x) for x in arguments
    )


@pytest.fixture(autouse=True)
def casts_in_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plain attention is made of this, around which its casts are."""
    monkeypatch.setattr(ops, "attend", PLAIN["attend"])


@pytest.mark.parametrize(("dtype", "special"), [*((d, False) for d in CLOSE), ("float32", True), ("float64", True)])
@pytest.mark.parametrize("name", CASES)
def test_fast_and_plain_agree(device: str, name: str, dtype: str, special: bool) -> None:
    for i in range(50):
        rng = np.random.default_rng([i, len(name), special])
        chosen = [v for v in SPECIAL if rng.integers(2)] if special else ()
        arguments = CASES[name](rng, dtype, chosen)
        odd = rng.choice([math.inf, -math.inf, math.nan]) if chosen and rng.integers(2) else 1.0
        if name == "embedding" and device == "cuda":  # rows are added up by a product with ones there
            odd = 1.0

        def seed(shape: tuple, i: int = i, odd: float = odd) -> np.ndarray:
            rng = np.random.default_rng(i)
            return np.where(rng.random(shape) < 0.1, odd, rng.uniform(0.5, 1.5, shape))

        try:
            compare(name, arguments, seed, CLOSE[dtype])
        except AssertionError as error:
            error.add_note(f"case {i}: {name}({described(arguments)})")
            raise


WRONG: dict[str, list[Callable[[], tuple]]] = {
    "cross_entropy": [
        lambda: (z2g.ones(2, 3), z2g.tensor([0, 3])),
        lambda: (z2g.ones(2, 3), z2g.tensor([0.0, 1.0])),
        lambda: (z2g.ones(2, 3), z2g.tensor([0])),
        lambda: (z2g.ones(2, 3).long(), z2g.tensor([0, 1])),
        lambda: (z2g.ones(3), z2g.tensor(0)),
    ],
    "dropout": [lambda: (z2g.ones(2), 1.5), lambda: (z2g.ones(2).long(), 0.5), lambda: (2.0, 0.5)],
    "embedding": [
        lambda: (z2g.tensor([0, 3]), z2g.ones(3, 2)),
        lambda: (z2g.tensor([-1]), z2g.ones(3, 2)),
        lambda: (z2g.tensor([1.0]), z2g.ones(3, 2)),
        lambda: (z2g.tensor([1]), z2g.ones(3)),
    ],
    "gelu": [lambda: (z2g.ones(2), "erf"), lambda: (z2g.ones(2).long(),), lambda: (1.0,)],
    "layer_norm": [
        lambda: (z2g.ones(2, 3), 2),
        lambda: (z2g.ones(2, 3), 3, z2g.ones(2)),
        lambda: (z2g.ones(2, 3), 3, None, z2g.ones(3).double()),
        lambda: (z2g.ones(2, 3).long(), 3),
        lambda: (z2g.ones(2, 3), ()),
    ],
    "linear": [
        lambda: (z2g.ones(2, 3), z2g.ones(4, 2)),
        lambda: (z2g.ones(2, 3), z2g.ones(4, 3), z2g.ones(3)),
        lambda: (z2g.ones(2, 3), z2g.ones(4, 3).double()),
        lambda: (z2g.ones(2, 3), z2g.ones(4, 3), z2g.ones(4).double()),
        lambda: (z2g.tensor(1.0), z2g.ones(4, 3)),
    ],
    "masked_fill": [
        lambda: (z2g.ones(2), z2g.ones(2), 1.0),
        lambda: (z2g.ones(2), z2g.ones(3).bool(), 1.0),
        lambda: (z2g.ones(2).to(z2g.uint8), z2g.ones(2).bool(), -1),
        lambda: (z2g.ones(2), z2g.ones(2).bool(), "x"),
    ],
    "matmul": [
        lambda: (z2g.ones(2, 3), z2g.ones(2, 3)),
        lambda: (z2g.ones(2, 3), z2g.tensor(1.0)),
        lambda: (z2g.ones(2, 3), z2g.ones(3, 2).double()),
        lambda: (z2g.ones(2, 2, 3), z2g.ones(3, 3, 2)),
        lambda: (z2g.ones(2, 3), 2.0),
    ],
    "mean": [lambda: (z2g.ones(2).long(),), lambda: (z2g.ones(2), 1), lambda: (z2g.ones(2, 2), (0, -2))],
    "pow": [lambda: (z2g.tensor([2]), -1), lambda: (z2g.ones(2), "2")],
    "relu": [lambda: (z2g.ones(2).bool(),), lambda: (1.0,)],
    "scaled_dot_product_attention": [
        lambda: (z2g.ones(2, 3), z2g.ones(2, 2), z2g.ones(2, 3)),
        lambda: (z2g.ones(2, 3), z2g.ones(2, 3), z2g.ones(3, 3)),
        lambda: (z2g.ones(2, 3), z2g.ones(2, 3), z2g.ones(2, 3).double()),
        lambda: (z2g.ones(2, 3), z2g.ones(2, 3), z2g.ones(2, 3), z2g.ones(3, 3)),
        lambda: (z2g.ones(2, 3), z2g.ones(2, 3), z2g.ones(2, 3), z2g.ones(2, 2).long()),
        lambda: (z2g.ones(2, 3), z2g.ones(2, 3), z2g.ones(2, 3), None, 2.0),
    ],
    "softmax": [lambda: (z2g.ones(2), 1), lambda: (z2g.ones(2).long(), 0), lambda: (z2g.ones(2), 0.5)],
    "sum": [lambda: (z2g.ones(2), 1), lambda: (z2g.ones(2, 2), (0, 0)), lambda: (1.0,)],
}
OTHERS: dict[str, list[Callable[[], tuple]]] = {  # of other dtypes, where they are taken
    "dropout": [lambda: (z2g.ones(2, 3).long(), 1.0), lambda: (z2g.ones(2).bool(), 0.5, False)],
    "masked_fill": [
        lambda: (z2g.ones(2, 3).long(), z2g.eye(3)[:2].bool(), 1.5),
        lambda: (z2g.ones(2).bool(), z2g.tensor([True, False]), 0),
        lambda: (z2g.tensor(3), z2g.tensor([True, False]), 1),
    ],
    "matmul": [lambda: (z2g.ones(2, 3).long(), z2g.ones(3, 2).long())],
    "pow": [lambda: (z2g.tensor([2, 3]), 2), lambda: (z2g.tensor([2, 3]), 0.5), lambda: (z2g.tensor([True]), 2),
            lambda: (z2g.tensor([2, 3], dtype=z2g.uint8), 0)],
    "relu": [lambda: (z2g.tensor([-1, 2]),), lambda: (z2g.tensor([1, 2], dtype=z2g.uint8),)],
    "sum": [lambda: (z2g.tensor([[True, True]]), 1), lambda: (z2g.ones(2, 3, dtype=z2g.int32),),
            lambda: (z2g.zeros(0, 3, dtype=z2g.uint8), 0, True)],
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_both_refuse_and_take_the_same(device: str, name: str) -> None:
    for make in WRONG[name]:
        refused = outcome(FAST[name], make(), None, 0)
        assert isinstance(refused[0], type) or (device == "cuda" and name in ("cross_entropy", "embedding"))
        if isinstance(refused[0], type):  # which ids a card was given is not looked at
            assert refused == outcome(PLAIN[name], make(), None, 0)
    for make in OTHERS.get(name, ()):
        compare(name, make(), None, 1e-6)


# --- Updates -----------------------------------------------------------------------------------------------------

SPEC = importlib.util.find_spec("tinygrad_z2g.core.optimizers")
TEXT: Any = importlib.util.module_from_spec(SPEC)  # the file alone: nothing has taken a place in it
SPEC.loader.exec_module(TEXT)
OPTIMIZERS = {
    "Adam": (optim.Adam, [{}, {"weight_decay": 0.1}, {"maximize": True, "eps": 1e-3}]),
    "AdamW": (optim.AdamW, [{}, {"weight_decay": 0.0}, {"betas": (0.0, 0.5)}]),
    "SGD": (optim.SGD, [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}]),
}


def test_every_update_has_cases() -> None:
    assert {kind.__name__ for kind in updates.UPDATES} | {"AdamW"} == OPTIMIZERS.keys()
    assert updates.FORMS.keys() == {"norm", "clip"}


def trained(kind: Any, settings: dict, drawn: list[tuple]) -> list[Any]:
    """Weights, and what is remembered, after a step for each of the gradients."""
    ps = [p.detach().clone().requires_grad_() for p, _ in drawn]
    optimizer = kind(ps, lr=0.05, **settings)
    for step in range(len(drawn[0][1])):
        for p, (_, grads) in zip(ps, drawn, strict=True):
            p.grad = grads[step].detach().clone()
        optimizer.step()
    state = optimizer.state_dict()["state"]
    return [*ps, *(x for values in state.values() for _, x in sorted(values.items()))]


@pytest.mark.parametrize(("dtype", "special"), [*((d, False) for d in CLOSE), ("float32", True), ("float64", True)])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_fast_and_plain_updates_agree(
    device: str, monkeypatch: pytest.MonkeyPatch, name: str, dtype: str, special: bool
) -> None:
    kind, all_settings = OPTIMIZERS[name]
    for i, settings in enumerate(all_settings * 3):
        rng = np.random.default_rng(i)
        drawn = []
        for _ in range(3):
            shape = sizes(rng, rng.integers(3))
            drawn.append(
                (numbers(rng, shape, dtype), [numbers(rng, shape, dtype, SPECIAL if special else ()) for _ in "12"])
            )
        found = []
        for chosen in (updates.UPDATES, dict.fromkeys(updates.UPDATES, optimizers.Optimizer._update)):
            for owner, update in chosen.items():
                monkeypatch.setattr(owner, "_update", update, raising=False)
            found.append(trained(kind, settings, drawn))
        for fast, plain in zip(*found, strict=True):
            if isinstance(fast, z2g.Tensor):
                assert fast.dtype == plain.dtype and (fast.numel() == 0 or fast.array.strides == plain.array.strides)
                fast, plain = host(fast), host(plain)
            np.testing.assert_allclose(fast, plain, rtol=10 * CLOSE[dtype], atol=CLOSE[dtype])


@pytest.mark.parametrize(("dtype", "special"), [*((d, False) for d in CLOSE), ("float32", True), ("float64", True)])
def test_fast_and_plain_clipping_agree(device: str, monkeypatch: pytest.MonkeyPatch, dtype: str, special: bool) -> None:
    for i in range(20):
        rng = np.random.default_rng(i)
        grads = [numbers(rng, sizes(rng, rng.integers(3)), dtype, SPECIAL if special else ()) * 100 for _ in range(3)]
        found = []
        for clip in (updates.FORMS, vars(TEXT)):
            for name in updates.FORMS:
                monkeypatch.setattr(optimizers, name, clip[name])
            ps = [z2g.zeros_like(g).requires_grad_() for g in grads]
            for p, g in zip(ps, grads, strict=True):
                p.grad = g.detach().clone()
            found.append([optimizers.clip_grad_norm_(ps, 2.5), *(p.grad for p in ps)])
        for fast, plain in zip(*found, strict=True):
            assert fast.dtype == plain.dtype and fast.shape == plain.shape
            np.testing.assert_allclose(host(fast), host(plain), rtol=CLOSE[dtype], atol=1e-6)
