"""The nets of table 1, each beside a plain net of its size, trained and tested."""

from functools import partial

import torch
from torch import nn

from thruway.experiments.compared_nets import Contender, measurements_of, run_comparison
from thruway.experiments.experiment import Progress
from thruway.experiments.highway2015.mnist_conv import Config
from thruway.experiments.image_parts import Parts
from thruway.experiments.measuring import Measurement
from thruway.networks import highway_conv, plain_twin_width
from thruway.runs import Run

__all__ = ["contenders", "measurements", "run_study"]

_LAYERS = 10


def run_study(config: Config, parts: Parts, run: Run, progress: Progress) -> None:
    """Train and test every net of every seed, or what is left of it, into the run folder."""
    run_comparison(config, contenders(config), parts, run, progress)


def measurements(config: Config) -> list[Measurement]:
    """What is measured on which net."""
    return measurements_of(config, contenders(config))


def contenders(config: Config) -> tuple[Contender, ...]:
    """A highway net of each width, and its plain twin."""
    found = []
    for width in config.widths:
        cost = (width / config.widths[0]) ** 2
        label = "highway" if len(config.widths) == 1 else f"highway, width {width}"
        found.append(Contender(f"highway-{width}", label, _LAYERS, partial(_highway, config, width), cost))
        if config.plain:
            label = "plain" if len(config.widths) == 1 else f"plain, as large as width {width}"
            found.append(Contender(f"plain-{width}", label, _LAYERS, partial(_plain, config, width), 1.25 * cost))
    return tuple(found)


def _highway(config: Config, width: int, parts: Parts, weights: torch.Generator, coins: torch.Generator) -> nn.Module:
    return highway_conv(
        "mnist",
        parts.channels,
        parts.classes,
        width=width,
        size=parts.test.images.shape[-1],
        gate_bias=config.gate_bias,
        dropout=config.dropout,
        coins=coins,
        generator=weights,
    )


def _plain(config: Config, width: int, parts: Parts, weights: torch.Generator, coins: torch.Generator) -> nn.Module:
    size = parts.test.images.shape[-1]
    return highway_conv(
        "mnist",
        parts.channels,
        parts.classes,
        width=plain_twin_width("mnist", width, parts.channels, parts.classes, size=size),
        size=size,
        block="plain",
        dropout=config.dropout,
        coins=coins,
        generator=weights,
    )
