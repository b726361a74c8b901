"""The nets of table 1, each beside a plain net of its size, trained and tested."""

from functools import partial

import torch
from torch import nn

from thruway.errors import ConfigError
from thruway.experiments.compared_nets import Contender, measurements_of, run_comparison
from thruway.experiments.experiment import Progress
from thruway.experiments.highway2015.mnist_conv import Config
from thruway.experiments.image_parts import Parts, load_parts
from thruway.experiments.measuring import Measurement
from thruway.networks import highway_conv, plain_twin_width
from thruway.runs import Run

__all__ = ["contenders", "load_large_enough", "measurements", "run_study"]

_LAYERS = 10
_SMALLEST = 8  # pixels a side: less is nothing after a 5x5 convolution and three poolings


def load_large_enough(config: Config) -> Parts:
    """Both parts of the data set on the device that trains.

    Raises:
        ConfigError: for images that are too small for the net once they are pooled, or as `load_parts`.
        DatasetError: if the data is not there, or damaged.
        RunError: if `nets_of` is no run folder.
    """
    parts = load_parts(config)
    height, width = parts.train.images.shape[-2:]
    if min(height, width) < _SMALLEST:
        raise ConfigError(
            f"pool: got {config.pool}, which leaves {height} x {width} pixels of the images of {config.data}, but the "
            f"net of table 1 needs {_SMALLEST} x {_SMALLEST}. Take a smaller pool, or larger images."
        )
    return parts


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
