"""Models that several examples share.

Nothing else in the package knows of them, and this file knows nothing of what is inside.
"""

from .gpt import GPT, GPTConfig
