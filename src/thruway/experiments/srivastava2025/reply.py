"""A gated network of 110 layers whose gates start nearly closed is as good as the residual network of that depth.

Paper     R. Srivastava 2025, the repository highway-resnet-comparison: a reply to He, Zhang, Ren & Sun 2016 (Identity
          Mappings), sec. 3.1, where gated shortcuts are worse than the identity
Protocol  ResNet-110 and Highway-110, trained in the same way, except that the first epoch of the residual network uses
          a tenth of the learning rate, as in the author's code. In the highway network every module computes y = T·H +
          (1 - T)·x, with a branch H that ends in a ReLU and a gate T of two normalised convolutions whose last norm has
          an initial bias of -6
Claims    the gated network trains, and is at least as good
Measured  results/srivastava2025.reply-laptop
Cost      demo: half a minute on one core; laptop: 41 minutes; paper: requires a GPU
Differs   data, size and updates at demo and laptop scale; three seeds (the published numbers are for one); no mixed
          precision; the report lists all differences
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
    """Settings that determine the results of a run. `widths` are those of the residual network."""

    gate_bias: float = -6.0
    """Initial bias of the last norm of every gate, before the sigmoid."""

    @property
    def layers(self) -> int:
        """Number of layers of both networks. The layers of the gates are not counted.

        >>> SCALES["paper"].layers
        110
        """
        return 2 * self.depth + 2

    @property
    def highway_widths(self) -> tuple[int, ...]:
        """Number of channels of the highway network in each stage: seven eighths of those of the residual network.

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
        source=f"{_REPLY}; the threshold is from He et al. 2016, sec. 3.1, where an error above 20 % is a failure",
        statistic="test error of the highway network (share)",
        measure=lambda rows: error_of(rows, "highway"),
        holds_if="<=",
        threshold=0.2,
    ),
    Claim(
        id="at-least-as-good",
        text="The gated network is at least as good as the residual network.",
        source=f"{_REPLY} (93.96 % against 93.75 %)",
        statistic="test error, highway minus residual",
        measure=excess("highway", "resnet"),
        holds_if="<=",
        # About two deviations of the difference: He et al. 2015, table 6, have 0.16 points from run to run.
        threshold=0.005,
    ),
    Claim(
        id="fits-as-well",
        text="The gated network fits the training examples as well as the residual network.",
        source=f"{_REPLY}, published logs: training loss 0.0016 against 0.0019 after 200 epochs",
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
    "the two networks differ in width and in number of parameters, as in the original comparison",
    "where the size changes, each network has its published shortcuts: those of the residual network take every "
    "second pixel and pad new channels with zeros; those of the highway network are 1x1 convolutions",
    "no mixed precision",
    "short training is a disadvantage for the highway network: in the published logs its training loss is higher from "
    "the fourth to the twelfth epoch, up to about 4,700 updates",
    "the first epoch of the residual network, with a tenth of the learning rate as in the author's code, is one of "
    "200 at paper scale and a larger share of shorter training, which is a disadvantage for the residual network",
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
        paper_data="The published networks had 110 layers and were trained once each, on CIFAR-10; ours have "
        f"{config.layers} layers and were trained on {config.data}.",
        nets=f"ResNet-{config.layers} with {residual} channels, its first epoch with a tenth of the learning rate, as "
        f"published; Highway-{config.layers} with {highway} channels, initial gate bias {config.gate_bias:g}",
        differs=_DIFFERS,
    )


def _lead(rows: Rows, config: Config) -> str:
    highway, resnet = (error_of(rows, net) for net in ("highway", "resnet"))
    return (
        f"The highway network of {config.layers} layers has a test error of {highway:.1%}, the residual "
        f"network one of {resnet:.1%}, with {parameters_of(rows, 'highway'):,} and {parameters_of(rows, 'resnet'):,} "
        "parameters."
    )


STUDY = compared_study(
    name="srivastava2025.reply",
    title="a gated network of 110 layers is as good as a residual one if its gates start nearly closed",
    source=_REPLY,
    config=Config,
    scales=SCALES,
    contenders=contenders,
    claims=CLAIMS,
    page=page,
)
