"""Compiling a .cu file, choosing how many threads run it, and handing it its arguments."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np

from ...arrays.backend import Array, of

FOLDER = Path(__file__).parent
REAL = {"e": "half", "f": "float", "d": "double"}  # NumPy's letter for a dtype, the kernels' name of it

# Threads. A warp has 32; four or eight warps per block let a card's processors switch from one that waits for memory to
# one that does not. (The usual choices; not yet tuned on a card.)
WARP, ELEMENTS_BLOCK, LONG_ROW, LONG_BLOCK = 32, 256, 1024, 512


@functools.cache
def kernel(xp: ModuleType, file: str, name: str, char: str) -> Callable:
    """The kernel `name` of `file`.cu, for the dtype with this letter in `REAL`; compiled when first asked for."""
    return xp.RawModule(code=source(file), options=(f"-Dreal={REAL[char]}",)).get_function(name)


def source(file: str) -> str:
    """The text that the compiler is given: what all files share, and the file. (#line: where its messages point to.)

    In ASCII, with a question mark for each other character, all of them in comments: CuPy writes the text to a file in
    the locale's encoding, and that of Windows has no Σ.
    """
    paths = [FOLDER / f"{part}.cu" for part in ("common", file)]
    text = "\n".join(f'#line 1 "{path.name}"\n' + path.read_text(encoding="utf-8") for path in paths)
    return text.encode("ascii", "replace").decode()


def fits(a: Array, *others: Array, half: bool = False) -> bool:
    """Whether a kernel can take these: not empty, all float32 or all float64, all on the current card.

    `half`: or all float16, for the kernels that autocast needs it in.
    """
    xp, dtype = of(a), a.dtype
    if xp is np or dtype.char not in REAL or (dtype.char == "e" and not half):
        return False
    card = xp.cuda.get_device_id()
    return all(
        isinstance(x, xp.ndarray) and x.size and x.dtype == dtype and x.data.device_id == card for x in (a, *others)
    )


def number(a: Array) -> type:
    """The type of numbers passed to kernels that work on `a`, and of sums (`accurate` in the sources)."""
    return np.float32 if a.dtype == np.float16 else a.dtype.type


def over_rows(a: Array, file: str, name: str, rows: int, columns: int, args: tuple) -> None:
    """Run a kernel that works on rows: four rows per block, a warp each, or for long rows a block each."""
    if columns <= LONG_ROW:
        blocks, block = -(-rows // 4), (WARP, 4)
    else:
        blocks, block = rows, (LONG_BLOCK, 1)
    kernel(of(a), file, name, a.dtype.char)((blocks,), block, args)


def over_elements(a: Array, file: str, name: str, n: int, args: tuple) -> None:
    """Run a kernel that works on n elements, whatever their order."""
    blocks = min(-(-n // ELEMENTS_BLOCK), 8192)  # each thread takes several elements where there are more
    kernel(of(a), file, name, a.dtype.char)((blocks,), (ELEMENTS_BLOCK,), args)


# --- Many arrays at once -----------------------------------------------------------------------------------------


def tables(most: int, names: str, parts: list[tuple[Array, ...]]) -> Iterator[tuple[np.ndarray, tuple, int]]:
    """The arrays of each part as a C struct {size[most], name[most], ...} of addresses, `most` parts at a time.

    With each table comes the grid (blocks for the largest array, number of parts) and the number of blocks.
    """
    layout = np.dtype([(field, np.int64 if field == "size" else np.uintp, most) for field in ("size", *names)])
    for start in range(0, len(parts), most):
        some = parts[start : start + most]
        table = np.zeros(1, layout)  # CuPy passes a NumPy array of size 1 by value
        table["size"][0, : len(some)] = sizes = [arrays[0].size for arrays in some]
        for i, field in enumerate(names):
            table[field][0, : len(some)] = [arrays[i].data.ptr for arrays in some]
        # The grid is as wide as the largest array needs. Of the small ones' blocks most find nothing to do.
        blocks = min(-(-max(sizes) // ELEMENTS_BLOCK), 256)
        yield table, (blocks, len(some)), blocks * len(some)
