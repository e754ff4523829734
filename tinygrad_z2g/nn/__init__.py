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
from .encoder_decoder import (
    Transformer,
    TransformerDecoder,
    TransformerDecoderLayer,
    TransformerEncoder,
    TransformerEncoderLayer,
)
from .lazy import LazyConv1d, LazyConv2d, LazyLinear, UninitializedParameter
from .linear import Flatten, Linear
from .lora import LoRA, add_lora, load_lora_state_dict, lora_state_dict, merge_lora
from .loss import BCELoss, BCEWithLogitsLoss, CrossEntropyLoss, L1Loss, MSELoss, NLLLoss
from .module import Identity, Module, Parameter
from .norm import LayerNorm, RMSNorm
from .quantized import QuantizedEmbedding, QuantizedLinear
from .recurrent import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell
from .transformer import CausalSelfAttention, TransformerBlock
