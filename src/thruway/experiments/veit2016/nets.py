"""The nets that are trained: residual in three ways, and plain with and without batch norm."""

from typing import Any

import torch
from torch import nn

from thruway.dissecting import Dissection, dissect
from thruway.experiments.image_parts import Parts
from thruway.experiments.net_training import Net
from thruway.experiments.veit2016.protocol import ResNetStudy
from thruway.init import lsuv_
from thruway.networks import resnet, vgg
from thruway.networks.vgg import VGG

# Training images on which layers are scaled.
_SCALED_ON = 200

__all__ = ["opened", "plain_net", "residual_net", "stochastic_net", "subset_net"]


def residual_net(config: ResNetStudy, seed: int) -> Net:
    """The net of the paper: all modules take part in every batch."""

    def build(parts: Parts, weights: torch.Generator, _coins: torch.Generator) -> nn.Module:
        return _resnet(config, parts, weights)

    return Net("resnet", seed, build)


def subset_net(config: ResNetStudy, seed: int, use: int) -> Net:
    """Exactly `use` of the modules take part in each training batch."""

    def build(parts: Parts, weights: torch.Generator, coins: torch.Generator) -> nn.Module:
        return _resnet(config, parts, weights, subset=use, coins=coins)

    return Net("subset", seed, build, weights="resnet", cost=use / config.depth)


def stochastic_net(config: ResNetStudy, seed: int, survival: float) -> Net:
    """Stochastic depth: a coin for each module and batch."""

    def build(parts: Parts, weights: torch.Generator, coins: torch.Generator) -> nn.Module:
        return _resnet(config, parts, weights, survival=survival, coins=coins)

    return Net("stochastic", seed, build, weights="resnet", cost=(1 + survival) / 2)


def _resnet(config: ResNetStudy, parts: Parts, weights: torch.Generator, **training: Any) -> nn.Module:
    modules = (config.modules,) * 3
    return resnet(modules, parts.channels, parts.classes, widths=config.widths, generator=weights, **training)


def plain_net(config: ResNetStudy, seed: int, width: int, norm: bool, learning_rate: float | None) -> Net:
    """VGG of 15 layers, its widths in VGG-16's proportions."""

    def build(parts: Parts, weights: torch.Generator, _coins: torch.Generator) -> nn.Module:
        stages = ((1, 1), (2, 2), (4, 4, 4), (8, 8, 8), (8, 8, 8))
        widths = [[width * factor for factor in stage] for stage in stages]
        net = vgg(parts.channels, parts.classes, norm, widths, hidden=(8 * width,), generator=weights)
        if not norm:
            # He's scale is for whole kernels. On maps of a point or two most of a kernel sees the padding, the signal
            # fades from layer to layer, and the net never leaves the start.
            lsuv_(net, parts.train.images[:_SCALED_ON].cpu(), generator=weights)
        return net

    name = "vgg-norm" if norm else "vgg"
    return Net(name, seed, build, learning_rate, weights="vgg", cost=18.0 / config.depth)


def opened(model: nn.Module, parts: Parts) -> Dissection:
    """The net dissected; of a VGG what is left out is a layer with its norm and its rectifier.

    The convolution alone would leave norm and rectifier working on something they never saw.
    """
    example = parts.test.images[:2]
    return dissect(model, example, declare=_whole_layers(model)) if isinstance(model, VGG) else dissect(model, example)


def _whole_layers(net: VGG) -> list[str]:
    """The layers that keep the shape of what they get."""
    named = [(f"layers.{name}", layer) for name, layer in net.layers.named_children()]
    named += [(f"head.{name}", layer) for name, layer in net.head.named_children()]
    return [name for name, layer in named if isinstance(layer, nn.Sequential) and _keeps_shape(layer[0])]


def _keeps_shape(first: nn.Module) -> bool:
    if isinstance(first, nn.Conv2d):
        return first.in_channels == first.out_channels
    return isinstance(first, nn.Linear) and first.in_features == first.out_features
