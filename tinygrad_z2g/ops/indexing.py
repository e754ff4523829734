"""Reading and writing parts of a tensor: `x[...]`, `x[...] = v`, gather and its relatives.

The rule of reading is adding: an element that was read three times receives three gradients. Writing `x[i] = v`
replaces, so the elements replaced receive none and v receives what was meant for them. It knows nothing of layers or
losses: `embedding` is built on the same idea, in `functional`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import dtypes
from ..arrays.backend import Array, device_of, of, quiet, to_device, to_host
from ..arrays.views import Spot
from ..core import ops
from ..core.engine import Variable, record, unchanged
from ..core.operands import is_tensor
from ..half.table import apply
from .common import (
    as_array,
    as_int,
    check_broadcast,
    check_ids,
    held,
    in_order,
    linear_rule,
    number,
    numpy_names,
    one_dim,
    row_major,
    same_device,
)
from .inplace import is_part_itself, is_recorded, take_up

if TYPE_CHECKING:
    from ..tensor import Tensor

ALL = slice(None)


def getitem(input: Tensor, index: Any) -> Tensor:
    """z = x[index]: integers, slices, None, ..., boolean and integer tensors or lists, and mixtures of them.

    ∂L/∂x is 0, plus the gradient of each element of z at the place where it was read. Integers, slices, None and ...
    alone give a view; anything else copies. IndexError for an index out of range, too many, or of another type.

    Derived: z = S x, where each row of S holds one 1, at the place read, so ∂L/∂x = Sᵀ grad: every gradient goes back
    to its place, and meets the others there. (S is never made.) Read x₀ twice and x₂ once:
    >>> x = z2g.tensor([1.0, 2.0, 3.0], requires_grad=True); x[[0, 0, 2]].sum().backward(); x.grad
    tensor([2., 0., 1.])
    """
    a = as_array(input, "index")
    try:
        return ops.getitem(input, index)
    except (IndexError, TypeError):  # no plain index, or a wrong one, of which more can be said
        basic, advanced, tensors = _parse(index, a)
    shape, xp = a.shape, of(a)
    if advanced is None:
        return ops.getitem(input, basic)

    def scatter(grad: Array) -> Array:
        return _added(xp.zeros(shape, grad.dtype), basic, advanced, grad)

    def read(x: Array) -> Array:
        return _arranged(x[basic][advanced], x[basic], advanced)

    return record("index", read(a), (input, linear_rule("index", scatter, read), *tensors))


def _arranged(z: Array, view: Array, advanced: tuple) -> Array:
    """z = view[advanced], in memory as torch has it: what the indices choose in row-major order, the other dimensions
    as those of `view`; between the two the later one is the closer. (NumPy puts what they choose outermost.)"""
    steps = [abs(step) if size > 1 else 0 for size, step in zip(view.shape, view.strides, strict=True)]
    free: list[int] = []
    places, block, dim = [], 0, 0  # where in `advanced` the arrays stand, how many dimensions of z they make together
    for i, item in enumerate(advanced):
        if hasattr(item, "dtype"):
            is_mask = item.dtype.kind == "b"
            places.append((i, len(free)))
            block = max(block, 1 if is_mask else item.ndim)
            dim += item.ndim if is_mask else 1
        else:
            free.append(steps[dim])
            dim += 1
    free += steps[dim:]
    apart = places[-1][0] - places[0][0] >= len(places)
    start = 0 if apart else places[0][1]
    return in_order(z, [free[:start] + [0] * block + free[start:]])


def _added(out: Array, basic: Any, advanced: Any, values: Array) -> Array:
    """`out` with out[basic][advanced] += values, where repeated indices count. What is added up many times at one place
    is added up in a wider type, as in `fast.total`; on a GPU many do it at once, in no order."""
    xp = of(out)
    narrow = xp is np and (out.dtype == np.float16 or (out.dtype == np.float32 and np.size(values) > 4096))
    wide = out.astype(np.float32 if out.dtype == np.float16 else np.float64) if narrow else out
    xp.add.at(wide[basic], advanced, values.astype(wide.dtype) if narrow and hasattr(values, "astype") else values)
    return dtypes.rounded(wide, out.dtype) if narrow else out


def setitem(input: Tensor, index: Any, value: Any) -> None:
    """x[index] = value, in place, where value (a tensor, number or array) broadcasts to x[index].

    Afterwards ∂L/∂(old x) is 0 at the elements written, and ∂L/∂value is the gradient found there. Indices should not
    repeat: of several values written to one place the last stays, but each receives the gradient of that place, as in
    torch, which is false for the others.

    What stood there before has no part in the result; the value has, once for each element that it was copied to.
    >>> x, v = z2g.tensor([1.0, 2.0, 3.0], requires_grad=True), z2g.tensor(9.0, requires_grad=True)
    >>> z = 5 * x; z[1:] = v; z.sum().backward(); x.grad, v.grad
    (tensor([5., 0., 0.]), tensor(2.))
    """
    a = as_array(input, "index")
    basic, advanced, tensors = _parse(index, a)
    v = _value(input, value)
    view = a[basic]
    recording = is_recorded(input, "index", view, (value,))
    inside = ... if advanced is None else advanced
    shape = view.shape if advanced is None else view[advanced].shape
    if hasattr(v, "dtype"):
        while v.ndim > len(shape) and v.shape[0] == 1:
            v = v[0]
        fits = v.ndim <= len(shape) and all(m in (1, n) for m, n in zip(v.shape[::-1], shape[::-1], strict=False))
        if not fits:
            raise RuntimeError(
                f"index: a value of shape {tuple(v.shape)} does not fit x[index] of shape {tuple(shape)}"
            )
    if advanced is None and is_part_itself(input, value, view):
        return
    if not recording:
        view[inside] = v
        input.memory.writes += 1
        return
    base = input if input.base is None else input.base
    spot = None if input.base is None else Spot(base.array, view)

    def both(grad: Array) -> tuple[Array, Array]:
        """A copy of the gradient of the whole, and what part of it belongs to x[index]"""
        if spot:
            return spot.both(grad)
        whole = grad.copy()
        return whole, whole[basic]

    def cleared(grad: Array) -> Array:
        whole, part = both(grad)
        part[inside] = 0
        return whole

    def read(grad: Array) -> Array:
        part = both(grad)[1] if spot else grad[basic]
        return part[inside].reshape((1,) * extra + shape)

    def put(numbers: Array) -> Array:
        whole, part = both(of(numbers).zeros(base_shape, numbers.dtype))
        part[inside] = numbers.reshape(shape)
        return whole

    base_shape = base.array.shape

    # A value may have leading sizes of 1 in excess of x[index]; its gradient needs them back
    extra = max(0, value.array.ndim - len(shape)) if isinstance(value, Variable) else 0
    z = record(
        "index_put",
        base.array,
        (base, linear_rule("index_put", cleared, cleared), *tensors),
        (value, linear_rule("index_put", read, put), *tensors),
    )
    view[inside] = v
    input.memory.writes += 1
    take_up(base, z)


def _value(x: Tensor, value: Any) -> Any:
    """What to write into x's array: an array on its device and in its dtype, or a Python number."""
    if isinstance(value, Variable):
        if value.array.ndim:
            same_device("index", x, value)
        array = to_device(value.array, device_of(x.array))
        return array.astype(x.array.dtype, copy=value.memory is x.memory)  # its own numbers, as they were before
    if isinstance(value, (bool, int, float)):
        return held(value, x.array.dtype, "index")
    if np.asarray(value).dtype.kind not in "biuf":  # None would become NaN, "3" a 3
        raise TypeError(f"index: expected a tensor, a number or a list of numbers, got {type(value).__name__}")
    return to_device(np.asarray(value, x.array.dtype), device_of(x.array))


def _parse(index: Any, a: Array) -> tuple[tuple, tuple | None, list[Variable]]:
    """`index` in two steps, `a[basic][advanced]`, and the tensors in it.

    `basic` holds integers, slices and None and gives a view; `advanced` holds the arrays, or is None if there are
    none. Doing integers first is torch's order: it keeps the result of `x[0, :, [1, 2]]` in the order of x's
    dimensions, where NumPy would move the list's dimension to the front.
    """
    items = list(index) if isinstance(index, tuple) else [index]
    tensors = [item for item in items if isinstance(item, Variable)]
    items = [_item(item, a) for item in items]
    used = sum(item.ndim if hasattr(item, "dtype") and item.dtype.kind == "b" else 1
               for item in items if item is not None and item is not Ellipsis)  # fmt: skip
    if used > a.ndim:
        raise IndexError(f"index: too many indices ({used}) for a tensor of shape {tuple(a.shape)}")
    if sum(item is Ellipsis for item in items) > 1:
        raise IndexError("index: an index can hold only one ellipsis (...)")
    basic: list = []
    advanced: list = []
    dim = 0  # the dimension of `a` that the next item addresses
    for item in items:
        if item is None:
            basic.append(None)
            advanced.append(ALL)
        elif item is Ellipsis:
            basic += [ALL] * (a.ndim - used)
            advanced += [ALL] * (a.ndim - used)
            dim += a.ndim - used
        elif isinstance(item, slice):
            basic.append(item)
            advanced.append(ALL)
            dim += 1
        elif isinstance(item, int):
            if not -a.shape[dim] <= item < a.shape[dim]:
                raise IndexError(f"index: {item} is out of range for dim {dim} of size {a.shape[dim]}")
            basic.append(item)
            dim += 1
        else:
            width = item.ndim if item.dtype.kind == "b" else 1
            _check_range(item, a.shape[dim : dim + width], dim)
            basic += [ALL] * width
            advanced.append(to_device(item, device_of(a)))
            dim += width
    has_arrays = any(hasattr(item, "dtype") for item in advanced)
    return (*basic, ...), tuple(advanced) if has_arrays else None, tensors


def _item(item: Any, a: Array) -> Any:
    """One part of an index as None, ..., a slice, an int or an array of bool or int64."""
    if item is None or item is Ellipsis:
        return item
    if isinstance(item, slice):
        parts = (item.start, item.stop, item.step)
        return slice(*(None if part is None else as_int(part, "index: slice") for part in parts))
    if isinstance(item, (int, np.integer)) and not isinstance(item, bool):
        return int(item)
    if isinstance(item, Variable):
        item = item.array
        if item.ndim == 0 and item.dtype.kind in "iu":  # a view, as of an int; a GPU is waited for, as torch does
            return int(item)
        if device_of(item) != device_of(a) and not isinstance(item, np.ndarray):
            raise RuntimeError(
                f"index: indices on {device_of(item)} for a tensor on {device_of(a)}; move one with .to()"
            )
    elif isinstance(item, (list, tuple, range, bool, np.ndarray)):
        item = np.asarray([part.array.item() if isinstance(part, Variable) else part for part in item]
                          if isinstance(item, (list, tuple)) else item)  # fmt: skip
        item = item.astype(np.int64) if item.size == 0 and item.dtype.kind == "f" else item.copy()
    else:
        error = TypeError if isinstance(item, str) else IndexError
        raise error(f"index: expected int, slice, None, ..., list or tensor, got {type(item).__name__}")
    if item.dtype.kind not in "bi":  # in torch uint8 means a mask, elsewhere an index; so neither here
        raise IndexError(f"index: tensors used as indices must be signed integer or bool, got {item.dtype}")
    return item


def _check_range(item: Array, shape: tuple[int, ...], dim: int) -> None:
    """Refuse indices that leave the tensor. CuPy would wrap them around silently, so they are checked on the host;
    indices already on the GPU are not: looking at them would stop the GPU at every step."""
    if item.dtype.kind == "b":
        if item.shape != shape:
            raise IndexError(f"index: a mask of shape {tuple(item.shape)} does not match {tuple(shape)} at dim {dim}")
    elif isinstance(item, np.ndarray) and item.size and not -shape[0] <= item.min() <= item.max() < shape[0]:
        bad = item.min() if item.min() < -shape[0] else item.max()
        raise IndexError(f"index: {bad} is out of range for dim {dim} of size {shape[0]}")


# --- One index per element ---------------------------------------------------------------------------------------


def gather(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """z[i][j][k] = x[i][index[i][j][k]][k] for dim = 1, and likewise for others. Indices count from 0.

    The rule adds each gradient where its element was read.

    As for `x[...]`: what was read twice receives two gradients. Here x₀ is read by both rows of column 0.
    >>> x = z2g.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    >>> z2g.gather(x, 0, z2g.tensor([[0, 1], [0, 1]])).sum().backward(); x.grad
    tensor([[2., 0.],
            [0., 2.]])
    """
    a, places = as_array(input, "gather"), _places("gather", input, dim, index)
    shape, xp = a.shape, of(a)

    def rule(grad: Array) -> Array:
        return _added(xp.zeros(shape, grad.dtype), ..., places, grad)

    def read(x: Array) -> Array:
        return x[places].copy()

    return record("gather", read(a), (input, linear_rule("gather", rule, read), index))


def scatter(input: Tensor, dim: int, index: Tensor, src: Any = None, *, value: float | None = None) -> Tensor:
    """A copy of x with z[i][index[i][j][k]][k] = src[i][j][k] for dim = 1, and likewise for others.

    `src`, a number or a tensor at least as large as `index`, is what `gather` would read back. The gradient of an
    element written goes to src, that of x there is 0. Indices should not repeat: where several write to one place, one
    of them wins, but each receives the gradient of that place, as in torch, which is false for the others.

    As for `x[...] = v`: what was overwritten has no part in z; src has that of the place it was written to.
    >>> x, src = z2g.tensor([1.0, 2.0, 3.0], requires_grad=True), z2g.tensor([8.0, 9.0], requires_grad=True)
    >>> z = z2g.scatter(x, 0, z2g.tensor([2, 0]), src)  # (9, 2, 8)
    >>> (z * z2g.tensor([5.0, 6.0, 7.0])).sum().backward(); x.grad, src.grad
    (tensor([0., 6., 0.]), tensor([7., 5.]))
    """
    a, places = as_array(input, "scatter"), _places("scatter", input, dim, index)
    source = _scattered("scatter", input, index, value if src is None else src)
    z = a.copy()
    z[places] = source.array if isinstance(source, Variable) else source

    def cleared(grad: Array) -> Array:
        grad = grad.copy()
        grad[places] = 0
        return grad

    def put(numbers: Array) -> Array:
        whole = xp.zeros(shape, numbers.dtype)
        whole[places] = numbers
        return whole

    xp, shape = of(a), a.shape
    return record(
        "scatter",
        z,
        (input, linear_rule("scatter", cleared, cleared), index),
        (source, linear_rule("scatter", lambda grad: grad[places], put), index),
    )


def scatter_add(input: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """A copy of x with z[i][index[i][j][k]][k] += src[i][j][k] for dim = 1: the reverse of `gather`.

    Where several write to one place, all are added. ∂L/∂x = grad,  ∂L/∂src = gather(grad)

    z = x + Sᵀ src with the S of `gather`; so x receives grad itself, and src receives S grad, which is gathering.
    >>> x, src = z2g.tensor([1.0, 2.0], requires_grad=True), z2g.tensor([8.0, 9.0], requires_grad=True)
    >>> z = z2g.scatter_add(x, 0, z2g.tensor([1, 1]), src)  # (1, 2 + 8 + 9)
    >>> (z * z2g.tensor([5.0, 6.0])).sum().backward(); x.grad, src.grad
    (tensor([5., 6.]), tensor([6., 6.]))
    """
    a, places = as_array(input, "scatter_add"), _places("scatter_add", input, dim, index)
    source = _scattered("scatter_add", input, index, src)
    z = quiet.run(_added, a.copy(), ..., places, source.array if isinstance(source, Variable) else source)
    xp, shape = of(a), a.shape

    def read(grad: Array) -> Array:
        return grad[places]

    def put(numbers: Array) -> Array:
        return _added(xp.zeros(shape, numbers.dtype), ..., places, numbers)

    return record("scatter_add", z, (input, unchanged), (source, linear_rule("scatter_add", read, put), index))


def _places(name: str, x: Tensor, dim: int, index: Tensor) -> tuple:
    """What NumPy is to be indexed by: `index` along `dim`, and in the other dimensions each position itself."""
    a, ids = as_array(x, name), as_array(index, name)
    same_device(name, x, index)
    axis = one_dim(dim, a.ndim, name)
    if a.ndim and not ids.size:  # nothing is looked up, so torch does not ask for its dtype and dimensions
        return (of(a).zeros(ids.shape, np.int64),) * a.ndim
    if ids.dtype not in (dtypes.int64, dtypes.int32):
        raise RuntimeError(f"{name}: expected int64 or int32 indices, got {ids.dtype}")
    single = a.ndim == 1 and not ids.ndim  # one place of a row, named by a number
    fits = single or (
        ids.ndim == a.ndim
        and all(m <= n for d, (m, n) in enumerate(zip(ids.shape, a.shape, strict=True)) if d != axis)
    )
    if not fits:
        raise RuntimeError(
            f"{name}: index of shape {tuple(ids.shape)} must have the dimensions of x, {tuple(a.shape)}, and be no "
            f"larger except in dim {axis}"
        )
    if not a.ndim:
        return (...,)
    if isinstance(ids, np.ndarray) and ids.size and not 0 <= ids.min() <= ids.max() < a.shape[axis]:
        bad = ids.min() if ids.min() < 0 else ids.max()
        raise RuntimeError(f"{name}: index {bad} is out of range for dim {axis} of size {a.shape[axis]}")
    if single:
        return (ids, ...)  # with `...` NumPy gives an array, not a number
    grid = [of(a).arange(n).reshape((-1,) + (1,) * (ids.ndim - 1 - d)) for d, n in enumerate(ids.shape)]
    grid[axis] = ids
    return tuple(grid)


def _scattered(name: str, x: Tensor, index: Tensor, src: Any) -> Any:
    """The part of `src` that is written: as large as `index`, of x's dtype; a number as it is."""
    if not is_tensor(src):
        return held(number(src, f"{name}: src"), x.array.dtype, name)
    same_device(name, x, src)
    if src.array.dtype != x.array.dtype:
        raise RuntimeError(f"{name}: src is {src.array.dtype}, expected {x.array.dtype}, as x is")
    size, have = index.array.shape, src.array.shape
    if len(have) != len(size) or any(m > n for m, n in zip(size, have, strict=True)):
        raise RuntimeError(f"{name}: src of shape {tuple(have)} is smaller than index, {tuple(size)}")
    return src if have == size else getitem(src, tuple(slice(n) for n in size))


def take_along_dim(input: Tensor, indices: Tensor, dim: int | None = None) -> Tensor:
    """As `gather`, with x and the indices broadcast against each other in the other dimensions; without `dim`, flat.

    Unlike there, indices below 0 count from the end.

    >>> x = z2g.tensor([[3.0, 1.0], [2.0, 4.0]], requires_grad=True)
    >>> z2g.take_along_dim(x, x.argmax(1, keepdim=True), 1).sum().backward(); x.grad
    tensor([[1., 0.],
            [0., 1.]])
    """
    if dim is None:
        input, indices, dim = input.reshape(-1), indices.reshape(-1), 0
    a, ids = as_array(input, "take_along_dim"), as_array(indices, "take_along_dim")
    axis = one_dim(dim, a.ndim, "take_along_dim")
    if a.ndim != ids.ndim:
        raise RuntimeError(
            f"take_along_dim: x has {a.ndim} dimensions, indices {ids.ndim}; expected as many, "
            f"got shapes {tuple(a.shape)} and {tuple(ids.shape)}"
        )
    if ids.dtype not in (dtypes.int64, dtypes.int32):
        raise RuntimeError(f"take_along_dim: expected int64 or int32 indices, got {ids.dtype}")
    shape = [-1 if d == axis else m if n == 1 else n for d, (m, n) in enumerate(zip(a.shape, ids.shape, strict=True))]
    if isinstance(ids, np.ndarray) and ids.dtype.kind == "i" and a.ndim and (ids < 0).any():  # on a GPU they wrap
        indices = indices.make(of(ids).where(ids < 0, ids + a.shape[axis], ids))
    return gather(input.expand(*shape), dim, indices.expand(*shape))


def index_select(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """The slices of x along `dim` whose numbers are in the vector `index`.

    >>> x = z2g.tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> x.index_select(0, z2g.tensor([1, 1])).sum().backward(); x.grad
    tensor([0., 2., 0.])
    """
    axis = one_dim(dim, as_array(input, "index_select").ndim, "index_select")
    ids = as_array(index, "index_select")
    if ids.ndim > 1:
        raise IndexError(f"index_select: index must be a vector, got shape {tuple(ids.shape)}")
    check_ids(ids, input.array.shape[axis] if input.array.ndim else 1, "index_select", "index")
    if not input.array.ndim:
        if index.array.size != 1:
            raise RuntimeError(f"index_select: a 0-d tensor takes one index, got {index.array.size}")
        return getitem(input.reshape(1), index.reshape(1)).reshape(())
    z = getitem(input, (ALL,) * axis + (index.reshape(math.prod(index.array.shape)),))
    z.array = row_major(z.array)  # nobody has seen it yet
    return z


def select(input: Tensor, dim: int, index: int) -> Tensor:
    """The slice number `index` of x along `dim`, as a view without that dimension.

    >>> x = z2g.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True); x.select(1, 0).sum().backward(); x.grad
    tensor([[1., 0.],
            [1., 0.]])
    """
    if not as_array(input, "select").ndim:
        raise IndexError("select: a 0-d tensor has no slices")
    return getitem(input, (ALL,) * one_dim(dim, input.array.ndim, "select") + (as_int(index, "select: index"),))


def masked_select(input: Tensor, mask: Tensor) -> Tensor:
    """A vector of the elements of x where `mask` is True; the two broadcast against each other.

    >>> x = z2g.tensor([1.0, -2.0, 3.0], requires_grad=True); x.masked_select(x > 0).sum().backward(); x.grad
    tensor([1., 0., 1.])
    """
    a, m = as_array(input, "masked_select"), as_array(mask, "masked_select")
    if m.dtype.kind != "b":
        raise RuntimeError(f"masked_select: expected a bool mask, got {m.dtype}; compare it: mask == 0")
    same_device("masked_select", input, mask)
    check_broadcast(a.shape, m.shape, "masked_select")
    shape = np.broadcast_shapes(a.shape, m.shape)
    return getitem(input.expand(*shape), mask.expand(*shape))


@numpy_names
def repeat_interleave(input: Tensor, repeats: Any, dim: int | None = None) -> Tensor:
    """Each slice of x along `dim` several times in a row: [a, b] twice is [a, a, b, b]. Without `dim`, flattened.

    `repeats` is one number, or a tensor with one for each slice (which a GPU has to be waited for).

    >>> x = z2g.tensor([1.0, 2.0], requires_grad=True)
    >>> (x.repeat_interleave(2) * z2g.tensor([1.0, 10.0, 100.0, 1000.0])).sum().backward(); x.grad
    tensor([  11., 1100.])
    """
    if dim is None:
        input, dim = input.reshape(-1), 0
    n = as_array(input, "repeat_interleave").shape[one_dim(dim, input.array.ndim, "repeat_interleave")]
    times = to_host(repeats.array) if isinstance(repeats, Variable) else np.asarray(repeats)
    if times.dtype.kind not in "iu" or (times < 0).any() or times.shape not in ((), (1,), (n,)):
        raise RuntimeError(f"repeat_interleave: repeats must be an integer >= 0, or {n} of them, got {repeats}")
    index = np.repeat(np.arange(n), times)
    return index_select(input, dim, input.make(to_device(index, device_of(input.array))))


apply(globals())  # mixed precision, by the table in half/
