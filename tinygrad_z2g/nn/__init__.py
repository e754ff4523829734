"""Layers, and the functions they are made of.

This file knows nothing of how they work: it gathers what the files beside it offer.
"""

# isort: off
from . import functional, init, quantized, utils
from .activation import (
    CELU, ELU, GELU, GLU, Hardshrink, Hardsigmoid, Hardswish, Hardtanh, LeakyReLU, LogSigmoid, LogSoftmax, Mish, PReLU,
    ReLU, ReLU6, RReLU, SELU, Sigmoid, SiLU, Sine, Softmax, Softmax2d, Softmin, Softplus, Softshrink, Softsign, Tanh,
    Tanhshrink, Threshold,
)  # fmt: skip
from .attention import MultiheadAttention
from .cache import Cache
from .container import ModuleDict, ModuleList, ParameterDict, ParameterList, Sequential
from .conv import (
    AdaptiveAvgPool1d, AdaptiveAvgPool2d, AdaptiveMaxPool1d, AdaptiveMaxPool2d, AvgPool1d, AvgPool2d, Conv1d, Conv2d,
    ConvTranspose1d, ConvTranspose2d, MaxPool1d, MaxPool2d,
)  # fmt: skip
from .dropout import AlphaDropout, Dropout, Dropout1d, Dropout2d
from .embedding import Embedding, EmbeddingBag
from .encoder_decoder import (
    Transformer, TransformerDecoder, TransformerDecoderLayer, TransformerEncoder, TransformerEncoderLayer,
)  # fmt: skip
from .lazy import LazyBatchNorm1d, LazyBatchNorm2d, LazyConv1d, LazyConv2d, LazyLinear, UninitializedParameter
from .linear import Flatten, Linear, Unflatten
from .lora import LoRA, add_lora, load_lora_state_dict, lora_state_dict, merge_lora
from .loss import (
    BCELoss, BCEWithLogitsLoss, CosineEmbeddingLoss, CrossEntropyLoss, CTCLoss, GaussianNLLLoss, HingeEmbeddingLoss,
    HuberLoss, KLDivLoss, L1Loss, MarginRankingLoss, MSELoss, MultiLabelSoftMarginLoss, MultiMarginLoss, NLLLoss,
    PoissonNLLLoss, SmoothL1Loss, SoftMarginLoss, TripletMarginLoss,
)  # fmt: skip
from .module import Identity, Module, Parameter
from .norm import (
    BatchNorm1d, BatchNorm2d, BatchNorm3d, GroupNorm, InstanceNorm1d, InstanceNorm2d, LayerNorm, LocalResponseNorm,
    RMSNorm,
)  # fmt: skip
from .pairs import Bilinear, CosineSimilarity, PairwiseDistance
from .parallel import DataParallel
from .picture import (
    ChannelShuffle, CircularPad1d, CircularPad2d, ConstantPad1d, ConstantPad2d, Fold, PixelShuffle, PixelUnshuffle,
    ReflectionPad1d, ReflectionPad2d, ReplicationPad1d, ReplicationPad2d, Unfold, Upsample, UpsamplingBilinear2d,
    UpsamplingNearest2d, ZeroPad1d, ZeroPad2d,
)  # fmt: skip
from .quantized import QuantizedEmbedding, QuantizedLinear
from .recurrent import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell
from .transformer import CausalSelfAttention, TransformerBlock
