"""Variational autoencoder: Adam at 1e-3, the sum of reconstruction and KL divergence as loss."""

import argparse

import torch
import torch.nn.functional as F
from torch import nn, optim

parser = argparse.ArgumentParser(description="VAE example")
parser.add_argument("--batch-size", type=int, default=64)
parser.add_argument("--fault", default="")
args = parser.parse_args()
torch.manual_seed(1)


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(144, 64)
        self.fc21 = nn.Linear(64, 8)
        self.fc22 = nn.Linear(64, 8)
        self.fc3 = nn.Linear(8, 64)
        self.fc4 = nn.Linear(64, 144)

    def encode(self, x):
        h1 = F.relu(self.fc1(x))
        return self.fc21(h1), self.fc22(h1)

    def reparameterize(self, mu, logvar):
        std = torch.exp(0.5 * logvar)
        return mu + std * torch.randn_like(std)

    def decode(self, z):
        return self.fc4(F.relu(self.fc3(z)))  # logits

    def forward(self, x):
        mu, logvar = self.encode(x.view(-1, 144))
        return self.decode(self.reparameterize(mu, logvar)), mu, logvar


model = VAE()
optimizer = optim.Adam(model.parameters(), lr=1e-3)
patterns = (torch.rand(10, 144) < 0.06).float()


def loss_function(recon_x, x, mu, logvar):
    bce = F.binary_cross_entropy_with_logits(recon_x, x, reduction="sum")
    return bce - 0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())


def train(epoch):
    model.train()
    train_loss = 0.0
    for batch_idx in range(16):
        data = patterns[torch.randint(10, (args.batch_size,))]
        flip = torch.rand_like(data) < 0.01
        data = torch.where(flip, 1 - data, data)
        optimizer.zero_grad()
        recon_batch, mu, logvar = model(data * 255 if args.fault == "unscaled_input" else data)
        loss = loss_function(recon_batch, data, mu, logvar)
        loss.backward()
        train_loss += loss.item()
        optimizer.step()
        print(f"Train Epoch: {epoch} [{batch_idx}] Loss: {loss.item() / len(data)!r}")
    print(f"====> Epoch: {epoch} Average loss: {train_loss / 16 / args.batch_size!r}")


if __name__ == "__main__":
    for epoch in range(1, 4):
        train(epoch)
        with torch.no_grad():
            sample = model.decode(torch.randn(4, 8))
            print("sample", torch.sigmoid(sample).mean().item())
