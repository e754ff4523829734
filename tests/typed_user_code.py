"""What a user's editor and type checker see: checked by mypy (tests/test_types.py), never run."""

from collections.abc import Iterator
from typing import assert_type

import tinygrad_z2g as z2g
from tinygrad_z2g import nn, optim
from tinygrad_z2g.models import GPT, GPTConfig
from tinygrad_z2g.nn import functional as F
from tinygrad_z2g.ops.reduction import ValuesIndices
from tinygrad_z2g.utils.data import DataLoader, TensorDataset

x = z2g.randn(3, 4, requires_grad=True)
assert_type(x, z2g.Tensor)
assert_type(x.sum(), z2g.Tensor)
assert_type(x.softmax(0), z2g.Tensor)
assert_type(x.exp(), z2g.Tensor)
assert_type(x.reshape(4, 3), z2g.Tensor)
assert_type(x + 1, z2g.Tensor)
assert_type(2 * x @ x.T, z2g.Tensor)
assert_type(x[0], z2g.Tensor)
assert_type(z2g.exp(x), z2g.Tensor)
assert_type(F.gelu(x), z2g.Tensor)
assert_type(F.mse_loss(x, x), z2g.Tensor)
assert_type(x.max(dim=1), ValuesIndices)
assert_type(x.max(dim=1).values, z2g.Tensor)
assert_type(x.max(), z2g.Tensor)
assert_type(x.requires_grad, bool)
assert_type(x.shape, z2g.Size)

assert_type(nn.Linear(4, 2)(x), z2g.Tensor)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, x: z2g.Tensor) -> z2g.Tensor:
        return self.layer(x).relu()


net = Net()
assert_type(net(x), z2g.Tensor)
assert_type(net.layer(x), z2g.Tensor)
assert_type(net.parameters(), Iterator[nn.Parameter])
optimizer = optim.AdamW(net.parameters(), lr=1e-3)
assert_type(optimizer, optim.AdamW)
optimizer.step()
for inputs, targets in DataLoader(TensorDataset(x, x), batch_size=2, shuffle=True):
    loss = F.mse_loss(net(inputs), targets)
    optimizer.zero_grad()
    loss.backward()
with z2g.no_grad():
    assert_type(GPT(GPTConfig(vocab_size=5)).eval(), GPT)
