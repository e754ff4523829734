"""Mixed precision: which operation computes in which type, what reaches the weights, and the scale of the loss."""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable
from typing import Any

import fakecupy
import numpy as np
import pytest

import tinygrad_z2g as z2g
from tinygrad_z2g import nn, optim
from tinygrad_z2g.half import precision
from tinygrad_z2g.half import scaler as amp
from tinygrad_z2g.models import GPT, GPTConfig
from tinygrad_z2g.nn import functional as F

F16, F32, F64 = z2g.float16, z2g.float32, z2g.float64


@pytest.fixture(autouse=True)
def nothing_left_open() -> Any:
    yield
    assert precision.blocks == 0 and precision.half_type("cpu") is None and precision.half_type("cuda") is None


def half(device: str) -> Any:
    return z2g.autocast(device, F16)


# --- Which type ---------------------------------------------------------------------------------------------------

# x (2, 3, 4), m (4, 4), v (4,), t (2,): an operation of them, all of one floating type but t, which holds class ids
IN_HALF: dict[str, Callable] = {
    "matmul": lambda x, m, v, t: x @ m, "batched matmul": lambda x, m, v, t: x @ x.mT, "matmul, vector":
    lambda x, m, v, t: z2g.matmul(m, v), "vector by vector": lambda x, m, v, t: z2g.matmul(v, v),
    "mm": lambda x, m, v, t: z2g.mm(m, m), "bmm": lambda x, m, v, t: z2g.bmm(x, x.mT),
    "mv": lambda x, m, v, t: m.mv(v), "linear": lambda x, m, v, t: F.linear(x, m, v),
    "einsum": lambda x, m, v, t: z2g.einsum("bij,kj->bi", x, m), "einsum, list":
    lambda x, m, v, t: z2g.einsum("bij,kj->bik", [x, m]), "einsum of one":
    lambda x, m, v, t: z2g.einsum("ij->i", m), "conv1d": lambda x, m, v, t: F.conv1d(x, x[:, :, :2], v[:2]),
    "conv2d": lambda x, m, v, t: F.conv2d(x[None], x[None, :, :2, :2]),
    "attention": lambda x, m, v, t: F.scaled_dot_product_attention(x, x, x, is_causal=True),
    "attention, mask": lambda x, m, v, t: F.scaled_dot_product_attention(x, x, x, m[:3, :3]),
    "bias_gelu": lambda x, m, v, t: F.bias_gelu(x, v),
}  # fmt: skip
IN_FLOAT32: dict[str, Callable] = {
    **{name: lambda x, m, v, t, name=name: getattr(x.abs(), name)() for name in (
        "exp", "expm1", "log", "log2", "log1p", "reciprocal", "rsqrt", "square", "sum", "prod", "norm", "sinh", "cosh",
        "tan", "asin", "acos",
    )},
    "sum over a dim": lambda x, m, v, t: x.sum(1), "pow": lambda x, m, v, t: x**3, "rpow": lambda x, m, v, t: 2**x,
    "pow of tensors": lambda x, m, v, t: x.abs() ** v, "rdiv": lambda x, m, v, t: 1 / x,
    "norm of order 1": lambda x, m, v, t: x.norm(1, 1), "cumsum": lambda x, m, v, t: x.cumsum(0),
    "cumprod": lambda x, m, v, t: x.cumprod(0), "softmax": lambda x, m, v, t: x.softmax(-1),
    "log_softmax": lambda x, m, v, t: F.log_softmax(x, dim=1), "logsumexp": lambda x, m, v, t: x.logsumexp(0),
    "softplus": lambda x, m, v, t: F.softplus(x), "layer_norm": lambda x, m, v, t: F.layer_norm(x, 4, v, v),
    "rms_norm": lambda x, m, v, t: F.rms_norm(x, (4,), v), "mse_loss": lambda x, m, v, t: F.mse_loss(x, x * 2),
    "mse_loss, sum": lambda x, m, v, t: F.mse_loss(x, x * 2, reduction="sum"),
    "l1_loss": lambda x, m, v, t: F.l1_loss(input=x, target=x * 2),
    "cross_entropy": lambda x, m, v, t: F.cross_entropy(m[:2], t, v),
    "cross_entropy, smoothed": lambda x, m, v, t: F.cross_entropy(m[:2], t, label_smoothing=0.1),
    "nll_loss": lambda x, m, v, t: F.nll_loss(m[:2], t), "cosine_similarity":
    lambda x, m, v, t: F.cosine_similarity(m, m), "normalize": lambda x, m, v, t: F.normalize(m), "scores":
    lambda x, m, v, t: F.binary_cross_entropy_with_logits(x, x.sigmoid(), pos_weight=v),
}  # fmt: skip
IN_WHAT_IT_GETS: dict[str, Callable] = {
    "add": lambda x, m, v, t: x + v, "mul": lambda x, m, v, t: x * 2.5, "div": lambda x, m, v, t: x / 2,
    "relu": lambda x, m, v, t: x.relu(), "gelu": lambda x, m, v, t: F.gelu(x), "gelu, tanh":
    lambda x, m, v, t: F.gelu(x, approximate="tanh"), "tanh": lambda x, m, v, t: x.tanh(),
    "sigmoid": lambda x, m, v, t: x.sigmoid(), "sin": lambda x, m, v, t: x.sin(), "sqrt":
    lambda x, m, v, t: x.abs().sqrt(), "dropout": lambda x, m, v, t: F.dropout(x, 0.5), "mean":
    lambda x, m, v, t: x.mean(), "max": lambda x, m, v, t: x.max(), "var": lambda x, m, v, t: x.var(),
    "reshape": lambda x, m, v, t: x.reshape(6, 4), "cat": lambda x, m, v, t: z2g.cat([x, x]), "embedding":
    lambda x, m, v, t: F.embedding(t, m), "where": lambda x, m, v, t: z2g.where(x > 0, x, 0.0),
    "dot": lambda x, m, v, t: v.dot(v), "tensordot": lambda x, m, v, t: z2g.tensordot(m, m), "outer":
    lambda x, m, v, t: v.outer(v), "scatter_add": lambda x, m, v, t: v.scatter_add(0, t, v[:2]), "pool":
    lambda x, m, v, t: F.avg_pool1d(x, 2), "in place": lambda x, m, v, t: x.clone().sub_(v),
}  # fmt: skip


def operands(device: str, dtype: Any) -> tuple:
    rng = np.random.default_rng(0)
    x, m, v = (z2g.tensor(rng.uniform(-0.9, 0.9, shape)).to(device, dtype) for shape in ((2, 3, 4), (4, 4), (4,)))
    return x, m, v, z2g.tensor([3, 1]).to(device)


@pytest.mark.parametrize("given", [F16, F32, F64], ids=str)
@pytest.mark.parametrize(
    ("ops", "expected"), [(IN_HALF, F16), (IN_FLOAT32, F32), (IN_WHAT_IT_GETS, None)], ids=["half", "float32", "given"]
)
def test_each_operation_computes_in_its_type(device: str, ops: dict, expected: Any, given: Any) -> None:
    args = operands(device, given)
    expected = given if expected is None or given == F64 else expected
    outside = {name: op(*args) for name, op in ops.items()}
    with half(device), np.errstate(all="ignore"):
        inside = {name: op(*args) for name, op in ops.items()}
    assert {name: z.dtype for name, z in outside.items() if z.dtype != given} == {}
    assert {name: z.dtype for name, z in inside.items() if z.dtype != expected} == {}
    for name in ops:
        if name != "dropout":
            a, b = (z[name].double().cpu().numpy() for z in (inside, outside))
            np.testing.assert_allclose(a, b, rtol=0.02, atol=0.01, err_msg=name)


def test_operands_of_two_types(device: str) -> None:
    x, m, v, t = operands(device, F32)
    h, n, u, _ = operands(device, F16)
    with half(device):
        assert (x @ n).dtype == F.linear(h, m, v).dtype == F.conv1d(x, h, v[:2]).dtype == F16
        assert F.scaled_dot_product_attention(x, h, h, m[:3, :3]).dtype == F16
        assert (x + h).dtype == z2g.cat([x, h]).dtype == v.dot(u).dtype == z2g.tensordot(n, m).dtype == F32
        assert u.scatter_add(0, t, v[:2]).dtype == F.layer_norm(h, 4, v, v).dtype == F.mse_loss(h, x).dtype == F32
        assert h.sum(dtype=F16).dtype == x.softmax(0, dtype=F16).dtype == F16 and x.double().exp().dtype == F64
        assert z2g.arange(3).sum().dtype == z2g.int64
        h.mul_(2)
        assert h.dtype == F16
        with pytest.raises(RuntimeError, match="one dtype, got float64 and float16"):
            x.double() @ m
    with pytest.raises(RuntimeError, match="one dtype"):
        x @ n


def test_an_lstm_gives_half(device: str) -> None:
    net, cell, x = nn.LSTM(3, 2).to(device), nn.LSTMCell(3, 2).to(device), z2g.randn(4, 2, 3).to(device)
    expected, _ = net(x)
    with half(device):
        out, (h, c) = net(x)
        h2, c2 = cell(x[0])
    assert {out.dtype, h.dtype, c.dtype, h2.dtype, c2.dtype} == {F16}
    np.testing.assert_allclose(out.float().detach().cpu().numpy(), expected.detach().cpu().numpy(), atol=2e-3)
    assert out.grad_fn.inputs()[0].dtype == F32  # the recurrence itself
    (out.float().sum() + c2.float().sum()).backward()
    assert net.weight_hh_l0.grad.dtype == cell.weight_hh.grad.dtype == F32


def test_probabilities_are_refused(device: str) -> None:
    p = z2g.tensor([0.5]).to(device)
    with half(device):
        with pytest.raises(RuntimeError, match="binary_cross_entropy_with_logits"):
            F.binary_cross_entropy(p, p)
        with z2g.autocast(device, enabled=False):
            F.binary_cross_entropy(p, p)


# --- Products of half types ----------------------------------------------------------------------------------------


def test_products_add_up_in_float32(device: str) -> None:
    """1 + 2,500 + ... in float16 would stop at 2,048, and 300 · 300 is beyond it."""
    ones = z2g.ones(1, 2501, dtype=F16, device=device)
    assert [(ones @ ones.T).item(), F.linear(ones, ones).item(), (ones[None] @ ones[None].mT).item()] == [2500.0] * 3
    assert F.conv1d(ones[None], ones[None]).item() == 2500.0
    w = z2g.tensor([[300.0, 300.0], [-300.0, 300.0]], dtype=F16, device=device)
    assert (w @ w.T)[0, 1].item() == F.linear(w, w)[1, 0].item() == 0
    x = z2g.ones(2501, 1, dtype=F16, device=device).requires_grad_()
    W, b = z2g.ones(1, 1, dtype=F16, device=device).requires_grad_(), z2g.zeros(1, dtype=F16, device=device)
    F.linear(x, W, b.requires_grad_()).backward(z2g.ones_like(x))
    assert W.grad.item() == b.grad.item() == 2500.0 and W.grad.dtype == b.grad.dtype == x.grad.dtype == F16
    s = z2g.full((2, 2), 200.0, dtype=F16, device=device)
    p = F.scaled_dot_product_attention(s[:, :1], s[:, :1], s, scale=1.0)  # scores of 40,000: their sum is beyond it
    assert p.dtype == F16 and p.tolist() == [[200.0] * 2] * 2
    assert z2g.full((400,), 300.0, dtype=F16, device=device).mean().item() == 300.0  # and so is 400 · 300


def test_rounding_to_decimals_stays_finite(device: str) -> None:
    """x · 10^decimals is beyond float16: 1000 to two decimals would be infinite, as in NumPy."""
    x = z2g.tensor([1000.0, -656.0, 65504.0, 0.1262, 2.5], dtype=F16, device=device)
    assert x.round(decimals=2).tolist() == [1000.0, -656.0, 65504.0, z2g.tensor(0.13).half().item(), 2.5]
    assert z2g.round(x, decimals=5).tolist() == [1000.0, -656.0, 65504.0, z2g.tensor(0.1262).half().item(), 2.5]
    assert x.round(decimals=-2).tolist() == [1000.0, -700.0, 65504.0, 0.0, 0.0]
    assert x.round().tolist() == [1000.0, -656.0, 65504.0, 0.0, 2.0] and x.round(decimals=2).dtype == F16
    assert x.clone().round_(decimals=2).tolist() == x.round(decimals=2).tolist()


def test_what_is_finite_in_half_is_found_by_way_of_more(device: str) -> None:
    """Squares, products, sums and counts beyond 65,504 on the way to a result within; gradients, too."""
    x, y = (z2g.full((2,), v, dtype=F16, device=device).requires_grad_() for v in (300.0, 400.0))
    for z, want, slope in [
        (z2g.hypot(x, y), [500.0] * 2, 0.6),
        (z2g.dist(x, -y), 990.0, 0.7071),
        (z2g.cdist(x[None], -y[None]), [[990.0]], 0.7071),
        (F.pairwise_distance(x[None], -y[None]), [990.0], 0.7071),
        (z2g.addcmul(x, x, y, value=1e-2), [1500.0] * 2, 5.0),
        (z2g.addcdiv(x, y, z2g.full((2,), 1e-3, dtype=F16, device=device), value=1e-3), [700.0] * 2, 1.0),
    ]:
        assert z.dtype == F16
        np.testing.assert_allclose(z.detach().cpu().numpy().astype(float), want, rtol=2e-3)
        x.grad = None
        z.sum().backward()
        np.testing.assert_allclose(x.grad.cpu().numpy().astype(float), slope, rtol=2e-3)
    many = z2g.full((70_000,), 2.0, dtype=F16, device=device)
    assert many.nanmean().item() == many.nanmean(dtype=z2g.float32).item() == 2.0 and many.nanmean().dtype == F16


IN_HALF: dict[str, Callable] = {
    "sigmoid": z2g.sigmoid, "silu": F.silu, "mish": F.mish, "elu": F.elu, "selu": F.selu, "celu": F.celu,
    "hardswish": F.hardswish, "glu": lambda x: F.glu(x, 0),
    "huber_loss": lambda x: F.huber_loss(x, -x, reduction="none", delta=0.1),
    "smooth_l1_loss": lambda x: F.smooth_l1_loss(x, -x, reduction="none"),
    "lerp": lambda x: z2g.lerp(x, -x, 0.3),
}  # fmt: skip


@pytest.mark.parametrize("name", IN_HALF)
def test_every_half_is_computed_as_in_float32(name: str, device: str) -> None:
    """All 63,488 finite ones, values and gradients: sigmoid(-12) was 0, silu's slope at 6 a third off."""
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    x = z2g.tensor(every[np.isfinite(every)]).to(device).requires_grad_()
    wide = x.detach().float().requires_grad_()
    z, exact = IN_HALF[name](x), IN_HALF[name](wide)
    assert z.dtype == F16 and z2g.equal(z, exact.half())
    z.sum().backward()
    exact.sum().backward()
    assert z2g.isfinite(x.grad).all()
    np.testing.assert_allclose(x.grad.cpu().float().numpy(), wide.grad.cpu().numpy(), rtol=2e-3, atol=6e-8)


def test_the_longer_side_s_square_may_be_beyond_float32(device: str) -> None:
    x = z2g.tensor([1e30, 1e-30, 0.0], device=device).requires_grad_()
    z = z2g.hypot(x, z2g.tensor([1e30, 1e-30, 2.0], device=device))
    z.sum().backward()
    np.testing.assert_allclose(z.detach().cpu().numpy(), [2**0.5 * 1e30, 2**0.5 * 1e-30, 2.0], rtol=1e-6)
    np.testing.assert_allclose(x.grad.cpu().numpy(), [0.5**0.5, 0.5**0.5, 0.0], rtol=1e-6)


def test_operations_in_half_round_once() -> None:
    """On the CPU: within half a unit of the last place of what float32 gives."""
    x, grad = (z2g.randn(5, 7).half() for _ in range(2))
    for f in (lambda a: a.softmax(1), lambda a: F.gelu(a), lambda a: F.layer_norm(a, 7), lambda a: a @ a.T):
        narrow, wide = x.clone().requires_grad_(), x.float().requires_grad_()
        z, exact = f(narrow), f(wide)
        assert z2g.equal(z, exact.half())
        z.backward(grad[:, : z.shape[1]])
        exact.backward(grad[:, : z.shape[1]].float())
        np.testing.assert_allclose(narrow.grad.numpy(), wide.grad.numpy(), rtol=2e-3, atol=2e-3)
    s = z2g.full((3, 2), 300.0, dtype=F16)
    p = F.scaled_dot_product_attention(s, s, s, scale=1e-3)  # scores of 180,000 before they are scaled
    assert p.dtype == F16 and p.tolist() == [[300.0] * 2] * 3
    w = z2g.ones(2, 1, 1, dtype=F16).requires_grad_()
    z = F.conv1d(z2g.ones(2600, 1, 1, dtype=F16), w)
    z.backward(z2g.ones_like(z))
    assert w.grad.flatten().tolist() == [2600.0] * 2 and w.grad.dtype == F16


# --- Gradients -----------------------------------------------------------------------------------------------------


def small_model(device: str) -> list:
    z2g.manual_seed(1)
    shapes = [(6, 4), (6,), (6,), (6,), (3, 6), (3,)]
    return [(z2g.randn(*shape) * 0.5).to(device).requires_grad_() for shape in shapes]


def loss_of(params: list, x: Any, t: Any, down: Callable, up: Callable) -> Any:
    """Linear, gelu, attention, residual, layer norm, linear, cross-entropy; `down` and `up` are explicit casts."""
    W, b, scale, shift, V, c = params
    h = F.gelu(F.linear(down(x), down(W), down(b)))
    h = h + F.scaled_dot_product_attention(h, h, h, is_causal=True)
    scores = F.linear(down(F.layer_norm(up(h), 6, scale, shift)), down(V), down(c))
    return F.cross_entropy(up(scores).flatten(0, 1), t)


def test_gradients_are_those_of_explicit_casts_and_near_float32_s(device: str) -> None:
    x, t, same = z2g.randn(2, 3, 4).to(device), z2g.tensor([0, 2, 1, 1, 0, 2]).to(device), lambda a: a
    grads, losses = [], []
    for kind in ("autocast", "explicit", "float32"):
        params = small_model(device)
        if kind == "autocast":
            with half(device):
                loss = loss_of(params, x, t, same, same)
        else:
            casts = (lambda a: a.to(F16), lambda a: a.to(F32)) if kind == "explicit" else (same, same)
            loss = loss_of(params, x, t, *casts)
        loss.backward()
        losses.append(loss.item())
        grads.append([p.grad.cpu().numpy() for p in params])
    assert losses[0] == losses[1] != losses[2]
    for ours, explicit, exact in zip(*grads, strict=True):
        assert ours.dtype == F32 and (ours == explicit).all()
        assert not (ours == exact).all()
        np.testing.assert_allclose(ours, exact, rtol=0.02, atol=0.01 * np.abs(exact).max())


@pytest.mark.fast  # which make fewer of them
def test_the_casts_are_recorded(device: str) -> None:
    x, W = z2g.randn(2, 3).to(device), z2g.randn(4, 3).to(device).requires_grad_()
    with half(device):
        z = F.linear(x, W)
    (cast,) = z.grad_fn.inputs()
    if cast.dtype != F16:  # on the CPU the product itself is computed in float32
        (cast,) = cast.inputs()
    assert cast.name == "to" and cast.inputs()[0] is W and z.grad_fn.dtype == cast.dtype == F16
    with half(device), z2g.no_grad():
        assert F.linear(x, W).grad_fn is None


# --- Where autocast is on ------------------------------------------------------------------------------------------


def inside(kind: str = "cpu") -> Any:
    return precision.half_type(kind)


def test_blocks_nest_and_restore() -> None:
    block = half("cpu")
    with block:
        assert inside() == F16 and inside("cuda") is None
        with z2g.autocast("cpu", enabled=False):
            assert inside() is None
            with block, z2g.autocast("cuda"):  # the same object again
                assert inside() == inside("cuda") == F16
            assert inside() is None is inside("cuda")
        assert inside() == F16
        with pytest.raises(ZeroDivisionError), z2g.autocast("cpu", enabled=False):
            1 / 0  # noqa: B018
        assert inside() == F16
        with pytest.raises(RuntimeError, match="matmul"):
            z2g.ones(2, 3).matmul(z2g.ones(2, 3))
        with pytest.raises(RuntimeError, match="einsum"):
            z2g.einsum("ij,jk->ik", z2g.ones(2, 3), z2g.ones(2, 3))
        assert inside() == F16 and (z2g.ones(2, 2) @ z2g.ones(2, 2)).dtype == F16
    assert precision.blocks == 0


def test_as_a_decorator() -> None:
    @amp.autocast("cpu", F16)
    def product(n: int) -> Any:
        """Of ones."""
        return product(n - 1) if n else z2g.ones(2, 2) @ z2g.ones(2, 2)

    assert product.__doc__ == "Of ones." and product(3).dtype == F16 and inside() is None


def test_each_thread_has_its_own() -> None:
    found: dict[str, Any] = {}
    entered, looked = threading.Event(), threading.Event()

    def other() -> None:
        entered.wait(10)
        found["before"] = (z2g.ones(2, 2) @ z2g.ones(2, 2)).dtype
        with half("cpu"):
            found["inside"] = (z2g.ones(2, 2) @ z2g.ones(2, 2)).dtype
        looked.set()

    thread = threading.Thread(target=other)
    thread.start()
    with half("cpu"):
        entered.set()
        assert looked.wait(10) and precision.blocks == 1 and inside() == F16
    thread.join()
    assert found == {"before": F32, "inside": F16}


def test_the_other_kind_of_device_is_left_alone() -> None:
    with fakecupy.installed():
        here, there = z2g.ones(2, 2), z2g.ones(2, 2, device="cuda")
        with z2g.autocast("cuda"):
            assert ((here @ here).dtype, (there @ there).dtype, there.half().exp().dtype) == (F32, F16, F32)
            assert here.half().exp().dtype == F16
        with half("cpu"):
            assert ((here @ here).dtype, (there @ there).dtype) == (F16, F32)


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [(("cpu",), TypeError, "give dtype=float16"), (("cuda", "bfloat16"), TypeError, "bfloat16 is not offered"),
     (("cpu", "float32"), TypeError, "expected float16; enabled=False"), (("cpu", "what"), TypeError, "dtype: got"),
     (("cuda:0",), RuntimeError, "expected 'cpu' or 'cuda'"), ((F16,), RuntimeError, "expected 'cpu' or 'cuda'")],
)  # fmt: skip
def test_what_is_not_offered(args: tuple, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        z2g.autocast(*args)


# --- GradScaler ----------------------------------------------------------------------------------------------------


def with_gradient(device: str, *values: float) -> tuple:
    p = z2g.tensor([1.0] * len(values)).to(device).requires_grad_()
    p.grad = z2g.tensor(values).to(device)
    return p, optim.SGD([p], lr=1.0)


def test_a_sound_step_is_that_of_the_unscaled_loss(device: str) -> None:
    p = z2g.tensor([1.0, 2.0]).to(device).requires_grad_()
    optimizer, scaler = optim.SGD([p], lr=0.1), amp.GradScaler(init_scale=1024.0)
    loss = (p * p).sum()
    pair = scaler.scale([loss, loss.half()])
    assert [x.item() for x in pair] == [5120.0] * 2 and pair[1].dtype == F32
    scaler.scale(loss).backward()
    assert p.grad.tolist() == [2048.0, 4096.0]
    scaler.step(optimizer)
    scaler.update()
    assert p.grad.tolist() == [2.0, 4.0] and scaler.get_scale() == 1024.0
    np.testing.assert_allclose(p.detach().cpu().numpy(), [0.8, 1.6], rtol=1e-6)


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_a_bad_gradient_skips_the_step_and_halves_the_scale(device: str, bad: float) -> None:
    scaler = amp.GradScaler(init_scale=8.0, growth_interval=2)
    p, optimizer = with_gradient(device, 8.0, 8.0)
    scaler.step(optimizer)
    scaler.update()
    assert p.tolist() == [0.0, 0.0]
    q, other = with_gradient(device, 8.0)  # two optimizers: only the one is skipped, but the scale is common
    p.grad = z2g.tensor([8.0, bad]).to(device)
    optimizer.add_param_group({"params": [r := z2g.ones(1).to(device).requires_grad_()]})
    r.grad = z2g.ones(1).to(device)
    assert scaler.step(optimizer) is None and p.tolist() == [0.0, 0.0] and r.tolist() == [1.0]
    scaler.step(other)
    scaler.update()
    assert q.tolist() == [0.0] and scaler.get_scale() == 4.0 and scaler.state_dict()["_growth_tracker"] == 0
    p.grad = z2g.tensor([4.0, 8.0]).to(device)
    scaler.step(optimizer)
    scaler.update()
    assert p.tolist() == [-1.0, -2.0] and scaler.get_scale() == 4.0


def test_the_scale_grows_after_enough_sound_steps(device: str) -> None:
    scaler = amp.GradScaler(init_scale=4.0, growth_factor=3.0, growth_interval=3)
    p, optimizer = with_gradient(device, 1.0)
    seen = []
    for _ in range(7):
        p.grad = z2g.tensor([1.0]).to(device)
        scaler.step(optimizer)
        scaler.update()
        seen.append(scaler.get_scale())
    assert seen == [4.0, 4.0, 12.0, 12.0, 12.0, 36.0, 36.0]
    scaler.update(new_scale=z2g.tensor(2.0))
    assert scaler.get_scale() == 2.0
    large = amp.GradScaler(init_scale=3e38, growth_interval=1)  # beyond float32 it does not grow
    p.grad = z2g.tensor([1.0]).to(device)
    large.step(optimizer)
    large.update()
    assert large.get_scale() == 3e38


def test_unscale_then_clip(device: str) -> None:
    scaler = amp.GradScaler(init_scale=16.0)
    p, optimizer = with_gradient(device, 48.0, 64.0)
    version = p.grad._version
    scaler.unscale_(optimizer)
    assert p.grad.tolist() == [3.0, 4.0] and p.grad._version > version
    assert nn.utils.clip_grad_norm_([p], 1.0).item() == 5.0
    with pytest.raises(RuntimeError, match=r"unscale_\(\) has already been called"):
        scaler.unscale_(optimizer)
    scaler.step(optimizer)
    np.testing.assert_allclose(p.detach().cpu().numpy(), [0.4, 0.2], rtol=1e-5)
    with pytest.raises(RuntimeError, match=r"step\(\) was called"):
        scaler.unscale_(optimizer)
    with pytest.raises(RuntimeError, match=r"step\(\) has already been called"):
        scaler.step(optimizer)
    scaler.update()
    p.grad = z2g.tensor([math.nan, 0.0]).to(device)
    scaler.unscale_(optimizer)
    scaler.update()  # without a step
    assert scaler.get_scale() == 8.0


def test_misuse_is_an_error() -> None:
    scaler, (p, optimizer) = amp.GradScaler(), with_gradient("cpu", 1.0)
    with pytest.raises(RuntimeError, match="no gradients were checked"):
        scaler.update()
    without = optim.SGD([z2g.zeros(1, requires_grad=True)])
    scaler.unscale_(without)
    with pytest.raises(RuntimeError, match="no gradients were checked"):
        scaler.update()
    with pytest.raises(RuntimeError, match="closure"):
        scaler.step(optimizer, lambda: None)
    with pytest.raises(TypeError, match="expected a Tensor"):
        scaler.scale(3.0)
    p.grad = None
    with pytest.raises(RuntimeError, match="no parameter of this optimizer has a gradient"):
        scaler.step(optimizer)
    q = z2g.ones(2, dtype=F16).requires_grad_()
    q.grad = z2g.ones(2, dtype=F16)
    with pytest.raises(ValueError, match="float16 gradients"):
        scaler.step(optim.SGD([q]))
    for wrong in ({"growth_factor": 1.0}, {"backoff_factor": 1.0}, {"backoff_factor": 0.0}, {"init_scale": math.nan}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            amp.GradScaler(**wrong)


def test_the_state_is_saved_and_loaded() -> None:
    scaler = amp.GradScaler(init_scale=8.0, growth_factor=4.0, backoff_factor=0.25, growth_interval=5)
    _, optimizer = with_gradient("cpu", 1.0)
    scaler.step(optimizer)
    scaler.update()
    state = scaler.state_dict()
    assert state == {
        "scale": 8.0, "growth_factor": 4.0, "backoff_factor": 0.25, "growth_interval": 5, "_growth_tracker": 1,
    }  # fmt: skip
    other = amp.GradScaler()
    other.load_state_dict(state)
    assert other.state_dict() == state
    with pytest.raises(RuntimeError, match="empty"):
        other.load_state_dict({})
    with pytest.raises(KeyError):
        other.load_state_dict({"scale": 2.0})
    for key in state:
        for wrong in (None, "big", float("nan"), float("inf"), -1, True):
            with pytest.raises((TypeError, ValueError), match=f"GradScaler.*{key}"):
                other.load_state_dict({**state, key: wrong})
    with pytest.raises(ValueError, match="growth_factor"):
        other.load_state_dict({**state, "growth_factor": 0.5})
    assert other.state_dict() == state


def test_a_disabled_scaler_changes_nothing() -> None:
    scaler, (p, optimizer) = amp.GradScaler(enabled=False), with_gradient("cpu", 0.5)
    assert not scaler.is_enabled() and scaler.get_scale() == 1.0 and scaler.scale(p) is p
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
    scaler.load_state_dict({})
    assert p.tolist() == [0.5] and scaler.state_dict() == {}


# --- Training ------------------------------------------------------------------------------------------------------


def test_a_gpt_learns_in_mixed_precision_and_waits_once_a_step(device: str) -> None:
    """As often as torch's scaler: `step` must know whether to step; `update` waits in neither."""
    model = GPT(GPTConfig(vocab_size=5, context=4, layers=1, heads=2, width=8, dropout=0.1)).to(device)
    optimizer, scaler = optim.AdamW(model.parameters(), lr=0.02), amp.GradScaler()
    ids = z2g.tensor([[0, 1, 2, 3], [1, 2, 3, 4]]).to(device)
    losses = []
    for clip in (False, True) * 3:
        fakecupy.synchronisations.reset()
        optimizer.zero_grad()
        with half(device):
            scores, loss = model(ids, (ids + 1) % 5)
        scaler.scale(loss).backward()
        if clip:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        assert fakecupy.synchronisations.count == (sys.modules.get("cupy") is fakecupy.cupy)
        assert scores.dtype == F16 and loss.dtype == F32
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0] and scaler.get_scale() == 65536.0
    assert all(p.dtype == p.grad.dtype == F32 and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.fast  # a plain product cannot be captured
def test_autocast_in_a_captured_step() -> None:
    """The casts and the products in float16 are replayed like everything else; the scaler's `step` waits, so not it."""
    found = []
    with fakecupy.installed():
        for wrap in (lambda f: f, z2g.cuda.compile_step):
            z2g.manual_seed(2)
            net = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 3)).to("cuda")
            optimizer = optim.AdamW(net.parameters(), lr=0.1)

            def train(x: Any, y: Any, net: Any = net, optimizer: Any = optimizer) -> Any:
                optimizer.zero_grad()
                with z2g.autocast("cuda"):
                    loss = F.cross_entropy(net(x), y)
                loss.backward()
                optimizer.step()
                return loss

            step = wrap(train)
            x, y = z2g.randn(5, 4).to("cuda"), z2g.tensor([0, 1, 2, 1, 0]).to("cuda")
            found.append([step(x, y).item() for _ in range(5)])
    assert found[0] == found[1] and found[0][-1] < found[0][0]
