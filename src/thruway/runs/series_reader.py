"""Reading a series: while it is written, after a crash, and past damage.

SQLite finds a broken file structure; the checksum of each frame finds flipped values; the ids, which
count without gaps, find frames that are missing. Nothing damaged is ever returned as a number.
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
from thruway.runs.frames import Channel, Layout, frame_crc, unpack
from thruway.runs.series_file import BROKEN, check_format, connect
from thruway.runs.table import Table

__all__ = ["Selection", "read_series"]

COLUMNS = ("run", "member", "step", "site", "quantity", "value")
INT64 = 1 << 63

Row = tuple[Any, Any, Any, Any, Any, Any]  # as a frame lies in its table; a damaged one may hold anything


class Selection(NamedTuple):
    """Which numbers to read; None is all of them."""

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
        """From what a caller may write: one value, several, a slice of steps, or None."""
        return cls(_set(member), _set(site), _set(quantity), _step_set(steps))

    def picks(self, channel: Channel) -> bool:
        wanted = (self.members, self.sites, self.quantities)
        return all(want is None or value in want for value, want in zip(channel, wanted, strict=True))


def _set(wanted: object) -> frozenset[Any] | None:
    if wanted is None:
        return None
    return frozenset(wanted) if isinstance(wanted, Iterable) and not isinstance(wanted, str) else frozenset([wanted])


def _step_set(steps: int | slice | Collection[int] | None) -> range | frozenset[int]:
    if steps is None:
        return range(-INT64, INT64)
    if isinstance(steps, slice):
        return range(steps.start or 0, INT64 if steps.stop is None else steps.stop, steps.step or 1)
    if isinstance(steps, range):
        return steps
    return frozenset(map(int, steps)) if isinstance(steps, Iterable) else frozenset([int(steps)])


@dataclass
class _Gathered:
    """What the frames read so far add up to."""

    channels: dict[Channel, int] = field(default_factory=dict)
    steps: list[int] = field(default_factory=list)
    places: list[np.ndarray[Any, Any]] = field(default_factory=list)  # per frame, positions in `channels`
    values: list[np.ndarray[Any, Any]] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)

    def table(self, run: str) -> Table:
        sizes = [len(values) for values in self.values]
        step = np.repeat(np.array(self.steps, dtype=np.int64), sizes)
        place = np.concatenate([*self.places, np.empty(0, np.intp)])
        value = np.concatenate([*self.values, np.empty(0)])
        keep = _last_of_each(step, place)
        if keep is not None:
            step, place, value = step[keep], place[keep], value[keep]
        members, sites, quantities = ([channel[axis] for channel in self.channels] for axis in range(3))
        columns = {
            "run": _column([run])[np.zeros(len(step), np.intp)],
            "member": np.array(members, dtype=np.int64)[place],
            "step": step,
            "site": _column(sites)[place],
            "quantity": _column(quantities)[place],
            "value": value,
        }
        for column in columns.values():
            column.flags.writeable = False  # so that the table need not copy millions of rows
        return Table(columns)


def read_series(
    path: Path, run: str, selection: Selection, *, check: bool = True, salvage: bool = False
) -> tuple[Table, list[str]]:
    """The chosen numbers in the order they were logged, and what was found damaged.

    A number logged again for the same member, step, site and quantity replaces the earlier one, so
    that a run resumed from a checkpoint reads as if it had never stopped.

    Args:
        check: also search the whole file for damage outside the chosen numbers.
        salvage: read past damage instead of raising.
    Raises:
        RunError: naming the damage and how much can still be read.
    """
    found = _Gathered()
    try:
        with _reading(path) as connection:
            check_format(connection, path)
            if check:
                found.damage += _structure(connection)
            frames = _frames_one_by_one(connection, path) if salvage else _frames(connection, selection, check, found)
            _gather(connection, frames, selection, found)
    except BROKEN as error:
        if "locked" in str(error):
            raise RunError(f"{path} is busy: {error}. Try again when its writer has finished its flush.") from error
        found.damage.append(str(error))
    except FileNotFoundError:
        found.damage.append("the file is missing")
    if found.damage and not salvage:
        more = f" and {len(found.damage) - 1} more" if len(found.damage) > 1 else ""
        readable, _ = read_series(path, run, Selection(), salvage=True)
        raise RunError(
            f"{path} is damaged: {found.damage[0]}{more}. {len(readable):,} values can still be read: "
            "open_run(folder, salvage=True) returns them. run.json and the checkpoints are files of their own."
        )
    return found.table(run), found.damage


def _frames(connection: sqlite3.Connection, selection: Selection, check: bool, found: _Gathered) -> Iterator[Row]:
    """The frames that may hold chosen steps; all of them for a check, since damage may lie in the step itself."""
    if check:
        count, last = connection.execute("SELECT count(*), max(id) FROM frames").fetchone()
        if count != (last or 0):
            found.damage.append(f"{(last or 0) - count} of {last} frames are missing")
        return connection.execute("SELECT * FROM frames ORDER BY id")
    steps = selection.steps
    if not steps:
        return iter(())
    # The ends of a range are known; min() would walk through it.
    ends = (steps[0], steps[-1]) if isinstance(steps, range) else steps
    low, high = max(min(ends), -INT64), min(max(ends), INT64 - 1)
    return connection.execute("SELECT * FROM frames WHERE step BETWEEN ? AND ? ORDER BY id", (low, high))


def _frames_one_by_one(connection: sqlite3.Connection, path: Path) -> Iterator[Row]:
    """Every frame that can be reached, asked for by id, so that one broken page costs its own frames only."""
    journal = path.with_name(path.name + "-wal")
    most = (path.stat().st_size + (journal.stat().st_size if journal.exists() else 0)) // 16  # no frame is smaller
    for identity in range(1, most + 1):
        try:
            row = connection.execute("SELECT * FROM frames WHERE id = ?", (identity,)).fetchone()
        except BROKEN:
            continue
        if row is not None:
            yield row


def _gather(connection: sqlite3.Connection, frames: Iterator[Row], selection: Selection, found: _Gathered) -> None:
    layouts = _layouts(connection, selection, found)
    for identity, step, layout_id, width, data, crc in frames:
        layout = layouts.get(layout_id)
        if layout is None:
            found.damage.append(f"frame {identity} has no layout")
            continue
        try:
            intact = frame_crc(identity, step, width, data, layout.crc) == crc and len(data) == width * layout.size
        except Exception:  # a field of the wrong type: whatever it is, it is not what was written
            intact = False
        if not intact:
            found.damage.append(f"frame {identity} does not match its checksum")
            continue
        if len(layout.chosen) and step in selection.steps:
            values = unpack(data, width)
            found.steps.append(step)
            found.places.append(layout.places)
            found.values.append(values if len(layout.chosen) == layout.size else values[layout.chosen])


class _Known(NamedTuple):
    """A layout on disk, and which of its values were chosen."""

    size: int
    crc: int
    chosen: np.ndarray[Any, Any]  # positions in the frame
    places: np.ndarray[Any, Any]  # the same values' positions among all channels


def _layouts(connection: sqlite3.Connection, selection: Selection, found: _Gathered) -> dict[int, _Known]:
    known = {}
    for identity, text, crc in connection.execute("SELECT id, CAST(channels AS BLOB), crc FROM layouts ORDER BY id"):
        try:
            if zlib.crc32(text) != crc:
                raise ValueError
            layout = Layout.from_json(text)
        except (ValueError, TypeError, RecursionError):
            found.damage.append(f"layout {identity} does not match its checksum")
            continue
        picked = [(at, channel) for at, channel in enumerate(layout.channels()) if selection.picks(channel)]
        places = [found.channels.setdefault(channel, len(found.channels)) for _, channel in picked]
        chosen = np.array([at for at, _ in picked], dtype=np.intp)
        known[identity] = _Known(layout.size, crc, chosen, np.array(places, dtype=np.intp))
    return known


def _structure(connection: sqlite3.Connection) -> list[str]:
    """What SQLite itself finds wrong with the file."""
    try:
        lines = [str(line) for (line,) in connection.execute("PRAGMA quick_check(3)")]
    except BROKEN as error:
        return [str(error)]
    return [] if lines == ["ok"] else [" ".join(line.split()) for line in lines]


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that sees one moment of the file, also where nothing may be written beside it."""
    if not path.is_file():
        raise FileNotFoundError(path)
    with ExitStack() as stack:
        connection = stack.enter_context(closing(connect(path, "ro")))
        if not _answers(connection):
            # A run that was killed leaves its journal, which SQLite cannot use on read-only media; a copy it can.
            copy = Path(stack.enter_context(tempfile.TemporaryDirectory()), path.name)
            for suffix in ("", "-wal"):
                if (part := path.with_name(path.name + suffix)).exists():
                    shutil.copyfile(part, copy.with_name(copy.name + suffix))
            connection = stack.enter_context(closing(connect(copy, "rw")))
        connection.execute("BEGIN")
        yield connection


def _answers(connection: sqlite3.Connection) -> bool:
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        if "unable to open" in str(error) or "readonly" in str(error):
            return False
        raise
    return True


def _last_of_each(step: np.ndarray[Any, Any], place: np.ndarray[Any, Any]) -> np.ndarray[Any, Any] | None:
    """Positions of the last value of each (step, channel), in order; None when there are no two of any."""
    order = np.lexsort((place, step))  # stable: equal keys stay in the order they were logged
    same = (step[order][1:] == step[order][:-1]) & (place[order][1:] == place[order][:-1])
    if not same.any():
        return None
    return np.sort(order[np.append(~same, True)])


def _column(texts: Sequence[object]) -> np.ndarray[Any, Any]:
    column = np.empty(len(texts), dtype=object)
    column[:] = texts
    return column
