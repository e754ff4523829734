"""Mixed precision, where torch has it: `autocast` and `GradScaler` of the room `half/`."""

from .half.precision import autocast
from .half.scaler import GradScaler

__all__ = ["GradScaler", "autocast"]
