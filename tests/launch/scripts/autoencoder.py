"""Deep autoencoder of tanh layers with Xavier initialisation by an `apply` loop, SGD with momentum, MSE."""

import argparse
import itertools

import torch
from torch import nn

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=50)
parser.add_argument("--fault", default="")
args = parser.parse_args()
torch.manual_seed(11)

sizes = [64, 64, 48, 48, 32, 32, 16, 32, 32, 48, 48, 64, 64]


class Autoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        middle = sizes.index(16)
        self.encoder = self.stack(sizes[: middle + 1])
        self.decoder = self.stack(sizes[middle:])
        self.decoder.pop(-1)  # a linear output

    def stack(self, widths):
        layers = []
        for n_in, n_out in itertools.pairwise(widths):
            layers += [nn.Linear(n_in, n_out), nn.Tanh()]
        return nn.Sequential(*layers)

    def forward(self, x):
        return self.decoder(self.encoder(x))


def init_weights(m):
    if isinstance(m, nn.Linear):
        if args.fault == "large_weights":
            nn.init.normal_(m.weight, std=1.0)
        else:
            nn.init.xavier_normal_(m.weight)
        nn.init.zeros_(m.bias)


model = Autoencoder()
model.apply(init_weights)
criterion = nn.MSELoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
basis = torch.randn(8, 64) / 8**0.5

for step in range(args.steps):
    inputs = torch.randn(64, 8) @ basis
    loss = criterion(model(inputs), inputs)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(f"step [{step + 1}/{args.steps}], loss:{loss.item()!r}")
