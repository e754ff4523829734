"""Convolution on the matrix unit, see `matrix_unit`: what the windows see is never written out, for z and for ∂L/∂W.

A tile is read by rows of 64 bytes, a step apart, and twice to five times as fast from the beginning of a line of the
cache. So x is split into words that lie in such rows, whichever tap of the window asks, and however far it moves:

- For z the sum is over channels. The row of a place has 32 of them, and 16 places are a square of a = columnsᵀ, so that
  tap k finds its own k rows further on. The filters are b. z comes out turned: places x filters.
- For ∂L/∂W it is over places. A row has a word of each of 16 channels: x at a place, and where the next window sees it.
  Tap k begins k rows further on, and takes every second row; those lie side by side. The gradient is a.

Places are taken by rows of z, 32 at a time. One sum has at most 512 numbers for z, and 1,024 for ∂L/∂W, where those are
added in float64. The error, as the root of the mean square, is 0.4 to 0.5 of the tile's for z, and 0.85 for ∂L/∂W. It
knows nothing of threads: callers are given a part.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import int64, types
from numba.core import cgutils
from numba.extending import intrinsic

from .compiling import apart, loop, prepare
from .layout import address, keep
from .matrix_unit import (
    DEPTH,
    FAR,
    SCRATCH,
    SHAPES,
    SIDE,
    SQUARE,
    WIDE,
    add_line,
    begin,
    end,
    first_line,
    in_range,
    load_four,
    six_products,
    split,
    split_across,
    split_along,
    store_four,
    zero_four,
)
from .tiles import copy_line, number_at, put_number, turn_square

Sizes = tuple[int, ...]
LINE = 4 * SIDE  # bytes of a row of a square
BLOCK = 4 * WIDE * WIDE  # bytes of four squares of z
MUCH = 2**19  # bytes of x at a time, split: a part of the second cache
HELD = 2**20  # the same for ∂L/∂W, beside which less is needed
PARTS, SUMS = 4, 2**21  # of ∂L/∂W, and how many numbers they have together
LONG = 1024  # numbers that a sum of ∂L/∂W in float32 has at most


@intrinsic
def _whole_at(_, address):
    """The whole number of 64 bits at an address."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load(builder.inttoptr(args[0], ir.IntType(64).as_pointer()), align=8)

    return int64(int64), code


@intrinsic
def _double_at(_, address):
    """The float64 at an address."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load(builder.inttoptr(args[0], ir.DoubleType().as_pointer()), align=8)

    return types.float64(int64), code


@intrinsic
def _put_double(_, address, x):
    """x as the float64 at an address."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store(args[1], builder.inttoptr(args[0], ir.DoubleType().as_pointer()), align=8)
        return context.get_dummy_value()

    return types.void(int64, types.float64), code


@intrinsic
def _put_whole(_, address, n):
    """n as the whole number of 64 bits at an address."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store(args[1], builder.inttoptr(args[0], ir.IntType(64).as_pointer()), align=8)
        return context.get_dummy_value()

    return types.void(int64, int64), code


@intrinsic
def _largest_at(_, place):
    """The largest of 32 whole numbers of 16 bits at an address."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        short = ir.IntType(16)
        kind = ir.VectorType(short, 2 * SIDE)
        numbers = builder.load(builder.inttoptr(args[0], kind.as_pointer()), align=4)
        name = f"llvm.vector.reduce.umax.v{2 * SIDE}i16"
        largest = cgutils.get_or_insert_function(builder.module, ir.FunctionType(short, [kind]), name)
        return builder.zext(builder.call(largest, [numbers]), ir.IntType(64))

    return int64(int64), code


# --- What both need ----------------------------------------------------------------------------------------------


@apart
def _sum_at(n, offsets, a, a_step, a_far, a_part, b, b_far, b_part, idle):
    """The tiles 0 to 3 += the six products of two squares of a, `a_far` bytes apart, and two of b, for n places in
    both, whose offsets stand in pairs. The rows of a are `a_step` bytes apart."""
    for _ in range(n):
        a_0, b_0 = a + _whole_at(offsets), b + _whole_at(offsets + 8)
        six_products(a_0, a_step, a_far, a_part, b_0, b_far, b_part, True, idle)
        offsets += 16


@apart
def _clear(start, stop, part):
    """Zeros from one address to another, and likewise one part on, and two."""
    for _ in range(3):
        for place in range(start, stop, 4):
            put_number(place, np.float32(0))
        start, stop = start + part, stop + part


@apart
def _turn_channels(n, m, x, plane, out, step, edge):
    """out[t, c] = x[c, t] for 16 channels and 16 places, of which only n and m are there: zeros for the others."""
    if n < SIDE or m < SIDE:
        for c in range(SIDE):
            for t in range(SIDE):
                there = c < n and t < m
                put_number(edge + LINE * c + 4 * t, number_at(x + c * plane + 4 * t) if there else np.float32(0))
        x, plane = edge, LINE
    turn_square(x, plane, out, step)


@loop
def _beyond(largest):
    """Whether the largest of 32 numbers there, as bfloat16, is too large for the unit, or too small, and not 0."""
    most = _largest_at(largest)
    return most > 0 and not in_range(most)


# --- z -----------------------------------------------------------------------------------------------------------


@apart
def _split_places(C, H, W, x, top, rows, left, places, out, line, part, largest, scratch):
    """[C / 32, rows, places] of words of 32 channels, of x (C, H, W) from row `top` and place `left` on, zeros where it
    is not. `line`: bytes from row to row, 16 places more than that."""
    first, last, edge = max(left, 0), min(left + places, W), scratch + 2 * SQUARE
    for c in range(0, C, DEPTH):
        for row in range(top, top + rows):
            if row < 0 or row >= H or first >= last:
                _clear(out, out + places * LINE, part)
            else:
                _clear(out, out + (first - left) * LINE, part)
                for w in range(first, last, SIDE):
                    place, to = x + 4 * ((c * H + row) * W + w), out + (w - left) * LINE
                    for half in range(2):
                        some, more = C - c - half * SIDE, place + 4 * half * SIDE * H * W
                        _turn_channels(some, last - w, more, 4 * H * W, scratch + half * LINE, 2 * LINE, edge)
                    for i in range(SIDE):
                        line_i = scratch + 2 * LINE * i
                        split_along(line_i, line_i + LINE, to + LINE * i, part, largest)
                _clear(out + (last - left) * LINE, out + places * LINE, part)
            out += line


@apart
def _sum_channels(
    n, rows, wide, O, a, a_step, a_line, a_part, offsets, b, b_far, b_part, bias, z, z_line, z_step, block,  # noqa: E741
):  # fmt: skip
    """z (O, rows, wide) = bias + Σ of n squares; wide is at least 32. All else are addresses, and steps in bytes."""
    most, turned, idle = FAR // DEPTH, block + BLOCK, block + 2 * BLOCK
    for h in range(rows):
        for o in range(0, O, WIDE):
            for t in range(0, wide, WIDE):
                t = min(t, wide - WIDE)  # the last tiles compute some places a second time
                start, out = a + h * a_line + t * a_step, z + o * z_step + h * z_line + 4 * t
                for k in range(0, n, most):
                    zero_four(True)
                    _sum_at(
                        min(most, n - k), offsets + 16 * k, start, a_step, SIDE * a_step, a_part, b + o // SIDE * b_far,
                        b_far, b_part, idle,
                    )  # fmt: skip
                    store_four(turned if k else block, 4 * WIDE, True)
                    if k:
                        for i in range(0, BLOCK, 4 * WIDE):
                            add_line(turned + i, block + i, block + i)
                if bias:  # last: it may be larger than the sum, and every rounding of that would count
                    for i in range(0, BLOCK, 4 * WIDE):
                        add_line(block + i, bias + 4 * o, block + i)
                to, step = (out, z_step) if O - o >= WIDE else (turned, 4 * WIDE)
                for i in range(2):
                    for j in range(2):
                        square = block + SIDE * 4 * WIDE * i + LINE * j
                        turn_square(square, 4 * WIDE, to + SIDE * step * j + LINE * i, step)
                if O - o < WIDE:
                    for i in range(O - o):
                        copy_line(turned + 4 * WIDE * i, out + i * z_step)


@apart
def _convolve(
    start, stop, x, w, b, z, missed, room,
    C, H, W, O, J, L, high, wide, down, right, below, beside, above, before,  # noqa: E741
    rows, places, most_rows, most_wide,
):  # fmt: skip
    """See `conv_on_unit`; the first are addresses, all others whole numbers."""
    blocks, taps, line = (C + DEPTH - 1) // DEPTH, J * L, (places + SIDE) * LINE
    n, b_far = blocks * taps, blocks * taps * SQUARE
    a_part, b_part = blocks * rows * line, (O + WIDE - 1) // WIDE * 2 * b_far
    most, offsets, scratch = room, room + LINE, room + LINE + (n + 3) // 4 * LINE
    squares = scratch + 3 * BLOCK
    a = squares + 3 * b_part
    pair = offsets
    for j in range(J):
        for k in range(L):
            for c in range(blocks):
                _put_whole(pair, (c * rows + j * below) * line + k * beside * LINE)
                _put_whole(pair + 8, (pair - offsets) // 16 * SQUARE)
                pair += 16
    _clear(scratch + 2 * BLOCK, scratch + 3 * BLOCK, 0)
    _clear(most, most + LINE, 0)
    split(O, n * DEPTH, w, 4, 4 * O, squares, b_far, b_part, 1, most, scratch)
    wrong = _beyond(most)
    for i in range(start, stop):
        _clear(most, most + LINE, 0)
        for top in range(0, high, most_rows):
            for left in range(0, wide, most_wide):
                left = min(left, wide - most_wide)
                _split_places(
                    C, H, W, x + 4 * i * C * H * W, top * down - above, rows, left * right - before, places, a, line,
                    a_part, most, scratch,
                )  # fmt: skip
                _sum_channels(
                    n, min(most_rows, high - top), most_wide, O, a, right * LINE, down * line, a_part, offsets, squares,
                    b_far, b_part, b, z + 4 * ((i * O * high + top) * wide + left), 4 * wide, 4 * high * wide, scratch,
                )  # fmt: skip
        put_number(missed + 4 * i, np.float32(1 if wrong or _beyond(most) else 0))


@loop
def conv_on_unit(start, stop, x, w, b, z, missed, room, sizes):
    """z[n] = w columns + b for the examples start..stop of x (N, C, H, W); w (J L C, O) has zeros for channels up to a
    multiple of 32, b for filters, or is empty; z (N, O, H' W'). missed[n] = 1 if z[n] is wrong, as x[n] or w has
    numbers that are too large or too small, and else 0. For room and sizes see `sizes_of_conv`."""
    words = np.empty(room, np.float32)
    begin(address(SHAPES))
    bias = address(b) if b.size else 0
    _convolve(start, stop, address(x), address(w), bias, address(z), address(missed), first_line(words), *sizes)
    end()
    keep(words)


def sizes_of_conv(picture: Sizes, filters: int, settings: Sequence[Sizes]) -> tuple[int, Sizes]:
    """Room for `conv_on_unit`, in numbers, and what `_convolve` is told of a picture (C, H, W) and of the settings: the
    window, the places of z, stride, dilation and zeros before x, a pair each. So many rows and places of z are computed
    at a time that the second cache holds what they see of x."""
    K, lengths, stride, dilation, _ = settings
    blocks, taps = -(-picture[0] // DEPTH), math.prod(K)
    room = MUCH // (6 * DEPTH * blocks)  # places of x
    wide = min(lengths[1], max(WIDE, room // WIDE * WIDE))
    places = (wide - 1) * stride[1] + (K[1] - 1) * dilation[1] + 1
    high = min(lengths[0], max(1, room // places))
    rows = (high - 1) * stride[0] + (K[0] - 1) * dilation[0] + 1
    words = 3 * SIDE * blocks * (rows * (places + SIDE) + taps * -(-filters // WIDE) * WIDE)
    words += 3 * BLOCK // 4 + 4 * blocks * taps + 4 * SIDE
    return words, (*picture, filters, *(size for pair in settings for size in pair), rows, places, high, wide)


# --- ∂L/∂W -------------------------------------------------------------------------------------------------------


@apart
def _split_pairs(C, H, W, x, top, rows, left, places, move, apart_by, out, line, part, largest, scratch):
    """[C / 16, rows, places] of words of 16 channels, x at a place and `move` further on; of x (C, H, W) from row `top`
    and place `left` on, zeros where it is not. Every 2 · move-th place lies side by side, and the next of those
    `apart_by` bytes on. Each 32 channels have a line of `largest` for themselves."""
    first, last, seen = max(left, 0), min(left + places + move, W), scratch + SQUARE
    for c in range(0, C, SIDE):
        for row in range(top, top + rows):
            if row < 0 or row >= H or first >= last:
                _clear(out, out + line, part)
            else:
                _clear(seen, seen + (first - left) * LINE, 0)
                for w in range(first, last, SIDE):
                    place, to = x + 4 * ((c * H + row) * W + w), seen + (w - left) * LINE
                    _turn_channels(C - c, last - w, place, 4 * H * W, to, LINE, scratch)
                _clear(seen + (last - left) * LINE, seen + (places + move) * LINE, 0)
                for i in range(places):
                    to = out + i % (2 * move) * apart_by + i // (2 * move) * LINE
                    split_across(seen + i * LINE, seen + (i + move) * LINE, to, part, largest + c // WIDE * LINE)
            out += line


@apart
def _sum_places(n, taps, C, O, a, a_far, a_part, offsets, b, b_far, b_part, sums, step, later, idle):  # noqa: E741
    """sums[k] (O, C) += Σ of n squares for each tap k, whose offsets follow those of the tap before; = if it is not
    `later`. The sums have rows and columns in multiples of 32, and `step` bytes from row to row."""
    plane = (O + WIDE - 1) // WIDE * WIDE * step
    for o in range(0, O, WIDE):
        for c in range(0, C, WIDE):
            for k in range(taps):
                out = sums + k * plane + o * step + 4 * c
                if later:
                    load_four(out, step, True)
                else:
                    zero_four(True)
                _sum_at(
                    n, offsets + 16 * n * k, a + o // SIDE * a_far, LINE, a_far, a_part, b + c // SIDE * b_far, b_far,
                    b_part, idle,
                )  # fmt: skip
                store_four(out, step, True)


@apart
def _move(taps, O, C, added, plane, step, first, out, far):  # noqa: E741
    """out (J L, O, C) += what is added up in float32; = if it is the `first` time. From filter to filter of out there
    are `far` bytes."""
    for k in range(taps):
        for o in range(O):
            a, b = out + (k * O + o) * far, added + k * plane + o * step
            for c in range(C):
                x = np.float64(number_at(b + 4 * c))
                _put_double(a + 8 * c, x if first else _double_at(a + 8 * c) + x)


@apart
def _weigh(
    start, stop, x, g, sums, missed, room,
    N, C, H, W, O, J, L, high, wide, down, right, below, beside, above, before,  # noqa: E741
    rows, places, most_rows, most_wide, parts, side,
):  # fmt: skip
    """See `weight_on_unit`; the first are addresses, all others whole numbers."""
    blocks, taps, deep = (C + WIDE - 1) // WIDE, J * L, (most_wide + DEPTH - 1) // DEPTH
    tall, broad = (high + most_rows - 1) // most_rows, (wide + most_wide - 1) // most_wide
    pieces, apart_by, line = N * tall * broad, side * LINE, 2 * right * side * LINE
    a_far, b_far = most_rows * deep * SQUARE, rows * line
    a_part, b_part = (O + WIDE - 1) // WIDE * 2 * a_far, 2 * min(blocks, stop - start) * b_far
    step = min(blocks, stop - start) * 4 * WIDE
    plane = (O + WIDE - 1) // WIDE * WIDE * step
    most, idle, scratch = room, room + (blocks + 1) * LINE, room + (blocks + 2) * LINE
    added = scratch + max(4 * SCRATCH, (places + right + 2 * SIDE) * LINE)
    offsets = added + taps * plane
    a = offsets + (taps * most_rows * deep + 3) // 4 * LINE
    b = a + 3 * a_part
    _clear(idle, scratch, 0)
    for i in range(start // blocks, (stop + blocks - 1) // blocks):
        c = max(start - i * blocks, 0)
        channels = min(C, min(stop - i * blocks, blocks) * WIDE) - c * WIDE
        out, numbers, first = sums + 8 * (i * taps * O * C + c * WIDE), 0, 1
        _clear(most, idle, 0)
        for piece in range(pieces * i // parts, pieces * (i + 1) // parts):
            n, top, left = piece // (tall * broad), piece // broad % tall * most_rows, piece % broad * most_wide
            lines, size = min(most_rows, high - top), min(most_wide, wide - left)
            squares = (size + DEPTH - 1) // DEPTH
            pair = offsets
            for j in range(J):
                for k in range(L):
                    place = k * beside % (2 * right) * side + k * beside // (2 * right)
                    for h in range(lines):
                        row = (h * down + j * below) * line
                        for q in range(squares):
                            _put_whole(pair, (h * deep + q) * SQUARE)
                            _put_whole(pair + 8, row + (place + q * SIDE) * LINE)
                            pair += 16
            for h in range(lines):
                row, to = g + 4 * ((n * O * high + top + h) * wide + left), a + h * deep * SQUARE
                split(O, size, row, 4 * high * wide, 4, to, a_far, a_part, 0, most, scratch)
            _split_pairs(
                channels, H, W, x + 4 * (n * C + c * WIDE) * H * W, top * down - above, rows, left * right - before,
                places, right, apart_by, b, line, b_part, most + LINE, scratch,
            )  # fmt: skip
            if numbers and numbers + lines * size > LONG:
                _move(taps, O, channels, added, plane, step, first, out, 8 * C)
                numbers, first = 0, 0
            _sum_places(
                lines * squares, taps, channels, O, a, a_far, a_part, offsets, b, b_far, b_part, added, step, numbers,
                idle,
            )  # fmt: skip
            numbers += lines * size
        _move(taps, O, channels, added, plane, step, first, out, 8 * C)
        wrong = _beyond(most)
        for k in range(c, min(stop - i * blocks, blocks)):
            bad = wrong or _beyond(most + (k - c + 1) * LINE)
            put_number(missed + 4 * (i * blocks + k), np.float32(1 if bad else 0))


@loop
def weight_on_unit(start, stop, x, g, sums, missed, room, sizes):
    """sums[i] (J L, O, C) = Σ g xᵀ for the i-th part of all pieces of z; x (N, C, H, W), g (N, O, H', W'). From start
    to stop are counted each 32 channels of part after part. missed[i, c] = 1 if the sums of these are wrong, as x or g
    has numbers that are too large or too small, and else 0. For room and sizes see `sizes_of_weight`."""
    words = np.empty(room, np.float32)
    begin(address(SHAPES))
    _weigh(start, stop, address(x), address(g), address(sums), address(missed), first_line(words), *sizes)
    end()
    keep(words)


def sizes_of_weight(N: int, picture: Sizes, filters: int, settings: Sequence[Sizes]) -> tuple[Sizes, int, Sizes]:
    """In how many parts ∂L/∂W is computed, and how many times 32 channels; room for `weight_on_unit`, in numbers; and
    what `_weigh` is told, see `sizes_of_conv`. A piece of z has at most 1,024 numbers."""
    K, lengths, stride, dilation, _ = settings
    C, taps, blocks, rounded = picture[0], math.prod(K), -(-picture[0] // WIDE), -(-filters // WIDE) * WIDE
    wide = min(lengths[1], LONG // 2)
    high = max(1, min(lengths[0], LONG // wide, HELD // (12 * C * wide)))
    pieces, deep = N * -(-lengths[0] // high) * -(-lengths[1] // wide), -(-wide // DEPTH)
    parts = max(1, min(PARTS, SUMS // (taps * filters * C), pieces))
    places = (deep * DEPTH - 1) * stride[1] + (K[1] - 1) * dilation[1] + 1
    rows, side = (high - 1) * stride[0] + (K[0] - 1) * dilation[0] + 1, -(-places // (2 * stride[1]))
    room = max(SCRATCH, (places + stride[1] + 2 * SIDE) * SIDE) + 4 * (taps * high * deep + 3) + (blocks + 3) * SIDE
    room += taps * rounded * blocks * WIDE + 3 * SIDE * (rounded * high * deep + 4 * blocks * rows * stride[1] * side)
    told = (*picture, filters, *(size for pair in settings for size in pair), rows, places, high, wide, parts, side)
    return (parts, blocks), room, (N, *told)


prepare()  # now, not with all others: what has no convolution has no use for them
