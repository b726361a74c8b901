"""A saturation study that takes a second, and functions that run it."""

from pathlib import Path

import numpy as np

from thruway.experiments import STUDIES
from thruway.experiments.glorot2010.saturation import Case, Config
from thruway.experiments.glorot2010.saturation_training import Course
from thruway.experiments.machinery import Silent
from thruway.runs import Run, open_run

SATURATION = STUDIES["glorot2010.saturation"]

TINY = Config(data="digits", width=6, probe=20, sigmoid_updates=30, updates=23, looks=10, seeds=2)
# Two nets, for tests that run it many times.
TINIER = TINY.model_copy(update={"nets": ("sigmoid-4", "tanh"), "seeds": 1})


def create(folder: Path, config: Config) -> Run:
    return Run.create(
        folder,
        config.model_dump(mode="json"),
        name=SATURATION.name,
        command=["test"],
        seeds={"seed": config.seed},
        device="cpu",
    )


def complete(folder: Path, config: Config) -> Path:
    with create(folder, config) as run:
        SATURATION.run(config, SATURATION.prepare(config), run, Silent())
    return folder


def numbers(folder: Path) -> dict[tuple[str, ...], str]:
    """Every logged number but the time it took, by name; as text, so that NaN equals NaN."""
    table = open_run(folder).table()
    columns = zip(*(table[name] for name in ("site", "member", "step", "quantity", "value")), strict=True)
    return {tuple(map(str, row[:4])): str(row[4]) for row in columns if row[3] != "seconds"}


def course(net: str, **values: list[list[float]]) -> Course:
    """A net whose layers did just this, a look every 10 updates; what is left out is 0 everywhere."""
    looks = len(next(iter(values.values()))[0])
    case = Case(net, 0, 0, 0.1, 10 * (looks - 1), looks - 1)
    tables = {name: np.zeros((case.net.depth, looks)) for name in ("mean", "std", "saturation_low", "saturation_high")}
    tables |= {name: np.zeros((case.net.depth, looks)) for name in ("p2", "p50", "p98", "knees", "middle")}
    tables |= {name: np.array(table, dtype=float) for name, table in values.items()}
    return Course(case, 10 * np.arange(looks), tables)
