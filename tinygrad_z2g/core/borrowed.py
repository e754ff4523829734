"""UNTIL all of `core/ops/` is there: what the core modules take from the package meanwhile.

Then `from .borrowed import ops` becomes `from . import ops`.
"""

from __future__ import annotations

from typing import Any


class _Operations:
    """The names of `core.ops`."""

    def __getattr__(self, name: str) -> Any:
        from .. import creation
        from ..nn import functional as F
        from ..ops import linalg, reduction, shape

        found = next(getattr(m, name) for m in (F, shape, reduction, linalg, creation) if hasattr(m, name))
        setattr(self, name, found)
        return found


ops: Any = _Operations()
