"""Hook points of fused layers: identity modules whose forward hooks receive the states or the gradients."""

from typing import NamedTuple

from torch import Tensor, nn

__all__ = ["GradientsHookPoint", "LayerStates", "StatesHookPoint"]


class LayerStates(NamedTuple):
    """Input, transform and transform gate of every layer in one pass, each (depth, ..., width) and detached."""

    x: Tensor  # input of the layer
    h: Tensor  # transform H
    t: Tensor  # transform gate T


class StatesHookPoint(nn.Module):
    """Identity whose forward hooks receive the LayerStates of a fused layer."""

    def forward(self, states: LayerStates) -> LayerStates:
        return states


class GradientsHookPoint(nn.Module):
    """Identity whose forward hooks receive dL/dy of every layer of a fused layer, during the backward pass."""

    def forward(self, gradients: Tensor) -> Tensor:
        return gradients
