"""The usual implementation of a highway net: two Linear layers and five pointwise calls per layer."""

import torch
from torch import Tensor, nn

INPUTS, WIDTH, CLASSES, BATCH = 64, 50, 10, 100


class TextbookHighway(nn.Module):
    """One highway layer."""

    def __init__(self, width: int, activation: str) -> None:
        super().__init__()
        self.transform, self.gate = nn.Linear(width, width), nn.Linear(width, width)
        self.activation = getattr(torch, activation)
        nn.init.constant_(self.gate.bias, -2.0)

    def forward(self, x: Tensor) -> Tensor:
        h, t = self.activation(self.transform(x)), torch.sigmoid(self.gate(x))
        return h * t + x * (1 - t)


def textbook_net(depth: int, activation: str = "relu") -> nn.Sequential:
    layers = (TextbookHighway(WIDTH, activation) for _ in range(depth))
    return nn.Sequential(nn.Linear(INPUTS, WIDTH), *layers, nn.Linear(WIDTH, CLASSES))


def batch() -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    return torch.randn(BATCH, INPUTS, generator=rng), torch.randint(CLASSES, (BATCH,), generator=rng)


def stepper(net: nn.Module):
    """Return a training step: zero_grad, forward, cross-entropy, backward, SGD with momentum."""
    optimizer, (x, y) = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9), batch()

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()

    return step
