"""Further cases of `python -m tinygrad_z2g.gradcheck`: normalisation, windows, sizes, activations, losses, tables.

As `cases`, which hands its makers of points over, it knows nothing of gradients.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from ... import creation, nn
from ...arrays.random import manual_seed
from ...nn import functional as F
from ...nn import nonlinear
from ...ops.elementwise import where
from ...tensor import Tensor

Maker = Callable[..., Tensor]


def layer_cases(add: Callable, any_: Maker, positive: Maker, unit: Maker) -> None:
    """Call `add(name, function, *inputs)` for each; the makers draw numbers in ±2, in 0.2..2 and in 0..1."""
    _norms(add, any_, positive)
    _windows(add, any_)
    _sizes(add, any_)
    _activations(add, any_)
    _losses(add, any_, positive, unit)
    _tables(add, any_)


def _ids(*values: int) -> Tensor:
    return creation.tensor(list(values))


def _norms(add: Callable, any_: Maker, positive: Maker) -> None:
    mean, var = any_(2).detach(), positive(2).detach()

    def evaluated(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return F.batch_norm(x, mean.to(x.dtype), var.to(x.dtype), w, b)

    for size in ((4, 2), (2, 2, 3), (2, 2, 2, 2)):
        train = functools.partial(F.batch_norm, running_mean=None, running_var=None, training=True)
        add("F.batch_norm", lambda x, w, b, f=train: f(x, weight=w, bias=b), any_(*size), any_(2), any_(2))
        add("F.batch_norm", train, any_(*size))
        add("F.batch_norm, in eval", evaluated, any_(*size), any_(2), any_(2))
    add("F.group_norm", lambda x, w, b: F.group_norm(x, 2, w, b), any_(2, 4, 3), any_(4), any_(4))
    add("F.instance_norm", lambda x, w, b: F.instance_norm(x, None, None, w, b), any_(2, 2, 4), any_(2), any_(2))
    add("F.local_response_norm", lambda x: F.local_response_norm(x, 3, 0.5), any_(1, 4, 3))
    manual_seed(0)
    add("nn.BatchNorm2d", nn.BatchNorm2d(2).double(), any_(3, 2, 2, 2))
    add("nn.BatchNorm1d", nn.BatchNorm1d(3).double(), any_(4, 3))
    add("nn.GroupNorm", nn.GroupNorm(2, 4).double(), any_(2, 4, 3))
    add("nn.InstanceNorm1d", nn.InstanceNorm1d(2, affine=True).double(), any_(2, 2, 4))


def _windows(add: Callable, any_: Maker) -> None:
    for groups in (1, 2):
        conv = functools.partial(F.conv2d, stride=(1, 2), padding=1, dilation=(2, 1), groups=groups)
        add("F.conv2d", conv, any_(2, 4, 4, 3), any_(2, 4 // groups, 2, 2), any_(2))
        back = functools.partial(F.conv_transpose2d, stride=2, padding=1, output_padding=(1, 0), groups=groups)
        add("F.conv_transpose2d", back, any_(2, 4, 2, 3), any_(4, 2, 3, 2), any_(2 * groups))
        line = functools.partial(F.conv_transpose1d, stride=2, padding=1, dilation=2, groups=groups)
        add("F.conv_transpose1d", line, any_(2, 4, 3), any_(4, 2, 3), any_(2 * groups))
    add("F.conv2d, many channels", functools.partial(F.conv2d, padding=1), any_(2, 5, 4, 3), any_(4, 5, 3, 2), any_(4))
    add("F.conv1d, many channels", functools.partial(F.conv1d, padding=1), any_(2, 5, 4), any_(4, 5, 3))
    add("F.max_pool2d, padded", lambda x: F.max_pool2d(x, 3, 2, 1, 1, True), any_(1, 2, 4, 4))
    add("F.max_pool2d, large windows", lambda x: F.max_pool2d(x, 5, 1, 2), any_(1, 1, 5, 4))
    add("F.avg_pool1d", lambda x: F.avg_pool1d(x, 3, 2, 1, True, False), any_(1, 2, 4))
    add("F.avg_pool2d", lambda x: F.avg_pool2d(x, 2, 1, 1, False, False), any_(1, 1, 3, 2))
    add("F.avg_pool2d", lambda x: F.avg_pool2d(x, 2, divisor_override=3), any_(1, 4, 4))
    add("F.adaptive_avg_pool1d", lambda x: F.adaptive_avg_pool1d(x, 3), any_(1, 2, 5))
    add("F.adaptive_avg_pool2d", lambda x: F.adaptive_avg_pool2d(x, (2, 3)), any_(1, 4, 5))
    add("F.adaptive_max_pool1d", lambda x: F.adaptive_max_pool1d(x, 3), any_(1, 2, 5))
    add("F.adaptive_max_pool2d", lambda x: F.adaptive_max_pool2d(x, (2, 3)), any_(1, 4, 5))
    add("nn.ConvTranspose2d", nn.ConvTranspose2d(2, 3, (2, 3), stride=2).double(), any_(1, 2, 2, 2))
    add("nn.Conv2d, reflected", nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect").double(), any_(1, 2, 3, 4))


def _sizes(add: Callable, any_: Maker) -> None:
    for mode in ("nearest", "bilinear", "bicubic", "area"):
        add("F.interpolate", functools.partial(F.interpolate, size=(3, 5), mode=mode), any_(1, 1, 2, 3))
    for align_corners in (True, False):
        line = functools.partial(F.interpolate, scale_factor=2.5, mode="linear", align_corners=align_corners)
        add("F.interpolate", line, any_(1, 2, 3))
    add("F.upsample", lambda x: F.upsample(x, scale_factor=2), any_(1, 1, 2, 2))
    for mode in ("reflect", "replicate", "circular"):
        add("F.pad", functools.partial(F.pad, pad=(1, 2, 2, 0), mode=mode), any_(1, 3, 3))
    add("F.pixel_shuffle", lambda x: F.pixel_shuffle(x, 2), any_(1, 4, 2, 1))
    add("F.pixel_unshuffle", lambda x: F.pixel_unshuffle(x, 2), any_(1, 1, 4, 2))
    add("F.channel_shuffle", lambda x: F.channel_shuffle(x, 2), any_(1, 4, 2))
    add("F.unfold", lambda x: F.unfold(x, (2, 3), padding=1, stride=(2, 1)), any_(1, 2, 4, 3))
    add("F.fold", lambda x: F.fold(x, (3, 3), 2, padding=1, stride=2), any_(1, 8, 4))


def _activations(add: Callable, any_: Maker) -> None:
    for name in _of_one_tensor():
        add(f"F.{name}", getattr(F, name), any_(2, 4))
    add("F.elu", functools.partial(F.elu, alpha=0.5), any_(5))
    add("F.celu", functools.partial(F.celu, alpha=2.0), any_(5))
    add("F.threshold", lambda x: F.threshold(x, 0.5, 9.0), any_(5))
    add("F.prelu", F.prelu, any_(2, 3, 2), any_(3))
    add("F.softmin", lambda x: F.softmin(x, 1), any_(2, 3))
    for name, size in (("dropout1d", (2, 6, 2)), ("dropout2d", (2, 6, 2, 1)), ("alpha_dropout", (12,))):
        add(f"F.{name}", _seeded(functools.partial(getattr(F, name), p=0.4, training=True)), any_(*size))
    add("F.gumbel_softmax", _seeded(F.gumbel_softmax), any_(2, 3))


def _of_one_tensor() -> list[str]:
    """The functions in `nonlinear` and `functional` that one tensor is enough for: these need no line here."""
    found = []
    for name in F.__all__:
        function = getattr(F, name)
        needed = [p for p in inspect.signature(function).parameters.values() if p.default is p.empty]
        near = function.__module__ in (F.__name__, nonlinear.__name__)
        if near and [p.name for p in needed] == ["input"]:
            found.append(name)
    return found


def _seeded(fn: Callable) -> Callable:
    """A function that draws random numbers, made to draw the same at every call."""

    def same_numbers(*args: Tensor) -> Tensor:
        manual_seed(0)
        return fn(*args)

    return same_numbers


def _losses(add: Callable, any_: Maker, positive: Maker, unit: Maker) -> None:
    signs = where(any_(4).detach() > 0, 1.0, -1.0).double()
    for reduction in ("none", "sum", "mean"):
        how: dict[str, Any] = {"reduction": reduction}
        for name in ("smooth_l1_loss", "huber_loss", "kl_div"):
            add(f"F.{name}", functools.partial(getattr(F, name), **how), any_(2, 3), positive(2, 3))
        add("F.kl_div", functools.partial(F.kl_div, log_target=True, **how), any_(2, 3), any_(2, 3))
        add("F.poisson_nll_loss", functools.partial(F.poisson_nll_loss, full=True, **how), any_(4), positive(4))
        add("F.gaussian_nll_loss", functools.partial(F.gaussian_nll_loss, **how), any_(4), any_(4), positive(4))
        add("F.soft_margin_loss", functools.partial(F.soft_margin_loss, target=signs, **how), any_(4))
        hinge = functools.partial(F.hinge_embedding_loss, target=signs, margin=2.1, **how)
        add("F.hinge_embedding_loss", hinge, positive(4))
        ranking = functools.partial(F.margin_ranking_loss, target=signs, margin=0.1, **how)
        add("F.margin_ranking_loss", ranking, any_(4), any_(4))
        cosine = functools.partial(F.cosine_embedding_loss, target=signs, margin=-1.1, **how)
        add("F.cosine_embedding_loss", cosine, any_(4, 3), any_(4, 3))
        triplet = functools.partial(F.triplet_margin_loss, margin=9.0, **how)
        add("F.triplet_margin_loss", triplet, any_(2, 3), any_(2, 3), any_(2, 3))
        margin = functools.partial(F.multi_margin_loss, target=_ids(2, 0), p=2, margin=1.03, **how)
        add("F.multi_margin_loss", margin, any_(2, 3))
        labels = functools.partial(F.multilabel_soft_margin_loss, **how)
        add("F.multilabel_soft_margin_loss", labels, any_(2, 3), unit(2, 3))
        read = functools.partial(F.ctc_loss, targets=_ids(1, 1, 2), input_lengths=[4, 3], target_lengths=[2, 1], **how)
        add("F.ctc_loss", lambda x, f=read: f(F.log_softmax(x, 2)), any_(4, 2, 3))
    add("F.kl_div", functools.partial(F.kl_div, reduction="batchmean"), any_(2, 3), positive(2, 3))
    for p in (1, 2, 3.0):
        add("F.pairwise_distance", functools.partial(F.pairwise_distance, p=p), any_(2, 3), any_(2, 3))


def _tables(add: Callable, any_: Maker) -> None:
    for mode in ("sum", "mean", "max"):
        bag = functools.partial(F.embedding_bag, _ids(1, 2, 1, 0), offsets=_ids(0, 3), mode=mode)
        add("F.embedding_bag", bag, any_(3, 2))
    summed = functools.partial(F.embedding_bag, _ids(1, 2, 1, 0), offsets=_ids(0, 3), mode="sum")
    add("F.embedding_bag", lambda w, s, f=summed: f(w, per_sample_weights=s), any_(3, 2), any_(4))
    add("F.bilinear", F.bilinear, any_(2, 3), any_(2, 2), any_(2, 3, 2), any_(2))
    add("nn.Bilinear", nn.Bilinear(3, 2, 2).double(), any_(2, 3), any_(2, 2))
    for causal in (False, True):
        attend = functools.partial(F.scaled_dot_product_attention, is_causal=causal)
        add("F.attention, learned mask", attend, any_(2, 3, 2), any_(2, 3, 2), any_(2, 3, 2), any_(3, 3))
