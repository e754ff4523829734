"""Newton's method for a small logistic regression: the Hessian, row by row, and the same by torch.func."""

import tinygrad_z2g as torch
import tinygrad_z2g.nn.functional as F
from tinygrad_z2g.autograd.functional import hessian, hvp
from tinygrad_z2g.func import grad, jacrev

torch.manual_seed(3)
X = torch.randn(40, 3, dtype=torch.float64)
true = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
y = (X @ true + 0.5 * torch.randn(40, dtype=torch.float64) > 0).double()


def loss_fn(w):
    return F.binary_cross_entropy_with_logits(X @ w, y) + 0.01 * (w * w).sum()


w = torch.zeros(3, dtype=torch.float64, requires_grad=True)
norms = []
for _ in range(8):
    loss = loss_fn(w)
    (g,) = torch.autograd.grad(loss, w, create_graph=True)
    H = torch.stack([torch.autograd.grad(g[i], w, retain_graph=True)[0] for i in range(3)])
    a, b, c, d, e, f = H[0, 0], H[0, 1], H[0, 2], H[1, 1], H[1, 2], H[2, 2]
    cofactors = torch.stack([
        torch.stack([d * f - e * e, c * e - b * f, b * e - c * d]),
        torch.stack([c * e - b * f, a * f - c * c, b * c - a * e]),
        torch.stack([b * e - c * d, b * c - a * e, a * d - b * b]),
    ])
    determinant = (H[0] * cofactors[0]).sum()
    with torch.no_grad():
        w -= cofactors @ g / determinant
    norms.append(g.norm().item())

by_functional = hessian(loss_fn, w.detach())
by_func = jacrev(grad(loss_fn))(w.detach())
value, product = hvp(loss_fn, w.detach(), true)
