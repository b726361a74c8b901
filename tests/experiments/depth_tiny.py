"""Depth searches that take a second."""

from pathlib import Path
from typing import Any

import tiny_runs
from tiny_runs import StopsAt, as_json, strict

from thruway.experiments.highway2015 import DEPTH
from thruway.experiments.highway2015.depth import Config
from thruway.experiments.highway2015.depth_search import read_rows
from thruway.runs import Run, open_run

__all__ = ["TINIER", "TINY", "StopsAt", "as_json", "complete", "create", "rows_of", "strict"]

TINY = Config(depths=(2, 3), searches=2, trials=2, epochs=2, examples=200, batch=50, highway_width=8)
# One trial per population and few of them: for tests that run it many times.
TINIER = Config(blocks=("plain", "highway"), depths=(2,), trials=2, epochs=3, examples=100, batch=50, highway_width=4)


def create(folder: Path, config: Config) -> Run:
    return tiny_runs.create(folder, DEPTH.name, config)


def complete(folder: Path, config: Config) -> Path:
    return tiny_runs.complete(folder, DEPTH.name, config)


def rows_of(folder: Path, config: Config) -> list[dict[str, Any]]:
    """The rows without their seconds, which differ between runs; NaN as text, so that rows can be compared."""
    rows = read_rows(open_run(folder), config)
    return [{k: "nan" if v != v else v for k, v in row.items() if k != "seconds"} for row in rows]
