"""Siamese network: two images through the same convolutional encoder, a probability that they show the same class."""

import argparse

import torch
from torch import nn, optim
from torch.utils.data import DataLoader, Dataset

parser = argparse.ArgumentParser(description="siamese network")
parser.add_argument("--fault", default="")
args = parser.parse_args()
torch.manual_seed(3)


class SiameseNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(2),
        )
        self.fc = nn.Sequential(nn.Linear(128, 32), nn.ReLU(inplace=True), nn.Linear(32, 1))
        self.probability = nn.Softmax(dim=1) if args.fault == "softmax_of_one_unit" else nn.Sigmoid()
        self.fc.apply(self.init_weights)

    def init_weights(self, m):
        if isinstance(m, nn.Linear):
            nn.init.xavier_uniform_(m.weight)
            m.bias.data.fill_(0.01)

    def forward_once(self, x):
        return self.encoder(x).flatten(1)

    def forward(self, input1, input2):
        output = torch.cat((self.forward_once(input1), self.forward_once(input2)), 1)
        return self.probability(self.fc(output))


class Pairs(Dataset):
    def __init__(self, count):
        self.count = count
        self.patterns = torch.rand(4, 1, 12, 12).round() - 0.5

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        same = index % 2
        first = torch.randint(4, ()).item()
        second = first if same else (first + 1 + torch.randint(3, ()).item()) % 4
        images = [self.patterns[which] + 0.2 * torch.randn(1, 12, 12) for which in (first, second)]
        return *images, torch.tensor(float(same))


model = SiameseNetwork()
criterion = nn.BCELoss()
optimizer = optim.Adadelta(model.parameters(), lr=1.0)
scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.7)
dataset = Pairs(1024)

for epoch in range(1, 3):
    model.train()
    for batch_idx, (images_1, images_2, targets) in enumerate(DataLoader(dataset, batch_size=64, shuffle=True)):
        optimizer.zero_grad()
        outputs = model(images_1, images_2).squeeze()
        loss = criterion(outputs, targets)
        loss.backward()
        optimizer.step()
        print(f"Train Epoch: {epoch} [{batch_idx}] Loss: {loss.item()!r}")
    model.eval()
    with torch.no_grad():
        images_1, images_2, targets = next(iter(DataLoader(dataset, batch_size=128)))
        outputs = model(images_1, images_2).squeeze()
        print("test", criterion(outputs, targets).item(), (outputs.round() == targets).float().mean().item())
    scheduler.step()
