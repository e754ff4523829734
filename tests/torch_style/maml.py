"""Learning to learn sines: one inner step, differentiated. In the manner of MAML."""

import math

import tinygrad_z2g as torch
import tinygrad_z2g.nn.functional as F

torch.manual_seed(2)
INNER_LR = 0.1


def net(x, params):
    x = torch.tanh(F.linear(x, params[0], params[1]))
    return F.linear(x, params[2], params[3])


def sample_task():
    amplitude, phase = 1 + torch.rand(1).item(), math.pi * torch.rand(1).item()
    x = torch.rand(20, 1) * 4 - 2
    y = amplitude * torch.sin(x + phase)
    return x[:10], y[:10], x[10:], y[10:]


def adapt(params, x, y, create_graph):
    loss = F.mse_loss(net(x, params), y)
    grads = torch.autograd.grad(loss, params, create_graph=create_graph)
    return [p - INNER_LR * g for p, g in zip(params, grads, strict=True)]


params = [torch.randn(12, 1), torch.randn(12), torch.randn(1, 12) * 0.3, torch.zeros(1)]
for p in params:
    p.requires_grad_()
optimizer = torch.optim.Adam(params, lr=0.02)
losses = []
for _ in range(60):
    meta_loss = 0
    for _ in range(3):
        x_spt, y_spt, x_qry, y_qry = sample_task()
        fast = adapt(params, x_spt, y_spt, create_graph=True)
        meta_loss = meta_loss + F.mse_loss(net(x_qry, fast), y_qry) / 3
    optimizer.zero_grad()
    meta_loss.backward()
    optimizer.step()
    losses.append(meta_loss.item())

task = sample_task()
optimizer.zero_grad()
F.mse_loss(net(task[2], adapt(params, task[0], task[1], create_graph=True)), task[3]).backward()
