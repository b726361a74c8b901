"""The nets of the study, one for each way to join branch and shortcut, trained and tested."""

from functools import partial

import torch
from torch import nn

from thruway.experiments.compared_nets import Contender, measurements_of, run_comparison
from thruway.experiments.experiment import Progress
from thruway.experiments.he2016.gates import Config, gated
from thruway.experiments.image_parts import Parts
from thruway.experiments.measuring import Measurement
from thruway.networks import gated_resnet
from thruway.runs import Run

__all__ = ["LABELS", "contenders", "measurements", "run_study"]

LABELS = {
    "identity": "identity",
    "exclusive": "exclusive gate",
    "shortcut": "shortcut-only gate",
    "highway": "the reply's gate",
    "scaled": "halved sum",
    "project": "1x1 convolution",
    "dropout": "dropout",
}
"""What joins branch and shortcut, as the report calls it."""

# The time of a training step beside that with identity shortcuts.
_COSTS = {"exclusive": 1.4, "shortcut": 1.4, "highway": 2.1, "project": 1.3}


def run_study(config: Config, parts: Parts, run: Run, progress: Progress) -> None:
    """Train and test every net of every seed, or what is left of it, into the run folder."""
    run_comparison(config, contenders(config), parts, run, progress)


def measurements(config: Config) -> list[Measurement]:
    """What is measured on which net."""
    return measurements_of(config, contenders(config))


def contenders(config: Config) -> tuple[Contender, ...]:
    """The net with identity shortcuts first, then those with gates, then the others."""
    biases = {"exclusive": config.exclusive, "shortcut": config.shortcut, "highway": config.highway}
    chosen = [
        ("identity", None),
        *((joining, bias) for joining, each in biases.items() for bias in each),
        *((joining, None) for joining in config.others),
    ]
    return tuple(_contender(config, joining, bias) for joining, bias in chosen)


def _contender(config: Config, joining: str, bias: float | None) -> Contender:
    name, label = joining, LABELS[joining]
    if bias is not None:
        name, label = gated(joining, bias), f"{label}, b = {bias:g}"
    # Seven eighths of the width make up for some of the gate's layers, as in the reply.
    widths = tuple(max(1, width * 7 // 8) for width in config.widths) if joining == "highway" else config.widths
    build = partial(_build, config, joining, bias or 0.0, widths)
    return Contender(name, label, config.layers, build, _COSTS.get(joining, 1.0))


def _build(
    config: Config,
    joining: str,
    gate_bias: float,
    widths: tuple[int, ...],
    parts: Parts,
    weights: torch.Generator,
    coins: torch.Generator,
) -> nn.Module:
    return gated_resnet(
        config.layers,
        joining,
        gate_bias,
        widths,
        parts.channels,
        parts.classes,
        stem=config.widths[0],
        coins=coins,
        generator=weights,
    )
