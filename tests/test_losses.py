"""Every argument of every loss: what is accepted gives the number of the definition, all else is refused by name.

Shapes, dtypes and ranges are drawn, right and wrong ones; `allowed` below says in a few lines what the rules are (those
of torch 2.13, but for what API.md names). A loss that reshapes, broadcasts or converts in silence fails here.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numeric import host

import tinygrad_z2g as z2g
from tinygrad_z2g import nn
from tinygrad_z2g.nn import functional as F

REDUCTIONS = st.sampled_from(["mean", "sum", "none"])
FLOATS = ["float16", "float32", "float64"]
DTYPES = [*FLOATS, "int64", "int32", "int8", "uint8", "bool"]
MOSTLY_FLOAT = st.sampled_from([*["float32"] * 6, *DTYPES])
PAIRWISE = {"mse_loss": nn.MSELoss, "l1_loss": nn.L1Loss, "binary_cross_entropy": nn.BCELoss,
            "binary_cross_entropy_with_logits": nn.BCEWithLogitsLoss}  # fmt: skip
CLASSES = {"cross_entropy": nn.CrossEntropyLoss, "nll_loss": nn.NLLLoss}


def reduced(losses: np.ndarray, reduction: str) -> Any:
    with np.errstate(all="ignore"):
        return {"mean": lambda: losses.sum() / losses.size, "sum": losses.sum, "none": lambda: losses}[reduction]()


def category(dtype: str) -> int:
    return {"b": 0, "u": 1, "i": 1, "f": 2}[np.dtype(dtype).kind]


def bent(shape: tuple) -> st.SearchStrategy:
    """The shape itself, or one that a careless loss would reshape or broadcast to it."""
    others = [shape, shape[::-1], (*shape, 1), (1, *shape), shape[1:], shape[:-1], (1,) * len(shape), (), (2, *shape)]
    others += [(*shape[:i], 1, *shape[i + 1:]) for i in range(len(shape))]
    others += [(*shape[:i], shape[i] + 1, *shape[i + 1:]) for i in range(len(shape))]
    others.append((math.prod(shape),))
    return st.sampled_from([shape] * len(others) + others)


def outcome(call: Any, allowed: bool, expected: Any, name: str, dtype: Any, halves: bool = False) -> None:
    """`call()` gives the expected number if this is allowed, and else an error that begins with the loss's name."""
    if not allowed:
        with pytest.raises((ValueError, RuntimeError, TypeError, IndexError), match=f"^'?({name}|sub)"):
            call()
        return
    loss = call()
    assert loss.dtype == dtype and loss.shape == np.shape(expected())
    tolerance = 1e-2 if halves else 1e-4
    np.testing.assert_allclose(host(loss), expected(), rtol=tolerance, atol=tolerance)


# --- Two tensors of one shape ------------------------------------------------------------------------------------


def pairwise(name: str, x: np.ndarray, t: np.ndarray, weight: Any, pos_weight: Any, reduction: str) -> Any:
    x, t = x.astype(float), t.astype(float)
    w, p = (np.array(1.0) if v is None else v.astype(float) for v in (weight, pos_weight))
    if name == "binary_cross_entropy_with_logits":
        x = 1 / (1 + np.exp(-x))
    losses = {
        "mse_loss": lambda: (x - t) ** 2, "l1_loss": lambda: np.abs(x - t),
    }.get(name, lambda: w * -(p * t * np.log(x) + (1 - t) * np.log(1 - x)))()  # fmt: skip
    return reduced(losses, reduction)


@st.composite
def pairs(draw: Any, name: str) -> tuple:
    shape = draw(st.sampled_from([(), (3,), (2, 3), (3, 1), (0, 2), (2, 1, 3)]))
    shapes = {"input": shape, "target": draw(bent(shape))}
    dtypes = {"input": draw(MOSTLY_FLOAT), "target": draw(MOSTLY_FLOAT)}
    for extra in ("weight", "pos_weight"):
        if name.startswith("binary") and (extra == "weight" or name.endswith("logits")) and draw(st.booleans()):
            shapes[extra], dtypes[extra] = draw(bent(shape)), draw(MOSTLY_FLOAT)

    def array(which: str) -> np.ndarray:
        n = np.arange(math.prod(shapes[which])).reshape(shapes[which])
        if which.endswith("weight"):
            return np.asarray(n % 3 + 1, dtypes[which])
        if category(dtypes[which]) < 2:
            return np.asarray(n % 2, dtypes[which])
        return np.asarray((n + len(which)) % 7 / 8 + 1 / 16, dtypes[which])

    return {which: array(which) for which in shapes}, draw(REDUCTIONS)


def pair_allowed(name: str, given: dict) -> bool:
    x, t = given["input"], given["target"]
    if x.shape != t.shape:
        return False
    for extra in ("weight", "pos_weight"):
        if extra in given:
            w = given[extra].shape
            if len(w) > x.ndim or any(m not in (1, n) for m, n in zip(w[::-1], x.shape[::-1], strict=False)):
                return False
            if extra == "pos_weight" and given[extra].dtype == bool:
                return False
    floats = [category(a.dtype) == 2 for a in (x, t)]
    if name == "mse_loss":
        return any(floats)
    if name == "l1_loss":  # a difference of bools is none
        return any(floats) and bool not in (x.dtype, t.dtype)
    return all(floats) and (name.endswith("logits") or x.dtype == t.dtype)


@pytest.mark.parametrize("name", PAIRWISE)
@given(data=st.data())
def test_two_tensors_of_one_shape(name: str, data: Any) -> None:
    arrays, reduction = data.draw(pairs(name))
    if name == "l1_loss" and not any(category(a.dtype) == 2 for a in arrays.values()):
        return  # of integers torch takes the sum, not the mean
    tensors = {which: z2g.tensor(a) for which, a in arrays.items()}
    weights = {which: arrays.get(which) for which in ("weight", "pos_weight")}
    x, t = arrays["input"], arrays["target"]
    a, b = (v.dtype for v in (x, t))
    dtype = np.promote_types(a, b) if category(a) == category(b) else a if category(a) > category(b) else b
    allowed, layer = pair_allowed(name, arrays), data.draw(st.booleans())

    def call() -> Any:
        if not layer:
            return getattr(F, name)(**tensors, reduction=reduction)
        extra = {k: v for k, v in tensors.items() if k.endswith("weight")}
        return PAIRWISE[name](**extra, reduction=reduction)(tensors["input"], tensors["target"])

    halves = any(array.dtype == np.float16 for array in arrays.values())
    outcome(call, allowed, lambda: pairwise(name, x, t, *weights.values(), reduction), name, dtype, halves)


@pytest.mark.parametrize("wrong", [2.0, -1.0, 1.001, -0.001, math.nan, math.inf])
@pytest.mark.parametrize("which", ["input", "target"])
def test_probabilities_are_between_0_and_1(wrong: float, which: str) -> None:
    arguments = {"input": z2g.tensor([0.5, 0.5]), "target": z2g.tensor([0.5, 1.0])} | {which: z2g.tensor([0.5, wrong])}
    with pytest.raises(RuntimeError, match=f"{which} must be probabilities"):
        F.binary_cross_entropy(**arguments)


def test_a_bool_target_counts_as_0_and_1(device: str) -> None:
    x = z2g.tensor([2.0, 2.0], requires_grad=True)
    loss = F.mse_loss(x, z2g.tensor([True, False]))
    loss.backward()
    assert loss.item() == 2.5 and x.grad.tolist() == [1, 2]
    assert F.mse_loss(z2g.tensor([True, False]), x).item() == 2.5


# --- Scores and classes ------------------------------------------------------------------------------------------


@st.composite
def labels(draw: Any, name: str) -> dict:
    shape = draw(st.sampled_from([(3,), (4, 3), (1, 3), (3, 3), (4, 3, 2), (2, 3, 2, 2), (0, 3), (3, 4, 3), ()]))
    right = shape[:1] + shape[2:] if len(shape) > 1 else ()
    classes = shape[min(1, len(shape) - 1)] if shape else 0
    target_shape = draw(bent(right) | st.just(right) | st.just(shape))
    soft = target_shape == shape
    usual = [*["float32"] * 4, "float64", "int64"] if soft else [*["int64"] * 6, "uint8", *DTYPES]
    dtype = draw(st.sampled_from(usual))
    made = {"input": -(np.arange(math.prod(shape)).reshape(shape) % 5) - 0.5}
    made["input"] = made["input"].astype(draw(st.sampled_from([*["float32"] * 5, "float64", "int64", "bool"])))
    n = np.arange(math.prod(target_shape)).reshape(target_shape)
    made["target"] = np.array(n % 4 / 4 if dtype in FLOATS else n % 3).astype(dtype)
    if draw(st.booleans()):
        wrong = [(classes,)] * 8 + [(classes + 1,), (1,), (), (classes, 1), (1, classes), (max(classes - 1, 0),)]
        w = draw(st.sampled_from(wrong))
        made["weight"] = np.arange(1, math.prod(w) + 1).reshape(w).astype(draw(MOSTLY_FLOAT))
    made["ignore_index"] = draw(st.sampled_from([-100, -100, -100, -1, 0, 1]))
    made["reduction"] = draw(REDUCTIONS)
    if name == "cross_entropy":
        made["label_smoothing"] = draw(st.sampled_from([0.0, 0.0, 0.25, 1.0, 1]))
    return made


def classes_allowed(name: str, given: dict) -> bool:
    x, t, w = given["input"], given["target"], given.get("weight")
    right = x.shape[:1] + x.shape[2:] if x.ndim > 1 else ()
    if not x.ndim or category(x.dtype) < 2:
        return False
    soft = name == "cross_entropy" and t.shape == x.shape
    if w is not None and (w.shape != (x.shape[min(1, x.ndim - 1)],) or (not soft and w.dtype != x.dtype)):
        return False
    if soft:
        return category(t.dtype) == 2 and given["ignore_index"] < 0
    return t.shape == right and t.dtype in (np.int64, np.uint8)


def classes_expected(name: str, given: dict) -> Any:
    x, t = given["input"].astype(float), given["target"]
    if x.ndim == 1:
        x, t = x[None], t[None]
    C = x.shape[1]
    rows = np.moveaxis(x, 1, -1)  # (N, ..., C)
    soft = name == "cross_entropy" and t.shape == x.shape
    logp = rows if name == "nll_loss" else rows - np.log(np.exp(rows).sum(-1, keepdims=True))
    w = np.ones(C) if given.get("weight") is None else given["weight"].astype(float)
    smoothing = given.get("label_smoothing", 0)
    counted = np.ones(rows.shape[:-1]) if soft else (t != given["ignore_index"]).astype(float)
    hot = np.moveaxis(t, 1, -1).astype(float) if soft else np.eye(C)[t.astype(int) * counted.astype(int)]
    losses = -((hot * (1 - smoothing) + smoothing / C) * w * logp).sum(-1) * counted
    if given["reduction"] != "mean":
        losses = losses.reshape(() if given["input"].ndim == 1 else losses.shape)
        return reduced(losses, given["reduction"])
    with np.errstate(all="ignore"):
        return np.float64(losses.sum()) / (counted.size if soft else (hot @ w * counted).sum())


@pytest.mark.parametrize("name", CLASSES)
@given(data=st.data())
def test_scores_and_classes(name: str, data: Any) -> None:
    given = data.draw(labels(name))
    arguments = {k: z2g.tensor(v) if isinstance(v, np.ndarray) else v for k, v in given.items()}
    x, t, w = given["input"], given["target"], given.get("weight")
    dtype = x.dtype
    if classes_allowed(name, given) and t.shape == x.shape:  # probabilities, and their weights, may be wider
        for other in (t, w):
            dtype = dtype if other is None or category(other.dtype) < 2 else np.promote_types(dtype, other.dtype)
    layer = data.draw(st.booleans())

    def call() -> Any:
        if not layer:
            return getattr(F, name)(**arguments)
        rest = {k: v for k, v in arguments.items() if k not in ("input", "target")}
        return CLASSES[name](**rest)(arguments["input"], arguments["target"])

    outcome(call, classes_allowed(name, given), lambda: classes_expected(name, given), name, dtype)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("shape", [(4, 1), (4, 3), (1, 4), (3,), (), (4, 1, 1)], ids=str)
def test_integer_targets_of_another_shape_are_not_reshaped(shape: tuple, smoothing: float) -> None:
    with pytest.raises((ValueError, RuntimeError), match="cross_entropy"):
        F.cross_entropy(z2g.zeros(4, 3), z2g.zeros(*shape, dtype=z2g.int64), label_smoothing=smoothing)


@pytest.mark.parametrize("shape", [(4, 3, 2), (2, 3, 2, 2)], ids=str)
def test_a_wrong_shape_is_either_error(shape: tuple) -> None:
    """torch raises ValueError for another number of samples, RuntimeError for the rest; both words catch it here."""
    for error in (ValueError, RuntimeError):
        with pytest.raises(error):
            F.nll_loss(z2g.zeros(*shape), z2g.zeros(5, dtype=z2g.int64))


# --- All losses --------------------------------------------------------------------------------------------------


def good(name: str) -> dict:
    if name in CLASSES:
        return {"input": z2g.zeros(2, 3) - 1, "target": z2g.tensor([0, 2])}
    return {"input": z2g.full((2, 3), 0.5), "target": z2g.full((2, 3), 0.25)}


def arguments_of(name: str) -> list[str]:
    extra = {"cross_entropy": ["weight"], "nll_loss": ["weight"], "binary_cross_entropy": ["weight"],
             "binary_cross_entropy_with_logits": ["weight", "pos_weight"]}  # fmt: skip
    return ["input", "target", *extra.get(name, [])]


@pytest.mark.parametrize("wrong", [1.0, [0, 1], "text", None, np.float32(1), np.zeros((2, 3), np.float32)], ids=repr)
@pytest.mark.parametrize("name, argument", [(n, a) for n in (*PAIRWISE, *CLASSES) for a in arguments_of(n)])
def test_what_is_no_tensor_is_refused(name: str, argument: str, wrong: Any) -> None:
    if wrong is None and argument.endswith("weight"):
        return
    with pytest.raises(TypeError, match=f"{name}.*Tensor"):
        getattr(F, name)(**good(name) | {argument: wrong})


@pytest.mark.parametrize("name, setting, wrong, error", [
    *[(n, "reduction", w, ValueError) for n in (*PAIRWISE, *CLASSES) for w in ("average", "Mean", "", None, 1)],
    *[(n, "ignore_index", w, TypeError) for n in CLASSES for w in (1.0, None, "0", True)],
    *[("cross_entropy", "label_smoothing", w, TypeError) for w in (None, "0.1", [0.1])],
    *[("cross_entropy", "label_smoothing", w, RuntimeError) for w in (-0.1, 1.1, math.nan, math.inf)],
], ids=str)  # fmt: skip
def test_settings_that_are_refused(name: str, setting: str, wrong: Any, error: type) -> None:
    with pytest.raises(error, match=name):
        getattr(F, name)(**good(name) | {setting: wrong})


@pytest.mark.parametrize("name, argument", [(n, a) for n in (*PAIRWISE, *CLASSES) for a in arguments_of(n)[1:]])
def test_tensors_of_another_device_are_refused(name: str, argument: str) -> None:
    import fakecupy

    shapes = {"weight": (3,), "pos_weight": (3,)}
    with fakecupy.installed():
        given = good(name)
        value = given.get(argument, z2g.ones(*shapes.get(argument, ())))
        with pytest.raises(RuntimeError, match="one device"):
            getattr(F, name)(**given | {argument: value.to("cuda")})
