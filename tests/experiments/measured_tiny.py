"""The studies that measure trained networks, each in a second."""

import importlib
from pathlib import Path
from typing import Any

from thruway.experiments.highway2015 import gates
from thruway.experiments.highway2015 import lesion as highway
from thruway.experiments.machinery import ImageConfig, Measurement
from thruway.experiments.machinery.measuring import read_rows
from thruway.experiments.veit2016 import effective_paths, lesion, path_survival, paths, stochastic_depth
from thruway.runs import open_run

__all__ = ["TINY", "TINY_NETS", "measurements", "rows_of"]

TINY_NETS: dict[str, Any] = {
    "modules": 3,
    "widths": (2, 3, 4),
    "examples": 100,
    "test_examples": 40,
    "epochs": 2,
    "batch": 25,
}
TINY: dict[str, ImageConfig] = {
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


def measurements(name: str, config: ImageConfig) -> list[Measurement]:
    """The measurements of a study."""
    found: list[Measurement] = importlib.import_module(f"thruway.experiments.{name}").measurements(config)
    return found


def rows_of(folder: Path, name: str, config: ImageConfig) -> list[dict[str, Any]]:
    return read_rows(open_run(folder), measurements(name, config))
