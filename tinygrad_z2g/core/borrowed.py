"""UNTIL `core/tensor.py` and `core/ops/` are there: what the core modules take from the package meanwhile.

Then `from .borrowed import Tensor, ops` becomes `from . import ops` and `from .tensor import Tensor`.
"""

from __future__ import annotations

from typing import Any

from ..tensor import Tensor


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
__all__ = ["Tensor", "ops"]
