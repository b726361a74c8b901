"""Taking a run folder to write in it: its lease, its series, and nothing left of a process that was killed."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from thruway.errors import RunError
from thruway.runs.checkpoints import CHECKPOINTS, PREVIOUS
from thruway.runs.files import TEMPORARY, inside
from thruway.runs.lease import Lease
from thruway.runs.record import RECORD
from thruway.runs.series_file import SERIES
from thruway.runs.series_writer import SeriesWriter

__all__ = ["checked_path", "open_for_writing", "refuse_existing_run"]


def checked_path(folder: Path) -> Path:
    if "\0" in str(folder):
        raise RunError(f"the folder {str(folder)!r} holds a NUL character. Choose another name.")
    return Path(folder)


def refuse_existing_run(folder: Path) -> None:
    if inside(folder, RECORD).exists():
        raise RunError(f"{folder} already holds a run. Pass --resume to go on with it, or choose another folder.")


@contextmanager
def open_for_writing(folder: Path) -> Iterator[tuple[Lease, SeriesWriter]]:
    """The right to write and the open series; given back if the block raises."""
    with ExitStack() as stack:
        lease = Lease.acquire(folder)
        stack.callback(lease.release)
        _remove_temporary_files(folder)
        series = SeriesWriter(inside(folder, SERIES))
        stack.callback(series.close)
        yield lease, series
        stack.pop_all()


def _remove_temporary_files(folder: Path) -> None:
    """Remove half-written files of a process that was killed."""
    for parts in ((), (CHECKPOINTS,), (CHECKPOINTS, PREVIOUS)):
        for leftover in inside(folder, *parts).glob(f"{TEMPORARY}*"):
            leftover.unlink()
