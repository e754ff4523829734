"""The GPT, where it is looked for, with rotary positions. It stands in `core/gpt.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..core import gpt
from ..core.attach import attach
from ..core.gpt import GPTConfig
from ..nn import functional as F
from ..tensor import Tensor
from .generation import LanguageModel

__all__ = ["GPT", "GPTConfig"]


class GPTMethods:
    """What is attached to `GPT`."""

    def angles(self: Any, positions: Tensor) -> tuple[Tensor, Tensor]:
        """cos and sin of the angles by which queries and keys at these positions (T,) are turned."""
        return F.rotary_angles(positions, self.config.width // self.config.heads, self.config.rope_base)


if TYPE_CHECKING:  # who checks types sees so what is attached

    class GPT(LanguageModel, gpt.GPT): ...

else:
    GPT = gpt.GPT
    attach(GPT, GPTMethods)
