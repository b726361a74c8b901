"""Hook points of fused layers: identity modules whose forward hooks receive the states or the gradients."""

from typing import NamedTuple

from torch import Tensor, nn

__all__ = ["GradientsHookPoint", "LayerStates", "StatesHookPoint", "has_forward_hooks", "has_hooks"]


class LayerStates(NamedTuple):
    """Input, transform and transform gate of every layer in one pass; each (depth, ..., width), detached."""

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


def has_forward_hooks(module: nn.Module) -> bool:
    """Return True if a forward hook or forward pre-hook is registered on the module."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def has_hooks(module: nn.Module) -> bool:
    """Return True if a forward or backward hook of any kind is registered on the module."""
    hooks = module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks
    return any(hooks)
