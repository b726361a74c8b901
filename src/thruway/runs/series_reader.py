"""Reading of a series, also while it is being written, after a crash, or if it is damaged.

SQLite detects a damaged file structure, the checksum of each frame detects changed values, and gaps in the ids reveal
missing frames. Damaged values are never returned.
"""

import shutil
import sqlite3
import tempfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from thruway.errors import RunError
from thruway.runs.series_file import READ_ERRORS, Channel, Layout, check_format, connect, frame_crc, unpack
from thruway.runs.table import Table

__all__ = ["Selection", "read_series"]

COLUMNS = ("run", "member", "step", "site", "quantity", "value")
INT64 = 1 << 63

Row = tuple[Any, Any, Any, Any, Any, Any]  # columns of the table `frames`; of any type if damaged


class Selection(NamedTuple):
    """The values to read; None selects all."""

    members: frozenset[Any] | None = None
    sites: frozenset[Any] | None = None
    quantities: frozenset[Any] | None = None
    steps: range | frozenset[int] = range(-INT64, INT64)

    @classmethod
    def of(
        cls,
        member: int | Collection[int] | None,
        site: str | Collection[str] | None,
        quantity: str | Collection[str] | None,
        steps: int | slice | Collection[int] | None,
    ) -> "Selection":
        """Create a selection from arguments that may be one value, several values, a slice of steps, or None."""
        return cls(_set(member), _set(site), _set(quantity), _step_set(steps))

    def includes(self, channel: Channel) -> bool:
        """Return True if the channel is selected, for any step."""
        selected = (self.members, self.sites, self.quantities)
        return all(values is None or value in values for value, values in zip(channel, selected, strict=True))


def _set(values: object) -> frozenset[Any] | None:
    if values is None:
        return None
    return frozenset(values) if isinstance(values, Iterable) and not isinstance(values, str) else frozenset([values])


def _step_set(steps: int | slice | Collection[int] | None) -> range | frozenset[int]:
    if steps is None:
        return range(-INT64, INT64)
    if isinstance(steps, slice):
        return range(steps.start or 0, INT64 if steps.stop is None else steps.stop, steps.step or 1)
    if isinstance(steps, range):
        return steps
    return frozenset(map(int, steps)) if isinstance(steps, Iterable) else frozenset([int(steps)])


@dataclass
class _Result:
    """The values of the frames read so far, and the damage found."""

    channels: dict[Channel, int] = field(default_factory=dict)
    steps: list[int] = field(default_factory=list)
    positions: list[np.ndarray[Any, Any]] = field(default_factory=list)  # per frame, indices into `channels`
    values: list[np.ndarray[Any, Any]] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)

    def table(self, run: str) -> Table:
        sizes = [len(values) for values in self.values]
        step = np.repeat(np.array(self.steps, dtype=np.int64), sizes)
        position = np.concatenate([*self.positions, np.empty(0, np.intp)])
        value = np.concatenate([*self.values, np.empty(0)])
        keep = _last_of_each(step, position)
        if keep is not None:
            step, position, value = step[keep], position[keep], value[keep]
        members, sites, quantities = ([channel[axis] for channel in self.channels] for axis in range(3))
        columns = {
            "run": _column([run])[np.zeros(len(step), np.intp)],
            "member": np.array(members, dtype=np.int64)[position],
            "step": step,
            "site": _column(sites)[position],
            "quantity": _column(quantities)[position],
            "value": value,
        }
        for column in columns.values():
            column.flags.writeable = False  # so that Table does not copy millions of rows
        return Table(columns)


def read_series(
    path: Path, run: str, selection: Selection, *, check: bool = True, salvage: bool = False
) -> tuple[Table, list[str]]:
    """Return the selected values in the order they were logged, and descriptions of the damage found.

    A value logged again for the same member, step, site and quantity replaces the earlier one, so that a run resumed
    from a checkpoint reads as if it had never stopped.

    Args:
        path: the series file.
        run: name of the run, for the run column.
        selection: the values to read.
        check: if True, also check the rest of the file for damage.
        salvage: if True, skip damaged parts instead of raising an error.
    Raises:
        RunError: if the file is damaged; the message says how much can still be read.
    """
    result = _Result()
    try:
        with _open_snapshot(path) as connection:
            check_format(connection, path)
            if check:
                result.damage += _structural_damage(connection)
            frames = _frames_one_by_one(connection, path) if salvage else _frames(connection, selection, check, result)
            _read_frames(connection, frames, selection, result)
    except READ_ERRORS as error:
        if "locked" in str(error):
            raise RunError(f"{path} is locked by its writer: {error}. Try again in a moment.") from error
        result.damage.append(str(error))
    except FileNotFoundError:
        result.damage.append("the file is missing")
    if result.damage and not salvage:
        more = f" and {len(result.damage) - 1} more" if len(result.damage) > 1 else ""
        readable, _ = read_series(path, run, Selection(), salvage=True)
        raise RunError(
            f"{path} is damaged: {result.damage[0]}{more}. {len(readable):,} values can still be read: "
            "open_run(folder, salvage=True) returns them. run.json and the checkpoints are separate files."
        )
    return result.table(run), result.damage


def _frames(connection: sqlite3.Connection, selection: Selection, check: bool, result: _Result) -> Iterator[Row]:
    """Return the frames that may contain selected steps.

    If `check` is True, all frames are returned, since the recorded step of a frame may be damaged.
    """
    if check:
        count, last = connection.execute("SELECT count(*), max(id) FROM frames").fetchone()
        if count != (last or 0):
            result.damage.append(f"{(last or 0) - count} of {last} frames are missing")
        return connection.execute("SELECT * FROM frames ORDER BY id")
    steps = selection.steps
    if not steps:
        return iter(())
    # The ends of a range are its first and last item; min() would iterate over it.
    ends = (steps[0], steps[-1]) if isinstance(steps, range) else steps
    low, high = max(min(ends), -INT64), min(max(ends), INT64 - 1)
    return connection.execute("SELECT * FROM frames WHERE step BETWEEN ? AND ? ORDER BY id", (low, high))


def _frames_one_by_one(connection: sqlite3.Connection, path: Path) -> Iterator[Row]:
    """Yield every readable frame, queried by id, so that a damaged page affects only its own frames."""
    journal = path.with_name(path.name + "-wal")
    max_id = (path.stat().st_size + (journal.stat().st_size if journal.exists() else 0)) // 16  # no frame is smaller
    for identity in range(1, max_id + 1):
        try:
            row = connection.execute("SELECT * FROM frames WHERE id = ?", (identity,)).fetchone()
        except READ_ERRORS:
            continue
        if row is not None:
            yield row


def _read_frames(connection: sqlite3.Connection, frames: Iterator[Row], selection: Selection, result: _Result) -> None:
    """Check the frames and append their selected values to `result`."""
    layouts = _layouts(connection, selection, result)
    for identity, step, layout_id, width, data, crc in frames:
        layout = layouts.get(layout_id)
        if layout is None:
            result.damage.append(f"frame {identity} has no layout")
            continue
        try:
            intact = frame_crc(identity, step, width, data, layout.crc) == crc and len(data) == width * layout.size
        except Exception:  # a field has the wrong type
            intact = False
        if not intact:
            result.damage.append(f"frame {identity} does not match its checksum")
            continue
        if len(layout.selected) and step in selection.steps:
            values = unpack(data, width)
            result.steps.append(step)
            result.positions.append(layout.positions)
            result.values.append(values if len(layout.selected) == layout.size else values[layout.selected])


class _StoredLayout(NamedTuple):
    """A layout read from the file, and its selected values."""

    size: int
    crc: int
    selected: np.ndarray[Any, Any]  # indices of the selected values in the frame
    positions: np.ndarray[Any, Any]  # indices of the same values in `_Result.channels`


def _layouts(connection: sqlite3.Connection, selection: Selection, result: _Result) -> dict[int, _StoredLayout]:
    layouts = {}
    for identity, text, crc in connection.execute("SELECT id, CAST(channels AS BLOB), crc FROM layouts ORDER BY id"):
        try:
            if zlib.crc32(text) != crc:
                raise ValueError
            layout = Layout.from_json(text)
        except (ValueError, TypeError, RecursionError):
            result.damage.append(f"layout {identity} does not match its checksum")
            continue
        channels = [(index, channel) for index, channel in enumerate(layout.channels()) if selection.includes(channel)]
        positions = [result.channels.setdefault(channel, len(result.channels)) for _, channel in channels]
        selected = np.array([index for index, _ in channels], dtype=np.intp)
        layouts[identity] = _StoredLayout(layout.size, crc, selected, np.array(positions, dtype=np.intp))
    return layouts


def _structural_damage(connection: sqlite3.Connection) -> list[str]:
    """Return the problems found by SQLite's own check of the file structure."""
    try:
        lines = [str(line) for (line,) in connection.execute("PRAGMA quick_check(3)")]
    except READ_ERRORS as error:
        return [str(error)]
    return [] if lines == ["ok"] else [" ".join(line.split()) for line in lines]


@contextmanager
def _open_snapshot(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a connection with a consistent view of the file, also on read-only media."""
    if not path.is_file():
        raise FileNotFoundError(path)
    with ExitStack() as stack:
        connection = stack.enter_context(closing(connect(path, "ro")))
        if not _is_readable(connection):
            # A killed run leaves its journal, which SQLite cannot use on read-only media, so a copy is opened.
            copy = Path(stack.enter_context(tempfile.TemporaryDirectory()), path.name)
            for suffix in ("", "-wal"):
                if (part := path.with_name(path.name + suffix)).exists():
                    shutil.copyfile(part, copy.with_name(copy.name + suffix))
            connection = stack.enter_context(closing(connect(copy, "rw")))
        connection.execute("BEGIN")
        yield connection


def _is_readable(connection: sqlite3.Connection) -> bool:
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        if "unable to open" in str(error) or "readonly" in str(error):
            return False
        raise
    return True


def _last_of_each(step: np.ndarray[Any, Any], position: np.ndarray[Any, Any]) -> np.ndarray[Any, Any] | None:
    """Return the indices of the last value of each (step, channel), in order, or None if there are no duplicates."""
    order = np.lexsort((position, step))  # stable: equal keys stay in the order they were logged
    same = (step[order][1:] == step[order][:-1]) & (position[order][1:] == position[order][:-1])
    if not same.any():
        return None
    return np.sort(order[np.append(~same, True)])


def _column(texts: Sequence[object]) -> np.ndarray[Any, Any]:
    column = np.empty(len(texts), dtype=object)
    column[:] = texts
    return column
