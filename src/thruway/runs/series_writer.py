"""Appending frames to the series of a run, in batches."""

import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from thruway.errors import RunError
from thruway.runs.frames import Frame, Layout, Numbers, frame_crc, pack
from thruway.runs.series_file import BROKEN, SCHEMA, check_format, connect, use_journal

__all__ = ["SeriesWriter"]

FLUSH_SECONDS = 1.0  # at most this long does a logged value wait while others follow
FLUSH_BYTES = 1 << 20  # ... or until this much waits
HELD_BYTES = 64 << 20  # how much may wait while the disk refuses; later values are counted as lost


class SeriesWriter:
    """Appends frames to the file at `path`, in batches.

    Raises:
        RunError: if the file is not a series, is damaged, or is of a later format.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._layouts: dict[Layout, tuple[int, int]] = {}  # id and crc of the ones on disk
        self._known: set[Layout] = set()
        self._waiting: list[Frame] = []
        self._waiting_bytes = 0
        self._flushed = time.monotonic()
        self.frames = 0  # on disk
        self.lost = 0  # frames that found neither disk nor room
        try:
            self._open(resuming=False)
        except RunError:
            self._drop()
            raise
        except BROKEN as error:
            self._drop()
            raise RunError(
                f"{path} cannot be opened for writing: {error}. "
                "open_run(folder, salvage=True) reads what it still holds; continue in another folder."
            ) from error

    @property
    def is_due(self) -> bool:
        """Whether enough time has passed, or enough waits, to flush."""
        return self._waiting_bytes >= FLUSH_BYTES or time.monotonic() - self._flushed >= FLUSH_SECONDS

    def append(self, step: int, layout: Layout, rows: Iterable[tuple[str, Numbers]]) -> None:
        """Take one step's numbers, a row per quantity; they are on disk after the next flush.

        Raises:
            RunError: if they are not what the layout says.
        """
        if not -(1 << 63) <= step < 1 << 63:
            raise RunError(f"step {step} does not fit into 64 bits. Count steps from 0.")
        if layout not in self._known:
            try:
                self._known.add(layout.checked())
            except ValueError as error:
                raise RunError(f"step {step} cannot be logged: {error}.") from None
        frame = pack(step, layout, rows)
        if not frame.data:  # a network without layers, a population without members
            return
        if self._waiting_bytes >= HELD_BYTES:
            self.lost += 1
            return
        self._waiting.append(frame)
        self._waiting_bytes += len(frame.data)

    def flush(self) -> None:
        """Bring every waiting frame to disk; on failure they wait on.

        Raises:
            sqlite3.Error: if the disk is full or fails; the next flush tries again from scratch.
        """
        try:
            connection = self._connection or self._open(resuming=True)
            if self._waiting:
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany("INSERT INTO frames VALUES (?, ?, ?, ?, ?, ?)", self._rows(connection))
                connection.execute("COMMIT")
                self._settle(len(self._waiting))
        except BaseException:
            # An I/O error, or Ctrl-C, may leave half a transaction: the next flush starts with a new connection.
            self._drop()
            raise
        finally:
            self._flushed = time.monotonic()

    def close(self) -> None:
        """Flush, and leave one plain file that also opens from read-only media.

        Raises:
            sqlite3.Error: as `flush`; the file is closed all the same.
        """
        try:
            self.flush()
            if self._connection is not None:
                # A reader in the middle of a query keeps the journal; it is as good, only two files.
                with suppress(sqlite3.OperationalError):
                    self._connection.execute("PRAGMA busy_timeout = 200")
                    self._connection.execute("PRAGMA journal_mode = DELETE")
        finally:
            self._drop()

    def _open(self, *, resuming: bool) -> sqlite3.Connection:
        # A file that vanished under a running training must not quietly start again from nothing.
        connection = self._connection = connect(self._path, "rw" if resuming else "rwc")
        use_journal(connection)
        if not resuming and connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
            connection.executescript(f"BEGIN IMMEDIATE; {SCHEMA} COMMIT;")
        check_format(connection, self._path)
        if not resuming:
            found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise sqlite3.DatabaseError(f"it is damaged ({found})")
        self._layouts = dict(_stored_layouts(connection))
        stored = connection.execute("SELECT max(id) FROM frames").fetchone()[0] or 0
        if resuming and stored > self.frames:
            self._settle(stored - self.frames)  # the commit that seemed to fail had arrived after all
        self.frames = stored
        return connection

    def _rows(self, connection: sqlite3.Connection) -> list[tuple[int, int, int, int, bytes, int]]:
        rows = []
        for identity, frame in enumerate(self._waiting, start=self.frames + 1):
            layout, crc = self._layouts.get(frame.layout) or self._store(connection, frame.layout)
            check = frame_crc(identity, frame.step, frame.width, frame.data, crc)
            rows.append((identity, frame.step, layout, frame.width, frame.data, check))
        return rows

    def _store(self, connection: sqlite3.Connection, layout: Layout) -> tuple[int, int]:
        text = layout.to_json()
        crc = zlib.crc32(text.encode())
        identity = connection.execute("INSERT INTO layouts(channels, crc) VALUES (?, ?)", (text, crc)).lastrowid
        assert identity is not None
        self._layouts[layout] = (identity, crc)
        return identity, crc

    def _settle(self, count: int) -> None:
        """The first `count` waiting frames are on disk."""
        self.frames += count
        del self._waiting[:count]
        self._waiting_bytes = sum(len(frame.data) for frame in self._waiting)

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()


def _stored_layouts(connection: sqlite3.Connection) -> Iterator[tuple[Layout, tuple[int, int]]]:
    for identity, channels, crc in connection.execute("SELECT id, channels, crc FROM layouts"):
        try:
            yield Layout.from_json(channels.encode()), (identity, crc)
        except (ValueError, TypeError, AttributeError):
            raise sqlite3.DatabaseError(f"layout {identity} is damaged") from None
