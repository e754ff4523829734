"""What the tests of the engine share: leaves, cotangents, and the table of what each rule reads."""

import contextlib
import gc
import inspect

import numpy as np

import tinygrad_z2g as z2g
from tinygrad_z2g.core import engine
from tinygrad_z2g.nn import functional as F

MODIFIED = "modified by an inplace operation"


def rng(seed=0):
    return np.random.default_rng(seed)


def numbers(*shape, seed=0):
    """Float64 numbers in 0.5..2, away from kinks and poles."""
    return rng(seed).uniform(0.5, 2, shape)


def leaf(array):
    return z2g.tensor(np.asarray(array, np.float64), requires_grad=True)


def const(array):
    return z2g.tensor(np.asarray(array, np.float64))


def host(x):
    """The numbers of a tensor as a NumPy array, wherever it lives."""
    return None if x is None else np.array(x.detach().cpu().numpy())


def cotangent(y, seed=7):
    return rng(seed).uniform(0.5, 1.5, tuple(y.shape)) * rng(seed + 1).choice([-1, 1], tuple(y.shape))


def backward(y, seed=7, **options):
    """Walk back from Σ w y; returns w."""
    w = cotangent(y, seed)
    y.backward(const(w), **options)
    return w


def assert_close(found, expected):
    found = host(found) if isinstance(found, z2g.Tensor) else found
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@contextlib.contextmanager
def without_gc():
    """Only reference counting frees memory inside."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Counting:
    """An operation z = x (or x + y) of our own that counts how often its rules run."""

    def __init__(self):
        self.calls = 0

    def _rule(self, grad):
        self.calls += 1
        return grad

    def __call__(self, *inputs):
        array = sum(x.array for x in inputs) * 1.0
        return engine.record("counting", array, *((x, self._rule) for x in inputs))


# The methods that carry gradients: how to call each, and whose numbers its rules read. "x", "y": floating-point
# inputs (3, 3); "m": a mask; "i": indices (3, 3); "z": the result. The same table serves rows 8, 9 and 10.
OPS = {
    "add": (lambda x, y: x.add(y), ""),
    "sub": (lambda x, y: x.sub(y), ""),
    "rsub": (lambda x: 2 - x, ""),
    "mul": (lambda x, y: x.mul(y), "xy"),
    "div": (lambda x, y: x.div(y), "xy"),
    "rdiv": (lambda x: 2 / x, "x"),
    "pow": (lambda x, y: x.pow(y), "xyz"),
    "pow a number": (lambda x: x**3, "x"),
    "rpow": (lambda x: 2**x, "xz"),
    "neg": (lambda x: x.neg(), ""),
    "square": (lambda x: x.square(), "x"),
    "sqrt": (lambda x: x.sqrt(), "z"),
    "rsqrt": (lambda x: x.rsqrt(), "z"),
    "exp": (lambda x: x.exp(), "z"),
    "log": (lambda x: x.log(), "x"),
    "sin": (lambda x: x.sin(), "x"),
    "cos": (lambda x: x.cos(), "x"),
    "tanh": (lambda x: x.tanh(), "z"),
    "sigmoid": (lambda x: x.sigmoid(), "z"),
    "relu": (lambda x: x.relu(), "z"),
    "abs": (lambda x: x.abs(), "x"),
    "sign": (lambda x: x.sign(), ""),
    "reciprocal": (lambda x: x.reciprocal(), "z"),
    "expm1": (lambda x: x.expm1(), "z"),
    "log2": (lambda x: x.log2(), "x"),
    "log1p": (lambda x: x.log1p(), "x"),
    "tan": (lambda x: x.tan(), "z"),
    "asin": (lambda x: x.asin(), "x"),
    "acos": (lambda x: x.acos(), "x"),
    "atan": (lambda x: x.atan(), "x"),
    "sinh": (lambda x: x.sinh(), "x"),
    "cosh": (lambda x: x.cosh(), "x"),
    "floor": (lambda x: x.floor(), ""),
    "ceil": (lambda x: x.ceil(), ""),
    "round": (lambda x: x.round(), ""),
    "remainder": (lambda x, y: x.remainder(y), "xy"),
    "lerp": (lambda x, y: x.lerp(y, 0.3), ""),
    "clamp": (lambda x: x.clamp(0.8, 1.5), "x"),
    "erf": (lambda x: x.erf(), "x"),
    "cumprod": (lambda x: x.cumprod(0), "xz"),
    "sort": (lambda x: x.sort(0).values, ""),
    "topk": (lambda x: x.topk(2, 0).values, ""),
    "mv": (lambda x, y: x.mv(y[0]), "xy"),
    "einsum": (lambda x, y: z2g.einsum("ij,kj->ik", x, y), "xy"),
    "tensordot": (lambda x, y: z2g.tensordot(x, y, 1), "xy"),
    "unflatten": (lambda x: x.unflatten(0, (1, 3)), ""),
    "movedim": (lambda x: x.movedim(0, 1), ""),
    "diagonal": (lambda x: x.diagonal(), ""),
    "diag": (lambda x: x.diag(), ""),
    "tile": (lambda x: x.tile(2), ""),
    "scatter": (lambda x, y, i: x.scatter(0, i, y), "i"),
    "scatter_add": (lambda x, y, i: x.scatter_add(0, i, y), "i"),
    "select": (lambda x: x.select(0, 1), ""),
    "masked_select": (lambda x, m: x.masked_select(m), "m"),
    "repeat_interleave": (lambda x: x.repeat_interleave(2, 0), ""),
    "where (method)": (lambda x, y, m: x.where(m, y), "m"),
    "F.leaky_relu": (lambda x: F.leaky_relu(x), "x"),
    "F.binary_cross_entropy": (lambda x, t: F.binary_cross_entropy(x / 4, t), "t"),
    "maximum": (lambda x, y: x.maximum(y), "xy"),
    "minimum": (lambda x, y: x.minimum(y), "xy"),
    "masked_fill": (lambda x, m: x.masked_fill(m, -1.0), "m"),
    "where": (lambda x, y, m: z2g.where(m, x, y), "m"),
    "sum": (lambda x: x.sum(0), ""),
    "mean": (lambda x: x.mean(0), ""),
    "var": (lambda x: x.var(0), ""),
    "std": (lambda x: x.std(0), "z"),
    "prod": (lambda x: x.prod(0), "x"),
    "max": (lambda x: x.max(0).values, ""),
    "min": (lambda x: x.min(0).values, ""),
    "amax": (lambda x: x.amax(0), "xz"),
    "amin": (lambda x: x.amin(0), "xz"),
    "logsumexp": (lambda x: x.logsumexp(0), "xz"),
    "norm": (lambda x: x.norm(dim=0), "xz"),
    "cumsum": (lambda x: x.cumsum(0), ""),
    "matmul": (lambda x, y: x @ y, "xy"),
    "matmul with a batch": (lambda x, y: x.unsqueeze(0) @ y, "xy"),
    "matmul with a vector": (lambda x, y: x @ y[0], "xy"),
    "mm": (lambda x, y: x.mm(y), "xy"),
    "bmm": (lambda x, y: x.unsqueeze(0).bmm(y.unsqueeze(0)), "xy"),
    "dot": (lambda x, y: x[0].dot(y[1]), "xy"),
    "outer": (lambda x, y: x[0].outer(y[1]), "xy"),
    "reshape": (lambda x: x.reshape(9), ""),
    "reshape that copies": (lambda x: x.t().reshape(9), ""),
    "view": (lambda x: x.view(1, 9), ""),
    "flatten": (lambda x: x.flatten(), ""),
    "squeeze": (lambda x: x.unsqueeze(1).squeeze(), ""),
    "unsqueeze": (lambda x: x.unsqueeze(-1), ""),
    "transpose": (lambda x: x.transpose(0, 1), ""),
    "t": (lambda x: x.t(), ""),
    "permute": (lambda x: x.permute(1, 0), ""),
    "expand": (lambda x: x.expand(2, 3, 3), ""),
    "broadcast_to": (lambda x: x.broadcast_to((2, 3, 3)), ""),
    "repeat": (lambda x: x.repeat(2, 1), ""),
    "split": (lambda x: x.split(2)[0], ""),
    "chunk": (lambda x: x.chunk(2)[0], ""),
    "unbind": (lambda x: x.unbind()[0], ""),
    "narrow": (lambda x: x.narrow(1, 0, 2), ""),
    "roll": (lambda x: x.roll(1, 0), ""),
    "flip": (lambda x: x.flip(0), ""),
    "tril": (lambda x: x.tril(), ""),
    "triu": (lambda x: x.triu(), ""),
    "contiguous": (lambda x: x.t().contiguous(), ""),
    "cat": (lambda x, y: z2g.cat([x, y]), ""),
    "stack": (lambda x, y: z2g.stack([x, y]), ""),
    "__getitem__": (lambda x: x[1:, 0], ""),
    "indexed by a tensor": (lambda x, i: x[i[0]], "i"),
    "indexed by a mask": (lambda x, m: x[m], "m"),
    "gather": (lambda x, i: x.gather(0, i), "i"),
    "take_along_dim": (lambda x, i: x.take_along_dim(i, 0), "i"),
    "index_select": (lambda x, i: x.index_select(0, i[0]), "i"),
    "clone": (lambda x: x.clone(), ""),
    "to": (lambda x: x.to(z2g.float32).to(z2g.float64), ""),
    "softmax": (lambda x: x.softmax(-1), "z"),
    "log_softmax": (lambda x: x.log_softmax(-1), "z"),
    "F.gelu": (lambda x: F.gelu(x), "x"),
    "F.gelu tanh": (lambda x: F.gelu(x, "tanh"), "x"),
    "F.bias_gelu": (lambda x, y: F.bias_gelu(x, y[0]), "xy"),
    "F.silu": (lambda x: F.silu(x), "x"),
    "F.softplus": (lambda x: F.softplus(x), ""),
    "F.linear": (lambda x, y: F.linear(x, y, y[0]), "xy"),
    "F.layer_norm": (lambda x, y: F.layer_norm(x, (3,), y[0], y[1]), "y"),
    "F.cross_entropy": (lambda x, i: F.cross_entropy(x, i[0]), ""),
    "F.nll_loss": (lambda x, i: F.nll_loss(x, i[0]), ""),
    "F.mse_loss": (lambda x, y: F.mse_loss(x, y), "xy"),
    "F.l1_loss": (lambda x, y: F.l1_loss(x, y), ""),
    "F.dropout": (lambda x: F.dropout(x, 0.3), ""),
    "F.embedding": (lambda x, i: F.embedding(i, x), "i"),
    "F.pad": (lambda x: F.pad(x, (1, 1)), ""),
    "F.conv1d": (lambda x, y: F.conv1d(x, y.unsqueeze(-1), padding=1), "y"),
    "F.attention": (lambda x, y: F.scaled_dot_product_attention(x, y, x * y), "xy"),
}
NO_GRADIENT = {
    "eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_not", "__and__", "__or__", "__xor__",
    "__invert__", "__lshift__", "__rlshift__", "__rshift__", "__rrshift__",
    "isnan", "isfinite", "isinf", "isclose", "allclose", "equal", "floor_divide",
    "argsort", "count_nonzero", "argmax", "argmin", "all", "any", "__setitem__",
}  # fmt: skip


def inputs_of(op):
    """Fresh inputs for a row of OPS: {"x": tensor, ...}. The floating-point ones are leaves that require grad."""
    made = {
        "x": lambda: leaf(numbers(3, 3)),
        "y": lambda: leaf(numbers(3, 3, seed=1)),
        "t": lambda: leaf(numbers(3, 3, seed=1) / 4),  # probabilities
        "m": lambda: z2g.tensor(np.eye(3, dtype=bool)),
        "i": lambda: z2g.tensor(np.array([[0, 2, 2], [1, 0, 1], [2, 1, 0]])),
    }
    return {name: made[name]() for name in inspect.signature(OPS[op][0]).parameters}


def positions(*, read):
    """(op, position) for every input and result whose numbers the rules of op read, or do not read."""
    return [
        (op, position)
        for op, (f, reads) in OPS.items()
        for position in (*inspect.signature(f).parameters, "z")
        if (position in reads) == read
    ]
