"""What an experiment is: a config, a run that can be interrupted, and a report read from the run folder."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel

from thruway.runs import Run, RunReader

__all__ = ["Experiment", "Progress", "Silent"]


class Progress(Protocol):
    """Whom an experiment tells how far it is."""

    def begin(self, total: float) -> None:
        """All the work there is, in units of the experiment's choice that grow evenly with time."""
        ...

    def advance(self, done: float, doing: str) -> None:
        """So much of it is done. Raises KeyboardInterrupt if the user wants to stop: the state is whole here."""
        ...


class Silent:
    """Nobody to tell."""

    def begin(self, total: float) -> None:
        """Nothing."""

    def advance(self, done: float, doing: str) -> None:
        """Nothing."""


@dataclass(frozen=True)
class Experiment:
    """One study of a paper.

    `prepare(config)` loads what the run needs and refuses what cannot be run, before a run folder is made.
    `run(config, prepared, run, progress)` computes, writes into the run folder and can be called again on an
    interrupted one. `report(run folder)` reads the folder, writes report.html and summary.json there, and
    returns the summary's tables for the console. `example` are arguments that show how it is asked for something.
    """

    name: str
    title: str
    source: str
    config: type[BaseModel]
    scales: Mapping[str, BaseModel]
    prepare: Callable[[Any], Any]
    run: Callable[[Any, Any, Run, Progress], None]
    report: Callable[[RunReader, Path], Any]
    example: str = "--scale demo"
