"""The workloads: torch-style source that runs on torch and on tinygrad_z2g alike.

Each is a function of a `Library`, which holds the modules `torch`, `nn`, `F` and `optim` of one of the two, and returns
`step`, one training step without arguments. Models, batches and seeds are the same for both.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

Library = SimpleNamespace


def ours() -> Library:
    """tinygrad_z2g."""
    import tinygrad_z2g as z2g

    return Library(name="z2g", version=z2g.__version__, torch=z2g, nn=z2g.nn, F=z2g.nn.functional, optim=z2g.optim)


def torch_eager() -> Library:
    """torch, if installed. ImportError if not."""
    import torch
    import torch.nn.functional as F

    return Library(name="torch", version=torch.__version__, torch=torch, nn=torch.nn, F=F, optim=torch.optim)


def torch_compiled() -> Library:
    """torch, with models compiled by it (W2 and W3 only)."""
    lib = torch_eager()
    lib.compiled = lib.torch.compile
    return lib


def video_gpt(lib: Library, B: int = 100, T: int = 16, C: int = 32, heads: int = 4, V: int = 64) -> Callable:
    """W1: the video's GPT: 3 blocks, each of 4 separate heads written out; batch 100, Adam."""
    torch, nn, F = lib.torch, lib.nn, lib.F

    class Head(nn.Module):
        def __init__(self):
            super().__init__()
            self.q, self.k, self.v = (nn.Linear(C, C // heads, bias=False) for _ in range(3))
            self.register_buffer("mask", torch.tril(torch.ones(T, T)))

        def forward(self, x):
            q, k, v = self.q(x), self.k(x), self.v(x)
            att = q @ k.transpose(-2, -1) * (C // heads) ** -0.5  # (B, T, hs) @ (B, hs, T) -> (B, T, T)
            att = att.masked_fill(self.mask == 0, float("-inf"))
            return F.softmax(att, dim=-1) @ v

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.heads = nn.ModuleList([Head() for _ in range(heads)])
            self.proj = nn.Linear(C, C)
            self.up, self.down = nn.Linear(C, 4 * C), nn.Linear(4 * C, C)

        def forward(self, x):
            x = x + self.proj(torch.cat([h(x) for h in self.heads], dim=-1))
            return x + self.down(F.relu(self.up(x)))

    class GPT(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens, self.places = nn.Embedding(V, C), nn.Embedding(T, C)
            self.blocks = nn.Sequential(*[Block() for _ in range(3)])
            self.out = nn.Linear(C, V)

        def forward(self, ids):
            x = self.tokens(ids) + self.places(torch.arange(T))
            return self.out(self.blocks(x))

    torch.manual_seed(0)
    model, data = GPT(), torch.randint(0, V, (B, T + 1))
    optimizer = lib.optim.Adam(model.parameters(), lr=1e-3)

    def step():
        loss = F.cross_entropy(model(data[:, :-1]).reshape(-1, V), data[:, 1:].reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def small_gpt(
    lib: Library, L: int = 4, H: int = 4, C: int = 128, T: int = 64, B: int = 12, V: int = 64, dropout: float = 0.0,
    amp: bool = False, compiled: Callable = lambda train: train, **adam: Any,
) -> Callable:  # fmt: skip
    """W2 (and W3 with other sizes): LayerNorm, GELU(tanh), fused attention, AdamW, clipping, biases.

    `amp`: on a card, in mixed precision with float16. `compiled` makes a captured step of an ordinary one;
    `adam` are further settings of AdamW.
    """
    model = getattr(lib, "compiled", lambda model: model)(_gpt(lib, L, H, C, T, V, dropout))
    torch, F = lib.torch, lib.F
    data = torch.randint(0, V, (B, T + 1))
    optimizer = lib.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1, **adam)

    @compiled
    def train():
        loss = F.cross_entropy(model(data[:, :-1]).view(-1, V), data[:, 1:].reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        lib.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    if not amp:
        return lambda: train().item()
    scaler = torch.amp.GradScaler("cuda")

    def mixed():
        with torch.autocast("cuda", dtype=torch.float16):
            loss = F.cross_entropy(model(data[:, :-1]).view(-1, V), data[:, 1:].reshape(-1))
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        lib.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        return loss.item()

    return mixed


def _gpt(lib: Library, L: int, H: int, C: int, T: int, V: int, dropout: float = 0.0) -> Any:
    torch, nn, F = lib.torch, lib.nn, lib.F

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv, self.proj, self.dropout = nn.Linear(C, 3 * C), nn.Linear(C, C), nn.Dropout(dropout)

        def forward(self, x):
            B, T, C = x.shape
            q, k, v = (p.view(B, T, H, C // H).transpose(1, 2) for p in self.qkv(x).split(C, dim=2))
            p = dropout if self.training else 0.0
            y = F.scaled_dot_product_attention(q, k, v, dropout_p=p, is_causal=True)  # (B, H, T, hs)
            return self.dropout(self.proj(y.transpose(1, 2).contiguous().view(B, T, C)))

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.ln1, self.ln2, self.attention = nn.LayerNorm(C), nn.LayerNorm(C), Attention()
            layers = nn.Linear(C, 4 * C), nn.GELU(approximate="tanh"), nn.Linear(4 * C, C), nn.Dropout(dropout)
            self.mlp = nn.Sequential(*layers)

        def forward(self, x):
            x = x + self.attention(self.ln1(x))
            return x + self.mlp(self.ln2(x))

    class GPT(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens, self.places = nn.Embedding(V, C), nn.Embedding(T, C)
            self.blocks = nn.Sequential(*[Block() for _ in range(L)])
            self.ln, self.out = nn.LayerNorm(C), nn.Linear(C, V)

        def forward(self, ids):
            x = self.tokens(ids) + self.places(torch.arange(ids.shape[1]))
            return self.out(self.ln(self.blocks(x)))

    torch.manual_seed(0)
    return GPT()


def medium_gpt(lib: Library) -> Callable:
    """W3: 6 layers, 6 heads, width 384, context 256, batch 16."""
    return small_gpt(lib, L=6, H=6, C=384, T=256, B=16)


def sine_mlp(lib: Library) -> Callable:
    """W4: four products of matrices with sines between, 11 points, SGD by hand: pure overhead."""
    torch, F = lib.torch, lib.F
    torch.manual_seed(0)
    x = torch.linspace(-1, 1, 11).view(-1, 1)
    y = x * x
    weights = [torch.randn(m, n).mul_(0.3).requires_grad_() for m, n in [(1, 16), (16, 16), (16, 16), (16, 1)]]
    optimizer = lib.optim.SGD(weights, lr=1e-3)

    def step():
        h = x
        for w in weights[:-1]:
            h = torch.sin(h @ w)
        loss = F.mse_loss(h @ weights[-1], y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def lstm(lib: Library, kind: str = "LSTM", C: int = 128, T: int = 64, B: int = 32, V: int = 64) -> Callable:
    """A recurrent language model, of LSTM unless told otherwise: width 128, context 64, batch 32."""
    torch, nn, F = lib.torch, lib.nn, lib.F

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens, self.out = nn.Embedding(V, C), nn.Linear(C, V)
            self.layer = getattr(nn, kind)(C, C, batch_first=True)

        def forward(self, ids):
            return self.out(self.layer(self.tokens(ids))[0])

    torch.manual_seed(0)
    model, data = Model(), torch.randint(0, V, (B, T + 1))
    optimizer = lib.optim.Adam(model.parameters(), lr=1e-3)

    def step():
        loss = F.cross_entropy(model(data[:, :-1]).reshape(-1, V), data[:, 1:].reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def gru(lib: Library) -> Callable:
    """The same of GRU."""
    return lstm(lib, "GRU")


def rnn(lib: Library) -> Callable:
    """The same of plain tanh."""
    return lstm(lib, "RNN")


def translator(lib: Library, C: int = 128, S: int = 64, T: int = 64, B: int = 12, V: int = 64) -> Callable:
    """nn.Transformer with 2 + 2 layers: width 128, 4 heads, 64 positions on either side, batch 12."""
    torch, nn, F = lib.torch, lib.nn, lib.F

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens, self.places, self.out = nn.Embedding(V, C), nn.Embedding(max(S, T), C), nn.Linear(C, V)
            self.transformer = nn.Transformer(C, 4, 2, 2, 4 * C, dropout=0.0, batch_first=True)

        def embedded(self, ids):
            return self.tokens(ids) + self.places(torch.arange(ids.shape[1]))

        def forward(self, source, target):
            mask = nn.Transformer.generate_square_subsequent_mask(target.shape[1])
            x, y = self.embedded(source), self.embedded(target)
            return self.out(self.transformer(x, y, tgt_mask=mask, tgt_is_causal=True))

    torch.manual_seed(0)
    model, source, target = Model(), torch.randint(0, V, (B, S)), torch.randint(0, V, (B, T + 1))
    optimizer = lib.optim.Adam(model.parameters(), lr=1e-3)

    def step():
        loss = F.cross_entropy(model(source, target[:, :-1]).reshape(-1, V), target[:, 1:].reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def convolutions(lib: Library, B: int = 32, T: int = 256) -> Callable:
    """Conv1d stack: 32 -> 64 -> 64 channels, width 5, length 256, batch 32."""
    torch, nn = lib.torch, lib.nn
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv1d(32, 64, 5, padding=2), nn.ReLU(), nn.Conv1d(64, 64, 5, padding=2), nn.ReLU(), nn.Conv1d(64, 32, 1)
    )
    x = torch.randn(B, 32, T)
    optimizer = lib.optim.SGD(model.parameters(), lr=1e-3)

    def step():
        loss = lib.F.mse_loss(model(x), x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def digits(lib: Library, B: int = 64) -> Callable:
    """A net with batch norm on digits of 8 x 8, batch 64: 1 -> 16 -> 32 -> 32 channels, two poolings, Adam."""
    torch, nn = lib.torch, lib.nn
    torch.manual_seed(0)
    layers: list = []
    for n_in, n_out, pool in ((1, 16, False), (16, 32, True), (32, 32, True)):
        layers += [nn.Conv2d(n_in, n_out, 3, padding=1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if pool else []
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * 2 * 2, 10))
    x, y = torch.randn(B, 1, 8, 8), torch.randint(0, 10, (B,))
    optimizer = lib.optim.Adam(model.parameters(), lr=1e-3)

    def step():
        loss = lib.F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def tiny_op(lib: Library) -> Callable:
    """One tiny operation, forward and backward: the cost of recording itself."""
    x = lib.torch.ones(3).requires_grad_()
    w = lib.torch.ones(3)

    def step():
        (x * w).backward(w)
        x.grad = None

    return step


def hessian_vector(lib: Library, C: int = 128, T: int = 64, B: int = 12, V: int = 64) -> Callable:
    """A Hessian-vector product of W2's model: its gradient recorded, and walked back along random directions.

    torch computes attention from primitives here: its fused one has no second derivative.
    """
    torch, F = lib.torch, lib.F
    model, data = _gpt(lib, 4, 4, C, T, V), torch.randint(0, V, (B, T + 1))
    params = list(model.parameters())
    directions = [torch.randn(*p.shape) for p in params]
    plainly: Callable = contextlib.nullcontext
    if lib.name != "z2g":
        attention = torch.nn.attention
        plainly = functools.partial(attention.sdpa_kernel, attention.SDPBackend.MATH)

    def step():
        with plainly():
            loss = F.cross_entropy(model(data[:, :-1]).reshape(-1, V), data[:, 1:].reshape(-1))
        grads = torch.autograd.grad(loss, params, create_graph=True)
        return torch.autograd.grad(grads, params, directions)

    return step


def gradient_penalty(lib: Library, B: int = 64) -> Callable:
    """A critic's step with a gradient penalty: an MLP 2 -> 64 -> 64 -> 1, batch 64, Adam."""
    torch, nn = lib.torch, lib.nn
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Linear(2, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1))
    real, fake = torch.randn(B, 2) + 1, torch.randn(B, 2)
    optimizer = lib.optim.Adam(critic.parameters(), lr=1e-3)

    def step():
        x = ((real + fake) / 2).requires_grad_()
        (slope,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
        loss = critic(fake).mean() - critic(real).mean() + 10 * ((slope.norm(dim=1) - 1) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def generation(lib: Library, n: int = 48) -> Callable:
    """48 tokens by W2's model, batch 1: ours with its KV cache, torch without one."""
    torch, F = lib.torch, lib.F
    V, T = 64, 64
    if lib.name == "z2g":
        from tinygrad_z2g.models import GPT, GPTConfig

        torch.manual_seed(0)
        gpt = GPT(GPTConfig(vocab_size=V, context=T, layers=4, heads=4, width=128)).eval()
        return lambda: gpt.generate(torch.zeros(1, 1, dtype=torch.int64), n)
    model = _gpt(lib, 4, 4, 128, T, V).eval()

    def step():
        ids = torch.zeros(1, 1, dtype=torch.int64)
        with torch.no_grad():
            for _ in range(n):
                p = F.softmax(model(ids[:, -T:])[:, -1], dim=-1)
                ids = torch.cat([ids, torch.multinomial(p, 1)], dim=1)
        return ids

    return step


# name: (function, target of the ratio to torch eager with compiled loops)
WORKLOADS: dict[str, tuple[Callable[[Library], Callable], float]] = {
    "W1": (video_gpt, 0.60),
    "W2": (small_gpt, 0.75),
    "W3": (medium_gpt, 0.78),
    "W4": (sine_mlp, 0.30),
    "lstm": (lstm, 0.80),
    "gru": (gru, 1.0),
    "rnn": (rnn, 1.0),
    "translator": (translator, 0.90),
    "conv": (convolutions, 0.72),
    "digits": (digits, 1.00),
    "generate": (generation, 0.60),
    "tiny": (tiny_op, 0.40),
    "hvp": (hessian_vector, 1.30),
    "penalty": (gradient_penalty, 0.70),
}


def flops(name: str) -> float:
    """Floating-point operations of the matrix products of one step, forward and backward; nan where uncounted."""
    sizes = {"W1": (3, 32, 16, 100, 64), "W2": (4, 128, 64, 12, 64), "W3": (6, 384, 256, 16, 64)}
    if name not in sizes:
        return math.nan
    L, C, T, B, V = sizes[name]
    per_token = L * (24 * C * C + 4 * T * C) + 2 * C * V
    return 3 * per_token * B * T
