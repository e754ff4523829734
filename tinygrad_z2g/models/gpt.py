"""The GPT, where it is looked for: it stands in `core/gpt.py`."""

from typing import TYPE_CHECKING

from ..core import gpt
from ..core.gpt import GPTConfig
from .generation import LanguageModel

if TYPE_CHECKING:  # who checks types sees so what is attached

    class GPT(LanguageModel, gpt.GPT): ...

else:
    GPT = gpt.GPT

__all__ = ["GPT", "GPTConfig"]
