"""Layers, and the functions they are made of."""

from . import functional, init, utils
from .activation import GELU, ReLU, Sigmoid, SiLU, Sine, Softmax, Tanh
from .attention import MultiheadAttention
from .conv import AvgPool1d, Conv1d, Conv2d, MaxPool1d, MaxPool2d
from .dropout import Dropout
from .embedding import Embedding
from .linear import Flatten, Linear
from .loss import CrossEntropyLoss, L1Loss, MSELoss
from .module import Identity, Module, ModuleDict, ModuleList, Parameter, Sequential
from .norm import LayerNorm
from .recurrent import LSTM, LSTMCell
from .transformer import CausalSelfAttention, TransformerBlock
