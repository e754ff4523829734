"""LoRA: a large layer is left as it is, and a small correction beside it learns. (Hu et al. 2021, arXiv:2106.09685)

It knows nothing of any model: it finds layers by their names.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .. import creation
from ..core.modes import no_grad
from ..tensor import Tensor
from . import functional as F
from . import init
from .linear import Linear
from .module import Module, Parameter
from .quantized import QuantizedLinear


class LoRA(Module):
    """z = layer(x) + s x Aᵀ Bᵀ: a change B A of the weight that is the product of two thin matrices, s = alpha / rank.

    A `lora_A` (rank, in) starts as a layer's weight does, B `lora_B` (out, rank) at 0, so that at first nothing is
    changed. For a matrix of 576 by 576 and rank 8 they are 9,216 numbers in place of 331,776. The layer, a `Linear` or
    `QuantizedLinear`, is frozen.
    """

    scaling: Tensor

    def __init__(self, layer: Module, rank: int = 8, alpha: float = 16.0):
        if not isinstance(layer, (Linear, QuantizedLinear)):
            raise TypeError(f"LoRA: expected a Linear or QuantizedLinear, got {type(layer).__name__}")
        if rank < 1:
            raise ValueError(f"LoRA: rank must be at least 1, got {rank}")
        self.layer = layer.requires_grad_(False)
        out, width = layer.shape if isinstance(layer, QuantizedLinear) else tuple(layer.weight.shape)
        like = layer.scales if isinstance(layer, QuantizedLinear) else layer.weight
        make: dict[str, Any] = {"device": like.device, "dtype": like.dtype}
        self.lora_A = Parameter(creation.empty(rank, width, **make))
        self.lora_B = Parameter(creation.zeros(out, rank, **make))
        self.register_buffer("scaling", creation.tensor(alpha / rank, **make))
        init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))

    def forward(self, input: Tensor) -> Tensor:
        """(..., in) -> (..., out)"""
        small = F.linear(input, self.lora_A) * self.scaling  # (..., in) -> (..., rank)
        return self.layer(input) + F.linear(small, self.lora_B)  # (..., rank) -> (..., out)

    @no_grad()
    def merge(self) -> Linear:
        """One `Linear` that computes the same: W + s B A."""
        layer = self.layer.dequantize() if isinstance(self.layer, QuantizedLinear) else self.layer
        change = self.lora_B @ self.lora_A * self.scaling  # (out, rank) @ (rank, in)
        return Linear.of(Parameter(layer.weight + change), layer.bias)

    def extra_repr(self) -> str:
        return f"rank={self.lora_A.array.shape[0]}"


def add_lora(model: Module, names: Sequence[str], rank: int = 8, alpha: float = 16.0) -> list[Parameter]:
    """Freeze `model` and wrap each of its layers whose own name (the last part, `q` of `attention.q`) is in `names`.

    Returns the parameters that learn, for an optimizer. ValueError for a name that no layer has.
    """
    chosen = [name for name, _ in model.named_modules() if name.rpartition(".")[2] in names]
    missing = set(names) - {name.rpartition(".")[2] for name in chosen}
    if missing:
        raise ValueError(f"add_lora: no layer of {type(model).__name__} has the name {', '.join(sorted(missing))}")
    model.requires_grad_(False)
    for name in chosen:
        model.set_submodule(name, LoRA(model.get_submodule(name), rank, alpha))
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def merge_lora(model: Module) -> None:
    """Put the merged layer in the place of each `LoRA` of `model`."""
    for name, module in list(model.named_modules()):
        if isinstance(module, LoRA):
            model.set_submodule(name, module.merge())


def lora_state_dict(model: Module) -> dict[str, Tensor]:
    """The corrections alone, a few megabytes: `z2g.save(lora_state_dict(model), "cats.safetensors")`."""
    prefixes = [name for name, module in model.named_modules() if isinstance(module, LoRA)]
    own = [f"{prefix}.{part}" for prefix in prefixes for part in ("lora_A", "lora_B", "scaling")]
    state = model.state_dict()
    return {name: state[name] for name in own}


def load_lora_state_dict(model: Module, state: dict[str, Tensor]) -> None:
    """Put saved corrections into a model that `add_lora` has prepared in the same way. RuntimeError if they differ."""
    own = lora_state_dict(model)
    if own.keys() != state.keys():
        odd = sorted(own.keys() ^ state.keys())[0]
        raise RuntimeError(f"load_lora_state_dict: '{odd}' is only on one side; give add_lora the names it had")
    model.load_state_dict(state, strict=False)
