"""Convolution on the matrix unit, see `matrix_unit`: what the windows see is never written out, for z and for ∂L/∂W.

A tile is read by rows of 64 bytes, a step apart, and twice to five times as fast from the beginning of a line of the
cache. So x is split into words that lie in such rows, whichever tap of the window asks, and however far it moves:

- For z the sum is over channels. The row of a place has 32 of them, and 16 places are a square of a = columnsᵀ, so that
  tap k finds its own k rows further on. The filters are b. z comes out turned: places x filters.
- For ∂L/∂W it is over places. A row has a word of each of 16 channels: x at a place, and where the next window sees it.
  Tap k begins k rows further on, and takes every second row; those lie side by side. The gradient is a.

Places are taken by rows of z, 32 at a time. A sum in float32 has at most 512 numbers for z, and 1,024 for ∂L/∂W, where
the rest is in float64. It knows nothing of threads: callers are given a part.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import int64, types
from numba.extending import intrinsic

from .compiling import apart, loop
from .layout import address, keep
from .matrix_unit import (
    DEPTH,
    FAR,
    SCRATCH,
    SHAPES,
    SIDE,
    SQUARE,
    WIDE,
    _add_line,
    _aligned,
    _begin,
    _deep,
    _end,
    _fits,
    _load,
    _multiply,
    _split,
    _split_across,
    _split_along,
    _store,
    _zero,
)
from .tiles import copy_line, number_at, put_number, turn_square

LINE = 4 * SIDE  # bytes of a row of a square
BLOCK = 4 * WIDE * WIDE  # bytes of four squares of z
MUCH = 2**19  # bytes of x at a time, split: a part of the second cache
LONG = 1024  # numbers that a sum of ∂L/∂W in float32 has at most


@intrinsic
def _whole_at(_, address):
    """The whole number of 64 bits at an address."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load(builder.inttoptr(args[0], ir.IntType(64).as_pointer()), align=8)

    return int64(int64), code


@intrinsic
def _stay_awake(_, place):
    """16 numbers of no interest, added to themselves. Where the processor computes with no register of 64 bytes for 2,000
    steps, it turns off what does that, and the next `_store` waits 0.3 µs: 10 to 20 % of a convolution's time."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        place = builder.inttoptr(args[0], ir.VectorType(ir.FloatType(), SIDE).as_pointer())
        x = builder.load(place, align=4)
        builder.store(builder.fadd(x, x), place, align=4)
        return context.get_dummy_value()

    return types.void(int64), code


# --- What both need ----------------------------------------------------------------------------------------------


@loop
def _load_a(place, far, step):
    _load(4, place, step)
    _load(5, place + far, step)


@loop
def _load_b(place, far):
    _load(6, place, LINE)
    _load(7, place + far, LINE)


@loop
def _multiply_all():
    _multiply(0, 4, 6)
    _multiply(1, 4, 7)
    _multiply(2, 5, 6)
    _multiply(3, 5, 7)


@loop
def _load_four(place, step):
    _load(0, place, step)
    _load(1, place + LINE, step)
    _load(2, place + SIDE * step, step)
    _load(3, place + SIDE * step + LINE, step)


@loop
def _zero_four():
    _zero(0)
    _zero(1)
    _zero(2)
    _zero(3)


@loop
def _store_four(place, step):
    _store(0, place, step)
    _store(1, place + LINE, step)
    _store(2, place + SIDE * step, step)
    _store(3, place + SIDE * step + LINE, step)


@apart
def _sum_at(n, offsets, a, a_step, a_far, a_part, b, b_far, b_part, idle):
    """The tiles 0 to 3 += the six products of two squares of a, `a_far` bytes apart, and two of b, for n places in both:
    at `offsets` there are two whole numbers of bytes for each. The rows of a are `a_step` bytes apart."""
    for _ in range(n):
        a_0, b_0 = a + _whole_at(offsets), b + _whole_at(offsets + 8)
        _load_a(a_0 + 2 * a_part, a_far, a_step)
        _load_b(b_0, b_far)
        _multiply_all()
        _load_a(a_0 + a_part, a_far, a_step)
        _multiply_all()
        _load_b(b_0 + b_part, b_far)
        _multiply_all()
        _load_a(a_0, a_far, a_step)
        _multiply_all()
        _load_b(b_0 + 2 * b_part, b_far)
        _multiply_all()
        _load_b(b_0, b_far)
        _multiply_all()
        _stay_awake(idle)
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
                        _split_along(line_i, line_i + LINE, to + LINE * i, part, largest)
                _clear(out + (last - left) * LINE, out + places * LINE, part)
            out += line


@apart
def _sum_channels(
    n, rows, wide, O, a, a_step, a_line, a_part, offsets, b, b_far, b_part, bias, z, z_line, z_step, block
):  # fmt: skip
    """z (O, rows, wide) = bias + Σ of n squares; wide is at least 32. All else are addresses, and steps in bytes."""
    most, turned, idle = FAR // DEPTH, block + BLOCK, block + 2 * BLOCK
    for h in range(rows):
        for o in range(0, O, WIDE):
            for t in range(0, wide, WIDE):
                t = min(t, wide - WIDE)  # the last tiles compute some places a second time
                start, out = a + h * a_line + t * a_step, z + o * z_step + h * z_line + 4 * t
                for k in range(0, n, most):
                    if k == 0:
                        _load(0, bias + 4 * o, 0)  # in each row
                        _load(1, bias + 4 * o + LINE, 0)
                        _load(2, bias + 4 * o, 0)
                        _load(3, bias + 4 * o + LINE, 0)
                    else:
                        _zero_four()
                    _sum_at(
                        min(most, n - k), offsets + 16 * k, start, a_step, SIDE * a_step, a_part, b + o // SIDE * b_far,
                        b_far, b_part, idle,
                    )  # fmt: skip
                    _store_four(turned if k else block, 4 * WIDE)
                    if k:
                        for i in range(0, BLOCK, 4 * WIDE):
                            _add_line(turned + i, block + i, block + i)
                to, step = (out, z_step) if O - o >= WIDE else (turned, 4 * WIDE)
                for i in range(2):
                    for j in range(2):
                        square = block + SIDE * 4 * WIDE * i + LINE * j
                        turn_square(square, 4 * WIDE, to + SIDE * step * j + LINE * i, step)
                if O - o < WIDE:
                    for i in range(O - o):
                        copy_line(turned + 4 * WIDE * i, out + i * z_step)


@loop
def conv_on_unit(start, stop, x, w, b, O, K, stride, dilation, lengths, pads, z, missed):
    """z[n] = w columns + b for the examples start..stop of x (N, C, H, W); w (J L C, O), where C is a multiple of 32, b
    of 32 too; z (N, O, H' W'). missed[n] = whether z[n] is wrong: x[n] or w has too large or too small numbers."""
    (C, H, W), (J, L), (high, wide) = x.shape[1:], K, lengths
    blocks = w.shape[0] // (J * L * DEPTH)
    n, room = w.shape[0] // DEPTH, MUCH // (6 * DEPTH * blocks)  # places of x at a time
    wide = min(wide, max(WIDE, room // WIDE * WIDE))
    places = (wide - 1) * stride[1] + (L - 1) * dilation[1] + 1
    high = min(high, max(1, room // places))
    rows, line = (high - 1) * stride[0] + (J - 1) * dilation[0] + 1, (places + SIDE) * LINE
    b_far = n * SQUARE
    a_part, b_part = blocks * rows * line, (O + WIDE - 1) // WIDE * 2 * b_far
    words, block = np.empty(3 * (a_part + b_part) // 4 + SIDE, np.float32), np.zeros(3 * BLOCK // 4 + SIDE, np.float32)
    most, offsets = np.zeros(2 * SIDE, np.uint16), np.empty((n, 2), np.int64)
    a, scratch = _aligned(words), _aligned(block)
    squares = a + 3 * a_part
    _split(O, n * DEPTH, address(w), 4, w.strides[0], squares, b_far, b_part, 1, address(most), scratch)
    largest = most.max()
    bad = largest > 0 and not _fits(largest)
    for i in range(n):
        j, k, c = i // blocks // L, i // blocks % L, i % blocks
        offsets[i, 0] = (c * rows + j * dilation[0]) * line + k * dilation[1] * LINE
        offsets[i, 1] = i * SQUARE
    _begin(address(SHAPES))
    for i in range(start, stop):
        most[:] = 0
        for top in range(0, lengths[0], high):
            for left in range(0, lengths[1], wide):
                left = min(left, lengths[1] - wide)
                _split_places(
                    C, H, W, address(x) + i * x.strides[0], top * stride[0] - pads[0], rows, left * stride[1] - pads[1],
                    places, a, line, a_part, address(most), scratch,
                )  # fmt: skip
                out = address(z) + i * z.strides[0] + 4 * (top * lengths[1] + left)
                _sum_channels(
                    n, min(high, lengths[0] - top), wide, O, a, stride[1] * LINE, stride[0] * line, a_part,
                    address(offsets), squares, b_far, b_part, address(b), out, 4 * lengths[1], z.strides[1], scratch,
                )  # fmt: skip
        largest = most.max()
        missed[i] = bad or (largest > 0 and not _fits(largest))
    _end()
    keep(words)
    keep(block)
    keep(most)
    keep(offsets)


# --- ∂L/∂W -------------------------------------------------------------------------------------------------------


@apart
def _split_pairs(C, H, W, x, top, rows, left, places, move, apart_by, out, line, part, largest, scratch):
    """[C / 16, rows, places] of words of 16 channels, x at a place and `move` further on; of x (C, H, W) from row `top`
    and place `left` on, zeros where it is not. Every 2 · move-th place lies side by side, and the next of those
    `apart_by` bytes on."""
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
                    _split_across(seen + i * LINE, seen + (i + move) * LINE, to, part, largest)
            out += line


@apart
def _sum_places(n, taps, C, O, a, a_far, a_part, offsets, b, b_far, b_part, sums, step, later, idle):
    """sums[k] (O, C) += Σ of n squares for each tap k, whose offsets follow those of the tap before; = if it is not
    `later`. The sums have rows and columns in multiples of 32, and `step` bytes from row to row."""
    plane = (O + WIDE - 1) // WIDE * WIDE * step
    for o in range(0, O, WIDE):
        for c in range(0, C, WIDE):
            for k in range(taps):
                out = sums + k * plane + o * step + 4 * c
                if later:
                    _load_four(out, step)
                else:
                    _zero_four()
                _sum_at(
                    n, offsets + 16 * n * k, a + o // SIDE * a_far, LINE, a_far, a_part, b + c // SIDE * b_far, b_far,
                    b_part, idle,
                )  # fmt: skip
                _store_four(out, step)


@loop
def _move(added, left, channels, first, out):
    """out (J L, O, C) += added for so many channels from `left` on; = if it is the `first` time."""
    for k in range(out.shape[0]):
        for o in range(out.shape[1]):
            a, b = out[k, o, left : left + channels], added[k, o]
            for c in range(a.size):
                a[c] = np.float64(b[c]) if first else a[c] + b[c]


@loop
def weight_on_unit(start, stop, x, g, K, stride, dilation, pads, size, sums, missed):
    """sums[i] (J L, O, C) = Σ g xᵀ for the i-th part of all pieces of z, of so many (rows, places); x (N, C, H, W), g
    (N, O, H', W'). From start to stop are counted 32 channels of a part after the other; missed[i, c] = whether the sums
    of these are wrong, as x or g has too large or too small numbers."""
    (H, W), (J, L), (O, tall, broad), (high, wide) = x.shape[2:], K, g.shape[1:], size  # noqa: E741
    down, across, move, deep = (tall + high - 1) // high, (broad + wide - 1) // wide, stride[1], _deep(wide)
    pieces, blocks = x.shape[0] * down * across, missed.shape[1]
    places = (deep * DEPTH - 1) * move + (L - 1) * dilation[1] + 1
    apart_by = (places + 2 * move - 1) // (2 * move) * LINE
    rows, line = (high - 1) * stride[0] + (J - 1) * dilation[0] + 1, 2 * move * apart_by
    a_far, b_far = high * deep * SQUARE, rows * line
    filters, most_blocks = (O + WIDE - 1) // WIDE * WIDE, min(blocks, stop - start)
    a_part, b_part = filters // SIDE * a_far, 2 * most_blocks * b_far
    words = np.empty(3 * (a_part + b_part) // 4 + SIDE, np.float32)
    scratch = np.zeros(max(SCRATCH, SIDE * (places + move + 2 * SIDE)) + 2 * SIDE, np.float32)
    added = np.empty((J * L, filters, WIDE * most_blocks), np.float32)
    most, offsets = np.empty((2, 2 * SIDE), np.uint16), np.empty((J * L * high * deep, 2), np.int64)
    a, room = _aligned(words), _aligned(scratch)
    b, idle = a + 3 * a_part, room + 4 * (scratch.size - 2 * SIDE)
    _begin(address(SHAPES))
    for i in range(start // blocks, (stop + blocks - 1) // blocks):
        c_first, c_last = max(start - i * blocks, 0), min(stop - i * blocks, blocks)
        channels = min(x.shape[1], c_last * WIDE) - c_first * WIDE
        most[:] = 0
        numbers, first = 0, True
        for piece in range(pieces * i // sums.shape[0], pieces * (i + 1) // sums.shape[0]):
            n, top, left = piece // (down * across), piece // across % down * high, piece % across * wide
            lines, size_now = min(high, tall - top), min(wide, broad - left)
            squares = _deep(size_now)
            for at in range(J * L * lines * squares):
                tap, h, q = at // (lines * squares), at // squares % lines, at % squares
                row, place = h * stride[0] + tap // L * dilation[0], tap % L * dilation[1]
                offsets[at, 0] = (h * deep + q) * SQUARE
                offsets[at, 1] = row * line + place % (2 * move) * apart_by + (place // (2 * move) + q * SIDE) * LINE
            for h in range(lines):
                begin, to = address(g) + n * g.strides[0] + 4 * ((top + h) * broad + left), a + h * deep * SQUARE
                _split(O, size_now, begin, g.strides[1], 4, to, a_far, a_part, 0, address(most), room)
            _split_pairs(
                channels, H, W, address(x) + n * x.strides[0] + c_first * WIDE * x.strides[1],
                top * stride[0] - pads[0], rows, left * move - pads[1], places, move, apart_by, b, line, b_part,
                address(most[1]), room,
            )  # fmt: skip
            if numbers and numbers + lines * size_now > LONG:
                _move(added, c_first * WIDE, channels, first, sums[i])
                numbers, first = 0, False
            _sum_places(
                lines * squares, J * L, channels, O, a, a_far, a_part, address(offsets), b, b_far, b_part,
                address(added), added.strides[1], numbers, idle,
            )  # fmt: skip
            numbers += lines * size_now
        _move(added, c_first * WIDE, channels, first, sums[i])
        largest, small = most[0].max(), most[1].max()
        for c in range(c_first, c_last):
            missed[i, c] = (largest > 0 and not _fits(largest)) or (small > 0 and not _fits(small))
    _end()
    keep(words)
    keep(scratch)
    keep(added)
    keep(most)
    keep(offsets)
