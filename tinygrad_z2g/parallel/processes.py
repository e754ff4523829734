"""Data parallelism: several processes train one model, each on its own part of every batch.

    mpiexec -n 2 python examples/18_gpt.py --distributed

Every process holds the whole model and sees other examples. The loss of the joint batch is the mean over the
processes' losses, so its gradient is the mean of their gradients:

    L = (L₀ + L₁ + ...) / n    =>    ∂L/∂w = (∂L₀/∂w + ∂L₁/∂w + ...) / n

With equal weights at the start and equal gradients at every step, the weights stay equal:

    distributed.init_process_group()
    distributed.broadcast_parameters(model)        # once: all start from the weights of process 0
    distributed.separate_dropout()                 # every process drops activations of its own
    distributed.average_gradients(model)           # after every backward(); then clip, then optimizer.step()
    distributed.destroy_process_group()            # this process ends well

MPI (mpi4py) carries NumPy arrays, NCCL (cupyx.distributed) CuPy's. Before `init_process_group` the world is this one
process, rank 0 of 1, and all of this does nothing. The names are those of torch.distributed; the three that it lacks
are what DistributedDataParallel does there. It knows nothing of losses or optimizers, only of parameters and gradients.
"""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays.backend import Array, of
from ..arrays.random import default_generator
from ..tensor import Tensor

if TYPE_CHECKING:
    from ..nn import Module

_mpi: Any = None  # the module mpi4py.MPI; None: this process is alone
_nccl: Any = None  # the same for arrays on cards: CuPy's communicator, made when the first of them is sent
_calls = 0  # messages among all so far, the same number in each process
_left: dict[int, int] = {}  # who has left, after how many calls
_post: Any = None  # the communicator of the letters that say so, apart from all other messages
_sessions = 0  # their tag: how often this process has joined
_letters: list[Any] = []  # those under way, each with its memory, which must stay


def init_process_group() -> None:
    """Join the other processes that mpiexec started.

    Call it early: MPI itself waits until all come here. From then on a process that ends without
    `destroy_process_group`, be it by an exception, by sys.exit or by Ctrl-C, ends them all, which would otherwise wait
    for it forever. So does one that waits for another that has left. (If a signal ends one, mpiexec ends the others.)
    ImportError without mpi4py or an MPI library.
    """
    global _mpi, _post, _calls, _sessions
    if _mpi is not None:
        raise RuntimeError("init_process_group: called twice; call destroy_process_group() first")
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # RuntimeError: mpi4py is there, the MPI library is not
        raise ImportError(
            f"init_process_group: mpi4py does not work ({error}); pip install 'tinygrad_z2g[mpi]', then start with "
            "mpiexec -n 2 python ..."
        ) from error
    _mpi, _calls, _sessions = MPI, 0, _sessions + 1
    _left.clear()
    if _post is None:
        _post = MPI.COMM_WORLD.Dup()
        atexit.register(_read_all_letters)  # before MPI's own end, which mpi4py calls after Python's
    atexit.register(_forgot_to_leave)  # runs after the traceback has been printed


def destroy_process_group() -> None:
    """Leave: this process ends well, and the others may go on without it. Those that wait for it will learn of it.

    As always with MPI, it stays at its very end until all the others have come there.
    """
    global _mpi, _nccl
    if _mpi is not None:
        calls = np.array([_calls])
        others = [rank for rank in range(get_world_size()) if rank != get_rank()]
        _letters.extend((_post.Issend(calls, rank, _sessions), calls) for rank in others)
    atexit.unregister(_forgot_to_leave)
    _mpi = _nccl = None


def _read_all_letters() -> None:
    """The end of a process that has left: wait until every letter, to it or from it, has been read.

    MPI_Finalize fails while one is unread; then mpiexec kills those that are still there when the first process ends.
    An `Issend` ends when it is read; whose own have all been read comes to the barrier, and reads on until all are
    there, and so no letter is under way.
    """
    from mpi4py import MPI

    request = None
    while not MPI.Is_finalized() and (request is None or not request.Test()):
        while _post.Iprobe(MPI.ANY_SOURCE, MPI.ANY_TAG):
            _post.Recv(np.zeros(1, np.int64), MPI.ANY_SOURCE, MPI.ANY_TAG)
        if request is None and all(letter.Test() for letter, _ in _letters):
            request = _post.Ibarrier()
        time.sleep(0.001)  # the others may need the core, and for long


def _forgot_to_leave() -> None:
    _end_all(f"rank {get_rank()} ended without destroy_process_group()")


def _end_all(why: str) -> None:
    print(f"{why}: ending all processes", file=sys.stderr, flush=True)
    sys.stdout.flush()
    time.sleep(0.2)  # mpiexec drops what it has not passed on by the time of the abort: the traceback, in 1 of 40 runs
    _mpi.COMM_WORLD.Abort(1)
    os._exit(1)  # MPICH's Abort returns, and lets mpiexec end this process some time later


def is_initialized() -> bool:
    """Whether this process has joined others."""
    return _mpi is not None


def get_rank() -> int:
    """The number of this process, 0 to get_world_size() - 1. By custom, 0 prints and writes the files."""
    return 0 if _mpi is None else _mpi.COMM_WORLD.Get_rank()


def get_world_size() -> int:
    """How many processes there are."""
    return 1 if _mpi is None else _mpi.COMM_WORLD.Get_size()


def get_node_local_rank() -> int:
    """The number of this process among those on the same machine: the number of the card that it should take."""
    barrier()  # Split_type waits without asking who has left
    return 0 if _mpi is None else _mpi.COMM_WORLD.Split_type(_mpi.COMM_TYPE_SHARED).Get_rank()


# --- Messages: every process must make the same calls in the same order -------------------------------------------


def barrier() -> None:
    """Wait until every process has come here."""
    if _mpi is not None:
        _together("barrier", lambda world: world.Ibarrier())


def all_reduce(tensor: Tensor) -> None:
    """Replace `tensor`, of equal shape and dtype in all, by its sum over all processes. TypeError for bool."""
    if tensor.array.dtype.kind == "b":
        raise TypeError("all_reduce: got a bool tensor, expected numbers; convert it with .int()")
    _exchange("all_reduce", tensor, lambda flat: _sum("all_reduce", flat))


def broadcast(tensor: Tensor, src: int = 0) -> None:
    """Replace `tensor`, of equal shape and dtype in all, by that of process `src`. ValueError if there is none."""
    if not 0 <= src < get_world_size():
        raise ValueError(f"broadcast: got src={src}, expected a rank from 0 to {get_world_size() - 1}")

    def send(flat: Array) -> None:
        raw = flat.view(np.uint8)  # (bytes,): numbers of any kind
        if of(raw) is np:
            _together("broadcast", lambda world: world.Ibcast(raw, src))
        else:
            _cards("broadcast").broadcast(raw, src)

    _exchange("broadcast", tensor, send)


def _exchange(name: str, tensor: Tensor, change: Callable[[Array], None]) -> None:
    """Let `change` work in place on the numbers of `tensor`: (N,). RuntimeError for a tensor with a history."""
    if not tensor.is_leaf:
        raise RuntimeError(f"{name}: gradients do not pass between processes; give it tensor.detach()")
    if get_world_size() == 1:
        return
    array = tensor.array
    flat = of(array).ascontiguousarray(array).reshape(-1)  # (...) -> (N,); a copy if they do not lie in this order
    change(flat)
    if not array.flags.c_contiguous:
        array[...] = flat.reshape(array.shape)
    tensor.memory.writes += 1


def _sum(name: str, flat: Array) -> None:
    if of(flat) is np:
        _together(name, lambda world: world.Iallreduce(_mpi.IN_PLACE, flat))
    else:
        _cards(name).all_reduce(flat, flat)


def _together(name: str, start: Callable[[Any], Any]) -> None:
    """Let `start` begin a message among all, and wait for its end, or for the news that somebody will never come.

    To ask again and again costs as much as MPI's own waiting, which does the same (1,000 numbers: 5 µs).
    """
    global _calls
    _calls += 1
    request, asked = start(_mpi.COMM_WORLD), 0
    while not request.Test():
        asked += 1
        if asked % 100 == 0:
            _look_for_the_left(name)


def _look_for_the_left(name: str) -> None:
    """End all processes if one has left before this call, the `_calls`-th."""
    status = _mpi.Status()
    while _post.Iprobe(_mpi.ANY_SOURCE, _sessions, status):
        note = np.zeros(1, np.int64)
        _post.Recv(note, status.Get_source(), _sessions)
        _left[status.Get_source()] = int(note[0])
    for rank, calls in _left.items():
        if calls < _calls:
            _end_all(f"rank {get_rank()} waits in {name} for rank {rank}, which left by destroy_process_group()")


def _cards(name: str) -> Any:
    """The NCCL communicator. RuntimeError from CuPy where NCCL is missing; every process needs a card of its own."""
    global _nccl, _calls
    _calls += 1
    _look_for_the_left(name)
    if _nccl is None:
        import cupyx.distributed

        _nccl = cupyx.distributed.init_process_group(get_world_size(), get_rank(), use_mpi=True)
    return _nccl


# --- Training -----------------------------------------------------------------------------------------------------


def broadcast_parameters(model: Module, src: int = 0) -> None:
    """Give every process the parameters and buffers of process `src`."""
    for tensor in [*model.parameters(), *model.buffers()]:
        broadcast(tensor, src)


def separate_dropout() -> None:
    """Give every process dropout masks of its own; weights and batches are still drawn alike. After each seeding."""
    if get_world_size() > 1:
        state = default_generator.get_state()
        default_generator.set_state({**state, "seed": state["seed"] % 2**32 + (get_rank() << 32)})


def average_gradients(model: Module) -> None:
    """Replace every gradient by its mean over all processes: after backward, before clipping.

    All gradients of one dtype travel in one flat buffer, of which they become views: half the time of a message for
    each (818,000 weights in 54 tensors, 2 processes). It is made anew at every step, which costs no more than to keep
    one and lets `zero_grad` do as it always does. A parameter that only some processes used counts as 0 in the others.
    """
    if get_world_size() == 1:
        return
    params = list(model.parameters())
    uses = np.array([p.grad is not None for p in params], np.int32)
    _sum("average_gradients", uses)
    groups: dict[np.dtype, list[Tensor]] = {}
    for p, n in zip(params, uses.tolist(), strict=True):
        if n:
            if p.grad is None:
                p.grad = Tensor.make(of(p.array).zeros_like(p.array))
            groups.setdefault(p.dtype, []).append(p.grad)
    for grads in groups.values():
        flat = of(grads[0].array).concatenate([g.array.reshape(-1) for g in grads])  # (N,)
        _sum("average_gradients", flat)
        flat *= 1 / get_world_size()
        start = 0
        for g in grads:
            end = start + g.array.size
            g.array = flat[start:end].reshape(g.array.shape)
            g.memory.writes += 1
            start = end
