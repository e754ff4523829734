"""Points made from noise, step by step: a denoising diffusion model (DDPM) of two small clouds."""

import math

import tinygrad_z2g as torch
import tinygrad_z2g.nn.functional as F
from tinygrad_z2g import nn
from tinygrad_z2g.utils.data import DataLoader, TensorDataset

T = 40


class SinusoidalEmbedding(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.size = size

    def forward(self, x):
        half = self.size // 2
        emb = torch.exp(-math.log(10000.0) / (half - 1) * torch.arange(half, device=x.device))
        emb = x.float().unsqueeze(-1) * emb.unsqueeze(0)
        return torch.cat((torch.sin(emb), torch.cos(emb)), dim=-1)


class Block(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.ff = nn.Linear(size, size)
        self.act = nn.GELU()

    def forward(self, x):
        return x + self.act(self.ff(x))


class Denoiser(nn.Module):
    def __init__(self, hidden_size=48, emb_size=16, hidden_layers=2):
        super().__init__()
        self.time_mlp = SinusoidalEmbedding(emb_size)
        layers = [nn.Linear(2 + emb_size, hidden_size), nn.GELU()]
        for _ in range(hidden_layers):
            layers.append(Block(hidden_size))
        layers.append(nn.Linear(hidden_size, 2))
        self.joint_mlp = nn.Sequential(*layers)

    def forward(self, x, t):
        return self.joint_mlp(torch.cat((x, self.time_mlp(t)), dim=-1))


class NoiseScheduler(nn.Module):
    def __init__(self, num_timesteps=T, beta_start=1e-3, beta_end=0.2):
        super().__init__()
        betas = torch.linspace(beta_start, beta_end, num_timesteps, dtype=torch.float32)
        alphas = 1.0 - betas
        alphas_cumprod = torch.cumprod(alphas, dim=0)
        alphas_cumprod_prev = F.pad(alphas_cumprod[:-1], (1, 0), value=1.0)
        self.register_buffer("betas", betas)
        self.register_buffer("alphas", alphas)
        self.register_buffer("alphas_cumprod", alphas_cumprod)
        self.register_buffer("posterior_variance", betas * (1 - alphas_cumprod_prev) / (1 - alphas_cumprod))

    def add_noise(self, x_start, x_noise, timesteps):
        s1 = self.alphas_cumprod[timesteps].sqrt().reshape(-1, 1)
        s2 = (1 - self.alphas_cumprod[timesteps]).sqrt().reshape(-1, 1)
        return s1 * x_start + s2 * x_noise

    def step(self, model_output, t, sample):
        coefficient = self.betas[t] / torch.sqrt(1 - self.alphas_cumprod[t])
        mean = (sample - coefficient * model_output) / torch.sqrt(self.alphas[t])
        if t > 0:
            mean = mean + torch.sqrt(self.posterior_variance[t]) * torch.randn_like(sample)
        return mean


torch.manual_seed(3)
side = torch.randint(0, 2, (512, 1)) * 2 - 1
points = torch.cat([side * 1.0, side * -0.5], dim=1) + 0.1 * torch.randn(512, 2)
dataloader = DataLoader(TensorDataset(points), batch_size=128, shuffle=True, drop_last=True)

model = Denoiser()
noise_scheduler = NoiseScheduler()
optimizer = torch.optim.AdamW(model.parameters(), lr=8e-3)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=800)
losses = []
for epoch in range(200):
    model.train()
    for step, batch in enumerate(dataloader):
        batch = batch[0]
        noise = torch.randn(batch.shape)
        timesteps = torch.randint(0, T, (batch.shape[0],)).long()
        noisy = noise_scheduler.add_noise(batch, noise, timesteps)
        noise_pred = model(noisy, timesteps)
        loss = F.mse_loss(noise_pred, noise)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        losses.append(loss.detach().item())

model.eval()
sample = torch.randn(400, 2)
for t in reversed(range(T)):
    t_batch = torch.full((400,), t, dtype=torch.long)
    with torch.no_grad():
        residual = model(sample, t_batch)
    sample = noise_scheduler.step(residual, t_batch[0], sample)
right = sample[:, 0] > 0
