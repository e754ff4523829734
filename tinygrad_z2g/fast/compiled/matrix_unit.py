"""Products in float32 on the processor's matrix unit (Intel's AMX, from 2023 on), which multiplies bfloat16 alone.

A bfloat16 has the first 16 bits of a float32: 8 binary digits of its 24. Three of them hold any float32 x exactly,

    x = x₀ + x₁ + x₂,   x₀ = x rounded to 8 digits, x₁ = x - x₀ rounded to 8 digits, x₂ = x - x₀ - x₁,

and of the nine products in x y six are kept:

    x y ≈ x₂ y₀ + x₁ y₀ + x₁ y₁ + x₀ y₁ + x₀ y₂ + x₀ y₀.

The three left out are at most 2⁻²⁴ x y together, and mostly less than 2⁻²⁶, where rounding to float32 costs up to 2⁻²⁴.
The unit adds up in float32, and rounds less often than a chain of sums does: 768 x 128 x 512 normal numbers are 0.9e-7
off (root of mean squares, of that of z), with the tile of `tiles` 2.0e-7, and take 0.33 ms on one thread in place of
0.55. Where most of the products are 0, a chain rounds less often: of two matrices that ReLU gave, k = 512, z is 1.4e-7
off, with the tile 0.9e-7. Where k is short and z large, memory takes the time, and nothing is gained.

The unit takes numbers below 2⁻¹²⁶ for 0, and the parts of an infinity would give NaN. So the largest number of one
matrix, and of each 16 rows or columns of the other, must lie between 2⁻⁴⁰ and 2⁴⁰. Otherwise `with_squares` says so,
and the tile computes. Beside such numbers small ones lose digits, where they or their products are below 2⁻¹⁰⁴ (5e-32).

Source: Henry, Tang, Heinecke, "Leveraging the bfloat16 Artificial Intelligence Datatype For Higher-Precision
Computations", 2019 (arXiv:1904.06376). It knows nothing of threads: callers are given a part.
"""

from __future__ import annotations

import ctypes
import platform
from typing import Any

import numpy as np
from llvmlite import ir
from numba import int64, types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from ...arrays.backend import Array
from .compiling import apart, loop
from .layout import FLOAT32, address, keep
from .tiles import copy_line, number_at, put_number, turn_square

SIDE, DEPTH = 16, 32  # a square: 16 rows of a, or columns of b, and 32 k, two to a word of 32 bits
SQUARE = 4 * SIDE * SIDE  # bytes
WIDE = 2 * SIDE  # rows and columns of z at a time: four squares, which two of a and two of b share
SCRATCH = 2 * WIDE * WIDE  # numbers for what a loop has in hand
TALL, FAR = 128, 512  # rows of a, and k, split at a time (393 KB, which stay in the second cache); FAR is one sum
NEAR = 2**18  # bytes of x₀ of a matrix that stays in the second cache while others pass
SMALLEST, LARGEST = 0x2B80, 0x5380  # 2⁻⁴⁰ and 2⁴⁰ as bfloat16

# Whether the processor has one, and Numba may compile for it (NUMBA_CPU_NAME may say otherwise).
_features = cpu_target.target_context.codegen().magic_tuple()[2].split(",")
THERE = {"+amx-tile", "+amx-bf16", "+avx512f"} <= set(_features)


def allowed() -> bool:
    """Whether this process may use the unit: Linux wants to be asked, as each thread keeps 8 KB more from then on."""
    if not THERE or platform.system() != "Linux":
        return False
    arch_prctl, request_permission, tile_data = 158, 0x1023, 18  # from <asm/unistd_64.h>, <asm/prctl.h>, Intel's manual
    return ctypes.CDLL(None).syscall(arch_prctl, request_permission, tile_data) == 0


# --- What Numba has no word for ----------------------------------------------------------------------------------

_BYTE, _SIZE, _WORD = ir.IntType(8), ir.IntType(64), ir.IntType(32)
_POINTER, _WORDS, _NUMBERS = _BYTE.as_pointer(), ir.VectorType(_WORD, SIDE), ir.VectorType(ir.FloatType(), SIDE)


def _instruction(name: str, *kinds: Any) -> Any:
    """What compiles to that instruction of these kinds of arguments; numbers of tiles are literals. (To nothing, on a
    processor that lacks it: there it is compiled, though never called.)"""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if THERE:
            given = [
                kind(n.literal_value) if kind is _BYTE else builder.inttoptr(x, kind) if kind is _POINTER else x
                for kind, n, x in zip(kinds, sig.args, args, strict=True)
            ]
            function = ir.FunctionType(ir.VoidType(), kinds)
            builder.call(cgutils.get_or_insert_function(builder.module, function, f"llvm.x86.{name}"), given)
        return context.get_dummy_value()

    return code


@intrinsic
def begin(_, shapes):
    """Tiles of the shapes at that address, from now on."""
    return types.void(int64), _instruction("ldtilecfg", _POINTER)


@intrinsic
def end(_):
    """No tiles any more: the system need not keep them when it lets another thread run."""
    return types.void(), _instruction("tilerelease")


@intrinsic(prefer_literal=True)
def zero_tile(_, tile):
    """tile = 0"""
    return types.void(tile), _instruction("tilezero", _BYTE)


@intrinsic(prefer_literal=True)
def load_tile(_, tile, place, step):
    """tile = 16 rows of 64 bytes from that address on, so many bytes apart."""
    return types.void(tile, int64, int64), _instruction("tileloadd64", _BYTE, _POINTER, _SIZE)


@intrinsic(prefer_literal=True)
def store_tile(_, tile, place, step):
    """The reverse."""
    return types.void(tile, int64, int64), _instruction("tilestored64", _BYTE, _POINTER, _SIZE)


@intrinsic(prefer_literal=True)
def multiply_tiles(_, z, a, b):
    """z += a b for tiles: z[i, j] += Σₖ a[i, 2k] b[2k, j] + a[i, 2k + 1] b[2k + 1, j]"""
    return types.void(z, a, b), _instruction("tdpbf16ps", _BYTE, _BYTE, _BYTE)


def _split_code(along: bool) -> Any:
    """What `split_along` and `split_across` compile to."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        first, second, out, part, largest = args

        def at(place: Any, kind: Any) -> Any:
            return builder.inttoptr(place, kind.as_pointer())

        def each(n: int) -> Any:
            return ir.Constant(_WORDS, [n] * SIDE)

        even, odd = (builder.load(at(place, _NUMBERS), align=4) for place in (first, second))
        if along:
            every = [ir.Constant(_WORDS, [2 * i + k for i in range(SIDE)]) for k in range(2)]
            even, odd = (builder.shuffle_vector(even, odd, mask) for mask in every)
        for i in range(3):
            halves = []
            for x in (even, odd):
                bits = builder.bitcast(x, _WORDS)
                if i < 2:  # x₂ has 8 digits as it is, but for what is below 2⁻¹³³
                    bits = builder.add(bits, each(0x8000))
                halves.append(builder.and_(bits, each(0xFFFF0000)))
            word = builder.or_(builder.lshr(halves[0], each(16)), halves[1])
            builder.store(word, at(builder.add(out, builder.mul(part, _SIZE(i))), _WORDS), align=4)
            if i < 2:
                even, odd = (
                    builder.fsub(x, builder.bitcast(half, _NUMBERS))
                    for x, half in zip((even, odd), halves, strict=True)
                )
            if i == 0:
                shorts = ir.VectorType(ir.IntType(16), 2 * SIDE)
                size = builder.bitcast(builder.and_(word, each(0x7FFF7FFF)), shorts)
                before = builder.load(at(largest, shorts), align=4)
                larger = builder.icmp_unsigned(">", size, before)
                builder.store(builder.select(larger, size, before), at(largest, shorts), align=4)
        return context.get_dummy_value()

    return code


@intrinsic
def split_along(_, first, second, out, part, largest):
    """16 words, each x and the number that follows it, of the 32 numbers at `first` and `second`: those of x₀ at `out`,
    of x₁ and x₂ each `part` bytes on. At `largest` the largest x₀ so far, without their signs."""
    return types.void(*[int64] * 5), _split_code(True)


@intrinsic
def split_across(_, first, second, out, part, largest):
    """The same, but a word is a number at `first` and that below it, at `second`."""
    return types.void(*[int64] * 5), _split_code(False)


@intrinsic
def add_line(_, x, before, z):
    """z = before + x for 32 numbers."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        x, before, z = (builder.inttoptr(place, _NUMBERS.as_pointer()) for place in args)
        for i in range(2):
            a, b, out = (builder.gep(place, [_SIZE(i)]) for place in (x, before, z))
            builder.store(builder.fadd(builder.load(b, align=4), builder.load(a, align=4)), out, align=4)
        return context.get_dummy_value()

    return types.void(int64, int64, int64), code


@intrinsic
def stay_awake(_, place):
    """16 numbers of no interest, added to themselves. If a processor adds nothing in registers of 64 bytes for 2,000
    steps, as six squares take, it turns off what does that, and the next `store_tile` waits for 0.3 µs: a twelfth of
    the time of a convolution, or of a product of 512 x 768 x 128."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        place = builder.inttoptr(args[0], _NUMBERS.as_pointer())
        x = builder.load(place, align=4)
        builder.store(builder.fadd(x, x), place, align=4)
        return context.get_dummy_value()

    return types.void(int64), code


# --- Squares -----------------------------------------------------------------------------------------------------


@apart
def split(n, K, a, down, right, out, far, part, of_b, largest, scratch):
    """The squares of n rows of a and K numbers of each: as words [row, k], or [k, row] if they are `of_b`, the columns
    of b; zeros beyond the last. Those of 16 rows are `far` bytes apart. All are addresses and steps in bytes."""
    edge, square = scratch, scratch + 4 * SIDE * DEPTH
    for i in range(0, n, SIDE):
        for k in range(0, K, DEPTH):
            start, to_row, to_k, to = a + i * down + k * right, down, right, out + i // SIDE * far + k // DEPTH * SQUARE
            rows, depth = min(SIDE, n - i), min(DEPTH, K - k)
            if rows < SIDE or depth < DEPTH or (down != 4 and right != 4):
                for r in range(SIDE):
                    for c in range(DEPTH):
                        x = number_at(start + r * down + c * right) if r < rows and c < depth else np.float32(0)
                        put_number(edge + 4 * (r * DEPTH + c), x)
                start, to_row, to_k = edge, 4 * DEPTH, 4
            turned = of_b == (to_k == 4)
            place, step = (square, SQUARE) if turned else (to, part)
            for j in range(0, 4 * SIDE * SIDE, 4 * SIDE):
                if to_k == 4:
                    split_along(start, start + 4 * SIDE, place + j, step, largest)
                    start += to_row
                else:
                    split_across(start, start + to_k, place + j, step, largest)
                    start += 2 * to_k
            if turned:
                for p in range(3):
                    turn_square(square + SQUARE * p, 4 * SIDE, to + part * p, 4 * SIDE)


@loop
def _deep(K):
    """Squares along k."""
    return (K + DEPTH - 1) // DEPTH


@loop
def _squares(n):
    """Squares for so many rows: an even number, as two are taken at a time."""
    return (n + WIDE - 1) // WIDE * 2


@loop
def first_line(room):
    """The first line of the cache in an array. (Tiles are read two and a half times as fast from there.)"""
    return (address(room) + 63) & ~63


@loop
def in_range(largest):
    """Whether the unit is right for a matrix with that largest number, a bfloat16. (For Python: `in_range.py_func`.)"""
    return SMALLEST <= largest < LARGEST


def squares_for(y: Array) -> tuple[Array, Array]:
    """Room for the squares of y (n, K), three times [n / 16, K / 32]; and for the largest number of each strip of y, 16
    rows or 32 columns, as its numbers lie in memory."""
    (n, K), along = y.shape, y.strides[1] == 4
    deep, groups = -(-K // DEPTH), -(-n // SIDE)
    squares = np.empty(3 * (groups + groups % 2) * deep * SIDE * SIDE + SIDE, FLOAT32)
    return squares, np.empty(groups if along else deep, np.int64)


@loop
def fill_squares(start, stop, n, K, y, down, right, of_b, squares, largest):
    """The squares of y (n, K), an address, for the strips start..stop; y is a, or, if `of_b`, bᵀ."""
    deep, scratch, most = _deep(K), np.empty(SCRATCH, np.float32), np.empty(2 * SIDE, np.uint16)
    part = _squares(n) * deep * SQUARE
    for i in range(start, stop):
        most[:] = 0
        place, out, rows, depth = y, first_line(squares), n, K
        if right == 4:
            place, out, rows = place + SIDE * i * down, out + i * deep * SQUARE, min(SIDE, n - SIDE * i)
        else:
            place, out, depth = place + DEPTH * i * right, out + i * SQUARE, min(DEPTH, K - DEPTH * i)
        split(rows, depth, place, down, right, out, deep * SQUARE, part, of_b, address(most), address(scratch))
        largest[i] = most.max()
    keep(most)
    keep(scratch)


# --- Products ----------------------------------------------------------------------------------------------------


@loop
def zero_four(both):
    """The tiles 0 and 1, and if `both` 2 and 3, = 0."""
    zero_tile(0)
    zero_tile(1)
    if both:
        zero_tile(2)
        zero_tile(3)


@loop
def load_four(place, step, both):
    """These tiles = 16 rows of 32 numbers, and if `both` the next 16."""
    load_tile(0, place, step)
    load_tile(1, place + 4 * SIDE, step)
    if both:
        load_tile(2, place + SIDE * step, step)
        load_tile(3, place + SIDE * step + 4 * SIDE, step)


@loop
def store_four(place, step, both):
    """The reverse."""
    store_tile(0, place, step)
    store_tile(1, place + 4 * SIDE, step)
    if both:
        store_tile(2, place + SIDE * step, step)
        store_tile(3, place + SIDE * step + 4 * SIDE, step)


@loop
def _load_rows(a, step, far, both):
    """A square of a to tile 4, and if `both` the one below it to tile 5."""
    load_tile(4, a, step)
    if both:
        load_tile(5, a + far, step)


@loop
def _load_columns(b, far):
    """Two squares of b to the tiles 6 and 7."""
    load_tile(6, b, 4 * SIDE)
    load_tile(7, b + far, 4 * SIDE)


@loop
def _multiply_all(both):
    """The tiles 0 to 3, or 0 and 1, += their products."""
    multiply_tiles(0, 4, 6)
    multiply_tiles(1, 4, 7)
    if both:
        multiply_tiles(2, 5, 6)
        multiply_tiles(3, 5, 7)


@loop
def six_products(a, a_step, a_far, a_part, b, b_far, b_part, both, idle):
    """The tiles 0 to 3 += the six products, of a square of a or of `both`, `a_far` bytes apart, and two of b. The rows
    of a are `a_step` bytes apart."""
    _load_rows(a + 2 * a_part, a_step, a_far, both)
    _load_columns(b, b_far)
    _multiply_all(both)
    _load_rows(a + a_part, a_step, a_far, both)
    _multiply_all(both)
    _load_columns(b + b_part, b_far)
    _multiply_all(both)
    _load_rows(a, a_step, a_far, both)
    _multiply_all(both)
    _load_columns(b + 2 * b_part, b_far)
    _multiply_all(both)
    _load_columns(b, b_far)
    _multiply_all(both)
    stay_awake(idle)


@apart
def _sum_squares(deep, a, a_far, a_part, b, b_far, b_part, both, idle):
    """The same for so many squares along k."""
    for k in range(0, deep * SQUARE, SQUARE):
        six_products(a + k, 4 * SIDE, a_far, a_part, b + k, b_far, b_part, both, idle)


@apart
def _copy(n, m, x, x_step, before, before_step, z, step):
    """z = before + x for n rows of at most 32 numbers; all are addresses and steps in bytes. No `before`, 0: zeros."""
    for _ in range(n):
        if m == WIDE and before:
            add_line(x, before, z)
        elif m == WIDE:
            copy_line(x, z)
        else:
            for j in range(0, 4 * m, 4):
                put_number(z + j, number_at(before + j) + number_at(x + j) if before else number_at(x + j))
        x += x_step
        z += step
        if before:
            before += before_step


@apart
def _tile(n, m, deep, a, a_far, a_part, b, b_far, b_part, before, before_step, later, z, step, block):
    """z = before + a b for at most 32 rows and columns; all are addresses and steps in bytes. No `before`, 0: zeros.
    The sum begins with `before`; or that is added to it `later`. `block` has room for 33 x 32 numbers."""
    both, whole = n > SIDE, m == WIDE and n % SIDE == 0
    start, start_step = before, before_step
    if later:
        start = 0
    elif before and not whole:  # what a tile reads beyond n and m, it computes with in vain
        start, start_step = block, 4 * WIDE
        _copy(n, m, before, before_step, 0, 0, start, start_step)
    if start:
        load_four(start, start_step, both)
    else:
        zero_four(both)
    _sum_squares(deep, a, a_far, a_part, b, b_far, b_part, both, block + 4 * WIDE * WIDE)
    direct = whole and not (later and before)
    out, far = (z, step) if direct else (block, 4 * WIDE)
    store_four(out, far, both)
    if not direct:
        _copy(n, m, block, far, before if later else 0, before_step, z, step)


@apart
def _tiles_of_squares(
    n, m, deep, a, a_far, a_part, b, b_far, b_part, by_row, before, before_step, later, z, step, block
):
    """The same for any number of rows and columns: row after row of tiles if `by_row`, else column after column."""
    for outer in range(0, n if by_row else m, WIDE):
        for inner in range(0, m if by_row else n, WIDE):
            i, j = (outer, inner) if by_row else (inner, outer)
            start = before + i * before_step + 4 * j if before else 0
            _tile(
                min(WIDE, n - i), min(WIDE, m - j), deep, a + i // SIDE * a_far, a_far, a_part, b + j // SIDE * b_far,
                b_far, b_part, start, before_step, later, z + i * step + 4 * j, step, block,
            )  # fmt: skip


SHAPES = np.zeros(64, np.uint8)  # of eight tiles, as `ldtilecfg` reads them: 64 bytes each, 16 rows
SHAPES[0], SHAPES[16:32:2], SHAPES[48:56] = 1, 4 * SIDE, SIDE


@apart
def with_squares(n, K, x, down, right, of_b, squares, many, before, before_step, later, z, step, room) -> int:
    """z = before + a b for at most 128 rows of x (n, K). x is a, and the squares are those of b with `many` columns; or
    x is `of_b`, so it is bᵀ, and the squares are those of `many` rows of a. No `before`, 0: zeros; the sum begins with
    it, or, where it may be larger than a b, and its roundings would count, it is added `later`.

    Bit i of the result: whether the rows 16 i.. of x gave a wrong z, as they have numbers too large or too small for
    the unit. (Of the other matrix `in_range` tells.) All are addresses and steps in bytes; x lies anyhow.
    """
    most = np.zeros((TALL // SIDE, 2 * SIDE), np.uint16)
    largest, missed, mine = address(most), 0, room + 4 * SCRATCH
    size = _deep(K) * SQUARE
    other_part = _squares(many) * size
    by_row = other_part <= NEAR
    strip = FAR if right == 4 else DEPTH  # of x, as its numbers lie in memory
    begin(address(SHAPES))
    for k in range(0, K, FAR):
        here, other, start, start_step = min(FAR, K - k), squares + k // DEPTH * SQUARE, before, before_step
        deep = _deep(here)
        far, part = deep * SQUARE, _squares(n) * deep * SQUARE
        for s in range(0, here, strip):
            for i in range(0, n, SIDE):
                split(
                    min(SIDE, n - i), min(strip, here - s), x + i * down + (k + s) * right, down, right,
                    mine + i // SIDE * far + s // DEPTH * SQUARE, far, part, of_b, largest + 4 * i, room,
                )  # fmt: skip
        more = later or k > 0
        if k:
            start, start_step = z, step
        if of_b:
            _tiles_of_squares(
                many, n, deep, other, size, other_part, mine, far, part, 1, start, start_step, more, z, step, room
            )
        else:
            _tiles_of_squares(
                n, many, deep, mine, far, part, other, size, other_part, by_row, start, start_step, more, z, step, room
            )
    end()
    for i in range((n + SIDE - 1) // SIDE):
        if not in_range(most[i].max()):
            missed |= 1 << i
    keep(most)
    return missed


@loop
def room_for(n, K):
    """What `with_squares` works in, for so many rows of x."""
    return np.empty(SCRATCH + 3 * _squares(min(TALL, n)) * min(_deep(K), FAR // DEPTH) * SIDE * SIDE + SIDE, np.float32)
