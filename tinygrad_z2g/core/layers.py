"""The layers of a GPT: they own parameters and say how these start; what they compute are operations of `ops`.

They know nothing of rules: gradients follow from the operations.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import dtypes, random
from ..arrays.backend import device_of, resolve, to_device
from . import ops
from .module import Module, Parameter
from .tensor import Tensor

if TYPE_CHECKING:
    from .gpt import Cache


def parameter(*shape: int, value: float = 0.0, device: Any = None, dtype: Any = None) -> Parameter:
    """A parameter of this shape, the same number everywhere."""
    if any(n < 0 for n in shape):
        raise RuntimeError(f"parameter: got the sizes {shape}, expected sizes >= 0")
    dtype = dtypes.get_default_dtype() if dtype is None else dtypes.as_dtype(dtype)
    return Parameter(Tensor.make(to_device(np.full(shape, value, dtype), resolve(device))))


def start(x: Tensor, numbers: Any) -> None:
    """x = numbers: those that a parameter starts with, drawn on the host in float64 and rounded once."""
    x.array[...] = to_device(np.asarray(numbers, x.array.dtype), device_of(x.array))
    x.memory.writes += 1


class Linear(Module):
    """z = x Wᵀ + b: every output is a weighted sum of all inputs.

    x (..., in_features) -> (..., out_features). `weight` (out, in) and `bias` (out,) start uniform on ±1/√in.
    """

    bias: Parameter | None

    def __init__(self, in_features: int, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None):
        self.in_features, self.out_features = in_features, out_features
        self.weight = parameter(out_features, in_features, device=device, dtype=dtype)
        self.register_parameter("bias", parameter(out_features, device=device, dtype=dtype) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new starting values."""
        bound = 1 / math.sqrt(self.in_features) if self.in_features else 0
        for p in (self.weight, self.bias):
            if p is not None:
                start(p, random.uniform(p.array.shape, -bound, bound, p.array.dtype))

    def forward(self, input: Tensor) -> Tensor:
        """(..., in) -> (..., out)"""
        return ops.linear(input, self.weight, self.bias)


class Embedding(Module):
    """One learned vector per id: ids (...) -> (..., embedding_dim).

    `weight` (num_embeddings, embedding_dim) starts normal with mean 0, deviation 1.
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, device: Any = None, dtype: Any = None):
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.weight = parameter(num_embeddings, embedding_dim, device=device, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new starting values."""
        start(self.weight, random.normal(self.weight.array.shape))

    def forward(self, ids: Tensor) -> Tensor:
        """(...) -> (..., embedding_dim)"""
        return ops.embedding(ids, self.weight)


class LayerNorm(Module):
    """Each vector shifted to mean 0 and scaled to variance 1, then by learned `weight` and `bias`.

    x (..., *normalized_shape), same shape out. `weight` starts at 1, `bias` at 0. See `ops.layer_norm`.
    """

    weight: Parameter | None
    bias: Parameter | None

    def __init__(
        self, normalized_shape: Any, eps: float = 1e-5, elementwise_affine: bool = True, bias: bool = True,
        device: Any = None, dtype: Any = None,
    ):  # fmt: skip
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.normalized_shape, self.eps = shape, eps
        for name, value, wanted in (("weight", 1, True), ("bias", 0, bias)):
            p = parameter(*shape, value=value, device=device, dtype=dtype)
            self.register_parameter(name, p if elementwise_affine and wanted else None)

    def forward(self, input: Tensor) -> Tensor:
        """(..., *normalized_shape), same shape out"""
        return ops.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)


class Dropout(Module):
    """While training, each element becomes 0 with probability p and the rest grows by 1 / (1 - p)."""

    def __init__(self, p: float = 0.5):
        if not 0 <= p <= 1:
            raise ValueError(f"{type(self).__name__}: probability has to be between 0 and 1, got {p}")
        self.p = p

    def forward(self, input: Tensor) -> Tensor:
        """Same shape"""
        return ops.dropout(input, self.p, self.training)


class ReLU(Module):
    """max(x, 0)"""

    def forward(self, input: Tensor) -> Tensor:
        """max(x, 0)"""
        return ops.relu(input)


class GELU(Module):
    """x Φ(x); with approximate="tanh" the formula of GPT-2. See `ops.gelu`."""

    def __init__(self, approximate: str = "none"):
        self.approximate = approximate

    def forward(self, input: Tensor) -> Tensor:
        """x Φ(x)"""
        return ops.gelu(input, self.approximate)


class Sequence(Module):
    """Modules that are its attributes, named by their numbers: what `Sequential` and `ModuleList` share."""

    def append(self, module: Module) -> Any:
        """Add one at the end, named by its number. Returns self."""
        return self._add(len(self), module)

    def extend(self, modules: Iterable[Module]) -> Any:
        """Add several at the end. Returns self."""
        if not isinstance(modules, Iterable):
            raise TypeError(f"{type(self).__name__}: expected modules to add, got {type(modules).__name__}")
        for module in list(modules):
            self.append(module)
        return self

    def _add(self, number: int, module: Module) -> Any:
        while str(number) in self.__dict__:  # after `delattr`, which leaves the other numbers as they are
            number += 1
        if not isinstance(module, Module):
            raise TypeError(f"{type(self).__name__}: {type(module).__name__} is not a Module")
        setattr(self, str(number), module)
        return self

    def __iter__(self) -> Iterator[Any]:
        return iter([member for member in self.__dict__.values() if isinstance(member, Module)])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __getitem__(self, index: int) -> Any:
        return list(self)[index]


class Sequential(Sequence):
    """Modules called one after the other: `Sequential(Linear(2, 8), ReLU(), Linear(8, 1))`."""

    def __init__(self, *modules: Module):
        self.extend(modules)

    def forward(self, input: Any) -> Any:
        """The last module's output."""
        for module in self:
            input = module(input)
        return input


class ModuleList(Sequence):
    """A list of modules. It computes nothing itself: loop over it in `forward`."""

    def __init__(self, modules: Iterable[Module] = ()):
        self.extend(modules)


class CausalSelfAttention(Module):
    """Every position asks (query) all positions up to itself (key) and takes the mean of what they tell (value)."""

    turned: Any  # by `angles`; attached from `nn/transformer.py`

    def __init__(self, width: int, num_heads: int, dropout: float = 0.0, bias: bool = True):
        if num_heads < 1 or width < 1 or width % num_heads:
            raise ValueError(f"CausalSelfAttention: width {width} is not divisible into {num_heads} heads")
        self.num_heads, self.dropout = num_heads, dropout
        self.qkv = Linear(width, 3 * width, bias=bias)
        self.proj = Linear(width, width, bias=bias)
        self.resid_dropout = Dropout(dropout)

    def forward(self, x: Tensor, cache: Cache | None = None, angles: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """(B, T, C) -> (B, T, C).

        With a `cache`, x holds only the positions that are new: their keys and values are added to it, and they attend
        to everything in it, up to themselves. For `angles` see `nn/transformer.py`.
        """
        (B, T, C), nh, mask = x.array.shape, self.num_heads, None
        q, k, v = (part.reshape(B, T, nh, C // nh).transpose(1, 2) for part in self.qkv(x).split(C, dim=-1))
        if angles is not None:  # q, k, v (B, nh, T, hs)
            q, k = self.turned(q, angles), self.turned(k, angles)
        if cache is not None:
            k, v = cache.extend(self, k, v)  # (B, nh, S, hs)
            mask = cache.mask(T, k.array.shape[2], q)
        p, causal = self.dropout if self.training else 0.0, mask is None and k.array.shape[2] == T
        y = ops.scaled_dot_product_attention(q, k, v, mask, p, is_causal=causal)
        y = y.transpose(1, 2).reshape(B, T, C)  # (B, nh, T, hs) -> (B, T, C)
        return self.resid_dropout(self.proj(y))


class TransformerBlock(Module):
    """x + attention(norm(x)), then x + mlp(norm(x)): positions talk to each other, then each thinks for itself.

    The sums (residual connections) let gradients pass unchanged through any number of blocks; normalising first
    ("pre-norm", as in GPT-2) keeps that path clear.
    """

    def __init__(self, width: int, num_heads: int, dropout: float = 0.0, bias: bool = True):
        self.norm1 = LayerNorm(width, bias=bias)
        self.attention = CausalSelfAttention(width, num_heads, dropout, bias)
        self.norm2 = LayerNorm(width, bias=bias)
        up, down = Linear(width, 4 * width, bias=bias), Linear(4 * width, width, bias=bias)
        self.mlp = Sequential(up, GELU(approximate="tanh"), down, Dropout(dropout))

    def forward(self, x: Tensor, cache: Cache | None = None, angles: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """(B, T, C) -> (B, T, C)"""
        x = x + self.attention(self.norm1(x), cache, angles)
        return x + self.mlp(self.norm2(x))
