"""The activations Thruway knows by name, in one table.

A row holds the function, the module a model holds for it (so that a watcher can hook it), and the
gain: the factor on an initial standard deviation that keeps the variance of a unit-variance
pre-activation through one layer. To add one, add a row; every block, initialiser and test
that takes an activation by name then takes it too.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thruway.errors import ConfigError, unknown_name

__all__ = ["ACTIVATIONS", "Activation", "activation", "activation_module"]


@dataclass(frozen=True)
class Activation:
    """One row: `gain` is 1/sqrt(E f(z)^2), z ~ N(0, 1), unless the field has settled on another number."""

    name: str
    function: Callable[[Tensor], Tensor]
    module: Callable[[], nn.Module]
    gain: float


ACTIVATIONS: dict[str, Activation] = {
    row.name: row
    for row in (
        Activation("linear", lambda x: x, nn.Identity, 1.0),
        Activation("relu", torch.relu, nn.ReLU, math.sqrt(2.0)),  # He et al. 2015, eq. 10
        Activation("tanh", torch.tanh, nn.Tanh, 1.0),  # Glorot & Bengio 2010: f'(0) = 1
        Activation("sigmoid", torch.sigmoid, nn.Sigmoid, 1.0),
        Activation("softsign", F.softsign, nn.Softsign, 1.0),
        Activation("elu", F.elu, nn.ELU, 1.2452),  # 1/sqrt(E elu(z)^2) = 1/sqrt(0.6450)
        Activation("selu", F.selu, nn.SELU, 1.0),  # self-normalising with LeCun's variance, Klambauer et al. 2017
        Activation("gelu", F.gelu, nn.GELU, 1.5335),  # 1/sqrt(E gelu(z)^2) = 1/sqrt(0.4252)
        Activation("silu", F.silu, nn.SiLU, 1.6765),  # 1/sqrt(E silu(z)^2) = 1/sqrt(0.3558)
    )
}


def activation(name: str) -> Activation:
    """The row called `name`.

    Raises:
        ConfigError: naming the nearest known activation.

    >>> activation("tanh").gain
    1.0
    """
    try:
        return ACTIVATIONS[name]
    except (KeyError, TypeError):
        raise ConfigError(unknown_name("activation", name, ACTIVATIONS)) from None


def activation_module(which: str | Callable[[Tensor], Tensor]) -> nn.Module:
    """A module for an activation given by name, as a module, or as any callable on tensors.

    >>> activation_module("relu")
    ReLU()
    """
    if isinstance(which, str):
        return activation(which).module()
    if isinstance(which, nn.Module):
        return which
    if callable(which):
        return _Called(which)
    raise ConfigError(
        f"an activation is a name or a callable on tensors, got {which!r}. Known names: {', '.join(ACTIVATIONS)}."
    )


class _Called(nn.Module):
    """A plain callable as a module, so that hooks can reach it."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)

    def extra_repr(self) -> str:
        return getattr(self.function, "__name__", repr(self.function))
