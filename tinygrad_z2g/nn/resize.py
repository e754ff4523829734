"""Pictures and sequences of another size: interpolation, pooling to a given size, borders, and blocks moved around.

All but `unfold` and `fold` are composed of indexing, products and sums; they know nothing of layers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays.backend import Array, of, silent
from ..core.engine import record
from ..ops.common import as_array, as_int, linear_rule, number, row_major
from ..ops.elementwise import masked_fill
from ..ops.indexing import gather, getitem, index_select
from ..ops.reduction import max as maximum
from ..ops.reduction import sum as summed
from ..ops.shape import cat, flip
from .losses import check_floating
from .window import _adder, _places, _sizes, _windows, avg_pool1d, avg_pool2d

if TYPE_CHECKING:
    from ..tensor import Tensor

ALL = slice(None)
LINEAR = {"linear": 1, "bilinear": 2, "bicubic": 2, "trilinear": 3}  # modes, and along how many dimensions


# --- Interpolation -----------------------------------------------------------------------------------------------


def interpolate(
    input: Tensor, size: Any = None, scale_factor: Any = None, mode: str = "nearest",
    align_corners: bool | None = None, recompute_scale_factor: bool | None = None, antialias: bool = False,
) -> Tensor:  # fmt: skip
    """z[t] = Σ_k w_k x[i_k]: another size along the last dimensions, each number made of its nearest ones in x.

    input (N, C, L), (N, C, H, W) or (N, C, D, H, W). `size` is the new one, or `scale_factor` times the old, rounded
    down. Number t of the new ones lies at s = (t + 1/2) L / L' - 1/2 in x, or with `align_corners` at
    t (L - 1) / (L' - 1).
    mode: "nearest" takes x[⌊t L / L'⌋], "nearest-exact" x[⌊(t + 1/2) L / L'⌋]; "linear", "bilinear", "trilinear" the
    two numbers around s, by their distances; "bicubic" four (Keys 1981, a = -3/4); "area" is `adaptive_avg_pool1d`.
    `antialias` is not offered.

    Composed of `index_select`, products and sums, one dimension after the other.
    >>> x = z2g.tensor([[[1.0, 2.0]]], requires_grad=True); F.interpolate(x, 4, mode="linear")
    tensor([[[1.0000, 1.2500, 1.7500, 2.0000]]], grad_fn=<add>)
    >>> F.interpolate(x, scale_factor=2)[..., :3].sum().backward(); x.grad  # (1, 1, 2, 2)
    tensor([[[2., 1.]]])
    """
    a = as_array(input, "interpolate")
    n = a.ndim - 2
    known = ("nearest", "nearest-exact", "area", *LINEAR)
    if mode not in known or n not in (1, 2, 3) or LINEAR.get(mode, n) != n:
        raise NotImplementedError(
            f"interpolate: got {a.ndim}D input and mode {mode!r}; expected 3D, 4D or 5D, and {', '.join(known)}, "
            "where linear is for 3D, bilinear and bicubic for 4D, trilinear for 5D"
        )
    if antialias:
        raise NotImplementedError("interpolate: antialias is not offered; blur first, or use mode='area'")
    if mode in LINEAR:
        check_floating(a, "interpolate")
    elif align_corners is not None:
        raise ValueError(f"interpolate: align_corners is for linear, bilinear, bicubic and trilinear, not {mode!r}")
    sizes, scales = _new_sizes(a.shape[2:], size, scale_factor, recompute_scale_factor)
    if mode == "area":
        return {1: adaptive_avg_pool1d, 2: adaptive_avg_pool2d}[n](input, sizes)
    for i, (new, scale) in enumerate(zip(sizes, scales, strict=True)):
        old = a.shape[2 + i]
        if new == old and scale is None:
            continue
        step = old / new if scale is None else 1 / scale
        input = _stretched(input, 2 + i, new, step, mode, bool(align_corners))
    return input


def _new_sizes(old: tuple, size: Any, scale_factor: Any, recompute: bool | None) -> tuple[list[int], list]:
    """The sizes, and the factors where these count and not the ratio of sizes (a factor of 1.5 makes 7 out of 5)."""
    if (size is None) == (scale_factor is None):
        raise ValueError(
            "interpolate: only one of size or scale_factor should be defined"
            if size is not None
            else "interpolate: either size or scale_factor should be defined"
        )
    n = len(old)
    given = size if scale_factor is None else scale_factor
    values = list(given) if isinstance(given, (tuple, list)) else [given] * n
    if len(values) != n:
        raise ValueError(f"interpolate: got {given}, expected one number or {n} of them, one for each of {tuple(old)}")
    if scale_factor is None:
        if recompute:
            raise ValueError("interpolate: recompute_scale_factor is not meaningful with an explicit size.")
        sizes, scales = [as_int(v, "interpolate: size") for v in values], [None] * n
    else:
        values = [float(number(v, "interpolate: scale_factor")) for v in values]
        sizes = [math.floor(m * v) for m, v in zip(old, values, strict=True)]
        scales = [None] * n if recompute else values
    if min(sizes) < 1:
        raise RuntimeError(f"interpolate: sizes should be greater than 0, got {tuple(old)} and {sizes}")
    return sizes, scales


def _stretched(x: Tensor, dim: int, new: int, step: float, mode: str, align_corners: bool) -> Tensor:
    """x with `new` numbers along dim, `step` old ones apart."""
    old, t = x.array.shape[dim], np.arange(new)
    if mode.startswith("nearest"):
        offset = 0.5 if mode == "nearest-exact" else 0.0
        places = np.minimum(np.floor(np.float32(t + offset) * np.float32(step)), old - 1)
        return _picked(x, dim, places)
    s = t * ((old - 1) / max(new - 1, 1)) if align_corners else (t + 0.5) * step - 0.5
    if mode != "bicubic":
        s = np.maximum(s, 0)
    first = np.floor(s)
    if mode == "bicubic":
        first, f = first - 1, s - first
        weights = [_cubic(f + 1), _cubic(f), _cubic(1 - f), _cubic(2 - f)]
    else:
        weights = [1 - (s - first), s - first]
    z: Any = None
    for k, w in enumerate(weights):
        shape = [1] * x.array.ndim
        shape[dim] = new
        share = x.make(of(x.array).asarray(w.astype(x.array.dtype).reshape(shape)))
        part = _picked(x, dim, np.clip(first + k, 0, old - 1)) * share
        z = part if z is None else z + part
    return z


def _cubic(d: np.ndarray) -> np.ndarray:
    """The weight of a number at distance d, 0 ≤ d ≤ 2: two cubics that meet smoothly (Keys 1981)."""
    a = -0.75
    return np.where(d <= 1, ((a + 2) * d - (a + 3)) * d * d + 1, ((d - 5) * d + 8) * d * a - 4 * a)


def _picked(x: Tensor, dim: int, places: np.ndarray) -> Tensor:
    return index_select(x, dim, x.make(of(x.array).asarray(places.astype(np.int64))))


def upsample(
    input: Tensor, size: Any = None, scale_factor: Any = None, mode: str = "nearest", align_corners: bool | None = None
) -> Tensor:
    """The old name of `interpolate`.

    >>> x = z2g.ones(1, 1, 2, requires_grad=True); F.upsample(x, scale_factor=2).sum().backward(); x.grad
    tensor([[[2., 2.]]])
    """
    return interpolate(input, size, scale_factor, mode, align_corners)


# --- Pooling to a given size -------------------------------------------------------------------------------------


def adaptive_avg_pool1d(input: Tensor, output_size: Any) -> Tensor:
    """z[t] = the mean of x[⌊t L / L'⌋ : ⌈(t + 1) L / L'⌉]: L' windows that cover x.  (N, C, L) -> (N, C, L')

    Composed; where L is a multiple of L' it is `avg_pool1d`.
    >>> x = z2g.tensor([[1.0, 5.0, 2.0]], requires_grad=True); F.adaptive_avg_pool1d(x, 2).sum().backward(); x.grad
    tensor([[0.5000, 1.0000, 0.5000]])
    """
    return _adaptive_mean("adaptive_avg_pool1d", input, 1, output_size)


def adaptive_avg_pool2d(input: Tensor, output_size: Any) -> Tensor:
    """The mean of each of H' × W' windows, as `adaptive_avg_pool1d` along both axes; None keeps a size.

    (N, C, H, W) -> (N, C, H', W'), or without batch.
    >>> x = z2g.ones(1, 2, 2, requires_grad=True); F.adaptive_avg_pool2d(x, 1).sum().backward(); x.grad
    tensor([[[0.2500, 0.2500],
             [0.2500, 0.2500]]])
    """
    return _adaptive_mean("adaptive_avg_pool2d", input, 2, output_size)


def _adaptive_mean(name: str, input: Tensor, n: int, output_size: Any) -> Tensor:
    old, new = _adaptive_sizes(name, input, n, output_size)
    if all(m and m % k == 0 for m, k in zip(old, new, strict=True)):
        window = [m // k for m, k in zip(old, new, strict=True)]
        return (avg_pool1d if n == 1 else avg_pool2d)(input, window)
    for i, (m, k) in enumerate(zip(old, new, strict=True)):
        dim = input.array.ndim - n + i
        places, inside = _covering(m, k)  # (L', K)
        seen = _windowed(input, dim, places)  # (..., L', K, ...)
        shape = [1] * seen.array.ndim
        shape[dim : dim + 2] = places.shape
        outside = input.make(of(input.array).asarray(~inside.reshape(shape)))
        counts = inside.sum(1).astype(input.array.dtype).reshape([*shape[: dim + 1], *shape[dim + 2 :]])
        input = summed(masked_fill(seen, outside, 0.0), dim + 1) / input.make(of(input.array).asarray(counts))
    return input


def adaptive_max_pool1d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """z[t] = the largest of x[⌊t L / L'⌋ : ⌈(t + 1) L / L'⌉].  (N, C, L) -> (N, C, L')

    Composed of indexing and `max`, which knows where the largest stood; `return_indices` returns that too.
    >>> x = z2g.tensor([[1.0, 5.0, 2.0]], requires_grad=True); F.adaptive_max_pool1d(x, 2).sum().backward(); x.grad
    tensor([[0., 2., 0.]])
    """
    return _adaptive_max("adaptive_max_pool1d", input, 1, output_size, return_indices)


def adaptive_max_pool2d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """The largest of each of H' × W' windows, as `adaptive_max_pool1d` along both axes.

    >>> x = z2g.tensor([[[1.0, 5.0], [2.0, 4.0]]], requires_grad=True)
    >>> F.adaptive_max_pool2d(x, 1).sum().backward(); x.grad
    tensor([[[0., 1.],
             [0., 0.]]])
    """
    return _adaptive_max("adaptive_max_pool2d", input, 2, output_size, return_indices)


def _adaptive_max(name: str, input: Tensor, n: int, output_size: Any, return_indices: bool) -> Any:
    old, new = _adaptive_sizes(name, input, n, output_size)
    xp, lead = of(input.array), input.array.shape[: input.array.ndim - n]
    covers = [_covering(m, k)[0] for m, k in zip(old, new, strict=True)]
    numbers = covers[0]  # of each element that a window sees: (L', K), or (H', W', K1 K2)
    if n == 2:
        numbers = covers[0][:, None, :, None] * old[1] + covers[1][None, :, None, :]
        numbers = numbers.reshape(*new, -1)
    flat = input.reshape(*lead, math.prod(old))
    seen = getitem(flat, (..., input.make(xp.asarray(numbers))))  # (..., L', K)
    best = maximum(seen, -1)
    if not return_indices:
        return best.values
    where = input.make(xp.asarray(np.broadcast_to(numbers, seen.array.shape).copy()))
    return best.values, gather(where, -1, best.indices.unsqueeze(-1)).squeeze(-1)


def _adaptive_sizes(name: str, input: Tensor, n: int, output_size: Any) -> tuple[list[int], list[int]]:
    """The sizes before and after."""
    a = as_array(input, name)
    check_floating(a, name)
    if a.ndim not in (n + 1, n + 2):
        raise RuntimeError(f"{name}: got shape {tuple(a.shape)}, expected {n + 2} dimensions, or {n + 1} without batch")
    old = list(a.shape[-n:])
    values = list(output_size) if isinstance(output_size, (tuple, list)) else [output_size] * n
    if len(values) != n:
        raise RuntimeError(f"{name}: output_size must be one number or {n} of them, got {output_size}")
    new = [m if v is None else as_int(v, f"{name}: output_size") for m, v in zip(old, values, strict=True)]
    if min(new) < 1 or min(old) < 1:
        raise RuntimeError(f"{name}: sizes must be positive, got {old} and output_size {output_size}")
    return old, new


def _covering(old: int, new: int) -> tuple[np.ndarray, np.ndarray]:
    """Which places each of `new` windows sees, (L', K), and which of these count: shorter windows repeat their last."""
    first, last = np.arange(new) * old // new, -(-(np.arange(1, new + 1) * old) // new)
    steps = np.arange((last - first).max())
    return np.minimum(first[:, None] + steps, last[:, None] - 1), steps < (last - first)[:, None]


def _windowed(x: Tensor, dim: int, places: np.ndarray) -> Tensor:
    """x with two dimensions in place of dim, (L', K): x[..., places, ...]."""
    return getitem(x, (*[ALL] * dim, x.make(of(x.array).asarray(places))))


# --- Borders -----------------------------------------------------------------------------------------------------


def mirrored(input: Tensor, pad: Sequence[int], mode: str) -> Tensor:
    """x surrounded by numbers of its own, for `pad`: "reflect", "replicate" or "circular".

    Composed of slices, `flip` and `cat`: what stands at several places receives their gradients' sum.
    >>> x = z2g.tensor([[1.0, 2.0, 3.0]], requires_grad=True); z = F.pad(x, (1, 2), "reflect"); z.sum().backward()
    >>> z.tolist(), x.grad
    ([[2.0, 1.0, 2.0, 3.0, 2.0, 1.0]], tensor([[2., 3., 1.]]))
    """
    n = len(pad) // 2
    a = input.array
    if a.ndim not in (n + 1, n + 2) or not 1 <= n <= 3:
        raise NotImplementedError(
            f"pad: mode {mode!r} takes a pair for each dimension but those of batch and channels, of which the batch "
            f"may be absent; got {list(pad)} for shape {tuple(a.shape)}"
        )
    for i in range(n):
        dim, (before, after) = a.ndim - 1 - i, pad[2 * i : 2 * i + 2]
        size = a.shape[dim]
        if mode == "reflect" and max(before, after) >= size:
            raise RuntimeError(
                f"pad: padding size should be less than the corresponding input dimension, got ({before}, {after}) at "
                f"dimension {dim} of shape {tuple(a.shape)}"
            )
        if mode == "circular" and max(before, after) > size:
            raise RuntimeError(f"pad: ({before}, {after}) wraps around more than once: shape {tuple(a.shape)}")
        if min(before + size, after + size, before + after + size) < 1 or not size:
            raise RuntimeError(f"pad: ({before}, {after}) leaves nothing of dimension {dim} of shape {tuple(a.shape)}")
        input = _bordered(input, dim, before, after, mode)
    return input


def _bordered(x: Tensor, dim: int, before: int, after: int, mode: str) -> Tensor:
    first, last = max(0, -before), x.array.shape[dim] - max(0, -after)
    x = x.narrow(dim, first, last - first)  # what a negative number cuts off comes back nowhere
    size, parts = last - first, [x]
    if before > 0:
        if mode == "replicate":
            parts.insert(0, _repeated(x.narrow(dim, 0, 1), dim, before))
        else:
            start = 1 if mode == "reflect" else size - before
            border = x.narrow(dim, start, before)
            parts.insert(0, flip(border, dim) if mode == "reflect" else border)
    if after > 0:
        if mode == "replicate":
            parts.append(_repeated(x.narrow(dim, size - 1, 1), dim, after))
        else:
            border = x.narrow(dim, size - 1 - after if mode == "reflect" else 0, after)
            parts.append(flip(border, dim) if mode == "reflect" else border)
    return cat(parts, dim)


def _repeated(x: Tensor, dim: int, times: int) -> Tensor:
    return x.expand(*(times if d == dim else -1 for d in range(x.array.ndim)))


# --- Blocks ------------------------------------------------------------------------------------------------------


def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """z[c, h r + i, w r + j] = x[c r² + i r + j, h, w]: r² channels become r × r places.

    (..., C r², H, W) -> (..., C, H r, W r), r = upscale_factor. (Shi et al. 2016, arXiv:1609.05158)
    >>> x = z2g.ones(4, 1, 1, requires_grad=True); z = F.pixel_shuffle(x, 2); z[0, 0, 1].backward(); x.grad.flatten()
    tensor([0., 1., 0., 0.])
    """
    a, r = as_array(input, "pixel_shuffle"), as_int(upscale_factor, "pixel_shuffle: upscale_factor")
    if a.ndim < 3 or r < 1 or a.shape[-3] % (r * r):
        raise RuntimeError(
            f"pixel_shuffle: expects its input's 'channel' dimension to be divisible by the square of upscale_factor, "
            f"got shape {tuple(a.shape)} and {r}"
        )
    *lead, C, H, W = a.shape
    n = len(lead)
    x = input.reshape(*lead, C // (r * r), r, r, H, W)  # (..., C r², H, W) -> (..., C, r, r, H, W)
    x = x.permute(*range(n), n, n + 3, n + 1, n + 4, n + 2)  # (..., C, H, r, W, r)
    return x.reshape(*lead, C // (r * r), H * r, W * r)


def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """The way back of `pixel_shuffle`: (..., C, H r, W r) -> (..., C r², H, W), r = downscale_factor.

    >>> x = z2g.ones(1, 2, 2, requires_grad=True); F.pixel_unshuffle(x, 2)[1].sum().backward(); x.grad
    tensor([[[0., 1.],
             [0., 0.]]])
    """
    a, r = as_array(input, "pixel_unshuffle"), as_int(downscale_factor, "pixel_unshuffle: downscale_factor")
    if a.ndim < 3 or r < 1 or a.shape[-2] % r or a.shape[-1] % r:
        raise RuntimeError(
            f"pixel_unshuffle: expects height and width to be divisible by downscale_factor, got shape "
            f"{tuple(a.shape)} and {r}"
        )
    *lead, C, H, W = a.shape
    n = len(lead)
    x = input.reshape(*lead, C, H // r, r, W // r, r)  # (..., C, H r, W r) -> (..., C, H, r, W, r)
    x = x.permute(*range(n), n, n + 2, n + 4, n + 1, n + 3)  # (..., C, r, r, H, W)
    return x.reshape(*lead, C * r * r, H // r, W // r)


def channel_shuffle(input: Tensor, groups: int) -> Tensor:
    """The channels of `groups` groups, dealt out in turn: (N, C, ...) -> the same shape. (Zhang et al. 2018)

    >>> x = z2g.arange(4.0).reshape(1, 4, 1).requires_grad_(); z = F.channel_shuffle(x, 2); z[0, 1].sum().backward()
    >>> z.flatten().tolist(), x.grad.flatten()
    ([0.0, 2.0, 1.0, 3.0], tensor([0., 0., 1., 0.]))
    """
    a, groups = as_array(input, "channel_shuffle"), as_int(groups, "channel_shuffle: groups")
    if a.ndim < 3 or groups < 1 or a.shape[1] % groups:
        raise RuntimeError(
            f"channel_shuffle: number of channels must be divisible by groups, got shape {tuple(a.shape)} and {groups}"
        )
    N, C, *places = a.shape
    x = input.reshape(N, groups, C // groups, *places)  # (N, C, ...) -> (N, G, C/G, ...)
    return x.transpose(1, 2).reshape(N, C, *places)


@silent
def unfold(input: Tensor, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Tensor:
    """z[n, c k, t] = windows[n, c, k, t] of `window`: each window of a picture as a column.   ∂L/∂x = their sum

    input (N, C, H, W) or (C, H, W) -> (N, C K1 K2, windows) or without batch: what convolution multiplies by.

    Each number of z is a number of x or 0, so the rule adds the gradients of all places that saw it: `fold`.
    >>> x = z2g.ones(1, 1, 3, requires_grad=True); F.unfold(x, (1, 2)).sum().backward(); x.grad
    tensor([[[1., 2., 1.]]])
    """
    a = as_array(input, "unfold")
    check_floating(a, "unfold")
    if a.ndim not in (3, 4):
        raise RuntimeError(f"unfold: expected (N, C, H, W) or (C, H, W), got shape {tuple(a.shape)}")
    x = a if a.ndim == 4 else a[None]
    kernel, steps, spread = (_sizes("unfold", what, v, 2) for what, v in (
        ("kernel_size", kernel_size), ("stride", stride), ("dilation", dilation)))  # fmt: skip
    sides = [(p, p) for p in _sizes("unfold", "padding", padding, 2, least=0)]
    windows, add_back = _windows("unfold", x, kernel, steps, sides, spread, 0)  # (N, C, K1, K2, H', W')
    wide, shape, whole = windows.shape, a.shape, x.shape
    columns = (math.prod(wide[1:4]), math.prod(wide[4:]))  # (C K1 K2, H' W')
    result = (whole[0], *columns) if a.ndim == 4 else columns

    def unfolded(x: Array) -> Array:
        seen, _ = _windows("unfold", x.reshape(whole), kernel, steps, sides, spread, 0)
        return row_major(seen).reshape(result)

    def folded(grad: Array) -> Array:
        return add_back(_places(grad.reshape(wide), 2)).reshape(shape)

    return record("unfold", unfolded(a), (input, linear_rule("unfold", folded, unfolded)))


@silent
def fold(
    input: Tensor, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Tensor:
    """z[c, s] = Σ of all columns that hold a number for this place: `unfold` backwards.   ∂L/∂x = unfold(grad)

    input (N, C K1 K2, windows) -> (N, C, H, W), or both without batch.

    The rule of a sum: what stands at a place is sent to all that were added there.
    >>> x = z2g.ones(2, 2, requires_grad=True); z = F.fold(x, (1, 3), (1, 2)); z.tolist()
    [[[1.0, 2.0, 1.0]]]
    >>> (z * z2g.tensor([1.0, 5.0, 9.0])).sum().backward(); x.grad
    tensor([[1., 5.],
            [5., 9.]])
    """
    a = as_array(input, "fold")
    check_floating(a, "fold")
    kernel, steps, spread, sizes = (_sizes("fold", what, v, 2) for what, v in (
        ("kernel_size", kernel_size), ("stride", stride), ("dilation", dilation), ("output_size", output_size),
    ))  # fmt: skip
    sides = [(p, p) for p in _sizes("fold", "padding", padding, 2, least=0)]
    lengths = tuple(
        (m + 2 * p - d * (k - 1) - 1) // s + 1
        for m, (p, _), d, k, s in zip(sizes, sides, spread, kernel, steps, strict=True)
    )
    K = math.prod(kernel)
    if a.ndim not in (2, 3) or a.shape[-2] % K or a.shape[-1] != math.prod(lengths) or min(lengths) < 1:
        raise RuntimeError(
            f"fold: got shape {tuple(a.shape)}, expected (N, C · {K}, {math.prod(lengths)}), as windows of {kernel} "
            f"take {lengths} places in {sizes}"
        )
    x = a if a.ndim == 3 else a[None]
    N, C, shape = len(x), x.shape[1] // K, a.shape
    whole = (N, C, *sizes) if a.ndim == 3 else (C, *sizes)

    def folded(x: Array) -> Array:
        places = _places(x.reshape(N, C, *kernel, *lengths), 2)
        return row_major(_adder(kernel, steps, sides, spread, sizes, lengths)(places)).reshape(whole)

    def unfolded(grad: Array) -> Array:
        windows, _ = _windows("fold", grad.reshape(N, C, *sizes), kernel, steps, sides, spread, 0)
        return windows.reshape(shape)  # (N, C, K1, K2, H', W') -> (N, C K, windows)

    return record("fold", folded(a), (input, linear_rule("fold", unfolded, folded)))
