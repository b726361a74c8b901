"""Networks of the corpus, in the style of public training scripts: plain PyTorch modules, small."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "leaky_relu": lambda: nn.LeakyReLU(0.1),
    "gelu": nn.GELU,
    "linear": nn.Identity,
}


def mlp(
    depth: int,
    width: int = 48,
    inputs: int = 64,
    classes: int = 10,
    act: str = "relu",
    init: Callable[[nn.Module], None] | None = None,
    norm: bool = False,
    dropout: float = 0.0,
    last: Iterable[nn.Module] = (),
) -> nn.Sequential:
    """Return `depth` hidden layers and a linear head, with PyTorch's initial weights unless `init` changes them."""
    layers: list[nn.Module] = []
    for layer in range(depth):
        layers.append(nn.Linear(inputs if layer == 0 else width, width))
        layers += [nn.BatchNorm1d(width)] if norm else []
        layers.append(ACTIVATIONS[act]())
        layers += [nn.Dropout(dropout)] if dropout else []
    net = nn.Sequential(*layers, nn.Linear(width if depth else inputs, classes), *last)
    if init is not None:
        net.apply(init)
    return net


# Initialisers, for Module.apply


def _maps(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear | nn.Conv2d)


def normal(std: float, *, bias: float = 0.0) -> Callable[[nn.Module], None]:
    """Draw weights from N(0, std²)."""

    def init(module: nn.Module) -> None:
        if _maps(module):
            nn.init.normal_(module.weight, std=std)
            if module.bias is not None:
                nn.init.constant_(module.bias, bias)

    return init


def he(gain: float = 1.0) -> Callable[[nn.Module], None]:
    """Draw weights from N(0, gain²·2 / fan_in), biases 0."""

    def init(module: nn.Module) -> None:
        if _maps(module):
            nn.init.kaiming_normal_(module.weight)
            module.weight.data.mul_(gain)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    return init


def scaled(std: float, *, bias_std: float = 0.0) -> Callable[[nn.Module], None]:
    """Draw weights from N(0, std² / fan_in); biases from N(0, bias_std²)."""

    def init(module: nn.Module) -> None:
        if _maps(module):
            fan_in = module.weight[0].numel()
            nn.init.normal_(module.weight, std=std / fan_in**0.5)
            if module.bias is not None:
                nn.init.normal_(module.bias, std=bias_std)

    return init


def constant(value: float) -> Callable[[nn.Module], None]:
    def init(module: nn.Module) -> None:
        if _maps(module):
            nn.init.constant_(module.weight, value)
            if module.bias is not None:
                nn.init.constant_(module.bias, value)

    return init


class ConvNet(nn.Module):
    """`depth` convolutions on 8 x 8 images, global average pooling, a linear head."""

    def __init__(self, depth: int = 3, width: int = 12, act: str = "relu", norm: bool = False, classes: int = 10):
        super().__init__()
        layers: list[nn.Module] = []
        for layer in range(depth):
            layers.append(nn.Conv2d(1 if layer == 0 else width, width, 3, padding=1))
            layers += [nn.BatchNorm2d(width)] if norm else []
            layers.append(ACTIVATIONS[act]())
        self.features = nn.Sequential(*layers)
        self.pool = nn.AvgPool2d(2)
        self.fc = nn.Linear(width * 16, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.pool(self.features(x)).flatten(1))


class LeNet(nn.Module):
    """Convolutions and functional activations, as in PyTorch's MNIST example."""

    def __init__(self, width: int = 8, hidden: int = 32, dropout: float = 0.25):
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.dropout = nn.Dropout(dropout)
        self.fc1 = nn.Linear(2 * width * 4, hidden)
        self.fc2 = nn.Linear(hidden, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.fc1(self.dropout(x.flatten(1))))
        return F.log_softmax(self.fc2(x), dim=1)


class ResidualBlock(nn.Module):
    """x + scale · branch(x)."""

    def __init__(self, branch: nn.Module, scale: float | nn.Parameter = 1.0):
        super().__init__()
        self.branch = branch
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return x + self.scale * self.branch(x)


class HighwayLayer(nn.Module):
    """y = H(x)·T(x) + x·(1 - T(x))."""

    def __init__(self, width: int, gate_bias: float, act: str = "relu"):
        super().__init__()
        self.transform = nn.Linear(width, width)
        self.gate = nn.Linear(width, width)
        self.act = ACTIVATIONS[act]()
        nn.init.constant_(self.gate.bias, gate_bias)

    def forward(self, x: Tensor) -> Tensor:
        h, t = self.act(self.transform(x)), torch.sigmoid(self.gate(x))
        return h * t + x * (1 - t)


def highway(
    depth: int, gate_bias: float, width: int = 32, inputs: int = 64, classes: int = 10, act: str = "relu"
) -> nn.Sequential:
    layers = [HighwayLayer(width, gate_bias, act) for _ in range(depth)]
    return nn.Sequential(nn.Linear(inputs, width), *layers, nn.Linear(width, classes))
