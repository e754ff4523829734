"""Further nonlinear functions, nearly all composed of operations that know their own gradients.

Where a function is made of two pieces, both are computed and `where` chooses: nothing passes back through the piece
that was not chosen. The better known ones, with rules of their own, stand elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..arrays.backend import Array, of, quiet
from ..arrays.layout import laid_out
from ..arrays.random import default_generator
from ..core.engine import record
from ..ops.common import as_array, number, one_dim
from ..ops.elementwise import sigmoid, tanh, where
from ..ops.inplace import update
from ..ops.shape import chunk
from ..ops.softmax import softmax
from .losses import check_floating

if TYPE_CHECKING:
    from ..tensor import Tensor

SELU_ALPHA, SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """z = x where x > 0, else α (eˣ - 1).   dz/dx = 1 where x > 0, else α eˣ  (Clevert et al. 2016, arXiv:1511.07289)

    Of the two pieces the slopes are 1 and, as (eˣ - 1)' = eˣ, α eˣ.
    >>> x = z2g.tensor([-1.0, 2.0], requires_grad=True); F.elu(x).sum().backward(); x.grad
    tensor([0.3679, 1.0000])
    """
    if inplace:
        return update(input, "elu_", elu, alpha)
    return _exponential("elu", input, number(alpha, "elu: alpha"), 1.0, 1.0)


def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """z = s elu(x, α), with s = 1.0507 and α = 1.6733, for which mean 0 and variance 1 stay what they are.

    (Klambauer et al. 2017, arXiv:1706.02515)
    >>> x = z2g.tensor([-1.0, 2.0], requires_grad=True); F.selu(x).sum().backward(); x.grad
    tensor([0.6468, 1.0507])
    """
    if inplace:
        return update(input, "selu_", selu)
    return _exponential("selu", input, SELU_ALPHA, SELU_SCALE, 1.0)


def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """z = x where x > 0, else α (e^(x / α) - 1): an elu that is smooth for every α.  (Barron 2017, arXiv:1704.07483)

    dz/dx = 1 where x > 0, else e^(x / α): α and the 1/α that the chain rule brings cancel each other.
    >>> x = z2g.tensor([-2.0, 2.0], requires_grad=True); F.celu(x, alpha=2.0).sum().backward(); x.grad
    tensor([0.3679, 1.0000])
    """
    alpha = number(alpha, "celu: alpha")
    if alpha == 0:
        raise RuntimeError("celu: alpha cannot be 0")
    if inplace:
        return update(input, "celu_", celu, alpha)
    return _exponential("celu", input, alpha, 1.0, 1 / alpha)


def _exponential(name: str, x: Tensor, alpha: float, scale: float, stretch: float) -> Tensor:
    """scale · x where x > 0, else scale · alpha (e^(stretch x) - 1). The slope there is e^(stretch x) itself: of the
    result, near -1, hardly a digit of it would be left."""
    a = as_array(x, name)
    check_floating(a, name)
    xp = of(a)

    def value(a: Array) -> Array:
        low = xp.expm1(xp.minimum(a, 0) * stretch)  # so that e does not overflow where it does not count
        return xp.where(a <= 0, low * (scale * alpha), a * scale)  # so NaN counts as positive, as in torch

    def rule(grad: Any, a: Any) -> Any:
        xp = of(grad)
        return grad * xp.where(a <= 0, xp.exp(xp.minimum(a, 0) * stretch) * (scale * alpha * stretch), scale)

    return record(name, laid_out(quiet.run(value, a), a), (x, rule, x))


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """z = x limited to [min_val, max_val].   dz/dx = 1 strictly between them, else 0

    >>> x = z2g.tensor([-2.0, 0.5, 1.0], requires_grad=True); F.hardtanh(x).sum().backward(); x.grad
    tensor([0., 1., 0.])
    """
    low, high = number(min_val, "hardtanh: min_val"), number(max_val, "hardtanh: max_val")
    if low > high:
        raise ValueError(f"hardtanh: min_val {low} must not be greater than max_val {high}")
    if inplace:
        return update(input, "hardtanh_", hardtanh, low, high)
    limited = input.detach().clamp(low, high)
    outside = (input.detach() <= low) | (input.detach() >= high)
    return where(outside, limited, input)


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """z = x limited to [0, 6].   dz/dx = 1 where 0 < x < 6, else 0

    >>> x = z2g.tensor([-2.0, 3.0, 7.0], requires_grad=True); F.relu6(x).sum().backward(); x.grad
    tensor([0., 1., 0.])
    """
    return update(input, "relu6_", hardtanh, 0, 6) if inplace else hardtanh(input, 0, 6)


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """z = relu6(x + 3) / 6: three straight lines in place of a sigmoid.   dz/dx = 1/6 where -3 < x < 3, else 0

    >>> x = z2g.tensor([-4.0, 1.0], requires_grad=True); F.hardsigmoid(x).sum().backward(); x.grad
    tensor([0.0000, 0.1667])
    """
    check_floating(as_array(input, "hardsigmoid"), "hardsigmoid")
    return update(input, "hardsigmoid_", hardsigmoid) if inplace else relu6(input + 3) / 6


def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """z = x hardsigmoid(x).   dz/dx = 0 where x ≤ -3, x/3 + 1/2 up to 3, then 1  (Howard et al. 2019, arXiv:1905.02244)

    >>> x = z2g.tensor([-4.0, 1.5, 5.0], requires_grad=True); F.hardswish(x).sum().backward(); x.grad
    tensor([0., 1., 1.])
    """
    check_floating(as_array(input, "hardswish"), "hardswish")
    if inplace:
        return update(input, "hardswish_", hardswish)
    return input * relu6(input + 3) / 6


def softsign(input: Tensor) -> Tensor:
    """z = x / (1 + |x|).   dz/dx = 1 / (1 + |x|)²

    >>> x = z2g.tensor(-1.0, requires_grad=True); F.softsign(x).backward(); x.grad
    tensor(0.2500)
    """
    return input / (input.abs() + 1)


def tanhshrink(input: Tensor) -> Tensor:
    """z = x - tanh x.   dz/dx = tanh² x

    >>> x = z2g.tensor(0.0, requires_grad=True); F.tanhshrink(x).backward(); x.grad
    tensor(0.)
    """
    return input - tanh(input)


def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """z = x where |x| > λ, else 0.   dz/dx = 1 where |x| > λ, else 0

    >>> x = z2g.tensor([-2.0, 0.2], requires_grad=True); F.hardshrink(x).sum().backward(); x.grad
    tensor([1., 0.])
    """
    check_floating(as_array(input, "hardshrink"), "hardshrink")
    return where(input.detach().abs() <= number(lambd, "hardshrink: lambd"), 0.0, input)


def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """z = x - λ where x > λ, x + λ where x < -λ, else 0.   dz/dx = 1 where |x| > λ, else 0

    >>> x = z2g.tensor([-2.0, 0.2], requires_grad=True); F.softshrink(x).sum().backward(); x.grad
    tensor([1., 0.])
    """
    check_floating(as_array(input, "softshrink"), "softshrink")
    lambd = number(lambd, "softshrink: lambd")
    if lambd < 0:
        raise RuntimeError(f"softshrink: lambda must be greater or equal to 0, got {lambd}")
    x = input.detach()
    return where(x.abs() <= lambd, 0.0, input - x.clamp(-lambd, lambd))


def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """z = x where x > threshold, else value.   dz/dx = 1 where x > threshold, else 0

    >>> x = z2g.tensor([1.0, 3.0], requires_grad=True); F.threshold(x, 2.0, 9.0).sum().backward(); x.grad
    tensor([0., 1.])
    """
    if inplace:
        return update(input, "threshold_", globals()["threshold"], threshold, value)
    return where(input.detach() <= number(threshold, "threshold"), number(value, "threshold: value"), input)


def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """z = x where x > 0, else w x, the slope w being learned.   dz/dx = 1 or w,  dz/dw = 0 or x  (He et al. 2015)

    weight: one number, or one for each channel of x (N, C, ...).
    >>> x, w = z2g.tensor([-2.0, 3.0], requires_grad=True), z2g.tensor([0.25], requires_grad=True)
    >>> F.prelu(x, w).sum().backward(); x.grad, w.grad
    (tensor([0.2500, 1.0000]), tensor([-2.]))
    """
    a, w = as_array(input, "prelu"), as_array(weight, "prelu")
    check_floating(a, "prelu")
    channels = a.shape[1] if a.ndim > 1 else 1
    if w.ndim > 1 or w.size not in (1, channels):
        raise RuntimeError(
            f"prelu: weight has shape {tuple(w.shape)}, expected one number, or one for each of {channels} channels"
        )
    if w.size > 1:
        weight = weight.reshape(-1, *[1] * (a.ndim - 2))
    elif a.ndim < w.ndim:
        weight = weight.reshape(())
    return where(input.detach() > 0, input, input * weight)


def rrelu(
    input: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, inplace: bool = False
) -> Tensor:
    """z = x where x > 0, else a x; while training a is drawn between lower and upper, otherwise it is their mean.

    (Xu et al. 2015, arXiv:1505.00853)
    >>> x = z2g.tensor([-2.0, 3.0], requires_grad=True); F.rrelu(x, 0.25, 0.75).sum().backward(); x.grad
    tensor([0.5000, 1.0000])
    """
    lower, upper = number(lower, "rrelu: lower"), number(upper, "rrelu: upper")
    if lower > upper:
        raise RuntimeError(f"rrelu: lower {lower} must not be greater than upper {upper}")
    if inplace:
        return update(input, "rrelu_", rrelu, lower, upper, training)
    a = as_array(input, "rrelu")
    check_floating(a, "rrelu")
    if not training:
        return where(input.detach() > 0, input, input * ((lower + upper) / 2))
    drawn = default_generator.numpy.uniform(lower, upper, a.shape).astype(a.dtype)
    return where(input.detach() > 0, input, input * input.make(of(a).asarray(drawn)))


def glu(input: Tensor, dim: int = -1) -> Tensor:
    """z = a σ(b), a and b the two halves of x along `dim`: a gate.  (Dauphin et al. 2017, arXiv:1612.08083)

    >>> x = z2g.tensor([4.0, 0.0], requires_grad=True); F.glu(x).sum().backward(); x.grad  # σ and a σ (1 - σ)
    tensor([0.5000, 1.0000])
    """
    array = as_array(input, "glu")
    if not array.ndim:
        raise RuntimeError("glu does not support 0-dimensional tensors")
    axis = one_dim(dim, array.ndim, "glu")
    if array.shape[axis] % 2:
        raise RuntimeError(f"glu: halving dimension must be even, but dimension {axis} is size {array.shape[axis]}")
    a, b = chunk(input, 2, axis)
    return a * sigmoid(b)


def softmin(input: Tensor, dim: int, dtype: Any = None) -> Tensor:
    """softmax(-x) along `dim`: the smallest gets the most.

    >>> x = z2g.tensor([0.0, 0.0], requires_grad=True); F.softmin(x, dim=0)[0].backward(); x.grad
    tensor([-0.2500,  0.2500])
    """
    return softmax(-input, dim, dtype)


def gumbel_softmax(
    logits: Tensor, tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1
) -> Tensor:
    """p = softmax((x + g) / τ), g = -ln(-ln u) with u uniform: a sample of softmax(x) through which gradients pass.

    As τ goes to 0 it becomes a vector with a single 1. `hard`: the result is that vector, the gradient still that of
    p. `eps` changes nothing, as in torch. (Jang et al. 2017, arXiv:1611.01144)
    >>> x = z2g.zeros(3, requires_grad=True); z = F.gumbel_softmax(x, hard=True); z.sum().item()
    1.0
    >>> z[0].backward(); abs(x.grad.sum().item()) < 1e-6  # p sums to 1, whatever x
    True
    """
    a = as_array(logits, "gumbel_softmax")
    check_floating(a, "gumbel_softmax")
    noise = default_generator.numpy.gumbel(size=a.shape).astype(a.dtype)
    p = softmax((logits + logits.make(of(a).asarray(noise))) / number(tau, "gumbel_softmax: tau"), dim)
    if not hard:
        return p
    best = p.detach().argmax(dim, keepdim=True)
    one = p.make(of(a).zeros(a.shape, a.dtype)).scatter(dim, best, value=1.0)
    return one - p.detach() + p
