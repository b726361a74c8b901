"""Hook points of fused layers: modules without arithmetic whose forward hooks receive states and gradients."""

from typing import NamedTuple

from torch import Tensor, nn

__all__ = ["GradientsHookPoint", "LayerStates", "StatesHookPoint", "has_forward_hooks", "has_hooks"]


class LayerStates(NamedTuple):
    """What every layer of a stack saw and did in one pass; each (depth, ..., width), without gradient."""

    x: Tensor  # what enters the layer
    h: Tensor  # its transform H
    t: Tensor  # its transform gate T


class StatesHookPoint(nn.Module):
    """Where a forward hook reads the LayerStates of a stack; it computes nothing."""

    def forward(self, states: LayerStates) -> LayerStates:
        return states


class GradientsHookPoint(nn.Module):
    """Where a forward hook reads dL/dy of every layer of a stack, in the backward pass; it computes nothing."""

    def forward(self, gradients: Tensor) -> Tensor:
        return gradients


def has_forward_hooks(module: nn.Module) -> bool:
    """Return True if a forward hook or forward pre-hook is registered on the module."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def has_hooks(module: nn.Module) -> bool:
    """Return True if a forward or backward hook of any kind is registered on the module."""
    hooks = module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks
    return any(hooks)
