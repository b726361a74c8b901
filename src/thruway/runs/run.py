"""A run folder, from the side of the one process that writes it.

    run.json      what was asked, by which code, on what; how it ended
    series.db     every logged number
    checkpoints/  weights and training state

A disk that refuses does not stop a training: the numbers wait in memory, the run is marked
`degraded`, a warning is given once, and everything is written when the disk takes it again.
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
from thruway.runs.frames import Layout, Numbers
from thruway.runs.lease import Lease
from thruway.runs.opening import checked_path, open_for_writing, refuse_existing_run
from thruway.runs.record import Record, now, read_record
from thruway.runs.series_writer import SeriesWriter

__all__ = ["Run"]


class Run:
    """A run being written. Make one with `Run.create` or `Run.resume`, and use it in a `with`.

    >>> import tempfile
    >>> place = tempfile.TemporaryDirectory()
    >>> folder = Path(place.name, "first")
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
    >>> place.cleanup()
    """

    def __init__(self, folder: Path, record: Record, lease: Lease, series: SeriesWriter) -> None:
        self.folder = folder
        self._record = record
        self._lease = lease
        self._series = series
        self._process = os.getpid()
        self._is_open = True
        self._is_failing = False
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
        """Start a run in a new folder, whose parents are made too.

        Args:
            config: what was asked, in strict JSON terms, so that the run can be repeated from it.
            name: shown in tables; one plain file name.
            command: the command line that started it.
            seeds: every seed, by what it is for.
            device: as torch names it, "cpu" or "cuda:0".
            extra: anything else worth keeping, in strict JSON terms.
        Raises:
            RunError: if the folder holds a run, cannot be written, or an argument is not allowed.
        """
        folder = checked_path(folder)
        record = Record.new(folder, name=name, config=config, command=command, seeds=seeds, device=device, extra=extra)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{folder} cannot be made: {error.strerror or error}. Choose another folder.") from error
        refuse_existing_run(folder)  # before its files are opened
        with open_for_writing(folder) as (lease, series):
            refuse_existing_run(folder)  # now that nobody else can take it
            if series.frames:
                raise RunError(f"{folder} holds numbers of a run whose run.json is gone. Choose another folder.")
            record.save()
            return cls(folder, record, lease, series)

    @classmethod
    def resume(cls, folder: Path) -> Self:
        """Go on with a run that was stopped, or whose process is gone.

        Numbers logged again replace those of the same member, step, site and quantity.

        Raises:
            RunError: if the folder holds no run, is damaged, or is being written.
        """
        folder = checked_path(folder)
        read_record(folder)  # before anything is made in a folder that is no run
        with open_for_writing(folder) as (lease, series):
            record = Record(folder, read_record(folder))
            record.reopen()
            record.save()
            return cls(folder, record, lease, series)

    @property
    def name(self) -> str:
        return str(self._record["name"])

    @property
    def config(self) -> dict[str, Any]:
        """What was asked, as run.json holds it."""
        return dict(self._record["config"])

    @property
    def status(self) -> str:
        """running, degraded; after the end done, interrupted, failed or degraded."""
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
        """Log numbers of one step: a value per quantity, or a sequence of one value per member.

        Args:
            values: quantity -> a number, or as many numbers as there are members.
            site: where in the network; empty for the whole.
            member: which net of a population, or several.
        Raises:
            RunError: if lengths do not fit, a value is no real number, or the run is closed.

        On disk within about a second if other calls follow, else at `flush`, `save` or the end.
        """
        members = tuple(map(_whole, member)) if isinstance(member, Iterable) else (_whole(member),)
        self._append(step, Layout(tuple(values), (site,), members), values.items())

    def log_sites(self, step: int, quantity: str, sites: Sequence[str], values: Numbers, member: int = 0) -> None:
        """Log one quantity at many sites of a network in one packed row.

        Args:
            values: one number per site.
        Raises:
            RunError: as `log`.
        """
        self._append(step, Layout((quantity,), tuple(sites), (_whole(member),)), ((quantity, values),))

    def flush(self) -> None:
        """Bring every logged number to disk now. A disk that refuses marks the run `degraded`.

        Raises:
            RunError: if the run is closed, or another process has taken it over.
        """
        self._check_open()
        self._flush()

    def save(self, name: str, tensors: Mapping[str, Tensor], *, state: Mapping[str, Any] | None = None) -> None:
        """Save a checkpoint, after the numbers logged so far; what it replaces is kept until it is complete.

        Args:
            tensors: dense tensors by name, as from `model.state_dict()`.
            state: optimiser state, generator states, counters: tensors and plain containers only.
        Raises:
            CheckpointError: if it was not saved.
            RunError: if the run is closed, or another process has taken it over.
        """
        self.flush()
        save_checkpoint(self.folder, name, tensors, state)

    def load(self, name: str) -> Checkpoint:
        """A checkpoint of this run; the save before it, with a warning, if it is damaged.

        Raises:
            CheckpointError: if there is no good one.
        """
        return load_checkpoint(self.folder, name)

    def checkpoints(self) -> list[str]:
        """Names of the complete checkpoints, oldest first."""
        return checkpoint_names(self.folder)

    def close(self, status: str = "done", *, error: str | None = None) -> None:
        """Write what waits and how the run ended; a second call does nothing."""
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
                self._record.note(f"{self._series.lost} logged steps found neither disk nor memory and are missing")
            is_incomplete = self._is_failing or self._series.lost > 0
            self._record.end("degraded" if is_incomplete and status == "done" else status, error)
            self._record.save()
        except (RunError, OSError) as reason:  # full, taken over, or out of reach
            warnings.warn(f"the end of the run, {status!r}, was not recorded: {reason}", RuntimeWarning, stacklevel=2)
        finally:
            self._lease.release()

    def _append(self, step: int, layout: Layout, rows: Iterable[tuple[str, Numbers]]) -> None:
        self._check_open()
        self._series.append(_whole(step), layout, rows)
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
        if self._is_failing:
            self._is_failing = False
            self._record.note(f"{now()}: the disk takes numbers again")
            self._record.mark("degraded" if self._series.lost else "running")

    def _degrade(self, error: Exception) -> None:
        """Note and mark a failure when it begins, and warn of the first; the training goes on."""
        if self._is_failing:
            return
        self._is_failing = True
        self._record.note(f"{now()}: numbers cannot be written: {error}")
        self._record.mark("degraded")
        if not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"{self.folder} cannot be written: {error}. Training goes on; numbers wait in memory until it can. "
                "Make room or mend the folder.",
                RuntimeWarning,
                stacklevel=4,
            )

    def _check_open(self) -> None:
        if not self._is_open:
            raise RunError(f"the run in {self.folder} is closed. Run.resume(folder) opens it again.")
        if os.getpid() != self._process:
            raise RunError(
                f"the run in {self.folder} belongs to process {self._process}, and this is a fork of it. "
                "Log from the process that opened the run."
            )


def _whole(number: int) -> int:
    try:
        return index(number)
    except TypeError:
        raise RunError(f"steps and members are whole numbers, got {number!r}. Convert it with int().") from None
