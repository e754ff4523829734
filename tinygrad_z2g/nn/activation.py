"""Nonlinear functions as layers, to stand in a `Sequential`.

A layer here knows nothing of rules or gradients: it keeps the settings and calls the function.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import creation
from ..core import layers
from ..core.attach import attach
from ..tensor import Tensor
from . import functional as F
from .module import Module, Parameter


class ReLUMethods:
    """What is attached to `ReLU`: it may write over its input."""

    def __init__(self: Any, inplace: bool = False):
        self.inplace = inplace

    def forward(self: Any, input: Tensor) -> Tensor:
        """max(x, 0)"""
        return F.relu(input, self.inplace)

    def extra_repr(self: Any) -> str:
        return "inplace=True" if self.inplace else ""


class GELUMethods:
    """What is attached to `GELU`."""

    def extra_repr(self: Any) -> str:
        return f"approximate='{self.approximate}'"


if TYPE_CHECKING:  # who checks types sees so what is attached

    class ReLU(ReLUMethods, layers.ReLU): ...

    class GELU(GELUMethods, layers.GELU): ...

else:
    ReLU, GELU = layers.ReLU, layers.GELU
    attach(ReLU, ReLUMethods)
    attach(GELU, GELUMethods)


class LeakyReLU(Module):
    """x where x > 0, else negative_slope · x"""

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False):
        self.negative_slope, self.inplace = negative_slope, inplace

    def forward(self, input: Tensor) -> Tensor:
        """x or negative_slope · x"""
        return F.leaky_relu(input, self.negative_slope, self.inplace)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}" + (", inplace=True" if self.inplace else "")


class SiLU(Module):
    """x σ(x)"""

    def __init__(self, inplace: bool = False):
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """x σ(x)"""
        return F.silu(input, self.inplace)

    def extra_repr(self) -> str:
        return "inplace=True" if self.inplace else ""


class Softplus(Module):
    """ln(1 + e^(βx)) / β, a smooth ReLU. See `functional.softplus`."""

    def __init__(self, beta: float = 1.0, threshold: float = 20.0):
        self.beta, self.threshold = beta, threshold

    def forward(self, input: Tensor) -> Tensor:
        """ln(1 + e^(βx)) / β"""
        return F.softplus(input, self.beta, self.threshold)

    def extra_repr(self) -> str:
        return f"beta={self.beta}, threshold={self.threshold}"


class Tanh(Module):
    """tanh x"""

    def forward(self, input: Tensor) -> Tensor:
        """tanh x"""
        return input.tanh()


class Sigmoid(Module):
    """1 / (1 + e⁻ˣ)"""

    def forward(self, input: Tensor) -> Tensor:
        """1 / (1 + e⁻ˣ)"""
        return input.sigmoid()


class Softmax(Module):
    """e^x / Σ e^x along `dim`"""

    def __init__(self, dim: int):
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        """e^x / Σ e^x"""
        return F.softmax(input, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class LogSoftmax(Module):
    """x - ln Σ e^x along `dim`"""

    def __init__(self, dim: int):
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        """x - ln Σ e^x"""
        return F.log_softmax(input, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class Sine(Module):
    """sin(ω x): waves as activations, for smooth functions. Not in torch. (Sitzmann et al. 2020, arXiv:2006.09661)"""

    def __init__(self, omega: float = 1.0):
        self.omega = omega

    def forward(self, input: Tensor) -> Tensor:
        """sin(ω x)"""
        return (input * self.omega).sin() if self.omega != 1 else input.sin()

    def extra_repr(self) -> str:
        return f"omega={self.omega}"


# --- Further ones: settings, and a function that is given them in this order ------------------------------------------


class _Activation(Module):
    """What the layers below share."""

    function: str  # by its name in `functional`, where a user may have put one of his own
    settings: tuple[str, ...] = ()

    def forward(self, input: Tensor) -> Tensor:
        """Same shape out, but for `GLU`."""
        return getattr(F, self.function)(input, *(getattr(self, name) for name in self.settings))

    def extra_repr(self) -> str:
        shown = ((name, getattr(self, name)) for name in self.settings)
        return ", ".join(f"{name}={value}" for name, value in shown if (name, value) != ("inplace", False))


class ELU(_Activation):
    """x, or α (eˣ - 1) where x ≤ 0. See `functional.elu`."""

    function, settings = "elu", ("alpha", "inplace")

    def __init__(self, alpha: float = 1.0, inplace: bool = False):
        self.alpha, self.inplace = alpha, inplace


class CELU(_Activation):
    """x, or α (e^(x / α) - 1) where x ≤ 0. See `functional.celu`."""

    function, settings = "celu", ("alpha", "inplace")

    def __init__(self, alpha: float = 1.0, inplace: bool = False):
        self.alpha, self.inplace = alpha, inplace


class SELU(_Activation):
    """An ELU scaled so that layers keep mean 0 and variance 1 by themselves. See `functional.selu`."""

    function, settings = "selu", ("inplace",)

    def __init__(self, inplace: bool = False):
        self.inplace = inplace


class Hardtanh(_Activation):
    """x limited to [min_val, max_val]"""

    function, settings = "hardtanh", ("min_val", "max_val", "inplace")

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False):
        if max_val <= min_val:
            raise ValueError(f"Hardtanh: max_val must be larger than min_val, got {max_val} and {min_val}")
        self.min_val, self.max_val, self.inplace = min_val, max_val, inplace


class ReLU6(_Activation):
    """x limited to [0, 6]"""

    function, settings = "relu6", ("inplace",)

    def __init__(self, inplace: bool = False):
        self.inplace = inplace


class Hardsigmoid(_Activation):
    """relu6(x + 3) / 6"""

    function, settings = "hardsigmoid", ("inplace",)

    def __init__(self, inplace: bool = False):
        self.inplace = inplace


class Hardswish(_Activation):
    """x relu6(x + 3) / 6"""

    function, settings = "hardswish", ("inplace",)

    def __init__(self, inplace: bool = False):
        self.inplace = inplace


class Mish(_Activation):
    """x tanh(ln(1 + eˣ))"""

    function, settings = "mish", ("inplace",)

    def __init__(self, inplace: bool = False):
        self.inplace = inplace


class LogSigmoid(_Activation):
    """ln σ(x)"""

    function = "logsigmoid"


class Softsign(_Activation):
    """x / (1 + |x|)"""

    function = "softsign"


class Tanhshrink(_Activation):
    """x - tanh x"""

    function = "tanhshrink"


class Hardshrink(_Activation):
    """x where |x| > lambd, else 0"""

    function, settings = "hardshrink", ("lambd",)

    def __init__(self, lambd: float = 0.5):
        self.lambd = lambd

    def extra_repr(self) -> str:
        return f"{self.lambd}"


class Softshrink(_Activation):
    """x moved towards 0 by lambd, and 0 where it would pass it"""

    function, settings = "softshrink", ("lambd",)

    def __init__(self, lambd: float = 0.5):
        self.lambd = lambd

    def extra_repr(self) -> str:
        return f"{self.lambd}"


class Threshold(_Activation):
    """x where x > threshold, else value"""

    function, settings = "threshold", ("threshold", "value", "inplace")

    def __init__(self, threshold: float, value: float, inplace: bool = False):
        self.threshold, self.value, self.inplace = threshold, value, inplace


class GLU(_Activation):
    """a σ(b), a and b the halves of x along `dim`. See `functional.glu`."""

    function, settings = "glu", ("dim",)

    def __init__(self, dim: int = -1):
        self.dim = dim


class RReLU(_Activation):
    """x where x > 0, else a x: while training with a random a for each number. See `functional.rrelu`."""

    function, settings = "rrelu", ("lower", "upper", "training", "inplace")

    def __init__(self, lower: float = 1 / 8, upper: float = 1 / 3, inplace: bool = False):
        self.lower, self.upper, self.inplace = lower, upper, inplace

    def extra_repr(self) -> str:
        return f"lower={self.lower}, upper={self.upper}" + (", inplace=True" if self.inplace else "")


class PReLU(Module):
    """x where x > 0, else w x, with a learned slope w for all, or for each of num_parameters channels.

    x (N, C, ...), same shape out. `weight` (num_parameters,) starts at `init`. See `functional.prelu`.
    """

    def __init__(self, num_parameters: int = 1, init: float = 0.25, device: Any = None, dtype: Any = None):
        self.num_parameters, self.init = num_parameters, init
        self.weight = Parameter(creation.full((num_parameters,), float(init), device=device, dtype=dtype))

    def forward(self, input: Tensor) -> Tensor:
        """x or w x"""
        return F.prelu(input, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"


class Softmin(_Activation):
    """softmax(-x) along `dim`"""

    function, settings = "softmin", ("dim",)

    def __init__(self, dim: int):
        self.dim = dim


class Softmax2d(Module):
    """Softmax over the channels at each place: x (N, C, H, W) or (C, H, W)"""

    def forward(self, input: Tensor) -> Tensor:
        """Same shape"""
        if input.array.ndim not in (3, 4):
            raise ValueError(f"Softmax2d: expected input to be 3D or 4D (got {input.array.ndim}D instead)")
        return F.softmax(input, -3)
