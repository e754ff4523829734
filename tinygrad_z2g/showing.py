"""How a tensor is printed: as torch prints it, and as a table in a notebook.

It reads numbers and names, and knows nothing of what they mean.
"""

from __future__ import annotations

import numpy as np

from . import backend, dtypes, notebook
from .engine import Variable, source


def text(x: Variable) -> str:
    """`tensor([[1., 2.]], grad_fn=<mul>)`; large ones with their middle left out."""
    host = backend.to_host(x.array)
    whole = host.dtype.kind != "f" or bool((np.isfinite(host) & (host == np.round(host)) & (abs(host) < 60_000)).all())
    numbers = np.array2string(
        host, separator=", ", prefix="tensor(", precision=4, floatmode="maxprec" if whole else "fixed"
    )
    parts = [numbers]
    if x.array.size == 0 and x.array.ndim > 1:
        parts.append(f"size={tuple(x.array.shape)}")
    device = backend.device_of(x.array)
    if device.type != "cpu":
        parts.append(f"device='{device}'")
    if x.array.dtype not in (dtypes.get_default_dtype(), dtypes.int64, dtypes.bool_):
        parts.append(f"dtype={x.array.dtype}")
    if made_by := _made_by(x):
        parts.append(f"grad_fn=<{made_by}>")
    elif x._requires_grad:
        parts.append("requires_grad=True")
    return "tensor(" + ", ".join(parts) + ")"


def html(x: Variable) -> str:
    """What a notebook shows: see `notebook.html`."""
    facts = [type(x).__name__, str(tuple(x.array.shape)), str(x.array.dtype), str(backend.device_of(x.array))]
    if made_by := _made_by(x):
        facts.append(f"grad_fn=<{made_by}>")
    elif x._requires_grad:
        facts.append("requires_grad")
    return notebook.html(backend.to_host(x.array), facts)


def _made_by(x: Variable) -> str:
    """The name of the operation that made x; empty for a leaf."""
    try:
        made_by = source(x)
    except RuntimeError:  # as torch says of a view that cannot follow a change: looking at its numbers is no mistake
        return "Invalid"
    return "" if made_by is x else made_by.name
