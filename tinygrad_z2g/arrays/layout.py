"""How results lie in memory, which `view`, `is_contiguous` and writes through `reshape` see: as in torch.

Results of reductions, softmax and joining are in row-major order. What works element by element keeps the order of its
inputs: a transposed x gives a transposed z. NumPy does so too, unless the inputs disagree: then the first of them
decides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .backend import Array, of, quiet


def row_major(z: Array) -> Array:
    """`z`, copied if need be so that its elements lie in row-major order."""
    return z if z.ndim < 2 or z.flags.c_contiguous else z.copy()


def elementwise_order(shape: tuple, strides: list[list[int]]) -> list[int]:
    """The dimensions of a result of `shape`, from the one whose neighbours lie furthest apart to the closest.

    `strides` are those of the inputs, broadcast to `shape`: 0 in a dimension along which an input says nothing. Of two
    dimensions the later one is the closer, unless the first input that knows says otherwise. (The insertion sort is
    that of torch's TensorIterator::reorder_dimensions: the relation is not transitive, so another could differ.)
    """
    n = len(shape)

    def wrong(inner: int, outer: int) -> int:
        """1 if they must change places, -1 if not, 0 if no input knows"""
        for steps in strides:
            if steps[inner] and steps[outer]:
                if steps[inner] != steps[outer]:
                    return 1 if steps[inner] > steps[outer] else -1
                if shape[inner] > shape[outer]:
                    return 1
        return 0

    order = list(reversed(range(n)))
    for i in range(1, n):
        k = i
        for j in reversed(range(i)):
            verdict = wrong(order[j], order[k])
            if verdict < 0:
                break
            if verdict > 0:
                order[j], order[k] = order[k], order[j]
                k = j
    return order[::-1]


def broadcast_strides(x: Array, shape: tuple) -> list[int]:
    """How far apart neighbours of x, broadcast to `shape`, lie in memory along each dimension."""
    extra = len(shape) - x.ndim
    known = zip(x.shape, x.strides, shape[extra:], strict=True)
    return [0] * extra + [0 if size == 1 != full else abs(step) for size, step, full in known]


def laid_out(z: Array, *inputs: Array) -> Array:
    """`z`, the result of an operation on the `inputs` element by element, copied if need be into their order."""
    if z.ndim < 2 or (z.flags.c_contiguous and all(x.flags.c_contiguous for x in inputs)):
        return z
    return in_order(z, [broadcast_strides(x, z.shape) for x in inputs])


def computed(function: Callable, x: Any, y: Any) -> Array:
    """function(x, y) for two arrays, of which one may be a number, laid out in memory as torch does. No warnings."""
    z = quiet.run(function, x, y)
    if z.ndim > 1 and hasattr(x, "dtype") and hasattr(y, "dtype") and x.strides != y.strides:
        return laid_out(z, x, y)
    return z


def in_order(z: Array, strides: list[list[int]]) -> Array:
    """`z`, copied if need be into the `elementwise_order` that these strides give, without gaps."""
    order = elementwise_order(z.shape, strides)
    inverse = sorted(range(z.ndim), key=order.__getitem__)
    return row_major(z.transpose(order)).transpose(inverse)


def copied(a: Array) -> Array:
    """A copy that lies in memory as `a` does, without its gaps."""
    z = laid_out(a, a)
    return z.copy("K") if z is a or of(a).may_share_memory(z, a) else z


def writable(view: Array, a: Array) -> Array:
    """`view` of `a`, which can be written to where `a` can. NumPy's diagonals and expanded arrays cannot."""
    if hasattr(view.flags, "writeable"):
        view.flags.writeable = a.flags.writeable
    return view


def spread(reduced: Any, dims: tuple[int, ...], keepdim: bool) -> Any:
    """The result of a reduction over `dims`, as a view that broadcasts against what was reduced."""
    return reduced if keepdim else of(reduced).expand_dims(reduced, dims)
