"""Buffered writing of frames to the series of a run."""

import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from thruway.errors import RunError
from thruway.runs.series_file import (
    READ_ERRORS,
    SCHEMA,
    Frame,
    Layout,
    Numbers,
    check_format,
    connect,
    frame_crc,
    pack,
    use_journal,
)

__all__ = ["SeriesWriter"]

FLUSH_SECONDS = 1.0  # maximum age of a buffered value when another one is logged
FLUSH_BYTES = 1 << 20  # maximum size of the buffer
MAX_BUFFER_BYTES = 64 << 20  # maximum size while the disk cannot be written; further values are counted as lost


class SeriesWriter:
    """Writer that buffers frames and appends them to the file at `path`.

    Raises:
        RunError: if the file is not a series, is damaged, or has a newer format.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._layouts: dict[Layout, tuple[int, int]] = {}  # id and crc of the layouts on disk
        self._validated: set[Layout] = set()
        self._buffer: list[Frame] = []
        self._buffer_bytes = 0
        self._flushed = time.monotonic()
        self.frames = 0  # number of frames on disk
        self.lost = 0  # number of frames dropped because the buffer was full
        try:
            self._open(reconnecting=False)
        except RunError:
            self._disconnect()
            raise
        except READ_ERRORS as error:
            self._disconnect()
            raise RunError(
                f"{path} cannot be opened for writing: {error}. "
                "open_run(folder, salvage=True) reads its intact values. Continue in another folder."
            ) from error

    @property
    def is_due(self) -> bool:
        """True if the buffer is old or large enough to be flushed."""
        return self._buffer_bytes >= FLUSH_BYTES or time.monotonic() - self._flushed >= FLUSH_SECONDS

    def append(self, step: int, layout: Layout, rows: Iterable[tuple[str, Numbers]]) -> None:
        """Buffer the values of one step, one row per quantity, until the next flush.

        Raises:
            RunError: if the values do not match the layout.
        """
        if not -(1 << 63) <= step < 1 << 63:
            raise RunError(f"step {step} does not fit into 64 bits. Count steps from 0.")
        if layout not in self._validated:
            try:
                self._validated.add(layout.validated())
            except ValueError as error:
                raise RunError(f"step {step} cannot be logged: {error}.") from None
        frame = pack(step, layout, rows)
        if not frame.data:  # a network without layers, a population without members
            return
        if self._buffer_bytes >= MAX_BUFFER_BYTES:
            self.lost += 1
            return
        self._buffer.append(frame)
        self._buffer_bytes += len(frame.data)

    def flush(self) -> None:
        """Write all buffered frames to disk. If this fails, they stay in the buffer.

        Raises:
            sqlite3.Error: if the disk is full or fails. The next flush retries with a new connection.
        """
        try:
            connection = self._connection or self._open(reconnecting=True)
            if self._buffer:
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany("INSERT INTO frames VALUES (?, ?, ?, ?, ?, ?)", self._rows(connection))
                connection.execute("COMMIT")
                self._remove_written(len(self._buffer))
        except BaseException:
            # An I/O error or Ctrl-C may leave an open transaction, so the next flush uses a new connection.
            self._disconnect()
            raise
        finally:
            self._flushed = time.monotonic()

    def close(self) -> None:
        """Flush, and leave a single file that can also be read from read-only media.

        Raises:
            sqlite3.Error: see `flush`. The file is closed in any case.
        """
        try:
            self.flush()
            if self._connection is not None:
                # If a reader is in the middle of a query, the journal stays, which is valid but a second file.
                with suppress(sqlite3.OperationalError):
                    self._connection.execute("PRAGMA busy_timeout = 200")
                    self._connection.execute("PRAGMA journal_mode = DELETE")
        finally:
            self._disconnect()

    def _open(self, *, reconnecting: bool) -> sqlite3.Connection:
        # When reconnecting, a file that has been removed must not be silently recreated.
        connection = self._connection = connect(self._path, "rw" if reconnecting else "rwc")
        use_journal(connection)
        if not reconnecting and connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
            connection.executescript(f"BEGIN IMMEDIATE; {SCHEMA} COMMIT;")
        check_format(connection, self._path)
        if not reconnecting:
            found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise sqlite3.DatabaseError(f"it is damaged ({found})")
        self._layouts = dict(_stored_layouts(connection))
        stored = connection.execute("SELECT max(id) FROM frames").fetchone()[0] or 0
        if reconnecting and stored > self.frames:
            self._remove_written(stored - self.frames)  # a commit that reported an error was written nevertheless
        self.frames = stored
        return connection

    def _rows(self, connection: sqlite3.Connection) -> list[tuple[int, int, int, int, bytes, int]]:
        rows = []
        for identity, frame in enumerate(self._buffer, start=self.frames + 1):
            layout, crc = self._layouts.get(frame.layout) or self._store_layout(connection, frame.layout)
            check = frame_crc(identity, frame.step, frame.width, frame.data, crc)
            rows.append((identity, frame.step, layout, frame.width, frame.data, check))
        return rows

    def _store_layout(self, connection: sqlite3.Connection, layout: Layout) -> tuple[int, int]:
        text = layout.to_json()
        crc = zlib.crc32(text.encode())
        identity = connection.execute("INSERT INTO layouts(channels, crc) VALUES (?, ?)", (text, crc)).lastrowid
        assert identity is not None
        self._layouts[layout] = (identity, crc)
        return identity, crc

    def _remove_written(self, count: int) -> None:
        """Remove the first `count` frames from the buffer, which are now on disk."""
        self.frames += count
        del self._buffer[:count]
        self._buffer_bytes = sum(len(frame.data) for frame in self._buffer)

    def _disconnect(self) -> None:
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
