"""The studies that compare nets, each in a second or two, and what drives and reads them."""

import importlib
from pathlib import Path
from typing import Any

import torch
from torch import nn
from veit_tiny import StopsAt

from thruway.data import TensorSet
from thruway.experiments.compared_nets import Contender
from thruway.experiments.experiment import Experiment, Progress, Silent
from thruway.experiments.he2016 import GATES, gates
from thruway.experiments.highway2015 import cifar, mnist_conv
from thruway.experiments.highway2015.conv_studies import CIFAR, MNIST_CONV
from thruway.experiments.image_parts import Parts
from thruway.experiments.image_study import ImageStudy
from thruway.experiments.measuring import read_rows
from thruway.experiments.srivastava2025 import REPLY, reply
from thruway.runs import Run, open_run

STUDIES: dict[str, Experiment] = {each.name: each for each in (MNIST_CONV, CIFAR, REPLY, GATES)}

SHORT: dict[str, Any] = {"examples": 60, "test_examples": 40, "epochs": 2, "batch": 20}
SMALL: dict[str, Any] = {**SHORT, "modules": 1, "widths": (2, 3, 4)}
TINY: dict[str, ImageStudy] = {
    "highway2015.mnist_conv": mnist_conv.Config(**SHORT, widths=(2, 3), seeds=2),
    "highway2015.cifar": cifar.Config(**SHORT, narrower=16, nets=("fitnet-a", "highway-a", "plain-c")),
    "srivastava2025.reply": reply.Config(**SMALL, seeds=2),
    "he2016.gates": gates.Config(**SMALL, others=("dropout",), shortcut=(-6.0,)),
}


def contenders(name: str, config: ImageStudy) -> tuple[Contender, ...]:
    """The nets of a study, from the file that says so."""
    found: tuple[Contender, ...] = importlib.import_module(f"thruway.experiments.{name}_run").contenders(config)
    return found


def blank(channels: int, side: int, classes: int = 10) -> Parts:
    """Two images of that shape, of nothing."""
    names = tuple(map(str, range(classes)))
    images = TensorSet("blank", torch.zeros(2, channels, side, side), torch.zeros(2, dtype=torch.long), names, "here")
    return Parts(images, images)


def built(name: str, config: ImageStudy, parts: Parts) -> dict[str, nn.Module]:
    """Every net of a study, as it begins."""
    return {
        each.name: each.build(parts, torch.Generator().manual_seed(0), torch.Generator())
        for each in contenders(name, config)
    }


def count(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def create(folder: Path, name: str, config: ImageStudy) -> Run:
    return Run.create(
        folder,
        config.model_dump(mode="json"),
        name=name,
        command=["test"],
        seeds={"seed": config.seed},
        device="cpu",
    )


def sit(run: Run, name: str, config: ImageStudy, progress: Progress | None = None) -> bool:
    """One sitting; whether it came to the end."""
    try:
        with run:
            STUDIES[name].run(config, STUDIES[name].prepare(config), run, progress or Silent())
    except KeyboardInterrupt:
        return False
    return True


def complete(folder: Path, name: str, config: ImageStudy, progress: Progress | None = None) -> Path:
    assert sit(create(folder, name, config), name, config, progress)
    return folder


def rows_of(folder: Path, name: str, config: ImageStudy) -> list[dict[str, Any]]:
    measurements = importlib.import_module(f"thruway.experiments.{name}_run").measurements(config)
    return read_rows(open_run(folder), measurements)


def numbers(folder: Path) -> dict[tuple[str, ...], float]:
    """Every logged number but the time it took, by name."""
    table = open_run(folder).table()
    columns = zip(*(table[name] for name in ("site", "member", "step", "quantity", "value")), strict=True)
    return {tuple(map(str, row[:4])): float(row[4]) for row in columns if row[3] != "seconds"}


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
    "sit",
]
