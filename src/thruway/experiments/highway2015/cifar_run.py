"""The nets of tables 2 and 3, and plain ones as large, trained and tested."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import nn

from thruway.experiments.compared_nets import Contender, measurements_of, run_comparison
from thruway.experiments.experiment import Progress
from thruway.experiments.highway2015.cifar import Config, Name, at_rate
from thruway.experiments.image_parts import Parts
from thruway.experiments.measuring import Measurement
from thruway.networks import FITNETS, LAYOUTS, fitnet, highway_conv, plain_twin_width
from thruway.runs import Run

__all__ = ["contenders", "measurements", "run_study"]

Build = Callable[[Config, Parts, torch.Generator, torch.Generator], nn.Module]

_HIDDEN = 500  # units of a fitnet's dense layer


def run_study(config: Config, parts: Parts, run: Run, progress: Progress) -> None:
    """Train and test every net of every seed, or what is left of it, into the run folder."""
    run_comparison(config, contenders(config), parts, run, progress)


def measurements(config: Config) -> list[Measurement]:
    """What is measured on which net."""
    return measurements_of(config, contenders(config))


def contenders(config: Config) -> tuple[Contender, ...]:
    """The nets that the config names."""
    found = []
    for name in config.nets:
        kind = _KINDS[name]
        net = Contender(name, kind.label, kind.layers, partial(kind.build, config), kind.cost, weights=name)
        found += [net, *(_at_rate(net, name, rate) for rate in config.other_rates)]
    return tuple(found)


def _at_rate(net: Contender, name: Name, rate: float) -> Contender:
    return replace(net, name=at_rate(name, rate), label=f"{net.label}, rate {rate:g}", learning_rate=rate)


def _fitnet(number: int, config: Config, parts: Parts, weights: torch.Generator, coins: torch.Generator) -> nn.Module:
    widths = [[_narrowed(config, width) for width in stage] for stage in FITNETS[number]]
    hidden = _narrowed(config, _HIDDEN)
    return fitnet(number, parts.channels, parts.classes, widths=widths, hidden=hidden, coins=coins, generator=weights)


def _highway(layout: str, config: Config, parts: Parts, weights: torch.Generator, coins: torch.Generator) -> nn.Module:
    return highway_conv(
        layout,
        parts.channels,
        parts.classes,
        width=_first_width(layout, config),
        gate_bias=config.gate_bias,
        dropout=config.dropout,
        coins=coins,
        generator=weights,
    )


def _plain(layout: str, config: Config, parts: Parts, weights: torch.Generator, coins: torch.Generator) -> nn.Module:
    width = plain_twin_width(layout, _first_width(layout, config), parts.channels, parts.classes)
    return highway_conv(
        layout,
        parts.channels,
        parts.classes,
        width=width,
        block="plain",
        dropout=config.dropout,
        coins=coins,
        generator=weights,
    )


def _first_width(layout: str, config: Config) -> int:
    return _narrowed(config, LAYOUTS[layout].stages[0].width)


def _narrowed(config: Config, width: int) -> int:
    return max(1, round(width / config.narrower))


@dataclass(frozen=True)
class _Kind:
    label: str
    layers: int
    build: Build
    cost: float  # of a training step, beside Highway B's


_KINDS: dict[Name, _Kind] = {
    "fitnet-a": _Kind("Fitnet A", 11, partial(_fitnet, 1), 0.5),
    "highway-a": _Kind("Highway A", 11, partial(_highway, "cifar-11"), 0.3),
    "fitnet-b": _Kind("Fitnet B", 19, partial(_fitnet, 4), 1.0),
    "highway-b": _Kind("Highway B", 19, partial(_highway, "cifar"), 1.0),
    "plain-b": _Kind("plain, as large as B", 19, partial(_plain, "cifar"), 0.9),
    "highway-c": _Kind("Highway C", 32, partial(_highway, "cifar-32"), 1.0),
    "plain-c": _Kind("plain, as large as C", 32, partial(_plain, "cifar-32"), 0.9),
}
