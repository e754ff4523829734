"""What `python -m tinygrad_z2g.gradcheck` checks: every differentiable operation and layer, at fixed random points.

A case is a function (or module) and its inputs. The points keep away from kinks and poles, where no derivative exists;
the tests of the project draw others, of every shape (`tests/op_table.py`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from ... import creation, nn
from ...arrays.random import manual_seed
from ...nn import functional as F
from ...nn.quantized import quantized_linear
from ...nn.recurrent import gru_scan, lstm_scan, rnn_scan
from ...nn.utils.rnn import pack_padded_sequence
from ...ops import elementwise, indexing, linalg, reduction, shape, softmax, sorting
from ...tensor import Tensor
from .further import add_further
from .layers import layer_cases

Case = tuple[str, Callable, list]
ALL = slice(None)


def points(low: float, high: float) -> Callable[..., Tensor]:
    """A maker of float64 tensors with elements between low and high, all different, that require grad."""
    rng = np.random.default_rng(1)

    def make(*size: int) -> Tensor:
        n = max(1, int(np.prod(size)))
        values = (low + (high - low) * (np.arange(n) + rng.uniform(0.2, 0.8, n)) / n)[rng.permutation(n)]
        return creation.tensor(values.reshape(size), requires_grad=True)

    return make


def ids(*values: Any) -> Tensor:
    """Integers, which are passed on without gradient."""
    return creation.tensor(list(values))


def same_numbers(fn: Callable) -> Callable:
    """A function that draws random numbers, made to draw the same at every call."""

    def seeded(*args: Any) -> Any:
        manual_seed(0)
        return fn(*args)

    return seeded


def cases() -> list[Case]:
    """All of them, freshly made, at the same points each time."""
    any_, positive, inside, unit = points(-2.03, 2), points(0.2, 2), points(-0.9, 0.9), points(0.05, 0.95)
    mask = creation.tensor([[True, False, True], [False, True, False]])
    where = creation.tensor([[2, 0], [1, 1]])
    found: list[Case] = []

    def add(name: str, fn: Callable, *inputs: Any) -> None:
        found.append((name, fn, list(inputs)))

    everywhere = "neg square exp expm1 sin cos tanh atan sinh cosh sigmoid erf abs sign floor ceil round"
    for names, draw in (
        (everywhere, any_),
        ("sqrt rsqrt reciprocal log log2 log1p", positive),
        ("asin acos tan", inside),
    ):
        for name in names.split():
            for size in ((2, 3), ()):
                add(name, getattr(elementwise, name), draw(*size))
    add("relu", elementwise.relu, any_(2, 3))
    add("relu", elementwise.relu, positive())
    for name in ("add", "sub", "mul", "div", "maximum", "minimum", "remainder"):
        second = positive if name in ("div", "remainder") else any_
        add(name, getattr(elementwise, name), any_(2, 3), second(3))
        add(name, getattr(elementwise, name), any_(2, 1), second(2, 2, 3))
    add("pow", elementwise.pow, positive(2, 3), any_(3))
    for n in (2, 3, 0.5, -1):
        add("pow", lambda x, n=n: x**n, positive(4))
    add("pow, n = 0", lambda x: x**0, positive(4))
    add("div, rounded", lambda x, y: elementwise.div(x, y, rounding_mode="floor"), any_(4), positive(4))
    add("lerp", elementwise.lerp, any_(3), any_(3), any_(2, 3))
    add("clamp", lambda x: x.clamp(-1, 1), any_(9))
    add("clamp", elementwise.clamp, any_(9), points(-1.5, -1)(9), positive(9))
    add("where", lambda x, y: elementwise.where(mask, x, y), any_(3), any_(2, 3))
    add("masked_fill", lambda x, v: x.masked_fill(mask, v), any_(2, 3), any_())

    for name in ("sum", "mean", "var", "std", "amax", "amin", "norm", "prod", "logsumexp"):
        fn = getattr(softmax if name == "logsumexp" else reduction, name)
        for kwargs in ({"dim": 1}, {"dim": 0, "keepdim": True}, {"dim": -1}):
            add(name, lambda x, fn=fn, kwargs=kwargs: fn(x, **kwargs), any_(3, 4))
        if name != "logsumexp":
            add(name, fn, any_(3, 4))
    for name in ("max", "min"):
        add(name, lambda x, name=name: getattr(x, name)(1).values, any_(3, 4))
    for name in ("cumsum", "cumprod"):
        add(name, lambda x, name=name: getattr(x, name)(1), any_(2, 4))
    for name in ("prod", "cumsum", "cumprod"):
        add(name, lambda x, name=name: getattr(x, name)(0), any_())
        add(name, lambda x, name=name: getattr(x, name)(1), any_(2, 3, 2))
    for name in ("softmax", "log_softmax"):
        add(name, lambda x, name=name: getattr(x, name)(1), any_(2, 3, 2))
        add(f"{name}, 0-d", lambda x, name=name: getattr(x, name)(0), any_())
    add("softmax", lambda x: softmax.softmax(x, 1), any_(2, 4))
    add("softmax", lambda x: softmax.softmax(x * 50, 0), any_(3, 2))
    add("log_softmax", lambda x: softmax.log_softmax(x, 1), any_(2, 4))
    add("sort", lambda x: sorting.sort(x, 1, True).values, any_(2, 4))
    add("topk", lambda x: sorting.topk(x, 2, 0).values, any_(4, 2))

    for sizes in (((2, 3), (3, 4)), ((3,), (3,)), ((2, 1, 2, 3), (4, 3, 2)), ((2, 2, 3), (3, 2)), ((2, 3), (3,))):
        add("matmul", linalg.matmul, *(any_(*size) for size in sizes))
    add("mm", linalg.mm, any_(2, 3), any_(3, 2))
    add("bmm", linalg.bmm, any_(2, 2, 3), any_(2, 3, 2))
    add("mv", linalg.mv, any_(2, 3), any_(3))
    add("dot", linalg.dot, any_(3), any_(3))
    add("outer", linalg.outer, any_(2), any_(3))
    add("einsum", lambda x, y: linalg.einsum("bij,bkj->bik", x, y), any_(2, 2, 3), any_(2, 2, 3))
    add("einsum", lambda x, y: linalg.einsum("ii,ij", x, y), any_(3, 3), any_(3, 2))
    add("tensordot", lambda x, y: linalg.tensordot(x, y, ([0], [1])), any_(3, 2), any_(2, 3))

    moves: dict[str, Callable] = {
        "reshape": lambda x: x.reshape(3, 4), "view": lambda x: x.view(-1), "flatten": lambda x: x.flatten(1),
        "unflatten": lambda x: x.unflatten(2, (1, 3)), "squeeze": lambda x: x.unsqueeze(1).squeeze(1),
        "unsqueeze": lambda x: x.unsqueeze(0), "transpose": lambda x: x.transpose(0, 2), "t": lambda x: x[0].t(),
        "permute": lambda x: x.permute(2, 0, 1), "movedim": lambda x: x.movedim(0, 2),
        "expand": lambda x: x[:1].expand(4, 2, 3), "repeat": lambda x: x.repeat(2, 1, 1), "tile": lambda x: x.tile(2),
        "roll": lambda x: x.roll(1, 2), "flip": lambda x: x.flip(0, 2), "tril": lambda x: x.tril(),
        "triu": lambda x: x.triu(1), "diagonal": lambda x: x.diagonal(0, 1, 2), "diag": lambda x: x[0].diag(),
        "contiguous": lambda x: x.mT.contiguous(), "broadcast_to": lambda x: shape.broadcast_to(x[0], (3, 2, 3)),
        "split": lambda x: x.split(2, 2), "chunk": lambda x: x.chunk(2, 2), "unbind": lambda x: x.unbind(1),
        "narrow": lambda x: x.narrow(2, 1, 2), "select": lambda x: x.select(1, -1),
        "index": lambda x: x[:, [1, 0, 1], ..., 1:], "masked_select": lambda x: x[0].masked_select(mask),
        "index_select": lambda x: x.index_select(2, ids(2, 2, 0)),
        "repeat_interleave": lambda x: x.repeat_interleave(2, 1), "gather": lambda x: x[0].gather(1, where),
        "take_along_dim": lambda x: x[0].take_along_dim(where, 1), "clone": lambda x: x.clone(),
        "cat": lambda x: shape.cat([x, x[:, :1]], 1), "stack": lambda x: shape.stack([x, x * 2], 1),
        "hstack": lambda x: shape.hstack([x, x]), "vstack": lambda x: shape.vstack([x, x]),
    }  # fmt: skip
    for name, fn in moves.items():
        add(name, fn, any_(2, 2, 3))
    add(
        "scatter", lambda x, src: indexing.scatter(x, 1, creation.tensor([[2, 0], [1, 2]]), src), any_(2, 3), any_(2, 2)
    )
    add("scatter_add", lambda x, src: indexing.scatter_add(x, 1, where, src), any_(2, 3), any_(2, 2))
    add("transpose", lambda x: x.transpose(0, -1), any_())
    add("diag, vector", lambda x: x.diag(1), any_(3))
    add("roll", lambda x: x.roll(2), any_(2, 3))
    add("roll", lambda x: x.roll((1, 2), (0, 1)), any_(2, 3))
    add("index_put", lambda x, v: _assigned(x, v, (ALL, 1)), any_(2, 3), any_(2))
    add("index_put", lambda x, v: _assigned(x, v, (ALL, [2, 0])), any_(3, 3), any_(1, 3, 2))

    for approximate in ("none", "tanh"):
        add("F.gelu", lambda x, a=approximate: F.gelu(x, a), any_(2, 3))
        add("F.bias_gelu", lambda x, b, a=approximate: F.bias_gelu(x, b, a), any_(2, 3), any_(3))
    add("F.silu", F.silu, any_(4))
    add("F.softplus", F.softplus, any_(4))
    add("F.softplus", lambda x: F.softplus(x, beta=2, threshold=1), any_(5))
    add("F.leaky_relu", F.leaky_relu, any_(4))
    add("F.mse_loss", F.mse_loss, any_(2, 3), any_(2, 3))
    add("F.l1_loss", F.l1_loss, any_(2, 3), any_(2, 3))
    for smoothing in (0.0, 0.1):
        add("F.cross_entropy", lambda x, s=smoothing: F.cross_entropy(x, ids(2, 0), label_smoothing=s), any_(2, 3))
    classes = positive(3).detach()
    for reduction_ in ("none", "sum", "mean"):
        loss = functools.partial(F.cross_entropy, reduction=reduction_)
        add("F.cross_entropy", lambda x, w, f=loss: f(x, ids([2, 0], [1, 2]), w), any_(2, 3, 2), classes)
        add("F.cross_entropy", lambda x, w, f=loss: f(x, ids(1, 2), w), any_(2, 3), classes)
    add("F.cross_entropy", lambda x: F.cross_entropy(x, ids([2, 0])), any_(1, 3, 2))
    add("F.nll_loss", lambda x: F.nll_loss(x, ids(2, 0)), any_(2, 3))
    add("F.binary_cross_entropy", F.binary_cross_entropy, unit(5), unit(5))
    add("F.binary_cross_entropy_with_logits", F.binary_cross_entropy_with_logits, any_(5), unit(5))
    add("F.layer_norm", lambda x, w, b: F.layer_norm(x, (4,), w, b), any_(2, 4), any_(4), any_(4))
    add("F.layer_norm", lambda x, w, b: F.layer_norm(x, (2, 3), w, b), any_(2, 2, 3), any_(2, 3), any_(2, 3))
    add("F.layer_norm", lambda x: F.layer_norm(x, (4,)), any_(3, 4))
    add("F.rms_norm", lambda x, w: F.rms_norm(x, (4,), w), any_(2, 4), any_(4))
    add("F.rms_norm", lambda x: F.rms_norm(x, (2, 3)), any_(2, 2, 3))
    for interleaved in (False, True):
        turn = functools.partial(F.rotary_embedding, cos=positive(3, 2).detach(), sin=any_(3, 2).detach())
        add("F.rotary_embedding", functools.partial(turn, interleaved=interleaved), any_(2, 3, 4))
    add("F.normalize", F.normalize, any_(2, 4))
    add("F.cosine_similarity", F.cosine_similarity, any_(2, 4), any_(2, 4))
    add("F.dropout", same_numbers(lambda x: F.dropout(x, 0.5)), any_(20))  # of 8, seed 0 drops all
    add("F.dropout, p = 1", lambda x: F.dropout(x, 1.0), any_(4))
    add("F.linear", F.linear, any_(2, 2, 3), any_(2, 3), any_(2))
    add("F.embedding", lambda w: F.embedding(ids([1, 2], [1, 0]), w), any_(3, 2))
    add("F.embedding", lambda w: F.embedding(ids(512, 3, 3, 400), w), any_(513, 1))
    add("F.pad", lambda x: F.pad(x, (1, 2)), any_(2, 3))
    add("F.max_pool1d", lambda x: F.max_pool1d(x, 2, 1), any_(1, 2, 5))
    add("F.max_pool2d", lambda x: F.max_pool2d(x, 2), any_(1, 1, 4, 4))
    add("F.max_pool1d", lambda x: F.max_pool1d(x, 2), any_(2, 4))
    add("F.avg_pool1d", lambda x: F.avg_pool1d(x, 2), any_(2, 4))
    add("F.avg_pool1d", lambda x: F.avg_pool1d(x, 3, 2, 1), any_(1, 2, 5))
    quants = creation.tensor(np.arange(96, dtype=np.uint8).reshape(2, 16, 3) * 5)
    block = any_(2, 3).detach()  # scales, and offsets as well
    add("quantized_linear", lambda x: quantized_linear(x, quants, block.to(x.dtype), block.to(x.dtype)), any_(2, 64))
    for causal in (False, True):
        attend = functools.partial(F.scaled_dot_product_attention, is_causal=causal)
        add("F.attention", attend, any_(2, 3, 2), any_(2, 3, 2), any_(2, 3, 4))
    grouped = functools.partial(F.scaled_dot_product_attention, is_causal=True, enable_gqa=True)
    add("F.attention", grouped, any_(4, 3, 2), any_(2, 3, 2), any_(2, 3, 4))
    dropping = same_numbers(functools.partial(F.scaled_dot_product_attention, dropout_p=0.3))
    add("F.attention", dropping, any_(2, 3, 2), any_(2, 3, 2), any_(2, 3, 4))
    for nonlinearity in ("tanh", "relu"):
        scan = functools.partial(rnn_scan, nonlinearity=nonlinearity)
        add(f"rnn_scan, {nonlinearity}", scan, any_(3, 2, 2), any_(2, 2), any_(2, 2))
    add("gru_scan", gru_scan, any_(3, 2, 6), any_(2, 2), any_(6, 2), any_(6))
    add("gru_scan", gru_scan, any_(3, 2, 6), any_(2, 2), any_(6, 2))
    add("lstm_scan", lstm_scan, any_(3, 2, 8), any_(2, 2), any_(2, 2), any_(8, 2))

    add_further(add, any_, positive, inside)

    manual_seed(0)
    add("nn.Linear", nn.Linear(3, 2).double(), any_(4, 3))
    add("nn.Embedding", nn.Embedding(5, 3).double(), ids(1, 4, 1))
    add("nn.Conv1d", nn.Conv1d(2, 3, 3, stride=2, padding=1, dilation=2).double(), any_(2, 2, 7))
    add("nn.Conv2d", nn.Conv2d(2, 2, (2, 3), padding=1).double(), any_(1, 2, 3, 4))
    add("nn.LayerNorm", nn.LayerNorm(4).double(), any_(3, 4))
    add("nn.RMSNorm", nn.RMSNorm(4).double(), any_(3, 4))
    for name in ("RNN", "GRU", "LSTM"):
        make = functools.partial(getattr(nn, name), 2, 2, num_layers=2, dtype="float64")
        add(f"nn.{name}", make(), any_(3, 2, 2))
        add(f"nn.{name}, both directions, packed", _Packing(make(bidirectional=True)), any_(3, 2, 2))
    for cell in (nn.RNNCell(2, 2), nn.GRUCell(2, 2)):
        add(f"nn.{type(cell).__name__}", cell.double(), any_(2, 2), any_(2, 2))
    add("nn.LSTMCell", _Cell(2, 2).double(), any_(2, 2), any_(2, 2), any_(2, 2))
    add("nn.MultiheadAttention", nn.MultiheadAttention(4, 2).double(), any_(3, 1, 4), any_(2, 1, 4), any_(2, 1, 4))
    add("nn.MultiheadAttention, kdim", nn.MultiheadAttention(4, 2, kdim=3, vdim=2).double(), any_(3, 1, 4),
        any_(2, 1, 3), any_(2, 1, 2))  # fmt: skip
    for first in (False, True):
        settings: dict[str, Any] = {"dropout": 0.0, "activation": F.silu, "norm_first": first, "dtype": "float64"}
        add("nn.TransformerEncoderLayer", nn.TransformerEncoderLayer(4, 2, 3, **settings), any_(3, 1, 4))
        add("nn.TransformerDecoderLayer", nn.TransformerDecoderLayer(4, 2, 3, **settings), any_(2, 1, 4), any_(3, 1, 4))
    add("nn.Transformer", nn.Transformer(4, 2, 1, 1, 3, 0.0, F.silu).double(), any_(3, 1, 4), any_(2, 1, 4))
    add("nn.LoRA", _Tuned(3, 2).double(), any_(4, 3))
    add("nn.TransformerBlock", nn.TransformerBlock(4, 2).double(), any_(1, 3, 4))
    layer_cases(add, any_, positive, unit)
    return found


class _Packing(nn.Module):
    """A recurrent layer over two sequences of different lengths."""

    def __init__(self, layer: nn.Module):
        self.layer = layer

    def forward(self, input: Tensor) -> Tensor:
        return self.layer(pack_padded_sequence(input, [1, 3], enforce_sorted=False))[0].data


class _Cell(nn.LSTMCell):
    """With its state as two inputs: from a state of zeros no gradient reaches weight_hh."""

    def forward(self, input: Tensor, h: Tensor, c: Tensor) -> Any:  # type: ignore[override]  # its state apart
        return super().forward(input, (h, c))


class _Tuned(nn.LoRA):
    """With a second factor that is not 0, as in the beginning, when no gradient reaches the first."""

    def __init__(self, n_in: int, n_out: int):
        super().__init__(nn.Linear(n_in, n_out), rank=2)
        nn.init.normal_(self.lora_B)


def _assigned(x: Tensor, value: Tensor, index: Any) -> Tensor:
    z = x * 1
    z[index] = value
    return z
