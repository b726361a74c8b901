"""Opening a run folder for writing: its lease, its series, and the removal of files that a killed process left."""

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
    """Return `folder` as a Path. Raises RunError if it contains a NUL character."""
    if "\0" in str(folder):
        raise RunError(f"the folder {str(folder)!r} contains a NUL character. Choose another name.")
    return Path(folder)


def refuse_existing_run(folder: Path) -> None:
    """Raise RunError if `folder` already contains a run."""
    if inside(folder, RECORD).exists():
        raise RunError(f"{folder} already contains a run. Pass --resume to continue it, or choose another folder.")


@contextmanager
def open_for_writing(folder: Path) -> Iterator[tuple[Lease, SeriesWriter]]:
    """Acquire the lease of `folder` and open its series. Both are released again if the block raises."""
    with ExitStack() as stack:
        lease = Lease.acquire(folder)
        stack.callback(lease.release)
        _remove_temporary_files(folder)
        series = SeriesWriter(inside(folder, SERIES))
        stack.callback(series.close)
        yield lease, series
        stack.pop_all()


def _remove_temporary_files(folder: Path) -> None:
    """Remove incomplete files of a killed process."""
    for parts in ((), (CHECKPOINTS,), (CHECKPOINTS, PREVIOUS)):
        for path in inside(folder, *parts).glob(f"{TEMPORARY}*"):
            path.unlink()
