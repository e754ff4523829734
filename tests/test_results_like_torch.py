"""What public bug reports found in operations and numbers: each kind as a property over all places where it can act.

Expected values are computed here in float64 or follow from the definition; those that are torch's choice (NaN, memory
layout) were measured on torch 2.13 and are written down as rules or numbers.
"""

import collections
import contextvars
import math
import warnings
from fractions import Fraction

import numpy as np
import pytest
from drawn import holds
from numeric import host
from op_table import TABLE

import tinygrad_z2g as z2g
import tinygrad_z2g.nn.functional as F
from tinygrad_z2g import nn, optim

NAN, INF = math.nan, math.inf


def gradients_of(fn, *lists, dtype=z2g.float32, seed=1.0):
    xs = [z2g.tensor(x, dtype=dtype, requires_grad=True) for x in lists]
    z = fn(*xs)
    z = z[0] if isinstance(z, tuple) else z
    z.backward(z2g.full(z.shape, seed, dtype=dtype))
    return [x.grad.tolist() for x in xs]


def parts(result):
    return list(result) if isinstance(result, tuple) else [result]


def same(a, b):
    np.testing.assert_array_equal(np.asarray(a, float), np.asarray(b, float))


# --- Long sums: in a wider type, forward and backward ------------------------------------------------------------

N = 200_000
TENTHS = np.full(N, 0.1, np.float32)


def long_sums():
    """(name, what is added up in float32 as an array, that sum)"""
    tenth, total = float(np.float32(0.1)), float(np.float32(0.1)) * N
    yield "cumsum", lambda: z2g.tensor(TENTHS).cumsum(0)[-1:], total
    yield "cumsum, rows", lambda: z2g.tensor(TENTHS[:, None].repeat(2, 1)).cumsum(0)[-1], total
    yield "cumsum, backward", lambda: grad(z2g.zeros(N, requires_grad=True), lambda x: x.cumsum(0) * 0.1)[:1], total
    yield "cumprod", lambda: z2g.tensor(np.full(N, 1 + 2**-20, np.float32)).cumprod(0)[-1:], (1 + 2**-20) ** N
    yield "prod", lambda: z2g.tensor(np.full((N, 2), 1 + 2**-20, np.float32)).prod(0), (1 + 2**-20) ** N
    for name, f in {
        "repeat": lambda x: x.repeat(N),
        "repeat, two": lambda x: x.repeat(N // 2, 2),
        "tile": lambda x: x.tile(N),
        "repeat_interleave": lambda x: x.repeat_interleave(N),
        "index": lambda x: x[z2g.arange(2 * N) % 2],
        "index_select": lambda x: x.index_select(0, z2g.arange(2 * N) % 2),
        "gather": lambda x: x.gather(0, z2g.arange(2 * N) % 2),
        "expand": lambda x: x.expand(N, 2),
        "take_along_dim": lambda x: z2g.take_along_dim(x, z2g.arange(2 * N) % 2, 0),
    }.items():
        yield name, lambda f=f: grad(z2g.zeros(2, requires_grad=True), lambda x: f(x) * 0.1), total
    yield "scatter_add", lambda: z2g.zeros(2).scatter_add(0, z2g.arange(N) % 2, z2g.tensor(TENTHS)), total / 2
    yield "conv1d", lambda: conv_weight((N, 1, 1)), total
    yield "conv1d, long", lambda: conv_weight((1, 1, N)), total
    yield "conv2d", lambda: conv_weight((N // 4, 1, 2, 2)), total
    wide = z2g.tensor(np.full((N // 4, 3, 4), 0.1, np.float32))
    yield "sum of outer and inner", lambda: wide.sum((0, 2)), total
    yield "sum of every other", lambda: z2g.tensor(np.full((N, 4), 0.1, np.float32))[:, ::2].sum(0), total
    yield "mean", lambda: wide.mean((0, 2)), tenth
    yield "norm", lambda: wide.transpose(0, 1).norm(dim=(1, 2)) ** 2, N * tenth**2
    yield "softmax", lambda: (z2g.zeros(N, 2) + 1).softmax(0)[0] * N, 1.0
    yield "logsumexp", lambda: z2g.zeros(N, 2).logsumexp(0), math.log(N)
    for size, name in ((1000, "embedding"), (100, "embedding in a small table")):
        table = z2g.zeros(size, 4, requires_grad=True)
        yield name, lambda w=table: grad(w, lambda w: F.embedding(z2g.zeros(N, dtype=z2g.int64), w) * 0.1)[0], total
    many = [z2g.tensor(np.zeros(5_000_000, np.float32), requires_grad=True)]
    yield "clip_grad_norm_", lambda: (set_grad(many[0]), nn.utils.clip_grad_norm_(many, 1e9))[1] ** 2, 5e6 * tenth**2


def grad(x, f):
    f(x).sum().backward()
    return x.grad


def set_grad(x):
    x.grad = z2g.tensor(np.full(x.shape, 0.1, np.float32))


def conv_weight(shape):
    w = z2g.zeros(1, *[1] * (len(shape) - 1), requires_grad=True)
    (F.conv1d if len(shape) == 3 else F.conv2d)(z2g.tensor(np.full(shape, 0.1, np.float32)), w).sum().backward()
    return w.grad.reshape(-1)


AS_EXACT_AS_NUMPY = ("expand", "mean", "sum of outer and inner", "sum of every other")  # in the plain forms


@pytest.mark.parametrize(
    ("make", "expected"),
    [pytest.param(f, v, id=n, marks=[pytest.mark.fast] * (n in AS_EXACT_AS_NUMPY)) for n, f, v in long_sums()],
)
def test_long_sums_keep_their_digits(make, expected):
    np.testing.assert_allclose(make().tolist(), expected, rtol=2e-5)  # BLAS's sums of 1,024 are as exact as that


def test_long_sums_in_half_precision():
    ones = z2g.ones(5000, dtype=z2g.float16)
    assert ones.cumsum(0)[-1].item() == 5000 and ones.sum().item() == 5000
    assert z2g.zeros(1, dtype=z2g.float16).scatter_add(0, z2g.zeros(5000, dtype=z2g.int64), ones).item() == 5000
    for f in (
        lambda x: x.repeat(5000),
        lambda x: x[z2g.zeros(5000, dtype=z2g.int64)],
        lambda x: x.repeat_interleave(5000),
    ):
        assert grad(z2g.zeros(1, dtype=z2g.float16, requires_grad=True), f).item() == 5000
    assert grad(z2g.zeros(5000, dtype=z2g.float16, requires_grad=True), lambda x: x.cumsum(0))[0].item() == 5000


# --- Settings as NumPy numbers, 0-d arrays, 0-d tensors, fractions -----------------------------------------------

SETTINGS = {
    "leaky_relu": (lambda x, s: F.leaky_relu(x, s), 0.5),
    "leaky_relu in place": (lambda x, s: F.leaky_relu(x * 1, s, True), 0.5),
    "clamp min": (lambda x, s: x.clamp(s), 0.5),
    "clamp max": (lambda x, s: x.clamp(max=s), 0.5),
    "clamp both": (lambda x, s: x.clamp(s, s), 0.5),
    "clip": (lambda x, s: z2g.clip(x, s, 2 * s), 0.5),
    "clamp_": (lambda x, s: (x * 1).clamp_(s), 0.5),
    "softplus beta": (lambda x, s: F.softplus(x, s), 0.5),
    "softplus threshold": (lambda x, s: F.softplus(x, 1, s), 0.5),
    "normalize eps": (lambda x, s: F.normalize(x, eps=s), 0.5),
    "normalize p": (lambda x, s: F.normalize(x, p=s), 2),
    "norm p": (lambda x, s: x.norm(s), 2),
    "norm 1": (lambda x, s: x.norm(s, 0), 1),
    "cosine_similarity": (lambda x, s: F.cosine_similarity(x, x * x, eps=s), 0.5),
    "layer_norm": (lambda x, s: F.layer_norm(x, 3, eps=s), 0.5),
    "rms_norm": (lambda x, s: F.rms_norm(x, 3, eps=s), 0.5),
    "pad": (lambda x, s: F.pad(x, (1, 1), value=s), 0.5),
    "masked_fill": (lambda x, s: x.masked_fill(x > 0, s), 0.5),
    "masked_fill_": (lambda x, s: (x * 1).masked_fill_(x > 0, s), 0.5),
    "lerp": (lambda x, s: z2g.lerp(x, x * x, s), 0.5),
    "lerp near the end": (lambda x, s: z2g.lerp(x, x * x, s), 0.75),
    "where": (lambda x, s: z2g.where(x > 0, x, s), 0.5),
    "add alpha": (lambda x, s: z2g.add(x, 1.0, alpha=s), 0.5),
    "sub alpha": (lambda x, s: z2g.sub(x, x, alpha=s), 0.5),
    "+": (lambda x, s: x + s, 0.5),
    "r-": (lambda x, s: s - x, 0.5),
    "*": (lambda x, s: x * s, 0.5),
    "/": (lambda x, s: x / s, 0.5),
    "r/": (lambda x, s: s / x, 0.5),
    "**": (lambda x, s: (x * x) ** s, 0.5),
    "r**": (lambda x, s: s**x, 0.5),
    "//": (lambda x, s: x // s + x, 0.5),
    "r//": (lambda x, s: s // x + x, 0.5),
    "%": (lambda x, s: x % s, 0.5),
    "r%": (lambda x, s: s % x, 0.5),
    "maximum": (lambda x, s: z2g.maximum(x, z2g.full((), s)), 0.5),
    "var": (lambda x, s: x.var(0, correction=s), 0.5),
    "std": (lambda x, s: x.std(0, correction=s), 0.5),
    "dropout 0": (lambda x, s: F.dropout(x, s), 0),
    "dropout 1": (lambda x, s: F.dropout(x, s), 1),
    "attention": (lambda x, s: F.scaled_dot_product_attention(x, x, x, scale=s), 0.5),
    "scatter": (lambda x, s: x.scatter(0, z2g.zeros(1, 3, dtype=z2g.int64), s), 0.5),
    "full": (lambda x, s: z2g.full((2, 3), s) * x, 0.5),
    "full_like": (lambda x, s: z2g.full_like(x, s) * x, 0.5),
    "arange": (lambda x, s: z2g.arange(s, 3, 1) * x, 0.5),
    "arange step": (lambda x, s: z2g.arange(0, 1.5, s) * x, 0.5),
    "linspace": (lambda x, s: z2g.linspace(s, 1, 3) * x, 0.5),
    "div": (lambda x, s: z2g.div(x, s, rounding_mode="floor") + x, 0.5),
    "LeakyReLU": (lambda x, s: nn.LeakyReLU(s)(x), 0.5),
    "LayerNorm": (lambda x, s: nn.LayerNorm(3, eps=s)(x), 0.5),
    "RMSNorm": (lambda x, s: nn.RMSNorm(3, eps=s)(x), 0.5),
}
KINDS = {
    "float64": np.float64,
    "float32": np.float32,
    "float16": np.float16,
    "int64": np.int64,
    "0-d array": np.array,
    "0-d tensor": lambda s: z2g.tensor(s),
    "fraction": Fraction,
}


def possible(name, kind):
    """0.5 is no integer; a tensor to scatter from must be as large as the index, as in torch."""
    return (kind != "int64" or float(SETTINGS[name][1]).is_integer()) and (kind, name) != ("0-d tensor", "scatter")


@pytest.mark.parametrize("name, kind", [(name, kind) for name in SETTINGS for kind in KINDS if possible(name, kind)])
def test_a_setting_may_be_any_number(name, kind):
    """It changes neither dtype nor value, here or in the gradient, and is not mistaken for data."""
    f, s = SETTINGS[name]
    given = KINDS[kind](s)
    data = [[-1.0, 2.0, 0.25], [3.0, -0.5, 1.0]]
    results = []
    for setting in (s, given):
        x = z2g.tensor(data, requires_grad=True)
        z = f(x, setting)
        z.sum().backward()
        results.append((z, x.grad))
    (z, g), (z2, g2) = results
    assert z2.dtype == z.dtype == z2g.float32 and g2.dtype == z2g.float32
    same(z2.tolist(), z.tolist())
    same(g2.tolist(), g.tolist())


@pytest.mark.parametrize("bad", [1j, np.complex64(1j), "1", None])
@pytest.mark.parametrize("name", ["leaky_relu", "masked_fill", "softplus beta", "full", "lerp", "layer_norm"])
def test_what_is_no_number_is_refused(name, bad):
    with pytest.raises(TypeError, match="expected a number"):
        SETTINGS[name][0](z2g.ones(2, 3), bad)


# --- No warning for a right result -------------------------------------------------------------------------------

EXTREME = np.array([NAN, INF, -INF, 0.0, -0.0, 1e20, -1e20, 3e38, -3e38, 1e-40, 1.0, -100.0, 20.0], np.float32)


@pytest.mark.parametrize("op", TABLE, ids=str)
def test_no_operation_warns(op):
    """Forward and backward, for numbers of every size, in float32 and float16: all warnings are errors here."""

    def check(case, seed):
        rng = np.random.default_rng(seed)
        for dtype in (np.float32, np.float16):
            inputs = [rng.choice(EXTREME, x.shape).astype(np.float64) for x in case.inputs]
            with np.errstate(over="ignore"):
                xs = [x if isinstance(x, z2g.Tensor) else z2g.tensor(x.astype(dtype)) for x in inputs]
            xs = [x.requires_grad_() for x in xs]
            kwargs = {
                k: z2g.tensor(v.astype(dtype) if v.dtype.kind == "f" else v) if isinstance(v, np.ndarray) else v
                for k, v in case.kwargs.items()
            }
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                try:
                    outputs = [z for z in parts(op.fn(*xs, **kwargs)) if z.is_floating_point() and z.requires_grad]
                except (RuntimeError, ValueError, TypeError, IndexError) as refused:  # probabilities beyond 0..1, ...
                    assert not isinstance(refused, Warning)
                    continue
                for z in outputs:
                    z.backward(z2g.tensor(rng.choice(EXTREME, z.shape)).to(z.dtype), retain_graph=True)

    holds(op, check, 12)


def test_numpy_is_silent_within_a_walk_alone():
    """A hook may fail, and set what belongs to its context: after the walk all is as it was left."""
    seen, mark = [], contextvars.ContextVar("mark", default="none")

    def hook(grad):
        seen.append((np.geterr()["divide"], mark.get()))
        mark.set("set by the hook")
        with np.errstate(divide="raise"):
            return grad

    def failing(grad):
        raise KeyError("hook")

    with np.errstate(divide="warn"):
        x = z2g.tensor([0.0], requires_grad=True)
        y = x.sqrt()
        y.register_hook(hook)
        mark.set("set before")
        y.backward()
        assert seen == [("ignore", "set before")] and mark.get() == "set by the hook" and x.grad.item() == np.inf
        assert np.geterr()["divide"] == "warn"
        x.register_hook(failing)
        with pytest.raises(KeyError):
            (x * 2).backward()
        assert np.geterr()["divide"] == "warn"



def test_optimizers_do_not_warn():
    for make in (
        lambda p: optim.SGD([p], lr=10.0, momentum=0.9, weight_decay=1.0),
        lambda p: optim.Adam([p], lr=10.0),
        lambda p: optim.AdamW([p], lr=10.0),
    ):
        p = z2g.tensor(EXTREME, requires_grad=True)
        optimizer = make(p)
        for value in (3e38, 1e25, INF):
            p.grad = z2g.full_like(p, value).detach()
            optimizer.step()
    p = z2g.tensor([1e20, -1.0, NAN], requires_grad=True)
    optimizer = optim.SGD([p], lr=1.0)  # a plain step is not silenced beyond the largest number, see `SGD._update`
    for value in (1e38, 1e25, INF):
        p.grad = z2g.full_like(p, value).detach()
        optimizer.step()


def test_the_users_own_numpy_still_warns():
    z2g.tensor([3e38]).mul(10)
    with pytest.warns(RuntimeWarning):
        np.array([3e38], np.float32) * np.float32(10)


# --- How results lie in memory -----------------------------------------------------------------------------------


def block(*shape):
    return z2g.arange(math.prod(shape)).reshape(*shape) / 24 + 0.1


LAYOUTS = {
    "as it is": lambda: block(2, 3, 4),
    "reversed": lambda: block(4, 3, 2).permute(2, 1, 0),
    "transposed": lambda: block(2, 4, 3).transpose(1, 2),
    "rotated": lambda: block(3, 4, 2).permute(2, 0, 1),
    "every other": lambda: block(4, 6, 2).permute(2, 1, 0)[:, ::2],
    "expanded": lambda: block(2, 1, 4).expand(2, 3, 4),
    "part": lambda: block(2, 3, 8)[..., ::2],
}
REDUCTIONS = (
    "sum",
    "mean",
    "amax",
    "amin",
    "prod",
    "std",
    "var",
    "norm",
    "logsumexp",
    "all",
    "any",
    "argmax",
    "argmin",
    "max",
    "min",
)
PAIRWISE = ("add", "sub", "mul", "div", "pow", "maximum", "minimum", "remainder", "floor_divide", "eq", "lt", "isclose")
ROW_MAJOR = {
    **{
        f"{r} {d} {k}": lambda x, r=r, d=d, k=k: getattr(x, r)(dim=d, keepdim=k)
        for d in range(3)
        for k in (False, True)
        for r in REDUCTIONS
    },
    **{
        f"{r} {d}": lambda x, r=r, d=d: getattr(x, r)(d)
        for d in range(3)
        for r in ["softmax", "log_softmax", "cumsum", "cumprod", "count_nonzero"]
    },
    **{
        f"{n} {d}": lambda x, f=f, d=d: f(x, d)
        for d in range(3)
        for n, f in {
            "topk": lambda x, d: x.topk(2, d),
            "roll": lambda x, d: x.roll(1, d),
            "cat": lambda x, d: z2g.cat([x, x], d),
            "stack": lambda x, d: z2g.stack([x, x], d),
            "gather": lambda x, d: x.gather(d, (x * 0).long()),
            "index_select": lambda x, d: x.index_select(d, z2g.tensor([0, 1])),
            "cosine": lambda x, d: F.cosine_similarity(x, x, d),
            "repeat_interleave": lambda x, d: x.repeat_interleave(2, d),
        }.items()
    },
    "repeat": lambda x: x.repeat(2, 1, 2),
    "repeat, once": lambda x: x.repeat(1, 1, 1),
    "tile": lambda x: x.tile(2),
    "tril": lambda x: x.tril(),
    "triu": lambda x: x.triu(),
    "hstack": lambda x: z2g.hstack([x, x]),
    "vstack": lambda x: z2g.vstack([x, x]),
    "one_hot": lambda x: F.one_hot((x * 0).long(), 2),
    "masked_fill": lambda x: x.masked_fill(x > 0.5, 0),
    "2 ** x": lambda x: 2**x,
    "rms_norm": lambda x: F.rms_norm(x, 4),
    "layer_norm": lambda x: F.layer_norm(x, 4),
    "pad": lambda x: F.pad(x, (1, 1)),
    "contiguous": lambda x: x.contiguous(),
    "matmul": lambda x: x @ block(4, 5),
    "bmm": lambda x: x @ x.transpose(1, 2),
    "linear": lambda x: F.linear(x, block(5, 4)),
    "roll, flat": lambda x: x.roll(1),
    "masked_select": lambda x: x[x > 0.2],
    "[0, :, [0, 1]]": lambda x: x[0, :, [0, 1]],
    "[:, 0, [0, 1]]": lambda x: x[:, 0, [0, 1]],
    "[:, [0, 1], [0, 1]]": lambda x: x[:, [0, 1], [0, 1]],
    "einsum, kbi": lambda x: z2g.einsum("bij,kj->kbi", x, block(3, 4)),
    "einsum, ib": lambda x: z2g.einsum("bij->ib", x),
    "einsum, ji": lambda x: z2g.einsum("bij,b->ji", x, block(2)),
    "max_pool2d": lambda x: F.max_pool2d(x, 2),
}
KEPT = {
    **{
        n: lambda x, n=n: getattr(z2g, n)(x)
        for n in ["exp", "neg", "relu", "sin", "sign", "floor", "isnan", "sigmoid", "erf", "square", "clone"]
        if hasattr(z2g, n)
    },
    "clone": lambda x: x.clone(),
    "double": lambda x: x.double(),
    "copy": lambda x: x.to(x.dtype, copy=True),
    "flip": lambda x: x.flip(1),
    "x ** 1": lambda x: x**1,
    "x ** 2": lambda x: x**2,
    "x + 1": lambda x: x + 1,
    "1 - x": lambda x: 1 - x,
    "clamp": lambda x: x.clamp(0.2, 0.5),
    "zeros_like": lambda x: z2g.zeros_like(x),
    "rand_like": lambda x: z2g.rand_like(x),
    "full_like": lambda x: z2g.full_like(x, 1.0),
    "gelu": lambda x: F.gelu(x),
    "silu": lambda x: F.silu(x),
    "softplus": lambda x: F.softplus(x),
    "dropout": lambda x: F.dropout(x, 0.5),
    "sort": lambda x: x.sort(0),
    "sort, descending": lambda x: x.sort(2, descending=True),
    "argsort": lambda x: x.argsort(1),
    "tensor": lambda x: z2g.tensor(x),
    "pad, nothing": lambda x: F.pad(x, (0, 0)),
    **{f"{n} with another": lambda x, n=n: getattr(z2g, n)(x, block(*x.shape)) for n in PAIRWISE},
    "lerp": lambda x: z2g.lerp(x, block(*x.shape), 0.3),
    "where": lambda x: z2g.where(x > 0.5, x, block(*x.shape)),
    "clamp, tensors": lambda x: x.clamp(block(*x.shape) * 0.5, None),
    "mse, none": lambda x: F.mse_loss(x, block(*x.shape), reduction="none"),
}


def steps(x):
    """Its strides, those of dimensions of size 1 left out."""
    return [s // x.element_size() for n, s in zip(x.array.shape, x.array.strides, strict=True) if n > 1]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ROW_MAJOR)
def test_results_in_row_major_order(name, layout):
    for z in parts(ROW_MAJOR[name](LAYOUTS[layout]())):
        assert z.is_contiguous()
        z.view(-1)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", KEPT)
def test_results_in_the_order_of_the_input(name, layout):
    """The dimensions lie in memory in the order of the input's, without gaps; an expanded one, whose stride says
    nothing, where its place is."""
    x = LAYOUTS[layout]()
    order = {"reversed": [2, 1, 0], "transposed": [0, 2, 1], "rotated": [1, 2, 0], "every other": [2, 1, 0]}.get(
        layout, [0, 1, 2]
    )
    for z in parts(KEPT[name](x)):
        assert z.permute(*order).is_contiguous(), steps(z)


def test_what_indices_choose():
    """The other dimensions keep their order, as in torch (measured there)."""
    x = block(4, 3, 2).permute(2, 1, 0)  # (2, 3, 4)
    for z, expected in [
        (x[[0, 1]], [12, 1, 3]),
        (x[:, [0, 1]], [1, 2, 4]),
        (x[..., [0, 1]], [2, 4, 1]),
        (x[:, [[0, 1], [1, 0]]], [1, 4, 2, 8]),
        (x[:, [True, True, True]], [1, 2, 6]),
        (x[:, 1:, [1, 0]], [2, 4, 1]),
        (x[[0, 1], :, [0, 1]], [3, 1]),
        (block(2, 3, 4)[:, [0, 1]], [8, 4, 1]),
        (block(2, 3, 4)[..., [0, 1]], [6, 2, 1]),
        (block(2, 3, 4)[0, :, [0, 1]], [2, 1]),
    ]:
        assert steps(z) == expected


def test_writes_through_a_reshaped_result():
    x = block(2, 3, 4)
    for make in (
        lambda: x[:, [0, 1]],
        lambda: x.index_select(1, z2g.tensor([0, 1])),
        lambda: z2g.cat([x.mT, x.mT]),
        lambda: x.mT.cumsum(1),
        lambda: x.argsort(-1, descending=True),
        lambda: x.topk(2).indices,
        lambda: z2g.einsum("bij,kj->kbi", x, block(3, 4)),
        lambda: x.mT.masked_fill(x.mT > 2, 0),
        lambda: F.scaled_dot_product_attention(x.mT, x.mT, x.mT),
        lambda: x.mT.sum(1),
    ):
        for flat in (lambda v: v.reshape(-1), lambda v: v.flatten()):
            v = make()
            flat(v).zero_()
            assert not v.any()


def test_attention_lies_as_its_queries():
    q = z2g.rand(2, 5, 3, 4).transpose(1, 2)  # (B, T, H, d) -> (B, H, T, d)
    for k, causal in ((q, True), (q, False), (z2g.rand(2, 3, 7, 4), False)):
        z = F.scaled_dot_product_attention(q, k, k, is_causal=causal)
        assert z.transpose(1, 2).is_contiguous()
        np.testing.assert_allclose(
            z.tolist(), F.scaled_dot_product_attention(q.contiguous(), k, k, is_causal=causal).tolist(), rtol=1e-5
        )
    long = z2g.rand(1, 100, 2, 4).transpose(1, 2)
    z = F.scaled_dot_product_attention(long, long, long, is_causal=True)
    assert z.transpose(1, 2).is_contiguous() and F.scaled_dot_product_attention(q.contiguous(), q, q).is_contiguous()


def test_a_gradient_lies_as_its_leaf():
    for f in (
        lambda x: x.t() * 2,
        lambda x: (x * 2).t() @ block(3, 2),
        lambda x: (x * x).t().exp(),
        lambda x: x.t().clone(),
    ):
        x = block(3, 4).detach().requires_grad_()
        f(x).sum().backward()
        x.grad.view(-1)


# --- NaN and infinity through choices and rules ------------------------------------------------------------------


def test_nan_through_choices():
    for f in (z2g.maximum, z2g.minimum, lambda x, y: z2g.max(x, y), lambda x, y: z2g.min(x, y)):
        same(gradients_of(f, [NAN, 1.0, 2.0, NAN], [1.0, NAN, 2.0, NAN]), [[1, 1, 0.5, 1]] * 2)
    for f in (z2g.max, z2g.min, z2g.amax, z2g.amin, lambda x: x.amax(0), lambda x: x.amin((0,), True)):
        same(gradients_of(f, [1.0, NAN, 3.0, NAN])[0], [0, 0.5, 0, 0.5])
    same(gradients_of(lambda x: x.norm(INF), [1.0, NAN, 3.0, NAN])[0], [0, 0, 0, 0])  # |x| has no slope at NaN
    same(gradients_of(lambda x: x.max(0), [1.0, NAN, 3.0, NAN])[0], [0, 1, 0, 0])
    same(gradients_of(lambda x: x.topk(2), [1.0, NAN, 3.0, NAN])[0], [0, 1, 0, 1])
    assert z2g.tensor([1.0, NAN, 3.0]).argmin().item() == 1
    same(gradients_of(lambda x: x.relu(), [NAN, -NAN, 0.0, -0.0, 2.0, -2.0])[0], [1, 1, 0, 0, 1, 0])
    same(gradients_of(lambda x: x.abs(), [NAN, 0.0, -1.0])[0], [0, 0, -1])


def test_clamp_by_its_definition():
    rng = np.random.default_rng(0)
    values = np.array([NAN, INF, -INF, 0.0, 1.0, 2.0, 3.0])
    x, low, high = (rng.choice(values, 400) for _ in range(3))
    for a, b in ((low, high), (low, None), (None, high)):
        tensors = [z2g.tensor(v, requires_grad=True) for v in (x, a, b) if v is not None]
        rest = iter(tensors[1:])
        z = tensors[0].clamp(next(rest) if a is not None else None, next(rest) if b is not None else None)
        z.backward(z2g.full((400,), INF, dtype=z2g.float64))
        left = np.full(400, -INF) if a is None else a
        right = np.full(400, INF) if b is None else b
        same(z.tolist(), np.minimum(np.maximum(x, left), right))
        rules = [(x >= left) & (x <= right)]
        rules += (
            [(x < left) & (left < right)] if b is not None and a is not None else [x < left] if a is not None else []
        )
        rules += (
            [(x > right) | (right < left)] if b is not None and a is not None else [x > right] if b is not None else []
        )
        for t, rule in zip(tensors, rules, strict=True):
            same(t.grad.tolist(), np.where(rule, INF, 0))
    assert math.isnan(z2g.tensor(1.0).clamp(min=z2g.tensor(NAN)).item()) and math.isnan(
        z2g.tensor(1.0).clamp(min=NAN).item()
    )
    same(gradients_of(lambda x: x.clamp(2, 1), [1.0, 0.0, 3.0])[0], [0, 0, 0])


@pytest.mark.parametrize(
    "f",
    [
        z2g.sign,
        z2g.floor,
        z2g.ceil,
        z2g.round,
        lambda x: x**0,
        lambda x: F.dropout(x, 1),
        lambda x: z2g.div(x, 2, rounding_mode="floor"),
        lambda x: z2g.div(x, x, rounding_mode="trunc"),
    ],
)
def test_flat_functions_have_gradient_0(f):
    same(gradients_of(f, [NAN, INF, 0.5, -2.0], seed=INF)[0], [0, 0, 0, 0])


def test_signs_and_losers():
    same(z2g.sign(z2g.tensor([NAN, -0.0, INF, -3.0])).tolist(), [0, 0, 1, -1])
    same(gradients_of(z2g.maximum, [1.0, 2.0, 2.0], [2.0, 1.0, 2.0], seed=INF), [[0, INF, INF], [INF, 0, INF]])
    same(gradients_of(z2g.amax, [1.0, 3.0], seed=INF)[0], [0, INF])
    for f in (
        lambda x: F.log_softmax(x, 0),
        lambda x: F.softmax(x, 0),
        lambda x: F.cross_entropy(x[None], z2g.tensor([0])),
    ):
        same(gradients_of(f, [5.3])[0], [0])
    same(gradients_of(F.silu, [1e30], seed=1e30)[0], [np.float32(1e30)])
    same(gradients_of(lambda x: x % INF, [-2.0, 2.0])[0], [1, 1])
    y = z2g.tensor([INF, INF], requires_grad=True)
    (z2g.tensor([-2.0, 2.0]) % y).sum().backward()
    same(y.grad.tolist(), [1, 0])


AT_EXTREMES = {  # f, its inputs; measured on torch 2.13: the result, and the gradient of each input
    "hypot": (z2g.hypot, [[3e37, 1e30, INF, 1e-30, -3e38, 0.0], [4e37, 1.0, NAN, 1e-30, 1.0, 2.0]],
              [5e37, 1e30, INF, 1.414214e-30, 3e38, 2], [0.6, 1, NAN, 0.7071068, -1, 0],
              [0.8, 1e-30, NAN, 0.7071068, 3.333333e-39, 1]),
    "fmod": (z2g.fmod, [[1.0, 5.0, 1.0, -5.0, INF, 7.0], [INF, 0.0, NAN, 3.0, 2.0, -2.0]],
             [1, NAN, NAN, -2, NAN, 1], [1] * 6, [0, -INF, NAN, 1, -INF, 3]),
    "fmod, a long quotient": (lambda x: z2g.fmod(x, 1.5), [[2.0**100, -(2.0**67), 7.25]], [1, -0.5, 1.25], [1, 1, 1]),
    "huber": (lambda x: F.huber_loss(x, z2g.zeros(6), "none"), [[INF, -INF, 1e30, 0.5, 1.0, NAN]],
              [INF, INF, 1e30, 0.125, 0.5, NAN], [1, -1, 1, 0.5, 1, NAN]),
    "huber, delta": (lambda x: F.huber_loss(x, z2g.zeros(4), "none", 2.0), [[INF, -2.0, 1.0, -3.0]],
                     [INF, 2, 0.5, 4], [2, -2, 1, -2]),
    "smooth_l1": (lambda x: F.smooth_l1_loss(x, z2g.zeros(6), reduction="none", beta=0.5),
                  [[INF, -INF, 1e30, 0.25, 1.0, NAN]], [INF, INF, 1e30, 0.0625, 0.75, NAN], [1, -1, 1, 0.5, 1, NAN]),
    "xlogy": (z2g.xlogy, [[0.0, 0.0, 0.0, 0.0, 1.0, 2.0], [5.0, -1.0, INF, -INF, 0.0, -1.0]],
              [0, 0, 0, 0, -INF, NAN], [1.609438, 0, INF, 0, -INF, NAN], [0, 0, 0, 0, INF, -2]),
    "elu": (F.elu, [[-9.47, -50.0, 100.0, -INF, NAN, 0.0]], [-0.9999229, -1, 100, -1, NAN, 0],
            [7.713139e-05, 1.92875e-22, 1, 0, 1, 1]),
    "selu": (F.selu, [[-9.47, -40.0]], [-1.757964, -1.758099], [1.356046e-4, 7.469028e-18]),
    "celu": (lambda x: F.celu(x, 2.0), [[-9.47, -40.0, 3.0]], [-1.982435, -2, 3], [8.782447e-3, 2.061154e-9, 1]),
}  # fmt: skip


@pytest.mark.parametrize("case", AT_EXTREMES.values(), ids=AT_EXTREMES)
def test_at_extremes(device, case):
    """Squares that overflow, quotients longer than float32, slopes that are small, pieces that were not chosen."""
    f, inputs, result, *grads = case
    xs = [z2g.tensor(x, requires_grad=True) for x in inputs]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        z = f(*xs)
        z.backward(z2g.ones_like(z))
    for got, expected in zip((z, *(x.grad for x in xs)), (result, *grads), strict=True):
        np.testing.assert_allclose(host(got), np.array(expected, np.float32), rtol=1e-6, atol=0)


def test_spread_beyond_the_square_root_of_the_largest_number():
    x = z2g.tensor([-1e20, 0.0, 1e20], requires_grad=True)
    x.std().backward()
    np.testing.assert_allclose(x.std().item(), 1e20, rtol=1e-6)
    np.testing.assert_allclose(x.grad.tolist(), [-0.5, 0, 0.5], rtol=1e-6)
    assert z2g.full((4,), 3e38).var().item() == 0


# --- Padding never wins ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kernel,stride,padding,dilation", [(2, 2, 1, 1), (3, 1, 1, 1), (3, 2, 1, 2), (4, 3, 2, 1), (2, 1, 0, 1)]
)
@pytest.mark.parametrize("dims", [1, 2])
def test_max_pool_by_hand(device, dims, kernel, stride, padding, dilation):
    """The first of the largest of those that are seen, or the last NaN among them; in rows of -∞ and NaN too."""
    rng = np.random.default_rng(0)
    x = rng.choice([-INF, -INF, NAN, 1.0, 2.0], (1, 2) + (7,) * dims).astype(np.float32)
    t = z2g.tensor(x, requires_grad=True)
    z = (F.max_pool1d if dims == 1 else F.max_pool2d)(t, kernel, stride, padding, dilation)
    weights = rng.integers(1, 9, z.shape).astype(np.float32)
    z.backward(z2g.tensor(weights))
    expected, g = np.zeros(z.shape, np.float32), np.zeros_like(x)
    for place in np.ndindex(*z.shape):
        best = None
        for tap in np.ndindex(*(kernel,) * dims):
            at = place[:2] + tuple(p * stride + k * dilation - padding for p, k in zip(place[2:], tap, strict=True))
            if all(0 <= i < 7 for i in at[2:]) and (best is None or x[at] > x[best] or np.isnan(x[at])):
                best = at
        expected[place] = x[best]
        g[best] += weights[place]
    same(host(z), expected)
    same(host(t.grad), g)


# --- Two ways to one function, small losses, exact ends ----------------------------------------------------------


@pytest.mark.parametrize("bias", [-100.0, -30.0, -20.0, -10.0, 0.0, 10.0, 30.0])
def test_lstm_is_its_cell(bias):
    lstm, cell = nn.LSTM(1, 1), nn.LSTMCell(1, 1)
    with z2g.no_grad():
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            value = z2g.randn(*getattr(cell, name).shape) * 0.1
            if name == "bias_ih":
                value = value + bias
            getattr(cell, name).copy_(value)
            getattr(lstm, name + "_l0").copy_(value)
    x, h, c = z2g.randn(3, 1, 1), z2g.randn(1, 1), z2g.randn(1, 1)
    out, (_, last) = lstm(x, (h[None], c[None]))
    for t in range(3):
        h, c = cell(x[t], (h, c))
        np.testing.assert_allclose(out[t].tolist(), h.tolist(), rtol=2e-5)
    np.testing.assert_allclose(last[0].tolist(), c.tolist(), rtol=2e-5)
    for a in (lstm, cell):
        a.zero_grad()
    last.sum().backward()
    c.sum().backward()
    np.testing.assert_allclose(lstm.weight_ih_l0.grad.tolist(), cell.weight_ih.grad.tolist(), rtol=1e-4, atol=1e-30)


@pytest.mark.parametrize("gap", [0.1, 1.0, 5.0, 10.0, 16.0, 30.0, 80.0])
@pytest.mark.parametrize("shift", [0.0, 8.0, -8.0, 1000.0])
def test_small_losses_keep_their_digits(device, gap, shift):
    """-ln p = ln (1 + e^-gap + ...), whichever function computes it, and 1 - p in its gradient."""
    row = [shift, shift - gap, shift - gap - 1]
    x, target = z2g.tensor([row], requires_grad=True), z2g.tensor([0])
    loss = F.cross_entropy(x, target)
    loss.backward()
    exact = [np.float32(shift), np.float32(shift - gap), np.float32(shift - gap - 1)]
    small = math.log1p(sum(math.exp(float(v) - float(exact[0])) for v in exact[1:]))
    tolerance = {"rtol": 3e-6, "atol": 1e-44}
    np.testing.assert_allclose(loss.item(), small, **tolerance)
    np.testing.assert_allclose(host(x.grad)[0, 0], math.expm1(-small), **tolerance)
    for z in (
        -F.log_softmax(x, 1)[0, 0],
        F.nll_loss(F.log_softmax(x, 1), target),
        -F.log_softmax(x.t(), 0)[0, 0],
        F.cross_entropy(x, z2g.tensor([[1.0, 0.0, 0.0]])),
        F.cross_entropy(x, target, reduction="none")[0],
    ):
        np.testing.assert_allclose(z.item(), small, **tolerance)
    if shift == 0:
        np.testing.assert_allclose(x.logsumexp(1).item(), small, **tolerance)


def test_exact_ends():
    rng = np.random.default_rng(0)
    x, y = (
        z2g.tensor((rng.standard_normal(500) * 10.0 ** rng.integers(-30, 30, 500)).astype(np.float32)) for _ in range(2)
    )
    for one, nought in ((1.0, 0.0), (z2g.ones(500), z2g.zeros(500)), (z2g.tensor(1.0), z2g.tensor(0.0))):
        assert z2g.equal(z2g.lerp(x, y, one), y) and z2g.equal(z2g.lerp(x, y, nought), x)
    assert (
        z2g.lerp(z2g.tensor([0.1, 1e8, -1e20]), z2g.tensor([0.3, 0.1, 1.0]), 1.0).tolist()
        == z2g.tensor([0.3, 0.1, 1.0]).tolist()
    )
    for a, b, n in ((0.1, 0.7, 7), (1e-8, 1e8, 11), (-3.0, 0.1, 1000)):
        line = z2g.linspace(a, b, n)
        assert line[0].item() == np.float32(a) and line[-1].item() == np.float32(b)


# --- Two inputs and a dim; arguments that torch takes ------------------------------------------------------------


@pytest.mark.parametrize("dim", [-3, -2, -1, 0, 1, 2])
def test_cosine_of_broadcast_vectors(device, dim):
    rng = np.random.default_rng(0)
    for a, b in (((1, 2, 3), (2, 1, 3)), ((2, 1, 3), (4, 1)), ((3,), (2, 2, 3)), ((2, 2, 3), (2, 2, 3))):
        u, v = rng.standard_normal(a), rng.standard_normal(b)
        U, V = np.broadcast_arrays(u, v)
        expected = (U * V).sum(dim) / np.sqrt((U * U).sum(dim) * (V * V).sum(dim))
        np.testing.assert_allclose(host(F.cosine_similarity(z2g.tensor(u), z2g.tensor(v), dim)), expected, rtol=1e-12)


def test_pad_by_hand(device):
    a = np.arange(20.0).reshape(4, 5)
    for left, right, top, bottom in ((-1, -2, 1, 1), (2, -5, 0, 0), (-5, 3, -1, -3), (0, 0, -4, 1), (-2, -3, 1, 0)):
        x = z2g.tensor(a, requires_grad=True)
        z = F.pad(x, (left, right, top, bottom), value=-1)
        expected = np.full((4 + top + bottom, 5 + left + right), -1.0)
        used = np.zeros((4, 5))
        for i, j in np.ndindex(*expected.shape):
            if 0 <= i - top < 4 and 0 <= j - left < 5:
                expected[i, j], used[i - top, j - left] = a[i - top, j - left], 1
        z.sum().backward()
        same(host(z), expected)
        same(host(x.grad), used)
    for amounts in ((-3, -3), (-6, 2), (-7, 7)):
        with pytest.raises(RuntimeError, match="cuts off more"):
            F.pad(z2g.ones(5), amounts)


def test_arguments_that_torch_takes(device):
    x = z2g.tensor([1.0, 2.0, 3.0])
    ids = z2g.tensor([0, 2], dtype=z2g.int32)
    assert x.gather(0, ids).tolist() == [1, 3] and x.index_select(0, ids).tolist() == [1, 3]
    assert x.scatter(0, ids, 9.0).tolist() == [9, 2, 9] and x.scatter_add(0, ids, x).tolist() == [2, 2, 5]
    assert (
        z2g.tensor(5.0).index_select(0, z2g.tensor([0])).shape == ()
        and z2g.tensor(5.0).index_select(0, z2g.tensor(0)).item() == 5
    )
    assert z2g.take_along_dim(x, z2g.tensor([-1, 0]), 0).tolist() == [3, 1]
    y = z2g.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    z2g.take_along_dim(y, z2g.tensor([[-1], [-2]]), 1).sum().backward()
    assert y.grad.tolist() == [[0, 1], [1, 0]]
    with pytest.raises(RuntimeError):
        z2g.tensor(5.0).index_select(0, z2g.tensor([0, 0]))
    assert (0 % z2g.tensor([2, 3])).tolist() == [0, 0] and (7 % z2g.tensor([4.0, -4.0])).tolist() == [3, -1]
    assert (0.5 // z2g.tensor([0.25, -1.0])).tolist() == [2, -1] and (7 // z2g.tensor([2])).dtype == z2g.int64
    assert z2g.broadcast_to(x, (2, -1)).shape == (2, 3) and z2g.broadcast_to(x, (-1,)).shape == (3,)
    assert x.narrow(0, z2g.tensor(1), np.int64(2)).tolist() == [2, 3] and x.roll(np.int64(1)).tolist() == [3, 1, 2]
    with pytest.raises(RuntimeError, match=r"leading|cannot become"):
        z2g.broadcast_to(x, (-1, 3))
    for equation in ("i,i->", "i,j->i"):
        with pytest.raises(RuntimeError, match="einsum: expected operands of one dtype"):
            z2g.einsum(equation, x, x.double())
    assert z2g.einsum("i,j->ij", x, x.double()).dtype == z2g.float64
    q, k, v = z2g.zeros(2, 3, 0), z2g.zeros(2, 4, 0), z2g.arange(40.0).reshape(2, 4, 5)
    same(host(F.scaled_dot_product_attention(q, k, v)), np.broadcast_to(host(v).mean(1, keepdims=True), (2, 3, 5)))


def test_size():
    s, one = z2g.zeros(2, 3, 4).shape, (1,)
    for found, expected in (
        (s[1:], (3, 4)),
        (s + s, (2, 3, 4, 2, 3, 4)),
        (s + one, (2, 3, 4, 1)),
        (one + s, (1, 2, 3, 4)),
        (s * 2, (2, 3, 4) * 2),
        (2 * s, (2, 3, 4) * 2),
        (s[::-1], (4, 3, 2)),
        (s[:0], ()),
        (z2g.Size(range(3)), (0, 1, 2)),
        (z2g.Size([np.int64(3), z2g.tensor(2)]), (3, 2)),
    ):
        assert type(found) is z2g.Size and found == expected and repr(found) == f"Size({list(expected)})"
        assert all(type(n) is int for n in found)
    assert s[1:].numel() == 12 and type(s[0]) is int and s == (2, 3, 4) and hash(s) == hash((2, 3, 4))
    for wrong in (
        lambda: s + list(one),
        lambda: s * 1.5,
        lambda: z2g.Size([1, 2.5]),
        lambda: z2g.Size(["a"]),
        lambda: s + tuple([2.5][:]),
        lambda: z2g.Size(3),
    ):
        with pytest.raises(TypeError):
            wrong()


def test_tensors_of_sequences():
    for data, expected in (
        (range(3), [0, 1, 2]),
        ([range(2), range(2)], [[0, 1]] * 2),
        (collections.deque([1, 2]), [1, 2]),
        ((range(1, 3), [3, 4]), [[1, 2], [3, 4]]),
    ):
        assert z2g.tensor(data).tolist() == expected and z2g.tensor(data).dtype == z2g.int64
        assert z2g.as_tensor(data).tolist() == expected
    assert z2g.tensor(range(0)).dtype == z2g.float32 and z2g.tensor(range(2), dtype=z2g.float32).dtype == z2g.float32
    for wrong in ({1: 2}, {1, 2}, "ab", b"ab", iter([1])):
        with pytest.raises(TypeError):
            z2g.tensor(wrong)


# --- What random programs found that differed in silence (numbers and refusals measured on torch 2.13) ---------------


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("loss", ["cross_entropy", "nll_loss"])
@pytest.mark.parametrize("seed", [NAN, INF])
def test_an_ignored_target_sends_nothing_back(device, loss, reduction, smoothing, seed):
    """Whatever arrives: 0, and not NaN · 0. The row that counts beside it has no finite gradient."""
    settings = {"label_smoothing": smoothing} if smoothing and loss == "cross_entropy" else {}
    for targets in ([-100, -100], [0, -100]):
        x = z2g.tensor([[1.0, 2.0, 4.0], [3.0, 1.0, 0.0]], requires_grad=True)
        z = getattr(F, loss)(x, z2g.tensor(targets), reduction=reduction, **settings)
        z.backward(z2g.full(z.shape, seed))
        same(x.grad[[t == -100 for t in targets].index(True) :].tolist(), np.zeros((targets.count(-100), 3)))
        assert -100 in targets[:1] or not math.isfinite(x.grad[0, 0].item())


WIDENED = {
    "first": ((1, 4), (3, 4), (4, 1)), "last": ((3, 1), (3, 4), (4, 1)), "both": ((1, 1), (3, 4), (4, 1)),
    "middle": ((2, 1, 4), (2, 3, 4), (12, 4, 1)), "around": ((1, 3, 1), (2, 3, 4), (12, 4, 1)),
}  # fmt: skip


@pytest.mark.parametrize("case", WIDENED.values(), ids=WIDENED)
@pytest.mark.parametrize("dtype", [z2g.float16, z2g.float32])
@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_of_an_expanded_tensor_is_contiguous(device, case, dtype, approximate):
    small, shape, steps = case
    z = F.gelu(z2g.ones(small).to(dtype).expand(shape), approximate)
    assert z.is_contiguous() and tuple(n // z.element_size() for n in z.array.strides) == steps


REFUSING_INTEGERS = {
    "softmax": lambda x: F.softmax(x, -1), "log_softmax": lambda x: F.log_softmax(x, -1), "gelu": F.gelu,
    "silu": F.silu, "softplus": F.softplus, "leaky_relu": F.leaky_relu, "dropout": F.dropout,
    "layer_norm": lambda x: F.layer_norm(x, (4,)), "rms_norm": lambda x: F.rms_norm(x, (4,)),
    "softmax of dtype": lambda x: F.softmax(x, -1, dtype=z2g.int64),
}  # fmt: skip


@pytest.mark.parametrize("function", REFUSING_INTEGERS.values(), ids=REFUSING_INTEGERS)
@pytest.mark.parametrize("dtype", [z2g.int64, z2g.int32, z2g.uint8, z2g.bool])
@pytest.mark.parametrize("shape", [(2, 4), (0, 4)])
def test_what_torch_computes_for_floats_alone_refuses_integers(device, function, dtype, shape):
    with pytest.raises(RuntimeError, match=r"expected floating-point numbers, got .*x\.float\(\)"):
        function(z2g.ones(shape).to(dtype))


def test_softmax_converts_where_a_dtype_is_named_and_relu_refuses_bool(device):
    for function in (F.softmax, F.log_softmax):
        assert function(z2g.tensor([1, 1]), 0, dtype=z2g.float64).dtype == z2g.float64
    assert z2g.logsumexp(z2g.tensor([1, 1]), 0).dtype == z2g.float32
    assert z2g.tensor([-1, 2]).relu().tolist() == [0, 2]
    with pytest.raises(RuntimeError, match=r"relu: got a bool tensor.*\.int\(\)"):
        z2g.tensor([True]).relu()


@pytest.mark.parametrize("dtype", [z2g.int64, z2g.int32, z2g.uint8, z2g.bool, z2g.float16, z2g.float32])
@pytest.mark.parametrize("inplace", [False, True])
def test_dropping_all_keeps_the_dtype(device, dtype, inplace):
    z = F.dropout(z2g.ones(2, 3).to(dtype), 1.0, inplace=inplace)
    assert z.dtype == dtype and not z.any()


@pytest.mark.parametrize("correction", [3, 3.5, 7])
def test_a_variance_without_degrees_of_freedom_has_torchs_gradient(device, correction):
    """∞ where x is not the mean, on both sides of it, and NaN where it is: torch does not ask on which side."""
    for seed in (1.0, -2.0):
        x = z2g.tensor([[0.0, 1.0, 2.0], [5.0, 5.0, 5.0]], dtype=z2g.float64, requires_grad=True)
        z = x.var(1, correction=correction)
        z.backward(z2g.full((2,), seed, dtype=z2g.float64))
        same(z.tolist(), [INF, NAN])
        same(x.grad.tolist(), [[seed * INF, NAN, seed * INF], [NAN] * 3])


EMPTY = [(0, 4), (3, 0), (0, 0), (0,), (2, 0), (0, 5)]


@pytest.mark.parametrize("dtype", [z2g.float32, z2g.bool, z2g.uint8, z2g.int32, z2g.int64])
@pytest.mark.parametrize("shape", EMPTY, ids=str)
@pytest.mark.parametrize("dim", [0, 1])
def test_an_empty_index_may_be_of_any_dtype_and_shape(device, dtype, shape, dim):
    x, index = z2g.ones(3, 4, requires_grad=True), z2g.zeros(shape).to(dtype)
    z = z2g.gather(x, dim, index)
    z.sum().backward()
    assert z.shape == shape and z.dtype == z2g.float32 and x.grad.shape == (3, 4) and not x.grad.any()
    src = z2g.ones(shape, requires_grad=True)
    for written in (z2g.scatter(x, dim, index, src), z2g.scatter_add(x, dim, index, src)):
        src.grad = x.grad = None
        written.sum().backward()
        assert z2g.equal(written, x) and z2g.equal(x.grad, x) and src.grad.shape == shape
    assert z2g.equal(z2g.scatter(x, dim, index, value=7.0), x)
    with pytest.raises(IndexError):
        z2g.gather(x, 2, index)


def test_take_along_dim_refuses_an_empty_index_of_floats(device):
    with pytest.raises(RuntimeError, match="indices, got float32"):
        z2g.take_along_dim(z2g.ones(3, 4), z2g.zeros(0, 4), 0)


def test_a_computed_tensors_gradient_from_before_is_left_alone(device):
    """Of a leaf `.grad` is added to in place; of what `retain_grad` keeps, torch makes a new one each time."""

    def pair():
        x = z2g.ones(2, requires_grad=True)
        return x, x * 2, z2g.tensor([5.0, 5.0])

    for change in (lambda y: None, lambda y: y.mul_(3), lambda y: y.register_hook(lambda grad: grad * 1)):
        x, y, mine = pair()
        y.grad = mine
        y.retain_grad()
        change(y)
        y.sum().backward(retain_graph=True)
        assert y.grad.tolist() == [6, 6] and mine.tolist() == [5, 5] and y.grad is not mine
        held = y.grad
        y.sum().backward()
        assert y.grad.tolist() == [7, 7] and held.tolist() == [6, 6]
    x, y, mine = pair()
    y.grad = mine
    y.sum().backward(inputs=[y])
    assert y.grad.tolist() == [6, 6] and mine.tolist() == [5, 5]
    x, y, mine = pair()
    x.grad = mine
    y.sum().backward()
    assert x.grad is mine and mine.tolist() == [7, 7]
