"""Further methods of tensors, which `Tensor` inherits: a table, and the in-place form of each operation that has one.

What a method computes is written in `ops/`. It knows nothing of gradients: `inplace.update` does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .arrays import backend, dtypes
from .arrays.random import Generator, default_generator
from .core.engine import Variable, source
from .core.modes import enable_grad, is_grad_enabled, no_grad
from .ops import (
    counting,
    decompositions,
    elementary,
    elementwise,
    grids,
    indexing,
    inplace,
    linalg,
    products,
    shape,
    statistics,
    unary,
    writing,
)  # fmt: skip
from .ops.common import as_array, number
from .walks.asking import follow

if TYPE_CHECKING:
    from . import creation, old
    from .tensor import Tensor


def _in_place(op: Callable) -> Callable[..., Tensor]:
    """The method `exp_` of an operation `exp`: its result is written over the tensor, which it returns."""

    def method(self: Tensor, *args: Any, **settings: Any) -> Tensor:
        return inplace.update(self, method.__name__, op, *args, **settings)

    method.__name__ = method.__qualname__ = f"{op.__name__}_"
    method.__doc__ = f"`{op.__name__}`, written over x itself."
    return method


def _turned(op: Callable) -> Callable[..., Tensor]:
    """The method `t_` of an operation `t` that gives a view: x itself becomes that view of its numbers."""

    def method(self: Tensor, *args: Any, **settings: Any) -> Tensor:
        leaf = source(self) is self
        if is_grad_enabled() and leaf and self._requires_grad:
            name = method.__name__
            raise RuntimeError(f"{name}: a leaf that requires grad cannot be changed in place; use {op.__name__}")
        with no_grad() if leaf else enable_grad():  # in any mode: its gradient has to be turned back
            z = op(self, *args, **settings)
        old = self.node
        self.array, self.node, self._requires_grad = z.array, z.node, z._requires_grad or self._requires_grad
        if self.node is not old:
            follow(self, old)
        return self

    method.__name__ = method.__qualname__ = f"{op.__name__}_"
    method.__doc__ = f"`{op.__name__}`: x itself takes that shape."
    return method


class Methods:
    """What `Tensor` has beside its own."""

    __slots__ = ()

    if TYPE_CHECKING:  # added by these files themselves, which need the whole of `Tensor` first
        new_tensor, new_zeros, new_ones = creation.new_tensor, creation.new_zeros, creation.new_ones
        new_empty, new_full, multinomial = creation.new_empty, creation.new_full, creation.multinomial
        type, new, nelement, ndimension = old.type_, old.new, old.nelement, old.ndimension
        resize_, resize_as_, volatile = old.resize_, old.resize_as_, property(old.volatile)

    # ops/counting.py
    nonzero = counting.nonzero
    argwhere = counting.argwhere
    unique = counting.unique
    unique_consecutive = counting.unique_consecutive
    bincount = counting.bincount
    histc = counting.histc

    # ops/grids.py
    tensor_split = grids.tensor_split
    hsplit = grids.hsplit
    vsplit = grids.vsplit
    dsplit = grids.dsplit
    ravel = grids.ravel
    fliplr = grids.fliplr
    flipud = grids.flipud
    rot90 = grids.rot90
    diag_embed = grids.diag_embed
    diagflat = grids.diagflat
    take = grids.take
    unfold = grids.unfold
    moveaxis = shape.movedim
    swapdims = shape.transpose

    # ops/products.py
    addmm = products.addmm
    addmv = products.addmv
    addr = products.addr
    addbmm = products.addbmm
    baddbmm = products.baddbmm
    addcmul = products.addcmul
    addcdiv = products.addcdiv
    inner = products.inner
    vdot = products.vdot
    kron = products.kron
    matrix_power = products.matrix_power
    trace = products.trace
    cross = products.cross
    dist = products.dist
    diff = products.diff
    cov = products.cov
    corrcoef = products.corrcoef
    ger = linalg.outer

    # ops/decompositions.py
    inverse = decompositions.inv
    pinverse = decompositions.pinv
    det = decompositions.det
    logdet = decompositions.logdet
    slogdet = decompositions.slogdet
    cholesky = decompositions.cholesky
    qr = decompositions.qr

    # ops/statistics.py
    kthvalue = statistics.kthvalue
    msort = statistics.msort
    median = statistics.median
    nanmedian = statistics.nanmedian
    mode = statistics.mode
    quantile = statistics.quantile
    nanquantile = statistics.nanquantile
    aminmax = statistics.aminmax
    cummax = statistics.cummax
    cummin = statistics.cummin
    nansum = statistics.nansum
    nanmean = statistics.nanmean

    # ops/elementary.py
    log10 = elementary.log10
    exp2 = elementary.exp2
    asinh = arcsinh = elementary.asinh
    acosh = arccosh = elementary.acosh
    atanh = arctanh = elementary.atanh
    trunc = fix = elementary.trunc
    frac = elementary.frac
    erfinv = elementary.erfinv
    lgamma = elementary.lgamma
    digamma = elementary.digamma
    atan2 = arctan2 = elementary.atan2
    hypot = elementary.hypot
    fmod = elementary.fmod
    logaddexp = elementary.logaddexp
    xlogy = elementary.xlogy
    clamp_min = elementary.clamp_min
    clamp_max = elementary.clamp_max
    deg2rad = elementary.deg2rad
    rad2deg = elementary.rad2deg
    nan_to_num = elementary.nan_to_num
    logit = elementary.logit
    sinc = elementary.sinc
    heaviside = elementary.heaviside
    signbit = elementary.signbit
    isposinf = elementary.isposinf
    isneginf = elementary.isneginf
    logical_xor = elementary.logical_xor

    # ops/writing.py
    index_fill = writing.index_fill
    index_copy = writing.index_copy
    index_add = writing.index_add
    index_put = writing.index_put
    masked_scatter = writing.masked_scatter
    scatter_reduce = writing.scatter_reduce

    # Second names, and operators by name
    sgn = unary.sign
    absolute = unary.abs
    negative = unary.neg
    arcsin = unary.asin
    arccos = unary.acos
    arctan = unary.atan
    subtract = elementwise.sub
    multiply = elementwise.mul
    divide = elementwise.div
    not_equal = elementwise.ne
    less = elementwise.lt
    less_equal = elementwise.le
    greater = elementwise.gt
    greater_equal = elementwise.ge
    bitwise_and = elementwise.bitwise_and
    bitwise_or = elementwise.bitwise_or
    bitwise_xor = elementwise.bitwise_xor
    bitwise_not = elementwise.bitwise_not
    bitwise_left_shift = elementwise.bitwise_left_shift
    bitwise_right_shift = elementwise.bitwise_right_shift

    # In place
    abs_ = _in_place(unary.abs)
    neg_ = _in_place(unary.neg)
    square_ = _in_place(unary.square)
    sqrt_ = _in_place(unary.sqrt)
    rsqrt_ = _in_place(unary.rsqrt)
    reciprocal_ = _in_place(unary.reciprocal)
    exp_ = _in_place(unary.exp)
    expm1_ = _in_place(unary.expm1)
    log_ = _in_place(unary.log)
    log2_ = _in_place(unary.log2)
    log10_ = _in_place(elementary.log10)
    log1p_ = _in_place(unary.log1p)
    sin_ = _in_place(unary.sin)
    cos_ = _in_place(unary.cos)
    tan_ = _in_place(unary.tan)
    tanh_ = _in_place(unary.tanh)
    sigmoid_ = _in_place(unary.sigmoid)
    relu_ = _in_place(unary.relu)
    erfinv_ = _in_place(elementary.erfinv)
    floor_ = _in_place(unary.floor)
    ceil_ = _in_place(unary.ceil)
    round_ = _in_place(unary.round)
    trunc_ = _in_place(elementary.trunc)
    sign_ = _in_place(unary.sign)
    clip_ = _in_place(elementwise.clamp)
    clamp_min_ = _in_place(elementary.clamp_min)
    clamp_max_ = _in_place(elementary.clamp_max)
    nan_to_num_ = _in_place(elementary.nan_to_num)
    lerp_ = _in_place(elementwise.lerp)
    fmod_ = _in_place(elementary.fmod)
    addcmul_ = _in_place(products.addcmul)
    addcdiv_ = _in_place(products.addcdiv)
    addmm_ = _in_place(products.addmm)
    addmv_ = _in_place(products.addmv)
    addr_ = _in_place(products.addr)
    baddbmm_ = _in_place(products.baddbmm)
    addbmm_ = _in_place(products.addbmm)
    tril_ = _in_place(shape.tril)
    triu_ = _in_place(shape.triu)
    index_fill_ = _in_place(writing.index_fill)
    index_copy_ = _in_place(writing.index_copy)
    index_add_ = _in_place(writing.index_add)
    index_put_ = _in_place(writing.index_put)
    masked_scatter_ = _in_place(writing.masked_scatter)
    scatter_reduce_ = _in_place(writing.scatter_reduce)
    subtract_ = _in_place(elementwise.sub)
    multiply_ = _in_place(elementwise.mul)
    divide_ = true_divide_ = _in_place(elementwise.div)
    erf_ = _in_place(unary.erf)
    sinh_ = _in_place(unary.sinh)
    cosh_ = _in_place(unary.cosh)
    asin_ = _in_place(unary.asin)
    acos_ = _in_place(unary.acos)
    atan_ = _in_place(unary.atan)

    t_ = _turned(shape.t)
    transpose_ = swapaxes_ = swapdims_ = _turned(shape.transpose)
    squeeze_ = _turned(shape.squeeze)
    unsqueeze_ = _turned(shape.unsqueeze)

    def logical_and_(self: Any, other: Any) -> Tensor:
        """`logical_and`, written over x itself in its own dtype."""
        return self.copy_(elementwise.logical_and(self, other))

    def logical_or_(self: Any, other: Any) -> Tensor:
        """`logical_or`, written over x itself in its own dtype."""
        return self.copy_(elementwise.logical_or(self, other))

    def logical_not_(self: Any) -> Tensor:
        """`logical_not`, written over x itself in its own dtype."""
        return self.copy_(elementwise.logical_not(self))

    def fill_diagonal_(self: Any, fill_value: float, wrap: bool = False) -> Tensor:
        """The diagonal of a matrix, x[i, i], or of more dimensions of one size, x[i, i, i], = fill_value."""
        if wrap:
            raise NotImplementedError("fill_diagonal_: wrap=True is not offered; fill rows in a loop")
        if self.array.ndim < 2 or (self.array.ndim > 2 and len(set(self.array.shape)) > 1):
            got = tuple(self.array.shape)
            raise RuntimeError(f"fill_diagonal_: got shape {got}, expected a matrix, or more dimensions of one size")
        line = self
        while line.array.ndim > 1:
            line = shape.diagonal(line)  # (n, n, m, ...) -> (m, ..., n)
        line.fill_(fill_value)
        return self

    def detach_(self: Any) -> Tensor:
        """x itself becomes a leaf without history."""
        if self.base is not None:
            raise RuntimeError("detach_: a view cannot be detached in place; use detach()")
        x = self
        x.node, x._requires_grad = None, False
        return x

    # --- Filled at random, drawn on the host ---------------------------------------------------------------------

    def random_(self: Any, *args: int, generator: Generator | None = None) -> Tensor:
        """x = integers: random_(to) from 0 to to - 1, random_(from, to); without bounds, all that its dtype holds (of
        floating-point ones all that it holds exactly)."""
        kind = self.dtype
        if kind.kind == "f":
            top = 2 ** (np.finfo(kind).nmant + 1) + 1
        else:
            top = 2 if kind.kind == "b" else int(np.iinfo(kind).max) + 1
        low, high = (0, top) if not args else (0, args[0]) if len(args) == 1 else args
        high = top if high is None else high
        if not low < high:
            raise RuntimeError(f"random_: got from {low} to {high}, expected from < to")
        drawn = _stream(generator).integers(low, high - 1, self.array.shape, endpoint=True)
        return self._fill_random("random_", drawn)

    def bernoulli_(self: Any, p: Any = 0.5, *, generator: Generator | None = None) -> Tensor:
        """x = 1 with probability p, a number or a tensor that broadcasts, else 0"""
        chances = backend.to_host(p.array) if isinstance(p, Variable) else np.asarray(number(p, "bernoulli_: p"))
        if not ((chances >= 0) & (chances <= 1)).all():
            raise RuntimeError("bernoulli_: probabilities must be between 0 and 1")
        return self._fill_random("bernoulli_", _stream(generator).random(self.array.shape) < chances)

    def exponential_(self: Any, lambd: float = 1, *, generator: Generator | None = None) -> Tensor:
        """x = samples with the density λ e^(-λ x), x > 0"""
        if not lambd > 0:
            raise RuntimeError(f"exponential_: expected lambd > 0, got {lambd}")
        return self._fill_random("exponential_", _stream(generator).exponential(1 / lambd, self.array.shape))

    def log_normal_(self: Any, mean: float = 1, std: float = 2, *, generator: Generator | None = None) -> Tensor:
        """x = e to the power of normal samples"""
        return self._fill_random("log_normal_", _stream(generator).lognormal(mean, std, self.array.shape))

    def geometric_(self: Any, p: float, *, generator: Generator | None = None) -> Tensor:
        """x = the number of tries, each with probability p, up to the first success"""
        if not 0 < p < 1:
            raise RuntimeError(f"geometric_: expected 0 < p < 1, got {p}")
        return self._fill_random("geometric_", _stream(generator).geometric(p, self.array.shape))

    def cauchy_(self: Any, median: float = 0, sigma: float = 1, *, generator: Generator | None = None) -> Tensor:
        """x = samples of Cauchy's distribution"""
        drawn = median + sigma * _stream(generator).standard_cauchy(self.array.shape)
        return self._fill_random("cauchy_", drawn)

    def bernoulli(self: Any, p: float | None = None, *, generator: Generator | None = None) -> Tensor:
        """1 with the probability that stands in x (or p), else 0: a new tensor."""
        return self.make(self.array.copy()).bernoulli_(self if p is None else p, generator=generator)

    # --- Questions ---------------------------------------------------------------------------------------------------

    @property
    def is_cuda(self: Any) -> bool:
        """Whether it is on a GPU."""
        return self.device.type == "cuda"

    @property
    def is_cpu(self: Any) -> bool:
        """Whether it is on the CPU."""
        return self.device.type == "cpu"

    @property
    def itemsize(self: Any) -> int:
        """Bytes per element."""
        return self.array.dtype.itemsize

    @property
    def is_sparse(self) -> bool:
        """False: all tensors are dense."""
        return False

    is_mps = is_quantized = is_meta = is_sparse

    @property
    def H(self: Any) -> Tensor:
        """A matrix's transpose (its adjoint, for real numbers)."""
        return self.T if self.array.ndim == 2 else shape.t(self)

    @property
    def mH(self: Any) -> Tensor:
        """Each matrix of a batch transposed."""
        return self.mT

    def is_complex(self) -> bool:
        """False: there are no complex numbers here."""
        return False

    def is_signed(self: Any) -> bool:
        """Whether the dtype holds numbers below 0."""
        return self.array.dtype.kind in "if"

    def is_pinned(self) -> bool:
        """False: memory is not pinned here."""
        return False

    def is_shared(self) -> bool:
        """False: nothing is shared between processes."""
        return False

    def is_nonzero(self: Any) -> bool:
        """Whether the one element is not 0."""
        return bool(self)

    def is_same_size(self: Any, other: Tensor) -> bool:
        """Whether two tensors have one shape."""
        return self.array.shape == as_array(other, "is_same_size").shape

    def is_set_to(self: Any, tensor: Tensor) -> bool:
        """Whether two tensors are the same part of the same memory."""
        a, b = self.array, as_array(tensor, "is_set_to")
        return a.shape == b.shape and a.strides == b.strides and self.data_ptr() == tensor.data_ptr()

    def data_ptr(self: Any) -> int:
        """The address of the first element."""
        a = self.array
        return int(a.ctypes.data if isinstance(a, np.ndarray) else a.data.ptr)

    def stride(self: Any, dim: int | None = None) -> Any:
        """How many elements neighbours along each dimension lie apart in memory."""
        steps = tuple(step // self.array.itemsize for step in self.array.strides)
        return steps if dim is None else steps[dim]

    def get_device(self: Any) -> int:
        """The number of the GPU, -1 on the CPU."""
        return -1 if self.device.type == "cpu" else self.device.index

    def pin_memory(self: Any) -> Tensor:
        """x itself: memory is not pinned here."""
        return self

    def share_memory_(self: Any) -> Tensor:
        """x itself: nothing is shared between processes."""
        return self

    # --- Other forms -------------------------------------------------------------------------------------------------

    def short(self: Any) -> Tensor:
        """As int16, rounded towards zero."""
        return self.to(dtype=dtypes.int16)

    def char(self: Any) -> Tensor:
        """As int8, rounded towards zero."""
        return self.to(dtype=dtypes.int8)

    def byte(self: Any) -> Tensor:
        """As uint8, rounded towards zero."""
        return self.to(dtype=dtypes.uint8)

    def __copy__(self: Any) -> Tensor:
        """A tensor of the same class on the same memory, a leaf: `copy.copy(x)`."""
        made = object.__new__(type(self))
        made.begin(self.array)
        made.memory, made._requires_grad = self.memory, self._requires_grad
        made.__dict__.update(self.__dict__)
        return made

    def bfloat16(self: Any) -> Tensor:
        """TypeError: there is no bfloat16 here; see `half`."""
        return self.to(dtype=dtypes.bfloat16)

    def reshape_as(self: Any, other: Tensor) -> Tensor:
        """`reshape` to the shape of another tensor."""
        return shape.reshape(self, *as_array(other, "reshape_as").shape)

    def sum_to_size(self: Any, *size: Any) -> Tensor:
        """x summed over the dimensions along which `size` would have to be stretched: the reverse of `expand`."""
        wanted = tuple(size[0]) if len(size) == 1 and isinstance(size[0], (tuple, list)) else size
        extra = self.array.ndim - len(wanted)
        dims = tuple(range(extra)) + tuple(
            d + extra for d, n in enumerate(wanted) if n == 1 and self.array.shape[d + extra] != 1
        )
        if extra < 0 or any(n not in (1, self.array.shape[d + extra]) for d, n in enumerate(wanted)):
            raise RuntimeError(f"sum_to_size: {list(wanted)} does not broadcast to {tuple(self.array.shape)}")
        return shape.reshape(self.sum(dims), *wanted) if dims else self

    def apply_(self: Any, callable: Callable[[Any], Any]) -> Tensor:
        """Each element = callable(element), one by one in Python, on the CPU."""
        if self.is_cuda:
            raise TypeError("apply_: works on the CPU alone")
        numbers = [callable(v) for v in self.array.reshape(-1).tolist()]
        indexing.setitem(self, ..., self.make(np.array(numbers, self.dtype).reshape(self.array.shape)))
        return self


def _stream(generator: Generator | None) -> np.random.Generator:
    return (default_generator if generator is None else generator).numpy
