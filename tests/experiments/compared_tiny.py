"""The studies that compare networks, each in a second or two, and what their tests share."""

import importlib
from pathlib import Path
from typing import Any

import torch
from tiny_runs import StopsAt, complete, create, numbers, run_until_stopped
from torch import nn

from thruway.data import TensorSet
from thruway.experiments.he2016 import GATES, gates
from thruway.experiments.highway2015 import CIFAR, MNIST_CONV, cifar, mnist_conv
from thruway.experiments.machinery import Contender, ImageConfig, ImageParts, Study
from thruway.experiments.srivastava2025 import REPLY, reply
from thruway.runs import open_run

STUDIES: dict[str, Study] = {each.name: each for each in (MNIST_CONV, CIFAR, REPLY, GATES)}

SHORT: dict[str, Any] = {"examples": 60, "test_examples": 40, "epochs": 2, "batch": 20}
SMALL: dict[str, Any] = {**SHORT, "modules": 1, "widths": (2, 3, 4)}
TINY: dict[str, ImageConfig] = {
    "highway2015.mnist_conv": mnist_conv.Config(**SHORT, widths=(2, 3), seeds=2),
    "highway2015.cifar": cifar.Config(**SHORT, narrower=16, nets=("fitnet-a", "highway-a", "plain-c")),
    "srivastava2025.reply": reply.Config(**SMALL, seeds=2),
    "he2016.gates": gates.Config(**SMALL, others=("dropout",), shortcut=(-6.0,)),
}


def contenders(name: str, config: ImageConfig) -> tuple[Contender, ...]:
    """The networks that a study compares."""
    found: tuple[Contender, ...] = importlib.import_module(f"thruway.experiments.{name}").contenders(config)
    return found


def blank(channels: int, side: int, classes: int = 10) -> ImageParts:
    """Two images of that shape, all zeros."""
    names = tuple(map(str, range(classes)))
    images = TensorSet("blank", torch.zeros(2, channels, side, side), torch.zeros(2, dtype=torch.long), names, "here")
    return ImageParts(images, images)


def built(name: str, config: ImageConfig, parts: ImageParts) -> dict[str, nn.Module]:
    """Every network of a study with initial weights."""
    return {
        each.name: each.build(parts, torch.Generator().manual_seed(0), torch.Generator())
        for each in contenders(name, config)
    }


def count(net: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in net.parameters())


def rows_of(folder: Path, name: str, config: ImageConfig) -> list[dict[str, Any]]:
    return list(map(dict, STUDIES[name].rows(open_run(folder), config)))


__all__ = [
    "SHORT",
    "SMALL",
    "STUDIES",
    "TINY",
    "StopsAt",
    "blank",
    "built",
    "complete",
    "contenders",
    "count",
    "create",
    "numbers",
    "rows_of",
    "run_until_stopped",
]
