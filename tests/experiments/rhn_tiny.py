"""The recurrence depth study in a second."""

from pathlib import Path
from typing import Any

from thruway.experiments.rhn2017 import DEPTH
from thruway.experiments.rhn2017.depth import Config
from thruway.experiments.rhn2017.depth_page import read_rows
from thruway.runs import open_run

__all__ = ["NAME", "TINY", "rows_of"]

NAME = DEPTH.name
# With dropout, so that a resumed run must draw the same random numbers as an uninterrupted one.
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


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return read_rows(open_run(folder), TINY)
