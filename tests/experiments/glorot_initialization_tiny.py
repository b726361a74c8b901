"""An initialization study that takes a second, and functions that run it."""

from pathlib import Path

import torch

from thruway.experiments import STUDIES
from thruway.experiments.glorot2010.initialization import Config
from thruway.experiments.glorot2010.streams import Parts
from thruway.experiments.machinery import Silent
from thruway.runs import Run

INITIALIZATION = STUDIES["glorot2010.initialization"]

TINY = Config(
    data="digits",
    probe=20,
    depth=3,
    width=12,
    shapes=("equal", "growing"),
    seeds=2,
    singles=2,
    trained_width=6,
    trained_seeds=1,
    updates=40,
    samples=10,
)
# Calls of `advance`: 8 networks of 2 seeds, and 10 strides of each of 2 trainings.
REPORTS = 8 * 2 + 10 * 2


def create(folder: Path, config: Config) -> Run:
    return Run.create(
        folder,
        config.model_dump(mode="json"),
        name=INITIALIZATION.name,
        command=["test"],
        seeds={"seed": config.seed},
        device="cpu",
    )


def complete(folder: Path, config: Config) -> Path:
    with create(folder, config) as run:
        INITIALIZATION.run(config, INITIALIZATION.prepare(config), run, Silent())
    return folder


class RandomSource:
    """Inputs and labels that depend on their index alone."""

    work = 1.0

    def draw(self, seed: int, start: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        g = torch.Generator().manual_seed(seed)
        inputs = torch.randn(2000, 9, generator=g)[start : start + count]
        return inputs, (inputs[:, 0] > 0).long()


def random_parts() -> Parts:
    source = RandomSource()
    held_out = source.draw(99, 0, 20)
    return Parts(source, held_out, held_out, None, 3)
