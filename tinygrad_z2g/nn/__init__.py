"""Layers, and the functions they are made of.

This file knows nothing of how they work: it gathers what the files beside it offer.
"""

# isort: off
# `GELU as GELU`: so a type checker knows that the name is for users, and not for this file alone
from . import functional as functional, init as init, quantized as quantized, utils as utils
from .activation import (
    CELU as CELU, ELU as ELU, GELU as GELU, GLU as GLU, Hardshrink as Hardshrink, Hardsigmoid as Hardsigmoid,
    Hardswish as Hardswish, Hardtanh as Hardtanh, LeakyReLU as LeakyReLU, LogSigmoid as LogSigmoid,
    LogSoftmax as LogSoftmax, Mish as Mish, PReLU as PReLU, ReLU as ReLU, ReLU6 as ReLU6, RReLU as RReLU, SELU as SELU,
    Sigmoid as Sigmoid, SiLU as SiLU, Sine as Sine, Softmax as Softmax, Softmax2d as Softmax2d, Softmin as Softmin,
    Softplus as Softplus, Softshrink as Softshrink, Softsign as Softsign, Tanh as Tanh, Tanhshrink as Tanhshrink,
    Threshold as Threshold,
)  # fmt: skip
from .attention import MultiheadAttention as MultiheadAttention
from .cache import Cache as Cache
from .container import (
    ModuleDict as ModuleDict, ModuleList as ModuleList, ParameterDict as ParameterDict, ParameterList as ParameterList,
    Sequential as Sequential,
)  # fmt: skip
from .conv import (
    AdaptiveAvgPool1d as AdaptiveAvgPool1d, AdaptiveAvgPool2d as AdaptiveAvgPool2d,
    AdaptiveMaxPool1d as AdaptiveMaxPool1d, AdaptiveMaxPool2d as AdaptiveMaxPool2d, AvgPool1d as AvgPool1d,
    AvgPool2d as AvgPool2d, Conv1d as Conv1d, Conv2d as Conv2d, ConvTranspose1d as ConvTranspose1d,
    ConvTranspose2d as ConvTranspose2d, MaxPool1d as MaxPool1d, MaxPool2d as MaxPool2d,
)  # fmt: skip
from .dropout import AlphaDropout as AlphaDropout, Dropout as Dropout, Dropout1d as Dropout1d, Dropout2d as Dropout2d
from .embedding import Embedding as Embedding, EmbeddingBag as EmbeddingBag
from .encoder_decoder import (
    Transformer as Transformer, TransformerDecoder as TransformerDecoder,
    TransformerDecoderLayer as TransformerDecoderLayer, TransformerEncoder as TransformerEncoder,
    TransformerEncoderLayer as TransformerEncoderLayer,
)  # fmt: skip
from .lazy import (
    LazyBatchNorm1d as LazyBatchNorm1d, LazyBatchNorm2d as LazyBatchNorm2d, LazyConv1d as LazyConv1d,
    LazyConv2d as LazyConv2d, LazyLinear as LazyLinear, UninitializedParameter as UninitializedParameter,
)  # fmt: skip
from .linear import Flatten as Flatten, Linear as Linear, Unflatten as Unflatten
from .lora import (
    LoRA as LoRA, add_lora as add_lora, load_lora_state_dict as load_lora_state_dict,
    lora_state_dict as lora_state_dict, merge_lora as merge_lora,
)  # fmt: skip
from .loss import (
    BCELoss as BCELoss, BCEWithLogitsLoss as BCEWithLogitsLoss, CosineEmbeddingLoss as CosineEmbeddingLoss,
    CrossEntropyLoss as CrossEntropyLoss, CTCLoss as CTCLoss, GaussianNLLLoss as GaussianNLLLoss,
    HingeEmbeddingLoss as HingeEmbeddingLoss, HuberLoss as HuberLoss, KLDivLoss as KLDivLoss, L1Loss as L1Loss,
    MarginRankingLoss as MarginRankingLoss, MSELoss as MSELoss, MultiLabelSoftMarginLoss as MultiLabelSoftMarginLoss,
    MultiMarginLoss as MultiMarginLoss, NLLLoss as NLLLoss, PoissonNLLLoss as PoissonNLLLoss,
    SmoothL1Loss as SmoothL1Loss, SoftMarginLoss as SoftMarginLoss, TripletMarginLoss as TripletMarginLoss,
)  # fmt: skip
from .module import Identity as Identity, Module as Module, Parameter as Parameter
from .norm import (
    BatchNorm1d as BatchNorm1d, BatchNorm2d as BatchNorm2d, BatchNorm3d as BatchNorm3d, GroupNorm as GroupNorm,
    InstanceNorm1d as InstanceNorm1d, InstanceNorm2d as InstanceNorm2d, LayerNorm as LayerNorm,
    LocalResponseNorm as LocalResponseNorm, RMSNorm as RMSNorm,
)  # fmt: skip
from .pairs import Bilinear as Bilinear, CosineSimilarity as CosineSimilarity, PairwiseDistance as PairwiseDistance
from .parallel import DataParallel as DataParallel
from .picture import (
    ChannelShuffle as ChannelShuffle, CircularPad1d as CircularPad1d, CircularPad2d as CircularPad2d,
    ConstantPad1d as ConstantPad1d, ConstantPad2d as ConstantPad2d, Fold as Fold, PixelShuffle as PixelShuffle,
    PixelUnshuffle as PixelUnshuffle, ReflectionPad1d as ReflectionPad1d, ReflectionPad2d as ReflectionPad2d,
    ReplicationPad1d as ReplicationPad1d, ReplicationPad2d as ReplicationPad2d, Unfold as Unfold, Upsample as Upsample,
    UpsamplingBilinear2d as UpsamplingBilinear2d, UpsamplingNearest2d as UpsamplingNearest2d, ZeroPad1d as ZeroPad1d,
    ZeroPad2d as ZeroPad2d,
)  # fmt: skip
from .quantized import QuantizedEmbedding as QuantizedEmbedding, QuantizedLinear as QuantizedLinear
from .recurrent import (
    GRU as GRU, LSTM as LSTM, RNN as RNN, GRUCell as GRUCell, LSTMCell as LSTMCell, RNNCell as RNNCell,
)  # fmt: skip
from .transformer import CausalSelfAttention as CausalSelfAttention, TransformerBlock as TransformerBlock
