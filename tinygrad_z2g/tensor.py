"""`Tensor`: an array that remembers how it was computed.

The class itself holds little: the array, its gradient, and the way back (see `engine.Variable`). Every operation is a
function in `ops/`, where forward and gradient rule stand side by side; the table in the middle of this file makes them
methods and operators. Moving, converting, printing and writing in place are here. It knows nothing of rules: no
derivative is written here, but for copies, whose rule is to pass the gradient on.
"""

from __future__ import annotations

import builtins  # inside of the class, `int` is a method
import itertools
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from .arrays import backend, checks, dtypes, random, views
from .arrays.backend import Device
from .arrays.random import Generator
from .arrays.size import Size
from .core import ops
from .core.attach import attach
from .core.engine import Node, Variable, needs_grad, record, source, unchanged
from .core.tensor import Tensor
from .methods import Methods
from .ops import elementwise, indexing, inplace, linalg, reduction, sorting, words
from .ops import shape as shapes
from .ops import softmax as softmaxes
from .ops.common import as_array, copied, given, laid_out, number, one_dim
from .tools import showing
from .tools.console import say
from .tools.explain import story
from .tools.notebook import show
from .walks import again, asking

if TYPE_CHECKING:
    from .core.engine import Variable as _Base
else:
    _Base = object


class Surface(Methods, _Base):
    """What `Tensor` has beside that which the core gives it."""

    _words = words  # what `of` finds: the library that computes with tensors

    def __init__(self, *data: Any, device: Any = None):
        """`Tensor(list or array)`, always in the default dtype, or `Tensor(2, 3)`, sizes. Prefer `tensor`, `empty`."""
        self.begin(backend.to_device(given(data, dtypes.get_default_dtype(), "Tensor"), backend.resolve(device)))

    # --- What it is ----------------------------------------------------------------------------------------------

    @property
    def shape(self) -> Size:
        """The size of each dimension, a tuple."""
        return tuple.__new__(Size, self.array.shape)  # which are ints: no need to look

    @overload
    def size(self, dim: None = None) -> Size: ...

    @overload
    def size(self, dim: int) -> int: ...

    def size(self, dim: int | None = None) -> Size | int:
        """The shape, or the size of one dimension."""
        return self.shape if dim is None else self.array.shape[one_dim(dim, self.array.ndim, "size")]

    def dim(self) -> int:
        """The number of dimensions."""
        return self.array.ndim

    def numel(self) -> int:
        """The number of elements."""
        return int(self.array.size)

    @property
    def device(self) -> Device:
        """Where the array lives."""
        return backend.device_of(self.array)

    @property
    def is_leaf(self) -> bool:
        """Whether this was made by the user and not by a recorded operation. Gradients are kept on leaves."""
        return self.grad_fn is None

    @property
    def grad_fn(self) -> Node | None:
        """The recorded operation that made this tensor; `grad_fn.name` is its name."""
        made_by = source(self)
        return made_by if isinstance(made_by, Node) else None

    @property
    def _version(self) -> int:
        return self.memory.writes

    def is_floating_point(self) -> bool:
        """Whether the elements are floating-point numbers."""
        return self.array.dtype.kind == "f"

    def is_contiguous(self) -> bool:
        """Whether the elements lie in row-major order without gaps."""
        return bool(self.array.flags.c_contiguous)

    def element_size(self) -> int:
        """Bytes per element."""
        return self.array.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes that the elements take: numel times element_size."""
        return self.array.nbytes

    @property
    def data(self) -> Tensor:
        """The same memory without history, and not watched: writes to it are not noticed by backward."""
        return Tensor.make(self.array)

    @data.setter
    def data(self, value: Tensor) -> None:
        if not isinstance(value, Tensor):
            raise TypeError(f"data: expected a Tensor, got {type(value).__name__}")
        if self._requires_grad and not value.is_floating_point():
            raise RuntimeError(f"data: this tensor requires grad and cannot hold {value.dtype}")
        self.array = value.array

    # --- Gradients -----------------------------------------------------------------------------------------------

    @property
    def grad(self) -> Tensor | None:
        """∂L/∂self after backward. What is assigned must be a tensor of this shape, dtype and device, or None."""
        return self._grad

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None:
            asking.check_gradient(self, value)
        self._grad = value

    def backward(
        self, gradient: Tensor | None = None, retain_graph: bool | None = None, create_graph: bool = False,
        inputs: Any = None,
    ) -> None:  # fmt: skip
        """Add ∂self/∂leaf to `leaf.grad` for every leaf this was computed from. See `core.engine.backward`.

        `gradient` is ∂L/∂self, needed unless self has one element. `inputs`: only for these tensors, leaves or not.
        `create_graph` records the walk, so that the gradients can be differentiated again.
        RuntimeError if there is nothing to differentiate or the graph was used up before.
        """
        if inputs is None and not create_graph:
            _backward(self, gradient, retain_graph)
            return
        only = None if inputs is None else asking.wanted(inputs)
        seed = asking.seed_gradient(self, gradient, create_graph)
        again.backward([(self, seed)], retain_graph, only, create_graph)

    def explain(
        self, names: Any = None, *, to: Tensor | None = None, level: int = 2, gradient: Tensor | None = None,
        markdown: bool = False,
    ) -> None:  # fmt: skip
        """Print the backward pass from here, step by step, without doing it: no graph, no `.grad` changes.

        `names`, a module or a dict such as locals(), says what to call the tensors; the caller's local, then global
        variables if None. See `explain.story`, which returns what is printed here.
        """
        if names is None:
            caller = sys._getframe(1)
            names = {**caller.f_locals, **caller.f_globals, **caller.f_locals}  # of two names the local one counts
        told = story(self, names, to=to, level=level, gradient=gradient)
        if not (markdown and show(told)):  # a notebook makes a page of it
            say(told.markdown() if markdown else told)

    @property
    def requires_grad(self) -> bool:
        """Whether gradients are wanted, here or at something this was computed from. Settable on leaves."""
        return needs_grad(self)

    @requires_grad.setter
    def requires_grad(self: Any, value: bool) -> None:
        self.requires_grad_(value)

    def retain_grad(self) -> None:
        """Keep the gradient of this computed tensor in `.grad` too, as for a leaf."""
        if not self.requires_grad:
            raise RuntimeError("retain_grad: this tensor does not require grad")
        asking.keep_grad(self)

    @property
    def retains_grad(self) -> bool:
        """Whether this computed tensor keeps its gradient, as `retain_grad` asks for."""
        return asking.keeps_grad(self)

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
        """Call `hook(gradient)` when this tensor's gradient is complete; what it returns replaces the gradient."""
        checks.check_hook(hook, "register_hook")
        if not self.requires_grad:
            raise RuntimeError("register_hook: this tensor does not require grad")
        return RemovableHandle(asking.asked_of(self).hooks, hook)

    def register_post_accumulate_grad_hook(self, hook: Callable[[Tensor], Any]) -> RemovableHandle:
        """Call `hook(x)` of a leaf x when a backward pass has added to its `.grad`; all others have theirs by then."""
        checks.check_hook(hook, "register_post_accumulate_grad_hook")
        return RemovableHandle(asking.hooks_after(self), hook)

    # --- Operations: each a function of its own, see the file named ----------------------------------------------

    # ops/elementwise.py
    eq, ne = elementwise.eq, elementwise.ne
    lt = __lt__ = elementwise.lt
    le = __le__ = elementwise.le
    gt = __gt__ = elementwise.gt
    ge = __ge__ = elementwise.ge
    add = elementwise.add
    __add__ = __radd__ = ops.add
    sub = elementwise.sub
    __sub__ = ops.sub
    __rsub__ = elementwise.rsub
    mul = __mul__ = __rmul__ = elementwise.mul
    div = true_divide = elementwise.div
    __truediv__ = ops.div
    __rtruediv__ = elementwise.rdiv
    pow = __pow__ = elementwise.pow
    __rpow__ = elementwise.rpow
    floor_divide = __floordiv__ = elementwise.floor_divide
    __rfloordiv__ = elementwise.rfloordiv
    remainder = __mod__ = elementwise.remainder
    __rmod__ = elementwise.rmod
    lerp = elementwise.lerp
    neg = __neg__ = elementwise.neg
    square = elementwise.square
    sqrt = elementwise.sqrt
    rsqrt = elementwise.rsqrt
    reciprocal = elementwise.reciprocal
    exp = elementwise.exp
    expm1 = elementwise.expm1
    log = elementwise.log
    log2 = elementwise.log2
    log1p = elementwise.log1p
    sin = elementwise.sin
    cos = elementwise.cos
    tan = elementwise.tan
    asin = elementwise.asin
    acos = elementwise.acos
    atan = elementwise.atan
    sinh = elementwise.sinh
    cosh = elementwise.cosh
    tanh = elementwise.tanh
    sigmoid = elementwise.sigmoid
    erf = elementwise.erf
    relu = elementwise.relu
    abs = __abs__ = elementwise.abs
    sign = elementwise.sign
    floor = elementwise.floor
    ceil = elementwise.ceil
    round = elementwise.round
    clamp = clip = elementwise.clamp
    maximum = elementwise.maximum
    minimum = elementwise.minimum
    masked_fill = elementwise.masked_fill
    eq = elementwise.eq
    ne = elementwise.ne
    lt = __lt__ = elementwise.lt
    le = __le__ = elementwise.le
    gt = __gt__ = elementwise.gt
    ge = __ge__ = elementwise.ge
    logical_and = elementwise.logical_and
    logical_or = elementwise.logical_or
    logical_not = elementwise.logical_not
    __and__ = __rand__ = elementwise.bitwise_and
    __or__ = __ror__ = elementwise.bitwise_or
    __xor__ = __rxor__ = elementwise.bitwise_xor
    __invert__ = elementwise.bitwise_not
    __lshift__ = elementwise.bitwise_left_shift
    __rlshift__ = elementwise.rlshift
    __rshift__ = elementwise.bitwise_right_shift
    __rrshift__ = elementwise.rrshift
    isnan = elementwise.isnan
    isfinite = elementwise.isfinite
    isinf = elementwise.isinf
    isclose = elementwise.isclose
    allclose = elementwise.allclose
    equal = elementwise.equal

    # ops/reduction.py
    sum = reduction.sum
    mean = reduction.mean
    var = reduction.var
    std = reduction.std
    prod = reduction.prod
    max = reduction.max
    min = reduction.min
    amax = reduction.amax
    amin = reduction.amin
    argmax = reduction.argmax
    argmin = reduction.argmin
    all = reduction.all
    any = reduction.any
    norm = reduction.norm
    cumsum = reduction.cumsum
    cumprod = reduction.cumprod
    count_nonzero = reduction.count_nonzero

    # ops/softmax.py and ops/sorting.py
    softmax = softmaxes.softmax
    log_softmax = softmaxes.log_softmax
    logsumexp = softmaxes.logsumexp
    sort = sorting.sort
    argsort = sorting.argsort
    topk = sorting.topk

    # ops/linalg.py
    matmul = __matmul__ = linalg.matmul
    mm = linalg.mm
    bmm = linalg.bmm
    dot = linalg.dot
    mv = linalg.mv
    outer = linalg.outer

    # ops/shape.py
    reshape = shapes.reshape
    view = shapes.view
    flatten = shapes.flatten
    unflatten = shapes.unflatten
    squeeze = shapes.squeeze
    unsqueeze = shapes.unsqueeze
    transpose = swapaxes = shapes.transpose
    t = shapes.t
    permute = shapes.permute
    movedim = shapes.movedim
    diagonal = shapes.diagonal
    diag = shapes.diag
    expand = shapes.expand
    broadcast_to = shapes.broadcast_to
    repeat = shapes.repeat
    tile = shapes.tile
    chunk = shapes.chunk
    unbind = shapes.unbind
    narrow = shapes.narrow
    roll = shapes.roll
    flip = shapes.flip
    tril = shapes.tril
    triu = shapes.triu
    contiguous = shapes.contiguous

    # ops/indexing.py
    __getitem__ = indexing.getitem
    __setitem__ = indexing.setitem
    gather = indexing.gather
    take_along_dim = indexing.take_along_dim
    index_select = indexing.index_select
    scatter = indexing.scatter
    scatter_add = indexing.scatter_add
    select = indexing.select
    masked_select = indexing.masked_select
    repeat_interleave = indexing.repeat_interleave

    def __eq__(self: Any, other: Any) -> Tensor:  # type: ignore[override]  # each element; False for x == None
        return elementwise.eq(self, other) if isinstance(other, _COMPARABLE) else NotImplemented

    def __ne__(self: Any, other: Any) -> Tensor:  # type: ignore[override]
        return elementwise.ne(self, other) if isinstance(other, _COMPARABLE) else NotImplemented

    @property
    def T(self: Any) -> Tensor:
        """The dimensions in reverse order; for a matrix, its transpose."""
        return shapes.permute(self, *reversed(range(self.array.ndim)))

    @property
    def mT(self: Any) -> Tensor:
        """Each matrix of a batch transposed: (..., n, m) -> (..., m, n)."""
        return shapes.transpose(self, -2, -1) if self.array.ndim else shapes.t(self)

    def expand_as(self: Any, other: Tensor) -> Tensor:
        """`expand` to the shape of another tensor."""
        return shapes.expand(self, *as_array(other, "expand_as").shape)

    def where(self, condition: Tensor, other: Any) -> Tensor:
        """self where the condition holds, else other."""
        return elementwise.where(condition, self, other)

    def split(self: Any, split_size: Any, dim: int = 0) -> tuple[Tensor, ...]:
        """Cut along `dim` into views: pieces of `split_size`, or of the sizes in a list."""
        return shapes.split(self, split_size, dim)

    def view_as(self: Any, other: Tensor) -> Tensor:
        """`view` in the shape of another tensor."""
        return shapes.view(self, *as_array(other, "view_as").shape)

    # --- Writing in place: the operation, then its result written over this tensor --------------------------------

    def add_(self: Any, other: Any, *, alpha: float = 1) -> Tensor:
        """self += alpha · other"""
        return inplace.update(self, "add_", elementwise.add, other, alpha=alpha)

    def sub_(self: Any, other: Any, *, alpha: float = 1) -> Tensor:
        """self -= alpha · other"""
        return inplace.update(self, "sub_", elementwise.sub, other, alpha=alpha)

    def mul_(self: Any, other: Any) -> Tensor:
        """self *= other"""
        return inplace.update(self, "mul_", elementwise.mul, other)

    def div_(self: Any, other: Any) -> Tensor:
        """self /= other"""
        return inplace.update(self, "div_", elementwise.div, other)

    def pow_(self: Any, exponent: Any) -> Tensor:
        """self **= exponent"""
        return inplace.update(self, "pow_", elementwise.pow, exponent)

    def floor_divide_(self: Any, other: Any) -> Tensor:
        """self //= other. The gradient is 0, as that of `div(..., rounding_mode="floor")`."""
        return inplace.update(self, "floor_divide_", elementwise.div, other, rounding_mode="floor")

    def remainder_(self: Any, other: Any) -> Tensor:
        """self %= other"""
        return inplace.update(self, "remainder_", elementwise.remainder, other)

    def __iand__(self: Any, other: Any) -> Tensor:
        return inplace.update(self, "&=", elementwise.bitwise_and, other)

    def __ior__(self: Any, other: Any) -> Tensor:
        return inplace.update(self, "|=", elementwise.bitwise_or, other)

    def __ixor__(self: Any, other: Any) -> Tensor:
        return inplace.update(self, "^=", elementwise.bitwise_xor, other)

    def __ilshift__(self: Any, other: Any) -> Tensor:
        return inplace.update(self, "<<=", elementwise.bitwise_left_shift, other)

    def __irshift__(self: Any, other: Any) -> Tensor:
        return inplace.update(self, ">>=", elementwise.bitwise_right_shift, other)

    __iadd__ = add_
    __isub__ = sub_
    __imul__ = mul_
    __itruediv__ = div_
    __ipow__ = pow_
    __ifloordiv__ = floor_divide_
    __imod__ = remainder_

    def clamp_(self: Any, min: Any = None, max: Any = None) -> Tensor:
        """self limited to [min, max]"""
        return inplace.update(self, "clamp_", elementwise.clamp, min, max)

    def masked_fill_(self: Any, mask: Tensor, value: Any) -> Tensor:
        """self = value where the mask is True"""
        return inplace.update(self, "masked_fill_", elementwise.masked_fill, mask, value)

    def scatter_(self: Any, dim: int, index: Tensor, src: Any = None, *, value: float | None = None) -> Tensor:
        """self = scatter(self, dim, index, src)"""
        return inplace.update(self, "scatter_", indexing.scatter, dim, index, src, value=value)

    def scatter_add_(self: Any, dim: int, index: Tensor, src: Tensor) -> Tensor:
        """self = scatter_add(self, dim, index, src)"""
        return inplace.update(self, "scatter_add_", indexing.scatter_add, dim, index, src)

    def fill_(self: Any, value: float) -> Tensor:
        """self = value, a number or a 0-d tensor, everywhere"""
        if isinstance(value, Tensor) and value.array.ndim:
            raise RuntimeError(f"fill_: expected a number or a 0-d tensor, got shape {tuple(value.shape)}; see copy_")
        indexing.setitem(self, ..., value if isinstance(value, Tensor) else number(value, "fill_: value"))
        return self

    def zero_(self) -> Tensor:
        """self = 0 everywhere"""
        return self.fill_(0)

    def copy_(self: Any, source: Tensor) -> Tensor:
        """self = source, a number or a tensor, which broadcasts and may be of another dtype or device"""
        if not isinstance(source, Tensor):
            return self.fill_(source)
        if source.ndim > self.ndim:
            raise RuntimeError(f"copy_: {tuple(source.shape)} does not broadcast to {tuple(self.shape)}")
        indexing.setitem(self, ..., source.to(self.device, self.dtype))
        return self

    def normal_(self, mean: float = 0, std: float = 1, *, generator: Generator | None = None) -> Tensor:
        """self = samples of the normal distribution, drawn on the host"""
        return self._fill_random("normal_", random.normal(self.array.shape, mean, std, generator))

    def uniform_(self: Any, from_: float = 0, to: float = 1, *, generator: Generator | None = None) -> Tensor:
        """self = samples of the uniform distribution on [from, to), drawn on the host"""
        return self._fill_random("uniform_", random.uniform(self.array.shape, from_, to, self.dtype, generator))

    def _fill_random(self: Any, name: str, samples: Any) -> Tensor:
        indexing.setitem(self, ..., np.asarray(samples).astype(self.dtype))
        return self

    # --- Copies, other dtypes, other devices ---------------------------------------------------------------------

    def clone(self) -> Tensor:
        """A copy with memory of its own, through which gradients pass.

        z = x: the gradient passes unchanged.
        >>> x = z2g.tensor([1.0, 2.0], requires_grad=True); (5 * x.clone()).sum().backward(); x.grad
        tensor([5., 5.])
        """
        return record("clone", copied(self.array), (self, unchanged))

    def to(
        self: Any, *args: Any, dtype: Any = None, device: Any = None, non_blocking: bool = False, copy: bool = False
    ) -> Tensor:
        """In another dtype and/or on another device: `to(float64)`, `to("cuda")`, `to(device, dtype)`, `to(other)`.

        Returns self where nothing changes, unless `copy`. Gradients pass, converted back. `non_blocking` is a hint
        that changes nothing here.

        z = x up to rounding, so the gradient passes unchanged, in x's own dtype and on its own device.
        >>> x = z2g.tensor([1.0, 2.0], requires_grad=True)
        >>> (5 * x.to(z2g.float64)).sum().backward(); x.grad, x.grad.dtype
        (tensor([5., 5.]), dtype('float32'))
        """
        for arg in args:
            if isinstance(arg, Tensor):
                dtype, device = arg.dtype, arg.device
            elif isinstance(arg, (Device, int)) or (isinstance(arg, str) and arg.partition(":")[0] in ("cpu", "cuda")):
                device = arg
            else:
                dtype = arg
        array = self.array
        new_dtype = array.dtype if dtype is None else dtypes.as_dtype(dtype)
        place, home = self.device, self.device if device is None else backend.resolve(device)
        if new_dtype == array.dtype and home == place and not copy:
            return self
        if new_dtype != array.dtype or copy:
            array = laid_out(backend.quiet.run(array.astype, new_dtype), array)
        moved = backend.to_device(array, home)
        if new_dtype.kind != "f":
            return Tensor.make(moved)
        return record("to", moved, (self, lambda grad: backend.to_device(grad, place)))

    def type_as(self, other: Tensor) -> Tensor:
        """In the dtype of another tensor."""
        return self.to(dtype=as_array(other, "type_as").dtype)

    def cpu(self) -> Tensor:
        """On the CPU."""
        return self.to(device="cpu")

    def cuda(self, device: Any = "cuda", non_blocking: bool = False) -> Tensor:
        """On a GPU."""
        return self.to(device=device)

    def float(self) -> Tensor:
        """As float32."""
        return self.to(dtype=dtypes.float32)

    def double(self) -> Tensor:
        """As float64."""
        return self.to(dtype=dtypes.float64)

    def half(self) -> Tensor:
        """As float16."""
        return self.to(dtype=dtypes.float16)

    def long(self) -> Tensor:
        """As int64, rounded towards zero."""
        return self.to(dtype=dtypes.int64)

    def int(self) -> Tensor:
        """As int32, rounded towards zero."""
        return self.to(dtype=dtypes.int32)

    def bool(self) -> Tensor:
        """As bool: whether nonzero."""
        return self.to(dtype=dtypes.bool_)

    # --- Out to Python and NumPy: on a GPU each of these waits for it ---------------------------------------------

    def tolist(self) -> Any:
        """The elements as nested lists of Python numbers."""
        return backend.to_host(self.array).tolist()

    def numpy(self) -> np.ndarray:
        """The NumPy array, sharing memory. TypeError on a GPU, RuntimeError while gradients are wanted."""
        if self.requires_grad:
            raise RuntimeError("numpy: can't be called on a Tensor that requires grad; use .detach().numpy()")
        if not isinstance(self.array, np.ndarray):
            raise TypeError(f"numpy: this tensor is on {self.device}; copy it to the host first: .cpu().numpy()")
        return self.array

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.array(self.numpy(), dtype, copy=copy)

    def __float__(self) -> builtins.float:
        return float(self._scalar("float"))

    def __int__(self) -> builtins.int:
        return int(self._scalar("int"))

    def _scalar(self, kind: str) -> Any:
        if self.array.size != 1:
            raise ValueError(
                f"{kind}: a tensor of shape {tuple(self.array.shape)} has {self.array.size} elements, not 1"
            )
        return self.array.item()

    def __index__(self) -> builtins.int:
        if self.array.dtype.kind == "f" or self.array.size != 1:
            raise TypeError("only integer tensors of a single element can be converted to an index")
        return int(self.array.item())

    def __bool__(self) -> builtins.bool:
        if self.array.size != 1:
            raise RuntimeError(
                f"the truth value of a tensor of shape {tuple(self.array.shape)} is ambiguous; use .any() or .all()"
            )
        return bool(self.array.item())

    def __len__(self) -> builtins.int:
        if not self.array.ndim:
            raise TypeError("len() of a 0-d tensor")
        return self.array.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        if not self.array.ndim:
            raise TypeError("iteration over a 0-d tensor")
        return iter(shapes.unbind(self))

    def __contains__(self, value: Any) -> builtins.bool:
        return bool((self == value).any().item())

    def __repr__(self) -> str:
        return showing.text(self)

    def _repr_html_(self) -> str:
        return showing.html(self)

    def __format__(self: Any, spec: str) -> str:
        return format(self.item(), spec) if not self.array.ndim else object.__format__(self, spec)

    def __deepcopy__(self: Any, memo: dict) -> Tensor:
        if not self.is_leaf:
            raise RuntimeError("deepcopy: only leaves can be copied with their identity; use .clone() or .detach()")
        copy = memo[id(self)] = object.__new__(type(self))
        copy.begin(views.copied(self.array, memo))
        copy.memory = memo.setdefault(("version", id(self.memory)), copy.memory)  # what shared memory still does
        copy._requires_grad = self._requires_grad
        copy._grad = deepcopy(self._grad, memo)
        if self.base is not None and self.base.node is None:
            copy.base = deepcopy(self.base, memo)
            copy.rewrites = min(self.rewrites, 0)
        copy.__dict__.update(deepcopy(self.__dict__, memo))
        return copy

    def __reduce__(self) -> tuple:  # for copy and pickle: the numbers, without history and gradient, as in torch
        place = self.device
        host = self.array if place == backend.CPU else backend.to_host(self.array)
        return _restored, (type(self), host, str(place), self.requires_grad, self.__dict__)


_backward: Any = Tensor.backward
attach(Tensor, Methods)
attach(Tensor, Surface)


def _restored(kind: type, array: np.ndarray, place: str, requires_grad: bool, attributes: dict) -> Tensor:
    """What `__reduce__` took apart, on the device where it was."""
    made: Any = object.__new__(kind)
    made.begin(backend.to_device(array, backend.resolve(place)))
    made._requires_grad = requires_grad
    made.__dict__.update(attributes)
    return made


_COMPARABLE = (Variable, int, float, np.ndarray, np.generic)


class RemovableHandle:
    """What `register_hook` returns: `handle.remove()` takes the hook off again, and so does the end of a `with`."""

    _keys = itertools.count()

    def __init__(self, hooks: dict, hook: Any, prepend: bool = False):
        self._hooks, self._key = hooks, next(self._keys)
        before = list(hooks.items()) if prepend else []
        for key, _ in before:
            del hooks[key]
        hooks[self._key] = hook
        hooks.update(before)

    def remove(self) -> None:
        """Take the hook off."""
        self._hooks.pop(self._key, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.remove()
