"""Questions about the GPUs, under torch's names, and whole training steps as CUDA graphs: `compile_step`.

It knows nothing of what a step computes: it watches what is launched, and launches it again.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from .. import fast
from ..arrays.backend import CPU, Device, cupy, device_count, is_available, resolve, set_device, synchronize
from ..arrays.random import default_generator, manual_seed
from ..fast import forms
from ..old import ON_CUDA
from ..tensor import Tensor
from .kernels.products import WORKSPACE, own_cublas
from .replay import Recording, capturing
from .steps import fixed, watched

__all__ = [
    "ByteTensor", "DoubleTensor", "FloatTensor", "HalfTensor", "IntTensor", "LongTensor", "compile_step",
    "current_device", "device_count", "empty_cache", "get_device_name", "is_available", "is_bf16_supported",
    "manual_seed", "manual_seed_all", "max_memory_allocated", "memory_allocated", "set_device", "synchronize",
]  # fmt: skip

FloatTensor, DoubleTensor, HalfTensor = (ON_CUDA[f"{name}Tensor"] for name in ("Float", "Double", "Half"))
LongTensor, IntTensor, ByteTensor = (ON_CUDA[f"{name}Tensor"] for name in ("Long", "Int", "Byte"))
manual_seed_all = manual_seed

WARM_UP = 2  # ordinary calls before the capture: the first makes the optimizer's averages, compiles, finds the memory
_one_capture = threading.RLock()  # at a time: threads share cuBLAS's handle, and a capture sets its stream


def current_device() -> int:
    """The number of the card that 'cuda' means. RuntimeError where there is none."""
    return int(cupy().cuda.Device().id)


def get_device_name(device: Any = None) -> str:
    """What the maker calls the card."""
    number = resolve("cuda" if device is None else device).index
    name = cupy().cuda.runtime.getDeviceProperties(number)["name"]
    return name.decode() if isinstance(name, bytes) else str(name)


def is_bf16_supported(including_emulation: bool = True) -> bool:
    """False: there is no bfloat16 here; float16 is."""
    return False


def empty_cache() -> None:
    """Give memory that is held for reuse back to the card; without a card there is nothing to do."""
    if is_available():
        cupy().get_default_memory_pool().free_all_blocks()


def memory_allocated(device: Any = None) -> int:
    """The bytes that arrays take on the current card; 0 without a card."""
    return int(cupy().get_default_memory_pool().used_bytes()) if is_available() else 0


def max_memory_allocated(device: Any = None) -> int:
    """The bytes that are held on the current card, in use or for reuse: more than was ever in use at once."""
    return int(cupy().get_default_memory_pool().total_bytes()) if is_available() else 0


def compile_step(fn: Callable) -> CompiledStep:
    """`step = compile_step(fn)`: calls of `step` do what calls of `fn` do, launched as one CUDA graph.

    A training step of a small model is hundreds of kernels, each of which takes the host longer to launch than the card
    to run. `fn(*tensors)` is an ordinary step: zero_grad, forward, backward, clip_grad_norm_, optimizer.step(). Its
    first two calls are ordinary ones; the third is captured, and from then on a call copies its arguments to where they
    lay then and launches everything at once.

        def train(x, y):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            return loss

        step = z2g.cuda.compile_step(train)
        for x, y in loader:
            loss = step(x.to("cuda"), y.to("cuda"))
            scheduler.step()

    New in each replay are the arguments, the dropout masks, the learning rates and Adam's step number, and the host's
    state moves on as in ordinary steps: checkpoints are the same. A parameter or a setting of the optimizer that was
    replaced (load_state_dict, betas) is noticed, and the step captured anew. All else in Python happens once, at the
    capture: which branch was taken, `model.train()`, the number `max_norm`, a list that was appended to. What fn reads
    beside its arguments must stay where it is; memory that it adds to must not be given up.

    fn returns a tensor, several in a tuple or list, or None. What comes back lies in memory that the next call writes
    to (clone() keeps it), and has no history. On the CPU there is nothing to capture: `step` calls `fn`. (Whether it is
    on the CPU the arguments say; where there are none, the parameters and the results of the first call.)

    Raises RuntimeError: for arguments of other shapes, dtypes or devices than the first ones (take drop_last=True, or
    a compiled step for each shape), or another current card; at the capture, where fn waits for the card or brings
    data to it (.item(), if tensor:, z2g.tensor([...]), randn), with everything as it was before that call. Recurrent
    layers, convolutions and a GradScaler cannot be captured yet; autocast can. (No card was at hand: this was tried on
    a stand-in that records and replays.) With TINYGRAD_Z2G_PLAIN=1 no step with a product can be.
    """
    return CompiledStep(fn)


class CompiledStep:
    """What `compile_step` returns; called like the function it was made from."""

    def __init__(self, fn: Callable):
        self.__name__, self.__doc__ = getattr(fn, "__name__", type(fn).__name__), fn.__doc__
        self._fn = fn
        self._inputs: list[Tensor] | None = None  # where the graph reads
        self._captured: dict[str, Any] = {}  # the graph and its outputs, in the pool's memory
        self._forget()

    def _forget(self) -> None:
        """Begin with ordinary calls again."""
        self._captured.clear()
        self._places: set[Device] = set()  # where ordinary calls were seen to compute
        self._calls = 0

    @property
    def _graph(self) -> Any:
        return self._captured.get("graph")

    def __call__(self, *tensors: Tensor) -> Any:
        """A step. The arguments are tensors, all on the CPU or all on the current card."""
        for x in tensors:
            if not isinstance(x, Tensor):
                raise TypeError(
                    f"compiled step: expected tensors, got {type(x).__name__}; a replay could not change it"
                )
            if x.requires_grad:
                raise RuntimeError("compiled step: an argument requires grad, but gradients stay inside; detach() it")
        devices = {x.device for x in tensors} or self._places or {resolve("auto")}
        if devices == {CPU}:
            return self._fn(*tensors)
        if devices != {resolve("cuda")}:
            what, places = "arguments" if tensors else "parameters or results", ", ".join(sorted(map(str, devices)))
            raise RuntimeError(f"compiled step: {what} on {places}: expected all on the CPU, or on the current card")
        self._take(tensors)
        if self._graph is not None and not self._as_captured():
            self._forget()
        if self._graph is None and self._calls < WARM_UP:
            return self._ordinary()
        if self._graph is None:
            if elsewhere := self._places - devices:  # what is done there would be done once
                places = ", ".join(sorted(map(str, elsewhere)))
                raise RuntimeError(f"compile_step: parameters or results on {places}, expected all on the current card")
            with _one_capture:
                self._capture()
        else:
            self._recording.renew()
        fast.set_numbers(self._recording.places, self._recording.values[: self._recording.used])
        self._graph.launch()
        for leaf in self._leaves:
            leaf.tensor.grad = leaf.grad
        return _map(_fresh, self._captured["outputs"])

    def _take(self, tensors: tuple[Tensor, ...]) -> None:
        """Copy the arguments to where the graph reads them."""
        if self._inputs is None:
            xp = cupy()
            xp.get_default_memory_pool().free_all_blocks()  # what it has in store would be lost to the pool made here
            self._card = xp.cuda.get_device_id()
            self._stream, self._pool = xp.cuda.Stream(non_blocking=True), xp.cuda.MemoryPool(_allocate)
            # At a limit, too, a pool frees what it can, which the graph uses. So the environment's is for others
            self._pool.set_limit(size=0)
            weakref.finalize(self, _give_back, self._pool, self._captured).atexit = False
            self._recording = Recording(xp)
            self._workspace = xp.empty(WORKSPACE, np.uint8)
            self._inputs = [Tensor.make(xp.empty(x.shape, x.dtype)) for x in tensors]
        if (card := cupy().cuda.get_device_id()) != self._card:
            raise RuntimeError(
                f"compiled step: the current card is cuda:{card}, expected cuda:{self._card} as in the first call: "
                "make a compiled step for each card"
            )
        got, expected = ([(tuple(x.shape), str(x.dtype)) for x in xs] for xs in (tensors, self._inputs))
        if got != expected:
            raise RuntimeError(
                f"compiled step: got arguments {got}, expected {expected} as in the first call: leave incomplete "
                "batches out (drop_last=True), or make a compiled step for each shape"
            )
        for place, x in zip(self._inputs, tensors, strict=True):
            place.array[...] = x.array
            place.memory.writes += 1

    @contextlib.contextmanager
    def _apart(self) -> Iterator[None]:
        """On a stream of its own, as a capture must be, and with memory that nobody else is ever given."""
        synchronize()
        try:
            with cupy().cuda.using_allocator(self._pool.malloc), self._stream, watched(self._recording):
                yield
        finally:  # other streams do not wait for this one: after an error or Ctrl-C, too, they find the work done
            self._stream.synchronize()

    def _ordinary(self) -> Any:
        with self._apart():
            result = self._fn(*(self._inputs or ()))
        self._calls += 1
        self._places |= {p.device for p in self._params()}
        return _map(self._placed, result)

    def _placed(self, result: Tensor) -> Tensor:
        self._places.add(result.device)
        return result.detach()

    def _params(self) -> list[Tensor]:
        """Those of the optimizers that stepped, and other leaves that got a gradient. (Some twice.)"""
        recording = self._recording
        params = [p for optimizer in recording.optimizers for group in optimizer.param_groups for p in group["params"]]
        return params + [leaf for reference in recording.leaves if (leaf := reference()) is not None]

    def _capture(self) -> None:
        """Run fn without doing anything, and keep what it would have launched."""
        own = own_cublas(cupy())  # made now: it allocates
        before, numbers = {p: p.grad for p in self._params()}, default_generator.get_state()
        earlier, self._recording = self._recording, Recording(cupy())
        try:
            with self._apart():
                own.use(self._stream, self._workspace)
                with _captured(self._recording, self._stream) as capture:
                    outputs = _map(Tensor.detach, self._fn(*(self._inputs or ())))
        except BaseException as error:
            self._recording.undo()
            default_generator.set_state(numbers)
            for p, grad in self._before(before):
                p.grad = grad
            self._recording = earlier
            if not isinstance(error, Exception):
                raise
            hint = ". A plain product cannot be captured either: unset TINYGRAD_Z2G_PLAIN" if forms.plain() else ""
            raise RuntimeError(
                f"compile_step: {self.__name__} cannot be captured ({type(error).__name__}: {error}). A captured "
                "step may not wait for the card or bring data to it: no .item(), float(loss), print(loss), if tensor:, "
                "boolean mask, z2g.tensor([...]), randn; do these before or after it, or call the function itself"
                + hint
            ) from error
        self._captured.update(graph=capture.graph, outputs=outputs)
        self._fixed = [fixed(optimizer, 0) for optimizer in self._recording.optimizers]
        self._leaves = [_Leaf(p, p.array, p.requires_grad, grad, p.grad) for p, grad in self._before(before)]

    def _before(self, known: dict[Tensor, Any]) -> list[tuple[Tensor, Any]]:
        """Each leaf that still lives, with the gradient it had before the capture, which first met some of them."""
        met = {leaf: grad for reference, grad in self._recording.leaves.items() if (leaf := reference()) is not None}
        return list((met | known).items())

    def _as_captured(self) -> bool:
        """Whether parameters, gradients that add up, and optimizers are still those that the graph works on."""
        recording = self._recording
        if not all(leaf.as_captured() for leaf in self._leaves):
            return False
        for optimizer, (arrays, rest) in zip(recording.optimizers, self._fixed, strict=True):
            now, rest_now = fixed(optimizer, recording.replays)
            same = len(now) == len(arrays) and all(a is b for a, b in zip(now, arrays, strict=True))
            if not same or rest_now != rest:
                return False
        return True


class _Leaf(NamedTuple):
    """A tensor to which a captured step gives a gradient, and what it had when it was captured."""

    tensor: Tensor
    array: Any
    requires_grad: bool
    before: Tensor | None
    grad: Tensor | None  # where each replay leaves the gradient

    def as_captured(self) -> bool:
        """Whether a replay would do to it what an ordinary step would."""
        x = self.tensor
        if x.array is not self.array or x.requires_grad != self.requires_grad:
            return False
        if self.before is None:  # whether fn would have cleared one cannot be told
            return x.grad is None
        return self.grad is not self.before or x.grad is self.grad  # cleared by fn, or added to


class _captured:
    """What is launched inside is not done but becomes `graph`."""

    def __init__(self, recording: Recording, stream: Any):
        self._recording, self._stream = recording, stream

    def __enter__(self) -> _captured:
        cupy().cuda.set_pinned_memory_allocator(_no_host_data)
        self._stream.begin_capture()
        self._recording.capturing = True
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        self._recording.capturing = False
        cupy().cuda.set_pinned_memory_allocator(cupy().get_default_pinned_memory_pool().malloc)
        with contextlib.suppress(Exception) if kind else contextlib.nullcontext():  # a spoilt capture ends in an error
            self.graph = self._stream.end_capture()


def _allocate(size: int) -> Any:
    """New memory for a step's pool. Where the card is full, a pool frees its blocks and asks again: but those are what
    the captured kernels work in. CuPy does so for its own error alone, so in a capture there is another one.
    """
    xp = cupy()
    try:
        memory = xp.cuda.Memory(size)
    except xp.cuda.runtime.CUDARuntimeError as error:
        if capturing():
            raise MemoryError(f"the card has no {size} bytes left") from error
        raise
    return xp.cuda.MemoryPointer(memory, 0)


def _give_back(pool: Any, captured: dict[str, Any]) -> None:
    """A step is gone. A pool keeps free blocks beyond its own end, so they are freed here: after what uses them."""
    captured.clear()
    pool.free_all_blocks()


def _no_host_data(size: int) -> Any:
    """CuPy sends host data from a buffer that it then uses for other data: each replay would send those."""
    if capturing():
        raise RuntimeError(f"{size} bytes of host data are brought to the card inside the step")
    return cupy().get_default_pinned_memory_pool().malloc(size)  # another thread, which captures nothing


def _map(change: Callable[[Tensor], Tensor], result: Any) -> Any:
    """`change` done to each tensor that a step returned. TypeError for other values."""
    if isinstance(result, (tuple, list)):
        return type(result)(_map(change, part) for part in result)
    if result is not None and not isinstance(result, Tensor):
        raise TypeError(f"compiled step: the function returned {type(result).__name__}, expected tensors")
    return None if result is None else change(result)


def _fresh(out: Tensor) -> Tensor:
    """A tensor in the same memory; those handed out before count as written to."""
    out.memory.writes += 1
    return out.detach()
