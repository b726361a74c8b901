"""A gated network of 110 layers, its gates nearly shut at first, is as good as the residual network of that depth.

Paper     R. Srivastava 2025, the repository highway-resnet-comparison: a reply to He, Zhang, Ren & Sun 2016 (Identity
          Mappings), sec. 3.1, where gated shortcuts lose to the identity
Protocol  ResNet-110 and Highway-110, trained alike, except that the residual network's first epoch has a tenth of the
          rate, as in the author's trainer. In the highway network every module has a branch H that ends in a rectifier,
          a gate T of two normalised convolutions whose last norm starts at -6, and y = T·H + (1 - T)·x
Claims    it trains, and is at least as good
Measured  results/srivastava2025.reply-laptop
Cost      demo half a minute on one core; laptop 41 minutes; paper a GPU
Differs   data, size and updates at demo and laptop scale; three seeds, where the published numbers are of one; no
          mixed precision; the report lists all
"""

from functools import partial
from typing import Any

import torch
from torch import nn

from thruway.experiments.machinery import (
    Claim,
    ComparedPage,
    Contender,
    ImageParts,
    Published,
    ResNetConfig,
    Rows,
    compared_study,
    error_of,
    excess,
    parameters_of,
)
from thruway.networks import gated_resnet

__all__ = ["SCALES", "STUDY", "Config", "contenders"]


class Config(ResNetConfig):
    """Everything that decides the numbers of a run; `widths` are those of the residual network."""

    gate_bias: float = -6.0
    """Initial value that the last norm of every gate adds, before the sigmoid."""

    @property
    def layers(self) -> int:
        """Number of layers of both networks. Those of the gates lie beside the path and are not counted.

        >>> SCALES["paper"].layers
        110
        """
        return 2 * self.depth + 2

    @property
    def highway_widths(self) -> tuple[int, ...]:
        """Channels of the highway network in each stage: seven eighths of the residual network's.

        >>> SCALES["paper"].highway_widths
        (14, 28, 56)
        """
        return tuple(max(1, width * 7 // 8) for width in self.widths)


# The residual network has a warm-up of its own.
_RECIPE: dict[str, Any] = {"warmup": 0, "drops": (0.5, 0.75), "learning_rate": 0.1, "weight_decay": 1e-4}

SCALES: dict[str, Config] = {
    "demo": Config(**_RECIPE, epochs=20),
    "laptop": Config(
        **_RECIPE,
        scale="laptop",
        data="fashion-mnist",
        pool=2,
        examples=10_000,
        modules=18,
        epochs=10,
        batch=100,
        seeds=3,
    ),
    "paper": Config(
        **_RECIPE,
        scale="paper",
        data="cifar10",
        augment=True,
        fill="zeros",
        modules=18,
        widths=(16, 32, 64),
        epochs=200,
        batch=128,
        seeds=3,
        device="cuda",
    ),
}

_RESNET_WARMUP = 1  # epochs at a tenth of the rate: the author's trainer has them for resnet110 only


def contenders(config: Config) -> tuple[Contender, ...]:
    """Return the residual network and the highway network."""
    layers, warmup = config.layers, max(_RESNET_WARMUP, config.warmup)
    residual, highway = partial(_build, config, "identity"), partial(_build, config, "highway")
    return (
        Contender("resnet", f"ResNet-{layers}", layers, partial(residual, config.widths), warmup=warmup),
        # A gate has as many layers as a branch.
        Contender("highway", f"Highway-{layers}", layers, partial(highway, config.highway_widths), cost=1.9),
    )


def _build(
    config: Config,
    joining: str,
    widths: tuple[int, ...],
    parts: ImageParts,
    weights: torch.Generator,
    coins: torch.Generator,
) -> nn.Module:
    return gated_resnet(
        config.layers,
        joining,
        config.gate_bias,
        widths,
        parts.channels,
        parts.classes,
        stem=config.widths[0],
        coins=coins,
        generator=weights,
    )


_REPLY = "Srivastava 2025 (highway-resnet-comparison)"

CLAIMS = (
    Claim(
        id="trains",
        text="A gated network of this depth trains.",
        source=f"{_REPLY}; the mark is that of He et al. 2016, sec. 3.1, who call an error above 20 % a failure",
        statistic="test error of the highway network (share)",
        measure=lambda rows: error_of(rows, "highway"),
        holds_if="<=",
        threshold=0.2,
    ),
    Claim(
        id="at-least-as-good",
        text="It is at least as good as the residual network.",
        source=f"{_REPLY} (93.96 % against 93.75 %)",
        statistic="test error, highway minus residual",
        measure=excess("highway", "resnet"),
        holds_if="<=",
        # About two deviations of the difference: He et al. 2015, table 6, have 0.16 points from run to run.
        threshold=0.005,
    ),
    Claim(
        id="fits-as-well",
        text="It fits the training examples as well.",
        source=f"{_REPLY}, the published logs: after 200 epochs a training loss of 0.0016 against 0.0019",
        statistic="training error, highway minus residual",
        measure=excess("highway", "resnet", "train_error"),
        holds_if="<=",
        threshold=0.005,
    ),
)

_PUBLISHED = (
    Published("ResNet-110, 1.73M parameters", "93.75", "the published log", "resnet"),
    Published("Highway-110, 2.65M parameters", "93.96", "the published log", "highway"),
    Published("ResNet-110 of He et al., 1.7M parameters", "93.57 (93.39 ± 0.16)", "He et al. 2015, table 6", "resnet"),
)
_DIFFERS = (
    "the two networks differ in width and in number of parameters, here as there",
    "where sizes change, shortcuts are those of each published network: the residual network's take every second point "
    "and pad new channels with zeros, the highway network's are 1x1 convolutions",
    "no mixed precision",
    "short trainings count against the highway network: in the published logs its training loss is the higher one from "
    "the fourth to the twelfth epoch, up to some 4,700 updates",
    "the residual network's first epoch, at a tenth of the rate as in the author's trainer, is one of 200 at paper "
    "scale and a larger share of a shorter training, which counts against the residual network",
)


def page(config: Config) -> ComparedPage:
    """Return the texts of the report."""
    residual, highway = (", ".join(map(str, widths)) for widths in (config.widths, config.highway_widths))
    return ComparedPage(
        title=f"Can a gated network of {config.layers} layers keep up with a residual one?",
        subtitle="highway-resnet-comparison, Srivastava 2025: a reply to Identity Mappings in Deep Residual Networks, "
        "He, Zhang, Ren & Sun 2016",
        lead=lambda rows: _lead(rows, config),
        published=_PUBLISHED,
        paper_data="The published networks had 110 layers and were trained once each, on CIFAR-10; these have "
        f"{config.layers} and were trained on {config.data}.",
        nets=f"ResNet-{config.layers} of {residual} channels, its first epoch at a tenth of the rate as published; "
        f"Highway-{config.layers} of {highway} channels, gate bias {config.gate_bias:g} at the start",
        differs=_DIFFERS,
    )


def _lead(rows: Rows, config: Config) -> str:
    highway, resnet = (error_of(rows, net) for net in ("highway", "resnet"))
    return (
        f"The highway network of {config.layers} layers gets {highway:.1%} of the test examples wrong, the residual "
        f"network {resnet:.1%}, with {parameters_of(rows, 'highway'):,} and {parameters_of(rows, 'resnet'):,} "
        "parameters."
    )


STUDY = compared_study(
    name="srivastava2025.reply",
    title="a gated network of 110 layers is as good as a residual one if its gates start nearly shut",
    source=_REPLY,
    config=Config,
    scales=SCALES,
    contenders=contenders,
    claims=CLAIMS,
    page=page,
)
