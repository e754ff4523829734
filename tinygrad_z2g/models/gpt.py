"""The GPT, where it is looked for: it stands in `core/gpt.py`."""

from ..core.gpt import GPT, GPTConfig

__all__ = ["GPT", "GPTConfig"]
