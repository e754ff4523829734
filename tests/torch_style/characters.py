"""The next character by self-attention written out head by head, batches cut at random places, and sampling."""

import math

import tinygrad_z2g as torch
import tinygrad_z2g.optim as optim
from tinygrad_z2g.nn import functional as F

torch.manual_seed(1)

text = "the cat sat on the mat, the cat ate the rat, and that was that. " * 4
chars = sorted(set(text))
V = len(chars)
stoi = {c: i for i, c in enumerate(chars)}
itos = {i: c for c, i in stoi.items()}
data = torch.tensor([stoi[c] for c in text])

n = 12  # context
C = 16  # channels
heads = 2

params = []


def weights(ins, outs):
    ws = torch.randn(ins, outs) * 0.1
    ws = ws.requires_grad_(True)
    params.append(ws)
    return ws


def batch():
    starts = torch.randint(len(data) - n - 1, (20,))
    xb = torch.stack([data[i : i + n] for i in starts])
    yb = torch.stack([data[i + 1 : i + n + 1] for i in starts])
    return xb, yb


class Head:
    def __init__(self):
        self.wq, self.wk, self.wv = (weights(C, C // heads) for _ in range(3))

    def forward(self, x):
        q, k, v = x @ self.wq, x @ self.wk, x @ self.wv
        att = q @ k.transpose(-2, -1) / math.sqrt(C // heads)
        mask = torch.tril(torch.ones(x.shape[1], x.shape[1]))
        att = att.masked_fill(mask == 0, float("-inf"))
        return F.softmax(att, dim=-1) @ v


class Model:
    def __init__(self):
        self.emb = weights(V, C)
        self.pos = weights(n, C)
        self.heads = [Head() for _ in range(heads)]
        self.out = weights(C, V)

    def forward(self, x):
        onehot = F.one_hot(x, V).float()
        x = onehot @ self.emb + self.pos[: x.shape[1]]
        x = x + torch.cat([h.forward(x) for h in self.heads], dim=-1)
        return torch.tanh(x) @ self.out


def loss_of(xb, yb):
    logits = model.forward(xb)
    return F.cross_entropy(logits.view(-1, V), yb.view(-1).long())


model = Model()
optimizer = optim.Adam(params, lr=0.02)
for _ in range(80):
    xb, yb = batch()
    loss = loss_of(xb, yb)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

s = data[:n].clone()
written = []
for _ in range(40):
    logits = model.forward(s.unsqueeze(0))[0, -1]
    prob = F.softmax(logits, dim=0)
    pred = torch.multinomial(prob, num_samples=1).item()
    s = torch.roll(s, -1)
    s[-1] = pred
    written.append(itos[pred])
written = "".join(written)
