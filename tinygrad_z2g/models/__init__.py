"""Models that several examples share."""

from .gpt import GPT, GPTConfig
