"""How things look in a notebook: a tensor as a table whose colours show sign and size, a picture as a picture.

It knows nothing of tensors: it is given a NumPy array, and facts as text.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

SHOWN = 10  # rows and columns, before the middle is left out


def html(host: np.ndarray, facts: list[str]) -> str:
    """A table of the numbers, red above zero and blue below, under a line of `facts`.

    Of more than two dimensions, the first matrix is shown. A colour is full at the largest finite size in the table;
    what is not finite is black.
    """
    matrix, more = _first_matrix(host)
    facts = [*facts, *more]
    head = f'<div style="color:#6b7685;font:12px monospace">{_escape(" · ".join(facts))}</div>'
    if not host.size:
        return head
    rows, columns = _some(matrix.shape[0]), _some(matrix.shape[1])
    seen = np.abs(matrix[np.ix_([i for i in rows if i is not None], [j for j in columns if j is not None])] * 1.0)
    largest = float(seen.max(where=np.isfinite(seen), initial=0.0)) or 1.0
    lines = [[_cell(None if i is None or j is None else matrix[i, j], largest) for j in columns] for i in rows]
    body = "".join(f"<tr>{''.join(line)}</tr>" for line in lines)
    return f'<div>{head}<table style="border-collapse:collapse;font:11px monospace">{body}</table></div>'


def table(host: np.ndarray) -> dict[str, Any]:
    """The same for a page that draws the table itself: {"shape", "facts", "rows"}, of numbers that JSON can hold.

    Four digits of each; None where the middle is left out; "nan" and "inf" as text.
    """
    matrix, facts = _first_matrix(host)
    rows = []
    if host.size:
        columns = _some(matrix.shape[1])
        for i in _some(matrix.shape[0]):
            rows.append([None if i is None or j is None else _plain(matrix[i, j]) for j in columns])
    return {"shape": list(host.shape), "facts": " · ".join(facts), "rows": rows}


class Picture:
    """A PNG for a notebook to show."""

    def __init__(self, png: bytes):
        self.png = png

    def _repr_png_(self) -> bytes:
        return self.png


def in_notebook() -> bool:
    """Whether this program runs in a kernel, such as Jupyter's: then IPython is there, and has been imported."""
    ipython = sys.modules.get("IPython")
    shell = ipython and ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


def show(thing: Any) -> bool:
    """Show what has a `_repr_..._` method, where there is a notebook to show it in. Returns whether there is."""
    if in_notebook():
        sys.modules["IPython"].display.display(thing)
        return True
    return False


def _first_matrix(host: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """The matrix that is shown, and what is said of the whole array."""
    facts = []
    matrix = host
    if host.ndim > 2 and host.size:
        matrix = host[(0,) * (host.ndim - 2)]
        facts.append(f"shown: [{', '.join('0' * (host.ndim - 2))}, :, :]")
    if host.dtype.kind == "f" and host.size > 6:
        with np.errstate(all="ignore"):  # these are for looking at numbers gone wrong, too
            low, mean, high = host.min(), host.mean(dtype=np.float64), host.max()
        facts.append(f"min {low:.4g}, mean {mean:.4g}, max {high:.4g}")
    return np.atleast_2d(matrix), facts


def _plain(value: np.generic) -> float | int | str:
    """A number as JSON has it."""
    x = float(value)
    if not np.isfinite(x):
        return str(x)
    return float(f"{x:.4g}") + 0 if value.dtype.kind == "f" else int(value)  # + 0 makes 0 of -0


def _some(n: int) -> list[int | None]:
    """All indices below n, or the first and last ones around None."""
    return list(range(n)) if n <= SHOWN else [*range(SHOWN // 2), None, *range(n - SHOWN // 2 + 1, n)]


def _cell(value: np.generic | None, largest: float) -> str:
    if value is None:
        return '<td style="text-align:center;color:#888">…</td>'
    x = float(value)
    if not np.isfinite(x):
        colour, ink = "#222", "#fff"
    else:
        fade = round(255 - 150 * min(1.0, abs(x) / largest))
        colour, ink = f"rgb(255,{fade},{fade})" if x > 0 else f"rgb({fade},{fade},255)", "#222"
    text = f"{x:.4g}" if value.dtype.kind == "f" else str(value)
    return f'<td style="background:{colour};color:{ink};text-align:right;padding:2px 6px">{text}</td>'


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
