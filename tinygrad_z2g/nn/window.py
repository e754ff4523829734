"""Functions that slide a window: convolution and pooling, along one dimension or two.

All rest on one picture. A window of K places (K1 × K2 places in two dimensions) slides over x; what it sees,

    windows[n, c, k, t] = x[n, c, t · stride + k · dilation - padding],

is a view of x: no number is copied before it is needed. Each function is a sum, a mean or a maximum over k (and c).
Backward adds the gradient of each place that a window saw to where it came from. These functions know nothing of
layers, and own no weights.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import dtypes, kernels, precision
from ..backend import Array, of, silent
from ..engine import Derived, needs_grad, record, with_history
from ..ops.casting import lowered
from ..ops.common import as_array, as_int, linear_rule, row_major, same_device
from ..ops.shape import cat

if TYPE_CHECKING:
    from ..tensor import Tensor

Sizes = tuple[int, ...]
CACHED = 2**18  # numbers, a megabyte of float32: the columns that are made at a time


def conv1d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    groups: int = 1,
) -> Tensor:  # fmt: skip
    """z[o, t] = b[o] + Σ_c Σ_k W[o, c, k] x[c, t · stride + k · dilation - padding], with x = 0 outside.

    A filter W[o] looks at K places of every channel, wherever they stand (correlation: it is not flipped).

    input (N, C, L) or (C, L), weight (O, C, K), bias (O,) -> (N, O, L') or (O, L'),
    L' = ⌊(L + 2 padding - dilation (K - 1) - 1) / stride⌋ + 1. padding: a number, "valid" (0) or "same" (L' = L).

    Derived: x[i] stands in z[t] with the weight W[k] if i = t · stride + k · dilation - padding, so ∂L/∂x[i] is the
    sum of grad[t] W[k] over all such pairs, and ∂L/∂W[k] = Σ_t grad[t] x[t · stride + k · dilation - padding].
    As products of matrices: see `_convolve`. A filter (1, 10) over (1, 2, 3) gives z = (21, 32):
    >>> x, W = z2g.tensor([[1.0, 2.0, 3.0]], requires_grad=True), z2g.tensor([[[1.0, 10.0]]], requires_grad=True)
    >>> F.conv1d(x, W).sum().backward(); x.grad, W.grad  # x₁ is met by both taps; W₀ meets 1 and 2
    (tensor([[ 1., 11., 10.]]), tensor([[[3., 5.]]]))
    """
    return _convolve("conv1d", 1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    groups: int = 1,
) -> Tensor:  # fmt: skip
    """z[o, s, t] = b[o] + Σ_c Σ_j Σ_k W[o, c, j, k] x[c, s + j, t + k] for stride 1; else as `conv1d`, on both axes.

    input (N, C, H, W) or (C, H, W), weight (O, C, J, K), bias (O,) -> (N, O, H', W') or (O, H', W').

    The rules are those of `conv1d`, with a window that moves along two axes. Here it fits in one place only:
    >>> x, W = z2g.ones(1, 2, 2, requires_grad=True), z2g.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    >>> F.conv2d(x, W).sum().backward(); x.grad
    tensor([[[1., 2.],
             [3., 4.]]])
    """
    return _convolve("conv2d", 2, input, weight, bias, stride, padding, dilation, groups)


@silent
def _convolve(
    name: str, n: int, input: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any,
    groups: int,
) -> Tensor:  # fmt: skip
    """Convolution along the last n dimensions: the filters as rows of a matrix times the windows as its columns.

    z = W columns + b    ∂L/∂W = grad columnsᵀ    ∂L/∂columns = Wᵀ grad    ∂L/∂b = Σ_n Σ_t grad

    A few examples at a time, so that their columns are still in the cache when they are multiplied, and are never all
    in memory: 1.5 times faster than all at once. (On a GPU all at once: each product is a launch.)
    """
    if precision.blocks:
        input, weight, bias = lowered(input, weight, bias)
    x, w = as_array(input, name), as_array(weight, name)
    if x.ndim == n + 1:
        return _convolve(name, n, input.unsqueeze(0), weight, bias, stride, padding, dilation, groups).squeeze(0)
    if groups != 1:
        raise NotImplementedError(f"{name}: groups = {groups} is not offered, only 1")
    if x.ndim != n + 2 or w.ndim != n + 2 or x.shape[1] != w.shape[1] or x.dtype != w.dtype:
        places = ("(N, C, L) and (O, C, K)", "(N, C, H, W) and (O, C, J, K)")[n - 1]
        raise RuntimeError(
            f"{name}: input {tuple(x.shape)} of {x.dtype} and weight {tuple(w.shape)} of {w.dtype}: "
            f"expected {places} with equal C and dtype"
        )
    same_device(name, input, weight, bias)
    if bias is not None and (as_array(bias, name).shape != w.shape[:1] or bias.array.dtype != x.dtype):
        got = f"bias has shape {tuple(bias.array.shape)} and dtype {bias.array.dtype}"
        raise RuntimeError(f"{name}: {got}, expected {tuple(w.shape[:1])} and {x.dtype}")
    dtype = x.dtype
    if dtype == dtypes.float16 and isinstance(x, np.ndarray):  # as in `linalg._factors`: computed in float32
        x, w = x.astype(np.float32), w.astype(np.float32)
    N, C, O, K = *x.shape[:2], w.shape[0], w.shape[2:]  # noqa: E741
    steps, spread = _sizes(name, "stride", stride, n), _sizes(name, "dilation", dilation, n)
    pads = _conv_padding(name, padding, [d * (k - 1) for d, k in zip(spread, K, strict=True)], steps)
    windows, add_back, shown = _windows(name, x, K, steps, pads, spread, 0)  # (N, C, K, L')
    lengths, fan_in, W = windows.shape[2 + n :], C * math.prod(K), w.reshape(O, -1)  # (O, C, K) -> (O, C K)
    xp, width = of(x), math.prod(lengths)
    together = N if xp is not np else max(1, CACHED // max(1, fan_in * width))
    blocks = [slice(i, i + together) for i in range(0, N, max(together, 1))]

    def columns(block: slice) -> Array:
        seen = windows[block]
        return seen.reshape(len(seen), fan_in, width)  # (m, C, K, L') -> (m, C K, L')

    z = xp.empty((N, O, width), x.dtype)
    kernels.each(lambda block: xp.matmul(W, columns(block), out=z[block]), blocks, x.size)  # (O, C K) @ (m, C K, L')
    if bias is not None:
        z += bias.array[:, None]

    read: Any = input
    if shown is not x and x.dtype == dtype and needs_grad(weight):  # padding made a copy, so the input itself may die
        read = Derived(shown, lambda array, x: with_history(x, array, x), input)
    inputs = (read, weight) if bias is None else (read, weight, bias)

    def grad_x(grad: Array, _: Array) -> Array:  # W is the weight
        grad, g = grad.reshape(z_shape), xp.empty(x_shape, wide)

        def some(block: slice) -> None:
            seen = W.T @ grad[block]  # (C K, O) @ (m, O, L')
            g[block] = add_back(seen.reshape(len(seen), C, *K, *lengths))

        kernels.each(some, blocks, g.size)
        return g

    def grad_w(grad: Array, _: Array) -> Array:  # windows shows the input
        grad, g = grad.reshape(z_shape), xp.zeros((C, math.prod(K), O), np.float64 if wide == np.float32 else wide)
        piece = min(max(width, 1), 1024) if xp is np else max(width, 1)  # BLAS adds up longer ones less exactly

        def some(channels: slice) -> None:
            out = g[channels].reshape(-1, O)  # (c, K, O) -> (c K, O), a view
            for block in blocks:  # (m, c K, L') @ (m, L', O), which is faster than its transpose
                seen, back = windows[block, channels], grad[block].swapaxes(1, 2)
                seen = seen.reshape(len(seen), len(out), width)  # (m, c, K, L') -> (m, c K, L')
                for at in range(0, width, piece):
                    out += kernels.total(seen[:, :, at : at + piece] @ back[:, at : at + piece], (0,), False)

        kernels.each(some, kernels.shares(C, grad.size), grad.size)
        return g.reshape(fan_in, O).T.reshape(w_shape).astype(wide)

    x_shape, z_shape, w_shape, places, wide = x.shape, z.shape, w.shape, (0, *range(2, n + 2)), x.dtype
    return record(
        name, (z if z.dtype == dtype else dtypes.rounded(z, dtype)).reshape(N, O, *lengths),
        (input, grad_x, weight), (weight, grad_w, read), (bias, lambda grad: kernels.total(grad, places, False)),
        twin=(lambda x, w, b=None: _plain_convolution(x, w, b, steps, pads, spread, lengths), *inputs),
    )  # fmt: skip


def _plain_convolution(
    x: Tensor, w: Tensor, b: Tensor | None, stride: Sizes, pads: list, dilation: Sizes, lengths: Sizes
) -> Tensor:
    """The convolution as a sum over the taps of the window, each of which is a product of matrices."""
    (N, C), taps = x.array.shape[:2], w.array.shape[2:]
    for axis, (left, right) in enumerate(pads, 2):  # zeros before and after
        shape = [*x.array.shape]
        ends = [x.make(of(x.array).zeros((*shape[:axis], size, *shape[axis + 1 :]), x.dtype)) for size in (left, right)]
        x = cat([ends[0], x, ends[1]], axis)
    z: Any = None if b is None else b.reshape(-1, 1)
    for at in itertools.product(*map(range, taps)):
        firsts = [k * d for k, d in zip(at, dilation, strict=True)]
        moves = tuple(slice(f, f + s * (m - 1) + 1, s) for f, s, m in zip(firsts, stride, lengths, strict=True))
        seen = x[(..., *moves)].reshape(N, C, math.prod(lengths))
        part = w[(slice(None), slice(None), *at)] @ seen  # (O, C) @ (N, C, L') -> (N, O, L')
        z = part if z is None else z + part
    return z.reshape(N, w.array.shape[0], *lengths)


def max_pool1d(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:  # fmt: skip
    """z[c, t] = max_k x[c, t · stride + k · dilation - padding], with x = -∞ outside. stride: kernel_size if None.

    The gradient goes to the largest place alone, the first of them if several are equal.
    (N, C, L) -> (N, C, L') or (C, L) -> (C, L'), with L' as in `conv1d`.

    Until another overtakes it, z[t] is its largest element: ∂z[t]/∂x = 1 there, else 0. Windows that overlap add up.
    >>> x = z2g.tensor([[1.0, 5.0, 2.0, 4.0]], requires_grad=True)
    >>> F.max_pool1d(x, 2, stride=1).sum().backward(); x.grad
    tensor([[0., 2., 0., 1.]])
    """
    return _max_pool("max_pool1d", 1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool2d(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:  # fmt: skip
    """The largest value of each window, as `max_pool1d` along both axes. (N, C, H, W) -> (N, C, H', W')

    The rule is that of `max_pool1d`: all to the largest place of the window.
    >>> x = z2g.tensor([[[1.0, 5.0], [2.0, 4.0]]], requires_grad=True); F.max_pool2d(x, 2).sum().backward(); x.grad
    tensor([[[0., 1.],
             [0., 0.]]])
    """
    return _max_pool("max_pool2d", 2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


@silent
def _max_pool(
    name: str, n: int, input: Tensor, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool,
    return_indices: bool,
) -> Tensor:  # fmt: skip
    """Where tap k is the first with the largest value, the gradient is its own: ∂z/∂column_k = [k = argmax]."""
    if return_indices:
        raise NotImplementedError(f"{name}: return_indices is not offered; see Tensor.max(dim) for places of maxima")
    spread = _sizes(name, "dilation", dilation, n)
    windows, add_back = _pool_windows(name, n, input, kernel_size, stride, padding, spread, ceil_mode, -math.inf)
    xp, kernel, lengths = of(windows), windows.shape[2 : 2 + n], windows.shape[2 + n :]
    seen = windows.reshape(*windows.shape[:2], math.prod(kernel), *lengths)  # (N, C, K1, K2, L') -> (N, C, K, L')
    K = math.prod(kernel)
    best = seen.argmax(axis=2)[:, :, None]  # (N, C, K, L') -> (N, C, 1, L')
    z = xp.take_along_axis(seen, best, axis=2)[:, :, 0]
    taps = xp.arange(K).reshape(-1, *[1] * n)  # (K, 1) to be compared with (N, C, 1, L')
    if padding != 0:  # where all of x that is seen is -∞, the first such place is the largest, not the padding
        inside = _inside(input.array.shape[-n:], kernel, lengths, name, stride, padding, spread)  # (K, L')
        best = xp.where(z[:, :, None] == -math.inf, xp.asarray(inside.argmax(0)), best)
    if xp is not np or np.isnan(z).any():  # the last NaN, as in torch
        last = K - 1 - xp.isnan(seen[:, :, ::-1]).argmax(axis=2)[:, :, None]
        best = xp.where(xp.isnan(z[:, :, None]), last, best)
    shape, wide = _without_batch(input, n, z.shape), windows.shape

    def grad_x(grad: Array) -> Array:
        return add_back(xp.where(taps == best, grad.reshape(best.shape), 0).reshape(wide)).reshape(input_shape)

    def there(x: Array) -> Array:
        again, _ = _pool_windows(name, n, make(x), kernel_size, stride, padding, spread, ceil_mode, 0)
        return xp.take_along_axis(again.reshape(seen_shape), best, axis=2).reshape(shape)

    input_shape, seen_shape, make = input.array.shape, seen.shape, input.make
    return record(name, z.reshape(shape), (input, linear_rule(name, grad_x, there)))


@silent
def avg_pool1d(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:  # fmt: skip
    """z[c, t] = (1/K) Σ_k x[c, t · stride + k - padding], with x = 0 outside. stride: kernel_size if None.

    (N, C, L) -> (N, C, L') or (C, L) -> (C, L'), with L' as in `conv1d`.

    A mean of K places, each of which moves it by 1/K. Where windows overlap, the shares add up.
    >>> x = z2g.tensor([[1.0, 5.0, 2.0]], requires_grad=True); F.avg_pool1d(x, 2, stride=1).sum().backward(); x.grad
    tensor([[0.5000, 1.0000, 0.5000]])
    """
    name = "avg_pool1d"
    if not count_include_pad:
        raise NotImplementedError(f"{name}: count_include_pad=False is not offered; the zeros of the padding count")
    windows, add_back = _pool_windows(name, 1, input, kernel_size, stride, padding, (1,), ceil_mode, 0)
    xp, wide = of(windows), windows.shape
    z = kernels.total(windows, (2,), False) / windows.shape[2]  # (N, C, K, L') -> (N, C, L')
    shape, input_shape, make = _without_batch(input, 1, z.shape), input.array.shape, input.make

    def grad_x(grad: Array) -> Array:
        share = (grad * (1 / wide[2])).reshape(*wide[:2], 1, wide[3])  # (N, C, 1, L')
        return add_back(xp.broadcast_to(share, wide)).reshape(input_shape)

    def there(x: Array) -> Array:
        again, _ = _pool_windows(name, 1, make(x), kernel_size, stride, padding, (1,), ceil_mode, 0)
        return (kernels.total(again, (2,), False) / wide[2]).reshape(shape)

    return record(name, row_major(z.reshape(shape)), (input, linear_rule(name, grad_x, there)))


# --- The picture they share --------------------------------------------------------------------------------------


def _windows(
    name: str, x: Array, kernel: Sizes, stride: Sizes, pads: list[tuple[int, int]], dilation: Sizes, outside: float
) -> tuple[Array, Callable[[Array], Array], Array]:
    """x (N, C, L) -> the windows (N, C, K, L'), a view, and the function that adds such windows up into such an x.

    In two dimensions L is H, W and K is K1, K2. The function takes any number of examples. Third, x as the windows show
    it: itself, or its copy in the middle of the padding.
    """
    n, sizes = len(kernel), x.shape[2:]
    padded_sizes = [size + sum(pad) for size, pad in zip(sizes, pads, strict=True)]
    reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    lengths = [(p - r - 1) // s + 1 for p, r, s in zip(padded_sizes, reach, stride, strict=True)]
    if min(lengths) < 1:
        span, got = (tuple(v) if n > 1 else v[0] for v in ([r + 1 for r in reach], padded_sizes))
        raise RuntimeError(f"{name}: a kernel that spans {span} does not fit an input of size {got}, padding included")
    inner = (..., *(slice(left, left + size) for (left, _), size in zip(pads, sizes, strict=True)))
    xp, padded = of(x), x
    if padded_sizes != list(sizes):
        padded = xp.full((*x.shape[:2], *padded_sizes), outside, x.dtype)
        padded[inner] = x

    example, channel, *place = padded.strides  # in bytes: how far apart in memory neighbours lie
    along = [[step * b for step, b in zip(steps, place, strict=True)] for steps in (dilation, stride)]
    windows = xp.lib.stride_tricks.as_strided(
        padded, (*x.shape[:2], *kernel, *lengths), (example, channel, *along[0], *along[1])
    )

    def add_back(seen: Array) -> Array:
        many = math.prod(kernel) > 4096 and seen.dtype == np.float32  # as in `kernels.total`
        out = xp.zeros((*seen.shape[:2], *padded_sizes), np.float64 if many else seen.dtype)
        kernels.add_windows(out, seen, stride, dilation)
        return out[inner].astype(seen.dtype, copy=False)

    return windows, add_back, x if padded is x else padded[inner]


def _pool_windows(
    name: str, n: int, input: Tensor, kernel_size: Any, stride: Any, padding: Any, dilation: Sizes, ceil_mode: bool,
    outside: float,
) -> tuple[Array, Callable[[Array], Array]]:  # fmt: skip
    """The windows of a pooling function, its arguments checked; an input without batch gets a batch of 1."""
    x = as_array(input, name)
    if x.dtype.kind != "f":
        raise RuntimeError(f"{name}: expected floating point, got {x.dtype}; convert first: x.float()")
    if x.ndim not in (n + 1, n + 2):
        raise RuntimeError(f"{name}: got shape {tuple(x.shape)}, expected {n + 2} dimensions, or {n + 1} without batch")
    if ceil_mode:
        raise NotImplementedError(f"{name}: ceil_mode is not offered; pad the input instead")
    kernel = _sizes(name, "kernel_size", kernel_size, n)
    steps = kernel if stride is None else _sizes(name, "stride", stride, n)
    pads = _sizes(name, "padding", padding, n, least=0)
    if any(2 * p > k for p, k in zip(pads, kernel, strict=True)):
        raise RuntimeError(f"{name}: padding {padding} must be at most half of kernel_size {kernel_size}")
    x = x if x.ndim == n + 2 else x[None]
    return _windows(name, x, kernel, steps, [(p, p) for p in pads], dilation, outside)[:2]


def _inside(
    sizes: Sizes, kernel: Sizes, lengths: Sizes, name: str, stride: Any, padding: Any, dilation: Sizes
) -> np.ndarray:
    """Which taps of which window lie in x, not in its padding: (K, L') of bool; in two dimensions (K1 K2, H', W')."""
    n = len(sizes)
    steps = kernel if stride is None else _sizes(name, "stride", stride, n)
    pads = _sizes(name, "padding", padding, n, least=0)
    along = []
    for size, K, length, step, pad, spread in zip(sizes, kernel, lengths, steps, pads, dilation, strict=True):
        place = np.arange(K)[:, None] * spread + np.arange(length) * step - pad  # (K, L')
        along.append((place >= 0) & (place < size))
    if n == 1:
        return along[0]
    both = along[0][:, None, :, None] & along[1][None, :, None, :]  # (K1, K2, H', W')
    return both.reshape(-1, *lengths)


def _without_batch(input: Tensor, n: int, shape: Sizes) -> Sizes:
    """The shape of the result: as it is, or without the batch of 1 that `_pool_windows` added."""
    return shape if input.array.ndim == n + 2 else shape[1:]


def _sizes(name: str, what: str, value: Any, n: int, least: int = 1) -> Sizes:
    """One number for each of n dimensions; a single number counts for all."""
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    values = tuple(as_int(v, f"{name}: {what}") for v in values) * (n if len(values) == 1 else 1)
    if len(values) != n or min(values) < least:
        bound = "positive" if least else "at least 0"
        raise RuntimeError(f"{name}: {what} must be {bound}, one number or {n} of them, got {value}")
    return values


def _conv_padding(name: str, padding: Any, reach: list[int], stride: Sizes) -> list[tuple[int, int]]:
    """How many zeros stand before and after, for each dimension."""
    if padding == "valid":
        return [(0, 0)] * len(reach)
    if padding == "same":
        if max(stride) != 1:
            raise ValueError(f"{name}: padding='same' needs stride 1, got {stride}")
        return [(r // 2, r - r // 2) for r in reach]
    if isinstance(padding, str):
        raise ValueError(f"{name}: padding must be >= 0, 'valid' or 'same', got {padding!r}")
    return [(p, p) for p in _sizes(name, "padding", padding, len(reach), least=0)]
