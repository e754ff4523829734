"""Models that several examples share.

Nothing else in the package knows of them, and this file knows nothing of what is inside.
"""

# isort: off
from .bert import Bert as Bert, BertConfig as BertConfig
from .generation import LanguageModel as LanguageModel
from .gpt import GPT as GPT, GPTConfig as GPTConfig
from .llama import Llama as Llama, LlamaConfig as LlamaConfig
