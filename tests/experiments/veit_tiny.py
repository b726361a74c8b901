"""The studies of trained nets, each in a second, and what drives and reads them."""

import importlib
from pathlib import Path
from typing import Any

from thruway.experiments.image_study import ImageStudy
from thruway.experiments.measuring import read_rows

from thruway.experiments import STUDIES, Progress, Silent
from thruway.experiments.highway2015 import gates
from thruway.experiments.highway2015 import lesion as highway
from thruway.experiments.veit2016 import effective_paths, lesion, path_survival, paths, stochastic_depth
from thruway.runs import Run, open_run

TINY_NETS: dict[str, Any] = {
    "modules": 3,
    "widths": (2, 3, 4),
    "examples": 100,
    "test_examples": 40,
    "epochs": 2,
    "batch": 25,
}
TINY: dict[str, ImageStudy] = {
    "veit2016.lesion": lesion.Config(**TINY_NETS, vgg_width=2, deleted=(1, 27), swaps=(1, 3), draws=2),
    "veit2016.paths": paths.Config(**TINY_NETS, probe=5, paths=2),
    "veit2016.effective_paths": effective_paths.Config(**TINY_NETS, seeds=2),
    "veit2016.path_survival": path_survival.Config(**TINY_NETS, draws=2, probe=5, paths=2),
    "veit2016.stochastic_depth": stochastic_depth.Config(**TINY_NETS, draws=2, drawn_examples=20),
    "highway2015.lesion": highway.Config(
        depth=10, width=6, examples=100, test_examples=40, epochs=2, batch=25, seeds=2
    ),
    "highway2015.gates": gates.Config(depth=10, width=6, examples=100, test_examples=40, epochs=2, batch=25, seeds=2),
}


class StopsAt:
    """A user who presses Ctrl-C at the k-th report, from 1; `reports` counts them."""

    def __init__(self, k: float) -> None:
        self.left, self.reports, self.total, self.done = k, 0, 0.0, 0.0

    def begin(self, total: float) -> None:
        self.total = total

    def advance(self, done: float, doing: str) -> None:
        self.done += done
        self.reports += 1
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def create(folder: Path, name: str, config: ImageStudy) -> Run:
    return Run.create(
        folder,
        config.model_dump(mode="json"),
        name=name,
        command=["test"],
        seeds={"seed": config.seed},
        device="cpu",
    )


def complete(folder: Path, name: str, config: ImageStudy, progress: Progress | None = None) -> Path:
    with create(folder, name, config) as run:
        STUDIES[name].run(config, STUDIES[name].prepare(config), run, progress or Silent())
    return folder


def measurements(name: str, config: ImageStudy) -> list[Any]:
    """What the study measures, from the file that says so."""
    return importlib.import_module(f"thruway.experiments.{name}_run").measurements(config)


def rows_of(folder: Path, name: str, config: ImageStudy) -> list[dict[str, Any]]:
    return read_rows(open_run(folder), measurements(name, config))
