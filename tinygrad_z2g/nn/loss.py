"""Losses as layers. Each calls the function of its name in `functional`."""

from __future__ import annotations

from ..tensor import Tensor
from . import functional as F
from .losses import old_reduction
from .module import Module


class MSELoss(Module):
    """mean (input - target)²"""

    @old_reduction
    def __init__(self, *, reduction: str = "mean"):
        self.reduction = reduction

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Equal shapes in, a scalar out (or the shape, reduction="none")"""
        return F.mse_loss(input, target, reduction=self.reduction)


class L1Loss(Module):
    """mean |input - target|"""

    @old_reduction
    def __init__(self, *, reduction: str = "mean"):
        self.reduction = reduction

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Equal shapes in, a scalar out (or the shape, reduction="none")"""
        return F.l1_loss(input, target, reduction=self.reduction)


class CrossEntropyLoss(Module):
    """-ln softmax(input)[target], averaged. See `functional.cross_entropy`."""

    weight: Tensor | None

    @old_reduction
    def __init__(
        self, weight: Tensor | None = None, *, ignore_index: int = -100, reduction: str = "mean",
        label_smoothing: float = 0.0,
    ):  # fmt: skip
        self.register_buffer("weight", weight)
        self.ignore_index, self.reduction, self.label_smoothing = ignore_index, reduction, label_smoothing

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """(N, C, ...) and integer (N, ...), or probabilities (N, C, ...), in"""
        return F.cross_entropy(
            input, target, self.weight, ignore_index=self.ignore_index, reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )  # fmt: skip


class NLLLoss(Module):
    """-input[target], averaged, the input being log-probabilities. See `functional.nll_loss`."""

    weight: Tensor | None

    @old_reduction
    def __init__(self, weight: Tensor | None = None, *, ignore_index: int = -100, reduction: str = "mean"):
        self.register_buffer("weight", weight)
        self.ignore_index, self.reduction = ignore_index, reduction

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """(N, C, ...) and integer (N, ...) in"""
        return F.nll_loss(input, target, self.weight, ignore_index=self.ignore_index, reduction=self.reduction)


class BCELoss(Module):
    """-(t ln p + (1 - t) ln (1 - p)), averaged. See `functional.binary_cross_entropy`."""

    weight: Tensor | None

    @old_reduction
    def __init__(self, weight: Tensor | None = None, *, reduction: str = "mean"):
        self.register_buffer("weight", weight)
        self.reduction = reduction

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Probabilities and targets of one shape in"""
        return F.binary_cross_entropy(input, target, self.weight, reduction=self.reduction)


class BCEWithLogitsLoss(Module):
    """`BCELoss` of σ(input), without overflow. See `functional.binary_cross_entropy_with_logits`."""

    weight: Tensor | None
    pos_weight: Tensor | None

    @old_reduction
    def __init__(self, weight: Tensor | None = None, *, reduction: str = "mean", pos_weight: Tensor | None = None):
        self.register_buffer("weight", weight)
        self.register_buffer("pos_weight", pos_weight)
        self.reduction = reduction

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Scores and targets of one shape in"""
        return F.binary_cross_entropy_with_logits(
            input, target, self.weight, reduction=self.reduction, pos_weight=self.pos_weight
        )


# --- Further ones: settings, and a function that is given them by name ------------------------------------------------


class _Loss(Module):
    """What the losses below share."""

    function: str  # by its name in `functional`, where a user may have put one of his own
    settings: tuple[str, ...] = ()

    def forward(self, *inputs: Tensor) -> Tensor:
        """What the function takes; a scalar out, or one loss for each example with reduction="none"."""
        settings = {name: getattr(self, name) for name in (*self.settings, "reduction")}
        return getattr(F, self.function)(*inputs, **settings)


class SmoothL1Loss(_Loss):
    """d² / (2 β) where |d| < β, else |d| - β/2, averaged. See `functional.smooth_l1_loss`."""

    function, settings = "smooth_l1_loss", ("beta",)

    @old_reduction
    def __init__(self, *, reduction: str = "mean", beta: float = 1.0):
        self.reduction, self.beta = reduction, beta


class HuberLoss(_Loss):
    """d² / 2 where |d| < δ, else δ (|d| - δ/2), averaged. See `functional.huber_loss`."""

    function, settings = "huber_loss", ("delta",)

    def __init__(self, reduction: str = "mean", delta: float = 1.0):
        self.reduction, self.delta = reduction, delta


class KLDivLoss(_Loss):
    """t (ln t - input), the input being log-probabilities; "batchmean" is the divergence. See `functional.kl_div`."""

    function, settings = "kl_div", ("log_target",)

    @old_reduction
    def __init__(self, *, reduction: str = "mean", log_target: bool = False):
        self.reduction, self.log_target = reduction, log_target


class PoissonNLLLoss(_Loss):
    """-ln of Poisson's probability, averaged. See `functional.poisson_nll_loss`."""

    function, settings = "poisson_nll_loss", ("log_input", "full", "eps")

    @old_reduction
    def __init__(self, log_input: bool = True, full: bool = False, *, eps: float = 1e-8, reduction: str = "mean"):
        self.log_input, self.full, self.eps, self.reduction = log_input, full, eps, reduction


class GaussianNLLLoss(_Loss):
    """-ln of the normal density, averaged; takes input, target, variance. See `functional.gaussian_nll_loss`."""

    function, settings = "gaussian_nll_loss", ("full", "eps")

    def __init__(self, *, full: bool = False, eps: float = 1e-6, reduction: str = "mean"):
        self.full, self.eps, self.reduction = full, eps, reduction


class CTCLoss(_Loss):
    """-ln of the sum over all ways to read the target off; see `functional.ctc_loss`."""

    function, settings = "ctc_loss", ("blank", "zero_infinity")

    def __init__(self, blank: int = 0, reduction: str = "mean", zero_infinity: bool = False):
        self.blank, self.reduction, self.zero_infinity = blank, reduction, zero_infinity


class HingeEmbeddingLoss(_Loss):
    """x where t = 1, max(0, margin - x) where t = -1, averaged. See `functional.hinge_embedding_loss`."""

    function, settings = "hinge_embedding_loss", ("margin",)

    @old_reduction
    def __init__(self, margin: float = 1.0, *, reduction: str = "mean"):
        self.margin, self.reduction = margin, reduction


class MarginRankingLoss(_Loss):
    """max(0, margin - t (x₁ - x₂)), averaged. See `functional.margin_ranking_loss`."""

    function, settings = "margin_ranking_loss", ("margin",)

    @old_reduction
    def __init__(self, margin: float = 0.0, *, reduction: str = "mean"):
        self.margin, self.reduction = margin, reduction


class SoftMarginLoss(_Loss):
    """ln(1 + e^(-t x)), averaged. See `functional.soft_margin_loss`."""

    function = "soft_margin_loss"

    @old_reduction
    def __init__(self, *, reduction: str = "mean"):
        self.reduction = reduction


class CosineEmbeddingLoss(_Loss):
    """1 - cos where t = 1, max(0, cos - margin) where t = -1, averaged. See `functional.cosine_embedding_loss`."""

    function, settings = "cosine_embedding_loss", ("margin",)

    @old_reduction
    def __init__(self, margin: float = 0.0, *, reduction: str = "mean"):
        self.margin, self.reduction = margin, reduction


class TripletMarginLoss(_Loss):
    """max(0, d(a, pos) - d(a, neg) + margin), averaged. See `functional.triplet_margin_loss`."""

    function, settings = "triplet_margin_loss", ("margin", "p", "eps", "swap")

    @old_reduction
    def __init__(
        self, margin: float = 1.0, p: float = 2.0, eps: float = 1e-6, swap: bool = False, *, reduction: str = "mean"
    ):
        self.margin, self.p, self.eps, self.swap, self.reduction = margin, p, eps, swap, reduction


class MultiMarginLoss(_Loss):
    """Σ max(0, margin - x[t] + x[j])ᵖ / C over the wrong classes, averaged. See `functional.multi_margin_loss`."""

    function, settings = "multi_margin_loss", ("p", "margin", "weight")

    @old_reduction
    def __init__(self, p: int = 1, margin: float = 1.0, weight: Tensor | None = None, *, reduction: str = "mean"):
        self.register_buffer("weight", weight)
        self.p, self.margin, self.reduction = p, margin, reduction


class MultiLabelSoftMarginLoss(_Loss):
    """Binary cross-entropy of each class by itself, averaged. See `functional.multilabel_soft_margin_loss`."""

    function, settings = "multilabel_soft_margin_loss", ("weight",)

    @old_reduction
    def __init__(self, weight: Tensor | None = None, *, reduction: str = "mean"):
        self.register_buffer("weight", weight)
        self.reduction = reduction
