"""A small recurrent highway layer in float64, and random inputs."""

import torch
from nn_cases import seeded
from torch import Tensor

from thruway.nn.recurrent import RecurrentHighway

EXACT = {"rtol": 1e-12, "atol": 1e-12}  # float64, a few dozen roundings on numbers of size 1


def layer_of(
    inputs: int = 3, width: int = 4, depth: int = 3, activation: str = "tanh", carry: str = "coupled", **more: object
) -> RecurrentHighway:
    """A layer in float64 with different biases."""
    given = torch.sin if activation == "sin" else activation
    layer = RecurrentHighway(inputs, width, depth, -0.5, given, carry, generator=seeded(), **more).double()
    noise = torch.randn(layer.cell.bias.shape, dtype=torch.float64, generator=seeded(1))
    layer.cell.bias.data.add_(0.3 * noise)
    return layer


def sample(*shape: int, seed: int = 2) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=seeded(seed))
