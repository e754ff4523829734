"""Mixed precision, where torch has it: `autocast` and `GradScaler` of the room `half/`, which knows nothing of this."""

from .half.precision import autocast
from .half.scaler import GradScaler

__all__ = ["GradScaler", "autocast"]
