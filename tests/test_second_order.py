"""Derivatives of derivatives: walks that are recorded (`create_graph=True`), and walks through those.

The judge of every operation is `check_grad_twice` of `numeric.py`, which measures second derivatives with plain walks.
"""

from __future__ import annotations

import contextlib
import gc
import math
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from drawn import holds
from hypothesis import settings
from numeric import check_along, check_grad_twice, host
from op_table import TABLE, Op
from strategies import Case
from test_ops import bind

import tinygrad_z2g as z2g
import tinygrad_z2g.nn.functional as F
from tinygrad_z2g import Tensor, gradgradcheck, nn
from tinygrad_z2g.autograd import Function, grad
from tinygrad_z2g.core.engine import record
from tinygrad_z2g.tools.gradcheck import GradcheckError
from tinygrad_z2g.tools.gradcheck.cases import cases
from tinygrad_z2g.tools.gradcheck.twice import gradient_of

FEW = max(3, settings().max_examples // 5)


# --- Every operation, every layer ---------------------------------------------------------------------------------


NOT_TWICE = {
    "F.ctc_loss": "NaN where a path is impossible, exp(-inf - -inf); torch refuses it",
    "corrcoef": "its clamp is at its kink where two rows are proportional",
    "det, singular": "the second derivative is computed by the inverse, which refuses",
}


@pytest.mark.parametrize("op", [op for op in TABLE if op.name not in NOT_TWICE], ids=lambda op: op.name)
def test_second_derivatives(op: Op) -> None:
    """Of every row of the table, over its random shapes."""

    def check(case: Case, seed: int) -> None:
        check_grad_twice(bind(op, case), case.inputs, seed)

    holds(op, check, FEW, again="test_second_order.twice")


def test_the_second_derivative_of_sinc_at_0() -> None:
    """sin(π x) / (π x) = 1 - (π x)² / 6 + ..."""
    x = leaf([0.0, 1.0])
    (slope,) = grad(z2g.sinc(x).sum(), x, create_graph=True)
    (second,) = grad(slope.sum(), x)
    np.testing.assert_allclose(second.tolist(), [-(math.pi**2) / 3, 2.0], rtol=1e-12)


def twice(name: str, case: Case, seed: int) -> None:
    """One example of `test_second_derivatives` once more."""
    check_grad_twice(bind(next(op for op in TABLE if op.name == name), case), case.inputs, seed)


CASES = [case for case in cases() if case[0] not in NOT_TWICE]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_second_derivatives_of_every_case(case: tuple) -> None:
    """Of every operation and layer that the command checks, parameters included."""
    _, fn, inputs = case
    gradient, everything = gradient_of(fn, inputs)
    assert not gradient.differs(everything)
    check_along(gradient, everything)


def numbers(case: tuple) -> int:
    """How many a case is differentiated by."""
    _, fn, inputs = case
    own = fn.parameters() if isinstance(fn, nn.Module) else []
    return sum(x.numel() for x in [*inputs, *own] if isinstance(x, Tensor) and x.requires_grad)


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=case[0], marks=[pytest.mark.slow] if numbers(case) > 40 else []) for case in CASES],
)
def test_gradgradcheck_of_every_case(case: tuple) -> None:
    """Once more, element by element, as `--order 2` does. Of the largest it takes 15 s."""
    _, fn, inputs = case
    assert gradgradcheck(fn, inputs)


ON_EVERY_DEVICE = ("mul", "div", "pow", "where", "sum", "var", "amax", "softmax", "log_softmax", "matmul", "einsum",
                   "permute", "x[index]", "x[index] = v", "gather", "cat", "cumsum", "sort", "F.gelu", "F.linear",
                   "F.cross_entropy", "F.layer_norm", "F.rms_norm", "F.embedding", "F.conv1d", "F.max_pool1d",
                   "F.attention", "lstm_scan")  # fmt: skip


@pytest.mark.parametrize("name", ON_EVERY_DEVICE)
def test_second_derivatives_on_every_device(name: str, device: str) -> None:
    """Rules that get tensors use nothing of NumPy's on CuPy's arrays."""
    op = next(op for op in TABLE if op.name == name)

    def check(case: Case, seed: int) -> None:
        check_grad_twice(bind(op, case, device=device), case.inputs, seed, device)

    holds(op, check, 2)


# --- gradgradcheck itself -----------------------------------------------------------------------------------------


def leaf(values: Any, dtype: Any = z2g.float64) -> Tensor:
    """A tensor that requires grad."""
    return z2g.tensor(values, dtype=dtype, requires_grad=True)


def cubed(factor: float, wrong_forward: float = 1.0) -> Callable[[Tensor], Tensor]:
    """x³ with the rule 3 x²; in recorded walks with a second derivative that is `factor` times the right one."""

    def slope(grad: Any, x: Any) -> Any:
        if not isinstance(x, Tensor):
            return grad * 3 * x * x * wrong_forward
        value = grad * 3 * x * x
        return value * factor - (value * (factor - 1)).detach()

    return lambda x: record("cubed", x.array**3, (x, slope, x))


def test_gradgradcheck_sees_a_wrong_second_derivative() -> None:
    x = leaf([0.5, -1.5])
    assert gradgradcheck(cubed(1.0), x)
    with pytest.raises(GradcheckError, match=r"gradgradcheck: gradient of .*input 0 of shape \(2,\)"):
        gradgradcheck(cubed(1.001), x)
    assert gradgradcheck(cubed(1.001), x, raise_exception=False) is False
    assert gradgradcheck(cubed(1.001), x, rtol=1e-2)


def test_slopes_along_a_direction_see_a_wrong_second_derivative() -> None:
    x, v = leaf([0.5, -1.5]), leaf([1.0, 2.0])
    check_along(*gradient_of(cubed(1.0), x, v))
    with pytest.raises(AssertionError, match=r"input 0 of shape \(2,\): along a random direction"):
        check_along(*gradient_of(cubed(1.001), x, v))
    assert x.tolist() == [0.5, -1.5]


def test_gradgradcheck_sees_a_recorded_walk_that_differs_from_a_plain_one() -> None:
    with pytest.raises(GradcheckError, match="not that of a plain one"):
        gradgradcheck(cubed(1.0, wrong_forward=1.5), leaf([0.5, -1.5]))


def test_gradgradcheck_sees_a_gradient_without_history() -> None:
    """A rule that computes outside of the graph is right once, and 0 the second time."""

    def forgetful(x: Tensor) -> Tensor:
        def rule(grad: Any, x: Any) -> Any:
            return (grad * 2 * x).detach() if isinstance(grad, Tensor) else grad * 2 * x

        return record("forgetful", x.array**2, (x, rule, x))

    with pytest.raises(GradcheckError, match="analytic 0, measured"):
        gradgradcheck(forgetful, leaf([0.5, -1.5]))


def test_gradgradcheck_takes_what_gradcheck_takes() -> None:
    x, v = leaf([[0.5, -1.5]]), leaf([[1.0, 2.0]])
    assert gradgradcheck(lambda x: x.exp(), [x], v)
    assert gradgradcheck(lambda x: (x.exp(), x.sin().sum()), (x,), [v, leaf(3.0)])
    assert gradgradcheck(lambda x: (x.exp(), x.sign().long()), x)
    assert gradgradcheck(lambda x: x.sign(), x)  # constant: no history
    layer = nn.Linear(2, 2).double()
    assert gradgradcheck(nn.Sequential(layer, nn.Tanh()), x.detach())
    assert layer.weight.grad is None and x.grad is None and x.tolist() == [[0.5, -1.5]]
    with z2g.no_grad():
        assert gradgradcheck(lambda x: x.exp(), x)
    with pytest.raises(RuntimeError, match=r"have the shapes \[\(2,\)\], the outputs that require grad \[\(1, 2\)\]"):
        gradgradcheck(lambda x: x.exp(), x, leaf([1.0, 2.0]))
    with pytest.raises(ValueError, match="no input requires grad"):
        gradgradcheck(lambda x: x.exp(), x.detach())
    with pytest.raises(ValueError, match="no output requires grad"):
        gradgradcheck(lambda x: x.detach(), x)
    with pytest.raises(ValueError, match="float64"):
        gradgradcheck(lambda x: x.exp(), x.detach().float().requires_grad_())
    with pytest.raises(TypeError, match="expected a function"):
        gradgradcheck(x, x)
    with pytest.raises(TypeError, match="sequence of inputs, got int"):
        gradgradcheck(lambda x: x, 3)


# --- Fused routines against the same, composed ---------------------------------------------------------------------


def rows(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers that require grad."""
    return leaf(np.random.default_rng(seed).normal(size=shape))


def centred(x: Tensor, dims: Any) -> Tensor:
    return x - x.mean(dims, keepdim=True)


def composed_layer_norm(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    c = centred(x, -1)
    return c / ((c * c).mean(-1, keepdim=True) + 1e-5).sqrt() * w + b


def composed_attention(q: Tensor, k: Tensor, v: Tensor, allowed: Any = None, groups: int = 1, kept: Any = 1) -> Tensor:
    if groups > 1:
        k, v = k.repeat_interleave(groups, -3), v.repeat_interleave(groups, -3)
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    if allowed is not None:
        scores = z2g.where(allowed, scores, -1e300)
    e = (scores - scores.detach().amax(-1, keepdim=True)).exp()
    return e / e.sum(-1, keepdim=True) * kept @ v


def composed_lstm(x: Tensor, h: Tensor, c: Tensor, w: Tensor) -> Tensor:
    hs = []
    for t in range(len(x)):
        s = x[t] + h @ w.t()
        i, f, g, o = (s[:, k * 2 : k * 2 + 2] for k in range(4))
        c = 1 / (1 + (-f).exp()) * c + 1 / (1 + (-i).exp()) * g.tanh()
        h = 1 / (1 + (-o).exp()) * c.tanh()
        hs.append(h)
    return z2g.cat([*hs, c])


def composed_gelu(x: Tensor, approximate: str) -> Tensor:
    if approximate == "none":
        return 0.5 * x * (1 + (x / math.sqrt(2)).erf())
    return 0.5 * x * (1 + (math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)).tanh())


def composed_conv1d(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """Stride 2, padding 1."""
    x = z2g.cat([x[:, :, :1] * 0, x, x[:, :, :1] * 0], 2)
    seen = [x[:, :, 2 * t : 2 * t + 3].reshape(2, 6) for t in range(3)]
    return z2g.stack([s @ w.reshape(3, 6).t() + b for s in seen], 2)


def composed_conv2d(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    seen = [[x[:, :, i : i + 2, j : j + 2].reshape(1, 8) for j in range(3)] for i in range(2)]
    return z2g.stack([z2g.stack([s @ w.reshape(2, 8).t() + b for s in row], 2) for row in seen], 2)


def composed_cross_entropy(x: Tensor, target: Tensor, smoothing: float) -> Tensor:
    logs = x - x.exp().sum(1, keepdim=True).log()
    hot = F.one_hot(target, 4).double()
    return -(logs * (hot * (1 - smoothing) + smoothing / 4)).sum(1).mean()


MASK = np.array([[1, 0, 1, 1], [0, 1, 1, 0], [1, 1, 1, 1]], bool)


def dropped_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    z2g.manual_seed(3)
    return F.scaled_dot_product_attention(q, k, v, dropout_p=0.4)


def what_was_kept(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Equal scores and the identity as values show the mask."""
    return dropped_attention(q.detach() * 0, k.detach() * 0, z2g.eye(4, dtype=z2g.float64).expand(2, 4, 4)) * 4


Q, K, V = (2, 3, 2), (2, 4, 2), (2, 4, 3)
FUSED: dict[str, tuple] = {
    "layer_norm": (lambda x, w, b: F.layer_norm(x, (4,), w, b), composed_layer_norm, [(3, 4), (4,), (4,)]),
    "rms_norm": (lambda x, w: F.rms_norm(x, (4,), w, 1e-6),
                 lambda x, w: x / ((x * x).mean(-1, keepdim=True) + 1e-6).sqrt() * w, [(3, 4), (4,)]),
    "softmax": (lambda x: x.softmax(1), lambda x: x.exp() / x.exp().sum(1, keepdim=True), [(2, 3, 2)]),
    "log_softmax": (lambda x: x.log_softmax(1), lambda x: x - x.exp().sum(1, keepdim=True).log(), [(2, 3, 2)]),
    "logsumexp": (lambda x: x.logsumexp(1), lambda x: x.exp().sum(1).log(), [(3, 4)]),
    "cross_entropy": (lambda x: F.cross_entropy(x, z2g.tensor([1, 3])),
                      lambda x: composed_cross_entropy(x, z2g.tensor([1, 3]), 0.0), [(2, 4)]),
    "cross_entropy, smoothed": (lambda x: F.cross_entropy(x, z2g.tensor([1, 3]), label_smoothing=0.2),
                                lambda x: composed_cross_entropy(x, z2g.tensor([1, 3]), 0.2), [(2, 4)]),
    "attention": (F.scaled_dot_product_attention, composed_attention, [Q, K, V]),
    "attention, mask": (lambda q, k, v: F.scaled_dot_product_attention(q, k, v, z2g.tensor(MASK)),
                        lambda q, k, v: composed_attention(q, k, v, z2g.tensor(MASK)), [Q, K, V]),
    "attention, added mask": (
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, z2g.tensor(np.where(MASK, 0.0, -math.inf))),
        lambda q, k, v: composed_attention(q, k, v, z2g.tensor(MASK)), [Q, K, V]),
    "attention, causal": (
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
        lambda q, k, v: composed_attention(q, k, v, z2g.tensor(np.tri(4, dtype=bool))), [K, K, V]),
    "attention, grouped": (
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, enable_gqa=True),
        lambda q, k, v: composed_attention(q, k, v, groups=2), [(4, 3, 2), K, V]),
    "attention, dropout": (
        dropped_attention, lambda q, k, v: composed_attention(q, k, v, kept=what_was_kept(q, k, v)), [Q, K, V]),
    "gelu": (F.gelu, lambda x: composed_gelu(x, "none"), [(3, 4)]),
    "gelu, tanh": (lambda x: F.gelu(x, "tanh"), lambda x: composed_gelu(x, "tanh"), [(3, 4)]),
    "bias_gelu": (F.bias_gelu, lambda x, b: composed_gelu(x + b, "none"), [(3, 4), (4,)]),
    "bias_gelu, tanh": (lambda x, b: F.bias_gelu(x, b, "tanh"), lambda x, b: composed_gelu(x + b, "tanh"),
                        [(3, 4), (4,)]),
    "lstm": (lambda *xs: z2g.cat([nn.recurrent.lstm_scan(*xs)[0].reshape(6, 2), nn.recurrent.lstm_scan(*xs)[1]]),
             composed_lstm, [(3, 2, 8), (2, 2), (2, 2), (8, 2)]),
    "conv1d": (lambda x, w, b: F.conv1d(x, w, b, 2, 1), composed_conv1d, [(2, 2, 5), (3, 2, 3), (3,)]),
    "conv2d": (F.conv2d, composed_conv2d, [(1, 2, 3, 4), (2, 2, 2, 2), (2,)]),
    "max_pool1d": (lambda x: F.max_pool1d(x, 2), lambda x: z2g.maximum(x[:, 0::2], x[:, 1::2]), [(3, 4)]),
    "max_pool2d": (lambda x: F.max_pool2d(x, (1, 2)),
                   lambda x: z2g.maximum(x[..., 0::2], x[..., 1::2]), [(1, 2, 3, 4)]),
    "avg_pool1d": (lambda x: F.avg_pool1d(x, 2), lambda x: (x[:, 0::2] + x[:, 1::2]) / 2, [(3, 4)]),
    "std": (lambda x: x.std(1), lambda x: (centred(x, 1).square().sum(1) / 3).sqrt(), [(3, 4)]),
    "var": (lambda x: x.var(0), lambda x: centred(x, 0).square().sum(0) / 2, [(3, 4)]),
    "norm": (lambda x: x.norm(dim=1), lambda x: x.square().sum(1).sqrt(), [(3, 4)]),
    "mse_loss": (F.mse_loss, lambda x, y: (x - y).square().mean(), [(3, 4), (3, 4)]),
    "linear": (F.linear, lambda x, w, b: (x[:, :, None] * w.t()).sum(1) + b, [(3, 4), (2, 4), (2,)]),
}  # fmt: skip


def derivatives(fn: Callable, sizes: list) -> list[np.ndarray]:
    """The result, the first and the second derivatives of a function whose last result is squashed, so that no second
    derivative of it vanishes."""
    xs = [rows(*size, seed=i) for i, size in enumerate(sizes)]
    z = fn(*xs)
    w = z2g.tensor(np.random.default_rng(9).normal(size=z.shape))
    first = grad((z.sin() * w).sum(), xs, create_graph=True)
    ws = [z2g.tensor(np.random.default_rng(20 + i).normal(size=size)) for i, size in enumerate(sizes)]
    second = grad(first, xs, ws)
    return [host(x) for x in (z, *first, *second)]


@pytest.mark.parametrize("name", FUSED)
def test_fused_and_composed_agree_to_the_last_digits(name: str) -> None:
    fused, composed, sizes = FUSED[name]
    for a, b in zip(derivatives(fused, sizes), derivatives(composed, sizes), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)
        assert np.abs(a).max() > 1e-3  # nothing is compared with nothing


# --- Higher orders -------------------------------------------------------------------------------------------------

THIRD = {  # f: (point, f''' there)
    "exp": (0.5, math.exp(0.5)),
    "log": (0.5, 16.0),
    "sin": (0.3, -math.cos(0.3)),
    "cos": (0.3, math.sin(0.3)),
    "tan": (0.3, 2 * (1 + 3 * math.tan(0.3) ** 2) * (1 + math.tan(0.3) ** 2)),
    "sinh": (0.3, math.cosh(0.3)),
    "cosh": (0.3, math.sinh(0.3)),
    "tanh": (0.3, (6 * math.tanh(0.3) ** 2 - 2) * (1 - math.tanh(0.3) ** 2)),
    "sqrt": (4.0, 3 / 8 * 4.0**-2.5),
    "rsqrt": (4.0, -15 / 8 * 4.0**-3.5),
    "reciprocal": (2.0, -6 / 16),
    "asin": (0.5, (1 + 2 * 0.25) / 0.75**2.5),
    "acos": (0.5, -(1 + 2 * 0.25) / 0.75**2.5),
    "atan": (0.5, (6 * 0.25 - 2) / 1.25**3),
    "log1p": (1.0, 2 / 8),
    "log2": (2.0, 2 / 8 / math.log(2)),
    "expm1": (0.5, math.exp(0.5)),
    "erf": (0.5, 2 / math.sqrt(math.pi) * math.exp(-0.25) * (4 * 0.25 - 2)),
}


@pytest.mark.parametrize("name", THIRD)
def test_third_derivatives(name: str) -> None:
    at, expected = THIRD[name]
    x = leaf(at)
    assert nth(getattr(z2g, name), x, 3) == pytest.approx(expected, rel=1e-12, abs=1e-14)


def test_sigmoid_gelu_and_powers_three_times() -> None:
    """σ''' = σ' (1 - 6 σ + 6 σ²); the others against differences of the second."""
    x = leaf(0.4)
    s = 1 / (1 + math.exp(-0.4))
    assert third(lambda x: x.sigmoid(), x) == pytest.approx(s * (1 - s) * (1 - 6 * s + 6 * s * s), rel=1e-12)
    assert third(lambda x: x**4, x) == pytest.approx(24 * 0.4)
    assert third(lambda x: x**-1.5, x) == pytest.approx(-1.5 * -2.5 * -3.5 * 0.4**-4.5)
    assert third(lambda x: 2**x, x) == pytest.approx(math.log(2) ** 3 * 2**0.4)
    for fn in (F.gelu, lambda x: F.gelu(x, "tanh"), F.silu, F.softplus):
        h = 1e-4
        up, down = (nth(fn, leaf(0.4 + step), 2) for step in (h, -h))
        assert third(fn, x) == pytest.approx((up - down) / (2 * h), rel=1e-6)


def nth(fn: Callable, x: Tensor, n: int) -> float:
    y = fn(x)
    for _ in range(n):
        (y,) = grad(y, x, create_graph=True)
    return y.item()


def third(fn: Callable, x: Tensor) -> float:
    return nth(fn, x, 3)


def test_the_tenth_derivative() -> None:
    """Of sin it is -sin, of x⁵ it is 0: the graph grows, the answer stays."""
    x = leaf([0.3, 0.7])
    y = x.sin()
    for _ in range(10):
        (y,) = grad(y.sum(), x, create_graph=True)
    np.testing.assert_allclose(y.tolist(), [-math.sin(0.3), -math.sin(0.7)], rtol=1e-12)


class Small(nn.Module):
    """Every kind of layer that language models have, 6 → 3."""

    def __init__(self) -> None:
        self.norm, self.up, self.attend = nn.LayerNorm(6), nn.Linear(6, 6), nn.MultiheadAttention(6, 2)
        self.down = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        h, _ = self.attend(h, h, h)
        return self.down(F.gelu(self.up(h)) + x)


def test_hessian_vector_products_against_differences_of_gradients() -> None:
    """H v = ∂<grad, v>/∂θ ≈ (grad(θ + h v) - grad(θ - h v)) / 2h, for all parameters of a model at once."""
    model = Small().double()
    x, target = rows(5, 2, 6).detach(), z2g.tensor(np.arange(10) % 3)
    params = list(model.parameters())
    rng = np.random.default_rng(1)
    vs = [z2g.tensor(rng.normal(size=p.shape)) for p in params]

    def gradient(create_graph: bool = False) -> tuple:
        loss = F.cross_entropy(model(x).reshape(10, 3), target)
        return grad(loss, params, create_graph=create_graph)

    product = grad(gradient(True), params, vs)
    h, sides = 1e-5, []
    for sign in (1, -1):
        with z2g.no_grad():
            for p, v in zip(params, vs, strict=True):
                p.add_(v * (sign * h))
        sides.append(gradient())
        with z2g.no_grad():
            for p, v in zip(params, vs, strict=True):
                p.sub_(v * (sign * h))
    for hv, up, down in zip(product, *sides, strict=True):
        np.testing.assert_allclose(host(hv), (host(up) - host(down)) / (2 * h), rtol=1e-5, atol=1e-8)


def test_a_hessian_is_symmetric_and_right() -> None:
    """f = x² y + sin y: H = ((2y, 2x), (2x, -sin y))."""
    p = leaf([1.5, 0.7])
    (g,) = grad(p[0].square() * p[1] + p[1].sin(), p, create_graph=True)
    hessian = [grad(g[i], p, retain_graph=True)[0].tolist() for i in range(2)]
    np.testing.assert_allclose(hessian, [[1.4, 3.0], [3.0, -math.sin(0.7)]], rtol=1e-12)


# --- The walk that is recorded --------------------------------------------------------------------------------------


def test_backward_with_create_graph_gives_gradients_with_a_history(device: str) -> None:
    x = leaf([1.0, 2.0])
    (x**3).sum().backward(create_graph=True)
    assert x.grad.tolist() == [3, 12] and x.grad.requires_grad and x.grad.grad_fn is not None
    (second,) = grad(x.grad.sum(), x)
    assert second.tolist() == [6, 12] and not second.requires_grad


def test_two_recorded_backwards_add_up_with_their_histories(device: str) -> None:
    x = leaf([1.0, 2.0])
    (x**3).sum().backward(create_graph=True)
    (x**2).sum().backward(create_graph=True)
    assert x.grad.tolist() == [5, 16]
    assert grad(x.grad.sum(), x)[0].tolist() == [8, 14]
    (x**2).sum().backward()  # a plain one on top, as in torch: added, with the history of the others or without
    assert x.grad.tolist() == [7, 20]


def test_a_gradient_penalty_reaches_the_parameters(device: str) -> None:
    """L = (‖∂f/∂x‖ - 1)², f = w · x: ‖w‖ = 5, so dL/dw = 2 (5 - 1) w / 5."""
    w, x = leaf([3.0, 4.0]), leaf([0.1, 0.2])
    (slope,) = grad((w * x).sum(), x, create_graph=True)
    (slope.norm() - 1).square().backward()
    np.testing.assert_allclose(w.grad.tolist(), [8 * 3 / 5, 8 * 4 / 5], rtol=1e-12)
    assert x.grad is None  # the slope of a linear function does not depend on where


def test_create_graph_keeps_the_graph_unless_told_not_to() -> None:
    """retain_graph is create_graph if left out, as in torch."""
    x = leaf(2.0)
    y = x**3
    grad(y, x, create_graph=True)
    assert grad(y, x)[0].item() == 12
    y = x**3
    (g,) = grad(y, x, create_graph=True, retain_graph=False)
    assert grad(g, x)[0].item() == 12
    with pytest.raises(RuntimeError, match="already used up"):
        grad(y, x)
    y = x**3
    y.backward(create_graph=True, retain_graph=False)
    with pytest.raises(RuntimeError, match="already used up"):
        y.backward()


def test_the_second_walk_uses_up_the_first_graph_too() -> None:
    x = leaf(2.0)
    y = (x**3).exp()
    (g,) = grad(y, x, create_graph=True)
    grad(g, x)
    with pytest.raises(RuntimeError, match="already used up"):
        grad(g, x)


def test_without_create_graph_a_gradient_has_no_history() -> None:
    x = leaf(2.0)
    (g,) = grad(x**3, x)
    assert not g.requires_grad
    with pytest.raises(RuntimeError, match="does not require grad"):
        grad(g, x)


def test_recording_goes_on_under_no_grad() -> None:
    """create_graph is the wish of the caller, as in torch; the mode outside stays."""
    x = leaf(2.0)
    y = x**3
    with z2g.no_grad():
        (g,) = grad(y, x, create_graph=True)
        assert not z2g.is_grad_enabled()
    assert g.requires_grad and grad(g, x)[0].item() == 12


def test_what_is_computed_under_no_grad_stays_constant() -> None:
    x = leaf(2.0)
    with z2g.no_grad():
        c = x * x
    (g,) = grad(c * x * x, x, create_graph=True)  # 4 x²
    assert g.item() == 16 and grad(g, x)[0].item() == 8


def test_the_gradient_to_start_with_is_an_input_like_any_other(device: str) -> None:
    x, v = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    (g,) = grad(x**2, x, v, create_graph=True)
    assert [p.tolist() for p in grad(g.sum(), [x, v])] == [[6, 8], [2, 4]]


def test_inputs_between_and_inputs_without_part() -> None:
    x, unused = leaf(2.0), leaf(1.0)
    h = x * x
    of_x, of_h, nothing = grad(h * h, [x, h, unused], create_graph=True, allow_unused=True)
    assert nothing is None and of_h.item() == 8 and of_x.item() == 32
    assert grad(of_h, x, retain_graph=True)[0].item() == 8  # 2 h = 2 x²
    assert grad(of_x, x)[0].item() == 48
    with pytest.raises(RuntimeError, match="do not depend on input 1"):
        grad((x * x) ** 2, [x, unused], create_graph=True)
    y = (x * 3) ** 2
    y.backward(create_graph=True, inputs=[x])
    assert x.grad.requires_grad and unused.grad is None


def test_a_constant_second_derivative_is_none_or_an_error_like_any_unused_input() -> None:
    x, y = leaf(2.0), leaf(3.0)
    (g,) = grad(x * y, x, create_graph=True)
    assert grad(g, [x, y], allow_unused=True)[0] is None


def test_hooks_are_part_of_the_recorded_walk(device: str) -> None:
    """They see tensors with a history, and what they return counts in the second walk: here a factor of 3."""
    x, seen = leaf([1.0, 2.0]), []

    def tripled(g: Tensor) -> Tensor:
        seen.append(g.requires_grad)
        return g * 3

    h = x * 1
    h.register_hook(tripled)
    (g,) = grad((h**3).sum(), x, create_graph=True)
    assert g.tolist() == [9, 36] and seen == [True]
    # the second walk passes the hook's factor, and the hook itself on the way from h to x
    assert grad(g.sum(), x)[0].tolist() == [18 * 3, 36 * 3]
    assert len(seen) == 2


def test_a_hook_of_a_leaf_in_a_recorded_walk() -> None:
    x = leaf(2.0)
    x.register_hook(lambda g: g * 10)
    (g,) = grad(x**3, x, create_graph=True)
    assert g.item() == 120
    assert grad(g, x)[0].item() == 1200


def test_retain_grad_keeps_a_gradient_with_a_history() -> None:
    x = leaf(2.0)
    h = x * x
    h.retain_grad()
    (h * h).backward(create_graph=True)
    assert h.grad.item() == 8 and h.grad.requires_grad
    assert grad(h.grad, x)[0].item() == 8


def test_accumulated_sums_are_recorded() -> None:
    """x is used three times: the parts are added out of place, in the graph."""
    x = leaf([0.5, -1.0])
    (g,) = grad((x * x * x + x * x + x.sin()).sum(), x, create_graph=True)
    expected = [6 * v + 2 - math.sin(v) for v in (0.5, -1.0)]
    np.testing.assert_allclose(grad(g.sum(), x)[0].tolist(), expected, rtol=1e-12)


# --- In place: versions ---------------------------------------------------------------------------------------------


def test_a_change_between_the_walks_is_noticed() -> None:
    """The second walk reads x, and so does the first."""
    for change_after in (0, 1):
        x = leaf([1.0, 2.0])
        h = x * 1
        y = (h.exp() * h * h).sum()
        if change_after == 0:
            h.mul_(2)
            with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                grad(y, x, create_graph=True)
        else:
            (g,) = grad(y, x, create_graph=True)
            h.mul_(2)
            with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                grad(g.sum(), x)


def test_a_change_of_a_leaf_between_the_walks_is_noticed() -> None:
    x = leaf([1.0, 2.0])
    (g,) = grad((x**3).sum(), x, create_graph=True)
    with z2g.no_grad():
        x.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        grad(g.sum(), x)


def test_a_change_of_the_gradient_is_noticed_where_it_is_read() -> None:
    x = leaf([1.0, 2.0])
    (g,) = grad((x**3).sum(), x, create_graph=True)
    z = (g * g).sum()
    g.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        grad(z, x)


@pytest.mark.parametrize("name", ["linear", "layer_norm", "attention", "lstm", "conv", "gelu"])
def test_a_change_of_what_fused_rules_read_is_noticed(name: str) -> None:
    leaves = rows(4, 4), rows(2, 4, 4, seed=1)
    w, x = leaves[0] * 1, leaves[1] * 1
    z = {
        "linear": lambda: F.linear(x, w),
        "layer_norm": lambda: F.layer_norm(x, (4,), w[0]),
        "attention": lambda: F.scaled_dot_product_attention(x, w.expand(2, 4, 4) * 1, x),
        "lstm": lambda: nn.recurrent.lstm_scan(x @ w, z2g.ones(4, 1, dtype=z2g.float64), x[0, :, :1] * 1, w[:, :1])[0],
        "conv": lambda: F.conv1d(x, w[:, :, None]),
        "gelu": lambda: F.gelu(x),
    }[name]()
    (w if name not in ("gelu", "attention") else x).mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        grad(z.sum(), leaves, create_graph=True, allow_unused=True)


@pytest.mark.fast  # the plain form keeps its scores, and computes nothing again
def test_a_change_of_a_mask_is_noticed_where_it_is_read() -> None:
    """A plain walk needs it no more; a recorded one computes the scores again."""
    mask = z2g.zeros(3, 4, dtype=z2g.float64)
    q, k, v = rows(*Q), rows(*K), rows(*V)
    z = F.scaled_dot_product_attention(q, k, v, mask).sum()
    mask.add_(1)
    grad(z, q, retain_graph=True)
    with pytest.raises(RuntimeError, match=r"attn_mask .* modified by an inplace operation"):
        grad(z, q, create_graph=True)


def written(x: Tensor, v: Tensor) -> Tensor:
    z = x * x
    z[0] = v * v
    z[1:].mul_(x[1:])
    return z.exp()


def through_a_view(x: Tensor, v: Tensor) -> Tensor:
    z = x * 1
    rows = z.view(-1)
    rows[1] = v.sum() ** 2
    part = z[0]
    part *= part.clone()
    return z.sin() * z


def before_and_after(x: Tensor, v: Tensor) -> Tensor:
    """A view taken before the write gets its history from the base (as_strided)."""
    z = x * x
    part = z[1]
    z.mul_(v.sum())
    return part * part


def gathered(x: Tensor, v: Tensor) -> Tensor:
    z = x * 1
    z[[1, 0]] = v.expand(2, 3) * x[[0, 1]]
    return z**3


IN_PLACE = {f.__name__: f for f in (written, through_a_view, before_and_after, gathered)} | {
    "add_": lambda x, v: (x * 1).add_(v * v) ** 2,
    "copy_": lambda x, v: (x * x).copy_(v * x).exp(),
    "masked_fill_": lambda x, v: (x * x).masked_fill_(z2g.tensor(MASK[:2, :3]), 2.0) ** 2,
    "index of a mask": lambda x, v: _masked(x, v) ** 2,
    "scatter_": lambda x, v: (x * x).scatter_(1, z2g.tensor([[2], [0]]), (v * v)[:2, None]).sin(),
    "transposed": lambda x, v: (x.t() * 1).mul_(x.t())[1:].contiguous().view(-1).exp(),
    "unfolded": lambda x, v: (x * x).reshape(3, 2).transpose(0, 1)[:, ::2].diagonal() ** 2,
    "not contiguous": lambda x, v: (x.t()[::2].exp() * v[::2, None]).t() ** 2,
}


def _masked(x: Tensor, v: Tensor) -> Tensor:
    z = x * x
    z[z2g.tensor(MASK[:2, :3])] = v.sum() ** 2
    return z


@pytest.mark.parametrize("name", IN_PLACE)
def test_writes_and_views_twice(name: str, device: str) -> None:
    rng = np.random.default_rng(2)
    used = name not in ("masked_fill_", "transposed", "unfolded")
    fn = IN_PLACE[name] if used else lambda x, v: IN_PLACE[name](x, v) * v[0]
    check_grad_twice(fn, [rng.normal(size=(2, 3)), rng.normal(size=3)], device=device)


# --- Dtypes, shapes, layouts ------------------------------------------------------------------------------------------


def test_mixed_dtypes(device: str) -> None:
    """float32 times float64: the gradient of each, of either order, has the dtype of its tensor."""
    a, b = leaf([1.0, 2.0], z2g.float32), leaf([3.0, 4.0])
    y = (a * b).exp().sum()
    of_a, of_b = grad(y, [a, b], create_graph=True)
    assert of_a.dtype == z2g.float32 and of_b.dtype == z2g.float64
    seconds = grad(of_a.sum() + of_b.sum().float(), [a, b])
    assert [s.dtype for s in seconds] == [z2g.float32, z2g.float64]
    e = np.exp([3.0, 8.0])
    a_, b_ = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    np.testing.assert_allclose(seconds[0].tolist(), e * (b_ * b_ + 1 + a_ * b_), rtol=1e-5)
    np.testing.assert_allclose(seconds[1].tolist(), e * (1 + a_ * b_ + a_ * a_), rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("name", ["matmul", "softmax", "layer_norm", "linear", "attention", "gelu", "conv1d", "lstm"])
def test_low_precision_stays_and_is_close(name: str, dtype: str) -> None:
    """First and second derivatives in float16 and float32 have that dtype, and differ from float64's by rounding."""
    fn, sizes = {
        "matmul": (lambda x, y: (x @ y).sin(), [(2, 3), (3, 2)]),
        "softmax": (lambda x: x.softmax(1), [(2, 3)]),
        "layer_norm": (lambda x, w: F.layer_norm(x, (4,), w), [(2, 4), (4,)]),
        "linear": (lambda x, w, b: F.linear(x, w, b).sin(), [(2, 3), (2, 3), (2,)]),
        "attention": (F.scaled_dot_product_attention, [(2, 3, 2), (2, 3, 2), (2, 3, 2)]),
        "gelu": (F.gelu, [(2, 3)]),
        "conv1d": (lambda x, w: F.conv1d(x, w).sin(), [(1, 2, 4), (2, 2, 2)]),
        "lstm": (lambda *xs: nn.recurrent.lstm_scan(*xs)[0], [(2, 1, 8), (1, 2), (1, 2), (8, 2)]),
    }[name]
    found = []
    for kind in (dtype, "float64"):
        xs = [rows(*size, seed=i).detach().to(getattr(z2g, kind)).requires_grad_() for i, size in enumerate(sizes)]
        z = fn(*xs)
        first = grad((z * z).sum(), xs, create_graph=True)
        second = grad(sum((g * g).sum() for g in first), xs)
        assert all(str(g.dtype) == kind for g in (*first, *second))
        found.append([host(g).astype(float) for g in (*first, *second)])
    for a, b in zip(*found, strict=True):
        assert np.abs(a - b).max() <= (3e-2 if dtype == "float16" else 1e-5) * max(1, np.abs(b).max())


@pytest.mark.parametrize("shape", [(), (0,), (2, 0), (1,), (1, 1, 3)])
def test_shapes(shape: tuple, device: str) -> None:
    rng = np.random.default_rng(0)
    check_grad_twice(lambda x: (x * x).sin() + x.exp(), [rng.normal(size=shape)], device=device)
    check_grad_twice(lambda x, y: x * y * y, [rng.normal(size=shape), rng.normal(size=())], device=device)
    check_grad_twice(
        lambda x, y: (x + y).exp(), [rng.normal(size=shape), rng.normal(size=(2, 1, *shape))], device=device
    )


# --- autograd.Function ---------------------------------------------------------------------------------------------


class Cube(Function):
    """x³, its backward made of tensor operations."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x * x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad * 3 * x * x


class Exp(Function):
    """It saves its result."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        z = x.exp()
        ctx.save_for_backward(z)
        return z

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * ctx.saved_tensors[0]


class ProductAndSum(Function):
    """Two results, two arguments, one of them in both."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, n: int) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x, y)
        ctx.n = n
        return x * y * n, x * x + y

    @staticmethod
    def backward(ctx: Any, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, None]:
        x, y = ctx.saved_tensors
        return a * y * ctx.n + b * 2 * x, a * x * ctx.n + b, None


class Reversed(Function):
    """A Function within the backward of a Function."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.exp()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * Exp.apply(ctx.saved_tensors[0])


def test_functions_of_ones_own_twice(device: str) -> None:
    rng = np.random.default_rng(0)
    for fn in (
        Cube.apply,
        Exp.apply,
        Reversed.apply,
        lambda x: Cube.apply(x * x).sin(),
        lambda x: Exp.apply(Cube.apply(x)),
    ):
        check_grad_twice(fn, [rng.normal(size=(2, 3))], device=device)
    check_grad_twice(lambda x, y: ProductAndSum.apply(x, y, 3), [rng.normal(size=3), rng.normal(size=3)], device=device)
    check_grad_twice(
        lambda x, y: ProductAndSum.apply(x, y, 3)[1] ** 2, [rng.normal(size=3), rng.normal(size=3)], device=device
    )


def test_functions_of_ones_own_three_times() -> None:
    assert third(Cube.apply, leaf(2.0)) == 6
    assert third(Exp.apply, leaf(0.5)) == pytest.approx(math.exp(0.5), rel=1e-12)
    assert third(Reversed.apply, leaf(0.5)) == pytest.approx(math.exp(0.5), rel=1e-12)


def test_a_backward_that_detaches_gives_no_second_derivative() -> None:
    """As in torch: nothing else can be known of it."""

    class Detached(Cube):
        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            (x,) = ctx.saved_tensors
            return grad * 3 * x.detach() * x.detach()

    x = leaf(2.0)
    (g,) = grad(Detached.apply(x), x, create_graph=True)
    assert g.item() == 12
    assert grad(g, x, allow_unused=True, retain_graph=True) == (None,) if g.requires_grad else True


# --- Memory ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    """Only reference counting frees memory."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.parametrize("name", ["elementwise", "model", "lstm", "conv", "function", "in place", "hooks", "twin"])
def test_a_second_order_graph_is_freed_by_reference_counting(name: str) -> None:
    x = rows(2, 4, 4)
    model = Small().double()
    fn = {
        "elementwise": lambda h: (h.exp() * h.tanh() / (h.sigmoid() + 1)) ** 3,
        "model": lambda h: model(h.reshape(4, 2, 4).repeat(1, 1, 2)[..., :6]),
        "lstm": lambda h: nn.recurrent.lstm_scan(h, h[0, :, :1], h[0, :, 1:2], h[0, :, :1])[0],
        "conv": lambda h: F.max_pool1d(F.conv1d(h, h), 1),
        "function": lambda h: Exp.apply(Cube.apply(h)),
        "in place": lambda h: written(h, h[0]),
        "hooks": lambda h: _hooked(h).exp(),
        "twin": lambda h: F.scaled_dot_product_attention(h, h, h, is_causal=True).softmax(-1),
    }[name]
    with without_collector():
        for _ in range(2):
            h = x * 1
            y = fn(h)
            (g,) = grad(y.square().sum(), x, create_graph=True)
            penalty = g.square().sum()
            ends = [weakref.ref(t) for t in (h, y, g, penalty, y.grad_fn, g.grad_fn, penalty.grad_fn)]
            penalty.backward()
            del h, y, g, penalty
            assert [end() for end in ends] == [None] * len(ends)
        h = x * 1
        (g,) = grad(fn(h).square().sum(), x, create_graph=True)  # dropped without a second walk
        ends = [weakref.ref(t) for t in (h, g, g.grad_fn)]
        del h, g
        assert [end() for end in ends] == [None] * len(ends)


def _hooked(h: Tensor) -> Tensor:
    z = h * 2
    z.register_hook(lambda g: g * 3)
    return z


def test_gradients_with_a_history_keep_their_graph_alive_and_zero_grad_lets_it_go() -> None:
    x = leaf([1.0, 2.0])
    with without_collector():
        y = (x**3).sum()
        y.backward(create_graph=True)
        node = weakref.ref(y.grad_fn)
        del y
        x.grad = None
        assert node() is None
