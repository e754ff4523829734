"""What a user's editor and type checker see: checked by mypy (tests/test_types.py), never run."""

from collections.abc import Iterator
from typing import Any, assert_type

import numpy as np

import tinygrad_z2g as z2g
from tinygrad_z2g import autograd, distributions, func, nn, optim
from tinygrad_z2g.models import GPT, GPTConfig
from tinygrad_z2g.nn import functional as F
from tinygrad_z2g.ops.decompositions import SVD
from tinygrad_z2g.ops.reduction import ValuesIndices
from tinygrad_z2g.optim import lr_scheduler, swa_utils
from tinygrad_z2g.text import BPE, CharTokenizer
from tinygrad_z2g.utils.data import DataLoader, Dataset, Subset, TensorDataset, random_split

# --- Tensors -----------------------------------------------------------------------------------------------------

x = z2g.randn(3, 4, requires_grad=True)
ids = z2g.tensor([0, 1, 2])
assert_type(x, z2g.Tensor)
assert_type(x.sum(), z2g.Tensor)
assert_type(x.softmax(0), z2g.Tensor)
assert_type(x.exp(), z2g.Tensor)
assert_type(x.reshape(4, 3), z2g.Tensor)
assert_type(x + 1, z2g.Tensor)
assert_type(2 * x @ x.T, z2g.Tensor)
assert_type(-abs(1 / x) ** 2, z2g.Tensor)
assert_type(x > 0, z2g.Tensor)
assert_type(x == x, z2g.Tensor)
assert_type(x != 0, z2g.Tensor)
assert_type((x >= 0) & ~(x < 1), z2g.Tensor)
assert_type(x[0], z2g.Tensor)
assert_type(x[x > 0], z2g.Tensor)
x[0, 1:] = 3
assert_type([row for row in x], list[z2g.Tensor])  # noqa: C416 - what a loop over a tensor gives
assert_type(z2g.exp(x), z2g.Tensor)
assert_type(z2g.where(x > 0, x, 0), z2g.Tensor)
assert_type(z2g.cat([x, x]), z2g.Tensor)
assert_type(z2g.einsum("ij,kj->ik", x, x), z2g.Tensor)
assert_type(x.max(), z2g.Tensor)
assert_type(x.max(dim=1), ValuesIndices)
assert_type(x.max(dim=1).values, z2g.Tensor)
assert_type(z2g.min(x, 1), ValuesIndices)
assert_type(x.sort(1), ValuesIndices)
assert_type(x.topk(2).indices, z2g.Tensor)
assert_type(x.argmax(1), z2g.Tensor)
assert_type(x.split(2), tuple[z2g.Tensor, ...])
assert_type(z2g.linalg.svd(x), SVD)
assert_type(x.exp_().add_(1), z2g.Tensor)
assert_type(x.new_zeros(3).fill_(1), z2g.Tensor)
assert_type(x.to("cpu").double().contiguous(), z2g.Tensor)
assert_type(x.requires_grad, bool)
assert_type(x.grad, z2g.Tensor | None)
assert_type(x.shape, z2g.Size)
assert_type(x.size(), z2g.Size)
assert_type(x.size(0), int)
assert_type(x.device, z2g.device)
assert_type(len(x), int)
assert_type(float(x.sum()), float)
assert_type(x.detach().numpy(), np.ndarray)
assert_type(z2g.from_numpy(np.ones(3)), z2g.Tensor)
x.sum().backward()


@z2g.no_grad()
def counted(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


# --- Layers ------------------------------------------------------------------------------------------------------

layer = nn.Linear(4, 2)
assert_type(layer(x), z2g.Tensor)
assert_type(layer.weight, nn.Parameter)
assert_type(layer.bias, nn.Parameter | None)
assert_type(nn.LayerNorm(4)(x), z2g.Tensor)
assert_type(nn.Conv2d(3, 8, 3)(x), z2g.Tensor)
assert_type(nn.BatchNorm1d(4).running_mean, z2g.Tensor | None)
assert_type(nn.Embedding(5, 4)(ids), z2g.Tensor)
assert_type(nn.MultiheadAttention(4, 2)(x, x, x), tuple[z2g.Tensor, z2g.Tensor | None])
assert_type(nn.CrossEntropyLoss()(x, ids), z2g.Tensor)
assert_type(F.gelu(x), z2g.Tensor)
assert_type(F.mse_loss(x, x), z2g.Tensor)
assert_type(F.scaled_dot_product_attention(x, x, x, is_causal=True), z2g.Tensor)
assert_type(nn.Sequential(layer, nn.ReLU()).eval(), nn.Sequential)
assert_type(nn.utils.clip_grad_norm_(layer.parameters(), 1.0), z2g.Tensor)


class Net(nn.Module):
    scale: z2g.Tensor  # what register_buffer sets

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)
        self.blocks = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
        self.register_buffer("scale", z2g.ones(2))

    def forward(self, x: z2g.Tensor) -> z2g.Tensor:
        x = self.layer(x).relu()
        for block in self.blocks:
            x = x + block(x)
        return x * self.scale


net = Net()
assert_type(net(x), z2g.Tensor)
assert_type(net.layer(x), z2g.Tensor)
assert_type(net.to("cpu").train(), Net)
assert_type(net.parameters(), Iterator[nn.Parameter])
assert_type(dict(net.named_parameters()), dict[str, nn.Parameter])
net.load_state_dict(net.state_dict())
assert_type(counted(net), int)

# --- Training ----------------------------------------------------------------------------------------------------

optimizer = optim.AdamW(net.parameters(), lr=1e-3)
assert_type(optimizer, optim.AdamW)
optim.SGD([{"params": net.layer.parameters(), "lr": 0.1}, {"params": [x]}], lr=0.01, momentum=0.9)
scheduler = lr_scheduler.CosineAnnealingLR(optimizer, 10)
lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.9**epoch)
assert_type(scheduler.get_last_lr(), list[float])
average = swa_utils.AveragedModel(net)

data = TensorDataset(x, ids)
assert_type(data[0], tuple[z2g.Tensor, ...])
assert_type(random_split(data, [0.5, 0.5]), list[Subset])


class Squares(Dataset):
    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> tuple[int, int]:
        return index, index * index


for inputs, targets in DataLoader(data, batch_size=2, shuffle=True):
    with z2g.autocast("cpu", enabled=False):
        loss = F.mse_loss(net(inputs), targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    scheduler.step()
    average.update_parameters(net)
    print(loss.item(), f"{loss:.3f}")
assert_type(len(DataLoader(Squares(), batch_size=2)), int)

# --- Derivatives, distributions, texts ---------------------------------------------------------------------------

(slope,) = autograd.grad(x.sum(), x)
assert_type(slope, z2g.Tensor)
assert_type(autograd.grad(x.sum(), ids, allow_unused=True), tuple[z2g.Tensor | None, ...])


class Twice(autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: z2g.Tensor, factor: float = 2.0) -> z2g.Tensor:
        ctx.factor = factor
        return factor * x

    @staticmethod
    def backward(ctx: Any, grad: z2g.Tensor) -> tuple[z2g.Tensor, None]:
        return ctx.factor * grad, None


y: z2g.Tensor = Twice.apply(x)
y = func.grad(lambda v: (v * v).sum())(x)
y = func.vmap(z2g.exp)(x)
assert_type(func.functional_call(net, dict(net.named_parameters()), (x,)), Any)
assert_type(distributions.Normal(x, 1.0).rsample((2,)), z2g.Tensor)
assert_type(distributions.Categorical(logits=x).log_prob(ids), z2g.Tensor)
assert_type(distributions.kl_divergence(distributions.Normal(x, 1.0), distributions.Normal(0.0, 1.0)), z2g.Tensor)
assert_type(CharTokenizer("abc").encode("cab"), z2g.Tensor)
assert_type(BPE.train("to be or not to be", 260).decode(ids), str)
with z2g.no_grad():
    model = GPT(GPTConfig(vocab_size=5)).eval()
    assert_type(model, GPT)
    assert_type(model(ids), tuple[z2g.Tensor, z2g.Tensor | None])
    assert_type(model.generate(ids, 3), z2g.Tensor)
    assert_type(model.generate([ids, ids], 3), list[z2g.Tensor])
