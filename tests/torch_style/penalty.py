"""A critic between two clouds, with a gradient penalty. In the manner of WGAN-GP."""

import tinygrad_z2g as torch
import tinygrad_z2g.autograd as autograd
import tinygrad_z2g.nn as nn
import tinygrad_z2g.optim as optim

torch.manual_seed(1)
LAMBDA = 10


class Discriminator(nn.Module):
    def __init__(self, dim=2, hidden=8):
        super().__init__()
        self.main = nn.Sequential(nn.Linear(dim, hidden), nn.Tanh(), nn.Linear(hidden, 1))

    def forward(self, inputs):
        return self.main(inputs).view(-1)


def calc_gradient_penalty(critic, real_data, fake_data, alpha):
    alpha = alpha.expand(real_data.size())
    interpolates = alpha * real_data + (1 - alpha) * fake_data
    interpolates.requires_grad_(True)
    disc_interpolates = critic(interpolates)
    gradients = autograd.grad(
        outputs=disc_interpolates, inputs=interpolates, grad_outputs=torch.ones(disc_interpolates.size()),
        create_graph=True, retain_graph=True,
    )[0]  # fmt: skip
    return ((gradients.norm(2, dim=1) - 1) ** 2).mean() * LAMBDA


critic = Discriminator()
optimizer = optim.Adam(critic.parameters(), lr=0.02, betas=(0.5, 0.9))
costs, penalties = [], []
for _ in range(80):
    real = torch.randn(16, 2) * 0.3 + 1
    fake = torch.randn(16, 2) * 0.3
    alpha = torch.rand(16, 1)
    critic.zero_grad()
    on_real, on_fake = critic(real).mean(), critic(fake).mean()
    gradient_penalty = calc_gradient_penalty(critic, real, fake, alpha)
    cost = on_fake - on_real + gradient_penalty
    cost.backward()
    optimizer.step()
    costs.append(cost.item())
    penalties.append(gradient_penalty.item())
