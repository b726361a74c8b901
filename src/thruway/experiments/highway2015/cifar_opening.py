"""The trained nets of tables 2 and 3, taken apart: highway layers, and whole layers where there are none."""

import torch
from torch import nn

from thruway.dissecting import Dissection, dissect
from thruway.experiments.image_parts import Parts
from thruway.networks import ConvNet

__all__ = ["opened"]


def opened(model: nn.Module, parts: Parts) -> Dissection:
    """The net dissected; of a fitnet what is left out is a layer with all its linear pieces."""
    example = parts.test.images[:2]
    found = dissect(model, example)
    if found.branches or not isinstance(model, ConvNet):
        return found
    return dissect(model, example, declare=_whole_layers(model, example))


def _whole_layers(net: ConvNet, x: torch.Tensor) -> list[str]:
    """The convolutional layers that keep the shape of what they get."""
    names = []
    with torch.no_grad():
        for name, layer in net.layers.named_children():
            y = layer(x)
            if name.startswith("conv") and y.shape == x.shape:
                names.append(f"layers.{name}")
            x = y
    return names
