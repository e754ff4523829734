"""Normalisation over the batch, over groups of channels, and over each picture by itself.

All bring numbers to mean 0 and variance 1; they differ in which of x (N, C, L), or (N, C, H, W), are taken together:

    batch_norm     all of one channel:               N L numbers
    group_norm     some channels of one example:     C L / G numbers
    instance_norm  one channel of one example:       L numbers
    layer_norm     one example (see `functional`):   the last dimensions

The functions own nothing and know nothing of layers: running averages and learned scales are handed to them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from .. import fast
from ..arrays import dtypes
from ..arrays.backend import Array, of, quiet
from ..core.engine import record
from ..core.modes import no_grad
from ..half.casting import cast
from ..half.table import apply
from ..ops.common import as_array, number, same_device
from ..ops.shape import cat
from ..walks.again import record_joint_fused
from .losses import check_floating

if TYPE_CHECKING:
    from ..tensor import Tensor


def batch_norm(
    input: Tensor, running_mean: Tensor | None, running_var: Tensor | None, weight: Tensor | None = None,
    bias: Tensor | None = None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """z = n w + b, n = (x - mean) r, r = 1 / √(var + eps), for each channel over batch and places.

    ∂L/∂w = Σ grad n,  ∂L/∂b = Σ grad,  ∂L/∂x = w r (grad - mean(grad) - n mean(grad n)). (Ioffe & Szegedy 2015,
    arXiv:1502.03167)

    input (N, C) or (N, C, L, ...), all else (C,). While training, mean and (biased) variance are those of the batch,
    and move the running ones by the share `momentum` of the way towards them (the unbiased variance). Otherwise the
    running ones count, which are constants: ∂L/∂x = w r grad.

    Derived as for `layer_norm`, with the numbers of a channel in place of those of a row: r and the mean depend on
    every xⱼ, which takes the mean of grad and its part along n out of grad. For x = (-1, -1, 1, 1), n = x and r = 1.
    >>> x = z2g.tensor([[-1.0], [-1.0], [1.0], [1.0]], requires_grad=True)
    >>> F.batch_norm(x, None, None, training=True, eps=0.0)[0].sum().backward(); x.grad.flatten()  # grad - 1/4 + n / 4
    tensor([ 0.5000, -0.5000,  0.0000,  0.0000])
    """
    name = "batch_norm"
    a, eps = as_array(input, name), number(eps, f"{name}: eps")
    check_floating(a, name)
    if a.ndim < 2:
        raise RuntimeError(f"{name}: expected (N, C) or (N, C, L, ...), got shape {tuple(a.shape)}")
    N, C, L = a.shape[0], a.shape[1], math.prod(a.shape[2:])
    given = {"weight": weight, "bias": bias, "running_mean": running_mean, "running_var": running_var}
    _check_per_channel(name, input, given, C)
    if not training:
        if running_mean is None or running_var is None:
            raise RuntimeError(f"{name}: outside of training, running_mean and running_var must be given")
        return _with_running(input, running_mean, running_var, weight, bias, eps)
    if N * L == 1:
        raise ValueError(
            f"{name}: expected more than 1 value per channel when training, got input size {list(a.shape)}; one number "
            "has no variance: take a larger batch, or call eval()"
        )
    z, mean, var = _normalised(input, weight, bias, eps)
    _move_running(running_mean, running_var, mean, var, N * L, number(momentum, f"{name}: momentum"))
    return z


def _normalised(
    input: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Array, Array]:
    """z as `batch_norm` makes it while training, and the mean and variance of each channel, (C,)."""
    a = input.array
    if a.dtype == dtypes.float16:  # computed in float32, and rounded once
        w, b = (x if x is None or x.array.dtype == dtypes.float32 else cast(x, dtypes.float32) for x in (weight, bias))
        z, mean, var = _normalised(cast(input, dtypes.float32), w, b, eps)
        return cast(z, dtypes.float16), mean, var
    shape = (*a.shape[:2], math.prod(a.shape[2:]))
    w, b = (None if x is None else x.array for x in (weight, bias))
    z, centred, mean, var = quiet.run(fast.batch_norm, a.reshape(shape), w, b, eps)  # (N, C, L, ...) -> (N, C, L)
    r = 1 / of(a).sqrt(var + eps)

    def rule(grad: Array, w: Array | None, centred: Array, r: Array) -> tuple[Array, Array, Array]:
        g, grad_w, grad_b = fast.batch_norm_backward(grad.reshape(shape), centred, r, w)
        return g.reshape(grad.shape), grad_w, grad_b

    def plain(x: Tensor, *given: Tensor) -> Tensor:
        """n w + b from the numbers of d, which alone are known"""
        per_channel = iter(given)
        d = record("deviation", centred, (x.reshape(shape), _centred))
        z = d * (d.square().mean((0, 2), keepdim=True) + eps).rsqrt()
        z = z if weight_given is None else z * next(per_channel).reshape(-1, 1)
        return (z if bias_given is None else z + next(per_channel).reshape(-1, 1)).reshape(x.array.shape)

    weight_given, bias_given = w, b
    return record_joint_fused(
        "batch_norm", z.reshape(a.shape), (input, weight, bias), rule, weight, centred, r,
        twin=(plain, *(x for x in (input, weight, bias) if x is not None)),
    ), mean, var  # fmt: skip


def _centred(grad: Any) -> Any:
    """The rule of d = a - mean, (N, C, L): what is common to a channel cannot move d"""
    return grad - grad.mean((0, 2), keepdims=True)


def _check_per_channel(name: str, input: Tensor, given: dict, C: int) -> None:
    """RuntimeError unless each of the tensors given holds a number for each channel, in the input's dtype."""
    for what, x in given.items():
        if x is None:
            continue
        v, dtype = as_array(x, name), input.array.dtype
        mixed = dtype == dtypes.float16 and v.dtype == dtypes.float32
        if v.shape != (C,) or not (v.dtype == dtype or mixed):
            got = f"{what} has shape {tuple(v.shape)} and dtype {v.dtype}"
            raise RuntimeError(f"{name}: {got}, expected ({C},) and {dtype}, as the input has {C} channels")
        same_device(name, input, x)


@no_grad()
def _move_running(
    running_mean: Tensor | None, running_var: Tensor | None, mean: Array, var: Array, m: int, share: float
) -> None:
    """running += share · (that of the batch - running), in place; the variance is made unbiased."""
    for running, now in ((running_mean, mean), (running_var, var * (m / max(m - 1, 1)))):
        if running is not None:
            held = running.array
            held *= 1 - share
            held += share * now
            running.memory.writes += 1


def _with_running(
    input: Tensor, mean: Tensor, var: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    """x scale + shift with constants for mean and variance. Composed."""
    shape = (1, -1, *[1] * (input.array.ndim - 2))
    scale = (var.detach() + eps).rsqrt()
    scale = scale if weight is None else scale * weight
    centred = input - mean.detach().reshape(shape)
    z = centred * scale.reshape(shape)
    return z if bias is None else z + bias.reshape(shape)


def _scaled(input: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """x w + b, with a number for each channel. Composed."""
    shape = (-1, *[1] * (input.array.ndim - 2))
    z = input if weight is None else input * weight.reshape(shape)
    return z if bias is None else z + bias.reshape(shape)


def _each_row(x: Tensor, eps: float) -> Tensor:
    """(rows, numbers), each row with mean 0 and variance 1: the channels of a batch of one example."""
    return _normalised(x.unsqueeze(0), None, None, eps)[0].squeeze(0)


def group_norm(
    input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """z = n w + b, n = (x - mean) / √(var + eps) over the channels of a group and all places of one example.

    input (N, C, ...), weight and bias (C,); C is a multiple of num_groups. (Wu & He 2018, arXiv:1803.08494)

    Composed: the groups are the channels of one example. What is the same for the whole group cannot change n.
    >>> x = z2g.tensor([[-1.0, 1.0, 5.0, 7.0]], requires_grad=True)
    >>> F.group_norm(x, 2, eps=0.0)[0, 0].backward(); x.grad  # of two numbers, n is always (-1, 1)
    tensor([[0., 0., 0., 0.]])
    """
    name = "group_norm"
    a = as_array(input, name)
    check_floating(a, name)
    if a.ndim < 2:
        raise RuntimeError(f"{name}: expected at least 2 dimensions, (N, C, ...), got shape {tuple(a.shape)}")
    N, C = a.shape[:2]
    if num_groups < 1 or C % num_groups:
        raise RuntimeError(f"{name}: {C} channels cannot be shared by {num_groups} groups; C must be a multiple of it")
    _check_per_channel(name, input, {"weight": weight, "bias": bias}, C)
    rows = input.reshape(N * num_groups, C // num_groups * math.prod(a.shape[2:]))  # (N, C, ...) -> (N G, C/G ...)
    return _scaled(_each_row(rows, eps).reshape(a.shape), weight, bias)


def instance_norm(
    input: Tensor, running_mean: Tensor | None = None, running_var: Tensor | None = None,
    weight: Tensor | None = None, bias: Tensor | None = None, use_input_stats: bool = True, momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """z = n w + b, n = (x - mean) / √(var + eps) over the places of one channel of one example.

    input (N, C, L, ...), weight, bias and running averages (C,). Running averages, where given, move as in
    `batch_norm`, towards the mean over the batch; without `use_input_stats` they count. (Ulyanov et al. 2016,
    arXiv:1607.08022)

    Composed of `batch_norm` for one example that has all channels of all.
    >>> x = z2g.tensor([[[-1.0, -1.0, 1.0, 1.0]]], requires_grad=True)
    >>> F.instance_norm(x, eps=0.0)[0, 0, 0].backward(); x.grad
    tensor([[[ 0.5000, -0.5000,  0.0000,  0.0000]]])
    """
    name = "instance_norm"
    a = as_array(input, name)
    check_floating(a, name)
    if a.ndim < 3:
        raise RuntimeError(f"{name}: expected at least 3 dimensions, (N, C, L, ...), got shape {tuple(a.shape)}")
    (N, C), L = a.shape[:2], math.prod(a.shape[2:])
    given = {"weight": weight, "bias": bias, "running_mean": running_mean, "running_var": running_var}
    _check_per_channel(name, input, given, C)
    if not use_input_stats:
        if running_mean is None or running_var is None:
            raise RuntimeError(f"{name}: without use_input_stats, running_mean and running_var must be given")
        return _with_running(input, running_mean, running_var, weight, bias, eps)
    if L == 1:
        raise ValueError(
            f"{name}: expected more than 1 spatial element when training, got input size {list(a.shape)}; one number "
            "has no variance"
        )
    if running_mean is not None or running_var is not None:
        places = a.reshape(N, C, L)
        mean, var = places.mean(2), places.var(2)  # (N, C)
        _move_running(running_mean, running_var, mean.mean(0), var.mean(0), L, number(momentum, f"{name}: momentum"))
    rows = input.reshape(N * C, L)  # (N, C, L, ...) -> (N C, L ...)
    return _scaled(_each_row(rows, eps).reshape(a.shape), weight, bias)


def local_response_norm(
    input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """z = x / (k + α m)^β, m the mean of x² over `size` neighbouring channels, with 0 outside.

    input (N, C, L, ...). (Krizhevsky et al. 2012, there with a sum in place of the mean)

    Composed. With size 1, α = 1, β = 1, k = 1: z = x / (1 + x²), whose slope (1 - x²) / (1 + x²)² is 0 at 1.
    >>> x = z2g.ones(1, 1, 1, requires_grad=True)
    >>> F.local_response_norm(x, 1, alpha=1.0, beta=1.0).sum().backward(); x.grad
    tensor([[[0.]]])
    """
    a = as_array(input, "local_response_norm")
    if a.ndim < 3:
        raise ValueError(
            f"local_response_norm: expected 3D or higher dimensionality input (got {a.ndim} dimensions)"
        )
    squares, C = input.square(), a.shape[1]
    outside = [squares.make(of(a).zeros((len(a), n, *a.shape[2:]), a.dtype)) for n in (size // 2, (size - 1) // 2)]
    wide = cat([outside[0], squares, outside[1]], 1)
    total = wide.narrow(1, 0, C)
    for i in range(1, size):
        total = total + wide.narrow(1, i, C)
    return input / (total * (alpha / size) + k).pow(beta)


apply(globals())  # mixed precision, by the table in half/
