"""A product of matrices whose inner tile stays in registers: z = before + a b, 8 x 32 numbers of z at a time.

For a tile, each k gives one number of every row of a, and 32 neighbours in b's row k: two registers of 16, which 8 rows
share. So 16 registers collect sums, and little is read. b is first copied to panels of 32 columns, which a tile
then reads from one end to the other. With 16 rows, and panels that are made once for all steps of an LSTM, it runs
at 150 GFLOP/s on one thread where OpenBLAS, which copies b for each product, has 85; with 768 x 128 x 512 at 165 and
145. Every number of z is one sum in the order of k, in runs of 256, however the matrices are cut.

It knows nothing of threads: callers are given a part.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import int64, types
from numba.core import cgutils
from numba.extending import intrinsic

from .compiling import apart, called, loop
from .layout import address, keep

WIDE_REGISTERS = bool(binding.get_host_cpu_features().get("avx512f"))  # 32 of 16 numbers; else 16 of 8, or as good
LANES, ROWS = (16, 8) if WIDE_REGISTERS else (8, 6)
WIDE = 2 * LANES  # columns of a tile
DEEP = 256  # k taken at a time: a panel of them, 32 KiB, stays in the nearest cache
TALL, TURNED = 64, 512  # rows of a taken at a time, and copied at a time where a lies column by column
TOGETHER = 64  # numbers that one sum in float32 has, see `_turn`
BROAD = 2**18  # numbers of b copied at a time: a megabyte

_SIZE, _NUMBER = ir.IntType(64), ir.FloatType()
_LANES = ir.VectorType(_NUMBER, LANES)


@intrinsic(prefer_literal=True)
def _tile(_, rows, k, a, down, right, panel, before, before_step, z, step):
    """z = before + a b for so many `rows`, a literal. All else are addresses, and steps in bytes: from row to row of a
    (down), from column to column (right), from row to row of the others. No `before`, 0: zeros."""
    return types.void(rows, *[int64] * 9), _tile_code(rows.literal_value, False)


@intrinsic(prefer_literal=True)
def _tile_apart(_, rows, k, a, down, right, lines, offsets, before, before_step, z, step):
    """The same, where row k of b lies at lines + offsets[k]: an address, and whole numbers of bytes."""
    return types.void(rows, *[int64] * 10), _tile_code(rows.literal_value, True)


def _tile_code(n: int, apart: bool) -> Any:
    """What both compile to, for n rows."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _, k, a, down, right, panel, *offsets, before, before_step, z, step = args
        places = [(i, j) for i in range(n) for j in range(2)]

        def at(start: Any, i: int, by: Any, j: int = 0) -> Any:
            place = builder.add(builder.add(start, builder.mul(_SIZE(i), by)), _SIZE(4 * LANES * j))
            return builder.inttoptr(place, _LANES.as_pointer())

        def read(start: Any, i: int, by: Any, j: int = 0) -> Any:
            return builder.load(at(start, i, by, j), align=4)

        first = builder.block
        body, after = builder.append_basic_block("k"), builder.append_basic_block("done")
        builder.branch(body)
        builder.position_at_end(body)
        i_k, held = builder.phi(_SIZE), [builder.phi(_LANES) for _ in places]
        column, offset = builder.add(a, builder.mul(i_k, right)), builder.mul(i_k, _SIZE(4 * WIDE))
        if apart:
            place = builder.add(offsets[0], builder.mul(i_k, _SIZE(8)))
            offset = builder.load(builder.inttoptr(place, _SIZE.as_pointer()), align=8)
        line = builder.add(panel, offset)
        b = [read(line, 0, _SIZE(0), j) for j in range(2)]
        fma = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(_LANES, [_LANES] * 3), f"llvm.fma.v{LANES}f32"
        )
        new = []
        for i in range(n):
            place = builder.inttoptr(builder.add(column, builder.mul(_SIZE(i), down)), _NUMBER.as_pointer())
            one = builder.insert_element(_LANES(ir.Undefined), builder.load(place, align=4), ir.IntType(32)(0))
            same = ir.VectorType(ir.IntType(32), LANES)([0] * LANES)
            spread = builder.shuffle_vector(one, _LANES(ir.Undefined), same)
            new += [builder.call(fma, [spread, b[j], held[2 * i + j]]) for j in range(2)]
        following = builder.add(i_k, _SIZE(1))
        for phi, again in zip([i_k, *held], [following, *new], strict=True):
            phi.add_incoming(phi.type(0 if phi is i_k else [0.0] * LANES), first)
            phi.add_incoming(again, body)
        builder.cbranch(builder.icmp_signed("<", following, k), body, after)
        builder.position_at_end(after)
        with builder.if_else(builder.icmp_unsigned("!=", before, _SIZE(0))) as (there, nothing):
            with there:
                for (i, j), x in zip(places, new, strict=True):
                    builder.store(builder.fadd(read(before, i, before_step, j), x), at(z, i, step, j), align=4)
            with nothing:
                for (i, j), x in zip(places, new, strict=True):
                    builder.store(x, at(z, i, step, j), align=4)
        return context.get_dummy_value()

    return code


@intrinsic
def number_at(_, address):
    """The float32 at an address."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load(builder.inttoptr(args[0], _NUMBER.as_pointer()), align=4)

    return types.float32(int64), code


@intrinsic
def put_number(_, address, x):
    """x as the float32 at an address."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store(args[1], builder.inttoptr(args[0], _NUMBER.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(int64, types.float32), code


@apart
def _tiles(rows, k, a, down, right, leap, panel, before, before_step, z, step):
    """The same for any number of rows; leap: from the rows of one tile to those of the next."""
    tall = before_step * ROWS
    for _ in range(rows // ROWS):
        _tile(ROWS, k, a, down, right, panel, before, before_step, z, step)
        a, z = a + leap, z + ROWS * step
        if before:
            before += tall
    rows %= ROWS
    while rows >= 2:
        _tile(2, k, a, down, right, panel, before, before_step, z, step)
        a, z, rows = a + 2 * down, z + 2 * step, rows - 2
        if before:
            before += 2 * before_step
    if rows:
        _tile(1, k, a, down, right, panel, before, before_step, z, step)


@apart
def _tiles_apart(rows, k, a, down, lines, offsets, before, before_step, z, step):
    """As `_tiles`, but b as in `_tile_apart`; a lies row by row."""
    while rows > 0:
        n = 1
        if rows >= ROWS:
            n = ROWS
            _tile_apart(ROWS, k, a, down, 4, lines, offsets, before, before_step, z, step)
        elif rows >= 2:
            n = 2
            _tile_apart(2, k, a, down, 4, lines, offsets, before, before_step, z, step)
        else:
            _tile_apart(1, k, a, down, 4, lines, offsets, before, before_step, z, step)
        a, z, rows = a + n * down, z + n * step, rows - n
        if before:
            before += n * before_step


@apart
def _with_lines(n, K, a, down, lines, offsets, m, start, start_step, z, step):
    """See `with_lines`; all are addresses and steps in bytes."""
    for left in range(0, m, WIDE):
        left = 4 * min(left, m - WIDE)
        for deep in range(0, K, DEEP):
            before, before_step = (z + left, step) if deep else (start, start_step)
            k, more = min(DEEP, K - deep), offsets + 8 * deep
            _tiles_apart(n, k, a + 4 * deep, down, lines + left, more, before, before_step, z + left, step)


@loop
def with_lines(a, lines, offsets, m, start, z):
    """z = start + a b for m columns, at least 32; row k of b lies `offsets[k]` bytes after the address `lines`.

    a (n, k) lies row by row; start (n, 32), each row one number, or empty. If 32 does not divide m, the last tile
    computes some columns a second time.
    """
    (n, K), before = a.shape, address(start) if start.size else 0
    offsets = address(offsets)
    _with_lines(n, K, address(a), a.strides[0], lines, offsets, m, before, start.strides[0], address(z), z.strides[0])


@intrinsic
def turn_square(_, a, step, out, out_step):
    """out[j, i] = a[i, j] for 16 x 16 numbers in registers: whoever has bit d set in i but not in j changes places with
    its mirror, for d = 1, 2, 4, 8. All are addresses and steps in bytes."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        def at(start: Any, i: int, step: Any) -> Any:
            return builder.inttoptr(builder.add(start, builder.mul(_SIZE(i), step)), _LANES.as_pointer())

        rows, kind, d = [builder.load(at(args[0], i, args[1]), align=4) for i in range(LANES)], ir.IntType(32), 1
        while d < LANES:
            low = [x + LANES - d if x & d else x for x in range(LANES)]  # numbers of b count from LANES on
            high = [x + LANES if x & d else x + d for x in range(LANES)]
            for i in range(LANES):
                if not i & d:
                    a, b = rows[i], rows[i + d]
                    rows[i], rows[i + d] = (
                        builder.shuffle_vector(a, b, ir.VectorType(kind, LANES)(mask)) for mask in (low, high)
                    )
            d *= 2
        for i, row in enumerate(rows):
            builder.store(row, at(args[2], i, args[3]), align=4)
        return context.get_dummy_value()

    return types.void(int64, int64, int64, int64), code


@intrinsic
def copy_line(_, a, out):
    """32 numbers from one address to another."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        a, out = (builder.inttoptr(x, _LANES.as_pointer()) for x in args)
        both = [builder.load(builder.gep(a, [_SIZE(i)]), align=4) for i in range(2)]
        for i, x in enumerate(both):
            builder.store(x, builder.gep(out, [_SIZE(i)]), align=4)
        return context.get_dummy_value()

    return types.void(int64, int64), code


@apart
def _turn_panel(n, K, a, step, panel):
    """panel[k, j] = a[j, k] for as many of n rows and K columns as make whole squares."""
    for j in range(0, n - LANES + 1, LANES):
        for k in range(0, K - LANES + 1, LANES):
            turn_square(a + j * step + 4 * k, step, panel + 4 * (k * WIDE + j), 4 * WIDE)


@intrinsic
def _copy_rows(_, a, out):
    """As many numbers as a tile has rows, from one address to another."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        a, out = (builder.inttoptr(x, ir.VectorType(_NUMBER, ROWS).as_pointer()) for x in args)
        builder.store(builder.load(a, align=4), out, align=4)
        return context.get_dummy_value()

    return types.void(int64, int64), code


@intrinsic
def _copy_rows_adding(_, a, out, sums):
    """The same, and sums += these numbers."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        a, out, sums = (builder.inttoptr(x, ir.VectorType(_NUMBER, ROWS).as_pointer()) for x in args)
        x = builder.load(a, align=4)
        builder.store(x, out, align=4)
        builder.store(builder.fadd(builder.load(sums, align=4), x), sums, align=4)
        return context.get_dummy_value()

    return types.void(int64, int64, int64), code


@apart
def _fill_panels(K, m, b, down, right, panels):
    """See `fill_panels`; all are addresses and steps in bytes."""
    for first in range(0, m, WIDE):
        n, start, panel = min(WIDE, m - first), b + first * right, panels + 4 * K * first
        if n == WIDE and right == 4:
            for k in range(K):
                copy_line(start + k * down, panel + 4 * WIDE * k)
            continue
        if n < WIDE:
            for i in range(K * WIDE):
                put_number(panel + 4 * i, np.float32(0))
        whole = K // LANES * LANES if down == 4 else 0
        if whole:
            _turn_panel(n, K, start, right, panel)
        for k in range(K):
            for j in range(n // LANES * LANES if k < whole else 0, n):
                put_number(panel + 4 * (k * WIDE + j), number_at(start + k * down + j * right))


@loop
def fill_panels(b, panels):
    """panels[p, k] = b[k, 32 p : 32 p + 32], zeros beyond the last column: (k, m) -> (m / 32, k, 32)."""
    _fill_panels(b.shape[0], b.shape[1], address(b), b.strides[0], b.strides[1], address(panels))


@loop
def panels_for(k, m):
    """Room for the panels of (k, m) numbers."""
    return np.empty(((m + WIDE - 1) // WIDE, k, WIDE), np.float32)


@called
def in_panels(b):
    """b in panels of its own."""
    panels = panels_for(*b.shape)
    fill_panels(b, panels)
    return panels


@apart
def _along_panels(rows, k, a, down, right, leap, panel, panel_step, m, before, before_step, z, step):
    """The same by addresses and steps, see `_tiles`, for as many panels as m columns take."""
    edge = np.empty((rows if m % WIDE else 0, WIDE), np.float32)  # a tile has no other width
    while m >= WIDE:
        _tiles(rows, k, a, down, right, leap, panel, before, before_step, z, step)
        panel, z, m = panel + panel_step, z + 4 * WIDE, m - WIDE
        if before:
            before += 4 * WIDE
    if m:
        _tiles(rows, k, a, down, right, leap, panel, 0, 0, address(edge), 4 * WIDE)
        for i in range(rows):
            for j in range(m):
                x = edge[i, j]
                if before:
                    x += number_at(before + i * before_step + 4 * j)
                put_number(z + i * step + 4 * j, x)


@apart
def _with_panels(rows, K, a, down, right, leap, panels, m, before, before_step, z, step):
    """See `with_panels`; all are addresses and steps in bytes."""
    for deep in range(0, K, DEEP):
        k, part = min(DEEP, K - deep), panels + 4 * WIDE * deep
        _along_panels(rows, k, a + deep * right, down, right, leap, part, 4 * WIDE * K, m, before, before_step, z, step)
        before, before_step = z, step


@loop
def with_panels(a, panels, m, before, before_step, z):
    """z = before + a b for b (k, m) in panels; before as an address, see `_tile`; rows of z lie number by number."""
    down, right = a.strides
    (rows, K), leap = a.shape, ROWS * down
    _with_panels(
        rows, K, address(a), down, right, leap, address(panels), m, before, before_step, address(z), z.strides[0]
    )


@apart
def _turn(n, K, a, down, right, out, leap, sums, sums_step):
    """out[t, k, r] = a[8 t + r, k], with steps of `leap` bytes from t to t + 1. Mostly a lies column by column.

    sums[k // 64, i] += a[i, k], if there are `sums`, with so many bytes from row to row.
    """
    whole = n // ROWS if down == 4 else 0
    for k in range(K):
        line, start, row = a + k * right, out + 4 * ROWS * k, sums + k // TOGETHER * sums_step
        for t in range(whole):
            if sums:
                _copy_rows_adding(line + 4 * ROWS * t, start + leap * t, row + 4 * ROWS * t)
            else:
                _copy_rows(line + 4 * ROWS * t, start + leap * t)
        for i in range(ROWS * whole, n):
            x = number_at(line + down * i)
            put_number(start + leap * (i // ROWS) + 4 * (i % ROWS), x)
            if sums:
                put_number(row + 4 * i, number_at(row + 4 * i) + x)


@apart
def _multiply(n, K, m, a, down, right, b, b_down, b_right, row, z, step, panels, broad, copy, sums, sums_step):
    """See `multiply_and_sum`; all are addresses and steps in bytes; the panels have room for `broad` columns."""
    tall, far = TALL, 4 * ROWS * (DEEP + 2)  # + 2: what lies a power of two apart pushes each other out of the cache
    if right != 4:
        tall = TURNED
    for left in range(0, m, broad):
        columns = min(broad, m - left)
        _fill_panels(K, columns, b + left * b_right, b_down, b_right, panels)
        for top in range(0, n, tall):
            rows, out = min(tall, n - top), z + top * step + 4 * left
            for deep in range(0, K, DEEP):
                k, start, part = min(DEEP, K - deep), a + top * down + deep * right, panels + 4 * WIDE * deep
                before, before_step = out, step
                if deep == 0:
                    before_step = 0
                    before = row + 4 * left if row else 0
                if right == 4:
                    _along_panels(
                        rows, k, start, down, 4, ROWS * down, part, 4 * WIDE * K, columns, before, before_step, out,
                        step,
                    )  # fmt: skip
                else:  # its rows are copied, so that those of a tile lie side by side
                    more = 0 if left or sums == 0 else sums + deep // TOGETHER * sums_step + 4 * top
                    _turn(rows, k, start, down, right, copy, far, more, sums_step)
                    _along_panels(
                        rows, k, copy, 4, 4 * ROWS, far, part, 4 * WIDE * K, columns, before, before_step, out, step
                    )


@loop
def multiply(a, b, row, z):
    """z = a b, plus `row` in each row if it is not empty; a (n, k) and b (k, m) with any strides."""
    multiply_and_sum(a, b, row, z, 0, 0)


@loop
def multiply_and_sum(a, b, row, z, sums, sums_step):
    """The same. If a lies column by column and `sums` is no 0 but an address, then there, with so many bytes from row
    to row, sums[i] += the numbers of each row of a, of its i-th 64 columns: ready for `add_up`."""
    (n, k), m, (down, right) = a.shape, b.shape[1], a.strides
    copy = np.empty(0 if right == 4 else (min(n, TURNED) // ROWS + 1) * ROWS * (DEEP + 2), np.float32)
    broad = max(1, BROAD // (k * WIDE)) * WIDE
    panels = panels_for(k, min(m, broad))
    _multiply(
        n, k, m, address(a), down, right, address(b), b.strides[0], b.strides[1], address(row) if row.size else 0,
        address(z), z.strides[0], address(panels), broad, address(copy), sums, sums_step,
    )  # fmt: skip
    keep(panels)
    keep(copy)
