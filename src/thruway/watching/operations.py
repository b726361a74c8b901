"""Which functions and modules a watcher listens to, and what they compute: tables to read and to add to."""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

__all__ = ["ACTIVATION_FUNCTIONS", "ACTIVATION_MODULES", "ADDS", "BLENDS", "ENDS", "MAPS", "PRODUCTS", "Ends"]


@dataclass(frozen=True)
class Ends:
    """Where an activation is flat: outputs at or below `low`, at or above `high`; None where it has no such end."""

    low: float | None
    high: float | None


# Within 5 % of the activation's range from the value it tends to; where it reaches that value, at the value itself.
ENDS: dict[str, Ends] = {
    "sigmoid": Ends(0.05, 0.95),
    "tanh": Ends(-0.9, 0.9),
    "softsign": Ends(-0.9, 0.9),
    "relu": Ends(0.0, None),
    "relu6": Ends(0.0, 6.0),
    "hardtanh": Ends(-1.0, 1.0),
    "hardsigmoid": Ends(0.0, 1.0),
    "elu": Ends(-0.95, None),  # tends to -1 with the usual alpha = 1
    "selu": Ends(-0.95 * 1.0507009873554805 * 1.6732632423543772, None),
    "softplus": Ends(0.05, None),
}

_NAMES = (
    "relu relu6 tanh sigmoid softsign hardtanh hardsigmoid hardswish elu selu celu gelu silu mish softplus "
    "leaky_relu prelu rrelu logsigmoid tanhshrink softshrink hardshrink glu"
)


def _functions(name: str) -> list[Callable[..., Any]]:
    """The callables that torch offers for one activation, in-place ones included."""
    homes = (torch, torch.Tensor, F, torch._C._nn)
    return [f for home in homes for f in (getattr(home, name, None), getattr(home, f"{name}_", None)) if f is not None]


ACTIVATION_FUNCTIONS: dict[Callable[..., Any], str] = {f: name for name in _NAMES.split() for f in _functions(name)} | {
    torch.special.expit: "sigmoid"
}

ACTIVATION_MODULES: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.ReLU6: "relu6",
    nn.Tanh: "tanh",
    nn.Sigmoid: "sigmoid",
    nn.Softsign: "softsign",
    nn.Hardtanh: "hardtanh",
    nn.Hardsigmoid: "hardsigmoid",
    nn.Hardswish: "hardswish",
    nn.ELU: "elu",
    nn.SELU: "selu",
    nn.CELU: "celu",
    nn.GELU: "gelu",
    nn.SiLU: "silu",
    nn.Mish: "mish",
    nn.Softplus: "softplus",
    nn.LeakyReLU: "leaky_relu",
}

ADDS: frozenset[Callable[..., Any]] = frozenset(
    (
        torch.add,
        torch.Tensor.add,
        torch.Tensor.add_,
        torch.Tensor.__add__,
        torch.Tensor.__radd__,
        torch.Tensor.__iadd__,
        operator.iadd,
    )
)
BLENDS: frozenset[Callable[..., Any]] = frozenset((torch.lerp, torch.Tensor.lerp, torch.Tensor.lerp_))
PRODUCTS: frozenset[Callable[..., Any]] = frozenset(
    (torch.mul, torch.multiply, torch.Tensor.mul, torch.Tensor.mul_, torch.Tensor.__mul__, torch.Tensor.__rmul__)
)

# Functions that hold a layer's weights, as custom modules call them.
MAPS: dict[Callable[..., Any], str] = {
    F.linear: "linear",
    F.conv1d: "conv1d",
    F.conv2d: "conv2d",
    F.conv3d: "conv3d",
    F.bilinear: "bilinear",
}
