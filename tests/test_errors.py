"""Bad calls: each raises the type that torch raises, with words that say what was wrong and what was expected."""

import copy
import math
import subprocess
import sys
from pathlib import Path

import fakecupy
import numpy as np
import pytest

import tinygrad_z2g as z2g
from tinygrad_z2g import nn, optim
from tinygrad_z2g.nn import functional as F
from tinygrad_z2g.text import CharTokenizer, NGram

T = z2g.tensor


def x(*shape):
    """Ones of a shape."""
    return z2g.ones(*shape)


def leaf(*shape):
    return z2g.ones(*shape, requires_grad=True)


def ids(*values):
    return T(list(values), dtype="int64")


def twice(loss):
    loss.backward()
    loss.backward()


def twice_in_groups(p):
    return optim.SGD([{"params": [p]}, {"params": [p]}], lr=1)


def assign(tensor, index, value):
    tensor[index] = value


DATA = z2g.utils.data.TensorDataset(z2g.ones(3, device="cpu"))


# --- The table: name -> call, exception, words of the message -----------------------------------------------------

SHAPES = {
    "add": (lambda: x(2, 3) + x(4), RuntimeError, ["add", "(2, 3)", "(4,)", "broadcast"]),
    "compare": (lambda: x(2) == x(3), RuntimeError, ["(2,)", "(3,)"]),
    "where": (lambda: z2g.where(x(2) > 0, x(2), x(3)), RuntimeError, ["where", "(3,)"]),
    "matmul": (lambda: x(2, 3) @ x(2, 3), RuntimeError, ["matmul", "(2, 3) @ (2, 3)", "3 and 2"]),
    "matmul vector": (lambda: x(2, 3) @ x(4), RuntimeError, ["matmul", "(4,)"]),
    "matmul batch": (lambda: x(2, 3, 4) @ x(3, 4, 5), RuntimeError, ["matmul", "2", "3"]),
    "matmul 0-d": (lambda: x(3) @ x(), RuntimeError, ["matmul", "dimension"]),
    "mm": (lambda: z2g.mm(x(3), x(3, 2)), RuntimeError, ["mm", "matri"]),
    "bmm": (lambda: z2g.bmm(x(2, 3, 4), x(3, 4, 5)), RuntimeError, ["bmm", "(2, 3, 4)"]),
    "dot": (lambda: z2g.dot(x(2, 2), x(2)), RuntimeError, ["dot", "vector"]),
    "dot lengths": (lambda: z2g.dot(x(2), x(3)), RuntimeError, ["2", "3"]),
    "reshape": (lambda: x(2, 3).reshape(4, 2), RuntimeError, ["reshape", "[4, 2]", "(2, 3)"]),
    "reshape two -1": (lambda: x(2, 3).reshape(-1, -1), RuntimeError, ["reshape", "[-1, -1]"]),
    "view": (lambda: x(2, 3).T.view(6), RuntimeError, ["view", "reshape"]),
    "expand": (lambda: x(2, 3).expand(2, 4), RuntimeError, ["expand", "(2, 3)", "[2, 4]"]),
    "permute": (lambda: x(2, 3).permute(0), RuntimeError, ["permute", "[0]", "(2, 3)"]),
    "permute twice": (lambda: x(2, 3).permute(0, 0), RuntimeError, ["permute", "[0, 0]"]),
    "flatten": (lambda: x(2, 3).flatten(1, 0), RuntimeError, ["flatten", "1", "0"]),
    "cat": (lambda: z2g.cat([x(2, 3), x(2, 4)]), RuntimeError, ["cat", "(2, 3)", "(2, 4)"]),
    "cat of nothing": (lambda: z2g.cat([]), ValueError, ["cat", "non-empty"]),
    "cat of a tensor": (lambda: z2g.cat(x(2)), TypeError, ["cat", "list"]),
    "stack": (lambda: z2g.stack([x(2), x(3)]), RuntimeError, ["stack", "(2,)", "(3,)"]),
    "split": (lambda: x(5).split([2, 2]), RuntimeError, ["split", "[2, 2]", "5"]),
    "split by 0": (lambda: x(5).split(0), RuntimeError, ["split", "0"]),
    "chunk": (lambda: x(5).chunk(0), RuntimeError, ["chunk", "0"]),
    "narrow": (lambda: x(3).narrow(0, 1, 5), RuntimeError, ["narrow", "5", "3"]),
    "repeat": (lambda: x(2, 3).repeat(2), RuntimeError, ["repeat", "(2, 3)"]),
    "roll": (lambda: x(2, 3).roll((1, 2), 0), RuntimeError, ["roll", "shift"]),
    "tril": (lambda: x(3).tril(), RuntimeError, ["tril", "2 dimensions"]),
    "t": (lambda: x(2, 3, 4).t(), RuntimeError, ["t:", "2 dimensions"]),
    "flip": (lambda: x(2, 2).flip(0, 0), RuntimeError, ["flip", "twice"]),
    "pad": (lambda: F.pad(x(2), (1, 2, 3)), RuntimeError, ["pad", "[1, 2, 3]"]),
    "item": (lambda: x(2).item(), RuntimeError, ["item", "2 elements"]),
    "bool": (lambda: bool(x(2)), RuntimeError, ["ambiguous"]),
    "len": (lambda: len(x()), TypeError, ["0-d"]),
    "iteration": (lambda: list(x()), TypeError, ["0-d"]),
    "negative size": (lambda: z2g.zeros(-1), RuntimeError, ["-1"]),
    "ragged lists": (lambda: T([[1, 2], [3]]), ValueError, ["tensor", "equal length"]),
    "in place": (lambda: x(1).add_(x(3)), RuntimeError, ["add_", "(3,)", "(1,)"]),
    "assignment": (lambda: assign(x(4), slice(2), x(3)), RuntimeError, ["(3,)", "(2,)"]),
    "div rounding": (lambda: x(2).div(2, rounding_mode="up"), RuntimeError, ["rounding_mode", "'up'"]),
    "mv": (lambda: x(2, 3).mv(x(2)), RuntimeError, ["(2, 3)", "3 and 2"]),
    "mv of matrices": (lambda: z2g.mv(x(2, 3), x(3, 2)), RuntimeError, ["mv", "vector", "(3, 2)"]),
    "outer": (lambda: z2g.outer(x(2, 2), x(2)), RuntimeError, ["outer", "(2, 2)"]),
    "einsum operands": (lambda: z2g.einsum("ij,jk->ik", x(2, 2)), RuntimeError, ["einsum", "2 operands", "1"]),
    "einsum letters": (lambda: z2g.einsum("ijk->i", x(2, 2)), RuntimeError, ["einsum", "'ijk'", "(2, 2)"]),
    "einsum sizes": (lambda: z2g.einsum("ij,jk->ik", x(2, 3), x(4, 2)), RuntimeError, ["einsum", "'j'", "3 and 4"]),
    "einsum result": (lambda: z2g.einsum("ij->ik", x(2, 3)), RuntimeError, ["einsum", "'ik'"]),
    "tensordot": (lambda: z2g.tensordot(x(2, 3), x(4, 2), 1), RuntimeError, ["tensordot", "(2, 3)", "(4, 2)"]),
    "unflatten": (lambda: x(6).unflatten(0, (4, 2)), RuntimeError, ["unflatten", "[4, 2]", "6"]),
    "movedim": (lambda: x(2, 3).movedim((0, 1), (0,)), RuntimeError, ["movedim", "(0, 1)"]),
    "diagonal": (lambda: x(2, 3).diagonal(0, 1, 1), RuntimeError, ["diagonal", "(2, 3)", "different"]),
    "diag": (lambda: x(2, 3, 4).diag(), RuntimeError, ["diag", "(2, 3, 4)"]),
    "maximum of nothing at all": (lambda: x(0).max(), RuntimeError, ["max", "(0,)", "no elements"]),
    "stack of nothing": (lambda: z2g.stack([]), RuntimeError, ["stack", "non-empty"]),
    "float of many": (lambda: float(x(2)), ValueError, ["2 elements"]),
    "int of many": (lambda: int(x(2)), ValueError, ["2 elements"]),
    "unbind 0-d": (lambda: x(1).sum().unbind(), IndexError, ["unbind", "0-d"]),
    "masked_select": (lambda: x(2).masked_select(x(3) > 0), RuntimeError, ["masked_select", "(2,)", "(3,)"]),
    "expand fewer": (lambda: x(2, 3).expand(3), RuntimeError, ["expand", "(2, 3)", "[3]"]),
    "squeeze text": (lambda: x(2).squeeze("a"), TypeError, ["squeeze", "str"]),
    "cosine shapes": (lambda: F.cosine_similarity(x(2, 3), x(2, 4)), RuntimeError, ["3", "4"]),
}

DIMS = {
    "sum": (lambda: x(2, 3).sum(2), IndexError, ["sum", "dim 2", "-2 to 1"]),
    "sum negative": (lambda: x(2, 3).sum(-3), IndexError, ["sum", "dim -3"]),
    "sum twice": (lambda: x(2, 3).sum((0, -2)), RuntimeError, ["sum", "twice"]),
    "softmax": (lambda: F.softmax(x(2), 1), IndexError, ["softmax", "dim 1"]),
    "transpose": (lambda: x(2, 3).transpose(0, 2), IndexError, ["transpose", "dim 2"]),
    "unsqueeze": (lambda: x(2).unsqueeze(3), IndexError, ["unsqueeze", "dim 3"]),
    "squeeze": (lambda: x(2).squeeze(1), IndexError, ["squeeze", "dim 1"]),
    "cat": (lambda: z2g.cat([x(2), x(2)], 1), IndexError, ["cat", "dim 1"]),
    "cumsum": (lambda: x(2).cumsum(1), IndexError, ["cumsum", "dim 1"]),
    "argmax": (lambda: x(2).argmax(1), IndexError, ["argmax", "dim 1"]),
    "size": (lambda: x(2).size(1), IndexError, ["size", "dim 1"]),
    "a text as dim": (lambda: x(2).sum("rows"), TypeError, ["sum", "int", "str"]),
    "a float as dim": (lambda: x(2).sum(0.0), TypeError, ["sum", "float"]),
    "maximum of nothing": (lambda: x(0, 2).amax(0), IndexError, ["amax", "(0, 2)", "no elements"]),
    "argmax of nothing": (lambda: x(0).argmax(), IndexError, ["argmax", "no elements"]),
    "sort": (lambda: x(2).sort(1), IndexError, ["sort", "dim 1"]),
    "topk dim": (lambda: x(2).topk(1, 1), IndexError, ["topk", "dim 1"]),
    "topk": (lambda: x(2).topk(3), RuntimeError, ["topk", "3", "size 2"]),
    "cumprod": (lambda: x(2).cumprod(2), IndexError, ["cumprod", "dim 2"]),
    "select": (lambda: x(2, 3).select(2, 0), IndexError, ["select", "dim 2"]),
    "select 0-d": (lambda: x(1).sum().select(0, 0), IndexError, ["select", "0-d"]),
    "select index": (lambda: x(2, 3).select(1, 3), IndexError, ["3 is out of range", "size 3"]),
    "narrow start": (lambda: x(3).narrow(0, 4, 1), IndexError, ["narrow", "4", "3"]),
    "narrow dim": (lambda: x(3).narrow(1, 0, 1), IndexError, ["narrow", "dim 1"]),
    "flip": (lambda: x(3).flip(1), IndexError, ["flip", "dim 1"]),
    "roll": (lambda: x(3).roll(1, 1), IndexError, ["roll", "dim 1"]),
    "diagonal": (lambda: x(3, 3).diagonal(0, 0, 2), IndexError, ["diagonal", "dim 2"]),
    "movedim": (lambda: x(3, 3).movedim(0, 2), IndexError, ["movedim", "dim 2"]),
    "gather": (lambda: x(3).gather(1, ids(0)), IndexError, ["gather", "dim 1"]),
    "repeat_interleave": (lambda: x(3).repeat_interleave(2, 1), IndexError, ["repeat_interleave", "dim 1"]),
    "flatten": (lambda: x(3).flatten(0, 1), IndexError, ["flatten", "dim 1"]),
    "split": (lambda: x(3).split(1, 1), IndexError, ["split", "dim 1"]),
    "max": (lambda: x(3).max(1), IndexError, ["max", "dim 1"]),
    "max of nothing": (lambda: x(0, 2).max(0), IndexError, ["(0, 2)", "no elements"]),
    "log_softmax": (lambda: F.log_softmax(x(3), 1), IndexError, ["log_softmax", "dim 1"]),
}

INDICES = {  # those that are known to the host: checked there, whichever device the tensor is on (trap 43)
    "integer": (lambda: x(3)[3], IndexError, ["3 is out of range", "size 3"]),
    "negative integer": (lambda: x(2, 3)[0, -4], IndexError, ["-4 is out of range", "dim 1"]),
    "list": (lambda: x(3)[[0, 5]], IndexError, ["5 is out of range", "size 3"]),
    "negative list": (lambda: x(3)[[0, -4]], IndexError, ["-4"]),
    "array": (lambda: x(3)[np.array([3])], IndexError, ["3 is out of range"]),
    "tensor on the host": (lambda: x(3)[T([7], device="cpu")], IndexError, ["7 is out of range"]),
    "assignment": (lambda: assign(x(3), [4], 0), IndexError, ["4 is out of range"]),
    "too many": (lambda: x(2, 3)[0, 0, 0], IndexError, ["too many", "(2, 3)"]),
    "two ellipses": (lambda: x(2, 3)[..., ...], IndexError, ["ellipsis"]),
    "float": (lambda: x(3)[1.0], IndexError, ["float"]),
    "text": (lambda: x(3)["a"], TypeError, ["str"]),
    "float tensor": (lambda: x(3)[x(2)], IndexError, ["integer or bool", "float32"]),
    "mask": (lambda: x(3)[T([True, False])], IndexError, ["mask", "(2,)", "(3,)"]),
    "gather shape": (lambda: x(2, 3).gather(1, ids(0)), RuntimeError, ["gather", "(1,)", "(2, 3)"]),
    "gather dtype": (lambda: x(3).gather(0, x(2)), RuntimeError, ["gather", "int64", "float32"]),
    "one_hot": (lambda: F.one_hot(ids(0, 3), 3), RuntimeError, ["one_hot", "3"]),
    "one_hot negative": (lambda: F.one_hot(ids(-1), 3), RuntimeError, ["one_hot", ">= 0"]),
    "unknown character": (lambda: CharTokenizer("abc").encode("abx"), ValueError, ["'x'", "vocabulary"]),
    "scatter shape": (lambda: x(2, 3).scatter(1, ids(0), 1.0), RuntimeError, ["scatter", "(1,)", "(2, 3)"]),
    "scatter source": (lambda: x(3).scatter(0, ids(0, 1), x(1)), RuntimeError, ["scatter", "(1,)", "(2,)"]),
    "scatter dtype": (lambda: x(3).scatter(0, ids(0), T([1])), RuntimeError, ["scatter", "int64", "float32"]),
    "scatter_add indices": (lambda: x(3).scatter_add(0, x(1), x(1)), RuntimeError, ["scatter_add", "int64"]),
    "masked_select mask": (lambda: x(3).masked_select(x(3)), RuntimeError, ["masked_select", "bool", "float32"]),
    "repeat_interleave counts": (lambda: x(3).repeat_interleave(ids(1, 2)), RuntimeError, ["repeat", "3"]),
    "repeat_interleave negative": (lambda: x(3).repeat_interleave(-1), RuntimeError, ["repeat", "-1"]),
    "take_along_dim": (lambda: z2g.take_along_dim(x(2, 3), ids(0), 0), RuntimeError, ["take_along_dim", "(1,)"]),
}

DTYPES = {
    "gradient of integers": (lambda: T([1, 2], requires_grad=True), RuntimeError, ["float"]),
    "parameter of integers": (lambda: nn.Parameter(T([1])), RuntimeError, ["float"]),
    "parameter of a list": (lambda: nn.Parameter([1.0]), TypeError, ["Parameter", "list"]),
    "mean": (lambda: T([1, 2]).mean(), RuntimeError, ["mean", "int64", "float()"]),
    "std": (lambda: T([1, 2]).std(), RuntimeError, ["std", "int64"]),
    "norm": (lambda: T([1, 2]).norm(), RuntimeError, ["norm", "int64"]),
    "float minus bool": (lambda: x(1) - T([True]), RuntimeError, ["sub", "bool"]),
    "bool minus bool": (lambda: T([True]) - T([True]), RuntimeError, ["sub", "bool"]),
    "negative power": (lambda: T([2]) ** -1, RuntimeError, ["pow", "-1", "float"]),
    "condition": (lambda: z2g.where(x(2), x(2), x(2)), RuntimeError, ["where", "bool", "float32"]),
    "mask": (lambda: x(2).masked_fill(ids(0, 1), 0.0), RuntimeError, ["masked_fill", "bool", "int64"]),
    "not": (lambda: ~x(2), TypeError, ["bool or integers", "float32"]),
    "matmul": (lambda: x(2, 2) @ x(2, 2).double(), RuntimeError, ["matmul", "float32", "float64"]),
    "linear": (lambda: nn.Linear(2, 2)(x(1, 2).double()), RuntimeError, ["linear", "float64", "float32"]),
    "conv1d": (lambda: nn.Conv1d(1, 1, 1)(x(1, 1, 2).double()), RuntimeError, ["conv1d", "float64", "float32"]),
    "in place": (lambda: T([1]).add_(1.5), RuntimeError, ["add_", "float32", "int64"]),
    "unknown dtype": (lambda: z2g.zeros(1, dtype="float99"), TypeError, ["float99", "float32"]),
    "complex": (lambda: T(1j), TypeError, ["complex"]),
    "text": (lambda: T(["a"]), TypeError, ["tensor"]),
    "default dtype": (lambda: z2g.set_default_dtype(z2g.int64), TypeError, ["floating"]),
    "number for a tensor": (lambda: z2g.exp(1.0), TypeError, ["exp", "Tensor", "float"]),
    "tensor plus text": (lambda: x(1) + "1", TypeError, ["add", "str"]),
    "tensor times list": (lambda: x(1) * [1], TypeError, ["mul", "list"]),
    "tensor plus None": (lambda: x(1) + None, TypeError, ["add", "NoneType"]),
    "list for an array": (lambda: z2g.from_numpy([1]), TypeError, ["from_numpy", "list"]),
    "float as index": (lambda: range(T(1.5)), TypeError, ["integer"]),
    "float as size": (lambda: z2g.zeros(2.0), TypeError, ["int", "float"]),
}

LAYERS = {
    "linear": (lambda: nn.Linear(3, 2)(x(4)), RuntimeError, ["linear", "(4,)", "(2, 3)"]),
    "linear bias": (lambda: F.linear(x(1, 2), x(3, 2), x(2)), RuntimeError, ["linear", "bias", "(3,)"]),
    "conv channels": (lambda: nn.Conv1d(2, 1, 1)(x(1, 3, 5)), RuntimeError, ["conv1d", "(1, 3, 5)", "(1, 2, 1)"]),
    "conv too short": (lambda: nn.Conv1d(1, 1, 4)(x(1, 1, 3)), RuntimeError, ["conv1d", "4", "3"]),
    "conv stride": (lambda: nn.Conv1d(1, 1, 1, stride=0)(x(1, 1, 3)), RuntimeError, ["stride", "positive", "0"]),
    "conv padding": (lambda: nn.Conv1d(1, 1, 1, padding="big")(x(1, 1, 3)), ValueError, ["padding", "'big'"]),
    "conv same": (lambda: nn.Conv1d(1, 1, 1, stride=2, padding="same")(x(1, 1, 3)), ValueError, ["same", "stride"]),
    "conv kernel": (lambda: nn.Conv1d(1, 1, 0), ValueError, ["Conv1d", "kernel_size", "0"]),
    "conv groups": (lambda: nn.Conv1d(2, 2, 1, groups=2), NotImplementedError, ["groups", "2"]),
    "embedding dtype": (lambda: nn.Embedding(3, 2)(x(2)), RuntimeError, ["embedding", "integer", "float32"]),
    "embedding table": (lambda: F.embedding(ids(0), x(3)), RuntimeError, ["embedding", "(3,)"]),
    "embedding padding": (lambda: nn.Embedding(3, 2, padding_idx=3), ValueError, ["padding_idx", "3"]),
    "layer norm": (lambda: nn.LayerNorm(3)(x(2, 4)), RuntimeError, ["layer_norm", "(2, 4)", "(3,)"]),
    "layer norm weight": (lambda: F.layer_norm(x(2, 3), (3,), x(2)), RuntimeError, ["weight", "(2,)", "(3,)"]),
    "dropout": (lambda: nn.Dropout(1.5), ValueError, ["Dropout", "1.5", "between 0 and 1"]),
    "dropout function": (lambda: F.dropout(x(1), -0.1), ValueError, ["dropout", "-0.1"]),
    "dropout nan": (lambda: F.dropout(x(1), math.nan), ValueError, ["dropout", "nan"]),
    "heads": (lambda: nn.MultiheadAttention(10, 3), ValueError, ["10", "3", "divisible"]),
    "attention width": (lambda: nn.MultiheadAttention(4, 2)(*[x(2, 1, 6)] * 3), RuntimeError, ["(2, 1, 6)", "4"]),
    "attention shapes": (
        lambda: F.scaled_dot_product_attention(x(2, 3), x(2, 4), x(2, 4)), RuntimeError, ["(2, 3)", "(2, 4)"],
    ),
    "attention, two masks": (
        lambda: F.scaled_dot_product_attention(x(2, 3), x(2, 3), x(2, 3), x(2, 2) > 0, is_causal=True),
        RuntimeError, ["attn_mask", "is_causal"],
    ),
    "attention mask dtype": (
        lambda: F.scaled_dot_product_attention(x(2, 3), x(2, 3), x(2, 3), z2g.zeros(2, 2, dtype="int64")),
        RuntimeError, ["attn_mask", "int64"],
    ),
    "attention dropout": (
        lambda: F.scaled_dot_product_attention(x(2, 3), x(2, 3), x(2, 3), dropout_p=2.0), ValueError, ["2.0"],
    ),
    "lstm input": (lambda: nn.LSTM(3, 2)(x(4, 1, 5)), RuntimeError, ["LSTM", "3", "(4, 1, 5)"]),
    "lstm state": (
        lambda: nn.LSTM(3, 2)(x(4, 1, 3), (x(1, 2, 2), x(1, 2, 2))), RuntimeError, ["hidden", "(1, 1, 2)", "(1, 2, 2)"],
    ),
    "lstm dropout": (lambda: nn.LSTM(2, 3, dropout=2.0), ValueError, ["LSTM", "dropout", "2.0", "between 0 and 1"]),
    "lstm size": (lambda: nn.LSTM(3, 0), ValueError, ["LSTM", "hidden_size", "positive"]),
    "lstm cell input": (lambda: nn.LSTMCell(3, 2)(x(4, 5)), RuntimeError, ["LSTMCell", "3", "(4, 5)"]),
    "cross entropy shapes": (lambda: F.cross_entropy(x(2, 3), ids(0)), ValueError, ["(2, 3)", "(2,)", "(1,)"]),
    "cross entropy dtype": (lambda: F.cross_entropy(x(2, 3), x(2)), RuntimeError, ["integer", "float32"]),
    "class weights": (lambda: F.cross_entropy(x(2, 3), ids(0, 1), x(2)), RuntimeError, ["weight", "(2,)", "(3,)"]),
    "reduction": (lambda: F.mse_loss(x(1), x(1), reduction="max"), ValueError, ["reduction", "'max'", "mean"]),
    "reduction of cross entropy": (lambda: nn.CrossEntropyLoss(reduction="x")(x(1, 2), ids(0)), ValueError, ["'x'"]),
    "mse shapes": (lambda: F.mse_loss(x(4, 1), x(4)), ValueError, ["mse_loss", "(4, 1)", "(4,)"]),
    "gelu": (lambda: F.gelu(x(1), "fast"), RuntimeError, ["gelu", "'fast'", "tanh"]),
    "bias gelu": (lambda: F.bias_gelu(x(2, 3), x(3), "fast"), RuntimeError, ["bias_gelu", "'fast'", "tanh"]),
    "bias gelu shapes": (lambda: F.bias_gelu(x(2, 3), x(2)), RuntimeError, ["bias_gelu", "(2, 3)", "(2,)", "(C,)"]),
    "bias gelu dtypes": (lambda: F.bias_gelu(x(3), x(3).double()), RuntimeError, ["bias_gelu", "float32", "float64"]),
    "bias gelu of one": (lambda: F.bias_gelu(x(), x()), RuntimeError, ["bias_gelu", "()", "(..., C)"]),
    "fans": (lambda: nn.init.xavier_uniform_(x(3)), ValueError, ["2 dimensions", "(3,)"]),
    "fan mode": (lambda: nn.init.kaiming_normal_(x(2, 2), mode="fan"), ValueError, ["fan_in", "'fan'"]),
    "gain": (lambda: nn.init.calculate_gain("softsign"), ValueError, ["softsign", "relu"]),
    "buffer": (lambda: nn.Identity().register_buffer("a", 3), TypeError, ["'a'", "int"]),
    "clamp": (lambda: x(1).clamp(), RuntimeError, ["clamp", "min", "max"]),
    "rms norm": (lambda: F.rms_norm(x(2, 4), (3,)), RuntimeError, ["rms_norm", "(2, 4)", "(3,)"]),
    "bce shapes": (lambda: F.binary_cross_entropy(x(2), x(3)), ValueError, ["(2,)", "(3,)"]),
    "bce scores": (lambda: F.binary_cross_entropy_with_logits(x(2), x(3)), ValueError, ["(2,)", "(3,)"]),
    "nll shapes": (lambda: F.nll_loss(x(2, 3), ids(0)), ValueError, ["nll_loss", "(2, 3)", "(1,)"]),
    "pool": (lambda: F.max_pool1d(x(1, 1, 2), 3), RuntimeError, ["max_pool1d", "3", "2"]),
    "pool stride": (lambda: F.max_pool2d(x(1, 1, 4, 4), 2, 0), RuntimeError, ["stride", "0"]),
    "pool padding": (lambda: F.avg_pool1d(x(1, 1, 4), 2, 1, 2), RuntimeError, ["padding", "2"]),
    "conv2d channels": (lambda: nn.Conv2d(3, 1, 1)(x(1, 2, 4, 4)), RuntimeError, ["conv2d", "(1, 2, 4, 4)"]),
    "conv2d dims": (lambda: nn.Conv2d(3, 1, 1)(x(3, 4)), RuntimeError, ["conv2d", "(3, 4)"]),
    "smoothing": (lambda: F.cross_entropy(x(1, 2), ids(0), label_smoothing=2.0), RuntimeError, ["smoothing", "2.0"]),
    "module in list": (lambda: nn.ModuleList([1]), TypeError, ["ModuleList", "int"]),
    "module in sequence": (lambda: nn.Sequential(nn.ReLU(), 3), TypeError, ["Sequential", "int"]),
    "parameter by number": (lambda: setattr(nn.Linear(1, 1), "weight", x(1)), TypeError, ["weight", "Parameter"]),
    "no forward": (lambda: nn.Module()(x(1)), NotImplementedError, ["forward"]),
    "unknown attribute": (lambda: nn.Linear(1, 1).wieght, AttributeError, ["wieght"]),
    "unknown parameter": (lambda: nn.Linear(1, 1).get_parameter("w"), AttributeError, ["'w'"]),
    "unknown state": (lambda: nn.ReLU().load_state_dict({"a": x(1)}), RuntimeError, ["unexpected", "a"]),
    "state shape": (
        lambda: nn.Linear(2, 1).load_state_dict({"weight": x(2, 1), "bias": x(1)}),
        RuntimeError, ["weight", "(2, 1)", "(1, 2)"],
    ),
}  # fmt: skip

GRADIENTS = {
    "not a scalar": (lambda: (leaf(2) * 2).backward(), RuntimeError, ["scalar", "(2,)"]),
    "nothing to do": (lambda: x(2).sum().backward(), RuntimeError, ["does not require grad"]),
    "second time": (lambda: twice((leaf(2) * leaf(2)).sum()), RuntimeError, ["already used up", "retain_graph"]),
    "wrong gradient": (lambda: (leaf(2) * 2).backward(x(3)), RuntimeError, ["(3,)", "(2,)"]),
    "number as gradient": (lambda: leaf(1).backward(1.0), TypeError, ["gradient", "float"]),
    "leaf in place": (lambda: leaf(2).add_(1), RuntimeError, ["leaf", "no_grad"]),
    "expanded in place": (lambda: x(1).expand(3).add_(1), RuntimeError, ["clone"]),
    "numpy": (lambda: leaf(2).numpy(), RuntimeError, ["requires grad", "detach()"]),
    "retain_grad": (lambda: x(2).retain_grad(), RuntimeError, ["require grad"]),
    "hook": (lambda: x(2).register_hook(print), RuntimeError, ["require grad"]),
    "copy of a result": (lambda: copy.deepcopy(leaf(2) * 2), RuntimeError, ["leaves", "clone"]),
    "grad off of a result": (lambda: (leaf(2) * 2).requires_grad_(False), RuntimeError, ["computed"]),
    "grad of a constant": (lambda: z2g.autograd.grad(leaf(1).sum(), x(1)), RuntimeError, ["require grad"]),
    "grad of a stranger": (
        lambda: z2g.autograd.grad(leaf(1).sum(), leaf(1)),
        RuntimeError,
        ["do not depend", "allow_unused"],
    ),
    "grad of a vector": (lambda: z2g.autograd.grad(leaf(2) * 2, leaf(2)), RuntimeError, ["scalar", "(2,)"]),
    "data": (lambda: setattr(leaf(1), "data", 3), TypeError, ["data", "int"]),
}

SETTINGS = {
    "learning rate": (lambda: optim.SGD([leaf(1)], lr=-1), ValueError, ["learning rate", "-1"]),
    "no parameters": (lambda: optim.Adam([]), ValueError, ["empty"]),
    "one tensor": (lambda: optim.Adam(leaf(1)), TypeError, ["iterable"]),
    "a result": (lambda: optim.Adam([leaf(1) * 2]), ValueError, ["lea"]),
    "beta": (lambda: optim.Adam([leaf(1)], betas=(0.9, 1.5)), ValueError, ["beta 2", "1.5"]),
    "threads": (lambda: z2g.set_num_threads(0), ValueError, ["set_num_threads", "0", ">= 1"]),
    "seed": (lambda: z2g.manual_seed(-5), ValueError, ["-5"]),
    "step 0": (lambda: z2g.arange(0, 3, 0), RuntimeError, ["step"]),
    "wrong direction": (lambda: z2g.arange(3, 0), RuntimeError, ["3", "0"]),
    "steps": (lambda: z2g.linspace(0, 1, -1), RuntimeError, ["linspace", "-1"]),
    "empty range": (lambda: z2g.randint(5, 5, (1,)), RuntimeError, ["randint", "5"]),
    "random numbers of integers": (lambda: z2g.rand(3, dtype="int64"), RuntimeError, ["rand", "int64", "randint"]),
    "negative eye": (lambda: z2g.eye(-1), RuntimeError, ["eye", "-1"]),
    "negative randperm": (lambda: z2g.randperm(-1), RuntimeError, ["randperm", "-1"]),
    "no samples": (lambda: z2g.multinomial(x(3), 0), RuntimeError, ["multinomial", "0"]),
    "negative samples": (lambda: z2g.multinomial(x(3), -1, True), RuntimeError, ["multinomial", "-1"]),
    "ngram": (lambda: NGram(0, "abc", 3), ValueError, ["NGram", "0"]),
    "device": (lambda: x(1).to("tpu"), (RuntimeError, TypeError), ["tpu"]),
    "device name": (lambda: z2g.device("gpu"), RuntimeError, ["'gpu'", "cpu", "cuda"]),
    "device number": (lambda: z2g.device("cuda:x"), RuntimeError, ["cuda:x"]),
    "mode": (lambda: nn.ReLU().train("yes"), ValueError, ["'yes'"]),
    "state": (lambda: nn.Linear(1, 1).load_state_dict({}), RuntimeError, ["missing", "weight", "bias"]),
    "empty text": (lambda: CharTokenizer(""), ValueError, ["empty"]),
    "momentum": (lambda: optim.SGD([leaf(1)], lr=1, momentum=-1), ValueError, ["momentum", "-1"]),
    "weight decay": (lambda: optim.Adam([leaf(1)], weight_decay=-1), ValueError, ["weight_decay", "-1"]),
    "eps": (lambda: optim.AdamW([leaf(1)], eps=-1), ValueError, ["eps", "-1"]),
    "nesterov": (lambda: optim.SGD([leaf(1)], lr=1, nesterov=True), ValueError, ["momentum"]),
    "same parameter twice": (lambda: twice_in_groups(leaf(1)), ValueError, ["twice"]),
    "a number as parameter": (lambda: optim.SGD([1.0], lr=1), TypeError, ["float"]),
    "bernoulli": (lambda: z2g.bernoulli(x(2) * 2), RuntimeError, ["bernoulli", "between 0 and 1"]),
    "normal": (lambda: z2g.normal(0.0, -1.0, (2,)), RuntimeError, ["normal", "-1"]),
    "all weights zero": (lambda: z2g.multinomial(x(3) * 0, 1), RuntimeError, ["multinomial", "zero"]),
    "more samples than weights": (lambda: z2g.multinomial(x(3), 4), RuntimeError, ["multinomial", "4"]),
    "batch size": (lambda: z2g.utils.data.DataLoader(DATA, batch_size=0), ValueError, ["batch_size", "0"]),
    "split lengths": (lambda: z2g.utils.data.random_split(DATA, [1, 1]), ValueError, ["random_split", "[1, 1]", "3"]),
    "rows of a dataset": (lambda: z2g.utils.data.TensorDataset(x(2), x(3)), ValueError, ["[2, 3]"]),
    "clipping norm": (
        lambda: nn.utils.clip_grad_norm_([leaf(1)], 1.0, norm_type=3),
        NotImplementedError,
        ["norm_type", "3"],
    ),
}

TABLE = {
    f"{group}: {name}": row
    for group, rows in [("shape", SHAPES), ("dim", DIMS), ("index", INDICES), ("dtype", DTYPES), ("layer", LAYERS),
                        ("gradient", GRADIENTS), ("setting", SETTINGS)]
    for name, row in rows.items()
}  # fmt: skip


def check(call, error, words):
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    assert [word for word in words if word not in message] == [], message
    assert len(message) < 400
    assert "np." not in message  # sizes are plain numbers


@pytest.mark.parametrize("call, error, words", TABLE.values(), ids=TABLE)
def test_bad_calls(device, call, error, words):
    check(call, error, words)


def test_the_table_is_long_enough():
    assert len(TABLE) >= 200


# What only the host can check without waiting for the GPU; on a GPU the user checks before uploading (trap 43).
HOST_ONLY = {
    "embedding": (lambda: nn.Embedding(3, 2)(ids(0, 3)), IndexError, ["embedding", "3", "0 to 2"]),
    "embedding, negative": (lambda: nn.Embedding(3, 2)(ids(-1)), IndexError, ["embedding", "-1"]),
    "cross entropy": (lambda: F.cross_entropy(x(1, 3), ids(3)), IndexError, ["target", "3", "0 to 2"]),
    "cross entropy, negative": (lambda: F.cross_entropy(x(1, 3), ids(-1)), IndexError, ["target", "-1"]),
    "nll": (lambda: F.nll_loss(x(1, 3), ids(3)), IndexError, ["target", "3"]),
    "gather": (lambda: x(3).gather(0, ids(3)), (IndexError, RuntimeError), ["gather", "out of range", "3"]),
    "index_select": (lambda: x(3).index_select(0, ids(3)), IndexError, ["3"]),
}


@pytest.mark.parametrize("call, error, words", HOST_ONLY.values(), ids=HOST_ONLY)
def test_trap_43_ids_out_of_range(call, error, words):
    check(call, error, words)


# --- Two devices --------------------------------------------------------------------------------------------------


def here(*shape):
    return z2g.ones(*shape, device="cpu")


def there(*shape):
    return z2g.ones(*shape, device="cuda")


def ids_there(*values):
    return T(list(values), device="cuda")


MIXED = {
    "add": lambda: here(2) + there(2),
    "compare": lambda: here(2) < there(2),
    "matmul": lambda: here(2, 2) @ there(2, 2),
    "cat": lambda: z2g.cat([here(2), there(2)]),
    "stack": lambda: z2g.stack([there(2), here(2)]),
    "where": lambda: z2g.where(here(2) > 0, there(2), there(2)),
    "masked_fill": lambda: there(2).masked_fill(here(2) > 0, 0.0),
    "gather": lambda: here(2).gather(0, ids_there(0)),
    "index": lambda: here(2)[ids_there(0)],
    "assignment": lambda: assign(there(2), slice(2), here(2)),
    "in place": lambda: here(2).add_(there(2)),
    "linear": lambda: nn.Linear(2, 2)(there(1, 2)),
    "linear bias": lambda: F.linear(there(1, 2), there(3, 2), here(3)),
    "embedding": lambda: nn.Embedding(3, 2)(ids_there(0)),
    "conv1d": lambda: nn.Conv1d(1, 1, 1)(there(1, 1, 2)),
    "layer norm": lambda: nn.LayerNorm(2)(there(2)),
    "cross entropy": lambda: F.cross_entropy(there(1, 2), T([0], device="cpu")),
    "mse": lambda: F.mse_loss(there(2), here(2)),
    "attention": lambda: F.scaled_dot_product_attention(there(2, 2), here(2, 2), there(2, 2)),
    "lstm": lambda: nn.LSTM(2, 2)(there(1, 1, 2)),
    "backward": lambda: z2g.ones(2, requires_grad=True).mul(2).backward(there(2)),
}


@pytest.mark.parametrize("call", MIXED.values(), ids=MIXED)
def test_trap_44_tensors_on_two_devices_do_not_mix(call):
    with fakecupy.installed(), pytest.raises(RuntimeError) as caught:
        call()
    assert "cpu" in str(caught.value)
    assert "cuda:0" in str(caught.value)


def test_trap_44_numbers_and_0_d_tensors_do_mix():
    """As in torch: a 0-d CPU tensor is a number; and NumPy arrays are constants."""
    with fakecupy.installed():
        two = T(2.0, device="cpu")
        for y in (
            there(2) * two,
            two * there(2),
            there(2) + np.float64(1),
            there(2) * np.array([2.0, 2.0], np.float32),
        ):
            assert str(y.device) == "cuda:0"
            assert y.tolist() == [2.0, 2.0]
            assert y.dtype == z2g.float32


# --- No CuPy, no GPU, no such GPU ---------------------------------------------------------------------------------

ASKING = {  # everything that can ask for a GPU
    "tensor": lambda: T([1.0], device="cuda"),
    "to": lambda: here(1).to("cuda"),
    "cuda": lambda: here(1).cuda(),
    "number": lambda: here(1).to(0),
    "module": lambda: nn.Linear(1, 1, device="cpu").to("cuda"),
    "layer": lambda: nn.Linear(1, 1, device="cuda"),
    "synchronize": lambda: z2g.cuda.synchronize(),
}
asking = pytest.mark.parametrize("ask", ASKING.values(), ids=ASKING)


@pytest.fixture
def no_cupy(monkeypatch):
    """Importing CuPy fails, as where it is not installed."""
    monkeypatch.setitem(sys.modules, "cupy", None)


@asking
def test_trap_46_no_cupy(no_cupy, ask):
    with pytest.raises(RuntimeError, match=r"CuPy does not import .*pip install.*cuda13.*cuda12.*device 'cpu'"):
        ask()


@asking
def test_trap_46_cupy_but_no_gpu(ask):
    with (
        fakecupy.installed(devices=0),
        pytest.raises(RuntimeError, match=r"CuPy is installed but no GPU answers .*driver.*device 'cpu'"),
    ):
        ask()


def test_trap_46_cupy_counts_no_gpus(monkeypatch):
    with fakecupy.installed() as cupy:
        monkeypatch.setattr(cupy.cuda.runtime, "getDeviceCount", lambda: 0)
        with pytest.raises(RuntimeError, match="finds 0 GPUs"):
            here(1).cuda()


def test_trap_46_wrong_number():
    with fakecupy.installed(devices=2):
        for ask in (lambda: here(1).to("cuda:3"), lambda: here(1).to(3), lambda: T(1, device="cuda:3"),
                    lambda: nn.Linear(1, 1, device="cpu").to("cuda:3")):  # fmt: skip
            with pytest.raises(RuntimeError, match=r"device 'cuda:3'.*2 GPU.*0 to 1"):
                ask()
        assert str(here(1).to("cuda:1").device) == "cuda:1"


def test_trap_46_a_failed_move_changes_nothing(no_cupy):
    module = nn.Linear(2, 2)
    before = [p.array for p in module.parameters()]
    with pytest.raises(RuntimeError, match="CuPy"):
        module.cuda()
    assert all(p.array is a for p, a in zip(module.parameters(), before, strict=True))


def test_trap_46_availability_is_asked_without_an_error(no_cupy):
    assert z2g.cuda.is_available() is False
    assert z2g.cuda.device_count() == 0
    with fakecupy.installed(devices=0):
        assert z2g.cuda.is_available() is False
    with fakecupy.installed(devices=2):
        assert z2g.cuda.is_available() is True
        assert z2g.cuda.device_count() == 2


@asking
def test_trap_46_never_a_silent_fallback(no_cupy, ask, monkeypatch):
    """Who asks for cuda by the environment and has none gets an error, not a CPU tensor. `auto` is the way to ask."""
    monkeypatch.setenv("TINYGRAD_Z2G_DEVICE", "cuda")
    with pytest.raises(RuntimeError, match="CuPy"):
        z2g.ones(1)
    monkeypatch.setenv("TINYGRAD_Z2G_DEVICE", "auto")
    assert str(z2g.ones(1).device) == "cpu"


IMPORT_EVERYTHING = """
import importlib, pkgutil, sys
import tinygrad_z2g
for module in pkgutil.walk_packages(tinygrad_z2g.__path__, "tinygrad_z2g."):
    importlib.import_module(module.name)
assert not hasattr(sys, "cupy_was_asked_for")
try:
    tinygrad_z2g.ones(1)
except RuntimeError as error:
    assert "no card in this test" in str(error), error
else:
    raise AssertionError("a tensor was made although CuPy does not import")
"""


def test_trap_46_importing_needs_and_touches_no_cupy(tmp_path):
    """Even with TINYGRAD_Z2G_DEVICE=cuda the package imports; the first tensor is what fails."""
    broken = "import sys\nsys.cupy_was_asked_for = True\nraise ImportError('no card in this test')\n"
    (tmp_path / "cupy.py").write_text(broken)
    root = Path(z2g.__file__).parent.parent
    environment = {"PYTHONPATH": f"{tmp_path}:{root}", "TINYGRAD_Z2G_DEVICE": "cuda", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", IMPORT_EVERYTHING]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert process.returncode == 0, process.stderr


# --- Threads -------------------------------------------------------------------------------------------------------


def test_threads_can_be_set():
    import threadpoolctl

    def threads():
        return {pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"}

    before = max(threads())
    x = z2g.ones(64, 64, device="cpu")
    try:
        z2g.set_num_threads(1)
        one = x @ x
        assert threads() == {1}
        z2g.set_num_threads(2)
        assert z2g.allclose(x @ x, one)
    finally:
        z2g.set_num_threads(before)


def test_threads_without_threadpoolctl(monkeypatch):
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    with pytest.raises(ImportError, match=r"pip install threadpoolctl, or set OMP_NUM_THREADS"):
        z2g.set_num_threads(1)
