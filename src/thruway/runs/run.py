"""Write access to a run folder, for a single process.

    run.json      config, code, hardware and status of the run
    series.db     all logged values
    checkpoints/  weights and training state

A full or failing disk does not stop training. The values stay in memory, the run is marked `degraded` with one warning,
and everything is written as soon as the disk can be written again.
"""

import os
import sqlite3
import warnings
from collections.abc import Iterable, Mapping, Sequence
from operator import index
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from torch import Tensor

from thruway.errors import RunError
from thruway.runs.checkpoints import (
    Checkpoint,
    checkpoint_names,
    load_checkpoint,
    save_checkpoint,
)
from thruway.runs.lease import Lease, checked_path, open_for_writing, refuse_existing_run
from thruway.runs.record import Record, now, read_record
from thruway.runs.series_file import Layout, Numbers
from thruway.runs.series_writer import SeriesWriter

__all__ = ["Run"]


class Run:
    """A run that is being written. Create one with `Run.create` or `Run.resume`, and use it as a context manager.

    >>> import tempfile
    >>> parent = tempfile.TemporaryDirectory()
    >>> folder = Path(parent.name, "first")
    >>> run = Run.create(folder, {"depth": 50}, name="first", command=["demo"], seeds={"run": 0}, device="cpu")
    >>> with run:
    ...     run.log(0, {"loss": [2.5, 2.25]}, member=[0, 1])
    >>> from thruway.runs import open_run
    >>> open_run(folder).table()
         run  member  step  site  quantity  value
       first       0     0            loss    2.5
       first       1     0            loss   2.25
    2 rows
    >>> open_run(folder).status
    'done'
    >>> parent.cleanup()
    """

    def __init__(self, folder: Path, record: Record, lease: Lease, series: SeriesWriter) -> None:
        self.folder = folder
        self._record = record
        self._lease = lease
        self._series = series
        self._process = os.getpid()
        self._is_open = True
        self._is_degraded = False
        self._has_warned = False

    @classmethod
    def create(
        cls,
        folder: Path,
        config: dict[str, Any],
        *,
        name: str,
        command: list[str],
        seeds: dict[str, int],
        device: str,
        extra: dict[str, Any] | None = None,
    ) -> Self:
        """Start a run in a new folder; missing parent folders are created.

        Args:
            folder: the run folder.
            config: the complete config, as strict JSON values, so that the run can be repeated.
            name: name shown in tables; must be a valid file name.
            command: the command line that started the run.
            seeds: all seeds, by their purpose.
            device: name of the device, such as "cpu" or "cuda:0".
            extra: any other data to store, as strict JSON values.
        Raises:
            RunError: if the folder already contains a run or cannot be written, or an argument is invalid.
        """
        folder = checked_path(folder)
        record = Record.new(folder, name=name, config=config, command=command, seeds=seeds, device=device, extra=extra)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{folder} cannot be created: {error.strerror or error}. Choose another folder.") from error
        refuse_existing_run(folder)  # before any file is opened
        with open_for_writing(folder) as (lease, series):
            refuse_existing_run(folder)  # again, now that this process holds the lease
            if series.frames:
                raise RunError(
                    f"{folder} contains the values of a run whose run.json is missing. Choose another folder."
                )
            record.save()
            return cls(folder, record, lease, series)

    @classmethod
    def resume(cls, folder: Path) -> Self:
        """Continue a run that was stopped or whose process has died.

        Values logged again replace earlier ones for the same member, step, site and quantity.

        Raises:
            RunError: if the folder contains no run, is damaged, or is being written.
        """
        folder = checked_path(folder)
        read_record(folder)  # before any file is created, in case the folder contains no run
        with open_for_writing(folder) as (lease, series):
            record = Record(folder, read_record(folder))
            record.mark_resumed()
            record.save()
            return cls(folder, record, lease, series)

    @property
    def name(self) -> str:
        """The name of the run."""
        return str(self._record["name"])

    @property
    def config(self) -> dict[str, Any]:
        """The config, as stored in run.json."""
        return dict(self._record["config"])

    @property
    def status(self) -> str:
        """The status: "running" or "degraded" during the run; "done", "interrupted", "failed" or "degraded" after its
        end.
        """
        return str(self._record["status"])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close("done")
        elif isinstance(error, Exception):
            line = (str(error).strip().splitlines() or [""])[0]
            self.close("failed", error=f"{type(error).__name__}: {line}"[:500])
        else:  # KeyboardInterrupt, SystemExit
            self.close("interrupted")

    def log(self, step: int, values: Mapping[str, Numbers], *, site: str = "", member: int | Sequence[int] = 0) -> None:
        """Log values of one step: one value per quantity, or a sequence with one value per member.

        Values are written to disk within about a second if further calls follow, otherwise by `flush`, `save` or at the
        end.

        Args:
            step: number of the step.
            values: for each quantity a number, or one number per member.
            site: location in the network; empty for the whole network.
            member: index of a network in a population, or several indices.
        Raises:
            RunError: if a length does not match, a value is not a real number, or the run is closed.
        """
        members = tuple(map(_integer, member)) if isinstance(member, Iterable) else (_integer(member),)
        self._append(step, Layout(tuple(values), (site,), members), values.items())

    def log_sites(self, step: int, quantity: str, sites: Sequence[str], values: Numbers, member: int = 0) -> None:
        """Log one quantity at many sites of a network.

        Args:
            step: number of the step.
            quantity: name of the quantity.
            sites: names of the sites.
            values: one number per site.
            member: index of a network in a population.
        Raises:
            RunError: see `log`.
        """
        self._append(step, Layout((quantity,), tuple(sites), (_integer(member),)), ((quantity, values),))

    def flush(self) -> None:
        """Write all logged values to disk now. If the disk cannot be written, the run is marked `degraded`.

        Raises:
            RunError: if the run is closed, or another process has taken it over.
        """
        self._check_open()
        self._flush()

    def save(self, name: str, tensors: Mapping[str, Tensor], *, state: Mapping[str, Any] | None = None) -> None:
        """Flush, then save a checkpoint. The checkpoint it replaces is kept until the new one is complete.

        Args:
            name: name of the checkpoint.
            tensors: dense tensors by name, for example `model.state_dict()`.
            state: optimiser state, generator states, counters; tensors and plain containers only.
        Raises:
            CheckpointError: if the checkpoint could not be saved.
            RunError: if the run is closed, or another process has taken it over.
        """
        self.flush()
        save_checkpoint(self.folder, name, tensors, state)

    def load(self, name: str) -> Checkpoint:
        """Load a checkpoint of this run. If it is damaged, the previous save is loaded, with a warning.

        Raises:
            CheckpointError: if there is no intact checkpoint of this name.
        """
        return load_checkpoint(self.folder, name)

    def checkpoints(self) -> list[str]:
        """Return the names of the complete checkpoints, oldest first."""
        return checkpoint_names(self.folder)

    def close(self, status: str = "done", *, error: str | None = None) -> None:
        """Write the buffered values and the final status. A second call does nothing."""
        if not self._is_open or os.getpid() != self._process:
            return
        self._is_open = False
        try:
            self._lease.heartbeat()
            try:
                self._series.close()
                self._recover()
            except (sqlite3.Error, OSError) as reason:
                self._degrade(reason)
            if self._series.lost:
                self._record.add_problem(
                    f"{self._series.lost} logged steps are missing: the memory for unwritten values was full"
                )
            is_incomplete = self._is_degraded or self._series.lost > 0
            self._record.end("degraded" if is_incomplete and status == "done" else status, error)
            self._record.save()
        except (RunError, OSError) as reason:  # disk full, run taken over, or folder not accessible
            warnings.warn(
                f"the final status of the run, {status!r}, was not recorded: {reason}", RuntimeWarning, stacklevel=2
            )
        finally:
            self._lease.release()

    def _append(self, step: int, layout: Layout, rows: Iterable[tuple[str, Numbers]]) -> None:
        self._check_open()
        self._series.append(_integer(step), layout, rows)
        if self._series.is_due:
            self._flush()

    def _flush(self) -> None:
        try:
            self._lease.heartbeat()
            self._series.flush()
            self._recover()
        except (sqlite3.Error, OSError) as error:
            self._degrade(error)
        self._record.try_save()

    def _recover(self) -> None:
        if self._is_degraded:
            self._is_degraded = False
            self._record.add_problem(f"{now()}: values are written again")
            self._record.set_status("degraded" if self._series.lost else "running")

    def _degrade(self, error: Exception) -> None:
        """Record the start of a write failure, and warn at the first one. Training continues."""
        if self._is_degraded:
            return
        self._is_degraded = True
        self._record.add_problem(f"{now()}: values cannot be written: {error}")
        self._record.set_status("degraded")
        if not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"{self.folder} cannot be written: {error}. Training continues, and values are kept in memory until "
                "the folder can be written. Free some space or repair the folder.",
                RuntimeWarning,
                stacklevel=4,
            )

    def _check_open(self) -> None:
        if not self._is_open:
            raise RunError(f"the run in {self.folder} is closed. Open it again with Run.resume(folder).")
        if os.getpid() != self._process:
            raise RunError(
                f"the run in {self.folder} belongs to process {self._process}, of which this process is a fork. "
                "Log from the process that opened the run."
            )


def _integer(number: int) -> int:
    try:
        return index(number)
    except TypeError:
        raise RunError(f"steps and members must be integers, got {number!r}. Convert it with int().") from None
