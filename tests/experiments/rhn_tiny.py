"""The recurrence depth study in a second, and what drives and reads it."""

from pathlib import Path
from typing import Any

from thruway.experiments.rhn2017.depth_rows import read_rows

from thruway.experiments import Progress, Silent
from thruway.experiments.rhn2017 import DEPTH
from thruway.experiments.rhn2017.depth import Config
from thruway.runs import Run, open_run

# Dropout, so that a resumed run must draw what the whole one drew.
TINY = Config(
    characters=2000,
    depths=(2, 1),
    parameters=2500,
    embedding=8,
    epochs=3,
    batch=8,
    window=20,
    seeds=2,
    clip=0.1,
    drop_input=0.1,
    drop_state=0.1,
    drop_output=0.1,
)


class StopsAt:
    """A user who presses Ctrl-C at the k-th report, from 1."""

    def __init__(self, k: int) -> None:
        self.left, self.total, self.done = k, 0.0, 0.0

    def begin(self, total: float) -> None:
        self.total = total

    def advance(self, done: float, doing: str) -> None:
        self.done += done
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def create(folder: Path, config: Config) -> Run:
    return Run.create(
        folder,
        config.model_dump(mode="json"),
        name=DEPTH.name,
        command=["test"],
        seeds={"seed": config.seed},
        device="cpu",
    )


def complete(folder: Path, config: Config, progress: Progress | None = None) -> Path:
    with create(folder, config) as run:
        DEPTH.run(config, DEPTH.prepare(config), run, progress or Silent())
    return folder


def rows_of(folder: Path, config: Config) -> list[dict[str, Any]]:
    return read_rows(open_run(folder), config)
