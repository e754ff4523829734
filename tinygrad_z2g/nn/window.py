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
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import fast
from ..arrays import dtypes
from ..arrays.backend import Array, of, silent
from ..core.engine import Derived, needs_grad, record
from ..fast import pictures
from ..half.table import apply
from ..ops.common import as_array, as_int, linear_rule, row_major, same_device
from ..ops.shape import cat
from ..walks.again import record_fused, with_history

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
    in memory: 1.5 times faster than all at once. (On a GPU all at once: each product is a launch.) For many channels of
    small pictures see `fast.pictures`.
    """
    x, w = as_array(input, name), as_array(weight, name)
    if x.ndim == n + 1:
        return _convolve(name, n, input.unsqueeze(0), weight, bias, stride, padding, dilation, groups).squeeze(0)
    groups = _check_groups(name, groups)
    if x.ndim != n + 2 or w.ndim != n + 2 or x.shape[1] != w.shape[1] * groups or x.dtype != w.dtype:
        places = ("(N, C, L) and (O, C / groups, K)", "(N, C, H, W) and (O, C / groups, J, K)")[n - 1]
        raise RuntimeError(
            f"{name}: input {tuple(x.shape)} of {x.dtype} and weight {tuple(w.shape)} of {w.dtype}: "
            f"expected {places} with equal C and dtype, groups = {groups}"
        )
    if w.shape[0] % groups:
        raise RuntimeError(f"{name}: {w.shape[0]} filters cannot be shared by {groups} groups; take a multiple of it")
    same_device(name, input, weight, bias)
    if bias is not None and (as_array(bias, name).shape != w.shape[:1] or bias.array.dtype != x.dtype):
        got = f"bias has shape {tuple(bias.array.shape)} and dtype {bias.array.dtype}"
        raise RuntimeError(f"{name}: {got}, expected {tuple(w.shape[:1])} and {x.dtype}")
    dtype = x.dtype
    if dtype == dtypes.float16 and isinstance(x, np.ndarray):  # as in `linalg._factors`: computed in float32
        x, w = x.astype(np.float32), w.astype(np.float32)
    (N, C), O, K = x.shape[:2], w.shape[0], w.shape[2:]  # noqa: E741
    steps, spread = _sizes(name, "stride", stride, n), _sizes(name, "dilation", dilation, n)
    pads = _conv_padding(name, padding, [d * (k - 1) for d, k in zip(spread, K, strict=True)], steps)
    small, loops = of(x) is np and groups == 1, fast.convolution(x, groups)
    x_shape, (padded, shown) = x.shape, (x, x) if loops else _padded(x, pads, 0)  # loops make their padding themselves
    if loops:  # as many zeros, which take no memory: for the windows' number alone
        sizes = [size + sum(pad) for size, pad in zip(x.shape[2:], pads, strict=True)]
        padded = np.broadcast_to(np.zeros((), x.dtype), (*x.shape[:2], *sizes))
    windows, _ = _windows(name, padded, K, steps, [(0, 0)] * n, spread, 0)  # (N, C, K, L')
    lengths, fan_in = windows.shape[2 + n :], C // groups * math.prod(K)
    W = w.reshape(O, -1) if groups == 1 else w.reshape(groups, O // groups, -1)  # (O, C, K) -> (O, C K)
    xp, width = of(x), math.prod(lengths)
    together = N if xp is not np else max(1, CACHED // max(1, C * math.prod(K) * width))
    blocks = [slice(i, i + together) for i in range(0, N, max(together, 1))]
    split = () if groups == 1 else (groups,)  # (m, C, ...) is taken as (m, G, C/G, ...), and a product for each group

    def columns(block: slice) -> Array:
        seen = windows[block]
        return seen.reshape(len(seen), *split, fan_in, width)  # (m, C, K, L') -> (m, C K, L')

    with_bias = False
    if small and pictures.pays(C, lengths):
        z = pictures.conv(x, w, steps, pads, spread).reshape(N, O, width)
    elif loops:
        z = loops.conv(x, w, None if bias is None else bias.array, steps, spread, lengths, pads)
        z, with_bias = z.reshape(N, O, width), True
    else:
        z = xp.empty((N, *split, O // groups, width), x.dtype)
        # (O, C K) @ (m, C K, L')
        fast.each(lambda block: xp.matmul(W, columns(block), out=z[block]), blocks, x.size)
    if bias is not None and not with_bias:
        z += bias.array.reshape(*split, O // groups, 1)

    read: Any = input
    if shown is not x and x.dtype == dtype and needs_grad(weight):  # padding made a copy, so the input itself may die
        read = Derived(shown, lambda array, x: with_history(x, array, x), input)
    inputs = (read, weight) if bias is None else (read, weight, bias)

    def grad_x(grad: Array, _: Array) -> Array:
        inside = all(max(side) <= d * (k - 1) for side, d, k in zip(pads, spread, K, strict=True))
        if small and inside and max(steps) == 1 and pictures.pays(O, lengths):
            return pictures.conv_input(grad, w, pads, spread)
        if loops and inside and max(steps) == 1:  # z[i + pad - k] got x[i] times w[k]: a convolution of grad
            reach = [d * (k - 1) for d, k in zip(spread, K, strict=True)]
            back = [(r - left, r - right) for r, (left, right) in zip(reach, pads, strict=True)]
            turned = np.flip(w, tuple(range(2, w.ndim))).swapaxes(0, 1)  # (O, C, K) -> (C, O, K)
            return loops.conv(grad, turned, None, steps, spread, x_shape[2:], back)
        grad, g = grad.reshape(z_shape), xp.empty(x_shape, wide)

        def some(block: slice) -> None:
            seen = W.swapaxes(-1, -2) @ grad[block]  # (C K, O) @ (m, O, L')
            g[block] = add_back(seen.reshape(len(seen), C, *K, *lengths))

        fast.each(some, blocks, g.size)
        return g

    def grad_w(grad: Array, _: Array) -> Array:
        if groups > 1:
            return _grad_of_groups(grad.reshape(z_shape), columns, blocks).reshape(w_shape).astype(wide)
        if small and pictures.pays(C, lengths):
            return pictures.conv_weight(shown, grad, K, steps, pads, spread)
        if loops:
            return loops.conv_weight(shown, grad, K, steps, spread, pads)
        grad, g = grad.reshape(z_shape), xp.zeros((C, math.prod(K), O), np.float64 if wide == np.float32 else wide)
        piece = min(max(width, 1), 1024) if xp is np else max(width, 1)  # BLAS adds up longer ones less exactly

        def some(channels: slice) -> None:
            out = g[channels].reshape(-1, O)  # (c, K, O) -> (c K, O), a view
            for block in blocks:  # (m, c K, L') @ (m, L', O), which is faster than its transpose
                seen, back = windows[block, channels], grad[block].swapaxes(1, 2)
                seen = seen.reshape(len(seen), len(out), width)  # (m, c, K, L') -> (m, c K, L')
                for at in range(0, width, piece):
                    out += fast.total(seen[:, :, at : at + piece] @ back[:, at : at + piece], (0,), False)

        fast.each(some, fast.shares(C, grad.size), grad.size)
        return g.reshape(fan_in, O).T.reshape(w_shape).astype(wide)

    add_back = _adder(K, steps, pads, spread, x_shape[2:], lengths)
    z_shape, w_shape, others, wide = z.shape, w.shape, (0, *range(2, n + 2)), x.dtype
    return record_fused(
        name, (z if z.dtype == dtype else dtypes.rounded(z, dtype)).reshape(N, O, *lengths),
        (input, grad_x, weight), (weight, grad_w, read), (bias, lambda grad: fast.total(grad, others, False)),
        twin=(lambda x, w, b=None: _plain_convolution(x, w, b, steps, pads, spread, lengths), *inputs),
    )  # fmt: skip


def _plain_convolution(
    x: Tensor, w: Tensor, b: Tensor | None, stride: Sizes, pads: list, dilation: Sizes, lengths: Sizes
) -> Tensor:
    """The convolution as a sum over the taps of the window, each of which is a product of matrices."""
    (N, C), (O, c), taps = x.array.shape[:2], w.array.shape[:2], w.array.shape[2:]  # noqa: E741
    G = C // c
    for axis, (left, right) in enumerate(pads, 2):  # zeros before and after
        shape = [*x.array.shape]
        ends = [x.make(of(x.array).zeros((*shape[:axis], size, *shape[axis + 1 :]), x.dtype)) for size in (left, right)]
        x = cat([ends[0], x, ends[1]], axis)
    z: Any = None if b is None else b.reshape(G, O // G, 1)
    for at in itertools.product(*map(range, taps)):
        firsts = [k * d for k, d in zip(at, dilation, strict=True)]
        moves = tuple(slice(f, f + s * (m - 1) + 1, s) for f, s, m in zip(firsts, stride, lengths, strict=True))
        seen = x[(..., *moves)].reshape(N, G, c, math.prod(lengths))  # (N, C, L') -> (N, G, C/G, L')
        part = w[(slice(None), slice(None), *at)].reshape(G, O // G, c) @ seen  # (G, O/G, C/G) @ (N, G, C/G, L')
        z = part if z is None else z + part
    return z.reshape(N, O, *lengths)


def _plain_transposed(
    x: Tensor, w: Tensor, b: Tensor | None, groups: int, stride: Sizes, pads: list, dilation: Sizes, sizes: Sizes
) -> Tensor:
    """The transposed convolution tap by tap: what each sends out is written to its places of a picture of zeros."""
    (N, C), taps, lengths = x.array.shape[:2], w.array.shape[2:], x.array.shape[2:]
    O, rows = w.array.shape[1] * groups, x.reshape(N, groups, C // groups, math.prod(lengths))  # noqa: E741
    whole = (N, O, *(size + sum(pad) for size, pad in zip(sizes, pads, strict=True)))
    z: Any = 0
    for at in itertools.product(*map(range, taps)):
        firsts = [k * d for k, d in zip(at, dilation, strict=True)]
        moves = tuple(slice(f, f + s * (m - 1) + 1, s) for f, s, m in zip(firsts, stride, lengths, strict=True))
        part = w[(slice(None), slice(None), *at)].reshape(groups, C // groups, O // groups).mT @ rows
        spread = x.make(of(x.array).zeros(whole, x.dtype))
        spread[(..., *moves)] = part.reshape(N, O, *lengths)
        z = z + spread
    z = z[(..., *(slice(left, left + size) for (left, _), size in zip(pads, sizes, strict=True)))]
    return z if b is None else z + b.reshape(-1, *[1] * len(sizes))


def _grad_of_groups(grad: Array, columns: Callable[[slice], Array], blocks: list[slice]) -> Array:
    """∂L/∂W (G, O/G, C/G K): for each group grad (m, G, O/G, L') @ columnsᵀ (m, G, L', C/G K), summed over examples."""
    xp = of(grad)
    precise = np.float64 if grad.dtype == np.float32 else grad.dtype
    g = xp.zeros((*grad.shape[1:3], columns(slice(0, 0)).shape[-2]), precise)
    for block in blocks:
        g += fast.total(grad[block] @ columns(block).swapaxes(-1, -2), (0,), False)
    return g


def _check_groups(name: str, groups: Any) -> int:
    groups = as_int(groups, f"{name}: groups")
    if groups < 1:
        raise RuntimeError(f"{name}: groups must be at least 1, got {groups}")
    return groups


def conv_transpose1d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
    output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> Tensor:  # fmt: skip
    """z[o, t · stride + k · dilation - padding] += W[c, o, k] x[c, t]: `conv1d` read backwards; then + b[o].

    Each number of x paints the filter onto z, times itself: what `conv1d` sends back as ∂L/∂x is this function.

    input (N, C, L) or (C, L), weight (C, O / groups, K), bias (O,) -> (N, O, L'),
    L' = (L - 1) stride - 2 padding + dilation (K - 1) + output_padding + 1. (Zeiler et al. 2010)

    Derived: z is linear in x with the matrix that conv1d's rule multiplies by, so this rule multiplies by conv1d's own:
    ∂L/∂x = conv1d(grad, W), and ∂L/∂W[c, o, k] = Σ_t x[c, t] grad[o, t · stride + k · dilation - padding].
    >>> x, W = z2g.tensor([[1.0, 2.0]], requires_grad=True), z2g.tensor([[[1.0, 10.0]]], requires_grad=True)
    >>> z = F.conv_transpose1d(x, W); z.tolist(), z.sum().backward()  # 1 · (1, 10), and one further 2 · (1, 10)
    ([[1.0, 12.0, 20.0]], None)
    >>> x.grad, W.grad
    (tensor([[11., 11.]]), tensor([[[3., 3.]]]))
    """
    return _transposed(
        "conv_transpose1d", 1, input, weight, bias, stride, padding, output_padding, groups, dilation
    )


def conv_transpose2d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
    output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> Tensor:  # fmt: skip
    """z[o] = b[o] + Σ_c of pictures: each number of x[c] paints the filter W[c, o] onto z; as `conv_transpose1d`.

    input (N, C, H, W) or (C, H, W), weight (C, O / groups, J, K), bias (O,) -> (N, O, H', W').

    The rules are those of `conv_transpose1d`, on both axes.
    >>> x, W = z2g.ones(1, 1, 1, requires_grad=True), z2g.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    >>> F.conv_transpose2d(x, W).sum().backward(); x.grad
    tensor([[[10.]]])
    """
    return _transposed(
        "conv_transpose2d", 2, input, weight, bias, stride, padding, output_padding, groups, dilation
    )


@silent
def _transposed(
    name: str, n: int, input: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, more: Any,
    groups: int, dilation: Any,
) -> Tensor:  # fmt: skip
    """columns = Wᵀ x, added up where they belong.   ∂L/∂x = W columns(grad),  ∂L/∂W = x columns(grad)ᵀ"""
    x, w = as_array(input, name), as_array(weight, name)
    if x.ndim == n + 1:
        return _transposed(
            name, n, input.unsqueeze(0), weight, bias, stride, padding, more, groups, dilation
        ).squeeze(0)
    groups = _check_groups(name, groups)
    if x.ndim != n + 2 or w.ndim != n + 2 or x.shape[1] != w.shape[0] or x.dtype != w.dtype or w.shape[0] % groups:
        places = ("(N, C, L) and (C, O / groups, K)", "(N, C, H, W) and (C, O / groups, J, K)")[n - 1]
        raise RuntimeError(
            f"{name}: input {tuple(x.shape)} of {x.dtype} and weight {tuple(w.shape)} of {w.dtype}: "
            f"expected {places} with equal C, a multiple of groups = {groups}, and equal dtype"
        )
    same_device(name, input, weight, bias)
    (N, C), O, K = x.shape[:2], w.shape[1] * groups, w.shape[2:]  # noqa: E741
    if bias is not None and (as_array(bias, name).shape != (O,) or bias.array.dtype != x.dtype):
        got = f"bias has shape {tuple(bias.array.shape)} and dtype {bias.array.dtype}"
        raise RuntimeError(f"{name}: {got}, expected ({O},) and {x.dtype}")
    dtype = x.dtype
    if dtype == dtypes.float16 and isinstance(x, np.ndarray):  # as in `_convolve`
        x, w = x.astype(np.float32), w.astype(np.float32)
    steps, spread = _sizes(name, "stride", stride, n), _sizes(name, "dilation", dilation, n)
    pads, extra = _sizes(name, "padding", padding, n, least=0), _sizes(name, "output_padding", more, n, least=0)
    if any(e >= max(s, d) for e, s, d in zip(extra, steps, spread, strict=True)):
        raise RuntimeError(
            f"{name}: output padding must be smaller than either stride or dilation, got {extra} beside {steps} and "
            f"{spread}"
        )
    lengths, sides = x.shape[2:], [(p, p) for p in pads]
    sizes = tuple(
        (m - 1) * s - 2 * p + d * (k - 1) + e + 1
        for m, s, p, d, k, e in zip(lengths, steps, pads, spread, K, extra, strict=True)
    )
    if min(sizes) < 1:
        raise RuntimeError(f"{name}: the result would have the size {sizes}; take less padding or a larger input")
    add_back = _adder(K, steps, sides, spread, sizes, lengths)
    wide, fan_out = x.dtype, O // groups * math.prod(K)
    W = w.reshape(groups, C // groups, fan_out)  # (C, O/G, K) -> (G, C/G, O/G K)
    rows = x.reshape(N, groups, C // groups, math.prod(lengths))  # (N, C, L) -> (N, G, C/G, L)
    seen = W.swapaxes(1, 2) @ rows  # (G, O/G K, C/G) @ (N, G, C/G, L)
    z = row_major(add_back(seen.reshape(N, O, *K, *lengths)))
    if bias is not None:
        z += bias.array.reshape(-1, *[1] * n)
    x_shape, w_shape, others = x.shape, w.shape, (0, *range(2, n + 2))

    def columns(grad: Array) -> Array:
        every, _ = _windows(name, grad.astype(wide, copy=False), K, steps, sides, spread, 0)  # (N, O, K, L)
        met = every[(..., *(slice(m) for m in lengths))]  # an output_padding beyond the stride adds windows
        return met.reshape(N, groups, fan_out, math.prod(lengths))

    def grad_x(grad: Array, _: Array) -> Array:  # W is the weight
        return (W @ columns(grad)).reshape(x_shape)

    def grad_w(grad: Array, _: Array) -> Array:  # rows is the input
        return fast.total(rows @ columns(grad).swapaxes(2, 3), (0,), False).reshape(w_shape)

    inputs = (input, weight) if bias is None else (input, weight, bias)
    return record_fused(
        name, z if z.dtype == dtype else dtypes.rounded(z, dtype),
        (input, grad_x, weight), (weight, grad_w, input), (bias, lambda grad: fast.total(grad, others, False)),
        twin=(lambda x, w, b=None: _plain_transposed(x, w, b, groups, steps, sides, spread, sizes), *inputs),
    )  # fmt: skip


def max_pool1d(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:  # fmt: skip
    """z[c, t] = max_k x[c, t · stride + k · dilation - padding], with x = -∞ outside. stride: kernel_size if None.

    The gradient goes to the largest place alone, the first of them if several are equal. `return_indices` returns the
    numbers of these places too. (N, C, L) -> (N, C, L') or (C, L) -> (C, L'), with L' as in `conv1d`; `ceil_mode`
    rounds L' up, if the last window begins in x or in its left padding.

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
) -> Any:  # fmt: skip
    """Where tap k is the first with the largest value, the gradient is its own: ∂z/∂column_k = [k = argmax]."""
    frame = _frame(name, n, input, kernel_size, stride, padding, dilation, ceil_mode)
    xp, x, lengths = of(frame.x), frame.x, frame.lengths
    padded_sizes = tuple(size + sum(pad) for size, pad in zip(x.shape[2:], frame.pads, strict=True))
    inner = (..., *(slice(left, left + size) for (left, _), size in zip(frame.pads, x.shape[2:], strict=True)))
    padded = x
    if frame.padded:
        padded = xp.full((*x.shape[:2], *padded_sizes), -math.inf, x.dtype)
        padded[inner] = x
    row = (1,) * (2 - n)  # a sequence is a picture of one row
    settings = [row + steps for steps in (frame.kernel, frame.stride, frame.dilation)]
    z, best = fast.max_windows(padded.reshape(*x.shape[:2], *row, *padded_sizes), *settings, row + lengths)
    z, best = (a.reshape(*x.shape[:2], *lengths) for a in (z, best))
    if frame.padded:  # where all of x that is seen is -∞, the first such place is the largest, not the padding
        inside = frame.inside().reshape(-1, *lengths)  # (K, L')
        best = xp.where(z == -math.inf, xp.asarray(inside.argmax(0)), best)
    shape, input_shape, wide = _without_batch(input, n, z.shape), input.array.shape, (*z.shape[:2], *row, *lengths)

    def grad_x(grad: Array) -> Array:
        g = fast.add_at_best(grad.reshape(wide), best.reshape(wide), *settings, row + padded_sizes)
        return g.reshape(*wide[:2], *padded_sizes)[inner].reshape(input_shape)

    def there(x: Array) -> Array:
        again, _ = _windows(frame.name, x.reshape(frame_shape), *frame[2:-1], 0)
        seen = again.reshape(*frame_shape[:2], math.prod(frame.kernel), *lengths)  # (N, C, K1, K2, L') -> (N, C, K, L')
        return xp.take_along_axis(seen, best[:, :, None], axis=2).reshape(shape)

    indices = input.make(frame.numbers(best).reshape(shape)) if return_indices else None
    frame_shape, frame = x.shape, frame._replace(x=None)
    pooled = record(name, z.reshape(shape), (input, linear_rule(name, grad_x, there)))
    return (pooled, indices) if return_indices else pooled


def avg_pool1d(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:  # fmt: skip
    """z[c, t] = (1/K) Σ_k x[c, t · stride + k - padding], with x = 0 outside. stride: kernel_size if None.

    (N, C, L) -> (N, C, L') or (C, L) -> (C, L'), with L' as in `conv1d`; `ceil_mode` rounds L' up, if the last window
    begins in x or in its left padding. What lies beyond the padding does not count in K, and without
    `count_include_pad` neither do the zeros of the padding.

    A mean of K places, each of which moves it by 1/K. Where windows overlap, the shares add up.
    >>> x = z2g.tensor([[1.0, 5.0, 2.0]], requires_grad=True); F.avg_pool1d(x, 2, stride=1).sum().backward(); x.grad
    tensor([[0.5000, 1.0000, 0.5000]])
    """
    return _avg_pool("avg_pool1d", 1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


def avg_pool2d(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None,
) -> Tensor:  # fmt: skip
    """The mean of each window, as `avg_pool1d` along both axes, or its sum / divisor_override. (N, C, H, W)

    The rule is that of `avg_pool1d`: the same share to each place.
    >>> x = z2g.tensor([[[1.0, 5.0], [2.0, 4.0]]], requires_grad=True); F.avg_pool2d(x, 2).sum().backward(); x.grad
    tensor([[[0.2500, 0.2500],
             [0.2500, 0.2500]]])
    """
    if divisor_override == 0:
        raise RuntimeError("avg_pool2d: divisor must be not zero")
    settings = ceil_mode, count_include_pad, divisor_override
    return _avg_pool("avg_pool2d", 2, input, kernel_size, stride, padding, *settings)


@silent
def _avg_pool(
    name: str, n: int, input: Tensor, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool, with_padding: bool,
    divisor: int | None,
) -> Tensor:  # fmt: skip
    """Each place of a window has the share 1 / count of the result, and of the gradient; so many of them count."""
    frame = _frame(name, n, input, kernel_size, stride, padding, 1, ceil_mode)
    windows, add_back = _windows(*frame[:-1], 0)
    xp, K = of(windows), math.prod(frame.kernel)
    count: Any = K if divisor is None else divisor
    if divisor is None and (ceil_mode or (frame.padded and not with_padding)):
        count = xp.asarray(frame.counts(with_padding)).astype(windows.dtype)  # (L')
    if K <= 16 and windows.dtype != dtypes.float16:
        taps = _places(windows, n)
        total = taps[0].copy()
        for tap in taps[1:]:
            total += tap
    else:
        total = fast.total(windows, tuple(range(2, 2 + n)), False)  # (N, C, K, L') -> (N, C, L')
    z = total / count
    shape, input_shape, seen = _without_batch(input, n, z.shape), input.array.shape, z.shape

    def grad_x(grad: Array) -> Array:
        part = grad.reshape(seen) / count
        return add_back(part for _ in range(K)).reshape(input_shape)

    def there(x: Array) -> Array:
        again, _ = _windows(frame.name, x.reshape(frame_shape), *frame[2:-1], 0)
        return (fast.total(again, tuple(range(2, 2 + n)), False) / count).reshape(shape)

    frame_shape, frame = frame.x.shape, frame._replace(x=None)
    return record(name, row_major(z.reshape(shape)), (input, linear_rule(name, grad_x, there)))


# --- The picture they share --------------------------------------------------------------------------------------


def _windows(
    name: str, x: Array, kernel: Sizes, stride: Sizes, pads: list[tuple[int, int]], dilation: Sizes, outside: float
) -> tuple[Array, Callable[[Iterable[Array]], Array]]:
    """x (N, C, L) -> the windows (N, C, K, L'), a view, and the function that adds such windows up into such an x.

    In two dimensions L is H, W and K is K1, K2. The function takes any number of examples.
    """
    n, sizes = len(kernel), x.shape[2:]
    padded_sizes = [size + sum(pad) for size, pad in zip(sizes, pads, strict=True)]
    reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    lengths = tuple((p - r - 1) // s + 1 for p, r, s in zip(padded_sizes, reach, stride, strict=True))
    if min(lengths) < 1:
        span, got = (tuple(v) if n > 1 else v[0] for v in ([r + 1 for r in reach], padded_sizes))
        raise RuntimeError(f"{name}: a kernel that spans {span} does not fit an input of size {got}, padding included")
    xp, (padded, _) = of(x), _padded(x, pads, outside)
    example, channel, *place = padded.strides  # in bytes: how far apart in memory neighbours lie
    along = [[step * b for step, b in zip(steps, place, strict=True)] for steps in (dilation, stride)]
    windows = xp.lib.stride_tricks.as_strided(
        padded, (*x.shape[:2], *kernel, *lengths), (example, channel, *along[0], *along[1])
    )

    return windows, _adder(kernel, stride, pads, dilation, sizes, lengths)


def _padded(x: Array, pads: list[tuple[int, int]], outside: float) -> tuple[Array, Array]:
    """x with its padding, and of that the part that is x; x itself, twice, if there is no padding."""
    if not any(map(any, pads)):
        return x, x
    sizes = x.shape[2:]
    padded = of(x).full(
        (*x.shape[:2], *(size + sum(pad) for size, pad in zip(sizes, pads, strict=True))), outside, x.dtype
    )
    inner = padded[(..., *(slice(left, left + size) for (left, _), size in zip(pads, sizes, strict=True)))]
    inner[...] = x
    return padded, inner


def _adder(
    kernel: Sizes, stride: Sizes, pads: list[tuple[int, int]], dilation: Sizes, sizes: Sizes, lengths: Sizes
) -> Callable[[Iterable[Array]], Array]:
    """The function that adds windows up into an x (N, C, L), L = sizes: one part (N, C, L'), L' = lengths, for each of
    the K places of the window."""
    inner = (..., *(slice(left, left + size) for (left, _), size in zip(pads, sizes, strict=True)))
    padded_sizes = [size + sum(pad) for size, pad in zip(sizes, pads, strict=True)]

    def add_back(seen: Any) -> Array:
        if hasattr(seen, "dtype"):  # all windows (N, C, K, L') in one array
            many = math.prod(kernel) > 4096 and seen.dtype == np.float32  # as in `fast.total`
            out = of(seen).zeros((*seen.shape[:2], *padded_sizes), np.float64 if many else seen.dtype)
            fast.add_windows(out, seen, stride, dilation)
            return out[inner].astype(seen.dtype, copy=False)
        out = None
        for at, part in zip(itertools.product(*map(range, kernel)), seen, strict=True):
            if out is None:
                many = math.prod(kernel) > 4096 and part.dtype == np.float32  # as in `fast.total`
                out = of(part).zeros((*part.shape[:2], *padded_sizes), np.float64 if many else part.dtype)
            firsts = [k * d for k, d in zip(at, dilation, strict=True)]  # where this place goes as the window moves
            moves = (slice(f, f + s * (m - 1) + 1, s) for f, s, m in zip(firsts, stride, lengths, strict=True))
            out[(..., *moves)] += part
        return out[inner].astype(part.dtype, copy=False)

    return add_back


class _Frame(NamedTuple):
    """The windows of a pooling function along n dimensions: what `_windows` takes, and how many there are."""

    name: str
    x: Array  # (N, C, L), with a batch of 1 if there was none
    kernel: Sizes
    stride: Sizes
    pads: list[tuple[int, int]]  # the right one longer where the last window reaches beyond the padding
    dilation: Sizes
    lengths: Sizes  # how many windows

    @property
    def padded(self) -> bool:
        """Whether a window may see something else than x."""
        return any(map(any, self.pads))

    def places(self, i: int) -> np.ndarray:
        """Where in x, along its dimension i, which tap of which window lies: (K, L')."""
        taps = np.arange(self.kernel[i])[:, None] * self.dilation[i]
        return taps + np.arange(self.lengths[i]) * self.stride[i] - self.pads[i][0]

    def inside(self) -> np.ndarray:
        """Which of them lie in x, not in its padding: (K, L') of bool; in two dimensions (K1, K2, H', W')."""
        n, found = len(self.kernel), np.ones((1,) * 2 * len(self.kernel), bool)
        for i, size in enumerate(self.x.shape[2:]):
            places = self.places(i)
            shape = [1] * 2 * n
            shape[i], shape[n + i] = places.shape
            found = found & ((places >= 0) & (places < size)).reshape(shape)
        return found

    def counts(self, with_padding: bool) -> np.ndarray:
        """How many places of each window (L') count: those in x, and in its padding if asked; none beyond it."""
        counts = np.ones((1,) * len(self.kernel))
        for i, (size, (left, _)) in enumerate(zip(self.x.shape[2:], self.pads, strict=True)):
            places, pad = self.places(i), left if with_padding else 0
            shape = [1] * len(self.kernel)
            shape[i] = self.lengths[i]
            counts = counts * ((places >= -pad) & (places < size + pad)).sum(0).reshape(shape)
        return counts

    def numbers(self, best: Array) -> Array:
        """The number of the element of x, counted within its channel, that tap number `best` (N, C, L') sees."""
        xp, n = of(best), len(self.kernel)
        numbers: Any = 0
        for i, size in enumerate(self.x.shape[2:]):
            tap = best // math.prod(self.kernel[i + 1 :]) % self.kernel[i]
            shape = [1] * n
            shape[i] = self.lengths[i]
            first = xp.arange(self.lengths[i]).reshape(shape) * self.stride[i] - self.pads[i][0]
            numbers = numbers * size + (tap * self.dilation[i] + first)
        return numbers


def _frame(
    name: str, n: int, input: Tensor, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> _Frame:
    """The windows of a pooling function, its arguments checked; an input without batch gets a batch of 1."""
    x = as_array(input, name)
    if x.dtype.kind != "f":
        raise RuntimeError(f"{name}: expected floating point, got {x.dtype}; convert first: x.float()")
    if x.ndim not in (n + 1, n + 2):
        raise RuntimeError(f"{name}: got shape {tuple(x.shape)}, expected {n + 2} dimensions, or {n + 1} without batch")
    kernel, spread = _sizes(name, "kernel_size", kernel_size, n), _sizes(name, "dilation", dilation, n)
    steps = kernel if stride is None else _sizes(name, "stride", stride, n)
    pads = _sizes(name, "padding", padding, n, least=0)
    if any(2 * p > k for p, k in zip(pads, kernel, strict=True)):
        raise RuntimeError(f"{name}: padding {padding} must be at most half of kernel_size {kernel_size}")
    x = x if x.ndim == n + 2 else x[None]
    sides, lengths = [], []
    for size, k, s, p, d in zip(x.shape[2:], kernel, steps, pads, spread, strict=True):
        free = size + 2 * p - d * (k - 1) - 1
        length = (-(-free // s) if ceil_mode else free // s) + 1
        if ceil_mode and (length - 1) * s >= size + p:
            length -= 1  # that window would begin in the right padding
        if length < 1:
            span, got = d * (k - 1) + 1, f"{size + 2 * p}, padding included"
            raise RuntimeError(f"{name}: a kernel that spans {span} does not fit an input of size {got}")
        sides.append((p, p + max(0, (length - 1) * s - free)))
        lengths.append(length)
    return _Frame(name, x, kernel, steps, sides, spread, tuple(lengths))


def _without_batch(input: Tensor, n: int, shape: Sizes) -> Sizes:
    """The shape of the result: as it is, or without the batch of 1 that `_frame` added."""
    return shape if input.array.ndim == n + 2 else shape[1:]


def _places(seen: Array, n: int) -> list[Array]:
    """Windows (N, C, K, L') as K parts (N, C, L'), views: for each place of the window what it sees as it moves."""
    return [seen[(slice(None), slice(None), *at)] for at in np.ndindex(*seen.shape[2 : 2 + n])]


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


apply(globals())  # mixed precision, by the table in half/
