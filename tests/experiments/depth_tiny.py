"""A depth search of a second, and what drives and reads it."""

import json
import math
from pathlib import Path
from typing import Any

from thruway.experiments import EXPERIMENTS, Silent
from thruway.experiments.highway2015.depth import Config
from thruway.experiments.highway2015.depth_rows import read_rows
from thruway.runs import Run, open_run

DEPTH = EXPERIMENTS["highway2015.depth"]

TINY = Config(depths=(2, 3), searches=2, trials=2, epochs=2, examples=200, batch=50, highway_width=8)
# One trial per population and few of them: for tests that run it many times.
TINIER = Config(blocks=("plain", "highway"), depths=(2,), trials=2, epochs=3, examples=100, batch=50, highway_width=4)


class StopsAt:
    """A user who presses Ctrl-C at the k-th report, from 1."""

    def __init__(self, k: int) -> None:
        self.left = k

    def begin(self, total: float) -> None:
        pass

    def advance(self, done: float, doing: str) -> None:
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


def complete(folder: Path, config: Config) -> Path:
    with create(folder, config) as run:
        DEPTH.run(config, DEPTH.prepare(config), run, Silent())
    return folder


def rows_of(folder: Path, config: Config) -> list[dict[str, Any]]:
    """The rows but for their cost in time, which no two runs share; NaN as text, so that rows can be compared."""
    rows = read_rows(open_run(folder), config)
    return [{k: "nan" if v != v else v for k, v in row.items() if k != "seconds"} for row in rows]


def strict(text: str) -> Any:
    """JSON as the standard has it, without NaN and Infinity."""

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


def as_json(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
