"""Which functions and modules a watcher listens to, and what they compute: tables to read and to add to."""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

__all__ = [
    "ACTIVATION_FUNCTIONS",
    "ACTIVATION_MODULES",
    "ADDS",
    "BLENDS",
    "ENDS",
    "MAPS",
    "PRODUCTS",
    "Ends",
    "activation_of_call",
]


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


def activation_of_call(name: str | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """The activation by its ends: hardtanh(0, 6) is ReLU6, and one with ends of its own goes without a name."""
    if name == "hardtanh":
        low = args[1] if len(args) > 1 else kwargs.get("min_val", -1.0)
        high = args[2] if len(args) > 2 else kwargs.get("max_val", 1.0)
        return {(-1.0, 1.0): "hardtanh", (0.0, 6.0): "relu6"}.get((float(low), float(high)))
    if name == "elu":
        return name if float(args[1] if len(args) > 1 else kwargs.get("alpha", 1.0)) == 1.0 else None
    return name


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


@dataclass(frozen=True)
class Map:
    """A function that holds a layer's weight, as its `weight_at`-th argument."""

    name: str
    weight_at: int


MAPS: dict[Callable[..., Any], Map] = {
    F.linear: Map("linear", 1),
    F.bilinear: Map("bilinear", 2),
    F.conv1d: Map("conv1d", 1),
    F.conv2d: Map("conv2d", 1),
    F.conv3d: Map("conv3d", 1),
    F.conv_transpose1d: Map("conv_transpose1d", 1),
    F.conv_transpose2d: Map("conv_transpose2d", 1),
    F.conv_transpose3d: Map("conv_transpose3d", 1),
    F.batch_norm: Map("batch_norm", 3),
    F.layer_norm: Map("layer_norm", 2),
    F.group_norm: Map("group_norm", 2),
    F.rms_norm: Map("rms_norm", 2),
    F.embedding: Map("embedding", 1),
}
