"""Models that several examples share.

Nothing else in the package knows of them, and this file knows nothing of what is inside.
"""

from .bert import Bert, BertConfig
from .generation import LanguageModel
from .gpt import GPT, GPTConfig
from .llama import Llama, LlamaConfig
