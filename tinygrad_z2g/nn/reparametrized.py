"""Weights that are computed from other parameters before each forward: by length and direction, or of norm 1.

A hook before the forward of the module puts the computed weight where the layer looks for it.
"""

from __future__ import annotations

from typing import Any

from ..core.modes import no_grad
from ..ops.reduction import norm
from ..tensor import RemovableHandle, Tensor
from . import init
from .distances import normalize
from .module import Module, Parameter


class _Hook:
    """What is computed before each forward, under which name; `apply` registers it and computes once."""

    kind: str
    handle: RemovableHandle

    def __init__(self, name: str):
        self.name = name

    def compute(self, module: Module) -> Tensor:
        """The weight, of the parameters that stand for it."""
        raise NotImplementedError

    def __call__(self, module: Module, inputs: Any) -> None:
        object.__setattr__(module, self.name, self.compute(module))

    def apply(self, module: Module) -> None:
        """Compute the weight before each forward from now on."""
        for hook in module._forward_pre_hooks.values():
            if isinstance(hook, _Hook) and hook.name == self.name:
                raise RuntimeError(f"{self.kind}: cannot register two such hooks on the same parameter {self.name!r}")
        self.handle = module.register_forward_pre_hook(self)
        self(module, ())

    def remove(self, module: Module, *parts: str) -> None:
        """The weight as it is now becomes a parameter again, in place of its parts."""
        with no_grad():
            weight = self.compute(module).detach()
        self.handle.remove()
        for part in (self.name, *parts):
            delattr(module, part)
        module.register_parameter(self.name, Parameter(weight.clone()))


def _taken(module: Module, name: str, kind: str) -> Parameter:
    """The parameter `name`, which the module has no more."""
    weight = getattr(module, name, None)
    if not isinstance(weight, Parameter):
        raise ValueError(f"{kind}: {type(module).__name__} has no parameter {name!r}")
    delattr(module, name)
    return weight


def _of(module: Module, name: str, kind: Any) -> Any:
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, kind) and hook.name == name:
            return hook
    raise ValueError(f"{kind.kind} of {name!r} not found in {module}")


# --- Length and direction ----------------------------------------------------------------------------------------


class _WeightNorm(_Hook):
    kind = "weight_norm"

    def __init__(self, name: str, dim: int | None):
        super().__init__(name)
        self.dim = dim

    def lengths(self, v: Tensor) -> Tensor:
        """‖v‖ of all numbers that share a place along dim; of all, without dim."""
        if self.dim is None:
            return norm(v)
        others = [d for d in range(v.ndim) if d != self.dim % v.ndim]
        return norm(v, 2, others, keepdim=True) if others else v.abs()

    def compute(self, module: Module) -> Tensor:
        g, v = getattr(module, f"{self.name}_g"), getattr(module, f"{self.name}_v")
        return v * (g / self.lengths(v))


def weight_norm(module: Module, name: str = "weight", dim: int | None = 0) -> Module:
    """w = g v / ‖v‖: the length g and the direction v of a weight learn apart. Returns the module.

    In place of the parameter `name` there are `name_g` and `name_v`; each slice along `dim` has a length of its own,
    for dim=None there is one. (Salimans & Kingma 2016, arXiv:1602.07868)
    """
    weight, hook = _taken(module, name, "weight_norm"), _WeightNorm(name, dim)
    with no_grad():
        lengths = hook.lengths(weight.detach())
    module.register_parameter(f"{name}_g", Parameter(lengths.clone()))
    module.register_parameter(f"{name}_v", weight)
    hook.apply(module)
    return module


def remove_weight_norm(module: Module, name: str = "weight") -> Module:
    """The weight itself is a parameter again. ValueError if it was one."""
    _of(module, name, _WeightNorm).remove(module, f"{name}_g", f"{name}_v")
    return module


# --- Norm 1 ------------------------------------------------------------------------------------------------------


class _SpectralNorm(_Hook):
    kind = "spectral_norm"

    def __init__(self, name: str, n_power_iterations: int, eps: float, dim: int):
        super().__init__(name)
        self.n_power_iterations, self.eps, self.dim = n_power_iterations, eps, dim

    def matrix(self, weight: Tensor) -> Tensor:
        """The weight as a matrix, dim by all else."""
        rest = [d for d in range(weight.ndim) if d != self.dim]
        rows = weight if self.dim == 0 else weight.permute(self.dim, *rest)
        return rows.reshape(rows.shape[0], -1)

    def compute(self, module: Module) -> Tensor:
        weight = getattr(module, f"{self.name}_orig")
        w, u, v = self.matrix(weight), getattr(module, f"{self.name}_u"), getattr(module, f"{self.name}_v")
        if module.training:
            with no_grad():
                for _ in range(self.n_power_iterations):
                    v.copy_(normalize(w.detach().t() @ u, dim=0, eps=self.eps))
                    u.copy_(normalize(w.detach() @ v, dim=0, eps=self.eps))
        u, v = u.clone(), v.clone()  # which the next forward changes, while backward still reads them
        return weight / u.dot(w @ v)


def spectral_norm(
    module: Module, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None
) -> Module:
    """w = W / σ(W), σ the largest factor by which W stretches a vector: then w stretches none. Returns the module.

    In place of the parameter `name` there is `name_orig`, and two vectors with u ≈ W v / σ, which each forward while
    training brings nearer by a step of the power method; σ = uᵀ W v, as a function of W alone. (Miyato et al. 2018,
    arXiv:1802.05957)
    """
    if n_power_iterations <= 0:
        raise ValueError(f"spectral_norm: n_power_iterations must be positive, got {n_power_iterations}")
    if dim is None:
        dim = 1 if type(module).__name__.startswith("ConvTranspose") else 0
    weight, hook = _taken(module, name, "spectral_norm"), _SpectralNorm(name, n_power_iterations, eps, dim)
    with no_grad():
        rows, columns = hook.matrix(weight.detach()).shape
        made = [init.normal_(weight.detach().reshape(-1)[:1].expand(n).clone()) for n in (rows, columns)]
        u, v = (normalize(x, dim=0, eps=eps) for x in made)
    module.register_parameter(f"{name}_orig", weight)
    module.register_buffer(f"{name}_u", u)
    module.register_buffer(f"{name}_v", v)
    hook.apply(module)
    return module


def remove_spectral_norm(module: Module, name: str = "weight") -> Module:
    """The weight as it is now is a parameter again. ValueError if it was one."""
    _of(module, name, _SpectralNorm).remove(module, f"{name}_orig", f"{name}_u", f"{name}_v")
    return module
