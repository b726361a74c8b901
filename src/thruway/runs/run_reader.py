"""Read access to run folders, also while they are being written and after a crash."""

import os
import warnings
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thruway.errors import RunError
from thruway.runs.checkpoints import Checkpoint, checkpoint_names, load_checkpoint
from thruway.runs.files import inside
from thruway.runs.lease import is_held
from thruway.runs.record import RECORD, read_record
from thruway.runs.series_file import SERIES
from thruway.runs.series_reader import Selection, read_series
from thruway.runs.table import Table

__all__ = ["RunReader", "RunSummary", "list_runs", "open_run", "read_runs"]


class RunReader:
    """Read-only view of a run. Create one with `open_run`."""

    def __init__(self, folder: Path, *, salvage: bool = False) -> None:
        self.folder = folder
        self._salvage = salvage
        self._was_checked = False
        self.meta  # noqa: B018  # raises here, not at the first access, if the folder contains no run

    @property
    def meta(self) -> dict[str, Any]:
        """The current contents of run.json: config, versions, commit, hardware, seeds, command, status ..."""
        try:
            return read_record(self.folder)
        except RunError as error:
            if not self._salvage:
                raise
            warnings.warn(f"run.json is ignored: {error}", RuntimeWarning, stacklevel=2)
            return {"name": self.folder.name, "config": {}, "status": "damaged"}

    @property
    def name(self) -> str:
        """The name of the run."""
        return str(self.meta["name"])

    @property
    def config(self) -> dict[str, Any]:
        """The config of the run."""
        return dict(self.meta["config"])

    @property
    def status(self) -> str:
        """The status: "running", "degraded", "done", "interrupted" or "failed".

        A run whose process died without recording a status is reported as interrupted.
        """
        return _status(self.folder, self.meta)

    def table(
        self,
        member: int | Collection[int] | None = None,
        site: str | Collection[str] | None = None,
        quantity: str | Collection[str] | None = None,
        steps: int | slice | Collection[int] | None = None,
    ) -> Table:
        """Return the logged values, one per row: run, member, step, site, quantity, value (float64).

        Args:
            member, site, quantity: one value, several values, or None for all.
            steps: one step, several steps, a slice such as `slice(100, None)`, or None for all.
        Raises:
            RunError: if the series is damaged; the message says how much can still be read. A reader opened with
                `salvage=True` warns instead and returns the intact values.
        """
        selection = Selection.of(member, site, quantity, steps)
        path = inside(self.folder, SERIES)
        # The whole file is checked only at the first call, since readers may poll.
        table, damage = read_series(path, self.name, selection, check=not self._was_checked, salvage=self._salvage)
        self._was_checked = True
        if damage:
            warnings.warn(
                f"{path} is damaged: {'; '.join(damage[:3])}. Only the intact values are returned.",
                RuntimeWarning,
                stacklevel=2,
            )
        return table

    def load(self, name: str) -> Checkpoint:
        """Load a checkpoint. If it is damaged, the previous save is loaded, with a warning.

        Raises:
            CheckpointError: if there is no intact checkpoint of this name.
        """
        return load_checkpoint(self.folder, name)

    def checkpoints(self) -> list[str]:
        """Return the names of the complete checkpoints, oldest first."""
        return checkpoint_names(self.folder)

    def __repr__(self) -> str:
        return f"<run {self.name!r} in {self.folder}, {self.status}>"


@dataclass(frozen=True)
class RunSummary:
    """Summary of a run, from its run.json."""

    folder: Path
    name: str
    status: str
    created: str  # UTC, ISO 8601
    device: str
    resumed: int
    error: str | None


def open_run(folder: Path, *, salvage: bool = False) -> RunReader:
    """Open a run folder for reading, without writing to it or waiting for its writer.

    Args:
        folder: the run folder.
        salvage: if True, read the intact parts of a damaged run, with warnings.
    Raises:
        RunError: if `folder` is not a run folder, is damaged, or has a newer format.
    """
    return RunReader(Path(folder), salvage=salvage)


def read_runs(folders: Iterable[Path]) -> Table:
    """Return the values of several runs in one table.

    The run column contains the names of the runs, or their folders if two runs have the same name.

    Raises:
        RunError: see `open_run` and `RunReader.table`.
    """
    readers = [open_run(folder) for folder in folders]
    names = [reader.name for reader in readers]
    if len(set(names)) < len(names):
        names = [str(reader.folder) for reader in readers]
    parts = []
    for reader, name in zip(readers, names, strict=True):
        parts.append(read_series(inside(reader.folder, SERIES), name, Selection())[0])
    return Table.concat(parts)


def list_runs(root: Path) -> list[RunSummary]:
    """Return summaries of all runs below `root`, oldest first. Runs with a damaged run.json have the status damaged.

    >>> list_runs(Path("nowhere"))
    []
    """
    return sorted((_summary(folder) for folder in _run_folders(Path(root))), key=lambda run: (run.created, run.folder))


def _run_folders(root: Path) -> Iterator[Path]:
    for path, folders, files in os.walk(root):
        if RECORD in files:
            folders.clear()  # a run folder contains no other runs
            yield Path(path)
        else:
            folders[:] = sorted(name for name in folders if not name.startswith("."))


def _summary(folder: Path) -> RunSummary:
    try:
        meta = read_record(folder)
    except RunError as error:
        return RunSummary(folder, folder.name, "damaged", "", "", 0, str(error))
    return RunSummary(
        folder, meta["name"], _status(folder, meta), meta["created"], meta["device"], meta["resumed"], meta["error"]
    )


def _status(folder: Path, meta: dict[str, Any]) -> str:
    status = str(meta["status"])
    has_ended = meta.get("ended") is not None or status not in ("running", "degraded")
    return status if has_ended or is_held(folder) else "interrupted"
