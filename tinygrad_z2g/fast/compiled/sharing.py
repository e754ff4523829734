"""How threads share a loop without Python: a board on which a job stands, and whoever is there takes parts of it.

The caller writes the job on the board and begins with the first part; helpers look at the board all the time and take
the next. A part is taken by one atomic instruction, so that nobody waits for a helper that did not come, and the caller
does all parts itself if none does. Handing a half over and having it back costs 1 µs, where waking a thread takes 20
to 50. A helper that saw nothing new for some milliseconds goes to sleep; see `jit`, which has the threads. It knows
nothing of what a loop computes.

The board is an array of int64, given by its address; what different threads write lies in different lines of the cache.
"""

from __future__ import annotations

from types import FunctionType
from typing import Any

from llvmlite import binding, ir
from numba import int64, types
from numba.core import cgutils
from numba.core.compiler import Flags, compile_internal
from numba.extending import intrinsic

from .compiling import apart, called, loop

TICKET = 0  # job number · 2³² + parts of it · 2¹⁶ + the next to take: one number, so that all are read at once
DONE = 8  # parts of this job that are done
FUNCTION, DATA, ROWS, MULTIPLE = 16, 17, 18, 19  # the job: where the code is and where its arguments; what is cut, how
FAILED = 24  # whether a part had no memory
BUSY = 32  # whether somebody's job is on the board: another caller works alone
AWAKE = 40  # helpers that look
LEAVE = 48  # jobs of Python functions that wait for a helper, so that it must not stay here
SET_BLAS, GET_BLAS, YIELD = 56, 57, 58  # addresses of functions of C, or 0
SIZE = 64
NUMBER, PARTS, NEXT = int64(32), int64(16), int64(0xFFFF)
PATIENCE = 50_000  # looks of a helper before it sleeps: about 2 ms

_I32, _I64, _BYTES = ir.IntType(32), ir.IntType(64), ir.IntType(8).as_pointer()
_PART = ir.FunctionType(_I32, [_I64, _I64, _BYTES])  # what `job` makes: (start, stop, arguments) -> an error, or 0


# --- What Numba has no word for ----------------------------------------------------------------------------------


def _place(builder: Any, args: Any) -> Any:
    return builder.inttoptr(builder.add(args[0], builder.mul(args[1], _I64(8))), _I64.as_pointer())


@intrinsic
def load(_: Any, board: Any, i: Any) -> Any:
    """board[i], and nothing that stands after this is read before it."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load_atomic(_place(builder, args), "acquire", 8)

    return int64(int64, int64), code


@intrinsic
def store(_: Any, board: Any, i: Any, value: Any) -> Any:
    """board[i] = value, once everything that stands before this is written."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store_atomic(args[2], _place(builder, args), "release", 8)
        return context.get_dummy_value()

    return types.void(int64, int64, int64), code


@intrinsic
def add(_: Any, board: Any, i: Any, value: Any) -> Any:
    """board[i] += value, by one thread at a time."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.atomic_rmw("add", _place(builder, args), args[2], "acq_rel")

    return int64(int64, int64, int64), code


@intrinsic
def exchange(_: Any, board: Any, i: Any, old: Any, new: Any) -> Any:
    """board[i] = new if it is `old`; whether it was. No other thread comes between."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        both = builder.cmpxchg(_place(builder, args), args[2], args[3], "acq_rel", "acquire")
        return builder.extract_value(both, 1)

    return types.boolean(int64, int64, int64, int64), code


@intrinsic
def call_c(_: Any, address: Any, n: Any) -> Any:
    """The C function of an int at that address; -1 if there is none."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        result = cgutils.alloca_once_value(builder, ir.Constant(_I32, -1))
        with builder.if_then(builder.icmp_unsigned("!=", args[0], ir.Constant(_I64, 0))):
            function = builder.inttoptr(args[0], ir.FunctionType(_I32, [_I32]).as_pointer())
            builder.store(builder.call(function, [builder.trunc(args[1], _I32)]), result)
        return builder.sext(builder.load(result), _I64)

    return int64(int64, int64), code


@intrinsic
def pause(_):
    """Nothing for some 40 ns, in which another thread of the same core has it for itself."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        processor, nothing = binding.get_process_triple().split("-")[0], ir.VoidType()
        if processor in ("x86_64", "i686"):
            kind = ir.FunctionType(nothing, [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        elif processor in ("aarch64", "arm64"):
            kind = ir.FunctionType(nothing, [_I32])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.aarch64.hint"), [_I32(1)])
        return context.get_dummy_value()

    return types.void(), code


@intrinsic
def run_part(_: Any, function: Any, start: Any, stop: Any, data: Any) -> Any:
    """function(start, stop, *data), of addresses that `job` gave; 0, or an error."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        function = builder.inttoptr(args[0], _PART.as_pointer())
        return builder.sext(builder.call(function, [*args[1:3], builder.inttoptr(args[3], _BYTES)]), _I64)

    return int64(int64, int64, int64, int64), code


def _lent(builder: Any, kind: Any, value: Any) -> Any:
    """An array without its count of users, which every slice would change, on one core after the other: 3,072 rows'
    softmax took twice as long on two threads as on one. Who hands the job over keeps the array alive."""
    if isinstance(kind, types.Array):
        for i in range(2):  # where the count is; the Python object
            value = builder.insert_value(value, ir.Constant(value.type.elements[i], None), i)
    return value


@intrinsic
def job(_: Any, function: Any, args: Any) -> Any:
    """Two addresses: of code that runs function(start, stop, *args), and of a copy of `args` that lives until the
    function that asks for this returns.

    The function becomes a part of the one that asks: compiled for itself first, as Numba does with what is called, it
    would be optimised and turned into code twice, of which one is never run. (W2's loops: 12.4 in place of 14.6 s.)
    """
    loop = function.dispatcher

    def code(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        flags, library = Flags(), context.active_code_library
        loop.targetdescr.options.parse_as_flags(flags, loop.targetoptions)
        flags.no_compile = True
        kinds = int64, int64, *args.types
        made = compile_internal(context.typing_context, context, library, loop.py_func, kinds, types.none, flags, {})
        library._final_module.get_function(made.fndesc.llvm_func_name).linkage = "linkonce_odr"  # nobody else calls it
        part = ir.Function(builder.module, _PART, f"{made.fndesc.mangled_name}.part")
        part.linkage = "internal"
        inside = ir.IRBuilder(part.append_basic_block())
        start, stop, data = part.args
        kept = inside.load(inside.bitcast(data, context.get_value_type(args).as_pointer()))
        items = [_lent(inside, kind, inside.extract_value(kept, i)) for i, kind in enumerate(args)]
        target = context.declare_function(builder.module, made.fndesc)
        status, _ = context.call_conv.call_function(
            inside, target, made.fndesc.restype, made.fndesc.argtypes, [start, stop, *items]
        )
        inside.ret(inside.zext(status.is_error, _I32))
        place = cgutils.alloca_once_value(builder, values[1])
        both = builder.ptrtoint(part, _I64), builder.ptrtoint(place, _I64)
        return context.make_tuple(builder, sig.return_type, both)

    return types.UniTuple(int64, 2)(function, args), code


# --- The board ---------------------------------------------------------------------------------------------------


@loop
def cut(rows, part, parts, multiple):
    """Where a part of so many rows begins, at a `multiple`; of the part after the last: where all end."""
    return rows if part == parts else rows * part // parts // multiple * multiple


@loop
def work(board):
    """Take parts until none is left; whether there was one."""
    some = False
    while True:
        ticket = load(board, TICKET)
        part, parts = ticket & NEXT, (ticket >> PARTS) & NEXT
        if part >= parts:
            return some
        if exchange(board, TICKET, ticket, ticket + 1):  # now the job stays until this part is done
            some = True
            rows, multiple = load(board, ROWS), load(board, MULTIPLE)
            start, stop = cut(rows, part, parts, multiple), cut(rows, part + 1, parts, multiple)
            if start < stop and run_part(load(board, FUNCTION), start, stop, load(board, DATA)):
                store(board, FAILED, 1)
            add(board, DONE, 1)


@apart
def _share(board, function, data, rows, parts, multiple) -> int:
    """The job, done; 0, or an error. Meanwhile OpenBLAS takes one thread: its own would wait for their next product by
    spinning, on the core that the other half needs. (Another library is left to itself.)"""
    if parts == 1 or not exchange(board, BUSY, 0, 1):
        return run_part(function, 0, rows, data)
    before = call_c(load(board, GET_BLAS), 0)
    if before > 1:
        call_c(load(board, SET_BLAS), 1)
    store(board, FUNCTION, function)
    store(board, DATA, data)
    store(board, ROWS, rows)
    store(board, MULTIPLE, multiple)
    store(board, FAILED, 0)
    store(board, DONE, 0)
    store(board, TICKET, ((load(board, TICKET) >> NUMBER) + 1) << NUMBER | parts << PARTS)
    work(board)
    looks = 0
    while load(board, DONE) < parts:
        looks += 1
        if looks % 1000 == 0:  # the helper may need this core
            call_c(load(board, YIELD), 0)
    failed = load(board, FAILED)
    if before > 1:
        call_c(load(board, SET_BLAS), before)
    store(board, BUSY, 0)
    return failed


@called
def serve(board, patience):
    """Help, until nothing new has come for a while or a Python function waits."""
    add(board, AWAKE, 1)
    idle = 0
    while idle < patience and not load(board, LEAVE):
        idle = 0 if work(board) else idle + 1
        pause()
    add(board, AWAKE, -1)


@called
def post(board, n):
    """So many Python functions more wait, or fewer."""
    add(board, LEAVE, n)


def _shared(board, rows, parts, multiple, *args):
    code, data = job(function, args)  # noqa: F821
    if _share(board, code, data, rows, parts, multiple):
        raise MemoryError


def shared(function: Any) -> Any:
    """A loop that is cut into parts: (board, rows, parts, multiple, *args).

    `_shared`, under a name and in a file that tell it from others of its kind: Numba keeps compiled code by these.
    """
    plain = function.py_func
    code = _shared.__code__.replace(co_filename=plain.__code__.co_filename)
    copy = FunctionType(code, {**globals(), "function": function}, f"{plain.__name__}_shared")
    copy.__module__, copy.__qualname__ = plain.__module__, copy.__name__
    return called(copy)
