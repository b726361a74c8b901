"""The table of activations that can be chosen by name.

An entry contains the function, the equivalent module (so that hooks can be registered on it), and the gain: the factor
on the standard deviation of initial weights that preserves the variance of unit-variance pre-activations through one
layer. An activation added to the table is available in all blocks, initialisers and tests.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thruway.errors import ConfigError, unknown_name

__all__ = ["ACTIVATIONS", "Activation", "activation", "activation_module", "activation_name"]


@dataclass(frozen=True)
class Activation:
    """One activation. `gain` is 1/sqrt(E f(z)^2) for z ~ N(0, 1), unless another value is established in the field."""

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
    """Return the activation called `name`.

    Raises:
        ConfigError: if no activation has this name; the message suggests the closest one.

    >>> activation("tanh").gain
    1.0
    """
    try:
        return ACTIVATIONS[name]
    except (KeyError, TypeError):
        raise ConfigError(unknown_name("activation", name, ACTIVATIONS)) from None


def activation_module(which: str | Callable[[Tensor], Tensor]) -> nn.Module:
    """Return a module for an activation given by name, as a module, or as a callable on tensors.

    >>> activation_module("relu")
    ReLU()
    """
    if isinstance(which, str):
        return activation(which).module()
    if isinstance(which, nn.Module):
        return which
    if callable(which):
        return _FunctionModule(which)
    raise ConfigError(
        f"an activation must be a name or a callable on tensors, got {which!r}. Known names: {', '.join(ACTIVATIONS)}."
    )


def activation_name(which: str | Callable[[Tensor], Tensor]) -> str | None:
    """Return the name in ACTIVATIONS of a name, function or module; None if it is not in the table.

    >>> activation_name(torch.tanh), activation_name(nn.ReLU(inplace=True)), activation_name(nn.ELU(alpha=2.0))
    ('tanh', 'relu', None)
    """
    if isinstance(which, str):
        return which
    for name, row in ACTIVATIONS.items():
        same_function = which in (row.function, getattr(torch, name, None), getattr(F, name, None))
        if same_function or (isinstance(which, nn.Module) and _settings(which) == _settings(row.module())):
            return name
    return None


def _settings(module: nn.Module) -> tuple[type, dict[str, object]]:
    """Return the type and the attributes that determine the output of a module without parameters."""
    silent = ("training", "inplace")
    public = {key: value for key, value in vars(module).items() if not key.startswith("_") and key not in silent}
    return type(module), public


class _FunctionModule(nn.Module):
    """A module that calls a function, so that hooks can be registered on it."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)

    def extra_repr(self) -> str:
        return getattr(self.function, "__name__", repr(self.function))
