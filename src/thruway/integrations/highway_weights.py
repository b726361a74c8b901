"""Weights that a layer of someone else's learnt, put into a highway layer of Thruway."""

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from thruway.nn import HighwayConv1d, HighwayConv2d, HighwayLinear

__all__ = ["Highway", "with_maps"]

Highway = TypeVar("Highway", bound=HighwayLinear | HighwayConv1d | HighwayConv2d)


def with_maps(layer: Highway, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> Highway:
    """The layer, holding copies of these maps, in their type and where they lie: H first, then T, then C if it has one.

    It may have been built on the device "meta", where nothing is drawn: what it held is let go.

    >>> ones, zeros = torch.ones(1, 1), torch.zeros(1)
    >>> layer = with_maps(HighwayLinear(1, device="meta"), [ones, 0 * ones], [zeros, zeros])  # H = relu(x), T = 1/2
    >>> layer(torch.tensor([[-4.0], [4.0]])).tolist()
    [[-2.0], [4.0]]
    """
    layer.weight = nn.Parameter(torch.cat(tuple(weights)).detach())
    layer.bias = nn.Parameter(torch.cat(tuple(biases)).detach())
    return layer
