"""The study object: its config, a run that can be interrupted, and a report written from the run folder."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel

from thruway.errors import CheckpointError, ConfigError, RunError
from thruway.experiments.machinery.claims import Claim, Rows, judge
from thruway.experiments.machinery.page import StudyPage, write_report
from thruway.experiments.machinery.stored_nets import StoredNet
from thruway.report import ClaimVerdict, TableData
from thruway.runs import Run, RunReader
from thruway.runs.files import safe_name

__all__ = ["Progress", "Silent", "Study"]


class Progress(Protocol):
    """Receiver of a run's progress."""

    def begin(self, total: float) -> None:
        """Set the total work, in any unit that grows evenly with time."""
        ...

    def advance(self, done: float, doing: str) -> None:
        """Add finished work. May raise KeyboardInterrupt to stop the run; it is called only when that is safe."""
        ...


class Silent:
    """Progress that is not shown."""

    def begin(self, total: float) -> None:
        """Do nothing."""

    def advance(self, done: float, doing: str) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class Study:
    """One study of a paper, or of your own.

    Most studies are made by `compared_study` (train several networks and compare their errors) or `measured_study`
    (train networks and measure them), which fill in `prepare`, `run`, `rows` and `stored_nets`.

    Attributes:
        name: unique name, such as "highway2015.depth". It is stored in run folders.
        title: what the study shows, in one line.
        source: paper, sections and figures.
        config: the pydantic model of everything that decides the numbers of a run.
        scales: scale name -> config. The first one is the default of the command line.
        prepare: config -> the data of a run. Raises for what cannot be run, before a run folder is made.
        run: (config, prepared data, run folder, progress) -> None. Computes what the run folder does not have yet,
            so that it can be called again on an interrupted run.
        rows: (run folder, config) -> the results as rows of plain numbers and words, one seed per row.
        claims: the claims to judge, or a function of the config that returns them.
        page: (run folder, config, rows) -> the page of the report.
        verdicts: (run folder, config, rows) -> the verdicts, where a claim is about a part of the rows or needs more
            than the rows. If None, every claim is judged on all rows.
        stored_nets: (run folder, config) -> the trained networks in a run folder. None if the study keeps none.
        example: command-line arguments shown as an example in the help.
    """

    name: str
    title: str
    source: str
    config: type[BaseModel]
    scales: Mapping[str, BaseModel]
    prepare: Callable[[Any], Any]
    run: Callable[[Any, Any, Run, Progress], None]
    rows: Callable[[RunReader, Any], Rows]
    claims: Sequence[Claim] | Callable[[Any], Sequence[Claim]]
    page: Callable[[RunReader, Any, Rows], StudyPage]
    verdicts: Callable[[RunReader, Any, Rows], Sequence[ClaimVerdict]] | None = None
    stored_nets: Callable[[RunReader, Any], Sequence[StoredNet]] | None = None
    example: str = "--scale demo"

    def __post_init__(self) -> None:
        try:
            safe_name(self.name, "study")  # it names run folders
        except RunError as error:
            raise ConfigError(str(error)) from None
        wrong = [scale for scale, config in self.scales.items() if not isinstance(config, self.config)]
        if wrong or not self.scales:
            raise ConfigError(
                f"the scales of the study {self.name} must be a non-empty mapping of scale name to "
                f"{self.config.__name__}" + (f"; not so: {', '.join(wrong)}." if wrong else ".")
            )

    def report(self, reader: RunReader, folder: Path) -> tuple[TableData, tuple[ClaimVerdict, ...]]:
        """Write report.html and summary.json into the run folder.

        The run may still be going on: the report shows the results so far.

        Returns:
            The main table and the verdicts, for the console.
        """
        config = self.config.model_validate(reader.config)
        rows = self.rows(reader, config)
        if self.verdicts is not None:
            verdicts = tuple(self.verdicts(reader, config, rows))
        else:
            claims = self.claims(config) if callable(self.claims) else self.claims
            verdicts = tuple(judge(claim, rows) for claim in claims) if rows else ()
        page = self.page(reader, config, rows)
        write_report(reader, folder, rows, verdicts, page)
        return page.table, verdicts

    def nets(self, reader: RunReader) -> dict[str, StoredNet]:
        """Return the trained networks of a run folder, by name.

        Raises:
            ConfigError: if runs of this study keep no networks.
            CheckpointError: if no network has been trained to the end yet.
        """
        if self.stored_nets is None:
            raise ConfigError(
                f"{reader.folder} is a run of {self.name}, which keeps no networks that can be opened. For a network "
                "of your own give the function that builds it, and its weights: thruway dissect "
                "package.module:function --weights FILE."
            )
        found = {net.name: net for net in self.stored_nets(reader, self.config.model_validate(reader.config))}
        if not found:
            raise CheckpointError(
                f"{reader.folder} has no trained network yet. Let the run finish: thruway run --resume {reader.folder}."
            )
        return found
