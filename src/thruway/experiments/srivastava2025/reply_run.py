"""The two nets of the study, trained and tested."""

from functools import partial

import torch
from torch import nn

from thruway.experiments.compared_nets import Contender, measurements_of, run_comparison
from thruway.experiments.experiment import Progress
from thruway.experiments.image_parts import Parts
from thruway.experiments.measuring import Measurement
from thruway.experiments.srivastava2025.reply import Config
from thruway.networks import gated_resnet
from thruway.runs import Run

__all__ = ["contenders", "measurements", "run_study"]

_RESNET_WARMUP = 1  # first epochs at a tenth of the rate: the author's trainer has them for resnet110 only


def run_study(config: Config, parts: Parts, run: Run, progress: Progress) -> None:
    """Train and test both nets of every seed, or what is left of it, into the run folder."""
    run_comparison(config, contenders(config), parts, run, progress)


def measurements(config: Config) -> list[Measurement]:
    """What is measured on which net."""
    return measurements_of(config, contenders(config))


def contenders(config: Config) -> tuple[Contender, ...]:
    """The residual net and the highway net."""
    layers = config.layers
    return (
        Contender(
            "resnet",
            f"ResNet-{layers}",
            layers,
            partial(_build, config, "identity", config.widths),
            warmup=max(_RESNET_WARMUP, config.warmup),
        ),
        # A gate has as many layers as a branch.
        Contender(
            "highway", f"Highway-{layers}", layers, partial(_build, config, "highway", config.highway_widths), cost=1.9
        ),
    )


def _build(
    config: Config,
    joining: str,
    widths: tuple[int, ...],
    parts: Parts,
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
