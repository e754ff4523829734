"""`Tensor`: an array that remembers how it was computed.

The class holds little: the array, its gradient, and the way back (see `engine.Variable`). Every operation is a function
in `ops.py`, where forward and gradient rule stand side by side; here they become methods and operators. torch's many
other methods are added by `tensor.py` outside of the core. It knows nothing of rules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays.backend import Array
from . import engine, ops
from .engine import Memory, Variable, needs_grad

if TYPE_CHECKING:
    from ..arrays.size import Size
    from ..tensor import Surface  # so that type checkers see what is added
else:

    class Surface:
        __slots__ = ()


class Tensor(Surface, Variable):
    """A multi-dimensional array of one dtype on one device, with reverse-mode differentiation.

    Make one with `tensor(...)`, `zeros(...)`, `randn(...)` and their like. `array` is the NumPy or CuPy array.
    """

    __slots__ = ("__dict__",)  # for attributes of the user's own: p.tag = 1
    __array_ufunc__ = None  # `numpy_array * tensor` is left to Tensor.__rmul__ instead of being taken apart
    __hash__ = object.__hash__  # by identity, although == compares elements

    @staticmethod
    def make(array: Array) -> Tensor:
        """A tensor around `array` (not copied), without history."""
        tensor = object.__new__(Tensor)  # then as `begin`, without the cost of its call
        tensor.array = array if type(array) is np.ndarray or not isinstance(array, np.generic) else np.asarray(array)
        tensor._grad = tensor.node = tensor.asked = tensor.base = None
        tensor._requires_grad = False
        tensor.rewrites = 0
        tensor.memory = Memory()
        return tensor

    # --- What it is ----------------------------------------------------------------------------------------------

    @property
    def shape(self) -> Size:
        """The size of each dimension, a tuple."""
        return self.array.shape

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return self.array.ndim

    @property
    def dtype(self) -> np.dtype:
        """The type of the elements."""
        return self.array.dtype

    def item(self) -> Any:
        """The one element as a Python number. RuntimeError if there are more or none."""
        if self.array.size != 1:
            raise RuntimeError(
                f"item: a tensor of shape {tuple(self.shape)} has {self.array.size} elements, expected 1"
            )
        return self.array.item()

    def detach(self) -> Tensor:
        """The same memory without history: gradients stop here."""
        out = Tensor.make(self.array)
        out.memory = self.memory
        return out

    # --- Gradients -----------------------------------------------------------------------------------------------

    @property
    def grad(self) -> Tensor | None:
        """∂L/∂self after backward."""
        return self._grad

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        self._grad = value

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Ask for (or decline) gradients at this leaf. RuntimeError for integers and for computed tensors."""
        if requires_grad and self.array.dtype.kind != "f":
            raise RuntimeError(f"requires_grad: only floating-point tensors can require gradients, got {self.dtype}")
        if not requires_grad and engine.source(self) is not self:
            raise RuntimeError("requires_grad: only leaves can be switched off; use detach() for a computed tensor")
        self._requires_grad = bool(requires_grad)
        return self

    if not TYPE_CHECKING:  # who checks types sees the wider forms that `tensor.py` puts in their place

        @property
        def requires_grad(self) -> bool:
            """Whether gradients are wanted, here or at something this was computed from."""
            return needs_grad(self)

        def backward(self, gradient: Tensor | None = None, retain_graph: bool | None = None) -> None:
            """Add ∂self/∂leaf to `leaf.grad` for every leaf this was computed from. See `engine.backward`.

            `gradient` is ∂L/∂self, needed unless self has one element.
            RuntimeError if there is nothing to differentiate or the graph was used up before.
            """
            engine.backward([(self, engine.seed(self, gradient))], bool(retain_graph))

        # --- Operations: each a function in `ops.py` -------------------------------------------------------------

        add = __add__ = __radd__ = ops.add
        sub = __sub__ = ops.sub
        mul = __mul__ = __rmul__ = ops.mul
        div = __truediv__ = ops.div
        neg = __neg__ = ops.neg
        pow = __pow__ = ops.pow
        exp, log, tanh, sigmoid, relu = ops.exp, ops.log, ops.tanh, ops.sigmoid, ops.relu
        masked_fill = ops.masked_fill
        matmul = __matmul__ = ops.matmul
        sum, mean, softmax = ops.sum, ops.mean, ops.softmax
        reshape, transpose, split = ops.reshape, ops.transpose, ops.split
        __getitem__ = ops.getitem

        def __rsub__(self, other: Any) -> Tensor:
            return ops.sub(other, self)

        def __rtruediv__(self, other: Any) -> Tensor:
            return ops.div(other, self)
