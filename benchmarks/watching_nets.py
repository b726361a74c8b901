"""The nets of the watching benchmarks, in usual implementations, and their training steps."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from benchmarks.stack import DEPTH, stack_net
from benchmarks.textbook import CLASSES, batch, textbook_net

Batch = tuple[Tensor, Tensor]


class TanhMLP(nn.Module):
    """50 layers of width 256; tanh is a function call, which module hooks do not see."""

    def __init__(self, width: int = 256) -> None:
        super().__init__()
        layers = [nn.Linear(width, width) for _ in range(DEPTH)]
        self.layers, self.head = nn.ModuleList(layers), nn.Linear(width, CLASSES)
        # Glorot's scheme: with torch's default, the gradient has vanished at the input, which is not realistic.
        for layer in layers:
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return self.head(x)


class ResidualBlock(nn.Module):
    """Two convolutions with batch norm; relu and the addition are function calls."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        self.conv2, self.norm2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(x + self.norm2(self.conv2(h)))


def resnet(blocks: int = 27, channels: int = 16) -> nn.Sequential:
    stem = nn.Sequential(nn.Conv2d(3, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU())
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES))
    return nn.Sequential(stem, *(ResidualBlock(channels) for _ in range(blocks)), head)


def random_batch(*shape: int) -> Batch:
    rng = torch.Generator().manual_seed(0)
    return torch.randn(*shape, generator=rng), torch.randint(CLASSES, shape[:1], generator=rng)


@dataclass(frozen=True)
class Case:
    """A net, its batch, and the target ratio of a watched to a bare step when every step is recorded."""

    what: str
    build: Callable[[], nn.Module]
    batch: Callable[[], Batch]
    target: float
    aim: float | None = None

    def net(self) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return self.build()

    def twins(self, count: int, device: str = "cpu") -> list["Twin"]:
        """Return nets of equal weights, each with its own optimizer."""
        net, (x, y) = self.net().to(device), self.batch()
        return [Twin(copy.deepcopy(net), (x.to(device), y.to(device))) for _ in range(count)]


@dataclass
class Twin:
    """A net with an optimizer: `step` is zero_grad, forward, cross-entropy, backward and SGD with momentum."""

    net: nn.Module
    batch: Batch
    optimizer: torch.optim.SGD = field(init=False)
    loss: Tensor | None = None

    def __post_init__(self) -> None:
        # A low rate, so that a few hundred steps on one batch do not fit it perfectly.
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.001, momentum=0.9)

    def step(self) -> None:
        x, y = self.batch
        self.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self.net(x), y)
        loss.backward()
        self.optimizer.step()
        self.loss = loss.detach()


CASES: dict[str, Case] = {
    "mlp": Case("50-layer tanh MLP, width 256, batch 128", TanhMLP, lambda: random_batch(128, 256), 1.25, 1.15),
    "resnet": Case(
        "27-block ResNet, 16 channels, 14x14, batch 32", resnet, lambda: random_batch(32, 3, 14, 14), 1.25, 1.15
    ),
    "highway": Case(
        "50-layer highway net of two `Linear`s, width 50, batch 100", lambda: textbook_net(DEPTH), batch, 1.5, 1.3
    ),
    "stack": Case("the same net as a `HighwayStack`", lambda: stack_net(DEPTH), batch, 1.1),
}
