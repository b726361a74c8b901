"""Loading of weights from other libraries into Thruway's highway layers."""

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from thruway.nn import HighwayConv1d, HighwayConv2d, HighwayLinear

__all__ = ["Highway", "with_parameters"]

Highway = TypeVar("Highway", bound=HighwayLinear | HighwayConv1d | HighwayConv2d)


def with_parameters(layer: Highway, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> Highway:
    """Replace the parameters of `layer` by copies of the given maps and return it.

    The maps are H, T and, for an independent carry gate, C, in this order. The parameters take their dtype and device,
    so the layer may have been built on the meta device, where nothing is initialised.

    >>> ones, zeros = torch.ones(1, 1), torch.zeros(1)
    >>> weights, biases = [ones, 0 * ones], [zeros, zeros]  # H = relu(x), T = 1/2
    >>> layer = with_parameters(HighwayLinear(1, device="meta"), weights, biases)
    >>> layer(torch.tensor([[-4.0], [4.0]])).tolist()
    [[-2.0], [4.0]]
    """
    layer.weight = nn.Parameter(torch.cat(tuple(weights)).detach())
    layer.bias = nn.Parameter(torch.cat(tuple(biases)).detach())
    return layer
