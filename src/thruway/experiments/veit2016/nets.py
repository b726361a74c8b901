"""Networks of the studies of this paper: shared config, construction, and names in reports."""

import abc
from typing import Any

import torch
from torch import nn

from thruway.dissecting import Dissection, dissect
from thruway.experiments.machinery import ImageParts, Net, ResNetConfig
from thruway.init import lsuv_
from thruway.networks import VGG, resnet, vgg

__all__ = [
    "ALWAYS_DIFFERENT",
    "LAPTOP",
    "MODULES_IN_PAPER",
    "NAMES",
    "PAPER",
    "PaperConfig",
    "boundaries",
    "dissected_net",
    "net_in_words",
    "plain_net",
    "residual_net",
    "stochastic_net",
    "subset_net",
]

# Number of training images on which the layers of a VGG are scaled.
_SCALED_ON = 200

MODULES_IN_PAPER = 54

LAPTOP: dict[str, Any] = {
    "scale": "laptop",
    "data": "fashion-mnist",
    "pool": 2,
    "examples": 10_000,
    "test_examples": 2000,
    "modules": 18,
    "epochs": 12,
    "batch": 100,
    "seeds": 3,
}
"""Settings shared by the laptop scales of the studies."""

PAPER: dict[str, Any] = {
    "scale": "paper",
    "data": "cifar10",
    "augment": True,
    "fill": "zeros",
    "modules": 18,
    "widths": (16, 32, 64),
    "epochs": 164,
    "batch": 128,
    "seeds": 3,
    "device": "cuda",
}
"""Recipe of He et al. 2016 for ResNet-110: 64,000 updates; the rate is divided by ten at 1/2 and 3/4 of them."""


class PaperConfig(ResNetConfig, abc.ABC):
    """Data and training recipe of a study whose numbers of modules refer to the paper's 54."""

    def as_many_as(self, of_54: int) -> int:
        """Return `of_54` scaled from the paper's 54 modules to the modules of this network, but at least 1.

        >>> from thruway.experiments.veit2016.lesion import SCALES
        >>> SCALES["demo"].depth, SCALES["demo"].as_many_as(10), SCALES["paper"].as_many_as(10)
        (15, 3, 10)
        """
        return max(1, round(of_54 * self.depth / MODULES_IN_PAPER))


def residual_net(config: PaperConfig, seed: int) -> Net:
    """Return the paper's residual network, trained with all modules in every batch."""

    def build(parts: ImageParts, weights: torch.Generator, _coins: torch.Generator) -> nn.Module:
        return _resnet(config, parts, weights)

    return Net("resnet", seed, build)


def subset_net(config: PaperConfig, seed: int, use: int) -> Net:
    """Return a residual network trained with exactly `use` random modules in each batch."""

    def build(parts: ImageParts, weights: torch.Generator, coins: torch.Generator) -> nn.Module:
        return _resnet(config, parts, weights, subset=use, coins=coins)

    return Net("subset", seed, build, weights="resnet", cost=use / config.depth)


def stochastic_net(config: PaperConfig, seed: int, survival: float) -> Net:
    """Return a residual network trained with stochastic depth: in each batch, each module is skipped at random."""

    def build(parts: ImageParts, weights: torch.Generator, coins: torch.Generator) -> nn.Module:
        return _resnet(config, parts, weights, survival=survival, coins=coins)

    return Net("stochastic", seed, build, weights="resnet", cost=(1 + survival) / 2)


def _resnet(config: PaperConfig, parts: ImageParts, weights: torch.Generator, **training: Any) -> nn.Module:
    modules = (config.modules,) * 3
    return resnet(modules, parts.channels, parts.classes, widths=config.widths, generator=weights, **training)


def plain_net(config: PaperConfig, seed: int, width: int, norm: bool, learning_rate: float | None) -> Net:
    """Return a VGG of 15 layers whose widths have the same ratios as those of VGG-16."""

    def build(parts: ImageParts, weights: torch.Generator, _coins: torch.Generator) -> nn.Module:
        stages = ((1, 1), (2, 2), (4, 4, 4), (8, 8, 8), (8, 8, 8))
        widths = [[width * factor for factor in stage] for stage in stages]
        net = vgg(parts.channels, parts.classes, norm, widths, hidden=(8 * width,), generator=weights)
        if not norm:
            # He's scale assumes whole kernels. On maps of a point or two most of a kernel covers padding, the signal
            # fades from layer to layer, and the network does not learn.
            lsuv_(net, parts.train.images[:_SCALED_ON].cpu(), generator=weights)
        return net

    name = "vgg-norm" if norm else "vgg"
    return Net(name, seed, build, learning_rate, weights="vgg", cost=18.0 / config.depth)


def dissected_net(model: nn.Module, parts: ImageParts) -> Dissection:
    """Dissect a network. The branches of a VGG are its layers, each with its norm and its ReLU.

    If only the convolution were left out, norm and ReLU would receive inputs unlike any in training.
    """
    example = parts.test.images[:2]
    return dissect(model, example, declare=_whole_layers(model)) if isinstance(model, VGG) else dissect(model, example)


def _whole_layers(net: VGG) -> list[str]:
    """Return the names of the layers that keep the shape of their input."""
    named = [(f"layers.{name}", layer) for name, layer in net.layers.named_children()]
    named += [(f"head.{name}", layer) for name, layer in net.head.named_children()]
    return [name for name, layer in named if isinstance(layer, nn.Sequential) and _keeps_shape(layer[0])]


def _keeps_shape(first: nn.Module) -> bool:
    if isinstance(first, nn.Conv2d):
        return first.in_channels == first.out_channels
    return isinstance(first, nn.Linear) and first.in_features == first.out_features


# --- in reports

NAMES = {
    "resnet": "residual network",
    "subset": "trained on subsets",
    "stochastic": "stochastic depth",
    "vgg": "VGG",
    "vgg-norm": "VGG with batch norm",
}
"""Names of the networks in the reports."""

ALWAYS_DIFFERENT = (
    "the paper's training recipe is not known; at paper scale, that of He et al. 2016 for ResNet-110 is used",
    "where the size changes, the shortcut takes every second pixel and pads new channels with zeros",
    "verdicts are based on damage, the position of the error between that of the intact network and that of guessing; "
    "the paper shows errors, and its networks are better",
    "the thresholds are ours, set before any run",
)


def net_in_words(config: PaperConfig) -> str:
    """Describe the residual network of a study.

    >>> from thruway.experiments.veit2016.paths import SCALES
    >>> net_in_words(SCALES["paper"])
    'ResNet-110: 54 pre-activation modules with 16, 32, 64 channels'
    """
    widths = ", ".join(map(str, config.widths))
    return f"ResNet-{2 * config.depth + 2}: {config.depth} pre-activation modules with {widths} channels"


def boundaries(config: PaperConfig) -> tuple[int, int]:
    """Return the indices of the first modules of the second and the third stage."""
    return config.modules, 2 * config.modules
