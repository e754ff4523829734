"""The GPT, where it is looked for, with rotary positions. It stands in `core/gpt.py`."""

from __future__ import annotations

from typing import Any

from ..core.attach import attach
from ..core.gpt import GPT, GPTConfig
from ..nn import functional as F
from ..tensor import Tensor

__all__ = ["GPT", "GPTConfig"]


class GPTMethods:
    """What is attached to `GPT`."""

    def angles(self: Any, positions: Tensor) -> tuple[Tensor, Tensor]:
        """cos and sin of the angles by which queries and keys at these positions (T,) are turned."""
        return F.rotary_angles(positions, self.config.width // self.config.heads, self.config.rope_base)


attach(GPT, GPTMethods)
