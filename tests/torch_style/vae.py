"""A variational autoencoder of small hand-drawn digits, with the reparametrization trick."""

import tinygrad_z2g as torch
import tinygrad_z2g.nn.functional as F
from tinygrad_z2g import nn, optim

drawn = """
..###... ...##... ..####.. .####...
.#...#.. ..###... .#...##. .....#..
.#...#.. ...##... .....##. .....#..
.#...#.. ...##... ....##.. ..###...
.#...#.. ...##... ...##... .....#..
.#...#.. ...##... ..##.... .....#..
..###... ..####.. .######. .####...
........ ........ ........ ........
"""
rows = drawn.split()
digits = torch.stack([torch.tensor([[float(c == "#") for c in rows[4 * r + d]] for r in range(8)]) for d in range(4)])


class VAE(nn.Module):
    def __init__(self):
        super(VAE, self).__init__()
        self.fc1 = nn.Linear(64, 48)
        self.fc21 = nn.Linear(48, 2)
        self.fc22 = nn.Linear(48, 2)
        self.fc3 = nn.Linear(2, 48)
        self.fc4 = nn.Linear(48, 64)

    def encode(self, x):
        h1 = F.relu(self.fc1(x))
        return self.fc21(h1), self.fc22(h1)

    def reparameterize(self, mu, logvar):
        std = torch.exp(0.5 * logvar)
        eps = torch.randn_like(std)
        return mu + eps * std

    def decode(self, z):
        h3 = F.relu(self.fc3(z))
        return torch.sigmoid(self.fc4(h3))

    def forward(self, x):
        mu, logvar = self.encode(x.view(-1, 64))
        z = self.reparameterize(mu, logvar)
        return self.decode(z), mu, logvar


# Reconstruction + KL divergence losses summed over all elements and batch
def loss_function(recon_x, x, mu, logvar):
    BCE = F.binary_cross_entropy(recon_x, x.view(-1, 64), reduction="sum")
    KLD = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return BCE + KLD


torch.manual_seed(1)
labels = torch.arange(4).repeat(64)
data = digits[labels]
data = torch.where(torch.rand_like(data) < 0.03, 1 - data, data)  # some pixels are wrong
model = VAE()
optimizer = optim.Adam(model.parameters(), lr=5e-3)
epoch_losses = []
for epoch in range(60):
    model.train()
    train_loss = 0
    for batch in data[torch.randperm(len(data))].split(32):
        optimizer.zero_grad()
        recon_batch, mu, logvar = model(batch)
        loss = loss_function(recon_batch, batch, mu, logvar)
        loss.backward()
        train_loss += loss.item()
        optimizer.step()
    epoch_losses.append(train_loss / len(data))

model.eval()
with torch.no_grad():
    mu, logvar = model.encode(data.view(-1, 64))
    # The divergence written out is that of the distributions
    posterior = torch.distributions.Normal(mu, torch.exp(0.5 * logvar))
    prior = torch.distributions.Normal(torch.zeros_like(mu), torch.ones_like(mu))
    kl = torch.distributions.kl_divergence(posterior, prior).sum().item()
    kl_written_out = (-0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())).item()
    clean = model.decode(model.encode(digits.view(-1, 64))[0]).view(-1, 8, 8)
    wrong_pixels = ((clean > 0.5).float() != digits).float().mean().item()
    sample = model.decode(torch.randn(16, 2)).view(16, 1, 8, 8)
