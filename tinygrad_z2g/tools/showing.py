"""How a tensor is printed: as torch prints it, and as a table in a notebook.

It reads numbers and names, and knows nothing of what they mean.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..arrays import backend, dtypes
from ..core.engine import Variable, source
from . import notebook

_PROFILES: dict[str, dict[str, Any]] = {
    "default": {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80},
    "short": {"precision": 2, "threshold": 1000, "edgeitems": 2, "linewidth": 80},
    "full": {"precision": 4, "threshold": math.inf, "edgeitems": 3, "linewidth": 80},
}
_options: dict[str, Any] = {**_PROFILES["default"], "sci_mode": None}


def set_printoptions(
    precision: int | None = None, threshold: float | None = None, edgeitems: int | None = None,
    linewidth: int | None = None, profile: str | None = None, sci_mode: bool | None = None,
) -> None:  # fmt: skip
    """How tensors print: digits after the point, from how many elements on the middle is left out (`threshold`), how
    many remain at each end (`edgeitems`), characters in a line, powers of ten always or never (None: where the numbers
    are very large, small or unlike). `profile` "default", "short" or "full" sets all but the last."""
    if profile is not None:
        if profile not in _PROFILES:
            raise ValueError(f"set_printoptions: got profile {profile!r}, expected one of {', '.join(_PROFILES)}")
        _options.update(_PROFILES[profile])
    given = {"precision": precision, "threshold": threshold, "edgeitems": edgeitems, "linewidth": linewidth}
    _options.update({name: value for name, value in given.items() if value is not None})
    _options["sci_mode"] = sci_mode


def text(x: Variable) -> str:
    """`tensor([[1., 2.]], grad_fn=<mul>)`; large ones with their middle left out."""
    host = backend.to_host(x.array)
    out = "tensor(" + ("[]" if not host.size else _numbers(host, len("tensor(")))
    facts = []
    if x.array.size == 0 and x.array.ndim != 1:
        facts.append(f"size={tuple(x.array.shape)}")
    device = backend.device_of(x.array)
    if device.type != "cpu":
        facts.append(f"device='{device}'")
    plain = (dtypes.get_default_dtype(), dtypes.int64, dtypes.bool_) if host.size else (dtypes.get_default_dtype(),)
    if x.array.dtype not in plain:
        facts.append(f"dtype={x.array.dtype}")
    if made_by := _made_by(x):
        facts.append(f"grad_fn=<{made_by}>")
    elif x._requires_grad:
        facts.append("requires_grad=True")
    at = len(out) - out.rfind("\n") - 1  # how far the last line goes
    for fact in facts:
        fits = at + len(fact) + 2 <= _options["linewidth"]
        out += f", {fact}" if fits else f",\n       {fact}"
        at = at + len(fact) + 2 if fits else 7 + len(fact)
    return out + ")"


def _numbers(host: np.ndarray, indent: int) -> str:
    """Nested brackets around numbers of one width, the inner ones on lines of their own."""
    edge, cut = _options["edgeitems"], host.size > _options["threshold"]
    seen = host
    for axis, n in enumerate(host.shape):
        if cut and n > 2 * edge:
            seen = np.take(seen, [*range(edge), *range(n - edge, n)], axis)
    spell = _speller(seen)

    def rows(a: np.ndarray, indent: int) -> str:
        if not a.ndim:
            return spell(a.item())
        shortened = cut and len(a) > 2 * edge
        parts = [*a[:edge], None, *a[len(a) - edge :]] if shortened else list(a)
        if a.ndim > 1:
            inside = ["..." if part is None else rows(part, indent + 1) for part in parts]
            return "[" + ("," + "\n" * (a.ndim - 1) + " " * (indent + 1)).join(inside) + "]"
        words = [" ..." if part is None else spell(part.item()) for part in parts]
        each = max(1, (_options["linewidth"] - indent) // (len(spell(seen.flat[0].item())) + 2))
        lines = [", ".join(words[i : i + each]) for i in range(0, len(words), each)]
        return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"

    return rows(host, indent)


def _speller(a: np.ndarray) -> Any:
    """How each number of `a` is written, all equally wide: with a point if they are whole, in powers of ten where they
    are beyond 10⁸, below 10⁻⁴ or more than 1,000 times as large as each other."""
    if a.dtype.kind != "f":
        width = max(len(str(v)) for v in a.reshape(-1).tolist())
        return lambda value: str(value).rjust(width)
    finite = a[np.isfinite(a) & (a != 0)].astype(np.float64)
    whole, digits, powers = bool((finite == np.ceil(finite)).all()), _options["precision"], False
    if finite.size:
        low, high = abs(finite).min(), abs(finite).max()
        powers = high / low > 1000 or high > 1e8 or low < 1e-4
        powers = powers if _options["sci_mode"] is None else _options["sci_mode"]

    def spelled(value: float) -> str:
        if powers:
            return f"{value:.{digits}e}"
        if whole:
            return f"{value:.0f}" + "." * math.isfinite(value)
        return f"{value:.{digits}f}"

    width = max(map(len, map(spelled, finite.tolist())), default=1)  # zeros, inf and NaN do not count, as in torch
    return lambda value: spelled(value).rjust(width)


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
    return "" if isinstance(made_by, Variable) else made_by.name
