"""Rows of `op_table` for the functions of layers: normalisation, windows, sizes, activations, losses, tables.

The twins are written place by place, as the definitions stand in the literature, and share nothing with the package.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st
from op_row import Op, quiet, reduce, reductions
from strategies import (
    ANY,
    DISTINCT,
    NONZERO,
    OFFSET,
    POSITIVE,
    SEEDS,
    SIDES,
    Case,
    arrays,
    case,
    dim,
    eighths,
    integers,
    masks,
    same,
    shape_of,
)

import tinygrad_z2g as z2g
import tinygrad_z2g.nn.functional as F
from tinygrad_z2g import Tensor

small = st.integers(1, 3)


def sigmoid(a: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-a))


# --- Normalisation -----------------------------------------------------------------------------------------------


def standard(a: np.ndarray, axes: tuple, eps: float) -> np.ndarray:
    return (a - a.mean(axis=axes, keepdims=True)) / np.sqrt(a.var(axis=axes, keepdims=True) + eps)


def by_channel(v: Any, ndim: int) -> Any:
    return v if np.ndim(v) == 0 else v.reshape(-1, *[1] * (ndim - 2))


@st.composite
def batches(draw: Any, places: tuple = (0, 2), parameters: tuple = ("weight", "bias"), groups: bool = False) -> Case:
    """x (N, C, ...) with at least two numbers a channel, and some of weight and bias."""
    shape = (draw(st.integers(2, 4)), draw(small), *draw(shape_of(*places, least=2)))
    if groups:
        shape = (shape[0], 2 * draw(small), *shape[2:])
    names = draw(st.sampled_from([list(parameters), [], ["weight"], ["bias"]]))
    kwargs = {"names": names, "eps": draw(st.sampled_from([0.125, 0.5]))}
    if groups:
        kwargs["groups"] = draw(st.sampled_from([1, 2, shape[1] // 2]))
    return Case([draw(arrays(shape, DISTINCT)), *(draw(arrays((shape[1],))) for _ in names)], kwargs)


@st.composite
def batches_and_running(draw: Any) -> Case:
    found = draw(batches())
    C = found.inputs[0].shape[1]
    return Case(found.inputs, found.kwargs | {"mean": draw(arrays((C,))), "var": draw(arrays((C,), POSITIVE))})


def scaled(n: np.ndarray, parameters: tuple, names: list) -> np.ndarray:
    given = dict(zip(names, parameters, strict=True))
    return n * by_channel(given.get("weight", 1), n.ndim) + by_channel(given.get("bias", 0), n.ndim)


def call_batch_norm(x: Tensor, *parameters: Tensor, names: list, eps: float, mean: Any = None, var: Any = None) -> Any:
    return F.batch_norm(x, mean, var, **dict(zip(names, parameters, strict=True)), training=mean is None, eps=eps)


def batch_norm(a: np.ndarray, *p: np.ndarray, names: list, eps: float, mean: Any = None, var: Any = None) -> Any:
    axes = (0, *range(2, a.ndim))
    if mean is not None:
        return scaled((a - by_channel(mean, a.ndim)) / np.sqrt(by_channel(var, a.ndim) + eps), p, names)
    return scaled(standard(a, axes, eps), p, names)


def call_group_norm(x: Tensor, *p: Tensor, names: list, eps: float, groups: int) -> Tensor:
    return F.group_norm(x, groups, **dict(zip(names, p, strict=True)), eps=eps)


def group_norm(a: np.ndarray, *p: np.ndarray, names: list, eps: float, groups: int) -> np.ndarray:
    parts = [standard(part, tuple(range(1, a.ndim)), eps) for part in np.split(a, groups, axis=1)]
    return scaled(np.concatenate(parts, axis=1), p, names)


def call_instance_norm(x: Tensor, *p: Tensor, names: list, eps: float) -> Tensor:
    return F.instance_norm(x, **dict(zip(names, p, strict=True)), eps=eps)


def instance_norm(a: np.ndarray, *p: np.ndarray, names: list, eps: float) -> np.ndarray:
    return scaled(standard(a, tuple(range(2, a.ndim)), eps), p, names)


def response_norm(a: np.ndarray, size: int, alpha: float, beta: float, k: float) -> np.ndarray:
    z, C = np.zeros_like(a), a.shape[1]
    for c in range(C):
        near = a[:, max(0, c - size // 2) : min(C, c + (size - 1) // 2 + 1)]
        z[:, c] = a[:, c] / (k + alpha * (near**2).sum(1) / size) ** beta
    return z


NORMS = [
    Op("F.batch_norm", call_batch_norm, batch_norm, batches(), (F.batch_norm,)),
    Op("F.batch_norm, in eval", call_batch_norm, batch_norm, batches_and_running()),
    Op("F.group_norm", call_group_norm, group_norm, batches(groups=True), (F.group_norm,)),
    Op("F.instance_norm", call_instance_norm, instance_norm, batches(places=(1, 2)), (F.instance_norm,)),
    Op("F.local_response_norm", F.local_response_norm, response_norm, case(
        ANY, shapes=shape_of(3, 4, least=1), size=st.integers(1, 4), alpha=st.sampled_from([0.5, 2.0]),
        beta=st.sampled_from([0.75, 1.0]), k=st.sampled_from([1.0, 2.0]))),
]  # fmt: skip


# --- Convolution and pooling -------------------------------------------------------------------------------------


@st.composite
def convolved(draw: Any, n: int, transposed: bool = False, wide: bool = False) -> Case:
    """Input, filters and a bias or none, in groups; `wide`: with at least as many channels as places."""
    groups, each_in, each_out = (1, 4, 4) if wide else (draw(st.integers(1, 3)), draw(small), draw(small))
    kernel = [draw(small) for _ in range(n)]
    kwargs: dict = {"groups": groups}
    for name, low, high in (("stride", 1, 2), ("padding", 0, 2), ("dilation", 1, 2)):
        kwargs[name] = tuple(draw(st.integers(low, high)) for _ in range(n))
    if transposed:
        limits = [max(s, d) - 1 for s, d in zip(kwargs["stride"], kwargs["dilation"], strict=True)]
        kwargs["output_padding"] = tuple(draw(st.integers(0, limit)) for limit in limits)
    reach = [d * (k - 1) + 1 - 2 * p for d, k, p in zip(kwargs["dilation"], kernel, kwargs["padding"], strict=True)]
    least = [max(1, 2 - r) for r in reach] if transposed else [max(1, r) for r in reach]
    sizes = [m + draw(st.integers(0, 2)) for m in least]
    x = (draw(st.integers(1, 2)), groups * each_in, *sizes)
    w = (groups * each_in, each_out, *kernel) if transposed else (groups * each_out, each_in, *kernel)
    shapes = [x, w, (groups * each_out,)][: draw(st.sampled_from([3, 2]))]
    if draw(st.booleans()):
        shapes[0] = shapes[0][1:]
    return Case([draw(arrays(shape)) for shape in shapes], kwargs)


def how_many(sizes: Any, kernel: Any, stride: Any, padding: Any, dilation: Any) -> list[int]:
    """How many windows fit along each dimension."""
    every = zip(sizes, kernel, stride, padding, dilation, strict=True)
    return [(m + 2 * p - d * (k - 1) - 1) // s + 1 for m, k, s, p, d in every]


def meetings(lengths: Any, kernel: Any, stride: Any, padding: Any, dilation: Any) -> Any:
    """Every place t of the result of a convolution, tap k, and the place of the input that they see."""
    for t in itertools.product(*map(range, lengths)):
        for k in itertools.product(*map(range, kernel)):
            yield t, k, tuple(i * s + j * d - p for i, s, j, d, p in zip(t, stride, k, dilation, padding, strict=True))


def seen(place: tuple, sizes: tuple) -> bool:
    return all(0 <= i < size for i, size in zip(place, sizes, strict=True))


def conv(x: np.ndarray, w: np.ndarray, b: Any = None, *, groups: int, **window: Any) -> np.ndarray:
    n = w.ndim - 2
    if x.ndim == n + 1:
        return conv(x[None], w, b, groups=groups, **window)[0]
    lengths = how_many(x.shape[2:], w.shape[2:], **window)
    z = np.zeros((len(x), len(w), *lengths))
    for t, k, place in meetings(lengths, w.shape[2:], **window):
        if seen(place, x.shape[2:]):
            for o in range(len(w)):
                group = o // (len(w) // groups)
                own = slice(group * w.shape[1], (group + 1) * w.shape[1])
                z[(slice(None), o, *t)] += x[(slice(None), own, *place)] @ w[(o, slice(None), *k)]
    return z + (0 if b is None else by_channel(b, x.ndim))


def conv_transpose(x: Any, w: Any, b: Any = None, *, groups: int, output_padding: Any, **window: Any) -> np.ndarray:
    """Each number paints the filter onto the result."""
    n = w.ndim - 2
    if x.ndim == n + 1:
        return conv_transpose(x[None], w, b, groups=groups, output_padding=output_padding, **window)[0]
    settings = (window[name] for name in ("stride", "padding", "dilation"))
    every = zip(x.shape[2:], w.shape[2:], output_padding, *settings, strict=True)
    sizes = tuple((m - 1) * s - 2 * p + d * (k - 1) + e + 1 for m, k, e, s, p, d in every)
    out = w.shape[1]
    z = np.zeros((len(x), out * groups, *sizes))
    for t, k, place in meetings(x.shape[2:], w.shape[2:], **window):
        if seen(place, sizes):
            for c in range(x.shape[1]):
                first = c // (x.shape[1] // groups) * out
                paint = x[(slice(None), c, *t)][:, None] * w[(c, slice(None), *k)]
                z[(slice(None), slice(first, first + out), *place)] += paint
    return z + (0 if b is None else by_channel(b, x.ndim))


@st.composite
def pooled(draw: Any, n: int, mean: bool = False) -> Case:
    kernel, stride = (tuple(draw(small) for _ in range(n)) for _ in range(2))
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    dilation = (1,) * n if mean else tuple(draw(st.integers(1, 2)) for _ in range(n))
    least = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]  # no window sees padding alone
    sizes = [m + draw(st.integers(0, 3)) for m in least]
    kwargs = {"kernel_size": kernel, "stride": stride, "padding": padding, "ceil_mode": draw(st.booleans())}
    kwargs |= {"count_include_pad": draw(st.booleans())} if mean else {"dilation": dilation}
    if mean and n == 2:
        kwargs["divisor_override"] = draw(st.sampled_from([None, 3]))
    lead = draw(st.sampled_from([(1,), (2,), (2, 1)]))
    return Case([draw(arrays((*lead, *sizes), ANY if mean else DISTINCT))], kwargs)


def pool(x: np.ndarray, mean: bool, **window: Any) -> Any:
    """Window by window; of a maximum also where it stood, counted within the channel."""
    kernel, n = window["kernel_size"], len(window["kernel_size"])
    dilation, sizes = window.get("dilation", (1,) * n), x.shape[-n:]
    lengths = []
    for m, k, s, p, d in zip(sizes, kernel, window["stride"], window["padding"], dilation, strict=True):
        free = m + 2 * p - d * (k - 1) - 1
        length = (math.ceil(free / s) if window["ceil_mode"] else free // s) + 1
        lengths.append(length - 1 if (length - 1) * s >= m + p else length)
    z, where = np.zeros((*x.shape[:-n], *lengths)), np.zeros((*x.shape[:-n], *lengths), np.int64)
    met = list(meetings(lengths, kernel, window["stride"], window["padding"], dilation))
    for t in itertools.product(*map(range, lengths)):
        found = [place for u, _, place in met if u == t]
        inside = [place for place in found if seen(place, sizes)]
        values = np.stack([x[(..., *place)] for place in inside], -1)
        if mean:
            reach = [m + p for m, p in zip(sizes, window["padding"], strict=True)]
            with_padding = [place for place in found if all(i < r for i, r in zip(place, reach, strict=True))]
            count = len(with_padding) if window["count_include_pad"] else len(inside)
            z[(..., *t)] = values.sum(-1) / (window.get("divisor_override") or count)
        else:
            numbers = np.array([np.ravel_multi_index(place, sizes) for place in inside])
            z[(..., *t)], where[(..., *t)] = values.max(-1), numbers[values.argmax(-1)]
    return z if mean else (z, where)


@st.composite
def adaptive(draw: Any, n: int) -> Case:
    sizes = [draw(st.integers(1, 5)) for _ in range(n)]
    lead = draw(st.sampled_from([(1,), (2,), (2, 1)]))
    new: Any = tuple(draw(st.sampled_from([1, 2, 3, 4, None])) for _ in range(n))
    return Case([draw(arrays((*lead, *sizes), DISTINCT))], {"output_size": new if n > 1 else new[0] or 2})


def adaptive_pool(x: np.ndarray, n: int, mean: bool, output_size: Any) -> Any:
    sizes = x.shape[-n:]
    new = [m if v is None else v for m, v in zip(sizes, output_size if n > 1 else [output_size], strict=True)]
    z, where = np.zeros((*x.shape[:-n], *new)), np.zeros((*x.shape[:-n], *new), np.int64)
    for t in itertools.product(*map(range, new)):
        spans = [range(i * m // k, math.ceil((i + 1) * m / k)) for i, m, k in zip(t, sizes, new, strict=True)]
        places = list(itertools.product(*spans))
        values = np.stack([x[(..., *place)] for place in places], -1)
        numbers = np.array([np.ravel_multi_index(place, sizes) for place in places])
        z[(..., *t)], where[(..., *t)] = values.mean(-1) if mean else values.max(-1), numbers[values.argmax(-1)]
    return z if mean else (z, where)


def with_indices(fn: Callable) -> Callable:
    return lambda x, **kwargs: fn(x, **kwargs, return_indices=True)


WINDOWS = [
    Op("F.conv1d, groups", F.conv1d, conv, convolved(1)),
    Op("F.conv2d, groups", F.conv2d, conv, convolved(2)),
    Op("F.conv2d, many channels", F.conv2d, conv, convolved(2, wide=True)),
    Op("F.conv_transpose1d", F.conv_transpose1d, conv_transpose, convolved(1, transposed=True)),
    Op("F.conv_transpose2d", F.conv_transpose2d, conv_transpose, convolved(2, transposed=True)),
    Op("F.max_pool1d, indices", with_indices(F.max_pool1d), lambda x, **w: pool(x, False, **w), pooled(1)),
    Op("F.max_pool2d, indices", with_indices(F.max_pool2d), lambda x, **w: pool(x, False, **w), pooled(2)),
    Op("F.avg_pool1d, options", F.avg_pool1d, lambda x, **w: pool(x, True, **w), pooled(1, mean=True)),
    Op("F.avg_pool2d", F.avg_pool2d, lambda x, **w: pool(x, True, **w), pooled(2, mean=True)),
    *(Op(f"F.adaptive_avg_pool{n}d", getattr(F, f"adaptive_avg_pool{n}d"),
         lambda x, output_size, n=n: adaptive_pool(x, n, True, output_size), adaptive(n)) for n in (1, 2)),
    *(Op(f"F.adaptive_max_pool{n}d", with_indices(getattr(F, f"adaptive_max_pool{n}d")),
         lambda x, output_size, n=n: adaptive_pool(x, n, False, output_size), adaptive(n),
         (getattr(F, f"adaptive_max_pool{n}d"),)) for n in (1, 2)),
]  # fmt: skip


# --- Other sizes, borders, blocks --------------------------------------------------------------------------------


@st.composite
def resized(draw: Any) -> Case:
    mode = draw(st.sampled_from(["nearest", "nearest-exact", "linear", "bilinear", "bicubic", "area"]))
    n = {"linear": 1, "bilinear": 2, "bicubic": 2}.get(mode) or draw(st.integers(1, 2))
    old, new = ([draw(st.integers(1, 4)) for _ in range(n)] for _ in range(2))
    kwargs: dict = {"mode": mode, "size": tuple(new)}
    if mode in ("linear", "bilinear", "bicubic"):
        kwargs["align_corners"] = draw(st.booleans())
    return Case([draw(arrays((draw(st.integers(1, 2)), 1, *old)))], kwargs)


def keys(d: float) -> float:
    """The cubic of Keys (1981) with a = -3/4, as he gives it, in powers of the distance."""
    a, d = -0.75, abs(d)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0


def resize(x: np.ndarray, mode: str, size: tuple, align_corners: bool = False) -> np.ndarray:
    """Along one dimension after the other: the matrix of weights, place by place."""
    for i, new in enumerate(size):
        old = x.shape[2 + i]
        weights = np.zeros((new, old))
        for t in range(new):
            if mode == "area":
                weights[t, t * old // new : math.ceil((t + 1) * old / new)] = 1
            elif mode.startswith("nearest"):
                weights[t, min(old - 1, (2 * t + (mode != "nearest")) * old // (2 * new))] = 1
            else:
                s = t * (old - 1) / max(new - 1, 1) if align_corners else (2 * t + 1) * old / (2 * new) - 0.5
                s = s if mode == "bicubic" else max(s, 0)
                for j in range(math.floor(s) - 2, math.floor(s) + 4):
                    kernel = keys(s - j) if mode == "bicubic" else max(0, 1 - abs(s - j))
                    weights[t, min(max(j, 0), old - 1)] += kernel
        weights /= weights.sum(1, keepdims=True)
        x = np.moveaxis(np.moveaxis(x, 2 + i, -1) @ weights.T, -1, 2 + i)
    return x


NUMPY_MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


@st.composite
def bordered(draw: Any) -> Case:
    n = draw(st.integers(1, 2))
    shape = (*draw(st.sampled_from([(1,), (2, 1)])), *(draw(st.integers(2, 4)) for _ in range(n)))
    amounts = [draw(st.integers(0, shape[-1 - i // 2] - 1)) for i in range(2 * n)]
    return Case([draw(arrays(shape))], {"pad": amounts, "mode": draw(st.sampled_from(list(NUMPY_MODES)))})


def border(a: np.ndarray, pad: list, mode: str) -> np.ndarray:
    pairs = list(zip(pad[::2], pad[1::2], strict=True))[::-1]
    return np.pad(a, [(0, 0)] * (a.ndim - len(pairs)) + pairs, mode=NUMPY_MODES[mode])


@st.composite
def blocks(draw: Any, unshuffle: bool) -> Case:
    r, (C, H, W) = draw(small), (draw(st.integers(1, 2)) for _ in range(3))
    shape = (C, H * r, W * r) if unshuffle else (C * r * r, H, W)
    return Case([draw(arrays((*draw(shape_of(0, 1, least=1)), *shape)))], {"r": r})


def shuffle(x: np.ndarray, r: int) -> np.ndarray:
    *lead, C, H, W = x.shape
    z = np.zeros((*lead, C // r**2, H * r, W * r))
    for c, i, j in itertools.product(range(C // r**2), range(H * r), range(W * r)):
        z[..., c, i, j] = x[..., c * r**2 + i % r * r + j % r, i // r, j // r]
    return z


def unshuffle(x: np.ndarray, r: int) -> np.ndarray:
    *lead, C, H, W = x.shape
    z = np.zeros((*lead, C * r**2, H // r, W // r))
    for c, i, j in itertools.product(range(C), range(H), range(W)):
        z[..., c * r**2 + i % r * r + j % r, i // r, j // r] = x[..., c, i, j]
    return z


@st.composite
def unfolded(draw: Any, fold: bool) -> Case:
    found = draw(convolved(2))
    x, w = found.inputs[:2]
    window = {k: found.kwargs[k] for k in ("stride", "padding", "dilation")}
    if not fold:
        return Case([x], {"kernel_size": w.shape[2:], **window})
    sizes = x.shape[-2:]
    places = math.prod(how_many(sizes, w.shape[2:], **window))
    shape = (*draw(st.sampled_from([(), (2,)])), draw(small) * math.prod(w.shape[2:]), places)
    return Case([draw(arrays(shape))], {"output_size": sizes, "kernel_size": w.shape[2:], **window})


def unfold(x: np.ndarray, kernel_size: tuple, **window: Any) -> np.ndarray:
    if x.ndim == 3:
        return unfold(x[None], kernel_size, **window)[0]
    lengths = how_many(x.shape[2:], kernel_size, **window)
    z = np.zeros((*x.shape[:2], *kernel_size, *lengths))
    for t, k, place in meetings(lengths, kernel_size, **window):
        if seen(place, x.shape[2:]):
            z[(slice(None), slice(None), *k, *t)] = x[(slice(None), slice(None), *place)]
    return z.reshape(len(x), -1, math.prod(lengths))


def fold(x: np.ndarray, output_size: tuple, kernel_size: tuple, **window: Any) -> np.ndarray:
    if x.ndim == 2:
        return fold(x[None], output_size, kernel_size, **window)[0]
    lengths = how_many(output_size, kernel_size, **window)
    columns = x.reshape(len(x), -1, *kernel_size, *lengths)
    z = np.zeros((*columns.shape[:2], *output_size))
    for t, k, place in meetings(lengths, kernel_size, **window):
        if seen(place, output_size):
            z[(slice(None), slice(None), *place)] += columns[(slice(None), slice(None), *k, *t)]
    return z


@st.composite
def grouped(draw: Any) -> Case:
    groups = draw(small)
    shape = (draw(st.integers(1, 2)), groups * draw(small), draw(st.integers(1, 2)))
    return Case([draw(arrays(shape))], {"groups": groups})


def deal(x: np.ndarray, groups: int) -> np.ndarray:
    C = x.shape[1]
    return x[:, [g * (C // groups) + i for i in range(C // groups) for g in range(groups)]]


SIZES = [
    Op("F.interpolate", F.interpolate, resize, resized()),
    Op("F.upsample", F.upsample, resize, resized()),
    Op("F.pad, borders", F.pad, border, bordered()),
    Op("F.pixel_shuffle", lambda x, r: F.pixel_shuffle(x, r), shuffle, blocks(unshuffle=False), (F.pixel_shuffle,)),
    Op("F.pixel_unshuffle", lambda x, r: F.pixel_unshuffle(x, r), unshuffle, blocks(unshuffle=True),
       (F.pixel_unshuffle,)),
    Op("F.channel_shuffle", F.channel_shuffle, deal, grouped()),
    Op("F.unfold", F.unfold, unfold, unfolded(fold=False)),
    Op("F.fold", F.fold, fold, unfolded(fold=True)),
]  # fmt: skip


# --- Activations -------------------------------------------------------------------------------------------------

BEYOND = [v for v in OFFSET if abs(v) > 0.1]  # odd multiples of 1/16: never at a threshold that is a multiple of 1/8
alphas = st.sampled_from([1.0, 0.5, 2.0])


def elu(a: np.ndarray, alpha: float) -> np.ndarray:
    return np.where(a > 0, a, alpha * (np.exp(a) - 1))


def clipped(a: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.minimum(np.maximum(a, low), high)


@st.composite
def with_slopes(draw: Any) -> Case:
    shape = draw(shape_of(1, 3, least=1))
    size = draw(st.sampled_from([1, shape[1] if len(shape) > 1 else 1]))
    return Case([draw(arrays(shape, NONZERO)), draw(arrays((size,)))])


def prelu(a: np.ndarray, w: np.ndarray) -> np.ndarray:
    return np.where(a > 0, a, a * (w[0] if len(w) == 1 else w.reshape(-1, *[1] * (a.ndim - 2))))


@st.composite
def gated(draw: Any) -> Case:
    shape = list(draw(shape_of(1, 3)))
    axis = draw(st.integers(0, len(shape) - 1))
    shape[axis] *= 2
    return Case([draw(arrays(tuple(shape)))], {"dim": axis - draw(st.sampled_from([0, len(shape)]))})


def glu(a: np.ndarray, dim: int) -> np.ndarray:
    x, gate = np.split(a, 2, axis=dim)
    return x * sigmoid(gate)


def softmax(a: np.ndarray, dim: int) -> np.ndarray:
    axis = dim if a.ndim else ()
    return np.exp(a) / np.exp(a).sum(axis=axis, keepdims=True)


def seeded(fn: Callable) -> Callable:
    """A function that draws random numbers, after a seed."""

    def call(x: Tensor, seed: int, **kwargs: Any) -> Tensor:
        z2g.manual_seed(seed)
        return fn(x, **kwargs)

    return call


def random_slopes(a: np.ndarray, seed: int) -> np.ndarray:
    """Which slopes were drawn is seen in what becomes of -1."""
    minus = seeded(F.rrelu)(z2g.full(a.shape, -1.0, dtype=z2g.float64, device="cpu"), seed, training=True)
    drawn = -minus.numpy()
    assert np.all((drawn >= 1 / 8) & (drawn <= 1 / 3))
    return np.where(a > 0, a, a * drawn)


def gumbel(a: np.ndarray, seed: int, tau: float) -> np.ndarray:
    """Which noise was added is seen in what becomes of scores of 0: softmax(g) is e^g but for a factor."""
    p = seeded(F.gumbel_softmax)(z2g.zeros(a.shape, dtype=z2g.float64, device="cpu"), seed).numpy()
    return softmax((a + np.log(p)) / tau, -1)


def dropping(fn: Callable, without_batch: int) -> Callable:
    """The twin of a dropout: what became of ones at this seed tells the mask, which is the same for whole channels.

    Arrays of `without_batch` dimensions have none.
    """

    def twin(a: np.ndarray, seed: int, p: float) -> np.ndarray:
        mask = seeded(fn)(z2g.ones(a.shape, dtype=z2g.float64, device="cpu"), seed, p=p).numpy()
        lead = 1 if a.ndim == without_batch else 2
        flat = mask.reshape(*mask.shape[:lead], -1)
        assert np.all(flat == flat[..., :1]) and (p == 1 or np.all((mask == 0) | (mask == 1 / (1 - p))))
        return a * mask

    return twin


def self_normalising(a: np.ndarray, seed: int, p: float) -> np.ndarray:
    """Two calls tell what was dropped: there the result does not depend on x."""
    zeros, ones = (
        seeded(F.alpha_dropout)(z2g.full(a.shape, v, dtype=z2g.float64, device="cpu"), seed, p=p, training=True).numpy()
        for v in (0.0, 1.0)
    )
    s = 1.0507009873554805 * 1.6732632423543772  # selu far on the left is -s
    scale = 1 / math.sqrt((1 - p) * (1 + p * s**2))
    kept = ones != zeros
    return scale * np.where(kept, a, -s) + scale * p * s


hard = st.sampled_from([(-1.0, 1.0), (-2.0, 0.5), (0.0, 1.0)])

ACTIVATIONS = [
    Op("F.elu", F.elu, elu, case(NONZERO, alpha=alphas)),
    Op("F.elu, inplace", lambda x: F.elu(x * 1, inplace=True), lambda a: elu(a, 1.0), case(NONZERO)),
    Op("F.celu", F.celu, lambda a, alpha: np.where(a > 0, a, alpha * (np.exp(a / alpha) - 1)),
       case(NONZERO, alpha=alphas)),
    Op("F.selu", F.selu, lambda a: 1.0507009873554805 * elu(a, 1.6732632423543772), case(NONZERO)),
    Op("F.hardtanh", lambda x, limits: F.hardtanh(x, *limits), lambda a, limits: clipped(a, *limits),
       case(OFFSET, limits=hard), (F.hardtanh,)),
    Op("F.relu6", lambda x: F.relu6(x * 4), lambda a: clipped(4 * a, 0, 6), case(BEYOND), (F.relu6,)),
    Op("F.hardsigmoid", lambda x: F.hardsigmoid(x * 2), lambda a: clipped((2 * a + 3) / 6, 0, 1), case(OFFSET),
       (F.hardsigmoid,)),
    Op("F.hardswish", lambda x: F.hardswish(x * 2), lambda a: 2 * a * clipped((2 * a + 3) / 6, 0, 1), case(OFFSET),
       (F.hardswish,)),
    Op("F.softsign", F.softsign, lambda a: a / (1 + np.abs(a)), case(NONZERO)),
    Op("F.tanhshrink", F.tanhshrink, lambda a: a - np.tanh(a), case(ANY)),
    Op("F.hardshrink", F.hardshrink, lambda a, lambd: np.where(np.abs(a) > lambd, a, 0),
       case(OFFSET, lambd=st.sampled_from([0.5, 1.0]))),
    Op("F.softshrink", F.softshrink, lambda a, lambd: np.sign(a) * np.maximum(np.abs(a) - lambd, 0),
       case(OFFSET, lambd=st.sampled_from([0.5, 1.0]))),
    Op("F.threshold", F.threshold, lambda a, threshold, value: np.where(a > threshold, a, value),
       case(OFFSET, threshold=st.sampled_from([0.0, 1.0]), value=st.sampled_from([-2.0, 7.0]))),
    Op("F.mish", F.mish, lambda a: a * np.tanh(np.log(1 + np.exp(a))), case(ANY)),
    Op("F.logsigmoid", F.logsigmoid, lambda a: np.log(sigmoid(a)), case(ANY)),
    Op("F.prelu", F.prelu, prelu, with_slopes()),
    Op("F.rrelu", F.rrelu, lambda a, lower, upper: np.where(a > 0, a, a * (lower + upper) / 2),
       case(NONZERO, lower=st.just(0.25), upper=st.just(0.5))),
    Op("F.rrelu, training", lambda x, seed: seeded(F.rrelu)(x, seed, training=True), random_slopes,
       case(NONZERO, seed=SEEDS)),
    Op("F.glu", F.glu, glu, gated()),
    Op("F.softmin", F.softmin, lambda a, dim: softmax(-a, dim), case(ANY, dim=dim)),
    Op("F.gumbel_softmax", seeded(F.gumbel_softmax), gumbel,
       case(ANY, shapes=shape_of(1, 3, least=1), seed=SEEDS, tau=st.sampled_from([1.0, 2.0])), (F.gumbel_softmax,)),
    Op("F.dropout1d", seeded(F.dropout1d), dropping(F.dropout1d, 2),
       case(ANY, shapes=shape_of(2, 3, least=1), seed=SEEDS, p=st.sampled_from([0.5, 0.25, 0, 1])), (F.dropout1d,)),
    Op("F.dropout2d", seeded(F.dropout2d), dropping(F.dropout2d, 0),
       case(ANY, shapes=shape_of(3, 4, least=1), seed=SEEDS, p=st.sampled_from([0.5, 0.25, 0, 1])), (F.dropout2d,)),
    Op("F.alpha_dropout", lambda x, seed, p: seeded(F.alpha_dropout)(x, seed, p=p, training=True), self_normalising,
       case(ANY, seed=SEEDS, p=st.sampled_from([0.5, 0.25])), (F.alpha_dropout,)),
]  # fmt: skip


# --- Losses ------------------------------------------------------------------------------------------------------

PAIRS = same(2)
WIDE_PAIRS = same(2, shape_of(2, 2, least=1))


def signs(shape: tuple) -> st.SearchStrategy:
    return integers(shape, 0, 1).map(lambda a: np.asarray(2.0 * a - 1))


def lengths(a: np.ndarray, p: float) -> np.ndarray:
    return (np.abs(a) ** p).sum(-1) ** (1 / p)


@st.composite
def told(draw: Any, *domains: Any, rows: bool = False, **kwargs: Any) -> Case:
    """Arrays of one shape and a target of 1 and -1, for each element or, with `rows`, for each row."""
    shape = draw(shape_of(1, 2, least=1)) if rows else draw(shape_of())
    named = {name: draw(strategy) for name, strategy in kwargs.items()}
    target = draw(signs(shape[:-1] if rows else shape))
    named |= {"target": target, "reduction": draw(reductions)}
    return Case([draw(arrays(shape, domain)) for domain in domains], named)


def cosine_loss(x: np.ndarray, y: np.ndarray, target: np.ndarray, margin: float, reduction: str) -> Any:
    cosine = (x * y).sum(-1) / np.sqrt((x**2).sum(-1) * (y**2).sum(-1))
    return reduce(np.where(target == 1, 1 - cosine, np.maximum(0, cosine - margin)), reduction)


@st.composite
def triplets(draw: Any) -> Case:
    shape = draw(shape_of(1, 2, least=1))
    inputs = [draw(arrays(shape, domain)) for domain in (ANY, OFFSET, [v + 1 / 32 for v in ANY])]
    anchor, positive, negative = inputs
    for p in (2, 3.0):  # where both are as far from the negative, the nearer one has a kink
        assume((np.abs(lengths(anchor - negative, p) - lengths(positive - negative, p)) > 1e-3).all())
    return Case(inputs, {"margin": draw(st.sampled_from([0.517, 2.03])), "p": draw(st.sampled_from([2, 3.0])),
                         "swap": draw(st.booleans()), "reduction": draw(reductions)})  # fmt: skip


def triplet(a: Any, positive: Any, negative: Any, margin: float, p: float, swap: bool, reduction: str) -> Any:
    near, far = lengths(a - positive + 1e-6, p), lengths(a - negative + 1e-6, p)
    if swap:
        far = np.minimum(far, lengths(positive - negative + 1e-6, p))
    return reduce(np.maximum(0, near - far + margin), reduction)


@st.composite
def one_of_many(draw: Any) -> Case:
    shape = draw(shape_of(1, 2, least=1))
    kwargs = {"target": draw(integers(shape[:-1], 0, shape[-1] - 1)), "p": draw(st.sampled_from([1, 2])),
              "margin": draw(st.sampled_from([0.53125, 1.03125])), "reduction": draw(reductions),
              "weight": draw(st.none() | arrays((shape[-1],), POSITIVE))}  # fmt: skip
    return Case([draw(arrays(shape))], kwargs)


def multi_margin(x: np.ndarray, target: np.ndarray, p: int, margin: float, weight: Any, reduction: str) -> Any:
    C, losses = x.shape[-1], np.zeros(x.shape[:-1])
    for at in np.ndindex(*losses.shape):
        t = int(target[at])
        w = 1 if weight is None else weight[t]
        losses[at] = sum(w * max(0, margin - x[at][t] + x[at][j]) ** p for j in range(C) if j != t) / C
    return reduce(losses, reduction)


def labels_loss(x: np.ndarray, t: np.ndarray, reduction: str) -> Any:
    return reduce(-(t * np.log(sigmoid(x)) + (1 - t) * np.log(1 - sigmoid(x))).mean(-1), reduction)


def divergence(x: np.ndarray, t: np.ndarray, reduction: str, log_target: bool) -> Any:
    losses = np.exp(t) * (t - x) if log_target else t * (np.log(t) - x)
    if reduction == "batchmean":
        return losses.sum() / (losses.shape[0] if losses.ndim else 1)
    return reduce(losses, reduction)


def stirling(t: np.ndarray) -> np.ndarray:
    return np.where(t > 1, t * np.log(t) - t + np.log(2 * np.pi * t) / 2, 0)


def poisson(x: np.ndarray, t: np.ndarray, log_input: bool, full: bool, reduction: str) -> Any:
    losses = np.exp(x) - t * x if log_input else x - t * np.log(x + 1e-8)
    return reduce(losses + (stirling(t) if full else 0), reduction)


@st.composite
def with_variances(draw: Any) -> Case:
    shape = draw(shape_of(1, 2, least=1))
    one_each = draw(st.sampled_from([shape, (*shape[:-1], 1)]))
    inputs = [draw(arrays(shape)), draw(arrays(shape)), draw(arrays(one_each, POSITIVE))]
    return Case(inputs, {"full": draw(st.booleans()), "reduction": draw(reductions)})


def gaussian(x: np.ndarray, t: np.ndarray, v: np.ndarray, full: bool, reduction: str) -> Any:
    density = np.exp(-((x - t) ** 2) / (2 * v)) / np.sqrt(2 * np.pi * v)
    return reduce(-np.log(density) - (0 if full else np.log(2 * np.pi) / 2), reduction)


@st.composite
def spoken(draw: Any) -> Case:
    """Scores of 1 to 4 steps, targets that fit them, and some that do not where infinite losses count nothing."""
    T, N, C = draw(st.integers(1, 4)), draw(st.integers(1, 2)), draw(st.integers(2, 3))
    blank = draw(st.integers(0, C - 1))
    words = [[draw(st.sampled_from([c for c in range(C) if c != blank])) for _ in range(draw(st.integers(0, 2)))]
             for _ in range(N)]  # fmt: skip
    steps = [draw(st.integers(1, T)) for _ in range(N)]
    kwargs = {"words": words, "steps": steps, "blank": blank, "reduction": draw(reductions)}
    return Case([draw(arrays((T, N, C)))], kwargs)


def call_ctc(x: Tensor, words: list, steps: list, blank: int, reduction: str) -> Tensor:
    flat = z2g.tensor(np.array([c for word in words for c in word], np.int64), device=x.device)
    return F.ctc_loss(F.log_softmax(x, 2), flat, steps, [len(word) for word in words], blank, reduction, True)


def ctc(x: np.ndarray, words: list, steps: list, blank: int, reduction: str) -> Any:
    """Every way to choose a class at each step, read off: repeats merged, blanks dropped."""
    p = np.exp(x) / np.exp(x).sum(-1, keepdims=True)
    losses = []
    for n, word in enumerate(words):
        total = 0.0
        for way in itertools.product(range(x.shape[2]), repeat=steps[n]):
            merged = [c for i, c in enumerate(way) if i == 0 or way[i - 1] != c]
            if [c for c in merged if c != blank] == word:
                total += math.prod(p[t, n, c] for t, c in enumerate(way))
        losses.append(-math.log(total) if total else 0.0)
    shares = np.array(losses) / [max(len(word), 1) for word in words]
    return shares.mean() if reduction == "mean" else reduce(np.array(losses), reduction)


def far_apart(x: np.ndarray, y: np.ndarray, p: float, keepdim: bool) -> np.ndarray:
    d = lengths(x - y + 1e-6, p)
    return d[..., None] if keepdim else d


LOSSES = [
    Op("F.smooth_l1_loss", F.smooth_l1_loss,
       lambda a, b, beta, reduction: reduce(np.where(np.abs(a - b) < beta, (a - b) ** 2 / (2 * beta),
                                                     np.abs(a - b) - beta / 2), reduction),
       case(ANY, OFFSET, shapes=PAIRS, reduction=reductions, beta=st.sampled_from([1.0, 0.5]))),
    Op("F.huber_loss", F.huber_loss,
       lambda a, b, delta, reduction: reduce(np.where(np.abs(a - b) < delta, (a - b) ** 2 / 2,
                                                      delta * (np.abs(a - b) - delta / 2)), reduction),
       case(ANY, OFFSET, shapes=PAIRS, reduction=reductions, delta=st.sampled_from([1.0, 0.5]))),
    Op("F.hinge_embedding_loss", F.hinge_embedding_loss,
       lambda x, target, margin, reduction: reduce(np.where(target == 1, x, np.maximum(0, margin - x)), reduction),
       told(ANY, margin=st.sampled_from([0.53125, 1.03125]))),
    Op("F.margin_ranking_loss", F.margin_ranking_loss,
       lambda x, y, target, margin, reduction: reduce(np.maximum(0, margin - target * (x - y)), reduction),
       told(ANY, OFFSET, margin=st.sampled_from([1 / 32, 17 / 32]))),
    Op("F.soft_margin_loss", F.soft_margin_loss,
       lambda x, target, reduction: reduce(np.log(1 + np.exp(-target * x)), reduction), told(ANY)),
    Op("F.cosine_embedding_loss", F.cosine_embedding_loss, cosine_loss,
       told(NONZERO, NONZERO, rows=True, margin=st.sampled_from([0.017, -1.1]))),
    Op("F.triplet_margin_loss", F.triplet_margin_loss, triplet, triplets()),
    Op("F.multi_margin_loss", F.multi_margin_loss, multi_margin, one_of_many()),
    Op("F.multilabel_soft_margin_loss", F.multilabel_soft_margin_loss, labels_loss,
       case(ANY, eighths(0, 1), shapes=WIDE_PAIRS, reduction=reductions)),
    Op("F.kl_div", F.kl_div, quiet(divergence),
       case(ANY, POSITIVE, shapes=same(2, shape_of(least=1)), log_target=st.booleans(),
            reduction=st.sampled_from(["mean", "sum", "none", "batchmean"]))),
    Op("F.poisson_nll_loss", F.poisson_nll_loss, quiet(poisson),
       case(POSITIVE, [v + 1 / 16 for v in POSITIVE], shapes=PAIRS, log_input=st.booleans(), full=st.booleans(),
            reduction=reductions)),
    Op("F.gaussian_nll_loss", F.gaussian_nll_loss, gaussian, with_variances()),
    Op("F.ctc_loss", call_ctc, ctc, spoken(), (F.ctc_loss,), waits="targets and lengths are read"),
    Op("F.pairwise_distance", F.pairwise_distance, far_apart,
       case(ANY, OFFSET, shapes=same(2, shape_of(1, 3, least=1)), p=st.sampled_from([2, 1, 3.0]),
            keepdim=st.booleans())),
]  # fmt: skip


# --- Tables, and products of two vectors -------------------------------------------------------------------------


@st.composite
def bags(draw: Any) -> Case:
    """A table, ids in bags (rows, or one after the other with offsets), factors for a sum."""
    n, mode = draw(st.integers(1, 4)), draw(st.sampled_from(["mean", "sum", "max"]))
    sizes = [draw(st.integers(0, 3)) for _ in range(draw(st.integers(1, 3)))]
    sizes = draw(st.sampled_from([sizes, [draw(small)] * len(sizes)]))
    ids = [draw(integers((size,), 0, n - 1)) for size in sizes]
    rows = len(set(sizes)) == 1 and sizes[0] > 0 and draw(st.booleans())
    inputs = [draw(arrays((n, 2), DISTINCT))]
    if mode == "sum" and draw(st.booleans()):
        inputs.append(draw(arrays((len(sizes), sizes[0]) if rows else (sum(sizes),))))
    kwargs = {"ids": np.stack(ids) if rows else np.concatenate(ids), "sizes": sizes, "mode": mode}
    return Case(inputs, kwargs | {"padding_idx": draw(st.none() | st.integers(0, n - 1)) if len(inputs) == 1 else None})


def call_bag(w: Tensor, factors: Any = None, *, ids: Tensor, sizes: list, mode: str, padding_idx: Any) -> Tensor:
    offsets = None
    if ids.ndim == 1:
        offsets = z2g.tensor(np.cumsum([0, *sizes[:-1]]), device=w.device)
    return F.embedding_bag(ids, w, offsets, mode=mode, per_sample_weights=factors, padding_idx=padding_idx)


def bag(w: np.ndarray, factors: Any = None, *, ids: np.ndarray, sizes: list, mode: str, padding_idx: Any) -> np.ndarray:
    factors = np.ones(ids.size) if factors is None else factors.reshape(-1)
    z, at = np.zeros((len(sizes), w.shape[1])), 0
    for b, size in enumerate(sizes):
        found = [(i, f) for i, f in zip(ids.reshape(-1)[at : at + size], factors[at : at + size], strict=True)]
        rows = np.array([w[i] * f for i, f in found if i != padding_idx])
        at += size
        if len(rows):
            z[b] = {"mean": rows.mean, "sum": rows.sum, "max": rows.max}[mode](0)
    return z


@st.composite
def two_vectors(draw: Any) -> Case:
    rows = draw(shape_of(0, 2))
    I, J, O = (draw(st.sampled_from(SIDES)) for _ in range(3))  # noqa: E741
    shapes = [(*rows, I), (*rows, J), (O, I, J), (O,)][: draw(st.sampled_from([4, 3]))]
    return Case([draw(arrays(shape)) for shape in shapes])


@st.composite
def biased(draw: Any) -> Case:
    """Attention with numbers added to its scores, which are learned too."""
    lead = draw(shape_of(0, 2, least=1))
    T, S, d, e = (draw(small) for _ in range(4))
    mask = draw(st.sampled_from([(T, S), (*lead, T, S), (S,)]))
    inputs = [draw(arrays(shape)) for shape in [(*lead, T, d), (*lead, S, d), (*lead, S, e), mask]]
    return Case(inputs, {"is_causal": draw(st.booleans()), "scale": draw(st.sampled_from([None, 0.5]))})


def attention(q: Any, k: Any, v: Any, mask: Any, is_causal: bool, scale: Any) -> np.ndarray:
    scores = q @ np.swapaxes(k, -1, -2) * (1 / math.sqrt(q.shape[-1]) if scale is None else scale) + mask
    weights = np.exp(scores) * (np.arange(scores.shape[-2])[:, None] >= np.arange(scores.shape[-1]) if is_causal else 1)
    return weights / weights.sum(-1, keepdims=True) @ v


@st.composite
def masked_twice(draw: Any) -> Case:
    found = draw(biased())
    *inputs, bias = found.inputs
    return Case(inputs, found.kwargs | {"is_causal": True, "attn_mask": draw(st.just(bias) | masks(bias.shape))})


def causal_and_masked(q: Any, k: Any, v: Any, attn_mask: Any, is_causal: bool, scale: Any) -> np.ndarray:
    scores = q @ np.swapaxes(k, -1, -2) * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    allowed = attn_mask if attn_mask.dtype == bool else np.exp(attn_mask)
    weights = np.exp(scores) * allowed * np.tri(*scores.shape[-2:])
    total = weights.sum(-1, keepdims=True)
    return weights / np.where(total == 0, 1, total) @ v  # a query that sees nothing gives 0


TABLES = [
    Op("F.embedding_bag", call_bag, bag, bags(), (F.embedding_bag,), waits="where bags begin decides the shape"),
    Op("F.bilinear", F.bilinear,
       lambda a, b, w, c=0: np.einsum("...i,oij,...j->...o", a, w, b) + c, two_vectors()),
    Op("F.attention, learned mask", F.scaled_dot_product_attention, attention, biased()),
    Op("F.attention, mask and causal", F.scaled_dot_product_attention, causal_and_masked, masked_twice()),
]  # fmt: skip


LAYERS = [*NORMS, *WINDOWS, *SIZES, *ACTIVATIONS, *LOSSES, *TABLES]
