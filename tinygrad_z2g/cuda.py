"""Questions about the GPUs, under torch's names: `z2g.cuda.is_available()`.

It knows nothing of CUDA itself: `backend` asks, and this file gives the answers their usual names.
"""

from .backend import device_count, is_available, set_device, synchronize
from .random import manual_seed

__all__ = ["device_count", "is_available", "manual_seed", "set_device", "synchronize"]
