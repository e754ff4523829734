"""Layers, and the functions they are made of.

This file knows nothing of how they work: it gathers what the files beside it offer.
"""

from . import functional, init, quantized, utils
from .activation import GELU, LeakyReLU, LogSoftmax, ReLU, Sigmoid, SiLU, Sine, Softmax, Softplus, Tanh
from .attention import MultiheadAttention
from .cache import Cache
from .container import ModuleDict, ModuleList, Sequential
from .conv import AvgPool1d, Conv1d, Conv2d, MaxPool1d, MaxPool2d
from .dropout import Dropout
from .embedding import Embedding
from .linear import Flatten, Linear
from .lora import LoRA, add_lora, load_lora_state_dict, lora_state_dict, merge_lora
from .loss import BCELoss, BCEWithLogitsLoss, CrossEntropyLoss, L1Loss, MSELoss, NLLLoss
from .module import Identity, Module, Parameter
from .norm import LayerNorm, RMSNorm
from .parallel import DataParallel
from .quantized import QuantizedEmbedding, QuantizedLinear
from .recurrent import LSTM, LSTMCell
from .transformer import CausalSelfAttention, TransformerBlock
